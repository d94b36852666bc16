package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"

	"sekisho/internal/gate/api"
)

// bodies reads requests' bodies, each bounded, all of one source together, and all. Who
// sends slowly holds room: without the second bound one source could hold all of it.
type bodies struct {
	each, all int64

	mu   sync.Mutex
	now  int64
	from map[netip.Prefix]int64 // bounded by what is read at once
}

// share is which part of the room one source may have.
const share = 16

// enter takes room, if there is some.
func (b *bodies) enter(source netip.Prefix, room int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now+room > b.all || b.from[source]+room > max(b.each, b.all/share) {
		return false
	}
	if b.from == nil {
		b.from = map[netip.Prefix]int64{}
	}
	b.now += room
	b.from[source] += room
	return true
}

func (b *bodies) leave(source netip.Prefix, room int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now -= room
	if b.from[source] -= room; b.from[source] == 0 {
		delete(b.from, source)
	}
}

// read returns the body, and what gives its room back when the request is done.
func (b *bodies) read(r *http.Request, from netip.Addr) (body []byte, done func(), err error) {
	done = func() {}
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, done, nil
	}
	if r.ContentLength > b.each {
		return nil, done, tooLarge(b.each)
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" {
		return nil, done, api.Errorf(api.BadRequest, "send it as it is, without Content-Encoding", "the request's body is encoded as %.40q", enc)
	}
	room := r.ContentLength
	if room < 0 {
		room = b.each
	}
	source := site48(from)
	if !b.enter(source, room) {
		e := api.Errorf(api.Busy, "ask again in a moment", "the gate reads too many requests at once")
		e.After = 1
		return nil, done, e
	}
	done = func() { b.leave(source, room) }
	body, err = io.ReadAll(io.LimitReader(r.Body, b.each+1))
	if err != nil {
		return nil, done, api.Errorf(api.BadRequest, "send it again", "the request's body has broken off")
	}
	if int64(len(body)) > b.each {
		return nil, done, tooLarge(b.each)
	}
	return body, done, nil
}

func tooLarge(most int64) error {
	return api.Errorf(api.TooLarge, "", "the request's body is larger than %d bytes", most)
}

// maxDepth is how deep a request's JSON may be nested; the responses of WebAuthn need four.
const maxDepth = 16

// decodeJSON reads all of body into v: every name known and once, nothing after the end.
func decodeJSON(header http.Header, body []byte, v any) error {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return api.Errorf(api.BadRequest, "send JSON, with Content-Type: application/json", "the request's body is not JSON by its Content-Type")
	}
	fail := func(err error) error {
		return api.Errorf(api.BadRequest, "what may stand there is in "+api.Version+"/openapi.json", "the request's JSON cannot be read: %s", sayJSON(err))
	}
	if !utf8.Valid(body) {
		return fail(jsonError("it is not UTF-8"))
	}
	if err := checkJSON(body); err != nil {
		return fail(err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fail(err)
	}
	return nil
}

// checkJSON sees to what encoding/json lets pass: depth, a name that stands twice (readers
// differ about which one counts), and more after the end.
func checkJSON(body []byte) error {
	type level struct {
		names map[string]bool // nil: an array
		name  bool            // a name comes next
	}
	var in []level
	value := func() {
		if n := len(in); n > 0 && in[n-1].names != nil {
			in[n-1].name = true
		}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	first := true
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) && !first && len(in) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if !first && len(in) == 0 {
			return jsonError("there is more after its end")
		}
		first = false
		switch t := t.(type) {
		case json.Delim:
			switch t {
			case '{':
				in = append(in, level{names: map[string]bool{}, name: true})
			case '[':
				in = append(in, level{})
			default:
				in = in[:len(in)-1]
				value()
			}
			if len(in) > maxDepth {
				return jsonError(fmt.Sprintf("it is nested deeper than %d", maxDepth))
			}
		case string:
			if n := len(in); n > 0 && in[n-1].name {
				if in[n-1].names[t] {
					return jsonError(fmt.Sprintf("%.64q stands there twice", t))
				}
				in[n-1].names[t], in[n-1].name = true, false
				continue
			}
			value()
		default:
			value()
		}
	}
}

// sayJSON says what encoding/json means without our types' names.
func sayJSON(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("%q is a %.20s, and something else belongs there", e.Field, e.Value)
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("it is wrong at byte %d", e.Offset)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	if e, ok := errors.AsType[jsonError](err); ok {
		return string(e)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Sprintf("%.80s is not known", name)
	}
	return "a value is not what belongs there" // of types that read themselves: times, addresses
}

// jsonError is fit for who sent the JSON.
type jsonError string

func (e jsonError) Error() string { return string(e) }

// decodeForm reads a page's form: each name once, but for those in lists, at most 64.
func decodeForm(header http.Header, body []byte) (url.Values, error) {
	if len(body) == 0 {
		return url.Values{}, nil
	}
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, api.Errorf(api.BadRequest, "", "this is not a form")
	}
	if bytes.Count(body, []byte("&")) >= 64 {
		return nil, api.Errorf(api.BadRequest, "", "the form has too many fields")
	}
	v, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, api.Errorf(api.BadRequest, "", "the form cannot be read")
	}
	for _, values := range v {
		for _, s := range values {
			if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
				return nil, api.Errorf(api.BadRequest, "", "the form is not text")
			}
		}
	}
	return v, nil
}
