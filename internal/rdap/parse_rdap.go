package rdap

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"sekisho/internal/notify"
)

// Bounds of a document.
const (
	maxDepth    = 32  // of JSON; a network with its people takes 10
	maxEntities = 200 // that are looked at
)

// ipNetwork is what we read of RFC 9083's "ip network", with the extensions cidr0, arin_originas0, and
// those of LACNIC and NIC.br.
type ipNetwork struct {
	Class   string   `json:"objectClassName"`
	Name    string   `json:"name"`
	Handle  string   `json:"handle"`
	First   string   `json:"startAddress"`
	Last    string   `json:"endAddress"`
	Country string   `json:"country"`
	CIDRs   []cidr0  `json:"cidr0_cidrs"`
	People  []entity `json:"entities"`
	Remarks []remark `json:"remarks"`

	ARINOrigins  []uint32 `json:"arin_originas0_originautnums"`
	LACNICOrigin []string `json:"lacnic_originAutnum"`
	NICBROrigin  uint32   `json:"nicbr_autnum"`
}

type cidr0 struct {
	V4     string `json:"v4prefix"`
	V6     string `json:"v6prefix"`
	Length int    `json:"length"`
}

type remark struct {
	Title string   `json:"title"`
	Text  []string `json:"description"`
}

type entity struct {
	Handle string            `json:"handle"`
	Roles  []string          `json:"roles"`
	Card   []json.RawMessage `json:"vcardArray"` // RFC 7095: "vcard", then its properties
	People []entity          `json:"entities"`
}

// parseRDAP reads the answer to the question whose a is. What is not as it should be is left out; it
// has to be a network that has a.
func parseRDAP(text []byte, a netip.Addr) (notify.Owner, error) {
	if depthOf(text) > maxDepth {
		return notify.Owner{}, fmt.Errorf("its JSON is nested more than %d deep", maxDepth)
	}
	var n ipNetwork
	if err := json.Unmarshal(text, &n); err != nil {
		// A member of another type than it should have is left out, and the rest is read.
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok {
			return notify.Owner{}, fmt.Errorf("read its JSON: %w", err)
		}
	}
	if n.Class != "ip network" {
		return notify.Owner{}, fmt.Errorf("it answers with the object %.40q, which is no network", n.Class)
	}
	p := n.prefix(a)
	if !isHolding(p, a) {
		return notify.Owner{}, fmt.Errorf("it answers with the network %.50q to %.50q, which is nobody's that has %s: %w", n.First, n.Last, a, ErrUnknown)
	}
	walk := walk{}
	walk.all(n.People)
	if walk.stock {
		return notify.Owner{}, fmt.Errorf("it answers with the network %.50q, which is another registry's: %w", n.Name, ErrUnknown)
	}
	return notify.Owner{
		Name:    cmp.Or(line(walk.organisation), line(walk.registrant), line(n.described())),
		Network: cmp.Or(line(n.Name), line(n.Handle)),
		Prefix:  p,
		ASN:     n.origin(),
		Country: cmp.Or(countryOf(n.Country), walk.country),
		Abuse:   walk.abuse,
	}, nil
}

// prefix is the network, or its part that has a.
func (n *ipNetwork) prefix(a netip.Addr) netip.Prefix {
	for _, c := range n.CIDRs {
		first, err := netip.ParseAddr(cmp.Or(c.V4, c.V6))
		if err != nil {
			continue
		}
		if p := netip.PrefixFrom(first, c.Length).Masked(); p.IsValid() && p.Contains(a) {
			return p
		}
	}
	first, err := netip.ParseAddr(n.First)
	if err != nil {
		return netip.Prefix{}
	}
	last, err := netip.ParseAddr(n.Last)
	if err != nil {
		return netip.Prefix{}
	}
	return partWith(first, last, a)
}

func (n *ipNetwork) origin() uint32 {
	if len(n.ARINOrigins) > 0 {
		return n.ARINOrigins[0]
	}
	if len(n.LACNICOrigin) > 0 {
		return asnOf(n.LACNICOrigin[0])
	}
	return n.NICBROrigin
}

// described is APNIC's description (whois's descr), which names the holder where there is no organisation.
func (n *ipNetwork) described() string {
	for _, r := range n.Remarks {
		if strings.EqualFold(r.Title, "description") && len(r.Text) > 0 {
			return r.Text[0]
		}
	}
	return ""
}

// walk gathers what is said of the people of a network.
type walk struct {
	seen         int
	organisation string // a registrant who is one
	registrant   string // any other
	country      string // the first registrant's
	abuse        []string
	stock        bool // another registry is the registrant, as ARIN knows them
}

func (w *walk) all(people []entity) {
	for i := range people {
		if w.seen++; w.seen > maxEntities {
			return
		}
		w.one(&people[i])
	}
	// Those of the network itself come first, then those of its people (ARIN).
	for i := range people {
		if w.seen > maxEntities {
			return
		}
		w.all(people[i].People)
	}
}

func (w *walk) one(e *entity) {
	var registrant, abuse bool
	for _, role := range e.Roles {
		registrant = registrant || role == "registrant"
		abuse = abuse || role == "abuse"
	}
	if !registrant && !abuse {
		return
	}
	if registrant {
		switch e.Handle {
		case "IANA", "APNIC", "RIPE", "LACNIC", "AFRINIC":
			w.stock = true
		}
	}
	card := readCard(e.Card)
	if abuse {
		for _, m := range card.mails {
			w.abuse = withMail(w.abuse, m)
		}
	}
	// A maintainer is a registrant, too, and is named as its handle (RIPE).
	if !registrant || card.name == "" || card.name == e.Handle {
		return
	}
	if w.country == "" {
		w.country = card.country
	}
	if w.registrant == "" {
		w.registrant = card.name
	}
	if w.organisation == "" && card.kind == "org" {
		w.organisation = card.name
	}
}

// card is what we read of a vCard.
type card struct {
	name, kind, country string
	mails               []string
}

// readCard reads a jCard: an array of properties, each an array of a name, parameters, a type and values.
func readCard(raw []json.RawMessage) (c card) {
	if len(raw) < 2 {
		return c
	}
	var properties [][]json.RawMessage
	if json.Unmarshal(raw[1], &properties) != nil {
		return c
	}
	for _, p := range properties {
		if len(p) < 4 {
			continue
		}
		switch strings.ToLower(textOf(p[0])) {
		case "fn":
			if c.name == "" {
				c.name = textOf(p[3])
			}
		case "org":
			if c.name == "" {
				c.name = textOf(p[3])
			}
		case "kind":
			c.kind = textOf(p[3])
		case "email":
			for _, value := range p[3:min(len(p), 3+maxAbuse)] {
				c.mails = append(c.mails, textOf(value))
			}
		case "adr":
			c.country = countryIn(p)
		}
	}
	return c
}

// countryIn is the country of an address: its parameter cc (RFC 8605), or its seventh component,
// where that is a code.
func countryIn(adr []json.RawMessage) string {
	var parameters struct {
		CC string `json:"cc"`
	}
	if json.Unmarshal(adr[1], &parameters) == nil && parameters.CC != "" {
		return countryOf(parameters.CC)
	}
	var components []json.RawMessage
	if json.Unmarshal(adr[3], &components) == nil && len(components) == 7 {
		return countryOf(textOf(components[6]))
	}
	return ""
}

// textOf is a JSON string, or the first of an array of them; "" for anything else.
func textOf(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var all []json.RawMessage
	if json.Unmarshal(raw, &all) == nil && len(all) > 0 && json.Unmarshal(all[0], &s) == nil {
		return s
	}
	return ""
}

// depthOf is how deep arrays and objects are nested; for what is not JSON it is anything.
func depthOf(text []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}
