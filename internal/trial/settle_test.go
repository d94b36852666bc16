package trial

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sekisho/internal/firewall"
)

// TestSettleLost: the state directory was deleted while the daemon ran, and all
// seemed well until the next boot loaded nothing.
func TestSettleLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	fake := firewall.NewFake(nil)
	trials := New(Options{Firewall: fake, Dir: dir})
	if _, err := trials.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := fake.Ensure(t.Context(), firewall.State{Ports: []uint16{22}}); err != nil {
		t.Fatal(err)
	}
	if err := trials.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	if s, err := Load(dir); err != nil || s.Generation != 0 {
		t.Errorf("nothing was confirmed, and %+v %v is on the disk", s, err)
	}
	rules := firewall.Rules{Mode: firewall.ModeGuard, Ports: []uint16{22}, Exposure: firewall.ExposurePublic}
	if err := trials.Run(t.Context(), Request{Rules: rules, Within: time.Minute, NoWait: true, By: "the test"}, nil); err != nil {
		t.Fatal(err)
	}
	for name, lose := range map[string]func() error{
		"deleted": func() error { return os.RemoveAll(dir) },
		"damaged": func() error { return os.WriteFile(filepath.Join(dir, confirmedFile), []byte("{"), 0o600) },
	} {
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		if err := trials.Settle(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s, err := Load(dir); err != nil || s.Generation != 1 || s.By == "" {
			t.Errorf("%s: on the disk is %+v %v", name, s, err)
		}
	}
}
