package scim

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ReadRequest reads the HTTP form of a request (RFC 7644, Section 3). path is the escaped path below the service
// provider's base URL; types are the resource types that live there. It is liberal where Entra needs it (double
// and trailing slashes, endpoints in any case, unknown query parameters, no Content-Type) and strict where
// leniency would change the meaning: a query that cannot be read is an error, never "no filter". PATCH
// operations have their path parsed, and resolved where it names something. The body is read at most to maxBody
// bytes. The error is an *Error.
func ReadRequest(r *http.Request, path string, types []*ResourceType, maxBody int64) (*Request, error) {
	req, endpoint, err := route(r.Method, path, types)
	if err != nil {
		return nil, err
	}
	if err := req.readQuery(r.URL.RawQuery); err != nil {
		return nil, err
	}
	req.Preconditions = Preconditions{
		IfMatch:     strings.Join(r.Header.Values("If-Match"), ", "),
		IfNoneMatch: strings.Join(r.Header.Values("If-None-Match"), ", "),
	}
	if !endpoint.body {
		return req, nil
	}
	body, err := readBody(r, maxBody)
	if err != nil {
		return nil, err
	}
	object, err := decodeRequest(body)
	if err != nil {
		return nil, err
	}
	if req.Op == OpPatch {
		if req.Operations, err = readPatch(object, req.Type); err != nil {
			return nil, err
		}
		return req, nil
	}
	req.Type.Canonicalize(object)
	req.Resource = object
	return req, nil
}

// method is one row of an endpoint's table.
type method struct {
	name string
	op   Op
	body bool
}

var (
	collection = []method{{http.MethodGet, OpQuery, false}, {http.MethodHead, OpQuery, false}, {http.MethodPost, OpCreate, true}}
	member     = []method{
		{http.MethodGet, OpGet, false}, {http.MethodHead, OpGet, false}, {http.MethodPut, OpReplace, true},
		{http.MethodPatch, OpPatch, true}, {http.MethodDelete, OpDelete, false},
	}
	discovery = []method{{http.MethodGet, OpDiscover, false}, {http.MethodHead, OpDiscover, false}}
)

// The endpoints of RFC 7644, Section 4; the last is what Microsoft's reference client asks for.
var discoveryEndpoints = map[string]string{
	"serviceproviderconfig": "ServiceProviderConfig", "resourcetypes": "ResourceTypes", "schemas": "Schemas",
	"serviceconfiguration": "ServiceProviderConfig",
}

func route(verb, path string, types []*ResourceType) (*Request, method, error) {
	var segments []string
	for s := range strings.SplitSeq(path, "/") {
		if s == "" {
			continue
		}
		plain, err := url.PathUnescape(s)
		if err != nil || !utf8.ValidString(plain) {
			return nil, method{}, BadRequest(InvalidSyntax, "the path has an escape that cannot be decoded")
		}
		segments = append(segments, plain)
	}
	if err := notImplemented(segments); err != nil {
		return nil, method{}, err
	}
	req, table := findEndpoint(segments, types)
	if table == nil {
		return nil, method{}, Errorf(http.StatusNotFound, "", "there is no such endpoint: use %s", endpointList(types))
	}
	for _, m := range table {
		if m.name != verb {
			continue
		}
		if req.Type != nil && req.ID != "" && !IsID(req.ID) {
			return nil, method{}, NotFound(req.Type.Name, req.ID)
		}
		req.Op = m.op
		return req, m, nil
	}
	e := Errorf(http.StatusMethodNotAllowed, "", "this method is not allowed here")
	for _, m := range table {
		e.Allow = append(e.Allow, m.name)
	}
	e.Detail += ": use " + strings.Join(e.Allow, ", ")
	return nil, method{}, e
}

// notImplemented refuses what RFC 7644, Table 2 has and we have not: the alias /Me, /Bulk, and queries by POST,
// which must not be taken for something else at the same place, such as a resource whose id is ".search".
func notImplemented(segments []string) error {
	last := len(segments) - 1
	switch {
	case last < 0:
		return nil
	case strings.EqualFold(segments[last], ".search"):
		return Errorf(http.StatusNotImplemented, "", "queries by POST to .search are not implemented: use GET with a filter")
	case strings.EqualFold(segments[0], "Me"), strings.EqualFold(segments[0], "Bulk"):
		return Errorf(http.StatusNotImplemented, "", "/%s is not implemented", segments[0])
	default:
		return nil
	}
}

// IsID reports whether an id can be the last segment of a URL. A path that ends in "." or ".." is another one,
// however it is escaped (RFC 3986, Section 5.2.4), and control characters are in nobody's ids.
func IsID(id string) bool {
	return id != "" && id != "." && id != ".." && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}

func findEndpoint(segments []string, types []*ResourceType) (*Request, []method) {
	if len(segments) == 0 || len(segments) > 2 {
		return nil, nil
	}
	if name, ok := discoveryEndpoints[strings.ToLower(segments[0])]; ok {
		if len(segments) == 2 {
			name += "/" + segments[1]
		}
		return &Request{ID: name}, discovery
	}
	for _, rt := range types {
		if !strings.EqualFold(segments[0], strings.Trim(rt.Endpoint, "/")) {
			continue
		}
		if len(segments) == 1 {
			return &Request{Type: rt}, collection
		}
		return &Request{Type: rt, ID: segments[1]}, member
	}
	return nil, nil
}

func endpointList(types []*ResourceType) string {
	var list []string
	for _, rt := range types {
		list = append(list, rt.Endpoint)
	}
	return strings.Join(append(list, "/ServiceProviderConfig, /ResourceTypes or /Schemas"), ", ")
}

// checkMediaType accepts RFC 7644, Section 3.8 and what plain JSON clients send; no Content-Type is as good.
func checkMediaType(contentType string) error {
	switch contentType {
	case "", MediaType, MediaType + "; charset=utf-8": // Entra's, and so most
		return nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || media != MediaType && media != "application/json" {
		return Errorf(http.StatusUnsupportedMediaType, "", "the Content-Type must be %s or application/json", MediaType)
	}
	if c := params["charset"]; c != "" && !strings.EqualFold(c, "utf-8") {
		return Errorf(http.StatusUnsupportedMediaType, "", "the charset must be utf-8")
	}
	return nil
}

func readBody(r *http.Request, maxBody int64) ([]byte, error) {
	if err := checkMediaType(r.Header.Get("Content-Type")); err != nil {
		return nil, err
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, Errorf(http.StatusUnsupportedMediaType, "", "the body must not be compressed")
	}
	if r.Body == nil {
		return nil, nil
	}
	tooLarge := func() ([]byte, error) {
		return nil, Errorf(http.StatusRequestEntityTooLarge, "", "the body is larger than %d bytes", maxBody)
	}
	if r.ContentLength > maxBody {
		return tooLarge()
	}
	body, err := readAll(r.Body, r.ContentLength, maxBody)
	_, bounded := errors.AsType[*http.MaxBytesError](err)
	switch {
	case bounded, errors.Is(err, errTooLarge):
		return tooLarge()
	case err != nil:
		e := BadRequest(InvalidSyntax, "the body did not arrive in full")
		e.Err = err
		return nil, e
	}
	return body, nil
}

var errTooLarge = errors.New("body too large")

// readAll reads at most most bytes; length is what was announced, or -1. An announcement alone costs little memory.
func readAll(r io.Reader, length, most int64) ([]byte, error) {
	size := int64(512)
	if length >= 0 {
		size = min(length, most, 64<<10)
	}
	buf := make([]byte, 0, size+1)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > most:
			return nil, errTooLarge
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, err
		case len(buf) == cap(buf):
			buf = slices.Grow(buf, len(buf))
		}
	}
}

// readQuery reads the parameters of RFC 7644, Section 3.4.2. Parameters it does not know are ignored, because
// Entra's feature flags ride on the Tenant URL.
func (req *Request) readQuery(raw string) error {
	req.Query.StartIndex = 1
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(raw, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, ok := decodeQuery(rawName)
		if !ok {
			return BadRequest(InvalidValue, "the query has a parameter name that cannot be decoded")
		}
		parameter, known := parameters[strings.ToLower(name)]
		value, ok := decodeQuery(rawValue)
		switch {
		case !ok && known:
			return BadRequest(parameter.scimType, "the query parameter %s cannot be decoded", parameter.name)
		case !ok:
			return BadRequest(InvalidValue, "the query parameter %q cannot be decoded", clip(name))
		case !known && strings.Contains(pair, ";"):
			// Some separate parameters by it. For them there may be a filter here, and ignored it would mean none.
			return BadRequest(InvalidValue, "the query has a semicolon: separate parameters by &, or escape it as %%3B")
		case !known:
			continue
		}
		if seen[parameter.name] {
			return BadRequest(parameter.scimType, "the query parameter %s occurs twice", parameter.name)
		}
		seen[parameter.name] = true
		if req.Type == nil {
			if parameter.name == "filter" {
				return Errorf(http.StatusForbidden, "", "a filter is not allowed here (RFC 7644, Section 4)")
			}
			continue
		}
		if err := parameter.read(&req.Query, req.Type, value); err != nil {
			return err
		}
	}
	if seen["attributes"] && seen["excludedAttributes"] {
		return BadRequest(InvalidValue, "attributes and excludedAttributes exclude each other (RFC 7644, Section 3.9)")
	}
	return nil
}

func decodeQuery(raw string) (string, bool) {
	s, err := url.QueryUnescape(raw)
	return s, err == nil && utf8.ValidString(s)
}

type parameter struct {
	name, scimType string
	read           func(q *Query, rt *ResourceType, value string) error
}

var parameters = map[string]parameter{
	"filter": {"filter", InvalidFilter, func(q *Query, _ *ResourceType, v string) (err error) {
		q.Filter, err = ParseFilter(v)
		return err
	}},
	"attributes": {"attributes", InvalidValue, func(q *Query, rt *ResourceType, v string) (err error) {
		q.Attributes, err = q.readAttributes(rt, v)
		return err
	}},
	"excludedattributes": {"excludedAttributes", InvalidValue, func(q *Query, rt *ResourceType, v string) (err error) {
		q.ExcludedAttributes, err = q.readAttributes(rt, v)
		return err
	}},
	"sortby": {"sortBy", InvalidPath, func(q *Query, rt *ResourceType, v string) error {
		p, err := ParseAttributePath(v)
		if err != nil {
			return err
		}
		t, ok := rt.Resolve(p)
		if !ok {
			return BadRequest(InvalidPath, "sortBy names no attribute of %s", rt.Name)
		}
		q.SortBy = &t.Ref
		return nil
	}},
	"sortorder": {"sortOrder", InvalidValue, func(q *Query, _ *ResourceType, v string) error {
		switch {
		case strings.EqualFold(v, "ascending"):
		case strings.EqualFold(v, "descending"):
			q.Descending = true
		default:
			return BadRequest(InvalidValue, "sortOrder must be ascending or descending")
		}
		return nil
	}},
	"startindex": {"startIndex", InvalidValue, func(q *Query, _ *ResourceType, v string) error {
		n, err := readInt("startIndex", v)
		q.StartIndex = max(n, 1) // Section 3.4.2.4: less than 1 is 1
		return err
	}},
	"count": {"count", InvalidValue, func(q *Query, _ *ResourceType, v string) error {
		n, err := readInt("count", v)
		n = max(n, 0) // Section 3.4.2.4: a negative value is 0
		q.Count = &n
		return err
	}},
}

// readInt reads an integer; beyond the range of 32 bits the nearest end stands in.
func readInt(name, v string) (int, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 32)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, BadRequest(InvalidValue, "%s must be an integer", name)
	}
	return int(n), nil
}

// maxUnknown is how many unknown names of a list are noted.
const maxUnknown = 16

// readAttributes reads a list of attribute paths, each once. An empty list is none; one of unknown names only is not
// nil.
func (q *Query) readAttributes(rt *ResourceType, list string) ([]Ref, error) {
	if strings.Trim(list, ", ") == "" {
		return nil, nil
	}
	refs := []Ref{}
	seen := map[Ref]bool{} // each is looked for in every resource of the answer
	add := func(r Ref) {
		if !seen[r] {
			seen[r] = true
			refs = append(refs, r)
		}
	}
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if e := rt.Extension(name); e != nil { // the extension's URN alone means all of it
			for _, a := range e.Attributes {
				add(Ref{Schema: e.ID, Name: a.Name})
			}
			continue
		}
		p, err := ParseAttributePath(name)
		if err != nil {
			return nil, err
		}
		if t, ok := rt.Resolve(p); ok {
			add(t.Ref)
		} else if len(q.Unknown) < maxUnknown {
			q.Unknown = append(q.Unknown, clip(name))
		}
	}
	return refs, nil
}

// MaxOperations is how many operations a PATCH may have.
const MaxOperations = 1000

// TooManyOperations is the answer to a PATCH of more operations, or of what would become more when it is taken apart.
func TooManyOperations() *Error {
	return Errorf(http.StatusRequestEntityTooLarge, "", "more than %d operations: send them in several requests", MaxOperations)
}

// readPatch reads the body of a PATCH (RFC 7644, Section 3.5.2). Names of its own members match in any case, as
// does op.
func readPatch(body Resource, rt *ResourceType) ([]PatchOp, error) {
	if !hasMessage(field(body, "schemas"), MessagePatchOp) {
		return nil, BadRequest(InvalidSyntax, "schemas must contain %q", MessagePatchOp)
	}
	list, ok := field(body, "Operations").([]any)
	if !ok || len(list) == 0 {
		return nil, BadRequest(InvalidSyntax, "Operations is required: an array with at least one operation")
	}
	if len(list) > MaxOperations {
		return nil, TooManyOperations()
	}
	ops := make([]PatchOp, 0, len(list))
	for i, v := range list {
		op, err := readPatchOp(v, rt)
		if err != nil {
			if e, ok := errors.AsType[*Error](err); ok {
				e.Detail = "Operations[" + strconv.Itoa(i) + "]: " + e.Detail
			}
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

func readPatchOp(v any, rt *ResourceType) (PatchOp, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return PatchOp{}, BadRequest(InvalidSyntax, "an operation must be an object")
	}
	name, _ := field(m, "op").(string)
	op := PatchOp{Op: strings.ToLower(name), Value: field(m, "value")}
	if op.Op != "add" && op.Op != "remove" && op.Op != "replace" {
		return PatchOp{}, BadRequest(InvalidSyntax, "op must be add, remove or replace")
	}
	switch path := field(m, "path").(type) {
	case nil:
		switch {
		case op.Op == "remove":
			return PatchOp{}, BadRequest(NoTarget, "remove needs a path")
		case op.Value == nil:
			return PatchOp{}, BadRequest(InvalidSyntax, "value is required where there is no path")
		case !isObject(op.Value):
			return PatchOp{}, BadRequest(InvalidValue, "value must be an object where there is no path")
		}
	case string:
		p, err := ParsePath(path)
		if err != nil {
			return PatchOp{}, err
		}
		if op.Op != "remove" && op.Value == nil && !hasField(m, "value") {
			return PatchOp{}, BadRequest(InvalidValue, "value is required for %s at %s", op.Op, p.AttributePath.String())
		}
		op.Path = p
		op.Target, _ = rt.ResolvePath(p)
		op.Target.canonicalizeIfResolved(op.Value)
	default:
		return PatchOp{}, BadRequest(InvalidPath, "path must be a string")
	}
	return op, nil
}

func (t Target) canonicalizeIfResolved(v any) {
	if t.Attribute != nil {
		t.CanonicalizeValue(v)
	}
}

// field finds a member of a message by its name in any case.
func field(m map[string]any, name string) any {
	if v, ok := m[name]; ok {
		return v
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}

func hasField(m map[string]any, name string) bool {
	for k := range m {
		if strings.EqualFold(k, name) {
			return true
		}
	}
	return false
}

func hasMessage(schemas any, urn string) bool {
	list, _ := schemas.([]any)
	return slices.ContainsFunc(list, func(v any) bool { s, ok := v.(string); return ok && strings.EqualFold(s, urn) })
}

// WriteResponse writes the answer to req. base is the absolute URL of the service provider, without a trailing
// slash; it completes Location where the response has none.
func WriteResponse(w http.ResponseWriter, req *Request, resp *Response, base string) {
	h := w.Header()
	if resp.Version != "" {
		h.Set("ETag", resp.Version)
	}
	if req.Op == OpQuery && resp.Status != http.StatusNotModified || resp.List != nil {
		writeBody(w, http.StatusOK, AppendListResponse(make([]byte, 0, 1024+1024*len(resp.List)), resp))
		return
	}
	location := resp.Location
	if location == "" && req.Type != nil && resp.Resource.ID() != "" {
		location = base + req.Type.Endpoint + "/" + url.PathEscape(resp.Resource.ID())
	}
	switch {
	case req.Op == OpCreate && location != "":
		h.Set("Location", location)
	case location != "" && resp.Resource != nil:
		h.Set("Content-Location", location)
	}
	if resp.Resource == nil {
		w.WriteHeader(resp.Status)
		return
	}
	writeBody(w, resp.Status, AppendJSON(make([]byte, 0, 1024), resp.Resource))
}

// AppendListResponse appends the ListResponse message (RFC 7644, Section 3.4.2).
func AppendListResponse(dst []byte, resp *Response) []byte {
	dst = AppendJSON(append(dst, `{"schemas":["`+MessageListResponse+`"],"Resources":`...), resp.List)
	dst = strconv.AppendInt(append(dst, `,"itemsPerPage":`...), int64(len(resp.List)), 10)
	dst = strconv.AppendInt(append(dst, `,"startIndex":`...), int64(max(resp.StartIndex, 1)), 10)
	dst = strconv.AppendInt(append(dst, `,"totalResults":`...), int64(resp.TotalResults), 10)
	return append(dst, '}')
}

// WriteError answers with a SCIM error body (RFC 7644, Section 3.12). Its detail ends with the request id,
// because that is all that Entra's provisioning log shows. An error that is not an *Error is a bare 500.
func WriteError(w http.ResponseWriter, err error, requestID string) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = Errorf(http.StatusInternalServerError, "", "an internal error: the trail tells more")
	}
	h := w.Header()
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if len(e.Allow) > 0 {
		h.Set("Allow", strings.Join(e.Allow, ", "))
	}
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="scim"`)
	}
	detail := e.Detail
	if e.Quoted != "" {
		detail += "; upstream: " + e.Quoted
	}
	if requestID != "" {
		detail = strings.TrimRight(detail, ". ") + ". Request id: " + requestID
	}
	body := map[string]any{"schemas": []any{MessageError}, "status": strconv.Itoa(e.Status), "detail": detail}
	if e.Type != "" {
		body["scimType"] = e.Type
	}
	writeBody(w, e.Status, AppendJSON(nil, body))
}

func writeBody(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", MediaType+"; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone when this fails; there is nobody left to tell
}
