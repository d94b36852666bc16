package ec2test

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxTags of a resource.
const maxTags = 50

// tagPair reads a tag that may be set.
func tagPair(n *node) (key, value string, err error) {
	key, value = n.get("Key"), n.get("Value")
	switch {
	case key == "":
		return "", "", refuse("InvalidParameterValue", "Tag key cannot be null or empty")
	case strings.HasPrefix(strings.ToLower(key), "aws:"):
		return "", "", refuse("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
	case utf8.RuneCountInString(key) > 128:
		return "", "", refuse("InvalidParameterValue", "Tag key exceeds the maximum length of 128 characters")
	case utf8.RuneCountInString(value) > 256:
		return "", "", refuse("InvalidParameterValue", "Tag value exceeds the maximum length of 256 characters")
	}
	for _, text := range []string{key, value} {
		if strings.ContainsFunc(text, func(r rune) bool {
			return r == utf8.RuneError || !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != ' ' && !strings.ContainsRune("+-=._:/@", r)
		}) {
			return "", "", refuse("InvalidParameterValue", "Tag %q has characters other than letters, numbers, spaces and +-=._:/@", text)
		}
	}
	return key, value, nil
}

// tagList reads tags, each key once.
func tagList(nodes []*node) (map[string]string, error) {
	tags := map[string]string{}
	for _, n := range nodes {
		key, value, err := tagPair(n)
		if err != nil {
			return nil, err
		}
		if _, twice := tags[key]; twice {
			return nil, refuse("InvalidParameterValue", "Duplicate tag key '%s' specified.", key)
		}
		tags[key] = value
	}
	if len(tags) > maxTags {
		return nil, refuse("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
	}
	return tags, nil
}

// tagSpecifications are the tags of what a call makes.
func (c *call) tagSpecifications(kind string) (map[string]string, error) {
	specifications := c.in.list("TagSpecification")
	if len(specifications) > 1 {
		return nil, refuse("InvalidParameterValue", "The same resource type may not be specified more than once in tag specifications")
	}
	if len(specifications) == 0 {
		return nil, nil
	}
	s := specifications[0]
	if s.get("ResourceType") != kind {
		return nil, refuse("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", s.get("ResourceType"))
	}
	if len(s.list("Tag")) == 0 {
		return nil, refuse("InvalidParameterValue", "Tag specification must have at least one tag")
	}
	return tagList(s.list("Tag"))
}

// tagged finds what bears tags: its kind, what it bears, and how to give it others.
func (c *call) tagged(sn *snapshot, id string) (kind string, tags map[string]string, set func(map[string]string), err error) {
	kind, _, _ = strings.Cut(id, "-")
	switch kind {
	case "sg":
		g, err := groupByID(sn, id)
		if err != nil {
			return "", nil, nil, err
		}
		return "security-group", g.Tags, func(tags map[string]string) {
			changed := *g
			changed.Tags = tags
			sn.groups[id] = &changed
		}, nil
	case "sgr":
		g := sn.groups[c.st.homes[id]] // the caller holds the lock
		if g == nil {
			return "", nil, nil, noSuchRule(id)
		}
		i, err := g.find(id, func(*rule) bool { return true })
		if err != nil {
			return "", nil, nil, err
		}
		return "security-group-rule", g.rules[i].Tags, func(tags map[string]string) {
			changed := *g.rules[i]
			changed.Tags = tags
			rules := slices.Clone(g.rules)
			rules[i] = &changed
			sn.put(g, rules)
		}, nil
	case "pl":
		l, err := listByID(sn, id, c.now)
		if err != nil {
			return "", nil, nil, err
		}
		return "prefix-list", l.Tags, func(tags map[string]string) {
			changed := *l
			changed.Tags = tags
			sn.lists[id] = &changed
		}, nil
	case "i":
		if i := sn.instances[id]; i != nil {
			return "instance", i.Tags, func(tags map[string]string) {
				changed := *i
				changed.Tags = tags
				sn.instances[id] = &changed
			}, nil
		}
		return "", nil, nil, refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
	}
	return "", nil, nil, refuse("InvalidID", "The ID '%s' is not valid", id)
}

// retag changes the tags of each resource of a call, or of none.
func (c *call) retag(w *writer, change func(tags map[string]string)) error {
	ids := c.in.values("ResourceId")
	if len(ids) == 0 {
		return refuse("MissingParameter", "The request must contain the parameter resourceIdSet")
	}
	if len(ids) > 1000 {
		return refuse("InvalidParameterValue", "The maximum number of resources in a call is 1000")
	}
	err := c.st.change(c.now, func(sn *snapshot) error {
		for _, id := range ids {
			_, before, set, err := c.tagged(sn, id)
			if err != nil {
				return err
			}
			tags := maps.Clone(before)
			if tags == nil {
				tags = map[string]string{}
			}
			change(tags)
			if len(tags) > maxTags {
				return refuse("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
			}
			set(tags)
			if group := map[bool]string{true: id, false: c.st.homes[id]}[sn.groups[id] != nil]; group != "" && !slices.Contains(c.changed, group) {
				c.changed = append(c.changed, group)
			}
		}
		return c.dryRun()
	})
	if err != nil {
		c.changed = nil
		return err
	}
	w.truth("return", true)
	return nil
}

func createTags(c *call, w *writer) error {
	wanted, err := tagList(c.in.list("Tag"))
	if err != nil {
		return err
	}
	if len(wanted) == 0 {
		return refuse("MissingParameter", "The request must contain the parameter tagSet")
	}
	return c.retag(w, func(tags map[string]string) { maps.Copy(tags, wanted) })
}

func deleteTags(c *call, w *writer) error {
	unwanted := c.in.list("Tag")
	return c.retag(w, func(tags map[string]string) {
		if len(unwanted) == 0 {
			clear(tags)
		}
		for _, n := range unwanted {
			// A key without a value means whatever its value is.
			if value, ok := tags[n.get("Key")]; ok && (!n.has("Value") || n.get("Value") == value) {
				delete(tags, n.get("Key"))
			}
		}
	})
}

// tagOf is one tag of one resource.
type tagOf struct{ id, kind, key, value string }

func describeTags(c *call, w *writer) error {
	filters, err := c.filters("key", "resource-id", "resource-type", "value", "tag:")
	if err != nil {
		return err
	}
	if err := c.dryRun(); err != nil {
		return err
	}
	sn := c.view
	var all iter.Seq2[pos, tagOf] = func(yield func(pos, tagOf) bool) {
		of := func(seq uint64, id, kind string, tags map[string]string) bool {
			for i, key := range slices.Sorted(maps.Keys(tags)) {
				if !yield(pos{seq, uint64(i) + 1}, tagOf{id, kind, key, tags[key]}) {
					return false
				}
			}
			return true
		}
		type bearer struct {
			seq      uint64
			id, kind string
			tags     map[string]string
		}
		var bearers []bearer
		for _, g := range sn.groups {
			bearers = append(bearers, bearer{g.seq, g.ID, "security-group", g.Tags})
			for _, r := range g.rules {
				bearers = append(bearers, bearer{r.seq, r.ID, "security-group-rule", r.Tags})
			}
		}
		for _, l := range sn.lists {
			if l.state(c.now) != "delete-complete" {
				bearers = append(bearers, bearer{l.seq, l.ID, "prefix-list", l.Tags})
			}
		}
		for _, i := range sn.instances {
			bearers = append(bearers, bearer{i.seq, i.ID, "instance", i.Tags})
		}
		slices.SortFunc(bearers, func(a, b bearer) int { return cmp.Compare(a.seq, b.seq) })
		for _, b := range bearers {
			if !of(b.seq, b.id, b.kind, b.tags) {
				return
			}
		}
	}
	keep := func(t tagOf) bool {
		return match(filters, map[string]string{t.key: t.value}, func(name string) []string {
			return []string{map[string]string{"key": t.key, "resource-id": t.id, "resource-type": t.kind, "value": t.value}[name]}
		})
	}
	return paged(c, w, "tagSet", usual, all, keep, func(t tagOf) {
		w.text("resourceId", t.id)
		w.text("resourceType", t.kind)
		w.text("key", t.key)
		w.text("value", t.value)
	})
}
