package cli

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sekisho": func() { os.Exit(Main(os.Args[1:])) },
	})
}

// TestScript runs each testdata/*.txtar: a command line, and what it must say.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Cmds:                talkCommands,
		Setup: func(env *testscript.Env) error {
			env.Values[talkKey{}] = new(talk)
			env.Setenv("SSH_CONNECTION", "")
			return nil
		},
	})
}
