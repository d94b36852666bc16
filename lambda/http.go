package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"unicode/utf8"

	"sekisho/internal/gate/api"
)

// event is a request as it comes from a function URL or API Gateway, with what is heeded of
// it: payload format 2.0 of function URLs and HTTP APIs
// (https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html), and 1.0 of
// REST APIs (.../set-up-lambda-proxy-integrations.html).
type event struct {
	// 2.0
	RawPath  string   `json:"rawPath"`
	RawQuery string   `json:"rawQueryString"`
	Cookies  []string `json:"cookies"`
	// 1.0
	Method     string              `json:"httpMethod"`
	Path       string              `json:"path"`
	MultiQuery map[string][]string `json:"multiValueQueryStringParameters"`
	MultiHead  map[string][]string `json:"multiValueHeaders"`

	Headers map[string]string `json:"headers"` // of several lines of a name, 2.0 has all, with commas
	Body    string            `json:"body"`
	Base64  bool              `json:"isBase64Encoded"`
	Context *struct {
		Stage string `json:"stage"`
		HTTP  *struct {
			Method string `json:"method"`
			Source string `json:"sourceIp"`
		} `json:"http"`
		Identity *struct {
			Source string `json:"sourceIp"`
		} `json:"identity"`
	} `json:"requestContext"`
}

var errNoRequest = errors.New("this function answers function URLs, HTTP APIs and REST APIs, and events that are no requests: what sent this one (a load balancer?) does not say whom it speaks for")

// readEvent reads a request; is is false where the payload is something else.
func readEvent(payload []byte) (e *event, is bool, err error) {
	var kind struct {
		Context json.RawMessage `json:"requestContext"`
	}
	if json.Unmarshal(payload, &kind) != nil || kind.Context == nil {
		return nil, false, nil
	}
	e = &event{}
	if err := json.Unmarshal(payload, e); err != nil {
		return nil, false, fmt.Errorf("read a request's event: %w", err)
	}
	if e.Context == nil || e.Context.HTTP == nil && (e.Context.Identity == nil || e.Method == "") {
		return nil, false, errNoRequest
	}
	return e, true, nil
}

func (e *event) first() bool { return e.Context.HTTP == nil }

// from is the address that AWS took the connection from: no header says it.
func (e *event) from() string {
	if e.first() {
		return e.Context.Identity.Source
	}
	return e.Context.HTTP.Source
}

func (e *event) method() string {
	if e.first() {
		return e.Method
	}
	return e.Context.HTTP.Method
}

// request is the request that e stands for.
func (e *event) request(ctx context.Context) (*http.Request, error) {
	if _, err := netip.ParseAddr(e.from()); err != nil {
		return nil, fmt.Errorf("read the address of a connection: %w", err)
	}
	uri := e.uri()
	u, err := url.ParseRequestURI(uri)
	if err != nil || !strings.HasPrefix(uri, "/") {
		return nil, fmt.Errorf("%.200q is not the path of a request", uri)
	}
	body := []byte(e.Body)
	if e.Base64 {
		if body, err = base64.StdEncoding.Strict().DecodeString(e.Body); err != nil {
			return nil, fmt.Errorf("read a request's body: %w", err)
		}
	}
	r := (&http.Request{
		Method: e.method(), URL: u, RequestURI: uri, Header: e.header(), RemoteAddr: e.from(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}).WithContext(ctx)
	r.Host = r.Header.Get("Host")
	r.Header.Del("Host")
	return r, nil
}

func (e *event) header() http.Header {
	h := http.Header{}
	for name, value := range e.Headers {
		h.Set(name, value)
	}
	for name, values := range e.MultiHead {
		h.Del(name)
		for _, v := range values {
			h.Add(name, v)
		}
	}
	if len(e.Cookies) > 0 { // which function URLs write among the headers, too
		h.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	return h
}

// uri is the path and the query as they were sent, which a signature is over, as far as AWS
// says that. An HTTP API puts its stage in front of the path, unless that is $default.
func (e *event) uri() string {
	path, query := e.RawPath, e.RawQuery
	if e.first() {
		path, query = e.Path, url.Values(e.MultiQuery).Encode()
	} else if stage := e.Context.Stage; stage != "" && stage != "$default" {
		if rest, ok := strings.CutPrefix(path, "/"+stage); ok && (rest == "" || rest[0] == '/') {
			path = rest
		}
	}
	if path == "" {
		path = "/"
	}
	if !isEscaped(path) {
		path = (&url.URL{Path: path}).EscapedPath()
	}
	if query != "" {
		path += "?" + query
	}
	return path
}

// isEscaped reports whether a path may stand in a request: API Gateway may have undone what
// was escaped.
func isEscaped(path string) bool {
	if strings.ContainsAny(path, "?#") || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return false
	}
	_, err := url.PathUnescape(path)
	return err == nil
}

// mostAnswer is less than the 6 MB that Lambda takes of an answer.
const mostAnswer = 6<<20 - 64<<10

// response is what a handler writes, and what Lambda takes of it.
type response struct {
	header http.Header
	status int
	body   bytes.Buffer
	large  bool // what it wrote was too much, and is not answered
}

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.large = w.large || w.body.Len()+len(b) > mostAnswer; w.large {
		return 0, errLarge
	}
	return w.body.Write(b)
}

var errLarge = api.Errorf(api.TooLarge, "ask for less of it", "this is more than a function may answer")

// fail answers with err, which nothing has been written before.
func (w *response) fail(err *api.Error) {
	b, _ := json.Marshal(err) // text only
	w.header.Set("Content-Type", "application/json")
	w.header.Set("Cache-Control", "no-store")
	w.WriteHeader(err.Code.Status())
	w.body.Write(append(b, '\n'))
}

// encode is the answer in the format of the request's event.
func (w *response) encode(e *event) ([]byte, error) {
	if !w.large {
		raw, err := w.encoded(e)
		if err != nil || len(raw) <= mostAnswer {
			return raw, err
		}
	}
	large := &response{header: http.Header{}}
	large.fail(errLarge)
	return large.encoded(e)
}

func (w *response) encoded(e *event) ([]byte, error) {
	w.WriteHeader(http.StatusOK)
	out := struct {
		Status    int                 `json:"statusCode"`
		Headers   map[string]string   `json:"headers,omitempty"`
		MultiHead map[string][]string `json:"multiValueHeaders,omitempty"`
		Cookies   []string            `json:"cookies,omitempty"`
		Body      string              `json:"body"`
		Base64    bool                `json:"isBase64Encoded"`
	}{Status: w.status}
	if e.first() {
		out.MultiHead = w.header
	} else {
		out.Headers = map[string]string{}
		for name, values := range w.header {
			if name == "Set-Cookie" {
				out.Cookies = values
			} else {
				out.Headers[name] = strings.Join(values, ", ")
			}
		}
	}
	if e.method() != http.MethodHead {
		out.Body = w.body.String()
	}
	if !utf8.ValidString(out.Body) {
		out.Body, out.Base64 = base64.StdEncoding.EncodeToString(w.body.Bytes()), true
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // a page is half brackets
	if err := enc.Encode(out); err != nil {
		return nil, fmt.Errorf("write an answer: %w", err)
	}
	return b.Bytes(), nil
}
