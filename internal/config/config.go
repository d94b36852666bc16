// Package config owns sekisho.yaml: what it may say, what is so where it says
// nothing, and how its mistakes are told. It reads YAML into raw nodes with
// their places (raw.go), and those, by one table of keys (table.go), into a
// validated Config of plain values. The defaults, the JSON Schema, the example
// and docs/configuration.md come from the same table. A value package: only
// Load and the two WithSecrets touch files (and time, for the rules of zones), and anything
// above may import it.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"sekisho/internal/sshlog"
)

// Version is the version of the configuration file that this program reads.
const Version = 1

// Config is a configuration that was found whole: every value is in its range
// and fits the others. Default and Parse make one; it is not changed afterwards.
type Config struct {
	SSH      SSH
	Exposure Exposure
	Admins   []netip.Prefix // masked, apart from each other; always let in, never banned
	Firewall Firewall
	Country  Country
	Guard    Guard
	Log      Log
	Metrics  Metrics
	AWS      AWS
	People   map[string]Person // by name; nil: none
	Targets  map[string]Target // by name; nil: none
	Gate     Gate
	Notify   Notify
}

// SSH says where sshd listens, and how it is hardened.
type SSH struct {
	Ports   []uint16 // at least one, none twice
	PortSet bool     // the file names them: apply has sshd listen there
	Profile Profile
	// RootLogin and PasswordLogin take the place of what Profile says of them.
	RootLogin     RootLogin
	PasswordLogin PasswordLogin
	// Settings take the place of what Profile says: a keyword as sshd_config(5) spells
	// it, to the rest of the line; AsIs: it is left alone.
	Settings map[string]string
}

// AsIs is a setting that is left as it is, whatever the profile says.
const AsIs = "as_is"

// Profile is a set of sshd's settings.
type Profile string

// The profiles.
const (
	ProfileNone   Profile = "none" // nothing but what is named otherwise
	ProfileBasic  Profile = "basic"
	ProfileStrict Profile = "strict"
)

func (p Profile) String() string { return string(p) }

// RootLogin says whether root may log in.
type RootLogin string

// The choices.
const (
	RootLoginProfile RootLogin = "profile" // as the profile says
	RootLoginNo      RootLogin = "no"
	RootLoginKeys    RootLogin = "keys" // not by a password: sshd's prohibit-password
	RootLoginYes     RootLogin = "yes"
)

func (r RootLogin) String() string { return string(r) }

// PasswordLogin says whether passwords open the door, keyboard-interactive ones too.
type PasswordLogin string

// The choices.
const (
	PasswordLoginProfile PasswordLogin = "profile"
	PasswordLoginNo      PasswordLogin = "no"
	PasswordLoginYes     PasswordLogin = "yes"
)

func (p PasswordLogin) String() string { return string(p) }

// Guard says what is an attack, and what happens then.
type Guard struct {
	Enforce        bool // false: decide and tell only
	Mode           Mode
	MaxRetry       int
	FindTime       time.Duration
	BanTime        time.Duration
	Growth         Growth
	Prefix         PrefixLengths
	Escalate       Escalate
	Ignore         []netip.Prefix // masked; never banned
	SpareSessions  bool
	Known          Known
	Distributed    bool
	Weights        map[sshlog.Kind]int // kinds that differ from the guard's own weights; nil if none
	MaxSources     int
	Drop           Drop
	CutConnections bool
}

// Growth is how bans grow on repeat: ban_time × Factor^(bans before), at most Max.
type Growth struct {
	Factor float64 // at least 1; 1: no growth
	Max    time.Duration
	Forget time.Duration // since the last ban
}

// PrefixLengths are how much of an address makes one source.
type PrefixLengths struct{ IPv4, IPv6 int }

// Escalate is when a whole network is banned.
type Escalate struct {
	Hosts      int // banned sources in it; 0: never
	IPv4, IPv6 int // the network's prefix length, shorter than a source's
	Within     time.Duration
}

// Known is the higher bar for addresses that logged in lately.
type Known struct {
	For      time.Duration // since the last login; 0: no such bar
	MaxRetry int
}

// Log says where sshd's messages are read.
type Log struct {
	Source    Source
	Files     []string // absolute; there if and only if Source is SourceFiles
	Forgeable bool     // take lines without an envelope too
}

// Metrics says where Prometheus may ask.
type Metrics struct {
	Listen netip.AddrPort // loopback; the zero value: nowhere
}

// Mode says which messages count, in the words of fail2ban's sshd filter.
type Mode string

// The modes.
const (
	ModeNormal     Mode = "normal"
	ModeDDoS       Mode = "ddos"
	ModeExtra      Mode = "extra"
	ModeAggressive Mode = "aggressive"
)

func (m Mode) String() string { return string(m) }

// Drop says which of a banned peer's packets are dropped.
type Drop string

// The drops.
const (
	DropAll Drop = "all"
	DropSSH Drop = "ssh"
)

func (d Drop) String() string { return string(d) }

// Source is a kind of log.
type Source string

// The sources.
const (
	SourceAuto     Source = "auto"
	SourceJournald Source = "journald"
	SourceFiles    Source = "files"
	SourceStdin    Source = "stdin"
)

func (s Source) String() string { return string(s) }

const day = 24 * time.Hour

// Default returns what is so where the file says nothing: the safe choice of
// every key.
func Default() *Config {
	return &Config{
		SSH: SSH{
			Ports: []uint16{22}, Profile: ProfileNone,
			RootLogin: RootLoginProfile, PasswordLogin: PasswordLoginProfile,
		},
		Exposure: ExposurePublic,
		Firewall: Firewall{
			Mode:  FirewallGuard,
			Rate:  Rate{PerMinute: 2, Burst: 5},
			Track: true,
			IPv6:  true,
		},
		Country: Country{Source: CountryRegistries, Every: day},
		Guard: Guard{
			Enforce:       true,
			Mode:          ModeAggressive,
			MaxRetry:      5,
			FindTime:      10 * time.Minute,
			BanTime:       time.Hour,
			Growth:        Growth{Factor: 2, Max: 7 * day, Forget: 30 * day},
			Prefix:        PrefixLengths{IPv4: 32, IPv6: 64},
			Escalate:      Escalate{Hosts: 8, IPv4: 24, IPv6: 48, Within: day},
			SpareSessions: true,
			Known:         Known{For: 7 * day, MaxRetry: 20},
			Distributed:   true,
			MaxSources:    1_000_000,
			Drop:          DropAll,
		},
		Log:    Log{Source: SourceAuto},
		AWS:    AWS{AddressServices: []string{"https://checkip.amazonaws.com", "https://api64.ipify.org", "https://icanhazip.com"}},
		Notify: Notify{Language: English, Lookup: true},
	}
}

// Load reads and checks the file at path. An error is Errors: all the file's
// mistakes, or the one that kept it from being read.
func Load(path string) (*Config, error) {
	src, err := read(path)
	if err != nil {
		return nil, Errors{unreadable(path, err)}
	}
	return Parse(path, src)
}

// LoadOrDefault is Load, but a file that does not exist is the default
// configuration, unless it was asked for explicitly.
func LoadOrDefault(path string, explicit bool) (*Config, error) {
	cfg, err := Load(path)
	if !explicit && errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	return cfg, err
}

// read reads at most a little more than a configuration may have, so that a
// device or a log given by mistake costs nothing.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}

func unreadable(path string, err error) *Error {
	e := &Error{File: path, Message: "cannot be read", cause: err}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		e.Message = fmt.Sprintf("cannot be read: %v", p.Err)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Hint = "name another with --config FILE, or begin one with the line `version: 1`: every other key has a default"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "run this as root"
	}
	return e
}

// Parse checks src; name is what its errors call it. An error is Errors, all
// mistakes by place. It never panics, and its cost is bounded, whatever src is.
func Parse(name string, src []byte) (*Config, error) {
	src = plain(src)
	cfg := Default()
	d := &decoder{places: map[string]place{}, bad: map[string]bool{}}
	if root := readRaw(&d.mistakes, src); root != nil {
		d.document(cfg, root)
	}
	if err := d.errors(name, src); err != nil {
		return nil, err
	}
	return cfg, nil
}
