package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/daemon"
	"sekisho/internal/gate/api"
	gateclient "sekisho/internal/gate/client"
	"sekisho/internal/ownaddr"
	"sekisho/internal/printable"
	"sekisho/internal/securitygroup"
	"sekisho/internal/sshkey"
)

// open, close and leases: of this host, whose daemon they ask, and of targets, which the
// gate opens (gateopen.go), or whose security groups they change where there is none.

func openCommand(g *globals) *cobra.Command {
	o := &opening{g: g}
	cmd := &cobra.Command{
		Use:   "open [TARGET]",
		Short: "Let an address in to SSH for a while",
		Long: "With a TARGET: let your own address in to it for a while, through the gate that the configuration names, or, where it names none,\n" +
			"in its security group. It shuts by itself. Asked again, it stays open longer. Where somebody has to say yes first, it is asked\n" +
			"for, and the exit code is 4; with --wait it is waited for, and Ctrl-C withdraws it.\n\n" +
			"Without one: let a host, or an IPv6 /64, in to SSH on this host: in front of countries and rates, behind bans. It counts\n" +
			"where the exposure is on_request or public. It ends by itself, in the kernel. Without --ip it is the address that\n" +
			"you are logged in from.",
		Example: `  sekisho open web-prod --for 2h
  sekisho open --ip 203.0.113.7 --for 2h --reason "night shift"
  sekisho open --ip 2001:db8:1:2::/64`,
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: g.targetNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.cmd = cmd
			if len(args) == 1 {
				at, err := g.gateway(o.direct)
				if err != nil {
					return err
				}
				if at != nil {
					return o.byGate(cmd.Context(), at, args[0])
				}
				if err := o.pastGate(); err != nil {
					return err
				}
				return o.target(cmd.Context(), args[0])
			}
			if o.direct || o.breaks || o.wait {
				return &exitError{exitUsage, withHint(errors.New("--direct, --break-glass and --wait are for a target"), "name the target, or leave them out")}
			}
			if o.person != "" {
				return &exitError{exitUsage, withHint(errors.New("--person is for a target: this host lets addresses in"), "name the target, or leave it out")}
			}
			return o.host(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.ip, "ip", "", "whom, an `ADDR` (default: your own)")
	cmd.Flags().StringVar(&o.addr, "addr", "", "the same as --ip, an `ADDR`")
	cmd.Flags().StringVar(&o.duration, "for", "1h", "how long, a `DURATION` such as 30m or 7d")
	cmd.Flags().BoolVar(&o.wait, "wait", false, "wait for whoever has to say yes first; Ctrl-C withdraws it (gate only)")
	o.flags(cmd)
	gateFlags(g, cmd, &o.direct)
	personFlag(cmd, &o.person)
	cmd.MarkFlagsMutuallyExclusive("ip", "addr")
	return cmd
}

type opening struct {
	g                          *globals
	cmd                        *cobra.Command
	ip, addr, duration, person string
	wait, direct               bool
	asking
}

func (o *opening) length() (time.Duration, error) {
	d, err := config.ParseDuration(o.duration)
	if err != nil || d <= 0 {
		return 0, &exitError{exitUsage, withHint(fmt.Errorf("%q is not a duration", o.duration), "for example 30m, 12h or 7d; an address that is to stay belongs under admins, or under a person's fixed")}
	}
	return d, nil
}

// host lets somebody in to this host.
func (o *opening) host(ctx context.Context) error {
	p, err := prefixOrOwn(ctx, cmp.Or(o.ip, o.addr))
	if err != nil {
		return err
	}
	q := daemon.GrantRequest{Prefix: p, Reason: o.reason}
	if q.For, err = o.length(); err != nil {
		return err
	}
	var grant daemon.Grant
	if err := newClient(o.g).post(ctx, "grants", q, &grant); err != nil {
		return err
	}
	u := newUI(o.g)
	if o.g.json {
		return u.json(grant)
	}
	u.line(fmt.Sprintf("%s is let in until %s", printable.Prefix(grant.Prefix), clockTime(grant.Until)))
	return nil
}

// openView is what open tells of a target.
type openView struct {
	Target  string       `json:"target"`
	Prefix  netip.Prefix `json:"prefix"`
	By      []string     `json:"by"` // who said that it is our address
	Rule    string       `json:"rule"`
	Until   time.Time    `json:"until,omitzero"` // absent: the rule is not ours
	Shared  []string     `json:"shared"`         // who else needs the rule
	Foreign bool         `json:"foreign"`        // it is open by a rule that is not ours: nothing was opened
}

// target lets us in to a target, by each family in which it can be reached.
func (o *opening) target(ctx context.Context, name string) error {
	c, err := o.g.cloud(o.person)
	if err != nil {
		return err
	}
	door, err := c.door(name)
	if err != nil {
		return err
	}
	person, err := whose(c.Config, o.person)
	if err != nil {
		return err
	}
	length, err := o.length()
	if err != nil {
		return err
	}
	now := time.Now()
	request := access.Request{Person: person, At: now, Reason: o.reason}
	if o.cmd.Flags().Changed("for") {
		request.For = length
	}
	decision, err := c.Decide(door, request)
	if err == nil {
		err = decision.Err()
	}
	if err != nil {
		return advised(err)
	}
	dir, err := o.g.accessDir()
	if err != nil {
		return err
	}
	found, err := ownAddresses(ctx, c.finder(dir), door, cmp.Or(o.ip, o.addr))
	if err != nil {
		return err
	}
	u := newUI(o.g)
	views := []openView{}
	for _, own := range found {
		opened, err := c.Open(ctx, door, door.Prefix(own.Addr), person, person, decision.Until.Sub(now), nil)
		if err != nil {
			if err = c.explain(err); ctx.Err() != nil {
				err = withHint(err, "it may be open all the same: `sekisho close "+door.Name+"` shuts it")
			}
			if o.g.json && len(views) > 0 { // by another family it is open
				return errors.Join(err, u.json(views))
			}
			return err
		}
		v := openView{Target: door.Name, Prefix: door.Prefix(own.Addr), By: orEmpty(own.By), Rule: opened.Rule.ID, Until: opened.Lease.Until, Shared: []string{}, Foreign: opened.Foreign}
		for _, l := range opened.Others {
			v.Shared = append(v.Shared, l.Person)
		}
		v.Shared = append(v.Shared, opened.Fixed...)
		slices.Sort(v.Shared)
		v.Shared = slices.Compact(v.Shared)
		views = append(views, v)
		if !o.g.json {
			o.tell(u, v, person)
		}
	}
	if o.g.json {
		return u.json(views)
	}
	return nil
}

func (o *opening) tell(u *ui, v openView, person string) {
	by := ""
	if len(v.By) > 0 {
		by = " (by " + strings.Join(v.By, ", ") + ")"
	}
	if v.Foreign {
		u.line(fmt.Sprintf("%s lets in %s%s already, by rule %s, which is not ours: nothing was opened, and nothing shuts by itself", v.Target, printable.Prefix(v.Prefix), by, v.Rule))
		return
	}
	u.line(fmt.Sprintf("%s is open for %s%s until %s", v.Target, printable.Prefix(v.Prefix), by, clockTime(v.Until)))
	if len(v.By) == 1 && v.By[0] != ownaddr.OwnInterface {
		u.line("only " + v.By[0] + " says that this address is yours; --ip says it by hand")
	}
	if others := slices.DeleteFunc(slices.Clone(v.Shared), func(p string) bool { return p == person }); len(others) > 0 {
		u.line("the same address is also that of " + strings.Join(others, ", ") + ": whoever shares it gets in, too")
	}
}

// ownAddresses are the addresses by which we reach a target, one of each family that it
// has: the one that is given, or those that can be found out.
func ownAddresses(ctx context.Context, finder *ownaddr.Finder, door access.Door, given string) ([]ownaddr.Answer, error) {
	if given != "" {
		p, err := parsePrefix(given)
		if err != nil {
			return nil, err
		}
		if !p.IsSingleIP() && p != door.Prefix(p.Addr()) {
			return nil, &exitError{exitUsage, withHint(fmt.Errorf("%s is wider than what a target is opened for", printable.Prefix(p)), "give one address")}
		}
		return []ownaddr.Answer{{Addr: p.Addr()}}, nil
	}
	addrs, err := ownaddr.Resolve(ctx, door.Host[0])
	if err != nil {
		return nil, withHint(err, "see `host` of target "+door.Name+" in the configuration, or give your address: --ip ADDR")
	}
	var found []ownaddr.Answer
	var errs []error
	seen := map[ownaddr.Family]bool{}
	for _, a := range addrs {
		family := ownaddr.FamilyOf(a)
		if seen[family] {
			continue
		}
		seen[family] = true
		answer, err := finder.Find(ctx, family, a)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, answer)
	}
	if len(found) == 0 {
		return nil, withHint(errors.Join(errs...), "give the address that you are seen by: --ip ADDR")
	}
	return found, nil
}

func closeCommand(g *globals) *cobra.Command {
	var addr, ip, person string
	var all, everybody, direct bool
	cmd := &cobra.Command{
		Use:   "close [TARGET]",
		Short: "End what open began",
		Long: "With a TARGET: end your leases on it, and withdraw what you have asked for, from all of your machines; with --everybody,\n" +
			"everybody's. Rules that others still need stay, and so do connections.\n\n" +
			"Without one: end every grant of this host that touches an address or a prefix. Connections that are there stay.",
		Example: `  sekisho close web-prod
  sekisho close --ip 203.0.113.7
  sekisho close --all`,
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: g.targetNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && (all || cmp.Or(ip, addr) != ""):
				return &exitError{exitUsage, withHint(errors.New("--ip, --addr and --all are about grants of this host"), "leave them out: all your leases on it are ended, whatever their address; --everybody ends others' too")}
			case len(args) == 0 && (everybody || person != "" || direct):
				return &exitError{exitUsage, withHint(errors.New("--person, --everybody and --direct are about leases on a target"), "say which: sekisho close TARGET")}
			case len(args) == 1:
				at, err := g.gateway(direct)
				if err != nil {
					return err
				}
				if at != nil {
					return at.close(cmd.Context(), args[0], person, everybody)
				}
				return closeTarget(cmd.Context(), g, args[0], person, everybody)
			}
			return closeHost(cmd.Context(), g, cmp.Or(ip, addr), all)
		},
	}
	cmd.Flags().StringVar(&ip, "ip", "", "whose, an `ADDR` (this host only; default: the address that you are logged in from)")
	cmd.Flags().StringVar(&addr, "addr", "", "the same as --ip, an `ADDR`")
	cmd.Flags().BoolVar(&all, "all", false, "every grant (this host only)")
	cmd.Flags().BoolVar(&everybody, "everybody", false, "everybody's leases on the target")
	gateFlags(g, cmd, &direct)
	personFlag(cmd, &person)
	cmd.MarkFlagsMutuallyExclusive("ip", "addr")
	cmd.MarkFlagsMutuallyExclusive("everybody", "person")
	return cmd
}

// closedView is a lease that was ended.
type closedView struct {
	Target string               `json:"target"`
	Source securitygroup.Source `json:"source"`
	Person string               `json:"person"`
}

func closeTarget(ctx context.Context, g *globals, name, person string, everybody bool) error {
	c, err := g.cloud(person)
	if err != nil {
		return err
	}
	door, err := c.door(name)
	if err != nil {
		return err
	}
	who := ""
	var nobody error
	if !everybody {
		// Who was taken out of the configuration may have a lease on a rule still.
		if who, nobody = whose(c.Config, person); nobody != nil {
			if who = person; person == "" {
				return nobody
			}
		}
	}
	ended, err := c.Close(ctx, []access.Door{door}, who)
	views := []closedView{}
	for _, e := range ended {
		views = append(views, closedView{e.Target, e.Source, strings.Join(e.People, ", ")})
	}
	u := newUI(g)
	if err == nil && len(views) == 0 && nobody != nil {
		return nobody
	}
	if g.json {
		if jsonErr := u.json(views); jsonErr != nil {
			return jsonErr
		}
		return c.explain(err)
	}
	for _, v := range views {
		u.line(fmt.Sprintf("%s is shut for %s (%s)", v.Target, v.Source, v.Person))
	}
	if len(views) == 0 && err == nil {
		u.line(fmt.Sprintf("there was no lease of %s on %s", cmp.Or(who, "anybody"), door.Name))
	}
	return c.explain(err)
}

func closeHost(ctx context.Context, g *globals, addr string, all bool) error {
	q := daemon.RevokeRequest{All: all}
	if all && addr != "" {
		return &exitError{exitUsage, withHint(errors.New("give --ip or --all"), "see `sekisho leases`")}
	}
	if !all {
		var err error
		if q.Prefix, err = prefixOrOwn(ctx, addr); err != nil {
			return err
		}
	}
	var reply daemon.RevokeReply
	if err := newClient(g).delete(ctx, "grants", q, &reply); err != nil {
		return err
	}
	u := newUI(g)
	if g.json {
		return u.json(reply)
	}
	for _, grant := range reply.Revoked {
		u.line(printable.Prefix(grant.Prefix) + " is no longer let in by a grant")
	}
	switch {
	case len(reply.Revoked) > 0:
	case all:
		u.line("there was no grant")
	default:
		u.line(printable.Prefix(q.Prefix) + " had no grant")
	}
	return nil
}

func leasesCommand(g *globals) *cobra.Command {
	var direct bool
	cmd := &cobra.Command{
		Use:   "leases",
		Short: "List who is let in for a while",
		Long: "List the grants of this host, where its daemon runs, and those that you have through the gate (an administrator: everybody's), or,\n" +
			"where the configuration names no gate, the leases on the security groups of all targets.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			cfg, err := g.load()
			if err != nil && !errors.Is(err, os.ErrPermission) {
				return err
			}
			targets := err == nil && len((&access.Access{Config: cfg}).Doors()) > 0
			gate := err == nil && cfg.Gate.URL != "" && !direct
			var grants []daemon.Grant
			err = newClient(g).get(ctx, "grants", nil, &grants)
			if err != nil && (!targets && !gate || !errors.Is(err, errSilent)) {
				return err
			}
			answered := err == nil
			leases := []leaseView{}
			for _, grant := range grants {
				leases = append(leases, leaseView{Grant: grant})
			}
			u := newUI(g)
			var failed error
			switch {
			case gate:
				at, err := g.toGate(cfg, false)
				if err != nil {
					return err
				}
				granted, err := at.everybodys(ctx)
				if answered && (errors.Is(err, sshkey.ErrNone) || gateclient.IsCode(err, api.Unknown)) {
					// One of the gate's hosts, whose administrator need not be known there.
					u.say("what the gate has elsewhere is not shown: " + err.Error())
				} else if failed = at.explain(err); failed != nil {
					u.fail(failed)
					failed = &exitError{codeOf(failed), errTold}
				}
				for _, l := range granted {
					leases = append(leases, leaseView{Target: l.Target, Rule: l.Rule, ID: l.ID, State: l.State,
						Grant: daemon.Grant{Prefix: l.Prefix, Until: at.Here(l.Until), Holder: l.Person, Reason: l.Reason}})
				}
			case targets:
				c, err := g.cloud("")
				if err != nil {
					return err
				}
				who, failures := c.Who(ctx, c.Doors())
				for _, w := range who {
					for _, l := range w.Leases {
						leases = append(leases, leaseView{Target: w.Target, Rule: w.Rule, Grant: daemon.Grant{Prefix: w.Source.Prefix, Until: l.Until, Holder: l.Person}})
					}
				}
				failed = c.failures(u, failures)
			}
			if g.json {
				return errors.Join(u.json(leases), failed)
			}
			if len(leases) > 0 || failed == nil { // else it is not known
				u.leases(leases)
			}
			return failed
		},
	}
	gateFlags(g, cmd, &direct)
	return cmd
}

// leaseView is a lease as leases shows it: a grant of this host's, or one on a target.
type leaseView struct {
	Target string `json:"target,omitempty"` // "": this host
	Rule   string `json:"rule,omitempty"`
	// Of a gate's.
	ID    string    `json:"id,omitempty"`
	State api.State `json:"state,omitempty"`
	daemon.Grant
}

func (u *ui) leases(leases []leaseView) {
	if len(leases) == 0 {
		u.line("there is no grant")
		return
	}
	now := time.Now()
	rows := [][]string{{"PREFIX", "LEFT", "HOLDER", "REASON"}}
	targets := slices.ContainsFunc(leases, func(l leaseView) bool { return l.Target != "" })
	if targets {
		rows[0] = append([]string{"TARGET"}, rows[0]...)
	}
	for _, l := range leases {
		left := shortDuration(l.Until.Sub(now))
		switch l.State {
		case "", api.Open:
		case api.Waiting:
			left = "waits for a yes"
		default:
			left = string(l.State)
		}
		row := []string{printable.Prefix(l.Prefix), left, l.Holder, l.Reason}
		if targets {
			row = append([]string{cmp.Or(l.Target, "this host")}, row...)
		}
		rows = append(rows, row)
	}
	u.table(rows)
}

// prefixOrOwn reads the value of --addr; without one it is the address that the
// command's session comes from.
func prefixOrOwn(ctx context.Context, addr string) (netip.Prefix, error) {
	if addr != "" {
		return parsePrefix(addr)
	}
	s := ownSession(ctx)
	if !s.peer.IsValid() {
		err := errors.New("this is no SSH session: whose address is meant cannot be told")
		if s.old.IsValid() {
			err = fmt.Errorf("the connection from %s that this shell was begun by is over: whose address is meant cannot be told", s.old)
		}
		return netip.Prefix{}, &exitError{exitUsage, withHint(err, "give it: --ip ADDR")}
	}
	a := s.peer.Addr()
	return netip.PrefixFrom(a, a.BitLen()), nil
}
