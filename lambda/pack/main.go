// Command pack writes the zip file of the function: pack OUT BOOTSTRAP [CONFIG]. The same
// content makes the same file, whenever and wherever it is written.
package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"sekisho/internal/config"
)

func main() {
	if err := pack(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func pack(args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return errors.New("usage: pack OUT BOOTSTRAP [CONFIG]")
	}
	var content bytes.Buffer
	z := zip.NewWriter(&content)
	if err := add(z, "bootstrap", args[1], 0o755); err != nil {
		return err
	}
	if len(args) == 3 {
		if _, err := config.Load(args[2]); err != nil { // now rather than in the cloud
			return err
		}
		if err := add(z, "sekisho.yaml", args[2], 0o644); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(args[0], content.Bytes(), 0o644)
}

func add(z *zip.Writer, name, path string, mode fs.FileMode) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	header.SetMode(mode)
	w, err := z.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}
