package scim

import (
	"strings"

	filter "github.com/scim2/filter-parser/v2"
)

// Path is the path of a PATCH operation: an attribute path, or a value path with an optional sub-attribute behind
// it (RFC 7644, Figure 7).
type Path = filter.Path

// ParsePath reads the path of a PATCH operation. Value filters are read as [ParseFilter] does.
// The error is an *Error, 400 invalidPath, that names the character and quotes nothing.
func ParsePath(s string) (*Path, error) {
	p := parser{s: s, what: "path", scimType: InvalidPath}
	if err := p.begin(); err != nil {
		return nil, err
	}
	attribute, err := p.attributePath()
	if err != nil {
		return nil, err
	}
	path := &Path{AttributePath: attribute}
	if p.skip(); p.at('[') {
		if path.ValueExpression, err = p.valueFilter(); err != nil {
			return nil, err
		}
		if p.at('.') {
			p.pos++
			sub, err := p.name()
			if err != nil {
				return nil, err
			}
			path.SubAttribute = &sub
		}
	}
	if p.skip(); p.pos < len(s) {
		return nil, p.fail("expected the end of the path")
	}
	return path, nil
}

// ParseAttributePath reads an attribute path (RFC 7644, Section 3.10), as in attributes and sortBy. The error is
// an *Error, 400 invalidPath, that names the character.
func ParseAttributePath(s string) (AttributePath, error) {
	p := parser{s: s, what: "attribute path", scimType: InvalidPath}
	if err := p.begin(); err != nil {
		return AttributePath{}, err
	}
	path, err := p.attributePath()
	if err != nil {
		return AttributePath{}, err
	}
	if p.skip(); p.pos < len(s) {
		return AttributePath{}, p.fail("expected the end of the attribute path")
	}
	return path, nil
}

// attributePath reads [URN ":"] name ["." name]. The URN ends at the last colon, because it may hold dots.
func (p *parser) attributePath() (AttributePath, error) {
	var path AttributePath
	start, end, colon := p.pos, p.pos, -1
	for ; end < len(p.s) && isURNByte(p.s[end]); end++ {
		if p.s[end] == ':' {
			colon = end
		}
	}
	if colon == start {
		return path, p.fail("expected a schema URN before the colon")
	}
	if colon > start {
		urn := p.s[start:colon]
		path.URIPrefix = &urn
		p.pos = colon + 1
	}
	var err error
	if path.AttributeName, err = p.name(); err != nil {
		return path, err
	}
	if p.at('.') {
		p.pos++
		sub, err := p.name()
		if err != nil {
			return path, err
		}
		path.SubAttribute = &sub
	}
	if p.pos < end {
		return path, p.fail("a character that no attribute name has")
	}
	return path, nil
}

// name reads an attribute name (RFC 7643, Section 2.1), or $ref, the one name that starts otherwise.
func (p *parser) name() (string, error) {
	start, end := p.pos, p.pos
	for end < len(p.s) && isNameByte(p.s[end]) {
		end++
	}
	name := p.s[start:end]
	if name == "" || !isLetter(name[0]) && !strings.EqualFold(name, "$ref") {
		return "", p.fail("expected an attribute name")
	}
	p.pos = end
	return name, nil
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isNameByte(c byte) bool {
	return isLetter(c) || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '$'
}

// isURNByte reports what a URN may hold (RFC 8141, Section 2), brackets apart.
func isURNByte(c byte) bool {
	if isNameByte(c) {
		return true
	}
	switch c {
	case '.', ':', '~', '%', '!', '&', '\'', '*', '+', ',', ';', '=', '@', '/':
		return true
	default:
		return false
	}
}

// ResolvePath finds what the path of a PATCH operation names. ok is false when nothing has that name, when a
// value filter stands behind an attribute with a single value, or when it does not fit the attribute's
// sub-attributes. The URN of an extension alone names no attribute: see [ResourceType.PathExtension].
func (rt *ResourceType) ResolvePath(p *Path) (t Target, ok bool) {
	t, ok = rt.Resolve(p.AttributePath)
	if !ok {
		return Target{}, false
	}
	if p.ValueExpression != nil {
		if t.Sub != nil || !t.Attribute.MultiValued || check(nil, &t, p.ValueExpression, nil) != nil {
			return Target{}, false
		}
	}
	if p.SubAttribute == nil {
		return t, true
	}
	if t, ok = t.member(*p.SubAttribute); !ok {
		return Target{}, false
	}
	return t, true
}

// PathExtension returns the extension whose URN alone is the path, which means all its attributes; nil when the
// path is anything else.
func (rt *ResourceType) PathExtension(p *Path) *Schema {
	if p.AttributePath.URIPrefix == nil || p.ValueExpression != nil || p.SubAttribute != nil {
		return nil
	}
	return rt.Extension(p.AttributePath.String())
}

// Writable returns an *Error, 400 mutability, when clients may not set what t names.
func (t Target) Writable() error {
	if t.Attribute.ReadOnly() || t.Sub != nil && t.Sub.ReadOnly() {
		return BadRequest(Mutability, "%s is readOnly: leave it out", t.Ref)
	}
	return nil
}

// member is the sub-attribute of a whole attribute. A simple attribute has one named value: itself.
func (t Target) member(name string) (Target, bool) {
	if t.Sub != nil {
		return Target{}, false
	}
	if sub := t.Attribute.SubAttribute(name); sub != nil {
		t.Sub, t.Ref.Sub = sub, sub.Name
		return t, true
	}
	return t, t.Attribute.Kind != Complex && strings.EqualFold(name, "value")
}

// Attributes lists every attribute a filter compares, each once, in the order of appearance; members of a value
// filter as `emails.value`. The error is an *Error, 400 invalidFilter: an attribute is unknown, or an operator
// does not fit its type (RFC 7644, Table 3). A filter without an error here has none in [ResourceType.Match].
func (rt *ResourceType) Attributes(f Filter) ([]Ref, error) {
	var refs []Ref
	seen := map[Ref]bool{}
	err := check(rt, nil, f, func(r Ref) {
		if !seen[r] {
			seen[r] = true
			refs = append(refs, r)
		}
	})
	if err != nil {
		return nil, err
	}
	return refs, nil
}

// check resolves everything in a filter and tells visit, which may be nil. Inside a value filter, within is the
// attribute it belongs to; elsewhere it is nil.
func check(rt *ResourceType, within *Target, f Filter, visit func(Ref)) error {
	switch f := f.(type) {
	case nil:
		return nil
	case *AttributeExpression:
		t, err := resolveExpression(rt, within, f)
		if err == nil && visit != nil {
			visit(t.Ref)
		}
		return err
	case *LogicalExpression:
		if err := check(rt, within, f.Left, visit); err != nil {
			return err
		}
		return check(rt, within, f.Right, visit)
	case *NotExpression:
		return check(rt, within, f.Expression, visit)
	case *ValuePath:
		t, err := resolveValuePath(rt, within, f)
		if err != nil {
			return err
		}
		return check(rt, &t, f.ValueFilter, visit)
	default:
		return BadRequest(InvalidFilter, "the filter holds an unknown kind of expression")
	}
}

// resolveExpression finds the attribute an expression compares: the one place where an operator and a type are
// found to fit. A complex attribute stands for its sub-attribute value where it has one, as in the RFC's example
// `emails co "example.com"`, except that presence and null are about the whole of it.
func resolveExpression(rt *ResourceType, within *Target, e *AttributeExpression) (Target, error) {
	var t Target
	var ok bool
	switch {
	case within == nil:
		t, ok = rt.Resolve(e.AttributePath)
	case e.AttributePath.URIPrefix == nil && e.AttributePath.SubAttribute == nil:
		t, ok = within.member(e.AttributePath.AttributeName)
	}
	if !ok {
		return Target{}, unknownAttribute(rt, within, e.AttributePath)
	}
	if e.Operator == Pr || e.CompareValue == nil && (e.Operator == Eq || e.Operator == Ne) {
		return t, nil
	}
	if t.Leaf().Kind == Complex {
		if t, ok = t.member("value"); !ok {
			return Target{}, BadRequest(InvalidFilter, "filter: %s is complex: compare one of its sub-attributes", clip(e.AttributePath.String()))
		}
	}
	if !fits(e.Operator, t.Leaf().Kind) {
		return Target{}, BadRequest(InvalidFilter, "filter: %s does not fit %s, which is of type %s", e.Operator, t.Ref, t.Leaf().Kind)
	}
	return t, nil
}

func resolveValuePath(rt *ResourceType, within *Target, f *ValuePath) (Target, error) {
	if within != nil {
		return Target{}, BadRequest(InvalidFilter, "filter: a value filter cannot stand in another")
	}
	t, ok := rt.Resolve(f.AttributePath)
	switch {
	case !ok:
		return Target{}, unknownAttribute(rt, nil, f.AttributePath)
	case t.Sub != nil || t.Attribute.Kind != Complex && !t.Attribute.MultiValued:
		return Target{}, BadRequest(InvalidFilter, "filter: %s takes no value filter: it has no sub-attributes", t.Ref)
	default:
		return t, nil
	}
}

func unknownAttribute(rt *ResourceType, within *Target, p AttributePath) error {
	if within != nil {
		return BadRequest(InvalidFilter, "filter: %s has no sub-attribute %q", within.Ref, clip(p.String()))
	}
	return BadRequest(InvalidFilter, "filter: %s has no attribute %q", rt.Name, clip(p.String()))
}

// fits follows RFC 7644, Table 3 for gt, ge, lt and le. It says nothing about substrings of a boolean or a
// number; we refuse them too, because an answer that is always empty makes a client create what exists.
func fits(op CompareOperator, kind Kind) bool {
	switch op {
	case Eq, Ne:
		return true
	case Gt, Ge, Lt, Le:
		return kind != Boolean && kind != Binary
	case Co, Sw, Ew:
		return kind != Boolean && kind != Integer && kind != Decimal
	default:
		return false
	}
}
