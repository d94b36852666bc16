package web

import (
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"sekisho/internal/gate/api"
)

// element is one of a page.
type element struct {
	*html.Node
	attr map[string]string
	text string
}

func elements(t testing.TB, page string) []element {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var all []element
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		e := element{Node: n, attr: map[string]string{}}
		for _, a := range n.Attr {
			e.attr[a.Key] = a.Val
		}
		var b strings.Builder
		for c := range n.Descendants() {
			if c.Type == html.TextNode {
				b.WriteString(c.Data)
			}
		}
		e.text = strings.Join(strings.Fields(b.String()), " ")
		all = append(all, e)
	}
	return all
}

// proper is what holds for every page: it does nothing that its policy forbids, everything
// has a name that can be read out, and nothing changes by following a link.
func proper(t testing.TB, page, lang string) {
	t.Helper()
	ids, labels := map[string]bool{}, map[string]bool{}
	all := elements(t, page)
	for _, e := range all {
		if id, ok := e.attr["id"]; ok {
			if ids[id] {
				t.Errorf("two elements have the ID %q", id)
			}
			ids[id] = true
		}
		if e.Data == "label" && e.text != "" {
			labels[e.attr["for"]] = true
		}
	}
	h1, posts := 0, 0
	for _, e := range all {
		for name, v := range e.attr {
			if name == "style" || strings.HasPrefix(name, "on") {
				t.Errorf("<%s> has %s=%q, which the policy forbids", e.Data, name, v)
			}
			if (name == "href" || name == "src" || name == "action" || name == "formaction") && !strings.HasPrefix(v, "/") && !strings.HasPrefix(v, "#") && v != "data:," {
				t.Errorf("<%s> leads to %q", e.Data, v)
			}
			if name == "aria-labelledby" || name == "aria-describedby" {
				if !ids[v] {
					t.Errorf("<%s> is named by %q, which is not there", e.Data, v)
				}
			}
		}
		switch e.Data {
		case "html":
			if e.attr["lang"] != lang {
				t.Errorf("the page is in %q, want %q", e.attr["lang"], lang)
			}
		case "h1":
			h1++
			if e.text == "" {
				t.Error("the heading is empty")
			}
		case "style":
			t.Error("a style in the page, which the policy forbids")
		case "script":
			if e.attr["src"] == "" || e.text != "" {
				t.Error("a script in the page, which the policy forbids")
			}
		case "form":
			switch e.attr["method"] {
			case "post":
				posts++
			case "get":
				if e.attr["action"] != "/audit" {
					t.Errorf("a form is sent to %s by looking", e.attr["action"])
				}
			case "":
				if e.attr["action"] != "" {
					t.Errorf("a form to %s by looking", e.attr["action"])
				}
			}
		case "input", "select", "textarea":
			if e.attr["type"] == "hidden" || e.attr["type"] == "checkbox" && e.Parent.Data == "label" {
				continue
			}
			if !labels[e.attr["id"]] {
				t.Errorf("<%s name=%q> has no label", e.Data, e.attr["name"])
			}
		case "button", "a", "summary":
			if e.text == "" && e.attr["aria-label"] == "" {
				t.Errorf("<%s %v> has no name", e.Data, e.attr)
			}
		case "img":
			t.Error("a picture")
		}
	}
	if h1 != 1 {
		t.Errorf("%d headings", h1)
	}
	if posts == 0 {
		t.Error("there is no switch of languages")
	}
}

// Every page, in both languages, with something on it.
func TestPages(t *testing.T) {
	w := newWorld(t, func(o *Options, s *Settings) {
		s.IPv4, s.IPv6 = "https://v4.gate.example.com", "https://v6.gate.example.com"
		o.Provider, s.Provider = &provider{}, "Example ID"
	})
	ctx := t.Context()
	if _, err := w.gate.AddPerson(ctx, w.who("root"), api.PersonEdit{Name: "keiko", Groups: []string{"ops"}, Fixed: []string{"192.0.2.77"}, Keys: []string{line(newKey(t))}, Login: "k@example.com"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.gate.EditTarget(ctx, w.who("root"), "extra", api.TargetEdit{Config: "{aws: {region: eu-central-1, group: sg-0123456789abcdef8}, allow: [ops]}"}); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"hanako": "web", "taro": "db"} {
		if _, err := w.gate.Open(ctx, w.who(name), target, api.OpenRequest{Reason: `<img src=x onerror="alert(1)">`}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.gate.Open(ctx, w.who("taro"), "web", api.OpenRequest{Address: from("hanako")}); err != nil {
		t.Fatal(err)
	}
	// Whoever reads a page, and words of it in each language.
	for _, tt := range []struct {
		path, who string
		en, ja    string
	}{
		{"/signin", "", "Sign in with a passkey", "パスキーでサインイン"},
		{"/invite", "", "Make a passkey", "パスキーを作成"},
		{"/nothing", "", "there is nothing at this address", "見つかりません。"},
		{"/", "hanako", "Close", "閉じる"},
		{"/", "taro", "Waits for approval", "承認待ち"},
		{"/doors/web", "hanako", "203.0.113.7 is also the address of taro", "203.0.113.7 は taro さんのアドレスでもあります"},
		{"/doors/box", "hanako", "The host is not connected to the gate now", "このホストは現在ゲートに接続していません"},
		{"/doors/db", "hanako", "Needs a yes from leads.", "leads の承認が必要です。"},
		{"/doors/db", "hanako", "Emergency: break the glass", "緊急時：承認なしで開ける"},
		{"/doors/web", "lea", "Not for you now", "今は開けられません"},
		{"/approvals", "lea", "taro asks for db", "taro さんが db を申請しています"},
		{"/approvals", "hanako", "Nothing waits for your answer.", "あなたの承認を待っている申請はありません。"},
		{"/account", "hanako", "Sign out everywhere", "すべての端末からサインアウト"},
		{"/live", "root", "Who is in", "接続許可中"},
		{"/people", "root", "in the file", "設定ファイル"},
		{"/people/hanako", "root", "This stands in the configuration file", "設定ファイルに書かれているため"},
		{"/people/keiko", "root", "SSH keys, one on each line", "SSH 公開鍵（1 行に 1 つ"},
		{"/people/jiro", "root", "disabled by root", "root が無効にしました"},
		{"/people/keiko/disable", "root", "Cut their connections too", "接続中のセッションも切断する"},
		{"/people/keiko/delete", "root", "Delete keiko?", "keiko を削除しますか"},
		{"/targets", "root", "Add a target", "接続先を追加"},
		{"/targets/web", "root", "This stands in the configuration file", "設定ファイルに書かれているため"},
		{"/targets/extra", "root", "Configuration (YAML)", "設定（YAML）"},
		{"/targets/extra/delete", "root", "All that is open there is closed.", "開いているものはすべて閉じられます。"},
		{"/hosts", "root", "not connected", "未接続"},
		{"/hosts/box-1/delete", "root", "It gets nothing more from the gate.", "ゲートからの指示は届かなくなります。"},
		{"/audit?verify=true", "root", "The chain is whole.", "ハッシュチェーンに異常はありません。"},
	} {
		for lang, want := range map[string]string{"en": tt.en, "ja": tt.ja} {
			t.Run(lang+tt.path+" "+tt.who, func(t *testing.T) {
				r := w.request(get, tt.path, tt.who, nil)
				r.Header.Set("Accept", "text/html")
				r.Header.Set("Accept-Language", lang)
				if tt.who != "" {
					w.withSession(r, w.session(tt.who))
				}
				got := w.do(r)
				page := read(t, got)
				if got.StatusCode != 200 && tt.path != "/nothing" {
					t.Fatalf("%d %s", got.StatusCode, page)
				}
				proper(t, page, lang)
				if !strings.Contains(page, html.EscapeString(want)) {
					t.Errorf("%q is not there:\n%s", want, page)
				}
				if strings.Contains(page, "<img") || strings.Contains(page, "<script>") {
					t.Error("what people write is not escaped")
				}
				// What a language lacks must not shine through from the other.
				if lang == "ja" {
					for _, e := range elements(t, page) {
						if e.attr["lang"] == "en" && e.Data != "button" && e.text != "" && tt.path != "/nothing" {
							t.Errorf("what the gate says has no Japanese: %q", e.text)
						}
						if (e.Data == "button" || e.Data == "h1" || e.Data == "label" || e.Data == "th" || e.Data == "summary") && e.attr["lang"] == "" {
							if english.MatchString(e.text) {
								t.Errorf("<%s> is in English: %q", e.Data, e.text)
							}
						}
					}
				}
			})
		}
	}
}

// english is words of more than a name: two in a row.
var english = regexp.MustCompile(`[a-z]{3,} [a-z]{2,}`)

// What one does with forms alone, without a script.
func TestWithoutScript(t *testing.T) {
	w := newWorld(t)
	b, lea, root := w.browser("hanako"), w.browser("lea"), w.browser("root")
	for name, b := range map[string]*browser{"hanako": b, "lea": lea, "root": root} {
		b.cookies["__Host-sekisho"] = w.session(name)
	}
	// done sends a form and follows where it leads.
	done := func(b *browser, path, body, to string) string {
		t.Helper()
		got := b.form(path, body)
		if got.StatusCode != 303 || got.Header.Get("Location") != to {
			t.Fatalf("%s: %d %v %s", path, got.StatusCode, got.Header, read(t, got))
		}
		return b.page(to)
	}
	grant := func(page, target string) (id, state, left string) {
		t.Helper()
		inside := false
		for _, e := range elements(t, page) {
			if e.Data == "section" {
				inside = e.attr["data-target"] == target
			}
			if inside && e.attr["data-grant"] != "" {
				id, state = e.attr["data-grant"], e.attr["data-state"]
			}
			if inside && e.attr["data-left"] != "" {
				left = e.attr["data-left"]
			}
		}
		return id, state, left
	}
	page := done(b, "/doors/web", "seconds=900", "/")
	id, state, left := grant(page, "web")
	if state != "open" || left < "880" || left > "900" || len(left) != 3 {
		t.Fatalf("got %q %q %q", id, state, left)
	}
	if page = done(b, "/grants/"+id+"/extend", "back=web", "/doors/web"); page == "" {
		t.Fatal()
	}
	if _, _, longer := grant(page, "web"); len(longer) != 4 {
		t.Errorf("it is not longer: %s", longer)
	}
	page = done(b, "/grants/"+id+"/close", "", "/")
	if _, state, _ = grant(page, "web"); state != "" && state != "ending" {
		t.Errorf("it is not closed: %s", state)
	}
	// Approval.
	page = done(b, "/doors/db", "reason=a+reason&back=door", "/doors/db")
	id, state, _ = grant(page, "db")
	if state != "waiting" {
		t.Fatalf("got %q", state)
	}
	if page := lea.page("/"); !strings.Contains(page, `class="pill wait">1<`) {
		t.Error("lea does not see that something waits")
	}
	done(lea, "/grants/"+id+"/approve", "reason=fine", "/approvals")
	if _, state, _ = grant(b.page("/doors/db"), "db"); state != "open" {
		t.Errorf("approved, and %s", state)
	}
	if page := root.page("/audit"); !strings.Contains(page, "approve") {
		t.Error("the audit does not have it")
	}
	done(root, "/grants/"+id+"/close", "back=%2Flive", "/live")

	// What is wrong with a form stands in it, with what was written.
	got := root.form("/targets", url.Values{"name": {"new"}, "config": {"aws: {regio: x}"}}.Encode())
	text := read(t, got)
	if got.StatusCode != 400 || !strings.Contains(text, "aws: {regio: x}") || !strings.Contains(text, "regio") {
		t.Errorf("got %d %s", got.StatusCode, text)
	}
	proper(t, text, "en")
	page = done(root, "/targets", url.Values{"name": {"new"}, "config": {"aws: {region: eu-central-1, group: sg-0123456789abcdef7}\r\nallow: [ops]"}}.Encode(), "/targets/new")
	if !strings.Contains(page, "sg-0123456789abcdef7") {
		t.Error("the target is not there")
	}
	got = root.form("/people", "name=no+name")
	if got.StatusCode != 400 || !strings.Contains(read(t, got), "no name") {
		t.Errorf("got %d", got.StatusCode)
	}
	// What a host's administrator is to run is what the command takes: the token alone.
	if text = read(t, root.form("/hosts", "name=box-7")); !regexp.MustCompile(`sudo sekisho gate enrol [A-Z0-9]+<`).MatchString(text) {
		t.Errorf("a host's token is told as %s", text)
	}
	key := line(newKey(t))
	page = done(root, "/people", url.Values{"name": {"momo"}, "groups": {"ops, guests"}, "fixed": {"192.0.2.88"}, "keys": {key + "\r\n"}}.Encode(), "/people/momo")
	// An edit that changes one thing leaves the rest as it is.
	form := url.Values{}
	for _, e := range elements(t, page) {
		switch {
		case e.Data == "textarea":
			form.Set(e.attr["name"], e.text)
		case e.Data == "input" && e.attr["type"] == "text":
			form.Set(e.attr["name"], e.attr["value"])
		}
	}
	form.Set("login", "momo@example.com")
	done(root, "/people/momo", form.Encode(), "/people/momo")
	p, err := w.gate.Person(t.Context(), w.who("root"), "momo")
	if err != nil {
		t.Fatal(err)
	}
	if p.Login != "momo@example.com" || len(p.Keys) != 1 || p.Keys[0].Line != key || !slices.Equal(p.Groups, []string{"ops", "guests"}) && !slices.Equal(p.Groups, []string{"guests", "ops"}) || len(p.Fixed) != 1 {
		t.Errorf("got %+v", p)
	}
	done(root, "/people/momo/delete", "", "/people")
}

// Looking at any page, again and again, changes nothing.
func TestLookingChangesNothing(t *testing.T) {
	w := newWorld(t)
	head := func() string {
		v, err := w.gate.Verify(t.Context(), w.who("root"))
		if err != nil {
			t.Fatal(err)
		}
		return v.Head
	}
	token := w.session("root")
	before := head()
	for _, r := range routesOf().routes {
		if r.method != get || r.roles == host {
			continue
		}
		path := r.path
		for k, v := range map[string]string{"{$}": "", "{target}": "web", "{name}": "hanako", "{id}": "none", "{token}": "none", "{file}": "none"} {
			path = strings.ReplaceAll(path, k, v)
		}
		for _, method := range []string{get, http.MethodHead} {
			rq := w.withSession(w.request(get, path, "root", nil), token)
			rq.Method = method
			w.ServeHTTP(&discard{http.Header{}}, rq)
		}
	}
	if after := head(); after != before {
		t.Error("the audit has grown")
	}
}

type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

func TestLanguage(t *testing.T) {
	w := newWorld(t)
	b := w.browser("hanako")
	if got := b.form("/language", "to=ja&next=%2Fsignin%3Fnext%3D%252F"); got.StatusCode != 303 || got.Header.Get("Location") != "/signin?next=%2F" {
		t.Fatalf("got %d %v", got.StatusCode, got.Header)
	}
	proper(t, b.page("/signin"), "ja")
	if got := b.form("/language", "to=en&next=%2F%2Fevil.example.com"); got.Header.Get("Location") != "/" {
		t.Errorf("led to %v", got.Header)
	}
	proper(t, b.page("/signin"), "en")
	b.form("/language", "to=%3Cscript%3E")
	proper(t, b.page("/signin"), "en")
}

func TestAssets(t *testing.T) {
	w := newWorld(t)
	page := w.browser("hanako").page("/signin")
	n := 0
	for _, e := range elements(t, page) {
		for _, at := range []string{e.attr["src"], e.attr["href"]} {
			if !strings.HasPrefix(at, "/assets/") {
				continue
			}
			n++
			got := w.do(w.request(get, at, "hanako", nil))
			if got.StatusCode != 200 || got.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" || len(read(t, got)) < 1000 {
				t.Errorf("%s: %d %v", at, got.StatusCode, got.Header)
			}
		}
	}
	if n != 2 {
		t.Errorf("%d files", n)
	}
}

// Which of one's own addresses a door is opened for can be chosen.
func TestOpenForAnotherAddress(t *testing.T) {
	w := newWorld(t)
	b := w.browser("hanako")
	b.cookies["__Host-sekisho"] = w.session("hanako")
	if got := b.form("/doors/web", "address=2001:db8::7"); got.StatusCode != 303 {
		t.Fatal(read(t, got))
	}
	all, err := w.gate.Grants(t.Context(), w.who("hanako"), false)
	if err != nil || len(all) != 1 || all[0].Prefix.Addr() != netip.MustParseAddr("2001:db8::7") {
		t.Errorf("got %+v, %v", all, err)
	}
	for _, bad := range []string{"address=x", "address=fe80::1%25eth0", "seconds=-1", "seconds=x"} {
		if got := b.form("/doors/web", bad); got.StatusCode != 400 {
			t.Errorf("%s: %d", bad, got.StatusCode)
		}
	}
}
