// Package intent keeps what the processes of one user on this machine have asked to be
// opened: written down before it is asked for, shared by all who need the same door, and
// ended by the last of them. What a process holds ends with it, however it ends. A
// mechanism: it owns one folder, and knows nothing of clouds.
package intent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sekisho/internal/durable"
)

// State is how far an intent has come.
type State string

// The states.
const (
	Asked  State = "asked"  // written down; it may be open already, or never come to be
	Open   State = "open"   // it was opened
	Ending State = "ending" // the last who needed it is closing it
)

// Key is a door, for somebody, for an address.
type Key struct {
	Target string       `json:"target"`
	Person string       `json:"person"`
	Prefix netip.Prefix `json:"prefix"`
}

// Entry is one intent.
type Entry struct {
	Key
	Lease string    `json:"lease"`          // its id
	Rule  string    `json:"rule,omitempty"` // that holds it, where it is known
	State State     `json:"state"`
	From  time.Time `json:"from"`  // by this machine's clock
	Until time.Time `json:"until"` // by AWS's
	Ends  time.Time `json:"ends"`  // the same by this machine's, but for what a call takes
	// Fresh is until when, by this machine's clock, others may rely on it.
	Fresh time.Time `json:"fresh,omitzero"`
	// Guest: others need it too, who cannot be seen from here: it is left to end by itself.
	Guest bool `json:"guest,omitempty"`
}

// Usable reports whether what e says can be relied on at now.
func (e Entry) Usable(now time.Time) bool {
	return e.State == Open && !now.Before(e.From) && now.Before(e.Fresh)
}

// Book is the folder. It is safe for concurrent use, by any number of processes.
type Book struct{ dir string }

const (
	locks  = "locks"
	suffix = ".json"
	keep   = 24 * time.Hour // entries that nobody ended, after their end
)

// In opens the book in dir, which is made if need be. What ended long ago is forgotten.
func In(dir string) (*Book, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep what is opened: %w", err)
	}
	b := &Book{dir}
	entries, _ := b.Entries() // what cannot be read now, cannot be forgotten
	for _, e := range entries {
		if time.Since(e.Until) > keep {
			b.forget(e.Key)
		}
	}
	return b, nil
}

// forget takes away the entry of a key, if it ended long ago and nobody is at it.
func (b *Book) forget(key Key) {
	now, done := context.WithCancel(context.Background())
	done() // nobody is waited for
	u, err := b.Enter(now, key)
	if err != nil {
		return
	}
	defer u.file.Close()
	if e, ok := u.Entry(); ok && time.Since(e.Until) > keep {
		_ = u.Forget() // the next one does
	}
}

// Entries are all intents that are written down, those of others who are at it, too.
func (b *Book) Entries() ([]Entry, error) {
	files, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, fmt.Errorf("read what is opened: %w", err)
	}
	var entries []Entry
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), suffix) {
			continue
		}
		if e, ok := read(filepath.Join(b.dir, f.Name())); ok {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// Use is one process' use of one door. It is not safe for concurrent use.
type Use struct {
	book *Book
	key  Key
	file *os.File // of its own, for the locks are its description's: the kernel drops them with it
	at   int64
}

// Enter waits until no other process changes the entry of key, and keeps all others from
// it until Hold, Leave or Done.
func (b *Book) Enter(ctx context.Context, key Key) (*Use, error) {
	f, err := os.OpenFile(filepath.Join(b.dir, locks), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep what is opened: %w", err)
	}
	h := fnv.New64a()
	h.Write([]byte(b.name(key)))
	u := &Use{book: b, key: key, file: f, at: int64(h.Sum64()>>2) &^ 1}
	if err := u.enter(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return u, nil
}

// Two bytes of the file of locks stand for a key: who changes its entry has the first
// alone, who needs the door has the second together with others.
func (u *Use) mutex() int64 { return u.at }
func (u *Use) users() int64 { return u.at + 1 }

func (u *Use) enter(ctx context.Context) error {
	wait := time.Millisecond
	for {
		ok, err := u.lock(unix.F_WRLCK, u.mutex())
		if ok || err != nil {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		wait = min(2*wait, 20*time.Millisecond)
	}
}

// lock takes a lock, or says that others have it.
func (u *Use) lock(kind int16, at int64) (bool, error) {
	err := unix.FcntlFlock(u.file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: at, Len: 1})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", u.file.Name(), err)
	}
	return true, nil
}

func (u *Use) unlock(at int64) error {
	_, err := u.lock(unix.F_UNLCK, at)
	return err
}

// Entry is what is written down; ok is false where nothing is.
func (u *Use) Entry() (e Entry, ok bool) {
	e, ok = read(u.book.path(u.key))
	return e, ok && e.Key == u.key
}

// Write writes e down, for good when it returns.
func (u *Use) Write(e Entry) error {
	e.Key = u.key
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := durable.Replace(u.book.path(u.key), append(raw, '\n'), nil); err != nil {
		return fmt.Errorf("keep what is opened: %w", err)
	}
	return nil
}

// Forget takes the entry away.
func (u *Use) Forget() error {
	if err := os.Remove(u.book.path(u.key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Hold says that this process needs the door until Leave, and lets others at the entry.
func (u *Use) Hold() error {
	ok, err := u.lock(unix.F_RDLCK, u.users())
	if err == nil && !ok {
		err = errors.New("somebody ends what is in use") // nobody does: that takes the mutex
	}
	return errors.Join(err, u.unlock(u.mutex()))
}

// Again keeps all others from the entry once more, as Enter did.
func (u *Use) Again(ctx context.Context) error { return u.enter(ctx) }

// Leave says that this process needs the door no longer. Where last is true no other does:
// the entry is ours then until Done.
func (u *Use) Leave(ctx context.Context) (last bool, err error) {
	if err := u.enter(ctx); err != nil {
		return false, err
	}
	if err := u.unlock(u.users()); err != nil {
		return false, err
	}
	last, err = u.lock(unix.F_WRLCK, u.users())
	if err != nil || !last {
		return false, errors.Join(err, u.unlock(u.mutex()))
	}
	return true, u.unlock(u.users())
}

// Done lets others at the entry. A process that held the door holds it no longer.
func (u *Use) Done() error { return u.file.Close() }

func (b *Book) name(k Key) string { return k.Target + "\x00" + k.Person + "\x00" + k.Prefix.String() }

// path is the file of a key's entry.
func (b *Book) path(k Key) string {
	h := fnv.New64a()
	h.Write([]byte(b.name(k)))
	return filepath.Join(b.dir, fmt.Sprintf("%016x%s", h.Sum64(), suffix))
}

// read reads an entry; one that cannot be read is none.
func read(path string) (e Entry, ok bool) {
	raw, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(raw, &e) != nil {
		return Entry{}, false
	}
	return e, true
}
