package simulator

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// TestBlueJeans holds the simulator against what is documented of the service, and against the assumed defaults.
func TestBlueJeans(t *testing.T) {
	s := start(t, Config{Profile: load(t, "bluejeans")})
	s.want(404, s.do("GET", "/Groups", ""))
	long := strings.Repeat("é", 30)
	s.create(long, "")
	s.refused(400, "invalidValue", s.do("POST", "/Users", user(long+"x", "")))
	s.refused(400, "invalidValue", s.do("POST", "/Users", user("", "")))

	r := s.create("ann", `"displayName":"Ann","externalId":"x","roles":[],"nickName":null,"title":"T","password":"p","timezone":"Europe/Paris",
		"name":{"givenName":"A","familyName":"N","formatted":"A N"},
		"emails":[{"type":"home","value":"h@x.io"},{"type":"work","value":"an.address.of.36.characters@example.io","primary":true}],
		"phoneNumbers":[{"type":"mobile","value":"1"}],
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"D","manager":"26"}`)
	delete(r, "meta")
	want := `{"schemas":["` + scim.SchemaUser + `","` + scim.SchemaEnterpriseUser + `"],"id":"1000002","userName":"ann",` +
		`"emails":[{"type":"work","value":"an.address.of.36.characters@example.io"}],"name":{"familyName":"N","givenName":"A"},"timezone":"Europe/Paris","title":"T","` +
		scim.SchemaEnterpriseUser + `":{"manager":"26"}}`
	if got := string(scim.AppendJSON(nil, r)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s.refused(409, "uniqueness", s.do("POST", "/Users", user("bea", `"emails":[{"type":"work","value":"AN.address.of.36.characters@example.io"}]`)))
	s.create("bea", `"emails":[{"type":"home","value":"an.address.of.36.characters@example.io"}]`)

	for filter, status := range map[string]int{
		`userName eq "ann"`: 200, `userName eq "ann" and active eq true`: 400, `userName ne "ann"`: 400, `id eq "1000001"`: 400,
		`externalId eq "x"`: 400, `emails[type eq "work"].value eq "x"`: 400, `not (userName eq "ann")`: 400, `title pr`: 400,
	} {
		if a := s.do("GET", query(filter), ""); a.status != status || status == 400 && a.body["scimType"] != "invalidFilter" {
			t.Errorf("%s: got %v, want %d", filter, a, status)
		}
	}
	list := s.want(200, s.do("GET", "/Users?sortBy=userName&attributes=userName&startIndex=2&count=1", ""))
	if got := list.list(); len(got) != 1 || got[0]["title"] != "T" {
		t.Errorf("got %v, want ann whole: neither sorting nor projection is supported", list)
	}
	if a := s.do("GET", "/Users/1000002", "", "If-None-Match", "*"); a.status != 200 || a.header.Get("ETag") != "" {
		t.Errorf("got %v, want no versions", a)
	}

	for _, ops := range []string{
		`{"op":"replace","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager","value":"27"}`,
		`{"op":"add","path":"manager","value":{"value":"27"}}`,
		`{"op":"replace","path":"manager.value","value":"27"}`,
		`{"op":"replace","value":{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager":"27"}}`,
		`{"op":"replace","value":{"URN:ietf:params:scim:schemas:extension:enterprise:2.0:user":{"Manager":"27"}}}`,
		`{"op":"add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User","value":{"manager":"27"}}`,
	} {
		s.want(200, s.do("PATCH", "/Users/1000002", patch(`{"op":"replace","path":"manager","value":"25"}`)))
		a := s.want(200, s.do("PATCH", "/Users/1000002", patch(ops)))
		if got := a.body.Get(scim.Ref{Schema: scim.SchemaEnterpriseUser, Name: "manager"}); got != "27" {
			t.Errorf("%s: got manager %v, want 27", ops, got)
		}
	}
	s.refused(400, "invalidValue", s.do("PATCH", "/Users/1000002", patch(`{"op":"replace","path":"userName","value":"`+long+`x"}`)))
	s.refused(409, "uniqueness", s.do("PATCH", "/Users/1000002", patch(`{"op":"replace","path":"userName","value":"BEA"}`)))
	s.want(400, s.do("PATCH", "/Users/1000002", patch(`{"op":"remove","path":"userName"}`)))
	ignored := s.want(200, s.do("PATCH", "/Users/1000002?attributes=emails,nickName", patch(`{"op":"add","path":"emails[type eq \"home\"].value","value":"h@x.io"},{"op":"add","path":"nickName","value":"n"}`)))
	if got := fmt.Sprint(ignored.body.Get(scim.Ref{Name: "emails", Sub: "type"}), ignored.body["nickName"]); got != "[work] <nil>" {
		t.Errorf("got %s, want what is lacking ignored", got)
	}
	s.refused(400, "invalidValue", s.do("POST", "/Users", user("cid", `"emails":"c@x.io"`)))

	schema := s.want(200, s.do("GET", "/Schemas/"+scim.SchemaUser, ""))
	for attribute, want := range map[string]bool{`"title"`: true, `"givenName"`: true, `"nickName"`: false, `"formatted"`: false} {
		if got := strings.Contains(schema.text, attribute); got != want {
			t.Errorf("announced %s: got %v, want %v", attribute, got, want)
		}
	}
	config := s.want(200, s.do("GET", "/ServiceProviderConfig", ""))
	if got := fmt.Sprint(config.body.Get(scim.Ref{Name: "etag", Sub: "supported"}), config.body.Get(scim.Ref{Name: "patch", Sub: "supported"})); got != "false true" {
		t.Errorf("etag and patch: got %s, want false true", got)
	}
}

// narrow makes a profile from YAML that follows the head of one.
func narrow(t testing.TB, yaml string) *profile.Profile {
	t.Helper()
	p, err := profile.Parse("narrow.yaml", []byte("name: narrow\nurl: http://127.0.0.1:1/scim\n"+yaml))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLimits(t *testing.T) {
	s := start(t, Config{Profile: narrow(t, `
resources:
  - name: User
    endpoint: /Users
    operations: [create, get, query, patch]
    unlisted: drop
    attributes:
      - {path: userName, createOnly: true, forbidden: "@ ", filter: [eq, sw]}
      - {path: 'emails[type eq "work"].value', required: true, maxLength: 6, filter: [eq]}
      - {path: active}
      - {path: 'phoneNumbers.value', maxLength: 3}
filter: {and: true, valuePath: true}
`)})
	email := `"emails":[{"type":"work","value":"a@x.io"},{"type":"home","value":"longer@x.io"}]`
	r := s.create("ann", email+`,"phoneNumbers":[{"value":"123","type":"work"}]`)
	if got := fmt.Sprint(r["emails"], r["phoneNumbers"]); got != "[map[type:work value:a@x.io]] [map[value:123]]" {
		t.Errorf("got %s, want only what the profile has", got)
	}
	s.refused(400, "invalidValue", s.do("POST", "/Users", user("b b", email)))
	s.refused(400, "invalidValue", s.do("POST", "/Users", user("bob", `"emails":[{"type":"home","value":"b@x.io"}]`)))
	s.refused(400, "invalidValue", s.do("POST", "/Users", user("bob", `"emails":[{"type":"work","value":"bob@x.io"}]`)))
	s.refused(400, "invalidValue", s.do("POST", "/Users", user("bob", `"emails":[{"type":"work","value":"b@x.io"}],"phoneNumbers":[{"value":"1234"}]`)))
	one := "/Users/" + r.ID()
	s.refused(400, "mutability", s.do("PATCH", one, patch(`{"op":"replace","path":"userName","value":"other"}`)))
	s.refused(400, "invalidValue", s.do("PATCH", one, patch(`{"op":"remove","path":"emails[type eq \"work\"]"}`)))
	s.want(200, s.do("PATCH", one, patch(`{"op":"replace","path":"active","value":false}`)))

	put := s.want(405, s.do("PUT", one, user("ann", email)))
	if got := put.header.Get("Allow"); got != "GET, HEAD, PATCH" {
		t.Errorf("got Allow %q", got)
	}
	s.want(405, s.do("DELETE", one, ""))
	for filter, ok := range map[string]bool{
		`userName sw "a"`: true,
		`userName eq "ann" and emails.value eq "a@x.io"`:              true,
		`emails[type eq "work" and value eq "a@x.io"]`:                true,
		`emails[type eq "work"].value eq "a@x.io"`:                    true,
		`emails[type eq "work" and value eq "a@x.io" or value pr]`:    false,
		`emails[display eq "x"]`:                                      false,
		`emails[type ne "work"]`:                                      false,
		`userName eq "ann" or userName eq "bob"`:                      false,
		`not (userName eq "ann")`:                                     false,
		`active eq true`:                                              false,
		`userName eq "ann" and (active eq true and userName sw "an")`: false,
	} {
		a := s.do("GET", query(filter), "")
		if got := a.status == 200 && slices.Equal(a.userNames(), []string{"ann"}); got != ok {
			t.Errorf("%s: got %v, want supported: %v", filter, a, ok)
		}
	}
}

// What is left of an element when its value goes is no attribute that the service provider lacks.
func TestRestOfElement(t *testing.T) {
	s := start(t, Config{Assume: Assumptions{UnknownAttributes: Refuse}, Profile: narrow(t, `
resources:
  - name: User
    endpoint: /Users
    unlisted: drop
    attributes: [{path: userName}, {path: 'emails[Type eq "work"].value'}]
`)})
	one := "/Users/" + s.create("ann", `"emails":[{"type":"work","value":"a@x.io"}]`).ID()
	s.refused(400, "invalidValue", s.do("PATCH", one, patch(`{"op":"add","path":"emails","value":[{"type":"home"}]}`)))
	a := s.want(200, s.do("PATCH", one, patch(`{"op":"remove","path":"emails[type eq \"work\"].value"}`)))
	if got := a.body["emails"]; got != nil {
		t.Errorf("got %v, want no emails", got)
	}
}

// A path with a value filter whose operators are listed is a filter of its own.
func TestListedElement(t *testing.T) {
	s := start(t, Config{Profile: narrow(t, `
resources:
  - name: User
    endpoint: /Users
    unlisted: drop
    attributes:
      - {path: userName}
      - {path: 'emails[type eq "work"].value', filter: [eq]}
      - {path: 'emails[type eq "home"].value'}
`)})
	s.create("ann", `"emails":[{"type":"work","value":"a@x.io"},{"type":"home","value":"h@x.io"}]`)
	for filter, ok := range map[string]bool{
		`emails[type eq "work"].value eq "a@x.io"`:           true,
		`emails[Type eq "WORK" and value eq "a@x.io"]`:       true,
		`emails[value eq "a@x.io" and type eq "work"]`:       true,
		`emails[type eq "work"].value sw "a"`:                false,
		`emails[type eq "home"].value eq "h@x.io"`:           false,
		`emails[type eq "work" or value eq "a@x.io"]`:        false,
		`emails[type eq "work"]`:                             false,
		`emails[value eq "a@x.io"]`:                          false,
		`emails[type eq "work"].value eq "a@x.io" and id pr`: false,
	} {
		a := s.do("GET", query(filter), "")
		if got := a.status == 200 && slices.Equal(a.userNames(), []string{"ann"}); got != ok {
			t.Errorf("%s: got %v, want supported: %v", filter, a, ok)
		}
	}
}

func TestUpdateModes(t *testing.T) {
	const users = `
resources:
  - {name: User, endpoint: /Users, complete: true}
`
	two := patch(`{"op":"replace","path":"title","value":"t"},{"op":"replace","path":"active","value":true}`)
	one := patch(`{"op":"replace","path":"title","value":"t"}`)
	for mode, want := range map[string][]int{"patch": {200, 200}, "single": {200, 400}, "put": {501, 501}} {
		s := start(t, Config{Profile: narrow(t, users+"update: {mode: "+mode+"}\n")})
		id := s.create("ann", "").ID()
		for i, body := range []string{one, two} {
			if a := s.do("PATCH", "/Users/"+id, body); a.status != want[i] {
				t.Errorf("%s: got %v, want %d", mode, a, want[i])
			}
		}
		s.want(200, s.do("PUT", "/Users/"+id, user("ann", `"title":"x"`)))
	}
}

func TestReadOnlyUpstream(t *testing.T) {
	s := start(t, Config{Profile: narrow(t, `
resources:
  - {name: User, endpoint: /People, operations: [get, query], complete: true}
`)})
	if _, err := s.sim.Put("User", scim.Resource{"userName": "ann"}); err != nil {
		t.Fatal(err)
	}
	s.want(200, s.do("GET", "/People/1000001", ""))
	s.want(404, s.do("GET", "/Users/1000001", ""))
	for method, path := range map[string]string{"POST": "/People", "DELETE": "/People/1000001"} {
		a := s.want(405, s.do(method, path, user("bob", "")))
		if got := a.header.Get("Allow"); got != "GET, HEAD" {
			t.Errorf("%s: got Allow %q, want GET, HEAD", method, got)
		}
	}
	config := s.want(200, s.do("GET", "/ServiceProviderConfig", ""))
	if got := config.body.Get(scim.Ref{Name: "patch", Sub: "supported"}); got != false {
		t.Errorf("got PATCH announced: %v, want false", got)
	}
}

// TestIndexes wants the same answers with the help of the indexes as without, after all kinds of changes.
func TestIndexes(t *testing.T) {
	sim := newSimulator(t, Config{Profile: load(t, "generic"), Seed: 3})
	for i := range 300 {
		r := scim.Resource{
			"userName": fmt.Sprint("User", sim.rand.IntN(40)), "externalId": fmt.Sprint("X", i%7), "displayName": fmt.Sprint("D", i%5),
			"emails": []any{map[string]any{"value": fmt.Sprint("E", i%11), "type": "work"}, map[string]any{"value": fmt.Sprint("e", i%11)}},
		}
		id := fmt.Sprint(1000001 + sim.rand.IntN(i+1))
		switch i % 5 {
		case 1:
			sim.Remove("User", id)
		case 2:
			sim.Rename(id, fmt.Sprint("uSER", i%40))
		case 3:
			r["id"] = id
			fallthrough
		default:
			if _, err := sim.Put("User", r); err != nil {
				t.Fatal(err)
			}
		}
	}
	k := sim.kind("User")
	for i := range 40 {
		for _, text := range []string{
			`userName eq "user%d"`, `externalId eq "X%d"`, `externalId eq "x%d"`, `emails eq "e%d"`, `emails[type eq "work" and value eq "e%d"]`,
			`displayName eq "D%d" and userName co "1"`, `userName co "2" and emails.value eq "E%d"`, `userName eq "USER%d" or active pr`, `id eq "10000%d"`,
		} {
			f := filterOf(t, fmt.Sprintf(text, i))
			found, err := sim.find(k, f, "")
			if err != nil {
				t.Fatal(err)
			}
			var want []*record
			for _, rec := range k.order {
				if ok, err := k.rt.Match(f, rec.resource); ok && err == nil {
					want = append(want, rec)
				}
			}
			if !slices.Equal(found, want) {
				t.Errorf(text+": got %d, want %d records", i, len(found), len(want))
			}
		}
	}
}
