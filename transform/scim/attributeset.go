package scim

import (
	"maps"
	"slices"
	"strings"
)

// AttributeSet is a set of attribute paths of one resource type: what some service provider stores. A path may
// pick elements of a multi-valued attribute, as in emails[type eq "work"].value; then the sub-attributes that its
// value filter names belong to the set for those elements too. An AttributeSet is not changed after it was made.
type AttributeSet struct {
	rt       *ResourceType
	complete bool
	entries  map[Ref][]setEntry // by whole attribute
}

type setEntry struct {
	sub       string   // "" for the whole attribute
	filter    Filter   // nil: every element
	selectors []string // sub-attributes that filter names
}

// NewAttributeSet makes the set of paths; a complete one holds every attribute a schema of rt has, and the paths
// do not matter. The error is an *Error that names the path; index tells which.
func NewAttributeSet(rt *ResourceType, complete bool, paths []string) (set *AttributeSet, index int, err error) {
	s := &AttributeSet{rt: rt, complete: complete, entries: map[Ref][]setEntry{}}
	for i, text := range paths {
		p, t, err := rt.CompilePath(text)
		if err != nil {
			return nil, i, err
		}
		e := setEntry{sub: t.Ref.Sub, filter: p.ValueExpression}
		for name := range EqualTerms(p.ValueExpression) {
			if sub := t.Attribute.SubAttribute(name); sub != nil { // of a simple attribute, value means itself
				e.selectors = append(e.selectors, sub.Name)
			}
		}
		s.entries[t.Ref.Parent()] = append(s.entries[t.Ref.Parent()], e)
	}
	return s, 0, nil
}

// CompilePath parses and resolves an attribute path written by hand, as in a profile.
func (rt *ResourceType) CompilePath(text string) (*Path, Target, error) {
	p, err := ParsePath(text)
	if err != nil {
		return nil, Target{}, err
	}
	t, ok := rt.ResolvePath(p)
	if !ok {
		return nil, Target{}, BadRequest(InvalidPath, "%s is no attribute of %s", clip(text), rt.Name)
	}
	return p, t, nil
}

// Touches reports whether the set holds the attribute that ref names, or any part of it.
func (s *AttributeSet) Touches(ref Ref) bool {
	if s.complete {
		_, ok := s.rt.Lookup(ref)
		return ok
	}
	return slices.ContainsFunc(s.entries[ref.Parent()], func(e setEntry) bool {
		return e.sub == "" || ref.Sub == "" || e.sub == ref.Sub || slices.Contains(e.selectors, ref.Sub)
	})
}

// Whole reports whether the set holds the attribute that ref names for every element and with every
// sub-attribute.
func (s *AttributeSet) Whole(ref Ref) bool {
	if s.complete {
		_, ok := s.rt.Lookup(ref)
		return ok
	}
	return slices.ContainsFunc(s.entries[ref.Parent()], func(e setEntry) bool {
		return e.filter == nil && (e.sub == "" || e.sub == ref.Sub)
	})
}

// Canonical returns the canonical values that a sub-attribute can have in what the set holds: with nothing but
// emails[type eq "work"].value in it, the type is "work".
func (s *AttributeSet) Canonical(ref Ref, sub *Attribute) []string {
	if s.complete {
		return sub.Canonical
	}
	return slices.DeleteFunc(slices.Clone(sub.Canonical), func(value string) bool {
		return !slices.ContainsFunc(s.entries[ref.Parent()], func(e setEntry) bool {
			for name, wanted := range EqualTerms(e.filter) {
				if text, ok := wanted.(string); ok && strings.EqualFold(name, ref.Sub) {
					return strings.EqualFold(text, value)
				}
			}
			return true
		})
	})
}

// Has reports whether the set holds what w would store.
func (s *AttributeSet) Has(w Write) bool {
	if s.complete {
		return w.Known && (w.Ref.Schema == "" || s.rt.Extension(w.Ref.Schema) != nil)
	}
	for _, e := range s.entries[w.Ref.Parent()] {
		if e.filter != nil && w.Element != nil && !s.matches(w, e.filter) {
			continue
		}
		if e.sub == "" || w.Ref.Sub == "" || e.sub == w.Ref.Sub {
			return true
		}
		// A selector alone says nothing: it belongs to the set where the element holds what it selects.
		if slices.Contains(e.selectors, w.Ref.Sub) && (w.Element == nil || w.Element[e.sub] != nil) {
			return true
		}
	}
	return false
}

// matches reports whether a filter picks the element of w. Where only a part of the element is known, it is enough
// that nothing stands against it.
func (s *AttributeSet) matches(w Write, f Filter) bool {
	element := w.Element
	if w.Picked {
		element = EqualTerms(f)
		maps.Copy(element, w.Element)
	}
	t, ok := s.rt.Lookup(w.Ref.Parent())
	return ok && s.rt.MatchValue(t, f, element)
}

// Split parts a resource into what the set holds and what it lacks; `schemas` is in neither. The resource is not
// changed. Of an element that is parted, both sides keep the sub-attributes that pick it.
func (s *AttributeSet) Split(r Resource) (have, lack Resource) {
	have, lack = Resource{}, Resource{}
	for name, v := range r {
		if name == "schemas" {
			continue
		}
		if e := s.rt.Extension(name); e != nil {
			ext, _ := v.(map[string]any)
			for sub, v := range ext {
				s.part(Ref{Schema: e.ID, Name: sub}, e.Attribute(sub), v, have, lack)
			}
			continue
		}
		s.part(Ref{Name: name}, s.rt.coreAttribute(name), v, have, lack)
	}
	return have, lack
}

func (s *AttributeSet) part(ref Ref, a *Attribute, v any, have, lack Resource) {
	h, l := s.SplitValue(ref, a, v)
	if h != nil {
		have.Set(ref, h)
	}
	if l != nil {
		lack.Set(ref, l)
	}
}

// SplitValue is Split for the value of one whole attribute; a is nil for names no schema knows.
func (s *AttributeSet) SplitValue(ref Ref, a *Attribute, v any) (have, lack any) {
	if a == nil {
		return nil, v
	}
	if s.Whole(ref) {
		return v, nil
	}
	if a.Kind != Complex {
		return nil, v
	}
	switch v := v.(type) {
	case map[string]any:
		var element map[string]any
		if a.MultiValued {
			element = v
		}
		return nonEmpty(s.splitObject(ref, v, element))
	case []any:
		var hs, ls []any
		for _, e := range v {
			m, ok := e.(map[string]any)
			if !ok {
				ls = append(ls, e)
				continue
			}
			h, l := s.splitObject(ref, m, m)
			if len(h) > 0 {
				hs = append(hs, h)
			}
			if len(l) > 0 {
				ls = append(ls, l)
			}
		}
		if hs != nil {
			have = hs
		}
		if ls != nil {
			lack = ls
		}
		return have, lack
	default:
		return nil, v
	}
}

func (s *AttributeSet) splitObject(ref Ref, m, element map[string]any) (have, lack map[string]any) {
	have, lack = map[string]any{}, map[string]any{}
	for sub, v := range m {
		ref.Sub = sub
		if s.Has(Write{Ref: ref, Value: v, Element: element, Known: true}) {
			have[sub] = v
		} else {
			lack[sub] = v
		}
	}
	if len(have) == 0 || len(lack) == 0 {
		return have, lack
	}
	for _, e := range s.entries[ref.Parent()] {
		for _, sel := range e.selectors {
			if v, ok := have[sel]; ok {
				lack[sel] = v
			}
		}
	}
	return have, lack
}

func nonEmpty(have, lack map[string]any) (any, any) {
	var h, l any
	if len(have) > 0 {
		h = have
	}
	if len(lack) > 0 {
		l = lack
	}
	return h, l
}
