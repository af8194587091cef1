package transform

import (
	"maps"

	"scimgate/transform/scim"
)

// Project leaves out of a resource what a query does not ask for (RFC 7644, Section 3.9) and what is never, or
// only on request, returned (RFC 7643, Section 7). id and schemas always stay. The resource is not changed; what
// remains is shared with it.
func Project(rt *scim.ResourceType, r scim.Resource, q scim.Query) scim.Resource {
	out := make(scim.Resource, len(r))
	for name, v := range r {
		if name == "schemas" {
			out[name] = v
			continue
		}
		if e := rt.Extension(name); e != nil {
			ext, _ := v.(map[string]any)
			for sub, v := range ext {
				project(out, scim.Ref{Schema: e.ID, Name: sub}, e.Attribute(sub), v, q)
			}
			continue
		}
		t, _ := rt.Lookup(scim.Ref{Name: name})
		project(out, scim.Ref{Name: name}, t.Attribute, v, q)
	}
	if out["schemas"] != nil {
		rt.SetSchemas(out) // those of what is left (RFC 7643, Section 3)
	}
	return out
}

func project(out scim.Resource, ref scim.Ref, a *scim.Attribute, v any, q scim.Query) {
	if a == nil { // no schema knows it: as by default
		if q.Attributes == nil {
			out.Set(ref, v)
		}
		return
	}
	if len(a.Sub) == 0 {
		if returned(a, ref, q) {
			out.Set(ref, v)
		}
		return
	}
	whole := returned(a, ref, q)
	if !whole && !subAsked(ref, q) {
		return
	}
	each := func(v any) any {
		m, ok := v.(map[string]any)
		if !ok {
			return v
		}
		shown := func(name string) bool {
			sub := ref
			sub.Sub = name
			d := a.SubAttribute(name)
			return d == nil && whole || d != nil && returned(d, sub, q)
		}
		part := m // all of it, mostly
		for name := range m {
			if !shown(name) {
				part = maps.Clone(m)
				maps.DeleteFunc(part, func(name string, _ any) bool { return !shown(name) })
				break
			}
		}
		if len(part) == 0 {
			return nil
		}
		return part
	}
	if list, ok := v.([]any); ok {
		kept := make([]any, 0, len(list))
		for _, e := range list {
			if e = each(e); e != nil {
				kept = append(kept, e)
			}
		}
		if len(kept) > 0 {
			out.Set(ref, kept)
		}
		return
	}
	out.Set(ref, each(v))
}

func returned(a *scim.Attribute, ref scim.Ref, q scim.Query) bool {
	switch a.Returned {
	case "always":
		return true
	case "never":
		return false
	case "request":
		return asked(ref, q.Attributes)
	}
	if q.Attributes != nil {
		return asked(ref, q.Attributes)
	}
	return !asked(ref, q.ExcludedAttributes)
}

// asked reports whether a list names the attribute, or the attribute it is a part of.
func asked(ref scim.Ref, list []scim.Ref) bool {
	for _, r := range list {
		if r.Covers(ref) {
			return true
		}
	}
	return false
}

func subAsked(ref scim.Ref, q scim.Query) bool {
	for _, r := range q.Attributes {
		if r.Parent() == ref {
			return true
		}
	}
	return false
}
