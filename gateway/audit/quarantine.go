package audit

import (
	"net/http"
	"time"
)

// Microsoft Entra ID puts a provisioning job in quarantine when too much of a cycle fails: from 5,000 failures on if they
// are more than 40 % of its requests, and beyond 40,000 in any case. An answer of 401 or 403 does so at once.
const (
	QuarantineFrom  = 5_000
	QuarantineAt    = 40_000
	QuarantineShare = 0.40

	quarantineFew = 20 // failures, below which their share says nothing
)

// CyclePause ends a provisioning cycle: Entra waits 20 to 40 minutes between two, and hardly a minute within one.
const CyclePause = 5 * time.Minute

// Cycle counts the requests of a provisioning cycle.
type Cycle struct {
	Requests int
	Failures int // FailedForClient
	Denied   int // DeniedToClient
}

// Risk is what becomes of the job of a cycle.
type Risk int

// Risks, the smallest first.
const (
	NoRisk            Risk = iota
	ManyFailures           // half of what makes a quarantine in any case
	TowardsQuarantine      // above the share, and on the way to the number
	Quarantined            // beyond a threshold
)

// Forecast is how far a cycle is from its job's quarantine.
type Forecast struct {
	Risk  Risk
	Limit int // failures that make a quarantine at the share there is
	Near  int // percent of the way there, 100 at most
}

// Forecast compares a cycle with Entra's thresholds.
func (c Cycle) Forecast() Forecast {
	above := float64(c.Failures) > QuarantineShare*float64(c.Requests)
	f := Forecast{Limit: QuarantineAt}
	if above {
		f.Limit = QuarantineFrom
	}
	f.Near = min(c.Failures*100/f.Limit, 100)
	switch {
	case c.Denied > 0:
		f.Risk, f.Near = Quarantined, 100
	case c.Failures > QuarantineAt, above && c.Failures >= QuarantineFrom:
		f.Risk = Quarantined
	case above && c.Failures >= quarantineFew:
		f.Risk = TowardsQuarantine
	case f.Near >= 50:
		f.Risk = ManyFailures
	}
	return f
}

// FailedForClient reports whether a provisioning client counts what became of a request as a failure. That nobody is there
// is an answer to a question, and what a stranger is told is no failure of the client's.
func FailedForClient(rec *Record) bool {
	if rec.Action == Unauthenticated {
		return false
	}
	missed := rec.Answer.Status == http.StatusNotFound && (rec.Op == "get" || rec.Op == "query")
	return rec.Kind == Unknown || rec.Answer.Status >= http.StatusBadRequest && !missed
}

// DeniedToClient reports whether a request was answered 401 or 403. Nobody can tell whether it was the provisioning
// client's, with a token that is not valid any more, or a stranger's.
func DeniedToClient(rec *Record) bool {
	return rec.Answer.Status == http.StatusUnauthorized || rec.Answer.Status == http.StatusForbidden
}
