package secret

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const canary = "canary-7f3a9c"

// holder has secrets where fmt may call their methods and where it may not.
type holder struct {
	Shown  Secret
	hidden Secret
	List   []Secret
	Map    map[string]Secret
	From   *Source
	from   *Source
}

func newHolder(t *testing.T) *holder {
	t.Helper()
	h := &holder{
		Shown: New(canary), hidden: New(canary), List: []Secret{New(canary)}, Map: map[string]Secret{"k": New(canary)},
		From: Literal(canary), from: Lookup("SCIMGATE_X", func(string) string { return canary }),
	}
	for _, s := range []*Source{h.From, h.from} {
		if got, err := s.Get(); err != nil || got.Reveal() != canary {
			t.Fatalf("%s: got %q, %v, want the canary", s, got.Reveal(), err)
		}
	}
	return h
}

func TestNeverPrinted(t *testing.T) {
	h := newHolder(t)
	values := []any{h.Shown, &h.Shown, h, *h, h.List, h.Map, h.From, []any{h}}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%U", "%c", "%08.3f", "%p"} {
			if got := fmt.Sprintf(verb, v); strings.Contains(got, canary) || strings.Contains(got, fmt.Sprintf("%x", canary)) {
				t.Errorf("%s of %T shows the secret: %s", verb, v, got)
			}
		}
		if got, err := json.Marshal(v); err != nil || bytes.Contains(got, []byte(canary)) {
			t.Errorf("JSON of %T: got %s, %v, want no secret", v, got, err)
		}
		for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
			"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
			"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(handler(&b)).Info("m", "v", v)
			if strings.Contains(b.String(), canary) {
				t.Errorf("slog %s of %T shows the secret: %s", name, v, b.String())
			}
		}
	}
	if got, err := xml.Marshal(h.Shown); err != nil || bytes.Contains(got, []byte(canary)) {
		t.Errorf("XML: got %s, %v, want no secret", got, err)
	}
}

func TestForms(t *testing.T) {
	s := New(canary)
	j, _ := json.Marshal(s)
	text, _ := s.MarshalText()
	for form, got := range map[string]string{
		"String": s.String(), "GoString": s.GoString(), "text": string(text), "slog": s.LogValue().String(),
		"%v": fmt.Sprintf("%v", s), "%#v": fmt.Sprintf("%#v", s), "%x": fmt.Sprintf("%x", s),
	} {
		if got != "[redacted]" {
			t.Errorf("%s: got %q, want [redacted]", form, got)
		}
	}
	if got := string(j); got != `"[redacted]"` {
		t.Errorf("JSON: got %s, want \"[redacted]\" in quotes", got)
	}
	if got := s.Reveal(); got != canary {
		t.Errorf("Reveal: got %q, want %q", got, canary)
	}
	if s.IsZero() || !(Secret{}).IsZero() || !New("").IsZero() || (Secret{}).Reveal() != "" {
		t.Error("IsZero or the zero Secret is wrong")
	}
}
