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
		"refused with 400 invalidValue; it is never rewritten.",
	Check: func(req *scim.Request, _ scim.Resource, limits *Limits) []Finding {
		var out []Finding
		for w := range req.Writes() {
			s, ok := w.Value.(string)
			if !ok {
				continue
			}
			limits.of(w, func(l limit) {
				if l.Attribute.Forbidden == "" {
					return
				}
				if i := strings.IndexAny(s, l.Attribute.Forbidden); i >= 0 {
					out = append(out, refuse(w, scim.InvalidValue, fmt.Sprintf(
						"%s has a character that the upstream does not take; it refuses any of %q", w.Path, l.Attribute.Forbidden))...)
				}
			})
		}
		return out
	},
}
