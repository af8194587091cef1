package policy

import (
	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// Lacking decides about attributes that the upstream does not have.
var Lacking = &Rule{
	Name: "upstream-lacks",
	Doc: "An attribute that the schema has and the upstream lacks is, as the profile or the configuration says, " +
		"refused (400 invalidValue), dropped (the trail names it and the client does not get it back) or kept (the " +
		"gateway holds it and shows it, the trail says so). externalId is kept wherever the upstream lacks it.",
	Check: func(req *scim.Request, _ scim.Resource, limits *Limits) []Finding {
		var out []Finding
		for w := range req.Writes() {
			if t, ok := req.Type.Lookup(w.Ref); !w.Known || !ok || t.Leaf().ReadOnly() || t.Attribute.ReadOnly() || limits.Stored.Has(w) {
				continue
			}
			f := Finding{Ref: w.Ref, Path: w.Path}
			switch handling := limits.handling(w); {
			case handling == profile.HandlingKeep || w.Ref == scim.Ref{Name: "externalId"}:
				f.Verdict, f.Reason = Keep, "the upstream lacks it: held by the gateway"
			case handling == profile.HandlingDrop:
				f.Verdict, f.Reason = Drop, "the upstream lacks it"
			default:
				return refuse(w, scim.InvalidValue, w.Path+" cannot be stored: the upstream has no such attribute. "+
					"Take it out of the mapping, or set unlisted to drop or keep for this connection")
			}
			out = append(out, f)
		}
		return once(out)
	},
}
