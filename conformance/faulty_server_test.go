package conformance_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

type object = map[string]any

// model is a service provider in memory that does everything the suite asks for, and can be given faults. It knows
// nothing of this repository's other packages, so that the suite is not measured with itself.
type model struct {
	mu      sync.Mutex
	faults  map[string]bool
	kinds   []*kind
	items   []*item // in the order of their creation
	count   int     // of ids given
	now     int     // moves with every write
	half    object  // what a PATCH that failed had done, under the fault that keeps it
	cursors map[string]page
}

type item struct {
	kind              *kind
	id                string
	attrs             object
	created, modified int
}

// page is what a cursor stands for.
type page struct {
	query  string
	count  int
	offset int
}

// problem is a SCIM error.
type problem struct {
	status       int
	kind, detail string
}

func (p *problem) Error() string { return p.detail }

func bad(kind, detail string) *problem { return &problem{400, kind, detail} }

// call is one request, from outside or from a bulk job.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	body         []byte
	base         string
}

type answer struct {
	status int
	header map[string]string
	body   any // nil: none
}

const (
	secret        = "the-token-of-the-model"
	maxOperations = 20
	maxPayload    = 4000
	maxPage       = 1000
)

func newModel(faults ...string) *model {
	common := parseAttributes(commonAttributes)
	user := &kind{name: "User", endpoint: "/Users", common: common, core: &schema{userURN, "User", parseAttributes(userAttributes)},
		extensions: []*schema{{enterpriseURN, "EnterpriseUser", parseAttributes(enterpriseAttributes)}}}
	group := &kind{name: "Group", endpoint: "/Groups", common: common, core: &schema{groupURN, "Group", parseAttributes(groupAttributes)}}
	m := &model{faults: map[string]bool{}, kinds: []*kind{user, group}, cursors: map[string]page{}}
	for _, f := range faults {
		m.faults[f] = true
	}
	return m
}

// is reports whether the model has a fault.
func (m *model) is(fault string) bool { return m.faults[fault] }

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	path := r.URL.Path
	if m.is("paths are not decoded") {
		path = r.URL.EscapedPath()
	}
	base := "http://" + r.Host + "/scim/v2"
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	path, here := strings.CutPrefix(path, "/scim/v2")
	a := m.refusal(&problem{404, "", "There is nothing here."})
	if here {
		a = m.authenticated(r, &call{method, path, r.URL.Query(), r.Header, body, base})
	}
	contentType := "application/scim+json"
	if m.is("the content type is text/html") || m.is("errors have another content type") && a.status >= 400 {
		contentType = "text/html"
	}
	if m.is("the content type is application/json") || m.is("Accept decides the content type alone") && r.Header.Get("Accept") == "" {
		contentType = "application/json"
	}
	for name, v := range a.header {
		w.Header().Set(name, v)
	}
	if a.body == nil || r.Method == http.MethodHead && !m.is("HEAD is answered with a body") {
		w.WriteHeader(a.status)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(a.status)
	if m.is("errors are plain text") && a.status >= 400 {
		fmt.Fprintln(w, "something went wrong")
		return
	}
	text, _ := json.Marshal(a.body)
	if m.is("integers have a fraction") {
		text = bytes.ReplaceAll(text, []byte(`"totalResults":`), []byte(`"totalResults":0.`))
	}
	_, _ = w.Write(text)
}

func (m *model) authenticated(r *http.Request, c *call) answer {
	public := strings.HasSuffix(c.path, "/ServiceProviderConfig")
	right := r.Header.Get("Authorization") == "Bearer "+secret
	if m.is("a missing token is let in") && r.Header.Get("Authorization") == "" || m.is("a wrong token is let in") && r.Header.Get("Authorization") != "" {
		right = true
	}
	if !right && !public && !m.is("authentication is off") {
		a := m.refusal(&problem{401, "", "The token is not right."})
		if !m.is("401 comes without WWW-Authenticate") {
			a.header = map[string]string{"WWW-Authenticate": "Bearer"}
		}
		if m.is("401 is checked after the request is done") {
			m.answer(c)
		}
		return a
	}
	if m.is("GET without Accept is refused") && r.Header.Get("Accept") == "" {
		return m.refusal(&problem{406, "", "Accept is missing."})
	}
	if m.is("application/json is refused") && (strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") || r.Header.Get("Accept") == "application/json") {
		return m.refusal(&problem{415, "", "Not this media type."})
	}
	if m.is("a charset is refused") && strings.Contains(r.Header.Get("Content-Type"), "charset") {
		return m.refusal(&problem{415, "", "Not this media type."})
	}
	return m.answer(c)
}

func (m *model) refusal(err error) answer {
	p, ok := err.(*problem)
	if !ok {
		p = &problem{500, "", err.Error()}
	}
	body := object{"schemas": list([]string{messageURN + "Error"}), "status": strconv.Itoa(p.status), "detail": p.detail}
	if p.kind != "" && !m.is("errors have no scimType") {
		body["scimType"] = p.kind
	}
	if m.is("errors have no schemas") {
		delete(body, "schemas")
	}
	if m.is("the status in errors is a number") {
		body["status"] = p.status
	}
	if m.is("errors have no more than they must") {
		if p.kind == "invalidSyntax" || p.kind == "invalidValue" || p.kind == "invalidPath" {
			delete(body, "scimType")
		}
		if p.kind != "invalidFilter" && p.status != 413 {
			delete(body, "detail")
		}
	}
	if m.is("errors have no detail") {
		delete(body, "detail")
	}
	a := answer{status: p.status, body: body}
	if p.status == 405 && !m.is("405 comes without Allow") {
		a.header = map[string]string{"Allow": p.kind}
		delete(body, "scimType")
	}
	return a
}

// answer is the way of a request: the endpoint, then the method.
func (m *model) answer(c *call) answer {
	if m.is("// is not taken for /") && strings.HasPrefix(c.path, "//") || m.is("a slash at the end is not taken") && len(c.path) > 1 && strings.HasSuffix(c.path, "/") {
		return m.refusal(&problem{404, "", "There is nothing here."})
	}
	parts := strings.FieldsFunc(c.path, func(r rune) bool { return r == '/' })
	a, err := m.route(c, parts)
	if err != nil {
		return m.refusal(err)
	}
	return a
}

func (m *model) route(c *call, parts []string) (answer, error) {
	if len(parts) == 0 {
		if m.is("queries at the root are too many") {
			return answer{}, bad("tooMany", "Ask at an endpoint.")
		}
		if m.is("queries at the root find nothing") {
			return answer{200, nil, m.listed(nil, 0, 1)}, nil
		}
		return m.query(c, m.kinds, c.method != "GET")
	}
	first := parts[0]
	is := func(name string) bool {
		return strings.EqualFold(first, name) && (first == name || !m.is("endpoints are case-sensitive"))
	}
	switch {
	case is("ServiceProviderConfig"), is("ResourceTypes"), is("Schemas"):
		return m.discovery(c, parts)
	case is("Bulk"):
		return m.bulk(c)
	case is("Me"):
		return m.me(c)
	case is(".search") && m.is("queries at the root find nothing"):
		return answer{200, nil, m.listed(nil, 0, 1)}, nil
	case is(".search"):
		return m.query(c, m.kinds, true)
	}
	for _, k := range m.kinds {
		if is(strings.TrimPrefix(k.endpoint, "/")) {
			return m.resources(c, k, parts[1:])
		}
	}
	if m.is("unknown endpoints are empty lists") {
		return answer{200, nil, m.listed(nil, 0, 1)}, nil
	}
	return answer{}, &problem{404, "", "There is nothing here."}
}

func (m *model) me(c *call) (answer, error) {
	if m.is("/Me has no permanent location") {
		return answer{200, nil, object{"schemas": list([]string{userURN}), "id": "me"}}, nil
	}
	if m.is("/Me is nobody") {
		return answer{}, &problem{404, "", "There is no resource for this token."}
	}
	if m.is("/Me is an internal error") {
		return answer{}, &problem{500, "", "That did not work."}
	}
	return answer{}, &problem{501, "", "There is no /Me."}
}

func (m *model) resources(c *call, k *kind, rest []string) (answer, error) {
	if k.name == "Group" && m.is("/Groups is not found") {
		return answer{}, &problem{404, "", "There is nothing here."}
	}
	if c.method == "OPTIONS" {
		if m.is("OPTIONS names no methods") {
			return answer{status: 200}, nil
		}
		return answer{204, map[string]string{"Allow": "GET, POST, PUT, PATCH, DELETE"}, nil}, nil
	}
	if len(rest) == 0 {
		switch c.method {
		case "GET":
			return m.query(c, []*kind{k}, false)
		case "POST":
			return m.create1(c, k)
		}
		return answer{}, &problem{405, "GET, POST", "Not this method."}
	}
	if rest[0] == ".search" && c.method == "POST" {
		return m.query(c, []*kind{k}, true)
	}
	if len(rest) > 1 {
		return answer{}, &problem{404, "", "There is nothing here."}
	}
	it := m.lookup(k, rest[0])
	if it == nil {
		if c.method == "PUT" && m.is("PUT creates") {
			return m.create1(c, k)
		}
		if c.method == "DELETE" && m.is("DELETE of nothing is 204") {
			return answer{status: 204}, nil
		}
		if m.is("an unknown id is an empty 200") {
			return answer{200, nil, object{}}, nil
		}
		return answer{}, &problem{404, "", "There is no such resource."}
	}
	return m.one(c, it)
}

func (m *model) lookup(k *kind, id string) *item {
	i := slices.IndexFunc(m.items, func(it *item) bool { return m.id(it) == id && (it.kind == k || m.is("a User is found under /Groups")) })
	if i < 0 {
		return nil
	}
	return m.items[i]
}

func (m *model) one(c *call, it *item) (answer, error) {
	if match := c.header.Get("If-Match"); match != "" && match != "*" && match != m.version(it) && !m.is("If-Match is ignored") {
		status := 412
		if m.is("a past version is 409") {
			status = 409
		}
		return answer{}, &problem{status, "", "The resource has another version."}
	}
	switch c.method {
	case "GET":
		if c.header.Get("If-None-Match") == m.version(it) && !m.is("If-None-Match is ignored") {
			return answer{status: 304}, nil
		}
		return m.shown(c, it, 200), nil
	case "PUT":
		in, err := read(c.body)
		if err != nil {
			return answer{}, err
		}
		fresh, err := m.resource(it.kind, in)
		if err != nil {
			return answer{}, err
		}
		for name, v := range it.attrs {
			sent, named := in[name]
			if !named && m.is("PUT merges") || named && sent == nil && m.is("null in PUT keeps the value") {
				fresh[name] = v
			}
		}
		if m.is("PUT is ignored") {
			fresh = it.attrs
		}
		if err := m.store(c, it, fresh, in); err != nil {
			return answer{}, err
		}
		return m.shown(c, it, 200), nil
	case "PATCH":
		return m.patched(c, it)
	case "DELETE":
		return m.deleted(it), nil
	}
	return answer{}, &problem{405, "GET, PUT, PATCH, DELETE", "Not this method."}
}

func (m *model) deleted(it *item) answer {
	if m.is("DELETE is ignored") {
		return answer{status: 204}
	}
	m.items = slices.DeleteFunc(m.items, func(x *item) bool {
		return x == it || m.is("deleting a Group deletes its members") && it.kind.name == "Group"
	})
	if m.is("DELETE answers 200") {
		return answer{200, nil, object{}}
	}
	if m.is("DELETE answers with a body") {
		return answer{204, map[string]string{"X-Body": "1"}, object{}}
	}
	return answer{status: 204}
}

func (m *model) patched(c *call, it *item) (answer, error) {
	in, err := read(c.body)
	if err != nil {
		return answer{}, err
	}
	fresh, err := m.patch(it.kind, it.attrs, in)
	if m.half != nil {
		it.attrs, m.half = m.half, nil
	}
	if err != nil {
		return answer{}, err
	}
	if !reflect.DeepEqual(fresh, it.attrs) || m.is("lastModified moves without a change") {
		if err := m.store(c, it, fresh, in); err != nil {
			return answer{}, err
		}
	}
	status := 200
	if m.is("PATCH answers 201") {
		status = 201
	}
	if (it.kind.name == "Group" || m.is("PATCH answers 204 always") || m.is("PATCH answers 204 where it may")) && (c.query.Get("attributes") == "" || m.is("PATCH answers 204 always")) {
		return answer{status: 204}, nil
	}
	return m.shown(c, it, status), nil
}

// store checks what is unique and keeps the new attributes.
func (m *model) store(c *call, it *item, fresh object, sent object) error {
	name, _ := fresh["userName"].(string)
	for _, other := range m.items {
		taken, _ := other.attrs["userName"].(string)
		if other != it && it.kind.name == "User" && other.kind == it.kind && strings.EqualFold(name, taken) && !m.is("userName is not unique") &&
			(name == taken || !m.is("userName in another case is free")) && (it.attrs == nil || !m.is("userName is unique in POST only")) {
			if m.is("a duplicate is 400") {
				return bad("uniqueness", "The userName is taken.")
			}
			if m.is("a duplicate overwrites") {
				other.attrs = fresh
			}
			return &problem{409, "uniqueness", "The userName is taken."}
		}
	}
	if m.is("meta is the client's") {
		if meta, ok := sent["meta"].(object); ok {
			fresh["meta"] = meta
		}
	}
	if m.is("schemas is the client's") {
		fresh["schemas"] = sent["schemas"]
	}
	if m.is("groups is writable") {
		if g, ok := sent["groups"]; ok {
			fresh["groups"] = g
		}
	}
	m.now++
	it.attrs, it.modified = fresh, m.now
	return nil
}

func read(body []byte) (object, error) {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, bad("invalidSyntax", "The body is not JSON.")
	}
	o, ok := v.(object)
	if !ok {
		return nil, bad("invalidSyntax", "The body is not an object.")
	}
	return o, nil
}

func (m *model) create1(c *call, k *kind) (answer, error) {
	in, err := read(c.body)
	if err != nil && !m.is("malformed bodies are taken") {
		return answer{}, err
	}
	if in == nil {
		in = object{"schemas": list([]string{k.core.id}), "userName": fmt.Sprint("made-up-", m.count)}
	}
	fresh, err := m.resource(k, in)
	if err != nil {
		return answer{}, err
	}
	m.count++
	it := &item{kind: k, id: fmt.Sprintf("%06d-%s", m.count, strings.ToLower(k.name))}
	if id, ok := fresh["id"].(string); ok {
		it.id = id
		delete(fresh, "id")
	}
	switch {
	case m.is("ids look like numbers"):
		it.id = fmt.Sprint(1000 + m.count)
	case m.is("ids contain bulkId"):
		it.id = "bulkId-" + it.id
	case m.is("ids are not unique"):
		it.id = "the-" + strings.ToLower(k.name)
	case m.is("ids are reused"):
		it.id = fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, fresh["userName"], fresh["displayName"])))[:12]
	}
	if err := m.store(c, it, fresh, in); err != nil {
		return answer{}, err
	}
	it.created = it.modified
	if m.is("resources are not stored") {
		return m.shown(c, it, 201), nil
	}
	m.items = append(m.items, it)
	if m.is("POST answers 200") {
		return m.shown(c, it, 200), nil
	}
	a := m.shown(c, it, 201)
	if m.is("POST answers without a body") {
		a.body = object{"id": it.id, "meta": a.body.(object)["meta"], "schemas": list([]string{k.core.id})}
	}
	return a, nil
}

func (m *model) version(it *item) string {
	if m.is("entity tags never change") {
		return `W/"1"`
	}
	if m.is("entity tags change all the time") {
		m.count++
		return fmt.Sprintf(`W/"%d"`, m.count)
	}
	if m.is("entity tags are bare") {
		return fmt.Sprintf("%s.%d", it.id, it.modified)
	}
	if m.is("entity tags are strong") {
		return fmt.Sprintf(`"%s.%d"`, it.id, it.modified)
	}
	return fmt.Sprintf(`W/"%s.%d"`, it.id, it.modified)
}

func (m *model) time(n int) string {
	t := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(n) * time.Millisecond)
	if m.is("dates are in whole seconds") {
		return t.Truncate(time.Second).Format(time.RFC3339)
	}
	if m.is("dates are not dates") {
		return t.Format(time.RFC1123)
	}
	return t.Format("2006-01-02T15:04:05.000Z")
}

// shown is the answer that shows a resource.
func (m *model) shown(c *call, it *item, status int) answer {
	location := m.location(c, it)
	a := answer{status, map[string]string{"Location": location, "ETag": m.version(it)}, m.projected(c, it)}
	if m.is("Location is missing") {
		delete(a.header, "Location")
	}
	if m.is("Location leads elsewhere") {
		a.header["Location"] = c.base + "/Users/somebody-else"
	}
	if m.is("ETag is missing") {
		delete(a.header, "ETag")
	}
	if status == 200 && m.is("headers are no more than they must be") {
		delete(a.header, "Location")
		if c.method == "PUT" || c.method == "PATCH" {
			delete(a.header, "ETag")
		}
	}
	if m.is("Content-Location is another") {
		a.header["Content-Location"] = c.base + "/elsewhere"
	}
	return a
}

func (m *model) location(c *call, it *item) string {
	base := c.base
	if m.is("locations are relative") {
		base = "/scim/v2"
	}
	if m.is("locations lack the base") {
		u, _ := url.Parse(base)
		base = "http://" + u.Host
	}
	return base + it.kind.endpoint + "/" + m.id(it)
}

// id is what a resource is called by.
func (m *model) id(it *item) string {
	if m.is("the id follows the userName") && it.kind.name == "User" {
		return fmt.Sprintf("%x", it.attrs["userName"])
	}
	return it.id
}
