package entra

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// object is a JSON object whose members keep their order, so that bodies are
// the same bytes every time.
type object []member

type member struct {
	name  string
	value any
}

func (o object) get(name string) any {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

func (o *object) set(name string, value any) {
	for i := range *o {
		if (*o)[i].name == name {
			(*o)[i].value = value
			return
		}
	}
	*o = append(*o, member{name, value})
}

// MarshalJSON writes the members in order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(encode(m.name))
		b.WriteByte(':')
		b.Write(encode(m.value))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// encode writes JSON as Entra does: no white space, and & < > as they are.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("entra: value of type %T cannot be written as JSON: %v", v, err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// createOrder is the order of the members of a create; what is not listed
// comes last.
var createOrder = [...]string{
	"schemas", "externalId", "userName", "active", "displayName", "emails", "meta", "name", "phoneNumbers", "roles", "title",
}

// userBody is the create of a person. managerID is the manager's id for
// Variants.ManagerInCreate, or "".
func (c *Client) userBody(p *Person, managerID string) []byte {
	v := c.cfg.Variants
	schemas := []string{userURN, enterpriseURN}
	if v.ExtensionUnlisted {
		schemas = schemas[:1]
	}
	o := object{{"schemas", schemas}}
	for _, a := range c.mapping {
		text := a.value(p)
		switch {
		case text == "" && !v.NullAttributes:
		case a.at.typ != "" && v.ValuePathsAfterCreate:
		case text == "":
			o.place(a.at, nil, v.FlatEnterprise)
		case a.boolean:
			o.place(a.at, text == "True", false)
		default:
			o.place(a.at, text, v.FlatEnterprise)
		}
	}
	if managerID != "" {
		o.place(locate(managerPath), managerID, v.FlatEnterprise)
	}
	o.set("meta", object{{"resourceType", "User"}})
	o.set("roles", roles(v.RolesPrimaryString))
	slices.SortStableFunc(o, func(a, b member) int { return rank(a.name) - rank(b.name) })
	return encode(o)
}

func rank(name string) int {
	if i := slices.Index(createOrder[:], name); i >= 0 {
		return i
	}
	return len(createOrder)
}

func roles(primaryString bool) []any {
	if !primaryString {
		return []any{}
	}
	return []any{object{{"primary", "True"}, {"type", "WindowsAzureActiveDirectoryRole"}, {"value", "User"}}}
}

// place puts a value where the location says. A multi-valued attribute without
// a value is null as a whole.
func (o *object) place(at location, value any, flat bool) {
	if at.urn != "" && !flat {
		ext, _ := o.get(at.urn).(object)
		ext.set(at.name, value)
		o.set(at.urn, ext)
		return
	}
	switch {
	case at.typ != "" && value != nil:
		o.set(at.name, []any{object{{"primary", true}, {"type", at.typ}, {at.sub, value}}})
	case at.typ != "" || at.sub == "":
		o.set(at.name, value)
	default:
		parent, _ := o.get(at.name).(object)
		parent.set(at.sub, value)
		o.set(at.name, parent)
	}
}

// groupBody is the create of a group. Members follow by PATCH.
func (c *Client) groupBody(g *Group) []byte {
	schemas := []string{groupURN}
	if c.cfg.Variants.GroupADSCIM {
		schemas = append(schemas, adscimURN)
	}
	return encode(object{
		{"schemas", schemas}, {"externalId", g.ObjectID}, {"displayName", g.DisplayName},
		{"meta", object{{"resourceType", "Group"}}},
	})
}

// verb is the name of an operation in the dialect.
func verb(d Dialect, legacy, rfc string) string {
	if d == RFC {
		return rfc
	}
	return legacy
}

func operation(op, path string, value any) object {
	o := object{{"op", op}}
	if path != "" {
		o.set("path", path)
	}
	if value != nil {
		o.set("value", value)
	}
	return o
}

func patchBody(operations []object) []byte {
	return encode(object{{"schemas", []string{patchURN}}, {"Operations", operations}})
}

// changesBody is the PATCH of a user's differences. Legacy has an operation
// for each; RFC keeps value paths and active apart and gathers the rest in one
// path-less operation for each verb.
func changesBody(d Dialect, changes []change) []byte {
	var operations []object
	var replaced, added object
	for _, ch := range changes {
		op := verb(d, "Replace", "replace")
		if ch.add {
			op = verb(d, "Add", "add")
		}
		switch value := ch.wire(d, ch.text); {
		case d == Legacy || ch.apart():
			operations = append(operations, operation(op, ch.path, value))
		case ch.add:
			added.set(ch.path, value)
		default:
			replaced.set(ch.path, value)
		}
	}
	if replaced != nil {
		operations = append(operations, operation("replace", "", replaced))
	}
	if added != nil {
		operations = append(operations, operation("add", "", added))
	}
	return patchBody(operations)
}

// managerBody is the PATCH that sets the manager to an id at the service
// provider, or unsets it when id is "". ref is the manager's location.
func (c *Client) managerBody(d Dialect, id, ref string, add bool) []byte {
	v := c.cfg.Variants
	var value any
	switch {
	case id == "" && v.ManagerUnset == UnsetObject:
		value = object{{"value", ""}}
	case id == "":
		value = ""
	case v.ManagerArray:
		value = []any{object{{"$ref", ref}, {"value", id}}}
	default:
		value = id
	}
	path := managerPath
	if v.ManagerShortPath {
		path = "manager"
	}
	op := verb(d, "Replace", "replace")
	if add {
		op = verb(d, "Add", "add")
	}
	if d == RFC {
		return patchBody([]object{operation(op, "", object{{path, value}})})
	}
	return patchBody([]object{operation(op, path, value)})
}

// membersBody is the PATCH that adds and removes members of a group, by their
// ids at the service provider. Legacy names the members to remove in the value,
// where RFC 7644, Section 3.5.2.2 has a value filter in the path; RFC removes
// them one operation each.
func membersBody(d Dialect, added, removed []string) []byte {
	var operations []object
	if len(added) > 0 {
		operations = append(operations, operation(verb(d, "Add", "add"), "members", memberList(added)))
	}
	if d == Legacy && len(removed) > 0 {
		operations = append(operations, operation("Remove", "members", memberList(removed)))
	}
	if d == RFC {
		for _, id := range removed {
			operations = append(operations, operation("remove", "members[value eq "+quote(id)+"]", nil))
		}
	}
	return patchBody(operations)
}

func memberList(ids []string) []object {
	list := make([]object, 0, len(ids))
	for _, id := range ids {
		list = append(list, object{{"value", id}})
	}
	return list
}

// quote writes a filter's string value, which is a JSON string (RFC 7644,
// Section 3.4.2.2).
func quote(s string) string { return string(encode(s)) }
