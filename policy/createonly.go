package policy

import (
	"scimgate/transform/scim"
)

// CreateOnly keeps what cannot change after create.
var CreateOnly = &Rule{
	Name: "create-only",
	Doc: "An attribute that the profile marks createOnly may be set by create and when it has no value yet; " +
		"a replace or PATCH that would change it is refused with 400 mutability. Writing the value it has is allowed. " +
		"To know, the gateway reads the resource first, only when a request touches such an attribute.",
	NeedsCurrent: func(req *scim.Request, limits *Limits) bool {
		if req.Op != scim.OpPatch && req.Op != scim.OpReplace {
			return false
		}
		for w := range req.Writes() {
			if limits.createOnly(w) {
				return true
			}
		}
		return false
	},
	Check: func(req *scim.Request, current scim.Resource, limits *Limits) []Finding {
		if current == nil {
			return nil
		}
		for w := range req.Writes() {
			if !limits.createOnly(w) {
				continue
			}
			if has := current.Get(w.Ref); has != nil && !equal(has, w.Value) {
				return refuse(w, scim.Mutability, w.Path+" cannot change once it is set: the upstream refuses it")
			}
		}
		return nil
	},
}

func (l *Limits) createOnly(w scim.Write) bool {
	found := false
	l.of(w, func(a limit) { found = found || a.Attribute.CreateOnly })
	return found
}

func equal(a, b any) bool {
	return string(scim.AppendJSON(nil, a)) == string(scim.AppendJSON(nil, b))
}
