package sshlog_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/sshlog"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The samples' peer, wherever they name one.
var samplePeers = []netip.Addr{
	netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr("fe80::1%eth0"),
}

func TestSamplesAreOfTheirKind(t *testing.T) {
	seen := map[sshlog.Kind]bool{}
	for _, info := range sshlog.Kinds() {
		seen[info.Kind] = true
		for _, s := range info.Samples {
			var ev sshlog.Event
			if !sshlog.Parse([]byte(s.Message), &ev) || ev.Kind != info.Kind {
				t.Errorf("%q: got kind %v, want %v", s.Message, ev.Kind, info.Kind)
			}
			named := false
			for _, peer := range samplePeers {
				named = named || ev.Addr == peer
				if info.Kind == sshlog.Unknown || info.Kind == sshlog.Penalty && ev.Prefix.Bits() == 64 {
					named = !ev.Addr.IsValid()
					break
				}
				if strings.Contains(s.Message, peer.String()) && ev.Addr != peer {
					t.Errorf("%q: got address %v, want %v", s.Message, ev.Addr, peer)
				}
			}
			if ev.Addr.IsValid() && !named {
				t.Errorf("%q: got address %v", s.Message, ev.Addr)
			}
			if strings.Contains(s.Message, " port 40022") && info.Kind != sshlog.Unknown && ev.Port != 40022 {
				t.Errorf("%q: got port %d", s.Message, ev.Port)
			}
		}
	}
	words := map[string]bool{}
	for k := sshlog.Unknown; k.String() != "unknown" || k == sshlog.Unknown; k++ {
		if !seen[k] {
			t.Errorf("kind %v (%d) has no sample", k, k)
		}
		if words[k.String()] || k.String() == "" {
			t.Errorf("kind %d: word %q is empty or taken", k, k)
		}
		words[k.String()] = true
	}
}

func TestKindsDocument(t *testing.T) {
	var doc bytes.Buffer
	doc.WriteString(`# Kinds of messages

What sekisho understands of OpenSSH's log: made from internal/sshlog/kinds.go by ` + "`go test ./internal/sshlog -run Document -update`" + `.
The messages are those of OpenSSH portable 7.4 to 10.5, of the older ones that are still met, of libwrap and of PAM.

"Counts" is what a line adds to its peer's attempts. A connection's lines are joined; of several that speak of one
attempt, one counts. The modes: ` + "`normal`, `ddos`, `extra`, and `aggressive`, which is `ddos` and `extra`." + `

An address is taken only from where sshd's format puts it. A message of 500 bytes or more may have lost its end
(sshd gives syslog no more, log.c): one in which a client's own text precedes the peer then names no peer.
OpenSSH 9.8 (and no other) logs the two addresses of a timeout the wrong way round: the first, which later versions
mean as the peer, is then the server's own.

| kind | what | counts |
|---|---|---|
`)
	for _, info := range sshlog.Kinds() {
		fmt.Fprintf(&doc, "| `%v` | %s | %s |\n", info.Kind, info.Meaning, info.Counts)
	}
	doc.WriteString("\n## Samples\n")
	for _, info := range sshlog.Kinds() {
		fmt.Fprintf(&doc, "\n### %v\n```\n", info.Kind)
		for _, s := range info.Samples {
			versions := s.Versions
			if versions == "" {
				versions = "any"
			}
			fmt.Fprintf(&doc, "%-9s %s\n", versions, s.Message)
		}
		doc.WriteString("```\n")
	}
	golden(t, filepath.Join("..", "..", "docs", "kinds.md"), doc.Bytes())
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, diff)
	}
}
