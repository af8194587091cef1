package policy

import (
	"maps"
	"slices"

	"scimgate/transform/scim"
)

// Required keeps what the upstream cannot do without.
var Required = &Rule{
	Name: "required-attributes",
	Doc: "An attribute that the schema or the profile requires must be there and not empty in a create or replace " +
		"(400 invalidValue), and a PATCH may not remove it (400 mutability; RFC 7644, Section 3.5.2.2) or make it " +
		"empty (400 invalidValue).",
	Check: func(req *Request, _ scim.Resource, limits *Limits) []Finding {
		for _, q := range limits.required {
			w := scim.Write{Ref: q.Ref, Path: q.path}
			switch req.Op {
			case scim.OpCreate, scim.OpReplace:
				if !q.in(limits.Type, req.Resource.Get(q.Ref.Parent())) {
					return refuse(w, scim.InvalidValue, q.path+" is required and must not be empty")
				}
			case scim.OpPatch:
				for _, op := range req.Operations {
					switch q.loss(limits.Type, op) {
					case removed:
						return refuse(w, scim.Mutability, q.path+" is required and cannot be removed")
					case emptied:
						return refuse(w, scim.InvalidValue, q.path+" is required and must not be empty")
					}
				}
			}
		}
		return nil
	},
}

// requirement is an attribute that must have a value.
type requirement struct {
	scim.Target
	filter scim.Filter // one element that it picks must have the value; nil: any
	path   string
}

func (l *Limits) requires() []requirement {
	var out []requirement
	for _, a := range l.attributes {
		if a.Attribute.Required {
			out = append(out, requirement{a.target, a.filter, a.Path})
		}
	}
	l.Type.All(func(ref scim.Ref, a *scim.Attribute) bool {
		known := slices.ContainsFunc(out, func(q requirement) bool { return q.Ref == ref && q.filter == nil })
		if a.Required && !a.ReadOnly() && !known && ref.Schema == "" && ref.Name != "schemas" {
			out = append(out, requirement{Target: scim.Target{Ref: ref, Attribute: a}, path: ref.String()})
		}
		return true
	})
	return out
}

// in reports whether v, the value of the whole attribute, has what is required.
func (q requirement) in(rt *scim.ResourceType, v any) bool {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	return slices.ContainsFunc(list, func(e any) bool {
		return (q.filter == nil || picks(rt, q.Target, q.filter, e)) && !isBlank(q.part(e))
	})
}

// part is what is required of one value of the attribute.
func (q requirement) part(e any) any {
	if m, ok := e.(map[string]any); ok && q.Sub != nil {
		return m[q.Ref.Sub]
	}
	return e
}

func isBlank(v any) bool { return scim.Empty(v) || v == "" }

type loss int

const (
	none loss = iota
	removed
	emptied
)

// loss is what an operation does to the value. An operation on elements of which the gateway cannot know whether
// they are the last with a value does nothing to it: the upstream knows.
func (q requirement) loss(rt *scim.ResourceType, op scim.PatchOp) loss {
	t := op.Target
	if t.Attribute == nil || t.Ref.Parent() != q.Ref.Parent() || t.Sub != nil && t.Ref != q.Ref {
		return none
	}
	picked := op.Path.ValueExpression != nil
	terms := scim.EqualTerms(op.Path.ValueExpression)
	if picked && (q.filter == nil || !picks(rt, q.Target, q.filter, terms)) {
		return none
	}
	switch value := op.Value.(type) {
	case map[string]any:
		element := maps.Clone(terms)
		maps.Copy(element, value)
		_, given := value[q.Ref.Sub]
		if (given || picked && op.Op == "replace") && isBlank(q.part(element)) {
			return emptied
		}
	case []any:
		if op.Op == "replace" && !q.in(rt, value) {
			return emptied
		}
	default:
		if op.Op == "remove" {
			return removed
		}
		if isBlank(value) {
			return emptied
		}
	}
	return none
}
