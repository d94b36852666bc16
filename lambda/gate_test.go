package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/gate/api"
	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

const (
	host   = "abcdefghij.lambda-url.eu-central-1.on.aws"
	origin = "https://" + host
	source = "203.0.113.7"
)

// shape makes the event of a request, as one of AWS's services does.
type shape struct {
	name string
	make func(sent) map[string]any
}

// sent is a request as its client sends it.
type sent struct {
	method string
	uri    string
	header http.Header
	body   string
	source string
}

func (s sent) path() (path, query string) {
	path, query, _ = strings.Cut(s.uri, "?")
	return path, query
}

// lines are the headers as payload format 2.0 has them.
func (s sent) lines() map[string]string {
	lines := map[string]string{"host": host, "x-forwarded-for": s.source, "x-forwarded-port": "443", "x-forwarded-proto": "https", "x-amzn-trace-id": "Root=1-5e9f0c65-1de4d666d4dd26aced652b6c"}
	for name, values := range s.header {
		lines[strings.ToLower(name)] = strings.Join(values, ",")
	}
	return lines
}

// second is an event of payload format 2.0: recorded ones are in aws-lambda-go's
// events/testdata (lambda-urls-request.json, apigw-v2-request-no-authorizer.json).
func (s sent) second(path, stage, domain string) map[string]any {
	_, query := s.path()
	e := map[string]any{
		"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query, "headers": s.lines(),
		"requestContext": map[string]any{
			"accountId": "123456789012", "apiId": "abcdefghij", "domainName": domain, "domainPrefix": strings.SplitN(domain, ".", 2)[0],
			"http":      map[string]any{"method": s.method, "path": path, "protocol": "HTTP/1.1", "sourceIp": s.source, "userAgent": "curl/7.88.1"},
			"requestId": "LV7fzho-PHcEJPw=", "routeKey": "$default", "stage": stage, "time": "29/Nov/2026:15:08:21 +0000", "timeEpoch": 1795964901067,
		},
		"isBase64Encoded": false,
	}
	if c := s.header.Values("Cookie"); len(c) > 0 {
		e["cookies"] = strings.Split(strings.Join(c, "; "), "; ")
	}
	if s.body != "" {
		e["body"] = s.body
	}
	return e
}

// firstFormat is an event of payload format 1.0 (apigw-request.json there).
func (s sent) firstFormat() map[string]any {
	path, query := s.path()
	multi := http.Header{"Host": {host}, "X-Forwarded-For": {s.source + ", 130.176.1.1"}}
	maps.Copy(multi, s.header)
	single := map[string]string{}
	for name, values := range multi {
		single[name] = values[len(values)-1]
	}
	var queries, multiQueries any
	if query != "" {
		one, many := map[string]string{}, map[string][]string{}
		for pair := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			one[name], many[name] = value, append(many[name], value)
		}
		queries, multiQueries = one, many
	}
	var body any
	if s.body != "" {
		body = s.body
	}
	return map[string]any{
		"resource": "/{proxy+}", "path": path, "httpMethod": s.method, "headers": single, "multiValueHeaders": multi,
		"queryStringParameters": queries, "multiValueQueryStringParameters": multiQueries, "pathParameters": map[string]string{"proxy": path[1:]},
		"requestContext": map[string]any{
			"accountId": "123456789012", "resourceId": "roq9wj", "path": path, "stage": "prod", "domainName": host, "domainPrefix": "abcdefghij",
			"protocol": "HTTP/1.1", "identity": map[string]any{"sourceIp": s.source, "userAgent": "curl/7.88.1", "accessKey": nil},
			"resourcePath": "/{proxy+}", "httpMethod": s.method, "requestTimeEpoch": 1795964901067, "apiId": "gy415nuibc",
		},
		"body": body, "isBase64Encoded": false,
	}
}

func functionURL(s sent) map[string]any {
	path, _ := s.path()
	return s.second(path, "$default", host)
}

var shapes = []shape{
	{"function URL", functionURL},
	{"function URL, body in base64", func(s sent) map[string]any {
		e := functionURL(s)
		if s.body != "" {
			e["body"], e["isBase64Encoded"] = base64.StdEncoding.EncodeToString([]byte(s.body)), true
		}
		return e
	}},
	{"HTTP API, $default stage", func(s sent) map[string]any {
		path, _ := s.path()
		return s.second(path, "$default", "gy415nuibc.execute-api.eu-central-1.amazonaws.com")
	}},
	{"HTTP API, stage behind a domain", func(s sent) map[string]any {
		path, _ := s.path()
		return s.second("/prod"+path, "prod", host)
	}},
	{"REST API behind a domain", sent.firstFormat},
}

// key is a person's, made and used by ssh-keygen.
type key struct {
	t    *testing.T
	file string
	line string
}

func newKey(t *testing.T) key {
	t.Helper()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Fatal("ssh-keygen is missing: make deps installs it")
	}
	k := key{t: t, file: filepath.Join(t.TempDir(), "id")}
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", k.file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	line, err := os.ReadFile(k.file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	k.line = strings.TrimSpace(string(line))
	return k
}

func (k key) sign(namespace string, text []byte) string {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), "ssh-keygen", "-Y", "sign", "-q", "-f", k.file, "-n", namespace)
	cmd.Stdin = bytes.NewReader(text)
	armored, err := cmd.Output()
	if err != nil {
		k.t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(armored)), "\n")
	return strings.Join(lines[1:len(lines)-1], "")
}

// request is a signed one, at a time.
func (k key) request(method, uri, body string, at time.Time) sent {
	k.t.Helper()
	s := api.Signed{Method: method, URL: origin + uri, Time: at.UTC().Format("2006-01-02T15:04:05Z"), Nonce: rand.Text(), Body: []byte(body)}
	h := http.Header{api.HeaderTime: {s.Time}, api.HeaderNonce: {s.Nonce}, api.HeaderSignature: {k.sign(api.Namespace, s.Text())}}
	if body != "" {
		h.Set("Content-Type", "application/json")
	}
	return sent{method, uri, h, body, source}
}

// stateless is a configuration with a gate; more is of gate.serve.
func stateless(group string, hanako, root key, more string) string {
	return fmt.Sprintf(`version: 1
gate: {url: %s, serve: {admins: [admins], %s}}
people:
  hanako: {groups: [ops], keys: [%q], login: hanako@example.com}
  root: {groups: [admins], keys: [%q]}
targets:
  web: {aws: {region: eu-central-1, group: %s}, allow: [ops], at_most: 8h}
  box: {agent: box-1, allow: [ops]}
`, origin, more, hanako.line, root.line, group)
}

// replied is what the function answers a request with.
type replied struct {
	Status    int                 `json:"statusCode"`
	Headers   map[string]string   `json:"headers"`
	MultiHead map[string][]string `json:"multiValueHeaders"`
	Cookies   []string            `json:"cookies"`
	Body      string              `json:"body"`
	Base64    bool                `json:"isBase64Encoded"`
}

func (r *runtime) request(event map[string]any) replied {
	r.t.Helper()
	return r.requestWithin(event, 30*time.Second)
}

func (r *runtime) requestWithin(event map[string]any, within time.Duration) (res replied) {
	r.t.Helper()
	raw, err := json.Marshal(event)
	if err != nil {
		r.t.Fatal(err)
	}
	a := r.send(string(raw), within)
	if !strings.HasSuffix(a.path, "/response") {
		r.t.Fatalf("%s: %s", a.path, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &res); err != nil {
		r.t.Fatalf("%v: %s", err, a.body)
	}
	return res
}

func (r replied) refused(t *testing.T) (e api.Error) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.Body), &e); err != nil || e.Code == "" {
		t.Fatalf("%v: %+v", err, r)
	}
	return e
}

func read[T any](t *testing.T, r replied) (v T) {
	t.Helper()
	if r.Status != http.StatusOK {
		t.Fatalf("status %d: %s", r.Status, r.Body)
	}
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil {
		t.Fatalf("%v: %s", err, r.Body)
	}
	return v
}

// leases are those on a group's rules: person, prefix and end.
func leases(s *ec2test.Server, group string) (found []string) {
	for _, r := range s.Rules(here) {
		for name, value := range r.Tags {
			if r.Group == group && strings.HasPrefix(name, "sekisho:lease:") {
				found = append(found, r.Prefix.String()+" "+name+" "+value)
			}
		}
	}
	slices.Sort(found)
	return found
}

const openWeb = `{"address":"203.0.113.7","seconds":3600,"reason":"look at <the> disk"}`

// TestGate: who signs with ssh-keygen opens, sees and closes a door, through each service
// of AWS that sends requests to functions.
func TestGate(t *testing.T) {
	s := ec2test.Start(t)
	group := s.AddGroup(here, ec2test.Group{})
	hanako, root := newKey(t), newKey(t)
	built(t)
	began := time.Now()
	f := start(t, stateless(group, hanako, root, "session: 12h"), s.Environ(here)...)
	for i, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			ask := func(k key, method, uri, body string) replied {
				t.Helper()
				return f.request(shape.make(k.request(method, uri, body, time.Now())))
			}
			if me := read[api.Me](t, ask(hanako, "GET", "/api/v1/me", "")); me.Person != "hanako" || me.Role != api.RolePerson || me.Via != api.ViaKey || me.Address.String() != source {
				t.Errorf("me: %+v", me)
			}
			if i == 0 {
				t.Logf("from the start of the process to the first answer: %v", time.Since(began))
			}
			before := time.Now()
			g := read[api.Grant](t, ask(hanako, "POST", "/api/v1/doors/web/open", openWeb))
			if left := g.Until.Sub(before); g.State != api.Open || !g.InForce || g.Prefix.String() != source+"/32" || left < time.Hour-3*time.Second || left > time.Hour+time.Second {
				t.Errorf("opened: %+v, for %v", g, left)
			}
			if on := leases(s, group); len(on) != 1 || !strings.Contains(on[0], g.ID) {
				t.Errorf("leases: %v, want %s", on, g.ID)
			}
			if all := read[[]api.Grant](t, ask(hanako, "GET", "/api/v1/grants?all=false", "")); len(all) != 1 || all[0].ID != g.ID || all[0].Rule == "" {
				t.Errorf("grants: %+v", all)
			}
			if all := read[[]api.Grant](t, ask(root, "GET", "/api/v1/grants?all=true", "")); len(all) != 1 || all[0].Person != "hanako" {
				t.Errorf("grants: %+v", all)
			}
			longer := read[api.Grant](t, ask(hanako, "POST", "/api/v1/grants/"+g.ID+"/extend", `{"seconds":7200}`))
			if left := longer.Until.Sub(before); left < 2*time.Hour-3*time.Second || left > 2*time.Hour+10*time.Second {
				t.Errorf("made longer it lasts %v", left)
			}
			closed := read[api.Grant](t, ask(hanako, "POST", "/api/v1/grants/"+g.ID+"/close", ""))
			if closed.State != api.Ended || len(leases(s, group)) != 0 {
				t.Errorf("closed: %+v, leases: %v", closed, leases(s, group))
			}
		})
	}
	var what []string
	for _, entry := range f.logged("audit") {
		e, _ := entry["audit"].(map[string]any)
		what = append(what, fmt.Sprint(e["what"]))
		if e["who"] != "gate" && (e["from"] != source || e["via"] != "key") || e["person"] != "hanako" {
			t.Errorf("audit: %v", e)
		}
	}
	var want []string
	for range shapes {
		want = append(want, "open", "opened", "extend", "close")
	}
	if diff := cmp.Diff(want, what); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	// The same function still reaps.
	over := rule(s, here, group, "203.0.113.9/32", time.Second)
	if got := f.invoke(time.Minute).reaped(t); len(got.Revoked) != 1 || got.Revoked[0].Rule != over {
		t.Errorf("reaped: %+v", got)
	}
}

// TestGateRefuses: what is not signed as it should be, or comes from nowhere, opens nothing
// and says why.
func TestGateRefuses(t *testing.T) {
	s := ec2test.Start(t)
	group := s.AddGroup(here, ec2test.Group{})
	hanako, root, stranger := newKey(t), newKey(t), newKey(t)
	f := start(t, stateless(group, hanako, root, "session: 12h"), s.Environ(here)...)
	const door = "/api/v1/doors/web/open"
	good := func() sent { return hanako.request("POST", door, openWeb, time.Now()) }
	change := func(do func(*sent)) func() map[string]any {
		return func() map[string]any {
			r := good()
			do(&r)
			return functionURL(r)
		}
	}
	first := func(do func(*sent)) func() map[string]any {
		return func() map[string]any {
			r := good()
			do(&r)
			return r.firstFormat()
		}
	}
	tests := []struct {
		name   string
		event  func() map[string]any
		status int
		code   api.Code
	}{
		{"nobody", change(func(r *sent) { r.header = http.Header{"Content-Type": {"application/json"}} }), 401, api.NoIdentity},
		{"a stranger's key", func() map[string]any { return functionURL(stranger.request("POST", door, openWeb, time.Now())) }, 401, api.Unknown},
		{"another body", change(func(r *sent) { r.body = strings.Replace(r.body, "203.0.113.7", "198.51.100.66", 1) }), 401, api.BadSignature},
		{"another door", change(func(r *sent) { r.uri = "/api/v1/doors/box/open" }), 401, api.BadSignature},
		{"a query more", change(func(r *sent) { r.uri += "?x=1" }), 401, api.BadSignature},
		{"another method", change(func(r *sent) { r.method = "GET"; r.uri = "/api/v1/doors" }), 401, api.BadSignature},
		{"another nonce", change(func(r *sent) { r.header.Set(api.HeaderNonce, rand.Text()) }), 401, api.BadSignature},
		{"another time", change(func(r *sent) {
			r.header.Set(api.HeaderTime, time.Now().Add(time.Minute).UTC().Format("2006-01-02T15:04:05Z"))
		}), 401, api.BadSignature},
		{"two nonces", change(func(r *sent) { r.header.Add(api.HeaderNonce, rand.Text()) }), 401, api.BadSignature},
		{"two nonces, each on its line", first(func(r *sent) { r.header.Add(api.HeaderNonce, rand.Text()) }), 401, api.BadSignature},
		{"a host's signature", change(func(r *sent) {
			r.header.Set(api.HeaderSignature, hanako.sign(api.HostNamespace, api.Signed{Method: r.method, URL: origin + r.uri, Time: r.header.Get(api.HeaderTime), Nonce: r.header.Get(api.HeaderNonce), Body: []byte(r.body)}.Text()))
		}), 401, api.BadSignature},
		{"signed too long ago", func() map[string]any {
			return functionURL(hanako.request("POST", door, openWeb, time.Now().Add(-api.Skew-5*time.Second)))
		}, 401, api.Clock},
		{"signed in the future", func() map[string]any {
			return functionURL(hanako.request("POST", door, openWeb, time.Now().Add(api.Skew+time.Minute)))
		}, 401, api.Clock},
		{"no address", func() map[string]any {
			return functionURL(hanako.request("POST", door, `{"seconds":3600}`, time.Now()))
		}, 400, api.BadRequest},
		{"no body", func() map[string]any { return functionURL(hanako.request("POST", door, "", time.Now())) }, 400, api.BadRequest},
		{"not theirs", func() map[string]any { return functionURL(root.request("POST", door, openWeb, time.Now())) }, 403, api.NotAllowed},
		{"a host's door", func() map[string]any {
			return functionURL(hanako.request("POST", "/api/v1/doors/box/open", openWeb, time.Now()))
		}, 403, api.Forbidden},
		{"another name of the host", change(func(r *sent) { r.header.Set("Host", "gate.example.net") }), 421, api.BadRequest},
		{"another site", change(func(r *sent) { r.header.Set("Sec-Fetch-Site", "cross-site") }), 403, api.CrossOrigin},
		{"an unknown method", change(func(r *sent) { r.method = "BREW" }), 405, api.BadMethod},
		{"no method", change(func(r *sent) { r.method = "" }), 405, api.BadMethod},
		{"no path", change(func(r *sent) { r.uri = "" }), 405, api.BadMethod},
		{"a proxy's path", change(func(r *sent) { r.uri = "http://example.com/" }), 400, api.BadRequest},
		{"nothing there", change(func(r *sent) { r.uri = "/api/v1/nothing" }), 404, api.NotFound},
		{"a large body", change(func(r *sent) { r.body = strings.Repeat("x", 5<<20) }), 413, api.TooLarge},
		{"a large body in base64", func() map[string]any {
			e := functionURL(good())
			e["body"], e["isBase64Encoded"] = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 4<<20)), true
			return e
		}, 413, api.TooLarge},
		{"not base64", func() map[string]any {
			e := functionURL(good())
			e["isBase64Encoded"] = true
			return e
		}, 400, api.BadRequest},
		{"from no address", change(func(r *sent) { r.source = "test-invoke-source-ip" }), 400, api.BadRequest},
		{"from nobody's address", change(func(r *sent) { r.source = "0.0.0.0" }), 400, api.BadRequest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := f.request(test.event())
			if e := got.refused(t); got.Status != test.status || e.Code != test.code {
				t.Errorf("got %d %+v, want %d %s", got.Status, e, test.status, test.code)
			}
			if on := leases(s, group); len(on) != 0 {
				t.Fatalf("leases: %v", on)
			}
		})
	}
	t.Run("sent once more", func(t *testing.T) {
		r := functionURL(good())
		g := read[api.Grant](t, f.request(r))
		if e := f.request(r).refused(t); e.Code != api.Replayed {
			t.Errorf("got %+v", e)
		}
		if on := leases(s, group); len(on) != 1 || !strings.Contains(on[0], g.ID) {
			t.Errorf("leases: %v", on)
		}
	})
}

// TestReplayElsewhere: another process of the function does not know what the first has
// seen. What is sent once more there is the same lease, with the same end.
func TestReplayElsewhere(t *testing.T) {
	s := ec2test.Start(t)
	group := s.AddGroup(here, ec2test.Group{})
	hanako, root := newKey(t), newKey(t)
	config := stateless(group, hanako, root, "session: 12h")
	one, two := start(t, config, s.Environ(here)...), start(t, config, s.Environ(here)...)
	r := hanako.request("POST", "/api/v1/doors/web/open", openWeb, time.Now().Add(-time.Minute))
	first := read[api.Grant](t, one.request(functionURL(r)))
	if left := time.Until(first.Until); left > 59*time.Minute+time.Second {
		t.Errorf("it lasts %v, an hour from when it was signed", left)
	}
	before := leases(s, group)
	r.source = "198.51.100.66" // whoever sends it
	again := read[api.Grant](t, two.request(functionURL(r)))
	if again.ID != first.ID || !again.Until.Equal(first.Until.Truncate(time.Second)) || again.Prefix != first.Prefix {
		t.Errorf("sent again: %+v\nwas %+v", again, first)
	}
	if diff := cmp.Diff(before, leases(s, group)); diff != "" || len(before) != 1 {
		t.Errorf("-before +after:\n%s", diff)
	}
}

// TestClientAddress: the address of a request is whom AWS took the connection from; a
// header is believed of those alone whom the configuration lists.
func TestClientAddress(t *testing.T) {
	const proxied = "proxies: [192.0.2.0/24], forwarded: x_forwarded_for"
	tests := []struct {
		name, serve, source string
		header              http.Header
		want                string
	}{
		{"plain", "session: 12h", source, nil, source},
		{"IPv6", "session: 12h", "2001:db8::7", nil, "2001:db8::7"},
		{"forged", "session: 12h", source, http.Header{"X-Forwarded-For": {"198.51.100.66"}, "Forwarded": {"for=198.51.100.66"}, "Cloudfront-Viewer-Address": {"198.51.100.66:1"}, "X-Real-Ip": {"198.51.100.66"}}, source},
		{"forged past proxies", proxied, source, http.Header{"X-Forwarded-For": {"198.51.100.66"}}, source},
		{"by a proxy", proxied, "192.0.2.5", http.Header{"X-Forwarded-For": {"198.51.100.66, 203.0.113.7, 192.0.2.5"}}, source},
		{"forged through a proxy", proxied, "192.0.2.5", http.Header{"X-Forwarded-For": {"192.0.2.9, 198.51.100.66, 203.0.113.7"}}, source},
	}
	group := "sg-0123456789abcdef0"
	hanako, root := newKey(t), newKey(t)
	running := map[string]*runtime{}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, shape := range shapes {
				f := running[test.serve]
				if f == nil {
					f = start(t, stateless(group, hanako, root, test.serve), "AWS_REGION=eu-central-1")
				}
				r := sent{"GET", "/api/v1/address", http.Header{}, "", test.source}
				maps.Copy(r.header, test.header)
				if got := read[api.Seen](t, f.request(shape.make(r))); got.Address.String() != test.want {
					t.Errorf("%s: %v, want %s", shape.name, got.Address, test.want)
				}
			}
		})
	}
}

// TestGateDeadline: where AWS does not answer in time, the request is answered before the
// function is ended, and what was begun has its end in its tags. Asking again is asking once.
func TestGateDeadline(t *testing.T) {
	s := ec2test.Start(t)
	group := s.AddGroup(here, ec2test.Group{})
	hanako, root := newKey(t), newKey(t)
	f := start(t, stateless(group, hanako, root, "session: 12h"), s.Environ(here)...)
	_ = f.request(functionURL(hanako.request("GET", "/api/v1/me", "", time.Now())))
	remove := s.Inject(ec2test.Fault{Action: "AuthorizeSecurityGroupIngress", After: true, Delay: time.Hour})
	const body = `{"address":"203.0.113.7","seconds":3600,"lease":"abcdefghijklmnop"}`
	const within = toTell + 2*time.Second
	began := time.Now()
	got := f.requestWithin(functionURL(hanako.request("POST", "/api/v1/doors/web/open", body, time.Now())), within)
	if took := time.Since(began); took > within {
		t.Errorf("it took %v", took)
	}
	if e := got.refused(t); got.Status != 502 || e.Code != api.Unreachable || e.Hint == "" {
		t.Errorf("got %d %+v", got.Status, e)
	}
	made := slices.DeleteFunc(s.Rules(here), func(r ec2test.Rule) bool { return r.Egress })
	if len(made) != 1 {
		t.Errorf("rules: %+v", made)
	}
	for _, r := range made {
		if ours, is := (securitygroup.Rule{Tags: r.Tags}).Ours(); !is || len(ours.Leases) != 1 || ours.Leases[0].Person != "hanako" || time.Until(ours.Leases[0].Until) > time.Hour+time.Second {
			t.Errorf("half a rule: %+v", r)
		}
	}
	remove()
	g := read[api.Grant](t, f.request(functionURL(hanako.request("POST", "/api/v1/doors/web/open", body, time.Now()))))
	if on := leases(s, group); len(on) != 1 || !strings.Contains(on[0], g.ID) {
		t.Errorf("leases: %v, want %s", on, g.ID)
	}
}

// provider is an identity provider.
type provider struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	var err error
	if p.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]any{
				"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
				"id_token_signing_alg_values_supported": []string{"RS256"},
			})
		case "/keys":
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{
				"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1",
				"n": base64.RawURLEncoding.EncodeToString(p.key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(p.key.E)).Bytes()),
			}}})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// token is an ID token that the provider gives; more is put over its claims.
func (p *provider) token(t *testing.T, key *rsa.PrivateKey, more map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": p.URL, "sub": "248289761001", "aud": "sekisho", "email": "Hanako@example.com", "email_verified": true,
		"iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
	}
	maps.Copy(claims, more)
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	text := part(map[string]string{"alg": "RS256", "kid": "1", "typ": "JWT"}) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// TestBearer: who has a token of the provider's opens a door by it, for the address that
// they come from.
func TestBearer(t *testing.T) {
	s := ec2test.Start(t)
	group := s.AddGroup(here, ec2test.Group{})
	p := newProvider(t)
	f := start(t, stateless(group, newKey(t), newKey(t), fmt.Sprintf("oidc: {issuer: %q, client_id: sekisho, client_secret_file: /nowhere}", p.URL)), s.Environ(here)...)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		token string
		code  api.Code // "": it opens
	}{
		{"of another key", p.token(t, other, nil), api.BadSignature},
		{"of another audience", p.token(t, p.key, map[string]any{"aud": "elsewhere"}), api.BadSignature},
		{"that has ended", p.token(t, p.key, map[string]any{"exp": time.Now().Add(-time.Hour).Unix(), "iat": time.Now().Add(-2 * time.Hour).Unix()}), api.Expired},
		{"of nobody here", p.token(t, p.key, map[string]any{"email": "mallory@example.com"}), api.Unknown},
		{"whose address is not verified", p.token(t, p.key, map[string]any{"email_verified": false}), api.Forbidden},
		{"that is none", "x.y.z", api.BadSignature},
		{"that is good", p.token(t, p.key, nil), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{"Authorization": {"Bearer " + test.token}, "Content-Type": {"application/json"}}
			got := f.request(functionURL(sent{"POST", "/api/v1/doors/web/open", h, `{"seconds":60}`, source}))
			if test.code != "" {
				if e := got.refused(t); e.Code != test.code {
					t.Errorf("got %+v, want %s", e, test.code)
				}
				if on := leases(s, group); len(on) != 0 {
					t.Errorf("leases: %v", on)
				}
				return
			}
			if g := read[api.Grant](t, got); g.Person != "hanako" || g.Prefix != netip.MustParsePrefix(source+"/32") {
				t.Errorf("opened: %+v", g)
			}
		})
	}
}

// TestReadme: the lines of README.md open a door, with curl and ssh-keygen.
func TestReadme(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("LEFT OUT: curl is missing: the lines of README.md are not tried")
	}
	raw, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var lines string
	for _, block := range strings.Split(string(raw), "```sh\n")[1:] {
		if block, _, whole := strings.Cut(block, "```"); whole && strings.Contains(block, "Sekisho-Signature") {
			lines += block
		}
	}
	if lines == "" {
		t.Fatal("there are no such lines")
	}
	s := ec2test.Start(t)
	group := s.AddGroup(here, ec2test.Group{})
	hanako := newKey(t)
	var f *runtime
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Header.Set("Host", r.Host)
		got := f.request(functionURL(sent{r.Method, r.URL.RequestURI(), r.Header, string(body), source}))
		for name, value := range got.Headers {
			w.Header().Set(name, value)
		}
		w.WriteHeader(got.Status)
		_, _ = io.WriteString(w, got.Body)
	}))
	defer front.Close()
	url := "http://" + front.Listener.Addr().String()
	f = start(t, strings.Replace(stateless(group, hanako, newKey(t), "session: 12h"), origin, url, 1), s.Environ(here)...)
	front.Start()
	lines = strings.NewReplacer("https://abcdefghij.lambda-url.eu-central-1.on.aws", url, "~/.ssh/id_ed25519", hanako.file).Replace(lines)
	var said strings.Builder
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", lines)
	cmd.Stderr = &said
	out, err := cmd.Output()
	var g api.Grant
	if err != nil || json.Unmarshal(out, &g) != nil || g.State != api.Open || g.Prefix.String() != source+"/32" {
		t.Errorf("%v: %s%s", err, out, said.String())
	}
	if on := leases(s, group); len(on) != 1 {
		t.Errorf("leases: %v", on)
	}
}

// TestNoGate: a function without a gate says so, and one that something unknown sends
// requests to fails.
func TestNoGate(t *testing.T) {
	f := start(t, "version: 1\n", ec2test.Start(t).Environ(here)...)
	got := f.request(functionURL(sent{"GET", "/", http.Header{}, "", source}))
	if e := got.refused(t); got.Status != 404 || e.Code != api.NotFound || !strings.Contains(e.Hint, "gate.serve") {
		t.Errorf("got %d %+v", got.Status, e)
	}
	balancer := `{"requestContext":{"elb":{"targetGroupArn":"arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/x/6d0ecf831eec9f09"}},
"httpMethod":"GET","path":"/","headers":{"host":"x","x-forwarded-for":"203.0.113.7"},"body":"","isBase64Encoded":false}`
	if message := f.send(balancer, time.Minute).failed(t); !strings.Contains(message, "load balancer") {
		t.Errorf("got %q", message)
	}
}
