package entra

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Action is what a step of the provisioning log did.
type Action string

// The actions of the provisioning log.
const (
	Import          Action = "Import" // the resource was read by its cached id
	Match           Action = "Match"  // one matching query
	Create          Action = "Create"
	Update          Action = "Update"
	Disable         Action = "Disable"
	Restore         Action = "Restore"
	Delete          Action = "Delete"
	Reference       Action = "ReferenceResolution" // manager or members
	Probe           Action = "Probe"               // of Test Connection
	EntryLevelError Action = "EntryLevelError"
	RedundantExport Action = "RedundantExport" // nothing differs
	Scoping         Action = "Scoping"         // left alone: not in scope, or held back
)

// Status is how a step or an object ended.
type Status string

// The results of the provisioning log.
const (
	Success Status = "Success"
	Failure Status = "Failure"
	Skipped Status = "Skipped"
)

// Step is one line of an object's entry in the provisioning log.
type Step struct {
	Action     Action   `json:"action"`
	Status     Status   `json:"status"`
	HTTP       int      `json:"http,omitempty"`       // status of the answer; 0 when there was none
	Attributes []string `json:"attributes,omitempty"` // names of what was sent by PATCH, or matched on
	ErrorCode  string   `json:"errorCode,omitempty"`  // as Entra names it
	Detail     string   `json:"detail,omitempty"`     // of the SCIM error body, as it came
	ScimType   string   `json:"scimType,omitempty"`
	RetryAfter string   `json:"retryAfter,omitempty"` // the header, as it came
}

// Entry is what the provisioning log shows for one object in one cycle.
type Entry struct {
	Kind     string `json:"kind"` // User or Group
	ObjectID string `json:"objectId"`
	UserName string `json:"userName"`     // displayName of a group
	ID       string `json:"id,omitempty"` // at the service provider
	Action   Action `json:"action"`       // what was done to the resource
	Status   Status `json:"status"`
	Requests int    `json:"requests"`
	Steps    []Step `json:"steps"`
}

// Totals counts objects. An object that was created and whose manager could
// not be set is counted as created and as failed.
type Totals struct {
	Objects      int `json:"objects"`
	Created      int `json:"created"`
	Updated      int `json:"updated"`
	Disabled     int `json:"disabled"`
	Restored     int `json:"restored"`
	Deleted      int `json:"deleted"`
	Skipped      int `json:"skipped"`
	Failed       int `json:"failed"`
	Discovered   int `json:"discovered,omitempty"` // users that account discovery read
	NotProcessed int `json:"notProcessed"`         // left when the job was quarantined or the context ended
}

// Quarantine is the verdict over the provisioning job by the published rules.
type Quarantine struct {
	Quarantined bool   `json:"quarantined"`
	Rule        string `json:"rule,omitempty"` // credentials, protocol, deletions, ratio, failures or absolute
	Reason      string `json:"reason,omitempty"`
	Counted     int    `json:"counted"` // failed objects of this cycle, all of which count
	// Outlook says what the share of failures would mean for a larger tenant;
	// it is empty where it would mean nothing.
	Outlook string `json:"outlook,omitempty"`
}

// Unstable is an attribute that comes back other than it was sent. Entra
// compares what it reads with its mapping, so it would send the attribute again
// in every cycle.
type Unstable struct {
	Attribute string   `json:"attribute"`
	How       string   `json:"how"` // "absent", "in another letter case", ...
	Count     int      `json:"count"`
	UserNames []string `json:"userNames"` // the first few
}

// Remark is something Entra tolerates and an engineer should know.
type Remark struct {
	Text  string `json:"text"`
	Count int    `json:"count"`
}

// Report is what a cycle did and what Entra would make of it.
type Report struct {
	Cycle   string    `json:"cycle"` // initial cycle, incremental cycle, test connection, on demand or account discovery
	Dialect Dialect   `json:"dialect"`
	Started time.Time `json:"started"`
	Entries []Entry   `json:"entries"`
	Totals  Totals    `json:"totals"`

	FailedPercent float64    `json:"failedPercent"`
	Quarantine    Quarantine `json:"quarantine"`
	Escrowed      []string   `json:"escrowed"` // object ids which the next cycle tries again
	Unstable      []Unstable `json:"unstable"`
	Remarks       []Remark   `json:"remarks"`

	Requests          int           `json:"requests"`
	RequestsPerSecond float64       `json:"requestsPerSecond"`
	Statuses          map[int]int   `json:"statuses"`   // HTTP status -> answers; 0 counts exchanges without one
	Throttled         int           `json:"throttled"`  // answers with 429
	RetryAfter        []string      `json:"retryAfter"` // distinct values seen, at most 16
	Duration          time.Duration `json:"durationNanoseconds"`
	P50               time.Duration `json:"p50Nanoseconds"` // of one exchange, without pacing
	P99               time.Duration `json:"p99Nanoseconds"`
}

// OK reports whether nothing failed, nothing was left undone and the job would
// go on.
func (r *Report) OK() bool {
	return r.Totals.Failed == 0 && r.Totals.NotProcessed == 0 && !r.Quarantine.Quarantined
}

// The published limits of quarantine, in failed objects.
const (
	ratioFrom     = 5_000 // the share of failures is looked at from here
	ratioPercent  = 40
	failuresLimit = 40_000
	absoluteLimit = 60_000
)

// judge applies the rules that count failures. A verdict that was reached
// during the cycle stands.
func (r *Report) judge() {
	q := &r.Quarantine
	q.Counted = r.Totals.Failed
	done := r.Totals.Objects - r.Totals.NotProcessed
	if done > 0 {
		r.FailedPercent = 100 * float64(q.Counted) / float64(done)
	}
	if q.Quarantined {
		return
	}
	overRatio := q.Counted*100 > done*ratioPercent
	switch {
	case q.Counted >= absoluteLimit:
		q.set("absolute", fmt.Sprintf("%d objects failed; %d is the absolute limit", q.Counted, absoluteLimit))
	case q.Counted > failuresLimit:
		q.set("failures", fmt.Sprintf("%d objects failed, more than %d", q.Counted, failuresLimit))
	case q.Counted >= ratioFrom && overRatio:
		q.set("ratio", fmt.Sprintf("%d objects failed, %.1f %% of the cycle; from %d failures on, %d %% is the limit",
			q.Counted, r.FailedPercent, ratioFrom, ratioPercent))
	case overRatio:
		q.Outlook = fmt.Sprintf("%.1f %% of the objects failed; a tenant with this share is quarantined once %d objects have failed",
			r.FailedPercent, ratioFrom)
	}
}

func (q *Quarantine) set(rule, reason string) {
	q.Quarantined, q.Rule, q.Reason = true, rule, reason
}

// collector gathers what exchanges tell, from all workers.
type collector struct {
	mu         sync.Mutex
	statuses   map[int]int
	latencies  []time.Duration
	retryAfter []string
	lastRetry  string
	remarks    map[string]int
	unstable   map[[2]string]*Unstable
	quarantine Quarantine
}

func newCollector() *collector {
	return &collector{statuses: map[int]int{}, remarks: map[string]int{}, unstable: map[[2]string]*Unstable{}}
}

func (k *collector) exchange(status int, d time.Duration, retryAfter string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.statuses[status]++
	k.latencies = append(k.latencies, d)
	if retryAfter == "" {
		return
	}
	k.lastRetry = retryAfter
	if len(k.retryAfter) < 16 && !slices.Contains(k.retryAfter, retryAfter) {
		k.retryAfter = append(k.retryAfter, retryAfter)
	}
}

// takeRetry returns the last Retry-After since it was called before.
func (k *collector) takeRetry() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.lastRetry
	k.lastRetry = ""
	return s
}

func (k *collector) remark(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remarks[text]++
}

func (k *collector) deviates(attribute, how, userName string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := [2]string{attribute, how}
	u := k.unstable[key]
	if u == nil {
		u = &Unstable{Attribute: attribute, How: how}
		k.unstable[key] = u
	}
	u.Count++
	if len(u.UserNames) < 5 {
		u.UserNames = append(u.UserNames, userName)
	}
}

// condemn quarantines the job; the first reason stands.
func (k *collector) condemn(rule, reason string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.quarantine.Quarantined {
		k.quarantine.set(rule, reason)
	}
}

func (k *collector) condemned() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.quarantine.Quarantined
}

// fill completes the report with what was gathered.
func (k *collector) fill(r *Report) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r.Statuses = k.statuses
	r.Requests = len(k.latencies)
	r.Throttled = k.statuses[429]
	r.RetryAfter = append([]string{}, k.retryAfter...)
	r.Quarantine = k.quarantine
	r.Duration = time.Since(r.Started)
	if r.Duration > 0 {
		r.RequestsPerSecond = float64(r.Requests) / r.Duration.Seconds()
	}
	slices.Sort(k.latencies)
	r.P50, r.P99 = percentile(k.latencies, 50), percentile(k.latencies, 99)
	r.Unstable = []Unstable{}
	for _, u := range k.unstable {
		slices.Sort(u.UserNames)
		r.Unstable = append(r.Unstable, *u)
	}
	slices.SortFunc(r.Unstable, func(a, b Unstable) int {
		return strings.Compare(a.Attribute+"\x00"+a.How, b.Attribute+"\x00"+b.How)
	})
	r.Remarks = []Remark{}
	for text, n := range k.remarks {
		r.Remarks = append(r.Remarks, Remark{text, n})
	}
	slices.SortFunc(r.Remarks, func(a, b Remark) int { return strings.Compare(a.Text, b.Text) })
}

// percentile returns the p-th percentile of sorted durations by nearest rank.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*p+99)/100-1]
}
