package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
	"scimgate/gateway/upstream"
	"scimgate/policy"
	"scimgate/transform"
	"scimgate/transform/scim"
)

// mostAttributes bounds how many attribute values one record tells of: a group may have thousands of members.
const mostAttributes = 64

// exchange is one request with the record that it will leave. It is handed on as an argument, and belongs to one
// goroutine.
type exchange struct {
	g       *Gateway
	started time.Time
	req     *scim.Request
	rec     audit.Record
	intent  int64             // Seq of the durable intent; 0: nothing was sent that changes anything
	sending bool              // the intent is durable, or about to be
	changes []identity.Change // stored with the outcome
	calls   int               // attempts over the wire

	trace       []trace
	more        int           // values beyond mostAttributes
	confirmed   scim.Resource // what the upstream said it holds, before Finish
	notReported bool          // the upstream answered a write without saying what it holds
}

// trace follows one attribute value.
type trace struct {
	write scim.Write
	asked bool
	sent  bool
	value any // what was sent
}

// reshaped notes what Normalize changed.
func (x *exchange) reshaped(notes []transform.Note) {
	for _, n := range notes {
		x.rec.Findings = append(x.rec.Findings, audit.Finding{Rule: "normalize", Verdict: audit.Remark, Path: audit.Clip(n.Path), Reason: n.What})
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
			x.more++
			continue
		}
		x.trace = append(x.trace, trace{write: w, asked: true})
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
		x.rec.Findings = append(x.rec.Findings, audit.Finding{Rule: f.Rule, Verdict: verdict, Path: audit.Clip(f.Path), Reason: f.Reason})
	}
}

// planned notes what will be sent.
func (x *exchange) planned(plan *transform.Plan) {
	x.rec.Plan = plan.Why
	if !x.req.Op.Writes() {
		return
	}
	for _, r := range plan.Requests {
		for w := range r.Writes() {
			i := slices.IndexFunc(x.trace, func(t trace) bool { return t.write.Path == w.Path && !t.sent })
			if i < 0 {
				if len(x.trace) == mostAttributes {
					continue // counted when it was asked for
				}
				i = len(x.trace)
				x.trace = append(x.trace, trace{write: w})
			}
			x.trace[i].sent, x.trace[i].value = true, w.Value
		}
	}
}

// called notes what went over the wire.
func (x *exchange) called(resp *scim.Response) {
	if resp == nil {
		return
	}
	for _, a := range resp.Attempts {
		x.calls++
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

// remark notes something the gateway itself found.
func (x *exchange) remark(rule, reason string) {
	x.rec.Findings = append(x.rec.Findings, audit.Finding{Rule: rule, Verdict: audit.Remark, Reason: reason})
}

// confirms notes what the upstream said it holds after a write.
func (x *exchange) confirms(r scim.Resource) {
	if x.notReported = r == nil; r != nil {
		x.confirmed = r.Clone()
	}
}

// conclude completes the record.
func (x *exchange) conclude(resp *scim.Response, err error) {
	x.rec.Duration = audit.Milliseconds(time.Since(x.started))
	switch {
	case err == nil:
		x.rec.Answer.Status = resp.Status
		x.subject(resp)
	default:
		x.failed(err)
	}
	x.rec.Attributes = x.attributes(err)
	if x.more > 0 {
		x.remark("trail", fmt.Sprintf("%d more values are not listed", x.more))
	}
}

func (x *exchange) failed(err error) {
	x.rec.Error = audit.Clip(explain(err))
	if e, ok := errors.AsType[*scim.Error](err); ok {
		x.rec.Answer = audit.Answer{Status: e.Status, ScimType: e.Type, Detail: audit.Clip(e.Detail)}
	} else {
		x.rec.Answer.Status = 500
	}
	switch {
	case isUnknown(err) && x.intent != 0:
		x.rec.Kind = audit.Unknown
	case x.rec.Action == audit.Unauthenticated:
	case x.calls == 0 && x.rec.Answer.Status < 500 || x.rec.Answer.Status == 501:
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

// attributes tells, per attribute: asked, sent, confirmed.
func (x *exchange) attributes(err error) []audit.Attribute {
	if len(x.trace) == 0 {
		return nil
	}
	var held map[string]any
	if x.confirmed != nil {
		held = map[string]any{}
		for w := range x.req.Type.Values(x.confirmed) {
			held[w.Path] = w.Value
		}
	}
	out := make([]audit.Attribute, 0, len(x.trace))
	for _, t := range x.trace {
		a := audit.Attribute{Path: audit.Clip(t.write.Path)}
		if t.asked {
			a.Asked = x.g.Redactor.Value(t.write.Path, t.write.Value)
		}
		if t.sent && x.sending {
			a.Sent = x.g.Redactor.Value(t.write.Path, t.value)
			switch v, ok := held[t.write.Path]; {
			case ok:
				a.Confirmed = x.g.Redactor.Value(t.write.Path, v)
			case err != nil:
			case x.notReported:
				a.Confirmed = audit.NotReported()
			case held != nil:
				a.Confirmed = audit.Absent()
			}
		}
		out = append(out, a)
	}
	return out
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
	log.LogAttrs(context.Background(), level, "request",
		slog.String("request", x.rec.RequestID), slog.String("connection", x.rec.Connection), slog.String("action", x.rec.Action),
		slog.String("op", x.rec.Op), slog.Int("status", x.rec.Answer.Status), slog.Int("calls", x.calls),
		slog.Float64("ms", x.rec.Duration), slog.String("error", x.rec.Error))
}
