package scim

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Match reports whether a resource, with canonical names, matches a filter (RFC 7644, Section 3.4.2.2). Every
// resource matches nil. The error is the one of [ResourceType.Attributes].
//
// Where the RFC leaves room:
//   - Present is what has a value: null, "", [], {} and what holds nothing else are not.
//   - eq null is "not present", ne null is "present", on whole attributes too.
//   - An attribute with several values matches when any value does. ne is the negation of eq, as its name and
//     most service providers have it: it matches when no value is equal, so also when there is none.
//   - Strings compare as caseExact says, and binary values exactly. Order is that of code points.
//   - Dates compare as instants; without a zone they are UTC. A value that is no date is equal to the same text
//     only, and is neither before nor after anything.
//   - Integers compare exactly, all other numbers as doubles.
//   - Values of different JSON types are not equal, and neither is before the other.
func (rt *ResourceType) Match(f Filter, r Resource) (bool, error) {
	s := scope{rt: rt, resource: r}
	if _, several := f.(*LogicalExpression); several {
		s.folds = folds{}
	}
	return match(s, f)
}

// MatchValue reports whether one value of the attribute t matches a value filter. A filter that does not fit the
// attribute matches nothing.
func (rt *ResourceType) MatchValue(t Target, f Filter, element any) bool {
	ok, err := match(scope{rt: rt, within: &t, element: element}, f)
	return ok && err == nil
}

// matcher is MatchValue for so many elements: where they are many, what the filter names is looked up once. It counts in
// work what a look at an element does not cover, further terms and long texts, and matches nothing any more when that is
// more than maxWork.
func (rt *ResourceType) matcher(t Target, f Filter, elements int, work *int) func(element any) bool {
	const many = 8
	if elements < many {
		terms := terms(f)
		return func(e any) bool {
			*work += terms * count(e)
			return *work <= maxWork && rt.MatchValue(t, f, e)
		}
	}
	if check(rt, &t, f, nil) != nil {
		return func(any) bool { return false }
	}
	matches := compile(rt, &t, f, work)
	return func(e any) bool { return *work <= maxWork && matches(e) }
}

// terms is how many comparisons a value filter is.
func terms(f Filter) int {
	switch f := f.(type) {
	case *LogicalExpression:
		return terms(f.Left) + terms(f.Right)
	case *NotExpression:
		return terms(f.Expression)
	default:
		return 1
	}
}

// compile makes a test of a value filter that check has nothing against.
func compile(rt *ResourceType, within *Target, f Filter, work *int) func(element any) bool {
	switch f := f.(type) {
	case *AttributeExpression:
		t, _ := resolveExpression(rt, within, f)
		want, isText := f.CompareValue.(string)
		if a := t.Sub; isText && a != nil && f.Operator == Eq && a.Kind != DateTime { // most filters of long lists
			exact := a.CaseExact || a.Kind == Binary
			return func(e any) bool {
				m, _ := e.(map[string]any)
				if text, ok := m[a.Name].(string); ok {
					*work += min(len(text), len(want)) / comparedWork
					return compareText(text, Eq, want, exact, nil)
				}
				return compareAttribute(e, t, f, nil)
			}
		}
		return func(e any) bool {
			if m, ok := e.(map[string]any); ok && t.Sub != nil {
				text, _ := m[t.Sub.Name].(string)
				*work += (len(text) + len(want)) / foldedWork
			}
			return compareAttribute(e, t, f, nil)
		}
	case *LogicalExpression:
		left, right := compile(rt, within, f.Left, work), compile(rt, within, f.Right, work)
		return func(e any) bool {
			if left(e) == (f.Operator == Or) {
				return f.Operator == Or
			}
			*work++
			return right(e)
		}
	case *NotExpression:
		not := compile(rt, within, f.Expression, work)
		return func(e any) bool { return !not(e) }
	default: // nil
		return func(any) bool { return true }
	}
}

// scope is what the attribute paths of a filter mean: attributes of a resource, or, in a value filter,
// sub-attributes of one element.
type scope struct {
	rt       *ResourceType
	resource Resource
	within   *Target
	element  any
	folds    folds
}

// folds remembers how long texts fold: one filter may compare the same text a hundred times. nil remembers nothing.
type folds map[string]string

func (f folds) of(s string) string {
	const long = 256
	if f == nil || len(s) < long {
		return Fold(s)
	}
	folded, ok := f[s]
	if !ok {
		folded = Fold(s)
		f[s] = folded
	}
	return folded
}

func match(s scope, f Filter) (bool, error) {
	switch f := f.(type) {
	case nil:
		return true, nil
	case *AttributeExpression:
		t, err := resolveExpression(s.rt, s.within, f)
		if err != nil {
			return false, err
		}
		return compareAttribute(s.value(t), t, f, s.folds), nil
	case *LogicalExpression:
		left, err := match(s, f.Left)
		if err != nil {
			return false, err
		}
		if left == (f.Operator == Or) {
			// Decided; but whether a filter is valid must not depend on the resource.
			return left, check(s.rt, s.within, f.Right, nil)
		}
		return match(s, f.Right)
	case *NotExpression:
		ok, err := match(s, f.Expression)
		return !ok && err == nil, err
	case *ValuePath:
		t, err := resolveValuePath(s.rt, s.within, f)
		if err != nil {
			return false, err
		}
		return matchElements(s, t, f.ValueFilter)
	default:
		return false, check(s.rt, s.within, f, nil)
	}
}

func matchElements(s scope, t Target, f Filter) (bool, error) {
	v := s.value(t)
	list, ok := v.([]any)
	if !ok && v != nil {
		list = []any{v}
	}
	for _, e := range list {
		if ok, err := match(scope{rt: s.rt, within: &t, element: e, folds: s.folds}, f); ok || err != nil {
			return ok, err
		}
	}
	if len(list) == 0 {
		return false, check(s.rt, &t, f, nil)
	}
	return false, nil
}

// value is the value of t's attribute; in a value filter, that of its sub-attribute.
func (s scope) value(t Target) any {
	if s.within == nil {
		return s.resource.holder(t.Ref.Schema)[t.Ref.Name]
	}
	return s.element
}

// compareAttribute compares what t names in v, the value of t's attribute or one element of it.
func compareAttribute(v any, t Target, e *AttributeExpression, f folds) bool {
	negate := false
	op := e.Operator
	switch {
	case op == Ne && e.CompareValue == nil:
		op = Pr
	case op == Eq && e.CompareValue == nil:
		op, negate = Pr, true
	case op == Ne:
		op, negate = Eq, true
	}
	return compareAny(v, t, op, e.CompareValue, f) != negate
}

func compareAny(v any, t Target, op CompareOperator, want any, f folds) bool {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if compareAny(e, t, op, want, f) {
				return true
			}
		}
		return false
	case map[string]any:
		if t.Sub != nil {
			sub := v[t.Sub.Name]
			t.Attribute, t.Sub = t.Sub, nil
			return compareAny(sub, t, op, want, f)
		}
		return op == Pr && present(v)
	default:
		if t.Sub != nil {
			return false // a simple value where the schema has an object
		}
		return compareOne(v, t.Attribute, op, want, f)
	}
}

// present follows RFC 7644, Table 3: a non-empty value, or a non-empty node of a complex attribute.
func present(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case []any:
		for _, e := range v {
			if present(e) {
				return true
			}
		}
		return false
	case map[string]any:
		for _, e := range v {
			if present(e) {
				return true
			}
		}
		return false
	default:
		return true
	}
}

// compareOne compares one simple value. The operator is not ne.
func compareOne(v any, a *Attribute, op CompareOperator, want any, f folds) bool {
	if op == Pr {
		return present(v)
	}
	switch want := want.(type) {
	case string:
		s, ok := v.(string)
		switch {
		case !ok:
			return false
		case a.Kind == DateTime:
			return compareDates(s, op, want, f)
		default:
			return compareText(s, op, want, a.CaseExact || a.Kind == Binary, f)
		}
	case bool:
		b, ok := v.(bool)
		return ok && op == Eq && b == want
	default:
		n, ok := compareNumbers(v, want)
		return ok && ordered(op, n)
	}
}

// ordered tells what an operator makes of the order of two values.
func ordered(op CompareOperator, n int) bool {
	switch op {
	case Eq:
		return n == 0
	case Gt:
		return n > 0
	case Ge:
		return n >= 0
	case Lt:
		return n < 0
	case Le:
		return n <= 0
	default:
		return false
	}
}

func compareText(s string, op CompareOperator, want string, exact bool, f folds) bool {
	if op == Eq {
		return s == want || !exact && strings.EqualFold(s, want)
	}
	if !exact {
		s, want = f.of(s), f.of(want)
	}
	switch op {
	case Co:
		return strings.Contains(s, want)
	case Sw:
		return strings.HasPrefix(s, want)
	case Ew:
		return strings.HasSuffix(s, want)
	default:
		return ordered(op, strings.Compare(s, want))
	}
}

func compareDates(s string, op CompareOperator, want string, f folds) bool {
	if op != Co && op != Sw && op != Ew {
		a, okA := parseDate(s)
		b, okB := parseDate(want)
		if okA && okB {
			return ordered(op, a.Compare(b))
		}
		return op == Eq && s == want
	}
	return compareText(s, op, want, false, f)
}

// parseDate reads an xsd:dateTime (RFC 7643, Section 2.3.5).
func parseDate(s string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05", s)
	}
	return t, err == nil
}

// compareNumbers orders two numbers; ok is false when either is none.
func compareNumbers(a, b any) (order int, ok bool) {
	if isInteger(a) && isInteger(b) {
		i, okA := integer(a)
		j, okB := integer(b)
		if okA && okB {
			return cmp.Compare(i, j), true
		}
		return compareDigits(digitsOf(a), digitsOf(b)), true
	}
	x, okA := double(a)
	y, okB := double(b)
	return cmp.Compare(x, y), okA && okB
}

// integer returns integers that fit 64 bits.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case json.Number:
		n, err := strconv.ParseInt(string(v), 10, 64)
		return n, err == nil
	default:
		return 0, false
	}
}

func double(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case json.Number:
		f, err := strconv.ParseFloat(string(v), 64)
		return f, err == nil || f != 0 // beyond the range it is infinite, which orders well
	default:
		return 0, false
	}
}

// isInteger reports whether a number is written without a fraction and an exponent.
func isInteger(v any) bool {
	switch v := v.(type) {
	case int, int64:
		return true
	case json.Number:
		return !strings.ContainsAny(string(v), ".eE")
	default:
		return false
	}
}

func digitsOf(v any) string {
	n, ok := integer(v)
	if ok {
		return strconv.FormatInt(n, 10)
	}
	return string(v.(json.Number))
}

// compareDigits orders two integers of any size by their digits.
func compareDigits(a, b string) int {
	negA, negB := strings.HasPrefix(a, "-"), strings.HasPrefix(b, "-")
	if negA != negB {
		if negA {
			return -1
		}
		return 1
	}
	order := cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	if negA {
		return -order
	}
	return order
}

// holds reports whether current has everything that value has.
func holds(current, value any) bool {
	part, ok := value.(map[string]any)
	if !ok {
		return same(current, value)
	}
	m, ok := current.(map[string]any)
	for name, v := range part {
		if !ok || !same(m[name], v) {
			return false
		}
	}
	return true
}

// same reports whether two values mean the same: what is empty is like what is absent (RFC 7643, Section 2.5), and
// numbers count by value.
func same(a, b any) bool {
	if Empty(a) || Empty(b) {
		return Empty(a) && Empty(b)
	}
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			return false
		}
		for name, v := range a {
			if !same(v, b[name]) {
				return false
			}
		}
		for name, v := range b {
			if _, ok := a[name]; !ok && !Empty(v) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	case string, bool:
		return a == b
	default:
		n, ok := compareNumbers(a, b)
		return ok && n == 0
	}
}
