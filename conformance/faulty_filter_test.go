package conformance_test

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Filters and paths of RFC 7644, Section 3.4.2.2, as short as they can be and yet right.

// matcher reports whether a resource, or an element within a value filter, matches.
type matcher func(object) bool

// target is where an attribute path leads.
type target struct {
	ext  *schema // nil: core
	attr *attribute
	sub  *attribute
}

// resolve finds an attribute by its name, with or without URN and sub-attribute. within is the attribute around a
// value filter.
func (k *kind) resolve(name string, within *attribute) (target, bool) {
	var t target
	if within != nil {
		t.attr = find(within.subs, name)
		return t, t.attr != nil
	}
	lower := strings.ToLower(name)
	attrs := slices.Concat(k.core.attrs, k.common)
	switch {
	case strings.HasPrefix(lower, strings.ToLower(k.core.id)+":"):
		name = name[len(k.core.id)+1:]
	case strings.HasPrefix(lower, "urn:"):
		for _, e := range k.extensions {
			if strings.HasPrefix(lower, strings.ToLower(e.id)+":") {
				t.ext, attrs, name = e, e.attrs, name[len(e.id)+1:]
			}
		}
		if t.ext == nil {
			return t, false
		}
	}
	name, sub, dotted := strings.Cut(name, ".")
	if strings.EqualFold(name, "schemas") && !dotted {
		return target{attr: &attribute{name: "schemas", typ: "string", multi: true, exact: true}}, true
	}
	if t.attr = find(attrs, name); t.attr == nil {
		for _, e := range k.extensions { // as Entra writes manager
			if a := find(e.attrs, name); a != nil && t.ext == nil {
				t.ext, t.attr = e, a
			}
		}
	}
	if t.attr == nil {
		return t, false
	}
	if dotted {
		t.sub = find(t.attr.subs, sub)
		return t, t.sub != nil
	}
	return t, true
}

// values are what a target holds in a resource.
func (t target) values(o object) []any {
	if t.ext != nil {
		o, _ = o[t.ext.id].(object)
	}
	v, ok := o[t.attr.name]
	if !ok {
		return nil
	}
	all, isArray := v.([]any)
	if !isArray {
		all = []any{v}
	}
	if t.sub == nil {
		return all
	}
	var out []any
	for _, e := range all {
		if e, ok := e.(object); ok && e[t.sub.name] != nil {
			out = append(out, e[t.sub.name])
		}
	}
	return out
}

type filterParser struct {
	m      *model
	kinds  []*kind
	within *attribute
	rest   string
	turned bool // under the fault that lets or bind closer: within its operands
}

var errFilter = bad("invalidFilter", "The filter does not follow the grammar.")

// filter compiles a filter for resources of the kinds; an attribute must belong to one of them.
func (m *model) filter(text string, kinds []*kind) (func(*kind, object) bool, error) {
	compiled := map[*kind]matcher{}
	known := false
	for _, k := range kinds {
		p := &filterParser{m: m, kinds: []*kind{k}, rest: text}
		match, err := p.or()
		if err == nil && strings.TrimSpace(p.rest) != "" {
			err = errFilter
		}
		if err == errUnknownAttribute && len(kinds) > 1 && !m.is("the root refuses attributes of one type") {
			p = &filterParser{m: m, kinds: append([]*kind{k}, kinds...), rest: text}
			match, err = p.or()
		}
		if err != nil && (err != errUnknownAttribute || m.is("the root refuses attributes of one type")) {
			return nil, err
		}
		if known = known || err == nil; err == nil {
			compiled[k] = match
		}
	}
	if !known {
		return nil, errUnknownAttribute
	}
	return func(k *kind, o object) bool { return compiled[k] != nil && compiled[k](o) }, nil
}

var errUnknownAttribute = bad("invalidFilter", "The filter names an attribute that is not in the schema.")

func (p *filterParser) word(w string) bool {
	rest := strings.TrimLeft(p.rest, " ")
	if len(rest) >= len(w) && strings.EqualFold(rest[:len(w)], w) && (len(rest) == len(w) || strings.ContainsRune(" ()[]", rune(rest[len(w)])) || !letter(w[len(w)-1])) {
		p.rest = rest[len(w):]
		return true
	}
	return false
}

func letter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }

func (p *filterParser) or() (matcher, error) {
	if p.m.is("or binds closer than and") && !p.turned {
		p.turned = true
		left, err := p.or()
		for err == nil && p.word("and") {
			a, b := left, matcher(nil)
			b, err = p.or()
			left = func(o object) bool { return a(o) && b(o) }
		}
		p.turned = false
		return left, err
	}
	left, err := p.and()
	for err == nil && p.word("or") {
		a, b := left, matcher(nil)
		b, err = p.and()
		left = func(o object) bool { return a(o) || b(o) && !p.m.is("or takes the first side only") }
	}
	return left, err
}

func (p *filterParser) and() (matcher, error) {
	if p.turned {
		return p.term()
	}
	left, err := p.term()
	for err == nil && p.word("and") {
		a, b := left, matcher(nil)
		b, err = p.term()
		left = func(o object) bool { return a(o) && (b(o) || p.m.is("and takes the first side only")) }
	}
	return left, err
}

func (p *filterParser) term() (matcher, error) {
	if p.word("not") {
		if !strings.HasPrefix(strings.TrimLeft(p.rest, " "), "(") {
			return nil, errFilter
		}
		inner, err := p.term()
		return func(o object) bool { return inner(o) == p.m.is("not is ignored") }, err
	}
	if p.word("(") {
		turned := p.turned
		p.turned = false
		inner, err := p.or()
		p.turned = turned
		if err == nil && !p.word(")") {
			err = errFilter
		}
		return inner, err
	}
	return p.comparison()
}

func (p *filterParser) comparison() (matcher, error) {
	p.rest = strings.TrimLeft(p.rest, " ")
	end := strings.IndexAny(p.rest, " []()\"")
	if end <= 0 {
		return nil, errFilter
	}
	name := p.rest[:end]
	p.rest = p.rest[end:]
	t, ok := p.kinds[0].resolve(name, p.within)
	if p.m.is("URNs in filters are not understood") && strings.Contains(name, ":") {
		ok = false
	}
	unknown := !ok
	for _, k := range p.kinds[1:] {
		if !ok {
			t, ok = k.resolve(name, p.within)
		}
	}
	if !ok {
		return nil, errUnknownAttribute
	}
	if strings.HasPrefix(p.rest, "[") && p.within == nil {
		return p.valuePath(t)
	}
	if p.word("pr") {
		return func(o object) bool { return len(t.values(o)) > 0 || p.m.is("pr is always true") }, nil
	}
	ops := []string{"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"}
	i := slices.IndexFunc(ops, func(op string) bool {
		exact := strings.HasPrefix(strings.TrimLeft(p.rest, " "), op)
		return (exact || !p.m.is("operators are case-sensitive")) && p.word(op)
	})
	if i < 0 {
		if p.m.is("an unknown operator is taken for eq") {
			_, p.rest, _ = strings.Cut(strings.TrimLeft(p.rest, " "), " ")
			i = 0
		} else {
			return nil, errFilter
		}
	}
	want, err := p.literal()
	if err != nil {
		return nil, err
	}
	return p.compare(t, ops[i], want, unknown)
}

func (p *filterParser) literal() (any, error) {
	p.rest = strings.TrimLeft(p.rest, " ")
	if text, ok := strings.CutPrefix(p.rest, `"`); ok && p.m.is("escapes in filters are not read") {
		text, p.rest, _ = strings.Cut(text, `"`)
		return text, nil
	}
	dec := json.NewDecoder(strings.NewReader(p.rest))
	var want any
	if err := dec.Decode(&want); err != nil {
		if p.m.is("values without quotes are taken") && p.rest != "" {
			word, rest, _ := strings.Cut(p.rest, " ")
			p.rest = rest
			return word, nil
		}
		return nil, errFilter
	}
	p.rest = p.rest[dec.InputOffset():]
	return want, nil
}

func (p *filterParser) valuePath(t target) (matcher, error) {
	p.rest = p.rest[1:]
	p.within = t.attr
	inner, err := p.or()
	p.within = nil
	if err != nil || !p.word("]") {
		return nil, cmp.Or(err, error(errFilter))
	}
	if sub, ok := strings.CutPrefix(p.rest, "."); ok { // emails[type eq "work"].value eq "x", as Entra sends it
		if p.m.is("a value filter with a sub-attribute is refused") {
			return nil, errFilter
		}
		p.rest = sub
		p.within = t.attr
		last, err := p.comparison()
		p.within = nil
		if err != nil {
			return nil, err
		}
		first := inner
		inner = func(o object) bool { return first(o) && last(o) }
	}
	return func(o object) bool {
		if p.m.is("a value filter is about all values together") {
			merged := object{}
			for _, e := range t.values(o) {
				for name, v := range e.(object) {
					all, _ := merged[name].([]any)
					merged[name] = append(all, v)
				}
			}
			return inner(merged)
		}
		return slices.ContainsFunc(t.values(o), func(e any) bool { o, ok := e.(object); return ok && inner(o) })
	}, nil
}

func (p *filterParser) compare(t target, op string, want any, never bool) (matcher, error) {
	a := t.attr
	if t.sub != nil {
		a = t.sub
	} else if a.typ == "complex" { // members eq "x" and manager eq "x", as Entra asks
		v := find(a.subs, "value")
		if v == nil {
			if p.m.is("a complex attribute without sub-attribute matches nothing") {
				return func(object) bool { return false }, nil
			}
			return nil, errFilter
		}
		t.sub, a = v, v
		if p.m.is("members and manager without value match nothing") {
			never = true
		}
	}
	if (a.typ == "boolean" || a.typ == "binary") && strings.Contains("gt ge lt le", op) && !p.m.is("a Boolean has an order") {
		return nil, errFilter
	}
	if p.m.is("gt is ge") && op == "gt" {
		op = "ge"
	}
	if p.m.is("co, sw and ew are eq") && strings.Contains("co sw ew", op) {
		op = "eq"
	}
	if p.m.is("members cannot be filtered") && t.attr.name == "members" || p.m.is("schemas cannot be filtered") && t.attr.name == "schemas" {
		never = true
	}
	exact := a.exact != p.m.is("case is confused")
	return func(o object) bool {
		if a.name == "password" && p.m.is("a filter on the password is ignored") {
			return true
		}
		if never || a.name == "password" && !p.m.is("parts of passwords can be searched") && !(op == "eq" && p.m.is("passwords can be compared")) {
			return op == "ne"
		}
		values := t.values(o)
		if op == "ne" {
			return !slices.ContainsFunc(values, func(v any) bool { return compareValues(a, "eq", v, want, exact) })
		}
		if p.m.is("sub-attributes are not told apart") && t.attr.name == "name" {
			values = nil
			for _, v := range (target{ext: t.ext, attr: t.attr}).values(o) {
				for _, s := range v.(object) {
					values = append(values, s)
				}
			}
		}
		if p.m.is("only the first value is looked at") && len(values) > 1 {
			values = values[:1]
		}
		return slices.ContainsFunc(values, func(v any) bool { return compareValues(a, op, v, want, exact) })
	}, nil
}

func compareValues(a *attribute, op string, v, want any, exact bool) bool {
	if b, ok := v.(bool); ok {
		return op == "eq" && b == want
	}
	x, ok1 := v.(string)
	y, ok2 := want.(string)
	if !ok1 || !ok2 {
		return false
	}
	order := 0
	if a.typ == "dateTime" {
		s, err1 := time.Parse(time.RFC3339, x)
		e, err2 := time.Parse(time.RFC3339, y)
		if err1 != nil || err2 != nil {
			return false
		}
		order = s.Compare(e)
	} else {
		if !exact {
			x, y = strings.ToLower(x), strings.ToLower(y)
		}
		order = strings.Compare(x, y)
	}
	switch op {
	case "eq":
		return order == 0
	case "co":
		return strings.Contains(x, y)
	case "sw":
		return strings.HasPrefix(x, y)
	case "ew":
		return strings.HasSuffix(x, y)
	case "gt":
		return order > 0
	case "ge":
		return order >= 0
	case "lt":
		return order < 0
	}
	return order <= 0
}
