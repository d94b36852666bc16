// Package loggen writes logs as a server on the internet has them: sshd under
// attack, every generation's wording since 7.4, connections interleaved, between
// the lines of cron, systemd, sudo, postfix and the kernel. For benchmarks and
// tests; it imports nothing of ours. The same Options give the same bytes.
package loggen

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"
)

// Options say what a log looks like. The zero value of a field takes the default
// that is named with it.
type Options struct {
	Lines      int           // how many; 1,000,000
	ISO        bool          // "2026-11-01T00:00:00.000000+00:00" in place of "Nov  1 00:00:00"
	Seed       uint64        // 0 is a seed too
	SSHDShare  float64       // of the lines, those of sshd's; 0.5
	Sources    int           // attackers' addresses, drawn with a Zipf law; 20,000
	IPv6Share  float64       // of the sources; 0.1
	Start      time.Time     // of the first line; 2026-11-01 00:00:00 UTC
	Step       time.Duration // between two lines; 50 ms
	Host       string        // the host field; "web1"
	Generation Generation    // OpenSSH's wording; all of them, mixed by connection
}

// Generation is an era of sshd's wording. The zero value is all of them.
type Generation uint8

// The generations.
const (
	AllGenerations Generation = iota
	OpenSSH74                 // 7.4: one program, "input_userauth_request: invalid user"
	OpenSSH8                  // 7.6 to 9.7: "authenticating user" and "invalid user" in the closing lines
	OpenSSH98                 // 9.8 and later: sshd-session, penalties
)

// Stats count what was written.
type Stats struct {
	Lines    int
	SSHD     int   // of them sshd's
	Attempts int   // wrong passwords and keys among them, each counted once
	Bytes    int64 // newlines included
}

// Generate writes o.Lines lines to w.
func Generate(w io.Writer, o Options) (Stats, error) {
	g := New(o)
	bw := bufio.NewWriterSize(w, 1<<18)
	var line []byte
	t := g.o.Start
	for range g.o.Lines {
		line = g.Append(line[:0], t)
		if _, err := bw.Write(line); err != nil {
			return g.stats, err
		}
		t = t.Add(g.o.Step)
	}
	return g.stats, bw.Flush()
}

// Generator makes one line at a time. Not safe for concurrent use.
type Generator struct {
	o       Options
	rng     *rand.Rand
	zipf    *rand.Zipf
	sources []string
	friends []string
	open    [8]connection // connections that interleave
	nextPID int
	stamp   stamper
	stats   Stats
}

// New returns a generator; o.Lines, Start and Step are Generate's alone.
func New(o Options) *Generator {
	if o.Lines == 0 {
		o.Lines = 1_000_000
	}
	if o.SSHDShare == 0 {
		o.SSHDShare = 0.5
	}
	if o.Sources == 0 {
		o.Sources = 20_000
	}
	if o.IPv6Share == 0 {
		o.IPv6Share = 0.1
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.Step == 0 {
		o.Step = 50 * time.Millisecond
	}
	if o.Host == "" {
		o.Host = "web1"
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0x5e6b1540))
	g := &Generator{
		o:       o,
		rng:     rng,
		zipf:    rand.NewZipf(rng, 1.1, 8, uint64(o.Sources-1)),
		nextPID: 1000,
		stamp:   stamper{iso: o.ISO},
	}
	for range o.Sources {
		g.sources = append(g.sources, g.address().String())
	}
	for i := range 20 {
		g.friends = append(g.friends, netip.AddrFrom4([4]byte{198, 51, 100, byte(10 + i)}).String())
	}
	return g
}

// Stats tell what Append has made so far.
func (g *Generator) Stats() Stats { return g.stats }

// Append adds the next line, newline included, to dst. Times must not go back.
func (g *Generator) Append(dst []byte, t time.Time) []byte {
	before := len(dst)
	dst = g.stamp.append(dst, t)
	dst = append(dst, g.o.Host...)
	dst = append(dst, ' ')
	if g.rng.Float64() < g.o.SSHDShare {
		dst = g.appendSSHD(dst)
		g.stats.SSHD++
	} else {
		dst = g.appendNoise(dst)
	}
	dst = append(dst, '\n')
	g.stats.Lines++
	g.stats.Bytes += int64(len(dst) - before)
	return dst
}

// AppendFailure adds one wrong password's line, newline included, to dst: what a
// latency test writes.
func AppendFailure(dst []byte, t time.Time, iso bool, host, user string, addr netip.Addr, port, pid int) []byte {
	s := stamper{iso: iso}
	dst = s.append(dst, t)
	dst = append(dst, host...)
	dst = append(dst, " sshd["...)
	dst = strconv.AppendInt(dst, int64(pid), 10)
	dst = append(dst, "]: Failed password for "...)
	dst = append(dst, user...)
	dst = append(dst, " from "...)
	dst = addr.AppendTo(dst)
	dst = append(dst, " port "...)
	dst = strconv.AppendInt(dst, int64(port), 10)
	return append(dst, " ssh2\n"...)
}

// address draws an address that is public and no documentation's.
func (g *Generator) address() netip.Addr {
	if g.rng.Float64() < g.o.IPv6Share {
		b := [16]byte{0x2a, 0x01, byte(g.rng.IntN(256)), byte(g.rng.IntN(256))}
		for i := 4; i < 8; i++ {
			b[i] = byte(g.rng.IntN(256))
		}
		b[15] = byte(1 + g.rng.IntN(250))
		return netip.AddrFrom16(b)
	}
	for {
		a := netip.AddrFrom4([4]byte{byte(1 + g.rng.IntN(222)), byte(g.rng.IntN(256)), byte(g.rng.IntN(256)), byte(1 + g.rng.IntN(254))})
		b := a.As4()
		documentation := b[0] == 192 && b[1] == 0 || b[0] == 198 && (b[1] == 51 || b[1]&^1 == 18) || b[0] == 203 && b[1] == 0
		if a.IsGlobalUnicast() && !a.IsPrivate() && !documentation && b[0] != 100 {
			return a
		}
	}
}

// stamper writes times, and formats a second only once.
type stamper struct {
	iso    bool
	second int64
	text   []byte
}

func (s *stamper) append(dst []byte, t time.Time) []byte {
	if second := t.Unix(); second != s.second || s.text == nil {
		s.second = second
		layout := "Jan _2 15:04:05 "
		if s.iso {
			layout = "2006-01-02T15:04:05."
		}
		s.text = t.AppendFormat(s.text[:0], layout)
	}
	dst = append(dst, s.text...)
	if !s.iso {
		return dst
	}
	micro := t.Nanosecond() / 1000
	for div := 100_000; div > 0; div /= 10 {
		dst = append(dst, byte('0'+micro/div%10))
	}
	return t.AppendFormat(dst, "-07:00 ")
}
