package store

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a rule counted is told once, of the day on which it was read.
func TestRules(t *testing.T) {
	const today, tomorrow = "2026-11-22", "2026-11-23"
	read := func(day string, packets uint64, fresh bool) RuleCount {
		return RuleCount{Day: day, Chain: "ssh", Rule: "not in JP", Drops: true, Packets: packets, Bytes: 60 * packets, Fresh: fresh}
	}
	for _, tc := range []struct {
		name     string
		readings []RuleCount
		want     map[string]uint64 // packets by day
	}{
		{"never read before", []RuleCount{read(today, 1000, false)}, nil},
		{"and then it counts on", []RuleCount{read(today, 1000, false), read(today, 1007, true)}, map[string]uint64{today: 7}},
		{"written since", []RuleCount{read(today, 1000, true)}, map[string]uint64{today: 1000}},
		{"the same twice", []RuleCount{read(today, 5, true), read(today, 5, true)}, map[string]uint64{today: 5}},
		{"over midnight", []RuleCount{read(today, 5, true), read(tomorrow, 9, true)}, map[string]uint64{today: 5, tomorrow: 4}},
		{"written anew", []RuleCount{read(today, 50, true), read(today, 3, true)}, map[string]uint64{today: 53}},
		{"written anew while nobody read", []RuleCount{read(today, 50, true), read(today, 3, false)}, map[string]uint64{today: 53}},
		{"no day", []RuleCount{read("never", 5, true)}, nil},
		{"beyond all counting", []RuleCount{read(today, 1<<63, true), read(today, 0, true), read(today, 1<<63, true)}, map[string]uint64{today: 2 * maxCounter}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := fresh(t)
			for _, c := range tc.readings {
				commit(t, s, Effects{Rules: []RuleCount{c}})
			}
			var got map[string]uint64
			for _, c := range rules(t, s, "") {
				if got == nil {
					got = map[string]uint64{}
				}
				got[c.Day] += c.Packets
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A mark that rotted is not believed: nothing is counted twice.
func TestRottenMark(t *testing.T) {
	s := fresh(t)
	commit(t, s, Effects{Rules: []RuleCount{{Day: "2026-11-22", Chain: "ssh", Rule: "a", Packets: 5, Fresh: true}}})
	if _, err := s.db.ExecContext(t.Context(), `UPDATE rule_marks SET packets = 1`); err != nil {
		t.Fatal(err)
	}
	commit(t, s, Effects{Rules: []RuleCount{{Day: "2026-11-22", Chain: "ssh", Rule: "a", Packets: 6, Fresh: true}}})
	commit(t, s, Effects{Rules: []RuleCount{{Day: "2026-11-22", Chain: "ssh", Rule: "a", Packets: 8, Fresh: true}}})
	want := []RuleCount{{Day: "2026-11-22", Chain: "ssh", Rule: "a", Packets: 7}}
	if diff := cmp.Diff(want, rules(t, s, "")); diff != "" {
		t.Error(diff)
	}
}

func TestRulesThatWaitAreBounded(t *testing.T) {
	b := batch{maxCounts: 4, maxBans: 4, maxOthers: 4}
	for i := range 100 {
		b.add(Effects{Rules: []RuleCount{{Day: "2026-11-22", Rule: "a", Packets: uint64(100 - i)}, {Day: "2026-11-22", Rule: string(rune('a' + i))}}})
	}
	if len(b.rules) > 4 || len(b.ruleAt) > 4 {
		t.Errorf("%d readings wait, of %d rules", len(b.rules), len(b.ruleAt))
	}
}

func TestOnsets(t *testing.T) {
	s := fresh(t)
	b := ban("192.0.2.1/32", t0, 0)
	want := Onset{Prefix: b.Prefix, Begun: t0, First: t0.Add(-9e9)}
	commit(t, s, Effects{Onsets: []Onset{want, {}}})
	commit(t, s, Effects{Onsets: []Onset{want}})
	got := all(t, func(yield func(Onset) error) error { return s.Onsets(t.Context(), t0, yield) })
	if diff := cmp.Diff([]Onset{want}, got, byValue); diff != "" {
		t.Error(diff)
	}
	if _, err := s.db.ExecContext(t.Context(), `UPDATE onsets SET first = 1`); err != nil {
		t.Fatal(err)
	}
	if got := all(t, func(yield func(Onset) error) error { return s.Onsets(t.Context(), t0, yield) }); len(got) != 0 || s.Skipped() != 1 {
		t.Errorf("believed %v", got)
	}
}

// Rows of the new tables in a file of the schema before them, also read only.
func TestOldSchemaHasNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "state.db")
	firstSchema(t, path)
	s, err := OpenReadOnly(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := live(t, s, t0); len(got) != 1 {
		t.Errorf("bans: %v", got)
	}
	if got := rules(t, s, ""); len(got) != 0 {
		t.Errorf("rules: %v", got)
	}
	s.Close()
	s, _ = open(t, path, Options{})
	commit(t, s, numbered(1))
	if got := rules(t, s, ""); len(got) != 1 {
		t.Errorf("rules: %v", got)
	}
}
