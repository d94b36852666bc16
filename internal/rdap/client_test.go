package rdap

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/notify"
)

func TestLookup(t *testing.T) {
	w := newWorld(t)
	w.site("rdap.arin.net", w.redirect("rdap.db.ripe.net"))
	w.site("rdap.db.ripe.net", body(string(sample(t, "rdap-ripe.json"))))
	w.dns.text("7.2.0.192.origin.asn.cymru.com", "64496 | 192.0.2.0/24 | NL | ripencc | 2001-02-03")
	w.dns.text("as64496.asn.cymru.com", "64496 | NL | ripencc | 2001-02-03 | EXAMPLE-AS, NL")
	w.dns.reverse("7.2.0.192.in-addr.arpa", "host.example.net.")
	w.dns.host("host.example.net", "192.0.2.7")

	c := New(w.options())
	want := ripe("rdap.db.ripe.net")
	want.ASN, want.ASName, want.Reverse = 64496, "EXAMPLE-AS, NL", "host.example.net"
	for range 3 {
		got, err := c.Lookup(t.Context(), addr("::ffff:192.0.2.7"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, byValue); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		got.Abuse[0] = "mine" // an answer is the caller's own
	}
	want.Reverse = ""
	got, err := c.Lookup(t.Context(), addr("192.0.2.200"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("of its neighbour: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/registry/ip/192.0.2.7"}, w.questions("rdap.arin.net")); diff != "" {
		t.Errorf("ARIN: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/ip/192.0.2.7"}, w.questions("rdap.db.ripe.net")); diff != "" {
		t.Errorf("RIPE: -want +got:\n%s", diff)
	}
	for _, question := range []string{"TXT 7.2.0.192.origin.asn.cymru.com.", "PTR 7.2.0.192.in-addr.arpa.", "TXT as64496.asn.cymru.com."} {
		if got := w.dns.count(question); got != 1 {
			t.Errorf("%s was asked %d times", question, got)
		}
	}
}

// TestRedirectKeepsTLS has a registry speak of http where it means the registry beside it: that one is
// asked all the same, and by https.
func TestRedirectKeepsTLS(t *testing.T) {
	for _, port := range []string{"", ":80"} {
		w := newWorld(t)
		w.site("rdap.arin.net", func(res http.ResponseWriter, req *http.Request) {
			http.Redirect(res, req, "http://rdap.db.ripe.net"+port+"/ip/192.0.2.7", http.StatusFound)
		})
		w.site("rdap.db.ripe.net", func(res http.ResponseWriter, req *http.Request) {
			if req.TLS == nil {
				t.Error("it was asked without TLS")
			}
			body(string(sample(t, "rdap-ripe.json")))(res, req)
		})
		got, err := New(w.options()).Lookup(t.Context(), addr("192.0.2.7"))
		if diff := cmp.Diff(ripe("rdap.db.ripe.net"), got, byValue); diff != "" || err != nil {
			t.Errorf("port %q: error %v; -want +got:\n%s", port, err, diff)
		}
	}
}

func TestLookupNeverAsksFor(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.Servers.ForTests = false
	c := New(o)
	for _, a := range []string{"10.0.0.1", "127.0.0.1", "::1", "fe80::1%lo", "169.254.169.254", "192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "::ffff:10.0.0.1", "0.0.0.0", "224.0.0.1"} {
		if got, err := c.Lookup(t.Context(), addr(a)); !errors.Is(err, ErrNotPublic) {
			t.Errorf("%s: %+v, %v", a, got, err)
		}
	}
	if got, err := c.Lookup(t.Context(), netip.Addr{}); !errors.Is(err, ErrNotPublic) {
		t.Errorf("no address: %+v, %v", got, err)
	}
	if len(w.dns.asked) != 0 {
		t.Errorf("DNS was asked %v", w.dns.asked)
	}
}

// TestNothingPrivateIsAsked has the names of registries lead into the inner network, as whoever
// answers our DNS may have it.
func TestNothingPrivateIsAsked(t *testing.T) {
	w := newWorld(t)
	w.whois(map[string]answer{"whois.iana.org": text("refer: whois.ripe.net")})
	w.site("rdap.arin.net", body(network("")))
	w.dns.host("rdap.arin.net", "::1", "169.254.169.254", "10.0.0.1")
	o := w.options()
	o.Servers.ForTests = false
	_, err := New(o).Lookup(t.Context(), addr("8.8.8.8"))
	if err == nil || strings.Count(err.Error(), "is no public address: it is not asked") < 2 {
		t.Errorf("error %v", err)
	}
	if got := append(w.questions("rdap.arin.net"), w.questions("whois.iana.org")...); len(got) != 0 {
		t.Errorf("they were asked %q", got)
	}
}

func TestRDAPRefused(t *testing.T) {
	// forever writes so long as it is read.
	forever := func(chunk string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
			}
		}
	}
	var bomb bytes.Buffer
	packer := gzip.NewWriter(&bomb)
	packer.Write(bytes.Repeat([]byte(" "), 8<<20))
	packer.Close()
	to := func(format string) func(*world) http.HandlerFunc {
		return func(w *world) http.HandlerFunc {
			return func(res http.ResponseWriter, _ *http.Request) {
				res.Header().Set("Location", strings.ReplaceAll(format, "PORT", w.webPort))
				res.WriteHeader(http.StatusFound)
			}
		}
	}
	plainly := func(h http.HandlerFunc) func(*world) http.HandlerFunc {
		return func(*world) http.HandlerFunc { return h }
	}
	status := func(code int) func(*world) http.HandlerFunc {
		return plainly(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	for _, tt := range []struct {
		name    string
		handler func(*world) http.HandlerFunc
		want    string
	}{
		{"endless", plainly(forever(strings.Repeat("[", 1000))), "more than 524288 bytes"},
		{"huge", plainly(body(network(`,"x":"` + strings.Repeat("a", maxAnswer) + `"`))), "more than 524288 bytes"},
		{"huge headers", plainly(func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("a", 1000))
			}
		}), "headers exceeded"},
		{"gzip bomb", plainly(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb.Bytes())
		}), `in the encoding "gzip", which was not asked for`},
		{"gzip bomb, undeclared", plainly(func(w http.ResponseWriter, _ *http.Request) { w.Write(bomb.Bytes()) }), "invalid character"},
		{"HTML", plainly(body("<!DOCTYPE html><title>\x1b[2JPlease log in</title>")), "invalid character '<'"},
		{"nothing", plainly(body("")), "unexpected end of JSON input"},
		{"not found", status(http.StatusNotFound), "it knows of no such network"},
		{"not implemented", status(http.StatusNotImplemented), "501 Not Implemented"},
		{"too many requests", status(http.StatusTooManyRequests), "429 Too Many Requests"},
		{"hung up", plainly(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), "EOF"},
		{"hung up within", plainly(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "{")
		}), "unexpected EOF"},
		{"redirect to http", to("http://rdap.db.ripe.net:PORT/ip/192.0.2.7"), "it is not https"},
		{"redirect to a file", to("file:///etc/passwd"), "it is not https"},
		{"redirect to loopback", to("https://127.0.0.1:PORT/ip/192.0.2.7"), "it is no registry's"},
		{"redirect to metadata", to("https://169.254.169.254/latest/meta-data/"), "it is no registry's"},
		{"redirect to a stranger", to("https://rdap.example.com:PORT/ip/192.0.2.7"), "it is no registry's"},
		{"redirect to a stranger who looks like one", to("https://rdap.arin.net.example.com:PORT/"), "it is no registry's"},
		{"redirect to a stranger whose name ends alike", to("https://notarin.net:PORT/"), "it is no registry's"},
		{"redirect to another port", to("https://rdap.db.ripe.net:22/ip/192.0.2.7"), "it is no registry's"},
		{"redirect with a password", to("https://a:b@rdap.db.ripe.net:PORT/ip/192.0.2.7"), "it is no registry's"},
		{"redirect to text", to("https://rdap.db.ripe.net:PORT/\x1b[2J"), "malformed MIME header line"},
		{"redirect in a circle", to("https://rdap.arin.net:PORT/ip/192.0.2.7"), "more than 5 redirects"},
		{"redirect to nowhere", to(""), "302"},
		{"not TLS's name", func(w *world) http.HandlerFunc { return w.redirect("ftp.arin.net") }, "certificate is valid for"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.site("rdap.arin.net", tt.handler(w))
			w.site("rdap.db.ripe.net", body(string(sample(t, "rdap-ripe.json"))))
			w.site("rdap.example.com", body(string(sample(t, "rdap-ripe.json"))))
			w.site("ftp.arin.net", body(string(sample(t, "rdap-ripe.json"))))
			got, err := New(w.options()).Lookup(t.Context(), addr("192.0.2.7"))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, error %v, want %q", got, err, tt.want)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\r\n") {
				t.Errorf("the error is not fit to be shown: %q", err)
			}
			if asked := append(w.questions("rdap.db.ripe.net"), w.questions("rdap.example.com")...); len(asked) != 0 {
				t.Errorf("it was followed: %q", asked)
			}
		})
	}
}

func TestWHOISWhereRDAPHasNone(t *testing.T) {
	for _, tt := range []struct {
		name    string
		addr    string
		rdap    http.HandlerFunc // nil: it cannot be reached
		servers map[string]string
		want    notify.Owner
	}{
		{"not found", "192.0.2.7", http.NotFound, map[string]string{"whois.iana.org": "whois-iana.txt", "whois.ripe.net": "whois-ripe.txt"}, func() notify.Owner {
			o := ripe("whois.ripe.net")
			o.ASN = 64496
			return o
		}()},
		{"not reachable", "198.51.100.7", nil, map[string]string{"whois.iana.org": "refer: whois.arin.net", "whois.arin.net": "whois-arin.txt"}, notify.Owner{
			Name: "Corner Shop", Network: "EXAMPLE-SMALL", Prefix: pfx("198.51.100.0/28"), Country: "CA", Abuse: []string{"abuse@example.com"}, Source: "whois.arin.net",
		}},
		{"a national registry's", "203.0.113.200", body("{}"), map[string]string{"whois.iana.org": "refer: whois.apnic.net", "whois.apnic.net": "whois-apnic.txt", "whois.nic.ad.jp": "whois-jpnic.txt"}, notify.Owner{
			Name: "Example Shoten", Network: "EXAMPLE-SUB", Prefix: pfx("203.0.113.128/25"), Country: "JP", Abuse: []string{"abuse@example.jp"}, Source: "whois.nic.ad.jp",
		}},
		{"the national registry does not answer", "203.0.113.200", nil, map[string]string{"whois.iana.org": "refer: whois.apnic.net", "whois.apnic.net": "whois-apnic.txt"}, notify.Owner{
			Name: "Example Network Service", Network: "EXAMPLENET", Prefix: pfx("203.0.113.0/24"), Country: "JP", Abuse: []string{"hostmaster@nic.example"}, Source: "whois.apnic.net",
		}},
		{"ARIN refers to APNIC", "203.0.113.200", nil, map[string]string{"whois.iana.org": "refer: whois.arin.net", "whois.arin.net": "NetRange: 203.0.0.0 - 203.255.255.255\nOrgName: APNIC\nReferralServer: whois://whois.apnic.net\n", "whois.apnic.net": "inetnum: 203.0.113.0/24\nnetname: N\n"}, notify.Owner{
			Network: "N", Prefix: pfx("203.0.113.0/24"), Source: "whois.apnic.net",
		}},
		{"the holder's own server lies", "192.0.2.7", nil, map[string]string{"whois.iana.org": "refer: whois.arin.net", "whois.arin.net": "NetRange: 192.0.2.0 - 192.0.2.255\nNetName: N\nReferralServer: whois://whois.example.com\n", "whois.example.com": "inetnum: 198.51.100.0/24\nnetname: OTHER\n"}, notify.Owner{
			Network: "N", Prefix: pfx("192.0.2.0/24"), Source: "whois.arin.net",
		}},
		{"the holder's own server speaks for its neighbours", "192.0.2.7", nil, map[string]string{"whois.iana.org": "refer: whois.arin.net", "whois.arin.net": "NetRange: 192.0.2.0 - 192.0.2.15\nNetName: N\nReferralServer: whois://whois.example.com\n", "whois.example.com": "inetnum: 192.0.0.0/16\nnetname: ALL\n"}, notify.Owner{
			Network: "N", Prefix: pfx("192.0.2.0/28"), Source: "whois.arin.net",
		}},
		{"the holder's own server knows more", "192.0.2.7", nil, map[string]string{"whois.iana.org": "refer: whois.arin.net", "whois.arin.net": "NetRange: 192.0.2.0 - 192.0.2.255\nNetName: N\nOrgName: O\nCountry: CA\nReferralServer: whois://whois.example.com\n", "whois.example.com": "inetnum: 192.0.2.0/28\nnetname: PART\n"}, notify.Owner{
			Network: "PART", Prefix: pfx("192.0.2.0/28"), Country: "CA", Source: "whois.example.com",
		}},
		{"servers refer to each other", "192.0.2.7", nil, map[string]string{"whois.iana.org": "refer: whois.arin.net", "whois.arin.net": "NetRange: 192.0.2.0 - 192.0.2.255\nNetName: N\nReferralServer: whois://whois.iana.org\n"}, notify.Owner{
			Network: "N", Prefix: pfx("192.0.2.0/24"), Source: "whois.arin.net",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			servers := map[string]answer{}
			for name, s := range tt.servers {
				if strings.HasSuffix(s, ".txt") {
					s = string(sample(t, s))
				}
				servers[name] = text(s)
			}
			w.whois(servers)
			if tt.rdap != nil {
				w.site("rdap.arin.net", tt.rdap)
			}
			got, err := New(w.options()).Lookup(t.Context(), addr(tt.addr))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, byValue); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for name := range servers {
				want := tt.addr + "\r\n"
				switch name {
				case "whois.arin.net":
					want = "n + " + want
				case "whois.nic.ad.jp":
					want = tt.addr + "/e\r\n"
				}
				if diff := cmp.Diff([]string{want}, w.questions(name)); diff != "" {
					t.Errorf("%s: -want +got:\n%s", name, diff)
				}
			}
		})
	}
}

func TestWHOISRefused(t *testing.T) {
	chain := map[string]answer{}
	for i := range 8 {
		name := fmt.Sprintf("whois%d.example.com", i)
		if i == 0 {
			name = "whois.iana.org"
		}
		chain[name] = text(fmt.Sprintf("refer: whois%d.example.com\n", i+1))
	}
	one := func(a answer) map[string]answer { return map[string]answer{"whois.iana.org": a} }
	for _, tt := range []struct {
		name    string
		servers map[string]answer
		want    string
	}{
		{"endless", one(func(conn net.Conn, _ string) {
			for {
				if _, err := conn.Write(bytes.Repeat([]byte("descr: x\n"), 1000)); err != nil {
					return
				}
			}
		}), "more than 524288 bytes"},
		{"nothing", one(func(net.Conn, string) {}), "it answers nothing"},
		{"HTML", one(text(string(sample(t, "whois-html.txt")))), "it knows of no such network"},
		{"no match", one(text("% No match\n")), "it knows of no such network"},
		{"a chain of referrals", chain, "whois3.example.com: it knows of no such network"},
		{"a referral to nobody", one(text("refer: whois.nowhere.example\n")), "no such host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.whois(tt.servers)
			got, err := New(w.options()).Lookup(t.Context(), addr("192.0.2.7"))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, error %v, want %q", got, err, tt.want)
			}
			if asked := w.questions("whois4.example.com"); len(asked) != 0 {
				t.Errorf("the fourth referral was followed: %q", asked)
			}
		})
	}
}

// TestSlow has every server give a byte now and then: a lookup ends in time, and leaves nothing
// behind.
func TestSlow(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("servers", func(t *testing.T) {
		w := newWorld(t)
		// A byte each 50 ms, for as long as somebody listens.
		drip := func(write func() error, end <-chan struct{}) {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					if write() != nil {
						return
					}
				case <-end:
					return
				}
			}
		}
		w.site("rdap.arin.net", func(res http.ResponseWriter, req *http.Request) {
			drip(func() error {
				_, err := io.WriteString(res, " ")
				return errors.Join(err, http.NewResponseController(res).Flush())
			}, req.Context().Done())
		})
		w.whois(map[string]answer{"whois.iana.org": func(conn net.Conn, _ string) {
			drip(func() error { _, err := io.WriteString(conn, "%"); return err }, nil)
		}})
		w.dns.mute("7.2.0.192.origin.asn.cymru.com.", "7.2.0.192.in-addr.arpa.")
		o := w.options()
		o.Timeout = 900 * time.Millisecond
		c := New(o)
		began := time.Now()
		_, err := c.Lookup(t.Context(), addr("192.0.2.7"))
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %s", took)
		}
		const want = "look up whose 192.0.2.7 is: RDAP: rdap.arin.net: no answer within 600ms; WHOIS: whois.iana.org: no answer within 900ms"
		if err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		// The failure is known now: it takes no time.
		if _, again := c.Lookup(t.Context(), addr("192.0.2.8")); again == nil || !strings.Contains(again.Error(), "no answer within 600ms") {
			t.Errorf("its neighbour: %v", again)
		}
		if got := w.questions("rdap.arin.net"); len(got) != 1 {
			t.Errorf("it was asked %q", got)
		}
	})
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left, of %d", runtime.NumGoroutine(), before)
		}
	}
}

func TestDNSWhereRegistriesFail(t *testing.T) {
	w := newWorld(t)
	w.dns.text("7.2.0.192.origin.asn.cymru.com", "64496 | 192.0.2.0/25 | NL | ripencc | 2001-02-03")
	w.dns.reverse("7.2.0.192.in-addr.arpa", "host.example.net.")
	w.dns.host("host.example.net", "192.0.2.7")
	got, err := New(w.options()).Lookup(t.Context(), addr("192.0.2.7"))
	if err == nil {
		t.Error("no error")
	}
	want := notify.Owner{Prefix: pfx("192.0.2.0/25"), ASN: 64496, Country: "NL", Reverse: "host.example.net", Source: "asn.cymru.com"}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// nets answers with the /24 of the address.
func nets(w http.ResponseWriter, r *http.Request) {
	_, of, _ := strings.Cut(r.URL.Path, "/ip/")
	p, err := netip.MustParseAddr(of).Prefix(24)
	if err != nil {
		panic(err)
	}
	last := p.Addr().As4()
	last[3] = 255
	fmt.Fprintf(w, `{"objectClassName":"ip network","name":"NET-%s","startAddress":%q,"endAddress":%q}`, p.Addr(), p.Addr(), netip.AddrFrom4(last))
}

func TestOneQuestionForANetwork(t *testing.T) {
	w := newWorld(t)
	w.site("rdap.arin.net", nets)
	o := w.options()
	o.Timeout = time.Minute // of a machine that is busy
	c := New(o)
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			a := netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
			if got, err := c.Lookup(t.Context(), a); err != nil || got.Network != "NET-203.0.113.0" {
				t.Errorf("%s: %+v, %v", a, got, err)
			}
		})
	}
	all.Wait()
	if got := w.questions("rdap.arin.net"); len(got) != 1 {
		t.Errorf("%d questions: %q", len(got), got)
	}
	if len(c.underWay) != 0 {
		t.Errorf("%d questions are still under way", len(c.underWay))
	}
	w.dns.mu.Lock()
	defer w.dns.mu.Unlock()
	lookups := 0
	for question, n := range w.dns.asked {
		if strings.Contains(question, "cymru") || strings.HasPrefix(question, "PTR") {
			lookups += n
		}
	}
	if lookups > 120 {
		t.Errorf("%d lookups in DNS", lookups)
	}
}

func TestBusy(t *testing.T) {
	w := newWorld(t)
	w.site("rdap.arin.net", nets)
	c, at := timed(w.options())
	ask := func(third int) error {
		_, err := c.Lookup(t.Context(), netip.AddrFrom4([4]byte{81, byte(third), 0, 1}))
		return err
	}
	for i := range 20 {
		if err := ask(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(20); !errors.Is(err, ErrBusy) || err.Error() != "look up whose 81.20.0.1 is: not asked: too many questions in this minute" {
		t.Errorf("the 21st: %v", err)
	}
	if err := ask(0); err != nil {
		t.Errorf("what is known is told all the same: %v", err)
	}
	at.add(3 * time.Second)
	if err := ask(20); err != nil {
		t.Errorf("3 s later: %v", err)
	}
	if err := ask(21); !errors.Is(err, ErrBusy) {
		t.Errorf("and one more: %v", err)
	}
	if got := len(w.questions("rdap.arin.net")); got != 21 {
		t.Errorf("%d questions", got)
	}
}

func TestHowLongAnAnswerHolds(t *testing.T) {
	w := newWorld(t)
	var fails atomic.Bool
	fails.Store(true)
	w.site("rdap.arin.net", func(res http.ResponseWriter, req *http.Request) {
		if fails.Load() {
			http.NotFound(res, req)
			return
		}
		nets(res, req)
	})
	c, at := timed(w.options())
	lookup := func() error {
		_, err := c.Lookup(t.Context(), addr("203.0.113.7"))
		return err
	}
	asked := func(want int) {
		t.Helper()
		if got := len(w.questions("rdap.arin.net")); got != want {
			t.Errorf("it was asked %d times, want %d", got, want)
		}
	}
	for range 2 {
		if err := lookup(); !errors.Is(err, ErrUnknown) {
			t.Errorf("error %v", err)
		}
	}
	asked(1)
	fails.Store(false)
	at.add(10*time.Minute - time.Second)
	if err := lookup(); err == nil {
		t.Error("the failure is forgotten too early")
	}
	asked(1)
	at.add(time.Second)
	if err := lookup(); err != nil {
		t.Error(err)
	}
	asked(2)
	at.add(24*time.Hour - time.Second)
	if err := lookup(); err != nil {
		t.Error(err)
	}
	asked(2)
	at.add(time.Second)
	if err := lookup(); err != nil {
		t.Error(err)
	}
	asked(3)
}

func TestLeftAlone(t *testing.T) {
	for _, tt := range []struct {
		name, retryAfter string
		rest             time.Duration
	}{
		{"it does not say how long", "", time.Minute},
		{"seconds", "300", 5 * time.Minute},
		{"a time", "Tue, 03 Feb 2026 04:15:06 GMT", 10 * time.Minute},
		{"for ever", "99999999999", time.Hour},
		{"no number", "99999999999999999999", time.Minute},
		{"very long", "999999", time.Hour},
		{"negative", "-5", time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.site("rdap.arin.net", w.redirect("rdap.apnic.net"))
			w.site("rdap.apnic.net", func(res http.ResponseWriter, _ *http.Request) {
				if tt.retryAfter != "" {
					res.Header().Set("Retry-After", tt.retryAfter)
				}
				res.WriteHeader(http.StatusTooManyRequests)
			})
			c, at := timed(w.options())
			third := byte(0)
			ask := func(want string, questions int) {
				t.Helper()
				third++
				_, err := c.Lookup(t.Context(), netip.AddrFrom4([4]byte{81, third, 0, 1}))
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
				if got := len(w.questions("rdap.apnic.net")); got != questions {
					t.Errorf("it was asked %d times, want %d", got, questions)
				}
			}
			ask("rdap.apnic.net: it answers 429 Too Many Requests", 1)
			ask("rdap.apnic.net: not asked: it wants to be left alone", 1)
			at.add(tt.rest - time.Second)
			ask("rdap.apnic.net: not asked: it wants to be left alone", 1)
			at.add(time.Second)
			ask("rdap.apnic.net: it answers 429 Too Many Requests", 2)
		})
	}
}

// TestGivenUp has the caller give up: that is not the servers' failure, and is not kept.
func TestGivenUp(t *testing.T) {
	w := newWorld(t)
	reached := make(chan struct{}, 10)
	var stuck atomic.Bool
	stuck.Store(true)
	w.site("rdap.arin.net", func(res http.ResponseWriter, req *http.Request) {
		reached <- struct{}{}
		if stuck.Load() {
			<-req.Context().Done()
			return
		}
		nets(res, req)
	})
	c := New(w.options())
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the caller is gone")
	failed := make(chan error, 2)
	go func() {
		_, err := c.Lookup(ctx, addr("203.0.113.7"))
		failed <- err
	}()
	<-reached
	waiting, stop := context.WithCancel(t.Context())
	stop()
	if _, err := c.Lookup(waiting, addr("203.0.113.8")); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "wait for the answer about its neighbour") {
		t.Errorf("who waits and gives up: %v", err)
	}
	cancel(gone)
	if err := <-failed; !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
	stuck.Store(false)
	if got, err := c.Lookup(t.Context(), addr("203.0.113.8")); err != nil || got.Network != "NET-203.0.113.0" {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
}

// TestCachesAreBounded asks for more than they hold.
func TestCachesAreBounded(t *testing.T) {
	w := newWorld(t)
	w.site("rdap.arin.net", func(res http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, ".1") {
			http.NotFound(res, req)
			return
		}
		nets(res, req)
	})
	o := w.options()
	o.MaxCached, o.PerMinute = 10, 1000
	c := New(o)
	for i := range 60 {
		c.Lookup(t.Context(), netip.AddrFrom4([4]byte{81, byte(i), 0, byte(1 + i%2)}))
	}
	if len(c.owners.entries) != 10 || len(c.failures.entries) != 10 || len(c.origins.entries) != 10 || len(c.names.entries) != 10 {
		t.Errorf("%d owners, %d failures, %d origins, %d names", len(c.owners.entries), len(c.failures.entries), len(c.origins.entries), len(c.names.entries))
	}
}

func TestNoProxy(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("https_proxy", "http://127.0.0.1:1")
	t.Setenv("ALL_PROXY", "socks5://127.0.0.1:1")
	w := newWorld(t)
	w.site("rdap.arin.net", nets)
	if got, err := New(w.options()).Lookup(t.Context(), addr("203.0.113.7")); err != nil || got.Source != "rdap.arin.net" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestServersThatMakeNoSense(t *testing.T) {
	for _, tt := range []struct{ name, rdap, whois, want string }{
		{"http", "http://rdap.arin.net/", "", "is no https URL"},
		{"no host", "https:///registry/", "", "is no https URL"},
		{"a query", "https://rdap.arin.net/?a=b", "", "is no https URL"},
		{"no port", "", "whois.iana.org", "is no host:port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := New(Options{Servers: Servers{RDAP: tt.rdap, WHOIS: tt.whois}})
			if _, err := c.Lookup(t.Context(), addr("8.8.8.8")); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func BenchmarkLookupCached(b *testing.B) {
	w := newWorld(b)
	w.site("rdap.arin.net", nets)
	c := New(w.options())
	if _, err := c.Lookup(b.Context(), addr("203.0.113.7")); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Lookup(b.Context(), addr("203.0.113.7")); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBusy is a lookup beyond the budget, as in an attack.
func BenchmarkBusy(b *testing.B) {
	c := New(Options{})
	c.questions.perMinute, c.questions.left = 0, 0
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Lookup(b.Context(), addr("8.8.8.8")); !errors.Is(err, ErrBusy) {
			b.Fatal(err)
		}
	}
}
