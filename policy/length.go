package policy

import (
	"fmt"
	"unicode/utf8"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// Length keeps values within what the upstream stores.
var Length = &Rule{
	Name: "length",
	Doc: "A text may have as many Unicode code points as the profile's maxLength says; BlueJeans takes a userName of " +
		"30 and refuses 31. A longer one is refused with 400 invalidValue and never cut, because cutting can map two " +
		"people to one account. For userName the profile or the configuration may ask for an alias instead " +
		"(onViolation: alias): the upstream stores a stable stand-in, clients see the name they sent.",
	Check: func(req *scim.Request, _ scim.Resource, limits *Limits) []Finding {
		var out []Finding
		for w := range req.Writes() {
			s, ok := w.Value.(string)
			if !ok {
				continue
			}
			limits.of(w, func(l limit) {
				n := utf8.RuneCountInString(s)
				if l.MaxLength == 0 || n <= l.MaxLength {
					return
				}
				f := Finding{Ref: w.Ref, Path: w.Path}
				if l.OnViolation == profile.ViolationAlias {
					f.Verdict, f.Reason = Alias, fmt.Sprintf("%d characters, the upstream takes %d: it gets an alias", n, l.MaxLength)
				} else {
					f.Verdict, f.Status, f.ScimType = Refuse, 400, scim.InvalidValue
					f.Reason = fmt.Sprintf("%s has %d characters; the upstream takes at most %d. Map a shorter value, "+
						"or set onViolation to alias for this connection where the attribute is userName", w.Path, n, l.MaxLength)
				}
				out = append(out, f)
			})
		}
		return out
	},
}
