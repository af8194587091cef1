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
	switch req.Op {
	case OpOptions:
		return req, nil
	case OpBulk:
		return readBulkRequest(r, req, types, maxBody)
	case OpDiscover:
		req.MaxBody = maxBody
	}
	if err := req.readQuery(r.URL.RawQuery, types); err != nil {
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
	if req.Search {
		if err := req.readSearch(object, types); err != nil {
			return nil, err
		}
		return req, nil
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
	root      = []method{{http.MethodGet, OpQuery, false}, {http.MethodHead, OpQuery, false}}
	search    = []method{{http.MethodPost, OpQuery, true}}
	bulk      = []method{{http.MethodPost, OpBulk, true}}
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
	var allow []string
	for _, m := range table {
		allow = append(allow, m.name)
	}
	allow = append(allow, http.MethodOptions)
	if verb == http.MethodOptions {
		return &Request{Op: OpOptions, Allow: allow}, method{}, nil
	}
	e := Errorf(http.StatusMethodNotAllowed, "", "this method is not allowed here: use %s", strings.Join(allow, ", "))
	e.Allow = allow
	return nil, method{}, e
}

// notImplemented refuses what RFC 7644, Table 2 has and we have not: the alias /Me.
func notImplemented(segments []string) error {
	switch {
	case len(segments) == 0:
		return nil
	case strings.EqualFold(segments[0], "Me"):
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
	if last := len(segments) - 1; last >= 0 && last <= 1 && strings.EqualFold(segments[last], ".search") {
		// Never a resource whose id is ".search". It stands behind what can be queried (RFC 7644, Section 3.4.3).
		req, table := findEndpoint(segments[:last], types)
		if table == nil || table[0].op != OpQuery || req.Search {
			return nil, nil
		}
		req.Search = true
		return req, search
	}
	if len(segments) == 0 {
		return &Request{}, root
	}
	if len(segments) > 2 {
		return nil, nil
	}
	if len(segments) == 1 && strings.EqualFold(segments[0], "Bulk") {
		return &Request{}, bulk
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
	if len(req.Allow) > 0 {
		h.Set("Allow", strings.Join(req.Allow, ", "))
	}
	if resp.Version != "" {
		h.Set("ETag", resp.Version)
	}
	if req.Op == OpBulk {
		writeBody(w, http.StatusOK, AppendBulkResponse(make([]byte, 0, 1024+256*len(resp.Bulk)), resp.Bulk))
		return
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

// AppendListResponse appends the ListResponse message (RFC 7644, Section 3.4.2; RFC 9865, Section 2).
func AppendListResponse(dst []byte, resp *Response) []byte {
	dst = AppendJSON(append(dst, `{"schemas":["`+MessageListResponse+`"],"Resources":`...), resp.List)
	dst = strconv.AppendInt(append(dst, `,"itemsPerPage":`...), int64(len(resp.List)), 10)
	if !resp.ByCursor {
		dst = strconv.AppendInt(append(dst, `,"startIndex":`...), int64(max(resp.StartIndex, 1)), 10)
	}
	if resp.Next != "" {
		dst = AppendJSON(append(dst, `,"nextCursor":`...), resp.Next)
	}
	if resp.Previous != "" {
		dst = AppendJSON(append(dst, `,"previousCursor":`...), resp.Previous)
	}
	dst = strconv.AppendInt(append(dst, `,"totalResults":`...), int64(resp.TotalResults), 10)
	return append(dst, '}')
}

// WriteError answers with a SCIM error body (RFC 7644, Section 3.12). Its detail ends with the request id,
// because that is all that Entra's provisioning log shows. An error that is not an *Error is a bare 500.
func WriteError(w http.ResponseWriter, err error, requestID string) {
	e, body := errorBody(err, requestID)
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
	writeBody(w, e.Status, AppendJSON(nil, body))
}

// errorBody makes the body of WriteError.
func errorBody(err error, requestID string) (*Error, map[string]any) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = Errorf(http.StatusInternalServerError, "", "an internal error: the trail tells more")
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
	return e, body
}

func writeBody(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", MediaType+"; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone when this fails; there is nobody left to tell
}
