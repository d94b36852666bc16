package gate

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"

	"sekisho/internal/gate/api"
	"sekisho/internal/ledger"
	"sekisho/internal/printable"
)

const (
	maxReported = 5000 // grants in one report
	maxSaid     = 500  // characters of a host's error
	seenFor     = 2 * time.Minute

	tokenTime  = 24 * time.Hour // of a host's token
	ticketTime = 24 * time.Hour // of a stream's; it is a stream's no longer then
)

// stream is a host that listens.
type stream struct {
	host   string
	key    string // the fingerprint that it was begun with
	ticket string
	wake   chan struct{}
	over   chan struct{} // closed when the host has begun another, or is forgotten
	since  time.Time

	mu      sync.Mutex
	began   bool
	sent    map[string]api.HostGrant // Millis 0
	until   map[string]time.Time
	cut     map[string]bool
	inForce int // as reported last
	error   string
}

// streams are the hosts that listen at this gate.
type streams struct {
	mu   sync.Mutex
	at   map[string]*stream
	seen map[string]seen // by host
}

// seen is who came to a host's port of late, and when we heard of it.
type seen struct {
	addrs []netip.Addr
	at    time.Time
}

func newStreams() *streams {
	return &streams{at: map[string]*stream{}, seen: map[string]seen{}}
}

func (s *streams) wakeHost(host string) {
	s.mu.Lock()
	st := s.at[host]
	s.mu.Unlock()
	if st != nil {
		st.kick()
	}
}

func (s *streams) wakeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.at {
		st.kick()
	}
}

func (s *stream) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *streams) get(host string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[host]
}

func (s *streams) put(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.at[st.host]; old != nil {
		close(old.over)
	}
	s.at[st.host] = st
}

// drop takes st away, unless the host has begun another.
func (s *streams) drop(st *stream) (was bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at[st.host] != st {
		return false
	}
	delete(s.at, st.host)
	return true
}

// over ends st, unless the host has begun another here.
func (s *streams) over(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at[st.host] == st {
		close(st.over)
		delete(s.at, st.host)
	}
}

func (s *streams) end(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.at[host]; st != nil {
		close(st.over)
		delete(s.at, host)
	}
	delete(s.seen, host)
}

// endAll ends all of them: the hosts may find another gate.
func (s *streams) endAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for host, st := range s.at {
		close(st.over)
		delete(s.at, host)
	}
}

func (s *streams) all() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := make([]*stream, 0, len(s.at))
	for _, st := range s.at {
		res = append(res, st)
	}
	return res
}

// saw notes who came to a host's port, in the place of what it has said before.
func (s *streams) saw(host string, addrs []netip.Addr, now time.Time) {
	good := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		a = a.Unmap().WithZone("") // which may be any text
		if a.IsGlobalUnicast() && !slices.Contains(good, a) {
			good = append(good, a)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[host] = (seen{good, now}); len(good) == 0 {
		delete(s.seen, host)
	}
}

// lately are those who came to a host's port.
func (s *streams) lately(host string, now time.Time) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if is := s.seen[host]; now.Sub(is.at) <= seenFor {
		return slices.Clone(is.addrs)
	}
	return nil
}

// elsewhere is from where who may be knocking at the host of r, which is in force and
// theirs, where nobody has come in by it yet; "" where nothing is known of that. Strangers
// knock as well, and may do so to be named here: only who knows an address as their own
// should open it.
func (g *Gate) elsewhere(who Who, r row, now time.Time) string {
	away := g.streams.lately(r.at.Host, now)
	if len(away) == 0 || now.Sub(r.Until.Add(-r.Length)) >= api.Fresh {
		return ""
	}
	for _, o := range g.live.host(r.at.Host) {
		if !o.lets(now) {
			continue
		}
		n := len(away)
		if away = slices.DeleteFunc(away, o.Prefix.Contains); len(away) < n && o.Person == who.Person {
			return "" // they are in
		}
	}
	from := who.From.Unmap()
	var near, all []string
	for _, a := range away {
		if from.IsValid() && (a == from || a.Is6() && netip.PrefixFrom(a, 64).Contains(from)) {
			return fmt.Sprintf("%s has seen nobody come from %s yet, and turned away %s, where you are now: open it from here", r.at.Host, printable.Prefix(r.Prefix), a)
		}
		if all = append(all, a.String()); api.Akin(r.Prefix, a) {
			near = append(near, a.String())
		}
	}
	if len(near) > 0 {
		all = near
	}
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("%s has seen nobody come from %s yet, and turned away %s: if you know one as your own, open it for that by `sekisho open %s --ip ADDRESS`; strangers knock, too",
		r.at.Host, printable.Prefix(r.Prefix), names(all), r.Target)
}

// hostName is what sessions of a host's stream are kept under: no person is called so.
func hostName(host string) string { return "host " + host }

// Stream is what a host has to have in force: a snapshot first, then what changes, each
// computed when it is asked for, so that a slow host holds up nobody. It ends with ctx, and
// when the host begins another.
func (g *Gate) Stream(ctx context.Context, who Who) (iter.Seq[api.Change], error) {
	if who.Role != api.RoleHost || who.Host == "" {
		return nil, api.Errorf(api.Forbidden, "", "this is for hosts")
	}
	if g.ledger == nil {
		return nil, errStateless("hosts cannot be enrolled")
	}
	if err := g.load(ctx); err != nil {
		return nil, err
	}
	if err := g.hear(ctx, who.Host); err != nil {
		return nil, err
	}
	st := &stream{
		host: who.Host, ticket: rand.Text(), wake: make(chan struct{}, 1), over: make(chan struct{}),
		sent: map[string]api.HostGrant{}, until: map[string]time.Time{}, cut: map[string]bool{}, since: g.now(),
	}
	now := st.since
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		h, err := tx.Host(who.Host)
		if err != nil {
			return err
		}
		if h.Fingerprint == "" {
			return ledger.ErrNotFound
		}
		st.key = h.Fingerprint
		h.Connected, h.ConnectedUntil, h.Seen, h.Error = g.instance, now.Add(hostAlive), now, ""
		if err := tx.PutHost(h); err != nil {
			return err
		}
		if err := tx.DeleteSessionsOf(hostName(h.Name)); err != nil {
			return err
		}
		return tx.PutSession(ledger.Session{Hash: sha256.Sum256([]byte(st.ticket)), Person: hostName(h.Name), Via: api.ViaHost, Created: now, Seen: now, Until: now.Add(ticketTime), From: who.From})
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, api.Errorf(api.Unknown, "enrol it anew", "host %q is not enrolled", who.Host)
	}
	if err != nil {
		return nil, g.unwritable("note that a host listens", err)
	}
	g.streams.put(st)
	return func(yield func(api.Change) bool) {
		defer g.hungUp(st)
		beat := time.NewTicker(api.Beat)
		defer beat.Stop()
		for {
			for _, c := range g.changes(st) {
				if !yield(c) {
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-g.life.Done():
				return
			case <-st.over:
				return
			case <-st.wake:
			case <-beat.C:
				if !yield(api.Change{Beat: st.clock(g.now())}) {
					return
				}
			}
		}
	}, nil
}

// hear reads the grants of a host anew: it may have listened at another gate until now, which
// has told it of what this one has not heard of yet.
func (g *Gate) hear(ctx context.Context, host string) error {
	d, err := g.directory(ctx)
	if err != nil {
		return err
	}
	known := g.live.host(host)
	var rows []ledger.Grant
	err = g.ledger.Read(ctx, func(tx *ledger.Tx) error {
		rows = nil
		for _, target := range d.hosts[host] {
			some, err := tx.LiveOn(target)
			if err != nil {
				return err
			}
			rows = append(rows, some...)
		}
		for _, r := range known {
			if slices.ContainsFunc(rows, func(o ledger.Grant) bool { return o.ID == r.ID }) {
				continue
			}
			is, err := tx.Grant(r.ID)
			if errors.Is(err, ledger.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			rows = append(rows, is)
		}
		return nil
	})
	if err != nil {
		return g.unwritable("read a host's grants", err)
	}
	g.live.apply(rows...)
	return nil
}

// hungUp notes that a host listens no longer.
func (g *Gate) hungUp(st *stream) {
	if !g.streams.drop(st) || g.life.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(g.life, workTime)
	defer cancel()
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		h, err := tx.Host(st.host)
		if errors.Is(err, ledger.ErrNotFound) {
			return nil
		}
		if err != nil || h.Connected != g.instance {
			return err
		}
		h.Connected, h.ConnectedUntil = "", time.Time{}
		return tx.PutHost(h)
	})
	if err != nil {
		g.log.Warn("it could not be written down that a host listens no longer", "host", st.host, "error", err)
	}
}

// clock is what a stream says for the gate's clock: one that goes on as it began, whoever
// sets the machine's.
func (s *stream) clock(now time.Time) time.Time { return s.since.Add(now.Sub(s.since)) }

// changes are what a stream has not said yet.
func (g *Gate) changes(st *stream) []api.Change {
	now := g.now()
	rows := g.live.host(st.host)
	st.mu.Lock()
	defer st.mu.Unlock()
	var res []api.Change
	want := map[string]bool{}
	var all []api.HostGrant
	for _, r := range rows {
		if !r.lets(now) || g.owedEnds.has(r.ID) {
			continue
		}
		want[r.ID] = true
		h := api.HostGrant{ID: r.ID, Person: r.Person, Prefix: r.Prefix, Port: r.at.Port, Reason: r.Reason}
		if st.sent[r.ID] == h && st.until[r.ID].Equal(r.Until) {
			continue
		}
		st.sent[r.ID], st.until[r.ID] = h, r.Until
		h.Millis = r.Until.Sub(now).Milliseconds()
		all = append(all, h)
	}
	if !st.began {
		st.began = true
		if all == nil {
			all = []api.HostGrant{}
		}
		res = append(res, api.Change{Snapshot: &api.Snapshot{Host: st.host, Grants: all, Now: st.clock(now), Ticket: st.ticket}})
	} else {
		for id := range st.sent {
			if !want[id] {
				res = append(res, api.Change{End: id})
			}
		}
		slices.SortFunc(res, func(a, b api.Change) int { return strings.Compare(a.End, b.End) })
		if len(all) > 0 { // how long they last is from then on, however late they are read
			res = append(res, api.Change{Beat: st.clock(now)})
		}
		for i := range all {
			res = append(res, api.Change{Let: &all[i]})
		}
	}
	for id := range st.sent {
		if !want[id] {
			delete(st.sent, id)
			delete(st.until, id)
		}
	}
	for _, r := range rows {
		if r.State == api.Ending && r.Cut && !st.cut[r.ID] {
			st.cut[r.ID] = true
			p := r.Prefix
			res = append(res, api.Change{Cut: &p})
		}
	}
	for id := range st.cut {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.ID == id && r.State == api.Ending && r.Cut }) {
			delete(st.cut, id) // it may be asked for anew
		}
	}
	return res
}

// HostOfTicket is whose stream a report's ticket is of. It fails with api.Expired.
func (g *Gate) HostOfTicket(ctx context.Context, ticket string) (host string, err error) {
	if g.ledger == nil {
		return "", errStateless("hosts cannot be enrolled")
	}
	var s ledger.Session
	err = g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		s, err = tx.Session(sha256.Sum256([]byte(ticket)))
		return err
	})
	host, is := strings.CutPrefix(s.Person, "host ")
	switch {
	case errors.Is(err, ledger.ErrNotFound) || err == nil && (!is || s.Via != api.ViaHost || !g.now().Before(s.Until)):
		return "", api.Errorf(api.Expired, "connect the stream anew", "the ticket is of no stream")
	case err != nil:
		return "", g.unwritable("look for a stream", err)
	}
	return host, nil
}

// Report takes what a host says is in force.
func (g *Gate) Report(ctx context.Context, who Who, r api.Report) error {
	if who.Role != api.RoleHost || who.Host == "" {
		return api.Errorf(api.Forbidden, "", "this is for hosts")
	}
	if g.ledger == nil {
		return errStateless("hosts cannot be enrolled")
	}
	if len(r.Grants) > maxReported || len(r.Seen) > api.MaxSeen {
		return api.Errorf(api.TooLarge, "report less at a time", "%d grants and %d addresses are too many for one report", len(r.Grants), len(r.Seen))
	}
	if st := g.streams.get(who.Host); st == nil || st.ticket != r.Ticket {
		host, err := g.HostOfTicket(ctx, r.Ticket)
		if err != nil {
			return err
		}
		if host != who.Host {
			return api.Errorf(api.Expired, "connect the stream anew", "the ticket is of another host's stream")
		}
	}
	if err := g.load(ctx); err != nil {
		return err
	}
	now := g.now()
	if r.Seen != nil {
		g.streams.saw(who.Host, r.Seen, now)
	}
	said := map[string]api.ReportedGrant{}
	for _, s := range r.Grants {
		said[s.ID] = s
	}
	var differ []string
	for _, row := range g.live.host(who.Host) {
		s, there := said[row.ID]
		if there || r.Whole {
			if probe := row; takes(&probe, s, now) {
				differ = append(differ, row.ID)
			}
		}
	}
	inForce, text := 0, clean(r.Error)
	for _, s := range r.Grants {
		if s.InForce {
			inForce++
		}
	}
	st := g.streams.get(who.Host)
	tell := st == nil
	if st != nil {
		st.mu.Lock()
		tell = st.error != text || r.Whole && st.inForce != inForce
		st.error = text
		if r.Whole {
			st.inForce = inForce
		}
		st.mu.Unlock()
	}
	if len(differ) == 0 && !tell {
		return nil
	}
	var written []ledger.Grant
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		written = nil
		for _, id := range differ {
			was, err := tx.Grant(id)
			if errors.Is(err, ledger.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			is := rowOf(was)
			before := is
			if is.at.Host != who.Host || !takes(&is, said[id], now) {
				continue
			}
			res, err := tx.UpdateGrant(is.Grant)
			if err != nil {
				return err
			}
			written = append(written, res)
			switch {
			case is.InForce && !before.InForce && is.State == api.Open:
				_, err = tx.Append(g.entry(who, "opened", is))
			case is.Error != "" && before.Error != is.Error:
				e := g.entry(who, "failed", is)
				e.OK, e.Why = false, is.Error
				_, err = tx.Append(e)
			}
			if err != nil {
				return err
			}
		}
		if !tell {
			return nil
		}
		h, err := tx.Host(who.Host)
		if err != nil {
			return err
		}
		h.Seen, h.Error = now, text
		if r.Whole {
			h.InForce = inForce
		}
		return tx.PutHost(h)
	})
	if err != nil {
		return g.unwritable("write down what a host reports", err)
	}
	g.live.apply(written...)
	return nil
}

// takes changes r by what its host says of it; false where that says nothing new.
func takes(r *row, s api.ReportedGrant, now time.Time) bool {
	before := *r
	switch r.State {
	case api.Asked, api.Open:
		r.InForce = s.InForce
		r.Error = clean(s.Error)
		if s.InForce {
			r.State, r.Error = api.Open, ""
			if r.Opened.IsZero() {
				r.Opened = now
			}
		}
	case api.Ending:
		r.InForce = s.InForce
		if !s.InForce {
			r.over(now, r.Why)
		} else if r.Error = clean(s.Error); r.Opened.IsZero() {
			r.Opened = now
		}
	}
	return r.Grant != before.Grant
}

// clean is a host's text, fit to be kept, and shown: in a terminal, too, where C1 controls
// are commands and others turn the line around.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && r != '\u3000' || r == '\uFFFD' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	if rs := []rune(s); len(rs) > maxSaid {
		s = string(rs[:maxSaid])
	}
	return strings.TrimSpace(s)
}

// Enrol makes a host known by the key that signed q.
func (g *Gate) Enrol(ctx context.Context, key ssh.PublicKey, q api.EnrolRequest, from netip.Addr) (api.Host, error) {
	if g.ledger == nil {
		return api.Host{}, errStateless("hosts cannot be enrolled")
	}
	now := g.now()
	var h ledger.Host
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		o, err := tx.TakeOnce(onceHost, sha256.Sum256([]byte(q.Token)))
		if err != nil {
			return err
		}
		print := ssh.FingerprintSHA256(key)
		switch other, err := tx.HostByFingerprint(print); {
		case err == nil && other.Name != string(o.Data):
			return api.Errorf(api.Conflict, "give each host a key of its own: ssh-keygen -A", "host %q has this key already", other.Name)
		case err != nil && !errors.Is(err, ledger.ErrNotFound):
			return err
		}
		if h, err = tx.Host(string(o.Data)); err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		h = ledger.Host{Name: string(o.Data), Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), Fingerprint: print, Enrolled: now, Seen: now, Version: clean(q.Version)}
		if err := tx.PutHost(h); err != nil {
			return err
		}
		// What was told a stream with an older key is worth nothing, at any gate.
		if err := tx.DeleteSessionsOf(hostName(h.Name)); err != nil {
			return err
		}
		_, err = tx.Append(api.Entry{Who: hostName(h.Name), Via: api.ViaHost, From: from, What: "host.enrol", Target: h.Name, Why: print, OK: true})
		return err
	})
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return api.Host{}, api.Errorf(api.NotFound, "have an administrator make another: `sekisho gate add-host NAME`", "the token is not good: it was used, or replaced, or never was")
	case err != nil:
		return api.Host{}, g.tokenError("enrol a host", err)
	}
	g.streams.end(h.Name) // one with an older key
	return g.hostView(h, now), nil
}

// HostOfKey is whose an enrolled host key is. It fails with api.Unknown.
func (g *Gate) HostOfKey(ctx context.Context, key ssh.PublicKey, from netip.Addr) (host string, err error) {
	if g.ledger == nil {
		return "", errStateless("hosts cannot be enrolled")
	}
	var h ledger.Host
	err = g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		h, err = tx.HostByFingerprint(ssh.FingerprintSHA256(key))
		return err
	})
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		g.stranger(from)
		return "", api.Errorf(api.Unknown, "enrol the host with a token from an administrator", "no host has this key")
	case err != nil:
		return "", g.unwritable("look for a host's key", err)
	}
	return h.Name, nil
}

// hostKeeper is administrator for who keeps hosts.
func (g *Gate) hostKeeper(ctx context.Context, who Who) (*directory, error) {
	d, err := g.administrator(ctx, who)
	if err == nil && g.ledger == nil {
		err = errStateless("hosts cannot be enrolled")
	}
	return d, err
}

// AddHost makes a one-time token by which a host enrols itself as name.
func (g *Gate) AddHost(ctx context.Context, who Who, name string) (api.Invitation, error) {
	if _, err := g.hostKeeper(ctx, who); err != nil {
		return api.Invitation{}, err
	}
	if err := plainName(name); err != nil {
		return api.Invitation{}, err
	}
	if g.ledger == nil {
		return api.Invitation{}, errStateless("hosts cannot be enrolled")
	}
	token, now := rand.Text(), g.now()
	until := now.Add(tokenTime)
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if err := enabled(tx, who); err != nil {
			return err
		}
		if err := tx.DeleteOnceOf(onceHost, hostName(name)); err != nil { // the last one counts
			return err
		}
		if err := g.roomOnce(tx, onceHost); err != nil {
			return err
		}
		if err := tx.PutOnce(ledger.Once{Kind: onceHost, Key: sha256.Sum256([]byte(token)), Data: []byte(name), Person: hostName(name), Until: until}); err != nil {
			return err
		}
		_, err := tx.Append(g.about(who, "host.add", "", name))
		return err
	})
	if err != nil {
		return api.Invitation{}, g.ledgerError("make a token", err)
	}
	return api.Invitation{For: name, Token: token, Until: until}, nil
}

// DeleteHost forgets a host: it gets nothing more, and what it has ends by itself.
func (g *Gate) DeleteHost(ctx context.Context, who Who, name string) error {
	if _, err := g.hostKeeper(ctx, who); err != nil {
		return err
	}
	if g.ledger == nil {
		return errStateless("hosts cannot be enrolled")
	}
	err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
		if err := enabled(tx, who); err != nil {
			return err
		}
		if err := tx.DeleteHost(name); err != nil {
			return err
		}
		if err := tx.DeleteOnceOf(onceHost, hostName(name)); err != nil {
			return err
		}
		if err := tx.DeleteSessionsOf(hostName(name)); err != nil {
			return err
		}
		_, err := tx.Append(g.about(who, "host.delete", "", name))
		return err
	})
	if errors.Is(err, ledger.ErrNotFound) {
		return api.Errorf(api.NotFound, "", "there is no enrolled host %q", name)
	}
	if err != nil {
		return g.ledgerError("forget a host", err)
	}
	g.streams.end(name)
	return nil
}

// Hosts are those that are enrolled, or that a target names.
func (g *Gate) Hosts(ctx context.Context, who Who) ([]api.Host, error) {
	d, err := g.hostKeeper(ctx, who)
	if err != nil {
		return nil, err
	}
	if g.ledger == nil {
		return nil, errStateless("hosts cannot be enrolled")
	}
	var hosts []ledger.Host
	err = g.ledger.Read(ctx, func(tx *ledger.Tx) (err error) {
		hosts, err = tx.Hosts()
		return err
	})
	if err != nil {
		return nil, g.unwritable("read the hosts", err)
	}
	now := g.now()
	res, known := []api.Host{}, map[string]bool{}
	for _, h := range hosts {
		known[h.Name] = true
		res = append(res, g.hostView(h, now))
	}
	for name := range d.hosts {
		if !known[name] {
			res = append(res, api.Host{Name: name, Error: "it is not enrolled yet"})
		}
	}
	slices.SortFunc(res, func(a, b api.Host) int { return strings.Compare(a.Name, b.Name) })
	return res, nil
}

func (g *Gate) hostView(h ledger.Host, now time.Time) api.Host {
	return api.Host{
		Name: h.Name, Key: h.Fingerprint, Connected: g.streams.get(h.Name) != nil || now.Before(h.ConnectedUntil),
		Seen: h.Seen, Version: h.Version, Grants: h.InForce, Error: h.Error,
	}
}

// connected are the hosts that listen, at any gate.
func (g *Gate) connected(host string) bool {
	if g.streams.get(host) != nil {
		return true
	}
	now := g.now()
	g.hostsMu.Lock()
	defer g.hostsMu.Unlock()
	return now.Before(g.hostsUntil[host])
}

// endStreams ends those whose host has begun another at any gate, has enrolled with another
// key, or was forgotten: their tickets are gone then.
func (g *Gate) endStreams(ctx context.Context) error {
	for some := range slices.Chunk(g.streams.all(), 100) {
		var over []*stream
		err := g.ledger.Read(ctx, func(tx *ledger.Tx) error {
			over = nil
			for _, st := range some {
				_, err := tx.Session(sha256.Sum256([]byte(st.ticket)))
				if errors.Is(err, ledger.ErrNotFound) {
					over = append(over, st)
				} else if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("see which hosts have another stream: %w", err)
		}
		for _, st := range over {
			g.streams.over(st)
		}
	}
	return nil
}

// noteHosts reads which hosts listen at other gates, and writes which do here: some at a
// time, so that nobody waits long who opens.
func (g *Gate) noteHosts(ctx context.Context) error {
	here, now := g.streams.all(), g.now()
	for some := range slices.Chunk(here, 50) {
		err := g.ledger.Write(ctx, func(tx *ledger.Tx) error {
			for _, st := range some {
				h, err := tx.Host(st.host)
				if errors.Is(err, ledger.ErrNotFound) || err == nil && h.Fingerprint != st.key {
					continue
				}
				if err != nil {
					return err
				}
				h.Connected, h.ConnectedUntil, h.Seen = g.instance, now.Add(hostAlive), now
				if err := tx.PutHost(h); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("note which hosts listen: %w", err)
		}
	}
	until := map[string]time.Time{}
	err := g.ledger.Read(ctx, func(tx *ledger.Tx) error {
		hosts, err := tx.Hosts()
		for _, h := range hosts {
			if now.Before(h.ConnectedUntil) {
				until[h.Name] = h.ConnectedUntil
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read which hosts listen: %w", err)
	}
	g.hostsMu.Lock()
	defer g.hostsMu.Unlock()
	g.hostsUntil = until
	return nil
}
