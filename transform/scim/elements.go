package scim

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
)

// maxWork is how many elements the operations of one PATCH may look at: thirty-nine operations with a value filter on a list
// of five thousand. What costs more than a look counts more.
const (
	maxWork      = 3 << 16
	indexedWork  = 8  // to index an element
	comparedWork = 64 // bytes of text that are compared at the cost of a look
	foldedWork   = 16 // bytes of text that are copied, folded or searched
	writtenWork  = 4  // bytes of JSON that are written
)

// look counts elements that are looked at.
func (p *Patch) look(n int) error {
	if p.work += n; p.work > maxWork {
		return Errorf(http.StatusRequestEntityTooLarge, "",
			"too many operations on an attribute with so many values: send fewer in one request")
	}
	return nil
}

// list is the value of a multi-valued attribute, without what is empty. It may be changed in place and put.
func (p *Patch) list(t Target) []any {
	if !p.own[t.Ref] {
		p.put(t, elements(p.r.Get(t.Ref)))
	}
	list, _ := p.r.Get(t.Ref).([]any)
	return list
}

// Has reports whether a value filter behind the multi-valued attribute t selects anything. The error is that of
// Apply.
func (p *Patch) Has(t Target, f Filter) (bool, error) {
	list := p.list(t)
	return slices.ContainsFunc(list, p.rt.matcher(t, f, len(list), &p.work)), p.look(len(list))
}

// setList applies add and replace to a whole multi-valued attribute.
func (p *Patch) setList(op string, t Target, value any) error {
	given := elements(value)
	if op == "replace" {
		p.put(t, given)
		return nil
	}
	list := p.list(t)
	known := p.seen[t.Ref]
	if known == nil {
		if err := p.look(indexedWork * len(list)); err != nil {
			return err
		}
		var text int
		known, text = indexOf(list)
		if err := p.look(text / writtenWork); err != nil {
			return err
		}
	}
	byID := t.Attribute.SubAttribute("$ref") != nil // a resource is referred to once, whoever has filled in its type
	touched := make([]int, 0, len(given))
	for _, e := range given {
		i, ok := known.find(list, e, byID)
		if ok {
			complete(list[i], e, t)
		} else {
			i = len(list)
			list = append(list, e)
		}
		known.add(list[i], i)
		touched = append(touched, i)
	}
	stale, err := p.onePrimary(t, list, touched)
	if err != nil {
		return err
	}
	if p.put(t, list); !stale {
		p.seen[t.Ref] = known
	}
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
// sub-attribute and no filter, to all of them. It checks everything before it changes anything.
func (p *Patch) setSelected(op string, t Target, f Filter, value any) error {
	whole := Target{Ref: t.Ref.Parent(), Attribute: t.Attribute}
	list := p.list(whole)
	selects := p.rt.matcher(whole, f, len(list), &p.work)
	var hits []int
	for i, e := range list {
		if selects(e) {
			hits = append(hits, i)
		}
	}
	if err := p.look(len(list) + len(hits)*count(value)); err != nil {
		return err
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
		if err := mayPut(op, t, list, hits, value); err != nil {
			return err
		}
		for _, i := range hits {
			var err error
			if list[i], err = setElement(op, t, list[i], value); err != nil {
				return err
			}
		}
	}
	if _, err := p.onePrimary(whole, list, hits); err != nil {
		return err
	}
	p.put(whole, pruned(list, hits))
	return nil
}

// mayPut says what stands against putting a value, or a sub-attribute, into several elements.
func mayPut(op string, t Target, list []any, hits []int, value any) error {
	whole := Target{Ref: t.Ref.Parent(), Attribute: t.Attribute}
	members, isObject := value.(map[string]any)
	if t.Sub != nil {
		members, isObject = map[string]any{t.Sub.Name: value}, true
	}
	if !isObject {
		return nil
	}
	if members["primary"] == true && len(hits) > 1 && t.Attribute.SubAttribute("primary") != nil {
		return onlyOnePrimary(whole)
	}
	if t.Sub == nil && op == "replace" {
		return nil
	}
	for _, i := range hits {
		m, _ := list[i].(map[string]any)
		if err := mayMerge(m, members, whole); err != nil {
			return err
		}
	}
	return nil
}

// count is how many values there are in a value, itself included; long texts count as several.
func count(v any) int {
	n := 1
	switch v := v.(type) {
	case string:
		n += len(v) / writtenWork
	case map[string]any:
		for _, e := range v {
			n += count(e)
		}
	case []any:
		for _, e := range v {
			n += count(e)
		}
	}
	return n
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
func (p *Patch) create(t Target, f Filter, value any) (any, bool) {
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

func onlyOnePrimary(t Target) error {
	return BadRequest(InvalidValue, "only one value of %s can be primary", t.Ref)
}

// onePrimary clears primary in all elements but the one among touched that has it: RFC 7644, Section 3.5.2. stale is
// whether that changed what identifies one of them.
func (p *Patch) onePrimary(t Target, list []any, touched []int) (stale bool, err error) {
	if t.Attribute.SubAttribute("primary") == nil {
		return false, nil
	}
	chosen := -1
	for _, i := range touched {
		if m, ok := list[i].(map[string]any); ok && m["primary"] == true {
			if chosen >= 0 && chosen != i {
				return false, onlyOnePrimary(t)
			}
			chosen = i
		}
	}
	if chosen < 0 {
		return false, nil
	}
	if err := p.look(len(list)); err != nil {
		return false, err
	}
	for i, e := range list {
		if m, ok := e.(map[string]any); ok && i != chosen && m["primary"] == true {
			m["primary"] = false
			_, _, named := identity(e)
			stale = stale || !named
		}
	}
	return stale, nil
}

// remove follows RFC 7644, Section 3.5.2.2. What is not there is removed already.
func (p *Patch) remove(t Target, f Filter, value any) error {
	whole := Target{Ref: t.Ref.Parent(), Attribute: t.Attribute}
	current := p.r.Get(whole.Ref)
	if Empty(current) {
		return nil
	}
	switch {
	case t.Sub != nil:
		return p.removeSub(t, whole, f, current)
	case f != nil:
		list := p.list(whole)
		left := slices.DeleteFunc(list, p.rt.matcher(whole, f, len(list), &p.work))
		if err := p.look(len(list)); err != nil {
			return err
		}
		p.put(whole, left)
	case t.Attribute.MultiValued && value != nil:
		value = CloneValue(value)
		t.CanonicalizeValue(value)
		list, given := p.list(whole), elements(value)
		if err := p.look(indexedWork * (len(list) + len(given))); err != nil {
			return err
		}
		p.put(whole, removeEqual(list, given))
	default:
		p.put(whole, nil)
	}
	return nil
}

// removeSub unassigns a sub-attribute in the elements that the filter selects; without a filter in every value.
func (p *Patch) removeSub(t, whole Target, f Filter, current any) error {
	list := []any{current}
	if t.Attribute.MultiValued {
		list = p.list(whole)
	}
	selects := p.rt.matcher(whole, f, len(list), &p.work)
	var hits []int
	for i, e := range list {
		m, ok := e.(map[string]any)
		if !ok || !selects(e) || Empty(m[t.Sub.Name]) {
			continue
		}
		switch {
		case t.Sub.Required:
			return requiredError(t.Ref)
		case t.Sub.Mutability == "immutable":
			return immutableError(t)
		}
		delete(m, t.Sub.Name)
		hits = append(hits, i)
	}
	if err := p.look(len(list)); err != nil {
		return err
	}
	if t.Attribute.MultiValued {
		p.put(whole, pruned(list, hits))
	} else if Empty(current) {
		p.r.Remove(whole.Ref)
	}
	return nil
}

// put assigns a multi-valued attribute, or unassigns any attribute: one without values is unassigned.
func (p *Patch) put(t Target, list []any) {
	if len(list) == 0 {
		p.r.Remove(t.Ref)
	} else {
		p.r.Set(t.Ref, list)
	}
	p.own[t.Ref] = true
	delete(p.seen, t.Ref)
}

// pruned takes what is empty out of elements that were changed, and the elements that are empty then out of the list.
func pruned(list []any, changed []int) []any {
	empty := false
	for _, i := range changed {
		if m, ok := list[i].(map[string]any); ok {
			dropNulls(m)
		}
		empty = empty || Empty(list[i])
	}
	if empty {
		list = slices.DeleteFunc(list, Empty)
	}
	return list
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
type index map[key]int

// key is the value of an element, with its type if typed is set; or, where it has none, all it has as JSON.
type key struct {
	value, kind, json string
	typed             bool
}

// indexOf indexes a list. text is how much JSON it took.
func indexOf(list []any) (x index, text int) {
	x = make(index, 2*len(list))
	for i, e := range list {
		text += x.add(e, i)
	}
	return x, text
}

func (x index) add(e any, i int) (text int) {
	value, kind, ok := identity(e)
	if !ok {
		json := string(AppendJSON(nil, e))
		x.first(key{json: json}, i)
		return len(json)
	}
	x.first(key{value: value}, i)
	x.first(key{value: value, kind: kind, typed: true}, i)
	return 0
}

func (x index) first(k key, i int) {
	if _, ok := x[k]; !ok {
		x[k] = i
	}
}

// find finds the element that has the pair of value and type that e has; with byID, one that has its value is enough
// when either has no type.
func (x index) find(list []any, e any, byID bool) (int, bool) {
	value, kind, ok := identity(e)
	if !ok {
		i, ok := x[key{json: string(AppendJSON(nil, e))}]
		return i, ok
	}
	if i, ok := x[key{value: value, kind: kind, typed: true}]; ok {
		return i, true
	}
	if !byID {
		return 0, false
	}
	if kind == "" {
		i, ok := x[key{value: value}]
		return i, ok
	}
	i, ok := x[key{value: value, typed: true}]
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
