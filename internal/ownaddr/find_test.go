package ownaddr

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
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
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var (
	target4 = netip.MustParseAddr("198.51.100.22")
	target6 = netip.MustParseAddr("2001:db8:ffff::22")
	local4  = netip.MustParseAddr("127.0.0.1")
	local6  = netip.MustParseAddr("::1")
	own     = netip.MustParseAddr("203.0.113.7")
	other   = netip.MustParseAddr("203.0.113.8")
	own6    = netip.MustParseAddr("2001:db8::7")
)

// service starts an https service on loopback. It returns its URL and host.
func service(t *testing.T, roots *x509.CertPool, network string, h http.HandlerFunc) (url, host string) {
	t.Helper()
	at := "127.0.0.1:0"
	if network == "tcp6" {
		at = "[::1]:0"
	}
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // who is cut off complains
	s.StartTLS()
	t.Cleanup(s.Close)
	roots.AddCert(s.Certificate())
	return s.URL + "/", l.Addr().String()
}

// says answers with a text.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// silent says nothing for as long as anybody waits for it.
func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// endless goes on for ever.
func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, "203.0.113.7\n"); err != nil {
			return
		}
	}
}

// drips begins well and never comes to an end.
func drips(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "203.0.113.7")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func status(code int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text)
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
}

// from is a route that begins at an address.
func from(a netip.Addr) func(context.Context, Family, netip.Addr) (netip.Addr, error) {
	return func(context.Context, Family, netip.Addr) (netip.Addr, error) { return a, nil }
}

func TestServices(t *testing.T) {
	const short = 300 * time.Millisecond // for those that are waited for in vain
	for _, tt := range []struct {
		name     string
		services []http.HandlerFunc
		timeout  time.Duration
		want     netip.Addr
		by       int
		others   int
		refused  string // part of the error, where there is no answer
	}{
		{name: "all agree", services: []http.HandlerFunc{says("203.0.113.7"), says("203.0.113.7\n")}, want: own, by: 2},
		{name: "two are enough", services: []http.HandlerFunc{says("203.0.113.7"), silent, says("203.0.113.7")}, want: own, by: 2},
		{name: "two against one", services: []http.HandlerFunc{says("203.0.113.8"), says("203.0.113.7"), says("203.0.113.7")}, want: own, by: 2, others: -1},
		{name: "one alone", services: []http.HandlerFunc{says("203.0.113.7")}, want: own, by: 1},
		{name: "one in time", services: []http.HandlerFunc{silent, says("203.0.113.7"), drips}, timeout: short, want: own, by: 1},
		{name: "one that can be understood", services: []http.HandlerFunc{says("<html>"), says("203.0.113.7"), status(500, "203.0.113.8"), endless}, want: own, by: 1},
		{name: "two disagree", services: []http.HandlerFunc{says("203.0.113.8"), says("203.0.113.7")}, refused: "no two services agree"},
		{name: "none in time", services: []http.HandlerFunc{silent, drips}, timeout: short, refused: "did not answer within 300ms"},
		{name: "endless", services: []http.HandlerFunc{endless}, refused: "more than 256 bytes"},
		{name: "a list", services: []http.HandlerFunc{says("203.0.113.7, 203.0.113.8")}, refused: `"203.0.113.7, 203.0.113.8", which is not one`},
		{name: "mapped", services: []http.HandlerFunc{says("::ffff:203.0.113.7")}, refused: "not one plain address"},
		{name: "the other family", services: []http.HandlerFunc{says("2001:db8::7")}, refused: "not IPv4"},
		{name: "private", services: []http.HandlerFunc{says("10.0.0.7")}, refused: "nobody's"},
		{name: "a failure that holds an address", services: []http.HandlerFunc{status(500, "203.0.113.7")}, refused: "500 Internal Server Error"},
		{name: "another success", services: []http.HandlerFunc{status(203, "203.0.113.7")}, refused: "203"},
		{name: "a redirect to http", services: []http.HandlerFunc{redirect("http://127.0.0.1/")}, refused: "302 Found"},
		{name: "a redirect to https", services: []http.HandlerFunc{redirect("https://127.0.0.1/")}, refused: "302 Found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			roots := x509.NewCertPool()
			f := &Finder{Timeout: tt.timeout, source: from(local4), ask: (&client{roots: roots}).ask}
			hosts := map[string]bool{}
			for _, h := range tt.services {
				url, host := service(t, roots, "tcp4", h)
				f.Services = append(f.Services, url)
				hosts[host] = true
			}
			got, err := f.Find(t.Context(), IPv4, target4)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) || !strings.Contains(err.Error(), "--ip") {
					t.Errorf("got %+v, error %v, want %q and a hint", got, err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Addr != tt.want || len(got.By) != tt.by || got.Cached {
				t.Errorf("got %+v, want %s by %d", got, tt.want, tt.by)
			}
			for _, host := range got.By {
				if !hosts[host] {
					t.Errorf("%q said so, and is none of the services", host)
				}
			}
			if n := len(got.Disagreed); tt.others >= 0 && n != tt.others || n > 1 { // below 0: the two may be faster
				t.Errorf("disagreed: %v", got.Disagreed)
			}
		})
	}
}

func TestDisagreement(t *testing.T) {
	roots := x509.NewCertPool()
	one, oneHost := service(t, roots, "tcp4", says("203.0.113.7"))
	two, twoHost := service(t, roots, "tcp4", says("203.0.113.8"))
	f := &Finder{Services: []string{one, two}, source: from(local4), ask: (&client{roots: roots}).ask}
	_, err := f.Find(t.Context(), IPv4, target4)
	e, ok := errors.AsType[*DisagreeError](err)
	want := map[string]netip.Addr{oneHost: own, twoHost: other}
	if !ok || cmp.Diff(want, e.Said, cmpopts.EquateComparable(netip.Addr{})) != "" {
		t.Fatalf("error %v, want what each said: %v", err, want)
	}
	for host, addr := range want {
		if !strings.Contains(err.Error(), fmt.Sprintf("%s says %s", host, addr)) {
			t.Errorf("%q does not say what %s said", err, host)
		}
	}
}

func TestServiceSix(t *testing.T) {
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skipf("LEFT OUT: this machine has no IPv6: %v", err)
	} else {
		l.Close()
	}
	roots := x509.NewCertPool()
	six, _ := service(t, roots, "tcp6", says("2001:db8::7"))
	again, _ := service(t, roots, "tcp6", says("2001:DB8:0::7"))
	four, fourHost := service(t, roots, "tcp4", says("2001:db8::8"))
	f := &Finder{Services: []string{four, six, again}, source: from(local6), ask: (&client{roots: roots}).ask}
	if got, err := f.Find(t.Context(), IPv6, target6); err != nil || got.Addr != own6 || len(got.By) != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
	// One that is to be reached by IPv4 alone is not asked for an IPv6 address.
	f.Services = []string{four}
	if got, err := f.Find(t.Context(), IPv6, target6); err == nil || !strings.Contains(err.Error(), fourHost) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestUntrusted: whoever cannot prove to be the service is not heard.
func TestUntrusted(t *testing.T) {
	url, _ := service(t, x509.NewCertPool(), "tcp4", says("203.0.113.7"))
	f := &Finder{Services: []string{url}, source: from(local4)}
	got, err := f.Find(t.Context(), IPv4, target4)
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestServicesThatAreNone(t *testing.T) {
	for _, tt := range []struct {
		name     string
		services []string
		want     string
	}{
		{"none", nil, "--ip"},
		{"http", []string{"http://127.0.0.1/"}, "no https URL"},
		{"no host", []string{"https:///ip"}, "no https URL"},
		{"no URL", []string{"https://[::1"}, "no https URL"},
		{"a name", []string{"checkip.example.com"}, "no https URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &Finder{Services: tt.services, source: from(local4)}
			if got, err := f.Find(t.Context(), IPv4, target4); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, error %v, want %q", got, err, tt.want)
			}
		})
	}
}

// TestSameHost: a service that is named twice is one voice.
func TestSameHost(t *testing.T) {
	f := &Finder{Services: []string{"https://a.example/", "https://A.example/ip"}, source: from(local4),
		ask: func(context.Context, Family, netip.Addr, string) (netip.Addr, error) { return own, nil }}
	if got, err := f.Find(t.Context(), IPv4, target4); err != nil || len(got.By) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestOwnInterface(t *testing.T) {
	nobody := func(context.Context, Family, netip.Addr, string) (netip.Addr, error) {
		return netip.Addr{}, errors.New("somebody was asked")
	}
	private := netip.MustParseAddr("10.0.0.7")
	for _, tt := range []struct {
		name         string
		source       netip.Addr
		family       Family
		toward, want netip.Addr
	}{
		{"a public address of our own", own, IPv4, target4, own},
		{"of IPv6", own6, IPv6, target6, own6},
		{"toward ourselves", local4, IPv4, netip.MustParseAddr("127.0.0.5"), local4},
		{"toward a private network", private, IPv4, netip.MustParseAddr("10.1.2.3"), private},
		{"toward a carrier's", private, IPv4, netip.MustParseAddr("100.64.0.1"), private},
		{"a target in IPv6's form", own, IPv4, netip.MustParseAddr("::ffff:198.51.100.22"), own},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &Finder{Services: []string{"https://a.example/"}, source: from(tt.source), ask: nobody}
			got, err := f.Find(t.Context(), tt.family, tt.toward)
			want := Answer{Addr: tt.want, By: []string{OwnInterface}}
			if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); err != nil || d != "" {
				t.Errorf("%v\n%s", err, d)
			}
		})
	}
	t.Run("the kernel's route", func(t *testing.T) {
		got, err := (&Finder{}).Find(t.Context(), IPv4, netip.MustParseAddr("127.3.2.1"))
		if err != nil || got.Addr != local4 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("the kernel's route of IPv6", func(t *testing.T) {
		if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
			t.Skipf("LEFT OUT: this machine has no IPv6: %v", err)
		}
		got, err := (&Finder{}).Find(t.Context(), IPv6, local6)
		if err != nil || got.Addr != local6 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("another family", func(t *testing.T) {
		for family, toward := range map[Family]netip.Addr{IPv4: target6, IPv6: target4} {
			if got, err := (&Finder{}).Find(t.Context(), family, toward); err == nil {
				t.Errorf("got %+v", got)
			}
		}
		if got, err := (&Finder{}).Find(t.Context(), IPv4, netip.Addr{}); err == nil {
			t.Errorf("got %+v", got)
		}
	})
}

func TestTime(t *testing.T) {
	late := func(d time.Duration, a netip.Addr) func(context.Context) (netip.Addr, error) {
		return func(ctx context.Context) (netip.Addr, error) {
			select {
			case <-time.After(d):
				return a, nil
			case <-ctx.Done():
				return netip.Addr{}, context.Cause(ctx)
			}
		}
	}
	for _, tt := range []struct {
		name     string
		services map[string]func(context.Context) (netip.Addr, error)
		want     time.Duration
		by       int
	}{
		{"two agree at once", map[string]func(context.Context) (netip.Addr, error){
			"https://a/": late(time.Second, own), "https://b/": late(2*time.Second, own), "https://c/": late(3*time.Second, own)}, 2 * time.Second, 2},
		{"the second never comes", map[string]func(context.Context) (netip.Addr, error){
			"https://a/": late(time.Second, own), "https://b/": late(time.Hour, own)}, 5 * time.Second, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &Finder{source: from(local4), ask: func(ctx context.Context, _ Family, _ netip.Addr, s string) (netip.Addr, error) {
					return tt.services[s](ctx)
				}}
				for s := range tt.services {
					f.Services = append(f.Services, s)
				}
				begun := time.Now()
				got, err := f.Find(t.Context(), IPv4, target4)
				if err != nil || got.Addr != own || len(got.By) != tt.by || time.Since(begun) != tt.want {
					t.Errorf("got %+v, %v after %s", got, err, time.Since(begun))
				}
			})
		})
	}
	t.Run("the caller's end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			why := errors.New("enough")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
			defer cancel()
			f := &Finder{Services: []string{"https://a/"}, source: from(local4), ask: func(ctx context.Context, _ Family, _ netip.Addr, _ string) (netip.Addr, error) {
				return late(time.Hour, own)(ctx)
			}}
			if got, err := f.Find(ctx, IPv4, target4); !errors.Is(err, why) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	})
}

// TestVoices: whatever the services say, and in whatever order, an answer is what two of them
// say, or what the only one says; and nothing is left out that could have been one.
func TestVoices(t *testing.T) {
	addrs := []netip.Addr{own, other, netip.MustParseAddr("203.0.113.9"), {}}
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.SampledFrom(addrs), 1, 6).Draw(t, "words")
		count := map[netip.Addr]int{}
		f := &Finder{source: from(local4)}
		spoke := map[string]netip.Addr{}
		for i, a := range words {
			s := fmt.Sprintf("https://%d.example/", i)
			f.Services = append(f.Services, s)
			spoke[s] = a
			if a.IsValid() {
				count[a]++
			}
		}
		f.ask = func(_ context.Context, _ Family, _ netip.Addr, s string) (netip.Addr, error) {
			if a := spoke[s]; a.IsValid() {
				return a, nil
			}
			return netip.Addr{}, errors.New("it says nothing")
		}
		got, err := f.Find(context.Background(), IPv4, target4)
		most := 0
		for _, n := range count {
			most = max(most, n)
		}
		switch {
		case most > 1 || len(count) == 1:
			if err != nil || count[got.Addr] < min(most, 2) || len(got.By) < min(most, 2) || len(got.By) > count[got.Addr] {
				t.Fatalf("%v: got %+v, %v", words, got, err)
			}
		case err == nil:
			t.Fatalf("%v: got %+v", words, got)
		}
	})
}

func TestCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "not there yet", "addresses.json")
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	asked := 0
	answer := own
	route := netip.MustParseAddr("10.0.0.7")
	f := &Finder{Services: []string{"https://a.example/"}, Cache: file, now: func() time.Time { return now }}
	f.source = func(context.Context, Family, netip.Addr) (netip.Addr, error) { return route, nil }
	f.ask = func(context.Context, Family, netip.Addr, string) (netip.Addr, error) { asked++; return answer, nil }
	find := func(want netip.Addr, wantAsked int) {
		t.Helper()
		got, err := f.Find(t.Context(), IPv4, target4)
		if err != nil || got.Addr != want || asked != wantAsked || len(got.By) != 1 || got.By[0] != "a.example" {
			t.Errorf("got %+v, %v, want %s; %d asked, want %d", got, err, want, asked, wantAsked)
		}
	}
	find(own, 1)
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	answer = other
	find(own, 1)
	route = netip.MustParseAddr("10.0.0.8") // another network
	find(other, 2)
	route = netip.MustParseAddr("10.0.0.7")
	now = now.Add(keep - time.Second)
	find(own, 2)
	now = now.Add(time.Second)
	find(other, 3)
	now = now.Add(-time.Minute) // the clock was set back
	find(other, 4)
	if err := f.Forget(); err != nil {
		t.Error(err)
	}
	find(other, 5)
	if err := errors.Join(f.Forget(), f.Forget()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	for i := range maxEntries + 3 {
		route = netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})
		if _, err := f.Find(t.Context(), IPv4, target4); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.read()); n != maxEntries {
		t.Errorf("%d are kept, want %d", n, maxEntries)
	}
}

// TestBrokenCache: nothing that the file holds is an error, or an answer that a
// service could not have given.
func TestBrokenCache(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "addresses.json")
	f := &Finder{Services: []string{"https://a.example/"}, Cache: file, source: from(local4),
		ask: func(context.Context, Family, netip.Addr, string) (netip.Addr, error) { return own, nil }}
	seal := func(e entry) []byte {
		other := &Finder{Cache: filepath.Join(dir, "other.json"), now: func() time.Time { return e.At }}
		other.remember(e.Family, e.From, Answer{Addr: e.Addr, By: e.By})
		text, err := os.ReadFile(other.Cache)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	now := time.Now()
	good := seal(entry{Family: IPv4, From: local4, Addr: other, By: []string{"a.example"}, At: now})
	for _, tt := range []struct {
		name string
		text []byte
		want netip.Addr
	}{
		{"good", good, other},
		{"nothing", nil, own},
		{"torn", good[:len(good)-9], own},
		{"edited", []byte(strings.Replace(string(good), "203.0.113.8", "203.0.113.9", 1)), own},
		{"binary", []byte{0, 1, 2, 0xff}, own},
		{"too long", append(good, make([]byte, maxCache)...), own},
		{"private", seal(entry{Family: IPv4, From: local4, Addr: netip.MustParseAddr("10.0.0.1"), By: []string{"a"}, At: now}), own},
		{"another family", seal(entry{Family: IPv4, From: local4, Addr: own6, By: []string{"a"}, At: now}), own},
		{"by nobody", seal(entry{Family: IPv4, From: local4, Addr: other, At: now}), own},
		{"of the future", seal(entry{Family: IPv4, From: local4, Addr: other, By: []string{"a"}, At: now.Add(time.Hour)}), own},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(file, tt.text, 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := f.Find(t.Context(), IPv4, target4)
			if err != nil || got.Addr != tt.want {
				t.Errorf("got %+v, %v, want %s", got, err, tt.want)
			}
		})
	}
	t.Run("a folder", func(t *testing.T) {
		f := *f
		f.Cache = t.TempDir()
		if got, err := f.Find(t.Context(), IPv4, target4); err != nil || got.Addr != own {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

// TestWitness: who is asked first is believed alone; the services are asked where it cannot say.
func TestWitness(t *testing.T) {
	six := netip.MustParseAddr("2001:db8::7")
	for _, tt := range []struct {
		name string
		says netip.Addr
		err  error
		by   string
	}{
		{"it says", own, nil, "gate.example.com"},
		{"it cannot say", netip.Addr{}, errors.New("it is down"), "a.example"},
		{"nothing", netip.Addr{}, nil, "a.example"},
		{"a private address", netip.MustParseAddr("10.0.0.1"), nil, "a.example"},
		{"the other family", six, nil, "a.example"},
		{"in IPv6's form", netip.MustParseAddr("::ffff:203.0.113.7"), nil, "a.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			f := &Finder{
				First: &Witness{"gate.example.com", func(_ context.Context, family Family, from netip.Addr) (netip.Addr, error) {
					if asked++; family != IPv4 || from != local4 {
						t.Errorf("asked for %s, from %s", family, from)
					}
					return tt.says, tt.err
				}},
				Services: []string{"https://a.example/"}, source: from(local4),
				ask: func(context.Context, Family, netip.Addr, string) (netip.Addr, error) { return own, nil },
			}
			got, err := f.Find(t.Context(), IPv4, target4)
			if err != nil || got.Addr != own || len(got.By) != 1 || got.By[0] != tt.by || asked != 1 {
				t.Errorf("got %+v, %v; asked %d times", got, err, asked)
			}
		})
	}
	t.Run("alone", func(t *testing.T) {
		f := &Finder{First: &Witness{"gate.example.com", func(context.Context, Family, netip.Addr) (netip.Addr, error) { return own, nil }}, source: from(local4)}
		if got, err := f.Find(t.Context(), IPv4, target4); err != nil || got.Addr != own {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}
