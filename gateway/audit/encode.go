package audit

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Append appends r as one JSON object without a line end. The bytes equal those of encoding/json without HTML escaping,
// at a fraction of its cost: this is on the path of every request. Times are written in UTC to the microsecond, and
// invalid UTF-8 as U+FFFD.
func Append(dst []byte, r *Record) []byte {
	return AppendBody(AppendHead(dst, r.Seq), r)
}

// AppendHead appends the start of a record, up to its place in the trail. A record's place is known only when its turn
// to be stored has come: AppendHead and AppendBody let everything else be written before, outside the queue.
func AppendHead(dst []byte, seq int64) []byte {
	dst = append(dst, `{"v":`...)
	dst = strconv.AppendInt(dst, Version, 10)
	dst = append(dst, `,"seq":`...)
	return strconv.AppendInt(dst, seq, 10)
}

// HeadRoom is the length that AppendHead never exceeds.
const HeadRoom = len(`{"v":1,"seq":`) + 20

// AppendBody appends what follows the head.
func AppendBody(dst []byte, r *Record) []byte {
	dst = appendText(dst, "id", r.ID)
	dst = appendTime(dst, "time", r.Time)
	dst = appendText(dst, "kind", r.Kind)
	if r.Intent != 0 {
		dst = strconv.AppendInt(appendName(dst, "intent"), r.Intent, 10)
	}
	dst = appendOptional(dst, "requestId", r.RequestID)
	dst = appendOptional(dst, "boot", r.Boot)
	dst = appendOptional(dst, "connection", r.Connection)
	dst = appendOptional(dst, "credential", r.Credential)
	dst = appendOptional(dst, "source", r.Source)
	dst = appendOptional(dst, "action", r.Action)
	dst = appendOptional(dst, "method", r.Method)
	dst = appendOptional(dst, "op", r.Op)
	dst = appendOptional(dst, "resourceType", r.ResourceType)
	if r.Subject != (Subject{}) {
		dst = append(appendName(dst, "subject"), '{')
		dst = appendOptional(dst, "id", r.Subject.ID)
		dst = appendOptional(dst, "userName", r.Subject.UserName)
		dst = appendOptional(dst, "externalId", r.Subject.ExternalID)
		dst = append(dst, '}')
	}
	dst = appendList(dst, "attributes", r.Attributes, appendAttribute)
	dst = appendOptional(dst, "sealed", r.Sealed)
	dst = appendOptional(dst, "sealedKey", r.SealedKey)
	dst = appendList(dst, "findings", r.Findings, appendFinding)
	dst = appendOptional(dst, "plan", r.Plan)
	if a := r.Admission; a != nil {
		dst = append(appendName(dst, "admission"), '{')
		dst = appendFloat(dst, "waited", a.Waited)
		dst = appendInt(dst, "queued", a.Queued)
		dst = appendText(dst, "breaker", a.Breaker)
		dst = append(appendFloat(dst, "holdOff", a.HoldOff), '}')
	}
	dst = appendList(dst, "calls", r.Calls, appendCall)
	if r.Answer != (Answer{}) {
		dst = append(appendName(dst, "answer"), '{')
		dst = appendInt(dst, "status", r.Answer.Status)
		dst = appendOptional(dst, "scimType", r.Answer.ScimType)
		dst = appendOptional(dst, "detail", r.Answer.Detail)
		dst = append(dst, '}')
	}
	dst = appendOptional(dst, "error", r.Error)
	dst = appendFloat(dst, "duration", r.Duration)
	if r.Unrecorded != 0 {
		dst = strconv.AppendInt(appendName(dst, "unrecorded"), r.Unrecorded, 10)
	}
	if p := r.Pruned; p != nil {
		dst = strconv.AppendInt(append(appendName(dst, "pruned"), `{"first":`...), p.First, 10)
		dst = strconv.AppendInt(appendName(dst, "last"), p.Last, 10)
		dst = appendText(appendTime(dst, "before", p.Before), "signature", p.Signature)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// Parse reads one record as Append wrote it.
func Parse(line []byte) (*Record, error) {
	r := new(Record)
	if err := json.Unmarshal(line, r); err != nil {
		return nil, fmt.Errorf("read a record of the trail: %w", err)
	}
	if r.V != Version {
		return nil, fmt.Errorf("record %d of the trail has version %d, this program reads version %d: use the program that wrote it or a newer one", r.Seq, r.V, Version)
	}
	return r, nil
}

func appendAttribute(dst []byte, a *Attribute) []byte {
	dst = appendText(dst, "path", a.Path)
	dst = appendValue(dst, "asked", a.Asked)
	dst = appendValue(dst, "sent", a.Sent)
	dst = appendValue(dst, "confirmed", a.Confirmed)
	return appendOptional(dst, "note", a.Note)
}

func appendFinding(dst []byte, f *Finding) []byte {
	dst = appendText(dst, "rule", f.Rule)
	dst = appendText(dst, "verdict", f.Verdict)
	dst = appendOptional(dst, "path", f.Path)
	return appendOptional(dst, "reason", f.Reason)
}

func appendCall(dst []byte, c *Call) []byte {
	dst = appendText(dst, "method", c.Method)
	dst = appendText(dst, "target", c.Target)
	dst = appendInt(dst, "attempt", c.Attempt)
	dst = appendInt(dst, "status", c.Status)
	if !c.Started.IsZero() {
		dst = appendTime(dst, "started", c.Started)
	}
	dst = appendFloat(dst, "duration", c.Duration)
	return appendOptional(dst, "error", c.Error)
}

func appendValue(dst []byte, name string, v *Value) []byte {
	if v == nil {
		return dst
	}
	dst = append(appendName(dst, name), '{')
	if len(v.Clear) > 0 {
		dst = append(appendName(dst, "value"), v.Clear...)
	}
	dst = appendOptional(dst, "hmac", v.HMAC)
	if v.Secret {
		dst = append(appendName(dst, "secret"), "true"...)
	}
	dst = appendOptional(dst, "state", v.State)
	return append(dst, '}')
}

func appendList[T any](dst []byte, name string, list []T, one func([]byte, *T) []byte) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = append(appendName(dst, name), '[')
	for i := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(one(append(dst, '{'), &list[i]), '}')
	}
	return append(dst, ']')
}

// appendName appends a member's name, with a comma unless it is the first of its object. The names are ours and need
// no escaping.
func appendName(dst []byte, name string) []byte {
	if n := len(dst); n == 0 || dst[n-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

func appendText(dst []byte, name, s string) []byte {
	return appendString(appendName(dst, name), s)
}

func appendOptional(dst []byte, name, s string) []byte {
	if s == "" {
		return dst
	}
	return appendText(dst, name, s)
}

func appendInt(dst []byte, name string, n int) []byte {
	if n == 0 {
		return dst
	}
	return strconv.AppendInt(appendName(dst, name), int64(n), 10)
}

func appendTime(dst []byte, name string, t time.Time) []byte {
	dst = append(appendName(dst, name), '"')
	dst = t.UTC().Truncate(time.Microsecond).AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

// appendFloat writes a number as encoding/json does. NaN and infinities have no JSON form and are left out.
func appendFloat(dst []byte, name string, f float64) []byte {
	if f == 0 || math.IsNaN(f) || math.IsInf(f, 0) {
		return dst
	}
	dst = appendName(dst, name)
	if abs := math.Abs(f); abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	if n := len(dst); n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1] // e-09 is written e-9
		dst = dst[:n-1]
	}
	return dst
}

// appendString writes s quoted and escaped as encoding/json does without HTML escaping, except that invalid UTF-8
// becomes the character U+FFFD itself, so that writing what was read gives the same bytes again.
func appendString(dst []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\b':
				dst = append(dst, '\\', 'b')
			case '\f':
				dst = append(dst, '\\', 'f')
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, s[start:i]...)
			dst = utf8.AppendRune(dst, utf8.RuneError)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			dst = append(dst, s[start:i]...)
			dst = append(dst, '\\', 'u', '2', '0', '2', hexDigits[r&15])
			start = i + size
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
