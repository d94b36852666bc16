// Package page lays out what package gate/web shows, in English and Japanese. It decides
// nothing: what it is given are the types of package gate/api, and what it makes is HTML
// that works without a script, but for passkeys. Package gate/web alone imports it.
package page

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"sekisho/internal/gate/api"
	"sekisho/internal/printable"
)

// Frame is what is around a page.
type Frame struct {
	Words   *Words
	Me      *api.Me // nil: nobody is signed in
	Title   string
	At      string // the page's own path, where the switch of languages comes back to
	Now     time.Time
	Waiting int    // grants that wait for who is signed in
	Fresh   bool   // the script fetches it anew now and then
	IPv4    string // origins that have one family of addresses, "": none
	IPv6    string
	// Stateless: the gate keeps nothing, so that there are no sessions, approvals, invitations,
	// hosts, nor an audit to read.
	Stateless bool
}

func (f Frame) admin() bool { return f.Me != nil && f.Me.Role == api.RoleAdmin }

// here reports whether a page of the menu is the one that is shown.
func (f Frame) here(at string) bool {
	f.At, _, _ = strings.Cut(f.At, "?")
	if at == "/" {
		return f.At == "/" || strings.HasPrefix(f.At, "/doors/")
	}
	return f.At == at || strings.HasPrefix(f.At, at+"/")
}

// path is a path of ours; each part may be anything.
func path(parts ...string) templ.SafeURL {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return templ.SafeURL(b.String())
}

func (f Frame) me() string {
	if f.Me == nil {
		return ""
	}
	return f.Me.Person
}

// own are the grants of who looks that have not ended; others are those of everybody else.
func (f Frame) own(d api.Door) (own, others []api.Grant) {
	for _, g := range d.Grants {
		switch {
		case g.State == api.Ended, g.State == api.Waiting && g.Person != f.me():
		case g.Person == f.me():
			own = append(own, g)
		default:
			others = append(others, g)
		}
	}
	return own, others
}

// left is what remains of a grant.
func (f Frame) left(g api.Grant) time.Duration {
	if g.Until.IsZero() {
		return 0
	}
	return max(0, g.Until.Sub(f.Now))
}

func digits(d time.Duration) string {
	n := int64((d + time.Second - 1) / time.Second)
	return fmt.Sprintf("%d:%02d:%02d", n/3600, n/60%60, n%60)
}

func whole(d time.Duration) string { return fmt.Sprint(int64((d + time.Second - 1) / time.Second)) }

// lengths are those to choose from, up to the most that one may ask for.
func lengths(most int64) []time.Duration {
	var all []time.Duration
	for _, d := range []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour, 24 * time.Hour} {
		if d < seconds(most) {
			all = append(all, d)
		}
	}
	if most > 0 {
		all = append(all, seconds(most))
	}
	return all
}

// state is a grant's in words, with the class of its colour.
func (f Frame) state(g api.Grant) (words, class string) {
	switch g.State {
	case api.Waiting:
		return f.Words.WaitingState, "pill wait"
	case api.Asked:
		return f.Words.AskedState, "pill wait"
	case api.Open:
		return f.Words.Open, "pill open"
	case api.Ending:
		return f.Words.EndingState, "pill wait"
	}
	return f.Words.EndedState, "pill"
}

// door is the state of a door for who looks.
func (f Frame) door(own []api.Grant) (words, class string) {
	if len(own) == 0 {
		return f.Words.Shut, "pill"
	}
	best := slices.MinFunc(own, func(a, b api.Grant) int { return rank(a) - rank(b) })
	return f.state(best)
}

func rank(g api.Grant) int {
	return slices.Index([]api.State{api.Open, api.Asked, api.Waiting, api.Ending, api.Ended}, g.State)
}

func (f Frame) kind(k api.Kind) string {
	if k == api.KindHost {
		return f.Words.KindHost
	}
	return f.Words.KindGroup
}

func names(list []string) string { return strings.Join(list, ", ") }

func people(grants []api.Grant) []string {
	var all []string
	for _, g := range grants {
		if !slices.Contains(all, g.Person) {
			all = append(all, g.Person)
		}
	}
	return all
}

func prefix(g api.Grant) string { return printable.Prefix(g.Prefix) }

// text is strangers' and people's, with nothing in it that does not show.
func text(s string) string { return printable.Text(s) }

// invited is what the script needs of a passkey's failures in the reader's language.
func (f Frame) codes() templ.Attributes {
	a := templ.Attributes{}
	for _, c := range []api.Code{api.BadSignature, api.Unknown, api.Expired, api.NotFound, api.TooMany, api.Busy, api.Disabled, api.Conflict, api.BadRequest, api.Internal} {
		if s := f.Words.ErrorOf(c); s != "" {
			a["data-code_"+string(c)] = s
		}
	}
	return a
}

// Filter is what the audit's form has.
type Filter struct{ Person, Target, What, From, To string }

func (f Filter) older(before int64) templ.SafeURL {
	v := url.Values{}
	for name, s := range map[string]string{"person": f.Person, "target": f.Target, "what": f.What, "from": f.From, "to": f.To} {
		if s != "" {
			v.Set(name, s)
		}
	}
	v.Set("before", fmt.Sprint(before))
	return templ.SafeURL("/audit?" + v.Encode())
}

// SafePath is a path of ours that is written already.
func SafePath(s string) templ.SafeURL { return templ.SafeURL(s) }

// around is what stands before and after a time.
func around(say func(string) string) (before, after string) {
	before, after, _ = strings.Cut(say("{}"), "{}")
	return before, after
}

// sorted has the doors that are open for who looks first; the rest stay as they are.
func (f Frame) sorted(doors []api.Door) []api.Door {
	doors = slices.Clone(doors)
	slices.SortStableFunc(doors, func(a, b api.Door) int {
		mine, _ := f.own(a)
		theirs, _ := f.own(b)
		return min(1, len(theirs)) - min(1, len(mine))
	})
	return doors
}
