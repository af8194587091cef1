package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
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
		return maskedObject(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = masked("", e)
		}
		return out
	}
	return v
}

func maskedObject(object map[string]any) map[string]any {
	out := make(map[string]any, len(object))
	for name, v := range object {
		out[name] = masked(name, v)
	}
	if at, ok := object["path"].(string); ok { // an operation of a PATCH
		if v := object["value"]; v != nil {
			out["value"] = masked(at, v)
		}
	}
	return out
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
		s.item(operationText(v))
	}
	to := "profile " + e.Profile
	if e.Connection != "" {
		to = "connection " + e.Connection + ", " + to
	}
	to += ", upstream " + e.Upstream
	if e.Upstream == noUpstream {
		to += " (the profile has no URL of its own: this one stands in)"
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
		answer := strings.TrimSpace(strconv.Itoa(r.Status) + " " + r.ScimType)
		sent := "Nothing would be sent."
		if len(e.Requests) > 0 {
			sent = "Nothing would be sent but GET of the resource, for the rules to see it."
		}
		s.section("refused", s.paint(red, answer)+": "+shownText(strings.TrimRight(r.Detail, "."))+". "+sent)
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
		for _, op := range r.Operations {
			s.item(operationText(op))
		}
	}
}

// section begins a part of an explanation.
func (s *screen) section(name, text string) {
	s.printf("%s %s\n", s.paint(cyan, (name + "          ")[:9]), text)
}

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

// operationText is one value of a request, or one operation of a PATCH, in a line.
func operationText(v value) string {
	text := strings.TrimSpace(v.Op + " " + shown(v.Path))
	if v.Value == nil && v.Op == "remove" {
		return text
	}
	return text + " = " + string(appendShownJSON(nil, scim.AppendJSON(nil, v.Value)))
}

// indented is a body as people read it, in the order of its names on the wire.
func indented(body map[string]any) string {
	var out bytes.Buffer
	if err := json.Indent(&out, scim.AppendJSON(nil, body), "  ", "  "); err != nil {
		return "  (the body cannot be shown: " + err.Error() + ")"
	}
	return "  " + string(appendShownJSON(nil, out.Bytes()))
}
