package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// archive makes the .tar.gz: a folder with all that packaging/install.sh installs, and that.
func (p pack) archive(dir string) error {
	name := fmt.Sprintf("sekisho-%s-linux-%s", p.version, p.arch)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // sorted
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h := &tar.Header{
			Name: name + strings.TrimPrefix(path, dir), Typeflag: tar.TypeReg, Mode: int64(info.Mode().Perm()), Size: info.Size(),
			Uname: "root", Gname: "root", ModTime: p.at, Format: tar.FormatUSTAR,
		}
		if d.IsDir() {
			h.Name, h.Typeflag, h.Mode, h.Size = h.Name+"/", tar.TypeDir, 0o755, 0
			return w.WriteHeader(h)
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	packed, err := compress(b.Bytes())
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.out, name+".tar.gz"), packed, 0o644)
}

// writeSums writes SHA256SUMS of what is there, for sha256sum -c, and prints sizes.
func writeSums(out string) error {
	entries, err := os.ReadDir(out) // sorted
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, entry := range entries {
		if entry.Name() == "SHA256SUMS" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(out, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(text), entry.Name())
		fmt.Printf("%10.1f KiB  %s\n", float64(len(text))/1024, filepath.Join(out, entry.Name()))
	}
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), sums.Bytes(), 0o644)
}
