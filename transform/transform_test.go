package transform

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

func TestNewReportsEveryProblem(t *testing.T) {
	p, err := profile.Parse("p.yaml", []byte(`name: p
resources:
- name: User
  endpoint: /Users
  attributes:
  - path: userName
    maxLength: 15
    onViolation: alias
  - path: emails[type eq "work"
  - path: emails[colour eq "red"].value
  - path: shoeSize
    handling: drop
  - path: urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department
  - path: urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:division
    handling: keep
- name: Group
  endpoint: /Groups
  attributes:
  - path: userName
`))
	if err != nil {
		t.Fatal(err)
	}
	tr, err := New(p)
	problems, ok := err.(profile.Problems)
	if !ok || tr != nil {
		t.Fatalf("got %v and error %v, want nil and Problems", tr, err)
	}
	want := []string{
		"p.yaml:6:5: onViolation: alias needs a maxLength of 16 or more, to tell aliases apart",
		"p.yaml:9:5: path: at character 22: ",
		`p.yaml:10:5: emails[colour eq "red"].value is no attribute of User`,
		"p.yaml:11:5: shoeSize is no attribute of User",
		"p.yaml:13:5: urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department: the upstream cannot have it without its schema: add urn:ietf:params:scim:schemas:extension:enterprise:2.0:User to extensions",
		"p.yaml:19:5: userName is no attribute of Group",
	}
	got := strings.Split(problems.Error(), "\n")
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
}

func TestTypes(t *testing.T) {
	tests := []struct {
		profile string
		shown   string // names of attributes, of sub-attributes where not all are shown
		holds   bool
	}{
		{"bluejeans", "User: userName name(familyName givenName) title timezone active password emails(value type) phoneNumbers(value type) " +
			enterprise + ": manager", true},
		{"unlisted: refuse\nattributes: [{path: userName}, {path: name.formatted}, {path: externalId}]\n", "User: userName name(formatted)", false},
		{"unlisted: drop\nattributes: [{path: userName}, {path: name.formatted, handling: keep}, {path: 'addresses[type eq \"work\"].locality'}]\n",
			"User: userName name(formatted) addresses(locality type)", true},
	}
	for _, test := range tests {
		tr := byName(t, test.profile)
		if got := len(tr.Types()); got != 2 {
			t.Errorf("%s: got %d types, want 2", test.profile, got)
		}
		var got []string
		for _, rt := range tr.Shown() {
			full := scim.UserType()
			got = append(got, rt.Name+":")
			for i, s := range append([]*scim.Schema{rt.Core}, rt.Extensions...) {
				if i > 0 {
					got = append(got, s.ID+":")
				}
				for _, a := range s.Attributes {
					ref := scim.Ref{Name: a.Name}
					if i > 0 {
						ref.Schema = s.ID
					}
					whole, _ := full.Lookup(ref)
					name := a.Name
					if len(a.Sub) < len(whole.Attribute.Sub) {
						var subs []string
						for _, sub := range a.Sub {
							subs = append(subs, sub.Name)
						}
						name += "(" + strings.Join(subs, " ") + ")"
					}
					got = append(got, name)
				}
			}
		}
		if got := strings.Join(got, " "); got != test.shown {
			t.Errorf("%s: got %s, want %s", test.profile, got, test.shown)
		}
		if got := tr.Holds(scim.UserType()); got != test.holds {
			t.Errorf("%s: holds: got %v, want %v", test.profile, got, test.holds)
		}
		if tr.Has(scim.GroupType()) || tr.Holds(scim.GroupType()) || !tr.Has(scim.UserType()) {
			t.Errorf("%s: got groups or no users, want users only", test.profile)
		}
	}
	generic := builtin(t, "generic")
	if got := len(generic.Shown()); got != 2 || generic.Holds(scim.UserType()) {
		t.Errorf("generic: got %d types shown and holds %v, want 2 and false", got, generic.Holds(scim.UserType()))
	}
	for text, want := range map[string]string{
		"attributes: [{path: 'emails[type eq \"work\"].value'}]\n":                 "work",
		"unlisted: keep\nattributes: [{path: 'emails[type eq \"work\"].value'}]\n": "work home other",
	} {
		types, _ := inline(t, text).Shown()[0].Lookup(scim.Ref{Name: "emails", Sub: "type"})
		if got := strings.Join(types.Leaf().Canonical, " "); got != want {
			t.Errorf("%s: got the types %s, want %s", text, got, want)
		}
	}
	keeps := inline(t, "unlisted: keep\nattributes: [{path: userName}]\n")
	for _, name := range []string{"groups", "password"} {
		if slices.ContainsFunc(keeps.Shown()[0].Core.Attributes, func(a *scim.Attribute) bool { return a.Name == name }) {
			t.Errorf("unlisted: keep: got %s shown, want not: nobody can hold it", name)
		}
	}
}

func TestAbilities(t *testing.T) {
	got := builtin(t, "bluejeans").Abilities()
	if !got.Patch || !got.Filter || !got.Sort || !got.ETag || !got.Bulk || got.MaxResults != 1000 || got.Pages.DefaultSize != 100 || got.Pages.MaxSize != 1000 || got.Pages.CursorTimeout != 300 || got.Documentation == "" {
		t.Errorf("got %+v, want what the gateway makes good for", got)
	}
}

func TestGet(t *testing.T) {
	tr := builtin(t, "bluejeans")
	req := tr.Get(scim.UserType(), "7", scim.Origin{RequestID: "r1"})
	if req.Op != scim.OpGet || req.ID != "7" || req.Origin.RequestID != "r1" || len(req.Plain) != 1 {
		t.Errorf("got %+v, want a get of 7 with manager as plain value", req)
	}
	if req := tr.Get(scim.GroupType(), "7", scim.Origin{}); req.Plain != nil {
		t.Errorf("got %v, want nothing plain", req.Plain)
	}
}

func TestAlias(t *testing.T) {
	const most = 30
	tests := []struct {
		attribute profile.Attribute
		name      string
		want      string // "" when none is needed
	}{
		{profile.Attribute{MaxLength: most}, strings.Repeat("a", most), ""},
		{profile.Attribute{MaxLength: most}, strings.Repeat("é", most), ""},
		{profile.Attribute{MaxLength: most}, strings.Repeat("a", most+1), "aaaaaaaaaaaaaaaaaaa~mhdawsd5dk"},
		{profile.Attribute{MaxLength: most}, strings.Repeat("é", most+1), "ééééééééééééééééééé~7cq4oooqgr"},
		{profile.Attribute{MaxLength: most, Forbidden: "@"}, "a@b", "ab~ouenrnibr2"},
		{profile.Attribute{Forbidden: "@~"}, "a@b", "ab-ouenrnibr2"},
		{profile.Attribute{Forbidden: "~-_."}, strings.Repeat("long", 20) + "~", strings.Repeat("long", 20) + "tpvdfs3qde"},
		{profile.Attribute{MaxLength: minAlias, Forbidden: "@"}, "@@@@@@@@@@@@@@@@@", "~"},
	}
	for _, test := range tests {
		a := newAlias(test.attribute)
		if p := a.problem(); p != "" {
			t.Errorf("%+v: got %q, want no problem", test.attribute, p)
		}
		if got, want := a.needed(test.name), test.want != ""; got != want {
			t.Errorf("%s: needed: got %v, want %v", test.name, got, want)
		}
		if test.want == "" {
			continue
		}
		got := a.of(test.name)
		if len(test.want) > 1 && got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
		if a.needed(got) {
			t.Errorf("%s: got %s, which is refused itself", test.name, got)
		}
		if n := utf8.RuneCountInString(got); a.most > 0 && n > a.most {
			t.Errorf("%s: got %d characters, want at most %d", test.name, n, a.most)
		}
		if upper := a.of(strings.ToUpper(test.name)); !strings.EqualFold(upper, got) {
			t.Errorf("%s: got %s in upper case and %s, want the same but for case", test.name, upper, got)
		}
	}
	if (alias{}).needed(strings.Repeat("a", 100)) {
		t.Error("no alias: got needed, want not")
	}
	for _, a := range []profile.Attribute{{MaxLength: minAlias - 1}, {Forbidden: "@k"}} {
		if newAlias(a).problem() == "" {
			t.Errorf("%+v: got no problem, want one", a)
		}
	}
}

// The same pair of type and value does not come twice (RFC 7643, Section 2.4); what differs in anything stays.
func TestNormalizeLeavesOutTwins(t *testing.T) {
	for in, want := range map[string]string{
		`[{"value":"a","type":"work"},{"type":"work","value":"a"}]`:                   `[{"type":"work","value":"a"}]`,
		`[{"value":"a","primary":"True"},{"value":"b"},{"value":"a","primary":true}]`: `[{"primary":true,"value":"a"},{"value":"b"}]`,
		`[{"value":"a","type":"work"},{"value":"a","type":"home"},{"value":"A"}]`:     `[{"type":"work","value":"a"},{"type":"home","value":"a"},{"value":"A"}]`,
		`[{"value":"a","display":"x"},{"value":"a","display":"y"},{"value":"a"}]`:     `[{"display":"x","value":"a"},{"display":"y","value":"a"},{"value":"a"}]`,
		`[{"type":"work"},{"type":"work"}]`:                                           `[{"type":"work"},{"type":"work"}]`,
		`["a","a"]`:                                                                   `["a","a"]`,
	} {
		for _, request := range []string{
			"POST /Users\n\n" + `{"schemas":["` + scim.SchemaUser + `"],"userName":"ada","emails":` + in + `}`,
			"PATCH /Users/7\n\n" + `{"schemas":["` + scim.MessagePatchOp + `"],"Operations":[{"op":"replace","path":"emails","value":` + in + `}]}`,
		} {
			req, err := readText([]byte(request))
			if err != nil {
				t.Fatal(err)
			}
			if req, _, err = Normalize(req); err != nil {
				t.Fatal(err)
			}
			got := req.Resource["emails"]
			if req.Op == scim.OpPatch {
				got = req.Operations[0].Value
			}
			if got := string(scim.AppendJSON(nil, got)); got != want {
				t.Errorf("%s %s: got %s, want %s", req.Op, in, got, want)
			}
		}
	}
}
