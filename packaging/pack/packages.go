package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"
)

const (
	description = "the checkpoint in front of SSH\n" +
		"Decides who reaches SSH at all, reads what sshd says, and bans who attacks it,\n" +
		"in the kernel. A change of its rules reverts by itself unless a new login came\n" +
		"through it."
	// What every dpkg and rpm knows. xz saves a tenth, and takes ten times as long.
	compression = "gzip"
)

// ours are the folders that go with the package: those that are its alone, and those that may
// not be there without it. dpkg would know by itself, rpm does not.
var ours = regexp.MustCompile(`/sekisho(/|$)|^/usr/share/(fish|zsh|bash-completion)(/|$)|^/usr/lib/(systemd/system|sysusers.d)$`)

// packages makes the .deb and the .rpm of a tree, which is / there.
func (p pack) packages(tree string) error {
	if err := compressManuals(tree); err != nil {
		return err
	}
	for _, packager := range []interface {
		nfpm.Packager
		ConventionalExtension() string
	}{deb.Default, rpm.DefaultRPM} {
		info := p.info()
		isRPM := packager.ConventionalExtension() == ".rpm"
		if isRPM {
			info.Depends = []string{"/bin/sh", "shadow-utils"}
			_, info.Description, _ = strings.Cut(description, "\n") // the first line is Summary
		}
		var err error
		if info.Contents, err = p.contents(tree, isRPM); err != nil {
			return err
		}
		info = nfpm.WithDefaults(info)
		if err := nfpm.PrepareForPackager(info, strings.TrimPrefix(packager.ConventionalExtension(), ".")); err != nil {
			return err
		}
		var b bytes.Buffer
		if err := packager.Package(info, &b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(p.out, packager.ConventionalFileName(info)), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (p pack) info() *nfpm.Info {
	info := &nfpm.Info{
		Name: "sekisho", Arch: p.arch, Platform: "linux",
		Version: p.version, VersionSchema: "none", Release: "1",
		Section: "admin", Priority: "optional", Maintainer: "The Sekisho maintainers <maintainers@sekisho.invalid>",
		Description: description, License: "Apache-2.0", MTime: p.at, DisableGlobbing: true,
	}
	info.Umask = 0o022
	info.Depends = []string{"passwd"}
	info.Scripts = nfpm.Scripts{
		PostInstall: filepath.Join(p.scripts, "postinst"), PreRemove: filepath.Join(p.scripts, "prerm"), PostRemove: filepath.Join(p.scripts, "postrm"),
	}
	info.Deb.Compression = compression
	info.RPM.Compression, info.RPM.BuildHost, info.RPM.Summary = compression, "localhost", "The checkpoint in front of SSH"
	return info
}

// contents are the files of a tree, and the folders that are ours alone. docs marks those
// that rpm may leave out.
func (p pack) contents(tree string, docs bool) (files.Contents, error) {
	var all files.Contents
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == tree {
			return err
		}
		place := strings.TrimPrefix(path, tree)
		c := &files.Content{Destination: place, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", MTime: p.at}}
		switch {
		case !d.IsDir():
			info, err := d.Info()
			if err != nil {
				return err
			}
			c.Source, c.FileInfo.Mode = path, info.Mode().Perm()
			if docs && strings.HasPrefix(place, "/usr/share/doc/") {
				c.Type = files.TypeRPMDoc
			}
		case ours.MatchString(place):
			c.Type, c.FileInfo.Mode = files.TypeDir, 0o755
		default:
			return nil
		}
		all = append(all, c)
		return nil
	})
	return all, err
}

// compressManuals compresses manual pages, without a name and a time.
func compressManuals(tree string) error {
	pages, err := filepath.Glob(filepath.Join(tree, "usr/share/man/man*/*.[0-9]"))
	if err != nil {
		return err
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		packed, err := compress(text)
		if err != nil {
			return err
		}
		if err := os.WriteFile(page+".gz", packed, 0o644); err != nil {
			return err
		}
		if err := os.Remove(page); err != nil {
			return err
		}
	}
	return nil
}

func compress(text []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
