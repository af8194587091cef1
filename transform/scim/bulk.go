package scim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Limits of a bulk request (RFC 7644, Section 3.7.4). Its body is bounded as every other one is.
const (
	MaxBulkOperations = 1000
	// maxBulkValues is how many values all of the body may hold: 32 an operation, more than fit into MaxBody otherwise
	// than on purpose. The data of one operation has at most MaxValues, as if it had been sent alone.
	maxBulkValues = 32 << 10
	maxBulkID     = 256  // bytes: it is echoed, and quoted in errors
	maxVersion    = 1024 // bytes: it travels upstream in a header
)

// bulkReference begins a value that stands for the id of a resource which the same bulk request creates (RFC 7644,
// Section 3.7.2).
const bulkReference = "bulkId:"

// BulkRequest is the message that POST /Bulk carries (RFC 7644, Section 3.7). What each operation asks for is read
// when its turn comes, so that a mistake in one does not keep the others from being done.
type BulkRequest struct {
	FailOnErrors int // so many errors end it; 0: none does
	Operations   []*BulkOperation
}

// BulkOperation is one operation of a bulk request.
type BulkOperation struct {
	Method  string   // POST, PUT, PATCH or DELETE
	BulkID  string   // the client's name for it; "" when it has none
	Version string   // of the resource as the client knows it; "" for any
	Path    string   // as sent
	Data    Resource // nil for DELETE

	req   *Request // what method and path ask for, without the data; nil when err is set
	err   error    // why path, version or data cannot be read: an *Error
	names []string // bulkIds that the data refers to, each once, sorted
}

// BulkResult is what became of one operation.
type BulkResult struct {
	Method, BulkID string
	Location       string // of the resource; "" when there is none: a POST that failed
	Version        string // of the resource; "" when it is not known
	Status         int    // of an operation that was done
	Err            error  // why it was not; then Status does not count
	RequestID      string // what the trail has it under
}

// Failed reports whether the operation counts as an error.
func (r *BulkResult) Failed() bool { return r.Err != nil }

// readBulkRequest reads POST /Bulk. Parameters in its query mean nothing.
func readBulkRequest(r *http.Request, req *Request, types []*ResourceType, maxBody int64) (*Request, error) {
	body, err := readBody(r, maxBody)
	if err != nil {
		return nil, err
	}
	if req.Bulk, err = readBulk(body, types); err != nil {
		return nil, err
	}
	return req, nil
}

// readBulk reads the body of a bulk request. What is wrong with the message itself is wrong with all of it: then
// nobody can tell what the client means. What is wrong with one operation's path, version or data is that operation's.
func readBulk(body []byte, types []*ResourceType) (*BulkRequest, error) {
	object, err := decodeObject(body, maxBulkValues)
	if err != nil {
		return nil, err
	}
	if !hasMessage(field(object, "schemas"), MessageBulkRequest) {
		return nil, BadRequest(InvalidSyntax, "schemas must contain %q", MessageBulkRequest)
	}
	out := &BulkRequest{}
	switch n := field(object, "failOnErrors").(type) {
	case nil:
	case json.Number:
		if out.FailOnErrors, err = strconv.Atoi(n.String()); err == nil && out.FailOnErrors > 0 {
			break
		}
		return nil, badFailOnErrors()
	default:
		return nil, badFailOnErrors()
	}
	list, ok := field(object, "Operations").([]any)
	switch {
	case !ok || len(list) == 0:
		return nil, BadRequest(InvalidSyntax, "Operations is required: an array with at least one operation")
	case len(list) > MaxBulkOperations:
		return nil, Errorf(http.StatusRequestEntityTooLarge, "",
			"the bulk request has %d operations, more than maxOperations (%d): send them in several requests", len(list), MaxBulkOperations)
	}
	seen := make(map[string]bool, len(list))
	for i, v := range list {
		op, err := readBulkOperation(v, types)
		if err == nil && op.BulkID != "" && seen[op.BulkID] {
			err = BadRequest(InvalidValue, "the bulkId %s occurs twice in the request", QuoteName(op.BulkID))
		}
		if err != nil {
			return nil, prefix("Operations["+strconv.Itoa(i)+"]", err)
		}
		seen[op.BulkID] = true
		out.Operations = append(out.Operations, op)
	}
	return out, nil
}

func badFailOnErrors() error {
	return BadRequest(InvalidValue, "failOnErrors must be a positive integer: leave it out to have all operations done")
}

func readBulkOperation(v any, types []*ResourceType) (*BulkOperation, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, BadRequest(InvalidSyntax, "an operation must be an object")
	}
	op := &BulkOperation{}
	for _, member := range []struct {
		name string
		to   *string
	}{{"method", &op.Method}, {"bulkId", &op.BulkID}, {"version", &op.Version}, {"path", &op.Path}} {
		v := field(m, member.name)
		if *member.to, ok = v.(string); !ok && v != nil {
			return nil, BadRequest(InvalidSyntax, "%s must be a string", member.name)
		}
	}
	op.Method = strings.ToUpper(op.Method)
	data := field(m, "data")
	op.Data, ok = asObject(data)
	switch {
	case !slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, op.Method):
		return nil, BadRequest(InvalidSyntax, "method must be POST, PUT, PATCH or DELETE")
	case op.Path == "":
		return nil, BadRequest(InvalidSyntax, "path is required")
	case op.BulkID == "" && op.Method == http.MethodPost:
		return nil, BadRequest(InvalidSyntax, "bulkId is required for POST")
	case len(op.BulkID) > maxBulkID:
		return nil, BadRequest(InvalidValue, "a bulkId of more than %d bytes", maxBulkID)
	case op.Method == http.MethodDelete:
		op.Data = nil
	case !ok:
		return nil, BadRequest(InvalidSyntax, "data is required for %s: an object", op.Method)
	}
	if op.req, op.err = op.route(types); op.err != nil {
		return op, nil
	}
	values := 0
	unique := map[string]bool{}
	op.replace(op.Data, "", &values, func(name string) (string, bool) {
		unique[name] = true
		return "", false
	})
	if values > MaxValues {
		op.err = Errorf(http.StatusRequestEntityTooLarge, "", "data holds more than %d values: send them in several operations", MaxValues)
		return op, nil
	}
	for name := range unique {
		op.names = append(op.names, name)
	}
	slices.Sort(op.names)
	return op, nil
}

func asObject(v any) (Resource, bool) {
	m, ok := v.(map[string]any)
	return m, ok
}

// route reads what method, path and version ask for.
func (op *BulkOperation) route(types []*ResourceType) (*Request, error) {
	path, query, _ := strings.Cut(op.Path, "?")
	req, _, err := route(op.Method, path, types)
	if err != nil {
		return nil, err
	}
	if req.Type == nil || !req.Op.Writes() {
		return nil, BadRequest(InvalidValue, "path must be that of a resource or of a resource type's endpoint: a bulk request has no other requests in it")
	}
	if err := req.readQuery(query, types); err != nil {
		return nil, err
	}
	printable := func(r rune) bool { return ' ' <= r && r <= '~' }
	if len(op.Version) > maxVersion || strings.ContainsFunc(op.Version, func(r rune) bool { return !printable(r) }) {
		return nil, BadRequest(InvalidVers, "version is not an entity-tag")
	}
	if op.Method != http.MethodPost {
		req.Preconditions.IfMatch = op.Version
	}
	return req, nil
}

// target is the bulkId that the path refers to, if it has one in the place of a resource's id.
func (op *BulkOperation) target() (name string, ok bool) {
	return strings.CutPrefix(op.req.ID, bulkReference)
}

// Location is where the resource of an operation is: with its id, or as far as the path tells.
func (op *BulkOperation) Location(base, id string) string {
	switch {
	case op.req != nil && id != "":
		return base + op.req.Type.Endpoint + "/" + url.PathEscape(id)
	case op.Method == http.MethodPost:
		return ""
	case op.req != nil:
		return base + op.req.Type.Endpoint + "/" + url.PathEscape(op.req.ID)
	default:
		return base + "/" + strings.TrimLeft(clip(op.Path), "/")
	}
}

// replace puts resource ids in the place of the references in v, which it changes and returns, as far as id knows
// them. It counts values. A reference is a whole string; behind a slash it may end a $ref, and in double quotes it may
// stand in the path of a PATCH operation.
func (op *BulkOperation) replace(v any, name string, values *int, id func(name string) (string, bool)) any {
	*values++
	switch v := v.(type) {
	case Resource:
		return op.replaceMembers(v, values, id)
	case map[string]any:
		return op.replaceMembers(v, values, id)
	case []any:
		for i, e := range v {
			v[i] = op.replace(e, name, values, id)
		}
	case string:
		return op.replaceText(v, name, id)
	}
	return v
}

func (op *BulkOperation) replaceMembers(m map[string]any, values *int, id func(name string) (string, bool)) map[string]any {
	for name, e := range m {
		m[name] = op.replace(e, name, values, id)
	}
	return m
}

func (op *BulkOperation) replaceText(s, name string, id func(name string) (string, bool)) string {
	at := strings.LastIndex(s, bulkReference)
	switch {
	case at < 0:
	case strings.HasPrefix(s, bulkReference), strings.EqualFold(name, "$ref") && s[at-1] == '/':
		if strings.HasPrefix(s, bulkReference) {
			at = 0
		}
		if to, ok := id(s[at+len(bulkReference):]); ok {
			return s[:at] + to
		}
	case op.Method == http.MethodPatch && strings.EqualFold(name, "path"):
		return replaceQuoted(s, id)
	}
	return s
}

// replaceQuoted replaces references in a value filter: members[value eq "bulkId:x"].
func replaceQuoted(s string, id func(name string) (string, bool)) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, `"`+bulkReference)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, after, closed := strings.Cut(rest, `"`)
		to, ok := id(name)
		if !closed || !ok {
			b.WriteString(`"` + bulkReference)
			s = rest
			continue
		}
		b.Write(appendString(nil, to))
		s = after
	}
}

// request makes the request of an operation, in the place of whose references id puts the ids of resources. It takes the
// data over. The error is an *Error.
func (op *BulkOperation) request(id func(name string) (string, bool)) (*Request, error) {
	if op.err != nil {
		return nil, op.err
	}
	req := *op.req
	if name, ok := op.target(); ok {
		req.ID, _ = id(name)
	}
	values := 0
	op.replace(op.Data, "", &values, id)
	switch req.Op {
	case OpPatch:
		var err error
		if req.Operations, err = readPatch(op.Data, req.Type); err != nil {
			return nil, err
		}
	case OpCreate, OpReplace:
		req.Type.Canonicalize(op.Data)
		req.Resource = op.Data
	}
	return &req, nil
}

// split takes out of a POST what refers to resources that wait holds true of: later is a PATCH that adds it. Elements
// of a multi-valued attribute are taken out one by one, of all else the attribute. ok is false when the resource cannot
// be created without them; then nothing has changed.
func (op *BulkOperation) split(wait func(name string) bool) (later *BulkOperation, ok bool) {
	rt := op.req.Type
	now := make(Resource, len(op.Data))
	var adds []any
	take := func(from map[string]any, name string, v any, t Target, known bool) bool {
		stays, goes := op.part(v, name, wait, known && t.Attribute.MultiValued)
		switch {
		case goes == nil, known && t.Attribute.ReadOnly(): // what is read-only is ignored
			from[name] = v
			return true
		case !known, t.Attribute.Required, t.Attribute.Mutability == "immutable":
			return false
		case stays != nil:
			from[name] = stays
		}
		adds = append(adds, map[string]any{"op": "add", "path": t.Ref.String(), "value": goes})
		return true
	}
	var few [fewNames]string
	for _, name := range sorted(few[:0], op.Data) {
		v := op.Data[name]
		ext, isObject := v.(map[string]any)
		if e := rt.Extension(name); e != nil && isObject {
			rest := map[string]any{}
			for _, sub := range sorted(nil, ext) {
				t, known := rt.Lookup(Ref{Schema: e.ID, Name: sub})
				if !take(rest, sub, ext[sub], t, known) {
					return nil, false
				}
			}
			if len(rest) > 0 {
				now[name] = rest
			}
			continue
		}
		t, known := Target{}, false
		if p, err := ParseAttributePath(name); err == nil {
			t, known = rt.Resolve(p)
		}
		if !take(now, name, v, t, known) {
			return nil, false
		}
	}
	op.Data = now
	return &BulkOperation{
		Method: http.MethodPatch, BulkID: op.BulkID, Path: op.Path, req: &Request{Op: OpPatch, Type: rt, Query: Query{StartIndex: 1}},
		Data: Resource{"schemas": []any{MessagePatchOp}, "Operations": adds},
	}, true
}

// part parts the value of an attribute in what may be stored now and what refers to resources that are not there yet; nil
// is nothing.
func (op *BulkOperation) part(v any, name string, wait func(name string) bool, multi bool) (stays, goes any) {
	refers := func(v any) bool {
		found, values := false, 0
		op.replace(v, name, &values, func(name string) (string, bool) {
			found = found || wait(name)
			return "", false
		})
		return found
	}
	list, isList := v.([]any)
	if !isList || !multi {
		if refers(v) {
			return nil, v
		}
		return v, nil
	}
	var some, others []any
	for _, e := range list {
		if refers(e) {
			others = append(others, e)
		} else {
			some = append(some, e)
		}
	}
	if len(others) == 0 {
		return v, nil
	}
	if len(some) > 0 {
		stays = some
	}
	return stays, others
}

// AppendBulkResponse appends the BulkResponse message (RFC 7644, Section 3.7.3). Bodies of what was done are left out,
// as they may be.
func AppendBulkResponse(dst []byte, results []BulkResult) []byte {
	dst = append(dst, `{"schemas":["`+MessageBulkResponse+`"],"Operations":[`...)
	for i := range results {
		r := &results[i]
		m := map[string]any{"method": r.Method, "status": strconv.Itoa(r.Status)}
		for name, s := range map[string]string{"bulkId": r.BulkID, "location": r.Location, "version": r.Version} {
			if s != "" {
				m[name] = s
			}
		}
		if r.Failed() {
			e, body := errorBody(r.Err, r.RequestID)
			m["status"], m["response"] = strconv.Itoa(e.Status), body
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendJSON(dst, m)
	}
	return append(dst, "]}"...)
}
