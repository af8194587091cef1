package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
	"scimgate/gateway/store"
	"scimgate/transform/scim"
)

// reconcileEvery is the pause between two rounds of asking the upstream what became of unknown writes.
const reconcileEvery = 5 * time.Second

// reconcileAfter is the age at which a write can no longer be on its way to the upstream: longer than an attempt.
const reconcileAfter = 15 * time.Second

// Reconcile asks the upstream, until ctx ends, what became of the writes that were closed as unknown: those of a
// process that died, and those whose answer was lost. What it finds is recorded; nothing is ever sent again.
func (g *Gateway) Reconcile(ctx context.Context) {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		if err := g.reconcileRound(ctx); err != nil && ctx.Err() == nil {
			g.Logger.Warn("unknown writes cannot be reconciled yet", "connection", g.Name, "error", explain(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (g *Gateway) reconcileRound(ctx context.Context) error {
	open, err := g.Store.Unreconciled(ctx)
	if err != nil {
		return err
	}
	for _, o := range open {
		if o.Connection != g.Name || time.Since(o.Time) < reconcileAfter {
			continue
		}
		if err := g.reconcile(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// found is what the upstream shows of an unknown write.
type found struct {
	action   string
	reason   string
	resource scim.Resource
	changes  []identity.Change
}

func (g *Gateway) reconcile(ctx context.Context, o store.OpenIntent) error {
	x := g.begin(&scim.Request{Origin: scim.Origin{RequestID: o.RequestID}})
	req, entry, err := g.restore(o)
	if err != nil {
		g.Logger.Error("the intent cannot be read", "intent", o.Intent, "error", err)
		x.rec.Error = audit.Clip(err.Error())
		return g.reconciled(ctx, x, o, found{action: audit.Failed, reason: "what was to be written cannot be read any more: look at the upstream"})
	}
	req.Origin.RequestID = o.RequestID
	var f found
	if req.Op == scim.OpCreate {
		f, err = g.findCreated(ctx, x, req, entry, o)
	} else {
		f, err = g.findChanged(ctx, x, req)
	}
	if err != nil {
		return err
	}
	x.req = req
	x.rec.ResourceType, x.rec.Op = o.ResourceType, o.Op
	x.rec.Subject = audit.Subject{ID: req.ID, UserName: audit.Clip(req.Resource.UserName())}
	if entry != nil {
		x.rec.Subject.UserName, x.rec.Subject.ExternalID = audit.Clip(entry.UserName), audit.Clip(entry.ExternalID)
	}
	if f.resource != nil {
		x.rec.Subject.ID = f.resource.ID()
		if x.rec.Subject.UserName == "" {
			x.rec.Subject.UserName = audit.Clip(f.resource.UserName())
		}
	}
	x.sending = true
	for w := range req.Writes() {
		if len(x.trace) < mostAttributes {
			x.trace = append(x.trace, trace{write: w, sent: true, value: w.Value})
		}
	}
	x.confirms(f.resource)
	x.rec.Attributes = x.attributes(nil)
	return g.reconciled(ctx, x, o, f)
}

func (g *Gateway) reconciled(ctx context.Context, x *exchange, o store.OpenIntent, f found) error {
	x.rec.Kind, x.rec.Intent, x.rec.Action = audit.Reconciled, o.Intent, f.action
	x.rec.Plan = "ask the upstream what became of it; nothing is sent again"
	x.remark("reconcile", f.reason)
	x.rec.Duration = audit.Milliseconds(time.Since(x.started))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.IntentWait)
	defer cancel()
	if _, err := g.Store.Reconciled(ctx, &x.rec, f.changes...); err != nil {
		return fmt.Errorf("record what was found: %w", err)
	}
	g.Logger.Info("an unknown write was reconciled", "connection", g.Name, "request", o.RequestID, "op", o.Op, "found", f.reason)
	return nil
}

// restore makes the upstream request again from what was written down with the intent.
func (g *Gateway) restore(o store.OpenIntent) (*scim.Request, *identity.Entry, error) {
	var p payload
	if err := json.Unmarshal(o.Payload, &p); err != nil {
		return nil, nil, fmt.Errorf("read the intent: %w", err)
	}
	req := &scim.Request{Op: p.Op, ID: o.ID, Query: scim.Query{StartIndex: 1}}
	for _, rt := range g.Types() {
		if rt.Name == o.ResourceType {
			req.Type = rt
		}
	}
	if req.Type == nil {
		return nil, nil, fmt.Errorf("read the intent: there is no resource type %q", o.ResourceType)
	}
	if p.Resource != nil {
		// encoding/json made float64 of numbers; the strict reader keeps them as they are.
		var err error
		if req.Resource, err = scim.DecodeObject(scim.AppendJSON(nil, p.Resource)); err != nil {
			return nil, nil, fmt.Errorf("read the intent: %w", err)
		}
	}
	for _, op := range p.Operations {
		path, target, err := req.Type.CompilePath(op.Path)
		if err != nil {
			return nil, nil, fmt.Errorf("read the intent: %w", err)
		}
		req.Operations = append(req.Operations, scim.PatchOp{Op: op.Op, Path: path, Target: target, Value: op.Value})
	}
	var entry *identity.Entry
	if len(p.Held) > 0 {
		if err := json.Unmarshal(p.Held, &entry); err != nil {
			return nil, nil, fmt.Errorf("read the intent: %w", err)
		}
	}
	return req, entry, nil
}

// findCreated looks for the user of a create by its userName. One that is older than the intent is somebody
// else's: it is reported and left alone.
func (g *Gateway) findCreated(ctx context.Context, x *exchange, req *scim.Request, entry *identity.Entry, o store.OpenIntent) (found, error) {
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
		return found{action: audit.Failed, reason: "not created: the upstream has nobody of that " + name}, nil
	case 1:
	default:
		return found{action: audit.Failed, reason: fmt.Sprintf("the upstream has %d resources of that %s: look at the upstream", len(resp.List), name)}, nil
	}
	r := resp.List[0]
	created, err := time.Parse(time.RFC3339Nano, r.Meta("created"))
	if err == nil && created.Before(o.Time.Truncate(time.Second)) {
		return found{action: audit.Failed, reason: "not created: who has that " + name + " was there before", resource: r}, nil
	}
	f := found{action: audit.Created, reason: "created: the upstream has it since the intent", resource: r}
	if entry != nil {
		entry.ID = r.ID()
		f.changes = append(f.changes, identity.Change{Put: entry})
	}
	return f, nil
}

// findChanged looks at what a change or a delete left.
func (g *Gateway) findChanged(ctx context.Context, x *exchange, req *scim.Request) (found, error) {
	resp, err := g.ask(ctx, x, g.transform.Get(req.Type, req.ID, req.Origin))
	if e, ok := errors.AsType[*scim.Error](err); ok && e.Status == http.StatusNotFound {
		if req.Op != scim.OpDelete {
			return found{action: audit.Failed, reason: "the resource is gone"}, nil
		}
		key := g.key(req.Type, req.ID)
		return found{action: audit.Deleted, reason: "deleted", changes: []identity.Change{{Delete: &key}}}, nil
	}
	if err != nil {
		return found{}, err
	}
	f := found{action: action(req), resource: resp.Resource.Clone()}
	switch req.Op {
	case scim.OpDelete:
		f.action, f.reason = audit.Failed, "not deleted: the resource is still there"
	case scim.OpPatch:
		if _, changed, err := req.Type.ApplyPatch(resp.Resource, req.Operations); err == nil && !changed {
			f.reason = "applied: the resource holds all of it"
		} else {
			f.action, f.reason = audit.Failed, "not applied, or not all of it"
		}
	case scim.OpReplace:
		f.reason = "applied: the resource holds all of it"
		has := map[string]any{}
		for w := range req.Type.Values(resp.Resource) {
			has[w.Path] = w.Value
		}
		for w := range req.Writes() {
			if w.Path != "password" && string(scim.AppendJSON(nil, has[w.Path])) != string(scim.AppendJSON(nil, w.Value)) {
				f.action, f.reason = audit.Failed, "not applied, or not all of it"
			}
		}
	}
	return f, nil
}
