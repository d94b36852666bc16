// Pack makes the packages of what packaging/install.sh has laid out. It is a module of its
// own, so that nfpm and what it needs stay out of the program's go.mod.
//
//	pack licences FILE             the licences of what is linked in, for amd64 and arm64
//	pack make [flags] ARCH=DIR...  DIR/tree becomes .deb and .rpm, DIR/copy the archive,
//	                               DIR/sbom.json the list of what is linked in
//	pack version [flags]           the version, as a package has it
//
// The same input gives the same bytes: entries are sorted and root's, the one time is
// SOURCE_DATE_EPOCH, and nothing is asked of the machine.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: pack licences FILE | make [flags] ARCH=DIR... | version [flags]")

func run(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	named := flags.String("version", "dev", "the program's version, as git describes it")
	epoch := flags.Int64("epoch", 0, "the time of all files, in seconds since 1970")
	out := flags.String("out", "dist", "where to")
	scripts := flags.String("scripts", "packaging/scripts", "postinst, prerm and postrm")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	at := time.Unix(*epoch, 0).UTC()
	version := packageVersion(*named, at)
	switch {
	case args[0] == "licences" && flags.NArg() == 1:
		return writeLicences(flags.Arg(0))
	case args[0] == "version" && flags.NArg() == 0:
		fmt.Println(version)
		return nil
	case args[0] == "make" && flags.NArg() > 0:
	default:
		return errUsage
	}
	for _, arg := range flags.Args() {
		arch, dir, ok := strings.Cut(arg, "=")
		if !ok {
			return errUsage
		}
		p := pack{arch: arch, version: version, at: at, out: *out, scripts: *scripts}
		if err := errors.Join(
			p.packages(filepath.Join(dir, "tree")),
			p.archive(filepath.Join(dir, "copy")),
			p.sbom(filepath.Join(dir, "sbom.json")),
		); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	return writeSums(*out)
}

// pack is one architecture's.
type pack struct {
	arch, version string
	at            time.Time
	out, scripts  string
}

// sbom takes what differs from one machine to another out of the list of what is linked in:
// the hashes of the program that made it.
func (p pack) sbom(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var list map[string]any
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	metadata, _ := list["metadata"].(map[string]any)
	tools, _ := metadata["tools"].([]any)
	if len(tools) == 0 {
		return fmt.Errorf("%s does not say what made it", file)
	}
	for _, tool := range tools {
		if tool, ok := tool.(map[string]any); ok {
			delete(tool, "hashes")
		}
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.out, fmt.Sprintf("sekisho-%s-linux-%s.cdx.json", p.version, p.arch)), append(text, '\n'), 0o644)
}
