package transform

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"scimgate/transform/scim"

	"pgregory.net/rapid"
)

// splits are the ways to store an attribute, each a list of paths.
var splits = [][]string{
	{"displayName"}, {"title"}, {"nickName"}, {"active"}, {"externalId"},
	{"name"}, {"name.givenName"}, {"name.givenName", "name.familyName"}, {"name.formatted"},
	{"emails"}, {`emails[type eq "work"].value`}, {`emails[type eq "work"].value`, `emails[type eq "home"].value`},
	{`emails[type eq "work"].primary`, `emails[type eq "work"].value`},
	{"emails.value"},
	{"addresses"}, {`addresses[type eq "work"].formatted`}, {`addresses[type eq "work"].locality`, `addresses[type eq "work"].formatted`},
	{enterprise + ":department"}, {enterprise + ":manager"}, {enterprise + ":manager.value"},
}

// someSplit draws an upstream that stores parts of the schema. What it lacks is handled as unlisted says.
func someSplit(t *rapid.T, tb testing.TB, unlisted string, without ...string) *Transform {
	text := "extensions: [" + enterprise + "]\nunlisted: " + unlisted + "\nattributes:\n- path: userName\n"
	taken := map[string]bool{}
	for i, paths := range splits {
		attribute := strings.TrimPrefix(paths[0], enterprise+":")
		attribute, _, _ = strings.Cut(attribute, ".")
		attribute, _, _ = strings.Cut(attribute, "[")
		if taken[attribute] || slices.Contains(without, paths[0]) || !rapid.Bool().Draw(t, fmt.Sprintf("stores %d", i)) {
			continue
		}
		taken[attribute] = true
		for _, path := range paths {
			text += "- path: '" + path + "'\n"
		}
	}
	return inline(tb, text)
}

var word = rapid.StringMatching(`[a-c]{1,2}`)

func maybe(t *rapid.T, m map[string]any, name string, g *rapid.Generator[any]) {
	if rapid.Bool().Draw(t, "has "+name) {
		m[name] = g.Draw(t, name)
	}
}

func anyOf[T any](g *rapid.Generator[T]) *rapid.Generator[any] {
	return rapid.Map(g, func(v T) any { return v })
}

// someElements draws a list with at most one element of each type and at most one primary.
func someElements(t *rapid.T, name string, subs ...string) []any {
	var list []any
	primary := false
	for _, kind := range []string{"work", "home", "other"} {
		if !rapid.Bool().Draw(t, name+" "+kind) {
			continue
		}
		e := map[string]any{"type": kind}
		for _, sub := range subs {
			e[sub] = kind[:1] + word.Draw(t, sub) // values are unique
		}
		if !primary && rapid.Bool().Draw(t, "primary") {
			e["primary"], primary = true, true
		}
		list = append(list, e)
	}
	return list
}

func someUser(t *rapid.T) scim.Resource {
	r := scim.Resource{"schemas": []any{scim.SchemaUser}, "userName": word.Draw(t, "userName")}
	for _, name := range []string{"displayName", "title", "nickName", "externalId", "locale"} {
		maybe(t, r, name, anyOf(word))
	}
	maybe(t, r, "active", anyOf(rapid.Bool()))
	if name := (map[string]any{}); true {
		for _, sub := range []string{"givenName", "familyName", "formatted"} {
			maybe(t, name, sub, anyOf(word))
		}
		if len(name) > 0 {
			r["name"] = name
		}
	}
	if list := someElements(t, "emails", "value", "display"); list != nil {
		r["emails"] = list
	}
	if list := someElements(t, "addresses", "formatted", "locality"); list != nil {
		r["addresses"] = list
	}
	ext := map[string]any{}
	maybe(t, ext, "department", anyOf(word))
	maybe(t, ext, "manager", rapid.Map(word, func(s string) any { return map[string]any{"value": s, "$ref": "https://x/" + s} }))
	if len(ext) > 0 {
		r[enterprise] = ext
	}
	return r
}

// shown is what a client compares: without schemas and meta, lists in any order.
func shown(r scim.Resource) string {
	c := r.Clone()
	delete(c, "schemas")
	delete(c, "meta")
	delete(c, "id")
	for _, v := range c {
		if list, ok := v.([]any); ok {
			slices.SortFunc(list, func(a, b any) int {
				return strings.Compare(string(scim.AppendJSON(nil, a)), string(scim.AppendJSON(nil, b)))
			})
		}
	}
	return string(scim.AppendJSON(nil, c))
}

// create carries a create through a plan: what the upstream then holds, and what the gateway holds.
func create(t *rapid.T, tr *Transform, user scim.Resource) (scim.Resource, *Held) {
	req, _, err := Normalize(&scim.Request{Op: scim.OpCreate, Type: scim.UserType(), Resource: user})
	if err == nil {
		err = Validate(req)
	}
	if err != nil {
		t.Fatalf("create %s: %v", scim.AppendJSON(nil, user), err)
	}
	plan, err := tr.For(req, ruled(tr, req), nil, nil)
	if err != nil {
		t.Fatalf("plan %s: %v", scim.AppendJSON(nil, user), err)
	}
	stored := plan.Requests[0].Resource.Clone()
	stored["id"] = "7"
	for w := range req.Type.Values(plan.Requests[0].Resource) {
		if !tr.shapes["User"].stored.Has(w) {
			t.Errorf("sent %s, which the upstream lacks", w.Path)
		}
	}
	if plan.Held != nil {
		plan.Held.ID = "7"
	}
	return stored, plan.Held
}

func TestKeepShowsEverythingThatWasSent(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tr := someSplit(rt, t, "keep")
		user := someUser(rt)
		stored, held := create(rt, tr, user)
		finished, _ := tr.Finish(scim.UserType(), stored, held, "")
		if got, want := shown(finished), shown(user); got != want {
			rt.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestDropShowsWhatIsStored(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tr := someSplit(rt, t, "drop")
		user := someUser(rt)
		stored, held := create(rt, tr, user)
		want := stored.Clone()
		if ext := user.ExternalID(); ext != "" {
			want["externalId"] = ext // always kept
		}
		finished, _ := tr.Finish(scim.UserType(), stored, held, "")
		if got, want := shown(finished), shown(want); got != want {
			rt.Errorf("got %s, want %s", got, want)
		}
	})
}

// someOperation draws an operation of a PATCH as text.
func someOperation(t *rapid.T) string {
	verb := rapid.SampledFrom([]string{"add", "replace"}).Draw(t, "op")
	kind := rapid.SampledFrom([]string{"work", "home"}).Draw(t, "type")
	value := word.Draw(t, "value")
	object := func(path, value string) string {
		return fmt.Sprintf(`{"op":%q,"path":%q,"value":%s}`, verb, path, value)
	}
	text := func(path string) string { return object(path, `"`+value+`"`) }
	remove := func(path string) string { return fmt.Sprintf(`{"op":"remove","path":%q}`, path) }
	list := func(name string, subs ...string) string {
		list := someElements(t, name, subs...)
		if list == nil {
			list = []any{}
		}
		return string(scim.AppendJSON(nil, list))
	}
	return rapid.SampledFrom([]func() string{
		func() string { return text("displayName") },
		func() string { return text("externalId") },
		func() string { return text("name.givenName") },
		func() string { return text("department") },
		func() string { return text("manager") },
		func() string { return object("name", `{"familyName":"`+value+`","formatted":"`+value+`"}`) },
		func() string { return object("name", `{"familyName":null,"formatted":"`+value+`"}`) },
		func() string { return text(`emails[type eq "` + kind + `"].value`) },
		func() string { return text(`emails[type eq "` + kind + `"].display`) },
		func() string { return text(`addresses[type eq "` + kind + `"].locality`) },
		func() string { return object(`emails[type eq "`+kind+`"].primary`, `"True"`) },
		func() string {
			return object(`emails[type eq "`+kind+`"]`, `{"type":"`+kind+`","value":"`+value+`","display":"d"}`)
		},
		func() string { return object("emails", list("emails", "value", "display")) },
		func() string { return `{"op":"replace","path":"emails","value":` + list("emails", "value") + `}` },
		func() string {
			return `{"op":"replace","path":"addresses","value":` + list("addresses", "formatted", "locality") + `}`
		},
		func() string { return remove("displayName") },
		func() string { return remove("externalId") },
		func() string { return remove("name") },
		func() string { return remove("name.formatted") },
		func() string { return remove("emails") },
		func() string { return remove("manager") },
		func() string { return remove(`emails[type eq "` + kind + `"]`) },
		func() string { return remove(`emails[type eq "` + kind + `"].display`) },
		func() string { return remove(`addresses[type eq "` + kind + `"]`) },
	}).Draw(t, "operation")()
}

// TestPatchOfParts: a PATCH that is parted between the upstream and the gateway shows the client what it would show
// if one of them held everything. Two ways to part are left out: an upstream that knows values only and cannot pick
// them by type, for which policy refuses such paths; and one that stores which value is primary for some values only.
func TestPatchOfParts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tr := someSplit(rt, t, "keep", "emails.value", `emails[type eq "work"].primary`)
		user := someUser(rt)
		stored, held := create(rt, tr, user)
		model := user.Clone()
		for range rapid.IntRange(1, 4).Draw(rt, "patches") {
			text := "PATCH /Users/7 [" + someOperation(rt) + "]"
			req := read(t, text)
			next, _, err := req.Type.ApplyPatch(model, req.Operations)
			if err != nil {
				continue
			}
			plan, err := tr.For(req, ruled(tr, req), held, nil)
			if err != nil {
				rt.Fatalf("%s on %s: %v", text, shown(model), err)
			}
			if plan.How == Forward {
				changed, _, err := req.Type.ApplyPatch(stored, plan.Requests[0].Operations)
				if e, ok := err.(*scim.Error); ok && e.Type == scim.NoTarget {
					continue // only the gateway has the element: the client is told so
				} else if err != nil {
					rt.Fatalf("%s on %s: the upstream refuses: %v", text, shown(model), err)
				}
				stored = changed
			}
			if len(plan.KeptOps) > 0 {
				if held, err = tr.Keep(req.Type, "7", plan.KeptOps, held); err != nil {
					rt.Fatalf("%s on %s: %v", text, shown(model), err)
				}
			}
			finished, _ := tr.Finish(req.Type, stored.Clone(), held, "")
			if got, want := shown(finished), shown(next); got != want {
				rt.Fatalf("%s on\n%s: got\n%s, want\n%s\nupstream %s\nheld %s", text, shown(model), got, want, shown(stored), scim.AppendJSON(nil, held.Kept))
			}
			model = next
		}
	})
}
