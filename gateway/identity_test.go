package gateway

import (
	"net/url"
	"strings"
	"testing"

	"scimgate/config/profile"
	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

// find is the answer to a filter.
func (p *harness) find(filter string) answer {
	p.t.Helper()
	a := p.do("GET", "/Users?filter="+url.QueryEscape(filter), "")
	if a.status != 200 {
		p.t.Fatalf("filter %s: got %d %s", filter, a.status, a.text)
	}
	return a
}

// finds checks who a filter finds, by userName, and what that costs in upstream calls.
func (p *harness) finds(filter string, calls int, want ...string) {
	p.t.Helper()
	var a answer
	if n := p.calls(func() { a = p.find(filter) }); n != calls {
		p.t.Errorf("filter %s cost %d calls, want %d", filter, n, calls)
	}
	var got []string
	list, _ := a.body["Resources"].([]any)
	for _, r := range list {
		name, _ := r.(map[string]any)["userName"].(string)
		got = append(got, name)
	}
	if strings.Join(got, ",") != strings.Join(want, ",") || a.get("totalResults") != float64(len(want)) {
		p.t.Errorf("filter %s: got %v of %v, want %v", filter, got, a.get("totalResults"), want)
	}
}

// externalId under bluejeans is the gateway's: found by it with one call, also after delete and recreate behind the
// gateway's back.
func TestExternalID(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	id := p.create("ann", `"externalId":"E-1"`)
	p.create("bob", `"externalId":"e-2"`)
	p.finds(`externalId eq "E-1"`, 1, "ann")
	p.finds(`externalId eq "e-1"`, 0) // compared exactly (RFC 7643, Section 3.1)
	p.finds(`externalId eq "E-1" and active eq true`, 1)
	p.finds(`externalId eq "e-3"`, 0)
	p.finds(`id eq "`+id+`" and externalId eq "E-1"`, 1, "ann")
	p.finds(`externalId pr`, 1, "ann", "bob")
	if got := p.do("GET", "/Users/"+id, "").get("externalId"); got != "E-1" {
		t.Errorf("GET: got externalId %v, want E-1", got)
	}

	p.sim.Remove("User", id)
	p.finds(`externalId eq "E-1"`, 1)
	again := p.create("ann", `"externalId":"E-1"`)
	p.finds(`externalId eq "E-1"`, 2, "ann")
	if got := p.find(`externalId eq "E-1"`).get("Resources/0/id"); got != again {
		t.Errorf("after delete and recreate: got id %v, want %s", got, again)
	}
	if a := p.do("GET", "/Users/"+id, ""); a.status != 404 {
		t.Errorf("the old id: got %d, want 404", a.status)
	}
	p.do("DELETE", "/Users/"+id, "") // Entra learns of it so, and so does the map
	p.finds(`externalId eq "E-1"`, 1, "ann")
	p.do("DELETE", "/Users/"+again, "")
	p.finds(`externalId eq "E-1"`, 0)

	// Created behind the gateway's back: known from the first PATCH on.
	made, err := p.sim.Put("User", scim.Resource{"userName": "cid"})
	if err != nil {
		t.Fatal(err)
	}
	if a := p.do("PATCH", "/Users/"+made.ID(), patch(`{"op":"add","path":"externalId","value":"E-3"}`)); a.status != 200 || a.get("externalId") != "E-3" {
		t.Errorf("PATCH: got %d %s, want the externalId", a.status, a.text)
	}
	p.finds(`externalId eq "E-3"`, 1, "cid")
	p.do("PATCH", "/Users/"+made.ID(), patch(`{"op":"remove","path":"externalId"}`))
	p.finds(`externalId eq "E-3"`, 0)
	if rec := p.last(); rec.Action != audit.Queried {
		t.Errorf("got action %s, want %s", rec.Action, audit.Queried)
	}
}

const (
	longName  = "bartholomew.featherstonehaugh@contoso.com"
	longName2 = "bartholomew.cholmondeley-marjoribanks@contoso.com"
)

// A userName that is too long travels under an alias, and nobody but the upstream and the trail sees it.
func TestAlias(t *testing.T) {
	p := newHarness(t, tailored(t, "bluejeans", aliased, ""))
	id := p.create(longName, `"externalId":"e-1"`)
	alias := p.upstreamName(id)
	if len(alias) != 30 || alias == longName[:30] {
		t.Fatalf("upstream: got %q, want an alias of 30 characters", alias)
	}
	wantStory(t, p.last(), map[string]string{"userName": `"` + longName + `" "` + alias + `" "` + alias + `"`, "externalId": `"e-1" - -`})
	if got := p.last().Subject.UserName; got != longName {
		t.Errorf("subject: got %s, want the client's name", got)
	}
	p.finds(`userName eq "`+strings.ToUpper(longName)+`"`, 1, longName)
	p.finds(`userName eq "`+alias+`"`, 1)
	p.finds(`userName eq "`+longName2+`"`, 1)
	p.finds(`userName co "featherstonehaugh"`, 1, longName)
	p.finds(`userName sw "`+alias[:20]+`~"`, 1)
	p.finds(`externalId eq "e-1"`, 1, longName)
	if got := p.do("GET", "/Users/"+id, "").get("userName"); got != longName {
		t.Errorf("GET: got %v, want %s", got, longName)
	}
	if got := p.do("GET", "/Users", "").get("Resources/0/userName"); got != longName {
		t.Errorf("list: got %v, want %s", got, longName)
	}
	if a := p.do("POST", "/Users", user(longName, "")); a.status != 409 {
		t.Errorf("duplicate: got %d, want 409", a.status)
	}

	rename := func(to string) {
		t.Helper()
		a := p.do("PATCH", "/Users/"+id, patch(`{"op":"Replace","path":"userName","value":"`+to+`"}`))
		if a.status != 200 || a.get("userName") != to || p.last().Action != audit.Renamed {
			t.Errorf("rename: got %d %v as %s, want %s", a.status, a.get("userName"), p.last().Action, to)
		}
		p.finds(`userName eq "`+to+`"`, 1, to)
	}
	rename("short@contoso.com")
	if got := p.upstreamName(id); got != "short@contoso.com" {
		t.Errorf("upstream: got %s, want the short name as it is", got)
	}
	p.finds(`userName eq "`+longName+`"`, 1)
	rename(longName2)

	// Behind the gateway's back the upstream's own value is shown, and the drift is told.
	p.sim.Rename(id, "other@contoso.com")
	a := p.do("GET", "/Users/"+id, "")
	if a.get("userName") != "other@contoso.com" || !strings.Contains(strings.Join(findings(p.last()), ","), "drift remark") {
		t.Errorf("drift: got %v with %v, want the upstream's value and a remark", a.get("userName"), findings(p.last()))
	}
	p.finds(`userName eq "other@contoso.com"`, 1, "other@contoso.com")
	p.finds(`userName eq "`+longName2+`"`, 1)
	rename(longName)
	if a := p.do("PUT", "/Users/"+id, user(longName2, "")); a.status != 200 || a.get("userName") != longName2 {
		t.Errorf("PUT: got %d %v, want %s", a.status, a.get("userName"), longName2)
	}
	p.do("DELETE", "/Users/"+id, "")
	p.finds(`userName eq "`+longName2+`"`, 1)
	p.pairs()
}

// upstreamName is the userName that the upstream has for an id.
func (p *harness) upstreamName(id string) string {
	for _, r := range p.sim.Resources("User") {
		if r.ID() == id {
			return r.UserName()
		}
	}
	return ""
}

// Attributes that the gateway keeps are shown, changed and searched like any other.
func TestKept(t *testing.T) {
	for _, mode := range []profile.UpdateMode{profile.UpdatePatch, profile.UpdateSingle, profile.UpdatePut} {
		t.Run(string(mode), func(t *testing.T) {
			p := newHarness(t, tailored(t, "bluejeans", keepsAll, mode))
			id := p.create("ann", `"displayName":"Ann","nickName":"A","name":{"givenName":"Ann","middleName":"M"}`)
			steps := []struct {
				method, body string
				want         map[string]any
			}{
				{"GET", "", map[string]any{"displayName": "Ann", "nickName": "A", "name/middleName": "M", "name/givenName": "Ann"}},
				{"PATCH", patch(`{"op":"Replace","path":"displayName","value":"Ann Lee"},{"op":"Replace","path":"title","value":"Boss"}`),
					map[string]any{"displayName": "Ann Lee", "title": "Boss", "nickName": "A"}},
				{"PATCH", patch(`{"op":"remove","path":"nickName"},{"op":"replace","path":"name.middleName","value":"N"}`),
					map[string]any{"displayName": "Ann Lee", "nickName": nil, "name/middleName": "N", "name/givenName": "Ann"}},
				{"PATCH", patch(`{"op":"replace","value":{"displayName":"A. Lee","name.givenName":"Anna"}}`),
					map[string]any{"displayName": "A. Lee", "name/middleName": "N", "name/givenName": "Anna"}},
				{"PUT", user("ann", `"nickName":"B"`), map[string]any{"displayName": nil, "nickName": "B", "name/givenName": nil, "title": nil}},
			}
			for _, s := range steps {
				a := p.do(s.method, "/Users/"+id, s.body)
				if a.status != 200 {
					t.Fatalf("%s: got %d %s", s.method, a.status, a.text)
				}
				read := p.do("GET", "/Users/"+id, "")
				for path, want := range s.want {
					if got := a.get(path); got != want {
						t.Errorf("%s %s: got %s %v, want %v", s.method, s.body, path, got, want)
					}
					if got := read.get(path); got != want {
						t.Errorf("read after %s %s: got %s %v, want %v", s.method, s.body, path, got, want)
					}
				}
				if a.header.Get("ETag") != read.header.Get("ETag") {
					t.Errorf("%s: got version %s, then %s", s.method, a.header.Get("ETag"), read.header.Get("ETag"))
				}
			}
			p.finds(`nickName eq "b"`, 1, "ann")
			if a := p.do("PATCH", "/Users/0", patch(`{"op":"replace","path":"displayName","value":"x"}`)); a.status != 404 {
				t.Errorf("of nobody: got %d, want 404", a.status)
			}
			p.pairs()
		})
	}
}

// Versions cover what the gateway holds, also where the upstream has versions of its own.
func TestVersionsCoverWhatIsKept(t *testing.T) {
	pr := tailored(t, "bluejeans", keepsAll, "")
	pr.ETag = true
	p := newHarness(t, pr)
	id := p.create("ann", `"displayName":"Ann"`)
	old := p.do("GET", "/Users/"+id, "").header.Get("ETag")
	if a := p.do("GET", "/Users/"+id, "", "If-None-Match", old); a.status != 304 {
		t.Errorf("unchanged: got %d, want 304", a.status)
	}
	if a := p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"displayName","value":"x"}`), "If-Match", old); a.status != 200 {
		t.Errorf("If-Match: got %d %s, want 200", a.status, a.text)
	}
	if a := p.do("GET", "/Users/"+id, "", "If-None-Match", old); a.status != 200 {
		t.Errorf("a kept attribute changed: got %d, want 200", a.status)
	}
	if a := p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"x"}`), "If-Match", old); a.status != 412 {
		t.Errorf("stale If-Match: got %d, want 412", a.status)
	}
	if a := p.do("GET", "/Users", "", "If-None-Match", old); a.status != 200 || a.get("totalResults") != 1.0 {
		t.Errorf("list with If-None-Match: got %d %s, want the list", a.status, a.text)
	}
}

// Two connections to one upstream see the same of its users.
func TestTwoConnectionsShareAnUpstream(t *testing.T) {
	p := newHarness(t, tailored(t, "bluejeans", aliased, ""))
	q := p.another(nil)
	id := p.create(longName, `"externalId":"e-1"`)
	q.finds(`externalId eq "e-1"`, 1, longName)
	if a := q.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"externalId","value":"e-2"}`)); a.status != 200 {
		t.Fatalf("got %d %s", a.status, a.text)
	}
	p.finds(`externalId eq "e-2"`, 1, longName)
	if a := p.do("GET", "/Users/"+id, ""); a.get("externalId") != "e-2" || a.get("userName") != longName {
		t.Errorf("got %s, want what the other connection wrote", a.text)
	}
	if rec := p.trail()[2]; rec.Connection != "another" {
		t.Errorf("got connection %s, want another", rec.Connection)
	}
}

// An upstream that answers writes without a body leaves the map as if it had.
func TestIdentityAfterNoContent(t *testing.T) {
	p := newHarness(t, tailored(t, "bluejeans", aliased, ""), func(s *simulator.Config, _ *upConfig, _ *DoorConfig) { s.Assume.PatchNoContent = true })
	id := p.create(longName, `"externalId":"e-1"`)
	a := p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","value":{"userName":"`+longName2+`","externalId":"e-2","title":"x"}}`))
	if a.status != 204 {
		t.Fatalf("got %d %s, want 204", a.status, a.text)
	}
	p.finds(`userName eq "`+longName2+`"`, 1, longName2)
	p.finds(`externalId eq "e-2"`, 1, longName2)
	p.finds(`externalId eq "e-1"`, 0)
}
