package entra

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds the body of one answer, in bytes.
const maxAnswer = 8 << 20

// Exchange is one request and its answer as they went over the wire.
type Exchange struct {
	Method       string
	Path         string // path and query, as sent
	Started      time.Time
	Duration     time.Duration
	RequestBody  []byte // nil for GET and DELETE
	Status       int    // 0 when there was no answer
	ContentType  string
	RetryAfter   string
	ResponseBody []byte
	Err          error // why there was no answer, or not a whole one
}

// problem is why a step failed, as the provisioning log shows it.
type problem struct {
	code       string // as Entra names it
	status     int
	detail     string
	scimType   string
	retryAfter string
}

// reply is an answer whose body was read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// send makes one exchange, paced and observed. A nil reply comes with a problem.
func (y *cycle) send(ctx context.Context, method, path, query string, body []byte) (*reply, *problem) {
	c := y.c
	if err := c.pacer.wait(ctx); err != nil {
		return nil, &problem{code: "Canceled", detail: "the cycle was ended before the request was sent"}
	}
	target := c.target(path, query)
	ex := Exchange{Method: method, RequestBody: body, Started: time.Now()}
	rep, err := c.roundTrip(ctx, method, target, body, &ex)
	ex.Duration = time.Since(ex.Started)
	ex.Err = err
	y.seen.exchange(ex.Status, ex.Duration, ex.RetryAfter)
	c.watch(ex)
	if err == nil {
		return rep, nil
	}
	if errors.Is(err, errTooLarge) {
		return nil, y.incompatible(ex.Status, fmt.Sprintf("%s answered with more than %d bytes", method, maxAnswer))
	}
	p := &problem{code: "WebExceptionProtocolError", status: ex.Status, detail: "no answer: " + err.Error()}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		p.code = "Timeout"
	}
	return nil, p
}

var errTooLarge = errors.New("answer is too large")

// roundTrip sends exactly Entra's headers: no User-Agent, and on a request
// without a body neither Accept nor Content-Type.
func (c *Client) roundTrip(ctx context.Context, method, target string, body []byte, ex *Exchange) (*reply, error) {
	var payload io.Reader
	if body != nil {
		payload = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, payload)
	if err != nil {
		return nil, bare(err)
	}
	ex.Path = req.URL.RequestURI()
	req.Header.Set("User-Agent", "") // an empty one makes net/http send none
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/scim+json; charset=utf-8")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, bare(err)
	}
	defer res.Body.Close()
	ex.Status = res.StatusCode
	ex.ContentType = res.Header.Get("Content-Type")
	ex.RetryAfter = res.Header.Get("Retry-After")
	ex.ResponseBody, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", bare(err))
	}
	if len(ex.ResponseBody) > maxAnswer {
		ex.ResponseBody = ex.ResponseBody[:maxAnswer]
		return nil, errTooLarge
	}
	return &reply{res.StatusCode, res.Header, ex.ResponseBody}, nil
}

// bare takes the URL out of an error: its query carries personal values.
func bare(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

// target writes the URL. The query is kept in the order in which Entra writes
// it, behind the flags of the Tenant URL.
func (c *Client) target(path, query string) string {
	v := c.cfg.Variants
	if v.LowerCasePaths {
		kind, id, _ := strings.Cut(path[1:], "/")
		path = "/" + strings.ToLower(kind)
		if id != "" {
			path += "/" + id
		}
	}
	if v.DoubleSlash {
		path = "/" + path
	}
	if q := joinQuery(c.flags, query); q != "" {
		path += "?" + q
	}
	return c.base + path
}

func (c *Client) watch(ex Exchange) {
	if c.cfg.Observe == nil {
		return
	}
	c.observing.Lock()
	defer c.observing.Unlock()
	c.cfg.Observe(ex)
}

// incompatible is a protocol failure: the job is quarantined at once.
func (y *cycle) incompatible(status int, detail string) *problem {
	y.seen.condemn("protocol", detail)
	return &problem{code: "SystemForCrossDomainIdentityManagementServiceIncompatible", status: status, detail: detail}
}

// filterQuery writes filter=.. with a space as "+".
func filterQuery(filter string) string { return "filter=" + url.QueryEscape(filter) }

// query asks for resources. Whatever is not a ListResponse with status 200 is a
// failure; a 404 in place of an empty list is a protocol failure.
func (y *cycle) query(ctx context.Context, path, query string) ([]resource, *problem) {
	list, _, p := y.list(ctx, path, query)
	return list, p
}

// list is query with totalResults.
func (y *cycle) list(ctx context.Context, path, query string) ([]resource, int, *problem) {
	rep, p := y.send(ctx, http.MethodGet, path, query, nil)
	if p != nil {
		return nil, 0, p
	}
	if rep.status == http.StatusNotFound {
		return nil, 0, y.incompatible(rep.status, "a query of "+path+" was answered with 404 in place of 200 and an empty ListResponse")
	}
	body, p := y.decode(rep, "GET "+path, http.StatusOK)
	if p != nil {
		return nil, 0, p
	}
	list, total, detail := listResponse(body)
	if detail != "" {
		return nil, 0, y.incompatible(rep.status, "the answer to a query of "+path+" "+detail)
	}
	return list, total, nil
}

// listResponse reads a ListResponse (RFC 7644, Section 3.4.2) and says in
// detail what is wrong with its shape.
func listResponse(body resource) (list []resource, total int, detail string) {
	if !hasSchema(body, listURN) {
		return nil, 0, "does not list " + listURN + " in schemas"
	}
	n, ok := body.lookup("totalResults").(json.Number)
	if !ok {
		return nil, 0, "has no number in totalResults"
	}
	total, err := strconv.Atoi(n.String())
	if err != nil || total < 0 {
		return nil, 0, "has no whole number in totalResults"
	}
	found := body.lookup("Resources")
	members, ok := found.([]any)
	if !ok && (found != nil || total > 0) {
		return nil, 0, "has no array in Resources"
	}
	for _, m := range members {
		r, _ := m.(map[string]any)
		if resource(r).id() == "" {
			return nil, 0, "has a resource without an id"
		}
		list = append(list, r)
	}
	if len(list) > total {
		return nil, 0, "has more resources than totalResults"
	}
	return list, total, ""
}

func hasSchema(r resource, urn string) bool {
	list, _ := r.lookup("schemas").([]any)
	for _, v := range list {
		if s, _ := v.(string); strings.EqualFold(s, urn) {
			return true
		}
	}
	return false
}

// read gets a resource by its cached id. gone is true for a 404.
func (y *cycle) read(ctx context.Context, path, query, id string) (r resource, gone bool, p *problem) {
	rep, p := y.send(ctx, http.MethodGet, path, query, nil)
	if p != nil {
		return nil, false, p
	}
	body, p := y.decode(rep, "GET by id", http.StatusOK)
	if p != nil {
		return nil, rep.status == http.StatusNotFound, p
	}
	return body, false, y.sameID(rep.status, body, id, "GET by id")
}

// sameID checks the id of an answer: it never changes (RFC 7643, Section 3.1).
func (y *cycle) sameID(status int, r resource, id, what string) *problem {
	switch got := r.id(); {
	case got == "":
		return y.incompatible(status, what+" was answered with a resource without an id")
	case got != id:
		return y.incompatible(status, what+" was answered with a resource of another id")
	}
	return nil
}

// create posts a resource and returns the answer, which carries an id.
func (y *cycle) create(ctx context.Context, path string, body []byte) (resource, int, *problem) {
	rep, p := y.send(ctx, http.MethodPost, path, "", body)
	if p != nil {
		return nil, p.status, p
	}
	if rep.status == http.StatusOK {
		y.seen.remark("POST was answered with 200 in place of 201 (RFC 7644, Section 3.3)")
	}
	r, p := y.decode(rep, "POST "+path, http.StatusCreated, http.StatusOK)
	if p == nil && r.id() == "" {
		p = y.incompatible(rep.status, "POST "+path+" was answered with a resource without an id")
	}
	return r, rep.status, p
}

// patch sends a PATCH. Entra takes 200 with the resource or 204.
func (y *cycle) patch(ctx context.Context, path, id string, body []byte) (status int, gone bool, p *problem) {
	rep, p := y.send(ctx, http.MethodPatch, path, "", body)
	if p != nil {
		return p.status, false, p
	}
	if rep.status == http.StatusNoContent {
		return rep.status, false, nil
	}
	r, p := y.decode(rep, "PATCH", http.StatusOK)
	if p != nil {
		return rep.status, rep.status == http.StatusNotFound, p
	}
	return rep.status, false, y.sameID(rep.status, r, id, "PATCH")
}

// remove sends a DELETE. A resource that is gone already is no failure.
func (y *cycle) remove(ctx context.Context, path string) (int, *problem) {
	rep, p := y.send(ctx, http.MethodDelete, path, "", nil)
	switch {
	case p != nil:
		return p.status, p
	case rep.status == http.StatusNoContent || rep.status == http.StatusNotFound:
		return rep.status, nil
	case rep.status == http.StatusOK:
		y.seen.remark("DELETE was answered with 200 in place of 204 (RFC 7644, Section 3.6)")
		return rep.status, nil
	}
	return rep.status, y.refused(rep, "DELETE")
}

// decode reads the JSON object of an answer that has one of the statuses.
func (y *cycle) decode(rep *reply, what string, want ...int) (resource, *problem) {
	ok := false
	for _, s := range want {
		ok = ok || rep.status == s
	}
	if !ok {
		return nil, y.refused(rep, what)
	}
	switch mt, _, _ := mime.ParseMediaType(rep.header.Get("Content-Type")); mt {
	case "application/scim+json":
	case "application/json":
		y.seen.remark("answers have the media type application/json in place of application/scim+json (RFC 7644, Section 3.1)")
	default:
		return nil, y.incompatible(rep.status, fmt.Sprintf("%s was answered with the media type %.80q in place of application/scim+json", what, mt))
	}
	r, err := decodeObject(rep.body)
	if err != nil {
		return nil, y.incompatible(rep.status, what+" was answered with a body that is not a JSON object")
	}
	return r, nil
}

func decodeObject(body []byte) (resource, error) {
	var r resource
	d := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))))
	d.UseNumber()
	if err := d.Decode(&r); err != nil {
		return nil, err
	}
	if r == nil || d.More() {
		return nil, errors.New("not one JSON object")
	}
	return r, nil
}

// errorCodes are Entra's names for statuses.
var errorCodes = map[int]string{
	400: "BadRequest", 401: "Unauthorized", 403: "InsufficientRights", 404: "InvalidAnchor", 405: "MethodNotAllowed", 409: "EntryConflict",
	422: "UnprocessableEntity", 429: "TooManyRequests", 501: "NotImplemented", 504: "Timeout",
}

// refused makes a problem of a status that was not hoped for. 401 and 403
// quarantine the job, and so does a redirect, which Entra does not follow.
func (y *cycle) refused(rep *reply, what string) *problem {
	p := &problem{status: rep.status, retryAfter: rep.header.Get("Retry-After")}
	p.detail, p.scimType = y.errorBody(rep)
	switch {
	case errorCodes[rep.status] != "":
		p.code = errorCodes[rep.status]
	case rep.status >= 500:
		p.code = "InternalServerError"
	default:
		p.code = "WebExceptionProtocolError"
	}
	switch {
	case rep.status == http.StatusUnauthorized || rep.status == http.StatusForbidden:
		y.seen.condemn("credentials", fmt.Sprintf("%s was answered with %d: the service provider refuses the Secret Token", what, rep.status))
	case rep.status >= 300 && rep.status < 400:
		y.seen.condemn("protocol", fmt.Sprintf("%s was answered with the redirect %d", what, rep.status))
	}
	return p
}

// errorBody returns detail and scimType of a SCIM error body (RFC 7644, Section
// 3.12), or the beginning of whatever else came.
func (y *cycle) errorBody(rep *reply) (detail, scimType string) {
	r, err := decodeObject(rep.body)
	if err != nil || !hasSchema(r, errorURN) {
		y.seen.remark(fmt.Sprintf("an answer with %d has no SCIM error body; Entra's log shows the raw text", rep.status))
		return clip(strings.TrimSpace(string(rep.body)), 200), ""
	}
	if s := fmt.Sprint(r.lookup("status")); s != strconv.Itoa(rep.status) {
		y.seen.remark(fmt.Sprintf("the error body of an answer with %d gives another status", rep.status))
	}
	detail, _ = r.lookup("detail").(string)
	scimType, _ = r.lookup("scimType").(string)
	if detail == "" {
		y.seen.remark(fmt.Sprintf("the error body of an answer with %d has no detail", rep.status))
	}
	return clip(detail, 2048), clip(scimType, 64)
}

// clip shortens s to n runes.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	for i := range s {
		if n == 0 {
			return s[:i] + "…"
		}
		n--
	}
	return s
}
