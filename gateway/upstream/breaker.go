package upstream

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// When the breaker opens, and for how long.
const (
	breakerFailures = 5                // consecutive failures
	breakerSample   = 20               // attempts within breakerWindow below which their share does not count
	breakerWindow   = 10 * time.Second // of the share
	breakerOpen     = 10 * time.Second // until one attempt, the probe, is let through
	probeTimeout    = 10 * time.Second // a probe's longest time, so that a hung one does not block everybody
)

var (
	errAttemptFailed = errors.New("attempt failed")
	errNotCounted    = errors.New("attempt not counted")
)

// breaker stops calls to an upstream that does not answer. In the closed state an attempt is counted when it
// ends: gobreaker ignores the outcome of an attempt that began before its window, so that an upstream which lets
// every call time out would never open it.
type breaker struct {
	cb       *gobreaker.TwoStepCircuitBreaker[struct{}]
	failures atomic.Uint32 // consecutive, however far apart: gobreaker's own count forgets after its window
	openedAt atomic.Int64  // Unix nanoseconds
	changes  chan [2]string
}

// newBreaker makes a closed breaker. changed must not block: it runs under gobreaker's mutex.
func newBreaker(changed func()) *breaker {
	b := &breaker{changes: make(chan [2]string, 64)}
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  1,
		Interval:     breakerWindow,
		BucketPeriod: breakerWindow / 10,
		Timeout:      breakerOpen,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			done := n.TotalSuccesses + n.TotalFailures
			return b.failures.Load() >= breakerFailures || done >= breakerSample && 2*n.TotalFailures >= done
		},
		OnStateChange: func(_ string, from, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				b.openedAt.Store(time.Now().UnixNano())
			}
			select {
			case b.changes <- [2]string{from.String(), to.String()}:
			default: // nobody takes them: the state itself is still true
			}
			changed()
		},
		IsSuccessful: func(err error) bool { return err == nil },
		IsExcluded:   func(err error) bool { return errors.Is(err, errNotCounted) },
	})
	return b
}

// allow asks for one attempt. probe is nil in the closed state; otherwise it is owed the attempt's outcome. When
// ok is false no attempt may be made for now.
func (b *breaker) allow() (probe func(error), ok bool) {
	if b.cb.State() == gobreaker.StateClosed {
		return nil, true
	}
	probe, err := b.cb.Allow()
	return probe, err == nil
}

// open tells how long attempts will be refused; 0 when one may be asked for.
func (b *breaker) open() time.Duration {
	if b.cb.State() != gobreaker.StateOpen {
		return 0
	}
	return max(time.Until(time.Unix(0, b.openedAt.Load()).Add(breakerOpen)), time.Millisecond)
}

// report tells the outcome of one attempt: nil, errAttemptFailed or errNotCounted.
func (b *breaker) report(probe func(error), outcome error) {
	switch outcome {
	case nil:
		b.failures.Store(0)
	case errAttemptFailed:
		b.failures.Add(1)
	}
	switch {
	case probe != nil:
		probe(outcome)
	case outcome == errNotCounted || b.cb.State() != gobreaker.StateClosed:
	default:
		if done, err := b.cb.Allow(); err == nil {
			done(outcome)
		}
	}
}
