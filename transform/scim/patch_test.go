package scim

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// readOps reads operations as they stand in a PATCH body.
func readOps(rt *ResourceType, s string) ([]PatchOp, error) {
	body, err := DecodeObject([]byte(`{"o":` + s + `}`))
	if err != nil {
		return nil, err
	}
	var ops []PatchOp
	for _, v := range body["o"].([]any) {
		m := v.(map[string]any)
		op := PatchOp{Value: m["value"]}
		op.Op, _ = m["op"].(string)
		op.Op = strings.ToLower(op.Op)
		if path, ok := m["path"].(string); ok {
			if op.Path, err = ParsePath(path); err != nil {
				return nil, err
			}
			op.Target, _ = rt.ResolvePath(op.Path)
		}
		ops = append(ops, op)
	}
	return ops, nil
}

func jsonOf(r Resource) string { return string(AppendJSON(nil, map[string]any(r))) }

const enterpriseURN = `"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"`

// The resources of TestApplyPatch are without schemas, unless that is the point.
func TestApplyPatch(t *testing.T) {
	const work = `{"type":"work","value":"w"}`
	const home = `{"type":"home","value":"h"}`
	tests := []struct{ name, in, ops, want string }{
		// add
		{"add single", `{"userName":"a"}`, `[{"op":"add","path":"title","value":"x"}]`, `{"userName":"a","title":"x"}`},
		{"add replaces single", `{"title":"x"}`, `[{"op":"add","path":"title","value":"y"}]`, `{"title":"y"}`},
		{"add sub-attribute", `{}`, `[{"op":"add","path":"name.givenName","value":"x"}]`, `{"name":{"givenName":"x"}}`},
		{"add merges complex", `{"name":{"givenName":"x"}}`, `[{"op":"add","path":"name","value":{"FAMILYNAME":"y","middleName":null}}]`, `{"name":{"familyName":"y","givenName":"x"}}`},
		{"add empty object", `{"userName":"a"}`, `[{"op":"add","path":"name","value":{}}]`, ``},
		{"add null", `{"title":"x"}`, `[{"op":"add","path":"title"}]`, ``},
		{"add same", `{"title":"x"}`, `[{"op":"add","path":"title","value":"x"}]`, ``},
		{"add array", `{"emails":[` + work + `]}`, `[{"op":"add","path":"emails","value":[` + home + `]}]`, `{"emails":[` + work + `,` + home + `]}`},
		{"add element", `{}`, `[{"op":"add","path":"emails","value":` + home + `}]`, `{"emails":[` + home + `]}`},
		{"add known element", `{"emails":[` + work + `]}`, `[{"op":"add","path":"emails","value":[` + work + `]}]`, ``},
		{"add completes", `{"emails":[` + work + `]}`, `[{"op":"add","path":"emails","value":{"value":"w","type":"work","display":"W"}}]`, `{"emails":[{"display":"W","type":"work","value":"w"}]}`},
		{"add untyped", `{"emails":[` + work + `]}`, `[{"op":"add","path":"emails","value":{"value":"w","display":"W"}}]`, `{"emails":[` + work + `,{"display":"W","value":"w"}]}`},
		{"add other type", `{"emails":[{"value":"w"}]}`, `[{"op":"add","path":"emails","value":[{"value":"w","type":"a"},{"value":"w","type":"b"}]}]`, `{"emails":[{"value":"w"},{"type":"a","value":"w"},{"type":"b","value":"w"}]}`},
		{"add extension with schemas", `{}`, `[{"op":"add","path":` + enterpriseURN + `,"value":{"schemas":[` + enterpriseURN + `],"department":"d"}}]`, `{` + enterpriseURN + `:{"department":"d"}}`},
		{"add no value", `{"addresses":[{"locality":"X"}]}`, `[{"op":"add","path":"addresses","value":[{"locality":"X"},{"locality":"Y"},{}]}]`, `{"addresses":[{"locality":"X"},{"locality":"Y"}]}`},
		{"add primary", `{"emails":[{"primary":true,"value":"a"},{"value":"b"}]}`, `[{"op":"add","path":"emails","value":{"value":"c","primary":true}}]`, `{"emails":[{"primary":false,"value":"a"},{"value":"b"},{"primary":true,"value":"c"}]}`},
		{"add with filter", `{"emails":[` + work + `,` + home + `]}`, `[{"op":"add","path":"emails[type eq \"work\"]","value":{"display":"W"}}]`, `{"emails":[{"display":"W","type":"work","value":"w"},` + home + `]}`},
		{"add with filter and sub", `{"emails":[` + work + `,` + home + `]}`, `[{"op":"add","path":"emails[type eq \"work\"].value","value":"x"}]`, `{"emails":[{"type":"work","value":"x"},` + home + `]}`},
		{"add creates element", `{"emails":[` + home + `]}`, `[{"op":"add","path":"emails[Type eq \"work\"].value","value":"x"}]`, `{"emails":[` + home + `,{"type":"work","value":"x"}]}`},
		{"add creates by several terms", `{}`, `[{"op":"add","path":"addresses[type eq \"work\" and primary eq true]","value":{"formatted":"x"}}]`, `{"addresses":[{"formatted":"x","primary":true,"type":"work"}]}`},
		{"add creates what is selected then", `{}`, `[{"op":"add","path":"emails[type eq \"work\" and value pr].value","value":"x"}]`, `{"emails":[{"type":"work","value":"x"}]}`},
		{"add creates a simple element", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"]}`, `[{"op":"add","path":"schemas[value eq \"urn:x\"]","value":"urn:x"}]`, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:x"]}`},
		{"add renames the selected", `{"emails":[{"value":"a"}]}`, `[{"op":"add","path":"emails[value eq \"a\"].value","value":"b"}]`, `{"emails":[{"value":"b"}]}`},
		{"add sub-attribute of all", `{"emails":[{"value":"a"},{"value":"b"}]}`, `[{"op":"add","path":"emails.type","value":"x"}]`, `{"emails":[{"type":"x","value":"a"},{"type":"x","value":"b"}]}`},
		{"add sub-attribute of none", `{}`, `[{"op":"add","path":"emails.value","value":"x"}]`, `{"emails":[{"value":"x"}]}`},
		{"add without path", `{"emails":[` + home + `],"title":"x"}`, `[{"op":"add","value":{"emails":[` + work + `],"NICKNAME":"n","title":null}}]`, `{"emails":[` + home + `,` + work + `],"nickName":"n","title":"x"}`},
		{"add paths without path", `{}`, `[{"op":"add","value":{"name.givenName":"x",` + enterprisePrefix + `department":"d","manager":{"value":"1"}}}]`,
			`{"name":{"givenName":"x"},` + enterpriseURN + `:{"department":"d","manager":{"value":"1"}}}`},
		{"add value path without path", `{}`, `[{"op":"add","value":{"emails[type eq \"work\"].value":"x"}}]`, `{"emails":[{"type":"work","value":"x"}]}`},
		{"add unknown without path", `{}`, `[{"op":"add","value":{"x-y":{"a":[1]},"n":null}}]`, `{"x-y":{"a":[1]}}`},
		{"add unknown sub-attribute", `{}`, `[{"op":"add","path":"name","value":{"nick":"x"}}]`, `{"name":{"nick":"x"}}`},
		{"add read-only as it is", `{"id":"1","meta":{"resourceType":"User","version":"v"}}`, `[{"op":"add","value":{"id":"1","meta":{"resourceType":"User"},"title":"x"}}]`, `{"id":"1","meta":{"resourceType":"User","version":"v"},"title":"x"}`},
		{"add extension attribute", `{}`, `[{"op":"add","path":` + enterprisePrefix + `department","value":"d"}]`, `{` + enterpriseURN + `:{"department":"d"}}`},
		{"add extension", `{` + enterpriseURN + `:{"costCenter":"c"}}`, `[{"op":"add","path":` + enterpriseURN + `,"value":{"DEPARTMENT":"d"}}]`, `{` + enterpriseURN + `:{"costCenter":"c","department":"d"}}`},
		{"add extension without path", `{}`, `[{"op":"add","value":{` + strings.ToLower(enterpriseURN) + `:{"department":"d","x":1}}}]`, `{` + enterpriseURN + `:{"department":"d","x":1}}`},
		{"add manager.value", `{}`, `[{"op":"add","path":` + enterprisePrefix + `manager.value","value":"1"}]`, `{` + enterpriseURN + `:{"manager":{"value":"1"}}}`},
		// remove
		{"remove single", `{"title":"x","userName":"a"}`, `[{"op":"remove","path":"TITLE"}]`, `{"userName":"a"}`},
		{"remove absent", `{"userName":"a"}`, `[{"op":"remove","path":"title"},{"op":"remove","path":"emails[type eq \"x\"]"},{"op":"remove","path":"name.givenName"}]`, ``},
		{"remove sub-attribute", `{"name":{"givenName":"x","familyName":"y"}}`, `[{"op":"remove","path":"name.givenName"}]`, `{"name":{"familyName":"y"}}`},
		{"remove last sub-attribute", `{"title":"t","name":{"givenName":"x"}}`, `[{"op":"remove","path":"name.givenName"}]`, `{"title":"t"}`},
		{"remove all", `{"title":"t","emails":[` + work + `]}`, `[{"op":"remove","path":"emails"}]`, `{"title":"t"}`},
		{"remove selected", `{"emails":[` + work + `,` + home + `]}`, `[{"op":"remove","path":"emails[type eq \"work\" and value ew \"w\"]"}]`, `{"emails":[` + home + `]}`},
		{"remove last selected", `{"title":"t","emails":[` + work + `]}`, `[{"op":"remove","path":"emails[type eq \"work\"]"}]`, `{"title":"t"}`},
		{"remove selected sub", `{"emails":[` + work + `,` + home + `]}`, `[{"op":"remove","path":"emails[type eq \"work\"].value"}]`, `{"emails":[{"type":"work"},` + home + `]}`},
		{"remove selected last sub", `{"emails":[{"type":"work"},` + home + `]}`, `[{"op":"remove","path":"emails[type eq \"work\"].type"}]`, `{"emails":[` + home + `]}`},
		{"remove sub of all", `{"emails":[` + work + `,` + home + `]}`, `[{"op":"remove","path":"emails.type"}]`, `{"emails":[{"value":"w"},{"value":"h"}]}`},
		{"remove unmatched", `{"emails":[` + work + `]}`, `[{"op":"remove","path":"emails[type eq \"home\"].value"}]`, ``},
		{"remove with value", `{"emails":[` + work + `,` + home + `]}`, `[{"op":"remove","path":"emails","value":[{"value":"w"}]}]`, `{"emails":[` + home + `]}`},
		{"remove with bare value", `{"emails":[` + work + `,` + home + `]}`, `[{"op":"remove","path":"emails","value":"w"}]`, `{"emails":[` + home + `]}`},
		{"remove with other value", `{"emails":[` + work + `]}`, `[{"op":"remove","path":"emails","value":{"value":"w","type":"home"}},{"op":"remove","path":"emails","value":[]},{"op":"remove","path":"emails","value":{}},{"op":"remove","path":"emails","value":{"type":"work"}}]`, ``},
		{"remove with equal value", `{"addresses":[{"locality":"X"},{"locality":"X","region":"R"}]}`, `[{"op":"remove","path":"addresses","value":{"locality":"X"}}]`, `{"addresses":[{"locality":"X","region":"R"}]}`},
		{"remove extension", `{"title":"t",` + enterpriseURN + `:{"department":"d","x":1}}`, `[{"op":"remove","path":` + enterpriseURN + `}]`, `{"title":"t"}`},
		{"remove extension attribute", `{"title":"t",` + enterpriseURN + `:{"department":"d"}}`, `[{"op":"remove","path":"department"}]`, `{"title":"t"}`},
		// replace
		{"replace single", `{"active":true}`, `[{"op":"replace","path":"active","value":false}]`, `{"active":false}`},
		{"replace absent", `{}`, `[{"op":"replace","path":"title","value":"x"}]`, `{"title":"x"}`},
		{"replace null", `{"title":"x","userName":"a"}`, `[{"op":"replace","path":"title","value":null}]`, `{"userName":"a"}`},
		{"replace merges complex", `{"name":{"givenName":"x","familyName":"y","middleName":"m"}}`, `[{"op":"replace","path":"name","value":{"givenName":"z","middleName":null}}]`, `{"name":{"familyName":"y","givenName":"z"}}`},
		{"replace array", `{"emails":[` + work + `]}`, `[{"op":"replace","path":"emails","value":[` + home + `]}]`, `{"emails":[` + home + `]}`},
		{"replace by element", `{"emails":[` + work + `,` + home + `]}`, `[{"op":"replace","path":"emails","value":{"value":"x"}}]`, `{"emails":[{"value":"x"}]}`},
		{"replace by nothing", `{"title":"t","emails":[` + work + `]}`, `[{"op":"replace","path":"emails","value":[]}]`, `{"title":"t"}`},
		{"replace selected", `{"emails":[{"type":"work","value":"w","display":"W"},` + home + `]}`, `[{"op":"replace","path":"emails[type eq \"work\"]","value":{"type":"work","value":"x"}}]`, `{"emails":[{"type":"work","value":"x"},` + home + `]}`},
		{"replace selected by array", `{"emails":[` + work + `]}`, `[{"op":"replace","path":"emails[type eq \"work\"]","value":[` + home + `]}]`, `{"emails":[` + home + `]}`},
		{"replace every selected sub", `{"emails":[{"type":"work","value":"a"},{"type":"work","value":"b"}]}`, `[{"op":"replace","path":"emails[type eq \"work\"].display","value":"x"}]`,
			`{"emails":[{"display":"x","type":"work","value":"a"},{"display":"x","type":"work","value":"b"}]}`},
		{"replace primary", `{"emails":[{"primary":true,"value":"a"},{"value":"b"}]}`, `[{"op":"replace","path":"emails[value eq \"b\"].primary","value":true}]`, `{"emails":[{"primary":false,"value":"a"},{"primary":true,"value":"b"}]}`},
		{"replace without path", `{"emails":[` + work + `],"title":"x","nickName":"n"}`, `[{"op":"replace","value":{"emails":[` + home + `],"title":"y","nickName":null}}]`, `{"emails":[` + home + `],"title":"y"}`},
		{"replace extension by null", `{"title":"t",` + enterpriseURN + `:{"department":"d"}}`, `[{"op":"replace","value":{` + enterpriseURN + `:null}}]`, `{"title":"t"}`},
		{"there and back", `{"title":"x"}`, `[{"op":"replace","path":"title","value":"y"},{"op":"replace","path":"title","value":"x"}]`, ``},
		{"in order", `{"emails":[` + work + `]}`, `[{"op":"remove","path":"emails"},{"op":"add","path":"emails","value":[` + home + `]},{"op":"replace","path":"emails[type eq \"home\"].type","value":"x"}]`, `{"emails":[{"type":"x","value":"h"}]}`},
		// schemas
		{"schemas follow an extension", `{"schemas":["` + SchemaUser + `"]}`, `[{"op":"add","path":"department","value":"d"}]`, `{"schemas":["` + SchemaUser + `",` + enterpriseURN + `],` + enterpriseURN + `:{"department":"d"}}`},
		{"schemas forget an extension", `{"schemas":["` + SchemaUser + `",` + enterpriseURN + `],` + enterpriseURN + `:{"department":"d"}}`, `[{"op":"remove","path":"department"}]`, `{"schemas":["` + SchemaUser + `"]}`},
		{"schemas are made true", `{"schemas":["` + SchemaUser + `"]}`, `[{"op":"replace","path":"schemas","value":["urn:x:Other"]}]`, `{"schemas":["` + SchemaUser + `","urn:x:Other"]}`},
	}
	rt := UserType()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := decode(t, tt.in)
			ops, err := readOps(rt, tt.ops)
			if err != nil {
				t.Fatal(err)
			}
			got, changed, err := rt.ApplyPatch(in, ops)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if want == "" {
				want = jsonOf(in)
			}
			if changed != (tt.want != "") {
				t.Errorf("changed = %v, want %v", changed, !changed)
			}
			if in["schemas"] == nil {
				delete(got, "schemas")
			}
			if wanted := jsonOf(decode(t, want)); jsonOf(got) != wanted {
				t.Errorf("got  %s\nwant %s", jsonOf(got), wanted)
			}
			if jsonOf(in) != jsonOf(decode(t, tt.in)) {
				t.Errorf("the argument is now %s", jsonOf(in))
			}
		})
	}
}

const enterprisePrefix = `"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:`

func TestApplyPatchMembers(t *testing.T) {
	tests := []struct{ name, in, ops, want string }{
		{"known member", `{"members":[{"value":"1","display":"Old","$ref":"r"}]}`, `[{"op":"add","path":"members","value":[{"value":"1","display":"New"},{"value":"2"}]}]`, `{"members":[{"$ref":"r","display":"Old","value":"1"},{"value":"2"}]}`},
		{"typed member", `{"members":[{"value":"1"}]}`, `[{"op":"add","path":"members","value":[{"value":"1","type":"User"}]}]`, `{"members":[{"type":"User","value":"1"}]}`},
		{"ids are exact", `{"members":[{"value":"a"}]}`, `[{"op":"add","path":"members","value":[{"value":"A"}]}]`, `{"members":[{"value":"a"},{"value":"A"}]}`},
		{"remove by value", `{"members":[{"value":"1","display":"x"},{"value":"2"}]}`, `[{"op":"remove","path":"members","value":[{"value":"1","$ref":null}]}]`, `{"members":[{"value":"2"}]}`},
		{"remove by filter", `{"members":[{"value":"1"},{"value":"2"}]}`, `[{"op":"remove","path":"members[value eq \"1\"]"}]`, `{"members":[{"value":"2"}]}`},
		{"replace element", `{"members":[{"value":"1"},{"value":"2"}]}`, `[{"op":"replace","path":"members[value eq \"1\"]","value":{"value":"3"}}]`, `{"members":[{"value":"3"},{"value":"2"}]}`},
	}
	rt := GroupType()
	for _, tt := range tests {
		ops, err := readOps(rt, tt.ops)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := rt.ApplyPatch(decode(t, tt.in), ops)
		delete(got, "schemas")
		if wanted := jsonOf(decode(t, tt.want)); err != nil || jsonOf(got) != wanted {
			t.Errorf("%s: got  %s, %v\nwant %s", tt.name, jsonOf(got), err, wanted)
		}
	}
}

func TestApplyPatchRefuses(t *testing.T) {
	const user = `{"id":"1","userName":"a","emails":[{"type":"work","value":"w"},{"type":"work","value":"v"}]}`
	tests := []struct{ ops, scimType, want string }{
		{`[{"op":"remove"}]`, NoTarget, `Operations[0]: remove needs a path`},
		{`[{"op":"delete","path":"title"}]`, InvalidSyntax, `Operations[0].path "title": op must be add, remove or replace`},
		{`[{"op":"add","value":"x"}]`, InvalidValue, `Operations[0]: value must be an object where there is no path`},
		{`[{"op":"replace"}]`, InvalidValue, `Operations[0]: value must be an object where there is no path`},
		{`[{"op":"add","path":"title","value":"x"},{"op":"add","path":"complexField.subField","value":"x"}]`, InvalidPath, `Operations[1].path "complexField.subField": User has no such attribute`},
		{`[{"op":"add","path":"emails[colour eq \"red\"]","value":{}}]`, InvalidPath, `Operations[0].path "emails[colour eq ...]": User has no such attribute`},
		{`[{"op":"add","path":"` + SchemaUser + `","value":"x"}]`, InvalidPath, `Operations[0].path "urn:ietf:params:scim:schemas:core:2.0:User": User has no such attribute`},
		{`[{"op":"add","path":` + enterpriseURN + `,"value":{"key":"value"}}]`, InvalidPath, `Operations[0].path ` + enterpriseURN + `: the extension has no attribute "key"`},
		{`[{"op":"add","path":` + enterpriseURN + `,"value":"x"}]`, InvalidValue, `Operations[0].path ` + enterpriseURN + `: the value of an extension must be an object, not this string`},
		{`[{"op":"remove","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User.attr","value":"x"}]`, InvalidPath, `Operations[0].path "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User.attr": User has no such attribute`},
		{`[{"op":"replace","path":"active","value":"yes"}]`, InvalidValue, `Operations[0].path "active": active must be true or false, not this string`},
		{`[{"op":"replace","value":{"title":"x","name":"y"}}]`, InvalidValue, `Operations[0]: value "name": name must be an object, not this string`},
		{`[{"op":"add","path":"emails","value":{"value":5}}]`, InvalidValue, `Operations[0].path "emails": emails.value must be a string, not this number`},
		{`[{"op":"add","path":"emails[type eq \"work\"].value","value":{"value":"x"}}]`, InvalidValue, `Operations[0].path "emails[type eq \"work\"].value": emails.value must be a string, not an object`},
		{`[{"op":"replace","path":"emails[type eq \"work\"]","value":[{},{}]}]`, InvalidValue, `Operations[0].path "emails[type eq \"work\"]": value must be one element of emails, not an array of 2`},
		{`[{"op":"replace","path":"emails[value eq \"bob@example.com\"].type","value":"x"}]`, NoTarget, `Operations[0].path "emails[value eq ...].type": no value of emails matches the filter`},
		{`[{"op":"add","path":"emails[type ne \"work\"].value","value":"x"}]`, NoTarget, `Operations[0].path "emails[type ne \"work\"].value": no value of emails matches the filter, and the filter does not say what a new one would be`},
		{`[{"op":"add","path":"emails[type eq \"a\" and type eq \"b\"].value","value":"x"}]`, NoTarget, `Operations[0].path "emails[type eq \"a\" and type eq \"b\"].value": no value of emails matches the filter, and the filter does not say what a new one would be`},
		{`[{"op":"add","path":"emails[type eq \"home\"].type","value":"x"}]`, NoTarget, `Operations[0].path "emails[type eq \"home\"].type": no value of emails matches the filter, and the filter does not say what a new one would be`},
		{`[{"op":"add","path":"emails[type eq 5].value","value":"x"}]`, NoTarget, `Operations[0].path "emails[type eq 5].value": no value of emails matches the filter, and the filter does not say what a new one would be`},
		{`[{"op":"replace","path":"emails[type eq \"work\"].primary","value":true}]`, InvalidValue, `Operations[0].path "emails[type eq \"work\"].primary": only one value of emails can be primary`},
		{`[{"op":"add","path":"emails","value":[{"value":"x","primary":true},{"value":"y","primary":true}]}]`, InvalidValue, `Operations[0].path "emails": emails has 2 primary values: at most one is allowed`},
		{`[{"op":"replace","path":"id","value":"2"}]`, Mutability, `Operations[0].path "id": id is readOnly: leave it out`},
		{`[{"op":"remove","path":"meta.version"}]`, Mutability, `Operations[0].path "meta.version": meta.version is readOnly: leave it out`},
		{`[{"op":"add","path":"groups","value":[{"value":"g"}]}]`, Mutability, `Operations[0].path "groups": groups is readOnly: leave it out`},
		{`[{"op":"replace","value":{"id":"2"}}]`, Mutability, `Operations[0]: value "id": id is readOnly: leave it out`},
		{`[{"op":"remove","path":"userName"}]`, Mutability, `Operations[0].path "userName": userName is required: it cannot be removed`},
		{`[{"op":"replace","value":{"userName":null}}]`, Mutability, `Operations[0]: value "userName": userName is required: it cannot be removed`},
	}
	rt := UserType()
	for _, tt := range tests {
		ops, err := readOps(rt, tt.ops)
		if err != nil {
			t.Fatalf("%s: %v", tt.ops, err)
		}
		in := decode(t, user)
		got, changed, err := rt.ApplyPatch(in, ops)
		checkDetail(t, tt.ops, err, tt.scimType, tt.want)
		if got != nil || changed || jsonOf(in) != jsonOf(decode(t, user)) {
			t.Errorf("%s: left %s, %v, and the argument %s", tt.ops, jsonOf(got), changed, jsonOf(in))
		}
	}
	group := GroupType()
	for ops, want := range map[string]string{
		`[{"op":"replace","path":"members[value eq \"1\"].value","value":"2"}]`: `Operations[0].path "members[value eq ...].value": members.value is immutable: it cannot change once it has a value`,
		`[{"op":"remove","path":"members.value"}]`:                              `Operations[0].path "members.value": members.value is immutable: it cannot change once it has a value`,
		`[{"op":"remove","path":"displayName"}]`:                                `Operations[0].path "displayName": displayName is required: it cannot be removed`,
	} {
		list, err := readOps(group, ops)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = group.ApplyPatch(decode(t, `{"displayName":"g","members":[{"value":"1"}]}`), list)
		checkDetail(t, ops, err, Mutability, want)
	}
}

// TestApplyPatchDefinitions is about characteristics that no attribute of the RFC's schemas has.
func TestApplyPatchDefinitions(t *testing.T) {
	rt := &ResourceType{Name: "Thing", Core: &Schema{ID: "urn:x", Attributes: []*Attribute{
		{Name: "serial", Kind: String, Mutability: "immutable"},
		{Name: "part", Kind: Complex, Sub: []*Attribute{{Name: "code", Kind: String, Required: true}, {Name: "colour", Kind: String}}},
		{Name: "parts", Kind: Complex, MultiValued: true, Required: true, Sub: []*Attribute{{Name: "code", Kind: String, Required: true}}},
		{Name: "tags", Kind: String, MultiValued: true},
	}}}
	tests := []struct{ in, ops, want, err string }{
		{`{}`, `[{"op":"add","path":"serial","value":null}]`, `{}`, ``},
		{`{"serial":"1"}`, `[{"op":"remove","path":"serial"}]`, ``, `Operations[0].path "serial": serial is immutable: it cannot change once it has a value`},
		{`{"part":{"code":"1","colour":"red"}}`, `[{"op":"remove","path":"part.colour"}]`, `{"part":{"code":"1"}}`, ``},
		{`{"part":{"code":"1"}}`, `[{"op":"remove","path":"part.code"}]`, ``, `Operations[0].path "part.code": part.code is required: it cannot be removed`},
		{`{"parts":[{"code":"1"}]}`, `[{"op":"remove","path":"parts[code eq \"1\"]"}]`, ``, `Operations[0].path "parts[code eq ...]": parts is required: it cannot be removed`},
		{`{"parts":[{"code":"1"}]}`, `[{"op":"remove","path":"parts[code eq \"1\"].code"}]`, ``, `Operations[0].path "parts[code eq ...].code": parts.code is required: it cannot be removed`},
		{`{"parts":[{"code":"1"},{"code":"2"}]}`, `[{"op":"remove","path":"parts[code eq \"1\"]"}]`, `{"parts":[{"code":"2"}]}`, ``},
		{`{"tags":["a","b"]}`, `[{"op":"remove","path":"tags[value eq \"A\"]"}]`, `{"tags":["b"]}`, ``},
		{`{"tags":["a","b"]}`, `[{"op":"remove","path":"tags","value":"a"}]`, `{"tags":["b"]}`, ``},
	}
	for _, tt := range tests {
		ops, err := readOps(rt, tt.ops)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := rt.ApplyPatch(decode(t, tt.in), ops)
		delete(got, "schemas")
		checkDetail(t, tt.ops, err, Mutability, tt.err)
		if err == nil && jsonOf(got) != jsonOf(decode(t, tt.want)) {
			t.Errorf("%s of %s: got %s, want %s", tt.ops, tt.in, jsonOf(got), tt.want)
		}
	}
}

// genOp draws an operation that the User type takes.
func genOp() *rapid.Generator[string] {
	text := rapid.SampledFrom([]string{`"a"`, `"b"`, `"bjensen@example.com"`, `""`})
	element := rapid.Custom(func(t *rapid.T) string {
		s := `{"value":` + text.Draw(t, "value")
		if kind := rapid.SampledFrom([]string{"", "work", "home"}).Draw(t, "type"); kind != "" {
			s += `,"type":"` + kind + `"`
		}
		return s + rapid.SampledFrom([]string{``, `,"primary":true`, `,"display":null`}).Draw(t, "more") + `}`
	})
	return rapid.Custom(func(t *rapid.T) string {
		op := rapid.SampledFrom([]string{"add", "remove", "replace"}).Draw(t, "op")
		path := rapid.SampledFrom([]string{
			"title", "name", "name.givenName", "emails", "emails.value", "emails[type eq \\\"work\\\"]", "emails[type eq \\\"work\\\"].value",
			"emails[primary eq true].primary", "manager", "manager.value", "department",
		}).Draw(t, "path")
		var value string
		switch path {
		case "name":
			value = `{"givenName":` + text.Draw(t, "given") + `,"familyName":null}`
		case "emails":
			value = "[" + element.Draw(t, "first") + "," + strings.Replace(element.Draw(t, "second"), "true", "false", 1) + "]"
		case "emails[type eq \\\"work\\\"]":
			value = element.Draw(t, "element")
		case "manager":
			value = `{"value":` + text.Draw(t, "manager") + `}`
		case "emails[primary eq true].primary":
			value = rapid.SampledFrom([]string{"true", "false"}).Draw(t, "primary")
		default:
			value = text.Draw(t, "text")
		}
		if op == "remove" {
			return `{"op":"remove","path":"` + path + `"}`
		}
		return `{"op":"` + op + `","path":"` + path + `","value":` + value + `}`
	})
}

func apply(t rapid.TB, rt *ResourceType, r Resource, ops string) (Resource, bool, error) {
	t.Helper()
	list, err := readOps(rt, ops)
	if err != nil {
		t.Fatalf("%s: %v", ops, err)
	}
	before, given := jsonOf(r), list
	out, changed, err := rt.ApplyPatch(r, list)
	again, err2 := readOps(rt, ops)
	if err2 != nil || jsonOf(r) != before {
		t.Fatalf("%s changed its argument from %s to %s", ops, before, jsonOf(r))
	}
	for i := range given {
		if !same(given[i].Value, again[i].Value) {
			t.Fatalf("%s changed its value to %s", ops, AppendJSON(nil, given[i].Value))
		}
	}
	return out, changed, err
}

// TestApplyPatchProperties: nothing changes its arguments, changed tells the truth, what was applied twice is
// applied once, and all operations apply or none.
func TestApplyPatchProperties(t *testing.T) {
	rt, full := UserType(), decode(t, babs)
	rapid.Check(t, func(t *rapid.T) {
		r := full
		if rapid.Bool().Draw(t, "small") {
			r = Resource{"schemas": []any{SchemaUser}, "userName": "a"}
		}
		for _, op := range rapid.SliceOfN(genOp(), 1, 4).Draw(t, "ops") {
			once, changed, err := apply(t, rt, r, "["+op+"]")
			if err != nil {
				if all, _, err := apply(t, rt, r, `[{"op":"add","path":"nickName","value":"n"},`+op+`]`); err == nil || all != nil {
					t.Fatalf("%s fails alone, but not behind another: %s", op, jsonOf(all))
				}
				continue
			}
			if changed == same(map[string]any(r), map[string]any(once)) {
				t.Fatalf("%s: changed is %v from %s to %s", op, changed, jsonOf(r), jsonOf(once))
			}
			twice, again, err := apply(t, rt, once, "["+op+"]")
			if strings.Contains(op, `"emails[`) && err != nil {
				r = once
				continue // what the filter selected is no longer what it selects
			}
			if err != nil || again || !same(map[string]any(once), map[string]any(twice)) {
				t.Fatalf("%s again: from %s to %s, %v, %v", op, jsonOf(once), jsonOf(twice), again, err)
			}
			r = once
		}
	})
}

// TestApplyPatchAddRemove: removing what was added leads back, where it was not there before.
func TestApplyPatchAddRemove(t *testing.T) {
	rt, full := UserType(), decode(t, babs)
	for _, c := range [][2]string{
		{`{"op":"add","path":"nickName","value":"n"}`, `{"op":"remove","path":"nickName"}`},
		{`{"op":"add","path":"name.middleName","value":"n"}`, `{"op":"remove","path":"name.middleName"}`},
		{`{"op":"add","path":"photos","value":[{"value":"https://x/1"},{"value":"https://x/2"}]}`, `{"op":"remove","path":"photos"}`},
		{`{"op":"add","path":"emails","value":{"value":"new","type":"x"}}`, `{"op":"remove","path":"emails","value":{"value":"new"}}`},
		{`{"op":"add","path":"emails[type eq \"other\"].value","value":"new"}`, `{"op":"remove","path":"emails[type eq \"other\"]"}`},
		{`{"op":"add","path":"department","value":"d"}`, `{"op":"remove","path":"department"}`},
	} {
		from := full.Clone()
		delete(from, "nickName")
		out, changed, err := apply(t, rt, from, "["+c[0]+","+c[1]+"]")
		if err != nil || changed || !same(map[string]any(from), map[string]any(out)) {
			t.Errorf("%s, %s: %s, %v, %v, want what was there before", c[0], c[1], jsonOf(out), changed, err)
		}
	}
}

func FuzzPatch(f *testing.F) {
	f.Add("add", `emails[type eq "work"].value`, `"x"`)
	f.Add("replace", `name`, `{"givenName":null,"x":1}`)
	f.Add("remove", `emails`, `[{"value":"babs@jensen.org"},null]`)
	f.Add("add", ``, `{"name.givenName":"x","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"manager":{"value":"1"}},"emails":{"primary":true}}`)
	rt, full := UserType(), decode(f, babs)
	before := jsonOf(full)
	f.Fuzz(func(t *testing.T, op, path, value string) {
		body, err := DecodeObject([]byte(`{"v":` + value + `}`))
		if err != nil {
			return
		}
		operation := PatchOp{Op: op, Value: body["v"]}
		given := jsonOf(body)
		if path != "" {
			if operation.Path, err = ParsePath(path); err != nil {
				return
			}
		}
		out, changed, err := rt.ApplyPatch(full, []PatchOp{operation})
		if jsonOf(full) != before || jsonOf(body) != given {
			t.Fatalf("%s %q %s changed its arguments", op, path, value)
		}
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Status != 400 || e.Type == "" || out != nil || changed {
				t.Fatalf("%s %q %s: %v, want a 400 with a scimType and nothing else", op, path, value, err)
			}
			return
		}
		if changed == same(map[string]any(full), map[string]any(out)) {
			t.Fatalf("%s %q %s: changed is %v, and the result %s", op, path, value, changed, jsonOf(out))
		}
		if out["userName"] == nil || out["id"] != full["id"] {
			t.Fatalf("%s %q %s: lost or changed what must stay: %s", op, path, value, jsonOf(out))
		}
	})
}

func BenchmarkApplyPatch(b *testing.B) {
	rt := UserType()
	r, err := DecodeObject([]byte(babs))
	if err != nil {
		b.Fatal(err)
	}
	ops, err := readOps(rt, `[{"op":"replace","path":"active","value":false},{"op":"add","path":"emails[type eq \"other\"].value","value":"x"},
		{"op":"replace","path":"name.familyName","value":"y"},{"op":"remove","path":"manager"}]`)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, changed, err := rt.ApplyPatch(r, ops); !changed || err != nil {
			b.Fatal(changed, err)
		}
	}
}

// BenchmarkApplyPatchMembers adds many members to a large group: the time per member must not depend on how many
// there are.
func BenchmarkApplyPatchMembers(b *testing.B) {
	rt := GroupType()
	member := func(n int) any { return map[string]any{"value": strconv.Itoa(n)} }
	var old, added []any
	for n := range 2000 {
		old, added = append(old, member(n)), append(added, member(n+1000))
	}
	p, err := ParsePath("members")
	if err != nil {
		b.Fatal(err)
	}
	r := Resource{"displayName": "g", "members": old}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := rt.ApplyPatch(r, []PatchOp{{Op: "add", Path: p, Value: added}}); err != nil {
			b.Fatal(err)
		}
	}
}
