package ec2test

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	maxListEntries = 1000
	maxListChange  = 100 // entries in one call
)

// PrefixList is a managed prefix list.
type PrefixList struct {
	ID         string // made, when empty
	Name       string // the id, when empty
	Six        bool   // of IPv6
	MaxEntries int    // how many there are, when 0
	Version    int    // 1, when 0
	Entries    []Entry
	Tags       map[string]string
}

// Entry is one of a prefix list.
type Entry struct {
	Prefix      netip.Prefix
	Description string
}

// managed is a prefix list and what is being done to it. The list is what it will be.
type managed struct {
	PrefixList
	seq      uint64
	versions map[int][]Entry
	doing    string // create, modify, restore, delete
	until    time.Time
	before   *managed // holds meanwhile, and when it failed
	failed   string   // why
}

func (l *managed) family() int { return map[bool]int{true: 1}[l.Six] }

func (l *managed) state(now time.Time) string {
	switch {
	case now.Before(l.until):
		return l.doing + "-in-progress"
	case l.failed != "":
		return l.doing + "-failed"
	}
	return l.doing + "-complete"
}

// holds is what is in force of l.
func (l *managed) holds(now time.Time) *managed {
	if l.before != nil && now.Before(l.until) {
		return l.before
	}
	return l
}

// begin is l with something being done to it, and failing where that has a reason.
func (l *managed) begin(c *call, doing, failed string) *managed {
	before := *l
	before.before = nil
	begun := *l
	begun.doing, begun.failed, begun.before = doing, failed, &before
	begun.until = c.now.Add(c.s.settles())
	return &begun
}

func (s *Server) settles() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settling
}

// listByID finds a prefix list that is not gone.
func listByID(sn *snapshot, id string, now time.Time) (*managed, error) {
	if l := sn.lists[id]; l != nil && l.state(now) != "delete-complete" {
		return l, nil
	}
	if !wellFormed(id, "pl") {
		return nil, refuse("InvalidPrefixListID.Malformed", "Invalid id: \"%s\" (expecting \"pl-...\")", id)
	}
	return nil, refuse("InvalidPrefixListID.NotFound", "The prefix list (%s) does not exist.", id)
}

// settled is listByID for a list that is to be changed.
func settled(sn *snapshot, id string, now time.Time) (*managed, error) {
	l, err := listByID(sn, id, now)
	if err == nil && now.Before(l.until) {
		return nil, refuse("IncorrectState", "The prefix list (%s) is in the state %s.", id, l.state(now))
	}
	return l, err
}

// entries reads entries that are to be added.
func entries(nodes []*node, six bool) ([]Entry, error) {
	if len(nodes) > maxListChange {
		return nil, refuse("InvalidParameterValue", "A request cannot add more than %d entries", maxListChange)
	}
	var added []Entry
	for _, n := range nodes {
		p, err := prefix(n.get("Cidr"), six)
		if err != nil {
			return nil, err
		}
		if len(n.get("Description")) > 255 {
			return nil, refuse("InvalidParameterValue", "An entry's description has at most 255 characters")
		}
		if slices.ContainsFunc(added, func(e Entry) bool { return e.Prefix == p }) {
			return nil, refuse("InvalidParameterValue", "The request contains the CIDR (%s) more than once", p)
		}
		added = append(added, Entry{p, n.get("Description")})
	}
	return added, nil
}

func listName(name string) error {
	if name == "" || len(name) > 255 || strings.HasPrefix(name, "com.amazonaws") {
		return refuse("InvalidParameterValue", "The prefix list name (%s) is not valid", name)
	}
	return nil
}

func listSize(c *call) (int, error) {
	size, _, err := c.in.number("MaxEntries")
	if err == nil && (size < 1 || size > maxListEntries) {
		err = refuse("InvalidParameterValue", "The maximum number of entries (%d) is not between 1 and %d", size, maxListEntries)
	}
	return size, err
}

func createList(c *call, w *writer) error {
	if err := c.in.required("AddressFamily", "MaxEntries", "PrefixListName"); err != nil {
		return err
	}
	l := &managed{PrefixList: PrefixList{ID: c.s.id("pl"), Name: c.in.get("PrefixListName"), Version: 1, Six: c.in.get("AddressFamily") == "IPv6"}}
	if family := c.in.get("AddressFamily"); family != "IPv4" && family != "IPv6" {
		return refuse("InvalidParameterValue", "The address family (%s) is not IPv4 or IPv6", family)
	}
	var err error
	if l.MaxEntries, err = listSize(c); err != nil {
		return err
	}
	if err := listName(l.Name); err != nil {
		return err
	}
	if l.Entries, err = entries(c.in.list("Entry"), l.Six); err != nil {
		return err
	}
	if len(l.Entries) > l.MaxEntries {
		return refuse("PrefixListMaxEntriesExceeded", "You've reached the maximum number of entries for the prefix list.")
	}
	if l.Tags, err = c.tagSpecifications("prefix-list"); err != nil {
		return err
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	l.doing, l.until = "create", c.now.Add(c.s.settles())
	l.versions = map[int][]Entry{1: l.Entries}
	l.seq = c.s.counter.Add(1)
	err = c.st.change(c.now, func(sn *snapshot) error {
		sn.lists[l.ID] = l
		return nil
	})
	if err != nil {
		return err
	}
	l.answer(c, w)
	return nil
}

// answer writes the list as the call answers it that has begun to do something to it.
func (l *managed) answer(c *call, w *writer) {
	shown := *l
	shown.until = c.now.Add(1) // not yet done
	w.in("prefixList", func() { shown.xml(c, w) })
}

func (l *managed) xml(c *call, w *writer) {
	held := l.holds(c.now)
	w.text("prefixListId", l.ID)
	w.text("addressFamily", map[bool]string{true: "IPv6", false: "IPv4"}[l.Six])
	state := l.state(c.now)
	w.text("state", state)
	if strings.HasSuffix(state, "-failed") {
		w.text("stateMessage", l.failed)
	}
	w.text("prefixListArn", c.place.arn("prefix-list", l.ID))
	w.text("prefixListName", held.Name)
	w.number("maxEntries", held.MaxEntries)
	w.number("version", held.Version)
	w.text("ownerId", c.place.Account)
	w.tags(l.Tags)
}

// alter does something to a list: f makes of it what it will be.
func (c *call) alter(w *writer, f func(*snapshot, *managed) (*managed, error)) error {
	if err := c.in.required("PrefixListId"); err != nil {
		return err
	}
	id := c.in.get("PrefixListId")
	var begun *managed
	err := c.st.change(c.now, func(sn *snapshot) error {
		l, err := settled(sn, id, c.now)
		if err != nil {
			return err
		}
		if begun, err = f(sn, l); err != nil {
			return err
		}
		if err := c.dryRun(); err != nil {
			return err
		}
		sn.lists[id] = begun
		c.changed = sn.uses(func(r *Rule) bool { return r.PrefixList == id })
		return nil
	})
	if err != nil {
		return err
	}
	begun.answer(c, w)
	return nil
}

// current checks the version that a call believes to be the list's.
func (l *managed) current(c *call) error {
	if err := c.in.required("CurrentVersion"); err != nil {
		return err
	}
	version, _, err := c.in.number("CurrentVersion")
	if err == nil && version != l.Version {
		err = refuse("PrefixListVersionMismatch", "The prefix list (%s) has the version %d, not %d.", l.ID, l.Version, version)
	}
	return err
}

// next is l with a new version of its entries.
func (l *managed) next(c *call, doing string, now []Entry) *managed {
	slices.SortFunc(now, func(a, b Entry) int { return a.Prefix.Compare(b.Prefix) })
	begun := l.begin(c, doing, "")
	begun.Version, begun.Entries = l.Version+1, now
	begun.versions = maps.Clone(l.versions)
	begun.versions[begun.Version] = now
	return begun
}

func modifyList(c *call, w *writer) error {
	add, remove := c.in.list("AddEntry"), c.in.list("RemoveEntry")
	sized, named := c.in.has("MaxEntries"), c.in.has("PrefixListName")
	changes := len(add)+len(remove) > 0
	switch {
	case sized && changes:
		return refuse("InvalidParameterCombination", "You cannot modify the entries and the maximum entries for the prefix list in the same request.")
	case !sized && !changes && !named:
		return refuse("InvalidRequest", "The request received was invalid.")
	case len(remove) > maxListChange:
		return refuse("InvalidParameterValue", "A request cannot remove more than %d entries", maxListChange)
	}
	return c.alter(w, func(sn *snapshot, l *managed) (*managed, error) {
		if changes || c.in.has("CurrentVersion") {
			if err := l.current(c); err != nil {
				return nil, err
			}
		}
		begun := l.begin(c, "modify", "")
		if sized {
			size, err := listSize(c)
			if err != nil {
				return nil, err
			}
			if size < len(l.Entries) {
				return nil, refuse("InvalidParameterValue", "The prefix list (%s) has more entries than %d", l.ID, size)
			}
			begun.MaxEntries = size
			if small := sn.tooSmall(begun); len(small) > 0 {
				begun = l.begin(c, "modify", fmt.Sprintf("The following resources do not support the new maximum size: %s", strings.Join(small[:min(len(small), 10)], ", ")))
			}
		}
		if changes {
			added, err := entries(add, l.Six)
			if err != nil {
				return nil, err
			}
			now, err := l.altered(added, remove)
			if err != nil {
				return nil, err
			}
			begun = l.next(c, "modify", now)
		}
		if named {
			if err := listName(c.in.get("PrefixListName")); err != nil {
				return nil, err
			}
			begun.Name = c.in.get("PrefixListName")
		}
		return begun, nil
	})
}

// altered are l's entries without some and with others.
func (l *managed) altered(added []Entry, remove []*node) ([]Entry, error) {
	now := slices.Clone(l.Entries)
	for _, n := range remove {
		p, err := prefix(n.get("Cidr"), l.Six)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(added, func(e Entry) bool { return e.Prefix == p }) {
			return nil, refuse("InvalidParameterValue", "Request cannot contain Cidr %s in both AddPrefixListEntries and RemovePrefixListEntries", p)
		}
		i := slices.IndexFunc(now, func(e Entry) bool { return e.Prefix == p })
		if i < 0 {
			return nil, refuse("InvalidPrefixListModification", "An entry with the CIDR (%s) does not exist.", p)
		}
		now = slices.Delete(now, i, i+1)
	}
	for _, e := range added {
		if i := slices.IndexFunc(now, func(there Entry) bool { return there.Prefix == e.Prefix }); i >= 0 {
			return nil, refuse("InvalidPrefixListModification", "An entry with the CIDR (%s) and description (%s) already exists.", e.Prefix, now[i].Description)
		}
		now = append(now, e)
	}
	if len(now) > l.MaxEntries {
		return nil, refuse("PrefixListMaxEntriesExceeded", "You've reached the maximum number of entries for the prefix list.")
	}
	return now, nil
}

// tooSmall are the groups that could not hold l any more.
func (sn *snapshot) tooSmall(l *managed) []string {
	with := &snapshot{groups: sn.groups, lists: maps.Clone(sn.lists)}
	with.lists[l.ID] = l
	var small []string
	for _, id := range sn.uses(func(r *Rule) bool { return r.PrefixList == l.ID }) {
		if with.overfull(sn.groups[id].rules) {
			small = append(small, id)
		}
	}
	return small
}

func restoreList(c *call, w *writer) error {
	if err := c.in.required("PreviousVersion"); err != nil {
		return err
	}
	previous, _, err := c.in.number("PreviousVersion")
	if err != nil {
		return err
	}
	return c.alter(w, func(_ *snapshot, l *managed) (*managed, error) {
		if err := l.current(c); err != nil {
			return nil, err
		}
		old, ok := l.versions[previous]
		if !ok || previous == l.Version {
			return nil, refuse("InvalidParameterValue", "The prefix list (%s) has no previous version %d", l.ID, previous)
		}
		if len(old) > l.MaxEntries {
			return nil, refuse("PrefixListMaxEntriesExceeded", "You've reached the maximum number of entries for the prefix list.")
		}
		return l.next(c, "restore", slices.Clone(old)), nil
	})
}

// deleteList begins to delete a list. A list that rules refer to stays, in the state
// delete-failed: https://github.com/hashicorp/terraform-provider-aws/issues/20991.
func deleteList(c *call, w *writer) error {
	return c.alter(w, func(sn *snapshot, l *managed) (*managed, error) {
		failed := ""
		if users := sn.uses(func(r *Rule) bool { return r.PrefixList == l.ID }); len(users) > 0 {
			failed = "The prefix list is referenced by: " + strings.Join(users[:min(len(users), 10)], ", ")
		}
		return l.begin(c, "delete", failed), nil
	})
}

func describeLists(c *call, w *writer) error {
	filters, err := c.filters("owner-id", "prefix-list-id", "prefix-list-name")
	if err != nil {
		return err
	}
	ids := c.in.values("PrefixListId")
	for _, id := range ids {
		if _, err := listByID(c.view, id, c.now); err != nil {
			return err
		}
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	keep := func(l *managed) bool {
		return l.state(c.now) != "delete-complete" && (len(ids) == 0 || slices.Contains(ids, l.ID)) && match(filters, nil, func(name string) []string {
			return []string{map[string]string{"owner-id": c.place.Account, "prefix-list-id": l.ID, "prefix-list-name": l.Name}[name]}
		})
	}
	all := members(c.view.lists, func(l *managed) uint64 { return l.seq })
	return paged(c, w, "prefixListSet", limits{1, 100}, all, keep, func(l *managed) { l.xml(c, w) })
}

// each yields the things of a slice by their number.
func each[T any](all []T) func(func(pos, T) bool) {
	return func(yield func(pos, T) bool) {
		for i, one := range all {
			if !yield(pos{uint64(i) + 1}, one) {
				return
			}
		}
	}
}

func listEntries(c *call, w *writer) error {
	l, err := listByID(c.view, c.in.get("PrefixListId"), c.now)
	if err != nil {
		return err
	}
	shown := l.holds(c.now)
	all := shown.Entries
	if version, ok, err := c.in.number("TargetVersion"); err != nil {
		return err
	} else if ok {
		if all, ok = l.versions[version]; !ok || version > shown.Version {
			return refuse("InvalidParameterValue", "The prefix list (%s) has no version %d", l.ID, version)
		}
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	return paged(c, w, "entrySet", limits{1, 100}, each(all), func(Entry) bool { return true }, func(e Entry) {
		w.text("cidr", e.Prefix.String())
		w.some("description", e.Description)
	})
}

func listAssociations(c *call, w *writer) error {
	l, err := listByID(c.view, c.in.get("PrefixListId"), c.now)
	if err != nil {
		return err
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	users := c.view.uses(func(r *Rule) bool { return r.PrefixList == l.ID })
	return paged(c, w, "prefixListAssociationSet", limits{5, 255}, each(users), func(string) bool { return true }, func(id string) {
		w.text("resourceId", id)
		w.text("resourceOwner", c.place.Account)
	})
}

// AddPrefixList puts a prefix list.
func (s *Server) AddPrefixList(p Place, l PrefixList) (id string) {
	if l.ID == "" {
		l.ID = s.id("pl")
	}
	l.Name = cmp.Or(l.Name, l.ID)
	l.Version = max(l.Version, 1)
	l.MaxEntries = max(l.MaxEntries, len(l.Entries), 1)
	l.Entries, l.Tags = slices.Clone(l.Entries), maps.Clone(l.Tags)
	made := &managed{PrefixList: l, seq: s.counter.Add(1), versions: map[int][]Entry{l.Version: l.Entries}, doing: "create"}
	s.seed(p, func(_ *state, sn *snapshot) []string {
		sn.lists[l.ID] = made
		return sn.uses(func(r *Rule) bool { return r.PrefixList == l.ID })
	})
	return l.ID
}

// PrefixLists are a place's, in the order in which they were made, as they are in force.
func (s *Server) PrefixLists(p Place) []PrefixList {
	now := s.clock()
	var out []PrefixList
	for _, l := range members(s.state(p).current().lists, func(l *managed) uint64 { return l.seq }) {
		if l.state(now) == "delete-complete" {
			continue
		}
		one := l.holds(now).PrefixList
		one.Entries, one.Tags = slices.Clone(one.Entries), maps.Clone(l.Tags)
		out = append(out, one)
	}
	return out
}
