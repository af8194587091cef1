// Package transform reshapes requests and resources between the provisioning client's dialect, RFC 7643/7644,
// and what an upstream service provider can do. In the order a request meets them:
//
//	Normalize  client dialect -> RFC: both PATCH dialects of Entra, booleans as text, flat extension attributes
//	For        RFC -> Plan: what will be sent upstream, and what is left to do here
//	Finish     upstream resource -> what the client shall see: kept attributes, original userName, meta
//	Project    attributes, excludedAttributes, `returned`
//
// Everything here is pure: no I/O, no clock, no randomness. What an upstream can do comes from its profile,
// whose attribute paths New compiles once.
package transform

import (
	"fmt"
	"slices"
	"strings"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// Transform knows one upstream's abilities. It is not changed after New, and safe for concurrent use.
type Transform struct {
	profile *profile.Profile
	types   []*scim.ResourceType // what the gateway shows, in full
	shown   []*scim.ResourceType // what discovery announces
	shapes  map[string]*shape    // by resource type; a type the upstream lacks has none
}

// shape is what the upstream can do with one resource type.
type shape struct {
	rt         *scim.ResourceType
	resource   *profile.Resource
	attributes []attribute        // those the profile lists
	stored     *scim.AttributeSet // what the upstream stores
	keeps      bool               // the gateway may hold values of its own: kept attributes, externalId or aliases
	keepsExtID bool               // externalId is held by the gateway
	alias      alias
	plain      []scim.Ref          // complex attributes that travel as their plain value
	references []scim.Ref          // complex attributes that refer to resources
	filters    map[string][]string // operators the upstream evaluates, by canonical attribute path in lower case
}

// attribute is one that the profile lists.
type attribute struct {
	target   scim.Target
	filter   scim.Filter // picks the elements it is about; nil: all
	handling profile.Handling
}

// picks reports whether an element is one that the attribute's path, which has a value filter, is about.
func (a *attribute) picks(rt *scim.ResourceType, element any) bool {
	return rt.MatchValue(scim.Target{Ref: a.target.Ref.Parent(), Attribute: a.target.Attribute}, a.filter, element)
}

// New compiles a profile. The error is a profile.Problems that names each attribute path that does not compile,
// with its place in the profile.
func New(p *profile.Profile) (*Transform, error) {
	t := &Transform{profile: p, shapes: map[string]*shape{}}
	var problems profile.Problems
	for _, rt := range []*scim.ResourceType{scim.UserType(), scim.GroupType()} {
		t.types = append(t.types, rt)
		i := slices.IndexFunc(p.Resources, func(r profile.Resource) bool { return r.Name == rt.Name })
		if i < 0 {
			continue
		}
		s, shown := compile(p, rt, &p.Resources[i], &problems)
		t.shapes[rt.Name] = s
		t.shown = append(t.shown, shown)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return t, nil
}

func compile(p *profile.Profile, rt *scim.ResourceType, r *profile.Resource, problems *profile.Problems) (*shape, *scim.ResourceType) {
	s := &shape{rt: rt, resource: r, filters: map[string][]string{}}
	upstream := rt.Restrict(func(ref scim.Ref) bool {
		return ref.Schema == "" || slices.ContainsFunc(r.Extensions, func(urn string) bool { return strings.EqualFold(urn, ref.Schema) })
	})
	rt.All(func(ref scim.Ref, a *scim.Attribute) bool {
		if a.SubAttribute("$ref") != nil {
			s.references = append(s.references, ref)
		}
		return true
	})
	var stored []string
	for _, a := range r.Attributes {
		path, target, problem := compilePath(rt, upstream, a)
		if problem == "" && a.OnViolation == profile.ViolationAlias {
			s.alias = newAlias(a)
			problem = s.alias.problem()
		}
		if problem != "" {
			*problems = append(*problems, profile.Problem{File: a.File, Line: a.Line, Column: a.Column, Message: problem})
			continue
		}
		s.attributes = append(s.attributes, attribute{target: target, filter: path.ValueExpression, handling: a.Handling})
		if a.Handling == "" {
			stored = append(stored, a.Path)
		}
		if a.Form == profile.FormValue {
			s.plain = append(s.plain, target.Ref)
		}
		if len(a.Filter) > 0 {
			s.filters[strings.ToLower(scim.FormatPath(path))] = a.Filter
		}
	}
	if len(*problems) > 0 {
		return s, rt
	}
	s.stored, _, _ = scim.NewAttributeSet(upstream, r.Complete, stored) // every path has just compiled
	s.keepsExtID = !s.stored.Touches(refExternalID)
	s.keeps = s.keepsExtID || s.alias.on || slices.ContainsFunc(s.attributes, func(a attribute) bool { return a.handling == profile.HandlingKeep }) ||
		r.Unlisted == profile.HandlingKeep && !r.Complete
	if r.Complete {
		return s, upstream
	}
	return s, rt.Restrict(s.shows).RestrictValues(s.canonical)
}

// canonical are the canonical values that the client may see of a sub-attribute.
func (s *shape) canonical(ref scim.Ref, sub *scim.Attribute) []string {
	if s.mayKeep(ref) {
		return sub.Canonical
	}
	return s.stored.Canonical(ref, sub)
}

// compilePath compiles the path of an attribute; problem says why it cannot be what the profile says it is.
func compilePath(rt, upstream *scim.ResourceType, a profile.Attribute) (path *scim.Path, target scim.Target, problem string) {
	path, target, err := rt.CompilePath(a.Path)
	if err != nil {
		return nil, target, scim.Detail(err)
	}
	if _, ok := upstream.Lookup(target.Ref); !ok && a.Handling == "" {
		return nil, target, a.Path + ": the upstream cannot have it without its schema: add " + target.Ref.Schema + " to extensions"
	}
	return canonical(path, target, nil), target, ""
}

// shows reports whether the client may see the attribute: all of it, so that discovery lists the sub-attributes
// that are there where some are not.
func (s *shape) shows(ref scim.Ref) bool {
	t, ok := s.rt.Lookup(ref)
	if ok && t.Leaf().Kind == scim.Complex {
		return !slices.ContainsFunc(t.Attribute.Sub, func(sub *scim.Attribute) bool {
			return !s.shows(scim.Ref{Schema: ref.Schema, Name: ref.Name, Sub: sub.Name})
		})
	}
	return s.stored.Touches(ref) || s.mayKeep(ref)
}

// handling is what the profile says about a value that the upstream lacks.
func (s *shape) handling(w scim.Write) profile.Handling {
	for _, a := range s.attributes {
		if a.handling != "" && a.target.Ref.Covers(w.Ref) && (a.filter == nil || w.Element != nil && a.picks(s.rt, w.Element)) {
			return a.handling
		}
	}
	return s.resource.Unlisted
}

// mayKeep reports whether the gateway may hold values of the attribute, or parts of it.
func (s *shape) mayKeep(ref scim.Ref) bool {
	t, ok := s.rt.Lookup(ref)
	switch {
	case ref == refExternalID:
		return s.keepsExtID
	case !ok || s.stored.Whole(ref) || t.Leaf().ReadOnly() || t.Attribute.ReadOnly() || t.Leaf().Returned == "never":
		return false
	}
	for _, a := range s.attributes {
		if a.handling == profile.HandlingKeep && (a.target.Ref.Covers(ref) || ref.Covers(a.target.Ref)) {
			return true
		}
		if a.handling != "" && a.filter == nil && a.target.Ref.Covers(ref) {
			return false
		}
	}
	return s.resource.Unlisted == profile.HandlingKeep && !s.resource.Complete
}

var (
	refUserName   = scim.Ref{Name: "userName"}
	refExternalID = scim.Ref{Name: "externalId"}
	refID         = scim.Ref{Name: "id"}
	refSchemas    = scim.Ref{Name: "schemas"}
)

// Types are the resource types at the gateway's face. A type the upstream lacks is among them: it is answered
// with an empty list, because Entra's job goes into quarantine over a 404 at /Groups.
func (t *Transform) Types() []*scim.ResourceType { return t.types }

// Shown are the resource types that discovery announces: what the upstream has, and what the gateway keeps.
func (t *Transform) Shown() []*scim.ResourceType { return t.shown }

// Abilities are what discovery announces.
func (t *Transform) Abilities() scim.Abilities {
	return scim.Abilities{
		Documentation: t.profile.Documentation, Patch: true, Filter: true, MaxResults: MaxPage,
		Sort: true, ETag: true, Bulk: true,
		Pages: &scim.Pages{
			Cursor: true, Index: true, Default: "index", // as before there were cursors (RFC 9865, Section 2.4)
			DefaultSize: t.profile.Paging.PageSize, MaxSize: MaxPage, CursorTimeout: CursorTime,
		},
	}
}

// Has reports whether the upstream has the resource type.
func (t *Transform) Has(rt *scim.ResourceType) bool { return t.shapes[rt.Name] != nil }

// Holds reports whether the gateway may hold values of resources of this type, so that every resource the client
// is shown has to be looked up in the identity map.
func (t *Transform) Holds(rt *scim.ResourceType) bool {
	s := t.shapes[rt.Name]
	return s != nil && s.keeps
}

// Get is a request for one resource, as the upstream is to be asked.
func (t *Transform) Get(rt *scim.ResourceType, id string, origin scim.Origin) *scim.Request {
	req := &scim.Request{Op: scim.OpGet, Type: rt, ID: id, Query: scim.Query{StartIndex: 1}, Origin: origin}
	if s := t.shapes[rt.Name]; s != nil {
		req.Plain = s.plain
	}
	return req
}

// Held is what the gateway holds of one resource of the upstream.
type Held struct {
	ID         string
	UserName   string // as the client knows it
	Sent       string // the alias the upstream was sent instead; "" when there is none
	ExternalID string // "" when it is not held
	// Kept are attributes the upstream lacks; nil when there are none. Of a value of a multi-valued attribute that
	// is parted, it has what the upstream stores too, so that the parts can be told to belong together; clients are
	// only shown the parts the upstream lacks.
	Kept scim.Resource
}

// Lookup names resources in the identity map: those whose attribute By ("userName" or "externalId") is Value.
type Lookup struct {
	By, Value string
}

// String tells what is looked up, without the value.
func (l Lookup) String() string { return fmt.Sprintf("%s in the identity map", l.By) }
