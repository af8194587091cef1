package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
	"scimgate/gateway/store"
	"scimgate/transform/scim"
)

// reconcileEvery is the pause between two rounds of asking the upstream what became of unknown writes.
const reconcileEvery = 5 * time.Second

// reconcileAfter is how long an unknown write is left alone, from when it is first seen: until then it may still be
// on its way through the upstream. It is also the pause before the next try.
const reconcileAfter = 15 * time.Second

// Reconcile asks the upstream, until ctx ends, what became of the writes that were closed as unknown: those of a
// process that died, and those whose answer was lost. What it finds is recorded; nothing is ever sent again.
func (g *Gateway) Reconcile(ctx context.Context) {
	tick := time.NewTicker(g.reconcileEvery)
	defer tick.Stop()
	due := map[int64]time.Time{}
	for {
		var err error
		if due, err = g.reconcileDue(ctx, due); err != nil && ctx.Err() == nil {
			g.Logger.Warn("unknown writes cannot be reconciled yet", "connection", g.Name, "error", explain(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// reconcileDue reconciles what is due, and returns when what is left will be. One that cannot be reconciled does not
// keep the others waiting.
func (g *Gateway) reconcileDue(ctx context.Context, due map[int64]time.Time) (map[int64]time.Time, error) {
	open, err := g.Store.Unreconciled(ctx)
	if err != nil {
		return due, err
	}
	left := map[int64]time.Time{}
	for _, o := range open {
		if o.Connection != g.Name {
			continue
		}
		at, seen := due[o.Intent]
		if !seen {
			at = time.Now().Add(g.reconcileAfter)
		}
		if !time.Now().Before(at) {
			failed := g.reconcile(ctx, o)
			if failed == nil {
				continue
			}
			err, at = cmp.Or(err, failed), time.Now().Add(g.reconcileAfter)
		}
		left[o.Intent] = at
	}
	return left, err
}

// found is what the upstream shows of an unknown write.
type found struct {
	action   string
	reason   string
	done     bool
	resource scim.Resource
}

// reconcile finds out about one write and records it.
func (g *Gateway) reconcile(ctx context.Context, o store.OpenIntent) error {
	x := g.begin(&scim.Request{Origin: scim.Origin{RequestID: o.RequestID}})
	x.rec.ResourceType, x.rec.Op, x.rec.Subject.ID = o.ResourceType, o.Op, audit.Clip(o.ID)
	req, p, err := g.restore(o)
	if err != nil {
		g.Logger.Error("an intent cannot be read", "intent", o.Intent, "error", err)
		x.rec.Error = audit.Clip(err.Error())
		return g.reconciled(ctx, x, o, found{action: audit.Failed, reason: "what was to be written cannot be read any more: look at the upstream"})
	}
	x.req = req
	f, open, err := g.find(ctx, x, req, p, o)
	defer open()
	if err != nil {
		return err
	}
	if err := g.catchUp(ctx, x, req, p, o, f); err != nil {
		return err
	}
	x.rec.Subject.UserName = audit.Clip(req.Resource.UserName())
	if p.Held != nil {
		x.rec.Subject.UserName, x.rec.Subject.ExternalID = audit.Clip(p.Held.UserName), audit.Clip(p.Held.ExternalID)
	}
	if f.resource != nil {
		x.rec.Subject.ID = f.resource.ID()
		x.rec.Subject.UserName = cmp.Or(x.rec.Subject.UserName, audit.Clip(f.resource.UserName()))
	}
	for w := range req.Writes() {
		if len(x.trace) < mostAttributes {
			x.trace = append(x.trace, trace{write: w, step: 1, value: w.Value})
		}
	}
	if f.resource != nil {
		x.confirms(f.resource)
	}
	x.rec.Attributes = x.attributes(1)
	if err := g.sealedBefore(ctx, x, o); err != nil {
		return err
	}
	if f.done {
		x.belongs(f.resource)
	}
	return g.reconciled(ctx, x, o, f)
}

// find asks the upstream, under the lock of the resource, which open opens.
func (g *Gateway) find(ctx context.Context, x *exchange, req *scim.Request, p *payload, o store.OpenIntent) (f found, open func(), err error) {
	id, unlock := req.ID, func() {}
	if req.Op == scim.OpCreate {
		if f, err = g.findCreated(ctx, x, req, o); err != nil || !f.done {
			return f, unlock, err
		}
		id = f.resource.ID()
	}
	if unlock, err = g.locks.lock(ctx, req.Type.Name+"/"+id); err != nil {
		return f, unlock, err
	}
	if req.Op != scim.OpCreate {
		if f, err = g.findChanged(ctx, x, req, p); err != nil {
			return f, unlock, err
		}
	}
	f, err = g.weigh(ctx, req, p, o, f)
	return f, unlock, err
}

// catchUp makes the identity map what it would have become with the answer, unless a later request has changed it.
func (g *Gateway) catchUp(ctx context.Context, x *exchange, req *scim.Request, p *payload, o store.OpenIntent, f found) error {
	switch {
	case !f.done:
		return nil
	case req.Op == scim.OpDelete:
		g.forget(x, req)
		return nil
	case p.Held == nil:
		return nil
	}
	p.Held.ID = f.resource.ID()
	has, ok, err := g.Store.ByID(ctx, p.Held.Key())
	if err != nil {
		return fmt.Errorf("look up the identity: %w", err)
	}
	if ok && has.Updated.After(o.Time) {
		x.remark("reconcile", "what the gateway holds was changed since, and stays")
		return nil
	}
	x.changes = append(x.changes, identity.Change{Put: p.Held})
	return nil
}

func (g *Gateway) reconciled(ctx context.Context, x *exchange, o store.OpenIntent, f found) error {
	x.rec.Kind, x.rec.Intent, x.rec.Action = audit.Reconciled, o.Intent, f.action
	x.rec.Plan = "ask the upstream what became of it; nothing is sent again"
	x.remark("reconcile", f.reason)
	x.rec.Duration = audit.Milliseconds(time.Since(x.started))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.IntentWait)
	defer cancel()
	if err := g.sealValues(ctx, x, &x.rec); err != nil {
		return err
	}
	if _, err := g.Store.Reconciled(ctx, &x.rec, x.changes...); err != nil && !errors.Is(err, store.ErrNotOpen) {
		return fmt.Errorf("record what was found: %w", err)
	}
	g.Logger.Info("an unknown write was reconciled", "connection", g.Name, "request", o.RequestID, "op", o.Op, "found", f.reason)
	return nil
}

// findCreated looks for the user of a create by its userName. One that is older than the intent is somebody
// else's: it is reported and left alone.
func (g *Gateway) findCreated(ctx context.Context, x *exchange, req *scim.Request, o store.OpenIntent) (found, error) {
	name := "userName"
	if req.Type.Name == "Group" {
		name = "displayName"
	}
	value, _ := req.Resource[name].(string)
	filter := &scim.AttributeExpression{AttributePath: scim.AttributePath{AttributeName: name}, Operator: scim.Eq, CompareValue: value}
	query := g.transform.Get(req.Type, "", req.Origin)
	query.Op, query.Query.Filter = scim.OpQuery, filter
	resp, err := g.ask(ctx, x, query)
	if err != nil {
		return found{}, err
	}
	if err := checkPushed(req.Type, filter, resp.List); err != nil {
		return found{}, err
	}
	switch len(resp.List) {
	case 0:
		return found{action: audit.Failed, reason: "not created, or gone since: the upstream has nobody of that " + name}, nil
	case 1:
	default:
		return found{action: audit.Failed, reason: fmt.Sprintf("the upstream has %d resources of that %s: look at the upstream", len(resp.List), name)}, nil
	}
	r := resp.List[0]
	if !isOurs(req, r, o.Time) {
		return found{action: audit.Failed, reason: "not created: who has that " + name + " was there before, or is somebody else", resource: r}, nil
	}
	return found{action: audit.Created, reason: "created: the upstream has it since the intent", done: true, resource: r}, nil
}

// isOurs reports whether a resource was made by a create that was sent at a time or after it. Where meta.created
// cannot tell, all that was sent must be there.
func isOurs(req *scim.Request, r scim.Resource, sent time.Time) bool {
	if a, b := req.Resource.ExternalID(), r.ExternalID(); a != "" && b != "" && a != b {
		return false
	}
	text := r.Meta("created")
	if text == "" {
		return holdsAll(req.Type, r, req.Resource)
	}
	created, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return false
	}
	for _, coarse := range []time.Duration{time.Second, time.Millisecond} {
		if created.Equal(created.Truncate(coarse)) {
			return !created.Before(sent.Truncate(coarse)) && holdsAll(req.Type, r, req.Resource)
		}
	}
	return !created.Before(sent.Truncate(time.Microsecond))
}

// findChanged looks at what a change or a delete left.
func (g *Gateway) findChanged(ctx context.Context, x *exchange, req *scim.Request, p *payload) (found, error) {
	resp, err := g.ask(ctx, x, g.transform.Get(req.Type, req.ID, req.Origin))
	switch {
	case isNotFound(err) && req.Op == scim.OpDelete:
		return found{action: audit.Deleted, reason: "deleted", done: true}, nil
	case isNotFound(err):
		return found{action: audit.Failed, reason: "the resource is gone: nobody can tell"}, nil
	case err != nil:
		return found{}, err
	}
	f := found{action: audit.Failed, reason: "not applied, or not all of it", resource: resp.Resource}
	switch req.Op {
	case scim.OpDelete:
		f.reason = "not deleted: the resource is still there"
		return f, nil
	case scim.OpPatch:
		_, changed, err := req.Type.ApplyPatch(resp.Resource, req.Operations)
		f.done = err == nil && !changed
		if p.Hidden && len(req.Operations) == 0 {
			f.done, f.reason = false, "nobody can tell: a password is never shown"
		}
	case scim.OpReplace:
		// A PUT removes what it does not name (RFC 7644, Section 3.5.1).
		f.done = holdsAll(req.Type, resp.Resource, req.Resource) && holdsAll(req.Type, req.Resource, resp.Resource)
	}
	if f.done {
		f.action, f.reason = action(req), "applied: the resource holds all of it"
		if p.Hidden {
			f.reason += ", but for a password, which is never shown"
		}
	}
	return f, nil
}

// holdsAll reports whether a resource has every value of another that clients may set and read.
func holdsAll(rt *scim.ResourceType, r, values scim.Resource) bool {
	has := map[string]any{}
	for w := range rt.Values(r) {
		has[scim.Fold(w.Path)] = w.Value
	}
	for w := range rt.Values(rt.Settable(values)) {
		t, ok := rt.Lookup(w.Ref)
		if !ok || !readable(t) {
			continue
		}
		v := has[scim.Fold(w.Path)]
		a, aText := v.(string)
		b, bText := w.Value.(string)
		if !scim.EqualValues(v, w.Value) && !(aText && bText && !t.Leaf().CaseExact && scim.Fold(a) == scim.Fold(b)) {
			return false
		}
	}
	return true
}
