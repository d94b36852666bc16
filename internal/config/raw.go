package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"sekisho/internal/printable"
)

// The raw half: YAML text → nodes with their places. Only plain YAML is taken:
// one document of mappings, lists and scalars. What makes YAML surprising
// (anchors, aliases, merge keys, tags, directives) is refused by name.

// Bounds of a file. The YAML parser needs time and memory that grow with the
// square of depth and of the number of keys on one level, so it never sees more than
// this. 25,000 keys hold a thousand people and a thousand targets with all of theirs,
// which takes goccy/go-yaml v1.19.2 0.2 s; all of them on one level would take it 1.4 s
// and 2.5 GB of garbage.
const (
	maxSize   = 1 << 20
	maxDepth  = 16     // brackets within brackets; dashes on one line
	maxIndent = 200    // columns
	maxKeys   = 25_000 // in the whole file
	maxLevel  = 5000   // in one column, under one key
)

// place is a position in the file, both 1-based, columns in characters.
type place struct{ line, column int }

type nodeKind uint8

const (
	absent nodeKind = iota // null, or nothing after the colon
	scalar
	list
	mapping
)

// node is one value of the file.
type node struct {
	place
	kind    nodeKind
	text    string  // scalar: as it reads, quotes and escapes resolved
	quoted  bool    // scalar: text for certain, whatever it looks like
	items   []*node // list
	entries []entry // mapping, in the file's order, duplicates kept
}

type entry struct{ key, value *node }

// what names a node's kind for people.
func (n *node) what() string {
	switch n.kind {
	case scalar:
		return quote(n.text)
	case list:
		return "a list"
	case mapping:
		return "a mapping"
	}
	return "nothing"
}

// plain brings src to the one form that places are counted in: no byte order
// mark, lines ended by a line feed alone.
func plain(src []byte) []byte {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	return bytes.ReplaceAll(src, []byte("\r\n"), []byte("\n"))
}

// readRaw reads src, which is plain: a whole file. It returns nil if there are mistakes.
func readRaw(m *mistakes, src []byte) *node {
	root := readNode(m, src)
	if len(m.found) == 0 && (root == nil || root.kind == absent) {
		m.add(place{1, 1}, "write `version: 1`; every other key has a default", "the file says nothing")
		return nil
	}
	return root
}

// readNode reads src, which is plain. It returns nil if there are mistakes, and may where
// src says nothing.
func readNode(m *mistakes, src []byte) *node {
	if len(src) > maxSize {
		m.add(place{}, "a configuration has a few kilobytes; is this the right file?", "is larger than %d bytes", maxSize)
		return nil
	}
	if checkText(m, src); len(m.found) > 0 {
		return nil
	}
	tokens := mendColons(lexer.Tokenize(string(src)))
	if checkTokens(m, tokens); len(m.found) > 0 {
		return nil
	}
	file, err := parse(tokens)
	if err != nil {
		m.syntax(err)
		return nil
	}
	var root *node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			root = m.convert(doc.Body)
		}
	}
	if len(m.found) > 0 {
		return nil
	}
	return root
}

// checkText finds what no YAML file may hold, so that what follows works on
// printable UTF-8.
func checkText(m *mistakes, src []byte) {
	for i, line := range bytes.Split(src, []byte("\n")) {
		checkLine(m, i+1, line)
		if len(m.found) > maxErrors {
			return
		}
	}
}

func checkLine(m *mistakes, number int, line []byte) {
	indent := len(line) - len(bytes.TrimLeft(line, " "))
	switch {
	case indent > maxIndent:
		m.add(place{number, indent + 1}, "indent with two spaces a level", "is indented too deep")
		return
	case indent < len(line) && line[indent] == '\t' && len(bytes.TrimSpace(line)) > 0:
		m.add(place{number, indent + 1}, "indent with spaces", "a tab in the indentation")
		return
	}
	for column := 1; len(line) > 0; column++ {
		r, n := utf8.DecodeRune(line)
		switch {
		case r == utf8.RuneError && n == 1:
			m.add(place{number, column}, "save the file as UTF-8", "is not UTF-8: byte 0x%02x", line[0])
			return
		case r == 0:
			m.add(place{number, column}, "is this a text file? Save it as UTF-8", "a NUL byte")
			return
		case r < ' ' && r != '\t', r >= 0x7f && r < 0xa0:
			m.add(place{number, column}, "delete it", "a control character, U+%04X", r)
			return
		}
		line = line[n:]
	}
}

// checkTokens refuses, before the parser is asked, what we do not take, and what
// would cost it too much.
func checkTokens(m *mistakes, tokens token.Tokens) {
	var line, dashes, depth, keys int
	var levels levels
	var before *token.Token
	begun := false // content or a document header was seen
	for _, t := range tokens {
		at := placeOf(t)
		if at.line != line {
			line, dashes = at.line, 0
		}
		refuse := func(what, hint string) { m.add(at, hint, "%s", what) }
		switch t.Type {
		case token.AnchorType:
			refuse("an anchor (&) is not taken here", "write the value out; a text that begins with & needs quotes")
		case token.AliasType:
			refuse("an alias (*) is not taken here", "write the value out; a text that begins with * needs quotes")
		case token.MergeKeyType:
			refuse("a merge key (<<) is not taken here", "write the keys out")
		case token.TagType:
			refuse("a tag (!) is not taken here", "leave it out; a text that begins with ! needs quotes")
		case token.DirectiveType:
			refuse("a directive (%) is not taken here", "leave it out")
		case token.MappingKeyType:
			refuse("a complex key (?) is not taken here", "write `key: value`")
		case token.DocumentHeaderType:
			if begun {
				refuse("a second document", "keep everything in one document; leave out this ---")
				return
			}
		case token.MappingStartType, token.SequenceStartType:
			if depth++; depth > maxDepth {
				refuse("is nested too deep", "")
				return
			}
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.SequenceEntryType:
			if dashes++; dashes > maxDepth {
				refuse("is nested too deep", "")
				return
			}
		case token.MappingValueType:
			keys++
			if before != nil && levels.add(placeOf(before).column) > maxLevel || keys > maxKeys {
				refuse("has too many keys", "is this the right file?")
				return
			}
		}
		before = t
		begun = begun || t.Type != token.CommentType
		if len(m.found) > maxErrors {
			return
		}
	}
}

// levels counts keys by the column that they begin in: the innermost is the last.
type levels []struct{ column, keys int }

// add counts a key, and returns how many there are on its level.
func (l *levels) add(column int) int {
	for n := len(*l); n > 0 && (*l)[n-1].column > column; n-- {
		*l = (*l)[:n-1]
	}
	if n := len(*l); n == 0 || (*l)[n-1].column < column {
		*l = append(*l, struct{ column, keys int }{column: column})
	}
	last := &(*l)[len(*l)-1]
	last.keys++
	return last.keys
}

// mendColons puts scalars together that the lexer cut: inside braces it takes
// every colon for the end of a key (goccy/go-yaml v1.19.2, also with no space
// after it), which would make a mapping of 2001:db8::/32. In YAML a colon ends a
// plain key only before a space.
func mendColons(tokens token.Tokens) token.Tokens {
	var res token.Tokens
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		if t.Type == token.MappingValueType && i+1 < len(tokens) && isPlain(tokens[i+1]) && adjoins(t, tokens[i+1]) {
			value, at := t.Value+tokens[i+1].Value, t.Position
			if n := len(res); n > 0 && adjoins(res[n-1], t) {
				if last := res[n-1]; isPlain(last) {
					value, at, res = last.Value+value, last.Position, res[:n-1]
				} else if last.Indicator == token.QuotedScalarIndicator { // {"key":value}
					res.Add(t)
					continue
				}
			}
			i++
			t = token.New(value, value, at)
		}
		res.Add(t)
	}
	return res
}

// isPlain reports whether t is a scalar without quotes.
func isPlain(t *token.Token) bool {
	return t.CharacterType == token.CharacterTypeMiscellaneous && t.Indicator == token.NotIndicator && t.Type != token.CommentType
}

// adjoins reports whether b begins where a ends.
func adjoins(a, b *token.Token) bool {
	end := a.Position.Column + utf8.RuneCountInString(a.Value)
	if a.Indicator == token.QuotedScalarIndicator { // its value is not as long as it is written
		return a.Position.Line == b.Position.Line
	}
	return a.Position.Line == b.Position.Line && end == b.Position.Column
}

// parse runs the YAML parser. It is made for trusted input: a panic of its own
// must be an error of the file, not our end.
func parse(tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			file, err = nil, fmt.Errorf("is no YAML that can be read (%v)", r)
		}
	}()
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// syntax notes the parser's complaint.
func (m *mistakes) syntax(err error) {
	const hint = "look for a missing quote, bracket, colon or space at this place or just before it"
	var positioned interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &positioned) && positioned.GetToken() != nil {
		m.add(placeOf(positioned.GetToken()), hint, "is not valid YAML: %s", complaint(positioned.GetMessage()))
		return
	}
	m.add(place{1, 1}, hint, "is not valid YAML: %s", complaint(err.Error()))
}

// complaint is the parser's message without what it quotes of the file: a secret may be there.
func complaint(message string) string {
	message, _, _ = strings.Cut(message, "\n")
	message, _, _ = strings.Cut(message, `"`)
	return printable.Text(strings.TrimRight(message, ": "))
}

// convert turns the parser's tree into nodes.
func (m *mistakes) convert(n ast.Node) *node {
	at := placeOf(n.GetToken())
	text := func(s string, quoted bool) *node { return &node{place: at, kind: scalar, text: s, quoted: quoted} }
	switch n := n.(type) {
	case *ast.NullNode:
		return &node{place: at}
	case *ast.StringNode:
		return text(n.Value, n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType)
	case *ast.LiteralNode:
		return text(n.Value.Value, true)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return text(n.GetToken().Value, false)
	case *ast.SequenceNode:
		res := &node{place: at, kind: list}
		for _, item := range n.Values {
			res.items = append(res.items, m.convert(item))
		}
		return res
	case *ast.MappingNode:
		return m.convertMapping(at, n.Values)
	case *ast.MappingValueNode:
		return m.convertMapping(at, []*ast.MappingValueNode{n})
	}
	m.add(at, "write plain mappings, lists and values", "is YAML of a kind that is not taken here")
	return &node{place: at}
}

func (m *mistakes) convertMapping(at place, values []*ast.MappingValueNode) *node {
	res := &node{place: at, kind: mapping}
	for _, v := range values {
		res.entries = append(res.entries, entry{key: m.convert(v.Key), value: m.convert(v.Value)})
	}
	if len(res.entries) > 0 {
		res.place = res.entries[0].key.place // the parser gives that of the first colon
	}
	return res
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{max(1, t.Position.Line), max(1, t.Position.Column)}
}
