package scim

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
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
//   - One object for a multi-valued attribute is one element. An added element with the value of another and no
//     other type is that element (RFC 7643, Section 2.4), so it completes it.
//   - A sub-attribute of a multi-valued attribute without a value filter means that of every element.
//   - Without a path, a read-only attribute is passed over as long as its value is the one it has.
//
// The error is an *Error, 400, that starts with the operation's place in the array, counted from 0.
func (rt *ResourceType) ApplyPatch(r Resource, ops []PatchOp) (Resource, bool, error) {
	p := patcher{rt: rt, r: r.Clone()}
	if p.r == nil {
		p.r = Resource{}
	}
	for i := range ops {
		if err := p.apply(&ops[i]); err != nil {
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

// patcher holds the copy that operations change. After an error it is of no use any more.
type patcher struct {
	rt *ResourceType
	r  Resource
}

func (p *patcher) apply(op *PatchOp) error {
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
func (p *patcher) whole(op *PatchOp) error {
	if op.Op == "remove" {
		return BadRequest(NoTarget, "remove needs a path")
	}
	value, ok := op.Value.(map[string]any)
	if !ok {
		return BadRequest(InvalidValue, "value must be an object where there is no path")
	}
	for _, name := range slices.Sorted(maps.Keys(value)) {
		if err := p.attribute(op.Op, name, value[name]); err != nil {
			return prefix(fmt.Sprintf("value %q", clip(name)), err)
		}
	}
	return nil
}

// attribute sets one member of a value without a path. Names may be paths: Entra's are. What no schema knows is
// kept as it comes.
func (p *patcher) attribute(op, name string, value any) error {
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
func (p *patcher) extension(op string, e *Schema, value any, strict bool) error {
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
		if a == nil && strict {
			return BadRequest(InvalidPath, "the extension has no attribute %q", clip(name))
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

// keep sets an attribute that no schema knows.
func (p *patcher) keep(op string, ref Ref, value any) {
	if value == nil && op == "add" {
		return
	}
	p.r.Set(ref, CloneValue(value))
}

// assign sets an attribute that was named in a value, not in a path. Clients send whole resources there, so what
// is read-only does no harm as long as nothing would change.
func (p *patcher) assign(op string, t Target, f Filter, value any) error {
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
func (p *patcher) change(op string, t Target, f Filter, value any) error {
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

func (p *patcher) set(op string, t Target, f Filter, value any) error {
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
func (p *patcher) merge(t Target, value map[string]any) error {
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

// mergeInto sets members of a complex value; null unassigns.
func mergeInto(m, value map[string]any, t Target) error {
	for name, v := range value {
		if sub := t.Attribute.SubAttribute(name); sub != nil && !Empty(m[name]) && !same(m[name], v) {
			t.Sub, t.Ref.Sub = sub, sub.Name
			switch {
			case sub.Mutability == "immutable":
				return immutableError(t)
			case sub.Required && Empty(v):
				return requiredError(t.Ref)
			}
		}
		if Empty(v) {
			delete(m, name)
		} else {
			m[name] = v
		}
	}
	return nil
}

// setList applies add and replace to a whole multi-valued attribute.
func (p *patcher) setList(op string, t Target, value any) error {
	given := elements(value)
	if op == "replace" {
		p.put(t, given)
		return nil
	}
	list := elements(p.r.Get(t.Ref))
	known := indexOf(list)
	touched := make([]int, 0, len(given))
	for _, e := range given {
		i, ok := known.find(list, e)
		if ok {
			complete(list[i], e, t)
		} else {
			i = len(list)
			list = append(list, e)
		}
		known.add(list[i], i)
		touched = append(touched, i)
	}
	if err := onePrimary(t, list, touched); err != nil {
		return err
	}
	p.put(t, list)
	return nil
}

// complete gives an element what another form of it has. Immutable sub-attributes keep the value they have: to add
// a member that is there already is no change (RFC 7644, Section 3.5.2.1).
func complete(element, form any, t Target) {
	m, ok := element.(map[string]any)
	if !ok {
		return
	}
	for name, v := range form.(map[string]any) {
		if sub := t.Attribute.SubAttribute(name); sub != nil && sub.Mutability == "immutable" && !Empty(m[name]) {
			continue
		}
		m[name] = v
	}
}

// setSelected applies add and replace to the elements that a value filter selects, or, where the path has a
// sub-attribute and no filter, to all of them.
func (p *patcher) setSelected(op string, t Target, f Filter, value any) error {
	whole := Target{Ref: t.Ref.Parent(), Attribute: t.Attribute}
	list := elements(p.r.Get(whole.Ref))
	var hits []int
	for i, e := range list {
		if p.rt.MatchValue(whole, f, e) {
			hits = append(hits, i)
		}
	}
	if len(hits) == 0 {
		if op == "replace" && f != nil {
			return BadRequest(NoTarget, "no value of %s matches the filter", whole.Ref)
		}
		e, ok := p.create(t, f, value)
		if !ok {
			return BadRequest(NoTarget, "no value of %s matches the filter, and the filter does not say what a new one would be", whole.Ref)
		}
		hits = append(hits, len(list))
		list = append(list, e)
	} else {
		for _, i := range hits {
			var err error
			if list[i], err = setElement(op, t, list[i], value); err != nil {
				return err
			}
		}
	}
	if err := onePrimary(whole, list, hits); err != nil {
		return err
	}
	p.put(whole, elements(list))
	return nil
}

// setElement sets one element of a multi-valued attribute, or the sub-attribute of it that t names. replace of a
// whole element leaves nothing of it (RFC 7644, Section 3.5.2.3: "all matching record values SHALL be replaced").
func setElement(op string, t Target, element, value any) (any, error) {
	value = CloneValue(value)
	if t.Sub != nil {
		value = map[string]any{t.Sub.Name: value}
	}
	m, isObject := element.(map[string]any)
	members, given := value.(map[string]any)
	if !isObject || !given || t.Sub == nil && op == "replace" {
		return value, nil
	}
	return m, mergeInto(m, members, Target{Ref: t.Ref.Parent(), Attribute: t.Attribute})
}

// create makes the element that a value filter describes, with the value in it: what the eq terms ask for,
// provided that the filter selects it now. Without a filter it has the value only.
func (p *patcher) create(t Target, f Filter, value any) (any, bool) {
	whole := Target{Ref: t.Ref.Parent(), Attribute: t.Attribute}
	terms := map[string]any{}
	for name, v := range EqualTerms(f) {
		member, ok := whole.member(name)
		if !ok {
			return nil, false
		}
		switch n := v.(type) {
		case int:
			v = json.Number(strconv.Itoa(n))
		case float64:
			v = json.Number(strconv.FormatFloat(n, 'g', -1, 64))
		}
		terms[member.Ref.Sub] = v
	}
	if f != nil && len(terms) == 0 {
		return nil, false
	}
	var e any = terms
	if t.Attribute.Kind != Complex {
		e = terms[""]
	}
	if whole.Check(e) != nil {
		return nil, false
	}
	e, err := setElement("add", t, e, value)
	return e, err == nil && p.rt.MatchValue(whole, f, e)
}

// onePrimary clears primary in all elements but the one among touched that has it: RFC 7644, Section 3.5.2.
func onePrimary(t Target, list []any, touched []int) error {
	if t.Attribute.SubAttribute("primary") == nil {
		return nil
	}
	chosen := -1
	for _, i := range touched {
		if m, ok := list[i].(map[string]any); ok && m["primary"] == true {
			if chosen >= 0 && chosen != i {
				return BadRequest(InvalidValue, "only one value of %s can be primary", t.Ref)
			}
			chosen = i
		}
	}
	if chosen < 0 {
		return nil
	}
	for i, e := range list {
		if m, ok := e.(map[string]any); ok && i != chosen && m["primary"] == true {
			m["primary"] = false
		}
	}
	return nil
}

// remove follows RFC 7644, Section 3.5.2.2. What is not there is removed already.
func (p *patcher) remove(t Target, f Filter, value any) error {
	whole := Target{Ref: t.Ref.Parent(), Attribute: t.Attribute}
	current := p.r.Get(whole.Ref)
	if Empty(current) {
		return nil
	}
	switch {
	case t.Sub != nil:
		return p.removeSub(t, whole, f, current)
	case f != nil:
		list := slices.DeleteFunc(elements(current), func(e any) bool { return p.rt.MatchValue(whole, f, e) })
		p.put(whole, list)
	case t.Attribute.MultiValued && value != nil:
		value = CloneValue(value)
		t.CanonicalizeValue(value)
		p.put(whole, removeEqual(elements(current), elements(value)))
	default:
		p.r.Remove(whole.Ref)
	}
	return nil
}

// removeSub unassigns a sub-attribute in the elements that the filter selects; without a filter in every value.
func (p *patcher) removeSub(t, whole Target, f Filter, current any) error {
	for _, e := range elements(current) {
		m, ok := e.(map[string]any)
		if !ok || f != nil && !p.rt.MatchValue(whole, f, e) || Empty(m[t.Sub.Name]) {
			continue
		}
		switch {
		case t.Sub.Required:
			return requiredError(t.Ref)
		case t.Sub.Mutability == "immutable":
			return immutableError(t)
		}
		delete(m, t.Sub.Name)
	}
	if t.Attribute.MultiValued {
		p.put(whole, elements(current))
	} else if Empty(current) {
		p.r.Remove(whole.Ref)
	}
	return nil
}

// put assigns a multi-valued attribute; one without values is unassigned.
func (p *patcher) put(t Target, list []any) {
	if len(list) == 0 {
		p.r.Remove(t.Ref)
	} else {
		p.r.Set(t.Ref, list)
	}
}

// elements is a value of a multi-valued attribute as a list of its own, without what is empty. Members of elements
// that are null go, too.
func elements(v any) []any {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	out := make([]any, 0, len(list))
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			dropNulls(m)
		}
		if !Empty(e) {
			out = append(out, e)
		}
	}
	return out
}

func dropNulls(m map[string]any) {
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
}

// index finds elements by what identifies them, so that thousands of members cost no quadratic time. An element
// with a value is identified by it together with its type (RFC 7643, Section 2.4), where an absent type agrees
// with any; one without a value by all it has. Identity is exact even where caseExact is not set: the values of
// members are ids.
type index map[string]int

func indexOf(list []any) index {
	x := make(index, 2*len(list))
	for i, e := range list {
		x.add(e, i)
	}
	return x
}

func (x index) add(e any, i int) {
	value, kind, ok := identity(e)
	if !ok {
		x.first("j"+string(AppendJSON(nil, e)), i)
		return
	}
	x.first("v"+value, i)
	x.first("t"+kind+"\x00"+value, i)
}

func (x index) first(key string, i int) {
	if _, ok := x[key]; !ok {
		x[key] = i
	}
}

func (x index) find(list []any, e any) (int, bool) {
	value, kind, ok := identity(e)
	if !ok {
		i, ok := x["j"+string(AppendJSON(nil, e))]
		return i, ok
	}
	if i, ok := x["t"+kind+"\x00"+value]; ok {
		return i, true
	}
	if kind == "" {
		i, ok := x["v"+value]
		return i, ok
	}
	i, ok := x["t\x00"+value]
	if ok {
		_, now, _ := identity(list[i]) // it may have been given a type since
		ok = now == ""
	}
	return i, ok
}

func identity(e any) (value, kind string, ok bool) {
	m, _ := e.(map[string]any)
	value, _ = m["value"].(string)
	kind, _ = m["type"].(string)
	return value, kind, value != ""
}

// removeEqual removes the elements that hold everything one of the given values holds. A bare string means the
// sub-attribute value. Values without that must be equal as a whole, so that a poor one does not take too much.
func removeEqual(list, given []any) []any {
	byValue := map[string][]any{}
	whole := map[string]bool{}
	for _, g := range given {
		if s, ok := g.(string); ok {
			byValue[s] = append(byValue[s], map[string]any{"value": s})
		}
		if value, _, ok := identity(g); ok {
			byValue[value] = append(byValue[value], g)
		} else {
			whole[string(AppendJSON(nil, g))] = true
		}
	}
	return slices.DeleteFunc(list, func(e any) bool {
		if value, _, ok := identity(e); ok {
			return slices.ContainsFunc(byValue[value], func(g any) bool { return holds(e, g) })
		}
		return len(whole) > 0 && whole[string(AppendJSON(nil, e))]
	})
}
