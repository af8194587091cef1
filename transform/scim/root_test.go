package scim

import (
	"net/url"
	"strings"
	"testing"
)

// What is asked of each resource type when the root is asked (RFC 7644, Section 3.4.2.1).
func TestReadRoot(t *testing.T) {
	const user, group = "User", "Group"
	all := map[string]string{user: "", group: ""}
	tests := []struct {
		filter string
		want   map[string]string // what is asked of a type; without an entry nothing is
	}{
		{"", all},
		{`meta.resourceType eq "User"`, map[string]string{user: ""}},
		{`META.resourcetype eq "group"`, map[string]string{}}, // caseExact (RFC 7643, Section 3.1)
		{`meta.resourceType eq "Device"`, map[string]string{}},
		{`meta.resourceType ne "User"`, map[string]string{group: ""}},
		{`meta.resourceType pr`, all},
		{`not (meta.resourceType eq "User")`, map[string]string{group: ""}},
		{`(meta.resourceType eq "User") or (meta.resourceType eq "Group")`, all},
		{`meta.resourceType eq "User" and userName eq "a"`, map[string]string{user: `userName eq "a"`}},
		{`meta.resourceType eq "User" and userName eq "a" or meta.resourceType eq "Group"`, map[string]string{user: `userName eq "a"`, group: ""}},
		{`id eq "1"`, map[string]string{user: `id eq "1"`, group: `id eq "1"`}},
		{`displayName sw "a"`, map[string]string{user: `displayName sw "a"`, group: `displayName sw "a"`}},
		// an attribute that a type lacks has no value there
		{`userName eq "a"`, map[string]string{user: `userName eq "a"`}},
		{`userName pr`, map[string]string{user: `userName pr`}},
		{`userName ne "a"`, map[string]string{user: `userName ne "a"`, group: ""}},
		{`userName eq null`, map[string]string{user: `userName eq null`, group: ""}},
		{`userName ne null`, map[string]string{user: `userName ne null`}},
		{`not (userName sw "a")`, map[string]string{user: `not (userName sw "a")`, group: ""}},
		{`members.value eq "1"`, map[string]string{group: `members.value eq "1"`}},
		{`members[value eq "1"]`, map[string]string{group: `members[value eq "1"]`}},
		{`not (members[value eq "1"])`, map[string]string{user: "", group: `not (members[value eq "1"])`}},
		{`emails[type eq "work"].value eq "x" or displayName eq "y"`,
			map[string]string{user: `emails[type eq "work" and value eq "x"] or displayName eq "y"`, group: `displayName eq "y"`}},
		{`userName eq "a" and members pr`, map[string]string{}},
		{SchemaGroup + `:displayName eq "a"`, map[string]string{group: SchemaGroup + `:displayName eq "a"`}},
		{SchemaEnterpriseUser + `:department eq "a"`, map[string]string{user: SchemaEnterpriseUser + `:department eq "a"`}},
	}
	for _, tt := range tests {
		query := ""
		if tt.filter != "" {
			query = "?filter=" + url.QueryEscape(tt.filter)
		}
		req, err := readHTTP(t, line("GET /"+query))
		if err != nil {
			t.Errorf("%s: %v", tt.filter, err)
			continue
		}
		for _, p := range req.Parts {
			want, ok := tt.want[p.Type.Name]
			if got := FormatFilter(p.Query.Filter); !ok || got != want || !p.Query.Whole || p.Op != OpQuery {
				t.Errorf("%s: %ss are asked for %q, want %q", tt.filter, p.Type.Name, got, want)
			}
		}
		if len(req.Parts) != len(tt.want) || req.Type != nil {
			t.Errorf("%s: got %d parts, want %d", tt.filter, len(req.Parts), len(tt.want))
		}
	}
	for filter, want := range map[string]string{
		`shoeSize eq "1"`:             `400 invalidFilter: filter: no resource type has an attribute "shoeSize"`,
		`urn:x:y:z pr`:                "400 invalidFilter: filter: no resource type has",
		`members.shoe eq "1"`:         "400 invalidFilter: filter: no resource type has",
		`members[shoe eq "1"]`:        "400 invalidFilter: filter: members has no sub-attribute",
		`active gt true`:              "400 invalidFilter: filter: gt does not fit active",
		`active co "x" or members pr`: "400 invalidFilter: filter: co does not fit active",
		`meta.resourceType eq "Group" and active gt true`: "400 invalidFilter: filter: gt does not fit active",
		`userName eq`: "400 invalidFilter: ",
	} {
		if req, err := readHTTP(t, line("GET /?filter="+url.QueryEscape(filter))); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %+v, %v, want %s", filter, req, err, want)
		}
	}
}

// Projection and sort mean what they mean at each type.
func TestReadRootProjection(t *testing.T) {
	req, err := readHTTP(t, line("GET /?attributes=userName,members.value&sortBy=userName&startIndex=3&count=2"))
	if err != nil || len(req.Parts) != 2 {
		t.Fatalf("got %+v, %v, want two parts", req, err)
	}
	user, group := req.Parts[0].Query, req.Parts[1].Query
	if len(user.Attributes) != 1 || user.Attributes[0].Name != "userName" || len(group.Attributes) != 1 || group.Attributes[0].Sub != "value" {
		t.Errorf("got attributes %v and %v", user.Attributes, group.Attributes)
	}
	if user.SortBy == nil || group.SortBy != nil || req.Query.SortBy == nil || req.Query.StartIndex != 3 || *req.Query.Count != 2 || req.Query.Attributes != nil {
		t.Errorf("got %+v, %+v and %+v", req.Query, user, group)
	}
	if _, err := readHTTP(t, line("GET /?sortBy=a%20b")); err == nil || !strings.HasPrefix(err.Error(), "400 invalidPath: ") {
		t.Errorf("got %v, want 400 invalidPath", err)
	}
}
