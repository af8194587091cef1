package transform

import (
	"maps"

	"scimgate/transform/scim"
)

// AddElements is for an upstream that refused a PATCH with noTarget. RFC 7644, Section 3.5.2.1 leaves open what `add`
// at a value filter means where no element matches it; Entra expects that the element is made. Of the operations it
// returns, each such one adds the element itself, made of the terms of its filter. current is the resource as the
// upstream has it. changed is false when no operation is of that kind: then the upstream meant something else.
func AddElements(rt *scim.ResourceType, current scim.Resource, ops []scim.PatchOp) (out []scim.PatchOp, changed bool) {
	made := map[string]map[string]any{} // by attribute and filter: later operations join the same element
	for _, op := range ops {
		element := missingElement(rt, current, op)
		if element == nil {
			out = append(out, op)
			continue
		}
		changed = true
		key := op.Target.Ref.Parent().String() + "[" + scim.Fold(scim.FormatFilter(op.Path.ValueExpression)) + "]"
		if first := made[key]; first != nil {
			maps.Copy(first, element)
			continue
		}
		made[key] = element
		whole, _ := rt.Lookup(op.Target.Ref.Parent())
		p := *op.Path
		p.ValueExpression, p.SubAttribute = nil, nil
		out = append(out, scim.PatchOp{Op: "add", Path: &p, Target: whole, Value: []any{element}})
	}
	return out, changed
}

// missingElement is the element that op would need; nil when op is no `add` at a value filter, when there is an
// element that matches, or when the filter does not say what to make.
func missingElement(rt *scim.ResourceType, current scim.Resource, op scim.PatchOp) map[string]any {
	if op.Op != "add" || op.Path == nil || op.Path.ValueExpression == nil || op.Target.Attribute == nil {
		return nil
	}
	whole, ok := rt.Lookup(op.Target.Ref.Parent())
	if !ok {
		return nil
	}
	list, _ := current.Get(whole.Ref).([]any)
	for _, e := range list {
		if rt.MatchValue(whole, op.Path.ValueExpression, e) {
			return nil
		}
	}
	element := scim.EqualTerms(op.Path.ValueExpression)
	if len(element) == 0 {
		return nil
	}
	if op.Target.Sub != nil {
		element[op.Target.Sub.Name] = op.Value
	} else if m, ok := op.Value.(map[string]any); ok {
		for name, v := range m {
			element[name] = v
		}
	}
	if !rt.MatchValue(whole, op.Path.ValueExpression, element) {
		return nil
	}
	return element
}
