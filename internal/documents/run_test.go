package documents

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sekisho/internal/cli"
)

// elsewhere are blocks that another test runs: the document, what is in the block, and the test.
var elsewhere = []struct{ document, has, file, test string }{
	{"docs/gate-client.md", "/api/v1/", "internal/gate/gatetest/shell_test.go", "TestShell"},
	{"lambda/README.md", "ssh-keygen -Y sign", "lambda/gate_test.go", "TestReadme"},
}

// may are exit codes of a command that says something and is no error (docs/exit-codes.md).
var may = map[string][]int{"plan": {2}, "check": {1}, "status": {1, 2}}

// twice are documents whose commands are another's, as a test holds them to it.
var twice = []string{"README.ja.md"}

// references are documents that are looked up and not read from above: each chapter has a machine
// of its own, and each block the file in which everything is set up.
var references = []string{"docs/commands.md"}

// TestRun runs the commands of each document, in their order, in a machine of its own.
func TestRun(t *testing.T) {
	for _, p := range paths(t) {
		d := read(t, p)
		if slices.Contains(twice, p) {
			continue
		}
		parts := []document{d}
		if slices.Contains(references, p) {
			parts = d.chapters()
		}
		for i, part := range parts {
			runs := slices.ContainsFunc(part.blocks, func(b block) bool { return len(b.commands()) > 0 && len(b.needs) == 0 && !ranElsewhere(t, p, b) })
			if !runs {
				continue
			}
			t.Run(fmt.Sprintf("%s_%d", strings.ReplaceAll(strings.TrimSuffix(p, ".md"), "/", "_"), i), func(t *testing.T) {
				t.Parallel() // it waits most of the time
				runDocument(t, part)
			})
		}
	}
}

// chapters are the parts of a document, at its headings of the second level.
func (d document) chapters() (all []document) {
	for i, h := range d.headings {
		if h.level != 2 {
			continue
		}
		end := slices.IndexFunc(d.headings[i+1:], func(h heading) bool { return h.level <= 2 })
		part := document{path: d.path}
		for _, b := range d.blocks {
			if b.line > h.line && (end < 0 || b.line < d.headings[i+1+end].line) {
				part.blocks = append(part.blocks, b)
			}
		}
		all = append(all, part)
	}
	return all
}

func ranElsewhere(t *testing.T, path string, b block) bool {
	for _, e := range elsewhere {
		if e.document != path || !strings.Contains(strings.Join(b.lines, "\n"), e.has) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, e.file))
		if err != nil || !strings.Contains(string(text), "func "+e.test+"(") || !strings.Contains(string(text), filepath.Base(path)) {
			t.Errorf("%s is said to be run by %s of %s, which does not: %v", path, e.test, e.file, err)
		}
		return true
	}
	return false
}

func runDocument(t *testing.T, d document) {
	s := newStage(t)
	keys := keys(t)
	var file sections
	changed := true
	for _, b := range d.blocks {
		if b.info == "yaml" {
			if part := split(b.lines); len(b.needs) == 0 {
				if ours, whole := part.ours(keys); whole {
					file, changed = part, true
				} else if ours {
					if file.names == nil {
						file = split(strings.Split(usual, "\n"))
					}
					file, changed = file.with(part), true
				}
			}
			continue
		}
		if len(b.needs) > 0 || ranElsewhere(t, d.path, b) {
			continue
		}
		for _, c := range b.commands() {
			if changed || s.dirty && slices.Contains(references, d.path) {
				s.configure(file)
				changed = false
			}
			if !s.do(d.path, c) {
				break // what comes after it in the block would fail, too
			}
		}
		s.end("gate to try")
	}
	s.ends()
}

var (
	makePattern  = regexp.MustCompile(`^(sudo )?([A-Z_]+=\S* )*(make|\.ci/\w+)\b[^&|;]*( && (sudo )?make\b[^&|;]*)*$`)
	unitPattern  = regexp.MustCompile(`^(?:sudo )?systemctl (enable --now|start|restart|reload|stop|disable --now) (sekisho[\w-]*)(\.service|\.timer)?$`)
	endPattern   = regexp.MustCompile(`\s+# .*$`)
	tokenPattern = regexp.MustCompile(`\b[A-Za-z0-9_-]{20,}\b`)
)

// do runs a command, and tells whether it did what it should.
func (s *stage) do(document string, c command) bool {
	s.t.Helper()
	line := strings.TrimSpace(endPattern.ReplaceAllString(c.text, ""))
	if strings.Contains(c.text, "\n") {
		line = c.text
	}
	if makePattern.MatchString(line) {
		return true // TestCommands looked its target up
	}
	began := time.Now()
	defer func() {
		s.t.Logf("%s:%d: %s (%v)", document, c.line, line, time.Since(began).Round(10*time.Millisecond))
	}()
	if m := unitPattern.FindStringSubmatch(line); m != nil {
		s.unit(m[1], m[2])
		return true
	}
	line = s.concrete(line)
	stdin := ""
	// A line that is nothing but a program that never ends.
	alone := calls(line, "sekisho")
	for _, args := range alone {
		path, _ := cli.Parse(args)
		switch first, _, _ := strings.Cut(path, " "); {
		case path == "run", path == "gate":
			if !strings.Contains(line, "--help") {
				s.serve(path, line)
				return true
			}
		case path == "lab": // a machine of its own, for a minute: make lab
			return true
		case path == "top" && !strings.Contains(line, "--json"):
			s.daemon()
			if code, said := s.watch(line); code != 0 {
				s.t.Errorf("%s:%d: %s exits %d: %s", document, c.line, line, code, said)
			}
			return true
		case path == "top":
			s.daemon()
			s.keep("top", line, func(p *program) bool { return p.said.String() != "" })
			s.end("top")
			return true
		case path == "confirm", path == "revert":
			s.daemon()
			s.trial()
		case path == "reap" && strings.Contains(line, "--every"):
			before, looked := len(s.ec2.Calls()), 0
			quiet := time.Now()
			s.keep("reap", line, func(*program) bool { // it has looked, and waits
				if n := len(s.ec2.Calls()); n != looked {
					looked, quiet = n, time.Now()
				}
				return looked > before && time.Since(quiet) > time.Second
			})
			s.end("reap")
			return true
		case path == "gate enrol":
			if s.enrolled { // another way to do the same
				s.end("daemon")
				s.end("gate")
				s.must(s.InHost(func() error { return os.RemoveAll("/var/lib/sekisho-gate") }))
			}
			s.gate()
			s.enrolled = true
			stdin = s.enrolment(line) + "\n"
			s.daemon()
		case path == "gate passkey", first == "gate", first == "doors", first == "approvals", first == "approve", first == "deny":
			s.gate()
		case path == "init":
			s.end("daemon")
			s.must(s.InHost(func() error { return os.RemoveAll("/etc/sekisho/sekisho.yaml") }))
			s.dirty = true
		case slices.Contains([]string{"explain", "country", "config", "version", "completion", "aws", "lab", "boot", "check", "ssh-config"}, first):
		case path == "off":
			s.daemon()
			s.dirty = true
		default:
			if s.config.text["gate"] != "" {
				s.gate()
			}
			s.daemon()
		}
	}
	if regexp.MustCompile(`\b(ssh|scp|rsync) `).MatchString(line) && s.config.text["gate"] != "" {
		s.gate()
	}
	p := s.start(line, stdin)
	code, ended := p.finish(90 * time.Second)
	said := p.said.String()
	good := code == c.exits
	if c.exits == 0 && code != 0 && !strings.Contains(said, "sekisho: ") {
		for _, args := range alone {
			path, _ := cli.Parse(args)
			good = good || slices.Contains(may[path], code)
		}
	}
	switch {
	case !ended:
		s.t.Errorf("%s:%d: %s\ndoes not end within 90 s: %s", document, c.line, c.text, said)
	case !good:
		s.t.Errorf("%s:%d: %s\nexits %d, and not %d. Where that is right, say so in its comment (# exits %d); where it needs more than a machine of its own, "+
			"mark the block (<!-- needs: %s -->).\n%s", document, c.line, c.text, code, c.exits, code, strings.Join(needs, ", or "), said)
	}
	if strings.Contains(line, "gate add-host") {
		if all := tokenPattern.FindAllString(said, -1); all != nil {
			s.token = all[len(all)-1]
		}
	}
	return ended && good
}

// serve has what a document starts run on.
func (s *stage) serve(path, line string) {
	s.t.Helper()
	if path == "run" {
		s.keep("daemon", strings.TrimPrefix(line, "sudo "), s.listens)
		return
	}
	port := uint16(443)
	if strings.Contains(line, "--config") { // a gate to try
		port = 8022
		s.keep("gate to try", line, func(*program) bool { return s.answers(port) })
		return
	}
	if s.serves() && !s.answers(port) {
		s.keep("gate", line, func(*program) bool { return s.answers(port) })
	}
	s.gate()
}

// unit does what systemctl would have systemd do: with the ExecStart of the unit.
func (s *stage) unit(verb, name string) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "contrib/systemd", name+".service"))
	if err != nil {
		s.t.Errorf("systemctl %s %s: %v", verb, name, err)
		return
	}
	m := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/(sekisho .*)$`).FindSubmatch(text)
	if m == nil {
		s.t.Fatalf("%s starts no sekisho", name)
	}
	line := string(m[1])
	key := map[string]string{"sekisho": "daemon", "sekisho-gate": "gate"}[name]
	switch {
	case key == "":
		if code, _ := s.start(line, "").finish(30 * time.Second); code != 0 {
			s.t.Errorf("%s of %s ends with %d", line, name, code)
		}
	case verb == "stop" || strings.HasPrefix(verb, "disable"):
		s.end(key)
	case verb == "restart":
		s.end(key)
		fallthrough
	default:
		if key == "gate" {
			s.keep(key, line, func(*program) bool { return s.answers(443) })
		} else {
			s.keep(key, line, s.listens)
		}
	}
}

// enrolment is the token that `sekisho gate enrol` asks for.
func (s *stage) enrolment(line string) string {
	s.t.Helper()
	if s.token == "" {
		p := s.start("sekisho gate add-host web", "")
		if code, _ := p.finish(30 * time.Second); code != 0 {
			s.t.Fatalf("add-host ends with %d: %s", code, p.said)
		}
		all := tokenPattern.FindAllString(p.said.String(), -1)
		if all == nil {
			s.t.Fatalf("add-host says no token: %s", p.said)
		}
		s.token = all[len(all)-1]
	}
	token := s.token
	s.token = ""
	if strings.Contains(line, "< token") {
		s.must(os.WriteFile(s.work+"/token", []byte(token+"\n"), 0o600))
	}
	return token
}
