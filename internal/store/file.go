package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sekisho/internal/durable"
	"sekisho/internal/statefile"
)

// keepAside is how many damaged files are kept: a disk that rots on and on must
// not be filled by us.
const keepAside = 4

// setAside renames what is at path, with its log, and returns the new name.
func setAside(path string, now time.Time) (string, error) {
	aside := path + ".corrupt-" + now.UTC().Format("20060102T150405Z")
	for i := 2; ; i++ {
		if _, err := os.Lstat(aside); err != nil {
			break
		}
		aside = fmt.Sprintf("%s.corrupt-%s-%d", path, now.UTC().Format("20060102T150405Z"), i)
	}
	for _, tail := range statefile.Tails {
		if err := os.Rename(path+tail, aside+tail); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	forgetAside(path, aside)
	return aside, durable.SyncDir(filepath.Dir(path))
}

// forgetAside removes the oldest set-aside files beyond keepAside. It is a
// courtesy to the disk: what cannot be removed stays.
func forgetAside(path, newest string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(filepath.Dir(path), e.Name())
		if rest, ok := strings.CutPrefix(name, path+".corrupt-"); ok && name != newest &&
			!strings.HasSuffix(rest, "-wal") && !strings.HasSuffix(rest, "-shm") && !strings.HasSuffix(rest, "-journal") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names[:max(0, len(names)-(keepAside-1))] {
		for _, tail := range statefile.Tails {
			os.Remove(name + tail)
		}
	}
}
