package gateway

import (
	"context"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/upstream"
)

// waitNoted is how long a request waits for the upstream before its record says so.
const waitNoted = 10 * time.Millisecond

// admit is Upstream.Admit. What held the request up or kept it out stands in the record, as it was when the last such wait
// ended; that its attempt is the breaker's probe does, too.
func (x *exchange) admit(ctx context.Context) (*upstream.Permit, error) {
	began := time.Now()
	permit, err := x.g.Upstream.Admit(ctx)
	waited := time.Since(began)
	if err == nil && waited < waitNoted && !permit.Probes() {
		return permit, nil
	}
	state := x.g.Upstream.State()
	now := &audit.Admission{
		Waited: audit.Milliseconds(waited), Queued: state.Queued, Breaker: state.Breaker, HoldOff: audit.Milliseconds(state.HoldOff),
	}
	if before := x.rec.Admission; before != nil {
		now.Waited += before.Waited
	}
	x.rec.Admission = now
	return permit, err
}
