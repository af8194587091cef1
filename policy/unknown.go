package policy

import (
	"fmt"
	"net/http"
	"strings"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// Unknown decides about names that no schema has.
var Unknown = &Rule{
	Name: "unknown-attributes",
	Doc: "A name that no schema of the resource type has is left out and named in the trail, so that a mapping of a " +
		"custom attribute does not stop everything else; where the profile refuses what the upstream lacks " +
		"(unlisted: refuse), the request is refused with 400 invalidValue instead. More than 500 such names are no " +
		"mapping of anything, and refused.",
	Check: func(req *Request, _ scim.Resource, limits *Limits) []Finding {
		var out []Finding
		for _, w := range req.Values {
			if w.Known {
				continue
			}
			if limits.Unlisted == profile.HandlingRefuse && !limits.Complete {
				return refuse(w, scim.InvalidValue, brief(w)+" is an attribute of no schema here: take it out of the mapping")
			}
			if len(out) == mostUnknown {
				return []Finding{{Verdict: Refuse, Status: http.StatusRequestEntityTooLarge,
					Reason: fmt.Sprintf("more than %d attributes of no schema here: take them out of the mapping", mostUnknown)}}
			}
			out = append(out, Finding{Verdict: Drop, Ref: w.Ref, Path: brief(w), Reason: "no schema has this attribute"})
		}
		return once(out)
	},
}

// mostUnknown is how many names that no schema has are left out of one request: each costs a finding.
const mostUnknown = 500

// brief keeps a name that a client made up short and printable, and leaves out what may be a value in it.
func brief(w scim.Write) string {
	path := w.Path
	if name, _, ok := strings.Cut(w.Ref.Name, "["); ok {
		path = name + "[...]"
	}
	path = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, path)
	if r := []rune(path); len(r) > 80 {
		return string(r[:80]) + "..."
	}
	return path
}
