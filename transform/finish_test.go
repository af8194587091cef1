package transform

import (
	"strings"
	"testing"

	"scimgate/transform/scim"
)

func object(t testing.TB, text string) scim.Resource {
	t.Helper()
	if text == "" {
		return nil
	}
	r, err := scim.DecodeObject([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

func TestFinish(t *testing.T) {
	const keptEmails = `{"emails":[{"type":"work","value":"w","primary":true},{"type":"home","value":"h"}]}`
	tests := []struct {
		name, profile, upstream string
		held                    *Held
		kept                    string // Held.Kept
		want                    string // without schemas and meta
		drift                   bool
	}{
		{"nothing held", "bluejeans", `{"id":"7","userName":"ada","externalId":"theirs","roles":[],"title":null,"name":{}}`, nil, "", `{"id":"7","userName":"ada"}`, false},
		{"elements with nothing in them", "generic", `{"id":"7","emails":[{}],"roles":[null,{"value":"r"}],"` + enterprise + `":{"department":null,"manager":{}}}`, nil, "",
			`{"id":"7","roles":[{"value":"r"}]}`, false},
		{"externalId", "bluejeans", `{"id":"7","externalId":"theirs"}`, &Held{ExternalID: "ours"}, "", `{"id":"7","externalId":"ours"}`, false},
		{"externalId that is not held", "bluejeans", `{"id":"7","externalId":"theirs"}`, &Held{UserName: "ada"}, "", `{"id":"7"}`, false},
		{"externalId of the upstream", "generic", `{"id":"7","externalId":"theirs"}`, &Held{ExternalID: "ours"}, "", `{"id":"7","externalId":"theirs"}`, false},
		{"alias", aliasing, `{"id":"7","userName":"THE-LO~abc"}`, &Held{UserName: "the-long-one", Sent: "the-lo~abc"}, "", `{"id":"7","userName":"the-long-one"}`, false},
		{"drift", aliasing, `{"id":"7","userName":"renamed"}`, &Held{UserName: "the-long-one", Sent: "the-lo~abc"}, "", `{"id":"7","userName":"renamed"}`, true},
		{"no alias", aliasing, `{"id":"7","userName":"renamed"}`, &Held{UserName: "ada"}, "", `{"id":"7","userName":"renamed"}`, false},

		{"kept attributes", parted, `{"id":"7","name":{"givenName":"G"}}`, &Held{}, `{"nickName":"N","name":{"formatted":"F"},"` + enterprise + `":{"department":"D","manager":{"value":"42"}}}`,
			`{"id":"7","name":{"formatted":"F","givenName":"G"},"nickName":"N","` + enterprise + `":{"department":"D","manager":{"value":"42"}}}`, false},
		{"kept beside nothing", parted, `{"id":"7"}`, &Held{}, `{"name":{"formatted":"F"}}`, `{"id":"7","name":{"formatted":"F"}}`, false},
		{"what the upstream says although it lacks it", parted, `{"id":"7","nickName":"theirs","name":{"formatted":"theirs"}}`, &Held{}, `{"nickName":"N","name":{"formatted":"F"}}`,
			`{"id":"7","name":{"formatted":"F"},"nickName":"N"}`, false},
		{"what the upstream has learnt to store", parted, `{"id":"7","name":{"givenName":"G"}}`, &Held{}, `{"name":{"givenName":"old","formatted":"F"},"userName":"old"}`,
			`{"id":"7","name":{"formatted":"F","givenName":"G"}}`, false},
		{"parts of elements", parted, `{"id":"7","emails":[{"type":"work","value":"w"}]}`, &Held{}, keptEmails,
			`{"id":"7","emails":[{"primary":true,"type":"work","value":"w"},{"type":"home","value":"h"}]}`, false},
		{"an element whose value changed", parted, `{"id":"7","emails":[{"type":"work","value":"new"}]}`, &Held{}, keptEmails,
			`{"id":"7","emails":[{"primary":true,"type":"work","value":"new"},{"type":"home","value":"h"}]}`, false},
		{"an element that is gone", parted, `{"id":"7"}`, &Held{}, keptEmails, `{"id":"7","emails":[{"type":"home","value":"h"}]}`, false},
		{"an element without its type", parted, `{"id":"7","emails":[{"value":"w"}]}`, &Held{}, keptEmails, `{"id":"7","emails":[{"primary":true,"value":"w"},{"type":"home","value":"h"}]}`, false},
		{"two elements of one type", parted, `{"id":"7","emails":[{"type":"work","value":"a"},{"type":"work","value":"w"}]}`, &Held{}, keptEmails,
			`{"id":"7","emails":[{"type":"work","value":"a"},{"primary":true,"type":"work","value":"w"},{"type":"home","value":"h"}]}`, false},
		{"a part that was sent before its element", parted, `{"id":"7","emails":[{"type":"work","value":"w"}]}`, &Held{}, `{"emails":[{"type":"work","primary":true}]}`,
			`{"id":"7","emails":[{"primary":true,"type":"work","value":"w"}]}`, false},
		{"a part whose element spells its type otherwise", parted, `{"id":"7","emails":[{"type":"WORK","value":"w"}]}`, &Held{}, `{"emails":[{"type":"work","primary":true}]}`,
			`{"id":"7","emails":[{"primary":true,"type":"WORK","value":"w"}]}`, false},
		{"a part whose filter spelled the type otherwise", "unlisted: keep\nattributes: [{path: userName}, {path: emails.value}, {path: emails.type}]\n",
			`{"id":"7","emails":[{"type":"Other","value":"o"}]}`, &Held{}, `{"emails":[{"type":"OTHER","display":"d"}]}`, `{"id":"7","emails":[{"display":"d","type":"Other","value":"o"}]}`, false},
		{"a part without an element", parted, `{"id":"7"}`, &Held{}, `{"emails":[{"type":"work","primary":true}]}`, `{"id":"7","emails":[{"primary":true,"type":"work"}]}`, false},
		{"two primaries", `
unlisted: keep
attributes: [{path: userName}, {path: 'emails[type eq "work"].value'}, {path: 'emails[type eq "work"].primary'}]
`, `{"id":"7","emails":[{"type":"work","value":"w","primary":true}]}`, &Held{}, `{"emails":[{"type":"home","value":"h","primary":true}]}`,
			`{"id":"7","emails":[{"primary":true,"type":"work","value":"w"},{"primary":false,"type":"home","value":"h"}]}`, false},
		{"elements that are not objects", parted, `{"id":"7","emails":["w"]}`, &Held{}, keptEmails, `{"id":"7","emails":["w",{"type":"home","value":"h"}]}`, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tr := byName(t, test.profile)
			r := object(t, test.upstream)
			if test.held != nil {
				test.held.Kept = object(t, test.kept)
			}
			got, drift := tr.Finish(scim.UserType(), r, test.held, "https://gateway.example.com/scim/v2")
			if schemas, _ := got["schemas"].([]any); len(schemas) == 0 || schemas[0] != scim.SchemaUser {
				t.Errorf("schemas: got %v, want the core schema first", got["schemas"])
			}
			if got.Meta("location") != "https://gateway.example.com/scim/v2/Users/7" || got.Meta("resourceType") != "User" || !strings.HasPrefix(got.Meta("version"), `W/"`) {
				t.Errorf("got meta %v, want location, resourceType and version", got["meta"])
			}
			delete(got, "schemas")
			delete(got, "meta")
			if text := string(scim.AppendJSON(nil, got)); text != test.want || drift != test.drift {
				t.Errorf("got %s, drift %v, want %s, drift %v", text, drift, test.want, test.drift)
			}
			if test.held != nil && test.kept != "" {
				if text := scim.AppendJSON(nil, test.held.Kept); string(text) != string(scim.AppendJSON(nil, object(t, test.kept))) {
					t.Errorf("Finish changed what is held: got %s, want %s", text, test.kept)
				}
			}
		})
	}
}

func TestFinishVersion(t *testing.T) {
	version := func(upstream, base string) string {
		r, _ := builtin(t, "bluejeans").Finish(scim.UserType(), object(t, upstream), nil, base)
		return r.Meta("version")
	}
	first := version(`{"id":"a b","title":"T"}`, "https://a.example.com")
	if got := version(`{"title":"T","id":"a b","roles":[]}`, "https://b.example.com"); got != first {
		t.Errorf("the same resource under another name of the gateway: got %s, want %s", got, first)
	}
	if got := version(`{"id":"a b","title":"U"}`, "https://a.example.com"); got == first {
		t.Errorf("another resource: got the same version %s", got)
	}
	if got := version(`{"id":"7","meta":{"version":"W/\"theirs\"","resourceType":"X"}}`, ""); got != `W/"theirs"` {
		t.Errorf("got %s, want the upstream's version", got)
	}
	r, _ := builtin(t, "bluejeans").Finish(scim.UserType(), object(t, `{"id":"a b/c"}`), nil, "https://a.example.com")
	if got, want := r.Meta("location"), "https://a.example.com/Users/a%20b%2Fc"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What is no object stands for no extension: it is not shown, and schemas and filters do not tell of it.
func TestFinishNoExtension(t *testing.T) {
	r, _ := builtin(t, "generic").Finish(scim.UserType(), object(t, `{"id":"7","`+enterprise+`":"a"}`), nil, "")
	schemas, _ := r["schemas"].([]any)
	if r[enterprise] != nil || len(schemas) != 1 {
		t.Errorf("got %s, want the core schema alone", scim.AppendJSON(nil, r))
	}
}

// References to resources of the upstream lead to the gateway, as the resources' locations do. What a client sent as a
// reference to elsewhere comes back as it was sent.
func TestFinishReferences(t *testing.T) {
	const theirs, ours = "https://up.example.com/v2", "https://gateway.example.com/scim"
	user := func(base, location string) string {
		return `{"id":"a b","groups":[{"$ref":"` + base + `/Groups/1","value":"1"},{"value":"2"}],"profileUrl":"` + theirs + `/Users/7","` + enterprise +
			`":{"manager":{"$ref":"` + base + `/Users/2","value":"2"}},"meta":{"location":"` + location + `"}}`
	}
	tests := []struct {
		name     string
		rt       *scim.ResourceType
		in, want string
	}{
		{"the upstream's", scim.UserType(), user(theirs, theirs+"/Users/a%20b"), user(ours, ours+"/Users/a%20b")},
		{"another's", scim.UserType(), user(theirs+"x", theirs+"/Users/a%20b"), user(theirs+"x", ours+"/Users/a%20b")},
		{"relative", scim.UserType(), user("..", theirs+"/Users/a%20b"), user("..", ours+"/Users/a%20b")},
		{"an unknown base", scim.UserType(), user(theirs, theirs+"/Users/9"), user(theirs, ours+"/Users/a%20b")},
		{"relative location", scim.UserType(), user("", "/Users/a%20b"), user("", ours+"/Users/a%20b")},
		{"members", scim.GroupType(), `{"id":"1","members":[{"$ref":"` + theirs + `/Users/7","value":"7"}],"meta":{"location":"` + theirs + `/Groups/1"}}`,
			`{"id":"1","members":[{"$ref":"` + ours + `/Users/7","value":"7"}],"meta":{"location":"` + ours + `/Groups/1"}}`},
	}
	for _, test := range tests {
		r, _ := builtin(t, "generic").Finish(test.rt, object(t, test.in), nil, ours)
		delete(r, "schemas")
		r["meta"] = map[string]any{"location": r.Meta("location")}
		if got, want := string(scim.AppendJSON(nil, r)), string(scim.AppendJSON(nil, object(t, test.want))); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, got, want)
		}
	}
}

// Where the upstream stores nothing of an attribute, the gateway knows all there is of it: what is to be replaced has
// to be there (RFC 7644, Section 3.5.2.3).
func TestKeepNeedsTarget(t *testing.T) {
	tr := inline(t, "unlisted: keep\nattributes: [{path: userName}, {path: 'emails[type eq \"work\"].value'}]\n")
	held := &Held{ID: "7", Kept: object(t, `{"roles":[{"type":"a","value":"x"}]}`)}
	for patch, want := range map[string]string{
		`[{"op":"replace","path":"roles[type eq \"b\"].value","value":"y"}]`:       "noTarget",
		`[{"op":"replace","path":"roles[type eq \"b\"]","value":{"value":"y"}}]`:   "noTarget",
		`[{"op":"replace","path":"roles[type eq \"a\"].value","value":"y"}]`:       "",
		`[{"op":"add","path":"roles[type eq \"b\"].value","value":"y"}]`:           "",
		`[{"op":"replace","path":"emails[type eq \"home\"].display","value":"y"}]`: "noTarget",
		`[{"op":"replace","path":"emails[type eq \"work\"].display","value":"y"}]`: "", // the upstream may have it
	} {
		req := read(t, "PATCH /Users/7 "+patch)
		_, err := tr.For(req, ruled(tr, req), held, nil)
		e, _ := err.(*scim.Error)
		if want == "" && err != nil || want != "" && (e == nil || e.Type != want) {
			t.Errorf("%s: got %v, want %q", patch, err, want)
		}
	}
}

func TestKeep(t *testing.T) {
	long := strings.Repeat("a", 40)
	tests := []struct {
		name, profile, patch string
		held                 *Held
		kept                 string
		want                 string // UserName, Sent, ExternalID, Kept
	}{
		{"externalId of one not known", "bluejeans", `[{"op":"add","path":"externalId","value":"e"}]`, nil, "", `  e {}`},
		{"another externalId", "bluejeans", `[{"op":"replace","path":"externalId","value":"e"}]`, &Held{UserName: "ada", ExternalID: "old"}, "", `ada  e {}`},
		{"no externalId", "bluejeans", `[{"op":"remove","path":"externalId"}]`, &Held{UserName: "ada", ExternalID: "old"}, "", `ada   {}`},
		{"rename to a long name", aliasing, `[{"op":"replace","path":"userName","value":"` + long + `"}]`, &Held{UserName: "ada"}, "", long + ` ` + strings.Repeat("a", 19) + `~4m6n7hd7oe  {}`},
		{"rename to a short name", aliasing, `[{"op":"replace","path":"userName","value":"ada"}]`, &Held{UserName: long, Sent: "x~y"}, "", `ada   {}`},
		{"attributes", parted, `[{"op":"replace","value":{"nickName":"N","department":"D","name":{"formatted":"F"}}}]`, nil, `{"nickName":"old","locale":"en"}`,
			`   {"locale":"en","name":{"formatted":"F"},"nickName":"N","` + enterprise + `":{"department":"D"}}`},
		{"a part of an element that is held", parted, `[{"op":"replace","path":"emails[type eq \"work\"].primary","value":false}]`, nil, `{"emails":[{"type":"work","value":"w","primary":true}]}`,
			`   {"emails":[{"primary":false,"type":"work","value":"w"}]}`},
		{"a part of an element that is not", parted, `[{"op":"replace","path":"emails[type eq \"work\"].primary","value":true}]`, nil, "",
			`   {"emails":[{"primary":true,"type":"work"}]}`},
		{"the value of an element that is held", parted, `[{"op":"replace","path":"emails[type eq \"work\"].value","value":"v"}]`, nil, `{"emails":[{"type":"work","value":"w","primary":true}]}`,
			`   {"emails":[{"primary":true,"type":"work","value":"v"}]}`},
		{"the value of an element that is not", parted, `[{"op":"replace","path":"emails[type eq \"work\"].value","value":"v"}]`, nil, "", `   {}`},
		{"an element", parted, `[{"op":"replace","path":"emails[type eq \"work\"]","value":{"value":"v","primary":true}}]`, nil, "",
			`   {"emails":[{"primary":true,"type":"work","value":"v"}]}`},
		{"an element by what is stored", parted, `[{"op":"replace","path":"emails[type eq \"work\"]","value":{"value":"v"}}]`, nil, `{"emails":[{"type":"work","value":"w","primary":true}]}`, `   {}`},
		{"all elements", parted, `[{"op":"replace","path":"emails.display","value":"D"}]`, nil, `{"emails":[{"type":"work","value":"w"},{"type":"home","value":"h"}]}`,
			`   {"emails":[{"display":"D","type":"work","value":"w"},{"display":"D","type":"home","value":"h"}]}`},
		{"add to the list", parted, `[{"op":"add","path":"emails","value":[{"type":"work","value":"w","primary":false},{"type":"home","value":"h"}]}]`, nil, `{"emails":[{"type":"work","value":"w","primary":true}]}`,
			`   {"emails":[{"primary":false,"type":"work","value":"w"},{"type":"home","value":"h"}]}`},
		{"remove an element", parted, `[{"op":"remove","path":"emails","value":[{"value":"w"}]}]`, nil, `{"emails":[{"type":"work","value":"w","primary":true}]}`, `   {}`},
		{"remove", parted, `[{"op":"remove","path":"emails"},{"op":"remove","path":"name"}]`, nil, `{"emails":[{"type":"work","primary":true}],"name":{"formatted":"F"},"nickName":"N"}`, `   {"nickName":"N"}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tr := byName(t, test.profile)
			req := read(t, `PATCH /Users/7 `+test.patch)
			held := test.held
			if test.kept != "" {
				held = &Held{ID: "7", Kept: object(t, test.kept)}
			}
			plan, err := tr.For(req, ruled(tr, req), held, nil)
			if err != nil {
				t.Fatal(err)
			}
			next, err := tr.Keep(req.Type, "7", plan.KeptOps, held)
			if err != nil {
				t.Fatal(err)
			}
			if got := next.UserName + " " + next.Sent + " " + next.ExternalID + " " + string(scim.AppendJSON(nil, next.Kept)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if next.ID != "7" && test.held == nil {
				t.Errorf("got id %q, want 7", next.ID)
			}
			if test.kept != "" && string(scim.AppendJSON(nil, held.Kept)) != string(scim.AppendJSON(nil, object(t, test.kept))) {
				t.Errorf("Keep changed what was held: got %s, want %s", scim.AppendJSON(nil, held.Kept), test.kept)
			}
		})
	}
}
