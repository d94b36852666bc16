package packaging

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var unitDir = filepath.Join("..", "contrib", "systemd")

// worst is what systemd-analyze security may say of a unit, at most.
const worst = 2.0

// TestUnitsExposure: what a unit may do to this host, as systemd counts it.
func TestUnitsExposure(t *testing.T) {
	units := glob(t, "*.service")
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "--version").Output()
	version, _ := strconv.Atoi(regexp.MustCompile(`[0-9]+`).FindString(string(out)))
	if err != nil || version < 250 {
		t.Skip("LEFT OUT: needs systemd-analyze of systemd 250 or later, which looks at units that are not installed")
	}
	for _, unit := range units {
		out, _ := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--no-pager", unit).CombinedOutput()
		level := regexp.MustCompile(`exposure level for .*: ([0-9.]+)`).FindSubmatch(out)
		if level == nil {
			t.Errorf("%s: %s", unit, out)
			continue
		}
		if got, err := strconv.ParseFloat(string(level[1]), 64); err != nil || got > worst {
			t.Errorf("%s: %s, more than %.1f:\n%s", unit, level[1], worst, out)
		}
	}
}

// known219 are the settings of ours that systemd 219 knows, as of Red Hat's (on which Amazon
// Linux 2's is based), and where it matters the values that it takes. Source:
// src/core/load-fragment-gperf.gperf.m4 and load-fragment.c there.
var known219 = map[string]string{
	"Description": "", "Documentation": "", "ConditionKernelCommandLine": "", "ConditionPathExists": "", "DefaultDependencies": "", "RequiresMountsFor": "",
	"After": "", "Before": "", "Wants": "", "Conflicts": "", "PartOf": "", "ReloadPropagatedFrom": "", "WantedBy": "", "Also": "",
	"Type": "notify oneshot", "Restart": "always", "NotifyAccess": "main", "ExecStart": "", "ExecReload": "", "EnvironmentFile": "",
	"WatchdogSec": "", "TimeoutStartSec": "", "TimeoutStopSec": "", "RestartSec": "", "StartLimitInterval": "", "RemainAfterExit": "yes",
	"StandardOutput": "journal", "StandardError": "journal journal+console",
	"User": "", "Group": "", "SupplementaryGroups": "", "AmbientCapabilities": "", "CapabilityBoundingSet": "", "NoNewPrivileges": "yes",
	"RuntimeDirectory": "", "RuntimeDirectoryMode": "", "UMask": "", "OOMScoreAdjust": "", "LimitCORE": "", "LimitNOFILE": "", "TasksMax": "",
	"ProtectSystem": "yes full", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes", "DevicePolicy": "closed",
	"RestrictAddressFamilies": "", "SystemCallArchitectures": "native", "SystemCallErrorNumber": "EPERM", "SystemCallFilter": "",
	"OnCalendar": "", "RandomizedDelaySec": "", "AccuracySec": "", "Persistent": "yes",
}

// newer are the settings that 219 does not know: it warns and goes on without. Each has a line
// in docs/systemd.md.
var newer = map[string]int{
	"StateDirectory": 235, "StateDirectoryMode": 235, "ConfigurationDirectory": 235, "ReadWritePaths": 231, "MemoryMax": 231, "IPAddressDeny": 235,
	"ProtectKernelTunables": 232, "ProtectKernelModules": 232, "ProtectControlGroups": 232, "ProtectKernelLogs": 244, "ProtectClock": 245, "ProtectHostname": 242,
	"ProtectProc": 247, "ProcSubset": 247, "PrivateMounts": 239, "LockPersonality": 235, "MemoryDenyWriteExecute": 231, "KeyringMode": 235, "RemoveIPC": 232,
	"RestrictNamespaces": 233, "RestrictRealtime": 231, "RestrictSUIDSGID": 242,
}

// TestUnitsOn219: a systemd of 2015 knows each setting, or goes on without it as told; and
// where it does not know a value it knows one that stands before.
func TestUnitsOn219(t *testing.T) {
	table, err := os.ReadFile(filepath.Join("..", "docs", "systemd.md"))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, unit := range append(glob(t, "*.service"), glob(t, "*.timer")...) {
		good := map[string]bool{} // has a value that 219 takes
		for _, s := range settings(t, unit) {
			used[s.key] = true
			values, known := known219[s.key]
			version, isNewer := newer[s.key]
			switch {
			case known && values != "" && slices.Contains(strings.Fields(values), s.value):
				good[s.key] = true
			case known && values != "" && !good[s.key]:
				t.Errorf("%s: 219 takes %s=%s, not %s, and none stands before it", unit, s.key, values, s.value)
			case isNewer && !regexp.MustCompile(`(?m)^\|.*`+"`"+s.key+"=`"+`.*\| `+strconv.Itoa(version)+` \|`).Match(table):
				t.Errorf("docs/systemd.md has no line that says that %s= is known since %d", s.key, version)
			case !known && !isNewer:
				t.Errorf("%s: %s= is new: since which systemd is it known, and what without it?", unit, s.key)
			}
			// With a list of what is allowed, of whose names it knows none, 219 would deny all.
			if s.key == "SystemCallFilter" && !strings.HasPrefix(s.value, "~") && s.value != "@chown" {
				t.Errorf("%s: SystemCallFilter=%s", unit, s.value)
			}
			// Prefixes of 219 are - and @ alone; of a + it would look for a program of that name.
			if strings.HasPrefix(s.key, "Exec") && !strings.HasPrefix(s.value, "/") {
				t.Errorf("%s: %s=%s", unit, s.key, s.value)
			}
			if strings.Contains(s.value, "%") {
				t.Errorf("%s: %s=%s: does 219 know this specifier?", unit, s.key, s.value)
			}
		}
	}
	for key := range newer {
		if !used[key] {
			t.Errorf("%s= is in no unit any more", key)
		}
	}
	for key := range known219 {
		if !used[key] {
			t.Errorf("%s= is in no unit any more", key)
		}
	}
}

// TestUnitsAreInstalled: the list of what goes where knows every unit, and no file that is not there.
func TestUnitsAreInstalled(t *testing.T) {
	list, err := os.ReadFile("files")
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range glob(t, "*") {
		name := filepath.Base(unit)
		line := "0644 contrib/systemd/" + name + " $UNITDIR/\n"
		if filepath.Ext(name) == ".sysusers" {
			line = "0644 contrib/systemd/" + name + " $PREFIX/lib/sysusers.d/sekisho.conf\n"
		}
		if !strings.Contains(string(list), line) {
			t.Errorf("%s is not installed", name)
		}
	}
	// A removal ends and disables each.
	prerm, err := os.ReadFile(filepath.Join("scripts", "prerm"))
	if err != nil {
		t.Fatal(err)
	}
	units := regexp.MustCompile(`units='([^']*)'`).FindSubmatch(prerm)
	for _, unit := range append(glob(t, "*.service"), glob(t, "*.timer")...) {
		if units == nil || !slices.Contains(strings.Fields(string(units[1])), filepath.Base(unit)) {
			t.Errorf("prerm does not know %s", unit)
		}
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(unitDir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no unit is %s: %v", pattern, err)
	}
	return names
}

type setting struct{ key, value string }

// settings are a unit's, in order.
func settings(t *testing.T, unit string) (all []setting) {
	t.Helper()
	f, err := os.Open(unit)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasSuffix(line, `\`) {
			t.Errorf("%s: a line goes on in the next: %s", unit, line)
		}
		if key, value, ok := strings.Cut(line, "="); ok {
			all = append(all, setting{key, value})
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
