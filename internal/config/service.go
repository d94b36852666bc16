package config

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sekisho/internal/prefixset"
)

// Ports is the service's ports and protocol as the file has them: 80/tcp,
// 8000-8100/udp.
func (s Service) Ports() string {
	if s.First == s.Last {
		return fmt.Sprintf("%d/%s", s.First, s.Proto)
	}
	return fmt.Sprintf("%d-%d/%s", s.First, s.Last, s.Proto)
}

func (s Service) String() string {
	if len(s.From) == 0 {
		return s.Ports()
	}
	return fmt.Sprintf("{port: %s, from: %s}", s.Ports(), flow(s.From, netip.Prefix.String))
}

// services is a list of ports that are open.
type services struct{ p *[]Service }

// maxServices is how many rules a person keeps in mind, and more.
const maxServices = 256

func (v services) text() string { return flow(*v.p, Service.String) }
func (v services) grammar() string {
	return "list of ports and ranges with tcp or udp, as `[80/tcp, 8000-8100/udp]`; for some addresses only: `{port: 5432/tcp, from: [10.0.0.0/8]}`"
}

func (v services) schema() object {
	port := object{"type": "string", "pattern": "^[0-9]{1,5}(-[0-9]{1,5})?/(tcp|udp)$"}
	restricted := object{
		"type": "object", "additionalProperties": false, "required": []string{"port", "from"},
		"properties": object{"port": port, "from": object{"type": "array", "items": prefixSchema(), "minItems": 1}},
	}
	return object{"type": []string{"array", "null"}, "items": object{"anyOf": []any{port, restricted}}, "maxItems": maxServices}
}

type placedService struct {
	Service
	at place
}

func (v services) decode(d *decoder, path string, n *node) {
	items := itemsOf(d, path, n, "80/tcp, 443/tcp")
	if len(items) > maxServices {
		d.refuse(path, n.place, "open ranges, as 8000-8100/tcp", "more than %d", maxServices)
		return
	}
	var res []placedService
	for _, item := range items {
		if s, ok := serviceOf(d, path, item); ok {
			res = append(res, placedService{s, item.place})
		}
	}
	distinct(d, path, res)
	if d.bad[path] {
		return
	}
	slices.SortStableFunc(res, func(a, b placedService) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	*v.p = nil
	for i, s := range res {
		*v.p = append(*v.p, s.Service)
		d.places[itemPath(path, i)] = s.at
	}
}

// itemPath names the i-th item of what a list decoded to.
func itemPath(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// serviceOf reads one item: 80/tcp, or {port: 80/tcp, from: [...]}. ok is false if
// it was refused.
func serviceOf(d *decoder, path string, n *node) (s Service, ok bool) {
	port, from := join(path, "port"), join(path, "from")
	if n.kind != mapping {
		servicePort{&s}.decode(d, path, n)
		return s, s.Proto != ""
	}
	delete(d.places, port) // of the item before
	delete(d.places, from)
	d.group(path, group{{name: "port", value: servicePort{&s}}, {name: "from", value: serviceFrom{&s.From}}}, n)
	_, hasPort := d.places[port]
	_, hasFrom := d.places[from]
	switch {
	case !hasPort:
		d.refuse(path, n.place, "write it like {port: 5432/tcp, from: [10.0.0.0/8]}", "there is no port")
	case !hasFrom && s.Proto != "":
		d.refuse(path, n.place, "write "+s.Ports()+" alone to open it to everybody", "from is missing")
	}
	d.bad[path] = d.bad[path] || d.bad[port] || d.bad[from]
	return s, hasPort && hasFrom && s.Proto != ""
}

// servicePort is a port or a range, and its protocol; a zero Proto says that none
// was read.
type servicePort struct{ p *Service }

func (v servicePort) text() string    { return v.p.Ports() }
func (v servicePort) grammar() string { return "" }
func (v servicePort) schema() object  { return nil }

func (v servicePort) decode(d *decoder, path string, n *node) {
	if !scalarOf(d, path, n, "a port with its protocol", "") {
		return
	}
	text, proto, found := strings.Cut(n.text, "/")
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	var ends [2]uint16
	for i, end := range []string{first, last} {
		switch port, err := strconv.ParseUint(end, 10, 16); {
		case !isNumber(end) || strings.Trim(end, "0123456789") != "":
			d.refuse(path, n.place, "write it like 80/tcp or 8000-8100/udp", "%s is no port with its protocol", quote(n.text))
			return
		case err != nil || port == 0:
			d.refuse(path, n.place, "ports are numbers from 1 to "+strconv.Itoa(math.MaxUint16), "%s is out of range", quote(n.text))
			return
		default:
			ends[i] = uint16(port)
		}
	}
	switch {
	case !found:
		d.refuse(path, n.place, "write "+text+"/tcp or "+text+"/udp", "%s has no protocol", quote(n.text))
	case proto != "tcp" && proto != "udp":
		d.refuse(path, n.place, "write "+text+"/tcp or "+text+"/udp", "%s is no protocol that is known here", quote(proto))
	case ends[0] > ends[1]:
		d.refuse(path, n.place, "write "+last+"-"+first+"/"+proto, "%s begins after its end", quote(n.text))
	default:
		v.p.Proto, v.p.First, v.p.Last = proto, ends[0], ends[1]
	}
}

// serviceFrom is whom a service is open to. An empty list is refused: it would mean
// nobody or everybody.
type serviceFrom struct{ p *[]netip.Prefix }

func (v serviceFrom) text() string    { return flow(*v.p, netip.Prefix.String) }
func (v serviceFrom) grammar() string { return "" }
func (v serviceFrom) schema() object  { return nil }

func (v serviceFrom) decode(d *decoder, path string, n *node) {
	ps := prefixesOf(d, path, n)
	apart(d, path, ps)
	if len(n.items) == 0 && (n.kind == list || n.kind == absent) {
		d.refuse(path, n.place, "name the addresses; to open it to everybody, write the port alone", "names nobody")
	}
	*v.p = plainPrefixes(ps)
	slices.SortFunc(*v.p, netip.Prefix.Compare)
}

// distinct refuses what is open already by another item, and ranges that overlap.
func distinct(d *decoder, path string, ss []placedService) {
	from := make([]prefixset.Set, len(ss))
	for i, s := range ss {
		from[i], _ = prefixset.Of(s.From...) // they were read as it wants them
	}
	within := func(i, j int) bool {
		if ss[i].First < ss[j].First || ss[i].Last > ss[j].Last {
			return false
		}
		if len(ss[i].From) == 0 || len(ss[j].From) == 0 {
			return len(ss[j].From) == 0
		}
		return !slices.ContainsFunc(ss[i].From, func(p netip.Prefix) bool { return !from[j].ContainsPrefix(p) })
	}
	for j, b := range ss {
		for i, a := range ss[:j] {
			if a.Proto != b.Proto || a.Last < b.First || b.Last < a.First {
				continue
			}
			wide, narrow := a, b
			switch {
			case within(j, i):
			case within(i, j):
				wide, narrow = b, a
			case len(a.From)+len(b.From) == 0:
				d.refuse(path, b.at, fmt.Sprintf("write one range: %s", Service{Proto: a.Proto, First: min(a.First, b.First), Last: max(a.Last, b.Last)}.Ports()),
					"%s overlaps %s", b.Ports(), a.Ports())
				continue
			default:
				continue
			}
			d.refuse(path, narrow.at, "leave it out", "%s is open already by %s on line %d", narrow.Ports(), wide.Ports(), wide.at.line)
		}
	}
}
