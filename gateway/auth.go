package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"
)

// Token is a Secret Token as the gateway knows it: by its SHA-256.
type Token struct {
	Name    string // as it stands in the trail
	SHA256  [32]byte
	Expires time.Time // zero: never
}

// authenticate finds the token that a request presents. Every token is compared, in constant time, so that neither
// the time nor the answer tells how close a guess came.
func authenticate(h http.Header, tokens []Token, now time.Time) (name string, ok bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, presented, _ := strings.Cut(values[0], " ")
	presented = strings.TrimSpace(presented)
	if !strings.EqualFold(scheme, "Bearer") || presented == "" {
		return "", false
	}
	sum := sha256.Sum256([]byte(presented))
	for _, t := range tokens {
		live := t.Expires.IsZero() || now.Before(t.Expires)
		if subtle.ConstantTimeCompare(sum[:], t.SHA256[:]) == 1 && live {
			name, ok = t.Name, true
		}
	}
	return name, ok
}
