package entra

import (
	"encoding/json"
	"strings"
	"unicode"
)

const (
	userURN       = "urn:ietf:params:scim:schemas:core:2.0:User"
	enterpriseURN = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
	groupURN      = "urn:ietf:params:scim:schemas:core:2.0:Group"
	adscimURN     = "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"
	listURN       = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	patchURN      = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
	errorURN      = "urn:ietf:params:scim:api:messages:2.0:Error"

	managerPath = enterpriseURN + ":manager"
	activePath  = "active"
)

// attribute is one line of the mapping: a path at the service provider and
// where its value comes from.
type attribute struct {
	path    string
	at      location
	boolean bool
	value   func(*Person) string // "" means no value, which is never sent
}

// location is a compiled attribute path.
type location struct {
	urn  string // extension, or ""
	name string
	typ  string // of the element that [type eq ".."] names, or ""
	sub  string
}

// userAttributes is the table of what can be mapped, in the order in which
// PATCH operations are written.
func userAttributes() []attribute {
	table := []attribute{
		{path: "externalId", value: func(p *Person) string { return p.ObjectID }},
		{path: "userName", value: func(p *Person) string { return p.UserName }},
		{path: activePath, boolean: true, value: func(p *Person) string { return wireBool(p.wanted()) }},
		{path: "displayName", value: func(p *Person) string { return p.DisplayName }},
		{path: `emails[type eq "work"].value`, value: func(p *Person) string { return p.Mail }},
		{path: "name.formatted", value: (*Person).formattedName},
		{path: "name.familyName", value: func(p *Person) string { return p.FamilyName }},
		{path: "name.givenName", value: func(p *Person) string { return p.GivenName }},
		{path: `phoneNumbers[type eq "work"].value`, value: func(p *Person) string { return p.Phone }},
		{path: "title", value: func(p *Person) string { return p.Title }},
		{path: enterpriseURN + ":department", value: func(p *Person) string { return p.Department }},
		{path: enterpriseURN + ":employeeNumber", value: func(p *Person) string { return p.EmployeeNumber }},
	}
	for i := range table {
		table[i].at = locate(table[i].path)
	}
	return table
}

// DefaultAttributes returns the paths that are mapped when the configuration
// names none; [Config.Attributes] takes any selection of them.
func DefaultAttributes() []string {
	var paths []string
	for _, a := range userAttributes() {
		paths = append(paths, a.path)
	}
	return append(paths, managerPath)
}

// locate compiles the path forms of the table: a, a.b, a[type eq "t"].b and
// urn:..:a.
func locate(path string) location {
	var l location
	if strings.HasPrefix(path, "urn:") {
		i := strings.LastIndexByte(path, ':')
		l.urn, path = path[:i], path[i+1:]
	}
	if name, rest, ok := strings.Cut(path, `[type eq "`); ok {
		l.name = name
		l.typ, l.sub, _ = strings.Cut(rest, `"].`)
		return l
	}
	l.name, l.sub, _ = strings.Cut(path, ".")
	return l
}

// apart reports whether the RFC dialect gives the attribute an operation of its
// own: value paths cannot be keys of a path-less operation, and Entra writes
// active by its path.
func (a attribute) apart() bool { return a.boolean || a.at.typ != "" }

// wire returns the value as PATCH carries it in the dialect.
func (a attribute) wire(d Dialect, text string) any {
	if a.boolean && d == RFC {
		return text == "True"
	}
	return text
}

func wireBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// resource is a decoded SCIM resource. Names of attributes are compared
// without regard to case (RFC 7643, Section 2.1).
type resource map[string]any

func (r resource) lookup(name string) any {
	if v, ok := r[name]; ok {
		return v
	}
	for k, v := range r {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}

func (r resource) id() string {
	s, _ := r.lookup("id").(string)
	return s
}

// reading is one attribute as a resource shows it.
type reading struct {
	text    string
	present bool   // null is absent (RFC 7643, Section 2.5)
	odd     string // the JSON type is not the attribute's; says which
}

// read finds the attribute in a resource.
func (a attribute) read(r resource) reading {
	if a.at.urn != "" {
		ext, _ := r.lookup(a.at.urn).(map[string]any)
		r = ext
	}
	v := r.lookup(a.at.name)
	if a.at.typ != "" {
		v = element(v, a.at.typ)
	}
	if a.at.sub != "" {
		m, _ := v.(map[string]any)
		v = resource(m).lookup(a.at.sub)
	}
	return a.scalar(v)
}

func (a attribute) scalar(v any) reading {
	switch v := v.(type) {
	case nil:
		return reading{}
	case string:
		if !a.boolean {
			return reading{text: v, present: true}
		}
		text := v
		if strings.EqualFold(v, "true") || strings.EqualFold(v, "false") {
			text = wireBool(strings.EqualFold(v, "true"))
		}
		return reading{text: text, present: true, odd: "as a string"}
	case bool:
		if a.boolean {
			return reading{text: wireBool(v), present: true}
		}
		return reading{text: wireBool(v), present: true, odd: "as a Boolean"}
	case json.Number:
		return reading{text: v.String(), present: true, odd: "as a number"}
	default:
		return reading{present: true, odd: "as an object or an array"}
	}
}

// element returns the first element of a multi-valued attribute with the type.
func element(v any, typ string) any {
	list, _ := v.([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		if s, _ := resource(m).lookup("type").(string); strings.EqualFold(s, typ) {
			return m
		}
	}
	return nil
}

// readManager returns the manager's id in any of the forms in which service
// providers show it: "271", {"value":"271"} and [{"value":"271"}].
func readManager(r resource) string {
	ext, _ := r.lookup(enterpriseURN).(map[string]any)
	v := resource(ext).lookup("manager")
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0]
	}
	if m, ok := v.(map[string]any); ok {
		v = resource(m).lookup("value")
	}
	s, _ := v.(string)
	return s
}

// change is one difference between the mapping and what was read.
type change struct {
	attribute
	text string
	add  bool // the attribute was absent
}

// differences compares a person with the resource that was read. A person who
// is not wanted any more is only disabled; a cleared source attribute is never
// sent.
func (c *Client) differences(p *Person, r resource) []change {
	var changes []change
	for _, a := range c.mapping {
		if p.gone() && !a.boolean {
			continue
		}
		want := a.value(p)
		if want == "" {
			continue
		}
		if got := a.read(r); got.text != want || !got.present {
			changes = append(changes, change{attribute: a, text: want, add: !got.present})
		}
	}
	return changes
}

// deviation says in words how a value that was read differs from the one that
// was sent. It quotes neither: both are personal.
func deviation(sent string, got reading) string {
	switch {
	case !got.present:
		return "absent"
	case got.odd != "":
		return got.odd
	case got.text == sent:
		return ""
	case strings.EqualFold(got.text, sent):
		return "in another letter case"
	case strings.TrimSpace(sent) == strings.TrimSpace(got.text):
		return "with other white space at its ends"
	case got.text != "" && strings.HasPrefix(sent, got.text):
		return "cut short"
	case lettersAndDigits(sent) == lettersAndDigits(got.text):
		return "reformatted"
	}
	return "with another value"
}

func lettersAndDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, s)
}
