package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCompletion loads each shell's script into the real shell, with this program as
// sekisho, and has it complete a command, a flag and a target.
func TestCompletion(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// testscript.Main goes by the name that it is called by.
	if err := os.Symlink(self, filepath.Join(dir, "sekisho")); err != nil {
		t.Fatal(err)
	}
	config := "version: 1\npeople: {hanako: {fixed: [203.0.113.7]}}\ntargets: {web-prod: {aws: {region: eu-central-1, group: sg-0123456789abcdef0}, allow: [hanako]}}\n"
	if err := os.WriteFile(filepath.Join(dir, "sekisho.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, shell := range []struct {
		name   string
		script string // $1 is what is typed so far; it prints what it would offer, one a line
		args   []string
	}{
		// What readline does. Cobra's script needs the package bash-completion.
		{"bash", `source /usr/share/bash-completion/bash_completion || exit
source <(sekisho completion bash) || exit
type __start_sekisho >/dev/null || exit
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
read -r -a COMP_WORDS <<<"$1"
[[ $1 != *' ' ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; }
__start_sekisho
printf '%s\n' "${COMPREPLY[@]}"`, []string{"--norc", "--noprofile", "-c"}},
		// Its widgets need a terminal: what it asks, and that its script loads, is what is tried.
		{"zsh", `autoload -Uz compinit && compinit -u -D || exit
source <(sekisho completion zsh) || exit
whence -w _sekisho >/dev/null && [[ ${_comps[sekisho]} = _sekisho ]] || exit 1
words=(${(z)1}); [[ $1 != *' ' ]] || words+=('')
sekisho __complete "${(@)words[2,-1]}" 2>/dev/null | sed '/^:[0-9]*$/d'`, []string{"-f", "-c"}},
		{"fish", `sekisho completion fish | source; or exit 1
complete -C "$argv[1]"`, []string{"--no-config", "-c"}},
	} {
		t.Run(shell.name, func(t *testing.T) {
			path, err := exec.LookPath(shell.name)
			if err != nil {
				t.Skipf("LEFT OUT: %v", err)
			}
			if _, err := os.Stat("/usr/share/bash-completion/bash_completion"); err != nil && shell.name == "bash" {
				t.Skipf("LEFT OUT: %v", err)
			}
			for _, tt := range []struct {
				typed string
				want  []string
			}{
				{"sekisho rel", []string{"reload"}},
				{"sekisho gate audit ver", []string{"verify"}},
				{"sekisho apply --wit", []string{"--within"}},
				{"sekisho --config " + filepath.Join(dir, "sekisho.yaml") + " open web", []string{"web-prod"}},
			} {
				argv := append(slices.Clone(shell.args), shell.script)
				if shell.name != "fish" {
					argv = append(argv, shell.name)
				}
				cmd := exec.CommandContext(t.Context(), path, append(argv, tt.typed)...)
				cmd.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+dir, "LC_ALL=C.UTF-8")
				out, err := cmd.CombinedOutput()
				var got []string
				for line := range strings.Lines(string(out)) {
					word, _, _ := strings.Cut(strings.TrimRight(line, "\n"), "\t")
					word, _, _ = strings.Cut(strings.TrimSpace(word), " ")
					got = append(got, strings.TrimSuffix(word, "="))
				}
				got = slices.Compact(got)
				if err != nil || !slices.Equal(got, tt.want) {
					t.Errorf("%q: %v, %q; want %q", tt.typed, err, got, tt.want)
				}
			}
		})
	}
}
