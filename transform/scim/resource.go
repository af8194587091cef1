package scim

import (
	"maps"
	"slices"
	"strings"
)

// Resource is a SCIM resource as a JSON object. Core and common attributes stand at the top; those of an
// extension stand in an object under the extension's URN.
type Resource map[string]any

// ID is the resource's id, or "".
func (r Resource) ID() string { return r.text("id") }

// UserName is the resource's userName, or "".
func (r Resource) UserName() string { return r.text("userName") }

// ExternalID is the resource's externalId, or "".
func (r Resource) ExternalID() string { return r.text("externalId") }

// Meta is a string sub-attribute of meta, or "".
func (r Resource) Meta(name string) string {
	meta, _ := r["meta"].(map[string]any)
	s, _ := meta[name].(string)
	return s
}

func (r Resource) text(name string) string {
	s, _ := r[name].(string)
	return s
}

// Clone copies the resource and everything in it.
func (r Resource) Clone() Resource {
	if r == nil {
		return nil
	}
	return Resource(cloneValue(map[string]any(r)).(map[string]any))
}

// CloneValue copies an attribute value and everything in it.
func CloneValue(v any) any { return cloneValue(v) }

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(v))
		for k, e := range v {
			c[k] = cloneValue(e)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, e := range v {
			c[i] = cloneValue(e)
		}
		return c
	default:
		return v
	}
}

// Get returns the value that ref names; nil when the attribute is not assigned. For a sub-attribute of a
// multi-valued attribute it returns the []any of that sub-attribute's values. The resource's names must be
// canonical.
func (r Resource) Get(ref Ref) any {
	holder := r.holder(ref.Schema)
	v := holder[ref.Name]
	if ref.Sub == "" {
		return v
	}
	switch v := v.(type) {
	case map[string]any:
		return v[ref.Sub]
	case []any:
		var values []any
		for _, e := range v {
			if m, ok := e.(map[string]any); ok && m[ref.Sub] != nil {
				values = append(values, m[ref.Sub])
			}
		}
		if values == nil {
			return nil
		}
		return values
	default:
		return nil
	}
}

// Set assigns a whole attribute (ref.Sub is ignored); nil removes it. It keeps `schemas` as it is: see
// [ResourceType.SetSchemas].
func (r Resource) Set(ref Ref, value any) {
	if value == nil {
		r.Remove(ref.Parent())
		return
	}
	if ref.Schema == "" {
		r[ref.Name] = value
		return
	}
	ext, ok := r[ref.Schema].(map[string]any)
	if !ok {
		ext = map[string]any{}
		r[ref.Schema] = ext
	}
	ext[ref.Name] = value
}

// Remove unassigns an attribute, or one sub-attribute of it in every value. Objects that are left empty go too,
// because an empty value is an unassigned one (RFC 7643, Section 2.5).
func (r Resource) Remove(ref Ref) {
	holder := r.holder(ref.Schema)
	if holder == nil {
		return
	}
	if ref.Sub == "" {
		delete(holder, ref.Name)
	} else {
		switch v := holder[ref.Name].(type) {
		case map[string]any:
			delete(v, ref.Sub)
			if len(v) == 0 {
				delete(holder, ref.Name)
			}
		case []any:
			for _, e := range v {
				if m, ok := e.(map[string]any); ok {
					delete(m, ref.Sub)
				}
			}
			v = slices.DeleteFunc(v, func(e any) bool { m, ok := e.(map[string]any); return ok && len(m) == 0 })
			if holder[ref.Name] = v; len(v) == 0 {
				delete(holder, ref.Name)
			}
		}
	}
	if ref.Schema != "" && len(holder) == 0 {
		delete(r, ref.Schema)
	}
}

func (r Resource) holder(urn string) map[string]any {
	if urn == "" {
		return r
	}
	ext, _ := r[urn].(map[string]any)
	return ext
}

// Empty reports whether a value counts as unassigned: null, or an empty array or object (RFC 7643, Section 2.5).
func Empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	default:
		return false
	}
}

// Canonicalize gives every attribute name and extension URN the schema's spelling, in place, at every depth.
// Names no schema knows stay as they are. It expects an object without names that differ only in case, which
// DecodeObject guarantees.
func (rt *ResourceType) Canonicalize(r Resource) {
	for key, v := range r { // a name that is met again after its change does no harm
		if strings.Contains(key, ":") {
			if e := rt.Extension(key); e != nil {
				if ext, ok := v.(map[string]any); ok {
					for k, v := range ext {
						if a := e.Attribute(k); a != nil {
							a.canonicalize(v)
							rename(ext, k, a.Name)
						}
					}
				}
				rename(r, key, e.ID)
			}
			continue
		}
		if a := rt.coreAttribute(key); a != nil {
			a.canonicalize(v)
			rename(r, key, a.Name)
		}
	}
}

func (a *Attribute) canonicalize(v any) {
	if len(a.Sub) == 0 {
		return
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			a.canonicalize(e)
		}
	case map[string]any:
		for k := range v {
			if sub := a.SubAttribute(k); sub != nil {
				rename(v, k, sub.Name)
			}
		}
	}
}

// CanonicalizeValue is Canonicalize for one value of the attribute that t names.
func (t Target) CanonicalizeValue(v any) {
	if t.Sub == nil {
		t.Attribute.canonicalize(v)
	}
}

func rename(m map[string]any, from, to string) {
	if from == to {
		return
	}
	v := m[from]
	delete(m, from)
	m[to] = v
}

// SetSchemas makes `schemas` true: the core URN, every extension that has a value, and whatever else was listed
// that this type does not know (RFC 7643, Section 3).
func (rt *ResourceType) SetSchemas(r Resource) {
	if rt.hasSchemas(r) {
		return
	}
	list := []any{rt.Core.ID}
	for _, e := range rt.Extensions {
		if !Empty(r[e.ID]) {
			list = append(list, e.ID)
		}
	}
	old, _ := r["schemas"].([]any)
	for _, v := range old {
		if s, ok := v.(string); ok && !strings.EqualFold(s, rt.Core.ID) && rt.Extension(s) == nil {
			list = append(list, s)
		}
	}
	r["schemas"] = list
}

// hasSchemas reports whether `schemas` is the list that SetSchemas would make, of nothing but what this type knows.
func (rt *ResourceType) hasSchemas(r Resource) bool {
	list, _ := r["schemas"].([]any)
	if len(list) == 0 || list[0] != rt.Core.ID {
		return false
	}
	list = list[1:]
	for _, e := range rt.Extensions {
		if Empty(r[e.ID]) {
			continue
		}
		if len(list) == 0 || list[0] != e.ID {
			return false
		}
		list = list[1:]
	}
	return len(list) == 0
}

// EqualValues reports whether two attribute values are the same, numbers as they are written.
func EqualValues(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return b == nil
	case string:
		s, ok := b.(string)
		return ok && s == a
	case bool:
		t, ok := b.(bool)
		return ok && t == a
	case map[string]any:
		m, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, m, EqualValues)
	case []any:
		l, ok := b.([]any)
		return ok && slices.EqualFunc(a, l, EqualValues)
	default:
		return string(AppendJSON(nil, a)) == string(AppendJSON(nil, b))
	}
}
