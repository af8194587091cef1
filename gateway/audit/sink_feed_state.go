package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// told makes the outcome of an attempt known. That a sink without acknowledgement takes says little at first: a collector
// that hangs has buffers, which are empty on each new connection.
func (f *feed) told(err error) {
	f.mu.Lock()
	before, hung := f.failure, f.hung
	if err == nil && before != nil && f.rewind > 0 {
		if f.wellSince.IsZero() {
			f.wellSince = time.Now()
		}
		if time.Since(f.wellSince) < feedSettled {
			f.mu.Unlock()
			return
		}
	}
	f.failure, f.hung, f.wellSince = err, false, time.Time{}
	if err != nil {
		f.hungAt = time.Time{} // it was not just slow
	}
	f.mu.Unlock()
	if err == nil {
		f.failures = 0
		if before != nil || hung {
			f.log.Info("a sink takes the trail again")
		}
		return
	}
	f.failures++
	if before == nil {
		f.log.Error("a sink does not take the trail", "error", err, "required", f.cfg.Required)
	}
}

// tellHung makes known that the batch under way is not taken, while that lasts.
func (f *feed) tellHung() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began.IsZero() || f.failure != nil || !f.hungAt.IsZero() && time.Since(f.hungAt) < hungEvery {
		return
	}
	f.hung, f.hungAt = true, time.Now()
	f.log.Error("a sink does not take the trail", "error", notTaken(time.Since(f.began)), "required", f.cfg.Required)
}

func notTaken(since time.Duration) string {
	return fmt.Sprintf("it has been given entries for %v and does not take them", since.Round(100*time.Millisecond))
}

// waitFor is an error of a sink that says when to come again.
type waitFor struct {
	error
	after time.Duration
}

func (w *waitFor) Unwrap() error { return w.error }

// backoff is the pause after a failure: doubling, with jitter, so that gateways which lost one collector do not come
// back to it together.
func (f *feed) backoff(err error) time.Duration {
	most := backoffMost
	if f.cfg.Required {
		most = backoffRequired
	}
	pause := min(backoffFirst<<min(f.failures-1, 10), most)
	if w, ok := errors.AsType[*waitFor](err); ok {
		pause = min(max(pause, w.after), most)
	}
	return pause/2 + rand.N(pause/2+1)
}

// pause waits, until ctx ends at most. While all is well somebody who waits for the sink ends it.
func (f *feed) pause(ctx context.Context, d time.Duration, well bool) {
	if d == 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	wake := f.wake
	if !well {
		wake = nil
	}
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// wait returns nil when the sink took the record at seq.
func (f *feed) wait(ctx context.Context, seq int64) error {
	taken := make(chan struct{})
	f.mu.Lock()
	if f.taken >= seq {
		f.mu.Unlock()
		return nil
	}
	f.waiters[taken] = seq
	f.mu.Unlock()
	f.wakeUp()
	select {
	case <-taken:
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.waiters, taken)
	return cmp.Or(f.failure, context.Cause(ctx))
}

func (f *feed) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// problem says why the sink takes nothing, "" when nothing is known to be wrong. One that is given entries for longer than
// patience takes nothing.
func (f *feed) problem(patience time.Duration) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failure != nil {
		return f.failure.Error()
	}
	if !f.began.IsZero() {
		if since := time.Since(f.began); since > patience {
			return notTaken(since)
		}
	}
	return ""
}
