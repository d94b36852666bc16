package country

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
)

// mmdbForm is where a record has its country.
type mmdbForm int

const (
	nested mmdbForm = iota // country.iso_code, as MaxMind has it
	flat                   // country_code
)

// mmdb makes a MaxMind DB, format 2.0, of networks and their countries: a binary
// search tree over IPv6 with IPv4 at ::/96, a data section, and metadata.
func mmdb(networks map[string]string, form mmdbForm) []byte {
	type node struct{ child, record [2]int } // record: offset+1 in the data; 0: none
	nodes := []node{{}}
	str := func(s string) []byte { return append([]byte{2<<5 | byte(len(s))}, s...) }
	object := func(pairs int) byte { return 7<<5 | byte(pairs) }
	var data []byte
	for _, text := range slices.Sorted(maps.Keys(networks)) {
		p, c := netip.MustParsePrefix(text), networks[text]
		offset := len(data)
		switch {
		case c == "":
			data = append(data, object(0))
		case form == nested:
			data = append(append(append(append(append(data, object(1)), str("country")...), object(1)), str("iso_code")...), str(c)...)
		default:
			data = append(append(append(data, object(1)), str("country_code")...), str(c)...)
		}
		bits, key := p.Bits(), p.Addr().As16()
		if p.Addr().Is4() {
			v4 := p.Addr().As4()
			key = [16]byte{12: v4[0], 13: v4[1], 14: v4[2], 15: v4[3]}
			bits += 96
		}
		at := 0
		for i := range bits {
			side := int(key[i/8] >> (7 - i%8) & 1)
			if i == bits-1 {
				nodes[at].record[side] = offset + 1
				break
			}
			if nodes[at].child[side] == 0 {
				nodes = append(nodes, node{})
				nodes[at].child[side] = len(nodes) - 1
			}
			at = nodes[at].child[side]
		}
	}
	var out []byte
	for _, n := range nodes {
		for side := range 2 {
			value := len(nodes) // no data
			switch {
			case n.child[side] != 0:
				value = n.child[side]
			case n.record[side] != 0:
				value = len(nodes) + 16 + n.record[side] - 1
			}
			out = append(out, byte(value>>16), byte(value>>8), byte(value))
		}
	}
	out = append(out, make([]byte, 16)...)
	out = append(out, data...)
	out = append(out, "\xab\xcd\xefMaxMind.com"...)
	uint16Of := func(n uint16) []byte { return binary.BigEndian.AppendUint16([]byte{5<<5 | 2}, n) }
	uint32Of := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{6<<5 | 4}, n) }
	uint64Of := func(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{8, 2}, n) }
	out = append(out, object(9))
	for _, pair := range []struct {
		key   string
		value []byte
	}{
		{"node_count", uint32Of(uint32(len(nodes)))},
		{"record_size", uint16Of(24)},
		{"ip_version", uint16Of(6)},
		{"database_type", str("Test-Country")},
		{"languages", []byte{0, 4}},
		{"binary_format_major_version", uint16Of(2)},
		{"binary_format_minor_version", uint16Of(0)},
		{"build_epoch", uint64Of(1790000000)},
		{"description", []byte{object(0)}},
	} {
		out = append(append(out, str(pair.key)...), pair.value...)
	}
	return out
}
