package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
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
		if !format.iso && !b.noPeers {
			b.parsers(ctx, peers)
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

// parsers measures the others' on logs that they finish within seconds.
func (b *bench) parsers(ctx context.Context, speed map[string]float64) {
	log := filepath.Join(b.dir, "parsers.log")
	run := func(program string, lines int, args ...string) error {
		if err := generate(log, loggen.Options{Lines: lines, Seed: 1}); err != nil {
			return err
		}
		stdin, err := os.Open(log)
		if err != nil {
			return err
		}
		defer stdin.Close()
		u, err := measure(ctx, stdin, nil, nil, args...)
		if err == nil {
			speed[program] = float64(lines) / u.Wall.Seconds()
		}
		return err
	}
	if path, err := exec.LookPath("fail2ban-regex"); err != nil {
		b.report.leftOut("fail2ban-regex", "not installed")
	} else if err := run(fail2ban, min(b.lines, 100_000), path, log, "sshd"); err != nil {
		b.report.leftOut("fail2ban-regex", err.Error())
	}
	if path := filepath.Join(sshguardLibexec, "sshg-parser"); !exists(path) {
		b.report.leftOut("sshg-parser", "not installed")
	} else if err := run(sshguard, min(b.lines, 500_000), path); err != nil {
		b.report.leftOut("sshg-parser", err.Error())
	}
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

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
