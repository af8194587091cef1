package gateway

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"scimgate/gateway/audit"
)

// lockedBuffer collects logs from many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The life of a user as Entra leads it, through both built-in profiles; each step costs exactly one upstream call.
func TestLifeOfAUser(t *testing.T) {
	for _, name := range []string{"bluejeans", "generic"} {
		t.Run(name, func(t *testing.T) {
			p := newHarness(t, builtin(t, name))
			boss := p.create("boss@example.com", `"name":{"givenName":"Bo","familyName":"Ss"}`)
			var id string
			steps := []struct {
				what, method, target, body string
				status                     int
				path                       string
				want                       any
				action                     string
			}{
				{"test connection", "GET", `/Users?filter=userName+eq+%22b2f5a1d0-0000-4000-8000-000000000000%22`, "", 200, "totalResults", 0.0, audit.Queried},
				{"create", "POST", "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
					"externalId":"0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef","userName":"ann@example.com","active":true,"title":null,
					"emails":[{"primary":true,"type":"work","value":"ann.long.address.of.many.characters@example.com"}],
					"meta":{"resourceType":"User"},"name":{"formatted":"Ann Lee","familyName":"Lee","givenName":"Ann"},"roles":[]}`,
					201, "externalId", "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef", audit.Created},
				{"match", "GET", `/Users?filter=userName+eq+%22ANN%40example.com%22`, "", 200, "Resources/0/userName", "ann@example.com", audit.Matched},
				{"read", "GET", "/Users/ID", "", 200, "externalId", "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef", audit.Read},
				{"manager", "PATCH", "/Users/ID", patch(`{"op":"Add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager","value":"` + boss + `"}`),
					200, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User/manager/value", boss, audit.Updated},
				{"legacy", "PATCH", "/Users/ID", patch(`{"op":"Replace","path":"name.familyName","value":"Long"},{"op":"Replace","path":"emails[type eq \"work\"].value","value":"a@b.c"}`),
					200, "emails/0/value", "a@b.c", audit.Updated},
				{"rfc", "PATCH", "/Users/ID", patch(`{"op":"replace","value":{"title":"x","name.givenName":"Anna"}}`), 200, "name/givenName", "Anna", audit.Updated},
				{"disable", "PATCH", "/Users/ID", patch(`{"op":"Replace","path":"active","value":"False"}`), 200, "active", false, audit.Disabled},
				{"restore", "PATCH", "/Users/ID", patch(`{"op":"replace","path":"active","value":true}`), 200, "active", true, audit.Restored},
				{"rename", "PATCH", "/Users/ID", patch(`{"op":"Replace","path":"userName","value":"anna@example.com"}`), 200, "userName", "anna@example.com", audit.Renamed},
				{"delete", "DELETE", "/Users/ID", "", 204, "", nil, audit.Deleted},
				{"deleted", "DELETE", "/Users/ID", "", 404, "status", "404", audit.Failed},
			}
			for _, s := range steps {
				t.Run(s.what, func(t *testing.T) {
					var a answer
					if n := p.calls(func() { a = p.do(s.method, strings.ReplaceAll(s.target, "ID", id), s.body) }); n != 1 {
						t.Errorf("%s cost %d upstream calls, want 1", s.what, n)
					}
					if a.status != s.status {
						t.Fatalf("got %d %s, want %d", a.status, a.text, s.status)
					}
					if s.path != "" && a.get(s.path) != s.want {
						t.Errorf("%s: got %v, want %v in %s", s.path, a.get(s.path), s.want, a.text)
					}
					if s.method == "POST" {
						id = a.get("id").(string)
						if got, want := a.header.Get("Location"), p.url+"/Users/"+id; got != want {
							t.Errorf("Location: got %s, want %s", got, want)
						}
					}
					if rec := p.last(); rec.Action != s.action || rec.Credential != "entra" {
						t.Errorf("trail: got action %s by %s, want %s by entra", rec.Action, rec.Credential, s.action)
					}
				})
			}
			p.pairs()
		})
	}
}

// pairs checks that every intent has exactly one record that closes it.
func (p *harness) pairs() {
	p.t.Helper()
	open := map[int64]int{}
	for _, r := range p.trail() {
		switch r.Kind {
		case audit.Intent:
			open[r.Seq] = 0
		case audit.Outcome, audit.Unknown:
			if r.Intent != 0 {
				open[r.Intent]++
			}
		}
	}
	for seq, n := range open {
		if n != 1 {
			p.t.Errorf("intent %d has %d records that close it, want 1", seq, n)
		}
	}
}

// Whatever is wrong with a request, the answer is a SCIM error that ends with the request id, the trail has the
// refusal, and nothing went upstream.
func TestBadInput(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	const deep = `{"a":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}`
	cases := []struct {
		name, method, target, body string
		header                     []string
		status                     int
		scimType, names            string
	}{
		{"no token", "GET", "/Users", "", []string{"Authorization", ""}, 401, "", "Secret Token"},
		{"wrong token", "GET", "/Users", "", []string{"Authorization", "Bearer nope"}, 401, "", "Secret Token"},
		{"empty bearer", "GET", "/Users", "", []string{"Authorization", "Bearer "}, 401, "", "Secret Token"},
		{"large", "POST", "/Users", user("x", `"title":"`+strings.Repeat("x", 256<<10)+`"`), nil, 413, "", "262144"},
		{"malformed", "POST", "/Users", `{"userName":}`, nil, 400, "invalidSyntax", "byte 13"},
		{"truncated", "POST", "/Users", `{"userName":"x"`, nil, 400, "invalidSyntax", "ends"},
		{"doubled", "POST", "/Users", user("x", "") + user("x", ""), nil, 400, "invalidSyntax", "nothing may follow"},
		{"deep", "POST", "/Users", deep, nil, 400, "invalidSyntax", "levels"},
		{"duplicate keys", "POST", "/Users", user("x", `"title":"a","title":"b"`), nil, 400, "invalidSyntax", `title`},
		{"case-folded keys", "POST", "/Users", user("x", `"UserName":"y"`), nil, 400, "invalidSyntax", `UserName`},
		{"no schemas", "POST", "/Users", `{"userName":"x"}`, nil, 400, "invalidValue", "schemas"},
		{"wrong schemas", "POST", "/Users", `{"schemas":["urn:x:y"],"userName":"x"}`, nil, 400, "invalidValue", "schemas"},
		{"wrong type", "POST", "/Users", user("x", `"active":"perhaps"`), nil, 400, "invalidValue", "active"},
		{"missing userName", "POST", "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"]}`, nil, 400, "invalidValue", "userName"},
		{"empty userName", "POST", "/Users", user("", ""), nil, 400, "invalidValue", "userName"},
		{"31 characters", "POST", "/Users", user(strings.Repeat("é", 31), ""), nil, 400, "invalidValue", "userName"},
		{"unknown op", "PATCH", "/Users/1", patch(`{"op":"move","path":"title","value":"x"}`), nil, 400, "invalidSyntax", "op"},
		{"no operations", "PATCH", "/Users/1", patch(``), nil, 400, "invalidSyntax", "Operations"},
		{"bad path", "PATCH", "/Users/1", patch(`{"op":"replace","path":"title[","value":"x"}`), nil, 400, "invalidPath", "Operations[0]"},
		{"unknown path", "PATCH", "/Users/1", patch(`{"op":"replace","path":"shoeSize","value":"x"}`), nil, 400, "invalidPath", "shoeSize"},
		{"remove without path", "PATCH", "/Users/1", patch(`{"op":"remove"}`), nil, 400, "noTarget", "path"},
		{"read-only", "PATCH", "/Users/1", patch(`{"op":"replace","path":"id","value":"2"}`), nil, 400, "mutability", "id"},
		{"required removed", "PATCH", "/Users/1", patch(`{"op":"remove","path":"userName"}`), nil, 400, "mutability", "userName"},
		{"31 characters in PATCH", "PATCH", "/Users/1", patch(`{"op":"replace","value":{"userName":"` + strings.Repeat("x", 31) + `"}}`), nil, 400, "invalidValue", "userName"},
		{"filter", "GET", "/Users?filter=userName+eq", "", nil, 400, "invalidFilter", "character"},
		{"long filter", "GET", "/Users?filter=userName+eq+%22" + strings.Repeat("x", 3000) + "%22", "", nil, 400, "invalidFilter", "2048"},
		{"unknown attribute in filter", "GET", "/Users?filter=shoeSize+eq+1", "", nil, 400, "invalidFilter", "shoeSize"},
		{"two filters", "GET", "/Users?filter=userName+pr&filter=title+pr", "", nil, 400, "invalidFilter", "twice"},
		{"undecodable filter", "GET", "/Users?filter=%zz", "", nil, 400, "invalidFilter", "decoded"},
		{"content type", "POST", "/Users", user("x", ""), []string{"Content-Type", "text/plain"}, 415, "", "Content-Type"},
		{"method", "PUT", "/Users", user("x", ""), nil, 405, "", "GET, HEAD, POST, OPTIONS"},
		{"group", "POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"g"}`, nil, 501, "", "Group"},
		{"endpoint", "GET", "/Nothing", "", nil, 404, "", "/Users"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var a answer
			if n := p.calls(func() { a = p.do(c.method, c.target, c.body, c.header...) }); n != 0 {
				t.Errorf("%d calls went upstream, want 0", n)
			}
			if a.status != c.status {
				t.Fatalf("got %d %s, want %d", a.status, a.text, c.status)
			}
			if got, _ := a.body["scimType"].(string); got != c.scimType {
				t.Errorf("scimType: got %q, want %q", got, c.scimType)
			}
			if !strings.Contains(a.detail(), c.names) {
				t.Errorf("detail %q does not name %q", a.detail(), c.names)
			}
			id := a.header.Get("X-Request-Id")
			if id == "" || !strings.HasSuffix(a.detail(), id) {
				t.Errorf("detail %q does not end with the request id %q", a.detail(), id)
			}
			if ct := a.header.Get("Content-Type"); !strings.HasPrefix(ct, "application/scim+json") {
				t.Errorf("Content-Type: got %q", ct)
			}
			if rec := p.last(); rec.RequestID != id || rec.Answer.Status != c.status || rec.Intent != 0 || rec.Kind != audit.Outcome {
				t.Errorf("trail: got %+v, want the refusal of %s", rec, id)
			}
			if c.status == http.StatusMethodNotAllowed && a.header.Get("Allow") == "" {
				t.Error("Allow is missing")
			}
		})
	}
	if got := p.do("GET", "/Groups", "").get("totalResults"); got != 0.0 {
		t.Errorf("GET /Groups: got %v, want an empty list", got)
	}
}
