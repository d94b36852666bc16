package main

import (
	"testing"
	"time"
)

func TestPackageVersion(t *testing.T) {
	at := time.Date(2026, 11, 30, 1, 2, 3, 0, time.UTC)
	for named, want := range map[string]string{
		"v1.2.0":                  "1.2.0",
		"1.2":                     "1.2",
		"v1.2.0-rc.1":             "1.2.0~rc.1",
		"v1.2.0-5-g12ab345":       "1.2.0+5.12ab345",
		"v1.2.0-rc1-5-g12ab345":   "1.2.0~rc1+5.12ab345",
		"v1.2.0-5-g12ab345-dirty": "1.2.0+5.12ab345.dirty",
		"7c57c72":                 "0~20261130010203.7c57c72",
		"7c57c72-dirty":           "0~20261130010203.7c57c72.dirty",
		"dev":                     "0~dev",
		"my-build":                "0~dev",
	} {
		if got := packageVersion(named, at); got != want {
			t.Errorf("%s: %s, want %s", named, got, want)
		}
	}
}
