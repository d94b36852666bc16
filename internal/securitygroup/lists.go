package securitygroup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"

	"sekisho/internal/printable"
)

const (
	listPage    = 100 // the most that a page of lists or of entries may have
	listChanges = 100 // the most that one call may add, and remove
	listSettles = time.Minute
)

// ListQuery says which lists are wanted. The zero value: all that the place has and that
// AWS and others share with it.
type ListQuery struct {
	IDs  []string          // one of these: pl-...; what is not there is left out
	Tags map[string]string // with all of these, at these values
}

// Lists reads managed prefix lists, with their entries where those are asked for.
func (c *Cloud) Lists(ctx context.Context, p Place, q ListQuery, withEntries bool) ([]PrefixList, error) {
	var lists []PrefixList
	for ids := range chunks(q.IDs) {
		in := &ec2.DescribeManagedPrefixListsInput{MaxResults: aws.Int32(listPage), Filters: filters(nil, filter("prefix-list-id", ids))}
		for {
			out, err := call(ctx, c, p, "", (*ec2.Client).DescribeManagedPrefixLists, in)
			if err != nil {
				return nil, err
			}
			for _, said := range out.PrefixLists {
				// The API documents no filter by tags for these.
				if l := prefixList(&said); hasTags(l.Tags, q.Tags) {
					lists = append(lists, l)
				}
			}
			if aws.ToString(out.NextToken) == "" {
				break
			}
			in.NextToken = out.NextToken
		}
	}
	if !withEntries {
		return lists, nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.options.InFlight)
	for i := range lists {
		g.Go(func() (err error) {
			lists[i].Entries, err = c.entries(ctx, p, lists[i])
			if IsNotFound(err) {
				return nil // it was deleted meanwhile
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(lists, func(l PrefixList) bool { return l.Entries == nil }), nil
}

func hasTags(tags, want map[string]string) bool {
	for key, value := range want {
		if got, ok := tags[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// entries reads those of the version that l has, never nil. Those that are no prefixes are
// left out.
func (c *Cloud) entries(ctx context.Context, p Place, l PrefixList) ([]Entry, error) {
	in := &ec2.GetManagedPrefixListEntriesInput{PrefixListId: aws.String(l.ID), MaxResults: aws.Int32(listPage)}
	if l.Version > 0 {
		in.TargetVersion = aws.Int64(l.Version)
	}
	entries := make([]Entry, 0, min(max(l.Max, 0), listPage))
	for {
		out, err := call(ctx, c, p, l.ID, (*ec2.Client).GetManagedPrefixListEntries, in)
		if err != nil {
			return nil, err
		}
		for _, e := range out.Entries {
			if at, raw := prefix(aws.ToString(e.Cidr)); raw == "" {
				entries = append(entries, Entry{Prefix: at, Description: aws.ToString(e.Description)})
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return entries, nil
		}
		in.NextToken = out.NextToken
	}
}

func prefixList(said *types.ManagedPrefixList) PrefixList {
	l := PrefixList{
		ID: aws.ToString(said.PrefixListId), Name: aws.ToString(said.PrefixListName), Owner: aws.ToString(said.OwnerId),
		Family: 4, Max: int(aws.ToInt32(said.MaxEntries)), Version: aws.ToInt64(said.Version), State: string(said.State), Tags: tagMap(said.Tags),
	}
	if aws.ToString(said.AddressFamily) == "IPv6" {
		l.Family = 6
	}
	return l
}

// CreateList makes a list of l's Name, Family, Max, Tags and Entries, and returns it when
// it can be used, or after a minute with an error. The same token makes it once, however
// often it is asked for. Where an error comes with a list, there is one of that id.
func (c *Cloud) CreateList(ctx context.Context, p Place, l PrefixList, token string) (PrefixList, error) {
	now, later := l.Entries, []Entry(nil)
	if len(now) > listChanges {
		now, later = now[:listChanges], now[listChanges:]
	}
	in := &ec2.CreateManagedPrefixListInput{
		PrefixListName: aws.String(l.Name), AddressFamily: aws.String(fmt.Sprintf("IPv%d", l.Family)), MaxEntries: aws.Int32(int32(l.Max)), Entries: added(now),
	}
	if token != "" {
		in.ClientToken = aws.String(token)
	}
	if len(l.Tags) > 0 {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypePrefixList, Tags: tagList(l.Tags)}}
	}
	name := action[ec2.CreateManagedPrefixListInput]()
	out, err := call(ctx, c, p, "", (*ec2.Client).CreateManagedPrefixList, in)
	if err != nil {
		return PrefixList{}, err
	}
	if out.PrefixList == nil {
		return PrefixList{}, c.failed(p, nil, name, "", fmt.Errorf("the answer names no list"))
	}
	made := prefixList(out.PrefixList)
	settled, err := c.settled(ctx, p, name, made.ID, "create", anyhow)
	if err != nil {
		return made, err
	}
	if len(later) > 0 {
		if settled.Version, err = c.ModifyList(ctx, p, made.ID, settled.Version, later, nil); err != nil {
			return settled, err
		}
		settled.State = string(types.PrefixListStateModifyComplete)
	}
	settled.Entries = slices.Clone(l.Entries)
	return settled, nil
}

func anyhow(PrefixList) bool { return true }

func added(entries []Entry) []types.AddPrefixListEntry {
	var list []types.AddPrefixListEntry
	for _, e := range entries {
		add := types.AddPrefixListEntry{Cidr: aws.String(e.Prefix.Masked().String())}
		if e.Description != "" {
			add.Description = aws.String(e.Description)
		}
		list = append(list, add)
	}
	return list
}

// ModifyList adds and removes entries of the list as it was at that version, and returns
// the version that it has when that has been done. More than 100 of either are done in
// parts: where an error comes with another version than the one that was given, those
// before have been done.
func (c *Cloud) ModifyList(ctx context.Context, p Place, id string, version int64, add, remove []Entry) (int64, error) {
	name := action[ec2.ModifyManagedPrefixListInput]()
	for len(add)+len(remove) > 0 {
		in := &ec2.ModifyManagedPrefixListInput{PrefixListId: aws.String(id), CurrentVersion: aws.Int64(version)}
		n, m := min(len(add), listChanges), min(len(remove), listChanges)
		in.AddEntries = added(add[:n])
		for _, e := range remove[:m] {
			in.RemoveEntries = append(in.RemoveEntries, types.RemovePrefixListEntry{Cidr: aws.String(e.Prefix.Masked().String())})
		}
		_, err := call(ctx, c, p, id, (*ec2.Client).ModifyManagedPrefixList, in)
		if IsBusy(err) {
			if _, err = c.settled(ctx, p, name, id, "", anyhow); err == nil {
				_, err = call(ctx, c, p, id, (*ec2.Client).ModifyManagedPrefixList, in)
			}
		}
		if err != nil {
			return version, err
		}
		now, err := c.settled(ctx, p, name, id, "modify", func(now PrefixList) bool { return now.Version > version })
		if err != nil {
			return version, err
		}
		version = now.Version
		add, remove = add[n:], remove[m:]
	}
	return version, nil
}

// ResizeList changes how many entries the list may hold. Every group that names it must
// have room for as many rules.
func (c *Cloud) ResizeList(ctx context.Context, p Place, id string, size int) error {
	_, err := call(ctx, c, p, id, (*ec2.Client).ModifyManagedPrefixList, &ec2.ModifyManagedPrefixListInput{PrefixListId: aws.String(id), MaxEntries: aws.Int32(int32(size))})
	if err != nil {
		return err
	}
	_, err = c.settled(ctx, p, action[ec2.ModifyManagedPrefixListInput](), id, "modify", func(now PrefixList) bool { return now.Max == size })
	return err
}

// DeleteList deletes the list, and returns when it is gone. IsBusy: a group still names it.
func (c *Cloud) DeleteList(ctx context.Context, p Place, id string) error {
	_, err := call(ctx, c, p, id, (*ec2.Client).DeleteManagedPrefixList, &ec2.DeleteManagedPrefixListInput{PrefixListId: aws.String(id)})
	if err != nil {
		return err
	}
	_, err = c.settled(ctx, p, action[ec2.DeleteManagedPrefixListInput](), id, "delete", func(now PrefixList) bool {
		return now.State == string(types.PrefixListStateDeleteComplete)
	})
	return err
}

// settled waits until nothing is being done to the list and is says that it is as it should
// be, for at most a minute. That what was begun (create, modify, delete) has failed is an
// error. A list that EC2 does not show is waited for, or has been deleted.
func (c *Cloud) settled(ctx context.Context, p Place, name, id, begun string, is func(PrefixList) bool) (PrefixList, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, listSettles, fmt.Errorf("the list did not settle in %v", listSettles))
	defer cancel()
	in := &ec2.DescribeManagedPrefixListsInput{Filters: filters(nil, filter("prefix-list-id", []string{id}))}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		out, err := call(ctx, c, p, id, (*ec2.Client).DescribeManagedPrefixLists, in)
		if err != nil {
			return PrefixList{}, err
		}
		switch {
		case len(out.PrefixLists) == 0 && begun == "delete":
			return PrefixList{}, nil
		case len(out.PrefixLists) > 0:
			said := &out.PrefixLists[0]
			l := prefixList(said)
			if begun != "" && l.State == begun+"-failed" {
				return l, &Error{Place: p, Action: name, Group: id, Code: l.State, Message: printable.Text(aws.ToString(said.StateMessage)), account: c.options.Accounts[p.Account]}
			}
			if !strings.HasSuffix(l.State, "-in-progress") && is(l) {
				return l, nil
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return PrefixList{}, c.failed(p, nil, name, id, context.Cause(ctx))
		}
	}
}
