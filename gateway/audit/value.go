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

	Unsealed json.RawMessage `json:"-"` // beside HMAC: the value, after Sealer.Unseal
	plain    any             // beside HMAC: the value, for Key.Seal; nil where values are not sealed
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
	case len(v.Unsealed) > 0:
		return string(v.Unsealed)
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
// There are three classes. Public: userName, id, externalId, active and schemas, in the clear as long as the value has the
// type and the form RFC 7643 gives it, and the attributes that are configured so. Secret: password,
// and the attributes that are configured so. Sensitive: everything else, also attributes nobody knows. A sensitive value
// is replaced by HMAC-SHA256 under the trail's key, cut to 16 bytes, over the attribute path and the value in a canonical
// form: who holds the trail alone learns nothing but which values of one attribute are equal, and so sees whether what was
// asked was sent and confirmed. Beside that it may be sealed: see Sealer.
type Redactor struct {
	public, secret []string
	seal           bool
	macs           []macs // newest first
}

// RedactorConfig says what stands in the trail and how.
type RedactorConfig struct {
	// Keys are those of the hashes. Required.
	Keys Keys
	// Public and Secret are the paths of attributes beside those that always are. A path covers its sub-attributes, and
	// all values of a multi-valued attribute; that of an extension covers all of it. What is both is secret.
	Public, Secret []string
	// Seal keeps sensitive values for Key.Seal.
	Seal bool
}

// macs are keyed hashes of one key.
type macs struct{ *sync.Pool }

func (m macs) take() *mac {
	one := m.Get().(*mac)
	one.hash.Reset()
	return one
}

// mac is a keyed hash with its scratch space.
type mac struct {
	hash hash.Hash
	text []byte
	sum  [sha256.Size]byte
}

// NewRedactor returns a Redactor.
func NewRedactor(cfg RedactorConfig) *Redactor {
	r := &Redactor{seal: cfg.Seal}
	for _, path := range cfg.Public {
		r.public = append(r.public, canonicalPath(path))
	}
	for _, path := range cfg.Secret {
		r.secret = append(r.secret, canonicalPath(path))
	}
	for _, key := range slices.Backward(cfg.Keys) {
		key = slices.Clone(key)
		r.macs = append(r.macs, macs{&sync.Pool{New: func() any { return &mac{hash: hmac.New(sha256.New, key)} }}})
	}
	return r
}

// Value returns how v, a value of the attribute at path as decoded from JSON, stands in the trail. A nil v is absent.
func (r *Redactor) Value(path string, v any) *Value {
	if v == nil {
		return Absent()
	}
	name := canonicalPath(path)
	if r.isSecret(name, v) {
		return &Value{Secret: true}
	}
	if text := public(name, v); text != nil {
		return &Value{Clear: text}
	}
	sum, secret := r.macs[0].of(name, v)
	if secret {
		return &Value{Secret: true}
	}
	if covered(r.public, name) {
		if text := clearForm(v); text != nil {
			return &Value{Clear: text}
		}
	}
	value := &Value{HMAC: sum}
	if r.seal {
		value.plain = v
	}
	return value
}

// elementTypes are the types of elements that RFC 7643 and its schemas name.
var elementTypes = []string{
	"work", "home", "other", "mobile", "fax", "pager", "aim", "gtalk", "icq", "xmpp", "msn", "skype", "qq", "yahoo", "photo", "thumbnail",
	"direct", "indirect", "user", "group", "primary",
}

// Path returns how the path of an attribute value stands in the trail, clipped. Names of attributes are in the clear, but
// what has not the form of one may be a value and is replaced by a keyed hash. So is the type that tells an element apart, as
// in emails[type eq "work"].value, where a client made it up, and any other filter with a value in it.
func (r *Redactor) Path(path string) string {
	name := withoutFilter(path)
	if !isName(name) || name == "" && path != "" {
		return "hmac:" + r.hashOf("", path)
	}
	if len(name) == len(path) {
		return Clip(path)
	}
	from, to := strings.IndexByte(path, '['), strings.LastIndexByte(path, ']')
	const begin = `type eq "`
	filter := path[from+1 : to]
	if kind, ok := strings.CutPrefix(filter, begin); ok && strings.HasSuffix(kind, `"`) {
		if kind = kind[:len(kind)-1]; slices.Contains(elementTypes, strings.ToLower(kind)) {
			return Clip(path)
		}
		filter = begin + "hmac:" + r.hashOf(path[:from], kind) + `"`
	} else if !isName(strings.ReplaceAll(filter, " ", "")) { // "primary eq true", "value eq ..." and places have no values
		filter = "hmac:" + r.hashOf(path[:from], filter)
	}
	return Clip(path[:from+1] + filter + path[to:])
}

// hashOf is a short keyed hash of a text at a path.
func (r *Redactor) hashOf(path, text string) string {
	sum, _ := r.macs[0].of(canonicalPath(path), text)
	return sum[:16]
}

// isName reports whether a path has the form of one (RFC 7644, Section 3.10): names, with a URN before and dots between them.
func isName(path string) bool {
	for i := range len(path) {
		switch c := path[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == ':', c == '-', c == '_', c == '$':
		default:
			return false
		}
	}
	return true
}

// Hashes returns what a sensitive value is replaced by, and behind it what it was replaced by before each rotation of the
// key, newest first; none for a value that is not sensitive.
func (r *Redactor) Hashes(path string, v any) []string {
	if r.Value(path, v).HMAC == "" {
		return nil
	}
	var hashes []string
	for _, m := range r.macs {
		sum, _ := m.of(canonicalPath(path), v)
		hashes = append(hashes, sum)
	}
	return hashes
}

// of is the keyed hash of a value; secret reports that a password was inside.
func (m macs) of(name string, v any) (sum string, secret bool) {
	one := m.take()
	defer m.Put(one)
	one.text = append(append(one.text[:0], name...), 0)
	if one.text, secret = appendCanonical(one.text, v); secret {
		clear(one.text)
		return "", true
	}
	one.hash.Write(one.text)
	full := one.hash.Sum(one.sum[:0])
	clear(one.text) // the scratch space outlives the request
	var digits [32]byte
	hex.Encode(digits[:], full[:16])
	return string(digits[:]), false
}

// isSecret reports whether a value is never kept, not even hashed: also when a part of it is not.
func (r *Redactor) isSecret(name string, v any) bool {
	if isPassword(name[strings.LastIndexAny(name, ":.")+1:]) || covered(r.secret, name) {
		return true
	}
	switch v.(type) {
	case string, bool, float64, json.Number, int, int64:
		return false
	}
	name = withoutFilter(name)
	return slices.ContainsFunc(r.secret, func(path string) bool { return isBelow(path, name) })
}

// covered reports whether a path or what it belongs to is among some paths.
func covered(paths []string, name string) bool {
	if len(paths) == 0 {
		return false
	}
	name = withoutFilter(name)
	return slices.ContainsFunc(paths, func(path string) bool { return name == path || isBelow(name, path) })
}

// isBelow reports whether a path is that of a part of another.
func isBelow(name, other string) bool {
	rest, ok := strings.CutPrefix(name, other)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == ':')
}

// withoutFilter is a path that means all values of a multi-valued attribute, not those that a filter picks.
func withoutFilter(name string) string {
	from, to := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']')
	if from < 0 || to < from {
		return name
	}
	return name[:from] + name[to+1:]
}

// clearForm is the JSON of a value that is configured to be public, nil when it is too long: a string is clipped, and
// of anything else half of it says nothing.
func clearForm(v any) json.RawMessage {
	if s, ok := v.(string); ok {
		return appendString(nil, Clip(s))
	}
	if text := appendPlain(nil, v); len(text) <= ClipLimit {
		return text
	}
	return nil
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
	case "username", "id", "externalid":
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

// stringsOf reads the schemas attribute. A list longer than any real one is not public, nor is what has not the form of a URN.
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
	return list, len(list) <= most && !slices.ContainsFunc(list, func(urn string) bool { return !isName(urn) })
}
