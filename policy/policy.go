// Package policy decides whether a request may be forwarded to an upstream, and what becomes of each attribute
// that the upstream lacks. A Rule is a value; Suite is the table of all rules, in the order they are asked. Every
// rule gives its reason, and a request that passes them all is told so too: the trail keeps every finding.
//
// The package is pure. It knows normalized requests and the profile's limits; it does not know how a permitted
// request is carried out.
package policy

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// Verdict is what a finding means for the request.
type Verdict string

// The verdicts.
const (
	Allow  Verdict = "allow"  // nothing stands against it
	Remark Verdict = "remark" // worth knowing
	Drop   Verdict = "drop"   // the attribute is left out
	Keep   Verdict = "keep"   // the attribute is held by the gateway, the upstream never sees it
	Alias  Verdict = "alias"  // the upstream gets a stable stand-in for the value
	Refuse Verdict = "refuse" // the request is answered with an error, nothing is sent
)

// Finding is what one rule says about one request.
type Finding struct {
	Rule     string
	Verdict  Verdict
	Ref      scim.Ref // the attribute; zero when it is about the whole request
	Path     string   // the attribute path as text, with value filter
	Reason   string   // never a value that is not public
	Status   int      // Refuse: the answer's HTTP status
	ScimType string   // Refuse: the answer's scimType
}

// Request is a normalized request with every value that it would store or unassign.
type Request struct {
	*scim.Request
	Values []scim.Write
}

// Rule is one thing that a request has to satisfy.
type Rule struct {
	Name string // as it stands in the trail
	Doc  string // one paragraph for `scimgate rules`

	// NeedsCurrent tells that Check wants the resource as it is now, at the cost of one read; nil means never.
	NeedsCurrent func(req *scim.Request, limits *Limits) bool

	// Check looks at a normalized request. current is the resource as the client sees it, nil unless NeedsCurrent
	// asked for it. limits is nil when the upstream does not have the resource type: only Operations is asked then.
	// It changes none of them.
	Check func(req *Request, current scim.Resource, limits *Limits) []Finding
}

// Suite is every rule, in the order they are asked; Operations is the first. The first refusal ends the asking.
var Suite = []*Rule{
	Operations, ReadOnly, Unknown, Lacking, Required, Length, Forbidden, CreateOnly,
}

// Policy is the suite with the limits of one profile. It is not changed after New, and safe for concurrent use.
type Policy struct {
	limits map[string]*Limits
}

// New compiles a profile's limits. The error is a profile.Problems, as from transform.New.
func New(p *profile.Profile) (*Policy, error) {
	out := &Policy{limits: map[string]*Limits{}}
	var problems profile.Problems
	for i := range p.Resources {
		rt := scim.UserType()
		if p.Resources[i].Name == "Group" {
			rt = scim.GroupType()
		}
		out.limits[rt.Name] = compile(rt, &p.Resources[i], &problems)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return out, nil
}

// NeedsCurrent reports whether a rule wants to see the resource as it is.
func (p *Policy) NeedsCurrent(req *scim.Request) bool {
	limits := p.limits[req.Type.Name]
	return limits != nil && slices.ContainsFunc(Suite, func(r *Rule) bool { return r.NeedsCurrent != nil && r.NeedsCurrent(req, limits) })
}

// Check asks every rule about a normalized request that is valid by its schema.
func (p *Policy) Check(req *scim.Request, current scim.Resource) Decision {
	var d Decision
	limits := p.limits[req.Type.Name]
	suite := Suite
	full := &Request{Request: req}
	if limits == nil || !req.Op.Writes() {
		suite = suite[:1] // Operations: there is nothing else to look at
	} else {
		full.Values = slices.AppendSeq(make([]scim.Write, 0, 32), req.Writes())
	}
	for _, rule := range suite {
		found := rule.Check(full, current, limits)
		d.Findings = slices.Grow(d.Findings, len(found)+1)
		for _, f := range found {
			f.Rule = rule.Name
			d.Findings = append(d.Findings, f)
			if f.Verdict == Refuse {
				return d
			}
		}
	}
	d.Findings = append(d.Findings, Finding{Rule: "suite", Verdict: Allow, Reason: "no rule stands against it"})
	return d
}

// Decision is what the suite found.
type Decision struct {
	Findings []Finding
}

// Refusal is the answer to a refused request; nil when it is allowed.
func (d Decision) Refusal() *scim.Error {
	for _, f := range d.Findings {
		if f.Verdict == Refuse {
			return scim.Errorf(f.Status, f.ScimType, "%s", f.Reason)
		}
	}
	return nil
}

// Attributes are the attributes that were given a verdict.
func (d Decision) Attributes(v Verdict) []scim.Ref {
	var refs []scim.Ref
	seen := map[scim.Ref]bool{}
	for _, f := range d.Findings {
		if f.Verdict == v && !seen[f.Ref] {
			seen[f.Ref] = true
			refs = append(refs, f.Ref)
		}
	}
	return refs
}

// Limits are what a profile says about the attributes of one resource type. nil means that the upstream does not
// have the type.
type Limits struct {
	Type       *scim.ResourceType
	Operations []profile.Operation
	Unlisted   profile.Handling
	Complete   bool               // the upstream has every attribute of its schemas: Unlisted says nothing
	Stored     *scim.AttributeSet // what the upstream has

	attributes []*limit
	about      map[scim.Ref][]*limit // attributes, by the whole attribute
	createOnly []*limit
	required   []requirement // by the profile or the schema
}

type limit struct {
	profile.Attribute
	target scim.Target
	filter scim.Filter // picks the elements it is about; nil: all
}

func compile(rt *scim.ResourceType, r *profile.Resource, problems *profile.Problems) *Limits {
	l := &Limits{Type: rt, Operations: r.Operations, Unlisted: r.Unlisted, Complete: r.Complete, about: map[scim.Ref][]*limit{}}
	upstream := rt.Restrict(func(ref scim.Ref) bool {
		return ref.Schema == "" || slices.ContainsFunc(r.Extensions, func(urn string) bool { return strings.EqualFold(urn, ref.Schema) })
	})
	var stored []string
	for _, a := range r.Attributes {
		path, target, err := rt.CompilePath(a.Path)
		if err == nil && a.Handling == "" {
			if _, ok := upstream.Lookup(target.Ref); !ok {
				err = scim.BadRequest(scim.InvalidPath, "%s: the upstream cannot have it without its schema: add %s to extensions", a.Path, target.Ref.Schema)
			}
		}
		if err != nil {
			*problems = append(*problems, profile.Problem{File: a.File, Line: a.Line, Column: a.Column, Message: scim.Detail(err)})
			continue
		}
		if a.Handling == "" {
			stored = append(stored, a.Path)
		}
		one := &limit{Attribute: a, target: target, filter: path.ValueExpression}
		l.attributes = append(l.attributes, one)
		l.about[target.Ref.Parent()] = append(l.about[target.Ref.Parent()], one)
		if a.CreateOnly {
			l.createOnly = append(l.createOnly, one)
		}
	}
	l.required = l.requires()
	if len(*problems) == 0 {
		l.Stored, _, _ = scim.NewAttributeSet(upstream, r.Complete, stored) // every path has just compiled
	}
	return l
}

// of calls yield for each limit that is about what w would store.
func (l *Limits) of(w scim.Write, yield func(*limit)) {
	for _, a := range l.about[w.Ref.Parent()] {
		if a.Handling == "" && a.target.Ref.Covers(w.Ref) && a.picks(l.Type, w) && a.hasRoom(w.Ref) {
			yield(a)
		}
	}
}

// picks reports whether w is about an element that the limit is about. A path without a value filter is about all;
// where only a part of the element is known, it is enough that nothing stands against it.
func (a *limit) picks(rt *scim.ResourceType, w scim.Write) bool {
	if a.filter == nil || w.Element == nil {
		return true
	}
	element := w.Element
	if w.Picked {
		element = scim.EqualTerms(a.filter)
		maps.Copy(element, w.Element)
	}
	return picks(rt, a.target, a.filter, element)
}

// picks reports whether a value filter behind the attribute of t picks an element of it.
func picks(rt *scim.ResourceType, t scim.Target, f scim.Filter, element any) bool {
	return rt.MatchValue(scim.Target{Ref: t.Ref.Parent(), Attribute: t.Attribute}, f, element)
}

// hasRoom reports whether the attribute's form has room for a sub-attribute of it: one that travels as its plain
// value has it for nothing else.
func (a *limit) hasRoom(ref scim.Ref) bool {
	return a.Form != profile.FormValue || ref.Sub == "" || ref.Sub == "value"
}

func refuse(w scim.Write, scimType, reason string) []Finding {
	return []Finding{refusal(w, scimType, reason)}
}

func refusal(w scim.Write, scimType, reason string) Finding {
	return Finding{Verdict: Refuse, Ref: w.Ref, Path: w.Path, Reason: reason, Status: http.StatusBadRequest, ScimType: scimType}
}
