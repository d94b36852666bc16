package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
)

func TestHost(t *testing.T) {
	w := newWorld(t, func(_ *Options, s *Settings) {
		s.IPv4, s.IPv6 = "https://v4.gate.example.com", "https://v6.gate.example.com"
	})
	for _, tt := range []struct {
		name, host, path string
		want             int
	}{
		{"the gate's", "gate.example.com", api.Version + "/address", 200},
		{"with the port that it has anyway", "gate.example.com:443", api.Version + "/address", 200},
		{"in capitals", "GATE.example.COM", api.Version + "/address", 200},
		{"another port", "gate.example.com:8443", api.Version + "/address", 421},
		{"an address", "192.0.2.1", api.Version + "/address", 421},
		{"another's", "evil.example.com", "/", 421},
		{"another's that begins the same", "gate.example.com.evil.example.com", "/", 421},
		{"none", "", "/signin", 421},
		{"health under any", "192.0.2.1:8022", "/healthz", 200},
		{"the address under the name for IPv4", "v4.gate.example.com", api.Version + "/address", 200},
		{"the address under the name for IPv6", "v6.gate.example.com", api.Version + "/address", 200},
		{"nothing else there", "v4.gate.example.com", "/signin", 421},
		{"no openapi.json there", "v6.gate.example.com", api.Version + "/openapi.json", 421},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := w.request(get, tt.path, "hanako", nil)
			r.Host = tt.host
			if got := w.do(r); got.StatusCode != tt.want {
				t.Errorf("got %d %s, want %d", got.StatusCode, read(t, got), tt.want)
			}
		})
	}
}

func TestAddressUnderBothNames(t *testing.T) {
	w := newWorld(t, func(_ *Options, s *Settings) { s.IPv4 = "https://v4.gate.example.com" })
	for _, tt := range []struct {
		remote string
		want   api.Seen
	}{
		{"203.0.113.7:1", api.Seen{Address: netip.MustParseAddr("203.0.113.7"), Family: 4}},
		{"[::ffff:203.0.113.7]:1", api.Seen{Address: netip.MustParseAddr("203.0.113.7"), Family: 4}},
		{"[2001:db8::7]:1", api.Seen{Address: netip.MustParseAddr("2001:db8::7"), Family: 6}},
		{"203.0.113.7", api.Seen{Address: netip.MustParseAddr("203.0.113.7"), Family: 4}}, // the function's has no port
	} {
		r := w.request(get, addressPath, "hanako", nil)
		r.Host, r.RemoteAddr = "v4.gate.example.com", tt.remote
		// As a browser asks there for the gate's page.
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", "same-site")
		r.Header.Set("Sec-Fetch-Mode", "cors")
		got := w.do(r)
		if seen := decode[api.Seen](t, got); seen != tt.want || got.Header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("%s: got %+v, %v", tt.remote, seen, got.Header)
		}
	}
	r := w.request(get, addressPath, "hanako", nil)
	r.RemoteAddr = "[fe80::1%eth0]:1"
	if got := w.do(r); got.StatusCode != 400 {
		t.Errorf("an address with a zone: %d", got.StatusCode)
	}
}

// What a proxy says counts for what is opened, and only what a listed one says.
func TestOpensForTheAddressThatAProxySays(t *testing.T) {
	w := newWorld(t, func(_ *Options, s *Settings) {
		s.Trust = Trust{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Header: XForwardedFor}
	})
	for _, tt := range []struct{ name, peer, said, want string }{
		{"a listed proxy", "10.0.0.1:1", "203.0.113.99", "203.0.113.99/32"},
		{"a stranger", "192.0.2.66:1", "203.0.113.99", "192.0.2.66/32"},
		{"a stranger's invention before a proxy", "10.0.0.1:1", "1.2.3.4, 192.0.2.67", "192.0.2.67/32"},
		{"garbage of a proxy", "10.0.0.1:1", "unknown", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := w.sign(w.request(post, api.Version+"/doors/web/open", "hanako", nil), w.keys["hanako"], api.Namespace, nil)
			r.RemoteAddr = tt.peer
			r.Header.Set("X-Forwarded-For", tt.said)
			got := w.do(r)
			if tt.want == "" {
				if got.StatusCode != 400 {
					t.Errorf("got %d", got.StatusCode)
				}
				return
			}
			if g := decode[api.Grant](t, got); g.Prefix.String() != tt.want {
				t.Errorf("opened for %v, want %s", g.Prefix, tt.want)
			}
		})
	}
}

func TestMethodsAndPaths(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name, method, path string
		want               int
		code               api.Code
		allow              string
	}{
		{"nothing there", get, api.Version + "/nothing", 404, api.NotFound, ""},
		{"nothing there for pages", get, "/nothing", 404, api.NotFound, ""},
		{"another method", del, api.Version + "/me", 405, api.BadMethod, "GET, HEAD"},
		{"opening by looking", get, api.Version + "/doors/web/open", 405, api.BadMethod, "POST"},
		{"closing by looking", get, "/grants/x/close", 405, api.BadMethod, "POST"},
		{"OPTIONS", http.MethodOptions, api.Version + "/me", 405, api.BadMethod, ""},
		{"TRACE", http.MethodTrace, api.Version + "/me", 405, api.BadMethod, ""},
		{"CONNECT", http.MethodConnect, "/", 405, api.BadMethod, ""},
		{"PATCH", http.MethodPatch, api.Version + "/me", 405, api.BadMethod, ""},
		{"an invented one", "OPEN", api.Version + "/me", 405, api.BadMethod, ""},
		{"a path that is not clean", get, "//signin", 404, api.NotFound, ""},
		{"a path that climbs", get, "/assets/../signin", 404, api.NotFound, ""},
		{"HEAD", http.MethodHead, "/signin", 200, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := w.request(get, "/", "hanako", nil)
			r.Method = tt.method
			r.URL.Path = tt.path
			got := w.do(r)
			if got.StatusCode != tt.want || got.Header.Get("Allow") != tt.allow {
				t.Fatalf("got %d %v, want %d", got.StatusCode, got.Header, tt.want)
			}
			if tt.code != "" {
				if e := decode[api.Error](t, got); e.Code != tt.code || e.Request == "" {
					t.Errorf("got %+v", e)
				}
			}
		})
	}
}

func TestIsNoProxy(t *testing.T) {
	w := newWorld(t)
	addr := served(t, w, Serving{})
	for _, tt := range []struct {
		name, line string
		want       int
	}{
		{"absolute form", "GET http://gate.example.com/signin HTTP/1.1", 400},
		{"absolute form of elsewhere", "GET http://evil.example.com/ HTTP/1.1", 400},
		{"authority form", "CONNECT evil.example.com:443 HTTP/1.1", 405},
		{"asterisk form", "OPTIONS * HTTP/1.1", 200}, // net/http answers it itself, with nothing
		{"as it should be", "GET /signin HTTP/1.1", 200},
		{"HTTP/1.0", "GET /signin HTTP/1.0", 200},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0", 405},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, addr)
			fmt.Fprintf(c, "%s\r\nHost: gate.example.com\r\n\r\n", tt.line)
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			if r.StatusCode != tt.want {
				t.Errorf("got %d, want %d", r.StatusCode, tt.want)
			}
		})
	}
}

func TestCrossSite(t *testing.T) {
	w := newWorld(t)
	token := w.session("hanako")
	for _, tt := range []struct {
		name, method, path string
		header             map[string]string
		want               int
	}{
		{"the gate's own page", post, "/doors/web", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": origin}, 303},
		{"typed by hand", get, "/", map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200},
		{"another site's form", post, "/doors/web", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.com", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403},
		{"a neighbour's form", post, "/doors/web", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "https://other.example.com"}, 403},
		{"another site's form in a browser that says its origin only", post, "/doors/web", map[string]string{"Origin": "https://evil.example.com"}, 403},
		{"a page without an origin", post, "/doors/web", map[string]string{"Origin": "null"}, 403},
		{"another site's request for the API", post, api.Version + "/doors/web/open", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"another site's look at the API", get, api.Version + "/doors", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403},
		{"another site's look at the API, as an image", get, api.Version + "/doors", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403},
		{"another site's link to the API", get, api.Version + "/audit/export", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403},
		{"another site's link to a page", get, "/doors/web", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200},
		{"another site's frame of a page", get, "/doors/web", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403},
		{"another site's fetch of a page", get, "/doors/web", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, 403},
		{"signed out by another site", post, "/signout", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"another's language", post, "/language", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte("back=door")
			if tt.method == get {
				body = nil
			}
			r := w.withSession(withForm(w.request(tt.method, tt.path, "hanako", body)), token)
			if strings.HasPrefix(tt.path, "/api/") {
				r.Header.Set("Content-Type", "application/json")
			}
			for name, v := range tt.header {
				r.Header.Set(name, v)
			}
			got := w.do(r)
			if got.StatusCode != tt.want {
				t.Errorf("got %d, want %d: %s", got.StatusCode, tt.want, read(t, got))
			}
		})
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	w := newWorld(t, func(_ *Options, s *Settings) {
		s.IPv4, s.IPv6 = "https://v4.gate.example.com", "https://v6.gate.example.com:8443"
	})
	want := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' https://v4.gate.example.com https://v6.gate.example.com:8443; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
		"X-Content-Type-Options":  "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Strict-Transport-Security": "max-age=63072000",
	}
	for _, path := range []string{"/signin", "/nothing", api.Version + "/nothing", api.Version + "/me", "/", api.Version + "/doors", "/healthz", "/invite", "/assets/nothing"} {
		got := w.do(w.request(get, path, "hanako", nil))
		for name, v := range want {
			if got.Header.Get(name) != v || len(got.Header.Values(name)) != 1 {
				t.Errorf("%s: %s is %q, want %q", path, name, got.Header.Values(name), v)
			}
		}
		if got.Header.Get("Content-Type") == "" && got.StatusCode != 303 {
			t.Errorf("%s has no type", path)
		}
	}
}

// broken is a gate of which one thing panics, and another fails.
type broken struct{ *gate.Gate }

func (broken) Doors(context.Context, gate.Who) ([]api.Door, error) { panic("a secret of the inside") }
func (broken) Waiting(context.Context, gate.Who) ([]api.Grant, error) {
	return nil, errors.New("dial tcp 10.9.9.9: a secret of the inside")
}

// ready is a gate that cannot write.
func (broken) Ready(context.Context) error {
	return api.Errorf(api.Busy, "", "the gate cannot write down what it does")
}

func TestNothingOfTheInsideIsTold(t *testing.T) {
	w := newWorld(t)
	h := New(Options{Gate: broken{w.gate}, Settings: func() Settings { return w.settings }, Logger: w.logger, Now: w.time})
	for _, tt := range []struct {
		path   string
		status int
		code   api.Code
	}{
		{api.Version + "/doors", 500, api.Internal},
		{api.Version + "/approvals", 500, api.Internal},
		{"/healthz", 503, api.Busy},
	} {
		r := w.withSession(w.request(get, tt.path, "hanako", nil), w.session("hanako"))
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		e := decode[api.Error](t, answerOf(rec))
		if rec.Code != tt.status || e.Code != tt.code || strings.Contains(e.Message+e.Hint, "secret") || e.Request == "" {
			t.Errorf("%s: got %d %+v", tt.path, rec.Code, e)
		}
		if tt.status == 500 {
			found := false
			for line := range strings.Lines(w.log.String()) {
				found = found || strings.Contains(line, e.Request) && strings.Contains(line, "secret")
			}
			if !found {
				t.Errorf("%s: the log has nothing of request %s", tt.path, e.Request)
			}
		}
	}
	for _, path := range []string{"/", "/approvals"} {
		r := w.withSession(w.request(get, path, "hanako", nil), w.session("hanako"))
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if body := rec.Body.String(); rec.Code != 500 || strings.Contains(body, "secret") || !strings.Contains(body, "something went wrong in the gate") || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/html") {
			t.Errorf("%s: got %d %s", path, rec.Code, body)
		}
	}
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	if got := w.do(w.request(get, "/healthz", "nobody", nil)); got.StatusCode != 200 || read(t, got) != "ok\n" {
		t.Errorf("got %d", got.StatusCode)
	}
}

func TestLocal(t *testing.T) {
	for _, tt := range []struct{ name, next, want string }{
		{"a page", "/doors/web", "/doors/web"},
		{"with a query", "/audit?person=x", "/audit?person=x"},
		{"nothing", "", "/"},
		{"elsewhere", "https://evil.example.com/", "/"},
		{"elsewhere without a scheme", "//evil.example.com/", "/"},
		{"elsewhere by a backslash", `/\evil.example.com`, "/"},
		{"elsewhere by a tab", "/\t/evil.example.com", "/"},
		{"a script", "javascript:alert(1)", "/"},
		{"not from the root", "doors", "/"},
		{"very long", "/" + strings.Repeat("a", 600), "/"},
		{"a hidden host", "/%2f/evil.example.com", "/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := local(tt.next); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBodiesOfRequests(t *testing.T) {
	w := newWorld(t)
	open := api.Version + "/doors/web/open"
	for _, tt := range []struct {
		name, body, kind string
		want             int
	}{
		{"nothing", "", "", 200},
		{"JSON", `{"seconds":600}`, "application/json", 200},
		{"a form, as another site can send", `seconds=600`, "application/x-www-form-urlencoded", 400},
		{"text, as another site can send", `{"seconds":600}`, "text/plain", 400},
		{"an unknown name", `{"second":600}`, "application/json", 400},
		{"too much", `{"reason":"` + strings.Repeat("a", 70<<10) + `"}`, "application/json", 413},
		{"too long a reason", `{"reason":"` + strings.Repeat("a", 201) + `"}`, "application/json", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := w.sign(w.request(post, open, "hanako", []byte(tt.body)), w.keys["hanako"], api.Namespace, []byte(tt.body))
			if tt.kind != "" {
				r.Header.Set("Content-Type", tt.kind)
			}
			if got := w.do(r); got.StatusCode != tt.want {
				t.Errorf("got %d %s, want %d", got.StatusCode, read(t, got), tt.want)
			}
		})
	}
}
