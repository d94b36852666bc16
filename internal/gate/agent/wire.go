package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"sekisho/internal/gate/api"
	"sekisho/internal/printable"
)

// lineReader reads lines of at most maxLine bytes.
type lineReader struct {
	r   *bufio.Reader
	buf []byte
}

func newLineReader(r io.Reader) *lineReader { return &lineReader{r: bufio.NewReaderSize(r, 16<<10)} }

// next is the next line without its end, valid until the next call. What is not ended is
// no line.
func (l *lineReader) next() ([]byte, error) {
	l.buf = l.buf[:0]
	if cap(l.buf) > 64<<10 {
		l.buf = nil // after a long one
	}
	for {
		part, err := l.r.ReadSlice('\n')
		if len(l.buf)+len(part) > maxLine {
			return nil, fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
		switch {
		case err == nil && len(l.buf) == 0:
			return part[:len(part)-1], nil
		case err == nil:
			l.buf = append(l.buf, part...)
			return l.buf[:len(l.buf)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if errors.Is(err, io.EOF) && len(l.buf)+len(part) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		l.buf = append(l.buf, part...)
	}
}

// change is an api.Change that was read.
type change struct {
	Snapshot *snapshot      `json:"snapshot"`
	Let      *api.HostGrant `json:"let"`
	End      *string        `json:"end"`
	Cut      *netip.Prefix  `json:"cut"`
	Beat     *time.Time     `json:"beat"`
}

type snapshot struct {
	Host   string    `json:"host"`
	Grants grants    `json:"grants"`
	Now    time.Time `json:"now"`
	Ticket string    `json:"ticket"`
}

// grants are at most MaxGrants: more are an error before they are kept.
type grants []api.HostGrant

func (g *grants) UnmarshalJSON(text []byte) error {
	*g = nil
	if string(text) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errors.New("grants are no list")
	}
	for d.More() {
		if len(*g) == MaxGrants {
			return fmt.Errorf("there are more than %d grants", MaxGrants)
		}
		var one api.HostGrant
		if err := d.Decode(&one); err != nil {
			return err
		}
		*g = append(*g, one)
	}
	return nil
}

// parse reads a line of a stream. Strings in it are the gate's, and not fit to be shown.
func parse(line []byte) (c change, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("a line of the stream: %w", err)
		}
	}()
	if !utf8.Valid(line) {
		return c, errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, errors.New(printable.Cut(printable.Text(err.Error()), maxSaid))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("there is more behind its end")
	}
	kinds := 0
	for _, there := range []bool{c.Snapshot != nil, c.Let != nil, c.End != nil, c.Cut != nil, c.Beat != nil} {
		if there {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return c, fmt.Errorf("it says %d things, not one", kinds)
	case c.Let != nil:
		return c, checkID(c.Let.ID)
	case c.End != nil:
		return c, checkID(*c.End)
	case c.Cut != nil:
		return c, checkPrefix(*c.Cut)
	case c.Snapshot != nil:
		return c, c.Snapshot.check()
	}
	return c, nil
}

func (s *snapshot) check() error {
	if n := len(s.Ticket); n == 0 || n > 256 || !printable.IsPlain(s.Ticket) {
		return errors.New("its ticket is none")
	}
	seen := make(map[string]bool, len(s.Grants))
	for _, g := range s.Grants {
		if err := checkID(g.ID); err != nil {
			return err
		}
		if seen[g.ID] {
			return fmt.Errorf("grant %s is there twice", g.ID)
		}
		seen[g.ID] = true
	}
	return nil
}

// checkID: 16 to 64 letters and digits.
func checkID(id string) error {
	ok := len(id) >= 16 && len(id) <= 64
	for i := 0; ok && i < len(id); i++ {
		c := id[i] | 0x20
		ok = c >= 'a' && c <= 'z' || id[i] >= '0' && id[i] <= '9'
	}
	if !ok {
		return errors.New("the id of a grant is not 16 to 64 letters and digits")
	}
	return nil
}

// checkPrefix takes what a grant may be for.
func checkPrefix(p netip.Prefix) error {
	a := p.Addr()
	switch {
	case !p.IsValid() || a.Is4In6() || a.Zone() != "" || p != p.Masked():
		return errors.New("it names no network")
	case !p.IsSingleIP() && (a.Is4() || p.Bits() != 64):
		return fmt.Errorf("%s is neither one address nor an IPv6 /64", p)
	case a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("nobody comes from %s", p)
	}
	return nil
}

// grantOf is what the gate asks for, from when it was written, or why it may not. Its id is
// good.
func grantOf(h api.HostGrant, written time.Time) (Grant, error) {
	g := Grant{ID: h.ID, Prefix: h.Prefix, Port: h.Port}
	if err := checkPrefix(h.Prefix); err != nil {
		return g, err
	}
	switch {
	case h.Millis <= 0:
		return g, errOver
	case h.Millis > MaxLength.Milliseconds():
		return g, fmt.Errorf("it is longer than %d days", MaxLength/(24*time.Hour))
	case h.Person == "":
		return g, errors.New("it is nobody's")
	case h.Port == 0:
		return g, errors.New("it names no port")
	}
	g.Person, g.Reason = line(h.Person, 64), line(h.Reason, 200)
	g.Until = written.Add(time.Duration(h.Millis) * time.Millisecond)
	return g, nil
}

// line is text fit to be kept, at most so many characters of it.
func line(s string, most int) string {
	if len(s) > 4*most { // before it grows
		s = strings.ToValidUTF8(s[:4*most], "")
	}
	return printable.Cut(printable.Text(s), most)
}
