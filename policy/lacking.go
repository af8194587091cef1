package policy

import (
	"strings"

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
		"something else than the upstream knows it by is refused with 400 invalidPath.",
	Check: func(req *Request, _ scim.Resource, limits *Limits) []Finding {
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
			if name := limits.undecided(w); name != "" {
				return refuse(w, scim.InvalidPath, w.Path+" does not say which value the upstream is to change: pick it by "+name)
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
	for _, a := range l.attributes {
		if a.Handling != "" && a.target.Ref.Covers(w.Ref) && (a.filter == nil || w.Element != nil && a.picks(l.Type, w)) {
			return a.Handling
		}
	}
	return l.Unlisted
}

func (l *Limits) hasRoom(ref scim.Ref) bool {
	for _, a := range l.attributes {
		if a.target.Ref.Covers(ref) && !a.hasRoom(ref) {
			return false
		}
	}
	return true
}

// undecided is the name of what a PATCH path would have to pick an element by, for the gateway to know whether the
// upstream stores what w is about: emails[primary eq true].value where it has emails[type eq "work"].value. ""
// when the gateway knows.
func (l *Limits) undecided(w scim.Write) string {
	if !w.Picked {
		return ""
	}
	for _, a := range l.attributes {
		if a.Handling != "" || a.filter == nil || !a.target.Ref.Covers(w.Ref) {
			continue
		}
		missing, contradicted := "", false
		for name, want := range scim.EqualTerms(a.filter) {
			switch has := w.Element[name]; {
			case has != nil:
				contradicted = contradicted || !equalFold(has, want)
			case missing == "" || name < missing:
				missing = name
			}
		}
		if missing != "" && !contradicted {
			return missing
		}
	}
	return ""
}

func equalFold(a, b any) bool {
	s, ok := a.(string)
	t, ok2 := b.(string)
	if ok && ok2 {
		return strings.EqualFold(s, t)
	}
	return equal(a, b)
}
