package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// appendCanonical appends a form of v that is equal for equal values however they were decoded: members sorted by their
// lower-case names (attribute names are case-insensitive: RFC 7643, Section 2.1), numbers by value, strings exactly.
// secret reports that a password was inside at any depth.
func appendCanonical(dst []byte, v any) (_ []byte, secret bool) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), false
	case bool:
		return strconv.AppendBool(dst, v), false
	case string:
		return appendString(dst, v), false
	case float64:
		return appendNumber(dst, v), false
	case int:
		return strconv.AppendInt(dst, int64(v), 10), false
	case int64:
		return strconv.AppendInt(dst, v, 10), false
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return strconv.AppendInt(dst, n, 10), false
		}
		if f, err := v.Float64(); err == nil {
			return appendNumber(dst, f), false
		}
		return appendString(dst, string(v)), false // beyond any float; as text it still equals itself
	case []any:
		dst = append(dst, '[')
		for i, one := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			inside := false
			dst, inside = appendCanonical(dst, one)
			secret = secret || inside
		}
		return append(dst, ']'), secret
	case map[string]any:
		return appendObject(dst, v)
	}
	return appendDecoded(dst, v)
}

func appendObject(dst []byte, object map[string]any) (_ []byte, secret bool) {
	names := slices.SortedFunc(maps.Keys(object), func(a, b string) int {
		if c := strings.Compare(strings.ToLower(a), strings.ToLower(b)); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, strings.ToLower(name)), ':')
		inside := false
		dst, inside = appendCanonical(dst, object[name])
		secret = secret || inside || isPassword(name)
	}
	return append(dst, '}'), secret
}

// appendDecoded takes any other type through its JSON form. What has none (a channel, a cycle) is a mistake of ours
// and must not cost a record: its type stands for it.
func appendDecoded(dst []byte, v any) (_ []byte, secret bool) {
	var plain any
	text, err := json.Marshal(v)
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		err = decoder.Decode(&plain)
	}
	if err != nil {
		return fmt.Appendf(dst, "%T", v), false
	}
	return appendCanonical(dst, plain)
}

func appendNumber(dst []byte, f float64) []byte {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.AppendInt(dst, int64(f), 10)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

// appendPlain appends the JSON of v, its members as they are written.
func appendPlain(dst []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendString(dst, v)
	case bool:
		return strconv.AppendBool(dst, v)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return append(dst, "null"...) // a mistake of ours, see appendDecoded
	}
	return append(dst, text...)
}
