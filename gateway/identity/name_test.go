package identity

import (
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestFoldKey(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"alice@contoso.com", "alice@contoso.com"},
		{"Alice@Contoso.COM", "alice@contoso.com"},
		{"ÉLODIE", "élodie"},
		{"\u212Aelvin", "kelvin"},            // the Kelvin sign
		{"ma\u017Fter", "master"},            // the long s
		{"\u0130stanbul", "\u0130stanbul"},   // lower-cases to i, but folds to itself
		{"ΣΑΣ σας", "σασ σασ"},               // final sigma
		{"bad\xffbyte", "bad\uFFFDbyte"},     // as range and EqualFold read it
		{"user_1+tag@x.y", "user_1+tag@x.y"}, // nothing to fold
	} {
		if got := FoldKey(tt.in); got != tt.want {
			t.Errorf("FoldKey(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// Every rune's key must be a member of its orbit, the same for all members: then two strings share a key exactly when
// EqualFold says that they are equal.
func TestFoldRuneIsOnePerOrbit(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		key, found := foldRune(r), false
		for o := unicode.SimpleFold(r); ; o = unicode.SimpleFold(o) {
			if foldRune(o) != key {
				t.Fatalf("foldRune(%U) = %U, but foldRune(%U) = %U", r, key, o, foldRune(o))
			}
			found = found || o == key
			if o == r {
				break
			}
		}
		if !found {
			t.Fatalf("foldRune(%U) = %U, which is not in its orbit", r, key)
		}
	}
}

func TestFoldKeyAgreesWithEqualFold(t *testing.T) {
	letters := rapid.StringOf(rapid.RuneFrom([]rune("aAkK\u212AsS\u017FiIİıéÉσςΣß\uFFFD@.")))
	rapid.Check(t, func(t *rapid.T) {
		a, b := letters.Draw(t, "a"), letters.Draw(t, "b")
		if got, want := FoldKey(a) == FoldKey(b), strings.EqualFold(a, b); got != want {
			t.Fatalf("FoldKey(%q) == FoldKey(%q) is %v, want %v", a, b, got, want)
		}
	})
}

func TestUpstreamName(t *testing.T) {
	e := Entry{Upstream: "bluejeans", ResourceType: "User", ID: "42", UserName: "alice"}
	if got, want := e.UpstreamName(), "alice"; got != want {
		t.Errorf("UpstreamName() = %q, want %q", got, want)
	}
	e.Sent = "al~1"
	if got, want := e.UpstreamName(), "al~1"; got != want {
		t.Errorf("UpstreamName() = %q, want %q", got, want)
	}
	if got, want := e.Key(), (Key{"bluejeans", "User", "42"}); got != want {
		t.Errorf("Key() = %v, want %v", got, want)
	}
}
