package transform

import (
	"fmt"
	"net/http"
	"slices"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// How is the way a plan is carried out.
type How string

// The ways. All but Local need the upstream.
const (
	Local     How = "local"      // nothing is sent: the answer is an empty list
	Forward   How = "forward"    // one request
	OneByOne  How = "one by one" // Requests in order; what was applied is known after each
	ReadWrite How = "read-write" // GET, apply Requests[0].Operations, PUT; serialised per id
	Read      How = "read"       // GET: the write concerns only what the gateway holds
	Candidate How = "candidates" // GET of each id in IDs, then the residual filter
	Scan      How = "scan"       // Requests[0] page by page, then the residual filter and the sort
)

// Plan is what will be sent upstream for one request, and what is left to do here.
type Plan struct {
	How      How
	Requests []*scim.Request
	IDs      []string       // Candidate
	Pushed   scim.Filter    // part of the filter that the upstream evaluates; nil: none
	Residual scim.Filter    // evaluated here, over resources as the client sees them; nil: none
	Sort     *scim.Ref      // sorted here; nil: not at all, or by the upstream
	Held     *Held          // what the gateway will hold once the upstream has confirmed a create or replace; nil: nothing
	KeptOps  []scim.PatchOp // PATCH operations on what the gateway holds
	Why      string         // one phrase for the trail and for explain, without values
}

// Lookups are what For needs to know from the identity map, besides what is held for req.ID.
func (t *Transform) Lookups(req *scim.Request) []Lookup {
	s := t.shapes[req.Type.Name]
	if s == nil || !s.keeps || req.Op != scim.OpQuery {
		return nil
	}
	var list []Lookup
	add := func(l Lookup) {
		if !slices.Contains(list, l) { // a filter may say a thing twice
			list = append(list, l)
		}
	}
	for _, c := range conjuncts(req.Query.Filter) {
		ref, value, ok := s.equality(c)
		switch {
		case !ok:
		case s.keepsExtID && ref == refExternalID:
			add(Lookup{By: "externalId", Value: value})
		case s.alias.on && ref == refUserName:
			add(Lookup{By: "userName", Value: value})
		}
	}
	return list
}

// For plans a normalized and permitted request. held is what the identity map holds of req.ID, nil when
// nothing; known is what it answered to Lookups. The error is an *Error, or another one when policy left an
// attribute without a ruling, so that nothing the upstream lacks is ever dropped in silence.
func (t *Transform) For(req *scim.Request, ruling Ruling, held *Held, known map[Lookup][]Held) (*Plan, error) {
	s := t.shapes[req.Type.Name]
	if s == nil {
		return &Plan{How: Local, Why: "the upstream has no " + req.Type.Name}, nil
	}
	switch req.Op {
	case scim.OpQuery:
		return s.query(t.profile, req, known), nil
	case scim.OpGet:
		return s.get(t.profile, req), nil
	case scim.OpCreate, scim.OpReplace:
		return s.whole(req, ruling)
	case scim.OpPatch:
		return s.patch(t.profile, req, ruling, held)
	case scim.OpDelete:
		return &Plan{How: Forward, Requests: []*scim.Request{s.bare(req)}, Why: "forwarded"}, nil
	default:
		return nil, fmt.Errorf("plan %s: not an operation on resources", req.Op)
	}
}

// bare is a request without what only the gateway answers: projection and preconditions.
func (s *shape) bare(req *scim.Request) *scim.Request {
	return &scim.Request{Op: req.Op, Type: req.Type, ID: req.ID, Plain: s.plain, Query: scim.Query{StartIndex: 1}, Origin: req.Origin}
}

func (s *shape) get(p *profile.Profile, req *scim.Request) *Plan {
	up := s.bare(req)
	s.project(p, up, req)
	return &Plan{How: Forward, Requests: []*scim.Request{up}, Why: "forwarded"}
}

// project lets the upstream leave attributes out where it can: a group's members may be most of the answer. Not
// where the gateway needs all of a resource, to merge what it holds or to make a version out of it. What a filter
// compares stays in the answer, so that it shows whether the upstream applied it.
func (s *shape) project(p *profile.Profile, up, req *scim.Request) {
	if !p.Projection || !p.ETag || s.keeps {
		return
	}
	needed := []scim.Ref{{Name: "meta"}}
	if compared, err := s.rt.Attributes(up.Query.Filter); err == nil {
		needed = append(needed, compared...)
	}
	up.Query.ExcludedAttributes = slices.DeleteFunc(slices.Clone(req.Query.ExcludedAttributes), func(r scim.Ref) bool {
		return slices.ContainsFunc(needed, func(n scim.Ref) bool { return r.Parent() == n.Parent() })
	})
	if len(req.Query.Attributes) > 0 {
		again := func(r scim.Ref) bool { return slices.Contains(needed, r) }
		up.Query.Attributes = append(needed, slices.DeleteFunc(slices.Clone(req.Query.Attributes), again)...)
	}
}

// whole plans POST and PUT.
func (s *shape) whole(req *scim.Request, ruling Ruling) (*Plan, error) {
	settable := req.Type.Settable(req.Resource)
	split := newSplitter(s, ruling)
	split.writes(req)
	sent, kept := split.resource(settable)
	if split.err != nil {
		return nil, split.err
	}
	h := &Held{UserName: settable.UserName(), ExternalID: kept.ExternalID(), Kept: kept}
	delete(kept, "externalId")
	plan := &Plan{How: Forward, Requests: []*scim.Request{s.bare(req)}, Why: "forwarded"}
	if len(kept) > 0 || h.ExternalID != "" {
		plan.Why += ", with attributes kept here"
	}
	if ruling.Alias && s.alias.needed(h.UserName) {
		h.Sent = s.alias.of(h.UserName)
		sent["userName"] = h.Sent
		plan.Why += ", userName under an alias"
	}
	req.Type.SetSchemas(sent)
	plan.Requests[0].Resource = sent
	if s.keeps {
		plan.Held = h
	}
	return plan, nil
}

// mostOneByOne is how many requests one PATCH becomes at most. More would not be through before the client gives up,
// and what is then done in part cannot be undone.
const mostOneByOne = 100

// patch plans PATCH.
func (s *shape) patch(p *profile.Profile, req *scim.Request, ruling Ruling, held *Held) (*Plan, error) {
	plan := &Plan{}
	split := newSplitter(s, ruling)
	var send []scim.PatchOp
	keeps := ""
	for _, op := range req.Operations {
		sent, kept := split.operation(op)
		if len(kept) > 0 {
			keeps = ", with attributes kept here"
		}
		if s.keeps && op.Target.Ref == refUserName {
			kept = append(kept, op)
		}
		if name, ok := op.Value.(string); ok && op.Target.Ref == refUserName && ruling.Alias && s.alias.needed(name) {
			for i := range sent {
				sent[i].Value = s.alias.of(name)
			}
		}
		send = append(send, sent...)
		plan.KeptOps = append(plan.KeptOps, kept...)
	}
	if split.err != nil {
		return nil, split.err
	}
	if len(plan.KeptOps) > 0 { // what would fail must fail before anything is sent
		if _, err := s.keep(req.ID, plan.KeptOps, held); err != nil {
			return nil, err
		}
	}
	up := s.bare(req)
	plan.How, plan.Requests = Forward, []*scim.Request{up}
	switch {
	case len(send) == 0:
		up.Op = scim.OpGet
		plan.How, plan.Why = Read, "nothing of it is the upstream's: read to confirm that the resource is there"
	case p.Update.Mode == profile.UpdatePut:
		up.Operations = send
		plan.How, plan.Why = ReadWrite, "the upstream takes PUT only: read, apply, replace"
	case p.Update.Mode == profile.UpdateSingle && len(send) > mostOneByOne:
		return nil, scim.Errorf(http.StatusRequestEntityTooLarge, "",
			"the upstream takes one operation at a time: send at most %d in one request, not %d", mostOneByOne, len(send))
	case p.Update.Mode == profile.UpdateSingle && len(send) > 1:
		plan.How, plan.Why = OneByOne, fmt.Sprintf("the upstream takes one operation at a time: %d requests", len(send))
		plan.Requests = nil
		for _, op := range send {
			one := s.bare(req)
			one.Operations = []scim.PatchOp{op}
			plan.Requests = append(plan.Requests, one)
		}
	default:
		up.Operations = send
		plan.Why = "forwarded"
	}
	plan.Why += keeps
	return plan, nil
}
