package scim

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	filter "github.com/scim2/filter-parser/v2"
)

func TestParsePath(t *testing.T) {
	enterprise, user, value := "urn:ietf:params:scim:schemas:extension:enterprise:2.0", SchemaEnterpriseUser, "value"
	given := "givenName"
	tests := []struct {
		in   string
		want Path
	}{
		{`members`, Path{AttributePath: AttributePath{AttributeName: "members"}}},
		{` members `, Path{AttributePath: AttributePath{AttributeName: "members"}}},
		{`name.givenName`, Path{AttributePath: AttributePath{AttributeName: "name", SubAttribute: &given}}},
		{user + `:manager.value`, Path{AttributePath: AttributePath{URIPrefix: &user, AttributeName: "manager", SubAttribute: &value}}},
		{user, Path{AttributePath: AttributePath{URIPrefix: &enterprise, AttributeName: "User"}}},
		{`emails[type eq "work"]`, Path{AttributePath: AttributePath{AttributeName: "emails"}, ValueExpression: attr("type", Eq, "work")}},
		{`emails[type eq "work"].value`, Path{AttributePath: AttributePath{AttributeName: "emails"}, ValueExpression: attr("type", Eq, "work"), SubAttribute: &value}},
		{`members[value eq"2819c223"]`, Path{AttributePath: AttributePath{AttributeName: "members"}, ValueExpression: attr("value", Eq, "2819c223")}},
	}
	for _, tt := range tests {
		got, err := ParsePath(tt.in)
		if err != nil || !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("ParsePath(%q) = %q, %v, want %q", tt.in, FormatPath(got), err, FormatPath(&tt.want))
		}
	}
}

func TestParsePathRefuses(t *testing.T) {
	tests := []struct{ in, want string }{
		{``, "path: at character 1: expected an attribute name"},
		{`emails[`, "path: at character 8: expected an attribute name"},
		{`emails[type eq "work"`, "path: at character 22: expected and, or, or the ] that closes a ["},
		{`emails[' eq true].value`, "path: at character 8: expected an attribute name"},
		{`emails[type eq "work"].`, "path: at character 24: expected an attribute name"},
		{`emails[type eq "work"].value.x`, "path: at character 29: expected the end of the path"},
		{`emails[type eq "work"]value`, "path: at character 23: expected the end of the path"},
		{`emails[0]`, "path: at character 8: expected an attribute name"},
		{`emails[a[b pr]]`, "path: at character 9: a value filter cannot stand in another"},
		{`emails value`, "path: at character 8: expected the end of the path"},
		{`/emails`, "path: at character 1: expected an attribute name"},
		{strings.Repeat("a", MaxFilter+1), "path: longer than 2048 bytes"},
	}
	for _, tt := range tests {
		_, err := ParsePath(tt.in)
		if e, ok := errors.AsType[*Error](err); !ok || e.Status != 400 || e.Type != InvalidPath || e.Detail != tt.want {
			t.Errorf("ParsePath(%q): %v, want %q", tt.in, err, tt.want)
		}
	}
}

func TestParseAttributePath(t *testing.T) {
	for _, s := range []string{"userName", "name.familyName", SchemaEnterpriseUser + ":manager.$ref", "a-b_1", "a$b"} {
		p, err := ParseAttributePath(s)
		if err != nil || p.String() != s {
			t.Errorf("ParseAttributePath(%q) = %q, %v", s, p, err)
		}
	}
	for _, s := range []string{"", ".", "a.", "a b", "a[b pr]", "1", "-a", "urn:x:"} {
		if p, err := ParseAttributePath(s); err == nil {
			t.Errorf("ParseAttributePath(%q) = %q, want an error", s, p)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{
		`members`, `name.givenName`, `emails[type eq "work"].value`, SchemaEnterpriseUser + `:manager`, `members[value eq "a" or not (b lt 1)]`, `emails [ type pr ]`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParsePath(s)
		if err == nil {
			again, err := ParsePath(FormatPath(got))
			if len(FormatPath(got)) <= MaxFilter && (err != nil || !reflect.DeepEqual(got, again)) {
				t.Fatalf("ParsePath(%q), printed as %q, comes back as %q, %v", s, FormatPath(got), FormatPath(again), err)
			}
		}
		if tooMuch(s) || differs(s) || strings.Contains(s, "$") {
			return
		}
		theirs, libraryErr := filter.ParsePath([]byte(s))
		if libraryErr != nil {
			return
		}
		if theirs.ValueExpression != nil {
			var ok bool
			if theirs.ValueExpression, ok = oracle(theirs.ValueExpression); !ok {
				return
			}
		}
		if err != nil {
			t.Fatalf("ParsePath(%q): %v, but the library takes it", s, err)
		}
		if !reflect.DeepEqual(*got, theirs) {
			t.Fatalf("ParsePath(%q) = %q, the library has %q", s, FormatPath(got), FormatPath(&theirs))
		}
	})
}

func TestResolvePath(t *testing.T) {
	user, group := UserType(), GroupType()
	tests := []struct {
		rt   *ResourceType
		path string
		want string // "" when nothing has that name
	}{
		{user, `username`, "userName"},
		{user, `NAME.GivenName`, "name.givenName"},
		{user, SchemaUser + `:name.familyName`, "name.familyName"},
		{user, `manager`, SchemaEnterpriseUser + ":manager"},
		{user, strings.ToLower(SchemaEnterpriseUser) + `:Manager.Value`, SchemaEnterpriseUser + ":manager.value"},
		{user, `emails[type eq "work"]`, "emails"},
		{user, `emails[Type eq "work" and primary eq true].VALUE`, "emails.value"},
		{user, `schemas[value eq "x"]`, "schemas"},
		{user, `schemas[value eq "x"].value`, "schemas"},
		{group, `members[value eq "x"].display`, "members.display"},
		{user, `members[value eq "x"]`, ""},
		{user, `emails[color eq "red"]`, ""},
		{user, `emails[type eq "work"].color`, ""},
		{user, `emails.value[type eq "work"]`, ""},
		{user, `emails[primary gt true]`, ""},
		{user, `name[givenName eq "x"].familyName`, ""},
		{user, `userName[value eq "x"]`, ""},
		{user, `complexField.subField`, ""},
		{user, SchemaEnterpriseUser, ""},
		{user, `urn:x:userName`, ""},
	}
	for _, tt := range tests {
		p, err := ParsePath(tt.path)
		if err != nil {
			t.Fatalf("ParsePath(%q): %v", tt.path, err)
		}
		got, ok := tt.rt.ResolvePath(p)
		if ok != (tt.want != "") || ok && got.Ref.String() != tt.want {
			t.Errorf("ResolvePath(%q) = %q, %v, want %q", tt.path, got.Ref, ok, tt.want)
		}
		if got, want := tt.rt.PathExtension(p) != nil, tt.path == SchemaEnterpriseUser; got != want {
			t.Errorf("PathExtension(%q) found one: %v, want %v", tt.path, got, want)
		}
	}
}

func TestAttributes(t *testing.T) {
	tests := []struct {
		filter string
		want   []string
		err    string
	}{
		{`userName eq "x" or USERNAME eq "y"`, []string{"userName"}, ""},
		{`not (title pr) and emails[type eq "work" and value co "x"]`, []string{"title", "emails.type", "emails.value"}, ""},
		{`emails co "x"`, []string{"emails.value"}, ""},
		{`emails pr`, []string{"emails"}, ""},
		{`name eq null`, []string{"name"}, ""},
		{`id eq "1" and manager eq "2"`, []string{"id", SchemaEnterpriseUser + ":manager.value"}, ""},
		{`schemas[value eq "x"]`, []string{"schemas"}, ""},
		{`meta.lastModified gt "2020-01-01T00:00:00Z"`, []string{"meta.lastModified"}, ""},
		{`colour eq "red"`, nil, `filter: User has no attribute "colour"`},
		{`userName pr or colour eq "red"`, nil, `filter: User has no attribute "colour"`},
		{`emails[colour eq "red"]`, nil, `filter: emails has no sub-attribute "colour"`},
		{`emails[urn:x:type eq "red"]`, nil, `filter: emails has no sub-attribute "urn:x:type"`},
		{`colours[type eq "red"]`, nil, `filter: User has no attribute "colours"`},
		{`userName[value eq "x"]`, nil, `filter: userName takes no value filter: it has no sub-attributes`},
		{`emails.type[value eq "x"]`, nil, `filter: emails.type takes no value filter: it has no sub-attributes`},
		{`name eq "x"`, nil, `filter: name is complex: compare one of its sub-attributes`},
		{`active gt true`, nil, `filter: gt does not fit active, which is of type boolean`},
		{`active co "x"`, nil, `filter: co does not fit active, which is of type boolean`},
		{`x509Certificates le "x"`, nil, `filter: le does not fit x509Certificates.value, which is of type binary`},
		{`emails[primary lt 1]`, nil, `filter: lt does not fit emails.primary, which is of type boolean`},
	}
	rt := UserType()
	for _, tt := range tests {
		f, err := ParseFilter(tt.filter)
		if err != nil {
			t.Fatalf("ParseFilter(%q): %v", tt.filter, err)
		}
		refs, err := rt.Attributes(f)
		var got []string
		for _, r := range refs {
			got = append(got, r.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("Attributes(%q) = %q, want %q", tt.filter, got, tt.want)
		}
		checkDetail(t, tt.filter, err, InvalidFilter, tt.err)
		if _, matchErr := rt.Match(f, Resource{"userName": "x"}); (matchErr == nil) != (err == nil) {
			t.Errorf("Match(%q): %v, but Attributes: %v", tt.filter, matchErr, err)
		}
	}
	if refs, err := rt.Attributes(nil); refs != nil || err != nil {
		t.Errorf("Attributes(nil) = %v, %v, want nothing", refs, err)
	}
}

func checkDetail(t *testing.T, what string, err error, scimType, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("%s: %v, want no error", what, err)
		}
		return
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 400 || e.Type != scimType || e.Detail != want {
		t.Errorf("%s: %v, want %s: %s", what, err, scimType, want)
	}
}
