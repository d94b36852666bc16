package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/access"
	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// scheduled is what EventBridge sends a function when a rule's time has come.
const scheduled = `{"version":"0","id":"53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa","detail-type":"Scheduled Event","source":"aws.events",
"account":"123456789012","time":"2026-11-29T19:00:00Z","region":"eu-central-1","resources":["arn:aws:events:eu-central-1:123456789012:rule/sekisho-reaper"],"detail":{}}`

// answer is what the function posted.
type answer struct {
	path string // after /2018-06-01/runtime/
	body string
}

// runtime is Lambda's Runtime API, and the function that it runs.
type runtime struct {
	t       *testing.T
	url     string // host and port
	task    string // LAMBDA_TASK_ROOT
	events  chan invocation
	answers chan answer
	ended   chan error
	log     string // a file, which has what was said before an answer when that is there
}

// invocation is an event that has to be answered within some time.
type invocation struct {
	event  string
	within time.Duration
}

var bootstrap struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if bootstrap.dir != "" {
		os.RemoveAll(bootstrap.dir)
	}
	os.Exit(code)
}

// built is the program as `make lambda` builds it, for this machine.
func built(t *testing.T) string {
	t.Helper()
	bootstrap.once.Do(func() {
		if bootstrap.dir, bootstrap.err = os.MkdirTemp("", "sekisho-lambda"); bootstrap.err != nil {
			return
		}
		build := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(bootstrap.dir, "bootstrap"), ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			bootstrap.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if bootstrap.err != nil {
		t.Fatal(bootstrap.err)
	}
	return filepath.Join(bootstrap.dir, "bootstrap")
}

// start starts the function with a configuration beside it ("": none) and an environment.
func start(t *testing.T, config string, environ ...string) *runtime {
	t.Helper()
	program := built(t)
	r := &runtime{t: t, task: t.TempDir(), events: make(chan invocation), answers: make(chan answer, 1), ended: make(chan error, 1)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = listener.Addr().String()
	server := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	if config != "" {
		if err := os.WriteFile(filepath.Join(r.task, "sekisho.yaml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append([]string{"AWS_LAMBDA_RUNTIME_API=" + r.url, "LAMBDA_TASK_ROOT=" + r.task}, environ...)
	r.log = filepath.Join(t.TempDir(), "log")
	log, err := os.Create(r.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() { defer close(over); r.ended <- cmd.Wait() }()
	t.Cleanup(func() {
		stop()
		<-over
		if t.Failed() {
			t.Logf("the function said:\n%s", r.said())
		}
	})
	return r
}

// ServeHTTP is the Runtime API (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html).
func (r *runtime) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	path, ok := strings.CutPrefix(request.URL.Path, "/2018-06-01/runtime/")
	switch {
	case !ok:
		http.NotFound(w, request)
	case request.Method == http.MethodGet && path == "invocation/next":
		select {
		case <-request.Context().Done():
		case i := <-r.events:
			h := w.Header()
			h.Set("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
			h.Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(i.within).UnixMilli()))
			h.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:123456789012:function:sekisho-reaper")
			_, _ = io.WriteString(w, i.event)
		}
	case request.Method == http.MethodPost:
		body, _ := io.ReadAll(request.Body)
		w.WriteHeader(http.StatusAccepted)
		r.answers <- answer{path, string(body)}
	default:
		http.NotFound(w, request)
	}
}

// invoke sends a scheduled event that has to be answered within some time.
func (r *runtime) invoke(within time.Duration) answer {
	r.t.Helper()
	return r.send(scheduled, within)
}

// send sends an event.
func (r *runtime) send(event string, within time.Duration) answer {
	r.t.Helper()
	select {
	case r.events <- invocation{event, within}:
	case err := <-r.ended:
		r.ended <- err
		r.t.Fatalf("the function ended: %v", err)
	}
	return r.answer()
}

func (r *runtime) answer() answer {
	r.t.Helper()
	select {
	case a := <-r.answers:
		return a
	case <-time.After(time.Minute):
		r.t.Fatal("no answer within a minute")
	}
	return answer{}
}

// reaped reads a response.
func (a answer) reaped(t *testing.T) (r access.Reaped) {
	t.Helper()
	if !strings.HasSuffix(a.path, "/response") {
		t.Fatalf("%s: %s", a.path, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// failed reads an error.
func (a answer) failed(t *testing.T) string {
	t.Helper()
	var e struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || !strings.HasSuffix(a.path, "/error") || e.Type == "" {
		t.Fatalf("%v: %s: %s", err, a.path, a.body)
	}
	return e.Message
}

func (r *runtime) said() string {
	said, err := os.ReadFile(r.log)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(said)
}

// logged are the lines of the log with a message; each line has to be JSON.
func (r *runtime) logged(message string) (found []map[string]any) {
	r.t.Helper()
	for line := range strings.Lines(r.said()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			continue // aws-lambda-go's own
		}
		if entry["msg"] == message {
			found = append(found, entry)
		}
	}
	return found
}

// rule puts a rule into a group whose lease ended so long ago.
func rule(s *ec2test.Server, p ec2test.Place, group, prefix string, ended time.Duration) (id string) {
	tags := securitygroup.ManagedTags()
	key, value := securitygroup.Lease{ID: "alice", Person: "alice", Until: time.Now().Add(-ended)}.Tag()
	tags[key] = value
	return s.AddRule(p, ec2test.Rule{Group: group, From: 22, Prefix: netip.MustParsePrefix(prefix), Tags: tags})
}

func has(s *ec2test.Server, p ec2test.Place, id string) bool {
	for _, r := range s.Rules(p) {
		if r.ID == id {
			return true
		}
	}
	return false
}

func ids(ended []access.Ended) (ids []string) {
	for _, e := range ended {
		ids = append(ids, e.Rule)
	}
	return ids
}

var here = ec2test.Place{Region: "eu-central-1"}

// inTwoAccounts names the function's own account, and another by its role.
func inTwoAccounts(group, other string) string {
	return fmt.Sprintf(`version: 1
people: {alice: {groups: [ops]}}
aws:
  accounts:
    own: {}
    prod: {id: "210987654321", role: "arn:aws:iam::210987654321:role/sekisho-reaper", external_id: sesame, regions: [us-west-2]}
targets:
  web: {aws: {account: own, region: eu-central-1, group: %s}, allow: [ops]}
  db: {aws: {account: prod, region: ap-northeast-1, group: %s}, allow: [ops]}
`, group, other)
}

// TestScheduledEvent: the rules past their end are gone in all accounts and regions, the
// others stay, and the answer and the log tell. The next event finds the same process.
func TestScheduledEvent(t *testing.T) {
	s := ec2test.Start(t)
	s.AddRole(ec2test.Role{ARN: "arn:aws:iam::210987654321:role/sekisho-reaper", ExternalID: "sesame"})
	there := ec2test.Place{Account: "210987654321", Region: "ap-northeast-1"}
	group, other := s.AddGroup(here, ec2test.Group{}), s.AddGroup(there, ec2test.Group{})
	over, overThere := rule(s, here, group, "203.0.113.7/32", time.Second), rule(s, there, other, "203.0.113.7/32", time.Hour)
	needed := rule(s, here, group, "198.51.100.9/32", time.Hour*-1)
	foreign := s.AddRule(here, ec2test.Rule{Group: group, From: 22, Prefix: netip.MustParsePrefix("192.0.2.1/32")})

	f := start(t, inTwoAccounts(group, other), s.Environ(here)...)
	got := f.invoke(time.Minute).reaped(t)
	if diff := cmp.Diff([]string{over, overThere}, ids(got.Revoked)); diff != "" || got.Live != 1 || !got.Clean() {
		t.Errorf("answer: %+v (-want +got):\n%s", got, diff)
	}
	if has(s, here, over) || has(s, there, overThere) || !has(s, here, needed) || !has(s, here, foreign) {
		t.Errorf("rules: %v %v", s.Rules(here), s.Rules(there))
	}
	later := rule(s, here, group, "203.0.113.8/32", time.Second)
	if got := f.invoke(time.Minute).reaped(t); len(got.Revoked) != 1 || got.Revoked[0].Rule != later {
		t.Errorf("the second time: %+v", got)
	}
	assumed, looked := 0, map[string]int{}
	for _, call := range s.Calls() {
		switch call.Action {
		case "AssumeRole":
			assumed++
		case "DescribeSecurityGroupRules":
			looked[call.Region]++
		}
	}
	if assumed != 1 {
		t.Errorf("the role was assumed %d times, and not kept", assumed)
	}
	if len(looked) != 3 {
		t.Errorf("looked at %v", looked)
	}
	if told := f.logged("looked for rules past their end"); len(told) != 2 || told[0]["level"] != "INFO" || !strings.Contains(fmt.Sprint(told[0]["reaped"]), over) {
		t.Errorf("told: %v", told)
	}
}

// TestFailures: what needs somebody is an error, for the function's alarm; what the next
// look may mend is none.
func TestFailures(t *testing.T) {
	tests := []struct {
		name   string
		ended  time.Duration
		fault  ec2test.Fault
		within time.Duration
		want   []string // of the error; none: it is answered, with the rule left
	}{
		{"stuck", time.Hour, ec2test.Denied("RevokeSecurityGroupIngress"), time.Minute, []string{"1 rules are past their end", "UnauthorizedOperation"}},
		{"not yet stuck", time.Second, ec2test.Denied("RevokeSecurityGroupIngress"), time.Minute, nil},
		{"unseen", time.Second, ec2test.Denied("DescribeSecurityGroupRules"), time.Minute, []string{"look at eu-central-1", "let the policy of the account allow ec2:DescribeSecurityGroupRules"}},
		{"no time", time.Hour, ec2test.Fault{Action: "DescribeSecurityGroupRules", Delay: time.Hour}, toTell + time.Second, []string{"look at eu-central-1", "deadline"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := ec2test.Start(t)
			group := s.AddGroup(here, ec2test.Group{})
			id := rule(s, here, group, "203.0.113.7/32", test.ended)
			s.Inject(test.fault)
			f := start(t, "", append(s.Environ(here), "SEKISHO_CONFIG=version: 1")...)
			began := time.Now()
			answer := f.invoke(test.within)
			if took := time.Since(began); took > test.within {
				t.Errorf("it took %v", took)
			}
			if !has(s, here, id) {
				t.Error("the rule is gone")
			}
			level := "ERROR"
			if test.want == nil {
				level = "INFO"
				if got := answer.reaped(t); len(got.Left) != 1 || got.Left[0].Rule != id {
					t.Errorf("answer: %+v", got)
				}
			} else {
				message := answer.failed(t)
				for _, want := range test.want {
					if !strings.Contains(message, want) {
						t.Errorf("error %q lacks %q", message, want)
					}
				}
			}
			if told := f.logged("looked for rules past their end"); len(told) != 1 || told[0]["level"] != level || told[0]["reaped"] == nil {
				t.Errorf("told: %v", told)
			}
		})
	}
}

// TestWhereTheConfigurationIs: beside the program, in the environment, or nowhere, and
// then the function's own region is looked at.
func TestWhereTheConfigurationIs(t *testing.T) {
	const beside, within = "version: 1\naws: {accounts: {here: {regions: [eu-west-1]}}}\n", "version: 1\naws: {accounts: {here: {regions: [eu-west-2]}}}\n"
	tests := []struct {
		name, beside string
		environ      []string
		want         string
	}{
		{"nowhere", "", nil, "eu-central-1"},
		{"beside", beside, nil, "eu-west-1"},
		{"in the environment", "", []string{"SEKISHO_CONFIG=" + within}, "eu-west-2"},
		{"in both", beside, []string{"SEKISHO_CONFIG=" + within}, "eu-west-2"},
		{"nothing in the environment", beside, []string{"SEKISHO_CONFIG= \n"}, "eu-west-1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := ec2test.Start(t)
			f := start(t, test.beside, append(s.Environ(here), test.environ...)...)
			if got := f.invoke(time.Minute).reaped(t); !got.Clean() {
				t.Errorf("answer: %+v", got)
			}
			for _, call := range s.Calls() {
				if call.Region != test.want {
					t.Errorf("looked at %s", call.Region)
				}
			}
			if len(s.Calls()) != 1 {
				t.Errorf("%d calls", len(s.Calls()))
			}
		})
	}
}

// TestBrokenConfiguration: Lambda and the log are told what is wrong, and what to do.
func TestBrokenConfiguration(t *testing.T) {
	tests := []struct{ name, config, want string }{
		{"misspelt", "version: 1\ntargest: {}\n", "targets"},
		{"a database", "version: 1\ngate: {url: https://gate.example.com, serve: {database_file: /etc/sekisho/gate.database}}\n", "keeps no state"},
		{"a profile", "version: 1\naws: {accounts: {prod: {profile: prod, regions: [eu-west-1]}}}\n", "assume a role"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := start(t, test.config, ec2test.Start(t).Environ(here)...)
			a := f.answer()
			if a.path != "init/error" {
				t.Errorf("path: %s", a.path)
			}
			message := a.failed(t)
			for _, want := range []string{test.want, "deploy the function again"} {
				if !strings.Contains(message, want) {
					t.Errorf("error %q lacks %q", message, want)
				}
			}
			err := <-f.ended
			f.ended <- err
			if err == nil {
				t.Error("it ended as if all were well")
			}
			if told := f.logged("the function cannot begin"); len(told) != 1 {
				t.Errorf("told: %v", told)
			}
		})
	}
}
