package console

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"scimgate/gateway/audit"
)

const (
	cycleQuiet  = 30 * time.Second // without a request, after which it may have ended
	mostCycles  = 100              // that are kept
	mostObjects = 100_000          // objects of one cycle that are told apart
	initialSize = 50               // objects from which a later cycle of look-ups counts as initial again
)

// job is a provisioning job, as far as the gateway can tell two apart: by connection and credential.
type job struct{ connection, credential string }

// cycle is a run of requests of one job without a long pause.
type cycle struct {
	job         job
	first, last time.Time
	audit.Cycle
	lookups, reads, writes                        int
	found                                         int // look-ups that found somebody
	created, updated, disabled, restored, deleted int
	refused                                       int // of its failures, those answered with 4xx
	initial                                       bool
	objects                                       map[uint64]bool // hash of the subject -> its last request failed; nil when ended
	seen, failed                                  int             // objects, and those of them that failed
}

// seed is of the hashes of subjects: names would take memory as long as they please.
var seed = maphash.MakeSeed()

// jobs recognises cycles.
type jobs struct {
	current map[job]*cycle
	past    []*cycle // oldest first
	wrote   map[job]bool
}

func newJobs() *jobs { return &jobs{current: map[job]*cycle{}, wrote: map[job]bool{}} }

// tell adds the record of a request. Who has no credential belongs to no job.
func (j *jobs) tell(rec *audit.Record) {
	if rec.Credential == "" || rec.Action == audit.Bulk {
		return
	}
	key := job{rec.Connection, rec.Credential}
	c := j.current[key]
	if c != nil && rec.Time.Sub(c.last) > audit.CyclePause {
		j.end(c)
		c = nil
	}
	if c == nil {
		c = &cycle{job: key, first: rec.Time, objects: map[uint64]bool{}}
		j.current[key] = c
	}
	if rec.Time.After(c.last) {
		c.last = rec.Time
	}
	c.tell(rec)
	if c.writes > 0 {
		c.initial = c.lookups > c.reads && (!j.wrote[key] || c.seen >= initialSize)
	}
}

// end makes a cycle one of the past.
func (j *jobs) end(c *cycle) {
	c.objects = nil
	delete(j.current, c.job)
	if c.writes > 0 {
		j.wrote[c.job] = true
	}
	j.past = append(j.past, c)
	if len(j.past) > mostCycles {
		j.past = slices.Delete(j.past, 0, len(j.past)-mostCycles)
	}
}

func (c *cycle) tell(rec *audit.Record) {
	c.Requests++
	failed := audit.FailedForClient(rec)
	if audit.DeniedToClient(rec) {
		c.Denied++
	}
	if failed {
		c.Failures++
		if rec.Kind != audit.Unknown && rec.Answer.Status < 500 {
			c.refused++
		}
	}
	switch rec.Op {
	case "query":
		c.lookups++
		if rec.Action == audit.Matched {
			c.found++
		}
	case "get":
		c.reads++
	case "create", "patch", "replace", "delete":
		c.writes++
	}
	if name := strings.ToLower(cmp.Or(rec.Subject.ID, rec.Subject.UserName, rec.Subject.ExternalID)); name != "" {
		c.object(maphash.String(seed, name), failed)
	}
	if failed {
		return
	}
	switch rec.Action {
	case audit.Created, audit.Adopted:
		c.created++
	case audit.Updated, audit.Renamed:
		c.updated++
	case audit.Disabled:
		c.disabled++
	case audit.Restored:
		c.restored++
	case audit.Deleted:
		c.deleted++
	}
}

func (c *cycle) object(name uint64, failed bool) {
	before, known := c.objects[name]
	if !known {
		if len(c.objects) >= mostObjects {
			return
		}
		c.seen++
	}
	c.objects[name] = failed
	switch {
	case failed && !before:
		c.failed++
	case !failed && before:
		c.failed--
	}
}

// cycleView is a cycle as the page shows it.
type cycleView struct {
	Connection, Credential, Kind, Why    string
	State, StateTone                     string
	Running                              bool
	First, Last                          time.Time
	Duration                             time.Duration
	Requests, Objects, Failed, Failures  int
	Created, Updated, Disabled, Restored int
	Deleted                              int
	Pace                                 string
	Bar                                  []segment
	Trail                                string
	Refused, Broken                      int    // of Failures, what was refused (4xx) and what failed (5xx)
	RefusedLink, BrokenLink              string // their addresses
	Forecast                             forecast
}

// Errors is the address of most of what went wrong.
func (v cycleView) Errors() string {
	if v.Refused > v.Broken {
		return v.RefusedLink
	}
	return v.BrokenLink
}

// segment is a part of a bar, of a hundred.
type segment struct {
	X, Width float64
	Class    string
}

// list returns the cycles, newest first, as they are now.
func (p *picture) cycles(now time.Time) []cycleView {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := slices.Clone(p.jobs.past)
	for _, c := range p.jobs.current {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *cycle) int {
		return cmp.Or(b.last.Compare(a.last), cmp.Compare(a.job.connection+"\n"+a.job.credential, b.job.connection+"\n"+b.job.credential))
	})
	list := make([]cycleView, len(all))
	for i, c := range all {
		list[i] = c.view(now)
	}
	return list
}

func (c *cycle) view(now time.Time) cycleView {
	v := cycleView{
		Connection: c.job.connection, Credential: c.job.credential, First: c.first, Last: c.last, Duration: c.last.Sub(c.first),
		Requests: c.Requests, Objects: c.seen, Failed: c.failed, Failures: c.Failures, Created: c.created, Updated: c.updated,
		Disabled: c.disabled, Restored: c.restored, Deleted: c.deleted,
		Forecast: predict(c, now),
	}
	v.Kind, v.Why = c.kind()
	switch quiet := now.Sub(c.last); {
	case quiet < cycleQuiet:
		v.State, v.StateTone, v.Running = "running", good, true
	case quiet < audit.CyclePause:
		v.State, v.StateTone, v.Running = "quiet for "+span(quiet), neutral, true
	default:
		v.State, v.StateTone = "ended", neutral
	}
	if s := v.Duration.Seconds(); s >= 1 {
		v.Pace = fmt.Sprintf("%.1f requests a second", float64(c.Requests)/s)
	}
	v.Bar = bar([]segment{
		{Width: float64(c.created), Class: "created"}, {Width: float64(c.updated), Class: "updated"},
		{Width: float64(c.restored), Class: "restored"}, {Width: float64(c.disabled), Class: "disabled"},
		{Width: float64(c.deleted), Class: "deleted"}, {Width: float64(c.Failures), Class: "failed"},
	})
	at := url.Values{
		"connection": {c.job.connection}, "credential": {c.job.credential},
		"since": {c.first.UTC().Format(time.RFC3339Nano)}, "until": {c.last.Add(time.Millisecond).UTC().Format(time.RFC3339Nano)},
	}
	v.Trail = address("trail", at)
	at.Set("outcome", audit.OutcomeRefused)
	v.Refused, v.RefusedLink = c.refused, address("trail", at)
	at.Set("outcome", audit.OutcomeFailed)
	v.Broken, v.BrokenLink = c.Failures-c.refused, address("trail", at)
	return v
}

// kind is what a cycle looks like, and what says so. Entra's initial cycle asks for each user by name before it writes,
// later ones read those they know by id.
func (c *cycle) kind() (kind, why string) {
	why = fmt.Sprintf("%s by name, %s by id, %s", plural(c.lookups, "look-up"), plural(c.reads, "read"), plural(c.writes, "write"))
	switch {
	case c.writes == 0 && c.found == 0 && c.Requests <= 10:
		return "Connection test", why
	case c.writes == 0:
		return "Reading only", why
	case c.initial:
		return "Initial", why
	case c.seen <= 2 && c.Requests <= 10:
		return "On demand", why
	}
	return "Incremental", why
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return count(n) + " " + word + "s"
}

// bar makes widths of a hundred. What is there at all can be seen.
func bar(parts []segment) []segment {
	const least = 1.5
	total, kept := 0.0, parts[:0]
	for _, s := range parts {
		if s.Width > 0 {
			kept = append(kept, s)
			total += s.Width
		}
	}
	sum := 0.0
	for i := range kept {
		kept[i].Width = max(kept[i].Width/total*100, least)
		sum += kept[i].Width
	}
	x := 0.0
	for i := range kept {
		kept[i].Width *= 100 / sum
		kept[i].X = x
		x += kept[i].Width
	}
	return kept
}

// forecast says how far a cycle is from Entra's quarantine.
type forecast struct{ Tone, Title, Why, Do string }

// What to do about a quarantine, and about one that comes nearer.
const (
	afterQuarantine  = "Mend the cause, then restart provisioning in Entra: a job in quarantine is tried every 6 to 24 hours only, and disabled after 28 days."
	beforeQuarantine = "See what fails, and mend it before the next cycle."
)

// predict compares a cycle with Entra's thresholds, in words.
func predict(c *cycle, now time.Time) forecast {
	counted := fmt.Sprintf("%s of %s failed (%s).", count(c.Failures), plural(c.Requests, "request"), share(c.Failures, c.Requests))
	from, at, above := count(audit.QuarantineFrom), count(audit.QuarantineAt), share(audit.QuarantineShare*100, 100)
	switch f := c.Cycle.Forecast(); {
	case c.Denied > 0:
		return forecast{bad, "Entra quarantines this job", counted + " " + plural(c.Denied, "answer") + " of 401 or 403: one is enough.", afterQuarantine}
	case f.Risk == audit.Quarantined:
		return forecast{bad, "Entra quarantines this job", counted + " That is beyond Entra's threshold.", afterQuarantine}
	case f.Risk == audit.TowardsQuarantine:
		return forecast{warning, "On the way to quarantine", fmt.Sprintf("%s Above %s, Entra quarantines from %s failures on.%s", counted, above, from, reached(c, now, f.Limit)), beforeQuarantine}
	case f.Risk == audit.ManyFailures:
		return forecast{warning, "Many failures", fmt.Sprintf("%s Entra quarantines beyond %s failures at any share.%s", counted, at, reached(c, now, f.Limit)), beforeQuarantine}
	case c.Failures > 0:
		return forecast{good, "No risk of quarantine", fmt.Sprintf("%s Entra quarantines from %s failures at more than %s, or beyond %s.", counted, from, above, at), ""}
	}
	return forecast{good, "No risk of quarantine", "Nothing failed.", ""}
}

// reached says when a running cycle reaches a threshold at its pace so far.
func reached(c *cycle, now time.Time, limit int) string {
	lasted := c.last.Sub(c.first)
	if now.Sub(c.last) >= cycleQuiet || lasted < 10*time.Second || c.Failures == 0 {
		return ""
	}
	left := time.Duration(float64(limit-c.Failures) / float64(c.Failures) * float64(lasted))
	return " At this pace in " + span(left) + "."
}

// cyclesView is the page of cycles.
type cyclesView struct {
	Cycles  []cycleView
	From    time.Time
	Reading string // how far the trail was read at the start; "" when it was
	Stream  string
}

func (c *Console) cyclesView() cyclesView {
	return cyclesView{Cycles: c.picture.cycles(c.cfg.Clock()), From: c.picture.states().From, Reading: c.picture.reading(), Stream: Base + "live/cycles"}
}

func (c *Console) cyclesPage(w http.ResponseWriter, r *http.Request) {
	c.render(w, r, http.StatusOK, "cycles", "Cycles", "cycles", c.cyclesView())
}
