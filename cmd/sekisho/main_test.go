package main

import (
	"os"
	"testing"

	"sekisho/internal/cli"
)

// beSekisho makes the test's own binary the program under test.
const beSekisho = "SEKISHO_TEST_BE_SEKISHO"

func TestMain(m *testing.M) {
	if os.Getenv(beSekisho) != "" {
		os.Exit(cli.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}
