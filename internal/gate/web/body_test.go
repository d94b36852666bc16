package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"sekisho/internal/gate/api"
)

func TestDecodeJSON(t *testing.T) {
	for _, tt := range []struct {
		name, kind, body string
		want             string // part of the message; "": it is taken
	}{
		{name: "all of it", body: `{"address":"192.0.2.1","seconds":60,"reason":"x","break_glass":true,"lease":"a"}`},
		{name: "nothing of it", body: `{}`},
		{name: "with a character set", kind: "application/json; charset=utf-8", body: `{}`},
		{name: "space around", body: " {}\n"},
		{name: "a form", kind: "application/x-www-form-urlencoded", body: `{}`, want: "not JSON by its Content-Type"},
		{name: "plain text, as a form of another site can send", kind: "text/plain", body: `{}`, want: "not JSON by its Content-Type"},
		{name: "an unknown name", body: `{"reasons":"x"}`, want: `"reasons" is not known`},
		{name: "a name twice", body: `{"reason":"x","reason":"y"}`, want: `"reason" stands there twice`},
		{name: "more after the end", body: `{}{}`, want: "more after its end"},
		{name: "garbage after the end", body: `{} x`, want: "wrong at byte"},
		{name: "too early an end", body: `{"reason":`, want: "ends too early"},
		{name: "nothing", body: ``, want: "ends too early"},
		{name: "a wrong type", body: `{"seconds":"60"}`, want: `"seconds" is a string`},
		{name: "a wrong value", body: `{"address":"<script>"}`, want: "a value is not what belongs there"},
		{name: "a fraction", body: `{"seconds":1.5}`, want: `"seconds" is a number 1.5`},
		{name: "not UTF-8", body: "{\"reason\":\"\xff\"}", want: "not UTF-8"},
		{name: "deep", body: strings.Repeat(`[`, 17), want: "nested deeper"},
		{name: "very deep", body: strings.Repeat(`{"a":`, 10_000), want: "nested deeper"},
		{name: "a list", body: `[]`, want: `is a array`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{"Content-Type": {"application/json"}}
			if tt.kind != "" {
				h.Set("Content-Type", tt.kind)
			}
			var in api.OpenRequest
			err := decodeJSON(h, []byte(tt.body), &in)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := errors.AsType[*api.Error](err)
			if !ok || e.Code != api.BadRequest || !strings.Contains(e.Message, tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// Whatever strangers send is read or refused; what is read says the same when it is written
// and read again, and a message has nothing in it that does not show.
func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`{"address":"192.0.2.1","seconds":60}`))
	f.Add([]byte(`{"a":{"b":[{"c":null}]}}`))
	f.Add([]byte(`{"reason":"x","reason":"y"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h := http.Header{"Content-Type": {"application/json"}}
		var one, two api.OpenRequest
		if err := decodeJSON(h, body, &one); err != nil {
			e, ok := errors.AsType[*api.Error](err)
			if !ok {
				t.Fatalf("%v is not told as it should be", err)
			}
			for _, r := range e.Message {
				if r < ' ' || r == 0x7f {
					t.Fatalf("%q has a control character", e.Message)
				}
			}
			return
		}
		b, err := json.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		if err := decodeJSON(h, b, &two); err != nil || one != two {
			t.Fatalf("%s is not what was read: %v", b, err)
		}
	})
}

func FuzzDecodeForm(f *testing.F) {
	f.Add([]byte("a=b&c=%20"))
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := decodeForm(http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, body)
		if err == nil && len(v) > 64 {
			t.Fatalf("%d fields", len(v))
		}
	})
}

func TestBodiesAreBounded(t *testing.T) {
	b := &bodies{each: 10, all: 25}
	request := func(n int, told bool) *http.Request {
		r := httptest.NewRequest("POST", "/", io.NopCloser(bytes.NewReader(make([]byte, n))))
		r.ContentLength = -1
		if told {
			r.ContentLength = int64(n)
		}
		return r
	}
	code := func(err error) api.Code {
		if e, ok := errors.AsType[*api.Error](err); ok {
			return e.Code
		}
		return ""
	}
	for _, tt := range []struct {
		name string
		n    int
		told bool
		want api.Code
	}{
		{"as much as may be", 10, true, ""},
		{"more", 11, true, api.TooLarge},
		{"more, without telling", 11, false, api.TooLarge},
		{"little, without telling", 3, false, ""},
		{"nothing", 0, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, done, err := b.read(request(tt.n, tt.told), netip.MustParseAddr("192.0.2.1"))
			done()
			if code(err) != tt.want || err == nil && len(got) != tt.n {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		_, one, _ := b.read(request(10, true), netip.MustParseAddr("192.0.2.1"))
		_, two, _ := b.read(request(3, false), netip.MustParseAddr("192.0.2.2"))
		_, three, err := b.read(request(6, true), netip.MustParseAddr("192.0.2.3"))
		three()
		if code(err) != api.Busy {
			t.Errorf("got %v, want busy", err)
		}
		one()
		if _, done, err := b.read(request(6, true), netip.MustParseAddr("192.0.2.3")); err != nil {
			t.Error(err)
		} else {
			done()
		}
		two()
		if b.now != 0 || len(b.from) != 0 {
			t.Errorf("%d bytes are never given back: %v", b.now, b.from)
		}
	})
	t.Run("all of one source", func(t *testing.T) {
		b := &bodies{each: 10, all: 640}
		var dones []func()
		for i := range 4 {
			_, done, err := b.read(request(10, true), netip.MustParseAddr(fmt.Sprintf("2001:db8:1:%d::1", i)))
			if err != nil {
				t.Fatal(err)
			}
			dones = append(dones, done)
		}
		_, _, err := b.read(request(1, true), netip.MustParseAddr("2001:db8:1:5::1"))
		if code(err) != api.Busy {
			t.Errorf("one more of a /48: got %v, want busy", err)
		}
		_, done, err := b.read(request(10, true), netip.MustParseAddr("2001:db8:2::1"))
		if err != nil {
			t.Errorf("another source is in the way of the first: %v", err)
		}
		for _, f := range append(dones, done) {
			f()
		}
		if b.now != 0 || len(b.from) != 0 {
			t.Errorf("%d bytes are never given back: %v", b.now, b.from)
		}
	})
	t.Run("squeezed", func(t *testing.T) {
		r := request(3, true)
		r.Header.Set("Content-Encoding", "gzip")
		if _, _, err := b.read(r, netip.MustParseAddr("192.0.2.1")); code(err) != api.BadRequest {
			t.Errorf("got %v", err)
		}
	})
}
