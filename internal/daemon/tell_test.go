package daemon

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/durable"
	"sekisho/internal/hardening"
	"sekisho/internal/notify"
	"sekisho/internal/notify/courier"
)

const hookKey = "0123456789abcdef"

// hook is a webhook's receiver, which checks signatures.
type hook struct {
	*httptest.Server
	posted chan []notify.Event
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{posted: make(chan []notify.Event, 100)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte(hookKey))
		fmt.Fprintf(mac, "%s.%s", r.Header.Get("X-Sekisho-Timestamp"), body)
		if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); err != nil || r.Header.Get("X-Sekisho-Signature") != want {
			t.Errorf("signature %q, want %q (%v)", r.Header.Get("X-Sekisho-Signature"), want, err)
		}
		var said struct {
			Events []notify.Event `json:"events"`
		}
		if err := json.Unmarshal(body, &said); err != nil {
			t.Errorf("%v in %s", err, body)
		}
		h.posted <- said.Events
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) config(more string) string {
	return fmt.Sprintf("notify: {lookup: no, private: [127.0.0.0/8], webhook: {url: %q, secret: %s%s}}\n", h.URL, hookKey, more)
}

// told waits until an event of a kind was posted.
func (h *hook) told(t *testing.T, kind notify.Kind) notify.Event {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case events := <-h.posted:
			if i := slices.IndexFunc(events, func(e notify.Event) bool { return e.Kind == kind }); i >= 0 {
				return events[i]
			}
		case <-late:
			t.Fatalf("nobody was told of %s", kind)
		}
	}
}

// TestPeopleAreTold: of bans with their story, of logins from elsewhere, of what is lifted.
func TestPeopleAreTold(t *testing.T) {
	h := newHook(t)
	_, log, dir, done := dry(t, h.config(""))
	write := func(format string, args ...any) {
		if _, err := fmt.Fprintf(log, format, args...); err != nil {
			t.Fatal(err)
		}
	}
	write("%s", failures("203.0.113.9", 5))
	e := h.told(t, notify.Ban)
	if b := e.Ban; b == nil || b.Prefix.String() != "203.0.113.9/32" || b.Enforced || len(b.Lines) != 5 || len(b.Users) != 1 || b.Users[0] != (notify.Tried{Name: "root", Count: 5}) {
		t.Errorf("the ban: %+v", e.Ban)
	}
	stamp := func() string { return time.Now().Format(time.RFC3339Nano) }
	write("%s host sshd[7]: Accepted publickey for hanako from 192.0.2.1 port 1 ssh2\n", stamp())
	write("%s host sshd[8]: Accepted publickey for hanako from 198.51.100.1 port 2 ssh2\n", stamp())
	if e := h.told(t, notify.Login); e.Login == nil || e.Login.User != "hanako" || e.Login.Method != "publickey" || e.Login.Addr.String() != "198.51.100.1" {
		t.Errorf("the login: %+v", e.Login)
	}
	var lifted UnbanReply
	control(t, dir, "POST", "unban", `{"prefix":"203.0.113.9/32"}`, &lifted)
	if e := h.told(t, notify.Unban); e.Ban == nil || e.Ban.Holder == "" {
		t.Errorf("the unban: %+v", e)
	}
	var status Status
	control(t, dir, "GET", "status", "", &status)
	if len(status.Channels) != 1 || status.Channels[0].Channel != "webhook" || status.Channels[0].Sent < 2 {
		t.Errorf("status: %+v", status.Channels)
	}
	log.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestALoginAfterARestartIsTold: where people logged in before is known before a log is read.
func TestALoginAfterARestartIsTold(t *testing.T) {
	h := newHook(t)
	login := func(addr string) string {
		return fmt.Sprintf("%s host sshd[7]: Accepted publickey for hanako from %s port 1 ssh2\n", time.Now().Format(time.RFC3339Nano), addr)
	}
	d, log, _, done := dry(t, h.config(""))
	if _, err := io.WriteString(log, login("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	log.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	second := New(Options{Load: d.opts.Load, StateDir: d.opts.StateDir, Stdin: strings.NewReader(login("198.51.100.1"))})
	if err := second.Run(t.Context()); err != nil {
		t.Error(err)
	}
	if s := second.channelStatus(); len(s) != 1 || s[0].Sent+int64(s[0].Waiting) != 1 {
		t.Errorf("the login from elsewhere was not told: %+v", s)
	}
}

// TestADeadChannelHoldsUpNobody: bans go on, what waits is kept, and sent when the daemon
// runs again.
func TestADeadChannelHoldsUpNobody(t *testing.T) {
	h := newHook(t)
	dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // never answers
	}))
	t.Cleanup(dead.Close)
	d, log, dir, done := dry(t, strings.Replace(h.config(""), h.URL, dead.URL, 1))
	if _, err := io.WriteString(log, failures("203.0.113.9", 5)+failures("203.0.113.10", 5)); err != nil {
		t.Fatal(err)
	}
	var bans []Ban
	for len(bans) < 2 {
		control(t, dir, "GET", "bans", "", &bans)
	}
	log.Close()
	begun := time.Now()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the daemon took %v to end", took)
	}
	in, again := io.Pipe()
	defer again.Close()
	second := New(Options{
		Load: func() (*config.Config, error) {
			return config.Parse("test", []byte("version: 1\nguard: {enforce: no}\nlog: {source: stdin}\n"+h.config("")))
		},
		StateDir: d.opts.StateDir, Stdin: in,
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- second.Run(ctx) }()
	<-second.Ready()
	h.told(t, notify.Ban)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestTenThousandBansAreFewMessages: a flood loses no ban, and sends no more messages than
// were asked for: those that were sent and those that wait tell or count all of them.
func TestTenThousandBansAreFewMessages(t *testing.T) {
	const bans, perHour = 10_000, 3
	h := newHook(t)
	d, log, _, done := dry(t, h.config(fmt.Sprintf(", events: [ban], per_hour: %d", perHour)))
	for n := range bans {
		if _, err := io.WriteString(log, failures(fmt.Sprintf("10.%d.%d.1", n>>8, n&0xff), 5)); err != nil {
			t.Fatal(err)
		}
	}
	log.Close() // the daemon ends when it has read it all
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := d.stats().Bans; got != bans {
		t.Errorf("%d bans, want %d", got, bans)
	}
	s := d.channelStatus()[0]
	told := 0
	for posts := 0; ; posts++ {
		select {
		case events := <-h.posted:
			told += len(events)
			continue
		default:
		}
		if posts > perHour || int64(posts) < s.Sent {
			t.Errorf("%d messages, %d by its own account, at most %d in an hour", posts, s.Sent, perHour)
		}
		break
	}
	if s.Dropped+int64(s.Waiting+told) < bans {
		t.Errorf("%d told, %d wait, %d counted: less than %d", told, s.Waiting, s.Dropped, bans)
	}
}

// TestASecretIsReadAgain: mending the file that holds it, and a reload, is all that it takes.
func TestASecretIsReadAgain(t *testing.T) {
	h := newHook(t)
	file := filepath.Join(t.TempDir(), "key")
	d, log, dir, done := dry(t, strings.Replace(h.config(""), "secret: "+hookKey, "secret_file: "+file, 1))
	var status Status
	for len(status.Problems) < 2 { // a dry run is one
		control(t, dir, "GET", "status", "", &status)
	}
	if err := os.WriteFile(file, []byte(hookKey), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(d.channelStatus()) != 1 {
		t.Error("it is reloaded, and what happens next would be told to nobody")
	}
	if _, err := io.WriteString(log, failures("203.0.113.9", 5)); err != nil {
		t.Fatal(err)
	}
	h.told(t, notify.Ban)
	log.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// box has what the daemon tells wait, and says how much that is.
func box(d *Daemon) func() int {
	c := courier.New(courier.Options{Channels: []courier.Channel{{Name: "box", Events: notify.Kinds(), PerHour: 1}}})
	d.teller.courier.Store(c)
	return func() int { return c.Stats()[0].Waiting }
}

// TestAProblemThatComesAndGoes is told of when it begins, and when it is over; one that is
// there again is told of once it stays, and people never believe for long what is not so.
func TestAProblemThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{})
		told := box(d)
		is := func(problems map[string]Problem, span time.Duration, want int, what string) {
			t.Helper()
			for end := time.Now().Add(span); time.Now().Before(end); <-time.After(problemsEvery) {
				d.tellProblems(problems, time.Now())
			}
			if got := told(); got != want {
				t.Errorf("%s: told of %d events, want %d", what, got, want)
			}
		}
		bad, well := map[string]Problem{"unwritten": {What: "the disk is full"}}, map[string]Problem{}
		is(bad, 5*time.Second, 1, "it begins")
		is(well, 5*time.Second, 2, "it is over")
		is(bad, 5*time.Minute, 2, "it is back")
		is(bad, 10*time.Minute, 3, "it stays")
		is(well, 5*time.Second, 4, "it is over again")
		for range 30 {
			is(bad, 5*time.Second, 4, "it flaps")
			is(well, 5*time.Second, 4, "it flaps")
		}
		is(well, time.Hour, 4, "all is well")
		worse := map[string]Problem{"unwritten": {What: "the disk is full", Severity: Critical}}
		is(bad, 5*time.Second, 5, "it begins")
		is(worse, time.Minute, 6, "it is worse")
		is(bad, time.Hour, 6, "it is bad again")
		is(well, time.Hour, 7, "it is over")
		if len(d.teller.known) != 0 {
			t.Errorf("remembered: %v", d.teller.known)
		}
	})
}

// TestAChannelThatIsNoMore leaves no problem behind.
func TestAChannelThatIsNoMore(t *testing.T) {
	d := New(Options{})
	d.problem("notify mail", "nobody is told by mail", "")
	d.problem("notify", "not all channels can be used", "")
	d.watchChannels(time.Now())
	if _, there := d.trouble["notify mail"]; there || len(d.trouble) != 1 {
		t.Errorf("problems: %v", d.trouble)
	}
}

// TestTheWeekOnAFullDisk: a report of which it cannot be written down that it was sent is
// not sent every ten minutes.
func TestTheWeekOnAFullDisk(t *testing.T) {
	d, log, _, done := dry(t, "")
	told := box(d)
	outbox := filepath.Join(d.opts.StateDir, "outbox")
	full := filepath.Join(outbox, "weekly.new", "in the way")
	if err := os.MkdirAll(full, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outbox, "weekly"), []byte("2001-W01"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := d.sendWeekly(t.Context(), config.English, now); err == nil || told() != 0 {
		t.Errorf("told of %d, error %v", told(), err)
	}
	if err := os.RemoveAll(filepath.Dir(full)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.sendWeekly(t.Context(), config.English, now); err != nil || told() != 1 {
			t.Errorf("told of %d, error %v", told(), err)
		}
	}
	log.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestTheWeekGoneBy: the reports leave out no day, and tell of none twice, whenever they are made.
func TestTheWeekGoneBy(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, now, want string }{
		{"on Monday", "2026-11-30 08:00", "2026-11-30"},
		{"not yet", "2026-11-30 07:59", "2026-11-23"},
		{"late", "2026-12-06 23:59", "2026-11-30"},
		{"after the clock was set back", "2026-10-26 08:05", "2026-10-26"},
		{"after it was set forward", "2026-03-30 08:05", "2026-03-30"},
		{"over New Year", "2027-01-03 12:00", "2026-12-28"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now, err := time.ParseInLocation("2006-01-02 15:04", tt.now, berlin)
			if err != nil {
				t.Fatal(err)
			}
			monday := mondayOf(now)
			if got := monday.Format("2006-01-02 15:04"); got != tt.want+" 00:00" {
				t.Errorf("Monday is %s, want %s", got, tt.want)
			}
			year, week := monday.ISOWeek()
			if got := weekOf(now); got != fmt.Sprintf("%d-W%02d", year, week) {
				t.Errorf("%s is not the week of %v", got, monday)
			}
		})
	}
}

// TestALogThatIsAway: people are told, for nobody is banned meanwhile; not when it is rotated.
func TestALogThatIsAway(t *testing.T) {
	f := follow(t, dryFiles+"log: {source: files, files: [DIR/a]}\n")
	f.start(t)
	told := func(at time.Time) bool {
		for key := range f.Daemon.problems(at) {
			if strings.HasPrefix(key, "absent ") {
				return true
			}
		}
		return false
	}
	begun := time.Now()
	if told(begun) {
		t.Error("told of a log that is there")
	}
	if err := os.Remove(filepath.Join(f.dir, "a")); err != nil {
		t.Fatal(err)
	}
	if told(begun) || told(begun.Add(absentAfter-time.Second)) || !told(begun.Add(absentAfter)) {
		t.Error("not told, or too soon")
	}
	if err := os.WriteFile(filepath.Join(f.dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if told(begun.Add(absentAfter)) || len(f.teller.absent) != 0 {
		t.Error("told of a log that is there")
	}
}

// TestATrialOfSSHDIsTold: its command writes what is under way, and how it ended.
func TestATrialOfSSHDIsTold(t *testing.T) {
	dir := t.TempDir()
	write := func(state map[string]any) {
		t.Helper()
		raw, err := durable.Seal("state", 1, state)
		if err == nil {
			err = durable.Replace(filepath.Join(dir, "sshd.json"), raw, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	box := &letters{}
	d := New(Options{StateDir: dir})
	d.teller.courier.Store(courier.New(courier.Options{Channels: []courier.Channel{{
		Name: "test", Sender: box, Events: notify.Kinds(), PerHour: 1000,
	}}, Write: func(events []notify.Event, _ int, _ config.Language, id string) notify.Message {
		return notify.Message{ID: id, Events: events}
	}}))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.teller.courier.Load().Run(ctx) }()
	sshd := hardening.New(hardening.Options{StateDir: dir})
	var trial hardening.Pending
	began := time.Now().Round(0)
	for _, state := range []map[string]any{
		{},
		{"pending": map[string]any{"step": "open", "began": began, "until": began.Add(time.Minute), "by": "ann"}},
		{"pending": map[string]any{"step": "open", "began": began, "until": began.Add(time.Minute), "by": "ann"}},
		{"last": map[string]any{"stage": "confirmed", "by": "ann's login"}},
		{"pending": map[string]any{"step": "close", "began": began.Add(time.Second), "until": began.Add(time.Minute), "by": "ann"}},
		{"last": map[string]any{"stage": "reverted", "by": "its time was over"}},
		{"last": map[string]any{"stage": "reverted", "by": "its time was over"}},
	} {
		write(state)
		trial = d.watchSSHD(t.Context(), sshd, trial)
	}
	var states []notify.State
	for len(states) < 4 {
		select {
		case e := <-box.chanOf():
			states = append(states, e.State)
		case <-time.After(30 * time.Second):
			t.Fatalf("told of %v", states)
		}
	}
	stop()
	<-done
	if want := []notify.State{notify.Began, notify.Confirmed, notify.Began, notify.Reverted}; !slices.Equal(states, want) {
		t.Errorf("told of %v, want %v", states, want)
	}
}

// letters are a channel's other end.
type letters struct {
	once   sync.Once
	events chan notify.Event
}

func (k *letters) chanOf() chan notify.Event {
	k.once.Do(func() { k.events = make(chan notify.Event, 100) })
	return k.events
}

func (k *letters) Send(_ context.Context, m notify.Message) error {
	for _, e := range m.Events {
		k.chanOf() <- e
	}
	return nil
}
