package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
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
	"syscall"
	"testing"
	"time"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
)

// chromium speaks the Chrome DevTools Protocol with a browser over two pipes.
type chromium struct {
	t    *testing.T
	to   io.Writer
	from *bufio.Reader
	last int
	shot int
	said map[string][]string // by session: what pages have complained of
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
		t.Skip("LEFT OUT: no chromium: the pages are not tried in a browser")
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
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	cmd := exec.CommandContext(ctx, program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--no-proxy-server", "--remote-debugging-pipe", "--user-data-dir="+home, "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4, as the option has it
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
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
			t.Logf("chromium: %.2000s", stderr.String())
		}
	})
	return &chromium{t: t, to: ourOut, from: bufio.NewReader(ourIn), said: map[string][]string{}}
}

// try asks for something and reads its answer into result.
func (c *chromium) try(session, method string, params, result any) error {
	c.t.Helper()
	c.last++
	message := map[string]any{"id": c.last, "method": method, "params": params}
	if session != "" {
		message["sessionId"] = session
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
			ID      int             `json:"id"`
			Error   json.RawMessage `json:"error"`
			Result  json.RawMessage `json:"result"`
			Method  string          `json:"method"`
			Session string          `json:"sessionId"`
			Params  json.RawMessage `json:"params"`
		}
		if err := json.Unmarshal(bytes.TrimSuffix(b, []byte{0}), &answer); err != nil {
			c.t.Fatalf("%s: %v", method, err)
		}
		switch answer.Method {
		case "Runtime.exceptionThrown", "Log.entryAdded":
			c.said[answer.Session] = append(c.said[answer.Session], string(answer.Params))
		}
		if answer.ID != c.last {
			continue // an event
		}
		if answer.Error != nil {
			return fmt.Errorf("%s: %s", method, answer.Error)
		}
		if result != nil {
			if err := json.Unmarshal(answer.Result, result); err != nil {
				c.t.Fatalf("%s: %v", method, err)
			}
		}
		return nil
	}
}

func (c *chromium) do(session, method string, params, result any) {
	c.t.Helper()
	if err := c.try(session, method, params, result); err != nil {
		c.t.Fatal(err)
	}
}

// screen is one person's: a browser of their own, with an authenticator in it.
type screen struct {
	*chromium
	session string
	base    string
	name    string
	narrow  bool
}

// screen opens one. It speaks lang and is a phone's where narrow is set.
func (c *chromium) screen(base, name, lang string, narrow, dark bool) *screen {
	c.t.Helper()
	var own struct {
		ID string `json:"browserContextId"`
	}
	c.do("", "Target.createBrowserContext", map[string]any{}, &own)
	var target struct {
		ID string `json:"targetId"`
	}
	c.do("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": own.ID}, &target)
	var attached struct {
		Session string `json:"sessionId"`
	}
	c.do("", "Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &attached)
	s := &screen{c, attached.Session, base, name, narrow}
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		s.do(domain+".enable", map[string]any{})
	}
	s.do("WebAuthn.enable", map[string]any{})
	s.do("WebAuthn.addVirtualAuthenticator", map[string]any{"options": map[string]any{
		"protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true, "isUserVerified": true,
		"automaticPresenceSimulation": true,
	}})
	s.speak(lang)
	s.do("Emulation.setLocaleOverride", map[string]any{"locale": map[string]string{"en": "en_US", "ja": "ja_JP"}[lang]})
	if narrow {
		s.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true})
	} else {
		s.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": 1100, "height": 800, "deviceScaleFactor": 1, "mobile": false})
	}
	if dark {
		s.do("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": "dark"}}})
	}
	return s
}

// speak chooses a language. Whose browser it is, which stands in for an address that comes
// from afar, its name says.
func (s *screen) speak(lang string) {
	s.t.Helper()
	s.do("Emulation.setUserAgentOverride", map[string]any{"userAgent": s.name, "acceptLanguage": lang})
}

func (s *screen) do(method string, params any) {
	s.t.Helper()
	s.chromium.do(s.session, method, params, nil)
}

// js runs a script, whose value is a string or the promise of one.
func (s *screen) js(script string) (string, error) {
	s.t.Helper()
	var r struct {
		Result struct {
			Value string `json:"value"`
		} `json:"result"`
		Exception json.RawMessage `json:"exceptionDetails"`
	}
	if err := s.try(s.session, "Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "userGesture": true}, &r); err != nil {
		return "", err
	}
	if r.Exception != nil {
		return "", fmt.Errorf("%s: %s", script, r.Exception)
	}
	return r.Result.Value, nil
}

// until waits for a condition, a script, while pages come and go.
func (s *screen) until(what, condition string) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		got, err := s.js(`new Promise(done => { const end = Date.now() + 2000; const look = () => {
			if (document.readyState === "complete" && (` + condition + `)) done("yes"); else if (Date.now() > end) done("no"); else setTimeout(look, 30);
		}; look(); })`)
		if err == nil && got == "yes" {
			return
		}
		if time.Now().After(deadline) {
			text, _ := s.js(`location.href + " " + document.body.innerText`)
			s.shoot("failed")
			s.t.Fatalf("%s waits in vain: %s (%v)\n%s\n%s", s.name, what, err, text, strings.Join(s.said[s.session], "\n"))
		}
	}
}

// value is what a script says, of a page that stays.
func (s *screen) value(script string) string {
	s.t.Helper()
	got, err := s.js(script)
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

func (s *screen) visit(path string) {
	s.t.Helper()
	s.do("Page.navigate", map[string]any{"url": s.base + path})
	plain, _, _ := strings.Cut(path, "#")
	plain, _, _ = strings.Cut(plain, "?")
	s.until("to be at "+path, fmt.Sprintf("location.pathname === %q", plain))
}

func (s *screen) fill(selector, text string) {
	s.t.Helper()
	s.until("a field "+selector, fmt.Sprintf(`document.querySelector(%q)`, selector))
	s.value(fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.focus(); e.value = %q; e.dispatchEvent(new Event("input", { bubbles: true })); e.blur(); return ""; })()`, selector, text))
}

// press presses what is there to press, which has to be in sight and large enough for a thumb.
func (s *screen) press(selector string) {
	s.t.Helper()
	s.until("something to press: "+selector, fmt.Sprintf(`document.querySelector(%q)?.getClientRects().length && !document.querySelector(%q).disabled`, selector, selector))
	if got := s.value(fmt.Sprintf(`String(document.querySelector(%q).getBoundingClientRect().height >= 40)`, selector)); got != "true" {
		s.t.Errorf("%s is too small for a thumb", selector)
	}
	s.value(fmt.Sprintf(`document.querySelector(%q).click(), ""`, selector))
}

// look holds what is shown to what must hold on every screen, and keeps a picture of it.
func (s *screen) look(name string) {
	s.t.Helper()
	if got := s.value(`String(document.documentElement.scrollWidth - innerWidth)`); !strings.HasPrefix(got, "-") && got != "0" {
		wide := s.value(`[...document.querySelectorAll("main *, header *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest("thead, .skip")).slice(0, 5).map(e => e.outerHTML.slice(0, 120)).join("\n")`)
		s.t.Errorf("%s, %s: it is %s pixels too wide\n%s", s.name, name, got, wide)
	}
	s.shoot(name)
}

func (s *screen) shoot(name string) {
	s.t.Helper()
	dir := os.Getenv("SEKISHO_SCREENSHOTS")
	if dir == "" {
		dir = s.t.ArtifactDir()
	}
	var shot struct {
		Data string `json:"data"`
	}
	s.chromium.do(s.session, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	picture, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		s.t.Fatal(err)
	}
	s.shot++
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d-%s-%s.png", s.shot, s.name, name)), picture, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// calm holds that no page complained: of its policy, of an exception, of what it lacks.
func (s *screen) calm(but ...string) {
	s.t.Helper()
said:
	for _, said := range s.said[s.session] {
		for _, ok := range but {
			if strings.Contains(said, ok) {
				continue said
			}
		}
		s.t.Errorf("%s: the browser complains: %.600s", s.name, said)
	}
}

// The whole way in a browser: the first administrator by a link, an invitation, a phone in
// Japanese that enrols, opens, watches the time, extends, closes and asks; an approval, the
// audit; and who is disabled is out.
func TestChromium(t *testing.T) {
	c := startChromium(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := strings.Replace("http://"+l.Addr().String(), "127.0.0.1", "localhost", 1)
	w, token := newEmptyWorld(t, func(_ *Options, s *Settings) {
		s.URL = base
		s.IPv4 = "http://" + l.Addr().String() // the name with IPv4 addresses only
	})
	afar := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = netip.AddrPortFrom(from(r.UserAgent()), 1).String()
		w.ServeHTTP(rw, r)
	})
	served(t, afar, Serving{Listeners: []net.Listener{l}})
	text := func(s *screen, selector string) string {
		return s.value(fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))
	}

	// The first administrator.
	akiko := c.screen(base, "akiko", "en", false, false)
	akiko.visit("/invite#" + token)
	akiko.until("to be asked for a name", `document.querySelector("#name")?.getClientRects().length`)
	akiko.look("first-administrator")
	if got := akiko.value(`location.href`); strings.Contains(got, token) {
		t.Error("the link's token stays in the address")
	}
	akiko.fill("#name", "akiko")
	akiko.fill("#label", "a laptop")
	akiko.press("#enrol")
	akiko.until("to be signed in", `location.pathname === "/" && document.querySelector("nav")`)
	akiko.look("doors")

	// The link again.
	evil := c.screen(base, "evil", "en", false, false)
	evil.visit("/invite#" + token)
	evil.until("to be told", `document.querySelector("form [role=status].error")`)
	if got := text(evil, "[role=status]"); !strings.Contains(got, "used already") {
		t.Errorf("got %q", got)
	}
	evil.look("used-link")

	// Somebody new.
	akiko.visit("/people")
	akiko.fill("#name", "hanako")
	akiko.fill("#groups", "ops")
	akiko.press("#add")
	akiko.until("hanako", `location.pathname === "/people/hanako"`)
	akiko.look("person")
	akiko.press("#invite")
	akiko.until("the link", `document.querySelector("#told")`)
	akiko.look("invitation")
	_, link, ok := strings.Cut(text(akiko, "#told"), "/invite#")
	if !ok {
		t.Fatal("there is no link")
	}

	// Her phone.
	hanako := c.screen(base, "hanako", "ja", true, false)
	hanako.visit("/invite#" + link)
	hanako.until("to be greeted", `document.querySelector("[data-for]")?.innerText.includes("hanako")`)
	hanako.look("invited")
	hanako.fill("#label", "スマートフォン")
	hanako.press("#enrol")
	hanako.until("her doors", `location.pathname === "/" && document.querySelector("[data-target=web]")`)
	hanako.until("her address over IPv4", `document.querySelector("[data-family='4']")?.innerText === "203.0.113.7"`)
	hanako.look("doors")
	const web = "[data-target=web] "
	if got := text(hanako, web+"button.large"); got != "開ける" {
		t.Errorf("the button says %q", got)
	}
	hanako.press(web + "button.large")
	hanako.until("the door to be open", `document.querySelector("[data-target=web] [data-state=open] [data-left]")`)
	hanako.look("open")
	first := text(hanako, web+"[data-left]")
	hanako.until("the time to pass", fmt.Sprintf(`document.querySelector("[data-target=web] [data-left]").innerText < %q`, first))
	hanako.press(web + "[id$=extend]")
	hanako.until("more time", fmt.Sprintf(`document.querySelector("[data-target=web] [data-left]")?.innerText >= %q`, first))
	hanako.press(web + "[id$=close]")
	hanako.until("the door to be shut", `document.querySelector("[data-target=web] button.large")?.innerText === "開ける"`)
	hanako.look("closed")

	// What needs approval, on its own page.
	hanako.visit("/doors/db")
	hanako.look("ask")
	hanako.fill("form input[name=reason]", "障害の調査")
	hanako.press("form button.large.act")
	hanako.until("to wait", `document.querySelector("[data-state=waiting]")`)
	hanako.look("waiting")
	akiko.visit("/approvals")
	akiko.until("the question", `document.querySelector("[data-grant]")`)
	if got := text(akiko, "main"); !strings.Contains(got, "hanako asks for db") || !strings.Contains(got, "障害の調査") {
		t.Errorf("got %q", got)
	}
	akiko.look("approvals")
	akiko.press("[id$=approve]")
	akiko.until("nothing more to answer", `document.querySelector("main")?.innerText.includes("Nothing waits for your answer.")`)
	// Her page learns of it by itself.
	hanako.until("the door to be open", `document.querySelector("[data-target=db] [data-state=open] [data-left]")`)
	hanako.look("approved")

	// The glass.
	hanako.press("[id$=close]")
	hanako.until("the door to be shut", `document.querySelector("[data-target=db] details.break")`)
	hanako.value(`document.querySelector("details.break").open = true, ""`)
	hanako.look("glass")
	hanako.fill("details.break input[name=reason]", "本番障害")
	hanako.press("details.break button.large")
	hanako.until("the door to be open", `document.querySelector("[data-target=db] [data-state=open] .pill.bad")`)
	hanako.look("glass-broken")

	// What is seen of it.
	akiko.visit("/live")
	akiko.until("who is in", `document.querySelector("[data-grant]")`)
	akiko.look("live")
	akiko.visit("/audit?verify=true")
	akiko.until("the audit", `document.querySelector("[data-what]")`)
	for _, what := range []string{"open", "extend", "approve", "open.break_glass"} {
		if got := akiko.value(fmt.Sprintf(`String(!!document.querySelector("[data-what='%s']"))`, what)); got != "true" {
			t.Errorf("the audit has no %q", what)
		}
	}
	if got := text(akiko, "[role=status]"); !strings.Contains(got, "The chain is whole.") {
		t.Errorf("got %q", got)
	}
	akiko.look("audit")

	// In and out again, in the other language, in the dark.
	hanako.do("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": "dark"}}})
	hanako.visit("/account")
	hanako.look("account")
	hanako.press("form[action='/signout'] button")
	hanako.until("to be out", `location.pathname === "/signin"`)
	hanako.look("sign-in")
	hanako.press("form[action='/language'] button")
	hanako.until("English", `document.documentElement.lang === "en"`)
	hanako.press("#passkey")
	hanako.until("to be in", `location.pathname === "/" && document.documentElement.lang === "en" && document.querySelector("[data-target=db] [data-state=open]")`)
	hanako.look("doors-english-dark")

	// Every page of an administrator's, on a phone, in Japanese.
	akiko.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true})
	akiko.speak("ja")
	if _, err := w.gate.AddHost(t.Context(), gate.Who{Person: "akiko", Role: api.RoleAdmin}, "box-1"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/doors/box", "/approvals", "/account", "/live", "/people", "/people/hanako", "/people/lea", "/targets", "/targets/web", "/hosts", "/audit", "/nothing"} {
		akiko.visit(path)
		akiko.look("phone" + strings.ReplaceAll(path, "/", "-"))
	}

	// Out.
	akiko.visit("/people/hanako")
	akiko.press("a#disable")
	akiko.until("to be asked", `location.pathname === "/people/hanako/disable"`)
	akiko.look("disable")
	akiko.press("button#disable")
	akiko.until("her to be disabled", `location.pathname === "/people/hanako" && document.querySelector("#enable")`)
	akiko.look("disabled")
	hanako.until("to be out", `location.pathname === "/signin"`)
	hanako.press("#passkey")
	hanako.until("to be told", `document.querySelector("form [role=status].error")`)
	hanako.look("refused")

	akiko.calm("404 (Not Found)")
	evil.calm("404 (Not Found)")
	hanako.calm("403 (Forbidden)", "401 (Unauthorized)")
}
