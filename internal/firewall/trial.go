package firewall

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"sekisho/internal/prefixset"
)

// A trial is switched by nothing but the elements of the set `armed`, one for each
// family, which the kernel times: while they live, the gate at the end of each base
// chain sends packets to the staged generation, otherwise past it to the one in
// force. So whatever becomes of this program, the kernel goes back by itself.

// ErrNotArmed is Confirm's error where no trial is armed any more, or it is
// another process's.
var ErrNotArmed = errors.New("no rule set is on trial")

// ErrNotStaged is Arm's error where no rule set is loaded.
var ErrNotStaged = errors.New("no rule set is loaded to be tried")

// families are the elements of the set `armed`.
var families = [...]byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}

// generation takes the number off a name: "input_7" is input and 7.
func generation(name string) (base string, n uint32, ok bool) {
	base, number, found := strings.Cut(name, "_")
	g, err := strconv.ParseUint(number, 10, 32)
	if !found || err != nil {
		return name, 0, false
	}
	return base, uint32(g), true
}

// Stage implements Firewall.
func (k *Kernel) Stage(ctx context.Context, r Ruleset) error {
	if err := k.stage(ctx, r); err != nil {
		return fmt.Errorf("load rule set %d: %w", r.Generation, err)
	}
	return nil
}

func (k *Kernel) stage(ctx context.Context, r Ruleset) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	if k.wanted == nil {
		return ErrAbsent
	}
	if err := checkStage(*k.wanted, r); err != nil {
		return err
	}
	if err := k.able(r.Rules); err != nil {
		return err
	}
	want := desired(*k.wanted, &r, k.features)
	have, err := k.read(want, doubtful)
	if err != nil {
		return explain(err)
	}
	// The gate must be shut before it leads to other rules.
	if err := k.apart(func(t *transaction) {
		disarm(have)(t)
		for _, name := range []string{seen4Name, seen6Name} {
			if have.set(name) != nil {
				t.flushSet(name)
			}
		}
	}); err != nil {
		return explain(err)
	}
	k.staged = nil
	if _, err := k.write(ctx, have, want, nil); err != nil {
		return explain(err)
	}
	if err := k.readBack(want); err != nil {
		return err
	}
	k.staged = &r
	return nil
}

// apart commits what ops write as a transaction of its own.
func (k *Kernel) apart(ops func(*transaction)) error {
	k.tx.begin()
	if ops(&k.tx); k.tx.empty() {
		return nil
	}
	return k.commit(&k.tx)
}

// disarm ends the trial that have tells of.
func disarm(have held) func(*transaction) {
	return func(t *transaction) {
		if have.set(armedName) != nil {
			t.flushSet(armedName)
		}
	}
}

// addArmed and deleteArmed write the elements of the set `armed`.
func (t *transaction) addArmed(within time.Duration) {
	t.armed(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, "arm", within)
}
func (t *transaction) deleteArmed() { t.armed(unix.NFT_MSG_DELSETELEM, 0, "disarm", 0) }

func (t *transaction) armed(typ, flags uint16, what string, within time.Duration) {
	t.op(typ, flags, what)
	list := t.beginElements(t.in, armedName)
	for _, family := range families {
		t.element([]byte{family}, 0, within, "")
	}
	t.close(list)
	t.end()
}

// Arm implements Firewall.
func (k *Kernel) Arm(ctx context.Context, within time.Duration) error {
	if err := k.arm(ctx, within); err != nil {
		return fmt.Errorf("put the rule set on trial: %w", err)
	}
	return nil
}

func (k *Kernel) arm(ctx context.Context, within time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	if k.staged == nil {
		return ErrNotStaged
	}
	if err := checkArm(within); err != nil {
		return err
	}
	have, err := k.read(layout{}, nil)
	if err != nil {
		return explain(err)
	}
	if have.standing().Staged != k.staged.Generation {
		return ErrAbsent // somebody took it away
	}
	t := &k.tx
	t.begin()
	// An element that is there keeps its time before Linux 6.12; adding it first is
	// what lets it be missing.
	t.addArmed(within)
	t.deleteArmed()
	t.addArmed(within)
	return absent(k.commit(t))
}

// Confirm implements Firewall. The transaction that switches deletes the elements
// of `armed`: had one of them timed out, the kernel would refuse all of it. When the
// time ends while it is being committed, the kernel has taken the confirmation
// before it went back, and packets are judged by the rules before for as long as
// the commit takes, some microseconds.
func (k *Kernel) Confirm(ctx context.Context) error {
	if err := k.confirm(ctx); err != nil {
		return fmt.Errorf("confirm: %w", err)
	}
	return nil
}

func (k *Kernel) confirm(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	if k.staged == nil {
		return ErrNotArmed
	}
	s := *k.wanted
	s.Ruleset = *k.staged
	want := desired(s, nil, k.features)
	have, err := k.read(want, doubtful)
	if err != nil {
		return explain(err)
	}
	if st := have.standing(); st.Armed == 0 || st.Staged != k.staged.Generation {
		return ErrNotArmed
	}
	switched, err := k.write(ctx, have, want, (*transaction).deleteArmed)
	if !switched {
		now, errRead := k.read(layout{}, nil)
		switch {
		case errRead != nil:
			return explain(err)
		case now.standing().Confirmed == s.Ruleset.Generation: // only the answer was lost
		case now.armed == 0:
			return ErrNotArmed // it timed out meanwhile
		default:
			return explain(err)
		}
	}
	k.wanted, k.staged = &s, nil
	if err != nil {
		// It is in force; Intact names what is left, and Ensure deletes it.
		k.log.Warn("the rules before the confirmed ones could not be deleted", "error", err)
		return nil
	}
	return k.readBack(want)
}

// Abort implements Firewall.
func (k *Kernel) Abort(ctx context.Context) error {
	if err := k.abort(ctx); err != nil {
		return fmt.Errorf("go back to the rules in force: %w", err)
	}
	return nil
}

func (k *Kernel) abort(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	var want layout
	if k.wanted != nil {
		want = desired(*k.wanted, nil, k.features)
	}
	have, err := k.read(want, doubtful)
	if err != nil {
		return explain(err)
	}
	if err := k.apart(disarm(have)); err != nil {
		return explain(err)
	}
	if k.wanted == nil {
		return nil
	}
	k.staged = nil
	if _, err := k.write(ctx, have, want, nil); err != nil {
		return explain(err)
	}
	return k.readBack(want)
}

// Standing implements Firewall.
func (k *Kernel) Standing(ctx context.Context) (Standing, error) {
	if err := ctx.Err(); err != nil {
		return Standing{}, err
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	have, err := k.read(layout{}, nil)
	if err != nil {
		return Standing{}, fmt.Errorf("read rules: %w", explain(err))
	}
	return have.standing(), nil
}

// standing follows from where the gates lead: the one that looks into `armed` to
// the staged rule set, the other to that in force.
func (h held) standing() Standing {
	s := Standing{Table: h.table}
	for _, c := range h.chains {
		if c.baseChain == (baseChain{}) {
			continue
		}
		for _, r := range c.rules {
			code, to, ok := r.verdict()
			_, n, numbered := generation(to)
			switch {
			case !ok || code != int32(expr.VerdictGoto) || !numbered:
			case r.looksUp(armedName):
				s.Staged = n
			default:
				s.Confirmed = n
			}
		}
	}
	if s.Staged != 0 {
		s.Armed = h.armed
	}
	return s
}

// Seen implements Firewall.
func (k *Kernel) Seen(ctx context.Context, peer netip.AddrPort) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if k.noDynamic {
		return false, fmt.Errorf("look for %v: this kernel cannot remember who came in; confirm with `sekisho confirm --force`", peer)
	}
	k.reading.Lock()
	defer k.reading.Unlock()
	peer = unmapped(peer)
	name := seen4Name
	if peer.Addr().Is6() {
		name = seen6Name
	}
	// A concatenation as the kernel has it: each part fills up four bytes.
	whole := append(peer.Addr().AsSlice(), 0, 0, 0, 0)
	binary.BigEndian.PutUint16(whole[len(whole)-4:], peer.Port())
	var m message
	m.start(nfnl|unix.NFT_MSG_GETSETELEM, unix.NLM_F_ACK)
	list := m.beginElements(tableName, name)
	m.element(whole, 0, 0, "")
	m.close(list)
	m.end()
	found := false
	err := k.readSock.dump(&m, false, func([]byte) error { found = true; return nil })
	switch {
	case errors.Is(err, unix.ENOENT):
		err = nil
	case errors.Is(err, unix.EOPNOTSUPP): // before Linux 4.15
		found, err = k.searchSeen(name, whole)
	}
	if err != nil {
		return false, fmt.Errorf("look for %v: %w", peer, absent(err))
	}
	return found, nil
}

// searchSeen reads all of a set to find one element.
func (k *Kernel) searchSeen(name string, wanted []byte) (found bool, err error) {
	err = list(k.readSock, new(message), name, false, func(e rawElement) error {
		found = found || bytes.Equal(e.key, wanted)
		return nil
	})
	return found, err
}

// SetCountries implements Firewall.
func (k *Kernel) SetCountries(ctx context.Context, addrs prefixset.Set) error {
	if err := k.setCountries(ctx, addrs); err != nil {
		return fmt.Errorf("replace the countries' addresses: %w", err)
	}
	return nil
}

func (k *Kernel) setCountries(ctx context.Context, addrs prefixset.Set) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	if k.wanted == nil {
		return ErrAbsent
	}
	s, staged := withCountries(*k.wanted, k.staged, addrs)
	want := desired(s, staged, k.features)
	have, err := k.read(want, doubtful)
	if err != nil {
		return explain(err)
	}
	if _, err := k.write(ctx, have, want, nil); err != nil {
		return explain(err)
	}
	k.wanted, k.staged = &s, staged
	return k.readBack(want)
}

// checkState refuses what cannot be put in force.
func checkState(s State) error {
	if s.SSHOnly && len(s.Ports) == 0 {
		return errors.New("no port of SSH is given")
	}
	if s.Ruleset.Generation == 0 {
		return nil
	}
	return s.Ruleset.Rules.Validate()
}

// checkStage refuses what cannot be tried in the place of now.
func checkStage(now State, r Ruleset) error {
	if r.Generation > MaxGeneration {
		return fmt.Errorf("its generation %d is above %d, for which names have no room", r.Generation, MaxGeneration)
	}
	if r.Generation <= now.Ruleset.Generation {
		return fmt.Errorf("its generation %d is not above %d, which is in force", r.Generation, now.Ruleset.Generation)
	}
	return r.Rules.Validate()
}

// checkArm refuses a time that the kernel would take for another.
func checkArm(within time.Duration) error {
	if within <= 0 || within > oldTimeout {
		return fmt.Errorf("%v is no time for a trial", within)
	}
	return nil
}

// seenFor is how long the kernel remembers who came through a trial.
const seenFor = 5 * time.Minute

// unmapped is p as the kernel's sets hold it.
func unmapped(p netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

// withCountries gives s, and staged if it is about the same countries, other
// addresses.
func withCountries(s State, staged *Ruleset, addrs prefixset.Set) (State, *Ruleset) {
	if s.Ruleset.Generation != 0 && !s.Ruleset.Rules.Countries.None() {
		s.Ruleset.Countries = addrs
	}
	if staged == nil || !sameCountries(s.Ruleset.Rules.Countries, staged.Rules.Countries) {
		return s, staged
	}
	r := *staged
	r.Countries = addrs
	return s, &r
}

func sameCountries(a, b Countries) bool {
	return !a.None() && slices.Equal(slices.Sorted(slices.Values(slices.Concat(a.Allow, a.Deny))), slices.Sorted(slices.Values(slices.Concat(b.Allow, b.Deny))))
}
