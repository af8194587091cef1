package transform

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"unicode/utf8"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// hashed is how many characters of an alias are a hash: 50 bits.
const hashed = 10

// minAlias is the shortest limit that leaves an alias something of the name.
const minAlias = 16

// alias makes stand-ins for userNames that the upstream would refuse. The zero alias makes none.
type alias struct {
	on        bool
	most      int    // code points the upstream takes; 0: any number
	forbidden string // characters the upstream does not take
	mark      string // stands between what is left of the name and the hash
}

func newAlias(a profile.Attribute) alias {
	out := alias{on: true, most: a.MaxLength, forbidden: a.Forbidden}
	for _, mark := range []string{"~", "-", "_", "."} {
		if !strings.Contains(a.Forbidden, mark) {
			out.mark = mark
			break
		}
	}
	return out
}

// problem says why no alias could satisfy the attribute's own limits; "" when one can.
func (a alias) problem() string {
	switch {
	case a.most > 0 && a.most < minAlias:
		return "onViolation: alias needs a maxLength of 16 or more, to tell aliases apart"
	case strings.ContainsAny(a.forbidden, strings.ToLower("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")):
		return "onViolation: alias cannot do without the characters a to z and 2 to 7: take them out of forbidden"
	default:
		return ""
	}
}

// needed reports whether the upstream would refuse the name.
func (a alias) needed(userName string) bool {
	return a.on && (a.most > 0 && utf8.RuneCountInString(userName) > a.most || strings.ContainsAny(userName, a.forbidden))
}

// of is a stable stand-in: the beginning of the name, a mark, and a hash over the folded name, so that names which
// differ only in case have aliases that do so too.
func (a alias) of(userName string) string {
	sum := sha256.Sum256([]byte(scim.Fold(userName)))
	tail := a.mark + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:hashed])
	head := []rune(strings.Map(func(r rune) rune {
		if strings.ContainsRune(a.forbidden, r) {
			return -1
		}
		return r
	}, userName))
	if most := a.most - len(tail); a.most > 0 && len(head) > most {
		head = head[:most]
	}
	return string(head) + tail
}
