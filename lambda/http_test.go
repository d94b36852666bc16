package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
)

func decode(t *testing.T, raw string) *event {
	t.Helper()
	e, is, err := readEvent([]byte(raw))
	if err != nil || !is {
		t.Fatalf("%v, a request: %v", err, is)
	}
	return e
}

// TestRequest: what a handler sees is what the client sent, as far as AWS tells it.
func TestRequest(t *testing.T) {
	second := func(fields string) string {
		return `{"version":"2.0",` + fields + `,"requestContext":{"stage":"prod","http":{"method":"GET","sourceIp":"203.0.113.7"}}}`
	}
	first := func(fields string) string {
		return `{` + fields + `,"httpMethod":"GET","requestContext":{"stage":"prod","identity":{"sourceIp":"203.0.113.7"}}}`
	}
	tests := []struct {
		name, event string
		uri         string
		header      http.Header
	}{
		{"a query, as it was", second(`"rawPath":"/a","rawQueryString":"b=2&a=%20x&a=1&c"`), "/a?b=2&a=%20x&a=1&c", http.Header{}},
		{"an escaped path", second(`"rawPath":"/doors/a%2Fb%3F"`), "/doors/a%2Fb%3F", http.Header{}},
		{"a path whose escapes were undone", second(`"rawPath":"/doors/a b?関"`), "/doors/a%20b%3F%E9%96%A2", http.Header{}},
		{"a path that only looks escaped", second(`"rawPath":"/doors/100%"`), "/doors/100%25", http.Header{}},
		{"a stage", second(`"rawPath":"/prod/doors"`), "/doors", http.Header{}},
		{"a stage alone", second(`"rawPath":"/prod"`), "/", http.Header{}},
		{"a path that begins like the stage", second(`"rawPath":"/product"`), "/product", http.Header{}},
		{"cookies in both places", second(`"rawPath":"/","cookies":["a=1","b=2"],"headers":{"cookie":"a=1; b=2","host":"x"}`), "/", http.Header{"Cookie": {"a=1; b=2"}}},
		{"headers joined", second(`"rawPath":"/","headers":{"x-forwarded-for":"192.0.2.1,192.0.2.2"}`), "/", http.Header{"X-Forwarded-For": {"192.0.2.1,192.0.2.2"}}},
		{"1.0: a query", first(`"path":"/a","multiValueQueryStringParameters":{"b":["2"],"a":["x y","1"]}`), "/a?a=x+y&a=1&b=2", http.Header{}},
		{"1.0: the stage is not in the path", first(`"path":"/prod/a"`), "/prod/a", http.Header{}},
		{"1.0: headers line by line", first(`"path":"/","headers":{"Accept":"b","X":"1"},"multiValueHeaders":{"accept":["a","b"]}`), "/", http.Header{"Accept": {"a", "b"}, "X": {"1"}}},
		{"1.0: nothing but null", first(`"path":null,"headers":null,"multiValueHeaders":null,"multiValueQueryStringParameters":null,"body":null`), "/", http.Header{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := decode(t, test.event).request(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.RequestURI != test.uri || r.URL.RequestURI() != test.uri || r.RemoteAddr != "203.0.113.7" || r.URL.IsAbs() {
				t.Errorf("got %q, %q from %s, want %q", r.RequestURI, r.URL, r.RemoteAddr, test.uri)
			}
			if diff := cmp.Diff(test.header, r.Header); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestResponse: what a handler wrote is what the client gets.
func TestResponse(t *testing.T) {
	const (
		second = `{"version":"2.0","rawPath":"/","requestContext":{"http":{"method":"GET","sourceIp":"203.0.113.7"}}}`
		head   = `{"version":"2.0","rawPath":"/","requestContext":{"http":{"method":"HEAD","sourceIp":"203.0.113.7"}}}`
		first  = `{"path":"/","httpMethod":"GET","requestContext":{"identity":{"sourceIp":"203.0.113.7"}}}`
	)
	cookies := func(w http.ResponseWriter) {
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2, c")
		w.Header().Add("Vary", "Accept")
		w.Header().Add("Vary", "Cookie")
		w.WriteHeader(http.StatusSeeOther)
		w.WriteHeader(http.StatusOK) // too late
	}
	large := func(w http.ResponseWriter) {
		w.Header().Set("X-Secret", "1")
		for range 7 {
			_, _ = w.Write([]byte(strings.Repeat("x", 1<<20)))
		}
	}
	quotes := func(w http.ResponseWriter) { _, _ = w.Write([]byte(strings.Repeat(`"`, 4<<20))) }
	tooLarge := map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"}
	tests := []struct {
		name, event string
		write       func(http.ResponseWriter)
		want        replied
	}{
		{"nothing", second, func(http.ResponseWriter) {}, replied{Status: 200}},
		{"text", second, func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<p>関所</p>\n") }, replied{Status: 200, Body: "<p>関所</p>\n"}},
		{"bytes", second, func(w http.ResponseWriter) { _, _ = w.Write([]byte{0xff, 0}) }, replied{Status: 200, Body: "/wA=", Base64: true}},
		{"HEAD", head, func(w http.ResponseWriter) { _, _ = io.WriteString(w, "x") }, replied{Status: 200}},
		{"cookies", second, cookies, replied{Status: 303, Headers: map[string]string{"Vary": "Accept, Cookie"}, Cookies: []string{"a=1", "b=2, c"}}},
		{"1.0: cookies", first, cookies, replied{Status: 303, MultiHead: map[string][]string{"Vary": {"Accept", "Cookie"}, "Set-Cookie": {"a=1", "b=2, c"}}}},
		{"too much", second, large, replied{Status: 413, Headers: tooLarge}},
		{"too much in JSON", second, quotes, replied{Status: 413, Headers: tooLarge}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &response{header: http.Header{}}
			test.write(w)
			raw, err := w.encode(decode(t, test.event))
			if err != nil || len(raw) > 6<<20 {
				t.Fatal(err, len(raw))
			}
			var got replied
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatal(err)
			}
			if test.want.Status == http.StatusRequestEntityTooLarge {
				if e := got.refused(t); e.Code != api.TooLarge {
					t.Errorf("got %+v", e)
				}
				got.Body = ""
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// FuzzEvent: whatever an event holds, there is a request with an address of its own and a
// path of ours, or none; and an answer.
func FuzzEvent(f *testing.F) {
	for _, shape := range shapes {
		raw, err := json.Marshal(shape.make(sent{"POST", "/api/v1/doors/web/open?x=1&x=2", http.Header{"Cookie": {"a=1"}}, "{}", source}))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(scheduled))
	f.Add([]byte(`{"rawPath":"//x/%zz?#","requestContext":{"stage":"","http":{"sourceIp":"::1"}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, is, err := readEvent(raw)
		if err != nil || !is {
			return
		}
		w := &response{header: http.Header{}}
		if r, err := e.request(t.Context()); err == nil {
			if _, err := netip.ParseAddr(r.RemoteAddr); err != nil || !strings.HasPrefix(r.RequestURI, "/") || r.URL.IsAbs() || r.ContentLength > int64(len(raw)) {
				t.Errorf("%q, %q from %q", r.RequestURI, r.URL, r.RemoteAddr)
			}
			_, _ = io.Copy(w, r.Body)
		}
		out, err := w.encode(e)
		if err != nil || !json.Valid(out) {
			t.Errorf("%v: %q", err, out)
		}
	})
}

// TestStatelessRoutes: each route is asked by an administrator of a gate that keeps no
// state. What it cannot do it says, with what to do instead; nothing fails.
func TestStatelessRoutes(t *testing.T) {
	hanako, root := newKey(t), newKey(t)
	cfg, err := config.Parse("sekisho.yaml", []byte(stateless("sg-0123456789abcdef0", hanako, root, "edit: yes")+
		"aws: {endpoint: \"http://127.0.0.1:1\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGateway(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, uri, body string) *httptest.ResponseRecorder {
		r := root.request(method, uri, body, time.Now())
		r.header.Set("Host", host)
		w := httptest.NewRecorder()
		raw, err := json.Marshal(functionURL(r))
		if err != nil {
			t.Fatal(err)
		}
		request, err := decode(t, string(raw)).request(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g.handler.ServeHTTP(w, request)
		return w
	}
	var document struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(ask("GET", "/api/v1/openapi.json", "").Body.Bytes(), &document); err != nil || len(document.Paths) < 20 {
		t.Fatal(err, len(document.Paths))
	}
	// What touches AWS has tests of its own.
	works := map[string]bool{
		"GET /healthz": true, "GET /api/v1/openapi.json": true, "GET /api/v1/address": true, "GET /api/v1/me": true, "GET /api/v1/people": true,
		"GET /api/v1/people/{name}": true, "GET /api/v1/targets": true, "GET /api/v1/findings": true, "GET /api/v1/approvals": true,
		"POST /api/v1/signout": true, "POST /api/v1/signout/everywhere": true,
	}
	bodies := map[string]string{
		"POST /api/v1/people": `{"name":"new","groups":[],"fixed":[],"keys":[]}`, "PUT /api/v1/people/{name}": `{"name":"","groups":[],"fixed":[],"keys":[]}`,
		"PUT /api/v1/targets/{name}": `{"config":"allow: [ops]"}`, "POST /api/v1/hosts": `{"name":"box-1"}`,
		"POST /api/v1/invitations/show": `{"token":"abcdefghijklmnop"}`, "POST /api/v1/invitations/begin": `{"token":"abcdefghijklmnop"}`,
		"POST /api/v1/invitations/finish": `{"token":"abcdefghijklmnop","key":"k","response":{}}`, "POST /api/v1/passkeys/finish": `{"key":"abcdefghijklmnop","response":{}}`,
		"POST /api/v1/signin/finish": `{"key":"abcdefghijklmnop","response":{}}`, "POST /api/v1/hosts/report": `{"ticket":"x","grants":[],"whole":true}`,
		"POST /api/v1/hosts/enrol": `{"token":"x","version":"1"}`,
	}
	for path, methods := range document.Paths {
		for method := range methods {
			method = strings.ToUpper(method)
			name := method + " " + path
			if strings.Contains(path, "/doors") || path == "/api/v1/grants" || strings.HasSuffix(path, "/grants/{id}") || strings.HasSuffix(path, "/extend") || strings.HasSuffix(path, "/close") {
				continue
			}
			t.Run(name, func(t *testing.T) {
				uri := strings.NewReplacer("{name}", "hanako", "{target}", "web", "{id}", "abcdefghijklmnop").Replace(path)
				w := ask(method, uri, bodies[name])
				if works[name] {
					if w.Code/100 != 2 {
						t.Errorf("%d %s", w.Code, w.Body)
					}
					return
				}
				var e api.Error
				if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code/100 != 4 || e.Code == "" || e.Message == "" {
					t.Fatalf("%v: %d %s", err, w.Code, w.Body)
				}
				host := strings.HasPrefix(path, "/api/v1/hosts/") && path != "/api/v1/hosts/{name}" // it takes a host's key
				if !host && (e.Hint == "" || !strings.Contains(e.Message, "keeps no state") && !strings.Contains(e.Message, "no passkeys at this gate")) {
					t.Errorf("%d %+v", w.Code, e)
				}
			})
		}
	}
	for _, path := range []string{"/account", "/people", "/people/hanako", "/targets", "/targets/web"} {
		w := ask("GET", path, "")
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		for _, never := range []string{`"/approvals"`, `"/hosts"`, `"/audit"`, `"/signout"`, "everywhere", "/invite", "/disable", "/delete", `name="config"`, `method="post" action="/people`} {
			if strings.Contains(w.Body.String(), never) {
				t.Errorf("%s has %s:\n%s", path, never, w.Body)
			}
		}
	}
	for _, path := range []string{"/hosts", "/audit"} {
		if w := ask("GET", path, ""); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "keeps no state") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	r, err := decode(t, `{"rawPath":"/signin","headers":{"host":"`+host+`"},"requestContext":{"http":{"method":"GET","sourceIp":"203.0.113.7"}}}`).request(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK || strings.Contains(w.Body.String(), "data-signin") || !strings.Contains(w.Body.String(), "command line") {
		t.Errorf("signing in: %d %s", w.Code, w.Body)
	}
}
