package ec2test

import (
	"io"
	"net/http"
)

// Client is an HTTP client for the SDK that is in the same process as the server. The
// bodies of smithy-go (1.28.8) end net/http's copying with an error when an answer comes
// before the copying is known to have ended, and net/http then closes the connection that
// a long answer is being read from; so short a way to the server makes that likely.
func (s *Server) Client() *http.Client {
	return &http.Client{Transport: readers{&http.Transport{MaxIdleConnsPerHost: 64}}}
}

// readers has bodies be read, which ends well at any time, and not write themselves.
type readers struct{ next *http.Transport }

func (t readers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		plain := *r
		plain.Body = struct{ io.ReadCloser }{r.Body}
		r = &plain
	}
	return t.next.RoundTrip(r)
}

// CloseIdleConnections is for http.Client.
func (t readers) CloseIdleConnections() { t.next.CloseIdleConnections() }
