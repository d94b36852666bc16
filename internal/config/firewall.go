package config

import (
	"net/netip"
	"time"
)

// Exposure says who may reach SSH at all.
type Exposure string

// The exposures, strongest first.
const (
	ExposureFixed     Exposure = "fixed"      // Admins only
	ExposureOnRequest Exposure = "on_request" // Admins, and whoever holds a live grant
	ExposurePublic    Exposure = "public"     // everyone in the countries let in, at a limited rate
)

func (e Exposure) String() string { return string(e) }

// FirewallMode is how much of the host the firewall is about.
type FirewallMode string

// The modes.
const (
	FirewallGuard    FirewallMode = "guard"    // SSH only; lives beside other firewalls
	FirewallLockdown FirewallMode = "lockdown" // the whole host: default drop
)

func (m FirewallMode) String() string { return string(m) }

// Firewall says what is let in, but for Exposure and Admins.
type Firewall struct {
	Mode      FirewallMode
	Open      []Service // by protocol and port; only in lockdown
	Countries Countries // plays its part where the exposure is public
	Rate      Rate      // the same
	Track     bool      // false: SSH without conntrack
	IPv6      bool      // false: IPv6 is dropped for SSH
	Forward   bool      // lockdown: leave what is forwarded alone
}

// Service is a port, or a range of them, that lockdown leaves open.
type Service struct {
	Proto       string         // tcp or udp
	First, Last uint16         // equal for one port; never 0
	From        []netip.Prefix // masked, sorted, apart from each other; none: from anywhere
}

// Countries says from which countries SSH may be reached: codes of ISO 3166-1, in
// capitals, sorted, none twice. At most one of the two is set.
type Countries struct{ Allow, Deny []string }

// Rate is how many new connections one source may make. The zero value: no limit.
type Rate struct{ PerMinute, Burst int }

// Country says where the country data comes from.
type Country struct {
	Source CountrySource
	URLs   []string      // mirrors, https; there if and only if Source is not CountryRegistries
	Every  time.Duration // between two looks; 0: never
}

// CountrySource is a kind of country data.
type CountrySource string

// The sources.
const (
	CountryRegistries CountrySource = "registries"
	CountryList       CountrySource = "list"
	CountryCSV        CountrySource = "csv"
	CountryMMDB       CountrySource = "mmdb"
)

func (s CountrySource) String() string { return string(s) }

// Files are the files that the data consists of, each with its mirrors in order:
// a URL stands for as many files as it has words in braces.
func (c Country) Files() [][]string {
	var files [][]string
	for _, u := range c.URLs {
		for i, part := range expand(u) {
			if i == len(files) {
				files = append(files, nil)
			}
			files[i] = append(files[i], part)
		}
	}
	return files
}
