package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestScripts: what dpkg and rpm run is sh, to dash too.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join("scripts", "*"))
	if err != nil || len(scripts) != 3 {
		t.Fatalf("%d scripts: %v", len(scripts), err)
	}
	for _, shell := range []string{"sh", "dash"} {
		if _, err := exec.LookPath(shell); err != nil {
			t.Logf("no %s", shell)
			continue
		}
		for _, script := range append(scripts, "install.sh") {
			if out, err := exec.CommandContext(t.Context(), shell, "-n", script).CombinedOutput(); err != nil {
				t.Errorf("%s -n %s: %v: %s", shell, script, err, out)
			}
		}
	}
}

// TestInstall: make install, by whoever has no packages, puts each file where the list says, and
// make uninstall takes each away.
func TestInstall(t *testing.T) {
	tree := copyOfTree(t)
	write(t, filepath.Join(tree, "bin", "sekisho"), "#!/bin/sh\n", 0o755)
	for _, name := range []string{"completion/sekisho", "completion/_sekisho", "completion/sekisho.fish", "man/sekisho.1"} {
		write(t, filepath.Join(tree, "bin", name), name, 0o644)
	}
	root := t.TempDir()
	script(t, tree, root, "install")
	for name, mode := range map[string]fs.FileMode{
		"usr/local/bin/sekisho": 0o755, "usr/local/lib/systemd/system/sekisho.service": 0o644, "usr/local/lib/sysusers.d/sekisho.conf": 0o644,
		"usr/local/share/man/man1/sekisho.1": 0o644, "usr/local/share/doc/sekisho/docs/firewall.md": 0o644, "usr/local/share/doc/sekisho/sekisho.yaml": 0o644,
		"usr/local/share/bash-completion/completions/sekisho": 0o644, "etc/sekisho": fs.ModeDir | 0o755,
	} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	script(t, tree, root, "uninstall")
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			t.Errorf("left: %s, %v", path, err)
		}
		return nil
	})
}

// entry is a file of a package.
type entry struct {
	mode        int64
	owner       string
	size, mtime int64
}

const epoch = 1700000000

// TestPackages makes the packages of this machine's architecture in a copy of the tree without
// .git, and looks at what is in them. That two builds give the same bytes, and the other
// architecture, is `make test-packages`'.
func TestPackages(t *testing.T) {
	if testing.Short() {
		t.Skip("LEFT OUT: -short")
	}
	for _, program := range []string{"make", "bash", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("LEFT OUT: needs " + program)
		}
	}
	tree := copyOfTree(t)
	make := exec.CommandContext(t.Context(), "make", "packages", "PACKAGE_ARCHS="+runtime.GOARCH, "VERSION=v1.2.3", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch))
	make.Dir = tree
	out, err := make.CombinedOutput()
	if err != nil {
		if regexp.MustCompile(`dial tcp|proxy.*(refused|timeout)|no such host`).Match(out) {
			t.Skipf("LEFT OUT: the modules of nfpm and cyclonedx-gomod could not be fetched: %s", out)
		}
		t.Fatalf("make packages: %v\n%s", err, out)
	}
	dist := filepath.Join(tree, "dist")
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	deb, rpm := filepath.Join(dist, "sekisho_1.2.3-1_"+runtime.GOARCH+".deb"), filepath.Join(dist, "sekisho-1.2.3-1."+machine+".rpm")
	archive, sbom := filepath.Join(dist, "sekisho-1.2.3-linux-"+runtime.GOARCH+".tar.gz"), filepath.Join(dist, "sekisho-1.2.3-linux-"+runtime.GOARCH+".cdx.json")

	sums := read(t, filepath.Join(dist, "SHA256SUMS"))
	for _, name := range []string{deb, rpm, archive, sbom} {
		if want := fmt.Sprintf("%x  %s\n", sha256.Sum256(read(t, name)), filepath.Base(name)); !bytes.Contains(sums, []byte(want)) {
			t.Errorf("SHA256SUMS lacks %s", want)
		}
		if !bytes.Contains(out, []byte(filepath.Base(name))) {
			t.Errorf("the size of %s is not printed", name)
		}
	}
	if got := bytes.Count(sums, []byte("\n")); got != 4 {
		t.Errorf("%d sums", got)
	}

	t.Run("deb", func(t *testing.T) {
		raw, err := exec.CommandContext(t.Context(), "dpkg-deb", "--fsys-tarfile", deb).Output()
		if err != nil {
			t.Fatal(err)
		}
		files := list(t, raw)
		checkFiles(t, files)
		control, err := exec.CommandContext(t.Context(), "dpkg-deb", "-f", deb).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"Package: sekisho\n", "Version: 1.2.3-1\n", "Architecture: " + runtime.GOARCH + "\n"} {
			if !bytes.Contains(control, []byte(line)) {
				t.Errorf("control lacks %q:\n%s", line, control)
			}
		}
		if raw, err := exec.CommandContext(t.Context(), "dpkg-deb", "--ctrl-tarfile", deb).Output(); err != nil {
			t.Error(err)
		} else {
			for _, name := range []string{"postinst", "prerm", "postrm"} {
				if list(t, raw)["./"+name].mode != 0o755 {
					t.Errorf("no script %s", name)
				}
			}
			if _, ok := list(t, raw)["./conffiles"]; ok {
				t.Error("a configuration file is the package's: init writes it")
			}
		}
	})
	t.Run("rpm", func(t *testing.T) {
		if _, err := exec.LookPath("rpm"); err != nil {
			t.Skip("LEFT OUT: needs rpm")
		}
		out, err := exec.CommandContext(t.Context(), "rpm", "-qp", "--nosignature", "--qf", "[%{FILEMODES} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILESIZES} %{FILEMTIMES} %{FILENAMES}\n]", rpm).Output()
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]entry{}
		for line := range strings.Lines(string(out)) {
			var e entry
			var name string
			if _, err := fmt.Sscan(line, &e.mode, &e.owner, &e.size, &e.mtime, &name); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if e.mode &= 0o7777; e.mode&0o111 != 0 && !strings.HasSuffix(name, "/bin/sekisho") {
				name += "/" // a folder
			}
			files["."+name] = e
		}
		checkFiles(t, files)
		if out, err := exec.CommandContext(t.Context(), "rpm", "-qp", "--nosignature", "--qf", "%{VERSION} %{ARCH} %{BUILDHOST} %{BUILDTIME}", rpm).Output(); err != nil || string(out) != fmt.Sprintf("1.2.3 %s localhost %d", machine, epoch) {
			t.Errorf("%s, %v", out, err)
		}
	})
	t.Run("archive", func(t *testing.T) {
		r, err := gzip.NewReader(bytes.NewReader(read(t, archive)))
		if err != nil {
			t.Fatal(err)
		}
		if r.Name != "" || !r.ModTime.IsZero() {
			t.Errorf("gzip names %q and %v", r.Name, r.ModTime)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		here := t.TempDir()
		if out, err := command(t, "tar", "-x", "-z", "-C", here, "-f", archive); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for name, e := range list(t, raw) {
			if e.owner != "root/root" || e.mtime != epoch || !strings.HasPrefix(name, "sekisho-1.2.3-linux-") {
				t.Errorf("%s: %+v", name, e)
			}
		}
		// Without make, and without this tree.
		unpacked, root := filepath.Join(here, "sekisho-1.2.3-linux-"+runtime.GOARCH), t.TempDir()
		script(t, unpacked, root, "install")
		if out, err := command(t, filepath.Join(root, "usr/local/bin/sekisho"), "version"); err != nil || !strings.Contains(out, "v1.2.3") {
			t.Errorf("version: %s, %v", out, err)
		}
		program, err := elf.Open(filepath.Join(root, "usr/local/bin/sekisho"))
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 || slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("it is not static: %s, %v", libraries, err)
		}
	})
	t.Run("sbom", func(t *testing.T) {
		var bom struct {
			BOMFormat    string
			SerialNumber string
			Metadata     struct {
				Timestamp string
				Tools     []map[string]any
			}
			Components []struct{ Name, Version string }
		}
		if err := json.Unmarshal(read(t, sbom), &bom); err != nil {
			t.Fatal(err)
		}
		if bom.BOMFormat != "CycloneDX" || bom.SerialNumber != "" || bom.Metadata.Timestamp != "" || bom.Metadata.Tools[0]["hashes"] != nil {
			t.Errorf("%+v", bom.Metadata)
		}
		names := map[string]bool{}
		for _, c := range bom.Components {
			names[c.Name] = c.Version != ""
		}
		for _, name := range []string{"std", "modernc.org/sqlite", "github.com/google/nftables"} {
			if !names[name] {
				t.Errorf("it lacks %s", name)
			}
		}
	})
}

// checkFiles looks at what is in a package, by the names that tar has: ./usr/bin/sekisho.
func checkFiles(t *testing.T, files map[string]entry) {
	t.Helper()
	for name, mode := range map[string]int64{
		"./usr/bin/sekisho": 0o755, "./usr/lib/systemd/system/sekisho.service": 0o644, "./usr/lib/systemd/system/sekisho-reap.timer": 0o644,
		"./usr/lib/sysusers.d/sekisho.conf": 0o644, "./usr/share/bash-completion/completions/sekisho": 0o644, "./usr/share/zsh/site-functions/_sekisho": 0o644,
		"./usr/share/fish/vendor_completions.d/sekisho.fish": 0o644, "./usr/share/doc/sekisho/copyright": 0o644, "./usr/share/doc/sekisho/LICENSE": 0o644,
		"./usr/share/doc/sekisho/NOTICE": 0o644, "./usr/share/doc/sekisho/THIRD-PARTY.txt": 0o644, "./usr/share/doc/sekisho/sekisho.yaml": 0o644,
		"./usr/share/doc/sekisho/docs/packages.md": 0o644, "./usr/share/sekisho/grafana/sekisho.json": 0o644, "./etc/sekisho/": 0o755,
	} {
		if e, ok := files[name]; !ok || e.mode != mode {
			t.Errorf("%s: there %t, %o", name, ok, e.mode)
		}
	}
	for name, e := range files {
		if e.owner != "root/root" || e.mtime != epoch {
			t.Errorf("%s: %+v", name, e)
		}
		if !strings.HasSuffix(name, "/") && (e.size == 0 || strings.HasPrefix(name, "./usr/local") || strings.HasPrefix(name, "./etc") || strings.HasPrefix(name, "./lib")) {
			t.Errorf("%s has no place there, or is empty", name)
		}
		if strings.Contains(name, "/man/") && !strings.HasSuffix(name, ".gz") && !strings.HasSuffix(name, "/") {
			t.Errorf("%s is not compressed", name)
		}
	}
}

// list reads a tar.
func list(t *testing.T, raw []byte) map[string]entry {
	t.Helper()
	files := map[string]entry{}
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = entry{mode: h.Mode & 0o7777, owner: h.Uname + "/" + h.Gname, size: h.Size, mtime: h.ModTime.Unix()}
	}
}

// copyOfTree is this tree without what is made in it, and without git.
func copyOfTree(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	if err := os.CopyFS(tree, withoutMade{os.DirFS("..")}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"packaging/install.sh", "packaging/build.sh"} {
		if err := os.Chmod(filepath.Join(tree, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// withoutMade is a tree without git's files and what make makes.
type withoutMade struct{ fs.FS }

func (w withoutMade) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(w.FS, name)
	return slices.DeleteFunc(entries, func(d fs.DirEntry) bool {
		return name == "." && slices.Contains([]string{".git", "bin", "dist", "tmp"}, d.Name())
	}), err
}

func script(t *testing.T, tree, root, verb string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(tree, "packaging", "install.sh"), verb)
	cmd.Env = append(os.Environ(), "DESTDIR="+root, "PREFIX=/usr/local")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("install.sh %s: %v\n%s", verb, err, out)
	}
}

func command(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	return string(out), err
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func write(t *testing.T, name, text string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), mode)); err != nil {
		t.Fatal(err)
	}
}
