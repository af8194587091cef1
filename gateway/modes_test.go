package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"scimgate/config/profile"
	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

var updateModes = []profile.UpdateMode{profile.UpdatePatch, profile.UpdateSingle, profile.UpdatePut}

// The same operations make the same resource, whatever the upstream takes.
func TestUpdateModesAgree(t *testing.T) {
	sequences := [][]string{
		{
			`{"op":"Replace","path":"title","value":"Boss"},{"op":"Add","path":"emails[type eq \"work\"].value","value":"a@x.example"}`,
			`{"op":"replace","value":{"name.givenName":"Ann","name.familyName":"Lee","active":false}}`,
			`{"op":"Replace","path":"emails[type eq \"work\"].value","value":"b@x.example"},{"op":"remove","path":"title"}`,
		},
		{
			`{"op":"Add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager","value":"27"}`,
			`{"op":"Replace","path":"userName","value":"ann2"},{"op":"Add","path":"phoneNumbers[type eq \"work\"].value","value":"+1"},{"op":"Replace","path":"externalId","value":"e-9"}`,
			`{"op":"Replace","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager","value":""}`,
		},
		{
			`{"op":"replace","path":"name","value":{"givenName":"A","familyName":"B"}}`,
			`{"op":"remove","path":"name.givenName"},{"op":"add","path":"timezone","value":"Europe/Berlin"}`,
			`{"op":"add","value":{"title":"x","displayName":"dropped"}}`,
			`{"op":"replace","path":"title","value":"x"}`,
		},
	}
	for i, sequence := range sequences {
		for _, name := range []string{"bluejeans", "generic"} {
			var want string
			for _, mode := range updateModes {
				t.Run(fmt.Sprintf("%d/%s/%s", i, name, mode), func(t *testing.T) {
					p := newHarness(t, tailored(t, name, "", mode))
					id := p.create("ann", `"externalId":"e-1","title":"old"`)
					for _, ops := range sequence {
						if a := p.do("PATCH", "/Users/"+id, patch(ops)); a.status != 200 && a.status != 204 { // 204: it changed nothing
							t.Fatalf("%s: got %d %s", ops, a.status, a.text)
						}
					}
					a := p.do("GET", "/Users/"+id, "")
					delete(a.body, "meta")
					got, err := json.Marshal(a.body)
					if err != nil {
						t.Fatal(err)
					}
					if want == "" {
						want = string(got)
					}
					if string(got) != want {
						t.Errorf("got %s, want as in the first mode %s", got, want)
					}
					p.pairs()
				})
			}
		}
	}
}

// What the modes cost.
func TestUpdateModesCost(t *testing.T) {
	const two = `{"op":"replace","path":"title","value":"x"},{"op":"replace","path":"active","value":false}`
	for mode, want := range map[profile.UpdateMode]int{profile.UpdatePatch: 1, profile.UpdateSingle: 2, profile.UpdatePut: 2} {
		t.Run(string(mode), func(t *testing.T) {
			p := newHarness(t, tailored(t, "bluejeans", "", mode))
			id := p.create("ann", "")
			if n := p.calls(func() { p.do("PATCH", "/Users/"+id, patch(two)) }); n != want {
				t.Errorf("got %d calls, want %d", n, want)
			}
			if mode == profile.UpdatePut { // nothing to change, nothing sent
				if n := p.calls(func() { p.do("PATCH", "/Users/"+id, patch(two)) }); n != 1 || p.last().Intent != 0 {
					t.Errorf("again: got %d calls under intent %d, want 1 without", n, p.last().Intent)
				}
				wantStory(t, p.last(), map[string]string{"title": "h1 - h1", "active": "false - false"})
			}
		})
	}
}

// One operation at a time: the failure of a later one is told as what it is, and so does the trail.
func TestSingleFailsHalfWay(t *testing.T) {
	p := newHarness(t, tailored(t, "bluejeans", aliased, profile.UpdateSingle))
	id := p.create(longName, `"title":"old"`)
	p.sim.Inject(simulator.Fault{Kind: simulator.Status, Status: 400, Op: scim.OpPatch, Nth: 3})
	a := p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"new"},{"op":"replace","path":"userName","value":"`+longName2+`"},
		{"op":"replace","path":"active","value":false},{"op":"replace","path":"timezone","value":"x"}`))
	if a.status != 400 || !strings.Contains(a.detail(), "2 of 4 operations were applied") {
		t.Errorf("got %d %s, want 400 that says how many were applied", a.status, a.text)
	}
	rec := p.last()
	if rec.Action != audit.Failed || rec.Kind != audit.Outcome || len(rec.Calls) != 4 {
		t.Errorf("got %s %s with %d calls, want a failed outcome with 4", rec.Kind, rec.Action, len(rec.Calls))
	}
	alias := p.upstreamName(id)
	wantStory(t, rec, map[string]string{
		"title": "h1 h1 h1", "userName": fmt.Sprintf("%q %q %q", longName2, alias, alias), "active": "false false absent", "timezone": "h1 - absent",
	})
	// The rename was among what was applied.
	if got := p.do("GET", "/Users/"+id, "").get("userName"); got != longName2 {
		t.Errorf("got userName %v, want %s", got, longName2)
	}
	p.finds(`userName eq "`+longName2+`"`, 1, longName2)
	p.pairs()

	// The first one fails: nothing was applied, and nothing says so.
	p.sim.Inject(simulator.Fault{Kind: simulator.Status, Status: 400, Op: scim.OpPatch, Nth: 1})
	a = p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"x"},{"op":"replace","path":"active","value":false}`))
	if a.status != 400 || strings.Contains(a.detail(), "applied") {
		t.Errorf("got %d %s, want the plain refusal", a.status, a.text)
	}
	wantStory(t, p.last(), map[string]string{"title": "h1 h1 -", "active": "false - -"})
}

// put mode over an upstream with versions: a writer behind the gateway's back loses nothing.
func TestPutConflict(t *testing.T) {
	pr := tailored(t, "generic", "", profile.UpdatePut)
	p := newHarness(t, pr)
	id := p.create("ann", `"title":"old"`)
	var conflicts, changes int
	q := p.through(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if req.Method == "PUT" && conflicts > 0 {
			conflicts--
			changes++
			if _, err := p.sim.Put("User", scim.Resource{"id": id, "userName": "ann", "title": "old", "nickName": fmt.Sprint("behind ", changes)}); err != nil {
				t.Error(err)
			}
		}
		return next.RoundTrip(req)
	})
	conflicts = 2
	a := q.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"new"}`))
	if a.status != 200 || a.get("title") != "new" || a.get("nickName") != "behind 2" {
		t.Errorf("got %d %s, want both changes", a.status, a.text)
	}
	if rec := q.last(); len(rec.Calls) != 6 || rec.Kind != audit.Outcome || rec.Action != audit.Updated {
		t.Errorf("got %s %s with %d calls, want an update with 6", rec.Kind, rec.Action, len(rec.Calls))
	}
	conflicts = 3
	a = q.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"newer"}`))
	if a.status != 503 || a.header.Get("Retry-After") == "" || q.last().Kind != audit.Outcome {
		t.Errorf("always changed: got %d %s, want 503 with Retry-After", a.status, a.text)
	}
	version := q.do("GET", "/Users/"+id, "").header.Get("ETag")
	conflicts = 1
	a = q.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"newest"}`), "If-Match", version)
	if a.status != 412 {
		t.Errorf("with the client's If-Match: got %d %s, want 412", a.status, a.text)
	}
	p.pairs()
}

// Concurrent PATCHes of one user lose nothing, although each is a read, a change and a PUT.
func TestConcurrentPatches(t *testing.T) {
	for _, c := range []struct {
		name    string
		profile *profile.Profile
		op      func(i int) (op, path string)
	}{
		{"put", tailored(t, "generic", "", profile.UpdatePut), func(i int) (string, string) {
			return fmt.Sprintf(`{"op":"add","path":"emails","value":[{"type":"t%d","value":"a%d@x.example"}]}`, i, i), "emails"
		}},
		{"put without versions", withoutVersions(tailored(t, "generic", "", profile.UpdatePut)), func(i int) (string, string) {
			return fmt.Sprintf(`{"op":"add","path":"emails","value":[{"type":"t%d","value":"a%d@x.example"}]}`, i, i), "emails"
		}},
		{"kept", tailored(t, "bluejeans", keepsAll, ""), func(i int) (string, string) {
			return fmt.Sprintf(`{"op":"add","path":"ims","value":[{"type":"t%d","value":"a%d"}]}`, i, i), "ims"
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newHarness(t, c.profile)
			id := p.create("ann", "")
			const writers = 20
			var wg sync.WaitGroup
			var path string
			for i := range writers {
				op, attribute := c.op(i)
				path = attribute
				wg.Go(func() {
					if a := p.do("PATCH", "/Users/"+id, patch(op)); a.status != 200 {
						t.Errorf("got %d %s", a.status, a.text)
					}
				})
			}
			wg.Wait()
			list, _ := p.do("GET", "/Users/"+id, "").get(path).([]any)
			if len(list) != writers {
				t.Errorf("got %d values of %s, want %d", len(list), path, writers)
			}
			p.pairs()
		})
	}
}

func withoutVersions(p *profile.Profile) *profile.Profile {
	p.ETag = false
	return p
}

// If-Match over an upstream without versions is compared here, and two writers with one version do not both win.
func TestVersionsOfTheGateway(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	id := p.create("ann", "")
	version := p.do("GET", "/Users/"+id, "").header.Get("ETag")
	if got := p.do("GET", "/Users/"+id+"?attributes=userName", "").header.Get("ETag"); got != version {
		t.Errorf("with a projection: got %s, want %s", got, version)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	status := map[int]int{}
	for i := range 8 {
		wg.Go(func() {
			a := p.do("PATCH", "/Users/"+id, patch(fmt.Sprintf(`{"op":"replace","path":"title","value":"%d"}`, i)), "If-Match", version)
			mu.Lock()
			defer mu.Unlock()
			status[a.status]++
		})
	}
	wg.Wait()
	if status[200] != 1 || status[412] != 7 {
		t.Errorf("got %v, want one 200 and seven 412", status)
	}
	if a := p.do("DELETE", "/Users/"+id, "", "If-Match", version); a.status != 412 {
		t.Errorf("DELETE: got %d, want 412", a.status)
	}
	if a := p.do("DELETE", "/Users/"+id, "", "If-Match", "*"); a.status != 204 {
		t.Errorf("DELETE with *: got %d, want 204", a.status)
	}
}

// A write is not done when If-None-Match names the version that is there, whoever makes the versions (RFC 9110, Section
// 13.1.2).
func TestWritesUnlessVersion(t *testing.T) {
	for _, name := range []string{"generic", "bluejeans"} {
		p := newHarness(t, builtin(t, name))
		id := p.create("ann", "")
		version := p.do("GET", "/Users/"+id, "").header.Get("ETag")
		put := `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ann","title":"T"}`
		for _, test := range []struct {
			method, body, tags string
			want               int
		}{
			{"PUT", put, "*", 412},
			{"PATCH", patch(`{"op":"replace","path":"title","value":"T"}`), `W/"x", ` + version, 412},
			{"DELETE", "", version, 412},
			{"PUT", put, `W/"x"`, 200},
			{"DELETE", "", version, 204}, // which has changed since
		} {
			if a := p.do(test.method, "/Users/"+id, test.body, "If-None-Match", test.tags); a.status != test.want {
				t.Errorf("%s: %s If-None-Match %s: got %d %s, want %d", name, test.method, test.tags, a.status, a.text, test.want)
			}
		}
	}
}

// An upstream that answers a write without a body is read afterwards where that is needed; when that fails, the
// write was still done.
func TestReadBack(t *testing.T) {
	pr := builtin(t, "bluejeans")
	pr.Update.ReadBack = true
	p := newHarness(t, pr)
	bodiless, readable := true, true
	q := p.through(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if req.Method == "GET" && !readable {
			req = req.Clone(req.Context())
			req.URL.Path += "/nothing"
		}
		res, err := next.RoundTrip(req)
		if err == nil && req.Method != "GET" && bodiless && res.StatusCode < 300 {
			_ = res.Body.Close()
			res.Body, res.ContentLength = http.NoBody, 0
			res.Header.Del("Content-Length")
		}
		return res, err
	})
	a := q.do("POST", "/Users", user("ann", `"title":"x","externalId":"e-1"`))
	if a.status != 201 || a.get("title") != "x" || a.get("externalId") != "e-1" {
		t.Fatalf("create: got %d %s, want what was read", a.status, a.text)
	}
	id := a.get("id").(string)
	wantStory(t, q.last(), map[string]string{"userName": `"ann" "ann" "ann"`, "title": "h1 h1 h1", "externalId": `"e-1" - -`})
	a = q.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"y"}`))
	if a.status != 200 || a.get("title") != "y" {
		t.Errorf("PATCH: got %d %s, want what was read", a.status, a.text)
	}

	readable = false
	a = q.do("PATCH", "/Users/"+id, patch(`{"op":"replace","value":{"title":"z","externalId":"e-2"}}`))
	if a.status != 204 || q.last().Kind != audit.Outcome {
		t.Errorf("PATCH that cannot be read: got %d %s, want 204", a.status, a.text)
	}
	wantStory(t, q.last(), map[string]string{"title": "h1 h1 not reported", "externalId": `"e-2" - -`})
	a = q.do("POST", "/Users", user("bob", `"externalId":"e-3"`))
	if a.status != 503 || a.header.Get("Retry-After") == "" || q.last().Kind != audit.Unknown {
		t.Errorf("create that cannot be read: got %d %s as %s, want 503 and unknown", a.status, a.text, q.last().Kind)
	}

	readable = true
	q.reconcile()
	q.finds(`externalId eq "e-3"`, 1, "bob")
	q.finds(`externalId eq "e-2"`, 1, "ann")
	q.pairs()
}

// A PATCH may be answered without a body, but not to a client that names attributes (RFC 7644, Section 3.5.2).
func TestPatchWithAttributes(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"), func(s *simulator.Config, _ *upConfig, _ *DoorConfig) { s.Assume.PatchNoContent = true })
	id := p.create("ann", "")
	for _, tt := range []struct {
		query          string
		status, calls  int
		title, display any
	}{
		{"", 204, 1, nil, nil},
		{"?excludedAttributes=title", 204, 1, nil, nil},
		{"?attributes=title", 200, 2, "x", nil},
		{"?attributes=unknown", 200, 2, nil, nil},
	} {
		var a answer
		n := p.calls(func() {
			a = p.do("PATCH", "/Users/"+id+tt.query, patch(`{"op":"replace","path":"title","value":"x"},{"op":"replace","path":"displayName","value":"y"}`))
		})
		if a.header.Get("ETag") == "" {
			t.Errorf("%q: no ETag", tt.query)
		}
		if a.status != tt.status || n != tt.calls || a.get("title") != tt.title || a.get("displayName") != tt.display {
			t.Errorf("%q: got %d %s after %d calls, want %d, title %v, after %d", tt.query, a.status, a.text, n, tt.status, tt.title, tt.calls)
		}
	}
}

// Entra adds to elements that are not there and expects them to be made, whatever the upstream makes of that.
func TestAddToMissingElement(t *testing.T) {
	for mode, calls := range map[profile.UpdateMode]int{profile.UpdatePatch: 3, profile.UpdateSingle: 5} {
		t.Run(string(mode), func(t *testing.T) { addToMissingElement(t, mode, calls) })
	}
}

func addToMissingElement(t *testing.T, mode profile.UpdateMode, calls int) {
	p := newHarness(t, tailored(t, "generic", "", mode), func(s *simulator.Config, _ *upConfig, _ *DoorConfig) { s.Assume.MissingElement = simulator.Refuse })
	id := p.create("ann", `"emails":[{"type":"home","value":"h@example.com"}]`)
	ops := `{"op":"Add","path":"emails[type eq \"home\"].value","value":"new@example.com"},` +
		`{"op":"Add","path":"phoneNumbers[type eq \"work\"].value","value":"+1 555"},{"op":"Add","path":"title","value":"x"}`
	var a answer
	if n := p.calls(func() { a = p.do("PATCH", "/Users/"+id, patch(ops)) }); n != calls {
		t.Errorf("got %d upstream calls, want %d: refused, read, sent again", n, calls)
	}
	if a.status != 200 || a.get("phoneNumbers/0/value") != "+1 555" || a.get("emails/0/value") != "new@example.com" || a.get("title") != "x" {
		t.Fatalf("got %d %s, want every operation applied", a.status, a.text)
	}
	if rec := p.last(); !slices.ContainsFunc(rec.Findings, func(f audit.Finding) bool { return f.Rule == "add-element" }) || rec.Answer.Status != 200 {
		t.Errorf("trail: got %+v, want a finding that the element was added", rec)
	}
	if a := p.do("PATCH", "/Users/"+id, patch(`{"op":"Replace","path":"emails[type eq \"work\"].value","value":"w@example.com"}`)); a.status != 400 || a.get("scimType") != "noTarget" {
		t.Errorf("a replace of a missing element: got %d %s, want 400 noTarget", a.status, a.text)
	}
	p.pairs()
}
