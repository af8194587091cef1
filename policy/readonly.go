package policy

import (
	"scimgate/transform/scim"
)

// ReadOnly keeps clients from setting what is the service provider's.
var ReadOnly = &Rule{
	Name: "read-only",
	Doc: "Attributes that the schema defines as readOnly, such as id, meta and groups, are left out of a create or " +
		"replace (RFC 7644, Sections 3.3 and 3.5.1). A PATCH operation on one is refused with 400 mutability " +
		"(Section 3.5.2).",
	Check: func(req *Request, _ scim.Resource, limits *Limits) []Finding {
		for _, op := range req.Operations {
			if t := op.Target; t.Attribute != nil && (t.Attribute.ReadOnly() || t.Leaf().ReadOnly()) {
				w := scim.Write{Ref: t.Ref, Path: t.Ref.String()}
				return refuse(w, scim.Mutability, w.Path+" is read-only: it is the service provider's to set")
			}
		}
		var out []Finding
		for _, w := range req.Values {
			// A read-only sub-attribute inside an object, such as manager.displayName, is left out in a PATCH too.
			if t, ok := req.Type.Lookup(w.Ref); ok && (t.Attribute.ReadOnly() || t.Leaf().ReadOnly()) {
				out = append(out, Finding{Verdict: Drop, Ref: w.Ref, Path: w.Path, Reason: "read-only: the service provider sets it"})
			}
		}
		return once(out)
	},
}

// once leaves out findings that say the same of the same attribute.
func once(list []Finding) []Finding {
	if len(list) < 2 {
		return list
	}
	type key struct {
		verdict Verdict
		ref     scim.Ref
		path    string
	}
	seen := map[key]bool{}
	out := list[:0]
	for _, f := range list {
		k := key{f.Verdict, f.Ref, f.Path}
		if !seen[k] {
			seen[k] = true
			out = append(out, f)
		}
	}
	return out
}
