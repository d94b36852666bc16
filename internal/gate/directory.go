package gate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/access"
	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/securitygroup"
)

// directory is who and what there is: what is declared in the configuration, and what
// administrators have added. It is not changed once it is made.
type directory struct {
	declared *config.Config
	cfg      *config.Config // with what was added
	access   *access.Access // decides by cfg
	groups   Groups         // of the declared configuration's accounts
	edits    *edits
	keys     map[string]string   // fingerprint to person; "": several people's, and so nobody's
	logins   map[string]string   // what a provider calls people, as login has it; the same
	hosts    map[string][]string // enrolled host to its targets
	findings []string
	until    time.Time // when something of it ends by itself; zero: never
}

// lasts reports whether all of it holds still.
func (d *directory) lasts(now time.Time) bool { return d.until.IsZero() || now.Before(d.until) }

// edits are what the ledger has of people and targets.
type edits struct {
	people   []ledger.Person
	targets  []ledger.Target
	disabled map[string]ledger.Disabled
}

// Groups opens and shuts doors in security groups: *access.Access is what does.
type Groups interface {
	Open(ctx context.Context, door access.Door, prefix netip.Prefix, id, person string, length time.Duration, ready func()) (access.Opened, error)
	Shorten(ctx context.Context, door access.Door, prefix netip.Prefix, id string, length time.Duration) error
	Release(ctx context.Context, door access.Door, o access.Opened) error
	Reap(ctx context.Context, places []securitygroup.Place) access.Reaped
	Who(ctx context.Context, doors []access.Door) ([]access.Admitted, []access.Failure)
}

// claimed is how the ledger keeps the groups that an identity provider says somebody is
// in: as an edit of a person by a name that no person can have.
const claimed = "claims of "

// claimsTime is how long they count after it was said last: somebody who left one of them
// and never comes by the provider again is not in it for good.
const claimsTime = 7 * 24 * time.Hour

// claims are such groups.
type claims struct {
	Login  string    `json:"login"` // who they were said of: it counts while that is who the person is
	Groups []string  `json:"groups"`
	Until  time.Time `json:"until"`
}

// directory is the present one. It fails where the ledger was never read.
func (g *Gate) directory(ctx context.Context) (*directory, error) {
	d, declared := g.dir.Load(), g.o.Config()
	now := g.now()
	if d != nil && d.declared == declared && d.lasts(now) {
		return d, nil
	}
	g.dirMu.Lock()
	defer g.dirMu.Unlock()
	if d = g.dir.Load(); d != nil && d.declared == declared && d.lasts(now) {
		return d, nil
	}
	e := &edits{}
	switch {
	case d != nil:
		e = d.edits
	case g.ledger != nil:
		var err error
		if e, err = g.readEdits(ctx); err != nil {
			return nil, g.unwritable("read people and targets", err)
		}
	}
	return g.install(declared, e), nil
}

// reread looks for what other gates, or this one, have edited since.
func (g *Gate) reread(ctx context.Context) error {
	if g.ledger == nil {
		return nil
	}
	g.dirMu.Lock()
	defer g.dirMu.Unlock()
	e, err := g.readEdits(ctx)
	if err != nil {
		return err
	}
	d, declared := g.dir.Load(), g.o.Config()
	if d == nil || d.declared != declared || !d.lasts(g.now()) || !reflect.DeepEqual(d.edits, e) {
		g.install(declared, e)
	}
	return nil
}

func (g *Gate) readEdits(ctx context.Context) (*edits, error) {
	e := &edits{disabled: map[string]ledger.Disabled{}}
	err := g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		if e.people, err = tx.People(); err != nil {
			return err
		}
		if e.targets, err = tx.Targets(); err != nil {
			return err
		}
		off, err := tx.Disabled()
		e.disabled = map[string]ledger.Disabled{}
		for _, d := range off {
			e.disabled[d.Person] = d
		}
		return err
	})
	return e, err
}

// install makes a directory and puts it in the place of the one before. dirMu is held.
func (g *Gate) install(declared *config.Config, e *edits) *directory {
	before := g.dir.Load()
	d := newDirectory(declared, e, before, g.now())
	if before != nil && before.groups != nil && sameClouds(before.declared, declared) {
		d.groups = g.rebound(before.groups, declared)
	} else {
		d.groups = g.groupsOf(declared)
	}
	if before == nil || !slices.Equal(before.findings, d.findings) {
		for _, f := range d.findings {
			g.log.Warn("something that was edited is not in force", "what", f)
		}
	}
	g.dir.Store(d)
	if before != nil {
		g.recheckSoon()
		g.streams.wakeAll()
	}
	return d
}

func sameClouds(a, b *config.Config) bool {
	return a.AWS.Endpoint == b.AWS.Endpoint && reflect.DeepEqual(a.AWS.Accounts, b.AWS.Accounts)
}

// groupsOf speaks to the accounts of cfg.
func (g *Gate) groupsOf(cfg *config.Config) Groups {
	if g.o.Groups != nil {
		return g.o.Groups(cfg)
	}
	cloud := g.o.Cloud
	if cloud == nil {
		cloud = securitygroup.Open(securitygroup.Options{Accounts: cfg.AWS.Accounts, Endpoint: cfg.AWS.Endpoint, Logger: g.log, InFlight: inFlight})
	}
	return &access.Access{Config: cfg, Cloud: cloud, Settle: g.o.Settle}
}

// rebound keeps the cloud of groups, with its credentials, for another configuration.
func (g *Gate) rebound(groups Groups, cfg *config.Config) Groups {
	if a, ok := groups.(*access.Access); ok {
		return &access.Access{Config: cfg, Cloud: a.Cloud, Settle: a.Settle}
	}
	return groups
}

// newDirectory puts what was added to what is declared, which wins.
func newDirectory(declared *config.Config, e *edits, before *directory, now time.Time) *directory {
	cfg := *declared
	cfg.People, cfg.Targets = maps.Clone(declared.People), maps.Clone(declared.Targets)
	if cfg.People == nil {
		cfg.People = map[string]config.Person{}
	}
	if cfg.Targets == nil {
		cfg.Targets = map[string]config.Target{}
	}
	d := &directory{declared: declared, cfg: &cfg, edits: e, keys: map[string]string{}, logins: map[string]string{}, hosts: map[string][]string{}}
	found := func(format string, args ...any) { d.findings = append(d.findings, fmt.Sprintf(format, args...)) }
	known := reusable(declared, before)
	var claim []ledger.Person
	for _, p := range e.people {
		if strings.HasPrefix(p.Name, claimed) {
			claim = append(claim, p)
			continue
		}
		if _, there := declared.People[p.Name]; there {
			found("person %q is in the configuration, too, which is what counts: remove them here", p.Name)
			continue
		}
		person, ok := known.person(p)
		if !ok {
			var err error
			if person, err = config.ParsePerson(p.Name, p.Config, alone(declared)); err != nil {
				found("person %q cannot be read any more: %v", p.Name, err)
				continue
			}
		}
		cfg.People[p.Name] = person
	}
	for _, t := range e.targets {
		if _, there := declared.Targets[t.Name]; there {
			found("target %q is in the configuration, too, which is what counts: remove it here", t.Name)
			continue
		}
		target, ok := known.target(t)
		if !ok {
			base := *declared // with everybody who is known, whom it may name
			base.People = cfg.People
			var err error
			if target, err = config.ParseTarget(t.Name, t.Config, &base); err != nil {
				found("target %q cannot be read any more: %v", t.Name, err)
				continue
			}
		}
		cfg.Targets[t.Name] = target
	}
	for _, c := range claim {
		name := strings.TrimPrefix(c.Name, claimed)
		var says claims
		if p, there := cfg.People[name]; there && json.Unmarshal(c.Config, &says) == nil && now.Before(says.Until) && p.Login != "" && d.login(p.Login) == says.Login {
			if d.until.IsZero() || says.Until.Before(d.until) {
				d.until = says.Until
			}
			p.Groups = slices.Clone(p.Groups)
			for _, group := range says.Groups {
				if d.claimable(group) && !slices.Contains(p.Groups, group) {
					p.Groups = append(p.Groups, group)
				}
			}
			cfg.People[name] = p
		}
	}
	d.index(found)
	slices.Sort(d.findings)
	d.access = &access.Access{Config: d.cfg}
	return d
}

// alone is cfg without its people: what one of them has in common with another is looked
// at by index, and takes only that away.
func alone(cfg *config.Config) *config.Config {
	c := *cfg
	c.People = nil
	return &c
}

// index notes whose keys and logins are whose, and which targets are which host's.
func (d *directory) index(found func(string, ...any)) {
	declared := func(name string) bool { _, is := d.declared.People[name]; return is }
	// take gives what one can be told by to somebody, who may be its second.
	take := func(of map[string]string, key, what, name string) {
		switch other, taken := of[key]; {
		case !taken:
			of[key] = name
		case other == name:
		case declared(other):
			found("%s of %q is %q's, who is in the configuration: remove it here", what, name, other)
		default:
			found("%s is %q's and %q's, and so it is nobody's: remove it from one", what, other, name)
			of[key] = ""
		}
	}
	names := slices.SortedFunc(maps.Keys(d.cfg.People), func(a, b string) int {
		if declared(a) != declared(b) {
			return map[bool]int{true: -1, false: 1}[declared(a)]
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		p := d.cfg.People[name]
		for _, line := range p.Keys {
			if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
				print := ssh.FingerprintSHA256(key)
				take(d.keys, print, "key "+print, name)
			}
		}
		if p.Login != "" {
			take(d.logins, d.login(p.Login), fmt.Sprintf("login %q", p.Login), name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.cfg.Targets)) {
		if h := d.cfg.Targets[name].Agent; h != "" {
			d.hosts[h] = append(d.hosts[h], name)
		}
	}
}

// claimable reports whether a provider's word puts anybody into a group of ours, as the
// configuration has it now.
func (d *directory) claimable(group string) bool {
	serve := d.cfg.Gate.Serve
	if serve == nil || serve.OIDC == nil {
		return false
	}
	for _, ours := range serve.OIDC.Groups {
		if ours == group {
			return true
		}
	}
	return false
}

// login is what a provider's name for somebody is looked for by. Capitals mean nothing in
// an address, those of ASCII: Unicode's have small letters that are others' (the Kelvin
// sign is a k, the dotted capital I an i), and who could take such a name would be who has
// the plain one. In other claims a provider may tell people apart by capitals.
func (d *directory) login(s string) string {
	if serve := d.cfg.Gate.Serve; serve == nil || serve.OIDC == nil || serve.OIDC.PersonClaim != config.ClaimEmail {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// reuse are the edits that need not be read again.
type reuse struct {
	people  map[string]ledger.Person
	targets map[string]ledger.Target
	from    *directory
}

func reusable(declared *config.Config, before *directory) reuse {
	r := reuse{people: map[string]ledger.Person{}, targets: map[string]ledger.Target{}}
	if before == nil || before.declared != declared {
		return r
	}
	r.from = before
	for _, p := range before.edits.people {
		r.people[p.Name] = p
	}
	for _, t := range before.edits.targets {
		r.targets[t.Name] = t
	}
	for _, p := range before.edits.people { // their groups may be added to: by what was read then
		if name, is := strings.CutPrefix(p.Name, claimed); is {
			delete(r.people, name)
		}
	}
	return r
}

func (r reuse) person(p ledger.Person) (config.Person, bool) {
	was, ok := r.people[p.Name]
	if !ok || was.Rev != p.Rev || !bytes.Equal(was.Config, p.Config) {
		return config.Person{}, false
	}
	person, ok := r.from.cfg.People[p.Name]
	return person, ok
}

func (r reuse) target(t ledger.Target) (config.Target, bool) {
	was, ok := r.targets[t.Name]
	if !ok || was.Rev != t.Rev || !bytes.Equal(was.Config, t.Config) {
		return config.Target{}, false
	}
	target, ok := r.from.cfg.Targets[t.Name]
	return target, ok
}

// door is a target by its name, or its host's.
func (d *directory) door(name string) (access.Door, error) {
	door, err := d.access.Door(name)
	if err != nil {
		return access.Door{}, &api.Error{Code: api.NotFound, Message: err.Error(), Hint: access.Hint(err)}
	}
	return door, nil
}

// member reports whether person is one of names, which are people and groups.
func (d *directory) member(person string, names []string) bool {
	p, ok := d.cfg.People[person]
	if !ok {
		return false
	}
	return slices.Contains(names, person) || slices.ContainsFunc(p.Groups, func(g string) bool { return slices.Contains(names, g) })
}

func (d *directory) disabled(person string) bool {
	_, off := d.edits.disabled[person]
	return off
}

func (d *directory) role(person string) api.Role {
	if _, there := d.cfg.People[person]; !there || d.disabled(person) {
		return ""
	}
	if s := d.cfg.Gate.Serve; s != nil && d.member(person, s.Admins) {
		return api.RoleAdmin
	}
	return api.RolePerson
}

// administrators are all who are one.
func (d *directory) administrators() []string {
	var res []string
	for _, name := range slices.Sorted(maps.Keys(d.cfg.People)) {
		if d.role(name) == api.RoleAdmin {
			res = append(res, name)
		}
	}
	return res
}

// edited is the edit of a person by that name; ok is false where there is none.
func (e *edits) person(name string) (ledger.Person, bool) {
	i := slices.IndexFunc(e.people, func(p ledger.Person) bool { return p.Name == name })
	if i < 0 {
		return ledger.Person{}, false
	}
	return e.people[i], true
}

func (e *edits) target(name string) (ledger.Target, bool) {
	i := slices.IndexFunc(e.targets, func(t ledger.Target) bool { return t.Name == name })
	if i < 0 {
		return ledger.Target{}, false
	}
	return e.targets[i], true
}

// places are where groups of the configuration are: of its targets and accounts, not of
// hosts'.
func (d *directory) places() []securitygroup.Place {
	set := map[securitygroup.Place]bool{}
	for _, t := range d.cfg.Targets {
		if t.Agent == "" {
			set[securitygroup.Place{Account: t.AWS.Account, Region: t.AWS.Region}] = true
		}
	}
	for name, account := range d.cfg.AWS.Accounts {
		for _, region := range account.Regions {
			set[securitygroup.Place{Account: name, Region: region}] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b securitygroup.Place) int { return cmp.Or(a.Compare(b), 0) })
}
