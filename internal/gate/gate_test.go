package gate

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/notify"
)

const people = `version: 1
gate:
  url: https://gate.example.com
  serve: {admins: [admins], groups: [guests, ops, leads]}
people:
  ann: {groups: [admins]}
  hanako: {groups: [ops]}
  taro: {groups: [ops]}
  lea: {groups: [leads, ops]}
  otto: {}
`

const doors = people + `
targets:
  web: {aws: {region: eu-central-1, group: sg-0123456789abcdef0}, allow: [ops], at_most: 8h}
  db: {aws: {region: eu-central-1, group: sg-0123456789abcdef1}, allow: [ops], at_most: 2h, reason: yes, approval: leads, break_glass: [hanako, lea]}
  box: {agent: box-1, allow: [ops], at_most: 2h}
`

var (
	hanako = Who{Person: "hanako", Role: api.RolePerson, Via: api.ViaKey, From: netip.MustParseAddr("203.0.113.7")}
	taro   = Who{Person: "taro", Role: api.RolePerson, Via: api.ViaKey, From: netip.MustParseAddr("203.0.113.7")}
	lea    = Who{Person: "lea", Role: api.RolePerson, Via: api.ViaPasskey, From: netip.MustParseAddr("198.51.100.9")}
	otto   = Who{Person: "otto", Role: api.RolePerson, Via: api.ViaPasskey, From: netip.MustParseAddr("198.51.100.10")}
	ann    = Who{Person: "ann", Role: api.RoleAdmin, Via: api.ViaPasskey, From: netip.MustParseAddr("198.51.100.1")}
	box1   = Who{Role: api.RoleHost, Via: api.ViaHost, Host: "box-1"}
)

// world is gates on one ledger, in front of groups in memory.
type world struct {
	t      *testing.T
	groups *fakeGroups
	ledger *ledger.Ledger
	*Gate  // the first
	end    func()

	mu   sync.Mutex
	cfg  *config.Config
	told []notify.Event
}

func parse(t testing.TB, yaml string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("sekisho.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// in runs test in a world whose time passes when nothing else happens.
func in(t *testing.T, yaml string, test func(t *testing.T, w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, err := ledger.Open(t.Context(), filepath.Join(dir, "state", "gate.db"), ledger.Options{})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, groups: newFakeGroups(), ledger: l, cfg: parse(t, yaml)}
		w.Gate, w.end = w.gate("one")
		test(t, w)
		w.end()
		if w.Ready(context.Background()) == nil {
			w.whats("")
		}
		w.groups.never(t)
		if err := l.Close(); err != nil && !errors.Is(err, ledger.ErrClosed) {
			t.Error(err)
		}
	})
}

// gate is one more gate, which runs until end is called.
func (w *world) gate(instance string) (*Gate, func()) {
	g := New(Options{
		Config: func() *config.Config {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.cfg
		},
		Ledger: w.ledger, Instance: instance, Groups: w.groups.of,
		Notify: func(e notify.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, e)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	synctest.Wait()
	var once sync.Once
	return g, func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				w.t.Error(err)
			}
		})
	}
}

// kill ends a gate as kill -9 does: nothing that it was at is finished.
func kill(g *Gate, end func()) {
	g.jobsMu.Lock()
	g.stopped = true
	g.jobsMu.Unlock()
	g.die()
	end()
}

func (w *world) configure(yaml string) {
	w.t.Helper()
	cfg := parse(w.t, yaml)
	w.mu.Lock()
	w.cfg = cfg
	w.mu.Unlock()
}

func (w *world) kinds() []notify.Kind {
	w.mu.Lock()
	defer w.mu.Unlock()
	res := []notify.Kind{}
	for _, e := range w.told {
		res = append(res, e.Kind)
	}
	return res
}

func (w *world) open(who Who, target string, q api.OpenRequest) api.Grant {
	w.t.Helper()
	o, err := w.Open(w.t.Context(), who, target, q)
	if err != nil {
		w.t.Fatalf("open %s for %s: %v", target, who.Person, err)
	}
	return o
}

func (w *world) row(id string) ledger.Grant {
	w.t.Helper()
	var r ledger.Grant
	err := w.ledger.Read(context.Background(), func(tx *ledger.Tx) (err error) {
		r, err = tx.Grant(id)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// rows are the live grants, as the ledger has them.
func (w *world) rows() (rows []ledger.Grant) {
	w.t.Helper()
	err := w.ledger.Read(context.Background(), func(tx *ledger.Tx) (err error) {
		rows, err = tx.Live()
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// whats are the audit's actions about a grant, oldest first; "": all.
func (w *world) whats(id string) []string {
	w.t.Helper()
	res := []string{}
	err := w.ledger.Read(context.Background(), func(tx *ledger.Tx) error {
		return tx.AuditAll(func(e api.Entry) error {
			if !slices.Contains(Actions(), e.What) {
				w.t.Errorf("an entry is of %q, which is no action", e.What)
			}
			if id == "" || e.Grant == id {
				res = append(res, e.What)
			}
			return nil
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

func (w *world) lets(want ...string) {
	w.t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, w.groups.lets()); diff != "" {
		w.t.Errorf("let in (-want +got):\n%s", diff)
	}
}

// refuses holds err to a code.
func refuses(t *testing.T, what string, err error, code api.Code) {
	t.Helper()
	told, ok := errors.AsType[*api.Error](err)
	if !ok || told.Code != code {
		t.Errorf("%s: got %#v, want the code %s", what, err, code)
	}
}

func passes(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
	synctest.Wait()
}

const (
	hanakoWeb = "hanako sg-0123456789abcdef0 203.0.113.7/32"
	taroWeb   = "taro sg-0123456789abcdef0 203.0.113.7/32"
	hanakoDB  = "hanako sg-0123456789abcdef1 203.0.113.7/32"
)

// Rule 1.
func TestIntentBeforeEffect(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		seen := 0
		w.groups.meets(func(what, id string) error {
			if what != "open" && what != "release" {
				return nil
			}
			seen++
			r := w.row(id)
			want := map[string]api.State{"open": api.Asked, "release": api.Ending}[what]
			if r.State != want || r.Owner != "one" || !time.Now().Before(r.Claimed) {
				t.Errorf("at %s: the row says %s, owner %q until %v", what, r.State, r.Owner, r.Claimed)
			}
			if got := w.whats(id); !slices.Contains(got, map[string]string{"open": "open", "release": "close"}[what]) {
				t.Errorf("at %s: the audit has %v", what, got)
			}
			return nil
		})
		o := w.open(hanako, "web", api.OpenRequest{Seconds: 3600})
		if o.State != api.Open || !o.InForce || o.Rule == "" || o.Length != 3600 {
			t.Errorf("got %+v", o)
		}
		w.lets(hanakoWeb)
		if l, ok := w.groups.lease(o.ID); !ok || l.Person != "hanako" {
			t.Error("the lease does not have the grant's id")
		}
		c, err := w.Close(t.Context(), hanako, o.ID)
		if err != nil || c.State != api.Ended || c.Why != "closed" {
			t.Errorf("got %+v, %v", c, err)
		}
		w.lets()
		if diff := cmp.Diff([]string{"open", "opened", "close"}, w.whats(o.ID)); diff != "" {
			t.Error(diff)
		}
		if seen != 2 {
			t.Errorf("%d calls were looked at", seen)
		}
		if v, err := w.Verify(t.Context(), ann); err != nil || !v.OK {
			t.Errorf("the audit: %+v, %v", v, err)
		}
	})
}

// Rule 2: on time, to the second, neither earlier nor later.
func TestEndsOnTime(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		o := w.open(hanako, "web", api.OpenRequest{Seconds: 600})
		w.open(taro, "web", api.OpenRequest{Seconds: 1200})
		passes(time.Until(o.Until) - time.Millisecond)
		w.lets(hanakoWeb, taroWeb)
		passes(time.Second)
		w.lets(taroWeb)
		if r := w.row(o.ID); r.State != api.Ended || r.Why != "expired" || r.Ended.Sub(o.Until) > time.Second {
			t.Errorf("got %+v", r)
		}
		passes(10 * time.Minute)
		w.lets()
	})
}

// Rule 2: what a dead gate left.
func TestTakeOver(t *testing.T) {
	for _, tt := range []struct {
		name string
		when string // it dies in this call
		end  bool   // it is closed first
		lets []string
	}{
		{"before it was opened", "open", false, []string{hanakoWeb}},
		{"after it was opened", "opened", false, []string{hanakoWeb}},
		{"before it was closed", "release", true, nil},
		{"after it was closed", "released", true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, doors, func(t *testing.T, w *world) {
				g, end := w.gate("dies")
				died := make(chan struct{})
				w.groups.meets(func(what, id string) error {
					if what != tt.when || w.row(id).Owner != "dies" {
						return nil
					}
					close(died)
					<-g.life.Done()
					return g.life.Err()
				})
				asked := make(chan struct{})
				go func() {
					defer close(asked)
					o, err := g.Open(context.Background(), hanako, "web", api.OpenRequest{Seconds: 3600})
					if err == nil && tt.end {
						_, _ = g.Close(context.Background(), hanako, o.ID)
					}
				}()
				<-died
				kill(g, end)
				began := time.Now()
				for want := len(tt.lets); ; passes(100 * time.Millisecond) {
					live := w.rows()
					if len(live) == want && (want == 0 || live[0].State == api.Open) {
						break
					}
					if time.Since(began) > 2*claimTime {
						t.Fatalf("not taken over: %+v", live)
					}
				}
				w.lets(tt.lets...)
				<-asked
			})
		})
	}
}

// Rule 2: a gate that only stood still finds that others have gone on.
func TestStoodStill(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		g, end := w.gate("slow")
		defer end()
		inIt, goOn := make(chan string, 1), make(chan struct{})
		w.groups.meets(func(what, id string) error {
			if what == "open" && w.row(id).Owner == "slow" {
				select {
				case inIt <- id:
					<-goOn
				default:
				}
			}
			return nil
		})
		go func() { _, _ = g.Open(context.Background(), hanako, "web", api.OpenRequest{Seconds: 3600}) }()
		id := <-inIt
		w.groups.leave(id) // it is not there to be at it
		passes(claimTime + 5*time.Second)
		w.lets(hanakoWeb) // the other has opened it
		if _, err := w.Close(t.Context(), hanako, id); err != nil {
			t.Fatal(err)
		}
		w.lets()
		close(goOn)
		passes(10 * time.Second)
		w.lets()
	})
}

// Rule 3.
func TestAskedTwice(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		a := w.open(hanako, "web", api.OpenRequest{Seconds: 600})
		b := w.open(hanako, "web", api.OpenRequest{Seconds: 1200})
		if a.ID != b.ID || !b.Until.After(a.Until) || b.State != api.Open {
			t.Errorf("got %+v, then %+v", a, b)
		}
		c := w.open(hanako, "web", api.OpenRequest{Seconds: 60}) // never shorter
		if c.ID != a.ID || !c.Until.Equal(b.Until) {
			t.Errorf("got %+v", c)
		}
		if l, _ := w.groups.lease(a.ID); l.Until.Before(b.Until) {
			t.Errorf("the lease ends at %v, the grant at %v", l.Until, b.Until)
		}
		w.lets(hanakoWeb)

		const lease = "abcdefghij0123456789"
		d := w.open(taro, "web", api.OpenRequest{Lease: lease, Seconds: 600})
		passes(time.Minute)
		e := w.open(taro, "web", api.OpenRequest{Lease: lease, Seconds: 600})
		if d.ID != lease || !e.Until.Equal(d.Until) {
			t.Errorf("asking twice is not asking once: %+v, then %+v", d, e)
		}
		_, err := w.Open(t.Context(), lea, "web", api.OpenRequest{Lease: lease})
		refuses(t, "another's lease", err, api.Conflict)
	})
}

// Rule 3: two people behind one address.
func TestSharedAddress(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		a := w.open(hanako, "web", api.OpenRequest{})
		b := w.open(taro, "web", api.OpenRequest{})
		if a.ID == b.ID || !slices.Equal(b.Shared, []string{"hanako"}) || len(b.Warnings) == 0 {
			t.Errorf("got %+v", b)
		}
		if a, err := w.Gate.Grant(t.Context(), hanako, a.ID); err != nil || !slices.Equal(a.Shared, []string{"taro"}) {
			t.Errorf("got %+v, %v", a, err)
		}
		if _, err := w.Close(t.Context(), hanako, a.ID); err != nil {
			t.Fatal(err)
		}
		w.lets(taroWeb)
	})
}

// A door that was closed a moment ago is opened again at once.
func TestOpenAfterClose(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.groups.takes = 2 * time.Second
		a := w.open(hanako, "web", api.OpenRequest{})
		go func() { _, _ = w.Close(context.Background(), hanako, a.ID) }()
		passes(time.Second)
		b := w.open(hanako, "web", api.OpenRequest{})
		if a.ID == b.ID || b.State != api.Open {
			t.Errorf("got %+v", b)
		}
		w.lets(hanakoWeb)
	})
}

// Rule 4.
func TestApproval(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		_, err := w.Open(t.Context(), hanako, "db", api.OpenRequest{})
		refuses(t, "without a reason", err, api.NotAllowed)
		o := w.open(hanako, "db", api.OpenRequest{Reason: "certificate", Seconds: 1800})
		if o.State != api.Waiting || !o.Until.IsZero() {
			t.Errorf("got %+v", o)
		}
		w.lets()
		if diff := cmp.Diff([]notify.Kind{notify.GateApproval}, w.kinds()); diff != "" {
			t.Error(diff)
		}
		if again := w.open(hanako, "db", api.OpenRequest{Reason: "certificate"}); again.ID != o.ID {
			t.Error("asked for twice")
		}
		for _, tt := range []struct {
			name string
			who  Who
			code api.Code
		}{
			{"oneself", hanako, api.Forbidden},
			{"who is no approver", taro, api.NotFound},
			{"an administrator who is no approver", ann, api.NotFound},
		} {
			_, err := w.Approve(t.Context(), tt.who, o.ID, api.AnswerRequest{})
			refuses(t, tt.name, err, tt.code)
			_, err = w.Deny(t.Context(), tt.who, o.ID, api.AnswerRequest{})
			refuses(t, tt.name, err, tt.code)
		}
		if waiting, err := w.Waiting(t.Context(), lea); err != nil || len(waiting) != 1 {
			t.Errorf("got %+v, %v", waiting, err)
		}
		passes(time.Hour)
		p, err := w.Approve(t.Context(), lea, o.ID, api.AnswerRequest{Reason: "go"})
		if err != nil || p.State != api.Open || p.Approver != "lea" || time.Until(p.Until) != 30*time.Minute {
			t.Errorf("got %+v, %v", p, err)
		}
		w.lets(hanakoDB)
		_, err = w.Approve(t.Context(), lea, o.ID, api.AnswerRequest{})
		refuses(t, "twice", err, api.Conflict)
		_, err = w.Extend(t.Context(), hanako, o.ID, api.ExtendRequest{Seconds: 3600})
		refuses(t, "longer than was approved", err, api.NotAllowed)
		passes(31 * time.Minute)
		w.lets()

		// One's own is not one's own to approve, whoever one is.
		o = w.open(lea, "db", api.OpenRequest{Reason: "certificate"})
		_, err = w.Approve(t.Context(), lea, o.ID, api.AnswerRequest{})
		refuses(t, "an approver's own", err, api.Forbidden)
		if c, err := w.Close(t.Context(), lea, o.ID); err != nil || c.Why != "withdrawn" {
			t.Errorf("got %+v, %v", c, err)
		}
		o = w.open(hanako, "db", api.OpenRequest{Reason: "certificate"})
		if d, err := w.Deny(t.Context(), lea, o.ID, api.AnswerRequest{Reason: "no"}); err != nil || d.State != api.Ended || d.Why != "denied" || d.Error != "no" {
			t.Errorf("got %+v, %v", d, err)
		}
		denied := func(who Who) *api.Denied {
			d, err := w.Door(t.Context(), who, "db")
			if err != nil {
				t.Fatal(err)
			}
			all, err := w.Doors(t.Context(), who)
			if i := slices.IndexFunc(all, func(d api.Door) bool { return d.Target == "db" }); err != nil || (all[i].Denied == nil) != (d.Denied == nil) {
				t.Errorf("doors: %+v, %v", all, err)
			}
			return d.Denied
		}
		if d := denied(hanako); d == nil || d.By != "lea" || d.Why != "no" {
			t.Errorf("who asked is told %+v", d)
		}
		for _, who := range []Who{lea, taro, ann} {
			if d := denied(who); d != nil {
				t.Errorf("%s is told %+v", who.Person, d)
			}
		}
		o = w.open(hanako, "db", api.OpenRequest{Reason: "certificate"})
		if d := denied(hanako); d != nil {
			t.Errorf("asked anew: %+v", d)
		}
		err = w.ledger.Write(t.Context(), func(tx *ledger.Tx) error { // a day goes by
			r, err := tx.Grant(o.ID)
			if err == nil {
				r.Asked = r.Asked.Add(-waitAtMost)
				_, err = tx.UpdateGrant(r)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		passes(time.Second)
		if r := w.row(o.ID); r.State != api.Ended || r.Why != "expired" {
			t.Errorf("after a day: %+v", r)
		}
		w.lets()
	})
}

// Rule 4: in an emergency.
func TestBreakGlass(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		_, err := w.Open(t.Context(), hanako, "db", api.OpenRequest{Break: true})
		refuses(t, "without a reason", err, api.NotAllowed)
		_, err = w.Open(t.Context(), taro, "db", api.OpenRequest{Break: true, Reason: "fire"})
		refuses(t, "who may not", err, api.NotAllowed)
		o := w.open(hanako, "db", api.OpenRequest{Reason: "fire"})
		b := w.open(hanako, "db", api.OpenRequest{Break: true, Reason: "fire"})
		if b.ID != o.ID || b.State != api.Open || !b.Break {
			t.Errorf("got %+v", b)
		}
		w.lets(hanakoDB)
		if !slices.Contains(w.kinds(), notify.GateBreakGlass) || !slices.Contains(w.whats(b.ID), "open.break_glass") {
			t.Errorf("told of %v, audited %v", w.kinds(), w.whats(b.ID))
		}
		all, err := w.Grants(t.Context(), ann, true)
		if err != nil || len(all) != 1 || !all[0].Break {
			t.Errorf("got %+v, %v", all, err)
		}
	})
}

// Rule 5.
func TestDisable(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.open(hanako, "web", api.OpenRequest{})
		waits := w.open(hanako, "db", api.OpenRequest{Reason: "x"})
		w.open(taro, "web", api.OpenRequest{})
		token, _, err := w.NewSession(t.Context(), "hanako", api.ViaPasskey, hanako.From, "a browser")
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Disable(t.Context(), taro, "hanako", api.DisableRequest{})
		refuses(t, "by who is no administrator", err, api.Forbidden)
		_, err = w.Disable(t.Context(), ann, "ann", api.DisableRequest{})
		refuses(t, "oneself", err, api.Conflict)

		// Whoever is at it at the same time does not get in afterwards.
		w.groups.takes = 3 * time.Second
		other := hanako
		other.From = netip.MustParseAddr("203.0.113.8")
		raced := make(chan error, 1)
		go func() {
			_, err := w.Open(context.Background(), other, "web", api.OpenRequest{})
			raced <- err
		}()
		passes(time.Second)
		ended, err := w.Disable(t.Context(), ann, "hanako", api.DisableRequest{Cut: true, Reason: "left"})
		if err != nil || len(ended) != 3 {
			t.Errorf("ended %+v, %v", ended, err)
		}
		_, err = w.Open(t.Context(), hanako, "web", api.OpenRequest{})
		refuses(t, "afterwards", err, api.Disabled)
		_, err = w.SessionOf(t.Context(), token, hanako.From)
		refuses(t, "its session", err, api.NoIdentity)
		<-raced
		passes(30 * time.Second)
		w.lets(taroWeb)
		if r := w.row(waits.ID); r.State != api.Ended || r.Why != "disabled" {
			t.Errorf("what waited: %+v", r)
		}
		if w.RoleOf("hanako") != "" {
			t.Error("who is disabled has a role")
		}
		if p, err := w.Person(t.Context(), ann, "hanako"); err != nil || !p.Disabled || p.By != "ann" {
			t.Errorf("got %+v, %v", p, err)
		}
		if _, err := w.Enable(t.Context(), ann, "hanako"); err != nil {
			t.Fatal(err)
		}
		w.lets(taroWeb)
		w.open(hanako, "web", api.OpenRequest{})
	})
}

// Rule 6.
func TestPolicyTakesAway(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		a := w.open(hanako, "web", api.OpenRequest{Seconds: 7200})
		w.open(taro, "web", api.OpenRequest{Seconds: 7200})
		w.configure(strings.Replace(strings.Replace(doors, "hanako: {groups: [ops]}", "hanako: {groups: [leads]}", 1), "allow: [ops], at_most: 8h", "allow: [ops], at_most: 1h", 1))
		_, err := w.Extend(t.Context(), hanako, a.ID, api.ExtendRequest{})
		refuses(t, "longer", err, api.NotAllowed)
		passes(10 * time.Second)
		w.lets(taroWeb)
		if r := w.row(a.ID); r.Why != "policy" {
			t.Errorf("got %+v", r)
		}
		passes(time.Hour) // what is allowed now
		w.lets()

		// A target that is somewhere else, or gone.
		w.open(taro, "web", api.OpenRequest{})
		w.configure(strings.Replace(doors, "abcdef0}", "abcdef9}", 1))
		_, _ = w.Doors(t.Context(), taro)
		passes(10 * time.Second)
		w.lets()
	})
}

// Rule 8.
func TestLedgerFails(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		a := w.open(hanako, "web", api.OpenRequest{Seconds: 600})
		w.open(taro, "web", api.OpenRequest{Seconds: 3600})
		if err := w.ledger.Close(); err != nil {
			t.Fatal(err)
		}
		opened := w.groups.opened
		_, err := w.Open(t.Context(), lea, "web", api.OpenRequest{})
		refuses(t, "open", err, api.Busy)
		if w.groups.opened != opened {
			t.Error("it was opened all the same")
		}
		if err := w.Ready(t.Context()); err == nil {
			t.Error("it is taken for ready")
		}
		_, err = w.Close(t.Context(), taro, w.live.person("taro")[0].ID)
		refuses(t, "close", err, api.Busy)
		passes(5 * time.Second)
		w.lets(hanakoWeb)
		passes(time.Until(a.Until) + 2*reapEvery)
		w.lets()
	})
}

// Rule 9.
func TestBounds(t *testing.T) {
	yaml := people + "targets:\n"
	for i := range 15 {
		yaml += "  t" + string(rune('a'+i)) + ": {aws: {region: eu-central-1, group: sg-0123456789abcde" + string("0123456789abcdef"[i]) + "0}, allow: [ops]}\n"
	}
	for _, name := range []string{"db", "dc", "dd"} {
		yaml += "  " + name + ": {aws: {region: eu-central-1, group: sg-0123456789abcdef1}, port: 22" + name[1:] + ", allow: [ops], approval: leads}\n"
	}
	yaml = strings.NewReplacer("22b", "221", "22c", "222", "22d", "223").Replace(yaml)
	in(t, yaml, func(t *testing.T, w *world) {
		at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}) }
		for i := range maxLive {
			w.open(hanako, "t"+string(rune('a'+i%15)), api.OpenRequest{Address: at(i)})
		}
		_, err := w.Open(t.Context(), hanako, "ta", api.OpenRequest{Address: at(200)})
		refuses(t, "one more", err, api.TooMany)
		w.open(hanako, "ta", api.OpenRequest{Address: at(0), Seconds: 7200}) // the same is none more
		for i := range maxWaiting {
			w.open(hanako, []string{"db", "dc"}[i/maxThere], api.OpenRequest{Address: at(i)})
		}
		_, err = w.Open(t.Context(), hanako, "dd", api.OpenRequest{Address: at(200)})
		refuses(t, "one more that waits", err, api.TooMany)
		for i := range maxThere {
			w.open(taro, "tc", api.OpenRequest{Address: at(i)})
		}
		_, err = w.Open(t.Context(), taro, "tc", api.OpenRequest{Address: at(200)})
		refuses(t, "one more of somebody's at a target", err, api.TooMany)
		w.open(taro, "tc", api.OpenRequest{Address: at(0), Seconds: 7200}) // the same is none more
		_, err = w.Open(t.Context(), taro, "ta", api.OpenRequest{Reason: strings.Repeat("道", maxReason+1)})
		refuses(t, "a long reason", err, api.BadRequest)
		w.open(taro, "ta", api.OpenRequest{Reason: strings.Repeat("道", maxReason)})
		for _, bad := range []string{"a\nb", "a\x1b[31m", "\u202e"} {
			_, err = w.Open(t.Context(), taro, "ta", api.OpenRequest{Reason: "x" + bad + "x"})
			refuses(t, "a reason that cannot be seen", err, api.BadRequest)
		}
		for _, bad := range []string{"short", strings.Repeat("a", 65), "abcdefghijklmnop/"} {
			_, err = w.Open(t.Context(), taro, "ta", api.OpenRequest{Lease: bad})
			refuses(t, "a lease", err, api.BadRequest)
		}
		_, err = w.Open(t.Context(), taro, "ta", api.OpenRequest{Seconds: -1})
		refuses(t, "less than nothing", err, api.BadRequest)
		_, err = w.Open(t.Context(), taro, "nowhere", api.OpenRequest{})
		refuses(t, "no target", err, api.NotFound)

		err = w.ledger.Write(t.Context(), func(tx *ledger.Tx) error {
			for i := range maxOutstanding {
				if err := tx.PutOnce(ledger.Once{Kind: onceHost, Key: sha256.Sum256([]byte{byte(i), byte(i >> 8)}), Until: time.Now().Add(time.Hour)}); err != nil {
					return err
				}
			}
			for i := range maxOn {
				_, err := tx.PutGrant(ledger.Grant{
					ID: "full" + string(rune('a'+i/26)) + string(rune('a'+i%26)), Person: "p", Target: "tb", Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 32),
					State: api.Open, Asked: time.Now(), Until: time.Now().Add(time.Hour),
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.AddHost(t.Context(), ann, "box-9")
		refuses(t, "one more token", err, api.TooMany)
		_, err = w.Open(t.Context(), taro, "tb", api.OpenRequest{})
		refuses(t, "one more at a target", err, api.TooMany)
	})
}

// What AWS does not do.
func TestCloudFails(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.groups.meets(func(what, id string) error {
			if what == "open" {
				return errDown
			}
			return nil
		})
		_, err := w.Open(t.Context(), hanako, "web", api.OpenRequest{})
		refuses(t, "open", err, api.Unreachable)
		passes(5 * time.Second)
		if live := w.rows(); len(live) > 0 {
			t.Errorf("left: %+v", live)
		}

		// Its answer is lost: what it did is undone.
		w.groups.meets(func(what, id string) error {
			if what == "opened" {
				return errDown
			}
			return nil
		})
		_, err = w.Open(t.Context(), hanako, "web", api.OpenRequest{})
		refuses(t, "open", err, api.Unreachable)
		passes(5 * time.Second)
		w.lets()

		// What is open is not harmed when it cannot be made longer.
		w.groups.meets(nil)
		o := w.open(hanako, "web", api.OpenRequest{Seconds: 600})
		w.groups.meets(func(what, id string) error {
			if what == "open" {
				return errDown
			}
			return nil
		})
		_, err = w.Extend(t.Context(), hanako, o.ID, api.ExtendRequest{Seconds: 3600})
		refuses(t, "extend", err, api.Unreachable)
		now, err := w.Gate.Grant(t.Context(), hanako, o.ID)
		if err != nil || now.State != api.Open || !now.Until.Equal(o.Until) || !now.InForce {
			t.Errorf("got %+v, %v", now, err)
		}
		w.lets(hanakoWeb)

		// It cannot be closed for long: that is told, and tried on.
		w.groups.meets(func(what, id string) error { return errDown })
		c, err := w.Close(t.Context(), hanako, o.ID)
		if err != nil || c.State != api.Ending || c.Error == "" {
			t.Errorf("got %+v, %v", c, err)
		}
		passes(stuckAfter + backoffMost + time.Second)
		if c, _ = w.Gate.Grant(t.Context(), hanako, o.ID); !c.Stuck || !slices.Contains(w.kinds(), notify.LeaseStuck) || !slices.Contains(w.whats(o.ID), "stuck") {
			t.Errorf("got %+v, told of %v, audited %v", c, w.kinds(), w.whats(o.ID))
		}
		w.groups.meets(nil)
		passes(backoffMost + time.Second)
		w.lets()
		if e := w.told[len(w.told)-1]; e.Kind != notify.LeaseStuck || e.State != notify.Over {
			t.Errorf("told of %+v at last", e)
		}
	})
}

// A slow answer is waited for, for a while.
func TestSlowCloud(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.groups.takes = 20 * time.Second
		began := time.Now()
		o := w.open(hanako, "web", api.OpenRequest{Seconds: 600})
		if o.State != api.Asked || o.InForce || time.Since(began) != openWait {
			t.Errorf("after %v: %+v", time.Since(began), o)
		}
		passes(10 * time.Second)
		if o, _ = w.Gate.Grant(t.Context(), hanako, o.ID); o.State != api.Open {
			t.Errorf("got %+v", o)
		}
		// Closed while it is being made longer.
		go func() { _, _ = w.Extend(context.Background(), hanako, o.ID, api.ExtendRequest{Seconds: 3600}) }()
		passes(time.Second)
		_, _ = w.Close(t.Context(), hanako, o.ID)
		passes(time.Minute)
		w.lets()
	})
}

func TestDecisionsTable(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		for _, tt := range []struct {
			name   string
			who    Who
			target string
			q      api.OpenRequest
			code   api.Code // "": it is opened
			state  api.State
		}{
			{"allowed", hanako, "web", api.OpenRequest{}, "", api.Open},
			{"for too long", hanako, "web", api.OpenRequest{Seconds: 9 * 3600}, api.NotAllowed, ""},
			{"by the host's name", taro, "WEB", api.OpenRequest{}, "", api.Open},
			{"whom it is not for", otto, "web", api.OpenRequest{}, api.NotAllowed, ""},
			{"an administrator whom it is not for", ann, "web", api.OpenRequest{}, api.NotAllowed, ""},
			{"who is nobody", Who{Person: "eve", Role: api.RoleAdmin}, "web", api.OpenRequest{}, api.NotFound, ""},
			{"nobody", Who{}, "web", api.OpenRequest{}, api.NoIdentity, ""},
			{"a host", box1, "web", api.OpenRequest{}, api.Forbidden, ""},
			{"a link", Who{Person: "hanako", Via: api.ViaLink, From: hanako.From}, "web", api.OpenRequest{}, api.Forbidden, ""},
			{"no address", Who{Person: "hanako", Via: api.ViaKey}, "web", api.OpenRequest{}, api.BadRequest, ""},
			{"loopback", hanako, "web", api.OpenRequest{Address: netip.MustParseAddr("127.0.0.1")}, api.NotAllowed, ""},
			{"mapped", lea, "web", api.OpenRequest{Address: netip.MustParseAddr("::ffff:203.0.113.99")}, "", api.Open},
			{"IPv6", lea, "web", api.OpenRequest{Address: netip.MustParseAddr("2001:db8::7")}, "", api.Open},
			{"with a zone", lea, "web", api.OpenRequest{Address: netip.MustParseAddr("fe80::1%eth0")}, api.BadRequest, ""},
			{"that needs a reason", hanako, "db", api.OpenRequest{}, api.NotAllowed, ""},
			{"that needs approval", hanako, "db", api.OpenRequest{Reason: "x"}, "", api.Waiting},
			{"broken glass where there is none", hanako, "web", api.OpenRequest{Break: true, Reason: "x"}, api.NotAllowed, ""},
		} {
			o, err := w.Open(t.Context(), tt.who, tt.target, tt.q)
			if tt.code != "" {
				refuses(t, tt.name, err, tt.code)
				continue
			}
			if err != nil || o.State != tt.state {
				t.Errorf("%s: got %+v, %v", tt.name, o, err)
			}
		}
	})
}

// What is a person's own is another's not to touch.
func TestOthersGrants(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		o := w.open(hanako, "web", api.OpenRequest{Reason: "mine"})
		_, err := w.Extend(t.Context(), taro, o.ID, api.ExtendRequest{})
		refuses(t, "extend", err, api.NotFound)
		_, err = w.Extend(t.Context(), ann, o.ID, api.ExtendRequest{})
		refuses(t, "extend, as an administrator", err, api.NotFound)
		_, err = w.Close(t.Context(), taro, o.ID)
		refuses(t, "close", err, api.NotFound)
		_, err = w.Gate.Grant(t.Context(), taro, o.ID)
		refuses(t, "see", err, api.NotFound)
		_, err = w.Grants(t.Context(), taro, true)
		refuses(t, "see all", err, api.Forbidden)
		door, err := w.Door(t.Context(), taro, "web")
		if err != nil || len(door.Grants) != 1 || door.Grants[0].Person != "hanako" || door.Grants[0].Reason != "" {
			t.Errorf("who else is in: %+v, %v", door.Grants, err)
		}
		if door, err = w.Door(t.Context(), otto, "web"); err != nil || len(door.Grants) != 0 || door.Allowed {
			t.Errorf("whom it is not for sees %+v, %v", door, err)
		}
		if _, err = w.Close(t.Context(), ann, o.ID); err != nil {
			t.Error(err)
		}
		w.lets()
		if entries, err := w.Audit(t.Context(), ann, Filter{What: "close"}); err != nil || len(entries) != 1 || entries[0].Who != "ann" || entries[0].Person != "hanako" {
			t.Errorf("got %+v, %v", entries, err)
		}
	})
}

func newKey(t testing.TB, seed byte) ssh.PublicKey {
	t.Helper()
	key, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(slices.Repeat([]byte{seed}, 32)).Public())
	if err != nil {
		t.Fatal(err)
	}
	return key
}
