package scim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// NewHTTPRequest makes the HTTP form of a request to the service provider at base (absolute URL, no trailing
// slash). It sets nothing but Accept, Content-Type, X-Request-Id, If-Match, If-None-Match and User-Agent:
// whatever else a client sent does not travel. An id that would make the URL another resource's is refused.
func NewHTTPRequest(ctx context.Context, base, contentType string, req *Request) (*http.Request, error) {
	verb := req.verb()
	if req.Type == nil || verb == "" {
		return nil, fmt.Errorf("make an HTTP request for %s: not an operation on resources", req.Op)
	}
	target := base + req.Type.Endpoint
	if req.Op != OpCreate && req.Op != OpQuery {
		if !IsID(req.ID) {
			return nil, fmt.Errorf("make an HTTP request for %s: %q is no id of a resource", req.Op, clip(req.ID))
		}
		target += "/" + url.PathEscape(req.ID)
	}
	if q := req.queryString(); q != "" {
		target += "?" + q
	}
	var body []byte
	switch req.Op {
	case OpCreate, OpReplace:
		body = AppendJSON(make([]byte, 0, 1024), req.plainResource())
	case OpPatch:
		body = appendPatch(make([]byte, 0, 512), req)
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	hr, err := http.NewRequestWithContext(ctx, verb, target, reader)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL, which holds values
		}
		return nil, fmt.Errorf("make an HTTP request: %w", err)
	}
	h := hr.Header
	h.Set("Accept", MediaType+", application/json;q=0.9")
	h.Set("User-Agent", "scimgate")
	setIf := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	setIf("X-Request-Id", req.Origin.RequestID)
	setIf("If-Match", req.Preconditions.IfMatch)
	setIf("If-None-Match", req.Preconditions.IfNoneMatch)
	if body != nil {
		setIf("Content-Type", contentType)
	}
	return hr, nil
}

// Describe tells what a request will be on the wire without any value: "GET /Users?filter=userName eq".
func (req *Request) Describe() string {
	if req.Type == nil {
		name, _, _ := strings.Cut(req.ID, "/")
		return http.MethodGet + " /" + name
	}
	s := req.verb() + " " + req.Type.Endpoint
	switch {
	case req.Op == OpCreate:
		return s
	case req.Op != OpQuery:
		return s + "/{id}"
	case req.Query.Filter != nil:
		return s + "?filter=" + filterShape(req.Query.Filter)
	default:
		return s + "?startIndex&count"
	}
}

// verb is the method of an operation on resources; "" for all others.
func (req *Request) verb() string {
	switch req.Op {
	case OpGet, OpQuery:
		return http.MethodGet
	case OpCreate:
		return http.MethodPost
	case OpReplace:
		return http.MethodPut
	case OpPatch:
		return http.MethodPatch
	case OpDelete:
		return http.MethodDelete
	default:
		return ""
	}
}

// filterShape is a filter without its values.
func filterShape(f Filter) string {
	switch f := f.(type) {
	case *AttributeExpression:
		return f.AttributePath.String() + " " + strings.ToLower(string(f.Operator))
	case *LogicalExpression:
		return filterShape(f.Left) + " " + string(f.Operator) + " " + filterShape(f.Right)
	case *NotExpression:
		return "not (" + filterShape(f.Expression) + ")"
	case *ValuePath:
		return f.AttributePath.String() + "[" + filterShape(f.ValueFilter) + "]"
	default:
		return ""
	}
}

func (req *Request) queryString() string {
	var parts []string
	add := func(name, value string) {
		parts = append(parts, name+"="+strings.ReplaceAll(url.QueryEscape(value), "+", "%20"))
	}
	q := req.Query
	if req.Op == OpQuery {
		if q.Filter != nil {
			add("filter", FormatFilter(q.Filter))
		}
		if q.SortBy != nil {
			add("sortBy", q.SortBy.String())
			if q.Descending {
				add("sortOrder", "descending")
			}
		}
		if q.StartIndex > 1 || q.Count != nil && q.Filter == nil {
			add("startIndex", strconv.Itoa(max(q.StartIndex, 1)))
		}
		if q.Count != nil {
			add("count", strconv.Itoa(*q.Count))
		}
	}
	if list := joinRefs(q.Attributes); list != "" {
		add("attributes", list)
	}
	if list := joinRefs(q.ExcludedAttributes); list != "" {
		add("excludedAttributes", list)
	}
	return strings.Join(parts, "&")
}

func joinRefs(refs []Ref) string {
	names := make([]string, len(refs))
	for i, r := range refs {
		names[i] = r.String()
	}
	return strings.Join(names, ",")
}

func appendPatch(dst []byte, req *Request) []byte {
	dst = append(dst, `{"schemas":["`+MessagePatchOp+`"],"Operations":[`...)
	for i, op := range req.Operations {
		if i > 0 {
			dst = append(dst, ',')
		}
		op = req.plainOperation(op)
		dst = appendString(append(dst, `{"op":`...), op.Op)
		if op.Path != nil {
			dst = appendString(append(dst, `,"path":`...), FormatPath(op.Path))
		}
		if op.Value != nil || op.Op != "remove" { // null unassigns (RFC 7643, Section 2.5)
			dst = AppendJSON(append(dst, `,"value":`...), op.Value)
		}
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

// plainResource is the resource as it goes over the wire, attributes in Plain as strings.
func (req *Request) plainResource() Resource {
	if len(req.Plain) == 0 {
		return req.Resource
	}
	out := make(Resource, len(req.Resource))
	for name, v := range req.Resource {
		if ext, ok := v.(map[string]any); ok && req.Type.Extension(name) != nil {
			v = maps.Clone(ext)
		}
		out[name] = v
	}
	for _, ref := range req.Plain {
		if m, ok := out.Get(ref).(map[string]any); ok {
			out.Set(ref, m["value"])
		}
	}
	return out
}

// plainOperation is an operation as it goes over the wire.
func (req *Request) plainOperation(op PatchOp) PatchOp {
	for _, ref := range req.Plain {
		if op.Path == nil || op.Target.Ref.Parent() != ref {
			continue
		}
		if m, ok := op.Value.(map[string]any); ok {
			op.Value = m["value"]
		}
		if op.Target.Ref.Sub == "value" {
			p := *op.Path
			p.AttributePath.SubAttribute = nil
			op.Path = &p
		}
	}
	return op
}

// Failure is an answer of status 300 or above, as the other side gave it.
type Failure struct {
	Status     int
	SCIM       bool   // the body was a SCIM error (RFC 7644, Section 3.12)
	Type       string // its scimType; "" when that is not one word
	Message    string // its detail, or the message member of another JSON body; at most 512 bytes. May hold personal values
	RetryAfter string // the header, as sent
}

// Error implements error. It leaves the message out, which may hold personal values.
func (f *Failure) Error() string {
	s := "answered " + strconv.Itoa(f.Status)
	if known := Keyword(f.Type); known != "" {
		s += " " + known
	}
	if !f.SCIM {
		s += ", not a SCIM error body"
	}
	return s
}

// BadAnswer is an answer that says success and cannot be relied on.
type BadAnswer struct {
	Status int
	Reason string // carries no values
	Err    error
}

// Error implements error.
func (b *BadAnswer) Error() string {
	s := fmt.Sprintf("answered %d, but %s", b.Status, b.Reason)
	if b.Err != nil {
		s += ": " + b.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (b *BadAnswer) Unwrap() error { return b.Err }

// ReadResponse reads the answer to req. At most maxBody bytes of the body are read; the body is the caller's to
// close. The error is a *Failure, or a *BadAnswer when the status says success and the body is not what
// RFC 7644 promises: then nobody knows what the other side did.
func ReadResponse(req *Request, res *http.Response, maxBody int64) (*Response, error) {
	if res.StatusCode == http.StatusNotModified && req.Preconditions.IfNoneMatch != "" {
		return &Response{Status: res.StatusCode, Version: res.Header.Get("ETag")}, nil
	}
	body, err := readAll(res.Body, res.ContentLength, maxBody)
	if res.StatusCode >= 300 {
		return nil, readFailure(res, body)
	}
	bad := func(err error, format string, args ...any) (*Response, error) {
		return nil, &BadAnswer{Status: res.StatusCode, Reason: fmt.Sprintf(format, args...), Err: err}
	}
	resp := &Response{Status: res.StatusCode, Version: res.Header.Get("ETag"), Location: res.Header.Get("Location")}
	switch {
	case res.StatusCode < 200:
		return bad(nil, "that is no final answer")
	case req.Op == OpDelete: // the status says it all
		return resp, nil
	case errors.Is(err, errTooLarge):
		return bad(nil, "the body is larger than %d bytes", maxBody)
	case err != nil:
		return bad(err, "the body broke off")
	}
	if len(body) == 0 && req.Op.Writes() {
		return resp, nil
	}
	object, err := DecodeObject(body)
	if err != nil {
		return bad(err, "the body cannot be read")
	}
	if req.Op == OpQuery {
		if reason := resp.readList(req, object); reason != "" {
			return bad(nil, "%s", reason)
		}
		return resp, nil
	}
	if reason := acceptResource(req, object); reason != "" {
		return bad(nil, "%s", reason)
	}
	resp.Resource = object
	if resp.Version == "" {
		resp.Version = object.Meta("version")
	}
	return resp, nil
}

// acceptResource makes a resource from the wire canonical. The result says why it cannot be accepted.
func acceptResource(req *Request, r Resource) string {
	req.Type.Canonicalize(r)
	for _, ref := range req.Plain {
		switch v := r.Get(ref).(type) {
		case string:
			if v == "" {
				r.Remove(ref) // unassigned
			} else {
				r.Set(ref, map[string]any{"value": v})
			}
		case json.Number:
			r.Set(ref, map[string]any{"value": v.String()})
		}
	}
	if n, ok := r["id"].(json.Number); ok {
		r["id"] = n.String()
	}
	switch id := r.ID(); {
	case id == "":
		return "a resource has no id"
	case req.ID != "" && req.Op != OpQuery && id != req.ID:
		return "the resource has another id than the one asked for"
	}
	return ""
}

func (resp *Response) readList(req *Request, object Resource) string {
	resp.List = []Resource{}
	list, ok := field(object, "Resources").([]any)
	if !ok && field(object, "Resources") != nil {
		return "Resources is not an array"
	}
	total, hasTotal := field(object, "totalResults").(json.Number)
	if !ok && !hasTotal {
		return "it is not a ListResponse"
	}
	// RFC 7644, Section 3.4.2: Resources is REQUIRED if totalResults is not zero. Nobody may take this for "none".
	if !ok && total != "0" && (req.Query.Count == nil || *req.Query.Count > 0) && req.Query.StartIndex <= 1 {
		return "it counts resources and has none"
	}
	for _, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return "Resources holds something that is not an object"
		}
		if reason := acceptResource(req, m); reason != "" {
			return reason
		}
		resp.List = append(resp.List, m)
	}
	resp.TotalResults = len(resp.List)
	if hasTotal {
		n, err := strconv.Atoi(total.String())
		if err != nil || n < 0 {
			return "totalResults is not a count"
		}
		resp.TotalResults = max(n, len(resp.List)) // what is there cannot be counted away
	}
	resp.StartIndex = 1
	if n, ok := field(object, "startIndex").(json.Number); ok {
		if i, err := strconv.Atoi(n.String()); err == nil && i > 0 {
			resp.StartIndex = i
		}
	}
	return ""
}

func readFailure(res *http.Response, body []byte) *Failure {
	f := &Failure{Status: res.StatusCode, RetryAfter: res.Header.Get("Retry-After")}
	object, err := DecodeObject(body)
	if err != nil {
		return f
	}
	f.SCIM = hasMessage(field(object, "schemas"), MessageError)
	if s, _ := field(object, "scimType").(string); isKeyword(s) {
		f.Type = s
	}
	for _, name := range []string{"detail", "message"} {
		if s, ok := field(object, name).(string); ok && f.Message == "" {
			// Half a character at the end goes.
			f.Message = strings.ToValidUTF8(s[:min(len(s), 512)], "")
		}
	}
	return f
}

// isKeyword reports whether a scimType looks like those of RFC 7644, Table 9: it stands in logs.
func isKeyword(s string) bool {
	return len(s) <= 32 && !strings.ContainsFunc(s, func(r rune) bool {
		return r >= utf8.RuneSelf || !isNameByte(byte(r))
	})
}

// ParseRetryAfter reads the header's two forms (RFC 9110, Section 10.2.3), seconds and an HTTP date; 0 when it
// is absent, past or unreadable. What it returns is at most most.
func ParseRetryAfter(header string, now time.Time, most time.Duration) time.Duration {
	header = strings.TrimSpace(header)
	if header == "" {
		return 0
	}
	if n, err := strconv.ParseUint(header, 10, 64); err == nil {
		if n > uint64(most/time.Second) {
			return most
		}
		return time.Duration(n) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return most
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), most))
}
