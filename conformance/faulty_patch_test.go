package conformance_test

import (
	"reflect"
	"slices"
	"strings"
)

// PATCH of RFC 7644, Section 3.5.2, with what Entra sends beside it.

// patch applies the operations to a copy of the resource.
func (m *model) patch(k *kind, old object, body object) (object, error) {
	if !hasSchema(body, messageURN+"PatchOp") && !m.is("PATCH does not need schemas") {
		return nil, bad("invalidSyntax", "schemas does not list PatchOp")
	}
	member, _ := folded(body, "Operations")
	if m.is("names of members are case-sensitive") {
		member = body["Operations"]
	}
	ops, _ := member.([]any)
	if len(ops) == 0 && !m.is("PATCH does not need Operations") {
		return nil, bad("invalidSyntax", "Operations is missing or empty")
	}
	out := clone(old)
	if m.is("PATCH replaces the resource") {
		out = object{"userName": old["userName"], "displayName": old["displayName"]}
	}
	for i, op := range ops {
		op, _ := op.(object)
		if m.is("only the first operation is applied") && i > 0 || m.is("PATCH is ignored") {
			break
		}
		if err := m.operation(k, out, op); err != nil {
			if m.is("PATCH is not atomic") {
				m.half = out
			}
			return nil, err
		}
	}
	return out, nil
}

// folded returns the member of that name in any case.
func folded(o object, name string) (any, bool) {
	for n, v := range o {
		if strings.EqualFold(n, name) {
			return v, true
		}
	}
	return nil, false
}

func (m *model) operation(k *kind, o object, op object) error {
	verb, _ := folded(op, "op")
	word, _ := verb.(string)
	if !m.is("op is case-sensitive") {
		word = strings.ToLower(word)
	}
	if !slices.Contains([]string{"add", "replace", "remove"}, word) {
		if m.is("an operation does not need op") {
			return nil
		}
		return bad("invalidSyntax", "op is add, remove or replace")
	}
	path, _ := folded(op, "path")
	text, _ := path.(string)
	value, has := folded(op, "value")
	if word != "remove" && !has && !m.is("add does not need a value") {
		return bad("invalidValue", "value is missing")
	}
	if text != "" {
		return m.at(k, o, word, text, value)
	}
	if word == "remove" {
		if m.is("remove does not need a path") {
			return nil
		}
		return bad("noTarget", "remove needs a path")
	}
	members, ok := value.(object)
	if !ok || m.is("operations without path are refused") {
		return bad("invalidValue", "without a path the value is an object")
	}
	if m.is("replace without path replaces all") {
		for name := range o {
			if name != "userName" && name != "externalId" {
				delete(o, name)
			}
		}
	}
	for name, v := range members {
		if strings.EqualFold(name, "schemas") || m.is("dotted names are lost") && strings.ContainsAny(name, ".:") {
			continue
		}
		if e := k.extension(name); e != nil {
			inner, _ := v.(object)
			if m.is("extensions without a path are lost") {
				inner = nil
			}
			for name, v := range inner {
				if err := m.at(k, o, word, e.id+":"+name, v); err != nil {
					return err
				}
			}
			continue
		}
		if err := m.at(k, o, word, name, v); err != nil {
			return err
		}
	}
	return nil
}

// splitPath takes a path apart: attribute, value filter, sub-attribute.
func splitPath(path string) (attr, filter, sub string, ok bool) {
	attr, rest, found := strings.Cut(path, "[")
	if !found {
		return path, "", "", true
	}
	end := strings.LastIndex(rest, "]")
	if end < 0 {
		return "", "", "", false
	}
	return attr, rest[:end], strings.TrimPrefix(rest[end+1:], "."), true
}

func (m *model) at(k *kind, o object, word, path string, v any) error {
	name, filter, sub, ok := splitPath(path)
	t, known := k.resolve(name, nil)
	if !ok || !known {
		if m.is("bad paths are ignored") {
			return nil
		}
		return bad("invalidPath", "The path leads nowhere.")
	}
	if sub != "" {
		if t.sub = find(t.attr.subs, sub); t.sub == nil {
			return bad("invalidPath", "The path leads to no sub-attribute.")
		}
	}
	if t.ext != nil && m.is("paths with an extension's URN are lost") {
		return nil
	}
	frozen := t.attr.mutability == "readOnly" || t.attr.name == "schemas" || t.sub != nil && (t.sub.mutability == "readOnly" || t.sub.mutability == "immutable")
	required := word == "remove" && t.attr.required && t.sub == nil
	if frozen && !m.is("read-only is not checked in PATCH") || required && !m.is("required attributes can be removed") {
		return bad("mutability", "The attribute cannot be changed so.")
	}
	if frozen {
		return nil
	}
	home := o
	if t.ext != nil {
		home, _ = o[t.ext.id].(object)
		if home == nil {
			home = object{}
		}
		o[t.ext.id] = home
		defer func() {
			if len(home) == 0 {
				delete(o, t.ext.id)
			}
		}()
	}
	switch {
	case filter != "":
		return m.selected(k, home, t, word, filter, v)
	case word == "remove":
		return m.remove(k, home, t, v)
	case t.sub != nil:
		return m.setSub(home, t, v)
	case t.attr.multi:
		return m.setAll(home, t.attr, word, v)
	}
	return m.setOne(home, t.attr, v)
}

func (m *model) setOne(home object, a *attribute, v any) error {
	fresh, err := m.value(a, v)
	if err != nil {
		return err
	}
	old, isComplex := home[a.name].(object)
	if new, ok := fresh.(object); ok && isComplex && !m.is("replace of a complex attribute drops the rest") {
		for name, v := range new {
			old[name] = v
		}
		return nil
	}
	if fresh == nil {
		if m.is("an empty manager is refused") && a.name == "manager" {
			return bad("invalidValue", "The manager is empty.")
		}
		delete(home, a.name)
		return nil
	}
	if m.is("add is refused where there is a value") && home[a.name] != nil {
		return bad("invalidValue", "There is a value already.")
	}
	home[a.name] = fresh
	return nil
}

func (m *model) setSub(home object, t target, v any) error {
	fresh, err := m.value(t.sub, v)
	if err != nil {
		return err
	}
	set := func(e object) {
		if fresh == nil {
			delete(e, t.sub.name)
		} else {
			e[t.sub.name] = fresh
		}
	}
	if all, ok := home[t.attr.name].([]any); ok {
		for _, e := range all {
			set(e.(object))
		}
		return nil
	}
	one, _ := home[t.attr.name].(object)
	if one == nil || m.is("replace of a sub-attribute drops its neighbours") {
		one = object{}
		home[t.attr.name] = one
	}
	set(one)
	return nil
}

func (m *model) setAll(home object, a *attribute, word string, v any) error {
	fresh, err := m.value(a, v)
	if err != nil {
		return err
	}
	added, _ := fresh.([]any)
	if word == "replace" && !m.is("replace of a multi-valued attribute adds") || m.is("add to a multi-valued attribute replaces") {
		if fresh == nil {
			delete(home, a.name)
		} else {
			home[a.name] = fresh
		}
		return nil
	}
	all, _ := home[a.name].([]any)
	for _, e := range added {
		same := slices.IndexFunc(all, func(x any) bool { return sameElement(a, x, e) })
		if same < 0 || m.is("the same value is added twice") {
			all = append(all, e)
			m.promote(all, len(all)-1)
		} else if a.name != "members" {
			for name, v := range e.(object) {
				all[same].(object)[name] = v
			}
			m.promote(all, same)
		}
	}
	home[a.name] = all
	return nil
}

// sameElement compares what makes a value the same one: for members the value, else type and value.
func sameElement(a *attribute, x, y any) bool {
	l, ok1 := x.(object)
	r, ok2 := y.(object)
	if !ok1 || !ok2 {
		return reflect.DeepEqual(x, y)
	}
	return l["value"] == r["value"] && (a.name == "members" || l["type"] == r["type"])
}

// promote leaves no primary value but the one at i, if that is one.
func (m *model) promote(all []any, i int) {
	if all[i].(object)["primary"] != true || m.is("the primary value does not move") {
		return
	}
	for j, e := range all {
		if e := e.(object); j != i && e["primary"] == true {
			e["primary"] = false
		}
	}
}

func (m *model) remove(k *kind, home object, t target, v any) error {
	all, _ := home[t.attr.name].([]any)
	if gone, ok := v.([]any); ok && t.attr.multi && len(gone) > 0 && !m.is("Remove with a value wipes all members") {
		all = slices.DeleteFunc(all, func(e any) bool {
			return slices.ContainsFunc(gone, func(g any) bool { return sameElement(t.attr, e, g) })
		})
		return m.keep(home, t.attr, all)
	}
	if m.is("remove does nothing") {
		return nil
	}
	if t.sub == nil {
		delete(home, t.attr.name)
	} else if one, ok := home[t.attr.name].(object); ok {
		if delete(one, t.sub.name); len(one) == 0 || m.is("remove of a sub-attribute removes its neighbours") {
			delete(home, t.attr.name)
		}
	} else {
		for _, e := range all {
			delete(e.(object), t.sub.name)
		}
	}
	return nil
}

func (m *model) keep(home object, a *attribute, all []any) error {
	if len(all) == 0 {
		delete(home, a.name)
	} else {
		home[a.name] = all
	}
	return nil
}

// selected changes the elements that a value filter selects.
func (m *model) selected(k *kind, home object, t target, word, filter string, v any) error {
	p := &filterParser{m: m, kinds: []*kind{k}, within: t.attr, rest: filter}
	match, err := p.or()
	if err != nil || strings.TrimSpace(p.rest) != "" {
		return bad("invalidPath", "The value filter does not follow the grammar.")
	}
	all, _ := home[t.attr.name].([]any)
	if m.is("value filters in paths match everything") {
		match = func(object) bool { return true }
	}
	matched := false
	var kept []any
	for i, e := range all {
		e := e.(object)
		if !match(e) || matched && m.is("only the first match is changed") {
			kept = append(kept, e)
			continue
		}
		matched = true
		if word == "remove" && t.sub == nil {
			continue
		}
		if kept = append(kept, e); word == "remove" {
			delete(e, t.sub.name)
			continue
		}
		if err := m.change(e, t, word, v); err != nil {
			return err
		}
		m.promote(all, i)
	}
	if !matched && word != "remove" {
		return m.create(home, t, word, filter, v)
	}
	if !matched && m.is("remove of nothing is an error") {
		return bad("noTarget", "The value filter matches nothing.")
	}
	return m.keep(home, t.attr, kept)
}

func (m *model) change(e object, t target, word string, v any) error {
	if t.sub != nil {
		fresh, err := m.value(t.sub, v)
		if fresh != nil {
			e[t.sub.name] = fresh
		} else {
			delete(e, t.sub.name)
		}
		return err
	}
	one := *t.attr
	one.multi = false
	fresh, err := m.value(&one, v)
	if err != nil {
		return err
	}
	new, _ := fresh.(object)
	for name, v := range new {
		e[name] = v
	}
	return nil
}

// create makes the element that the filter describes, which Entra expects of add; replace has no target.
func (m *model) create(home object, t target, word, filter string, v any) error {
	name, value, eq := strings.Cut(filter, " eq ")
	if m.is("noTarget is not reported") {
		return nil
	}
	if word == "replace" && !m.is("replace without target creates") || !eq || m.is("add with a value filter creates nothing") {
		return bad("noTarget", "The value filter matches nothing.")
	}
	e := object{name: strings.Trim(value, `" `)}
	if err := m.change(e, t, word, v); err != nil {
		return err
	}
	all, _ := home[t.attr.name].([]any)
	home[t.attr.name] = append(all, e)
	return nil
}
