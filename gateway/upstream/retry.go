package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"scimgate/transform/scim"
)

const (
	maxAttempts = 3 // of one request, look-ups after a lost answer not counted
	backoffBase = 100 * time.Millisecond
	backoffCap  = 2 * time.Second

	maxRetryAfter = 10 * time.Minute // longer ones are cut: the header is hostile input
)

// verdict is what an attempt leaves us knowing.
type verdict int

const (
	answered verdict = iota // a usable answer that says yes
	refused                 // a final no, or nothing another attempt would change; nothing was done
	undone                  // nothing was done, and another attempt may succeed: nothing was sent, 429, 503
	lost                    // whether it was done is not known
)

// outcome is how one attempt ended.
type outcome struct {
	resp  *scim.Response
	err   error         // nil, *scim.Failure, *scim.BadAnswer, *credentialError, or why there is no answer
	sent  bool          // at least one byte may have reached the upstream
	stale bool          // an idle connection turned out to be closed before a byte was written to it
	ruled bool          // err is a *scim.Failure that the profile's error table rewrote
	began time.Time     // just before the first byte was written
	ahead time.Duration // by how much the upstream's clock is ahead of ours, as far as its Date header tells
	after time.Duration // Retry-After of the answer, capped
}

// failure is the answer that says no; nil when there is none.
func (o *outcome) failure() *scim.Failure {
	f, _ := errors.AsType[*scim.Failure](o.err)
	return f
}

func (o *outcome) verdict() verdict {
	if o.err == nil {
		return answered
	}
	if f := o.failure(); f != nil {
		switch f.Status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return undone
		case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
			return refused
		case http.StatusRequestTimeout:
			return lost
		}
		if f.Status < 500 {
			return refused
		}
		return lost
	}
	if _, ok := errors.AsType[*credentialError](o.err); ok {
		return refused
	}
	if !o.sent {
		return undone
	}
	return lost
}

// repeatable reports whether asking again could give another answer.
func (o *outcome) repeatable() bool {
	bad, ok := errors.AsType[*scim.BadAnswer](o.err)
	return !ok || bad.Err != nil // a body that broke off or is not JSON, but not one that is too large
}

// counts tells the breaker's view of the outcome. An upstream that answers 4xx works; what the caller gave up
// says nothing.
func (o *outcome) counts() error {
	if o.err == nil {
		return nil
	}
	if f := o.failure(); f != nil {
		if f.Status < 500 {
			return nil
		}
		return errAttemptFailed
	}
	if _, ok := errors.AsType[*credentialError](o.err); ok || o.stale || errors.Is(o.err, context.Canceled) {
		return errNotCounted
	}
	return errAttemptFailed
}

// took reports whether the upstream gave an answer other than 429.
func (o *outcome) took() bool {
	if o.err == nil {
		return true
	}
	f := o.failure()
	return f != nil && f.Status != http.StatusTooManyRequests
}

// budget bounds what retries add to the upstream's load: every request earns a fifth of a retry.
type budget struct {
	mu     sync.Mutex
	fifths int
}

const (
	retryCost     = 5
	budgetAtStart = 10 * retryCost
	budgetAtMost  = 100 * retryCost
)

func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fifths = min(b.fifths+1, budgetAtMost)
}

func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fifths < retryCost {
		return false
	}
	b.fifths -= retryCost
	return true
}

func (b *budget) refund() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fifths = min(b.fifths+retryCost, budgetAtMost)
}

// backoff is the wait before attempt n+1: exponential with full jitter.
func backoff(n int) time.Duration {
	return rand.N(min(backoffCap, backoffBase<<min(n-1, 10)) + 1)
}

// pause waits for d; it reports false, at once, when ctx would end before.
func pause(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
