package conformance_test

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"scimgate/conformance"
)

var breadth = flag.Bool("breadth", false, "run every case against every fault of the model, not against a sample")

// narrow is how many cases a server with one fault may fail. More means that the fault breaks what has nothing to do
// with it, and that the case which is there to catch it may catch something else.
const narrow = 50

// broad are the faults that no case can look past: without an id, a 201 or the frame of a list there is nothing to go on.
var broad = []string{
	"every answer is 500", "every answer is an empty 200", "every answer is a page of HTML",
	"POST answers 200", "resources are not stored", "the id is missing", "the id is empty", "ids are not unique",
	"lists are bare arrays", "lists have no schemas", "lists have the schema of a User", "totalResults is a text", "integers have a fraction",
	"errors are plain text", "errors have no schemas", "errors have another content type", "the status in errors is a number", "the content type is text/html",
	"values are stored in lower case", "userName is missing", "PATCH is ignored", "PATCH answers 201",
}

// liberties are what a service provider may do, as the RFCs stand, and the model does not: no case that says MUST may
// fail one that does. So are the faults that only a case with SHOULD or MAY is there to catch.
var liberties = []string{
	"/Me is nobody", // RFC 7644, 3.11: a token need not be a User's
	"a list in one page says nothing of pages",   // 3.4.2: REQUIRED when partial results are returned
	"a past version is 409",                      // 3.12, Table 8
	"attributes have defaults",                   // RFC 7644, 3.3 and 3.5.1
	"dates are in whole seconds",                 // RFC 7643, 2.3.5
	"discovery has no meta",                      // RFC 7643, 3.1
	"endpoints of resource types lack the slash", // RFC 7643, 6
	"entity tags are strong",                     // 3.14
	"errors have no more than they must",         // 3.12
	"formatted is made of the other names",       // RFC 7643, 4.1.1
	"headers are no more than they must be",      // 3.3, 3.14; RFC 9110, 9.3.4
	"ids look like numbers",                      // RFC 7643, 3.1
	"meta has no version",                        // RFC 7643, 3.1
	"passwords can be compared",                  // RFC 7643, 4.1.1
	"PATCH answers 204 where it may",             // 3.5.2
	"queries at the root are too many",           // 3.4.2.1
	"userName comes back in lower case",          // RFC 7643, 7: caseExact
	"what is unassigned is null",                 // RFC 7643, 2.5
}

// takeLiberties changes what is shown of a resource in a way that is allowed.
func (m *model) takeLiberties(it *item, o object) {
	name, _ := o["name"].(object)
	switch {
	case it.kind.name != "User":
	case m.is("formatted is made of the other names") && name != nil && name["formatted"] == nil:
		name["formatted"] = strings.TrimSpace(fmt.Sprint(cmp.Or[any](name["givenName"], ""), " ", cmp.Or[any](name["familyName"], "")))
	case m.is("attributes have defaults"):
		if o["active"] == nil {
			o["active"] = true
		}
		if o["preferredLanguage"] == nil {
			o["preferredLanguage"] = "en"
		}
	case m.is("userName comes back in lower case"):
		o["userName"] = strings.ToLower(fmt.Sprint(o["userName"]))
	}
}

// unassign gives every attribute without a value as null or as an empty array.
func unassign(o object, attrs []*attribute) {
	for _, a := range attrs {
		switch {
		case o[a.name] != nil || a.returned == "never":
		case a.multi:
			o[a.name] = []any{}
		default:
			o[a.name] = nil
		}
	}
}

// failing are the cases that a model with a fault fails, and those of them that ask for a MUST of an RFC.
func failing(t *testing.T, cases []*conformance.Case, fault string) (failed, must []string) {
	for id, r := range verdicts(t, cases, fault) {
		if r.Verdict == conformance.Passed || r.Verdict == conformance.Unsupported {
			continue
		}
		if failed = append(failed, id); r.Case.Level == "MUST" && strings.HasPrefix(id, "rfc") {
			must = append(must, id)
		}
	}
	slices.Sort(failed)
	slices.Sort(must)
	return failed, must
}

// TestLiberties shows that the suite asks no more than the RFCs do.
func TestLiberties(t *testing.T) {
	for _, l := range liberties {
		if failed, must := failing(t, builtin(t), l); len(must) > 0 {
			t.Errorf("%s, which is allowed: fails %q", l, must)
		} else {
			t.Logf("%3d fail  %s  %s", len(failed), l, strings.Join(failed, " "))
		}
	}
}

// TestFaultsAreNarrow shows that a server with a fault otherwise behaves: it fails few cases next to the one that is
// there to catch it. Run with -v it prints the list, and with -breadth the whole of it.
func TestFaultsAreNarrow(t *testing.T) {
	cases, level := builtin(t), map[string]string{}
	for _, c := range cases {
		level[c.ID] = c.Level
	}
	lines := make([]func(), len(faults))
	slots := make(chan bool, 2)
	var running sync.WaitGroup
	for i, f := range faults {
		if !*breadth && i%24 != 0 {
			continue
		}
		running.Go(func() {
			slots <- true
			failed, must := failing(t, cases, f.fault)
			<-slots
			lines[i] = func() {
				t.Logf("%3d fail  %s -> %s", len(failed), f.fault, f.caught)
				if !slices.Contains(failed, f.caught) {
					t.Errorf("%s: %s does not fail when all cases are run", f.fault, f.caught)
				}
				if len(failed) > narrow && !slices.Contains(broad, f.fault) {
					t.Errorf("%s: fails %d cases, want at most %d: %q", f.fault, len(failed), narrow, failed)
				}
				if level[f.caught] != "MUST" && len(must) > 0 && !slices.Contains(broad, f.fault) {
					t.Errorf("%s: %s, which is to catch it, says %s, but these say MUST and fail: %q", f.fault, f.caught, level[f.caught], must)
				}
			}
		})
	}
	running.Wait()
	for _, print := range lines {
		if print != nil {
			print()
		}
	}
}
