package conformance_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"scimgate/conformance"
)

// RoundTrip answers without a network.
func (m *model) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	switch {
	case m.is("every answer is 500"):
		http.Error(w, "internal error", http.StatusInternalServerError)
	case m.is("every answer is an empty 200"):
		w.WriteHeader(http.StatusOK)
	case m.is("every answer is a page of HTML"):
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.WriteString("<html><body>Welcome</body></html>")
	default:
		m.ServeHTTP(w, r)
	}
	res := w.Result()
	res.Request = r
	return res, nil
}

func builtin(t *testing.T) []*conformance.Case {
	t.Helper()
	cases, err := conformance.Cases()
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// verdicts runs cases against a model with faults.
func verdicts(t *testing.T, cases []*conformance.Case, faults ...string) map[string]*conformance.Result {
	t.Helper()
	report, err := conformance.Run(t.Context(), conformance.Config{URL: "http://model.invalid/scim/v2", Token: secret,
		Client: &http.Client{Transport: newModel(faults...)}}, cases)
	if err != nil {
		t.Fatalf("%q: %v", faults, err)
	}
	out := map[string]*conformance.Result{}
	for _, r := range report.Results {
		out[r.Case.ID] = r
	}
	return out
}

// The model has no /Me: a service provider may lack it.
var unsupportedByModel = []string{"rfc7644-3.11-me-has-the-permanent-location"}

// TestCorrectServer shows that a service provider without faults passes every case.
func TestCorrectServer(t *testing.T) {
	for id, r := range verdicts(t, builtin(t)) {
		want := conformance.Passed
		if slices.Contains(unsupportedByModel, id) {
			want = conformance.Unsupported
		}
		if r.Verdict != want {
			t.Errorf("%s: got %s, want %s: line %d: %s", id, r.Verdict, want, r.Line, r.Reason)
		}
	}
}

// readPairs reads testdata/faults.txt: `case: fault`, a line each.
func readPairs(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/faults.txt")
	if err != nil {
		t.Fatal(err)
	}
	pairs := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, fault, ok := strings.Cut(line, ": ")
		if !ok || pairs[id] != "" {
			t.Fatalf("testdata/faults.txt: want `case: fault`, once for each case, got %q", line)
		}
		pairs[id] = fault
	}
	return pairs
}

// TestFaults holds that a server with one fault fails the case whose name fits it: the faults table, and for every
// case the fault that testdata/faults.txt names.
func TestFaults(t *testing.T) {
	cases := map[string]*conformance.Case{}
	for _, c := range builtin(t) {
		cases[c.ID] = c
	}
	wanted := map[string][]string{} // by fault, the cases that must fail
	for id, fault := range readPairs(t) {
		if cases[id] == nil {
			t.Errorf("testdata/faults.txt: there is no case %s", id)
			continue
		}
		wanted[fault] = append(wanted[fault], id)
	}
	named := map[string]bool{}
	for _, f := range faults {
		named[f.fault] = true
		t.Logf("%s -> %s", f.fault, f.caught)
		if cases[f.caught] == nil {
			t.Errorf("%s: there is no case %s", f.fault, f.caught)
		} else if !slices.Contains(wanted[f.fault], f.caught) {
			wanted[f.fault] = append(wanted[f.fault], f.caught)
		}
	}
	failing := map[string]bool{}
	for fault, ids := range wanted {
		if !named[fault] {
			t.Errorf("testdata/faults.txt: there is no fault %q", fault)
			continue
		}
		for _, id := range ids { // each in an empty store, so that no case leans on another
			r := verdicts(t, []*conformance.Case{cases[id]}, fault)[id]
			if r.Verdict != conformance.Failed {
				t.Errorf("%s, where %s: got %s, want %s: %s", id, fault, r.Verdict, conformance.Failed, r.Reason)
			}
			failing[id] = true
		}
	}
	for id, c := range cases {
		if !failing[id] && !someFault(t, c) {
			t.Errorf("%s: no fault of the model fails it, so it shows nothing: give the model one that it is there to notice", id)
		}
	}
}

// someFault reports whether any fault fails a case that testdata/faults.txt does not have.
func someFault(t *testing.T, c *conformance.Case) bool {
	return slices.ContainsFunc(faults, func(f struct{ fault, caught string }) bool {
		return verdicts(t, []*conformance.Case{c}, f.fault)[c.ID].Verdict == conformance.Failed
	})
}

// TestFaultsAreNamed holds the model's faults against the table: a fault that nobody turns on shows nothing.
func TestFaultsAreNamed(t *testing.T) {
	named := map[string]bool{}
	for _, f := range faults {
		if named[f.fault] {
			t.Errorf("%q stands twice in the table", f.fault)
		}
		named[f.fault] = true
	}
	if len(named) < 40 {
		t.Errorf("got %d faults, want at least 40", len(named))
	}
	sources, err := filepath.Glob("faulty_*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{"startIndex is ignored": true, "count is ignored": true} // asked for by a made-up name
	literal := regexp.MustCompile("m\\.is\\((?:\"((?:[^\"\\\\]|\\\\.)*)\"|`([^`]*)`)\\)")
	for _, name := range append(sources, "faulty_test.go") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range literal.FindAllStringSubmatch(string(text), -1) {
			asked[match[1]+match[2]] = true
		}
	}
	for _, l := range liberties {
		if named[l] {
			t.Errorf("%q is a fault and a liberty", l)
		}
		named[l] = true
	}
	for fault := range asked {
		if !named[fault] {
			t.Errorf("the model asks for %q, which is not in the table", fault)
		}
	}
	for fault := range named {
		if !asked[fault] {
			t.Errorf("the table has %q, which the model does not know", fault)
		}
	}
}

// ids reads a list of ids: the first word of each line that is no comment.
func ids(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
			if name == "cases/NOT-APPLICABLE" && len(fields) < 4 {
				t.Errorf("%s: %s has no reason", name, fields[0])
			}
			out = append(out, fields[0])
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEveryRequirementIsCited holds the cases against the RFC statements that a test can show: each is cited by a
// case, or stands in cases/NOT-APPLICABLE with the reason.
func TestEveryRequirementIsCited(t *testing.T) {
	testable := ids(t, "testdata/requirements.txt")
	cited := map[string]string{}
	for _, c := range builtin(t) {
		for _, id := range c.Covers {
			if cited[id] = c.ID; !slices.Contains(testable, id) {
				t.Errorf("%s covers %s, which is not in testdata/requirements.txt", c.ID, id)
			}
		}
	}
	apart := ids(t, "cases/NOT-APPLICABLE")
	for _, id := range testable {
		switch {
		case cited[id] == "" && !slices.Contains(apart, id):
			t.Errorf("%s is cited by no case and is not in cases/NOT-APPLICABLE", id)
		case cited[id] != "" && slices.Contains(apart, id):
			t.Errorf("%s is in cases/NOT-APPLICABLE, and %s covers it", id, cited[id])
		}
	}
	for _, id := range apart {
		if !slices.Contains(testable, id) {
			t.Errorf("cases/NOT-APPLICABLE has %s, which is not in testdata/requirements.txt", id)
		}
	}
}

// TestRequirementsAreThoseOfTheVectors holds the committed list against the vectors, where they are.
func TestRequirementsAreThoseOfTheVectors(t *testing.T) {
	text, err := os.ReadFile("../../shared/vectors/rfc-requirements.json")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the vectors are not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Cases []struct {
			ID       string
			Testable bool
		}
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, c := range vectors.Cases {
		if c.Testable {
			want = append(want, c.ID)
		}
	}
	slices.Sort(want)
	got := ids(t, "testdata/requirements.txt")
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("testdata/requirements.txt: got %d ids, want those %d that the vectors call testable", len(got), len(want))
	}
}
