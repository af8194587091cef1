package entra

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func person(id, userName string) Person {
	return Person{ObjectID: id, UserName: userName, GivenName: "G", FamilyName: "F", DisplayName: "G F", Mail: userName + "@example.com", Enabled: true}
}

// short maps few attributes, so that the golden lines stay readable.
func short(cfg *Config) { cfg.Attributes = []string{"userName", "active", "displayName", managerPath} }

const (
	createHead = `{"schemas":["` + userURN + `","` + enterpriseURN + `"],`
	patchHead  = `{"schemas":["` + patchURN + `"],"Operations":[`
)

// TestLifecycle walks one person through every transition, and pins what is
// sent in each cycle.
func TestLifecycle(t *testing.T) {
	f, base := startFake(t)
	c := newClient(t, base, short)
	boss, ann := person("o1", "boss"), person("o2", "ann")
	boss.ManagerObjectID, ann.ManagerObjectID = "nobody", "o1"
	d := newDirectory(t, ann, boss)
	steps := []struct {
		name   string
		change func() error
		want   []string
		totals Totals
	}{
		{"initial", nil, []string{
			`GET /Users?filter=userName+eq+%22ann%22`,
			`POST /Users ` + createHead + `"userName":"ann","active":true,"displayName":"G F","meta":{"resourceType":"User"},"roles":[]}`,
			`GET /Users?filter=userName+eq+%22boss%22`,
			`POST /Users ` + createHead + `"userName":"boss","active":true,"displayName":"G F","meta":{"resourceType":"User"},"roles":[]}`,
			`PATCH /Users/101 ` + patchHead + `{"op":"Add","path":"` + managerPath + `","value":"102"}]}`,
		}, Totals{Objects: 2, Created: 2}},
		{"update", func() error { return d.Update("o2", func(p *Person) { p.DisplayName = "Ann" }) }, []string{
			`GET /Users/101`,
			`PATCH /Users/101 ` + patchHead + `{"op":"Replace","path":"displayName","value":"Ann"}]}`,
		}, Totals{Objects: 1, Updated: 1}},
		{"cleared is never sent", func() error { return d.Update("o2", func(p *Person) { p.DisplayName, p.ManagerObjectID = "", "" }) },
			[]string{`GET /Users/101`}, Totals{Objects: 1, Skipped: 1}},
		{"rename", func() error { return d.Rename("o2", "anna") }, []string{
			`GET /Users/101`,
			`PATCH /Users/101 ` + patchHead + `{"op":"Replace","path":"userName","value":"anna"}]}`,
		}, Totals{Objects: 1, Updated: 1}},
		{"disable", func() error { return d.Disable("o2") }, []string{
			`GET /Users/101`,
			`PATCH /Users/101 ` + patchHead + `{"op":"Replace","path":"active","value":"False"}]}`,
		}, Totals{Objects: 1, Disabled: 1}},
		{"restore", func() error { return d.Restore("o2") }, []string{
			`GET /Users/101`,
			`PATCH /Users/101 ` + patchHead + `{"op":"Replace","path":"active","value":"True"}]}`,
		}, Totals{Objects: 1, Restored: 1}},
		{"soft delete sends nothing but active", func() error {
			return d.Update("o2", func(p *Person) { p.SoftDeleted, p.DisplayName = true, "Gone" })
		}, []string{
			`GET /Users/101`,
			`PATCH /Users/101 ` + patchHead + `{"op":"Replace","path":"active","value":"False"}]}`,
		}, Totals{Objects: 1, Disabled: 1}},
		{"hard delete", func() error { return d.HardDelete("o2") }, []string{`DELETE /Users/101`}, Totals{Objects: 1, Deleted: 1}},
		{"nothing changed", nil, nil, Totals{}},
	}
	for i, s := range steps {
		if s.change != nil {
			must(t, s.change())
		}
		run := c.Incremental
		if i == 0 {
			run = c.Initial
		}
		r := cycleRun(t, func() (*Report, error) { return run(t.Context(), d) })
		t.Run(s.name, func(t *testing.T) {
			wantLines(t, lines(f.take()), s.want)
			if r.Totals != s.totals {
				t.Errorf("totals: got %+v, want %+v", r.Totals, s.totals)
			}
			if !r.OK() || len(r.Unstable) != 0 || len(r.Escrowed) != 0 {
				t.Errorf("got quarantine %+v, unstable %v, escrow %v, want none", r.Quarantine, r.Unstable, r.Escrowed)
			}
		})
	}
}

func TestUnassignedIsNeverDeleted(t *testing.T) {
	f, base := startFake(t)
	c := newClient(t, base, short)
	d := newDirectory(t, person("o1", "ann"))
	cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
	must(t, d.Unassign("o1"))
	r := cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	if r.Totals.Disabled != 1 {
		t.Errorf("unassign: got %+v, want one disabled", r.Totals)
	}
	f.take()
	must(t, d.SoftDelete("o1"))
	must(t, d.HardDelete("o1"))
	r = cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	if calls := f.take(); len(calls) != 0 || r.Totals.Skipped != 1 {
		t.Errorf("hard delete after unassign: got calls %v and %+v, want none and one skipped", lines(calls), r.Totals)
	}
}

func TestMatchAdoptsAndExportsDifferences(t *testing.T) {
	f, base := startFake(t)
	f.resources["Users"] = []map[string]any{
		{"id": "7", "userName": "ANN", "active": true, "displayName": "Old"},
		{"id": "8", "userName": "bob", "active": true, "displayName": "G F"},
	}
	c := newClient(t, base, short)
	gone := person("o3", "carl")
	gone.SoftDeleted = true
	d := newDirectory(t, person("o1", "ann"), person("o2", "bob"), gone)
	r := cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
	wantLines(t, lines(f.take()), []string{
		`GET /Users?filter=userName+eq+%22ann%22`,
		`PATCH /Users/7 ` + patchHead + `{"op":"Replace","path":"userName","value":"ann"},{"op":"Replace","path":"displayName","value":"G F"}]}`,
		`GET /Users?filter=userName+eq+%22bob%22`,
		`GET /Users?filter=userName+eq+%22carl%22`,
	})
	if want := (Totals{Objects: 3, Updated: 1, Skipped: 2}); r.Totals != want {
		t.Errorf("totals: got %+v, want %+v", r.Totals, want)
	}
	if id, ok := c.Link("o2"); !ok || id != "8" {
		t.Errorf("Link(o2): got %q, %v, want 8", id, ok)
	}
}

func TestOnDemandIgnoresTheFlag(t *testing.T) {
	f, base := startFake(t)
	c := newClient(t, base+"?aadOptscim062020", short)
	d := newDirectory(t, person("o1", "ann"))
	cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
	must(t, d.Disable("o1"))
	f.take()
	r := cycleRun(t, func() (*Report, error) { return c.OnDemand(t.Context(), d, "o1") })
	wantLines(t, lines(f.take()), []string{
		`GET /Users?aadOptscim062020&filter=userName+eq+%22ann%22`,
		`PATCH /Users/101?aadOptscim062020 ` + patchHead + `{"op":"Replace","path":"active","value":"False"}]}`,
	})
	if r.Dialect != Legacy || r.Totals.Disabled != 1 {
		t.Errorf("got %v, %+v, want the legacy dialect and one disabled", r.Dialect, r.Totals)
	}
	if _, err := c.OnDemand(t.Context(), d, "o9"); err == nil {
		t.Error("OnDemand of an unknown person: got no error")
	}
}

func TestGroups(t *testing.T) {
	for _, tt := range []struct {
		query, add, remove string
	}{
		{"", "Add", `{"op":"Remove","path":"members","value":[{"value":"101"}]}`},
		{"?" + rfcFlag, "add", `{"op":"remove","path":"members[value eq \"101\"]"}`},
	} {
		t.Run(tt.add, func(t *testing.T) {
			f, base := startFake(t)
			c := newClient(t, base+tt.query, short)
			d := newDirectory(t, person("o1", "ann"), person("o2", "bob"))
			must(t, d.AddGroup(Group{ObjectID: "g1", DisplayName: "Staff", Members: []string{"o1", "o2", "o9"}}))
			r := cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
			if !r.OK() || len(r.Escrowed) != 0 {
				t.Errorf("initial: got %+v, escrow %v, want OK and the member out of scope left alone", r.Totals, r.Escrowed)
			}
			amp, q := "?", tt.query
			if q != "" {
				amp = q + "&"
			}
			wantLines(t, lines(f.take())[4:], []string{
				`GET /Groups` + amp + `excludedAttributes=members&filter=displayName+eq+%22Staff%22`,
				`POST /Groups` + q + ` {"schemas":["` + groupURN + `"],"externalId":"g1","displayName":"Staff","meta":{"resourceType":"Group"}}`,
				`PATCH /Groups/103` + q + ` ` + patchHead + `{"op":"` + tt.add + `","path":"members","value":[{"value":"101"},{"value":"102"}]}]}`,
			})
			must(t, d.UpdateGroup("g1", func(g *Group) { g.Members = []string{"o2"} }))
			cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
			wantLines(t, lines(f.take()), []string{
				`GET /Groups/103` + amp + `excludedAttributes=members`,
				`PATCH /Groups/103` + q + ` ` + patchHead + tt.remove + `]}`,
			})
			must(t, d.UpdateGroup("g1", func(g *Group) { g.DisplayName = "All" }))
			r = cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
			if f.resources["Groups"][0]["displayName"] != "All" || r.Totals.Updated != 1 {
				t.Errorf("rename: got %v, %+v", f.resources["Groups"][0], r.Totals)
			}
			must(t, d.DeleteGroup("g1"))
			f.take()
			cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
			wantLines(t, lines(f.take()), []string{`DELETE /Groups/103` + q})
		})
	}
}

func TestReferenceVariants(t *testing.T) {
	f, base := startFake(t)
	c := newClient(t, base, func(cfg *Config) {
		cfg.Attributes = []string{"userName", `emails[type eq "work"].value`, managerPath}
		cfg.Variants = Variants{ReferenceChecks: true, ValuePathsAfterCreate: true, ManagerArray: true, ManagerUnset: UnsetString}
	})
	boss, ann := person("o1", "boss"), person("o2", "ann")
	ann.ManagerObjectID = "o1"
	d := newDirectory(t, boss, ann)
	must(t, d.AddGroup(Group{ObjectID: "g1", DisplayName: "Staff", Members: []string{"o2"}}))
	r := cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
	if !r.OK() {
		t.Fatalf("initial: got %+v", r.Totals)
	}
	got := lines(f.take())
	wantLines(t, got[2:3], []string{`PATCH /Users/101 ` + patchHead + `{"op":"Add","path":"emails[type eq \"work\"].value","value":"boss@example.com"}]}`})
	wantLines(t, got[6:8], []string{
		`GET /Users?filter=id+eq+%22102%22+and+manager+eq+%22101%22&attributes=id`,
		`PATCH /Users/102 ` + patchHead + `{"op":"Add","path":"` + managerPath + `","value":[{"$ref":"` + base + `/Users/101","value":"101"}]}]}`,
	})
	wantLines(t, got[10:11], []string{`GET /Groups?filter=id+eq+%22103%22+and+members+eq+%22102%22&attributes=id`})
	must(t, d.Update("o2", func(p *Person) { p.Title = "t" }))
	cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	wantLines(t, lines(f.take()), []string{`GET /Users/102`, `GET /Users?filter=id+eq+%22102%22+and+manager+eq+%22101%22&attributes=id`})
	must(t, d.Update("o2", func(p *Person) { p.ManagerObjectID = "" }))
	cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	wantLines(t, lines(f.take()), []string{`GET /Users/102`, `PATCH /Users/102 ` + patchHead + `{"op":"Replace","path":"` + managerPath + `","value":""}]}`})
}

// TestUnstable finds what a service provider normalises.
func TestUnstable(t *testing.T) {
	f, base := startFake(t)
	f.shows = func(r map[string]any) {
		r["userName"] = strings.ToUpper(r["userName"].(string))
		delete(r, "displayName")
		r["active"] = "True"
		if ext, ok := r[enterpriseURN].(map[string]any); ok {
			ext["department"] = strings.TrimSpace(ext["department"].(string))
			ext["employeeNumber"] = json.Number("12")
		}
		r["title"] = "Site"
	}
	c := newClient(t, base, nil)
	p := person("o1", "ann")
	p.Department, p.Title, p.EmployeeNumber = "R&D ", "Site Engineer", "12"
	d := newDirectory(t, p)
	cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
	must(t, d.Update("o1", func(*Person) {}))
	for range 2 { // it stays so in every cycle
		must(t, d.Update("o1", func(*Person) {}))
		r := cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
		var got []string
		for _, u := range r.Unstable {
			got = append(got, strings.TrimPrefix(u.Attribute, enterpriseURN+":")+" "+u.How)
		}
		want := []string{"active as a string", "displayName absent", "title cut short", "department with other white space at its ends", "employeeNumber as a number", "userName in another letter case"}
		if !slices.Equal(got, want) {
			t.Errorf("unstable:\n got %q\nwant %q", got, want)
		}
		if r.Totals.Updated != 1 {
			t.Errorf("totals: got %+v, want one updated", r.Totals)
		}
	}
}

func TestDeletionThreshold(t *testing.T) {
	f, base := startFake(t)
	c := newClient(t, base, func(cfg *Config) { short(cfg); cfg.DeletionThreshold = 1 })
	d := newDirectory(t, person("o1", "ann"), person("o2", "bob"), person("o3", "carl"))
	cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
	must(t, d.Disable("o1"))
	must(t, d.SoftDelete("o2"))
	must(t, d.Rename("o3", "karl"))
	f.take()
	r := cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	if got := f.take(); len(got) != 2 || r.Quarantine.Rule != "deletions" || !slices.Equal(r.Escrowed, []string{"o1", "o2"}) {
		t.Errorf("got %v, %+v, escrow %v; want only the rename sent and both held back", lines(got), r.Quarantine, r.Escrowed)
	}
	c.AllowDeletions()
	r = cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	if r.Totals.Disabled != 2 || !r.OK() {
		t.Errorf("allowed: got %+v, %+v, want two disabled", r.Totals, r.Quarantine)
	}
}

func TestDiscover(t *testing.T) {
	f, base := startFake(t)
	c := newClient(t, base, nil)
	for i := range 25 {
		f.resources["Users"] = append(f.resources["Users"], map[string]any{"id": fmt.Sprint(i), "userName": fmt.Sprint("u", i)})
	}
	r := cycleRun(t, func() (*Report, error) { return c.Discover(t.Context(), 10) })
	if r.Totals.Discovered != 25 || !r.OK() || r.Requests != 3 {
		t.Errorf("got %+v, want 25 users by 3 requests", r.Totals)
	}
	f.answer = func(c call) (int, http.Header, string) {
		return 200, nil, `{"schemas":["` + listURN + `"],"totalResults":25,"Resources":[{"id":"1"}]}`
	}
	r = cycleRun(t, func() (*Report, error) { return c.Discover(t.Context(), 10) })
	if r.OK() || !strings.Contains(r.Entries[0].Steps[1].Detail, "repeats an id") {
		t.Errorf("the same page twice: got %+v, want a failure", r.Entries)
	}
}

// TestManyPersons runs ten thousand persons through both cycles.
func TestManyPersons(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 persons take a few seconds")
	}
	created := make(map[string]bool)
	f, base := startFake(t)
	next := 0
	f.answer = func(c call) (int, http.Header, string) {
		switch c.method {
		case http.MethodPost:
			next++
			created[c.body] = true
			return 201, nil, fmt.Sprintf(`{"schemas":["%s"],"id":"%d"}`, userURN, next)
		case http.MethodPatch:
			return 204, nil, ""
		}
		f.calls = f.calls[:0]
		return 200, nil, `{"schemas":["` + listURN + `"],"totalResults":0,"Resources":[]}`
	}
	const n = 10_000
	observed := 0
	c := newClient(t, base, func(cfg *Config) { cfg.Workers = 0; cfg.Observe = func(Exchange) { observed++ } })
	d := newDirectory(t, Generate(n, 1)...)
	r := cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), d) })
	if r.Totals.Created != n || len(created) != n || !r.OK() {
		t.Errorf("got %+v and %d different bodies, want %d created", r.Totals, len(created), n)
	}
	if r.Requests != observed || r.Requests < 2*n || r.RequestsPerSecond <= 0 || r.P50 <= 0 || r.P99 < r.P50 {
		t.Errorf("got %d requests, %d observed, %.0f/s, p50 %s, p99 %s", r.Requests, observed, r.RequestsPerSecond, r.P50, r.P99)
	}
	var text strings.Builder
	must(t, r.WriteText(&text))
	t.Log("\n" + text.String())
}

func TestContextEnds(t *testing.T) {
	f, base := startFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.answer = func(c call) (int, http.Header, string) {
		if c.method == http.MethodPost {
			cancel()
		}
		return 0, nil, ""
	}
	c := newClient(t, base, short)
	d := newDirectory(t, person("o1", "ann"), person("o2", "bob"))
	r, err := c.Initial(ctx, d)
	if err == nil || r.Totals.NotProcessed != 1 {
		t.Errorf("got %v, %+v, want the context's error and one not processed", err, r.Totals)
	}
	f.answer = nil
	r = cycleRun(t, func() (*Report, error) { return c.Incremental(t.Context(), d) })
	if !r.OK() || r.Totals.Objects != 2 {
		t.Errorf("next cycle: got %+v, want both objects processed", r.Totals)
	}
}

// TestErrorsTellNoQuery keeps personal values out of transport errors.
func TestErrorsTellNoQuery(t *testing.T) {
	c := newClient(t, "http://127.0.0.1:1/scim/v2", func(cfg *Config) { cfg.Match = []string{`emails[type eq "work"].value`} })
	r := cycleRun(t, func() (*Report, error) { return c.Initial(t.Context(), newDirectory(t, person("o1", "ann"))) })
	b, err := json.Marshal(r)
	must(t, err)
	if s := string(b); strings.Contains(s, "example.com") || strings.Contains(s, url.QueryEscape("@")) || strings.Contains(s, testToken) {
		t.Errorf("the report tells the e-mail address or the token: %s", s)
	}
	if r.Totals.Failed != 1 || r.Quarantine.Quarantined || r.Statuses[0] != 1 {
		t.Errorf("got %+v, %+v, %v, want one failure without quarantine", r.Totals, r.Quarantine, r.Statuses)
	}
}
