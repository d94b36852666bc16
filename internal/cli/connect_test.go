package cli

import (
	"slices"
	"testing"

	"sekisho/internal/access"
	"sekisho/internal/config"
)

// TestProxyCommand: `sekisho ssh` and ~/.ssh/config go through a door by the same command,
// which means the same in any folder.
func TestProxyCommand(t *testing.T) {
	t.Chdir("/usr")
	door := access.Door{Name: "web-prod", Target: config.Target{Host: []string{"web.example.com"}, Port: 22, Close: config.CloseAfterConnect}}
	for _, tt := range []struct {
		name string
		g    globals
		want string
	}{
		{"as installed", globals{configPath: defaultConfig, stateDir: defaultStateDir}, "'/opt/a b/sekisho'"},
		{"elsewhere", globals{configPath: "my %h/it's.yaml", configSet: true, stateDir: "state", stateSet: true},
			`'/opt/a b/sekisho' --config '/usr/my %%h/it'\''s.yaml' --state-dir /usr/state`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin := tt.want + " connect --target web-prod"
			if got, want := (&sshOptions{g: &tt.g, person: "alice", ip: "203.0.113.7"}).options("/opt/a b/sekisho", door), "ProxyCommand="+begin+" --person alice --ip 203.0.113.7 %h %p"; !slices.Contains(got, want) {
				t.Errorf("ssh: got %q, want %q", got, want)
			}
			if got, want := tt.g.sshBlock("/opt/a b/sekisho", door, true).Lines, "ProxyCommand "+begin+" --fdpass %h %p"; !slices.Contains(got, want) {
				t.Errorf("ssh-config: got %q, want %q", got, want)
			}
		})
	}
}

// TestProxyCommandAsks: what is to be said to the gate reaches connect as it was typed.
func TestProxyCommandAsks(t *testing.T) {
	t.Chdir("/usr")
	door := access.Door{Name: "web", Target: config.Target{Host: []string{"web.example.com"}, Port: 22, Close: config.CloseAfterConnect}}
	g := globals{identity: "my keys/id"}
	o := sshOptions{g: &g, direct: true, asking: asking{reason: "it's $HOME, 100%", breaks: true}}
	want := `ProxyCommand=/bin/sekisho connect --target web --direct --identity '/usr/my keys/id' --reason 'it'\''s $HOME, 100%%' --break-glass %h %p`
	if got := o.options("/bin/sekisho", door); !slices.Contains(got, want) {
		t.Errorf("ssh: got %q, want %q", got, want)
	}
	g.identity = "~/.ssh/id_ed25519"
	want = "ProxyCommand /bin/sekisho connect --target web --identity '~/.ssh/id_ed25519' %h %p"
	if got := g.sshBlock("/bin/sekisho", door, false).Lines; !slices.Contains(got, want) {
		t.Errorf("ssh-config: got %q, want %q", got, want)
	}
}
