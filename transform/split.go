package transform

import (
	"fmt"
	"maps"
	"slices"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// Ruling is what policy decided about attributes: of those that the upstream lacks, or that a client may not
// set, what is dropped and what is kept.
type Ruling struct {
	Drop, Keep []scim.Ref
	Alias      bool // store an alias in place of a userName that the upstream does not take
}

// covers reports whether a list names the attribute, or the attribute it is a part of.
func covers(refs map[scim.Ref]bool, ref scim.Ref) bool { return refs[ref] || refs[ref.Parent()] }

func setOf(refs []scim.Ref) map[scim.Ref]bool {
	set := make(map[scim.Ref]bool, len(refs))
	for _, r := range refs {
		set[r] = true
	}
	return set
}

// splitter parts what a request would store by who is to hold it. After an error it is of no use any more.
type splitter struct {
	*shape
	drop, keep map[scim.Ref]bool // the ruling
	picked     bool              // a value filter picks the element in hand: there may be more in it than is known
	err        error             // a value that the upstream lacks and policy gave no ruling on; not for the client
}

func newSplitter(s *shape, r Ruling) *splitter {
	return &splitter{shape: s, drop: setOf(r.Drop), keep: setOf(r.Keep)}
}

// side is who holds a value.
type side int

const (
	nobody side = iota // dropped, by the ruling
	upstream
	gateway
)

func (s *splitter) side(w scim.Write) side {
	if s.stores(w) {
		return upstream
	}
	keep, drop := covers(s.keep, w.Ref), covers(s.drop, w.Ref)
	switch {
	case keep && drop: // elements of one attribute may be handled differently
		keep = s.handling(w) == profile.HandlingKeep
	case !keep && !drop && s.err == nil:
		s.err = fmt.Errorf("plan: policy gave no ruling on %s, which the upstream lacks", w.Ref)
	}
	if keep {
		return gateway
	}
	return nobody
}

// stores reports whether the upstream stores a value.
func (s *shape) stores(w scim.Write) bool { return s.hasRoom(w.Ref) && s.stored.Has(w) }

// hasRoom reports whether the attribute's form has room for the sub-attribute: a complex attribute that travels as
// its plain value has it for nothing else.
func (s *shape) hasRoom(ref scim.Ref) bool {
	return ref.Sub == "" || ref.Sub == "value" || !slices.Contains(s.plain, ref.Parent())
}

// resource parts a whole resource.
func (s *splitter) resource(r scim.Resource) (sent, kept scim.Resource) {
	sent, kept = make(scim.Resource, len(r)+1), scim.Resource{} // and schemas
	s.rt.All(func(ref scim.Ref, a *scim.Attribute) bool {
		v := r.Get(ref)
		if v == nil {
			return true
		}
		u, g := s.value(ref, a, v)
		if u != nil {
			sent.Set(ref, u)
		}
		if g != nil {
			kept.Set(ref, g)
		}
		return true
	})
	return sent, kept
}

// value parts the value of a whole attribute; nil for a side that gets nothing of it.
func (s *splitter) value(ref scim.Ref, a *scim.Attribute, v any) (sent, kept any) {
	if s.stored.Whole(ref) && !slices.Contains(s.plain, ref) {
		return v, nil
	}
	switch v := v.(type) {
	case map[string]any:
		if a.Kind == scim.Complex {
			var element map[string]any
			if a.MultiValued {
				element = v
			}
			return s.object(ref, v, element)
		}
	case []any:
		if a.Kind == scim.Complex {
			return s.list(ref, v)
		}
	}
	switch s.side(scim.Write{Ref: ref, Value: v, Known: true}) {
	case upstream:
		return v, nil
	case gateway:
		return nil, v
	default:
		return nil, nil
	}
}

func (s *splitter) list(ref scim.Ref, list []any) (sent, kept any) {
	var us, gs []any
	for _, e := range list {
		m, _ := e.(map[string]any)
		u, g := s.object(ref, m, m)
		if u != nil {
			us = append(us, u)
		}
		if g != nil {
			gs = append(gs, g)
		}
	}
	if us != nil {
		sent = us
	}
	if gs != nil {
		kept = gs
	}
	return sent, kept
}

// object parts a complex value. element is all that is known of the element that it is or becomes a part of; nil
// for a singular attribute. Of an element the gateway keeps a part of, it keeps what the upstream stores too: see
// Held.Kept.
func (s *splitter) object(ref scim.Ref, m, element map[string]any) (sent, kept any) {
	us, gs := map[string]any{}, map[string]any{}
	ours := false
	for sub, v := range m {
		ref.Sub = sub
		switch s.side(scim.Write{Ref: ref, Value: v, Element: element, Known: true, Picked: s.picked}) {
		case upstream:
			us[sub] = v
			if element != nil {
				gs[sub] = v
			}
		case gateway:
			gs[sub] = v
			ours = true
		}
	}
	if len(us) > 0 {
		sent = us
	}
	if ours {
		kept = gs
	}
	for sub, v := range element {
		if _, given := m[sub]; given {
			continue
		}
		ref.Sub = sub
		if gs[sub] = v; s.stores(scim.Write{Ref: ref, Value: v, Element: element, Known: true, Picked: s.picked}) {
			us[sub] = v
		}
	}
	return sent, kept
}

// operation parts one operation of a PATCH: the operations that go upstream, and those on what the gateway holds.
func (s *splitter) operation(op scim.PatchOp) (sent, kept []scim.PatchOp) {
	t := op.Target
	if t.Attribute == nil || t.Leaf().ReadOnly() || t.Attribute.ReadOnly() {
		s.dropped(op)
		return nil, nil
	}
	s.unknown(op)
	w := scim.Write{Ref: t.Ref, Value: op.Value, Known: true}
	if op.Path.ValueExpression != nil {
		w.Element, w.Picked = scim.EqualTerms(op.Path.ValueExpression), true
	}
	if op.Op != "remove" {
		value := t.SettableValue(op.Value)
		if value == nil {
			return nil, nil // there was nothing in it but what is read-only or unknown
		}
		if op.Value = value; t.Sub == nil && t.Attribute.Kind == scim.Complex {
			return s.complexValue(op, w)
		}
	}
	switch s.side(w) {
	case upstream:
		sent = append(sent, op)
		if t.Attribute.MultiValued && s.mayKeep(t.Ref.Parent()) || op.Op == "remove" && s.mayKeep(t.Ref) {
			kept = append(kept, op) // it tells parts apart, or takes parts with it
		}
	case gateway:
		kept = append(kept, op)
	}
	return sent, kept
}

// complexValue parts an operation with the value of a whole complex attribute, or of an element. A replace leaves
// nothing of a multi-valued attribute or an element, so each side gets at least a remove.
func (s *splitter) complexValue(op scim.PatchOp, w scim.Write) (sent, kept []scim.PatchOp) {
	t := op.Target
	var u, g any
	if m, ok := op.Value.(map[string]any); ok && w.Picked && !s.stored.Whole(t.Ref) {
		element := maps.Clone(w.Element)
		maps.Copy(element, m)
		s.picked = true
		u, g = s.object(t.Ref, m, element)
		s.picked = false
	} else {
		u, g = s.value(t.Ref, t.Attribute, op.Value)
	}
	part := func(v any, holds bool) []scim.PatchOp {
		switch {
		case v != nil:
			op.Value = v
			return []scim.PatchOp{op}
		case op.Op == "replace" && t.Attribute.MultiValued && holds:
			return []scim.PatchOp{{Op: "remove", Path: op.Path, Target: t}}
		default:
			return nil
		}
	}
	return part(u, s.stores(w)), part(g, s.mayKeep(t.Ref))
}

// dropped makes sure that policy dropped the attribute that an operation names.
func (s *splitter) dropped(op scim.PatchOp) {
	ref := op.Target.Ref
	if s.err == nil && !covers(s.drop, ref) {
		s.err = fmt.Errorf("plan: policy gave no ruling on %s, which cannot be sent", ref)
	}
}

// unknown makes sure that policy dropped the members of a value that no schema has.
func (s *splitter) unknown(op scim.PatchOp) {
	if _, simple := op.Value.(string); !simple && op.Value != nil {
		s.writes(&scim.Request{Op: scim.OpPatch, Type: s.rt, Operations: []scim.PatchOp{op}})
	}
}

// writes makes sure that policy dropped what no schema has.
func (s *splitter) writes(req *scim.Request) {
	for w := range req.Writes() {
		if !w.Known && s.err == nil && !covers(s.drop, w.Ref) {
			s.err = fmt.Errorf("plan: policy gave no ruling on %.80q, which no schema has", w.Ref.String())
		}
	}
}
