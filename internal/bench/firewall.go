package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// firewall runs the firewall package's own benchmarks, each in a process and in
// namespaces of its own: what the rules cost, and the changing of them.
func (b *bench) firewall(ctx context.Context) error {
	if b.floods == "" {
		return errors.New("no -floods program was given (make bench builds it)")
	}
	jp, err := b.benchmark(ctx, "BenchmarkSetCountriesJP", "10x")
	if err != nil {
		return err
	}
	swap := jp["ns/op"] / 1e9
	b.report.add(figure{
		name:   "Japan's addresses swapped in the kernel",
		values: map[string]float64{sekisho: swap}, show: seconds, goal: "< 0.3 s", met: swap < 0.3,
	})
	many, err := b.benchmark(ctx, "BenchmarkSetCountries200k", "3x")
	if err != nil {
		return err
	}
	swap, peak := many["ns/op"]/1e9, many["RSS-MB"]*(1<<20)
	b.report.add(figure{
		name:   "200,000 prefixes swapped in the kernel",
		values: map[string]float64{sekisho: swap}, show: seconds, goal: "< 4 s", met: swap < 4,
	})
	b.report.add(figure{
		name:   "200,000 prefixes swapped, peak memory of the process",
		values: map[string]float64{sekisho: peak}, show: megabytes, goal: "< 150 MB", met: peak < 150e6,
	})
	for _, during := range []struct{ name, what string }{
		{"BenchmarkBanDuringSwapJP", "Japan's addresses"}, {"BenchmarkBanDuringSwap200k", "200,000 prefixes"},
	} {
		ban, err := b.benchmark(ctx, during.name, "2000x")
		if err != nil {
			return err
		}
		b.report.add(figure{
			name:   "a ban while " + during.what + " are being swapped, p99",
			values: map[string]float64{sekisho: ban["p99-ms"] / 1e3}, show: seconds, goal: "≤ 5 ms", met: ban["p99-ms"] <= 5,
			notes: map[string]string{sekisho: "at most " + seconds(ban["max-ms"]/1e3)},
		})
	}
	return b.verdicts(ctx)
}

// verdicts is what a packet costs with our rules and with an empty `accept`.
func (b *bench) verdicts(ctx context.Context) error {
	for _, kind := range []struct{ name, what string }{
		{"let-in-IPv4", "SYNs that are let in, IPv4"},
		{"let-in-IPv6", "SYNs that are let in, IPv6"},
		{"foreign", "SYNs from another country"},
		{"banned", "SYNs from banned hosts"},
		{"segments", "other segments to SSH"},
		{"web", "SYNs to another port"},
		{"UDP-IPv4", "UDP, IPv4"},
		{"UDP-IPv6", "UDP, IPv6"},
	} {
		m, err := b.benchmark(ctx, "BenchmarkVerdict/"+kind.name, "1x")
		if err != nil {
			return err
		}
		note := fmt.Sprintf("empty accept %s ns", significant(m["empty-ns"]))
		if m["ipset-ns"] > 0 {
			note += fmt.Sprintf(", iptables and ipset %s ns (%s ×)", significant(m["ipset-ns"]), significant(m["ipset-ratio"]))
		}
		b.report.add(figure{
			name:   "a packet with 100,000 bans and Japan's addresses: " + kind.what,
			values: map[string]float64{sekisho: m["ratio"]}, goal: "≤ 1.3 × an empty accept", met: m["ratio"] <= 1.3,
			show: func(ratio float64) string {
				return fmt.Sprintf("%s ns, %s ×", significant(m["sekisho-ns"]), significant(ratio))
			},
			notes: map[string]string{sekisho: note},
		})
	}
	return nil
}

// benchmark runs one of the firewall package's, and returns its figures by unit.
func (b *bench) benchmark(ctx context.Context, name, times string) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, b.floods, "-test.run", "^$", "-test.bench", "^"+strings.ReplaceAll(name, "/", "$/^")+"$", "-test.benchtime", times)
	cmd.Dir = filepath.Dir(b.floods)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, lastLine(string(out)))
	}
	metrics := benchmarkMetrics(string(out), name)
	if len(metrics) == 0 {
		return nil, fmt.Errorf("%s: no figures: %s", name, lastLine(string(out)))
	}
	return metrics, nil
}
