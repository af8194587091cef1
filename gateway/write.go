package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
	"scimgate/gateway/store"
	"scimgate/gateway/upstream"
	"scimgate/transform"
	"scimgate/transform/scim"
)

// write carries out a plan that changes something.
func (g *Gateway) write(ctx context.Context, x *exchange, req *scim.Request, plan *transform.Plan, held *transform.Held) (*scim.Response, error) {
	next, err := g.next(req, plan, held)
	if err != nil {
		return nil, err
	}
	if g.versioned(req.Type) && len(plan.Requests) > 0 {
		plan.Requests[0].Preconditions.IfMatch = req.Preconditions.IfMatch
	}
	var resp *scim.Response
	switch plan.How {
	case transform.Local:
		return nil, fmt.Errorf("write %s: policy let a resource type pass that the upstream lacks", req.Type.Name)
	case transform.Read: // all of it is the gateway's: the upstream is asked whether the resource is there
		resp, err = g.ask(ctx, x, plan.Requests[0])
	case transform.ReadWrite:
		resp, err = g.readWrite(ctx, x, plan, next)
	default:
		resp, err = g.send(ctx, x, plan.Requests, plan.Requests, next)
	}
	switch {
	case err == nil && req.Op == scim.OpDelete:
		g.forget(x, req)
		return &scim.Response{Status: http.StatusNoContent}, nil
	case err == nil:
		return g.written(ctx, x, req, resp, held, next)
	case req.Op == scim.OpDelete && isNotFound(err):
		g.forget(x, req)
	case next != nil && plan.How == transform.OneByOne:
		g.renamed(x, req, held, next)
	}
	return nil, err
}

// addElements sends a PATCH again that the upstream refused because an `add` picks an element that is not there: see
// transform.AddElements. A refused PATCH has changed nothing (RFC 7644, Section 3.5.2), so this is no repetition. One
// read tells which elements are missing; the refusal stands when none is.
func (g *Gateway) addElements(ctx context.Context, x *exchange, patch *scim.Request, refusal error) (*scim.Response, error) {
	current, err := g.ask(ctx, x, g.transform.Get(patch.Type, patch.ID, patch.Origin))
	if err != nil {
		return nil, refusal
	}
	again := *patch
	var changed bool
	if again.Operations, changed = transform.AddElements(patch.Type, current.Resource, patch.Operations); !changed {
		return nil, refusal
	}
	permit, err := x.admit(ctx)
	if err != nil {
		return nil, err
	}
	x.remark("add-element", "the upstream makes no element where a value filter matches none: the element itself was added")
	resp, err := g.Upstream.Send(ctx, permit, &again)
	x.called(resp)
	return resp, err
}

func isNoTarget(err error) bool {
	e, ok := errors.AsType[*scim.Error](err)
	return ok && e.Status == http.StatusBadRequest && e.Type == scim.NoTarget
}

// next is what the gateway will hold of the resource once the upstream has done its part; nil when that changes
// nothing.
func (g *Gateway) next(req *scim.Request, plan *transform.Plan, held *transform.Held) (*transform.Held, error) {
	switch {
	case plan.Held != nil:
		h := *plan.Held
		h.ID = req.ID
		return &h, nil
	case len(plan.KeptOps) > 0:
		return g.transform.Keep(req.Type, req.ID, plan.KeptOps, held)
	default:
		return nil, nil
	}
}

// send stores the intent and sends requests one after the other, each admitted on its own. Once the intent is
// durable, the exchange no longer hangs on the client's connection: what was begun is brought to an end and
// recorded. intended is what the intent tells of. A second send of one exchange goes by the intent of the first.
func (g *Gateway) send(ctx context.Context, x *exchange, intended, requests []*scim.Request, next *transform.Held) (*scim.Response, error) {
	permit, err := x.admit(ctx)
	if err != nil {
		x.failed = true
		return nil, err
	}
	defer func() {
		if permit != nil {
			permit.Release() // unless it was used
		}
	}()
	if x.intent == 0 {
		if err := g.intend(ctx, x, intended, next); err != nil {
			return nil, err
		}
		x.deadline = time.Now().Add(g.Deadline)
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), x.deadline)
	defer cancel()
	var resp *scim.Response
	for i, r := range requests {
		if i > 0 {
			if permit, err = x.admit(ctx); err != nil {
				return nil, g.partly(ctx, x, r, i, len(requests), err)
			}
		}
		x.went = i + 1
		resp, err = g.Upstream.Send(ctx, permit, r)
		x.called(resp)
		if r.Op == scim.OpPatch && isNoTarget(err) {
			resp, err = g.addElements(ctx, x, r, err)
		}
		if err != nil {
			x.failed = true
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
	x.failed = true
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

// renamed keeps up with a userName that was changed before a later operation failed.
func (g *Gateway) renamed(x *exchange, req *scim.Request, held, next *transform.Held) {
	has := scim.Fold(x.confirmed.UserName())
	if has == "" || has != scim.Fold(cmp.Or(next.Sent, next.UserName)) {
		return
	}
	h := transform.Held{ID: req.ID}
	if held != nil {
		h = *held
	}
	h.UserName, h.Sent = next.UserName, next.Sent
	x.changes = append(x.changes, g.remember(req.Type, &h))
}

// intend makes the intent durable, or says that nothing may be sent.
func (g *Gateway) intend(ctx context.Context, x *exchange, requests []*scim.Request, next *transform.Held) error {
	rec := x.rec
	rec.Kind = audit.Intent
	rec.Attributes = x.attributes(len(requests))
	for i := range rec.Attributes {
		rec.Attributes[i].Confirmed = nil
	}
	body, err := g.writeDown(requests, next, x.rec.RequestID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.IntentWait)
	defer cancel()
	if err := g.sealValues(ctx, x, &rec); err != nil {
		return trailDown(err)
	}
	first := requests[0]
	seq, err := g.trail.Intend(ctx, &rec, store.OpenIntent{
		Connection: g.Name, Upstream: g.UpstreamName, Op: string(first.Op), ResourceType: first.Type.Name, ID: first.ID,
		RequestID: x.rec.RequestID, Payload: body,
	})
	if err != nil {
		return trailDown(err)
	}
	g.sealed(x, &rec)
	x.intent = seq
	return g.sinksTook(ctx, seq)
}

// written makes the answer to a write that is done, and notes what the gateway holds from now on.
func (g *Gateway) written(ctx context.Context, x *exchange, req *scim.Request, resp *scim.Response, held, next *transform.Held) (*scim.Response, error) {
	// Who names attributes must get them (RFC 7644, Section 3.5.2).
	needed := req.Op == scim.OpCreate || req.Op == scim.OpReplace || g.Profile.Update.ReadBack || req.Query.Attributes != nil
	if resp.Resource == nil && needed {
		read, err := g.readBack(ctx, x, req, resp)
		switch {
		case err == nil:
			resp = read
		case req.Op == scim.OpCreate:
			return nil, err
		default:
			x.remark("read-back", "the upstream did it, and could not be read afterwards: nothing is confirmed")
		}
	}
	x.confirms(resp.Resource)
	if next != nil {
		if resp.Resource != nil {
			next.ID = resp.Resource.ID()
		}
		x.changes = append(x.changes, g.remember(req.Type, next))
		held = next
	}
	if resp.Resource == nil {
		done := &scim.Response{Status: http.StatusNoContent}
		if g.versioned(req.Type) {
			done.Version = resp.Version
		}
		return done, nil
	}
	status := http.StatusOK
	if req.Op == scim.OpCreate {
		status = http.StatusCreated
	}
	r, version := g.finish(x, req, resp, held)
	return &scim.Response{
		Status: status, Resource: transform.Project(req.Type, r, req.Query), Version: version, Location: r.Meta("location"), Recovered: resp.Recovered,
	}, nil
}

// forget drops what the gateway holds of a resource that is gone.
func (g *Gateway) forget(x *exchange, req *scim.Request) {
	if g.transform.Holds(req.Type) {
		key := g.key(req.Type, req.ID)
		x.changes = append(x.changes, identity.Change{Delete: &key})
	}
}

// readBack reads what an upstream that answered a write without a body now holds. Without it nobody knows under
// which id a resource was created, or whether.
func (g *Gateway) readBack(ctx context.Context, x *exchange, req *scim.Request, resp *scim.Response) (*scim.Response, error) {
	id := req.ID
	if id == "" {
		id = locationID(resp.Location)
	}
	if id == "" {
		return nil, created(errors.New("the upstream answered a create with neither the resource nor its location"))
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), x.deadline)
	defer cancel()
	read, err := g.ask(ctx, x, g.transform.Get(req.Type, id, req.Origin))
	if err != nil && req.Op == scim.OpCreate {
		err = created(err)
	}
	return read, err
}

// created is the answer when a create was done and nobody knows what it made: the client's next match finds it.
func created(err error) error {
	e := scim.Errorf(http.StatusServiceUnavailable, "", "the upstream said that it was created, and then did not show it: ask again")
	e.RetryAfter, e.Err = 5*time.Second, fmt.Errorf("%w: %w", upstream.ErrUnknown, err)
	return e
}

// readWriteTries is how often a PATCH is applied anew when somebody else changed the resource meanwhile.
const readWriteTries = 3

// readWrite carries out a PATCH on an upstream that takes PUT only: read, apply, replace. It runs under the lock
// of the id; where the upstream has versions, If-Match covers writers behind the gateway's back, and the PATCH is
// applied anew to what they wrote, unless the client itself insists on a version.
func (g *Gateway) readWrite(ctx context.Context, x *exchange, plan *transform.Plan, next *transform.Held) (*scim.Response, error) {
	patch := plan.Requests[0]
	for try := 1; ; try++ {
		resp, err := g.ask(ctx, x, g.transform.Get(patch.Type, patch.ID, patch.Origin))
		if err != nil {
			return nil, err
		}
		resource, changed, err := patch.Type.ApplyPatch(resp.Resource, patch.Operations)
		if err != nil {
			return nil, err
		}
		if !changed {
			x.remark("read-write", "the upstream already holds all of it: nothing was sent")
			return resp, nil
		}
		put := *patch
		put.Op, put.Operations, put.Resource = scim.OpReplace, nil, resource
		if g.Profile.ETag && put.Preconditions.IfMatch == "" {
			put.Preconditions.IfMatch = resp.Version
		}
		resp, err = g.send(ctx, x, plan.Requests, []*scim.Request{&put}, next)
		if e, ok := errors.AsType[*scim.Error](err); !ok || e.Status != http.StatusPreconditionFailed || patch.Preconditions.IfMatch != "" {
			return resp, err
		} else if try == readWriteTries {
			e := scim.Errorf(http.StatusServiceUnavailable, "", "the resource changes faster than it can be written: try again later")
			e.RetryAfter, e.Err = 5*time.Second, err
			return nil, e
		}
		x.failed = false
		x.remark("read-write", "somebody else changed the resource meanwhile: read and applied again")
	}
}

// isNotFound reports whether the upstream said that a resource does not exist.
func isNotFound(err error) bool {
	e, ok := errors.AsType[*scim.Error](err)
	return ok && e.Status == http.StatusNotFound
}

// locationID is the id at the end of a resource's location; "" when there is none.
func locationID(location string) string {
	u, err := url.Parse(location)
	if err != nil || location == "" {
		return ""
	}
	return path.Base(u.Path)
}
