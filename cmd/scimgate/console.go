package main

import (
	"context"
	"fmt"

	"scimgate/gateway"
	"scimgate/gateway/audit"
	"scimgate/gateway/console"
	"scimgate/gateway/store"
)

// openConsole makes the web page of the admin listener. It reads the trail through connections of its own, so that a
// page never waits on the path of a request, nor a request on a page.
func (a *app) openConsole(ctx context.Context, token func() (string, error)) (err error) {
	if a.reader, err = store.OpenReadOnly(ctx, a.cfg.Database); err != nil {
		return fmt.Errorf("the console: %w", err)
	}
	cfg := console.Config{
		Trail: a.reader, Token: token, Hosts: a.cfg.Admin.Hosts, Connections: a.upstreams, Healthy: a.store.Healthy, Signed: a.signing.Healthy,
		Sinks: a.feeds.States, Checkpoint: a.newestCheckpoint, Proof: a.proof, Version: version(), Logger: a.log,
		Event: func(action, text string) { a.event(action, text, "") },
	}
	if a.sealer != nil {
		cfg.Unseal = func(ctx context.Context, rec *audit.Record, by string) error {
			return a.sealer.Unseal(ctx, rec, by, func(ctx context.Context, event *audit.Record) error {
				_, err := a.store.Append(ctx, event)
				return err
			})
		}
	}
	a.console, err = console.New(cfg)
	return err
}

// newestCheckpoint is the newest signed checkpoint of the trail; none is the zero one.
func (a *app) newestCheckpoint(ctx context.Context) (console.Checkpoint, error) {
	note, err := a.reader.NewestCheckpoint(ctx)
	if err != nil || note == "" {
		return console.Checkpoint{}, err
	}
	c, err := audit.ParseCheckpoint(note)
	if err != nil {
		return console.Checkpoint{}, err
	}
	return console.Checkpoint{Size: c.Size, Time: c.Time}, nil
}

// proof is the file that `scimgate audit prove` writes.
func (a *app) proof(ctx context.Context, seq int64) ([]byte, error) {
	p, err := audit.Prove(ctx, a.reader, seq)
	if err != nil {
		return nil, err
	}
	return p.Encode()
}

// upstreams is the state of each connection's upstream, as the console shows it.
func (a *app) upstreams() []console.Connection {
	list := make([]console.Connection, len(a.gateways))
	for i, g := range a.gateways {
		list[i] = upstreamState(g)
	}
	return list
}

func upstreamState(g *gateway.Gateway) console.Connection {
	s := g.Upstream.State()
	return console.Connection{
		Name: g.Name, Profile: g.Profile.Name, Breaker: s.Breaker, Queued: s.Queued, InFlight: s.InFlight, Rate: s.Rate, Taught: s.Taught,
		HoldOff: s.HoldOff, CredentialProblem: s.CredentialProblem,
	}
}
