// Command bench measures Sekisho beside fail2ban and SSHGuard, in one run on
// one machine: absolute figures are the machine's, ratios are the programs'.
// `make bench` builds and runs it; docs/benchmarks.md says how to read it.
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
	noPeers     bool
	strict      bool

	inside string // our temporary directory, once we are in our own namespaces
}

func (o *options) flags() {
	flag.StringVar(&o.sekisho, "sekisho", "bin/sekisho", "the `program` to measure")
	flag.StringVar(&o.floods, "floods", "", "the firewall package's test `program`, for its BenchmarkFlood")
	flag.StringVar(&o.doc, "doc", "", "write the table into this `file`")
	flag.StringVar(&o.only, "only", "", "these `parts` alone: explain,stream,latency,burst,follow,sources,restart,rest,storm,flood,firewall")
	flag.IntVar(&o.runs, "runs", 5, "runs of each throughput figure; the median counts")
	flag.IntVar(&o.lines, "lines", 1_000_000, "lines of the log that is explained")
	flag.Float64Var(&o.streamGB, "stream", 2, "gigabytes of the endless log (the goal speaks of 10)")
	flag.IntVar(&o.samples, "samples", 200, "latency samples")
	flag.IntVar(&o.peerSamples, "peer-samples", 60, "latency samples of a slow program")
	flag.DurationVar(&o.patience, "patience", 30*time.Second, "how long a slow program may take for a burst")
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
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
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
	return nil
}

// bench is one run.
type bench struct {
	*options
	dir    string
	report report
}

func measureAll(ctx context.Context, o *options, dir string) error {
	b := &bench{options: o, dir: dir}
	b.report.machine = describe(o)
	parts := []struct {
		name string
		root bool
		run  func(context.Context) error
	}{
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
	for _, part := range parts {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
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
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.report.print(os.Stdout)
	if o.doc != "" {
		if err := b.report.writeInto(o.doc, o.only); err != nil {
			return err
		}
	}
	if o.strict && b.report.missed() {
		return errors.New("a goal is missed")
	}
	return nil
}
