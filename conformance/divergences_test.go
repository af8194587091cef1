package conformance

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write DIVERGENCES.md anew")

const divergencesFile = "DIVERGENCES.md"

// The sections of DIVERGENCES.md.
var diverging = []struct{ name, title, about string }{
	{"simulator-bluejeans", "The simulated upstream alone, profile bluejeans",
		"The simulator does what the profile says and no more: `scimgate profiles show bluejeans` has the source of each limit."},
	{"gateway-bluejeans", "The gateway in front of it, profile bluejeans",
		"What BlueJeans cannot hold cannot be tried, and is not announced; all else passes."},
	{"gateway-generic", "The gateway, profile generic",
		"Both are decisions, whatever the upstream can do."},
}

const divergencesHead = "# Divergences\n\n" +
	"What `scimgate conformance` is known to find at three service providers of this repository, and why. `scimgate conformance\n" +
	"proof` runs the suite against all three, and its exit code is 1 when it finds anything else. The same stands in\n" +
	"[expected](expected), in the form that `--expect` reads; a reason is changed there, and then\n\n" +
	"```console\n$ go test ./conformance -run '^TestDivergences$' -update\n```\n\n" +
	"writes this page. What a case asks for stands at the top of `cases/CASE.txt`.\n"

// TestDivergences holds DIVERGENCES.md against the files that --expect reads, and these against the cases.
func TestDivergences(t *testing.T) {
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	page.WriteString(divergencesHead)
	for _, d := range diverging {
		expected, err := Divergences(d.name)
		if err == nil {
			err = CheckExpected(expected, cases)
		}
		if err != nil {
			t.Fatalf("expected/%s.json: %v", d.name, err)
		}
		fails, unsupported := map[string][]string{}, map[string][]string{}
		failing := 0
		for _, id := range sortedKeys(expected) {
			if reason, ok := strings.CutPrefix(expected[id], unsupportedPrefix); ok {
				unsupported[reason] = append(unsupported[reason], id)
				continue
			}
			failing++
			fails[expected[id]] = append(fails[expected[id]], id)
		}
		if failing > 0 && strings.HasPrefix(d.name, "gateway") {
			t.Errorf("expected/%s.json: through the gateway nothing fails", d.name)
		}
		fmt.Fprintf(&page, "\n## %s\n`expected/%s.json`: %s fail, %s unsupported.\n%s\n",
			d.title, d.name, counted(failing), verb(len(expected)-failing), d.about)
		writeReasons(&page, "Fails", fails)
		writeReasons(&page, "Unsupported", unsupported)
	}
	if *update {
		if err := os.WriteFile(divergencesFile, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(divergencesFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != page.String() {
		t.Errorf("%s does not say what expected/*.json says: run go test ./conformance -run '^TestDivergences$' -update", divergencesFile)
	}
}

func counted(n int) string {
	if n == 0 {
		return "no case may"
	}
	return fmt.Sprintf("%d cases", n)
}

func verb(n int) string {
	if n == 1 {
		return "1 is"
	}
	return fmt.Sprintf("%d are", n)
}

// writeReasons lists the cases of each reason, in lines of up to 120 characters.
func writeReasons(page *strings.Builder, heading string, by map[string][]string) {
	if len(by) == 0 {
		return
	}
	fmt.Fprintf(page, "\n### %s\n", heading)
	for _, reason := range sortedKeys(by) {
		fmt.Fprintf(page, "- **%s** (%d)", reason, len(by[reason]))
		column := 1000
		for i, id := range by[reason] {
			item := "`" + id + "`"
			if i < len(by[reason])-1 {
				item += ","
			}
			if column+1+len(item) > 120 {
				page.WriteString("\n ")
				column = 1
			}
			page.WriteString(" " + item)
			column += 1 + len(item)
		}
		page.WriteString("\n")
	}
}
