package conformance_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The schemas of the test's own service provider, one attribute a line: name, type, then what differs from
// readWrite, default, caseExact false, uniqueness none. Sub-attributes are indented.

const (
	userURN       = "urn:ietf:params:scim:schemas:core:2.0:User"
	groupURN      = "urn:ietf:params:scim:schemas:core:2.0:Group"
	enterpriseURN = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
	messageURN    = "urn:ietf:params:scim:api:messages:2.0:"
)

const commonAttributes = `
id string readOnly always exact server
externalId string exact
meta complex readOnly
  resourceType string readOnly exact
  created dateTime readOnly
  lastModified dateTime readOnly
  location reference:uri readOnly exact
  version string readOnly exact
`

const userAttributes = `
userName string required server
name complex
  formatted string
  familyName string
  givenName string
  middleName string
  honorificPrefix string
  honorificSuffix string
displayName string
nickName string
profileUrl reference:external
title string
userType string
preferredLanguage string
locale string
timezone string
active boolean
password string writeOnly never
emails complex multi
  value string
  display string
  type string
  primary boolean
phoneNumbers complex multi
  value string
  display string
  type string
  primary boolean
ims complex multi
  value string
  display string
  type string
  primary boolean
photos complex multi
  value reference:external exact
  display string
  type string
  primary boolean
addresses complex multi
  formatted string
  streetAddress string
  locality string
  region string
  postalCode string
  country string
  type string
  primary boolean
groups complex multi readOnly
  value string readOnly
  $ref reference:Group readOnly exact
  display string readOnly
  type string readOnly
entitlements complex multi
  value string
  display string
  type string
  primary boolean
roles complex multi
  value string
  display string
  type string
  primary boolean
x509Certificates complex multi
  value binary exact
  display string
  type string
  primary boolean
`

const enterpriseAttributes = `
employeeNumber string
costCenter string
organization string
division string
department string
manager complex
  value string
  $ref reference:User exact
  displayName string readOnly
`

const groupAttributes = `
displayName string required
members complex multi
  value string immutable
  $ref reference:User,Group immutable exact
  display string readOnly
  type string immutable
`

type attribute struct {
	name, typ                              string
	multi, required, exact                 bool
	mutability, returned, uniqueness, refs string
	subs                                   []*attribute
}

type schema struct {
	id, name string
	attrs    []*attribute
}

// kind is a resource type.
type kind struct {
	name, endpoint string
	common         []*attribute
	core           *schema
	extensions     []*schema
}

func parseAttributes(text string) []*attribute {
	var out []*attribute
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		a := &attribute{name: words[0], mutability: "readWrite", returned: "default", uniqueness: "none"}
		a.typ, a.refs, _ = strings.Cut(words[1], ":")
		for _, w := range words[2:] {
			switch w {
			case "multi":
				a.multi = true
			case "required":
				a.required = true
			case "exact":
				a.exact = true
			case "server":
				a.uniqueness = w
			case "always", "never":
				a.returned = w
			default:
				a.mutability = w
			}
		}
		if strings.HasPrefix(line, " ") {
			out[len(out)-1].subs = append(out[len(out)-1].subs, a)
		} else {
			out = append(out, a)
		}
	}
	return out
}

func find(attrs []*attribute, name string) *attribute {
	for _, a := range attrs {
		if strings.EqualFold(a.name, name) {
			return a
		}
	}
	return nil
}

func (k *kind) extension(urn string) *schema {
	for _, e := range k.extensions {
		if strings.EqualFold(e.id, urn) {
			return e
		}
	}
	return nil
}

func (k *kind) attribute(name string) *attribute {
	if a := find(k.core.attrs, name); a != nil {
		return a
	}
	return find(k.common, name)
}

// describe is the attribute as /Schemas shows it.
func (a *attribute) describe() object {
	out := object{"name": a.name, "type": a.typ, "multiValued": a.multi, "description": "The attribute " + a.name + ".",
		"required": a.required, "mutability": a.mutability, "returned": a.returned}
	if a.typ != "complex" {
		out["caseExact"], out["uniqueness"] = a.exact, a.uniqueness
	}
	if a.refs != "" {
		out["referenceTypes"] = list(strings.Split(a.refs, ","))
	}
	if len(a.subs) > 0 {
		var subs []any
		for _, s := range a.subs {
			subs = append(subs, s.describe())
		}
		out["subAttributes"] = subs
	}
	return out
}

// value is v as the attribute stores it, nil where it is unassigned: RFC 7643, Section 2.5.
func (m *model) value(a *attribute, v any) (any, error) {
	if !a.multi {
		if one, ok := v.([]any); ok && len(one) == 1 && a.typ == "complex" {
			v = one[0] // as Entra sends manager
		}
		return m.single(a, v)
	}
	if v == nil {
		return nil, nil
	}
	all, ok := v.([]any)
	if !ok {
		all = []any{v}
	}
	var out []any
	primaries := 0
	for _, e := range all {
		e, err := m.single(a, e)
		if err != nil {
			return nil, err
		}
		if o, ok := e.(object); ok && o["primary"] == true {
			primaries++
		}
		if e != nil {
			out = append(out, e)
		}
	}
	if primaries > 1 && !m.is("two primary values are stored") {
		return nil, bad("invalidValue", a.name+" has more than one primary value")
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

func (m *model) single(a *attribute, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	wrong := bad("invalidValue", a.name+" is of type "+a.typ)
	s, isString := v.(string)
	switch a.typ {
	case "complex":
		o, ok := v.(object)
		if isString && a.name == "manager" && !m.is("a manager as text is refused") {
			o, ok = object{"value": s}, true
		}
		if !ok && m.is("a text is taken for a complex value") && isString {
			o, ok = object{a.subs[0].name: s, "givenName": s}, true
		}
		if !ok {
			return nil, wrong
		}
		return m.complex(a, o)
	case "boolean":
		if isString && (strings.EqualFold(s, "true") || strings.EqualFold(s, "false")) && !m.is("a boolean as text is refused") {
			return strings.EqualFold(s, "true") || m.is(`"False" is read as true`), nil
		}
		if _, ok := v.(bool); !ok && !(m.is("types are not checked")) {
			return nil, wrong
		}
		return v, nil
	}
	if !isString {
		if m.is("types are not checked") {
			return fmt.Sprint(v), nil
		}
		return nil, wrong
	}
	if a.typ == "dateTime" {
		if _, err := time.Parse(time.RFC3339, s); err != nil {
			return nil, wrong
		}
	}
	if a.typ == "binary" && !m.is("types are not checked") {
		if _, err := base64.StdEncoding.DecodeString(s); err != nil {
			return nil, wrong
		}
	}
	if m.is("values are stored in lower case") && !strings.HasPrefix(a.name, "$") {
		s = strings.ToLower(s)
	}
	return s, nil
}

func (m *model) complex(a *attribute, o object) (any, error) {
	out := object{}
	for name, v := range o {
		sub := find(a.subs, name)
		if sub == nil || sub.mutability == "readOnly" && !m.is("read-only sub-attributes are stored") {
			continue
		}
		v, err := m.value(sub, v)
		if err != nil {
			return nil, err
		}
		if v != nil && (v != "" || a.name != "manager") {
			out[sub.name] = v
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// resource reads a representation for POST and PUT: read-only attributes and unknown names fall away.
func (m *model) resource(k *kind, in object) (object, error) {
	if err := m.schemas(k, in); err != nil {
		return nil, err
	}
	out := object{}
	for name, v := range in {
		if e := k.extension(name); e != nil {
			members, _ := v.(object)
			ext := object{}
			for name, v := range members {
				if err := m.assign(ext, find(e.attrs, name), v); err != nil {
					return nil, err
				}
			}
			if len(ext) > 0 && !m.is("the extension is not stored") {
				out[e.id] = ext
			}
			continue
		}
		a := k.attribute(name)
		if a == nil {
			m.loose(k, out, name, v)
			continue
		}
		if a.mutability == "readOnly" && !(a.name == "id" && m.is("the client chooses the id")) {
			continue
		}
		if err := m.assign(out, a, v); err != nil {
			return nil, err
		}
	}
	for _, a := range k.core.attrs {
		if s, isString := out[a.name].(string); a.required && (out[a.name] == nil || isString && strings.TrimSpace(s) == "") &&
			!m.is("required attributes are not required") {
			return nil, bad("invalidValue", a.name+" is required")
		}
	}
	return out, nil
}

// loose places an extension's attribute that stands beside the core ones, as Entra may send it.
func (m *model) loose(k *kind, out object, name string, v any) {
	for _, e := range k.extensions {
		if a := find(e.attrs, name); a != nil && !m.is("flat extension attributes are lost") {
			ext, _ := out[e.id].(object)
			if ext == nil {
				ext = object{}
			}
			if m.assign(ext, a, v) == nil && len(ext) > 0 {
				out[e.id] = ext
			}
		}
	}
}

func (m *model) assign(o object, a *attribute, v any) error {
	if a == nil {
		return nil
	}
	v, err := m.value(a, v)
	if err != nil {
		return err
	}
	if v == nil {
		delete(o, a.name)
	} else {
		o[a.name] = v
	}
	return nil
}

func (m *model) schemas(k *kind, in object) error {
	if m.is("schemas is not checked") || m.is("schemas is the client's") {
		return nil
	}
	urns, _ := in["schemas"].([]any)
	core := false
	for _, u := range urns {
		s, _ := u.(string)
		core = core || strings.EqualFold(s, k.core.id)
		if !strings.EqualFold(s, k.core.id) && k.extension(s) == nil && !m.is("schemas has what is no schema") {
			return bad("invalidValue", "schemas lists what is not a schema of this resource type")
		}
	}
	if !core {
		return bad("invalidSyntax", "schemas does not list "+k.core.id)
	}
	return nil
}

func list[T any](of []T) []any {
	out := make([]any, 0, len(of))
	for _, v := range of {
		out = append(out, v)
	}
	return out
}

// clone is a deep copy.
func clone[T any](v T) T {
	text, _ := json.Marshal(v)
	var out T
	_ = json.Unmarshal(text, &out)
	return out
}
