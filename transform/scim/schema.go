package scim

import (
	"slices"
	"strings"

	"github.com/elimity-com/scim/schema"
)

// Kind is the data type of an attribute (RFC 7643, Section 2.3).
type Kind string

// The data types.
const (
	String    Kind = "string"
	Boolean   Kind = "boolean"
	Decimal   Kind = "decimal"
	Integer   Kind = "integer"
	DateTime  Kind = "dateTime"
	Binary    Kind = "binary"
	Reference Kind = "reference"
	Complex   Kind = "complex"
)

// Attribute is the definition of one attribute or sub-attribute (RFC 7643, Section 7). It is not changed after
// it was made.
type Attribute struct {
	Name        string
	Description string
	Kind        Kind
	MultiValued bool
	Required    bool
	CaseExact   bool
	Mutability  string // readOnly, readWrite, immutable, writeOnly
	Returned    string // always, never, default, request
	Uniqueness  string // none, server, global
	Canonical   []string
	References  []string // referenceTypes
	Sub         []*Attribute

	leaf schema.CoreAttribute // validates one value
	path string               // String of its Ref, made once
}

// pathOf is the attribute's path as text; ref stands in where no schema has the attribute.
func (a *Attribute) pathOf(ref Ref) string {
	if a == nil {
		return ref.String()
	}
	return a.path
}

// ReadOnly reports whether clients may not set the attribute.
func (a *Attribute) ReadOnly() bool { return a.Mutability == "readOnly" }

// SubAttribute finds a sub-attribute by name in any case; nil when there is none.
func (a *Attribute) SubAttribute(name string) *Attribute { return find(a.Sub, name) }

// Schema is a named set of attributes (RFC 7643, Section 7).
type Schema struct {
	ID          string // URN
	Name        string
	Description string
	Attributes  []*Attribute
}

// Attribute finds an attribute by name in any case; nil when there is none.
func (s *Schema) Attribute(name string) *Attribute { return find(s.Attributes, name) }

// ResourceType is a kind of resource and where it lives (RFC 7643, Section 6).
type ResourceType struct {
	Name       string // "User"
	Endpoint   string // "/Users"
	Core       *Schema
	Extensions []*Schema

	common []*Attribute // schemas, id, externalId, meta
}

// Ref is a resolved attribute path: it names an attribute of a resource type, or one of its sub-attributes, in
// the schema's spelling. Refs are comparable.
type Ref struct {
	Schema string // URN of the extension; "" for core and common attributes
	Name   string
	Sub    string // "" for the whole attribute
}

// String gives the attribute path: "userName", "name.givenName", "urn:...:User:manager.value".
func (r Ref) String() string {
	var b strings.Builder
	if r.Schema != "" {
		b.WriteString(r.Schema)
		b.WriteByte(':')
	}
	b.WriteString(r.Name)
	if r.Sub != "" {
		b.WriteByte('.')
		b.WriteString(r.Sub)
	}
	return b.String()
}

// Parent is the attribute of a sub-attribute, and the Ref itself otherwise.
func (r Ref) Parent() Ref { r.Sub = ""; return r }

// Covers reports whether r is other, or the attribute that other is a sub-attribute of.
func (r Ref) Covers(other Ref) bool { return r == other || r == other.Parent() }

// Target is what an attribute path leads to.
type Target struct {
	Ref       Ref
	Attribute *Attribute // the attribute
	Sub       *Attribute // the sub-attribute; nil for the whole attribute
}

// Leaf is the definition of what the path names: the sub-attribute where there is one.
func (t Target) Leaf() *Attribute {
	if t.Sub != nil {
		return t.Sub
	}
	return t.Attribute
}

// UserType makes the User resource type of RFC 7643, Section 4.1, with the Enterprise extension of Section 4.3.
func UserType() *ResourceType {
	return newResourceType("User", "/Users", schema.CoreUserSchema(), schema.ExtensionEnterpriseUser())
}

// GroupType makes the Group resource type of RFC 7643, Section 4.2.
func GroupType() *ResourceType {
	return newResourceType("Group", "/Groups", schema.CoreGroupSchema())
}

func newResourceType(name, endpoint string, core schema.Schema, extensions ...schema.Schema) *ResourceType {
	rt := &ResourceType{Name: name, Endpoint: endpoint, Core: compileSchema(core, true), common: commonAttributes()}
	for _, e := range extensions {
		rt.Extensions = append(rt.Extensions, compileSchema(e, false))
	}
	return rt
}

// corrections are made where the library's definitions differ from the documents of RFC 7643, Section 8.7.1, as verified
// errata have them. These references compare in any case there, whatever Section 2.3.7 says of references; photos and
// binary values are exact.
var corrections = []struct {
	schema, name, sub string
	correct           func(*Attribute)
}{
	{SchemaUser, "profileUrl", "", inAnyCase},
	{SchemaUser, "groups", "$ref", inAnyCase},
	{SchemaUser, "groups", "$ref", func(a *Attribute) { a.References = []string{"Group"} }}, // erratum 8471
	{SchemaGroup, "members", "$ref", inAnyCase},
	{SchemaEnterpriseUser, "manager", "$ref", inAnyCase},
	{SchemaEnterpriseUser, "manager", "value", func(a *Attribute) { a.CaseExact = true }}, // erratum 8472: it is an id
}

func inAnyCase(a *Attribute) { a.CaseExact = false }

// schemaNames are those of Section 8.7.1, where the library's differ.
var schemaNames = map[string]string{SchemaEnterpriseUser: "EnterpriseUser"}

// Resolve finds what an attribute path names (RFC 7644, Section 3.10). Names match in any case. An unqualified
// name means the core schema or a common attribute, and otherwise the one extension that has it, because Entra
// sends `manager` for the Enterprise extension's attribute. A path on a simple attribute may end in .value,
// which means the attribute itself. ok is false when nothing has that name.
func (rt *ResourceType) Resolve(p AttributePath) (t Target, ok bool) {
	return rt.Lookup(Ref{Schema: p.URI(), Name: p.AttributeName, Sub: p.SubAttributeName()})
}

// Lookup is Resolve for a Ref, which may be made by hand or read from a profile.
func (rt *ResourceType) Lookup(r Ref) (t Target, ok bool) {
	urn, name, sub := r.Schema, r.Name, r.Sub
	switch {
	case urn == "":
		if t.Attribute = rt.coreAttribute(name); t.Attribute == nil {
			for _, e := range rt.Extensions {
				if a := e.Attribute(name); a != nil {
					t.Attribute, t.Ref.Schema = a, e.ID
					break
				}
			}
		}
	case strings.EqualFold(urn, rt.Core.ID):
		t.Attribute = rt.coreAttribute(name)
	default:
		if e := rt.Extension(urn); e != nil {
			t.Attribute, t.Ref.Schema = e.Attribute(name), e.ID
		}
	}
	if t.Attribute == nil {
		return Target{}, false
	}
	t.Ref.Name = t.Attribute.Name
	if sub == "" {
		return t, true
	}
	if t.Sub = t.Attribute.SubAttribute(sub); t.Sub != nil {
		t.Ref.Sub = t.Sub.Name
		return t, true
	}
	if t.Attribute.Kind != Complex && strings.EqualFold(sub, "value") {
		return t, true
	}
	return Target{}, false
}

// Extension finds a schema extension by its URN in any case; nil when the type has no such extension.
func (rt *ResourceType) Extension(urn string) *Schema {
	if !strings.Contains(urn, ":") {
		return nil
	}
	for _, e := range rt.Extensions {
		if strings.EqualFold(e.ID, urn) {
			return e
		}
	}
	return nil
}

func (rt *ResourceType) coreAttribute(name string) *Attribute {
	for _, a := range rt.common { // most have the schema's spelling: then nothing need be folded
		if a.Name == name {
			return a
		}
	}
	if a := rt.Core.Attribute(name); a != nil {
		return a
	}
	return find(rt.common, name)
}

// All calls yield for every attribute of the type, common and core first, then each extension, with its Ref.
func (rt *ResourceType) All(yield func(Ref, *Attribute) bool) {
	for _, list := range [][]*Attribute{rt.common, rt.Core.Attributes} {
		for _, a := range list {
			if !yield(Ref{Name: a.Name}, a) {
				return
			}
		}
	}
	for _, e := range rt.Extensions {
		for _, a := range e.Attributes {
			if !yield(Ref{Schema: e.ID, Name: a.Name}, a) {
				return
			}
		}
	}
}

func find(list []*Attribute, name string) *Attribute {
	for _, a := range list {
		if a.Name == name {
			return a
		}
	}
	for _, a := range list {
		if strings.EqualFold(a.Name, name) {
			return a
		}
	}
	return nil
}

func compileSchema(s schema.Schema, core bool) *Schema {
	out := &Schema{
		ID: s.ID, Name: s.Name.Value(), Description: s.Description.Value(),
		Attributes: make([]*Attribute, 0, len(s.Attributes)),
	}
	if name, ok := schemaNames[s.ID]; ok {
		out.Name = name
	}
	prefix := s.ID + ":"
	if core {
		prefix = ""
	}
	for _, a := range s.Attributes {
		out.Attributes = append(out.Attributes, compileAttribute(a, prefix))
	}
	for _, c := range corrections {
		if c.schema != s.ID {
			continue
		}
		a := out.Attribute(c.name)
		if c.sub != "" {
			a = a.SubAttribute(c.sub)
		}
		c.correct(a)
	}
	return out
}

// compileAttribute makes an attribute; what stands before its name in its path is prefix.
func compileAttribute(c schema.CoreAttribute, prefix string) *Attribute {
	a := &Attribute{
		path: prefix + c.Name(), Name: c.Name(), Description: c.Description(), Kind: Kind(c.AttributeType()), MultiValued: c.MultiValued(),
		Required: c.Required(), CaseExact: c.CaseExact(), Mutability: c.Mutability(), Returned: c.Returned(),
		Uniqueness: c.Uniqueness(), Canonical: slices.Clone(c.CanonicalValues()), leaf: c,
	}
	for _, r := range c.ReferenceTypes() {
		a.References = append(a.References, string(r))
	}
	for _, sub := range c.SubAttributes() {
		a.Sub = append(a.Sub, compileAttribute(sub, a.path+"."))
	}
	return a
}

// commonAttributes are schemas, id, externalId and meta (RFC 7643, Section 3.1).
func commonAttributes() []*Attribute {
	var list []*Attribute
	for _, a := range schema.CommonAttributes() {
		list = append(list, compileAttribute(a, ""))
	}
	return list
}
