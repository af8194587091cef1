package simulator

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"scimgate/transform/scim"
)

const (
	email     = `"emails":[{"type":"work","value":"ann@x.io"}]`
	manager   = `"` + scim.SchemaEnterpriseUser + `":{"manager":"26"}`
	setTitle  = `{"op":"replace","path":"title","value":"t"}`
	setActive = `{"op":"replace","path":"active","value":false}`
)

var long = strings.Repeat("x", 31)

// status makes a case out of a request to a service provider that has one user, ann, id 1000001.
func status(method, path, body string, want int) func(*site) error {
	return func(s *site) error {
		s.create("ann", email)
		if a := s.do(method, path, body); a.status != want {
			return fmt.Errorf("got %v, want %d", a, want)
		}
		return nil
	}
}

// shows makes a case out of what a created user looks like when it is read.
func shows(more string, want bool, part string) func(*site) error {
	return func(s *site) error {
		id := s.create("Ann", more).ID()
		if a := s.do("GET", "/Users/"+id, ""); strings.Contains(a.text, part) != want {
			return fmt.Errorf("got %v, want %s in it: %v", a, part, want)
		}
		return nil
	}
}

// finds makes a case out of the userNames that a filter finds among ann and bob, after something was done to ann.
func finds(method, body, filter string, want ...string) func(*site) error {
	return func(s *site) error {
		id := s.create("ann", `"active":true`).ID()
		s.create("bob", "")
		if method != "" {
			if a := s.do(method, "/Users/"+id, body); a.status >= 300 {
				return fmt.Errorf("got %v, want success", a)
			}
		}
		a := s.do("GET", query(filter), "")
		if got := a.userNames(); a.status != 200 || !slices.Equal(got, want) {
			return fmt.Errorf("got %v, want %v", a, want)
		}
		return nil
	}
}

// TestAssumptions tries every value of every assumption under the BlueJeans profile.
func TestAssumptions(t *testing.T) {
	const me = "/Users/1000001"
	userNameAnn := `userName eq "ann"`
	cases := map[string]func(*site) error{
		"too-long=refuse":   status("POST", "/Users", user(long, ""), 400),
		"too-long=truncate": shows("", true, "Ann"), // and TestTruncate
		"too-long=accept":   status("POST", "/Users", user(long, ""), 201),

		"missing-element=accept": status("PATCH", me, patch(`{"op":"add","path":"phoneNumbers[type eq \"work\"].value","value":"1"}`), 200),
		"missing-element=refuse": status("PATCH", me, patch(`{"op":"add","path":"phoneNumbers[type eq \"work\"].value","value":"1"}`), 400),

		"filter-unsupported=refuse": status("GET", query("title pr"), "", 400),
		"filter-unsupported=ignore": finds("", "", "title pr", "ann", "bob"),
		"filter-unsupported=empty":  finds("", "", "title pr"),

		"unknown-attributes=ignore": status("POST", "/Users", user("bob", `"nickName":"b"`), 201),
		"unknown-attributes=refuse": func(s *site) error {
			s.create("ann", `"nickName":null,"roles":[],"meta":{"resourceType":"User"},`+email)
			for body, want := range map[string]string{
				`"nickName":"b"`: "nickName", `"madeUp":1`: "madeUp", `"externalId":"x"`: "externalId",
				`"emails":[{"type":"home","value":"h"}]`: `emails[type eq "home"]`,
			} {
				a := s.do("POST", "/Users", user("bob", body))
				if a.status != 400 || !strings.Contains(fmt.Sprint(a.body["detail"]), want) {
					return fmt.Errorf("%s: got %v, want 400 that names it", body, a)
				}
			}
			if a := s.do("PATCH", me, patch(`{"op":"add","path":"nickName","value":"n"}`)); a.status != 400 {
				return fmt.Errorf("got %v, want 400", a)
			}
			return nil
		},

		"duplicate=409": status("POST", "/Users", user("ANN", ""), 409),
		"duplicate=400": func(s *site) error {
			s.create("ann", "")
			a := s.do("POST", "/Users", user("ANN", ""))
			if a.status != 400 || a.text != `{"code":400,"message":"Email address is already taken"}` {
				return fmt.Errorf("got %v, want the REST message", a)
			}
			return nil
		},
		"email=profile": status("POST", "/Users", user("bob", email), 409),
		"email=unique":  status("POST", "/Users", user("bob", email), 409),
		"email=shared":  status("POST", "/Users", user("bob", email), 201),

		"user-name-case=insensitive": status("POST", "/Users", user("ANN", ""), 409),
		"user-name-case=sensitive": func(s *site) error {
			s.create("ANN", "")
			return finds("", "", userNameAnn, "ann")(s)
		},
		"user-name-stored=as-sent":    shows("", true, `"Ann"`),
		"user-name-stored=lower-case": shows("", true, `"ann"`),
		"active-on-create=as-sent":    shows(`"active":false`, true, `"active":false`),
		"active-on-create=always":     shows(`"active":false`, true, `"active":true`),
		"manager=text":                shows(manager, true, `"manager":"26"`),
		"manager=object":              shows(manager, true, `"manager":{"value":"26"}`),

		"patch=yes": status("PATCH", me, patch(setTitle), 200),
		"patch=no":  status("PATCH", me, patch(setTitle), 501),
		"put=yes":   status("PUT", me, user("ann", ""), 200),
		"put=no":    status("PUT", me, user("ann", ""), 501),
		"patch-answers=200": func(s *site) error {
			s.create("ann", "")
			for _, again := range []struct {
				query string
				want  int
			}{{"", 200}, {"", 204}, {"?attributes=title", 200}} {
				if a := s.do("PATCH", me+again.query, patch(setTitle)); a.status != again.want {
					return fmt.Errorf("PATCH %s: got %v, want %d", again.query, a, again.want)
				}
			}
			return nil
		},
		"patch-answers=204": status("PATCH", me, patch(setTitle), 204),

		"delete=removes":  finds("DELETE", "", userNameAnn),
		"delete=disables": finds("DELETE", "", userNameAnn, "ann"),
		"disable=keeps":   finds("PATCH", patch(setActive), userNameAnn, "ann"),
		"disable=hides": func(s *site) error {
			if err := finds("PATCH", patch(setActive), userNameAnn)(s); err != nil {
				return err
			}
			if a := s.do("GET", "/Users", ""); !slices.Equal(a.userNames(), []string{"bob"}) {
				return fmt.Errorf("got %v, want bob alone", a)
			}
			if a := s.do("GET", me, ""); a.status != 200 {
				return fmt.Errorf("got %v, want the user by id", a)
			}
			return nil
		},
		"disable=removes": func(s *site) error {
			if err := finds("PATCH", patch(setActive), userNameAnn)(s); err != nil {
				return err
			}
			return ifNot(s.do("GET", me, ""), 404)
		},

		"ids=decimal": shows("", true, `"id":"1000001"`),
		"ids=uuid": func(s *site) error {
			if id := s.create("ann", "").ID(); len(id) != 36 || id[14] != '4' || strings.Count(id, "-") != 4 {
				return fmt.Errorf("got %q, want a UUID", id)
			}
			return nil
		},
		"meta=yes":        shows("", true, `"meta"`),
		"meta=no":         shows("", false, `"meta"`),
		"times=fractions": shows("", true, `.`),
		"times=whole-seconds": func(s *site) error {
			if created := s.create("ann", "").Meta("created"); len(created) != len("2026-01-02T03:04:05Z") {
				return fmt.Errorf("got %q, want whole seconds", created)
			}
			return nil
		},
		"etag=profile": shows("", false, `"version"`),
		"etag=on":      shows("", true, `"version"`),
		"etag=off":     shows("", false, `"version"`),

		"errors=scim": status("GET", "/Users/none", "", 404),
		"errors=rest": func(s *site) error {
			a := s.do("GET", "/Users/none", "")
			if a.status != 404 || a.text != `{"code":404,"message":"User \"none\" does not exist"}` || a.header.Get("Content-Type") != "application/json" {
				return fmt.Errorf("got %v, want a REST error", a)
			}
			return nil
		},
		"media-type=scim": mediaType("application/scim+json; charset=utf-8"),
		"media-type=json": mediaType("application/json"),
		"discovery=yes":   status("GET", "/Schemas", "", 200),
		"discovery=no":    status("GET", "/Schemas", "", 404),
		"bad-token=401":   badToken(401),
		"bad-token=403":   badToken(403),
	}
	for _, as := range Assumed {
		if as.Doc == "" || as.Source == "" || len(as.Values) > 0 && (as.flag == nil) == (as.choice == nil) {
			t.Errorf("%s: got an incomplete row", as.Name)
		}
		for i, value := range as.Values {
			name := as.Name + "=" + value
			t.Run(name, func(t *testing.T) {
				check := cases[name]
				if check == nil {
					t.Fatal("no case for it: add one to the table")
				}
				var a Assumptions
				if err := a.Set(name); err != nil {
					t.Fatal(err)
				}
				if (a == Assumptions{}) != (i == 0) {
					t.Errorf("got %+v, want the first value to be the default", a)
				}
				if err := check(start(t, Config{Profile: load(t, "bluejeans"), Assume: a})); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func ifNot(a answer, status int) error {
	if a.status != status {
		return fmt.Errorf("got %v, want %d", a, status)
	}
	return nil
}

func mediaType(want string) func(*site) error {
	return func(s *site) error {
		for _, path := range []string{"/Users", "/Users/none"} {
			if got := s.do("GET", path, "").header.Get("Content-Type"); got != want {
				return fmt.Errorf("%s: got %q, want %q", path, got, want)
			}
		}
		return nil
	}
}

func badToken(want int) func(*site) error {
	return func(s *site) error { return ifNot(s.do("GET", "/Users", "", "Authorization", "Bearer no"), want) }
}

func TestTruncate(t *testing.T) {
	s := start(t, Config{Profile: load(t, "bluejeans"), Assume: Assumptions{TooLong: CutOff}})
	if got := s.create(strings.Repeat("é", 31), "").UserName(); got != strings.Repeat("é", 30) {
		t.Errorf("got %q, want 30 characters", got)
	}
	s.want(http.StatusConflict, s.do("POST", "/Users", user(strings.Repeat("é", 32), "")))
}

// An add at a value filter is refused for a missing element only: one that is there is completed.
func TestMissingElementRefused(t *testing.T) {
	s := start(t, Config{Profile: load(t, "generic"), Assume: Assumptions{MissingElement: Refuse}})
	s.create("ann", email)
	const completed = `{"op":"add","path":"emails[type eq \"work\"]","value":{"display":"d"}}`
	if a := s.do("PATCH", "/Users/1000001", patch(completed)); a.status != 200 || !strings.Contains(a.text, "ann@x.io") || !strings.Contains(a.text, `"d"`) {
		t.Errorf("got %v, want 200 and the element with value and display", a)
	}
	for _, operations := range []string{
		`{"op":"add","path":"emails[type eq \"home\"]","value":{"value":"h"}}`,
		`{"op":"remove","path":"emails"},` + completed,
	} {
		if a := s.do("PATCH", "/Users/1000001", patch(operations)); a.status != 400 || !strings.Contains(a.text, scim.NoTarget) {
			t.Errorf("%s: got %v, want 400 %s", operations, a, scim.NoTarget)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"nonsense=1":     "patch-answers",
		"patch-answers":  "200, 204",
		"too-long=":      "refuse, truncate, accept",
		"rate=5":         "NAME is one of",
		"email=sometime": "profile, unique, shared",
	} {
		var a Assumptions
		if err := a.Set(text); err == nil || !strings.Contains(err.Error(), want) || (a != Assumptions{}) {
			t.Errorf("%s: got %v, want an error with %q", text, err, want)
		}
	}
	at := slices.IndexFunc(Assumed, func(as Assumption) bool { return as.Name == "too-long" })
	if got := Assumed[at].String(); !strings.HasPrefix(got, "too-long=refuse|truncate|accept  (assumed) A value") {
		t.Errorf("got %q", got)
	}
}
