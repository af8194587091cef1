package gateway

// What a filter means, written down a second time, for TestFiltersProperty: the attributes of RFC 7643 and the
// semantics of RFC 7644, Section 3.4.2.2, over resources as encoding/json reads them. It shares nothing with what it
// judges: this file and filters_spell_test.go import the standard library only, and a test sees to that.
//
// Where the RFC leaves room, it goes the documented way: ne is the negation of eq, also for several values and for
// none; eq null is "not present"; strings compare by code points once their case is folded; a boolean may be written
// as the text "True" or "False".

import (
	"cmp"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
)

const (
	coreURN       = "urn:ietf:params:scim:schemas:core:2.0:User"
	enterpriseURN = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
)

// kind is how values of an attribute compare.
type kind int

const (
	plainText kind = iota // in any case
	exactText
	boolean
	dateTime
	binaryText
	complexKind
)

// attribute is one attribute of a User.
type attribute struct {
	urn, name string // urn is "" for the core schema and the common attributes
	kind      kind
	several   bool
	subs      map[string]kind
}

// labelled is what multi-valued attributes have in common (RFC 7643, Section 2.4).
func labelled(value kind) map[string]kind {
	return map[string]kind{"value": value, "display": plainText, "type": plainText, "primary": boolean}
}

// userAttributes are those of RFC 7643, Sections 3.1, 4.1 and 4.3.
var userAttributes = append([]attribute{
	{name: "schemas", several: true},
	{name: "id", kind: exactText},
	{name: "externalId", kind: exactText},
	{name: "meta", kind: complexKind, subs: map[string]kind{
		"resourceType": exactText, "created": dateTime, "lastModified": dateTime, "location": exactText, "version": exactText,
	}},
	{name: "active", kind: boolean},
	{name: "name", kind: complexKind, subs: map[string]kind{
		"formatted": plainText, "familyName": plainText, "givenName": plainText, "middleName": plainText,
		"honorificPrefix": plainText, "honorificSuffix": plainText,
	}},
	{name: "emails", kind: complexKind, several: true, subs: labelled(plainText)},
	{name: "phoneNumbers", kind: complexKind, several: true, subs: labelled(plainText)},
	{name: "ims", kind: complexKind, several: true, subs: labelled(plainText)},
	{name: "photos", kind: complexKind, several: true, subs: labelled(exactText)},
	{name: "entitlements", kind: complexKind, several: true, subs: labelled(plainText)},
	{name: "roles", kind: complexKind, several: true, subs: labelled(plainText)},
	{name: "x509Certificates", kind: complexKind, several: true, subs: labelled(binaryText)},
	{name: "addresses", kind: complexKind, several: true, subs: map[string]kind{
		"formatted": plainText, "streetAddress": plainText, "locality": plainText, "region": plainText, "postalCode": plainText,
		"country": plainText, "type": plainText, "primary": boolean,
	}},
	{name: "groups", kind: complexKind, several: true, subs: map[string]kind{"value": plainText, "$ref": plainText, "display": plainText, "type": plainText}},
	{urn: enterpriseURN, name: "manager", kind: complexKind, subs: map[string]kind{"value": exactText, "$ref": plainText, "displayName": plainText}},
}, append(
	texts("", "userName", "displayName", "nickName", "profileUrl", "title", "userType", "preferredLanguage", "locale", "timezone", "password"),
	texts(enterpriseURN, "employeeNumber", "costCenter", "organization", "division", "department")...)...)

func texts(urn string, names ...string) []attribute {
	var out []attribute
	for _, n := range names {
		out = append(out, attribute{urn: urn, name: n})
	}
	return out
}

// place is an attribute path in the schema's spelling. In a value filter only name is set.
type place struct{ urn, name, sub string }

func (p place) attribute() (attribute, bool) {
	for _, a := range userAttributes {
		if a.urn == p.urn && a.name == p.name {
			return a, true
		}
	}
	return attribute{}, false
}

// condition is a filter: *comparison, *junction, *negation or *valueFilter.
type condition interface {
	// valid reports whether the filter means something. within is the attribute whose value filter it stands in; nil
	// outside of brackets.
	valid(within *attribute) bool
	// holds reports whether a resource, or within brackets one value of an attribute, matches.
	holds(v any, within *attribute) bool
	// simpler are filters that are smaller, for the search of the smallest one that goes wrong.
	simpler() []condition
}

type comparison struct {
	place place
	op    string // in lower case
	value any    // nil: null, or none with pr; string, bool, or rawNumber
}

// rawNumber is a number as it stands in a filter. By the schema no attribute of a User is one.
type rawNumber string

type junction struct {
	or          bool
	left, right condition
}

type negation struct{ of condition }

// valueFilter is attribute[filter].
type valueFilter struct {
	place  place
	filter condition
}

// leaf is what a comparison compares, and the name of the sub-attribute that it is; ok is false when there is no such
// thing. A complex attribute stands for its `value`, except for its presence.
func (c *comparison) leaf(within *attribute) (k kind, sub string, ok bool) {
	var a attribute
	switch sub = c.place.sub; {
	case within != nil:
		a, sub = *within, c.place.name
		if c.place.urn != "" || c.place.sub != "" || a.kind != complexKind && sub != "value" {
			return 0, "", false
		}
	default:
		if a, ok = c.place.attribute(); !ok {
			return 0, "", false
		}
	}
	switch k, ok = a.subs[sub]; {
	case a.kind != complexKind:
		return a.kind, "", sub == "" || sub == "value"
	case sub != "":
		return k, sub, ok
	case c.about():
		return complexKind, "", true
	default:
		k, ok = a.subs["value"]
		return k, "value", ok
	}
}

// about reports whether the comparison asks for presence.
func (c *comparison) about() bool {
	return c.op == "pr" || c.value == nil && (c.op == "eq" || c.op == "ne")
}

func (c *comparison) valid(within *attribute) bool {
	k, _, ok := c.leaf(within)
	switch {
	case !ok:
		return false
	case c.about():
		return true
	}
	switch c.op {
	case "gt", "ge", "lt", "le":
		return k != boolean && k != binaryText
	case "co", "sw", "ew":
		return k != boolean
	default:
		return true
	}
}

func (c *comparison) holds(v any, within *attribute) bool {
	k, sub, _ := c.leaf(within)
	if within == nil {
		v = find(v, c.place)
	}
	values := parts(v, sub)
	matched := false
	for _, v := range values {
		if c.about() {
			matched = matched || has(v)
		} else {
			matched = matched || c.compares(v, k)
		}
	}
	if c.op == "ne" && c.value != nil || c.op == "eq" && c.value == nil {
		return !matched
	}
	return matched
}

// find is the value of a whole attribute.
func find(resource any, p place) any {
	r, _ := resource.(map[string]any)
	if p.urn != "" {
		r, _ = r[p.urn].(map[string]any)
	}
	return r[p.name]
}

// parts are the single values of an attribute or, with sub, those of a sub-attribute of it.
func parts(v any, sub string) []any {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if sub == "" {
		return list
	}
	var out []any
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			out = append(out, parts(m[sub], "")...)
		}
	}
	return out
}

// has reports whether there is something in a value.
func has(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case []any:
		for _, e := range v {
			if has(e) {
				return true
			}
		}
		return false
	case map[string]any:
		for _, e := range v {
			if has(e) {
				return true
			}
		}
		return false
	default:
		return true
	}
}

// compares compares one value; ne like eq.
func (c *comparison) compares(v any, k kind) bool {
	op := c.op
	if op == "ne" {
		op = "eq"
	}
	switch want := c.value.(type) {
	case bool:
		return op == "eq" && v == want
	case string:
		if truth := strings.ToLower(want); k == boolean && (truth == "true" || truth == "false") {
			return v == (truth == "true")
		}
		s, ok := v.(string)
		return ok && compareTexts(op, s, want, k)
	case rawNumber:
		a, ok := v.(float64)
		b, err := strconv.ParseFloat(string(want), 64)
		return ok && err == nil && !substring(op) && stands(op, cmp.Compare(a, b))
	default:
		return false
	}
}

func substring(op string) bool { return op == "co" || op == "sw" || op == "ew" }

func compareTexts(op, s, want string, k kind) bool {
	if k == dateTime && !substring(op) {
		a, okA := instant(s)
		b, okB := instant(want)
		if !okA || !okB {
			return op == "eq" && s == want
		}
		return stands(op, a.Compare(b))
	}
	if k == plainText || k == dateTime {
		s, want = lower(s), lower(want)
	}
	switch op {
	case "co":
		return strings.Contains(s, want)
	case "sw":
		return strings.HasPrefix(s, want)
	case "ew":
		return strings.HasSuffix(s, want)
	default:
		return stands(op, cmp.Compare(s, want))
	}
}

func stands(op string, order int) bool {
	switch op {
	case "eq":
		return order == 0
	case "gt":
		return order > 0
	case "ge":
		return order >= 0
	case "lt":
		return order < 0
	default:
		return order <= 0
	}
}

// lower folds case: by way of upper case, which the long s and the Kelvin sign have in common with s and k.
func lower(s string) string {
	return strings.Map(func(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }, s)
}

// instant reads an xsd:dateTime; without a zone it is UTC.
func instant(s string) (time.Time, bool) {
	for _, layout := range []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func (j *junction) valid(within *attribute) bool {
	return j.left.valid(within) && j.right.valid(within)
}

func (j *junction) holds(v any, within *attribute) bool {
	if j.or {
		return j.left.holds(v, within) || j.right.holds(v, within)
	}
	return j.left.holds(v, within) && j.right.holds(v, within)
}

func (n *negation) valid(within *attribute) bool        { return n.of.valid(within) }
func (n *negation) holds(v any, within *attribute) bool { return !n.of.holds(v, within) }

func (f *valueFilter) valid(within *attribute) bool {
	a, ok := f.place.attribute()
	return ok && within == nil && f.place.sub == "" && (a.several || a.kind == complexKind) && f.filter.valid(&a)
}

func (f *valueFilter) holds(v any, _ *attribute) bool {
	a, _ := f.place.attribute()
	for _, e := range parts(find(v, f.place), "") {
		if e != nil && f.filter.holds(e, &a) {
			return true
		}
	}
	return false
}

func (c *comparison) simpler() []condition {
	if s, ok := c.value.(string); ok && len(s) > 1 && c.op != "eq" && c.op != "ne" {
		return []condition{&comparison{c.place, c.op, s[:1]}}
	}
	return nil
}

func (j *junction) simpler() []condition {
	out := []condition{j.left, j.right}
	for _, l := range j.left.simpler() {
		out = append(out, &junction{j.or, l, j.right})
	}
	for _, r := range j.right.simpler() {
		out = append(out, &junction{j.or, j.left, r})
	}
	return out
}

func (n *negation) simpler() []condition {
	out := []condition{n.of}
	for _, c := range n.of.simpler() {
		out = append(out, &negation{c})
	}
	return out
}

func (f *valueFilter) simpler() []condition {
	var out []condition
	for _, c := range f.filter.simpler() {
		out = append(out, &valueFilter{f.place, c})
	}
	return out
}

// The oracle would prove nothing if it used what it judges.
func TestOracleStandsAlone(t *testing.T) {
	for _, name := range []string{"oracle_test.go", "filters_spell_test.go", "patch_model_test.go", "patch_spell_test.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if first, _, _ := strings.Cut(strings.Trim(i.Path.Value, `"`), "/"); first == "scimgate" || strings.Contains(first, ".") {
				t.Errorf("%s imports %s", name, i.Path.Value)
			}
		}
	}
}

// The oracle itself, against examples of RFC 7644 and against what it says about itself.
func TestOracle(t *testing.T) {
	resource := map[string]any{
		"userName": "bjensen", "title": "Tour Guide", "userType": "Employee", "active": true, "externalId": "aB",
		"name":   map[string]any{"familyName": "O'Malley"},
		"meta":   map[string]any{"lastModified": "2011-05-13T04:42:34Z"},
		"emails": []any{map[string]any{"type": "work", "value": "b@example.com"}, map[string]any{"type": "home", "value": "b@jensen.org", "primary": true}},
	}
	compare := func(name, sub, op string, value any) condition {
		return &comparison{place{name: name, sub: sub}, op, value}
	}
	inner := func(name, op string, value any) condition { return compare(name, "", op, value) }
	emails := func(f condition) condition { return &valueFilter{place{name: "emails"}, f} }
	for i, test := range []struct {
		filter      condition
		valid, want bool
	}{
		{compare("userName", "", "eq", "BJensen"), true, true},
		{compare("externalId", "", "eq", "ab"), true, false},
		{compare("name", "familyName", "co", "o'm"), true, true},
		{compare("userName", "", "sw", "J"), true, false},
		{compare("title", "", "pr", nil), true, true},
		{compare("nickName", "", "pr", nil), true, false},
		{compare("meta", "lastModified", "gt", "2011-05-13T04:42:34Z"), true, false},
		{compare("meta", "lastModified", "le", "2011-05-13T06:42:34.000+02:00"), true, true},
		{&negation{&junction{true, compare("emails", "", "co", "example.com"), compare("emails", "value", "co", "example.org")}}, true, false},
		{emails(&junction{false, inner("type", "eq", "work"), inner("value", "co", "@example.com")}), true, true},
		{emails(&junction{false, inner("type", "eq", "work"), inner("primary", "eq", "True")}), true, false},
		{compare("emails", "type", "ne", "work"), true, false},
		{emails(inner("type", "ne", "work")), true, true},
		{compare("nickName", "", "ne", "x"), true, true},
		{compare("nickName", "", "eq", nil), true, true},
		{compare("title", "", "gt", rawNumber("5")), true, false},
		{compare("active", "", "gt", true), false, false},
		{compare("x509Certificates", "", "ge", "A"), false, false},
		{compare("name", "", "eq", "x"), false, false},
		{compare("name", "", "pr", nil), true, true},
		{compare("shoeSize", "", "pr", nil), false, false},
		{emails(emails(inner("type", "pr", nil))), false, false},
	} {
		if got := test.filter.valid(nil); got != test.valid {
			t.Errorf("%d: got valid %v, want %v", i, got, test.valid)
		}
		if test.valid && test.filter.holds(resource, nil) != test.want {
			t.Errorf("%d: got %v, want %v", i, !test.want, test.want)
		}
	}
}
