// Package courier takes events to channels: it holds what each of them asks for, its
// kinds, its limit, its digest and its quiet hours, keeps what waits on the disk, and tries
// again. Whoever tells it something never waits for any of that.
package courier

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sekisho/internal/config"
	"sekisho/internal/notify"
)

// Channel is where events go.
type Channel struct {
	Name     string // "mail", "webhook", ...
	Sender   notify.Sender
	Events   []notify.Kind // that it is told of
	PerHour  int           // messages at most
	Digest   config.Digest
	Quiet    config.Hours
	Language config.Language
	// Together is that bans of an attack are not told one by one, where its end is told.
	Together bool
}

// Options are what a Courier needs. Only Channels and Write are needed.
type Options struct {
	Dir      string // where what waits is kept; "": it is not
	Channels []Channel
	// Write makes a message of events; id is the same when it is sent again.
	Write func(events []notify.Event, more int, language config.Language, id string) notify.Message
	// Owner says whose an address is; nil: nobody is asked. It may take its time. Beside an error
	// it may have said a part: its ASN, its Reverse.
	Owner  func(ctx context.Context, addr netip.Addr) (notify.Owner, error)
	Logger *slog.Logger // nil: nobody is told
}

// Stat is how a channel does.
type Stat struct {
	Channel string    `json:"channel"`
	Waiting int       `json:"waiting"` // events
	Sent    int64     `json:"sent"`    // messages
	Failed  int64     `json:"failed"`  // attempts
	Dropped int64     `json:"dropped"` // events that were never told
	Error   string    `json:"error,omitempty"`
	Since   time.Time `json:"since,omitzero"` // of the error
}

// Courier is one. Tell and Stats are safe for concurrent use.
type Courier struct {
	o     Options
	boxes []*box
}

// New makes a Courier. It can be told at once; what waited when the last one ended is
// taken in by Run.
func New(o Options) *Courier {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Courier{o: o}
	for _, ch := range o.Channels {
		path := ""
		if o.Dir != "" {
			path = filepath.Join(o.Dir, ch.Name+".json")
		}
		c.boxes = append(c.boxes, &box{Channel: ch, o: &c.o, path: path, wake: make(chan struct{}, 1), told: map[told]time.Time{}})
	}
	return c
}

// Tell hands an event over and returns at once.
func (c *Courier) Tell(e notify.Event) {
	for _, b := range c.boxes {
		if e.Part && b.Together && slices.Contains(b.Events, notify.AttackEnded) {
			continue
		}
		if slices.Contains(b.Events, e.Kind) {
			b.put(e, time.Now())
		}
	}
}

// Stats are those of all channels, in their order.
func (c *Courier) Stats() []Stat {
	stats := make([]Stat, len(c.boxes))
	for i, b := range c.boxes {
		stats[i] = b.stats()
	}
	return stats
}

// Run takes events to their channels until ctx ends, and then keeps what waits. No other
// Courier of the same folder may run meanwhile.
func (c *Courier) Run(ctx context.Context) error {
	if c.o.Dir != "" {
		if err := os.MkdirAll(c.o.Dir, 0o700); err != nil {
			c.o.Logger.Warn("what waits to be told is not kept", "error", err)
		}
	}
	var group errgroup.Group
	for _, b := range c.boxes {
		group.Go(func() error {
			if err := b.load(time.Now()); err != nil {
				c.o.Logger.Warn("what waited to be told is lost", "channel", b.Name, "error", err)
			}
			b.run(ctx)
			return nil
		})
	}
	return group.Wait()
}

// Keep keeps what was told since Run ended, for the next Courier.
func (c *Courier) Keep() {
	for _, b := range c.boxes {
		b.save()
	}
}

// Bounds of a box.
const (
	maxWaiting = 1000            // events; what comes beyond is counted
	maxWhole   = 50              // of those, with their lines of the log
	maxBatch   = 200             // events in a message
	maxOwners  = 20              // looked up for a message
	ownersTime = 8 * time.Second // for all of them
	sendTime   = time.Minute
	gather     = 2 * time.Second // what comes together is told together
	sameAgain  = 10 * time.Minute
	maxTold    = 1000
	firstRetry = 30 * time.Second
	lastRetry  = time.Hour
	giveUp     = 72 * time.Hour
	saveEvery  = time.Second
	saveRest   = 20 // times as long as saving took nothing is saved again
	forAlarms  = 5  // one message in so many of an hour is for alarms alone
	digestHour = 8
)

// told is what a channel was told of lately.
type told struct {
	kind notify.Kind
	key  string
}

// waiting is an event in a box.
type waiting struct {
	Event notify.Event `json:"event"`
	Since time.Time    `json:"since"`
}

// box is a channel with what waits for it.
type box struct {
	Channel
	o    *Options
	path string
	wake chan struct{}

	mu      sync.Mutex
	queue   []waiting
	lost    int // events that the next message counts without telling them
	told    map[told]time.Time
	id      string      // of the message that is tried again
	batch   int         // how many of queue it has
	sent    []time.Time // messages of the last hour
	tries   int
	next    time.Time // not before
	stat    Stat
	unsaved bool

	unkept bool      // the last time that it was saved it was not; of save alone
	rested time.Time // when it may be saved again; of save alone
}

// put takes an event in.
func (b *box) put(e notify.Event, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Key != "" && e.Ban == nil { // each ban, and each time that one is lifted, is another
		k := told{e.Kind, e.Key}
		if at, ok := b.told[k]; ok && now.Sub(at) < sameAgain {
			return
		}
		if len(b.told) >= maxTold {
			for k, at := range b.told {
				if now.Sub(at) >= sameAgain {
					delete(b.told, k)
				}
			}
		}
		if len(b.told) < maxTold { // else it is told twice, which is better than not at all
			b.told[k] = now
		}
	}
	alarm := func(i int) bool { return b.queue[i].Event.Level == notify.Alarm }
	if last := len(b.queue) - 1; last+1 >= maxWaiting {
		b.lost++
		b.stat.Dropped++
		b.unsaved = true
		if e.Level != notify.Alarm || last < b.batch || alarm(last) {
			return
		}
		b.queue = b.queue[:last] // an alarm takes its place
	}
	if len(b.queue) >= maxWhole && e.Ban != nil {
		ban := *e.Ban
		ban.Lines = nil
		e.Ban = &ban
	}
	at := len(b.queue)
	if e.Level == notify.Alarm { // it goes before all but others, and what is on its way
		for at = b.batch; at < len(b.queue) && alarm(at); at++ {
		}
	}
	b.queue = slices.Insert(b.queue, at, waiting{e, now})
	b.unsaved = true
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *box) stats() Stat {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stat
	s.Channel, s.Waiting = b.Name, len(b.queue)
	return s
}
