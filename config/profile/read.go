package profile

import (
	"mime"
	"regexp"
	"slices"
	"strings"
)

var (
	nameForm     = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	endpointForm = regexp.MustCompile(`^/[A-Za-z0-9._~-]{1,64}$`)
	urnForm      = regexp.MustCompile(`(?i)^urn:[a-z0-9][a-z0-9-]{0,31}:[^\s"\[\]]+$`)
)

// Name reads the name of a profile, connection or token: 1 to 32 of a-z, 0-9 and "-".
func (v Value) Name() string {
	text := v.Text()
	if text != "" && !nameForm.MatchString(text) {
		v.Problemf("want 1 to 32 of the characters a-z, 0-9 and -, got %s", Quote(text))
		return ""
	}
	return text
}

// URL reads a base URL, see BaseURL.
func (v Value) URL(plain bool) string {
	text := v.Text()
	if text == "" {
		return ""
	}
	base, err := BaseURL(text, plain)
	if err != nil {
		v.Problemf("%v", err)
	}
	return base
}

// read fills p from v. Checks between several keys come after the reading, at the position of one of them.
func (p *Profile) read(v Value) {
	p.Paging.PageSize, p.Rate.InFlight = DefaultPageSize, DefaultInFlight
	p.ContentType, p.Update.Mode = DefaultContentType, UpdatePatch
	filter := v
	v.Fields(Fields{
		"name":          func(v Value) { p.Name = v.Name() },
		"title":         func(v Value) { p.Title = v.Text() },
		"documentation": func(v Value) { p.Documentation = v.link() },
		"url":           func(v Value) { p.URL = v.URL(false) },
		"resources":     func(v Value) { p.readResources(v) },
		"filter":        func(v Value) { filter = v; p.Filter.read(v) },
		"update":        func(v Value) { p.Update.read(v) },
		"paging": func(v Value) {
			v.Fields(Fields{"pageSize": func(v Value) { p.Paging.PageSize = v.Int(1, 1000) }})
		},
		"rate": func(v Value) {
			v.Fields(Fields{
				"requestsPerSecond": func(v Value) { p.Rate.RequestsPerSecond = v.Number(0, MaxRequestsPerSecond) },
				"inFlight":          func(v Value) { p.Rate.InFlight = v.Int(1, MaxInFlight) },
			})
		},
		"etag":        func(v Value) { p.ETag = v.Bool() },
		"projection":  func(v Value) { p.Projection = v.Bool() },
		"sort":        func(v Value) { p.Sort = v.Bool() },
		"contentType": func(v Value) { p.ContentType = v.jsonType() },
		"errors":      func(v Value) { p.readErrors(v) },
	}, "name", "resources")
	if p.Title == "" {
		p.Title = p.Name
	}
	if f := p.Filter; f.All && (f.And || f.Or || f.Not || f.ValuePath) {
		filter.Problemf("all already means every connective: take the others out")
	}
	for i := range p.Resources {
		p.checkOperations(&p.Resources[i], v)
		p.Resources[i].checkAttributes(p.Filter, v)
	}
}

// link reads the URL of a page for people.
func (v Value) link() string {
	text := v.Text()
	if text != "" && !strings.HasPrefix(text, "https://") && !strings.HasPrefix(text, "http://") {
		v.Problemf("want a URL that begins with https://")
	}
	return text
}

func (v Value) jsonType() string {
	text := v.Text()
	if text == "" {
		return ""
	}
	media, _, err := mime.ParseMediaType(text)
	if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
		v.Problemf("want a JSON media type such as application/scim+json, got %s", Quote(text))
	}
	return text
}

func (f *Filter) read(v Value) {
	v.Fields(Fields{
		"all":       func(v Value) { f.All = v.Bool() },
		"and":       func(v Value) { f.And = v.Bool() },
		"or":        func(v Value) { f.Or = v.Bool() },
		"not":       func(v Value) { f.Not = v.Bool() },
		"valuePath": func(v Value) { f.ValuePath = v.Bool() },
	})
}

func (u *Update) read(v Value) {
	v.Fields(Fields{
		"mode":     func(v Value) { u.Mode = UpdateMode(v.OneOf("patch", "single", "put")) },
		"readBack": func(v Value) { u.ReadBack = v.Bool() },
	})
}

func (p *Profile) readResources(v Value) {
	for _, entry := range v.List(1, 2) {
		r := Resource{Unlisted: HandlingRefuse, Operations: Operations()}
		r.read(entry)
		for _, other := range p.Resources {
			if other.Name == r.Name && r.Name != "" {
				entry.Problemf("the resource %s stands here twice", r.Name)
			}
			if strings.EqualFold(other.Endpoint, r.Endpoint) && r.Endpoint != "" {
				entry.Problemf("the endpoint %s is the one of %s already", r.Endpoint, other.Name)
			}
		}
		p.Resources = append(p.Resources, r)
	}
	if len(p.Resources) > 0 && p.Resource("User") == nil && p.Resource("") == nil { // "": a name that is a Problem already
		v.Problemf("there is no User: an upstream without users is not provisioned")
	}
}

func (r *Resource) read(v Value) {
	r.Line, r.Column = v.Position()
	listed := false
	var unlisted *Value
	v.Fields(Fields{
		"name":       func(v Value) { r.Name = v.OneOf("User", "Group") },
		"endpoint":   func(v Value) { r.Endpoint = v.endpoint() },
		"extensions": func(v Value) { r.Extensions = v.urns() },
		"operations": func(v Value) { r.Operations = v.operations() },
		"complete":   func(v Value) { r.Complete = v.Bool() },
		"unlisted":   func(v Value) { unlisted = &v; r.Unlisted = v.handling() },
		"attributes": func(v Value) { listed = true; r.readAttributes(v) },
	}, "name", "endpoint")
	switch {
	case r.Complete && unlisted != nil:
		unlisted.Problemf("complete: true leaves nothing unlisted: take one of the two out")
	case !r.Complete && !listed:
		v.Problemf("attributes is missing: list what the upstream has, or say complete: true")
	}
}

func (v Value) handling() Handling { return Handling(v.OneOf("refuse", "drop", "keep")) }

func (v Value) endpoint() string {
	text := v.Text()
	if text != "" && !endpointForm.MatchString(text) {
		v.Problemf("want one path segment such as /Users, got %s", Quote(text))
		return ""
	}
	return text
}

func (v Value) urns() []string {
	var list []string
	for _, entry := range v.List(0, 16) {
		text := entry.Text()
		switch {
		case text == "":
		case !urnForm.MatchString(text):
			entry.Problemf("want a schema's URN such as urn:ietf:params:scim:schemas:extension:enterprise:2.0:User, got %s", Quote(text))
		case slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, text) }):
			entry.Problemf("%s stands here twice", Quote(text))
		default:
			list = append(list, text)
		}
	}
	return list
}

func (v Value) operations() []Operation {
	all := make([]string, 0, 6)
	for _, op := range Operations() {
		all = append(all, string(op))
	}
	var list []Operation
	for _, entry := range v.List(1, len(all)) {
		op := Operation(entry.OneOf(all...))
		switch {
		case op == "":
		case slices.Contains(list, op):
			entry.Problemf("%s stands here twice", op)
		default:
			list = append(list, op)
		}
	}
	if slices.Contains(list, OpQuery) && !slices.Contains(list, OpGet) {
		v.Problemf("query needs get: what is found must be readable")
	}
	return list
}
