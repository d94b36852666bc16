package cli

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sekisho/internal/securitygroup/ec2test"
)

// A script's own EC2: `ec2 start` makes one with the group $GROUP in eu-central-1 and
// writes GROUP's id into the script's sekisho.yaml.

type ec2Key struct{}

var scriptPlace = ec2test.Place{Region: "eu-central-1"}

// ec2Command is the script's command ec2.
//
//	ec2 start                          a server, $GROUP, and the environment to reach it
//	ec2 rule PREFIX PORT [TEXT]        a rule that is not ours; its id is $RULE
//	ec2 instance NAME                  an instance in the group
//	ec2 deny ACTION                    IAM forbids it
//	ec2 later DURATION                 so much time goes by
//	ec2 has REGEXP                     (or ! ec2 has) a line for each rule: "PREFIX PORTS DESCRIPTION TAG=VALUE ..."
func ec2Command(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || neg && args[0] != "has" {
		ts.Fatalf("usage: ec2 start | rule | instance | deny | later | has")
	}
	if args[0] == "start" {
		s, err := ec2test.New(ec2test.Options{})
		ts.Check(err)
		ts.Defer(func() { s.Close() })
		group := s.AddGroup(scriptPlace, ec2test.Group{Name: "web"})
		*ts.Value(ec2Key{}).(*script) = script{s, group}
		for _, v := range s.Environ(scriptPlace) {
			name, value, _ := strings.Cut(v, "=")
			ts.Setenv(name, value)
		}
		ts.Setenv("GROUP", group)
		ts.Setenv("HOME", ts.MkAbs("home"))
		ts.Setenv("XDG_STATE_HOME", ts.MkAbs("state"))
		return
	}
	w := ts.Value(ec2Key{}).(*script)
	switch arg := func(i int) string { return args[min(i, len(args)-1)] }; args[0] {
	case "rule":
		port, err := strconv.Atoi(arg(2))
		ts.Check(err)
		text := ""
		if len(args) > 3 {
			text = args[3]
		}
		ts.Setenv("RULE", w.AddRule(scriptPlace, ec2test.Rule{Group: w.group, Protocol: "tcp", From: port, To: port, Prefix: netip.MustParsePrefix(arg(1)), Description: text}))
	case "instance":
		w.AddInstance(scriptPlace, ec2test.Instance{Tags: map[string]string{"Name": arg(1)}, Groups: []string{w.group}})
	case "deny":
		w.Inject(ec2test.Denied(arg(1)))
	case "later":
		d, err := time.ParseDuration(arg(1))
		ts.Check(err)
		w.SetClock(func() time.Time { return time.Now().Add(d) })
	case "has":
		has := regexp.MustCompile("(?m)" + arg(1)).MatchString(w.lines())
		if has == neg {
			ts.Fatalf("the group's rules:\n%s", w.lines())
		}
	default:
		ts.Fatalf("there is no command ec2 %s", args[0])
	}
}

type script struct {
	*ec2test.Server
	group string
}

func (w *script) lines() string {
	var b strings.Builder
	for _, r := range w.Rules(scriptPlace, w.group) {
		if r.Egress {
			continue
		}
		source := r.Prefix.String()
		if r.PrefixList != "" {
			source = r.PrefixList
		}
		fmt.Fprintf(&b, "%s %d %s", source, r.From, r.Description)
		for _, k := range slices.Sorted(maps.Keys(r.Tags)) {
			fmt.Fprintf(&b, " %s=%s", k, r.Tags[k])
		}
		b.WriteByte('\n')
	}
	return b.String()
}
