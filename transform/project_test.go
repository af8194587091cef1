package transform

import (
	"testing"

	"scimgate/transform/scim"
)

func TestProject(t *testing.T) {
	const user = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","` + enterprise + `"],"id":"7","userName":"ada","active":true,
		"name":{"givenName":"G","familyName":"F","shoe":"38"},"emails":[{"type":"work","value":"w","primary":true,"verified":true},{"type":"home"}],
		"password":"secret","favouriteColour":"green","meta":{"location":"l","version":"v"},
		"` + enterprise + `":{"department":"D","manager":{"value":"42","displayName":"B"},"shoeSize":"38"}}`
	// schemas are those of what is answered (RFC 7643, Section 3)
	const always = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","` + enterprise + `"],"id":"7"`
	const core = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"id":"7"`
	tests := []struct{ query, want string }{
		{"", always + `,"userName":"ada","active":true,"emails":[{"primary":true,"type":"work","value":"w","verified":true},{"type":"home"}],"favouriteColour":"green","name":{"familyName":"F","givenName":"G","shoe":"38"},` +
			`"` + enterprise + `":{"department":"D","manager":{"displayName":"B","value":"42"},"shoeSize":"38"},"meta":{"location":"l","version":"v"}}`},
		{"attributes=id", core + `}`},
		{"attributes=favouriteColour", core + `}`},
		{"attributes=password", core + `}`},
		{"attributes=username,active", core + `,"userName":"ada","active":true}`},
		{"attributes=urn:ietf:params:scim:schemas:core:2.0:User:userName", core + `,"userName":"ada"}`},
		{"attributes=name", core + `,"name":{"familyName":"F","givenName":"G","shoe":"38"}}`},
		{"attributes=name.givenName", core + `,"name":{"givenName":"G"}}`},
		{"attributes=name.middleName", core + `}`},
		{"attributes=emails.value", core + `,"emails":[{"value":"w"}]}`},
		{"attributes=department", always + `,"` + enterprise + `":{"department":"D"}}`},
		{"attributes=" + enterprise, always + `,"` + enterprise + `":{"department":"D","manager":{"displayName":"B","value":"42"}}}`},
		{"attributes=" + enterprise + ":manager.value", always + `,"` + enterprise + `":{"manager":{"value":"42"}}}`},
		{"attributes=meta.location", core + `,"meta":{"location":"l"}}`},
		{"excludedAttributes=id,schemas,emails,name,favouriteColour,meta,active," + enterprise, always + `,"userName":"ada","favouriteColour":"green","` + enterprise + `":{"shoeSize":"38"}}`},
		{"excludedAttributes=emails.value,name.givenName,manager,meta,favouriteColour", always + `,"userName":"ada","active":true,"emails":[{"primary":true,"type":"work","verified":true},{"type":"home"}],"favouriteColour":"green","name":{"familyName":"F","shoe":"38"},` +
			`"` + enterprise + `":{"department":"D","shoeSize":"38"}}`},
	}
	rt := scim.UserType()
	for _, test := range tests {
		q := read(t, "GET /Users/7?"+test.query).Query
		r := object(t, user)
		if got := string(scim.AppendJSON(nil, Project(rt, r, q))); got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.query, got, test.want)
		}
		if got, want := string(scim.AppendJSON(nil, r)), string(scim.AppendJSON(nil, object(t, user))); got != want {
			t.Errorf("%s: Project changed the resource: got %s, want %s", test.query, got, want)
		}
	}
}

// A schema that says so may have an attribute that is returned always, or only on request, whatever its name.
func TestProjectFollowsReturned(t *testing.T) {
	rt := scim.UserType()
	rt.Core.Attribute("nickName").Returned = "request"
	rt.Core.Attribute("title").Returned = "always"
	rt.Core.Attribute("name").SubAttribute("formatted").Returned = "always"
	r := object(t, `{"id":"7","nickName":"N","title":"T","locale":"en","name":{"formatted":"F","givenName":"G"}}`)
	for query, want := range map[string]string{
		"":                              `{"id":"7","locale":"en","name":{"formatted":"F","givenName":"G"},"title":"T"}`,
		"attributes=nickName":           `{"id":"7","nickName":"N","title":"T"}`,
		"attributes=name.givenName":     `{"id":"7","name":{"formatted":"F","givenName":"G"},"title":"T"}`,
		"excludedAttributes=title,name": `{"id":"7","locale":"en","title":"T"}`,
	} {
		if got := string(scim.AppendJSON(nil, Project(rt, r, read(t, "GET /Users/7?"+query).Query))); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
}
