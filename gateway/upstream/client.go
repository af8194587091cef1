// Package upstream is the service provider behind the gateway, as a scim.Provider: it admits, paces, sends,
// retries, breaks the circuit and makes good what a lost answer leaves open.
//
// Everything here serves three promises. Nothing is sent twice that must not be: a create whose answer was lost
// is looked up, never repeated. The upstream is never hurried: a retry is admitted like a first attempt, the pace
// holds on the wire, Retry-After holds everybody back, and 429 teaches a pace where none is set. What the client
// reads is true: an error says whose fault it is, and [ErrUnknown] says when nobody knows what the upstream did.
//
// The package knows the HTTP behaviour of one upstream. It knows nothing about attributes and their limits, about
// provisioning clients, or about the trail, to which it gives the attempts as they went over the wire. It is the
// only importer of github.com/sony/gobreaker/v2 and go.uber.org/ratelimit.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/transform/scim"
)

// Config says where the upstream is and how it wants to be treated.
type Config struct {
	// BaseURL is the upstream's SCIM base URL, absolute. A slash at its end does not matter. Required.
	BaseURL string
	// Profile gives the media type, the endpoints and the error table. Required.
	Profile *profile.Profile
	// Token is the bearer token the gateway presents, read anew for every attempt. Required.
	Token *secret.Source
	// CAFile holds PEM certificates of authorities to trust beside the system's. Default: none.
	CAFile string

	// RequestsPerSecond is the pace. 0: none, but for the one that the upstream teaches when it answers 429.
	RequestsPerSecond float64
	// InFlight is the largest number of attempts at a time. Default: 8.
	InFlight int
	// Queue is the largest number of requests that wait for admission. Default: 256.
	Queue int
	// QueueWait is the longest wait for admission. Default: 20 s.
	QueueWait time.Duration
	// Timeout bounds one attempt, from the connection to the last byte of the answer. Default: 10 s.
	Timeout time.Duration
	// Deadline bounds a Send with all its retries and look-ups. Default: 25 s. The caller's deadline counts too.
	Deadline time.Duration
	// MaxBody bounds the body of an answer, in bytes. Default: 8 MiB.
	MaxBody int64

	// Transport takes the place of the client's own HTTP transport, for an upstream in the same process. Unless it
	// reports its connections through net/http/httptrace, an attempt without an answer counts as sent.
	Transport http.RoundTripper
	// Observe is called after each attempt, from the goroutine that made it. Optional.
	Observe func(scim.Op, scim.Attempt)
	// OnBreaker is called after each change of the breaker, in order, outside of any lock: "closed", "open",
	// "half-open". Optional.
	OnBreaker func(from, to string)
}

// Defaults of a Config.
const (
	DefaultInFlight  = 8
	DefaultQueue     = 256
	DefaultQueueWait = 20 * time.Second
	DefaultTimeout   = 10 * time.Second
	DefaultDeadline  = 25 * time.Second
	DefaultMaxBody   = 8 << 20
)

// Client is one upstream. It is safe for concurrent use.
type Client struct {
	cfg       Config
	base      string
	transport http.RoundTripper
	own       *http.Transport   // transport, when it is the client's own
	endpoints map[string]string // by name of the resource type
	gate      *gate
	wire      *wire
	budget    budget
	running   sync.WaitGroup
	done      chan struct{}
	close     sync.Once

	mu         sync.Mutex
	credential string // why the upstream refuses the gateway's credentials; "" when it does not
}

var _ scim.Provider = (*Client)(nil)

// State tells how the upstream is doing, for readiness, metrics and the trail.
type State struct {
	Breaker           string        // closed, open, half-open
	Queued            int           // requests waiting for admission
	InFlight          int           // permits out: attempts under way, or about to be
	Rate              float64       // requests per second, as configured; 0: no pacing
	Taught            float64       // requests per second, as learned from the upstream's 429; 0: not at all
	HoldOff           time.Duration // until the end of the upstream's Retry-After; 0: none
	CredentialProblem string        // why the upstream cannot be logged in to; "" when nothing is known to be wrong
}

// New makes a Client. It does not call the upstream. Close stops what it starts.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.BaseURL)
	switch {
	case err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https":
		return nil, errors.New("make the upstream client: BaseURL must be an absolute http or https URL")
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, errors.New("make the upstream client: BaseURL must have no user, query or fragment")
	case cfg.Profile == nil:
		return nil, errors.New("make the upstream client: Profile is required")
	case cfg.Token == nil:
		return nil, errors.New("make the upstream client: Token is required")
	case cfg.RequestsPerSecond < 0 || cfg.RequestsPerSecond > profile.MaxRequestsPerSecond:
		return nil, fmt.Errorf("make the upstream client: RequestsPerSecond must be 0 to %v", float64(profile.MaxRequestsPerSecond))
	}
	orDefault(&cfg.InFlight, DefaultInFlight)
	orDefault(&cfg.Queue, DefaultQueue)
	orDefault(&cfg.QueueWait, DefaultQueueWait)
	orDefault(&cfg.Timeout, DefaultTimeout)
	orDefault(&cfg.Deadline, DefaultDeadline)
	orDefault(&cfg.MaxBody, DefaultMaxBody)
	c := &Client{
		cfg: cfg, base: strings.TrimRight(cfg.BaseURL, "/"), transport: cfg.Transport,
		endpoints: map[string]string{}, wire: newWire(cfg.RequestsPerSecond),
		budget: budget{fifths: budgetAtStart}, done: make(chan struct{}),
	}
	for _, r := range cfg.Profile.Resources {
		c.endpoints[r.Name] = r.Endpoint
	}
	if c.transport == nil {
		if c.own, err = newTransport(&cfg); err != nil {
			return nil, fmt.Errorf("make the upstream client: %w", err)
		}
		c.transport = c.own
	}
	c.gate = newGate(&cfg)
	c.running.Go(c.gate.run)
	if cfg.OnBreaker != nil {
		c.running.Go(c.tellBreaker)
	}
	return c, nil
}

func orDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// tellBreaker calls OnBreaker. It has a goroutine of its own because the breaker changes under a mutex.
func (c *Client) tellBreaker() {
	for {
		select {
		case change := <-c.gate.breaker.changes:
			c.cfg.OnBreaker(change[0], change[1])
		case <-c.done:
			return
		}
	}
}

// Close refuses further admissions and ends the client's goroutines. Attempts under way are not cut off.
func (c *Client) Close() {
	c.close.Do(func() {
		c.gate.close()
		close(c.done)
		c.running.Wait()
		if c.own != nil {
			c.own.CloseIdleConnections()
		}
	})
}

// State tells how the upstream is doing.
func (c *Client) State() State {
	c.mu.Lock()
	credential := c.credential
	c.mu.Unlock()
	if credential == "" {
		if err := c.cfg.Token.Err(); err != nil {
			credential = err.Error()
		}
	}
	g := c.gate
	breaker := g.breaker.cb.State().String()
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	return State{
		Breaker: breaker, Queued: g.waiting.Len(), InFlight: g.inFlight, Rate: g.rate,
		Taught: g.taught.pace(now), HoldOff: max(g.hold.Sub(now), 0), CredentialProblem: credential,
	}
}

// Admit waits until one request may be sent: the breaker lets it through, there is a slot in flight, no Retry-After
// of the upstream holds it back, and it is its turn in the pace. It waits no longer than QueueWait and until ctx
// ends, and not at all while the breaker is open or the queue is full. The error is an *scim.Error, 429 or 503
// with Retry-After; then nothing was sent and nothing was used up.
//
// Admit stands apart from Send so that the gateway can make its intent durable in between: what is recorded as
// sent can no longer be refused for want of room. A Permit is handed to Send or released, and soon: it holds a
// slot, and in the half-open state of the breaker everybody else waits for it.
func (c *Client) Admit(ctx context.Context) (*Permit, error) { return c.gate.admit(ctx) }

// Do is Admit and Send. It implements scim.Provider.
func (c *Client) Do(ctx context.Context, req *scim.Request) (*scim.Response, error) {
	p, err := c.Admit(ctx)
	if err != nil {
		return nil, err
	}
	return c.Send(ctx, p, req)
}

// Send sends an admitted request and sees it through: retries, each admitted again, and after a lost answer the
// search for what became of it. p is used up. The response is never nil; with an error it carries only Attempts.
//
// The error is an *scim.Error. When errors.Is(err, ErrUnknown), a write may have been done or not, and may still
// be; in every other case an error means that nothing was changed.
func (c *Client) Send(ctx context.Context, p *Permit, req *scim.Request) (*scim.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Deadline)
	defer cancel()
	if req.Type == nil {
		p.Release()
		return &scim.Response{}, scim.Errorf(http.StatusNotImplemented, "", "the upstream is not asked for %s", req.Op)
	}
	if !p.take() {
		return &scim.Response{}, errors.New("send a request: the permit was used or released before")
	}
	x := exchange{c: c, req: c.local(req)}
	resp, err := x.run(ctx, p)
	if resp == nil {
		resp = &scim.Response{}
	}
	resp.Attempts = x.attempts
	return resp, err
}

// local gives a request the endpoint that the upstream has for its resource type.
func (c *Client) local(req *scim.Request) *scim.Request {
	endpoint := c.endpoints[req.Type.Name]
	if endpoint == "" || endpoint == req.Type.Endpoint {
		return req
	}
	rt := *req.Type
	rt.Endpoint = endpoint
	r := *req
	r.Type = &rt
	return &r
}

// exchange is one Send: the request, and what happened so far.
type exchange struct {
	c        *Client
	req      *scim.Request
	attempts []scim.Attempt
	began    time.Time // before the first byte of the first attempt that may have reached the upstream
	doubt    bool      // an earlier attempt at this write may have been done, or may still be
}

// run is the flow of one exchange.
func (x *exchange) run(ctx context.Context, p *Permit) (*scim.Response, error) {
	x.c.budget.earn()
	for n := 1; ; n++ {
		out := x.attempt(ctx, p, x.req)
		if out.sent && x.began.IsZero() {
			x.began = out.began
		}
		switch v := out.verdict(); {
		case v == answered:
			return out.resp, nil
		case v == refused:
			return x.refused(ctx, &out)
		case v == lost && x.req.Op.Writes():
			x.doubt = true
			if resp, final, err := x.recover(ctx, &out); final {
				return resp, err
			}
		}
		var err error
		if p, err = x.again(ctx, n, &out); p == nil {
			return nil, x.giveUp(&out, err)
		}
	}
}

// refused ends an exchange with the upstream's no, unless that no shows that an earlier attempt was done.
func (x *exchange) refused(ctx context.Context, out *outcome) (*scim.Response, error) {
	f := out.failure()
	repeated := !x.began.Equal(out.began) // an earlier attempt reached the upstream
	switch {
	case f == nil || !f.SCIM || !repeated:
	case x.req.Op == scim.OpDelete && f.Status == http.StatusNotFound && x.doubt:
		return &scim.Response{Status: http.StatusNoContent, Recovered: ReadAgain}, nil
	case x.req.Op == scim.OpCreate && f.Status == http.StatusConflict:
		// The 503 or 429 that made us repeat was not true, or somebody else was faster: only the look-up tells.
		if resp := x.adopt(ctx); resp != nil {
			return resp, nil
		}
	}
	return nil, x.giveUp(out, nil)
}

// again waits for the next attempt and admits it. Without a permit the exchange is over; err then says why the
// attempt was not admitted, where that was the reason.
func (x *exchange) again(ctx context.Context, n int, out *outcome) (*Permit, error) {
	if n >= maxAttempts || !out.repeatable() || ctx.Err() != nil {
		return nil, nil
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= out.after {
		return nil, nil
	}
	if !out.stale && !x.c.budget.spend() { // a stale connection has cost the upstream nothing
		return nil, nil
	}
	if !out.stale && out.after == 0 && !pause(ctx, backoff(n)) {
		return nil, nil
	}
	return x.c.Admit(ctx)
}
