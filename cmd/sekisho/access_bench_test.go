package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"sekisho/internal/securitygroup/ec2test"
)

// echo serves on a port of the host, at all of its addresses.
func (b *behind) echo(t testing.TB, port int) {
	t.Helper()
	var l net.Listener
	err := b.Host.Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprint(":", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn) // until the client has gone
			}()
		}
	}()
}

const echoPort = 7

// BenchmarkConnect measures what a shut door costs whoever connects: from the start of
// `sekisho connect` until the first byte has come back through it, against a dial by hand
// where the door is open. It is to be less than one round trip to EC2's API and 50 ms:
// over-ms/op is how much more than the round trip.
func BenchmarkConnect(b *testing.B) {
	host := newBehind(b)
	host.echo(b, echoPort)
	open := host.door(b, doorOptions{port: echoPort, foreign: []ec2test.Rule{{Prefix: netip.PrefixFrom(client4, 32), From: echoPort}}})
	direct := func(b *testing.B) time.Duration {
		begun := time.Now()
		conn, err := open.World.Dial(b.Context(), netip.Addr{}, netip.AddrPortFrom(open.host, echoPort))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		back := make([]byte, 1)
		_, err = conn.Write([]byte("x"))
		if err == nil {
			_, err = io.ReadFull(conn, back)
		}
		if err != nil {
			b.Fatal(err)
		}
		return time.Since(begun)
	}
	for _, latency := range []time.Duration{0, 50 * time.Millisecond, 100 * time.Millisecond} {
		for _, own := range []struct {
			name string
			args []string
		}{{"given", []string{"--ip", client4.String()}}, {"found", nil}} {
			b.Run(fmt.Sprintf("api=%s/own=%s", latency, own.name), func(b *testing.B) {
				d := host.door(b, doorOptions{port: echoPort})
				d.ec2.SetLatency(latency)
				var with, without []time.Duration
				b.ResetTimer()
				for b.Loop() {
					b.StopTimer()
					without = append(without, direct(b))
					b.StartTimer()
					with = append(with, d.first(b, own.args))
					b.StopTimer()
					eventually(b, "the door shuts", func() bool { return len(d.rules(true)) == 0 })
					b.StartTimer()
				}
				added := median(with) - median(without)
				b.ReportMetric(milliseconds(median(without)), "direct-ms/op")
				b.ReportMetric(milliseconds(added), "added-ms/op")
				b.ReportMetric(milliseconds(added-latency), "over-ms/op")
			})
		}
	}
}

// first connects through the door, until the first byte has come back.
func (d *door) first(b *testing.B, args []string) time.Duration {
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	begun := time.Now()
	p := d.start(b, func(cmd *exec.Cmd) { cmd.Stdout = w }, slices.Concat([]string{d.self}, d.flags(), []string{"connect"}, args, []string{target})...)
	w.Close()
	if _, err := io.WriteString(p.in, "x"); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		b.Fatalf("%v: %s", err, p.errors(b))
	}
	took := time.Since(begun)
	b.StopTimer()
	defer b.StartTimer()
	p.in.Close()
	if code := p.wait(b); code != 0 {
		b.Fatalf("connect: exit %d: %s", code, p.errors(b))
	}
	return took
}

func median(all []time.Duration) time.Duration {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
