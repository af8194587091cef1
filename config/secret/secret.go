// Package secret holds values that must never be shown, and says where they come from.
//
// A Secret prints as [redacted] in every form Go has for showing a value: fmt with any verb, JSON, text
// marshalling and log/slog. Only Reveal gives the value, so that the places where a secret leaves the
// program can be found by searching for that word.
//
// A Source is where a secret comes from: a file, which is read again when it changes, or an environment
// variable. The package knows nothing about what a secret is for.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a value that prints as [redacted]. The zero Secret holds nothing.
type Secret struct {
	// A pointer, because fmt cannot call the methods of a Secret in an unexported field and would print
	// what it finds there: at that depth a pointer prints as an address.
	value *string
}

// New returns the Secret that holds value. New("") is the zero Secret.
func New(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{&value}
}

// Reveal returns the value itself, "" for the zero Secret.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports whether s holds nothing.
func (s Secret) IsZero() bool { return s.value == nil }

// String returns [redacted].
func (s Secret) String() string { return redacted }

// GoString returns [redacted].
func (s Secret) GoString() string { return redacted }

// Format writes [redacted] whatever the verb, also for those that would pass String by, such as %x and %d.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalJSON returns "[redacted]" as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns [redacted].
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns [redacted].
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
