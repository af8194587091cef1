// Package simulator is a SCIM service provider in memory that has a profile's abilities and limits, and faults
// that can be injected.
//
// What the profile says the upstream lacks, the simulator really lacks: attributes that are not listed, resource
// types, operations, filter operators, long values. It is strict where an upstream may be (a boolean as the string
// "False" is refused) and knows nothing of any client's dialect. Under the profile `generic` it is a whole service
// provider of RFC 7643 and RFC 7644 for users, the enterprise extension and groups.
//
// Behaviour that no source documents is assumed, and can be switched: see [Assumed]. Nothing here was compared
// with a real upstream. Passwords are checked for their type and then forgotten.
//
// With one Seed, one Clock and requests that come one after the other, everything is the same in every run.
package simulator

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

// DefaultBasePath is where the simulator lives unless Config says otherwise.
const DefaultBasePath = "/v2/scim"

// Config configures a Simulator. Profile and Tokens are required.
type Config struct {
	// Profile says what the service provider can do.
	Profile *profile.Profile
	// Tokens are the bearer tokens that are accepted over HTTP; at least one, none empty. Do needs none.
	Tokens []string
	// BasePath is the path of the service provider. Default: DefaultBasePath; "/" is the root.
	BasePath string
	// URL is the absolute URL of the service provider, for meta.location. Default: what the request was sent to;
	// for Do http://localhost with BasePath.
	URL string
	// Rate is the limit in requests per second: beyond Rate+1 requests in any second the answer is 429 with
	// Retry-After: 1. Default: 0, no limit.
	Rate float64
	// PageSize is the largest page of a list. Default: the profile's.
	PageSize int
	// Assume switches assumed behaviour.
	Assume Assumptions
	// Seed is where faults by probability and UUIDs come from.
	Seed uint64
	// Clock is the time for meta and the ledger and the rate. Default: time.Now.
	Clock func() time.Time
	// Latency is how long every request takes at least, those beyond the rate included.
	Latency time.Duration
	// MaxBody is the largest request body in bytes. Default: scim.MaxBody.
	MaxBody int64
	// LedgerSize is how many requests the ledger remembers. Default: 100,000; less when their bodies exceed 64 MiB.
	LedgerSize int
}

// Simulator is a service provider: an http.Handler and a scim.Provider over one store. It is safe for use by many
// goroutines.
type Simulator struct {
	cfg    Config
	tokens [][sha256.Size]byte
	etag   bool
	single bool                 // one operation for each PATCH
	types  []*scim.ResourceType // of kinds
	done   chan struct{}        // closed by Close
	close  func()

	mu         sync.Mutex // guards what follows
	kinds      []*kind    // of which only the shelves change
	faults     []*injected
	injections uint64
	ledger     ledger
	window     window
	rand       *rand.Rand
	seq        uint64
	lastID     uint64
}

// ErrNoAnswer is in the error of Do where over HTTP the client would have had no usable answer.
var ErrNoAnswer = errors.New("no usable answer")

// New makes a simulator without resources.
func New(cfg Config) (*Simulator, error) {
	if cfg.Profile == nil {
		return nil, errors.New("simulator: Profile is required: load one with profile.Load")
	}
	if len(cfg.Tokens) == 0 {
		return nil, errors.New("simulator: Tokens is required: give at least one bearer token")
	}
	if err := cfg.Assume.check(); err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	if cfg.Rate < 0 || cfg.Rate > 1e6 {
		return nil, fmt.Errorf("simulator: Rate %v: use 0 for no limit, or up to 1000000 requests per second", cfg.Rate)
	}
	cfg.fill()
	s := &Simulator{cfg: cfg, done: make(chan struct{})}
	s.close = sync.OnceFunc(func() { close(s.done) })
	for _, t := range cfg.Tokens {
		if t == "" {
			return nil, errors.New("simulator: an empty token would let everybody in: take it out")
		}
		s.tokens = append(s.tokens, sha256.Sum256([]byte(t)))
	}
	s.etag = cfg.Assume.ETag == On || cfg.Assume.ETag == "" && cfg.Profile.ETag
	s.single = cfg.Profile.Update.Mode == profile.UpdateSingle
	kinds, err := compile(cfg.Profile, cfg.Assume)
	if err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	s.kinds = kinds
	for _, k := range kinds {
		s.types = append(s.types, k.rt)
	}
	s.Reset()
	return s, nil
}

// fill puts the defaults in.
func (cfg *Config) fill() {
	if cfg.PageSize <= 0 {
		cfg.PageSize = cfg.Profile.Paging.PageSize
	}
	if cfg.PageSize <= 0 {
		cfg.PageSize = profile.DefaultPageSize
	}
	if cfg.BasePath == "" {
		cfg.BasePath = DefaultBasePath
	}
	cfg.BasePath = "/" + strings.Trim(cfg.BasePath, "/")
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = scim.MaxBody
	}
	if cfg.LedgerSize <= 0 {
		cfg.LedgerSize = 100_000
	}
}

// Close ends every wait: hanging requests end without an answer. It may be called more than once.
func (s *Simulator) Close() { s.close() }

// Reset forgets resources, faults and the ledger, and starts ids, versions and the seed anew. Requests in flight
// go on.
func (s *Simulator) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kinds {
		k.empty()
	}
	s.faults, s.injections = nil, 0
	s.ledger = newLedger(s.cfg.LedgerSize)
	s.window = newWindow(s.cfg.Rate)
	s.rand = rand.New(rand.NewPCG(s.cfg.Seed, 0))
	s.seq = 0
	s.lastID = 1_000_000
}

// patches reports whether PATCH is implemented.
func (s *Simulator) patches() bool {
	return s.cfg.Profile.Update.Mode != profile.UpdatePut && !s.cfg.Assume.NoPatch
}

// kind finds a resource type by name; nil when the service provider does not have it.
func (s *Simulator) kind(name string) *kind {
	for _, k := range s.kinds {
		if k.rt.Name == name {
			return k
		}
	}
	return nil
}

// call is one request on its way.
type call struct {
	entry  *Entry
	req    *scim.Request // nil: it could not be read
	denied bool          // it had no valid token; err says so
	err    error         // why it is refused without being looked at further
	base   string        // absolute URL of the service provider
}

// outcome is what becomes of a call: an answer, or what breaks instead.
type outcome struct {
	resp   *scim.Response
	err    error // an *scim.Error to answer with
	broken Kind  // Hang, Reset, Lost, Truncate, HTML: what the client gets instead; "" for the answer itself
	fault  *Fault
}

// exchange carries out a call from arrival to the answer. Every path of a request leads through here.
func (s *Simulator) exchange(ctx context.Context, c *call) outcome {
	s.arrive(c)
	if !s.wait(ctx, s.cfg.Latency) {
		return outcome{broken: Hang}
	}
	fault, err := s.admit(c)
	if err != nil {
		return outcome{err: err}
	}
	if fault == nil {
		return s.serve(c)
	}
	out := outcome{}
	if fault.When == After {
		out = s.serve(c)
	}
	if !s.wait(ctx, fault.Delay) {
		return outcome{broken: Hang, fault: fault}
	}
	if fault.When == Before && fault.Kind == Slow {
		out = s.serve(c)
	}
	out.fault = fault
	switch fault.Kind {
	case Slow:
	case Status:
		e := scim.Errorf(fault.Status, "", "an injected fault")
		e.RetryAfter = fault.RetryAfter
		out.resp, out.err = nil, e
	case Hang:
		s.hang(ctx)
		out.broken = Hang
	default:
		out.broken = fault.Kind
	}
	return out
}

// arrive puts the call into the ledger.
func (s *Simulator) arrive(c *call) {
	if c.req != nil {
		c.entry.Op, c.entry.ID = c.req.Op, c.req.ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.append(c.entry)
}

// admit refuses what has no valid token or is beyond the rate, and finds the fault for what is left.
func (s *Simulator) admit(c *call) (*Fault, error) {
	if c.denied {
		return nil, c.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.window.admit(s.cfg.Clock()) {
		c.entry.Limited = true
		e := scim.Errorf(http.StatusTooManyRequests, "", "more than %v requests per second", s.cfg.Rate)
		e.RetryAfter = time.Second
		return nil, e
	}
	fault := s.strike(c.entry.Method, c.req)
	if fault != nil {
		c.entry.Fault = fault.String()
	}
	return fault, nil
}

// serve carries out a call that nothing stands in the way of.
func (s *Simulator) serve(c *call) outcome {
	if c.err != nil {
		return outcome{err: c.err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	resp, err := s.process(c)
	c.entry.Processed = err == nil
	return outcome{resp: resp, err: err}
}

func (s *Simulator) process(c *call) (*scim.Response, error) {
	if c.req.Op == scim.OpDiscover {
		return s.discover(c)
	}
	switch {
	case c.req.Op == scim.OpOptions:
		e := scim.Errorf(http.StatusMethodNotAllowed, "", "OPTIONS is not offered")
		e.Allow = slices.DeleteFunc(slices.Clone(c.req.Allow), func(m string) bool { return m == http.MethodOptions })
		return nil, e
	case c.req.Type == nil:
		return nil, scim.Errorf(http.StatusNotFound, "", "the request names no resource type")
	case c.req.Search:
		return nil, scim.Errorf(http.StatusNotImplemented, "", "queries by POST are not implemented")
	}
	k := s.kind(c.req.Type.Name)
	if k == nil {
		return nil, scim.Errorf(http.StatusNotFound, "", "there is no %s here", c.req.Type.Name)
	}
	return s.operate(k, c.req, c.base)
}

func (s *Simulator) discover(c *call) (*scim.Response, error) {
	if s.cfg.Assume.NoDiscovery {
		return nil, scim.Errorf(http.StatusNotFound, "", "there is no such endpoint")
	}
	var types []*scim.ResourceType
	patch := false
	for _, k := range s.kinds {
		types = append(types, k.announced)
		patch = patch || k.ops[scim.OpPatch]
	}
	return scim.Discover(c.req, c.base, types, scim.Abilities{
		Documentation: s.cfg.Profile.Documentation, Patch: patch && s.patches(), Filter: true, MaxResults: s.cfg.PageSize,
		Sort: s.cfg.Profile.Sort, ETag: s.etag,
	})
}

// finish completes the call's entry. status is 0 where there is no answer.
func (s *Simulator) finish(c *call, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.entry.Status, c.entry.Done = status, true
	c.entry.Duration = s.cfg.Clock().Sub(c.entry.Time)
}

// wait lets d pass; false when the client gave up or the simulator was closed before.
func (s *Simulator) wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-s.done:
		return false
	}
}

func (s *Simulator) hang(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.done:
	}
}

// Do answers a request without HTTP: the simulator is a scim.Provider. Rate, faults and ledger are the same; what
// leaves a client of HTTP without a usable answer is an error that wraps ErrNoAnswer, and the context's error when
// it ended.
func (s *Simulator) Do(ctx context.Context, req *scim.Request) (*scim.Response, error) {
	c := &call{req: req, base: s.base()}
	method, target, header, body, err := wireForm(ctx, req, s.root())
	if err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	c.entry = newEntry(s.cfg.Clock(), method, target, header, body)
	out := s.exchange(ctx, c)
	if out.broken != "" {
		s.finish(c, 0)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("simulator: %s: %w: %w", out.broken, ErrNoAnswer, err)
		}
		return nil, fmt.Errorf("simulator: %s: %w", out.broken, ErrNoAnswer)
	}
	if out.err != nil {
		status := http.StatusInternalServerError
		if e, ok := errors.AsType[*scim.Error](out.err); ok {
			status = e.Status
		}
		s.finish(c, status)
		return nil, out.err
	}
	s.finish(c, out.resp.Status)
	out.resp.Resource = out.resp.Resource.Clone()
	for i := range out.resp.List {
		out.resp.List[i] = out.resp.List[i].Clone()
	}
	return out.resp, nil
}

// base is the absolute URL of the service provider where no request tells it.
func (s *Simulator) base() string {
	if s.cfg.URL != "" {
		return s.cfg.URL
	}
	return "http://localhost" + s.root()
}

// root is the base path without a trailing slash.
func (s *Simulator) root() string { return strings.TrimRight(s.cfg.BasePath, "/") }

func location(k *kind, rec *record, base string) string {
	return base + k.rt.Endpoint + "/" + url.PathEscape(rec.id())
}

// Resources returns every resource of a type in order of creation, as a client would see it; nil when the service
// provider does not have the type.
func (s *Simulator) Resources(typeName string) []scim.Resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kind(typeName)
	if k == nil {
		return nil
	}
	out := make([]scim.Resource, 0, len(k.order))
	for _, rec := range k.order {
		out = append(out, s.render(k, rec, scim.Query{}, s.base()).Clone())
	}
	return out
}

// Put stores a resource behind the clients' backs, as an administrator at the service provider would, and returns
// it as clients see it. With the id of a resource it replaces that one, else it makes a new one, with the given id
// if there is one. The profile's limits do not hold here, nor does uniqueness.
func (s *Simulator) Put(typeName string, r scim.Resource) (scim.Resource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kind(typeName)
	if k == nil {
		return nil, fmt.Errorf("put %s: the profile %s has no such resource type", typeName, s.cfg.Profile.Name)
	}
	r = r.Clone()
	k.rt.Canonicalize(r)
	k.readForm(r)
	id := r.ID()
	for _, ref := range k.stripped {
		delete(r, ref.Name)
	}
	tidy(r)
	k.rt.SetSchemas(r)
	rec := k.byID[id]
	if id != "" {
		r["id"] = id
	}
	if rec == nil {
		rec = s.insert(k, r)
	} else {
		s.update(k, rec, r)
	}
	return s.render(k, rec, scim.Query{}, s.base()).Clone(), nil
}

// Rename gives a user another userName behind the clients' backs. It reports whether there is such a user.
func (s *Simulator) Rename(id, userName string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kind("User")
	if k == nil || k.byID[id] == nil {
		return false
	}
	r := k.byID[id].resource.Clone()
	r["userName"] = userName
	s.update(k, k.byID[id], r)
	return true
}

// Remove deletes a resource behind the clients' backs. It reports whether there was one.
func (s *Simulator) Remove(typeName, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kind(typeName)
	if k == nil || k.byID[id] == nil {
		return false
	}
	s.remove(k, k.byID[id])
	return true
}
