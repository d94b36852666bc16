package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"sekisho/internal/bench/loggen"
)

// grepPattern is the yardstick: what an administrator would type.
const grepPattern = "sshd.*(Failed|Invalid|Connection closed)"

// explain compares with grep on the same file, run by run in turn, so that what
// else the machine does falls on both.
func (b *bench) explain(ctx context.Context) error {
	for _, format := range []struct {
		name string
		iso  bool
	}{{"RFC 3164", false}, {"ISO 8601", true}} {
		log := filepath.Join(b.dir, "explain.log")
		if err := generate(log, loggen.Options{Lines: b.lines, ISO: format.iso, Seed: 1}); err != nil {
			return err
		}
		var counted, summary strings.Builder
		commands := []struct {
			name   string
			stdout io.Writer
			env    []string
			args   []string
		}{
			{"grep", &counted, nil, []string{"grep", "-cE", grepPattern, log}},
			{"explain", &summary, []string{"GOMAXPROCS=1"}, []string{b.sekisho, "explain", log}},
			{"json", nil, []string{"GOMAXPROCS=1"}, []string{b.sekisho, "explain", "--json", log}},
		}
		speed := map[string][]float64{}
		ratio := map[string][]float64{}
		peak := map[string]float64{}
		for run := range b.runs + 1 {
			for _, c := range commands {
				u, err := measure(ctx, nil, c.stdout, c.env, c.args...)
				if err != nil {
					return err
				}
				if run == 0 {
					continue // fills the page cache
				}
				speed[c.name] = append(speed[c.name], float64(b.lines)/u.Wall.Seconds())
				ratio[c.name] = append(ratio[c.name], speed[c.name][run-1]/speed["grep"][run-1])
				peak[c.name] = max(peak[c.name], float64(u.PeakRSS))
			}
		}
		peers := map[string]float64{}
		if !format.iso && len(b.programs) > 1 {
			peers = b.readers(ctx, b.programs[1:]).speed.quantiles(0.5)
		}
		explained := figure{
			name:   "explain, " + format.name + ", lines/s on one core",
			values: map[string]float64{sekisho: median(speed["explain"]), grep: median(speed["grep"])},
			show:   rate, more: true,
			goal: "≥ 0.8 × grep", met: median(ratio["explain"]) >= 0.8,
			notes: map[string]string{sekisho: significant(median(ratio["explain"])) + " × grep"},
		}
		maps.Copy(explained.values, peers)
		b.report.add(explained)
		b.report.add(figure{
			name:   "explain --json, " + format.name,
			values: map[string]float64{sekisho: median(speed["json"]), grep: median(speed["grep"])},
			show:   rate, more: true,
			goal: "≥ 0.3 × grep", met: median(ratio["json"]) >= 0.3,
			notes: map[string]string{sekisho: significant(median(ratio["json"])) + " × grep"},
		})
		b.report.add(figure{
			name:   "explain, " + format.name + ", peak memory",
			values: map[string]float64{sekisho: peak["explain"], grep: peak["grep"]},
			show:   megabytes,
			goal:   "< 40 MB", met: peak["explain"] < 40e6,
		})
	}
	return nil
}

// readings is what reading a log in one go took each program.
type readings struct {
	speed samples // lines a second
	cpu   samples // seconds for a million lines, without what an empty log takes
	peak  samples // bytes
}

// readers lets each program read as much of one log, from its beginning, as it
// can within seconds: in turns, on one CPU.
func (b *bench) readers(ctx context.Context, programs []program) readings {
	r := readings{samples{}, samples{}, samples{}}
	b.rounds(ctx, "reading", programs, func(p program) error {
		lines := int(p.reads * float64(b.lines))
		start, err := b.reader(ctx, p, 0)
		if err != nil {
			return err
		}
		u, err := b.reader(ctx, p, lines)
		if err != nil {
			return err
		}
		r.speed.add(p.name, float64(lines)/u.Wall.Seconds())
		r.cpu.add(p.name, max(0, u.User+u.System-start.User-start.System).Seconds()/float64(lines)*1e6)
		r.peak.add(p.name, float64(u.PeakRSS))
		return nil
	})
	return r
}

// reader lets a program read a log of so many lines.
func (b *bench) reader(ctx context.Context, p program, lines int) (usage, error) {
	dir, err := os.MkdirTemp(b.dir, "reader-")
	if err != nil {
		return usage{}, err
	}
	defer os.RemoveAll(dir)
	log := filepath.Join(dir, "auth.log")
	if lines == 0 {
		err = os.WriteFile(log, nil, 0o600) // to loggen, 0 is its default
	} else {
		err = generate(log, loggen.Options{Lines: lines, Seed: 1})
	}
	if err != nil {
		return usage{}, err
	}
	args, fromStdin, err := p.read(b, dir, log)
	if err != nil {
		return usage{}, err
	}
	var stdin io.Reader
	if fromStdin {
		f, err := os.Open(log)
		if err != nil {
			return usage{}, err
		}
		defer f.Close()
		stdin = f
	}
	return measure(ctx, stdin, nil, []string{"GOMAXPROCS=1"}, args...)
}

// reading compares the programs' reading in one go, by CPU time: CrowdSec waits
// for some seconds before it ends.
func (b *bench) reading(ctx context.Context) error {
	r := b.readers(ctx, b.programs)
	speed := samples{}
	for program, times := range r.cpu {
		for _, cpu := range times {
			speed.add(program, 1e6/cpu)
		}
	}
	b.report.add(figure{name: "reading a log in one go: lines for a second of CPU time", plot: "reading", rounds: speed, values: speed.quantiles(0.5), show: significant, more: true})
	b.report.add(figure{name: "reading a log in one go: CPU time for a million lines", plot: "reading", rounds: r.cpu, values: r.cpu.quantiles(0.5), show: seconds})
	b.report.add(figure{name: "reading a log in one go: peak memory", plot: "reading", rounds: r.peak, values: r.peak.quantiles(0.5), show: megabytes})
	return nil
}

// stream explains a log that never seems to end: as the other logs are, and one
// in which there are more sources than the summary can hold.
func (b *bench) stream(ctx context.Context) error {
	for _, log := range []struct {
		name    string
		gb      float64
		sources int
		goal    int64
	}{
		{"", b.streamGB, 0, 40e6},
		{", 500,000 sources", b.streamGB / 2, 500_000, 0},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		go func() {
			defer w.Close()
			g := loggen.New(loggen.Options{Seed: 2, Sources: log.sources})
			_ = copyLines(w, g, int64(log.gb*1e9)) // a reader that went away has its own error
		}()
		u, err := measure(ctx, r, nil, nil, b.sekisho, "explain", "-")
		r.Close()
		if err != nil {
			return err
		}
		f := figure{
			name:   fmt.Sprintf("explain, a stream of %g GB%s, peak memory", log.gb, log.name),
			values: map[string]float64{sekisho: float64(u.PeakRSS)},
			show:   megabytes,
		}
		if log.goal > 0 {
			f.goal, f.met = fmt.Sprintf("< %d MB", log.goal/1e6), u.PeakRSS < log.goal
		}
		b.report.add(f)
	}
	return nil
}

// copyLines writes lines 50 ms apart until size bytes are written.
func copyLines(w io.Writer, g *loggen.Generator, size int64) error {
	bw := bufio.NewWriterSize(w, 1<<16)
	at := logBegin
	var line []byte
	for written := int64(0); written < size; written += int64(len(line)) {
		line = g.Append(line[:0], at)
		at = at.Add(logStep)
		if _, err := bw.Write(line); err != nil {
			return err
		}
	}
	return bw.Flush()
}

func generate(path string, o loggen.Options) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := loggen.Generate(f, o); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
