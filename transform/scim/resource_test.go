package scim

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	user := UserType()
	for _, tt := range []struct{ path, want string }{ // "" for nothing
		{"userName", "userName"},
		{"USERNAME", "userName"},
		{"id", "id"},
		{"Meta.LASTMODIFIED", "meta.lastModified"},
		{"name.givenname", "name.givenName"},
		{"emails.value", "emails.value"},
		{"groups.$REF", "groups.$ref"},
		{SchemaUser + ":name.givenName", "name.givenName"},
		{strings.ToUpper(SchemaUser) + ":id", "id"},
		{SchemaEnterpriseUser + ":manager.value", SchemaEnterpriseUser + ":manager.value"},
		{strings.ToLower(SchemaEnterpriseUser) + ":Department", SchemaEnterpriseUser + ":department"},
		{"manager", SchemaEnterpriseUser + ":manager"},
		{"employeenumber", SchemaEnterpriseUser + ":employeeNumber"},
		{"userName.value", "userName"},
		{"active.VALUE", "active"},
		{"schemas.value", "schemas"},
		{"name.value", ""},
		{"userName.x", ""},
		{"userName.value.value", ""},
		{"size", ""},
		{"name.size", ""},
		{"urn:x:userName", ""},
		{SchemaEnterpriseUser + ":userName", ""},
		{SchemaEnterpriseUser, ""},
		{SchemaUser + ":manager", ""},
		{SchemaGroup + ":displayName", ""},
	} {
		got := ""
		if p, err := ParseAttributePath(tt.path); err == nil {
			if target, ok := user.Resolve(p); ok {
				got = target.Ref.String()
				if again, ok := user.Lookup(target.Ref); !ok || again != target {
					t.Errorf("Lookup(%s) = %v, %v, want %v", target.Ref, again, ok, target)
				}
				if leaf := target.Leaf(); !strings.HasSuffix(got, leaf.Name) {
					t.Errorf("%s: the leaf is %s", tt.path, leaf.Name)
				}
			} else if !reflect.DeepEqual(target, Target{}) {
				t.Errorf("%s: nothing has that name, and yet %+v", tt.path, target)
			}
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.path, got, tt.want)
		}
	}
	if _, ok := GroupType().Lookup(Ref{Name: "userName"}); ok {
		t.Error("a group has a userName")
	}
}

func TestRef(t *testing.T) {
	sub := Ref{Schema: SchemaEnterpriseUser, Name: "manager", Sub: "value"}
	whole := sub.Parent()
	if sub.Sub != "value" || whole != (Ref{Schema: SchemaEnterpriseUser, Name: "manager"}) {
		t.Errorf("Parent = %v", whole)
	}
	for _, tt := range []struct {
		r, other Ref
		want     bool
	}{{whole, sub, true}, {whole, whole, true}, {sub, sub, true}, {sub, whole, false}, {Ref{Name: "manager"}, sub, false}, {Ref{Name: "name", Sub: "x"}, Ref{Name: "name", Sub: "y"}, false}} {
		if got := tt.r.Covers(tt.other); got != tt.want {
			t.Errorf("%s covers %s: got %v, want %v", tt.r, tt.other, got, tt.want)
		}
	}
}

func TestAll(t *testing.T) {
	var names []string
	for ref := range UserType().All {
		if names = append(names, ref.String()); len(names) == 5 {
			break
		}
	}
	if want := []string{"schemas", "id", "externalId", "meta", "userName"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	count := 0
	for ref, a := range UserType().All {
		if count++; ref.Name != a.Name {
			t.Errorf("%s is %s", ref, a.Name)
		}
		if ref.Schema == SchemaEnterpriseUser && a.Name == "organization" {
			break
		}
	}
	if count != 4+21+3 {
		t.Errorf("organization is attribute %d, want 28", count)
	}
}

const sample = `{"schemas":["` + SchemaUser + `"],"id":"1","externalId":"e","userName":"a","meta":{"version":"v"},"name":{"givenName":"g"},` +
	`"emails":[{"type":"work","value":"w"},{"type":"home"},{"value":"x"}],"` + SchemaEnterpriseUser + `":{"department":"d","manager":{"value":"7"}}}`

func TestResourceGet(t *testing.T) {
	r := decode(t, sample)
	for _, tt := range []struct {
		ref  Ref
		want any
	}{
		{Ref{Name: "userName"}, "a"},
		{Ref{Name: "userName", Sub: "value"}, nil},
		{Ref{Name: "title"}, nil},
		{Ref{Name: "title", Sub: "x"}, nil},
		{Ref{Name: "name"}, map[string]any{"givenName": "g"}},
		{Ref{Name: "name", Sub: "givenName"}, "g"},
		{Ref{Name: "name", Sub: "familyName"}, nil},
		{Ref{Name: "emails", Sub: "value"}, []any{"w", "x"}},
		{Ref{Name: "emails", Sub: "display"}, nil},
		{Ref{Schema: SchemaEnterpriseUser, Name: "department"}, "d"},
		{Ref{Schema: SchemaEnterpriseUser, Name: "manager", Sub: "value"}, "7"},
		{Ref{Schema: SchemaEnterpriseUser, Name: "userName"}, nil},
		{Ref{Schema: "urn:x", Name: "department"}, nil},
	} {
		if got := r.Get(tt.ref); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.ref, got, tt.want)
		}
	}
	if r.ID() != "1" || r.UserName() != "a" || r.ExternalID() != "e" || r.Meta("version") != "v" || r.Meta("created") != "" {
		t.Errorf("got %s, %s, %s, %s", r.ID(), r.UserName(), r.ExternalID(), r.Meta("version"))
	}
	// A number is nobody's id (CVE-2025-41115), and nothing of it is a reason to panic.
	odd := decode(t, `{"id":1,"externalId":2,"userName":["a"],"meta":"x"}`)
	if odd.ID() != "" || odd.ExternalID() != "" || odd.UserName() != "" || odd.Meta("version") != "" {
		t.Errorf("got %q, %q, %q, %q, want nothing", odd.ID(), odd.ExternalID(), odd.UserName(), odd.Meta("version"))
	}
	if none := Resource(nil); none.ID() != "" || none.Meta("x") != "" || none.Get(Ref{Name: "x"}) != nil || none.Clone() != nil {
		t.Error("nil is somebody")
	}
}

func TestResourceSetRemove(t *testing.T) {
	const ext = `"` + SchemaEnterpriseUser + `"`
	tests := []struct {
		in     string
		change func(Resource)
		want   string
	}{
		{`{}`, func(r Resource) { r.Set(Ref{Name: "title"}, "x") }, `{"title":"x"}`},
		{`{"title":"x"}`, func(r Resource) { r.Set(Ref{Name: "title"}, nil) }, `{}`},
		{`{"name":{"givenName":"g"}}`, func(r Resource) { r.Set(Ref{Name: "name", Sub: "givenName"}, map[string]any{"x": "y"}) }, `{"name":{"x":"y"}}`},
		{`{"name":{"givenName":"g"}}`, func(r Resource) { r.Set(Ref{Name: "name", Sub: "familyName"}, nil) }, `{}`},
		{`{}`, func(r Resource) { r.Set(Ref{Schema: SchemaEnterpriseUser, Name: "department"}, "d") }, `{` + ext + `:{"department":"d"}}`},
		{`{` + ext + `:{"division":"x"}}`, func(r Resource) { r.Set(Ref{Schema: SchemaEnterpriseUser, Name: "department"}, "d") }, `{` + ext + `:{"department":"d","division":"x"}}`},
		{`{` + ext + `:"broken"}`, func(r Resource) { r.Set(Ref{Schema: SchemaEnterpriseUser, Name: "department"}, "d") }, `{` + ext + `:{"department":"d"}}`},
		{`{` + ext + `:{"department":"d"}}`, func(r Resource) { r.Set(Ref{Schema: SchemaEnterpriseUser, Name: "department"}, nil) }, `{}`},
		{`{"title":"x"}`, func(r Resource) { r.Remove(Ref{Name: "title"}) }, `{}`},
		{`{"title":"x"}`, func(r Resource) { r.Remove(Ref{Name: "title", Sub: "value"}) }, `{"title":"x"}`},
		{`{"title":"x"}`, func(r Resource) { r.Remove(Ref{Name: "name"}) }, `{"title":"x"}`},
		{`{"title":"x"}`, func(r Resource) { r.Remove(Ref{Schema: SchemaEnterpriseUser, Name: "department"}) }, `{"title":"x"}`},
		{`{"name":{"givenName":"g","familyName":"f"}}`, func(r Resource) { r.Remove(Ref{Name: "name", Sub: "givenName"}) }, `{"name":{"familyName":"f"}}`},
		{`{"name":{"givenName":"g"}}`, func(r Resource) { r.Remove(Ref{Name: "name", Sub: "givenName"}) }, `{}`},
		{`{"emails":[{"type":"work","value":"w"},{"value":"x"},"odd"]}`, func(r Resource) { r.Remove(Ref{Name: "emails", Sub: "value"}) }, `{"emails":[{"type":"work"},"odd"]}`},
		{`{"emails":[{"value":"x"}]}`, func(r Resource) { r.Remove(Ref{Name: "emails", Sub: "value"}) }, `{}`},
		{`{` + ext + `:{"manager":{"value":"7"}}}`, func(r Resource) { r.Remove(Ref{Schema: SchemaEnterpriseUser, Name: "manager", Sub: "value"}) }, `{}`},
		{`{` + ext + `:{"manager":{"value":"7"},"division":"x"}}`, func(r Resource) { r.Remove(Ref{Schema: SchemaEnterpriseUser, Name: "manager"}) }, `{` + ext + `:{"division":"x"}}`},
	}
	for _, tt := range tests {
		r := decode(t, tt.in)
		if tt.change(r); jsonOf(r) != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, jsonOf(r), tt.want)
		}
	}
}

func TestClone(t *testing.T) {
	r := decode(t, sample)
	c := r.Clone()
	if !reflect.DeepEqual(c, r) {
		t.Fatalf("got %v, want %v", c, r)
	}
	c["name"].(map[string]any)["givenName"] = "x"
	c["emails"].([]any)[0].(map[string]any)["value"] = "x"
	c["emails"].([]any)[1] = "x"
	if want := decode(t, sample); !reflect.DeepEqual(r, want) {
		t.Errorf("a change of the copy changed the original to %v", r)
	}
	if got := CloneValue([]any{nil, "x", true}); !reflect.DeepEqual(got, []any{nil, "x", true}) {
		t.Errorf("CloneValue = %v", got)
	}
}

func TestEmpty(t *testing.T) {
	for _, v := range []any{nil, []any{}, map[string]any{}, []any(nil), map[string]any(nil)} {
		if !Empty(v) {
			t.Errorf("%#v is not empty", v)
		}
	}
	for _, v := range []any{"", false, 0, []any{nil}, map[string]any{"x": nil}} {
		if Empty(v) {
			t.Errorf("%#v is empty", v)
		}
	}
}

func TestCanonicalize(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{}`, `{}`},
		{`{"USERNAME":"a","ID":"1","Meta":{"RESOURCETYPE":"User","x":1},"Unknown":{"USERNAME":1}}`, `{"id":"1","userName":"a","Unknown":{"USERNAME":1},"meta":{"resourceType":"User","x":1}}`},
		{`{"Emails":[{"TYPE":"work","VALUE":"w","$Ref":1},"odd",null]}`, `{"emails":[{"$Ref":1,"type":"work","value":"w"},"odd",null]}`},
		{`{"NAME":"odd","Active":{"X":1}}`, `{"active":{"X":1},"name":"odd"}`},
		{`{"` + strings.ToUpper(SchemaEnterpriseUser) + `":{"DEPARTMENT":"d","Manager":{"VALUE":"7","$REF":"r"},"X":1}}`,
			`{"` + SchemaEnterpriseUser + `":{"X":1,"department":"d","manager":{"$ref":"r","value":"7"}}}`},
		{`{"` + strings.ToUpper(SchemaEnterpriseUser) + `":["odd"],"URN:x":{"USERNAME":1}}`, `{"URN:x":{"USERNAME":1},"` + SchemaEnterpriseUser + `":["odd"]}`},
		{`{"manager":"flat","Department":"flat"}`, `{"Department":"flat","manager":"flat"}`}, // not its place: for the transform
	} {
		r := decode(t, tt.in)
		if UserType().Canonicalize(r); jsonOf(r) != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, jsonOf(r), tt.want)
		}
	}
	_, emails, err := UserType().CompilePath("emails")
	if err != nil {
		t.Fatal(err)
	}
	v := []any{map[string]any{"VALUE": "x"}}
	if emails.CanonicalizeValue(v); v[0].(map[string]any)["value"] != "x" {
		t.Errorf("CanonicalizeValue made %v", v)
	}
	_, value, err := UserType().CompilePath("emails.value")
	if err != nil {
		t.Fatal(err)
	}
	v = []any{map[string]any{"VALUE": "x"}}
	if value.CanonicalizeValue(v); v[0].(map[string]any)["VALUE"] != "x" {
		t.Errorf("the value of a sub-attribute became %v", v)
	}
}

func TestSetSchemas(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{}`, `["` + SchemaUser + `"]`},
		{`{"schemas":"odd"}`, `["` + SchemaUser + `"]`},
		{`{"schemas":["` + SchemaUser + `","` + SchemaEnterpriseUser + `"]}`, `["` + SchemaUser + `"]`},
		{`{"schemas":["urn:x",7,"` + strings.ToUpper(SchemaUser) + `","urn:y"]}`, `["` + SchemaUser + `","urn:x","urn:y"]`},
		{`{"` + SchemaEnterpriseUser + `":{"department":"d"}}`, `["` + SchemaUser + `","` + SchemaEnterpriseUser + `"]`},
		{`{"` + SchemaEnterpriseUser + `":{}}`, `["` + SchemaUser + `"]`},
		{`{"schemas":["urn:x"],"` + SchemaEnterpriseUser + `":{"department":"d"}}`, `["` + SchemaUser + `","` + SchemaEnterpriseUser + `","urn:x"]`},
	} {
		r := decode(t, tt.in)
		for range 2 { // the second time changes nothing
			UserType().SetSchemas(r)
			if got := string(AppendJSON(nil, r["schemas"])); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
			}
		}
	}
}

func TestEqualValues(t *testing.T) {
	decode := func(text string) any {
		r, err := DecodeObject([]byte(`{"v":` + text + `}`))
		if err != nil {
			t.Fatal(err)
		}
		return r["v"]
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{`null`, `null`, true}, {`null`, `""`, false}, {`"x"`, `"x"`, true}, {`"x"`, `"X"`, false}, {`true`, `true`, true}, {`true`, `"true"`, false},
		{`1`, `1`, true}, {`1`, `1.0`, false}, {`1`, `"1"`, false}, {`[1,"a"]`, `[1,"a"]`, true}, {`[1,"a"]`, `["a",1]`, false},
		{`{"a":[{"b":null}]}`, `{"a":[{"b":null}]}`, true}, {`{"a":1}`, `{"a":1,"b":2}`, false}, {`{}`, `[]`, false},
	} {
		a, b := decode(tt.a), decode(tt.b)
		if got := EqualValues(a, b); got != tt.want {
			t.Errorf("EqualValues(%s, %s): got %v, want %v", tt.a, tt.b, got, tt.want)
		}
		if got := EqualValues(b, a); got != tt.want {
			t.Errorf("EqualValues(%s, %s): got %v, want %v", tt.b, tt.a, got, tt.want)
		}
	}
}
