package web

import (
	"context"
	"encoding/base64"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"sekisho/internal/gate"
	"sekisho/internal/gate/api"
)

// actors are who asks, in the order of the table's columns.
var actors = []string{
	"nobody",
	"hanako",  // whose grants, passkey and name the paths have
	"taro",    // another person
	"lea",     // who may approve db
	"root",    // an administrator
	"box-1",   // a host
	"jiro",    // a disabled person
	"expired", // with a session that has ended
}

const (
	// Those that most routes have.
	forAnybody  = "200 200 200 200 200 200 200 200"
	forPeople   = "401 200 200 200 200 401 403 401"
	forAdmins   = "401 403 403 403 200 401 403 401"
	forHosts    = "401 401 401 401 401 200 401 401"
	pageAnybody = "200 200 200 200 200 200 200 200"
	pagePeople  = "in 200 200 200 200 401 403 in" // in: led to where one signs in
	pageAdmins  = "in 403 403 403 200 401 403 in"
	formAdmins  = "in 403 403 403 303 401 403 in"
)

// cell is a route of the table: what is sent, and what each actor gets.
type cell struct {
	want  string
	body  string
	path  map[string]string // of the parameters, where they are not those of all
	ready func(t *testing.T, w *world, c *cell)
}

// Every route, for everybody.
func TestRoles(t *testing.T) {
	const v = api.Version
	waiting := func(t *testing.T, w *world, c *cell) {
		g, err := w.gate.Open(t.Context(), w.who("hanako"), "db", api.OpenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		c.path = map[string]string{"id": g.ID}
	}
	keiko := map[string]string{"name": "keiko"}
	extra := map[string]string{"name": "extra"}
	box := map[string]string{"name": "box-1"}
	passkey := map[string]string{"id": base64.RawURLEncoding.EncodeToString([]byte("a passkey of hers"))}
	const target = `{"config":"{aws: {region: eu-central-1, group: sg-0123456789abcdef9}, allow: [ops]}"}`
	const targetForm = "config=" + "%7Baws%3A+%7Bregion%3A+eu-central-1%2C+group%3A+sg-0123456789abcdef9%7D%2C+allow%3A+%5Bops%5D%7D"
	table := map[string]cell{
		"GET /healthz":               {want: forAnybody},
		"GET " + v + "/openapi.json": {want: forAnybody},
		"GET " + v + "/address":      {want: forAnybody},

		"GET " + v + "/me":             {want: forPeople},
		"GET " + v + "/doors":          {want: forPeople},
		"GET " + v + "/doors/{target}": {want: forPeople},
		// lea and root are none of ops, whom web is for.
		"POST " + v + "/doors/{target}/open": {want: "401 200 200 403 403 401 403 401"},
		"GET " + v + "/grants":               {want: forPeople},
		// A grant of hanako's: others do not even learn that it is there.
		"GET " + v + "/grants/{id}":          {want: "401 200 404 404 200 401 403 401"},
		"POST " + v + "/grants/{id}/extend":  {want: "401 200 404 404 404 401 403 401"},
		"POST " + v + "/grants/{id}/close":   {want: "401 200 404 404 200 401 403 401"},
		"GET " + v + "/approvals":            {want: forPeople},
		"POST " + v + "/grants/{id}/approve": {want: "401 403 404 200 404 401 403 401", ready: waiting},
		"POST " + v + "/grants/{id}/deny":    {want: "401 403 404 200 404 401 403 401", ready: waiting},

		"GET " + v + "/people":                         {want: forAdmins},
		"POST " + v + "/people":                        {want: forAdmins, body: `{"name":"momo","groups":[],"fixed":[],"keys":[]}`},
		"GET " + v + "/people/{name}":                  {want: "401 200 403 403 200 401 403 401"},
		"GET " + v + "/people/{name}/doors/{target}":   {want: "401 200 403 403 200 401 403 401"},
		"PUT " + v + "/people/{name}":                  {want: forAdmins, path: keiko, body: `{"name":"keiko","groups":["ops"],"fixed":[],"keys":[]}`},
		"DELETE " + v + "/people/{name}":               {want: "401 403 403 403 204 401 403 401", path: keiko},
		"POST " + v + "/people/{name}/invite":          {want: forAdmins, path: keiko},
		"POST " + v + "/people/{name}/disable":         {want: forAdmins, path: keiko},
		"POST " + v + "/people/{name}/enable":          {want: forAdmins, path: keiko},
		"DELETE " + v + "/people/{name}/passkeys/{id}": {want: "401 204 403 403 204 401 403 401", path: passkey},

		"GET " + v + "/targets":           {want: forAdmins},
		"PUT " + v + "/targets/{name}":    {want: forAdmins, path: map[string]string{"name": "more"}, body: target},
		"DELETE " + v + "/targets/{name}": {want: "401 403 403 403 204 401 403 401", path: extra},
		"GET " + v + "/findings":          {want: forAdmins},
		"GET " + v + "/hosts":             {want: forAdmins},
		"POST " + v + "/hosts":            {want: forAdmins, body: `{"name":"box-2"}`},
		"DELETE " + v + "/hosts/{name}":   {want: "401 403 403 403 204 401 403 401", path: box},
		"GET " + v + "/audit":             {want: forAdmins},
		"GET " + v + "/audit/export":      {want: forAdmins},
		"GET " + v + "/audit/verify":      {want: forAdmins},

		// The signature of a host's key is what shows who it is, and the token that it may.
		"POST " + v + "/hosts/enrol": {want: "401 401 401 401 401 404 401 401", body: `{"token":"guessed","version":"1"}`},
		"GET " + v + "/hosts/stream": {want: forHosts},
		"POST " + v + "/hosts/report": {want: "401 401 401 401 401 204 401 401", ready: func(t *testing.T, w *world, c *cell) {
			c.body = `{"ticket":"` + w.ticket(t) + `","grants":[],"whole":true}`
			c.want = "204 401 401 401 401 204 401 204" // the ticket alone shows it, to whoever sends it
		}},

		"POST " + v + "/invitations/show":   {want: "404 404 404 404 404 404 404 404", body: `{"token":"guessed"}`},
		"POST " + v + "/invitations/begin":  {want: "404 404 404 404 404 404 404 404", body: `{"token":"guessed"}`},
		"POST " + v + "/invitations/finish": {want: "404 404 404 404 404 404 404 404", body: `{"token":"guessed","key":"aaaaaaaaaaaaaaaaaaaa","response":{}}`},
		"POST " + v + "/passkeys/begin":     {want: forPeople},
		"POST " + v + "/passkeys/finish":    {want: "401 404 404 404 404 401 403 401", body: `{"key":"aaaaaaaaaaaaaaaaaaaa","response":{}}`},
		"POST " + v + "/passkeys/invite":    {want: forPeople},
		"POST " + v + "/signin/begin":       {want: forAnybody},
		"POST " + v + "/signin/finish":      {want: "404 404 404 404 404 404 404 404", body: `{"key":"aaaaaaaaaaaaaaaaaaaa","response":{}}`},
		"POST " + v + "/signout":            {want: "401 204 204 204 204 401 403 401"},
		"POST " + v + "/signout/everywhere": {want: "401 204 204 204 204 401 403 401"},

		"GET /{$}":                           {want: pagePeople},
		"GET /doors/{target}":                {want: pagePeople},
		"POST /doors/{target}":               {want: "in 303 303 403 403 401 403 in"},
		"POST /grants/{id}/extend":           {want: "in 303 404 404 404 401 403 in"},
		"POST /grants/{id}/close":            {want: "in 303 404 404 303 401 403 in"},
		"POST /grants/{id}/approve":          {want: "in 403 404 303 404 401 403 in", ready: waiting},
		"POST /grants/{id}/deny":             {want: "in 403 404 303 404 401 403 in", ready: waiting},
		"GET /approvals":                     {want: pagePeople},
		"GET /account":                       {want: pagePeople},
		"POST /account/invite":               {want: pagePeople},
		"POST /account/passkeys/{id}/delete": {want: "in 303 404 404 404 401 403 in", path: passkey},
		"POST /signout":                      {want: "in 303 303 303 303 401 403 in"},
		"POST /signout/everywhere":           {want: "in 303 303 303 303 401 403 in"},
		"GET /signin":                        {want: pageAnybody},
		"POST /signin/oidc":                  {want: "404 404 404 404 404 404 404 404"},
		"GET /signin/oidc/callback":          {want: "404 404 404 404 404 404 404 404"},
		"GET /invite":                        {want: pageAnybody},
		"GET /invite/{token}":                {want: pageAnybody},
		"POST /language":                     {want: "303 303 303 303 303 303 303 303", body: "to=ja"},
		"GET /assets/{file}":                 {want: "404 404 404 404 404 404 404 404"},

		"GET /live":                                {want: pageAdmins},
		"GET /people":                              {want: pageAdmins},
		"POST /people":                             {want: formAdmins, body: "name=momo"},
		"GET /people/{name}":                       {want: pageAdmins},
		"POST /people/{name}":                      {want: formAdmins, path: keiko, body: "groups=ops"},
		"POST /people/{name}/invite":               {want: pageAdmins, path: keiko},
		"GET /people/{name}/disable":               {want: pageAdmins, path: keiko},
		"POST /people/{name}/disable":              {want: formAdmins, path: keiko},
		"POST /people/{name}/enable":               {want: formAdmins, path: keiko},
		"GET /people/{name}/delete":                {want: pageAdmins, path: keiko},
		"POST /people/{name}/delete":               {want: formAdmins, path: keiko},
		"POST /people/{name}/passkeys/{id}/delete": {want: formAdmins, path: passkey},
		"GET /targets":                             {want: pageAdmins},
		"POST /targets":                            {want: formAdmins, body: "name=more&" + targetForm},
		"GET /targets/{name}":                      {want: pageAdmins, path: extra},
		"POST /targets/{name}":                     {want: formAdmins, path: extra, body: targetForm},
		"GET /targets/{name}/delete":               {want: pageAdmins, path: extra},
		"POST /targets/{name}/delete":              {want: formAdmins, path: extra},
		"GET /hosts":                               {want: pageAdmins},
		"POST /hosts":                              {want: pageAdmins, body: "name=box-2"},
		"GET /hosts/{name}/delete":                 {want: pageAdmins, path: box},
		"POST /hosts/{name}/delete":                {want: formAdmins, path: box},
		"GET /audit":                               {want: pageAdmins},
	}
	for _, r := range routesOf().routes {
		name := r.method + " " + r.path
		c, ok := table[name]
		if !ok {
			t.Errorf("%s is not in this table", name)
			continue
		}
		delete(table, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var shared *world // for what is refused, which changes nothing
			var ready cell
			for i, actor := range actors {
				fields := strings.Fields(c.want)
				// What looks or is refused changes nothing.
				refused := r.method == get || fields[i] == "in" || fields[i] >= "400"
				w, now := shared, ready
				if !refused || shared == nil {
					w = newWorld(t)
					now = c
					prepare(t, w, &now)
					if refused {
						shared, ready = w, now
					}
				}
				got := ask(t, w, r, now, actor)
				if want := strings.Fields(now.want)[i]; got != want {
					t.Errorf("%s gets %s, want %s", actor, got, want)
				}
			}
		})
	}
	for name := range table {
		t.Errorf("%s is in this table and no route", name)
	}
}

// prepare makes what the paths name: a grant and a passkey of hanako's, keiko and extra,
// who are not declared.
func prepare(t *testing.T, w *world, c *cell) {
	t.Helper()
	ctx, root := t.Context(), w.who("root")
	g, err := w.gate.Open(ctx, w.who("hanako"), "web", api.OpenRequest{Seconds: 600})
	if err != nil {
		t.Fatal(err)
	}
	path := map[string]string{"target": "web", "id": g.ID, "name": "hanako", "token": "guessed", "file": "nothing"}
	if _, err := w.gate.AddPerson(ctx, root, api.PersonEdit{Name: "keiko", Groups: []string{"ops"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.gate.EditTarget(ctx, root, "extra", api.TargetEdit{Config: "{aws: {region: eu-central-1, group: sg-0123456789abcdef8}, allow: [ops]}"}); err != nil {
		t.Fatal(err)
	}
	if err := w.gate.AddPasskey(ctx, w.who("hanako"), gate.Passkey{ID: []byte("a passkey of hers"), Person: "hanako", Data: []byte("{}")}, ""); err != nil {
		t.Fatal(err)
	}
	if c.ready != nil {
		c.ready(t, w, c)
	}
	maps.Copy(path, c.path)
	c.path = path
}

// ask is what actor gets for a route.
func ask(t *testing.T, w *world, r route, c cell, actor string) string {
	t.Helper()
	path := strings.TrimSuffix(r.path, "{$}")
	for k, v := range c.path {
		path = strings.ReplaceAll(path, "{"+k+"}", v)
	}
	body := []byte(c.body)
	q := w.request(r.method, path, actor, body)
	switch {
	case r.page && r.method == post:
		withForm(q)
	case len(body) > 0:
		withJSON(q)
	}
	if r.page {
		q.Header.Set("Accept", "text/html")
	}
	switch actor {
	case "nobody":
	case "box-1":
		w.sign(q, w.keys[actor], api.HostNamespace, body)
	case "expired":
		w.pass(-13 * time.Hour)
		token := w.session("taro")
		w.pass(13 * time.Hour)
		w.withSession(q, token)
	default:
		w.sign(q, w.keys[actor], api.Namespace, body)
	}
	if strings.HasSuffix(r.path, "/stream") {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		q = q.WithContext(ctx)
	}
	got := w.do(q)
	if got.StatusCode == http.StatusSeeOther && strings.HasPrefix(got.Header.Get("Location"), "/signin") && !strings.HasPrefix(r.path, "/signout") {
		return "in"
	}
	if got.StatusCode == http.StatusSeeOther && strings.HasPrefix(r.path, "/signout") && (actor == "nobody" || actor == "expired") {
		return "in"
	}
	return map[bool]string{true: "500: "}[got.StatusCode >= 500] + status3(got.StatusCode)
}

func status3(n int) string {
	return string([]byte{byte('0' + n/100), byte('0' + n/10%10), byte('0' + n%10)})
}

// ticket is that of a stream of box-1's, which lasts as long as the test.
func (w *world) ticket(t *testing.T) string {
	t.Helper()
	changes, err := w.gate.Stream(t.Context(), gate.Who{Role: api.RoleHost, Via: api.ViaHost, Host: "box-1", From: from("box-1")})
	if err != nil {
		t.Fatal(err)
	}
	ticket := make(chan string, 1)
	go func() {
		for c := range changes {
			if c.Snapshot != nil {
				ticket <- c.Snapshot.Ticket
			}
		}
	}()
	return <-ticket
}
