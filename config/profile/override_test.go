package profile

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// override applies src, read as c.yaml, to the built-in profile name.
func override(t *testing.T, name, src string) (before, after *Profile, problems Problems) {
	t.Helper()
	before, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	v, ok := Read("c.yaml", []byte(src), &problems)
	if !ok {
		t.Fatalf("not readable: %v", problems)
	}
	after = before.Override(v)
	again, err := Load(name)
	if err != nil || !reflect.DeepEqual(before, again) {
		t.Errorf("the profile itself was changed: got %+v, want %+v, %v", before, again, err)
	}
	return before, after, problems
}

func TestOverride(t *testing.T) {
	before, after, problems := override(t, "bluejeans", `User:
  unlisted: refuse
  attributes:
    - path: username
      onViolation: alias
    - path: displayName
      maxLength: 64
    - path: externalId
      handling: drop
`)
	if len(problems) != 0 {
		t.Fatalf("got %v, want no problems", problems)
	}
	old, changed := before.Resource("User"), after.Resource("User")
	if changed.Unlisted != HandlingRefuse || old.Unlisted != HandlingDrop {
		t.Errorf("unlisted: got %s over %s", changed.Unlisted, old.Unlisted)
	}
	if got, want := len(changed.Attributes), len(old.Attributes)+1; got != want {
		t.Errorf("got %d attributes, want %d", got, want)
	}
	for _, want := range []Attribute{
		{Path: "username", Required: true, MaxLength: 30, OnViolation: ViolationAlias, Filter: []string{"eq"}, File: "c.yaml", Line: 4, Column: 7},
		{Path: "displayName", MaxLength: 64, OnViolation: ViolationReject, File: "c.yaml", Line: 6, Column: 7},
		{Path: "externalId", Handling: HandlingDrop, OnViolation: ViolationReject, File: "c.yaml", Line: 8, Column: 7},
	} {
		if got := changed.attribute(want.Path); got == nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if got, want := *changed.attribute("title"), *old.attribute("title"); !reflect.DeepEqual(got, want) {
		t.Errorf("title: got %+v, want %+v", got, want)
	}
}

func TestOverrideProblems(t *testing.T) {
	for _, test := range []struct {
		profile, src string
		want         []string
	}{
		{"bluejeans", "Group: {unlisted: drop}\n", []string{`c.yaml:1:1: unknown key "Group"; known here: User`}},
		{"bluejeans", "User: {endpoint: /People}\n", []string{`c.yaml:1:8: User: unknown key "endpoint"; known here: attributes, unlisted`}},
		{"bluejeans", "User: {attributes: [{path: title, onViolation: alias}]}\n", []string{"c.yaml:1:21: title: onViolation: alias is for the userName", "c.yaml:1:21: title: onViolation: alias without"}},
		{"bluejeans", "User: {attributes: [{path: userName, handling: drop}]}\n", []string{"c.yaml:1:21: userName: handling drop says"}},
		{"bluejeans", "User: {attributes: [{path: nickName}, {path: NICKNAME}]}\n", []string{`c.yaml:1:39: attributes: "NICKNAME" is listed twice`}},
		{"bluejeans", "User: {attributes: [{maxLength: 3}]}\n", []string{"c.yaml:1:21: attributes: path is missing"}},
		{"bluejeans", "User: {attributes: [title]}\n", []string{"c.yaml:1:21: attributes: want a mapping"}},
		{"generic", "User: {unlisted: drop}\n", []string{"c.yaml:1:18: unlisted: the profile is complete for User"}},
		{"generic", "Group: {attributes: [{path: displayName, handling: drop}]}\n", []string{"c.yaml:1:22: displayName: handling drop says that the upstream lacks it, but"}},
		{"generic", "User: {attributes: [{path: userName, filter: [eq]}]}\n", []string{"c.yaml:1:21: userName: filter: the profile's filter says all"}},
	} {
		_, _, problems := override(t, test.profile, test.src)
		var got []string
		if err := problems.Err(); err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
			t.Errorf("%s over %s: got %q, want %q", test.src, test.profile, got, test.want)
		}
	}
}

func TestBaseURL(t *testing.T) {
	for _, test := range []struct {
		text  string
		plain bool
		want  string // "" for an error
	}{
		{"https://api.example.com/v2/scim", false, "https://api.example.com/v2/scim"},
		{"https://api.example.com/v2/scim//", false, "https://api.example.com/v2/scim"},
		{"https://api.example.com", false, "https://api.example.com"},
		{"https://api.example.com:8443/", false, "https://api.example.com:8443"},
		{"http://127.0.0.1:8080/scim", false, "http://127.0.0.1:8080/scim"},
		{"http://127.9.9.9", false, "http://127.9.9.9"},
		{"http://[::1]:8080", false, "http://[::1]:8080"},
		{"http://LOCALHOST", false, "http://LOCALHOST"},
		{"http://localhost.example.com", false, ""},
		{"http://10.0.0.1", false, ""},
		{"http://10.0.0.1", true, "http://10.0.0.1"},
		{"https://user@example.com", true, ""},
		{"https://example.com?", true, ""},
		{"https://example.com#", true, ""},
		{"ftp://example.com", true, ""},
		{"//example.com", true, ""},
		{"https:example.com", true, ""},
		{"https://:443", true, ""},
		{"api.example.com/scim", true, ""},
	} {
		got, err := BaseURL(test.text, test.plain)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s, %v: got %q, %v, want %q", test.text, test.plain, got, err, test.want)
		}
	}
}
