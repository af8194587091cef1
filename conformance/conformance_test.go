package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const testToken = "a-token-that-nobody-may-see"

// shelf is the least of a service provider: it keeps users under their ids and knows no more than the tests here need.
type shelf struct {
	mu     sync.Mutex
	users  map[string]map[string]any
	last   int
	hidden func(w http.ResponseWriter, r *http.Request) bool // answers instead, if it returns true
	log    []string
}

func newShelf(t *testing.T) (*shelf, string) {
	t.Helper()
	s := &shelf{users: map[string]map[string]any{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL + "/scim"
}

func (s *shelf) left() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sortedKeys(s.users)
}

func (s *shelf) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.log = append(s.log, r.Method+" "+r.URL.String())
	hidden := s.hidden
	s.mu.Unlock()
	if hidden != nil && hidden(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+testToken {
		answerError(w, 401)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/scim")
	id := strings.TrimPrefix(path, "/Users/")
	user, known := s.users[id]
	switch {
	case path == "/ServiceProviderConfig":
		answerJSON(w, 200, `{"patch":{"supported":false},"filter":{"supported":true},"bulk":{"supported":true}}`)
	case path == "/ResourceTypes":
		answerJSON(w, 200, `{"Resources":[{"endpoint":"/Users","schemaExtensions":[{"schema":"`+enterpriseSchema+`"}]}]}`)
	case path == "/Schemas":
		answerJSON(w, 200, `{"Resources":[{"id":"`+userSchema+`","attributes":[{"name":"title","mutability":"readWrite"},{"name":"groups","mutability":"readOnly"},
			{"name":"nickName","mutability":"readOnly"},{"name":"emails","subAttributes":[{"name":"type"}]},{"name":"ims"},{"name":"phoneNumbers","subAttributes":[{"name":"type","canonicalValues":["work"]}]}]}]}`)
	case r.Method == "POST" && path == "/Users":
		var user map[string]any
		_ = json.NewDecoder(r.Body).Decode(&user)
		s.last++
		user["id"] = fmt.Sprint(s.last)
		s.users[fmt.Sprint(s.last)] = user
		w.Header().Set("Location", "http://"+r.Host+"/scim/Users/"+fmt.Sprint(s.last))
		answerJSON(w, 201, compact(user))
	case r.Method == "GET" && path == "/Users":
		var found []string
		for _, id := range sortedKeys(s.users) {
			if strings.Contains(r.URL.Query().Get("filter"), fmt.Sprintf("%q", s.users[id]["userName"])) {
				found = append(found, compact(s.users[id]))
			}
		}
		answerJSON(w, 200, fmt.Sprintf(`{"schemas":["%s"],"totalResults":%d,"Resources":[%s]}`, listSchema, len(found), strings.Join(found, ",")))
	case r.Method == "GET" && known:
		answerJSON(w, 200, compact(user))
	case r.Method == "DELETE" && known:
		delete(s.users, id)
		w.WriteHeader(204)
	default:
		answerError(w, 404)
	}
}

func answerJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/scim+json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func answerError(w http.ResponseWriter, status int) {
	answerJSON(w, status, fmt.Sprintf(`{"schemas":["%s"],"status":"%d","detail":"no"}`, errorSchema, status))
}

func parseCase(t *testing.T, id, body string) *Case {
	t.Helper()
	c, err := Parse(id, head+body)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const createUser = "POST /Users\n{\"userName\":\"{{unique}}\"}\nstatus 201\ncapture id $.id\n"

func TestRun(t *testing.T) {
	s, url := newShelf(t)
	cases := []*Case{
		parseCase(t, "rfc7644-1-passes", createUser+"capture at header Location\nGET {{at}}\nstatus 200\njson $.id == \"{{id}}\"\n"),
		parseCase(t, "rfc7644-1-fails", createUser+"# why\nGET /Users/{{id}}\nstatus 200\njson $.userName == \"x-{{unique}}\"\n"),
		parseCase(t, "rfc7644-1-expected", "GET /Users/none\nstatus 200\n"),
		parseCase(t, "rfc7644-1-mended", "GET /Users/none\nstatus 404\n"),
		parseCase(t, "rfc7644-1-needs", "needs: filter !patch users !groups enterprise User.title User.externalId User.groups User.emails.type User.emails[home] User.phoneNumbers[work] !User.phoneNumbers[home] !User.ims[work] index !cursor !User.nickName token sort\nGET /\nstatus 200\n"),
		parseCase(t, "rfc7644-1-says-so", "GET /Me\nunsupported 404\nstatus 200\n"),
		parseCase(t, "rfc7644-1-elsewhere", "let where http://127.0.0.2:1/scim\nGET {{where}}/Users\nstatus 200\n"),
		parseCase(t, "rfc7644-1-nonsense", createUser+"capture body $\nPOST /Users\n{\"a\":{{body}}}\nstatus 201\njson $.a[?x==\"{{body}}\"] absent\nlet n x\njson $.a count == {{n}}\n"),
		parseCase(t, "rfc7644-1-repeats", "repeat 3 POST /Users\n{\"userName\":\"{{unique}}-{{i}}\"}\nstatus 201\njson $.userName matches /-{{i}}$/\n"),
		parseCase(t, "rfc7644-1-deletes", createUser+"DELETE /Users/{{id}}\nstatus 204\nbody empty\n"),
	}
	var told []string
	report, err := Run(t.Context(), Config{
		URL: url + "/", Token: testToken,
		Expected: map[string]string{"rfc7644-1-expected": "it has no users", "rfc7644-1-mended": "it has users", "rfc7644-1-says-so": "whatever"},
		Progress: func(done, of int, r *Result) { told = append(told, fmt.Sprint(done, "/", of, " ", r.Case.ID)) },
	}, cases)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		verdict    Verdict
		unexpected bool
		reason     string
		line       int
	}{
		{Passed, false, "", 0},
		{Failed, true, `json $.userName == "x-{{unique}}": got "`, 10},
		{Failed, false, "status 200: got status 404: no", 4},
		{Passed, true, "", 0},
		{Unsupported, false, "needs sort, which is not announced", 0},
		{Unsupported, false, "GET /Me is answered 404", 3},
		{Failed, true, `"http://127.0.0.2:1/scim/Users" is not at http://127.0.0.1`, 4},
		{Failed, true, `"x" does not start with a JSON value`, 13},
		{Passed, false, "", 0},
		{Passed, false, "", 0},
	}
	for i, w := range want {
		got := report.Results[i]
		if got.Verdict != w.verdict || got.Unexpected() != w.unexpected || !strings.Contains(got.Reason, w.reason) || got.Line != w.line {
			t.Errorf("%s: got %s, unexpected %v, line %d, %s; want %+v", got.Case.ID, got.Verdict, got.Unexpected(), got.Line, got.Reason, w)
		}
	}
	if left := s.left(); len(left) != 0 || len(report.Left) != 0 {
		t.Errorf("left behind: %v, reported %v", left, report.Left)
	}
	if len(told) != len(cases) || told[0] != "1/10 rfc7644-1-passes" {
		t.Errorf("got progress %v", told)
	}
	if x := report.Results[1].Exchanges[1]; x.Note != "why" || x.Status != 200 || x.Method != "GET" || x.Header.Get("Authorization") != "Bearer [redacted]" {
		t.Errorf("got exchange %+v", x)
	}
	writeAll(t, report)
}

// writeAll writes the report in every form and looks for what must not be in any.
func writeAll(t *testing.T, report *Report) {
	t.Helper()
	forms := map[string]func(io.Writer) error{
		"text":    func(w io.Writer) error { return report.Text(w, TextOptions{}) },
		"verbose": func(w io.Writer) error { return report.Text(w, TextOptions{Colours: true, Verbose: true}) },
		"json":    report.JSON, "junit": report.JUnit, "html": report.HTML,
	}
	written := map[string]string{}
	for name, write := range forms {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(b.String(), testToken) {
			t.Errorf("%s: the token is in it", name)
		}
		if !strings.Contains(b.String(), "rfc7644-1-fails") || !strings.Contains(b.String(), "[redacted]") {
			t.Errorf("%s: got %s", name, &b)
		}
		written[name] = b.String()
	}
	for _, want := range []string{
		"failed rfc7644-1-fails\n  MUST: What is wanted.\n  line 10: ", "    # why\n    GET http://", "    > Accept: application/scim+json\n",
		"passed unexpectedly rfc7644-1-mended\n", "expected to fail: it has users",
		"expected to fail, and fails: 1\n  it has no users\n    rfc7644-1-expected\n", "unsupported: 2\n",
		"10 cases: 4 passed, 4 failed, 2 unsupported, 0 without an answer; 4 unexpected in",
	} {
		if !strings.Contains(written["text"], want) {
			t.Errorf("the text lacks %q:\n%s", want, written["text"])
		}
	}
	for _, want := range []string{
		`<h2 id="news">4 unexpected</h2>`, `<h2 id="expected">1 failed as expected</h2>`, `<h2 id="unsupported">2 unsupported</h2>`,
		`<h2 id="passed">3 passed</h2>`, `<details class="news" open>`, `<p class="why">line 10: json `,
	} {
		if !strings.Contains(written["html"], want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, never := range []string{"<script", "<link", "src=", "@import", "url(", "onclick"} {
		if strings.Contains(written["html"], never) {
			t.Errorf("the page has %q: it needs neither script nor network", never)
		}
	}
	var read struct {
		Cases, Unexpected int
		Verdicts          map[string]int
		Results           []struct{ Case, Verdict string }
	}
	if err := json.Unmarshal([]byte(written["json"]), &read); err != nil || read.Cases != 10 || read.Unexpected != 4 || read.Verdicts["passed"] != 4 || len(read.Results) != 10 {
		t.Errorf("got %+v, %v", read, err)
	}
	var suite junitSuite
	if err := xml.Unmarshal([]byte(written["junit"]), &suite); err != nil || suite.Tests != 10 || suite.Failures != 4 || suite.Skipped != 3 || suite.Cases[1].Failure == nil {
		t.Errorf("got %+v, %v", suite, err)
	}
}

// TestUnexpected is the table of FORMAT.md, with what each report makes of it.
// A limit that is too high to be tried is no failure.
func TestTooLong(t *testing.T) {
	_, url := newShelf(t)
	c := parseCase(t, "rfc7644-1-too-long", "GET /ServiceProviderConfig\nstatus 200\nlet max 2147483647\nPOST /Users\n{\"userName\":\"{{repeat:max+1:x}}\"}\nstatus 413\n")
	report, err := Run(t.Context(), Config{URL: url, Token: testToken}, []*Case{c})
	if err != nil {
		t.Fatal(err)
	}
	if got := report.Results[0]; got.Verdict != Unsupported || !strings.Contains(got.Reason, "the suite sends no more than") {
		t.Errorf("got %s: %s, want %s", got.Verdict, got.Reason, Unsupported)
	}
}

func TestUnexpected(t *testing.T) {
	for _, test := range []struct {
		verdict    Verdict
		expected   string
		strict     bool
		unexpected bool
		heading    string
		junit      string
	}{
		{Passed, "", true, false, "passed", ""},
		{Passed, "no sort", true, true, "passed unexpectedly", "failure: passes, although it is expected to fail: no sort"},
		{Passed, "unsupported: no sort", false, true, "passed unexpectedly", "failure: passes, although it is expected to be unsupported: no sort"},
		{Failed, "", false, true, "failed", "failure: why"},
		{Failed, "no sort", true, false, "failed as expected", "skipped: fails as expected: no sort"},
		{Failed, "unsupported: no sort", false, true, "failed", "failure: why"},
		{Errored, "", false, true, "error", "error: why"},
		{Errored, "no sort", false, false, "error as expected", "skipped: fails as expected: no sort"},
		{Errored, "unsupported: no sort", false, true, "error", "error: why"},
		{Unsupported, "", false, false, "unsupported", "skipped: unsupported: why"},
		{Unsupported, "", true, true, "unsupported unexpectedly", "failure: why"},
		{Unsupported, "no sort", true, false, "unsupported as expected", "skipped: unsupported: why"},
		{Unsupported, "unsupported: no sort", true, false, "unsupported as expected", "skipped: unsupported: why"},
	} {
		r := &Result{Case: &Case{ID: "rfc7644-1-x"}, Verdict: test.verdict, Expected: test.expected, Strict: test.strict}
		if test.verdict != Passed {
			r.Reason = "why"
		}
		if r.Unexpected() != test.unexpected || r.Heading() != test.heading {
			t.Errorf("%+v: got %v, %q", test, r.Unexpected(), r.Heading())
		}
		report := &Report{Results: []*Result{r}}
		var written bytes.Buffer
		var suite junitSuite
		if err := errors.Join(report.JUnit(&written), xml.Unmarshal(written.Bytes(), &suite)); err != nil {
			t.Fatal(err)
		}
		got := ""
		for kind, p := range map[string]*junitProblem{"failure": suite.Cases[0].Failure, "error": suite.Cases[0].Error, "skipped": suite.Cases[0].Skipped} {
			if p != nil {
				got += kind + ": " + p.Message
			}
		}
		if got != test.junit {
			t.Errorf("%+v: got JUnit %q", test, got)
		}
		written.Reset()
		if err := report.Text(&written, TextOptions{}); err != nil {
			t.Fatal(err)
		}
		if test.unexpected != strings.Contains(written.String(), test.heading+" rfc7644-1-x\n") ||
			test.expected != "" && !strings.Contains(written.String(), "no sort") {
			t.Errorf("%+v: got the text\n%s", test, &written)
		}
	}
}

// TestHostileAnswers: an answer can neither write to the terminal nor into the page.
func TestHostileAnswers(t *testing.T) {
	s, url := newShelf(t)
	s.hidden = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/scim/Users/x" {
			return false
		}
		w.Header().Set("X-Evil", "<script>alert(1)</script>")
		answerJSON(w, 404, "{\"detail\":\"\\u001b[2J<script>alert(1)</script>\u202e"+testToken+"\"}")
		return true
	}
	report, err := Run(t.Context(), Config{URL: url, Token: testToken}, []*Case{parseCase(t, "rfc7644-1-fails", "GET /Users/x\nstatus 200\n")})
	if err != nil {
		t.Fatal(err)
	}
	var text, page, junit bytes.Buffer
	if err := report.Text(&text, TextOptions{}); err != nil {
		t.Error(err)
	}
	if err := report.HTML(&page); err != nil {
		t.Error(err)
	}
	if err := report.JUnit(&junit); err != nil {
		t.Error(err)
	}
	for name, got := range map[string]string{"text": text.String(), "page": page.String(), "junit": junit.String()} {
		if strings.ContainsAny(got, "\x1b\u202e") || strings.Contains(got, testToken) || name != "text" && strings.Contains(got, "<script>alert") {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// TestLostCreation: a POST without an answer is looked for by its name, and what it made is deleted.
func TestLostCreation(t *testing.T) {
	s, url := newShelf(t)
	s.hidden = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "POST" {
			return false
		}
		var user map[string]any
		_ = json.NewDecoder(r.Body).Decode(&user)
		user["id"] = "lost"
		s.mu.Lock()
		s.users["lost"] = user
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	report, err := Run(t.Context(), Config{URL: url, Token: testToken}, []*Case{parseCase(t, "rfc7644-1-x", createUser)})
	if err != nil {
		t.Fatal(err)
	}
	if r := report.Results[0]; r.Verdict != Errored || !r.Unexpected() {
		t.Errorf("got %s: %s", r.Verdict, r.Reason)
	}
	if left := s.left(); len(left) != 0 || len(report.Left) != 0 {
		t.Errorf("left behind: %v, reported %v", left, report.Left)
	}
}

// TestInterruption: the request under way is ended, the rest is left out, and what was made is deleted.
func TestInterruption(t *testing.T) {
	s, url := newShelf(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.hidden = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" {
			cancel()
		}
		return false
	}
	c := parseCase(t, "rfc7644-1-x", createUser+"GET /Users/{{id}}\nstatus 200\n")
	report, err := Run(ctx, Config{URL: url, Token: testToken}, []*Case{c, c, c})
	if err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if len(report.Results)+report.NotRun != 3 || report.NotRun == 0 || report.Results[0].Reason != "interrupted" {
		t.Errorf("got %d results, %d not run, first %+v", len(report.Results), report.NotRun, report.Results[0])
	}
	if left := s.left(); len(left) != 0 || !slices.ContainsFunc(s.requests(), func(r string) bool { return strings.HasPrefix(r, "DELETE") }) {
		t.Errorf("left behind: %v", left)
	}
}

// TestSilence: when nothing is answered any more, the rest is not waited for.
func TestSilence(t *testing.T) {
	s, url := newShelf(t)
	s.hidden = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/scim/Users/x" {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	c := parseCase(t, "rfc7644-1-x", "GET /Users/x\nstatus 200\n")
	report, err := Run(t.Context(), Config{URL: url, Token: testToken}, slices.Repeat([]*Case{c}, 50))
	if err != errSilent || report.Count(Errored) < maxSilent || report.NotRun < 38 {
		t.Errorf("got %v with %d errors and %d not run", err, report.Count(Errored), report.NotRun)
	}
}

// TestLeftBehind: what cannot be deleted is named.
func TestLeftBehind(t *testing.T) {
	s, url := newShelf(t)
	s.hidden = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "DELETE" {
			answerError(w, 500)
		}
		return r.Method == "DELETE"
	}
	report, err := Run(t.Context(), Config{URL: url, Token: testToken}, []*Case{parseCase(t, "rfc7644-1-x", createUser)})
	if err != nil || !slices.Equal(report.Left, []string{"/Users/1: DELETE is answered 500"}) {
		t.Errorf("got %v, %v", report.Left, err)
	}
}

// TestPaced: a 429 is waited for.
func TestPaced(t *testing.T) {
	s, url := newShelf(t)
	times := 0
	s.hidden = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "POST" || times == 2 {
			return false
		}
		times++
		w.Header().Set("Retry-After", "0")
		answerError(w, 429)
		return true
	}
	report, err := Run(t.Context(), Config{URL: url, Token: testToken}, []*Case{parseCase(t, "rfc7644-1-x", createUser)})
	if err != nil || report.Results[0].Verdict != Passed || times != 2 {
		t.Errorf("got %+v, %v after %d times", report.Results[0], err, times)
	}
}

// TestParallel runs cases side by side; their results are in the order of the cases.
func TestParallel(t *testing.T) {
	s, url := newShelf(t)
	var cases []*Case
	for i := range 20 {
		cases = append(cases, parseCase(t, fmt.Sprintf("rfc7644-1-n%d", i), createUser+"GET /Users/{{id}}\nstatus 200\n"))
	}
	report, err := Run(t.Context(), Config{URL: url, Token: testToken, Parallel: 4}, cases)
	if err != nil || report.Count(Passed) != 20 || len(s.left()) != 0 {
		t.Errorf("got %d passed, %v, left %v", report.Count(Passed), err, s.left())
	}
	for i, r := range report.Results {
		if r.Case != cases[i] {
			t.Errorf("result %d is of %s", i, r.Case.ID)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	_, url := newShelf(t)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, test := range []struct{ name, url, token, want string }{
		{"not a URL", "127.0.0.1:8080", "", "URL"},
		{"a query", "http://127.0.0.1/?x=1", "", "without query"},
		{"nobody there", closed.URL, "", "does not answer"},
		{"token", url, "wrong", "refuses the token"},
	} {
		if _, err := Run(t.Context(), Config{URL: test.url, Token: test.token, Timeout: 5 * time.Second}, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

// TestCreated: what is surely ours is remembered, and nothing else.
func TestCreated(t *testing.T) {
	e, err := newEndpoint(&Config{URL: "https://x.com/scim/v2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, method, target, sent string
		status                     int
		location, body             string
		want                       string
	}{
		{"created", "POST", "/Users", `{"userName":"a"}`, 201, "", `{"id":"1"}`, "/Users/1"},
		{"only a location", "POST", "/Users/", `{"userName":"a"}`, 201, "https://x.com/scim/v2/Users/7", ``, "/Users/7"},
		{"a relative location", "POST", "/Users", `{"userName":"a"}`, 201, "/scim/v2/Users/7", ``, "/Users/7"},
		{"a location elsewhere", "POST", "/Users", `{"userName":"a"}`, 201, "https://y.com/scim/v2/Users/7", ``, ""},
		{"200 with our name", "POST", "/Users", `{"userName":"a"}`, 200, "", `{"id":"1","userName":"a"}`, "/Users/1"},
		{"200 with another", "POST", "/Users", `{"userName":"a"}`, 200, "", `{"id":"1","userName":"b"}`, ""},
		{"a search", "POST", "/Users/.search", `{"filter":"x"}`, 200, "", `{"id":"1"}`, ""},
		{"replaced", "PUT", "/Users/1", `{"userName":"a"}`, 200, "https://x.com/scim/v2/Users/1", `{"id":"1","userName":"a"}`, ""},
		{"created by PUT", "PUT", "/Users/1", `{"userName":"a"}`, 201, "https://x.com/scim/v2/Users/1", `{"id":"1"}`, "/Users/1"},
		{"refused", "POST", "/Users", `{"userName":"a"}`, 409, "https://x.com/scim/v2/Users/1", `{"id":"1"}`, ""},
		{"bulk", "POST", "/Bulk", `{}`, 200, "", `{"Operations":[{"status":"201","location":"https://x.com/scim/v2/Users/4"},{"status":"200","location":"https://x.com/scim/v2/Users/5"}]}`, "/Users/4"},
		{"an id with a slash", "POST", "/Users", `{"userName":"a"}`, 201, "", `{"id":"a/b"}`, "/Users/a%2Fb"},
	} {
		c := &created{endpoint: e}
		c.note(&request{method: test.method, target: test.target, body: test.sent}, &answer{status: test.status, header: http.Header{"Location": {test.location}}, body: []byte(test.body)})
		if got := strings.Join(c.paths, " "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
