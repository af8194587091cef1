package transform

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"scimgate/transform/scim"
)

// Note tells of one thing that was reshaped, without any value.
type Note struct {
	Path string // attribute path without value filter; "" when it is about a whole operation
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
//   - displayName for the display of an element, as RFC 7644, Figure 8 has it of a member
//   - PATCH without path, with dotted, URN-qualified and value-filter names: one operation for each attribute
//   - `remove` with a value: one `remove` with a value filter for each element
//
// Paths and names in filters get the schema's spelling: extension attributes with their URN, core ones without.
// Normalizing what is normalized changes nothing. Notes come sorted, each once. The argument is not changed. The
// error is an *Error.
func Normalize(req *scim.Request) (*scim.Request, []Note, error) {
	n := normalizer{rt: req.Type, id: req.ID}
	out := *req
	var err error
	switch req.Op {
	case scim.OpCreate, scim.OpReplace:
		out.Resource, err = n.resource(req.Resource)
	case scim.OpPatch:
		out.Operations, err = n.operations(req.Operations)
	case scim.OpQuery:
		out.Query.Filter = n.filter(req.Query.Filter)
	}
	slices.SortFunc(n.notes, func(a, b Note) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.What, b.What))
	})
	return &out, n.notes, err
}

type normalizer struct {
	rt    *scim.ResourceType
	id    string // of the resource, for PATCH
	notes []Note
}

func (n *normalizer) note(ref scim.Ref, what string) {
	if note := (Note{ref.String(), what}); !slices.Contains(n.notes, note) {
		n.notes = append(n.notes, note)
	}
}

func (n *normalizer) resource(r scim.Resource) (scim.Resource, error) {
	out := make(scim.Resource, len(r))
	var loose []string // names that are not attributes of the core schema
	for name, v := range r {
		if e := n.rt.Extension(name); e != nil {
			n.extension(out, e, v)
		} else if t, ok := n.rt.Resolve(scim.AttributePath{AttributeName: name}); ok && t.Ref.Schema == "" {
			n.set(out, t, v)
		} else {
			loose = append(loose, name)
		}
	}
	slices.Sort(loose)
	loose = slices.DeleteFunc(loose, func(name string) bool { return n.loose(out, name, r[name]) })
	out, err := n.elements(out, r, loose)
	if err != nil {
		return nil, err
	}
	n.schemas(out)
	return out, nil
}

// schemas completes a list that names the type by the extensions that have values. Any other list is left for
// validation to refuse.
func (n *normalizer) schemas(out scim.Resource) {
	list, _ := out["schemas"].([]any)
	listed := func(urn string) bool {
		return slices.ContainsFunc(list, func(v any) bool { s, ok := v.(string); return ok && strings.EqualFold(s, urn) })
	}
	if !listed(n.rt.Core.ID) || slices.ContainsFunc(list, func(v any) bool { _, ok := v.(string); return !ok }) {
		return
	}
	for _, e := range n.rt.Extensions {
		if out[e.ID] != nil && !listed(e.ID) {
			n.note(refSchemas, "an extension with values was not listed")
		}
	}
	n.rt.SetSchemas(out)
}

func (n *normalizer) extension(out scim.Resource, e *scim.Schema, v any) {
	members, ok := v.(map[string]any)
	if !ok {
		if !scim.Empty(v) {
			out[e.ID] = v // for validation to refuse
		}
		return
	}
	for name, v := range members {
		if a := e.Attribute(name); a != nil {
			n.set(out, scim.Target{Ref: scim.Ref{Schema: e.ID, Name: a.Name}, Attribute: a}, v)
		} else if v != nil {
			out.Set(scim.Ref{Schema: e.ID, Name: name}, v)
		}
	}
}

// loose places an attribute that stands at the top although it belongs elsewhere: an extension's attribute, or a
// URN-qualified or dotted name. What already stands in its place wins. A name that leads nowhere stays as it is:
// policy decides about it. For a name with a value filter that leads somewhere it is false: see elements.
func (n *normalizer) loose(out scim.Resource, name string, v any) bool {
	if v == nil {
		return true
	}
	p, err := scim.ParsePath(name)
	t, ok := scim.Target{}, false
	if err == nil {
		t, ok = n.rt.ResolvePath(p)
	}
	switch {
	case !ok || t.Ref.Schema != "" && notObject(out[t.Ref.Schema]):
		out[name] = v
	case p.ValueExpression != nil:
		return false
	case t.Sub != nil && t.Attribute.MultiValued: // of which element?
		out[name] = v
	case out.Get(t.Ref) != nil:
		n.note(t.Ref, "given twice: the one in its place was taken")
	case t.Sub == nil:
		n.note(t.Ref, "moved to its place in the schema")
		n.set(out, t, v)
	default:
		n.note(t.Ref, "moved to its place in the schema")
		n.member(out, t, v)
	}
	return true
}

// member puts a sub-attribute into the object it belongs to. An object of the wrong type is left for validation to
// refuse.
func (n *normalizer) member(out scim.Resource, t scim.Target, v any) {
	parent := out.Get(t.Ref.Parent())
	if v = n.value(t.Ref, t.Sub, v); scim.Empty(v) || notObject(parent) {
		return
	}
	members, _ := parent.(map[string]any)
	if members = maps.Clone(members); members == nil {
		members = map[string]any{}
	}
	members[t.Sub.Name] = v
	out.Set(t.Ref, n.object(t.Ref.Parent(), t.Attribute, members))
}

// elements puts values where names with a value filter lead, as a PATCH that adds them would. A name that this fails
// for stays as it is.
func (n *normalizer) elements(out, r scim.Resource, names []string) (scim.Resource, error) {
	if len(names) == 0 {
		return out, nil
	}
	patch := n.rt.BeginPatch(out)
	out = patch.Resource()
	for _, name := range names {
		err := n.element(patch, name, r[name])
		if e, ok := errors.AsType[*scim.Error](err); ok && e.Status != http.StatusBadRequest {
			return nil, err
		} else if err != nil {
			out[name] = r[name]
		}
	}
	return out, nil
}

func (n *normalizer) element(patch *scim.Patch, name string, v any) error {
	p, err := scim.ParsePath(name)
	if err != nil {
		return err
	}
	t, _ := n.rt.ResolvePath(p)
	if has := patch.Resource().Get(t.Ref.Parent()); has != nil && !isList(has) {
		return errNoElement // refused for what it is
	}
	before := len(n.notes)
	op := scim.PatchOp{Op: "add", Path: canonical(p, t, n.note), Target: t, Value: v}
	op.Value = n.patchValue(op)
	if err := patch.Apply(&op); err != nil {
		n.notes = n.notes[:before]
		return err
	}
	n.note(t.Ref, "moved to its place in the schema")
	return nil
}

func isList(v any) bool { _, ok := v.([]any); return ok }

func notObject(v any) bool {
	_, ok := v.(map[string]any)
	return v != nil && !ok
}

func (n *normalizer) set(out scim.Resource, t scim.Target, v any) {
	if v = n.value(t.Ref, t.Attribute, v); !scim.Empty(v) {
		out.Set(t.Ref, v)
	}
}

// value gives the value of an attribute the form that its definition asks for, where that is not in doubt; nil
// when it unassigns. What it cannot place stays as it is, for validation to refuse.
func (n *normalizer) value(ref scim.Ref, a *scim.Attribute, v any) any {
	list, isList := v.([]any)
	switch {
	case !isList && a.MultiValued:
		return v
	case !isList:
		return n.singular(ref, a, v)
	case !a.MultiValued:
		return n.singular(ref, a, n.only(ref, a, list))
	}
	out := make([]any, 0, len(list))
	for _, e := range list {
		if e = n.singular(ref, a, e); !scim.Empty(e) {
			out = append(out, e)
		}
	}
	if len(out) > 1 && a.Kind == scim.Complex {
		out = n.distinct(ref, out)
	}
	return out
}

// distinct leaves out elements that stand there twice: no pair of type and value is to be returned more than once (RFC
// 7643, Section 2.4). Those that differ in anything else stay as they were sent.
func (n *normalizer) distinct(ref scim.Ref, list []any) []any {
	type pair struct{ value, kind string }
	first := make(map[pair]map[string]any, len(list))
	return slices.DeleteFunc(list, func(e any) bool {
		m, _ := e.(map[string]any)
		p := pair{}
		p.value, _ = m["value"].(string)
		p.kind, _ = m["type"].(string)
		twin := first[p]
		if twin == nil {
			first[p] = m
		}
		if p.value == "" || twin == nil || !scim.EqualValues(twin, m) {
			return false
		}
		n.note(ref, "the same value twice")
		return true
	})
}

// only takes the element out of an array that stands for a single value. An object with a simple value in it, as
// Entra wraps it, stands for that value.
func (n *normalizer) only(ref scim.Ref, a *scim.Attribute, list []any) any {
	if len(list) == 0 {
		return nil
	}
	if _, nested := list[0].([]any); nested || len(list) > 1 {
		return list
	}
	n.note(ref, "array in place of a single value")
	m, ok := list[0].(map[string]any)
	if !ok || a.Kind == scim.Complex {
		return list[0]
	}
	switch m["value"].(type) {
	case nil, map[string]any, []any:
		return m
	default:
		return m["value"]
	}
}

func (n *normalizer) singular(ref scim.Ref, a *scim.Attribute, v any) any {
	switch v := v.(type) {
	case string:
		if b, ok := booleanText(v); ok && a.Kind == scim.Boolean {
			n.note(ref, "boolean as text")
			return b
		}
		if a.Kind == scim.Complex && !a.MultiValued && a.SubAttribute("value") != nil {
			if v == "" {
				return nil
			}
			n.note(ref, "string in place of an object")
			return map[string]any{"value": v}
		}
	case map[string]any:
		if a.Kind == scim.Complex {
			return n.object(ref, a, v)
		}
	}
	return v
}

// object is singular for a complex value. One without its value, as {"value":""} for manager, is none.
func (n *normalizer) object(ref scim.Ref, a *scim.Attribute, m map[string]any) any {
	out := make(map[string]any, len(m))
	before := len(n.notes)
	for name, v := range m {
		sub := a.SubAttribute(name)
		if sub == nil && a.MultiValued && strings.EqualFold(name, "displayName") && m["display"] == nil {
			if sub = a.SubAttribute("display"); sub != nil {
				n.note(scim.Ref{Schema: ref.Schema, Name: ref.Name, Sub: sub.Name}, "displayName in place of display")
			}
		}
		if sub != nil {
			name, ref.Sub = sub.Name, sub.Name
			v = n.value(ref, sub, v)
		}
		if name == "value" && !a.MultiValued && (v == nil || v == "") {
			n.notes = n.notes[:before]
			return nil
		}
		if v != nil {
			out[name] = v
		}
	}
	return out
}

func booleanText(s string) (value, ok bool) {
	value = strings.EqualFold(s, "true")
	return value, value || strings.EqualFold(s, "false")
}

// canonical gives a path that leads to t the schema's spelling.
func canonical(p *scim.Path, t scim.Target, note func(scim.Ref, string)) *scim.Path {
	out := &scim.Path{AttributePath: scim.AttributePath{AttributeName: t.Ref.Name}}
	if urn := t.Ref.Schema; urn != "" {
		out.AttributePath.URIPrefix = &urn
	}
	sub := &t.Ref.Sub
	if t.Sub == nil {
		sub = nil
	}
	if p.ValueExpression == nil {
		out.AttributePath.SubAttribute = sub
		return out
	}
	out.SubAttribute = sub
	out.ValueExpression = rewrite(p.ValueExpression, within(t), note)
	return out
}

func (n *normalizer) filter(f scim.Filter) scim.Filter {
	return rewrite(f, func(p scim.AttributePath) (scim.AttributePath, scim.Target, bool) {
		t, ok := n.rt.Resolve(p)
		if !ok {
			return p, t, false
		}
		return canonical(&scim.Path{}, t, nil).AttributePath, t, true
	}, n.note)
}

// lookup finds what a path in a filter names, and its canonical form; ok is false when there is none.
type lookup func(scim.AttributePath) (path scim.AttributePath, t scim.Target, ok bool)

// within looks names up among the sub-attributes of t's attribute.
func within(t scim.Target) lookup {
	return func(p scim.AttributePath) (scim.AttributePath, scim.Target, bool) {
		sub := t.Attribute.SubAttribute(p.AttributeName)
		if sub == nil || p.URIPrefix != nil || p.SubAttribute != nil {
			return p, scim.Target{}, false
		}
		ref := t.Ref.Parent()
		ref.Sub = sub.Name
		return scim.AttributePath{AttributeName: sub.Name}, scim.Target{Ref: ref, Attribute: t.Attribute, Sub: sub}, true
	}
}

// rewrite gives the names in a filter the schema's spelling, and values the type of their attribute where a
// client sent a boolean as text. Names that find finds nothing for stay, for validation to refuse.
func rewrite(f scim.Filter, find lookup, note func(scim.Ref, string)) scim.Filter {
	switch f := f.(type) {
	case *scim.LogicalExpression:
		return &scim.LogicalExpression{Left: rewrite(f.Left, find, note), Right: rewrite(f.Right, find, note), Operator: f.Operator}
	case *scim.NotExpression:
		return &scim.NotExpression{Expression: rewrite(f.Expression, find, note)}
	case *scim.ValuePath:
		path, t, ok := find(f.AttributePath)
		if !ok {
			return f
		}
		return &scim.ValuePath{AttributePath: path, ValueFilter: rewrite(f.ValueFilter, within(t), note)}
	case *scim.AttributeExpression:
		path, t, ok := find(f.AttributePath)
		if !ok {
			return f
		}
		out := &scim.AttributeExpression{AttributePath: path, Operator: f.Operator, CompareValue: f.CompareValue}
		if s, isText := f.CompareValue.(string); isText && t.Leaf().Kind == scim.Boolean {
			if b, ok := booleanText(s); ok {
				out.CompareValue = b
				if note != nil {
					note(t.Ref, "boolean as text")
				}
			}
		}
		return out
	default:
		return f
	}
}
