package transform

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"scimgate/transform/scim"
)

func (n *normalizer) operations(ops []scim.PatchOp) ([]scim.PatchOp, error) {
	out := make([]scim.PatchOp, 0, len(ops))
	for i, op := range ops {
		var err error
		if op.Path == nil {
			out, err = n.pathless(out, op)
		} else {
			out, err = n.operation(out, op)
		}
		if err != nil {
			return nil, inOperation(i, err)
		}
		if len(out) > scim.MaxOperations {
			return nil, scim.TooManyOperations()
		}
	}
	return out, nil
}

// inOperation tells in an error which operation it is about.
func inOperation(i int, err error) error {
	e, ok := errors.AsType[*scim.Error](err)
	if !ok {
		return err
	}
	c := *e
	c.Detail = "Operations[" + strconv.Itoa(i) + "]: " + e.Detail
	return &c
}

// pathless makes one operation for each member of the value (RFC 7644, Sections 3.5.2.1 and 3.5.2.3: "the target
// location is assumed to be the resource itself").
func (n *normalizer) pathless(out []scim.PatchOp, op scim.PatchOp) ([]scim.PatchOp, error) {
	members, ok := op.Value.(map[string]any)
	switch {
	case op.Op == "remove":
		return nil, scim.BadRequest(scim.NoTarget, "remove needs a path")
	case !ok:
		return nil, scim.BadRequest(scim.InvalidValue, "value must be an object where there is no path")
	}
	n.note(scim.Ref{}, "operation without path")
	for _, name := range slices.Sorted(maps.Keys(members)) {
		v := members[name]
		if strings.EqualFold(name, "id") && v == n.id {
			n.note(refID, "the id it has: nothing to do") // clients send it along with what they change
			continue
		}
		var err error
		if e := n.rt.Extension(name); e != nil {
			out, err = n.wholeExtension(out, op.Op, e, v, false)
		} else {
			out, err = n.named(out, op.Op, name, v)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// named is one member of a value without path. Its name may be a path of any kind: Entra's are. A name that no
// schema has becomes an operation whose target has a name and no definition, so that policy decides about it as
// it does in POST; one with a value filter was meant for an attribute and is refused as a path would be.
func (n *normalizer) named(out []scim.PatchOp, verb, name string, v any) ([]scim.PatchOp, error) {
	p, err := scim.ParsePath(name)
	if err == nil {
		if t, ok := n.rt.ResolvePath(p); ok {
			v = scim.CloneValue(v)
			t.CanonicalizeValue(v)
			return n.operation(out, scim.PatchOp{Op: verb, Path: p, Target: t, Value: v})
		}
	}
	switch {
	case strings.Contains(name, "[") && err != nil:
		return nil, err
	case strings.Contains(name, "["):
		return nil, n.noAttribute(p)
	case v == nil:
		return out, nil
	}
	return append(out, scim.PatchOp{
		Op: verb, Path: &scim.Path{AttributePath: scim.AttributePath{AttributeName: name}},
		Target: scim.Target{Ref: scim.Ref{Name: name}}, Value: v,
	}), nil
}

// noAttribute quotes only the attribute of a path: the values of its filter may be personal.
func (n *normalizer) noAttribute(p *scim.Path) error {
	if t, ok := n.rt.Resolve(p.AttributePath); ok {
		return scim.BadRequest(scim.InvalidPath, "the value filter or sub-attribute behind %s does not fit it", t.Ref)
	}
	return scim.BadRequest(scim.InvalidPath, "path %s names no attribute of %s", strconv.Quote(p.AttributePath.String()), n.rt.Name)
}

// wholeExtension makes one operation for each attribute of an extension. Where its URN is the path, a name that
// it does not have is refused: the path said what the names are.
func (n *normalizer) wholeExtension(out []scim.PatchOp, verb string, e *scim.Schema, v any, strict bool) ([]scim.PatchOp, error) {
	if v == nil && verb == "add" {
		return out, nil
	}
	if v == nil || verb == "remove" {
		for _, a := range e.Attributes {
			t := scim.Target{Ref: scim.Ref{Schema: e.ID, Name: a.Name}, Attribute: a}
			out = append(out, scim.PatchOp{Op: "remove", Path: canonical(&scim.Path{}, t, nil), Target: t})
		}
		return out, nil
	}
	members, ok := v.(map[string]any)
	if !ok {
		return nil, scim.BadRequest(scim.InvalidValue, "%s must be an object", e.ID)
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if e.Attribute(name) == nil && strings.EqualFold(name, refSchemas.Name) { // some write it in an extension, too
			n.note(refSchemas, "follows from the attributes: nothing to do")
			continue
		}
		if strict && e.Attribute(name) == nil {
			return nil, scim.BadRequest(scim.InvalidPath, "%s has no attribute of that name: %s", e.ID, scim.QuoteName(name))
		}
		var err error
		if out, err = n.named(out, verb, e.ID+":"+name, members[name]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (n *normalizer) operation(out []scim.PatchOp, op scim.PatchOp) ([]scim.PatchOp, error) {
	t := op.Target
	if t.Attribute == nil {
		if e := n.rt.PathExtension(op.Path); e != nil {
			return n.wholeExtension(out, op.Op, e, op.Value, true)
		}
		if t.Ref.Name != "" { // a member that no schema has
			return append(out, op), nil
		}
		return nil, n.noAttribute(op.Path)
	}
	if t.Ref == refSchemas {
		n.note(refSchemas, "follows from the attributes: nothing to do")
		return out, nil
	}
	op.Path = canonical(op.Path, t, n.note)
	if op.Op == "remove" {
		return n.remove(out, op)
	}
	given := op.Value
	whole := t.Sub == nil && op.Path.ValueExpression == nil
	if op.Value = n.patchValue(op); !scim.Empty(op.Value) {
		out = append(out, op)
	}
	switch {
	case whole && op.Op == "replace" && isObject(t, given) && op.Value != nil:
		return n.unassignMembers(out, op, given), nil
	case !scim.Empty(op.Value):
	case op.Op == "add" && blank(given):
		n.note(t.Ref, "nothing to add")
	default: // null, or a manager of "": unassign (RFC 7643, Section 2.5)
		n.note(t.Ref, "empty value removes")
		op.Op, op.Value = "remove", nil
		out = append(out, op)
	}
	return out, nil
}

// patchValue is value for an operation: the path may pick a part of an attribute, and one element may stand for
// an array of one.
func (n *normalizer) patchValue(op scim.PatchOp) any {
	t, v := op.Target, op.Value
	switch list, isList := v.([]any); {
	case t.Sub != nil || !t.Attribute.MultiValued:
		return n.value(t.Ref, t.Leaf(), v)
	case op.Path.ValueExpression != nil: // the filter picks elements: the value is one
		if isList {
			v = n.only(t.Ref, t.Attribute, list)
		}
		return n.singular(t.Ref, t.Attribute, v)
	case !isList && v != nil:
		n.note(t.Ref, "one element in place of an array")
		v = []any{v}
	}
	return n.value(t.Ref, t.Attribute, v)
}

// isObject reports whether a value for the singular complex attribute t is an object, or one in an array.
func isObject(t scim.Target, v any) bool {
	return t.Attribute.Kind == scim.Complex && !t.Attribute.MultiValued && single(v) != nil
}

func single(v any) map[string]any {
	if list, ok := v.([]any); ok && len(list) == 1 {
		v = list[0]
	}
	m, _ := v.(map[string]any)
	return m
}

// unassignMembers removes the sub-attributes that an object, the value of a replace, has as null. The others keep
// what they have: replace merges complex values (RFC 7644, Section 3.5.2.3).
func (n *normalizer) unassignMembers(out []scim.PatchOp, op scim.PatchOp, given any) []scim.PatchOp {
	members := single(given)
	if len(members) == 0 {
		n.note(op.Target.Ref, "nothing to replace")
	}
	for _, sub := range op.Target.Attribute.Sub {
		v, ok := members[sub.Name]
		if _, wrong := v.(map[string]any); !ok || wrong || !blank(v) || sub.ReadOnly() {
			continue
		}
		t := op.Target
		t.Sub, t.Ref.Sub = sub, sub.Name
		n.note(t.Ref, "empty value removes")
		out = append(out, scim.PatchOp{Op: "remove", Path: canonical(&scim.Path{}, t, nil), Target: t})
	}
	return out
}

// blank reports whether there is nothing in a value but null.
func blank(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !blank(e) })
	case map[string]any:
		for _, e := range v {
			if !blank(e) {
				return false
			}
		}
		return true
	default:
		return false
	}
}

// remove turns `remove` with a value, as Entra sends it for members, into one `remove` for each element it
// names. Read to the letter, the path alone would remove everybody.
func (n *normalizer) remove(out []scim.PatchOp, op scim.PatchOp) ([]scim.PatchOp, error) {
	t := op.Target
	if op.Value == nil || !t.Attribute.MultiValued || op.Path.ValueExpression != nil || t.Sub != nil {
		op.Value = nil
		return append(out, op), nil
	}
	list, ok := op.Value.([]any)
	if !ok {
		list = []any{op.Value}
	}
	if len(list) == 0 {
		n.note(t.Ref, "nothing to remove")
	}
	for _, e := range list {
		filter := elementFilter(t.Attribute, e)
		if filter == nil {
			return nil, scim.BadRequest(scim.InvalidValue, "the value of remove at %s must name elements by their value", t.Ref)
		}
		n.note(t.Ref, "remove with a value")
		p := *op.Path
		p.ValueExpression = filter
		out = append(out, scim.PatchOp{Op: "remove", Path: &p, Target: t})
	}
	return out, nil
}

// elementFilter picks one element: by its value and, where it is given, its type (RFC 7643, Section 2.4: together
// they are unique). A value that is immutable, as that of a member, is the id of something: the service provider may
// not even hold its type. Elements of an attribute without `value` are picked by all that is given. nil when that
// does not pick one: a type alone may be that of many.
func elementFilter(a *scim.Attribute, e any) scim.Filter {
	m, ok := e.(map[string]any)
	if !ok {
		m = map[string]any{"value": e}
	}
	sub := a.SubAttribute("value")
	hasValue := sub != nil
	isID := hasValue && sub.Mutability == "immutable"
	if value, ok := m["value"].(string); hasValue && (!ok || value == "") {
		return nil
	}
	var filter scim.Filter
	for _, sub := range a.Sub {
		s, ok := m[sub.Name].(string)
		if !ok || hasValue && sub.Name != "value" && (isID || sub.Name != "type") {
			continue
		}
		term := &scim.AttributeExpression{AttributePath: scim.AttributePath{AttributeName: sub.Name}, Operator: scim.Eq, CompareValue: s}
		if filter == nil {
			filter = term
		} else {
			filter = &scim.LogicalExpression{Left: filter, Right: term, Operator: scim.And}
		}
	}
	return filter
}
