package gateway

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

// kindsOf lists the resources of an answer as type and name.
func kindsOf(a answer) []string {
	var out []string
	list, _ := a.body["Resources"].([]any)
	for _, e := range list {
		r := scim.Resource(e.(map[string]any))
		name := r.UserName()
		if name == "" {
			name, _ = r["displayName"].(string)
		}
		out = append(out, r.Meta("resourceType")+":"+name)
	}
	return out
}

// putGroup makes a group behind the gateway's back.
func (p *harness) putGroup(name string) string {
	p.t.Helper()
	r, err := p.sim.Put("Group", scim.Resource{"displayName": name})
	if err != nil {
		p.t.Fatal(err)
	}
	return r.ID()
}

// A query at the root is one over all resource types (RFC 7644, Section 3.4.2.1).
func TestRoot(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	for i := range 3 {
		if _, err := p.sim.Put("User", scim.Resource{"userName": fmt.Sprintf("user%d", i), "displayName": fmt.Sprintf("d%d", 2*i)}); err != nil {
			t.Fatal(err)
		}
	}
	id := p.putGroup("d1")
	p.putGroup("d3")
	cases := []struct {
		query string
		calls int
		total int
		want  string
	}{
		{"", 2, 5, "User:user0 User:user1 User:user2 Group:d1 Group:d3"},
		{`filter=meta.resourceType eq "Group"`, 1, 2, "Group:d1 Group:d3"},
		{`filter=meta.resourceType eq "User" and userName eq "user1"`, 1, 1, "User:user1"},
		{`filter=meta.resourceType eq "Device"`, 0, 0, ""},
		{`filter=displayName eq "d1" or userName eq "user0"`, 2, 2, "User:user0 Group:d1"},
		{`filter=not (userName pr)`, 2, 2, "Group:d1 Group:d3"},
		{`filter=id eq "` + id + `"`, 2, 1, "Group:d1"},
		{`sortBy=displayName`, 2, 5, "User:user0 Group:d1 User:user1 Group:d3 User:user2"},
		{`sortBy=displayName&sortOrder=descending&count=2`, 2, 5, "User:user2 Group:d3"},
		{`sortBy=userName`, 2, 5, "User:user0 User:user1 User:user2 Group:d1 Group:d3"},
		{`startIndex=3&count=2`, 2, 5, "User:user2 Group:d1"},
		{`count=0`, 2, 5, ""},
		{`startIndex=9`, 0, 5, ""}, // from the snapshot of the page before
	}
	for _, c := range cases {
		var a answer
		target := "/?" + strings.ReplaceAll(strings.ReplaceAll(c.query, " ", "%20"), `"`, "%22")
		if n := p.calls(func() { a = p.do("GET", target, "") }); n != c.calls {
			t.Errorf("%s: got %d calls, want %d", c.query, n, c.calls)
		}
		if got := strings.Join(kindsOf(a), " "); a.status != 200 || got != c.want || a.get("totalResults") != float64(c.total) {
			t.Errorf("%s: got %d, %s of %v, want %s of %d", c.query, a.status, got, a.get("totalResults"), c.want, c.total)
		}
	}
	a := p.do("POST", "/.search", searchRequest(`"filter":"displayName eq \"d1\"","attributes":["displayName","userName"]`))
	if got := a.get("Resources/0/schemas"); a.status != 200 || fmt.Sprint(got) != "["+scim.SchemaGroup+"]" || a.get("Resources/0/meta") != nil || a.get("Resources/0/id") != id {
		t.Errorf("POST: got %d %s, want the group, projected, with its own schemas", a.status, a.text)
	}
	if rec := p.last(); rec.Op != "query" || rec.ResourceType != "" || !strings.Contains(rec.Plan, "at the root") || !strings.Contains(rec.Plan, "Group: ") || !strings.Contains(rec.Plan, "asked by POST") {
		t.Errorf("got %s %q, plan %q, want a query at the root", rec.Op, rec.ResourceType, rec.Plan)
	}
	for query, scimType := range map[string]string{"filter=shoeSize+pr": "invalidFilter", "filter=active+gt+true": "invalidFilter", "sortBy=shoeSize": "invalidPath", "cursor=x": "invalidCursor"} {
		if a := p.do("GET", "/?"+query, ""); a.status != 400 || a.get("scimType") != scimType || p.last().Action != audit.Refused {
			t.Errorf("%s: got %d %s, want 400 %s", query, a.status, a.text, scimType)
		}
	}
}

// Pages by cursor at the root go over all types.
func TestRootByCursor(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	p.populate(25)
	for i := range 15 {
		p.putGroup(fmt.Sprintf("group%02d", i))
	}
	for _, query := range []string{"count=7", "count=7&sortBy=displayName", "count=40&filter=" + url.QueryEscape("meta.resourceType pr")} {
		var got []string
		cursor := ""
		for range 10 {
			a := p.do("GET", "/?"+query+"&cursor="+cursor, "")
			if a.status != 200 || a.get("totalResults") != 40.0 {
				t.Fatalf("%s: got %d %.300s", query, a.status, a.text)
			}
			got = append(got, kindsOf(a)...)
			if cursor, _ = a.get("nextCursor").(string); cursor == "" {
				break
			}
			p.gateway.snapshots = snapshots{}
		}
		if slices.Sort(got); len(got) != 40 || len(slices.Compact(got)) != 40 {
			t.Errorf("%s: got %d resources, want each of 40 once", query, len(got))
		}
	}
}

// Where the upstream has no groups, the root has none, and the bounds are those of all types together.
func TestRootWithoutGroups(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.populate(3)
	for query, want := range map[string]int{"": 3, `?filter=members+pr`: 0, `?filter=` + url.QueryEscape(`members pr or userName eq "user001"`): 1} {
		if a := p.do("GET", "/"+query, ""); a.status != 200 || a.get("totalResults") != float64(want) {
			t.Errorf("%s: got %d %s, want %d", query, a.status, a.text, want)
		}
	}

	q := newHarness(t, builtin(t, "generic"))
	for i := range scanResources / 2 {
		if _, err := q.sim.Put("User", scim.Resource{"userName": fmt.Sprintf("u%d", i)}); err != nil {
			t.Fatal(err)
		}
		q.putGroup(fmt.Sprintf("g%d", i))
	}
	if a := q.do("GET", "/?count=1", ""); a.status != 200 || a.get("totalResults") != float64(scanResources) {
		t.Errorf("at the bound: got %d %.300s, want all", a.status, a.text)
	}
	q.putGroup("one more")
	if a := q.do("GET", "/?count=1", ""); a.status != 400 || a.get("scimType") != "tooMany" {
		t.Errorf("beyond it: got %d %.300s, want tooMany", a.status, a.text)
	}
}

// Reads by version, and what may be asked of an endpoint, cost nothing but what they must.
func TestConditionalReads(t *testing.T) {
	for _, profile := range []string{"bluejeans", "generic"} {
		p := newHarness(t, builtin(t, profile))
		id := p.create("ann", "")
		a := p.do("GET", "/Users/"+id, "")
		version := a.header.Get("ETag")
		if !strings.HasPrefix(version, `W/"`) || a.get("meta/version") != version {
			t.Fatalf("%s: got ETag %q and %v, want the weak version in both", profile, version, a.get("meta/version"))
		}
		for _, c := range []struct {
			method, tag string
			status      int
		}{
			{"GET", version, 304}, {"GET", strings.TrimPrefix(version, "W/"), 304}, {"GET", "*", 304}, {"GET", `W/"other", ` + version, 304},
			{"GET", `W/"other"`, 200}, {"HEAD", version, 304}, {"HEAD", `W/"other"`, 200},
		} {
			b := p.do(c.method, "/Users/"+id, "", "If-None-Match", c.tag)
			if b.status != c.status || b.header.Get("ETag") != version || (b.text == "") != (c.status == 304 || c.method == "HEAD") {
				t.Errorf("%s: %s with %s: got %d, ETag %q, %q, want %d", profile, c.method, c.tag, b.status, b.header.Get("ETag"), b.text, c.status)
			}
		}
		p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"x"}`))
		if b := p.do("GET", "/Users/"+id, "", "If-None-Match", version); b.status != 200 || b.header.Get("ETag") == version {
			t.Errorf("%s: after a change: got %d, ETag %q", profile, b.status, b.header.Get("ETag"))
		}
		before := len(p.sim.Ledger())
		o := p.do("OPTIONS", "/Users/"+id, "")
		if o.status != 204 || o.header.Get("Allow") != "GET, HEAD, PUT, PATCH, DELETE, OPTIONS" || len(p.sim.Ledger()) != before {
			t.Errorf("OPTIONS: got %d, Allow %q and %d calls", o.status, o.header.Get("Allow"), len(p.sim.Ledger())-before)
		}
		if rec := p.last(); rec.Op != "options" || rec.Action != audit.Discovered {
			t.Errorf("OPTIONS: got %s, %s in the trail", rec.Op, rec.Action)
		}
	}
}
