// Package durable has the file system keep what was done in it: written, renamed,
// removed. Everything may import it; it imports nothing of ours.
package durable

import "os"

// SyncDir returns when a crash undoes nothing any more that was done in dir before:
// a file that was made, renamed or removed there.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
