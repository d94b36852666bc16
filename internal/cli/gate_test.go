package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"

	"sekisho/internal/config"
	gateflow "sekisho/internal/gate"
	"sekisho/internal/gate/api"
	"sekisho/internal/gate/gatetest"
)

// A script's own gate, the whole of it, in front of the script's EC2.

type gateKey struct{}

type scriptGate struct {
	*gatetest.Gate
	server *httptest.Server
}

// gateScript is the script's command gate.
//
//	gate start FILE       serve FILE, with GATE (the gate's URL), GROUP (the group of ec2 start), EC2 and each
//	                      KEY(name) put in; keys/NAME is the key, and $GATE the URL. person.yaml names the gate alone
//	gate waiting          wait until something waits for approval; its id is $ID
//	gate open TARGET      wait until TARGET is open for somebody
//	gate stop             it ends, and nobody answers at its address
func gateScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: gate start | waiting | open | stop")
	}
	s := ts.Value(gateKey{}).(*scriptGate)
	switch args[0] {
	case "start":
		s.start(ts, args[1])
	case "stop":
		s.server.Close()
		ts.Check(s.Close())
	case "waiting":
		g := s.until(ts, "something waits for approval", func(g api.Grant) bool { return g.State == api.Waiting })
		ts.Setenv("ID", g.ID)
	case "open":
		s.until(ts, args[1]+" is open", func(g api.Grant) bool { return g.Target == args[1] && g.State == api.Open })
	default:
		ts.Fatalf("there is no command gate %s", args[0])
	}
}

func (s *scriptGate) start(ts *testscript.TestScript, file string) {
	server := httptest.NewUnstartedServer(nil)
	url := "http://" + server.Listener.Addr().String()
	text := strings.NewReplacer("GATE", url, "GROUP", ts.Getenv("GROUP"), "EC2", ts.Getenv("AWS_ENDPOINT_URL")).Replace(ts.ReadFile(file))
	text = regexp.MustCompile(`KEY\((\w+)\)`).ReplaceAllStringFunc(text, func(m string) string {
		return "'" + s.key(ts, strings.TrimSuffix(strings.TrimPrefix(m, "KEY("), ")")) + "'"
	})
	cfg, err := config.Parse(file, []byte(text))
	ts.Check(err)
	// What reaches EC2 is this process; where EC2 is says the configuration.
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"} {
		ts.Check(os.Setenv(name, ts.Getenv(name)))
	}
	g, err := gatetest.Start(gatetest.Options{Config: cfg, Dir: ts.MkAbs("gatestate"), Settle: 20 * time.Millisecond})
	ts.Check(err)
	server.Config.Handler = g.Handler
	server.Start()
	ts.Defer(func() {
		server.Close()
		ts.Check(g.Close())
	})
	*s = scriptGate{g, server}
	ts.Setenv("GATE", url)
	ts.Check(os.WriteFile(ts.MkAbs("person.yaml"), []byte("version: 1\ngate: {url: '"+url+"'}\n"), 0o600))
}

// key makes a person's key, and returns the line of it.
func (s *scriptGate) key(ts *testscript.TestScript, name string) string {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	block, err := ssh.MarshalPrivateKey(private, name)
	ts.Check(err)
	ts.Check(os.MkdirAll(ts.MkAbs("keys"), 0o700))
	ts.Check(os.WriteFile(ts.MkAbs(filepath.Join("keys", name)), pem.EncodeToMemory(block), 0o600))
	half, err := ssh.NewPublicKey(public)
	ts.Check(err)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(half)))
	ts.Check(os.WriteFile(ts.MkAbs(filepath.Join("keys", name+".pub")), []byte(line+"\n"), 0o600))
	return line
}

// until waits for a grant that is as it has to be.
func (s *scriptGate) until(ts *testscript.TestScript, what string, is func(api.Grant) bool) api.Grant {
	root := gateflow.Who{Person: "root", Role: api.RoleAdmin, Via: api.ViaKey}
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		grants, err := s.Grants(context.Background(), root, true)
		ts.Check(err)
		for _, g := range grants {
			if is(g) {
				return g
			}
		}
		if time.Now().After(deadline) {
			ts.Fatalf("it does not come that %s: %+v", what, grants)
		}
	}
}
