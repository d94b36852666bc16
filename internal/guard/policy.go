package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sekisho/internal/sshlog"
)

// Policy is what the guard judges by. The zero value is not valid: begin with
// DefaultPolicy.
type Policy struct {
	Mode     Mode
	MaxRetry int           // attempts within FindTime that bring a ban
	FindTime time.Duration // width of the sliding window
	BanTime  time.Duration // of a first ban
	Growth   Growth

	IPv4Bits, IPv6Bits int // what a source is: the addresses that share so many leading bits

	Escalate    Escalate
	Known       Known
	Distributed Distributed

	Never     []netip.Prefix // never banned: ignored addresses, administrators, this host's own, its gateway
	SpareLive bool           // do not ban an address while somebody is logged in from it

	// Weights of kinds in the window; a kind that is not named weighs 1, one of
	// weight 0 is shown and never banned for.
	Weights map[sshlog.Kind]int

	// AcceptedAfter is how many failures in the window make a login from the same
	// source worth a notice; 0 turns it off.
	AcceptedAfter int

	// DryRun says that nobody enforces the bans: what a banned source still does is
	// neither held against it nor told of.
	DryRun bool

	// MaxSources bounds how many sources are remembered, about 80 bytes each,
	// and how many bans.
	MaxSources int
}

// Growth says how ban times grow on repeat: by Factor each time, up to Max.
// Who was not banned for Forget begins anew.
type Growth struct {
	Factor float64
	Max    time.Duration
	Forget time.Duration
}

// Escalate bans a whole network once Hosts sources in it were banned within
// Within. Hosts 0 turns it off.
type Escalate struct {
	Hosts              int
	IPv4Bits, IPv6Bits int
	Within             time.Duration
}

// Known is the bar for sources that have logged in within For.
type Known struct {
	For      time.Duration
	MaxRetry int
}

// Distributed lowers the bar to MaxRetry attempts within Within for sources never
// seen to log in, and only for the user names that Sources sources failed for
// within Within, or that do not exist. An attack begins when such sources have
// been coming for Lasting, and ends when they are fewer than half. Sources that
// were banned by the ordinary bar do not count: a loud attack is not a
// distributed one. MaxRetry 0 turns it off.
type Distributed struct {
	Sources  int
	Within   time.Duration
	Lasting  time.Duration
	MaxRetry int
}

// DefaultPolicy is what a server on the Internet should begin with.
func DefaultPolicy() Policy {
	return Policy{
		Mode:     Aggressive,
		MaxRetry: 5,
		FindTime: 10 * time.Minute,
		BanTime:  time.Hour,
		// 1 h, 2 h, 4 h ... 128 h, then a week each time.
		Growth:   Growth{Factor: 2, Max: 7 * 24 * time.Hour, Forget: 30 * 24 * time.Hour},
		IPv4Bits: 32, IPv6Bits: 64,
		Escalate:      Escalate{Hosts: 8, IPv4Bits: 24, IPv6Bits: 48, Within: 24 * time.Hour},
		Known:         Known{For: 7 * 24 * time.Hour, MaxRetry: 20},
		Distributed:   Distributed{Sources: 50, Within: time.Hour, Lasting: 10 * time.Minute, MaxRetry: 2},
		SpareLive:     true,
		AcceptedAfter: 4,
		MaxSources:    1_000_000,
	}
}

// Validate returns all that is wrong with p.
func (p Policy) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if _, err := ParseMode(string(p.Mode)); err != nil {
		errs = append(errs, err)
	}
	check(p.MaxRetry >= 1 && p.MaxRetry <= maxThreshold, "max retry %d is not in 1..%d", p.MaxRetry, maxThreshold)
	check(p.FindTime >= time.Second, "find time %v is less than a second", p.FindTime)
	check(p.BanTime >= time.Second, "ban time %v is less than a second", p.BanTime)
	check(p.Growth.Factor >= 1 && p.Growth.Factor <= 1000, "growth factor %v is not in 1..1000", p.Growth.Factor)
	check(p.Growth.Factor == 1 || p.Growth.Max >= p.BanTime, "growth max %v is less than the ban time %v", p.Growth.Max, p.BanTime)
	check(p.Growth.Forget >= 0, "growth forget %v is negative", p.Growth.Forget)
	check(p.IPv4Bits >= 8 && p.IPv4Bits <= 32, "IPv4 bits %d are not in 8..32", p.IPv4Bits)
	check(p.IPv6Bits >= 16 && p.IPv6Bits <= 128, "IPv6 bits %d are not in 16..128", p.IPv6Bits)
	if e := p.Escalate; e.Hosts != 0 {
		check(e.Hosts >= 2, "escalate hosts %d is less than 2", e.Hosts)
		check(e.IPv4Bits >= 8 && e.IPv4Bits < p.IPv4Bits, "escalate IPv4 bits %d are not in 8..%d", e.IPv4Bits, p.IPv4Bits-1)
		check(e.IPv6Bits >= 16 && e.IPv6Bits < p.IPv6Bits, "escalate IPv6 bits %d are not in 16..%d", e.IPv6Bits, p.IPv6Bits-1)
		check(e.Within > 0, "escalate within %v is not positive", e.Within)
	}
	if k := p.Known; k.For != 0 {
		check(k.For > 0, "known for %v is negative", k.For)
		check(k.MaxRetry >= p.MaxRetry && k.MaxRetry <= maxThreshold, "known max retry %d is not in %d..%d", k.MaxRetry, p.MaxRetry, maxThreshold)
	}
	if d := p.Distributed; d.MaxRetry != 0 {
		check(d.MaxRetry >= 1 && d.MaxRetry <= p.MaxRetry, "distributed max retry %d is not in 1..%d", d.MaxRetry, p.MaxRetry)
		check(d.Sources >= 2 && d.Sources <= 1000, "distributed sources %d are not in 2..1000", d.Sources)
		check(d.Within >= time.Minute && d.Lasting >= 0, "distributed within %v, lasting %v: too short", d.Within, d.Lasting)
	}
	for kind, weight := range p.Weights {
		check(weight >= 0 && weight <= maxWeight, "weight %d of %v is not in 0..%d", weight, kind, maxWeight)
	}
	for _, never := range p.Never {
		check(never.IsValid(), "an invalid prefix among those never banned")
	}
	check(p.AcceptedAfter >= 0, "accepted after %d is negative", p.AcceptedAfter)
	check(p.MaxSources >= 16 && p.MaxSources <= 1<<28, "max sources %d is not in 16..%d", p.MaxSources, 1<<28)
	return errors.Join(errs...)
}

// maxThreshold bounds every bar: it is also how many attempts one window keeps.
const maxThreshold = 10_000

// judge is a policy made ready for the hot path.
type judge struct {
	Policy
	ddos     bool // the modes
	extra    bool
	weights  [64]uint8
	find     int64 // milliseconds, as all below
	dist     int64
	retain   int64 // how long an attempt can matter
	entries  int   // how many attempts a window must hold
	maxNodes int   // how many overflow nodes all windows may have
}

func newJudge(p Policy) judge {
	j := judge{Policy: p, find: p.FindTime.Milliseconds(), dist: p.Distributed.Within.Milliseconds()}
	j.ddos = p.Mode == DDoS || p.Mode == Aggressive
	j.extra = p.Mode == Extra || p.Mode == Aggressive
	j.Never = make([]netip.Prefix, 0, len(p.Never))
	for _, never := range p.Never {
		j.Never = append(j.Never, canonical(never))
	}
	for i := range j.weights {
		j.weights[i] = 1
	}
	for kind, weight := range p.Weights {
		if int(kind) < len(j.weights) {
			j.weights[kind] = uint8(min(max(weight, 0), maxWeight))
		}
	}
	if j.IPv4Bits <= 0 || j.IPv4Bits > 32 {
		j.IPv4Bits = 32
	}
	if j.IPv6Bits <= 0 || j.IPv6Bits > 128 {
		j.IPv6Bits = 128
	}
	j.MaxRetry = max(j.MaxRetry, 1)
	j.MaxSources = max(j.MaxSources, 16)
	j.retain = j.find
	if p.Distributed.MaxRetry > 0 {
		j.retain = max(j.retain, j.dist)
	}
	j.entries = max(j.MaxRetry, j.Known.MaxRetry, j.AcceptedAfter)
	j.maxNodes = j.MaxSources
	return j
}

// source is the prefix that an address is counted under.
func (j *judge) source(a netip.Addr) netip.Prefix {
	bits := j.IPv6Bits
	if a.Is4() {
		bits = j.IPv4Bits
	}
	p, _ := a.Prefix(bits)
	return p
}

// sourceKey is the key of source(a).
func (j *judge) sourceKey(a addr) key {
	if a.is4() {
		return a.masked(uint8(96 + j.IPv4Bits))
	}
	return a.masked(uint8(j.IPv6Bits))
}

// banTime is how long the count-th ban lasts.
func (j *judge) banTime(count int) time.Duration {
	d := float64(j.BanTime)
	for range count - 1 {
		if d *= j.Growth.Factor; d >= float64(j.Growth.Max) {
			return max(j.Growth.Max, j.BanTime)
		}
		if j.Growth.Factor == 1 {
			break
		}
	}
	return time.Duration(d)
}

// never returns the prefix that forbids a ban of p, if there is one: one that
// overlaps p, or a range that no remote host can have.
func (j *judge) never(p netip.Prefix) (netip.Prefix, bool) {
	for _, never := range j.Never {
		if never.Overlaps(p) {
			return never, true
		}
	}
	a := p.Addr()
	if !a.IsValid() || a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() {
		return p, true
	}
	return netip.Prefix{}, false
}

// canonical masks p and takes the v4-mapped form and the zone off.
func canonical(p netip.Prefix) netip.Prefix {
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	} else {
		p = netip.PrefixFrom(a.WithZone(""), p.Bits())
	}
	return p.Masked()
}

// plain is an address without its v4-mapped form and zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
