// Command leftout reads what `go test -json` writes, shows it as `go test`
// would, and ends with the tests that were left out and why: a test that did
// not run must never look like one that passed. It exits 1 if a test failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
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
func report(r io.Reader, w io.Writer) (failed bool, err error) {
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
				w.Write(line)
			}
			t := test{e.Package, e.Test}
			switch e.Action {
			case "build-output":
				io.WriteString(w, e.Output)
			case "build-fail":
				failed = true
			case "output":
				said[t] = append(said[t], e.Output)
			case "fail":
				failed = true
				for s := range said { // a panic leaves tests without a verdict
					if s.pkg == e.Package && e.Test == "" && s.name != "" {
						io.WriteString(w, strings.Join(said[s], ""))
						delete(said, s)
					}
				}
				io.WriteString(w, strings.Join(said[t], ""))
				delete(said, t)
			case "skip":
				if e.Test != "" {
					left = append(left, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(said[t])))
				}
				delete(said, t)
			case "pass":
				if e.Test == "" {
					io.WriteString(w, result(said[t]))
				} else {
					passed++
				}
				delete(said, t)
			}
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
	for i := len(said) - 1; i >= 0; i-- {
		if strings.HasPrefix(said[i], "ok") {
			return said[i]
		}
	}
	return ""
}

// reason is what a test said before it was skipped: "    x_test.go:12: why".
func reason(said []string) string {
	for i := len(said) - 1; i >= 0; i-- {
		text := strings.TrimSpace(said[i])
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
