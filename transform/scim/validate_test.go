package scim

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// withUser is a valid user and what else is in members.
func withUser(members string) string {
	if members != "" {
		members = "," + members
	}
	return `{"schemas":["` + SchemaUser + `"],"userName":"bjensen"` + members + `}`
}

func TestValidate(t *testing.T) {
	const ext = `"` + SchemaEnterpriseUser + `"`
	tests := []struct{ in, want string }{ // "" for valid
		{withUser(``), ""},
		{entraCreate, ""},
		// schemas
		{`{"userName":"a"}`, `schemas is required: an array that contains "` + SchemaUser + `"`},
		{`{"userName":"a","schemas":null}`, `schemas is required: an array that contains "` + SchemaUser + `"`},
		{`{"userName":"a","schemas":[]}`, `schemas is required: an array that contains "` + SchemaUser + `"`},
		{`{"userName":"a","schemas":"` + SchemaUser + `"}`, `schemas is required: an array that contains "` + SchemaUser + `"`},
		{`{"userName":"a","schemas":[1]}`, `schemas must be an array of strings`},
		{`{"userName":"a","schemas":["` + SchemaUser + `",null]}`, `schemas must be an array of strings`},
		{`{"userName":"a","schemas":["` + SchemaGroup + `"]}`, `schemas must contain "` + SchemaUser + `"`},
		{`{"userName":"a","schemas":["` + SchemaEnterpriseUser + `"]}`, `schemas must contain "` + SchemaUser + `"`},
		{`{"userName":"a","schemas":["x","` + strings.ToUpper(SchemaUser) + `"]}`, ""},
		// required
		{`{"schemas":["` + SchemaUser + `"]}`, "userName is required and must not be empty"},
		{`{"schemas":["` + SchemaUser + `"],"userName":null}`, "userName is required and must not be empty"},
		{`{"schemas":["` + SchemaUser + `"],"userName":""}`, "userName is required and must not be empty"},
		{`{"schemas":["` + SchemaUser + `"],"userName":[]}`, "userName is required and must not be empty"},
		{`{"schemas":["` + SchemaUser + `"],"userName":7}`, "userName must be a string, not this number"},
		{`{"schemas":["` + SchemaUser + `"],"userName":{"value":"a"}}`, "userName must be a string, not an object"},
		{`{"schemas":["` + SchemaUser + `"],"userName":["a"]}`, "userName must be a string, not an array"},
		// kinds
		{withUser(`"title":"","nickName":null`), ""},
		{withUser(`"title":true`), "title must be a string, not a boolean"},
		{withUser(`"externalId":7`), "externalId must be a string, not this number"},
		{withUser(`"active":"True"`), "active must be true or false, not this string"},
		{withUser(`"active":1`), "active must be true or false, not this number"},
		{withUser(`"active":[true]`), "active must be true or false, not an array"},
		{withUser(`"profileUrl":1`), "profileUrl must be a URI as a string, not this number"},
		{withUser(`"name":"Barbara"`), "name must be an object, not this string"},
		{withUser(`"name":[{"givenName":"x"}]`), "name must be an object, not an array"},
		{withUser(`"name":{}`), ""},
		{withUser(`"name":{"givenName":1}`), "name.givenName must be a string, not this number"},
		{withUser(`"name":{"givenName":{"x":1},"x":1}`), "name.givenName must be a string, not an object"},
		{withUser(`"name":{"givenName":null,"x":1}`), ""},
		{withUser(`"emails":"x"`), "emails must be an array"},
		{withUser(`"emails":{"value":"x"}`), "emails must be an array"},
		{withUser(`"emails":[]`), ""},
		{withUser(`"emails":["x"]`), "emails[0] must be an object, not this string"},
		{withUser(`"emails":[{"value":"x"},null]`), "emails[1] must be an object, not null"},
		{withUser(`"emails":[{"value":"x"},[{"value":"y"}]]`), "emails[1] must be an object, not an array"},
		{withUser(`"emails":[{"value":"x"},{"value":["y"]}]`), "emails[1].value must be a string, not an array"},
		{withUser(`"emails":[{"primary":"true"}]`), "emails[0].primary must be true or false, not this string"},
		{withUser(`"x509Certificates":[{"value":"QUJD"},{"value":"QUI="},{"value":"QUI"},{"value":"+/A="},{"value":""}]`), ""},
		{withUser(`"x509Certificates":[{"value":"QUJD"},{"value":"Q"}]`), "x509Certificates[1].value must be base64 text, not this string"},
		{withUser(`"x509Certificates":[{"value":"QUI=="}]`), "x509Certificates[0].value must be base64 text, not this string"},
		{withUser(`"x509Certificates":[{"value":"QUJD===="}]`), "x509Certificates[0].value must be base64 text, not this string"},
		{withUser(`"x509Certificates":[{"value":"Q=I="}]`), "x509Certificates[0].value must be base64 text, not this string"},
		{withUser(`"x509Certificates":[{"value":"QU_-"}]`), "x509Certificates[0].value must be base64 text, not this string"},
		{withUser(`"x509Certificates":[{"value":"QU JD"}]`), "x509Certificates[0].value must be base64 text, not this string"},
		{withUser(`"x509Certificates":[{"value":1}]`), "x509Certificates[0].value must be base64 text, not this number"},
		// primary
		{withUser(`"emails":[{"primary":true},{"primary":false},{}]`), ""},
		{withUser(`"emails":[{"primary":true},{"primary":true},{"primary":true}]`), "emails has 3 primary values: at most one is allowed"},
		{withUser(`"addresses":[{"primary":true},{"primary":true}],"title":1`), "title must be a string, not this number"},
		// what clients may not set, and what no schema has
		{withUser(`"id":7,"meta":"x","groups":"x"`), ""},
		{withUser(`"unknown":{"x":[1]},"urn:x":1`), ""},
		// extensions
		{withUser(ext + `:{}`), ""},
		{withUser(ext + `:null`), ""},
		{withUser(ext + `:{"department":"d","manager":{"value":"1","$ref":"r","displayName":7},"x":1}`), ""},
		{withUser(ext + `:"x"`), SchemaEnterpriseUser + " must be an object"},
		{withUser(ext + `:[]`), SchemaEnterpriseUser + " must be an object"},
		{withUser(ext + `:{"department":1}`), SchemaEnterpriseUser + ":department must be a string, not this number"},
		{withUser(ext + `:{"manager":"1"}`), SchemaEnterpriseUser + ":manager must be an object, not this string"},
		{withUser(ext + `:{"manager":{"value":1}}`), SchemaEnterpriseUser + ":manager.value must be a string, not this number"},
	}
	for _, tt := range tests {
		r := decode(t, tt.in)
		before := r.Clone()
		checkDetail(t, tt.in, UserType().Validate(r), InvalidValue, tt.want)
		if !reflect.DeepEqual(r, before) {
			t.Errorf("%s: the resource changed", tt.in)
		}
	}
	group := GroupType()
	for in, want := range map[string]string{
		`{"schemas":["` + SchemaGroup + `"],"displayName":"g","members":[{"value":"1","$ref":"r","type":"User"}]}`: "",
		`{"schemas":["` + SchemaGroup + `"]}`:                                    "displayName is required and must not be empty",
		`{"schemas":["` + SchemaGroup + `"],"displayName":"g","members":["1"]}`:  "members[0] must be an object, not this string",
		`{"schemas":["` + SchemaUser + `"],"displayName":"g"}`:                   `schemas must contain "` + SchemaGroup + `"`,
		`{"schemas":["` + SchemaGroup + `"],"displayName":"g","userName":[1,2]}`: "",
	} {
		checkDetail(t, in, group.Validate(decode(t, in)), InvalidValue, want)
	}
}

// Kinds that no attribute of a user that clients may set has.
func TestValidateKinds(t *testing.T) {
	date := GroupType().coreAttribute("meta").SubAttribute("created")
	for in, ok := range map[any]bool{"2026-01-02T03:04:05Z": true, "2026-01-02T03:04:05.123+01:00": true, "2026-01-02T03:04:05": true, "2026-01-02": false, "now": false, 1: false} {
		if f := date.fault(in); (f.want == "") != ok {
			t.Errorf("dateTime %v: got %+v, want %v", in, f, ok)
		}
	}
	for kind, want := range map[Kind]string{Integer: "an integer", Decimal: "a number", DateTime: "a date and time as in 2026-01-02T03:04:05Z", Binary: "base64 text"} {
		if got := kind.noun(); got != want {
			t.Errorf("%s: got %s, want %s", kind, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		path  string
		value any
		want  string
	}{
		{"userName", "a", ""},
		{"userName", nil, ""},
		{"userName", true, "userName must be a string, not a boolean"},
		{"emails", []any{map[string]any{"value": "x"}}, ""},
		{"emails", map[string]any{"value": "x"}, ""},
		{"emails", map[string]any{"value": 1}, "emails.value must be a string, not this number"},
		{"emails", "x", "emails must be an object, not this string"},
		{"emails", []any{}, ""},
		{"emails", []any{map[string]any{"primary": true}, map[string]any{"primary": true}}, "emails has 2 primary values: at most one is allowed"},
		{"emails.value", "x", ""},
		{"emails.value", []any{"x"}, "emails.value must be a string, not an array"},
		{"schemas", []any{"x", json.Number("1")}, "schemas[1] must be a string, not this number"},
		{"name", map[string]any{"givenName": "x"}, ""},
		{"name", []any{}, "name must be an object, not an array"},
		{"name.givenName", map[string]any{}, "name.givenName must be a string, not an object"},
		{"manager", "7", SchemaEnterpriseUser + ":manager must be an object, not this string"},
		{"manager.displayName", "x", ""},
	} {
		_, target, err := UserType().CompilePath(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		checkDetail(t, fmt.Sprintf("%s = %v", tt.path, tt.value), target.Check(tt.value), InvalidValue, tt.want)
	}
}

func TestSettable(t *testing.T) {
	in := decode(t, `{"schemas":["x"],"id":"1","externalId":"e","userName":"a","meta":{"resourceType":"User"},"groups":[{"value":"g"}],"x":1,"title":null,`+
		`"name":{"givenName":"g","x":1,"familyName":null},"emails":[{"value":"a","x":1},{"x":1},null],"roles":[],"addresses":[{"x":1}],"locale":{"x":1},`+
		`"`+SchemaEnterpriseUser+`":{"department":"d","manager":{"value":"1","displayName":"M"},"x":1}}`)
	want := Resource{"externalId": "e", "userName": "a", "name": map[string]any{"givenName": "g"}, "emails": []any{map[string]any{"value": "a"}}, "roles": []any{}, "addresses": []any{},
		SchemaEnterpriseUser: map[string]any{"department": "d", "manager": map[string]any{"value": "1"}}}
	before := in.Clone()
	got := UserType().Settable(in)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	got["name"].(map[string]any)["givenName"] = "changed"
	if !reflect.DeepEqual(in, before) {
		t.Errorf("the resource changed to %v", in)
	}
	for _, tt := range []struct {
		path        string
		value, want any
	}{
		{"manager", map[string]any{"displayName": "x"}, nil},
		{"manager.displayName", "x", nil},
		{"manager.value", "x", "x"},
		{"groups", []any{map[string]any{"value": "g"}}, nil},
		{"emails", map[string]any{"value": "a", "x": 1}, map[string]any{"value": "a"}},
		{"active", false, false},
		{"title", nil, nil},
	} {
		_, target, err := UserType().CompilePath(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := target.SettableValue(tt.value); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s = %v: got %v, want %v", tt.path, tt.value, got, tt.want)
		}
	}
}

// Nothing a client can send makes Validate and its neighbours panic, and what is settable of a valid resource is
// valid.
func TestValidateProperties(t *testing.T) {
	user := UserType()
	var names []string
	for ref, a := range user.All {
		names = append(names, ref.Name)
		for _, sub := range a.Sub {
			names = append(names, sub.Name)
		}
	}
	names = append(names, SchemaEnterpriseUser, strings.ToUpper(SchemaEnterpriseUser))
	rapid.Check(t, func(t *rapid.T) {
		r := genObject(2).Draw(t, "resource")
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 5, Fold).Draw(t, "names") {
			maps.DeleteFunc(r, func(k string, _ any) bool { return strings.EqualFold(k, name) })
			r[name] = genValue(2).Draw(t, "value")
		}
		user.Canonicalize(r)
		again := r.Clone()
		if user.Canonicalize(again); !reflect.DeepEqual(again, r) {
			t.Fatalf("%v is canonical the second time only: %v", r, again)
		}
		r["schemas"], r["userName"] = []any{SchemaUser}, "a"
		err := user.Validate(r)
		settable := user.Settable(r)
		user.SetSchemas(settable)
		if err != nil {
			return
		}
		if err := user.Validate(settable); err != nil {
			t.Fatalf("%v is valid, %v is not: %v", r, settable, err)
		}
	})
}
