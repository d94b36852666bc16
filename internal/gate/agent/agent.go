// Package agent is a host's side of the gate: it connects outwards, keeps one stream, has
// its host let in whom the gate says, for as long as it says, and reports what is in force.
// What it does on the host, the daemon does for it. A flow; it imports values, and speaks
// HTTP to nobody but the gate.
//
// A gate is believed little: it can have addresses let in to SSH for a while, as anybody
// may who may use `sekisho open` on the host, end that, and end connections of those whom
// nobody else lets in. What the gate's clock says plays no part, and neither does what the
// host's says: a grant lasts from when its line was written, which is told by how far the
// gate's has gone on since, and goes on while the host is suspended. Where the gate is gone,
// grants end by themselves.
package agent

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"sekisho/internal/gate/api"
)

// Bounds of what a gate may ask of a host.
const (
	MaxGrants = 10_000
	MaxLength = 30 * 24 * time.Hour // of a grant, from now

	maxLine   = 1 << 20 // bytes
	maxBatch  = 256     // changes that are taken up at once
	maxChunk  = 1_000   // grants that the host is asked for at once: others wait meanwhile
	maxRate   = 2_000   // changes in a second; the gate waits for its turn
	maxAnswer = 64 << 10
	maxReport = 48 << 10 // bytes: a gate reads 64 KiB
	maxSaid   = 300      // characters of why something is not in force
)

const (
	leastBackoff = 200 * time.Millisecond
	mostBackoff  = 30 * time.Second
	mostAfter    = 5 * time.Minute // that a gate may have us wait
	gather       = 5 * time.Millisecond
	lookEvery    = 2 * time.Second // whether what was in force still is
	askWithin    = 15 * time.Second
	deadBeats    = 3
)

// Grant is one of the gate's, as the host keeps it. The reason and the person are printable.
type Grant struct {
	ID     string
	Person string
	Prefix netip.Prefix // /32, /64 or /128
	Until  time.Time
	Port   uint16 // of SSH, for which it was asked
	Reason string
}

// Host is what an Agent does on its host. Errors are told to the gate, to people: no more
// than a sentence.
type Host interface {
	// Let lets in, or changes until when, and says of each why it is not in force now; nil
	// where it is. What is as it should be is left alone: it may be asked again and again.
	Let(ctx context.Context, grants []Grant) []error
	// End takes grants away, those of the same prefix by others not. One that is not there
	// is none any more.
	End(ctx context.Context, grants []Grant) []error
	// Held are the gate's grants that have been kept from before.
	Held() []Grant
	// Cut ends the connections from a prefix, but of those whom another grant or the
	// configuration lets in.
	Cut(ctx context.Context, p netip.Prefix) error
	// Seen are who asked for SSH of late and was turned away because of holding no grant,
	// the latest first, and from where somebody came in of late, or is connected.
	Seen(ctx context.Context) (away, in []netip.Addr, err error)
}

// Options are all needed, but for those that say otherwise.
type Options struct {
	URL     string // the gate's, an origin
	CA      string // a file of certificates in place of the system's; "": the system's
	Name    string // what the gate calls this host
	Version string // of this program
	Signer  ssh.Signer
	Host    Host
	Logger  *slog.Logger // nil: discard

	Now  func() time.Time                                                  // the host's clock, which requests are signed with; nil: time.Now
	Dial func(ctx context.Context, network, addr string) (net.Conn, error) // nil: as usual

	beat, seenEvery time.Duration        // of tests
	slept           func() time.Duration // and this
}

// Agent is one host's side. Make it with New, run it once.
type Agent struct {
	o    Options
	beat time.Duration
	log  *slog.Logger

	events chan event // what the stream says, to who keeps it
	wake   chan struct{}

	mu      sync.Mutex // guards what follows
	status  Status
	ticket  string // of the stream there is; "": none, and nothing can be reported
	hangUp  context.CancelFunc
	client  *http.Client
	whole   bool                         // all is to be reported
	changed map[string]api.ReportedGrant // to be reported
	said    map[string]api.ReportedGrant // as it is: of each grant that the gate wants
	recent  map[string]recent
	seen    []netip.Addr // as it was told last, or is to be
	seenAt  time.Time
	seenDue bool
}

// Status is how it goes.
type Status struct {
	Connected  bool
	Since      time.Time // when that began
	InForce    int
	Waiting    int    // that the gate asks for and that are not in force
	Why        string // one of those is not
	Reconnects int64  // streams after the first
	Error      string // why there is no stream; "" where there is, or none was tried yet
	Hint       string
}

// New makes an Agent; nothing is done before Run.
func New(o Options) *Agent {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.slept == nil {
		o.slept = slept
	}
	return &Agent{
		o: o, log: log, beat: cmp.Or(o.beat, api.Beat), events: make(chan event, 64), wake: make(chan struct{}, 1),
		status: Status{Since: time.Now()}, changed: map[string]api.ReportedGrant{}, said: map[string]api.ReportedGrant{},
		recent: map[string]recent{},
	}
}

// Run follows the gate until ctx ends; then grants stay, and end by themselves.
func (a *Agent) Run(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return a.listen(ctx) })
	tasks.Go(func() error { return a.keep(ctx) })
	tasks.Go(func() error { return a.report(ctx) })
	tasks.Go(func() error { return a.lookOut(ctx) })
	return tasks.Wait()
}

// Status is how it goes now.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.status
	for _, r := range a.said {
		if r.InForce {
			s.InForce++
			continue
		}
		s.Waiting++
		if s.Why == "" || r.Error < s.Why { // the same one each time
			s.Why = r.Error
		}
	}
	return s
}

// kick has what is to be reported be reported.
func (a *Agent) kick() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}
