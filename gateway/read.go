package gateway

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"scimgate/transform"
	"scimgate/transform/scim"
)

// ask sends one request that changes nothing.
func (g *Gateway) ask(ctx context.Context, x *exchange, req *scim.Request) (*scim.Response, error) {
	resp, err := g.Upstream.Do(ctx, req)
	x.called(resp)
	if err != nil {
		x.failed = true
		return nil, err
	}
	return resp, nil
}

// get answers GET of one resource.
func (g *Gateway) get(ctx context.Context, x *exchange, req *scim.Request, plan *transform.Plan, held *transform.Held) (*scim.Response, error) {
	if g.versioned(req.Type) {
		plan.Requests[0].Preconditions.IfNoneMatch = req.Preconditions.IfNoneMatch
	}
	resp, err := g.ask(ctx, x, plan.Requests[0])
	if err != nil {
		return nil, err
	}
	if resp.Status == http.StatusNotModified {
		return &scim.Response{Status: http.StatusNotModified, Version: resp.Version}, nil
	}
	r, version := g.finish(x, req, resp, held)
	if !g.versioned(req.Type) && req.Preconditions.IfNoneMatch != "" && matchesVersion(req.Preconditions.IfNoneMatch, version) {
		return &scim.Response{Status: http.StatusNotModified, Version: version}, nil
	}
	return &scim.Response{Status: http.StatusOK, Resource: transform.Project(req.Type, r, req.Query), Version: version}, nil
}

// finish makes what the client shall see of an answered resource.
func (g *Gateway) finish(x *exchange, req *scim.Request, resp *scim.Response, held *transform.Held) (scim.Resource, string) {
	r := resp.Resource
	meta, _ := r["meta"].(map[string]any)
	switch {
	case !g.versioned(req.Type):
		delete(meta, "version") // Finish makes one of all that the client sees
	case resp.Version != "" && meta == nil:
		r["meta"] = map[string]any{"version": resp.Version}
	case resp.Version != "":
		meta["version"] = resp.Version
	}
	unknown := g.versioned(req.Type) && r.Meta("version") == ""
	r, drift := g.transform.Finish(req.Type, r, held, req.Origin.Base)
	if meta, _ := r["meta"].(map[string]any); unknown {
		delete(meta, "version") // the upstream would refuse one of ours in If-Match
	}
	if drift {
		x.remark("drift", "the upstream no longer holds the alias it was sent for userName: its own value is shown")
	}
	return r, r.Meta("version")
}

// current reads a resource as the client sees it.
func (g *Gateway) current(ctx context.Context, x *exchange, req *scim.Request, held *transform.Held) (scim.Resource, error) {
	resp, err := g.ask(ctx, x, g.transform.Get(req.Type, req.ID, req.Origin))
	if err != nil {
		return nil, err
	}
	r, _ := g.finish(x, req, resp, held)
	return r, nil
}

// checkVersion is If-Match for an upstream without versions (RFC 7644, Section 3.14).
func checkVersion(req *scim.Request, current scim.Resource) error {
	if m := req.Preconditions.IfMatch; m != "" && !matchesVersion(m, current.Meta("version")) {
		return scim.Errorf(http.StatusPreconditionFailed, "", "the resource has changed: its version is not the one in If-Match")
	}
	return nil
}

// matchesVersion compares weakly (RFC 9110, Section 8.8.3.2).
func matchesVersion(list, version string) bool {
	weak := func(s string) string { return strings.TrimPrefix(strings.TrimSpace(s), "W/") }
	for tag := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(tag) == "*" || weak(tag) == weak(version) {
			return true
		}
	}
	return false
}

// query answers a list.
func (g *Gateway) query(ctx context.Context, x *exchange, req *scim.Request, plan *transform.Plan) (*scim.Response, error) {
	switch plan.How {
	case transform.Local:
		return &scim.Response{Status: http.StatusOK, List: []scim.Resource{}, StartIndex: 1}, nil
	case transform.Candidate:
		return g.candidates(ctx, x, req, plan)
	case transform.Scan:
		return g.scan(ctx, x, req, plan)
	}
	if up := plan.Requests[0]; plan.Pushed != nil && up.Query.Count != nil && *up.Query.Count == 0 {
		one := 1 // an answer without resources cannot be checked
		up.Query.Count = &one
	}
	resp, err := g.ask(ctx, x, plan.Requests[0])
	if err != nil {
		return nil, err
	}
	if err := checkPushed(req.Type, plan.Pushed, resp.List); err != nil {
		return nil, err
	}
	if c := req.Query.Count; c != nil && len(resp.List) > *c {
		resp.List = resp.List[:*c] // an upstream that ignores count
	}
	out := &scim.Response{Status: http.StatusOK, List: []scim.Resource{}, TotalResults: resp.TotalResults, StartIndex: req.Query.StartIndex}
	for _, r := range resp.List {
		if r, err = g.finishListed(ctx, x, req, r); err != nil {
			return nil, err
		}
		out.List = append(out.List, transform.Project(req.Type, r, req.Query))
	}
	return out, nil
}

func (g *Gateway) finishListed(ctx context.Context, x *exchange, req *scim.Request, r scim.Resource) (scim.Resource, error) {
	held, err := g.held(ctx, req.Type, r.ID())
	if err != nil {
		return nil, err
	}
	r, _ = g.finish(x, req, &scim.Response{Resource: r}, held)
	return r, nil
}

// checkPushed refuses the answer of an upstream that did not apply a filter: its first user would be taken for
// the one that was asked for.
func checkPushed(rt *scim.ResourceType, pushed scim.Filter, list []scim.Resource) error {
	if !transform.Equalities(pushed) {
		return nil
	}
	for _, r := range list {
		if ok, err := rt.Match(pushed, r); err != nil || !ok {
			return scim.Errorf(http.StatusBadGateway, "", "the upstream answered a filter with a resource that does not match it: nothing of the answer can be trusted")
		}
	}
	return nil
}

// candidates reads resources one by one and applies the filter to them.
func (g *Gateway) candidates(ctx context.Context, x *exchange, req *scim.Request, plan *transform.Plan) (*scim.Response, error) {
	found := []scim.Resource{}
	for _, id := range plan.IDs {
		get := *plan.Requests[0]
		get.Op, get.ID = scim.OpGet, id
		resp, err := g.ask(ctx, x, &get)
		if isNotFound(err) {
			continue // deleted behind the gateway's back
		}
		if err != nil {
			return nil, err
		}
		r, err := g.finishListed(ctx, x, req, resp.Resource)
		if err != nil {
			return nil, err
		}
		if ok, err := req.Type.Match(plan.Residual, r); err != nil {
			return nil, err
		} else if ok {
			found = append(found, r)
		}
	}
	sortBy(req, found)
	return page(req, found), nil
}

// page cuts one page out of all matches.
func page(req *scim.Request, all []scim.Resource) *scim.Response {
	q := req.Query
	from := min(q.StartIndex-1, len(all))
	size := mostListed
	if q.Count != nil {
		size = min(*q.Count, size)
	}
	to := min(from+size, len(all))
	out := &scim.Response{Status: http.StatusOK, List: []scim.Resource{}, TotalResults: len(all), StartIndex: q.StartIndex}
	for _, r := range all[from:to] {
		out.List = append(out.List, transform.Project(req.Type, r, q))
	}
	return out
}

// mostListed is the largest page.
const mostListed = 1000

// sortBy sorts by the attribute the query names (RFC 7644, Section 3.4.2.3): of a multi-valued attribute the
// primary or first value counts, resources without a value come last when ascending and first when descending.
func sortBy(req *scim.Request, list []scim.Resource) {
	by := req.Query.SortBy
	if by == nil {
		return
	}
	t, _ := req.Type.Lookup(*by)
	slices.SortStableFunc(list, func(a, b scim.Resource) int {
		c := compareValues(sortValue(t, a), sortValue(t, b), t.Leaf().CaseExact)
		if req.Query.Descending {
			return -c
		}
		return c
	})
}

func sortValue(t scim.Target, r scim.Resource) any {
	v := r.Get(t.Ref.Parent())
	if list, ok := v.([]any); ok {
		if len(list) == 0 {
			return nil
		}
		v = list[0]
		for _, e := range list {
			if m, ok := e.(map[string]any); ok && m["primary"] == true {
				v = e
				break
			}
		}
	}
	if m, ok := v.(map[string]any); ok {
		name := t.Ref.Sub
		if name == "" {
			name = "value"
		}
		return m[name]
	}
	return v
}

func compareValues(a, b any, caseExact bool) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	as, aText := a.(string)
	bs, bText := b.(string)
	if aText && bText {
		if !caseExact {
			as, bs = scim.Fold(as), scim.Fold(bs)
		}
		return strings.Compare(as, bs)
	}
	af, errA := strconv.ParseFloat(string(scim.AppendJSON(nil, a)), 64)
	bf, errB := strconv.ParseFloat(string(scim.AppendJSON(nil, b)), 64)
	if errA == nil && errB == nil {
		return cmp.Compare(af, bf)
	}
	return strings.Compare(string(scim.AppendJSON(nil, a)), string(scim.AppendJSON(nil, b)))
}
