package web

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sekisho/internal/gate/api"
	"sekisho/internal/passkey/passkeytest"
)

// browser is one that keeps cookies and has an authenticator.
type browser struct {
	w       *world
	name    string // whose address it has
	cookies map[string]string
	keys    *passkeytest.Authenticator
}

func (w *world) browser(name string) *browser {
	return &browser{w: w, name: name, cookies: map[string]string{}, keys: passkeytest.New(w.settings.URL, passkeytest.ES256)}
}

func (b *browser) do(r *http.Request) *answer {
	b.w.t.Helper()
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	r.Header.Set("Origin", b.w.settings.URL)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
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

func (b *browser) post(path string, v any) *answer {
	b.w.t.Helper()
	if v == nil {
		return b.do(b.w.request(post, api.Version+path, b.name, nil))
	}
	body, err := json.Marshal(v)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return b.do(withJSON(b.w.request(post, api.Version+path, b.name, body)))
}

func (b *browser) form(path, body string) *answer {
	b.w.t.Helper()
	r := withForm(b.w.request(post, path, b.name, []byte(body)))
	r.Header.Set("Accept", "text/html")
	return b.do(r)
}

func (b *browser) page(path string) string {
	b.w.t.Helper()
	r := b.w.request(get, path, b.name, nil)
	r.Header.Set("Accept", "text/html")
	got := b.do(r)
	text := read(b.w.t, got)
	if got.StatusCode != 200 {
		b.w.t.Fatalf("%s: %d %v %s", path, got.StatusCode, got.Header, text)
	}
	return text
}

// enrol makes a passkey by an invitation.
func (b *browser) enrol(token, name string) *answer {
	b.w.t.Helper()
	begun := b.post("/invitations/begin", api.EnrolBegin{Token: token, Name: name})
	if begun.StatusCode != 200 {
		return begun
	}
	c := decode[api.Ceremony](b.w.t, begun)
	response, err := b.keys.Create(c.Options)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return b.post("/invitations/finish", api.EnrolFinish{Token: token, Key: c.Key, Label: "test key", Response: response})
}

func (b *browser) signIn() *answer {
	b.w.t.Helper()
	c := decode[api.Ceremony](b.w.t, b.post("/signin/begin", nil))
	response, err := b.keys.Get(c.Options)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return b.post("/signin/finish", api.SignInFinish{Key: c.Key, Response: response})
}

// The first administrator comes by a link, invites another, who comes by theirs; both sign
// in again.
func TestPasskeys(t *testing.T) {
	w, token := newEmptyWorld(t)
	first := w.browser("root")
	if got := decode[api.Invited](t, first.post("/invitations/show", api.InvitedRequest{Token: token})); got.For != "" || got.Until.IsZero() {
		t.Errorf("got %+v", got)
	}
	if got := first.enrol(token, ""); got.StatusCode != 400 {
		t.Errorf("without a name: %d", got.StatusCode)
	}
	if got := first.enrol(token, "../../etc"); got.StatusCode != 400 {
		t.Errorf("with no name that can be: %d", got.StatusCode)
	}
	got := first.enrol(token, "akiko")
	me := decode[api.Me](t, got)
	if me.Person != "akiko" || me.Role != api.RoleAdmin || me.Via != api.ViaPasskey || me.Until.IsZero() {
		t.Errorf("got %+v", me)
	}
	if again := w.browser("taro").enrol(token, "evil"); again.StatusCode != 404 && again.StatusCode != 410 {
		t.Errorf("the link is good twice: %d", again.StatusCode)
	}
	// A new person, from the pages.
	if got := first.form("/people", "name=hanako&groups=ops"); got.StatusCode != 303 {
		t.Fatal(read(t, got))
	}
	told := first.form("/people/hanako/invite", "")
	text := read(t, told)
	if told.StatusCode != 200 {
		t.Fatal(text)
	}
	_, rest, _ := strings.Cut(text, origin+"/invite#")
	link, _, _ := strings.Cut(rest, "<")
	second := w.browser("hanako")
	// Looking at the link changes nothing.
	for range 3 {
		if page := second.page("/invite/" + link); !strings.Contains(page, link) {
			t.Error("the page does not know the link's token")
		}
		if got := decode[api.Invited](t, second.post("/invitations/show", api.InvitedRequest{Token: link})); got.For != "hanako" {
			t.Errorf("got %+v", got)
		}
	}
	// A ceremony that is given up does not use it up either.
	if got := second.post("/invitations/begin", api.EnrolBegin{Token: link}); got.StatusCode != 200 {
		t.Fatal(read(t, got))
	}
	if me := decode[api.Me](t, second.enrol(link, "root")); me.Person != "hanako" || me.Role != api.RolePerson {
		t.Errorf("got %+v", me)
	}
	if got := w.browser("taro").enrol(link, ""); got.StatusCode != 404 {
		t.Errorf("an invitation is good twice: %d %s", got.StatusCode, read(t, got))
	}
	if page := second.page("/"); !strings.Contains(page, `data-target="web"`) {
		t.Errorf("hanako's doors: %s", page)
	}

	t.Run("a session begins anew", func(t *testing.T) {
		// Somebody has put a session of their own into the browser: it is worth nothing afterwards,
		// to neither of them.
		planted := w.session("lea")
		second.cookies = map[string]string{"__Host-sekisho": planted}
		if me := decode[api.Me](t, second.signIn()); me.Person != "hanako" {
			t.Fatalf("got %+v", me)
		}
		if second.cookies["__Host-sekisho"] == planted {
			t.Error("the token is the one that was there before")
		}
		if got := w.do(w.withSession(w.request(get, api.Version+"/me", "lea", nil), planted)); got.StatusCode != 401 {
			t.Errorf("the planted session lives: %d", got.StatusCode)
		}
	})

	t.Run("a ceremony is good once", func(t *testing.T) {
		b := w.browser("hanako")
		b.keys = second.keys
		c := decode[api.Ceremony](t, b.post("/signin/begin", nil))
		response, err := b.keys.Get(c.Options)
		if err != nil {
			t.Fatal(err)
		}
		finish := api.SignInFinish{Key: c.Key, Response: response}
		if got := b.post("/signin/finish", finish); got.StatusCode != 200 {
			t.Fatal(read(t, got))
		}
		if got := w.browser("taro").post("/signin/finish", finish); got.StatusCode != 404 {
			t.Errorf("the same once more: %d %s", got.StatusCode, read(t, got))
		}
		other := decode[api.Ceremony](t, b.post("/signin/begin", nil))
		if got := b.post("/signin/finish", api.SignInFinish{Key: other.Key, Response: response}); got.StatusCode != 401 {
			t.Errorf("an old response for a new ceremony: %d", got.StatusCode)
		}
		late := decode[api.Ceremony](t, b.post("/signin/begin", nil))
		if response, err = b.keys.Get(late.Options); err != nil {
			t.Fatal(err)
		}
		w.pass(ceremonyTime + time.Second)
		if got := b.post("/signin/finish", api.SignInFinish{Key: late.Key, Response: response}); got.StatusCode != 410 && got.StatusCode != 404 {
			t.Errorf("too late: %d %s", got.StatusCode, read(t, got))
		}
		// One that was begun for something else finishes nothing here.
		enrol := decode[api.Ceremony](t, second.post("/passkeys/begin", nil))
		if got := b.post("/signin/finish", api.SignInFinish{Key: enrol.Key, Response: response}); got.StatusCode != 404 {
			t.Errorf("another kind of ceremony: %d", got.StatusCode)
		}
	})

	t.Run("another's ceremony", func(t *testing.T) {
		begun := decode[api.Ceremony](t, first.post("/passkeys/begin", nil))
		mallory := passkeytest.New(origin, passkeytest.ES256)
		response, err := mallory.Create(begun.Options)
		if err != nil {
			t.Fatal(err)
		}
		if got := second.post("/passkeys/finish", api.PasskeyFinish{Key: begun.Key, Response: response}); got.StatusCode != 404 {
			t.Errorf("a passkey of the administrator's is made by hanako: %d %s", got.StatusCode, read(t, got))
		}
	})

	t.Run("one more passkey, and one less", func(t *testing.T) {
		b := w.browser("hanako")
		b.keys = second.keys
		b.signIn()
		c := decode[api.Ceremony](t, b.post("/passkeys/begin", nil))
		more := passkeytest.New(origin, passkeytest.EdDSA)
		response, err := more.Create(c.Options)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.post("/passkeys/finish", api.PasskeyFinish{Key: c.Key, Label: strings.Repeat("x", 65), Response: response}); got.StatusCode != 400 {
			t.Errorf("a long name: %d", got.StatusCode)
		}
		c = decode[api.Ceremony](t, b.post("/passkeys/begin", nil))
		if response, err = more.Create(c.Options); err != nil {
			t.Fatal(err)
		}
		p := decode[api.Person](t, b.post("/passkeys/finish", api.PasskeyFinish{Key: c.Key, Label: "電話", Response: response}))
		i := slices.IndexFunc(p.Passkeys, func(k api.Passkey) bool { return k.Name == "電話" })
		if len(p.Passkeys) != 2 || i < 0 {
			t.Fatalf("got %+v", p)
		}
		if page := b.page("/account"); !strings.Contains(page, "電話") {
			t.Error("the page does not show it")
		}
		if got := b.form("/account/passkeys/"+p.Passkeys[i].ID+"/delete", ""); got.StatusCode != 303 {
			t.Fatal(read(t, got))
		}
		if page := b.page("/account"); strings.Contains(page, "電話") {
			t.Error("the page still shows it")
		}
		lost := w.browser("hanako")
		lost.keys = more
		if got := lost.signIn(); got.StatusCode != 401 {
			t.Errorf("a deleted passkey signs in: %d", got.StatusCode)
		}
	})

	t.Run("disabled", func(t *testing.T) {
		first.signIn()
		second.signIn()
		if got := first.form("/people/hanako/disable", "reason=left"); got.StatusCode != 303 {
			t.Fatal(read(t, got))
		}
		if got := second.do(w.request(get, api.Version+"/me", "hanako", nil)); got.StatusCode != 401 && got.StatusCode != 403 {
			t.Errorf("their session lives: %d", got.StatusCode)
		}
		if got := second.signIn(); got.StatusCode != 403 {
			t.Errorf("they sign in: %d %s", got.StatusCode, read(t, got))
		}
	})
}

// Who says that their passkey is another's is nobody.
func TestAPasskeyOfNobodys(t *testing.T) {
	w, token := newEmptyWorld(t)
	first := w.browser("root")
	if got := first.enrol(token, "akiko"); got.StatusCode != 200 {
		t.Fatal(read(t, got))
	}
	mallory := w.browser("taro")
	mallory.keys.Handle = first.keys.Handle
	if got := mallory.signIn(); got.StatusCode != 401 || decode[api.Error](t, got).Code != api.Unknown {
		t.Errorf("got %d", got.StatusCode)
	}
	mallory.keys.ID = first.keys.ID
	if got := mallory.signIn(); got.StatusCode != 401 {
		t.Errorf("with the administrator's handle and ID: %d", got.StatusCode)
	}
}
