package access

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sekisho/internal/securitygroup"
	"sekisho/internal/securitygroup/ec2test"
)

// A stage has actors, each a process of its own, whose calls take effect one at a time in
// an order that it chooses: in every order in which no more than so many calls are put
// off, though they could be made, for another's.

// play is what happens on a stage.
type play struct {
	name   string
	before func(*stage)
	actors []func(*actor) error
	// kept: somebody needs the rule still when all have ended.
	kept  bool
	after func(*stage) error // what has to be true then, too
}

type stage struct {
	*world
	t    testing.TB
	door Door
	// what holds now
	actors []*actor
	told   map[string]netip.Prefix // who was told that they are let in
	died   bool
	// slow: others went on while somebody put a rule in the place of another. Leases that
	// are over since may be on it, until they end.
	slow  bool
	trace []string
}

// actor is one process.
type actor struct {
	*Access
	s       *stage
	name    string
	calls   int
	last    string // action
	opening bool   // it is about to let somebody in
	die     int    // in so manyth call: it takes effect, and there is nobody left who hears; 0: never

	ctx    context.Context
	cancel context.CancelFunc
	at     chan ec2test.Call // it has come to a call
	may    chan struct{}     // which it may make
	ended  chan error
	over   bool
}

func (a *actor) open(person string, p netip.Prefix) (Opened, error) {
	a.opening = true
	o, err := a.Open(a.ctx, a.s.door, p, person, person, time.Hour, nil)
	a.opening = a.ctx.Err() != nil
	if err == nil {
		a.s.told[person] = p
	}
	return o, err
}

func (a *actor) renew(person string, o Opened) (Opened, error) {
	a.opening = true
	o, err := a.Renew(a.ctx, a.s.door, o, 2*time.Hour)
	a.opening = a.ctx.Err() != nil
	if err == nil {
		a.s.told[person] = o.Rule.Source.Prefix
	}
	return o, err
}

func (a *actor) release(person string, o Opened) error {
	delete(a.s.told, person)
	return a.Release(a.ctx, a.s.door, o)
}

// removeFixed and modify are what apply does to a rule.
func (a *actor) removeFixed(r securitygroup.Rule) (err error) {
	a.remove(a.ctx, a.s.plan(), []Change{{Op: Remove, Rule: r}}, func(_ Change, e error) { err = e })
	return err
}

func (a *actor) moveTo(r securitygroup.Rule, p netip.Prefix, person string) (err error) {
	w := Wanted{securitygroup.TCP(22, securitygroup.Source{Prefix: p}), []string{person}}
	a.modify(a.ctx, a.s.plan(), []Change{{Op: Modify, Rule: r, Wanted: w}}, func(_ Change, e error) { err = e })
	if isOvertaken(err) {
		return nil // the next plan sees it
	}
	return err
}

func (a *actor) wants(p netip.Prefix, person string) error {
	w := Wanted{securitygroup.TCP(22, securitygroup.Source{Prefix: p}), []string{person}}
	for range 5 {
		changes, _ := planGroup([]Wanted{w}, a.s.rules())
		if len(changes) == 0 {
			return nil
		}
		a.opening = true
		if err := a.carryOutChange(a.ctx, a.s.plan(), changes[0]); err != nil && !isOvertaken(err) {
			return err
		}
		a.opening = a.ctx.Err() != nil
	}
	return errors.New("the plan is never empty")
}

func (s *stage) plan() GroupPlan {
	return GroupPlan{Place: s.door.Place(), Group: securitygroup.Group{ID: s.group}}
}

// comesAndGoes opens and releases.
func comesAndGoes(person string) func(*actor) error {
	return func(a *actor) error {
		o, err := a.open(person, alices)
		if err != nil {
			return err
		}
		return a.release(person, o)
	}
}

// stays opens.
func comesAndStays(person string) func(*actor) error {
	return func(a *actor) error {
		_, err := a.open(person, alices)
		return err
	}
}

func reaps(a *actor) error {
	if r := a.Reap(a.ctx, a.s.places()); !r.Clean() {
		return fmt.Errorf("the reaper left %+v, %+v", r.Left, r.Failed)
	}
	return nil
}

func (s *stage) places() []securitygroup.Place { return []securitygroup.Place{s.door.Place()} }

// put puts a rule of ours there, with these tags beside.
func (s *stage) put(p netip.Prefix, tagged ...tagged) Opened {
	tags := asTags(tagged...)
	maps.Copy(tags, securitygroup.ManagedTags())
	tags[securitygroup.TagSource] = securitygroup.TCP(22, securitygroup.Source{Prefix: p}).String()
	var l securitygroup.Lease
	for _, t := range tagged {
		if is, ok := t.(securitygroup.Lease); ok {
			l = is
		}
	}
	id := s.server.AddRule(s.here, ec2test.Rule{Group: s.group, Protocol: "tcp", From: 22, To: 22, Prefix: p, Tags: tags})
	for _, r := range s.rules() {
		if r.ID == id {
			return Opened{Rule: r, Lease: l}
		}
	}
	return Opened{}
}

// lease is one of person's that ends in d.
func lease(person string, d time.Duration) securitygroup.Lease {
	return securitygroup.Lease{ID: person, Person: person, Until: time.Now().Add(d).Truncate(time.Second)}
}

// theatre keeps what all plays have in common: the server, and processes with their own
// keys.
type theatre struct {
	*world
	companies []*Access
	mu        sync.Mutex
	playing   map[string]*actor // by access key
	sweeper   *Access
}

func newTheatre(t *testing.T, actors int) *theatre {
	th := &theatre{world: newWorld(t, twoPeople), playing: map[string]*actor{}}
	for i := range actors {
		key := "AKIA00000000000000" + strconv.Itoa(10+i)
		th.server.AddKey(ec2test.Key{ID: key})
		t.Setenv("AWS_ACCESS_KEY_ID", key)
		a := th.configured(t, twoPeople)
		a.Settle = 200 * time.Microsecond // nothing depends on time here
		if _, err := a.Cloud.Groups(t.Context(), securitygroup.Place{Region: region}, []string{th.group}); err != nil {
			t.Fatal(err)
		}
		th.companies = append(th.companies, a)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", ec2test.KeyOf(ec2test.DefaultAccount))
	th.sweeper = th.configured(t, twoPeople)
	th.sweeper.Settle = 200 * time.Microsecond
	th.server.Inject(ec2test.Fault{Do: func(c ec2test.Call) { th.hold(c, false) }})
	th.server.Inject(ec2test.Fault{After: true, Do: func(c ec2test.Call) { th.hold(c, true) }})
	return th
}

// hold keeps an actor's call until it may go on. One who dies in it hears no answer.
func (th *theatre) hold(c ec2test.Call, after bool) {
	th.mu.Lock()
	a := th.playing[c.Key]
	th.mu.Unlock()
	if a == nil {
		return
	}
	if after {
		if a.calls == a.die {
			a.cancel()
			<-a.ctx.Done()
		}
		return
	}
	select {
	case a.at <- c:
	case <-a.ctx.Done():
		return
	}
	select {
	case <-a.may:
	case <-a.ctx.Done():
	}
}

// choice is a point at which one of several actors could go on.
type choice struct{ taken, of int }

// perform plays once, in the order that choices say, and then with as few changes of actor
// as may be. It returns all the choices that there were.
func (th *theatre) perform(t testing.TB, p play, choices []choice, delays, dying, die int) ([]choice, *stage, error) {
	w := *th.world
	w.group = th.server.AddGroup(th.here, ec2test.Group{Name: "g"})
	s := &stage{world: &w, t: t, door: th.door(t), told: map[string]netip.Prefix{}}
	s.door.AWS.Group = w.group
	foreign := ec2test.Rule{Group: w.group, Protocol: "tcp", From: 22, To: 22, Prefix: bobs, Description: "by hand", Tags: map[string]string{"Name": "x"}}
	foreign.ID = th.server.AddRule(th.here, foreign)
	if p.before != nil {
		p.before(s)
	}
	th.mu.Lock()
	clear(th.playing)
	for i := range p.actors {
		a := &actor{Access: th.companies[i], s: s, name: string(rune('A' + i)), at: make(chan ec2test.Call), may: make(chan struct{}), ended: make(chan error, 1)}
		if i == dying {
			a.die = die
		}
		a.ctx, a.cancel = context.WithCancel(context.Background())
		s.actors = append(s.actors, a)
		th.playing["AKIA00000000000000"+strconv.Itoa(10+i)] = a
		defer a.cancel()
	}
	th.mu.Unlock()
	waiting := map[*actor]ec2test.Call{}
	var failure error
	wait := func(a *actor) {
		select {
		case c := <-a.at:
			waiting[a] = c
		case err := <-a.ended:
			a.over = true
			if a.ctx.Err() != nil {
				s.died = true
			} else if err != nil && failure == nil {
				failure = fmt.Errorf("%s: %w", a.name, err)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: %s does nothing for 30 s after %v", p.name, a.name, s.trace)
		}
	}
	for i, a := range s.actors {
		go func() { a.ended <- p.actors[i](a) }()
		wait(a)
	}
	var made []choice
	var current *actor
	for {
		var can []*actor
		if current != nil && !current.over {
			can = append(can, current)
		}
		free := len(can) == 0 // it costs nothing to choose
		if free || delays > 0 {
			for _, a := range s.actors {
				if !a.over && a != current {
					can = append(can, a)
				}
			}
		}
		if len(can) == 0 {
			break
		}
		take := 0
		if len(made) < len(choices) {
			take = choices[len(made)].taken
		}
		made = append(made, choice{take, len(can)})
		if take > 0 && !free {
			delays--
		}
		current = can[take]
		c := waiting[current]
		delete(waiting, current)
		if current.opening && (c.Action == "RevokeSecurityGroupIngress" || c.Action == "AuthorizeSecurityGroupIngress" && current.last == "RevokeSecurityGroupIngress") {
			s.slow = s.slow || len(s.trace) > 0 && !strings.HasPrefix(s.trace[len(s.trace)-1], current.name)
		}
		current.calls++
		current.last = c.Action
		s.trace = append(s.trace, current.name+" "+c.Action)
		current.may <- struct{}{}
		wait(current)
		if err := s.holdsTrue(); err != nil && failure == nil {
			failure = err
		}
		if failure != nil {
			break
		}
	}
	if failure == nil {
		failure = s.atTheEnd(th, p, foreign)
	}
	if failure != nil {
		for _, a := range s.actors {
			a.cancel()
		}
	}
	for _, r := range s.rules() {
		th.server.RemoveRule(th.here, r.ID)
	}
	return made, s, failure
}

// holdsTrue fails where somebody was told that they are let in, and is not, but for the
// moment in which another puts a new rule in the place of theirs.
func (s *stage) holdsTrue() error {
	for person, p := range s.told {
		if !s.lets(p) && !slices.ContainsFunc(s.actors, func(a *actor) bool { return a.opening && a.last == "RevokeSecurityGroupIngress" }) {
			return fmt.Errorf("%s was told that %s is let in, and it is not", person, p)
		}
	}
	return nil
}

func (s *stage) atTheEnd(th *theatre, p play, foreign ec2test.Rule) error {
	if !s.died {
		for person, p := range s.told {
			if !s.lets(p) {
				return fmt.Errorf("at the end %s is not let in from %s", person, p)
			}
		}
		if len(s.told) == 0 && !p.kept && !s.slow {
			for _, r := range s.rules() {
				if ours, is := r.Ours(); is && needless(r, ours, time.Now()) == "" {
					return fmt.Errorf("all have left, and %s is still held: %v", r.Permission, r.Tags)
				}
			}
		}
	}
	if p.after != nil {
		if err := p.after(s); err != nil {
			return err
		}
	}
	th.server.SetClock(func() time.Time { return time.Now().Add(24 * time.Hour) })
	defer th.server.SetClock(time.Now)
	r := th.sweeper.Reap(context.Background(), s.places())
	if !r.Clean() {
		return fmt.Errorf("the last reaper: %+v", r)
	}
	for _, r := range s.rules() {
		ours, is := r.Ours()
		switch {
		case is && len(ours.Fixed) == 0:
			return fmt.Errorf("a day later %s is still there: %v", r.Permission, r.Tags)
		case is && len(ours.Leases)+len(ours.Ending) > 0:
			return fmt.Errorf("a day later %s says still %v", r.Permission, r.Tags)
		case !is && (r.ID != foreign.ID || r.Description != foreign.Description || len(r.Tags) != 1):
			return fmt.Errorf("the foreign rule is %+v", r)
		}
	}
	return nil
}

// every plays in every order with no more than so many delays.
func (th *theatre) every(t *testing.T, p play, delays, dying, die int) (runs int) {
	t.Helper()
	var choices []choice
	for {
		made, s, err := th.perform(t, p, choices, delays, dying, die)
		runs++
		if err != nil {
			t.Fatalf("%v\nin run %d, in this order:\n%s\nrules: %v", err, runs, strings.Join(s.trace, "\n"), s.rules())
		}
		i := len(made) - 1
		for i >= 0 && made[i].taken+1 >= made[i].of {
			i--
		}
		if i < 0 {
			return runs
		}
		choices = append(made[:i:i], choice{made[i].taken + 1, made[i].of})
	}
}

// delays is how many delays a play may have; SEKISHO_TEST_DELAYS says another number.
func delays(p play) int {
	if d, err := strconv.Atoi(os.Getenv("SEKISHO_TEST_DELAYS")); err == nil {
		return d
	}
	if raced || len(p.actors) > 2 {
		return 1
	}
	return 2
}

// plays are what may happen to a rule at the same time.
func plays() []play {
	const past = -time.Minute
	return []play{
		{name: "two come and go", actors: []func(*actor) error{comesAndGoes("alice"), comesAndGoes("bob")}},
		{name: "one goes as another comes", kept: true,
			before: func(s *stage) { s.told["carol"] = alices; s.put(alices, lease("carol", time.Hour)) },
			actors: []func(*actor) error{
				func(a *actor) error {
					return a.release("carol", Opened{Rule: a.s.rules()[1], Lease: lease("carol", time.Hour)})
				},
				comesAndStays("bob"),
			}},
		{name: "two go", before: func(s *stage) {
			s.told["carol"], s.told["dave"] = alices, alices
			s.put(alices, lease("carol", time.Hour), lease("dave", 2*time.Hour))
		}, actors: []func(*actor) error{
			func(a *actor) error {
				return a.release("carol", Opened{Rule: a.s.rules()[1], Lease: lease("carol", time.Hour)})
			},
			func(a *actor) error {
				return a.release("dave", Opened{Rule: a.s.rules()[1], Lease: lease("dave", 2*time.Hour)})
			},
		}},
		{name: "one comes to what has ended", before: func(s *stage) { s.put(alices, lease("carol", past)) },
			actors: []func(*actor) error{comesAndStays("alice"), reaps}},
		{name: "two reapers, and one who comes", before: func(s *stage) { s.put(alices, lease("carol", past)) },
			actors: []func(*actor) error{comesAndStays("alice"), reaps, reaps}},
		{name: "two come to what has ended", before: func(s *stage) { s.put(alices, lease("carol", past)) },
			actors: []func(*actor) error{comesAndGoes("alice"), comesAndStays("bob"), reaps}},
		{name: "renewed too late", before: func(s *stage) { s.put(alices, lease("alice", past)) },
			actors: []func(*actor) error{func(a *actor) error {
				_, err := a.renew("alice", Opened{Rule: a.s.rules()[0+1], Lease: lease("alice", past)})
				return err
			}, reaps}},
		{name: "somebody died closing", before: func(s *stage) {
			s.told["carol"] = alices
			s.put(alices, lease("carol", time.Hour), securitygroup.Mark{ID: "dead", Since: time.Now().Add(-time.Hour)})
		}, kept: true, actors: []func(*actor) error{comesAndStays("alice"), func(a *actor) error {
			_, err := a.renew("carol", Opened{Rule: a.s.rules()[1], Lease: lease("carol", time.Hour)})
			return err
		}, reaps}},
		{name: "one goes as another takes the rule's place", before: func(s *stage) {
			s.told["carol"] = alices
			s.put(alices, lease("carol", time.Hour), securitygroup.Mark{ID: "dead", Since: time.Now()})
		}, actors: []func(*actor) error{comesAndGoes("alice"), func(a *actor) error {
			return a.release("carol", Opened{Rule: a.s.rules()[1], Lease: lease("carol", time.Hour)})
		}}},
		{name: "an address is fixed no more", before: func(s *stage) {
			s.told["carol"] = alices
			s.put(alices, securitygroup.Fixed("carol"))
		}, actors: []func(*actor) error{comesAndStays("alice"), func(a *actor) error {
			delete(a.s.told, "carol")
			return a.removeFixed(a.s.rules()[1])
		}, reaps}},
		{name: "an address changes", before: func(s *stage) { s.put(alices, securitygroup.Fixed("carol")) },
			actors: []func(*actor) error{comesAndStays("alice"), func(a *actor) error {
				return a.moveTo(a.s.rules()[1], netip.MustParsePrefix("192.0.2.1/32"), "carol")
			}}},
		{name: "an address is fixed as it is taken away", kept: true, before: func(s *stage) { s.put(alices, lease("carol", past)) },
			actors: []func(*actor) error{func(a *actor) error {
				if err := a.wants(alices, "carol"); err != nil {
					return err
				}
				a.s.told["carol"] = alices
				return nil
			}, reaps, comesAndGoes("alice")}},
		{name: "two fix an address that somebody died taking away", kept: true, before: func(s *stage) {
			s.told["carol"] = alices
			s.put(alices, lease("carol", time.Hour), securitygroup.Mark{ID: "dead", Since: time.Now()})
		}, actors: []func(*actor) error{
			func(a *actor) error { return a.wants(alices, "dave") },
			func(a *actor) error { return a.wants(alices, "dave") },
			comesAndStays("alice"),
		}, after: func(s *stage) error {
			for _, r := range s.rules() {
				if ours, _ := r.Ours(); !s.died && r.Source.Prefix == alices && len(ours.Leases) != 2 {
					return fmt.Errorf("of carol's and alice's leases there is %v", r.Tags)
				}
			}
			return nil
		}},
	}
}

// TestEveryOrder plays all of plays in every order of their calls with a few delays.
func TestEveryOrder(t *testing.T) {
	th := newTheatre(t, 3)
	runs, began := 0, time.Now()
	for _, p := range plays() {
		t.Run(p.name, func(t *testing.T) {
			runs += th.every(t, p, delays(p), -1, 0)
		})
	}
	t.Logf("%d orders in %v", runs, time.Since(began).Round(time.Millisecond))
}

// TestEveryDeath plays them with each of the actors dying at each of its calls, which
// takes effect, but nobody hears of it.
func TestEveryDeath(t *testing.T) {
	th := newTheatre(t, 3)
	runs, began := 0, time.Now()
	for _, p := range plays() {
		t.Run(p.name, func(t *testing.T) {
			for dying := range p.actors {
				for die := 1; die <= 10; die++ {
					if !raced || die%3 == dying {
						runs += th.every(t, p, 0, dying, die)
					}
				}
			}
		})
	}
	t.Logf("%d orders in %v", runs, time.Since(began).Round(time.Millisecond))
}
