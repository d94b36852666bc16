package daemon

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDashboard: the dashboard is one that Grafana takes, and asks for nothing that
// there is not.
func TestDashboard(t *testing.T) {
	raw, err := os.ReadFile("../../contrib/grafana/sekisho.json")
	if err != nil {
		t.Fatal(err)
	}
	type place struct{ H, W, X, Y int }
	var board struct {
		UID    string
		Title  string
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos place
			Targets []struct{ Expr, LegendFormat, RefID string }
		}
		Annotations struct{ List []struct{ Expr string } }
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	if board.UID == "" || len(board.Panels) < 10 {
		t.Errorf("%q has %d panels", board.Title, len(board.Panels))
	}
	told, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, name := range []string{"metrics.go", "scrape.go", "reap.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	metric := regexp.MustCompile(`\b[a-z]+_[a-z0-9_]+\{`)
	suffix := regexp.MustCompile(`_(bucket|sum|count)$`)
	label := regexp.MustCompile(`\{\{(\w+)\}\}`)
	exprs := 0
	check := func(title, expr, legend string) {
		exprs++
		names := metric.FindAllString(expr, -1)
		if len(names) == 0 || strings.Count(expr, "(") != strings.Count(expr, ")") || strings.Count(expr, "{") != strings.Count(expr, "}") {
			t.Errorf("%s: %s", title, expr)
		}
		for _, name := range names {
			name = suffix.ReplaceAllString(strings.TrimSuffix(name, "{"), "")
			word := regexp.MustCompile(`\b` + name + `\b`)
			if !word.Match(told) {
				t.Errorf("%s: docs/metrics.md does not tell of %s", title, name)
			}
			if !word.MatchString(source.String()) {
				t.Errorf("%s: nothing gives %s", title, name)
			}
		}
		for _, m := range label.FindAllStringSubmatch(legend, -1) {
			if strings.Contains(expr, " by (") && !regexp.MustCompile(`by \([^)]*\b`+m[1]+`\b`).MatchString(expr) {
				t.Errorf("%s: %s has no label %s", title, expr, m[1])
			}
		}
	}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("%q has the number %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q lies over %q, or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if refs[target.RefID] {
				t.Errorf("%q has %s twice", p.Title, target.RefID)
			}
			refs[target.RefID] = true
			check(p.Title, target.Expr, target.LegendFormat)
		}
		if len(refs) == 0 {
			t.Errorf("%q asks for nothing", p.Title)
		}
	}
	for _, a := range board.Annotations.List {
		check("annotation", a.Expr, "")
	}
	if exprs < 30 {
		t.Errorf("only %d expressions were looked at", exprs)
	}
}

// TestLatencyBuckets: the histograms are Prometheus' own, of which quantiles can be had.
func TestLatencyBuckets(t *testing.T) {
	port := freePort(t)
	_, log, dir, _ := dry(t, fmt.Sprintf("metrics: {listen: 127.0.0.1:%d}\n", port))
	if _, err := io.WriteString(log, failures("203.0.113.9", 5)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ban", func() bool {
		var bans []Ban
		control(t, dir, "GET", "bans", "", &bans)
		return len(bans) == 1
	})
	got := scrape(t, port)
	for _, want := range []string{`sekisho_ban_seconds_bucket{le="60"} 1`, `sekisho_ban_after_line_seconds_bucket{le="+Inf"} 1`, "sekisho_ban_seconds_count 1", `sekisho_problems{severity="warning"} 1`, `sekisho_build_info{version=""} 1`} {
		if !strings.Contains(got, want) {
			t.Errorf("metrics lack %s:\n%s", want, got)
		}
	}
}
