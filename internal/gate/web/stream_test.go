package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
)

// hostStream is a stream as a host reads it.
type hostStream struct {
	t     *testing.T
	lines *bufio.Reader
	doc   object
}

// stream begins one of name's, over a real connection.
func (w *world) stream(t *testing.T, base, name string) (s *hostStream, status int, kind string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), get, base+api.Version+"/hosts/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = strings.TrimPrefix(w.settings.URL, "https://")
	w.sign(r, w.keys[name], api.HostNamespace, nil)
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { got.Body.Close() })
	return &hostStream{t: t, lines: bufio.NewReader(got.Body), doc: theDocument(t)}, got.StatusCode, got.Header.Get("Content-Type")
}

func (s *hostStream) next() api.Change {
	s.t.Helper()
	b, err := s.lines.ReadBytes('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	validateJSON(s.t, s.doc, object{"$ref": "#/components/schemas/Change"}, b, "the stream")
	var c api.Change
	if err := json.Unmarshal(b, &c); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// A host is enrolled, hears of a grant, says that it is in force, and hears that it ends.
func TestHostStream(t *testing.T) {
	w := newWorld(t)
	base := "http://" + served(t, w, Serving{Limits: Limits{Read: 300 * time.Millisecond, Write: 300 * time.Millisecond}})
	told := decode[api.Invitation](t, w.call("root", post, api.Version+"/hosts", api.HostRequest{Name: "box-2"}))
	if told.Token == "" || told.For != "box-2" {
		t.Fatalf("got %+v", told)
	}
	enrol := func(key string) *answer {
		body, err := json.Marshal(api.EnrolRequest{Token: told.Token, Version: "2"})
		if err != nil {
			t.Fatal(err)
		}
		return w.do(w.sign(withJSON(w.request(post, api.Version+"/hosts/enrol", "box-2", body)), w.keys[key], api.HostNamespace, body))
	}
	w.keys["box-2"] = newKey(t)
	if h := decode[api.Host](t, enrol("box-2")); h.Name != "box-2" || h.Version != "2" {
		t.Errorf("got %+v", h)
	}
	if got := enrol("stranger"); got.StatusCode != 404 && got.StatusCode != 410 {
		t.Errorf("a token is good twice: %d", got.StatusCode)
	}

	s, status, kind := w.stream(t, base, "box-1")
	if status != 200 || kind != "application/jsonl" {
		t.Fatalf("%d %s", status, kind)
	}
	first := s.next()
	if first.Snapshot == nil || first.Snapshot.Host != "box-1" || first.Snapshot.Ticket == "" {
		t.Fatalf("got %+v", first)
	}
	report := func(r api.Report, sign bool) *answer {
		body, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		q := withJSON(w.request(post, api.Version+"/hosts/report", "box-1", body))
		if sign {
			w.sign(q, w.keys["box-1"], api.HostNamespace, body)
		}
		return w.do(q)
	}
	if got := report(api.Report{Ticket: first.Snapshot.Ticket, Grants: []api.ReportedGrant{}, Whole: true}, true); got.StatusCode != 204 {
		t.Fatal(read(t, got))
	}
	opened := make(chan api.Grant, 1)
	go func() {
		g, err := w.gate.Open(context.Background(), w.who("hanako"), "box", api.OpenRequest{Seconds: 600})
		if err != nil {
			t.Error(err)
		}
		opened <- g
	}()
	if c := s.next(); c.Beat.IsZero() {
		t.Fatalf("no beat says when the next line was written: %+v", c)
	}
	let := s.next()
	if let.Let == nil || let.Let.Person != "hanako" || let.Let.Prefix.Addr() != from("hanako") || let.Let.Millis < 590_000 {
		t.Fatalf("got %+v", let)
	}
	if got := report(api.Report{Ticket: first.Snapshot.Ticket, Grants: []api.ReportedGrant{{ID: let.Let.ID, InForce: true}}}, false); got.StatusCode != 204 {
		t.Fatalf("by the ticket alone: %s", read(t, got))
	}
	if g := <-opened; g.State != api.Open || !g.InForce {
		t.Errorf("got %+v", g)
	}
	// Whom the host turned away is told on the page, in the language of the page, to who opened it.
	for _, tt := range []struct {
		seen   []string
		at     string
		en, ja string
	}{
		{[]string{"192.0.2.200"}, "hanako", "turned away 192.0.2.200: if you know one as your own", "192.0.2.200 からの接続は拒否されました。確かにご自分のアドレスだと分かる"},
		{[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"}, "hanako", "192.0.2.4 and 2 more: if you know", "192.0.2.4 ほか 2 件からの接続"},
		{[]string{from("taro").String()}, "taro", "turned away " + from("taro").String() + ", where you are now", "いまお使いの " + from("taro").String() + " からの接続"},
	} {
		seen := []netip.Addr{}
		for _, a := range tt.seen {
			seen = append(seen, netip.MustParseAddr(a))
		}
		if got := report(api.Report{Ticket: first.Snapshot.Ticket, Grants: []api.ReportedGrant{}, Seen: seen}, false); got.StatusCode != 204 {
			t.Fatal(read(t, got))
		}
		for lang, want := range map[string]string{"en": tt.en, "ja": tt.ja} {
			for _, path := range []string{"/", "/doors/box"} {
				r := w.withSession(w.request(get, path, tt.at, nil), w.session("hanako"))
				r.Header.Set("Accept-Language", lang)
				if page := read(t, w.do(r)); !strings.Contains(page, want) || lang == "ja" && strings.Contains(page, "turned away") {
					t.Errorf("%s %s: %q is not there:\n%s", lang, path, want, page)
				}
			}
		}
	}
	doors := decode[[]api.Door](t, w.call("hanako", get, api.Version+"/doors", nil))
	if i := slices.IndexFunc(doors, func(d api.Door) bool { return d.Target == "box" }); i < 0 || len(doors[i].Grants) != 1 || len(doors[i].Grants[0].Warnings) != 1 {
		t.Errorf("got %+v", doors)
	}
	if text := read(t, w.call("taro", get, api.Version+"/doors", nil)); strings.Contains(text, "turned away") {
		t.Errorf("told to another: %s", text)
	}
	if got := report(api.Report{Ticket: "guessed", Grants: []api.ReportedGrant{}}, false); got.StatusCode != 401 {
		t.Errorf("by a guessed ticket: %d", got.StatusCode)
	}
	// The stream lasts longer than a request may: no time-out of those is its end.
	time.AfterFunc(700*time.Millisecond, func() {
		if _, err := w.gate.Close(context.Background(), w.who("hanako"), let.Let.ID); err != nil {
			t.Error(err)
		}
	})
	for {
		c := s.next()
		if c.End == let.Let.ID {
			break
		}
		if c.Snapshot != nil || c.Let != nil {
			t.Fatalf("got %+v", c)
		}
	}
}

// endless is a gate whose stream never waits.
type endless struct{ *gate.Gate }

func (endless) Stream(ctx context.Context, _ gate.Who) (iter.Seq[api.Change], error) {
	return func(yield func(api.Change) bool) {
		for ctx.Err() == nil && yield(api.Change{End: strings.Repeat("x", 64)}) {
		}
	}, nil
}

// A host that does not read loses its stream; nothing is kept for it meanwhile.
func TestStreamOfWhoDoesNotRead(t *testing.T) {
	w := newWorld(t)
	ended := make(chan struct{})
	h := New(Options{Gate: endless{w.gate}, Settings: func() Settings { return w.settings }, Logger: quietly(), Now: w.time, Limits: Limits{Write: 200 * time.Millisecond}})
	addr := served(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		defer close(ended)
		h.ServeHTTP(rw, r)
	}), Serving{Limits: Limits{Write: 200 * time.Millisecond}})
	r := w.request(get, api.Version+"/hosts/stream", "box-1", nil)
	w.sign(r, w.keys["box-1"], api.HostNamespace, nil)
	c := dial(t, addr)
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: gate.example.com\r\n", r.URL.RequestURI())
	r.Header.Write(c)
	io.WriteString(c, "\r\n")
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the stream lasts")
	}
}

func TestExport(t *testing.T) {
	w := newWorld(t)
	if got := w.call("hanako", post, api.Version+"/doors/web/open", api.OpenRequest{Reason: "<script>alert(1)</script>"}); got.StatusCode != 200 {
		t.Fatal(read(t, got))
	}
	got := w.call("root", get, api.Version+"/audit/export", nil)
	if got.Header.Get("Content-Disposition") == "" || got.Header.Get("Content-Type") != "application/jsonl" {
		t.Errorf("got %v", got.Header)
	}
	n := int64(0)
	for line := range strings.Lines(read(t, got)) {
		var e api.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if n++; e.Seq != n {
			t.Errorf("entry %d is number %d", n, e.Seq)
		}
	}
	if v := decode[api.Verdict](t, w.call("root", get, api.Version+"/audit/verify", nil)); !v.OK || v.Entries != n {
		t.Errorf("%d lines, %+v", n, v)
	}
}

func TestFilterOf(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name, query string
		want        int
	}{
		{"nothing", "", 200},
		{"all", "person=hanako&target=web&what=open&from=2026-01-01&to=2026-12-31T00:00:00Z&before=1000&limit=10", 200},
		{"no time", "from=yesterday", 400},
		{"no number", "before=x", 400},
		{"a group of actions", "what=person.*", 200},
		{"no action", "what=opne", 400},
		{"less than nothing", "limit=-1", 400},
		{"too many", "limit=1001", 400},
		{"a long name", "person=" + strings.Repeat("x", 129), 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := w.call("root", get, api.Version+"/audit?"+tt.query, nil); got.StatusCode != tt.want {
				t.Errorf("got %d %s", got.StatusCode, read(t, got))
			}
		})
	}
}
