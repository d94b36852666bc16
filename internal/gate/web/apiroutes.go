package web

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
)

// openAPI is made of the table of routes and package api's types by openapi_test.go
// (-update), and held to them by it.
//
//go:embed openapi.json
var openAPI []byte

const (
	get  = http.MethodGet
	post = http.MethodPost
	put  = http.MethodPut
	del  = http.MethodDelete
)

func (h *Handler) apiRoutes() []route {
	g := h.gate
	return []route{
		{method: get, path: healthPath, about: "Whether the gate can write down what it does.", serve: func(q *request) error {
			if err := g.Ready(q.Context()); err != nil {
				return err
			}
			q.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, err := q.w.Write([]byte("ok\n"))
			return ignored(err)
		}},
		{method: get, path: api.Version + "/openapi.json", about: "This document.", open: true, serve: func(q *request) error {
			q.w.Header().Set("Content-Type", "application/json")
			_, err := q.w.Write(openAPI)
			return ignored(err)
		}},
		call(get, "/address", anyone, "The address that the request came from.", func(q *request, _ none) (api.Seen, error) {
			// The gate's page asks under the names that have one family of addresses each.
			q.w.Header().Set("Access-Control-Allow-Origin", q.site.URL)
			q.w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
			q.w.Header().Set("Vary", "Origin")
			s := api.Seen{Address: q.from, Family: 4}
			if q.from.Is6() {
				s.Family = 6
			}
			return s, nil
		}).with(func(r *route) { r.open = true }),

		call(get, "/me", person, "Who the gate takes you for.", func(q *request, _ none) (api.Me, error) { return q.me() }),
		call(get, "/doors", person, "All targets, as you see them.", func(q *request, _ none) ([]api.Door, error) {
			return some(g.Doors(q.Context(), q.who))
		}),
		call(get, "/doors/{target}", person, "One of them, by its name or its host's.", func(q *request, _ none) (api.Door, error) {
			return g.Door(q.Context(), q.who, q.PathValue("target"))
		}),
		call(post, "/doors/{target}/open", person, "Ask for a door. The grant's state says how far it has come.", func(q *request, in api.OpenRequest) (api.Grant, error) {
			return g.Open(q.Context(), q.who, q.PathValue("target"), in)
		}),
		call(get, "/grants", person, "Your live grants; with all=true everybody's, for administrators.", func(q *request, _ none) ([]api.Grant, error) {
			all, err := yesOrNo(q.URL.Query(), "all")
			if err != nil {
				return nil, err
			}
			return some(g.Grants(q.Context(), q.who, all))
		}).with(func(r *route) { r.query = []string{"all"} }),
		call(get, "/grants/{id}", person, "One grant, ended or not.", func(q *request, _ none) (api.Grant, error) {
			return g.Grant(q.Context(), q.who, q.PathValue("id"))
		}),
		call(post, "/grants/{id}/extend", person, "Make a grant longer.", func(q *request, in api.ExtendRequest) (api.Grant, error) {
			return g.Extend(q.Context(), q.who, q.PathValue("id"), in)
		}),
		call(post, "/grants/{id}/close", person, "End a grant, or withdraw what you asked for.", func(q *request, _ none) (api.Grant, error) {
			return g.Close(q.Context(), q.who, q.PathValue("id"))
		}),
		call(get, "/approvals", person, "The grants that wait for approval and that you may answer.", func(q *request, _ none) ([]api.Grant, error) {
			return some(g.Waiting(q.Context(), q.who))
		}),
		call(post, "/grants/{id}/approve", person, "Say yes to what somebody else asked for.", func(q *request, in api.AnswerRequest) (api.Grant, error) {
			return g.Approve(q.Context(), q.who, q.PathValue("id"), in)
		}),
		call(post, "/grants/{id}/deny", person, "Say no.", func(q *request, in api.AnswerRequest) (api.Grant, error) {
			return g.Deny(q.Context(), q.who, q.PathValue("id"), in)
		}),

		call(get, "/people", admin, "Everybody.", func(q *request, _ none) ([]api.Person, error) {
			return some(g.People(q.Context(), q.who))
		}),
		call(post, "/people", admin, "Make somebody known.", func(q *request, in api.PersonEdit) (api.Person, error) {
			return g.AddPerson(q.Context(), q.who, in)
		}),
		call(get, "/people/{name}", person, "Somebody: yourself, or, for administrators, anybody.", func(q *request, _ none) (api.Person, error) {
			return g.Person(q.Context(), q.who, q.PathValue("name"))
		}),
		call(get, "/people/{name}/doors/{target}", person, "A target as somebody sees it, without who is in: for yourself, or, for administrators, for anybody.", func(q *request, _ none) (api.Door, error) {
			return g.DoorOf(q.Context(), q.who, q.PathValue("name"), q.PathValue("target"))
		}),
		call(put, "/people/{name}", admin, "Write all of somebody anew.", func(q *request, in api.PersonEdit) (api.Person, error) {
			return g.EditPerson(q.Context(), q.who, q.PathValue("name"), in)
		}),
		call(del, "/people/{name}", admin, "Forget somebody, and end all that they have.", func(q *request, _ none) (none, error) {
			return none{}, g.DeletePerson(q.Context(), q.who, q.PathValue("name"))
		}),
		call(post, "/people/{name}/invite", admin, "Make a one-time link by which somebody enrols a passkey.", func(q *request, _ none) (api.Invitation, error) {
			return g.Invite(q.Context(), q.who, q.PathValue("name"))
		}),
		call(post, "/people/{name}/disable", admin, "End all that somebody has, now, until they are enabled. The grants that it ends.", func(q *request, in api.DisableRequest) ([]api.Grant, error) {
			return some(g.Disable(q.Context(), q.who, q.PathValue("name"), in))
		}),
		call(post, "/people/{name}/enable", admin, "Undo that.", func(q *request, _ none) (api.Person, error) {
			return g.Enable(q.Context(), q.who, q.PathValue("name"))
		}),
		call(del, "/people/{name}/passkeys/{id}", person, "Forget a passkey: your own, or, for administrators, anybody's.", func(q *request, _ none) (none, error) {
			return none{}, q.deletePasskey(q.PathValue("name"), q.PathValue("id"))
		}),

		call(get, "/targets", admin, "All targets.", func(q *request, _ none) ([]api.Target, error) {
			return some(g.Targets(q.Context(), q.who))
		}),
		call(put, "/targets/{name}", admin, "Write a target.", func(q *request, in api.TargetEdit) (api.Target, error) {
			return g.EditTarget(q.Context(), q.who, q.PathValue("name"), in)
		}),
		call(del, "/targets/{name}", admin, "Forget a target, and end what is open at it.", func(q *request, _ none) (none, error) {
			return none{}, g.DeleteTarget(q.Context(), q.who, q.PathValue("name"))
		}),
		call(get, "/findings", admin, "What is wrong with what was edited.", func(q *request, _ none) ([]string, error) {
			return some(g.Findings(q.Context(), q.who))
		}),
		call(get, "/hosts", admin, "The hosts that are enrolled, or that a target names.", func(q *request, _ none) ([]api.Host, error) {
			return some(g.Hosts(q.Context(), q.who))
		}),
		call(post, "/hosts", admin, "Make a one-time token by which a host enrols itself.", func(q *request, in api.HostRequest) (api.Invitation, error) {
			return g.AddHost(q.Context(), q.who, in.Name)
		}),
		call(del, "/hosts/{name}", admin, "Forget a host.", func(q *request, _ none) (none, error) {
			return none{}, g.DeleteHost(q.Context(), q.who, q.PathValue("name"))
		}),
		call(get, "/audit", admin, "The newest entries of the audit that the parameters take, newest first.", func(q *request, _ none) ([]api.Entry, error) {
			f, err := filterOf(q.URL.Query())
			if err != nil {
				return nil, err
			}
			return some(g.Audit(q.Context(), q.who, f))
		}).with(func(r *route) { r.query = []string{"person", "target", "what", "from", "to", "before", "limit"} }),
		{method: get, path: api.Version + "/audit/export", roles: admin, about: "All of the audit, oldest first, an entry on each line.", out: api.Entry{}, lines: true, serve: (*request).export},
		call(get, "/audit/verify", admin, "Whether the audit's chain of hashes is whole.", func(q *request, _ none) (api.Verdict, error) {
			return g.Verify(q.Context(), q.who)
		}),

		call(post, "/hosts/enrol", anyone, "Make a host known: signed with the host's key, in the namespace "+api.HostNamespace+".", (*request).enrolHost),
		{method: get, path: api.Version + "/hosts/stream", roles: host, about: "What a host has to have in force: a snapshot, then changes and beats, each on a line.", out: api.Change{}, lines: true, serve: (*request).stream},
		call(post, "/hosts/report", host, "What is in force at a host.", func(q *request, in api.Report) (none, error) {
			return none{}, g.Report(q.Context(), q.who, in)
		}).with(func(r *route) { r.ticket = true }),

		call(post, "/invitations/show", anyone, "Whom an invitation is for; it stays good.", (*request).showInvitation),
		call(post, "/invitations/begin", anyone, "Begin the making of an invited person's passkey.", (*request).beginInvited),
		call(post, "/invitations/finish", anyone, "End it, and sign in. The invitation is used up.", (*request).finishInvited),
		call(post, "/passkeys/begin", person, "Begin the making of one more passkey.", (*request).beginPasskey),
		call(post, "/passkeys/finish", person, "End it.", (*request).finishPasskey),
		call(post, "/passkeys/invite", person, "Make a one-time link by which you enrol a passkey in a browser.", func(q *request, _ none) (api.Invitation, error) {
			return g.Invite(q.Context(), q.who, q.who.Person)
		}),
		call(post, "/signin/begin", anyone, "Begin to sign in with a passkey.", (*request).beginSignIn),
		call(post, "/signin/finish", anyone, "Sign in.", (*request).finishSignIn),
		call(post, "/signout", person, "Sign out.", func(q *request, _ none) (none, error) { return none{}, q.signOut(false) }),
		call(post, "/signout/everywhere", person, "End all sessions that you have.", func(q *request, _ none) (none, error) { return none{}, q.signOut(true) }),
	}
}

// some makes of no list an empty one, which JSON tells apart.
func some[T any](list []T, err error) ([]T, error) {
	if list == nil {
		list = []T{}
	}
	return list, err
}

// ignored is an error of a client that is gone: there is nobody to tell.
func ignored(error) error { return nil }

func (q *request) me() (api.Me, error) {
	me, err := q.h.gate.Me(q.Context(), q.who)
	if me.Until.IsZero() {
		me.Until = q.until
	}
	return me, err
}

func yesOrNo(v url.Values, name string) (bool, error) {
	switch v.Get(name) {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	}
	return false, api.Errorf(api.BadRequest, "write true or false", "%s is neither yes nor no", name)
}

// filterOf reads the audit's filter. Times are RFC 3339, or a day of UTC.
func filterOf(v url.Values) (f gate.Filter, err error) {
	f = gate.Filter{Person: v.Get("person"), Target: v.Get("target"), What: v.Get("what")}
	for _, s := range []string{f.Person, f.Target, f.What} {
		if len(s) > 128 {
			return f, api.Errorf(api.BadRequest, "", "a name in the filter is too long")
		}
	}
	if group := strings.HasSuffix(f.What, "*"); f.What != "" && !group && !slices.Contains(gate.Actions(), f.What) {
		return f, api.Errorf(api.BadRequest, "write it as the entries have it, or its beginning: person.*", "no entry is of %q", f.What)
	}
	for _, t := range []struct {
		name string
		at   *time.Time
		more time.Duration
	}{{"from", &f.From, 0}, {"to", &f.To, 24 * time.Hour}} {
		s := v.Get(t.name)
		if s == "" {
			continue
		}
		if *t.at, err = time.Parse(time.RFC3339, s); err == nil {
			continue
		}
		day, err := time.Parse(time.DateOnly, s)
		if err != nil {
			return f, api.Errorf(api.BadRequest, "write it as 2026-01-02 or 2026-01-02T15:04:05Z", "%s is not a time", t.name)
		}
		*t.at = day.Add(t.more)
	}
	for _, n := range []struct {
		name string
		set  func(int64)
	}{{"before", func(i int64) { f.Before = i }}, {"limit", func(i int64) { f.Limit = int(i) }}} {
		s := v.Get(n.name)
		if s == "" {
			continue
		}
		i, err := strconv.ParseInt(s, 10, 64)
		if err != nil || i < 1 || n.name == "limit" && i > 1000 {
			return f, api.Errorf(api.BadRequest, "limit is at most 1000", "%s is not a number that can be meant", n.name)
		}
		n.set(i)
	}
	return f, nil
}

// lines writes values as lines of JSON, each flushed, each within the time for a write: a
// stream may last, but who does not read it loses it.
type lines struct {
	q   *request
	rc  *http.ResponseController
	enc *json.Encoder
}

func (q *request) lines() *lines {
	rc := http.NewResponseController(q.w)
	// The function's writer knows no deadlines, and needs none.
	_ = rc.SetReadDeadline(time.Time{})
	q.w.Header().Set("Content-Type", "application/jsonl")
	q.w.Header().Set("X-Accel-Buffering", "no")
	return &lines{q, rc, json.NewEncoder(q.w)}
}

func (l *lines) write(v any, flush bool) error {
	_ = l.rc.SetWriteDeadline(time.Now().Add(l.q.h.limits.Write))
	if err := l.enc.Encode(v); err != nil {
		return err
	}
	if flush {
		return l.rc.Flush()
	}
	return nil
}

func (q *request) export() error {
	l := q.lines()
	q.w.Header().Set("Content-Disposition", `attachment; filename="sekisho-audit.jsonl"`)
	wrote := false
	err := q.h.gate.AuditAll(q.Context(), q.who, func(e api.Entry) error {
		wrote = true
		return l.write(e, false)
	})
	if err == nil || !wrote {
		return err
	}
	// Half of an audit must not look like all of it.
	q.h.logger.WarnContext(q.Context(), "an export of the audit has broken off", "request", q.id, "error", err)
	panic(http.ErrAbortHandler)
}

func (q *request) enrolHost(in api.EnrolRequest) (api.Host, error) {
	if !q.signed() {
		return api.Host{}, errNobodyHere
	}
	key, err := q.signature(api.HostNamespace)
	if err != nil {
		return api.Host{}, q.failed(err)
	}
	got, err := q.h.gate.Enrol(q.Context(), key, in, q.from)
	if err != nil {
		return api.Host{}, q.failed(gone(err))
	}
	return got, nil
}

func (q *request) stream() error {
	ctx, cancel := streaming(q.Context())
	defer cancel()
	changes, err := q.h.gate.Stream(ctx, q.who)
	if err != nil {
		return err
	}
	l := q.lines()
	for c := range changes {
		if err := l.write(c, true); err != nil {
			return ignored(err)
		}
	}
	return nil
}
