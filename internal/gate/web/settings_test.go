package web

import (
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/crypto/ssh"

	"sekisho/internal/config"
	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
)

func TestSettingsOf(t *testing.T) {
	for _, tt := range []struct {
		name, yaml string
		want       Settings
	}{
		{
			"the least", "gate: {url: https://gate.example.com, serve: {admins: [root]}}",
			Settings{URL: "https://gate.example.com", Edit: true},
		},
		{
			"all", `
gate:
  url: https://gate.example.com:8443
  serve:
    admins: [root]
    edit: no
    proxies: [10.0.0.0/8, "2001:db8::1"]
    forwarded: x_forwarded_for
    addresses: {ipv4: https://v4.example.com, ipv6: https://v6.example.com}
    oidc: {issuer: https://id.example.com/realm, client_id: gate}
`,
			Settings{
				URL: "https://gate.example.com:8443", IPv4: "https://v4.example.com", IPv6: "https://v6.example.com", Provider: "id.example.com",
				Trust: Trust{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::1/128")}, Header: XForwardedFor},
			},
		},
		{
			"a provider with a name, and RFC 7239", `
gate:
  url: https://gate.example.com
  serve:
    admins: [root]
    proxies: [10.0.0.1]
    forwarded: forwarded
    oidc: {name: Our ID, issuer: https://id.example.com/realm, client_id: gate}
`,
			Settings{
				URL: "https://gate.example.com", Provider: "Our ID", Edit: true,
				Trust: Trust{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}, Header: Forwarded},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := config.Parse("sekisho.yaml", []byte("version: 1\npeople: {root: {}}\n"+tt.yaml))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, SettingsOf(c), cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			if !SettingsOf(c).equal(SettingsOf(c)) {
				t.Error("they are not equal to themselves")
			}
		})
	}
}

// Without a ledger there are no sessions: who signs is served, pages lead nobody in.
func TestStateless(t *testing.T) {
	w := &world{t: t, keys: map[string]ssh.Signer{}, log: &lockedBuffer{}, settings: Settings{URL: origin}}
	w.keys["root"], w.keys["hanako"], w.keys["stranger"] = newKey(t), newKey(t), newKey(t)
	c, err := config.Parse("sekisho.yaml", []byte("version: 1\ngate: {url: "+origin+", serve: {admins: [root]}}\npeople:\n  root: {keys: ['"+line(w.keys["root"])+"']}\n  hanako: {groups: [ops], keys: ['"+line(w.keys["hanako"])+
		"']}\ntargets:\n  web: {aws: {region: eu-central-1, group: sg-0123456789abcdef0}, allow: [ops]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	w.gate = gate.New(gate.Options{
		Config: func() *config.Config { return c }, Logger: slog.New(slog.DiscardHandler), Now: w.time,
		Groups: func(*config.Config) gate.Groups { return memory{} },
	})
	w.Handler = New(Options{Gate: w.gate, Settings: func() Settings { return w.settings }, Logger: quietly(), Now: w.time})
	if me := decode[api.Me](t, w.call("hanako", get, api.Version+"/me", nil)); me.Person != "hanako" {
		t.Errorf("got %+v", me)
	}
	r := w.sign(w.request(get, api.Version+"/me", "hanako", nil), w.keys["hanako"], api.Namespace, nil)
	for i, want := range []int{200, 401} {
		if got := w.do(r.Clone(t.Context())); got.StatusCode != want {
			t.Errorf("time %d: %d", i+1, got.StatusCode)
		}
	}
	own := api.OpenRequest{Address: netip.MustParseAddr("203.0.113.7")}
	if g := decode[api.Grant](t, w.call("hanako", post, api.Version+"/doors/web/open", own)); g.State != api.Open {
		t.Errorf("got %+v", g)
	}
	if got := w.call("hanako", post, api.Version+"/doors/web/open", nil); got.StatusCode != 400 {
		t.Errorf("signed, without an address: %d %s", got.StatusCode, read(t, got))
	}
	for path, want := range map[string]int{"/signin": 200, "/healthz": 200, "/": 303, addressPath: 200} {
		r := w.request(get, path, "hanako", nil)
		r.Header.Set("Accept", "text/html")
		if got := w.do(r); got.StatusCode != want {
			t.Errorf("%s: %d %s", path, got.StatusCode, read(t, got))
		}
	}
	for _, path := range []string{"/signin/begin", "/invitations/begin"} {
		if got := w.do(withJSON(w.request(post, api.Version+path, "hanako", []byte(`{"token":"x"}`)))); got.StatusCode != 404 && got.StatusCode != 400 {
			t.Errorf("%s: %d %s", path, got.StatusCode, read(t, got))
		}
	}
	if got := w.do(w.withSession(w.request(get, api.Version+"/me", "hanako", nil), "guessed")); got.StatusCode != 401 {
		t.Errorf("a session: %d", got.StatusCode)
	}
}

// Wherever a browser is led after it has signed in, it is ours.
func FuzzLocal(f *testing.F) {
	for _, s := range []string{"/doors/web?x=1#y", "//evil.example.com", `/\evil.example.com`, "/\t/evil.example.com", "https:evil.example.com", "/%5cevil", "/a/..//evil.example.com"} {
		f.Add(s)
	}
	base, err := url.Parse(origin + "/signin")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, next string) {
		got := local(next)
		u, err := base.Parse(got)
		if err != nil || u.Scheme != "https" || u.Host != "gate.example.com" || u.User != nil {
			t.Fatalf("%q leads to %v, %v", next, u, err)
		}
		// Browsers take a backslash for a slash, and leave out tabs and line ends.
		if len(got) > 1 && (got[1] == '/' || got[1] == '\\') || !http1(got) {
			t.Fatalf("%q is %q", next, got)
		}
	})
}

// http1 reports whether s can stand in a header.
func http1(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

var _ http.Handler = (*Handler)(nil)
