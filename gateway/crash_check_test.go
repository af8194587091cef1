package gateway

import (
	"net/http"
	"slices"
	"strings"
	"sync"

	"scimgate/gateway/audit"
)

// crashTally counts what a check has looked at.
type crashTally struct {
	processed  int // writes the upstream processed
	answers    int // answers that clients received
	reconciled int
	untold     int // reconciled, without that anybody could tell
}

// requestStory is what the trail has of one request.
type requestStory struct {
	intent, closed, reconciled *audit.Record
}

// check compares the trail with what the upstream did and what clients were told.
func (w *crashWorld) check(g *gatewayProcess) crashTally {
	w.t.Helper()
	trail := w.settled()
	byRequest, alive := w.read(trail)
	w.mu.Lock()
	answers := slices.Clone(w.answers)
	w.mu.Unlock()
	sum := crashTally{answers: len(answers)}
	processed := w.processed(&sum, byRequest)
	for _, a := range answers {
		s := byRequest[a.requestID]
		if s == nil || s.closed == nil || s.closed.Answer.Status != a.status {
			w.t.Errorf("%s %s: a client was told %d, in the trail %+v", a.method, a.requestID, a.status, s)
		}
		if s != nil && a.method != http.MethodGet && a.status < 300 && processed[a.requestID] != 1 {
			w.t.Errorf("%s %s: a client was told %d, and the upstream processed it %d times", a.method, a.requestID, a.status, processed[a.requestID])
		}
	}
	for id, s := range byRequest {
		if s.intent == nil || s.reconciled == nil {
			continue
		}
		sum.reconciled++
		f := s.reconciled.Findings[len(s.reconciled.Findings)-1]
		done := s.reconciled.Action != audit.Failed
		switch {
		case strings.Contains(f.Reason, "nobody can tell"):
			sum.untold++
			if !writtenSince(trail, s) {
				w.t.Errorf("%s %s: reconciled as %q, and nobody else wrote it", s.intent.Op, id, f.Reason)
			}
		case done != (processed[id] > 0):
			w.t.Errorf("%s %s: reconciled as %s, %q; the upstream processed it %d times", s.intent.Op, id, s.reconciled.Action, f.Reason, processed[id])
		}
	}
	w.compare(g, alive)
	return sum
}

// read sorts the trail by request, and returns who is alive by what it tells.
func (w *crashWorld) read(trail []*audit.Record) (byRequest map[string]*requestStory, alive map[string]bool) {
	w.t.Helper()
	byRequest, alive = map[string]*requestStory{}, map[string]bool{}
	for i, r := range trail {
		if r.Seq != int64(i+1) {
			w.t.Fatalf("record %d of the trail has number %d", i+1, r.Seq)
		}
		s := byRequest[r.RequestID]
		if s == nil {
			s = &requestStory{}
			byRequest[r.RequestID] = s
		}
		place := &s.closed
		switch r.Kind {
		case audit.Intent:
			place = &s.intent
		case audit.Reconciled:
			place = &s.reconciled
		}
		if *place != nil {
			w.t.Errorf("%s: two records of kind %s", r.RequestID, r.Kind)
		}
		*place = r
		switch {
		case r.Kind == audit.Outcome && r.Answer.Status < 300 || r.Kind == audit.Reconciled:
			switch r.Action {
			case audit.Created, audit.Adopted:
				if alive[r.Subject.ID] {
					w.t.Errorf("%s: the trail has user %s created a second time", r.RequestID, r.Subject.ID)
				}
				alive[r.Subject.ID] = true
			case audit.Deleted:
				delete(alive, r.Subject.ID)
			}
		}
	}
	for id, s := range byRequest {
		switch {
		case s.closed == nil:
			w.t.Errorf("%s: %+v was never closed", id, s.intent)
		case s.intent != nil && s.closed.Intent != s.intent.Seq:
			w.t.Errorf("%s: intent %d, and the record that closes it is of %d", id, s.intent.Seq, s.closed.Intent)
		case (s.closed.Kind == audit.Unknown) != (s.reconciled != nil):
			w.t.Errorf("%s: closed as %s, reconciled by %+v", id, s.closed.Kind, s.reconciled)
		}
	}
	return byRequest, alive
}

// processed counts, by request, the writes that the upstream processed. Each is in the trail, and none made a user a
// second time.
func (w *crashWorld) processed(sum *crashTally, byRequest map[string]*requestStory) map[string]int {
	w.t.Helper()
	out := map[string]int{}
	for _, e := range w.sim.Ledger() {
		if !e.Op.Writes() {
			continue
		}
		s := byRequest[e.RequestID]
		if s == nil || s.intent == nil {
			w.t.Errorf("%s %s reached the upstream without an intent", e.Method, e.RequestID)
		}
		if e.Method == http.MethodPost && e.Status == http.StatusConflict {
			w.t.Errorf("%s: somebody was to be created a second time", e.RequestID)
		}
		if e.Processed {
			out[e.RequestID]++
			sum.processed++
		}
	}
	return out
}

// compare compares the users there are with those the trail knows of, and with what the gateway holds of them.
func (w *crashWorld) compare(g *gatewayProcess, alive map[string]bool) {
	w.t.Helper()
	names := map[string]bool{}
	users := w.sim.Resources("User")
	for _, r := range users {
		if names[r.UserName()] {
			w.t.Errorf("%s exists twice", r.UserName())
		}
		names[r.UserName()] = true
		if !alive[r.ID()] {
			w.t.Errorf("%s, id %s, exists, but not by the trail", r.UserName(), r.ID())
		}
		delete(alive, r.ID())
	}
	for id := range alive {
		w.t.Errorf("%s exists by the trail, but not upstream", id)
	}
	const newest = 24 // the kept externalId of these
	var running sync.WaitGroup
	for _, r := range users[max(0, len(users)-newest):] {
		running.Go(func() {
			if ids, ok := w.matches(g, "externalId", "e-"+r.UserName()); !ok || !slices.Equal(ids, []string{r.ID()}) {
				w.t.Errorf("externalId of %s: found %v, want %s", r.UserName(), ids, r.ID())
			}
		})
	}
	running.Wait()
}

// writtenSince reports whether the trail has another write of the same resource, closed after a story's intent.
func writtenSince(trail []*audit.Record, s *requestStory) bool {
	return slices.ContainsFunc(trail, func(r *audit.Record) bool {
		return r.Seq > s.intent.Seq && r.Intent != 0 && r.Intent != s.intent.Seq && r.Kind != audit.Unknown &&
			r.Subject.ID == s.reconciled.Subject.ID
	})
}
