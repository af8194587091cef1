package transform

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

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

// Ruling is what policy decided about attributes: of those that the upstream lacks, or that a client may not
// set, what is dropped and what is kept.
type Ruling struct {
	Drop, Keep []scim.Ref
	Alias      bool // store an alias in place of a userName that is too long
}

func (r Ruling) keeps(ref scim.Ref) bool { return covers(r.Keep, ref) }
func (r Ruling) drops(ref scim.Ref) bool { return covers(r.Drop, ref) }

func covers(refs []scim.Ref, ref scim.Ref) bool {
	for _, r := range refs {
		if r == ref || r.Covers(ref) || ref.Covers(r) {
			return true
		}
	}
	return false
}

// Lookups are what For needs to know from the identity map, besides what is held for req.ID.
func (t *Transform) Lookups(req *scim.Request) []Lookup {
	s := t.shapes[req.Type.Name]
	if s == nil || !s.keeps || req.Op != scim.OpQuery {
		return nil
	}
	var list []Lookup
	for _, c := range conjuncts(req.Query.Filter) {
		ref, value, ok := s.equality(c)
		switch {
		case !ok:
		case s.keepsExtID && ref == refExternalID:
			list = append(list, Lookup{By: "externalId", Value: value})
		case s.alias > 0 && ref == refUserName:
			list = append(list, Lookup{By: "userName", Value: value})
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

// project lets the upstream leave attributes out where it can: a group's members may be most of the answer.
// What the gateway needs itself is always asked for.
func (s *shape) project(p *profile.Profile, up, req *scim.Request) {
	if !p.Projection || s.keeps {
		return
	}
	up.Query.ExcludedAttributes = req.Query.ExcludedAttributes
	if len(req.Query.Attributes) > 0 {
		up.Query.Attributes = append([]scim.Ref{{Name: "meta"}}, req.Query.Attributes...)
	}
}

// whole plans POST and PUT.
func (s *shape) whole(req *scim.Request, ruling Ruling) (*Plan, error) {
	settable := req.Type.Settable(req.Resource)
	have, lack := s.stored.Split(settable)
	kept := scim.Resource{}
	for w := range req.Type.Values(settable) {
		switch parent := w.Ref.Parent(); {
		case s.stored.Has(w):
		case ruling.keeps(w.Ref):
			kept.Set(parent, lack.Get(parent))
		case ruling.drops(w.Ref):
		default:
			return nil, fmt.Errorf("plan %s: policy gave no ruling on %s, which the upstream lacks", req.Op, w.Ref)
		}
	}
	h := &Held{UserName: settable.UserName(), ExternalID: kept.ExternalID(), Kept: kept}
	delete(kept, "externalId")
	if ruling.Alias {
		h.Sent = Alias(h.UserName, s.alias)
		have["userName"] = h.Sent
	}
	req.Type.SetSchemas(have)
	up := s.bare(req)
	up.Resource = have
	plan := &Plan{How: Forward, Requests: []*scim.Request{up}, Why: "forwarded"}
	if s.keeps {
		plan.Held = h
	}
	if len(kept) > 0 || h.ExternalID != "" {
		plan.Why += ", with attributes kept here"
	}
	if ruling.Alias {
		plan.Why += ", userName under an alias"
	}
	return plan, nil
}

// patch plans PATCH: each operation is parted into what the upstream stores and what the gateway keeps.
func (s *shape) patch(p *profile.Profile, req *scim.Request, ruling Ruling, held *Held) (*Plan, error) {
	plan := &Plan{}
	var send []scim.PatchOp
	for i, op := range req.Operations {
		have, lack := s.splitOp(op)
		if have != nil {
			if ruling.Alias && have.Target.Ref == refUserName && have.Value != nil {
				name, _ := have.Value.(string)
				if len([]rune(name)) > s.alias {
					have.Value = Alias(name, s.alias)
				}
			}
			send = append(send, *have)
		}
		if s.keeps && op.Target.Ref == refUserName {
			plan.KeptOps = append(plan.KeptOps, op)
		}
		if lack == nil {
			continue
		}
		switch ref := opRef(*lack); {
		case ruling.keeps(ref):
			plan.KeptOps = append(plan.KeptOps, *lack)
		case ruling.drops(ref):
		default:
			return nil, fmt.Errorf("plan patch: policy gave no ruling on %s of operation %d, which the upstream lacks", ref, i)
		}
	}
	up := s.bare(req)
	switch {
	case len(send) == 0:
		up.Op = scim.OpGet
		plan.How, plan.Requests, plan.Why = Read, []*scim.Request{up}, "nothing of it is the upstream's: read to confirm that the resource is there"
	case p.Update.Mode == profile.UpdatePut:
		up.Operations = send
		plan.How, plan.Requests, plan.Why = ReadWrite, []*scim.Request{up}, "the upstream takes PUT only: read, apply, replace"
	case p.Update.Mode == profile.UpdateSingle && len(send) > 1:
		plan.How, plan.Why = OneByOne, fmt.Sprintf("the upstream takes one operation at a time: %d requests", len(send))
		for _, op := range send {
			one := s.bare(req)
			one.Operations = []scim.PatchOp{op}
			plan.Requests = append(plan.Requests, one)
		}
	default:
		up.Operations = send
		plan.How, plan.Requests, plan.Why = Forward, []*scim.Request{up}, "forwarded"
	}
	if len(plan.KeptOps) > 0 && held != nil {
		plan.Why += ", with attributes kept here"
	}
	return plan, nil
}

func opRef(op scim.PatchOp) scim.Ref {
	if op.Target.Attribute == nil {
		return scim.Ref{Name: op.Path.AttributePath.String()}
	}
	return op.Target.Ref
}

// splitOp parts one operation; nil for a side that has none of it.
func (s *shape) splitOp(op scim.PatchOp) (have, lack *scim.PatchOp) {
	if op.Target.Attribute == nil || op.Target.Leaf().ReadOnly() || op.Target.Attribute.ReadOnly() {
		return nil, &op
	}
	if op.Op != "remove" {
		if v := op.Target.SettableValue(op.Value); v == nil && op.Value != nil {
			return nil, &op
		} else {
			op.Value = v
		}
	}
	ref := op.Target.Ref
	if s.stored.Whole(ref) {
		return &op, nil
	}
	_, isObject := op.Value.(map[string]any)
	_, isArray := op.Value.([]any)
	if op.Op == "remove" || op.Target.Sub != nil || op.Target.Attribute.Kind != scim.Complex || !isObject && !isArray {
		w := scim.Write{Ref: ref, Known: true}
		if op.Path.ValueExpression != nil {
			w.Element = scim.EqualTerms(op.Path.ValueExpression)
		}
		if !s.stored.Has(w) {
			return nil, &op
		}
		if op.Op == "remove" && ref.Sub == "" && op.Path.ValueExpression == nil {
			return &op, &op // of an attribute that both sides hold parts of
		}
		return &op, nil
	}
	value := op.Value
	if m, ok := value.(map[string]any); ok && op.Path.ValueExpression != nil {
		merged := scim.EqualTerms(op.Path.ValueExpression)
		for k, v := range m {
			merged[k] = v
		}
		value = merged
	}
	h, l := s.stored.SplitValue(ref, op.Target.Attribute, value)
	if h != nil {
		c := op
		c.Value = h
		have = &c
	}
	if l != nil {
		c := op
		c.Value = l
		lack = &c
	}
	return have, lack
}

var (
	refUserName   = scim.Ref{Name: "userName"}
	refExternalID = scim.Ref{Name: "externalId"}
	refID         = scim.Ref{Name: "id"}
)

// Alias is a stable stand-in of at most most code points for a userName that the upstream would refuse: its
// beginning, "~" and ten characters of a hash over the folded name, so that names which differ only in case have
// one alias. most must be at least 16.
func Alias(userName string, most int) string {
	const hashed = 10
	sum := sha256.Sum256([]byte(scim.Fold(userName)))
	tail := "~" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:hashed])
	head := []rune(userName)
	return string(head[:min(len(head), most-len(tail))]) + tail
}
