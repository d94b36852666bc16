package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var unitDir = filepath.Join("..", "..", "contrib", "systemd")

// TestUnitsVerify: systemd has nothing to say about our units.
func TestUnitsVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("LEFT OUT: needs systemd-analyze")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	names := []string{"sekisho.service", "sekisho-firewall.service", "sekisho-sshd.service", "sekisho-reap.service", "sekisho-reap.timer", "sekisho-gate.service"}
	for i, name := range names {
		unit, err := os.ReadFile(filepath.Join(unitDir, name))
		if err != nil {
			t.Fatal(err)
		}
		unit = bytes.ReplaceAll(unit, []byte("/usr/local/bin/sekisho"), []byte(self)) // it looks for the program
		names[i] = filepath.Join(dir, name)
		if err := os.WriteFile(names[i], unit, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify", "--man=no"}, names...)...).CombinedOutput()
	var ours []string
	for line := range strings.Lines(string(out)) { // this machine's other units may be wrong
		if strings.Contains(line, "sekisho") {
			ours = append(ours, line)
		}
	}
	if len(ours) > 0 || err != nil {
		t.Errorf("%v: %s", err, strings.Join(ours, ""))
	}
}

// TestUnitOfTheBoot: it is in force before the network and never waits for it, is
// ordered after whoever flushes our table and runs again when it does, and stopping
// it takes nothing away.
func TestUnitOfTheBoot(t *testing.T) {
	firewall, guard := readUnit(t, "sekisho-firewall.service"), readUnit(t, "sekisho.service")
	for key, want := range map[string][]string{
		"DefaultDependencies": {"no"}, "Type": {"oneshot"}, "RemainAfterExit": {"yes"},
		"Before": {"network-pre.target", "shutdown.target"}, "Wants": {"network-pre.target"},
		"After":  {"local-fs.target", "systemd-modules-load.service", "nftables.service", "ufw.service", "firewalld.service"},
		"PartOf": {"nftables.service"}, "ReloadPropagatedFrom": {"nftables.service"}, "WantedBy": {"nftables.service"},
		"CapabilityBoundingSet": {"CAP_NET_ADMIN"},
	} {
		for _, word := range want {
			if !slices.Contains(firewall[key], word) {
				t.Errorf("%s=%s lacks %s", key, firewall[key], word)
			}
		}
	}
	if len(firewall["CapabilityBoundingSet"]) != 1 {
		t.Errorf("more than one capability: %s", firewall["CapabilityBoundingSet"])
	}
	for key, words := range firewall {
		if strings.HasPrefix(key, "ExecStop") || slices.Contains(words, "off") {
			t.Errorf("%s=%s takes the rules away", key, words)
		}
		if slices.Contains(words, "network.target") || slices.Contains(words, "network-online.target") {
			t.Errorf("%s=%s waits for the network", key, words)
		}
	}
	if !slices.Contains(guard["After"], "sekisho-firewall.service") {
		t.Error("the daemon does not start after it")
	}
	// Beside `sekisho apply`, which holds its place for a minute, systemd gave the daemon
	// up after five starts, for good.
	if !slices.Equal(guard["StartLimitInterval"], []string{"0"}) {
		t.Error("systemd gives the daemon up")
	}
	if !slices.Contains(guard["Also"], "sekisho-firewall.service") {
		t.Error("it is not enabled with the daemon")
	}
}

// TestUnitOfSSHDsBoot: it puts sshd's files back before sshd, or systemd for it, listens;
// it may write them, and keeps nobody from starting.
func TestUnitOfSSHDsBoot(t *testing.T) {
	unit, rules, guard := readUnit(t, "sekisho-sshd.service"), readUnit(t, "sekisho-firewall.service"), readUnit(t, "sekisho.service")
	for key, want := range map[string][]string{
		"DefaultDependencies": {"no"}, "Type": {"oneshot"}, "RemainAfterExit": {"yes"}, "WantedBy": {"sysinit.target"},
		"Before": {"ssh.service", "sshd.service", "ssh.socket", "sshd.socket", "shutdown.target"}, "After": {"local-fs.target"},
		"ExecStart": {"boot", "--sshd"},
	} {
		for _, word := range want {
			if !slices.Contains(unit[key], word) {
				t.Errorf("%s=%s lacks %s", key, unit[key], word)
			}
		}
	}
	for _, key := range []string{"RequiredBy", "ReadOnlyPaths", "ConditionKernelCommandLine", "PrivateNetwork"} {
		if words, ok := unit[key]; ok {
			t.Errorf("%s=%s: it must write /etc, hold nobody up, always run, and release this host's ports", key, words)
		}
	}
	for _, path := range []string{"/etc", "-/var/lib/sekisho", "-/proc/sys/net"} {
		if !slices.Contains(unit["ReadWritePaths"], path) {
			t.Errorf("it cannot write %s", path)
		}
	}
	if !slices.Contains(rules["ExecStart"], "--firewall") || !slices.Contains(guard["Also"], "sekisho-sshd.service") {
		t.Errorf("the firewall's unit runs %s, and with the daemon %s are enabled", rules["ExecStart"], guard["Also"])
	}
}

// TestUnitOfTheReaper: it may do nothing but speak to AWS, by credentials that need not be
// there; the timer starts it every minute, and nobody else does.
func TestUnitOfTheReaper(t *testing.T) {
	unit, timer, guard := readUnit(t, "sekisho-reap.service"), readUnit(t, "sekisho-reap.timer"), readUnit(t, "sekisho.service")
	for key, want := range map[string][]string{
		"Type": {"oneshot"}, "ExecStart": {"/usr/local/bin/sekisho", "reap"}, "EnvironmentFile": {"-/etc/sekisho/aws.env"},
		"ProtectSystem": {"full", "strict"}, "ProtectHome": {"yes"}, "NoNewPrivileges": {"yes"}, "PrivateDevices": {"yes"},
		"RestrictAddressFamilies": {"AF_INET", "AF_INET6"}, "After": {"network-online.target"}, "Wants": {"network-online.target"},
	} {
		if !slices.Equal(unit[key], want) {
			t.Errorf("%s=%s, want %s", key, unit[key], want)
		}
	}
	if words, ok := unit["CapabilityBoundingSet"]; !ok || len(words) > 0 {
		t.Errorf("capabilities: %s", words)
	}
	for _, key := range []string{"WantedBy", "StateDirectory", "AmbientCapabilities", "RemainAfterExit"} {
		if words, ok := unit[key]; ok {
			t.Errorf("%s=%s", key, words)
		}
	}
	for key, want := range map[string][]string{"OnCalendar": {"*:*:00"}, "Persistent": {"yes"}, "WantedBy": {"timers.target"}} {
		if !slices.Equal(timer[key], want) {
			t.Errorf("timer: %s=%s, want %s", key, timer[key], want)
		}
	}
	if slices.Contains(guard["Also"], "sekisho-reap.timer") {
		t.Error("it is enabled with the daemon, which does the same")
	}
	if !slices.Equal(guard["EnvironmentFile"], []string{"-/etc/sekisho/aws.env"}) {
		t.Errorf("the daemon's credentials: %s", guard["EnvironmentFile"])
	}
	command, err := os.ReadFile("reap.go")
	if err != nil || !bytes.Contains(command, []byte(`"reap"`)) {
		t.Errorf("there is no such command: %v", err)
	}
}

// readUnit reads a unit's settings, the words of each.
func readUnit(t *testing.T, name string) map[string][]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(unitDir, name))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string][]string{}
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok {
			settings[key] = append(settings[key], strings.Fields(value)...)
		}
	}
	return settings
}
