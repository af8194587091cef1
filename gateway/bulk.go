package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

// Bounds of bulk requests. Each holds one of the door's places for as long as it takes, so that a few at a time are
// worked on and the others wait.
const (
	bulksAtOnce   = 4 // of one connection
	bulkWait      = 10 * time.Second
	leastBulkTime = 10 * time.Second
	bulkMargin    = 5 * time.Second // to write the answer
)

// bulkTime is how long after its arrival a bulk request may begin operations. What was begun then ends, and is recorded,
// before the listener's write timeout takes the connection away.
func (g *Gateway) bulkTime() time.Duration {
	return max(writeTimeout-g.Deadline-3*g.IntentWait-bulkMargin, leastBulkTime)
}

// Bulk answers a bulk request (RFC 7644, Section 3.7). It is a loop above Do: its operations go the whole path one after
// the other, each with its own records, under the request's id with the operation's place behind it: "ID.1" is the first
// one, and "ID.1.2" the PATCH that follows a POST which waited for others in a circle. The request itself leaves one
// record, behind theirs. When the client goes away, what was begun is brought to an end, and the rest is not begun; when
// the time since arrived is used up, the rest is answered with 503.
func (g *Gateway) Bulk(ctx context.Context, req *scim.Request, arrived time.Time) (*scim.Response, error) {
	x := g.begin(req)
	x.rec.Action = audit.Bulk
	ctx, cancel := context.WithDeadline(ctx, arrived.Add(g.bulkTime()))
	defer cancel()
	resp, err := g.bulk(ctx, x, req)
	return g.end(ctx, x, resp, err)
}

func (g *Gateway) bulk(ctx context.Context, x *exchange, req *scim.Request) (resp *scim.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			g.Logger.Error("panic while answering", "request", req.Origin.RequestID, "stack", string(debug.Stack()))
			resp, err = nil, fmt.Errorf("panic: %T", p)
		}
	}()
	if err := g.enterBulk(ctx); err != nil {
		return nil, err
	}
	defer func() { <-g.bulks }()
	b := &bulk{gateway: g, req: req, run: req.Bulk.Begin(), results: make([]*scim.BulkResult, len(req.Bulk.Operations))}
	for ctx.Err() == nil && !b.enough() {
		step, ok := b.run.Next()
		if !ok {
			break
		}
		b.run.Done(step, b.do(ctx, step))
	}
	x.went = b.went
	return b.end(ctx, x), nil
}

// enterBulk takes one of the places for bulk requests.
func (g *Gateway) enterBulk(ctx context.Context) error {
	select {
	case g.bulks <- struct{}{}: // also when the time is used up: then all operations are answered
		return nil
	default:
	}
	timer := time.NewTimer(bulkWait)
	defer timer.Stop()
	select {
	case g.bulks <- struct{}{}:
		return nil
	case <-ctx.Done():
		return busy(ctx.Err())
	case <-timer.C:
		e := scim.Errorf(http.StatusTooManyRequests, "", "%d bulk requests are being worked on already: send them one after the other", bulksAtOnce)
		e.RetryAfter = bulkWait
		return e
	}
}

// bulk is one bulk request on its way.
type bulk struct {
	gateway *Gateway
	req     *scim.Request
	run     *scim.BulkRun
	results []*scim.BulkResult // by the operations' places; nil: not begun
	failed  int
	went    int // operations that went the path
}

// enough reports whether so many operations failed that the client wants no more of them done.
func (b *bulk) enough() bool {
	return b.req.Bulk.FailOnErrors > 0 && b.failed >= b.req.Bulk.FailOnErrors
}

// do carries out a step. id is that of the resource that a POST created.
func (b *bulk) do(ctx context.Context, step scim.BulkStep) (id string) {
	op, origin, method := b.req.Bulk.Operations[step.Index], b.req.Origin, ""
	origin.RequestID += "." + strconv.Itoa(step.Index+1)
	if method = op.Method; step.Again {
		origin.RequestID += ".2"
		method = http.MethodPatch
	}
	var resp *scim.Response
	var err error
	if step.Err != nil {
		err = b.gateway.Refuse(ctx, origin, method, audit.Refused, step.Err)
	} else {
		b.went++
		step.Request.Origin = origin
		id = step.Request.ID
		resp, err = b.gateway.Do(ctx, step.Request)
	}
	if err != nil {
		b.failed++
	}
	if step.Again {
		b.again(step.Index, origin.RequestID, resp, err)
		return ""
	}
	result := &scim.BulkResult{Method: op.Method, BulkID: op.BulkID, Err: err, RequestID: origin.RequestID}
	b.results[step.Index] = result
	if err == nil {
		result.Status, result.Version = resp.Status, resp.Version
		if created := resp.Resource.ID(); created != "" {
			id = created
		}
	}
	result.Location = op.Location(origin.Base, id)
	return id
}

// again notes what became of the PATCH behind a POST: the version is another one now, and if it failed, the POST was not
// done as the client asked for it.
func (b *bulk) again(place int, requestID string, resp *scim.Response, err error) {
	result := b.results[place]
	if result.Version = ""; err == nil {
		result.Version = resp.Version
		return
	}
	result.Err, result.RequestID = err, requestID
	if e, ok := errors.AsType[*scim.Error](err); ok {
		incomplete := *e
		incomplete.Detail = createdIncomplete + e.Detail
		result.Err = &incomplete
	}
}

const createdIncomplete = "created, but without what refers to operations that refer back to it: "

// end makes the answer, and says in the record what was done.
func (b *bulk) end(ctx context.Context, x *exchange) *scim.Response {
	out := &scim.Response{Status: http.StatusOK, Bulk: make([]scim.BulkResult, 0, len(b.results))}
	why, late := "", false
	switch err := ctx.Err(); {
	case b.enough():
		why = "failOnErrors was reached"
	case errors.Is(err, context.DeadlineExceeded):
		why, late = "the time for one request was used up", true
	case err != nil:
		why = "the client has gone"
	}
	unbegun := 0
	for i, result := range b.results {
		switch {
		case result == nil:
			unbegun++
			if !late {
				continue // RFC 7644, Section 3.7.3: the operations that were processed are answered
			}
			op := b.req.Bulk.Operations[i]
			result = &scim.BulkResult{
				Method: op.Method, BulkID: op.BulkID, Location: op.Location(b.req.Origin.Base, ""), RequestID: b.req.Origin.RequestID,
				Err: scim.Errorf(http.StatusServiceUnavailable, "", "not begun, because %s: send it again, with fewer operations", why),
			}
		case b.run.Owing(i):
			b.failed++
			result.Version = ""
			result.Err = scim.Errorf(http.StatusConflict, "", createdIncomplete+"%s before", why)
		}
		out.Bulk = append(out.Bulk, *result)
	}
	done := len(b.results) - unbegun
	x.rec.Plan = fmt.Sprintf("%d of %d operations were carried out, %d of them failed: the records are those of %s.1 to %[4]s.%[2]d",
		done, len(b.results), b.failed, b.req.Origin.RequestID)
	if unbegun > 0 {
		x.remark("bulk", fmt.Sprintf("%d operations were not begun, because %s", unbegun, why))
	}
	return out
}
