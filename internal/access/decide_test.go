package access

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the goldens anew")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

const office = `
people:
  hanako: {fixed: [203.0.113.7, "2001:db8:7::/64"], groups: [ops]}
  taro: {groups: [dev, night]}
  eve: {groups: [guests]}
  mallory: {}
targets:
  web: {aws: {region: eu-central-1, group: GROUP}, allow: [ops, {who: dev, at_most: 30m, hours: "mon-fri 09:00-18:00 Asia/Tokyo"}, taro], at_most: 8h, hours: "mon-fri 08:00-20:00 Asia/Tokyo", host: [web.example.com, "192.0.2.80"]}
  db: {aws: {region: eu-central-1, group: GROUP}, port: 2222, allow: [{who: dev, at_most: 30m, hours: "mon-fri 09:00-18:00 Asia/Tokyo"}, {who: night, at_most: 2h, hours: "daily 22:00-06:00 Asia/Tokyo"}], host: db.example.com}
  six: {aws: {region: eu-central-1, group: GROUP}, port: 2223, allow: [ops], ipv6: 64}
  vault: {aws: {region: eu-central-1, group: GROUP}, port: 2224, allow: [ops], exposure: fixed, host: web.example.com}
`

// TestDecide tells every yes and no, with all that is said of it.
func TestDecide(t *testing.T) {
	w := newWorld(t, office)
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, person, target string
		at                   string // in Tokyo; 2026-11-30 is a Monday
		length               time.Duration
		prefix               string
	}{
		{"usual", "hanako", "web", "2026-11-30 10:00", 0, ""},
		{"as long as one may", "hanako", "web", "2026-11-30 10:00", 8 * time.Hour, ""},
		{"longer than one may", "hanako", "web", "2026-11-30 10:00", 9 * time.Hour, ""},
		{"the hours end before", "hanako", "web", "2026-11-30 19:30", 2 * time.Hour, ""},
		{"outside its hours", "hanako", "web", "2026-11-28 12:00", time.Hour, ""},
		{"of two entries the longer", "taro", "web", "2026-11-30 10:00", time.Hour, ""},
		{"of two entries the one whose hours it is", "taro", "web", "2026-11-30 19:00", 0, ""},
		{"an entry's own limit", "taro", "db", "2026-11-30 10:00", time.Hour, ""},
		{"an entry's own hours end", "taro", "db", "2026-11-30 17:45", 0, ""},
		{"over midnight", "taro", "db", "2026-12-01 05:30", 2 * time.Hour, ""},
		{"between two entries' hours", "taro", "db", "2026-11-30 20:00", 0, ""},
		{"in another group", "eve", "web", "2026-11-30 10:00", 0, ""},
		{"in no group", "mallory", "web", "2026-11-30 10:00", 0, ""},
		{"fixed addresses only", "hanako", "vault", "2026-11-30 10:00", 0, ""},
		{"one address", "hanako", "web", "2026-11-30 10:00", 0, "198.51.100.9/32"},
		{"a network", "hanako", "web", "2026-11-30 10:00", 0, "198.51.100.0/24"},
		{"everybody", "hanako", "web", "2026-11-30 10:00", 0, "0.0.0.0/0"},
		{"one IPv6 address", "hanako", "web", "2026-11-30 10:00", 0, "2001:db8::1/128"},
		{"a /64 where it may not be", "hanako", "web", "2026-11-30 10:00", 0, "2001:db8::/64"},
		{"a /64 where it may be", "hanako", "six", "2026-11-30 10:00", 0, "2001:db8::/64"},
		{"wider than a /64", "hanako", "six", "2026-11-30 10:00", 0, "2001:db8::/63"},
		{"loopback", "hanako", "web", "2026-11-30 10:00", 0, "127.0.0.1/32"},
		{"link-local", "hanako", "web", "2026-11-30 10:00", 0, "fe80::1/128"},
		{"unmasked", "hanako", "six", "2026-11-30 10:00", 0, "2001:db8::1/64"},
		{"mapped", "hanako", "web", "2026-11-30 10:00", 0, "::ffff:198.51.100.9/128"},
	}
	var b strings.Builder
	for _, tt := range tests {
		door, err := w.Door(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.ParseInLocation("2006-01-02 15:04", tt.at, tokyo)
		if err != nil {
			t.Fatal(err)
		}
		q := Request{Person: tt.person, At: at, For: tt.length}
		if tt.prefix != "" {
			q.Prefix = netip.MustParsePrefix(tt.prefix)
		}
		d, err := w.Decide(door, q)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s: %s to %s at %s for %s from %q\n", tt.name, tt.person, tt.target, tt.at, tt.length, tt.prefix)
		for _, r := range d.Reasons {
			fmt.Fprintf(&b, "%s %s\n", map[bool]string{true: "yes", false: "no "}[r.OK], r.Text)
		}
		if d.Allowed {
			fmt.Fprintf(&b, "=> until %s, at the latest %s, at most %s\n", d.Until.Format("Mon 15:04"), d.Latest.Format("Mon 15:04"), d.AtMost)
		} else {
			fmt.Fprintf(&b, "=> %v\nhint: %s\n", d.Err(), d.Hint)
		}
		b.WriteByte('\n')
		switch {
		case d.Allowed != (d.Err() == nil):
			t.Errorf("%s: allowed is %t, and the error %v", tt.name, d.Allowed, d.Err())
		case !d.Allowed && d.Hint == "":
			t.Errorf("%s: nothing is said to do", tt.name)
		case d.Allowed && (d.Until.After(d.Latest) || d.Latest.Sub(at) > d.AtMost || !d.Until.After(at)):
			t.Errorf("%s: until %v, latest %v, at most %v", tt.name, d.Until, d.Latest, d.AtMost)
		}
	}
	golden(t, "decide.txt", b.String())
}

func TestUnknownNames(t *testing.T) {
	w := newWorld(t, office)
	var b strings.Builder
	for _, name := range []string{"webb", "WEB.example.com", "db.example.com", "192.0.2.80", "", "nothing-like-it"} {
		d, err := w.Door(name)
		fmt.Fprintf(&b, "target %q: %s, %s\n", name, d.Name, said(err))
	}
	for _, name := range []string{"hanak", "Taro", ""} {
		_, err := w.Decide(w.Doors()[0], Request{Person: name, At: time.Now()})
		fmt.Fprintf(&b, "person %q: %s\n", name, said(err))
	}
	_, err := w.Policy("prd", RoleReaper)
	fmt.Fprintf(&b, "account: %s\n", said(err))
	none := *w.Access
	cfg := *none.Config
	cfg.Targets, cfg.People = nil, nil
	none.Config = &cfg
	_, err = none.Door("web")
	fmt.Fprintf(&b, "no targets: %s\n", said(err))
	_, err = none.Decide(w.Doors()[0], Request{Person: "hanako"})
	fmt.Fprintf(&b, "no people: %s\n", said(err))
	golden(t, "unknown.txt", b.String())
}

func said(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return fmt.Sprintf("%v (%s)", e, e.Hint)
	}
	return fmt.Sprint(err)
}
