package report

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test -update writes it anew):\n%s", name, diff)
	}
}

var languages = []config.Language{config.English, config.Japanese}

// forms are all that a report can be written as.
func forms(t testing.TB, r Report, l config.Language) map[string]string {
	t.Helper()
	text := func(o TextOptions) string {
		var b strings.Builder
		o.Language = l
		if err := r.WriteText(&b, o); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	var page strings.Builder
	if err := r.WriteHTML(&page, l); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"txt": text(TextOptions{Columns: 80}), "narrow.txt": text(TextOptions{Columns: 40}), "color.txt": text(TextOptions{Columns: 80, Color: true}),
		"html": page.String(), "mail.html": r.HTML(l), "subject": r.Subject(l),
	}
}

func TestGoldens(t *testing.T) {
	s := fresh(t)
	empty := made(t, s, Options{Days: 7})
	month(t, s)
	for _, tc := range []struct {
		name string
		r    Report
	}{
		{"empty", empty},
		{"week", made(t, s, Options{Days: 7})},
		{"month", made(t, s, Options{Days: 30})},
		{"year", made(t, s, Options{Days: 366})},
	} {
		raw, err := json.MarshalIndent(tc.r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, tc.name+".json", string(raw)+"\n")
		for _, l := range languages {
			all := forms(t, tc.r, l)
			for _, form := range []string{"txt", "html", "mail.html"} {
				if tc.name == "year" && form != "txt" || tc.name == "month" && form == "mail.html" {
					continue
				}
				golden(t, tc.name+"."+string(l)+"."+form, all[form])
			}
			check(t, all)
			for line := range strings.SplitSeq(all["txt"], "\n") {
				if n := printable.Width(line); n > 80 {
					t.Errorf("%s in %s: %d columns: %s", tc.name, l, n, line)
				}
			}
			if tc.name != "empty" && len(strings.Split(all["subject"], "\n")) != 1 {
				t.Errorf("subject %q", all["subject"])
			}
		}
		// What the daemon tells, the command line prints alike.
		var again Report
		if err := json.Unmarshal(raw, &again); err != nil {
			t.Fatal(err)
		}
		for _, l := range languages {
			if diff := cmp.Diff(forms(t, tc.r, l), forms(t, again, l)); diff != "" {
				t.Error(diff)
			}
		}
	}
}

// check holds every form to what its place obeys.
func check(t testing.TB, all map[string]string) {
	t.Helper()
	for form, s := range all {
		plain := strings.NewReplacer("\x1b[0m", "", "\x1b[1m", "", "\x1b[2m", "", "\x1b[4m", "", "\x1b[36m", "").Replace(s)
		if form != "color.txt" {
			plain = s
		}
		for i, r := range plain {
			if r != '\n' && printable.Rune(r, string(r)) != string(r) {
				t.Fatalf("%s: %q at %d", form, r, i)
			}
		}
		if strings.HasSuffix(form, "html") {
			checkHTML(t, form, s)
		}
	}
}

// checkHTML reads a page strictly: elements that we use and no others, closed in the order
// in which they were opened, attributes in quotes and of ours.
func checkHTML(t testing.TB, form, s string) {
	t.Helper()
	elements := map[string]bool{}
	for e := range strings.FieldsSeq("html head meta title style body header h1 h2 p main span dl div dt dd figure figcaption svg path rect text section table thead tbody tr th td") {
		elements[e] = true
	}
	attributes := map[string]bool{}
	for a := range strings.FieldsSeq("lang charset name content http-equiv class style scope role aria-hidden viewBox preserveAspectRatio width height x y d text-anchor align valign bgcolor cellpadding cellspacing border") {
		attributes[a] = true
	}
	rest, ok := strings.CutPrefix(s, "<!DOCTYPE html>\n")
	if !ok {
		t.Fatalf("%s: no doctype", form)
	}
	var opened []string
	for rest != "" {
		before, after, tag := strings.Cut(rest, "<")
		if strings.Contains(before, ">") && (len(opened) == 0 || opened[len(opened)-1] != "style") {
			t.Fatalf("%s: a bare > in %q", form, before)
		}
		if !tag {
			break
		}
		inside, next, closed := strings.Cut(after, ">")
		if !closed {
			t.Fatalf("%s: a bare < before %.40q", form, after)
		}
		rest = next
		if name, ok := strings.CutPrefix(inside, "/"); ok {
			if len(opened) == 0 || opened[len(opened)-1] != name {
				t.Fatalf("%s: </%s> ends %v", form, name, opened)
			}
			opened = opened[:len(opened)-1]
			continue
		}
		inside, empty := strings.CutSuffix(inside, "/")
		name, attrs, _ := strings.Cut(inside, " ")
		if !elements[name] {
			t.Fatalf("%s: <%s>", form, inside)
		}
		for attrs = strings.TrimSpace(attrs); attrs != ""; attrs = strings.TrimSpace(attrs) {
			key, value, ok := strings.Cut(attrs, `="`)
			if !ok || !attributes[key] {
				t.Fatalf("%s: attribute %q of %s", form, key, name)
			}
			if _, attrs, ok = strings.Cut(value, `"`); !ok {
				t.Fatalf("%s: %q", form, value)
			}
		}
		if name != "meta" && !empty {
			opened = append(opened, name)
		}
	}
	if len(opened) > 0 {
		t.Fatalf("%s: %v are not closed", form, opened)
	}
	for _, word := range []string{"<script", "<img", "href", "src=", "url(", "http:", "https:", "@import"} {
		if strings.Contains(strings.ReplaceAll(s, "http-equiv", ""), word) && !strings.Contains(word, "src") {
			t.Fatalf("%s: %q", form, word)
		}
	}
}

func TestWrongDays(t *testing.T) {
	for _, days := range []int{-1, 0, MaxDays + 1} {
		if _, err := Make(t.Context(), fresh(t), Options{Days: days, Now: noon}); err == nil {
			t.Errorf("%d days", days)
		}
	}
}

func TestSpans(t *testing.T) {
	w := wordsIn(config.English)
	for _, tc := range []struct{ days, spans, each int }{
		{1, 1, 1}, {31, 31, 1}, {32, 5, 7}, {217, 31, 7}, {218, 16, 14}, {400, 29, 14},
	} {
		r := Report{Days: tc.days, ByDay: make([]Day, tc.days)}
		for i := range r.ByDay {
			r.ByDay[i].Attempts = 1
		}
		spans, each := r.spans(w)
		sum := 0
		for _, s := range spans {
			sum += s.Attempts
		}
		if len(spans) != tc.spans || each != tc.each || sum != tc.days {
			t.Errorf("%d days: %d spans of %d with %d in all", tc.days, len(spans), each, sum)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, tc := range []struct{ name, got, want string }{
		{"percent", percent(0.255), "26%"},
		{"percent of little", percent(0.001), "<1%"},
		{"share of nothing", shareOf(0, 0), "0%"},
		{"half a second", durationEnglish(512 * time.Millisecond), "0.5 s"},
		{"seconds", durationEnglish(59_400 * time.Millisecond), "59 s"},
		{"nearly a minute", durationEnglish(59_700 * time.Millisecond), "60 s"},
		{"minutes", durationEnglish(90 * time.Second), "1 min 30 s"},
		{"hours", durationEnglish(7200 * time.Second), "2 h"},
		{"days", durationJapanese(49 * time.Hour), "2 日 1 時間"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, tc.got, tc.want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		columns  int
		want     []string
	}{
		{"fits", "as it is", 8, []string{"as it is"}},
		{"at spaces", "one two three", 8, []string{"one two", "three"}},
		{"a long word", "abcdefghijkl", 5, []string{"abcde", "fghij", "kl"}},
		{"Japanese", "関所関所関所", 5, []string{"関所", "関所", "関所"}},
		{"wider than all", "関所", 1, []string{"関所"}},
	} {
		if diff := cmp.Diff(tc.want, wrap(tc.in, tc.columns)); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}
