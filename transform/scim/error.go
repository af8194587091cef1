package scim

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The detail error keywords of RFC 7644, Section 3.12, Table 9.
const (
	InvalidFilter = "invalidFilter"
	TooMany       = "tooMany"
	Uniqueness    = "uniqueness"
	Mutability    = "mutability"
	InvalidSyntax = "invalidSyntax"
	InvalidPath   = "invalidPath"
	NoTarget      = "noTarget"
	InvalidValue  = "invalidValue"
	InvalidVers   = "invalidVers"
	Sensitive     = "sensitive"
)

// The detail error keywords of RFC 9865, Section 2.1, Table 3.
const (
	InvalidCursor = "invalidCursor"
	ExpiredCursor = "expiredCursor"
	InvalidCount  = "invalidCount"
)

// Error is an answer that tells a client why it did not get what it asked for (RFC 7644, Section 3.12). It is
// the only kind of error whose text a client may see, so Detail names attributes and positions and never
// carries a value that is not public.
type Error struct {
	Status     int           // HTTP status, 400 to 599
	Type       string        // scimType; "" where Table 9 has none
	Detail     string        // one or two sentences: what is wrong, and what to do
	Quoted     string        // what the other side said of it, for the client alone: it may hold personal values
	RetryAfter time.Duration // for 429 and 503; 0: no Retry-After header
	Allow      []string      // for 405: the methods that are allowed
	Err        error         // cause, for the trail only
}

// Error implements error. The text is for the trail and for logs: it leaves Quoted out.
func (e *Error) Error() string {
	s := fmt.Sprintf("%d", e.Status)
	if e.Type != "" {
		s += " " + e.Type
	}
	s += ": " + e.Detail
	if e.Err != nil {
		s += " (" + e.Err.Error() + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error. The format follows fmt.Errorf but takes no %w: a cause is set apart, in Err.
func Errorf(status int, scimType, format string, args ...any) *Error {
	return &Error{Status: status, Type: scimType, Detail: fmt.Sprintf(format, args...)}
}

// BadRequest makes a 400 with a scimType.
func BadRequest(scimType, format string, args ...any) *Error {
	return Errorf(http.StatusBadRequest, scimType, format, args...)
}

// NotFound is the answer for a resource that does not exist (RFC 7644, Section 3.12).
func NotFound(resourceType, id string) *Error {
	return Errorf(http.StatusNotFound, "", "%s %q does not exist", resourceType, clip(id))
}

// clip keeps a client's own text short inside a detail. What may hold control characters is printed with %q.
func clip(s string) string {
	const most = 80
	for n := range s {
		if n >= most {
			return s[:n] + "..."
		}
	}
	return s
}

// QuoteName is a name that a client made up, of an attribute or of an operation, in quotes. What has not the form of one
// (RFC 7643, Section 2.1; with the URN and the sub-attribute of a path) may be a value, and is not repeated.
func QuoteName(name string) string {
	letter := false
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			letter = true
		case r >= '0' && r <= '9', strings.ContainsRune("$_-.:", r):
		default:
			return "(which is not repeated here)"
		}
	}
	if !letter {
		return "(which is not repeated here)"
	}
	return strconv.Quote(clip(name))
}

// Keyword is a detail error keyword, and "" for what is none: an upstream may say anything.
func Keyword(scimType string) string {
	switch scimType {
	case InvalidFilter, TooMany, Uniqueness, Mutability, InvalidSyntax, InvalidPath, NoTarget, InvalidValue, InvalidVers, Sensitive,
		InvalidCursor, ExpiredCursor, InvalidCount:
		return scimType
	}
	return ""
}

// Detail is what a client would be told of err: the detail of an *Error, and the whole text of any other.
func Detail(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Detail
	}
	return err.Error()
}
