package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// jsonPath is what FORMAT.md calls a path: a small part of JSONPath (RFC 9535), with names in any case.
type jsonPath []selector

type selector struct {
	kind  selectorKind
	name  string   // member, descendant
	index int      // element; negative from the end
	names []string // filter: the dotted member that is looked at
	value any      // filter: what it is compared with
	not   bool     // filter: !=
}

type selectorKind int

const (
	member selectorKind = iota
	element
	every
	filter
	descendant
)

// cutPath reads a path at the start of text and returns what comes after it.
func cutPath(text string) (path jsonPath, rest string, err error) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return nil, "", fmt.Errorf("a path starts with $, got %q", text)
	}
	for rest != "" && rest[0] != ' ' && rest[0] != '\t' {
		var s selector
		switch {
		case strings.HasPrefix(rest, ".."):
			s.kind = descendant
			s.name, rest, err = cutName(rest[2:])
		case rest[0] == '.':
			s.name, rest, err = cutName(rest[1:])
		case rest[0] == '[':
			s, rest, err = cutBrackets(rest[1:])
		default:
			err = fmt.Errorf("after a path comes a blank, got %q", rest)
		}
		if err != nil {
			return nil, "", err
		}
		path = append(path, s)
	}
	return path, strings.TrimLeft(rest, " \t"), nil
}

func cutName(text string) (name, rest string, err error) {
	end := strings.IndexFunc(text, func(r rune) bool { return !nameRune(r) && r != '$' })
	if end < 0 {
		end = len(text)
	}
	if end == 0 {
		return "", "", fmt.Errorf("want a name after the dot, got %q", text)
	}
	return text[:end], text[end:], nil
}

// nameRune reports whether a name of a member or variable may have r.
func nameRune(r rune) bool {
	return r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// cutBrackets reads a selector whose opening bracket has been read.
func cutBrackets(text string) (s selector, rest string, err error) {
	switch {
	case strings.HasPrefix(text, "*"):
		s.kind, rest = every, text[1:]
	case strings.HasPrefix(text, `"`):
		var v any
		if v, rest, err = cutJSON(text); err == nil {
			s.name, _ = v.(string)
		}
	case strings.HasPrefix(text, "?"):
		s, rest, err = cutFilter(text[1:])
	default:
		s.kind = element
		number, _, _ := strings.Cut(text, "]")
		if s.index, err = strconv.Atoi(number); err != nil {
			return s, "", fmt.Errorf(`in brackets stands a number, *, "name" or ?name==value, got %q`, number)
		}
		rest = text[len(number):]
	}
	if err != nil {
		return s, "", err
	}
	rest, ok := strings.CutPrefix(rest, "]")
	if !ok {
		return s, "", fmt.Errorf("the bracket before %q is not closed", rest)
	}
	return s, rest, nil
}

func cutFilter(text string) (s selector, rest string, err error) {
	s.kind = filter
	for {
		var name string
		if name, text, err = cutName(text); err != nil {
			return s, "", err
		}
		s.names = append(s.names, name)
		if !strings.HasPrefix(text, ".") {
			break
		}
		text = text[1:]
	}
	text = strings.TrimLeft(text, " ")
	switch {
	case strings.HasPrefix(text, "=="):
	case strings.HasPrefix(text, "!="):
		s.not = true
	default:
		return s, "", fmt.Errorf("a filter is name==value or name!=value, got %q", text)
	}
	s.value, rest, err = cutJSON(strings.TrimLeft(text[2:], " "))
	return s, strings.TrimLeft(rest, " "), err
}

// cutJSON reads a JSON value at the start of text.
func cutJSON(text string) (v any, rest string, err error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, "", fmt.Errorf("%.60q does not start with a JSON value", text)
	}
	return v, text[dec.InputOffset():], nil
}

// parseJSON reads text that is one JSON value and nothing else.
func parseJSON(text string) (any, error) {
	v, rest, err := cutJSON(text)
	if err == nil && strings.TrimSpace(rest) != "" {
		err = errors.New("more than one JSON value")
	}
	return v, err
}

// definite says that the path selects one value at most.
func (p jsonPath) definite() bool {
	return !slices.ContainsFunc(p, func(s selector) bool { return s.kind == every || s.kind == filter || s.kind == descendant })
}

// of returns what the path selects of a body.
func (p jsonPath) of(root any) []any {
	selected := []any{root}
	for _, s := range p {
		var next []any
		for _, v := range selected {
			next = s.of(v, next)
		}
		selected = next
	}
	return selected
}

// of appends to found what s selects of v.
func (s *selector) of(v any, found []any) []any {
	switch s.kind {
	case member:
		if m, ok := find(v, s.name); ok {
			found = append(found, m)
		}
	case element:
		list, _ := v.([]any)
		i := s.index
		if i < 0 {
			i += len(list)
		}
		if i >= 0 && i < len(list) {
			found = append(found, list[i])
		}
	case every:
		found = append(found, children(v)...)
	case filter:
		list, _ := v.([]any)
		for _, e := range list {
			if s.holds(e) {
				found = append(found, e)
			}
		}
	case descendant:
		if m, ok := find(v, s.name); ok {
			found = append(found, m)
		}
		for _, c := range children(v) {
			found = s.of(c, found)
		}
	}
	return found
}

func (s *selector) holds(v any) bool {
	for _, name := range s.names {
		m, ok := find(v, name)
		if !ok {
			return s.not
		}
		v = m
	}
	return equal(v, s.value) != s.not
}

// find returns the member of an object by its name; attribute names are case insensitive (RFC 7643, Section 2.1).
func find(v any, name string) (any, bool) {
	object, _ := v.(map[string]any)
	if m, ok := object[name]; ok {
		return m, true
	}
	for n, m := range object {
		if strings.EqualFold(n, name) {
			return m, true
		}
	}
	return nil, false
}

// children are the elements of an array, or the members of an object in the order of their names.
func children(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case map[string]any:
		list := make([]any, 0, len(v))
		for _, name := range sortedKeys(v) {
			list = append(list, v[name])
		}
		return list
	}
	return nil
}

// equal compares two JSON values: numbers as numbers, objects without regard to order.
func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		n, ok := b.(json.Number)
		return ok && (a == n || compareNumbers(a, n) == 0)
	case []any:
		list, ok := b.([]any)
		return ok && slices.EqualFunc(a, list, equal)
	case map[string]any:
		object, ok := b.(map[string]any)
		return ok && len(a) == len(object) && hasMembers(a, object, equal)
	}
	return a == b
}

// covers reports whether v is wanted, or an object that has at least the members of wanted.
func covers(v, wanted any) bool {
	members, ok := wanted.(map[string]any)
	if !ok {
		return equal(v, wanted)
	}
	object, ok := v.(map[string]any)
	return ok && hasMembers(object, members, covers)
}

func hasMembers(object, wanted map[string]any, same func(v, wanted any) bool) bool {
	for name, w := range wanted {
		if v, ok := find(object, name); !ok || !same(v, w) {
			return false
		}
	}
	return true
}

// with returns the path with the variables in its texts filled in.
func (p jsonPath) with(v variables) (jsonPath, error) {
	filled := slices.Clone(p)
	for i := range filled {
		s := &filled[i]
		var err error
		if s.name, err = v.expand(s.name, asText); err != nil {
			return nil, err
		}
		if text, ok := s.value.(string); ok {
			if s.value, err = v.expand(text, asText); err != nil {
				return nil, err
			}
		}
	}
	return filled, nil
}
