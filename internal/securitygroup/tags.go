package securitygroup

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// The tags by which a rule says that it is ours, and who needs it until when. They are
// the whole of what is known of a lease: any reaper, anywhere, can act on them. A tag of
// each lease of its own lets several be written at once without one undoing another.
const (
	TagManaged = "sekisho:managed" // "yes": on every rule and prefix list of ours, and only there
	TagFixed   = "sekisho:fixed"   // whose fixed addresses it is for: names, with spaces
	TagSource  = "sekisho:source"  // whom and to what a lease's rule was made to let in: Permission.String
	TagList    = "sekisho:list"    // of a prefix list: what it holds, as the configuration's people
	tagLease   = "sekisho:lease:"  // + the lease's id: "2026-11-29T19:00:00Z hanako"
	tagMark    = "sekisho:ending:" // + who takes the rule away: since when
)

// managed is TagManaged's value.
const managed = "yes"

// MaxTags is how many tags a resource may have; those whose keys begin with aws: are not
// counted.
const MaxTags = 50

// Lease is what a rule's tag says of one lease.
type Lease struct {
	ID     string // letters, digits, - and _
	Person string
	Until  time.Time // to the second
}

// Tag is the lease as a tag.
func (l Lease) Tag() (key, value string) {
	return tagLease + l.ID, l.Until.UTC().Format(time.RFC3339) + " " + l.Person
}

// Key is the key of the tag of the lease id.
func Key(id string) string { return tagLease + id }

// Mark says on a rule that somebody is taking it away. Everybody who does has one of their
// own, so that none removes another's.
type Mark struct {
	ID    string // letters, digits, - and _
	Since time.Time
}

// Tag is the mark as a tag.
func (m Mark) Tag() (key, value string) { return tagMark + m.ID, m.Since.UTC().Format(time.RFC3339) }

// Fixed is TagFixed's value.
type Fixed string

// Tag is the tag.
func (f Fixed) Tag() (key, value string) { return TagFixed, string(f) }

// Ours is what the tags of a rule of ours say. The zero value: nobody needs it.
type Ours struct {
	Fixed  []string // people; none: it is no fixed address'
	Leases []Lease  // soonest to end first
	Broken []string // keys of leases whose value cannot be read
	Source string   // what TagSource says
	Ending []Mark   // who takes it away
}

// Ours reads the tags. ok is false where the rule is not ours. It never fails: others may
// have changed the tags, and what cannot be read lets nobody in.
func (r Rule) Ours() (o Ours, ok bool) { return readTags(r.Tags) }

func readTags(tags map[string]string) (o Ours, ok bool) {
	if tags[TagManaged] != managed {
		return Ours{}, false
	}
	o.Fixed = strings.Fields(tags[TagFixed])
	o.Source = tags[TagSource]
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		if id, is := strings.CutPrefix(key, tagMark); is {
			since, _ := time.Parse(time.RFC3339, tags[key]) // what cannot be read is old
			o.Ending = append(o.Ending, Mark{ID: id, Since: since})
		}
		id, is := strings.CutPrefix(key, tagLease)
		if !is {
			continue
		}
		until, person, _ := strings.Cut(tags[key], " ")
		t, err := time.Parse(time.RFC3339, until)
		if err != nil || id == "" {
			o.Broken = append(o.Broken, key)
			continue
		}
		o.Leases = append(o.Leases, Lease{ID: id, Person: person, Until: t})
	}
	slices.SortStableFunc(o.Leases, func(a, b Lease) int { return a.Until.Compare(b.Until) })
	return o, true
}

// Live are the leases that have not ended at t.
func (o Ours) Live(t time.Time) []Lease {
	var live []Lease
	for _, l := range o.Leases {
		if t.Before(l.Until) {
			live = append(live, l)
		}
	}
	return live
}

// Until is when the last lease ends; zero where there is none.
func (o Ours) Until() time.Time {
	if len(o.Leases) == 0 {
		return time.Time{}
	}
	return o.Leases[len(o.Leases)-1].Until
}

// Altered reports whether r lets in somebody else than the lease that it was made for:
// whoever may edit rules can do that, and the tags stay.
func (o Ours) Altered(r Rule) bool {
	return len(o.Leases)+len(o.Broken) > 0 && o.Source != "" && o.Source != r.Permission.String()
}

// ManagedTags are the tags of everything of ours.
func ManagedTags() map[string]string { return map[string]string{TagManaged: managed} }
