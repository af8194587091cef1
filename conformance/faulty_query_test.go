package conformance_test

import (
	"fmt"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Queries, projection, discovery and bulk jobs of the test's own service provider.

func hasSchema(o object, urn string) bool {
	member, _ := folded(o, "schemas")
	urns, _ := member.([]any)
	return slices.ContainsFunc(urns, func(u any) bool { s, _ := u.(string); return strings.EqualFold(s, urn) })
}

// parameters are those of the URL, or of the body of a search in the same form.
func (m *model) parameters(c *call, search bool) (url.Values, error) {
	if !search {
		if c.method != "GET" {
			return nil, &problem{405, "GET", "Not this method."}
		}
		return c.query, nil
	}
	if c.method != "POST" {
		return nil, &problem{405, "POST", "Not this method."}
	}
	if m.is("a search ignores its body") {
		return url.Values{}, nil
	}
	in, err := read(c.body)
	if err != nil {
		return nil, err
	}
	if !hasSchema(in, messageURN+"SearchRequest") && !m.is("a search does not need schemas") {
		return nil, bad("invalidSyntax", "schemas does not list SearchRequest")
	}
	out := url.Values{}
	for name, v := range in {
		switch v := v.(type) {
		case []any:
			var names []string
			for _, n := range v {
				names = append(names, fmt.Sprint(n))
			}
			out.Set(name, strings.Join(names, ","))
		default:
			out.Set(name, fmt.Sprint(v))
		}
	}
	return out, nil
}

func (m *model) query(c *call, kinds []*kind, search bool) (answer, error) {
	q, err := m.parameters(c, search)
	if err != nil {
		return answer{}, err
	}
	if len(kinds) > 1 && m.is("the root has no types") {
		kinds = kinds[:1]
	}
	for name := range q {
		if m.is("unknown parameters are refused") && !slices.Contains([]string{"filter", "count", "startIndex", "attributes", "excludedAttributes", "sortBy", "sortOrder", "cursor"}, name) {
			return answer{}, bad("invalidSyntax", "unknown parameter")
		}
	}
	match := func(*kind, object) bool { return true }
	if q.Has("filter") && !m.is("filters are ignored") {
		if match, err = m.filter(q.Get("filter"), kinds); err != nil {
			if m.is("a filter that is none finds nothing") {
				return answer{200, nil, m.listed(nil, 0, 1)}, nil
			}
			if len(kinds) == 1 || err != error(errUnknownAttribute) || m.is("the root refuses attributes of one type") {
				return answer{}, err
			}
			match = func(*kind, object) bool { return false }
		}
	}
	var found []*item
	whole := map[*item]object{}
	for _, it := range m.items {
		whole[it] = m.whole(c, it)
		if (slices.Contains(kinds, it.kind) || m.is("queries mix types")) && match(it.kind, whole[it]) {
			found = append(found, it)
		}
	}
	if m.is("an empty result is 404") && len(found) == 0 {
		return answer{}, &problem{404, "", "Nobody found."}
	}
	if q.Get("sortBy") != "" && !m.is("sortBy is ignored") {
		m.sort(found, whole, kinds, q)
	}
	if m.is("the order of queries changes") {
		if m.now++; m.now%2 == 0 {
			slices.Reverse(found)
		}
	}
	return m.paged(c, found, q, search)
}

func (m *model) sort(found []*item, whole map[*item]object, kinds []*kind, q url.Values) {
	key := func(it *item) string {
		t, ok := it.kind.resolve(q.Get("sortBy"), nil)
		if !ok {
			return ""
		}
		o := whole[it]
		if all, ok := o[t.attr.name].([]any); ok && t.attr.multi {
			best := all[0].(object)
			for _, e := range all {
				if e.(object)["primary"] == true && !m.is("sorting takes the first value") {
					best = e.(object)
				}
			}
			o = object{t.attr.name: best}
		}
		values := t.values(o)
		if len(values) == 0 {
			return ""
		}
		s := fmt.Sprint(values[0])
		if !m.is("sorting looks at case") {
			s = strings.ToLower(s)
		}
		return s
	}
	descending := q.Get("sortOrder") == "descending" && !m.is("sortOrder is ignored") || q.Get("sortOrder") == "" && m.is("sorting is descending by default")
	sort.SliceStable(found, func(i, j int) bool {
		a, b := key(found[i]), key(found[j])
		if (a == "") != (b == "") { // RFC 7644, Section 3.4.2.3: without a value last, or first when descending
			return (b == "") != (descending != m.is("without a value comes first"))
		}
		if descending {
			return a > b
		}
		return a < b
	})
}

func (m *model) paged(c *call, found []*item, q url.Values, search bool) (answer, error) {
	start, count := 1, maxPage
	var err error
	for name, to := range map[string]*int{"startIndex": &start, "count": &count} {
		if text := q.Get(name); text != "" && !m.is(name+" is ignored") {
			if *to, err = strconv.Atoi(text); err != nil {
				if f, ferr := strconv.ParseFloat(text, 64); ferr == nil {
					*to = int(f)
				} else if !m.is("a count that is no number is ignored") {
					return answer{}, bad("invalidValue", name+" is not a number")
				} else {
					*to = 1
				}
			}
		}
	}
	if start < 1 {
		if m.is("startIndex below 1 is refused") {
			return answer{}, bad("invalidValue", "startIndex is below 1")
		}
		start = 1
	}
	if count < 0 && m.is("a negative count is refused") {
		return answer{}, bad("invalidValue", "count is negative")
	}
	if count > 1<<30 && m.is("a huge count is refused") {
		return answer{}, bad("invalidValue", "count is too large")
	}
	count = min(max(count, 0), maxPage)
	if count == 0 && m.is("count=0 means all") {
		count = maxPage
	}
	if m.is("too many is 413") && q.Get("count") == "100000" {
		return answer{}, &problem{413, "tooMany", "Too many."}
	}
	if m.is("too many has no scimType") && q.Get("count") == "100000" {
		return answer{}, bad("", "Too many.")
	}
	if m.is("too many cuts short") && q.Get("count") == "100000" {
		found = nil
	}
	var cursor *page
	if q.Has("cursor") && !m.is("cursors are ignored") {
		if cursor, err = m.cursor(q, count); err != nil {
			return answer{}, err
		}
		start = cursor.offset + 1
	}
	total := len(found)
	from := min(start-1, total)
	if m.is("pages overlap") && from > 0 {
		from--
	}
	to := min(from+count, total)
	if m.is("count is a minimum") && to < total {
		to++
	}
	if m.is("a page beyond the end is the first page") && start > total {
		from, to = 0, min(count, total)
	}
	resources := []any{}
	for _, it := range found[from:to] {
		resources = append(resources, m.projected(&call{query: q, base: c.base, path: "list"}, it))
	}
	if m.is("pages by index have a cursor only") && cursor == nil {
		cursor = &page{}
	}
	if m.is("totalResults is that of the page") {
		total = to - from
	}
	body := m.listed(resources, total, start)
	if cursor != nil {
		m.next(body, cursor, to, len(found), count)
	}
	return answer{200, nil, body}, nil
}

// cursor returns the page that the query's cursor stands for; the first one if it is empty.
func (m *model) cursor(q url.Values, count int) (*page, error) {
	same := url.Values{}
	for name, v := range q {
		if name != "cursor" && name != "count" {
			same[name] = v
		}
	}
	if q.Get("cursor") == "" {
		return &page{query: same.Encode(), count: count}, nil
	}
	p, ok := m.cursors[q.Get("cursor")]
	switch {
	case !ok && m.is("an unknown cursor is the first page"):
		return &page{}, nil
	case !ok:
		return nil, bad("invalidCursor", "The cursor was never given.")
	case p.query != same.Encode() && !m.is("a cursor fits every query"):
		return nil, bad("invalidCursor", "The cursor is that of another query.")
	case p.count != count && !m.is("a cursor fits every count"):
		return nil, bad("invalidCount", "The first page had another count.")
	}
	if m.is("every cursor page is the first one") {
		p.offset = 0
	}
	return &p, nil
}

func (m *model) next(body object, p *page, to, total, count int) {
	if delete(body, "startIndex"); to < total && count > 0 || m.is("the last page has a nextCursor") {
		name := fmt.Sprintf("c%d", len(m.cursors)+1)
		if m.is("cursors are not safe in URLs") {
			name += "/+="
		}
		m.cursors[name] = page{p.query, p.count, to}
		body["nextCursor"] = name
	}
	if p.offset > 0 || m.is("the first page has a previousCursor") {
		name := fmt.Sprintf("p%d", len(m.cursors)+1)
		m.cursors[name] = page{p.query, p.count, max(p.offset-count, 0)}
		body["previousCursor"] = name
	}
	if m.is("nextCursor is missing") {
		delete(body, "nextCursor")
	}
}

func (m *model) listed(resources []any, total, start int) object {
	if resources == nil {
		resources = []any{}
	}
	body := object{"schemas": list([]string{messageURN + "ListResponse"}), "totalResults": total, "itemsPerPage": len(resources), "startIndex": start, "Resources": resources}
	switch {
	case m.is("totalResults is off by one"):
		body["totalResults"] = total + 1
	case m.is("totalResults is a text"):
		body["totalResults"] = fmt.Sprint(total)
	case m.is("itemsPerPage is wrong"):
		body["itemsPerPage"] = len(resources) + 1
	case m.is("a list in one page says nothing of pages") && total == len(resources):
		delete(body, "startIndex")
		delete(body, "itemsPerPage")
		if total == 0 {
			delete(body, "Resources")
		}
	case m.is("startIndex is always 1"):
		body["startIndex"] = 1
	case m.is("lists have no schemas"):
		delete(body, "schemas")
	case m.is("lists have the schema of a User"):
		body["schemas"] = list([]string{userURN})
	case m.is("lists are bare arrays"):
		return object{"value": resources}
	}
	return body
}

// projected is the resource as the parameters want it.
func (m *model) projected(c *call, it *item) object {
	o := m.whole(c, it)
	listed := c.path == "list"
	if !m.is("passwords are echoed") && !(m.is("passwords are listed") && listed) && !(m.is("passwords are given when asked for") && strings.Contains(c.query.Get("attributes"), "password")) {
		delete(o, "password")
	}
	attributes, excluded := c.query.Get("attributes"), c.query.Get("excludedAttributes")
	if m.is("attributes is ignored") || m.is("attributes is ignored in lists") && listed || m.is("attributes is ignored in POST") && c.method == "POST" ||
		m.is("attributes is ignored in PUT") && c.method == "PUT" {
		attributes = ""
	}
	if m.is("excludedAttributes is ignored") || m.is("excludedAttributes is ignored in lists") && listed {
		excluded = ""
	}
	if attributes == "" && excluded == "" && m.is("what is unassigned is null") {
		unassign(o, it.kind.core.attrs)
	}
	if attributes != "" {
		out := object{"id": o["id"], "schemas": o["schemas"]}
		for _, name := range strings.Split(attributes, ",") {
			if m.is("URNs in attributes are not understood") && strings.Contains(name, ":") {
				continue
			}
			if t, ok := it.kind.resolve(strings.TrimSpace(name), nil); ok && t.attr.name != "schemas" {
				m.pick(out, o, t)
			}
		}
		if m.is("attributes leaves out the id") {
			delete(out, "id")
		}
		return out
	}
	for _, name := range strings.Split(excluded, ",") {
		t, ok := it.kind.resolve(strings.TrimSpace(name), nil)
		if !ok || t.attr.returned == "always" && !m.is("the id can be excluded") {
			continue
		}
		home := o
		if t.ext != nil {
			home, _ = o[t.ext.id].(object)
		}
		if t.sub == nil || m.is("sub-attributes cannot be excluded") {
			delete(home, t.attr.name)
		} else if one, ok := home[t.attr.name].(object); ok {
			delete(one, t.sub.name)
		}
	}
	return o
}

func (m *model) pick(out, o object, t target) {
	if t.ext != nil {
		from, _ := o[t.ext.id].(object)
		to, _ := out[t.ext.id].(object)
		if to == nil {
			to = object{}
		}
		t.ext = nil
		if m.pick(to, from, t); len(to) > 0 {
			for _, k := range m.kinds {
				for _, e := range k.extensions {
					out[e.id] = to
				}
			}
		}
		return
	}
	v := o[t.attr.name]
	one, isComplex := v.(object)
	if t.sub != nil && isComplex && !m.is("sub-attributes are not projected") {
		v = object{t.sub.name: one[t.sub.name]}
	}
	if v != nil {
		out[t.attr.name] = v
	}
}

func (m *model) discovery(c *call, parts []string) (answer, error) {
	if c.method != "GET" {
		return answer{}, &problem{405, "GET", "Not this method."}
	}
	if c.query.Has("filter") && !m.is("filters on discovery are let through") {
		return answer{}, &problem{403, "", "No filter here."}
	}
	var all []any
	switch strings.ToLower(parts[0]) {
	case "serviceproviderconfig":
		return answer{200, nil, m.config(c)}, nil
	case "resourcetypes":
		for _, k := range m.kinds {
			all = append(all, m.resourceType(c, k))
		}
	default:
		for _, k := range m.kinds {
			for _, s := range append([]*schema{k.core}, k.extensions...) {
				if !m.is("/Schemas lacks extensions") || s == k.core {
					all = append(all, m.schemaResource(c, s))
				}
			}
		}
		if m.is("/Schemas lists messages") {
			all = append(all, m.schemaResource(c, &schema{id: messageURN + "ListResponse", name: "ListResponse"}))
		}
	}
	if len(parts) > 1 {
		for _, r := range all {
			if o := r.(object); fmt.Sprint(o["id"]) == parts[1] || o["name"] == parts[1] {
				return answer{200, nil, r}, nil
			}
		}
		if m.is("an unknown schema is an empty 200") {
			return answer{200, nil, object{}}, nil
		}
		return answer{}, &problem{404, "", "There is nothing here."}
	}
	if m.is("discovery is paged") {
		start, _ := strconv.Atoi(c.query.Get("startIndex"))
		all = all[min(max(start-1, 0), len(all)):]
	}
	if m.is("/Schemas is not a list") && strings.EqualFold(parts[0], "Schemas") {
		return answer{200, nil, all[0]}, nil
	}
	return answer{200, nil, m.listed(all, len(all), 1)}, nil
}

func (m *model) config(c *call) object {
	supported := func(b bool) object { return object{"supported": b} }
	bulk := object{"supported": true, "maxOperations": maxOperations, "maxPayloadSize": maxPayload}
	scheme := object{"type": "oauthbearertoken", "name": "Bearer token", "description": "A secret in the header Authorization."}
	o := object{"schemas": list([]string{"urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"}),
		"patch": supported(true), "bulk": bulk, "filter": object{"supported": true, "maxResults": maxPage},
		"changePassword": supported(true), "sort": supported(true), "etag": supported(true),
		"pagination":            object{"cursor": true, "index": true, "defaultPaginationMethod": "index", "maxPageSize": maxPage, "cursorTimeout": 600},
		"authenticationSchemes": []any{scheme},
		"meta":                  object{"resourceType": "ServiceProviderConfig", "location": c.base + "/ServiceProviderConfig"}}
	switch {
	case m.is("bulk has no limits"):
		bulk["maxOperations"], bulk["maxPayloadSize"] = 0, 0
	case m.is("a scheme has an empty URI"):
		scheme["specUri"], scheme["documentationUri"] = "", ""
	case m.is("a scheme has no type"):
		delete(scheme, "type")
	case m.is("discovery has no meta"):
		delete(o, "meta")
	case m.is("the configuration has a relative location"):
		o["meta"].(object)["location"] = "/ServiceProviderConfig"
	case m.is("the public configuration has no schemes") && c.header.Get("Authorization") == "":
		delete(o, "authenticationSchemes")
	case m.is("the configuration lacks features"):
		delete(o, "changePassword")
	case m.is("the configuration is a list"):
		return m.listed([]any{o}, 1, 1)
	case m.is("paging is announced wrongly"):
		o["pagination"].(object)["defaultPaginationMethod"] = "guess"
	}
	return o
}

func (m *model) resourceType(c *call, k *kind) object {
	o := object{"schemas": list([]string{"urn:ietf:params:scim:schemas:core:2.0:ResourceType"}), "id": k.name, "name": k.name, "endpoint": k.endpoint,
		"description": k.name, "schema": k.core.id,
		"meta": object{"resourceType": "ResourceType", "location": c.base + "/ResourceTypes/" + k.name}}
	var extensions []any
	for _, e := range k.extensions {
		extensions = append(extensions, object{"schema": e.id, "required": m.is("the extension is required")})
	}
	if extensions != nil {
		o["schemaExtensions"] = extensions
	}
	if m.is("endpoints of resource types lack the slash") {
		o["endpoint"] = strings.TrimPrefix(k.endpoint, "/")
	}
	if m.is("discovery has no meta") {
		delete(o, "meta")
	}
	if m.is("resource types have no endpoint") {
		delete(o, "endpoint")
	}
	if m.is("resource types have no name") {
		delete(o, "name")
	}
	if m.is("a resource type has another schema") {
		o["schema"] = "urn:example:other"
	}
	return o
}

func (m *model) schemaResource(c *call, s *schema) object {
	attrs := []any{}
	for _, a := range s.attrs {
		d := a.describe()
		switch {
		case m.is("schemas hold null"):
			d["canonicalValues"] = nil
		case m.is("types are made up"):
			d["type"] = "text"
		case m.is("characteristics are made up"):
			d["mutability"] = "sometimes"
		case m.is("password is returned by default") && a.name == "password":
			d["returned"] = "default"
		case m.is("attribute names have blanks") && a.name == "nickName":
			d["name"] = a.name + " !"
		case m.is("complex attributes are nested") && a.name == "name":
			d["subAttributes"].([]any)[0].(object)["type"] = "complex"
		}
		attrs = append(attrs, d)
	}
	o := object{"schemas": list([]string{"urn:ietf:params:scim:schemas:core:2.0:Schema"}), "id": s.id, "name": s.name, "description": s.name,
		"attributes": attrs, "meta": object{"resourceType": "Schema", "location": c.base + "/Schemas/" + s.id}}
	if m.is("schemas have no name") {
		delete(o, "name")
	}
	if m.is("schemas have no id") {
		delete(o, "id")
	}
	if m.is("discovery has no meta") {
		delete(o, "meta")
	}
	if m.is("locations of discovery are relative") {
		o["meta"].(object)["location"] = "/Schemas/" + s.id
	}
	return o
}
