package pid1

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBoot: the machine itself is what the other tests think it is.
func TestBoot(t *testing.T) {
	eachRelease(t, func(t *testing.T, m *machine) {
		for range 2 {
			if got := m.run("cat", "/proc/1/comm"); got != "systemd" {
				t.Errorf("the first process is %q", got)
			}
			if failed := m.failed(); failed != "" {
				t.Errorf("failed units: %s", failed)
			}
			m.mustLogin(22)
			m.reboot()
		}
	})
}

// ours are the units that make install installs.
var ours = []string{"sekisho.service", "sekisho-firewall.service", "sekisho-sshd.service"}

// TestUnits: systemd takes them without a complaint, and they start, at once and at boot.
func TestUnits(t *testing.T) {
	eachRelease(t, func(t *testing.T, m *machine) {
		m.write("/etc/sekisho/sekisho.yaml", "version: 1\nadmins: ["+otherAddr+"]\n", 0o640)
		m.run("systemctl", "daemon-reload")
		for _, unit := range ours {
			if out, err := m.output("systemd-analyze", "verify", unit); err != nil || strings.Contains(out, "sekisho") {
				t.Errorf("systemd-analyze verify %s: %v\n%s", unit, err, out)
			}
		}
		m.write("/etc/systemd/system/sekisho.service.d/debug.conf", "[Service]\nExecStart=\nExecStart=/usr/local/bin/sekisho run --debug\n", 0o644)
		m.run("systemctl", "daemon-reload")
		m.run(append([]string{"systemctl", "enable"}, ours...)...)
		m.run("systemctl", "start", "sekisho.service") // a notify service: it returns when it is ready
		if out, err := m.output("sekisho", "apply", "--yes", "--no-wait"); err != nil {
			t.Errorf("apply: %v\n%s", err, out)
		}
		m.run("systemctl", "reload", "sekisho.service")
		check := func(when string) {
			t.Helper()
			if got := m.property("sekisho.service", "ActiveState"); got != "active" {
				t.Errorf("%s: sekisho.service is %s:\n%s", when, got, m.run("journalctl", "-b", "-u", "sekisho.service", "--no-pager"))
			}
			if got := m.property("sekisho.service", "NRestarts"); got != "0" {
				t.Errorf("%s: sekisho.service was started again %s times", when, got)
			}
			if failed := m.failed(); failed != "" {
				t.Errorf("%s: failed units: %s", when, failed)
			}
			if out, err := m.output("nft", "list", "table", "inet", "sekisho"); err != nil {
				t.Errorf("%s: no rules: %s", when, out)
			}
			m.mustLogin(22)
		}
		check("now")
		m.reboot()
		check("after a reboot")
		if got := m.property("sekisho-firewall.service", "Result") + " " + m.property("sekisho-firewall.service", "ActiveState"); got != "success active" {
			t.Errorf("sekisho-firewall.service: %s", got)
		}
		if version, _, _ := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); version >= 2 && version < 1000 {
			if log := m.run("journalctl", "-b", "-u", "sekisho.service", "--no-pager"); !strings.Contains(log, "files are held to folders by Landlock") {
				t.Errorf("the unit lets it not use Landlock:\n%s", log)
			}
		}
		before := m.run("systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", "sekisho-firewall.service")
		if before == "0" {
			t.Error("sekisho-firewall.service did not run at boot")
		}
	})
}
