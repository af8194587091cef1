package scim

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The parameters of a query (RFC 7644, Section 3.4.2; RFC 9865, Section 2), in the order they are read.
const (
	inFilter = iota
	inAttributes
	inExcludedAttributes
	inSortBy
	inSortOrder
	inStartIndex
	inCursor
	inCount
	numParameters
)

// given are the values of the parameters that came; nil where one did not.
type given [numParameters]*string

// parameter is how one of them is read, and what it is in a SearchRequest.
type parameter struct {
	name, scimType string
	form           form
	read           func(q *Query, rt *ResourceType, value string) error
}

type form int

const (
	formText form = iota
	formList
	formInteger
)

var parameters = [numParameters]parameter{
	inFilter: {"filter", InvalidFilter, formText, func(q *Query, _ *ResourceType, v string) (err error) {
		q.Filter, err = ParseFilter(v)
		return err
	}},
	inAttributes: {"attributes", InvalidValue, formList, func(q *Query, rt *ResourceType, v string) (err error) {
		q.Attributes, err = q.readAttributes(rt, v, true)
		return err
	}},
	inExcludedAttributes: {"excludedAttributes", InvalidValue, formList, func(q *Query, rt *ResourceType, v string) (err error) {
		q.ExcludedAttributes, err = q.readAttributes(rt, v, false)
		return err
	}},
	inSortBy: {"sortBy", InvalidPath, formText, func(q *Query, rt *ResourceType, v string) error {
		p, err := ParseAttributePath(v)
		if err != nil {
			return err
		}
		t, ok := rt.Resolve(p)
		if !ok {
			return BadRequest(InvalidPath, "sortBy names no attribute of %s", rt.Name)
		}
		q.SortBy = &t.Ref
		return nil
	}},
	inSortOrder: {"sortOrder", InvalidValue, formText, func(q *Query, _ *ResourceType, v string) error {
		switch {
		case strings.EqualFold(v, "ascending"):
		case strings.EqualFold(v, "descending"):
			q.Descending = true
		default:
			return BadRequest(InvalidValue, "sortOrder must be ascending or descending")
		}
		return nil
	}},
	inStartIndex: {"startIndex", InvalidValue, formInteger, func(q *Query, _ *ResourceType, v string) error {
		n, ok := readInt(v)
		if !ok {
			return BadRequest(InvalidValue, "startIndex must be an integer")
		}
		q.StartIndex = max(n, 1) // Section 3.4.2.4: less than 1 is 1
		return nil
	}},
	inCursor: {"cursor", InvalidCursor, formText, func(q *Query, _ *ResourceType, v string) error {
		q.Cursor = &v // whoever made it knows whether it is one
		return nil
	}},
	inCount: {"count", InvalidValue, formInteger, func(q *Query, _ *ResourceType, v string) error {
		n, ok := readInt(v)
		if !ok {
			e := BadRequest(InvalidValue, "count must be an integer")
			if q.Cursor != nil {
				e.Type = InvalidCount // RFC 9865, Section 2.1
			}
			return e
		}
		n = max(n, 0) // Section 3.4.2.4: a negative value is 0
		q.Count = &n
		return nil
	}},
}

// readInt reads an integer; beyond the range of 32 bits the nearest end stands in.
func readInt(v string) (int, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 32)
	return int(n), err == nil || errors.Is(err, strconv.ErrRange)
}

// readQuery reads the query part of a request's URL. Parameters it does not know are ignored, because Entra's feature
// flags ride on the Tenant URL.
func (req *Request) readQuery(raw string, types []*ResourceType) error {
	var g given
	if raw != "" {
		if err := g.readURL(raw); err != nil {
			return err
		}
	}
	switch {
	case req.Op == OpDiscover:
		req.Query.StartIndex = 1
		if g[inFilter] != nil {
			return Errorf(http.StatusForbidden, "", "a filter is not allowed here (RFC 7644, Section 4)")
		}
		return nil
	case !req.Search:
		return req.readGiven(&g, types)
	}
	for i, v := range g {
		if v != nil { // left alone, a filter there would mean none
			return BadRequest(parameters[i].scimType, "%s belongs into the body of a query by POST", parameters[i].name)
		}
	}
	return nil
}

// readURL takes the parameters it knows out of the query part of a URL. What cannot be decoded may be one of them, and so
// is refused.
func (g *given) readURL(raw string) error {
	for pair := range strings.SplitSeq(raw, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, ok := decodeQuery(rawName)
		if !ok {
			return BadRequest(InvalidValue, "the query has a parameter name that cannot be decoded")
		}
		i := slices.IndexFunc(parameters[:], func(p parameter) bool { return strings.EqualFold(p.name, name) })
		known := i >= 0
		value, ok := decodeQuery(rawValue)
		switch {
		case !ok && known:
			return BadRequest(parameters[i].scimType, "the query parameter %s cannot be decoded", parameters[i].name)
		case !ok:
			return BadRequest(InvalidValue, "the query parameter %q cannot be decoded", clip(name))
		case !known && strings.Contains(pair, ";"):
			// Some separate parameters by it. For them there may be a filter here, and ignored it would mean none.
			return BadRequest(InvalidValue, "the query has a semicolon: separate parameters by &, or escape it as %%3B")
		case !known:
			continue
		case g[i] != nil:
			return BadRequest(parameters[i].scimType, "the query parameter %s occurs twice", parameters[i].name)
		}
		taken := value
		g[i] = &taken
	}
	return nil
}

func decodeQuery(raw string) (string, bool) {
	s, err := url.QueryUnescape(raw)
	return s, err == nil && utf8.ValidString(s)
}

// readSearch reads the body of a query by POST, a SearchRequest (RFC 7644, Section 3.4.3). Its parameters mean what
// they mean in a URL; null is as good as none, and members it does not know are ignored.
func (req *Request) readSearch(body Resource, types []*ResourceType) error {
	if !hasMessage(field(body, "schemas"), MessageSearchRequest) {
		return BadRequest(InvalidSyntax, "schemas must contain %q", MessageSearchRequest)
	}
	var g given
	for i, p := range parameters {
		v := field(body, p.name)
		if v == nil || p.form == formList && Empty(v) {
			continue
		}
		value, ok := "", false
		switch p.form {
		case formText:
			value, ok = v.(string)
		case formInteger:
			var n json.Number
			n, ok = v.(json.Number)
			value = string(n)
		case formList:
			value, ok = joined(v)
		}
		if len(value) > maxText {
			return BadRequest(p.scimType, "%s is longer than %d bytes", p.name, maxText)
		}
		if !ok {
			return BadRequest(InvalidValue, "%s must be %s", p.name, [...]string{"a string", "an array of strings", "an integer"}[p.form])
		}
		g[i] = &value
	}
	return req.readGiven(&g, types)
}

// maxText is how long a parameter may be in a body: as long as a URL may be.
const maxText = 32 << 10

// joined is an array of strings as the query part of a URL has it.
func joined(v any) (string, bool) {
	values, ok := v.([]any)
	names := make([]string, len(values))
	for i, v := range values {
		name, isText := v.(string)
		names[i], ok = name, ok && isText
	}
	return strings.Join(names, ","), ok
}

// readGiven reads the parameters of a request at a resource type or at the root.
func (req *Request) readGiven(g *given, types []*ResourceType) error {
	if req.Type == nil {
		return req.readRoot(g, types)
	}
	return req.Query.read(g, req.Type)
}

func (q *Query) read(g *given, rt *ResourceType) error {
	q.StartIndex = 1
	for i, v := range g {
		if v == nil {
			continue
		}
		if err := parameters[i].read(q, rt, *v); err != nil {
			return err
		}
	}
	switch {
	case g[inAttributes] != nil && g[inExcludedAttributes] != nil:
		return BadRequest(InvalidValue, "attributes and excludedAttributes exclude each other (RFC 7644, Section 3.9)")
	case g[inStartIndex] != nil && g[inCursor] != nil: // RFC 9865, Section 2.4: either asks for a method
		return BadRequest(InvalidValue, "startIndex and cursor exclude each other (RFC 9865, Section 2.4)")
	}
	return nil
}

// maxUnknown is how many unknown names of a list are noted.
const maxUnknown = 16

// readAttributes reads a list of attribute paths, each once. An empty list is none; one of unknown names only is not
// nil. Microsoft's reference client asks for `emails[type eq "work"]`: where filtered is set, a path with a value filter
// means the whole attribute, which is more than was asked for. To exclude more would hide something.
func (q *Query) readAttributes(rt *ResourceType, list string, filtered bool) ([]Ref, error) {
	if strings.Trim(list, ", ") == "" {
		return nil, nil
	}
	refs := []Ref{}
	seen := map[Ref]bool{} // each is looked for in every resource of the answer
	add := func(r Ref) {
		if !seen[r] {
			seen[r] = true
			refs = append(refs, r)
		}
	}
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if e := rt.Extension(name); e != nil { // the extension's URN alone means all of it
			for _, a := range e.Attributes {
				add(Ref{Schema: e.ID, Name: a.Name})
			}
			continue
		}
		p, err := ParsePath(name)
		if err != nil {
			return nil, err
		}
		if p.ValueExpression != nil && !filtered {
			return nil, BadRequest(InvalidPath, "an attribute to be excluded cannot have a value filter")
		}
		if t, ok := rt.ResolvePath(p); ok {
			add(t.Ref)
		} else if len(q.Unknown) < maxUnknown {
			q.Unknown = append(q.Unknown, clip(p.AttributePath.String())) // the values of a filter may be personal
		}
	}
	return refs, nil
}
