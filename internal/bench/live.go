package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"sekisho/internal/bench/loggen"
)

// errEnough ends a program's part: what it has told is a bound, and another round
// would tell no more.
var errEnough = errors.New("enough")

// rounds calls f for every program in turn, as often as rounds are asked for; a
// program that fails is left out from there on, and the others go on.
func (b *bench) rounds(ctx context.Context, what string, programs []program, f func(program) error) {
	n := 1
	if b.peers {
		n = b.runs
	}
	out := map[string]bool{}
	for round := range n {
		for _, p := range programs {
			if out[p.name] {
				continue
			}
			err := f(p)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				out[p.name] = true
				if !errors.Is(err, errEnough) {
					b.report.leftOut(fmt.Sprintf("%s, %s, from round %d of %d", what, p.name, round+1, n), err.Error())
				}
			}
		}
	}
}

// each calls f in rounds, each time with a fresh host.
func (b *bench) each(ctx context.Context, what string, f func(*host) error) error {
	b.rounds(ctx, what, b.programs, func(p program) error {
		h, err := b.newHost(ctx, p)
		if err != nil {
			return err
		}
		defer h.stop()
		return f(h)
	})
	return ctx.Err()
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
	took := samples{}
	err := b.each(ctx, "latency", func(h *host) error {
		n, phase := b.samples, 40*time.Millisecond
		if h.slow {
			n, phase = b.peerSamples, time.Second
		}
		if b.peers {
			n = max(1, n/b.runs)
		}
		for i := range n {
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
			took.add(h.name, at.Sub(begin).Seconds())
		}
		return nil
	})
	for _, f := range []struct {
		name  string
		q     float64
		limit float64 // seconds; 0 is no goal
		peers bool
	}{
		{"median", 0.5, 0.5e-3, false},
		{"p95", 0.95, 0, true},
		{"p99", 0.99, 2e-3, false},
	} {
		if f.peers && !b.peers {
			continue
		}
		values := took.quantiles(f.q)
		ours := values[sekisho]
		figure := figure{name: "last failing line → in the kernel, " + f.name, plot: "latency", values: values, show: seconds}
		if f.limit > 0 {
			figure.goal, figure.met = fmt.Sprintf("≤ %g ms", f.limit*1e3), ours > 0 && ours <= f.limit
		}
		b.report.add(figure)
	}
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

// procession is attack's failures, but one source after the other: what has to
// be remembered is little, and the banning counts.
func procession(n int) []byte {
	var text []byte
	for s := range n {
		for i := range maxRetry {
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

// allBanned waits until n of attack's sources, of which there are so many, are
// banned; it counts them only once there may be enough.
func (h *host) allBanned(ctx context.Context, n, sources int, patience time.Duration) (count int, last time.Time, err error) {
	_, err = h.wait(ctx, patience, func(seen map[netip.Addr]time.Time) bool {
		if len(seen) < n {
			return false
		}
		count, last = countBanned(seen, sources)
		return count >= n
	})
	if count < n {
		count, last = h.banned(sources)
	}
	return count, last, err
}

// banned is countBanned now.
func (h *host) banned(sources int) (count int, last time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return countBanned(h.seen, sources)
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
		count, last, err := h.allBanned(ctx, sources, sources, b.patience)
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

// bans: 10,000 sources are banned, then the daemon ends, the kernel forgets all
// and the daemon starts again.
func (b *bench) bans(ctx context.Context) error {
	const sources = 10_000
	banning := figure{name: "10,000 bans: last line written → all in the kernel", plot: "bans", show: seconds, rounds: samples{}, notes: map[string]string{}, atLeast: map[string]bool{}}
	back := figure{name: "restart with 10,000 bans → all in the kernel again", plot: "bans", show: seconds, rounds: samples{}, notes: map[string]string{}, atLeast: map[string]bool{}}
	peak := figure{name: "peak memory until 10,000 bans were in the kernel", plot: "bans", show: megabytes, rounds: samples{}, notes: map[string]string{}, atLeast: map[string]bool{}}
	err := b.each(ctx, "bans", func(h *host) error {
		if _, err := h.log.Write(procession(sources)); err != nil {
			return err
		}
		written := time.Now()
		count, last, err := h.allBanned(ctx, sources, sources, b.patience)
		if err != nil {
			return err
		}
		c, err := h.cost()
		if err != nil {
			return err
		}
		peak.rounds.add(h.name, float64(c.peak))
		banning.rounds.add(h.name, max(0, last.Sub(written).Seconds()))
		enough := false
		if count < sources {
			enough = true
			banning.rounds[h.name] = []float64{b.patience.Seconds()}
			banning.atLeast[h.name], banning.notes[h.name] = true, fmt.Sprintf("%d banned", count)
			peak.atLeast[h.name], peak.notes[h.name] = true, banning.notes[h.name]
		}

		if err := h.kill(syscall.SIGTERM); errors.Is(err, errSlowEnd) {
			back.notes[h.name] = errSlowEnd.Error()
		} else if err != nil {
			return err
		}
		kept := sources
		if h.keep != nil {
			if err := h.keep(h, sources); err != nil {
				return err
			}
		} else {
			// It may have gone on until it was ended.
			kept, _ = h.banned(sources)
		}
		h.watcher.close()
		begin := time.Now()
		if err := h.start(); err != nil {
			return err
		}
		count, last, err = h.allBanned(ctx, kept, sources, b.patience)
		if err != nil {
			return err
		}
		took := last.Sub(begin).Seconds()
		var note string
		switch {
		case count < kept:
			enough, back.atLeast[h.name] = true, true
			took, note = b.patience.Seconds(), fmt.Sprintf("%d of %d back", count, kept)
		case kept < sources:
			enough = true
			// It had fewer to bring back: no figure to compare.
			took, note = 0, fmt.Sprintf("%s with the %d that it had banned", seconds(took), kept)
		}
		if took > 0 {
			back.rounds.add(h.name, took)
		}
		if note != "" {
			back.notes[h.name] = strings.TrimPrefix(back.notes[h.name]+", "+note, ", ")
		}
		if enough {
			return errEnough
		}
		return nil
	})
	for _, f := range []figure{banning, peak, back} {
		f.values = f.rounds.quantiles(0.5)
		b.report.add(f)
	}
	return err
}

// follow: how fast a program that follows a file takes a mixed log in, and what
// CPU time that takes.
func (b *bench) follow(ctx context.Context) error {
	speed, cpu := samples{}, samples{}
	err := b.each(ctx, "follow", func(h *host) error {
		lines := int(h.follows * float64(b.lines))
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
		before, err := h.cost()
		if err != nil {
			return err
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
		after, err := h.cost()
		if err != nil {
			return err
		}
		speed.add(h.name, float64(lines)/at.Sub(begin).Seconds())
		cpu.add(h.name, (after.cpu-before.cpu).Seconds()/float64(lines)*1e6)
		return nil
	})
	b.report.add(figure{name: "following a file, mixed lines/s", plot: "follow", rounds: speed, values: speed.quantiles(0.5), show: rate, more: true})
	if b.peers {
		b.report.add(figure{name: "following a file: CPU time for a million lines", plot: "follow", rounds: cpu, values: cpu.quantiles(0.5), show: seconds})
	}
	return err
}

// sources: what a million hostile sources cost.
func (b *bench) sources(ctx context.Context) error {
	const sources = 1_000_000
	h, err := b.newHost(ctx, b.programs[0])
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
	h, err := b.newHost(ctx, b.programs[0])
	if err != nil {
		return err
	}
	defer h.stop()
	if _, err := h.log.Write(attack(bans)); err != nil {
		return err
	}
	if count, _, err := h.allBanned(ctx, bans, bans, time.Minute); err != nil || count < bans {
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
	count, last, err := h.allBanned(ctx, bans, bans, time.Minute)
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
	memory := figure{name: "memory at rest", plot: "rest", rounds: samples{}, show: megabytes, goal: "< 25 MB"}
	shared := figure{name: "memory at rest, shared pages counted once", plot: "rest", rounds: samples{}, show: megabytes}
	idle := figure{name: fmt.Sprintf("CPU at rest, over %s", b.idle), rounds: samples{}, show: percent, goal: "not measurable", noRatios: true}
	busy := figure{name: fmt.Sprintf("CPU at 1,000 lines/s, over %s", b.steady), plot: "rest", rounds: samples{}, show: percent, goal: "< 2 %"}
	loaded := figure{name: "memory at 1,000 lines/s", plot: "rest", rounds: samples{}, show: megabytes}
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
		memory.rounds.add(h.name, float64(after.rss))
		shared.rounds.add(h.name, float64(after.pss))
		idle.rounds.add(h.name, 100*(after.cpu-before.cpu).Seconds()/b.idle.Seconds())

		begin := time.Now()
		if _, err := b.pour(ctx, h, loggen.New(loggen.Options{Seed: 4}), 1000, b.steady, nil); err != nil {
			return err
		}
		loadedCost, err := h.cost()
		if err != nil {
			return err
		}
		busy.rounds.add(h.name, 100*(loadedCost.cpu-after.cpu).Seconds()/time.Since(begin).Seconds())
		loaded.rounds.add(h.name, float64(loadedCost.rss))
		return nil
	})
	for _, f := range []*figure{&memory, &shared, &busy, &loaded} {
		f.values = f.rounds.quantiles(0.5)
	}
	// The kernel counts CPU time in 1/100 s: a median would be that of 0 and 1.
	idle.values = idle.rounds.means()
	ours, ok := memory.values[sekisho]
	memory.met = ok && ours < 25e6
	// Two ticks are noise.
	idle.met = ok && idle.values[sekisho] <= 100*0.02/b.idle.Seconds()
	busyOurs, ok := busy.values[sekisho]
	busy.met = ok && busyOurs < 2
	b.report.add(memory)
	if b.peers {
		b.report.add(shared)
	}
	for _, f := range []figure{idle, busy, loaded} {
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
	h, err := b.newHost(ctx, b.programs[0])
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
