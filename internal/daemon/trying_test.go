package daemon

import (
	"context"
	"fmt"
	"testing"

	"sekisho/internal/config"
	"sekisho/internal/iso3166"
	"sekisho/internal/prefixset"
	"sekisho/internal/trial"
)

// TestTryingTellsTheEnd: a trial of an hour during which somebody logs in every
// minute, and away again, has more events than are kept. Whoever follows it hears
// each in order, and how it ended; that was lost once.
func TestTryingTellsTheEnd(t *testing.T) {
	tr := newTrying(config.Default(), prefixset.Set{})
	var got []string
	step := make(chan struct{})
	over := make(chan error, 1)
	go func() {
		over <- tr.follow(context.Background(), func(e trial.Event) {
			got = append(got, e.By)
			step <- struct{}{}
		})
	}()
	var want []string
	for i := range 2*maxEvents + 1 {
		by := fmt.Sprint(i)
		want = append(want, by)
		tr.tell(trial.Event{Stage: trial.Login, By: by})
		<-step
	}
	tr.tell(trial.Event{Stage: trial.Confirmed, By: "the end"})
	want = append(want, "the end")
	<-step
	close(tr.over)
	if err := <-over; err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("heard %v, want %v", got, want)
	}

	// Who comes late hears the last of them.
	got = nil
	go func() {
		for range maxEvents {
			<-step
		}
	}()
	late := tr.follow(context.Background(), func(e trial.Event) {
		got = append(got, e.By)
		step <- struct{}{}
	})
	if late != nil || len(got) != maxEvents || got[len(got)-1] != "the end" {
		t.Errorf("heard late %d: %v (%v)", len(got), got, late)
	}
}

// TestSwappedLate: that the trial before was confirmed may turn out when the next one
// begins. Its rules keep the addresses of their own countries, not those of the next
// one's, which would keep everybody out.
func TestSwappedLate(t *testing.T) {
	f, _ := guarding(t, applyBase+"firewall: {countries: [JP]}\n")
	data := f.countryData()
	japan, err := data.Set(iso3166.Code{'J', 'P'})
	if err != nil {
		t.Fatal(err)
	}
	iceland, err := data.Set(iso3166.Code{'I', 'S'})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, tried string }{{"its own", "[JP]"}, {"the one before", "[IS]"}} {
		t.Run(test.name, func(t *testing.T) {
			countries := iceland
			if test.tried == "[JP]" {
				countries = japan
			}
			f.mu.Lock()
			f.trying = newTrying(parsed(t, "firewall: {countries: "+test.tried+"}\n"), countries)
			f.mu.Unlock()
			f.swapped(trial.Snapshot{Generation: 7, Rules: RulesOf(parsed(t, "firewall: {countries: [JP]}\n"))})
			f.mu.Lock()
			got := f.want.Ruleset.Countries
			f.trying = nil
			f.mu.Unlock()
			if !got.Equal(japan) {
				t.Errorf("%d ranges, want Japan's %d", len(got.Ranges()), len(japan.Ranges()))
			}
		})
	}
}

// TestSettleBesideOff: a file that is gone is written down again, but not while `off`
// is about to remove it: the next apply would begin with the rules that somebody was
// locked out by.
func TestSettleBesideOff(t *testing.T) {
	f, _ := guarding(t, applyBase+"exposure: fixed\n")
	f.forced(t)
	if err := trial.Forget(f.opts.StateDir); err != nil {
		t.Fatal(err)
	}
	confirmed := func() uint32 {
		t.Helper()
		s, err := trial.Load(f.opts.StateDir)
		if err != nil {
			t.Error(err)
		}
		return s.Generation
	}
	f.rules.Lock() // as Off does
	f.settleTrial(t.Context())
	beside := confirmed()
	f.rules.Unlock()
	if beside != 0 {
		t.Error("written down while the rules were at work")
	}
	f.settleTrial(t.Context())
	if confirmed() == 0 {
		t.Error("not written down")
	}
	if err := f.Off(t.Context(), "root"); err != nil {
		t.Fatal(err)
	}
	f.settleTrial(t.Context())
	if confirmed() != 0 {
		t.Error("written down after off")
	}
}
