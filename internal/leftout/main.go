// Command leftout reads what `go test -json` writes, shows it as `go test`
// would, and ends with the tests that were left out and why: a test that did
// not run must never look like one that passed. It exits 1 if a test failed.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Action     string
	Package    string
	ImportPath string // of a package that does not build
	Test       string
	Output     string
}

func main() {
	failed, err := report(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "leftout:", err)
	}
	if failed || err != nil {
		os.Exit(1)
	}
}

// report copies package results and all that failing tests said to w.
func report(r io.Reader, out io.Writer) (failed bool, err error) {
	w := bufio.NewWriter(out)
	defer func() { err = errors.Join(err, w.Flush()) }()
	type test struct{ pkg, name string }
	said := map[test][]string{} // what each running test has written
	var left []string
	passed := 0
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(w, "%s", line)
			}
			t := test{e.Package, e.Test}
			switch e.Action {
			case "build-output":
				fmt.Fprint(w, e.Output)
			case "build-fail":
				failed = true
			case "output":
				said[t] = append(said[t], e.Output)
			case "fail":
				failed = true
				for s := range said { // a panic leaves tests without a verdict
					if s.pkg == e.Package && e.Test == "" && s.name != "" {
						fmt.Fprint(w, strings.Join(said[s], ""))
						delete(said, s)
					}
				}
				fmt.Fprint(w, strings.Join(said[t], ""))
				delete(said, t)
			case "skip":
				if e.Test != "" {
					left = append(left, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(said[t])))
				}
				delete(said, t)
			case "pass":
				if e.Test == "" {
					fmt.Fprint(w, result(said[t]))
				} else {
					passed++
				}
				delete(said, t)
			}
		}
		if lines.Buffered() == 0 {
			w.Flush() // what comes next may take its time
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return true, err
		}
	}
	fmt.Fprintf(w, "%d tests passed\n", passed)
	if len(left) > 0 {
		fmt.Fprintf(w, "\nLEFT OUT: %d tests did not run:\n", len(left))
		for _, l := range left {
			fmt.Fprintln(w, "  LEFT OUT:", l)
		}
	}
	return failed, nil
}

// result is the line in which go test sums up a package.
func result(said []string) string {
	for _, line := range slices.Backward(said) {
		if strings.HasPrefix(line, "ok") {
			return line
		}
	}
	return ""
}

// reason is what a test said before it was skipped: "    x_test.go:12: why".
func reason(said []string) string {
	for _, line := range slices.Backward(said) {
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(text, "===") || strings.HasPrefix(text, "---") {
			continue
		}
		if _, why, ok := strings.Cut(text, ": "); ok {
			return why
		}
		return text
	}
	return "no reason was given"
}
