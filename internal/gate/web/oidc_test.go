package web

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"sekisho/internal/gate/api"
	"sekisho/internal/oidc"
)

// provider says that whoever comes with a code is who the code names. What real ones say,
// package oidc's tests have.
type provider struct{ n int }

func (p *provider) Begin(context.Context) (string, []byte, error) {
	p.n++
	state := strings.Repeat("s", p.n)
	return "https://id.example.com/authorize?state=" + state + "&scope=openid", []byte(state), nil
}

func (p *provider) Finish(_ context.Context, pending []byte, q url.Values) (oidc.Identity, error) {
	if q.Get("state") != string(pending) {
		return oidc.Identity{}, &oidc.Error{Reason: oidc.Stale, What: "a secret of the inside"}
	}
	return p.VerifyIDToken(context.Background(), q.Get("code"))
}

func (p *provider) VerifyIDToken(_ context.Context, raw string) (oidc.Identity, error) {
	switch raw {
	case "":
		return oidc.Identity{}, &oidc.Error{Reason: oidc.Denied, What: "access_denied"}
	case "down":
		return oidc.Identity{}, &oidc.Error{Reason: oidc.Unreachable, What: "dial tcp 10.9.9.9: a secret of the inside"}
	case "old":
		return oidc.Identity{}, &oidc.Error{Reason: oidc.Expired, What: "it has ended"}
	case "forged":
		return oidc.Identity{}, &oidc.Error{Reason: oidc.BadToken, What: "a secret of the inside"}
	}
	return oidc.Identity{Issuer: "https://id.example.com", Subject: "1", Person: raw}, nil
}

func newProvidedWorld(t *testing.T) *world {
	w := newWorld(t, func(o *Options, s *Settings) { o.Provider, s.Provider = &provider{}, "Example ID" })
	for name, login := range map[string]string{"keiko": "keiko@example.com", "out": "out@example.com"} {
		if _, err := w.gate.AddPerson(t.Context(), w.who("root"), api.PersonEdit{Name: name, Groups: []string{"ops"}, Login: login}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.gate.Disable(t.Context(), w.who("root"), "out", api.DisableRequest{}); err != nil {
		t.Fatal(err)
	}
	return w
}

// leave begins to sign in, and returns the state that the provider gets.
func (b *browser) leave(next string) string {
	b.w.t.Helper()
	got := b.form("/signin/oidc", url.Values{"next": {next}}.Encode())
	text := read(b.w.t, got)
	to := strings.TrimPrefix(got.Header.Get("Refresh"), "0; url=")
	u, err := url.Parse(to)
	if got.StatusCode != 200 || err != nil || u.Host != "id.example.com" || !strings.Contains(text, strings.ReplaceAll(to, "&", "&amp;")) {
		b.w.t.Fatalf("%d %v %s", got.StatusCode, got.Header, text)
	}
	return u.Query().Get("state")
}

// back is how a browser comes back from the provider.
func (b *browser) back(state, code string) *answer {
	b.w.t.Helper()
	r := b.w.request(get, Callback+"?"+url.Values{"state": {state}, "code": {code}}.Encode(), b.name, nil)
	r.Header.Set("Accept", "text/html")
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	got := b.w.do(r)
	for _, c := range got.Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return got
}

func TestOIDC(t *testing.T) {
	w := newProvidedWorld(t)
	b := w.browser("hanako")
	if page := b.page("/signin?next=/doors/web"); !strings.Contains(page, "Example ID") {
		t.Error("the page has no button for the provider")
	}
	got := b.back(b.leave("/doors/web"), "keiko@example.com")
	if got.StatusCode != 303 || got.Header.Get("Location") != "/doors/web" || b.cookies["__Host-sekisho"] == "" || b.cookies["__Host-sekisho-oidc"] != "" {
		t.Fatalf("got %d %v %v", got.StatusCode, got.Header, b.cookies)
	}
	if me := decode[api.Me](t, b.do(w.request(get, api.Version+"/me", "hanako", nil))); me.Person != "keiko" || me.Via != api.ViaOIDC {
		t.Errorf("got %+v", me)
	}
	for _, tt := range []struct {
		name   string
		try    func(*browser) *answer
		status int
		says   string
	}{
		{"elsewhere afterwards is home", func(b *browser) *answer {
			return b.back(b.leave("https://evil.example.com/"), "keiko@example.com")
		}, 303, ""},
		{"another browser's", func(b *browser) *answer {
			other := w.browser("taro")
			state := other.leave("/")
			return b.back(state, "keiko@example.com")
		}, 400, "not begun in this browser"},
		{"another's state in one's own browser", func(b *browser) *answer {
			other := w.browser("taro")
			state := other.leave("/")
			b.leave("/")
			return b.back(state, "keiko@example.com")
		}, 401, "worth nothing here"},
		{"twice", func(b *browser) *answer {
			state := b.leave("/")
			cookie := b.cookies["__Host-sekisho-oidc"]
			b.back(state, "keiko@example.com")
			b.cookies = map[string]string{"__Host-sekisho-oidc": cookie}
			return b.back(state, "keiko@example.com")
		}, 400, "too long ago"},
		{"too late", func(b *browser) *answer {
			state := b.leave("/")
			w.pass(2*ceremonyTime + time.Second)
			return b.back(state, "keiko@example.com")
		}, 400, "too long ago"},
		{"the provider says no", func(b *browser) *answer { return b.back(b.leave("/"), "") }, 403, "did not say who you are"},
		{"the provider is down", func(b *browser) *answer { return b.back(b.leave("/"), "down") }, 502, "does not answer as it should"},
		{"nobody here", func(b *browser) *answer { return b.back(b.leave("/"), "mallory@example.com") }, 401, "nobody here is called that"},
		{"disabled", func(b *browser) *answer { return b.back(b.leave("/"), "out@example.com") }, 403, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := w.browser("hanako")
			got := tt.try(b)
			text := read(t, got)
			if got.StatusCode != tt.status || !strings.Contains(text, tt.says) || strings.Contains(text, "secret") {
				t.Errorf("got %d %s, want %d with %q", got.StatusCode, text, tt.status, tt.says)
			}
			if (b.cookies["__Host-sekisho"] != "") != (tt.status == 303) {
				t.Errorf("signed in: %v", b.cookies)
			}
			if tt.status == 303 && got.Header.Get("Location") != "/" {
				t.Errorf("led to %q", got.Header.Get("Location"))
			}
		})
	}
}

func TestBearer(t *testing.T) {
	w := newProvidedWorld(t)
	for _, tt := range []struct {
		name, header string
		want         api.Code
	}{
		{"a good token", "Bearer keiko@example.com", ""},
		{"one that has ended", "Bearer old", api.Expired},
		{"a forged one", "Bearer forged", api.BadSignature},
		{"nobody's", "Bearer mallory@example.com", api.Unknown},
		{"a disabled person's", "Bearer out@example.com", api.Disabled},
		{"the provider is down", "Bearer down", api.Unreachable},
		{"another scheme", "Basic a2Vpa286eA==", api.NoIdentity},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := w.request(get, api.Version+"/me", "hanako", nil)
			r.Header.Set("Authorization", tt.header)
			got := w.do(r)
			if tt.want == "" {
				if me := decode[api.Me](t, got); me.Person != "keiko" || me.Via != api.ViaOIDC {
					t.Errorf("got %+v", me)
				}
				return
			}
			if e := decode[api.Error](t, got); e.Code != tt.want || strings.Contains(e.Message+e.Hint, "secret") {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// Forged tokens and broken headers are logged, but fill no log.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		request    func(w *world) *http.Request
	}{
		{"forged tokens", "identity provider", func(w *world) *http.Request {
			r := w.request(get, api.Version+"/me", "hanako", nil)
			r.Header.Set("Authorization", "Bearer forged")
			return r
		}},
		{"what a proxy hands on", "request refused", func(w *world) *http.Request {
			w.settings.Trust = Trust{Proxies: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}, Header: Forwarded}
			r := w.request(get, api.Version+"/me", "hanako", nil)
			r.Header.Set("Forwarded", `for="`)
			return r
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newProvidedWorld(t)
			for range 100 {
				w.do(tt.request(w))
			}
			if n := strings.Count(w.log.String(), tt.line); n < 1 || n > 25 {
				t.Errorf("%d lines in the log", n)
			}
		})
	}
}
