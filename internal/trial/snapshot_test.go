package trial

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/firewall"
)

var full = Snapshot{
	Generation: 7,
	Rules: firewall.Rules{
		Mode: firewall.ModeLockdown, Ports: []uint16{22, 51921}, Exposure: firewall.ExposurePublic,
		Admins:    []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::/48")},
		Countries: firewall.Countries{Allow: []string{"JP"}}, Rate: firewall.Rate{PerMinute: 2, Burst: 5}, NoTrack: true, NoIPv6: true,
		Open: []firewall.Service{{Proto: "udp", First: 60000, Last: 60010, From: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}}, Forward: true,
	},
	Confirmed: time.Date(2026, 8, 1, 12, 0, 0, 5, time.UTC), By: `the login of "hanako" from 192.0.2.7 port 40000`,
}

func TestSnapshot(t *testing.T) {
	d := disk{dir: filepath.Join(t.TempDir(), "state")}
	if got, err := Load(d.dir); err != nil || !reflect.DeepEqual(got, Snapshot{}) {
		t.Errorf("of a host where nothing was confirmed: %+v, %v", got, err)
	}
	for _, want := range []Snapshot{full, {Generation: 8, Rules: fixed}} {
		if err := d.write(confirmedFile, want); err != nil {
			t.Fatal(err)
		}
		got, err := Load(d.dir)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("read back (-want +got):\n%s", diff)
		}
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v (%v)", entries, err)
	}
	info, err := os.Stat(d.path(confirmedFile))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestLeftover: what an earlier write left when it was killed is in nobody's way.
func TestLeftover(t *testing.T) {
	d := disk{dir: t.TempDir()}
	if err := os.WriteFile(d.path(confirmedFile)+".new", []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.write(confirmedFile, full); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(d.dir); err != nil || got.Generation != 7 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDamaged(t *testing.T) {
	whole, err := encode(full)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) []byte {
		if !bytes.Contains(whole, []byte(old)) {
			t.Fatalf("the file does not hold %s:\n%s", old, whole)
		}
		return bytes.Replace(whole, []byte(old), []byte(new), 1)
	}
	for _, tt := range []struct {
		name string
		text []byte
		want string
	}{
		{"empty", nil, "torn"},
		{"zeros, as after a power cut", make([]byte, len(whole)), "torn"},
		{"edited", replace("192.0.2.7/32", "192.0.2.8/32"), "checksum"},
		{"an admin taken out", replace(`"192.0.2.7/32",`, ""), "checksum"},
		{"a key of its own", replace(`"format"`, `"more": 1, "format"`), "unknown field"},
		{"another format", replace(`"format": 1`, `"format": 2`), "this program reads 1"},
		{"more behind the end", append(bytes.Clone(whole), whole...), "more behind its end"},
		{"too large", append(bytes.Clone(whole), bytes.Repeat([]byte(" "), maxSnapshot)...), "larger than"},
		{"not ours", []byte(`{"nftables": []}`), "unknown field"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), confirmedFile)
			if err := os.WriteFile(path, tt.text, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Load(filepath.Dir(path))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) || hintOf(err) == "" {
				t.Errorf("error %v, want %q and %s in it, and a hint", err, tt.want, path)
			}
			if !reflect.DeepEqual(got, Snapshot{}) {
				t.Errorf("it is %+v all the same", got)
			}
		})
	}
	for n := range len(whole) - 1 { // the line's end may be lost
		if _, err := decode(whole[:n]); err == nil {
			t.Errorf("torn after %d of %d bytes: no error", n, len(whole))
		}
	}
}

// TestNewer: a rule set with a key that this program does not know is refused as a
// whole: that key may be the one that keeps somebody out.
func TestNewer(t *testing.T) {
	type later struct {
		Generation uint32 `json:"generation"`
		Curfew     string `json:"curfew"`
	}
	text := encodeAny(t, later{9, "22:00"})
	if _, err := decode(text); err == nil || !strings.Contains(err.Error(), "curfew") {
		t.Errorf("error: %v", err)
	}
	if _, err := decode(encodeAny(t, Snapshot{})); err == nil {
		t.Error("a snapshot without a generation: no error")
	}
}

func encodeAny(t *testing.T, v any) []byte {
	t.Helper()
	text, err := encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func FuzzDecode(f *testing.F) {
	whole, err := encode(full)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(`{"format":1,"sha256":"","snapshot":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decode(text)
		if err != nil {
			return
		}
		again, err := encode(s)
		if err != nil {
			t.Fatalf("read, but cannot be written: %v", err)
		}
		if _, err := decode(again); err != nil {
			t.Fatalf("read and written, but cannot be read again: %v", err)
		}
	})
}
