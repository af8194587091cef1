package simulator

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"scimgate/transform/scim"
)

// view is a record as a client may see it, before projection: with meta and, for a user, its groups. What it
// shares with the record is not to be changed.
func (s *Simulator) view(k *kind, rec *record, base string) scim.Resource {
	r := maps.Clone(rec.resource)
	if !s.cfg.Assume.NoMeta {
		meta := map[string]any{
			"resourceType": k.rt.Name, "created": s.timestamp(rec.created), "lastModified": s.timestamp(rec.modified),
			"location": location(k, rec, base),
		}
		if s.etag {
			meta["version"] = version(rec)
		}
		r["meta"] = meta
	}
	if groups := s.groupsOf(k, rec, base); groups != nil {
		r["groups"] = groups
	}
	return r
}

// timestamp writes a time with microseconds: as many digits as clients in the wild can read.
func (s *Simulator) timestamp(t time.Time) string {
	if s.cfg.Assume.WholeSeconds {
		return t.UTC().Format("2006-01-02T15:04:05Z")
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

func version(rec *record) string { return `W/"` + strconv.Itoa(rec.version) + `"` }

// groupsOf are the groups that have a user for a member (RFC 7643, Section 4.1.2); nil for none.
func (s *Simulator) groupsOf(k *kind, rec *record, base string) any {
	groups := s.kind("Group")
	if groups == nil || k.rt.Name != "User" || !k.has.Touches(scim.Ref{Name: "groups"}) {
		return nil
	}
	members := groups.index(scim.Ref{Name: "members", Sub: "value"})
	holders := slices.Clone(members.records[members.key(rec.id())])
	if len(holders) == 0 {
		return nil
	}
	slices.SortFunc(holders, func(a, b *record) int { return cmp.Compare(a.seq, b.seq) })
	list := make([]any, len(holders))
	for i, g := range holders {
		list[i] = map[string]any{
			"value": g.id(), "display": g.resource["displayName"], "type": "direct",
			"$ref": location(groups, g, base),
		}
	}
	return list
}

// render is a record as it is answered. The result's top level is its own; what is below may be shared.
func (s *Simulator) render(k *kind, rec *record, q scim.Query, base string) scim.Resource {
	r := s.view(k, rec, base)
	if s.cfg.Assume.ManagerForm != Object {
		for _, ref := range k.forms {
			if m, ok := r.Get(ref).(map[string]any); ok {
				own(r, ref.Schema)
				r.Set(ref, m["value"])
			}
		}
	}
	if s.cfg.Profile.Projection {
		return k.project(r, q)
	}
	return r
}

// own makes an extension's object the resource's own, so that it can be changed.
func own(r scim.Resource, urn string) {
	if ext, ok := r[urn].(map[string]any); ok && urn != "" {
		r[urn] = maps.Clone(ext)
	}
}

// project applies attributes and excludedAttributes (RFC 7644, Section 3.9). What is always returned stays.
func (k *kind) project(r scim.Resource, q scim.Query) scim.Resource {
	if q.Attributes != nil {
		return k.pick(r, q.Attributes)
	}
	owned := map[string]bool{}
	for _, ref := range q.ExcludedAttributes {
		if slices.Contains(k.always, ref.Parent()) {
			continue
		}
		if !owned[ref.Schema] {
			own(r, ref.Schema)
			owned[ref.Schema] = true
		}
		if ref.Sub != "" {
			if v := r.Get(ref.Parent()); v != nil {
				r.Set(ref.Parent(), scim.CloneValue(v))
			}
		}
		r.Remove(ref)
	}
	return r
}

func (k *kind) pick(r scim.Resource, refs []scim.Ref) scim.Resource {
	out := scim.Resource{}
	for _, ref := range slices.Concat(k.always, refs) {
		if v := r.Get(ref.Parent()); ref.Sub == "" && v != nil {
			out.Set(ref, v)
		}
	}
	subs := map[scim.Ref][]string{}
	for _, ref := range refs {
		if ref.Sub != "" && !slices.Contains(refs, ref.Parent()) && !slices.Contains(k.always, ref.Parent()) {
			subs[ref.Parent()] = append(subs[ref.Parent()], ref.Sub)
		}
	}
	for ref, names := range subs {
		if v := only(r.Get(ref), names); !scim.Empty(v) {
			out.Set(ref, v)
		}
	}
	return out
}

// only is a complex value with the named sub-attributes alone.
func only(v any, names []string) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for _, name := range names {
			if v[name] != nil {
				m[name] = v[name]
			}
		}
		return m
	case []any:
		list := []any{}
		for _, e := range v {
			if m := only(e, names); !scim.Empty(m) {
				list = append(list, m)
			}
		}
		return list
	default:
		return v
	}
}

// sortRecords sorts by an attribute (RFC 7644, Section 3.4.2.3); equal ones stay in order of creation. Resources
// without a value come last, and first where the order is descending.
func (s *Simulator) sortRecords(k *kind, list []*record, by scim.Ref, descending bool, base string) []*record {
	target, ok := k.rt.Lookup(by)
	if !ok {
		return list
	}
	type keyed struct {
		rec *record
		key sortKey
	}
	keys := make([]keyed, len(list))
	for i, rec := range list {
		keys[i] = keyed{rec, newSortKey(s.view(k, rec, base), target)}
	}
	slices.SortStableFunc(keys, func(a, b keyed) int {
		if descending {
			a, b = b, a
		}
		return a.key.compare(b.key)
	})
	out := make([]*record, len(keys))
	for i := range keys {
		out[i] = keys[i].rec
	}
	return out
}

type sortKey struct {
	set    bool
	text   string
	number float64
}

func newSortKey(r scim.Resource, t scim.Target) sortKey {
	var v any = r.Get(t.Ref.Parent())
	if list, ok := v.([]any); ok { // the primary value, else the first
		v = list[0]
		for _, e := range list {
			if m, ok := e.(map[string]any); ok && m["primary"] == true {
				v = e
			}
		}
	}
	if m, ok := v.(map[string]any); ok {
		v = m[byValue(t).Sub]
	}
	switch v := v.(type) {
	case string:
		if !t.Leaf().CaseExact {
			v = scim.Fold(v)
		}
		return sortKey{set: true, text: v}
	case bool:
		k := sortKey{set: true}
		if v {
			k.number = 1
		}
		return k
	case json.Number:
		n, err := v.Float64()
		return sortKey{set: err == nil, number: n}
	default:
		return sortKey{}
	}
}

func (k sortKey) compare(other sortKey) int {
	switch {
	case k.set != other.set && k.set:
		return -1
	case k.set != other.set:
		return 1
	case k.number != other.number && k.number < other.number:
		return -1
	case k.number != other.number:
		return 1
	default:
		return strings.Compare(k.text, other.text)
	}
}
