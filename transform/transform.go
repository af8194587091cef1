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
	stored     *scim.AttributeSet  // what the upstream stores
	keeps      bool                // the gateway may hold values of its own: kept attributes or aliases
	keepsExtID bool                // externalId is held by the gateway
	alias      int                 // longest userName the upstream takes, when longer ones get an alias; 0: none
	plain      []scim.Ref          // complex attributes that travel as their plain value
	filters    map[string][]string // operators the upstream evaluates, by formatted attribute path in lower case
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
	var stored, held []string
	for _, a := range r.Attributes {
		path, target, err := rt.CompilePath(a.Path)
		if err != nil {
			*problems = append(*problems, profile.Problem{File: a.File, Line: a.Line, Column: a.Column, Message: scim.Detail(err)})
			continue
		}
		switch {
		case a.Handling == "":
			stored = append(stored, a.Path)
		case a.Handling == profile.HandlingKeep:
			held = append(held, a.Path)
			s.keepsExtID = s.keepsExtID || target.Ref == scim.Ref{Name: "externalId"}
		}
		if a.Form == profile.FormValue {
			s.plain = append(s.plain, target.Ref)
		}
		if a.OnViolation == profile.ViolationAlias {
			s.alias = a.MaxLength
		}
		if len(a.Filter) > 0 {
			s.filters[strings.ToLower(scim.FormatPath(path))] = a.Filter
		}
	}
	if len(*problems) > 0 {
		return s, rt
	}
	// Every path has just compiled, so the sets do too.
	upstream := rt.Restrict(func(ref scim.Ref) bool {
		return ref.Schema == "" || slices.ContainsFunc(r.Extensions, func(urn string) bool { return strings.EqualFold(urn, ref.Schema) })
	})
	s.stored, _, _ = scim.NewAttributeSet(upstream, r.Complete, stored)
	kept, _, _ := scim.NewAttributeSet(rt, false, held)
	s.keeps = len(held) > 0 || r.Unlisted == profile.HandlingKeep && !r.Complete || s.alias > 0
	if r.Complete {
		return s, upstream
	}
	return s, rt.Restrict(func(ref scim.Ref) bool {
		return r.Unlisted == profile.HandlingKeep || kept.Touches(ref) || s.stored.Touches(ref) && shownWhole(rt, s.stored, ref)
	})
}

// shownWhole keeps a complex attribute out of Restrict's "whole" answer when only some of its sub-attributes are
// stored, so that discovery lists just those.
func shownWhole(rt *scim.ResourceType, stored *scim.AttributeSet, ref scim.Ref) bool {
	t, ok := rt.Lookup(ref)
	if !ok || t.Leaf().Kind != scim.Complex {
		return ok
	}
	for _, sub := range t.Attribute.Sub {
		if !stored.Touches(scim.Ref{Schema: ref.Schema, Name: ref.Name, Sub: sub.Name}) {
			return false
		}
	}
	return true
}

// Types are the resource types at the gateway's face. A type the upstream lacks is among them: it is answered
// with an empty list, because Entra's job goes into quarantine over a 404 at /Groups.
func (t *Transform) Types() []*scim.ResourceType { return t.types }

// Shown are the resource types that discovery announces: what the upstream has, and what the gateway keeps.
func (t *Transform) Shown() []*scim.ResourceType { return t.shown }

// Abilities are what discovery announces.
func (t *Transform) Abilities() scim.Abilities {
	return scim.Abilities{
		Documentation: t.profile.Documentation, Patch: true, Filter: true, MaxResults: t.profile.Paging.PageSize,
		Sort: true, ETag: true,
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
	UserName   string        // as the client knows it
	Sent       string        // the alias the upstream was sent instead; "" when there is none
	ExternalID string        // "" when it is not held
	Kept       scim.Resource // attributes the upstream lacks; nil when there are none
}

// Lookup names resources in the identity map: those whose attribute By ("userName" or "externalId") is Value.
type Lookup struct {
	By, Value string
}

// String tells what is looked up, without the value.
func (l Lookup) String() string { return fmt.Sprintf("%s in the identity map", l.By) }
