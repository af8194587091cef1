package scim

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

const base = "https://gateway.example/scim/v2"

// What clients rely on, whether or not the vectors are there.
func TestSchemaDocuments(t *testing.T) {
	for _, tt := range []struct{ urn, path, want string }{
		{SchemaUser, "userName", `{"caseExact":false,"multiValued":false,"mutability":"readWrite","name":"userName","required":true,"returned":"default","type":"string","uniqueness":"server"}`},
		{SchemaUser, "active", `{"multiValued":false,"mutability":"readWrite","name":"active","required":false,"returned":"default","type":"boolean"}`},
		{SchemaUser, "password", `{"caseExact":false,"multiValued":false,"mutability":"writeOnly","name":"password","required":false,"returned":"never","type":"string","uniqueness":"none"}`},
		{SchemaUser, "profileUrl", `{"caseExact":false,"multiValued":false,"mutability":"readWrite","name":"profileUrl","referenceTypes":["external"],"required":false,"returned":"default","type":"reference","uniqueness":"none"}`},
		{SchemaUser, "emails.type", `{"canonicalValues":["work","home","other"],"caseExact":false,"multiValued":false,"mutability":"readWrite","name":"type","required":false,"returned":"default","type":"string","uniqueness":"none"}`},
		{SchemaUser, "groups.$ref", `{"caseExact":false,"multiValued":false,"mutability":"readOnly","name":"$ref","referenceTypes":["Group"],"required":false,"returned":"default","type":"reference","uniqueness":"none"}`},
		{SchemaUser, "x509Certificates.value", `{"caseExact":true,"multiValued":false,"mutability":"readWrite","name":"value","required":false,"returned":"default","type":"binary","uniqueness":"none"}`},
		{SchemaGroup, "members.value", `{"caseExact":false,"multiValued":false,"mutability":"immutable","name":"value","required":false,"returned":"default","type":"string","uniqueness":"none"}`},
		{SchemaGroup, "members.$ref", `{"caseExact":false,"multiValued":false,"mutability":"immutable","name":"$ref","referenceTypes":["User","Group"],"required":false,"returned":"default","type":"reference","uniqueness":"none"}`},
		{SchemaEnterpriseUser, "manager.value", `{"caseExact":true,"multiValued":false,"mutability":"readWrite","name":"value","required":false,"returned":"default","type":"string","uniqueness":"none"}`},
		{SchemaEnterpriseUser, "manager.displayName", `{"caseExact":false,"multiValued":false,"mutability":"readOnly","name":"displayName","required":false,"returned":"default","type":"string","uniqueness":"none"}`},
	} {
		m := schemaOfURN(tt.urn)
		list := m["attributes"]
		for name := range strings.SplitSeq(tt.path, ".") {
			i := slices.IndexFunc(list.([]any), func(a any) bool { return a.(map[string]any)["name"] == name })
			if i < 0 {
				t.Fatalf("%s has no %s", tt.urn, tt.path)
			}
			m = list.([]any)[i].(map[string]any)
			list = m["subAttributes"]
		}
		delete(m, "description")
		if got := string(AppendJSON(nil, m)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.path, got, tt.want)
		}
	}
}

// Entra wants no null in /Schemas, and an empty URI is none.
func TestDiscoverHasNoNull(t *testing.T) {
	for _, id := range []string{"Schemas", "ResourceTypes", "ServiceProviderConfig"} {
		resp, err := Discover(&Request{Op: OpDiscover, ID: id}, base, bothTypes, Abilities{})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range append(resp.List, resp.Resource) {
			checkNoNull(t, id, map[string]any(r))
			checkRoundTripped(t, r)
			if r != nil && r.Meta("location") == "" {
				t.Errorf("%s: %s has no meta.location", id, r.ID())
			}
		}
	}
}

func checkRoundTripped(t *testing.T, r Resource) {
	t.Helper()
	if _, err := DecodeObject(AppendJSON(nil, r)); err != nil {
		t.Errorf("%s: %v", r.ID(), err)
	}
}

func checkNoNull(t *testing.T, where string, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			checkNoNull(t, where+"."+name, e)
		}
	case []any:
		if len(v) == 0 {
			t.Errorf("%s is an empty array", where)
		}
		for _, e := range v {
			checkNoNull(t, where, e)
		}
	case nil:
		t.Errorf("%s is null", where)
	case string:
		if v == "" {
			t.Errorf("%s is empty", where)
		}
	}
}

func TestDiscover(t *testing.T) {
	const user = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],"id":"User","description":"User Account","endpoint":"/Users","name":"User",` +
		`"schema":"urn:ietf:params:scim:schemas:core:2.0:User","schemaExtensions":[{"required":false,"schema":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"}],` +
		`"meta":{"location":"https://gateway.example/scim/v2/ResourceTypes/User","resourceType":"ResourceType"}}`
	const group = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],"id":"Group","description":"Group","endpoint":"/Groups","name":"Group",` +
		`"schema":"urn:ietf:params:scim:schemas:core:2.0:Group","meta":{"location":"https://gateway.example/scim/v2/ResourceTypes/Group","resourceType":"ResourceType"}}`
	const config = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],"authenticationSchemes":[{"description":"A bearer token in the Authorization header, configured for each provisioning client",` +
		`"name":"Secret Token","primary":true,"specUri":"https://www.rfc-editor.org/info/rfc6750","type":"oauthbearertoken"}],"bulk":{"maxOperations":0,"maxPayloadSize":0,"supported":false},` +
		`"changePassword":{"supported":false},"documentationUri":"https://docs","etag":{"supported":true},"filter":{"maxResults":200,"supported":true},"patch":{"supported":true},"sort":{"supported":false},` +
		`"meta":{"location":"https://gateway.example/scim/v2/ServiceProviderConfig","resourceType":"ServiceProviderConfig"}}`
	abilities := Abilities{Documentation: "https://docs", Patch: true, Filter: true, MaxResults: 200, ETag: true}
	for _, tt := range []struct{ id, want string }{
		{"ResourceTypes", `[` + user + `,` + group + `]`},
		{"ResourceTypes/User", user},
		{"ResourceTypes/group", group},
		{"ServiceProviderConfig", config},
		{"ResourceTypes/Device", `404: ResourceType "Device" does not exist`},
		{"ServiceProviderConfig/x", `404: ServiceProviderConfig "x" does not exist`},
		{"Schemas/urn:x", `404: Schema "urn:x" does not exist`},
		{"Schemas/", `404: Schema "" does not exist`},
	} {
		resp, err := Discover(&Request{Op: OpDiscover, ID: tt.id}, base, bothTypes, abilities)
		var got string
		switch {
		case err != nil:
			got = err.Error()
		case resp.List != nil:
			got = string(AppendJSON(nil, resp.List))
		default:
			got = string(AppendJSON(nil, resp.Resource))
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.id, got, tt.want)
		}
	}
	shared := []*ResourceType{UserType(), UserType(), GroupType()}
	resp, err := Discover(&Request{Op: OpDiscover, ID: "Schemas"}, base, shared, abilities)
	if err != nil || len(resp.List) != 3 || resp.TotalResults != 3 || resp.Status != http.StatusOK {
		t.Errorf("Schemas: got %+v, %v, want three", resp, err)
	}
	resp, err = Discover(&Request{Op: OpDiscover, ID: "Schemas/" + strings.ToUpper(SchemaEnterpriseUser)}, base, shared, abilities)
	if err != nil || resp.Resource.ID() != SchemaEnterpriseUser || resp.Resource.Meta("location") != base+"/Schemas/"+SchemaEnterpriseUser {
		t.Errorf("Schemas, one: got %+v, %v", resp, err)
	}
	if resp, err = Discover(&Request{Op: OpDiscover, ID: "Schemas"}, base, nil, abilities); err != nil || len(resp.List) != 0 || resp.TotalResults != 0 {
		t.Errorf("no types: got %+v, %v", resp, err)
	}
}

func TestRestrict(t *testing.T) {
	user := UserType()
	got := user.Restrict(func(r Ref) bool {
		return r == Ref{Name: "userName"} || r == Ref{Name: "name", Sub: "givenName"} || r == Ref{Name: "emails"}
	})
	var names []string
	for ref, a := range got.All {
		names = append(names, ref.String())
		if ref.Name == "name" || ref.Name == "emails" {
			for _, sub := range a.Sub {
				names = append(names, "."+sub.Name)
			}
		}
	}
	want := []string{"schemas", "id", "externalId", "meta", "userName", "name", ".givenName", "emails", ".value", ".display", ".type", ".primary"}
	if !slices.Equal(names, want) || len(got.Extensions) != 0 {
		t.Errorf("got %v, want %v", names, want)
	}
	if len(user.Core.Attribute("name").Sub) != 6 || len(user.Extensions) != 1 {
		t.Error("the type itself changed")
	}
	got = user.Restrict(func(r Ref) bool { return r.Schema != "" && r.Sub == "value" })
	if len(got.Core.Attributes) != 0 || len(got.Extensions) != 1 || len(got.Extensions[0].Attributes) != 1 {
		t.Errorf("got %+v, want manager.value alone", got)
	}
	if m := got.Core.Document(base); m["attributes"] == nil {
		t.Error("attributes is null")
	}
}

func TestFingerprint(t *testing.T) {
	r := Resource{"id": "1", "emails": []any{map[string]any{"value": "a"}}, "meta": map[string]any{"version": "1", "created": "c"}}
	same := []Resource{r.Clone(), {"meta": map[string]any{"created": "c"}, "emails": []any{map[string]any{"value": "a"}}, "id": "1"}}
	for _, s := range same {
		if got, want := Fingerprint(s), Fingerprint(r); got != want {
			t.Errorf("%v: got %s, want %s", s, got, want)
		}
	}
	if r.Meta("version") != "1" {
		t.Error("the resource changed")
	}
	other := r.Clone()
	other["meta"].(map[string]any)["created"] = "d"
	if Fingerprint(other) == Fingerprint(r) {
		t.Error("another resource has the same fingerprint")
	}
	if got, want := Fingerprint(Resource{"id": "1", "meta": map[string]any{"version": "1"}}), Fingerprint(Resource{"id": "1"}); got != want {
		t.Errorf("a version alone: got %s, want %s", got, want)
	}
	if f := Fingerprint(nil); !strings.HasPrefix(f, `W/"`) || !strings.HasSuffix(f, `"`) || len(f) > 20 {
		t.Errorf("%s is no weak ETag", f)
	}
}
