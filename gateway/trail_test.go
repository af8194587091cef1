package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
	"scimgate/transform/scim"
)

// story tells what a record says of each attribute, "asked sent confirmed": public values as they are, others as
// h1, h2, ... by equality within the attribute, - for nothing.
func story(rec *audit.Record) map[string]string {
	out := map[string]string{}
	for _, a := range rec.Attributes {
		known := map[string]string{}
		word := func(v *audit.Value) string {
			switch {
			case v == nil:
				return "-"
			case v.HMAC != "":
				if known[v.HMAC] == "" {
					known[v.HMAC] = fmt.Sprintf("h%d", len(known)+1)
				}
				return known[v.HMAC]
			default:
				return v.String()
			}
		}
		out[a.Path] = word(a.Asked) + " " + word(a.Sent) + " " + word(a.Confirmed)
	}
	return out
}

// findings are a record's findings as "rule verdict path".
func findings(rec *audit.Record) []string {
	var out []string
	for _, f := range rec.Findings {
		out = append(out, strings.TrimSpace(f.Rule+" "+f.Verdict+" "+f.Path))
	}
	return out
}

func wantStory(t *testing.T, rec *audit.Record, want map[string]string) {
	t.Helper()
	got := story(rec)
	for path, w := range want {
		if got[path] != w {
			t.Errorf("%s: got %q, want %q", path, got[path], w)
		}
	}
	for path := range got {
		if want[path] == "" {
			t.Errorf("%s: got %q, want nothing of it", path, got[path])
		}
	}
}

const everything = `"externalId":"e-1","displayName":"Ann Lee","title":"Boss","active":true,"password":"Pass-Word-1",
	"name":{"givenName":"Ann","familyName":"Lee","formatted":"Ann Lee"},
	"emails":[{"type":"work","value":"ann@work.example","primary":true},{"type":"home","value":"ann@home.example"}]`

// What was asked, sent and confirmed stands apart, value by value.
func TestTrailOfValues(t *testing.T) {
	cases := []struct {
		name    string
		assume  simulator.Assumptions
		profile string
		patch   string // "" to look at the create
		status  int
		want    map[string]string
	}{
		{"create", simulator.Assumptions{}, "bluejeans", "", 201, map[string]string{
			"userName": `"ann" "ann" "ann"`, "externalId": `"e-1" - -`, "displayName": "h1 - -", "title": "h1 h1 h1",
			"active": "true true true", "password": "[secret] [secret] not reported", "name.givenName": "h1 h1 h1",
			"name.familyName": "h1 h1 h1", "name.formatted": "h1 - -",
			`emails[type eq "work"].value`: "h1 h1 h1", `emails[type eq "work"].type`: "h1 h1 h1", `emails[type eq "work"].primary`: "h1 - -",
			`emails[type eq "home"].value`: "h1 - -", `emails[type eq "home"].type`: "h1 - -",
		}},
		{"create that is changed", simulator.Assumptions{ActiveOnCreate: true, LowerCaseUserName: true}, "generic", "", 201, map[string]string{
			"userName": `"Ann" "Ann" "ann"`, "active": "false false true", "title": "h1 h1 h1",
		}},
		{"legacy", simulator.Assumptions{}, "bluejeans",
			`{"op":"Replace","path":"name.familyName","value":"Long"},{"op":"Replace","path":"active","value":"False"},
			 {"op":"Replace","path":"emails[type eq \"work\"].value","value":"new@work.example"},{"op":"Add","path":"displayName","value":"x"}`,
			200, map[string]string{
				"name.familyName": "h1 h1 h1", "active": "false false false", `emails[type eq "work"].value`: "h1 h1 h1", "displayName": "h1 - -",
			}},
		{"no content", simulator.Assumptions{PatchNoContent: true}, "bluejeans",
			`{"op":"replace","value":{"title":"x","externalId":"e-2","password":"Other-1"}}`, 204, map[string]string{
				"title": "h1 h1 not reported", "externalId": `"e-2" - -`, "password": "[secret] [secret] not reported",
			}},
		{"removed", simulator.Assumptions{}, "bluejeans",
			`{"op":"remove","path":"title"},{"op":"remove","path":"emails[type eq \"work\"]"},{"op":"remove","path":"externalId"}`, 200, map[string]string{
				"title": "absent absent absent", `emails[type eq "work"]`: "absent absent absent", "externalId": "absent - -",
			}},
		{"kept only", simulator.Assumptions{}, "bluejeans", `{"op":"replace","path":"externalId","value":"e-2"}`, 200, map[string]string{
			"externalId": `"e-2" - -`,
		}},
		{"by another filter", simulator.Assumptions{}, "generic",
			`{"op":"replace","path":"emails[primary eq true].display","value":"x"},{"op":"remove","path":"emails[value eq \"ann@home.example\"]"}`,
			200, map[string]string{
				"emails[primary eq true].display": "h1 h1 h1", "emails[value eq ...]": "absent absent absent",
			}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newHarness(t, builtin(t, c.profile), func(s *simulator.Config, _ *upConfig, _ *DoorConfig) { s.Assume = c.assume })
			body := user("ann", everything)
			if c.name == "create that is changed" {
				body = user("Ann", `"active":false,"title":"x"`)
			}
			a := p.do("POST", "/Users", body)
			if c.patch != "" {
				id, _ := a.get("id").(string)
				a = p.do("PATCH", "/Users/"+id, patch(c.patch))
			}
			if a.status != c.status {
				t.Fatalf("got %d %s, want %d", a.status, a.text, c.status)
			}
			wantStory(t, p.last(), c.want)
			p.pairs()
		})
	}
}

// An upstream that says yes and does not do it is not believed.
func TestTrailOfPhantoms(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	id := p.create("ann", `"title":"old","emails":[{"type":"work","value":"a@x.example"}]`)
	defer p.sim.Inject(simulator.Fault{Kind: simulator.Slow, Delay: 1, Op: scim.OpPatch})()
	q := p.through(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if req.Method == "PATCH" { // answers as if it were GET
			req = req.Clone(req.Context())
			req.Method, req.Body, req.ContentLength = "GET", http.NoBody, 0
			req.Header.Del("Content-Type")
		}
		return next.RoundTrip(req)
	})
	a := q.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"new"},{"op":"remove","path":"emails[type eq \"work\"]"},
		{"op":"add","path":"displayName","value":"Ann"}`))
	if a.status != 200 || a.get("title") != "old" || a.get("displayName") != nil {
		t.Errorf("got %d %s, want what the upstream really holds", a.status, a.text)
	}
	wantStory(t, q.last(), map[string]string{"title": "h1 h1 h2", `emails[type eq "work"]`: "absent absent h1", "displayName": "h1 h1 absent"})
}

// Action, findings and calls of every kind of request; what is refused is one record and sends nothing.
func TestTrailOfActions(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	id := p.create("ann", everything)
	other := p.create("bob", `"externalId":"e-2"`)
	cases := []struct {
		name, method, target, body string
		status                     int
		action                     string
		calls                      []string
		findings                   []string
	}{
		{"discovery", "GET", "/Schemas", "", 200, audit.Discovered, nil, nil},
		{"discovery of one", "GET", "/ResourceTypes/User", "", 200, audit.Discovered, nil, nil},
		{"match", "GET", "/Users?filter=userName+eq+%22ANN%22", "", 200, audit.Matched, []string{"GET /Users?filter=userName eq 200"}, []string{"suite allow"}},
		{"no match", "GET", "/Users?filter=userName+eq+%22nobody%22", "", 200, audit.Queried, []string{"GET /Users?filter=userName eq 200"}, []string{"suite allow"}},
		{"list", "GET", "/Users", "", 200, audit.Queried, []string{"GET /Users?startIndex&count 200"}, []string{"suite allow"}},
		{"groups", "GET", "/Groups", "", 200, audit.Queried, nil, []string{"operations remark", "suite allow"}},
		{"read", "GET", "/Users/" + id, "", 200, audit.Read, []string{"GET /Users/{id} 200"}, []string{"suite allow"}},
		{"read of none", "GET", "/Users/0", "", 404, audit.Failed, []string{"GET /Users/{id} 404"}, []string{"suite allow"}},
		{"replace", "PUT", "/Users/" + other, user("bob", `"displayName":"x"`), 200, audit.Updated, []string{"PUT /Users/{id} 200"},
			[]string{"upstream-lacks drop displayName", "suite allow"}},
		{"disable", "PATCH", "/Users/" + id, patch(`{"op":"Replace","path":"active","value":"False"}`), 200, audit.Disabled, []string{"PATCH /Users/{id} 200"},
			[]string{"normalize remark active", "suite allow"}},
		{"duplicate", "POST", "/Users", user("ANN", ""), 409, audit.Failed, []string{"POST /Users 409"}, []string{"suite allow"}},
		{"too long", "POST", "/Users", user(strings.Repeat("x", 31), ""), 400, audit.Refused, nil, []string{"length refuse userName"}},
		{"stale", "PATCH", "/Users/" + id, patch(`{"op":"replace","path":"title","value":"x"}`), 412, audit.Refused, []string{"GET /Users/{id} 200"}, nil},
		{"delete", "DELETE", "/Users/" + other, "", 204, audit.Deleted, []string{"DELETE /Users/{id} 204"}, []string{"suite allow"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before, sent := len(p.trail()), p.writesSent()
			var header []string
			if c.status == 412 {
				header = []string{"If-Match", `W/"another"`}
			}
			a := p.do(c.method, c.target, c.body, header...)
			if a.status != c.status {
				t.Fatalf("got %d %s, want %d", a.status, a.text, c.status)
			}
			records := p.trail()[before:]
			rec := records[len(records)-1]
			if rec.Action != c.action || rec.Answer.Status != c.status || rec.RequestID != a.header.Get("X-Request-Id") {
				t.Errorf("got action %s, status %d, request %s; want %s, %d, %s", rec.Action, rec.Answer.Status, rec.RequestID, c.action, c.status, a.header.Get("X-Request-Id"))
			}
			var calls []string
			for _, call := range rec.Calls {
				calls = append(calls, fmt.Sprintf("%s %d", call.Target, call.Status))
			}
			if got, want := fmt.Sprint(calls), fmt.Sprint(c.calls); got != want {
				t.Errorf("calls: got %s, want %s", got, want)
			}
			if got, want := fmt.Sprint(findings(rec)), fmt.Sprint(c.findings); got != want {
				t.Errorf("findings: got %s, want %s", got, want)
			}
			wrote := p.writesSent() - sent
			switch {
			case wrote == 0 && (len(records) != 1 || rec.Intent != 0):
				t.Errorf("got %d records for a request that changes nothing, want 1 without an intent", len(records))
			case wrote > 0 && (len(records) != 2 || records[0].Kind != audit.Intent || rec.Intent != records[0].Seq || records[0].Action == ""):
				t.Errorf("got %d records for a write, want an intent and its outcome", len(records))
			}
			for _, r := range records {
				if r.Subject.ID == id && r.Subject.UserName != "ann" && r.Kind != audit.Intent {
					t.Errorf("subject: got %+v, want its userName too", r.Subject)
				}
			}
		})
	}
	p.pairs()
	if got := p.trail()[len(p.trail())-1].Subject; got.UserName != "bob" || got.ID != other {
		t.Errorf("delete: got subject %+v, want bob", got)
	}
}

// writesSent counts the writes that reached the simulator.
func (p *harness) writesSent() int {
	return p.sim.Count(scim.OpCreate) + p.sim.Count(scim.OpReplace) + p.sim.Count(scim.OpPatch) + p.sim.Count(scim.OpDelete)
}

// Without a durable record nothing is sent and nothing is told.
func TestTrailDown(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	id := p.create("ann", "")
	before := p.writesSent()
	if err := p.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, target, body string }{
		{"POST", "/Users", user("bob", "")},
		{"PATCH", "/Users/" + id, patch(`{"op":"replace","path":"title","value":"x"}`)},
		{"PUT", "/Users/" + id, user("ann", "")},
		{"DELETE", "/Users/" + id, ""},
		{"GET", "/Users/" + id, ""},
		{"GET", "/Users?filter=userName+eq+%22ann%22", ""},
		{"GET", "/Groups", ""},
		{"GET", "/Schemas", ""},
		{"POST", "/Users", "{"},
	} {
		a := p.do(c.method, c.target, c.body)
		if a.status != 503 || a.header.Get("Retry-After") == "" || a.get("id") != nil {
			t.Errorf("%s %s: got %d %s, want 503 with Retry-After", c.method, c.target, a.status, a.text)
		}
	}
	if a := p.do("GET", "/Users", "", "Authorization", "Bearer nope"); a.status != 401 {
		t.Errorf("without a token: got %d, want 401 with or without a trail", a.status)
	}
	if got := p.writesSent() - before; got != 0 {
		t.Errorf("%d writes went upstream without an intent, want 0", got)
	}
}

// An outcome that cannot be stored after the upstream has changed: the answer is true, readiness turns red, and the
// next process closes the intent.
func TestOutcomeCannotBeStored(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	q := p.through(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		res, err := next.RoundTrip(req)
		if closing := p.store.Close(); closing != nil {
			t.Error(closing)
		}
		return res, err
	})
	if a := q.do("POST", "/Users", user("ann", `"externalId":"e-1"`)); a.status != 201 || a.get("externalId") != "e-1" {
		t.Errorf("got %d %s, want the truth", a.status, a.text)
	}
	if q.store.Healthy() == nil || !strings.Contains(p.logs.String(), "the outcome cannot be stored") {
		t.Error("nobody is told that the trail lacks the outcome")
	}
	st, err := store.Open(t.Context(), store.Config{Path: p.database})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	if taken, err := st.TakeOver(t.Context()); err != nil || len(taken) != 1 {
		t.Fatalf("got %d intents to take over, %v, want 1", len(taken), err)
	}
	r := q.another(func(cfg *Config) { cfg.Store = st })
	r.reconcile()
	r.finds(`externalId eq "e-1"`, 1, "ann")
	r.pairs()
}

// A flood of requests without a token is recorded in part; the rest is counted.
func TestTrailOfStrangers(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	const flood = 200
	for range flood {
		if a := p.do("GET", "/Users", "", "Authorization", "Bearer nope"); a.status != 401 {
			t.Fatalf("got %d, want 401", a.status)
		}
	}
	waitFor(t, "the count", func() bool {
		records, counts := p.counted(audit.Unauthenticated, 401)
		return counts > 0 && records > 0 && records+counts == flood
	})
}

// A record holds what the trail takes, however much a request asks for.
func TestTrailIsBounded(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	var unknown, roles []string
	for i := range 400 {
		unknown = append(unknown, fmt.Sprintf(`"custom-%d":"x"`, i))
	}
	for i := range 1000 {
		roles = append(roles, fmt.Sprintf(`{"value":"r%d","primary":"False"}`, i))
	}
	a := p.do("POST", "/Users", user("ann", `"roles":[`+strings.Join(roles, ",")+`],`+strings.Join(unknown, ",")))
	if a.status != 201 {
		t.Fatalf("got %d %s, want 201", a.status, a.text)
	}
	rec := p.last()
	if len(rec.Findings) > mostFindings+3 || len(rec.Attributes) > mostAttributes {
		t.Errorf("got %d findings and %d attributes, want at most %d and %d", len(rec.Findings), len(rec.Attributes), mostFindings, mostAttributes)
	}
	if n := len(audit.Append(nil, rec)); n > 64<<10 {
		t.Errorf("got a record of %d bytes, want at most 64 KiB", n)
	}
	p.do("GET", "/Users/"+strings.Repeat("x", 8000), "")
	if got := p.last().Subject.ID; len(got) > audit.ClipLimit {
		t.Errorf("got a subject id of %d bytes, want it clipped", len(got))
	}
	p.pairs()
}

// An intent that becomes durable too late is abandoned, and nothing was sent.
func TestIntentThatComesTooLate(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := p.request(scim.OpCreate, "", user("ann", ""))
	if _, err := p.gateway.Do(ctx, req); err == nil {
		t.Error("got no error, want a refusal: the client is gone before anything was sent")
	}
	if n := p.writesSent(); n != 0 {
		t.Errorf("%d writes went upstream, want 0", n)
	}
	p.pairs()
}
