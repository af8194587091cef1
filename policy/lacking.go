package policy

import (
	"slices"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// Lacking decides about attributes that the upstream does not have.
var Lacking = &Rule{
	Name: "upstream-lacks",
	Doc: "An attribute that the schema has and the upstream lacks is, as the profile or the configuration says, " +
		"refused (400 invalidValue), dropped (the trail names it and the client does not get it back) or kept (the " +
		"gateway holds it and shows it, the trail says so). externalId is kept wherever the upstream lacks it; what is " +
		"never shown, such as password, is dropped where it would be kept. A PATCH path that picks an element by " +
		"something the upstream lacks is refused with 400 invalidPath.",
	Check: func(req *Request, _ scim.Resource, limits *Limits) []Finding {
		for _, op := range req.Operations {
			if ref, ok := limits.picksBy(op); !ok {
				w := scim.Write{Ref: op.Target.Ref, Path: op.Target.Ref.String()}
				return refuse(w, scim.InvalidPath, "the value filter behind "+op.Target.Ref.Parent().String()+" compares "+ref.String()+
					", which the upstream lacks: it could not tell which value is meant")
			}
		}
		var out []Finding
		for _, w := range req.Values {
			t, ok := req.Type.Lookup(w.Ref)
			if !w.Known || !ok || t.Leaf().ReadOnly() || t.Attribute.ReadOnly() {
				continue
			}
			if !limits.hasRoom(w.Ref) {
				out = append(out, Finding{Verdict: Drop, Ref: w.Ref, Path: w.Path, Reason: "the upstream takes the plain value and nothing beside it"})
				continue
			}
			if limits.Stored.Has(w) {
				continue
			}
			handling := limits.handling(w)
			switch {
			case w.Ref == scim.Ref{Name: "externalId"}:
				handling = profile.HandlingKeep
			case handling == profile.HandlingKeep && t.Leaf().Returned == "never":
				handling = profile.HandlingDrop
			}
			switch handling {
			case profile.HandlingKeep:
				out = append(out, Finding{Verdict: Keep, Ref: w.Ref, Path: w.Path, Reason: "the upstream lacks it: held by the gateway"})
			case profile.HandlingDrop:
				out = append(out, Finding{Verdict: Drop, Ref: w.Ref, Path: w.Path, Reason: "the upstream lacks it"})
			default:
				return refuse(w, scim.InvalidValue, w.Path+" cannot be stored: the upstream has no such attribute. "+
					"Take it out of the mapping, or set unlisted to drop or keep for this connection")
			}
		}
		return once(out)
	},
}

// handling is what happens to what w would store, which the upstream lacks.
func (l *Limits) handling(w scim.Write) profile.Handling {
	for _, a := range l.about[w.Ref.Parent()] {
		if a.Handling != "" && a.target.Ref.Covers(w.Ref) && (a.filter == nil || w.Element != nil && picks(l.Type, a.target, a.filter, w.Element)) {
			return a.Handling
		}
	}
	return l.Unlisted
}

func (l *Limits) hasRoom(ref scim.Ref) bool {
	for _, a := range l.about[ref.Parent()] {
		if a.target.Ref.Covers(ref) && !a.hasRoom(ref) {
			return false
		}
	}
	return true
}

// picksBy reports whether the upstream has all that the value filter of a path compares, where it has what the path
// leads to; if not, what it lacks.
func (l *Limits) picksBy(op scim.PatchOp) (lacks scim.Ref, ok bool) {
	ref := op.Target.Ref
	if op.Target.Attribute == nil || op.Path.ValueExpression == nil || !l.Stored.Touches(ref) || l.Stored.Whole(ref.Parent()) {
		return scim.Ref{}, true
	}
	compared, err := l.Type.Attributes(&scim.ValuePath{AttributePath: op.Path.AttributePath, ValueFilter: op.Path.ValueExpression})
	if err != nil {
		return ref, false
	}
	i := slices.IndexFunc(compared, func(r scim.Ref) bool { return !l.Stored.Touches(r) })
	if i < 0 {
		return scim.Ref{}, true
	}
	return compared[i], false
}
