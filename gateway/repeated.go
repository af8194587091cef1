package gateway

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
	"scimgate/transform/scim"
)

// weigh corrects what the upstream shows of an unknown write by what the trail has of the gateway's own writes since.
// A client that got no answer tries again, and then the upstream shows the second try: of a create or a delete it was
// the only one that was done, and of a change nobody can tell.
func (g *Gateway) weigh(ctx context.Context, req *scim.Request, p *payload, o store.OpenIntent, f found) (found, error) {
	changes := req.Op == scim.OpReplace || req.Op == scim.OpPatch
	if !changes && !f.done {
		return f, nil
	}
	who := o.ID
	if req.Op == scim.OpCreate {
		who = cmp.Or(req.Resource.UserName(), f.resource.ID())
		if p.Held != nil {
			who = cmp.Or(p.Held.UserName, who)
		}
	}
	since, err := g.since(ctx, o, who)
	if err != nil {
		return f, err
	}
	for _, r := range since {
		open := r.Kind == audit.Intent || r.Kind == audit.Unknown
		if !open && !changed(r) {
			continue
		}
		did := "request " + r.RequestID
		switch same := r.Op == o.Op; {
		case changes:
			if f.reason = "nobody can tell: " + did + " wrote the resource since"; f.done {
				f.reason = "the resource holds all of it, but " + f.reason
			}
			return f, nil
		case same && open:
			return f, fmt.Errorf("%s may have done the same since: it has to be settled first", did)
		case same && req.Op == scim.OpDelete && r.Kind == audit.Reconciled:
			f.reason = "deleted, by this request or another: nobody can tell: " + did + " may have done it since"
			return f, nil
		case same && req.Op == scim.OpDelete:
			return found{action: audit.Failed, reason: "not deleted: " + did + " did it since"}, nil
		case same && r.Subject.ID == f.resource.ID():
			return found{action: audit.Failed, reason: "not created: " + did + " did it since", resource: f.resource}, nil
		}
	}
	return f, nil
}

// since returns, in order, the last record of each write of the connection that was intended after o and is about the
// same resource, known by its id or the client's userName.
func (g *Gateway) since(ctx context.Context, o store.OpenIntent, who string) ([]*audit.Record, error) {
	last := map[int64]*audit.Record{}
	for r, err := range g.Store.Search(ctx, audit.Query{User: who, Connection: o.Connection, After: o.Intent}) {
		if err != nil {
			return nil, fmt.Errorf("look for later writes: %w", err)
		}
		intent := r.Intent
		if r.Kind == audit.Intent {
			intent = r.Seq
		}
		if intent > o.Intent && r.ResourceType == o.ResourceType {
			last[intent] = r
		}
	}
	out := make([]*audit.Record, 0, len(last))
	for _, intent := range slices.Sorted(maps.Keys(last)) {
		out = append(out, last[intent])
	}
	return out, nil
}

// changed reports whether the record that closes a write says that it was done.
func changed(r *audit.Record) bool {
	if r.Kind == audit.Reconciled {
		return r.Action != audit.Failed
	}
	return r.Answer.Status < 300
}
