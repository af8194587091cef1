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
		if req.Op != scim.OpPatch && req.Op != scim.OpReplace {
			return false
		}
		for _, a := range limits.createOnly {
			for w := range req.Writes() {
				if a.changes(limits.Type, w) {
					return true
				}
			}
			if slices.ContainsFunc(req.Operations, a.replacedBy) {
				return true
			}
		}
		return false
	},
	Check: func(req *Request, current scim.Resource, limits *Limits) []Finding {
		if current == nil || req.Op != scim.OpPatch && req.Op != scim.OpReplace {
			return nil
		}
		for _, a := range limits.createOnly {
			for _, op := range req.Operations {
				if a.replacedBy(op) && !a.leaves(limits.Type, op, current) {
					w := scim.Write{Ref: op.Target.Ref, Path: op.Target.Ref.String()}
					return refuse(w, scim.Mutability, a.Path+" cannot change or go once it is set: the upstream refuses it")
				}
			}
			has := map[string]valueSet{} // by sub-attribute: a list may have thousands of elements
			for _, w := range req.Values {
				if !a.changes(limits.Type, w) {
					continue
				}
				set, known := has[w.Ref.Sub]
				if !known {
					set = setOf(a.values(limits.Type, current, w.Ref.Sub))
					has[w.Ref.Sub] = set
				}
				if len(set.values) > 0 && !set.has(w.Value) {
					return refuse(w, scim.Mutability, w.Path+" cannot change once it is set: the upstream refuses it")
				}
			}
		}
		return nil
	},
}

// changes reports whether w would set the attribute, or remove it alone or with what it is a part of.
func (a *limit) changes(rt *scim.ResourceType, w scim.Write) bool {
	return (a.target.Ref.Covers(w.Ref) || w.Value == nil && w.Ref.Covers(a.target.Ref)) && a.picks(rt, w) && a.hasRoom(w.Ref)
}

// replacedBy reports whether an operation puts another list in place of the attribute, or of what it is a part of.
func (a *limit) replacedBy(op scim.PatchOp) bool {
	_, isList := op.Value.([]any)
	return op.Op == "replace" && isList && op.Target.Ref == a.target.Ref.Parent()
}

// leaves reports whether a list that takes the attribute's place has every value that it has.
func (a *limit) leaves(rt *scim.ResourceType, op scim.PatchOp, current scim.Resource) bool {
	next := scim.Resource{}
	next.Set(op.Target.Ref, op.Value)
	has := setOf(a.values(rt, next, ""))
	return !slices.ContainsFunc(a.values(rt, current, ""), func(v any) bool { return !has.has(v) })
}

// valueSet finds equal values. Texts, of which there may be many, are found at once.
type valueSet struct {
	values []any
	texts  map[string]bool
}

func setOf(values []any) valueSet {
	s := valueSet{values, make(map[string]bool, len(values))}
	for _, v := range values {
		if text, ok := v.(string); ok {
			s.texts[text] = true
		}
	}
	return s
}

func (s valueSet) has(v any) bool {
	if text, ok := v.(string); ok && s.texts[text] {
		return true
	}
	return slices.ContainsFunc(s.values, func(e any) bool { return scim.EqualValues(e, v) })
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
