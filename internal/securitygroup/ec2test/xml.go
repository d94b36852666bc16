package ec2test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

const (
	ec2Version   = "2016-11-15"
	stsVersion   = "2011-06-15"
	ec2Namespace = "http://ec2.amazonaws.com/doc/" + ec2Version + "/"
	stsNamespace = "https://sts.amazonaws.com/doc/" + stsVersion + "/"
)

// writer writes the inside of an answer.
type writer struct{ b []byte }

// in writes an element with what inside writes in it.
func (w *writer) in(name string, inside func()) {
	w.b = append(append(append(w.b, '<'), name...), '>')
	inside()
	w.b = append(append(append(w.b, "</"...), name...), '>')
}

// text writes an element with a text.
func (w *writer) text(name, value string) {
	w.b = append(append(append(w.b, '<'), name...), '>')
	w.b = escape(w.b, value)
	w.b = append(append(append(w.b, "</"...), name...), '>')
}

// some is text where there is one.
func (w *writer) some(name, value string) {
	if value != "" {
		w.text(name, value)
	}
}

func (w *writer) number(name string, value int) { w.text(name, strconv.Itoa(value)) }

func (w *writer) truth(name string, value bool) { w.text(name, strconv.FormatBool(value)) }

// list writes an element with an item for each of list.
func list[T any](w *writer, name string, list []T, item func(T)) {
	w.in(name, func() {
		for _, one := range list {
			w.in("item", func() { item(one) })
		}
	})
}

func (w *writer) tags(tags map[string]string) {
	if len(tags) == 0 {
		return
	}
	list(w, "tagSet", slices.Sorted(maps.Keys(tags)), func(key string) {
		w.text("key", key)
		w.text("value", tags[key])
	})
}

// around is what stands before and after the inside of an answer.
func (c *call) around(request string) (head, foot []byte) {
	if c.sts {
		return fmt.Appendf(nil, xml.Header+"<%sResponse xmlns=\"%s\">", c.action, stsNamespace),
			fmt.Appendf(nil, "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>", request, c.action)
	}
	return fmt.Appendf(nil, xml.Header+"<%sResponse xmlns=\"%s\"><requestId>%s</requestId>", c.action, ec2Namespace, request),
		fmt.Appendf(nil, "</%sResponse>", c.action)
}

// escape appends s as a text of XML.
func escape(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '<' || c == '>' || c == '&' || c == '"' || c == '\'' {
			var escaped bytes.Buffer
			_ = xml.EscapeText(&escaped, []byte(s)) // a buffer takes everything
			return append(b, escaped.Bytes()...)
		}
	}
	return append(b, s...)
}

// apiError is an answer that says no, or none at all.
type apiError struct {
	code    string
	status  int
	message string
	cut     bool
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// refuse is an error with the status that EC2 gives its code.
func refuse(code, format string, args ...any) *apiError {
	return &apiError{code: code, status: statusOf(code), message: fmt.Sprintf(format, args...)}
}

func statusOf(code string) int {
	switch code {
	case "AuthFailure":
		return 401
	case "UnauthorizedOperation", "AccessDenied", "ExpiredToken", "InvalidClientTokenId", "MissingAuthenticationToken":
		return 403
	case "DryRunOperation":
		return 412
	case "RequestEntityTooLarge":
		return 413
	case "InternalError", "InternalFailure":
		return 500
	case "RequestLimitExceeded", "Unavailable", "ServiceUnavailable":
		return 503
	}
	return 400
}

// of is e as the service says it: STS has other words than EC2 for some.
func (e *apiError) of(sts bool) *apiError {
	word := map[string]string{
		"UnauthorizedOperation": "AccessDenied", "RequestExpired": "ExpiredToken", "AuthFailure": "InvalidClientTokenId",
		"RequestLimitExceeded": "Throttling", "InvalidParameterValue": "ValidationError", "MissingParameter": "ValidationError",
	}[e.code]
	if !sts || word == "" {
		return e
	}
	said := *e
	said.code, said.status = word, statusOf(word)
	if word == "ExpiredToken" {
		said.message = "The security token included in the request is expired"
	}
	return &said
}

func (e *apiError) xml(sts bool, request string) []byte {
	w := &writer{b: []byte(xml.Header)}
	problem := func() {
		if sts {
			w.text("Type", map[bool]string{true: "Sender", false: "Receiver"}[e.status < 500])
		}
		w.text("Code", e.code)
		w.text("Message", e.message)
	}
	if sts {
		w.in("ErrorResponse", func() {
			w.in("Error", problem)
			w.text("RequestId", request)
		})
	} else {
		w.in("Response", func() {
			w.in("Errors", func() { w.in("Error", problem) })
			w.text("RequestID", request)
		})
	}
	return w.b
}
