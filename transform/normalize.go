package transform

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"scimgate/transform/scim"
)

// Note tells of one thing that was reshaped, without any value.
type Note struct {
	Path string // attribute path
	What string // "boolean as text", "operation without path", ...
}

// Normalize turns a request in a provisioning client's dialect into one that RFC 7643 and RFC 7644 would
// recognise. What it changes is decided by the schema alone: an attribute is never guessed from its value, and
// the client is never detected. It knows the shapes that Entra sends, default and with aadOptscim062020:
//
//   - booleans as "True" and "False"; null and empty arrays, which unassign (RFC 7643, Section 2.5)
//   - extension attributes beside the core ones, or under a URN-qualified or dotted name
//   - manager as a bare string, in an array, or as "" and {"value":""}, which unassign it
//   - an array with one element for a singular attribute; one element for a multi-valued one in PATCH
//   - PATCH without path, with dotted, URN-qualified and value-filter names: one operation for each attribute
//   - `remove` with a value: one `remove` with a value filter for each element
//
// The argument is not changed. The error is an *Error.
func Normalize(req *scim.Request) (*scim.Request, []Note, error) {
	n := normalizer{rt: req.Type}
	out := *req
	var err error
	switch req.Op {
	case scim.OpCreate, scim.OpReplace:
		out.Resource = n.resource(req.Resource)
	case scim.OpPatch:
		out.Operations, err = n.operations(req.Operations)
	case scim.OpQuery:
		out.Query.Filter = n.filter(req.Query.Filter)
	}
	return &out, n.notes, err
}

type normalizer struct {
	rt    *scim.ResourceType
	notes []Note
}

func (n *normalizer) note(path, what string) { n.notes = append(n.notes, Note{path, what}) }

func (n *normalizer) resource(r scim.Resource) scim.Resource {
	out := scim.Resource{}
	var loose []string // names that are not attributes of the core schema
	for _, name := range slices.Sorted(maps.Keys(r)) {
		v := r[name]
		switch t, ok := n.rt.Resolve(scim.AttributePath{AttributeName: name}); {
		case n.rt.Extension(name) != nil:
			if ext, isObject := v.(map[string]any); isObject {
				n.extension(out, n.rt.Extension(name), ext)
			} else if v != nil {
				out[name] = v
			}
		case ok && t.Ref.Schema == "":
			n.set(out, t, v)
		default:
			loose = append(loose, name)
		}
	}
	for _, name := range loose {
		n.loose(out, name, r[name])
	}
	// An extension that is not listed is Entra's habit; without the core schema it is another resource, or none.
	if out["schemas"] = r["schemas"]; n.rt.CheckSchemas(out) == nil {
		n.rt.SetSchemas(out)
	}
	return out
}

func (n *normalizer) extension(out scim.Resource, e *scim.Schema, ext map[string]any) {
	for name, v := range ext {
		if a := e.Attribute(name); a != nil {
			n.set(out, scim.Target{Ref: scim.Ref{Schema: e.ID, Name: a.Name}, Attribute: a}, v)
		} else if v != nil {
			out.Set(scim.Ref{Schema: e.ID, Name: name}, v)
		}
	}
}

// loose places an attribute that stands at the top although it belongs elsewhere: an extension's attribute, or a
// URN-qualified or dotted name. What already stands in its place wins.
func (n *normalizer) loose(out scim.Resource, name string, v any) {
	p, err := scim.ParsePath(name)
	if err != nil || p.ValueExpression != nil {
		keepUnknown(out, name, v)
		return
	}
	t, ok := n.rt.ResolvePath(p)
	if !ok {
		keepUnknown(out, name, v)
		return
	}
	if out.Get(t.Ref) != nil {
		n.note(t.Ref.String(), "given twice: the one in its place was taken")
		return
	}
	n.note(t.Ref.String(), "moved to its place in the schema")
	if t.Sub == nil {
		n.set(out, t, v)
		return
	}
	if v = n.value(t.Ref.String(), t.Sub, v, false); v == nil || t.Attribute.MultiValued {
		return
	}
	parent, _ := out.Get(t.Ref.Parent()).(map[string]any)
	parent = maps.Clone(parent)
	if parent == nil {
		parent = map[string]any{}
	}
	parent[t.Sub.Name] = v
	out.Set(t.Ref, parent)
}

func keepUnknown(out scim.Resource, name string, v any) {
	if v != nil {
		out[name] = v
	}
}

func (n *normalizer) set(out scim.Resource, t scim.Target, v any) {
	if v = n.value(t.Ref.String(), t.Attribute, v, false); !scim.Empty(v) {
		out.Set(t.Ref, v)
	}
}

// value gives a value the form that its attribute's definition asks for, where that is not in doubt. What it
// cannot place stays as it is, for validation to refuse. In PATCH a multi-valued attribute may have one element
// for its value.
func (n *normalizer) value(path string, a *scim.Attribute, v any, patch bool) any {
	if a.MultiValued {
		list, ok := v.([]any)
		if !ok {
			if v == nil || !patch {
				return v
			}
			n.note(path, "one element in place of an array")
			list = []any{v}
		}
		out := make([]any, 0, len(list))
		for i, e := range list {
			if e = n.singular(path+"["+strconv.Itoa(i)+"]", a, e); e != nil {
				out = append(out, e)
			}
		}
		return out
	}
	if list, ok := v.([]any); ok {
		switch len(list) {
		case 0:
			return nil
		case 1:
			n.note(path, "array in place of a single value")
			v = list[0]
			if m, ok := v.(map[string]any); ok && a.Kind != scim.Complex && m["value"] != nil {
				v = m["value"]
			}
		}
	}
	return n.singular(path, a, v)
}

func (n *normalizer) singular(path string, a *scim.Attribute, v any) any {
	switch a.Kind {
	case scim.Boolean:
		if s, ok := v.(string); ok {
			if b, ok := booleanText(s); ok {
				n.note(path, "boolean as text")
				return b
			}
		}
		return v
	case scim.Complex:
		if s, ok := v.(string); ok && !a.MultiValued && a.SubAttribute("value") != nil {
			if s == "" {
				return nil
			}
			n.note(path, "string in place of an object")
			return map[string]any{"value": s}
		}
		m, ok := v.(map[string]any)
		if !ok {
			return v
		}
		out := make(map[string]any, len(m))
		for name, e := range m {
			if sub := a.SubAttribute(name); sub != nil {
				if e = n.value(path+"."+sub.Name, sub, e, false); e != nil {
					out[sub.Name] = e
				}
			} else if e != nil {
				out[name] = e
			}
		}
		if value, ok := out["value"]; ok && value == "" && !a.MultiValued {
			return nil
		}
		return out
	default:
		return v
	}
}

func booleanText(s string) (value, ok bool) {
	switch {
	case strings.EqualFold(s, "true"):
		return true, true
	case strings.EqualFold(s, "false"):
		return false, true
	}
	return false, false
}

func (n *normalizer) operations(ops []scim.PatchOp) ([]scim.PatchOp, error) {
	var out []scim.PatchOp
	for i, op := range ops {
		var err error
		if op.Path == nil {
			out, err = n.pathless(out, op)
		} else {
			out, err = n.operation(out, op)
		}
		if e, ok := err.(*scim.Error); ok {
			e.Detail = "Operations[" + strconv.Itoa(i) + "]: " + e.Detail
			return nil, e
		}
	}
	return out, nil
}

// pathless makes one operation for each member of the value (RFC 7644, Sections 3.5.2.1 and 3.5.2.3: "the target
// location is assumed to be the resource itself"). Members that no schema has are kept as operations without a
// target, so that policy decides about them as it does in POST.
func (n *normalizer) pathless(out []scim.PatchOp, op scim.PatchOp) ([]scim.PatchOp, error) {
	members, ok := op.Value.(map[string]any)
	if !ok {
		return nil, scim.BadRequest(scim.InvalidValue, "value must be an object where there is no path")
	}
	n.note("", "operation without path")
	for _, name := range slices.Sorted(maps.Keys(members)) {
		v := members[name]
		if strings.EqualFold(name, "schemas") {
			continue
		}
		if e := n.rt.Extension(name); e != nil {
			ext, ok := v.(map[string]any)
			if !ok {
				return nil, scim.BadRequest(scim.InvalidValue, "%s must be an object", e.ID)
			}
			for _, sub := range slices.Sorted(maps.Keys(ext)) {
				var err error
				if out, err = n.member(out, op.Op, e.ID+":"+sub, ext[sub]); err != nil {
					return nil, err
				}
			}
			continue
		}
		var err error
		if out, err = n.member(out, op.Op, name, v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (n *normalizer) member(out []scim.PatchOp, verb, name string, v any) ([]scim.PatchOp, error) {
	p, err := scim.ParsePath(name)
	if err != nil {
		return nil, err
	}
	t, ok := n.rt.ResolvePath(p)
	op := scim.PatchOp{Op: verb, Path: p, Target: t, Value: v}
	if !ok {
		return append(out, op), nil
	}
	t.CanonicalizeValue(v)
	return n.operation(out, op)
}

func (n *normalizer) operation(out []scim.PatchOp, op scim.PatchOp) ([]scim.PatchOp, error) {
	if op.Target.Attribute == nil {
		if e := n.rt.Extension(scim.FormatPath(op.Path)); e != nil { // the extension as a whole
			return n.wholeExtension(out, op, e)
		}
		return nil, scim.BadRequest(scim.InvalidPath, "path %s names no attribute of %s", quotePath(op.Path), n.rt.Name)
	}
	op.Path = n.path(op.Path, op.Target)
	path := scim.FormatPath(op.Path)
	if op.Op == "remove" {
		return n.remove(out, op, path)
	}
	leaf := *op.Target.Leaf()
	if op.Path.ValueExpression != nil && op.Target.Sub == nil {
		leaf.MultiValued = false // the filter picks elements: the value is one
	}
	given := op.Value
	op.Value = n.value(path, &leaf, op.Value, true)
	if op.Value == nil {
		// null, or a manager of "": unassign (RFC 7643, Section 2.5). Adding nothing is no operation.
		if op.Op == "add" && given == nil {
			n.note(path, "nothing to add")
			return out, nil
		}
		n.note(path, "null removes")
		op.Op = "remove"
	}
	return append(out, op), nil
}

func (n *normalizer) wholeExtension(out []scim.PatchOp, op scim.PatchOp, e *scim.Schema) ([]scim.PatchOp, error) {
	if op.Op == "remove" {
		for _, a := range e.Attributes {
			t, _ := n.rt.Lookup(scim.Ref{Schema: e.ID, Name: a.Name})
			out = append(out, scim.PatchOp{Op: "remove", Path: n.path(&scim.Path{}, t), Target: t})
		}
		return out, nil
	}
	ext, ok := op.Value.(map[string]any)
	if !ok {
		return nil, scim.BadRequest(scim.InvalidValue, "%s must be an object", e.ID)
	}
	for _, name := range slices.Sorted(maps.Keys(ext)) {
		if e.Attribute(name) == nil {
			return nil, scim.BadRequest(scim.InvalidPath, "%s is no attribute of %s", strconv.Quote(name), e.ID)
		}
		var err error
		if out, err = n.member(out, op.Op, e.ID+":"+name, ext[name]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// remove turns `remove` with a value, as Entra sends it for members, into one `remove` for each element it
// names. Read to the letter, the path alone would remove everybody.
func (n *normalizer) remove(out []scim.PatchOp, op scim.PatchOp, path string) ([]scim.PatchOp, error) {
	a := op.Target.Attribute
	if op.Value == nil || !a.MultiValued || op.Path.ValueExpression != nil || op.Target.Sub != nil {
		op.Value = nil
		return append(out, op), nil
	}
	list, ok := op.Value.([]any)
	if !ok {
		list = []any{op.Value}
	}
	if len(list) == 0 {
		n.note(path, "no element to remove")
	}
	for _, e := range list {
		filter := elementFilter(a, e)
		if filter == nil {
			return nil, scim.BadRequest(scim.InvalidValue, "the value of remove at %s must name elements by their value", path)
		}
		p := *op.Path
		p.ValueExpression = filter
		n.note(path, "remove with a value")
		out = append(out, scim.PatchOp{Op: "remove", Path: &p, Target: op.Target})
	}
	return out, nil
}

// elementFilter picks one element: by its value and, where it is given, its type.
func elementFilter(a *scim.Attribute, e any) scim.Filter {
	m, ok := e.(map[string]any)
	if !ok {
		m = map[string]any{"value": e}
	}
	var filter scim.Filter
	for _, name := range []string{"value", "type"} {
		s, ok := m[name].(string)
		if !ok || a.Kind == scim.Complex && a.SubAttribute(name) == nil {
			continue
		}
		term := &scim.AttributeExpression{AttributePath: scim.AttributePath{AttributeName: name}, Operator: scim.Eq, CompareValue: s}
		if filter == nil {
			filter = term
		} else {
			filter = &scim.LogicalExpression{Left: filter, Right: term, Operator: scim.And}
		}
	}
	return filter
}

// path gives a path the schema's spelling: extension attributes with their URN, core attributes without.
func (n *normalizer) path(p *scim.Path, t scim.Target) *scim.Path {
	out := &scim.Path{AttributePath: scim.AttributePath{AttributeName: t.Ref.Name}}
	if t.Ref.Schema != "" {
		urn := t.Ref.Schema
		out.AttributePath.URIPrefix = &urn
	}
	if t.Ref.Sub != "" {
		sub := t.Ref.Sub
		if p.ValueExpression != nil {
			out.SubAttribute = &sub
		} else {
			out.AttributePath.SubAttribute = &sub
		}
	}
	if p.ValueExpression != nil {
		out.ValueExpression = n.valueFilter(p.ValueExpression, t.Attribute)
	}
	return out
}

// filter gives the values of a filter the type of their attribute, where a client sent a boolean as text.
func (n *normalizer) filter(f scim.Filter) scim.Filter {
	return n.rewrite(f, func(p scim.AttributePath) (scim.AttributePath, *scim.Attribute) {
		t, ok := n.rt.Resolve(p)
		if !ok {
			return p, nil
		}
		return p, t.Leaf()
	})
}

func (n *normalizer) valueFilter(f scim.Filter, a *scim.Attribute) scim.Filter {
	return n.rewrite(f, func(p scim.AttributePath) (scim.AttributePath, *scim.Attribute) {
		sub := a.SubAttribute(p.AttributeName)
		if sub == nil {
			return p, nil
		}
		p.AttributeName = sub.Name
		return p, sub
	})
}

func (n *normalizer) rewrite(f scim.Filter, lookup func(scim.AttributePath) (scim.AttributePath, *scim.Attribute)) scim.Filter {
	switch f := f.(type) {
	case *scim.LogicalExpression:
		return &scim.LogicalExpression{Left: n.rewrite(f.Left, lookup), Right: n.rewrite(f.Right, lookup), Operator: f.Operator}
	case *scim.NotExpression:
		return &scim.NotExpression{Expression: n.rewrite(f.Expression, lookup)}
	case *scim.ValuePath:
		_, a := lookup(f.AttributePath)
		if a == nil {
			return f
		}
		return &scim.ValuePath{AttributePath: f.AttributePath, ValueFilter: n.valueFilter(f.ValueFilter, a)}
	case *scim.AttributeExpression:
		out := *f
		path, a := lookup(f.AttributePath)
		out.AttributePath = path
		if s, ok := f.CompareValue.(string); ok && a != nil && a.Kind == scim.Boolean {
			if b, ok := booleanText(s); ok {
				n.note(path.String(), "boolean as text")
				out.CompareValue = b
			}
		}
		return &out
	default:
		return f
	}
}

// quotePath names the attribute of a path without the values of its filter, which may be personal.
func quotePath(p *scim.Path) string { return strconv.Quote(p.AttributePath.String()) }

// Validate checks a normalized request against the schema: types, required attributes, targets, the attributes
// and operators of a filter. What the upstream can do is not its business. The error is an *Error.
func Validate(req *scim.Request) error {
	switch req.Op {
	case scim.OpCreate, scim.OpReplace:
		return req.Type.Validate(req.Resource)
	case scim.OpPatch:
		for i, op := range req.Operations {
			if op.Target.Attribute == nil || op.Op == "remove" {
				continue
			}
			if err := op.Target.Check(op.Value); err != nil {
				if e, ok := err.(*scim.Error); ok {
					e.Detail = "Operations[" + strconv.Itoa(i) + "]: " + e.Detail
				}
				return err
			}
		}
	case scim.OpQuery:
		if req.Query.Filter != nil {
			_, err := req.Type.Attributes(req.Query.Filter)
			return err
		}
	case scim.OpGet, scim.OpDelete:
		if req.ID == "" {
			return scim.Errorf(http.StatusNotFound, "", "an id is required")
		}
	}
	return nil
}
