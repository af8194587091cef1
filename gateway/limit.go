package gateway

import (
	"context"
	"net/http"
	"sync"
	"time"

	"scimgate/gateway/audit"
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

// sampler lets through so many events per second, so that a flood of refused requests does not fill the trail. What it
// held back is told a second after the first of it.
type sampler struct {
	perSecond int
	tell      func(missed int64)

	mu     sync.Mutex
	second int64
	passed int
	missed int64 // not told yet
}

// take reports whether the event may pass.
func (s *sampler) take(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sec := now.Unix(); sec != s.second {
		s.second, s.passed = sec, 0
	}
	if s.passed < s.perSecond {
		s.passed++
		return true
	}
	if s.missed++; s.missed == 1 {
		time.AfterFunc(time.Second, s.flush)
	}
	return false
}

func (s *sampler) flush() {
	s.mu.Lock()
	missed := s.missed
	s.missed = 0
	s.mu.Unlock()
	s.tell(missed)
}

// Refusals that have a record of their own, at most so many a second for each connection.
const (
	unauthenticatedPerSecond = 10  // requests without a valid token
	refusedPerSecond         = 100 // others of which nothing was sent
)

// unrecorded returns what tells the trail of refusals that have no records of their own.
func (g *Gateway) unrecorded(action string) func(missed int64) {
	return func(missed int64) {
		ctx, cancel := context.WithTimeout(context.Background(), g.IntentWait)
		defer cancel()
		rec := &audit.Record{Kind: audit.Event, Action: action, Connection: g.Name, Unrecorded: missed}
		if _, err := g.trail.Append(ctx, rec); err != nil {
			g.Logger.Error("the count of refusals without records cannot be stored", "connection", g.Name, "action", action, "count", missed, "error", err)
		}
	}
}
