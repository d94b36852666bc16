package securitygroup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sync/errgroup"

	"sekisho/internal/securitygroup/ec2test"
)

func addresses(from, n int) []Entry {
	var list []Entry
	for i := range n {
		list = append(list, Entry{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte((from + i) / 250), byte((from + i) % 250)}), 32), Description: fmt.Sprintf("hanako %d", from+i)})
	}
	return list
}

var listOptions = []cmp.Option{cmpopts.EquateComparable(netip.Prefix{}), cmpopts.SortSlices(func(a, b Entry) bool { return a.Prefix.Compare(b.Prefix) < 0 })}

func TestLists(t *testing.T) {
	s, c := begin(t, Options{})
	ctx := t.Context()
	s.SetSettling(20 * time.Millisecond)
	tags := map[string]string{TagManaged: "yes", TagList: "ops"}
	made, err := c.CreateList(ctx, here, PrefixList{Name: "sekisho ops", Family: 4, Max: 400, Tags: tags, Entries: addresses(0, 250)}, "token-1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.CreateList(ctx, here, PrefixList{Name: "sekisho ops", Family: 4, Max: 400, Tags: tags, Entries: addresses(0, 100)}, "token-2")
	if err != nil {
		t.Fatal(err)
	}
	s.AddPrefixList(there, ec2test.PrefixList{Name: "others'"})

	check := func(what string, want PrefixList) {
		t.Helper()
		got, err := c.Lists(ctx, here, ListQuery{IDs: []string{made.ID}}, true)
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %v, %v", what, got, err)
		}
		if diff := cmp.Diff(want, got[0], append(listOptions, cmpopts.IgnoreFields(PrefixList{}, "State"))...); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
		if !strings.HasSuffix(got[0].State, "-complete") {
			t.Errorf("%s: state %s", what, got[0].State)
		}
	}
	want := PrefixList{ID: made.ID, Name: "sekisho ops", Owner: ec2test.DefaultAccount, Family: 4, Max: 400, Version: made.Version, Tags: tags, Entries: addresses(0, 250)}
	check("CreateList", want)
	if diff := cmp.Diff(want, made, append(listOptions, cmpopts.IgnoreFields(PrefixList{}, "State"))...); diff != "" {
		t.Errorf("CreateList: -want +got:\n%s", diff)
	}
	for name, tt := range map[string]struct {
		q    ListQuery
		want []string
	}{
		"by tag":   {ListQuery{Tags: ManagedTags()}, []string{made.ID, again.ID}},
		"by both":  {ListQuery{IDs: []string{again.ID, "pl-0123456789abcdef0"}, Tags: tags}, []string{again.ID}},
		"by none":  {ListQuery{IDs: []string{"pl-0123456789abcdef0"}}, nil},
		"by value": {ListQuery{Tags: map[string]string{TagList: "others"}}, nil},
	} {
		lists, err := c.Lists(ctx, here, tt.q, false)
		var got []string
		for _, l := range lists {
			got = append(got, l.ID)
			if l.Entries != nil {
				t.Errorf("%s: entries nobody asked for", name)
			}
		}
		slices.Sort(got)
		slices.Sort(tt.want)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, tt.want)
		}
	}

	// 250 out and 230 in take three calls.
	s.ForgetCalls()
	version, err := c.ModifyList(ctx, here, made.ID, made.Version, addresses(1000, 230), addresses(0, 250))
	if n := count(s, "ModifyManagedPrefixList", ""); err != nil || version != made.Version+3 || n != 3 {
		t.Errorf("version %d after %d by %d calls, %v", version, made.Version, n, err)
	}
	want.Version, want.Entries = version, addresses(1000, 230)
	check("ModifyList", want)
	if got, err := c.ModifyList(ctx, here, made.ID, version, nil, nil); got != version || err != nil {
		t.Errorf("nothing to modify: %v, %v", got, err)
	}
	if got, err := c.ModifyList(ctx, here, made.ID, made.Version, addresses(0, 1), nil); !IsVersionMismatch(err) || got != made.Version {
		t.Errorf("at an old version: %v, %v", got, err)
	}
	if err := c.ResizeList(ctx, here, made.ID, 230); err != nil {
		t.Error(err)
	}
	want.Max = 230
	check("ResizeList", want)
	if _, err := c.ModifyList(ctx, here, made.ID, version, addresses(0, 1), nil); !IsQuota(err) {
		t.Errorf("into a full list: %v", err)
	}
	if err := c.Tag(ctx, here, made.ID, map[string]string{TagList: "dev"}); err != nil {
		t.Error(err)
	}

	small := s.AddPrefixList(there, ec2test.PrefixList{MaxEntries: 10})
	group := s.AddGroup(there, ec2test.Group{}, ec2test.Rule{From: 22, PrefixList: small})
	if err := c.DeleteList(ctx, here, small); !IsBusy(err) {
		t.Errorf("a list that is in use: %v", err)
	}
	if err := c.ResizeList(ctx, here, small, 100); err == nil || Hint(err) == "" {
		t.Errorf("a list that %s has no room for: %v, hint %q", group, err, Hint(err))
	}
	if err := c.DeleteList(ctx, here, made.ID); err != nil {
		t.Error(err)
	}
	if err := c.DeleteList(ctx, here, "pl-0123456789abcdef0"); !IsNotFound(err) || IsNoGroup(err) {
		t.Errorf("a list that is not there: %v", err)
	}
}

// Two who modify a list at once: one does, and the other is told.
func TestListModifiedByTwo(t *testing.T) {
	s, c := begin(t, Options{})
	s.SetSettling(100 * time.Millisecond)
	id := s.AddPrefixList(there, ec2test.PrefixList{MaxEntries: 10})
	var g errgroup.Group
	lost := make([]error, 2)
	for i := range 2 {
		g.Go(func() error {
			_, lost[i] = c.ModifyList(t.Context(), here, id, 1, addresses(i, 1), nil)
			return nil
		})
	}
	_ = g.Wait() // they do not fail
	if (lost[0] == nil) == (lost[1] == nil) || !IsVersionMismatch(lost[0]) && !IsVersionMismatch(lost[1]) {
		t.Errorf("%v and %v", lost[0], lost[1])
	}
}

// A list is waited for also where reads show the past.
func TestListIsStale(t *testing.T) {
	s, c := begin(t, Options{})
	s.SetStaleness(300 * time.Millisecond)
	l, err := c.CreateList(t.Context(), here, PrefixList{Name: "x", Family: 6, Max: 3}, "")
	if err != nil || l.Family != 6 || l.Version != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	version, err := c.ModifyList(t.Context(), here, l.ID, l.Version, []Entry{{Prefix: netip.MustParsePrefix("2001:db8::1/128")}}, nil)
	if err != nil || version != 2 {
		t.Errorf("version %d, %v", version, err)
	}
	if err := c.ResizeList(t.Context(), here, l.ID, 5); err != nil {
		t.Error(err)
	}
}

// A list that is deleted while the entries of all are read is not among them.
func TestListDeletedMeanwhile(t *testing.T) {
	s, c := begin(t, Options{})
	stays := s.AddPrefixList(there, ec2test.PrefixList{MaxEntries: 1})
	s.AddPrefixList(there, ec2test.PrefixList{MaxEntries: 1})
	s.Inject(ec2test.Fault{Action: "GetManagedPrefixListEntries", Skip: 1, Code: "InvalidPrefixListID.NotFound"})
	lists, err := c.Lists(t.Context(), here, ListQuery{}, true)
	if err != nil || len(lists) != 1 || lists[0].Entries == nil {
		t.Errorf("%v, %v, want one of two, such as %s", lists, err, stays)
	}
}
