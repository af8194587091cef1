package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
	"scimgate/gateway/store"
	"scimgate/gateway/upstream"
	"scimgate/transform"
	"scimgate/transform/scim"
)

// write carries out a plan that changes something.
func (g *Gateway) write(ctx context.Context, x *exchange, req *scim.Request, plan *transform.Plan, held *transform.Held) (*scim.Response, error) {
	switch plan.How {
	case transform.Local:
		return nil, fmt.Errorf("write %s: policy let a resource type pass that the upstream lacks", req.Type.Name)
	case transform.Read:
		return g.writeKept(ctx, x, req, plan, held)
	case transform.ReadWrite:
		return g.readWrite(ctx, x, req, plan, held)
	}
	resp, err := g.send(ctx, x, plan, plan.Requests)
	if err != nil {
		if e, ok := errors.AsType[*scim.Error](err); ok && req.Op == scim.OpDelete && e.Status == http.StatusNotFound {
			g.forget(x, req)
		}
		return nil, err
	}
	return g.written(ctx, x, req, plan, resp, held)
}

// send stores the intent and sends the requests of a plan, each admitted on its own. Once the intent is durable,
// the exchange no longer hangs on the client's connection: what was begun is brought to an end and recorded.
func (g *Gateway) send(ctx context.Context, x *exchange, plan *transform.Plan, requests []*scim.Request) (*scim.Response, error) {
	permit, err := g.Upstream.Admit(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.intend(ctx, x, plan, requests); err != nil {
		permit.Release()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.Deadline)
	defer cancel()
	var resp *scim.Response
	for i, r := range requests {
		if i > 0 {
			if permit, err = g.Upstream.Admit(ctx); err != nil {
				return nil, g.partly(ctx, x, r, i, len(requests), err)
			}
		}
		resp, err = g.Upstream.Send(ctx, permit, r)
		x.called(resp)
		if err != nil {
			if i > 0 {
				err = g.partly(ctx, x, r, i, len(requests), err)
			}
			return nil, err
		}
	}
	return resp, nil
}

// partly is the answer when an upstream that takes one operation at a time did some of them: all or nothing
// cannot be promised there, so the gateway reads again and says what it did.
func (g *Gateway) partly(ctx context.Context, x *exchange, r *scim.Request, done, all int, err error) error {
	if resp, readErr := g.ask(ctx, x, g.transform.Get(r.Type, r.ID, r.Origin)); readErr == nil {
		x.confirms(resp.Resource)
	}
	e, ok := errors.AsType[*scim.Error](err)
	if !ok {
		return err
	}
	partial := *e
	partial.Detail = fmt.Sprintf("%d of %d operations were applied, then: %s", done, all, e.Detail)
	return &partial
}

// payload is what reconciliation needs of an intent whose process died.
type payload struct {
	Op         scim.Op         `json:"op"`
	Resource   scim.Resource   `json:"resource,omitempty"`
	Operations []payloadOp     `json:"operations,omitempty"`
	Held       json.RawMessage `json:"held,omitempty"` // an identity.Entry without its id
}

type payloadOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// intend makes the intent durable, or says that nothing may be sent.
func (g *Gateway) intend(ctx context.Context, x *exchange, plan *transform.Plan, requests []*scim.Request) error {
	x.sending = true
	rec := x.rec
	rec.Kind = audit.Intent
	rec.Attributes = x.attributes(nil)
	for i := range rec.Attributes {
		rec.Attributes[i].Confirmed = nil
	}
	first := requests[0]
	p := payload{Op: first.Op, Resource: first.Resource}
	for _, r := range requests {
		for _, op := range r.Operations {
			p.Operations = append(p.Operations, payloadOp{op.Op, scim.FormatPath(op.Path), op.Value})
		}
	}
	var err error
	if plan.Held != nil {
		if p.Held, err = json.Marshal(g.remember(first.Type, plan.Held).Put); err != nil {
			return fmt.Errorf("write down the intent: %w", err)
		}
	}
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write down the intent: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, g.IntentWait)
	defer cancel()
	seq, err := g.Store.Intend(ctx, &rec, store.OpenIntent{
		Connection: g.Name, Upstream: g.UpstreamName, Op: string(first.Op), ResourceType: first.Type.Name, ID: first.ID,
		RequestID: x.rec.RequestID, Payload: body,
	})
	if err != nil {
		x.sending = false
		return trailDown(err)
	}
	x.intent = seq
	return nil
}

// written makes the answer to a write that the upstream has done, and notes what the gateway holds from now on.
func (g *Gateway) written(ctx context.Context, x *exchange, req *scim.Request, plan *transform.Plan, resp *scim.Response, held *transform.Held) (*scim.Response, error) {
	if req.Op == scim.OpDelete {
		g.forget(x, req)
		return &scim.Response{Status: http.StatusNoContent}, nil
	}
	readBack := resp.Resource == nil && (req.Op == scim.OpCreate || req.Op == scim.OpReplace || g.Profile.Update.ReadBack)
	if readBack {
		var err error
		if resp, err = g.readBack(ctx, x, req, resp); err != nil {
			return nil, err
		}
	}
	x.confirms(resp.Resource)
	id := req.ID
	if resp.Resource != nil {
		id = resp.Resource.ID()
	}
	next, err := g.hold(x, req, plan, id, held)
	if err != nil {
		return nil, err
	}
	if resp.Resource == nil {
		return &scim.Response{Status: http.StatusNoContent, Version: resp.Version}, nil
	}
	status := http.StatusOK
	if req.Op == scim.OpCreate {
		status = http.StatusCreated
	}
	r, version := g.finish(x, req, resp, next)
	return &scim.Response{
		Status: status, Resource: transform.Project(req.Type, r, req.Query), Version: version, Location: r.Meta("location"), Recovered: resp.Recovered,
	}, nil
}

// hold notes what the gateway holds of the resource once the write is recorded.
func (g *Gateway) hold(x *exchange, req *scim.Request, plan *transform.Plan, id string, held *transform.Held) (*transform.Held, error) {
	next := held
	switch {
	case plan.Held != nil:
		h := *plan.Held
		h.ID = id
		next = &h
	case len(plan.KeptOps) > 0:
		var err error
		if next, err = g.transform.Keep(req.Type, id, plan.KeptOps, held); err != nil {
			return nil, err
		}
	default:
		return held, nil
	}
	x.changes = append(x.changes, g.remember(req.Type, next))
	return next, nil
}

// forget drops what the gateway holds of a resource that is gone.
func (g *Gateway) forget(x *exchange, req *scim.Request) {
	if g.transform.Holds(req.Type) {
		key := g.key(req.Type, req.ID)
		x.changes = append(x.changes, identity.Change{Delete: &key})
	}
}

// readBack reads what an upstream that answered a write without a body now holds.
func (g *Gateway) readBack(ctx context.Context, x *exchange, req *scim.Request, resp *scim.Response) (*scim.Response, error) {
	id := req.ID
	if id == "" {
		id = locationID(resp.Location)
	}
	if id == "" {
		return nil, &scim.Error{Status: http.StatusBadGateway, Detail: "the upstream answered a create with neither the resource nor its location",
			Err: upstream.ErrUnknown}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.Deadline)
	defer cancel()
	return g.ask(ctx, x, g.transform.Get(req.Type, id, req.Origin))
}

// writeKept carries out a PATCH that is all about what the gateway holds: the upstream is asked whether the
// resource is there.
func (g *Gateway) writeKept(ctx context.Context, x *exchange, req *scim.Request, plan *transform.Plan, held *transform.Held) (*scim.Response, error) {
	resp, err := g.ask(ctx, x, plan.Requests[0])
	if err != nil {
		return nil, err
	}
	next, err := g.hold(x, req, plan, req.ID, held)
	if err != nil {
		return nil, err
	}
	r, version := g.finish(x, req, resp, next)
	return &scim.Response{Status: http.StatusOK, Resource: transform.Project(req.Type, r, req.Query), Version: version}, nil
}

// readWrite carries out a PATCH on an upstream that takes PUT only: read, apply, replace. It runs under the lock
// of the id; where the upstream has versions, If-Match covers writers behind the gateway's back.
func (g *Gateway) readWrite(ctx context.Context, x *exchange, req *scim.Request, plan *transform.Plan, held *transform.Held) (*scim.Response, error) {
	patch := plan.Requests[0]
	get := *patch
	get.Op, get.Operations, get.Preconditions = scim.OpGet, nil, scim.Preconditions{}
	resp, err := g.ask(ctx, x, &get)
	if err != nil {
		return nil, err
	}
	next, changed, err := req.Type.ApplyPatch(resp.Resource, patch.Operations)
	if err != nil {
		return nil, err
	}
	if !changed {
		x.remark("read-write", "the upstream already holds all of it: nothing was sent")
		return g.written(ctx, x, req, plan, resp, held)
	}
	put := *patch
	put.Op, put.Operations, put.Resource = scim.OpReplace, nil, next
	if g.Profile.ETag && put.Preconditions.IfMatch == "" {
		put.Preconditions.IfMatch = resp.Version
	}
	resp, err = g.send(ctx, x, plan, []*scim.Request{&put})
	if err != nil {
		return nil, err
	}
	return g.written(ctx, x, req, plan, resp, held)
}

// locationID is the id at the end of a resource's location; "" when there is none.
func locationID(location string) string {
	u, err := url.Parse(location)
	if err != nil || location == "" {
		return ""
	}
	return path.Base(u.Path)
}
