package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/country"
	"sekisho/internal/firewall"
	"sekisho/internal/lab"
	"sekisho/internal/prefixset"
	"sekisho/internal/run"
	"sekisho/internal/sshd/sshdtest"
)

var update = flag.Bool("update", false, "write the comparison into docs/amazon-linux-2.md")

const guide = "../../docs/amazon-linux-2.md"

// guideFile is the configuration that the document shows, byte for byte.
func guideFile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(version: 1\n.*?)```\n").FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no yaml block with a whole file", guide)
	}
	return string(m[1])
}

// TestGuideFile holds the file to the figures of the set-up that it takes the place of,
// and the document's comparison to the one that TestGuide tries.
func TestGuideFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sekisho.yaml")
	if err := os.WriteFile(path, []byte(guideFile(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, right := range map[string]bool{
		"5 failures in 600 s":             c.Guard.MaxRetry == 5 && c.Guard.FindTime == 600*time.Second,
		"a ban of 3600 s":                 c.Guard.BanTime == 3600*time.Second,
		"2 connections a minute, burst 5": c.Firewall.Rate == config.Rate{PerMinute: 2, Burst: 5},
		"renewed daily":                   c.Country.Every == 24*time.Hour,
	} {
		if !right {
			t.Errorf("the file does not ask for %s", what)
		}
	}

	for _, v := range verdicts {
		if (v.hand == v.ours) != (v.why == "") {
			t.Errorf("%s: by hand %s, ours %s, since %q", v.what, v.hand, v.ours, v.why)
		}
	}
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	marks := regexp.MustCompile(`(?s)(<!-- verdicts[^>]*-->\n).*(<!-- /verdicts -->\n)`)
	m := marks.FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no place for the comparison", guide)
	}
	want := bytes.Replace(text, m[0], slices.Concat(m[1], []byte(table()), m[2]), 1)
	switch {
	case bytes.Equal(text, want):
	case !*update:
		t.Errorf("the comparison in %s is another: go test ./cmd/sekisho -run TestGuideFile -update", guide)
	default:
		if err := os.WriteFile(guide, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGuide sets one host up by hand, as administrators of Amazon Linux 2 do, and
// another by the one file of docs/amazon-linux-2.md, sends the same packets to both, and
// tries what the document promises of the rest.
func TestGuide(t *testing.T) {
	t.Parallel() // it waits most of the time
	if err := lab.Available(""); err != nil {
		t.Skipf("LEFT OUT: %v", err)
	}
	for _, program := range []string{"iptables", "ipset", "nft", "ssh"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("LEFT OUT: needs the command %s; make deps installs it", program)
		}
	}
	embedded, err := country.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	japan, err := embedded.Set(country.Code{'J', 'P'})
	if err != nil {
		t.Fatal(err)
	}
	var byHand, byFile []string
	t.Run("both", func(t *testing.T) {
		t.Run("by hand", func(t *testing.T) {
			t.Parallel() // it waits most of the time
			s := newHandMade(t, japan.Prefixes())
			byHand = s.compare(t, verdicts)
			for i, v := range verdicts {
				if byHand[i] != v.hand {
					t.Errorf("%s: %s, want %s", v.what, byHand[i], v.hand)
				}
			}
			// The eighth part of the list is more than 100 entries, and is believed.
			whole := japan.Prefixes()
			s.refresh(t, whole[:len(whole)/8])
			if fate := s.fate(t, syn(s.somebody(), guidePort)); fate != "drop" {
				t.Errorf("a part of the list is in force, and a SYN from the rest of Japan: %s", fate)
			}
			// Without neighbours there is no IPv6.
			s.copyToIPv6(t)
			if fate := s.fate(t, solicitation); fate != "drop" {
				t.Errorf("the rules are copied to ip6tables, and a neighbour solicitation: %s", fate)
			}
		})
		t.Run("by sekisho.yaml", func(t *testing.T) {
			t.Parallel() // it waits most of the time
			g := newGuided(t, japan)
			g.setUp(t)
			last := len(verdicts) - 1 // it waits for half a minute; the rest is tried meanwhile
			byFile = g.site.compare(t, verdicts[:last])
			g.bans(t)
			g.refreshes(t)
			byFile = append(byFile, g.site.compare(t, verdicts[last:])...)
			booted := g.booted(t).compare(t, verdicts[:last])
			for i, v := range verdicts {
				if byFile[i] != v.ours {
					t.Errorf("%s: %s, want %s", v.what, byFile[i], v.ours)
				}
				if i < last && !v.live && booted[i] != v.ours {
					t.Errorf("%s, booted, no daemon: %s, want %s", v.what, booted[i], v.ours)
				}
			}
		})
	})
	for i, v := range verdicts {
		if i < len(byHand) && i < len(byFile) {
			t.Logf("%-76s %-12s %-12s %s", v.what, byHand[i], byFile[i], v.why)
		}
	}
}

// compare has the site see what arrives.
func (s *site) compare(t *testing.T, all []verdict) (got []string) {
	t.Helper()
	for _, v := range all {
		what := "-"
		if s.lab != nil || !v.live {
			what = v.see(t, s)
		}
		got = append(got, what)
	}
	return got
}

// guided is a host that becomes what the document's file says.
type guided struct {
	*host
	site    *site
	net     *internet
	japan   prefixset.Set
	mailbox func(*testing.T) []string
	keys    []string // files of keys that open nothing
}

// newGuided is a host as Amazon Linux 2 is, as far as that can be had: its sshd knows
// no Include, and its log is /var/log/secure. Nothing of the file is in force yet.
func newGuided(t *testing.T, japan prefixset.Set) *guided {
	t.Helper()
	h := newHost(t, lab.Options{System: true, LogFormat: lab.Traditional}, "")
	g := &guided{host: h, japan: japan}
	g.site = &site{Network: h.Network, lab: h.Lab, start: func(c run.Command) (*run.Child, error) { return h.Start(t.Context(), c) }}
	g.site.inject(t)
	g.net = newInternet(t, g.site)
	g.net.publish(statistics(japan))
	g.mailbox = h.mailServer(t)
	h.env = []string{"HTTPS_PROXY=", "https_proxy=", "NO_PROXY=*"} // the lab's internet has none
	err := h.InHost(func() error {
		for _, bundle := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"} {
			if err := os.WriteFile(bundle, g.net.roots, 0o644); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return os.WriteFile("/etc/resolv.conf", fmt.Appendf(nil, "nameserver %s\n", resolver), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	h.shell(t, "touch /var/log/secure && mount --bind "+h.LogPath+" /var/log/secure")
	if err := os.WriteFile(h.configPath(), []byte(guideFile(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		path := filepath.Join(h.dir, fmt.Sprint("key", i))
		h.shell(t, "ssh-keygen -q -t ed25519 -N '' -f "+path)
		g.keys = append(g.keys, path)
	}
	g.oldSSHD(t)
	return g
}

// stockConfig is sshd_config as Amazon Linux 2 has it, with what its users are warned of.
const stockConfig = `HostKey /run/sekisho-lab/host_key
SyslogFacility AUTHPRIV
PermitRootLogin yes
AuthorizedKeysFile /run/sekisho-lab/keys_%u
PasswordAuthentication yes
ChallengeResponseAuthentication no
UsePAM no
UseDNS no
X11Forwarding yes
AcceptEnv LANG LC_CTYPE LC_NUMERIC LC_TIME
Subsystem sftp /usr/libexec/openssh/sftp-server
`

// oldSSHD has the host run the release that .ci/sshds has nearest to 7.4, with all that
// this machine's sshd is run with.
func (g *guided) oldSSHD(t *testing.T) {
	t.Helper()
	leftOut := func(why string) {
		t.Run("OpenSSH as old as Amazon Linux 2's", func(t *testing.T) {
			t.Skip("LEFT OUT: " + why + "; the file is tried with this machine's own, " + g.Version)
		})
	}
	for _, root := range sshdtest.Roots(t) {
		library, err := filepath.Glob(filepath.Join(root, "usr/lib/*/libcrypto.so.1.0.0"))
		if err != nil || len(library) != 1 {
			continue // a newer one
		}
		into := "/usr/lib/" + filepath.Base(filepath.Dir(library[0]))
		g.shell(t, fmt.Sprintf("mkdir /run/old && cp %s /run/old && mount -t overlay -o lowerdir=/run/old:%s old %s && mount --bind %s/usr/sbin/sshd /usr/sbin/sshd",
			library[0], into, into, root))
		child, err := g.Start(t.Context(), run.Command{Args: []string{"/usr/sbin/sshd", "-V"}, Stdout: io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it knows no -V, and says what it is
		version := regexp.MustCompile(`OpenSSH_7\.\d+p\d`).FindString(child.Stderr())
		if version == "" {
			g.shell(t, "umount /usr/sbin/sshd "+into)
			leftOut("it does not run here: " + child.LastLine())
			return
		}
		t.Logf("sshd: %s, without Include", version)
		g.KillSSHD()
		err = g.InHost(func() error {
			if err := os.Remove("/etc/ssh/sshd_config.d/90-lab.conf"); err != nil {
				return err
			}
			return os.WriteFile("/etc/ssh/sshd_config", []byte(stockConfig), 0o600)
		})
		if err == nil {
			err = g.StartSSHD(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	leftOut("it is not unpacked (.ci/sshds)")
}

// setUp goes the document's way, from an sshd at port 22 that takes passwords: a trial
// that nobody confirms, and one that logins confirm.
func (g *guided) setUp(t *testing.T) {
	t.Helper()
	g.up(t)
	s := g.site
	s.older = g.loginAt(t, fixed, lab.Port)
	g.caughtUp(t)
	before := g.etc(t)
	g.command(t, nil, "apply", "--help").ends(t, 0, `--within .*\(default "60s"\)`)
	plan := g.command(t, s.older, "plan")
	plan.ends(t, 2, "sshd would move from port 22 to port 51921", "you are logged in from 198.51.100.10, which would be let in",
		`permitrootlogin +\S+ -> no`, "passwordauthentication +yes -> no")
	g.asBefore(t, before)

	apply := g.command(t, s.older, "apply", "--within", "8s")
	apply.says(t, "On trial until")
	if fate := s.fate(t, syn(american, lab.Port)); fate != "drop" {
		t.Errorf("on trial, and a SYN from elsewhere: %s", fate)
	}
	apply.ends(t, 1, "all is as it was before")
	g.settled(t)
	g.asBefore(t, before)
	if fate := s.fate(t, syn(american, lab.Port)); fate != "pass" {
		t.Errorf("nobody confirmed, and a SYN from elsewhere: %s", fate)
	}

	apply = g.command(t, s.older, "apply", "--within", "60s")
	apply.says(t, "On trial until")
	g.loginAt(t, s.somebody(), guidePort) // from Japan, as a user who can become root
	apply.says(t, `(?s)sshd listens on ports 22 and 51921, confirmed by .*On trial until `)
	g.loginAt(t, fixed, guidePort)
	apply.ends(t, 0, "sshd listens on port 51921, confirmed by")
	g.command(t, nil, "plan").ends(t, 0, "nothing would change", "sshd is as declared, and listens on port 51921")

	effective := s.run(t, "/usr/sbin/sshd", "-T")
	for keyword, want := range map[string]string{"port": "51921", "permitrootlogin": "no", "passwordauthentication": "no"} {
		lines := regexp.MustCompile("(?m)^"+keyword+" .*$").FindAllString(effective, -1)
		if len(lines) != 1 || lines[0] != keyword+" "+want {
			t.Errorf("sshd -T: %q, want %s", lines, want)
		}
	}
	s.ban = func(t *testing.T, a netip.Addr) { g.mustRun(t, "ban", a.String(), "--for", "1h", "--force") }
}

// ssh is OpenSSH's own client with wrong keys, each of which is an attempt.
func (g *guided) ssh(t *testing.T, from netip.Addr, keys int) {
	t.Helper()
	args := []string{
		"ssh", "-F", "/dev/null", "-p", fmt.Sprint(guidePort), "-b", from.String(), "-l", lab.AdminUser, "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "ConnectTimeout=5",
	}
	for _, key := range g.keys[:keys] {
		args = append(args, "-i", key)
	}
	err := g.World.Do(func() error {
		child, err := run.Start(t.Context(), run.Command{Args: append(args, lab.Host4.String(), "true"), Stdout: io.Discard})
		if err != nil {
			return err
		}
		if err := child.Wait(); err == nil || !strings.Contains(child.Stderr(), "Permission denied") {
			return fmt.Errorf("a login with a wrong key: %w: %s", err, child.Stderr())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// bans: five failures within ten minutes are banned, four are not, nor is who also logs
// in; and the mail says whose the address is.
func (g *guided) bans(t *testing.T) {
	t.Helper()
	four, five, owner := g.site.somebody(), g.site.somebody(), g.site.somebody()
	for range 4 {
		g.ssh(t, four, 1)
		g.ssh(t, five, 1)
	}
	g.ssh(t, owner, 2)
	g.loginAt(t, owner, guidePort).Close()
	g.ssh(t, owner, 3)
	if err := g.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.caughtUp(t)
	for _, a := range []netip.Addr{four, five, owner} {
		if g.banned(t, a) {
			t.Errorf("%s is banned too early", a)
		}
	}
	g.ssh(t, five, 1)
	eventually(t, "the fifth failure is banned", func() bool { return g.banned(t, five) })
	err := g.kernel.Bans(t.Context(), func(b firewall.Ban) error {
		if b.Prefix.Contains(five) && (b.Left > time.Hour || b.Left < time.Hour-time.Minute) {
			t.Errorf("the kernel holds the ban for %s", b.Left)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if g.banned(t, four) || g.banned(t, owner) {
		t.Error("others are banned, too")
	}
	if fate := g.site.fate(t, syn(five, guidePort)); fate != "drop" {
		t.Errorf("banned, and a SYN: %s", fate)
	}

	if g.mailbox == nil {
		return
	}
	var text string
	eventually(t, "a mail tells of the ban", func() bool {
		for _, m := range g.mailbox(t) {
			if strings.Contains(m, five.String()) {
				text = m
				return true
			}
		}
		return false
	})
	for _, want := range []string{"Example Network Service", "EXAMPLENET-JP", "abuse@example.jp", lab.AdminUser} {
		if !strings.Contains(text, want) {
			t.Errorf("the mail does not say %q:\n%s", want, text)
		}
	}
}

// refreshes: the registries' new addresses are let in, and a file that was cut short, or
// that lacks most of the country, changes nothing.
func (g *guided) refreshes(t *testing.T) {
	t.Helper()
	newcomer := netip.MustParseAddr("12.2.0.7")
	if fate := g.site.fate(t, syn(newcomer, guidePort)); fate != "drop" {
		t.Fatalf("a SYN from what is not Japan's yet: %s", fate)
	}
	fresh, err := prefixset.Of(freshJapan4)
	if err != nil {
		t.Fatal(err)
	}
	whole := statistics(g.japan.Union(fresh))
	g.net.publish(whole)
	g.command(t, nil, "country", "update").ends(t, 0)
	eventually(t, "what is Japan's now is let in", func() bool { return g.site.fate(t, syn(newcomer, guidePort)) == "pass" })

	eighth, err := prefixset.Of(g.japan.Prefixes()[:len(g.japan.Prefixes())/8]...)
	if err != nil {
		t.Fatal(err)
	}
	for want, file := range map[string]string{"the file is cut off": whole[:len(whole)/2], `9\d % fewer IPv4 addresses`: statistics(eighth)} {
		g.net.publish(file)
		g.command(t, nil, "country", "update").ends(t, 1, want, "the last good data stays")
		newcomer = newcomer.Next()
		if fate := g.site.fate(t, syn(newcomer, guidePort)); fate != "pass" {
			t.Errorf("%s, and a SYN from Japan: %s", want, fate)
		}
	}
}

// booted is a machine that comes up with the host's disk: what sekisho-firewall.service
// runs has run, and no daemon yet.
func (g *guided) booted(t *testing.T) *site {
	t.Helper()
	g.kill(t, syscall.SIGTERM)
	n, err := lab.NewNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	s := &site{Network: n, start: func(c run.Command) (child *run.Child, err error) {
		err = n.Host.Do(func() (err error) {
			child, err = run.Start(t.Context(), c)
			return err
		})
		return child, err
	}}
	s.inject(t)
	var sshd net.Listener // stands for it: to packets a listening socket is one
	err = n.Host.Do(func() (err error) {
		sshd, err = new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprint(":", guidePort))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sshd.Close() })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child, err := s.start(run.Command{
		Args: append([]string{self, "boot", "--firewall"}, g.flags()...), Env: append(os.Environ(), beSekisho+"=1"), Stdout: io.Discard,
	})
	if err == nil {
		err = child.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}
