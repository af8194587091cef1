package scim

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	filter "github.com/scim2/filter-parser/v2"
	"pgregory.net/rapid"
)

// attr makes an expression; name may hold a dot.
func attr(name string, op CompareOperator, value any) *AttributeExpression {
	e := &AttributeExpression{Operator: op, CompareValue: value}
	name, sub, dotted := strings.Cut(name, ".")
	e.AttributePath.AttributeName = name
	if dotted {
		e.AttributePath.SubAttribute = &sub
	}
	return e
}

func both(l, r Filter) Filter   { return &LogicalExpression{Left: l, Right: r, Operator: And} }
func either(l, r Filter) Filter { return &LogicalExpression{Left: l, Right: r, Operator: Or} }

func in(name string, f Filter) Filter {
	return &ValuePath{AttributePath: AttributePath{AttributeName: name}, ValueFilter: f}
}

func TestParseFilter(t *testing.T) {
	urn := SchemaUser
	dotted := "urn:example:v1.2:Thing"
	a, b, c := attr("a", Pr, nil), attr("b", Pr, nil), attr("c", Pr, nil)
	tests := []struct {
		in   string
		want Filter
	}{
		{`userName eq "x"`, attr("userName", Eq, "x")},
		{`USERNAME EQ "x"`, attr("USERNAME", Eq, "x")},
		{`name.givenName Co "x"`, attr("name.givenName", Co, "x")},
		{`a pR`, a},
		{`  a   pr  `, a},
		{`a eq 1`, attr("a", Eq, 1)},
		{`a eq -0`, attr("a", Eq, 0)},
		{`a eq 9007199254740993`, attr("a", Eq, 9007199254740993)},
		{`a eq 123456789012345678901234567890`, attr("a", Eq, json.Number("123456789012345678901234567890"))},
		{`a eq 1.0`, attr("a", Eq, 1.0)},
		{`a eq 2e2`, attr("a", Eq, 200.0)},
		{`a eq -1.5E-3`, attr("a", Eq, -1.5e-3)},
		{`a eq true`, attr("a", Eq, true)},
		{`a eq false`, attr("a", Eq, false)},
		{`a eq null`, attr("a", Eq, nil)},
		{`a eq ""`, attr("a", Eq, "")},
		{`a eq"x"`, attr("a", Eq, "x")},
		{`a eq "R and D"`, attr("a", Eq, "R and D")},
		{`a eq "%#&+)]"`, attr("a", Eq, "%#&+)]")},
		{`a eq "O'Malley \"\\\/\b\f\n\r\t"`, attr("a", Eq, "O'Malley \"\\/\b\f\n\r\t")},
		{`a eq "\u00e4\u00E4ä"`, attr("a", Eq, "äää")},
		{`a eq "\ud83d\ude00😀"`, attr("a", Eq, "😀😀")},
		{`a eq "\u0000"`, attr("a", Eq, "\x00")},
		{`$ref eq "x"`, attr("$ref", Eq, "x")},
		{`members.$ref eq "x"`, attr("members.$ref", Eq, "x")},
		{`pr pr`, attr("pr", Pr, nil)},
		{`not pr`, attr("not", Pr, nil)},
		{`and eq 1 and or pr`, both(attr("and", Eq, 1), attr("or", Pr, nil))},
		{`a pr and b pr or c pr`, either(both(a, b), c)},
		{`a pr or b pr and c pr`, either(a, both(b, c))},
		{`a pr and b pr and c pr`, both(both(a, b), c)},
		{`a pr and (b pr and c pr)`, both(a, both(b, c))},
		{`(a pr or b pr) AND c pr`, both(either(a, b), c)},
		{`((a pr))`, a},
		{`( a pr )`, a},
		{`not (a pr)`, &NotExpression{Expression: a}},
		{`NOT(a pr) and b pr`, both(&NotExpression{Expression: a}, b)},
		{`not   ( a pr or b pr )`, &NotExpression{Expression: either(a, b)}},
		{urn + `:userName eq "x"`, &AttributeExpression{AttributePath: AttributePath{URIPrefix: &urn, AttributeName: "userName"}, Operator: Eq, CompareValue: "x"}},
		{dotted + `:size gt 3`, &AttributeExpression{AttributePath: AttributePath{URIPrefix: &dotted, AttributeName: "size"}, Operator: Gt, CompareValue: 3}},
		{`emails[type eq "work"]`, in("emails", attr("type", Eq, "work"))},
		{`emails [ type eq "work" ]`, in("emails", attr("type", Eq, "work"))},
		{`emails[not (type eq "work") and (a pr or b pr)]`, in("emails", both(&NotExpression{Expression: attr("type", Eq, "work")}, either(a, b)))},
		{`emails[a pr] or emails[b pr]`, either(in("emails", a), in("emails", b))},
		{`emails[type eq "work"].value eq "x"`, in("emails", both(attr("type", Eq, "work"), attr("value", Eq, "x")))},
		{`emails[a pr or b pr].value pr and c pr`, both(in("emails", both(either(a, b), attr("value", Pr, nil))), c)},
	}
	for _, tt := range tests {
		got, err := ParseFilter(tt.in)
		if err != nil {
			t.Errorf("ParseFilter(%q): %v", tt.in, err)
			continue
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("ParseFilter(%q) = %s, want %s", tt.in, FormatFilter(got), FormatFilter(tt.want))
		}
	}
}

func TestParseFilterRefuses(t *testing.T) {
	const operator = expectedOperator
	tests := []struct{ in, want string }{
		{``, "at character 1: expected an attribute name"},
		{`   `, "at character 4: expected an attribute name"},
		{`userName`, "at character 9: " + operator},
		{`userName eq`, "at character 12: expected a value: a string in double quotes, a number, true, false or null"},
		{`userName eq `, "at character 13: expected a value: a string in double quotes, a number, true, false or null"},
		{`userName eq John`, "at character 13: expected a value: a string in double quotes, a number, true, false or null"},
		{`userName eq 'x'`, "at character 13: expected a value: a string in double quotes, a number, true, false or null"},
		{`active eq True`, "at character 11: expected a value: a string in double quotes, a number, true, false or null"},
		{`userName regex "x"`, "at character 10: " + operator},
		{`userName eqx "x"`, "at character 10: " + operator},
		{`userName eq1`, "at character 10: " + operator},
		{`a prx`, "at character 3: " + operator},
		{`a pr"x"`, "at character 3: " + operator},
		{`name=1`, "at character 5: a character that no attribute name has"},
		{`ä eq 1`, "at character 1: expected an attribute name"},
		{`1a eq 1`, "at character 1: expected an attribute name"},
		{`$foo eq 1`, "at character 1: expected an attribute name"},
		{`a. eq 1`, "at character 3: expected an attribute name"},
		{`a.b.c eq 1`, "at character 4: a character that no attribute name has"},
		{`:a eq 1`, "at character 1: expected a schema URN before the colon"},
		{`urn:x: eq 1`, "at character 7: expected an attribute name"},
		{`a eq 01`, "at character 7: expected a space behind the value"},
		{`a eq 1.`, "at character 8: expected a digit"},
		{`a eq -`, "at character 7: expected a digit"},
		{`a eq 1e`, "at character 8: expected a digit"},
		{`a eq 1e999`, "at character 6: a number beyond the range of a double"},
		{`a eq truest`, "at character 10: expected a space behind the value"},
		{`a eq "x"b pr`, "at character 9: expected a space behind the value"},
		{`a eq "x`, `at character 8: expected the " that ends a string`},
		{`a eq "x\`, "at character 9: a string is not valid JSON"},
		{`a eq "\x"`, "at character 7: a string is not valid JSON"},
		{`a eq "\u12"`, "at character 7: a string is not valid JSON"},
		{`a eq "\ud800"`, "at character 7: a string is not valid JSON"},
		{`a eq "\ud800\ud800"`, "at character 7: a string is not valid JSON"},
		{`a eq "\udc00\ud800"`, "at character 7: a string is not valid JSON"},
		{"a eq \"ää\n\"", "at character 9: a control character in a string"},
		{"a eq \"\xff\"", "at character 6: a string is not valid UTF-8"},
		{"a eq \"\\n\xff\"", "at character 7: a string is not valid JSON"},
		{`a pr b pr`, "at character 6: expected and, or, or the end"},
		{`a pr and`, "at character 9: expected an attribute name"},
		{`a pr andb pr`, "at character 6: expected and, or, or the end"},
		{`(a pr)and b pr`, "at character 7: expected and, or, or the end"},
		{`a pr eq`, "at character 6: expected and, or, or the end"},
		{`a pr)`, "at character 5: expected and, or, or the end"},
		{`a pr]`, "at character 5: expected and, or, or the end"},
		{`(a pr`, "at character 6: expected and, or, or the ) that closes a ("},
		{`(a pr]`, "at character 6: expected and, or, or the ) that closes a ("},
		{`()`, "at character 2: expected an attribute name"},
		{`not not (a pr)`, "at character 5: " + operator},
		{`a[b pr`, "at character 7: expected and, or, or the ] that closes a ["},
		{`a[]`, "at character 3: expected an attribute name"},
		{`a[b[c pr]]`, "at character 4: a value filter cannot stand in another"},
		{`a[b pr].c[d pr]`, "at character 10: a value filter cannot stand behind another"},
		{`a[b pr].c.d pr`, "at character 10: expected a space and an operator behind the attribute name"},
		{`a[b pr].`, "at character 9: expected an attribute name"},
		{`a[b pr]c`, "at character 8: expected and, or, or the end"},
		{`a[b pr] pr`, "at character 9: expected and, or, or the end"},
		{strings.Repeat("(", 17) + "a pr" + strings.Repeat(")", 17), "at character 17: more than 16 brackets inside one another"},
		{`a eq "` + strings.Repeat("x", MaxFilter) + `"`, "longer than 2048 bytes"},
	}
	for _, tt := range tests {
		f, err := ParseFilter(tt.in)
		e, ok := errors.AsType[*Error](err)
		if !ok || f != nil {
			t.Errorf("ParseFilter(%q) = %s, %v, want an *Error", tt.in, FormatFilter(f), err)
			continue
		}
		if e.Status != 400 || e.Type != InvalidFilter || e.Detail != "filter: "+tt.want {
			t.Errorf("ParseFilter(%q): %v, want %q", tt.in, err, tt.want)
		}
	}
	deepest := strings.Repeat("not(", 15) + "a[b pr]" + strings.Repeat(")", 15)
	if _, err := ParseFilter(deepest); err != nil {
		t.Errorf("ParseFilter(%q): %v", deepest, err)
	}
}

func roundTrip(t rapid.TB, f Filter) {
	t.Helper()
	text := FormatFilter(f)
	if len(text) > MaxFilter {
		return
	}
	again, err := ParseFilter(text)
	if err != nil {
		t.Fatalf("ParseFilter(%q), as printed: %v", text, err)
	}
	if !reflect.DeepEqual(f, again) {
		t.Fatalf("%q comes back as %q", text, FormatFilter(again))
	}
}

// oracle brings a filter of the library's into our form; ok is false where we differ on purpose.
func oracle(f Filter) (_ Filter, ok bool) {
	switch f := f.(type) {
	case *AttributeExpression:
		e := *f
		for _, name := range []string{f.AttributePath.AttributeName, f.AttributePath.SubAttributeName()} {
			if strings.HasPrefix(name, "$") && !strings.EqualFold(name, "$ref") {
				return nil, false // the library takes $ before any name
			}
		}
		if s, isString := f.CompareValue.(string); isString {
			// The library does not undo escapes, and takes half a surrogate pair.
			object, err := DecodeObject([]byte(`{"v":"` + s + `"}`))
			if err != nil {
				return nil, false
			}
			e.CompareValue = object["v"]
		}
		return &e, true
	case *LogicalExpression:
		l, okL := oracle(f.Left)
		r, okR := oracle(f.Right)
		return &LogicalExpression{Left: l, Right: r, Operator: f.Operator}, okL && okR
	case *NotExpression:
		inner, ok := oracle(f.Expression)
		return &NotExpression{Expression: inner}, ok
	case *ValuePath:
		inner, ok := oracle(f.ValueFilter)
		return &ValuePath{AttributePath: f.AttributePath, ValueFilter: inner}, ok
	default:
		return nil, false
	}
}

// differs reports texts in which the library is wider than we are, or wrong: literals in any case, no space around
// and and or in a value filter, integers beyond the exact range of a double.
func differs(s string) bool {
	fold := strings.ToLower(s)
	for _, literal := range []string{"true", "false", "null"} {
		if strings.Count(s, literal) != strings.Count(fold, literal) {
			return true
		}
	}
	digits := 0
	for i := range len(s) {
		if digits++; s[i] < '0' || s[i] > '9' {
			digits = 0
		}
		if digits > 15 {
			return true
		}
	}
	if open := strings.IndexByte(fold, '['); open >= 0 {
		for _, word := range []string{"and", "or"} {
			inside := fold[open:]
			if strings.Count(inside, word) != strings.Count(inside, " "+word+" ") {
				return true
			}
		}
	}
	return false
}

// tooMuch keeps texts from the library that it takes too long over, or that end the process.
func tooMuch(s string) bool {
	return len(s) > 120 || strings.Count(s, "(") > 3 || strings.Contains(strings.ToValidUTF8(s, "\uFFFD"), "\uFFFD")
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{
		`userName eq "x"`, `a.b co "\u00e4\"" and (c pr or not (d lt 1.5e3))`, `emails[type eq "work" and value co "@"] or x ne null`,
		`urn:ietf:params:scim:schemas:core:2.0:User:name.givenName sw "J"`, `emails[type eq "work"].value eq true`, `$ref ge -0`, `a eq "😀\ud83d\ude00"`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseFilter(s)
		if err == nil {
			roundTrip(t, got)
		} else if e, ok := errors.AsType[*Error](err); !ok || e.Status != 400 || e.Type != InvalidFilter {
			t.Fatalf("ParseFilter(%q): %v, want 400 invalidFilter", s, err)
		}
		if tooMuch(s) || differs(s) {
			return
		}
		theirs, libraryErr := filter.ParseFilter([]byte(s))
		if libraryErr != nil {
			return
		}
		want, ok := oracle(theirs)
		if !ok {
			return
		}
		if err != nil {
			t.Fatalf("ParseFilter(%q): %v, but the library takes it", s, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("ParseFilter(%q) = %q, the library has %q", s, FormatFilter(got), FormatFilter(want))
		}
	})
}

// TestParseFilterIsLinear counts allocations, not time: a run of replacement characters is what the library takes
// quadratic time over.
func TestParseFilterIsLinear(t *testing.T) {
	long := `a eq "` + strings.Repeat("\uFFFD", 600) + `"`
	chain := strings.Repeat("a pr and ", 200) + "a pr"
	for s, most := range map[string]float64{`userName eq "x"`: 2, long: 2, chain: 500} {
		if got := testing.AllocsPerRun(10, func() { _, _ = ParseFilter(s) }); got > most {
			t.Errorf("ParseFilter(%.20q...) makes %v allocations, want at most %v", s, got, most)
		}
	}
}

func BenchmarkParseFilter(b *testing.B) {
	for _, s := range []string{`userName eq "bjensen@example.com"`, `userType eq "Employee" and emails[type eq "work" and value co "@example.com"]`} {
		b.Run(s[:8], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseFilter(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
