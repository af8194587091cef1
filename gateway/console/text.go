package console

import (
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"scimgate/gateway/audit"
)

// functions are what templates may call.
func (c *Console) functions() template.FuncMap {
	return template.FuncMap{
		"base":     func() string { return Base },
		"shown":    shown,
		"lines":    shownLines,
		"plain":    plain,
		"at":       at,
		"clock":    clock,
		"ms":       milliseconds,
		"count":    countAny,
		"span":     span,
		"share":    share,
		"headline": headline,
		"tone":     tone,
		"kind":     kindWords,
		"who":      who,
		"value":    value,
		"target":   target,
		"status":   statusWords,
		"dec":      func(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) },
	}
}

// piece is a part of a text from outside: as it is, or written out where it could not be seen.
type piece struct {
	Text    string
	Escaped bool
}

// shown is a value from outside in pieces, of which the template "text" makes what can neither mislead its reader nor
// disturb what stands beside it: what cannot be seen or changes the direction of text is written out and marked, and the
// direction of the rest is kept to itself. It reads from left to right, so that what stands behind an @ stays behind it. All of it
// is escaped by html/template.
func shown(s string) []piece { return pieces(s, false) }

// shownLines is shown for text of several lines.
func shownLines(s string) []piece { return pieces(s, true) }

func pieces(s string, lines bool) (list []piece) {
	start := 0
	add := func(text string, escaped bool) {
		if text != "" {
			list = append(list, piece{text, escaped})
		}
	}
	for i, r := range s {
		size := utf8.RuneLen(r)
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			size = 1
		} else if strconv.IsPrint(r) || lines && r == '\n' {
			continue
		}
		add(s[start:i], false)
		add(escape(s[i:i+size]), true)
		start = i + size
	}
	add(s[start:], false)
	return list
}

// escape writes an invisible character as Go does.
func escape(s string) string {
	quoted := strconv.QuoteToASCII(s)
	return quoted[1 : len(quoted)-1]
}

// plain is shown for places that take no markup: titles and labels.
func plain(s string) string {
	var b strings.Builder
	for _, p := range pieces(s, false) {
		b.WriteString(p.Text)
	}
	return b.String()
}

// at is a moment, in UTC; the script shows it in the reader's zone.
func at(t time.Time) template.HTML { return moment(t, "full", "2006-01-02 15:04:05.000 UTC") }

// clock is at without the date, for places where it is clear.
func clock(t time.Time) template.HTML { return moment(t, "clock", "15:04") }

func moment(t time.Time, form, layout string) template.HTML {
	if t.IsZero() {
		return "never"
	}
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s" data-form="%s">%s</time>`, t.Format("2006-01-02T15:04:05.000Z"), form, t.Format(layout))) //nolint:gosec // times have no markup
}

// milliseconds is a duration in the unit that reads best.
func milliseconds(ms float64) string {
	switch {
	case ms <= 0:
		return "0 ms"
	case ms < 1:
		return "< 1 ms"
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	case ms < 1000:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	}
	return strconv.FormatFloat(ms/1000, 'f', 1, 64) + " s"
}

// count is a number with its thousands apart.
func count[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return digits
}

func countAny(n any) (string, error) {
	switch n := n.(type) {
	case int:
		return count(n), nil
	case int64:
		return count(n), nil
	}
	return "", fmt.Errorf("count: %T is no number", n)
}

// span is a length of time in words.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return "less than 1 s"
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d/time.Minute), int(d%time.Minute/time.Second))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d/time.Hour), int(d%time.Hour/time.Minute))
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + " days"
}

// share is part of a whole in percent.
func share(part, whole int) string {
	if whole == 0 {
		return "0 %"
	}
	p := float64(part) * 100 / float64(whole)
	if p > 0 && p < 10 {
		return strconv.FormatFloat(math.Max(p, 0.1), 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(p, 'f', 0, 64) + " %"
}

// valueView is how an attribute value of the trail is shown: one of Clear, Print and Words is set, none for no value.
type valueView struct {
	Clear, Print, Words string
	Whole               string // of Clear, where that was cut
}

// longValue is the length in bytes from which a value is cut where there is not room for all of it.
const longValue = 200

func value(v *audit.Value) valueView {
	text := ""
	switch {
	case v == nil:
		return valueView{}
	case v.Secret:
		return valueView{Words: "secret, never recorded"}
	case len(v.Unsealed) > 0:
		text = clearText(v.Unsealed)
	case v.HMAC != "":
		return valueView{Print: "#" + short(v.HMAC)}
	case v.State == audit.StateAbsent:
		return valueView{Words: "no value"}
	case v.State != "":
		return valueView{Words: v.State}
	default:
		text = clearText(v.Clear)
	}
	switch {
	case text == "":
		return valueView{Words: "an empty text"}
	case len(text) > longValue:
		cut := longValue / 2
		for cut < len(text) && !utf8.RuneStart(text[cut]) {
			cut++
		}
		return valueView{Clear: text[:cut] + "…", Whole: text}
	}
	return valueView{Clear: text}
}

// clearText is a public value without the quotes of JSON.
func clearText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// short is as much of a keyed hash as tells two values of one attribute apart on a page.
func short(hash string) string {
	if len(hash) > 8 {
		return hash[:8]
	}
	return hash
}
