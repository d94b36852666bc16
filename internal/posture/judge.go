package posture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sekisho/internal/config"
	"sekisho/internal/printable"
)

// judge is a Report that is being made.
type judge struct {
	Facts
	kinds  map[string]Kind
	report Report
}

// Judge says what is wrong by the facts. Pure.
func Judge(f Facts) Report {
	j := judge{Facts: f, kinds: map[string]Kind{}}
	for _, k := range Kinds() {
		j.kinds[k.ID] = k
	}
	j.report = Report{Host: printable.Text(f.Host), Time: f.Time, Findings: []Finding{}, Unseen: []Unseen{}}
	j.report.Rung = j.rung()
	j.report.Rung.Why = printable.Text(j.report.Rung.Why)
	j.firewall()
	j.server()
	j.release()
	j.settings()
	j.algorithms()
	j.lines()
	j.hostKeys()
	j.accounts()
	j.machine()
	slices.SortStableFunc(j.report.Findings, func(a, b Finding) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })
	return j.report
}

// rank orders the severities, the worst first.
func (s Severity) rank() int {
	return slices.Index([]Severity{Critical, High, Medium, Low, Info}, s)
}

// Clean reports whether nothing is wrong: Info is no finding.
func (r Report) Clean() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity != Info })
}

// With is r with what others found beside, as in security groups.
func (r Report) With(found []Finding, unseen []Unseen) Report {
	r.Findings = slices.Concat(r.Findings, found)
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })
	r.Unseen = slices.Concat(r.Unseen, unseen)
	return r
}

// changed is what a finding has of its own.
type changed func(*Finding)

func as(s Severity) changed { return func(f *Finding) { f.Severity = s } }

func remedy(format string, args ...any) changed {
	return func(f *Finding) { f.Remedy = fmt.Sprintf(format, args...) }
}

// most is how many findings of one kind are told one by one.
const most = 20

// add adds a finding of a kind, which must be one of Kinds. What may hold others' text.
func (j *judge) add(id, what string, changes ...changed) {
	k, ok := j.kinds[id]
	if !ok {
		panic("no kind of finding is called " + id)
	}
	f := Finding{ID: id, Severity: k.Severity, What: what, Why: k.Why, Remedy: k.Remedy}
	for _, change := range changes {
		change(&f)
	}
	f.Remedy = cmp.Or(f.Remedy, k.Remedy)
	if f.Remedy == basic && j.hardened() {
		f.Remedy = "sekisho apply: the configuration asks for it already"
	}
	f.What, f.Remedy = printable.Text(f.What), printable.Text(f.Remedy)
	n := 0
	for _, other := range j.report.Findings {
		if other.ID == id {
			n++
		}
	}
	switch {
	case n < most:
		j.report.Findings = append(j.report.Findings, f)
	case n == most:
		f.What, f.Remedy = fmt.Sprintf("there are more than %d of this kind", most), k.Remedy
		j.report.Findings = append(j.report.Findings, f)
	}
}

// hardened reports whether Sekisho's configuration asks for all of a profile.
func (j *judge) hardened() bool {
	return j.Config != nil && j.Config.SSH.Profile != config.ProfileNone && len(j.Config.SSH.Settings) == 0
}

// unseen notes what could not be looked at.
func (j *judge) unseen(what, why, remedy string) {
	if remedy == "" && !j.Root {
		remedy = "sudo sekisho check"
	}
	j.report.Unseen = append(j.report.Unseen, Unseen{What: printable.Text(what), Why: printable.Text(why), Remedy: remedy})
}

// names lists names, not too many of them.
func names(all []string) string {
	slices.Sort(all)
	all = slices.Compact(all)
	const shown = 8
	if len(all) > shown {
		return strings.Join(all[:shown], ", ") + fmt.Sprintf(" and %d more", len(all)-shown)
	}
	return strings.Join(all, ", ")
}
