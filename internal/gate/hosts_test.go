package gate

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
)

// enrol makes box-1 known.
func (w *world) enrol(name string, seed byte) {
	w.t.Helper()
	invited, err := w.AddHost(w.t.Context(), ann, name)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.Enrol(w.t.Context(), newKey(w.t, seed), api.EnrolRequest{Token: invited.Token, Version: "1.0"}, netip.Addr{}); err != nil {
		w.t.Fatal(err)
	}
}

// listener is a host that listens.
type listener struct {
	t      *testing.T
	next   func() (api.Change, bool)
	stop   func()
	ticket string
	timed  bool // the last was a beat, or came with one
}

func (w *world) listen(g *Gate, host string) (*listener, api.Snapshot) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	seq, err := g.Stream(ctx, Who{Role: api.RoleHost, Via: api.ViaHost, Host: host})
	if err != nil {
		w.t.Fatal(err)
	}
	next, stop := iter.Pull(seq)
	l := &listener{t: w.t, next: next, stop: func() { cancel(); stop() }}
	c := l.change()
	if c.Snapshot == nil {
		w.t.Fatalf("a stream begins with %+v", c)
	}
	l.ticket = c.Snapshot.Ticket
	return l, *c.Snapshot
}

// change is the next that is no beat. What lets in comes with one, by which a host tells
// how late it reads that.
func (l *listener) change() api.Change {
	l.t.Helper()
	for {
		c, ok := l.next()
		if !ok {
			l.t.Fatal("the stream has ended")
		}
		if c.Let != nil && !l.timed {
			l.t.Errorf("%s is let in, and no beat says when that was written", c.Let.Prefix)
		}
		l.timed = !c.Beat.IsZero() || c.Let != nil && l.timed
		if c.Beat.IsZero() {
			return c
		}
	}
}

func (w *world) report(g *Gate, host string, r api.Report) {
	w.t.Helper()
	if err := g.Report(w.t.Context(), Who{Role: api.RoleHost, Via: api.ViaHost, Host: host}, r); err != nil {
		w.t.Error(err)
	}
}

// Rule 7.
func TestHost(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.enrol("box-1", 1)
		_, err := w.Stream(t.Context(), Who{Role: api.RoleHost, Host: "box-2"})
		refuses(t, "who is not enrolled", err, api.Unknown)
		_, err = w.Stream(t.Context(), ann)
		refuses(t, "who is no host", err, api.Forbidden)

		// Nobody listens: it is asked for, and said so.
		began := time.Now()
		o := w.open(hanako, "box", api.OpenRequest{Seconds: 3600, Reason: "disk"})
		if o.State != api.Asked || o.InForce || len(o.Warnings) != 1 || !strings.Contains(o.Warnings[0], "not connected") || time.Since(began) != hostWait {
			t.Errorf("after %v: %+v", time.Since(began), o)
		}
		h, s := w.listen(w.Gate, "box-1")
		defer h.stop()
		want := []api.HostGrant{{ID: o.ID, Person: "hanako", Prefix: netip.MustParsePrefix("203.0.113.7/32"), Millis: time.Until(o.Until).Milliseconds(), Port: 22, Reason: "disk"}}
		if diff := cmp.Diff(want, s.Grants, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
		w.report(w.Gate, "box-1", api.Report{Ticket: h.ticket, Whole: true, Grants: []api.ReportedGrant{{ID: o.ID, InForce: true}}, Seen: []netip.Addr{netip.MustParseAddr("203.0.113.250")}})
		o, err = w.Gate.Grant(t.Context(), hanako, o.ID)
		if err != nil || o.State != api.Open || !o.InForce || len(o.Warnings) != 1 || !strings.Contains(o.Warnings[0], "203.0.113.250") {
			t.Errorf("got %+v, %v", o, err)
		}
		if diff := cmp.Diff([]string{"open", "opened"}, w.whats(o.ID)); diff != "" {
			t.Error(diff)
		}

		// It listens: Open waits for it.
		opened := make(chan api.Grant, 1)
		go func() {
			o, err := w.Open(context.Background(), taro, "box", api.OpenRequest{Seconds: 600})
			if err != nil {
				t.Error(err)
			}
			opened <- o
		}()
		let := h.change().Let
		if let == nil || let.Person != "taro" || let.Millis != 600_000 {
			t.Fatalf("got %+v", let)
		}
		passes(time.Second)
		w.report(w.Gate, "box-1", api.Report{Ticket: h.ticket, Grants: []api.ReportedGrant{{ID: let.ID, InForce: true}}})
		b := <-opened
		if b.State != api.Open || !b.InForce || !slices.Equal(b.Shared, []string{"hanako"}) {
			t.Errorf("got %+v", b)
		}

		// Made longer: the host is told, and it stays in force.
		if b, err = w.Extend(t.Context(), taro, b.ID, api.ExtendRequest{Seconds: 1200}); err != nil || b.State != api.Open || !b.InForce {
			t.Errorf("got %+v, %v", b, err)
		}
		if let = h.change().Let; let == nil || let.Millis != 1200_000 {
			t.Errorf("got %+v", let)
		}

		// Closed: it has ended when the host says so.
		closed := make(chan api.Grant, 1)
		go func() {
			c, _ := w.Close(context.Background(), taro, b.ID)
			closed <- c
		}()
		if end := h.change().End; end != b.ID {
			t.Errorf("got %q", end)
		}
		w.report(w.Gate, "box-1", api.Report{Ticket: h.ticket, Grants: []api.ReportedGrant{{ID: b.ID, InForce: false}}})
		if c := <-closed; c.State != api.Ended || c.InForce {
			t.Errorf("got %+v", c)
		}

		// Disabled, with the connections: the host is told to cut them.
		if _, err := w.Disable(t.Context(), ann, "hanako", api.DisableRequest{Cut: true}); err != nil {
			t.Fatal(err)
		}
		if end := h.change().End; end != o.ID {
			t.Errorf("got %q", end)
		}
		if cut := h.change().Cut; cut == nil || *cut != o.Prefix {
			t.Errorf("got %v", cut)
		}
		// It is away before it says so: it is told again, and the grant is not taken for ended.
		h.stop()
		passes(time.Minute)
		if r := w.row(o.ID); r.State != api.Ending || !r.InForce {
			t.Errorf("got %+v", r)
		}
		h, s = w.listen(w.Gate, "box-1")
		defer h.stop()
		if len(s.Grants) != 0 {
			t.Errorf("got %+v", s.Grants)
		}
		if cut := h.change().Cut; cut == nil || *cut != o.Prefix {
			t.Errorf("got %v", cut)
		}
		w.report(w.Gate, "box-1", api.Report{Ticket: h.ticket, Whole: true})
		if r := w.row(o.ID); r.State != api.Ended || r.Why != "disabled" {
			t.Errorf("got %+v", r)
		}
	})
}

// A host that never says anything: its kernel ends what it has, and so does the row.
func TestHostThatIsAway(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.enrol("box-1", 1)
		o := w.open(hanako, "box", api.OpenRequest{Seconds: 600})
		c, err := w.Close(t.Context(), hanako, o.ID)
		if err != nil || c.State != api.Ending {
			t.Errorf("got %+v, %v", c, err)
		}
		again := w.open(hanako, "box", api.OpenRequest{Seconds: 1200}) // it may be asked for anew all the same
		if again.ID != o.ID || again.State != api.Asked || time.Until(again.Until) > 1200*time.Second {
			t.Errorf("got %+v", again)
		}
		passes(20*time.Minute + 5*time.Second)
		if r := w.row(o.ID); r.State != api.Ended || r.Why != "expired" {
			t.Errorf("got %+v", r)
		}
	})
}

// Several gates: the host listens at one, people are at another, and its reports may reach
// any.
func TestHostAtAnotherGate(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		g, end := w.gate("two")
		defer end()
		w.enrol("box-1", 1)
		h, _ := w.listen(g, "box-1")
		defer h.stop()
		passes(hostsEvery + time.Second)
		opened := make(chan api.Grant, 1)
		go func() {
			o, err := w.Open(context.Background(), hanako, "box", api.OpenRequest{})
			if err != nil {
				t.Error(err)
			}
			opened <- o
		}()
		let := h.change().Let
		if let == nil {
			t.Fatal("no grant came")
		}
		w.report(w.Gate, "box-1", api.Report{Ticket: h.ticket, Grants: []api.ReportedGrant{{ID: let.ID, InForce: true}}})
		if o := <-opened; !o.InForce || len(o.Warnings) > 0 {
			t.Errorf("got %+v", o)
		}
		// Another stream takes the place of this one, and its ticket is worth nothing.
		h2, _ := w.listen(w.Gate, "box-1")
		defer h2.stop()
		err := g.Report(t.Context(), Who{Role: api.RoleHost, Host: "box-1"}, api.Report{Ticket: h.ticket + "x"})
		refuses(t, "no ticket", err, api.Expired)
		_, err = g.HostOfTicket(t.Context(), h.ticket)
		refuses(t, "the old ticket", err, api.Expired)
		if name, err := g.HostOfTicket(t.Context(), h2.ticket); err != nil || name != "box-1" {
			t.Errorf("got %q, %v", name, err)
		}
	})
}

// A host that is forgotten, or enrolled with another key, at one gate hears no more at
// another, and the token that was told of before is worth nothing.
func TestHostForgottenAtAnotherGate(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, w *world)
	}{
		{"forgotten", func(t *testing.T, w *world) {
			told, err := w.AddHost(t.Context(), ann, "box-1")
			if err != nil {
				t.Fatal(err)
			}
			if err := w.DeleteHost(t.Context(), ann, "box-1"); err != nil {
				t.Fatal(err)
			}
			_, err = w.Enrol(t.Context(), newKey(t, 1), api.EnrolRequest{Token: told.Token}, netip.Addr{})
			refuses(t, "the token of a host that is forgotten", err, api.NotFound)
		}},
		{"another key", func(t *testing.T, w *world) {
			first, err := w.AddHost(t.Context(), ann, "box-1")
			if err != nil {
				t.Fatal(err)
			}
			w.enrol("box-1", 2)
			_, err = w.Enrol(t.Context(), newKey(t, 1), api.EnrolRequest{Token: first.Token}, netip.Addr{})
			refuses(t, "the token before the last", err, api.NotFound)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, doors, func(t *testing.T, w *world) {
				g, end := w.gate("two")
				defer end()
				w.enrol("box-1", 1)
				h, _ := w.listen(g, "box-1")
				defer h.stop()
				passes(hostsEvery + time.Second)
				tt.do(t, w)
				_, err := w.HostOfTicket(t.Context(), h.ticket)
				refuses(t, "its ticket", err, api.Expired)
				passes(hostsEvery + time.Second)
				for range 10 {
					c, ok := h.next()
					if !ok {
						return
					}
					if c.Beat.IsZero() {
						t.Errorf("it is told %+v", c)
					}
				}
				t.Error("its stream goes on")
			})
		})
	}
}

// What a host may not: speak for another's grants, and enrol twice by one token.
func TestHostsApart(t *testing.T) {
	yaml := doors + "  box2: {agent: box-2, allow: [ops]}\n"
	in(t, yaml, func(t *testing.T, w *world) {
		w.enrol("box-1", 1)
		w.enrol("box-2", 2)
		o := w.open(hanako, "box", api.OpenRequest{})
		h2, s := w.listen(w.Gate, "box-2")
		defer h2.stop()
		if len(s.Grants) != 0 {
			t.Errorf("box-2 got %+v", s.Grants)
		}
		w.report(w.Gate, "box-2", api.Report{Ticket: h2.ticket, Grants: []api.ReportedGrant{{ID: o.ID, InForce: true}}})
		if r := w.row(o.ID); r.InForce {
			t.Error("another host has said that it is in force")
		}
		err := w.Report(t.Context(), box1, api.Report{Ticket: h2.ticket})
		refuses(t, "another's ticket", err, api.Expired)
		err = w.Report(t.Context(), Who{Role: api.RoleHost, Host: "box-2"}, api.Report{Ticket: h2.ticket, Grants: make([]api.ReportedGrant, maxReported+1)})
		refuses(t, "too much", err, api.TooLarge)

		invited, err := w.AddHost(t.Context(), ann, "box-3")
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Enrol(t.Context(), newKey(t, 1), api.EnrolRequest{Token: invited.Token}, netip.Addr{})
		refuses(t, "with another's key", err, api.Conflict)
		if _, err := w.Enrol(t.Context(), newKey(t, 3), api.EnrolRequest{Token: invited.Token}, netip.Addr{}); err != nil {
			t.Fatal(err)
		}
		_, err = w.Enrol(t.Context(), newKey(t, 4), api.EnrolRequest{Token: invited.Token}, netip.Addr{})
		refuses(t, "twice", err, api.NotFound)
		err = w.ledger.Write(t.Context(), func(tx *ledger.Tx) error {
			return tx.PutOnce(ledger.Once{Kind: onceHost, Key: sha256.Sum256([]byte("late")), Data: []byte("box-4"), Until: time.Now().Add(time.Second)})
		})
		if err != nil {
			t.Fatal(err)
		}
		passes(time.Second)
		_, err = w.Enrol(t.Context(), newKey(t, 4), api.EnrolRequest{Token: "late"}, netip.Addr{})
		refuses(t, "too late", err, api.Expired)

		if name, err := w.HostOfKey(t.Context(), newKey(t, 3), netip.Addr{}); err != nil || name != "box-3" {
			t.Errorf("got %q, %v", name, err)
		}
		_, err = w.HostOfKey(t.Context(), newKey(t, 9), netip.Addr{})
		refuses(t, "a key that is nobody's", err, api.Unknown)
		if err := w.DeleteHost(t.Context(), ann, "box-3"); err != nil {
			t.Fatal(err)
		}
		_, err = w.HostOfKey(t.Context(), newKey(t, 3), netip.Addr{})
		refuses(t, "a host that is forgotten", err, api.Unknown)
		hosts, err := w.Hosts(t.Context(), ann)
		if err != nil || len(hosts) != 2 || hosts[1].Name != "box-2" {
			t.Errorf("got %+v, %v", hosts, err)
		}
	})
}

// TestManyHosts holds a thousand hosts that listen to their memory and their quickness.
func TestManyHosts(t *testing.T) {
	const hosts = 1000
	yaml := people + "targets:\n"
	for i := range hosts - 1 {
		yaml += fmt.Sprintf("  t%d: {agent: h%d, allow: [ops]}\n", i, i)
	}
	in(t, yaml, func(t *testing.T, w *world) {
		err := w.ledger.Write(t.Context(), func(tx *ledger.Tx) error {
			for i := range hosts {
				if err := tx.PutHost(ledger.Host{Name: fmt.Sprintf("h%d", i), Key: "k", Fingerprint: fmt.Sprint(i)}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := make(chan string, hosts)
		for i := range hosts {
			seq, err := w.Stream(ctx, Who{Role: api.RoleHost, Host: fmt.Sprintf("h%d", i)})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for c := range seq {
					if c.Let != nil {
						got <- c.Let.Person
					}
				}
			}()
		}
		passes(time.Second)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if per := int64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse) / hosts; per > 50_000 {
			t.Errorf("a host that listens takes %d bytes", per)
		} else {
			t.Logf("a host that listens takes %d bytes", per)
		}
		go func() { _, _ = w.Open(context.Background(), hanako, "t500", api.OpenRequest{}) }()
		if person := <-got; person != "hanako" {
			t.Errorf("got %q", person)
		}
		passes(hostWait + time.Second)
		if len(got) > 0 {
			t.Errorf("%d hosts too many were told", len(got))
		}
		cancel()
		passes(time.Second)
	})
}

func TestHostsOfAGateWithoutState(t *testing.T) {
	cfg := parse(t, doors)
	g := New(Options{Config: func() *config.Config { return cfg }, Groups: newFakeGroups().of})
	_, err := g.Hosts(t.Context(), ann)
	refuses(t, "see them", err, api.Forbidden)
	_, err = g.AddHost(t.Context(), ann, "box-1")
	refuses(t, "add one", err, api.Forbidden)
	refuses(t, "forget one", g.DeleteHost(t.Context(), ann, "box-1"), api.Forbidden)
}

func TestClean(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"plain", "nft: no such table", "nft: no such table"},
		{"any script", "規則\u3000がない é", "規則\u3000がない é"},
		{"an escape", "a\x1b[2Jb", "a [2Jb"},
		{"a C1 control", "a\u009b2Jb", "a 2Jb"},
		{"the other way around", "a\u202eb\u2066c", "a b c"},
		{"lines", "a\nb\r\n", "a b"},
		{"no text", "a\xffb\ufffdc", "a b c"},
		{"long", strings.Repeat("界", maxSaid+1), strings.Repeat("界", maxSaid)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := clean(tt.text); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestElsewhere: who has opened a host and does not come is told whom it turned away.
func TestElsewhere(t *testing.T) {
	in(t, doors, func(t *testing.T, w *world) {
		w.enrol("box-1", 1)
		h, _ := w.listen(w.Gate, "box-1")
		defer h.stop()
		// opened opens box for who's own address, and has the host say that it did.
		opened := func(who Who) api.Grant {
			t.Helper()
			done := make(chan struct{})
			go func() {
				defer close(done)
				if _, err := w.Open(context.Background(), who, "box", api.OpenRequest{Seconds: 7200}); err != nil {
					t.Error(err)
				}
			}()
			let := h.change().Let
			w.report(w.Gate, "box-1", api.Report{Ticket: h.ticket, Grants: []api.ReportedGrant{{ID: let.ID, InForce: true}}})
			<-done
			o, err := w.Gate.Grant(t.Context(), who, let.ID)
			if err != nil || !o.InForce || len(o.Warnings) > 0 {
				t.Fatalf("%+v, %v", o, err)
			}
			return o
		}
		saw := func(addrs ...string) {
			t.Helper()
			seen := []netip.Addr{}
			for _, a := range addrs {
				seen = append(seen, netip.MustParseAddr(a))
			}
			w.report(w.Gate, "box-1", api.Report{Ticket: h.ticket, Grants: []api.ReportedGrant{}, Seen: seen})
		}
		o := opened(hanako)
		warnings := func(who Who) string {
			t.Helper()
			o, err := w.Gate.Grant(t.Context(), who, o.ID)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(o.Warnings, "|")
		}
		away := hanako
		away.From = netip.MustParseAddr("192.0.2.9")
		at6 := hanako
		at6.From = netip.MustParseAddr("2001:db8:1:2::9")
		const (
			begins  = "box-1 has seen nobody come from 203.0.113.7 yet, and turned away "
			ifYours = ": if you know one as your own, open it for that by `sekisho open box --ip ADDRESS`; strangers knock, too"
			fromNow = ", where you are now: open it from here"
		)
		for _, tt := range []struct {
			name string
			seen []string
			who  Who
			want string
		}{
			{"nobody", nil, hanako, ""},
			{"a stranger", []string{"192.0.2.9"}, hanako, begins + "192.0.2.9" + ifYours},
			{"one who is near, and a stranger", []string{"192.0.2.9", "203.0.200.1"}, hanako, begins + "203.0.200.1" + ifYours},
			{"the other family, and a stranger", []string{"192.0.2.9", "2001:db8::9"}, hanako, begins + "2001:db8::9" + ifYours},
			{"from where they ask", []string{"203.0.200.1", "192.0.2.9"}, away, begins + "192.0.2.9" + fromNow},
			{"the /64 from where they ask", []string{"192.0.2.9", "2001:db8:1:2::1"}, at6, begins + "2001:db8:1:2::1" + fromNow},
			{"many", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"}, hanako, begins + "192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4 and 2 more" + ifYours},
			{"they are in", []string{"203.0.113.7", "192.0.2.9"}, hanako, ""},
			{"somebody else looks", []string{"192.0.2.9"}, ann, ""},
			{"what nobody comes from, or is a text", []string{"fe80::1%<b>x", "127.0.0.1", "224.0.0.1", "::", "::ffff:192.0.2.9"}, hanako, begins + "192.0.2.9" + ifYours},
			{"they said nothing again", nil, hanako, ""},
		} {
			saw(tt.seen...)
			if got := warnings(tt.who); got != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			}
		}

		// Another's address is no stranger's: they are in.
		other := taro
		other.From = netip.MustParseAddr("198.51.100.77")
		opened(other)
		saw("198.51.100.77", "192.0.2.9")
		if got := warnings(hanako); got != begins+"192.0.2.9"+ifYours {
			t.Errorf("%q", got)
		}
		if saw("198.51.100.77"); warnings(hanako) != "" {
			t.Errorf("%q", warnings(hanako))
		}

		// A report that says nothing of it leaves it; it is forgotten by itself.
		saw("192.0.2.9")
		w.report(w.Gate, "box-1", api.Report{Ticket: h.ticket, Whole: true, Grants: []api.ReportedGrant{{ID: o.ID, InForce: true}}})
		if warnings(hanako) == "" {
			t.Error("it is forgotten at once")
		}
		passes(seenFor + time.Second)
		if got := warnings(hanako); got != "" {
			t.Errorf("it is not forgotten: %q", got)
		}
		// Only of late: who has had it open for long knows their way. Asked for longer, they may not.
		passes(api.Fresh - seenFor)
		if saw("192.0.2.9"); warnings(hanako) != "" {
			t.Errorf("%q", warnings(hanako))
		}
		if _, err := w.Extend(t.Context(), hanako, o.ID, api.ExtendRequest{Seconds: 7200}); err != nil {
			t.Fatal(err)
		}
		if got := warnings(hanako); got != begins+"192.0.2.9"+ifYours {
			t.Errorf("%q", got)
		}
		// Too many are refused, and what was said before stays.
		if err := w.Report(t.Context(), box1, api.Report{Ticket: h.ticket, Seen: make([]netip.Addr, api.MaxSeen+1)}); err == nil {
			t.Error("too many are taken")
		}
		if warnings(hanako) == "" {
			t.Error("it is forgotten")
		}
	})
}
