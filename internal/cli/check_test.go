package cli

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/posture"
	"sekisho/internal/securitygroup/ec2test"
)

// TestCheckGroupsSideBySide: what check asks of EC2 it asks at once.
func TestCheckGroupsSideBySide(t *testing.T) {
	s := ec2test.Start(t)
	for _, v := range s.Environ(scriptPlace) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	g := &globals{configPath: filepath.Join(t.TempDir(), "sekisho.yaml"), stateDir: t.TempDir(), stateSet: true}
	source := `version: 1
people:
  hanako: {fixed: [203.0.113.7], former: [198.51.100.9], groups: [ops]}
targets:
  web-prod: {aws: {region: eu-central-1, group: ` + s.AddGroup(scriptPlace, ec2test.Group{Name: "web"}) + `}, allow: [ops]}
`
	if err := os.WriteFile(g.configPath, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	var come atomic.Int32
	all := make(chan struct{})
	s.Inject(ec2test.Fault{Action: "DescribeSecurityGroupRules", Do: func(ec2test.Call) {
		if come.Add(1) == 3 { // the plan, former addresses, rules that no target names
			close(all)
		}
		select {
		case <-all:
		case <-time.After(10 * time.Second):
			t.Error("the other looks wait for this one")
		}
	}})
	found, unseen := g.checkGroups(t.Context())
	if len(found) != 1 || found[0].ID != "group_plan" || len(unseen) > 0 {
		t.Errorf("found %+v, unseen %+v", found, unseen)
	}
}

// TestGroupFindings: what check tells of security groups, which package access finds, is
// what package posture lists for docs/check.md, and matters for the same reason; a milder
// one may for another.
func TestGroupFindings(t *testing.T) {
	files, err := filepath.Glob("../access/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	listed := map[string]posture.Kind{}
	for _, k := range posture.Kinds() {
		if strings.HasPrefix(k.ID, "group_") {
			listed[k.ID] = k
		}
	}
	found := map[string]bool{"group_plan": true} // ours
	reasons := 0
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(group_[a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
			if m[1] != "group_name" && !strings.HasSuffix(name, "_test.go") {
				found[m[1]] = true
			}
		}
		for _, form := range []string{`add\("(group_[a-z_]+)", (\w+), "([^"]+)"`, `(?s)ID: "(group_[a-z_]+)", Severity: (\w+),.*?Why: +"([^"]+)"`} {
			for _, m := range regexp.MustCompile(form).FindAllStringSubmatch(string(source), -1) {
				reasons++
				if k := listed[m[1]]; strings.EqualFold(m[2], string(k.Severity)) && m[3] != k.Why {
					t.Errorf("%s: found because %q, listed because %q", m[1], m[3], k.Why)
				}
			}
		}
	}
	if reasons < 9 {
		t.Errorf("only %d reasons are seen", reasons)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(listed))); diff != "" {
		t.Errorf("-found +listed:\n%s", diff)
	}
}
