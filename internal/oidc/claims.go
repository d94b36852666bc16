package oidc

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxSubject = 255 // section 2 of OpenID Connect Core
	maxPerson  = 320 // an address: 64, @, 255
	maxGroup   = 200
	maxGroups  = 500
)

// claims are what a provider says about somebody.
type claims map[string]json.RawMessage

func (c claims) has(name string) bool {
	v, ok := c[name]
	return ok && string(v) != "null"
}

// text is a claim that is a string.
func (c claims) text(name string) (string, bool) {
	var s *string
	if json.Unmarshal(c[name], &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

// yes is a claim that is true; some providers write it as a string.
func (c claims) yes(name string) bool {
	v := string(c[name])
	return v == `true` || v == `"true"`
}

// lack reports whether claims are missing that say who somebody is.
func (c claims) lack(cfg Config) bool {
	return !c.has(cfg.PersonClaim) || cfg.PersonClaim == "email" && !c.has("email_verified") ||
		cfg.GroupsClaim != "" && !c.has(cfg.GroupsClaim) && !c.elsewhere(cfg.GroupsClaim)
}

// fill takes over what is missing. An address and whether it is verified go together.
func (c claims) fill(more claims) {
	if more.has("email") && (!c.has("email") || !c.has("email_verified")) {
		delete(c, "email")
		delete(c, "email_verified")
	} else {
		more = maps.Clone(more)
		delete(more, "email")
		delete(more, "email_verified")
	}
	for name, v := range more {
		if !c.has(name) {
			c[name] = v
		}
	}
}

// elsewhere reports whether a claim is to be fetched from another place (section 5.6.2): so
// some tell of people in very many groups.
func (c claims) elsewhere(name string) bool {
	var names map[string]json.RawMessage
	return json.Unmarshal(c["_claim_names"], &names) == nil && names[name] != nil
}

// groups is a claim that is a string or a list of strings. Without it there are none; one that
// is something else says nothing for certain.
func (c claims) groups(name string) ([]string, error) {
	if !c.has(name) {
		if c.elsewhere(name) {
			return nil, refuse(BadGroups, "claim %q is too long for the provider to tell", name)
		}
		return nil, nil
	}
	var groups []string
	if one, ok := c.text(name); ok {
		groups = []string{one}
	} else {
		var list []*string
		if json.Unmarshal(c[name], &list) != nil || slices.Contains(list, nil) {
			return nil, refuse(BadGroups, "claim %q is neither a string nor a list of strings", name)
		}
		if len(list) > maxGroups {
			return nil, refuse(BadGroups, "claim %q has %d groups, more than %d", name, len(list), maxGroups)
		}
		for _, g := range list {
			groups = append(groups, *g)
		}
	}
	for _, g := range groups {
		if !presentable(g, maxGroup) {
			return nil, refuse(BadGroups, "claim %q has a group that is empty, has control characters or is longer than %d characters", name, maxGroup)
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

// presentable reports whether a text can name something: not empty, of printable characters, and
// neither begun nor ended by a space.
func presentable(s string, most int) bool {
	return s != "" && len(s) <= most*utf8.UTFMax && utf8.RuneCountInString(s) <= most && utf8.ValidString(s) &&
		!strings.ContainsRune(s, utf8.RuneError) && // what JSON has of no character
		strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
