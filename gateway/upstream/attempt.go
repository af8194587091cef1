package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"scimgate/transform/scim"
)

// newTransport makes the client's own transport. It speaks HTTP/1.1 only, because there it is exact what was
// written and what net/http sends again by itself (nothing, see [Client.newHTTPRequest]).
func newTransport(cfg *Config) (*http.Transport, error) {
	roots, err := readRoots(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: cfg.Timeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    cfg.Timeout,
		Protocols:              protocols,
		DisableCompression:     true,
		MaxIdleConns:           cfg.InFlight,
		MaxIdleConnsPerHost:    cfg.InFlight,
		MaxConnsPerHost:        2 * cfg.InFlight, // dials of attempts that were given up go on for a while
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}, nil
}

// readRoots adds the certificates of a file to the system's; nil, which means the system's, without a file.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read CAFile: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without certificates has at least these
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read CAFile %s: it holds no PEM certificate", file)
	}
	return pool, nil
}

// credentialError says that the gateway's own token could not be read.
type credentialError struct{ err error }

func (e *credentialError) Error() string { return "the token for the upstream: " + e.err.Error() }
func (e *credentialError) Unwrap() error { return e.err }

// bodiless is the body of requests that have none. net/http sends a GET again by itself, unpaced and unseen,
// when a reused connection breaks, unless the GET has a body that it cannot rewind.
type bodiless struct{}

func (bodiless) Read([]byte) (int, error) { return 0, io.EOF }
func (bodiless) Close() error             { return nil }

// newHTTPRequest makes the HTTP request of one attempt, such that net/http never sends it again by itself: it
// does so only for a method that is idempotent or has an Idempotency-Key, and only when it can rewind the body.
func (c *Client) newHTTPRequest(ctx context.Context, req *scim.Request) (*http.Request, error) {
	token, err := c.cfg.Token.Get()
	if err != nil {
		return nil, &credentialError{err}
	}
	hr, err := scim.NewHTTPRequest(ctx, c.base, c.cfg.Profile.ContentType, req)
	if err != nil {
		return nil, err
	}
	hr.GetBody = nil
	if hr.Body == nil {
		hr.Body = bodiless{}
	}
	hr.Header.Set("Authorization", "Bearer "+token.Reveal())
	return hr, nil
}

// sighting is what httptrace shows of an attempt. Its methods run on net/http's goroutines.
type sighting struct {
	watched atomic.Bool  // the transport reports what it does
	reused  atomic.Bool  // the connection carried an earlier attempt
	wrote   atomic.Bool  // the headers, at least, were written
	began   atomic.Int64 // when there was a connection to write to, Unix nanoseconds
}

func (s *sighting) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { s.watched.Store(true) },
		GotConn: func(info httptrace.GotConnInfo) {
			s.reused.Store(info.Reused)
			s.began.Store(time.Now().UnixNano())
		},
		// The end of the headers stands in a buffer when the first of these comes, and nobody acts upon headers that have
		// no end. (WroteHeaderField would come before the first byte, and cost an allocation for each header.)
		WroteHeaders: func() { s.wrote.Store(true) },
		WroteRequest: func(httptrace.WroteRequestInfo) { s.wrote.Store(true) },
	}
}

// attempt makes one exchange over the wire and ends the permit, which must not be anybody else's to release.
func (x *exchange) attempt(ctx context.Context, p *Permit, req *scim.Request) outcome {
	began := time.Now()
	out := x.c.send(ctx, p.probe != nil, req)
	x.c.learn(p, &out) // before the slot is free: a Retry-After must hold the next one back
	ended := time.Now()
	p.end(out.counts(), out.took(), ended)

	target := req.Describe()
	method, _, _ := strings.Cut(target, " ")
	a := scim.Attempt{
		Method: method, Target: target, Started: began, Duration: ended.Sub(began), Sent: out.sent,
	}
	if out.err != nil {
		a.Error = describe(out.err)
	}
	a.Status = statusOf(&out)
	x.attempts = append(x.attempts, a)
	if x.c.cfg.Observe != nil {
		x.c.cfg.Observe(req.Op, a)
	}
	return out
}

func (c *Client) send(ctx context.Context, probe bool, req *scim.Request) outcome {
	slot, ok := c.wire.pass(ctx)
	// A permit may be older than the Retry-After that holds everybody back. Who cannot wait for its end is sent now.
	for d := c.gate.heldBack(); ok && d > 0 && pause(ctx, d); d = c.gate.heldBack() {
		slot, ok = c.wire.pass(ctx)
	}
	if !ok {
		return outcome{err: cmp.Or(ctx.Err(), context.DeadlineExceeded)}
	}
	timeout := c.cfg.Timeout
	if probe {
		timeout = min(timeout, probeTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var seen sighting
	hr, err := c.newHTTPRequest(httptrace.WithClientTrace(ctx, seen.trace()), req)
	if err != nil {
		return outcome{err: err}
	}
	out := outcome{began: time.Now()}
	res, err := c.transport.RoundTrip(hr)
	if n := seen.began.Load(); n != 0 {
		out.began = time.Unix(0, n)
	}
	if err != nil {
		out.err = err
		out.sent = seen.wrote.Load() || c.own == nil && !seen.watched.Load()
		out.stale = seen.reused.Load() && !out.sent && ctx.Err() == nil
		return out
	}
	out.sent = true
	out.resp, out.err = scim.ReadResponse(req, res, c.cfg.MaxBody)
	_ = res.Body.Close() // everything that matters was read
	now := time.Now()
	c.wire.arrived(slot, now)
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		out.ahead = date.Sub(now)
	}
	if f := out.failure(); f != nil {
		out.after = scim.ParseRetryAfter(f.RetryAfter, now, maxRetryAfter)
		out.ruled = c.applyRules(f)
	}
	return out
}

// learn draws the conclusions for everybody from one outcome: whether the credentials are good, and whether the
// upstream wants to be left alone.
func (c *Client) learn(p *Permit, out *outcome) {
	f := out.failure()
	if f != nil && f.Status == http.StatusTooManyRequests {
		c.gate.limited(p)
	}
	if f != nil && out.after > 0 && (f.Status == http.StatusTooManyRequests || f.Status == http.StatusServiceUnavailable) {
		c.gate.holdOff(out.after)
	}
	problem := ""
	credential, unreadable := errors.AsType[*credentialError](out.err)
	switch {
	case unreadable:
		problem = credential.err.Error()
	case f != nil && !out.ruled && (f.Status == http.StatusUnauthorized || f.Status == http.StatusForbidden):
		problem = fmt.Sprintf("the upstream answered %d to the token from %s", f.Status, c.cfg.Token)
	case out.err != nil:
		return
	}
	c.mu.Lock()
	c.credential = problem
	c.mu.Unlock()
}

func statusOf(out *outcome) int {
	if out.resp != nil {
		return out.resp.Status
	}
	if f := out.failure(); f != nil {
		return f.Status
	}
	if bad, ok := errors.AsType[*scim.BadAnswer](out.err); ok {
		return bad.Status
	}
	return 0
}
