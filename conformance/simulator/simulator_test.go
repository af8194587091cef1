package simulator

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "a-token-for-tests"

// site is a simulator behind a real listener.
type site struct {
	t      *testing.T
	sim    *Simulator
	url    string // of the service provider
	client *http.Client
}

func load(t testing.TB, name string) *profile.Profile {
	t.Helper()
	p, err := profile.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newSimulator(t testing.TB, cfg Config) *Simulator {
	t.Helper()
	if cfg.Tokens == nil {
		cfg.Tokens = []string{token}
	}
	sim, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return sim
}

func start(t *testing.T, cfg Config) *site {
	t.Helper()
	sim := newSimulator(t, cfg)
	server := httptest.NewServer(sim)
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(func() {
		sim.Close()
		transport.CloseIdleConnections()
		server.Close()
	})
	return &site{t: t, sim: sim, url: server.URL + DefaultBasePath, client: &http.Client{Transport: transport}}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	text   string
	body   scim.Resource // nil when there is none, or it is no JSON object
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.text) }

func (a answer) list() []scim.Resource {
	var out []scim.Resource
	list, _ := a.body["Resources"].([]any)
	for _, e := range list {
		out = append(out, e.(map[string]any))
	}
	return out
}

func (a answer) userNames() []string {
	out := []string{}
	for _, r := range a.list() {
		out = append(out, r.UserName())
	}
	return out
}

// do sends a request; header holds names and values by turns.
func (s *site) do(method, path, body string, header ...string) answer {
	s.t.Helper()
	a, err := s.try(method, path, body, header...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (s *site) try(method, path, body string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", scim.MediaType)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	a := answer{status: res.StatusCode, header: res.Header, text: string(text)}
	if object, jsonErr := scim.DecodeObject(text); jsonErr == nil {
		a.body = object
	}
	return a, err
}

func (s *site) want(status int, a answer) answer {
	s.t.Helper()
	if a.status != status {
		s.t.Fatalf("got %v, want %d", a, status)
	}
	return a
}

// refused wants an error answer with a scimType.
func (s *site) refused(status int, scimType string, a answer) {
	s.t.Helper()
	s.want(status, a)
	if got, _ := a.body["scimType"].(string); got != scimType {
		s.t.Errorf("got scimType %q, want %q: %v", got, scimType, a)
	}
}

func query(filter string) string { return "/Users?filter=" + url.QueryEscape(filter) }

const userSchemas = `"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"]`

func user(name, more string) string {
	if more != "" {
		more = "," + more
	}
	return `{` + userSchemas + `,"userName":"` + name + `"` + more + `}`
}

func patch(ops string) string {
	return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` + ops + `]}`
}

func (s *site) create(name, more string) scim.Resource {
	s.t.Helper()
	return s.want(http.StatusCreated, s.do("POST", "/Users", user(name, more))).body
}

// TestEveryProfile simulates each built-in profile and takes a user through its life.
func TestEveryProfile(t *testing.T) {
	for _, name := range profile.Names() {
		t.Run(name, func(t *testing.T) {
			p := load(t, name)
			s := start(t, Config{Profile: p})
			users := p.Resource("User").Endpoint
			query := func(filter string) string { return users + "?filter=" + url.QueryEscape(filter) }
			able := func(op profile.Operation) bool { return slices.Contains(p.Resource("User").Operations, op) }
			created := s.want(201, s.do("POST", users, user("jensen", `"active":true,"title":"Guide","name":{"givenName":"B","familyName":"Jensen"}`)))
			id := created.body.ID()
			location := s.url + users + "/" + id
			if got := created.header.Get("Location"); got != location {
				t.Errorf("Location: got %q, want %q", got, location)
			}
			if got := created.body.Meta("location"); got != location {
				t.Errorf("meta.location: got %q, want %q", got, location)
			}
			if got := created.header.Get("Content-Type"); got != "application/scim+json; charset=utf-8" {
				t.Errorf("Content-Type: got %q", got)
			}
			for _, sub := range []string{"created", "lastModified"} {
				if !strings.Contains(created.body.Meta(sub), ".") {
					t.Errorf("meta.%s: got %q, want a fraction of a second", sub, created.body.Meta(sub))
				}
			}
			read := s.want(200, s.do("GET", users+"/"+id, ""))
			if !reflect.DeepEqual(read.body, created.body) {
				t.Errorf("got %v, want what was created: %v", read, created)
			}
			if able(profile.OpQuery) {
				found := s.want(200, s.do("GET", query(`userName eq "JENSEN"`), ""))
				if got := found.userNames(); !slices.Equal(got, []string{"jensen"}) {
					t.Errorf("got %v, want [jensen]", got)
				}
			}
			s.refused(409, "uniqueness", s.do("POST", users, user("Jensen", "")))
			if able(profile.OpPatch) && p.Update.Mode != profile.UpdatePut {
				patched := s.want(200, s.do("PATCH", users+"/"+id, patch(`{"op":"replace","path":"active","value":false}`)))
				if patched.body["active"] != false {
					t.Errorf("got %v, want active false", patched)
				}
				s.refused(400, "invalidValue", s.do("PATCH", users+"/"+id, patch(`{"op":"replace","path":"active","value":"False"}`)))
			}
			if able(profile.OpReplace) {
				replaced := s.want(200, s.do("PUT", users+"/"+id, user("jensen", `"active":true`)))
				if replaced.body["title"] != nil || replaced.body["name"] != nil || replaced.body["active"] != true {
					t.Errorf("got %v, want title and name cleared", replaced)
				}
				if replaced.body.Meta("created") != created.body.Meta("created") {
					t.Errorf("got created %q, want %q", replaced.body.Meta("created"), created.body.Meta("created"))
				}
			}
			if !able(profile.OpDelete) {
				return
			}
			s.want(204, s.do("DELETE", users+"/"+id, ""))
			s.want(404, s.do("DELETE", users+"/"+id, ""))
			s.want(404, s.do("GET", users+"/"+id, ""))
			if able(profile.OpQuery) {
				empty := s.want(200, s.do("GET", query(`userName eq "jensen"`), ""))
				if got := string(scim.AppendJSON(nil, empty.body)); got != `{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"Resources":[],"itemsPerPage":0,"startIndex":1,"totalResults":0}` {
					t.Errorf("got %s, want an empty ListResponse", got)
				}
			}
			for _, path := range []string{"/ServiceProviderConfig", "/ResourceTypes", "/Schemas", "/Schemas/" + scim.SchemaUser} {
				s.want(200, s.do("GET", path, ""))
			}
		})
	}
}

func TestGeneric(t *testing.T) {
	p := load(t, "generic")
	names := func(list ...string) []string { return append([]string{}, list...) }
	filled := func(t *testing.T) *site {
		s := start(t, Config{Profile: p})
		s.create("ann", `"externalId":"X1","title":"b","emails":[{"type":"work","value":"ann@x.io","primary":true},{"type":"home","value":"a@home"}],"password":"secret-1"`)
		s.create("bob", `"title":"A","active":false,"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"R&D","manager":{"value":"26"}}`)
		s.create("cid", `"emails":[{"type":"work","value":"cid@x.io"}]`)
		return s
	}
	t.Run("filters", func(t *testing.T) {
		s := filled(t)
		for filter, want := range map[string][]string{
			`userName eq "ANN"`:                                 names("ann"),
			`externalId eq "x1"`:                                names(),
			`externalId eq "X1" and userName sw "a"`:            names("ann"),
			`emails[type eq "work" and value ew "x.io"]`:        names("ann", "cid"),
			`emails[type eq "home" and value eq "ann@x.io"]`:    names(),
			`emails.value eq "A@HOME"`:                          names("ann"),
			`emails eq "cid@x.io"`:                              names("cid"),
			`not (title pr)`:                                    names("cid"),
			`active eq false or userName eq "cid"`:              names("bob", "cid"),
			`manager eq "26"`:                                   names("bob"),
			`id eq "1000002" and manager eq "26"`:               names("bob"),
			`id eq "nobody"`:                                    names(),
			`meta.resourceType eq "User" and userName gt "ann"`: names("bob", "cid"),
			`meta.lastModified gt "2001-01-01T00:00:00Z"`:       names("ann", "bob", "cid"),
			scim.SchemaEnterpriseUser + `:department co "&"`:    names("bob"),
		} {
			a := s.want(200, s.do("GET", query(filter), ""))
			if got := a.userNames(); !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", filter, got, want)
			}
		}
		s.refused(400, "invalidFilter", s.do("GET", query(`nonsense eq "x"`), ""))
		s.refused(400, "invalidFilter", s.do("GET", query(`userName eq`), ""))
	})
	t.Run("sort and pages", func(t *testing.T) {
		s := filled(t)
		for path, want := range map[string][]string{
			"/Users":              names("ann", "bob", "cid"),
			"/Users?sortBy=title": names("bob", "ann", "cid"),
			"/Users?sortBy=title&sortOrder=descending":        names("cid", "ann", "bob"),
			"/Users?sortBy=emails&sortOrder=descending":       names("bob", "cid", "ann"),
			"/Users?sortBy=active":                            names("bob", "ann", "cid"),
			"/Users?startIndex=2&count=1":                     names("bob"),
			"/Users?startIndex=3":                             names("cid"),
			"/Users?startIndex=4":                             names(),
			"/Users?count=0":                                  names(),
			"/Users?sortBy=userName&sortOrder=descending":     names("cid", "bob", "ann"),
			"/Users?sortBy=meta.created&sortOrder=descending": names("cid", "bob", "ann"),
		} {
			a := s.want(200, s.do("GET", path, ""))
			if got := a.userNames(); !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", path, got, want)
			}
			if got := fmt.Sprint(a.body["totalResults"]); got != "3" {
				t.Errorf("%s: got totalResults %s, want 3", path, got)
			}
		}
	})
	t.Run("page size", func(t *testing.T) {
		s := start(t, Config{Profile: p, PageSize: 2})
		for _, n := range []string{"a", "b", "c"} {
			s.create(n, "")
		}
		for _, path := range []string{"/Users", "/Users?count=100"} {
			if got := s.do("GET", path, "").userNames(); !slices.Equal(got, names("a", "b")) {
				t.Errorf("%s: got %v, want the first two", path, got)
			}
		}
	})
	t.Run("projection", func(t *testing.T) {
		s := filled(t)
		for path, want := range map[string]string{
			"/Users/1000001?attributes=userName,emails.value":                        `{"schemas":["` + scim.SchemaUser + `"],"id":"1000001","userName":"ann","emails":[{"value":"ann@x.io"},{"value":"a@home"}]}`,
			"/Users/1000001?attributes=nothing":                                      `{"schemas":["` + scim.SchemaUser + `"],"id":"1000001"}`,
			"/Users/1000001?attributes=password":                                     `{"schemas":["` + scim.SchemaUser + `"],"id":"1000001"}`,
			"/Users/1000001?excludedAttributes=meta,id,emails.type,title":            `{"schemas":["` + scim.SchemaUser + `"],"id":"1000001","externalId":"X1","userName":"ann","emails":[{"primary":true,"value":"ann@x.io"},{"value":"a@home"}]}`,
			"/Users/1000002?excludedAttributes=manager.value,meta,active":            `{"schemas":["` + scim.SchemaUser + `","` + scim.SchemaEnterpriseUser + `"],"id":"1000002","userName":"bob","title":"A","` + scim.SchemaEnterpriseUser + `":{"department":"R&D"}}`,
			"/Users/1000002?attributes=" + scim.SchemaEnterpriseUser + `:department`: `{"schemas":["` + scim.SchemaUser + `","` + scim.SchemaEnterpriseUser + `"],"id":"1000002","` + scim.SchemaEnterpriseUser + `":{"department":"R&D"}}`,
		} {
			a := s.want(200, s.do("GET", path, ""))
			if got := string(scim.AppendJSON(nil, a.body)); got != want {
				t.Errorf("%s:\n got %s\nwant %s", path, got, want)
			}
		}
		all := s.want(200, s.do("GET", "/Users/1000002", ""))
		if all.body.Get(scim.Ref{Schema: scim.SchemaEnterpriseUser, Name: "department"}) != "R&D" || all.body.Meta("version") == "" {
			t.Errorf("got %v, want the record unharmed by the projections", all)
		}
	})
	t.Run("groups", func(t *testing.T) {
		s := filled(t)
		g := s.want(201, s.do("POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"G","members":[{"value":"1000001"},{"value":"1000001"}]}`)).body
		s.want(200, s.do("PATCH", "/Groups/"+g.ID(), patch(`{"op":"add","path":"members","value":[{"value":"1000002"}]}`)))
		read := s.do("GET", "/Groups/"+g.ID(), "").body
		if got := fmt.Sprint(read.Get(scim.Ref{Name: "members", Sub: "value"})); got != "[1000001 1000002]" {
			t.Errorf("members: got %s", got)
		}
		if got := fmt.Sprint(s.do("GET", "/Users/1000001", "").body.Get(scim.Ref{Name: "groups", Sub: "value"})); got != "["+g.ID()+"]" {
			t.Errorf("groups of ann: got %s", got)
		}
		if got := s.do("GET", query(`groups.display eq "G"`), "").userNames(); !slices.Equal(got, names("ann", "bob")) {
			t.Errorf("got %v, want ann and bob", got)
		}
		members := s.do("GET", "/Groups?filter="+url.QueryEscape(`id eq "`+g.ID()+`" and members eq "1000002"`)+"&attributes=id", "")
		if len(members.list()) != 1 {
			t.Errorf("reference check: got %v, want the group", members)
		}
		s.want(204, s.do("DELETE", "/Users/1000001", ""))
		s.want(200, s.do("PATCH", "/Groups/"+g.ID(), patch(`{"op":"remove","path":"members[value eq \"1000002\"]"}`)))
		if read := s.do("GET", "/Groups/"+g.ID(), "").body; read["members"] != nil {
			t.Errorf("got members %v, want none", read["members"])
		}
	})
	t.Run("versions", func(t *testing.T) {
		s := filled(t)
		first := s.do("GET", "/Users/1000001", "")
		tag := first.header.Get("ETag")
		if tag == "" || tag != first.body.Meta("version") {
			t.Fatalf("got ETag %q and version %q, want the same", tag, first.body.Meta("version"))
		}
		s.want(304, s.do("GET", "/Users/1000001", "", "If-None-Match", tag))
		title := patch(`{"op":"replace","path":"title","value":"new"}`)
		s.want(412, s.do("PATCH", "/Users/1000001", title, "If-Match", `W/"99"`))
		changed := s.want(200, s.do("PATCH", "/Users/1000001", title, "If-Match", tag))
		if changed.header.Get("ETag") == tag {
			t.Errorf("got the same version after a change")
		}
		again := s.want(204, s.do("PATCH", "/Users/1000001", title, "If-Match", "*"))
		if got := again.header.Get("ETag"); got != changed.header.Get("ETag") {
			t.Errorf("got version %q after a PATCH that changes nothing, want %q", got, changed.header.Get("ETag"))
		}
		s.want(412, s.do("DELETE", "/Users/1000001", "", "If-Match", tag))
		s.want(200, s.do("GET", "/Users/1000001", "", "If-None-Match", tag))
	})
	t.Run("password", func(t *testing.T) {
		s := filled(t)
		s.want(204, s.do("PATCH", "/Users/1000001", patch(`{"op":"replace","path":"password","value":"secret-2"}`))) // it is not stored
		for _, path := range []string{"/Users", "/Users/1000001"} {
			if a := s.do("GET", path, ""); strings.Contains(a.text, "secret") || strings.Contains(a.text, "password") {
				t.Errorf("%s: got %v, want no password", path, a)
			}
		}
	})
	t.Run("whole resource in a PATCH", func(t *testing.T) {
		s := filled(t)
		r := s.do("GET", "/Users/1000001", "").body
		r["title"] = "whole"
		a := s.want(200, s.do("PATCH", "/Users/1000001", patch(`{"op":"replace","value":`+string(scim.AppendJSON(nil, r))+`}`)))
		if a.body["title"] != "whole" {
			t.Errorf("got %v, want the title changed", a)
		}
	})
}

func TestBehindTheBack(t *testing.T) {
	sim := newSimulator(t, Config{Profile: load(t, "bluejeans")})
	r, err := sim.Put("User", scim.Resource{"userName": strings.Repeat("x", 40), "active": true})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = sim.Put("User", scim.Resource{"id": r.ID(), "userName": "short"}); err != nil || r["active"] != nil {
		t.Errorf("got %v, %v, want the user replaced", r, err)
	}
	if _, err := sim.Put("Group", scim.Resource{"displayName": "g"}); err == nil {
		t.Error("got a group where the profile has none")
	}
	if !sim.Rename(r.ID(), "other") || sim.Rename("none", "x") {
		t.Error("got Rename wrong")
	}
	own, err := sim.Put("User", scim.Resource{"id": "abc/1", "userName": "second"})
	if err != nil || own.Meta("location") != "http://localhost/v2/scim/Users/abc%2F1" {
		t.Errorf("got %v, %v, want the id kept and escaped", own.Meta("location"), err)
	}
	var got []string
	for _, r := range sim.Resources("User") {
		got = append(got, r.UserName())
	}
	if want := []string{"other", "second"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !sim.Remove("User", "abc/1") || sim.Remove("User", "abc/1") || len(sim.Resources("User")) != 1 {
		t.Error("got Remove wrong")
	}
	resp, err := sim.Do(t.Context(), &scim.Request{Op: scim.OpQuery, Type: scim.UserType(), Query: scim.Query{Filter: filterOf(t, `userName eq "OTHER"`)}})
	if err != nil || resp.TotalResults != 1 {
		t.Errorf("got %+v, %v, want the renamed user", resp, err)
	}
	if len(sim.Ledger()) != 1 {
		t.Errorf("got %d entries, want only the request", len(sim.Ledger()))
	}
	resp.List[0]["userName"] = "changed by the caller"
	sim.Reset()
	if len(sim.Resources("User")) != 0 || len(sim.Ledger()) != 0 || sim.Count(scim.OpQuery) != 0 {
		t.Error("got something left after Reset")
	}
}

func filterOf(t testing.TB, text string) scim.Filter {
	t.Helper()
	f, err := scim.ParseFilter(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestDo wants the answers of Do to be those of HTTP.
func TestDo(t *testing.T) {
	sim := newSimulator(t, Config{Profile: load(t, "generic")})
	users := scim.UserType()
	do := func(req *scim.Request) (*scim.Response, error) {
		req.Type = users
		return sim.Do(t.Context(), req)
	}
	body := scim.Resource{"schemas": []any{scim.SchemaUser}, "userName": "ann", "emails": []any{map[string]any{"type": "work", "value": "a@x"}}}
	want := body.Clone()
	created, err := do(&scim.Request{Op: scim.OpCreate, Resource: body})
	if err != nil || created.Status != 201 || created.Version == "" {
		t.Fatalf("got %+v, %v, want 201", created, err)
	}
	if !reflect.DeepEqual(body, want) {
		t.Errorf("the request changed: got %v, want %v", body, want)
	}
	id := created.Resource.ID()
	created.Resource["emails"].([]any)[0].(map[string]any)["value"] = "changed by the caller"
	read, err := do(&scim.Request{Op: scim.OpGet, ID: id})
	if err != nil || fmt.Sprint(read.Resource.Get(scim.Ref{Name: "emails", Sub: "value"})) != "[a@x]" {
		t.Errorf("got %+v, %v, want a record of its own", read, err)
	}
	path, err := scim.ParsePath("title")
	if err != nil {
		t.Fatal(err)
	}
	patched, err := do(&scim.Request{Op: scim.OpPatch, ID: id, Operations: []scim.PatchOp{{Op: "add", Path: path, Value: "T"}}})
	if err != nil || patched.Resource["title"] != "T" {
		t.Errorf("got %+v, %v, want the title", patched, err)
	}
	if _, err := do(&scim.Request{Op: scim.OpGet, ID: "none"}); err == nil || !strings.HasPrefix(err.Error(), "404") {
		t.Errorf("got %v, want 404", err)
	}
	config, err := sim.Do(t.Context(), &scim.Request{Op: scim.OpDiscover, ID: "ServiceProviderConfig"})
	if err != nil || config.Resource["patch"] == nil {
		t.Errorf("got %+v, %v, want the configuration", config, err)
	}
	var ledger []string
	for _, e := range sim.Ledger() {
		ledger = append(ledger, fmt.Sprint(e.Method, " ", e.Target, " ", e.Op, " ", e.Status, " ", e.Processed))
	}
	wantLedger := []string{
		"POST /v2/scim/Users create 201 true", "GET /v2/scim/Users/" + id + " get 200 true", "PATCH /v2/scim/Users/" + id + " patch 200 true",
		"GET /v2/scim/Users/none get 404 false", "GET /v2/scim/ServiceProviderConfig discover 200 true",
	}
	if !slices.Equal(ledger, wantLedger) {
		t.Errorf("got %q, want %q", ledger, wantLedger)
	}
	var _ scim.Provider = sim
}

func TestNewRefuses(t *testing.T) {
	p := load(t, "generic")
	for name, cfg := range map[string]Config{
		"Profile":            {Tokens: []string{"x"}},
		"Tokens":             {Profile: p},
		"empty token":        {Profile: p, Tokens: []string{"x", ""}},
		"Rate":               {Profile: p, Tokens: []string{"x"}, Rate: -1},
		"too-long must be":   {Profile: p, Tokens: []string{"x"}, Assume: Assumptions{TooLong: "explode"}},
		"x.yaml:3:5: nosuch": {Tokens: []string{"x"}, Profile: &profile.Profile{File: "x.yaml", Resources: []profile.Resource{{Name: "User", Attributes: []profile.Attribute{{Path: "nosuch", Line: 3, Column: 5}}}}}},
		"no schema":          {Tokens: []string{"x"}, Profile: &profile.Profile{Resources: []profile.Resource{{Name: "User", Extensions: []string{"urn:x"}}}}},
		"no resource type":   {Tokens: []string{"x"}, Profile: &profile.Profile{Resources: []profile.Resource{{Name: "Device"}}}},
		"form value is for":  {Tokens: []string{"x"}, Profile: &profile.Profile{Resources: []profile.Resource{{Name: "User", Attributes: []profile.Attribute{{Path: "title", Form: profile.FormValue}}}}}},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error with %q", err, name)
		}
	}
}

func TestToken(t *testing.T) {
	s := start(t, Config{Profile: load(t, "bluejeans"), Tokens: []string{token, "another"}})
	for header, want := range map[string]int{
		"Bearer " + token: 200, "bearer another": 200, "Bearer wrong": 401, "": 401, "Bearer ": 401, "Basic " + token: 401,
	} {
		a := s.do("GET", "/Users", "", "Authorization", header)
		if a.status != want {
			t.Errorf("%q: got %v, want %d", header, a, want)
		}
		if (a.header.Get("WWW-Authenticate") != "") != (want == 401) {
			t.Errorf("%q: got WWW-Authenticate %q", header, a.header.Get("WWW-Authenticate"))
		}
	}
}

func TestBasePath(t *testing.T) {
	for base, paths := range map[string]map[string]int{
		"":          {"/v2/scim/Users": 200, "/Users": 404, "/v2/scimUsers": 404},
		"/":         {"/Users": 200, "//users/": 200},
		"/a/b/":     {"/a/b/Users": 200, "/a/Users": 404, "/a/b": 404},
		"scim%2F/x": {"/Users": 404},
	} {
		sim := newSimulator(t, Config{Profile: load(t, "generic"), BasePath: base})
		for path, want := range paths {
			r := httptest.NewRequest("GET", path, nil)
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			sim.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%q %s: got %d, want %d", base, path, w.Code, want)
			}
		}
	}
	sim := newSimulator(t, Config{Profile: load(t, "generic"), URL: "https://scim.example.com/x/"})
	r, err := sim.Put("User", scim.Resource{"userName": "a"})
	if err != nil || r.Meta("location") != "https://scim.example.com/x/Users/1000001" {
		t.Errorf("got %v, %v, want the configured URL", r, err)
	}
}

func TestBodies(t *testing.T) {
	s := start(t, Config{Profile: load(t, "generic"), MaxBody: 200})
	s.refused(400, "invalidSyntax", s.do("POST", "/Users", `{"a"`))
	s.want(413, s.do("POST", "/Users", user("x", `"title":"`+strings.Repeat("y", 200)+`"`)))
	s.want(415, s.do("POST", "/Users", user("x", ""), "Content-Type", "text/plain"))
	s.want(405, s.do("DELETE", "/Users", ""))
	s.want(404, s.do("GET", "/Nothing", ""))
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/Users", io.NopCloser(bytes.NewReader(bytes.Repeat([]byte(" "), 400))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 413 {
		t.Errorf("without Content-Length: got %d, want 413", res.StatusCode)
	}
}
