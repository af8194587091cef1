// Package gateway is the path of a request from the provisioning client to the upstream and back.
//
// [Gateway.Do] is the whole path of one connection, top to bottom; [NewDoor] makes the door in front of it:
// authentication, admission, reading and writing; [NewAdmin] makes the admin listener. The order of one write is the
// promise of the product:
//
//	normalize -> validate -> identity -> policy -> plan          nothing has left yet
//	admission upstream (breaker, queue, pace)                    nothing has left yet
//	intent, durable                                              or 503, and nothing leaves
//	send                                                         no longer hangs on the client's connection
//	outcome, durable                                             before the answer leaves
//
// A read and a refusal have one record, their outcome. What was learnt about identities is stored in the same
// transaction as the outcome.
package gateway

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"scimgate/config/profile"
	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
	"scimgate/gateway/store"
	"scimgate/gateway/upstream"
	"scimgate/policy"
	"scimgate/transform"
	"scimgate/transform/scim"
)

// Config is one connection.
type Config struct {
	Name     string           // of the connection, as it stands in the trail. Required
	Profile  *profile.Profile // what the upstream can do. Required
	Upstream *upstream.Client // Required
	// UpstreamName is the key of the identity map: connections to one upstream share their entries. Required; the
	// base URL does well.
	UpstreamName string
	Store        *store.Store    // Required
	Redactor     *audit.Redactor // Required
	Sealer       *audit.Sealer   // of the values that the Redactor keeps for it; nil: none
	Feeds        *audit.Feeds    // the trail's sinks; nil: none
	Metrics      *Metrics        // Required
	Logger       *slog.Logger    // Required
	// IntentWait is how long an intent may take to become durable; then 503, nothing sent. Default: 2 s.
	IntentWait time.Duration
	// Deadline bounds what a write does upstream once its intent is durable. Default: 30 s.
	Deadline time.Duration
}

// Gateway is a scim.Provider: one connection. It is safe for concurrent use.
type Gateway struct {
	Config
	transform *transform.Transform
	policy    *policy.Policy
	trail     recorder      // Store, except where a benchmark measures what the trail costs
	seal      cipher.AEAD   // of payloads
	sealedBy  []cipher.AEAD // of payloads, before each rotation of the trail's key
	cursors   cipher.AEAD
	locks     keyLock
	scans     chan struct{} // places for scans
	bulks     chan struct{} // places for bulk requests
	snapshots snapshots
	strangers sampler // of records of requests without a valid token
	refusals  sampler // of records of others of which nothing was sent

	reconcileEvery, reconcileAfter time.Duration // the constants, except where a test has less patience
}

var _ scim.Provider = (*Gateway)(nil)

// recorder is where the path's records become durable: see store.Store, whose comments are the contract.
type recorder interface {
	Append(ctx context.Context, rec *audit.Record, changes ...identity.Change) (int64, error)
	Intend(ctx context.Context, rec *audit.Record, open store.OpenIntent) (int64, error)
	Conclude(ctx context.Context, rec *audit.Record, changes ...identity.Change) (int64, error)
}

// New compiles the connection's profile. The error is a profile.Problems when its attribute paths do not compile.
func New(cfg Config) (*Gateway, error) {
	t, err := transform.New(cfg.Profile)
	if err != nil {
		return nil, err
	}
	p, err := policy.New(cfg.Profile)
	if err != nil {
		return nil, err
	}
	if cfg.IntentWait <= 0 {
		cfg.IntentWait = 2 * time.Second
	}
	if cfg.Deadline <= 0 {
		cfg.Deadline = 30 * time.Second
	}
	seals, err := newSeals(cfg.Redactor, "open intents")
	if err != nil {
		return nil, err
	}
	cursors, err := newSeals(cfg.Redactor, "cursors")
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		Config: cfg, transform: t, policy: p, trail: cfg.Store, seal: seals[0], sealedBy: seals[1:], cursors: cursors[0], scans: make(chan struct{}, scansAtOnce),
		bulks: make(chan struct{}, bulksAtOnce), reconcileEvery: reconcileEvery, reconcileAfter: reconcileAfter,
	}
	g.strangers.perSecond, g.strangers.tell = unauthenticatedPerSecond, g.unrecorded(audit.Unauthenticated)
	g.refusals.perSecond, g.refusals.tell = refusedPerSecond, g.unrecorded(audit.Refused)
	return g, nil
}

// Types are the resource types at the gateway's face.
func (g *Gateway) Types() []*scim.ResourceType { return g.transform.Types() }

// Do answers one request. When it returns, everything the trail says about the request is durable.
func (g *Gateway) Do(ctx context.Context, req *scim.Request) (*scim.Response, error) {
	x := g.begin(req)
	defer func() { x.unlock() }() // when what was learnt is stored: the next one has to see it
	resp, err := g.answer(ctx, x, req)
	return g.end(ctx, x, resp, err)
}

// Refuse records a request that could not even be read, or that was not let in.
func (g *Gateway) Refuse(ctx context.Context, origin scim.Origin, method, action string, err error) error {
	x := g.begin(&scim.Request{Origin: origin})
	x.rec.Method, x.rec.Action = methodLabel(method), action
	_, err = g.end(ctx, x, nil, err)
	return err
}

// answer is the path. What it learns goes into x, whatever happens.
func (g *Gateway) answer(ctx context.Context, x *exchange, req *scim.Request) (resp *scim.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			g.Logger.Error("panic while answering", "request", req.Origin.RequestID, "stack", string(debug.Stack()))
			resp, err = nil, fmt.Errorf("panic: %T", p) // its text may hold values
			if x.intent != 0 {
				err = fmt.Errorf("%w: %w", upstream.ErrUnknown, err)
			}
		}
	}()
	if req.Op == scim.OpDiscover {
		x.rec.Action = audit.Discovered
		return scim.Discover(req, req.Origin.Base, g.transform.Shown(), g.transform.Abilities())
	}
	if req.Op == scim.OpOptions {
		x.rec.Action = audit.Discovered
		return &scim.Response{Status: http.StatusNoContent}, nil
	}
	if err := g.sinksReady(); err != nil {
		return nil, err
	}
	if req.Op == scim.OpQuery && req.Type == nil {
		return g.root(ctx, x, req)
	}
	req, notes, err := transform.Normalize(req)
	x.reshaped(notes)
	if err == nil {
		err = transform.Validate(req)
	}
	if err != nil {
		return nil, err
	}
	x.asked(req)

	if g.serialises(req) {
		if x.unlock, err = g.locks.lock(ctx, req.Type.Name+"/"+req.ID); err != nil {
			return nil, busy(err)
		}
	}
	held, err := g.held(ctx, req.Type, req.ID)
	if err != nil {
		return nil, err
	}
	x.knows(held)
	var current scim.Resource
	if g.policy.NeedsCurrent(req) || g.comparesVersion(req) {
		if current, err = g.current(ctx, x, req, held); err != nil {
			return nil, err
		}
		if err := g.checkVersion(req, current); err != nil {
			return nil, err
		}
	}
	decision := g.policy.Check(req, current)
	x.found(decision.Findings)
	if refusal := decision.Refusal(); refusal != nil {
		return nil, refusal
	}
	known, err := g.known(ctx, req)
	if err != nil {
		return nil, err
	}
	plan, err := g.transform.For(req, ruling(decision), held, known)
	if err != nil {
		return nil, err
	}
	x.planned(plan)
	switch req.Op {
	case scim.OpGet:
		return g.get(ctx, x, req, plan, held)
	case scim.OpQuery:
		return g.query(ctx, x, req, plan)
	default:
		return g.write(ctx, x, req, plan, held)
	}
}

// serialises reports whether writes to one resource must not overlap: where the gateway itself reads, changes and
// writes something.
func (g *Gateway) serialises(req *scim.Request) bool {
	return req.ID != "" && req.Op.Writes() && (g.transform.Holds(req.Type) ||
		g.Profile.Update.Mode != profile.UpdatePatch || g.comparesVersion(req) || g.policy.NeedsCurrent(req))
}

// comparesVersion reports whether the gateway has to check If-Match itself, or If-None-Match, which no upstream is sent
// with a write. Between its reading and its writing somebody behind the gateway's back may change the resource.
func (g *Gateway) comparesVersion(req *scim.Request) bool {
	compares := req.Preconditions.IfNoneMatch != "" || req.Preconditions.IfMatch != "" && !g.versioned(req.Type)
	return compares && req.ID != "" && req.Op.Writes() && g.transform.Has(req.Type)
}

// versioned reports whether the upstream's versions are those of the resources that clients see. They are not
// where the gateway holds a part of them, which changes without the upstream.
func (g *Gateway) versioned(rt *scim.ResourceType) bool {
	return g.Profile.ETag && !g.transform.Holds(rt)
}

// begin starts the record of a request.
func (g *Gateway) begin(req *scim.Request) *exchange {
	x := &exchange{
		g: g, started: time.Now(), unlock: func() {},
		rec: audit.Record{
			Kind: audit.Outcome, RequestID: req.Origin.RequestID, Connection: g.Name, Credential: req.Origin.Credential,
			Source: req.Origin.Source, Op: string(req.Op),
		},
		req: req,
	}
	if req.Type != nil {
		x.rec.ResourceType, x.rec.Subject.ID = req.Type.Name, audit.Clip(req.ID)
	}
	return x
}

// end stores the outcome and tells logs and metrics. An answer whose record cannot be stored does not leave,
// unless the upstream has changed: then the truth is told, readiness turns red, and the next intent fails closed.
func (g *Gateway) end(ctx context.Context, x *exchange, resp *scim.Response, err error) (*scim.Response, error) {
	x.conclude(resp, err)
	if err == nil {
		x.belongs(resp.Resource)
	}
	if err != nil && x.intent == 0 && x.went == 0 && x.calls == 0 && x.rec.Action != audit.Unauthenticated && !g.refusals.take(time.Now()) {
		g.Metrics.answered(g.Name, x)
		x.log()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.IntentWait)
	defer cancel()
	if unsealed := g.sealValues(ctx, x, &x.rec); unsealed != nil {
		g.Logger.Error("the values of a record are not sealed", "request", x.rec.RequestID, "error", unsealed)
	}
	var stored error
	if x.intent != 0 {
		x.rec.Intent = x.intent
		_, stored = g.trail.Conclude(ctx, &x.rec, x.changes...)
	} else {
		_, stored = g.trail.Append(ctx, &x.rec, x.changes...)
	}
	if stored != nil {
		g.Logger.Error("the outcome cannot be stored", "request", x.rec.RequestID, "error", stored)
		if x.intent == 0 && x.went == 0 { // operations of a bulk request have intents of their own
			resp, err = nil, trailDown(stored)
			x.rec.Answer = audit.Answer{Status: http.StatusServiceUnavailable}
		}
	}
	if stored == nil {
		g.sealed(x, &x.rec)
	}
	g.Metrics.answered(g.Name, x)
	x.log()
	return resp, err
}

// trailDown is the answer when the trail cannot take a record: without a record nothing happens.
func trailDown(err error) *scim.Error {
	e := scim.Errorf(http.StatusServiceUnavailable, "", "the audit trail cannot be written, and without it nothing is done: try again later")
	e.RetryAfter, e.Err = 5*time.Second, err
	return e
}

func busy(err error) error {
	e := scim.Errorf(http.StatusServiceUnavailable, "", "other requests before this one took too long: try again")
	e.RetryAfter, e.Err = time.Second, err
	return e
}

// held is what the identity map holds of a resource; nil when it holds nothing.
func (g *Gateway) held(ctx context.Context, rt *scim.ResourceType, id string) (*transform.Held, error) {
	if id == "" || !g.transform.Holds(rt) {
		return nil, nil
	}
	entry, ok, err := g.Store.ByID(ctx, g.key(rt, id))
	if err != nil {
		return nil, fmt.Errorf("look up the identity: %w", err)
	}
	if !ok {
		return nil, nil
	}
	h, err := heldFrom(entry)
	return &h, err
}

// known answers what the plan has to know from the identity map.
func (g *Gateway) known(ctx context.Context, req *scim.Request) (map[transform.Lookup][]transform.Held, error) {
	lookups := g.transform.Lookups(req)
	if len(lookups) == 0 {
		return nil, nil
	}
	known := map[transform.Lookup][]transform.Held{}
	for _, l := range lookups {
		find := g.Store.ByUserName
		if l.By == "externalId" {
			find = g.Store.ByExternalID
		}
		entries, err := find(ctx, g.UpstreamName, req.Type.Name, l.Value)
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", l, err)
		}
		for _, e := range entries {
			h, err := heldFrom(e)
			if err != nil {
				return nil, err
			}
			known[l] = append(known[l], h)
		}
	}
	return known, nil
}

func (g *Gateway) key(rt *scim.ResourceType, id string) identity.Key {
	return identity.Key{Upstream: g.UpstreamName, ResourceType: rt.Name, ID: id}
}

func heldFrom(e identity.Entry) (transform.Held, error) {
	h := transform.Held{ID: e.ID, UserName: e.UserName, Sent: e.Sent, ExternalID: e.ExternalID}
	if len(e.Kept) > 0 {
		kept, err := scim.DecodeObject(e.Kept)
		if err != nil {
			return h, fmt.Errorf("read the kept attributes of %s %s: %w", e.ResourceType, e.ID, err)
		}
		h.Kept = kept
	}
	return h, nil
}

// remember is the change that stores what the gateway holds of a resource.
func (g *Gateway) remember(rt *scim.ResourceType, h *transform.Held) identity.Change {
	e := &identity.Entry{
		Upstream: g.UpstreamName, ResourceType: rt.Name, ID: h.ID, UserName: h.UserName, Sent: h.Sent,
		ExternalID: h.ExternalID, HasExternalID: h.ExternalID != "",
	}
	if len(h.Kept) > 0 {
		e.Kept = scim.AppendJSON(nil, h.Kept)
	}
	return identity.Change{Put: e}
}

// isUnknown reports whether an error leaves open what the upstream did.
func isUnknown(err error) bool { return errors.Is(err, upstream.ErrUnknown) }
