package transform

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// inline makes a transform for a profile written in a test: the User resource from its attributes on, what stands
// before `---` being the rest of the profile.
func inline(t testing.TB, text string) *Transform {
	t.Helper()
	rest, user, ok := strings.Cut(text, "---\n")
	if !ok {
		rest, user = "", text
	}
	src := "name: inline\n" + rest + "resources:\n- name: User\n  endpoint: /Users\n"
	for line := range strings.Lines(user) {
		src += "  " + line
	}
	p, err := profile.Parse("inline.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	tr, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func builtin(t testing.TB, name string) *Transform {
	t.Helper()
	p, err := profile.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// read makes the normalized request of a text: method and path, then, behind a space, a query or a body. The body of
// a PATCH may be its operations alone.
func read(t testing.TB, text string) *scim.Request {
	t.Helper()
	head, body, _ := strings.Cut(text, " {")
	if body != "" {
		body = "{" + body
	}
	if head, ops, ok := strings.Cut(text, " ["); ok && strings.HasPrefix(text, "PATCH") {
		return read(t, head+` {"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`+ops+`}`)
	}
	if body != "" && strings.HasPrefix(text, "P") && !strings.Contains(body, `"schemas"`) {
		body = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],` + body[1:]
	}
	method, target, _ := strings.Cut(head, " ")
	if path, query, ok := strings.Cut(target, "?"); ok {
		target = path + "?" + strings.NewReplacer(" ", "+", `"`, "%22", "[", "%5B", "]", "%5D").Replace(query)
	}
	req, err := readText([]byte(method + " " + target + "\n\n" + body))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	req, _, err = Normalize(req)
	if err == nil {
		err = Validate(req)
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return req
}

// ruled is what policy would decide: what the profile says.
func ruled(tr *Transform, req *scim.Request) Ruling {
	var r Ruling
	s := tr.shapes[req.Type.Name]
	if s == nil {
		return r
	}
	for w := range req.Writes() {
		t, ok := s.rt.Lookup(w.Ref)
		switch {
		case !w.Known || !ok || t.Leaf().ReadOnly() || t.Attribute.ReadOnly() || !s.hasRoom(w.Ref):
			r.Drop = append(r.Drop, w.Ref)
		case s.stores(w):
		case w.Ref == refExternalID || s.handling(w) == profile.HandlingKeep:
			r.Keep = append(r.Keep, w.Ref)
		case s.handling(w) == profile.HandlingDrop:
			r.Drop = append(r.Drop, w.Ref)
		}
		if name, ok := w.Value.(string); ok && w.Ref == refUserName {
			r.Alias = r.Alias || s.alias.needed(name)
		}
	}
	return r
}

// explain writes a plan on one line for each request.
func explain(t testing.TB, p *Plan, err error) string {
	t.Helper()
	if err != nil {
		if e, ok := errors.AsType[*scim.Error](err); ok {
			return "refused: " + e.Error()
		}
		return "error: " + err.Error()
	}
	lines := []string{string(p.How)}
	for _, r := range p.Requests {
		text := strings.Fields(describe(t, r))
		lines = append(lines, strings.ReplaceAll(strings.Join(text, " "), `"schemas": [ "urn:ietf:params:scim:api:messages:2.0:PatchOp" ], `, ""))
	}
	if p.How == Candidate {
		lines = append(lines, fmt.Sprintf("ids %q", p.IDs))
	}
	if p.Pushed != nil {
		lines = append(lines, "pushed "+scim.FormatFilter(p.Pushed))
	}
	if p.Residual != nil {
		lines = append(lines, "residual "+scim.FormatFilter(p.Residual))
	}
	if p.Sort != nil {
		lines = append(lines, "sort "+p.Sort.String())
	}
	if p.Held != nil {
		lines = append(lines, fmt.Sprintf("held %q as %q, externalId %q, kept %s", p.Held.UserName, p.Held.Sent, p.Held.ExternalID, scim.AppendJSON(nil, p.Held.Kept)))
	}
	for _, op := range p.KeptOps {
		lines = append(lines, fmt.Sprintf("kept %s %s %s", op.Op, scim.FormatPath(op.Path), scim.AppendJSON(nil, op.Value)))
	}
	return strings.ReplaceAll(strings.Join(lines, "\n"), "urn:ietf:params:scim:schemas:", "urn:..:")
}

const enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"

// Profiles of upstreams that store parts of attributes.
const (
	parted = `
unlisted: keep
attributes:
- path: userName
- path: name.givenName
- path: name.familyName
- path: emails[type eq "work"].value
- path: title
  handling: drop
- path: emails[type eq "other"].value
  handling: drop
- path: emails[type eq "other"].type
  handling: drop
`
	refusing = `
unlisted: refuse
attributes:
- path: userName
- path: name.givenName
- path: emails[type eq "work"].value
`
	aliasing = `
unlisted: drop
attributes:
- path: userName
  maxLength: 30
  onViolation: alias
  filter: [eq, sw]
- path: active
  filter: [eq]
`
)

func TestPlanWrites(t *testing.T) {
	const long = "ada.augusta.king.countess.of.lovelace@example.com"
	tests := []struct {
		name    string
		profile string // built-in, or inline
		request string
		held    *Held
		want    string
	}{
		{"create under bluejeans", "bluejeans",
			`POST /Users {"userName":"ada","externalId":"e1","displayName":"Ada","active":true,"meta":{"resourceType":"User"},"name":{"formatted":"A L","givenName":"Ada"},"emails":[{"primary":true,"type":"work","value":"w"},{"type":"home","value":"h"}],"manager":{"value":"42","$ref":"x","displayName":"B"}}`,
			nil, `forward
POST /Users { "schemas": [ "urn:..:core:2.0:User", "urn:..:extension:enterprise:2.0:User" ], "userName": "ada", "active": true, "emails": [ { "type": "work", "value": "w" } ], "name": { "givenName": "Ada" }, "urn:..:extension:enterprise:2.0:User": { "manager": "42" } }
held "ada" as "", externalId "e1", kept {}`},
		{"create under generic", "generic",
			`POST /Users {"userName":"ada","externalId":"e1","id":"9","emails":[{"primary":true,"value":"w"}],"department":"Analysis"}`,
			nil, `forward
POST /Users { "schemas": [ "urn:..:core:2.0:User", "urn:..:extension:enterprise:2.0:User" ], "externalId": "e1", "userName": "ada", "emails": [ { "primary": true, "value": "w" } ], "urn:..:extension:enterprise:2.0:User": { "department": "Analysis" } }`},
		{"create, parted", parted,
			`POST /Users {"userName":"ada","externalId":"e1","title":"T","nickName":"N","name":{"formatted":"F","givenName":"G"},"emails":[{"primary":true,"type":"work","value":"w"},{"type":"home","value":"h"},{"type":"other","value":"o","display":"D"}],"manager":"42"}`,
			nil, `forward
POST /Users { "schemas": [ "urn:..:core:2.0:User" ], "userName": "ada", "emails": [ { "type": "work", "value": "w" } ], "name": { "givenName": "G" } }
held "ada" as "", externalId "e1", kept {"emails":[{"primary":true,"type":"work","value":"w"},{"type":"home","value":"h"},{"display":"D"}],"name":{"formatted":"F"},"nickName":"N","urn:..:extension:enterprise:2.0:User":{"manager":{"value":"42"}}}`},
		{"replace, parted", parted, `PUT /Users/7 {"userName":"ada","nickName":"N"}`, &Held{ExternalID: "old"}, `forward
PUT /Users/7 { "schemas": [ "urn:..:core:2.0:User" ], "userName": "ada" }
held "ada" as "", externalId "", kept {"nickName":"N"}`},
		{"create without a ruling", refusing, `POST /Users {"userName":"ada","nickName":"N"}`, nil,
			`error: plan: policy gave no ruling on nickName, which the upstream lacks`},
		{"create with a part without a ruling", refusing, `POST /Users {"userName":"ada","emails":[{"type":"work","value":"w","primary":true}]}`, nil,
			`error: plan: policy gave no ruling on emails.primary, which the upstream lacks`},
		{"create with an alias", aliasing, `POST /Users {"userName":"` + long + `"}`, nil, `forward
POST /Users { "schemas": [ "urn:..:core:2.0:User" ], "userName": "ada.augusta.king.co~c5eufbwu3y" }
held "` + long + `" as "ada.augusta.king.co~c5eufbwu3y", externalId "", kept {}`},
		{"create that needs no alias", aliasing, `POST /Users {"userName":"ada"}`, nil, `forward
POST /Users { "schemas": [ "urn:..:core:2.0:User" ], "userName": "ada" }
held "ada" as "", externalId "", kept {}`},

		{"patch what the upstream has", "bluejeans", `PATCH /Users/7 [{"op":"replace","path":"active","value":false}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "active", "value": false } ] }`},
		{"patch what is dropped", "bluejeans", `PATCH /Users/7 [{"op":"replace","path":"displayName","value":"x"}]`, nil, `read
GET /Users/7`},
		{"patch of nothing", "bluejeans", `PATCH /Users/7 [{"op":"add","path":"roles","value":[]}]`, nil, `read
GET /Users/7`},
		{"patch of externalId", "bluejeans", `PATCH /Users/7 [{"op":"replace","path":"externalId","value":"e2"}]`, nil, `read
GET /Users/7
kept replace externalId "e2"`},
		{"patch of both", "bluejeans", `PATCH /Users/7 [{"op":"replace","value":{"externalId":"e2","title":"T","displayName":"D"}}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "title", "value": "T" } ] }
kept replace externalId "e2"`},
		{"patch of manager", "bluejeans", `PATCH /Users/7 [{"op":"add","path":"manager","value":[{"value":"42","$ref":"x"}]}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "add", "path": "urn:..:extension:enterprise:2.0:User:manager", "value": "42" } ] }`},
		{"patch of manager.value", "bluejeans", `PATCH /Users/7 [{"op":"add","path":"manager.value","value":"42"}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "add", "path": "urn:..:extension:enterprise:2.0:User:manager", "value": "42" } ] }`},
		{"remove manager", "bluejeans", `PATCH /Users/7 [{"op":"replace","path":"manager","value":""}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "remove", "path": "urn:..:extension:enterprise:2.0:User:manager" } ] }`},
		{"remove an attribute that is parted", "bluejeans", `PATCH /Users/7 [{"op":"remove","path":"emails"},{"op":"remove","path":"name"}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "remove", "path": "emails" }, { "op": "remove", "path": "name" } ] }`},
		{"remove an element", "bluejeans", `PATCH /Users/7 [{"op":"remove","path":"emails[type eq \"work\"]"}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "remove", "path": "emails[type eq \"work\"]" } ] }`},
		{"replace the element", "bluejeans", `PATCH /Users/7 [{"op":"replace","path":"emails[type eq \"work\"]","value":{"value":"w","primary":true}}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "emails[type eq \"work\"]", "value": { "type": "work", "value": "w" } } ] }`},
		{"replace the element by what is dropped", "bluejeans", `PATCH /Users/7 [{"op":"replace","path":"emails[type eq \"work\"]","value":{"primary":true}}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "remove", "path": "emails[type eq \"work\"]" } ] }`},
		{"add to the element what is dropped", "bluejeans", `PATCH /Users/7 [{"op":"add","path":"emails[type eq \"work\"]","value":{"primary":true}}]`, nil, `read
GET /Users/7`},
		{"replace the list", "bluejeans", `PATCH /Users/7 [{"op":"replace","path":"emails","value":[{"type":"work","value":"w","primary":true},{"type":"home","value":"h"}]}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "emails", "value": [ { "type": "work", "value": "w" } ] } ] }`},
		{"replace the list by what is dropped", "bluejeans", `PATCH /Users/7 [{"op":"replace","path":"emails","value":[{"type":"home","value":"h"}]}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "remove", "path": "emails" } ] }`},
		{"add a list", "bluejeans", `PATCH /Users/7 [{"op":"add","path":"emails","value":[{"type":"home","value":"h"}]}]`, nil, `read
GET /Users/7`},
		{"unknown members", "bluejeans", `PATCH /Users/7 [{"op":"add","value":{"favouriteColour":"green","title":"T"}},{"op":"replace","path":"name","value":{"colour":"red"}}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "add", "path": "title", "value": "T" } ] }`},

		{"patch parts of name", parted, `PATCH /Users/7 [{"op":"replace","path":"name","value":{"givenName":"G","formatted":"F"}}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "name", "value": { "givenName": "G" } } ] }
kept replace name {"formatted":"F"}`},
		{"remove name, parted", parted, `PATCH /Users/7 [{"op":"remove","path":"name"}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "remove", "path": "name" } ] }
kept remove name null`},
		{"replace the list, parted", parted, `PATCH /Users/7 [{"op":"replace","path":"emails","value":[{"type":"work","value":"w","primary":true},{"type":"home","value":"h"},{"type":"other","value":"o"}]}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "emails", "value": [ { "type": "work", "value": "w" } ] } ] }
kept replace emails [{"primary":true,"type":"work","value":"w"},{"type":"home","value":"h"}]`},
		{"replace the list by what is stored", parted, `PATCH /Users/7 [{"op":"replace","path":"emails","value":[{"type":"work","value":"w"}]}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "emails", "value": [ { "type": "work", "value": "w" } ] } ] }
kept remove emails null`},
		{"the value of a parted element", parted, `PATCH /Users/7 [{"op":"replace","path":"emails[type eq \"work\"].value","value":"w"}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "emails[type eq \"work\"].value", "value": "w" } ] }
kept replace emails[type eq "work"].value "w"`},
		{"a part that is kept", parted, `PATCH /Users/7 [{"op":"replace","path":"emails[type eq \"work\"].primary","value":true}]`, nil, `read
GET /Users/7
kept replace emails[type eq "work"].primary true`},
		{"a part of nothing", parted, `PATCH /Users/7 [{"op":"replace","path":"title","value":"T"},{"op":"replace","path":"emails.primary","value":false}]`, nil,
			`refused: 400 noTarget: no value of emails is known that the operation could be about`},
		{"a filter that nothing held fits", parted, `PATCH /Users/7 [{"op":"replace","path":"emails[display sw \"x\"].primary","value":false}]`, nil,
			`refused: 400 noTarget: no value of emails is known that the operation could be about`},
		{"more than the gateway holds", parted, `PATCH /Users/7 [{"op":"add","path":"nickName","value":"` + strings.Repeat("N", scim.MaxBody/2) + `"}]`,
			&Held{ID: "7", Kept: scim.Resource{"displayName": strings.Repeat("D", scim.MaxBody/2)}},
			`refused: 413: the upstream lacks some of these attributes, and the gateway does not hold more than 4096 values or 262144 bytes of one resource`},
		{"more values than the gateway holds", parted, `PATCH /Users/7 [{"op":"add","path":"roles","value":[{"value":"one more"}]}]`,
			&Held{ID: "7", Kept: scim.Resource{"roles": slices.Repeat([]any{map[string]any{"value": "r"}}, scim.MaxValues/2)}},
			`refused: 413: the upstream lacks some of these attributes, and the gateway does not hold more than 4096 values or 262144 bytes of one resource`},
		{"patch without a ruling", refusing, `PATCH /Users/7 [{"op":"replace","path":"nickName","value":"N"}]`, nil,
			`error: plan: policy gave no ruling on nickName, which the upstream lacks`},
		{"remove without a ruling", refusing, `PATCH /Users/7 [{"op":"remove","path":"nickName"}]`, nil,
			`error: plan: policy gave no ruling on nickName, which the upstream lacks`},

		{"rename", parted, `PATCH /Users/7 [{"op":"replace","path":"userName","value":"bob"}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "userName", "value": "bob" } ] }
kept replace userName "bob"`},
		{"rename with an alias", aliasing, `PATCH /Users/7 [{"op":"replace","path":"userName","value":"` + long + `"}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "userName", "value": "ada.augusta.king.co~c5eufbwu3y" } ] }
kept replace userName "` + long + `"`},

		{"PUT only", "update: {mode: put}\n---\n" + parted, `PATCH /Users/7 [{"op":"replace","value":{"name":{"givenName":"G"},"nickName":"N"}}]`, nil, `read-write
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "name", "value": { "givenName": "G" } } ] }
kept replace nickName "N"`},
		{"PUT only, nothing to send", "update: {mode: put}\n---\n" + parted, `PATCH /Users/7 [{"op":"replace","path":"nickName","value":"N"}]`, nil, `read
GET /Users/7
kept replace nickName "N"`},
		{"one by one", "update: {mode: single}\n---\n" + parted, `PATCH /Users/7 [{"op":"replace","value":{"name.givenName":"G","name.familyName":"F"}}]`, nil, `one by one
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "name.familyName", "value": "F" } ] }
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "name.givenName", "value": "G" } ] }`},
		{"too many one by one", "update: {mode: single}\n---\n" + parted,
			`PATCH /Users/7 [` + strings.TrimSuffix(strings.Repeat(`{"op":"add","path":"name.givenName","value":"G"},`, mostOneByOne+1), ",") + `]`, nil,
			`refused: 413: the upstream takes one operation at a time: send at most 100 in one request, not 101`},
		{"one of one", "update: {mode: single}\n---\n" + parted, `PATCH /Users/7 [{"op":"replace","path":"name.givenName","value":"G"}]`, nil, `forward
PATCH /Users/7 { "Operations": [ { "op": "replace", "path": "name.givenName", "value": "G" } ] }`},
		{"delete", "bluejeans", `DELETE /Users/7`, nil, "forward\nDELETE /Users/7"},
		{"no such type", "bluejeans", `POST /Groups {"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"G"}`, nil, "local"},
		{"an extension the upstream lacks", "unlisted", `POST /Users {"userName":"ada","department":"Analysis"}`, nil,
			`error: plan: policy gave no ruling on ` + enterprise + `:department, which the upstream lacks`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tr := byName(t, test.profile)
			req := read(t, test.request)
			before := describe(t, req)
			plan, err := tr.For(req, ruled(tr, req), test.held, nil)
			if got := explain(t, plan, err); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if after := describe(t, req); after != before {
				t.Errorf("For changed the request: got %s, want %s", after, before)
			}
			if err == nil && plan.How != Local && plan.Why == "" {
				t.Error("got no reason, want one")
			}
		})
	}
}

func byName(t testing.TB, name string) *Transform {
	t.Helper()
	switch {
	case name == "unlisted":
		return inline(t, "complete: true\n")
	case strings.Contains(name, "\n"):
		return inline(t, name)
	default:
		return builtin(t, name)
	}
}

func TestPlanQueries(t *testing.T) {
	const filters = `
filter: {and: true, or: true, not: true, valuePath: true}
---
unlisted: drop
attributes:
- path: UserName
  filter: [eq, sw]
- path: active
  filter: [eq]
- path: emails[type eq "work"].value
  filter: [eq]
- path: roles.value
  filter: [eq]
- path: roles.type
  filter: [eq]
- path: nickName
  handling: keep
`
	const plain = "filter: {all: true}\nprojection: true\nsort: true\n---\n" + parted
	known := map[Lookup][]Held{
		{By: "externalId", Value: "e1"}:         {{ID: "7", ExternalID: "e1"}, {ID: "8", ExternalID: "e1"}},
		{By: "userName", Value: "the-long-one"}: {{ID: "6"}, {ID: "7", UserName: "the-long-one", Sent: "the-lo~abc"}},
		{By: "userName", Value: "the-short"}:    {{ID: "7", UserName: "the-short"}},
	}
	tests := []struct{ name, profile, query, want string }{
		{"all", "bluejeans", ``, "forward\nGET /Users?startIndex=1&count=100"},
		{"a page", "bluejeans", `startIndex=11&count=5`, "forward\nGET /Users?startIndex=11&count=5"},
		{"a page larger than the upstream's", "bluejeans", `startIndex=11&count=500`, "forward\nGET /Users?startIndex=11&count=100"},
		{"only the number", "bluejeans", `count=0`, "forward\nGET /Users?startIndex=1&count=0"},
		{"userName", "bluejeans", `filter=userName eq "ada"`, `forward
GET /Users?filter=userName eq "ada"&count=100
pushed userName eq "ada"`},
		{"userName, paged", "bluejeans", `filter=userName eq "ada"&startIndex=2&count=1`, `forward
GET /Users?filter=userName eq "ada"&startIndex=2&count=1
pushed userName eq "ada"`},
		{"userName with an operator the upstream lacks", "bluejeans", `filter=userName sw "a"&count=5`, `scan
GET /Users?startIndex=1&count=100
residual userName sw "a"`},
		{"and", "bluejeans", `filter=active eq true and userName eq "ada"`, `scan
GET /Users?filter=userName eq "ada"&count=100
pushed userName eq "ada"
residual active eq true and userName eq "ada"`},
		{"or", "bluejeans", `filter=userName eq "ada" or userName eq "bob"`, `scan
GET /Users?startIndex=1&count=100
residual userName eq "ada" or userName eq "bob"`},
		{"not", "bluejeans", `filter=not (userName eq "ada")`, `scan
GET /Users?startIndex=1&count=100
residual not (userName eq "ada")`},
		{"work address", "bluejeans", `filter=emails[type eq "work"].value eq "w"`, `scan
GET /Users?startIndex=1&count=100
residual emails[type eq "work" and value eq "w"]`},
		{"id", "bluejeans", `filter=id eq "7" and manager eq "8"&attributes=id`, `candidates
GET /Users
ids ["7"]
residual id eq "7" and urn:..:extension:enterprise:2.0:User:manager eq "8"`},
		{"no id", "bluejeans", `filter=id eq ""`, "candidates\nGET /Users\nids []\nresidual id eq \"\""},
		{"an id that leads elsewhere", "bluejeans", `filter=id eq ".."`, "candidates\nGET /Users\nids []\nresidual id eq \"..\""},
		{"externalId", "bluejeans", `filter=externalId eq "e1"`, "candidates\nGET /Users\nids [\"7\" \"8\"]\nresidual externalId eq \"e1\""},
		{"externalId of nobody", "bluejeans", `filter=externalId eq "e2"`, "candidates\nGET /Users\nids []\nresidual externalId eq \"e2\""},
		{"externalId otherwise", "bluejeans", `filter=externalId pr`, "scan\nGET /Users?startIndex=1&count=100\nresidual externalId pr"},
		{"sort", "bluejeans", `filter=userName eq "ada"&sortBy=title`, `scan
GET /Users?filter=userName eq "ada"&count=100
pushed userName eq "ada"
sort title`},
		{"sort of all", "bluejeans", `sortBy=title&startIndex=5&count=5`, "scan\nGET /Users?startIndex=1&count=100\nsort title"},
		{"sort of candidates", "bluejeans", `filter=externalId eq "e1"&sortBy=userName`, "candidates\nGET /Users\nids [\"7\" \"8\"]\nresidual externalId eq \"e1\"\nsort userName"},
		{"projection that the upstream lacks", "bluejeans", `attributes=userName`, "forward\nGET /Users?startIndex=1&count=100"},

		{"generic", "generic", `filter=not (emails.type eq "work") or externalId eq "e1" and roles[primary eq true]&sortBy=userName&sortOrder=descending&startIndex=3&count=7`, `forward
GET /Users?filter=not (emails.type eq "work") or externalId eq "e1" and roles[primary eq true]&sortBy=userName&sortOrder=descending&startIndex=3&count=7
pushed not (emails.type eq "work") or externalId eq "e1" and roles[primary eq true]`},
		{"generic, the gateway's own", "generic", `filter=meta.location eq "x" and userName eq "ada"`, `scan
GET /Users?filter=userName eq "ada"&count=100
pushed userName eq "ada"
residual meta.location eq "x" and userName eq "ada"`},
		{"generic, dates", "generic", `filter=meta.created gt "2026-01-01T00:00:00Z"`, `forward
GET /Users?filter=meta.created gt "2026-01-01T00:00:00Z"&count=100
pushed meta.created gt "2026-01-01T00:00:00Z"`},
		{"generic, schemas", "generic", `filter=schemas eq "x"`, "scan\nGET /Users?startIndex=1&count=100\nresidual schemas eq \"x\""},
		{"generic, a reference to a resource", "generic", `filter=groups[$ref ew "/Groups/1"]`, "scan\nGET /Users?startIndex=1&count=100\nresidual groups[$ref ew \"/Groups/1\"]"},
		{"generic, what is never shown", "generic", `filter=userName eq "ada" and password sw "a"&sortBy=password`, `scan
GET /Users?filter=userName eq "ada"&count=100
pushed userName eq "ada"
residual userName eq "ada" and password sw "a"
sort password`},
		{"generic, projection", "generic", `attributes=userName`, "forward\nGET /Users?startIndex=1&count=100&attributes=meta,userName"},
		{"generic, projection beside a filter", "generic", `filter=userName eq "ada" and emails[type eq "work"]&attributes=title,userName`, `forward
GET /Users?filter=userName eq "ada" and emails[type eq "work"]&count=100&attributes=meta,userName,emails.type,title
pushed userName eq "ada" and emails[type eq "work"]`},
		{"generic, excluded beside a filter", "generic", `filter=userName eq "ada" and emails.type eq "work"&excludedAttributes=userName,title,emails`, `forward
GET /Users?filter=userName eq "ada" and emails.type eq "work"&count=100&excludedAttributes=title
pushed userName eq "ada" and emails.type eq "work"`},
		{"generic, excluded", "generic", `excludedAttributes=emails,meta`, "forward\nGET /Users?startIndex=1&count=100&excludedAttributes=emails"},

		{"the profile's spelling", filters, `filter=username eq "ada"`, "forward\nGET /Users?filter=userName eq \"ada\"&count=100\npushed userName eq \"ada\""},
		{"and, whole", filters, `filter=userName eq "ada" and active eq true`, `forward
GET /Users?filter=userName eq "ada" and active eq true&count=100
pushed userName eq "ada" and active eq true`},
		{"and, in part", filters, `filter=userName eq "ada" and title pr and active eq true`, `scan
GET /Users?filter=userName eq "ada" and active eq true&count=100
pushed userName eq "ada" and active eq true
residual userName eq "ada" and title pr and active eq true`},
		{"or, whole", filters, `filter=userName eq "ada" or active eq true`, `forward
GET /Users?filter=userName eq "ada" or active eq true&count=100
pushed userName eq "ada" or active eq true`},
		{"or, not in part", filters, `filter=userName eq "ada" or title pr`, "scan\nGET /Users?startIndex=1&count=100\nresidual userName eq \"ada\" or title pr"},
		{"not, whole", filters, `filter=not (userName eq "ada")`, "forward\nGET /Users?filter=not (userName eq \"ada\")&count=100\npushed not (userName eq \"ada\")"},
		{"element", filters, `filter=emails[type eq "WORK" and value eq "w"]`, `forward
GET /Users?filter=emails[type eq "WORK" and value eq "w"]&count=100
pushed emails[type eq "WORK" and value eq "w"]`},
		{"element the other way round", filters, `filter=emails[value eq "w" and type eq "work"]`, `forward
GET /Users?filter=emails[value eq "w" and type eq "work"]&count=100
pushed emails[value eq "w" and type eq "work"]`},
		{"another element", filters, `filter=emails[type eq "home"].value eq "w"`, `scan
GET /Users?startIndex=1&count=100
residual emails[type eq "home" and value eq "w"]`},
		{"value filter", filters, `filter=roles[type eq "a" and not (value eq "b")]`, `forward
GET /Users?filter=roles[type eq "a" and not (value eq "b")]&count=100
pushed roles[type eq "a" and not (value eq "b")]`},
		{"value filter on what the upstream cannot compare", filters, `filter=roles[type sw "a"]`, "scan\nGET /Users?startIndex=1&count=100\nresidual roles[type sw \"a\"]"},
		{"what is kept", filters, `filter=nickName eq "N"`, "scan\nGET /Users?startIndex=1&count=100\nresidual nickName eq \"N\""},

		{"all filters, parted", plain, `filter=emails.value eq "w"`, "scan\nGET /Users?startIndex=1&count=100\nresidual emails.value eq \"w\""},
		{"all filters, stored part", plain, `filter=name.givenName eq "G"`, "forward\nGET /Users?filter=name.givenName eq \"G\"&count=100\npushed name.givenName eq \"G\""},
		{"all filters, a value that is the gateway's alone", plain, `filter=name[familyName ne "F"]`, "scan\nGET /Users?startIndex=1&count=100\nresidual name[familyName ne \"F\"]"},
		{"all filters, a value that the upstream has", plain, `filter=name[familyName eq "F"]`, "forward\nGET /Users?filter=name[familyName eq \"F\"]&count=100\npushed name[familyName eq \"F\"]"},
		{"all filters, meta", plain, `filter=meta[not (created gt "2026-01-01T00:00:00Z")]`, "scan\nGET /Users?startIndex=1&count=100\nresidual meta[not (created gt \"2026-01-01T00:00:00Z\")]"},
		{"sort by what is kept", plain, `sortBy=nickName`, "scan\nGET /Users?startIndex=1&count=100\nsort nickName"},
		{"sort by what is stored", plain, `sortBy=name.givenName&count=3`, "forward\nGET /Users?sortBy=name.givenName&startIndex=1&count=3"},
		{"projection where something is kept", plain, `attributes=userName`, "forward\nGET /Users?startIndex=1&count=100"},

		{"alias", aliasing, `filter=userName eq "the-long-one"&count=1`, `scan
GET /Users?filter=userName eq "the-lo~abc"&count=100
pushed userName eq "the-lo~abc"
residual userName eq "the-long-one"`},
		{"no alias", aliasing, `filter=userName eq "the-short"`, `scan
GET /Users?filter=userName eq "the-short"&count=100
pushed userName eq "the-short"
residual userName eq "the-short"`},
		{"unknown name", aliasing, `filter=userName eq "nobody"`, `scan
GET /Users?filter=userName eq "nobody"&count=100
pushed userName eq "nobody"
residual userName eq "nobody"`},
		{"a part of a name that may have an alias", aliasing, `filter=userName sw "the"`, "scan\nGET /Users?startIndex=1&count=100\nresidual userName sw \"the\""},
		{"alias and another term", aliasing, `filter=active eq true and userName eq "the-long-one"`, `scan
GET /Users?filter=userName eq "the-lo~abc"&count=100
pushed userName eq "the-lo~abc"
residual active eq true and userName eq "the-long-one"`},
		{"alias, sorted", "sort: true\n---\n" + aliasing, `sortBy=userName`, "scan\nGET /Users?startIndex=1&count=100\nsort userName"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tr := byName(t, test.profile)
			req := read(t, strings.TrimSuffix("GET /Users?"+test.query, "?"))
			asked := map[Lookup][]Held{}
			for _, l := range tr.Lookups(req) {
				asked[l] = known[l]
			}
			plan, err := tr.For(req, Ruling{}, nil, asked)
			if got := explain(t, plan, err); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestPlanGet(t *testing.T) {
	tests := []struct{ profile, request, want string }{
		{"bluejeans", "GET /Users/7?attributes=userName", "forward\nGET /Users/7"},
		{"generic", "GET /Users/7?attributes=userName", "forward\nGET /Users/7?attributes=meta,userName"},
		{"generic", "GET /Groups/7?excludedAttributes=members", "forward\nGET /Groups/7?excludedAttributes=members"},
		{"projection: true\n---\ncomplete: true\n", "GET /Users/7?attributes=userName", "forward\nGET /Users/7"},
		{"bluejeans", "GET /Groups", "local"},
	}
	for _, test := range tests {
		plan, err := byName(t, test.profile).For(read(t, test.request), Ruling{}, nil, nil)
		if got := explain(t, plan, err); got != test.want {
			t.Errorf("%s under %q: got\n%s\nwant\n%s", test.request, test.profile, got, test.want)
		}
	}
	if _, err := builtin(t, "generic").For(&scim.Request{Op: scim.OpDiscover, Type: scim.UserType()}, Ruling{}, nil, nil); err == nil {
		t.Error("plan of discovery: got no error, want one")
	}
}

func TestLookups(t *testing.T) {
	tests := []struct {
		profile, query string
		want           []Lookup
	}{
		{"bluejeans", `filter=externalId eq "e" and userName eq "ada"`, []Lookup{{"externalId", "e"}}},
		{"bluejeans", `filter=externalId eq "e" and externalId EQ "e"`, []Lookup{{"externalId", "e"}}},
		{"bluejeans", `filter=externalId eq "e" or userName eq "ada"`, nil},
		{"bluejeans", `filter=externalId ne "e"`, nil},
		{"bluejeans", `filter=externalId eq null`, nil},
		{"bluejeans", ``, nil},
		{"generic", `filter=externalId eq "e"`, nil},
		{aliasing, `filter=userName eq "ada" and externalId eq "e"`, []Lookup{{"userName", "ada"}, {"externalId", "e"}}},
	}
	for _, test := range tests {
		got := byName(t, test.profile).Lookups(read(t, strings.TrimSuffix("GET /Users?"+test.query, "?")))
		if !slices.Equal(got, test.want) {
			t.Errorf("%s under %s: got %v, want %v", test.query, test.profile, got, test.want)
		}
	}
	if got, want := (Lookup{"userName", "secret"}).String(), "userName in the identity map"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEqualities(t *testing.T) {
	for text, want := range map[string]bool{
		`userName eq "a"`: true, `userName eq "a" and active eq true`: true, `userName EQ "a"`: true,
		`userName eq "a" or active eq true`: false, `not (userName eq "a")`: false, `userName sw "a"`: false, `emails[type eq "work"]`: false,
	} {
		f, err := scim.ParseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := Equalities(f); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
	if Equalities(nil) {
		t.Error("no filter: got true, want false")
	}
}
