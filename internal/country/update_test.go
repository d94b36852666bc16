package country

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// world is a list that stands in for the world: JP, KR and US have 200 ranges
// each, 133.0.0.0/8 is JP's, and 8.0.0.0/8 is US'.
func world() string {
	var b strings.Builder
	for i := range 600 {
		n := number{0, 20<<24 + uint64(i)<<17}
		fmt.Fprintf(&b, "%s,%s,%s\n", n.addr(v4), number{0, n.lo + 1<<16 - 1}.addr(v4), []string{"JP", "KR", "US"}[i%3])
	}
	b.WriteString("133.0.0.0,133.10.255.255,JP\n133.11.0.0,133.11.255.255,JP\n133.12.0.0,133.255.255.255,JP\n8.0.0.0,8.255.255.255,US\n2400::,2400:0:ffff:ffff:ffff:ffff:ffff:ffff,JP\n")
	return b.String()
}

// small makes the world above what u falls back on.
func small(t *testing.T, u *Updater) *Updater {
	t.Helper()
	u.embedded = func() (*Data, error) {
		d := data(t, build(t, world()), Meta{Source: "snapshot", Time: time.Date(2026, 6, 17, 0, 0, 0, 0, time.UTC)})
		d.Embedded = true
		return d, nil
	}
	return u
}

// server answers each path with its handler.
func server(t *testing.T, paths map[string]http.HandlerFunc) (base string) {
	t.Helper()
	mux := http.NewServeMux()
	for path, handler := range paths {
		mux.HandleFunc(path, handler)
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) }
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

// updater has one file.
func updater(t *testing.T, file File) *Updater {
	t.Helper()
	return small(t, NewUpdater(Options{
		StateDir:  t.TempDir(),
		Source:    Source{Name: "test", Files: []File{file}},
		AllowHTTP: true,
	}))
}

func TestUpdate(t *testing.T) {
	content := zipped(world())
	asked := 0
	base := server(t, map[string]http.HandlerFunc{
		"/list.gz": func(w http.ResponseWriter, r *http.Request) {
			asked++
			w.Header().Set("ETag", `"one"`)
			if r.Header.Get("If-None-Match") == `"one"` {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			io.WriteString(w, content)
		},
		"/list.gz.md5": text(fmt.Sprintf("%x  other-name\n", md5.Sum([]byte(content)))),
	})
	u := updater(t, File{URLs: []string{base + "/list.gz"}, Checksum: true})
	before, damage := u.Load()
	if !before.Embedded || damage != nil {
		t.Fatalf("Load() = %+v, %v", before.Meta, damage)
	}
	got, changed, err := u.Update(t.Context(), Needs{Allow: []Code{code("JP")}, Keep: []netip.Addr{addr("133.11.0.1")}})
	if err != nil || !changed || got.Source != "test" || got.Embedded {
		t.Fatalf("Update() = %+v, %v, %v", got, changed, err)
	}
	again, changed, err := u.Update(t.Context(), Needs{})
	if err != nil || changed || asked != 2 || !again.Accepted.Equal(got.Accepted) {
		t.Fatalf("second Update() = %+v, %v, %v; asked %d times", again.Meta, changed, err, asked)
	}
	loaded, damage := u.Load()
	if damage != nil || loaded.Source != "test" || len(loaded.Codes()) != len(before.Codes()) {
		t.Errorf("Load() = %+v, %v", loaded.Meta, damage)
	}
}

// A file that has not changed is fetched all the same when another one has.
func TestUpdateOneOfTwo(t *testing.T) {
	lines := strings.SplitAfter(world(), "\n")
	half := len(lines) / 2
	stamp := `"one"`
	part := func(content, etag func() string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", etag())
			if r.Header.Get("If-None-Match") == etag() {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			io.WriteString(w, content())
		}
	}
	base := server(t, map[string]http.HandlerFunc{
		"/a": part(func() string { return strings.Join(lines[:half], "") }, func() string { return `"a"` }),
		"/b": part(func() string { return strings.Join(lines[half:], "") }, func() string { return stamp }),
	})
	u := small(t, NewUpdater(Options{StateDir: t.TempDir(), AllowHTTP: true, Source: Source{
		Name:  "test",
		Files: []File{{URLs: []string{base + "/a"}}, {URLs: []string{base + "/b"}}},
	}}))
	for i, want := range []bool{true, false, true} {
		if i == 2 {
			stamp = `"two"`
		}
		if _, changed, err := u.Update(t.Context(), Needs{}); err != nil || changed != want {
			t.Fatalf("Update %d: %v, %v", i, changed, err)
		}
	}
}

func TestUpdateRefuses(t *testing.T) {
	good := world()
	endless := func(w http.ResponseWriter, _ *http.Request) {
		line := bytes.Repeat([]byte("# and so on\n"), 1<<13)
		for {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		needs   Needs
		want    string
	}{
		{"a web page", text("<html>log in to the hotel's network</html>\n"), Needs{}, "web page"},
		{"empty", text(""), Needs{}, "empty"},
		{"an error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) }, Needs{}, "503"},
		{"not modified, unasked", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, Needs{}, "304"},
		{"an endless stream", endless, Needs{}, "larger than 64 MiB"},
		{"an endless line", func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
					return
				}
			}
		}, Needs{}, "longer than"},
		{"less than was promised", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000000")
			io.WriteString(w, good)
		}, Needs{}, "cut off"},
		{"gzip cut off", text(zipped(good)[:2000]), Needs{}, "cut off"},
		{"one line", text("1.0.0.0,1.0.0.255,JP\n"), Needs{}, "too few ranges (1, before"},
		{"a half", text(good[:len(good)/2+strings.Index(good[len(good)/2:], "\n")+1]), Needs{}, "fewer IPv4 addresses"},
		{"a country is missing", text(strings.ReplaceAll(good, ",JP\n", ",KR\n")), Needs{Allow: []Code{code("JP")}}, "JP: there is no address"},
		{"a country has doubled", text(strings.ReplaceAll(good, ",JP\n", ",KR\n")), Needs{Deny: []Code{code("KR")}}, "KR: 228 % more IPv4"},
		{"everything", text(good + "0.0.0.0,255.255.255.255,JP\n"), Needs{}, "wider than a /7"},
		{
			"a login's address is gone",
			text(strings.ReplaceAll(good, "133.11.0.0,133.11.255.255,JP", "133.11.0.0,133.11.255.255,KR")),
			Needs{Allow: []Code{code("JP")}, Keep: []netip.Addr{addr("133.11.0.1"), addr("8.8.8.8")}},
			"lock out 133.11.0.1, who",
		},
		{
			"a login's address is denied, and forced",
			text(strings.ReplaceAll(good, "133.11.0.0,133.11.255.255,JP", "133.11.0.0,133.11.255.255,KR")),
			Needs{Deny: []Code{code("KR")}, Keep: []netip.Addr{addr("133.11.0.1")}, Force: true},
			"lock out 133.11.0.1, who",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			base := server(t, map[string]http.HandlerFunc{"/list": test.handler})
			u := updater(t, File{URLs: []string{base + "/list"}, Checksum: true})
			d, changed, err := u.Update(t.Context(), test.needs)
			if err == nil || changed || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("Update() = %v, %v, want %q", changed, err, test.want)
			}
			if !d.Embedded {
				t.Error("the last good data did not stay")
			}
			if d, damage := u.Load(); !d.Embedded || damage != nil {
				t.Errorf("Load() = %+v, %v", d.Meta, damage)
			}
		})
	}
}

// The second mirror helps out where the first is wrong in any way.
func TestMirrors(t *testing.T) {
	good := world()
	base := server(t, map[string]http.HandlerFunc{
		"/good":        text(good),
		"/good.md5":    text(fmt.Sprintf("MD5 (x) = %x\n", md5.Sum([]byte(good)))),
		"/page":        text("<html>"),
		"/wrong":       text(good),
		"/wrong.md5":   text("0bb8d65f1ff9d820f4bb56844f9948be\n"),
		"/none":        text(good),
		"/none.md5":    text("<html>"),
		"/failing":     text(good),
		"/failing.md5": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"/away":        http.RedirectHandler("http://example.com/", http.StatusFound).ServeHTTP,
		"/round":       func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) },
		"/on":          func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good", http.StatusFound) },
	})
	tests := []struct{ name, first, want string }{
		{"gone", base + "/gone", "404 Not Found"},
		{"a web page", base + "/page", "web page"},
		{"a wrong checksum", base + "/wrong", "its checksum is"},
		{"a checksum that is none", base + "/none", "does not hold one checksum"},
		{"a checksum that cannot be had", base + "/failing", "500"},
		{"redirected to http", base + "/away", "is not https"},
		{"redirected for ever", base + "/round", "more than 5 redirects"},
		{"http", "http://192.0.2.1/list", "is not https"},
		{"ftp", "ftp://192.0.2.1/list", "is not https"},
		{"no URL", "\x00", "not a URL"},
		{"nobody there", "http://127.0.0.1:1/list", "refused"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			alone := updater(t, File{URLs: []string{test.first}, Checksum: true})
			if _, _, err := alone.Update(t.Context(), Needs{}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Update() = %v, want %q", err, test.want)
			}
			both := updater(t, File{URLs: []string{test.first, base + "/good"}, Checksum: true})
			if _, changed, err := both.Update(t.Context(), Needs{}); err != nil || !changed {
				t.Errorf("with a second mirror: %v, %v", changed, err)
			}
		})
	}
	redirected := updater(t, File{URLs: []string{base + "/on"}})
	if _, changed, err := redirected.Update(t.Context(), Needs{}); err != nil || !changed {
		t.Errorf("redirected: %v, %v", changed, err)
	}
}

func TestWithoutTLS(t *testing.T) {
	u := NewUpdater(Options{StateDir: t.TempDir(), Source: Source{Files: []File{{URLs: []string{"http://127.0.0.1/list"}}}}})
	if _, _, err := u.Update(t.Context(), Needs{}); err == nil || !strings.Contains(err.Error(), "is not https") {
		t.Errorf("Update() = %v", err)
	}
	for _, f := range Registries().Files {
		for _, address := range f.URLs {
			if !strings.HasPrefix(address, "https://") {
				t.Errorf("%s is not https", address)
			}
		}
	}
}

func TestWrongFormat(t *testing.T) {
	base := server(t, map[string]http.HandlerFunc{"/list": text(world())})
	u := updater(t, File{URLs: []string{base + "/list"}})
	u.source.Format = Delegated
	if _, _, err := u.Update(t.Context(), Needs{}); err == nil || !strings.Contains(err.Error(), "this is csv data, not delegated") {
		t.Errorf("Update() = %v", err)
	}
}

// A server that falls silent is given up, on a clock of its own.
func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := roundTripper(func(req *http.Request) (*http.Response, error) {
			r, w := io.Pipe()
			go func() {
				io.WriteString(w, "# it begins well\n")
				<-req.Context().Done()
				w.CloseWithError(req.Context().Err())
			}()
			return &http.Response{StatusCode: 200, Body: r, Request: req, Header: http.Header{}}, nil
		})
		f := newFetcher(&http.Client{Transport: silent}, false)
		begun := time.Now()
		_, err := f.file(t.Context(), "", File{URLs: []string{"https://192.0.2.1/list"}}, nil)
		if err == nil || !strings.Contains(err.Error(), "nothing came for 1m0s") || time.Since(begun) != idleTime {
			t.Errorf("file() = %v after %s", err, time.Since(begun))
		}
		// One that drips is given up too, later.
		drips := roundTripper(func(req *http.Request) (*http.Response, error) {
			r, w := io.Pipe()
			go func() {
				tick := time.NewTicker(idleTime / 2)
				defer tick.Stop()
				for {
					select {
					case <-req.Context().Done():
						w.CloseWithError(req.Context().Err())
						return
					case <-tick.C:
						io.WriteString(w, "# and on\n")
					}
				}
			}()
			return &http.Response{StatusCode: 200, Body: r, Request: req, Header: http.Header{}}, nil
		})
		f = newFetcher(&http.Client{Transport: drips}, false)
		begun = time.Now()
		_, err = f.file(t.Context(), "", File{URLs: []string{"https://192.0.2.1/list"}}, nil)
		if err == nil || !strings.Contains(err.Error(), "not done within 10m0s") || time.Since(begun) != fileTime {
			t.Errorf("file() = %v after %s", err, time.Since(begun))
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestImport(t *testing.T) {
	u := small(t, NewUpdater(Options{StateDir: t.TempDir()}))
	if _, err := u.Import("mine", Needs{}, strings.NewReader(apnic)); err == nil || !strings.Contains(err.Error(), "afrinic, arin, lacnic, ripencc is missing") {
		t.Errorf("one registry: %v", err)
	}
	if _, err := u.Import("mine", Needs{}, strings.NewReader(apnic), strings.NewReader(apnic)); err == nil || !strings.Contains(err.Error(), "two files of apnic") {
		t.Errorf("one registry twice: %v", err)
	}
	if _, err := u.Import("mine", Needs{}, strings.NewReader(world()), strings.NewReader("<html>")); err == nil || !strings.Contains(err.Error(), "file 2: ") {
		t.Errorf("a bad second file: %v", err)
	}
	d, err := u.Import("mine", Needs{Force: true}, strings.NewReader(apnic))
	if err != nil || d.Source != "mine" || d.Time.Format(time.DateOnly) != "2026-09-28" {
		t.Errorf("forced: %+v, %v", d.Meta, err)
	}
}

// The cache falls back, loudly, from one generation to the one before it, and to
// the snapshot at last.
func TestCacheDamaged(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	u := small(t, NewUpdater(Options{StateDir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))}))
	for i := range 5 {
		if _, err := u.Import(fmt.Sprint("generation ", i+1), Needs{}, strings.NewReader(world())); err != nil {
			t.Fatal(err)
		}
	}
	files := func() (out []string) {
		entries, err := os.ReadDir(filepath.Join(dir, "country"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	want := []string{"3.data", "3.json", "4.data", "4.json", "5.data", "5.json", "lock"}
	if diff := cmp.Diff(want, files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	check := func(want string, loud bool) {
		t.Helper()
		log.Reset()
		d, damage := u.Load()
		if d.Source != want || (damage != nil) != loud || strings.Contains(log.String(), "level=ERROR") != loud {
			t.Errorf("Load() = %q, %v, want %q; logged %q", d.Source, damage, want, log.String())
		}
	}
	check("generation 5", false)
	path := func(name string) string { return filepath.Join(dir, "country", name) }
	content, err := os.ReadFile(path("5.data"))
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	os.WriteFile(path("5.data"), content, 0o644)
	check("generation 4", true)
	os.WriteFile(path("4.json"), []byte("{"), 0o644)
	check("generation 3", true)
	os.Truncate(path("3.data"), 100)
	check("snapshot", true)
	// What was damaged does not stand in the way, and what was never finished goes.
	os.WriteFile(path(".new-123"), nil, 0o644)
	os.WriteFile(path("9.data"), nil, 0o644)
	if _, err := u.Import("generation 6", Needs{}, strings.NewReader(world())); err != nil {
		t.Fatal(err)
	}
	check("generation 6", false)
	want = []string{"4.data", "4.json", "5.data", "5.json", "6.data", "6.json", "lock"}
	if diff := cmp.Diff(want, files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// A cache from before the program was made is older than the program's snapshot.
func TestSnapshotNewerThanCache(t *testing.T) {
	dir := t.TempDir()
	content, err := build(t, apnicList).Encode(Meta{Source: "old"})
	if err != nil {
		t.Fatal(err)
	}
	c := cache{filepath.Join(dir, "country")}
	if err := c.store(content, manifest{Accepted: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}); err != nil {
		t.Fatal(err)
	}
	if d, damage := NewUpdater(Options{StateDir: dir}).Load(); !d.Embedded || damage != nil {
		t.Errorf("Load() = %+v, %v", d.Meta, damage)
	}
}

func TestStoreFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "country"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	u := small(t, NewUpdater(Options{StateDir: dir}))
	if d, err := u.Import("mine", Needs{}, strings.NewReader(world())); err == nil || !d.Embedded {
		t.Errorf("Import() = %+v, %v", d.Meta, err)
	}
}

// A day with the daemon: the first look soon after the start, the next ones a day
// apart, failures tried again at growing distances, each told once.
func TestRun(t *testing.T) {
	content := world()
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		begun := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		client := &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
			times = append(times, time.Since(begun))
			begun = time.Now()
			res := &http.Response{StatusCode: 200, Request: req, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(content))}
			switch n := len(times); {
			case 2 <= n && n <= 10:
				return nil, errors.New("the network is down")
			case n == 12:
				cancel()
			}
			return res, nil
		})}
		var log bytes.Buffer
		u := small(t, NewUpdater(Options{
			StateDir: t.TempDir(),
			Client:   client,
			Source:   Source{Name: "test", Files: []File{{URLs: []string{"https://192.0.2.1/list"}}}},
			Log:      slog.New(slog.NewTextHandler(&log, nil)),
		}))
		changed := 0
		if err := u.Run(ctx, func() Needs { return Needs{Allow: []Code{code("JP")}} }, func(*Data) { changed++ }); err != nil {
			t.Fatal(err)
		}
		day, quarter := 24*time.Hour, 15*time.Minute
		want := []time.Duration{0, day, quarter, 2 * quarter, 4 * quarter, 8 * quarter, 16 * quarter, 32 * quarter, 64 * quarter, day, day, day}
		if len(times) != len(want) {
			t.Fatalf("looked %d times: %v", len(times), times)
		}
		for i, got := range times {
			slack := want[i] / 10
			if i == 0 {
				slack = startJitter
			}
			if (got - want[i]).Abs() > slack {
				t.Errorf("look %d came after %s, want %s or so", i+1, got, want[i])
			}
		}
		if got := strings.Count(log.String(), "level=WARN"); changed != 2 || got != 9 {
			t.Errorf("changed %d times, %d warnings:\n%s", changed, got, log.String())
		}
	})
}

// A restart does not look again at once; a clock that was set back does not keep
// one from looking.
func TestFirstWait(t *testing.T) {
	u := NewUpdater(Options{StateDir: t.TempDir()})
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name string
		data Data
		want time.Duration // at least; at most ten minutes more
	}{
		{"the snapshot", Data{Embedded: true}, 0},
		{"an hour old", Data{Accepted: now.Add(-time.Hour)}, 23 * time.Hour},
		{"two days old", Data{Accepted: now.Add(-48 * time.Hour)}, 0},
		{"of tomorrow", Data{Accepted: now.Add(24 * time.Hour)}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for range 100 {
				if got := u.firstWait(&test.data, now); got < test.want || got >= test.want+startJitter {
					t.Fatalf("firstWait() = %s, want %s or so", got, test.want)
				}
			}
		})
	}
}
