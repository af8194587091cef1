package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"scimgate/config"
	"scimgate/policy"
)

// The README shows the example configuration as the tests read it, names every rule, and shows no command that the
// program does not have.
func TestReadmeIsTrue(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(text)
	if !strings.Contains(readme, "```yaml\n"+config.Example()+"```") {
		t.Error("the README does not hold config/example.yaml: copy it into its yaml block")
	}
	for _, rule := range policy.Suite {
		if !strings.Contains(readme, "| "+rule.Name+" |") {
			t.Errorf("the README's table of refusals lacks the rule %s", rule.Name)
		}
	}
	none := func(string) string { return "" }
	for _, m := range regexp.MustCompile("(?:\\$ |`|cmd/)scimgate ([a-z]+)((?: [a-z]+)?)").FindAllStringSubmatch(readme, -1) {
		args := append(strings.Fields(m[1]+m[2]), "--help")
		if code := run(t.Context(), args[:len(args):len(args)], strings.NewReader(""), io.Discard, io.Discard, none); code != exitOK {
			if code = run(t.Context(), []string{m[1], "--help"}, strings.NewReader(""), io.Discard, io.Discard, none); code != exitOK {
				t.Errorf("the README shows `scimgate %s%s`, which the program does not have", m[1], m[2])
			}
		}
	}
}
