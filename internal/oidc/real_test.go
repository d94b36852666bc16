package oidc

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/html"
)

// startProvider builds testdata/provider, a module of its own, and starts it. Its modules are
// fetched like this module's, once.
func startProvider(t *testing.T) (issuer string) {
	t.Helper()
	build, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	run := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(build, "go", args...)
		cmd.Dir = filepath.Join("testdata", "provider")
		cmd.WaitDelay = 5 * time.Second
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly -buildvcs=false", "CGO_ENABLED=0")
		return cmd.CombinedOutput()
	}
	if out, err := run("list", "-deps", "-f", `{{""}}`, "."); err != nil {
		t.Skipf("LEFT OUT: no real provider: its modules could not be fetched: %v: %.300q", err, strings.TrimSpace(string(out)))
	}
	program := filepath.Join(t.TempDir(), "provider")
	if out, err := run("build", "-o", program, "."); err != nil {
		t.Fatalf("build the provider: %v\n%s", err, out)
	}
	cmd := exec.Command(program, redirect)
	stdin, err := cmd.StdinPipe() // it ends with it, should this process be killed
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(stderr.String())
		}
	})
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		t.Fatalf("the provider tells no issuer: %v", lines.Err())
	}
	return lines.Text()
}

// browser goes to a page as a person does who logs in there, and comes back with what the
// redirect URL is called with.
func browser(t *testing.T, to, user, password string) url.Values {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var back *url.URL
	arrived := errors.New("back at the gate")
	client := &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), redirect+"?") {
			back = req.URL
			return arrived
		}
		return nil
	}}
	page, err := client.Get(to)
	if err != nil {
		t.Fatalf("go to the provider: %v", err)
	}
	defer page.Body.Close()
	doc, err := html.Parse(page.Body)
	if err != nil {
		t.Fatal(err)
	}
	values := url.Values{}
	action := ""
	for n := range doc.Descendants() {
		attr := func(name string) string {
			i := slices.IndexFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
			if i < 0 {
				return ""
			}
			return n.Attr[i].Val
		}
		switch n.Data {
		case "form":
			action = attr("action")
		case "input":
			values.Set(attr("name"), attr("value"))
		}
	}
	if action == "" || !values.Has("username") || !values.Has("password") {
		t.Fatalf("%s has no form to log in: %v", page.Request.URL, values)
	}
	values.Set("username", user)
	values.Set("password", password)
	target, err := page.Request.URL.Parse(action)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.PostForm(target.String(), values)
	if err == nil {
		answer.Body.Close()
		return nil // not let in
	}
	if !errors.Is(err, arrived) {
		t.Fatalf("log in at the provider: %v", err)
	}
	return back.Query()
}

// A provider that others have written, as a program of its own, with its own page.
func TestRealProvider(t *testing.T) {
	issuer := startProvider(t)
	for _, tt := range []struct {
		name   string
		change func(*Config)
		user   string
		want   Identity
		refuse Reason
	}{
		{name: "by address", user: "hanako", want: Identity{
			Subject: "id1", Person: "hanako@example.com", Name: "Hanako Yamada", Email: "hanako@example.com", EmailVerified: true, Groups: []string{"dev", "ops"},
		}},
		{name: "by user name, as a public client", user: "ichiro",
			change: func(c *Config) { c.ClientID, c.Secret, c.PersonClaim = "native", "", "preferred_username" },
			want:   Identity{Subject: "id2", Person: "ichiro", Name: "Ichiro Suzuki", Email: "ichiro@example.com"}},
		{name: "address not verified", user: "ichiro", refuse: Unverified},
		{name: "wrong secret", user: "hanako", change: func(c *Config) { c.Secret = "wrong" }, refuse: Misconfigured},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Issuer: issuer, ClientID: "web", Secret: "secret", RedirectURL: redirect, GroupsClaim: "groups"}
			if tt.change != nil {
				tt.change(&cfg)
			}
			p, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			to, kept, err := p.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			back := browser(t, to, tt.user, "verysecure")
			got, err := p.Finish(t.Context(), kept, back)
			if tt.refuse != "" {
				wantReason(t, err, tt.refuse)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Issuer = issuer
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(Identity{}, "Until")); diff != "" {
				t.Errorf("who (-want +got):\n%s", diff)
			}
			_, err = p.Finish(t.Context(), kept, back)
			wantReason(t, err, Stale) // the provider takes no code twice
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		p, err := New(Config{Issuer: issuer, ClientID: "web", Secret: "secret", RedirectURL: redirect})
		if err != nil {
			t.Fatal(err)
		}
		to, _, err := p.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if back := browser(t, to, "hanako", "wrong"); back != nil {
			t.Errorf("let in with %v", back)
		}
	})
	t.Run("PKCE is asked for and checked", func(t *testing.T) {
		p, err := New(Config{Issuer: issuer, ClientID: "web", Secret: "secret", RedirectURL: redirect})
		if err != nil {
			t.Fatal(err)
		}
		to, kept, err := p.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		back := browser(t, to, "hanako", "verysecure")
		_, other, err := p.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// As if somebody had got the code, but not what is kept of its login.
		stolen := strings.NewReplacer(verifierOf(t, kept), verifierOf(t, other)).Replace(string(kept))
		_, err = p.Finish(t.Context(), []byte(stolen), back)
		wantReason(t, err, Stale)
	})
	t.Run("issuer without its slash", func(t *testing.T) {
		p, err := New(Config{Issuer: strings.TrimSuffix(issuer, "/"), ClientID: "web", Secret: "secret", RedirectURL: redirect})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = p.Begin(t.Context())
		wantReason(t, err, Misconfigured)
	})
}

func verifierOf(t *testing.T, kept []byte) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(kept), `"verifier":"`)
	verifier, _, ok2 := strings.Cut(rest, `"`)
	if !ok || !ok2 || verifier == "" {
		t.Fatalf("kept: %s", kept)
	}
	return verifier
}
