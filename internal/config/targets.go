package config

import (
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of what is named of targets.
const (
	maxTargets = 1000
	maxHosts   = 16
	maxAllow   = 100

	atMostMin = time.Minute
	atMostMax = 30 * day
	reapMin   = 10 * time.Second
	reapMax   = time.Hour
)

// newTarget is what is so of a target where nothing is said.
func newTarget(name string) Target {
	return Target{
		AWS:      TargetAWS{Via: ViaRules},
		Host:     []string{strings.ToLower(name)},
		Port:     22,
		Exposure: ExposureOnRequest,
		AtMost:   8 * time.Hour,
		Close:    CloseAfterConnect,
		IPv6:     128,
	}
}

func (t *Target) table() group {
	const nameOfAccount = "name of one of `aws.accounts`; may be left out where there is one at most"
	return group{
		{"aws", "The security group that is the door.", group{
			{"account", "The account that the group is in.", word{p: &t.AWS.Account, form: nameForm("the name of an account", nameOfAccount, "prod")}},
			{"region", "The region that the group is in.", word{p: &t.AWS.Region, form: region("region; must be there with `aws`"), needed: true}},
			{"group", "The group. Its rules that are not sekisho's stay as they are.", word{p: &t.AWS.Group, form: securityGroup(), needed: true}},
			{"via", "How fixed addresses get into the group. `rules`: a rule for each. `prefix_list`: one rule that names a managed prefix list.",
				choice[Via]{&t.AWS.Via, []Via{ViaRules, ViaPrefixList}}},
		}},
		{"agent", "A host that runs sekisho, by the name that it was enrolled with at the gate: its own firewall is the door, in place of `aws`. Who is always let in there, " +
			"its own `admins` say; `fixed` of people says nothing of it.", word{p: &t.Agent, form: nameForm("the name of a host", "name of an enrolled host, or `\"\"`: the door is at AWS", "web-1")}},
		{"host", "What ssh calls the host behind the door, in small letters; of several the first is connected to. Left out, the target's own name.",
			words{p: &t.Host, form: hostForm(), max: maxHosts, alone: true}},
		{"port", "The port that the door is for; `ssh.port` is this host's own, and says nothing of it.", port{&t.Port}},
		{"exposure", "`fixed`: open to the fixed addresses of those that `allow` names, and to nobody else. `on_request`: they can also have it opened from elsewhere.",
			targetExposure{choice[Exposure]{&t.Exposure, []Exposure{ExposureFixed, ExposureOnRequest}}}},
		{"allow", "Whom it is opened for. `at_most`, `hours`, `reason` and `approval` take the place of the target's for these people.", allowed{&t.Allow}},
		{"at_most", "The longest that one request opens it for. Asking again extends.", duration{&t.AtMost, atMostMin, atMostMax}},
		{"hours", "When it may be opened on request. None: always.", hours{&t.Hours}},
		{"reason", "Whether who asks must say why.", boolean{&t.Reason}},
		{"approval", "Whose yes it needs: of one of these people, or of these groups; nobody's own. It is asked for through the gate.", approvers{p: &t.Approval}},
		{"break_glass", "Who of those that `allow` names may open it at once in an emergency, without `approval` and outside `hours`, for no longer than `at_most`. " +
			"They must say why, and everybody is told.",
			words{p: &t.BreakGlass, form: nameForm("the name of a group or a person", "list of groups and people", "ops"), max: maxAllow}},
		{"close", "When it is shut after it was opened to connect. `after_connect`: as soon as the connection is there; the session lives on. `at_exit`: when the session ends.",
			choice[CloseMode]{&t.Close, []CloseMode{CloseAfterConnect, CloseAtExit}}},
		{"ipv6", "How much is let in for somebody who asks over IPv6: the address alone, or the /64 that it changes within.", prefixLength{&t.IPv6}},
	}
}

// hostPattern is a name as DNS and ssh_config(5) have it, in small letters.
var hostPattern = regexp.MustCompile(`^[a-z0-9_]([a-z0-9._-]{0,251}[a-z0-9_])?$`)

// hostForm is a name or an address, as ssh hands it to a ProxyCommand: in small letters.
func hostForm() form {
	return form{
		what: "a name or an address", grammar: "name or address, or a list of them", example: "web.example.com", pattern: `[A-Za-z0-9_:][A-Za-z0-9._:-]*`,
		read: func(n *node) (value, hint, wrong string) {
			if a, err := netip.ParseAddr(n.text); err == nil {
				if a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() {
					return "", "write it like web.example.com, 203.0.113.7 or 2001:db8::1", quote(n.text) + " is no address to connect to"
				}
				return a.String(), "", ""
			}
			s := strings.ToLower(n.text)
			switch before, after, found := strings.Cut(s, ":"); {
			case hostPattern.MatchString(s):
				return s, "", ""
			case strings.Contains(s, "@"):
				return "", "leave out who logs in: that is ssh's to know", quote(n.text) + " is no host"
			case strings.Trim(s, "0123456789abcdef:./") != "" && found && hostPattern.MatchString(before) && after != "":
				return "", "write the port as port:", quote(n.text) + " is no host"
			default:
				return "", "write it like web.example.com, 203.0.113.7 or 2001:db8::1", quote(n.text) + " is no host"
			}
		},
	}
}

// port is one port.
type port struct{ p *uint16 }

func (v port) number(p *int) number { return number{p: p, min: 1, max: math.MaxUint16} }
func (v port) text() string         { return strconv.Itoa(int(*v.p)) }
func (v port) grammar() string      { return v.number(nil).grammar() }

func (v port) schema() object {
	p := int(*v.p)
	return v.number(&p).schema()
}

func (v port) decode(d *decoder, path string, n *node) {
	p := int(*v.p)
	if v.number(&p).decode(d, path, n); !d.bad[path] {
		*v.p = uint16(p)
	}
}

// targetExposure is a choice that is also asked for what it has not.
type targetExposure struct{ choice[Exposure] }

func (v targetExposure) decode(d *decoder, path string, n *node) {
	if n.kind == scalar && n.text == ExposurePublic.String() {
		d.refuse(path, n.place, "open the group to everybody by hand, if that is meant, and leave the target out; what protects the host then is sekisho on it: its exposure, firewall and guard",
			"a target is never public")
		return
	}
	v.choice.decode(d, path, n)
}

// prefixLength is how much of an IPv6 address is let in.
type prefixLength struct{ p *int }

func (v prefixLength) text() string    { return strconv.Itoa(*v.p) }
func (v prefixLength) grammar() string { return "`128` or `64`" }
func (v prefixLength) schema() object  { return object{"enum": []int{128, 64}, "default": *v.p} }

func (v prefixLength) decode(d *decoder, path string, n *node) {
	if !unquoted(d, path, n, "128 or 64", v.text()) {
		return
	}
	switch strings.TrimPrefix(n.text, "/") {
	case "128":
		*v.p = 128
	case "64":
		*v.p = 64
	default:
		d.refuse(path, n.place, "write 128 for the one address, or 64 for the network that it changes within", "%s is no length that is taken here", quote(n.text))
	}
}

// allowed is whom a target is opened for.
type allowed struct{ p *[]Allow }

func (v allowed) text() string { return flow(*v.p, allowText) }

// allowText is one item of allow.
func allowText(a Allow) string {
	fresh := Allow{Who: a.Who}
	if text := a.limits().changed(fresh.limits()); text != "{}" {
		return "{who: " + settingText(a.Who) + ", " + strings.TrimPrefix(text, "{")
	}
	return settingText(a.Who)
}

func (a *Allow) limits() group {
	return group{
		{name: "at_most", value: ownLimit{duration{&a.AtMost, atMostMin, atMostMax}}},
		{name: "hours", value: hours{&a.Hours}},
		{name: "reason", value: ownYes{&a.Reason}},
		{name: "approval", value: approvers{&a.Approval, &a.Unapproved}},
	}
}

// ownLimit is a duration that takes the place of the target's.
type ownLimit struct{ duration }

func (v ownLimit) decode(d *decoder, path string, n *node) {
	if n.kind == absent {
		d.refuse(path, n.place, "write one, or leave the key out: it is the target's then", "there is no value; want a duration")
		return
	}
	v.duration.decode(d, path, n)
}

// ownYes is a yes or no that takes the place of the target's.
type ownYes struct{ p **bool }

func (v ownYes) text() string {
	if *v.p == nil {
		return ""
	}
	return boolean{*v.p}.text()
}

func (v ownYes) grammar() string { return boolean{}.grammar() }

func (v ownYes) schema() object {
	s := boolean{new(bool)}.schema()
	delete(s, "default") // the target's
	return s
}

func (v ownYes) decode(d *decoder, path string, n *node) {
	if n.kind == absent {
		d.refuse(path, n.place, "write one, or leave the key out: it is the target's then", "there is no value; want yes or no")
		return
	}
	says := new(bool)
	if (boolean{says}).decode(d, path, n); !d.bad[path] {
		*v.p = says
	}
}

// approvers are people and groups, or no: nobody need say yes. Where none is set, it takes
// the place of the target's, and says that.
type approvers struct {
	p    *[]string
	none *bool
}

func (v approvers) words() words {
	return words{p: v.p, form: nameForm("the name of a group or a person", "name of a group or a person, or a list of them, or `no`", "ops"), max: maxAllow, alone: true}
}

func (v approvers) text() string {
	switch {
	case len(*v.p) > 0:
		return v.words().text()
	case v.none != nil && !*v.none:
		return ""
	}
	return "no"
}

func (v approvers) grammar() string { return v.words().grammar() }

func (v approvers) schema() object {
	return object{"anyOf": []any{object{"enum": []any{false, "no", "off"}}, v.words().schema()}}
}

func (v approvers) decode(d *decoder, path string, n *node) {
	const whose = "say whose: approval: ops; or write no"
	switch {
	case n.kind == scalar && !n.quoted && slices.Contains(no[:], n.text):
		*v.p = nil
		if v.none != nil {
			*v.none = true
		}
	case n.kind == scalar && !n.quoted && slices.Contains(yes[:], n.text):
		d.refuse(path, n.place, whose+"; a name that is a word of YAML's needs quotes", "%s is nobody's name", quote(n.text))
	case n.kind == absent, n.kind == list && len(n.items) == 0:
		d.refuse(path, n.place, whose, "names nobody")
	default:
		v.words().decode(d, path, n)
	}
}

func (v allowed) grammar() string {
	return "list of groups and people, as `[ops]`; with limits of their own: `{who: ops, at_most: 1h, hours: \"mon-fri 09:00-18:00 Asia/Tokyo\", reason: yes, approval: leads}`"
}

func (v allowed) schema() object {
	who := object{"type": "string", "pattern": "^" + namePattern + "$"}
	var a Allow
	limits := a.limits()
	properties := object{"who": who}
	for _, k := range limits {
		properties[k.name] = k.value.schema()
	}
	delete(properties["at_most"].(object), "default") // the target's
	limited := object{"type": "object", "additionalProperties": false, "required": []string{"who"}, "properties": properties}
	return object{"type": []string{"array", "null"}, "items": object{"anyOf": []any{who, limited}}, "maxItems": maxAllow}
}

func (v allowed) decode(d *decoder, path string, n *node) {
	items := itemsOf(d, path, n, "ops")
	if len(items) > maxAllow {
		d.refuse(path, items[maxAllow].place, "put them into a group", "more than %d", maxAllow)
		return
	}
	var res []Allow
	first := map[string]place{}
	for i, item := range items {
		at := itemPath(path, i)
		d.places[at] = item.place
		var a Allow
		who := word{p: &a.Who, form: nameForm("the name of a group or a person", "", "ops"), needed: true}
		if item.kind == mapping {
			d.group(at, append(group{{name: "who", value: who}}, a.limits()...), item)
			if _, named := d.places[join(at, "who")]; !named && !d.bad[join(at, "who")] {
				d.refuse(at, item.place, "write it like {who: ops, at_most: 1h}", "who is missing")
			}
		} else {
			who.decode(d, at, item)
		}
		if a.Who == "" {
			d.bad[path] = true
			continue
		}
		if before, twice := first[a.Who]; twice {
			d.refuse(path, item.place, "keep one; the first is on line "+strconv.Itoa(before.line), "%s is there twice", quote(a.Who))
			continue
		}
		first[a.Who] = item.place
		res = append(res, a)
	}
	if !d.bad[path] {
		*v.p = res
	}
}
