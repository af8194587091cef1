package transform

import (
	"maps"
	"strings"

	"scimgate/transform/scim"
)

// AddElements is for an upstream that refused a PATCH with noTarget. RFC 7644, Section 3.5.2.1 leaves open what `add`
// at a value filter means where no element matches it; Entra expects that the element is made. Of the operations it
// returns, each such one adds the element itself, made of the terms of its filter. current is the resource as the
// upstream has it. changed is false when no operation is of that kind, or when another one has nothing to be about:
// then the upstream meant that.
func AddElements(rt *scim.ResourceType, current scim.Resource, ops []scim.PatchOp) (out []scim.PatchOp, changed bool) {
	made := map[string]map[string]any{} // by attribute and filter: operations that follow join the same element
	patch := rt.BeginPatch(current)
	for _, op := range ops {
		whole, element := newElement(rt, op)
		attribute := op.Target.Ref.Parent().String() + "["
		key := attribute
		there := false
		if element != nil {
			key += scim.Fold(scim.FormatFilter(op.Path.ValueExpression)) + "]"
			there, _ = patch.Has(whole, op.Path.ValueExpression) // Apply meets the same error
		}
		switch first := made[key]; {
		case first != nil:
			given, _ := op.Value.(map[string]any)
			for name, v := range element { // what the filter asks for, the element has already
				if first[name] == nil || name == op.Target.Ref.Sub || given[name] != nil {
					first[name] = v
				}
			}
		case element != nil && !there:
			changed = true
			made[key] = element
			p := *op.Path
			p.ValueExpression, p.SubAttribute = nil, nil
			out = append(out, scim.PatchOp{Op: "add", Path: &p, Target: whole, Value: []any{element}})
		default:
			out = append(out, op)
			maps.DeleteFunc(made, func(key string, _ map[string]any) bool { return strings.HasPrefix(key, attribute) })
		}
		if patch.Apply(&op) != nil {
			return ops, false
		}
	}
	return out, changed
}

// newElement is the element that op would need where there is none, and its attribute; nil when op is no `add` at a
// value filter, or when the filter does not say what to make.
func newElement(rt *scim.ResourceType, op scim.PatchOp) (scim.Target, map[string]any) {
	if op.Op != "add" || op.Path == nil || op.Path.ValueExpression == nil || op.Target.Attribute == nil {
		return scim.Target{}, nil
	}
	whole, ok := rt.Lookup(op.Target.Ref.Parent())
	element := scim.EqualTerms(op.Path.ValueExpression)
	if !ok || len(element) == 0 {
		return scim.Target{}, nil
	}
	if op.Target.Sub != nil {
		element[op.Target.Sub.Name] = op.Value
	} else if m, ok := op.Value.(map[string]any); ok {
		maps.Copy(element, m)
	}
	if !rt.MatchValue(whole, op.Path.ValueExpression, element) {
		return scim.Target{}, nil
	}
	return whole, element
}
