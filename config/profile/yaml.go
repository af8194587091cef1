package profile

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a YAML file. The YAML parser recurses without limit and compares every key of a mapping with every
// other, so depth and number of tokens are bounded before it runs; both bounds are far above any file people write.
const (
	MaxFile   = 256 << 10 // bytes
	maxTokens = 20_000
	maxDepth  = 24
	maxText   = 1024 // bytes of one text
)

// Value is one value of a YAML file, strictly read: a value of the wrong type is a Problem, not a conversion.
// Its methods add what they find to the file's Problems and go on with a zero value, so that one reading finds
// every mistake.
type Value struct {
	doc  *document
	node ast.Node // nil: an empty file
	name string   // the key it stands under, for messages; "" at the top
}

type document struct {
	file     string
	problems *Problems
}

// Fields says what a mapping may hold: for each key the function that reads its value.
type Fields map[string]func(Value)

// Read reads src as one YAML document and adds what is wrong with it to problems, with file as the file's name.
// It refuses anchors, aliases, tags and directives: a value stands where it is used. ok is false when there is
// no value to go on with.
func Read(file string, src []byte, problems *Problems) (v Value, ok bool) {
	doc := &document{file, problems}
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	if !doc.checkText(src) {
		return Value{}, false
	}
	tokens := lexer.Tokenize(string(src))
	if !doc.checkTokens(tokens) {
		return Value{}, false
	}
	body, err := parse(tokens)
	if err != nil {
		line, column := 1, 1
		message := err.Error()
		if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			// The error's own text quotes the source, which may hold a secret; Message does not.
			message = syntax.Message
			if syntax.Token != nil && syntax.Token.Position != nil {
				line, column = max(1, syntax.Token.Position.Line), max(1, syntax.Token.Position.Column)
			}
		}
		doc.add(line, column, "not valid YAML: "+message)
		return Value{}, false
	}
	return Value{doc: doc, node: body}, true
}

// parse returns the body of the only document. A panic of the parser is an error: it is handed what people typed.
func parse(tokens token.Tokens) (body ast.Node, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the YAML parser gave up on it")
		}
	}()
	// Duplicate keys are allowed here because Fields reports them, all of them and not only the first.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, err
	}
	for i, d := range file.Docs {
		if i > 0 && d.Body != nil {
			return nil, &yaml.SyntaxError{Message: "a second document begins here; one file holds one", Token: d.Body.GetToken()}
		}
	}
	if len(file.Docs) == 0 {
		return nil, nil
	}
	return file.Docs[0].Body, nil
}

func (d *document) add(line, column int, message string) {
	*d.problems = append(*d.problems, Problem{d.file, line, column, message})
}

// checkText reports whether src is a text that YAML allows: bounded, UTF-8, without control characters.
func (d *document) checkText(src []byte) bool {
	if len(src) > MaxFile {
		d.add(0, 0, fmt.Sprintf("larger than %d KiB: is it the right file?", MaxFile>>10))
		return false
	}
	line, column := 1, 1
	for len(src) > 0 {
		r, size := utf8.DecodeRune(src)
		switch {
		case r == utf8.RuneError && size == 1:
			d.add(line, column, "not UTF-8: save the file as UTF-8")
			return false
		case r == '\n':
			line, column = line+1, 0
		case unicode.IsControl(r) && r != '\t' && r != '\r':
			d.add(line, column, fmt.Sprintf("control character %U: take it out", r))
			return false
		}
		src = src[size:]
		column++
	}
	return true
}

// checkTokens reports whether the parser may see tokens.
func (d *document) checkTokens(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		d.add(0, 0, fmt.Sprintf("more than %d keys, values and signs: split it or make it smaller", maxTokens))
		return false
	}
	ok := true
	flow := 0       // open brackets
	var block []int // columns of the open block mappings and sequences
	for _, t := range tokens {
		at := t.Position.Column
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			d.add(t.Position.Line, at, "anchors, aliases and merge keys are not read here: write the value out, or put quotes around the text")
			ok = false
		case token.TagType:
			d.add(t.Position.Line, at, "tags are not read here: leave it out, or put quotes around the text")
			ok = false
		case token.DirectiveType:
			d.add(t.Position.Line, at, "directives are not read here: leave it out, or put quotes around the text")
			ok = false
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow = max(0, flow-1)
		case token.MappingValueType:
			if t.Prev != nil && t.Prev.Position.Line == t.Position.Line {
				at = t.Prev.Position.Column // a block mapping begins where its key does
			}
			block = nest(block, flow, at)
		case token.SequenceEntryType, token.MappingKeyType:
			block = nest(block, flow, at)
		}
		if flow+len(block) > maxDepth {
			d.add(t.Position.Line, t.Position.Column, fmt.Sprintf("nested deeper than %d", maxDepth))
			return false
		}
	}
	return ok
}

// nest returns the columns of the open blocks after a sign that opens or continues the block at column.
func nest(block []int, flow, column int) []int {
	if flow > 0 {
		return block
	}
	for len(block) > 0 && block[len(block)-1] > column {
		block = block[:len(block)-1]
	}
	if len(block) == 0 || block[len(block)-1] < column {
		block = append(block, column)
	}
	return block
}

// Position returns where v stands.
func (v Value) Position() (line, column int) {
	return position(v.node)
}

func position(n ast.Node) (line, column int) {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return position(m.Values[0].Key) // the node's own token is the first colon
	}
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1, 1
	}
	p := n.GetToken().Position
	return max(1, p.Line), max(1, p.Column)
}

// File returns the name of the file v stands in.
func (v Value) File() string { return v.doc.file }

// Problemf adds a Problem at v's position. The message begins with the key v stands under.
func (v Value) Problemf(format string, args ...any) {
	line, column := v.Position()
	v.problemAt(line, column, format, args...)
}

func (v Value) problemAt(line, column int, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if v.name != "" {
		message = v.name + ": " + message
	}
	v.doc.add(line, column, message)
}

// Fields reads a mapping: for every key of the file, in its order, the function known has for it. Unknown and
// duplicate keys are Problems, and so are the required ones that are missing.
func (v Value) Fields(known Fields, required ...string) {
	seen := map[string]bool{}
	entries, ok := v.entries()
	if !ok {
		return // the wrong type hides what else is missing
	}
	for _, entry := range entries {
		line, column := position(entry.Key)
		name, ok := entry.Key.(*ast.StringNode)
		if !ok {
			v.problemAt(line, column, "want a key that is plain text; known here: %s", keys(known))
			continue
		}
		key := name.Value
		read := known[key]
		switch {
		case read == nil:
			v.problemAt(line, column, "unknown key %s; known here: %s", Quote(key), keys(known))
		case seen[key]:
			v.problemAt(line, column, "the key %s stands here twice", Quote(key))
		default:
			seen[key] = true
			if value := (Value{v.doc, entry.Value, key}); entry.Value.Type() == ast.NullType {
				value.Problemf("has no value: give one or take the key out")
			} else {
				read(value)
			}
		}
	}
	for _, key := range required {
		if !seen[key] {
			v.Problemf("%s is missing", key)
		}
	}
}

func (v Value) entries() ([]*ast.MappingValueNode, bool) {
	switch n := v.node.(type) {
	case nil:
		return nil, true
	case *ast.MappingNode:
		return n.Values, true
	}
	v.wrong("a mapping of keys to values")
	return nil, false
}

func keys(known Fields) string { return strings.Join(slices.Sorted(maps.Keys(known)), ", ") }

// List returns the entries of a sequence that has from low to high of them.
func (v Value) List(low, high int) []Value {
	n, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.wrong("a list")
		return nil
	}
	if len(n.Values) < low || len(n.Values) > high {
		v.Problemf("want %d to %d entries, got %d", low, high, len(n.Values))
		return nil
	}
	list := make([]Value, 0, len(n.Values))
	for _, entry := range n.Values {
		value := Value{v.doc, entry, v.name}
		if entry.Type() == ast.NullType {
			value.Problemf("this entry has no value: give one or take it out")
			continue
		}
		list = append(list, value)
	}
	return list
}

// lookup returns the text under key in the mapping v, "" when there is none. It adds no Problem: Fields does.
func (v Value) lookup(key string) string {
	if !v.IsMapping() {
		return ""
	}
	entries, _ := v.entries()
	for _, entry := range entries {
		if name, ok := entry.Key.(*ast.StringNode); ok && name.Value == key {
			text, _ := Value{v.doc, entry.Value, key}.text()
			return text
		}
	}
	return ""
}

// IsText reports whether v is text.
func (v Value) IsText() bool {
	_, ok := v.text()
	return ok
}

// IsMapping reports whether v is a mapping, as the top of an empty file is.
func (v Value) IsMapping() bool {
	switch v.node.(type) {
	case nil, *ast.MappingNode:
		return true
	}
	return false
}

// Text returns a text of one line that is not empty.
func (v Value) Text() string {
	text, ok := v.text()
	switch {
	case !ok:
		v.wrong("text")
	case text == "":
		v.Problemf("is empty: give a value or take the key out")
	case len(text) > maxText:
		v.Problemf("longer than %d bytes", maxText)
	case strings.ContainsFunc(text, unicode.IsControl):
		v.Problemf("want one line without control characters")
	default:
		return text
	}
	return ""
}

func (v Value) text() (string, bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimSuffix(n.Value.Value, "\n"), true
	}
	return "", false
}

// OneOf returns the text if it is one of words, else "". An empty text is accepted where words has "".
func (v Value) OneOf(words ...string) string {
	text, ok := v.text()
	if ok && slices.Contains(words, text) {
		return text
	}
	want := strings.Join(slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "" }), ", ")
	if !ok {
		v.wrong("one of " + want)
	} else {
		v.Problemf("want one of %s, got %s", want, Quote(text))
	}
	return ""
}

// Bool returns true or false.
func (v Value) Bool() bool {
	n, ok := v.node.(*ast.BoolNode)
	if !ok {
		v.wrong("true or false")
		return false
	}
	return n.Value
}

// Int returns a whole number in decimal from low to high.
func (v Value) Int(low, high int) int {
	if n, ok := v.node.(*ast.IntegerNode); ok {
		i, err := strconv.Atoi(n.Token.Value)
		if err == nil && low <= i && i <= high {
			return i
		}
		v.Problemf("want a whole number from %d to %d, got %s", low, high, Quote(n.Token.Value))
		return low
	}
	v.wrong(fmt.Sprintf("a whole number from %d to %d", low, high))
	return low
}

// Number returns a decimal number from low to high.
func (v Value) Number(low, high float64) float64 {
	switch v.node.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		text := v.node.GetToken().Value
		f, err := strconv.ParseFloat(text, 64)
		if err == nil && low <= f && f <= high {
			return f
		}
		v.Problemf("want a number from %v to %v, got %s", low, high, Quote(text))
	default:
		v.wrong(fmt.Sprintf("a number from %v to %v", low, high))
	}
	return low
}

// wrong adds the Problem that v is of another type than want. It does not show the value.
func (v Value) wrong(want string) {
	var got string
	switch v.node.(type) {
	case *ast.MappingNode:
		got = "a mapping"
	case *ast.SequenceNode:
		got = "a list"
	case *ast.StringNode, *ast.LiteralNode:
		got = "text"
	case *ast.BoolNode:
		got = "true or false"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		got = "a number"
	default:
		got = "nothing"
	}
	if want == "text" && (got == "a number" || got == "true or false") {
		got += "; put quotes around it"
	}
	v.Problemf("want %s, got %s", want, got)
}

// Quote returns text in quotes for a message, shortened to 40 characters.
func Quote(text string) string {
	if r := []rune(text); len(r) > 40 {
		return strconv.Quote(string(r[:40])) + "..."
	}
	return strconv.Quote(text)
}
