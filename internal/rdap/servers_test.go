package rdap

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sekisho/internal/notify"
)

var quiet = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)

// world is an internet on loopback: DNS, a host on 443 that is all of the registries, and WHOIS servers. All
// have the names of the real ones, which its DNS has.
type world struct {
	t   testing.TB
	dns *dnsServer

	web     *httptest.Server
	webPort string
	roots   *x509.CertPool

	whoisPort string

	mu    sync.Mutex
	sites map[string]http.HandlerFunc // by host
	asked map[string][]string         // what each host was asked, over HTTP or WHOIS
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dns: newDNS(t), sites: map[string]http.HandlerFunc{}, asked: map[string][]string{}}
	w.web = httptest.NewUnstartedServer(http.HandlerFunc(w.serve))
	var cert tls.Certificate
	cert, w.roots = certificate(t, "rdap.arin.net", "rdap.apnic.net", "jpnic.rdap.apnic.net", "rdap.db.ripe.net", "rdap.example.com", "*.lacnic.net")
	w.web.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	w.web.Config.ErrorLog = quiet // a client that hangs up is what some tests are about
	w.web.StartTLS()
	t.Cleanup(w.web.Close)
	u, err := url.Parse(w.web.URL)
	if err != nil {
		t.Fatal(err)
	}
	w.webPort = u.Port()
	w.whoisPort = "1" // nothing listens
	return w
}

// options ask this world.
func (w *world) options() Options {
	return Options{Servers: Servers{
		RDAP:     "https://rdap.arin.net:" + w.webPort + "/registry/",
		WHOIS:    "whois.iana.org:" + w.whoisPort,
		DNS:      w.dns.resolver(),
		Roots:    w.roots,
		ForTests: true,
	}}
}

// site has a host answer over HTTPS.
func (w *world) site(host string, h http.HandlerFunc) {
	w.mu.Lock()
	w.sites[host] = h
	w.mu.Unlock()
	w.dns.host(host, "127.0.0.1")
}

func (w *world) serve(res http.ResponseWriter, req *http.Request) {
	host, _, _ := net.SplitHostPort(req.Host)
	w.mu.Lock()
	h := w.sites[host]
	w.asked[host] = append(w.asked[host], req.URL.Path)
	w.mu.Unlock()
	if h == nil {
		http.NotFound(res, req)
		return
	}
	h(res, req)
}

// questions are what a host was asked.
func (w *world) questions(host string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked[host])
}

// body answers with an RDAP document.
func body(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/rdap+json")
		w.Write([]byte(text))
	}
}

func (w *world) redirect(host string) http.HandlerFunc {
	return func(res http.ResponseWriter, req *http.Request) {
		_, a, _ := strings.Cut(req.URL.Path, "/ip/")
		http.Redirect(res, req, "https://"+host+":"+w.webPort+"/ip/"+a, http.StatusSeeOther)
	}
}

// answer is what a WHOIS server does with a question.
type answer func(conn net.Conn, question string)

func text(s string) answer {
	return func(conn net.Conn, _ string) { conn.Write([]byte(s)) }
}

// whois starts WHOIS servers, by name. Each has an address of its own, and all the same port.
func (w *world) whois(servers map[string]answer) {
	w.t.Helper()
	for range 20 {
		if w.listen(servers) {
			return
		}
	}
	w.t.Fatal("there is no port that is free on all addresses")
}

func (w *world) listen(servers map[string]answer) bool {
	w.whoisPort = "0"
	last := byte(1)
	var opened []net.Listener
	var names []string
	for name := range servers {
		last++
		l, err := net.Listen("tcp", net.JoinHostPort(netip.AddrFrom4([4]byte{127, 0, 0, last}).String(), w.whoisPort))
		if err != nil {
			for _, l := range opened {
				l.Close()
			}
			return false
		}
		_, w.whoisPort, _ = net.SplitHostPort(l.Addr().String())
		opened, names = append(opened, l), append(names, name)
	}
	for i, l := range opened {
		host, _, _ := net.SplitHostPort(l.Addr().String())
		w.dns.host(names[i], host)
		w.serveWHOIS(l, names[i], servers[names[i]])
	}
	return true
}

func (w *world) serveWHOIS(l net.Listener, name string, a answer) {
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				question, _ := bufio.NewReader(conn).ReadString('\n')
				w.mu.Lock()
				w.asked[name] = append(w.asked[name], question)
				w.mu.Unlock()
				a(conn, question)
			})
		}
	})
	w.t.Cleanup(func() { l.Close(); all.Wait() })
}

// certificate is one for names, and who vouches for it.
func certificate(t testing.TB, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// dnsServer is a name server on loopback, over UDP.
type dnsServer struct {
	conn net.PacketConn

	mu      sync.Mutex
	records map[string][]dnsmessage.ResourceBody // by name, in small letters with a dot at its end
	silent  map[string]bool                      // names that get no answer
	asked   map[string]int                       // by type and name
}

func newDNS(t testing.TB) *dnsServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dnsServer{conn: conn, records: map[string][]dnsmessage.ResourceBody{}, silent: map[string]bool{}, asked: map[string]int{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if res := d.answer(buf[:n]); res != nil {
				conn.WriteTo(res, from)
			}
		}
	})
	t.Cleanup(func() { conn.Close(); serving.Wait() })
	return d
}

func (d *dnsServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "udp", d.conn.LocalAddr().String())
	}}
}

func (d *dnsServer) answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked[strings.TrimPrefix(q.Type.String(), "Type")+" "+name]++
	if d.silent[name] {
		return nil
	}
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: true, RecursionAvailable: true}
	m.Additionals = nil
	bodies, ok := d.records[name]
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, body := range bodies {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}
		var matches bool
		switch body.(type) {
		case *dnsmessage.AResource:
			matches = q.Type == dnsmessage.TypeA
		case *dnsmessage.AAAAResource:
			matches = q.Type == dnsmessage.TypeAAAA
		case *dnsmessage.PTRResource:
			matches = q.Type == dnsmessage.TypePTR
		case *dnsmessage.TXTResource:
			matches = q.Type == dnsmessage.TypeTXT
		}
		if matches {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: body})
		}
	}
	res, err := m.Pack()
	if err != nil {
		return nil
	}
	return res
}

func (d *dnsServer) put(name string, bodies ...dnsmessage.ResourceBody) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = strings.TrimSuffix(name, ".") + "."
	d.records[name] = append(d.records[name], bodies...)
}

func (d *dnsServer) host(name string, addrs ...string) {
	for _, a := range addrs {
		if a := addr(a); a.Is4() {
			d.put(name, &dnsmessage.AResource{A: a.As4()})
		} else {
			d.put(name, &dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
}

func (d *dnsServer) reverse(name string, hosts ...string) {
	for _, h := range hosts {
		d.put(name, &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(h)})
	}
}

func (d *dnsServer) text(name string, texts ...string) {
	for _, s := range texts {
		d.put(name, &dnsmessage.TXTResource{TXT: []string{s}})
	}
}

func (d *dnsServer) mute(names ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range names {
		d.silent[n] = true
	}
}

// count is how often a question was asked, such as "TXT as64496.asn.cymru.com.".
func (d *dnsServer) count(question string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[question]
}

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// timed is a client with a clock of its own.
func timed(o Options) (*Client, *clock) {
	at := &clock{now: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)}
	c := New(o)
	c.now, c.rdap.now = at.Now, at.Now
	return c, at
}

// ripe is what rdap-ripe.json says.
func ripe(source string) notify.Owner {
	return notify.Owner{
		Name: "Example Networks B.V.", Network: "EXAMPLE-NET", Prefix: pfx("192.0.2.0/24"), Country: "NL",
		Abuse: []string{"abuse@example.net"}, Source: source,
	}
}
