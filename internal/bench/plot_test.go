package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestChart(t *testing.T) {
	r := report{table: peerTable, machine: []string{"a machine <&> its \"load\""}}
	r.add(figure{
		name: "delay", plot: "latency", show: seconds, values: map[string]float64{sekisho: 0.00025, fail2ban: 0.3, sshguard: 0.004, crowdsec: 10},
		rounds: samples{sekisho: {0.0002, 0.00025, 0.0004}, fail2ban: {0.3}}, atLeast: map[string]bool{crowdsec: true}, notes: map[string]string{crowdsec: "604 banned"},
	})
	r.add(figure{
		name: "memory", plot: "latency", show: megabytes, values: map[string]float64{sekisho: 30e6, sshguard: 12e6},
		notes: map[string]string{fail2ban: "</text><script>alert(1)</script>\x00\x1b[31m"},
	})
	r.add(figure{name: "of another plot", plot: "rest", show: megabytes})
	got := r.chart("latency", "A title").svg()
	golden := filepath.Join("testdata", "chart.svg")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the chart (-want +got), -update keeps it:\n%s", diff)
	}
	elements := elementsOf(t, got)
	for name, count := range map[string]int{"script": 0, "title": 1, "desc": 1} {
		if elements[name] != count {
			t.Errorf("got %d <%s>, want %d", elements[name], name, count)
		}
	}
}

// elementsOf counts a well-formed document's.
func elementsOf(t *testing.T, doc []byte) map[string]int {
	t.Helper()
	count := map[string]int{}
	for d := xml.NewDecoder(bytes.NewReader(doc)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return count
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		if start, ok := token.(xml.StartElement); ok {
			count[start.Name.Local]++
		}
	}
}

func FuzzChart(f *testing.F) {
	f.Add("delay", "<&>\x00", 1.0, 1e6)
	f.Add("", "\xff", -1.0, math.Inf(1))
	f.Fuzz(func(t *testing.T, title, name string, a, b float64) {
		c := chart{title: title, foot: []string{name}, panels: []panel{{title: title, show: significant, bars: []bar{
			{name: name, text: title, value: a, low: a, high: b}, {name: title, text: name, value: b, ours: true},
		}}}}
		elementsOf(t, c.svg())
	})
}

func TestScale(t *testing.T) {
	tests := []struct {
		name   string
		values []float64
		want   []float64 // places
		ticks  []float64
	}{
		{name: "from 0", values: []float64{10, 40}, want: []float64{0.25, 1}},
		{name: "logarithmic", values: []float64{0.5, 50}, want: []float64{(math.Log10(0.5) + 1) / 3, (math.Log10(50) + 1) / 3}, ticks: []float64{0.1, 1, 10, 100}},
		{name: "nothing", values: []float64{0}, want: nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p panel
			for _, value := range tt.values {
				p.bars = append(p.bars, bar{value: value})
			}
			at, ticks := p.scale()
			var got []float64
			for i := range tt.want {
				got = append(got, at(tt.values[i]))
			}
			near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })
			if diff := cmp.Diff(tt.want, got, near); diff != "" {
				t.Errorf("places (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.ticks, ticks, near); diff != "" {
				t.Errorf("ticks (-want +got):\n%s", diff)
			}
		})
	}
}

// Only the plots of what was measured are written.
func TestDrawInto(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "benchmarks")
	r := report{table: peerTable}
	r.add(figure{name: "memory", plot: "rest", show: megabytes, values: map[string]float64{sekisho: 30e6}})
	if err := r.drawInto(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "rest.svg" {
		t.Errorf("got %v, want rest.svg alone", entries)
	}
	got, err := os.ReadFile(filepath.Join(dir, "rest.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got), "Sekisho 30.0 MB; fail2ban not measured") {
		t.Errorf("what was not measured is not said: %s", got)
	}
}
