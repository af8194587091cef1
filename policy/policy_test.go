package policy_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scimgate/config/profile"
	"scimgate/policy"
	"scimgate/transform"
	"scimgate/transform/scim"
)

const enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"

// parse makes a profile: a built-in one, or the User resource of a profile from its lines on.
func parse(t testing.TB, text string) *profile.Profile {
	t.Helper()
	if !strings.Contains(text, "\n") {
		p, err := profile.Load(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	src := "name: inline\nresources:\n- name: User\n  endpoint: /Users\n"
	for line := range strings.Lines(text) {
		src += "  " + line
	}
	p, err := profile.Parse("inline.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rules(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.New(parse(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// read makes the normalized request of a text: method and path, then, behind a space, a body. The body of a PATCH
// may be its operations alone.
func read(t testing.TB, text string) *scim.Request {
	t.Helper()
	method, rest, _ := strings.Cut(text, " ")
	target, body, _ := strings.Cut(rest, " ")
	switch {
	case strings.HasPrefix(body, "["):
		body = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":` + body + `}`
	case body != "" && !strings.Contains(body, `"schemas"`):
		body = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],` + body[1:]
	}
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	req, err := scim.ReadRequest(r, r.URL.EscapedPath(), []*scim.ResourceType{scim.UserType(), scim.GroupType()}, scim.MaxBody)
	if err == nil {
		req, _, err = transform.Normalize(req)
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return req
}

func object(t testing.TB, text string) scim.Resource {
	t.Helper()
	if text == "" {
		return nil
	}
	r, err := scim.DecodeObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// findings writes those of a decision that say more than "allow".
func findings(d policy.Decision) string {
	var list []string
	for _, f := range d.Findings {
		text := fmt.Sprintf("%s: %s %s", f.Rule, f.Verdict, f.Path)
		if f.Verdict == policy.Refuse {
			text += fmt.Sprintf(" %d %s", f.Status, f.ScimType)
		}
		if f.Verdict != policy.Allow {
			list = append(list, strings.TrimSpace(text))
		}
	}
	return strings.ReplaceAll(strings.Join(list, "\n"), enterprise, "ext")
}

const (
	strict = `
unlisted: refuse
operations: [create, get, query, patch]
attributes:
- path: userName
  maxLength: 5
  forbidden: "@ "
- path: title
- path: name
  required: true
- path: name.givenName
  required: true
  maxLength: 3
- path: emails[type eq "work"].value
  required: true
  maxLength: 10
  forbidden: "#"
- path: active
`
	keeping = `
unlisted: keep
extensions: [` + enterprise + `]
attributes:
- path: userName
  maxLength: 20
  forbidden: "@"
  onViolation: alias
- path: title
  handling: drop
- path: locale
  handling: refuse
- path: emails[type eq "home"].value
  handling: drop
- path: emails[type eq "work"].value
- path: ` + enterprise + `:manager
  form: value
  maxLength: 4
`
	fixed = `
complete: true
extensions: [` + enterprise + `]
attributes:
- path: userName
  createOnly: true
- path: name.givenName
  createOnly: true
- path: emails[type eq "work"].value
  createOnly: true
- path: addresses
  createOnly: true
- path: ` + enterprise + `:employeeNumber
  createOnly: true
`
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name, profile, request string
		current                string
		want                   string
	}{
		{"nothing to say", "generic", `POST /Users {"userName":"ada","externalId":"e","emails":[{"value":"w"}]}`, "", ""},
		{"read", "bluejeans", `GET /Users/7`, "", ""},

		// operations
		{"no groups: list", "bluejeans", `GET /Groups`, "", "operations: remark"},
		{"no groups: get", "bluejeans", `GET /Groups/1`, "", "operations: refuse  404"},
		{"no groups: delete", "bluejeans", `DELETE /Groups/1`, "", "operations: refuse  404"},
		{"no groups: create", "bluejeans", `POST /Groups {"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"g"}`, "", "operations: refuse  501"},
		{"no groups: patch", "bluejeans", `PATCH /Groups/1 [{"op":"remove","path":"members"}]`, "", "operations: refuse  501"},
		{"an operation the upstream lacks", strict, `DELETE /Users/1`, "", "operations: refuse  501"},
		{"another", strict, `PUT /Users/1 {"userName":"ada"}`, "", "operations: refuse  501"},
		{"a read the upstream has", strict, `GET /Users`, "", ""},

		// read-only
		{"read-only in create", "generic", `POST /Users {"userName":"ada","id":"1","meta":{"resourceType":"User","created":"x"},"groups":[{"value":"g"}],"manager":{"value":"4","displayName":"B"}}`, "",
			"read-only: drop groups[0].value\nread-only: drop id\nread-only: drop meta.created\nread-only: drop meta.resourceType\nread-only: drop ext:manager.displayName"},
		{"read-only in replace", "generic", `PUT /Users/1 {"userName":"ada","id":"1"}`, "", "read-only: drop id"},
		{"read-only in patch", "generic", `PATCH /Users/1 [{"op":"replace","path":"id","value":"2"}]`, "", "read-only: refuse id 400 mutability"},
		{"read-only in patch without path", "generic", `PATCH /Users/1 [{"op":"add","value":{"title":"T","meta":{"version":"1"}}}]`, "", "read-only: refuse meta 400 mutability"},
		{"removing what is read-only", "generic", `PATCH /Users/1 [{"op":"remove","path":"groups"}]`, "", "read-only: refuse groups 400 mutability"},
		{"removing an element of it", "generic", `PATCH /Users/1 [{"op":"remove","path":"groups[value eq \"secret\"]"}]`, "", "read-only: refuse groups 400 mutability"},
		{"a sub-attribute of it", "generic", `PATCH /Users/1 [{"op":"replace","path":"meta.version","value":"2"}]`, "", "read-only: refuse meta.version 400 mutability"},
		{"a read-only sub-attribute", "generic", `PATCH /Users/1 [{"op":"replace","path":"manager.displayName","value":"B"}]`, "", "read-only: refuse ext:manager.displayName 400 mutability"},
		{"beside what is not", "generic", `PATCH /Users/1 [{"op":"replace","path":"manager","value":{"value":"4","displayName":"B"}}]`, "", "read-only: drop ext:manager.displayName"},

		// unknown-attributes
		{"unknown in create", "bluejeans", `POST /Users {"userName":"ada","colour":"green","name":{"shoe":"38"}}`, "", "unknown-attributes: drop colour\nunknown-attributes: drop name.shoe"},
		{"unknown where the upstream is complete", "generic", `POST /Users {"userName":"ada","colour":"green"}`, "", "unknown-attributes: drop colour"},
		{"unknown in patch", "bluejeans", `PATCH /Users/1 [{"op":"add","value":{"colour":"green","` + enterprise + `":{"shoe":"38"}}}]`, "", "unknown-attributes: drop colour\nunknown-attributes: drop ext:shoe"},
		{"unknown where lacking is refused", strict, `PATCH /Users/1 [{"op":"add","value":{"colour":"green"}}]`, "", "unknown-attributes: refuse colour 400 invalidValue"},
		{"an unknown name that is long and odd", "bluejeans", `POST /Users {"userName":"ada","` + strings.Repeat("é", 90) + `":1,"a\u0007b":1}`, "",
			"unknown-attributes: drop a?b\nunknown-attributes: drop " + strings.Repeat("é", 80) + "..."},

		// upstream-lacks
		{"lacking, dropped", "bluejeans", `POST /Users {"userName":"ada","displayName":"A","name":{"formatted":"F","givenName":"G"},"emails":[{"type":"work","value":"w","primary":true},{"type":"home","value":"h"}],"externalId":"e"}`, "",
			"upstream-lacks: drop displayName\nupstream-lacks: drop emails[type eq \"work\"].primary\nupstream-lacks: drop emails[type eq \"home\"].type\nupstream-lacks: drop emails[type eq \"home\"].value\nupstream-lacks: keep externalId\nupstream-lacks: drop name.formatted"},
		{"lacking, kept", keeping, `POST /Users {"userName":"ada","displayName":"A","title":"T","password":"P","emails":[{"type":"work","value":"w","primary":true},{"type":"home","value":"h","display":"d"}]}`, "",
			"upstream-lacks: keep displayName\nupstream-lacks: keep emails[type eq \"work\"].primary\nupstream-lacks: keep emails[type eq \"home\"].display\nupstream-lacks: keep emails[type eq \"home\"].type\nupstream-lacks: drop emails[type eq \"home\"].value\nupstream-lacks: drop password\nupstream-lacks: drop title"},
		{"lacking, refused", keeping, `POST /Users {"userName":"ada","locale":"en"}`, "", "upstream-lacks: refuse locale 400 invalidValue"},
		{"lacking, refused by default", strict, `PATCH /Users/1 [{"op":"replace","path":"nickName","value":"N"}]`, "", "upstream-lacks: refuse nickName 400 invalidValue"},
		{"externalId is kept whatever else is said", strict, `PATCH /Users/1 [{"op":"replace","path":"externalId","value":"e"}]`, "", "upstream-lacks: keep externalId"},
		{"an extension that a complete upstream lacks", "complete: true\n", `POST /Users {"userName":"ada","department":"D"}`, "", "upstream-lacks: refuse ext:department 400 invalidValue"},
		{"manager has room for its value", "bluejeans", `PATCH /Users/1 [{"op":"add","path":"manager","value":{"value":"4","$ref":"x"}}]`, "", "upstream-lacks: drop ext:manager.$ref"},
		{"removing a whole attribute that is parted", "bluejeans", `PATCH /Users/1 [{"op":"remove","path":"emails"},{"op":"remove","path":"name"}]`, "", ""},
		{"removing an element", "bluejeans", `PATCH /Users/1 [{"op":"remove","path":"emails[type eq \"work\"]"},{"op":"remove","path":"emails[value eq \"w\"]"}]`, "", ""},
		{"removing an element that is dropped", "bluejeans", `PATCH /Users/1 [{"op":"remove","path":"emails[type eq \"home\"]"}]`, "", "upstream-lacks: drop emails[type eq \"home\"]"},
		{"an element by what the upstream lacks", "bluejeans", `PATCH /Users/1 [{"op":"replace","path":"emails[primary eq \"True\"].value","value":"w"}]`, "", "upstream-lacks: refuse emails.value 400 invalidPath"},
		{"more than the upstream can pick by", "bluejeans", `PATCH /Users/1 [{"op":"remove","path":"emails[type eq \"work\" and not (display pr)]"}]`, "", "upstream-lacks: refuse emails 400 invalidPath"},
		{"what the upstream lacks anyhow", "bluejeans", `PATCH /Users/1 [{"op":"replace","path":"roles[primary eq \"True\"].value","value":"r"}]`, "", "upstream-lacks: drop roles[primary eq true].value"},
		{"no value filter in the trail", "bluejeans", `PATCH /Users/1 [{"op":"replace","path":"roles[value eq \"secret\"].display","value":"r"}]`, "", "upstream-lacks: drop roles[value eq ...].display"},

		// required-attributes
		{"no userName", "bluejeans", `POST /Users {"title":"T"}`, "", "required-attributes: refuse userName 400 invalidValue"},
		{"empty userName", "generic", `POST /Users {"userName":""}`, "", "required-attributes: refuse userName 400 invalidValue"},
		{"empty userName in patch", "generic", `PATCH /Users/1 [{"op":"replace","path":"userName","value":""}]`, "", "required-attributes: refuse userName 400 invalidValue"},
		{"empty userName in patch without path", "generic", `PATCH /Users/1 [{"op":"add","value":{"userName":""}}]`, "", "required-attributes: refuse userName 400 invalidValue"},
		{"userName as null", "generic", `PATCH /Users/1 [{"op":"replace","path":"userName","value":null}]`, "", "required-attributes: refuse userName 400 mutability"},
		{"removing userName", "generic", `PATCH /Users/1 [{"op":"remove","path":"userName"}]`, "", "required-attributes: refuse userName 400 mutability"},
		{"removing displayName of a group", "generic", `PATCH /Groups/1 [{"op":"remove","path":"displayName"}]`, "", "required-attributes: refuse displayName 400 mutability"},
		{"all that is required", strict, `POST /Users {"userName":"ada","name":{"givenName":"G"},"emails":[{"type":"WORK","value":"w"}]}`, "", ""},
		{"another element", strict, `PATCH /Users/1 [{"op":"remove","path":"title"}]`, "", ""},
		{"no required element", strict, `POST /Users {"userName":"ada","name":{"givenName":"G"}}`, "", `required-attributes: refuse emails[type eq "work"].value 400 invalidValue`},
		{"a required element without its value", keepAllRequired, `POST /Users {"userName":"ada","emails":[{"type":"home","value":"h"},{"type":"work","value":""}]}`, "",
			"upstream-lacks: keep emails[type eq \"home\"].type\nupstream-lacks: keep emails[type eq \"home\"].value\n" + `required-attributes: refuse emails[type eq "work"].value 400 invalidValue`},
		{"no required sub-attribute", strict, `POST /Users {"userName":"ada","name":{"familyName":"F"}}`, "", "required-attributes: refuse name.givenName 400 invalidValue"},
		{"removing a parent", strict, `PATCH /Users/1 [{"op":"remove","path":"name"}]`, "", "required-attributes: refuse name 400 mutability"},
		{"removing a sub-attribute", strict, `PATCH /Users/1 [{"op":"replace","path":"name","value":{"familyName":"F","givenName":null}}]`, "", "required-attributes: refuse name.givenName 400 mutability"},
		{"emptying a sub-attribute", strict, `PATCH /Users/1 [{"op":"replace","path":"name","value":{"givenName":""}}]`, "", "required-attributes: refuse name.givenName 400 invalidValue"},
		{"leaving it alone", strict, `PATCH /Users/1 [{"op":"replace","path":"name","value":{"familyName":"F"}}]`, "", ""},
		{"removing the required element", strict, `PATCH /Users/1 [{"op":"remove","path":"emails[type eq \"work\"]"}]`, "", `required-attributes: refuse emails[type eq "work"].value 400 mutability`},
		{"removing its value", strict, `PATCH /Users/1 [{"op":"remove","path":"emails[type eq \"work\"].value"}]`, "", `required-attributes: refuse emails[type eq "work"].value 400 mutability`},
		{"removing all elements", strict, `PATCH /Users/1 [{"op":"replace","path":"emails","value":[]}]`, "", `required-attributes: refuse emails[type eq "work"].value 400 mutability`},
		{"removing the value of all", strict, `PATCH /Users/1 [{"op":"remove","path":"emails.value"}]`, "", `required-attributes: refuse emails[type eq "work"].value 400 mutability`},
		{"removing one that may be another", strict, `PATCH /Users/1 [{"op":"remove","path":"emails[value eq \"old\"]"}]`, "", ""},
		{"replacing the list without it", keepAllRequired, `PATCH /Users/1 [{"op":"replace","path":"emails","value":[{"type":"home","value":"h"}]}]`, "",
			"upstream-lacks: keep emails[type eq \"home\"].type\nupstream-lacks: keep emails[type eq \"home\"].value\n" + `required-attributes: refuse emails[type eq "work"].value 400 invalidValue`},
		{"replacing the list with it", strict, `PATCH /Users/1 [{"op":"replace","path":"emails","value":[{"type":"work","value":"w"}]}]`, "", ""},
		{"adding to the list", keepAllRequired, `PATCH /Users/1 [{"op":"add","path":"emails","value":[{"type":"home","value":"h"}]}]`, "",
			"upstream-lacks: keep emails[type eq \"home\"].type\nupstream-lacks: keep emails[type eq \"home\"].value"},
		{"replacing the element without its value", keepAllRequired, `PATCH /Users/1 [{"op":"replace","path":"emails[type eq \"work\"]","value":{"display":"d"}}]`, "",
			"upstream-lacks: keep emails[type eq \"work\"].display\n" + `required-attributes: refuse emails[type eq "work"].value 400 invalidValue`},
		{"adding to the element", keepAllRequired, `PATCH /Users/1 [{"op":"add","path":"emails[type eq \"work\"]","value":{"display":"d"}}]`, "", "upstream-lacks: keep emails[type eq \"work\"].display"},
		{"emptying the element's value", strict, `PATCH /Users/1 [{"op":"add","path":"emails[type eq \"work\"]","value":{"value":""}}]`, "", `required-attributes: refuse emails[type eq "work"].value 400 invalidValue`},

		// length and forbidden-characters
		{"30", "bluejeans", `POST /Users {"userName":"` + strings.Repeat("a", 30) + `"}`, "", ""},
		{"31", "bluejeans", `POST /Users {"userName":"` + strings.Repeat("a", 31) + `"}`, "", "length: refuse userName 400 invalidValue"},
		{"30 of two bytes", "bluejeans", `POST /Users {"userName":"` + strings.Repeat("é", 30) + `"}`, "", ""},
		{"31 of two bytes", "bluejeans", `POST /Users {"userName":"` + strings.Repeat("é", 31) + `"}`, "", "length: refuse userName 400 invalidValue"},
		{"30 outside the first plane", "bluejeans", `POST /Users {"userName":"` + strings.Repeat("\U0001F600", 30) + `"}`, "", ""},
		{"31 outside the first plane", "bluejeans", `POST /Users {"userName":"` + strings.Repeat("\U0001F600", 31) + `"}`, "", "length: refuse userName 400 invalidValue"},
		{"15 with a combining character each", "bluejeans", `POST /Users {"userName":"` + strings.Repeat("e\u0301", 15) + `"}`, "", ""},
		{"15 and a half: what looks like 16 is 31 code points", "bluejeans", `POST /Users {"userName":"` + strings.Repeat("e\u0301", 15) + `e"}`, "", "length: refuse userName 400 invalidValue"},
		{"a long name in patch", "bluejeans", `PATCH /Users/1 [{"op":"replace","path":"userName","value":"` + strings.Repeat("a", 31) + `"}]`, "", "length: refuse userName 400 invalidValue"},
		{"a long name without path", "bluejeans", `PATCH /Users/1 [{"op":"replace","value":{"userName":"` + strings.Repeat("a", 31) + `"}}]`, "", "length: refuse userName 400 invalidValue"},
		{"a long e-mail address", "bluejeans", `PATCH /Users/1 [{"op":"add","path":"emails[type eq \"work\"].value","value":"` + strings.Repeat("a", 40) + `"}]`, "", ""},
		{"a long part", strict, `PATCH /Users/1 [{"op":"replace","path":"name","value":{"givenName":"long"}}]`, "", "length: refuse name.givenName 400 invalidValue"},
		{"a long value of an element", strict, `PATCH /Users/1 [{"op":"replace","path":"emails[type eq \"work\"].value","value":"01234567890"}]`, "", `length: refuse emails[type eq "work"].value 400 invalidValue`},
		{"in a list", strict, `PATCH /Users/1 [{"op":"add","path":"emails","value":[{"type":"work","value":"01234567890"}]}]`, "", `length: refuse emails[type eq "work"].value 400 invalidValue`},
		{"of any element", strict, `PATCH /Users/1 [{"op":"replace","path":"emails.value","value":"01234567890"}]`, "", `length: refuse emails.value 400 invalidValue`},
		{"of an element picked by its value", strict, `PATCH /Users/1 [{"op":"replace","path":"emails[value eq \"secret\"].value","value":"01234567890"}]`, "", `length: refuse emails[value eq ...].value 400 invalidValue`},
		{"of another element", keepAllRequired, `PATCH /Users/1 [{"op":"replace","path":"emails[type eq \"home\"].value","value":"01234567890"}]`, "", `upstream-lacks: keep emails[type eq "home"].value`},
		{"a long manager", keeping, `PATCH /Users/1 [{"op":"replace","path":"manager","value":"12345"}]`, "", "length: refuse ext:manager.value 400 invalidValue"},
		{"a long reference of a manager", keeping, `PATCH /Users/1 [{"op":"replace","path":"manager","value":{"value":"1234","$ref":"https://x/1234"}}]`, "", "upstream-lacks: drop ext:manager.$ref"},
		{"forbidden", strict, `PATCH /Users/1 [{"op":"replace","path":"userName","value":"a@b"}]`, "", "forbidden-characters: refuse userName 400 invalidValue"},
		{"forbidden in an element", strict, `PATCH /Users/1 [{"op":"add","path":"emails[type eq \"work\"]","value":{"value":"#"}}]`, "", `forbidden-characters: refuse emails[type eq "work"].value 400 invalidValue`},
		{"alias for length", keeping, `POST /Users {"userName":"` + strings.Repeat("a", 21) + `"}`, "", "length: alias userName"},
		{"alias for a character", keeping, `PATCH /Users/1 [{"op":"replace","path":"userName","value":"a@b"}]`, "", "forbidden-characters: alias userName"},

		// create-only
		{"create", fixed, `POST /Users {"userName":"ada","employeeNumber":"1"}`, "", ""},
		{"nothing current", fixed, `PATCH /Users/1 [{"op":"replace","path":"userName","value":"bob"}]`, "", ""},
		{"the same value", fixed, `PATCH /Users/1 [{"op":"replace","path":"userName","value":"ada"}]`, `{"userName":"ada"}`, ""},
		{"another value", fixed, `PATCH /Users/1 [{"op":"replace","path":"userName","value":"bob"}]`, `{"userName":"ada"}`, "create-only: refuse userName 400 mutability"},
		{"the first value", fixed, `PATCH /Users/1 [{"op":"add","path":"employeeNumber","value":"1"}]`, `{"userName":"ada"}`, ""},
		{"removed", fixed, `PATCH /Users/1 [{"op":"remove","path":"employeeNumber"}]`, `{"` + enterprise + `":{"employeeNumber":"1"}}`, "create-only: refuse ext:employeeNumber 400 mutability"},
		{"removed where there is none", fixed, `PATCH /Users/1 [{"op":"remove","path":"employeeNumber"}]`, `{}`, ""},
		{"removed with its parent", fixed, `PATCH /Users/1 [{"op":"remove","path":"name"}]`, `{"name":{"givenName":"G"}}`, "create-only: refuse name 400 mutability"},
		{"in an object", fixed, `PATCH /Users/1 [{"op":"replace","path":"name","value":{"familyName":"F","givenName":"H"}}]`, `{"name":{"givenName":"G"}}`, "create-only: refuse name.givenName 400 mutability"},
		{"beside it", fixed, `PATCH /Users/1 [{"op":"replace","path":"name","value":{"familyName":"F","givenName":"G"}}]`, `{"name":{"givenName":"G"}}`, ""},
		{"the value of an element", fixed, `PATCH /Users/1 [{"op":"replace","path":"emails[type eq \"work\"].value","value":"v"}]`, `{"emails":[{"type":"home","value":"v"},{"type":"work","value":"w"}]}`, `create-only: refuse emails[type eq "work"].value 400 mutability`},
		{"the value it has", fixed, `PATCH /Users/1 [{"op":"replace","path":"emails[type eq \"work\"].value","value":"w"}]`, `{"emails":[{"type":"home","value":"v"},{"type":"work","value":"w"}]}`, ""},
		{"of another element", fixed, `PATCH /Users/1 [{"op":"replace","path":"emails[type eq \"home\"].value","value":"v"},{"op":"replace","path":"userName","value":"ada"}]`, `{"userName":"ada","emails":[{"type":"work","value":"w"}]}`, ""},
		{"all elements", fixed, `PATCH /Users/1 [{"op":"remove","path":"emails"}]`, `{"emails":[{"type":"work","value":"w"}]}`, "create-only: refuse emails 400 mutability"},
		{"a list without it", fixed, `PATCH /Users/1 [{"op":"replace","path":"emails","value":[{"type":"home","value":"v"}]}]`, `{"emails":[{"type":"work","value":"w"}]}`, "create-only: refuse emails 400 mutability"},
		{"a list with it", fixed, `PATCH /Users/1 [{"op":"replace","path":"emails","value":[{"type":"home","value":"v"},{"type":"work","value":"w"}]}]`, `{"emails":[{"type":"work","value":"w"}]}`, ""},
		{"a sub-attribute of a whole", fixed, `PATCH /Users/1 [{"op":"add","path":"addresses[type eq \"work\"].locality","value":"L"}]`, `{"addresses":[{"type":"work","locality":"M"}]}`, `create-only: refuse addresses[type eq "work"].locality 400 mutability`},
		{"replace", fixed, `PUT /Users/1 {"userName":"bob","title":"T"}`, `{"userName":"ada"}`, "create-only: refuse userName 400 mutability"},
		{"left out of a replace", fixed, `PUT /Users/1 {"userName":"ada"}`, `{"userName":"ada","name":{"givenName":"G"},"emails":[{"type":"work","value":"w"}]}`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := rules(t, test.profile)
			req := read(t, test.request)
			current := object(t, test.current)
			if current != nil {
				if got := p.NeedsCurrent(req); !got {
					t.Error("needs current: got false, want true")
				}
			}
			d := p.Check(req, current)
			if got := findings(d); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			last := d.Findings[len(d.Findings)-1]
			refusal := d.Refusal()
			if (last.Verdict == policy.Refuse) != (refusal != nil) || (last.Verdict == policy.Allow) != (refusal == nil) {
				t.Errorf("got refusal %v and last finding %+v, want them to agree", refusal, last)
			}
			if refusal != nil && (refusal.Status != last.Status || refusal.Type != last.ScimType || refusal.Detail != last.Reason) {
				t.Errorf("got refusal %v, want that of %+v", refusal, last)
			}
			for _, f := range d.Findings {
				if f.Reason == "" || f.Rule == "" || strings.Contains(f.Reason+f.Path, "secret") {
					t.Errorf("got %+v, want a rule and a reason without the value of a filter", f)
				}
			}
		})
	}
}

// keepAllRequired keeps what strict refuses.
const keepAllRequired = `
unlisted: keep
attributes:
- path: userName
- path: emails[type eq "work"].value
  required: true
  maxLength: 10
`

func TestNeedsCurrent(t *testing.T) {
	tests := []struct {
		profile, request string
		want             bool
	}{
		{"bluejeans", `PATCH /Users/1 [{"op":"replace","path":"userName","value":"bob"}]`, false},
		{"bluejeans", `PATCH /Groups/1 [{"op":"remove","path":"members"}]`, false},
		{fixed, `PATCH /Users/1 [{"op":"replace","path":"userName","value":"bob"}]`, true},
		{fixed, `PATCH /Users/1 [{"op":"replace","path":"title","value":"T"}]`, false},
		{fixed, `PATCH /Users/1 [{"op":"replace","path":"name.familyName","value":"F"}]`, false},
		{fixed, `PATCH /Users/1 [{"op":"remove","path":"name"}]`, true},
		{fixed, `PUT /Users/1 {"userName":"ada"}`, true},
		{fixed, `POST /Users {"userName":"ada"}`, false},
		{fixed, `GET /Users/1`, false},
		{fixed, `DELETE /Users/1`, false},
	}
	for _, test := range tests {
		if got := rules(t, test.profile).NeedsCurrent(read(t, test.request)); got != test.want {
			t.Errorf("%s: got %v, want %v", test.request, got, test.want)
		}
	}
}

func TestDecisionAttributes(t *testing.T) {
	d := rules(t, "bluejeans").Check(read(t, `POST /Users {"userName":"ada","displayName":"A","emails":[{"type":"home","value":"h"},{"type":"other","value":"o"}],"externalId":"e"}`), nil)
	want := []scim.Ref{{Name: "displayName"}, {Name: "emails", Sub: "type"}, {Name: "emails", Sub: "value"}}
	if got := d.Attributes(policy.Drop); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := d.Attributes(policy.Keep), []scim.Ref{{Name: "externalId"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNewReportsEveryProblem(t *testing.T) {
	text := `
attributes:
- path: userName
- path: shoeSize
- path: ` + enterprise + `:manager
`
	_, err := policy.New(parse(t, text))
	_, shape := transform.New(parse(t, text))
	if err == nil || shape == nil || err.Error() != shape.Error() || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v and from transform %v, want the same two problems", err, shape)
	}
}

// TestEveryRuleIsInTheSuite parses the package: a rule that is not in the suite would never be asked.
func TestEveryRuleIsInTheSuite(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	declared, suite := 0, []string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
				if list, ok := spec.Values[0].(*ast.CompositeLit); ok && spec.Names[0].Name == "Suite" {
					for _, e := range list.Elts {
						suite = append(suite, e.(*ast.Ident).Name)
					}
				}
				if u, ok := spec.Values[0].(*ast.UnaryExpr); ok {
					if lit, ok := u.X.(*ast.CompositeLit); ok && fmt.Sprint(lit.Type) == "Rule" {
						declared++
						defer func(rule string) {
							t.Cleanup(func() {
								if !slices.Contains(suite, rule) {
									t.Errorf("rule %s of %s is missing from Suite", rule, name)
								}
							})
						}(spec.Names[0].Name)
					}
				}
			}
			return true
		})
	}
	if declared != len(policy.Suite) || declared == 0 {
		t.Errorf("got %d rules declared and %d in Suite, want as many", declared, len(policy.Suite))
	}
	names := map[string]bool{}
	for _, r := range policy.Suite {
		if r.Name == "" || r.Doc == "" || r.Check == nil || names[r.Name] {
			t.Errorf("rule %q: want a name of its own, Doc and Check", r.Name)
		}
		names[r.Name] = true
	}
	if policy.Suite[0] != policy.Operations {
		t.Errorf("got %s first in Suite, want operations: it is asked alone where the upstream lacks the type", policy.Suite[0].Name)
	}
}
