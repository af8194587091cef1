package gateway

// PATCHes of TestPatchProperty at random, and in the dialects of provisioning clients. Like oracle_test.go, this knows
// nothing of transform.

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// edits draws what one PATCH changes of a resource; most of it something that the profile does not refuse.
func (g *chooser) edits(r map[string]any, h holding, names []string) []edit {
	var out []edit
	for range 1 + g.IntN(4) {
		e := g.edit(r, names)
		for range 5 {
			if !e.fates(h)[refused] && !e.blind(h) || g.oneIn(12) {
				break
			}
			e = g.edit(r, names)
		}
		out = append(out, e)
	}
	return out
}

func (g *chooser) edit(r map[string]any, names []string) edit {
	e := edit{verb: oneOf(g.Rand, "add", "replace", "replace", "remove")}
	var a attribute
	for a.name == "" || slices.Contains([]string{"schemas", "id", "meta", "groups"}, a.name) {
		a = oneOf(g.Rand, userAttributes...)
		if g.oneIn(3) { // what clients change most
			a, _ = oneOf(g.Rand, place{name: "emails"}, place{name: "userName"}, place{name: "active"}, place{name: "name"}, place{name: "phoneNumbers"}, place{urn: enterpriseURN, name: "manager"}).attribute()
		}
	}
	e.at = place{urn: a.urn, name: a.name}
	switch {
	case a.name == "userName":
		e.verb, e.value = "replace", oneOf(g.Rand, names...)
	case a.name == "password":
		e.verb, e.value = "replace", g.word()
	case a.several:
		g.editList(&e, a, r)
	case a.name == "manager" && !g.oneIn(4):
		if e.value = map[string]any{"value": g.word()}; e.verb == "remove" {
			e.value = nil
		}
	case a.name == "manager":
		e.at.sub = "value"
		e.value = g.valueFor(a, e)
	case a.kind == complexKind && !g.oneIn(3):
		e.at.sub = oneOf(g.Rand, sortedKeys(a.subs)...)
		fallthrough
	default:
		e.value = g.valueFor(a, e)
	}
	return e
}

// valueFor draws what an edit sets an attribute with one value, or a sub-attribute, to.
func (g *chooser) valueFor(a attribute, e edit) any {
	k := a.kind
	if e.at.sub != "" {
		k = a.subs[e.at.sub]
	}
	switch {
	case e.verb == "remove":
		return nil
	case k == boolean:
		return g.oneIn(2)
	case k == binaryText:
		return g.certificate()
	case k != complexKind:
		return g.word()
	}
	m := map[string]any{}
	for _, sub := range sortedKeys(a.subs) {
		if g.oneIn(3) {
			m[sub] = g.word()
		}
	}
	m["formatted"] = g.word()
	return m
}

func (g *chooser) certificate() string { return oneOf(g.Rand, "AAEC", "aaEC", "/+8=") }

// fresh makes a value one that no other element has: two with the same may be one.
func (g *chooser) fresh(value any, k kind) any {
	text, ok := value.(string)
	switch {
	case !ok:
		return value
	case k == binaryText:
		return strconv.Itoa(1000 + g.IntN(9000)) // base64, too
	default:
		return text + strconv.Itoa(g.IntN(1e9))
	}
}

func (g *chooser) editList(e *edit, a attribute, r map[string]any) {
	list, _ := r[a.name].([]any)
	if g.oneIn(3) {
		g.editWhole(e, a, list)
		return
	}
	e.typed = oneOf(g.Rand, "work", "home", "other", "WORK")
	if len(list) > 0 && !g.oneIn(4) {
		if kind, _ := oneOf(g.Rand, list...).(map[string]any)["type"].(string); kind != "" {
			if e.typed = kind; g.oneIn(3) {
				e.typed = strings.ToUpper(kind)
			}
		}
	}
	subs := slices.DeleteFunc(sortedKeys(a.subs), func(s string) bool { return s == "type" })
	if e.at.sub = oneOf(g.Rand, subs...); g.oneIn(2) && a.name != "addresses" {
		e.at.sub = "value"
	}
	switch {
	case e.verb == "remove" && g.oneIn(2):
		e.at.sub = ""
	case e.verb != "remove" && g.oneIn(4): // a whole element
		m := map[string]any{"type": e.typed, e.at.sub: g.fresh(g.valueFor(a, *e), a.subs[e.at.sub])}
		for _, sub := range subs {
			if at := (place{name: a.name, sub: sub}); g.oneIn(3) {
				m[sub] = g.fresh(g.valueFor(a, edit{at: at}), a.subs[sub])
			}
		}
		if e.verb == "add" && g.oneIn(2) {
			delete(m, "type") // the filter says it, and spells it as the element does
			for _, v := range list {
				if has, _ := v.(map[string]any); e.picks(has) {
					e.typed, _ = has["type"].(string)
				}
			}
		}
		e.at.sub, e.value = "", m
		return
	}
	if e.value = g.valueFor(a, *e); e.at.sub == "value" {
		e.value = g.fresh(e.value, a.subs["value"])
	}
}

// editWhole makes an edit about a multi-valued attribute without a value filter.
func (g *chooser) editWhole(e *edit, a attribute, list []any) {
	var given []any
	switch {
	case e.verb == "remove":
		for _, v := range list {
			m, _ := v.(map[string]any)
			if value, _ := m["value"].(string); value != "" && g.oneIn(2) {
				given = append(given, without(m, func(sub string) bool { return sub != "value" && sub != "type" }))
			}
		}
		if given != nil {
			e.value = given
		}
		return
	case e.verb == "add" && len(list) > 0 && g.oneIn(3): // what is there already
		e.value = []any{oneOf(g.Rand, list...)}
		return
	}
	given = g.elements(a)
	for i, v := range given {
		m := v.(map[string]any)
		if e.verb == "replace" && g.oneIn(2) {
			continue
		}
		m["type"] = []string{"one", "two", "three"}[i] + strconv.Itoa(g.IntN(1e6))
		if _, ok := m["value"]; ok {
			m["value"] = g.fresh("new"+strconv.Itoa(i), a.subs["value"])
		}
	}
	if e.value = given; len(given) == 0 {
		e.verb, e.value = "remove", nil
	}
}

// path is the edit's path as RFC 7644, Figure 7 has it.
func (e edit) path() string {
	s := speller{}
	s.place(place{urn: e.at.urn, name: e.at.name})
	if e.typed != "" {
		s.b.WriteString("[type eq ")
		s.text(e.typed)
		s.b.WriteByte(']')
	}
	if e.at.sub != "" {
		s.b.WriteString("." + e.at.sub)
	}
	return s.b.String()
}

// spelled is the edit as one operation, as RFC 7644 has it.
func (e edit) spelled() map[string]any {
	op := map[string]any{"op": e.verb, "path": e.path()}
	if e.verb != "remove" || e.value != nil {
		op["value"] = e.value
	}
	return op
}

// dialect puts edits into operations. It may change their order, and says so.
type dialect func(*chooser, []edit) (operations []any, order []edit)

// standard is what RFC 7644 describes: names in any case, with or without URN, and with or without a path.
func standard(g *chooser, edits []edit) ([]any, []edit) {
	nested := func(value map[string]any, e edit) bool {
		if e.typed != "" {
			return false
		}
		if e.at.urn != "" {
			value = object(value, e.at.urn)
		}
		if e.at.sub != "" {
			value, e.at.name = object(value, e.at.name), e.at.sub
		}
		value[e.at.name] = e.value
		return true
	}
	out, order, rest := g.gather(edits, nested)
	for _, e := range rest {
		op := e.spelled()
		switch {
		case e.typed != "":
		case e.at.urn != "" && e.at.sub == "" && e.verb != "remove" && g.oneIn(4):
			op["path"], op["value"] = e.at.urn, map[string]any{e.at.name: e.value}
		case e.verb == "remove" && e.value == nil && g.oneIn(4): // RFC 7643, Section 2.5
			op["op"], op["value"] = "replace", nil
		case g.oneIn(3):
			op["path"] = strings.ToUpper(e.path())
		case e.at.urn == "" && g.oneIn(3):
			op["path"] = coreURN + ":" + e.path()
		}
		out, order = append(out, op), append(order, e)
	}
	return out, order
}

// gather puts some edits into operations without a path; rest are the others, in order.
func (g *chooser) gather(edits []edit, put func(value map[string]any, e edit) bool) (operations []any, order, rest []edit) {
	values := map[string]map[string]any{"add": {}, "replace": {}}
	taken := map[string]bool{}
	for _, e := range edits {
		// After an edit that has to wait, others of the same attribute wait, too.
		if value := values[e.verb]; value == nil || taken[e.at.name] || g.oneIn(2) || !put(value, e) {
			rest = append(rest, e)
		} else {
			order = append(order, e)
		}
		taken[e.at.name] = true
	}
	for _, verb := range []string{"add", "replace"} {
		if len(values[verb]) > 0 {
			operations = append(operations, map[string]any{"op": verb, "value": values[verb]})
		}
	}
	return operations, order, rest
}

// object is the object that a member of another is; a new one when there is none.
func object(m map[string]any, name string) map[string]any {
	member, ok := m[name].(map[string]any)
	if !ok {
		member = map[string]any{}
		m[name] = member
	}
	return member
}

// legacy is Entra's dialect without the flag aadOptscim062020: verbs in title case, booleans as text, a manager as
// text, arrays around single values, and extension attributes without their URN.
func legacy(g *chooser, edits []edit) ([]any, []edit) {
	var out []any
	for _, e := range edits {
		op := e.spelled()
		op["op"] = strings.ToUpper(e.verb[:1]) + e.verb[1:]
		a, _ := e.at.attribute()
		value := asTexts(e.value)
		list, isList := value.([]any)
		switch {
		case e.verb == "remove" && e.at.name == "manager" && e.at.sub == "":
			op["op"], op["value"] = "Replace", oneOf[any](g.Rand, "", map[string]any{"value": ""})
		case e.verb == "remove" && e.value == nil:
		case isList && len(list) == 1 && g.oneIn(2):
			op["value"] = list[0]
		case isList, e.at.sub != "" || e.typed != "":
			op["value"] = value
		case e.at.name == "manager":
			id := value.(map[string]any)["value"]
			op["value"] = oneOf[any](g.Rand, id, id, []any{map[string]any{"value": id}})
		case a.kind == plainText && g.oneIn(4):
			op["value"] = oneOf(g.Rand, []any{value}, []any{map[string]any{"value": value}})
		default:
			op["value"] = value
		}
		if e.at.urn != "" && g.oneIn(3) {
			op["path"] = strings.TrimPrefix(e.path(), e.at.urn+":")
		}
		out = append(out, op)
	}
	return out, edits
}

// asTexts writes booleans as Entra does.
func asTexts(v any) any {
	switch v := v.(type) {
	case bool:
		return map[bool]string{true: "True", false: "False"}[v]
	case []any:
		var list []any
		for _, e := range v {
			list = append(list, asTexts(e))
		}
		return list
	case map[string]any:
		m := maps.Clone(v)
		for name, e := range m {
			m[name] = asTexts(e)
		}
		return m
	default:
		return v
	}
}

// flagged is Entra's dialect with the flag: operations without a path, whose keys are paths.
func flagged(g *chooser, edits []edit) ([]any, []edit) {
	keyed := func(value map[string]any, e edit) bool {
		key, v := e.path(), e.value
		if m, ok := v.(map[string]any); ok && e.at.name == "manager" {
			v = m["value"]
		}
		if e.at.urn != "" && g.oneIn(4) {
			key = strings.TrimPrefix(key, e.at.urn+":")
		}
		if g.oneIn(4) {
			v = asTexts(v)
		}
		value[key] = v
		return true
	}
	out, order, rest := g.gather(edits, keyed)
	for _, e := range rest {
		out, order = append(out, e.spelled()), append(order, e)
	}
	return out, order
}

var dialects = []dialect{standard, legacy, flagged}

// spellPatch puts edits into one of the dialects.
func spellPatch(r *rand.Rand, edits []edit) ([]any, []edit) {
	return oneOf(r, dialects...)(&chooser{Rand: r}, edits)
}
