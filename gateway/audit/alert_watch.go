package audit

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// AlertsConfig is what Alerts need.
type AlertsConfig struct {
	// Trail is read for what became of requests: nothing of Alerts is on their path. Required.
	Trail interface {
		Records(ctx context.Context, after int64, limit int, each func(seq int64, record []byte) error) error
		Head(ctx context.Context) (int64, error)
	}
	// Writable returns why the trail cannot be written. Required.
	Writable func() error
	// Upstreams tells how the upstreams are.
	Upstreams func() []UpstreamState
	// Sinks tells how the sinks are. nil: there are none.
	Sinks  func() []SinkState
	Who    []AlertConfig
	Logger *slog.Logger // Required
}

// UpstreamState is what Alerts look at of a connection's upstream.
type UpstreamState struct {
	Connection  string
	Open        bool   // the circuit
	Credentials string // why the upstream cannot be logged in to; "" when nothing is known to be wrong
}

const (
	alertEvery = time.Second
	// What is wrong with a sink for a moment only is not told.
	sinkPatience = 30 * time.Second

	rateWindow   = 5 * time.Minute // in which requests and failures are counted
	rateSlots    = 30              // of which one is forgotten at a time
	rateRequests = 20              // below which their share is not told

	// Denied requests are told when the provisioning client does not come with a valid token meanwhile: then they are not a
	// stranger's alone.
	deniedPatience = time.Minute
)

// Alerts find out what is wrong and tell it: one message per cause and connection in the window of each who is told.
type Alerts struct {
	cfg  AlertsConfig
	who  []*told
	seen int64 // place in the trail up to which requests are counted; -1: to be found

	connections map[string]*counts
	sinkSince   map[string]time.Time // since when a sink has a problem
}

// NewAlerts checks who is told. Run starts to look.
func NewAlerts(cfg AlertsConfig) (*Alerts, error) {
	a := &Alerts{cfg: cfg, seen: -1, connections: map[string]*counts{}, sinkSince: map[string]time.Time{}}
	for i := range cfg.Who {
		n, err := OpenAlert(&cfg.Who[i])
		if err != nil {
			return nil, fmt.Errorf("alert %s: %w", cfg.Who[i].Name, err)
		}
		a.who = append(a.who, newTold(cfg.Who[i], n, cfg.Logger))
	}
	return a, nil
}

// Run looks once a second until ctx ends. With nobody to tell it returns at once.
func (a *Alerts) Run(ctx context.Context) {
	if len(a.who) == 0 {
		return
	}
	var sending sync.WaitGroup
	for _, t := range a.who {
		sending.Go(func() { t.run(ctx) })
	}
	defer sending.Wait()
	tick := time.NewTicker(alertEvery)
	defer tick.Stop()
	for {
		a.look(ctx, time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look raises whatever is wrong now.
func (a *Alerts) look(ctx context.Context, now time.Time) {
	if a.cfg.Writable() != nil {
		a.raise(now, CauseTrail, "", "the audit trail cannot be written: writes are refused (503) until it can; see /readyz and the log", 0)
	}
	if a.cfg.Upstreams != nil {
		for _, u := range a.cfg.Upstreams() {
			if u.Open {
				a.raise(now, CauseBreaker, u.Connection, "the circuit to the upstream is open: it fails or does not answer, and requests are refused (503) meanwhile", 0)
			}
			if u.Credentials != "" {
				a.raise(now, CauseCredentials, u.Connection, "the upstream refuses the gateway's credentials, or they cannot be read: replace the upstream token", 0)
			}
		}
	}
	a.lookAtSinks(now)
	if err := a.count(ctx, now); err != nil && ctx.Err() == nil {
		return // the trail cannot be read just now: what became of requests is counted later
	}
	for name, c := range a.connections {
		a.lookAtRequests(now, name, c)
	}
}

func (a *Alerts) lookAtSinks(now time.Time) {
	if a.cfg.Sinks == nil {
		return
	}
	for _, s := range a.cfg.Sinks() {
		since, ok := a.sinkSince[s.Name]
		switch {
		case s.Problem == "":
			delete(a.sinkSince, s.Name)
		case !ok:
			a.sinkSince[s.Name] = now
		case now.Sub(since) >= sinkPatience || s.Required:
			text := "this sink does not take the trail; it gets what it misses when it does; see /readyz"
			if s.Required {
				text = "this sink is required and does not take the trail: everything that would go upstream is refused (503); see /readyz"
			}
			a.raise(now, CauseSink, s.Name, text, 0)
		}
	}
}

func (a *Alerts) lookAtRequests(now time.Time, name string, c *counts) {
	c.forget(now)
	if all, failed := c.sum(); all >= rateRequests && failed > 0 {
		rate := 100 * float64(failed) / float64(all)
		a.raise(now, CauseFailures, name, fmt.Sprintf("%d of %d requests of the last five minutes failed (%.0f %%)", failed, all, rate), rate)
	}
	switch f := c.cycle.Forecast(); {
	case !c.deniedSince.IsZero() && now.Sub(c.deniedSince) >= deniedPatience:
		a.raise(now, CauseQuarantine, name, fmt.Sprintf("%d requests without a valid Secret Token were refused (401), and none with one has come since: if they are Microsoft Entra ID's, it puts the job in quarantine at once; compare the Secret Token there with the configured ones, and when they expire",
			c.denied), 0)
	case c.cycle.Denied > 0:
		a.raise(now, CauseQuarantine, name, fmt.Sprintf("%d requests of this provisioning cycle were answered 401 or 403: Microsoft Entra ID puts a job in quarantine at once for that", c.cycle.Denied), 0)
	case f.Near >= 50:
		a.raise(now, CauseQuarantine, name, fmt.Sprintf("%d of %d requests of this provisioning cycle failed: Microsoft Entra ID puts a job in quarantine from %d failures at more than %.0f %%, and beyond %d in any case",
			c.cycle.Failures, c.cycle.Requests, QuarantineFrom, 100*QuarantineShare, QuarantineAt), 0)
	}
}

func (a *Alerts) raise(now time.Time, cause, connection, text string, rate float64) {
	for _, t := range a.who {
		t.raise(&Alert{Time: now.UTC(), Cause: cause, Connection: connection, Text: text, rate: rate})
	}
}

// count reads what became of requests since the last look.
func (a *Alerts) count(ctx context.Context, now time.Time) (err error) {
	if a.seen < 0 {
		if a.seen, err = a.cfg.Trail.Head(ctx); err != nil {
			a.seen = -1
		}
		return err
	}
	const portion = 1024
	for n := portion; n == portion; {
		n = 0
		err := a.cfg.Trail.Records(ctx, a.seen, portion, func(seq int64, line []byte) error {
			n++
			a.seen = seq
			if rec, err := Parse(line); err == nil && rec.Connection != "" && (rec.Kind == Outcome || rec.Kind == Unknown) {
				c := a.connections[rec.Connection]
				if c == nil {
					c = &counts{}
					a.connections[rec.Connection] = c
				}
				c.add(now, rec)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// counts are the requests of one connection.
type counts struct {
	slots []slot // oldest first
	cycle Cycle
	last  time.Time // request

	denied      int // since one came with a valid token
	deniedSince time.Time
	deniedLast  time.Time
}

type slot struct {
	at          time.Time
	all, failed int
}

func (c *counts) add(now time.Time, rec *Record) {
	if rec.Action == Unauthenticated {
		if c.denied++; c.denied == 1 {
			c.deniedSince = now
		}
		c.deniedLast = now
		return
	}
	c.denied, c.deniedSince = 0, time.Time{}
	if now.Sub(c.last) > CyclePause {
		c.cycle = Cycle{}
	}
	c.last = now
	if n := len(c.slots); n == 0 || now.Sub(c.slots[n-1].at) >= rateWindow/rateSlots {
		c.slots = append(c.slots, slot{at: now})
	}
	s := &c.slots[len(c.slots)-1]
	s.all++
	c.cycle.Requests++
	if FailedForClient(rec) {
		s.failed++
		c.cycle.Failures++
	}
	if DeniedToClient(rec) {
		c.cycle.Denied++
	}
}

// forget drops what is older than the window.
func (c *counts) forget(now time.Time) {
	c.slots = slices.DeleteFunc(c.slots, func(s slot) bool { return now.Sub(s.at) > rateWindow })
	if now.Sub(c.last) > CyclePause {
		c.cycle = Cycle{}
	}
	if now.Sub(c.deniedLast) > CyclePause {
		c.denied, c.deniedSince = 0, time.Time{}
	}
}

func (c *counts) sum() (all, failed int) {
	for _, s := range c.slots {
		all += s.all
		failed += s.failed
	}
	return all, failed
}
