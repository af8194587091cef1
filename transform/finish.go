package transform

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"scimgate/transform/scim"
)

// Finish turns a resource of the upstream into what the client shall see: kept attributes and externalId stand
// beside the upstream's own, an alias is replaced by the userName it stands for, meta and `schemas` are the
// gateway's. base is the absolute URL of the gateway's connection, without a trailing slash. drift is true when
// the upstream no longer holds the alias it was sent: then its own value is shown. The resource is changed in
// place.
func (t *Transform) Finish(rt *scim.ResourceType, r scim.Resource, held *Held, base string) (finished scim.Resource, drift bool) {
	if s := t.shapes[rt.Name]; s != nil {
		drift = s.merge(r, held)
	}
	for _, e := range rt.Extensions {
		if ext, ok := r[e.ID].(map[string]any); ok {
			tidy(ext)
		} else {
			delete(r, e.ID) // nobody is shown what is no extension
		}
	}
	tidy(r)
	rt.SetSchemas(r)
	meta, _ := r["meta"].(map[string]any)
	meta = maps.Clone(meta)
	if meta == nil {
		meta = map[string]any{}
	}
	meta["resourceType"] = rt.Name
	r["meta"] = meta
	if meta["version"] == nil {
		// Before the location is ours: the version must not depend on the name the client has for the gateway.
		meta["version"] = scim.Fingerprint(r)
	}
	place := rt.Endpoint + "/" + url.PathEscape(r.ID())
	if s := t.shapes[rt.Name]; s != nil && len(s.references) > 0 {
		if upstream, ok := strings.CutSuffix(r.Meta("location"), place); ok && upstream != "" && upstream != base {
			s.refer(r, upstream, base)
		}
	}
	meta["location"] = base + place
	return r, drift
}

// refer makes references to resources of the upstream such to the gateway: a client has no token for the upstream, and
// is not to send it the gateway's. Other references stay as they were sent.
func (s *shape) refer(r scim.Resource, upstream, base string) {
	theirs := func(m map[string]any) (string, bool) {
		ref, _ := m["$ref"].(string)
		place, ok := strings.CutPrefix(ref, upstream)
		return place, ok && strings.HasPrefix(place, "/")
	}
	for _, ref := range s.references {
		switch v := r.Get(ref).(type) {
		case map[string]any:
			if place, ok := theirs(v); ok {
				v = maps.Clone(v)
				v["$ref"] = base + place
				r.Set(ref, v)
			}
		case []any:
			var list []any // a copy, where anything changes
			for i, e := range v {
				m, _ := e.(map[string]any)
				if place, ok := theirs(m); ok {
					if list == nil {
						list = slices.Clone(v)
					}
					m = maps.Clone(m)
					m["$ref"], list[i] = base+place, m
				}
			}
			if list != nil {
				r.Set(ref, list)
			}
		}
	}
}

// tidy drops what is unassigned (RFC 7643, Section 2.5), elements too: no filter is to find what no client is shown.
func tidy(attributes map[string]any) {
	for name, v := range attributes {
		if list, ok := v.([]any); ok && slices.ContainsFunc(list, scim.Empty) {
			v = slices.DeleteFunc(slices.Clone(list), scim.Empty)
			attributes[name] = v
		}
		if scim.Empty(v) {
			delete(attributes, name)
		}
	}
}

func (s *shape) merge(r scim.Resource, held *Held) (drift bool) {
	if s.keepsExtID {
		delete(r, "externalId") // the gateway's: what an upstream that lacks it says is not the client's
	}
	if held == nil {
		return false
	}
	if held.Sent != "" {
		if scim.Fold(r.UserName()) == scim.Fold(held.Sent) {
			r["userName"] = held.UserName
		} else {
			drift = true
		}
	}
	if s.keepsExtID && held.ExternalID != "" {
		r["externalId"] = held.ExternalID
	}
	if len(held.Kept) > 0 {
		s.rt.All(func(ref scim.Ref, _ *scim.Attribute) bool {
			if v := held.Kept.Get(ref); v != nil {
				s.mergeValue(r, ref, v)
			}
			return true
		})
	}
	return drift
}

// mergeValue puts a kept value beside what the upstream has of the same attribute. Of what the upstream stores, it
// takes nothing: a profile may have learnt of an attribute since.
func (s *shape) mergeValue(r scim.Resource, ref scim.Ref, kept any) {
	switch kept := kept.(type) {
	case map[string]any:
		own, _ := r.Get(ref).(map[string]any)
		out := maps.Clone(own)
		if out == nil {
			out = map[string]any{}
		}
		ours, _ := s.parts(ref, kept, nil)
		maps.Copy(out, ours)
		if len(out) > 0 {
			r.Set(ref, out)
		}
	case []any:
		own, _ := r.Get(ref).([]any)
		if list := s.join(ref, own, kept); len(list) > 0 {
			r.Set(ref, list)
		}
	default:
		if !s.stored.Whole(ref) {
			r.Set(ref, kept)
		}
	}
}

// parts tells what the upstream lacks of a complex value from what it stores of it.
func (s *shape) parts(ref scim.Ref, m, element map[string]any) (ours, theirs map[string]any) {
	ours, theirs = map[string]any{}, map[string]any{}
	for sub, v := range m {
		ref.Sub = sub
		if s.stores(scim.Write{Ref: ref, Value: v, Element: element, Known: true}) {
			theirs[sub] = v
		} else {
			ours[sub] = scim.CloneValue(v)
		}
	}
	return ours, theirs
}

// join puts kept elements beside the upstream's. A part of one joins the element of the upstream that has the same
// values as it was sent, or else one that the upstream would store a part of as it does of this one. Where the
// upstream no longer has such an element, the part is not shown. Elements the upstream stores nothing of stand
// behind its own.
func (s *shape) join(ref scim.Ref, own, kept []any) []any {
	out := append(make([]any, 0, len(own)+len(kept)), own...)
	taken := make([]bool, len(own))
	give := func(ours map[string]any, fits func(map[string]any) bool) bool {
		for i := range taken {
			o, ok := own[i].(map[string]any)
			if !ok || taken[i] || !fits(o) {
				continue
			}
			merged := maps.Clone(o)
			maps.Copy(merged, ours)
			out[i], taken[i] = merged, true
			return true
		}
		return false
	}
	type parted struct{ whole, ours, theirs map[string]any }
	var rest []parted
	var alone []map[string]any
	for _, e := range kept {
		k, _ := e.(map[string]any)
		ours, theirs := s.parts(ref, k, k)
		if len(ours) > 0 && (len(theirs) == 0 || !give(ours, func(o map[string]any) bool { return s.agree(ref, theirs, o) })) {
			rest = append(rest, parted{k, ours, theirs})
		}
	}
	for _, k := range rest {
		like := s.pickedBy(ref, k.whole)
		given := len(like) > 0 && give(k.ours, func(o map[string]any) bool {
			i := slices.IndexFunc(like, func(a attribute) bool { return a.picks(s.rt, o) })
			if i >= 0 {
				for name := range scim.EqualTerms(like[i].filter) {
					delete(k.ours, name) // the upstream's element has it, and may spell it otherwise
				}
			}
			return i >= 0
		})
		if !given && len(k.theirs) == 0 {
			alone = append(alone, k.ours)
		}
	}
	for _, k := range alone {
		out = append(out, k)
	}
	onePrimary(out)
	return out
}

// onePrimary leaves the first primary element, the upstream's where it stores which one is: there may be one only
// (RFC 7643, Section 2.4), and the parts do not know of one another.
func onePrimary(list []any) {
	found := false
	for i, e := range list {
		m, ok := e.(map[string]any)
		if !ok || m["primary"] != true {
			continue
		}
		if found {
			m = maps.Clone(m)
			m["primary"], list[i] = false, m
		}
		found = true
	}
}

// agree reports whether an element has the values, as far as it says; at least one. Texts are equal as their
// attribute has it: a filter that picked the element may have spelled its type otherwise.
func (s *shape) agree(ref scim.Ref, values, element map[string]any) bool {
	some := false
	for name, v := range values {
		has := element[name]
		if has == nil {
			continue
		}
		ref.Sub = name
		a, aText := v.(string)
		b, bText := has.(string)
		t, ok := s.rt.Lookup(ref)
		folds := ok && aText && bText && !t.Leaf().CaseExact && t.Leaf().Kind == scim.String
		if has != v && !(folds && scim.Fold(a) == scim.Fold(b)) {
			return false
		}
		some = true
	}
	return some
}

// pickedBy are those of what the upstream stores whose value filter picks an element.
func (s *shape) pickedBy(ref scim.Ref, element map[string]any) []attribute {
	var out []attribute
	for _, a := range s.attributes {
		if a.handling == "" && a.filter != nil && a.target.Ref.Parent() == ref && a.picks(s.rt, element) {
			out = append(out, a)
		}
	}
	return out
}

// Keep applies PATCH operations, those of Plan.KeptOps, to what the gateway holds of a resource. held is nil when
// nothing is held yet. A userName that needs no alias ends one. The error is an *Error; For has found it before.
func (t *Transform) Keep(rt *scim.ResourceType, id string, ops []scim.PatchOp, held *Held) (*Held, error) {
	return t.shapes[rt.Name].keep(id, ops, held)
}

func (s *shape) keep(id string, ops []scim.PatchOp, held *Held) (*Held, error) {
	next := &Held{ID: id}
	if held != nil {
		*next = *held
	}
	patch := s.rt.BeginPatch(next.Kept)
	doc := patch.Resource()
	if next.ExternalID != "" {
		doc["externalId"] = next.ExternalID
	}
	for _, op := range ops {
		if op.Target.Ref == refUserName {
			next.UserName, _ = op.Value.(string)
			if next.Sent = ""; s.alias.needed(next.UserName) {
				next.Sent = s.alias.of(next.UserName)
			}
			continue
		}
		if !needsElement(op) {
			if err := patch.Apply(&op); err != nil {
				return nil, err
			}
			continue
		}
		op, skip, err := s.forHeld(op, patch)
		if err == nil && !skip {
			err = patch.Apply(&op)
		}
		if e, ok := errors.AsType[*scim.Error](err); ok && e.Status != http.StatusBadRequest {
			return nil, err
		} else if err != nil {
			return nil, scim.BadRequest(scim.NoTarget, "no value of %s is known that the operation could be about", op.Target.Ref.Parent())
		}
	}
	delete(doc, "schemas")
	if values, bytes := size(map[string]any(doc)); values > scim.MaxValues || bytes > scim.MaxBody {
		return nil, scim.Errorf(http.StatusRequestEntityTooLarge, "", "the upstream lacks some of these attributes, and the gateway "+
			"does not hold more than %d values or %d bytes of one resource", scim.MaxValues, scim.MaxBody)
	}
	next.ExternalID = doc.ExternalID()
	delete(doc, "externalId")
	next.Kept = doc
	return next, nil
}

// needsElement reports whether an operation is about an element that must be there or be made.
func needsElement(op scim.PatchOp) bool {
	return op.Op != "remove" && op.Target.Attribute.MultiValued && (op.Path.ValueExpression != nil || op.Target.Sub != nil)
}

// size is how many values a value holds, itself included, and about how many bytes of JSON they are.
func size(v any) (values, bytes int) {
	const around = 4 // quotes, colon and comma
	values, bytes = 1, around
	add := func(e any) {
		n, b := size(e)
		values, bytes = values+n, bytes+b
	}
	switch v := v.(type) {
	case string:
		bytes += len(v)
	case map[string]any:
		for name, e := range v {
			bytes += len(name) + around
			add(e)
		}
	case []any:
		for _, e := range v {
			add(e)
		}
	}
	return values, bytes
}

// forHeld makes such an operation on a resource one on what the gateway holds of it, which may lack the element:
// the upstream may have it all the same. Then a part to keep begins a new one, where the path says which, and what
// the upstream stores is not applied.
func (s *shape) forHeld(op scim.PatchOp, held *scim.Patch) (_ scim.PatchOp, skip bool, err error) {
	t, filter := op.Target, op.Path.ValueExpression
	whole := scim.Target{Ref: t.Ref.Parent(), Attribute: t.Attribute}
	if has, err := held.Has(whole, filter); has || err != nil {
		return op, false, err
	}
	w := scim.Write{Ref: t.Ref, Value: op.Value, Known: true}
	if filter != nil {
		w.Element, w.Picked = scim.EqualTerms(filter), true
	}
	switch {
	case t.Sub != nil && s.stores(w):
		return op, true, nil
	case filter == nil:
		return op, false, errNoElement
	case !s.stores(scim.Write{Ref: whole.Ref, Element: w.Element, Picked: true, Known: true}): // what is not here is nowhere
		return op, false, nil
	default:
		op.Op = "add"
		return op, false, nil
	}
}

var errNoElement = errors.New("no element")
