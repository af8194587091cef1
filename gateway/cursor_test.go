package gateway

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

// walk follows nextCursor from the first page of a query to the last and returns the userNames; between is called
// after each page.
func (p *harness) walk(query string, between func(page int)) []string {
	p.t.Helper()
	var got []string
	cursor := ""
	for page := 1; page <= 100; page++ {
		a := p.do("GET", "/Users?"+query+"&cursor="+cursor, "")
		if a.status != 200 || a.get("startIndex") != nil || (a.get("previousCursor") == nil) != (page == 1) {
			p.t.Fatalf("page %d: got %d %.300s", page, a.status, a.text)
		}
		got = append(got, namesOf(a)...)
		next, _ := a.get("nextCursor").(string)
		if next == "" {
			return got
		}
		if strings.Trim(next, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~") != "" || len(next) > 1000 {
			p.t.Fatalf("got cursor %q, want unreserved characters (RFC 9865, Section 2)", next)
		}
		cursor = next
		if between != nil {
			between(page)
		}
	}
	p.t.Fatal("there is no end of pages")
	return nil
}

func searchRequest(members string) string {
	return `{"schemas":["` + scim.MessageSearchRequest + `"],` + members + `}`
}

// One scan serves all pages by cursor, and they stay as they were whatever comes and goes.
func TestCursor(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.populate(250)
	made := 500
	change := func(int) {
		p.sim.Remove("User", p.sim.Resources("User")[0].ID())
		made++
		p.putUser(made)
	}
	for query, total := range map[string]int{
		"count=40&filter=" + url.QueryEscape(`active eq true`) + "&sortBy=userName": 125,
		"count=100&sortBy=userName&sortOrder=descending":                            0,
		"count=30": 0, "": 0,
	} {
		if total == 0 {
			total = len(p.sim.Resources("User"))
		}
		var got []string
		calls := p.calls(func() { got = p.walk(query, change) })
		if calls != 3 {
			t.Errorf("%s: got %d calls, want one scan of 3", query, calls)
		}
		if strings.Contains(query, "descending") {
			slices.Reverse(got)
		}
		if strings.Contains(query, "sortBy") && !slices.IsSorted(got) {
			t.Errorf("%s: got %v, want it sorted", query, got)
		}
		if slices.Sort(got); len(got) != total || len(slices.Compact(got)) != total {
			t.Errorf("%s: got %d users, want each of %d once", query, len(got), total)
		}
	}
	if rec := p.last(); rec.Op != "query" || !strings.Contains(rec.Plan, "by cursor") || rec.Action != audit.Queried {
		t.Errorf("got %s, plan %q, want it to tell of the cursor", rec.Op, rec.Plan)
	}
}

// There and back again, by GET and by POST.
func TestCursorBack(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.populate(25)
	var seen []string
	cursor := ""
	for _, direction := range []string{"next", "next", "previous", "next", "previous", "previous", ""} {
		a := p.do("POST", "/Users/.search", searchRequest(`"sortBy":"userName","count":10,"attributes":["userName"],"cursor":"`+cursor+`"`))
		list := namesOf(a)
		if a.status != 200 || len(list) == 0 || a.get("totalResults") != 25.0 || a.get("itemsPerPage") != float64(len(list)) || a.get("Resources/0/title") != nil {
			t.Fatalf("got %d %.300s, want a page", a.status, a.text)
		}
		seen = append(seen, fmt.Sprint(list[0], "+", len(list)))
		if first := a.get("previousCursor") == nil; first != (list[0] == "user000") {
			t.Errorf("%s: got previousCursor %v", list[0], a.get("previousCursor"))
		}
		cursor, _ = a.get(direction + "Cursor").(string)
	}
	want := "user000+10 user010+10 user020+5 user010+10 user020+5 user010+10 user000+10"
	if got := strings.Join(seen, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if rec := p.last(); !strings.Contains(rec.Plan, "asked by POST") {
		t.Errorf("got plan %q, want it to say that it was a query by POST", rec.Plan)
	}
}

// When the snapshot is gone, in a replica or after a restart, everything is read again: who was there all the time is in
// one page and in one only.
func TestCursorWithoutSnapshot(t *testing.T) {
	for _, query := range []string{"count=40&sortBy=title", "count=40&sortBy=title&sortOrder=descending", "count=33", "count=25&sortBy=nickName&filter=" + url.QueryEscape(`userName sw "user"`)} {
		p := newHarness(t, builtin(t, "bluejeans"))
		p.populate(250)
		before := p.sim.Resources("User")
		got := p.walk(query, func(page int) {
			p.gateway.snapshots = snapshots{}
			now := p.sim.Resources("User")
			p.sim.Remove("User", now[page].ID())
			p.sim.Remove("User", now[len(now)/2].ID())
			p.sim.Remove("User", now[len(now)-1].ID())
			p.putUser(500 + page)
		})
		there := map[string]bool{}
		for _, r := range p.sim.Resources("User") {
			there[r.UserName()] = true
		}
		for _, r := range before {
			if there[r.UserName()] && !slices.Contains(got, r.UserName()) {
				t.Errorf("%s: %s was there all the time and is missing", query, r.UserName())
			}
		}
		if slices.Sort(got); len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s: somebody is listed twice", query)
		}
	}
}

// A cursor goes back, too, when its snapshot is gone.
func TestCursorBackWithoutSnapshot(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.populate(30)
	ask := func(cursor any) answer {
		t.Helper()
		return p.do("GET", fmt.Sprintf("/Users?count=10&sortBy=userName&cursor=%v", cursor), "")
	}
	third := ask(ask(ask("").get("nextCursor")).get("nextCursor"))
	p.gateway.snapshots = snapshots{}
	second := ask(third.get("previousCursor"))
	if got := namesOf(second); len(got) != 10 || got[0] != "user010" {
		t.Fatalf("got %v, want the second page", got)
	}
	for range 10 { // all that stands before the second page
		p.sim.Remove("User", p.sim.Resources("User")[0].ID())
	}
	p.gateway.snapshots = snapshots{}
	if a := ask(second.get("previousCursor")); a.status != 200 || a.get("previousCursor") != nil || namesOf(a)[0] != "user010" {
		t.Errorf("got %d %v, want the new first page", a.status, namesOf(a))
	}
}

func TestCursorErrors(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.populate(30)
	const query = "count=10&sortBy=userName"
	first := p.do("GET", "/Users?"+query+"&cursor", "")
	next := first.get("nextCursor").(string)
	key := snapshotKey(&scim.Request{Type: scim.UserType(), Origin: scim.Origin{Credential: "entra", Base: p.url}},
		[]part{{req: &scim.Request{Type: scim.UserType(), Query: scim.Query{SortBy: &scim.Ref{Name: "userName"}}}}})
	sealed, err := base64.RawURLEncoding.DecodeString(next)
	if err != nil || strings.Contains(string(sealed), "user0") {
		t.Errorf("got %q, %v, want nothing of the resources in clear", sealed, err)
	}
	if _, err := p.gateway.openCursor(scim.Query{Cursor: &next, Count: new(int)}, key); err == nil || !strings.Contains(err.Error(), scim.InvalidCount) {
		t.Errorf("got %v, want this test to know the key", err)
	}
	body := fmt.Appendf(nil, `{"s":"x","i":10,"n":10,"t":%d}`, time.Now().Add(-cursorTime-time.Second).UnixMilli())
	expired := base64.RawURLEncoding.EncodeToString(p.gateway.cursors.Seal(nil, nil, body, p.gateway.cursorFor(key)))
	other := p.another(nil)
	tampered := []byte(next)
	tampered[len(tampered)/2] ^= 1
	cases := []struct {
		name, query, scimType string
		at                    *harness
		header                []string
	}{
		{"as it should be", query + "&cursor=" + next, "", p, nil},
		{"again", query + "&cursor=" + next, "", p, nil},
		{"with another projection", query + "&attributes=userName&cursor=" + next, "", p, nil},
		{"names in another case", "count=10&sortBy=USERNAME&cursor=" + next, "", p, nil},
		{"made up", query + "&cursor=abc", scim.InvalidCursor, p, nil},
		{"not even base64", query + "&cursor=%21", scim.InvalidCursor, p, nil},
		{"tampered with", query + "&cursor=" + string(tampered), scim.InvalidCursor, p, nil},
		{"cut off", query + "&cursor=" + next[:len(next)-4], scim.InvalidCursor, p, nil},
		{"long", query + "&cursor=" + strings.Repeat("A", 10_000), scim.InvalidCursor, p, nil},
		{"of another sort", "count=10&cursor=" + next, scim.InvalidCursor, p, nil},
		{"of another filter", query + "&filter=title+pr&cursor=" + next, scim.InvalidCursor, p, nil},
		{"of another credential", query + "&cursor=" + next, scim.InvalidCursor, p, []string{"Authorization", "Bearer another-token-0123456789"}},
		{"of another connection", query + "&cursor=" + next, scim.InvalidCursor, other, nil},
		{"another count", "count=11&sortBy=userName&cursor=" + next, scim.InvalidCount, p, nil},
		{"without count", "sortBy=userName&cursor=" + next, scim.InvalidCount, p, nil},
		{"no number", "count=x&sortBy=userName&cursor=" + next, scim.InvalidCount, p, nil},
		{"expired", query + "&cursor=" + expired, scim.ExpiredCursor, p, nil},
	}
	for _, c := range cases {
		a := c.at.do("GET", "/Users?"+c.query, "", c.header...)
		if c.scimType == "" {
			if a.status != 200 || namesOf(a)[0] != "user010" {
				t.Errorf("%s: got %d %.300s, want the second page", c.name, a.status, a.text)
			}
			continue
		}
		if a.status != 400 || a.get("scimType") != c.scimType {
			t.Errorf("%s: got %d %.300s, want 400 %s", c.name, a.status, a.text, c.scimType)
		}
	}
	if a := p.do("GET", "/Groups?"+query+"&cursor="+next, ""); a.get("scimType") != "invalidPath" {
		t.Errorf("Groups: got %d %s, want no sort by userName", a.status, a.text)
	}
	if a := p.do("GET", "/Groups?count=10&cursor="+next, ""); a.get("scimType") != scim.InvalidCursor {
		t.Errorf("of another resource type: got %d %s, want %s", a.status, a.text, scim.InvalidCursor)
	}
	if a := p.do("GET", "/?"+query+"&cursor="+next, ""); a.get("scimType") != scim.InvalidCursor {
		t.Errorf("at the root: got %d %s, want %s", a.status, a.text, scim.InvalidCursor)
	}
}

// Small answers have one page and no cursors, and count 0 has a total.
func TestCursorOfFew(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.populate(7)
	id := p.sim.Resources("User")[3].ID()
	for query, want := range map[string][2]int{ // total, listed
		"cursor": {7, 7}, "cursor&count=7": {7, 7}, "cursor&count=0": {7, 0}, "cursor=&count=-1": {7, 0},
		"cursor&filter=" + url.QueryEscape(`userName eq "user003"`):  {1, 1},
		"cursor&filter=" + url.QueryEscape(`id eq "`+id+`"`):         {1, 1},
		"cursor&filter=" + url.QueryEscape(`title eq "nobody"`):      {0, 0},
		"cursor&filter=" + url.QueryEscape(`externalId eq "nobody"`): {0, 0},
	} {
		a := p.do("GET", "/Users?"+query, "")
		if a.status != 200 || a.get("totalResults") != float64(want[0]) || len(namesOf(a)) != want[1] || a.get("nextCursor") != nil || a.get("previousCursor") != nil {
			t.Errorf("%s: got %d %.300s, want %d of %d and no cursors", query, a.status, a.text, want[1], want[0])
		}
	}
	if a := p.do("GET", "/Groups?cursor", ""); a.status != 200 || a.get("totalResults") != 0.0 {
		t.Errorf("Groups: got %d %s, want none", a.status, a.text)
	}
	if n := len(p.gateway.snapshots.kept); n != 0 {
		t.Errorf("got %d snapshots, want none", n)
	}
}

// Values longer than a cursor carries leave nobody out.
func TestCursorOfLongValues(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	long := strings.Repeat("é", 300)
	for i := range 30 {
		if _, err := p.sim.Put("User", scim.Resource{"userName": fmt.Sprintf("user%03d", i), "title": fmt.Sprintf("%s%02d", long, 29-i)}); err != nil {
			t.Fatal(err)
		}
	}
	got := p.walk("count=30&sortBy=title", func(int) { p.gateway.snapshots = snapshots{} })
	if len(got) != 30 || got[0] != "user029" {
		t.Errorf("got %d users from %s, want 30 from user029", len(got), got[0])
	}
	got = p.walk("count=20&sortBy=title", nil)
	if slices.Sort(got); len(got) != 30 || len(slices.Compact(got)) != 30 {
		t.Errorf("got %d users, want each of 30 once", len(got))
	}
}

// What is announced about pages holds (RFC 9865, Section 4).
func TestPagesAsAnnounced(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	for i := range 1050 {
		if _, err := p.sim.Put("User", scim.Resource{"userName": fmt.Sprintf("u%04d", i), "title": "t"}); err != nil {
			t.Fatal(err)
		}
	}
	config := p.do("GET", "/ServiceProviderConfig", "")
	for name, want := range map[string]any{
		"pagination/cursor": true, "pagination/index": true, "pagination/defaultPaginationMethod": "index",
		"pagination/defaultPageSize": 100.0, "pagination/maxPageSize": 1000.0, "pagination/cursorTimeout": 300.0, "filter/maxResults": 1000.0,
	} {
		if got := config.get(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	for query, want := range map[string]int{
		"": 100, "cursor": 100, "sortBy=userName": 100, "cursor&count=2000": 1000, "cursor&count=1000": 1000, "sortBy=userName&count=2147483648": 1000,
	} {
		if a := p.do("GET", "/Users?"+query, ""); a.status != 200 || len(namesOf(a)) != want || a.get("totalResults") != 1050.0 {
			t.Errorf("%s: got %d with %d of %v, want %d of 1050", query, a.status, len(namesOf(a)), a.get("totalResults"), want)
		}
	}
}

// Beyond the bounds of a scan there are no pages by cursor, and the answer says what to do.
func TestCursorTooMany(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	for i := range scanResources + 1 {
		if _, err := p.sim.Put("User", scim.Resource{"userName": fmt.Sprintf("u%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range []string{"/Users?cursor", "/?count=1", "/Users?sortBy=title&count=100", "/Users?filter=title+eq+%22Boss%22"} {
		a := p.do("GET", target, "")
		if a.status != 400 || a.get("scimType") != "tooMany" || !strings.Contains(a.detail(), "list by startIndex") {
			t.Errorf("%s: got %d %s, want 400 tooMany", target, a.status, a.text)
		}
		t.Logf("%s of %d users: %d %s", target, scanResources+1, a.status, a.detail())
	}
}

// Over 5,000 users of an upstream that neither sorts nor evaluates the filters: one scan for all pages of a query, and right
// answers while users come and go.
func TestPagesOfFiveThousand(t *testing.T) {
	const users, scan = 5000, 51 // pages of 100 that overlap by one
	const byFamilyName = "sortBy=name.familyName"
	p := newHarness(t, builtin(t, "bluejeans"))
	var ids []string
	for i := range users {
		r, err := p.sim.Put("User", scim.Resource{
			"userName": fmt.Sprintf("user%04d", i), "title": []string{"Boss", "clerk"}[i%2], "name": map[string]any{"familyName": fmt.Sprintf("Name%04d", (i*7)%users)},
			"emails": []any{map[string]any{"type": "work", "value": fmt.Sprintf("User%04d@x.example", i)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID())
	}
	turn := 0
	change := func() {
		turn++
		p.sim.Remove("User", ids[turn*7])
		p.putUser(5000 + turn)
	}
	walk := map[string]func(query string) []string{
		"index": func(query string) []string {
			var got []string
			for total := 1.0; len(got) < int(total); {
				a := p.do("GET", fmt.Sprintf("/Users?%s&startIndex=%d", query, len(got)+1), "")
				if total, _ = a.get("totalResults").(float64); len(namesOf(a)) == 0 {
					t.Fatalf("%s: got %d %.300s behind %d of %v", query, a.status, a.text, len(got), total)
				}
				got = append(got, namesOf(a)...)
				change()
			}
			return got
		},
		"cursor": func(query string) []string { return p.walk(query, func(int) { change() }) },
	}
	for _, c := range []struct {
		query string
		holds func(scim.Resource) bool
	}{
		{"count=100&" + byFamilyName, func(scim.Resource) bool { return true }},
		{"count=100&filter=" + url.QueryEscape(`title eq "BOSS"`), func(r scim.Resource) bool { return r["title"] == "Boss" }},
		{"count=100&filter=" + url.QueryEscape(`emails[type eq "work"].value co "7@x.example"`), func(r scim.Resource) bool {
			return strings.HasSuffix(r.UserName(), "7") && r["emails"] != nil
		}},
		{"filter=" + url.QueryEscape(`emails[type eq "work"].value eq "USER4321@x.example"`), func(r scim.Resource) bool { return r.UserName() == "user4321" }},
	} {
		for method, walk := range walk {
			var want, got []string
			family := map[string]string{}
			for _, r := range p.sim.Resources("User") {
				if c.holds(r) {
					want = append(want, r.UserName())
				}
				family[r.UserName()], _ = r.Get(scim.Ref{Name: "name", Sub: "familyName"}).(string)
			}
			calls := p.calls(func() { got = walk(c.query) })
			t.Logf("%s, by %s: %d users in pages of 100, %d upstream calls", c.query, method, len(got), calls)
			if calls > scan+1 {
				t.Errorf("%s, by %s: got %d calls, want one scan of %d", c.query, method, calls, scan)
			}
			if byFamily := func(a, b string) int { return strings.Compare(family[a], family[b]) }; strings.Contains(c.query, byFamilyName) && !slices.IsSortedFunc(got, byFamily) {
				t.Errorf("%s, by %s: not in the order of family names", c.query, method)
			}
			slices.Sort(got)
			if slices.Sort(want); !slices.Equal(got, want) {
				t.Errorf("%s, by %s: got %d users, want the %d that were there when it began", c.query, method, len(got), len(want))
			}
		}
	}
}
