package entra

import (
	"strings"
	"testing"
)

// documented is the person of the documented create.
var documented = Person{
	ObjectID: "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef", UserName: "Test_User_ab6490ee-1e48-479e-a20b-2d77186b5dd1",
	GivenName: "givenName", FamilyName: "familyName", Mail: "Test_User_fd0ea19b-0777-472c-9f96-4f70d2226f2e@testuser.com", Enabled: true,
}

const documentedBody = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],` +
	`"externalId":"0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef","userName":"Test_User_ab6490ee-1e48-479e-a20b-2d77186b5dd1","active":true,` +
	`"emails":[{"primary":true,"type":"work","value":"Test_User_fd0ea19b-0777-472c-9f96-4f70d2226f2e@testuser.com"}],` +
	`"meta":{"resourceType":"User"},"name":{"formatted":"givenName familyName","familyName":"familyName","givenName":"givenName"},"roles":[]}`

// TestCreateBytes pins the body of the create and of each of its variants.
func TestCreateBytes(t *testing.T) {
	small := []string{"userName", "active", "title", enterpriseURN + ":department", managerPath, `phoneNumbers[type eq "work"].value`}
	p := Person{ObjectID: "o1", UserName: "ann", Title: "R&D <lead>", Department: "Büro", Enabled: true}
	const both = `{"schemas":["` + userURN + `","` + enterpriseURN + `"],`
	const meta = `"meta":{"resourceType":"User"},`
	tests := []struct {
		name       string
		person     Person
		attributes []string
		variants   Variants
		manager    string
		want       string
	}{
		{"documented", documented, nil, Variants{}, "", documentedBody},
		{"enterprise", p, small, Variants{}, "",
			both + `"userName":"ann","active":true,` + meta + `"roles":[],"title":"R&D <lead>","` + enterpriseURN + `":{"department":"Büro"}}`},
		{"disabled", Person{ObjectID: "o2", UserName: "bob"}, small, Variants{}, "", both + `"userName":"bob","active":false,` + meta + `"roles":[]}`},
		{"null", Person{ObjectID: "o2", UserName: "bob", Enabled: true}, small, Variants{NullAttributes: true}, "",
			both + `"userName":"bob","active":true,` + meta + `"phoneNumbers":null,"roles":[],"title":null,"` + enterpriseURN + `":{"department":null}}`},
		{"flat", p, small, Variants{FlatEnterprise: true}, "",
			both + `"userName":"ann","active":true,` + meta + `"roles":[],"title":"R&D <lead>","department":"Büro"}`},
		{"unlisted", p, small, Variants{ExtensionUnlisted: true}, "",
			`{"schemas":["` + userURN + `"],"userName":"ann","active":true,` + meta + `"roles":[],"title":"R&D <lead>","` + enterpriseURN + `":{"department":"Büro"}}`},
		{"roles", Person{UserName: "bob", Enabled: true}, small, Variants{RolesPrimaryString: true}, "",
			both + `"userName":"bob","active":true,` + meta + `"roles":[{"primary":"True","type":"WindowsAzureActiveDirectoryRole","value":"User"}]}`},
		{"manager", Person{UserName: "bob", Enabled: true}, small, Variants{ManagerInCreate: true}, "271",
			both + `"userName":"bob","active":true,` + meta + `"roles":[],"` + enterpriseURN + `":{"manager":"271"}}`},
		{"manager flat", Person{UserName: "bob", Enabled: true}, small, Variants{ManagerInCreate: true, FlatEnterprise: true}, "271",
			both + `"userName":"bob","active":true,` + meta + `"roles":[],"manager":"271"}`},
		{"value paths later", Person{UserName: "bob", Phone: "+1", Enabled: true}, small, Variants{ValuePathsAfterCreate: true}, "",
			both + `"userName":"bob","active":true,` + meta + `"roles":[]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, "http://127.0.0.1/scim/v2", func(cfg *Config) { cfg.Attributes, cfg.Variants = tt.attributes, tt.variants })
			if got := string(c.userBody(&tt.person, tt.manager)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestPatchBytes pins the PATCH bodies of both dialects.
func TestPatchBytes(t *testing.T) {
	const head, tail = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`, `]}`
	ch := func(path, text string, add bool) change {
		for _, a := range userAttributes() {
			if a.path == path {
				return change{a, text, add}
			}
		}
		t.Fatalf("no attribute %s", path)
		return change{}
	}
	email, number := `emails[type eq "work"].value`, enterpriseURN+":employeeNumber"
	several := []change{ch("displayName", "x", false), ch(email, "a@b.c", false), ch("name.familyName", "z", false), ch("name.givenName", "y", false), ch(number, "7", false)}
	tests := []struct {
		name        string
		changes     []change
		legacy, rfc string
	}{
		{"single", []change{ch("userName", "a@b.c", false)},
			`{"op":"Replace","path":"userName","value":"a@b.c"}`,
			`{"op":"replace","value":{"userName":"a@b.c"}}`},
		{"several", several,
			`{"op":"Replace","path":"displayName","value":"x"},{"op":"Replace","path":"emails[type eq \"work\"].value","value":"a@b.c"},` +
				`{"op":"Replace","path":"name.familyName","value":"z"},{"op":"Replace","path":"name.givenName","value":"y"},` +
				`{"op":"Replace","path":"` + number + `","value":"7"}`,
			`{"op":"replace","path":"emails[type eq \"work\"].value","value":"a@b.c"},` +
				`{"op":"replace","value":{"displayName":"x","name.familyName":"z","name.givenName":"y","` + number + `":"7"}}`},
		{"disable", []change{ch("active", "False", false)},
			`{"op":"Replace","path":"active","value":"False"}`,
			`{"op":"replace","path":"active","value":false}`},
		{"restore", []change{ch("active", "True", false)},
			`{"op":"Replace","path":"active","value":"True"}`,
			`{"op":"replace","path":"active","value":true}`},
		{"add to a missing element", []change{ch(email, "a@b.c", true)},
			`{"op":"Add","path":"emails[type eq \"work\"].value","value":"a@b.c"}`,
			`{"op":"add","path":"emails[type eq \"work\"].value","value":"a@b.c"}`},
		{"add and replace", []change{ch("title", "t", true), ch("displayName", "x", false)},
			`{"op":"Add","path":"title","value":"t"},{"op":"Replace","path":"displayName","value":"x"}`,
			`{"op":"replace","value":{"displayName":"x"}},{"op":"add","value":{"title":"t"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for d, want := range map[Dialect]string{Legacy: tt.legacy, RFC: tt.rfc} {
				if got := string(changesBody(d, tt.changes)); got != head+want+tail {
					t.Errorf("%s:\n got %s\nwant %s", d, got, head+want+tail)
				}
			}
		})
	}
}

func TestReferenceBytes(t *testing.T) {
	const head, tail = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`, `]}`
	manager := func(v Variants, d Dialect, id string, add bool) string {
		c := newClient(t, "http://127.0.0.1/scim/v2", func(cfg *Config) { cfg.Variants = v })
		return string(c.managerBody(d, id, "http://127.0.0.1/scim/v2/Users/271", add))
	}
	tests := []struct{ name, got, want string }{
		{"manager", manager(Variants{}, Legacy, "271", true), `{"op":"Add","path":"` + managerPath + `","value":"271"}`},
		{"manager rfc", manager(Variants{}, RFC, "271", false), `{"op":"replace","value":{"` + managerPath + `":"271"}}`},
		{"manager array", manager(Variants{ManagerArray: true, ManagerShortPath: true}, Legacy, "271", false),
			`{"op":"Replace","path":"manager","value":[{"$ref":"http://127.0.0.1/scim/v2/Users/271","value":"271"}]}`},
		{"manager unset", manager(Variants{ManagerUnset: UnsetString}, Legacy, "", false), `{"op":"Replace","path":"` + managerPath + `","value":""}`},
		{"manager unset object", manager(Variants{ManagerUnset: UnsetObject}, Legacy, "", false), `{"op":"Replace","path":"` + managerPath + `","value":{"value":""}}`},
		{"add members", string(membersBody(Legacy, []string{"u1", "u2"}, nil)), `{"op":"Add","path":"members","value":[{"value":"u1"},{"value":"u2"}]}`},
		{"add members rfc", string(membersBody(RFC, []string{"u1"}, nil)), `{"op":"add","path":"members","value":[{"value":"u1"}]}`},
		{"remove members", string(membersBody(Legacy, nil, []string{"u1"})), `{"op":"Remove","path":"members","value":[{"value":"u1"}]}`},
		{"remove members rfc", string(membersBody(RFC, nil, []string{"u1", `u"2`})),
			`{"op":"remove","path":"members[value eq \"u1\"]"},{"op":"remove","path":"members[value eq \"u\\\"2\"]"}`},
	}
	for _, tt := range tests {
		if tt.got != head+tt.want+tail {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, tt.got, head+tt.want+tail)
		}
	}
	c := newClient(t, "http://127.0.0.1/scim/v2", func(cfg *Config) { cfg.Variants.GroupADSCIM = true })
	want := `{"schemas":["` + groupURN + `","` + adscimURN + `"],"externalId":"g1","displayName":"Staff","meta":{"resourceType":"Group"}}`
	if got := string(c.groupBody(&Group{ObjectID: "g1", DisplayName: "Staff"})); got != want {
		t.Errorf("group:\n got %s\nwant %s", got, want)
	}
}

// TestWire pins request lines and headers.
func TestWire(t *testing.T) {
	f, base := startFake(t)
	c := newClient(t, base+"/?feature=1&aadOptscim062020", func(cfg *Config) {
		cfg.Match = []string{"externalId", `emails[type eq "work"].value`, "userName"}
		cfg.Attributes = []string{"userName", "active"}
	})
	d := newDirectory(t, Person{ObjectID: "o1", UserName: `o"neil l@example.com`, Mail: "o@example.com", Enabled: true})
	cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
	must(t, d.Disable("o1"))
	cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	calls := f.take()
	const flags = "?feature=1&aadOptscim062020"
	wantLines(t, lines(calls), []string{
		`GET /Users` + flags + `&filter=externalId+eq+%22o1%22`,
		`GET /Users` + flags + `&filter=emails%5Btype+eq+%22work%22%5D.value+eq+%22o%40example.com%22`,
		`GET /Users` + flags + `&filter=userName+eq+%22o%5C%22neil+l%40example.com%22`,
		`POST /Users` + flags + ` {"schemas":["` + userURN + `","` + enterpriseURN + `"],"userName":"o\"neil l@example.com","active":true,"meta":{"resourceType":"User"},"roles":[]}`,
		`GET /Users/101` + flags,
		`PATCH /Users/101` + flags + ` {"schemas":["` + patchURN + `"],"Operations":[{"op":"replace","path":"active","value":false}]}`,
	})
	for _, call := range calls {
		for name := range call.header {
			ok := name == "Authorization"
			if call.body != "" {
				ok = ok || name == "Content-Type" || name == "Content-Length"
			}
			if !ok {
				t.Errorf("%s carries the header %s", call.method, name)
			}
		}
		if call.body != "" && call.header.Get("Content-Type") != "application/scim+json; charset=utf-8" {
			t.Errorf("%s: Content-Type: got %q", call.method, call.header.Get("Content-Type"))
		}
	}
}

func TestPathVariants(t *testing.T) {
	c := newClient(t, "http://127.0.0.1:1/scim/v2/", func(cfg *Config) {
		cfg.Variants = Variants{DoubleSlash: true, LowerCasePaths: true}
		cfg.Dialect = RFC
	})
	for path, want := range map[string]string{
		"/Users":       "http://127.0.0.1:1/scim/v2//users?aadOptscim062020",
		"/Users/A%2FB": "http://127.0.0.1:1/scim/v2//users/A%2FB?aadOptscim062020",
	} {
		if got := c.target(path, ""); got != want {
			t.Errorf("target(%q): got %s, want %s", path, got, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		cfg  Config
		want string
	}{
		{Config{URL: "scim/v2"}, "scheme and a host"},
		{Config{URL: "http://[::1"}, "cannot be parsed"},
		{Config{URL: "https://u:secret@h/scim"}, "credentials"},
		{Config{URL: "https://h/scim", Match: []string{"nickName"}}, "matched on"},
		{Config{URL: "https://h/scim", Attributes: []string{"nickName"}}, "mapped"},
	}
	for _, tt := range tests {
		_, err := New(tt.cfg)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New(%q): got %v, want an error with %q", tt.cfg.URL, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret@") {
			t.Errorf("New(%q): the error tells the password", tt.cfg.URL)
		}
	}
}

func TestParseDialect(t *testing.T) {
	for s, want := range map[string]Dialect{"legacy": Legacy, "RFC": RFC, "aadOptscim062020": RFC} {
		if got, err := ParseDialect(s); err != nil || got != want {
			t.Errorf("ParseDialect(%q): got %v, %v, want %v", s, got, err, want)
		}
	}
	if _, err := ParseDialect("soap"); err == nil {
		t.Error("ParseDialect(soap): got no error")
	}
}
