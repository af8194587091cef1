package policy

import (
	"slices"

	"scimgate/transform/scim"
)

// CreateOnly keeps what cannot change after create.
var CreateOnly = &Rule{
	Name: "create-only",
	Doc: "An attribute that the profile marks createOnly may be set by create and when it has no value yet; a replace " +
		"or PATCH that would change or remove it is refused with 400 mutability. Writing the value it has is allowed, " +
		"and so is leaving it out of a replace. To know, the gateway reads the resource first, only when a request " +
		"touches such an attribute.",
	NeedsCurrent: func(req *scim.Request, limits *Limits) bool {
		if !limits.hasCreateOnly() || req.Op != scim.OpPatch && req.Op != scim.OpReplace {
			return false
		}
		for w := range req.Writes() {
			if slices.ContainsFunc(limits.attributes, func(a limit) bool { return a.CreateOnly && a.changes(limits.Type, w) }) {
				return true
			}
		}
		return false
	},
	Check: func(req *Request, current scim.Resource, limits *Limits) []Finding {
		if current == nil || req.Op != scim.OpPatch && req.Op != scim.OpReplace {
			return nil
		}
		for _, a := range limits.attributes {
			if !a.CreateOnly {
				continue
			}
			for _, w := range req.Values {
				if !a.changes(limits.Type, w) {
					continue
				}
				has := a.values(limits.Type, current, w.Ref.Sub)
				if len(has) > 0 && !slices.ContainsFunc(has, func(v any) bool { return equal(v, w.Value) }) {
					return refuse(w, scim.Mutability, w.Path+" cannot change once it is set: the upstream refuses it")
				}
			}
		}
		return nil
	},
}

func (l *Limits) hasCreateOnly() bool {
	return slices.ContainsFunc(l.attributes, func(a limit) bool { return a.CreateOnly })
}

// changes reports whether w would set the attribute, or remove it alone or with what it is a part of.
func (a *limit) changes(rt *scim.ResourceType, w scim.Write) bool {
	return (a.target.Ref.Covers(w.Ref) || w.Value == nil && w.Ref.Covers(a.target.Ref)) && a.picks(rt, w) && a.hasRoom(w.Ref)
}

// values are those that a resource has of the attribute, or of its sub-attribute sub where the limit is about the
// whole.
func (a *limit) values(rt *scim.ResourceType, r scim.Resource, sub string) []any {
	if a.target.Ref.Sub != "" {
		sub = a.target.Ref.Sub
	}
	v := r.Get(a.target.Ref.Parent())
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var out []any
	for _, e := range list {
		if a.filter != nil && !picks(rt, a.target, a.filter, e) {
			continue
		}
		if m, ok := e.(map[string]any); ok && sub != "" {
			e = m[sub]
		}
		if !scim.Empty(e) {
			out = append(out, e)
		}
	}
	return out
}

func equal(a, b any) bool {
	return string(scim.AppendJSON(nil, a)) == string(scim.AppendJSON(nil, b))
}
