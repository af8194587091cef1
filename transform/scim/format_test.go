package scim

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

func TestFormatFilter(t *testing.T) {
	tests := []struct{ in, want string }{
		{`  userName   EQ  "x" `, `userName eq "x"`},
		{`a pr and (b pr and c pr)`, `a pr and (b pr and c pr)`},
		{`(a pr and b pr) and c pr`, `a pr and b pr and c pr`},
		{`(a pr and b pr) or (c pr)`, `a pr and b pr or c pr`},
		{`a pr or (b pr or c pr)`, `a pr or (b pr or c pr)`},
		{`(a pr or b pr) and (c pr or d pr)`, `(a pr or b pr) and (c pr or d pr)`},
		{`NOT(a pr)`, `not (a pr)`},
		{`not((a pr) or b pr)`, `not (a pr or b pr)`},
		{`emails[type eq "work" or type eq "home"].value co "@"`, `emails[(type eq "work" or type eq "home") and value co "@"]`},
		{`a eq "\u00e4\u000a\"\\\/"`, `a eq "ä\n\"\\/"`},
		{`a eq 2e2`, `a eq 200.0`},
		{`a eq 1e30`, `a eq 1e+30`},
		{`a eq 123456789012345678901234567890`, `a eq 123456789012345678901234567890`},
		{`a eq null or b eq false`, `a eq null or b eq false`},
	}
	for _, tt := range tests {
		f, err := ParseFilter(tt.in)
		if err != nil {
			t.Fatalf("ParseFilter(%q): %v", tt.in, err)
		}
		if got := FormatFilter(f); got != tt.want {
			t.Errorf("FormatFilter(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
	if got := FormatFilter(nil) + FormatPath(nil); got != "" {
		t.Errorf("no filter and no path print %q, want nothing", got)
	}
	if got, want := FormatFilter(attr("a", Eq, "\xff")), "a eq \"\uFFFD\""; got != want {
		t.Errorf("invalid UTF-8 prints %q, want %q", got, want)
	}
	if got, want := FormatFilter(attr("a", Eq, int64(7))), "a eq 7"; got != want {
		t.Errorf("an int64 prints %q, want %q", got, want)
	}
}

func TestDescribePath(t *testing.T) {
	tests := []struct{ in, want string }{
		{`name.givenName`, `name.givenName`},
		{`emails[type eq "work"].value`, `emails[type eq "work"].value`},
		{`emails[value eq "bob@example.com" and primary eq true]`, `emails[value eq ... and primary eq true]`},
		{`x[size gt 12]`, `x[size gt ...]`},
	}
	for _, tt := range tests {
		p, err := ParsePath(tt.in)
		if err != nil {
			t.Fatalf("ParsePath(%q): %v", tt.in, err)
		}
		if got := describePath(p); got != tt.want {
			t.Errorf("describePath(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// genFilter draws any filter that text can express.
func genFilter(depth int, inside bool) *rapid.Generator[Filter] {
	return rapid.Custom(func(t *rapid.T) Filter {
		kind := 0
		if depth > 0 {
			kind = rapid.IntRange(0, 4).Draw(t, "kind")
		}
		switch {
		case kind == 1 || kind == 2:
			op := rapid.SampledFrom([]LogicalOperator{And, Or}).Draw(t, "logical")
			inner := genFilter(depth-1, inside)
			return &LogicalExpression{Left: inner.Draw(t, "left"), Right: inner.Draw(t, "right"), Operator: op}
		case kind == 3:
			return &NotExpression{Expression: genFilter(depth-1, inside).Draw(t, "not")}
		case kind == 4 && !inside:
			return &ValuePath{AttributePath: genAttributePath().Draw(t, "path"), ValueFilter: genFilter(depth-1, true).Draw(t, "inside")}
		}
		e := &AttributeExpression{AttributePath: genAttributePath().Draw(t, "path")}
		e.Operator = rapid.SampledFrom([]CompareOperator{Pr, Eq, Ne, Co, Sw, Ew, Gt, Lt, Ge, Le}).Draw(t, "op")
		if e.Operator != Pr {
			e.CompareValue = rapid.OneOf(
				rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.String().AsAny(), rapid.Int().AsAny(), rapid.Float64().AsAny(),
				rapid.Just[any](json.Number("-98765432109876543210")),
			).Draw(t, "value")
		}
		return e
	})
}

func genAttributePath() *rapid.Generator[AttributePath] {
	return rapid.Custom(func(t *rapid.T) AttributePath {
		name := rapid.OneOf(rapid.StringMatching(`[A-Za-z][A-Za-z0-9_-]{0,6}`), rapid.SampledFrom([]string{"not", "and", "or", "pr", "$ref"}))
		p := AttributePath{AttributeName: name.Draw(t, "name")}
		if rapid.Bool().Draw(t, "sub?") {
			sub := name.Draw(t, "sub")
			p.SubAttribute = &sub
		}
		if rapid.Bool().Draw(t, "urn?") {
			urn := rapid.StringMatching(`urn(:[A-Za-z0-9.-]{1,5}){1,3}`).Draw(t, "urn")
			p.URIPrefix = &urn
		}
		return p
	})
}

func TestFormatRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { roundTrip(t, genFilter(4, false).Draw(t, "filter")) })
}
