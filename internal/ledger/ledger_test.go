package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sekisho/internal/gate/api"
)

var t0 = time.Date(2026, 11, 29, 12, 0, 0, 123456000, time.UTC)

// hostile is what strangers write.
const hostile = "'; DROP TABLE grants; -- \" $1 ?1 \\ \x1b[2J \u202e\U0001F480 関所 <b>&"

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func open(t testing.TB, dsn string, o Options) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), dsn, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func openAt(t testing.TB, dsn string, at time.Time) (*Ledger, *clock) {
	c := &clock{at: at}
	return open(t, dsn, Options{Now: c.now, Instance: "test"}), c
}

// tx is what a test does in transactions of its own.
type tx struct {
	t testing.TB
	l *Ledger
}

// does expects want of a write.
func (x tx) does(want error, f func(*Tx) error) {
	x.t.Helper()
	if err := x.l.Write(x.t.Context(), f); !errors.Is(err, want) || want == nil && err != nil {
		x.t.Fatalf("got %v, want %v", err, want)
	}
}

// sees expects want of what f reads.
func sees[T any](x tx, want T, f func(*Tx) (T, error)) {
	x.t.Helper()
	got := reads(x, f)
	if diff := cmp.Diff(want, got, byValue, cmpopts.EquateEmpty()); diff != "" {
		x.t.Errorf("(-want +got)\n%s", diff)
	}
}

func reads[T any](x tx, f func(*Tx) (T, error)) (got T) {
	x.t.Helper()
	err := x.l.Read(x.t.Context(), func(t *Tx) (err error) {
		got, err = f(t)
		return err
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return got
}

// fails expects want of a read.
func fails[T any](x tx, want error, f func(*Tx) (T, error)) {
	x.t.Helper()
	err := x.l.Read(x.t.Context(), func(t *Tx) error {
		_, err := f(t)
		return err
	})
	if !errors.Is(err, want) {
		x.t.Fatalf("got %v, want %v", err, want)
	}
}

var byValue = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func TestPeopleAndTargets(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, c := openAt(t, dsn, t0)
		x := tx{t, l}
		var mika Person
		x.does(nil, func(t *Tx) (err error) {
			mika, err = t.PutPerson(Person{Name: "mika", Config: []byte(hostile), By: hostile})
			return err
		})
		if diff := cmp.Diff(Person{Name: "mika", Config: []byte(hostile), Updated: t0, By: hostile, Rev: mika.Rev}, mika); diff != "" || mika.Rev == 0 {
			t.Errorf("rev %d\n%s", mika.Rev, diff)
		}
		sees(x, []Person{mika}, (*Tx).People)
		x.does(ErrConflict, func(t *Tx) error { _, err := t.PutPerson(Person{Name: "mika"}); return err })
		old := mika
		c.add(time.Second)
		x.does(nil, func(t *Tx) (err error) {
			mika.Config, mika.Updated = nil, time.Time{}
			mika, err = t.PutPerson(mika)
			return err
		})
		if !mika.Updated.Equal(t0.Add(time.Second)) || mika.Rev <= old.Rev {
			t.Errorf("%+v", mika)
		}
		sees(x, []Person{mika}, (*Tx).People)
		x.does(ErrConflict, func(t *Tx) error { _, err := t.PutPerson(old); return err })
		x.does(nil, func(t *Tx) error { return t.DeletePerson("mika") })
		x.does(ErrNotFound, func(t *Tx) error { return t.DeletePerson("mika") })
		x.does(ErrConflict, func(t *Tx) error { _, err := t.PutPerson(mika); return err })
		// One of the same name that comes later is not taken for the one before.
		x.does(nil, func(t *Tx) error { _, err := t.PutPerson(Person{Name: "mika"}); return err })
		x.does(ErrConflict, func(t *Tx) error { _, err := t.PutPerson(old); return err })

		var web Target
		x.does(nil, func(t *Tx) (err error) {
			if _, err := t.PutTarget(Target{Name: "z", Updated: t0}); err != nil {
				return err
			}
			web, err = t.PutTarget(Target{Name: "Web", Config: []byte("x"), Updated: t0, By: "b"})
			return err
		})
		if got := reads(x, (*Tx).Targets); len(got) != 2 || !cmp.Equal(got[0], web) {
			t.Errorf("got %+v: want Web before z, by bytes", got)
		}
		x.does(nil, func(t *Tx) error { return t.DeleteTarget("z") })
		sees(x, []Target{web}, (*Tx).Targets)
	})
}

func TestDisabled(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		x := tx{t, l}
		d := Disabled{Person: "mika", At: t0, By: "root", Why: hostile}
		x.does(nil, func(t *Tx) error { return t.PutDisabled(d) })
		x.does(nil, func(t *Tx) error { return t.PutDisabled(Disabled{Person: "mika", By: "late"}) })
		sees(x, []Disabled{d}, (*Tx).Disabled)
		sees(x, true, func(t *Tx) (bool, error) { return t.IsDisabled("mika") })
		sees(x, false, func(t *Tx) (bool, error) { return t.IsDisabled("Mika") })
		x.does(nil, func(t *Tx) error { return t.DeleteDisabled("mika") })
		x.does(ErrNotFound, func(t *Tx) error { return t.DeleteDisabled("mika") })
		sees(x, nil, (*Tx).Disabled)
	})
}

func TestPasskeys(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		x := tx{t, l}
		var handle, again, other []byte
		x.does(nil, func(t *Tx) (err error) { handle, err = t.Handle("mika"); return err })
		x.does(nil, func(t *Tx) (err error) { again, err = t.Handle("mika"); return err })
		x.does(nil, func(t *Tx) (err error) { other, err = t.Handle("rin"); return err })
		if len(handle) != 32 || !bytes.Equal(handle, again) || bytes.Equal(handle, other) {
			t.Errorf("%x, %x, %x", handle, again, other)
		}
		sees(x, "mika", func(t *Tx) (string, error) { return t.PersonByHandle(handle) })
		fails(x, ErrNotFound, func(t *Tx) (string, error) { return t.PersonByHandle(nil) })
		p := Passkey{ID: []byte{0, 1, 255}, Person: "mika", Handle: handle, Name: hostile, Data: []byte{0}, Created: t0}
		x.does(nil, func(t *Tx) error { return t.PutPasskey(p) })
		stolen := p
		stolen.Person = "rin"
		x.does(ErrConflict, func(t *Tx) error { return t.PutPasskey(stolen) })
		p.Used, p.Data = t0.Add(time.Hour), []byte{1}
		x.does(nil, func(t *Tx) error { return t.PutPasskey(p) })
		sees(x, p, func(t *Tx) (Passkey, error) { return t.Passkey(p.ID) })
		sees(x, []Passkey{p}, func(t *Tx) ([]Passkey, error) { return t.Passkeys("mika") })
		sees(x, []Passkey{p}, (*Tx).AllPasskeys)
		sees(x, nil, func(t *Tx) ([]Passkey, error) { return t.Passkeys("rin") })
		x.does(nil, func(t *Tx) error { return t.DeletePasskey(p.ID) })
		x.does(ErrNotFound, func(t *Tx) error { return t.DeletePasskey(p.ID) })
		x.does(nil, func(t *Tx) error { return t.PutPasskey(p) })
		x.does(nil, func(t *Tx) error { return t.DeletePasskeysOf("mika") })
		fails(x, ErrNotFound, func(t *Tx) (Passkey, error) { return t.Passkey(p.ID) })
		fails(x, ErrNotFound, func(t *Tx) (string, error) { return t.PersonByHandle(handle) })
	})
}

func session(n int, person string) Session {
	return Session{Hash: [32]byte{byte(n), byte(n >> 8), 1}, Person: person, Via: api.ViaPasskey, Created: t0.Add(time.Duration(n) * time.Second),
		Until: t0.Add(time.Hour), Seen: t0, From: netip.MustParseAddr("2001:db8::1"), Agent: hostile}
}

func TestSessions(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		x := tx{t, l}
		s := session(0, "mika")
		x.does(nil, func(t *Tx) error { return t.PutSession(s) })
		sees(x, s, func(t *Tx) (Session, error) { return t.Session(s.Hash) })
		s.Seen, s.Agent = t0.Add(time.Minute), ""
		x.does(nil, func(t *Tx) error { return t.PutSession(s) })
		sees(x, s, func(t *Tx) (Session, error) { return t.Session(s.Hash) })
		stolen := s
		stolen.Person = "rin"
		x.does(ErrConflict, func(t *Tx) error { return t.PutSession(stolen) })
		x.does(nil, func(t *Tx) error {
			for n := 1; n <= MaxSessions+5; n++ {
				if err := errors.Join(t.PutSession(session(n, "mika")), t.PutSession(session(1000+n%3, "rin"))); err != nil {
					return err
				}
			}
			return nil
		})
		got := reads(x, func(t *Tx) ([]Session, error) { return t.Sessions("mika") })
		if len(got) != MaxSessions || got[0].Hash != session(MaxSessions+5, "").Hash || got[MaxSessions-1].Hash != session(6, "").Hash {
			t.Errorf("%d sessions, %v to %v", len(got), got[0].Created, got[len(got)-1].Created)
		}
		// The newest stays, however its clock stood.
		late := session(500, "mika")
		late.Created = t0.Add(-time.Hour)
		x.does(nil, func(t *Tx) error { return t.PutSession(late) })
		sees(x, late, func(t *Tx) (Session, error) { return t.Session(late.Hash) })
		x.does(nil, func(t *Tx) error { return errors.Join(t.DeleteSession(late.Hash), t.DeleteSession(late.Hash)) })
		fails(x, ErrNotFound, func(t *Tx) (Session, error) { return t.Session(late.Hash) })
		x.does(nil, func(t *Tx) error { return t.DeleteSessionsOf("mika") })
		sees(x, nil, func(t *Tx) ([]Session, error) { return t.Sessions("mika") })
		if got := reads(x, func(t *Tx) ([]Session, error) { return t.Sessions("rin") }); len(got) != 3 {
			t.Errorf("another's sessions: %d", len(got))
		}
	})
}

func TestOnce(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, c := openAt(t, dsn, t0)
		x := tx{t, l}
		o := Once{Kind: "invitation", Key: [32]byte{1}, Data: []byte(hostile), Person: "mika", Until: t0.Add(time.Hour)}
		take := func(kind string) func(*Tx) error {
			return func(t *Tx) error { _, err := t.TakeOnce(kind, o.Key); return err }
		}
		x.does(nil, func(t *Tx) error { return t.PutOnce(o) })
		x.does(ErrConflict, func(t *Tx) error { return t.PutOnce(o) })
		sees(x, o, func(t *Tx) (Once, error) { return t.Once(o.Kind, o.Key) })
		sees(x, []Once{o}, func(t *Tx) ([]Once, error) { return t.Outstanding(o.Kind) })
		x.does(ErrNotFound, take("host"))
		broken := errors.New("the rest did not work")
		x.does(broken, func(t *Tx) error { return errors.Join(take(o.Kind)(t), broken) })
		var got Once
		x.does(nil, func(t *Tx) (err error) { got, err = t.TakeOnce(o.Kind, o.Key); return err })
		if diff := cmp.Diff(o, got); diff != "" {
			t.Error(diff)
		}
		x.does(ErrNotFound, take(o.Kind))

		x.does(nil, func(t *Tx) error { return t.PutOnce(o) })
		c.add(time.Hour)
		x.does(ErrExpired, func(t *Tx) (err error) { got, err = t.TakeOnce(o.Kind, o.Key); return err })
		if got.Person != "mika" {
			t.Errorf("whose it was is not told: %+v", got)
		}
		x.does(ErrExpired, take(o.Kind))
		sees(x, nil, func(t *Tx) ([]Once, error) { return t.Outstanding(o.Kind) })
		x.does(nil, func(t *Tx) error { return t.DeleteOnceOf(o.Kind, "mika") })
		x.does(ErrNotFound, take(o.Kind))

		fresh := func(want bool) func(t *Tx) error {
			return func(t *Tx) error {
				if got, err := t.UseNonce([32]byte{7}, c.now().Add(time.Minute)); err != nil || got != want {
					return fmt.Errorf("fresh: got %v, want %v: %w", got, want, err)
				}
				return nil
			}
		}
		x.does(nil, fresh(true))
		x.does(nil, fresh(false))
	})
}

func grant(id string) Grant {
	return Grant{ID: id, Target: "web", Person: "mika", Prefix: netip.MustParsePrefix("192.0.2.1/32"), State: api.Asked, Asked: t0, Opened: t0.Add(1),
		Until: t0.Add(time.Hour), Length: time.Hour, Reason: hostile, Approver: "rin", Break: true, Via: api.ViaKey, From: netip.MustParseAddr("192.0.2.1"),
		Rule: "sgr-1", Foreign: true, InForce: true, Error: hostile, Tries: 3, Owner: "gate-1", Claimed: t0.Add(time.Minute), Cut: true}
}

func TestGrants(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		x := tx{t, l}
		put := func(g Grant) func(*Tx) error {
			return func(t *Tx) error { _, err := t.PutGrant(g); return err }
		}
		g := grant("a")
		x.does(nil, func(t *Tx) (err error) { g, err = t.PutGrant(g); return err })
		want := grant("a")
		want.Opened, want.Rev = t0, 1 // to the microsecond
		if diff := cmp.Diff(want, g, byValue); diff != "" {
			t.Error(diff)
		}
		sees(x, want, func(t *Tx) (Grant, error) { return t.Grant("a") })
		x.does(ErrConflict, put(grant("b"))) // the door is open already
		elsewhere := grant("a")
		elsewhere.Target = "db"
		x.does(ErrConflict, put(elsewhere)) // the id is used
		elsewhere.ID, elsewhere.Person, elsewhere.Asked = "c", "rin", t0.Add(time.Second)
		x.does(nil, put(elsewhere))

		ids := func(all []Grant, err error) (string, error) {
			var s []string
			for _, g := range all {
				s = append(s, g.ID)
			}
			return strings.Join(s, " "), err
		}
		sees(x, "a c", func(t *Tx) (string, error) { return ids(t.Live()) })
		sees(x, "a", func(t *Tx) (string, error) { return ids(t.LiveOf("mika")) })
		sees(x, "c", func(t *Tx) (string, error) { return ids(t.LiveOn("db")) })
		sees(x, "c a", func(t *Tx) (string, error) { return ids(t.GrantsSince(t0, 10)) })
		sees(x, "c", func(t *Tx) (string, error) { return ids(t.GrantsSince(t0, 1)) })
		sees(x, want, func(t *Tx) (Grant, error) { return t.LiveAt("mika", "web", want.Prefix) })
		sees(x, "1 1", func(t *Tx) (string, error) {
			p, n, err := t.CountLive("mika", "db")
			return fmt.Sprint(p, n), err
		})

		stale := g
		g.State, g.Why = api.Ending, "closed"
		x.does(nil, func(t *Tx) (err error) { g, err = t.UpdateGrant(g); return err })
		if g.Rev != 2 {
			t.Errorf("rev %d", g.Rev)
		}
		sees(x, g, func(t *Tx) (Grant, error) { return t.Grant("a") })
		x.does(ErrConflict, func(t *Tx) error { _, err := t.UpdateGrant(stale); return err })
		moved := g
		moved.Person = "rin"
		x.does(ErrConflict, func(t *Tx) error { _, err := t.UpdateGrant(moved); return err })
		g.State, g.Ended = api.Ended, t0.Add(time.Minute)
		x.does(nil, func(t *Tx) (err error) { g, err = t.UpdateGrant(g); return err })
		g.State = api.Open
		x.does(ErrConflict, func(t *Tx) error { _, err := t.UpdateGrant(g); return err })
		sees(x, "c", func(t *Tx) (string, error) { return ids(t.Live()) })
		x.does(nil, put(grant("b"))) // and again after the end
		sees(x, "b c", func(t *Tx) (string, error) { return ids(t.Live()) })
		fails(x, ErrNotFound, func(t *Tx) (Grant, error) { return t.Grant("x") })

		for name, spoil := range map[string]func(*Grant){
			"no id":               func(g *Grant) { g.ID = "" },
			"a person too long":   func(g *Grant) { g.Person = strings.Repeat("x", 256) },
			"a zero byte":         func(g *Grant) { g.Target = "a\x00b" },
			"no text":             func(g *Grant) { g.Target = "a\xff" },
			"no prefix":           func(g *Grant) { g.Prefix = netip.Prefix{} },
			"bits after a prefix": func(g *Grant) { g.Prefix = netip.MustParsePrefix("192.0.2.1/24") },
			"no state":            func(g *Grant) { g.State = "shut" },
		} {
			bad := grant("bad")
			spoil(&bad)
			if err := l.Write(t.Context(), put(bad)); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestHosts(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		x := tx{t, l}
		h := Host{Name: "web1", Key: "ssh-ed25519 AAAA", Fingerprint: "SHA256:x", Enrolled: t0, Seen: t0, Version: hostile, Connected: "gate-1",
			ConnectedUntil: t0.Add(time.Minute), InForce: 2, Error: hostile}
		x.does(nil, func(t *Tx) error {
			return errors.Join(t.PutHost(h), t.PutHost(Host{Name: "new"}), t.PutHost(Host{Name: "new2"}))
		})
		sees(x, h, func(t *Tx) (Host, error) { return t.Host("web1") })
		sees(x, h, func(t *Tx) (Host, error) { return t.HostByFingerprint("SHA256:x") })
		fails(x, ErrNotFound, func(t *Tx) (Host, error) { return t.HostByFingerprint("") })
		sees(x, []Host{{Name: "new"}, {Name: "new2"}, h}, (*Tx).Hosts)
		x.does(ErrConflict, func(t *Tx) error { return t.PutHost(Host{Name: "web2", Fingerprint: "SHA256:x"}) })
		h.InForce, h.Error = 0, ""
		x.does(nil, func(t *Tx) error { return t.PutHost(h) })
		sees(x, h, func(t *Tx) (Host, error) { return t.Host("web1") })
		x.does(nil, func(t *Tx) error { return t.DeleteHost("web1") })
		x.does(ErrNotFound, func(t *Tx) error { return t.DeleteHost("web1") })

		x.does(nil, func(t *Tx) error {
			return errors.Join(t.Heartbeat("b", t0), t.Heartbeat("a", t0), t.Heartbeat("b", t0.Add(time.Minute)))
		})
		sees(x, []Instance{{"a", t0}, {"b", t0.Add(time.Minute)}}, (*Tx).Instances)
	})
}

// What a stranger or an administrator can make more of has an end.
func TestBounds(t *testing.T) {
	numbers := func(n int) string {
		return fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) `, n)
	}
	tests := []struct {
		name string
		fill string
		full func(*Tx) error // one too many
		over func(*Tx) error // over one that is there
	}{
		{
			name: "people", fill: `INSERT INTO people ` + numbers(MaxPeople) + `SELECT 'p' || i, '', 1, '', 5 FROM n`,
			full: func(t *Tx) error { _, err := t.PutPerson(Person{Name: "x"}); return err },
			over: func(t *Tx) error { _, err := t.PutPerson(Person{Name: "p1", Rev: 5}); return err },
		},
		{
			name: "targets", fill: `INSERT INTO targets ` + numbers(MaxTargets) + `SELECT 'p' || i, '', 1, '', 5 FROM n`,
			full: func(t *Tx) error { _, err := t.PutTarget(Target{Name: "x"}); return err },
			over: func(t *Tx) error { _, err := t.PutTarget(Target{Name: "p1", Rev: 5}); return err },
		},
		{
			name: "hosts", fill: `INSERT INTO hosts ` + numbers(MaxHosts) + `SELECT 'p' || i, '', '', 0, 0, '', '', 0, 0, '' FROM n`,
			full: func(t *Tx) error { return t.PutHost(Host{Name: "x"}) },
			over: func(t *Tx) error { return t.PutHost(Host{Name: "p1"}) },
		},
		{
			name: "instances", fill: `INSERT INTO instances ` + numbers(MaxInstances) + `SELECT 'p' || i, 4102444800000000 FROM n`,
			full: func(t *Tx) error { return t.Heartbeat("x", t0) },
			over: func(t *Tx) error { // and one that is dead makes room
				return errors.Join(t.Heartbeat("p1", t0.Add(-time.Second)), t.Heartbeat("x", t0), t.Heartbeat("x", t0))
			},
		},
	}
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				x := tx{t, l}
				x.does(nil, func(t *Tx) error {
					fill := tt.fill
					if _, ok := l.db.(*lite); ok {
						fill = strings.ReplaceAll(fill, ", '', 1, ", ", x'', 1, ")
					}
					_, err := t.exec("fill", fill)
					return err
				})
				x.does(ErrFull, tt.full)
				x.does(nil, tt.over)
			})
		}
		t.Run("passkeys", func(t *testing.T) {
			x := tx{t, l}
			for n := range MaxPasskeys {
				x.does(nil, func(t *Tx) error { return t.PutPasskey(Passkey{ID: []byte{byte(n)}, Person: "mika"}) })
			}
			x.does(ErrFull, func(t *Tx) error { return t.PutPasskey(Passkey{ID: []byte{255}, Person: "mika"}) })
			x.does(nil, func(t *Tx) error { return t.PutPasskey(Passkey{ID: []byte{1}, Person: "mika"}) })
			x.does(nil, func(t *Tx) error { return t.PutPasskey(Passkey{ID: []byte{255}, Person: "rin"}) })
		})
		t.Run("one-time tokens", func(t *testing.T) {
			x := tx{t, l}
			x.does(nil, func(t *Tx) error {
				for n := range MaxOnce {
					if err := t.PutOnce(Once{Kind: "k", Key: [32]byte{byte(n), byte(n >> 8), 1}, Until: t0.Add(time.Hour - time.Duration(n))}); err != nil {
						return err
					}
					if n == 10 { // the rest is written fast
						_, err := t.exec("fill", `INSERT INTO once (kind, key, data, person, until) `+numbers(MaxOnce-11)+
							`SELECT 'k', `+map[bool]string{true: `CAST('k' || i AS BLOB), x''`, false: `('k' || i || repeat('.', 32))::bytea, ''`}[isLite(l)]+`, '', 5 + i FROM n`)
						return err
					}
				}
				return nil
			})
			x.does(nil, func(t *Tx) error { return t.PutOnce(Once{Kind: "k", Key: [32]byte{9, 9}, Until: t0.Add(time.Hour)}) })
			sees(x, MaxOnce, func(t *Tx) (int64, error) {
				return one(t, "count", scanInt, `SELECT count(*) FROM once WHERE kind = 'k'`)
			})
			sees(x, 7, func(t *Tx) (int64, error) {
				return one(t, "first", scanInt, `SELECT min(until) FROM once WHERE kind = 'k'`)
			})
			sees(x, t0.Add(time.Hour), func(t *Tx) (time.Time, error) { o, err := t.Once("k", [32]byte{9, 9}); return o.Until, err })
		})
		for name, err := range map[string]error{
			"a configuration": l.Write(t.Context(), func(t *Tx) error {
				_, err := t.PutTarget(Target{Name: "p1", Config: make([]byte, maxConfig+1)})
				return err
			}),
			"a ceremony":     l.Write(t.Context(), func(t *Tx) error { return t.PutOnce(Once{Kind: "c", Data: make([]byte, maxData+1)}) }),
			"a passkey's id": l.Write(t.Context(), func(t *Tx) error { return t.PutPasskey(Passkey{ID: make([]byte, maxID+1), Person: "p"}) }),
			"an empty id":    l.Write(t.Context(), func(t *Tx) error { return t.PutPasskey(Passkey{Person: "p"}) }),
		} {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func isLite(l *Ledger) bool { _, ok := l.db.(*lite); return ok }

// Texts are kept as they are given, but for what is no text and what is too long.
func TestTexts(t *testing.T) {
	tests := []struct{ name, give, want string }{
		{"hostile", hostile, hostile},
		{"empty", "", ""},
		{"a zero byte", "a\x00b", "a\uFFFDb"},
		{"not UTF-8", "a\xff\xc3b", "a\uFFFDb"},
		{"a lone surrogate", "\xed\xa0\x80", "\uFFFD"},
		{"too long", strings.Repeat("x", 5000), strings.Repeat("x", maxText)},
		{"too long in the middle of a character", strings.Repeat("x", maxText-1) + "関", strings.Repeat("x", maxText-1)},
	}
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				x := tx{t, l}
				g := grant(fmt.Sprint("g", i))
				g.Target, g.Reason = g.ID, tt.give
				x.does(nil, func(t *Tx) error {
					if _, err := t.PutGrant(g); err != nil {
						return err
					}
					e, err := t.Append(api.Entry{Who: "p", What: "open", Why: tt.give})
					if err == nil && e.Why != tt.want {
						err = fmt.Errorf("the entry has %q", e.Why)
					}
					return err
				})
				sees(x, tt.want, func(t *Tx) (string, error) { g, err := t.Grant(g.ID); return g.Reason, err })
				sees(x, tt.want, func(t *Tx) (string, error) {
					all, err := t.Audit(Filter{Limit: 1})
					if err != nil {
						return "", err
					}
					return all[0].Why, nil
				})
			})
		}
		sees(tx{t, l}, true, func(t *Tx) (bool, error) { v, err := t.Verify(); return v.OK, err })
	})
}

func TestPrune(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		x := tx{t, l}
		now := t0.AddDate(2, 0, 0)
		x.does(nil, func(t *Tx) error {
			put := func(id string, state api.State, ended time.Time) error {
				g := grant(id)
				g.Target, g.State, g.Ended = id, state, ended
				_, err := t.PutGrant(g)
				return err
			}
			_, err1 := t.UseNonce([32]byte{1}, now.Add(-keepNonces))
			_, err2 := t.UseNonce([32]byte{2}, now.Add(-keepNonces-time.Microsecond))
			_, err3 := t.Append(api.Entry{Who: "p", What: "open", At: t0})
			old, young := session(1, "a"), session(2, "a")
			old.Until, young.Until = now.Add(-time.Second), now.Add(time.Second)
			return errors.Join(err1, err2, err3, t.PutSession(old), t.PutSession(young),
				put("live", api.Open, time.Time{}), put("old", api.Ended, now.Add(-keepGrants-time.Second)), put("young", api.Ended, now.Add(-keepGrants)),
				t.PutOnce(Once{Kind: "k", Key: [32]byte{1}, Until: now.Add(-keepOnce - time.Second)}), t.PutOnce(Once{Kind: "k", Key: [32]byte{2}, Until: now.Add(-keepOnce)}),
				t.Heartbeat("old", now.Add(-keepInstances-time.Second)), t.Heartbeat("young", now))
		})
		more := false
		x.does(nil, func(t *Tx) (err error) { more, err = t.Prune(now); return err })
		if more {
			t.Error("there is said to be more")
		}
		sees(x, "2 grants, 1 sessions, 1 once, 1 nonces, 1 instances, 1 audit", func(t *Tx) (string, error) {
			var s []string
			for _, table := range []string{"grants", "sessions", "once", "nonces", "instances", "audit"} {
				n, err := one(t, "count", scanInt, `SELECT count(*) FROM `+table)
				if err != nil {
					return "", err
				}
				s = append(s, fmt.Sprint(n, " ", table))
			}
			return strings.Join(s, ", "), nil
		})
		fails(x, ErrNotFound, func(t *Tx) (Grant, error) { return t.Grant("old") })
		x.does(nil, func(t *Tx) error {
			for n := range pruneAtOnce + 1 {
				if _, err := t.UseNonce([32]byte{9, byte(n), byte(n >> 8)}, t0); err != nil {
					return err
				}
			}
			return nil
		})
		x.does(nil, func(t *Tx) (err error) { more, err = t.Prune(now); return err })
		if !more {
			t.Error("there is more")
		}
	})
}

// All of a write is kept, or nothing; what it came to is told, and a Tx is of no use
// afterwards.
func TestWrite(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		x := tx{t, l}
		refused := errors.New("refused")
		var leaked *Tx
		x.does(refused, func(t *Tx) error {
			leaked = t
			_, err1 := t.PutGrant(grant("a"))
			_, err2 := t.Append(api.Entry{Who: "p", What: "open"})
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			return refused
		})
		sees(x, nil, (*Tx).Live)
		sees(x, Head{0, none}, (*Tx).Head)
		if _, err := leaked.Live(); !errors.Is(err, ErrInvalid) {
			t.Errorf("a transaction that is over: %v", err)
		}
		fails(x, ErrInvalid, func(t *Tx) (Grant, error) { return t.PutGrant(grant("a")) })
		fails(x, ErrInvalid, func(t *Tx) (Once, error) { return t.TakeOnce("k", [32]byte{}) })
		fails(x, ErrInvalid, func(t *Tx) (api.Entry, error) { return t.Append(api.Entry{}) })

		// What the database refuses cannot be kept by not looking at the error.
		x.does(ErrInvalid, func(t *Tx) error {
			if _, err := t.PutGrant(grant("a")); err != nil {
				return err
			}
			_, _ = t.exec("nonsense", `INSERT INTO nothing VALUES (1)`)
			return nil
		})
		sees(x, nil, (*Tx).Live)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Write(ctx, func(*Tx) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := l.Read(ctx, func(t *Tx) error { _, err := t.Live(); return err }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}

		func() {
			defer func() {
				if recover() != "oops" {
					t.Error("the panic did not come back")
				}
			}()
			_ = l.Write(t.Context(), func(t *Tx) error {
				_, _ = t.PutGrant(grant("a"))
				panic("oops")
			})
		}()
		sees(x, nil, (*Tx).Live)
		x.does(nil, func(t *Tx) error { _, err := t.PutGrant(grant("a")); return err })

		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		x.does(ErrClosed, func(*Tx) error { return nil })
		fails(x, ErrClosed, (*Tx).Live)
	})
}

// Writes that share a transaction: one that fails, panics or gives up leaves nothing and
// takes nothing from the others.
func TestBatch(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		const n = 60
		refused := errors.New("refused")
		errs := make([]error, n)
		hold, held := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() { // the others wait for it, and come together then
			_ = l.Write(t.Context(), func(*Tx) error { close(held); <-hold; return nil })
		})
		<-held
		waiting := make(chan struct{}, n)
		for i := range n {
			all.Go(func() {
				defer func() {
					if recover() != nil {
						errs[i] = refused
					}
				}()
				waiting <- struct{}{}
				errs[i] = l.Write(t.Context(), func(t *Tx) error {
					g := grant(fmt.Sprint("g", i))
					g.Target = g.ID
					_, err := t.PutGrant(g)
					if err == nil {
						_, err = t.Append(api.Entry{Who: "p", What: "open", Grant: g.ID})
					}
					if err != nil {
						return err
					}
					switch i % 4 {
					case 1:
						return refused
					case 2:
						_, _ = t.exec("nonsense", `SELECT nothing`)
					case 3:
						panic("oops")
					}
					return nil
				})
			})
		}
		for range n {
			<-waiting
		}
		close(hold)
		all.Wait()
		for i, err := range errs {
			if want := []error{nil, refused, ErrInvalid, refused}[i%4]; !errors.Is(err, want) {
				t.Errorf("write %d: got %v, want %v", i, err, want)
			}
		}
		x := tx{t, l}
		if got := len(reads(x, (*Tx).Live)); got != n/4 {
			t.Errorf("%d grants, want %d", got, n/4)
		}
		v := reads(x, func(t *Tx) (api.Verdict, error) { return t.Verify() })
		if !v.OK || v.Entries != n/4 {
			t.Errorf("%+v", v)
		}
	})
}

// A read sees one state, whatever is written meanwhile, and does not wait for a writer.
func TestRead(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		err := l.Read(t.Context(), func(r *Tx) error {
			before, err := r.Live()
			if err != nil || len(before) != 0 {
				return fmt.Errorf("%v: %w", before, err)
			}
			tx{t, l}.does(nil, func(t *Tx) error { _, err := t.PutGrant(grant("a")); return err })
			after, err := r.Live()
			if err != nil || len(after) != 0 {
				return fmt.Errorf("it sees what was written later: %v: %w", after, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		tx{t, l}.does(nil, func(w *Tx) error { // while one writes
			sees(tx{t, l}, 1, func(t *Tx) (int, error) { all, err := t.Live(); return len(all), err })
			return nil
		})
	})
}

// More readers than there are connections wait for each other, no longer than they want.
func TestManyReaders(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		hold := make(chan struct{})
		holding := make(chan struct{}, maxConns)
		var all sync.WaitGroup
		held := readers
		if !isLite(l) {
			held = maxReads
		}
		for range held {
			all.Go(func() {
				if err := l.Read(t.Context(), func(*Tx) error { holding <- struct{}{}; <-hold; return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		for range held {
			<-holding
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if err := l.Read(ctx, func(*Tx) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		tx{t, l}.does(nil, func(t *Tx) error { _, err := t.PutGrant(grant("a")); return err }) // writes do not wait
		for range 20 {
			all.Go(func() { sees(tx{t, l}, 1, func(t *Tx) (int, error) { all, err := t.Live(); return len(all), err }) })
		}
		close(hold)
		all.Wait()
	})
}

func TestWatch(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		l, _ := openAt(t, dsn, t0)
		all := []*Ledger{l}
		if !isLite(l) {
			other, _ := openAt(t, dsn, t0)
			all = append(all, other)
		}
		for _, l := range all { // until they hear
			if p, ok := l.db.(*postgres); ok {
				waitFor(t, p.listening.Load)
			}
		}
		for i, watched := range all {
			ctx, cancel := context.WithCancel(t.Context())
			ticks, err := watched.Watch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			x := tx{t, l}
			h := Host{Name: fmt.Sprint("h", i)}
			for name, f := range map[string]func(*Tx) error{
				"grant": func(t *Tx) error {
					g := grant(fmt.Sprint("g", i))
					g.Target = g.ID
					_, err := t.PutGrant(g)
					return err
				},
				"person": func(t *Tx) error { _, err := t.PutPerson(Person{Name: fmt.Sprint("p", i)}); return err },
				"target": func(t *Tx) error { _, err := t.PutTarget(Target{Name: fmt.Sprint("t", i)}); return err },
				"host":   func(t *Tx) error { return t.PutHost(h) },
				"off":    func(t *Tx) error { return t.PutDisabled(Disabled{Person: fmt.Sprint("p", i)}) },
			} {
				for drained := false; !drained; {
					select {
					case <-ticks:
					default:
						drained = true
					}
				}
				x.does(nil, f)
				select {
				case <-ticks:
				case <-time.After(10 * time.Second):
					t.Fatalf("no tick for a %s", name)
				}
			}
			cancel()
			for range ticks { // closed
			}
		}
		// What is not told: nothing is changed, or nothing that others wait for.
		x := tx{t, l}
		changed := false
		for _, f := range []func(*Tx) error{
			func(t *Tx) error { return t.PutHost(Host{Name: "h0", Seen: t0, ConnectedUntil: t0}) },
			func(t *Tx) error { return t.Heartbeat("a", t0) },
			func(t *Tx) error { _, err := t.UseNonce([32]byte{1}, t0); return err },
			func(t *Tx) error { return t.PutSession(session(1, "p")) },
		} {
			x.does(nil, func(t *Tx) error {
				err := f(t)
				changed = changed || t.changed
				return err
			})
		}
		if changed {
			t.Error("it is told what nobody waits for")
		}
	})
}

// waitFor waits for what another goroutine brings about.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not come about in 20 s")
		}
	}
}
