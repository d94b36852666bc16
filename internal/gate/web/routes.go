package web

import (
	"net/http"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
)

// roles are those that a route is for. What approvers may do is the gate's to say, by the
// grant: anybody may be one.
type roles uint8

// The zero value is for anybody: nobody is asked who they are.
const (
	anyone roles = 0
	person roles = 1 << iota // administrators too
	admin
	host
)

const (
	healthPath  = "/healthz"
	addressPath = api.Version + "/address"
)

// route is one line of the table.
type route struct {
	method, path string
	roles        roles
	page         bool // answers with HTML, or a redirect to some
	open         bool // other sites' pages may ask for it
	ticket       bool // a stream's ticket shows which host it is, too
	serve        func(*request) error

	// For the OpenAPI document.
	about   string
	in, out any      // values of the types; nil: nothing
	query   []string // parameters
	lines   bool     // out is on each line
}

// allows is checked before a handler runs.
func (r *route) allows(who gate.Who) error {
	ok := false
	switch r.roles {
	case anyone:
		ok = true
	case person:
		ok = who.Role == api.RolePerson || who.Role == api.RoleAdmin
	case admin:
		ok = who.Role == api.RoleAdmin
	case host:
		ok = who.Role == api.RoleHost
	}
	if !ok {
		return api.Errorf(api.Forbidden, "ask an administrator", "this is not yours to do")
	}
	return nil
}

// none is what a route takes or answers that does not.
type none struct{}

// call is a route of the API: what it takes is read, what it returns is written.
func call[In, Out any](method, path string, roles roles, about string, f func(q *request, in In) (Out, error)) route {
	r := route{method: method, path: api.Version + path, roles: roles, about: about}
	var in In
	var out Out
	if _, nothing := any(in).(none); !nothing {
		r.in = in
	}
	if _, nothing := any(out).(none); !nothing {
		r.out = out
	}
	r.serve = func(q *request) error {
		var in In
		switch {
		case r.in != nil && (len(q.body) > 0 || r.needsBody()):
			if err := decodeJSON(q.Header, q.body, &in); err != nil {
				return err
			}
		case r.in == nil && len(q.body) > 0:
			var nothing none
			if err := decodeJSON(q.Header, q.body, &nothing); err != nil {
				return err
			}
		}
		out, err := f(q, in)
		if err != nil {
			return err
		}
		if r.out == nil {
			q.w.WriteHeader(http.StatusNoContent)
			return nil
		}
		q.writeJSON(http.StatusOK, out)
		return nil
	}
	return r
}

// needsBody reports whether a request without a body is an error: not of those whose every
// field may be left out.
func (r *route) needsBody() bool {
	switch r.in.(type) {
	case api.OpenRequest, api.ExtendRequest, api.AnswerRequest, api.DisableRequest:
		return false
	}
	return true
}

func (r route) with(change func(*route)) route {
	change(&r)
	return r
}

// view is a route of the pages.
func view(method, path string, roles roles, f func(*request) error) route {
	return route{method: method, path: path, roles: roles, page: true, serve: f}
}

// table is all that there is.
func (h *Handler) table() []route {
	return append(h.apiRoutes(), h.pageRoutes()...)
}
