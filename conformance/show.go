package conformance

import (
	"encoding/json"
	"fmt"
	"strings"
)

// maxShown bounds a value in a reason, in bytes.
const maxShown = 300

func cut(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "…"
}

func shownJSON(v any) string {
	if v == nil {
		return "none"
	}
	return cut(compact(v))
}

// shownValues are the values that a path has selected.
func shownValues(values []any) string {
	switch len(values) {
	case 0:
		return "nothing"
	case 1:
		return cut(compact(values[0]))
	}
	return fmt.Sprintf("%d values: %s", len(values), cut(strings.TrimSuffix(strings.TrimPrefix(compact(values), "["), "]")))
}

func joined(header []string) string { return strings.Join(header, ", ") }

// detail is what a SCIM error body says, for a reason.
func detail(a *answer) string {
	if a.status < 400 {
		return ""
	}
	body, err := a.json()
	if err != nil {
		return ""
	}
	text, _ := find(body, "detail")
	kind, _ := find(body, "scimType")
	said := ""
	if s, ok := kind.(string); ok && s != "" {
		said = " " + s
	}
	if s, ok := text.(string); ok && s != "" {
		said += ": " + s
	}
	return cut(said)
}

// readable is a body for people: JSON with indentation, and nothing that could disturb a terminal.
func readable(body string) string {
	lines := strings.Split(indented(body), "\n")
	for i, line := range lines {
		lines[i] = shown(strings.TrimSuffix(line, "\r"))
	}
	return strings.Join(lines, "\n")
}

func indented(body string) string {
	if !strings.HasPrefix(body, "{") && !strings.HasPrefix(body, "[") {
		return body
	}
	var b strings.Builder
	var v json.RawMessage
	if json.Unmarshal([]byte(body), &v) != nil {
		return body
	}
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if enc.Encode(v) != nil {
		return body
	}
	return strings.TrimSuffix(b.String(), "\n")
}
