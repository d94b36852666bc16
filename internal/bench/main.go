// Command bench measures Sekisho against its goals (`make bench`), and beside
// fail2ban, SSHGuard and CrowdSec (`make bench-peers`), in one run on one machine:
// absolute figures are the machine's, ratios are the programs'. docs/benchmarks.md
// says how to read it.
//
// As root it runs in mount, PID and network namespaces of its own: the machine's
// firewall, configuration and processes are not touched, and whatever happens,
// nothing that it started outlives it. Without root only what needs none is
// measured, and the rest is named as left out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// options is the command line.
type options struct {
	sekisho string
	floods  string
	doc     string
	only    string

	runs        int
	lines       int
	streamGB    float64
	samples     int
	peerSamples int
	patience    time.Duration
	steady      time.Duration
	idle        time.Duration
	storm       time.Duration
	peers       bool
	short       bool
	noPeers     bool
	strict      bool

	inside string // our temporary directory, once we are in our own namespaces
}

func (o *options) flags() {
	flag.StringVar(&o.sekisho, "sekisho", "bin/sekisho", "the `program` to measure")
	flag.StringVar(&o.floods, "floods", "", "the firewall package's test `program`, for its BenchmarkFlood")
	flag.StringVar(&o.doc, "doc", "", "write the table into this `file`, and the plots of -peers beside it")
	flag.StringVar(&o.only, "only", "", "these `parts` alone: explain,stream,latency,burst,follow,sources,restart,rest,storm,flood,firewall; of -peers: reading,follow,latency,bans,rest")
	flag.BoolVar(&o.peers, "peers", false, "compare with fail2ban, SSHGuard and CrowdSec, in turns, -runs rounds of each part")
	flag.BoolVar(&o.short, "short", false, "a few minutes, to try it: shorter lengths wherever none is given")
	flag.IntVar(&o.runs, "runs", 5, "runs of each throughput figure, rounds of -peers; the median counts")
	flag.IntVar(&o.lines, "lines", 1_000_000, "lines of the log that is explained")
	flag.Float64Var(&o.streamGB, "stream", 2, "gigabytes of the endless log (the goal speaks of 10)")
	flag.IntVar(&o.samples, "samples", 200, "latency samples")
	flag.IntVar(&o.peerSamples, "peer-samples", 60, "latency samples of a slow program")
	flag.DurationVar(&o.patience, "patience", 30*time.Second, "how long a slow program may take for a burst, or for 10,000 bans")
	flag.DurationVar(&o.steady, "steady", 20*time.Second, "length of the 1,000 lines/s")
	flag.DurationVar(&o.idle, "idle", 30*time.Second, "length of the rest")
	flag.DurationVar(&o.storm, "storm", 20*time.Second, "length of the 200,000 lines/s (the goal speaks of 60 s)")
	flag.BoolVar(&o.noPeers, "alone", false, "leave fail2ban and SSHGuard out")
	flag.BoolVar(&o.strict, "strict", false, "fail when a goal is missed")
	flag.StringVar(&o.inside, "inside", "", "for bench itself")
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == measureArg {
		os.Exit(measureMain(os.Args[2:]))
	}
	var o options
	o.flags()
	flag.Parse()
	err := o.setLengths()
	if err == nil {
		err = run(&o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The others' daemons are in no user's PATH.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	for _, path := range []*string{&o.sekisho, &o.floods, &o.doc} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	if _, err := os.Stat(o.sekisho); err != nil {
		return fmt.Errorf("the program to measure: %w (run make build)", err)
	}
	if o.doc != "" {
		if _, err := os.Stat(o.doc); err != nil {
			return fmt.Errorf("the document to write into: %w", err)
		}
	}
	if o.inside != "" {
		if err := ownNamespaces(); err != nil {
			return err
		}
		return measureAll(ctx, o, o.inside)
	}

	dir, err := os.MkdirTemp("", "sekisho-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "*** NOT ROOT: only what needs no kernel is measured; run it as root for the rest ***")
		return measureAll(ctx, o, dir)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, append(os.Args[1:], "-inside", dir)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.Run()
}

// ownNamespaces finishes what the clone began: mounts that stay ours, and a
// /proc that shows our own processes alone.
func ownNamespaces() error {
	if os.Getpid() != 1 {
		return errors.New("-inside is for bench itself")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount our own /proc: %w", err)
	}
	return loopbackUp()
}

// The lengths of -peers and of -short, where none is given; the later ones win.
var lengths = []struct {
	of     func(*options) bool
	values map[string]string
}{
	{func(o *options) bool { return o.peers }, map[string]string{"patience": "1m", "idle": "5s", "steady": "8s"}},
	{func(o *options) bool { return o.short }, map[string]string{
		"runs": "1", "lines": "500000", "stream": "0.2", "samples": "40", "peer-samples": "5", "patience": "10s", "idle": "3s", "steady": "3s", "storm": "3s",
	}},
}

// setLengths sets those that the command line does not.
func (o *options) setLengths() error {
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, l := range lengths {
		for name, value := range l.values {
			if !l.of(o) || given[name] {
				continue
			}
			if err := flag.Set(name, value); err != nil {
				return fmt.Errorf("-%s %s: %w", name, value, err)
			}
		}
	}
	return nil
}

// bench is one run.
type bench struct {
	*options
	dir      string
	programs []program // those that are installed, ours first
	report   report
}

// part is one thing that is measured.
type part struct {
	name string
	root bool // whether it needs root
	run  func(context.Context) error
}

func (b *bench) parts() []part {
	if b.peers {
		return []part{
			{"reading", false, b.reading},
			{"follow", true, b.follow},
			{"latency", true, b.latency},
			{"bans", true, b.bans},
			{"rest", true, b.rest},
		}
	}
	return []part{
		{"explain", false, b.explain},
		{"stream", false, b.stream},
		{"latency", true, b.latency},
		{"burst", true, b.burst},
		{"follow", true, b.follow},
		{"sources", true, b.sources},
		{"restart", true, b.restart},
		{"rest", true, b.rest},
		{"storm", true, b.storm200k},
		{"flood", true, b.flood},
		{"firewall", true, b.firewall},
	}
}

func measureAll(ctx context.Context, o *options, dir string) error {
	b := &bench{options: o, dir: dir}
	b.report.table = goalTable
	if o.peers {
		b.report.table = peerTable
	}
	b.report.machine = describe(o)
	b.find()
	for _, part := range b.parts() {
		switch {
		case ctx.Err() != nil:
			b.report.leftOut(part.name, "interrupted")
			continue
		case o.only != "" && !strings.Contains(","+o.only+",", ","+part.name+","):
			continue
		case part.root && os.Geteuid() != 0:
			b.report.leftOut(part.name, "needs root")
			continue
		}
		fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format("15:04:05"), part.name)
		// A part that fails is told in the table, and the others go on.
		if err := part.run(ctx); err != nil {
			b.report.leftOut(part.name, err.Error())
		}
	}
	b.report.machine = append(b.report.machine, endOf(o)...)
	b.report.print(os.Stdout)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if o.doc != "" {
		if err := b.report.writeInto(o.doc, o.only); err != nil {
			return err
		}
		if err := b.report.drawInto(filepath.Join(filepath.Dir(o.doc), "benchmarks")); err != nil {
			return err
		}
	}
	if o.strict && b.report.missed() {
		return errors.New("a goal is missed")
	}
	return nil
}
