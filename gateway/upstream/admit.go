package upstream

import (
	"container/list"
	"context"
	"errors"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/ratelimit"

	"scimgate/transform/scim"
)

// Permit is the leave to make one attempt. It holds a slot in flight until it is used or released.
type Permit struct {
	gate   *gate
	probe  func(error) // owed to the breaker; nil in its closed state
	lesson int         // what had been taught when it was given
	used   atomic.Bool
}

// Release gives the permit back when it will not be used. It may be called more than once, and after Send.
func (p *Permit) Release() {
	if p.take() {
		p.gate.breaker.report(p.probe, errNotCounted)
		p.gate.unused()
	}
}

// Probes reports whether the attempt is the one that a half-open breaker lets through.
func (p *Permit) Probes() bool { return p.probe != nil }

// take makes the permit the caller's. It reports false when somebody had it before.
func (p *Permit) take() bool { return p.used.CompareAndSwap(false, true) }

// end closes the attempt that the permit was taken for; took says that the upstream accepted it.
func (p *Permit) end(outcome error, took bool, now time.Time) {
	p.gate.breaker.report(p.probe, outcome)
	p.gate.finish(took, now)
}

// gate admits attempts: first come, first served, at the configured pace and within the slots in flight.
// One goroutine, run, hands out what cannot be given at once.
type gate struct {
	limit, queue int
	wait         time.Duration
	rate         float64
	pace         ratelimit.Limiter // nil: no pacing. Only run calls it
	breaker      *breaker
	wake         chan struct{} // capacity 1: there may be something to do for run
	done         chan struct{} // closed by close

	mu       sync.Mutex
	waiting  list.List // of *waiter
	inFlight int
	spare    bool      // a permit of the pace that nobody has used
	hold     time.Time // no admission before: the upstream's Retry-After
	taught   taught
	closed   bool
}

type waiter struct {
	until time.Time
	ready chan grant // capacity 1
}

// grant answers a waiter: a permit, or why there is none.
type grant struct {
	permit *Permit
	err    *scim.Error
}

func newGate(cfg *Config) *gate {
	g := &gate{
		limit: cfg.InFlight, queue: cfg.Queue, wait: cfg.QueueWait, rate: cfg.RequestsPerSecond,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	g.breaker = newBreaker(g.signal)
	if g.rate > 0 {
		g.taught.paced = true
		g.pace = ratelimit.New(1, ratelimit.Per(interval(g.rate)), ratelimit.WithSlack(int(g.rate*slack)), ratelimit.WithClock(clock{g.done}))
	}
	return g
}

// slack is how much of the pace, in seconds, may be made up for: what timers are late by on a busy machine. The wire
// sees to it that the upstream has no more in a second for that.
const slack = 0.05

func interval(rate float64) time.Duration {
	return time.Duration(math.Ceil(float64(time.Second) / rate))
}

// clock is the real clock, whose Sleep ends early when the gate closes: Take cannot be cancelled otherwise.
type clock struct{ done <-chan struct{} }

func (clock) Now() time.Time { return time.Now() }

func (c clock) Sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.done:
	}
}

func (g *gate) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// admit waits for a permit, at most for the configured time and until ctx ends. The error is an *scim.Error;
// then no permit was used up.
func (g *gate) admit(ctx context.Context) (*Permit, error) {
	if err := ctx.Err(); err != nil {
		return nil, g.abandoned(err)
	}
	w, result := g.enter(ctx)
	if w == nil {
		return result.unpack(ctx, g)
	}
	timer := time.NewTimer(time.Until(w.Value.(*waiter).until))
	defer timer.Stop()
	select {
	case result = <-w.Value.(*waiter).ready:
	case <-ctx.Done():
		result = g.abandon(w)
	case <-timer.C:
		result = g.abandon(w)
	}
	if ctx.Err() != nil && result.permit != nil {
		result.permit.Release()
		return nil, g.abandoned(ctx.Err())
	}
	return result.unpack(ctx, g)
}

func (r grant) unpack(ctx context.Context, g *gate) (*Permit, error) {
	switch {
	case r.err != nil:
		return nil, r.err
	case r.permit != nil:
		return r.permit, nil
	case ctx.Err() != nil:
		return nil, g.abandoned(ctx.Err())
	default:
		return nil, g.busy()
	}
}

// abandoned is the answer for a caller whose context has ended.
func (g *gate) abandoned(cause error) error {
	e := scim.Errorf(http.StatusServiceUnavailable, "", "the request was given up before anything was sent")
	if errors.Is(cause, context.DeadlineExceeded) {
		e = g.busy()
	}
	e.Err = cause
	return e
}

// enter answers at once where that is possible, and queues otherwise.
func (g *gate) enter(ctx context.Context) (*list.Element, grant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	until := now.Add(g.wait)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	if g.closed {
		return nil, grant{err: errClosed()}
	}
	if d := g.breaker.open(); d > 0 {
		return nil, grant{err: errOpen(d)}
	}
	if g.hold.After(until) {
		return nil, grant{err: errBusy(g.hold.Sub(now))}
	}
	if g.waiting.Len() == 0 && g.inFlight < g.limit && g.delay(now) <= 0 && (g.pace == nil || g.spare) {
		if result, ok := g.give(); ok {
			return nil, result
		}
	}
	if g.waiting.Len() >= g.queue {
		return nil, grant{err: g.busyLocked()}
	}
	e := g.waiting.PushBack(&waiter{until: until, ready: make(chan grant, 1)})
	g.signal()
	return e, grant{}
}

// abandon takes a waiter out of the queue. The result is empty unless it was answered in the same moment.
func (g *gate) abandon(e *list.Element) grant {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case result := <-e.Value.(*waiter).ready:
		return result
	default:
		g.waiting.Remove(e)
		return grant{}
	}
}

// give hands out one permit, unless the breaker objects. It reports false while a probe is under way: its end
// decides about everybody else, who waits for it rather than fail. The caller holds mu and has seen that there is
// a slot.
func (g *gate) give() (result grant, ok bool) {
	probe, ok := g.breaker.allow()
	if !ok {
		if d := g.breaker.open(); d > 0 {
			return grant{err: errOpen(d)}, true
		}
		return grant{}, false
	}
	g.inFlight++
	g.spare = false
	g.taught.spend()
	return grant{permit: &Permit{gate: g, probe: probe, lesson: g.taught.lessons}}, true
}

// delay is how long everybody is kept back: by a Retry-After, or by the pace that the upstream taught.
func (g *gate) delay(now time.Time) time.Duration {
	return max(g.hold.Sub(now), g.taught.next.Sub(now))
}

// finish frees the slot of an attempt that was made.
func (g *gate) finish(took bool, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if took {
		g.taught.took.add(now)
	}
	g.free()
}

// unused frees a slot of which nothing was sent, so that the permit of the pace is still good.
func (g *gate) unused() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spare = g.spare || g.pace != nil
	g.taught.unspend()
	g.free()
}

func (g *gate) free() {
	g.inFlight--
	if g.waiting.Len() > 0 {
		g.signal()
	}
}

// heldBack is how long a Retry-After still holds everybody back.
func (g *gate) heldBack() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hold.IsZero() {
		return 0
	}
	return time.Until(g.hold)
}

// limited learns from a 429 to the attempt of a permit.
func (g *gate) limited(p *Permit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taught.refused(p.lesson, time.Now())
}

// holdOff keeps everybody back for d, because the upstream asked for it. Who cannot wait that long is told so now.
func (g *gate) holdOff(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	until := time.Now().Add(d)
	if !until.After(g.hold) {
		return
	}
	g.hold = until
	for e := g.waiting.Front(); e != nil; {
		next := e.Next()
		if w := e.Value.(*waiter); w.until.Before(until) {
			g.waiting.Remove(e)
			w.ready <- grant{err: errBusy(d)}
		}
		e = next
	}
}

// run hands out permits until close. It is the only caller of pace.Take, which can neither be cancelled nor
// undone: a permit that nobody is left to use is kept, as spare.
func (g *gate) run() {
	for {
		wait, take, closed := g.step()
		switch {
		case closed:
			return
		case take:
			g.pace.Take()
			g.mu.Lock()
			g.spare = true
			g.mu.Unlock()
		case wait > 0:
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-g.wake:
			}
			t.Stop()
		default:
			<-g.wake
		}
	}
}

// step answers as many waiters as it can. Then run has to take a permit from the pace, to wait for a time, or to
// wait until it is woken.
func (g *gate) step() (wait time.Duration, take, closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for e := g.waiting.Front(); e != nil; e = g.waiting.Front() {
		var result grant
		delay := g.delay(time.Now())
		switch d := g.breaker.open(); {
		case g.closed:
			result.err = errClosed()
		case d > 0:
			result.err = errOpen(d)
		case g.inFlight >= g.limit:
			return 0, false, false
		case delay > 0:
			return delay, false, false
		case g.pace != nil && !g.spare:
			return 0, true, false
		default:
			var ok bool
			if result, ok = g.give(); !ok {
				return 0, false, false
			}
		}
		g.waiting.Remove(e)
		e.Value.(*waiter).ready <- result
	}
	return 0, false, g.closed
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.closed = true
		close(g.done)
		g.signal()
	}
}

func (g *gate) busy() *scim.Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.busyLocked()
}

// busyLocked estimates when there will be room: after the hold-off, and after the queue has drained at the pace.
func (g *gate) busyLocked() *scim.Error {
	now := time.Now()
	d, rate := max(g.hold.Sub(now), 0), g.rate
	if taught := g.taught.pace(now); taught > 0 && (rate == 0 || taught < rate) {
		rate = taught
	}
	if rate > 0 {
		d += time.Duration(float64(g.waiting.Len()) * float64(interval(rate)))
	}
	return errBusy(d)
}

// busyAfter is the shortest Retry-After of our own refusals.
const busyAfter = time.Second

func errBusy(d time.Duration) *scim.Error {
	e := scim.Errorf(http.StatusTooManyRequests, "", "the upstream is busy: nothing was sent, try again later")
	e.RetryAfter = max(d, busyAfter)
	return e
}

func errOpen(d time.Duration) *scim.Error {
	e := scim.Errorf(http.StatusServiceUnavailable, "",
		"the upstream does not work at the moment: nothing was sent, try again later")
	e.RetryAfter = max(d, busyAfter)
	return e
}

var errShutDown = errors.New("the upstream client is closed")

func errClosed() *scim.Error {
	e := scim.Errorf(http.StatusServiceUnavailable, "", "the gateway is shutting down: nothing was sent, try again")
	e.RetryAfter, e.Err = busyAfter, errShutDown
	return e
}

// arrival is the longest that a request counts as held up on its way. One that is held up arrives closer to those
// behind it than it left, and an upstream that counts exactly would see more in a second than was sent in one.
const arrival = time.Second

// travel is the part of the usual time to an answer that may be the request's way, and not the upstream's work.
const travel = 5 * time.Millisecond

// wire bounds what reaches the upstream in any one second. Between admission and sending lies the durable intent:
// when the disk stalls, permits handed out over a while would leave together. There are rate+1 places; a request
// takes one, which is free again a second after it has surely arrived. That is when it was answered, less what the
// upstream usually works on an answer, but [arrival] after it left at the latest. Where answers take about as long as
// each other, or the pace is low, that does not lower the pace; else by what an answer takes longer than usual on
// average: by 2 % where that is 20 ms.
type wire struct {
	mu    sync.Mutex
	held  []time.Time // when the latest request of each place arrived, or will have
	next  int
	usual time.Duration // that an answer takes: near the shortest
}

// slot is a place of the wire that was taken.
type slot struct {
	place int
	at    time.Time // when its request leaves
}

// newWire lets rate+1 requests through in any one second; nil when there is no pacing.
func newWire(rate float64) *wire {
	if rate <= 0 {
		return nil
	}
	return &wire{held: make([]time.Time, int(rate)+1)}
}

// pass waits until one more request may be sent; false when ctx ends before.
func (w *wire) pass(ctx context.Context) (s slot, ok bool) {
	if w == nil {
		return s, true
	}
	s = w.reserve(time.Now())
	d := time.Until(s.at)
	return s, d <= 0 || pause(ctx, d)
}

func (w *wire) reserve(now time.Time) (s slot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.place = w.next
	w.next = (w.next + 1) % len(w.held)
	if s.at = w.held[s.place].Add(time.Second); s.at.Before(now) {
		s.at = now
	}
	w.held[s.place] = s.at.Add(arrival)
	return s
}

// arrived notes when the request of a slot was answered. By then the place may be somebody else's.
func (w *wire) arrived(s slot, answered time.Time) {
	if w == nil {
		return
	}
	took := answered.Sub(s.at)
	w.mu.Lock()
	defer w.mu.Unlock()
	if late := took - w.usual; w.usual == 0 || late < 0 {
		w.usual = took
	} else {
		w.usual += late / 256
	}
	if late := took - max(w.usual-travel, 0); late < arrival && w.held[s.place].Equal(s.at.Add(arrival)) {
		w.held[s.place] = s.at.Add(late)
	}
}
