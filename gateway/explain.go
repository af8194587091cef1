package gateway

import (
	"scimgate/config/profile"
	"scimgate/policy"
	"scimgate/transform"
	"scimgate/transform/scim"
)

// Explanation is what the gateway would do with one request.
type Explanation struct {
	Notes    []transform.Note // what Normalize reshaped
	Findings []policy.Finding
	Plan     *transform.Plan // nil when it is refused
	Refusal  error           // an *Error; nil when it would be sent
}

// Explain goes the way of a request as far as it is pure: nothing is sent, stored or looked up, so that aliases and
// kept attributes of existing users are not known.
func Explain(p *profile.Profile, req *scim.Request) (*Explanation, error) {
	t, err := transform.New(p)
	if err != nil {
		return nil, err
	}
	rules, err := policy.New(p)
	if err != nil {
		return nil, err
	}
	out := &Explanation{}
	if req, out.Notes, out.Refusal = transform.Normalize(req); out.Refusal != nil {
		return out, nil
	}
	if out.Refusal = transform.Validate(req); out.Refusal != nil {
		return out, nil
	}
	decision := rules.Check(req, nil)
	out.Findings = decision.Findings
	if refusal := decision.Refusal(); refusal != nil {
		out.Refusal = refusal
		return out, nil
	}
	out.Plan, err = t.For(req, ruling(decision), nil, nil)
	return out, err
}

func ruling(d policy.Decision) transform.Ruling {
	return transform.Ruling{
		Drop: d.Attributes(policy.Drop), Keep: d.Attributes(policy.Keep), Alias: len(d.Attributes(policy.Alias)) > 0,
	}
}
