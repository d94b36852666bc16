package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sekisho/internal/config"
	"sekisho/internal/daemon"
	"sekisho/internal/gate/agent"
	"sekisho/internal/gate/api"
	"sekisho/internal/printable"
	"sekisho/internal/sshd"
)

func gateEnrolCommand(g *globals) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "enrol [TOKEN]",
		Short: "Make this host one of the gate's",
		Long: "Make this host known to the gate of `gate.url` by its SSH host key, with a one-time token that an administrator of the gate\n" +
			"gets where hosts are added. From then on the daemon connects to the gate, and lets in whom it names, for as long as it says.\n" +
			"Without TOKEN, or with -, the token is read from standard input: so nobody sees it in the list of processes.",
		Example: `  sudo sekisho gate enrol
  sudo sekisho gate enrol - < token`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			token := "-"
			if len(args) == 1 {
				token = args[0]
			}
			return enrol(cmd.Context(), g, token, key)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the `FILE` of the private host key (default: sshd's own)")
	return cmd
}

// enrolledView is what enrol tells.
type enrolledView struct {
	URL         string `json:"url"`
	Host        string `json:"host"`
	Key         string `json:"key"`
	Fingerprint string `json:"fingerprint"`
	Daemon      bool   `json:"daemon"` // it runs, and connects now
}

func enrol(ctx context.Context, g *globals, token, key string) error {
	cfg, err := g.load()
	if err != nil {
		return err
	}
	if cfg.Gate.URL == "" {
		return &exitError{exitUsage, withHint(fmt.Errorf("%s does not say where the gate is", g.configPath), "name it, for example: gate: {url: https://gate.example.com}")}
	}
	paths := []string{key}
	if key == "" {
		paths = hostKeys(ctx, cfg.SSH.Ports)
	}
	path, signer, err := agent.LoadKey(paths...)
	if err != nil {
		return enrolError(err)
	}
	u := newUI(g)
	if token == "-" {
		if token, err = readToken(ctx, u); err != nil {
			return err
		}
	}
	// What cannot be written down must not cost the token.
	if err := daemon.MayEnrol(g.stateDir); err != nil {
		return aloneError(err)
	}
	host, err := agent.Enrol(ctx, agent.Options{URL: cfg.Gate.URL, CA: cfg.Gate.CA, Signer: signer, Version: version}, token)
	if err != nil {
		return enrolError(err)
	}
	if err := daemon.NoteEnrolled(g.stateDir, daemon.Enrolment{URL: cfg.Gate.URL, Host: host.Name, Key: path}); err != nil {
		return withHint(err, "the gate knows this host already: mend that, and enrol it with a new token")
	}
	v := enrolledView{URL: cfg.Gate.URL, Host: host.Name, Key: path, Fingerprint: ssh.FingerprintSHA256(signer.PublicKey())}
	var reply daemon.Reply
	asked := newClient(g).post(ctx, "gate", struct{}{}, &reply)
	v.Daemon = asked == nil
	if g.json {
		return u.json(v)
	}
	u.line(fmt.Sprintf("this host is %s at %s, by its key %s", v.Host, v.URL, v.Fingerprint))
	switch {
	case errors.Is(asked, errSilent):
		u.say("the daemon does not run; it connects when it does")
	case asked != nil:
		u.say("the daemon connects within a minute; it was not told: " + asked.Error())
	}
	if cfg.Exposure != config.ExposureOnRequest {
		u.warn(fmt.Sprintf("exposure is %s: the gate's grants open what is shut, and that is it with on_request", cfg.Exposure), "set exposure: on_request, then `sekisho apply`")
	}
	return nil
}

func enrolError(err error) error {
	if e, ok := errors.AsType[*agent.Error](err); ok {
		return withHint(err, e.Hint)
	}
	if e, ok := errors.AsType[*api.Error](err); ok && e.Hint != "" {
		return withHint(err, e.Hint)
	}
	return err
}

// hostKeys are where sshd keeps its host keys, as it says itself, the best first.
func hostKeys(ctx context.Context, ports []uint16) []string {
	paths := agent.HostKeys()
	server, err := sshd.Find(ctx, ports)
	if err != nil {
		return paths
	}
	effective, err := server.Dump(ctx, "", sshd.Connection{})
	if err != nil {
		return paths
	}
	var own []string
	for _, word := range []string{"ed25519", "ecdsa", "rsa", ""} {
		for _, p := range effective["hostkey"] {
			if strings.Contains(p, word) && strings.HasPrefix(p, "/") {
				own = append(own, p)
			}
		}
	}
	return append(own, paths...)
}

// readToken reads a token from standard input, of which a terminal shows nothing else.
func readToken(ctx context.Context, u *ui) (string, error) {
	if u.interactive() {
		return strings.TrimSpace(u.ask(ctx, "The token:")), nil
	}
	text, err := bufio.NewReader(io.LimitReader(u.g.stdin, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", &exitError{exitUsage, withHint(errors.New("there is no token"), "give it on standard input, or as the argument")}
	}
	return text, nil
}

// gateRows tell how it goes with the gate.
func gateRows(s *daemon.GateStatus) [][]string {
	if s == nil {
		return nil
	}
	text := fmt.Sprintf("%s, connected since %s, %s in force", s.URL, clockTime(s.Since), plural(s.Grants, "grant"))
	if !s.Connected {
		text = fmt.Sprintf("%s, not connected since %s (%s), %s in force", s.URL, clockTime(s.Since), printable.Text(s.Error), plural(s.Grants, "grant"))
	}
	if s.Waiting > 0 {
		text += fmt.Sprintf(", %d not", s.Waiting)
	}
	return [][]string{{"gate", text}}
}
