// Package securitygroup speaks to Amazon EC2: security groups, their rules and the tags
// that say whose they are, managed prefix lists, and the instances behind a group. It is
// the only package that imports the AWS SDK. A mechanism: it decides nothing, and changes
// only what it is told to by id.
//
// What a rule of ours is, and until when, is written in its own tags and nowhere else
// (tags.go), so that whoever reads the group knows what to do with it.
package securitygroup

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"sekisho/internal/printable"
)

// Place is an account and a region: where a group is looked for. It is comparable.
type Place struct {
	Account string `json:"account"` // by its name in the configuration; "": the environment's
	Region  string `json:"region"`
}

func (p Place) String() string {
	if p.Account == "" {
		return p.Region
	}
	return p.Account + " " + p.Region
}

// Compare orders places by account and region.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Account, q.Account), cmp.Compare(p.Region, q.Region))
}

// Source is whom a rule lets in. Exactly one of the fields is set.
type Source struct {
	Prefix     netip.Prefix `json:"prefix,omitzero"`       // masked
	PrefixList string       `json:"prefix_list,omitempty"` // pl-...
	Group      string       `json:"group,omitempty"`       // sg-...: whoever is in that group
}

func (s Source) String() string {
	switch {
	case s.Prefix.IsValid():
		return printable.Prefix(s.Prefix)
	case s.PrefixList != "":
		return s.PrefixList
	}
	return s.Group
}

// Permission is what a rule lets in.
type Permission struct {
	Protocol string // "tcp", "udp", "icmp", "icmpv6", "-1": all, or a number
	From, To int    // ports; -1: all of them
	Source   Source
}

// TCP is the permission for one port.
func TCP(port uint16, source Source) Permission {
	return Permission{Protocol: "tcp", From: int(port), To: int(port), Source: source}
}

// Opens reports whether p lets anybody in to a TCP port.
func (p Permission) Opens(port uint16) bool {
	if p.Protocol == "-1" {
		return true
	}
	return (p.Protocol == "tcp" || p.Protocol == "6") && (p.From == -1 || p.From <= int(port) && int(port) <= p.To)
}

// Ports is the ports and protocol for people: 22/tcp, 8000-8100/udp, all.
func (p Permission) Ports() string {
	switch {
	case p.Protocol == "-1":
		return "all"
	case p.From == -1:
		return p.Protocol
	case p.From == p.To:
		return fmt.Sprintf("%d/%s", p.From, p.Protocol)
	}
	return fmt.Sprintf("%d-%d/%s", p.From, p.To, p.Protocol)
}

// String is whom p lets in, and to what: "203.0.113.7/32 22/tcp". It is fit for a tag.
func (p Permission) String() string {
	source := p.Source.String()
	if p.Source.Prefix.IsValid() {
		source = p.Source.Prefix.String()
	}
	return source + " " + p.Ports()
}

// Rule is one inbound rule of a group, as it was read. Its texts are others' words.
type Rule struct {
	ID    string // sgr-...
	Group string // sg-...
	Permission
	Description string
	Tags        map[string]string // all of them, others' too
}

// Group is a security group.
type Group struct {
	ID, Name, VPC, Owner string // Owner: the account's number
	Tags                 map[string]string
}

// Instance is a machine behind a group.
type Instance struct {
	ID, Name, State string
	Groups          []string
}

// PrefixList is a managed prefix list.
type PrefixList struct {
	ID, Name, Owner string
	Family          int // 4 or 6
	Max             int // entries it may hold: what it costs a group of its quota of rules
	Version         int64
	State           string // as EC2 says: "create-complete", "modify-in-progress", ...
	Tags            map[string]string
	Entries         []Entry // nil where they were not asked for
}

// Entry is one prefix of a list.
type Entry struct {
	Prefix      netip.Prefix
	Description string
}

// Describe makes a text fit for a rule's description, which takes at most 255 of a few
// characters: all others become "-".
func Describe(s string) string {
	const allowed = " ._-:/()#,@[]+=&;{}!$*"
	s = strings.Map(func(r rune) rune {
		switch {
		case r < 0x80 && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune(allowed, r)):
			return r
		}
		return '-'
	}, s)
	return s[:min(len(s), 255)]
}
