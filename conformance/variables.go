package conformance

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxText bounds what the variables of one request may expand to.
const maxText = 8 << 20

// errTooLong is of a request that would have to be longer than that, say to go beyond a limit that is announced: it
// cannot be tried, which says nothing of the service provider.
var errTooLong = fmt.Errorf("the suite sends no more than %d bytes", maxText)

// variables are the values that a case can refer to. Values are JSON values; most are texts.
type variables map[string]any

// builtin are the variables that every case has, next to {{i}} and {{repeat:..}}.
var builtin = []string{"unique", "guid", "base"}

// newVariables makes the values of one case.
func newVariables(base string) variables {
	return variables{"unique": unique(), "guid": guid(), "base": base}
}

// unique is ten characters that no other case of any run has.
func unique() string { return strings.ToLower(rand.Text()[:10]) }

func guid() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// expand fills in the variables of text; write says how a value is written there.
func (v variables) expand(text string, write func(any) string) (string, error) {
	var b strings.Builder
	err := eachVariable(text, func(plain string, reference string) error {
		b.WriteString(plain)
		if reference == "" {
			return nil
		}
		written, err := v.value(reference, write)
		if err == nil && b.Len()+len(written) > maxText {
			err = fmt.Errorf("{{%.40s}}: %w", reference, errTooLong)
		}
		b.WriteString(written)
		return err
	})
	return b.String(), err
}

// eachVariable calls yield with each plain part of text and the reference after it, which the last part lacks.
func eachVariable(text string, yield func(plain, reference string) error) error {
	for {
		plain, rest, found := strings.Cut(text, "{{")
		if !found {
			return yield(plain, "")
		}
		reference, after, closed := strings.Cut(rest, "}}")
		if !closed || reference == "" {
			return fmt.Errorf("{{%.40s is not closed with }}", rest)
		}
		if err := yield(plain, reference); err != nil {
			return err
		}
		text = after
	}
}

var (
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	repeatForm = regexp.MustCompile(`(?s)^repeat:(?:([0-9]+)|([A-Za-z][A-Za-z0-9_]*)([+-][0-9]+)?):(.*)$`)
)

func (v variables) value(reference string, write func(any) string) (string, error) {
	if m := repeatForm.FindStringSubmatch(reference); m != nil {
		times, err := v.times(m[1], m[2], m[3])
		switch {
		case err == nil && times < 0:
			err = fmt.Errorf("{{repeat:..}}: %d times is out of bounds", times)
		case err == nil && len(m[4]) > 0 && times > maxText/len(m[4]):
			err = fmt.Errorf("{{repeat:..}}: %d times %d bytes: %w", times, len(m[4]), errTooLong)
		}
		if err != nil {
			return "", err
		}
		return strings.Repeat(m[4], times), nil
	}
	value, ok := v[reference]
	if !ok {
		return "", fmt.Errorf("{{%.40s}} is not set", reference)
	}
	return write(value), nil
}

// times is the number of a {{repeat:..}}.
func (v variables) times(number, name, offset string) (int, error) {
	if name == "" {
		return strconv.Atoi(number)
	}
	text, ok := v[name]
	if !ok {
		return 0, fmt.Errorf("{{%s}} is not set", name)
	}
	n, err := strconv.Atoi(asText(text))
	if err != nil {
		return 0, fmt.Errorf("{{%s}} is %.40q, not a number", name, asText(text))
	}
	if offset != "" {
		change, err := strconv.Atoi(offset)
		if err != nil {
			return 0, err
		}
		n += change
	}
	return n, nil
}

// references are the names of the variables in text.
func references(text string) ([]string, error) {
	var names []string
	err := eachVariable(text, func(_, reference string) error {
		if reference == "" {
			return nil
		}
		if m := repeatForm.FindStringSubmatch(reference); m != nil {
			reference = m[2]
		} else if !nameForm.MatchString(reference) {
			return fmt.Errorf("{{%.40s}} is not a variable", reference)
		}
		if reference != "" {
			names = append(names, reference)
		}
		return nil
	})
	return names, err
}

// asText writes a value as itself: a text bare, all else as JSON.
func asText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return compact(v)
}

// asJSON writes a value where it stands in JSON: a text as the inside of a string.
func asJSON(v any) string {
	if s, ok := v.(string); ok {
		quoted := compact(s)
		return quoted[1 : len(quoted)-1]
	}
	return compact(v)
}

func compact(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err.Error() // values were read from JSON: they can be written
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func asExpression(v any) string { return regexp.QuoteMeta(asText(v)) }

// target fills in a request's target and encodes what may not stand in a URL. A variable at the start stands for a
// URL or path and is taken as it is.
func (v variables) target(text string) (string, error) {
	start := true
	expanded, err := v.expand(text, func(value any) string {
		if start && strings.HasPrefix(text, "{{") {
			start = false
			return asText(value)
		}
		return strings.ReplaceAll(url.QueryEscape(asText(value)), "+", "%20")
	})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i := range len(expanded) {
		if c := expanded[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>[]\\^`{|}", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// json fills in a JSON value and reads it.
func (v variables) json(text string) (any, error) {
	expanded, err := v.expand(text, asJSON)
	if err != nil {
		return nil, err
	}
	return parseJSON(expanded)
}

var errNoSuchVariable = errors.New("is set by no line before")

// known checks that the variables in text are set.
func (v variables) known(text string) error {
	names, err := references(text)
	for _, name := range names {
		if _, ok := v[name]; !ok && err == nil {
			err = fmt.Errorf("{{%s}} %w", name, errNoSuchVariable)
		}
	}
	return err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
