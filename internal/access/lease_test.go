package access

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

func TestOpenAndRelease(t *testing.T) {
	w := newWorld(t, twoPeople)
	o := w.open(t, "alice", alices, time.Hour)
	if !o.Made || !w.lets(alices) {
		t.Fatalf("opened: %+v, rules %v", o, w.rules())
	}
	r := w.rules()[0]
	ours, is := r.Ours()
	if !is || len(ours.Leases) != 1 || ours.Leases[0].Person != "alice" || r.Description == "" {
		t.Errorf("the rule says of itself: %v, %+v, %q", is, ours, r.Description)
	}
	if err := w.Release(t.Context(), w.door(t), o); err != nil {
		t.Fatal(err)
	}
	if rules := w.rules(); len(rules) != 0 {
		t.Errorf("released, and there is still %v", rules)
	}
	if err := w.Release(t.Context(), w.door(t), o); err != nil {
		t.Errorf("released twice: %v", err)
	}
}

func TestAskingTwiceExtends(t *testing.T) {
	w := newWorld(t, twoPeople)
	first := w.open(t, "alice", alices, time.Hour)
	second := w.open(t, "alice", alices, 2*time.Hour)
	shorter := w.open(t, "alice", alices, time.Minute)
	ours, _ := w.rules()[0].Ours()
	if len(w.rules()) != 1 || len(ours.Leases) != 1 {
		t.Fatalf("rules: %v", w.rules())
	}
	if left := time.Until(ours.Until()); left < 119*time.Minute || left > 121*time.Minute {
		t.Errorf("it ends in %v, want 2 h", left)
	}
	if first.Rule.ID != second.Rule.ID || !shorter.Lease.Until.Equal(second.Lease.Until.Truncate(time.Second)) {
		t.Errorf("first %+v, second %+v, shorter %+v", first, second, shorter)
	}
	// What was made longer since is not ended by who knows only of the shorter.
	if err := w.Release(t.Context(), w.door(t), first); err != nil || !w.lets(alices) {
		t.Errorf("released by the first: %v, lets in: %v", err, w.lets(alices))
	}
}

func TestTwoPeopleOneAddress(t *testing.T) {
	w := newWorld(t, twoPeople)
	a := w.open(t, "alice", alices, time.Hour)
	b := w.open(t, "bob", alices, 2*time.Hour)
	if b.Made || len(b.Others) != 1 || b.Others[0].Person != "alice" {
		t.Errorf("bob was told %+v", b)
	}
	rules := w.rules()
	if len(rules) != 1 {
		t.Fatalf("rules: %v", rules)
	}
	for _, name := range []string{"alice", "bob"} {
		if ours, _ := rules[0].Ours(); !slices.ContainsFunc(ours.Leases, func(l securitygroup.Lease) bool { return l.Person == name }) {
			t.Errorf("%s is not among %v", name, ours.Leases)
		}
	}
	if err := w.Release(t.Context(), w.door(t), a); err != nil || !w.lets(alices) {
		t.Fatalf("alice left: %v, and bob is let in: %v", err, w.lets(alices))
	}
	if err := w.Release(t.Context(), w.door(t), b); err != nil || w.lets(alices) {
		t.Fatalf("bob left: %v, and somebody is let in: %v", err, w.lets(alices))
	}
}

func TestAForeignRuleStays(t *testing.T) {
	w := newWorld(t, twoPeople)
	id := w.server.AddRule(w.here, ec2test.Rule{Group: w.group, Protocol: "tcp", From: 22, To: 22, Prefix: alices, Description: "by hand"})
	o := w.open(t, "alice", alices, time.Hour)
	if !o.Foreign || o.Rule.ID != id {
		t.Errorf("opened: %+v", o)
	}
	if err := w.Release(t.Context(), w.door(t), o); err != nil {
		t.Error(err)
	}
	w.reap(t)
	if r := w.rules(); len(r) != 1 || len(r[0].Tags) != 0 || r[0].Description != "by hand" {
		t.Errorf("the foreign rule is now %+v", r)
	}
}

// TestOpenTellsWhatFillsAGroup: whoever is refused for want of room learns whether a
// reaper would make some.
func TestOpenTellsWhatFillsAGroup(t *testing.T) {
	w := newWorld(t, twoPeople)
	w.open(t, "alice", alices, time.Minute)
	for i := range Quota - 1 {
		w.server.AddRule(w.here, ec2test.Rule{Group: w.group, Protocol: "tcp", From: 443, To: 443, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32)})
	}
	w.server.SetClock(func() time.Time { return time.Now().Add(time.Hour) })
	_, err := w.Open(t.Context(), w.door(t), bobs, "bob", "bob", time.Minute, nil)
	hint, is := errors.AsType[*Error](err)
	if !is || !securitygroup.IsQuota(err) || !strings.Contains(err.Error(), "1 leases that have ended, 59 not ours") || !strings.Contains(hint.Hint, "sekisho reap") {
		t.Errorf("got %v, want what fills the group and that a reaper makes room", err)
	}
}

// TestALostAnswer: the call that made the rule got no answer, and was made again.
func TestALostAnswer(t *testing.T) {
	w := newWorld(t, twoPeople)
	w.server.Inject(ec2test.Lost("AuthorizeSecurityGroupIngress"))
	o := w.open(t, "alice", alices, time.Hour)
	if o.Foreign || !w.lets(alices) || len(w.rules()) != 1 {
		t.Errorf("opened: %+v, rules %v", o, w.rules())
	}
	w.server.Inject(ec2test.Lost("RevokeSecurityGroupIngress"))
	if err := w.Release(t.Context(), w.door(t), o); err != nil || w.lets(alices) {
		t.Errorf("released: %v, still open: %v", err, w.lets(alices))
	}
}

// TestSomebodyDiedClosing: a mark that its maker left is no danger to who comes then.
func TestSomebodyDiedClosing(t *testing.T) {
	w := newWorld(t, twoPeople)
	o := w.open(t, "alice", alices, time.Hour)
	mark := securitygroup.Mark{ID: "dead", Since: time.Now()}
	if err := w.Cloud.Tag(t.Context(), w.door(t).Place(), o.Rule.ID, asTags(mark)); err != nil {
		t.Fatal(err)
	}
	b := w.open(t, "bob", alices, time.Hour)
	if !w.lets(alices) || b.Rule.ID == o.Rule.ID {
		t.Fatalf("bob has rule %s, alice had %s", b.Rule.ID, o.Rule.ID)
	}
	// The dead one was only slow: the rule that it knows is gone.
	if before, err := w.revoke(t.Context(), w.door(t).Place(), o.Rule); err != nil || !before {
		t.Fatal(before, err)
	}
	ours, _ := w.rules()[0].Ours()
	if len(ours.Leases) != 2 || len(ours.Ending) != 0 {
		t.Errorf("the new rule says %+v", ours)
	}
	if err := w.Release(t.Context(), w.door(t), o); err != nil { // by the rule that it had
		t.Fatal(err)
	}
	if err := w.Release(t.Context(), w.door(t), b); err != nil || len(w.rules()) != 0 {
		t.Errorf("all have left: %v, and there is %v", err, w.rules())
	}
}

func TestRenew(t *testing.T) {
	w := newWorld(t, twoPeople)
	o := w.open(t, "alice", alices, time.Minute)
	o, err := w.Renew(t.Context(), w.door(t), o, time.Hour)
	if ours, _ := w.rules()[0].Ours(); err != nil || time.Until(ours.Until()) < 59*time.Minute {
		t.Fatalf("renewed: %v, %+v", err, ours)
	}
	w.server.RemoveRule(w.here, o.Rule.ID) // by hand, in the console
	o, err = w.Renew(t.Context(), w.door(t), o, time.Hour)
	if err != nil || !w.lets(alices) {
		t.Errorf("renewed after somebody took it away: %v", err)
	}
	if err := w.Release(t.Context(), w.door(t), o); err != nil || len(w.rules()) != 0 {
		t.Errorf("released: %v, left %v", err, w.rules())
	}
}

// TestTheLaptopsClockIsWrong: a lease is as long as was asked for by AWS's clock.
func TestTheLaptopsClockIsWrong(t *testing.T) {
	for _, off := range []time.Duration{-2 * time.Minute, 2 * time.Minute, -time.Hour, 24 * time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			w := newWorld(t, twoPeople)
			w.server.SetClock(func() time.Time { return time.Now().Add(off) })
			w.open(t, "alice", alices, 10*time.Minute)
			ours, _ := w.rules()[0].Ours()
			if left := ours.Until().Sub(time.Now().Add(off)); (left - 10*time.Minute).Abs() > 6*time.Second {
				t.Errorf("by AWS's clock it ends in %v, want 10m", left)
			}
		})
	}
}

func TestReap(t *testing.T) {
	w := newWorld(t, twoPeople+"\n")
	now := time.Now()
	add := func(n byte, tags map[string]string) string {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, n}), 32)
		all := securitygroup.ManagedTags()
		for k, v := range tags {
			if v = all[k] + v; v != "" {
				all[k] = v
			}
		}
		return w.server.AddRule(w.here, ec2test.Rule{Group: w.group, Protocol: "tcp", From: 22, To: 22, Prefix: p, Tags: all})
	}
	lease := func(id string, until time.Time) map[string]string {
		k, v := securitygroup.Lease{ID: id, Person: "alice", Until: until}.Tag()
		return map[string]string{k: v}
	}
	both := lease("a", now.Add(-time.Hour))
	maps.Copy(both, lease("b", now.Add(time.Hour)))
	fixed := lease("a", now.Add(-time.Hour))
	fixed[securitygroup.TagFixed] = "alice"
	altered := lease("a", now.Add(time.Hour))
	altered[securitygroup.TagSource] = "203.0.113.7/32 22/tcp"
	stay := []string{
		add(1, lease("a", now.Add(time.Minute))), add(2, both), add(3, fixed), add(4, map[string]string{securitygroup.TagFixed: "bob"}),
		w.server.AddRule(w.here, ec2test.Rule{Group: w.group, Protocol: "tcp", From: 22, To: 22, Prefix: bobs, Tags: lease("foreign", now.Add(-time.Hour))}),
	}
	add(11, lease("a", now.Add(-time.Second)))
	add(12, lease("a", now.Add(-time.Hour)))
	add(13, nil)
	add(14, map[string]string{securitygroup.Key("x"): "tomorrow"})
	add(15, altered)
	got := w.reap(t)
	var left []string
	for _, r := range w.rules() {
		left = append(left, r.ID)
	}
	slices.Sort(left)
	slices.Sort(stay)
	if !slices.Equal(left, stay) || len(got.Revoked) != 5 || got.Live != 4 || !got.Clean() {
		t.Errorf("left %v, want %v; %+v", left, stay, got)
	}
	for _, r := range w.rules() {
		if ours, is := r.Ours(); is && len(ours.Live(now)) != len(ours.Leases) {
			t.Errorf("what has ended is still on %s: %+v", r.ID, ours)
		}
	}
}

func TestReapTellsWhatIsStuck(t *testing.T) {
	w := newWorld(t, twoPeople)
	now := time.Now()
	w.server.SetClock(func() time.Time { return now })
	w.open(t, "alice", alices, time.Minute)
	w.server.Inject(ec2test.Denied("RevokeSecurityGroupIngress"))
	for _, tt := range []struct {
		after       time.Duration
		left, stuck int
	}{{2 * time.Minute, 1, 0}, {10 * time.Minute, 1, 1}} {
		w.server.SetClock(func() time.Time { return now.Add(tt.after) })
		got := w.reap(t)
		if len(got.Left) != tt.left || len(got.Stuck) != tt.stuck || got.Clean() {
			t.Errorf("after %v: %+v", tt.after, got)
		}
	}
}

// storm is what people live through in TestManyAtOnce.
type storm struct {
	name                       string
	people, rounds             int
	settle, staleness, latency time.Duration
	faults                     []ec2test.Fault
	throttle                   ec2test.Throttle
}

func storms() []storm {
	lost := func(action string, every int) ec2test.Fault {
		return ec2test.Fault{Action: action, Every: every, After: true, Cut: true}
	}
	return []storm{
		{name: "answers are lost", people: 10, rounds: 3, settle: 150 * time.Millisecond, staleness: 40 * time.Millisecond, faults: []ec2test.Fault{lost("*", 23)}},
		{name: "answers are lost often", people: 5, rounds: 3, settle: 150 * time.Millisecond, faults: []ec2test.Fault{
			lost("AuthorizeSecurityGroupIngress", 2), lost("RevokeSecurityGroupIngress", 2), lost("CreateTags", 5), lost("DeleteTags", 3), lost("Describe*", 11),
		}},
		{name: "it is read late", people: 8, rounds: 2, settle: 300 * time.Millisecond, staleness: 200 * time.Millisecond},
		{name: "it takes its time", people: 8, rounds: 2, settle: 250 * time.Millisecond, staleness: 40 * time.Millisecond, latency: 30 * time.Millisecond},
		{name: "there are too many calls", people: 6, rounds: 2, settle: 150 * time.Millisecond, throttle: ec2test.Throttle{Burst: 20, PerSecond: 40}},
	}
}

// TestManyAtOnce: people come and go from one address and from several, renew, die in
// the middle, while reapers run, answers get lost and reads are stale. Whoever was told
// that a door is open is let in until they leave or their lease ends, but for moments;
// when all have ended, a reaper leaves nothing; foreign rules stay as they were.
func TestManyAtOnce(t *testing.T) {
	for _, tt := range storms() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.rage(t)
		})
	}
}

func (tt storm) rage(t *testing.T) {
	w := newWorld(t, twoPeople)
	w.Settle = tt.settle
	if tt.staleness > 0 {
		w.server.SetStaleness(tt.staleness)
	}
	w.server.SetLatency(tt.latency)
	var restore []func()
	for _, f := range tt.faults {
		restore = append(restore, w.server.Inject(f))
	}
	w.server.SetThrottle("", tt.throttle)
	foreign := w.server.AddRule(w.here, ec2test.Rule{Group: w.group, Protocol: "tcp", From: 22, To: 22, Prefix: bobs})
	shared := []netip.Prefix{alices, netip.MustParsePrefix("203.0.113.8/32")}

	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	door := w.door(t)
	const length = 8 * time.Second
	var group errgroup.Group
	for i := range tt.people {
		group.Go(func() error {
			a := w.configured(t, twoPeople)
			a.Settle = w.Settle
			rng := rand.New(rand.NewPCG(uint64(i), rand.Uint64()))
			who := fmt.Sprintf("p%d", i)
			for n := range tt.rounds {
				p := shared[rng.IntN(len(shared))]
				o, err := a.Open(ctx, door, p, fmt.Sprintf("%s-%d", who, n), who, length, nil)
				if err != nil {
					return fmt.Errorf("%s: open: %w", who, err)
				}
				if rng.IntN(3) == 0 {
					if o, err = a.Renew(ctx, door, o, length); err != nil {
						return fmt.Errorf("%s: renew: %w", who, err)
					}
				}
				until := time.Now().Add(length - 2*time.Second) // by AWS's clock it ends on a whole second
				_ = pause(ctx, time.Duration(rng.Int64N(int64(2*tt.settle))))
				if !w.letsSoon(p, until) && time.Now().Before(until) {
					return fmt.Errorf("%s was told that %s is let in, and it is not", who, p)
				}
				if rng.IntN(4) > 0 { // else it died
					if err := a.Release(ctx, door, o); err != nil {
						return fmt.Errorf("%s: release: %w", who, err)
					}
				}
			}
			return nil
		})
	}
	reaping, stop := context.WithCancel(ctx)
	var reapers errgroup.Group
	for range 2 {
		reapers.Go(func() error {
			a := w.configured(t, twoPeople)
			a.Settle = w.Settle
			for reaping.Err() == nil {
				a.Reap(reaping, a.Places())
				_ = pause(reaping, 50*time.Millisecond)
			}
			return nil
		})
	}
	err := group.Wait()
	stop()
	_ = reapers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range restore {
		f()
	}
	w.server.SetThrottle("", ec2test.Throttle{})
	w.server.SetStaleness(0)
	w.server.SetClock(func() time.Time { return time.Now().Add(time.Minute) })
	if r := w.reap(t); !r.Clean() {
		t.Errorf("reaped: %+v", r)
	}
	if r := w.rules(); len(r) != 1 || r[0].ID != foreign {
		t.Errorf("left over: %v", r)
	}
}

// letsSoon waits a moment for a rule whose place another is about to take.
func (w *world) letsSoon(p netip.Prefix, until time.Time) bool {
	ctx, cancel := context.WithTimeout(context.Background(), min(time.Second, time.Until(until)))
	defer cancel()
	for !w.lets(p) {
		if pause(ctx, time.Millisecond) != nil {
			return false
		}
	}
	return true
}

// TestShorten: a lease ends sooner, and is never made longer by it; others' stay, and who
// takes the rule's place at the same time takes no old end along.
func TestShorten(t *testing.T) {
	w := newWorld(t, twoPeople)
	door := w.door(t)
	if err := w.Shorten(t.Context(), door, alices, "alice", time.Hour); err != nil {
		t.Errorf("where nothing is: %v", err)
	}
	w.open(t, "alice", alices, 4*time.Hour)
	w.open(t, "bob", alices, 2*time.Hour)
	left := func(id string) time.Duration {
		ours, _ := w.rules()[0].Ours()
		for _, l := range ours.Leases {
			if l.ID == id {
				return time.Until(l.Until)
			}
		}
		return 0
	}
	for _, tt := range []struct {
		name         string
		length, want time.Duration
	}{{"sooner", time.Hour, time.Hour}, {"later", 3 * time.Hour, time.Hour}, {"sooner still", 10 * time.Minute, 10 * time.Minute}} {
		if err := w.Shorten(t.Context(), door, alices, "alice", tt.length); err != nil {
			t.Fatal(err)
		}
		if d := left("alice"); d > tt.want || d < tt.want-time.Minute {
			t.Errorf("%s: %v are left", tt.name, d)
		}
		if d := left("bob"); d < 119*time.Minute {
			t.Errorf("%s: %v are left of another's", tt.name, d)
		}
	}
	again, err := w.Open(t.Context(), door, alices, "alice", "alice", time.Minute, nil)
	if err != nil || !again.Longer {
		t.Errorf("asked for less than there is: %+v, %v", again, err)
	}
	if again, err = w.Open(t.Context(), door, alices, "alice", "alice", time.Hour, nil); err != nil || again.Longer {
		t.Errorf("asked for more: %+v, %v", again, err)
	}

	// A closer has marked the rule: who comes next makes one in its place, with the leases
	// that it has read.
	r := w.rules()[0]
	if err := w.Cloud.Tag(t.Context(), door.Place(), r.ID, asTags(securitygroup.Mark{ID: "other", Since: time.Now()})); err != nil {
		t.Fatal(err)
	}
	var both errgroup.Group
	both.Go(func() error { return w.Shorten(t.Context(), door, alices, "alice", time.Minute) })
	both.Go(func() error {
		_, err := w.Open(t.Context(), door, alices, "carol", "carol", time.Hour, nil)
		return err
	})
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
	if rules := w.rules(); len(rules) != 1 || left("alice") > time.Minute || left("carol") == 0 || left("bob") == 0 {
		t.Errorf("left: alice %v, bob %v, carol %v; %d rules", left("alice"), left("bob"), left("carol"), len(rules))
	}

	id := w.server.AddRule(w.here, ec2test.Rule{Group: w.group, Protocol: "tcp", From: 22, To: 22, Prefix: netip.MustParsePrefix("198.51.100.77/32")})
	if err := w.Shorten(t.Context(), door, netip.MustParsePrefix("198.51.100.77/32"), "alice", time.Minute); err != nil || id == "" {
		t.Errorf("a rule that is not ours: %v", err)
	}
}
