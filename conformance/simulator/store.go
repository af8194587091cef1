package simulator

import (
	"cmp"
	"slices"
	"sort"
	"strings"
	"time"

	"scimgate/transform/scim"
)

// record is one stored resource.
type record struct {
	seq      uint64        // order of creation
	resource scim.Resource // with id and schemas, without meta; never changed: an update puts another one here
	created  time.Time
	modified time.Time
	version  int
}

func (r *record) id() string { return r.resource.ID() }

// shelf holds the records of one resource type. The simulator's lock guards it.
type shelf struct {
	byID    map[string]*record
	order   []*record // by seq
	indexes []*index
}

// index finds records by a string attribute. A caseExact attribute is looked up exactly, every other one folded.
type index struct {
	target  scim.Target
	records map[string][]*record
}

// indexed are the attributes that clients look resources up by.
var indexed = []scim.Ref{{Name: "userName"}, {Name: "externalId"}, {Name: "displayName"}, {Name: "emails", Sub: "value"}, {Name: "members", Sub: "value"}}

func (k *kind) newShelf() shelf {
	s := shelf{byID: map[string]*record{}}
	for _, ref := range indexed {
		if t, ok := k.rt.Lookup(ref); ok {
			s.indexes = append(s.indexes, &index{target: t, records: map[string][]*record{}})
		}
	}
	return s
}

// empty forgets all records.
func (s *shelf) empty() {
	clear(s.byID)
	s.order = nil
	for _, x := range s.indexes {
		clear(x.records)
	}
}

// index is the index on ref; nil when there is none.
func (s *shelf) index(ref scim.Ref) *index {
	for _, x := range s.indexes {
		if x.target.Ref == ref {
			return x
		}
	}
	return nil
}

// key is what a value is found by.
func (x *index) key(value string) string {
	if x.target.Leaf().CaseExact {
		return value
	}
	return scim.Fold(value)
}

// keys are what a resource is found by, each once.
func (x *index) keys(r scim.Resource) []string {
	var keys []string
	switch v := r.Get(x.target.Ref).(type) {
	case string:
		keys = []string{x.key(v)}
	case []any:
		for _, e := range v {
			if text, ok := e.(string); ok {
				keys = append(keys, x.key(text))
			}
		}
		slices.Sort(keys)
		keys = slices.Compact(keys)
	}
	return keys
}

func (x *index) add(rec *record) {
	for _, key := range x.keys(rec.resource) {
		x.records[key] = append(x.records[key], rec)
	}
}

func (x *index) remove(rec *record) {
	for _, key := range x.keys(rec.resource) {
		rest := slices.DeleteFunc(x.records[key], func(r *record) bool { return r == rec })
		if x.records[key] = rest; len(rest) == 0 {
			delete(x.records, key)
		}
	}
}

func (s *shelf) insert(rec *record) {
	s.byID[rec.id()] = rec
	s.order = append(s.order, rec)
	for _, x := range s.indexes {
		x.add(rec)
	}
}

func (s *shelf) update(rec *record, r scim.Resource) {
	for _, x := range s.indexes {
		x.remove(rec)
	}
	rec.resource = r
	for _, x := range s.indexes {
		x.add(rec)
	}
}

func (s *shelf) remove(rec *record) {
	for _, x := range s.indexes {
		x.remove(rec)
	}
	delete(s.byID, rec.id())
	at := sort.Search(len(s.order), func(i int) bool { return s.order[i].seq >= rec.seq })
	s.order = slices.Delete(s.order, at, at+1)
}

// candidates are the records among which all matches of a filter are, in order of creation. They are the shelf's
// own where no index helps.
func (k *kind) candidates(f scim.Filter) []*record {
	if found, ok := k.lookup(f, nil); ok {
		found = slices.Clone(found)
		slices.SortFunc(found, func(a, b *record) int { return cmp.Compare(a.seq, b.seq) })
		return found
	}
	return k.order
}

func (k *kind) lookup(f scim.Filter, within *scim.Target) ([]*record, bool) {
	switch f := f.(type) {
	case *scim.AttributeExpression:
		text, ok := f.CompareValue.(string)
		if !ok || !strings.EqualFold(string(f.Operator), string(scim.Eq)) {
			return nil, false
		}
		target, ok := k.member(f.AttributePath, within)
		if !ok {
			return nil, false
		}
		ref := byValue(target)
		if ref == (scim.Ref{Name: "id"}) {
			if rec := k.byID[text]; rec != nil {
				return []*record{rec}, true
			}
			return nil, true
		}
		if x := k.index(ref); x != nil {
			return x.records[x.key(text)], true
		}
	case *scim.LogicalExpression:
		if !strings.EqualFold(string(f.Operator), string(scim.And)) {
			return nil, false
		}
		if found, ok := k.lookup(f.Left, within); ok {
			return found, true
		}
		return k.lookup(f.Right, within)
	case *scim.ValuePath:
		if target, ok := k.rt.Resolve(f.AttributePath); ok && within == nil {
			return k.lookup(f.ValueFilter, &target)
		}
	}
	return nil, false
}
