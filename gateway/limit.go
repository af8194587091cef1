package gateway

import (
	"context"
	"net/http"
	"sync"
	"time"

	"scimgate/transform/scim"
)

// admission bounds how many requests are worked on at a time. Entra does not throttle itself, so that a request
// waits for a place rather than be turned away, for a bounded time.
type admission struct {
	places chan struct{}
	wait   time.Duration
}

func newAdmission(places int, wait time.Duration) *admission {
	return &admission{places: make(chan struct{}, places), wait: wait}
}

// enter takes a place; leave gives it back. The error is an *Error, 429.
func (a *admission) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-a.places }
	select {
	case a.places <- struct{}{}:
		return leave, nil
	default:
	}
	timer := time.NewTimer(a.wait)
	defer timer.Stop()
	select {
	case a.places <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
	case <-timer.C:
	}
	e := scim.Errorf(http.StatusTooManyRequests, "", "the gateway is working on %d requests already: try again later", cap(a.places))
	e.RetryAfter = 2 * time.Second
	return nil, e
}

// sampler lets through so many events per second and counts the rest, so that a flood of refused requests does
// not fill the trail.
type sampler struct {
	perSecond int

	mu     sync.Mutex
	second int64
	passed int
	missed int
}

// take reports whether the event may pass, and how many before it did not.
func (s *sampler) take(now time.Time) (missed int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sec := now.Unix(); sec != s.second {
		s.second, s.passed = sec, 0
	}
	if s.passed >= s.perSecond {
		s.missed++
		return 0, false
	}
	s.passed++
	missed, s.missed = s.missed, 0
	return missed, true
}
