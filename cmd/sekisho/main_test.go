package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"sekisho/internal/cli"
)

// beSekisho makes the test's own binary the program under test; leaseTime, a duration, has it
// ask for leases of that length.
const (
	beSekisho = "SEKISHO_TEST_BE_SEKISHO"
	leaseTime = "SEKISHO_TEST_LEASE_TIME"
	beGate    = "SEKISHO_TEST_BE_GATE" // a configuration file: the gate that it says, with its state beside it
)

func TestMain(m *testing.M) {
	if path := os.Getenv(beGate); path != "" {
		if err := serveGate(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(beSekisho) == "" {
		os.Exit(m.Run())
	}
	length := os.Getenv(leaseTime)
	if length == "" {
		os.Exit(cli.Main(os.Args[1:]))
	}
	d, err := time.ParseDuration(length)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	os.Exit(cli.Run(cli.WithLeaseTime(ctx, d), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
