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
	permit, err := x.admit(ctx)
	if err != nil {
		x.failed = true
		return nil, err
	}
	resp, err := g.Upstream.Send(ctx, permit, req)
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

// checkVersion is If-Match for an upstream without versions (RFC 7644, Section 3.14), and If-None-Match of a write (RFC
// 9110, Section 13.1.2).
func (g *Gateway) checkVersion(req *scim.Request, current scim.Resource) error {
	version := current.Meta("version")
	switch p := req.Preconditions; {
	case p.IfMatch != "" && !g.versioned(req.Type) && !matchesVersion(p.IfMatch, version):
		return scim.Errorf(http.StatusPreconditionFailed, "", "the resource has changed: its version is not the one in If-Match")
	case p.IfNoneMatch != "" && matchesVersion(p.IfNoneMatch, version):
		return scim.Errorf(http.StatusPreconditionFailed, "", "the resource is there, and If-None-Match names its version")
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
	if req.Search {
		x.rec.Plan += ", asked by POST"
	}
	switch {
	case plan.How == transform.Scan || req.Query.Cursor != nil:
		return g.pages(ctx, x, req, []part{{req, plan}})
	case plan.How == transform.Local:
		return &scim.Response{Status: http.StatusOK, List: []scim.Resource{}, StartIndex: 1}, nil
	case plan.How == transform.Candidate:
		found, err := g.candidates(ctx, x, part{req, plan})
		if err != nil {
			return nil, err
		}
		sortBy(req, found)
		return g.page(req, found), nil
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
func (g *Gateway) candidates(ctx context.Context, x *exchange, p part) ([]scim.Resource, error) {
	found := []scim.Resource{}
	for _, id := range p.plan.IDs {
		get := *p.plan.Requests[0]
		get.Op, get.ID = scim.OpGet, id
		resp, err := g.ask(ctx, x, &get)
		if isNotFound(err) {
			continue // deleted behind the gateway's back
		}
		if err != nil {
			return nil, err
		}
		r, err := g.finishListed(ctx, x, p.req, resp.Resource)
		if err != nil {
			return nil, err
		}
		if ok, err := p.req.Type.Match(p.plan.Residual, r); err != nil {
			return nil, err
		} else if ok {
			found = append(found, r)
		}
	}
	return found, nil
}

// page cuts one page out of all matches.
func (g *Gateway) page(req *scim.Request, all []scim.Resource) *scim.Response {
	from := min(req.Query.StartIndex-1, len(all))
	to := min(from+g.pageSize(req), len(all))
	out := listing(req, all, from, to)
	out.StartIndex = req.Query.StartIndex
	return out
}

// pageSize is how many resources a page may have. Without count it is as many as in a page that the upstream makes.
func (g *Gateway) pageSize(req *scim.Request) int {
	if c := req.Query.Count; c != nil {
		return min(*c, transform.MaxPage)
	}
	return g.Profile.Paging.PageSize
}

// listing shows what stands from one index of all matches to another.
func listing(req *scim.Request, all []scim.Resource, from, to int) *scim.Response {
	out := &scim.Response{Status: http.StatusOK, List: make([]scim.Resource, 0, to-from), TotalResults: len(all)}
	for _, r := range all[from:to] {
		as := req
		for _, p := range req.Parts {
			if p.Type.Name == r.Meta("resourceType") {
				as = p
			}
		}
		out.List = append(out.List, transform.Project(as.Type, r, as.Query))
	}
	return out
}

// order is how matches are listed (RFC 7644, Section 3.4.2.3): of a multi-valued attribute the primary or first value
// counts, resources without a value come last when ascending and first when descending.
type order struct {
	kind    string                 // the resource type; "" at the root
	targets map[string]scim.Target // what sortBy names, by resource type; a type may lack it
	exact   bool
	down    bool
	named   bool // resources with equal values stand in the order of their types and ids, which gives every place a name
}

// position is a resource's place in an order.
type position struct {
	Value any    `json:"v,omitempty"` // by which it is sorted
	Kind  string `json:"k"`
	ID    string `json:"r"`
}

func orderOf(req *scim.Request) order {
	o := order{targets: map[string]scim.Target{}, down: req.Query.Descending, named: req.Query.Cursor != nil}
	parts := req.Parts
	if req.Type != nil {
		o.kind, parts = req.Type.Name, []*scim.Request{req}
	}
	for _, p := range parts {
		if by := p.Query.SortBy; by != nil {
			t, _ := p.Type.Lookup(*by)
			o.targets[p.Type.Name], o.exact = t, t.Leaf().CaseExact
		}
	}
	return o
}

func (o order) of(r scim.Resource) position {
	at := position{Kind: cmp.Or(o.kind, r.Meta("resourceType")), ID: r.ID()}
	if t, ok := o.targets[at.Kind]; ok {
		at.Value = sortValue(t, r)
	}
	return at
}

func (o order) compare(a, b position) int {
	c := compareValues(a.Value, b.Value, o.exact)
	if o.down {
		c = -c
	}
	if c != 0 || !o.named {
		return c
	}
	return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.ID, b.ID))
}

// behind is the index of the first resource of a sorted list that stands behind a place.
func (o order) behind(list []scim.Resource, at position) int {
	i, _ := slices.BinarySearchFunc(list, at, func(r scim.Resource, at position) int {
		if o.compare(o.of(r), at) > 0 {
			return 1
		}
		return -1
	})
	return i
}

// sortBy sorts a list as its query asks; it stays as it is where the query does not.
func sortBy(req *scim.Request, list []scim.Resource) {
	if req.Query.SortBy == nil && req.Query.Cursor == nil {
		return
	}
	o := orderOf(req)
	slices.SortStableFunc(list, func(a, b scim.Resource) int { return o.compare(o.of(a), o.of(b)) })
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
