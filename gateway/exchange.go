package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
	"scimgate/gateway/upstream"
	"scimgate/policy"
	"scimgate/transform"
	"scimgate/transform/scim"
)

// What one record tells of at most, so that no request makes one that the trail does not take: a group may have
// thousands of members, and a scan a hundred calls.
const (
	mostAttributes = 64
	mostFindings   = 64
	mostCalls      = 64
)

// exchange is one request with the record that it will leave. It is handed on as an argument, and belongs to one
// goroutine.
type exchange struct {
	g        *Gateway
	started  time.Time
	req      *scim.Request
	unlock   func() // opens the lock of the resource
	rec      audit.Record
	intent   int64             // Seq of the durable intent; 0: nothing was sent that changes anything
	deadline time.Time         // of what is done upstream under the intent
	changes  []identity.Change // stored with the outcome
	calls    int               // attempts over the wire
	went     int               // requests of the plan that left, and change something
	failed   bool              // the upstream, or the way to it, is why there is no answer
	key      *audit.Key        // that values are sealed under; nil: none yet
	made     string            // id of what a create made

	trace       []trace
	confirmed   scim.Resource // what the upstream said it holds, before Finish
	notReported bool          // the upstream answered a write without saying what it holds
	unlisted    int           // values beyond mostAttributes
	unfound     int           // findings beyond mostFindings
}

// trace follows one attribute value.
type trace struct {
	write scim.Write
	asked bool
	step  int // the request of the plan that carries it, from 1; 0: none
	value any // what that carries

	redacted *audit.Value // write.Value as the trail has it, made once
}

// as is how v, a value of the attribute, stands in the trail.
func (t *trace) as(r *audit.Redactor, v any) *audit.Value {
	if !scim.EqualValues(v, t.write.Value) {
		return r.Value(t.write.Path, v)
	}
	if t.redacted == nil {
		t.redacted = r.Value(t.write.Path, v)
	}
	return t.redacted
}

// find notes a finding. Beyond the bound only what refuses the request is listed.
func (x *exchange) find(f audit.Finding) {
	if len(x.rec.Findings) >= mostFindings && f.Verdict != audit.Refuse {
		x.unfound++
		return
	}
	f.Path = x.g.Redactor.Path(f.Path)
	x.rec.Findings = append(x.rec.Findings, f)
}

// remark notes something the gateway itself found, once.
func (x *exchange) remark(rule, reason string) {
	f := audit.Finding{Rule: rule, Verdict: audit.Remark, Reason: reason}
	if !slices.Contains(x.rec.Findings, f) {
		x.find(f)
	}
}

// reshaped notes what Normalize changed.
func (x *exchange) reshaped(notes []transform.Note) {
	for _, n := range notes {
		x.find(audit.Finding{Rule: "normalize", Verdict: audit.Remark, Path: n.Path, Reason: n.What})
	}
}

// asked notes what a normalized request wants.
func (x *exchange) asked(req *scim.Request) {
	x.req = req
	x.rec.Action = action(req)
	if !req.Op.Writes() {
		return
	}
	for w := range req.Writes() {
		switch w.Ref {
		case scim.Ref{Name: "userName"}:
			x.rec.Subject.UserName = text(w.Value)
		case scim.Ref{Name: "externalId"}:
			x.rec.Subject.ExternalID = text(w.Value)
		}
		if len(x.trace) == mostAttributes {
			x.unlisted++
			continue
		}
		if x.trace == nil {
			x.trace = make([]trace, 0, 16) // as many as most requests have
		}
		x.trace = append(x.trace, trace{write: w, asked: true})
	}
}

// knows notes who a request by id is about.
func (x *exchange) knows(held *transform.Held) {
	if s := &x.rec.Subject; held != nil {
		s.UserName = cmp.Or(s.UserName, audit.Clip(held.UserName))
		s.ExternalID = cmp.Or(s.ExternalID, audit.Clip(held.ExternalID))
	}
}

func text(v any) string {
	s, _ := v.(string)
	return audit.Clip(s)
}

// found notes what policy decided.
func (x *exchange) found(findings []policy.Finding) {
	for _, f := range findings {
		verdict := string(f.Verdict)
		if f.Verdict == policy.Alias {
			verdict = audit.Remark
		}
		x.find(audit.Finding{Rule: f.Rule, Verdict: verdict, Path: f.Path, Reason: f.Reason})
	}
}

// planned notes what will be sent.
func (x *exchange) planned(plan *transform.Plan) {
	x.rec.Plan = plan.Why
	if !x.req.Op.Writes() {
		return
	}
	for step, r := range plan.Requests {
		for w := range r.Writes() {
			t := x.unsent(w.Path)
			if t == nil {
				if len(x.trace) == mostAttributes {
					continue // counted when it was asked for
				}
				x.trace = append(x.trace, trace{write: w})
				t = &x.trace[len(x.trace)-1]
			}
			t.step, t.value = step+1, w.Value
		}
	}
}

// unsent is the first trace of a path that no request carries yet; nil when there is none.
func (x *exchange) unsent(path string) *trace {
	for i := range x.trace {
		if t := &x.trace[i]; t.step == 0 && t.write.Path == path {
			return t
		}
	}
	return nil
}

// called notes what went over the wire.
func (x *exchange) called(resp *scim.Response) {
	if resp == nil {
		return
	}
	for _, a := range resp.Attempts {
		if x.calls++; x.calls > mostCalls {
			continue
		}
		x.rec.Calls = append(x.rec.Calls, audit.Call{
			Method: a.Method, Target: a.Target, Attempt: x.calls, Status: a.Status, Started: a.Started,
			Duration: audit.Milliseconds(a.Duration), Error: a.Error,
		})
	}
	if resp.Recovered != "" {
		x.remark("lost-answer", "the answer was lost: "+resp.Recovered)
		if resp.Recovered == upstream.Adopted {
			x.rec.Action = audit.Adopted
		}
	}
}

// confirms notes what the upstream said it holds after a write.
func (x *exchange) confirms(r scim.Resource) {
	if x.notReported = r == nil; r != nil {
		x.confirmed = maps.Clone(r)
		for name, v := range r { // what Finish changes in place: the resource, and extensions and meta in it
			if m, ok := v.(map[string]any); ok {
				x.confirmed[name] = maps.Clone(m)
			}
		}
	}
}

// conclude completes the record.
func (x *exchange) conclude(resp *scim.Response, err error) {
	x.rec.Duration = audit.Milliseconds(time.Since(x.started))
	if err == nil {
		x.rec.Answer.Status = resp.Status
		x.subject(resp)
	} else {
		x.refused(err)
	}
	x.rec.Attributes = x.attributes(x.went)
	x.leftOut("values", x.unlisted)
	x.leftOut("calls", x.calls-mostCalls)
	x.leftOut("findings", x.unfound)
}

// leftOut says what the record does not list.
func (x *exchange) leftOut(what string, n int) {
	if n > 0 {
		x.rec.Findings = append(x.rec.Findings, audit.Finding{Rule: "trail", Verdict: audit.Remark, Reason: fmt.Sprintf("%d more %s are not listed", n, what)})
	}
}

// refused notes why there is no answer. A write that nobody knows the end of keeps the action it was meant for:
// its record's kind says that it is unknown.
func (x *exchange) refused(err error) {
	x.rec.Error = audit.Clip(explain(err))
	x.rec.Answer = audit.Answer{Status: http.StatusInternalServerError}
	if e, ok := errors.AsType[*scim.Error](err); ok {
		x.rec.Answer = audit.Answer{Status: e.Status, ScimType: e.Type, Detail: audit.Clip(e.Detail)}
	}
	status := x.rec.Answer.Status
	switch {
	case isUnknown(err) && x.intent != 0:
		x.rec.Kind = audit.Unknown
	case x.rec.Action == audit.Unauthenticated:
	case x.intent != 0 && x.went == 0:
		x.rec.Action = audit.Abandoned
	case x.went == 0 && (status < 500 || status == http.StatusNotImplemented) && (!x.failed || x.calls == 0):
		x.rec.Action = audit.Refused
	default:
		x.rec.Action = audit.Failed
	}
}

// explain is the whole error without what the upstream said.
func explain(err error) string {
	if e, ok := errors.AsType[*scim.Error](err); ok {
		if e.Err == nil {
			return ""
		}
		return e.Err.Error()
	}
	return err.Error()
}

func (x *exchange) subject(resp *scim.Response) {
	r := resp.Resource
	if r == nil && len(resp.List) == 1 {
		r = resp.List[0]
	}
	if x.req.Op == scim.OpQuery && x.rec.Action == audit.Matched && len(resp.List) != 1 {
		x.rec.Action = audit.Queried
	}
	if r == nil || x.req.Op == scim.OpDiscover {
		return
	}
	if id := r.ID(); id != "" {
		x.rec.Subject.ID = id
	}
	if name := r.UserName(); name != "" {
		x.rec.Subject.UserName = audit.Clip(name)
	}
	if ext := r.ExternalID(); ext != "" {
		x.rec.Subject.ExternalID = audit.Clip(ext)
	}
}

// attributes tells, per attribute: asked, sent by one of the first requests of the plan, confirmed.
func (x *exchange) attributes(went int) []audit.Attribute {
	if len(x.trace) == 0 {
		return nil
	}
	held := x.shown()
	out := make([]audit.Attribute, 0, len(x.trace))
	for i := range x.trace {
		t := &x.trace[i]
		a := audit.Attribute{Path: x.g.Redactor.Path(t.write.Path)}
		if t.asked {
			a.Asked = t.as(x.g.Redactor, t.write.Value)
		}
		if t.step > 0 && t.step <= went {
			a.Sent = t.as(x.g.Redactor, t.value)
		}
		switch {
		case t.step == 0:
		case held != nil:
			a.Confirmed = x.confirmation(t, held)
		case x.notReported:
			a.Confirmed = audit.NotReported()
		}
		out = append(out, a)
	}
	return out
}

// shown is what the upstream said it holds, value by value; nil when it said nothing.
func (x *exchange) shown() []scim.Write {
	if x.confirmed == nil {
		return nil
	}
	return slices.AppendSeq(make([]scim.Write, 0, 2*len(x.confirmed)), x.req.Type.Values(x.confirmed))
}

// confirmation is what the upstream holds of a value that it was sent; nil when nobody can tell.
func (x *exchange) confirmation(t *trace, held []scim.Write) *audit.Value {
	asked := &t.write
	if target, ok := x.req.Type.Lookup(asked.Ref); ok && !readable(target) {
		return audit.NotReported()
	}
	var here *scim.Write
	for i := range held {
		switch w := &held[i]; {
		case !concerns(asked, w, t.value == nil):
		case t.value == nil:
			return x.g.Redactor.Value(w.Path, w.Value) // it was to go
		case scim.EqualValues(w.Value, t.value):
			return t.as(x.g.Redactor, w.Value)
		case here == nil && (asked.Picked || strings.EqualFold(w.Path, asked.Path)):
			here = w
		}
	}
	switch {
	case asked.Picked && len(asked.Element) == 0:
		return nil
	case here == nil:
		return audit.Absent()
	}
	return t.as(x.g.Redactor, here.Value)
}

// concerns reports whether what the upstream holds may be what was asked to be stored, or to go with everything in
// it. Elements of a multi-valued attribute are told apart by the filter that picks them, else by their type, and
// those without a type not at all.
func concerns(asked, has *scim.Write, goes bool) bool {
	sameRef := asked.Ref == has.Ref || goes && asked.Ref.Sub == "" && asked.Ref == has.Ref.Parent()
	switch {
	case asked.Picked:
		return sameRef && len(asked.Element) > 0 && contains(has.Element, asked.Element)
	case asked.Element != nil && asked.Element["type"] == nil:
		return sameRef
	case goes:
		return sameRef
	default:
		return sameRef && strings.EqualFold(asked.Path, has.Path)
	}
}

// contains reports whether an element has the values of a filter's `eq` terms.
func contains(element, terms map[string]any) bool {
	for name, want := range terms {
		a, aText := element[name].(string)
		b, bText := want.(string)
		if aText && bText && strings.EqualFold(a, b) {
			continue
		}
		if !scim.EqualValues(element[name], want) {
			return false
		}
	}
	return true
}

// readable reports whether answers have an attribute without being asked for it (RFC 7643, Section 7).
func readable(t scim.Target) bool {
	a := t.Leaf()
	return a.Mutability != "writeOnly" && a.Returned != "never" && a.Returned != "request"
}

// action is what a request means to an administrator.
func action(req *scim.Request) string {
	switch req.Op {
	case scim.OpDiscover:
		return audit.Discovered
	case scim.OpGet:
		return audit.Read
	case scim.OpQuery:
		if transform.Equalities(req.Query.Filter) {
			return audit.Matched
		}
		return audit.Queried
	case scim.OpCreate:
		return audit.Created
	case scim.OpDelete:
		return audit.Deleted
	}
	what := audit.Updated
	for w := range req.Writes() {
		switch {
		case w.Ref == scim.Ref{Name: "active"} && w.Value == false:
			return audit.Disabled
		case w.Ref == scim.Ref{Name: "active"} && w.Value == true && req.Op == scim.OpPatch:
			what = audit.Restored
		case w.Ref == scim.Ref{Name: "userName"} && req.Op == scim.OpPatch && what == audit.Updated:
			what = audit.Renamed
		}
	}
	return what
}

// log tells of the request in one line, without any attribute value.
func (x *exchange) log() {
	level := slog.LevelInfo
	switch status := x.rec.Answer.Status; {
	case status >= 500:
		level = slog.LevelError
	case status >= 400 && status != 404:
		level = slog.LevelWarn
	}
	log := x.g.Logger
	if !log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request", x.rec.RequestID), slog.String("connection", x.rec.Connection), slog.String("action", x.rec.Action),
		slog.String("op", x.rec.Op), slog.Int("status", x.rec.Answer.Status), slog.Int("calls", x.calls),
		slog.Float64("ms", x.rec.Duration),
	}
	if x.rec.Error != "" {
		attrs = append(attrs, slog.String("error", x.rec.Error))
	}
	log.LogAttrs(context.Background(), level, "request", attrs...)
}
