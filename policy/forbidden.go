package policy

import (
	"fmt"
	"strings"

	"scimgate/transform/scim"
)

// Forbidden keeps out characters that the upstream does not take.
var Forbidden = &Rule{
	Name: "forbidden-characters",
	Doc: "The profile may name characters that must not occur in an attribute's value. A value with one of them is " +
		"refused with 400 invalidValue and never rewritten. For userName the profile or the configuration may ask for " +
		"an alias instead (onViolation: alias).",
	Check: func(req *Request, _ scim.Resource, limits *Limits) []Finding {
		return limits.violations(req, func(w scim.Write, text string, l *limit) (reason, alias string) {
			if !strings.ContainsAny(text, l.Attribute.Forbidden) {
				return "", ""
			}
			return fmt.Sprintf("%s has a character that the upstream does not take; it refuses any of %q", w.Path, l.Attribute.Forbidden),
				"a character that the upstream does not take: it gets an alias"
		})
	},
}
