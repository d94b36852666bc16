package firewall

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/prefixset"
)

// Fake is a Firewall in memory, for tests and dry runs. It refuses what the kernel
// refuses and ends bans, grants and trials by its clock. Safe for concurrent use.
type Fake struct {
	kernel *fakeKernel

	// What this process knows: what it wrote last. Guarded by kernel.mu.
	wanted *State
	staged *Ruleset
}

// fakeKernel is what outlives a process.
type fakeKernel struct {
	now func() time.Time

	mu       sync.Mutex
	table    bool
	state    State // in force
	staged   *Ruleset
	armed    time.Time // until when
	bans     map[netip.Prefix]time.Time
	grants   map[netip.Prefix]time.Time
	seen     map[netip.AddrPort]time.Time
	knocks   map[Knock]time.Time // Ago 0
	failure  error
	others   Others
	failures map[string]error // by call
	watchers map[chan Change]struct{}
}

// NewFake makes a Fake without a table. now is its clock; nil is time.Now.
func NewFake(now func() time.Time) *Fake {
	if now == nil {
		now = time.Now
	}
	return &Fake{kernel: &fakeKernel{now: now, failures: make(map[string]error), watchers: make(map[chan Change]struct{})}}
}

// Another is a Firewall of another process on the same kernel, to tell what is left
// when f's process was killed.
func (f *Fake) Another() *Fake { return &Fake{kernel: f.kernel} }

// Fail makes every call return err until it is called with nil.
func (f *Fake) Fail(err error) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failure = err
}

// FailCall makes the calls of one method ("Stage") return err, changing nothing,
// until it is called with nil.
func (f *Fake) FailCall(method string, err error) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failures[method] = err
}

// See is a connection attempt from peer that the rules accept.
func (f *Fake) See(peer netip.AddrPort) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left() > 0 {
		k.seen[unmapped(peer)] = k.now().Add(seenFor)
	}
}

// Knock is a connection attempt from a.
func (f *Fake) Knock(a netip.Addr) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	in := func(set map[netip.Prefix]time.Time) func(netip.Addr) bool {
		all := k.live(set)
		return func(a netip.Addr) bool {
			return slices.ContainsFunc(all, func(b Ban) bool { return b.Prefix.Contains(a) })
		}
	}
	s := k.state
	if k.left() > 0 {
		s.Ruleset = *k.staged
	}
	if !k.table || s.Ruleset.Generation == 0 || s.Ruleset.Rules.Exposure != ExposureOnRequest {
		return
	}
	p := Packet{From: a.Unmap(), Proto: unix.IPPROTO_TCP, ToPort: s.Ruleset.Rules.Ports[0], Flags: flagSYN}
	switch j := s.Judge(p, Live{Banned: in(k.bans), Granted: in(k.grants)}); {
	case j.Verdict == Pass:
		k.knocks[Knock{Addr: p.From, In: true}] = k.now()
	case j.Rule == noGrant:
		k.knocks[Knock{Addr: p.From}] = k.now()
	}
}

// InForce is the state that judges packets without end, and the staged rule set
// with what is left of its trial.
func (f *Fake) InForce() (s State, staged *Ruleset, armed time.Duration) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state, k.staged, k.left()
}

// Flush is what a foreign `nft flush ruleset` does: the table is gone, and those
// who watch hear of it.
func (f *Fake) Flush(pid int32, process string) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.table {
		return
	}
	k.clear()
	for w := range k.watchers {
		select {
		case w <- Change{PID: pid, Process: process, What: "table deleted"}:
		default: // as the kernel's queue does; one event is as good as many
		}
	}
}

// clear takes the table away.
func (k *fakeKernel) clear() {
	k.table, k.state, k.bans, k.grants, k.seen, k.knocks = false, State{}, nil, nil, nil, nil
	k.disarm()
}

func (k *fakeKernel) disarm() { k.staged, k.armed = nil, time.Time{} }

// make makes the table unless it is there.
func (k *fakeKernel) make() {
	if !k.table {
		k.table = true
		k.bans, k.grants = make(map[netip.Prefix]time.Time), make(map[netip.Prefix]time.Time)
		k.seen, k.knocks = make(map[netip.AddrPort]time.Time), make(map[Knock]time.Time)
	}
}

// left is for how long the staged rule set still judges.
func (k *fakeKernel) left() time.Duration { return max(0, k.armed.Sub(k.now())) }

func (k *fakeKernel) ready(ctx context.Context, method string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if k.failure != nil {
		return k.failure
	}
	return k.failures[method]
}

// there is ready, and ErrAbsent for a change of n elements without a table.
func (k *fakeKernel) there(ctx context.Context, method string, n int) error {
	if err := k.ready(ctx, method); err != nil {
		return err
	}
	if !k.table && n > 0 {
		return ErrAbsent
	}
	return nil
}

// Ensure implements Firewall.
func (f *Fake) Ensure(ctx context.Context, s State) error {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ready(ctx, "Ensure"); err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	if err := checkState(s); err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	s.Ports = slices.Clone(s.Ports)
	k.make()
	k.disarm()
	k.state, f.wanted, f.staged = s, &s, nil
	return nil
}

// Stage implements Firewall.
func (f *Fake) Stage(ctx context.Context, r Ruleset) error {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ready(ctx, "Stage"); err != nil {
		return fmt.Errorf("load rule set %d: %w", r.Generation, err)
	}
	if f.wanted == nil {
		return fmt.Errorf("load rule set %d: %w", r.Generation, ErrAbsent)
	}
	if err := checkStage(*f.wanted, r); err != nil {
		return fmt.Errorf("load rule set %d: %w", r.Generation, err)
	}
	k.make()
	k.disarm()
	clear(k.seen)
	k.state, k.staged, f.staged = *f.wanted, &r, &r
	return nil
}

// Arm implements Firewall.
func (f *Fake) Arm(ctx context.Context, within time.Duration) error {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.ready(ctx, "Arm")
	switch {
	case err != nil:
	case f.staged == nil:
		err = ErrNotStaged
	case k.staged == nil:
		err = ErrAbsent
	default:
		err = checkArm(within)
	}
	if err != nil {
		return fmt.Errorf("put the rule set on trial: %w", err)
	}
	k.armed = k.now().Add(within)
	return nil
}

// Confirm implements Firewall.
func (f *Fake) Confirm(ctx context.Context) error {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ready(ctx, "Confirm"); err != nil {
		return fmt.Errorf("confirm: %w", err)
	}
	if f.staged == nil || k.left() == 0 {
		return fmt.Errorf("confirm: %w", ErrNotArmed)
	}
	s := *f.wanted
	s.Ruleset = *f.staged
	k.disarm()
	k.state, f.wanted, f.staged = s, &s, nil
	return nil
}

// Abort implements Firewall.
func (f *Fake) Abort(ctx context.Context) error {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ready(ctx, "Abort"); err != nil {
		return fmt.Errorf("go back to the rules in force: %w", err)
	}
	k.armed = time.Time{}
	if f.wanted == nil {
		return nil
	}
	f.staged = nil
	k.make()
	k.disarm()
	k.state = *f.wanted
	return nil
}

// Standing implements Firewall.
func (f *Fake) Standing(ctx context.Context) (Standing, error) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ready(ctx, "Standing"); err != nil {
		return Standing{}, fmt.Errorf("read rules: %w", err)
	}
	if !k.table {
		return Standing{}, nil
	}
	s := Standing{Table: true, Confirmed: k.state.Ruleset.Generation}
	if k.staged != nil {
		s.Staged, s.Armed = k.staged.Generation, k.left()
	}
	return s, nil
}

// Seen implements Firewall.
func (f *Fake) Seen(ctx context.Context, peer netip.AddrPort) (bool, error) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ready(ctx, "Seen"); err != nil {
		return false, fmt.Errorf("look for %v: %w", peer, err)
	}
	return k.seen[unmapped(peer)].After(k.now()), nil
}

// SetCountries implements Firewall.
func (f *Fake) SetCountries(ctx context.Context, addrs prefixset.Set) error {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ready(ctx, "SetCountries"); err != nil {
		return fmt.Errorf("replace the countries' addresses: %w", err)
	}
	if f.wanted == nil {
		return fmt.Errorf("replace the countries' addresses: %w", ErrAbsent)
	}
	s, staged := withCountries(*f.wanted, f.staged, addrs)
	k.make()
	k.state, f.wanted = s, &s
	if k.staged != nil {
		k.staged, f.staged = staged, staged
	}
	return nil
}

// Ban implements Firewall.
func (f *Fake) Ban(ctx context.Context, bans []Ban) error {
	if err := checkBans(bans); err != nil {
		return err
	}
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.there(ctx, "Ban", len(bans)); err != nil {
		return fmt.Errorf("ban %d prefixes: %w", len(bans), err)
	}
	now := k.now()
	for _, b := range bans {
		if b.Left >= 0 {
			k.bans[b.Prefix] = endOf(b, now)
		}
	}
	return nil
}

// Unban implements Firewall.
func (f *Fake) Unban(ctx context.Context, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		if err := check(p); err != nil {
			return fmt.Errorf("un%w", err)
		}
	}
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.there(ctx, "Unban", len(prefixes)); err != nil {
		return fmt.Errorf("unban %d prefixes: %w", len(prefixes), err)
	}
	for _, p := range prefixes {
		delete(k.bans, p)
	}
	return nil
}

// live forgets the elements that have ended and returns the others, in order.
func (k *fakeKernel) live(set map[netip.Prefix]time.Time) []Ban {
	now := k.now()
	maps.DeleteFunc(set, func(_ netip.Prefix, end time.Time) bool { return !end.IsZero() && !end.After(now) })
	bans := make([]Ban, 0, len(set))
	for p, end := range set {
		b := Ban{Prefix: p}
		if !end.IsZero() {
			b.Left = end.Sub(now)
		}
		bans = append(bans, b)
	}
	slices.SortFunc(bans, func(a, b Ban) int { return a.Prefix.Compare(b.Prefix) })
	return bans
}

// Bans implements Firewall, in the order of the prefixes.
func (f *Fake) Bans(ctx context.Context, yield func(Ban) error) error {
	k := f.kernel
	k.mu.Lock()
	if err := k.there(ctx, "Bans", 1); err != nil {
		k.mu.Unlock()
		return fmt.Errorf("read bans: %w", err)
	}
	bans := k.live(k.bans)
	k.mu.Unlock()
	for _, b := range bans {
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

// Grant implements Firewall.
func (f *Fake) Grant(ctx context.Context, grants []Grant) error {
	if err := checkGrants(grants); err != nil {
		return err
	}
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.there(ctx, "Grant", len(grants)); err != nil {
		return fmt.Errorf("grant %d prefixes: %w", len(grants), err)
	}
	now := k.now()
	for _, g := range grants {
		if g.Left >= 0 {
			k.grants[g.Prefix] = endOf(Ban(g), now)
		}
	}
	return nil
}

// Ungrant implements Firewall.
func (f *Fake) Ungrant(ctx context.Context, prefixes []netip.Prefix) error {
	if err := checkUngrants(prefixes); err != nil {
		return err
	}
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.there(ctx, "Ungrant", len(prefixes)); err != nil {
		return fmt.Errorf("ungrant %d prefixes: %w", len(prefixes), err)
	}
	for _, p := range prefixes {
		delete(k.grants, p)
	}
	return nil
}

// Grants implements Firewall, in the order of the prefixes.
func (f *Fake) Grants(ctx context.Context, yield func(Grant) error) error {
	k := f.kernel
	k.mu.Lock()
	if err := k.there(ctx, "Grants", 1); err != nil {
		k.mu.Unlock()
		return fmt.Errorf("read grants: %w", err)
	}
	grants := k.live(k.grants)
	k.mu.Unlock()
	for _, g := range grants {
		if err := yield(Grant(g)); err != nil {
			return err
		}
	}
	return nil
}

// Intact implements Firewall.
func (f *Fake) Intact(ctx context.Context) (missing []string, err error) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	switch err := k.ready(ctx, "Intact"); {
	case err != nil:
		return nil, fmt.Errorf("read rules: %w", err)
	case f.wanted == nil:
		return []string{"rules: none were written yet"}, nil
	case !k.table:
		return []string{"table inet " + tableName}, nil
	}
	return nil, nil
}

// Counters implements Firewall: nothing goes through a Fake.
func (f *Fake) Counters(ctx context.Context) ([]Counter, error) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.there(ctx, "Counters", 1); err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	return nil, nil
}

// Fills implements Firewall: nothing goes through a Fake.
func (f *Fake) Fills(ctx context.Context) ([]Fill, error) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.there(ctx, "Fills", 1); err != nil {
		return nil, fmt.Errorf("count what is in the sets: %w", err)
	}
	return nil, nil
}

// Knocks implements Firewall.
func (f *Fake) Knocks(ctx context.Context) ([]Knock, error) {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ready(ctx, "Knocks"); err != nil {
		return nil, fmt.Errorf("read who asked for SSH: %w", err)
	}
	var knocks []Knock
	for one, at := range k.knocks {
		if one.Ago = k.now().Sub(at); one.Ago < knockFor {
			knocks = append(knocks, one)
		}
	}
	latestFirst(knocks)
	return knocks, nil
}

// Watch implements Firewall.
func (f *Fake) Watch(ctx context.Context, changed func(Change)) error {
	k := f.kernel
	events := make(chan Change, 16)
	k.mu.Lock()
	k.watchers[events] = struct{}{}
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.watchers, events)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c := <-events:
			changed(c)
		}
	}
}

// Remove implements Firewall.
func (f *Fake) Remove(ctx context.Context) error {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.ready(ctx, "Remove"); err != nil {
		return fmt.Errorf("remove table inet %s: %w", tableName, err)
	}
	k.clear()
	f.wanted, f.staged = nil, nil
	return nil
}

// Close implements Firewall.
func (f *Fake) Close() error { return nil }

// Dump writes what is in force, a line each, in order.
func (f *Fake) Dump(w io.Writer) error {
	k := f.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.table {
		_, err := fmt.Fprintln(w, "no table")
		return err
	}
	_, err := fmt.Fprintf(w, "table inet %s ports %d ssh-only %t\n", tableName, k.state.Ports, k.state.SSHOnly)
	line := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format, args...)
		}
	}
	elements := func(set func(netip.Prefix) setID, list []Ban) {
		for _, b := range list {
			left := "without end"
			if b.Left > 0 {
				left = b.Left.String()
			}
			line("%s %s %s\n", set(b.Prefix), b.Prefix, left)
		}
	}
	if g := k.state.Ruleset.Generation; g != 0 {
		line("in force: rule set %d\n", g)
	}
	if k.staged != nil {
		line("staged: rule set %d, armed for %v\n", k.staged.Generation, k.left())
	}
	elements(home, k.live(k.bans))
	elements(func(p netip.Prefix) setID { set, _ := grantHome(p); return set }, k.live(k.grants))
	return err
}
