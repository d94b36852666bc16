// Command start prints the resident kilobytes of the program's file before and after its
// start is forgotten, and that it still works.
package main

import (
	"fmt"
	"go/format"
	"os"
	"regexp"

	"sekisho/internal/garbage"
)

func resident() string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	return string(regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(status)[1])
}

// work uses much of the program.
func work() {
	if out, err := format.Source([]byte("package   a")); err != nil || string(out) != "package a\n" {
		panic(fmt.Sprintf("%q, %v", out, err))
	}
}

func main() {
	work()
	before := resident()
	var c garbage.Collector
	for range 10 {
		c.Tune()
	}
	after := resident()
	work()
	fmt.Println(before, after)
}
