package transform

import (
	"maps"
	"net/url"

	"scimgate/transform/scim"
)

// Finish turns a resource of the upstream into what the client shall see: kept attributes and externalId stand beside the upstream's own, an alias is replaced
// by the userName it stands for, meta and `schemas` are the gateway's. base is the absolute URL of the gateway's
// connection, without a trailing slash. drift is true when the upstream no longer holds the alias it was sent:
// then its own value is shown. The resource is changed in place.
func (t *Transform) Finish(rt *scim.ResourceType, r scim.Resource, held *Held, base string) (finished scim.Resource, drift bool) {
	s := t.shapes[rt.Name]
	if held != nil {
		drift = s.merge(r, held)
	} else if s.keepsExtID {
		delete(r, "externalId") // the gateway's attribute: what an upstream that lacks it says is not the client's
	}
	for name, v := range r {
		if scim.Empty(v) {
			delete(r, name)
		}
	}
	rt.SetSchemas(r)
	meta, _ := r["meta"].(map[string]any)
	meta = maps.Clone(meta)
	if meta == nil {
		meta = map[string]any{}
	}
	meta["resourceType"] = rt.Name
	meta["location"] = base + rt.Endpoint + "/" + url.PathEscape(r.ID())
	r["meta"] = meta
	if meta["version"] == nil {
		meta["version"] = scim.Fingerprint(r)
	}
	return r, drift
}

func (s *shape) merge(r scim.Resource, held *Held) (drift bool) {
	if held.Sent != "" {
		if scim.Fold(r.UserName()) == scim.Fold(held.Sent) {
			r["userName"] = held.UserName
		} else {
			drift = true
		}
	}
	if s.keepsExtID {
		delete(r, "externalId")
		if held.ExternalID != "" {
			r["externalId"] = held.ExternalID
		}
	}
	for name, v := range held.Kept {
		if e := s.rt.Extension(name); e != nil {
			ext, _ := v.(map[string]any)
			for sub, v := range ext {
				s.mergeValue(r, scim.Ref{Schema: e.ID, Name: sub}, v)
			}
			continue
		}
		s.mergeValue(r, scim.Ref{Name: name}, v)
	}
	return drift
}

// mergeValue puts a kept value beside what the upstream has of the same attribute. A kept part of an element
// joins the upstream's element of the same type; without one it is an element of its own if it has a value.
func (s *shape) mergeValue(r scim.Resource, ref scim.Ref, kept any) {
	switch kept := kept.(type) {
	case map[string]any:
		if own, ok := r.Get(ref).(map[string]any); ok {
			for k, v := range kept {
				if own[k] == nil {
					own[k] = scim.CloneValue(v)
				}
			}
			return
		}
	case []any:
		own, _ := r.Get(ref).([]any)
		for _, e := range kept {
			own = joinElement(own, e)
		}
		if len(own) > 0 {
			r.Set(ref, own)
		}
		return
	}
	if r.Get(ref) == nil {
		r.Set(ref, scim.CloneValue(kept))
	}
}

func joinElement(own []any, kept any) []any {
	k, ok := kept.(map[string]any)
	if !ok {
		return append(own, kept)
	}
	if k["value"] != nil {
		return append(own, scim.CloneValue(k))
	}
	for _, e := range own {
		o, ok := e.(map[string]any)
		if !ok || o["type"] != k["type"] {
			continue
		}
		for name, v := range k {
			if o[name] == nil {
				o[name] = scim.CloneValue(v)
			}
		}
		break
	}
	return own
}

// Keep applies PATCH operations to what the gateway holds of a resource. held is nil when nothing is held yet. A userName that was sent as it is ends an alias.
func (t *Transform) Keep(rt *scim.ResourceType, id string, ops []scim.PatchOp, held *Held) (*Held, error) {
	s := t.shapes[rt.Name]
	next := &Held{ID: id}
	if held != nil {
		*next = *held
	}
	doc := next.Kept.Clone()
	if doc == nil {
		doc = scim.Resource{}
	}
	if next.ExternalID != "" {
		doc["externalId"] = next.ExternalID
	}
	var rest []scim.PatchOp
	for _, op := range ops {
		if op.Target.Ref == refUserName {
			next.UserName, _ = op.Value.(string)
			if next.Sent = ""; s.alias > 0 && len([]rune(next.UserName)) > s.alias {
				next.Sent = Alias(next.UserName, s.alias)
			}
			continue
		}
		rest = append(rest, op)
	}
	doc, _, err := rt.ApplyPatch(doc, rest)
	if err != nil {
		return nil, err
	}
	delete(doc, "schemas")
	next.ExternalID = doc.ExternalID()
	delete(doc, "externalId")
	next.Kept = doc
	return next, nil
}
