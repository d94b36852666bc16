package ownaddr

import (
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"sekisho/internal/durable"
)

const (
	keep       = 5 * time.Minute
	maxEntries = 32 // the newest; a machine has a few networks
	maxCache   = 64 << 10
	format     = 1
)

// entry is an answer that is kept.
type entry struct {
	Family Family     `json:"family"`
	From   netip.Addr `json:"from"` // where the route to the target began
	Addr   netip.Addr `json:"addr"`
	By     []string   `json:"by"`
	At     time.Time  `json:"at"`

	Disagreed map[string]netip.Addr `json:"disagreed,omitempty"`
}

// good reports whether it holds at a time. A file may say anything.
func (e entry) good(now time.Time) bool {
	age := now.Sub(e.At)
	return (e.Family == IPv4 || e.Family == IPv6) && e.Addr.IsValid() && FamilyOf(e.Addr) == e.Family && e.Addr == plain(e.Addr) && Public(e.Addr) &&
		len(e.By) > 0 && age >= 0 && age < keep
}

// remembered is a kept answer.
func (f *Finder) remembered(family Family, from netip.Addr) (Answer, bool) {
	for _, e := range f.read() {
		if e.Family == family && e.From == from {
			return Answer{Addr: e.Addr, By: e.By, Disagreed: e.Disagreed, Cached: true}, true
		}
	}
	return Answer{}, false
}

// read is what the file holds that is good. One that is broken holds nothing.
func (f *Finder) read() []entry {
	if f.Cache == "" {
		return nil
	}
	text, err := readFile(f.Cache)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var entries []entry
	if err == nil {
		err = durable.Unseal(text, "addresses", format, &entries)
	}
	if err != nil {
		f.log().Debug("the file of our own addresses is left out of account", "file", f.Cache, "error", err.Error())
		return nil
	}
	now := f.time()
	return slices.DeleteFunc(entries, func(e entry) bool { return !e.good(now) })
}

func readFile(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would hold us up
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("it is no regular file"))
	}
	return io.ReadAll(io.LimitReader(file, maxCache)) // a longer one is torn, then
}

// remember keeps an answer. Two that do it at once keep that of one of them.
func (f *Finder) remember(family Family, from netip.Addr, a Answer) {
	if f.Cache == "" {
		return
	}
	entries := slices.DeleteFunc(f.read(), func(e entry) bool { return e.Family == family && e.From == from })
	entries = append([]entry{{Family: family, From: from, Addr: a.Addr, By: a.By, At: f.time().UTC().Round(0), Disagreed: a.Disagreed}}, entries...)
	text, err := durable.Seal("addresses", format, entries[:min(len(entries), maxEntries)])
	if err == nil {
		err = os.MkdirAll(filepath.Dir(f.Cache), 0o700)
	}
	if err == nil {
		err = durable.Replace(f.Cache, text, nil)
	}
	if err != nil {
		f.log().Debug("our own address is not kept", "file", f.Cache, "error", err.Error())
	}
}

// Forget drops what is kept: the door did not open for it.
func (f *Finder) Forget() error {
	if f.Cache == "" {
		return nil
	}
	if err := os.Remove(f.Cache); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
