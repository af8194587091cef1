package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"scimgate/policy"
	"scimgate/transform/scim"
)

// hidden stands in for a password.
const hidden = "[secret]"

// masked is a value of the attribute at path with every password in it replaced. The value itself is not changed.
func masked(path string, v any) any {
	if v == nil {
		return nil
	}
	if isPassword(path) {
		return hidden
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		at, _ := v["path"].(string) // of a PATCH operation
		for name, e := range v {
			if name == "value" && isPassword(at) {
				name, e = "value", masked(at, e)
			}
			out[name] = masked(name, e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = masked("", e)
		}
		return out
	}
	return v
}

func isPassword(path string) bool {
	return strings.EqualFold(path[strings.LastIndexAny(path, ":.")+1:], "password")
}

// print writes the explanation for people: one section after the other, in the order of the request's walk.
func (e *explanation) print(s *screen) {
	what := e.Received.Method + " " + e.Received.Path
	if e.Received.Op != "" {
		what += ": " + strings.TrimSpace(e.Received.Op+" "+e.Received.ResourceType)
	}
	s.section("received", shown(what))
	for _, v := range e.Received.Values {
		s.item(strings.TrimSpace(v.Op + " " + shown(orDash(v.Path)) + " = " + jsonText(v.Value)))
	}
	to := "profile " + e.Profile
	if e.Connection != "" {
		to = "connection " + e.Connection + ", " + to
	}
	s.section("for", to)
	for i, r := range e.Reshaped {
		s.sectionOnce(i, "reshaped", plural(len(e.Reshaped), "change")+" to what RFC 7643 and RFC 7644 describe")
		s.item(shown(orDash(r.Path)) + ": " + shownText(r.What))
	}
	for i, f := range e.Findings {
		s.sectionOnce(i, "findings", plural(len(e.Findings), "finding")+" of the policy rules")
		about := f.Rule
		if f.Path != "" {
			about += ", " + shown(f.Path)
		}
		s.item(s.paint(verdictStyle(f.Verdict), f.Verdict) + " (" + about + "): " + shownText(f.Reason))
	}
	if r := e.Refused; r != nil {
		answer := strings.TrimSpace(statusText(r.Status) + " " + r.ScimType)
		s.section("refused", s.paint(red, answer)+": "+shownText(strings.TrimRight(r.Detail, "."))+". Nothing would be sent.")
		return
	}
	e.printPlan(s)
	s.section("note", e.Note)
}

func (e *explanation) printPlan(s *screen) {
	s.section("plan", e.Plan.How+": "+shownText(e.Plan.Why))
	for _, part := range [][2]string{
		{"the upstream evaluates", e.Plan.Pushed}, {"the gateway evaluates", e.Plan.Residual}, {"the gateway sorts by", e.Plan.Sort},
	} {
		if part[1] != "" {
			s.item(part[0] + ": " + shown(part[1]))
		}
	}
	if len(e.Requests) == 0 {
		s.section("sent", "nothing")
	}
	for i, r := range e.Requests {
		s.sectionOnce(i, "sent", s.paint(green, plural(len(e.Requests), "request")))
		if r.Why != "" {
			s.printf("\n  %s:", shownText(r.Why))
		}
		s.printf("\n  %s\n", s.paint(bold, shownText(r.Method+" "+r.URL)))
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			s.printf("  %s: %s\n", name, shownText(r.Header[name]))
		}
		if r.Body != nil {
			s.printf("\n%s\n", indented(r.Body))
		}
	}
}

// section begins a part of an explanation.
func (s *screen) section(name, text string) { s.printf("%s %s\n", s.paint(cyan, (name + "          ")[:9]), text) }

// sectionOnce begins the part with its first entry.
func (s *screen) sectionOnce(i int, name, text string) {
	if i == 0 {
		s.section(name, text)
	}
}

func (s *screen) item(text string) { s.printf("          %s\n", text) }

func verdictStyle(verdict string) string {
	switch policy.Verdict(verdict) {
	case policy.Refuse:
		return red
	case policy.Drop, policy.Keep, policy.Alias:
		return yellow
	case policy.Allow:
		return green
	}
	return plain
}

// jsonText is a value as compact JSON.
func jsonText(v any) string {
	text := scim.AppendJSON(nil, v)
	return string(appendShownJSON(nil, text))
}

// indented is a body as people read it.
func indented(body any) string {
	text, err := json.Marshal(body)
	if object, ok := body.(map[string]any); ok {
		text, err = scim.AppendJSON(nil, object), nil // as it is written on the wire: no escapes for HTML
	}
	var out bytes.Buffer
	if err == nil {
		err = json.Indent(&out, text, "  ", "  ")
	}
	if err != nil {
		return "  (the body cannot be shown: " + err.Error() + ")"
	}
	return "  " + string(appendShownJSON(nil, out.Bytes()))
}
