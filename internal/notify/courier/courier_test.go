package courier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/notify"
)

// letterbox is a channel's other end: it keeps what it was sent.
type letterbox struct {
	mu       sync.Mutex
	messages []notify.Message
	at       []time.Time
	answer   func() error
}

// answers has the channel answer so from now on.
func (l *letterbox) answers(f func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = f
}

func (l *letterbox) Send(_ context.Context, m notify.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answer != nil {
		if err := l.answer(); err != nil {
			return err
		}
	}
	l.messages, l.at = append(l.messages, m), append(l.at, time.Now())
	return nil
}

// got is what was sent, and when.
func (l *letterbox) got() ([]notify.Message, []time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.messages), slices.Clone(l.at)
}

// told counts the events that arrived, those only counted too.
func (l *letterbox) told() (n int) {
	messages, _ := l.got()
	for _, m := range messages {
		n += len(m.Events) + m.More
	}
	return n
}

func write(events []notify.Event, more int, _ config.Language, id string) notify.Message {
	return notify.Message{ID: id, Events: events, More: more}
}

func ban(n int) notify.Event {
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), 32)
	return notify.Event{Kind: notify.Ban, Level: notify.Info, Time: time.Now(), Key: p.String(), Ban: &notify.BanFacts{Prefix: p, Lines: []string{"a line"}}}
}

func alarm(key string) notify.Event {
	return notify.Event{Kind: notify.Degraded, Level: notify.Alarm, Time: time.Now(), Key: key}
}

// run has f tell a courier with one channel; it goes on until f returns.
func run(t *testing.T, ch Channel, o Options, f func(*Courier, *letterbox)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		box := &letterbox{}
		if ch.Sender == nil {
			ch.Sender = box
		} else {
			box = ch.Sender.(*letterbox)
		}
		if ch.Name == "" {
			ch.Name = "mail"
		}
		ch.Events = append(ch.Events, notify.Ban, notify.Degraded, notify.Test)
		if ch.PerHour == 0 {
			ch.PerHour = 100
		}
		o.Channels, o.Write = []Channel{ch}, write
		c := New(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		f(c, box)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func wait(d time.Duration) {
	<-time.After(d) // in the bubble's own time
	synctest.Wait()
}

func TestWhatComesTogetherIsToldTogether(t *testing.T) {
	run(t, Channel{}, Options{}, func(c *Courier, box *letterbox) {
		same := notify.Event{Kind: notify.Degraded, Key: "disk"}
		for n := range 4 {
			c.Tell(ban(n))
		}
		c.Tell(notify.Event{Kind: notify.Drift})
		c.Tell(same)
		c.Tell(same) // again
		wait(time.Minute)
		if messages, _ := box.got(); len(messages) != 1 || len(messages[0].Events) != 5 {
			t.Fatalf("messages: %+v", messages)
		}
		c.Tell(ban(9))
		wait(time.Minute)
		if messages, _ := box.got(); len(messages) != 2 || messages[1].ID == messages[0].ID {
			t.Errorf("messages: %+v", messages)
		}
		c.Tell(same) // still the same
		wait(10 * time.Minute)
		c.Tell(same) // it is worth a word again
		wait(time.Minute)
		if box.told() != 7 {
			t.Errorf("told of %d events, want 7", box.told())
		}
	})
}

func TestAReportIsAMessageOfItsOwn(t *testing.T) {
	run(t, Channel{}, Options{}, func(c *Courier, box *letterbox) {
		c.Tell(ban(1))
		c.Tell(notify.Event{Kind: notify.Test, Report: &notify.ReportText{Subject: "the week"}})
		c.Tell(ban(2))
		wait(time.Minute)
		messages, _ := box.got()
		if len(messages) != 3 || messages[1].Events[0].Report == nil {
			t.Errorf("messages: %+v", messages)
		}
	})
}

// TestTenThousandBans: at most so many messages in an hour, and every ban is told or
// counted.
func TestTenThousandBans(t *testing.T) {
	run(t, Channel{PerHour: 4}, Options{}, func(c *Courier, box *letterbox) {
		for n := range 10_000 {
			c.Tell(ban(n))
			if n%200 == 0 {
				wait(time.Second)
			}
		}
		wait(55 * time.Minute)
		if messages, _ := box.got(); len(messages) != 4 {
			t.Errorf("%d messages within the first hour, want 4", len(messages))
		}
		wait(3 * time.Hour)
		messages, at := box.got()
		for i := 4; i < len(at); i++ {
			if d := at[i].Sub(at[i-4]); d < time.Hour {
				t.Errorf("message %d came %v after the one four before", i, d)
			}
		}
		if box.told() != 10_000 {
			t.Errorf("told of %d events, want 10000", box.told())
		}
		if s := c.Stats()[0]; s.Waiting != 0 || int(s.Sent) != len(messages) {
			t.Errorf("stats: %+v", s)
		}
	})
}

func TestDigestAndQuietHours(t *testing.T) {
	night := config.Span{Days: [7]bool{true, true, true, true, true, true, true}, From: 22 * time.Hour, To: 7 * time.Hour, Zone: time.UTC}
	for _, tt := range []struct {
		name  string
		ch    Channel
		tell  time.Duration // after midnight, 2000-01-01 UTC
		wants time.Duration
	}{
		{"at once", Channel{}, 3 * time.Hour, 3*time.Hour + gather},
		{"hourly", Channel{Digest: config.DigestHourly}, 3*time.Hour + 20*time.Minute, 4 * time.Hour},
		{"quiet", Channel{Quiet: config.Hours{night}}, 3 * time.Hour, 7 * time.Hour},
		{"not quiet", Channel{Quiet: config.Hours{night}}, 12 * time.Hour, 12*time.Hour + gather},
		{"a digest that is due in quiet hours", Channel{Digest: config.DigestHourly, Quiet: config.Hours{night}}, 21*time.Hour + 30*time.Minute, 31 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, tt.ch, Options{}, func(c *Courier, box *letterbox) {
				midnight := time.Now()
				wait(tt.tell)
				c.Tell(ban(1))
				wait(36 * time.Hour)
				if _, at := box.got(); len(at) != 1 || at[0].Sub(midnight) != tt.wants {
					t.Errorf("told at %v, want %v", at, midnight.Add(tt.wants))
				}
			})
		})
	}
	t.Run("a report is no part of a digest", func(t *testing.T) {
		run(t, Channel{Digest: config.DigestDaily, Events: []notify.Kind{notify.Report}}, Options{}, func(c *Courier, box *letterbox) {
			c.Tell(ban(1))
			c.Tell(notify.Event{Kind: notify.Report, Report: &notify.ReportText{Subject: "the week"}})
			wait(time.Minute)
			if messages, _ := box.got(); len(messages) != 2 || messages[1].Events[0].Report == nil {
				t.Errorf("messages: %+v", messages)
			}
		})
	})
	t.Run("an alarm waits for neither", func(t *testing.T) {
		run(t, Channel{Digest: config.DigestDaily, Quiet: config.Hours{night}}, Options{}, func(c *Courier, box *letterbox) {
			c.Tell(ban(1))
			wait(time.Hour)
			c.Tell(alarm("disk"))
			wait(time.Minute)
			if messages, _ := box.got(); len(messages) != 1 || len(messages[0].Events) != 2 {
				t.Errorf("messages: %+v", messages)
			}
		})
	})
}

func TestItIsTriedAgain(t *testing.T) {
	box := &letterbox{}
	down := errors.New("the server is down")
	box.answer = func() error { return down }
	run(t, Channel{Sender: box}, Options{}, func(c *Courier, box *letterbox) {
		c.Tell(ban(1))
		wait(3 * time.Hour)
		if s := c.Stats()[0]; s.Failed < 5 || s.Failed > 12 || s.Error != down.Error() || s.Waiting != 1 {
			t.Errorf("after three hours: %+v", s)
		}
		c.Tell(ban(2))
		box.answers(nil)
		wait(2 * time.Hour)
		if box.told() != 2 || c.Stats()[0].Error != "" {
			t.Errorf("told of %d, %+v", box.told(), c.Stats()[0])
		}
		box.answers(func() error { return &notify.Step{Name: "recipient", Err: errors.New("no such user"), Final: true} })
		c.Tell(ban(3))
		wait(time.Hour)
		if s := c.Stats()[0]; s.Waiting != 0 || s.Dropped != 1 {
			t.Errorf("what cannot be sent: %+v", s)
		}
		box.answers(func() error { return down })
		c.Tell(ban(4))
		wait(80 * time.Hour)
		if s := c.Stats()[0]; s.Waiting != 0 || s.Dropped != 2 {
			t.Errorf("after three days: %+v", s)
		}
	})
}

// TestWhatWaitsIsKept: another process sends it, as the same message.
func TestWhatWaitsIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outbox")
	var ids []string
	failing := &letterbox{answer: func() error { return errors.New("down") }}
	o := Options{Dir: dir}
	o.Write = write
	run(t, Channel{Sender: failing}, o, func(c *Courier, _ *letterbox) {
		for n := range 3 {
			c.Tell(ban(n))
		}
		wait(time.Minute)
		for _, b := range c.boxes {
			_, _, id, _ := b.take() // as it is tried again
			ids = append(ids, id)
		}
	})
	run(t, Channel{}, o, func(c *Courier, box *letterbox) {
		wait(time.Minute)
		if messages, _ := box.got(); len(messages) != 1 || len(messages[0].Events) != 3 || messages[0].ID != ids[0] {
			t.Errorf("messages: %+v, want the one of id %v", messages, ids)
		}
	})
	run(t, Channel{}, o, func(c *Courier, box *letterbox) {
		wait(time.Minute)
		if messages, _ := box.got(); len(messages) != 0 {
			t.Errorf("sent twice: %+v", messages)
		}
	})
}

// TestOwnersMayTakeTheirTime: a registry that hangs holds up one message by seconds.
func TestOwnersMayTakeTheirTime(t *testing.T) {
	asked := 0
	o := Options{Owner: func(ctx context.Context, a netip.Addr) (notify.Owner, error) {
		if asked++; asked == 1 {
			return notify.Owner{Name: "ACME"}, nil
		}
		<-ctx.Done()
		return notify.Owner{}, ctx.Err()
	}}
	run(t, Channel{}, o, func(c *Courier, box *letterbox) {
		begun := time.Now()
		for n := range 3 {
			c.Tell(ban(n))
		}
		wait(time.Minute)
		if messages, at := box.got(); len(messages) != 1 || at[0].Sub(begun) > gather+ownersTime || messages[0].Events[0].Owner.Name != "ACME" {
			t.Errorf("after %v: %+v", at, messages)
		}
	})
}

func BenchmarkTell(b *testing.B) {
	c := New(Options{Channels: []Channel{{Name: "mail", Events: []notify.Kind{notify.Ban}, PerHour: 1, Sender: &letterbox{}}}, Write: write})
	b.ReportAllocs()
	e := ban(1)
	for n := 0; b.Loop(); n++ {
		e.Key = fmt.Sprint(n % 5000)
		c.Tell(e)
	}
}

// hanging never answers, and says what it was sent.
type hanging struct{ ids chan string }

func (h hanging) Send(ctx context.Context, m notify.Message) error {
	h.ids <- m.ID
	<-ctx.Done()
	return ctx.Err()
}

// start runs a courier with one channel until the returned function is called.
func start(t *testing.T, o Options, sender notify.Sender) (*Courier, func()) {
	t.Helper()
	o.Channels = []Channel{{Name: "mail", Sender: sender, Events: []notify.Kind{notify.Ban, notify.Degraded}, PerHour: 100}}
	o.Write = write
	c := New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	return c, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestOneCourierAfterAnother: a reload takes a new one, which is told before the old one has
// ended. Nothing is lost between the two, nor what is told after the last one's end; and what
// was on its way is sent again as the message that it was.
func TestOneCourierAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Dir: filepath.Join(t.TempDir(), "outbox"), Write: write}
		first := hanging{make(chan string, 1)}
		c, stop := start(t, o, first)
		c.Tell(ban(1))
		id := <-first.ids
		o.Channels = []Channel{{Name: "mail", Events: []notify.Kind{notify.Ban}, PerHour: 100}}
		between := New(o)
		between.Tell(ban(2))
		stop()
		ended, end := context.WithCancel(t.Context())
		end()
		if err := between.Run(ended); err != nil {
			t.Error(err)
		}
		between.Tell(ban(3))
		between.Keep()
		box := &letterbox{}
		_, stop = start(t, o, box)
		wait(time.Minute)
		stop()
		messages, _ := box.got()
		if len(messages) != 2 || messages[0].ID != id || len(messages[0].Events) != 1 || len(messages[1].Events) != 2 {
			t.Errorf("messages: %+v, want the one of id %s, and one of two events", messages, id)
		}
	})
}

// TestARefusalIsNotAskedForAgainAndAgain: what is given up counts as sent: some of its
// recipients may have it.
func TestARefusalIsNotAskedForAgainAndAgain(t *testing.T) {
	run(t, Channel{PerHour: 3}, Options{}, func(c *Courier, box *letterbox) {
		box.answers(func() error { return &notify.Step{Name: "recipient", Err: errors.New("no such user"), Final: true} })
		for n := range 100 {
			c.Tell(ban(n))
			wait(10 * time.Second)
		}
		if s := c.Stats()[0]; s.Failed != 3 || s.Sent != 0 || s.Dropped+int64(s.Waiting) != 100 {
			t.Errorf("stats: %+v", s)
		}
		box.answers(func() error {
			return &notify.Step{Name: "recipient", Err: errors.New("no such user"), Final: true, Partly: true}
		})
		lost := c.Stats()[0].Dropped
		wait(time.Hour)
		if s := c.Stats()[0]; s.Sent != 1 || s.Dropped != lost || s.Waiting != 0 || s.Error == "" {
			t.Errorf("where others have it: %+v", s)
		}
	})
}

func TestTheServerSaysWhen(t *testing.T) {
	run(t, Channel{}, Options{}, func(c *Courier, box *letterbox) {
		box.answers(func() error { return &notify.Step{Name: "answer", Err: errors.New("slower"), After: 3 * time.Hour} })
		c.Tell(ban(1))
		wait(2*time.Hour + 59*time.Minute)
		if s := c.Stats()[0]; s.Failed != 1 {
			t.Errorf("asked %d times", s.Failed)
		}
		box.answers(nil)
		wait(2 * time.Minute)
		if box.told() != 1 {
			t.Error("it was not sent when the server wanted it")
		}
	})
}

// TestAFloodLeavesRoomForAnAlarm: who floods us with bans does not hide a login.
func TestAFloodLeavesRoomForAnAlarm(t *testing.T) {
	run(t, Channel{PerHour: 10}, Options{}, func(c *Courier, box *letterbox) {
		for n := range 100 {
			c.Tell(ban(n))
			wait(3 * time.Second)
		}
		if messages, _ := box.got(); len(messages) != 8 {
			t.Errorf("%d messages, want 8", len(messages))
		}
		c.Tell(alarm("a login"))
		wait(gather)
		if messages, _ := box.got(); len(messages) != 9 {
			t.Errorf("%d messages, want 9", len(messages))
		}
	})
}

// TestABanThatBeginsAnewIsTold: a program that follows bans must not believe that one is over.
func TestABanThatBeginsAnewIsTold(t *testing.T) {
	run(t, Channel{}, Options{}, func(c *Courier, box *letterbox) {
		for range 2 {
			c.Tell(ban(1))
			wait(time.Minute)
		}
		if box.told() != 2 {
			t.Errorf("told of %d events, want 2", box.told())
		}
	})
}

// TestAClockThatWasWrong: what was kept by a clock of the future holds up nothing.
func TestAClockThatWasWrong(t *testing.T) {
	dir := t.TempDir()
	future := time.Date(2400, 1, 1, 0, 0, 0, 0, time.UTC)
	raw, err := json.Marshal(saved{Queue: []waiting{{ban(1), future}}, Sent: []time.Time{future}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "mail.json"), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, Channel{PerHour: 1}, Options{Dir: dir}, func(c *Courier, box *letterbox) {
		wait(time.Minute)
		if box.told() != 1 {
			t.Errorf("told of %d events, want 1", box.told())
		}
	})
}

// TestBansOfAnAttack: people are told of its beginning and its end, programs of each ban.
func TestBansOfAnAttack(t *testing.T) {
	for _, tt := range []struct {
		name string
		ch   Channel
		want int
	}{
		{"people", Channel{Together: true, Events: []notify.Kind{notify.AttackBegan, notify.AttackEnded}}, 3},
		{"people who are not told of attacks", Channel{Together: true}, 3},
		{"programs", Channel{Events: []notify.Kind{notify.AttackBegan, notify.AttackEnded}}, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, tt.ch, Options{}, func(c *Courier, box *letterbox) {
				c.Tell(ban(1))
				c.Tell(notify.Event{Kind: notify.AttackBegan})
				for n := range 2 {
					e := ban(2 + n)
					e.Part = true
					c.Tell(e)
				}
				c.Tell(notify.Event{Kind: notify.AttackEnded})
				wait(time.Minute)
				if box.told() != tt.want {
					t.Errorf("told of %d events, want %d", box.told(), tt.want)
				}
			})
		})
	}
}

// TestWhatIsKnownOfAnOwner: where registries fail there is what DNS has, and alarms come first.
func TestWhatIsKnownOfAnOwner(t *testing.T) {
	var asked []netip.Addr
	o := Options{Owner: func(_ context.Context, a netip.Addr) (notify.Owner, error) {
		if asked = append(asked, a); len(asked) > 1 {
			return notify.Owner{}, errors.New("nobody knows")
		}
		return notify.Owner{ASN: 64496}, errors.New("no registry answers")
	}}
	run(t, Channel{}, o, func(c *Courier, box *letterbox) {
		c.Tell(ban(1))
		worse := ban(2)
		worse.Level = notify.Alarm
		c.Tell(worse)
		wait(time.Minute)
		messages, _ := box.got()
		if len(messages) != 1 || len(asked) != 2 || asked[0] != worse.Ban.Prefix.Addr() {
			t.Fatalf("asked for %v, messages: %+v", asked, messages)
		}
		if e := messages[0].Events; e[1].Owner != nil || e[0].Owner == nil || e[0].Owner.ASN != 64496 {
			t.Errorf("events: %+v", e)
		}
	})
}

// TestAnAlarmIsNotAtTheEndOfTheQueue: one that comes when the box is full of bans is in the
// next message, not in the sixth, nor among those that are only counted.
func TestAnAlarmIsNotAtTheEndOfTheQueue(t *testing.T) {
	run(t, Channel{PerHour: 1, Digest: config.DigestDaily}, Options{}, func(c *Courier, box *letterbox) {
		for n := range maxWaiting + 100 {
			c.Tell(ban(n))
		}
		c.Tell(alarm("first"))
		c.Tell(alarm("second"))
		if s := c.Stats()[0]; s.Waiting != maxWaiting || s.Dropped != 102 {
			t.Errorf("stats: %+v", s)
		}
		wait(gather)
		messages, _ := box.got()
		if len(messages) != 1 || messages[0].Events[0].Key != "first" || messages[0].Events[1].Key != "second" || len(messages[0].Events) != maxBatch || messages[0].More != 102 {
			t.Fatalf("%d messages", len(messages))
		}
	})
}
