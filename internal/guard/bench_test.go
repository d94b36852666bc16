package guard

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"sekisho/internal/sshlog"
)

// benchLines are n lines as a server on the Internet has them: sources drawn by
// Zipf's law, a few names, a login now and then.
func benchLines(n, sources int) []sshlog.Line {
	rng := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rng, 1.1, 8, uint64(sources-1))
	users := []string{"root", "admin", "ubuntu", "test", "oracle", "git", "postgres", "user"}
	lines := make([]sshlog.Line, 0, n+4)
	text := make([]byte, 0, n*160) // in one piece, as a reader has it
	host := []byte("web-1")
	for pid := int32(1); len(lines) < n; pid++ {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(zipf.Uint64())*2654435761|1<<24)
		addr, port := netip.AddrFrom4(b), 1024+rng.IntN(60000)
		at := start.Add(time.Duration(len(lines)) * 5 * time.Millisecond).UnixNano()
		say := func(format string, args ...any) {
			from := len(text)
			text = fmt.Appendf(text, format, args...)
			lines = append(lines, sshlog.Line{Time: at, PID: pid%30000 + 1000, Program: sshlog.ProgramSSHD, Host: host, Message: text[from:]})
		}
		user := users[rng.IntN(len(users))]
		switch rng.IntN(10) {
		case 0, 1, 2:
			say("Invalid user %s from %v port %d", user, addr, port)
			say("Failed password for invalid user %s from %v port %d ssh2", user, addr, port)
			say("Connection closed by invalid user %s %v port %d [preauth]", user, addr, port)
		case 3, 4, 5:
			say("pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=%v  user=root", addr)
			say("Failed password for root from %v port %d ssh2", addr, port)
			say("Received disconnect from %v port %d:11: Bye Bye [preauth]", addr, port)
			say("Disconnected from authenticating user root %v port %d [preauth]", addr, port)
		case 6, 7:
			say("Connection closed by %v port %d [preauth]", addr, port)
		case 8:
			say("Unable to negotiate with %v port %d: no matching host key type found. Their offer: ssh-rsa,ssh-dss [preauth]", addr, port)
		case 9:
			last := rng.IntN(9)
			say("Accepted publickey for deploy from 198.51.100.%d port %d ssh2: ED25519 SHA256:uNiVztksCsDhcc0u9e8BrZYxfBNmBR3YEOBeXoNTeRA", last, port)
			say("Disconnected from user deploy 198.51.100.%d port %d", last, port)
		}
	}
	return lines
}

func BenchmarkObserve(b *testing.B) {
	lines := benchLines(1<<17, 20000)
	e := New(DefaultPolicy())
	var o Outcome
	round := time.Duration(0)
	i := 0
	next := func() *sshlog.Line {
		l := &lines[i]
		if i++; i == len(lines) {
			i, round = 0, 12*time.Minute
			for j := range lines { // the next round comes later
				lines[j].Time += int64(round)
			}
		}
		return l
	}
	for range lines { // the steady state
		e.Observe(next(), &o)
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Observe(next(), &o)
	}
}

func BenchmarkParse(b *testing.B) {
	lines := benchLines(1<<17, 20000)
	var ev sshlog.Event
	i := 0
	for b.Loop() {
		sshlog.Parse(lines[i&(1<<17-1)].Message, &ev)
		i++
	}
}

// BenchmarkMillionSources tells what a hostile source costs.
func BenchmarkMillionSources(b *testing.B) {
	for _, per := range []int{1, 4} {
		b.Run(fmt.Sprintf("attempts=%d", per), func(b *testing.B) {
			const sources = 1_000_000
			for b.Loop() {
				before := heap()
				e := New(DefaultPolicy())
				var o Outcome
				for round := range per {
					for i := range sources {
						failBench(e, &o, uint32(i), start.Add(time.Duration(round)*time.Minute))
					}
				}
				after := heap()
				b.ReportMetric(float64(after-before)/sources, "B/source")
				b.ReportMetric(float64(after-before)/1e6, "MB")
				b.ReportMetric(float64(e.Stats().Sources), "sources")
				runtime.KeepAlive(e)
			}
		})
	}
}

// BenchmarkBans tells what a ban in force costs.
func BenchmarkBans(b *testing.B) {
	const bans = 100_000
	for b.Loop() {
		before := heap()
		e := New(DefaultPolicy())
		var o Outcome
		for i := range uint32(bans) {
			for range 5 {
				failBench(e, &o, i*256, start.Add(time.Duration(i)*time.Millisecond))
			}
		}
		after := heap()
		b.ReportMetric(float64(after-before)/bans, "B/ban")
		b.ReportMetric(float64(e.Stats().Bans), "bans")
		runtime.KeepAlive(e)
	}
}

func failBench(e *Engine, o *Outcome, i uint32, at time.Time) {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], i+1<<25)
	l := sshlog.Line{Time: at.UnixNano(), Program: sshlog.ProgramSSHD}
	o.Event = sshlog.Event{Kind: sshlog.Failed, Method: sshlog.MethodPassword, Addr: netip.AddrFrom4(a), Repeat: 1}
	e.observe(&l, o)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
