package main

import (
	"regexp"
	"strings"
	"time"
)

var (
	release = regexp.MustCompile(`^v?([0-9]+\.[0-9]+(?:\.[0-9]+)?)(?:-((?:rc|beta|alpha)[.0-9]*))?(?:-([0-9]+)-g([0-9a-f]+))?$`)
	commit  = regexp.MustCompile(`^[0-9a-f]{7,40}$`)
)

// packageVersion is what git describes, for dpkg and rpm: it begins with a digit, has no
// "-", and what comes later is greater. Where no tag is in sight it is the time, at, that orders.
//
//	v1.2.0           1.2.0
//	v1.2.0-rc1       1.2.0~rc1
//	v1.2.0-5-g12ab   1.2.0+5.12ab
//	12abcde          0~20261130010000.12abcde
//	dev              0~dev
//
// A tree with changes of its own has ".dirty" behind it.
func packageVersion(named string, at time.Time) string {
	base, dirty := strings.CutSuffix(named, "-dirty")
	version := "0~dev"
	if parts := release.FindStringSubmatch(base); parts != nil {
		version = parts[1]
		if parts[2] != "" {
			version += "~" + parts[2]
		}
		if parts[3] != "" {
			version += "+" + parts[3] + "." + parts[4]
		}
	} else if commit.MatchString(base) {
		version = "0~" + at.UTC().Format("20060102150405") + "." + base
	}
	if dirty {
		version += ".dirty"
	}
	return version
}
