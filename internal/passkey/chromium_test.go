package passkey

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// chromium speaks the Chrome DevTools Protocol with a browser over two pipes.
type chromium struct {
	t       *testing.T
	to      io.Writer
	from    *bufio.Reader
	last    int
	session string
}

func startChromium(t *testing.T) *chromium {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("LEFT OUT: no chromium: the pages' side of a passkey is not tried")
	}
	theirIn, ourOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ourIn, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--no-proxy-server", "--remote-debugging-pipe", "--user-data-dir="+home, "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4, as the option has it
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	t.Cleanup(func() {
		kill()
		cmd.Wait()
		cancel()
		ourOut.Close()
		ourIn.Close()
		os.RemoveAll(home)
		if t.Failed() {
			t.Logf("chromium: %.2000s", said.String())
		}
	})
	return &chromium{t: t, to: ourOut, from: bufio.NewReader(ourIn)}
}

// do asks for something and reads its answer into result.
func (c *chromium) do(method string, params, result any) {
	c.t.Helper()
	c.last++
	message := map[string]any{"id": c.last, "method": method, "params": params}
	if c.session != "" {
		message["sessionId"] = c.session
	}
	b, err := json.Marshal(message)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.to.Write(append(b, 0)); err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
	for {
		b, err := c.from.ReadBytes(0)
		if err != nil {
			c.t.Fatalf("%s: %v", method, err)
		}
		var answer struct {
			ID     int             `json:"id"`
			Error  json.RawMessage `json:"error"`
			Result json.RawMessage `json:"result"`
		}
		if err := json.Unmarshal(bytes.TrimSuffix(b, []byte{0}), &answer); err != nil {
			c.t.Fatalf("%s: %v", method, err)
		}
		if answer.ID != c.last {
			continue // an event
		}
		if answer.Error != nil {
			c.t.Fatalf("%s: %s", method, answer.Error)
		}
		if result != nil {
			if err := json.Unmarshal(answer.Result, result); err != nil {
				c.t.Fatalf("%s: %v", method, err)
			}
		}
		return
	}
}

// open goes to a page.
func (c *chromium) open(url string) {
	c.t.Helper()
	var target struct {
		ID string `json:"targetId"`
	}
	c.do("Target.createTarget", map[string]any{"url": url}, &target)
	var attached struct {
		Session string `json:"sessionId"`
	}
	c.do("Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &attached)
	c.session = attached.Session
	c.do("Page.enable", map[string]any{}, nil)
	deadline := time.Now().Add(30 * time.Second)
	for c.js(`document.readyState === "complete" && location.href !== "about:blank" ? "yes" : "no"`) != "yes" {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s does not load", url)
		}
	}
}

// js runs a script, whose value is a string or the promise of one.
func (c *chromium) js(script string) string {
	c.t.Helper()
	var r struct {
		Result struct {
			Value string `json:"value"`
		} `json:"result"`
		Exception json.RawMessage `json:"exceptionDetails"`
	}
	c.do("Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "userGesture": true}, &r)
	if r.Exception != nil {
		c.t.Fatalf("%s: %s", script, r.Exception)
	}
	return r.Result.Value
}

// ask has the page ask for a passkey; it gives the credential as JSON, or the name of an error.
func (c *chromium) ask(what string, options json.RawMessage) string {
	c.t.Helper()
	parse := map[string]string{"create": "Creation", "get": "Request"}[what]
	return c.js(fmt.Sprintf(`navigator.credentials.%s({publicKey: PublicKeyCredential.parse%sOptionsFromJSON(%s)})
		.then(c => JSON.stringify(c.toJSON()), e => e.name)`, what, parse, options))
}

// What is told a browser is understood by one, and what one says is understood.
func TestChromium(t *testing.T) {
	c := startChromium(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<!doctype html><title>gate</title>")
	}))
	t.Cleanup(server.Close)
	origin := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	r := relying(t, origin)
	o := newOracle(t, r)
	c.open(origin + "/")
	c.do("WebAuthn.enable", map[string]any{}, nil)
	var added struct {
		ID string `json:"authenticatorId"`
	}
	c.do("WebAuthn.addVirtualAuthenticator", map[string]any{"options": map[string]any{
		"protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true, "isUserVerified": true,
		"automaticPresenceSimulation": true,
	}}, &added)

	person := User{Handle: newHandle(), Name: "hanako", Display: "山田 花子"}
	options, kept, err := r.BeginRegister(person, nil)
	if err != nil {
		t.Fatal(err)
	}
	response := c.ask("create", options)
	stored, err := r.FinishRegister(person, kept, []byte(response))
	if err != nil {
		t.Fatalf("%v: %s", err, response)
	}
	if _, err := o.register(t, person, kept, []byte(response)); err != nil {
		t.Errorf("go-webauthn: %v", err)
	}
	if len(stored.Transports) == 0 {
		t.Errorf("no transports in %s", response)
	}

	if options, _, err = r.BeginRegister(person, []Credential{stored}); err != nil {
		t.Fatal(err)
	}
	if got := c.ask("create", options); got != "InvalidStateError" {
		t.Errorf("a second one on the same authenticator: %s", got)
	}

	find := func(id, handle []byte) (User, Credential, error) {
		if !bytes.Equal(id, stored.ID) || !bytes.Equal(handle, person.Handle) {
			return User{}, Credential{}, ErrUnknown
		}
		return person, stored, nil
	}
	for range 3 {
		options, kept, err := r.BeginLogin()
		if err != nil {
			t.Fatal(err)
		}
		response := c.ask("get", options)
		if _, err := o.login(t, kept, []byte(response), find); err != nil {
			t.Errorf("go-webauthn: %v", err)
		}
		got, who, err := r.FinishLogin(kept, []byte(response), find)
		if err != nil {
			t.Fatalf("%v: %s", err, response)
		}
		if who.Name != person.Name || got.SignCount <= stored.SignCount {
			t.Errorf("logged in as %q, counter %d after %d", who.Name, got.SignCount, stored.SignCount)
		}
		stored = got
	}

	// The browser itself keeps to user verification, and to the host.
	c.do("WebAuthn.setUserVerified", map[string]any{"authenticatorId": added.ID, "isUserVerified": false}, nil)
	if options, _, err = r.BeginLogin(); err != nil {
		t.Fatal(err)
	}
	if got := c.ask("get", options); got != "NotAllowedError" {
		t.Errorf("without a finger: %s", got)
	}
	if options, _, err = relying(t, "https://gate.example.com").BeginLogin(); err != nil {
		t.Fatal(err)
	}
	if got := c.ask("get", options); got != "SecurityError" {
		t.Errorf("for another host: %s", got)
	}
}
