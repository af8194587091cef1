package profile

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// problemsOf returns one line for each problem of src as p.yaml, without the file's name.
func problemsOf(t *testing.T, src string) []string {
	t.Helper()
	p, err := Parse("p.yaml", []byte(src))
	if err == nil {
		return nil
	}
	problems, ok := errors.AsType[Problems](err)
	if p != nil || !ok || len(problems) == 0 {
		t.Fatalf("got %v, %T %v, want Problems and no profile", p, err, err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(problems) {
		t.Errorf("got %d lines for %d problems, want one each: %q", len(lines), len(problems), err)
	}
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "p.yaml:")
	}
	return lines
}

func TestProblems(t *testing.T) {
	// resource is a profile whose User ends with the given lines; attribute one whose userName does.
	resource := func(lines string) string {
		return "name: p\nresources:\n  - name: User\n    endpoint: /Users\n" + lines
	}
	attribute := func(lines string) string { return valid + lines }
	for _, test := range []struct{ name, src, want string }{ // want: "line:column: part of the message", more after "|"
		{"empty", "", "1:1: name is missing|1:1: resources is missing"},
		{"only a comment", "# nothing\n", "1:1: name is missing|1:1: resources is missing"},
		{"not a mapping", "- a\n", "1:1: want a mapping of keys to values, got a list"},
		{"text", "hello\n", "1:1: want a mapping of keys to values, got text"},
		{"syntax", "name: \"p\n", "1:7: not valid YAML: could not find end character"},
		{"syntax of a secret stays hidden", "token: s3cret: x\n", "1:8: not valid YAML: mapping value is not allowed"},
		{"two documents", valid + "---\nname: q\n", "8:5: not valid YAML: a second document"},
		{"anchor and alias", "name: &a p\ntitle: *a\n", "1:7: anchors|2:8: anchors"},
		{"merge key", "<<: {name: p}\n", "1:1: anchors, aliases and merge keys"},
		{"tag", "name: !!str p\n", "1:7: tags"},
		{"directive", "%YAML 1.2\n---\nname: p\n", "1:1: directives"},
		{"control character", "name: p\ntitle: \"a\x01\"\n", "2:10: control character U+0001"},
		{"not UTF-8", "name: p\ntitle: ä\xff\n", "2:9: not UTF-8"},
		{"too deep", "name: " + strings.Repeat("[", 30), "1:30: nested deeper than 24"},
		{"unknown key", valid + "Title: x\n", `7:1: unknown key "Title"; known here: contentType, documentation,`},
		{"key with another type", valid + "7: x\n", "7:1: want a key that is plain text"},
		{"duplicate key", valid + "sort: true\nsort: false\n", `8:1: the key "sort" stands here twice`},
		{"duplicate key in one line", valid + "update: {mode: put, mode: patch}\n", `7:21: update: the key "mode" stands here twice`},
		{"no value", valid + "title:\nurl: ~\n", "7:7: title: has no value|8:6: url: has no value"},
		{"number for text", valid + "title: 5\n", "7:8: title: want text, got a number; put quotes around it"},
		{"boolean for text", valid + "title: true\n", "7:8: title: want text, got true or false; put quotes"},
		{"list for text", valid + "title: [a]\n", "7:8: title: want text, got a list"},
		{"empty text", valid + "title: ''\n", "7:8: title: is empty"},
		{"lines for text", valid + "title: |\n  a\n  b\n", "7:8: title: want one line"},
		{"long text", valid + "title: " + strings.Repeat("x", 2000) + "\n", "7:8: title: longer than 1024 bytes"},
		{"text for boolean", valid + "sort: yes\n", "7:7: sort: want true or false, got text"},
		{"text for number", valid + "paging:\n  pageSize: many\n", "8:13: pageSize: want a whole number from 1 to 1000, got text"},
		{"hexadecimal", valid + "paging: {pageSize: 0x10}\n", `7:20: pageSize: want a whole number from 1 to 1000, got "0x10"`},
		{"fraction for whole number", valid + "paging: {pageSize: 1.5}\n", "7:20: pageSize: want a whole number from 1 to 1000, got a number"},
		{"page size 0", valid + "paging: {pageSize: 0}\n", "7:20: pageSize: want a whole number from 1"},
		{"page size 1001", valid + "paging: {pageSize: 1001}\n", `got "1001"`},
		{"in flight 0", valid + "rate: {inFlight: 0}\n", "7:18: inFlight: want a whole number from 1 to 1024"},
		{"negative rate", valid + "rate: {requestsPerSecond: -1}\n", "7:27: requestsPerSecond: want a number from 0"},
		{"infinite rate", valid + "rate: {requestsPerSecond: .inf}\n", "7:27: requestsPerSecond: want a number from 0 to 10000, got a number"},
		{"not a number", valid + "rate: {requestsPerSecond: .nan}\n", "7:27: requestsPerSecond: want a number"},
		{"mapping for list", valid + "errors: {a: b}\n", "7:9: errors: want a list, got a mapping"},

		{"name", strings.Replace(valid, "name: p", "name: My Profile", 1), "1:7: name: want 1 to 32 of the characters a-z"},
		{"url without host", valid + "url: scim\n", "7:6: url: want a whole URL"},
		{"url http", valid + "url: http://example.com/scim\n", "7:6: url: want https"},
		{"url with password", valid + "url: https://u:hunter2@example.com/scim\n", "7:6: url: no user or password"},
		{"url with query", valid + "url: https://example.com/scim?a=b\n", "7:6: url: a base URL has no query"},
		{"url with fragment", valid + "url: 'https://example.com/scim#'\n", "7:6: url: a base URL has no fragment"},
		{"url not a URL", valid + "url: 'https://example.com/%zz'\n", "7:6: url: not a URL"},
		{"documentation", valid + "documentation: see the wiki\n", "7:16: documentation: want a URL"},
		{"content type", valid + "contentType: text/xml\n", "7:14: contentType: want a JSON media type"},
		{"update mode", valid + "update: {mode: post}\n", `7:16: mode: want one of patch, single, put, got "post"`},
		{"update mode of another type", valid + "update: {mode: 1}\n", "7:16: mode: want one of patch, single, put, got a number"},
		{"filter all and more", valid + "filter:\n  all: true\n  and: true\n", "8:3: filter: all already means every connective"},

		{"no resources", "name: p\nresources: []\n", "2:12: resources: want 1 to 2 entries, got 0"},
		{"resource without value", "name: p\nresources:\n  - name: User\n    endpoint: /Users\n    complete: true\n  -\n", "this entry has no value"},
		{"no User", "name: p\nresources:\n  - {name: Group, endpoint: /Groups, complete: true}\n", "3:3: resources: there is no User"},
		{"another resource", "name: p\nresources:\n  - {name: Device, endpoint: /Devices, complete: true}\n", `3:12: name: want one of User, Group, got "Device"`},
		{"twice", resource("    complete: true\n  - {name: User, endpoint: /users, complete: true}\n"), "6:5: resources: the endpoint /users is the one of User|6:5: resources: the resource User stands here twice"},
		{"endpoint", "name: p\nresources:\n  - {name: User, endpoint: Users/, complete: true}\n", "3:28: endpoint: want one path segment"},
		{"endpoint missing", "name: p\nresources:\n  - name: User\n    complete: true\n", "3:5: resources: endpoint is missing"},
		{"extensions", resource("    complete: true\n    extensions: [enterprise, 'urn:a:b', 'urn:A:b']\n"), `6:18: extensions: want a schema's URN|6:41: extensions: "urn:A:b" stands here twice`},
		{"operation", resource("    complete: true\n    operations: [get, list, get]\n"), `6:23: operations: want one of create, get, query, replace, patch, delete, got "list"|6:29: operations: get stands here twice`},
		{"query without get", resource("    complete: true\n    operations: [create, query]\n"), "6:17: operations: query needs get"},
		{"no operations", resource("    complete: true\n    operations: []\n"), "6:17: operations: want 1 to 6 entries, got 0"},
		{"put without get", resource("    complete: true\n    operations: [create, patch]\nupdate: {mode: put}\n"), "3:5: User: update mode put carries a patch as get and replace"},
		{"read back without get", resource("    complete: true\n    operations: [create, patch]\nupdate: {readBack: true}\n"), "3:5: User: update readBack needs the operation get"},
		{"complete and unlisted", resource("    complete: true\n    unlisted: drop\n"), "6:15: unlisted: complete: true leaves nothing unlisted"},
		{"neither complete nor attributes", resource(""), "3:5: resources: attributes is missing"},
		{"unlisted", resource("    unlisted: ignore\n    attributes: []\n"), `5:15: unlisted: want one of refuse, drop, keep, got "ignore"`},

		{"path missing", resource("    attributes:\n      - required: true\n"), "6:9: attributes: path is missing"},
		{"path id", resource("    attributes: [{path: ID}]\n"), "5:25: path: ID is always there"},
		{"path control character", resource("    attributes: [{path: \"a\\u0001\"}]\n"), "5:25: path: want one line without control characters"},
		{"path twice", attribute("      - path: USERNAME\n"), `7:9: attributes: "USERNAME" is listed already, in line 6`},
		{"max length", attribute("        maxLength: -1\n"), `7:20: maxLength: want a whole number from 0`},
		{"violation", attribute("        maxLength: 3\n        onViolation: truncate\n"), `8:22: onViolation: want one of reject, alias, got "truncate"`},
		{"form", attribute("        form: plain\n"), `7:15: form: want one of value, got "plain"`},
		{"operator", attribute("        filter: [eq, like, eq]\n"), `7:22: filter: want one of eq, ne,|7:28: filter: eq stands here twice`},
		{"handling", attribute("        handling: ignore\n"), `7:19: handling: want one of refuse, drop, keep`},
		{"handling and limits", attribute("        handling: drop\n        maxLength: 3\n"), "6:9: userName: handling drop says that the upstream lacks it: limits"},
		{"handling in a complete resource", resource("    complete: true\n    attributes: [{path: title, handling: keep}]\n"), "6:18: title: handling keep says that the upstream lacks it, but the resource is complete"},
		{"alias elsewhere", attribute("      - path: title\n        maxLength: 3\n        onViolation: alias\n"), "7:9: title: onViolation: alias is for the userName"},
		{"alias without limit", attribute("        onViolation: alias\n"), "6:9: userName: onViolation: alias without maxLength"},
		{"operators beside all", attribute("        filter: [eq]\nfilter: {all: true}\n"), "6:9: userName: filter: the profile's filter says all"},

		{"error rule empty", valid + "errors: [{contains: x}]\n", "7:10: errors: as is missing|7:10: errors: status is missing"},
		{"error rule status", valid + "errors: [{status: 200, as: {status: 409}}]\n", "7:19: status: want a whole number from 400 to 599"},
		{"error rule scimType", valid + "errors: [{status: 400, as: {status: 409, scimType: duplicate}}]\n", `7:52: scimType: want one of invalidFilter,`},
		{"error rule never used", valid + "errors:\n  - {status: 400, contains: Taken, as: {status: 409}}\n  - {status: 400, contains: is taken, as: {status: 400}}\n", "9:5: errors: never used: the rule in line 8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := problemsOf(t, test.src)
			want := strings.Split(test.want, "|")
			if len(got) != len(want) {
				t.Fatalf("got %d problems %q, want %q", len(got), got, want)
			}
			for i := range want {
				if !strings.Contains(got[i], want[i]) {
					t.Errorf("got %q, want %q", got[i], want[i])
				}
				if strings.Contains(got[i], "hunter2") || strings.Contains(got[i], "s3cret") {
					t.Errorf("shows a secret: %q", got[i])
				}
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	got := problemsOf(t, `name: Two Words
colour: blue
resources:
  - name: User
    endpoint: Users
    operations: [query]
    attributes:
      - path: userName
        maxLength: thirty
      - path: username
paging: {pageSize: 5000}
`)
	want := []string{"1:7:", "2:1:", "5:15:", "6:17:", "9:20:", "10:9:", "11:20:"}
	if len(got) != len(want) {
		t.Fatalf("got %d problems, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q, want it at %s", got[i], want[i])
		}
	}
}

func TestProblemString(t *testing.T) {
	for _, test := range []struct {
		problem Problem
		want    string
	}{
		{Problem{"f.yaml", 3, 4, "wrong"}, "f.yaml:3:4: wrong"},
		{Problem{"f.yaml", 0, 0, "too large"}, "f.yaml: too large"},
		{Problem{File: "SCIMGATE_TOKEN", Message: "too short"}, "SCIMGATE_TOKEN: too short"},
	} {
		if got := test.problem.String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
	if err := (Problems)(nil).Err(); err != nil {
		t.Errorf("no problems: got %v, want nil", err)
	}
}

// Files made to be expensive are refused, or read, in reasonable time.
func TestHostileSizes(t *testing.T) {
	var indented strings.Builder
	for i := range 700 {
		indented.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	for name, src := range map[string]string{
		"open brackets":   strings.Repeat("[", 200_000),
		"few brackets":    strings.Repeat("[", 15_000),
		"open braces":     strings.Repeat("{a: ", 6_000),
		"dashes":          strings.Repeat("- ", 15_000),
		"question marks":  strings.Repeat("? ", 15_000),
		"indented":        indented.String(),
		"many keys":       strings.Repeat("a: b\n", 6_600),
		"too many keys":   strings.Repeat("a: b\n", 50_000),
		"many entries":    "a:\n" + strings.Repeat("- b\n", 9_000),
		"long text":       "name: " + strings.Repeat("x", 250_000),
		"many lines":      "name: a" + strings.Repeat("\n  b", 60_000),
		"comments":        strings.Repeat("#\n", 100_000),
		"documents":       strings.Repeat("---\n", 19_000),
		"too large":       strings.Repeat(" ", MaxFile+1),
		"anchors":         strings.Repeat("&a ", 9_000),
		"billion laughs":  "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n",
		"tags":            strings.Repeat("! ", 15_000),
		"quoted newlines": "name: \"" + strings.Repeat("\n", 200_000) + "\"",
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			if got := problemsOf(t, src); len(got) == 0 {
				t.Error("got no problem")
			}
			if d := time.Since(begin); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}
