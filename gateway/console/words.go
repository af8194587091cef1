package console

import (
	"bytes"
	"cmp"
	"net/http"
	"strconv"
	"strings"

	"scimgate/gateway/audit"
)

// actions are what a record's action is called, and how its intent is announced.
var actions = map[string]struct{ done, about string }{
	audit.Matched:         {"Looked up by name", ""},
	audit.Queried:         {"Query answered", ""},
	audit.Read:            {"Read", ""},
	audit.Created:         {"Created", "About to create"},
	audit.Adopted:         {"Created; the answer was lost, and the user found again", "About to create"},
	audit.Updated:         {"Updated", "About to update"},
	audit.Disabled:        {"Disabled", "About to disable"},
	audit.Restored:        {"Restored", "About to restore"},
	audit.Renamed:         {"Renamed", "About to rename"},
	audit.Deleted:         {"Deleted", "About to delete"},
	audit.Refused:         {"Refused by the gateway", ""},
	audit.Unauthenticated: {"No valid Secret Token", ""},
	audit.Discovered:      {"Abilities read", ""},
	audit.Bulk:            {"Bulk request answered", ""},
	audit.Failed:          {"Failed upstream", ""},
	audit.Abandoned:       {"Abandoned: nothing was sent", ""},
	audit.Interrupted:     {"Interrupted", ""},
	audit.Unsealed:        {"Sealed values shown", ""},
	audit.Erased:          {"Sealed values erased", ""},
	audit.Rotated:         {"Key replaced", ""},
	audit.Removed:         {"Old records pruned", ""},
	signedIn:              {"Signed in", ""},
	signInRefused:         {"Sign-in refused", ""},
	"started":             {"Started", ""},
	"stopped":             {"Stopped", ""},
	"breaker":             {"Circuit", ""},
}

// actionNames are the actions that the trail's filter offers, in the order of a user's life, and then of the gateway's.
var actionNames = []string{
	audit.Created, audit.Adopted, audit.Updated, audit.Renamed, audit.Disabled, audit.Restored, audit.Deleted, audit.Failed, audit.Refused,
	audit.Unauthenticated, audit.Matched, audit.Queried, audit.Read, audit.Discovered, audit.Bulk, audit.Abandoned, audit.Interrupted,
	audit.Unsealed, audit.Erased, audit.Rotated, audit.Removed, signedIn, signInRefused, "started", "stopped", "breaker",
}

// headline says in a few words what a record tells.
func headline(rec *audit.Record) string {
	words, known := actions[rec.Action]
	text := words.done
	if !known {
		text = cmp.Or(upperFirst(rec.Action), "Record")
	}
	switch rec.Kind {
	case audit.Intent:
		return cmp.Or(words.about, "About to: "+rec.Action)
	case audit.Unknown:
		return "Not known: nobody can tell yet what the upstream did"
	case audit.Reconciled:
		return "Reconciled: the upstream was asked what became of it"
	case audit.Event:
		return text + reasonOf(rec)
	}
	if rec.Action == audit.Failed && rec.Op != "" {
		text = "Could not " + map[string]string{"create": "create", "delete": "delete", "get": "read", "query": "search"}[rec.Op]
		if text == "Could not " {
			text = "Could not change"
		}
	}
	return text
}

func reasonOf(rec *audit.Record) string {
	if len(rec.Findings) > 0 && rec.Findings[0].Reason != "" {
		return ": " + rec.Findings[0].Reason
	}
	return ""
}

func upperFirst(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// Tones of what is shown: they choose a colour, and never stand without words.
const (
	good    = "good"
	neutral = "neutral"
	warning = "warn"
	bad     = "bad"
)

// tone is how a record turned out.
func tone(rec *audit.Record) string {
	status := rec.Answer.Status
	switch {
	case rec.Kind == audit.Unknown || status >= 500:
		return bad
	case rec.Kind == audit.Event && (rec.Action == "breaker" || rec.Action == signInRefused):
		return warning
	case rec.Kind == audit.Intent || rec.Kind == audit.Event:
		return neutral
	case missed(rec):
		return neutral
	case status >= 400:
		return warning
	}
	switch rec.Action {
	case audit.Matched, audit.Queried, audit.Read, audit.Discovered:
		return neutral
	}
	return good
}

// missed reports whether a record tells of a look at something that is not there: an ordinary answer.
func missed(rec *audit.Record) bool {
	return rec.Answer.Status == http.StatusNotFound && (rec.Op == "get" || rec.Op == "query")
}

func kindWords(kind string) string {
	switch kind {
	case audit.Intent:
		return "intent"
	case audit.Unknown:
		return "not known"
	}
	return kind
}

// who is the subject of a record by the name that people know best.
func who(rec *audit.Record) string {
	return cmp.Or(rec.Subject.UserName, rec.Subject.ExternalID, rec.Subject.ID)
}

// target is what was called. It has the method, too.
func target(c audit.Call) string {
	if strings.HasPrefix(c.Target, c.Method+" ") {
		return c.Target
	}
	return c.Method + " " + c.Target
}

func statusWords(status int) string {
	if status == 0 {
		return "no answer"
	}
	return strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
}

// difference is what became of one attribute, in words.
type difference struct {
	audit.Attribute
	Words  string
	Tone   string
	Before *audit.Value // what an earlier record confirmed, where it is another value; nil: not known or the same
	Same   bool         // the value is the one that an earlier record confirmed
}

// After is the value that the step which came furthest had.
func (d difference) After() *audit.Value {
	for _, v := range []*audit.Value{d.Confirmed, d.Sent} {
		if v != nil && v.State != audit.StateNotReported {
			return v
		}
	}
	return d.Asked
}

// differences tells of each attribute of a record what became of it.
func differences(rec *audit.Record) []difference {
	list := make([]difference, 0, len(rec.Attributes))
	for _, a := range rec.Attributes {
		words, tone := became(rec, &a)
		if a.Note != "" {
			words += "; " + a.Note
		}
		list = append(list, difference{Attribute: a, Words: words, Tone: tone})
	}
	return list
}

// became says what became of one attribute.
func became(rec *audit.Record, a *audit.Attribute) (words, tone string) {
	for _, f := range rec.Findings {
		if f.Path != a.Path {
			continue
		}
		switch {
		case f.Verdict == audit.Refuse:
			return "refused: " + f.Reason, warning
		case f.Verdict == audit.Drop && a.Sent == nil:
			return "not sent: " + f.Reason, neutral
		case f.Verdict == audit.Keep && a.Sent == nil:
			return "kept by the gateway, not sent: " + f.Reason, neutral
		}
	}
	failed := rec.Answer.Status >= 400
	switch {
	case rec.Kind == audit.Intent && a.Sent != nil:
		return "about to be sent", neutral
	case rec.Kind == audit.Unknown && a.Sent != nil:
		return "perhaps sent: not known whether it was stored", bad
	case a.Sent == nil && failed:
		return "not sent: the request was refused", neutral
	case a.Sent == nil && a.Confirmed == nil:
		return "not sent", neutral
	case a.Sent == nil && sameValue(a.Asked, a.Confirmed):
		return "the upstream held it already", good
	case a.Sent == nil:
		return "not sent; the upstream holds a value of its own", neutral
	case a.Confirmed == nil && failed:
		return "sent, not stored: the upstream refused or failed", warning
	case a.Confirmed == nil || a.Confirmed.State == audit.StateNotReported:
		return "sent; the upstream did not say what it holds", neutral
	case a.Sent.Secret || a.Confirmed.Secret:
		return "sent", good
	case !sameValue(a.Sent, a.Confirmed):
		return "sent, but the upstream holds another value", warning
	case a.Asked != nil && !sameValue(a.Asked, a.Sent):
		return "changed on the way, and stored as sent", warning
	case a.Confirmed.State == audit.StateAbsent:
		return "removed as asked", good
	}
	return "stored as asked", good
}

// sameValue reports whether two values of one attribute are equal, as far as the trail tells.
func sameValue(a, b *audit.Value) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.HMAC == b.HMAC && a.State == b.State && !a.Secret && !b.Secret && bytes.Equal(a.Clear, b.Clear)
}
