package conformance

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

const (
	userSchema       = "urn:ietf:params:scim:schemas:core:2.0:User"
	groupSchema      = "urn:ietf:params:scim:schemas:core:2.0:Group"
	enterpriseSchema = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
)

// announcement is what a service provider says of itself (RFC 7644, Section 4).
type announcement struct {
	token     bool
	config    any // /ServiceProviderConfig; nil if it could not be read
	types     []any
	hasTypes  bool
	schemas   map[string]any // by id in lower case
	attribute map[string]string
	problems  []string
}

// discover reads the discovery endpoints. What cannot be read is a problem in the announcement; only a service
// provider that does not answer at all, or not to this token, is an error.
func discover(ctx context.Context, e *endpoint) (*announcement, error) {
	n := &announcement{token: e.token != "", attribute: map[string]string{"User": userSchema, "Group": groupSchema, "Enterprise": enterpriseSchema}}
	var refused, silent int
	var last error
	read := func(target string) any {
		if ctx.Err() != nil {
			return nil
		}
		a, _, err := e.do(ctx, &request{method: http.MethodGet, target: target})
		if err != nil {
			silent, last = silent+1, err
			n.problems = append(n.problems, target+": "+err.Error())
			return nil
		}
		if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
			refused++
		}
		body, err := a.json()
		if a.status != http.StatusOK || err != nil {
			if err == nil {
				err = fmt.Errorf("status %d", a.status)
			}
			n.problems = append(n.problems, target+": "+err.Error())
			return nil
		}
		return body
	}
	n.config = read("/ServiceProviderConfig")
	types, schemas := read("/ResourceTypes"), read("/Schemas")
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case silent == 3:
		return nil, fmt.Errorf("%s does not answer: %w", e.base, last)
	case refused == 3:
		return nil, fmt.Errorf("%s refuses the token: answers 401 or 403 to discovery", e.base)
	}
	n.types, n.hasTypes = resources(types)
	if list, ok := resources(schemas); ok {
		n.schemas = map[string]any{}
		for _, s := range list {
			id, _ := find(s, "id")
			n.schemas[strings.ToLower(asText(id))] = s
		}
	}
	return n, nil
}

// resources are the elements of a ListResponse, or of a bare array as some service providers answer.
func resources(body any) (list []any, ok bool) {
	if v, found := find(body, "Resources"); found {
		body = v
	}
	list, ok = body.([]any)
	return list, ok
}

// missing says which need of a case is not announced, or "" if the case applies.
func (n *announcement) missing(c *Case) string {
	for _, need := range c.Needs {
		name, negated := strings.CutPrefix(need, "!")
		if n.has(name) == negated {
			if negated {
				return "for service providers without " + name
			}
			return "needs " + name + ", which is not announced"
		}
	}
	return ""
}

// has reports whether a need is announced, or whether the place where it would be could not be read.
func (n *announcement) has(need string) bool {
	switch need {
	case "token":
		return n.token
	case "users":
		return n.hasEndpoint("/Users")
	case "groups":
		return n.hasEndpoint("/Groups")
	case "enterprise":
		return n.hasExtension()
	case "cursor", "index":
		pagination, ok := find(n.config, "pagination")
		if !ok {
			return n.config == nil || need == "index"
		}
		announced, _ := find(pagination, need)
		return announced == true
	}
	if schema, path, ok := strings.Cut(need, "."); ok {
		path, canonical, _ := strings.Cut(strings.TrimSuffix(path, "]"), "[")
		return n.hasAttribute(n.attribute[schema], strings.Split(path, "."), canonical)
	}
	if n.config == nil {
		return true
	}
	ability, _ := find(n.config, need)
	supported, _ := find(ability, "supported")
	return supported == true
}

func (n *announcement) hasEndpoint(want string) bool {
	for _, t := range n.types {
		endpoint, _ := find(t, "endpoint")
		// "/Users" in the examples of RFC 7643, "Users" in the text of its Section 6.
		if s, ok := endpoint.(string); ok && strings.HasSuffix("/"+strings.ToLower(strings.Trim(s, "/")), strings.ToLower(want)) {
			return true
		}
	}
	return !n.hasTypes
}

func (n *announcement) hasExtension() bool {
	if !n.hasTypes {
		return true
	}
	for _, t := range n.types {
		extensions, _ := find(t, "schemaExtensions")
		list, _ := extensions.([]any)
		for _, x := range list {
			id, _ := find(x, "schema")
			if s, ok := id.(string); ok && strings.EqualFold(s, enterpriseSchema) {
				return true
			}
		}
	}
	return false
}

// common are attributes that every resource has and no schema needs to list (RFC 7643, Section 3.1).
var common = map[string]bool{"id": true, "externalid": true, "meta": true}

// readOnlyByRFC are attributes that RFC 7643 itself makes readOnly: of these it is enough that they are there.
var readOnlyByRFC = map[string]bool{"groups": true, "manager.displayname": true}

// hasAttribute reports whether a schema has the attribute and, if canonical is not empty, whether its elements may be
// of that type: where /Schemas suggests no values for type (RFC 7643, Section 7: canonicalValues), any will do.
func (n *announcement) hasAttribute(schema string, path []string, canonical string) bool {
	if n.schemas == nil || common[strings.ToLower(path[0])] {
		return true
	}
	at, ok := n.schemas[strings.ToLower(schema)]
	for i, name := range path {
		if !ok {
			return false
		}
		list := "subAttributes"
		if i == 0 {
			list = "attributes"
		}
		members, _ := find(at, list)
		at, ok = named(members, name)
	}
	if canonical != "" && !suggests(at, canonical) {
		return false
	}
	mutability, _ := find(at, "mutability")
	return ok && (mutability != "readOnly" || readOnlyByRFC[strings.ToLower(strings.Join(path, "."))] || readOnlyByRFC[strings.ToLower(path[0])])
}

// suggests reports whether a multi-valued attribute may have elements of a type.
func suggests(attribute any, canonical string) bool {
	members, _ := find(attribute, "subAttributes")
	kind, ok := named(members, "type")
	if !ok {
		return false
	}
	suggested, _ := find(kind, "canonicalValues")
	values, _ := suggested.([]any)
	return len(values) == 0 || slices.ContainsFunc(values, func(v any) bool { return strings.EqualFold(asText(v), canonical) })
}

// named returns the attribute definition of that name.
func named(list any, name string) (any, bool) {
	definitions, _ := list.([]any)
	for _, d := range definitions {
		if n, _ := find(d, "name"); strings.EqualFold(asText(n), name) {
			return d, true
		}
	}
	return nil, false
}
