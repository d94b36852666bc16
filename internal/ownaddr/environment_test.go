package ownaddr

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// child is what a process that is told so does: it finds its address as one that trusts
// what its environment says, and knows a few names.
type child struct {
	Services []string
	DNS      string // a server that knows example.com
}

type childAnswer struct {
	Answer  Answer
	Err     string
	Proxied bool // the environment asks for a proxy, for these services
	Names   []netip.Addr
}

const childEnv = "SEKISHO_TEST_OWNADDR"

func TestMain(m *testing.M) {
	text, ok := os.LookupEnv(childEnv)
	if !ok {
		os.Exit(m.Run())
	}
	if err := runChild(text); err != nil {
		panic(err)
	}
}

func runChild(text string) error {
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", c.DNS)
	}}
	var a childAnswer
	for _, s := range c.Services {
		req, err := http.NewRequest(http.MethodGet, s, nil)
		if err != nil {
			return err
		}
		proxy, err := http.ProxyFromEnvironment(req)
		a.Proxied = err == nil && proxy != nil
	}
	f := &Finder{Services: c.Services, source: from(local4)}
	var err error
	if a.Answer, err = f.Find(context.Background(), IPv4, target4); err != nil {
		a.Err = err.Error()
	}
	a.Names, _ = Resolve(context.Background(), "example.com")
	return json.NewEncoder(os.Stdout).Encode(a)
}

// answersDNS serves A records of 127.0.0.1, twice over, and nothing else.
func answersDNS(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if n < 12 {
				continue
			}
			// The question ends with its name's empty label, a type and a class.
			end := 12 + bytes.IndexByte(buf[12:n], 0) + 5
			if end > n {
				continue
			}
			const typeA = 1
			answer := slices.Clone(buf[:end])
			answer[2], answer[3] = 0x84, 0 // an authoritative answer
			copy(answer[6:12], make([]byte, 6))
			if binary.BigEndian.Uint16(buf[end-4:]) == typeA {
				answer[7] = 2
				record := []byte{0xc0, 12, 0, typeA, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1}
				answer = append(append(answer, record...), record...)
			}
			_, _ = conn.WriteTo(answer, peer)
		}
	}()
	return conn.LocalAddr().String()
}

// TestEnvironment: an authority that SSL_CERT_FILE names is believed, and no proxy of the
// environment is asked: it would have the services tell the proxy's address.
func TestEnvironment(t *testing.T) {
	var proxied atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		proxied.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer proxy.Close()
	roots := x509.NewCertPool()
	var forwarded atomic.Value
	h := func(w http.ResponseWriter, r *http.Request) {
		forwarded.Store(r.Header.Get("X-Forwarded-For") + r.Header.Get("Forwarded") + r.Header.Get("Via"))
		says("203.0.113.7\n")(w, r)
	}
	c := child{DNS: answersDNS(t)}
	for range 2 {
		url, _ := service(t, roots, "tcp4", h)
		c.Services = append(c.Services, strings.Replace(url, "127.0.0.1", "example.com", 1))
	}
	// httptest's certificate is its own authority.
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600)
	s.Close()
	if err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		name    string
		env     []string
		refused string
	}{
		{name: "trusted", env: []string{"SSL_CERT_FILE=" + authority}},
		{name: "not trusted", env: []string{"SSL_CERT_FILE=/dev/null", "SSL_CERT_DIR=/nowhere"}, refused: "certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(tt.env, childEnv+"="+string(text))
			for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
				cmd.Env = append(cmd.Env, name+"="+proxy.URL)
			}
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			var got childAnswer
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if !got.Proxied {
				t.Error("the environment asks for no proxy: this proves nothing")
			}
			if n := proxied.Load(); n > 0 {
				t.Errorf("the proxy was asked %d times", n)
			}
			if len(got.Names) != 1 || got.Names[0] != local4 {
				t.Errorf("example.com is %v", got.Names)
			}
			if tt.refused != "" {
				if !strings.Contains(got.Err, tt.refused) {
					t.Errorf("got %+v, want an error of %q", got, tt.refused)
				}
				return
			}
			if got.Err != "" || got.Answer.Addr != own || len(got.Answer.By) != 2 {
				t.Errorf("got %+v", got)
			}
			if f := forwarded.Load(); f != "" {
				t.Errorf("the service was told %q", f)
			}
		})
	}
}
