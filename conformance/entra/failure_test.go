package entra

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func scimError(status int, scimType, detail string) string {
	return fmt.Sprintf(`{"schemas":["%s"],"status":"%d","scimType":"%s","detail":"%s"}`, errorURN, status, scimType, detail)
}

const emptyList = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"totalResults":0,"Resources":[],"startIndex":1,"itemsPerPage":20}`

func TestTestConnection(t *testing.T) {
	scim := http.Header{"Content-Type": {"application/scim+json"}}
	tests := []struct {
		name   string
		users  func() (int, http.Header, string)
		groups func() (int, http.Header, string)
		rule   string
		reason string
		failed int
	}{
		{name: "works"},
		{name: "404 for Groups", rule: "protocol", reason: "/Groups was answered with 404", failed: 1,
			groups: func() (int, http.Header, string) { return 404, scim, scimError(404, "", "no groups here") }},
		{name: "401", rule: "credentials", reason: "401", failed: 1,
			users: func() (int, http.Header, string) { return 401, scim, scimError(401, "", "token") }},
		{name: "not JSON", rule: "protocol", reason: "not a JSON object", failed: 1,
			users: func() (int, http.Header, string) { return 200, scim, "<html>" }},
		{name: "two documents", rule: "protocol", reason: "not a JSON object", failed: 1,
			users: func() (int, http.Header, string) { return 200, scim, emptyList + emptyList }},
		{name: "HTML", rule: "protocol", reason: "media type", failed: 1,
			users: func() (int, http.Header, string) { return 200, http.Header{"Content-Type": {"text/html"}}, emptyList }},
		{name: "not a ListResponse", rule: "protocol", reason: "schemas", failed: 1,
			users: func() (int, http.Header, string) { return 200, scim, `{"totalResults":0,"Resources":[]}` }},
		{name: "no totalResults", rule: "protocol", reason: "totalResults", failed: 1,
			users: func() (int, http.Header, string) { return 200, scim, `{"schemas":["` + listURN + `"],"Resources":[]}` }},
		{name: "no id", rule: "protocol", reason: "without an id", failed: 1,
			users: func() (int, http.Header, string) {
				return 200, scim, `{"schemas":["` + listURN + `"],"totalResults":1,"Resources":[{"userName":"x"}]}`
			}},
		{name: "filter ignored", rule: "protocol", reason: "random GUID", failed: 1,
			users: func() (int, http.Header, string) {
				return 200, scim, `{"schemas":["` + listURN + `"],"totalResults":1,"Resources":[{"id":"1"}]}`
			}},
		{name: "redirect", rule: "protocol", reason: "redirect 302", failed: 1,
			users: func() (int, http.Header, string) { return 302, http.Header{"Location": {"/elsewhere"}}, "" }},
		{name: "too large", rule: "protocol", reason: "more than 8388608 bytes", failed: 1,
			users: func() (int, http.Header, string) { return 200, scim, strings.Repeat(" ", maxAnswer+1) }},
		{name: "500 is no quarantine", failed: 1,
			users: func() (int, http.Header, string) { return 500, scim, scimError(500, "", "oops") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, base := startFake(t)
			f.answer = func(c call) (int, http.Header, string) {
				if answer := map[bool]func() (int, http.Header, string){true: tt.users, false: tt.groups}[strings.Contains(c.uri, "/Users")]; answer != nil {
					return answer()
				}
				return 0, nil, ""
			}
			r := cycleRun(t, func() (*Report, error) { return newClient(t, base, nil).TestConnection(t.Context()) })
			if q := r.Quarantine; q.Rule != tt.rule || !strings.Contains(q.Reason, tt.reason) || r.Totals.Failed != tt.failed {
				t.Errorf("got %+v, %d failed, want rule %q, %q, %d failed", q, r.Totals.Failed, tt.rule, tt.reason, tt.failed)
			}
			if r.OK() != (tt.failed == 0) {
				t.Errorf("OK: got %v", r.OK())
			}
			guid := r.Entries[0].UserName
			wantLines(t, lines(f.take()), []string{
				"GET /Users?filter=userName+eq+%22" + guid + "%22",
				"GET /Groups?excludedAttributes=members&filter=displayName+eq+%22" + guid + "%22",
			})
		})
	}
}

// TestFailures answers one person's request with something else and looks at
// what the log, the escrow and the next cycle make of it.
func TestFailures(t *testing.T) {
	scim := http.Header{"Content-Type": {"application/scim+json"}}
	tests := []struct {
		name   string
		method string
		status int
		header http.Header
		body   string
		step   Step
		rule   string
	}{
		{"409", "POST", 409, scim, scimError(409, "uniqueness", "taken, request r-7"),
			Step{Action: Create, Status: Failure, HTTP: 409, ErrorCode: "EntryConflict", Detail: "taken, request r-7", ScimType: "uniqueness"}, ""},
		{"400", "POST", 400, scim, scimError(400, "invalidValue", "userName is longer than 30 characters"),
			Step{Action: Create, Status: Failure, HTTP: 400, ErrorCode: "BadRequest", Detail: "userName is longer than 30 characters", ScimType: "invalidValue"}, ""},
		{"429", "GET", 429, http.Header{"Retry-After": {"17"}}, scimError(429, "", "slow down"),
			Step{Action: Match, Status: Failure, HTTP: 429, Attributes: []string{"userName"}, ErrorCode: "TooManyRequests", Detail: "slow down", RetryAfter: "17"}, ""},
		{"503 without a SCIM body", "POST", 503, http.Header{"Content-Type": {"text/plain"}}, "upstream\x1b[2J down",
			Step{Action: Create, Status: Failure, HTTP: 503, ErrorCode: "InternalServerError", Detail: "upstream\x1b[2J down"}, ""},
		{"403", "POST", 403, scim, scimError(403, "", "no"),
			Step{Action: Create, Status: Failure, HTTP: 403, ErrorCode: "InsufficientRights", Detail: "no"}, "credentials"},
		{"404 in place of an empty list", "GET", 404, scim, scimError(404, "", "no"),
			Step{Action: Match, Status: Failure, HTTP: 404, Attributes: []string{"userName"}, ErrorCode: "SystemForCrossDomainIdentityManagementServiceIncompatible",
				Detail: "a query of /Users was answered with 404 in place of 200 and an empty ListResponse"}, "protocol"},
		{"created without an id", "POST", 201, scim, `{"schemas":["` + userURN + `"],"userName":"ann"}`,
			Step{Action: Create, Status: Failure, HTTP: 201, ErrorCode: "SystemForCrossDomainIdentityManagementServiceIncompatible",
				Detail: "POST /Users was answered with a resource without an id"}, "protocol"},
		{"filter ignored", "GET", 200, scim, `{"schemas":["` + listURN + `"],"totalResults":1,"Resources":[{"id":"9","userName":"eve"}]}`,
			Step{Action: Match, Status: Failure, HTTP: 200, Attributes: []string{"userName"}, ErrorCode: "SystemForCrossDomainIdentityManagementServiceIncompatible",
				Detail: "the matching query was answered with a resource whose userName is another one: the filter was not applied"}, ""},
		{"two matches", "GET", 200, scim, `{"schemas":["` + listURN + `"],"totalResults":2,"Resources":[{"id":"1","userName":"ann"},{"id":"2","userName":"ann"}]}`,
			Step{Action: Match, Status: Failure, HTTP: 200, Attributes: []string{"userName"}, ErrorCode: "SystemForCrossDomainIdentityManagementMultipleEntriesInResponse",
				Detail: "the matching query was answered with more than one resource"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, base := startFake(t)
			f.answer = func(c call) (int, http.Header, string) {
				if c.method == tt.method && (strings.Contains(c.uri, "ann") || strings.Contains(c.body, "ann")) {
					return tt.status, tt.header, tt.body
				}
				return 0, nil, ""
			}
			c := newClient(t, base, short)
			bob := person("o2", "bob")
			bob.ManagerObjectID = "o1"
			d := newDirectory(t, person("o1", "ann"), bob)
			r := cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
			e := r.Entries[0]
			if got := e.Steps[len(e.Steps)-1]; fmt.Sprint(got) != fmt.Sprint(tt.step) {
				t.Errorf("step:\n got %+v\nwant %+v", got, tt.step)
			}
			if e.Status != Failure || e.Action != EntryLevelError || r.Totals.Failed != 1 {
				t.Errorf("got entry %s %s, totals %+v, want one failed", e.Action, e.Status, r.Totals)
			}
			if r.Quarantine.Rule != tt.rule || (tt.rule != "") != (r.Totals.NotProcessed == 1) {
				t.Errorf("got %+v, %d not processed, want rule %q", r.Quarantine, r.Totals.NotProcessed, tt.rule)
			}
			if tt.rule == "" && !slices.Equal(c.Escrowed(), []string{"o1", "o2"}) {
				t.Errorf("escrow: got %v, want the failed person and the one whose manager is missing", c.Escrowed())
			}
			var text strings.Builder
			must(t, r.WriteText(&text))
			if strings.Contains(text.String(), "\x1b") {
				t.Errorf("the text carries an escape sequence: %q", text.String())
			}
			if _, err := json.Marshal(r); err != nil {
				t.Errorf("JSON: %v", err)
			}

			f.answer = nil
			r = cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
			if !r.OK() || r.Totals.Objects != 2 || len(c.Escrowed()) != 0 {
				t.Errorf("next cycle: got %+v, escrow %v, want both done", r.Totals, c.Escrowed())
			}
			if got := readManager(f.resources["Users"][slices.IndexFunc(f.resources["Users"], func(u map[string]any) bool { return u["userName"] == "bob" })]); got == "" {
				t.Error("next cycle: the manager is still missing")
			}
		})
	}
}

func TestRemarksAndRetryAfter(t *testing.T) {
	f, base := startFake(t)
	n := 0
	f.answer = func(c call) (int, http.Header, string) {
		if n++; n == 1 {
			return 200, http.Header{"Content-Type": {"application/json"}}, emptyList
		}
		return 429, http.Header{"Retry-After": {"3"}}, "slow"
	}
	r := cycleRun(t, func() (*Report, error) { return newClient(t, base, nil).TestConnection(t.Context()) })
	if r.Throttled != 1 || !slices.Equal(r.RetryAfter, []string{"3"}) || r.Statuses[200] != 1 || r.Statuses[429] != 1 {
		t.Errorf("got %d throttled, %v, %v", r.Throttled, r.RetryAfter, r.Statuses)
	}
	var got []string
	for _, m := range r.Remarks {
		got = append(got, m.Text)
	}
	want := []string{"an answer with 429 has no SCIM error body; Entra's log shows the raw text",
		"answers have the media type application/json in place of application/scim+json (RFC 7644, Section 3.1)"}
	if !slices.Equal(got, want) {
		t.Errorf("remarks: got %q, want %q", got, want)
	}
}

func TestLostLink(t *testing.T) {
	f, base := startFake(t)
	c := newClient(t, base, short)
	d := newDirectory(t, person("o1", "ann"))
	cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
	f.resources["Users"] = nil
	must(t, d.Update("o1", func(p *Person) { p.DisplayName = "Ann" }))
	r := cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	if _, ok := c.Link("o1"); ok || r.Totals.Failed != 1 || r.Quarantine.Quarantined {
		t.Errorf("got link %v, %+v, %+v, want the link dropped and no quarantine", ok, r.Totals, r.Quarantine)
	}
	f.take()
	r = cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	if id, _ := c.Link("o1"); id != "102" || r.Totals.Created != 1 {
		t.Errorf("next cycle: got link %q, %+v, want a new user", id, r.Totals)
	}
	// A second DELETE is answered with 404, which is no failure.
	f.resources["Users"] = nil
	must(t, d.SoftDelete("o1"))
	must(t, d.HardDelete("o1"))
	r = cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	if r.Totals.Deleted != 1 || !r.OK() {
		t.Errorf("delete: got %+v, want one deleted", r.Totals)
	}
}

func TestChangedID(t *testing.T) {
	f, base := startFake(t)
	c := newClient(t, base, short)
	d := newDirectory(t, person("o1", "ann"))
	cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
	f.shows = func(r map[string]any) { r["id"] = "x" }
	must(t, d.Disable("o1"))
	r := cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	if r.Quarantine.Rule != "protocol" || !strings.Contains(r.Quarantine.Reason, "another id") {
		t.Errorf("got %+v, want a protocol failure", r.Quarantine)
	}
}

// TestRetries tries failed objects again within the cycle, and waits first as
// long as Retry-After asks.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		f := &fake{resources: map[string][]map[string]any{}, next: 100, noBody: true}
		f.answer = func(c call) (int, http.Header, string) {
			if c.method == "POST" {
				if n++; n <= 2 {
					return 429, http.Header{"Retry-After": {"20"}}, scimError(429, "", "slow down")
				}
			}
			return 0, nil, ""
		}
		c := newClient(t, "http://fake.example/scim/v2", func(cfg *Config) {
			short(cfg)
			cfg.Retries, cfg.HTTP = 3, &http.Client{Transport: handlerTransport{f}}
		})
		start := time.Now()
		r := cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), newDirectory(t, person("o1", "ann"))) })
		if !r.OK() || r.Totals.Created != 1 || r.Throttled != 2 || r.Entries[0].Status != Success {
			t.Errorf("got %+v, %d throttled, %s", r.Totals, r.Throttled, r.Entries[0].Status)
		}
		if got := time.Since(start); got != 40*time.Second {
			t.Errorf("waited %s, want 40s", got)
		}
	})
}

// TestRate counts exchanges in virtual time.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{resources: map[string][]map[string]any{}, noBody: true}
		var at []time.Time
		c := newClient(t, "http://fake.example/scim/v2", func(cfg *Config) {
			cfg.Rate, cfg.Workers, cfg.HTTP = 25, 8, &http.Client{Transport: handlerTransport{f}}
			cfg.Observe = func(e Exchange) { at = append(at, e.Started) }
		})
		r := cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), newDirectory(t, Generate(50, 1)...)) })
		if got, want := r.Duration, time.Duration(r.Requests-1)*40*time.Millisecond; got != want {
			t.Errorf("%d requests took %s, want %s", r.Requests, got, want)
		}
		for i := 1; i < len(at); i++ {
			if gap := at[i].Sub(at[i-1]); gap < 40*time.Millisecond {
				t.Errorf("request %d came %s after the one before, want 40ms or more", i, gap)
			}
		}
	})
}

// handlerTransport answers without a network, so that time can be virtual.
type handlerTransport struct{ h http.Handler }

func (h handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	r = r.Clone(r.Context())
	r.RequestURI = r.URL.RequestURI()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	h.h.ServeHTTP(w, r)
	return w.Result(), nil
}

// TestWriteFailures refuses each kind of write to a known resource once.
func TestWriteFailures(t *testing.T) {
	user := func(d *Directory) error { return d.Rename("o1", "anna") }
	manager := func(d *Directory) error { return d.Update("o1", func(p *Person) { p.ManagerObjectID = "o2" }) }
	remove := func(d *Directory) error {
		if err := d.SoftDelete("o1"); err != nil {
			return err
		}
		return d.HardDelete("o1")
	}
	group := func(d *Directory) error { return d.UpdateGroup("g1", func(g *Group) { g.DisplayName = "All" }) }
	members := func(d *Directory) error { return d.UpdateGroup("g1", func(g *Group) { g.Members = []string{"o1"} }) }
	tests := []struct {
		name   string
		change func(*Directory) error
		method string
		status int
		step   Action
		code   string
		object string
		linked bool
	}{
		{"PATCH gone", user, "PATCH", 404, Update, "InvalidAnchor", "o1", false},
		{"PATCH refused", user, "PATCH", 422, Update, "UnprocessableEntity", "o1", true},
		{"manager gone", manager, "PATCH", 404, Reference, "InvalidAnchor", "o1", false},
		{"DELETE refused", remove, "DELETE", 501, Delete, "NotImplemented", "o1", true},
		{"group gone", group, "GET", 404, Import, "InvalidAnchor", "g1", false},
		{"group refused", group, "PATCH", 409, Update, "EntryConflict", "g1", true},
		{"members gone", members, "PATCH", 404, Reference, "InvalidAnchor", "g1", false},
		{"group DELETE", func(d *Directory) error { return d.DeleteGroup("g1") }, "DELETE", 500, Delete, "InternalServerError", "g1", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, base := startFake(t)
			c := newClient(t, base, short)
			d := newDirectory(t, person("o1", "ann"), person("o2", "bob"))
			must(t, d.AddGroup(Group{ObjectID: "g1", DisplayName: "Staff"}))
			cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
			must(t, tt.change(d))
			f.answer = func(c call) (int, http.Header, string) {
				if c.method == tt.method {
					return tt.status, nil, scimError(tt.status, "", "no")
				}
				return 0, nil, ""
			}
			r := cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
			steps := r.Entries[0].Steps
			i := slices.IndexFunc(steps, func(s Step) bool { return s.Status == Failure })
			if i < 0 || steps[i].Action != tt.step || steps[i].ErrorCode != tt.code || steps[i].Detail != "no" {
				t.Errorf("steps: got %+v, want %s to fail with %s", steps, tt.step, tt.code)
			}
			if _, ok := c.Link(tt.object); ok != tt.linked || !slices.Equal(c.Escrowed(), []string{tt.object}) {
				t.Errorf("got link %v, escrow %v, want %v and %s in escrow", ok, c.Escrowed(), tt.linked, tt.object)
			}
			f.answer = nil
			r = cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
			if !r.OK() || len(c.Escrowed()) != 0 {
				t.Errorf("next cycle: got %+v, escrow %v", r.Totals, c.Escrowed())
			}
		})
	}
}

func TestRetryDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for header, want := range map[string]time.Duration{
			"": 0, "soon": 0, "-5": 0, "20": 20 * time.Second, "86400": time.Minute, "99999999999999999999": 0,
			time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat): 30 * time.Second,
			time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat):       0,
			time.Now().Add(time.Hour).UTC().Format(http.TimeFormat):        time.Minute,
		} {
			if got := retryDelay(header); got != want {
				t.Errorf("retryDelay(%q): got %s, want %s", header, got, want)
			}
		}
	})
}
