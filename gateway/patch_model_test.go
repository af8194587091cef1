package gateway

// What a PATCH does, written down a second time, for TestPatchProperty: RFC 7644, Sections 3.5.2.1 to 3.5.2.3, for
// the operations that provisioning clients send, and what becomes of them under a profile. Like oracle_test.go, this
// knows nothing of transform.

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// edit is one operation of a PATCH, before it is put into a client's dialect.
type edit struct {
	verb  string // add, replace or remove
	at    place
	typed string // of a multi-valued attribute, only the elements of this type; "" for the whole attribute
	value any    // nil for remove, unless it names the elements to remove
}

// apply carries out the edit on a resource; false when it has nothing to be about.
func (e edit) apply(r map[string]any) bool {
	holder := r
	if e.at.urn != "" {
		holder, _ = r[e.at.urn].(map[string]any)
		if holder == nil {
			holder = map[string]any{}
		}
	}
	before := holder[e.at.name]
	after, ok := e.applied(before)
	if !ok {
		return false
	}
	if holder[e.at.name] = after; vacant(after) {
		delete(holder, e.at.name)
	}
	if e.at.urn != "" {
		if r[e.at.urn] = holder; len(holder) == 0 {
			delete(r, e.at.urn)
		}
	}
	return true
}

// applied is the attribute's value after the edit.
func (e edit) applied(before any) (any, bool) {
	a, _ := e.at.attribute()
	switch {
	case a.several:
		list, _ := before.([]any)
		return e.onList(list)
	case e.verb == "remove" && e.at.sub == "":
		return nil, true
	case a.kind != complexKind:
		return e.value, true
	}
	m, _ := before.(map[string]any)
	return e.merged(m), true
}

// merged is a complex value after the edit: what the edit does not mention stays.
func (e edit) merged(before map[string]any) map[string]any {
	m := maps.Clone(before)
	if m == nil {
		m = map[string]any{}
	}
	given, isObject := e.value.(map[string]any)
	switch {
	case e.verb == "remove":
		delete(m, e.at.sub)
	case e.at.sub != "":
		m[e.at.sub] = e.value
	case isObject:
		maps.Copy(m, given)
	}
	return m
}

func (e edit) onList(list []any) ([]any, bool) {
	if e.typed == "" {
		given, _ := e.value.([]any)
		switch {
		case e.verb == "remove" && e.value != nil: // Entra's way to remove some elements
			return slices.DeleteFunc(slices.Clone(list), func(v any) bool { return isNamed(v, given) }), true
		case e.verb == "remove":
			return nil, true
		case e.verb == "replace":
			list = nil
		}
		for _, v := range given { // what is there already is not added (RFC 7644, Section 3.5.2.1)
			if !slices.ContainsFunc(list, func(has any) bool { return toText(has) == toText(v) }) {
				list = append(slices.Clip(list), v)
			}
		}
		return withPrimary(list, given...), true
	}
	var out, touched []any
	found := false
	for _, v := range list {
		m, _ := v.(map[string]any)
		switch {
		case !e.picks(m):
			out = append(out, v)
			continue
		case e.verb == "remove" && e.at.sub == "":
			continue
		}
		found = true
		if e.verb == "replace" && e.at.sub == "" {
			m = nil // nothing is left of an element that is replaced
		}
		if m = e.merged(m); !vacant(m) {
			out, touched = append(out, m), append(touched, m)
		}
	}
	switch {
	case found || e.verb == "remove":
	case e.verb == "replace":
		return nil, false
	default:
		m := e.merged(map[string]any{"type": e.typed})
		out, touched = append(out, m), append(touched, m)
	}
	return withPrimary(out, touched...), true
}

// picks reports whether the edit's value filter picks an element.
func (e edit) picks(element map[string]any) bool {
	kind, _ := element["type"].(string)
	return lower(kind) == lower(e.typed)
}

// isNamed reports whether an element is among those that a remove names: by its value and, if given, its type.
func isNamed(v any, given []any) bool {
	m, _ := v.(map[string]any)
	return slices.ContainsFunc(given, func(g any) bool {
		n, _ := g.(map[string]any)
		same := func(sub string) bool {
			a, _ := m[sub].(string)
			b, _ := n[sub].(string)
			return lower(a) == lower(b)
		}
		return m["value"] != nil && same("value") && (n["type"] == nil || same("type"))
	})
}

// withPrimary leaves the new primary value the only one (RFC 7644, Section 3.5.2).
func withPrimary(list []any, touched ...any) []any {
	is := func(v any) bool { m, _ := v.(map[string]any); return m["primary"] == true }
	if !slices.ContainsFunc(touched, is) {
		return list
	}
	out := slices.Clone(list)
	for i, v := range out {
		if is(v) && !slices.ContainsFunc(touched, func(t any) bool { return toText(t) == toText(v) }) {
			m := maps.Clone(v.(map[string]any))
			m["primary"], out[i] = false, m
		}
	}
	return out
}

func vacant(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	default:
		return false
	}
}

func toText(v any) string {
	raw, _ := json.Marshal(v)
	return string(raw)
}

// comparable is a resource without what the service provider makes of it, lists in one order.
func comparableText(r map[string]any) string {
	r = maps.Clone(r)
	for _, name := range []string{"schemas", "meta", "id", "password"} {
		delete(r, name)
	}
	for name, v := range r {
		if list, ok := v.([]any); ok {
			r[name] = slices.SortedFunc(slices.Values(list), func(a, b any) int { return strings.Compare(toText(a), toText(b)) })
		}
	}
	return toText(r)
}

// holding is what becomes of attributes under a profile.
type holding struct {
	extended bool   // the upstream has the enterprise extension
	complete bool   // and every attribute of its schemas
	unlisted string // what happens to an attribute without a rule
	rules    []rule
}

// rule is one attribute that a profile lists.
type rule struct {
	at       place
	typed    string // only elements of this type; "" for all
	handling string // stored when the upstream has it
	plain    bool   // it travels as its plain value
}

// What happens to a value.
const (
	stored  = ""
	kept    = "keep"
	dropped = "drop"
	refused = "refuse"
)

// ruleFor reads an attribute path of a profile, in one of the forms that someProfile writes.
func ruleFor(path, handling string, plain bool) rule {
	r := rule{handling: handling, plain: plain}
	if rest, ok := strings.CutPrefix(path, enterpriseURN+":"); ok {
		r.at.urn, path = enterpriseURN, rest
	}
	if name, rest, ok := strings.Cut(path, `[type eq "`); ok {
		r.at.name = name
		r.typed, r.at.sub, _ = strings.Cut(rest, `"].`)
		return r
	}
	r.at.name, r.at.sub, _ = strings.Cut(path, ".")
	return r
}

// of is what happens to a value. Of a sub-attribute of an element, element is what the element holds.
func (h holding) of(at place, element map[string]any) string {
	fate := h.fate(at, element)
	if fate == kept && at.name == "password" {
		return dropped // it is never shown
	}
	return fate
}

func (h holding) fate(at place, element map[string]any) string {
	listed := ""
	for _, r := range h.rules {
		if r.at.urn != at.urn || r.at.name != at.name {
			continue
		}
		if r.plain && at.sub != "" && at.sub != "value" {
			return dropped // there is no room for it
		}
		if r.handling != stored {
			listed = r.handling
		} else if !h.complete && r.stores(at.sub, element) {
			return stored
		}
	}
	switch {
	case h.complete && (at.urn == "" || h.extended):
		return stored
	case at.name == "externalId":
		return kept
	case listed != "":
		return listed
	case h.unlisted == "":
		return refused
	default:
		return h.unlisted
	}
}

// stores reports whether the upstream has a sub-attribute of an element, by a rule. The type by which a rule picks
// elements is stored with the value that it is about.
func (r rule) stores(sub string, element map[string]any) bool {
	if r.typed == "" {
		return r.at.sub == "" || sub == "" || r.at.sub == sub
	}
	kind, _ := element["type"].(string)
	if element != nil && lower(kind) != r.typed {
		return false
	}
	return sub == "" || r.at.sub == sub || sub == "type" && (element == nil || element[r.at.sub] != nil)
}

// fates are what happens to each value that an edit sets or removes.
func (e edit) fates(h holding) map[string]bool {
	out := map[string]bool{}
	a, _ := e.at.attribute()
	each := func(m, element map[string]any) {
		for sub := range m {
			at := e.at
			at.sub = sub
			out[h.of(at, element)] = true
		}
	}
	var picked map[string]any
	if e.typed != "" {
		picked = map[string]any{"type": e.typed}
	}
	switch v := e.value.(type) {
	case map[string]any:
		if a.several { // an element that is picked
			maps.Copy(picked, v)
		}
		each(v, picked)
	case []any:
		for _, v := range v {
			switch m, _ := v.(map[string]any); {
			case e.verb != "remove":
				each(m, m)
			case m["type"] == nil: // it may be of any type
				out[h.of(e.at, nil)] = true
			default:
				out[h.of(e.at, m)] = true
			}
		}
	default:
		out[h.of(e.at, picked)] = true
	}
	return out
}

// blind reports whether the upstream stores what an edit is about, but not the type by which the edit picks it.
func (e edit) blind(h holding) bool {
	named, _ := e.value.([]any)
	byType := slices.ContainsFunc(named, func(v any) bool { m, _ := v.(map[string]any); return e.verb == "remove" && m["type"] != nil })
	if h.complete || e.typed == "" && !byType {
		return false
	}
	touches := func(sub string) bool {
		return slices.ContainsFunc(h.rules, func(r rule) bool {
			return r.handling == stored && r.at.name == e.at.name && r.at.urn == e.at.urn &&
				(r.at.sub == "" || sub == "" || r.at.sub == sub || r.typed != "" && sub == "type")
		})
	}
	return touches(e.at.sub) && !touches("type")
}

// shared reports whether the upstream stores a part of an attribute's values, and the gateway another.
func (h holding) shared(at place) bool {
	partly := slices.ContainsFunc(h.rules, func(r rule) bool {
		return !h.complete && r.at.urn == at.urn && r.at.name == at.name && r.at.sub != ""
	})
	return partly && h.unlisted == kept
}

// only is what is left of a resource when nothing but values with one of these fates remains.
func (h holding) only(r map[string]any, fates ...string) map[string]any {
	out := map[string]any{}
	remain := func(at place, element map[string]any) bool { return slices.Contains(fates, h.of(at, element)) }
	of := func(at place, m, element map[string]any) map[string]any {
		return without(m, func(sub string) bool { at.sub = sub; return !remain(at, element) })
	}
	for _, a := range userAttributes {
		at := place{urn: a.urn, name: a.name}
		v := find(r, at)
		switch given := v.(type) {
		case nil:
			continue
		case map[string]any:
			v = of(at, given, nil)
		case []any:
			var list []any
			for _, e := range given {
				m, ok := e.(map[string]any)
				if !ok {
					list = append(list, e)
				} else if m = of(at, m, m); len(m) > 0 {
					list = append(list, m)
				}
			}
			v = list
		default:
			if !remain(at, nil) {
				v = nil
			}
		}
		switch {
		case vacant(v):
		case a.urn == "":
			out[a.name] = v
		case out[a.urn] == nil:
			out[a.urn] = map[string]any{a.name: v}
		default:
			out[a.urn].(map[string]any)[a.name] = v
		}
	}
	return out
}

func without(m map[string]any, gone func(name string) bool) map[string]any {
	m = maps.Clone(m)
	maps.DeleteFunc(m, func(name string, _ any) bool { return gone(name) })
	return m
}

// verdict is what the model says about a PATCH.
type verdict struct {
	after    map[string]any // as the client sees it; nil when it is refused
	scimType string         // why it is refused
	vague    bool           // of elements that two hold parts of, the model does not know who has which
}

// judge says what edits make of a resource.
func (h holding) judge(before map[string]any, edits []edit) verdict {
	var v verdict
	for _, e := range edits {
		if e.blind(h) {
			return verdict{scimType: "invalidPath"}
		}
	}
	for _, e := range edits {
		if e.fates(h)[refused] {
			return verdict{scimType: "invalidValue"}
		}
	}
	after := deepCopy(before).(map[string]any)
	for _, e := range edits {
		fates := e.fates(h)
		if e.typed != "" && e.verb != "remove" && len(fates) == 1 && fates[dropped] { // nothing is left that needs a target
			if e.verb == "add" || e.at.sub != "" {
				continue
			}
			e.verb, e.value = "remove", nil
		}
		v.vague = v.vague || e.vague(h, after)
		if !e.apply(after) {
			return verdict{scimType: "noTarget", vague: v.vague}
		}
		after = h.only(after, stored, kept)
	}
	v.after = after
	return v
}

// vague reports whether an edit is about elements that two hold parts of, in a way that leaves open what there is to
// hold: an element that the upstream has nothing of, or one that loses what its parts are told to belong together by.
func (e edit) vague(h holding, r map[string]any) bool {
	list, _ := find(r, e.at).([]any)
	a, _ := e.at.attribute()
	if !a.several || !h.shared(e.at) {
		return false
	}
	upstream := func(v any) bool {
		m, _ := v.(map[string]any)
		for sub := range m {
			if e.picks(m) && h.of(place{urn: a.urn, name: a.name, sub: sub}, m) == stored {
				return true
			}
		}
		return false
	}
	if e.verb == "remove" {
		return e.at.sub != ""
	}
	return e.typed != "" && !slices.ContainsFunc(list, upstream)
}

func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := maps.Clone(v)
		for name, e := range m {
			m[name] = deepCopy(e)
		}
		return m
	case []any:
		var list []any
		for _, e := range v {
			list = append(list, deepCopy(e))
		}
		return list
	default:
		return v
	}
}
