package agent

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"sekisho/internal/gate/api"
	"sekisho/internal/sshsig"
)

// fakeHost keeps grants as a host does, without a firewall.
type fakeHost struct {
	mu     sync.Mutex
	held   map[string]Grant
	refuse map[string]error // by id: Let
	stuck  map[string]error // by id: End
	cuts   []netip.Prefix
	lets   int
	away   []netip.Addr
	in     []netip.Addr
	looks  int
	moved  chan struct{} // something happened
}

func newHost(held ...Grant) *fakeHost {
	h := &fakeHost{held: map[string]Grant{}, refuse: map[string]error{}, stuck: map[string]error{}, moved: make(chan struct{}, 1)}
	for _, g := range held {
		h.held[g.ID] = g
	}
	return h
}

func (h *fakeHost) tick() {
	select {
	case h.moved <- struct{}{}:
	default:
	}
}

func (h *fakeHost) Let(_ context.Context, grants []Grant) []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.tick()
	errs := make([]error, len(grants))
	for i, g := range grants {
		h.lets++
		if errs[i] = h.refuse[g.ID]; errs[i] == nil {
			h.held[g.ID] = g
		}
	}
	return errs
}

func (h *fakeHost) End(_ context.Context, grants []Grant) []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.tick()
	errs := make([]error, len(grants))
	for i, g := range grants {
		if errs[i] = h.stuck[g.ID]; errs[i] == nil {
			delete(h.held, g.ID)
		}
	}
	return errs
}

func (h *fakeHost) Held() []Grant {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.held))
}

func (h *fakeHost) Cut(_ context.Context, p netip.Prefix) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.tick()
	h.cuts = append(h.cuts, p)
	return nil
}

func (h *fakeHost) Seen(context.Context) (away, in []netip.Addr, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looks++
	return h.away, h.in, nil
}

// is waits until the host holds these ids.
func (h *fakeHost) is(t *testing.T, ids ...string) {
	t.Helper()
	slices.Sort(ids)
	until(t, fmt.Sprintf("the host holds %q", ids), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.Equal(slices.Sorted(maps.Keys(h.held)), ids)
	})
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	every := time.NewTicker(time.Millisecond)
	defer every.Stop()
	for deadline := time.Now().Add(20 * time.Second); !done(); <-every.C {
		if time.Now().After(deadline) {
			t.Fatalf("did not come: %s", what)
		}
	}
}

// fakeGate speaks the stream as a test tells it.
type fakeGate struct {
	*httptest.Server
	t      *testing.T
	serve  func(w http.ResponseWriter, r *http.Request) // a stream
	mu     sync.Mutex
	opens  int
	report []api.Report
	answer func(w http.ResponseWriter, r api.Report) bool // false: it has answered
}

func gate(t *testing.T, serve func(w http.ResponseWriter, r *http.Request)) *fakeGate {
	g := &fakeGate{t: t, serve: serve}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/hosts/stream", func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.opens++
		serve := g.serve
		g.mu.Unlock()
		if err := proves(r, g.URL, nil); err != nil {
			t.Errorf("the stream's request: %v", err)
		}
		serve(w, r)
	})
	mux.HandleFunc("POST /api/v1/hosts/report", func(w http.ResponseWriter, r *http.Request) {
		var rep api.Report
		body, err := io.ReadAll(r.Body)
		if err = errors.Join(err, json.Unmarshal(body, &rep)); err != nil || len(body) > 64<<10 {
			t.Errorf("a report of %d bytes: %v", len(body), err)
		}
		g.mu.Lock()
		answer := g.answer
		g.mu.Unlock()
		if answer != nil && !answer(w, rep) {
			return
		}
		g.mu.Lock()
		g.report = append(g.report, rep)
		g.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	})
	g.Server = httptest.NewServer(mux)
	t.Cleanup(g.Close)
	return g
}

// proves checks a request's signature as a gate does.
func proves(r *http.Request, origin string, body []byte) error {
	blob, err := base64.StdEncoding.DecodeString(r.Header.Get(api.HeaderSignature))
	if err != nil {
		return err
	}
	s, err := sshsig.Parse(blob)
	if err != nil {
		return err
	}
	return sshsig.Verify(s, api.HostNamespace, api.Signed{
		Method: r.Method, URL: origin + r.RequestURI, Time: r.Header.Get(api.HeaderTime), Nonce: r.Header.Get(api.HeaderNonce), Body: body,
	}.Text())
}

// known is what the gate has been told of each grant.
func (g *fakeGate) known() map[string]api.ReportedGrant {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := map[string]api.ReportedGrant{}
	for _, r := range g.report {
		if r.Whole {
			clear(all)
		}
		for _, one := range r.Grants {
			all[one.ID] = one
		}
	}
	return all
}

func (g *fakeGate) opened() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opens
}

func (g *fakeGate) tells(t *testing.T, want ...api.ReportedGrant) {
	t.Helper()
	m := map[string]api.ReportedGrant{}
	for _, r := range want {
		m[r.ID] = r
	}
	var diff string
	defer func() {
		if t.Failed() {
			t.Log(diff)
		}
	}()
	until(t, "the report", func() bool { diff = cmp.Diff(m, g.known()); return diff == "" })
}

func signer(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// follow runs an agent until the test ends.
func follow(t *testing.T, g *fakeGate, h Host, change ...func(*Options)) *Agent {
	t.Helper()
	o := Options{URL: g.URL, Name: "web-1", Version: "1", Signer: signer(t), Host: h, beat: 100 * time.Millisecond}
	for _, f := range change {
		f(&o)
	}
	a := New(o)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() { // before the server's, which waits for its connections
		stop()
		if err := <-done; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
	return a
}

// script is a stream of these lines, and then of those that are sent, with beats.
func script(lines <-chan string, first ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		say := func(s string) {
			_, _ = io.WriteString(w, s+"\n")
			_ = http.NewResponseController(w).Flush()
		}
		for _, l := range first {
			say(l)
		}
		beats := time.NewTicker(50 * time.Millisecond)
		defer beats.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case l, ok := <-lines:
				if !ok {
					return
				}
				say(l)
			case <-beats.C:
				say(beat(time.Now()))
			}
		}
	}
}

const (
	idA = "AAAAAAAAAAAAAAAA1"
	idB = "BBBBBBBBBBBBBBBB1"
	idC = "CCCCCCCCCCCCCCCC1"
)

func grantJSON(id, person, prefix string, millis int64) string {
	return fmt.Sprintf(`{"id":%q,"person":%q,"prefix":%q,"milliseconds":%d,"port":22}`, id, person, prefix, millis)
}

func snap(grants ...string) string {
	return `{"snapshot":{"host":"web-1","grants":[` + strings.Join(grants, ",") + `],"now":"0001-01-01T00:00:00Z","ticket":"T"}}`
}

func let(g string) string { return `{"let":` + g + `}` }
func beat(t time.Time) string {
	return fmt.Sprintf(`{"beat":%q}`, t.UTC().Format(time.RFC3339Nano))
}
func end(id string) string { return fmt.Sprintf(`{"end":%q}`, id) }

// TestAgent: a snapshot, what changes after it, and what is told of it.
func TestAgent(t *testing.T) {
	lines := make(chan string)
	kept := Grant{ID: idC, Person: "old", Prefix: netip.MustParsePrefix("192.0.2.3/32"), Until: time.Now().Add(time.Hour), Port: 22}
	h := newHost(kept)
	h.refuse[idB] = errors.New("203.0.113.0/24 is banned, which a grant does not change")
	g := gate(t, script(lines, snap(grantJSON(idA, "hanako", "192.0.2.1/32", 3_600_000), grantJSON(idB, "taro", "2001:db8::/64", 60_000))))
	began := time.Now()
	a := follow(t, g, h)
	h.is(t, idA) // what the gate does not name any more is gone
	g.tells(t, api.ReportedGrant{ID: idA, InForce: true}, api.ReportedGrant{ID: idB, Error: h.refuse[idB].Error()})
	until(t, "status", func() bool {
		s := a.Status()
		return s.Connected && s.InForce == 1 && s.Waiting == 1 && s.Why != "" && s.Reconnects == 0
	})

	h.mu.Lock()
	got := h.held[idA]
	delete(h.refuse, idB) // the ban is lifted
	h.mu.Unlock()
	if left := got.Until.Sub(began); left < time.Hour || left > time.Hour+time.Since(began) {
		t.Errorf("an hour from when it was read, and it is %v", left)
	}
	h.is(t, idA, idB)
	g.tells(t, api.ReportedGrant{ID: idA, InForce: true}, api.ReportedGrant{ID: idB, InForce: true})

	lines <- let(grantJSON(idC, "goro", "192.0.2.7/32", 60_000))
	lines <- end(idA)
	lines <- `{"cut":"192.0.2.1/32"}`
	lines <- end("ZZZZZZZZZZZZZZZZZ") // that nobody knows
	h.is(t, idB, idC)
	g.tells(t, api.ReportedGrant{ID: idA}, api.ReportedGrant{ID: idB, InForce: true}, api.ReportedGrant{ID: idC, InForce: true}, api.ReportedGrant{ID: "ZZZZZZZZZZZZZZZZZ"})
	h.mu.Lock()
	defer h.mu.Unlock()
	if diff := cmp.Diff([]netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}, h.cuts, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// TestAskedAnew: a gate forgets what it was told of a grant that somebody asks for once more,
// and is told again, also where nothing has changed.
func TestAskedAnew(t *testing.T) {
	for _, refused := range []error{nil, errors.New("port 22 is none of SSH's on this host")} {
		lines := make(chan string)
		h := newHost()
		want := api.ReportedGrant{ID: idA, InForce: refused == nil, Error: said(refused)}
		if refused != nil {
			h.refuse[idA] = refused
		}
		g := gate(t, script(lines, snap(grantJSON(idA, "hanako", "192.0.2.1/32", 60_000))))
		follow(t, g, h)
		g.tells(t, want)
		g.mu.Lock()
		g.report = nil
		g.mu.Unlock()
		lines <- let(grantJSON(idA, "hanako", "192.0.2.1/32", 120_000))
		g.tells(t, want)
	}
}

// TestStuck: what cannot be taken away is told as in force, and tried until it is gone.
func TestStuck(t *testing.T) {
	lines := make(chan string)
	h := newHost()
	h.stuck[idA] = errors.New("the kernel did not let go of it")
	g := gate(t, script(lines, snap(grantJSON(idA, "hanako", "192.0.2.1/32", 3_600_000))))
	follow(t, g, h)
	h.is(t, idA)
	lines <- end(idA)
	g.tells(t, api.ReportedGrant{ID: idA, InForce: true, Error: h.stuck[idA].Error()})
	h.mu.Lock()
	delete(h.stuck, idA)
	h.mu.Unlock()
	h.is(t)
	g.tells(t, api.ReportedGrant{ID: idA})
}

// TestNotTheGates: what a gate may not ask for is refused, each by itself, and what is good
// beside it is let in.
func TestNotTheGates(t *testing.T) {
	tests := []struct {
		name, grant, want string
	}{
		{"everybody", grantJSON(idA, "p", "0.0.0.0/0", 1000), "0.0.0.0/0 is neither one address nor an IPv6 /64"},
		{"a network", grantJSON(idA, "p", "192.0.2.0/31", 1000), "192.0.2.0/31 is neither one address nor an IPv6 /64"},
		{"a wide network of IPv6", grantJSON(idA, "p", "2001:db8::/63", 1000), "2001:db8::/63 is neither one address nor an IPv6 /64"},
		{"bits past its length", grantJSON(idA, "p", "2001:db8::1/64", 1000), "it names no network"},
		{"mapped", grantJSON(idA, "p", "::ffff:192.0.2.1/128", 1000), "it names no network"},
		{"unspecified", grantJSON(idA, "p", "0.0.0.0/32", 1000), "nobody comes from 0.0.0.0/32"},
		{"unspecified IPv6", grantJSON(idA, "p", "::/128", 1000), "nobody comes from ::/128"},
		{"all of the unspecified", grantJSON(idA, "p", "::/64", 1000), "nobody comes from ::/64"},
		{"loopback", grantJSON(idA, "p", "127.0.0.9/32", 1000), "nobody comes from 127.0.0.9/32"},
		{"multicast", grantJSON(idA, "p", "224.0.0.1/32", 1000), "nobody comes from 224.0.0.1/32"},
		{"multicast IPv6", grantJSON(idA, "p", "ff02::/64", 1000), "nobody comes from ff02::/64"},
		{"broadcast", grantJSON(idA, "p", "255.255.255.255/32", 1000), "nobody comes from 255.255.255.255/32"},
		{"no time", grantJSON(idA, "p", "192.0.2.1/32", 0), "its time was over when it came"},
		{"time before", grantJSON(idA, "p", "192.0.2.1/32", -5), "its time was over when it came"},
		{"for ever", grantJSON(idA, "p", "192.0.2.1/32", 30*24*3_600_000+1), "it is longer than 30 days"},
		{"more than there is", grantJSON(idA, "p", "192.0.2.1/32", 1<<62), "it is longer than 30 days"},
		{"nobody's", grantJSON(idA, "", "192.0.2.1/32", 1000), "it is nobody's"},
		{"no port", strings.Replace(grantJSON(idA, "p", "192.0.2.1/32", 1000), `"port":22`, `"port":0`, 1), "it names no port"},
	}
	for _, tt := range tests {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, in a snapshot: %v", tt.name, first), func(t *testing.T) {
				t.Parallel()
				h := newHost()
				lines := make(chan string, 2)
				good := grantJSON(idB, "hanako", "192.0.2.9/32", 60_000)
				begin := snap(tt.grant, good)
				if !first {
					begin = snap()
					lines <- let(tt.grant)
					lines <- let(good)
				}
				g := gate(t, script(lines, begin))
				a := follow(t, g, h)
				g.tells(t, api.ReportedGrant{ID: idA, Error: tt.want}, api.ReportedGrant{ID: idB, InForce: true})
				h.is(t, idB)
				if s := a.Status(); !s.Connected {
					t.Errorf("it has hung up: %s", s.Error)
				}
			})
		}
	}
}

// TestOneIDTwoPeople: an id that was one's does not become another's.
func TestOneIDTwoPeople(t *testing.T) {
	lines := make(chan string)
	h := newHost()
	g := gate(t, script(lines, snap(grantJSON(idA, "hanako", "192.0.2.1/32", 60_000))))
	follow(t, g, h)
	h.is(t, idA)
	lines <- let(grantJSON(idA, "hanako", "198.51.100.1/32", 60_000))
	h.is(t)
	g.tells(t, api.ReportedGrant{ID: idA, Error: "the gate has made it another's: an id is one person's and one address'"})
}

// TestHostile: what is no stream is hung up on, and tried again; nothing that was let in is
// let go for it, and nothing is let in by it.
func TestHostile(t *testing.T) {
	good := grantJSON(idA, "hanako", "192.0.2.1/32", 3_600_000)
	long := strings.Repeat("a", 1<<20)
	many := make([]string, MaxGrants+1)
	for i := range many {
		many[i] = `{"id":"I","milliseconds":1}`
	}
	raw := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	lines := func(l ...string) func(http.ResponseWriter, *http.Request) {
		return raw(strings.Join(l, "\n") + "\n")
	}
	tests := []struct {
		name  string
		serve func(http.ResponseWriter, *http.Request)
		want  string // in the status' error
	}{
		{"nothing", raw(""), "has ended the stream"},
		{"garbage", lines("\x00\xff\xfe garbage"), "not UTF-8"},
		{"no JSON", lines("hello"), "a line of the stream"},
		{"a page", lines("<!DOCTYPE html>"), "a line of the stream"},
		{"an empty line", lines(""), "a line of the stream"},
		{"nothing said", lines("{}"), "it says 0 things"},
		{"null", lines("null"), "it says 0 things"},
		{"two things", lines(`{"end":"` + idA + `","beat":"2026-01-01T00:00:00Z"}`), "it says 2 things"},
		{"a name nobody knows", lines(`{"open":"0.0.0.0/0"}`), "unknown field"},
		{"two values", lines(`{"beat":"2026-01-01T00:00:00Z"} {}`), "more behind its end"},
		{"no snapshot first", lines(let(good)), "does not begin with a snapshot"},
		{"a beat first", lines(`{"beat":"2026-01-01T00:00:00Z"}`), "does not begin with a snapshot"},
		{"another's", lines(strings.Replace(snap(good), "web-1", "db-1", 1)), `takes this host for "db-1"`},
		{"no ticket", lines(strings.Replace(snap(good), `"T"`, `""`, 1)), "its ticket is none"},
		{"a wrong type", lines(`{"snapshot":{"host":1}}`), "a line of the stream"},
		{"grants that are none", lines(`{"snapshot":{"host":"web-1","grants":{"a":1},"ticket":"T"}}`), "no list"},
		{"one grant twice", lines(snap(good, good)), "there twice"},
		{"too many grants", lines(snap(many...)), "more than 10000 grants"},
		{"a bad id", lines(snap(strings.Replace(good, idA, "../../etc/passwd0", 1))), "letters and digits"},
		{"a short id", lines(snap(strings.Replace(good, idA, "A", 1))), "letters and digits"},
		{"a prefix that is none", lines(snap(strings.Replace(good, "192.0.2.1/32", "192.0.2.1/33", 1))), "a line of the stream"},
		{"a time that is none", lines(`{"beat":"yesterday"}`), "a line of the stream"},
		{"more than a number", lines(snap(strings.Replace(good, "3600000", "1e400", 1))), "a line of the stream"},
		{"half a line", raw(snap(good)), "unexpected EOF"},
		{"a line too long", raw(`{"end":"` + long), "longer than 1048576 bytes"},
		{"a line without end", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, long); err != nil {
					return
				}
			}
		}, "longer than 1048576 bytes"},
		{"silence", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "said nothing for too long"},
		{"a trickle", func(w http.ResponseWriter, r *http.Request) {
			every := time.NewTicker(20 * time.Millisecond)
			defer every.Stop()
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				<-every.C
			}
		}, "said nothing for too long"},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/evil", http.StatusTemporaryRedirect)
		}, "answers 307"},
		{"not for you", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"code":"unknown_key","message":"no host has this key\u001b[2J","hint":"enrol it"}`)
		}, `the gate says: no host has this key\x1b[2J`},
		{"a reset", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			}
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			kept := Grant{ID: idC, Person: "old", Prefix: netip.MustParsePrefix("192.0.2.3/32"), Until: time.Now().Add(time.Hour), Port: 22}
			h := newHost(kept)
			g := gate(t, tt.serve)
			a := follow(t, g, h)
			until(t, "the error", func() bool { s := a.Status(); return s.Error != "" && strings.Contains(s.Error, tt.want) })
			until(t, "another try", func() bool { return g.opened() >= 2 || tt.name == "not for you" })
			if a.Status().Connected {
				t.Error("it is connected")
			}
			until(t, "what was kept is in force", func() bool { return a.Status().InForce == 1 })
			h.is(t, idC)
			// And a gate that has become well again is followed.
			if tt.name == "not for you" {
				return // which waits for half a minute
			}
			g.mu.Lock()
			g.serve = script(nil, snap(good))
			g.mu.Unlock()
			h.is(t, idA)
		})
	}
}

// TestFlood: whatever comes, and however fast, takes bounded memory, and the gate waits.
func TestFlood(t *testing.T) {
	h := newHost()
	sent := 0
	over := make(chan struct{})
	g := gate(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(over)
		_, _ = io.WriteString(w, snap()+"\n")
		for sent = 0; sent < 3*MaxGrants && r.Context().Err() == nil; sent++ {
			id := fmt.Sprintf("F%016d", sent)
			_, _ = io.WriteString(w, let(grantJSON(id, strings.Repeat("人", 500), fmt.Sprintf("10.%d.%d.%d/32", sent>>16, sent>>8&255, sent&255), 60_000))+"\n"+end("E"+id)+"\n")
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	began := time.Now()
	a := follow(t, g, h, func(o *Options) { o.beat = 10 * time.Second })
	until(t, "a good part of it", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.lets >= 2*maxRate })
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("%d changes in %v: the bound is %d a second", 4*maxRate, took, maxRate)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 64<<20 {
		t.Errorf("%d MB", m.HeapAlloc>>20)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.changed) > 2*MaxGrants+maxBatch {
		t.Errorf("%d reports wait", len(a.changed))
	}
}

// TestKeepBounds: a gate cannot have more grants kept than the bound, nor more be told.
func TestKeepBounds(t *testing.T) {
	h := newHost()
	a := New(Options{Host: h, beat: time.Second})
	k := &keeper{a, map[string]*want{}}
	for i := range 3 * MaxGrants {
		g := api.HostGrant{ID: fmt.Sprintf("F%016d", i), Person: "p", Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32), Millis: 60_000, Port: 22}
		id := fmt.Sprintf("E%016d", i)
		k.do(t.Context(), []event{{change: change{Let: &g}, clock: clock{written: time.Now()}}, {change: change{End: &id}}})
	}
	if len(k.wants) != MaxGrants || len(h.held) != MaxGrants || len(a.said) != MaxGrants {
		t.Errorf("%d kept, %d held, %d to be told; %d is the most", len(k.wants), len(h.held), len(a.said), MaxGrants)
	}
	if len(a.changed) > 2*MaxGrants {
		t.Errorf("%d reports wait", len(a.changed))
	}
}

// TestReportTooLarge: a report that does not fit into one is told in several, none of which
// says that it is all.
func TestReportTooLarge(t *testing.T) {
	h := newHost()
	var grants []string
	want := []api.ReportedGrant{}
	for i := range 1000 {
		id := fmt.Sprintf("F%016d", i)
		h.refuse[id] = errors.New(strings.Repeat("x", 250))
		want = append(want, api.ReportedGrant{ID: id, Error: h.refuse[id].Error()})
		grants = append(grants, grantJSON(id, "p", fmt.Sprintf("10.0.%d.%d/32", i/256, i%256), 60_000))
	}
	g := gate(t, script(nil, snap(grants...)))
	follow(t, g, h)
	g.tells(t, want...)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.report {
		if r.Whole && len(r.Grants) < len(want) {
			t.Errorf("a part of %d is told as all", len(r.Grants))
		}
	}
}

// TestReportAgain: a report that did not arrive is made again, and where the ticket is none
// any more, the stream is begun anew.
func TestReportAgain(t *testing.T) {
	tests := []struct {
		name   string
		status int
		code   api.Code
		opens  int
	}{
		{"busy", 503, api.Busy, 1},
		{"broken", 500, "", 1},
		{"ticket", 401, api.Expired, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost()
			g := gate(t, script(nil, snap(grantJSON(idA, "hanako", "192.0.2.1/32", 60_000))))
			tries := 0
			g.answer = func(w http.ResponseWriter, _ api.Report) bool {
				g.mu.Lock()
				defer g.mu.Unlock()
				if tries++; tries > 1 {
					return true
				}
				w.WriteHeader(tt.status)
				if tt.code != "" {
					_ = json.NewEncoder(w).Encode(api.Error{Code: tt.code, Message: "no"})
				}
				return false
			}
			a := follow(t, g, h)
			g.tells(t, api.ReportedGrant{ID: idA, InForce: true})
			if g.opened() != tt.opens {
				t.Errorf("%d streams, want %d", g.opened(), tt.opens)
			}
			if s := a.Status(); s.Reconnects != int64(tt.opens-1) {
				t.Errorf("%d reconnects", s.Reconnects)
			}
		})
	}
}

// TestEndsByItself: where the gate is gone a grant is forgotten at its time.
func TestEndsByItself(t *testing.T) {
	h := newHost()
	once := make(chan string)
	g := gate(t, script(once, snap(grantJSON(idA, "hanako", "192.0.2.1/32", 500))))
	a := follow(t, g, h)
	h.is(t, idA)
	g.mu.Lock()
	g.serve = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	g.mu.Unlock()
	close(once)
	until(t, "its end", func() bool { return a.Status().InForce == 0 })
}

func TestEnrol(t *testing.T) {
	tests := []struct {
		name, token, answer string
		status              int
		want, wantErr       string
	}{
		{name: "good", token: "GOODTOKEN", status: 200, answer: `{"name":"web-1","key":"SHA256:x","later":"a field of tomorrow"}`, want: "web-1"},
		{name: "used", token: "USED", status: 410, answer: `{"code":"expired","message":"this token has ended","hint":"get a new one"}`, wantErr: "the gate says: this token has ended"},
		{name: "no token", token: "", wantErr: "this is no token of a gate"},
		{name: "more than a token", token: "a\nb", wantErr: "this is no token of a gate"},
		{name: "no gate", token: "T", status: 200, answer: `<html>`, wantErr: "the gate's answer cannot be read"},
		{name: "a name that is none", token: "T", status: 200, answer: `{"name":"a\u001bb"}`, wantErr: "the gate's answer cannot be read"},
		{name: "a proxy", token: "T", status: 502, answer: `<html>`, wantErr: "what is at gate.url answers 502, and not as a gate does"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var origin string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if err := proves(r, origin, body); err != nil || r.URL.Path != "/api/v1/hosts/enrol" {
					t.Errorf("%s: %v", r.URL, err)
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.answer)
			}))
			defer s.Close()
			origin = s.URL
			got, err := Enrol(t.Context(), Options{URL: s.URL, Signer: signer(t), Version: "1"}, tt.token)
			if tt.wantErr != "" {
				if err == nil || err.Error() != tt.wantErr {
					t.Fatalf("%v, want %s", err, tt.wantErr)
				}
				return
			}
			if err != nil || got.Name != tt.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestLoadKey(t *testing.T) {
	dir := t.TempDir()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	pem := "-----BEGIN " + block.Type + "-----\n" + base64.StdEncoding.EncodeToString(block.Bytes) + "\n-----END " + block.Type + "-----\n"
	good, broken, none := filepath.Join(dir, "good"), filepath.Join(dir, "broken"), filepath.Join(dir, "none")
	for path, text := range map[string]string{good: pem, broken: "no key"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name    string
		paths   []string
		want    string
		wantErr bool
	}{
		{"the first that is there", []string{none, good}, good, false},
		{"the first that is good", []string{broken, good}, good, false},
		{"none", []string{none}, "", true},
		{"none is good", []string{broken, none}, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path, s, err := LoadKey(tt.paths...)
			if path != tt.want || (err != nil) != tt.wantErr || err == nil && s == nil {
				t.Errorf("%q, %v", path, err)
			}
			if err != nil && hintOf(err) == "" {
				t.Errorf("%v says not what to do", err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		snap(), snap(grantJSON(idA, "p", "192.0.2.1/32", 1)), let(grantJSON(idA, "p", "2001:db8::/64", 1)), end(idA), `{"cut":"192.0.2.1/32"}`,
		`{"beat":"2026-01-01T00:00:00Z"}`, `{"snapshot":{"grants":[[]]}}`, `{"snapshot":null}`, "{", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := parse(line)
		if err != nil {
			return
		}
		var all []api.HostGrant
		switch {
		case c.Let != nil:
			all = append(all, *c.Let)
		case c.Snapshot != nil:
			all = c.Snapshot.Grants
		case c.Cut != nil:
			if !c.Cut.IsSingleIP() && c.Cut.Bits() != 64 {
				t.Errorf("%s is cut", c.Cut)
			}
		}
		now := time.Now()
		for _, h := range all {
			if checkID(h.ID) != nil {
				t.Errorf("the id %q came through", h.ID)
			}
			g, err := grantOf(h, now)
			if err != nil {
				continue
			}
			a := g.Prefix.Addr()
			if !g.Prefix.IsSingleIP() && (a.Is4() || g.Prefix.Bits() != 64) || a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.Is4In6() || g.Prefix != g.Prefix.Masked() {
				t.Errorf("%s is let in", g.Prefix)
			}
			if left := g.Until.Sub(now); left <= 0 || left > MaxLength {
				t.Errorf("for %v", left)
			}
			if strings.ContainsAny(g.Person+g.Reason, "\x00\x1b\n\r") {
				t.Errorf("%q, %q", g.Person, g.Reason)
			}
		}
	})
}
