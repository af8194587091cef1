package gateway

import (
	"context"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

// A client that got no answer tries again before the gateway has asked the upstream: what the upstream shows then is
// not taken for what the first try did.
func TestReconcileAfterRepetition(t *testing.T) {
	const create, change = "POST", "PATCH"
	body := user(longName, `"externalId":"e-1"`)
	title := patch(`{"op":"replace","path":"title","value":"new"}`)
	cases := []struct {
		name         string
		method, body string
		reaches      bool
		then         func(r *harness, id string)
		action       string
		reason       string
	}{
		{"created by the repetition", create, body, false, func(r *harness, _ string) { r.create(longName, `"externalId":"e-1"`) }, audit.Failed, "not created: request "},
		{"found by the client", create, body, true, func(r *harness, _ string) {
			r.do("PATCH", "/Users/"+r.sim.Resources("User")[0].ID(), title)
		}, audit.Created, "created: the upstream has it since the intent"},
		{"created and deleted again", create, body, true, func(r *harness, _ string) {
			r.do("DELETE", "/Users/"+r.sim.Resources("User")[0].ID(), "")
		}, audit.Failed, "not created, or gone since"},
		{"not repeated", create, body, false, nil, audit.Failed, "not created, or gone since"},
		{"repeated, not applied", change, title, false, func(r *harness, id string) { r.do("PATCH", "/Users/"+id, title) }, audit.Updated, "nobody can tell: request "},
		{"repeated, applied", change, title, true, func(r *harness, id string) { r.do("PATCH", "/Users/"+id, title) }, audit.Updated, "nobody can tell: request "},
		{"written over", change, title, true, func(r *harness, id string) {
			r.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"newer"}`))
		}, audit.Failed, "nobody can tell: request "},
		{"refused since", change, title, true, func(r *harness, id string) {
			r.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"userName","value":""}`))
		}, audit.Updated, "applied: the resource holds all of it"},
		{"read since", change, title, true, func(r *harness, id string) { r.do("GET", "/Users/"+id, "") }, audit.Updated, "applied: the resource holds all of it"},
		{"deleted by the repetition", "DELETE", "", false, func(r *harness, id string) { r.do("DELETE", "/Users/"+id, "") }, audit.Failed, "not deleted: request "},
		{"deleted, and repeated", "DELETE", "", true, func(r *harness, id string) { r.do("DELETE", "/Users/"+id, "") }, audit.Deleted, "deleted"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newHarness(t, tailored(t, "bluejeans", aliased, ""), quick)
			id, target := "", "/Users"
			if c.method != create {
				id = p.create(longName, `"externalId":"e-1","title":"old"`)
				target += "/" + id
			}
			r := p.dead(c.reaches, func(q *harness) { q.do(c.method, target, c.body) })
			if c.then != nil {
				c.then(r, id)
			}
			r.reconcile()
			rec := r.last()
			reason := rec.Findings[len(rec.Findings)-1].Reason
			if rec.Kind != audit.Reconciled || rec.Action != c.action || !strings.Contains(reason, c.reason) {
				t.Errorf("got %s %s, %q, want %s, %q", rec.Kind, rec.Action, reason, c.action, c.reason)
			}
			r.pairs()
		})
	}
}

// While another create of the same user is open, nobody says which of them made it.
func TestReconcileWaitsForARepetition(t *testing.T) {
	p := newHarness(t, tailored(t, "bluejeans", aliased, ""), quick)
	body := user(longName, `"externalId":"e-1"`)
	r := p.dead(false, func(q *harness) { q.do("POST", "/Users", body) })
	first := r.last().Intent
	arrived, release := make(chan struct{}), make(chan struct{})
	r.gateway.trail = pausing{r.store, arrived, release}
	done := make(chan answer)
	go func() { done <- r.do("POST", "/Users", body) }()
	<-arrived
	left, err := r.gateway.reconcileDue(t.Context(), map[int64]time.Time{first: {}})
	if err == nil || !strings.Contains(err.Error(), "has to be settled first") || left[first].IsZero() {
		t.Errorf("got %v, %v, want that it waits", left, err)
	}
	close(release)
	if a := <-done; a.status != 201 {
		t.Errorf("got %d %s, want 201", a.status, a.text)
	}
	r.reconcile()
	if rec := r.last(); rec.Kind != audit.Reconciled || rec.Intent != first || rec.Action != audit.Failed {
		t.Errorf("got %+v, want that the first was not created", rec)
	}
	r.pairs()
}

// pausing holds up the conclusion of a write.
type pausing struct {
	recorder
	arrived, release chan struct{}
}

// Conclude implements recorder.
func (p pausing) Conclude(ctx context.Context, rec *audit.Record, changes ...identity.Change) (int64, error) {
	close(p.arrived)
	<-p.release
	return p.recorder.Conclude(ctx, rec, changes...)
}
