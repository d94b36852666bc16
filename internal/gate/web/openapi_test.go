package web

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sekisho/internal/gate/api"
)

var update = flag.Bool("update", false, "write openapi.json anew")

type object = map[string]any

// source is what package api's source says of its types: constants, and comments.
type sources struct {
	enums  map[string][]string // by type
	types  map[string]string
	fields map[string]map[string]string
}

var readSource = sync.OnceValues(func() (*sources, error) {
	s := &sources{enums: map[string][]string{}, types: map[string]string{}, fields: map[string]map[string]string{}}
	files, err := os.ReadDir("../api")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "_test.go") || !strings.HasSuffix(f.Name(), ".go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), "../api/"+f.Name(), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, d := range parsed.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range g.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					t, ok := spec.Type.(*ast.Ident)
					if g.Tok != token.CONST || !ok {
						continue
					}
					for _, v := range spec.Values {
						if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
							text, err := strconv.Unquote(lit.Value)
							if err != nil {
								return nil, err
							}
							s.enums[t.Name] = append(s.enums[t.Name], text)
						}
					}
				case *ast.TypeSpec:
					s.types[spec.Name.Name] = oneLine(g.Doc.Text())
					st, ok := spec.Type.(*ast.StructType)
					if !ok {
						continue
					}
					s.fields[spec.Name.Name] = map[string]string{}
					for _, f := range st.Fields.List {
						for _, n := range f.Names {
							s.fields[spec.Name.Name][n.Name] = oneLine(f.Doc.Text() + " " + f.Comment.Text())
						}
					}
				}
			}
		}
	}
	return s, nil
})

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// document makes the OpenAPI document of a table.
type document struct {
	source  *sources
	schemas object
}

func (d *document) schema(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[netip.Addr]():
		return object{"type": "string", "format": "ip"}
	case reflect.TypeFor[netip.Prefix]():
		return object{"type": "string", "format": "cidr"}
	case reflect.TypeFor[json.RawMessage]():
		return object{"type": "object"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.Slice:
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Uint16:
		return object{"type": "integer", "minimum": 0, "maximum": 65535}
	case reflect.String:
		s := object{"type": "string"}
		if all := d.source.enums[t.Name()]; len(all) > 0 && t.PkgPath() != "" {
			if t == reflect.TypeFor[api.Role]() {
				all = append([]string{""}, all...) // nothing, for who is disabled
			}
			s["enum"] = all
		}
		return s
	case reflect.Struct:
	default:
		panic("a type that the API should not have: " + t.String())
	}
	ref := object{"$ref": "#/components/schemas/" + t.Name()}
	if d.schemas[t.Name()] != nil {
		return ref
	}
	properties, required := object{}, []string{}
	s := object{"type": "object", "description": d.source.types[t.Name()], "additionalProperties": false, "properties": properties}
	d.schemas[t.Name()] = s
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			panic(t.Name() + "." + f.Name + " has no name in JSON")
		}
		p := d.schema(f.Type)
		if about := d.source.fields[t.Name()][f.Name]; about != "" {
			p["description"] = about
		}
		properties[name] = p
		if options == "" {
			required = append(required, name)
		}
	}
	if len(required) > 0 {
		s["required"] = required
	}
	return ref
}

var parameter = regexp.MustCompile(`\{([a-z]+)\}`)

func makeDocument(routes []route) (object, error) {
	source, err := readSource()
	if err != nil {
		return nil, err
	}
	d := &document{source: source, schemas: object{}}
	failure := object{"description": "An error: what went wrong, and what to do.", "content": object{"application/json": object{"schema": d.schema(reflect.TypeFor[api.Error]())}}}
	paths := object{}
	for _, r := range routes {
		if r.page {
			continue
		}
		operation := object{"summary": r.about, "operationId": operationID(r)}
		var parameters []any
		for _, p := range parameter.FindAllStringSubmatch(r.path, -1) {
			parameters = append(parameters, object{"name": p[1], "in": "path", "required": true, "schema": object{"type": "string"}})
		}
		for _, p := range r.query {
			parameters = append(parameters, object{"name": p, "in": "query", "schema": object{"type": "string"}})
		}
		if parameters != nil {
			operation["parameters"] = parameters
		}
		if r.in != nil {
			operation["requestBody"] = object{"required": r.needsBody(), "content": object{"application/json": object{"schema": d.schema(reflect.TypeOf(r.in))}}}
		}
		responses := object{"default": failure}
		switch kind := "application/json"; {
		case r.out != nil:
			about := "As asked for."
			if r.lines {
				kind, about = "application/jsonl", "As asked for: one on each line, for as long as it lasts."
			}
			responses["200"] = object{"description": about, "content": object{kind: object{"schema": d.schema(reflect.TypeOf(r.out))}}}
		case r.path == healthPath:
			responses["200"] = object{"description": "It can.", "content": object{"text/plain": object{"schema": object{"type": "string"}}}}
		case strings.HasSuffix(r.path, ".json"):
			responses["200"] = object{"description": "As asked for.", "content": object{"application/json": object{"schema": object{"type": "object"}}}}
		default:
			responses["204"] = object{"description": "Done."}
		}
		operation["responses"] = responses
		switch r.roles {
		case anyone:
			operation["security"] = []any{}
			operation["tags"] = []string{"anybody"}
		case person:
			operation["tags"] = []string{"people"}
		case admin:
			operation["tags"] = []string{"administrators"}
		case host:
			operation["tags"] = []string{"hosts"}
			operation["security"] = []any{object{"hostKey": []any{}}}
		}
		item, ok := paths[r.path].(object)
		if !ok {
			item = object{}
			paths[r.path] = item
		}
		item[strings.ToLower(r.method)] = operation
	}
	return object{
		"openapi": "3.1.0",
		"info":    object{"title": "Sekisho: the gate", "version": "1", "description": "Access on request. Times are RFC 3339 in UTC, durations whole seconds. A request's body is JSON of 64 KiB at most, in which no name is unknown or stands twice."},
		"tags": []any{
			object{"name": "anybody", "description": "Nobody is asked who they are."},
			object{"name": "people", "description": "Whom the gate knows; administrators too."},
			object{"name": "administrators"},
			object{"name": "hosts", "description": "Enrolled hosts, by their key."},
		},
		"security":   []any{object{"key": []any{}}, object{"session": []any{}}, object{"provider": []any{}}},
		"paths":      paths,
		"components": object{"schemas": d.schemas, "securitySchemes": securitySchemes()},
	}, nil
}

func securitySchemes() object {
	return object{
		"key": object{"type": "apiKey", "in": "header", "name": api.HeaderSignature, "description": "The request signed with one's SSH key (SSHSIG, namespace " + api.Namespace + "), with " +
			api.HeaderTime + " and " + api.HeaderNonce + ". What is signed is five lines: \"sekisho gate request 1\"; the method, a space and the whole URL; the time; the nonce; the SHA-256 of the body in hexadecimal; each with a line feed."},
		"hostKey":  object{"type": "apiKey", "in": "header", "name": api.HeaderSignature, "description": "The same, with a host's key, in the namespace " + api.HostNamespace + "."},
		"session":  object{"type": "apiKey", "in": "cookie", "name": "__Host-sekisho", "description": "A browser's session, which began with a passkey or at an identity provider."},
		"provider": object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An ID token of the identity provider, made for this gate."},
	}
}

func operationID(r route) string {
	id := strings.ToLower(r.method)
	for part := range strings.FieldsFuncSeq(strings.TrimPrefix(r.path, api.Version), func(c rune) bool { return c == '/' || c == '{' || c == '}' || c == '.' }) {
		id += strings.ToUpper(part[:1]) + part[1:]
	}
	return id
}

// The document that is served is of the table and the types as they are.
func TestOpenAPI(t *testing.T) {
	doc, err := makeDocument((&Handler{gate: nil}).apiRoutes())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(doc); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("openapi.json", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(openAPI), b.String()); diff != "" {
		t.Errorf("openapi.json is not of the table of routes (go test ./internal/gate/web -run TestOpenAPI -update):\n%s", diff)
	}
	w := newWorld(t)
	got := w.do(w.request(get, api.Version+"/openapi.json", "nobody", nil))
	if got.StatusCode != 200 || read(t, got) != string(openAPI) {
		t.Errorf("it is not served: %d", got.StatusCode)
	}
}

// conforms holds an answer to the document.
func conforms(t testing.TB, r *http.Request, status int, header http.Header, body []byte) {
	t.Helper()
	doc := theDocument(t)
	probed := r.Clone(r.Context())
	found, err := routesOf().find(probed)
	if err != nil || found.page {
		if header.Get("Content-Type") == "application/json" {
			validateJSON(t, doc, object{"$ref": "#/components/schemas/Error"}, body, r.Method+" "+r.URL.Path)
		}
		return
	}
	operation := doc["paths"].(object)[found.path].(object)[strings.ToLower(found.method)].(object)
	responses := operation["responses"].(object)
	said, ok := responses[strconv.Itoa(status)].(object)
	if !ok {
		if status < 400 {
			t.Errorf("%s %s: %d is not in the document", r.Method, r.URL.Path, status)
		}
		said = responses["default"].(object)
	}
	content, ok := said["content"].(object)
	if !ok {
		if len(body) > 0 {
			t.Errorf("%s %s: a body where there is none in the document", r.Method, r.URL.Path)
		}
		return
	}
	kind, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	media, ok := content[kind].(object)
	if !ok {
		t.Errorf("%s %s: %q is not in the document", r.Method, r.URL.Path, kind)
		return
	}
	if kind == "text/plain" || strings.HasSuffix(found.path, ".json") {
		return
	}
	for line := range bytes.SplitSeq(bytes.TrimSpace(body), []byte("\n")) {
		if len(line) > 0 {
			validateJSON(t, doc, media["schema"].(object), line, r.Method+" "+r.URL.Path)
		}
	}
}

var routesOf = sync.OnceValue(func() *Handler {
	return New(Options{Settings: func() Settings { return Settings{URL: origin} }, Logger: quietly(), Gate: noGate{}})
})

// noGate is one of which only the table is made.
type noGate struct{ Gate }

func theDocument(t testing.TB) object {
	t.Helper()
	var doc object
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func validateJSON(t testing.TB, doc, schema object, body []byte, where string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Errorf("%s: %v: %s", where, err, body)
		return
	}
	for _, wrong := range validate(doc, schema, v, "") {
		t.Errorf("%s: the answer is not as the document has it: %s: %s", where, wrong, body)
	}
}

// validate is as much of JSON Schema as the document uses.
func validate(doc, schema object, v any, at string) (wrong []string) {
	if ref, ok := schema["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		target, ok := doc["components"].(object)["schemas"].(object)[name].(object)
		if !ok {
			return []string{"no schema " + name}
		}
		return validate(doc, target, v, at)
	}
	bad := func(format string, args ...any) { wrong = append(wrong, at+": "+fmt.Sprintf(format, args...)) }
	switch schema["type"] {
	case "object":
		o, ok := v.(object)
		if !ok {
			bad("%T is no object", v)
			return wrong
		}
		properties, _ := schema["properties"].(object)
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, ok := o[name.(string)]; !ok {
				bad("%s is missing", name)
			}
		}
		for name, inner := range o {
			p, ok := properties[name].(object)
			if !ok {
				if schema["additionalProperties"] == false {
					bad("%s is not known", name)
				}
				continue
			}
			wrong = append(wrong, validate(doc, p, inner, at+"."+name)...)
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			bad("%T is no array", v)
			return wrong
		}
		for i, inner := range list {
			wrong = append(wrong, validate(doc, schema["items"].(object), inner, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case "string":
		s, ok := v.(string)
		if !ok {
			bad("%T is no string", v)
			return wrong
		}
		if all, ok := schema["enum"].([]any); ok && !slices.Contains(all, any(s)) {
			bad("%q is not one of %v", s, all)
		}
		var err error
		switch schema["format"] {
		case "date-time":
			var at time.Time
			if at, err = time.Parse(time.RFC3339Nano, s); err == nil && at.IsZero() {
				bad("the zero time is told")
			}
		case "ip":
			_, err = netip.ParseAddr(s)
		case "cidr":
			_, err = netip.ParsePrefix(s)
		}
		if err != nil {
			bad("%v", err)
		}
	case "integer":
		n, ok := v.(json.Number)
		if !ok {
			bad("%T is no number", v)
		} else if _, err := n.Int64(); err != nil {
			bad("%v is no whole number", n)
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			bad("%T is no boolean", v)
		}
	}
	return wrong
}

// The validator can find what is wrong.
func TestValidate(t *testing.T) {
	doc := theDocument(t)
	door := object{"$ref": "#/components/schemas/Seen"}
	for _, tt := range []struct {
		name, json string
		wrong      int
	}{
		{"right", `{"address":"192.0.2.1","family":4}`, 0},
		{"a name is missing", `{"address":"192.0.2.1"}`, 1},
		{"a name too many", `{"address":"192.0.2.1","family":4,"x":1}`, 1},
		{"no address", `{"address":"x","family":4}`, 1},
		{"a string for a number", `{"address":"192.0.2.1","family":"4"}`, 1},
		{"null", `{"address":null,"family":4}`, 1},
		{"a list", `[]`, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := json.NewDecoder(strings.NewReader(tt.json))
			d.UseNumber()
			var v any
			if err := d.Decode(&v); err != nil {
				t.Fatal(err)
			}
			if got := validate(doc, door, v, ""); len(got) != tt.wrong {
				t.Errorf("got %q", got)
			}
		})
	}
}
