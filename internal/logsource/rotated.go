package logsource

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fingerprintSize is how much of a file's beginning tells it from another that
// got its inode: two or three lines with their times.
const fingerprintSize = 256

func fingerprint(head []byte) uint64 {
	if len(head) == 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write(head)
	return h.Sum64()
}

type fileID struct{ device, inode uint64 }

// errNotRegular says that what stands at a log's path is none.
var errNotRegular = errors.New("not a regular file")

// openRegular opens a log. It cannot be made to wait by a fifo.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open log: %w%s", err, whoMayRead(path, err))
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		if err == nil {
			err = errNotRegular
		}
		return nil, fmt.Errorf("open log %s: %w", path, err)
	}
	return f, nil
}

// whoMayRead is the hint to an error: what is missing.
func whoMayRead(path string, err error) string {
	if !errors.Is(err, fs.ErrPermission) {
		return ""
	}
	const otherwise = "run as root, or with the capability CAP_DAC_READ_SEARCH"
	fi, err := os.Stat(path)
	if err != nil {
		return ": its directory may not be entered: " + otherwise
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || fi.Mode().Perm()&0o040 == 0 {
		return ": " + otherwise
	}
	name := strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(name); err == nil {
		name = g.Name
	}
	return fmt.Sprintf(": the group %q may read it: join that group, or %s", name, otherwise)
}

// logFile is one generation of a log: the current one or a rotated one.
type logFile struct {
	name    string
	file    *os.File
	gz      io.Reader // of a compressed one: its content; read in order only
	id      fileID
	size    int64 // when it was opened; of the compressed bytes
	modTime time.Time
	head    []byte // the first bytes, at most fingerprintSize
}

func openGeneration(name string) (*logFile, error) {
	f, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	g := &logFile{name: name, file: f}
	if err := g.stat(); err != nil {
		f.Close()
		return nil, err
	}
	if strings.HasSuffix(name, ".gz") {
		zr, err := gzip.NewReader(bufio.NewReader(f))
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("open log %s: %w", name, err)
		}
		br := bufio.NewReaderSize(zr, 64<<10)
		head, _ := br.Peek(fingerprintSize) // a shorter file gives what it has
		g.gz, g.head = br, bytes.Clone(head)
		return g, nil
	}
	g.readHead()
	return g, nil
}

func (g *logFile) close() { g.file.Close() }

func (g *logFile) stat() error {
	fi, err := g.file.Stat()
	if err != nil {
		return fmt.Errorf("stat log %s: %w", g.name, err)
	}
	g.id, g.size, g.modTime = identity(fi), fi.Size(), fi.ModTime()
	return nil
}

func identity(fi fs.FileInfo) fileID {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}
	}
	return fileID{device: uint64(st.Dev), inode: st.Ino}
}

func (g *logFile) readHead() {
	buf := make([]byte, fingerprintSize)
	n, _ := g.file.ReadAt(buf, 0)
	g.head = buf[:n]
}

// isAt reports whether the first bytes are those that position p was made of.
func (g *logFile) isAt(p Position) bool {
	n := int(min(fingerprintSize, p.Offset))
	if len(g.head) < n {
		return false
	}
	return fingerprint(g.head[:n]) == p.Fingerprint && (g.gz != nil || g.size >= p.Offset)
}

// rotatedNames lists the rotated generations of a log: NAME.1, NAME-20261122,
// and the same compressed.
func rotatedNames(path string) (names []string) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return nil
	}
	for _, e := range entries { // sorted: NAME.1 comes before NAME.1.gz
		suffix, ok := strings.CutPrefix(e.Name(), base)
		plain, compressed := cutCompression(suffix)
		switch {
		case !ok || !isRotation(plain):
		case compressed && slices.Contains(names, filepath.Join(dir, base+plain)): // gzip(1) removes the plain one last
		default:
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names
}

func cutCompression(name string) (plain string, compressed bool) {
	for _, ext := range []string{".gz", ".xz", ".bz2", ".zst"} {
		if plain, ok := strings.CutSuffix(name, ext); ok {
			return plain, true
		}
	}
	return name, false
}

// rotated opens what rotatedNames found, oldest first. What cannot be read, or
// is compressed by others than gzip, is returned as names.
func rotated(path string, names []string) (files []*logFile, unread []string) {
	for _, name := range names {
		if _, compressed := cutCompression(name); compressed && !strings.HasSuffix(name, ".gz") {
			unread = append(unread, name)
		} else if g, err := openGeneration(name); err == nil {
			files = append(files, g)
		} else if !errors.Is(err, fs.ErrNotExist) {
			unread = append(unread, name)
		}
	}
	numbered := func(g *logFile) (n int, ok bool) {
		digits, ok := strings.CutPrefix(strings.TrimSuffix(g.name[len(path):], ".gz"), ".")
		if ok {
			n, _ = strconv.Atoi(digits)
		}
		return n, ok
	}
	allNumbered := !slices.ContainsFunc(files, func(g *logFile) bool { _, ok := numbered(g); return !ok })
	allDated := !slices.ContainsFunc(files, func(g *logFile) bool { _, ok := numbered(g); return ok })
	slices.SortFunc(files, func(a, b *logFile) int {
		switch {
		case allNumbered:
			x, _ := numbered(a)
			y, _ := numbered(b)
			return y - x
		case allDated:
			return strings.Compare(a.name, b.name)
		}
		return a.modTime.Compare(b.modTime)
	})
	return files, unread
}

// isRotation: ".1", "-20261122", "-20261122-03", "-1795305600".
func isRotation(suffix string) bool {
	if len(suffix) < 2 || suffix[0] != '.' && suffix[0] != '-' || suffix[1] < '0' || suffix[1] > '9' {
		return false
	}
	return strings.Trim(suffix[1:], "0123456789-") == ""
}

// seekTime returns the start of a line such that all lines before it are older
// than from, in a log whose times grow, within 64 KiB of the best. Lines
// without a time are passed over.
func seekTime(r io.ReaderAt, size, from int64, timeOf func(raw []byte) (int64, bool)) int64 {
	lo, hi := int64(0), size
	buf := make([]byte, 2*maxLine)
	for hi-lo > maxLine {
		mid := lo + (hi-lo)/2
		n, _ := r.ReadAt(buf[:min(int64(len(buf)), hi-mid)], mid)
		start, t, ok := firstTime(buf[:n], timeOf)
		if ok && t < from {
			lo = mid + int64(start)
		} else {
			hi = mid
		}
	}
	return lo
}

// firstTime finds the first whole line that has a time.
func firstTime(block []byte, timeOf func(raw []byte) (int64, bool)) (start int, t int64, ok bool) {
	for {
		n := bytes.IndexByte(block[start:], '\n')
		if n < 0 {
			return 0, 0, false
		}
		start += n + 1
		end := bytes.IndexByte(block[start:], '\n')
		if end < 0 {
			return 0, 0, false
		}
		if t, ok := timeOf(block[start : start+end]); ok {
			return start, t, true
		}
	}
}
