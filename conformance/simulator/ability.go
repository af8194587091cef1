package simulator

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// kind is one resource type: what the profile says about it, compiled, and the resources of that type.
type kind struct {
	rt        *scim.ResourceType // as the schemas have it
	announced *scim.ResourceType // as the profile has it, for discovery
	ops       map[scim.Op]bool
	complete  bool
	filter    profile.Filter
	has       *scim.AttributeSet
	limits    []limit
	forms     []scim.Ref // complex attributes that are written as the plain string of their value
	stripped  []scim.Ref // clients cannot set them, or they are never returned
	always    []scim.Ref // returned whatever is asked for
	unique    []*index

	shelf
}

// limit is one attribute of the profile.
type limit struct {
	profile.Attribute
	target  scim.Target
	element scim.Filter // which elements of a multi-valued attribute; nil: all
}

func compile(p *profile.Profile, a Assumptions) ([]*kind, error) {
	var kinds []*kind
	for i := range p.Resources {
		r := &p.Resources[i]
		var rt *scim.ResourceType
		switch r.Name {
		case "User":
			rt = scim.UserType()
		case "Group":
			rt = scim.GroupType()
		default:
			return nil, fmt.Errorf("%s:%d:%d: the simulator has no resource type %q: use User or Group", p.File, r.Line, r.Column, r.Name)
		}
		k, err := compileKind(p, r, rt, a)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}

func compileKind(p *profile.Profile, r *profile.Resource, rt *scim.ResourceType, a Assumptions) (*kind, error) {
	if r.Endpoint != "" {
		rt.Endpoint = r.Endpoint
	}
	for _, urn := range r.Extensions {
		if rt.Extension(urn) == nil {
			return nil, fmt.Errorf("%s:%d:%d: %s: the simulator has no schema %q", p.File, r.Line, r.Column, r.Name, urn)
		}
	}
	rt.Extensions = slices.DeleteFunc(rt.Extensions, func(e *scim.Schema) bool {
		return !slices.ContainsFunc(r.Extensions, func(urn string) bool { return strings.EqualFold(urn, e.ID) })
	})
	if userName := rt.Core.Attribute("userName"); userName != nil && a.CaseSensitiveUserName {
		userName.CaseExact = true
	}
	k := &kind{rt: rt, complete: r.Complete, filter: p.Filter, ops: map[scim.Op]bool{}}
	for _, op := range r.Operations {
		k.ops[scim.Op(op)] = true
	}
	if len(r.Operations) == 0 {
		for _, op := range profile.Operations() {
			k.ops[scim.Op(op)] = true
		}
	}
	if err := k.compileAttributes(p, r); err != nil {
		return nil, err
	}
	rt.All(func(ref scim.Ref, at *scim.Attribute) bool {
		if ref.Name != "schemas" && (at.ReadOnly() || at.Returned == "never") {
			k.stripped = append(k.stripped, ref)
		}
		if at.Returned == "always" || ref.Name == "schemas" || ref.Name == "id" {
			k.always = append(k.always, ref)
		}
		return true
	})
	k.announced = rt.Restrict(func(ref scim.Ref) bool { return k.has.Whole(ref) || ref.Sub != "" && k.has.Touches(ref) }).
		RestrictValues(k.has.Canonical)
	k.shelf = k.newShelf()
	k.compileUnique(a)
	return k, nil
}

func (k *kind) compileAttributes(p *profile.Profile, r *profile.Resource) error {
	fail := func(at profile.Attribute, err error) error {
		file := at.File
		if file == "" {
			file = p.File
		}
		detail := err.Error()
		if e, ok := err.(*scim.Error); ok {
			detail = e.Detail
		}
		return fmt.Errorf("%s:%d:%d: %s: %s", file, at.Line, at.Column, at.Path, detail)
	}
	var paths []string
	var of []profile.Attribute
	for _, at := range r.Attributes {
		if at.Handling != "" { // the service provider lacks it
			continue
		}
		path, target, err := k.rt.CompilePath(at.Path)
		if err != nil {
			return fail(at, err)
		}
		paths, of = append(paths, at.Path), append(of, at)
		l := limit{Attribute: at, target: target, element: path.ValueExpression}
		k.limits = append(k.limits, l)
		if at.Form == profile.FormValue {
			if target.Sub != nil || target.Attribute.MultiValued || target.Attribute.SubAttribute("value") == nil {
				return fail(at, fmt.Errorf("form value is for a single complex attribute with a sub-attribute value"))
			}
			k.forms = append(k.forms, target.Ref)
		}
	}
	set, i, err := scim.NewAttributeSet(k.rt, k.complete, paths)
	if err != nil {
		return fail(of[i], err)
	}
	k.has = set
	return nil
}

// compileUnique chooses what may occur only once: userName (RFC 7643, Section 4.1.1), and e-mail addresses where
// that is assumed.
func (k *kind) compileUnique(a Assumptions) {
	if k.rt.Name != "User" {
		return
	}
	k.unique = append(k.unique, k.index(scim.Ref{Name: "userName"}))
	if a.Email == Unique || a.Email == "" && !k.complete {
		k.unique = append(k.unique, k.index(scim.Ref{Name: "emails", Sub: "value"}))
	}
}

// path names the attribute for an error detail.
func (l *limit) path() string { return l.Path }

// read returns the values the limit is about. Those of a complex attribute are its `value`, where it has one.
func (l *limit) read(k *kind, r scim.Resource) []any {
	var out []any
	l.edit(k, r, func(v any) any { out = append(out, v); return v })
	return out
}

// picksBy reports whether w is what picks an element that the limit is about, as type in emails[type eq "work"].value.
func (l *limit) picksBy(k *kind, w scim.Write) bool {
	named := false
	for name := range scim.EqualTerms(l.element) {
		named = named || strings.EqualFold(name, w.Ref.Sub)
	}
	whole := scim.Target{Ref: l.target.Ref.Parent(), Attribute: l.target.Attribute}
	return named && w.Ref.Parent() == whole.Ref && k.rt.MatchValue(whole, l.element, w.Element)
}

// edit replaces every value the limit is about by what change makes of it, in place.
func (l *limit) edit(k *kind, r scim.Resource, change func(any) any) {
	whole := l.target.Ref.Parent()
	v := r.Get(whole)
	if v == nil {
		return
	}
	sub := l.target.Ref.Sub
	if sub == "" && l.target.Attribute.SubAttribute("value") != nil {
		sub = "value"
	}
	one := func(v any) any {
		m, ok := v.(map[string]any)
		switch {
		case !ok || sub == "":
			return change(v)
		case l.element != nil && !k.rt.MatchValue(scim.Target{Ref: whole, Attribute: l.target.Attribute}, l.element, m):
		case m[sub] != nil:
			m[sub] = change(m[sub])
		}
		return v
	}
	if list, ok := v.([]any); ok {
		for i := range list {
			list[i] = one(list[i])
		}
		return
	}
	r.Set(whole, one(v))
}

// keepLimits holds a resource that is about to be stored against the profile's limits; old is nil on create. It
// may cut values off where that is assumed. Values that are stored already are not looked at again.
func (k *kind) keepLimits(old, r scim.Resource, tooLong Choice) error {
	for i := range k.limits {
		l := &k.limits[i]
		var before []any
		if old != nil {
			before = l.read(k, old)
		}
		var err error
		l.edit(k, r, func(v any) any {
			text, ok := v.(string)
			if !ok || slices.Contains(before, v) {
				return v
			}
			if strings.ContainsAny(text, l.Forbidden) {
				err = scim.BadRequest(scim.InvalidValue, "%s has a character that is not allowed", l.path())
			}
			if l.MaxLength > 0 && utf8.RuneCountInString(text) > l.MaxLength {
				switch tooLong {
				case CutOff:
					return string([]rune(text)[:l.MaxLength])
				case "":
					err = scim.BadRequest(scim.InvalidValue, "%s must not exceed %d characters", l.path(), l.MaxLength)
				}
			}
			return v
		})
		if err != nil {
			return err
		}
		now := l.read(k, r)
		if l.Required && !slices.ContainsFunc(now, func(v any) bool { return v != "" }) {
			return scim.BadRequest(scim.InvalidValue, "%s is required and must not be empty", l.path())
		}
		if l.CreateOnly && old != nil && !reflect.DeepEqual(before, now) {
			return scim.BadRequest(scim.Mutability, "%s may not change after create", l.path())
		}
	}
	return nil
}

// allows reports whether the profile can evaluate a filter. within is the multi-valued attribute whose value
// filter f is; nil outside of brackets.
func (k *kind) allows(f scim.Filter, within *scim.Target) bool {
	switch f := f.(type) {
	case *scim.AttributeExpression:
		target, ok := k.member(f.AttributePath, within)
		return ok && slices.ContainsFunc(k.limits, func(l limit) bool { return l.evaluates(target, string(f.Operator), within) })
	case *scim.LogicalExpression:
		joined := k.filter.Or
		if strings.EqualFold(string(f.Operator), string(scim.And)) {
			joined = k.filter.And || within != nil
		}
		return joined && k.allows(f.Left, within) && k.allows(f.Right, within)
	case *scim.NotExpression:
		return k.filter.Not && k.allows(f.Expression, within)
	case *scim.ValuePath:
		target, ok := k.rt.Resolve(f.AttributePath)
		return ok && (k.filter.ValuePath && k.allows(f.ValueFilter, &target) || k.lists(target, f.ValueFilter))
	default:
		return false
	}
}

// lists reports whether a value filter is that of a path which the profile lists operators for, as in
// emails[type eq "work" and value eq "x"] for emails[type eq "work"].value. No other value filter need be evaluated
// for that.
func (k *kind) lists(t scim.Target, f scim.Filter) bool {
	and, ok := f.(*scim.LogicalExpression)
	if !ok || and.Operator != scim.And || t.Sub != nil {
		return false
	}
	takes := func(l limit, picks, compared scim.Filter) bool {
		e, ok := compared.(*scim.AttributeExpression)
		if !ok || scim.Fold(scim.FormatFilter(picks)) != scim.Fold(scim.FormatFilter(l.element)) {
			return false
		}
		target, ok := k.member(e.AttributePath, &t)
		return ok && l.evaluates(target, string(e.Operator), nil)
	}
	return slices.ContainsFunc(k.limits, func(l limit) bool {
		return l.element != nil && (takes(l, and.Left, and.Right) || takes(l, and.Right, and.Left))
	})
}

// member resolves an attribute path, inside the brackets of a value filter or outside.
func (k *kind) member(p scim.AttributePath, within *scim.Target) (scim.Target, bool) {
	if within == nil {
		return k.rt.Resolve(p)
	}
	return k.rt.Lookup(scim.Ref{Schema: within.Ref.Schema, Name: within.Ref.Name, Sub: p.AttributeName})
}

// evaluates reports whether the profile lists an operator for what target names. Inside brackets the
// sub-attributes that pick the element may be compared too: type in emails[type eq "work" and value eq "x"].
func (l *limit) evaluates(target scim.Target, operator string, within *scim.Target) bool {
	if within != nil && len(l.Filter) > 0 && l.target.Ref.Parent() == target.Ref.Parent() && strings.EqualFold(operator, "eq") {
		for name := range scim.EqualTerms(l.element) {
			if strings.EqualFold(name, target.Ref.Sub) {
				return true
			}
		}
	}
	return byValue(l.target) == byValue(target) && slices.ContainsFunc(l.Filter, func(op string) bool { return strings.EqualFold(op, operator) })
}

// byValue is the sub-attribute that a comparison of a whole complex attribute means.
func byValue(t scim.Target) scim.Ref {
	if t.Sub == nil && t.Attribute.SubAttribute("value") != nil {
		t.Ref.Sub = "value"
	}
	return t.Ref
}
