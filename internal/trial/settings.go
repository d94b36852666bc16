package trial

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sekisho/internal/firewall"
	"sekisho/internal/printable"
)

// Settings is the change from now to next in terms of the configuration file:
// "exposure: public -> fixed", "firewall.open: + 80/tcp". The zero now is a host
// where nothing was confirmed yet: all of next is added. Pure.
func Settings(now, next firewall.Rules) []Change {
	first := now.Mode == ""
	was, will := settings(now), settings(next)
	var changes []Change
	for i, w := range will {
		switch {
		case w.list:
			for _, v := range was[i].values {
				if !slices.Contains(w.values, v) {
					changes = append(changes, Change{Op: Remove, Text: w.key + ": - " + v})
				}
			}
			for _, v := range w.values {
				if !slices.Contains(was[i].values, v) {
					changes = append(changes, Change{Op: Add, Text: w.key + ": + " + v})
				}
			}
		case first:
			changes = append(changes, Change{Op: Add, Text: w.key + ": " + w.values[0]})
		case was[i].values[0] != w.values[0]:
			changes = append(changes, Change{Op: Modify, Text: fmt.Sprintf("%s: %s -> %s", w.key, was[i].values[0], w.values[0])})
		}
	}
	return changes
}

// setting is a key of the configuration file with its value, or its values.
type setting struct {
	key    string
	list   bool
	values []string
}

func one(key, value string) setting        { return setting{key, false, []string{value}} }
func many(key string, v ...string) setting { return setting{key, true, v} }

// settings are the keys that r comes from, the same ones in the same order for any r.
func settings(r firewall.Rules) []setting {
	rate := "no"
	if r.Rate != (firewall.Rate{}) {
		rate = fmt.Sprintf("{per_minute: %d, burst: %d}", r.Rate.PerMinute, r.Rate.Burst)
	}
	return []setting{
		one("firewall.mode", string(r.Mode)),
		one("exposure", string(r.Exposure)),
		many("ssh.port", texts(r.Ports, func(p uint16) string { return strconv.Itoa(int(p)) })...),
		many("admins", texts(r.Admins, printable.Prefix)...),
		many("firewall.countries", r.Countries.Allow...),
		many("firewall.countries.deny", r.Countries.Deny...),
		one("firewall.rate", rate),
		one("firewall.track", yes(!r.NoTrack)),
		one("firewall.ipv6", yes(!r.NoIPv6)),
		many("firewall.open", texts(r.Open, service)...),
		one("firewall.forward", yes(r.Forward)),
	}
}

func texts[T any](list []T, text func(T) string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = text(v)
	}
	return out
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func service(s firewall.Service) string {
	text := s.String()
	if len(s.From) > 0 {
		text += " from " + strings.Join(texts(s.From, printable.Prefix), ", ")
	}
	return text
}
