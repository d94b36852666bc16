package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
	"sekisho/internal/gate/web/page"
)

const languageCookie = "sekisho-language"

func (h *Handler) pageRoutes() []route {
	g := h.gate
	// answer is a form that does something to a grant.
	answer := func(do func(q *request, id string, form url.Values) (api.Grant, error), to string) func(*request) error {
		return func(q *request) error {
			form, err := decodeForm(q.Header, q.body)
			if err != nil {
				return err
			}
			if _, err := do(q, q.PathValue("id"), form); err != nil {
				return err
			}
			back := form.Get("back")
			switch {
			case to != "":
				return q.seeOther(to)
			case back == "/live":
				return q.seeOther(back)
			case back != "":
				return q.seeOther("/doors/" + url.PathEscape(back))
			}
			return q.seeOther("/")
		}
	}
	// named is a form that does something to what the path names, and leads to a page.
	named := func(do func(ctx context.Context, who gate.Who, name string) error, to string) func(*request) error {
		return func(q *request) error {
			if err := do(q.Context(), q.who, q.PathValue("name")); err != nil {
				return err
			}
			return q.seeOther(to)
		}
	}
	return []route{
		view(get, "/{$}", person, (*request).showDoors),
		view(get, "/doors/{target}", person, (*request).showDoor),
		view(post, "/doors/{target}", person, (*request).openDoor),
		view(post, "/grants/{id}/extend", person, answer(func(q *request, id string, _ url.Values) (api.Grant, error) {
			return g.Extend(q.Context(), q.who, id, api.ExtendRequest{})
		}, "")),
		view(post, "/grants/{id}/close", person, answer(func(q *request, id string, _ url.Values) (api.Grant, error) {
			return g.Close(q.Context(), q.who, id)
		}, "")),
		view(post, "/grants/{id}/approve", person, answer(func(q *request, id string, form url.Values) (api.Grant, error) {
			return g.Approve(q.Context(), q.who, id, api.AnswerRequest{Reason: form.Get("reason")})
		}, "/approvals")),
		view(post, "/grants/{id}/deny", person, answer(func(q *request, id string, form url.Values) (api.Grant, error) {
			return g.Deny(q.Context(), q.who, id, api.AnswerRequest{Reason: form.Get("reason")})
		}, "/approvals")),
		view(get, "/approvals", person, (*request).showApprovals),
		view(get, "/account", person, (*request).showAccount),
		view(post, "/account/invite", person, func(q *request) error { return q.invite(q.who.Person, "/account") }),
		view(post, "/account/passkeys/{id}/delete", person, func(q *request) error {
			if err := q.deletePasskey(q.who.Person, q.PathValue("id")); err != nil {
				return err
			}
			return q.seeOther("/account")
		}),
		view(post, "/signout", person, func(q *request) error {
			if err := q.signOut(false); err != nil {
				return err
			}
			return q.seeOther("/signin")
		}),
		view(post, "/signout/everywhere", person, func(q *request) error {
			if err := q.signOut(true); err != nil {
				return err
			}
			return q.seeOther("/signin")
		}),

		view(get, "/signin", anyone, func(q *request) error {
			w := q.words()
			provider := q.site.Provider
			if q.h.provider == nil || g.Stateless() {
				provider = ""
			}
			return q.show(http.StatusOK, page.SignIn(q.frame(w.SignInTitle), local(q.URL.Query().Get("next")), provider, q.hasPasskeys()))
		}),
		view(post, "/signin/oidc", anyone, (*request).beginOIDC),
		view(get, Callback, anyone, (*request).finishOIDC),
		view(get, "/invite", anyone, func(q *request) error { return q.showInvite("") }),
		view(get, "/invite/{token}", anyone, func(q *request) error {
			token := q.PathValue("token")
			if len(token) > maxToken {
				token = ""
			}
			return q.showInvite(token)
		}),
		view(post, "/language", anyone, func(q *request) error {
			form, err := decodeForm(q.Header, q.body)
			if err != nil {
				return err
			}
			http.SetCookie(q.w, &http.Cookie{Name: languageCookie, Value: string(page.Choose("", form.Get("to"))), Path: "/", HttpOnly: true, Secure: q.site.secure, SameSite: http.SameSiteLaxMode, MaxAge: 365 * 24 * 3600})
			return q.seeOther(local(form.Get("next")))
		}),
		{method: get, path: "/assets/{file}", page: true, open: true, serve: (*request).asset},

		view(get, "/live", admin, func(q *request) error {
			grants, err := g.Grants(q.Context(), q.who, true)
			if err != nil {
				return err
			}
			f, err := q.signedFrame(q.words().LiveTitle)
			if err != nil {
				return err
			}
			f.Fresh = true
			return q.show(http.StatusOK, page.Live(f, grants))
		}),

		view(get, "/people", admin, func(q *request) error { return q.showPeople(api.PersonEdit{}, nil) }),
		view(post, "/people", admin, func(q *request) error {
			e, err := q.personForm()
			if err != nil {
				return err
			}
			if _, err := g.AddPerson(q.Context(), q.who, e); err != nil {
				return q.again(err, func(wrong *api.Error) error { return q.showPeople(e, wrong) })
			}
			return q.seeOther("/people/" + url.PathEscape(e.Name))
		}),
		view(get, "/people/{name}", admin, func(q *request) error { return q.showPerson(nil, nil) }),
		view(post, "/people/{name}", admin, func(q *request) error {
			e, err := q.personForm()
			if err != nil {
				return err
			}
			name := q.PathValue("name")
			e.Name = name
			if _, err := g.EditPerson(q.Context(), q.who, name, e); err != nil {
				return q.again(err, func(wrong *api.Error) error { return q.showPerson(&e, wrong) })
			}
			return q.seeOther("/people/" + url.PathEscape(name))
		}),
		view(post, "/people/{name}/invite", admin, func(q *request) error {
			name := q.PathValue("name")
			return q.invite(name, "/people/"+url.PathEscape(name))
		}),
		view(get, "/people/{name}/disable", admin, func(q *request) error {
			p, err := g.Person(q.Context(), q.who, q.PathValue("name"))
			if err != nil {
				return err
			}
			f, err := q.signedFrame(q.words().DisableTitle + ": " + p.Name)
			if err != nil {
				return err
			}
			return q.show(http.StatusOK, page.Disable(f, p))
		}),
		view(post, "/people/{name}/disable", admin, func(q *request) error {
			form, err := decodeForm(q.Header, q.body)
			if err != nil {
				return err
			}
			name := q.PathValue("name")
			if _, err := g.Disable(q.Context(), q.who, name, api.DisableRequest{Cut: form.Get("cut") == "yes", Reason: form.Get("reason")}); err != nil {
				return err
			}
			return q.seeOther("/people/" + url.PathEscape(name))
		}),
		view(post, "/people/{name}/enable", admin, func(q *request) error {
			name := q.PathValue("name")
			if _, err := g.Enable(q.Context(), q.who, name); err != nil {
				return err
			}
			return q.seeOther("/people/" + url.PathEscape(name))
		}),
		view(get, "/people/{name}/delete", admin, func(q *request) error {
			return q.confirm("people", func(w *page.Words) string { return w.DeletePersonLead })
		}),
		view(post, "/people/{name}/delete", admin, named(g.DeletePerson, "/people")),
		view(post, "/people/{name}/passkeys/{id}/delete", admin, func(q *request) error {
			name := q.PathValue("name")
			if err := q.deletePasskey(name, q.PathValue("id")); err != nil {
				return err
			}
			return q.seeOther("/people/" + url.PathEscape(name))
		}),

		view(get, "/targets", admin, func(q *request) error { return q.showTargets("", "", nil) }),
		view(post, "/targets", admin, func(q *request) error {
			form, err := decodeForm(q.Header, q.body)
			if err != nil {
				return err
			}
			return q.editTarget(strings.TrimSpace(form.Get("name")), form, func(wrong *api.Error) error {
				return q.showTargets(form.Get("name"), form.Get("config"), wrong)
			})
		}),
		view(get, "/targets/{name}", admin, func(q *request) error { return q.showTarget(nil, nil) }),
		view(post, "/targets/{name}", admin, func(q *request) error {
			form, err := decodeForm(q.Header, q.body)
			if err != nil {
				return err
			}
			return q.editTarget(q.PathValue("name"), form, func(wrong *api.Error) error {
				config := form.Get("config")
				return q.showTarget(&config, wrong)
			})
		}),
		view(get, "/targets/{name}/delete", admin, func(q *request) error {
			return q.confirm("targets", func(w *page.Words) string { return w.DeleteTargetLead })
		}),
		view(post, "/targets/{name}/delete", admin, named(g.DeleteTarget, "/targets")),

		view(get, "/hosts", admin, func(q *request) error { return q.showHosts(nil) }),
		view(post, "/hosts", admin, func(q *request) error {
			form, err := decodeForm(q.Header, q.body)
			if err != nil {
				return err
			}
			told, err := g.AddHost(q.Context(), q.who, strings.TrimSpace(form.Get("name")))
			if err != nil {
				return q.again(err, q.showHosts)
			}
			w := q.words()
			f, err := q.signedFrame(w.TokenTitle + ": " + told.For)
			if err != nil {
				return err
			}
			return q.show(http.StatusOK, page.Told(f, w.TokenLead, "sudo sekisho gate enrol "+told.Token, clock(told.Until), "/hosts"))
		}),
		view(get, "/hosts/{name}/delete", admin, func(q *request) error {
			return q.confirm("hosts", func(w *page.Words) string { return w.DeleteHostLead })
		}),
		view(post, "/hosts/{name}/delete", admin, named(g.DeleteHost, "/hosts")),

		view(get, "/audit", admin, (*request).showAudit),
	}
}

func (q *request) words() *page.Words { return page.In(q.lang) }

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func (q *request) editable() bool { return q.site.Edit && !q.h.gate.Stateless() }

func (q *request) hasPasskeys() bool { return q.site.passkeys != nil && !q.h.gate.Stateless() }

// component is a page that can be written.
type component interface {
	Render(ctx context.Context, w io.Writer) error
}

// show writes a page, all of it or an error.
func (q *request) show(status int, c component) error {
	var b bytes.Buffer
	if err := c.Render(q.Context(), &b); err != nil {
		return err
	}
	q.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	q.w.Header().Set("Vary", "Accept-Language, Cookie")
	q.w.WriteHeader(status)
	_, err := q.w.Write(b.Bytes())
	return ignored(err)
}

func (q *request) seeOther(to string) error {
	q.w.Header().Set("Location", to)
	q.w.WriteHeader(http.StatusSeeOther)
	return nil
}

func (q *request) frame(title string) page.Frame {
	at := "/"
	if q.Method == get && q.route != nil && q.route.page {
		at = q.URL.RequestURI()
	}
	return page.Frame{Words: q.words(), Title: title, At: at, Now: q.now, IPv4: q.site.IPv4, IPv6: q.site.IPv6, Stateless: q.h.gate.Stateless()}
}

// signedFrame is for who is signed in.
func (q *request) signedFrame(title string) (page.Frame, error) {
	f := q.frame(title)
	me, err := q.me()
	if err != nil {
		return f, err
	}
	f.Me = &me
	waiting, err := q.h.gate.Waiting(q.Context(), q.who)
	f.Waiting = len(waiting)
	return f, err
}

// toSignIn leads a page's reader to where they sign in. What they sent is not sent again.
func (q *request) toSignIn(e *api.Error) bool {
	if q.route == nil || q.route.roles == anyone {
		return false
	}
	if e.Code == api.Expired || e.Code == api.NoIdentity {
		q.signedOut()
		to := "/signin"
		if q.Method == get {
			to += "?next=" + url.QueryEscape(q.URL.RequestURI())
		}
		_ = q.seeOther(to)
		return true
	}
	return false
}

func (q *request) showError(e *api.Error, status int) {
	f := q.frame(q.words().ErrorTitle)
	f.At = "/"
	if err := q.show(status, page.Error(f, *e)); err != nil {
		q.h.logger.ErrorContext(q.Context(), "a page cannot be written", "request", q.id, "error", err)
		q.w.WriteHeader(http.StatusInternalServerError)
	}
}

func (q *request) showLeave(to string) error {
	// For browsers without a script; the page has a link besides.
	q.w.Header().Set("Refresh", "0; url="+to)
	w := q.words()
	return q.show(http.StatusOK, page.Leave(q.frame(w.SignInTitle), to))
}

// again shows a form anew with what is wrong with it; what is not the form's fault is an error.
func (q *request) again(err error, show func(*api.Error) error) error {
	e, ok := errors.AsType[*api.Error](err)
	if !ok || e.Code != api.BadRequest && e.Code != api.Conflict && e.Code != api.Declared {
		return err
	}
	q.w = &status{q.w, e.Code.Status()}
	return show(e)
}

// status is a writer whose 200 is another.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	if code == http.StatusOK {
		code = s.code
	}
	s.ResponseWriter.WriteHeader(code)
}

func (q *request) showDoors() error {
	doors, err := q.h.gate.Doors(q.Context(), q.who)
	if err != nil {
		return err
	}
	f, err := q.signedFrame(q.words().DoorsTitle)
	if err != nil {
		return err
	}
	f.Fresh = true
	return q.show(http.StatusOK, page.Doors(f, doors))
}

func (q *request) showDoor() error {
	d, err := q.h.gate.Door(q.Context(), q.who, q.PathValue("target"))
	if err != nil {
		return err
	}
	f, err := q.signedFrame(d.Target)
	if err != nil {
		return err
	}
	f.Fresh = true
	return q.show(http.StatusOK, page.Door(f, d))
}

func (q *request) openDoor() error {
	form, err := decodeForm(q.Header, q.body)
	if err != nil {
		return err
	}
	in := api.OpenRequest{Reason: strings.TrimSpace(form.Get("reason")), Break: form.Get("break") == "yes"}
	if s := form.Get("seconds"); s != "" {
		if in.Seconds, err = strconv.ParseInt(s, 10, 64); err != nil || in.Seconds <= 0 {
			return api.Errorf(api.BadRequest, "choose a length", "this is not a length of time")
		}
	}
	if s := form.Get("address"); s != "" {
		if in.Address, err = netip.ParseAddr(s); err != nil || in.Address.Zone() != "" {
			return api.Errorf(api.BadRequest, "choose one of your addresses", "this is not an address")
		}
	}
	target := q.PathValue("target")
	if _, err := q.h.gate.Open(q.Context(), q.who, target, in); err != nil {
		return err
	}
	if form.Get("back") == "door" {
		return q.seeOther("/doors/" + url.PathEscape(target))
	}
	return q.seeOther("/")
}

func (q *request) showApprovals() error {
	waiting, err := q.h.gate.Waiting(q.Context(), q.who)
	if err != nil {
		return err
	}
	f, err := q.signedFrame(q.words().ApprovalsTitle)
	if err != nil {
		return err
	}
	f.Fresh = true
	return q.show(http.StatusOK, page.Approvals(f, waiting))
}

func (q *request) showAccount() error {
	p, err := q.h.gate.Person(q.Context(), q.who, q.who.Person)
	if err != nil {
		return err
	}
	f, err := q.signedFrame(q.words().AccountTitle)
	if err != nil {
		return err
	}
	return q.show(http.StatusOK, page.Account(f, p, q.hasPasskeys()))
}

func (q *request) showInvite(token string) error {
	return q.show(http.StatusOK, page.Invite(q.frame(q.words().InviteTitle), token))
}

func (q *request) invite(name, back string) error {
	told, err := q.h.gate.Invite(q.Context(), q.who, name)
	if err != nil {
		return err
	}
	w := q.words()
	f, err := q.signedFrame(w.LinkTitle + ": " + told.For)
	if err != nil {
		return err
	}
	return q.show(http.StatusOK, page.Told(f, w.LinkLead, told.URL, clock(told.Until), page.SafePath(back)))
}

func (q *request) asset() error {
	for _, a := range page.Assets() {
		if q.URL.Path == a.Path {
			q.w.Header().Set("Content-Type", a.Type)
			q.w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			_, err := q.w.Write(a.Data)
			return ignored(err)
		}
	}
	return api.Errorf(api.NotFound, "", "there is nothing at this address")
}

func (q *request) personForm() (api.PersonEdit, error) {
	form, err := decodeForm(q.Header, q.body)
	if err != nil {
		return api.PersonEdit{}, err
	}
	words := func(s string) []string {
		return slices.DeleteFunc(strings.FieldsFunc(s, func(r rune) bool {
			return r == ',' || r == '、' || r == ' ' || r == '\n' || r == '\r' || r == '\t' || r == '　'
		}), func(s string) bool { return s == "" })
	}
	keys := []string{}
	for line := range strings.Lines(form.Get("keys")) {
		if line = strings.TrimSpace(line); line != "" {
			keys = append(keys, line)
		}
	}
	return api.PersonEdit{
		Name: strings.TrimSpace(form.Get("name")), Groups: words(form.Get("groups")), Fixed: words(form.Get("fixed")),
		Login: strings.TrimSpace(form.Get("login")), Keys: keys,
	}, nil
}

func (q *request) showPeople(e api.PersonEdit, wrong *api.Error) error {
	all, err := q.h.gate.People(q.Context(), q.who)
	if err != nil {
		return err
	}
	f, err := q.signedFrame(q.words().PeopleTitle)
	if err != nil {
		return err
	}
	f.At = "/people"
	return q.show(http.StatusOK, page.People(f, all, q.editable(), e, wrong))
}

func (q *request) showPerson(e *api.PersonEdit, wrong *api.Error) error {
	p, err := q.h.gate.Person(q.Context(), q.who, q.PathValue("name"))
	if err != nil {
		return err
	}
	if e == nil {
		e = &api.PersonEdit{Name: p.Name, Groups: p.Groups, Fixed: p.Fixed, Login: p.Login}
		for _, k := range p.Keys {
			if k.Line != "" {
				e.Keys = append(e.Keys, k.Line)
			}
		}
	}
	f, err := q.signedFrame(p.Name)
	if err != nil {
		return err
	}
	f.At = "/people/" + url.PathEscape(p.Name)
	return q.show(http.StatusOK, page.Person(f, p, q.editable(), *e, wrong))
}

func (q *request) confirm(kind string, lead func(*page.Words) string) error {
	w, name := q.words(), q.PathValue("name")
	f, err := q.signedFrame(w.DeleteTitle(name))
	if err != nil {
		return err
	}
	at := "/" + kind + "/" + url.PathEscape(name)
	back := at
	if kind == "hosts" {
		back = "/hosts"
	}
	return q.show(http.StatusOK, page.Confirm(f, page.SafePath(at+"/delete"), lead(w), w.Delete, page.SafePath(back)))
}

func (q *request) showTargets(name, config string, wrong *api.Error) error {
	all, err := q.h.gate.Targets(q.Context(), q.who)
	if err != nil {
		return err
	}
	findings, err := q.h.gate.Findings(q.Context(), q.who)
	if err != nil {
		return err
	}
	f, err := q.signedFrame(q.words().TargetsTitle)
	if err != nil {
		return err
	}
	f.At = "/targets"
	return q.show(http.StatusOK, page.Targets(f, all, findings, q.editable(), name, config, wrong))
}

func (q *request) showTarget(config *string, wrong *api.Error) error {
	all, err := q.h.gate.Targets(q.Context(), q.who)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(t api.Target) bool { return t.Name == q.PathValue("name") })
	if i < 0 {
		return api.Errorf(api.NotFound, "", "there is no such target")
	}
	if config == nil {
		config = &all[i].Config
	}
	f, err := q.signedFrame(all[i].Name)
	if err != nil {
		return err
	}
	f.At = "/targets/" + url.PathEscape(all[i].Name)
	return q.show(http.StatusOK, page.Target(f, all[i], q.editable(), *config, wrong))
}

func (q *request) editTarget(name string, form url.Values, again func(*api.Error) error) error {
	config := strings.ReplaceAll(form.Get("config"), "\r\n", "\n")
	if _, err := q.h.gate.EditTarget(q.Context(), q.who, name, api.TargetEdit{Config: config}); err != nil {
		return q.again(err, again)
	}
	return q.seeOther("/targets/" + url.PathEscape(name))
}

func (q *request) showHosts(wrong *api.Error) error {
	all, err := q.h.gate.Hosts(q.Context(), q.who)
	if err != nil {
		return err
	}
	f, err := q.signedFrame(q.words().HostsTitle)
	if err != nil {
		return err
	}
	f.At = "/hosts"
	return q.show(http.StatusOK, page.Hosts(f, all, wrong))
}

func (q *request) showAudit() error {
	query := q.URL.Query()
	filter, err := filterOf(query)
	if err != nil {
		return err
	}
	const each = 100
	filter.Limit = each
	entries, err := q.h.gate.Audit(q.Context(), q.who, filter)
	if err != nil {
		return err
	}
	var verdict *api.Verdict
	if check, err := yesOrNo(query, "verify"); err != nil {
		return err
	} else if check {
		v, err := q.h.gate.Verify(q.Context(), q.who)
		if err != nil {
			return err
		}
		verdict = &v
	}
	f, err := q.signedFrame(q.words().AuditTitle)
	if err != nil {
		return err
	}
	is := page.Filter{Person: filter.Person, Target: filter.Target, What: filter.What, From: query.Get("from"), To: query.Get("to")}
	return q.show(http.StatusOK, page.Audit(f, entries, is, len(entries) == each, verdict))
}
