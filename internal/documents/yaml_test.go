package documents

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"sekisho/internal/config"
)

// keys are the keys of the first level of sekisho.yaml.
func keys(t *testing.T) map[string]bool {
	t.Helper()
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for k := range schema.Properties {
		all[k] = true
	}
	return all
}

// sections are a file's parts, by their keys of the first level, in their order.
type sections struct {
	names []string
	text  map[string]string
}

var keyPattern = regexp.MustCompile(`^([a-zA-Z_][\w-]*):`)

func split(lines []string) sections {
	s := sections{text: map[string]string{}}
	name := ""
	for _, line := range lines {
		if m := keyPattern.FindStringSubmatch(line); m != nil {
			name = m[1]
			s.names = append(s.names, name)
		}
		if name != "" {
			s.text[name] += line + "\n"
		}
	}
	return s
}

// with is s, with the sections of other in place of its own.
func (s sections) with(other sections) sections {
	merged := sections{text: map[string]string{}}
	for _, from := range []sections{s, other} {
		for _, name := range from.names {
			if _, there := merged.text[name]; !there {
				merged.names = append(merged.names, name)
			}
			merged.text[name] = from.text[name]
		}
	}
	return merged
}

func (s sections) String() string {
	var b strings.Builder
	for _, name := range s.names {
		b.WriteString(s.text[name])
	}
	return b.String()
}

// ours reports whether a block is of sekisho.yaml, and whether it is a whole file.
func (s sections) ours(keys map[string]bool) (ours, whole bool) {
	for _, name := range s.names {
		ours = ours || keys[name]
	}
	return ours, s.text["version"] != ""
}

const exampleKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVjGpp3gV1U+iXvTJG70wUsRAyOd/ZzOQXik699GRZk"

// concrete is a text with values in place of what it leaves out.
func concrete(text, key string) string {
	return regexp.MustCompile(`ssh-ed25519 AAAA\.\.\.`).ReplaceAllString(text, key)
}

// surroundings are what parts of a file may be about without naming it.
const surroundings = `version: 1
people:
  hanako: {groups: [ops, leads, admins], login: hanako@example.com}
  ichiro: {groups: [ops]}
  taro: {groups: [dev, contractors], login: taro@example.com}
targets:
  web-prod: {aws: {region: ap-northeast-1, group: sg-0123456789abcdef0}, host: web.example.com, allow: [ops]}
gate: {url: "https://gate.example.com"}
`

// TestYAML: every block of sekisho.yaml is what the program takes, and every block of JSON is JSON.
func TestYAML(t *testing.T) {
	keys := keys(t)
	checked := 0
	for _, p := range paths(t) {
		d := read(t, p)
		whole := sections{}
		for _, b := range d.blocks {
			switch b.info {
			case "json":
				if !json.Valid([]byte(strings.Join(b.lines, "\n"))) {
					t.Errorf("%s:%d: not JSON", p, b.line)
				}
			case "yaml":
				s := split(b.lines)
				ours, all := s.ours(keys)
				if !ours {
					continue
				}
				checked++
				if all {
					whole = s
					if err := accepts(s); err != nil {
						t.Errorf("%s:%d: %v", p, b.line, err)
					}
					continue
				}
				// By itself; as a part of the file that the document has so far; or of one that names
				// everybody.
				around := split(strings.Split(surroundings, "\n"))
				alone := accepts(split([]string{"version: 1"}).with(s))
				if alone != nil && accepts(whole.with(s)) != nil && accepts(around.with(s)) != nil && accepts(around.with(whole).with(s)) != nil {
					t.Errorf("%s:%d: a part of sekisho.yaml, which is not taken, nor with what the document has above: %v", p, b.line, alone)
				}
				whole = whole.with(s)
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d blocks were looked at", checked)
	}
}

func accepts(s sections) error {
	_, err := config.Parse("sekisho.yaml", []byte(concrete(s.String(), exampleKey)))
	return err
}
