package gate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/config"
	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/notify"
)

// People are all of them, by name.
func (g *Gate) People(ctx context.Context, who Who) ([]api.Person, error) {
	d, err := g.administrator(ctx, who)
	if err != nil {
		return nil, err
	}
	passkeys, seen := map[string][]ledger.Passkey{}, map[string]time.Time{}
	if g.ledger != nil {
		var all []ledger.Passkey
		err := g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
			for name := range d.cfg.People {
				if seen[name], err = tx.LastBy(name); err != nil {
					return err
				}
			}
			all, err = tx.AllPasskeys()
			return err
		})
		if err != nil {
			return nil, g.unwritable("read passkeys", err)
		}
		for _, p := range all {
			passkeys[p.Person] = append(passkeys[p.Person], p)
		}
	}
	res := []api.Person{}
	for _, name := range slices.Sorted(maps.Keys(d.cfg.People)) {
		res = append(res, g.personView(d, name, passkeys[name], seen[name])) // Person knows of the use of sessions, too
	}
	return res, nil
}

// Person is one of them; everybody may see themselves.
func (g *Gate) Person(ctx context.Context, who Who, name string) (api.Person, error) {
	d, err := g.person(ctx, who)
	if err != nil {
		return api.Person{}, err
	}
	if name != who.Person && d.role(who.Person) != api.RoleAdmin {
		return api.Person{}, errAdmin()
	}
	if _, there := d.cfg.People[name]; !there {
		return api.Person{}, errNobody(name)
	}
	return g.personNow(ctx, d, name)
}

func (g *Gate) personNow(ctx context.Context, d *directory, name string) (api.Person, error) {
	var passkeys []ledger.Passkey
	var seen time.Time
	if g.ledger != nil {
		err := g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
			if passkeys, err = tx.Passkeys(name); err != nil {
				return err
			}
			sessions, err := tx.Sessions(name)
			if err != nil {
				return err
			}
			seen, err = tx.LastBy(name)
			for _, s := range sessions {
				if s.Seen.After(seen) {
					seen = s.Seen
				}
			}
			return err
		})
		if err != nil {
			return api.Person{}, g.unwritable("read a person", err)
		}
	}
	return g.personView(d, name, passkeys, seen), nil
}

func (g *Gate) personView(d *directory, name string, passkeys []ledger.Passkey, seen time.Time) api.Person {
	p := d.cfg.People[name]
	_, declared := d.declared.People[name]
	res := api.Person{
		Name: name, Declared: declared, Groups: append([]string{}, p.Groups...), Fixed: []string{}, Login: p.Login,
		Keys: []api.Key{}, Passkeys: []api.Passkey{}, Role: d.role(name), Seen: seen,
	}
	for _, f := range p.Fixed {
		res.Fixed = append(res.Fixed, f.String())
	}
	for _, line := range p.Keys {
		if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
			res.Keys = append(res.Keys, api.Key{Fingerprint: ssh.FingerprintSHA256(key), Type: key.Type(), Declared: declared, Line: line})
		}
	}
	for _, k := range passkeys {
		if k.Used.After(res.Seen) {
			res.Seen = k.Used
		}
		res.Passkeys = append(res.Passkeys, api.Passkey{ID: passkeyID(k.ID), Name: k.Name, Created: k.Created, Used: k.Used})
	}
	if off, is := d.edits.disabled[name]; is {
		res.Disabled, res.Since, res.By = true, off.At, off.By
	}
	return res
}

// AddPerson makes somebody known.
func (g *Gate) AddPerson(ctx context.Context, who Who, e api.PersonEdit) (api.Person, error) {
	return g.editPerson(ctx, who, e.Name, e, false)
}

// EditPerson writes all of name anew, who is not declared; e.Name is name or "".
func (g *Gate) EditPerson(ctx context.Context, who Who, name string, e api.PersonEdit) (api.Person, error) {
	if e.Name != "" && e.Name != name {
		return api.Person{}, api.Errorf(api.BadRequest, "add them by the new name, and remove the old one", "a person's name cannot be changed")
	}
	return g.editPerson(ctx, who, name, e, true)
}

func (g *Gate) editPerson(ctx context.Context, who Who, name string, e api.PersonEdit, there bool) (api.Person, error) {
	d, err := g.editor(ctx, who)
	if err != nil {
		return api.Person{}, err
	}
	was, known := d.edits.person(name)
	_, declared := d.declared.People[name]
	switch {
	case declared:
		return api.Person{}, errDeclared("person", name)
	case there && !known:
		return api.Person{}, errNobody(name)
	case !there && known:
		return api.Person{}, api.Errorf(api.Conflict, "edit them, or take another name", "there is a person %q already", name)
	}
	p := config.Person{Groups: e.Groups, Login: strings.TrimSpace(e.Login)}
	for _, f := range e.Fixed {
		prefix, err := netip.ParsePrefix(f)
		if err != nil {
			addr, err := netip.ParseAddr(f)
			if err != nil || addr.Zone() != "" {
				return api.Person{}, api.Errorf(api.BadRequest, "write it like 203.0.113.7 or 2001:db8::/64", "%q is no address", short(f, 60))
			}
			addr = addr.Unmap()
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		p.Fixed = append(p.Fixed, prefix)
	}
	for _, k := range e.Keys {
		if k = strings.TrimSpace(k); k != "" {
			p.Keys = append(p.Keys, k)
		}
	}
	text := config.PersonText(p)
	base := g.withoutClaims(d)
	person, err := config.ParsePerson(name, text, base)
	if err != nil {
		return api.Person{}, editError(err)
	}
	if s := d.cfg.Gate.Serve; name == who.Person && s != nil && !slices.Contains(s.Admins, name) &&
		!slices.ContainsFunc(person.Groups, func(group string) bool { return slices.Contains(s.Admins, group) }) {
		return api.Person{}, api.Errorf(api.Conflict, "have another administrator do it", "one cannot take one's own administrator's rights away")
	}
	text = config.PersonText(person)
	what := "person.add"
	if there {
		what = "person.edit"
	}
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if err := unedited(tx, d, who); err != nil {
			return err
		}
		if _, err := tx.PutPerson(ledger.Person{Name: name, Config: text, By: who.Person, Rev: was.Rev}); err != nil {
			return err
		}
		_, err := tx.Append(g.about(who, what, name, ""))
		return err
	})
	if err != nil {
		return api.Person{}, g.ledgerError("write a person", err)
	}
	if err := g.afterEdit(ctx); err != nil {
		return api.Person{}, err
	}
	return g.personNow(ctx, g.dir.Load(), name)
}

// withoutClaims is the configuration by which an edit is checked: groups that only an
// identity provider names do not count there.
func (g *Gate) withoutClaims(d *directory) *config.Config {
	e := *d.edits
	e.people = slices.DeleteFunc(slices.Clone(e.people), func(p ledger.Person) bool { return strings.HasPrefix(p.Name, claimed) })
	return newDirectory(d.declared, &e, nil, g.now()).cfg
}

// enabled refuses where who is disabled, whom this gate may not have heard of.
func enabled(tx *ledger.Tx, who Who) error {
	off, err := tx.IsDisabled(who.Person)
	if err == nil && off {
		err = errDisabled(who.Person)
	}
	return err
}

// unedited refuses where others have edited since d was read: what was checked against it
// may be wrong by now. So does who has been disabled.
func unedited(tx *ledger.Tx, d *directory, who Who) error {
	if err := enabled(tx, who); err != nil {
		return err
	}
	people, err := tx.People()
	if err != nil {
		return err
	}
	targets, err := tx.Targets()
	if err != nil {
		return err
	}
	same := slices.EqualFunc(people, d.edits.people, func(a, b ledger.Person) bool { return a.Name == b.Name && a.Rev == b.Rev }) &&
		slices.EqualFunc(targets, d.edits.targets, func(a, b ledger.Target) bool { return a.Name == b.Name && a.Rev == b.Rev })
	if !same {
		return api.Errorf(api.Conflict, "look at it again, and do it once more", "somebody else has edited at the same time")
	}
	return nil
}

// DeletePerson forgets somebody who is not declared, and ends all that they have.
func (g *Gate) DeletePerson(ctx context.Context, who Who, name string) error {
	d, err := g.editor(ctx, who)
	if err != nil {
		return err
	}
	if _, known := d.edits.person(name); !known {
		if _, declared := d.declared.People[name]; declared {
			return errDeclared("person", name)
		}
		return errNobody(name)
	}
	if name == who.Person {
		return api.Errorf(api.Conflict, "have another administrator do it", "one cannot remove oneself")
	}
	_, declared := d.declared.People[name]
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if err := enabled(tx, who); err != nil {
			return err
		}
		if err := tx.DeletePerson(name); err != nil {
			return err
		}
		if !declared { // else it is another, by the configuration's name
			for _, f := range []func(string) error{tx.DeleteSessionsOf, tx.DeletePasskeysOf} {
				if err := f(name); err != nil {
					return err
				}
			}
			if err := tx.DeleteOnceOf(onceInvite, name); err != nil {
				return err
			}
			if err := tx.DeletePerson(claimed + name); err != nil && !errors.Is(err, ledger.ErrNotFound) {
				return err
			}
		}
		_, err := tx.Append(g.about(who, "person.delete", name, ""))
		return err
	})
	if err != nil {
		return g.ledgerError("remove a person", err)
	}
	if err := g.afterEdit(ctx); err != nil {
		return err
	}
	g.recheck(context.WithoutCancel(ctx))
	return nil
}

// Disable ends all that somebody has, now, until they are enabled. It returns what it ends.
func (g *Gate) Disable(ctx context.Context, who Who, name string, q api.DisableRequest) ([]api.Grant, error) {
	d, err := g.administrator(ctx, who)
	if err != nil {
		return nil, err
	}
	if g.ledger == nil {
		return nil, errStateless("people are enabled and disabled in the configuration")
	}
	if _, there := d.cfg.People[name]; !there {
		return nil, errNobody(name)
	}
	if name == who.Person {
		return nil, api.Errorf(api.Conflict, "have another administrator do it", "one cannot disable oneself")
	}
	why, err := reason(q.Reason)
	if err != nil {
		return nil, err
	}
	var ended []ledger.Grant
	now := g.now()
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		ended = nil
		if err := enabled(tx, who); err != nil {
			return err // of two who disable each other one stays
		}
		if err := tx.PutDisabled(ledger.Disabled{Person: name, At: now, By: who.Person, Why: why}); err != nil {
			return err
		}
		if err := tx.DeleteSessionsOf(name); err != nil {
			return err
		}
		if err := tx.DeleteOnceOf(onceInvite, name); err != nil {
			return err
		}
		e := g.about(who, "person.disable", name, "")
		e.Why = why
		if _, err := tx.Append(e); err != nil {
			return err
		}
		rows, err := tx.LiveOf(name)
		if err != nil {
			return err
		}
		for _, was := range rows {
			r := rowOf(was)
			entries, err := g.writeEnd(who, &r, "disabled", q.Cut)
			if errors.Is(err, errNothing) {
				ended = append(ended, was)
				continue
			}
			if err != nil {
				return err
			}
			is, err := tx.UpdateGrant(r.Grant)
			if err != nil {
				return err
			}
			ended = append(ended, is)
			if err := appendAll(tx, entries); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, g.ledgerError("disable somebody", err)
	}
	g.live.apply(ended...)
	for _, is := range ended {
		if is.State == api.Ending && is.Owner == g.instance {
			g.work(is.ID)
		}
	}
	g.tell(notify.Event{
		Kind: notify.GateDisabled, Level: notify.Warning, Key: name,
		What:   fmt.Sprintf("%s disabled %s at the gate: %d grants end", who.Person, name, len(ended)),
		Remedy: "they can do nothing at the gate until they are enabled",
	})
	if err := g.afterEdit(ctx); err != nil {
		return nil, err
	}
	rows := make([]row, len(ended))
	for i, is := range ended {
		rows[i] = rowOf(is)
	}
	return g.views(g.dir.Load(), who, rows), nil
}

// Enable undoes Disable: what has ended stays ended.
func (g *Gate) Enable(ctx context.Context, who Who, name string) (api.Person, error) {
	d, err := g.administrator(ctx, who)
	if err != nil {
		return api.Person{}, err
	}
	if g.ledger == nil {
		return api.Person{}, errStateless("people are enabled and disabled in the configuration")
	}
	if _, there := d.cfg.People[name]; !there {
		return api.Person{}, errNobody(name)
	}
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if err := enabled(tx, who); err != nil {
			return err
		}
		if err := tx.DeleteDisabled(name); err != nil {
			if errors.Is(err, ledger.ErrNotFound) {
				return errNothing
			}
			return err
		}
		_, err := tx.Append(g.about(who, "person.enable", name, ""))
		return err
	})
	if err != nil && !errors.Is(err, errNothing) {
		return api.Person{}, g.ledgerError("enable somebody", err)
	}
	if err := g.afterEdit(ctx); err != nil {
		return api.Person{}, err
	}
	return g.personNow(ctx, g.dir.Load(), name)
}

// Targets are all of them, by name.
func (g *Gate) Targets(ctx context.Context, who Who) ([]api.Target, error) {
	d, err := g.administrator(ctx, who)
	if err != nil {
		return nil, err
	}
	res := []api.Target{}
	for _, name := range slices.Sorted(maps.Keys(d.cfg.Targets)) {
		res = append(res, targetView(d, name))
	}
	return res, nil
}

func targetView(d *directory, name string) api.Target {
	t := d.cfg.Targets[name]
	_, declared := d.declared.Targets[name]
	res := api.Target{Name: name, Declared: declared, Kind: kindOf(t), Config: string(config.TargetText(t))}
	if t.Agent != "" {
		res.Where = t.Agent
	} else if res.Where = t.AWS.Group + " in " + t.AWS.Region; t.AWS.Account != "" {
		res.Where += " of " + t.AWS.Account
	}
	return res
}

func kindOf(t config.Target) api.Kind {
	if t.Agent != "" {
		return api.KindHost
	}
	return api.KindGroup
}

// EditTarget writes a target, new or not, that is not declared.
func (g *Gate) EditTarget(ctx context.Context, who Who, name string, e api.TargetEdit) (api.Target, error) {
	d, err := g.editor(ctx, who)
	if err != nil {
		return api.Target{}, err
	}
	if _, declared := d.declared.Targets[name]; declared {
		return api.Target{}, errDeclared("target", name)
	}
	was, there := d.edits.target(name)
	t, err := config.ParseTarget(name, []byte(e.Config), d.cfg)
	if err != nil {
		return api.Target{}, editError(err)
	}
	what := "target.add"
	if there {
		what = "target.edit"
	}
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if err := unedited(tx, d, who); err != nil {
			return err
		}
		if _, err := tx.PutTarget(ledger.Target{Name: name, Config: config.TargetText(t), By: who.Person, Rev: was.Rev}); err != nil {
			return err
		}
		_, err := tx.Append(g.about(who, what, "", name))
		return err
	})
	if err != nil {
		return api.Target{}, g.ledgerError("write a target", err)
	}
	if err := g.afterEdit(ctx); err != nil {
		return api.Target{}, err
	}
	g.recheck(context.WithoutCancel(ctx))
	return targetView(g.dir.Load(), name), nil
}

// DeleteTarget forgets a target that is not declared, and ends what is open at it.
func (g *Gate) DeleteTarget(ctx context.Context, who Who, name string) error {
	d, err := g.editor(ctx, who)
	if err != nil {
		return err
	}
	if _, there := d.edits.target(name); !there {
		if _, declared := d.declared.Targets[name]; declared {
			return errDeclared("target", name)
		}
		return api.Errorf(api.NotFound, "", "there is no target %q", name)
	}
	err = g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if err := enabled(tx, who); err != nil {
			return err
		}
		if err := tx.DeleteTarget(name); err != nil {
			return err
		}
		_, err := tx.Append(g.about(who, "target.delete", "", name))
		return err
	})
	if err != nil {
		return g.ledgerError("remove a target", err)
	}
	if err := g.afterEdit(ctx); err != nil {
		return err
	}
	g.recheck(context.WithoutCancel(ctx))
	return nil
}

// Findings are what is wrong with what was edited: what the configuration has too, or
// cannot be read any more. For administrators.
func (g *Gate) Findings(ctx context.Context, who Who) ([]string, error) {
	d, err := g.administrator(ctx, who)
	if err != nil {
		return nil, err
	}
	return append([]string{}, d.findings...), nil
}

// afterEdit has what was written be in force here at once; elsewhere it is when the
// ledger's Watch says so.
func (g *Gate) afterEdit(ctx context.Context) error {
	if err := g.reread(context.WithoutCancel(ctx)); err != nil {
		return g.unwritable("read what was edited", err)
	}
	return nil
}

// editor is administrator for who edits people and targets.
func (g *Gate) editor(ctx context.Context, who Who) (*directory, error) {
	d, err := g.administrator(ctx, who)
	if err != nil {
		return nil, err
	}
	if g.ledger == nil {
		return nil, errStateless("people and targets are in the configuration")
	}
	if s := d.cfg.Gate.Serve; s != nil && !s.Edit {
		return nil, api.Errorf(api.Declared, "edit the configuration, or set gate.serve.edit: yes there", "people and targets are kept in the configuration alone")
	}
	return d, nil
}

// name is what people, targets and hosts may be called, as the configuration has it.
var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func plainName(s string) error {
	if !name.MatchString(s) {
		return api.Errorf(api.BadRequest, "use at most 63 letters, digits, points, - and _", "%q is no name", short(s, 80))
	}
	return nil
}

// editError is what package config says of an edit, for who wrote it.
func editError(err error) error {
	e := api.Errorf(api.BadRequest, "correct it, and send it again", "%s", short(err.Error(), maxSaid))
	if all, ok := errors.AsType[config.Errors](err); ok && len(all) > 0 {
		e.Message, e.Hint = all[0].Message, all[0].Hint
		for _, w := range all {
			e.Reasons = append(e.Reasons, api.Reason{Text: w.Message})
		}
	}
	return e
}
