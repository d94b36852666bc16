// Program pages writes the pages for man: make man. It is no part of sekisho.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sekisho/internal/cli"
	"sekisho/internal/manual"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: pages VERSION docs/configuration.md FOLDER")
		os.Exit(2)
	}
	edition := manual.Edition{Version: os.Args[1], Day: day(os.Getenv("SOURCE_DATE_EPOCH"))}
	if err := write(edition, os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "pages:", err)
		os.Exit(1)
	}
}

// day is the day of a build (https://reproducible-builds.org/specs/source-date-epoch/); "" where
// none is said.
func day(epoch string) string {
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.DateOnly)
}

func write(edition manual.Edition, configuration, folder string) error {
	text, err := os.ReadFile(configuration)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	pages := cli.Manual().Pages(edition)
	pages["sekisho.yaml.5"] = manual.ConfigurationPage(edition, string(text))
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(folder, name), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}
