package upstream

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"scimgate/transform/scim"
)

// Response.Recovered, for the trail.
const (
	Adopted   = "adopted"    // a create whose answer was lost: the resource was found
	ReadAgain = "read again" // another write whose answer was lost: the resource shows that it was done
)

var errNotAsked = errors.New("not asked")

// recover finds out what became of a write whose answer was lost. final is false when the write may be repeated.
func (x *exchange) recover(ctx context.Context, out *outcome) (resp *scim.Response, final bool, err error) {
	switch x.req.Op {
	case scim.OpCreate:
		if resp := x.adopt(ctx); resp != nil {
			return resp, true, nil
		}
		return nil, true, x.giveUp(out, nil)
	case scim.OpDelete:
		return nil, false, nil // a repetition that finds nothing is success
	default:
		return x.readBack(ctx, out)
	}
}

// look asks a question until the upstream answers it, for as long as ctx and the budget allow. Only askings that
// are not answered are charged to the budget: an upstream that loses answers to writes but answers questions is
// asked about every one of them, and one that answers nothing is not burdened.
func (x *exchange) look(ctx context.Context, req *scim.Request) outcome {
	out := outcome{err: errNotAsked}
	for n := 1; ; n++ {
		if n > 1 && !pause(ctx, backoff(n-1)) {
			return out
		}
		p, err := x.c.Admit(ctx)
		if err != nil {
			out = outcome{err: err}
			if errors.Is(err, errShutDown) {
				return out
			}
			continue // costs the upstream nothing, and ends with ctx
		}
		if !x.c.budget.spend() {
			p.Release()
			return out
		}
		out = x.attempt(ctx, p, req)
		switch v := out.verdict(); {
		case v == answered || v == refused:
			x.c.budget.refund()
			return out
		case !out.repeatable():
			return out
		}
	}
}

// adopt looks for the resource that a create made although its answer was lost. It is nil when there is none, or
// none that is surely ours: never two users, never somebody else's.
func (x *exchange) adopt(ctx context.Context) *scim.Response {
	path := scim.AttributePath{AttributeName: "userName"}
	if x.req.Type.Name == "Group" {
		path.AttributeName = "displayName"
	}
	key, _ := x.req.Resource[path.AttributeName].(string)
	if key == "" {
		return nil
	}
	filter := &scim.AttributeExpression{AttributePath: path, Operator: scim.Eq, CompareValue: key}
	out := x.look(ctx, &scim.Request{
		Op: scim.OpQuery, Type: x.req.Type, Plain: x.req.Plain, Query: scim.Query{Filter: filter, StartIndex: 1}, Origin: x.req.Origin,
	})
	if out.verdict() != answered {
		return nil
	}
	// An upstream that passes over the filter answers with everybody.
	found := slices.DeleteFunc(out.resp.List, func(r scim.Resource) bool {
		ok, err := x.req.Type.Match(filter, r)
		return err != nil || !ok
	})
	if len(found) != 1 || !x.ours(found[0], out.ahead) {
		return nil
	}
	r := found[0]
	return &scim.Response{
		Status: http.StatusCreated, Resource: r, Version: r.Meta("version"), Location: r.Meta("location"), Recovered: Adopted,
	}
}

// clocksDiffer is the smallest difference between the upstream's clock and ours that its Date header, which has
// whole seconds and was written before it arrived, shows beyond doubt.
const clocksDiffer = 2 * time.Second

// ours reports whether a resource was made by this exchange's create: it did not exist before our first byte left.
// Where meta.created cannot tell that exactly, everything we sent must be there as well.
func (x *exchange) ours(r scim.Resource, ahead time.Duration) bool {
	if sent, got := x.req.Resource.ExternalID(), r.ExternalID(); sent != "" && got != "" && sent != got {
		return false
	}
	text := r.Meta("created")
	if text == "" {
		return x.holdsAll(r)
	}
	created, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return false
	}
	switch {
	case ahead.Abs() >= clocksDiffer:
		return !created.Add(-ahead).Before(x.began.Add(-clocksDiffer)) && x.holdsAll(r)
	case created.Nanosecond() == 0:
		return !created.Before(x.began.Truncate(time.Second)) && x.holdsAll(r)
	default:
		return !created.Before(x.began.Truncate(time.Millisecond))
	}
}

// readBack reads the resource of a lost PUT or PATCH and compares. What was surely done is success; what was not
// done is repeated where a repetition cannot do more than the first time.
func (x *exchange) readBack(ctx context.Context, write *outcome) (resp *scim.Response, final bool, err error) {
	out := x.look(ctx, &scim.Request{Op: scim.OpGet, Type: x.req.Type, Plain: x.req.Plain, ID: x.req.ID, Origin: x.req.Origin})
	if out.verdict() != answered || out.resp.Resource == nil {
		if f := out.failure(); f != nil && f.SCIM && f.Status == http.StatusNotFound {
			return nil, true, x.c.translate(x.req, &out)
		}
		return nil, true, x.giveUp(write, nil)
	}
	r := out.resp.Resource
	done := false
	if x.req.Op == scim.OpReplace {
		done = x.holdsAll(r) && x.holdsNoMore(r)
	} else {
		_, changed, err := x.req.Type.ApplyPatch(r, x.req.Operations)
		done = err == nil && !changed
	}
	if done {
		return &scim.Response{
			Status: http.StatusOK, Resource: r, Version: out.resp.Version, Location: r.Meta("location"), Recovered: ReadAgain,
		}, true, nil
	}
	sameVersion := x.req.Preconditions.IfMatch == "" || x.req.Preconditions.IfMatch == out.resp.Version
	if sameVersion && x.repeatable() {
		return nil, false, nil
	}
	return nil, true, x.giveUp(write, nil)
}

// repeatable reports whether doing the write twice does no more than doing it once. An add to a multi-valued
// attribute may do more.
func (x *exchange) repeatable() bool {
	return x.req.Op == scim.OpReplace || !slices.ContainsFunc(x.req.Operations, func(op scim.PatchOp) bool {
		return op.Op == "add" && !x.singleValued(&op)
	})
}

func (x *exchange) singleValued(op *scim.PatchOp) bool {
	if op.Path != nil {
		t := op.Target
		return t.Attribute != nil && !t.Attribute.MultiValued && !t.Leaf().MultiValued
	}
	object, _ := op.Value.(map[string]any)
	for name := range object {
		t, ok := x.req.Type.Lookup(scim.Ref{Name: name})
		if !ok || t.Attribute.MultiValued {
			return false
		}
	}
	return true
}

// holdsAll reports whether everything we sent is in r, apart from what a service provider sets itself or does not
// show by default.
func (x *exchange) holdsAll(r scim.Resource) bool {
	known := map[string]bool{"schemas": true, "id": true, "meta": true}
	all := true
	x.req.Type.All(func(ref scim.Ref, a *scim.Attribute) bool {
		if ref.Schema == "" {
			known[ref.Name] = true
		} else {
			known[ref.Schema] = true
		}
		if ref.Name == "schemas" || ref.Name == "id" || ref.Name == "meta" || !shown(a) {
			return true
		}
		all = holds(a, x.req.Resource.Get(ref), r.Get(ref))
		return all
	})
	for name, v := range x.req.Resource {
		all = all && (known[name] || holds(nil, v, r[name]))
	}
	return all
}

// holdsNoMore reports whether r has no attribute that a client may write and that we did not send: a PUT removes
// those (RFC 7644, Section 3.5.1).
func (x *exchange) holdsNoMore(r scim.Resource) bool {
	none := true
	x.req.Type.All(func(ref scim.Ref, a *scim.Attribute) bool {
		if ref.Name != "schemas" && shown(a) && !scim.Empty(r.Get(ref)) {
			none = !scim.Empty(x.req.Resource.Get(ref))
		}
		return none
	})
	return none
}

// shown reports whether clients may write an attribute and then read it without asking for it by name.
func shown(a *scim.Attribute) bool {
	return !a.ReadOnly() && a.Mutability != "writeOnly" && (a.Returned == "always" || a.Returned == "default")
}

// holds reports whether got has everything that sent has. a may be nil.
func holds(a *scim.Attribute, sent, got any) bool {
	if scim.Empty(sent) || sent == "" {
		return true
	}
	switch sent := sent.(type) {
	case map[string]any:
		m, ok := got.(map[string]any)
		for name, v := range sent {
			var sub *scim.Attribute
			if a != nil {
				sub = a.SubAttribute(name)
			}
			ok = ok && (sub != nil && !shown(sub) || holds(sub, v, m[name]))
		}
		return ok
	case []any:
		list, ok := got.([]any)
		return ok && !slices.ContainsFunc(sent, func(v any) bool {
			return !slices.ContainsFunc(list, func(e any) bool { return holds(a, v, e) })
		})
	case string:
		if m, ok := got.(map[string]any); ok { // an upstream may take a complex attribute as its plain value
			got = m["value"]
		}
		s, ok := got.(string)
		return ok && (s == sent || a != nil && !a.CaseExact && strings.EqualFold(s, sent))
	default:
		return sent == got
	}
}
