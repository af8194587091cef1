package conformance_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// whole is the resource with everything in it, also what is never returned.
func (m *model) whole(c *call, it *item) object {
	o := clone(it.attrs)
	schemas := []string{it.kind.core.id}
	for _, e := range it.kind.extensions {
		if o[e.id] != nil && !m.is("schemas does not list extensions") {
			schemas = append(schemas, e.id)
		}
		if m.is("extensions stand beside the core") {
			if ext, ok := o[e.id].(object); ok {
				for name, v := range ext {
					o[name] = v
				}
				delete(o, e.id)
			}
		}
	}
	switch {
	case m.is("schemas is empty"):
		schemas = nil
	case m.is("schemas has duplicates"):
		schemas = append(schemas, schemas...)
	case m.is("schemas is the client's") && o["schemas"] != nil:
		schemas = nil
		for _, s := range o["schemas"].([]any) {
			schemas = append(schemas, s.(string))
		}
	case m.is("schemas has what is no schema"):
		schemas = append(schemas, "urn:example:params:scim:schemas:unheard-of:2.0:User")
	}
	o["schemas"], o["id"] = list(schemas), m.id(it)
	meta := object{"resourceType": it.kind.name, "created": m.time(it.created), "lastModified": m.time(it.modified),
		"location": m.location(c, it), "version": m.version(it)}
	if client, ok := o["meta"].(object); ok {
		for name, v := range client {
			meta[name] = v
		}
	}
	if m.is("meta has no version") {
		delete(meta, "version")
	}
	m.takeLiberties(it, o)
	m.spoil(it, o, meta)
	o["meta"] = meta
	if it.kind.name == "User" && o["groups"] == nil {
		var groups []any
		for _, g := range m.items {
			members, _ := g.attrs["members"].([]any)
			if slices.ContainsFunc(members, func(e any) bool { return e.(object)["value"] == it.id }) {
				id := g.id
				if m.is("groups holds names") {
					id, _ = g.attrs["displayName"].(string)
				}
				groups = append(groups, object{"value": id, "$ref": c.base + "/Groups/" + g.id, "display": g.attrs["displayName"]})
			}
		}
		if groups != nil {
			o["groups"] = groups
		}
	}
	return o
}

// spoil applies the faults that concern what a representation holds.
func (m *model) spoil(it *item, o, meta object) {
	switch {
	case m.is("meta is missing"):
		clear(meta)
	case m.is("lastModified is missing"):
		delete(meta, "lastModified")
	case m.is("lastModified of a new resource is later"):
		meta["lastModified"] = m.time(it.modified + 1)
	case m.is("created moves"):
		meta["created"] = meta["lastModified"]
	case m.is("resourceType is wrong"):
		meta["resourceType"] = "Thing"
	case m.is("version is not the header's"):
		meta["version"] = `W/"other"`
	case m.is("the id is missing"):
		delete(o, "id")
	case m.is("the id is empty"):
		o["id"] = ""
	case m.is("an externalId is made up"):
		o["externalId"] = cmp.Or(fmt.Sprint(o["externalId"]), it.id)
	case m.is("null is returned as a text"):
		for _, a := range it.kind.core.attrs {
			if o[a.name] == nil && a.returned != "never" && a.typ == "string" {
				o[a.name] = "null"
			}
		}
	case m.is("externalId is lost"):
		delete(o, "externalId")
	case m.is("userName is missing"):
		delete(o, "userName")
	case m.is("Booleans are text"):
		if b, ok := o["active"].(bool); ok {
			o["active"] = fmt.Sprint(b)
		}
	case m.is("inactive users are hidden"):
		if o["active"] == false {
			clear(o)
		}
	case m.is("characters outside ASCII are lost"):
		ascii(o)
	case m.is("references lose their query"):
		s, _ := o["profileUrl"].(string)
		o["profileUrl"], _, _ = strings.Cut(s, "?")
	case m.is("the family name is lost"):
		if name, ok := o["name"].(object); ok {
			delete(name, "familyName")
		}
	case m.is("values of multi-valued attributes are cut short"):
		cut(o)
	case m.is("only one value is kept"):
		for name, v := range o {
			if all, ok := v.([]any); ok && len(all) > 1 && name != "schemas" {
				o[name] = all[:1]
			}
		}
	}
	if members, ok := o["members"].([]any); ok && m.is("$ref leads elsewhere") {
		for _, e := range members {
			e.(object)["$ref"] = "not a reference at all:"
		}
	}
}

// cut takes the first characters of what multi-valued attributes hold.
func cut(o object) {
	for _, v := range o {
		all, _ := v.([]any)
		for _, e := range all {
			e, _ := e.(object)
			for name, v := range e {
				if s, ok := v.(string); ok && name != "type" && len(s) > 1 {
					e[name] = s[:len(s)-1]
				}
			}
		}
	}
}

// ascii takes away what is not ASCII.
func ascii(v any) {
	if o, ok := v.(object); ok {
		for name, v := range o {
			if s, ok := v.(string); ok {
				o[name] = strings.Map(func(r rune) rune {
					if r > 126 {
						return '?'
					}
					return r
				}, s)
			}
			ascii(v)
		}
	}
}
