package transform

import (
	"slices"
	"strings"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// What the gateway announces about pages, and holds.
const (
	// MaxPage is the largest page. Where the upstream makes the page, its own may be smaller; profile.Paging.PageSize is
	// never larger.
	MaxPage = 1000
	// CursorTime is how long a cursor can be used, in seconds.
	CursorTime = 300
)

// query plans a query. What the upstream cannot evaluate is evaluated here, over resources as the client sees
// them; what is pushed down only narrows what has to be read. A filter is never left out.
func (s *shape) query(p *profile.Profile, req *scim.Request, known map[Lookup][]Held) *Plan {
	q := req.Query
	up := s.bare(req)
	up.Query.StartIndex = q.StartIndex
	page := p.Paging.PageSize
	up.Query.Count = &page
	if q.Count != nil && *q.Count < page {
		up.Query.Count = q.Count
	}
	sortHere := q.SortBy
	if q.SortBy != nil && p.Sort && s.shownAsStored(*q.SortBy) && !(s.alias.on && *q.SortBy == refUserName) {
		up.Query.SortBy, up.Query.Descending, sortHere = q.SortBy, q.Descending, nil
	}
	if q.Filter == nil {
		plan := &Plan{How: Forward, Requests: []*scim.Request{up}, Sort: sortHere, Why: "one page, forwarded"}
		if sortHere != nil {
			plan.How, plan.Why = Scan, "the upstream does not sort: all its resources are read"
		}
		s.project(p, up, req)
		return s.fromTheTop(plan, q, page)
	}
	if plan := s.byIdentity(p, req, up, known); plan != nil {
		plan.Sort = q.SortBy
		return s.fromTheTop(plan, q, page)
	}
	pushed, rest := s.pushDown(p, q.Filter)
	plan := &Plan{How: Forward, Requests: []*scim.Request{up}, Pushed: pushed, Sort: sortHere}
	up.Query.Filter = pushed
	switch {
	case pushed == nil:
		plan.How, plan.Residual, plan.Why = Scan, q.Filter, "the upstream cannot evaluate this filter: all its resources are read"
	case rest:
		plan.How, plan.Residual, plan.Why = Scan, q.Filter, "part of the filter is evaluated by the upstream, the rest here"
	case sortHere != nil:
		plan.How, plan.Why = Scan, "the filter is evaluated by the upstream, the sort here"
	default:
		plan.Why = "the filter is evaluated by the upstream"
		s.project(p, up, req)
	}
	return s.fromTheTop(plan, q, page)
}

// fromTheTop lets a scan read from the beginning in the largest pages. Where every match is needed, one page of the
// upstream is not enough: a cursor has to find its place again whatever came and went, and that is not in the upstream's
// order.
func (s *shape) fromTheTop(plan *Plan, q scim.Query, page int) *Plan {
	if plan.How == Forward && (q.Whole || q.Cursor != nil) {
		plan.How, plan.Sort = Scan, q.SortBy
		if plan.Why = "the filter is evaluated by the upstream, and every match is read"; q.Filter == nil {
			plan.Why = "all resources are read"
		}
	}
	if q.Cursor != nil {
		plan.Why += ", for pages by cursor"
	}
	if plan.How == Scan {
		up := plan.Requests[0]
		up.Query.StartIndex, up.Query.Count = 1, &page
		up.Query.SortBy, up.Query.Descending = nil, false
		up.Query.Attributes, up.Query.ExcludedAttributes = nil, nil
	}
	return plan
}

// byIdentity answers a filter that names one resource: by id, or by a value that the gateway itself holds. nil
// when the filter does no such thing. For values that only the gateway holds, a miss in the identity map is an
// answer: no resource is shown with them.
func (s *shape) byIdentity(p *profile.Profile, req, up *scim.Request, known map[Lookup][]Held) *Plan {
	filter := req.Query.Filter
	for _, c := range conjuncts(filter) {
		ref, value, ok := s.equality(c)
		if !ok {
			continue
		}
		switch {
		case ref == refID:
			ids := []string{value}
			if !scim.IsID(value) {
				ids = nil
			}
			return &Plan{How: Candidate, IDs: ids, Requests: []*scim.Request{s.bare(req)}, Residual: filter, Why: "read by id"}
		case ref == refExternalID && s.keepsExtID:
			var ids []string
			for _, h := range known[Lookup{By: "externalId", Value: value}] {
				ids = append(ids, h.ID)
			}
			return &Plan{How: Candidate, IDs: ids, Requests: []*scim.Request{s.bare(req)}, Residual: filter, Why: "externalId is held here: read by id"}
		case ref == refUserName && s.alias.on:
			for _, h := range known[Lookup{By: "userName", Value: value}] {
				if h.Sent == "" || !s.pushes(p, c) {
					continue
				}
				alias := &scim.AttributeExpression{AttributePath: scim.AttributePath{AttributeName: "userName"}, Operator: scim.Eq, CompareValue: h.Sent}
				page := p.Paging.PageSize
				up.Query.Filter, up.Query.Count, up.Query.SortBy = alias, &page, nil
				return &Plan{How: Scan, Requests: []*scim.Request{up}, Pushed: alias, Residual: filter, Why: "userName has an alias upstream"}
			}
		}
	}
	return nil
}

// pushDown picks what the upstream evaluates: the whole filter, or as many terms of its AND as it can take. OR
// and NOT go as a whole or not at all. rest tells whether something is left.
func (s *shape) pushDown(p *profile.Profile, f scim.Filter) (pushed scim.Filter, rest bool) {
	if s.pushes(p, f) && s.exact(f) {
		// A stored name may be the alias of a longer one, which is then what the client is shown.
		return f, s.alias.on && s.mentions(f, refUserName)
	}
	for _, c := range conjuncts(f) {
		if !s.pushes(p, c) || !s.exact(c) {
			continue
		}
		switch {
		case pushed == nil:
			pushed = c
		case p.Filter.All || p.Filter.And:
			pushed = &scim.LogicalExpression{Left: pushed, Right: c, Operator: scim.And}
		}
	}
	return pushed, true
}

// pushes reports whether the upstream evaluates a filter.
func (s *shape) pushes(p *profile.Profile, f scim.Filter) bool {
	switch f := f.(type) {
	case *scim.LogicalExpression:
		able := p.Filter.All || p.Filter.And
		if f.Operator == scim.Or {
			able = p.Filter.All || p.Filter.Or
		}
		return able && s.pushes(p, f.Left) && s.pushes(p, f.Right)
	case *scim.NotExpression:
		return (p.Filter.All || p.Filter.Not) && s.pushes(p, f.Expression)
	case *scim.AttributeExpression:
		t, ok := s.rt.Resolve(f.AttributePath)
		return ok && (p.Filter.All || s.evaluates(t.Ref.String(), f.Operator))
	case *scim.ValuePath:
		t, ok := s.rt.Resolve(f.AttributePath)
		return ok && (p.Filter.All || s.pushesElement(t, f) || p.Filter.ValuePath && s.pushesValueFilter(p, t, f.ValueFilter))
	default:
		return false
	}
}

// pushesElement takes `emails[type eq "work" and value eq "x"]` for the profile's path
// emails[type eq "work"].value.
func (s *shape) pushesElement(t scim.Target, f *scim.ValuePath) bool {
	and, ok := f.ValueFilter.(*scim.LogicalExpression)
	if !ok || and.Operator != scim.And {
		return false
	}
	takes := func(filter, compared scim.Filter) bool {
		term, ok := compared.(*scim.AttributeExpression)
		if !ok {
			return false
		}
		sub := term.AttributePath.AttributeName
		path := scim.FormatPath(&scim.Path{AttributePath: f.AttributePath, ValueExpression: filter, SubAttribute: &sub})
		return s.evaluates(path, term.Operator)
	}
	return t.Sub == nil && (takes(and.Left, and.Right) || takes(and.Right, and.Left))
}

func (s *shape) pushesValueFilter(p *profile.Profile, t scim.Target, f scim.Filter) bool {
	switch f := f.(type) {
	case *scim.LogicalExpression:
		able := f.Operator == scim.And && p.Filter.And || f.Operator == scim.Or && p.Filter.Or
		return able && s.pushesValueFilter(p, t, f.Left) && s.pushesValueFilter(p, t, f.Right)
	case *scim.NotExpression:
		return p.Filter.Not && s.pushesValueFilter(p, t, f.Expression)
	case *scim.AttributeExpression:
		ref := t.Ref
		ref.Sub = f.AttributePath.AttributeName
		return s.evaluates(ref.String(), f.Operator)
	default:
		return false
	}
}

func (s *shape) evaluates(path string, operator scim.CompareOperator) bool {
	return slices.Contains(s.filters[strings.ToLower(path)], strings.ToLower(string(operator)))
}

// exact reports whether the upstream's answer to a filter is the gateway's: no attribute in it is shown other
// than the upstream stores it.
func (s *shape) exact(f scim.Filter) bool {
	refs, err := s.rt.Attributes(f)
	if err != nil || !s.seesAll(f) {
		return false
	}
	for _, ref := range refs {
		switch {
		case ref.Name == "meta" && ref.Sub != "created" && ref.Sub != "lastModified":
			return false // the gateway's own
		case ref == refSchemas || ref.Sub == "$ref" && slices.Contains(s.references, ref.Parent()):
			return false
		case ref == refUserName:
			// Under an alias the stored name is not the one that is shown. Equality with a name that has no alias
			// is exact; for the other operators the upstream's answer misses the aliased users.
			if s.alias.on && !isEquality(f) {
				return false
			}
		case !s.shownAsStored(ref):
			return false
		}
	}
	return true
}

// seesAll reports whether the upstream has every value that a value filter may find. Where parts of an attribute are
// the gateway's own, some values may be its alone: those that lack what is compared, as name[familyName ne "x"] asks.
func (s *shape) seesAll(f scim.Filter) bool {
	switch f := f.(type) {
	case *scim.LogicalExpression:
		return s.seesAll(f.Left) && s.seesAll(f.Right)
	case *scim.NotExpression:
		return s.seesAll(f.Expression)
	case *scim.ValuePath:
		t, ok := s.rt.Resolve(f.AttributePath)
		partly := s.mayKeep(t.Ref) || t.Ref == scim.Ref{Name: "meta"} // which an upstream may not have at all
		return ok && !(partly && s.rt.MatchValue(t, f.ValueFilter, map[string]any{}))
	default:
		return true
	}
}

func (s *shape) mentions(f scim.Filter, ref scim.Ref) bool {
	refs, err := s.rt.Attributes(f)
	return err == nil && slices.Contains(refs, ref)
}

// shownAsStored reports whether the upstream has the attribute and the gateway adds nothing to it.
func (s *shape) shownAsStored(ref scim.Ref) bool {
	if ref == refID || ref.Name == "meta" && ref.Schema == "" {
		return true // every service provider has them
	}
	t, ok := s.rt.Lookup(ref)
	if !ok || t.Leaf().Returned == "never" {
		return false // an upstream that evaluates a filter on passwords would give them away
	}
	return s.stored.Touches(ref) && !s.mayKeep(ref) && s.hasRoom(ref)
}

func isEquality(f scim.Filter) bool {
	a, ok := f.(*scim.AttributeExpression)
	return ok && strings.EqualFold(string(a.Operator), string(scim.Eq))
}

// equality takes a term of the form attribute eq "text".
func (s *shape) equality(f scim.Filter) (scim.Ref, string, bool) {
	a, ok := f.(*scim.AttributeExpression)
	if !ok || !isEquality(f) {
		return scim.Ref{}, "", false
	}
	value, ok := a.CompareValue.(string)
	if !ok {
		return scim.Ref{}, "", false
	}
	t, ok := s.rt.Resolve(a.AttributePath)
	return t.Ref, value, ok
}

// conjuncts are the terms of the outermost AND.
func conjuncts(f scim.Filter) []scim.Filter {
	if l, ok := f.(*scim.LogicalExpression); ok && l.Operator == scim.And {
		return append(conjuncts(l.Left), conjuncts(l.Right)...)
	}
	if f == nil {
		return nil
	}
	return []scim.Filter{f}
}

// Equalities reports whether a filter is nothing but an AND of `eq` terms, so that a resource which does not
// match it shows that the upstream did not apply it.
func Equalities(f scim.Filter) bool {
	for _, c := range conjuncts(f) {
		if !isEquality(c) {
			return false
		}
	}
	return f != nil
}
