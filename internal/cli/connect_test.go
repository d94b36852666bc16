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
			if got, want := tt.g.sshOptions("/opt/a b/sekisho", door, "alice", "203.0.113.7"), "ProxyCommand="+begin+" --person alice --ip 203.0.113.7 %h %p"; !slices.Contains(got, want) {
				t.Errorf("ssh: got %q, want %q", got, want)
			}
			if got, want := tt.g.sshBlock("/opt/a b/sekisho", door, true).Lines, "ProxyCommand "+begin+" --fdpass %h %p"; !slices.Contains(got, want) {
				t.Errorf("ssh-config: got %q, want %q", got, want)
			}
		})
	}
}
