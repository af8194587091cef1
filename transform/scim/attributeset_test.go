package scim

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func setOf(t rapid.TB, paths ...string) *AttributeSet {
	t.Helper()
	set, i, err := NewAttributeSet(UserType(), false, paths)
	if err != nil {
		t.Fatalf("%s: %v", paths[i], err)
	}
	return set
}

func TestNewAttributeSet(t *testing.T) {
	for _, tt := range []struct {
		paths []string
		index int
		want  string
	}{
		{[]string{"userName", "name.givenName", `emails[type eq "work"].value`, SchemaEnterpriseUser + ":manager"}, 0, ""},
		{[]string{`schemas[value eq "x"]`}, 0, ""}, // a simple attribute's value is itself
		{[]string{"userName", "size"}, 1, "400 invalidPath: size is no attribute of User"},
		{[]string{"userName", "name["}, 1, "400 invalidPath: "},
		{[]string{`name[givenName eq "x"]`}, 0, "400 invalidPath: "},
		{[]string{`emails[size eq "x"].value`}, 0, "400 invalidPath: "},
		{[]string{SchemaEnterpriseUser}, 0, "400 invalidPath: "},
	} {
		set, index, err := NewAttributeSet(UserType(), false, tt.paths)
		if tt.want == "" && (err != nil || set == nil) || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want) || index != tt.index || set != nil) {
			t.Errorf("%v: got %v, %d, %v, want %s", tt.paths, set, index, err, tt.want)
		}
	}
}

// Discovery lists the types of e-mail address that a set can hold (RFC 7643, Section 7), and no others.
func TestCanonicalValues(t *testing.T) {
	for _, tt := range []struct {
		path     string
		complete bool
		want     string
	}{
		{`emails[type eq "work"].value`, false, "work"},
		{`emails[TYPE eq "WORK" and primary eq true].value`, false, "work"},
		{`emails[primary eq true].type`, false, "work home other"},
		{`emails[type eq "work" or type eq "home"].value`, false, "work home other"},
		{"emails", false, "work home other"},
		{`emails[type eq "work"].value`, true, "work home other"},
		{"userName", false, ""},
	} {
		user := UserType()
		set, _, err := NewAttributeSet(user, tt.complete, []string{tt.path})
		if err != nil {
			t.Fatal(err)
		}
		narrowed, _ := user.RestrictValues(set.Canonical).Lookup(Ref{Name: "emails", Sub: "type"})
		if got := strings.Join(narrowed.Leaf().Canonical, " "); got != tt.want {
			t.Errorf("%s, complete %v: got %s, want %s", tt.path, tt.complete, got, tt.want)
		}
		if whole, _ := user.Lookup(Ref{Name: "emails", Sub: "type"}); len(whole.Leaf().Canonical) != 3 {
			t.Errorf("%s: the type itself changed", tt.path)
		}
	}
}

func TestAttributeSetWholeTouches(t *testing.T) {
	manager := SchemaEnterpriseUser + ":manager"
	set := setOf(t, "USERNAME", "name.givenName", "name.familyName", `emails[Type eq "work" and primary eq true].value`, "phoneNumbers.value", "addresses", "manager.value", `roles[type eq "a"]`)
	complete, _, _ := NewAttributeSet(UserType(), true, nil)
	for _, tt := range []struct{ path, want string }{ // w: whole, t: touched
		{"userName", "wt"}, {"title", ""}, {"id", ""},
		{"name", "t"}, {"name.givenName", "wt"}, {"name.formatted", ""},
		{"emails", "t"}, {"emails.value", "t"}, {"emails.type", "t"}, {"emails.primary", "t"}, {"emails.display", ""},
		{"phoneNumbers", "t"}, {"phoneNumbers.value", "wt"}, {"phoneNumbers.type", ""},
		{"addresses", "wt"}, {"addresses.type", "wt"},
		{"roles", "t"}, {"roles.value", "t"},
		{"manager", "t"}, {manager + ".value", "wt"}, {manager + ".displayName", ""}, {SchemaEnterpriseUser + ":department", ""},
	} {
		_, target, err := UserType().CompilePath(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := wholeTouches(set, target.Ref); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.path, got, tt.want)
		}
		if got := wholeTouches(complete, target.Ref); got != "wt" {
			t.Errorf("the complete set and %s: got %q", tt.path, got)
		}
	}
	if got := wholeTouches(complete, Ref{Name: "size"}) + wholeTouches(set, Ref{Name: "size"}); got != "" {
		t.Errorf("an unknown name: got %q", got)
	}
}

func wholeTouches(set *AttributeSet, ref Ref) string {
	s := ""
	if set.Whole(ref) {
		s += "w"
	}
	if set.Touches(ref) {
		s += "t"
	}
	return s
}

func TestAttributeSetSplit(t *testing.T) {
	const ext = `"` + SchemaEnterpriseUser + `"`
	work, home, bare := `{"type":"work","value":"w"}`, `{"type":"home","value":"h"}`, `{"value":"x"}`
	for _, tt := range []struct {
		paths          string // separated by |
		in, have, lack string
	}{
		{"userName", `{"schemas":["x"],"userName":"a","title":"t"}`, `{"userName":"a"}`, `{"title":"t"}`},
		{"userName|title", `{"userName":"a"}`, `{"userName":"a"}`, `{}`},
		{"", `{"userName":"a","x":1}`, `{}`, `{"userName":"a","x":1}`},
		{"name.givenName", `{"name":{"givenName":"g","familyName":"f","x":1}}`, `{"name":{"givenName":"g"}}`, `{"name":{"familyName":"f","x":1}}`},
		{"name", `{"name":{"givenName":"g","x":1}}`, `{"name":{"givenName":"g","x":1}}`, `{}`},
		{"name.givenName", `{"name":"odd"}`, `{}`, `{"name":"odd"}`},
		{`emails[type eq "work"].value`, `{"emails":[` + work + `,` + home + `,` + bare + `]}`, `{"emails":[` + work + `]}`, `{"emails":[` + home + `,` + bare + `]}`},
		{`emails[type eq "work"].value`, `{"emails":[{"type":"WORK","value":"w"}]}`, `{"emails":[{"type":"WORK","value":"w"}]}`, `{}`},
		{`emails[type eq "work"].value`, `{"emails":[{"type":"work","value":"w","display":"W","primary":true}]}`, `{"emails":[` + work + `]}`, `{"emails":[{"display":"W","primary":true,"type":"work"}]}`},
		{`emails[type eq "work"].value`, `{"emails":[{"type":"work","display":"W"}]}`, `{}`, `{"emails":[{"display":"W","type":"work"}]}`},
		{`emails[type eq "work"].value|emails[type eq "home"].value`, `{"emails":[` + work + `,` + home + `,` + bare + `]}`, `{"emails":[` + work + `,` + home + `]}`, `{"emails":[` + bare + `]}`},
		{`emails[type eq "work"].value|emails.primary`, `{"emails":[{"type":"home","value":"h","primary":true}]}`, `{"emails":[{"primary":true}]}`, `{"emails":[` + home + `]}`},
		{`emails[type eq "work"]`, `{"emails":[{"type":"work","value":"w","display":"W"},` + home + `]}`, `{"emails":[{"display":"W","type":"work","value":"w"}]}`, `{"emails":[` + home + `]}`},
		{`emails[primary eq true].value`, `{"emails":[{"primary":true,"value":"a"},{"primary":false,"value":"b"}]}`, `{"emails":[{"primary":true,"value":"a"}]}`, `{"emails":[{"primary":false,"value":"b"}]}`},
		{"emails.value", `{"emails":[` + work + `,"odd",{"type":"x"}]}`, `{"emails":[{"value":"w"}]}`, `{"emails":[{"type":"work"},"odd",{"type":"x"}]}`},
		{"emails", `{"emails":[]}`, `{"emails":[]}`, `{}`},
		{"emails.value", `{"emails":[]}`, `{}`, `{}`},
		{SchemaEnterpriseUser + ":department|manager.value", `{` + ext + `:{"department":"d","division":"x","y":1,"manager":{"value":"7","$ref":"r"}}}`,
			`{` + ext + `:{"department":"d","manager":{"value":"7"}}}`, `{` + ext + `:{"division":"x","manager":{"$ref":"r"},"y":1}}`},
		{SchemaEnterpriseUser + ":department", `{"department":"flat"}`, `{}`, `{"department":"flat"}`},
	} {
		set := setOf(t, slices.DeleteFunc(strings.Split(tt.paths, "|"), func(s string) bool { return s == "" })...)
		in := decode(t, tt.in)
		before := in.Clone()
		have, lack := set.Split(in)
		if jsonOf(have) != tt.have || jsonOf(lack) != tt.lack {
			t.Errorf("%s, %s: got %s and %s, want %s and %s", tt.paths, tt.in, jsonOf(have), jsonOf(lack), tt.have, tt.lack)
		}
		if !reflect.DeepEqual(in, before) {
			t.Errorf("%s, %s: the resource changed to %s", tt.paths, tt.in, jsonOf(in))
		}
	}
	complete, _, _ := NewAttributeSet(UserType(), true, nil)
	have, lack := complete.Split(decode(t, sample[:len(sample)-1]+`,"x":1}`))
	delete(have, "schemas")
	want := decode(t, sample)
	delete(want, "schemas")
	if !reflect.DeepEqual(have, want) || jsonOf(lack) != `{"x":1}` {
		t.Errorf("the complete set: got %s and %s", jsonOf(have), jsonOf(lack))
	}
}

func TestAttributeSetHas(t *testing.T) {
	set := setOf(t, "userName", "name.givenName", `emails[type eq "work"].value`, "manager.value")
	work, home := map[string]any{"type": "work", "value": "w"}, map[string]any{"type": "home", "value": "h"}
	emails := func(sub string, element map[string]any) Write {
		return Write{Ref: Ref{Name: "emails", Sub: sub}, Element: element, Known: true}
	}
	for _, tt := range []struct {
		w    Write
		want bool
	}{
		{Write{Ref: Ref{Name: "userName"}}, true},
		{Write{Ref: Ref{Name: "title"}}, false},
		{Write{Ref: Ref{Name: "name"}}, true}, // a part of it
		{Write{Ref: Ref{Name: "name", Sub: "givenName"}}, true},
		{Write{Ref: Ref{Name: "name", Sub: "familyName"}}, false},
		{Write{Ref: Ref{Schema: SchemaEnterpriseUser, Name: "manager", Sub: "value"}}, true},
		{Write{Ref: Ref{Name: "manager", Sub: "value"}}, false},
		{emails("value", work), true},
		{emails("value", home), false},
		{emails("value", nil), true}, // of any element: perhaps
		{emails("type", work), true},
		{emails("type", map[string]any{"type": "work"}), false}, // there is nothing to select
		{emails("type", home), false},
		{emails("display", work), false},
		{emails("", work), true},
		{emails("", home), false},
	} {
		if got := set.Has(tt.w); got != tt.want {
			t.Errorf("%s of %v: got %v, want %v", tt.w.Ref, tt.w.Element, got, tt.want)
		}
	}
	complete, _, _ := NewAttributeSet(UserType(), true, nil)
	if !complete.Has(Write{Ref: Ref{Name: "title"}, Known: true}) || complete.Has(Write{Ref: Ref{Name: "size"}}) {
		t.Error("the complete set holds what is known, and nothing else")
	}
}

// Whatever is split: nothing is lost, nothing is made up, and Values and Has say the same.
func TestAttributeSetSplitProperties(t *testing.T) {
	user := UserType()
	paths := []string{"userName", "name", "name.givenName", "emails", "emails.value", `emails[type eq "work"].value`, `emails[type eq "home"].value`, `emails[type eq "work"]`,
		`emails[primary eq true].display`, "title", SchemaEnterpriseUser + ":department", "manager", "manager.value", `roles[type eq "a" and primary eq true].value`}
	text := rapid.SampledFrom([]any{"work", "home", "a"})
	element := rapid.MapOfN(rapid.SampledFrom([]string{"value", "type", "display"}), text, 1, 3)
	rapid.Check(t, func(t *rapid.T) {
		set := setOf(t, rapid.SliceOfNDistinct(rapid.SampledFrom(paths), 0, 6, rapid.ID).Draw(t, "paths")...)
		r := Resource{}
		for _, name := range []string{"emails", "roles"} {
			var list []any
			for range rapid.IntRange(0, 4).Draw(t, name) {
				e := element.Draw(t, "element")
				if rapid.Bool().Draw(t, "primary?") {
					e["primary"] = rapid.Bool().Draw(t, "primary")
				}
				list = append(list, e)
			}
			if list != nil {
				r[name] = list
			}
		}
		maps.Copy(r, rapid.MapOfN(rapid.SampledFrom([]string{"userName", "title", "unknown"}), text, 0, 3).Draw(t, "simple"))
		if name := rapid.MapOfN(rapid.SampledFrom([]string{"givenName", "familyName"}), text, 0, 2).Draw(t, "name"); len(name) > 0 {
			r["name"] = name
		}
		have, lack := set.Split(r)
		all := valuesOf(user, r)
		for _, w := range valuesOf(user, have) {
			if !slices.ContainsFunc(all, func(o Write) bool { return o.Ref == w.Ref && reflect.DeepEqual(o.Value, w.Value) }) {
				t.Fatalf("%s of %v was made up", w.Path, w.Element)
			}
		}
		for _, w := range all {
			side := lack
			if set.Has(w) {
				side = have
			}
			if !slices.ContainsFunc(valuesOf(user, side), func(o Write) bool { return o.Ref == w.Ref && reflect.DeepEqual(o.Value, w.Value) }) {
				t.Fatalf("%s = %v is in the set: %v; have %v, lack %v", w.Path, w.Value, set.Has(w), have, lack)
			}
		}
	})
}

func valuesOf(rt *ResourceType, r Resource) []Write { return slices.Collect(rt.Values(r)) }
