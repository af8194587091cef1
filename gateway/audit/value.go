package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Value is how one attribute value stands in the trail. At most one member is set; a nil *Value says that the step did
// not concern the attribute.
type Value struct {
	Clear  json.RawMessage `json:"value,omitempty"`  // public attributes: the value itself, compact JSON
	HMAC   string          `json:"hmac,omitempty"`   // others: 32 hex digits, equal for equal values of one attribute
	Secret bool            `json:"secret,omitempty"` // secrets: not even whether two are equal
	State  string          `json:"state,omitempty"`  // StateNotReported or StateAbsent
}

// States of a value that is not there.
const (
	StateNotReported = "not reported" // the upstream's answer did not say
	StateAbsent      = "absent"       // null, or removed: unassigned (RFC 7643, Section 2.5)
)

// NotReported marks what an upstream did not say: a 204 confirms nothing.
func NotReported() *Value { return &Value{State: StateNotReported} }

// Absent marks an attribute without a value.
func Absent() *Value { return &Value{State: StateAbsent} }

// String is the value's form for people: the value as JSON, "hmac:...", "[secret]" or the state; "" for nil.
func (v *Value) String() string {
	switch {
	case v == nil:
		return ""
	case v.Secret:
		return "[secret]"
	case v.HMAC != "":
		return "hmac:" + v.HMAC
	case v.State != "":
		return v.State
	}
	return string(v.Clear)
}

// ClipLimit is the length in bytes at which Clip cuts.
const ClipLimit = 1024

// Clip bounds a string from outside: beyond ClipLimit bytes it is cut between two code points and ends in "…".
func Clip(s string) string {
	if len(s) <= ClipLimit {
		return s
	}
	cut := ClipLimit - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// Redactor decides how values stand in the trail. It is safe for concurrent use.
//
// There are three classes. Public: userName, id, externalId, active, schemas and the sub-attributes of meta, in the
// clear as long as the value has the type RFC 7643 gives it. Secret: password, and the attributes named to NewRedactor.
// Sensitive: everything else, also attributes nobody knows. A sensitive value is replaced by HMAC-SHA256 under the
// trail's key, cut to 16 bytes, over the attribute path and the value in a canonical form: who holds the trail alone
// learns nothing but which values of one attribute are equal, and so sees whether what was asked was sent and confirmed.
type Redactor struct {
	never []string
	macs  sync.Pool // *mac, keyed
}

// mac is a keyed hash with its scratch space.
type mac struct {
	hash hash.Hash
	text []byte
	sum  [sha256.Size]byte
}

// NewRedactor returns a Redactor with the trail's key, see LoadOrCreateKey. Attributes whose schema says
// "returned": "never" (RFC 7643, Section 7) are named by their paths; they and their sub-attributes are secrets.
func NewRedactor(key []byte, never ...string) *Redactor {
	key = slices.Clone(key)
	r := &Redactor{}
	for _, path := range never {
		r.never = append(r.never, canonicalPath(path))
	}
	r.macs.New = func() any { return &mac{hash: hmac.New(sha256.New, key)} }
	return r
}

// Value returns how v, a value of the attribute at path as decoded from JSON, stands in the trail. A nil v is absent.
func (r *Redactor) Value(path string, v any) *Value {
	if v == nil {
		return Absent()
	}
	name := canonicalPath(path)
	if r.secret(name) {
		return &Value{Secret: true}
	}
	if text := public(name, v); text != nil {
		return &Value{Clear: text}
	}
	m := r.macs.Get().(*mac)
	defer r.macs.Put(m)
	m.text = append(append(m.text[:0], name...), 0)
	text, secret := appendCanonical(m.text, v)
	m.text = text
	if secret {
		return &Value{Secret: true}
	}
	m.hash.Reset()
	m.hash.Write(m.text)
	sum := m.hash.Sum(m.sum[:0])
	clear(m.text) // the scratch space outlives the request
	var digits [32]byte
	hex.Encode(digits[:], sum[:16])
	return &Value{HMAC: string(digits[:])}
}

func (r *Redactor) secret(name string) bool {
	if isPassword(name[strings.LastIndexAny(name, ":.")+1:]) {
		return true
	}
	for _, never := range r.never {
		if rest, ok := strings.CutPrefix(name, never); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

func isPassword(attribute string) bool { return strings.EqualFold(attribute, "password") }

// canonicalPath makes the spellings of one attribute equal: names are case-insensitive, and the URN of a core schema
// may be left out (RFC 7643, Section 2.1; RFC 7644, Section 3.10).
func canonicalPath(path string) string {
	path = strings.ToLower(path)
	const core = "urn:ietf:params:scim:schemas:core:2.0:"
	if rest, ok := strings.CutPrefix(path, core); ok {
		if _, attribute, ok := strings.Cut(rest, ":"); ok {
			return attribute
		}
	}
	return path
}

// public returns the JSON of a value that may stand in the clear, or nil. The value's type is part of the decision: what
// a client hides in an object where a string belongs is not public.
func public(name string, v any) json.RawMessage {
	switch name {
	case "username", "id", "externalid", "meta.resourcetype", "meta.created", "meta.lastmodified", "meta.location", "meta.version":
		if s, ok := v.(string); ok {
			return appendString(nil, Clip(s))
		}
	case "active":
		switch v := v.(type) {
		case bool:
			if v {
				return json.RawMessage("true")
			}
			return json.RawMessage("false")
		case string: // Entra's older dialect sends "True" and "False"
			if strings.EqualFold(v, "true") || strings.EqualFold(v, "false") {
				return appendString(nil, v)
			}
		}
	case "schemas":
		if urns, ok := stringsOf(v); ok {
			list := []byte{'['}
			for i, urn := range urns {
				if i > 0 {
					list = append(list, ',')
				}
				list = appendString(list, Clip(urn))
			}
			return append(list, ']')
		}
	}
	return nil
}

// stringsOf reads the schemas attribute. A list longer than any real one is not public.
func stringsOf(v any) ([]string, bool) {
	const most = 16
	var list []string
	switch v := v.(type) {
	case string:
		list = []string{v}
	case []string:
		list = v
	case []any:
		for _, one := range v[:min(len(v), most+1)] {
			s, ok := one.(string)
			if !ok {
				return nil, false
			}
			list = append(list, s)
		}
	default:
		return nil, false
	}
	return list, len(list) <= most
}
