package scim

import (
	"hash/fnv"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The schemas of the discovery resources (RFC 7643, Sections 5, 6 and 7).
const (
	schemaServiceProviderConfig = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
	schemaResourceType          = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
	schemaSchema                = "urn:ietf:params:scim:schemas:core:2.0:Schema"
)

// Abilities are what a service provider announces in /ServiceProviderConfig (RFC 7643, Section 5).
type Abilities struct {
	Documentation string // absolute URL; "" leaves the member out
	Patch         bool
	Filter        bool
	MaxResults    int // of one answer to a filter
	Sort          bool
	ETag          bool
	Pages         *Pages // nil leaves the member out
	Bulk          bool   // with MaxBulkOperations at most
	MaxBody       int64  // bytes of a bulk request
}

// Pages is what a service provider announces about paging (RFC 9865, Section 4).
type Pages struct {
	Cursor, Index bool
	Default       string // "cursor" or "index": where a query names neither
	DefaultSize   int    // of a page, without count
	MaxSize       int    // of a page, whatever count says
	CursorTimeout int    // seconds that a cursor can be used
}

// ServiceProviderConfig makes the resource at /ServiceProviderConfig. base is the absolute URL of the service
// provider, without a trailing slash.
func ServiceProviderConfig(base string, a Abilities) Resource {
	supported := func(b bool) map[string]any { return map[string]any{"supported": b} }
	r := Resource{
		"schemas":        []any{schemaServiceProviderConfig},
		"patch":          supported(a.Patch),
		"bulk":           bulkDocument(a),
		"filter":         map[string]any{"supported": a.Filter, "maxResults": a.MaxResults},
		"changePassword": supported(false),
		"sort":           supported(a.Sort),
		"etag":           supported(a.ETag),
		"authenticationSchemes": []any{map[string]any{
			"type": "oauthbearertoken", "name": "Secret Token", "primary": true,
			"description": "A bearer token in the Authorization header, configured for each provisioning client",
			"specUri":     "https://www.rfc-editor.org/info/rfc6750",
		}},
		"meta": map[string]any{"resourceType": "ServiceProviderConfig", "location": base + "/ServiceProviderConfig"},
	}
	if a.Documentation != "" {
		r["documentationUri"] = a.Documentation
	}
	if p := a.Pages; p != nil {
		r["pagination"] = map[string]any{
			"cursor": p.Cursor, "index": p.Index, "defaultPaginationMethod": p.Default, "defaultPageSize": p.DefaultSize,
			"maxPageSize": p.MaxSize, "cursorTimeout": p.CursorTimeout,
		}
	}
	return r
}

func bulkDocument(a Abilities) map[string]any {
	if !a.Bulk {
		return map[string]any{"supported": false, "maxOperations": 0, "maxPayloadSize": 0}
	}
	return map[string]any{"supported": true, "maxOperations": MaxBulkOperations, "maxPayloadSize": a.MaxBody}
}

// Document makes the resource at /ResourceTypes/{name} (RFC 7643, Section 6).
func (rt *ResourceType) Document(base string) Resource {
	r := Resource{
		"schemas": []any{schemaResourceType}, "id": rt.Name, "name": rt.Name, "endpoint": rt.Endpoint,
		"description": rt.Core.Description, "schema": rt.Core.ID,
		"meta": map[string]any{"resourceType": "ResourceType", "location": base + "/ResourceTypes/" + url.PathEscape(rt.Name)},
	}
	var extensions []any
	for _, e := range rt.Extensions {
		extensions = append(extensions, map[string]any{"schema": e.ID, "required": false})
	}
	if extensions != nil {
		r["schemaExtensions"] = extensions
	}
	return r
}

// Document makes the resource at /Schemas/{urn} (RFC 7643, Section 7).
func (s *Schema) Document(base string) Resource {
	r := Resource{
		"schemas": []any{schemaSchema}, "id": s.ID, "name": s.Name, "description": s.Description,
		"meta": map[string]any{"resourceType": "Schema", "location": base + "/Schemas/" + url.PathEscape(s.ID)},
	}
	r["attributes"] = attributeDocuments(s.Attributes)
	return r
}

func attributeDocuments(list []*Attribute) []any {
	out := make([]any, 0, len(list))
	for _, a := range list {
		m := map[string]any{
			"name": a.Name, "type": string(a.Kind), "multiValued": a.MultiValued, "description": a.Description,
			"required": a.Required, "mutability": a.Mutability, "returned": a.Returned,
		}
		if a.Kind != Complex && a.Kind != Boolean {
			m["caseExact"], m["uniqueness"] = a.CaseExact, a.Uniqueness
		}
		if len(a.Canonical) > 0 {
			m["canonicalValues"] = anyList(a.Canonical)
		}
		if len(a.References) > 0 {
			m["referenceTypes"] = anyList(a.References)
		}
		if len(a.Sub) > 0 {
			m["subAttributes"] = attributeDocuments(a.Sub)
		}
		out = append(out, m)
	}
	return out
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// Restrict makes a resource type with only those attributes and sub-attributes that keep holds true; a schema
// extension left without attributes goes. The type itself is not changed.
func (rt *ResourceType) Restrict(keep func(Ref) bool) *ResourceType {
	out := &ResourceType{Name: rt.Name, Endpoint: rt.Endpoint, common: rt.common}
	out.Core = rt.Core.restrict("", keep)
	for _, e := range rt.Extensions {
		if r := e.restrict(e.ID, keep); len(r.Attributes) > 0 {
			out.Extensions = append(out.Extensions, r)
		}
	}
	return out
}

func (s *Schema) restrict(urn string, keep func(Ref) bool) *Schema {
	out := &Schema{ID: s.ID, Name: s.Name, Description: s.Description}
	for _, a := range s.Attributes {
		ref := Ref{Schema: urn, Name: a.Name}
		if keep(ref) {
			out.Attributes = append(out.Attributes, a)
			continue
		}
		var subs []*Attribute
		for _, sub := range a.Sub {
			if ref.Sub = sub.Name; keep(ref) {
				subs = append(subs, sub)
			}
		}
		if len(subs) > 0 {
			c := *a
			c.Sub = subs
			out.Attributes = append(out.Attributes, &c)
		}
	}
	return out
}

// RestrictValues makes a resource type whose sub-attributes have those canonical values that values returns. The type
// itself is not changed.
func (rt *ResourceType) RestrictValues(values func(Ref, *Attribute) []string) *ResourceType {
	out := &ResourceType{Name: rt.Name, Endpoint: rt.Endpoint, common: rt.common, Core: rt.Core.restrictValues("", values)}
	for _, e := range rt.Extensions {
		out.Extensions = append(out.Extensions, e.restrictValues(e.ID, values))
	}
	return out
}

func (s *Schema) restrictValues(urn string, values func(Ref, *Attribute) []string) *Schema {
	out := *s
	out.Attributes = slices.Clone(s.Attributes)
	for i, a := range out.Attributes {
		c := *a
		c.Sub = slices.Clone(a.Sub)
		for j, sub := range c.Sub {
			if len(sub.Canonical) > 0 {
				narrowed := *sub
				narrowed.Canonical = values(Ref{Schema: urn, Name: a.Name, Sub: sub.Name}, sub)
				c.Sub[j] = &narrowed
			}
		}
		out.Attributes[i] = &c
	}
	return &out
}

// Discover answers OpDiscover from the resource types and abilities of a service provider: req.ID is the path
// below base.
func Discover(req *Request, base string, types []*ResourceType, abilities Abilities) (*Response, error) {
	var all []Resource
	kind, id, single := strings.Cut(req.ID, "/")
	switch kind {
	case "ServiceProviderConfig":
		if single {
			return nil, NotFound(kind, id)
		}
		abilities.MaxBody = req.MaxBody
		return &Response{Status: 200, Resource: ServiceProviderConfig(base, abilities)}, nil
	case "ResourceTypes":
		for _, rt := range types {
			all = append(all, rt.Document(base))
		}
	case "Schemas":
		seen := map[string]bool{}
		for _, rt := range types {
			for _, s := range append([]*Schema{rt.Core}, rt.Extensions...) {
				if !seen[s.ID] {
					seen[s.ID] = true
					all = append(all, s.Document(base))
				}
			}
		}
	}
	if !single {
		return &Response{Status: 200, List: all, TotalResults: len(all), StartIndex: 1}, nil
	}
	for _, r := range all {
		if Fold(r.ID()) == Fold(id) {
			return &Response{Status: 200, Resource: r}, nil
		}
	}
	return nil, NotFound(strings.TrimSuffix(kind, "s"), id)
}

// Fingerprint is a weak ETag made from the whole resource, for service providers that have no versions of their
// own (RFC 7644, Section 3.14). Equal resources have equal fingerprints; meta.version itself is left out.
func Fingerprint(r Resource) string {
	c := r
	if r.Meta("version") != "" {
		c = r.Clone()
		c.Remove(Ref{Name: "meta", Sub: "version"})
	}
	hash := fnv.New64a() // it detects change, it does not authenticate
	_, _ = hash.Write(AppendJSON(nil, c))
	return `W/"` + strconv.FormatUint(hash.Sum64(), 36) + `"`
}
