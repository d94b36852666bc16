package logsource

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// feed cuts data that comes in pieces of size bytes.
func feed(data []byte, size int) (lines []string, read, dropped int) {
	s := newSplitter()
	add := func(raw []byte, number int64) {
		lines = append(lines, string(raw))
	}
	for len(data) > 0 {
		n := copy(s.free(), data[:min(size, len(data))])
		s.used += n
		data = data[n:]
		read += s.cut(false, add)
		dropped += s.dropped
	}
	s.free()
	read += s.cut(true, add)
	return lines, read, dropped + s.dropped
}

func TestSplitter(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), maxLine+1))
	tests := []struct {
		name    string
		in      string
		want    []string
		dropped int
	}{
		{name: "nothing"},
		{name: "lines", in: "a\nb\n", want: []string{"a", "b"}},
		{name: "no final newline", in: "a\nb", want: []string{"a", "b"}},
		{name: "empty lines", in: "\n\na\n", want: []string{"", "", "a"}},
		{name: "longest", in: long[1:] + "\na\n", want: []string{long[1:], "a"}},
		{name: "too long", in: "a\n" + long + "\nb\n", want: []string{"a", "b"}, dropped: 1},
		{name: "too long and no newline", in: long, dropped: 1},
		{name: "longer than the buffer", in: string(bytes.Repeat([]byte("x"), 3*chunkSize)) + "\nb\n", want: []string{"b"}, dropped: 1},
		{name: "hole", in: "a\n" + string(make([]byte, 2*chunkSize)) + "b\n", want: []string{"a", "b"}},
		{name: "NUL inside", in: "a\x00b\n", want: []string{"a\x00b"}},
	}
	for _, tt := range tests {
		for _, size := range []int{1 << 30, 1000, 7} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, size), func(t *testing.T) {
				got, read, dropped := feed([]byte(tt.in), size)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("lines (-want +got):\n%.500s", diff)
				}
				if dropped != tt.dropped {
					t.Errorf("dropped = %d, want %d", dropped, tt.dropped)
				}
				if want := len(tt.want) + tt.dropped; read != want {
					t.Errorf("read = %d, want %d", read, want)
				}
			})
		}
	}
}

// FuzzSplitter holds the splitter to the plain way of doing it, in whatever
// pieces the data comes.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("a\nb\n"), 1, 1)
	f.Add([]byte("\x00\x00a\n\x00\n\n"), 2, 3)
	f.Add([]byte("abc"), 100, maxLine)
	f.Fuzz(func(t *testing.T, data []byte, size, stretch int) {
		// Stretching makes long lines of short inputs.
		if n := len(data); n > 0 && stretch > 1 {
			data = append(data[:n:n], bytes.Repeat(data[n-1:], stretch%(2*chunkSize))...)
			data = append(data, data[:n]...)
		}
		size = max(1, size)
		if len(data)/size > 10000 {
			size = len(data) / 10000
		}
		var want []string
		long := 0
		for rest := data; len(rest) > 0; {
			if rest = bytes.TrimLeft(rest, "\x00"); len(rest) == 0 {
				break
			}
			raw, after, _ := bytes.Cut(rest, []byte("\n"))
			if rest = after; len(raw) > maxLine {
				long++
			} else {
				want = append(want, string(raw))
			}
		}
		got, read, dropped := feed(data, size)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("lines (-want +got):\n%.500s", diff)
		}
		if dropped != long || read != len(want)+long {
			t.Errorf("read, dropped = %d, %d, want %d, %d", read, dropped, len(want)+long, long)
		}
	})
}
