package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checkGate notes the mistakes that are between the keys of gate, and between these and
// people.
func (d *decoder) checkGate(c *Config) {
	s := c.Gate.Serve
	if s == nil {
		return
	}
	const at = "gate.serve"
	d.rule(c.Gate.URL == "", "name it: url: https://gate.example.com, or http://localhost:8022 to try it on this machine",
		"gate.serve is there, but not gate.url: what do browsers call the gate?", "gate.url", at)
	d.rule(s.Cert != "" && s.Key == "", "name the file of the private key, too: key: /etc/sekisho/gate.key",
		at+".tls.key is missing", at+".tls.key", at+".tls.cert", at+".tls", at)
	d.rule(s.Cert == "" && s.Key != "", "name the file of the certificate, too: cert: /etc/sekisho/gate.crt",
		at+".tls.cert is missing", at+".tls.cert", at+".tls.key", at+".tls", at)
	for i, a := range s.Listen {
		d.rule(!a.Addr().IsLoopback() && s.Cert == "" && s.Key == "" && len(s.Proxies) == 0,
			"name tls: {cert: FILE, key: FILE}, or the proxies that speak TLS in front: proxies: [10.0.0.7]",
			fmt.Sprintf("%s.listen: %s can be reached from outside, and nothing there speaks TLS", at, a),
			itemPath(at+".listen", i), at+".listen", at+".tls", at+".tls.cert", at+".tls.key", at+".proxies", at)
	}
	d.rule(s.Forwarded != ForwardedNo && len(s.Proxies) == 0, "name those that set it: proxies: [10.0.0.7]; anybody could say that they come from anywhere otherwise",
		at+".forwarded is "+s.Forwarded.String()+", but "+at+".proxies names nobody", at+".forwarded", at+".proxies", at)
	d.rule(s.Forwarded == ForwardedNo && len(s.Proxies) > 0, "say by which header they tell whom they speak for: forwarded: x_forwarded_for",
		at+".proxies would be believed nothing: "+at+".forwarded is no", at+".proxies", at+".forwarded", at)
	d.rule(s.Database != "" && s.DatabaseFile != "", "keep one",
		at+".database and "+at+".database_file are both there", at+".database_file", at+".database", at)
	a := s.Addresses
	d.rule(a.IPv4 != "" && (a.IPv4 == a.IPv6 || a.IPv4 == c.Gate.URL), "give it a name of its own, with an A record and no AAAA",
		at+".addresses.ipv4 is another's name, too", at+".addresses.ipv4", at+".addresses.ipv6", "gate.url")
	d.rule(a.IPv6 != "" && a.IPv6 == c.Gate.URL, "give it a name of its own, with an AAAA record and no A",
		at+".addresses.ipv6 is another's name, too", at+".addresses.ipv6", "gate.url")
	d.checkGateNames(c, s)
}

func (d *decoder) checkGateNames(c *Config, s *Serve) {
	const at = "gate.serve"
	for i, g := range s.Groups {
		_, isPerson := c.People[g]
		d.rule(isPerson, "give one of them another name: `allow` takes both",
			fmt.Sprintf("%s.groups: %s is the name of a person", at, g), itemPath(at+".groups", i), at+".groups", at)
	}
	who := d.whoKnown(c)
	d.checkNames(at+".admins", s.Admins, who, at)
	if s.OIDC == nil {
		return
	}
	in := at + ".oidc.groups"
	d.rule(s.OIDC.GroupsClaim == "" && len(s.OIDC.Groups) > 0, "name the claim, or leave groups out",
		in+" would not be looked at: groups_claim is empty", in, at+".oidc.groups_claim", at+".oidc", at)
	for _, theirs := range slices.Sorted(maps.Keys(s.OIDC.Groups)) {
		g := s.OIDC.Groups[theirs]
		_, isPerson := c.People[g]
		path := nameIn(in, theirs)
		d.rule(isPerson, "name a group", fmt.Sprintf("%s: %s is a person", in, g), path, in, at+".oidc")
		if !who.names[g] && who.complete && !d.bad[in] {
			d.rule(true, d.oneOf(g, who.groups(c), "put it among gate.serve.groups"),
				fmt.Sprintf("%s: %s is no group: nobody is in it, and gate.serve.groups does not name it", in, g), path, in, at+".oidc", at)
		}
	}
}

// knownNames are the names that allow and its like may take.
type knownNames struct {
	names    map[string]bool
	complete bool     // false: some could not be read
	sorted   []string // names, in order
}

// groups are those of them that are no person.
func (k knownNames) groups(c *Config) []string {
	return slices.DeleteFunc(slices.Clone(k.sorted), func(n string) bool {
		_, isPerson := c.People[n]
		return isPerson
	})
}

// whoKnown returns the people and the groups that there are.
func (d *decoder) whoKnown(c *Config) knownNames {
	k := knownNames{names: map[string]bool{}, complete: !d.bad["people"] && !d.bad["gate"] && !d.bad["gate.serve"] && !d.bad["gate.serve.groups"]}
	for name, p := range c.People {
		at := nameIn("people", name)
		k.complete = k.complete && !d.bad[at] && !d.bad[at+".groups"]
		k.names[name] = true
		for _, g := range p.Groups {
			k.names[g] = true
		}
	}
	if s := c.Gate.Serve; s != nil {
		for _, g := range s.Groups {
			k.names[g] = true
		}
	}
	k.sorted = slices.Sorted(maps.Keys(k.names))
	return k
}

// checkNames notes which of names, which stand at path, is nobody; above are paths around it.
func (d *decoder) checkNames(path string, names []string, who knownNames, above ...string) {
	if !who.complete || d.bad[path] {
		return
	}
	for i, name := range names {
		if !who.names[name] {
			at := itemPath(path, i)
			d.rule(true, d.oneOf(name, who.sorted, "name them under people first"),
				fmt.Sprintf("%s: %s is neither a person nor a group that one is in", at, name), slices.Concat([]string{at, path}, above)...)
		}
	}
}

// sameLogin is what logins have in common that differ in nothing that people heed.
func sameLogin(s string) string { return strings.ToLower(s) }
