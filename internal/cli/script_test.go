package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sekisho":     func() { os.Exit(Main(os.Args[1:])) },
		"peers":       printPeers,
		"exit-code":   func() { os.Exit(exitCodeOf(os.Args[1:])) },
		"head-of":     func() { os.Exit(headOf(os.Args[1], os.Args[2:])) },
		"on-terminal": func() { os.Exit(onTerminal(os.Args[1], os.Args[2:])) },
		"connected":   func() { os.Exit(connected(os.Args[1], os.Args[2], os.Args[3:])) },
	})
}

// TestScript runs each testdata/*.txtar: a command line, and what it must say.
func TestScript(t *testing.T) {
	// A script's programs die of a hangup also where nohup runs the tests.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangups) })
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Cmds:                talkCommands,
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("there is no condition %q", cond)
			}
			return os.Geteuid() == 0, nil
		},
		Setup: func(env *testscript.Env) error {
			env.Values[talkKey{}] = new(talk)
			env.Values[ec2Key{}] = new(script)
			env.Values[gateKey{}] = new(scriptGate)
			env.Setenv("SSH_CONNECTION", "")
			return nil
		},
	})
}

// exitCodeOf is a program that runs another and prints its exit code.
func exitCodeOf(argv []string) int {
	err := exec.CommandContext(context.Background(), argv[0], argv[1:]...).Run()
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		panic(err)
	}
	fmt.Println(code)
	return 0
}

// connected is a program that runs another while a connection from local to its
// listener at address stands, which is that program's own SSH session.
func connected(address, local string, argv []string) int {
	ctx := context.Background()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		panic(err)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	conn, err := dialer.DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	peer, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	defer peer.Close()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	from, to := conn.LocalAddr().(*net.TCPAddr), listener.Addr().(*net.TCPAddr)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SSH_CONNECTION=%s %d %s %d", from.IP, from.Port, to.IP, to.Port))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return 1
	}
	return 0
}
