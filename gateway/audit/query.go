package audit

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Query selects records of the trail. Its members are joined by "and"; zero members do not select.
type Query struct {
	RequestID  string
	User       string // the subject's id, userName or externalId, compared without regard to case
	Action     string
	Kind       string
	Connection string
	Credential string
	Status     int       // of the answer
	Outcome    string    // one of Outcomes
	Rule       string    // a rule with a finding in the record
	Hashes     string    // keyed hashes, with a space between: a record has one of them, see Redactor.Hashes
	ID         string    // of the record: its UUIDv7, in any case
	Since      time.Time // not before
	Until      time.Time // before

	After  int64 // a cursor: only records beyond this Seq in the direction of reading; 0 from the start
	Limit  int   // at most so many records; 0 for all
	Newest bool  // newest first; else in the order of the trail
}

// Kinds are the kinds of record.
var Kinds = []string{Intent, Outcome, Unknown, Reconciled, Event}

// Outcomes are how a request can have ended, see OutcomeOf.
var Outcomes = []string{OutcomeSucceeded, OutcomeRefused, OutcomeFailed, OutcomeUnknown}

// How a request ended.
const (
	OutcomeSucceeded = "succeeded" // answered with a status below 400
	OutcomeRefused   = "refused"   // answered with 4xx
	OutcomeFailed    = "failed"    // answered with 5xx
	OutcomeUnknown   = "unknown"   // nobody can tell what the upstream did: the record's kind is unknown
)

// OutcomeOf is how the request of a record ended, "" for a record that does not say so: an intent, an event.
func OutcomeOf(r *Record) string {
	switch status := r.Answer.Status; {
	case r.Kind == Unknown:
		return OutcomeUnknown
	case status >= 500:
		return OutcomeFailed
	case status >= 400:
		return OutcomeRefused
	case status > 0:
		return OutcomeSucceeded
	}
	return ""
}

// Moment reads a time as people give it: RFC 3339, or how long before now, such as 2h or 7d.
func Moment(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil && !t.IsZero() { // the zero time would select nothing
		return t, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, errNotMoment
}

var errNotMoment = errors.New("want a time such as 2027-01-31T08:00:00Z, or a duration such as 2h or 7d")
