package scim

// readRoot makes of a query at the root one query at each resource type that may have matches (RFC 7644, Section
// 3.4.2.1). An attribute that a type does not have is treated there as having no value, so that a filter may be decided
// without looking at any resource of the type; one that no type has is refused, as it is everywhere.
func (req *Request) readRoot(g *given, types []*ResourceType) error {
	if err := checkSort(g[inSortBy], types); err != nil {
		return err
	}
	for i, rt := range types {
		part := &Request{Op: OpQuery, Type: rt}
		own := *g
		if own[inSortBy] != nil && !sortable(rt, *own[inSortBy]) {
			own[inSortBy] = nil // all its resources have the same place
		}
		if err := part.Query.read(&own, rt); err != nil {
			return err
		}
		part.Query.Whole = true
		if i == 0 {
			req.Query = part.Query
			req.Query.Attributes, req.Query.ExcludedAttributes, req.Query.Unknown, req.Query.Whole = nil, nil, nil, false
			if err := checkSome(types, part.Query.Filter); err != nil {
				return err
			}
		}
		if req.Query.SortBy == nil {
			req.Query.SortBy = part.Query.SortBy
		}
		filter, verdict := narrow(rt, part.Query.Filter)
		if verdict == never {
			continue
		}
		part.Query.Filter = filter
		req.Parts = append(req.Parts, part)
	}
	return nil
}

// sortable reports whether a type has the attribute, or the path is none, for which it is refused elsewhere.
func sortable(rt *ResourceType, path string) bool {
	p, err := ParseAttributePath(path)
	if err != nil {
		return true
	}
	_, ok := rt.Resolve(p)
	return ok
}

func checkSort(path *string, types []*ResourceType) error {
	if path == nil {
		return nil
	}
	for _, rt := range types {
		if sortable(rt, *path) {
			return nil
		}
	}
	return BadRequest(InvalidPath, "sortBy names no attribute of any resource type")
}

// checkSome checks each comparison of a filter in the types that have what it compares; at least one must.
func checkSome(types []*ResourceType, f Filter) error {
	var path AttributePath
	switch f := f.(type) {
	case *LogicalExpression:
		if err := checkSome(types, f.Left); err != nil {
			return err
		}
		return checkSome(types, f.Right)
	case *NotExpression:
		return checkSome(types, f.Expression)
	case *AttributeExpression:
		path = f.AttributePath
	case *ValuePath:
		path = f.AttributePath
	default:
		return nil
	}
	found := false
	for _, rt := range types {
		if _, ok := rt.Resolve(path); !ok {
			continue
		}
		found = true
		if err := check(rt, nil, f, nil); err != nil {
			return err
		}
	}
	if !found {
		return BadRequest(InvalidFilter, "filter: no resource type has an attribute %q", clip(path.String()))
	}
	return nil
}

// verdict is what can be said of a filter without a resource.
type verdict int

const (
	open   verdict = iota // it depends on the resource
	always                // every resource of the type matches
	never
)

func (v verdict) not() verdict {
	switch v {
	case always:
		return never
	case never:
		return always
	default:
		return open
	}
}

func decided(b bool) verdict {
	if b {
		return always
	}
	return never
}

// narrow makes of a filter what is left to ask of the resources of one type: attributes of other types have no value
// there, and meta.resourceType is known. The filter is nil unless it is open.
func narrow(rt *ResourceType, f Filter) (Filter, verdict) {
	switch f := f.(type) {
	case nil:
		return nil, always
	case *LogicalExpression:
		left, l := narrow(rt, f.Left)
		right, r := narrow(rt, f.Right)
		settles := decided(f.Operator == Or) // what one side alone decides
		switch {
		case l == settles || r == settles:
			return nil, settles
		case l != open:
			return right, r
		case r != open:
			return left, l
		default:
			return &LogicalExpression{Left: left, Right: right, Operator: f.Operator}, open
		}
	case *NotExpression:
		inner, v := narrow(rt, f.Expression)
		if v != open {
			return nil, v.not()
		}
		return &NotExpression{Expression: inner}, open
	case *AttributeExpression:
		t, ok := rt.Resolve(f.AttributePath)
		switch {
		case !ok:
			return nil, decided(compareAttribute(nil, Target{}, f, nil))
		case t.Ref == Ref{Name: "meta", Sub: "resourceType"}:
			return nil, decided(compareAttribute(map[string]any{"resourceType": rt.Name}, t, f, nil))
		}
	case *ValuePath:
		if _, ok := rt.Resolve(f.AttributePath); !ok {
			return nil, never // there is no value that the value filter could match
		}
	}
	return f, open
}
