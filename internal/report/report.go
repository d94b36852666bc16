// Package report makes of what the store keeps what people want to know of a week: who
// attacked, what was done about it, who logged in. It reads through an interface that
// store.Store meets, and writes text, JSON and HTML, in two languages, for a terminal,
// a browser and a mail. A flow: the daemon and the command line use it.
//
// Much of what it tells was written by attackers. It is escaped when a Report is made,
// and again by the rules of each form.
package report

import (
	"net/netip"
	"time"
)

// MaxDays is how far back a report can go: as far as the store remembers.
const MaxDays = 400

// Report is what happened in some days. Its JSON is an interface (docs/json.md).
//
// Attempts are counted as the guard counts them. Wherever they are told apart, by day,
// by country, by anything, the rows and Rest together come to Attempts.
type Report struct {
	Host string    `json:"host"`
	From time.Time `json:"from"` // a midnight
	To   time.Time `json:"to"`   // when it was made
	Days int       `json:"days"`

	Attempts int `json:"attempts"`
	Lines    int `json:"lines"`    // of the log that said something of a peer
	Sources  int `json:"sources"`  // distinct
	Networks int `json:"networks"` // distinct /24s, and /48s of IPv6
	Names    int `json:"names"`    // distinct
	// Past a bound, which attackers can reach, only the greatest are told apart: the distinct
	// numbers are then at least so many, and rows may lack some attempts, which Rest has.
	Crowded bool `json:"crowded"`

	ByDay     []Day          `json:"by_day"` // every day, oldest first
	ByCountry Table[Country] `json:"by_country"`
	ByNetwork Table[Network] `json:"by_network"`
	BySource  Table[Source]  `json:"by_source"`
	ByName    Table[NameRow] `json:"by_name"`
	ByKind    []Kind         `json:"by_kind"` // all
	Bans      Bans           `json:"bans"`
	Dropped   []Drops        `json:"dropped"` // what each part of the rules kept out
	LetIn     uint64         `json:"let_in_packets"`
	Logins    Logins         `json:"logins"`
	Damaged   int            `json:"damaged_rows"` // of the store; they were left out
}

// Table is the greatest rows, greatest first, and the attempts of all that are not in it.
type Table[R any] struct {
	Rows []R `json:"rows"`
	Rest int `json:"rest_attempts"`
}

// Day is a day of the host's zone.
type Day struct {
	Day      string `json:"day"` // "2006-01-02"
	Attempts int    `json:"attempts"`
	Bans     int    `json:"bans"`
	Logins   int    `json:"logins"`
	Dropped  uint64 `json:"dropped_packets"`
}

// Country is one country's part.
type Country struct {
	Country  string `json:"country"` // ISO code; "": not known
	Attempts int    `json:"attempts"`
	Sources  int    `json:"sources"`
	Bans     int    `json:"bans"`
}

// Network is what a /24 or an IPv6 /48 did.
type Network struct {
	Prefix   netip.Prefix `json:"prefix"`
	Country  string       `json:"country"`
	Attempts int          `json:"attempts"`
	Sources  int          `json:"sources"`
	Bans     int          `json:"bans"` // of prefixes within it
}

// Source is what one source did, as the guard tells sources apart: an address, an IPv6 /64.
type Source struct {
	Prefix   netip.Prefix `json:"prefix"`
	Country  string       `json:"country"`
	Attempts int          `json:"attempts"`
	Bans     int          `json:"bans"`
}

// NameRow is a user name that was tried; "" is all attempts without one.
type NameRow struct {
	User     string `json:"user"`
	Attempts int    `json:"attempts"`
}

// Kind is a kind of message (docs/kinds.md).
type Kind struct {
	Kind     string `json:"kind"`
	Lines    int    `json:"lines"`
	Attempts int    `json:"attempts"`
}

// Bans are the bans that began.
type Bans struct {
	Count      int      `json:"count"`
	Prefixes   int      `json:"prefixes"` // distinct
	Repeated   int      `json:"repeated"` // bans of a prefix that had been banned before
	WithoutEnd int      `json:"without_end"`
	Lifted     int      `json:"lifted"` // by hand
	ByCause    []Cause  `json:"by_cause"`
	Reaction   Reaction `json:"reaction"`
	Top        []Banned `json:"top"` // banned most often
}

// Cause is how many bans had a cause.
type Cause struct {
	Cause string `json:"cause"`
	Bans  int    `json:"bans"`
}

// Reaction is the time from the first failure that was seen of a source to its ban.
type Reaction struct {
	Bans   int           `json:"bans"` // of how many bans it is known
	Median time.Duration `json:"median_ns"`
	P90    time.Duration `json:"p90_ns"` // nine in ten were no slower
}

// Banned is a prefix that was banned.
type Banned struct {
	Prefix   netip.Prefix `json:"prefix"`
	Country  string       `json:"country"`
	Bans     int          `json:"bans"`
	Attempts int          `json:"attempts"` // that brought them
	Last     time.Time    `json:"last"`
}

// Drops is what a part of the rules kept out.
type Drops struct {
	By      string `json:"by"` // one of the By words
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// What keeps packets out.
const (
	ByBans     = "bans"
	ByCountry  = "country"  // the list of countries
	ByRate     = "rate"     // too many new connections from one source
	ByExposure = "exposure" // SSH is not for everybody
	ByOther    = "other"    // fragments, broken packets, all that lockdown closes
)

// Logins are the logins, by person and place.
type Logins struct {
	Count int     `json:"count"`
	Rows  []Login `json:"rows"`
	Rest  int     `json:"rest"` // logins that are in no row
}

// Login is how often somebody logged in from a country.
type Login struct {
	User      string     `json:"user"`
	Country   string     `json:"country"` // "": not known
	Logins    int        `json:"logins"`
	Addresses int        `json:"addresses"` // distinct
	Last      *time.Time `json:"last"`      // null: not known
}

// RepeatRate is the share of bans that were not the first of their prefix.
func (b Bans) RepeatRate() float64 {
	if b.Count == 0 {
		return 0
	}
	return float64(b.Repeated) / float64(b.Count)
}

// DroppedPackets is what was kept out in all.
func (r Report) DroppedPackets() (n uint64) {
	for _, d := range r.Dropped {
		n += d.Packets
	}
	return n
}
