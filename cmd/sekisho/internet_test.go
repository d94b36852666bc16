package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sekisho/internal/prefixset"
)

// The lab's internet: a name server, and one machine that is all of the registries.
var (
	internet4   = netip.MustParsePrefix("199.212.0.0/24")
	freshJapan4 = netip.MustParsePrefix("12.2.0.0/16") // Japan's since yesterday, by the registry's newest file
	resolver    = netip.MustParseAddr("199.212.0.53")
	registries  = netip.MustParseAddr("199.212.0.80")
)

// registryNames are those that programs ask for.
var registryNames = []string{
	"ftp.afrinic.net", "ftp.apnic.net", "ftp.arin.net", "ftp.lacnic.net", "ftp.ripe.net", "rdap.arin.net", "rdap.apnic.net",
}

// owner is what the registry knows of Japan's network.
const owner = `{
  "objectClassName": "ip network", "handle": "133.11.0.0 - 133.11.255.255", "ipVersion": "v4", "name": "EXAMPLENET-JP", "country": "JP",
  "startAddress": "133.11.0.0", "endAddress": "133.11.255.255", "port43": "whois.apnic.net",
  "remarks": [{"title": "description", "description": ["Example Network Service", "1-1-1 Example, Tokyo"]}],
  "entities": [{"roles": ["abuse"], "objectClassName": "entity", "vcardArray": ["vcard", [["fn", {}, "text", "IRT-EXAMPLE-JP"], ["email", {}, "text", "abuse@example.jp"]]]}]
}`

// internet is what the host finds outside.
type internet struct {
	roots []byte // PEM: whom to trust

	mu    sync.Mutex
	apnic string // its statistics, as it has them now
}

// publish has APNIC give out another file.
func (n *internet) publish(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.apnic = text
}

// newInternet begins to serve in the site's world.
func newInternet(t *testing.T, s *site) *internet {
	t.Helper()
	n := &internet{}
	var l net.Listener
	var names net.PacketConn
	err := s.World.Do(func() (err error) {
		if l, err = new(net.ListenConfig).Listen(t.Context(), "tcp4", netip.AddrPortFrom(registries, 443).String()); err != nil {
			return err
		}
		names, err = new(net.ListenConfig).ListenPacket(t.Context(), "udp4", netip.AddrPortFrom(resolver, 53).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: n, TLSConfig: n.certificate(t), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.ServeTLS(l, "", "") }) // until it is closed
	serving.Go(func() { answerNames(names) })
	t.Cleanup(func() {
		server.Close()
		names.Close()
		serving.Wait()
	})
	return n
}

func (n *internet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	apnic := n.apnic
	n.mu.Unlock()
	path, wantsSum := strings.CutSuffix(r.URL.Path, ".md5")
	text := ""
	switch {
	case strings.HasPrefix(path, "/registry/ip/133.11."):
		w.Header().Set("Content-Type", "application/rdap+json")
		text = owner
	case path == "/pub/stats/apnic/delegated-apnic-extended-latest":
		text = apnic
	default:
		for _, registry := range []string{"afrinic", "arin", "lacnic", "ripencc"} {
			if path == "/pub/stats/"+registry+"/delegated-"+registry+"-extended-latest" {
				text = "2|" + registry + "|20261129|1|19840101|20261129|+0000\n" + registry + "|ZZ|asn|64512|1|20200101|allocated|A1\n"
			}
		}
	}
	if text == "" {
		http.NotFound(w, r)
		return
	}
	if wantsSum {
		sum := md5.Sum([]byte(text))
		text = "MD5 (file) = " + hex.EncodeToString(sum[:]) + "\n"
	}
	_, _ = io.WriteString(w, text)
}

// certificate is the machine's, with an authority of its own.
func (n *internet) certificate(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the lab's internet"}, DNSNames: registryNames,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	n.roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// answerNames says where the registries are, and of everything else that it is not there.
func answerNames(conn net.PacketConn) {
	b := make([]byte, 4096)
	for {
		size, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		switch known := slices.Contains(registryNames, strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")); {
		case !known:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: registries.As4()},
			}}
		}
		if packed, err := m.Pack(); err == nil {
			_, _ = conn.WriteTo(packed, from)
		}
	}
}

// statistics is a file of APNIC's, in which all these addresses are Japan's.
func statistics(japan prefixset.Set) string {
	var b strings.Builder
	counts := map[string]int{}
	for _, p := range japan.Prefixes() {
		kind, value := "ipv6", p.Bits()
		if p.Addr().Is4() {
			kind, value = "ipv4", 1<<(32-p.Bits())
		}
		counts[kind]++
		fmt.Fprintf(&b, "apnic|JP|%s|%s|%d|20200101|allocated|A1\n", kind, p.Addr(), value)
	}
	head := fmt.Sprintf("2|apnic|20261129|%d|19840101|20261129|+1000\n", counts["ipv4"]+counts["ipv6"])
	for kind, n := range counts {
		head += fmt.Sprintf("apnic|*|%s|*|%d|summary\n", kind, n)
	}
	return head + b.String()
}
