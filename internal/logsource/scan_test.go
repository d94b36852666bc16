package logsource

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sekisho/internal/sshlog"
)

// mixedLog is like a server's: half of it is not sshd's.
func mixedLog(lines int) []byte {
	var b bytes.Buffer
	for i := range lines {
		at := fmt.Sprintf("Nov 22 %02d:%02d:%02d", i/3600%24, i/60%60, i%60)
		switch i % 6 {
		case 0:
			fmt.Fprintf(&b, "%s web1 sshd[%d]: Failed password for invalid user admin%d from 203.0.113.%d port %d ssh2\n", at, 1000+i%30000, i%100, i%250, 1024+i%60000)
		case 1:
			fmt.Fprintf(&b, "%s web1 systemd[1]: Started Session %d of user deploy.\n", at, i)
		case 2:
			fmt.Fprintf(&b, "%s web1 sshd[%d]: Connection closed by invalid user admin%d 203.0.113.%d port %d [preauth]\n", at, 1000+i%30000, i%100, i%250, 1024+i%60000)
		case 3:
			fmt.Fprintf(&b, "%s web1 CRON[%d]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)\n", at, 1000+i%30000)
		case 4:
			fmt.Fprintf(&b, "%s web1 sshd[%d]: Invalid user admin%d from 203.0.113.%d port %d\n", at, 1000+i%30000, i%100, i%250, 1024+i%60000)
		case 5:
			fmt.Fprintf(&b, "%s web1 kernel: [%d.123456] audit: type=1400 apparmor=\"DENIED\" operation=\"open\" profile=\"snap\"\n", at, i)
		}
	}
	return b.Bytes()
}

func TestScanner(t *testing.T) {
	data := mixedLog(20000)
	readers := map[string]io.Reader{
		"whole":         bytes.NewReader(data),
		"halves":        iotest.HalfReader(bytes.NewReader(data)),
		"data with EOF": iotest.DataErrReader(bytes.NewReader(data)),
	}
	for name, r := range readers {
		t.Run(name, func(t *testing.T) {
			s := NewScanner(r, sshlog.NewDecoder(sshlog.DecoderOptions{}))
			var numbers []int64
			for {
				lines, err := s.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range lines {
					numbers = append(numbers, l.Number)
				}
			}
			if got, want := len(numbers), 10000; got != want {
				t.Errorf("%d lines of sshd's, want %d", got, want)
			}
			for i, n := range numbers {
				if want := int64(2*i + 1); n != want {
					t.Fatalf("line %d has number %d, want %d", i, n, want)
				}
			}
			if s.Read() != 20000 || s.Bytes() != int64(len(data)) {
				t.Errorf("read %d lines, %d bytes, want 20000, %d", s.Read(), s.Bytes(), len(data))
			}
		})
	}
}

func TestScannerError(t *testing.T) {
	data := mixedLog(10)
	broken := errors.New("broken")
	s := NewScanner(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), sshlog.NewDecoder(sshlog.DecoderOptions{}))
	lines, err := s.Next()
	if len(lines) != 5 || err != nil {
		t.Errorf("before the error: %d lines, %v, want 5 lines", len(lines), err)
	}
	if _, err := s.Next(); !errors.Is(err, broken) {
		t.Errorf("err = %v, want the reader's", err)
	}
}

// A log that ends in the middle is told from one that is whole, and what was cut
// off is not read: "from 203.0.113.1" may have been "from 203.0.113.19".
func TestScannerTruncatedGzip(t *testing.T) {
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	zw.Write(mixedLog(10))
	zw.Write([]byte("Nov 22 00:00:00 web1 sshd[1]: Invalid user a from 203.0.113.1"))
	zw.Flush()
	zr, err := gzip.NewReader(&zipped)
	if err != nil {
		t.Fatal(err)
	}
	s := NewScanner(zr, sshlog.NewDecoder(sshlog.DecoderOptions{}))
	if lines, err := s.Next(); len(lines) != 5 || err != nil {
		t.Errorf("%d lines, %v, want 5 lines", len(lines), err)
	}
	if _, err := s.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("err = %v, want io.ErrUnexpectedEOF", err)
	}
}

func TestOpenLogPipe(t *testing.T) {
	data := mixedLog(1000)
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	zw.Write(data)
	zw.Close()
	for name, content := range map[string][]byte{"plain": data, "gzip": zipped.Bytes(), "empty": nil} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pipe")
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			wrote := make(chan error, 1)
			go func() { wrote <- os.WriteFile(path, content, 0) }()
			l, err := OpenLog(path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got, err := io.ReadAll(l)
			if err != nil || <-wrote != nil {
				t.Fatal(err)
			}
			want := data
			if content == nil {
				want = nil
			}
			if !bytes.Equal(got, want) {
				t.Errorf("read %d bytes, want %d", len(got), len(want))
			}
		})
	}
}

func TestOpenLog(t *testing.T) {
	dir := t.TempDir()
	data := mixedLog(1000)
	var zipped bytes.Buffer
	for _, part := range [][]byte{data[:5000], data[5000:]} { // two members, as cat a.gz b.gz makes them
		zw := gzip.NewWriter(&zipped)
		zw.Write(part)
		zw.Close()
	}
	tests := []struct {
		name    string
		content []byte
		want    []byte
	}{
		{name: "plain", content: data, want: data},
		{name: "gzip, whatever its name", content: zipped.Bytes(), want: data},
		{name: "empty"},
		{name: "one byte", content: []byte{0x1f}, want: []byte{0x1f}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(dir, "log")
			if err := os.WriteFile(name, tt.content, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := OpenLog(name)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got, err := io.ReadAll(l)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, tt.want) {
				t.Errorf("read %d bytes, want %d", len(got), len(tt.want))
			}
			if l.Done() != l.Size() || l.Size() != int64(len(tt.content)) {
				t.Errorf("done %d of %d, want %d of them", l.Done(), l.Size(), len(tt.content))
			}
			if diff := cmp.Diff(false, l.ModTime().IsZero()); diff != "" {
				t.Error("no modification time")
			}
		})
	}
	if _, err := OpenLog(dir); !errors.Is(err, errNotRegular) {
		t.Errorf("a directory: %v, want errNotRegular", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bad"), []byte{0x1f, 0x8b, 9, 9, 9}, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLog(filepath.Join(dir, "bad")); err == nil {
		t.Error("damaged gzip: no error")
	}
}

// BenchmarkScan is explain's reading; the other is what of it is Decode's.
func BenchmarkScan(b *testing.B) {
	data := mixedLog(200000)
	b.Run("scan", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			s := NewScanner(bytes.NewReader(data), sshlog.NewDecoder(sshlog.DecoderOptions{}))
			for {
				if _, err := s.Next(); err != nil {
					break
				}
			}
			if s.Read() != 200000 {
				b.Fatal(s.Read())
			}
		}
		b.ReportMetric(float64(b.N)*200000/b.Elapsed().Seconds()/1e6, "Mlines/s")
	})
	b.Run("decode", func(b *testing.B) {
		lines := bytes.Split(data, []byte("\n"))
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			dec := sshlog.NewDecoder(sshlog.DecoderOptions{})
			var l sshlog.Line
			for _, raw := range lines {
				dec.Decode(raw, &l)
			}
		}
		b.ReportMetric(float64(b.N)*200000/b.Elapsed().Seconds()/1e6, "Mlines/s")
	})
}
