package country

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sekisho/internal/durable"
)

// snapshot is what gensnapshot wrote; it is only read.
//
//go:embed snapshot.bin
var snapshot []byte

// Embedded is the data that the program has in it, for a start without a network.
func Embedded() (*Data, error) {
	d, err := open(snapshot[:len(snapshot)-sha256.Size])
	if err != nil {
		return nil, fmt.Errorf("the snapshot in the program: %w", err)
	}
	d.Embedded = true
	return d, nil
}

// EmbeddedSize is how many bytes the snapshot takes in the program.
func EmbeddedSize() int { return len(snapshot) }

// generations is how many accepted data a cache holds: the last and two before it.
const generations = 3

// cache is a directory of accepted data. Each generation is two files, N.data and
// then N.json, its manifest: what has no manifest was never finished.
type cache struct{ dir string }

// manifest describes a generation.
type manifest struct {
	SHA256   string               `json:"sha256"` // of N.data
	Source   string               `json:"source"`
	Accepted time.Time            `json:"accepted"`
	Seen     map[string]validator `json:"seen,omitempty"` // by URL
}

// validator is what a server wants back to say that nothing has changed.
type validator struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

// numbers are the finished generations, the newest first.
func (c cache) numbers() ([]uint64, error) {
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		n, err := strconv.ParseUint(name, 10, 63)
		if ok && err == nil {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

func (c cache) path(n uint64, ext string) string {
	return filepath.Join(c.dir, strconv.FormatUint(n, 10)+ext)
}

// load is the newest generation that is whole. d is nil if there is none; err
// tells what was damaged, also where an older generation stands in.
func (c cache) load() (d *Data, m manifest, err error) {
	numbers, err := c.numbers()
	if err != nil {
		return nil, m, fmt.Errorf("read the cache of country data: %w", err)
	}
	var errs []error
	for _, n := range numbers {
		d, m, err := c.read(n)
		if err == nil {
			return d, m, errors.Join(errs...)
		}
		errs = append(errs, fmt.Errorf("read the cache of country data: %w", err))
	}
	return nil, manifest{}, errors.Join(errs...)
}

func (c cache) read(n uint64) (*Data, manifest, error) {
	var m manifest
	text, err := readBounded(c.path(n, ".json"), 1<<20)
	if err != nil {
		return nil, m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, m, fmt.Errorf("%s: %w", c.path(n, ".json"), err)
	}
	content, err := readBounded(c.path(n, ".data"), maxMMDB)
	if err != nil {
		return nil, m, err
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != m.SHA256 {
		return nil, m, fmt.Errorf("%s: %w: it is not what its manifest says", c.path(n, ".data"), errDamaged)
	}
	d, err := Open(content)
	if err != nil {
		return nil, m, fmt.Errorf("%s: %w", c.path(n, ".data"), err)
	}
	d.Accepted = m.Accepted
	return d, m, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return content, err
}

// store adds a generation, and forgets the oldest. When it returns without an
// error, a crash will not undo it; when it does not return, nothing has changed.
func (c cache) store(content []byte, m manifest) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	// The daemon and a command may want to at the same time.
	lock, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	numbers, err := c.numbers()
	if err != nil {
		return err
	}
	next := uint64(1)
	if len(numbers) > 0 {
		next = numbers[0] + 1
	}
	sum := sha256.Sum256(content)
	m.SHA256 = hex.EncodeToString(sum[:])
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(c.path(next, ".data"), content); err != nil {
		return err
	}
	if err := writeFile(c.path(next, ".json"), append(text, '\n')); err != nil {
		return err
	}
	c.prune(append([]uint64{next}, numbers...))
	return nil
}

// prune removes all but the newest generations, and what was never finished. What
// cannot be removed does no harm.
func (c cache) prune(numbers []uint64) {
	keep := map[string]bool{"lock": true}
	for _, n := range numbers[:min(len(numbers), generations)] {
		keep[filepath.Base(c.path(n, ".data"))] = true
		keep[filepath.Base(c.path(n, ".json"))] = true
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	slices.Reverse(entries) // a manifest goes before its data
	for _, e := range entries {
		if !keep[e.Name()] {
			os.Remove(filepath.Join(c.dir, e.Name()))
		}
	}
}

// writeFile writes a file that is there whole or not at all, and stays.
func writeFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain when all went well
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}
