// Package gate is access on request for a team: who may have which door opened, the life
// of what they have open (asked, approved, open, made longer, closed, ended), the people,
// targets and hosts that administrators keep, and the audit of all of it. It has no HTTP:
// package gate/web is in front of it. What it knows is in the ledger, which several gates
// may share, and in the tags of the groups' rules. A flow: it may import packages access,
// ledger, securitygroup, config, notify and values.
//
// What is asked for is written down before it is done, with who does it and until when
// they are at it: a gate that dies in between leaves a row that another takes over.
package gate

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/notify"
	"sekisho/internal/securitygroup"
)

// Options are what a Gate is made of. Config is needed.
type Options struct {
	// Config is the configuration in force. It is asked often, and has to answer at once;
	// a new one is a new pointer.
	Config func() *config.Config
	// Ledger is what the gate writes into; nil: the gate is stateless.
	Ledger *ledger.Ledger
	// Alone: no other process can have the ledger at the same time, as with a file. What
	// another gate was at is taken over at once then.
	Alone bool
	// Cloud reaches AWS; nil: one is made, of the configuration's accounts.
	Cloud *securitygroup.Cloud
	// Groups takes the place of package access and Cloud; nil: they open and shut.
	Groups func(*config.Config) Groups
	Notify func(notify.Event) // tells people; nil: nobody. It must not block.
	Logger *slog.Logger
	Now    func() time.Time
	// Instance names this process among the gates that share a ledger; "": one is made. No
	// two that live at the same time may have the same.
	Instance string
	// Settle is access.Access's.
	Settle time.Duration
}

// Who is somebody at the gate, as its authentication found them: nobody else makes one.
type Who struct {
	Person string
	Role   api.Role
	Via    api.Via
	From   netip.Addr
	Host   string // of RoleHost
	// Signed is when the request says that it was signed, and Nonce what makes it another
	// than all others; zero where it is not signed. A gate without a ledger goes by them.
	Signed time.Time
	Nonce  string
}

// Session is a browser's.
type Session struct {
	Person  string
	Via     api.Via
	Created time.Time
	Until   time.Time
	Seen    time.Time
	From    netip.Addr
	Agent   string // of the browser; a stranger's text
}

// Passkey is a passkey with all that its next use needs.
type Passkey struct {
	ID      []byte
	Person  string
	Name    string // that its owner gave it
	Data    []byte // what package passkey wrote
	Created time.Time
	Used    time.Time
}

// Ceremony is something begun that is finished at most once, by whoever knows its key: a
// passkey's or an identity provider's.
type Ceremony struct {
	Kind   string // at most 32 letters
	Key    string // a secret of at least 16 characters
	Data   []byte // at most 16 KiB
	Person string
	Until  time.Time
}

// Login is somebody as an identity provider has shown them.
type Login struct {
	Issuer  string
	Subject string
	Login   string   // the claim that the configuration names
	Groups  []string // as the provider has them
}

// Filter is which entries of the audit are asked for. The zero value: the newest 100.
type Filter struct {
	Person, Target, What string
	From, To             time.Time
	Before               int64 // sequence number; 0: the newest
	Limit                int   // at most 1000; 0: 100
}

// Gate is one gate. It is safe for concurrent use.
type Gate struct {
	o        Options
	ledger   *ledger.Ledger
	log      *slog.Logger
	instance string

	dirMu sync.Mutex
	dir   atomic.Pointer[directory]

	live     *live
	reloadMu sync.Mutex
	streams  *streams

	life     context.Context // ends when what was begun has to be given up
	die      context.CancelFunc
	slots    chan struct{}
	jobsMu   sync.Mutex
	jobs     map[string]*job
	jobsDone sync.WaitGroup
	stopped  bool

	attendKick, recheckKick chan struct{}
	nextDue                 atomic.Int64 // when attendAll looks again, Unix nanoseconds
	looked                  int          // times that lookAtGroups has
	beaten                  time.Time    // when heartbeat did last
	clockTold               bool         // that it differs from another gate's

	fails       memo[*api.Error] // why a grant was not opened, for who waits
	before      memo[time.Time]  // when a grant ended before it was asked to be longer
	missed      memo[time.Time]  // since when its rule has not been seen
	notBefore   memo[time.Time]  // that a grant is not looked at
	endingSince memo[time.Time]
	stuckTold   memo[bool]
	shortening  memo[bool] // grants whose rule's tag is being made to end sooner
	owedEnds    memo[owedEnd]

	hostsMu    sync.Mutex
	hostsUntil map[string]time.Time // who listens at any gate, and until when that is known

	nonces     nonces
	refusals   limiter
	complaints limiter
	strangers  strangers
	trouble    atomic.Pointer[string]
}

// New returns a Gate, which does nothing of itself before Run.
func New(o Options) *Gate {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Instance == "" {
		o.Instance = "gate-" + rand.Text()[:12]
	}
	g := &Gate{
		o: o, ledger: o.Ledger, log: o.Logger, instance: o.Instance,
		streams: newStreams(), slots: make(chan struct{}, working), jobs: map[string]*job{},
		attendKick: make(chan struct{}, 1), recheckKick: make(chan struct{}, 1),
		refusals: limiter{most: 30, per: time.Minute}, complaints: limiter{most: 1, per: 10 * time.Second},
	}
	g.life, g.die = context.WithCancel(context.Background())
	g.live = newLive(g.changed)
	return g
}

func (g *Gate) now() time.Time { return g.o.Now() }

// Stateless reports whether the gate has no ledger: no sessions, passkeys, edits,
// approvals or hosts then.
func (g *Gate) Stateless() bool { return g.ledger == nil }
