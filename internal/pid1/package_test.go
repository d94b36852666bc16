package pid1

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const debsVariable = "SEKISHO_TEST_SYSTEMD_DEBS" // OLD.deb:NEW.deb, as `make test-packages` tells

// TestPackage: the package is installed, upgraded and removed while somebody is logged in and
// somebody is banned: the session lives, the ban holds without a gap, and a removal leaves
// neither a rule nor a unit behind, and sshd as it is.
func TestPackage(t *testing.T) {
	debs := filepath.SplitList(os.Getenv(debsVariable))
	if len(debs) != 2 {
		t.Skip("LEFT OUT: needs packages: make test-packages")
	}
	eachRelease(t, func(t *testing.T, m *machine) {
		const banned = "203.0.113.9"
		m.run("sh", "-c", "rm -f /usr/local/bin/sekisho /etc/systemd/system/sekisho* /usr/lib/sysusers.d/sekisho.conf; systemctl daemon-reload")
		for i, deb := range debs {
			m.write([]string{"/old.deb", "/new.deb"}[i], string(must[[]byte](t)(os.ReadFile(deb))), 0o644)
		}
		rules := func(when string) string {
			t.Helper()
			out, err := m.output("nft", "list", "table", "inet", "sekisho")
			if err != nil {
				t.Errorf("%s: no rules: %s", when, out)
			}
			return out
		}

		m.run("dpkg", "-i", "/old.deb")
		if state, _ := m.output("systemctl", "is-enabled", "sekisho.service"); state != "disabled" {
			t.Errorf("after the installation sekisho.service is %s", state)
		}
		m.write("/etc/sekisho/sekisho.yaml", "version: 1\nadmins: ["+otherAddr+", "+peerAddr+"]\nssh: {profile: basic, root_login: keys}\n", 0o640)
		m.run("sekisho", "config", "check")
		m.run("systemctl", "enable", "--now", "sekisho.service")
		m.run("sekisho", "apply", "--yes", "--no-wait", "--force")
		m.run("sekisho", "ban", banned, "--for", "1h")
		session := m.open("admin", 22)
		defer session.close()
		session.mustLive()
		pid, ofSSHD := m.property("sekisho.service", "MainPID"), m.run("sh", "-c", "cat /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf")

		// Whoever looks all the time sees the ban all the time.
		m.write("/look", "while [ ! -e /run/enough ]; do nft list table inet sekisho | grep -q "+banned+" || echo GAP; sleep 0.02; done\n", 0o644)
		look := m.command("sh", "/look")
		gaps := new(buffer)
		look.Stdout, look.Stderr = gaps, gaps
		try(t, look.Start())
		m.run("dpkg", "-i", "/new.deb")
		m.eventually("the new version answers", func() bool {
			_, err := m.output("sekisho", "status")
			return err == nil
		})
		m.run("touch", "/run/enough")
		try(t, look.Wait())
		if got := gaps.String(); got != "" {
			t.Errorf("while the package was upgraded: %s", got)
		}
		if now := m.property("sekisho.service", "MainPID"); now == pid || now == "0" {
			t.Errorf("the daemon was process %s and is %s", pid, now)
		}
		if got := m.run("sekisho", "version"); !strings.Contains(got, "1.1.0") {
			t.Errorf("the version is %s", got)
		}
		if got := m.run("sekisho", "bans"); !strings.Contains(got, banned) {
			t.Errorf("the ban is gone: %s", got)
		}
		session.mustLive()
		m.mustLogin(22)
		if failed := m.failed(); failed != "" {
			t.Errorf("failed units: %s", failed)
		}

		// A version that does not take the file leaves the one that runs alone.
		pid = m.property("sekisho.service", "MainPID")
		config := m.read("/etc/sekisho/sekisho.yaml")
		m.write("/etc/sekisho/sekisho.yaml", config+"nonsense: yes\n", 0o640)
		if out := m.run("dpkg", "-i", "/old.deb"); !strings.Contains(out, "NOT started anew") || !strings.Contains(out, "nonsense") {
			t.Errorf("a file that is not taken is told by:\n%s", out)
		}
		if now := m.property("sekisho.service", "MainPID"); now != pid {
			t.Error("the daemon was started anew with a file that it does not take")
		}
		m.write("/etc/sekisho/sekisho.yaml", config, 0o640)
		m.run("dpkg", "-i", "/new.deb")
		rules("before the removal")
		m.reboot()
		rules("after a reboot")
		session = m.open("admin", 22)
		defer session.close()

		said := m.run("dpkg", "-r", "sekisho")
		if out, err := m.output("nft", "list", "table", "inet", "sekisho"); err == nil {
			t.Errorf("after the removal there are rules:\n%s", out)
		}
		if !strings.Contains(said, "sshd stays as Sekisho set it up") {
			t.Errorf("nobody is told of sshd:\n%s", said)
		}
		if got := m.run("sh", "-c", "cat /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf"); got != ofSSHD {
			t.Errorf("sshd's files are others:\n%s", got)
		}
		for _, unit := range ours {
			if state, _ := m.output("systemctl", "is-active", unit); state != "inactive" && state != "unknown" {
				t.Errorf("%s is %s", unit, state)
			}
		}
		session.mustLive()
		m.mustLogin(22)
		m.run("dpkg", "-P", "sekisho")
		if out := m.run("sh", "-c", "find /etc /var/lib /usr -name '*sekisho*' ! -path '/var/lib/dpkg/*' ! -name 00-sekisho.conf; getent group sekisho sekisho-gate || true"); out != "" {
			t.Errorf("after a purge there is\n%s", out)
		}
		m.reboot()
		m.mustLogin(22)
		if failed := m.failed(); failed != "" {
			t.Errorf("failed units: %s", failed)
		}
	})
}
