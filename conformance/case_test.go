package conformance

import (
	"slices"
	"strings"
	"testing"
)

// TestEveryCaseParses reads what stands in cases: an error says the file and the line.
func TestEveryCaseParses(t *testing.T) {
	cases, err := Cases()
	if err != nil {
		t.Error(err)
	}
	if len(cases) < 20 {
		t.Errorf("got %d cases, want at least 20", len(cases))
	}
	for _, c := range cases {
		if c != nil && slices.Contains(c.Needs, "bulk") && slices.Contains(c.Needs, "!bulk") {
			t.Errorf("%s needs bulk, and that there is none", c.ID)
		}
	}
}

const head = "# What is wanted.\nlevel: MUST\n"

func TestParse(t *testing.T) {
	c, err := Parse("rfc7644-3.3-x", `# One line,
# and another.
level: SHOULD
covers: A B
needs: patch !bulk User.name.givenName

let login {{unique}}@example.com

# make it
repeat 2 POST /Users?x={{i}}
Accept:
X-Two: a b

{"userName": "{{login}}", "nested": {"a": [{}]},
 "more": "} not the end"}
unsupported 501
status 200 2xx
capture id $.id
# comment
GET /Users/{{id}}
`+"```\nnot { JSON\n\n```"+`
error 400,404 noTarget,invalidPath
json $["a b"].c not count >= 2
`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Requirement != "One line, and another." || c.Level != "SHOULD" || !slices.Equal(c.Covers, []string{"A", "B"}) || len(c.Needs) != 3 || c.Set() != "rfc" {
		t.Errorf("got head %+v", c)
	}
	if len(c.lets) != 1 || len(c.steps) != 2 {
		t.Fatalf("got %d lets and %d steps, want 1 and 2", len(c.lets), len(c.steps))
	}
	one, two := c.steps[0], c.steps[1]
	if one.note != "make it" || one.times != 2 || one.method != "POST" || one.target != "/Users?x={{i}}" || one.line != 10 {
		t.Errorf("got step %+v", one)
	}
	if want := [][2]string{{"Accept", ""}, {"X-Two", "a b"}}; !slices.Equal(one.headers, want) {
		t.Errorf("got headers %v, want %v", one.headers, want)
	}
	if !strings.HasSuffix(one.body, `"} not the end"}`) || !slices.Equal(one.unsupported, []string{"501"}) || len(one.assertions) != 2 {
		t.Errorf("got step %+v", one)
	}
	if two.body != "not { JSON\n" || two.note != "comment" || !slices.Equal(two.assertions[0].kinds, []string{"noTarget", "invalidPath"}) {
		t.Errorf("got step %+v", two)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ name, id, text, want string }{
		{"name", "Rfc7644-x", head + "GET /\nstatus 200", "in lower case"},
		{"no requirement", "", "level: MUST\nGET /\nstatus 200", "requirement is missing"},
		{"no level", "", "# x\nGET /\nstatus 200", "lacks `level"},
		{"level", "", "# x\nlevel: SHALL", `rfc7644-1-x.txt:2: level "SHALL"`},
		{"need", "", head + "needs: patsh", `there is no need "patsh"`},
		{"head", "", head + "cover: X", `not "cover"`},
		{"no request", "", head, "there is no request"},
		{"no assertion", "", head + "GET /\nGET /x\nstatus 200", "line 3 has no assertion"},
		{"no assertion at the end", "", head + "GET /", "line 3 has no assertion"},
		{"status first", "", head + "GET /\njson $.a exists\nstatus 200", "x.txt:4: the first assertion"},
		{"status", "", head + "GET /\nstatus 2000", `"2000" is not a status`},
		{"no status", "", head + "GET /\nstatus", "at least one"},
		{"unknown word", "", head + "GET /\nstatus 200\nbody\nheeder X exists", "is not a test"},
		{"neither", "", head + "GET /\nstatus 200\nget /x", "neither a request"},
		{"test", "", head + "GET /\nstatus 200\njson $.a equals 1", `"equals" is not a test`},
		{"path", "", head + "GET /\nstatus 200\njson .a exists", "a path starts with $"},
		{"value", "", head + "GET /\nstatus 200\njson $.a == text", "JSON value"},
		{"two values", "", head + "GET /\nstatus 200\njson $.a == 1 2", "more than one"},
		{"type", "", head + "GET /\nstatus 200\njson $.a is text", `"text" is not a type`},
		{"expression", "", head + "GET /\nstatus 200\njson $.a matches /(/", "missing closing"},
		{"slashes", "", head + "GET /\nstatus 200\njson $.a matches x", "between slashes"},
		{"count", "", head + "GET /\nstatus 200\njson $.a count 2", "comparison"},
		{"count of", "", head + "GET /\nstatus 200\njson $.a count == x", "JSON value"},
		{"superfluous", "", head + "GET /\nstatus 200\njson $.a exists 1", "nothing stands behind"},
		{"not set", "", head + "GET /{{id}}\nstatus 200", "{{id}} is set by no line before"},
		{"not set in a repeat", "", head + "GET /{{repeat:max+1:x}}\nstatus 200", "{{max}} is set by no line"},
		{"not closed", "", head + "GET /{{id\nstatus 200", "not closed"},
		{"not a variable", "", head + "GET /{{a b}}\nstatus 200", "not a variable"},
		{"built in", "", head + "let unique x\nGET /\nstatus 200", "cannot be the name"},
		{"body", "", head + "POST /\n{\"a\":\nstatus 200", "x.txt:4: the body that starts here"},
		{"body's JSON", "", head + "POST /\n{\"a\" 1}\nstatus 200", "not well-formed"},
		{"fence", "", head + "POST /\n```\nx\nstatus 200", "closing"},
		{"repeat", "", head + "repeat 1001 GET /\nstatus 200", "want 1 to 1000"},
		{"capture", "", head + "GET /\nstatus 200\ncapture x $.id y", "after the path"},
		{"before the request", "", head + "status 200", "want a request"},
	} {
		id := test.id
		if id == "" {
			id = "rfc7644-1-x"
		}
		if _, err := Parse(id, test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	cases, err := Cases()
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range cases {
		f.Add(c.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("rfc7644-1-x", text)
		if err != nil {
			return
		}
		for _, s := range c.steps {
			if len(s.assertions) == 0 {
				t.Errorf("line %d has no assertion", s.line)
			}
		}
	})
}

func TestSelect(t *testing.T) {
	cases := []*Case{{ID: "entra-create"}, {ID: "rfc7644-3.3-create"}, {ID: "rfc7644-3.6-delete"}}
	for _, test := range []struct {
		set      string
		patterns []string
		want     string // ids, or the error's text
	}{
		{"all", nil, "entra-create rfc7644-3.3-create rfc7644-3.6-delete"},
		{"rfc", nil, "rfc7644-3.3-create rfc7644-3.6-delete"},
		{"entra", nil, "entra-create"},
		{"all", []string{"*create"}, "entra-create rfc7644-3.3-create"},
		{"rfc", []string{"*create", "rfc7644-3.6-delete.txt"}, "rfc7644-3.3-create rfc7644-3.6-delete"},
		{"scim", nil, `set "scim" is not known`},
		{"all", []string{"nothing"}, `no case matches "nothing"`},
		{"all", []string{"["}, "syntax error"},
		{"rfc", []string{"entra-*"}, "no selected case is in set rfc"},
	} {
		selected, err := Select(cases, test.set, test.patterns)
		var got []string
		for _, c := range selected {
			got = append(got, c.ID)
		}
		if err == nil && strings.Join(got, " ") != test.want || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %v: got %v, %v, want %s", test.set, test.patterns, got, err, test.want)
		}
	}
}

func TestParseExpected(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"# none\n", ""},
		{"a: one\n\n# c\n\"b\": 'two'\nc: two\n  lines\n", "a=one b=two c=two lines"},
		{"\ufeff---\na: 'one: two'", "a=one: two"},
		{"a: >\n  folded\n  text", "a=folded text"},
		{` {"a": "one", "b": "two"}`, "a=one b=two"},
		{`a: "unsupported: no sort"`, "a=unsupported: no sort"},
		{"a:", "error a has no reason"},
		{`a: "unsupported:"`, "error a has no reason"},
		{"a: 1\na: 2", "error want `case: reason` lines in YAML, or a JSON object of the same: [2:1] mapping key \"a\" already defined"},
		{"a: one: two", "error want `case: reason` lines"},
		{"a", "error want `case: reason` lines"},
		{`{"a": ["x"]}`, "error want `case: reason` lines"},
		{`{"a": "x", "a": "y"}`, "error want `case: reason` lines"},
		{`{"a": ""}`, "error a has no reason"},
		{`{"a": "x"`, "error want `case: reason` lines"},
	} {
		expected, err := ParseExpected(test.text)
		var got []string
		for _, id := range sortedKeys(expected) {
			got = append(got, id+"="+expected[id])
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = "error " + err.Error()
		}
		if text != test.want && (err == nil || !strings.HasPrefix(text, test.want)) {
			t.Errorf("%q: got %s, want %s", test.text, text, test.want)
		}
	}
	if err := CheckExpected(map[string]string{"b": "x"}, []*Case{{ID: "a"}}); err == nil || !strings.Contains(err.Error(), `no case "b"`) {
		t.Errorf("got %v", err)
	}
}
