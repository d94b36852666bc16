package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/relay"
	"sekisho/internal/run"
)

// connect, ssh and ssh-config: ssh's way through a door. ssh starts connect as its
// ProxyCommand, so whatever uses ssh (scp, rsync, git, Ansible, editors) goes that way.

// leaseTime is the key of a context's value: how long a passage's leases are.
type leaseTime struct{}

// WithLeaseTime has connections that are begun under ctx ask for leases of length d, and
// renew them: whoever sees that happen need not wait for minutes.
func WithLeaseTime(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, leaseTime{}, d)
}

func connectCommand(g *globals) *cobra.Command {
	var person, ip, target string
	var pass, direct bool
	var ask asking
	cmd := &cobra.Command{
		Use:   "connect HOST [PORT]",
		Short: "Open a target, connect to it, and shut it behind: ssh's ProxyCommand",
		Long: "Open the target that HOST belongs to, for your own address, connect to it as soon as it answers, and relay standard input and\n" +
			"output. The door is shut as the target's `close` says: after_connect, a moment after the connection is there, which goes on\n" +
			"without it; or at_exit. What several processes of yours need at the same time is opened once, and shut by the last.\n" +
			"`sekisho ssh-config` prints the lines for ~/.ssh/config.",
		Example: `  ssh -o ProxyCommand='sekisho connect %h %p' web.example.com`,
		Args:    usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if target != "" {
				name = target
			}
			way, err := g.toDoor(cmd.Context(), direct, person, name, ask)
			if err != nil {
				return err
			}
			door := way.door
			if len(args) == 2 {
				if err := samePort(door, args[1]); err != nil {
					return err
				}
			}
			if pass && !door.HandsOver() {
				return &exitError{exitUsage, withHint(fmt.Errorf("%s is kept open until ssh ends, which cannot be seen from a connection that was handed over", door.Name),
					"set `close: after_connect` for it, or leave out --fdpass and ProxyUseFdpass")}
			}
			host := args[0]
			if host == door.Name {
				host = door.Host[0]
			}
			p, err := way.passage(host, ip)
			if err != nil {
				return err
			}
			p.LeaseTime, _ = cmd.Context().Value(leaseTime{}).(time.Duration)
			return way.connect(cmd.Context(), p, pass)
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "the `TARGET` that HOST is, where several are")
	cmd.Flags().StringVar(&ip, "ip", "", "your own `ADDR` (default: it is found out)")
	cmd.Flags().BoolVar(&pass, "fdpass", false, "hand the connection over to ssh: with its ProxyUseFdpass yes")
	ask.flags(cmd)
	gateFlags(g, cmd, &direct)
	personFlag(cmd, &person)
	return cmd
}

// samePort refuses a port that the target does not open.
func samePort(door access.Door, port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return &exitError{exitUsage, withHint(fmt.Errorf("%q is no port", port), "ssh gives it as %p")}
	}
	if uint16(n) != door.Port {
		return &exitError{exitUsage, withHint(fmt.Errorf("%s opens port %d, and ssh asks for port %d", door.Name, door.Port, n), fmt.Sprintf("write `Port %d` for this host in ~/.ssh/config, or mend `port` of the target", door.Port))}
	}
	return nil
}

// connect is the whole of a ProxyCommand.
func (c *toDoor) connect(ctx context.Context, p *access.Passage, pass bool) (err error) {
	// ssh ends its ProxyCommand by a hangup: a door that is open has to be shut then, too.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	ignored := make(chan os.Signal, 1) // whoever reads us may be gone: that is an error to write, and not our end
	signal.Notify(ignored, syscall.SIGPIPE)
	defer signal.Stop(ignored)

	out, ok := fileOf(c.g.stdout)
	way, err := connectFor(ctx, p, out)
	if err != nil {
		return c.explain(err)
	}
	in, ok2 := c.g.stdin.(*os.File)
	if !ok || !ok2 {
		return errors.Join(errors.New("standard input and output are no files"), way.Leave(ctx))
	}
	if pass {
		return c.handOver(ctx, p, way, out)
	}
	defer way.Conn.Close()
	// While it lives the door is shut behind it, or kept open.
	going, over := context.WithCancel(ctx)
	defer over()
	left := make(chan error, 1)
	go func() {
		if p.Door.Close == config.CloseAtExit {
			way.Keep(going)
		} else {
			way.Linger(going)
		}
		left <- way.Leave(ctx)
	}()
	_, err = relay.Relay(ctx, way.Conn, in, out)
	over()
	if ctx.Err() != nil {
		err = nil // ssh has ended us
	}
	return errors.Join(err, c.explain(<-left))
}

// connectFor connects, for as long as somebody is at the other end of out: an ssh that was
// killed tells its ProxyCommand by that alone, and it may wait long for somebody's yes.
func connectFor(ctx context.Context, p *access.Passage, out *os.File) (*access.Way, error) {
	if out == nil {
		return p.Connect(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // it is not waited for: it ends a moment later
		if relay.Gone(ctx, out) == nil {
			cancel(errNobody)
		}
	}()
	return p.Connect(ctx)
}

// errNobody is that nobody waits for the connection any more.
var errNobody = errors.New("whoever asked for the connection is gone")

// handOver gives ssh the connection. ssh waits for our end: another process shuts the
// door behind it.
func (c *toDoor) handOver(ctx context.Context, p *access.Passage, way *access.Way, out *os.File) error {
	err := relay.PassDescriptor(way.Conn, out)
	if err != nil {
		if errors.Is(err, relay.ErrNotPassable) {
			err = withHint(err, "set ProxyUseFdpass yes in ~/.ssh/config, or leave out --fdpass")
		}
		return errors.Join(err, way.Conn.Close(), way.Leave(ctx))
	}
	self, err := os.Executable()
	if err == nil {
		_, err = run.Detach(c.shutArgs(self, p, way.Own), nil)
	}
	if err != nil { // then ssh has to wait until it is shut
		return errors.Join(c.explain(way.Leave(ctx)))
	}
	return nil // what the way holds ends with us
}

// shutArgs is the command that shuts a door in our place.
func (c *toDoor) shutArgs(self string, p *access.Passage, own netip.Prefix) []string {
	args := append(c.g.again(self), "shut", "--person", p.Person)
	args = append(args, c.g.gateArgs(c.direct)...)
	return append(args, p.Door.Name, own.String())
}

// again begins a command that runs us anew as we were run, from any folder.
func (g *globals) again(self string) []string {
	args := []string{self}
	if g.configSet {
		args = append(args, "--config", absolute(g.configPath))
	}
	if g.stateSet {
		args = append(args, "--state-dir", absolute(g.stateDir))
	}
	return args
}

// gateArgs are the flags of gateFlags as they were given.
func (g *globals) gateArgs(direct bool) []string {
	var args []string
	if direct {
		args = append(args, "--direct")
	}
	if g.identity != "" {
		identity := g.identity
		if !strings.HasPrefix(identity, "~/") {
			identity = absolute(identity)
		}
		args = append(args, "--identity", identity)
	}
	return args
}

// absolute is a path that means the same in any folder.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// shutCommand shuts a door behind a connection that was handed over.
func shutCommand(g *globals) *cobra.Command {
	var person string
	var direct bool
	cmd := &cobra.Command{
		Use:    "shut TARGET PREFIX",
		Short:  "Shut a door behind a connection that ssh was given",
		Hidden: true,
		Args:   usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
			defer stop()
			prefix, err := parsePrefix(args[1])
			if err != nil {
				return err
			}
			at, err := g.gateway(direct)
			if err != nil {
				return err
			}
			if at != nil {
				p, err := at.through(access.Door{Name: args[0]}, person)
				if err != nil {
					return err
				}
				return at.explain(p.Shut(ctx, prefix))
			}
			c, err := g.cloud(person)
			if err != nil {
				return err
			}
			door, err := c.door(args[0])
			if err != nil {
				return err
			}
			p, err := c.passage(door, "", "")
			if err != nil {
				return err
			}
			return c.explain(p.Shut(ctx, prefix))
		},
	}
	gateFlags(g, cmd, &direct)
	personFlag(cmd, &person)
	return cmd
}

func sshCommand(g *globals) *cobra.Command {
	o := sshOptions{g: g}
	cmd := &cobra.Command{
		Use:   "ssh TARGET [ARG...]",
		Short: "ssh to a target, which is open for as long as that takes",
		Long: "Run ssh with `sekisho connect` as its ProxyCommand. What follows TARGET is ssh's own: options, and a command. TARGET may have a\n" +
			"user in front: ops@web-prod. Flags of sekisho's own go before TARGET.",
		Example: `  sekisho ssh web-prod
  sekisho ssh ops@web-prod -L 8080:localhost:80
  sekisho ssh web-prod uptime`,
		Args:              usageArgs(cobra.MinimumNArgs(1)),
		ValidArgsFunction: g.targetNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			user, name, has := strings.Cut(args[0], "@")
			if !has {
				user, name = "", args[0]
			}
			door, err := o.door(cmd.Context(), name)
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			given := options(args[1:])
			argv := append([]string{"ssh"}, given...) // ssh takes the first value that it finds
			argv = append(argv, o.options(self, door)...)
			if has {
				argv = append(argv, "-l", user)
			}
			argv = append(argv, "--", door.Host[0])
			argv = append(argv, args[1+len(given):]...)
			return withHint(run.Become(argv, nil), "install OpenSSH's client") // it comes back where that fails alone
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVar(&o.ip, "ip", "", "your own `ADDR` (default: it is found out)")
	o.flags(cmd)
	gateFlags(g, cmd, &o.direct)
	personFlag(cmd, &o.person)
	return cmd
}

// withValue are ssh's options that take a value (ssh(1), OpenSSH 10).
const withValue = "BbcDEeFIiJLlmOoPpQRSWw"

// options are those of args at their front that are ssh's options, with their values: ssh
// takes none after the host that it would not take for the command's.
func options(args []string) []string {
	n := 0
	for n < len(args) && strings.HasPrefix(args[n], "-") && args[n] != "-" && args[n] != "--" {
		arg := args[n]
		n++
		for i := 1; i < len(arg); i++ {
			if strings.ContainsRune(withValue, rune(arg[i])) {
				if i == len(arg)-1 && n < len(args) {
					n++
				}
				break
			}
		}
	}
	return args[:n]
}

// sshOptions are what is said of an ssh that goes through connect.
type sshOptions struct {
	g          *globals
	person, ip string
	direct     bool
	asking
}

// door is the target of that name.
func (o *sshOptions) door(ctx context.Context, name string) (access.Door, error) {
	at, err := o.g.gateway(o.direct)
	if err != nil {
		return access.Door{}, err
	}
	if at == nil {
		if err := o.pastGate(); err != nil {
			return access.Door{}, err
		}
		c, err := o.g.cloud(o.person)
		if err != nil {
			return access.Door{}, err
		}
		return c.door(name)
	}
	if err := at.noPerson(o.person); err != nil {
		return access.Door{}, err
	}
	d, err := at.door(ctx, name)
	return asDoor(d), err
}

// options have ssh go through connect.
func (o *sshOptions) options(self string, door access.Door) []string {
	flags := o.g.gateArgs(o.direct)
	for _, flag := range []struct{ name, value string }{{"--person", o.person}, {"--ip", o.ip}, {"--reason", o.reason}} {
		if flag.value != "" {
			flags = append(flags, flag.name, flag.value)
		}
	}
	if o.breaks {
		flags = append(flags, "--break-glass")
	}
	return []string{"-o", "ProxyCommand=" + o.g.proxyCommand(self, door, flags...), "-o", "Port=" + strconv.Itoa(int(door.Port)), "-o", "ServerAliveInterval=30"}
}

// proxyCommand is connect to a door, as ssh's ProxyCommand.
func (g *globals) proxyCommand(self string, door access.Door, flags ...string) string {
	words := append(g.again(self), "connect", "--target", door.Name)
	words = append(words, flags...)
	for i, w := range words {
		words[i] = sshQuote(w)
	}
	return strings.Join(words, " ") + " %h %p"
}

// sshQuote makes a word of a ProxyCommand, which ssh hands to the user's shell after it
// has replaced what begins with %.
func sshQuote(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func sshConfigCommand(g *globals) *cobra.Command {
	var pass bool
	cmd := &cobra.Command{
		Use:   "ssh-config [TARGET...]",
		Short: "Print the lines for ~/.ssh/config by which ssh goes through sekisho",
		Long: "Print a Host block for each target. Put them into ~/.ssh/config, before other blocks that name the same hosts:\n" +
			"ssh takes the first value that it finds.",
		Example:           `  sekisho ssh-config >> ~/.ssh/config`,
		ValidArgsFunction: g.targetNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			doors, err := g.named(cmd.Context(), args)
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			u := newUI(g)
			blocks := []sshBlock{}
			for _, d := range doors {
				blocks = append(blocks, g.sshBlock(self, d, pass))
			}
			if g.json {
				return u.json(blocks)
			}
			for _, b := range blocks {
				u.line("") // also where it is appended to a file whose last line has no end
				u.line("Host " + strings.Join(b.Hosts, " "))
				for _, l := range b.Lines {
					fmt.Fprintln(g.stdout, "    "+sanitize(l))
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&pass, "fdpass", false, "hand the connection over to ssh, where a target is shut after the connection: no process of ours stays")
	gateFlags(g, cmd, nil)
	return cmd
}

// sshBlock is a target's part of ~/.ssh/config.
type sshBlock struct {
	Hosts []string `json:"hosts"`
	Lines []string `json:"lines"`
}

func (g *globals) sshBlock(self string, d access.Door, pass bool) sshBlock {
	b := sshBlock{Hosts: []string{d.Name}}
	for _, h := range d.Host {
		if h != d.Name {
			b.Hosts = append(b.Hosts, h)
		}
	}
	b.Lines = append(b.Lines, "HostName "+d.Host[0], fmt.Sprintf("Port %d", d.Port))
	flags := g.gateArgs(false)
	if pass && d.HandsOver() {
		flags = append(flags, "--fdpass")
		b.Lines = append(b.Lines, "ProxyUseFdpass yes")
	}
	b.Lines = append(b.Lines, "ProxyCommand "+g.proxyCommand(self, d, flags...), "ServerAliveInterval 30")
	return b
}
