package scim

import (
	"encoding/json"
	"strings"
)

// Validate checks a whole resource against its schemas (RFC 7643, Sections 2 and 3): `schemas` names the type,
// every attribute has its type, required attributes are there, no multi-valued attribute has two primary values.
// Attributes the client may not set and names no schema knows are passed over: what becomes of them is policy.
// The error is an *Error, 400, that names the attribute.
func (rt *ResourceType) Validate(r Resource) error {
	if err := rt.CheckSchemas(r); err != nil {
		return err
	}
	var err error
	rt.All(func(ref Ref, a *Attribute) bool {
		if ref.Name == "schemas" || a.ReadOnly() {
			return true
		}
		v := r.Get(ref)
		if ref.Schema != "" && v == nil && !isObject(r[ref.Schema]) && r[ref.Schema] != nil {
			err = BadRequest(InvalidValue, "%s must be an object", ref.Schema)
			return false
		}
		if Empty(v) || v == "" && a.Required {
			if a.Required && ref.Schema == "" {
				err = BadRequest(InvalidValue, "%s is required and must not be empty", ref)
			}
			return err == nil
		}
		if a.MultiValued && !isArray(v) {
			err = BadRequest(InvalidValue, "%s must be an array", ref)
			return false
		}
		err = (Target{Ref: ref, Attribute: a}).Check(v)
		return err == nil
	})
	return err
}

// CheckSchemas checks that `schemas` is there and names the type's core schema (RFC 7643, Section 3). The error is
// an *Error, 400 invalidValue.
func (rt *ResourceType) CheckSchemas(r Resource) error {
	list, ok := r["schemas"].([]any)
	if !ok || len(list) == 0 {
		return BadRequest(InvalidValue, "schemas is required: an array that contains %q", rt.Core.ID)
	}
	found := false
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return BadRequest(InvalidValue, "schemas must be an array of strings")
		}
		found = found || strings.EqualFold(s, rt.Core.ID)
	}
	if !found {
		return BadRequest(InvalidValue, "schemas must contain %q", rt.Core.ID)
	}
	return nil
}

// Check checks a value for what t names. For a whole multi-valued attribute the value is an array, or one
// element of it, as PATCH has it. null is always right: it unassigns. The error is an *Error, 400 invalidValue,
// that names the attribute.
func (t Target) Check(v any) error {
	leaf := t.Leaf()
	if v == nil {
		return nil
	}
	list, ok := v.([]any)
	if !ok || !leaf.MultiValued {
		if f := leaf.fault(v); f.want != "" {
			return BadRequest(InvalidValue, "%s%s must be %s, not %s", t.Ref, f.place, f.want, f.got)
		}
		return nil
	}
	primaries := 0
	for i, e := range list {
		if f := leaf.fault(e); f.want != "" {
			return BadRequest(InvalidValue, "%s[%d]%s must be %s, not %s", t.Ref, i, f.place, f.want, f.got)
		}
		if m, ok := e.(map[string]any); ok && m["primary"] == true {
			primaries++
		}
	}
	if primaries > 1 {
		return BadRequest(InvalidValue, "%s has %d primary values: at most one is allowed", t.Ref, primaries)
	}
	return nil
}

// fault is what is wrong with one value; the zero fault is nothing.
type fault struct {
	place     string // ".sub" where it is in a sub-attribute
	want, got string
}

// fault finds what is wrong with one value of the attribute.
func (a *Attribute) fault(v any) fault {
	switch a.Kind {
	case Complex:
		m, ok := v.(map[string]any)
		if !ok {
			return fault{want: "an object", got: kindOf(v)}
		}
		for _, sub := range a.Sub {
			sv := m[sub.Name]
			if sv == nil || sub.ReadOnly() {
				continue
			}
			values, ok := sv.([]any)
			if !ok || !sub.MultiValued {
				values = []any{sv}
			}
			for _, e := range values {
				if f := sub.fault(e); f.want != "" {
					f.place = "." + sub.Name + f.place
					return f
				}
			}
		}
		return fault{}
	case Binary: // the library compiles a regular expression for each value, and wants the padding
		if s, ok := v.(string); ok && isBase64(s) {
			return fault{}
		}
	default:
		if _, err := a.leaf.ValidateSingular(v); err == nil {
			return fault{}
		}
	}
	return fault{want: a.Kind.noun(), got: kindOf(v)}
}

// isBase64 follows RFC 7643, Section 2.3.6: the standard alphabet, padding may be left out.
func isBase64(s string) bool {
	digits := strings.TrimRight(s, "=")
	for i := range len(digits) {
		if c := digits[i]; !isLetter(c) && (c < '0' || c > '9') && c != '+' && c != '/' {
			return false
		}
	}
	padding := len(s) - len(digits)
	return len(digits)%4 != 1 && (padding == 0 || padding <= 2 && len(s)%4 == 0)
}

func (k Kind) noun() string {
	switch k {
	case Boolean:
		return "true or false"
	case Integer:
		return "an integer"
	case Decimal:
		return "a number"
	case DateTime:
		return "a date and time as in 2026-01-02T03:04:05Z"
	case Binary:
		return "base64 text"
	case Reference:
		return "a URI as a string"
	default:
		return "a string"
	}
}

// kindOf names the JSON type of a value, never the value.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "this string"
	case json.Number, int, int64, float64:
		return "this number"
	case []any:
		return "an array"
	default:
		return "an object"
	}
}

func isObject(v any) bool { _, ok := v.(map[string]any); return ok }
func isArray(v any) bool  { _, ok := v.([]any); return ok }

// Settable makes a resource of only those attributes that a schema knows and that clients may set. It shares values
// with r.
func (rt *ResourceType) Settable(r Resource) Resource {
	out := make(Resource, len(r))
	rt.All(func(ref Ref, a *Attribute) bool {
		if v := a.settable(r.Get(ref)); v != nil && ref.Name != "schemas" {
			out.Set(ref, v)
		}
		return true
	})
	return out
}

// settableAll reports whether Settable leaves nothing of a complex value out, so that it needs no copy.
func (a *Attribute) settableAll(m map[string]any) bool {
	for name, v := range m {
		sub := a.SubAttribute(name)
		if sub == nil || sub.Name != name || sub.ReadOnly() || v == nil || isObject(v) || isArray(v) {
			return false
		}
	}
	return len(m) > 0
}

// SettableValue is Settable for one value of what t names; nil when nothing is left.
func (t Target) SettableValue(v any) any { return t.Leaf().settable(v) }

func (a *Attribute) settable(v any) any {
	if v == nil || a.ReadOnly() {
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		if a.settableAll(v) {
			return v
		}
		out := make(map[string]any, len(v))
		for _, sub := range a.Sub {
			if s := sub.settable(v[sub.Name]); s != nil {
				out[sub.Name] = s
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			if s := a.settable(e); s != nil {
				out = append(out, s)
			}
		}
		return out
	default:
		return v
	}
}
