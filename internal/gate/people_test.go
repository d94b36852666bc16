package gate

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/notify"
)

func line(t testing.TB, seed byte) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(newKey(t, seed))))
}

func TestEditPeople(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		ctx := t.Context()
		p, err := w.AddPerson(ctx, ann, api.PersonEdit{Name: "jiro", Groups: []string{"ops"}, Fixed: []string{"203.0.113.77"}, Login: "jiro@example.com", Keys: []string{line(t, 1) + " jiro@laptop"}})
		if err != nil {
			t.Fatal(err)
		}
		want := api.Person{
			Name: "jiro", Groups: []string{"ops"}, Fixed: []string{"203.0.113.77/32"}, Login: "jiro@example.com", Role: api.RolePerson, Passkeys: []api.Passkey{},
			Keys: []api.Key{{Fingerprint: ssh.FingerprintSHA256(newKey(t, 1)), Type: "ssh-ed25519", Line: line(t, 1) + " jiro@laptop"}},
		}
		p.Seen = time.Time{}
		if diff := cmp.Diff(want, p); diff != "" {
			t.Error(diff)
		}
		if name, err := w.PersonOfKey(ctx, newKey(t, 1), netip.Addr{}); err != nil || name != "jiro" {
			t.Errorf("got %q, %v", name, err)
		}
		jiro := Who{Person: "jiro", Role: api.RolePerson, Via: api.ViaKey, From: netip.MustParseAddr("192.0.2.3")}
		o := w.open(jiro, "web", api.OpenRequest{})
		seen := func(name string) (list, one bool) { // what others did about them is nothing that they did
			people, err := w.People(ctx, ann)
			p, err2 := w.Person(ctx, ann, name)
			i := slices.IndexFunc(people, func(p api.Person) bool { return p.Name == name })
			if err := errors.Join(err, err2); err != nil || i < 0 {
				t.Fatal(i, err)
			}
			return !people[i].Seen.IsZero(), !p.Seen.IsZero()
		}
		if list, one := seen("jiro"); !list || !one {
			t.Errorf("jiro, who opened a door by a key, was seen: %v in the list, %v", list, one)
		}
		if _, err := w.Invite(ctx, ann, "hanako"); err != nil {
			t.Fatal(err)
		}
		if list, one := seen("hanako"); list || one {
			t.Errorf("hanako, who was invited, was seen: %v in the list, %v", list, one)
		}

		for _, tt := range []struct {
			name string
			who  Who
			e    api.PersonEdit
			code api.Code
		}{
			{"by who is no administrator", hanako, api.PersonEdit{Name: "x"}, api.Forbidden},
			{"who is there", ann, api.PersonEdit{Name: "jiro"}, api.Conflict},
			{"who is declared", ann, api.PersonEdit{Name: "hanako"}, api.Declared},
			{"no name", ann, api.PersonEdit{Name: "claims of hanako"}, api.BadRequest},
			{"a name of a group", ann, api.PersonEdit{Name: "ops"}, api.BadRequest},
			{"another's key", ann, api.PersonEdit{Name: "x", Keys: []string{line(t, 1)}}, api.BadRequest},
			{"another's login", ann, api.PersonEdit{Name: "x", Login: "JIRO@example.com"}, api.BadRequest},
			{"a key that is none", ann, api.PersonEdit{Name: "x", Keys: []string{"ssh-ed25519 AAAA"}}, api.BadRequest},
			{"a key with options", ann, api.PersonEdit{Name: "x", Keys: []string{`command="id" ` + line(t, 2)}}, api.BadRequest},
			{"two keys in one", ann, api.PersonEdit{Name: "x", Keys: []string{line(t, 2) + "\n" + line(t, 3)}}, api.BadRequest},
			{"an address that is none", ann, api.PersonEdit{Name: "x", Fixed: []string{"10.0.0"}}, api.BadRequest},
			{"everybody's address", ann, api.PersonEdit{Name: "x", Fixed: []string{"0.0.0.0/0"}}, api.BadRequest},
			{"YAML in a group", ann, api.PersonEdit{Name: "x", Groups: []string{"ops]\nkeys: [x"}}, api.BadRequest},
		} {
			_, err := w.AddPerson(ctx, tt.who, tt.e)
			refuses(t, tt.name, err, tt.code)
		}

		if p, err = w.EditPerson(ctx, ann, "jiro", api.PersonEdit{Groups: []string{"guests"}}); err != nil || len(p.Keys) != 0 || !slices.Equal(p.Groups, []string{"guests"}) {
			t.Errorf("got %+v, %v", p, err)
		}
		passes(5 * time.Second)
		w.lets() // what the edit took away
		if r := w.row(o.ID); r.Why != "policy" {
			t.Errorf("got %+v", r)
		}
		_, err = w.PersonOfKey(ctx, newKey(t, 1), netip.Addr{})
		refuses(t, "the key that was removed", err, api.Unknown)

		refuses(t, "oneself", w.DeletePerson(ctx, ann, "ann"), api.Declared)
		if err := w.DeletePerson(ctx, ann, "jiro"); err != nil {
			t.Fatal(err)
		}
		_, err = w.Person(ctx, ann, "jiro")
		refuses(t, "who was removed", err, api.NotFound)
		if diff := cmp.Diff([]string{"person.add", "person.invite", "person.edit", "person.delete"}, slices.DeleteFunc(w.whats(""), func(s string) bool { return !strings.HasPrefix(s, "person.") })); diff != "" {
			t.Error(diff)
		}
	})
}

func TestEditTargets(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		ctx := t.Context()
		const config = "aws: {region: eu-central-1, group: sg-0123456789abcdef5}\nallow: [ops]\n"
		if _, err := w.EditTarget(ctx, ann, "new", api.TargetEdit{Config: config}); err != nil {
			t.Fatal(err)
		}
		o := w.open(hanako, "new", api.OpenRequest{})
		w.lets("hanako sg-0123456789abcdef5 203.0.113.7/32")
		_, err := w.EditTarget(ctx, hanako, "new", api.TargetEdit{Config: config})
		refuses(t, "by who is no administrator", err, api.Forbidden)
		_, err = w.EditTarget(ctx, ann, "web", api.TargetEdit{Config: config})
		refuses(t, "that is declared", err, api.Declared)
		_, err = w.EditTarget(ctx, ann, "other", api.TargetEdit{Config: config})
		refuses(t, "the same door", err, api.BadRequest)
		_, err = w.EditTarget(ctx, ann, "new", api.TargetEdit{Config: "allow: ["})
		refuses(t, "no YAML", err, api.BadRequest)

		// It is somewhere else now: what was open is closed where it was.
		if _, err := w.EditTarget(ctx, ann, "new", api.TargetEdit{Config: strings.Replace(config, "ef5", "ef6", 1)}); err != nil {
			t.Fatal(err)
		}
		passes(5 * time.Second)
		w.lets()
		if r := w.row(o.ID); r.State != api.Ended || r.Why != "policy" {
			t.Errorf("got %+v", r)
		}
		w.open(hanako, "new", api.OpenRequest{})
		if err := w.DeleteTarget(ctx, ann, "new"); err != nil {
			t.Fatal(err)
		}
		passes(5 * time.Second)
		w.lets()
		refuses(t, "that is gone", w.DeleteTarget(ctx, ann, "new"), api.NotFound)
		refuses(t, "that is declared", w.DeleteTarget(ctx, ann, "web"), api.Declared)
	})
}

// What is declared wins, and administrators see what does not count.
func TestDeclaredWins(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		ctx := t.Context()
		if _, err := w.AddPerson(ctx, ann, api.PersonEdit{Name: "jiro", Groups: []string{"ops"}, Keys: []string{line(t, 1)}}); err != nil {
			t.Fatal(err)
		}
		w.configure(strings.Replace(doors, "  otto: {}", "  otto: {keys: ["+line(t, 1)+"]}\n  jiro: {groups: [guests]}", 1))
		if p, err := w.Person(ctx, ann, "jiro"); err != nil || !p.Declared || !slices.Equal(p.Groups, []string{"guests"}) {
			t.Errorf("got %+v, %v", p, err)
		}
		if name, err := w.PersonOfKey(ctx, newKey(t, 1), netip.Addr{}); err != nil || name != "otto" {
			t.Errorf("got %q, %v", name, err)
		}
		if f, err := w.Findings(ctx, ann); err != nil || len(f) != 1 || !strings.Contains(f[0], `"jiro"`) {
			t.Errorf("got %q, %v", f, err)
		}
		_, err := w.Findings(ctx, hanako)
		refuses(t, "for others", err, api.Forbidden)

		// They lose the key alone.
		w.configure(strings.Replace(doors, "  otto: {}", "  otto: {keys: ["+line(t, 1)+"]}", 1))
		if name, err := w.PersonOfKey(ctx, newKey(t, 1), netip.Addr{}); err != nil || name != "otto" {
			t.Errorf("got %q, %v", name, err)
		}
		if f, err := w.Findings(ctx, ann); err != nil || len(f) != 1 || !strings.Contains(f[0], "remove it here") {
			t.Errorf("got %q, %v", f, err)
		}
		if role := w.RoleOf("jiro"); role != api.RolePerson {
			t.Errorf("got %q", role)
		}
	})
}

// A key that two have, neither of whom is declared, is nobody's.
func TestKeyOfTwo(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		ctx := t.Context()
		err := w.ledger.Write(ctx, func(tx *ledger.Tx) error { // which no edit does
			for _, name := range []string{"jiro", "saburo"} {
				if _, err := tx.PutPerson(ledger.Person{Name: name, Config: []byte("keys: ['" + line(t, 1) + "']\nlogin: j@example.com\n")}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		passes(10 * time.Second)
		_, err = w.PersonOfKey(ctx, newKey(t, 1), netip.Addr{})
		refuses(t, "a key of two", err, api.Unknown)
		_, err = w.PersonOfLogin(ctx, Login{Login: "j@example.com"}, netip.Addr{})
		refuses(t, "a login of two", err, api.Unknown)
		if f, err := w.Findings(ctx, ann); err != nil || len(f) != 2 || !strings.Contains(f[0], "nobody's") || !strings.Contains(f[1], "nobody's") {
			t.Errorf("got %q, %v", f, err)
		}
	})
}

func TestEditIsOff(t *testing.T) {
	in(t, strings.Replace(doors, "groups: [guests, ops, leads]}", "groups: [guests, ops, leads], edit: no}", 1), func(t *testing.T, w *world) {
		_, err := w.AddPerson(t.Context(), ann, api.PersonEdit{Name: "jiro"})
		refuses(t, "add", err, api.Declared)
		_, err = w.EditTarget(t.Context(), ann, "new", api.TargetEdit{})
		refuses(t, "edit", err, api.Declared)
	})
}

// Strangers are counted, and cannot fill the audit.
func TestStrangers(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		for i := range 5000 {
			_, err := w.PersonOfKey(t.Context(), newKey(t, 77), netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}))
			refuses(t, "a stranger", err, api.Unknown)
		}
		passes(2*strangersEvery + time.Second)
		all, err := w.Audit(t.Context(), ann, Filter{What: "key.unknown"})
		if err != nil || len(all) != 1 || !strings.Contains(all[0].Why, "5000 requests") || all[0].OK {
			t.Errorf("got %+v, %v", all, err)
		}
		if err := w.ledger.Write(t.Context(), func(tx *ledger.Tx) error {
			for range 2*auditPage + 7 {
				if _, err := tx.Append(api.Entry{Who: "gate", What: "stuck"}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		var last, count int64
		if err := w.AuditAll(t.Context(), ann, func(e api.Entry) error {
			if e.Seq != last+1 {
				t.Errorf("%d comes after %d", e.Seq, last)
			}
			last, count = e.Seq, count+1
			return nil
		}); err != nil || count < 2*auditPage+7 {
			t.Errorf("%d entries, %v", count, err)
		}
		if err := w.AuditAll(t.Context(), ann, func(api.Entry) error { return errDown }); !errors.Is(err, errDown) {
			t.Errorf("who stopped it gets %v", err)
		}
		refuses(t, "for others", w.AuditAll(t.Context(), hanako, nil), api.Forbidden)
		// Nor can those who are known.
		for range 200 {
			_, err := w.Open(t.Context(), otto, "web", api.OpenRequest{})
			refuses(t, "refused", err, api.NotAllowed)
		}
		if all, err = w.Audit(t.Context(), ann, Filter{What: "open.refused", Limit: 1000}); err != nil || len(all) != 30 {
			t.Errorf("%d entries, %v", len(all), err)
		}
	})
}

func TestSessions(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		ctx := t.Context()
		a, s, err := w.NewSession(ctx, "hanako", api.ViaPasskey, hanako.From, "browser\x1b[31m"+strings.Repeat("x", 500))
		if err != nil || time.Until(s.Until) != sessionTime || len(s.Agent) > maxAgent || strings.Contains(s.Agent, "\x1b") {
			t.Errorf("got %+v, %v", s, err)
		}
		b, _, _ := w.NewSession(ctx, "hanako", api.ViaOIDC, hanako.From, "")
		c, _, _ := w.NewSession(ctx, "taro", api.ViaPasskey, taro.From, "")
		_, _, err = w.NewSession(ctx, "nobody", api.ViaPasskey, taro.From, "")
		refuses(t, "nobody's", err, api.Disabled)
		passes(2 * seenEvery)
		if s, err := w.SessionOf(ctx, a, lea.From); err != nil || s.Person != "hanako" || s.Via != api.ViaPasskey || time.Since(s.Seen) > time.Second {
			t.Errorf("got %+v, %v", s, err)
		}
		for _, token := range []string{"", "x", strings.ToLower(a)} {
			_, err = w.SessionOf(ctx, token, lea.From)
			refuses(t, "no token", err, api.NoIdentity)
		}
		if err := w.EndSession(ctx, taro, a); err != nil { // another's: nothing happens
			t.Error(err)
		}
		if _, err := w.SessionOf(ctx, a, lea.From); err != nil {
			t.Error(err)
		}
		if err := w.EndSession(ctx, hanako, a); err != nil {
			t.Error(err)
		}
		_, err = w.SessionOf(ctx, a, lea.From)
		refuses(t, "that was ended", err, api.NoIdentity)
		link, err := w.Invite(ctx, hanako, "hanako")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.EndSessions(ctx, hanako); err != nil {
			t.Error(err)
		}
		_, token, _ := strings.Cut(link.URL, "#")
		_, _, err = w.Invited(ctx, token)
		refuses(t, "a link that was made by one of them", err, api.NotFound)
		_, err = w.SessionOf(ctx, b, lea.From)
		refuses(t, "that was ended with all", err, api.NoIdentity)
		if s, err := w.SessionOf(ctx, c, lea.From); err != nil || s.Person != "taro" {
			t.Errorf("got %+v, %v", s, err)
		}
	})
}

// A host's ticket is no session.
func TestTicketIsNoSession(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.enrol("box-1", 1)
		h, _ := w.listen(w.Gate, "box-1")
		defer h.stop()
		_, err := w.SessionOf(t.Context(), h.ticket, box1.From)
		refuses(t, "a ticket", err, api.NoIdentity)
		token, _, _ := w.NewSession(t.Context(), "hanako", api.ViaPasskey, hanako.From, "")
		_, err = w.HostOfTicket(t.Context(), token)
		refuses(t, "a session", err, api.Expired)
	})
}

func TestFirstAdministrator(t *testing.T) {
	in(t, strings.Replace(strings.Replace(doors, "  ann: {groups: [admins]}\n", "", 1), "groups: [guests, ops, leads]", "groups: [guests, ops, leads, admins]", 1), func(t *testing.T, w *world) {
		ctx := t.Context()
		old, _, needed, err := w.FirstAdministrator(ctx)
		if err != nil || !needed {
			t.Fatal(needed, err)
		}
		token, _, _, _ := w.FirstAdministrator(ctx)
		_, _, err = w.Invited(ctx, old)
		refuses(t, "the token before", err, api.NotFound)
		if name, _, err := w.Invited(ctx, token); err != nil || name != "" {
			t.Errorf("got %q, %v", name, err)
		}
		refuses(t, "who is somebody else", w.Claim(ctx, token, "hanako", hanako.From), api.Conflict)
		refuses(t, "no name", w.Claim(ctx, token, "a b", hanako.From), api.BadRequest)
		refuses(t, "no token", w.Claim(ctx, "x", "root", hanako.From), api.NotFound)
		if err := w.Claim(ctx, token, "root", hanako.From); err != nil {
			t.Fatal(err)
		}
		if role := w.RoleOf("root"); role != api.RoleAdmin {
			t.Errorf("got %q", role)
		}
		if name, _, err := w.Invited(ctx, token); err != nil || name != "root" {
			t.Errorf("got %q, %v", name, err)
		}
		// Named by a link, and not enrolled when the next is told: the former is worth nothing, by whatever name.
		used := token
		if token, _, needed, err = w.FirstAdministrator(ctx); err != nil || !needed {
			t.Fatal(needed, err)
		}
		refuses(t, "the link before, which has named somebody", w.AddPasskey(ctx, Who{Person: "root", Via: api.ViaLink}, Passkey{ID: []byte("key 0")}, used), api.NotFound)
		if err := w.Claim(ctx, token, "root", hanako.From); err != nil {
			t.Fatal(err)
		}
		refuses(t, "another's passkey", w.AddPasskey(ctx, Who{Person: "hanako", Via: api.ViaLink}, Passkey{ID: []byte("k")}, token), api.Forbidden)
		if err := w.AddPasskey(ctx, Who{Person: "root", Via: api.ViaLink}, Passkey{ID: []byte("key 1"), Name: "phone", Data: []byte("data")}, token); err != nil {
			t.Fatal(err)
		}
		refuses(t, "the token once more", w.AddPasskey(ctx, Who{Person: "root", Via: api.ViaLink}, Passkey{ID: []byte("key 2")}, token), api.NotFound)
		if _, _, needed, err := w.FirstAdministrator(ctx); err != nil || needed {
			t.Errorf("needed: %v, %v", needed, err)
		}
		refuses(t, "again", w.Claim(ctx, token, "mallory", hanako.From), api.NotFound)
		_, err = w.EditPerson(ctx, Who{Person: "root", Role: api.RoleAdmin, Via: api.ViaPasskey}, "root", api.PersonEdit{Groups: []string{"ops"}})
		refuses(t, "one's own rights", err, api.Conflict)
	})
}

func TestPasskeysAndInvitations(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		ctx := t.Context()
		_, err := w.Invite(ctx, hanako, "taro")
		refuses(t, "by who is no administrator", err, api.Forbidden)
		_, err = w.Invite(ctx, ann, "nobody")
		refuses(t, "nobody", err, api.NotFound)
		first, _ := w.Invite(ctx, ann, "hanako")
		second, err := w.Invite(ctx, hanako, "hanako")
		if err != nil || !strings.HasPrefix(second.URL, "https://gate.example.com/invite#") {
			t.Errorf("got %+v, %v", second, err)
		}
		token := func(i api.Invitation) string { _, token, _ := strings.Cut(i.URL, "#"); return token }
		_, _, err = w.Invited(ctx, token(first))
		refuses(t, "the one before", err, api.NotFound)
		h1, err := w.Handle(ctx, "hanako")
		if err != nil || len(h1) != 32 {
			t.Errorf("got %x, %v", h1, err)
		}
		if err := w.AddPasskey(ctx, Who{Person: "hanako", Via: api.ViaLink}, Passkey{ID: []byte("key 1"), Name: "phone\n", Data: []byte("data")}, token(second)); err != nil {
			t.Fatal(err)
		}
		if name, err := w.PersonByHandle(ctx, h1); err != nil || name != "hanako" {
			t.Errorf("got %q, %v", name, err)
		}
		p, err := w.Passkey(ctx, []byte("key 1"))
		if err != nil || p.Person != "hanako" || p.Name != "phone" {
			t.Errorf("got %+v, %v", p, err)
		}
		p.Used, p.Data = time.Now(), []byte("data 2")
		if err := w.UsedPasskey(ctx, p); err != nil {
			t.Error(err)
		}
		if all, err := w.Passkeys(ctx, "hanako"); err != nil || len(all) != 1 || string(all[0].Data) != "data 2" || all[0].Used.IsZero() {
			t.Errorf("got %+v, %v", all, err)
		}
		refuses(t, "enrolled already", w.AddPasskey(ctx, taro, Passkey{ID: []byte("key 1")}, ""), api.Conflict)
		refuses(t, "another's", w.DeletePasskey(ctx, taro, "hanako", []byte("key 1")), api.Forbidden)
		refuses(t, "as one's own", w.DeletePasskey(ctx, taro, "taro", []byte("key 1")), api.NotFound)
		session, _, err := w.NewSession(ctx, "hanako", api.ViaPasskey, hanako.From, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.DeletePasskey(ctx, ann, "hanako", []byte("key 1")); err != nil {
			t.Error(err)
		}
		_, err = w.SessionOf(ctx, session, hanako.From)
		refuses(t, "a session, of the passkey perhaps, that an administrator removed", err, api.NoIdentity)
		_, err = w.Passkey(ctx, []byte("key 1"))
		refuses(t, "that was removed", err, api.Unknown)

		// An invitation ends with its person's being disabled.
		third, _ := w.Invite(ctx, ann, "hanako")
		if _, err := w.Disable(ctx, ann, "hanako", api.DisableRequest{}); err != nil {
			t.Fatal(err)
		}
		refuses(t, "of who is disabled", w.AddPasskey(ctx, Who{Person: "hanako", Via: api.ViaLink}, Passkey{ID: []byte("key 3")}, token(third)), api.Disabled)
		_, err = w.Invite(ctx, ann, "hanako")
		refuses(t, "who is disabled", err, api.Disabled)
		if !slices.Contains(w.kinds(), notify.GateDisabled) {
			t.Errorf("told of %v", w.kinds())
		}

		err = w.ledger.Write(ctx, func(tx *ledger.Tx) error {
			for i := range maxOutstanding {
				if err := tx.PutOnce(ledger.Once{Kind: onceInvite, Key: sha256.Sum256([]byte(fmt.Sprint(i))), Person: "x", Until: time.Now().Add(time.Hour)}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Invite(ctx, ann, "taro")
		refuses(t, "too many", err, api.TooMany)
	})
}

func TestCeremonies(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		ctx := t.Context()
		c := Ceremony{Kind: "login", Key: "0123456789abcdef", Data: []byte("x"), Person: "hanako", Until: time.Now().Add(time.Minute)}
		if err := w.Begin(ctx, c); err != nil {
			t.Fatal(err)
		}
		_, err := w.Finish(ctx, "enrol", c.Key)
		refuses(t, "another kind", err, api.NotFound)
		if got, err := w.Finish(ctx, "login", c.Key); err != nil || got.Person != "hanako" || string(got.Data) != "x" {
			t.Errorf("got %+v, %v", got, err)
		}
		_, err = w.Finish(ctx, "login", c.Key)
		refuses(t, "twice", err, api.NotFound)
		c.Until = time.Now().Add(time.Minute)
		if err := w.Begin(ctx, c); err != nil {
			t.Fatal(err)
		}
		passes(2 * time.Minute)
		_, err = w.Finish(ctx, "login", c.Key)
		refuses(t, "too late", err, api.Expired)

		key := sha256.Sum256([]byte("signature"))
		for i, want := range []bool{true, false, false} {
			if fresh, err := w.UseNonce(ctx, key, time.Now().Add(time.Minute)); err != nil || fresh != want {
				t.Errorf("use %d: %v, %v", i, fresh, err)
			}
		}
	})
}

// Groups that an identity provider names.
func TestLoginGroups(t *testing.T) {
	yaml := strings.Replace(strings.Replace(doors, "groups: [guests, ops, leads]}", "groups: [guests, ops, leads], oidc: {issuer: https://id.example.com, client_id: gate, groups: {'Their Ops': ops, 'Their Leads': leads}}}", 1), "otto: {}", "otto: {login: Otto@example.com}", 1)
	in(t, yaml, func(t *testing.T, w *world) {
		ctx := t.Context()
		_, err := w.PersonOfLogin(ctx, Login{Login: "eve@example.com", Groups: []string{"Their Ops"}}, netip.Addr{})
		refuses(t, "who is nobody", err, api.Unknown)
		_, err = w.PersonOfLogin(ctx, Login{}, netip.Addr{})
		refuses(t, "no login", err, api.Unknown)
		if name, err := w.PersonOfLogin(ctx, Login{Login: "otto@example.com", Groups: []string{"Their Ops", "Others"}}, netip.Addr{}); err != nil || name != "otto" {
			t.Fatalf("got %q, %v", name, err)
		}
		o := w.open(otto, "web", api.OpenRequest{})
		if me, err := w.Me(ctx, otto); err != nil || !slices.Equal(me.Groups, []string{"ops"}) {
			t.Errorf("got %+v, %v", me, err)
		}
		if all, err := w.People(ctx, ann); err != nil || len(all) != 5 {
			t.Errorf("got %+v, %v", all, err)
		}
		// They are in it no longer.
		if _, err := w.PersonOfLogin(ctx, Login{Login: "otto@example.com"}, netip.Addr{}); err != nil {
			t.Fatal(err)
		}
		passes(5 * time.Second)
		if r := w.row(o.ID); r.Why != "policy" {
			t.Errorf("got %+v", r)
		}
	})
}

func FuzzTexts(f *testing.F) {
	for _, s := range []string{"", " a ", "a\nb", "\x1b[31m", "道", "\xff", strings.Repeat("x", 201), "\u202e", "\u3000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, text := range map[string]string{"clean": clean(s), "short": short(s, 20)} {
			if !utf8.ValidString(text) || utf8.RuneCountInString(text) > maxSaid || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("%s(%q) is %q", name, s, text)
			}
		}
		text, err := reason(s)
		if err != nil {
			return
		}
		if again, err := reason(text); err != nil || again != text {
			t.Errorf("%q becomes %q, then %q, %v", s, text, again, err)
		}
		if utf8.RuneCountInString(text) > maxReason || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
			t.Errorf("%q becomes %q", s, text)
		}
	})
}

func TestWhere(t *testing.T) {
	for _, w := range []where{
		{}, {Host: "box-1", Port: 22, IPv6: 128}, {Account: "prod", Region: "eu-central-1", Group: "sg-0123456789abcdef0", Port: 65535, IPv6: 64},
	} {
		if got := parseWhere(w.String()); got != w {
			t.Errorf("got %+v, want %+v", got, w)
		}
	}
	for _, s := range []string{"", "x", "\t\t\t\t\t", "\t\t\t\t65536\t64", "a\tb\tc\td\t22\t64\t"} {
		if got := parseWhere(s); got != (where{}) {
			t.Errorf("%q: got %+v", s, got)
		}
	}
}

// Nobody is taken for somebody by a name that only looks alike.
func TestLoginsApart(t *testing.T) {
	for _, tt := range []struct {
		name, claim, login, shown string
		want                      bool
	}{
		{"an address", "email", "hanako@example.com", "hanako@example.com", true},
		{"its capitals", "email", "Hanako@Example.com", "HANAKO@example.COM", true},
		{"a Kelvin sign", "email", "hanako@example.com", "hana\u212ao@example.com", false},
		{"a dotted capital I", "email", "yuki@example.com", "yuk\u0130@example.com", false},
		{"a name", "preferred_username", "hanako", "hanako", true},
		{"a name with a capital", "preferred_username", "hanako", "Hanako", false},
		{"a subject", "sub", "aBc", "AbC", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			yaml := strings.Replace(strings.Replace(doors, "groups: [guests, ops, leads]}", "groups: [guests, ops, leads], oidc: {issuer: https://id.example.com, client_id: gate, person_claim: "+tt.claim+"}}", 1), "otto: {}", "otto: {login: "+tt.login+"}", 1)
			in(t, yaml, func(t *testing.T, w *world) {
				name, err := w.PersonOfLogin(t.Context(), Login{Login: tt.shown}, netip.Addr{})
				if tt.want && (err != nil || name != "otto") {
					t.Errorf("got %q, %v", name, err)
				}
				if !tt.want {
					refuses(t, "somebody else", err, api.Unknown)
				}
			})
		})
	}
}

// What a provider says of groups counts for a while, unless it is said again.
func TestLoginGroupsEnd(t *testing.T) {
	cfg := parse(t, strings.Replace(strings.Replace(doors, "groups: [guests, ops, leads]}", "groups: [guests, ops, leads], oidc: {issuer: https://id.example.com, client_id: gate, groups: {'Their Ops': ops}}}", 1), "otto: {}", "otto: {login: otto@example.com}", 1))
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "state", "gate.db"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	now := time.Now()
	g := New(Options{Config: func() *config.Config { return cfg }, Ledger: l, Groups: newFakeGroups().of, Now: func() time.Time { return now }})
	for _, tt := range []struct {
		name    string
		after   time.Duration
		says    []string // nil: nobody comes by the provider
		want    []string
		entries int // of the audit, so far
	}{
		{"said", 0, []string{"Their Ops"}, []string{"ops"}, 1},
		{"a while later", 6 * 24 * time.Hour, nil, []string{"ops"}, 1},
		{"said again", 0, []string{"Their Ops"}, []string{"ops"}, 1},
		{"a while after that", 6 * 24 * time.Hour, nil, []string{"ops"}, 1},
		{"too late", 24 * time.Hour, nil, []string{}, 1},
		{"said anew", 0, []string{"Their Ops"}, []string{"ops"}, 2},
		{"said no more", time.Hour, []string{"Others"}, []string{}, 3},
	} {
		now = now.Add(tt.after)
		if err := g.prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if tt.says != nil {
			if _, err := g.PersonOfLogin(t.Context(), Login{Login: "otto@example.com", Groups: tt.says}, netip.Addr{}); err != nil {
				t.Fatal(err)
			}
		}
		me, err := g.Me(t.Context(), otto)
		if err != nil || !slices.Equal(me.Groups, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", tt.name, me.Groups, err, tt.want)
		}
		all, err := g.Audit(t.Context(), ann, Filter{What: "person.groups"})
		if err != nil || len(all) != tt.entries {
			t.Errorf("%s: %d entries in the audit, want %d: %v", tt.name, len(all), tt.entries, err)
		}
	}
	kept := func() (n int) {
		if err := l.Read(t.Context(), func(tx *ledger.Tx) error {
			all, err := tx.People()
			n = len(all)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	write := func(f func(tx *ledger.Tx) error) {
		if err := l.Write(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	write(func(tx *ledger.Tx) error {
		if _, err := tx.PutPerson(ledger.Person{Name: "rin", Config: []byte("{}")}); err != nil {
			return err
		}
		_, err := tx.PutPerson(ledger.Person{Name: claimed + "rin", Config: []byte("{torn")})
		return err
	})
	for _, tt := range []struct {
		name  string
		after time.Duration
		want  int
	}{{"while it counts", claimsTime - time.Second, 2}, {"when it does not any more", time.Second, 1}} { // rin stays
		now = now.Add(tt.after)
		if err := g.prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := kept(); n != tt.want {
			t.Errorf("%s: %d rows are kept, want %d", tt.name, n, tt.want)
		}
	}
}

// What was said counts no more where the configuration does not take it, or says that the
// person is somebody else.
func TestLoginGroupsOfBefore(t *testing.T) {
	with := func(login, groups string) string {
		return strings.Replace(strings.Replace(doors, "groups: [guests, ops, leads]}", "groups: [guests, ops, leads], oidc: {issuer: https://id.example.com, client_id: gate, groups: {"+groups+"}}}", 1), "otto: {}", "otto: {"+login+"}", 1)
	}
	for _, tt := range []struct {
		name, login, groups string
		want                []string
	}{
		{"the same", "login: otto@example.com", "'Their Ops': ops", []string{"ops"}},
		{"the same, with a capital", "login: Otto@example.com", "'Their Ops': ops", []string{"ops"}},
		{"the group is another's word", "login: otto@example.com", "'Their Ops': guests", []string{}},
		{"the person is somebody else", "login: o.other@example.com", "'Their Ops': ops", []string{}},
		{"the person is nobody there", "", "'Their Ops': ops", []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, with("login: otto@example.com", "'Their Ops': ops"), func(t *testing.T, w *world) {
				if _, err := w.PersonOfLogin(t.Context(), Login{Login: "otto@example.com", Groups: []string{"Their Ops"}}, netip.Addr{}); err != nil {
					t.Fatal(err)
				}
				w.configure(with(tt.login, tt.groups))
				if me, err := w.Me(t.Context(), otto); err != nil || !slices.Equal(me.Groups, tt.want) {
					t.Errorf("got %v, %v, want %v", me.Groups, err, tt.want)
				}
			})
		})
	}
}
