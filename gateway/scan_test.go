package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

// populate puts users behind the gateway's back: user000, user001, ...
func (p *harness) populate(n int) {
	p.t.Helper()
	for i := range n {
		p.putUser(i)
	}
}

func (p *harness) putUser(i int) string {
	p.t.Helper()
	r, err := p.sim.Put("User", scim.Resource{
		"userName": fmt.Sprintf("user%03d", i), "active": i%2 == 0, "title": []string{"Boss", "clerk", "Artist"}[i%3],
		"name":   map[string]any{"familyName": fmt.Sprintf("Name%03d", 999-i)},
		"emails": []any{map[string]any{"type": "work", "value": fmt.Sprintf("User%03d@x.example", i)}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return r.ID()
}

// namesOf lists the userNames of an answer.
func namesOf(a answer) []string {
	var out []string
	list, _ := a.body["Resources"].([]any)
	for _, r := range list {
		name, _ := r.(map[string]any)["userName"].(string)
		out = append(out, name)
	}
	return out
}

// What the upstream cannot evaluate is evaluated here, over all its pages; the calls are counted.
func TestQueries(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.populate(250)
	id := p.sim.Resources("User")[7].ID()
	cases := []struct {
		name   string
		query  string // filter, or parameters after "?"
		calls  int
		total  int
		listed int
		first  string
	}{
		{"equality is pushed down", `userName eq "USER007"`, 1, 1, 1, "user007"},
		{"the rest of an AND is residual", `userName eq "user007" and active eq true`, 1, 0, 0, ""},
		{"in either order", `title eq "clerk" and userName eq "user007"`, 1, 1, 1, "user007"},
		{"OR", `userName eq "user007" or userName eq "user200"`, 3, 2, 2, "user007"},
		{"NOT", `not (active eq true)`, 3, 125, 100, "user001"},
		{"other operators", `userName sw "user01"`, 3, 10, 10, "user010"},
		{"work email", `emails[type eq "work"].value eq "user100@x.example"`, 3, 1, 1, "user100"},
		{"work email as a value path", `emails[type eq "work" and value eq "user100@x.example"]`, 3, 1, 1, "user100"},
		{"any email", `emails.value eq "user100@x.example"`, 3, 1, 1, "user100"},
		{"nobody", `title eq "nobody"`, 3, 0, 0, ""},
		{"what nobody has", `displayName eq "x"`, 3, 0, 0, ""},
		{"by id", `id eq "` + id + `"`, 1, 1, 1, "user007"},
		{"by id and more", `id eq "` + id + `" and title eq "Boss"`, 1, 0, 0, ""},
		{"no such id", `id eq "0"`, 1, 0, 0, ""},
		{"manager", `id eq "` + id + `" and urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager eq "1"`, 1, 0, 0, ""},
		{"count", `?count=10&filter=` + url.QueryEscape(`active eq true`), 3, 125, 10, "user000"},
		{"count 0", `?count=0&filter=` + url.QueryEscape(`active eq true`), 3, 125, 0, ""},
		{"count 0 of an equality", `?count=0&filter=` + url.QueryEscape(`userName eq "user007"`), 1, 1, 0, ""},
		{"the page", `?startIndex=120&count=10&filter=` + url.QueryEscape(`title eq "Boss"`), 3, 84, 0, ""},
		{"past the end, from the snapshot", `?startIndex=1000&filter=` + url.QueryEscape(`title eq "Boss"`), 0, 84, 0, ""},
		{"all", `?count=50`, 1, 250, 50, "user000"},
		{"all, a page of the upstream at most", `?count=1000`, 1, 250, 100, "user000"},
		{"all, later", `?startIndex=201&count=100`, 1, 250, 50, "user200"},
		{"sorted", `?sortBy=name.familyName&count=3`, 3, 250, 3, "user249"},
		{"sorted down", `?sortBy=userName&sortOrder=descending&count=3`, 3, 250, 3, "user249"},
		{"sorted by what nobody has", `?sortBy=nickName&count=3`, 3, 250, 3, "user000"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			target := c.query
			if !strings.HasPrefix(target, "?") {
				target = "?filter=" + url.QueryEscape(target)
			}
			var a answer
			if n := p.calls(func() { a = p.do("GET", "/Users"+target, "") }); n != c.calls {
				t.Errorf("got %d calls, want %d", n, c.calls)
			}
			got := namesOf(a)
			if a.status != 200 || a.get("totalResults") != float64(c.total) || len(got) != c.listed {
				t.Fatalf("got %d with %d of %v, want %d of %d", a.status, len(got), a.get("totalResults"), c.listed, c.total)
			}
			if c.first != "" && got[0] != c.first {
				t.Errorf("got %s first, want %s", got[0], c.first)
			}
		})
	}
	for _, bad := range []string{`shoeSize eq "1"`, `emails[type eq "work"].shoe eq "x"`, `userName eq`, `urn:x:y:z eq "1"`} {
		a := p.do("GET", "/Users?filter="+url.QueryEscape(bad), "")
		if a.status != 400 || a.get("scimType") != "invalidFilter" {
			t.Errorf("%s: got %d %s, want 400 invalidFilter and never an empty list", bad, a.status, a.text)
		}
	}
}

// Ids that would lead elsewhere find nobody, and nothing is asked.
func TestQueryByStrangeID(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.populate(2)
	for _, id := range []string{"", ".", "..", "../Users", "a/b", "?x", "%2e", "a\nb", "\u0085"} {
		a := p.do("GET", "/Users?filter="+url.QueryEscape(fmt.Sprintf("id eq %q", id)), "")
		if a.status != 200 || a.get("totalResults") != 0.0 {
			t.Errorf("id eq %q: got %d %s, want nobody", id, a.status, a.text)
		}
	}
}

// The pages of a query that is not the upstream's are cut from one snapshot.
func TestSnapshot(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.populate(250)
	target := func(start int) string {
		return fmt.Sprintf("/Users?sortBy=userName&startIndex=%d&count=40&filter=%s", start, url.QueryEscape(`active eq true`))
	}
	var got []string
	for start := 1; start <= 125; start += 40 {
		want := 0
		if start == 1 {
			want = 3
		}
		if n := p.calls(func() { got = append(got, namesOf(p.do("GET", target(start), ""))...) }); n != want {
			t.Errorf("page from %d: got %d calls, want %d", start, n, want)
		}
		p.sim.Remove("User", p.sim.Resources("User")[0].ID()) // behind the client's back: its pages stay as they were
	}
	if len(got) != 125 || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != 125 {
		t.Errorf("got %d users, want 125, sorted and none twice", len(got))
	}
	if n := p.calls(func() { p.do("GET", target(1), "") }); n != 3 {
		t.Errorf("the first page again: got %d calls, want 3: it is asked anew", n)
	}
	if n := p.calls(func() { p.do("GET", strings.Replace(target(41), "userName", "title", 1), "") }); n != 3 {
		t.Errorf("another query: got %d calls, want 3", n)
	}
	if n := len(p.gateway.snapshots.kept); n != 2 {
		t.Errorf("got %d snapshots, want 2", n)
	}
	p.finds(`title eq "nobody"`, 3)
	if n := len(p.gateway.snapshots.kept); n != 2 {
		t.Errorf("got %d snapshots, want none for an answer of one page", n)
	}
	p.do("GET", strings.Replace(target(1), "count=40", "count=200", 1), "")
	if n := p.calls(func() { p.do("GET", target(41), "") }); n != 3 {
		t.Errorf("a page after an answer that had all: got %d calls, want 3: the snapshot is older than that", n)
	}
}

// Where the upstream's versions are the client's, a list shows none that the upstream would not know.
func TestVersionsInLists(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"), func(s *simulator.Config, _ *upConfig, _ *DoorConfig) { s.Assume.NoMeta = true })
	id := p.create("ann", "")
	if got := p.do("GET", "/Users", "").get("Resources/0/meta/version"); got != nil {
		t.Errorf("list: got version %v, want none: the upstream told none", got)
	}
	version := p.do("GET", "/Users/"+id, "").header.Get("ETag")
	if a := p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"x"}`), "If-Match", version); version == "" || a.status != 200 {
		t.Errorf("PATCH with %s: got %d %s, want 200", version, a.status, a.text)
	}
	q := newHarness(t, builtin(t, "generic"))
	q.create("ann", "")
	if got, want := q.do("GET", "/Users", "").get("Resources/0/meta/version"), `W/"1"`; got != want {
		t.Errorf("list: got version %v, want %v", got, want)
	}
}

func TestSnapshotsAreBounded(t *testing.T) {
	var s snapshots
	list := []scim.Resource{{"userName": "x"}}
	for i := range 100 {
		s.put(fmt.Sprint(i), list, 1<<20, time.Minute)
	}
	if s.size > scanBytes || len(s.kept) == 0 || len(s.kept)<<20 != s.size {
		t.Errorf("got %d snapshots of %d bytes, want at most %d bytes", len(s.kept), s.size, scanBytes)
	}
	s.put("99", list, 1<<20, time.Minute)
	if got, ok := s.get("99"); !ok || len(got) != 1 {
		t.Errorf("got %v, want the newest kept", got)
	}
	k := s.kept["99"]
	k.ends = time.Now().Add(-time.Second)
	s.kept["99"] = k
	if _, ok := s.get("99"); ok {
		t.Error("got a snapshot past its time")
	}
}

// Beyond its bounds a query is refused, never cut short.
func TestTooMany(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	for i := range scanResources + 1 {
		if _, err := p.sim.Put("User", scim.Resource{"userName": fmt.Sprintf("u%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	var a answer
	if n := p.calls(func() { a = p.do("GET", "/Users?filter="+url.QueryEscape(`title pr`), "") }); n != 1 {
		t.Errorf("got %d calls, want 1", n)
	}
	if a.status != 400 || a.get("scimType") != "tooMany" || p.last().Action != audit.Refused {
		t.Errorf("got %d %s as %s, want 400 tooMany, refused", a.status, a.text, p.last().Action)
	}
	p.finds(`userName eq "u9999"`, 1, "u9999")

	p.sim.Remove("User", p.sim.Resources("User")[0].ID())
	a = p.do("GET", "/Users?count=0&filter="+url.QueryEscape(`userName sw "u"`), "")
	if a.status != 200 || a.get("totalResults") != float64(scanResources) {
		t.Errorf("at the bound: got %d %v, want all %d", a.status, a.get("totalResults"), scanResources)
	}
	if rec := p.last(); len(rec.Calls) != mostCalls || !strings.Contains(fmt.Sprint(rec.Findings), "more calls are not listed") {
		t.Errorf("got %d calls in the record, want %d and the number of the others", len(rec.Calls), mostCalls)
	}
}

// Scans at a time are bounded, for their memory; whoever looks for one user does not wait for them.
func TestScansAtOnce(t *testing.T) {
	p := newHarness(t, tailored(t, "bluejeans", aliased, ""))
	p.create(longName, "")
	for range scansAtOnce {
		p.gateway.scans <- struct{}{}
	}
	p.finds(`userName eq "`+longName+`"`, 1, longName)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req := p.request(scim.OpQuery, "", "")
	req.Query.Filter = &scim.AttributeExpression{AttributePath: scim.AttributePath{AttributeName: "title"}, Operator: scim.Pr}
	_, err := p.gateway.Do(ctx, req)
	if e, ok := errors.AsType[*scim.Error](err); !ok || e.Status != 503 || e.RetryAfter == 0 {
		t.Errorf("got %v, want 503 with Retry-After", err)
	}
	<-p.gateway.scans
	p.finds(`userName sw "bart"`, 1, longName)
}

func TestTooManyBytes(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	for i := range 50 {
		if _, err := p.sim.Put("User", scim.Resource{"userName": fmt.Sprintf("u%d", i), "title": strings.Repeat("x", 1<<20)}); err != nil {
			t.Fatal(err)
		}
	}
	p.gateway.Profile.Paging.PageSize = 5
	q := p.another(nil)
	if a := q.do("GET", "/Users?filter="+url.QueryEscape(`title pr`), ""); a.status != 400 || a.get("scimType") != "tooMany" {
		t.Errorf("got %d %.200s, want 400 tooMany", a.status, a.text)
	}
}

// between calls f before each page of a list but the first.
func (p *harness) between(f func(page int)) *harness {
	page := 0
	return p.through(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if start := req.URL.Query().Get("startIndex"); start != "" {
			if page++; start == "1" {
				page = 1
			} else {
				f(page)
			}
		}
		return next.RoundTrip(req)
	})
}

// Whatever comes and goes while the pages are read, nobody who was there all the time is missed.
func TestChangesDuringAScan(t *testing.T) {
	const users = 250
	cases := []struct {
		name   string
		change func(p *harness, page int)
		status int
	}{
		{"created", func(p *harness, page int) { p.putUser(500 + page) }, 200},
		{"removed from what was read", func(p *harness, page int) {
			p.sim.Remove("User", p.sim.Resources("User")[3].ID())
		}, 503},
		{"removed once", func(p *harness, page int) {
			if len(p.sim.Resources("User")) == users {
				p.sim.Remove("User", p.sim.Resources("User")[3].ID())
			}
		}, 200},
		{"removed and created, so that the total stays", func(p *harness, page int) {
			if p.sim.Resources("User")[users-1].UserName() == fmt.Sprintf("user%03d", users-1) {
				p.sim.Remove("User", p.sim.Resources("User")[3].ID())
				p.putUser(500)
			}
		}, 200},
		{"most of them removed", func(p *harness, page int) {
			for _, r := range p.sim.Resources("User")[:len(p.sim.Resources("User"))/2] {
				p.sim.Remove("User", r.ID())
			}
		}, 200},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newHarness(t, builtin(t, "bluejeans"))
			p.populate(users)
			q := p.between(func(page int) { c.change(p, page) })
			before := p.sim.Resources("User")
			a := q.do("GET", "/Users?count=1000&filter="+url.QueryEscape(`userName sw "user"`), "")
			if a.status != c.status {
				t.Fatalf("got %d %.200s, want %d", a.status, a.text, c.status)
			}
			if c.status == 503 {
				if a.header.Get("Retry-After") == "" {
					t.Error("Retry-After is missing")
				}
				return
			}
			got := namesOf(a)
			after := map[string]bool{}
			for _, r := range p.sim.Resources("User") {
				after[r.UserName()] = true
			}
			for _, r := range before {
				if name := r.UserName(); after[name] && !slices.Contains(got, name) {
					t.Errorf("%s was there all the time and is missing", name)
				}
			}
			if slices.Sort(got); len(slices.Compact(slices.Clone(got))) != len(got) {
				t.Error("somebody is listed twice")
			}
		})
	}
}

// An upstream that passes over a filter, or over the page that was asked for, does not make somebody else the match.
func TestUpstreamIgnoresTheFilter(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.populate(3)
	q := p.through(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		req = req.Clone(req.Context())
		values := req.URL.Query()
		values.Del("filter")
		req.URL.RawQuery = values.Encode()
		return next.RoundTrip(req)
	})
	for _, filter := range []string{`userName eq "nobody"`, `userName eq "user001"`, `userName eq "nobody" and active eq true`} {
		a := q.do("GET", "/Users?filter="+url.QueryEscape(filter), "")
		if a.status != 502 || q.last().Action != audit.Failed {
			t.Errorf("%s: got %d %s, want 502", filter, a.status, a.text)
		}
	}
	if a := q.do("GET", "/Users?count=0&filter="+url.QueryEscape(`userName eq "nobody"`), ""); a.status == 200 && a.get("totalResults") != 0.0 {
		t.Errorf("count 0: got %d %s, want no number that counts others", a.status, a.text)
	}
}

// A profile that promises more than the upstream has is found out as well.
func TestProfilePromisesTooMuch(t *testing.T) {
	for choice, status := range map[simulator.Choice]int{simulator.Refuse: 400, simulator.Ignore: 502} {
		t.Run(string(choice), func(t *testing.T) {
			p := newHarness(t, tailored(t, "bluejeans", "User: {attributes: [{path: title, filter: [eq]}]}", ""),
				func(s *simulator.Config, _ *upConfig, _ *DoorConfig) {
					s.Profile, s.Assume.FilterUnsupported = builtin(t, "bluejeans"), choice
				})
			p.populate(3)
			if a := p.do("GET", "/Users?filter="+url.QueryEscape(`title eq "Boss"`), ""); a.status != status {
				t.Errorf("got %d %s, want %d and never an empty list", a.status, a.text, status)
			}
		})
	}
}

func TestSortByValues(t *testing.T) {
	user := scim.UserType()
	resource := func(name string, more scim.Resource) scim.Resource {
		r := scim.Resource{"userName": name}
		for k, v := range more {
			r[k] = v
		}
		return r
	}
	email := func(value string, primary bool) map[string]any {
		return map[string]any{"value": value, "primary": primary}
	}
	cases := []struct {
		by   scim.Ref
		down bool
		list []scim.Resource
		want string
	}{
		{scim.Ref{Name: "title"}, false, []scim.Resource{resource("a", nil), resource("b", scim.Resource{"title": "y"}), resource("c", scim.Resource{"title": "X"})}, "c b a"},
		{scim.Ref{Name: "title"}, true, []scim.Resource{resource("a", nil), resource("b", scim.Resource{"title": "y"}), resource("c", scim.Resource{"title": "X"})}, "a b c"},
		{scim.Ref{Name: "externalId"}, false, []scim.Resource{resource("a", scim.Resource{"externalId": "b"}), resource("b", scim.Resource{"externalId": "C"})}, "b a"},
		{scim.Ref{Name: "active"}, false, []scim.Resource{resource("a", scim.Resource{"active": true}), resource("b", scim.Resource{"active": false})}, "b a"},
		{scim.Ref{Name: "emails"}, false, []scim.Resource{
			resource("a", scim.Resource{"emails": []any{email("a@x", false), email("z@x", true)}}),
			resource("b", scim.Resource{"emails": []any{email("b@x", false)}}),
			resource("c", scim.Resource{"emails": []any{}}),
		}, "b a c"},
		{scim.Ref{Name: "emails", Sub: "value"}, true, []scim.Resource{
			resource("a", scim.Resource{"emails": []any{email("a@x", false)}}), resource("b", scim.Resource{"emails": []any{email("b@x", false)}}),
		}, "b a"},
		{scim.Ref{Name: "name", Sub: "familyName"}, false, []scim.Resource{
			resource("a", scim.Resource{"name": map[string]any{"familyName": "b"}}), resource("b", scim.Resource{"name": map[string]any{"familyName": "a"}}),
		}, "b a"},
	}
	for _, c := range cases {
		sortBy(&scim.Request{Type: user, Query: scim.Query{SortBy: &c.by, Descending: c.down}}, c.list)
		var got []string
		for _, r := range c.list {
			got = append(got, r.UserName())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("by %s: got %v, want %s", c.by, got, c.want)
		}
	}
}
