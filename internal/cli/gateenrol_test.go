package cli

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/daemon"
	"sekisho/internal/gate/api"
)

// TestGateEnrol: a token makes a host the gate's, once; what is wrong costs no token.
func TestGateEnrol(t *testing.T) {
	asked := 0
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		var q api.EnrolRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		if q.Token != "GOODTOKEN" {
			w.WriteHeader(http.StatusGone)
			fmt.Fprint(w, `{"code":"expired","message":"this token has ended","hint":"get a new one"}`)
			return
		}
		fmt.Fprint(w, `{"name":"web-1","key":"SHA256:x"}`)
	}))
	t.Cleanup(gate.Close)
	url := strings.Replace(gate.URL, "127.0.0.1", "localhost", 1)
	dir := t.TempDir()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key")
	file := filepath.Join(dir, "file")
	for path, text := range map[string]string{
		key: string(pem.EncodeToMemory(block)), file: "",
		filepath.Join(dir, "with.yaml"): "version: 1\nexposure: on_request\nadmins: [198.51.100.1]\ngate: {url: " + url + "}\n", filepath.Join(dir, "without.yaml"): "version: 1\n",
		filepath.Join(dir, "public.yaml"): "version: 1\ngate: {url: " + url + "}\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, config, state, stdin string
		args                       []string
		code, asked                int
		out, err                   string
	}{
		{name: "no gate", config: "without.yaml", args: []string{"GOODTOKEN"}, code: exitUsage, err: "does not say where the gate is"},
		{name: "no key", config: "with.yaml", args: []string{"GOODTOKEN", "--key", filepath.Join(dir, "none")}, code: exitFailure, err: "this host has no SSH host key"},
		{name: "no token", config: "with.yaml", args: []string{"--key", key}, code: exitUsage, err: "there is no token"},
		{name: "nowhere to write it down", config: "with.yaml", args: []string{"GOODTOKEN", "--key", key}, state: filepath.Join(file, "state"), code: exitFailure, err: "note where this host is enrolled"},
		{name: "a token that has ended", config: "with.yaml", args: []string{"OLDTOKEN", "--key", key}, code: exitFailure, asked: 1, err: "the gate says: this token has ended"},
		{name: "good, by standard input", config: "with.yaml", args: []string{"--key", key}, stdin: "GOODTOKEN\n", asked: 1, out: "this host is web-1 at " + url + ", by its key " + ssh.FingerprintSHA256(public), err: "the daemon does not run"},
		{name: "good, as JSON", config: "with.yaml", args: []string{"GOODTOKEN", "--key", key, "--json"}, asked: 1, out: `{"url":"` + url + `","host":"web-1","key":"` + key + `","fingerprint":"` + ssh.FingerprintSHA256(public) + `","daemon":false}`},
		{name: "where everybody comes in", config: "public.yaml", args: []string{"GOODTOKEN", "--key", key}, asked: 1, out: "exposure is public", err: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked = 0
			state := tt.state
			if state == "" {
				state = filepath.Join(t.TempDir(), "state")
			}
			var out, errs bytes.Buffer
			args := append([]string{"gate", "enrol", "--config", filepath.Join(dir, tt.config), "--state-dir", state, "--socket", filepath.Join(dir, "sock")}, tt.args...)
			if code := Run(t.Context(), args, strings.NewReader(tt.stdin), &out, &errs); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.Contains(out.String(), tt.out) || !strings.Contains(errs.String(), tt.err) || asked != tt.asked {
				t.Errorf("it was asked %d times and said %q, %q", asked, out.String(), errs.String())
			}
			got, err := daemon.Enrolled(state)
			want := daemon.Enrolment{}
			if tt.code == exitOK {
				want = daemon.Enrolment{URL: url, Host: "web-1", Key: key}
			}
			if got != want || err != nil && tt.state == "" {
				t.Errorf("%+v, %v", got, err)
			}
			if left, _ := os.ReadDir(state); len(left) > 1 {
				t.Errorf("left in the state: %v", left)
			}
		})
	}
}
