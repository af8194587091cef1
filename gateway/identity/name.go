package identity

import (
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
