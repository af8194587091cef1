package policy

import (
	"slices"

	"scimgate/transform/scim"
)

// ReadOnly keeps clients from setting what is the service provider's.
var ReadOnly = &Rule{
	Name: "read-only",
	Doc: "Attributes that the schema defines as readOnly, such as id, meta and groups, are left out of a create or " +
		"replace (RFC 7644, Sections 3.3 and 3.5.1). A PATCH operation on one is refused with 400 mutability " +
		"(Section 3.5.2).",
	Check: func(req *Request, _ scim.Resource, limits *Limits) []Finding {
		var out []Finding
		for _, w := range req.Values {
			t, ok := req.Type.Lookup(w.Ref)
			if !ok || !t.Leaf().ReadOnly() && !t.Attribute.ReadOnly() {
				continue
			}
			if req.Op == scim.OpPatch && (t.Attribute.ReadOnly() || names(req, w.Ref)) {
				return refuse(w, scim.Mutability, w.Path+" is read-only: it is the service provider's to set")
			}
			out = append(out, Finding{Verdict: Drop, Ref: w.Ref, Path: w.Path, Reason: "read-only: the service provider sets it"})
		}
		return once(out)
	},
}

// names reports whether a path names the attribute: a read-only sub-attribute inside an object, such as
// manager.displayName, is left out rather than refused.
func names(req *Request, ref scim.Ref) bool {
	return slices.ContainsFunc(req.Operations, func(op scim.PatchOp) bool { return op.Target.Ref == ref })
}

// once leaves out findings that say the same of the same attribute.
func once(list []Finding) []Finding {
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
