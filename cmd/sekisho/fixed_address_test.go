package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sekisho/internal/lab"
	"sekisho/internal/run"
)

// The addresses of docs/fixed-address.md, and two at which its reader happens to be.
const (
	vpnGateway = "203.0.113.10"
	vpnHere    = "198.51.100.20"
	vpnThere   = "198.51.100.77"
)

// TestFixedAddress does what docs/fixed-address.md says, with the files that stand there: somebody
// whose address changes comes by the gateway's, which is the only one that the host lets in.
func TestFixedAddress(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"wg", "wg-quick", "wireguard-go", "nft", "ip", "ssh", "ssh-keygen", "nsenter", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("LEFT OUT: the VPN of docs/fixed-address.md is not tried: %v: make deps installs it", err)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("LEFT OUT: the VPN of docs/fixed-address.md is not tried: %v", err)
	}
	h := newHost(t, lab.Options{}, "")
	page := readPage(t, "../../docs/fixed-address.md", wireguardKeys(t, "GATEWAY", "HANAKO"))
	gateway, person := newMachine(t), newMachine(t)
	connect(t, h, gateway, person)

	key := filepath.Join(t.TempDir(), "key")
	output(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	err = h.InHost(func() error { return os.WriteFile("/run/sekisho-lab/keys_"+lab.AdminUser, public, 0o644) })
	if err != nil {
		t.Fatal(err)
	}
	// from is the address that sshd sees a login of theirs come from.
	from := func() string {
		out, err := person.try(t, "timeout", "8", "ssh", "-F", "none", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "ConnectTimeout=2", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", lab.AdminUser+"@"+lab.Host4.String(), "echo $SSH_CONNECTION")
		if err != nil {
			return "nowhere: " + strings.TrimSpace(out)
		}
		return strings.Fields(out + " nowhere")[0]
	}
	comes := func(when, want string) {
		t.Helper()
		if got := from(); got != want && (want != "" || !strings.HasPrefix(got, "nowhere")) {
			t.Errorf("%s they come from %s, want %q", when, got, want)
		}
	}
	comes("without a tunnel", vpnHere)

	gateway.write(t, "/etc/wireguard/ssh0.conf", page.file("/etc/wireguard/ssh0.conf on the gateway"))
	gateway.write(t, "/etc/wireguard/ssh0.nft", page.file("/etc/wireguard/ssh0.nft on the gateway"))
	gateway.must(t, "wg-quick", "up", "ssh0")
	person.write(t, "/etc/wireguard/ssh0.conf", page.file("ssh0.conf on hanako's machine"))
	person.must(t, "wg-quick", "up", "ssh0")
	comes("through the tunnel", vpnGateway)
	if out := person.must(t, "ip", "route", "get", "192.0.2.2"); strings.Contains(out, "ssh0") {
		t.Errorf("more than the hosts goes through the tunnel: %s", out)
	}

	source := page.file("/etc/sekisho/sekisho.yaml on each host") + fmt.Sprintf("log: {source: files, files: [%s]}\n", h.LogPath)
	if err := os.WriteFile(h.configPath(), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	h.command(t, nil, "apply", "--no-wait").ends(t, 0)
	comes("with the host's rules, through the tunnel", vpnGateway)
	person.must(t, "wg-quick", "down", "ssh0")
	comes("with the host's rules, without the tunnel", "")
	person.moveTo(t, vpnThere)
	comes("without the tunnel, elsewhere", "")
	person.must(t, "wg-quick", "up", "ssh0")
	comes("through the tunnel, elsewhere", vpnGateway)
	person.moveTo(t, vpnHere)
	// WireGuard notices after 15 s without an answer; a try takes two.
	for tries := 0; from() != vpnGateway; tries++ {
		if tries == 30 {
			t.Fatal("who moved while the tunnel was up does not come by the gateway again")
		}
	}

	// The gateway's own rules leave the tunnel as it is. It has neither an sshd nor a log; something listens.
	listen(t, gateway.namespace, 22)
	config := filepath.Join(t.TempDir(), "gateway.yaml")
	source = strings.Replace(page.file("/etc/sekisho/sekisho.yaml on the gateway"), "ssh: {profile: basic}\n", fmt.Sprintf("log: {source: files, files: [%s]}\n", h.LogPath), 1)
	if err := os.WriteFile(config, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	gateway.must(t, "env", beSekisho+"=1", self, "apply", "--no-wait", "--force", "--config", config, "--state-dir", state, "--socket", filepath.Join(state, "sock"))
	if out := gateway.must(t, "nft", "-t", "list", "table", "inet", "sekisho"); !strings.Contains(out, "51820") {
		t.Errorf("the gateway's rules do not know WireGuard's port:\n%s", out)
	}
	person.must(t, "wg-quick", "down", "ssh0")
	person.must(t, "wg-quick", "up", "ssh0")
	comes("with Sekisho on the gateway", vpnGateway)

	// Whatever a client says goes through: the gateway forwards to its targets, and is none itself.
	person.must(t, "wg", "set", "ssh0", "peer", page.keys["GATEWAY_PUBLIC_KEY"], "allowed-ips", "192.0.2.0/24,10.99.0.0/24")
	person.must(t, "ip", "route", "add", "192.0.2.2/32", "dev", "ssh0")
	person.must(t, "ip", "route", "add", "10.99.0.1/32", "dev", "ssh0")
	listen(t, h.Host, 2222)
	listen(t, h.World, 22)
	for _, at := range []string{"192.0.2.1:2222", "192.0.2.2:22", "10.99.0.1:22"} {
		if person.reaches(t, at) {
			t.Errorf("the tunnel leads to %s", at)
		}
	}
	comes("having said so", vpnGateway)

	gateway.must(t, "wg", "set", "ssh0", "peer", page.keys["HANAKO_PUBLIC_KEY"], "remove")
	comes("having been removed", "")
}

// page is a document with keys in place of the words that stand for them.
type page struct {
	t    *testing.T
	text string
	keys map[string]string
}

func readPage(t *testing.T, path string, keys map[string]string) page {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return page{t, string(raw), keys}
}

// file is the block of the page whose first line is a comment with its name.
func (p page) file(name string) string {
	p.t.Helper()
	_, rest, ok := strings.Cut(p.text, "\n# "+name)
	body, _, closed := strings.Cut(rest, "\n```\n")
	_, body, line := strings.Cut(body, "\n")
	if !ok || !closed || !line {
		p.t.Fatalf("the page has no file %q", name)
	}
	for word, key := range p.keys {
		body = strings.ReplaceAll(body, word, key)
	}
	return body + "\n"
}

// wireguardKeys are a key pair for each name: NAME_PRIVATE_KEY, NAME_PUBLIC_KEY.
func wireguardKeys(t *testing.T, names ...string) map[string]string {
	t.Helper()
	keys := map[string]string{}
	for _, name := range names {
		private := output(t, "wg", "genkey")
		keys[name+"_PRIVATE_KEY"] = private
		keys[name+"_PUBLIC_KEY"] = output(t, "sh", "-c", "echo "+private+" | wg pubkey")
	}
	return keys
}

// output runs a program on this machine.
func output(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// aMachine is a network namespace with processes, /etc/wireguard, /etc/ssh and /run of its own: all of it ends with the test.
type aMachine struct {
	namespace *lab.Namespace
	pid       string // of the first process in it
}

func newMachine(t *testing.T) *aMachine {
	t.Helper()
	namespace, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	m := &aMachine{namespace: namespace}
	const first = `read pid rest </proc/self/stat
for folder in /run /etc/wireguard /etc/ssh; do mount -t tmpfs -o mode=0700 tmpfs $folder || exit 1; done
ip link set lo up; echo $pid; exec sleep infinity`
	var child *run.Child
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the child ends with the thread
		defer runtime.UnlockOSThread()
		started <- namespace.Do(func() (err error) {
			child, err = run.Start(context.WithoutCancel(t.Context()), run.Command{
				Args: []string{"unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", first}})
			return err
		})
		<-ended
	}()
	t.Cleanup(func() { close(ended) })
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Signal(os.Kill)
		_ = child.Wait() // it was killed
		namespace.Close()
	})
	line, err := bufio.NewReader(child.Stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("no machine: %v: %s", err, child.Stderr())
	}
	m.pid = strings.TrimSpace(line)
	return m
}

// try runs a program on the machine, and returns what it printed.
func (m *aMachine) try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "nsenter", append([]string{"-t", m.pid, "-n", "-m", "-p", "--"}, args...)...).CombinedOutput()
	return string(out), err
}

func (m *aMachine) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.try(t, args...)
	if err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
	return out
}

// write writes one of the machine's own files.
func (m *aMachine) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join("/proc", m.pid, "root", path), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// moveTo gives the machine another address in place of the one that it has.
func (m *aMachine) moveTo(t *testing.T, address string) {
	t.Helper()
	m.must(t, "ip", "address", "flush", "dev", "eth0")
	m.must(t, "ip", "address", "add", address+"/24", "dev", "eth0")
	m.must(t, "ip", "route", "replace", "default", "via", netip.MustParsePrefix(address+"/24").Masked().Addr().Next().String())
}

func (m *aMachine) reaches(t *testing.T, at string) bool {
	t.Helper()
	host, port, _ := strings.Cut(at, ":")
	_, err := m.try(t, "timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/"+host+"/"+port)
	return err == nil
}

// listen has something answer at a port of a namespace.
func listen(t *testing.T, namespace *lab.Namespace, port int) {
	t.Helper()
	err := namespace.Do(func() error {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// connect puts the two into the host's world, each in a network of its own.
func connect(t *testing.T, h *host, gateway, person *aMachine) {
	t.Helper()
	world := func(args ...string) {
		t.Helper()
		var out []byte
		err := h.World.Do(func() (err error) {
			out, err = exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
			return err
		})
		if err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	world("sysctl", "-qw", "net.ipv4.ip_forward=1")
	for _, m := range []struct {
		machine          *aMachine
		device, at, here string
	}{{gateway, "gateway0", vpnGateway, "203.0.113.1/24"}, {person, "person0", vpnHere, "198.51.100.1/24"}} {
		// The lab's world is everybody of these networks; here somebody else is.
		world("ip", "route", "del", "local", netip.MustParsePrefix(m.here).Masked().String(), "dev", "lo", "table", "local")
		world("ip", "link", "add", m.device, "type", "veth", "peer", "name", "eth0", "netns", m.machine.pid)
		world("ip", "address", "add", m.here, "dev", m.device)
		world("ip", "link", "set", m.device, "up")
		m.machine.must(t, "ip", "link", "set", "eth0", "up")
		m.machine.moveTo(t, m.at)
	}
}
