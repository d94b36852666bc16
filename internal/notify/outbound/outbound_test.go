package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"sekisho/internal/notify"
)

const token = "T0123456789secretsecret"

// client goes to loopback, trusts the server, and asks names for names.
func client(t *testing.T, s *httptest.Server, names map[string]string) *Client {
	t.Helper()
	o := Options{Private: prefixes("127.0.0.0/8 ::1/128"), Resolver: resolver(t, names)}
	if s != nil && s.TLS != nil {
		o.Roots = x509.NewCertPool()
		o.Roots.AddCert(s.Certificate())
	}
	return New(o)
}

// resolver asks a name server of the test's own.
func resolver(t *testing.T, names map[string]string) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			addrs, there := names[strings.TrimSuffix(q.Name.String(), ".")]
			if !there {
				m.RCode = dnsmessage.RCodeNameError
			}
			for s := range strings.FieldsSeq(addrs) {
				a := netip.MustParseAddr(s)
				head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
				switch {
				case a.Is4() && q.Type == dnsmessage.TypeA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
				case a.Is6() && q.Type == dnsmessage.TypeAAAA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
				}
			}
			packed, err := m.Pack()
			if err == nil {
				_, _ = pc.WriteTo(packed, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

func TestPost(t *testing.T) {
	got := make(chan *http.Request, 1)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Header.Set("Body", string(body))
		got <- r
	}))
	defer s.Close()
	err := client(t, s, nil).Post(t.Context(), Request{URL: s.URL + "/a?b=c", Header: http.Header{"X-Sekisho-Test": {"1"}}, Body: []byte("hello")})
	if err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.Method != "POST" || r.RequestURI != "/a?b=c" || r.Header.Get("Body") != "hello" || r.Header.Get("X-Sekisho-Test") != "1" ||
		r.Header.Get("User-Agent") != "sekisho" || r.ContentLength != 5 || r.TLS.Version < tls.VersionTLS12 {
		t.Errorf("got %+v", r)
	}
}

// TestAnswers: what each answer comes to.
func TestAnswers(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		err     string // part of it; "": none
		hint    string
		final   bool
		after   time.Duration
	}{
		{name: "no content", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }},
		{name: "accepted, and more than one wants to know", handler: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, huge) }},
		{name: "bad request", handler: status(400, "no\x1b[31m good\r\n"), err: `answer: the server answers 400 Bad Request: no\x1b[31m good`, final: true},
		{name: "unauthorized", handler: status(401, ""), err: "401", hint: "token", final: true},
		{name: "not found", handler: status(404, "no "+token+" here"), err: "404 Not Found: no <secret> here", hint: "URL", final: true},
		{name: "gone", handler: status(410, ""), err: "410", final: true},
		{name: "timeout", handler: status(408, ""), err: "408"},
		{name: "too many", handler: status(429, "", "Retry-After", "17"), err: "429", hint: "per_hour", after: 17 * time.Second},
		{name: "too many, until", handler: status(429, "", "Retry-After", "Sun, 06 Nov 1994 08:50:37 GMT"), err: "429", after: time.Minute},
		{name: "too many, before now", handler: status(429, "", "Retry-After", "Sun, 06 Nov 1994 08:00:00 GMT"), err: "429"},
		{name: "unavailable", handler: status(503, "", "Retry-After", "5"), err: "503", after: 5 * time.Second},
		{name: "unavailable for years", handler: status(503, "", "Retry-After", "999999999"), err: "503", after: 24 * time.Hour},
		{name: "nonsense", handler: status(503, "", "Retry-After", "-1 or so"), err: "503"},
		{name: "server error", handler: status(500, huge), err: "500 Internal Server Error: xxx"},
		{name: "nobody's", handler: status(599, ""), err: "answers 599"},
		{name: "redirect", handler: status(302, "", "Location", "https://169.254.169.254/"+token), err: "302 Found", hint: "which is at 169.254.169.254", final: true},
		{name: "redirect to nowhere", handler: status(307, ""), err: "307", hint: "not followed", final: true},
		{name: "redirect to another place of its", handler: status(308, "", "Location", "/x"), err: "308", final: true},
		{name: "hangs up", handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, err: "the server hung up"},
		{name: "a head without end", handler: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", huge) }, err: "answer: "},
		{name: "not HTTP", handler: hijack("220 mail.example.com ESMTP " + token + "\r\n"), err: "answer: "},
		{name: "says nothing", handler: waits, err: "answer: no answer within 300ms", hint: "up"},
		{name: "a refusal without end", err: "400 Bad Request: xxx", final: true, handler: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, huge); err != nil {
					return
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(tt.handler)
			s.Config.ErrorLog = quiet()
			s.StartTLS()
			defer s.Close()
			c := client(t, s, nil)
			c.now = func() time.Time { return time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC) }
			if strings.Contains(tt.err, "300ms") {
				c.timeout = 300 * time.Millisecond
			}
			err := c.Post(t.Context(), Request{URL: s.URL + "/services/" + token, Body: []byte("{}")})
			if tt.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			step := stepOf(t, err)
			if !strings.Contains(err.Error(), tt.err) || step.Final != tt.final || !strings.Contains(step.Hint, tt.hint) {
				t.Errorf("%q, final %v, hint %q", err, step.Final, step.Hint)
			}
			var refusal *Refusal
			if errors.As(err, &refusal) && refusal.After != tt.after || refusal == nil && tt.after != 0 {
				t.Errorf("refusal %+v, want to wait %s", refusal, tt.after)
			}
			if refusal != nil && len(refusal.Body) > maxAnswer {
				t.Errorf("%d bytes of the answer are kept", len(refusal.Body))
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	var hits atomic.Int32
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	defer s.Close()
	open := httptest.NewServer(handler)
	defer open.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	_, openPort, _ := net.SplitHostPort(open.Listener.Addr().String())
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, closedPort, _ := net.SplitHostPort(closed.Addr().String())
	closed.Close()
	old := httptest.NewUnstartedServer(handler)
	old.Config.ErrorLog = quiet()
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.StartTLS()
	defer old.Close()
	_, oldPort, _ := net.SplitHostPort(old.Listener.Addr().String())

	names := map[string]string{
		"example.com":         "127.0.0.1",
		"mapped.example.com":  "::ffff:127.0.0.1",
		"private.example.com": "10.0.0.1",
		"cloud.example.com":   "169.254.169.254",
		"both.example.com":    "10.0.0.1 127.0.0.1",
		"none.example.com":    "",
		"wrong.example.org":   "127.0.0.1",
		"nat64.example.com":   "64:ff9b::a00:1",
		"six.example.com":     "fd00:ec2::254",
	}
	at := func(host, rest string) string { return "https://" + host + ":" + port + "/" + rest }
	for _, tt := range []struct {
		name    string
		url     string
		private string
		err     string // part of it; "": it gets there
		step    string
		hint    string
		final   bool
	}{
		{name: "named", url: at("example.com", token), private: "127.0.0.0/8"},
		{name: "not named", url: at("example.com", token), err: "127.0.0.1 is not a public address", step: "connect", hint: "notify.private", final: true},
		{name: "by address", url: at("127.0.0.1", token), err: "127.0.0.1 is not", step: "connect", final: true},
		{name: "by IPv6", url: at("[::1]", token), private: "127.0.0.0/8", err: "::1 is not", step: "connect", final: true},
		{name: "mapped", url: at("[::ffff:127.0.0.1]", token), err: "127.0.0.1 is not", step: "connect", final: true},
		{name: "a name for mapped", url: at("mapped.example.com", token), err: "127.0.0.1 is not", step: "connect", final: true},
		{name: "a name for a private one", url: at("private.example.com", token), private: "127.0.0.0/8", err: "10.0.0.1 is not", step: "connect", final: true},
		{name: "a name for metadata", url: at("cloud.example.com", token), private: "0.0.0.0/0", err: "metadata", step: "connect", final: true},
		{name: "a name for metadata, IPv6", url: at("six.example.com", token), private: "::/0", err: "metadata", step: "connect", final: true},
		{name: "a name for NAT64", url: at("nat64.example.com", token), err: "64:ff9b::a00:1 is not", step: "connect", final: true},
		{name: "one of two", url: at("both.example.com", token), private: "127.0.0.0/8"},
		{name: "a number", url: at("2130706433", token), err: "there is no address of 2130706433", step: "connect"},
		{name: "octal", url: at("0177.0.0.1", token), err: "there is no address", step: "connect"},
		{name: "short", url: at("127.1", token), err: "there is no address", step: "connect"},
		{name: "all", url: at("0.0.0.0", token), private: "127.0.0.0/8", err: "0.0.0.0 is not", step: "connect", final: true},
		{name: "no such name", url: at("missing.example.com", token), err: "there is no address of missing.example.com", step: "connect", hint: "name right"},
		{name: "no address", url: at("none.example.com", token), err: "there is no address", step: "connect"},
		{name: "another's certificate", url: at("wrong.example.org", token), private: "127.0.0.0/8", err: "not wrong.example.org", step: "TLS", hint: "certificate"},
		{name: "http to this host", url: "http://127.0.0.1:" + openPort, private: "127.0.0.0/8"},
		{name: "http to this host, not named", url: "http://127.0.0.1:" + openPort, err: "http", step: "connect", final: true},
		{name: "http to a name", url: "http://example.com:" + openPort, private: "127.0.0.0/8", err: "http", step: "connect", final: true},
		{name: "http to a private one", url: "http://10.0.0.1/", private: "0.0.0.0/0", err: "http", step: "connect", final: true},
		{name: "no TLS there", url: "https://127.0.0.1:" + openPort + "/" + token, private: "127.0.0.0/8", err: "does not speak TLS", step: "TLS", hint: "port"},
		{name: "old TLS there", url: "https://127.0.0.1:" + oldPort + "/" + token, private: "127.0.0.0/8", err: "protocol version", step: "TLS"},
		{name: "nobody there", url: "https://127.0.0.1:" + closedPort + "/" + token, private: "127.0.0.0/8", err: "connection refused", step: "connect", hint: "nothing listens"},
		{name: "another scheme", url: "file:///etc/passwd", err: "names no host", step: "connect", final: true},
		{name: "gopher", url: "gopher://example.com/" + token, err: "not https", step: "connect", final: true},
		{name: "a user", url: "https://u:" + token + "@example.com/", err: "user or a password", step: "connect", final: true},
		{name: "not a URL", url: "https://exa mple/" + token + "\x7f", err: "not a URL", step: "connect", final: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, s, names)
			c.private = prefixes(tt.private)
			before := hits.Load()
			err := c.Post(t.Context(), Request{URL: tt.url})
			if tt.err == "" {
				if err != nil || hits.Load() != before+1 {
					t.Errorf("%v, %d requests", err, hits.Load()-before)
				}
				return
			}
			step := stepOf(t, err)
			if !strings.Contains(err.Error(), tt.err) || step.Name != tt.step || step.Final != tt.final || !strings.Contains(step.Hint, tt.hint) {
				t.Errorf("%q, step %q, final %v, hint %q", err, step.Name, step.Final, step.Hint)
			}
			if hits.Load() != before {
				t.Error("it was posted")
			}
		})
	}
}

// TestNoProxy: what the environment names is not asked.
func TestNoProxy(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1/")
	}
	if err := client(t, s, map[string]string{"example.com": "127.0.0.1"}).Post(t.Context(), Request{URL: strings.Replace(s.URL, "127.0.0.1", "example.com", 1)}); err != nil {
		t.Error(err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		waits(w, r)
	}))
	defer s.Close()
	err := client(t, s, nil).Post(ctx, Request{URL: s.URL})
	if !errors.Is(err, context.Canceled) || stepOf(t, err).Final {
		t.Error(err)
	}
}

// stepOf finds the step, and holds every error to the secret.
func stepOf(t *testing.T, err error) *notify.Step {
	t.Helper()
	var step *notify.Step
	if !errors.As(err, &step) {
		t.Fatalf("%v is not of a step", err)
	}
	if all := err.Error() + step.Hint + step.Said; strings.Contains(all, token) || strings.ContainsAny(all, "\x1b\r\n\x00") || len(err.Error()) > 1000 {
		t.Errorf("not fit to be shown: %q, %q", err, step.Hint)
	}
	return step
}

// waits says nothing until the client is gone, which a server sees once it has read the body.
func waits(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func status(code int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}

func hijack(words string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(conn, words)
			conn.Close()
		}
	}
}
