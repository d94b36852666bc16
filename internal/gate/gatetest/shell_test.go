package gatetest

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/securitygroup/ec2test"
)

// TestShell runs what docs/gate-client.md tells people to type, as it stands there, but for
// where the gate and the key are.
func TestShell(t *testing.T) {
	for _, program := range []string{"sh", "curl", "ssh-keygen", "sha256sum"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("LEFT OUT: %v", err)
		}
	}
	doc, err := os.ReadFile("../../../docs/gate-client.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(doc), "```sh\n")[1:]
	if len(blocks) != 2 {
		t.Fatalf("the document has %d blocks of shell", len(blocks))
	}
	for i, b := range blocks {
		blocks[i], _, _ = strings.Cut(b, "```")
	}

	ec2 := ec2test.Start(t)
	place := ec2test.Place{Region: "eu-central-1"}
	group := ec2.AddGroup(place, ec2test.Group{Name: "web"})
	for _, v := range ec2.Environ(place) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	key := filepath.Join(t.TempDir(), "id_ed25519")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	url := "http://" + server.Listener.Addr().String()
	cfg, err := config.Parse("sekisho.yaml", []byte("version: 1\npeople: {hanako: {keys: ['"+strings.TrimSpace(string(public))+"']}}\n"+
		"targets: {web: {aws: {region: eu-central-1, group: "+group+"}, allow: [hanako]}}\ngate: {url: '"+url+"', serve: {}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := Start(Options{Config: cfg, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = g.Handler
	server.Start()
	t.Cleanup(func() {
		server.Close()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})

	run := func(script string) []string {
		t.Helper()
		for old, replacement := range map[string]string{"gate=https://gate.example.com": "gate=" + url, "key=$HOME/.ssh/id_ed25519": "key=" + key} {
			if strings.Count(script, old) != 1 {
				t.Fatalf("it does not say %q once:\n%s", old, script)
			}
			script = strings.Replace(script, old, replacement, 1)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", script)
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=", "http_proxy=", "HTTP_PROXY=")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, err.(*exec.ExitError).Stderr) //nolint:errorlint // Output's own
		}
		return strings.Split(strings.TrimSpace(string(out)), "\n")
	}
	read := func(line string, v any) {
		t.Helper()
		if err := json.Unmarshal([]byte(line), v); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	lines := run(blocks[0] + blocks[1])
	if len(lines) != 5 {
		t.Fatalf("it says %q", lines)
	}
	var me api.Me
	var door api.Door
	var opened api.Grant
	var grants []api.Grant
	var seen api.Seen
	for i, v := range []any{&me, &door, &opened, &grants, &seen} {
		read(lines[i], v)
	}
	if me.Person != "hanako" || me.Via != api.ViaKey || door.Target != "web" || !door.Allowed || seen.Address.String() != "127.0.0.1" {
		t.Errorf("me %+v, door %+v, seen %+v", me, door, seen)
	}
	if opened.State != api.Open || opened.Prefix.String() != "203.0.113.7/32" || opened.Reason != "night shift" || len(grants) != 1 || grants[0].ID != opened.ID {
		t.Errorf("opened %+v, grants %+v", opened, grants)
	}
	if n := len(ec2.Rules(place, group)); n != 2 { // with the one for what goes out
		t.Errorf("%d rules", n)
	}
	// The line that the text gives for closing it.
	const closing = "ask POST /api/v1/grants/ID/close"
	if !strings.Contains(string(doc), "`"+closing+"`") {
		t.Fatal("the document does not say how to close it")
	}
	head, _, _ := strings.Cut(blocks[0], "ask GET")
	var closed api.Grant
	read(run(head + strings.Replace(closing, "ID", opened.ID, 1))[0], &closed)
	if closed.State != api.Ended {
		t.Errorf("closed %+v", closed)
	}
}
