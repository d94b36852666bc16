package country

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Format is a kind of file.
type Format string

// The formats.
const (
	Delegated Format = "delegated" // a registry's delegated-extended statistics
	List      Format = "list"      // CC<TAB>CIDR
	CSV       Format = "csv"       // first,last,CC; the addresses as text or as decimal numbers
	MMDB      Format = "mmdb"      // MaxMind's DB, with country.iso_code or country_code
)

// Bounds of what is read.
const (
	maxPlain = 256 << 20 // bytes of a file when unpacked
	maxMMDB  = 64 << 20  // bytes of an MMDB file, which is held in memory
	maxLine  = 1 << 10   // bytes of a line
)

// Info is what a file said of itself.
type Info struct {
	Format   Format
	Registry string    // of delegated statistics
	Time     time.Time // the day it speaks of; zero if it does not say
	Entries  int       // addresses' entries taken from it
	Skipped  int       // entries without a country: reserved, available, unknown
}

// Read adds what a file says; the file may be gzipped, and its format is found
// out. Every line must be right, and the file whole, or it is an error that names
// the line, and b is not to be used any more.
func (b *Builder) Read(r io.Reader) (Info, error) {
	in := bufio.NewReaderSize(r, maxLine)
	head, _ := in.Peek(2)
	if bytes.Equal(head, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return Info{}, fmt.Errorf("gunzip: %w", err)
		}
		in = bufio.NewReaderSize(unzipped, maxLine)
	}
	head, err := in.Peek(maxLine)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return Info{}, cutOff(err)
	case len(head) == 0:
		return Info{}, errors.New("the file is empty")
	case strings.HasPrefix(strings.TrimSpace(string(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")))), "<"):
		return Info{}, errors.New("this is a web page, no address data")
	case bytes.IndexByte(head, 0) >= 0: // no text; a search tree begins with small numbers
		return b.readMMDB(in)
	}
	return b.readLines(in)
}

func cutOff(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file is cut off")
	}
	return err
}

// lineParser takes the lines of a file, without their ends, and then its end.
type lineParser interface {
	line(s string) error
	end() error
	info() Info
}

func (b *Builder) readLines(in *bufio.Reader) (Info, error) {
	var parser lineParser
	total := 0
	for number := 1; ; number++ {
		line, err := in.ReadSlice('\n')
		total += len(line)
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			if parser == nil {
				return Info{}, errors.New("there are no addresses in it")
			}
			return parser.info(), parser.end()
		case errors.Is(err, io.EOF):
			return Info{}, fmt.Errorf("line %d does not end: the file is cut off", number)
		case errors.Is(err, bufio.ErrBufferFull):
			return Info{}, fmt.Errorf("line %d is longer than %d bytes", number, maxLine)
		case err != nil:
			return Info{}, fmt.Errorf("line %d: %w", number, cutOff(err))
		case total > maxPlain:
			return Info{}, fmt.Errorf("the file has more than %d MiB when unpacked", maxPlain>>20)
		}
		line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
		for _, c := range line {
			if c < ' ' && c != '\t' || c == 0x7f {
				return Info{}, fmt.Errorf("line %d has a control character", number)
			}
		}
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		text := string(line)
		if parser == nil {
			switch {
			case strings.Contains(text, "|"):
				parser = &delegatedFile{b: b}
			case strings.Contains(text, "\t"):
				parser = &listFile{b: b}
			case strings.Count(text, ",") == 2:
				parser = &csvFile{b: b}
			default:
				return Info{}, fmt.Errorf("line %d: %q is of no known form", number, clip(text))
			}
		}
		if err := parser.line(text); err != nil {
			return Info{}, fmt.Errorf("line %d: %w", number, err)
		}
	}
}

// counted is what all parsers of lines know.
type counted struct{ entries, skipped int }

// listFile is the format List.
type listFile struct {
	b *Builder
	counted
}

func (f *listFile) line(s string) error {
	cc, cidr, ok := strings.Cut(s, "\t")
	if !ok {
		return fmt.Errorf("%q is not a code, a tab and a prefix", clip(s))
	}
	code, known, err := parseDataCode(cc)
	if err != nil {
		return err
	}
	p, err := parsePrefix(cidr)
	if err != nil {
		return err
	}
	if !known {
		f.skipped++
		return nil
	}
	f.entries++
	return f.b.addPrefix(code, p)
}

// parsePrefix reads a canonical prefix.
func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is not a prefix", clip(s))
	}
	return p, nil
}

func (f *listFile) end() error { return nil }
func (f *listFile) info() Info { return Info{Format: List, Entries: f.entries, Skipped: f.skipped} }

// csvFile is the format CSV.
type csvFile struct {
	b *Builder
	counted
}

func (f *csvFile) line(s string) error {
	first, rest, ok := strings.Cut(s, ",")
	last, cc, ok2 := strings.Cut(rest, ",")
	if !ok || !ok2 {
		return fmt.Errorf("%q is not first,last,code", clip(s))
	}
	code, known, err := parseDataCode(cc)
	if err != nil {
		return err
	}
	a, err := parseAddr(first)
	if err != nil {
		return err
	}
	z, err := parseAddr(last)
	if err != nil {
		return err
	}
	if !known {
		f.skipped++
		return nil
	}
	f.entries++
	return f.b.add(code, a, z)
}

func (f *csvFile) end() error { return nil }
func (f *csvFile) info() Info { return Info{Format: CSV, Entries: f.entries, Skipped: f.skipped} }

// parseAddr reads an address as text or as a decimal number; a number that fits
// into 32 bits is IPv4.
func parseAddr(s string) (netip.Addr, error) {
	if strings.ContainsAny(s, ".:") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return a, fmt.Errorf("%q is not an address", clip(s))
		}
		return a, nil
	}
	n, ok := parseNumber(s)
	if !ok {
		return netip.Addr{}, fmt.Errorf("%q is not an address", clip(s))
	}
	if n.hi == 0 && n.lo <= math.MaxUint32 {
		return n.addr(v4), nil
	}
	return n.addr(v6), nil
}

// parseNumber reads a decimal number of at most 128 bits, without leading zeros.
func parseNumber(s string) (n number, ok bool) {
	if s == "" || len(s) > 39 || s[0] == '0' && len(s) > 1 {
		return n, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return n, false
		}
		// 10n = 8n + 2n
		if n.bitLen() > 125 {
			return n, false
		}
		tenfold, over := n.shiftLeft(3).add(n.shiftLeft(1))
		sum, over2 := tenfold.add(number{0, uint64(c - '0')})
		if over || over2 {
			return n, false
		}
		n = sum
	}
	return n, true
}

// delegatedFile is the format Delegated: the "RIR statistics exchange format",
// version 2, with the registries' extensions of it.
//
//	2.3|arin|1790600421096|203051|19700101|20260928|-0400   version, registry, serial, records, dates, zone
//	arin|*|ipv4|*|80850|summary                             how many records of a type
//	arin|US|ipv4|208.65.32.0|1024|20140701|allocated|e008…  1,024 addresses
//	arin|US|ipv6|2605:8480::|32|20140611|allocated|e008…    a /32
//	arin||ipv4|23.128.1.0|768||reserved|                    nobody's
type delegatedFile struct {
	b *Builder
	counted
	registry string
	time     time.Time
	records  uint64            // that the header promises
	seen     uint64            // of all types
	promised map[string]uint64 // by type, of the summary
	perType  map[string]uint64
}

func (f *delegatedFile) line(s string) error {
	fields := strings.Split(s, "|")
	if f.registry == "" {
		return f.header(fields)
	}
	if fields[0] != f.registry {
		return fmt.Errorf("registry %q in a file of %s", clip(fields[0]), f.registry)
	}
	if len(fields) == 6 && fields[5] == "summary" {
		n, err := strconv.ParseUint(fields[4], 10, 32)
		_, twice := f.promised[fields[2]]
		if err != nil || !isType(fields[2]) || twice {
			return fmt.Errorf("%q is not a summary", clip(s))
		}
		f.promised[fields[2]] = n
		return nil
	}
	if len(fields) < 7 {
		return fmt.Errorf("%q is not a record", clip(s))
	}
	cc, kind, start, value, status := fields[1], fields[2], fields[3], fields[4], fields[6]
	if !isType(kind) {
		return fmt.Errorf("%q is not a type", clip(kind))
	}
	f.seen++
	f.perType[kind]++
	if kind == "asn" {
		return nil
	}
	first, last, err := parseBlock(kind, start, value)
	if err != nil {
		return err
	}
	switch status {
	case "allocated", "assigned":
	case "available", "reserved":
		f.skipped++
		return nil
	default:
		return fmt.Errorf("%q is not a status", clip(status))
	}
	code, known, err := parseDataCode(cc)
	if err != nil {
		return err
	}
	if !known {
		f.skipped++
		return nil
	}
	f.entries++
	return f.b.add(code, first, last)
}

func isType(s string) bool { return s == "asn" || s == "ipv4" || s == "ipv6" }

func (f *delegatedFile) header(fields []string) error {
	if len(fields) != 7 || fields[0] != "2" && !strings.HasPrefix(fields[0], "2.") {
		return errors.New("the first line is not a header of the statistics format, version 2")
	}
	if !slices.Contains(registries[:], fields[1]) {
		return fmt.Errorf("%q is none of the five registries", clip(fields[1]))
	}
	n, err := strconv.ParseUint(fields[3], 10, 32)
	if err != nil {
		return fmt.Errorf("%q is not a number of records", clip(fields[3]))
	}
	f.registry, f.records = fields[1], n
	f.time, _ = time.Parse("20060102", fields[5]) // informative
	f.promised, f.perType = make(map[string]uint64), make(map[string]uint64)
	return nil
}

// parseBlock reads where a record begins and ends: so many IPv4 addresses, which
// need not make one prefix, or an IPv6 prefix of that length.
func parseBlock(kind, start, value string) (first, last netip.Addr, err error) {
	first, err = netip.ParseAddr(start)
	if err != nil || first.Zone() != "" || first.Is4() != (kind == "ipv4") {
		return first, last, fmt.Errorf("%q is not an %s address", clip(start), kind)
	}
	if first.Is4() {
		n, err := strconv.ParseUint(value, 10, 33)
		end, _ := numberOf(first).add(number{0, n})
		if err != nil || n == 0 || end.lo > 1<<32 {
			return first, last, fmt.Errorf("%q is not a number of addresses from %s on", clip(value), first)
		}
		return first, end.prev().addr(v4), nil
	}
	length, err := strconv.ParseUint(value, 10, 8)
	if err != nil || length > 128 {
		return first, last, fmt.Errorf("%q is not the length of a prefix", clip(value))
	}
	p := netip.PrefixFrom(first, int(length))
	if p != p.Masked() {
		return first, last, fmt.Errorf("%s has bits set behind its length: is it %s?", p, p.Masked())
	}
	return first, spanOf(p).last.addr(v6), nil
}

func (f *delegatedFile) end() error {
	if f.seen != f.records {
		return fmt.Errorf("the file of %s has %d records; its header promises %d", f.registry, f.seen, f.records)
	}
	for kind, n := range f.promised {
		if f.perType[kind] != n {
			return fmt.Errorf("the file of %s has %d records of %s; its summary promises %d", f.registry, f.perType[kind], kind, n)
		}
	}
	return nil
}

func (f *delegatedFile) info() Info {
	return Info{Format: Delegated, Registry: f.registry, Time: f.time, Entries: f.entries, Skipped: f.skipped}
}
