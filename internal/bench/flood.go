package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// flood runs the firewall package's own benchmark, in namespaces of its own.
func (b *bench) flood(ctx context.Context) error {
	if b.floods == "" {
		return errors.New("no -floods program was given (make bench builds it)")
	}
	cmd := exec.CommandContext(ctx, b.floods, "-test.run", "^$", "-test.bench", "^BenchmarkFlood$", "-test.benchtime", "1x")
	cmd.Dir = filepath.Dir(b.floods)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, lastLine(string(out)))
	}
	metrics := benchmarkMetrics(string(out), "BenchmarkFlood")
	ours, theirs, ratio := metrics["sekisho-Mpps"], metrics["fail2ban-Mpps"], metrics["ratio"]
	if ours == 0 || theirs == 0 {
		return fmt.Errorf("no figures: %s", lastLine(string(out)))
	}
	b.report.add(figure{
		name:   "SYN flood of 10,000 banned sources, packets dropped/s on one core",
		values: map[string]float64{sekisho: ours * 1e6, fail2ban: theirs * 1e6}, show: rate, more: true,
		goal: "≥ 1.7 × fail2ban's rules", met: ratio >= 1.7,
		notes: map[string]string{sekisho: significant(ratio) + " × fail2ban"},
	})
	return nil
}

// benchmarkMetrics reads "BenchmarkX-2  1  0.5 a  3 b" into unit → value.
func benchmarkMetrics(out, name string) map[string]float64 {
	metrics := map[string]float64{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[0], name) {
			continue
		}
		for i := 2; i+1 < len(fields); i += 2 {
			if value, err := strconv.ParseFloat(fields[i], 64); err == nil {
				metrics[fields[i+1]] = value
			}
		}
	}
	return metrics
}
