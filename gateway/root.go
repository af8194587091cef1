package gateway

import (
	"context"
	"strings"

	"scimgate/transform"
	"scimgate/transform/scim"
)

// root answers a query at the root (RFC 7644, Section 3.4.2.1): the parts go the way of every query as far as nothing is
// sent, then the pages are cut from the matches of all of them. Without sortBy the types stand one after the other.
func (g *Gateway) root(ctx context.Context, x *exchange, req *scim.Request) (*scim.Response, error) {
	x.asked(req)
	var parts []part
	var whys []string
	for _, one := range req.Parts {
		p, err := g.planPart(ctx, x, one, req.Origin)
		if err != nil {
			return nil, err
		}
		parts, whys = append(parts, p), append(whys, p.req.Type.Name+": "+p.plan.Why)
	}
	x.rec.Plan = "at the root, " + strings.Join(whys, "; ")
	if len(parts) == 0 {
		x.rec.Plan = "at the root, where no resource type can match"
	}
	if req.Query.Cursor != nil {
		x.rec.Plan += ", for pages by cursor"
	}
	if req.Search {
		x.rec.Plan += ", asked by POST"
	}
	return g.pages(ctx, x, req, parts)
}

func (g *Gateway) planPart(ctx context.Context, x *exchange, one *scim.Request, origin scim.Origin) (part, error) {
	located := *one
	located.Origin = origin
	req, notes, err := transform.Normalize(&located)
	x.reshaped(notes)
	if err == nil {
		err = transform.Validate(req)
	}
	if err != nil {
		return part{}, err
	}
	decision := g.policy.Check(req, nil)
	x.found(decision.Findings)
	if refusal := decision.Refusal(); refusal != nil {
		return part{}, refusal
	}
	known, err := g.known(ctx, req)
	if err != nil {
		return part{}, err
	}
	plan, err := g.transform.For(req, ruling(decision), nil, known)
	return part{req, plan}, err
}
