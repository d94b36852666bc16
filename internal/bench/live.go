package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"time"

	"sekisho/internal/bench/loggen"
)

// each runs f on a fresh host for every program; a program that fails is left
// out, and the others go on.
func (b *bench) each(ctx context.Context, what string, f func(*host) error) error {
	for _, p := range b.programs() {
		h, err := b.newHost(ctx, p)
		if err == nil {
			err = f(h)
			h.stop()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.report.leftOut(what+", "+p.name, err.Error())
		}
	}
	return nil
}

// pause waits, or ends early with ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// latency: from before the write of the last failing line until the kernel says
// that the address is in a set.
func (b *bench) latency(ctx context.Context) error {
	middle := figure{name: "last failing line → in the kernel, median", values: map[string]float64{}, show: seconds, goal: "≤ 0.5 ms"}
	worst := figure{name: "last failing line → in the kernel, p99", values: map[string]float64{}, show: seconds, goal: "≤ 2 ms"}
	err := b.each(ctx, "latency", func(h *host) error {
		samples, phase := b.samples, 40*time.Millisecond
		if h.slow {
			samples, phase = b.peerSamples, time.Second
		}
		var took []time.Duration
		for i := range samples {
			addr := source(latencySources, i)
			if err := h.fail(addr, maxRetry-1); err != nil {
				return err
			}
			// Any phase of a program's own rhythm.
			pause(ctx, 5*time.Millisecond+rand.N(phase))
			last := appendFailure(nil, addr, maxRetry-1)
			begin := time.Now()
			if _, err := h.log.Write(last); err != nil {
				return err
			}
			at, ok, err := h.when(ctx, addr, b.patience)
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("sample %d was not banned within %s", i, b.patience)
			}
			if at.Before(begin) {
				return fmt.Errorf("sample %d was banned before its last failure", i)
			}
			took = append(took, at.Sub(begin))
		}
		middle.values[h.name] = median(durations(took))
		worst.values[h.name] = quantile(durations(took), 0.99)
		return nil
	})
	middle.met = middle.values[sekisho] > 0 && middle.values[sekisho] <= 0.5e-3
	worst.met = worst.values[sekisho] > 0 && worst.values[sekisho] <= 2e-3
	b.report.add(middle)
	b.report.add(worst)
	return err
}

// attack is n sources' failures, written in rounds: first everybody's first.
func attack(n int) []byte {
	var text []byte
	for i := range maxRetry {
		for s := range n {
			text = appendFailure(text, source(burstSources, s), i)
		}
	}
	return text
}

// countBanned says how many of attack's n sources are banned, and when the last
// of them was.
func countBanned(seen map[netip.Addr]time.Time, n int) (count int, last time.Time) {
	for s := range n {
		if at, ok := seen[source(burstSources, s)]; ok {
			count++
			if at.After(last) {
				last = at
			}
		}
	}
	return count, last
}

// allBanned waits for attack's n sources; it counts them all only once there may
// be enough.
func (h *host) allBanned(ctx context.Context, n int, patience time.Duration) (count int, last time.Time, err error) {
	_, err = h.wait(ctx, patience, func(seen map[netip.Addr]time.Time) bool {
		if len(seen) < n {
			return false
		}
		count, last = countBanned(seen, n)
		return count == n
	})
	if count < n {
		h.mu.Lock()
		count, last = countBanned(h.seen, n)
		h.mu.Unlock()
	}
	return count, last, err
}

func (b *bench) burst(ctx context.Context) error {
	const sources = 10_000
	f := figure{
		name:   "10,000 sources × 5 failures at once → all in the kernel",
		values: map[string]float64{}, notes: map[string]string{}, atLeast: map[string]bool{},
		show: seconds, goal: "≤ 0.3 s",
	}
	err := b.each(ctx, "burst", func(h *host) error {
		text := attack(sources)
		if _, err := h.log.Write(text); err != nil {
			return err
		}
		written := time.Now()
		count, last, err := h.allBanned(ctx, sources, b.patience)
		if err != nil {
			return err
		}
		if count < sources {
			f.values[h.name], f.atLeast[h.name] = b.patience.Seconds(), true
			f.notes[h.name] = fmt.Sprintf("%d banned", count)
			return nil
		}
		f.values[h.name] = max(0, last.Sub(written).Seconds())
		return nil
	})
	ours, ok := f.values[sekisho]
	f.met = ok && !f.atLeast[sekisho] && ours <= 0.3
	b.report.add(f)
	return err
}

// follow: how fast a program that follows a file takes a mixed log in.
func (b *bench) follow(ctx context.Context) error {
	f := figure{name: "following a file, mixed lines/s", values: map[string]float64{}, atLeast: map[string]bool{}, show: rate, more: true}
	err := b.each(ctx, "follow", func(h *host) error {
		lines := map[string]int{sekisho: b.lines, sshguard: 20_000, fail2ban: 50_000}[h.name]
		var log bytes.Buffer
		g := loggen.New(loggen.Options{Seed: 3})
		var line []byte
		now := time.Now()
		for range lines {
			line = g.Append(line[:0], now)
			log.Write(line)
		}
		// The last one in the log is banned last.
		end := source(stormSource, 0)
		for i := range maxRetry {
			log.Write(appendFailure(line[:0], end, i))
		}
		begin := time.Now()
		if _, err := h.log.Write(log.Bytes()); err != nil {
			return err
		}
		at, ok, err := h.when(ctx, end, 2*time.Minute)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%d lines were not read within 2 minutes", lines)
		}
		f.values[h.name] = float64(lines) / at.Sub(begin).Seconds()
		return nil
	})
	b.report.add(f)
	return err
}

// sources: what a million hostile sources cost.
func (b *bench) sources(ctx context.Context) error {
	const sources = 1_000_000
	h, err := b.newHost(ctx, b.programs()[0])
	if err != nil {
		return err
	}
	defer h.stop()
	now := time.Now()
	var text []byte
	for i := range sources {
		// Spread over all /16s first: no network of banned neighbours.
		addr := netip.AddrFrom4([4]byte{byte(64 + i%64), byte(i / 64), byte(i / 64 >> 8), byte(1 + i%250)})
		text = loggen.AppendFailure(text, now, false, "web1", "root", addr, 1024+i%60_000, 1000+i%4_000_000)
		if len(text) > 1<<20 || i == sources-1 {
			if _, err := h.log.Write(text); err != nil {
				return err
			}
			text = text[:0]
		}
	}
	end := source(stormSource, 1)
	if err := h.fail(end, maxRetry); err != nil {
		return err
	}
	if _, ok, err := h.when(ctx, end, time.Minute); err != nil || !ok {
		return cmp.Or(err, errors.New("the attacker after a million sources was not banned within a minute"))
	}
	c, err := h.cost()
	if err != nil {
		return err
	}
	b.report.add(figure{
		name:   "1,000,000 hostile sources remembered, peak memory",
		values: map[string]float64{sekisho: float64(c.peak)}, show: megabytes,
		goal: "< 150 MB", met: c.peak < 150e6,
	})
	return nil
}

// restart: the daemon ends, the kernel forgets all (a new namespace, as after a
// boot), and the daemon starts again.
func (b *bench) restart(ctx context.Context) error {
	const bans = 100_000
	h, err := b.newHost(ctx, b.programs()[0])
	if err != nil {
		return err
	}
	defer h.stop()
	if _, err := h.log.Write(attack(bans)); err != nil {
		return err
	}
	if count, _, err := h.allBanned(ctx, bans, time.Minute); err != nil || count < bans {
		return cmp.Or(err, fmt.Errorf("%d of %d banned within a minute", count, bans))
	}
	if err := h.kill(syscall.SIGTERM); err != nil {
		return err
	}
	h.watcher.close()
	begin := time.Now()
	if err := h.start(); err != nil {
		return err
	}
	count, last, err := h.allBanned(ctx, bans, time.Minute)
	if err != nil || count < bans {
		return cmp.Or(err, fmt.Errorf("%d of %d in the kernel a minute after the restart", count, bans))
	}
	took := last.Sub(begin).Seconds()
	b.report.add(figure{
		name:   "restart with 100,000 bans → all in the kernel",
		values: map[string]float64{sekisho: took}, show: seconds, goal: "≤ 2 s", met: took <= 2,
	})
	pause(ctx, 5*time.Second)
	c, err := h.cost()
	if err != nil {
		return err
	}
	b.report.add(figure{
		name:   "memory with 100,000 bans, 5 s after the restart",
		values: map[string]float64{sekisho: float64(c.rss)}, show: megabytes, goal: "< 60 MB", met: c.rss < 60e6,
	})
	return nil
}

// rest: first nothing happens, then 1,000 lines a second.
func (b *bench) rest(ctx context.Context) error {
	memory := figure{name: "memory at rest", values: map[string]float64{}, show: megabytes, goal: "< 25 MB"}
	idle := figure{name: fmt.Sprintf("CPU at rest, over %s", b.idle), values: map[string]float64{}, show: percent, goal: "not measurable", noRatios: true}
	busy := figure{name: fmt.Sprintf("CPU at 1,000 lines/s, over %s", b.steady), values: map[string]float64{}, show: percent, goal: "< 2 %"}
	loaded := figure{name: "memory at 1,000 lines/s", values: map[string]float64{}, show: megabytes}
	err := b.each(ctx, "rest", func(h *host) error {
		pause(ctx, 3*time.Second)
		before, err := h.cost()
		if err != nil {
			return err
		}
		pause(ctx, b.idle)
		after, err := h.cost()
		if err != nil {
			return err
		}
		memory.values[h.name] = float64(after.rss)
		idle.values[h.name] = 100 * (after.cpu - before.cpu).Seconds() / b.idle.Seconds()

		begin := time.Now()
		if _, err := b.pour(ctx, h, loggen.New(loggen.Options{Seed: 4}), 1000, b.steady, nil); err != nil {
			return err
		}
		loadedCost, err := h.cost()
		if err != nil {
			return err
		}
		busy.values[h.name] = 100 * (loadedCost.cpu - after.cpu).Seconds() / time.Since(begin).Seconds()
		loaded.values[h.name] = float64(loadedCost.rss)
		return nil
	})
	ours, ok := memory.values[sekisho]
	memory.met = ok && ours < 25e6
	// The kernel counts CPU time in 1/100 s: two of them are noise.
	idle.met = ok && idle.values[sekisho] <= 100*0.02/b.idle.Seconds()
	busyOurs, ok := busy.values[sekisho]
	busy.met = ok && busyOurs < 2
	for _, f := range []figure{memory, idle, busy, loaded} {
		b.report.add(f)
	}
	return err
}

// pour writes so many lines a second, every 10 ms its share, and tells how many
// were written. At half-time, half is called.
func (b *bench) pour(ctx context.Context, h *host, g *loggen.Generator, perSecond int, length time.Duration, half func() error) (int, error) {
	const beat = 10 * time.Millisecond
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	begin := time.Now()
	written := 0
	var text []byte
	for ctx.Err() == nil {
		now := <-ticker.C
		elapsed := now.Sub(begin)
		if elapsed >= length {
			break
		}
		text = text[:0]
		// A beat that was missed is made up for.
		for due := int(elapsed.Seconds() * float64(perSecond)); written < due; written++ {
			text = g.Append(text, now)
		}
		if _, err := h.log.Write(text); err != nil {
			return written, err
		}
		if half != nil && elapsed >= length/2 {
			if err := half(); err != nil {
				return written, err
			}
			half = nil
		}
	}
	return written, ctx.Err()
}

// storm200k: more than any sshd writes, and an attacker in the midst of it.
func (b *bench) storm200k(ctx context.Context) error {
	h, err := b.newHost(ctx, b.programs()[0])
	if err != nil {
		return err
	}
	defer h.stop()
	attacker := source(stormSource, 2)
	var attacked time.Time
	written, err := b.pour(ctx, h, loggen.New(loggen.Options{Seed: 5, Sources: 200_000}), 200_000, b.storm, func() error {
		attacked = time.Now()
		return h.fail(attacker, maxRetry)
	})
	if err != nil {
		return err
	}
	at, banned, err := h.when(ctx, attacker, 10*time.Second)
	if err != nil {
		return err
	}
	c, err := h.cost()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s lines/s for %s", significant(float64(written)/b.storm.Seconds()), b.storm)
	took := at.Sub(attacked).Seconds()
	f := figure{
		name: name + ": an attacker among them → in the kernel", values: map[string]float64{sekisho: took},
		show: seconds, goal: "≤ 1 s", met: banned && took <= 1,
	}
	if !banned {
		f.values, f.notes = nil, map[string]string{sekisho: "not banned"}
	}
	b.report.add(f)
	b.report.add(figure{
		name: name + ": peak memory", values: map[string]float64{sekisho: float64(c.peak)},
		show: megabytes, goal: "bounded (< 150 MB)", met: c.peak < 150e6,
	})
	return nil
}
