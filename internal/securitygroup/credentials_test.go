package securitygroup

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sekisho/internal/config"
	"sekisho/internal/securitygroup/ec2test"
)

const (
	prod     = "210987654321"
	prodRole = "arn:aws:iam::" + prod + ":role/sekisho"
)

// profiles writes ~/.aws/config.
func profiles(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(os.Getenv("AWS_CONFIG_FILE"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRole(t *testing.T) {
	s, c := begin(t, Options{
		Person: "Hanako O'Tanaka",
		Accounts: map[string]config.Account{
			"prod":    {ID: prod, Role: prodRole, ExternalID: "secret-7"},
			"wrong":   {Role: prodRole, ExternalID: "secret-8"},
			"another": {ID: "111122223333", Role: prodRole, ExternalID: "secret-7"},
		},
	})
	s.AddRole(ec2test.Role{ARN: prodRole, ExternalID: "secret-7", Trusts: []string{ec2test.DefaultAccount}})
	group := s.AddGroup(ec2test.Place{Account: prod, Region: "ap-northeast-1"}, ec2test.Group{})
	s.AddGroup(ec2test.Place{Account: prod, Region: "eu-west-1"}, ec2test.Group{})

	at := Place{Account: "prod", Region: "ap-northeast-1"}
	p := []Permission{TCP(22, pfx("203.0.113.7/32"))}
	made, err := c.Authorize(t.Context(), at, group, p, "", nil)
	if err != nil || len(made) != 1 {
		t.Fatalf("%v, %v", made, err)
	}
	if got, err := c.Groups(t.Context(), Place{Account: "prod", Region: "eu-west-1"}, nil); err != nil || len(got) != 1 || got[0].Owner != prod {
		t.Errorf("another region: %v, %v", got, err)
	}
	var actions []string
	for _, call := range s.Calls() {
		actions = append(actions, call.Action+" "+call.Region+" "+call.Caller)
	}
	role := "arn:aws:sts::" + prod + ":assumed-role/sekisho/Hanako-O-Tanaka"
	want := []string{
		"AssumeRole ap-northeast-1 arn:aws:iam::" + ec2test.DefaultAccount + ":user/test",
		"AuthorizeSecurityGroupIngress ap-northeast-1 " + role,
		"DescribeSecurityGroups eu-west-1 " + role,
	}
	if strings.Join(actions, "\n") != strings.Join(want, "\n") {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(actions, "\n"), strings.Join(want, "\n"))
	}

	s.ForgetCalls()
	_, err = c.Groups(t.Context(), Place{Account: "wrong", Region: "ap-northeast-1"}, nil)
	if !IsDenied(err) || !strings.HasPrefix(err.Error(), "ap-northeast-1 (wrong): AssumeRole: AccessDenied: User: ") || !strings.Contains(Hint(err), "trust policy of "+prodRole) {
		t.Errorf("with another external id: %v, hint %q", err, Hint(err))
	}
	if n := len(s.Calls()); n != 1 {
		t.Errorf("a role that is denied was asked for %d times", n)
	}

	_, err = c.Groups(t.Context(), Place{Account: "another", Region: "ap-northeast-1"}, nil)
	if want := "ap-northeast-1 (another): DescribeSecurityGroups: account another is 111122223333, but the credentials are for " + prod; !IsWrongAccount(err) || err.Error() != want {
		t.Errorf("in another account: %v, want %s", err, want)
	}
	at.Account = "another"
	if _, err := c.Identity(t.Context(), at); !IsWrongAccount(err) {
		t.Errorf("identity in another account: %v", err)
	}
	if err := c.Rules(t.Context(), at, Query{}, func([]Rule) error { t.Error("rules of another account were handed over"); return nil }); !IsWrongAccount(err) {
		t.Errorf("rules in another account: %v", err)
	}
	if made, err := c.Authorize(t.Context(), at, group, []Permission{TCP(22, pfx("203.0.113.8/32"))}, "", nil); !IsWrongAccount(err) || len(made) != 1 || Hint(err) == "" {
		t.Errorf("a rule in another account: %v, %v", made, err)
	}
	if _, err := c.Groups(t.Context(), Place{Account: "nobody's", Region: "x"}, nil); !IsNoCredentials(err) || Hint(err) == "" {
		t.Errorf("an account that is not configured: %v", err)
	}
}

// Groups may be shared by another account: they say nothing of the credentials as long as
// there are others.
// TestRoleIsKept: another process of the same person assumes no role again, and gets them
// anew when AWS does not take them.
func TestRoleIsKept(t *testing.T) {
	dir := t.TempDir()
	o := Options{Person: "hanako", Cache: dir, Accounts: map[string]config.Account{"prod": {ID: prod, Role: prodRole}}}
	s, first := begin(t, o)
	s.AddRole(ec2test.Role{ARN: prodRole, Trusts: []string{ec2test.DefaultAccount}})
	s.AddGroup(ec2test.Place{Account: prod, Region: "ap-northeast-1"}, ec2test.Group{})
	at := Place{Account: "prod", Region: "ap-northeast-1"}
	o.Endpoint = s.URL()
	look := func(c *Cloud) {
		t.Helper()
		if got, err := c.Groups(t.Context(), at, nil); err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
	}
	look(first)
	look(Open(o))
	if n := count(s, "AssumeRole", ""); n != 1 {
		t.Errorf("two processes assumed the role %d times", n)
	}
	o.Person = "ichiro"
	look(Open(o))
	if n := count(s, "AssumeRole", ""); n != 2 {
		t.Errorf("another person came in by hanako's session: %d sessions", n)
	}
	files, err := filepath.Glob(filepath.Join(dir, "credentials-*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("kept: %v, %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte(`{"AccessKeyID": "broken`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look(Open(o))
	remove := s.Inject(ec2test.Fault{Action: "DescribeSecurityGroups", Code: "RequestExpired", Times: 1})
	defer remove()
	c := Open(o)
	if _, err := c.Groups(t.Context(), at, nil); !IsExpired(err) {
		t.Fatalf("expired: %v", err)
	}
	before := count(s, "AssumeRole", "")
	look(Open(o))
	if n := count(s, "AssumeRole", ""); n != before+1 {
		t.Errorf("credentials that AWS did not take were used again: %d sessions, then %d", before, n)
	}
}

func TestOwned(t *testing.T) {
	_, c := begin(t, Options{Accounts: map[string]config.Account{"": {ID: ec2test.DefaultAccount}}})
	if err := c.owned(here, "x", "", prod); !IsWrongAccount(err) || !strings.Contains(err.Error(), "the environment's account is "+ec2test.DefaultAccount) {
		t.Errorf("before anything was seen: %v", err)
	}
	if _, err := c.Identity(t.Context(), here); err != nil {
		t.Fatal(err)
	}
	for _, owners := range [][]string{{}, {prod, ec2test.DefaultAccount}, {prod}} {
		if err := c.owned(here, "x", "", owners...); err != nil {
			t.Errorf("%v: %v", owners, err)
		}
	}
}

// One call to EC2 and nothing else is between a person and an open door.
func TestOneCall(t *testing.T) {
	s, c := begin(t, Options{Accounts: map[string]config.Account{"": {ID: ec2test.DefaultAccount}}})
	group := s.AddGroup(there, ec2test.Group{})
	if _, err := c.Authorize(t.Context(), here, group, []Permission{TCP(22, pfx("203.0.113.7/32"))}, "", ManagedTags()); err != nil {
		t.Fatal(err)
	}
	if calls := s.Calls(); len(calls) != 1 {
		t.Errorf("%d calls", len(calls))
	}
}

func TestProfiles(t *testing.T) {
	s := ec2test.Start(t)
	environment(t)
	s.AddRole(ec2test.Role{ARN: prodRole})
	profiles(t, fmt.Sprintf(`[profile keys]
aws_access_key_id = %s
aws_secret_access_key = secret
region = us-west-2
[profile role]
source_profile = keys
role_arn = %s
`, ec2test.KeyOf("111122223333"), prodRole))
	// By option, and so that nobody finds it but who is told.
	c := Open(Options{Endpoint: s.URL(), Person: "hanako", Accounts: map[string]config.Account{
		"keys": {Profile: "keys"}, "role": {Profile: "role"}, "by": {Profile: "keys", Role: prodRole}, "absent": {Profile: "absent"},
	}})
	for account, want := range map[string]string{
		"keys": "arn:aws:iam::111122223333:user/test",
		"role": "arn:aws:sts::" + prod + ":assumed-role/sekisho/hanako",
		"by":   "arn:aws:sts::" + prod + ":assumed-role/sekisho/hanako",
	} {
		got, err := c.Identity(t.Context(), Place{Account: account, Region: "eu-west-1"})
		if err != nil || got.ARN != want {
			t.Errorf("%s: %v, %v, want %s", account, got, err, want)
		}
	}
	for _, call := range s.Calls() {
		if call.Region != "eu-west-1" {
			t.Errorf("%s went to %s", call.Action, call.Region)
		}
	}
	_, err := c.Groups(t.Context(), Place{Account: "absent", Region: "eu-west-1"}, nil)
	if want := `eu-west-1 (absent): DescribeSecurityGroups: ~/.aws/config has no profile "absent"`; !IsNoCredentials(err) || err.Error() != want || !strings.Contains(Hint(err), "profile absent") {
		t.Errorf("%v, want %s; hint %q", err, want, Hint(err))
	}
}

// The session ends midway. Whoever logs in again need not start the daemon again.
func TestExpired(t *testing.T) {
	s := ec2test.Start(t)
	environment(t)
	session := func(key string) {
		profiles(t, "[profile p]\naws_access_key_id = "+key+"\naws_secret_access_key = secret\naws_session_token = "+key+"\n")
	}
	session("ASIA1")
	s.AddKey(ec2test.Key{ID: "ASIA1", Token: "ASIA1"})
	s.AddKey(ec2test.Key{ID: "ASIA2", Token: "ASIA2"})
	s.Inject(ec2test.Expired("ASIA1", 2))
	c := Open(Options{Endpoint: s.URL(), Accounts: map[string]config.Account{"a": {Profile: "p"}}})
	at := Place{Account: "a", Region: "eu-west-1"}
	for range 2 {
		if _, err := c.Groups(t.Context(), at, nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.Groups(t.Context(), at, nil)
	if !IsExpired(err) || len(s.Calls()) != 3 || Hint(err) != "give the profile p valid credentials: aws configure --profile p" {
		t.Errorf("%v after %d calls, hint %q", err, len(s.Calls()), Hint(err))
	}
	session("ASIA2")
	if _, err := c.Groups(t.Context(), at, nil); err != nil {
		t.Errorf("after a new login: %v", err)
	}
	if _, heard := c.Now(at); !heard {
		t.Error("the clock was forgotten")
	}
}

// A role's session is replaced before its end.
func TestRoleIsRenewed(t *testing.T) {
	s, c := begin(t, Options{Accounts: map[string]config.Account{"prod": {Role: prodRole}}})
	s.AddRole(ec2test.Role{ARN: prodRole})
	at := Place{Account: "prod", Region: "eu-west-1"}
	// The endpoint's clock is so far behind that the session has 30 s left by ours.
	s.SetClock(func() time.Time { return time.Now().Add(-15*time.Minute + 30*time.Second) })
	for range 2 {
		if _, err := c.Groups(t.Context(), at, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := count(s, "AssumeRole", ""); n != 2 {
		t.Errorf("the role was assumed %d times", n)
	}
}

func TestSingleSignOn(t *testing.T) {
	environment(t)
	t.Setenv("HOME", t.TempDir())
	profiles(t, `[profile sso]
sso_session = corp
sso_account_id = 111122223333
sso_role_name = ops
[sso-session corp]
sso_region = eu-west-1
sso_start_url = https://127.0.0.1/start
[profile old]
sso_start_url = https://127.0.0.1/start
sso_region = eu-west-1
sso_account_id = 111122223333
sso_role_name = ops
`)
	c := Open(Options{Accounts: map[string]config.Account{"sso": {Profile: "sso"}, "old": {Profile: "old"}, "role": {Profile: "sso", Role: prodRole}}})
	for account, want := range map[string]string{"sso": "log in again: aws sso login --profile sso", "old": "log in again: aws sso login --profile old", "role": "log in again: aws sso login --profile sso"} {
		_, err := c.Groups(t.Context(), Place{Account: account, Region: "eu-west-1"}, nil)
		if !IsExpired(err) || Hint(err) != want {
			t.Errorf("%s: %v, hint %q, want %q", account, err, Hint(err), want)
		}
	}
}

// A laptop has no metadata service, and something in its network may swallow what is sent
// there.
func TestNoCredentials(t *testing.T) {
	stop := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	defer hangs.Close()
	defer close(stop)
	environment(t, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+hangs.URL)
	c := Open(Options{Endpoint: "http://127.0.0.1:1"})
	for _, name := range []string{"at first", "again"} {
		began := time.Now()
		_, err := c.Groups(t.Context(), here, nil)
		took := time.Since(began)
		if !IsNoCredentials(err) || IsExpired(err) || took > time.Second+200*time.Millisecond {
			t.Errorf("%s: %v after %v", name, err, took)
		}
		if got := Hint(err); !strings.Contains(got, "aws sso login") {
			t.Errorf("hint %q", got)
		}
		t.Logf("%s: after %v: %v", name, took, err)
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	if _, err := Open(Options{}).Groups(t.Context(), here, nil); !IsNoCredentials(err) || strings.Contains(err.Error(), "IMDS") {
		t.Errorf("without a metadata service: %v", err)
	}
}

// A machine in EC2 has its credentials from there.
func TestInstanceRole(t *testing.T) {
	s := ec2test.Start(t)
	imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
			_, _ = w.Write([]byte("token"))
		case "/latest/meta-data/iam/security-credentials/":
			_, _ = w.Write([]byte("web"))
		case "/latest/meta-data/iam/security-credentials/web":
			fmt.Fprintf(w, `{"Code": "Success", "AccessKeyId": %q, "SecretAccessKey": "x", "Token": "y", "Expiration": %q}`, ec2test.KeyOf(prod), time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		default:
			http.NotFound(w, r)
		}
	}))
	defer imds.Close()
	environment(t, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+imds.URL, "AWS_ENDPOINT_URL="+s.URL())
	got, err := Open(Options{}).Identity(t.Context(), here)
	if err != nil || got.Account != prod {
		t.Errorf("%v, %v", got, err)
	}
}

// Somebody who leaves while credentials are being got leaves at once.
func TestCanceledWhileCredentialsAreGot(t *testing.T) {
	s, c := begin(t, Options{Accounts: map[string]config.Account{"prod": {Role: prodRole}}})
	s.AddRole(ec2test.Role{ARN: prodRole})
	entered, leave := make(chan struct{}), make(chan struct{})
	s.Inject(ec2test.Fault{Action: "AssumeRole", Times: 1, Do: func(ec2test.Call) { close(entered); <-leave }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	at := Place{Account: "prod", Region: "eu-west-1"}
	go func() { _, err := c.Groups(ctx, at, nil); done <- err }()
	<-entered
	cancel()
	if err := <-done; err == nil || IsNoCredentials(err) || IsExpired(err) || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("%v", err)
	}
	close(leave)
	if _, err := c.Groups(t.Context(), at, nil); err != nil {
		t.Error(err)
	}
}

// Companies that look into TLS give their certificate by AWS_CA_BUNDLE.
func TestCABundle(t *testing.T) {
	s := ec2test.Start(t)
	s.AddGroup(there, ec2test.Group{})
	secure := httptest.NewTLSServer(s)
	defer secure.Close()
	environment(t, s.Environ(there)...)
	t.Setenv("AWS_ENDPOINT_URL", secure.URL)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	if _, err := Open(Options{}).Groups(t.Context(), here, nil); !IsUnreachable(err) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the certificate: %v", err)
	}
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	if groups, err := Open(Options{}).Groups(t.Context(), here, nil); err != nil || len(groups) != 1 {
		t.Errorf("with it: %v, %v", groups, err)
	}
}

// The environment's proxy is found once in a process: this takes one of its own.
func TestProxy(t *testing.T) {
	if os.Getenv("SEKISHO_TEST_PROXIED") != "" {
		got, err := Open(Options{Endpoint: "http://ec2.example.com"}).Groups(t.Context(), here, nil)
		if err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		return
	}
	s := ec2test.Start(t)
	s.AddGroup(there, ec2test.Group{})
	environment(t, s.Environ(there)...)
	var host atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host.Store(r.URL.Host)
		s.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxy$")
	cmd.Env = append(os.Environ(), "SEKISHO_TEST_PROXIED=1", "HTTP_PROXY="+proxy.URL, "NO_PROXY=")
	if out, err := cmd.CombinedOutput(); err != nil || host.Load() != "ec2.example.com" {
		t.Errorf("%v: %s; the proxy was asked for %v", err, out, host.Load())
	}
}

func TestSessionName(t *testing.T) {
	for person, want := range map[string]string{
		"": "sekisho", "hanako": "hanako", "h": "h-", "花子": "--", "a b/c": "a-b-c", "hanako+x@example.com": "hanako+x@example.com", strings.Repeat("x", 70): strings.Repeat("x", 64),
	} {
		if got := sessionName(person); got != want {
			t.Errorf("sessionName(%q) = %q, want %q", person, got, want)
		}
	}
}

func FuzzSessionName(f *testing.F) {
	for _, s := range []string{"", "h", "hanako", "花", "\xff"} {
		f.Add(s)
	}
	form := regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	f.Fuzz(func(t *testing.T, person string) {
		if got := sessionName(person); !form.MatchString(got) {
			t.Errorf("sessionName(%q) = %q", person, got)
		}
	})
}
