package scim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// PatchOp is one operation of a PATCH (RFC 7644, Section 3.5.2).
type PatchOp struct {
	Op     string // "add", "remove", "replace" (lower case once read)
	Path   *Path  // nil: the resource itself
	Target Target // what Path leads to; zero without Path or when nothing has that name
	Value  any    // nil when absent or null
}

// ApplyPatch applies the operations in order to a copy of a resource with canonical names, and reports whether
// anything is different now (RFC 7644, Section 3.5.2). All operations apply or none: with an error there is no
// resource. Neither r nor the operations change, and the result shares nothing with them. `schemas` is made true;
// whether the result is valid as a whole is for [ResourceType.Validate] to say.
//
// Where the RFC leaves room:
//   - A value filter that selects nothing is noTarget for replace, as the RFC has it. For add, the values that the
//     filter asks for with eq make a new element, as Entra needs it, if the filter then selects it.
//   - remove of a whole multi-valued attribute with a value, which the RFC does not know, removes the elements
//     that have everything the value has. A value that fits no element removes none.
//   - replace with null removes, add with null does nothing.
//   - One object for a multi-valued attribute is one element. An added element with the value and type of another is
//     that element (RFC 7643, Section 2.4), so it completes it; so is a reference to a resource with no other type.
//   - A sub-attribute of a multi-valued attribute without a value filter means that of every element.
//   - Without a path, a read-only attribute is passed over as long as its value is the one it has.
//
// The error is an *Error, 400, that starts with the operation's place in the array, counted from 0.
func (rt *ResourceType) ApplyPatch(r Resource, ops []PatchOp) (Resource, bool, error) {
	p := rt.BeginPatch(r)
	for i := range ops {
		if err := p.Apply(&ops[i]); err != nil {
			place := "Operations[" + strconv.Itoa(i) + "]"
			if ops[i].Path != nil {
				place += fmt.Sprintf(".path %q", describePath(ops[i].Path))
			}
			return nil, false, prefix(place, err)
		}
	}
	if same(map[string]any(r), map[string]any(p.r)) {
		return p.r, false, nil
	}
	rt.SetSchemas(p.r)
	return p.r, true, nil
}

// prefix tells where an error is from. It makes a copy: errors may be shared.
func prefix(place string, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return fmt.Errorf("%s: %w", place, err)
	}
	c := *e
	c.Detail = place + ": " + c.Detail
	return &c
}

// Patch is a resource that operations change one after the other. Where they are many, it costs one copy and one look
// at each list, which an [ResourceType.ApplyPatch] for each would cost again and again. It belongs to one goroutine.
type Patch struct {
	rt   *ResourceType
	r    Resource
	own  map[Ref]bool  // multi-valued attributes whose list has nothing empty in it
	seen map[Ref]index // of lists that nothing but setList has changed since
	work int           // elements looked at
}

// BeginPatch makes a Patch of a copy of a resource with canonical names.
func (rt *ResourceType) BeginPatch(r Resource) *Patch {
	p := &Patch{rt: rt, r: r.Clone(), own: map[Ref]bool{}, seen: map[Ref]index{}}
	if p.r == nil {
		p.r = Resource{}
	}
	return p
}

// Resource is the resource as the operations so far have left it. It is the Patch's own, and `schemas` is not yet
// made true.
func (p *Patch) Resource() Resource { return p.r }

// Apply applies one operation, as [ResourceType.ApplyPatch] does. The error is an *Error: a 400, or a 413 when all
// operations together look at too much. After one the Patch is of no use any more, except that an add with a value
// filter that is a 400 has changed nothing.
func (p *Patch) Apply(op *PatchOp) error {
	if op.Op != "add" && op.Op != "remove" && op.Op != "replace" {
		return BadRequest(InvalidSyntax, "op must be add, remove or replace")
	}
	if op.Path == nil {
		return p.whole(op)
	}
	t := op.Target
	if t.Attribute == nil {
		var ok bool
		if t, ok = p.rt.ResolvePath(op.Path); !ok {
			if e := p.rt.PathExtension(op.Path); e != nil {
				return p.extension(op.Op, e, op.Value, true)
			}
			return BadRequest(InvalidPath, "%s has no such attribute", p.rt.Name)
		}
	}
	if err := t.Writable(); err != nil {
		return err
	}
	return p.change(op.Op, t, op.Path.ValueExpression, op.Value)
}

// whole applies an operation without a path: the value holds attributes.
func (p *Patch) whole(op *PatchOp) error {
	if op.Op == "remove" {
		return BadRequest(NoTarget, "remove needs a path")
	}
	value, ok := op.Value.(map[string]any)
	if !ok {
		return BadRequest(InvalidValue, "value must be an object where there is no path")
	}
	for _, name := range slices.Sorted(maps.Keys(value)) {
		if err := p.attribute(op.Op, name, value[name]); err != nil {
			return prefix("value "+QuoteName(name), err)
		}
	}
	return nil
}

// attribute sets one member of a value without a path. Names may be paths: Entra's are. What no schema knows is
// kept as it comes.
func (p *Patch) attribute(op, name string, value any) error {
	if e := p.rt.Extension(name); e != nil {
		return p.extension(op, e, value, false)
	}
	if path, err := ParsePath(name); err == nil {
		if t, ok := p.rt.ResolvePath(path); ok {
			return p.assign(op, t, path.ValueExpression, value)
		}
	}
	p.keep(op, Ref{Name: name}, value)
	return nil
}

// extension sets attributes of one extension; remove, and replace with null, unassign all of them. Names it does
// not have are refused when the path is the extension, because then the path was meant to say what they are.
func (p *Patch) extension(op string, e *Schema, value any, strict bool) error {
	if op == "remove" || op == "replace" && value == nil {
		for _, a := range e.Attributes {
			t := Target{Ref: Ref{Schema: e.ID, Name: a.Name}, Attribute: a}
			if Empty(p.r.Get(t.Ref)) {
				continue
			}
			if err := t.Writable(); err != nil {
				return err
			}
			if err := p.change("remove", t, nil, nil); err != nil {
				return err
			}
		}
		delete(p.r, e.ID)
		return nil
	}
	if value == nil {
		return nil
	}
	members, ok := value.(map[string]any)
	if !ok {
		return BadRequest(InvalidValue, "the value of an extension must be an object, not %s", kindOf(value))
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		a := e.Attribute(name)
		if a == nil && isSchemas(name) {
			continue
		}
		if a == nil && strict {
			return BadRequest(InvalidPath, "the extension has no attribute %s", QuoteName(name))
		}
		if a == nil {
			p.keep(op, Ref{Schema: e.ID, Name: name}, members[name])
			continue
		}
		t := Target{Ref: Ref{Schema: e.ID, Name: a.Name}, Attribute: a}
		if err := p.assign(op, t, nil, members[name]); err != nil {
			return err
		}
	}
	return nil
}

// isSchemas reports whether a name in an extension's value is that of the common attribute, which some clients write
// there too. The list of the resource tells of the extension.
func isSchemas(name string) bool { return strings.EqualFold(name, "schemas") }

// keep sets an attribute that no schema knows.
func (p *Patch) keep(op string, ref Ref, value any) {
	if value == nil && op == "add" {
		return
	}
	p.r.Set(ref, CloneValue(value))
}

// assign sets an attribute that was named in a value, not in a path. Clients send whole resources there, so what
// is read-only does no harm as long as nothing would change.
func (p *Patch) assign(op string, t Target, f Filter, value any) error {
	if err := t.Writable(); err != nil {
		if value == nil || holds(p.r.Get(t.Ref), value) {
			return nil
		}
		return err
	}
	return p.change(op, t, f, value)
}

// change applies an operation to one attribute and keeps the promises of its definition: required attributes stay
// assigned (RFC 7644, Section 3.5.2.2), immutable ones stay what they are once they have a value (Section 3.5.2).
// `schemas` is exempt: whatever a client asks for, it is made true in the end.
func (p *Patch) change(op string, t Target, f Filter, value any) error {
	ref := t.Ref.Parent()
	before := p.r.Get(ref)
	immutable := t.Attribute.Mutability == "immutable" && ref.Name != "schemas"
	if immutable {
		before = CloneValue(before)
	}
	assigned := !Empty(before)
	if err := p.set(op, t, f, value); err != nil {
		return err
	}
	after := p.r.Get(ref)
	if assigned && t.Attribute.Required && Empty(after) {
		return requiredError(ref)
	}
	if assigned && immutable && !same(before, after) {
		return immutableError(t)
	}
	return nil
}

func immutableError(t Target) error {
	return BadRequest(Mutability, "%s is immutable: it cannot change once it has a value", t.Ref)
}

func requiredError(ref Ref) error {
	return BadRequest(Mutability, "%s is required: it cannot be removed", ref)
}

func (p *Patch) set(op string, t Target, f Filter, value any) error {
	if op == "remove" {
		return p.remove(t, f, value)
	}
	if value == nil {
		if op == "add" {
			return nil
		}
		return p.remove(t, f, nil)
	}
	value = CloneValue(value)
	t.CanonicalizeValue(value)
	if m, ok := value.(map[string]any); ok && op == "add" {
		dropNulls(m)
	}
	if list, ok := value.([]any); ok && f != nil && t.Sub == nil {
		if len(list) != 1 {
			return BadRequest(InvalidValue, "value must be one element of %s, not an array of %d", t.Ref, len(list))
		}
		value = list[0]
	}
	if err := t.Check(value); err != nil {
		return err
	}
	switch {
	case t.Attribute.MultiValued && (f != nil || t.Sub != nil):
		return p.setSelected(op, t, f, value)
	case t.Attribute.MultiValued:
		return p.setList(op, t, value)
	case t.Sub != nil:
		return p.merge(t, map[string]any{t.Sub.Name: value})
	case t.Attribute.Kind == Complex:
		return p.merge(t, value.(map[string]any))
	default:
		p.r.Set(t.Ref, value)
		return nil
	}
}

// merge sets sub-attributes of an attribute with a single complex value; the others stay (RFC 7644, Section
// 3.5.2.3).
func (p *Patch) merge(t Target, value map[string]any) error {
	m, ok := p.r.Get(t.Ref.Parent()).(map[string]any)
	if !ok {
		m = map[string]any{}
	}
	if err := mergeInto(m, value, t); err != nil {
		return err
	}
	if len(m) == 0 {
		p.r.Remove(t.Ref.Parent())
	} else {
		p.r.Set(t.Ref, m)
	}
	return nil
}

// mergeInto sets members of a complex value; null unassigns. With an error nothing has changed.
func mergeInto(m, value map[string]any, t Target) error {
	if err := mayMerge(m, value, t); err != nil {
		return err
	}
	for name, v := range value {
		if Empty(v) {
			delete(m, name)
		} else {
			m[name] = v
		}
	}
	return nil
}

// mayMerge says what stands against setting members of a complex value.
func mayMerge(m, value map[string]any, t Target) error {
	for name, v := range value {
		sub := t.Attribute.SubAttribute(name)
		if sub == nil || Empty(m[name]) || same(m[name], v) {
			continue
		}
		t.Sub, t.Ref.Sub = sub, sub.Name
		switch {
		case sub.Mutability == "immutable":
			return immutableError(t)
		case sub.Required && Empty(v):
			return requiredError(t.Ref)
		}
	}
	return nil
}
