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
	Check: func(req *Request, _ scim.Resource, limits *Limits) []Finding {
		return limits.violations(req, func(w scim.Write, text string, l *limit) (reason, alias string) {
			n := utf8.RuneCountInString(text)
			if l.MaxLength == 0 || n <= l.MaxLength {
				return "", ""
			}
			return fmt.Sprintf("%s has %d characters; the upstream takes at most %d. Map a shorter value, "+
					"or set onViolation to alias for this connection where the attribute is userName", w.Path, n, l.MaxLength),
				fmt.Sprintf("%d characters, the upstream takes %d: it gets an alias", n, l.MaxLength)
		})
	},
}

// violations asks about every text and each limit on it. complain says why the text is refused, and what a stand-in
// for it is told with; "" when nothing is wrong.
func (l *Limits) violations(req *Request, complain func(w scim.Write, text string, l *limit) (reason, alias string)) []Finding {
	var out []Finding
	for _, w := range req.Values {
		text, ok := w.Value.(string)
		if !ok {
			continue
		}
		l.of(w, func(a *limit) {
			switch reason, alias := complain(w, text, a); {
			case reason == "":
			case a.OnViolation == profile.ViolationAlias:
				out = append(out, Finding{Verdict: Alias, Ref: w.Ref, Path: w.Path, Reason: alias})
			default:
				out = append(out, refusal(w, scim.InvalidValue, reason))
			}
		})
	}
	return out
}
