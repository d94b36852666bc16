package trial

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sekisho/internal/firewall"
	"sekisho/internal/prefixset"
)

var errTest = errors.New("the test says no")

// near says whether a trial took as long as it should.
func near(t testing.TB, got, want time.Duration) {
	t.Helper()
	if got < want || got > want+100*time.Millisecond {
		t.Errorf("it took %v, want %v", got, want)
	}
}

func TestNobodyConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		r := h.try(t.Context(), nil)
		if e, ok := h.trials.Current(); !ok || e.Stage != Armed || e.Generation != 2 || !e.Until.Equal(r.began.Add(minute)) {
			t.Errorf("current is %+v, %t", e, ok)
		}
		if _, staged, armed := h.fake.InForce(); staged == nil || staged.Generation != 2 || armed != minute {
			t.Errorf("on trial is %v for %v", staged, armed)
		}
		last := r.end(Reverted)
		near(t, r.took, minute)
		stages, _ := r.stages()
		equal(t, "stages", stages, []Stage{Loading, Armed, Reverted})
		if r.err != nil || !strings.Contains(last.By, "nobody confirmed it within 1m") {
			t.Errorf("error %v, by %q", r.err, last.By)
		}
		if len(h.swapped) > 0 {
			t.Errorf("swapped %v", h.swapped)
		}

		// Numbers grow, also over a new process.
		if last := h.try(t.Context(), nil).end(Reverted); last.Generation != 3 {
			t.Errorf("the second one is generation %d", last.Generation)
		}
		h.start(h.fake.Another())
		if last := h.try(t.Context(), nil).end(Reverted); last.Generation != 4 {
			t.Errorf("the third one is generation %d", last.Generation)
		}
	})
}

func TestLogin(t *testing.T) {
	type act func(h *host)
	wait := func(d time.Duration) act { return func(*host) { after(d) } }
	login := func(peer netip.AddrPort) act { return func(h *host) { h.login(peer) } }
	closes := func(peer netip.AddrPort) act { return func(h *host) { h.close(peer) } }
	mapped := netip.AddrPortFrom(netip.AddrFrom16(hanako.Addr().As16()), hanako.Port())
	for _, tt := range []struct {
		name     string
		sessions []netip.AddrPort
		acts     []act
		want     Stage
		took     time.Duration // of a confirmed one
	}{
		{"one that lasts", nil, []act{wait(10 * time.Second), login(hanako)}, Confirmed, 15 * time.Second},
		{"by IPv6", nil, []act{login(taro)}, Confirmed, 5 * time.Second},
		{"written as IPv6", nil, []act{login(mapped)}, Confirmed, 5 * time.Second},
		{"told late by the log", nil, []act{func(h *host) {
			h.fake.See(hanako)
			at := time.Now()
			after(3 * time.Second)
			h.trials.Login(t.Context(), "hanako", hanako, at)
		}}, Confirmed, 5 * time.Second},
		{"told very late by the log", nil, []act{func(h *host) {
			h.fake.See(hanako)
			at := time.Now()
			after(8 * time.Second)
			h.trials.Login(t.Context(), "hanako", hanako, at)
		}}, Confirmed, 8 * time.Second},
		{"a log in whole seconds", nil, []act{func(h *host) {
			h.fake.See(hanako)
			h.trials.Login(t.Context(), "hanako", hanako, time.Now().Truncate(time.Second))
		}}, Confirmed, 5 * time.Second},
		{"a log of the future", nil, []act{func(h *host) {
			h.fake.See(hanako)
			h.trials.Login(t.Context(), "hanako", hanako, time.Now().Add(time.Hour))
		}}, Confirmed, 5 * time.Second},
		{"five seconds before the end", nil, []act{wait(55 * time.Second), login(hanako)}, Confirmed, minute - spare},
		{"one second before the end", nil, []act{wait(59 * time.Second), login(hanako)}, Confirmed, minute - spare},
		{"in the last moment", nil, []act{wait(minute - 10*time.Millisecond), login(hanako)}, Confirmed, minute - 10*time.Millisecond},
		{"one is closed, the other lasts", nil, []act{login(hanako), login(taro), wait(time.Second), closes(hanako)}, Confirmed, 5 * time.Second},
		{"closed at once, then one that lasts", nil, []act{login(hanako), closes(hanako), wait(10 * time.Second), login(taro)}, Confirmed, 15 * time.Second},

		{"closed within 5 s", nil, []act{login(hanako), wait(4500 * time.Millisecond), closes(hanako)}, Reverted, 0},
		{"closed in the last moment", nil, []act{wait(59 * time.Second), login(hanako), closes(hanako)}, Reverted, 0},
		{"after the end", nil, []act{wait(minute), login(hanako)}, Reverted, 0},
		{"not through the rules on trial", nil, []act{func(h *host) { h.trials.Login(t.Context(), "hanako", hanako, time.Now()) }}, Reverted, 0},
		{"from loopback", nil, []act{login(netip.MustParseAddrPort("127.0.0.1:40000")), login(netip.MustParseAddrPort("[::1]:40000"))}, Reverted, 0},
		{"of no address", nil, []act{login(netip.AddrPort{})}, Reverted, 0},
		{"there before", []netip.AddrPort{mapped}, []act{login(hanako)}, Reverted, 0},
		{"older than the trial", nil, []act{func(h *host) {
			h.fake.See(hanako)
			h.trials.Login(t.Context(), "hanako", hanako, time.Now().Add(-2*time.Second))
		}}, Reverted, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				r := h.try(t.Context(), func(r *Request) { r.Sessions = tt.sessions })
				for _, a := range tt.acts {
					a(h)
				}
				last := r.end(tt.want)
				if r.err != nil {
					t.Errorf("error: %v", r.err)
				}
				if tt.want == Reverted {
					near(t, r.took, minute)
					return
				}
				near(t, r.took, tt.took)
				if !strings.HasPrefix(last.By, "the login of ") {
					t.Errorf("by %q", last.By)
				}
				s, err := Load(h.dir)
				if err != nil || s.By != last.By || !s.Confirmed.Equal(time.Now()) || len(h.swapped) != 1 || h.swapped[0].Generation != s.Generation {
					t.Errorf("snapshot %+v (%v), swapped %+v", s, err, h.swapped)
				}
			})
		})
	}
}

// A rule set that was forced upon the one who asks for it may shut just that one
// out: that somebody else can log in must not make it last.
func TestByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		byHand := func(r *Request) { r.ByHand = true }
		r := h.try(t.Context(), byHand)
		h.login(hanako)
		r.end(Reverted)
		near(t, r.took, minute)

		r = h.try(t.Context(), byHand)
		h.login(hanako)
		if err := h.trials.Confirm(t.Context(), hanako, false, "hanako"); err != nil {
			t.Error(err)
		}
		r.end(Confirmed)
	})
}

// TestLoginStages: people see that their login is watched, and why it was no proof.
func TestLoginStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		r := h.try(t.Context(), nil)
		h.login(hanako)
		h.login(taro)
		after(time.Millisecond)
		h.close(hanako)
		after(1500 * time.Millisecond)
		h.close(taro)
		after(time.Second)
		stages, last := r.stages()
		equal(t, "stages", stages, []Stage{Loading, Armed, Login, Login, Armed})
		if want := "the login of someone from 2001:db8::7 port 40001 proves nothing: it was closed too soon"; last.By != want {
			t.Errorf("told %q, want %q", last.By, want)
		}
		r.end(Reverted)
	})
}

// TestLoginAnswers: what cannot be asked for a while is asked again; without an
// answer nothing is proven.
func TestLoginAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		method string // that fails
		until  time.Duration
		want   Stage
	}{
		{"seen", "Seen", 20 * time.Second, Confirmed},
		{"seen, to the end", "Seen", minute, Reverted},
		{"confirm", "Confirm", 20 * time.Second, Confirmed},
		{"confirm, to the end", "Confirm", minute, Reverted},
		{"standing", "Standing", 20 * time.Second, Confirmed},
		{"alive", "", 20 * time.Second, Confirmed},
		{"alive, to the end", "", minute, Reverted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				var mute atomic.Bool
				alive := h.trials.alive
				h.trials.alive = func(ctx context.Context, peer netip.AddrPort) (bool, error) {
					if mute.Load() {
						return true, errTest
					}
					return alive(ctx, peer)
				}
				r := h.try(t.Context(), nil)
				if tt.method == "" {
					mute.Store(true)
				} else {
					h.fake.FailCall(tt.method, errTest)
				}
				h.login(hanako)
				after(tt.until)
				mute.Store(false)
				h.fake.FailCall(tt.method, nil)
				r.end(tt.want)
				if r.err != nil {
					t.Errorf("error: %v", r.err)
				}
			})
		})
	}
}

// TestManyLogins: more logins than are watched do not keep a later one from
// being proof.
func TestManyLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		r := h.try(t.Context(), nil)
		for i := range 3 * mostLogins {
			peer := netip.AddrPortFrom(hanako.Addr(), uint16(1000+i))
			h.close(peer)
			h.login(peer)
		}
		after(2 * time.Second)
		h.login(hanako)
		r.end(Confirmed)
		near(t, r.took, 7*time.Second)
	})
}

func TestConfirm(t *testing.T) {
	const session = "log in anew, in another terminal, and type it there: 50 seconds are left (or --force)"
	loopback := netip.MustParseAddrPort("127.0.0.1:40000")
	for _, tt := range []struct {
		name  string
		peer  netip.AddrPort
		see   bool
		force bool
		want  string // the error; "": confirmed
		hint  string
	}{
		{"through the rules on trial", hanako, true, false, "", ""},
		{"by IPv6", taro, true, false, "", ""},
		{"by force", netip.AddrPort{}, false, true, "", ""},
		{"there before, by force", loopback, false, true, "", ""},
		{"not through them", hanako, false, false, "this session did not come through the rules on trial, or did so more than five minutes ago: it does not prove that one can still log in", session},
		{"there before", netip.MustParseAddrPort("192.0.2.99:5"), true, false, "this session was there before the trial: it does not prove that one can still log in", session},
		{"a console", netip.AddrPort{}, true, false, "this is no SSH session: it does not prove that one can still log in", session},
		{"this machine", loopback, true, false, "this session comes from this machine itself: it does not prove that one can still log in", session},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				r := h.try(t.Context(), func(r *Request) { r.Sessions = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.99:5")} })
				if tt.see {
					h.fake.See(tt.peer)
				}
				after(10 * time.Second)
				err := h.trials.Confirm(t.Context(), tt.peer, tt.force, "sekisho confirm")
				if tt.want == "" {
					if err != nil {
						t.Errorf("confirm: %v", err)
					}
					last := r.end(Confirmed)
					near(t, r.took, 10*time.Second)
					if want := map[bool]string{true: "by force", false: "in the session from"}[tt.force]; !strings.Contains(last.By, want) {
						t.Errorf("by %q, want %q in it", last.By, want)
					}
					return
				}
				if err == nil || err.Error() != tt.want || hintOf(err) != tt.hint {
					t.Errorf("confirm: %v (%s), want %s (%s)", err, hintOf(err), tt.want, tt.hint)
				}
				r.end(Reverted)
				near(t, r.took, minute)
			})
		})
	}
}

func TestConfirmWithoutTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		if err := h.trials.Confirm(t.Context(), hanako, true, "x"); !errors.Is(err, ErrNone) || hintOf(err) == "" {
			t.Errorf("confirm: %v", err)
		}
		if err := h.trials.Revert(t.Context(), "x"); !errors.Is(err, ErrNone) || hintOf(err) == "" {
			t.Errorf("revert: %v", err)
		}
		h.holds(public, 1)
	})
}

// TestConfirmTooLate: the kernel's clock is the truth, whatever ours says.
func TestConfirmTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.trials.fw = &wrapped{Firewall: h.fake, confirm: func(ctx context.Context) error {
			<-time.After(2 * time.Millisecond)
			return h.fake.Confirm(ctx)
		}}
		r := h.try(t.Context(), nil)
		after(minute - time.Millisecond)
		err := h.trials.Confirm(t.Context(), hanako, true, "sekisho confirm")
		if !errors.Is(err, ErrOver) || hintOf(err) == "" {
			t.Errorf("confirm: %v", err)
		}
		if last := r.end(Reverted); r.err != nil || !strings.Contains(last.By, "a moment before") {
			t.Errorf("by %q, error %v", last.By, r.err)
		}
	})
}

// TestConfirmFailsAfterwards: the kernel confirmed, and its answer was lost.
func TestConfirmFailsAfterwards(t *testing.T) {
	for _, tt := range []struct {
		name string
		mute time.Duration // that the kernel does not say how it stands
	}{
		{"it says so at once", 0}, {"it says so later", 20 * time.Second}, {"it says so when all is over", minute + 5*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.trials.fw = &wrapped{Firewall: h.fake, confirm: func(ctx context.Context) error {
					if err := h.fake.Confirm(ctx); err != nil {
						return err
					}
					return errTest
				}}
				r := h.try(t.Context(), nil)
				if tt.mute > 0 {
					h.fake.FailCall("Standing", errTest)
					time.AfterFunc(tt.mute, func() { h.fake.FailCall("Standing", nil) })
				}
				err := h.trials.Confirm(t.Context(), hanako, true, "sekisho confirm")
				if (err == nil) != (tt.mute == 0) {
					t.Errorf("confirm: %v", err)
				}
				r.end(Confirmed)
				if r.err != nil {
					t.Errorf("error: %v", r.err)
				}
			})
		})
	}
}

// TestNoAnswer: the kernel confirmed and never says so to this trial. The next
// one, or a new process, finds out.
func TestNoAnswer(t *testing.T) {
	for _, again := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			h.trials.fw = &wrapped{Firewall: h.fake, confirm: func(ctx context.Context) error {
				return errors.Join(h.fake.Confirm(ctx), errTest)
			}}
			ctx, cancel := context.WithCancel(t.Context())
			r := h.try(ctx, nil)
			h.fake.FailCall("Standing", errTest)
			if err := h.trials.Confirm(t.Context(), hanako, true, "sekisho confirm"); err == nil {
				t.Error("confirm: no error")
			}
			if again {
				cancel()
			}
			<-r.done
			cancel()
			if !errors.Is(r.err, errTest) {
				t.Errorf("error: %v", r.err)
			}
			h.fake.FailCall("Standing", nil)
			if again {
				h.start(h.fake.Another())
				h.holds(fixed, 2)
				return
			}
			r = h.try(t.Context(), func(r *Request) { r.Rules = public; r.NoWait = true })
			<-r.done
			if len(h.swapped) != 2 || h.swapped[0].Generation != 2 || h.swapped[1].Generation != 3 {
				t.Errorf("swapped %+v, want generations 2 and 3", h.swapped)
			}
		})
	}
}

func TestNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		r := h.try(t.Context(), func(r *Request) { r.NoWait = true })
		last := r.end(Confirmed)
		near(t, r.took, 0)
		if r.err != nil || last.By != "a test, without waiting for proof" {
			t.Errorf("by %q, error %v", last.By, r.err)
		}
	})
}

func TestRevert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		r := h.try(t.Context(), nil)
		h.login(hanako)
		after(3 * time.Second)
		if err := h.trials.Revert(t.Context(), "sekisho revert\n"); err != nil {
			t.Error(err)
		}
		last := r.end(Reverted)
		near(t, r.took, 3*time.Second)
		if r.err != nil || last.By != `sekisho revert\n` {
			t.Errorf("by %q, error %v", last.By, r.err)
		}
	})
}

// TestRevertWhileLoading: nobody waits for 200,000 prefixes to stop a mistake.
func TestRevertWhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.trials.fw = &wrapped{Firewall: h.fake, stage: func(ctx context.Context, _ firewall.Ruleset) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		r := h.try(t.Context(), nil)
		if err := h.trials.Confirm(t.Context(), hanako, true, "x"); err == nil || hintOf(err) == "" {
			t.Errorf("confirm: %v", err)
		}
		if err := h.trials.Revert(t.Context(), "sekisho revert"); err != nil {
			t.Error(err)
		}
		r.end(Reverted)
		near(t, r.took, 0)
	})
}

// TestRevertTooLate: a revert that meets a confirmation says so.
func TestRevertTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.trials.fw = &wrapped{Firewall: h.fake, confirm: func(ctx context.Context) error {
			<-time.After(time.Second)
			return h.fake.Confirm(ctx)
		}}
		r := h.try(t.Context(), nil)
		go h.trials.Confirm(t.Context(), hanako, true, "sekisho confirm")
		after(time.Millisecond)
		if err := h.trials.Revert(t.Context(), "sekisho revert"); err == nil || !strings.Contains(err.Error(), "confirmed a moment before") {
			t.Errorf("revert: %v", err)
		}
		r.end(Confirmed)
	})
}

func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		ctx, cancel := context.WithCancel(t.Context())
		r := h.try(ctx, nil)
		after(7 * time.Second)
		cancel()
		last := r.end(Reverted)
		near(t, r.took, 7*time.Second)
		if !errors.Is(r.err, context.Canceled) || !strings.Contains(last.By, "went away") {
			t.Errorf("by %q, error %v", last.By, r.err)
		}
	})
}

// TestTakenAway: others end a trial in the kernel.
func TestTakenAway(t *testing.T) {
	for _, tt := range []struct {
		name string
		act  func(h *host) error
		by   string
	}{
		{"a flush", func(h *host) error { h.fake.Flush(1, "nft"); return nil }, "took the table away"},
		{"a repair", func(h *host) error {
			return h.fake.Ensure(t.Context(), stateOf(Snapshot{Generation: 1, Rules: public}))
		}, "the rules on trial are gone"},
		{"a flush and a repair", func(h *host) error {
			h.fake.Flush(1, "nft")
			return h.fake.Ensure(t.Context(), stateOf(Snapshot{Generation: 1, Rules: public}))
		}, "the rules on trial are gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				r := h.try(t.Context(), nil)
				after(10 * time.Second)
				if err := tt.act(h); err != nil {
					t.Fatal(err)
				}
				if err := h.trials.Confirm(t.Context(), hanako, true, "x"); err == nil {
					t.Error("it is confirmed")
				}
				if last := r.end(Reverted); r.err != nil || !strings.Contains(last.By, "a moment before") {
					t.Errorf("by %q, error %v", last.By, r.err)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				r := h.try(t.Context(), nil)
				after(9 * time.Second)
				if err := tt.act(h); err != nil {
					t.Fatal(err)
				}
				last := r.end(Reverted)
				if r.err != nil || !strings.Contains(last.By, tt.by) || r.took > 12*time.Second {
					t.Errorf("by %q after %v, error %v", last.By, r.took, r.err)
				}
			})
		})
	}
}

// TestFailures: whatever fails, the rules before are in force, and the next trial
// goes well.
func TestFailures(t *testing.T) {
	for _, method := range []string{"Stage", "Arm", "Standing"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.fake.FailCall(method, errTest)
				r := h.try(t.Context(), nil)
				<-r.done
				if !errors.Is(r.err, errTest) {
					t.Errorf("error: %v", r.err)
				}
				h.holds(public, 1)
				h.fake.FailCall(method, nil)
				h.try(t.Context(), func(r *Request) { r.NoWait = true }).end(Confirmed)
			})
		})
	}
	t.Run("Abort", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			r := h.try(t.Context(), nil)
			h.fake.FailCall("Abort", errTest)
			if err := h.trials.Revert(t.Context(), "sekisho revert"); !errors.Is(err, errTest) {
				t.Errorf("revert: %v", err)
			}
			<-r.done
			if _, last := r.stages(); last.Stage != Reverted || last.Warning == "" || !errors.Is(r.err, errTest) {
				t.Errorf("last %+v, error %v", last, r.err)
			}
			h.fake.FailCall("Abort", nil)
			h.try(t.Context(), func(r *Request) { r.NoWait = true }).end(Confirmed)
		})
	})
	t.Run("Confirm", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			h.fake.FailCall("Confirm", errTest)
			r := h.try(t.Context(), func(r *Request) { r.NoWait = true })
			r.end(Reverted)
			if !errors.Is(r.err, errTest) {
				t.Errorf("error: %v", r.err)
			}
		})
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		r := h.try(t.Context(), nil)
		for range 2 {
			if err := h.trials.Run(t.Context(), Request{Rules: fixed, Within: minute}, nil); !errors.Is(err, ErrBusy) || hintOf(err) == "" {
				t.Errorf("a second trial: %v", err)
			}
		}
		if _, err := h.trials.Recover(t.Context()); !errors.Is(err, ErrBusy) {
			t.Errorf("recover: %v", err)
		}
		if err := h.trials.Settle(t.Context()); err != nil {
			t.Errorf("settle: %v", err)
		}
		r.end(Reverted)
	})
}

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		japan := public
		japan.Countries.Allow = []string{"JP"}
		for _, tt := range []struct {
			name string
			r    Request
		}{
			{"too short", Request{Rules: fixed, Within: MinWithin - 1}},
			{"too long", Request{Rules: fixed, Within: MaxWithin + 1}},
			{"countries without addresses", Request{Rules: japan, Countries: prefixset.Set{}, Within: minute}},
		} {
			h := newHost(t)
			if err := h.trials.Run(t.Context(), tt.r, func(e Event) { t.Errorf("%s: told %+v", tt.name, e) }); err == nil || hintOf(err) == "" {
				t.Errorf("%s: %v", tt.name, err)
			}
			h.holds(public, 1)
		}
	})
}

// TestNotTheConfirmed: no trial while the kernel lacks what would be gone back to.
func TestNotTheConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.fake.Flush(1, "nft")
		err := h.trials.Run(t.Context(), Request{Rules: fixed, Within: minute}, nil)
		if err == nil || hintOf(err) == "" {
			t.Errorf("error: %v", err)
		}
		if entries, _ := os.ReadDir(h.dir); len(entries) != 1 {
			t.Errorf("the directory holds %v", entries)
		}
	})
}

// TestHungProgress: who does not listen does not hold up the trial.
func TestHungProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		hung := make(chan struct{})
		done := make(chan error)
		go func() {
			done <- h.trials.Run(t.Context(), Request{Rules: fixed, Within: minute}, func(Event) { <-hung })
		}()
		synctest.Wait()
		for i := range 3 * mostEvents {
			peer := netip.AddrPortFrom(hanako.Addr(), uint16(1000+i))
			h.close(peer)
			h.login(peer)
			after(10 * time.Millisecond)
		}
		h.login(hanako)
		after(6 * time.Second)
		h.holds(fixed, 2)
		if _, ok := h.trials.Current(); ok {
			t.Error("there is still a trial")
		}
		close(hung)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestFull: at each step of writing the disk may refuse.
func TestFull(t *testing.T) {
	refuse := func(h *host, steps ...string) {
		h.trials.disk.before = func(step string) error {
			for _, s := range steps {
				if strings.HasPrefix(step, s) {
					return errTest
				}
			}
			return nil
		}
	}
	for _, step := range []string{"create", "sync firewall.pending.json", "rename firewall.pending.json.new", "sync directory for firewall.pending.json"} {
		t.Run("before arming: "+step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				refuse(h, step)
				err := h.trials.Run(t.Context(), Request{Rules: fixed, Within: minute}, func(e Event) { t.Errorf("told %+v", e) })
				if !errors.Is(err, errTest) || hintOf(err) == "" {
					t.Errorf("error: %v", err)
				}
				refuse(h)
				h.try(t.Context(), nil).end(Reverted)
			})
		})
	}
	t.Run("full since: a rename is enough", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			r := h.try(t.Context(), nil)
			refuse(h, "create", "sync firewall")
			if err := h.trials.Confirm(t.Context(), hanako, true, "x"); err != nil {
				t.Error(err)
			}
			r.end(Confirmed)
		})
	})
	t.Run("read-only since", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			r := h.try(t.Context(), nil)
			refuse(h, "")
			if err := h.trials.Confirm(t.Context(), hanako, true, "x"); !errors.Is(err, ErrUnsaved) || !errors.Is(err, errTest) || hintOf(err) == "" {
				t.Errorf("confirm: %v", err)
			}
			<-r.done
			if _, last := r.stages(); last.Stage != Confirmed || last.Warning == "" || r.err != nil || len(h.swapped) != 1 {
				t.Errorf("last %+v, error %v, swapped %v", last, r.err, h.swapped)
			}
			if err := h.trials.Settle(t.Context()); !errors.Is(err, ErrUnsaved) {
				t.Errorf("settle: %v", err)
			}
			if err := h.trials.Run(t.Context(), Request{Rules: public, Within: minute}, nil); !errors.Is(err, ErrUnsaved) || hintOf(err) == "" {
				t.Errorf("the next trial: %v", err)
			}
			// Whatever becomes of the table: this process knows what is confirmed.
			h.fake.Flush(1, "nft")
			if err := h.trials.Run(t.Context(), Request{Rules: public, Within: minute}, nil); !errors.Is(err, ErrUnsaved) {
				t.Errorf("the next trial, without a table: %v", err)
			}
			if err := h.fake.Ensure(t.Context(), stateOf(h.swapped[0])); err != nil {
				t.Fatal(err)
			}
			refuse(h)
			if err := h.trials.Settle(t.Context()); err != nil {
				t.Errorf("settle: %v", err)
			}
			h.trials.Recover(t.Context()) // puts away what is left of it
			h.holds(fixed, 2)
		})
	})
	t.Run("read-only, then a new process", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			r := h.try(t.Context(), nil)
			refuse(h, "")
			_ = h.trials.Confirm(t.Context(), hanako, true, "x")
			<-r.done
			h.start(h.fake.Another())
			h.holds(fixed, 2)
		})
	})
	t.Run("read-only, then a reboot", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			r := h.try(t.Context(), nil)
			refuse(h, "")
			_ = h.trials.Confirm(t.Context(), hanako, true, "x")
			<-r.done
			h.fake = firewall.NewFake(nil)
			h.start(h.fake)
			h.holds(public, 1)
		})
	})
	t.Run("while going back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			r := h.try(t.Context(), nil)
			refuse(h, "")
			if err := h.trials.Revert(t.Context(), "x"); err != nil {
				t.Error(err)
			}
			<-r.done
			if s, err := Load(h.dir); err != nil || s.Generation != 1 {
				t.Errorf("on the disk is %+v, %v", s, err)
			}
			h.start(h.fake.Another())
			h.holds(public, 1)
			h.try(t.Context(), nil).end(Reverted)
		})
	})
}

// TestFileGone: whoever takes the snapshot away while we run does not change what
// is confirmed.
func TestFileGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		if err := os.Remove(filepath.Join(h.dir, confirmedFile)); err != nil {
			t.Fatal(err)
		}
		h.try(t.Context(), nil).end(Reverted)
	})
}
