package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	gateclient "sekisho/internal/gate/client"
	"sekisho/internal/intent"
	"sekisho/internal/ownaddr"
	"sekisho/internal/sshkey"
)

// What the commands have in common that ask the gate: whoever has one named in the
// configuration needs no credentials of AWS, and no targets in the file.

// exitWaits is that something was asked for that waits for somebody's approval.
const exitWaits = 4

// atGate is a command's access to the gate.
type atGate struct {
	*gateclient.Client
	g   *globals
	cfg *config.Config
	dir string // of this user's state
}

// gateway is the gate of the configuration; nil: it names none, or direct says to go past it.
func (g *globals) gateway(direct bool) (*atGate, error) {
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	if cfg.Gate.URL == "" || direct {
		return nil, nil
	}
	return g.toGate(cfg, false)
}

// theGate is gateway for what only a gate can do.
func (g *globals) theGate() (*atGate, error) {
	at, err := g.gateway(false)
	if err == nil && at == nil {
		err = &exitError{exitUsage, withHint(fmt.Errorf("%s names no gate", g.configPath), "name it: gate: {url: https://gate.example.com}, or give another file: --config FILE")}
	}
	return at, err
}

// toGate is access to the gate of cfg; quietly: nobody is asked for anything, as for a
// passphrase.
func (g *globals) toGate(cfg *config.Config, quietly bool) (*atGate, error) {
	dir, err := g.accessDir()
	if err != nil {
		return nil, err
	}
	last := filepath.Join(dir, "gate-key")
	if os.MkdirAll(dir, 0o700) != nil {
		last = "" // it is found out each time
	}
	home, _ := os.UserHomeDir()
	keys := gateclient.Keys(sshkey.Options{Identity: cmp.Or(g.identity, cfg.Gate.Identity), AgentSocket: os.Getenv("SSH_AUTH_SOCK"), Home: home, Prompt: g.stderr}, quietly)
	c, err := gateclient.New(gateclient.Options{
		URL: cfg.Gate.URL, CA: cfg.Gate.CA, Last: last, Keys: keys,
	})
	if err != nil {
		return nil, &exitError{exitUsage, withHint(err, "see `gate` in the configuration")}
	}
	return &atGate{Client: c, g: g, cfg: cfg, dir: dir}, nil
}

// gateFlags let a command that goes by the gate go past it, and say with which key it asks.
func gateFlags(g *globals, cmd *cobra.Command, direct *bool) {
	if direct != nil {
		cmd.Flags().BoolVar(direct, "direct", false, "past the gate, with your own credentials of AWS")
	}
	cmd.Flags().StringVar(&g.identity, "identity", "", "the SSH key `FILE` that signs what is asked of the gate (default: gate.identity, or any that it knows)")
}

// asking is what a request for a door may have to bring.
type asking struct {
	reason string
	breaks bool
}

func (a *asking) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.reason, "reason", "", "why, a `TEXT`: for whoever asks later, and for a target that opens for a reason only")
	cmd.Flags().BoolVar(&a.breaks, "break-glass", false, "it is an emergency: at once, without approval and outside hours; everybody is told (gate only)")
}

// pastGate refuses what only a gate does anything with.
func (a asking) pastGate() error {
	switch {
	case a.breaks:
		return &exitError{exitUsage, withHint(errors.New("--break-glass is for a target that a gate opens"), "leave it out: nobody else's approval is asked for")}
	case a.reason != "":
		return &exitError{exitUsage, withHint(errors.New("--reason is for this host, and for a gate: a lease on a target keeps none"), "leave it out: who opened the target is in the tags of its rule")}
	}
	return nil
}

// noPerson refuses --person, for the gate knows who asks.
func (at *atGate) noPerson(person string) error {
	if person == "" {
		return nil
	}
	return &exitError{exitUsage, withHint(errors.New("--person is for your own credentials of AWS: the gate knows you by your SSH key"), "leave it out; --identity FILE says which key")}
}

// explain adds to an error what to do now, and its exit code.
func (at *atGate) explain(err error) error {
	if err == nil {
		return nil
	}
	hint := cmp.Or(gateclient.Hint(err), access.Hint(err))
	code := exitFailure
	if _, silent := errors.AsType[*gateclient.SilentError](err); silent {
		code = exitNoReply
		if len((&access.Access{Config: at.cfg}).Doors()) > 0 {
			hint += "; --direct goes past it, with your own credentials of AWS"
		}
	}
	if hint != "" {
		err = withHint(err, hint)
	}
	if code != exitFailure {
		err = &exitError{code, err}
	}
	return err
}

// door is a target as the gate shows it; one that there is not is a usage error.
func (at *atGate) door(ctx context.Context, name string) (api.Door, error) {
	d, err := at.Door(ctx, name)
	if gateclient.IsCode(err, api.NotFound) {
		return d, &exitError{exitUsage, withHint(err, cmp.Or(gateclient.Hint(err), "`sekisho doors` shows what there is"))}
	}
	return d, at.explain(err)
}

// asDoor is that target as passages take it.
func asDoor(d api.Door) access.Door {
	return access.Door{Name: d.Target, Target: config.Target{
		Host: d.Hosts, Port: d.Port, Exposure: config.ExposureOnRequest, Close: config.CloseMode(d.Close), IPv6: d.IPv6,
	}}
}

func (at *atGate) finder() *ownaddr.Finder {
	return &ownaddr.Finder{First: at.Witness(), Services: at.cfg.AWS.AddressServices, Cache: filepath.Join(at.dir, "address"), Logger: at.g.debugLog()}
}

// passage is our way through a door to host, by ip where that is given.
func (at *atGate) passage(d api.Door, person, host, ip string, a asking) (*access.Passage, error) {
	addr, err := parseAddr(ip)
	if err != nil {
		return nil, err
	}
	p, err := at.through(asDoor(d), person)
	if err != nil {
		return nil, err
	}
	p.Host, p.IP, p.Reason = host, addr, a.reason
	p.Opener = &byGate{at: at, door: d, person: person, machine: p.Machine, asking: a, say: newUI(at.g).say}
	return p, nil
}

// see is a door, and who we are.
func (at *atGate) see(ctx context.Context, name string) (d api.Door, person string, err error) {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		d, err = at.door(ctx, name)
		return err
	})
	both.Go(func() error {
		me, err := at.Me(ctx)
		person = me.Person
		return at.explain(err)
	})
	return d, person, both.Wait()
}

// through is a passage by which nothing is opened yet.
func (at *atGate) through(door access.Door, person string) (*access.Passage, error) {
	book, err := intent.In(at.dir)
	if err != nil {
		return nil, withHint(err, "give another folder: --state-dir DIR")
	}
	m := machine(at.dir)
	return &access.Passage{
		Opener: &byGate{at: at, door: api.Door{Target: door.Name}, person: person, machine: m},
		Door:   door, Person: person, Machine: m, Book: book, Own: at.finder(), Log: at.g.warnLog(),
	}, nil
}

// warnLog tells on stderr what goes wrong while something else is done.
func (g *globals) warnLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(g.stderr, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: withoutTime}))
}

// own are the addresses by which we reach a target.
func (at *atGate) own(ctx context.Context, d api.Door, given string) ([]ownaddr.Answer, error) {
	return ownAddresses(ctx, at.finder(), asDoor(d), given)
}

// mine are those of grants that are a person's, at a target.
func mine(grants []api.Grant, person, target string) []api.Grant {
	return slices.DeleteFunc(slices.Clone(grants), func(g api.Grant) bool {
		return person != "" && g.Person != person || g.Target != target
	})
}

// either writes a list of those of whom one has to.
func either(names []string) string {
	switch n := len(names); n {
	case 0:
		return "nobody"
	case 1:
		return names[0]
	default:
		return strings.Join(names[:n-1], ", ") + " or " + names[n-1]
	}
}

// everything is all targets as we see them, and who we are.
func (at *atGate) everything(ctx context.Context) (doors []api.Door, me string, err error) {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		doors, err = at.Doors(ctx)
		return at.explain(err)
	})
	both.Go(func() error {
		is, err := at.Me(ctx)
		me = is.Person
		return at.explain(err)
	})
	return doors, me, both.Wait()
}
