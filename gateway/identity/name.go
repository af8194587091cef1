package identity

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// FoldKey returns the form under which userNames are compared: FoldKey(a) == FoldKey(b) exactly when
// strings.EqualFold(a, b). RFC 7643, Section 4.1.1 makes userName case-insensitive (caseExact false) without naming a
// folding; simple Unicode folding is the one that needs no locale and never changes the number of code points.
func FoldKey(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return strings.Map(foldRune, s)
		}
	}
	return s
}

// foldRune returns one fixed member of r's folding orbit: the lower-case form of the orbit's smallest rune where that
// form belongs to the orbit, else the smallest rune itself. (U+0130 lower-cases to "i", which is another orbit.)
func foldRune(r rune) rune {
	if r < utf8.RuneSelf && !('A' <= r && r <= 'Z') {
		return r
	}
	least := r
	for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
		least = min(least, o)
	}
	lower := unicode.ToLower(least)
	for o := unicode.SimpleFold(least); o != least; o = unicode.SimpleFold(o) {
		if o == lower {
			return lower
		}
	}
	return least
}

const (
	aliasMark   = "~"
	aliasDigest = 10 // characters of base32: 50 bits, so that 1,000,000 long names collide with a chance below 1 in 2,000
	aliasMin    = 16 // shortest alias that still shows a few readable characters
)

// aliasEncoding is RFC 4648 base32 in lower case: letters and digits only, and still distinct when folded.
var aliasEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Alias returns the userName to send to an upstream that takes at most max Unicode code points: the start of the folded
// userName, "~", and ten characters of a digest of the whole folded name. It depends on nothing but its arguments, so
// a repeated create finds the user of the first attempt, and names that differ only in case have the same alias.
// It panics when max is below 16, which a profile's check has to rule out.
func Alias(userName string, max int) string {
	if max < aliasMin {
		panic(fmt.Sprintf("identity: an alias needs room for at least %d code points, not %d", aliasMin, max))
	}
	folded := FoldKey(userName)
	prefix, room := folded, max-len(aliasMark)-aliasDigest
	for i := range folded {
		if room == 0 {
			prefix = folded[:i]
			break
		}
		room--
	}
	sum := sha256.Sum256([]byte(folded))
	return prefix + aliasMark + aliasEncoding.EncodeToString(sum[:])[:aliasDigest]
}
