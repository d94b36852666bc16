package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/intent"
	"sekisho/internal/ownaddr"
	"sekisho/internal/securitygroup"
)

// What the commands have in common that speak of targets: whose request it is, where the
// state of who is not root is kept, and how EC2's errors are told.

// inCloud is a command's access to the targets of the configuration.
type inCloud struct {
	*access.Access
	g      *globals
	person string      // as --person says; "": not looked for yet
	role   access.Role // whose policy what is missing belongs to
}

// cloud reads the configuration and makes ready to speak to its clouds, for person, whom
// CloudTrail is to name: "" is whoever we are.
func (g *globals) cloud(person string) (*inCloud, error) {
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	if len(cfg.Targets) == 0 && len(cfg.AWS.Accounts) == 0 {
		return nil, &exitError{exitUsage, withHint(fmt.Errorf("%s names no targets", g.configPath), "docs/aws.md shows how to name them, or give another file: --config FILE")}
	}
	c := &inCloud{g: g, person: person, role: access.RolePerson}
	session, err := whose(cfg, person)
	if err != nil { // who only looks needs no name, and who closes for somebody else has their own
		session, _ = whose(cfg, "")
	}
	c.Access = &access.Access{Config: cfg, Cloud: securitygroup.Open(securitygroup.Options{
		Accounts: cfg.AWS.Accounts, Endpoint: cfg.AWS.Endpoint, Person: session, Cache: g.credentialsDir(), Logger: g.debugLog(),
	})}
	return c, nil
}

// credentialsDir is where the credentials of roles are kept until they end: where this
// user's state is. "": nowhere, where that cannot be made.
func (g *globals) credentialsDir() string {
	dir, err := g.accessDir()
	if err != nil || os.MkdirAll(dir, 0o700) != nil {
		return ""
	}
	return dir
}

// debugLog tells each call to AWS where SEKISHO_DEBUG is set.
func (g *globals) debugLog() *slog.Logger {
	var out io.Writer = io.Discard
	if os.Getenv("SEKISHO_DEBUG") != "" {
		out = g.stderr
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// whose is the person that a request is for: who is named, by the flag or the environment;
// else the one of the name that we are logged in by here.
func whose(cfg *config.Config, named string) (string, error) {
	people := slices.Sorted(maps.Keys(cfg.People))
	name := cmp.Or(named, os.Getenv("SEKISHO_PERSON"))
	if name == "" {
		if name = cmp.Or(os.Getenv("SUDO_USER"), whoAmI()); !slices.Contains(people, name) {
			hint := "say who you are: --person NAME, or SEKISHO_PERSON in the environment"
			if len(people) > 0 {
				hint += "; there is: " + strings.Join(people[:min(10, len(people))], ", ")
			}
			return "", &exitError{exitUsage, withHint(fmt.Errorf("nobody is called %q in the configuration", name), hint)}
		}
	}
	if !slices.Contains(people, name) {
		hint := "the people are under `people` in the configuration"
		if near := config.Nearest(name, people); near != "" {
			hint = "did you mean " + near + "?"
		}
		return "", &exitError{exitUsage, withHint(fmt.Errorf("nobody is called %q in the configuration", name), hint)}
	}
	return name, nil
}

// door is the target of that name; one that there is not, or that only the gate opens, is a
// usage error.
func (c *inCloud) door(name string) (access.Door, error) {
	d, err := c.Door(name)
	if err == nil {
		err = c.Reachable(d)
	}
	if err != nil {
		return d, &exitError{exitUsage, advised(err)}
	}
	return d, nil
}

// doors are the targets of those names; all of them where there are none.
func (c *inCloud) doors(names []string) ([]access.Door, error) {
	if len(names) == 0 {
		return c.Doors(), nil
	}
	var doors []access.Door
	for _, n := range names {
		d, err := c.door(n)
		if err != nil {
			return nil, err
		}
		doors = append(doors, d)
	}
	return doors, nil
}

// explain adds to an error of access or EC2 what to do now; for a permission that is
// missing, the statement that gives it.
func (c *inCloud) explain(err error) error {
	if e, ok := errors.AsType[*securitygroup.Error](err); ok && securitygroup.IsDenied(err) {
		switch lines := c.Gives(e.Place.Account, c.role, e.Action); {
		case lines == "":
		case e.Action == "AssumeRole": // the other side may be what is wrong
			return withHint(err, securitygroup.Hint(err)+"; of `sekisho aws policy --callers` it is:\n"+lines)
		default:
			return withHint(err, "have somebody allow it; of `sekisho aws policy --for "+string(c.role)+"` it is:\n"+lines)
		}
	}
	return advised(err)
}

// advised adds what an error itself says to do now.
func advised(err error) error {
	if err == nil {
		return nil
	}
	if hint := access.Hint(err); hint != "" {
		return withHint(err, hint)
	}
	return err
}

// failures tells which places could not be looked at, and ends with 1 where there are any.
func (c *inCloud) failures(u *ui, failed []access.Failure) error {
	if len(failed) == 0 {
		return nil
	}
	for _, f := range failed {
		u.fail(c.explain(f.Err()))
	}
	return &exitError{exitFailure, errTold}
}

// accessDir is where is kept what this user's processes opened.
func (g *globals) accessDir() (string, error) {
	if g.stateSet || os.Geteuid() == 0 {
		return filepath.Join(absolute(g.stateDir), "access"), nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sekisho"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", withHint(fmt.Errorf("where to keep what is opened is not known: %w", err), "give --state-dir DIR")
	}
	return filepath.Join(home, ".local", "state", "sekisho"), nil
}

// finder finds our own address.
func (c *inCloud) finder(dir string) *ownaddr.Finder {
	return &ownaddr.Finder{Services: c.Config.AWS.AddressServices, Cache: filepath.Join(dir, "address"), Logger: c.g.debugLog()}
}

// passage is a person's way through a door to host, by ip where that is given.
func (c *inCloud) passage(door access.Door, host, ip string) (*access.Passage, error) {
	person, err := whose(c.Config, c.person)
	if err != nil {
		return nil, err
	}
	addr, err := parseAddr(ip)
	if err != nil {
		return nil, err
	}
	dir, err := c.g.accessDir()
	if err != nil {
		return nil, err
	}
	book, err := intent.In(dir)
	if err != nil {
		return nil, withHint(err, "give another folder: --state-dir DIR")
	}
	return &access.Passage{
		Opener: access.Direct{Access: c.Access}, Door: door, Person: person, Host: host, Machine: machine(dir), Book: book, Own: c.finder(dir), IP: addr,
		Log: slog.New(slog.NewTextHandler(c.g.stderr, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: withoutTime})),
	}, nil
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}

// parseAddr reads an address that was given by hand; "" is none.
func parseAddr(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	p, err := parsePrefix(s)
	if err != nil {
		return netip.Addr{}, err
	}
	if !p.IsSingleIP() {
		return netip.Addr{}, &exitError{exitUsage, withHint(fmt.Errorf("%q is not one address", s), "give one address, for example 203.0.113.7; never wider is opened")}
	}
	return p.Addr(), nil
}

// machine tells this user's machine from a person's others: it is a part of leases' ids.
func machine(dir string) string {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		id, _ = os.ReadFile("/proc/sys/kernel/random/boot_id") // until the next boot
	}
	host, _ := os.Hostname()
	sum := sha256.Sum256([]byte(string(id) + host + strconv.Itoa(os.Getuid()) + dir))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))
}

// step shows on a line that is rewritten how far something is.
func (u *ui) step(live *liveLine, done, total int, text string) {
	const width = 30
	filled := width
	if total > 0 {
		filled = width * done / total
	}
	live.show(fmt.Sprintf("[%s%s] %s", strings.Repeat("=", filled), strings.Repeat(" ", width-filled), text))
}

// doneWithin runs f, and takes what it shows off the screen.
func (u *ui) doneWithin(f func(live *liveLine)) {
	live := u.liveLine()
	defer live.show("")
	f(live)
}

// personFlag lets a command say whose request it is.
func personFlag(cmd *cobra.Command, person *string) {
	cmd.Flags().StringVar(person, "person", "", "whose request it is, a `NAME` of the configuration (default: SEKISHO_PERSON, or your login name)")
}

// completeWithin is how long the gate may take for it.
const completeWithin = 2 * time.Second

// targetNames completes the names of targets: the gate's, where the configuration names one.
// Nothing is told of what goes wrong, and nobody is asked for anything.
func (g *globals) targetNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, err := g.load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if direct, _ := cmd.Flags().GetBool("direct"); cfg.Gate.URL != "" && !direct {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
		defer cancel()
		var names []string
		if at, err := g.toGate(cfg, true); err == nil {
			doors, _ := at.Doors(ctx)
			for _, d := range doors {
				names = append(names, d.Target)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(cfg.Targets)), cobra.ShellCompDirectiveNoFileComp
}
