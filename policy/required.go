package policy

import (
	"scimgate/transform/scim"
)

// Required keeps what the upstream cannot do without.
var Required = &Rule{
	Name: "required-attributes",
	Doc: "An attribute that the schema or the profile requires must be there and not empty in a create or replace " +
		"(400 invalidValue), and a PATCH may not remove it (400 mutability; RFC 7644, Section 3.5.2.2) or make it " +
		"empty (400 invalidValue).",
	Check: func(req *scim.Request, _ scim.Resource, limits *Limits) []Finding {
		for _, ref := range limits.required {
			w := scim.Write{Ref: ref, Path: ref.String()}
			switch req.Op {
			case scim.OpCreate, scim.OpReplace:
				if v := req.Resource.Get(ref); scim.Empty(v) || v == "" {
					return refuse(w, scim.InvalidValue, w.Path+" is required and must not be empty")
				}
			case scim.OpPatch:
				for _, op := range req.Operations {
					if !op.Target.Ref.Covers(ref) {
						continue
					}
					switch v := valueOf(op, ref); {
					case op.Op == "remove" && op.Path.ValueExpression == nil:
						return refuse(w, scim.Mutability, w.Path+" is required and cannot be removed")
					case op.Op == "replace" && op.Target.Ref == ref && scim.Empty(v), v == "":
						return refuse(w, scim.InvalidValue, w.Path+" is required and must not be empty")
					}
				}
			}
		}
		return nil
	},
}

func (l *Limits) requires() []scim.Ref {
	var refs []scim.Ref
	for _, a := range l.attributes {
		if a.Attribute.Required {
			refs = append(refs, a.target.Ref)
		}
	}
	l.Type.All(func(ref scim.Ref, a *scim.Attribute) bool {
		if a.Required && !a.ReadOnly() && ref.Schema == "" && ref.Name != "schemas" {
			refs = append(refs, ref)
		}
		return true
	})
	return refs
}

// valueOf is what an operation stores for ref; nil when its value does not say.
func valueOf(op scim.PatchOp, ref scim.Ref) any {
	if m, ok := op.Value.(map[string]any); ok && ref.Sub != "" {
		return m[ref.Sub]
	}
	return op.Value
}
