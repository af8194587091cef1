package gateway

import (
	"net/http"
	"testing"
	"time"

	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

// What held a request up, or kept it out, stands in its records; where nothing did, nothing does.
func TestTrailOfAdmission(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"), func(_ *simulator.Config, up *upConfig, _ *DoorConfig) { up.InFlight = 1 })
	id := p.create("ann", "")
	if rec := p.last(); rec.Admission != nil && rec.Admission.Waited < 1 {
		t.Errorf("got %+v, want no admission without a wait", rec.Admission)
	}
	stop := p.sim.Inject(simulator.Fault{Kind: simulator.Slow, Delay: 300 * time.Millisecond, Op: scim.OpGet, Times: 1})
	defer stop()
	first := make(chan answer)
	go func() { first <- p.do("GET", "/Users/"+id, "") }()
	waitFor(t, "the slow request", func() bool { return p.gateway.Upstream.State().InFlight == 1 })
	if a := p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"displayName","value":"Ann"}`)); a.status >= 300 {
		t.Fatalf("got %d %s", a.status, a.text)
	}
	if a := <-first; a.status != http.StatusOK {
		t.Fatalf("got %d %s", a.status, a.text)
	}
	for _, rec := range p.trail() {
		if rec.Action == audit.Updated && (rec.Admission == nil || rec.Admission.Waited < 1 || rec.Admission.Breaker != "closed") {
			t.Errorf("%s: got %+v, want the wait behind the other request", rec.Kind, rec.Admission)
		}
	}

	p.sim.Inject(simulator.Fault{Kind: simulator.Status, Status: 500})
	var last *audit.Record
	for range 20 {
		if a := p.do("GET", "/Users/"+id, ""); a.status < 500 {
			t.Fatalf("got %d %s", a.status, a.text)
		}
		if last = p.last(); len(last.Calls) == 0 {
			break
		}
	}
	if a := last.Admission; len(last.Calls) > 0 || a == nil || a.Breaker != "open" || last.Answer.Status != http.StatusServiceUnavailable {
		t.Errorf("got %+v in %+v, want a request that the open breaker refused", a, last)
	}
}

// counted is how many of a flood's refusals are in the trail: with records of their own, and in counts.
func (p *harness) counted(action string, status int) (records, counts int) {
	p.t.Helper()
	for _, r := range p.trail() {
		switch {
		case r.Action != action || r.Connection != "test":
			p.t.Fatalf("got %+v, want %s", r, action)
		case r.Kind == audit.Event && r.Unrecorded > 0:
			counts += int(r.Unrecorded)
		case r.Kind == audit.Outcome && r.Answer.Status == status:
			records++
		default:
			p.t.Fatalf("got %+v, want a refusal or a count of them", r)
		}
	}
	return records, counts
}

// A flood of refused requests is recorded in part; the rest is counted.
func TestTrailOfFlood(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.gateway.refusals.perSecond = 5
	const flood = 100
	for range flood {
		if a := p.do("POST", "/Users", user("someone.with.a.name.of.thirty-one", "")); a.status != 400 {
			t.Fatalf("got %d %s, want 400", a.status, a.text)
		}
	}
	waitFor(t, "the count", func() bool {
		records, counts := p.counted(audit.Refused, 400)
		return counts > 0 && records > 0 && records+counts == flood
	})
}
