package gate

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
)

// withoutLedger is a process of a gate that keeps nothing, in front of groups.
func withoutLedger(t *testing.T, groups *fakeGroups) (*Gate, *bytes.Buffer) {
	t.Helper()
	cfg := parse(t, doors)
	log := &bytes.Buffer{}
	return New(Options{Config: func() *config.Config { return cfg }, Groups: groups.of, Logger: slog.New(slog.NewJSONHandler(log, nil))}), log
}

// signing is who with a request that was signed so long ago.
func signing(who Who, nonce string, ago time.Duration) Who {
	who.Nonce, who.Signed = nonce, time.Now().Add(-ago).Truncate(time.Second)
	return who
}

var own = api.OpenRequest{Address: netip.MustParseAddr("203.0.113.7"), Seconds: 3600}

func code(err error) api.Code {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e.Code
	}
	return ""
}

// TestStatelessReplay: the same signed request at another process, which has never seen it,
// is the same lease with the same end, however late it comes.
func TestStatelessReplay(t *testing.T) {
	tests := []struct {
		name         string
		ago          time.Duration // that the first was signed, when it came
		later        time.Duration // that the second came
		lease        string        // that both name
		first, again time.Duration // what is left of it from when the first came
	}{
		{"at once", 0, 0, "", time.Hour, time.Hour},
		{"a minute later", 0, time.Minute, "", time.Hour, time.Hour},
		{"a named lease", 0, time.Minute, "abcdefghijklmnop", time.Hour, time.Hour},
		{"a slow clock", 90 * time.Second, 29 * time.Second, "", time.Hour - 90*time.Second, time.Hour - 90*time.Second},
		{"a fast clock", -90 * time.Second, 100 * time.Second, "", time.Hour, time.Hour},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				groups, began := newFakeGroups(), time.Now()
				one, _ := withoutLedger(t, groups)
				two, _ := withoutLedger(t, groups)
				who, q := signing(hanako, "nonce-1", test.ago), own
				q.Lease = test.lease
				first, err := one.Open(t.Context(), who, "web", q)
				if err != nil {
					t.Fatal(err)
				}
				if got := first.Until.Sub(began); got != test.first {
					t.Errorf("it lasts %v, want %v", got, test.first)
				}
				if err := pause(t.Context(), test.later); err != nil {
					t.Fatal(err)
				}
				again, err := two.Open(t.Context(), who, "web", q)
				if err != nil {
					t.Fatal(err)
				}
				if again.ID != first.ID || again.Until.Sub(began) != test.again {
					t.Errorf("sent again it is %s and lasts %v, was %s, %v", again.ID, again.Until.Sub(began), first.ID, test.again)
				}
				if diff := cmp.Diff([]string{"hanako sg-0123456789abcdef0 203.0.113.7/32"}, groups.lets()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				if l, _ := groups.lease(first.ID); l.Until.Sub(began) != test.again {
					t.Errorf("the tag says %v", l.Until.Sub(began))
				}
			})
		})
	}
}

// TestStatelessReplayAfterClose: who sends a closed request once more gets what was signed,
// for the address that was signed, and not a second longer; a close that is sent once more
// closes nothing that was opened since.
func TestStatelessReplayAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups, began := newFakeGroups(), time.Now()
		g, _ := withoutLedger(t, groups)
		who := signing(hanako, "nonce-1", 0)
		first, err := g.Open(t.Context(), who, "web", own)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Close(t.Context(), signing(hanako, "nonce-2", 0), first.ID); err != nil || len(groups.lets()) != 0 {
			t.Fatalf("%v %v", err, groups.lets())
		}
		if err := pause(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		replayed := who
		replayed.From = netip.MustParseAddr("198.51.100.66") // from wherever it comes
		again, err := g.Open(t.Context(), replayed, "web", own)
		if err != nil || again.Until.Sub(began) != time.Hour || again.Prefix.String() != "203.0.113.7/32" {
			t.Errorf("sent again: %v %+v", err, again)
		}
		if _, err := g.Close(t.Context(), signing(hanako, "nonce-3", 0), again.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Open(t.Context(), signing(hanako, "nonce-4", 0), "web", own); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Close(t.Context(), signing(hanako, "nonce-3", 0), again.ID); code(err) != api.NotFound || len(groups.lets()) != 1 {
			t.Errorf("a close that is sent again: %v, in: %v", err, groups.lets())
		}
	})
}

// TestStatelessSigned: what is not fit to be sent again, and what is too late.
func TestStatelessSigned(t *testing.T) {
	anywhere, short := own, own
	anywhere.Address, short.Seconds = netip.Addr{}, 60
	tests := []struct {
		name string
		who  func() Who
		q    api.OpenRequest
		want api.Code // "": it is opened
	}{
		{"without an address", func() Who { return signing(hanako, "n", 0) }, anywhere, api.BadRequest},
		{"without an address, and not signed", func() Who { return hanako }, anywhere, ""},
		{"over when it comes", func() Who { return signing(hanako, "n", time.Minute) }, short, api.Clock},
		{"nearly over", func() Who { return signing(hanako, "n", 59*time.Second) }, short, ""},
		{"somebody else's door", func() Who { return signing(otto, "n", 0) }, own, api.NotAllowed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				groups := newFakeGroups()
				g, _ := withoutLedger(t, groups)
				_, err := g.Open(t.Context(), test.who(), "web", test.q)
				if code(err) != test.want || test.want == "" && err != nil {
					t.Errorf("got %v, want %q", err, test.want)
				}
				if opened := len(groups.lets()) == 1; opened != (test.want == "") {
					t.Errorf("let in: %v", groups.lets())
				}
			})
		})
	}
}

// TestStatelessExtendReason: what was opened for a reason is made longer for it, though the
// tags do not say which.
func TestStatelessExtendReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := parse(t, strings.Replace(doors, "at_most: 8h}", "at_most: 8h, reason: yes}", 1))
		groups, began := newFakeGroups(), time.Now()
		g := New(Options{Config: func() *config.Config { return cfg }, Groups: groups.of})
		if _, err := g.Open(t.Context(), signing(hanako, "n", 0), "web", own); code(err) != api.NotAllowed {
			t.Errorf("without a reason: %v", err)
		}
		q := own
		q.Reason = "the disk is full"
		first, err := g.Open(t.Context(), signing(hanako, "m", 0), "web", q)
		if err != nil {
			t.Fatal(err)
		}
		longer, err := g.Extend(t.Context(), signing(hanako, "o", 0), first.ID, api.ExtendRequest{Seconds: 7200})
		if err != nil || longer.Until.Sub(began) != 2*time.Hour {
			t.Errorf("%v, until %v", err, longer.Until.Sub(began))
		}
	})
}

// TestStatelessExtend: a request to make it longer that is sent again makes it no longer.
func TestStatelessExtend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups, began := newFakeGroups(), time.Now()
		g, _ := withoutLedger(t, groups)
		first, err := g.Open(t.Context(), signing(hanako, "n", 0), "web", own)
		if err != nil {
			t.Fatal(err)
		}
		who := signing(hanako, "m", 0)
		for range 3 {
			longer, err := g.Extend(t.Context(), who, first.ID, api.ExtendRequest{Seconds: 7200})
			if err != nil || longer.Until.Sub(began) != 2*time.Hour {
				t.Errorf("%v, until %v", err, longer.Until.Sub(began))
			}
			if err := pause(t.Context(), 30*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.Extend(t.Context(), signing(taro, "n", 0), first.ID, api.ExtendRequest{}); code(err) != api.NotFound {
			t.Errorf("somebody else's: %v", err)
		}
		if l, _ := groups.lease(first.ID); l.Until.Sub(began) != 2*time.Hour {
			t.Errorf("the tag says %v", l.Until.Sub(began))
		}
	})
}

// TestStatelessMany: one person cannot fill a rule, which others may need too, and is let
// in for as long as they asked all the same.
func TestStatelessMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups := newFakeGroups()
		g, _ := withoutLedger(t, groups)
		for i := range 3 * maxSame {
			q := own
			q.Seconds = int64(60 * (i + 1))
			got, err := g.Open(t.Context(), signing(hanako, strings.Repeat("n", i+1), 0), "web", q)
			if err != nil || time.Until(got.Until) != time.Duration(q.Seconds)*time.Second {
				t.Fatalf("%d: %v, %v", i, err, time.Until(got.Until))
			}
		}
		if n := len(groups.lets()); n != maxSame {
			t.Errorf("%d leases", n)
		}
		q := own
		if _, err := g.Open(t.Context(), signing(taro, "n", 0), "web", q); err != nil {
			t.Errorf("somebody else: %v", err)
		}
	})
}

// TestStatelessDoors: what cannot be opened here is not said to be, and is not.
func TestStatelessDoors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups := newFakeGroups()
		g, log := withoutLedger(t, groups)
		tests := []struct {
			who    Who
			target string
			q      api.OpenRequest
			want   bool
			code   api.Code
		}{
			{hanako, "web", own, true, ""},
			{taro, "db", api.OpenRequest{Address: own.Address, Reason: "the disk is full"}, false, api.Forbidden},
			{hanako, "box", own, false, api.Forbidden},
			{hanako, "db", api.OpenRequest{Address: own.Address, Reason: "the disk is full", Break: true}, true, ""},
		}
		for _, test := range tests {
			door, err := g.Door(t.Context(), test.who, test.target)
			if err != nil || door.Allowed != test.want || !test.want && (door.AtMost != 0 || door.Hint == "" || len(door.Reasons) == 0) {
				t.Errorf("%s sees %s: %v %+v", test.who.Person, test.target, err, door)
			}
			_, err = g.Open(t.Context(), signing(test.who, test.target, 0), test.target, test.q)
			if code(err) != test.code || test.code == "" && err != nil {
				t.Errorf("%s opens %s: %v", test.who.Person, test.target, err)
			}
			if e, ok := errors.AsType[*api.Error](err); ok && (e.Hint == "" || !strings.Contains(e.Message, "keeps no state")) {
				t.Errorf("%s: %+v", test.target, e)
			}
		}
		for _, want := range []string{`"level":"WARN","msg":"audit","audit":{"at":`, `"what":"open.break_glass"`, `"what":"opened"`, `"what":"open.refused"`, `"ok":true}`} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %s:\n%s", want, log)
			}
		}
		if n := strings.Count(log.String(), `"level":"WARN"`); n != 1 {
			t.Errorf("%d warnings:\n%s", n, log)
		}
	})
}

// TestStatelessAWSFails: the lease that was on its way is told of as such, and asking again
// is asking once.
func TestStatelessAWSFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups := newFakeGroups()
		g, _ := withoutLedger(t, groups)
		groups.takes = time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		q := own
		q.Lease = "abcdefghijklmnop"
		if _, err := g.Open(ctx, signing(hanako, "n", 0), "web", q); code(err) != api.Unreachable {
			t.Errorf("got %v", err)
		}
		groups.takes = 0
		for _, nonce := range []string{"o", "p"} {
			if _, err := g.Open(t.Context(), signing(hanako, nonce, 0), "web", q); err != nil || len(groups.lets()) != 1 {
				t.Errorf("%v %v", err, groups.lets())
			}
		}
	})
}
