package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/bench/loggen"
)

const (
	maxRetry        = 5 // of every program
	logStep         = 50 * time.Millisecond
	sshguardLibexec = "/usr/libexec/sshguard"
)

// logBegin is the first time in a log that nobody follows.
var logBegin = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// program is something that bans.
type program struct {
	name string
	// prepare writes what it needs into dir and returns how to start it.
	prepare func(b *bench, dir, log string) ([]service, error)
	// read returns how it reads a log in one go, and whether from its standard input.
	read func(b *bench, dir, log string) (args []string, stdin bool, err error)
	// keep does what has to be done for its first bans, n, to outlive the daemon;
	// nil where the daemon does it.
	keep func(h *host, n int) error
	// The shares of the log that it reads, and follows, within seconds.
	reads, follows float64
	slow           bool // bans by starting programs or by asking now and then: gets fewer samples and a time limit
}

// service is one daemon of a program. The next one is started once it listens.
type service struct {
	args    []string
	listens string // address and port; "" is not waited for
}

// find looks for the programs that are installed, and tells which are not.
func (b *bench) find() {
	b.programs = []program{{name: sekisho, prepare: prepareSekisho, read: readSekisho, reads: 1, follows: 1}}
	if b.noPeers {
		return
	}
	for _, p := range []struct {
		program
		needs []string
	}{
		{program{fail2ban, prepareFail2ban, readFail2ban, nil, 0.1, 0.05, true}, []string{"fail2ban-server", "fail2ban-regex"}},
		{program{sshguard, prepareSSHGuard, readSSHGuard, keepSSHGuard, 0.5, 0.02, true}, []string{"sshguard", sshguardLibexec + "/sshg-parser"}},
		{program{crowdsec, prepareCrowdSec, readCrowdSec, nil, 0.03, 0.02, true}, []string{"crowdsec", "cscli", "crowdsec-firewall-bouncer"}},
	} {
		if p.name == crowdsec && !b.peers {
			continue
		}
		if missing := slices.IndexFunc(p.needs, func(name string) bool { _, err := exec.LookPath(name); return err != nil }); missing >= 0 {
			b.report.leftOut(p.name, p.needs[missing]+" is not installed (make bench-deps installs it)")
			continue
		}
		b.programs = append(b.programs, p.program)
	}
}

// prepareSekisho turns off what would ban sooner than the others do: many
// sources that try the same name, as all of ours.
func prepareSekisho(b *bench, dir, log string) ([]service, error) {
	config := filepath.Join(dir, "sekisho.yaml")
	text := fmt.Sprintf("version: 1\nlog:\n  source: files\n  files: [%q]\nguard:\n  mode: normal\n  max_retry: %d\n  distributed: no\n", log, maxRetry)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return []service{{args: []string{
		b.sekisho, "run", "--config", config, "--state-dir", filepath.Join(dir, "state"), "--socket", filepath.Join(dir, "sekisho.sock"),
	}}}, nil
}

func readSekisho(b *bench, _, log string) ([]string, bool, error) {
	return []string{b.sekisho, "explain", log}, false, nil
}

// prepareFail2ban uses the distribution's jail, with its nftables action.
func prepareFail2ban(_ *bench, dir, log string) ([]service, error) {
	etc := filepath.Join(dir, "fail2ban")
	if err := os.CopyFS(etc, os.DirFS("/etc/fail2ban")); err != nil {
		return nil, err
	}
	files := map[string]string{
		"fail2ban.local": fmt.Sprintf("[Definition]\nlogtarget = %[1]s/fail2ban.log\nsocket = %[1]s/f2b.sock\npidfile = %[1]s/f2b.pid\ndbfile = %[1]s/f2b.sqlite3\n", dir),
		"jail.local": fmt.Sprintf("[DEFAULT]\nbackend = %s\nusedns = no\nbanaction = nftables-multiport\nbanaction_allports = nftables-allports\nmaxretry = %d\nfindtime = 10m\nbantime = 1h\n"+
			"[sshd]\nenabled = true\nlogpath = %s\n", fail2banBackend(), maxRetry, log),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return []service{{args: []string{"fail2ban-server", "-c", etc, "-s", filepath.Join(dir, "f2b.sock"), "-p", filepath.Join(dir, "f2b.pid"), "-f", "start"}}}, nil
}

// fail2banBackend is inotify where its module is installed, as in Debian.
func fail2banBackend() string {
	if exec.Command("/usr/bin/python3", "-c", "import pyinotify").Run() == nil {
		return "pyinotify"
	}
	return "polling"
}

func readFail2ban(_ *bench, _, log string) ([]string, bool, error) {
	return []string{"fail2ban-regex", log, "sshd"}, false, nil
}

// prepareSSHGuard lays our configuration over the one place that it reads, in
// our own mount namespace. Each failure weighs 10.
func prepareSSHGuard(_ *bench, dir, log string) ([]service, error) {
	etc := filepath.Join(dir, "etc-sshguard")
	text := fmt.Sprintf("BACKEND=%s/sshg-fw-nft-sets\nFILES=%s\nTHRESHOLD=%d\nBLOCK_TIME=3600\nDETECTION_TIME=600\n", sshguardLibexec, log, 10*maxRetry)
	if err := os.Mkdir(etc, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(etc, "sshguard.conf"), []byte(text), 0o644); err != nil {
		return nil, err
	}
	if err := unix.Mount(etc, "/etc/sshguard", "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("lay %s over /etc/sshguard: %w", etc, err)
	}
	return []service{{args: []string{"sshguard"}}}, nil
}

func readSSHGuard(*bench, string, string) ([]string, bool, error) {
	return []string{sshguardLibexec + "/sshg-parser"}, true, nil
}

// keepSSHGuard writes the bans into its blacklist: it keeps no others.
func keepSSHGuard(h *host, n int) error {
	blacklist := filepath.Join(h.dir, "blacklist.db")
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "%d|100|4|%s\n", time.Now().Unix(), source(burstSources, i))
	}
	if err := os.WriteFile(blacklist, []byte(text.String()), 0o600); err != nil {
		return err
	}
	config, err := os.OpenFile(filepath.Join(h.dir, "etc-sshguard", "sshguard.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	// The threshold is one that nothing reaches.
	_, err = fmt.Fprintf(config, "BLACKLIST_FILE=100000:%s\n", blacklist)
	return errors.Join(err, config.Close())
}

// host is a network namespace of its own with one program that follows a log.
type host struct {
	*watcher
	program
	dir      string
	path     string
	log      *os.File
	services []service
	pgid     int           // of all its processes
	ended    chan struct{} // closed when all services have ended
	warm     int
}

// newHost makes the namespace and starts the program, and waits until it bans.
func (b *bench) newHost(ctx context.Context, p program) (*host, error) {
	dir, err := os.MkdirTemp(b.dir, strings.ToLower(p.name)+"-")
	if err != nil {
		return nil, err
	}
	h := &host{program: p, dir: dir, path: filepath.Join(dir, "auth.log")}
	// RDONLY|CREATE apart from APPEND: all programs find an empty file.
	if h.log, err = os.OpenFile(h.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640); err != nil {
		return nil, err
	}
	if h.services, err = p.prepare(b, dir, h.path); err != nil {
		return nil, err
	}
	err = h.start()
	if err == nil {
		err = h.ready(ctx)
	}
	if err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

// start starts the program in a new network namespace: a kernel that knows
// nothing of what an earlier run put there, as after a boot.
func (h *host) start() error {
	h.pgid = 0
	errs := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine, and its namespace
		// with the last process and socket in it.
		runtime.LockOSThread()
		errs <- h.startHere()
	}()
	return <-errs
}

func (h *host) startHere() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	w, err := newWatcher()
	if err != nil {
		return err
	}
	output, err := os.OpenFile(filepath.Join(h.dir, "output"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	h.watcher, h.ended = w, make(chan struct{})
	var running sync.WaitGroup
	for _, s := range h.services {
		cmd := exec.Command(s.args[0], s.args[1:]...)
		cmd.Stdout, cmd.Stderr = output, output
		// No Pdeathsig: it follows the thread. Our PID namespace ends them all.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: h.pgid}
		if err = cmd.Start(); err != nil {
			break
		}
		if h.pgid == 0 {
			h.pgid = cmd.Process.Pid
		}
		running.Go(func() {
			_ = cmd.Wait() // how it ended is in its output
		})
		if err = listening(s.listens); err != nil {
			err = fmt.Errorf("%w: %s", err, h.lastOutput())
			break
		}
	}
	go func() {
		running.Wait()
		close(h.ended)
	}()
	return err // whoever started stops, whatever came of it
}

// listening waits until somebody listens there, in this thread's namespace.
func listening(address string) error {
	if address == "" {
		return nil
	}
	const pause = 10 * time.Millisecond
	var err error
	for range 30 * time.Second / pause {
		var conn net.Conn
		if conn, err = net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		time.Sleep(pause)
	}
	return err
}

func (h *host) lastOutput() string {
	output, _ := os.ReadFile(filepath.Join(h.dir, "output"))
	return lastLine(string(output))
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// ready attacks, each second from another address, until one of them is banned.
func (h *host) ready(ctx context.Context) error {
	begin := time.Now()
	first := h.warm
	for time.Since(begin) < time.Minute {
		select {
		case <-h.ended:
			return fmt.Errorf("%s ended: %s", h.name, h.lastOutput())
		default:
		}
		if err := h.fail(source(warmSources, h.warm), maxRetry); err != nil {
			return err
		}
		h.warm++
		banned, err := h.wait(ctx, time.Second, func(seen map[netip.Addr]time.Time) bool {
			for i := first; i < h.warm; i++ {
				if _, ok := seen[source(warmSources, i)]; ok {
					return true
				}
			}
			return false
		})
		if banned || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s bans nobody: %s", h.name, h.lastOutput())
}

var errSlowEnd = errors.New("did not end within 20 s, and was killed")

// kill ends the program, its helpers too, and waits for it.
func (h *host) kill(s syscall.Signal) error {
	if h.pgid == 0 {
		return nil // nothing was started
	}
	_ = syscall.Kill(-h.pgid, s) // its own group: see startHere
	select {
	case <-h.ended:
		return nil
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(-h.pgid, syscall.SIGKILL)
		<-h.ended
		return errSlowEnd
	}
}

func (h *host) stop() {
	_ = h.kill(syscall.SIGTERM)
	if h.pgid != 0 {
		_ = syscall.Kill(-h.pgid, syscall.SIGKILL)
	}
	if h.watcher != nil {
		h.watcher.close()
	}
	h.log.Close()
	if h.name == sshguard {
		_ = unix.Unmount("/etc/sshguard", unix.MNT_DETACH)
	}
	os.RemoveAll(h.dir)
}

// fail writes n wrong passwords from addr, in one write.
func (h *host) fail(addr netip.Addr, n int) error {
	var text []byte
	for i := range n {
		text = appendFailure(text, addr, i)
	}
	_, err := h.log.Write(text)
	return err
}

// appendFailure is the i-th failure of addr: a connection of its own.
func appendFailure(dst []byte, addr netip.Addr, i int) []byte {
	b := addr.As4()
	pid := 2000 + int(b[1])<<12 + int(b[2])<<4 + i
	return loggen.AppendFailure(dst, time.Now(), false, "web1", "root", addr, 20_000+i, pid)
}

// The first octets of our attackers. No two of an octet share a /24, so that
// none is banned for its neighbours.
const (
	warmSources    = 45
	latencySources = 46
	stormSource    = 47
	burstSources   = 48 // and the next ones
)

func source(octet, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(octet + i>>16), byte(i >> 8), byte(i), 7})
}

// cost is what all processes of a program take together.
type cost struct {
	rss  int64         // bytes
	pss  int64         // bytes: pages that several processes share are counted once
	peak int64         // bytes, of the processes that live
	cpu  time.Duration // children that ended included
}

// cost sums up the program's processes: all in our PID namespace but ourselves
// and what we started to measure.
func (h *host) cost() (cost, error) {
	var c cost
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return c, err
	}
	for _, dir := range dirs {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has ended
		}
		// Fields are counted after the name, which may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 22 || fields[2] != strconv.Itoa(h.pgid) { // pgrp
			continue
		}
		for _, i := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime, in 1/100 s
			ticks, err := strconv.ParseInt(fields[i], 10, 64)
			if err != nil {
				return c, fmt.Errorf("%s/stat: %w", dir, err)
			}
			c.cpu += time.Duration(ticks) * 10 * time.Millisecond
		}
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(line, ":")
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			switch {
			case err != nil:
			case key == "VmRSS":
				c.rss += kb * 1024
			case key == "VmHWM":
				c.peak += kb * 1024
			}
		}
		rollup, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(rollup)) {
			if kb, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 10, 64)
				if err != nil {
					return c, fmt.Errorf("%s/smaps_rollup: %w", dir, err)
				}
				c.pss += n * 1024
			}
		}
	}
	return c, nil
}
