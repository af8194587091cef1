package gateway

// What a PATCH does, written down a second time, for TestPatchProperty: RFC 7644, Sections 3.5.2.1 to 3.5.2.3, for
// the operations that provisioning clients send. Like oracle_test.go, this knows nothing of transform.

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// edit is one operation of a PATCH, before it is put into a client's dialect.
type edit struct {
	verb  string // add, replace or remove
	at    place
	typed string // of a multi-valued attribute, only the elements of this type; "" for the whole attribute
	value any    // nil for remove
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

// lacksElement reports whether the edit sets something in an element that is not there.
func (e edit) lacksElement(r map[string]any) bool {
	list, _ := find(r, e.at).([]any)
	return e.verb != "remove" && e.typed != "" && !slices.ContainsFunc(list, func(v any) bool {
		kind, _ := v.(map[string]any)["type"].(string)
		return lower(kind) == lower(e.typed)
	})
}

func (e edit) onList(list []any) ([]any, bool) {
	if e.typed == "" {
		switch e.verb {
		case "remove":
			return nil, true
		case "replace":
			list = nil
		}
		given, _ := e.value.([]any)
		return withPrimary(slices.Concat(list, given), given...), true
	}
	var out, touched []any
	found := false
	for _, v := range list {
		m, _ := v.(map[string]any)
		kind, _ := m["type"].(string)
		switch {
		case lower(kind) != lower(e.typed):
			out = append(out, v)
			continue
		case e.verb == "remove" && e.at.sub == "":
			continue
		}
		found = true
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

// edits draws what one PATCH changes of a resource.
func (g *chooser) edits(r map[string]any, names []string) []edit {
	var out []edit
	for range 1 + g.IntN(4) {
		out = append(out, g.edit(r, names))
	}
	return out
}

func (g *chooser) edit(r map[string]any, names []string) edit {
	e := edit{verb: oneOf(g.Rand, "add", "replace", "replace", "remove")}
	var a attribute
	for a.name == "" || slices.Contains([]string{"schemas", "id", "meta", "groups", "photos", "x509Certificates", "profileUrl"}, a.name) {
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
	case a.name == "manager":
		if e.value = map[string]any{"value": g.word()}; e.verb == "remove" {
			e.value = nil
		}
	case a.kind == complexKind && !g.oneIn(3):
		e.at.sub = oneOf(g.Rand, sortedKeys(a.subs)...)
		fallthrough
	default:
		e.value = g.valueFor(a, e)
	}
	return e
}

// valueFor draws what an edit sets a singular attribute, or a sub-attribute, to.
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

func (g *chooser) editList(e *edit, a attribute, r map[string]any) {
	list, _ := r[a.name].([]any)
	if g.oneIn(4) && (e.verb != "remove" || g.oneIn(4)) { // the whole of it
		given := g.elements(a)
		if e.verb == "remove" {
			return
		}
		for i, v := range given { // nothing that is there already
			m := v.(map[string]any)
			m["type"] = []string{"one", "two", "three"}[i] + g.word()
			if a.subs["value"] != boolean && e.verb == "add" && a.name != "addresses" {
				m["value"] = "new" + g.word() + []string{"", "1", "2"}[i] + toText(len(list))
			}
		}
		if e.value = given; len(given) == 0 {
			e.verb, e.value = "remove", nil
		}
		return
	}
	e.typed = oneOf(g.Rand, "work", "home", "other", "WORK")
	if len(list) > 0 && !g.oneIn(4) {
		if kind, _ := oneOf(g.Rand, list...).(map[string]any)["type"].(string); kind != "" {
			e.typed = kind
		}
	}
	subs := slices.DeleteFunc(sortedKeys(a.subs), func(s string) bool { return s == "type" })
	if e.at.sub = oneOf(g.Rand, subs...); g.oneIn(2) && a.name != "addresses" {
		e.at.sub = "value"
	}
	if e.verb == "remove" && g.oneIn(2) {
		e.at.sub = ""
	}
	e.value = g.valueFor(a, *e)
	if text, ok := e.value.(string); ok && e.at.sub == "value" { // no value that another element has: they may be one
		e.value = text + strconv.Itoa(g.IntN(1e9))
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
	if e.verb != "remove" {
		op["value"] = e.value
	}
	return op
}

// dialect puts edits into operations. It may change their order, and says so.
type dialect func(*rand.Rand, []edit) (operations []any, order []edit)

// standard is what RFC 7644 describes, in any case, with or without a path.
func standard(r *rand.Rand, edits []edit) ([]any, []edit) {
	var out []any
	for _, e := range edits {
		op := e.spelled()
		switch {
		case e.verb != "remove" && e.typed == "" && e.at.sub == "" && r.IntN(4) == 0: // without a path
			var value any = map[string]any{e.at.name: e.value}
			if e.at.urn != "" {
				value = map[string]any{e.at.urn: value}
			}
			op = map[string]any{"op": e.verb, "value": value}
		case e.typed == "" && r.IntN(3) == 0:
			op["path"] = strings.ToUpper(e.path())
		case e.typed == "" && e.at.urn == "" && r.IntN(3) == 0:
			op["path"] = coreURN + ":" + e.path()
		}
		out = append(out, op)
	}
	return out, edits
}

// legacy is Entra's dialect without the flag aadOptscim062020.
func legacy(_ *rand.Rand, edits []edit) ([]any, []edit) {
	var out []any
	for _, e := range edits {
		op := e.spelled()
		op["op"] = strings.ToUpper(e.verb[:1]) + e.verb[1:]
		switch v := e.value.(type) {
		case bool:
			op["value"] = map[bool]string{true: "True", false: "False"}[v]
		case map[string]any:
			if e.at.name == "manager" {
				op["value"] = v["value"]
			}
		}
		if e.verb == "remove" && e.at.name == "manager" && e.at.sub == "" {
			op["op"], op["value"] = "Replace", ""
		}
		out = append(out, op)
	}
	return out, edits
}

// flagged is Entra's dialect with the flag: what has no value filter goes into one operation without a path, whose
// keys are paths.
func flagged(_ *rand.Rand, edits []edit) ([]any, []edit) {
	var out []any
	var order, together []edit
	value := map[string]any{}
	taken := map[string]bool{}
	for _, e := range edits {
		switch {
		case e.typed == "" && e.verb == "replace" && !taken[e.at.name]:
			v := e.value
			if m, ok := v.(map[string]any); ok && e.at.name == "manager" {
				v = m["value"]
			}
			value[e.path()], taken[e.at.name] = v, true
			together = append(together, e)
		default:
			out, order = append(out, e.spelled()), append(order, e)
		}
	}
	if len(value) > 0 {
		out, order = append(out, map[string]any{"op": "replace", "value": value}), append(order, together...)
	}
	return out, order
}
