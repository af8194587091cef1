package scim

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const babs = `{
	"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
	"id": "2819c223", "externalId": "BJensen", "userName": "bjensen@example.com", "active": true, "title": "", "nickName": "Straße",
	"name": {"familyName": "Jensen", "givenName": "Barbara"},
	"emails": [
		{"value": "bjensen@example.com", "type": "work", "primary": true},
		{"value": "babs@jensen.org", "type": "home"}
	],
	"phoneNumbers": [], "addresses": [{}],
	"x509Certificates": [{"value": "QUJD"}],
	"meta": {"created": "2010-01-23T04:56:22Z", "lastModified": "not a date", "location": "https://example.com/Users/2819c223"},
	"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"employeeNumber": "701984", "manager": {"value": "26118915"}}
}`

func decode(t rapid.TB, s string) Resource {
	t.Helper()
	r, err := DecodeObject([]byte(s))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return r
}

func TestMatch(t *testing.T) {
	tests := []struct {
		filter string
		want   bool
	}{
		// eq and ne; caseExact
		{`userName eq "BJENSEN@example.com"`, true},
		{`userName ne "BJENSEN@example.com"`, false},
		{`userName ne "x"`, true},
		{`externalId eq "bjensen"`, false},
		{`externalId eq "BJensen"`, true},
		{`name.GIVENNAME eq "barbara"`, true},
		{`nickName eq "STRASSE"`, false}, // simple folding
		{`nickName eq "STRAẞE"`, true},
		{`urn:ietf:params:scim:schemas:core:2.0:User:userName eq "bjensen@example.com"`, true},
		// substrings and order
		{`userName co "SEN@EX"`, true},
		{`userName co ""`, true},
		{`userName sw "BJ"`, true},
		{`userName sw "jensen"`, false},
		{`userName ew ".COM"`, true},
		{`userName ew "bjensen@example.com.org"`, false},
		{`externalId co "JENS"`, false},
		{`nickName co "RAẞ"`, true},
		{`userName gt "BA"`, true},
		{`userName gt "bjensen@example.com"`, false},
		{`userName ge "BJENSEN@EXAMPLE.COM"`, true},
		{`userName lt "c"`, true},
		{`userName le "b"`, false},
		// presence and null
		{`userName pr`, true},
		{`displayName pr`, false},
		{`title pr`, false},
		{`title eq ""`, true},
		{`title eq null`, true},
		{`displayName eq null`, true},
		{`displayName ne null`, false},
		{`userName ne null`, true},
		{`displayName eq ""`, false},
		{`displayName ne "x"`, true},
		{`displayName gt ""`, false},
		{`name pr`, true},
		{`name eq null`, false},
		{`name.middleName pr`, false},
		{`phoneNumbers pr`, false},
		{`addresses pr`, false},
		{`emails.primary pr`, true},
		{`emails.display pr`, false},
		// several values
		{`emails eq "babs@jensen.org"`, true},
		{`emails.value co "JENSEN.org"`, true},
		{`emails ne "babs@jensen.org"`, false},
		{`emails ne "x"`, true},
		{`emails.type eq "work" and emails.value eq "babs@jensen.org"`, true},
		{`emails[type eq "work" and value eq "babs@jensen.org"]`, false},
		{`emails[type eq "home"].value eq "BABS@jensen.org"`, true},
		{`emails[type ne "work"]`, true},
		{`not (emails[type eq "other"])`, true},
		{`emails[not (type eq "work")]`, true},
		{`emails[primary eq true and value sw "b"]`, true},
		{`emails[primary eq null]`, true},
		{`phoneNumbers[type ne "work"]`, false},
		{`name[givenName eq "barbara"]`, true},
		{`schemas eq "URN:ietf:params:scim:schemas:core:2.0:User"`, true},
		{`schemas[value ew "enterprise:2.0:User"]`, true},
		{`schemas.value co "enterprise"`, true},
		// extensions
		{`urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber eq "701984"`, true},
		{`employeeNumber eq "701984"`, true},
		{`id eq "2819c223" and manager eq "26118915"`, true},
		{`manager.value ne "26118915"`, false},
		{`department pr`, false},
		// booleans
		{`active eq true`, true},
		{`active eq false`, false},
		{`active ne false`, true},
		// dates
		{`meta.created eq "2010-01-23T05:56:22+01:00"`, true},
		{`meta.created eq "2010-01-23T04:56:22"`, true},
		{`meta.created gt "2010-01-23T04:56:21.999"`, true},
		{`meta.created lt "2010-01-23T05:56:22+01:00"`, false},
		{`meta.created ge "2010"`, false},
		{`meta.created sw "2010-01-23t"`, true},
		{`meta.lastModified eq "not a date"`, true},
		{`meta.lastModified ge "not a date"`, false},
		{`meta.lastModified ne "2010-01-23T04:56:22Z"`, true},
		// exact by type
		{`x509Certificates.value eq "qujd"`, false},
		{`meta.location eq "https://EXAMPLE.com/Users/2819c223"`, false},
		// types that do not fit are not equal
		{`userName eq 5`, false},
		{`userName ne 5`, true},
		{`userName gt 5`, false},
		{`active eq "true"`, false},
		{`active ne "true"`, true},
		// logic
		{`active eq true and not (title pr) or userName eq "x"`, true},
		{`active eq false or active eq false and userName pr`, false},
		{`(active eq false or active eq true) and userName pr`, true},
	}
	rt, r := UserType(), decode(t, babs)
	for _, tt := range tests {
		f, err := ParseFilter(tt.filter)
		if err != nil {
			t.Fatalf("ParseFilter(%q): %v", tt.filter, err)
		}
		if got, err := rt.Match(f, r); got != tt.want || err != nil {
			t.Errorf("Match(%q) = %v, %v, want %v", tt.filter, got, err, tt.want)
		}
	}
	if got, err := rt.Match(nil, r); !got || err != nil {
		t.Errorf("Match(nil) = %v, %v, want true", got, err)
	}
}

func TestCompareNumbers(t *testing.T) {
	tests := []struct {
		a, b any
		want int
		ok   bool
	}{
		{json.Number("5"), 5, 0, true},
		{json.Number("5.0"), 5, 0, true},
		{json.Number("175.6"), 175.6, 0, true},
		{json.Number("1e3"), 1000, 0, true},
		{json.Number("9007199254740993"), 9007199254740992, 1, true},
		{json.Number("123456789012345678901"), json.Number("123456789012345678902"), -1, true},
		{json.Number("-123456789012345678901"), json.Number("-123456789012345678902"), 1, true},
		{json.Number("-123456789012345678901"), 7, -1, true},
		{json.Number("123456789012345678901"), -7, 1, true},
		{json.Number("123456789012345678901"), 1e30, -1, true},
		{int64(3), 2.5, 1, true},
		{2.5, json.Number("3"), -1, true},
		{"5", 5, 0, false},
		{5, nil, 0, false},
		{json.Number("5"), true, 0, false},
	}
	for _, tt := range tests {
		got, ok := compareNumbers(tt.a, tt.b)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("compareNumbers(%v, %v) = %d, %v, want %d, %v", tt.a, tt.b, got, ok, tt.want, tt.ok)
		}
	}
}

func TestMatchValue(t *testing.T) {
	rt := UserType()
	emails, _ := rt.Lookup(Ref{Name: "emails"})
	element := map[string]any{"type": "work", "value": "x"}
	for text, want := range map[string]bool{
		`type eq "WORK"`: true, `type eq "work" and value eq "y"`: false, `primary eq null`: true, `colour eq "red"`: false, `not (colour eq "red")`: false,
	} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Fatalf("ParseFilter(%q): %v", text, err)
		}
		if got := rt.MatchValue(emails, f, element); got != want {
			t.Errorf("MatchValue(%q) = %v, want %v", text, got, want)
		}
	}
}

// schemaOf makes a resource type that fits a resource, for vectors that know no schema.
func schemaOf(r Resource) *ResourceType {
	rt := &ResourceType{Name: "Thing", Core: &Schema{ID: "urn:x"}, common: commonAttributes()}
	for name, v := range r {
		if m, ok := v.(map[string]any); ok && strings.Contains(name, ":") {
			e := &Schema{ID: name}
			for sub, v := range m {
				e.Attributes = append(e.Attributes, attributeOf(sub, v))
			}
			rt.Extensions = append(rt.Extensions, e)
		} else if find(rt.common, name) == nil {
			rt.Core.Attributes = append(rt.Core.Attributes, attributeOf(name, v))
		}
	}
	rt.Core.Attributes = append(rt.Core.Attributes, &Attribute{Name: "unassigned", Kind: String})
	return rt
}

func attributeOf(name string, v any) *Attribute {
	a := &Attribute{Name: name, Kind: String}
	switch v := v.(type) {
	case bool:
		a.Kind = Boolean
	case json.Number:
		a.Kind = Decimal
	case []any:
		a.MultiValued = true
		if len(v) > 0 {
			e := attributeOf(name, v[0])
			a.Kind, a.Sub = e.Kind, e.Sub
		}
	case map[string]any:
		a.Kind = Complex
		for sub, v := range v {
			a.Sub = append(a.Sub, attributeOf(sub, v))
		}
	}
	return a
}

// TestMatchNegates checks that ne is not(eq) and that not is a negation, whatever the resource holds.
func TestMatchNegates(t *testing.T) {
	rt, full := UserType(), decode(t, babs)
	names := []string{"userName", "title", "name.givenName", "emails", "emails.type", "active", "meta.created", "manager", "schemas", "photos.value"}
	values := []any{"bjensen@example.com", "work", "", true, nil, 7, "2010-01-23T04:56:22Z"}
	rapid.Check(t, func(t *rapid.T) {
		r := full.Clone()
		if name := rapid.SampledFrom([]string{"", "emails", "active", "name", "meta"}).Draw(t, "without"); name != "" {
			delete(r, name)
		}
		name, value := rapid.SampledFrom(names).Draw(t, "name"), rapid.SampledFrom(values).Draw(t, "value")
		is := func(f Filter) bool {
			ok, err := rt.Match(f, r)
			if err != nil {
				t.Fatalf("Match(%q): %v", FormatFilter(f), err)
			}
			return ok
		}
		eq := is(attr(name, Eq, value))
		if ne, not := is(attr(name, Ne, value)), is(&NotExpression{Expression: attr(name, Eq, value)}); ne == eq || not == eq {
			t.Fatalf("%s %v: eq %v, ne %v, not(eq) %v", name, value, eq, ne, not)
		}
		if value != nil && eq && value != "" && !is(attr(name, Pr, nil)) {
			t.Fatalf("%s equals %v but is not present", name, value)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	rt := UserType()
	r, err := DecodeObject([]byte(babs))
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range []string{`userName eq "bjensen@example.com"`, `emails[type eq "work" and value co "@EXAMPLE.com"]`, `userName co "SEN@EX"`} {
		f, err := ParseFilter(s)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(s[:11], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := rt.Match(f, r); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
