package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a finished program took.
type usage struct {
	Wall, User, System time.Duration
	PeakRSS            int64 // bytes
	Exit               int
}

// measureArg makes us a launcher that pins itself to one CPU, runs a program and
// tells its usage on file descriptor 3. It is a process of its own because the
// kernel counts in a child's peak memory what its parent had at the fork, and
// this parent is small.
const measureArg = "-measure"

func measureMain(args []string) int {
	cpu, err := strconv.Atoi(args[0])
	if err != nil {
		return 2
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		fmt.Fprintln(os.Stderr, "pin to CPU:", err)
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begin := time.Now()
	err = cmd.Run()
	wall := time.Since(begin)
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	u := usage{Wall: wall, User: cmd.ProcessState.UserTime(), System: cmd.ProcessState.SystemTime(), Exit: cmd.ProcessState.ExitCode()}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.PeakRSS = ru.Maxrss * 1024
	}
	if err := json.NewEncoder(os.NewFile(3, "usage")).Encode(u); err != nil {
		fmt.Fprintln(os.Stderr, "tell the usage:", err)
		return 2
	}
	return 0
}

// measure runs args on the last CPU, with env added to a plain environment. An
// exit code over 1 is an error (grep's 1 is "no match"). A nil stdout is
// /dev/null, where grep would stop at its first match.
func measure(ctx context.Context, stdin io.Reader, stdout io.Writer, env []string, args ...string) (usage, error) {
	var u usage
	self, err := os.Executable()
	if err != nil {
		return u, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return u, err
	}
	defer r.Close()
	var complaint strings.Builder
	cmd := exec.CommandContext(ctx, self, append([]string{measureArg, strconv.Itoa(lastCPU())}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}, env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &complaint
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return u, err
	}
	decodeErr := json.NewDecoder(r).Decode(&u)
	if err := cmd.Wait(); err != nil || decodeErr != nil || u.Exit > 1 || u.Exit < 0 {
		return u, fmt.Errorf("%s: exit %d: %s", strings.Join(args, " "), u.Exit, lastLine(complaint.String()))
	}
	return u, nil
}

// lastCPU is the highest that we may run on.
func lastCPU() int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0
	}
	last := 0
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			last = i
		}
	}
	return last
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// describe says what was measured, and where.
func describe(o *options) []string {
	first := func(args ...string) string {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil && len(out) == 0 {
			return "not installed"
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line
	}
	var name unix.Utsname
	kernel := "unknown"
	if unix.Uname(&name) == nil {
		kernel, _, _ = strings.Cut(unix.ByteSliceToString(name.Release[:]), "-") // what follows is the build's name
	}
	model := ""
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value) + ", "
				break
			}
		}
	}
	lines := []string{
		fmt.Sprintf("%s, on %s%d CPUs, kernel %s, %s, load average before it %s", time.Now().Format("2006-01-02"), model, runtime.NumCPU(), kernel, runtime.Version(), loadAverages()[0]),
		fmt.Sprintf("Sekisho: %s", first(o.sekisho, "version")),
	}
	if !o.peers {
		return append(lines, fmt.Sprintf("fail2ban: %s; SSHGuard: %s; grep: %s", first("fail2ban-server", "--version"), first("sshguard", "-v"), first("grep", "--version")))
	}
	return append(lines, fmt.Sprintf("fail2ban: %s; SSHGuard: %s; CrowdSec: %s, bouncer: %s",
		first("fail2ban-server", "--version"), first("sshguard", "-v"), packaged("crowdsec"), packaged("crowdsec-firewall-bouncer")))
}

// packaged is the version of an installed package: the program tells its own in
// eleven lines.
func packaged(name string) string {
	for _, args := range [][]string{{"dpkg-query", "-W", "-f", "${Version}", name}, {"rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}", name}} {
		if out, err := exec.Command(args[0], args[1:]...).Output(); err == nil {
			return string(out)
		}
	}
	return "not installed"
}

// endOf says how busy the machine was, with us and with whatever else it did, at
// the end of a comparison.
func endOf(o *options) []string {
	if !o.peers {
		return nil
	}
	return []string{fmt.Sprintf("rounds, in turns: %d; ended %s UTC; load averages of the last 1, 5 and 15 minutes then: %s",
		o.runs, time.Now().UTC().Format("2006-01-02 15:04"), strings.Join(loadAverages(), ", "))}
}

// loadAverages are those of 1, 5 and 15 minutes.
func loadAverages() []string {
	load, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(load))
	if err != nil || len(fields) < 3 {
		return []string{"unknown"}
	}
	return fields[:3]
}
