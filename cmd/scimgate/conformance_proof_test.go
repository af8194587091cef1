package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"scimgate/conformance"
)

var update = flag.Bool("update", false, "write the README's table of scimgate conformance proof anew")

// The README shows what `scimgate conformance proof` prints, and nothing of it is unexpected.
func TestReadmeShowsTheProof(t *testing.T) {
	const begin, end = "<!-- scimgate conformance proof -->\n", "<!-- end -->\n"
	var out, problems bytes.Buffer
	if code := run(t.Context(), []string{"conformance", "proof"}, strings.NewReader(""), &out, &problems, noEnv); code != exitOK {
		t.Errorf("got exit code %d, want %d: %s%s", code, exitOK, &problems, &out)
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	shown, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("the README lacks the lines %q and %q", begin, end)
	}
	if *update {
		if err := os.WriteFile("../../README.md", []byte(before+begin+out.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != out.String() {
		t.Errorf("the README shows\n%s\nwhile the command prints\n%s\nrun go test ./cmd/scimgate -run '^TestReadmeShowsTheProof$' -update", shown, &out)
	}
}

// The proof ends with exit code 1 for each kind of news, and says which case it is and why.
func TestProofTellsNews(t *testing.T) {
	case1 := &conformance.Case{ID: "rfc7644-1-x"}
	for _, test := range []struct {
		name string
		of   conformance.Report
		want string
	}{
		{"nothing", conformance.Report{Results: []*conformance.Result{{Case: case1, Verdict: conformance.Passed}}}, ""},
		{"a failure", conformance.Report{Results: []*conformance.Result{{Case: case1, Verdict: conformance.Failed, Reason: "got \x1b 500"}}},
			`- Unexpected at the gateway: failed rfc7644-1-x (got \x1b 500)`},
		{"a failure of what is unsupported", conformance.Report{Results: []*conformance.Result{{Case: case1, Verdict: conformance.Failed, Reason: "got 500", Expected: "unsupported: no"}}},
			"- Unexpected at the gateway: failed rfc7644-1-x (got 500)"},
		{"no answer", conformance.Report{Results: []*conformance.Result{{Case: case1, Verdict: conformance.Errored, Reason: "EOF"}}},
			"- Unexpected at the gateway: error rfc7644-1-x (EOF)"},
		{"a pass", conformance.Report{Results: []*conformance.Result{{Case: case1, Verdict: conformance.Passed, Expected: "has no groups"}}},
			"- Unexpected at the gateway: passed unexpectedly rfc7644-1-x (expected to fail: has no groups)"},
		{"unsupported", conformance.Report{Results: []*conformance.Result{{Case: case1, Verdict: conformance.Unsupported, Reason: "needs sort", Strict: true}}},
			"- Unexpected at the gateway: unsupported unexpectedly rfc7644-1-x (needs sort)"},
		{"something left", conformance.Report{Left: []string{"/Users/1: 500"}}, "- Left behind at the gateway: /Users/1: 500"},
	} {
		var out bytes.Buffer
		p := &proof{out: newScreen(&out, noEnv), meter: newMeter(io.Discard, "cases")}
		err := p.verdict([]*proved{{title: "gateway", report: &test.of}})
		if want := test.want != ""; errors.Is(err, errTold) != want {
			t.Errorf("%s: got %v, want news %v", test.name, err, want)
		}
		if want := test.want + "\n"; test.want != "" && out.String() != want {
			t.Errorf("%s: got %q, want %q", test.name, out.String(), want)
		}
	}
}
