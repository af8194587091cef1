package conformance

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A test is what an assertion says about values: the tests of FORMAT.md.
type test struct {
	op      string
	operand string // as written: variables are filled in when the test is made
	sub     *test  // of each, any, none and not
}

// operands says what stands behind each test.
var operands = map[string]string{
	"==": "json", "!=": "json", "<": "json", "<=": "json", ">": "json", ">=": "json", "~": "text",
	"contains": "json", "in": "array", "is": "type", "matches": "expression", "count": "number",
	"exists": "", "absent": "", "unique": "", "ascending": "", "descending": "",
	"each": "test", "any": "test", "none": "test", "not": "test",
}

// parseTest reads a test and checks it, with 0 for every variable.
func parseTest(text string) (*test, error) {
	op, operand, _ := strings.Cut(text, " ")
	t := &test{op: op, operand: strings.TrimSpace(operand)}
	kind, ok := operands[op]
	if !ok {
		return nil, fmt.Errorf("%q is not a test; tests are %s", op, strings.Join(sortedKeys(operands), " "))
	}
	switch {
	case kind == "test":
		sub, err := parseTest(t.operand)
		t.sub, t.operand = sub, ""
		return t, err
	case kind == "" && t.operand != "":
		return nil, fmt.Errorf("nothing stands behind %s, got %q", op, t.operand)
	}
	names, err := references(t.operand)
	if err != nil {
		return nil, err
	}
	placeholders := variables{}
	for _, name := range names {
		placeholders[name] = "0"
	}
	_, _, err = t.want(placeholders)
	return t, err
}

// want is the operand with the variables filled in: a JSON value or an expression, and its text. For count the text
// starts with the comparison.
func (t *test) want(v variables) (value any, text string, err error) {
	switch kind := operands[t.op]; kind {
	case "expression":
		text, err = v.expand(t.operand, asExpression)
		if err == nil && (len(text) < 2 || text[0] != '/' || text[len(text)-1] != '/') {
			err = fmt.Errorf("an expression stands between slashes, got %q", text)
		}
		if err != nil {
			return nil, text, err
		}
		value, err = regexp.Compile(text[1 : len(text)-1])
	case "type":
		value, text = t.operand, t.operand
		if _, ok := types[t.operand]; !ok {
			err = fmt.Errorf("%q is not a type; types are %s", t.operand, strings.Join(sortedKeys(types), " "))
		}
	case "number":
		text, err = v.expand(t.operand, asText)
		if err != nil {
			return nil, text, err
		}
		compare, number, _ := strings.Cut(text, " ")
		if !slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, compare) {
			return nil, text, fmt.Errorf("count is followed by a comparison and a number, such as `count == 2`, got %q", text)
		}
		if value, err = parseJSON(number); err == nil {
			if _, ok := value.(json.Number); !ok {
				err = fmt.Errorf("%q is not a number", number)
			}
		}
	case "json", "text", "array":
		if text, err = v.expand(t.operand, asJSON); err == nil {
			value, err = parseJSON(text)
		}
		_, isText := value.(string)
		_, isArray := value.([]any)
		if err == nil && (kind == "text" && !isText || kind == "array" && !isArray) {
			err = fmt.Errorf("%s wants a JSON %s, got %q", t.op, strings.Replace(kind, "text", "string", 1), text)
		}
	}
	return value, text, err
}

// holds makes the test. definite says that values were selected by a path that selects one at most.
func (t *test) holds(values []any, definite bool, v variables) (bool, error) {
	if t.sub != nil {
		return t.quantified(values, definite, v)
	}
	want, text, err := t.want(v)
	if err != nil {
		return false, err
	}
	switch t.op {
	case "exists":
		return slices.ContainsFunc(values, assigned), nil
	case "absent":
		return !slices.ContainsFunc(values, assigned), nil
	case "count":
		compare, _, _ := strings.Cut(text, " ")
		number, _ := want.(json.Number)
		return inOrder(compare, compareNumbers(json.Number(fmt.Sprint(count(values, definite))), number)), nil
	case "unique":
		for i, a := range values {
			if slices.ContainsFunc(values[:i], func(b any) bool { return equal(a, b) }) {
				return false, nil
			}
		}
		return true, nil
	case "ascending", "descending":
		return sorted(values, t.op == "descending"), nil
	}
	return len(values) == 1 && t.one(values[0], want), nil
}

func (t *test) quantified(values []any, definite bool, v variables) (bool, error) {
	if t.op == "not" {
		ok, err := t.sub.holds(values, definite, v)
		return !ok, err
	}
	passed := 0
	for _, value := range values {
		ok, err := t.sub.holds([]any{value}, true, v)
		if err != nil {
			return false, err
		}
		if ok {
			passed++
		}
	}
	switch t.op {
	case "each":
		return passed > 0 && passed == len(values), nil
	case "any":
		return passed > 0, nil
	}
	return passed == 0, nil
}

// one makes a test about a single value.
func (t *test) one(value, want any) bool {
	switch t.op {
	case "==":
		return equal(value, want)
	case "!=":
		return !equal(value, want)
	case "~":
		a, ok := value.(string)
		b, _ := want.(string)
		return ok && strings.EqualFold(a, b)
	case "contains":
		return holdsPart(value, want)
	case "in":
		list, _ := want.([]any)
		return slices.ContainsFunc(list, func(w any) bool { return equal(value, w) })
	case "is":
		name, _ := want.(string)
		return types[name](value)
	case "matches":
		expression, _ := want.(*regexp.Regexp)
		s, ok := value.(string)
		return ok && expression.MatchString(s)
	}
	order, ok := compareValues(value, want)
	return ok && inOrder(t.op, order)
}

func holdsPart(value, want any) bool {
	switch value := value.(type) {
	case []any:
		return slices.ContainsFunc(value, func(e any) bool { return covers(e, want) })
	case string:
		part, ok := want.(string)
		return ok && strings.Contains(value, part)
	}
	return covers(value, want)
}

// assigned: unassigned, null and an empty array are equivalent in state (RFC 7643, Section 2.5).
func assigned(v any) bool {
	list, isArray := v.([]any)
	return v != nil && (!isArray || len(list) > 0)
}

func count(values []any, definite bool) int {
	if !definite || len(values) == 0 {
		return len(values)
	}
	switch v := values[0].(type) {
	case nil:
		return 0
	case []any:
		return len(v)
	}
	return 1
}

func inOrder(op string, order int) bool {
	switch op {
	case "==":
		return order == 0
	case "!=":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

// compareValues orders two numbers, two times or two texts.
func compareValues(a, b any) (order int, ok bool) {
	if n, isNumber := a.(json.Number); isNumber {
		m, ok := b.(json.Number)
		return compareNumbers(n, m), ok
	}
	s, ok1 := a.(string)
	t, ok2 := b.(string)
	if !ok1 || !ok2 {
		return 0, false
	}
	at, err1 := time.Parse(time.RFC3339Nano, s)
	bt, err2 := time.Parse(time.RFC3339Nano, t)
	if err1 == nil && err2 == nil {
		return at.Compare(bt), true
	}
	return strings.Compare(s, t), true
}

// compareNumbers orders numbers of JSON; one that is out of all bounds comes first.
func compareNumbers(a, b json.Number) int {
	x, _, err1 := big.ParseFloat(string(a), 10, 256, big.ToNearestEven)
	y, _, err2 := big.ParseFloat(string(b), 10, 256, big.ToNearestEven)
	if err1 != nil || err2 != nil {
		return strings.Compare(string(a), string(b))
	}
	return x.Cmp(y)
}

func sorted(values []any, descending bool) bool {
	for i := 1; i < len(values); i++ {
		a, b := values[i-1], values[i]
		if s, ok := a.(string); ok {
			a = strings.ToLower(s)
		}
		if s, ok := b.(string); ok {
			b = strings.ToLower(s)
		}
		order, ok := compareValues(a, b)
		if descending {
			order = -order
		}
		if !ok || order > 0 {
			return false
		}
	}
	return true
}

var (
	dateTime = regexp.MustCompile(`^-?[0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?$`)
	integer  = regexp.MustCompile(`^-?[0-9]+$`)
)

// types are the types of `is`.
var types = map[string]func(any) bool{
	"string":  func(v any) bool { _, ok := v.(string); return ok },
	"number":  func(v any) bool { _, ok := v.(json.Number); return ok },
	"integer": func(v any) bool { n, ok := v.(json.Number); return ok && integer.MatchString(string(n)) },
	"boolean": func(v any) bool { _, ok := v.(bool); return ok },
	"object":  func(v any) bool { _, ok := v.(map[string]any); return ok },
	"array":   func(v any) bool { _, ok := v.([]any); return ok },
	"null":    func(v any) bool { return v == nil },
	"datetime": func(v any) bool { // RFC 7643, Section 2.3.5: an xsd:dateTime with date and time
		s, ok := v.(string)
		if !ok || !dateTime.MatchString(s) {
			return false
		}
		_, err := time.Parse("2006-01-02T15:04:05", s[:min(19, len(s))])
		return err == nil
	},
	"uri": func(v any) bool {
		s, ok := v.(string)
		u, err := url.Parse(s)
		return ok && err == nil && u.IsAbs()
	},
	"reference": func(v any) bool {
		s, ok := v.(string)
		_, err := url.Parse(s)
		return ok && s != "" && err == nil
	},
	"base64": func(v any) bool {
		s, ok := v.(string)
		_, err := base64.StdEncoding.DecodeString(s)
		return ok && err == nil
	},
}

// scimError is what the assertion `error` asks of an answer (RFC 7644, Section 3.12).
func scimError(a *answer, statuses, kinds []string) error {
	if !slices.ContainsFunc(statuses, func(s string) bool { return matchesStatus(s, a.status) }) {
		return fmt.Errorf("got status %d", a.status)
	}
	if err := a.isSCIM(); err != nil {
		return err
	}
	body, err := a.json()
	if err != nil {
		return err
	}
	schemas, _ := find(body, "schemas")
	if !holdsPart(schemas, errorSchema) {
		return fmt.Errorf("got schemas %s, want %s among them", shownJSON(schemas), errorSchema)
	}
	status, _ := find(body, "status")
	if !equal(status, fmt.Sprint(a.status)) {
		return fmt.Errorf(`got member "status" %s, want "%d"`, shownJSON(status), a.status)
	}
	if len(kinds) == 0 {
		return nil
	}
	kind, _ := find(body, "scimType")
	if kind == nil && slices.Contains(kinds, "none") {
		return nil // RFC 7644, Section 3.12: scimType is OPTIONAL, but where another section asks for it
	}
	if s, ok := kind.(string); !ok || !slices.Contains(kinds, s) {
		return fmt.Errorf("got scimType %s", shownJSON(kind))
	}
	return nil
}

const (
	errorSchema = "urn:ietf:params:scim:api:messages:2.0:Error"
	listSchema  = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
)

// listResponse is what the assertion `list` asks of an answer (RFC 7644, Section 3.4.2).
func listResponse(a *answer) error {
	body, err := a.json()
	if err != nil {
		return err
	}
	if schemas, _ := find(body, "schemas"); !holdsPart(schemas, listSchema) {
		return fmt.Errorf("got schemas %s, want %s among them", shownJSON(schemas), listSchema)
	}
	total, _ := find(body, "totalResults")
	n, ok := total.(json.Number)
	if !ok || !types["integer"](n) || compareNumbers(n, "0") < 0 {
		return fmt.Errorf("got totalResults %s, want an integer", shownJSON(total))
	}
	resources, there := find(body, "Resources")
	list, isArray := resources.([]any)
	switch {
	case there && !isArray:
		return errors.New("got Resources that is not an array")
	case !there && compareNumbers(n, "0") != 0:
		// RFC 7644, Section 3.4.2: "Resources" is REQUIRED if totalResults is non-zero; count=0 is the exception of 3.4.2.4.
		if size, ok := find(body, "itemsPerPage"); !ok || !equal(size, json.Number("0")) {
			return fmt.Errorf("got no Resources, but totalResults is %s", n)
		}
	case compareNumbers(json.Number(fmt.Sprint(len(list))), n) > 0:
		return fmt.Errorf("%d Resources, but totalResults is %s", len(list), n)
	}
	// That itemsPerPage is the number of Resources has a case of its own: many give the count that was asked for, and one
	// such mistake must not fail every case with a query in it.
	if size, ok := find(body, "itemsPerPage"); ok {
		if n, isNumber := size.(json.Number); !isNumber || !types["integer"](n) || compareNumbers(n, json.Number(fmt.Sprint(len(list)))) < 0 {
			return fmt.Errorf("got itemsPerPage %s with %d Resources", shownJSON(size), len(list))
		}
	}
	return nil
}

// matchesStatus reports whether a status is pattern: a number, or a class such as 4xx.
func matchesStatus(pattern string, status int) bool {
	if class, ok := strings.CutSuffix(pattern, "xx"); ok {
		return fmt.Sprint(status/100) == class
	}
	return fmt.Sprint(status) == pattern
}
