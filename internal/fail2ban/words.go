package fail2ban

import (
	"fmt"
	"strconv"
	"strings"
)

// isTrue is a boolean as fail2ban reads one: what is not yes is no.
func isTrue(s string) bool {
	switch strings.ToLower(s) {
	case "1", "on", "true", "yes":
		return true
	}
	return false
}

// splitWords splits at spaces, commas and line ends.
func splitWords(s string) []string {
	res := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' })
	var words []string
	for _, w := range res {
		if w = trim(w); w != "" {
			words = append(words, w)
		}
	}
	return words
}

// call is a filter or an action with its parameters: sshd[mode=aggressive].
type call struct {
	name       string
	parameters map[string]string
}

// parseCall reads one: NAME[a=b, c="d", e='f'][g=h].
func parseCall(s string) (call, error) {
	name, rest, found := strings.Cut(s, "[")
	c := call{trim(name), map[string]string{}}
	if c.name == "" {
		return c, fmt.Errorf("%s has no name", quote(s))
	}
	if !found {
		return c, nil
	}
	wrong := func() (call, error) { return c, fmt.Errorf("%s is not written as name[key=value, ...]", quote(s)) }
	rest = strings.TrimRightFunc(rest, isSpace)
	if !strings.HasSuffix(rest, "]") {
		return wrong()
	}
	rest = rest[:len(rest)-1]
	for {
		if rest = strings.TrimLeftFunc(rest, isSpace); rest == "" || rest == "," {
			return c, nil
		}
		key, after, found := strings.Cut(rest, "=")
		if !found || key == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != "" {
			return wrong()
		}
		var value string
		if after != "" && (after[0] == '"' || after[0] == '\'') && strings.IndexByte(after[1:], after[0]) >= 0 {
			value, rest, _ = strings.Cut(after[1:], after[:1])
		} else {
			n := strings.IndexAny(after, ",]")
			if n < 0 {
				n = len(after)
			}
			value, rest = after[:n], after[n:]
		}
		c.parameters[key] = trim(value)
		switch {
		case rest == "":
			return c, nil
		case rest[0] == ',':
			rest = rest[1:]
		default: // ][ begins another group
			next := strings.TrimLeftFunc(strings.TrimPrefix(rest, "]"), isSpace)
			if rest[0] != ']' || !strings.HasPrefix(next, "[") {
				return wrong()
			}
			rest = next[1:]
		}
	}
}

// splitCalls splits several, which stand on lines of their own or behind each other: at spaces
// that are in no brackets, which may stand after a space themselves.
func splitCalls(s string) []string {
	var res []string
	var b strings.Builder
	inside, gap, quoted := false, false, rune(0)
	for _, r := range s {
		switch {
		case quoted != 0:
			if r == quoted {
				quoted = 0
			}
		case inside && (r == '"' || r == '\''):
			quoted = r
		case r == '[':
			inside = true
		case r == ']':
			inside = false
		case !inside && isSpace(r):
			gap = true
			continue
		}
		if gap && r != '[' && b.Len() > 0 {
			res = append(res, b.String())
			b.Reset()
		}
		gap = false
		b.WriteRune(r)
	}
	if b.Len() > 0 {
		res = append(res, b.String())
	}
	return res
}

// parsePorts reads ports as iptables takes them: ssh, numbers, ranges with a colon or, as in
// nftables, a hyphen. ok is false where one is not known; all is true where there is no limit.
func parsePorts(s string) (ports []uint16, all, ok bool) {
	for _, w := range splitWords(s) {
		if strings.EqualFold(w, "ssh") {
			ports = append(ports, 22)
			continue
		}
		first, last, isRange := strings.Cut(strings.ReplaceAll(w, "-", ":"), ":")
		if !isRange {
			last = first
		}
		if first == "" {
			first = "0"
		}
		if last == "" {
			last = "65535"
		}
		a, errA := strconv.ParseUint(first, 10, 16)
		b, errB := strconv.ParseUint(last, 10, 16)
		switch {
		case errA != nil || errB != nil || a > b || b == 0:
			return nil, false, false
		case a <= 1 && b == 65535:
			return nil, true, true
		case b-a >= 15:
			return nil, false, false
		}
		for p := max(a, 1); p <= b; p++ {
			ports = append(ports, uint16(p))
		}
	}
	return ports, false, len(ports) > 0
}
