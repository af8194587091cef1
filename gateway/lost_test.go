package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

// quick lets attempts and exchanges end soon.
func quick(_ *simulator.Config, up *upConfig, _ *DoorConfig) {
	up.Timeout, up.Deadline = 200*time.Millisecond, 600*time.Millisecond
}

// A create whose answer is lost is found again: one user, and the client is told 201.
func TestLostCreates(t *testing.T) {
	for _, kind := range []simulator.Kind{simulator.Lost, simulator.Truncate, simulator.HTML, simulator.Reset, simulator.Hang} {
		for _, name := range []string{"bluejeans", "generic"} {
			t.Run(fmt.Sprintf("%s/%s", kind, name), func(t *testing.T) {
				p := newHarness(t, builtin(t, name), quick)
				fault := simulator.Fault{Kind: kind, Op: scim.OpCreate, Times: 1, When: simulator.After}
				p.sim.Inject(fault)
				a := p.do("POST", "/Users", user("ann", `"externalId":"e-1","title":"Boss"`))
				if a.status != 201 || a.get("externalId") != "e-1" || a.get("title") != "Boss" || a.header.Get("Location") == "" {
					t.Fatalf("got %d %s, want 201 with the user", a.status, a.text)
				}
				if n := len(p.sim.Resources("User")); n != 1 || p.sim.Count(scim.OpCreate) != 1 {
					t.Errorf("got %d users from %d creates, want one from one", n, p.sim.Count(scim.OpCreate))
				}
				rec := p.last()
				if rec.Action != audit.Adopted || rec.Kind != audit.Outcome || len(rec.Calls) < 2 || !strings.Contains(strings.Join(findings(rec), ","), "lost-answer remark") {
					t.Errorf("got %s %s with %d calls and %v, want an adoption that is told", rec.Kind, rec.Action, len(rec.Calls), findings(rec))
				}
				wantStory(t, rec, map[string]string{"userName": `"ann" "ann" "ann"`, "title": "h1 h1 h1", "externalId": story(rec)["externalId"]})
				p.finds(`externalId eq "e-1"`, 1, "ann")
				p.pairs()
			})
		}
	}
}

// Whose answer is lost and who was there before is somebody else: a 503, and nothing of it is taken.
func TestLostCreateOfSomebodyElse(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"), quick)
	if _, err := p.sim.Put("User", scim.Resource{"userName": "ann"}); err != nil {
		t.Fatal(err)
	}
	p.sim.Inject(simulator.Fault{Kind: simulator.Reset, Op: scim.OpCreate, Times: 1})
	a := p.do("POST", "/Users", user("ann", `"externalId":"e-1"`))
	if a.status != 503 || a.header.Get("Retry-After") == "" || p.last().Kind != audit.Unknown {
		t.Errorf("got %d %s as %s, want 503 and unknown", a.status, a.text, p.last().Kind)
	}
	p.finds(`externalId eq "e-1"`, 0)
	p.reconcile()
	if rec := p.last(); rec.Kind != audit.Reconciled || rec.Action != audit.Failed {
		t.Errorf("got %s %s, want reconciled as failed", rec.Kind, rec.Action)
	}
	p.finds(`externalId eq "e-1"`, 0)
}

// What an upstream does wrong, as a client sees it: table of decision 10.
func TestUpstreamFaults(t *testing.T) {
	cases := []struct {
		name   string
		fault  simulator.Fault
		method string // GET, or a write
		status int
		detail string
		after  string // Retry-After
		kind   string
	}{
		{"html 404 is not gone", simulator.Fault{Kind: simulator.HTML, Status: 404}, "GET", 502, "nothing is known to be gone", "", audit.Outcome},
		{"html 404 to a delete", simulator.Fault{Kind: simulator.HTML, Status: 404}, "DELETE", 502, "nothing is known to be gone", "", audit.Outcome},
		{"html 200", simulator.Fault{Kind: simulator.HTML}, "GET", 502, "of no use", "", audit.Outcome},
		{"401 is the gateway's", simulator.Fault{Kind: simulator.Status, Status: 401}, "PATCH", 502, "gateway's credentials", "", audit.Outcome},
		{"403 too", simulator.Fault{Kind: simulator.Status, Status: 403}, "GET", 502, "gateway's credentials", "", audit.Outcome},
		{"hang", simulator.Fault{Kind: simulator.Hang}, "GET", 504, "did not answer in time", "", audit.Outcome},
		{"hang of a write", simulator.Fault{Kind: simulator.Hang}, "PATCH", 504, "not known", "", audit.Unknown},
		{"503 passes on Retry-After", simulator.Fault{Kind: simulator.Status, Status: 503, RetryAfter: 7 * time.Second}, "PATCH", 503, "nothing was done", "7", audit.Outcome},
		{"429 beyond the wait", simulator.Fault{Kind: simulator.Status, Status: 429, RetryAfter: 9 * time.Second}, "PATCH", 429, "nothing was done", "9", audit.Outcome},
		{"reset", simulator.Fault{Kind: simulator.Reset}, "GET", 503, "cannot be reached", "5", audit.Outcome},
		{"500 to a write", simulator.Fault{Kind: simulator.Status, Status: 500}, "PATCH", 503, "not known", "5", audit.Unknown},
		{"500 to a delete", simulator.Fault{Kind: simulator.Status, Status: 500}, "DELETE", 503, "not known", "5", audit.Unknown},
		{"truncated", simulator.Fault{Kind: simulator.Truncate}, "GET", 502, "of no use", "", audit.Outcome},
		{"redirect", simulator.Fault{Kind: simulator.Status, Status: 302}, "GET", 502, "redirect", "", audit.Outcome},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newHarness(t, builtin(t, "bluejeans"), quick)
			id := p.create("ann", `"externalId":"e-1"`)
			p.sim.Inject(c.fault)
			body := ""
			if c.method == "PATCH" {
				body = patch(`{"op":"replace","value":{"title":"x","externalId":"e-2"}}`)
			}
			a := p.do(c.method, "/Users/"+id, body)
			if a.status != c.status || !strings.Contains(a.detail(), c.detail) || a.header.Get("Retry-After") != c.after {
				t.Errorf("got %d %q Retry-After %q, want %d ...%s... %q", a.status, a.detail(), a.header.Get("Retry-After"), c.status, c.detail, c.after)
			}
			rec := p.last()
			if rec.Kind != c.kind || rec.Answer.Status != c.status || len(rec.Calls) == 0 {
				t.Errorf("got %s, status %d, %d calls; want %s, %d", rec.Kind, rec.Answer.Status, len(rec.Calls), c.kind, c.status)
			}
			if c.kind == audit.Outcome && rec.Action != audit.Failed {
				t.Errorf("got action %s, want failed", rec.Action)
			}
			p.pairs()
		})
	}
}

// What is absorbed the client never sees.
func TestAbsorbed(t *testing.T) {
	cases := []struct {
		name   string
		fault  simulator.Fault
		method string
		status int
	}{
		{"429", simulator.Fault{Kind: simulator.Status, Status: 429, RetryAfter: time.Second, Times: 1}, "PATCH", 200},
		{"503", simulator.Fault{Kind: simulator.Status, Status: 503, Times: 1}, "PATCH", 200},
		{"lost PATCH", simulator.Fault{Kind: simulator.Lost, Op: scim.OpPatch, Times: 1}, "PATCH", 200},
		{"lost DELETE", simulator.Fault{Kind: simulator.Lost, Op: scim.OpDelete, Times: 1}, "DELETE", 204},
		{"lost PUT", simulator.Fault{Kind: simulator.Lost, Op: scim.OpReplace, Times: 1}, "PUT", 200},
		{"reset GET", simulator.Fault{Kind: simulator.Reset, Times: 1}, "GET", 200},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newHarness(t, builtin(t, "bluejeans"))
			id := p.create("ann", `"externalId":"e-1"`)
			p.sim.Inject(c.fault)
			body := ""
			switch c.method {
			case "PATCH":
				body = patch(`{"op":"replace","value":{"title":"x","externalId":"e-2"}}`)
			case "PUT":
				body = user("ann", `"title":"x","externalId":"e-2"`)
			}
			if a := p.do(c.method, "/Users/"+id, body); a.status != c.status || body != "" && (a.get("externalId") != "e-2" || a.get("title") != "x") {
				t.Errorf("got %d %s, want %d", a.status, a.text, c.status)
			}
			if rec := p.last(); rec.Kind != audit.Outcome || len(rec.Calls) < 2 {
				t.Errorf("got %s with %d calls, want the outcome of several", rec.Kind, len(rec.Calls))
			}
			p.pairs()
		})
	}
}

// Five failures open the breaker: then nothing is sent, no intent is written, and the client waits for Retry-After.
func TestBreakerOpen(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"), quick)
	id := p.create("ann", "")
	p.sim.Inject(simulator.Fault{Kind: simulator.Status, Status: 500})
	for range 5 {
		p.do("GET", "/Users/"+id, "")
	}
	if state := p.gateway.Upstream.State().Breaker; state != "open" {
		t.Fatalf("got breaker %s, want open", state)
	}
	before := len(p.trail())
	var a answer
	if n := p.calls(func() { a = p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"x"}`)) }); n != 0 {
		t.Errorf("got %d calls, want 0", n)
	}
	if a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("got %d %s, want 503 with Retry-After", a.status, a.text)
	}
	records := p.trail()[before:]
	if len(records) != 1 || records[0].Action != audit.Failed || story(records[0])["title"] != "h1 - -" {
		t.Errorf("got %d records, %v, want one that says nothing was sent", len(records), records)
	}
}

// A panic on the way is a bare 500; after the intent it leaves open what was done.
func TestPanicIsRecorded(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	id := p.create("ann", "")
	q := p.through(func(*http.Request, http.RoundTripper) (*http.Response, error) { panic("a value nobody may see") })
	for _, c := range []struct{ method, body, kind string }{
		{"GET", "", audit.Outcome},
		{"PATCH", patch(`{"op":"replace","path":"title","value":"x"}`), audit.Unknown},
	} {
		a := q.do(c.method, "/Users/"+id, c.body)
		if a.status != 500 || !strings.Contains(a.detail(), "internal error") || q.last().Kind != c.kind || q.last().Error == "" {
			t.Errorf("%s: got %d %s as %s, want a bare 500 as %s", c.method, a.status, a.text, q.last().Kind, c.kind)
		}
	}
	if strings.Contains(p.logs.String(), "nobody may see") {
		t.Error("the panic's text is in the logs")
	}
	if a := p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"x"}`)); a.status != 200 {
		t.Errorf("afterwards: got %d, want 200: the lock is open", a.status)
	}
	q.pairs()
}
