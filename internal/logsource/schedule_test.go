package logsource

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// schedule is a writer, a logrotate and a reader that is killed, in any order.
type schedule struct {
	*testLog
	r        *reader
	rest     string // of a line that was begun
	rotated  bool   // the writer has not reopened yet
	finished int    // lines with their newline
}

func (s *schedule) finish() {
	if s.rest != "" {
		s.raw(s.rest)
		s.rest = ""
		s.finished = s.n
	}
}

func (s *schedule) write(n int) {
	s.finish()
	s.lines(n)
	s.finished = s.n
}

func (s *schedule) begin(bytes int) {
	s.finish()
	s.n++
	text := s.text(s.n)
	bytes = min(bytes, len(text)-1)
	s.raw(text[:bytes])
	s.rest = text[bytes:]
}

func (s *schedule) reopen() {
	s.finish() // a writer ends its line before it reopens
	s.open()
	s.rotated = false
}

func (s *schedule) rename() {
	if s.rotated {
		s.reopen()
	}
	s.rotate()
	s.rotated = true
}

// crash reads a batch, and loses it with its position.
func (s *schedule) crash() {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Millisecond)
	defer cancel()
	_, _ = s.r.src.Next(ctx)
	s.r.restart(s.testLog)
}

func (s *schedule) verify() error {
	s.finish()
	if s.rotated {
		s.reopen()
	}
	s.write(1)
	s.r.until(s.n)
	if diff := cmp.Diff(numbered(1, s.n), s.r.got); diff != "" {
		return fmt.Errorf("new lines (-want +got):\n%s", diff)
	}
	return nil
}

func TestFileSchedules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newTestLog(t)
		s := &schedule{testLog: l.open(), r: follow(t, l, Options{FindTime: time.Hour})}
		defer func() { s.r.src.Close() }()
		var story []string
		s.r.fatalf = func(format string, args ...any) {
			rt.Fatalf("%s\n%s", strings.Join(story, " "), fmt.Sprintf(format, args...))
		}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			step := rapid.SampledFrom([]string{"write", "write", "begin", "finish", "rename", "reopen", "create", "copytruncate", "gzip", "read", "read", "restart", "crash"}).Draw(rt, "step")
			story = append(story, step)
			switch step {
			case "write":
				s.write(rapid.IntRange(1, 5).Draw(rt, "n"))
			case "begin":
				s.begin(rapid.IntRange(1, 60).Draw(rt, "bytes"))
			case "finish":
				s.finish()
			case "rename":
				s.rename()
			case "reopen":
				s.reopen()
			case "create":
				if s.rotated && !exists(s.path) {
					s.must(os.WriteFile(s.path, nil, 0o640))
				}
			case "copytruncate":
				// Between lines, where the last copy would not be overwritten unread,
				// and after something was read: else nothing tells that this was it.
				if s.finish(); !s.rotated && !exists(s.path+".1") && s.r.pos.Offset > 0 {
					s.copytruncate()
				}
			case "gzip":
				// logrotate's delaycompress: only what the writer has left for sure.
				if exists(s.path + ".2") {
					s.gzip(2)
				}
			case "read":
				s.r.until(s.finished)
			case "restart":
				s.r.restart(s.testLog)
			case "crash":
				s.crash()
			}
		}
		if err := s.verify(); err != nil {
			rt.Fatalf("%s\n%v", strings.Join(story, " "), err)
		}
	})
}

// TestFileConcurrent is the same with the writer and the reader at once.
func TestFileConcurrent(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newTestLog(t)
			l.open()
			r := follow(t, l, Options{FindTime: time.Hour})
			var read, total atomic.Int64
			w := &schedule{testLog: l}
			go func() {
				rnd := rand.New(rand.NewPCG(seed, 1))
				for range 3000 {
					switch n := rnd.IntN(200); {
					case n < 150:
						w.write(1 + rnd.IntN(20))
					case n < 190:
						w.begin(1 + rnd.IntN(60))
					case n < 195:
						w.rename()
					case n < 199 && w.rotated:
						w.reopen()
					}
				}
				w.finish()
				w.reopen()
				w.write(1)
				total.Store(int64(w.n))
			}()
			rnd := rand.New(rand.NewPCG(seed, 2))
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
			defer cancel()
			for total.Load() == 0 || int64(len(r.got)) < total.Load() {
				if rnd.IntN(20) == 0 {
					r.restart(l)
				}
				if err := r.next(ctx); err != nil {
					t.Fatal(err, len(r.got), total.Load())
				}
				read.Store(int64(len(r.got)))
			}
			r.quiet()
			for i, got := range r.got {
				if want := fmt.Sprintf("line %d", i+1); got != want {
					t.Fatalf("got %q, want %q; before it %q", got, want, r.got[max(0, i-3):i])
				}
			}
		})
	}
}

// BenchmarkFileLatency is from a line's write to its return by Next.
func BenchmarkFileLatency(b *testing.B) {
	path := b.TempDir() + "/auth.log"
	w, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	src, err := OpenFile(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	waiting := make(chan time.Time)
	var took []time.Duration
	go func() {
		for range waiting {
			<-time.After(200 * time.Microsecond) // the reader goes to sleep
			waiting <- time.Now()
			fmt.Fprintf(w, "%s host sshd[1]: Failed password for root from 192.0.2.1 port 4 ssh2\n", time.Now().Format("2006-01-02T15:04:05.000000Z07:00"))
		}
	}()
	for b.Loop() {
		waiting <- time.Time{}
		start := <-waiting
		for {
			batch, err := src.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if len(batch.Lines) > 0 {
				break
			}
		}
		took = append(took, time.Since(start))
	}
	close(waiting)
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/p99")
}
