package conformance

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

// unsupportedPrefix starts the reason of a case that is expected to be unsupported, and not to fail.
const unsupportedPrefix = "unsupported: "

func expectsUnsupported(reason string) bool { return strings.HasPrefix(reason, unsupportedPrefix) }

// ParseExpected reads which cases are known to fail, and why: one YAML mapping, of which a JSON object is one form.
//
//	# a comment
//	rfc7644-3.5.2-patch-unknown: this upstream knows only PUT
//	rfc7644-3.4.2.3-descending: "unsupported: it does not sort"
//
// A reason that starts with "unsupported: " allows the case to be unsupported, not to fail. A case without a reason, or
// named twice, is an error.
func ParseExpected(text string) (expected map[string]string, err error) {
	defer func() {
		if recover() != nil { // the parser's, of what people typed
			expected, err = nil, errors.New("want `case: reason` lines in YAML, or a JSON object of the same")
		}
	}()
	if err := yaml.Unmarshal([]byte(strings.TrimPrefix(text, "\ufeff")), &expected); err != nil {
		return nil, fmt.Errorf("want `case: reason` lines in YAML, or a JSON object of the same: %s", yaml.FormatError(err, false, false))
	}
	for id, reason := range expected {
		expected[id] = strings.TrimSpace(reason)
	}
	return expected, reasoned(expected)
}

func reasoned(expected map[string]string) error {
	for _, id := range sortedKeys(expected) {
		if strings.TrimSpace(strings.TrimPrefix(expected[id]+" ", unsupportedPrefix)) == "" {
			return fmt.Errorf("%s has no reason", id)
		}
	}
	return nil
}

// CheckExpected reports expectations of cases that there are not.
func CheckExpected(expected map[string]string, cases []*Case) error {
	known := map[string]bool{}
	for _, c := range cases {
		known[c.ID] = true
	}
	for _, id := range sortedKeys(expected) {
		if !known[id] {
			return fmt.Errorf("there is no case %q", cut(id))
		}
	}
	return nil
}
