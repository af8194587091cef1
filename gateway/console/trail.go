package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// filters are what the trail is searched by, as they stand in the address bar.
type filters struct {
	User, Action, Outcome, Rule, Kind, Status, Connection, Credential, Request, ID, Since, Until string
}

// fieldProblem is what is wrong with one filter.
type fieldProblem struct{ Field, Label, Text string }

// maxFilter bounds a filter: names in the trail have at most audit.ClipLimit bytes.
const maxFilter = audit.ClipLimit

// readFilters reads the address bar. What cannot be understood is a problem of its field; the rest counts all the same.
func readFilters(values url.Values, now time.Time) (f filters, q audit.Query, problems []fieldProblem) {
	complain := func(field, label, format string, args ...any) {
		problems = append(problems, fieldProblem{field, label, fmt.Sprintf(format, args...)})
	}
	for _, field := range []struct {
		name, label string
		to          *string
	}{
		{"user", "User", &f.User}, {"action", "Action", &f.Action}, {"kind", "Kind", &f.Kind}, {"status", "Status", &f.Status},
		{"outcome", "Outcome", &f.Outcome}, {"rule", "Rule", &f.Rule}, {"connection", "Connection", &f.Connection}, {"credential", "Credential", &f.Credential}, {"request", "Request id", &f.Request},
		{"id", "Record id", &f.ID},
		{"since", "From", &f.Since}, {"until", "Before", &f.Until},
	} {
		given := values[field.name]
		if len(given) == 0 {
			continue
		}
		*field.to = strings.TrimSpace(given[0])
		if len(given) > 1 {
			complain(field.name, field.label, "is given %d times: the first counts", len(given))
		}
		if len(*field.to) > maxFilter {
			complain(field.name, field.label, "is longer than any name in the trail")
			*field.to = ""
		}
	}
	q = audit.Query{
		User: f.User, Action: f.Action, Kind: f.Kind, Connection: f.Connection, Credential: f.Credential, RequestID: f.Request,
		ID: f.ID, Outcome: f.Outcome, Rule: f.Rule, Newest: true, Limit: pageRecords,
	}
	if f.ID != "" {
		if _, err := audit.TimeOfID(f.ID); err != nil {
			complain("id", "Record id", "%s is none: the id of a record looks like 019ab6e2-5c1f-7a3b-8d42-0123456789ab", plain(f.ID))
		}
	}
	if f.Outcome != "" && !slices.Contains(audit.Outcomes, f.Outcome) {
		complain("outcome", "Outcome", "%s is none: use %s", plain(f.Outcome), strings.Join(audit.Outcomes, ", "))
	}
	if f.Status != "" {
		status, err := strconv.Atoi(f.Status)
		if err != nil || status < 100 || status > 599 {
			complain("status", "Status", "%s is not an HTTP status: use a number such as 409", plain(f.Status))
		} else {
			q.Status = status
		}
	}
	for _, field := range []struct {
		name, label, text string
		to                *time.Time
	}{{"since", "From", f.Since, &q.Since}, {"until", "Before", f.Until, &q.Until}} {
		if field.text == "" {
			continue
		}
		t, err := readTime(field.text, now)
		if err != nil {
			complain(field.name, field.label, "%s %s", plain(field.text), err)
		}
		*field.to = t
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		complain("until", "Before", "ends before the time begins: nothing can be found")
	}
	return f, q, problems
}

var errTime = errors.New("is not a time: use 2026-01-31, 2026-01-31T15:04Z, or how long ago, such as 90m, 2h or 7d")

// readTime reads a moment, or a length of time before now. Without a zone it is UTC.
func readTime(text string, now time.Time) (time.Time, error) {
	t, err := audit.Moment(text, now)
	for _, layout := range []string{"2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if err != nil {
			t, err = time.Parse(layout, strings.TrimSuffix(text, " UTC"))
		}
	}
	if err != nil {
		return time.Time{}, errTime
	}
	return t, nil
}

// values are the filters as they stand in an address, without empty ones.
func (f filters) values() url.Values {
	v := url.Values{}
	for name, text := range map[string]string{
		"user": f.User, "action": f.Action, "outcome": f.Outcome, "rule": f.Rule, "kind": f.Kind, "status": f.Status, "connection": f.Connection, "credential": f.Credential,
		"request": f.Request, "id": f.ID, "since": f.Since, "until": f.Until,
	} {
		if text != "" {
			v.Set(name, text)
		}
	}
	return v
}

// trailView is the trail's page.
type trailView struct {
	Filters           filters
	Problems          []fieldProblem
	Actions, Outcomes []option
	Kinds             []option
	Connections       []option
	Rows              []row
	Records, Pruned   int64 // in the whole trail, and those that were removed from its beginning
	Any               bool  // at least one filter is set
	Details           bool  // the less common filters are in use
	Live              bool
	Stream            string // of the live tail
	LiveOn, LiveOff   string // addresses
	Older, Newest     string // addresses; "" when there is nothing
	Failed, FailedFix string
}

func (v trailView) refresh() int {
	if v.Live {
		return 5
	}
	return 0
}

// Invalid returns what is wrong with a filter, "" for nothing.
func (v trailView) Invalid(field string) string {
	for _, p := range v.Problems {
		if p.Field == field {
			return p.Text
		}
	}
	return ""
}

func (c *Console) trailPage(w http.ResponseWriter, r *http.Request) {
	given := r.URL.Query()
	f, q, problems := readFilters(given, c.cfg.Clock())
	view := trailView{Filters: f, Problems: problems, Any: f != filters{}, Live: given.Get("live") == "on"}
	view.Details = f.Connection+f.Credential+f.Status+f.Request+f.ID+f.Kind+f.Rule != ""
	if text := given.Get("before"); text != "" {
		before, err := strconv.ParseInt(text, 10, 64)
		if err != nil || before < 1 {
			view.Problems = append(view.Problems, fieldProblem{"before", "Page", plain(text) + " is not a place in the trail: start again from the newest"})
		}
		q.After = max(before, 0)
	}
	view.Actions = options(f.Action, "any action", actionNames, func(a string) string { return a })
	view.Outcomes = options(f.Outcome, "any outcome", audit.Outcomes, func(o string) string { return o })
	view.Kinds = options(f.Kind, "any kind", audit.Kinds, kindWords)
	var names []string
	for _, conn := range c.cfg.Connections() {
		names = append(names, conn.Name)
	}
	view.Connections = options(f.Connection, "any connection", names, func(n string) string { return n })
	view.LiveOff = address("trail", f.values())
	on := f.values()
	on.Set("live", "on")
	view.LiveOn = address("trail", on)

	st, err := c.cfg.Trail.Stats(r.Context())
	if err != nil {
		c.unreadable(w, r, err)
		return
	}
	view.Records, view.Pruned = st.Records, st.Newest-st.Records
	status := http.StatusOK
	if len(view.Problems) == 0 {
		list, more, err := c.search(r, q)
		if err != nil {
			if r.Context().Err() != nil {
				return
			}
			view.Failed, view.FailedFix = c.searchProblem(err)
			status = http.StatusServiceUnavailable
		}
		view.Rows = rows(list)
		if more {
			older := f.values()
			older.Set("before", strconv.FormatInt(list[len(list)-1].Seq, 10))
			view.Older = address("trail", older)
		}
	} else {
		status = http.StatusBadRequest
	}
	if q.After > 0 {
		view.Newest, view.Live = view.LiveOff, false
	}
	if view.Live {
		from := f.values()
		from.Set("after", strconv.FormatInt(st.Newest, 10))
		view.Stream = address("live/trail", from)
	}
	c.render(w, r, status, "trail", "Trail", "trail", view)
}

func rows(list []*audit.Record) []row {
	made := make([]row, len(list))
	for i, rec := range list {
		made[i] = row{rec, link(rec.Seq)}
	}
	return made
}

func address(page string, v url.Values) string {
	if len(v) == 0 {
		return Base + page
	}
	return Base + page + "?" + v.Encode()
}

// digits is a number as it stands in an address.
func digits(n int64) string { return strconv.FormatInt(n, 10) }

// recordView is the page of one record.
type recordView struct {
	*audit.Record
	Differences []difference
	JSON        string
	Others      []row // of the same request
	Closes      string
	Person      string // address of the person's timeline
	SameRequest string
	File, Proof string
	Unseal      string // address of the form that shows sealed values; "" for none
	Unsealed    bool   // they are shown
	Previous    string
	Next        string
}

// mostOthers bounds the list of records of one request: a bulk request may have thousands.
const mostOthers = 12

// record reads the record that an address names, or answers that there is none.
func (c *Console) record(w http.ResponseWriter, r *http.Request) *audit.Record {
	seq, err := strconv.ParseInt(r.PathValue("seq"), 10, 64)
	if err != nil || seq < 1 {
		c.problem(w, r, http.StatusNotFound, "There is no such record", "Records are numbered 1, 2, 3, ...: open the trail and search.")
		return nil
	}
	rec, err := c.cfg.Trail.Get(r.Context(), seq)
	switch {
	case errors.Is(err, store.ErrNotFound):
		c.problem(w, r, http.StatusNotFound, "There is no record "+digits(seq), "Either the trail does not reach that far, or the record was old enough to be pruned: then its hash stays in the tree. Open the trail and search.")
	case err != nil:
		c.unreadable(w, r, err)
	default:
		return rec
	}
	return nil
}

func (c *Console) recordPage(w http.ResponseWriter, r *http.Request) {
	if rec := c.record(w, r); rec != nil {
		c.showRecord(w, r, rec, false)
	}
}

// valuesPage is recordPage with the sealed values, after it was recorded who sees them: hence a POST.
func (c *Console) valuesPage(w http.ResponseWriter, r *http.Request) {
	rec := c.record(w, r)
	if rec == nil {
		return
	}
	switch err := c.cfg.Unseal(r.Context(), rec, "the console, from "+sourceOf(r)); {
	case err == nil:
		c.showRecord(w, r, rec, true)
	case errors.Is(err, audit.ErrNotSealed):
		c.problem(w, r, http.StatusNotFound, "This record has no sealed values", "Only writes have some, and only while sealing is not switched off in the configuration.")
	case errors.Is(err, audit.ErrErased):
		c.problem(w, r, http.StatusGone, "The sealed values were erased", "The key of this person was destroyed, so that they are gone for ever. Their fingerprints stay in the record.")
	default:
		c.cfg.Logger.Warn("sealed values cannot be shown", "record", rec.Seq, "error", err)
		c.problem(w, r, http.StatusServiceUnavailable, "The sealed values cannot be shown",
			"Either the master key is another one, or the trail, which has to say who saw them, cannot be written now. The gateway's log says which.")
	}
}

func (c *Console) showRecord(w http.ResponseWriter, r *http.Request, rec *audit.Record, unsealed bool) {
	st, err := c.cfg.Trail.Stats(r.Context())
	if err != nil {
		c.unreadable(w, r, err)
		return
	}
	view := recordView{Record: rec, Differences: differences(rec), JSON: indented(rec), File: link(rec.Seq) + "/record.json", Unsealed: unsealed}
	if c.cfg.Unseal != nil && rec.Sealed != "" && !unsealed {
		view.Unseal = link(rec.Seq) + "/values"
	}
	if c.cfg.Proof != nil {
		view.Proof = link(rec.Seq) + "/proof.json"
	}
	if rec.Seq > st.Newest-st.Records+1 {
		view.Previous = link(rec.Seq - 1)
	}
	if rec.Seq < st.Newest {
		view.Next = link(rec.Seq + 1)
	}
	if rec.Intent > 0 {
		view.Closes = link(rec.Intent)
	}
	if name := who(rec); name != "" {
		view.Person = personLink(name, rec.Connection)
	}
	if rec.RequestID != "" {
		view.SameRequest = address("trail", url.Values{"request": {rec.RequestID}})
		list, _, err := c.search(r, audit.Query{RequestID: rec.RequestID, Limit: mostOthers})
		if err != nil {
			c.unreadable(w, r, err)
			return
		}
		view.Others = rows(slices.DeleteFunc(list, func(other *audit.Record) bool { return other.Seq == rec.Seq }))
	}
	c.render(w, r, http.StatusOK, "record", "Record "+digits(rec.Seq), "trail", view)
}

// recordFile is the record as its bytes stand in the trail, where they are hashed.
func (c *Console) recordFile(w http.ResponseWriter, r *http.Request) {
	rec := c.record(w, r)
	if rec == nil {
		return
	}
	var line []byte
	err := c.cfg.Trail.Records(r.Context(), rec.Seq-1, 1, func(_ int64, record []byte) error {
		line = append(slices.Clone(record), '\n')
		return nil
	})
	if err != nil {
		c.unreadable(w, r, err)
		return
	}
	download(w, fmt.Sprintf("record-%d.json", rec.Seq), line)
}

func (c *Console) proofFile(w http.ResponseWriter, r *http.Request) {
	rec := c.record(w, r)
	if rec == nil {
		return
	}
	proof, err := c.cfg.Proof(r.Context(), rec.Seq)
	if err != nil {
		c.cfg.Logger.Warn("a proof cannot be made", "record", rec.Seq, "error", err)
		c.problem(w, r, http.StatusServiceUnavailable, "There is no proof of this record yet",
			"A record can be proven once a checkpoint covers it, which takes about a second. Try again; if that does not help, the gateway's log says why.")
		return
	}
	download(w, fmt.Sprintf("proof-%d.json", rec.Seq), proof)
}

func download(w http.ResponseWriter, name string, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	_, _ = w.Write(body) // the client is gone when this fails
}

// indented is a record for reading.
func indented(rec *audit.Record) string {
	var b bytes.Buffer
	if json.Indent(&b, audit.Append(nil, rec), "", "  ") != nil {
		return ""
	}
	return b.String()
}
