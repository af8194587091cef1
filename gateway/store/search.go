package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

const (
	pageSize   = 128                    // records read at once: no transaction stays open while a consumer thinks
	pageBytes  = 4 << 20                // or as many bytes of them, and the rest of the last
	followPoll = 250 * time.Millisecond // how often Follow looks for new records
)

// Search returns the records that q selects. The trail may grow meanwhile: without q.Until and q.Newest, records that
// are stored during the search are found too. After an error the iteration ends.
func (r *Reader) Search(ctx context.Context, q audit.Query) iter.Seq2[*audit.Record, error] {
	return r.search(ctx, q, 0)
}

// Last returns the newest n records, oldest first.
func (r *Reader) Last(ctx context.Context, n int) ([]*audit.Record, error) {
	if n <= 0 {
		return nil, nil
	}
	var last []*audit.Record
	for rec, err := range r.Search(ctx, audit.Query{Newest: true, Limit: n}) {
		if err != nil {
			return nil, err
		}
		last = append(last, rec)
	}
	slices.Reverse(last)
	return last, nil
}

// Follow returns the records that q selects after q.After, then waits for more until ctx ends or q.Limit is reached. It
// looks four times a second. Newest has no meaning here. The end of ctx ends the iteration without an error.
func (r *Reader) Follow(ctx context.Context, q audit.Query) iter.Seq2[*audit.Record, error] {
	return func(yield func(*audit.Record, error) bool) {
		q.Newest = false
		left := q.Limit
		ticker := time.NewTicker(followPoll)
		defer ticker.Stop()
		for {
			st, err := r.Stats(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if st.Newest > q.After {
				q.Limit = left
				for rec, err := range r.search(ctx, q, st.Newest) {
					if ctx.Err() != nil || !yield(rec, err) || err != nil {
						return
					}
					if left--; left == 0 {
						return
					}
				}
				q.After = st.Newest
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// search goes through the trail, a step at a time; until is the last seq to read, 0 for no bound.
func (r *Reader) search(ctx context.Context, q audit.Query, until int64) iter.Seq2[*audit.Record, error] {
	return func(yield func(*audit.Record, error) bool) {
		if q.ID != "" {
			at, err := audit.TimeOfID(q.ID)
			if err != nil {
				return // no record has it
			}
			if q.Since.Before(at) {
				q.Since = at
			}
			if end := at.Add(time.Millisecond); q.Until.IsZero() || q.Until.After(end) {
				q.Until = end
			}
		}
		left, err := r.spans(ctx, q, until)
		found := 0
		for err == nil && len(left) > 0 {
			size := pageSize
			if q.Limit > 0 {
				if size = min(size, q.Limit-found); size == 0 {
					return
				}
			}
			var page []*audit.Record
			page, left[0], err = r.step(ctx, q, left[0], size)
			if left[0].empty() {
				left = left[1:]
			}
			for _, rec := range page {
				if !yield(rec, nil) {
					return
				}
			}
			found += len(page)
		}
		if err != nil {
			yield(nil, fmt.Errorf("search the trail: %w", explain(r.path, err)))
		}
	}
}

// span is a stretch of the trail, both ends included.
type span struct{ first, last int64 }

var nothing = span{1, 0}

func (s span) empty() bool { return s.first > s.last }

// behind returns what is left of a span when it has been read up to a record.
func (s span) behind(seq int64, q audit.Query) span {
	if q.Newest {
		return span{s.first, seq - 1}
	}
	return span{seq + 1, s.last}
}

// spans returns the parts of the trail in which everything that q selects must be, in the order of reading. Records are
// nearly, but not exactly, in the order of their times: a clock is set back, a conclusion had to wait for the disk. So a
// time names stretches of the trail, mostly one behind the other, and what is not indexed yet.
func (r *Reader) spans(ctx context.Context, q audit.Query, until int64) (list []span, err error) {
	whole := span{1, math.MaxInt64}
	if until > 0 {
		whole.last = until
	}
	if q.After > 0 && q.Newest {
		whole.last = min(whole.last, q.After-1)
	} else if q.After > 0 {
		whole.first = q.After + 1
	}
	if whole.empty() {
		return nil, nil
	}
	if q.Since.IsZero() && q.Until.IsZero() || q.RequestID != "" || q.User != "" {
		return []span{whole}, nil
	}
	since, before := timeRange(q)
	rows, err := r.scans.QueryContext(ctx, sqlStretches, since, before, whole.first, whole.last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s span
		if err := rows.Scan(&s.first, &s.last); err != nil {
			return nil, err
		}
		s.first, s.last = max(s.first, whole.first), min(s.last, whole.last)
		if n := len(list); n > 0 && list[n-1].last >= s.first-1 {
			list[n-1].last = max(list[n-1].last, s.last)
		} else if !s.empty() {
			list = append(list, s)
		}
	}
	if q.Newest {
		slices.Reverse(list)
	}
	return list, rows.Err()
}

// timeRange is q's range of times in the trail's unit, the end excluded.
func timeRange(q audit.Query) (since, before int64) {
	since, before = math.MinInt64, math.MaxInt64
	if !q.Since.IsZero() {
		since = q.Since.UnixMicro()
	}
	if !q.Until.IsZero() {
		before = q.Until.UnixMicro()
	}
	return since, before
}

// step reads the next records of a span, at most size of them, and returns what is left of it. There may be none, and
// something left all the same. What is indexed is found through an index, if the query has something to find it by, and
// the records behind that, some hundreds or thousands, by reading them.
func (r *Reader) step(ctx context.Context, q audit.Query, in span, size int) (page []*audit.Record, left span, err error) {
	places, border, err := r.index(ctx, q)
	if err != nil {
		return nil, nothing, err
	}
	indexed, rest := span{in.first, min(in.last, border)}, span{max(in.first, border+1), in.last}
	if q.Newest && !rest.empty() || indexed.empty() {
		page, left, err = r.rowStep(ctx, q, rest, size)
		if q.Newest && left.empty() {
			left = indexed
		} else if q.Newest {
			left.first = in.first
		}
		return page, left, err
	}
	page, left, err = r.placeStep(ctx, q, places, indexed, size)
	if !q.Newest && left.empty() {
		left = rest
	} else if !q.Newest {
		left.last = in.last
	}
	return page, left, err
}

// findPlaces returns the places of the next records of a span, at most n of them, among which are all that a query selects.
type findPlaces func(ctx context.Context, q audit.Query, in span, n int) ([]int64, error)

// index chooses an index for a query, and says up to which record it goes; 0 when there is nothing to go by.
func (r *Reader) index(ctx context.Context, q audit.Query) (places findPlaces, border int64, err error) {
	switch {
	case q.RequestID != "":
		places, err = r.byRequest, r.scans.QueryRowContext(ctx, sqlIndexed).Scan(&border)
	case q.User != "":
		places, err = r.byUser, r.scans.QueryRowContext(ctx, sqlIndexed).Scan(&border)
	case len(wordsIn(q)) > 0:
		border, err = r.head(ctx)
		places, border = r.byWords, border-border%blockSize
	}
	return places, border, err
}

// placeStep is step for what an index leads to.
func (r *Reader) placeStep(ctx context.Context, q audit.Query, places findPlaces, in span, size int) ([]*audit.Record, span, error) {
	n := max(size, pageSize) // some of them may be left out
	seqs, err := places(ctx, q, in, n)
	if err != nil || len(seqs) == 0 {
		return nil, nothing, err
	}
	var c conditions
	list := make([]string, len(seqs))
	for i, seq := range seqs {
		c.args = append(c.args, seq)
		list[i] = fmt.Sprintf("$%d", i+1)
	}
	c.all = append(c.all, "seq IN ("+strings.Join(list, ", ")+")")
	c.columns(q)
	query, args := c.statement(q, n)
	page, _, last, full, err := r.page(ctx, q, query, args, size)
	switch {
	case err != nil || !full && len(seqs) < n:
		return page, nothing, err
	case !full:
		last = seqs[n-1]
	}
	return page, in.behind(last, q), nil
}

func (r *Reader) byRequest(ctx context.Context, q audit.Query, in span, n int) ([]int64, error) {
	return r.listPlaces(ctx, ordered(sqlRequestPlaces, q), q.RequestID, in, n)
}

// byUser finds all that the user's other names lead to, too: the columns keep what was recorded under this one.
func (r *Reader) byUser(ctx context.Context, q audit.Query, in span, n int) (seqs []int64, err error) {
	name := identity.FoldKey(q.User)
	keys, err := r.userKeys(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		more, err := r.listPlaces(ctx, ordered(sqlUserPlaces, q), key, in, n)
		if err != nil {
			return nil, err
		}
		seqs = append(seqs, more...)
	}
	slices.Sort(seqs)
	if q.Newest {
		slices.Reverse(seqs)
	}
	return seqs[:min(n, len(seqs))], nil
}

// userKeys are what a name is indexed under.
func (r *Reader) userKeys(ctx context.Context, name string) ([]string, error) {
	rows, err := r.scans.QueryContext(ctx, sqlUserKeys, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	keys := []string{name}
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		if key != name {
			keys = append(keys, key)
		}
	}
	return keys, rows.Err()
}

// listPlaces runs a statement for the places that belong to one key.
func (r *Reader) listPlaces(ctx context.Context, query, key string, in span, n int) (seqs []int64, err error) {
	rows, err := r.scans.QueryContext(ctx, query, key, in.first, in.last, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return nil, err
		}
		seqs = append(seqs, seq)
	}
	return seqs, rows.Err()
}

const (
	sqlUserKeys      = `SELECT user_key FROM trail_names WHERE name = $1`
	sqlUserPlaces    = `SELECT seq FROM trail_users WHERE user_key = $1 AND seq >= $2 AND seq <= $3 ORDER BY %s LIMIT $4`
	sqlRequestPlaces = `SELECT seq FROM trail_requests WHERE request_id = $1 AND seq >= $2 AND seq <= $3 ORDER BY %s LIMIT $4`
)

// ordered fills in the order of a statement.
func ordered(query string, q audit.Query) string {
	if q.Newest {
		return fmt.Sprintf(query, "seq DESC")
	}
	return fmt.Sprintf(query, "seq")
}

// rowStep is step for what is found by reading row after row.
func (r *Reader) rowStep(ctx context.Context, q audit.Query, in span, size int) ([]*audit.Record, span, error) {
	rows := size
	if q.Rule != "" || q.ID != "" || q.Hashes != "" {
		rows = sievedRows
	}
	query, args := pageQuery(q, in, rows)
	page, n, last, full, err := r.page(ctx, q, query, args, size)
	if err != nil || !full && n < rows {
		return page, nothing, err
	}
	return page, in.behind(last, q), nil
}

// sievedRows are read at once where most of them will be left out.
const sievedRows = 1024

// page reads records that a statement selects, and leaves out those that do not satisfy the parts of the query that have
// no column. It is full with size records or pageBytes. n is the number of rows that were read and last the place of the
// last. Before an error come the records before it.
func (r *Reader) page(ctx context.Context, q audit.Query, query string, args []any, size int) (page []*audit.Record, n int, last int64, full bool, err error) {
	rows, err := r.scans.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, 0, 0, false, err
	}
	defer rows.Close()
	bytesRead := 0
	for ; !full && rows.Next(); full = len(page) >= size || bytesRead >= pageBytes {
		var line sql.RawBytes
		if err := rows.Scan(&last, &line); err != nil {
			return page, n, last, false, err
		}
		n++
		if q.Rule != "" && !bytes.Contains(line, []byte(q.Rule)) && plainWord(q.Rule) {
			continue // without the cost of reading it
		}
		if q.Hashes != "" && !hasHash(line, q.Hashes) {
			continue
		}
		rec, err := audit.Parse(line)
		if err != nil {
			return page, n, last, false, fmt.Errorf("record %d: %w", last, err)
		}
		if (q.ID == "" || strings.EqualFold(rec.ID, q.ID)) && (q.Rule == "" || hasRule(rec, q.Rule)) {
			page = append(page, rec)
			bytesRead += len(line)
		}
	}
	return page, n, last, full, rows.Err()
}

func hasHash(line []byte, hashes string) bool {
	for one := range strings.FieldsSeq(hashes) {
		if bytes.Contains(line, []byte(`"hmac":"`+one+`"`)) {
			return true
		}
	}
	return false
}

func hasRule(rec *audit.Record, rule string) bool {
	return slices.ContainsFunc(rec.Findings, func(f audit.Finding) bool { return f.Rule == rule })
}

// plainWord reports whether a text stands in JSON as it is.
func plainWord(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' || strings.ContainsRune(`"\\<>&`, c) })
}

// conditions collects what a statement asks for, and its arguments.
type conditions struct {
	all  []string
	args []any
}

// where adds a condition, in which $N stands for the value.
func (c *conditions) where(condition string, value any) {
	c.args = append(c.args, value)
	c.all = append(c.all, strings.ReplaceAll(condition, "$N", fmt.Sprintf("$%d", len(c.args))))
}

// columns adds what q asks of the columns.
func (c *conditions) columns(q audit.Query) {
	for _, equal := range [...]struct{ condition, value string }{
		{"request_id = $N", q.RequestID}, {"action = $N", q.Action}, {"kind = $N", q.Kind},
		{"connection = $N", q.Connection}, {"credential = $N", q.Credential},
	} {
		if equal.value != "" {
			c.where(equal.condition, equal.value)
		}
	}
	if q.Status != 0 {
		c.where("status = $N", q.Status)
	}
	if q.Outcome != "" {
		condition, ok := outcomeConditions[q.Outcome]
		if !ok {
			condition = "kind IS NULL AND kind = $N" // no record ended so
		}
		c.where(condition, audit.Unknown)
	}
	since, before := timeRange(q)
	if !q.Since.IsZero() {
		c.where("time >= $N", since)
	}
	if !q.Until.IsZero() {
		c.where("time < $N", before)
	}
	if q.User != "" {
		c.where("(subject = $N OR user_name = $N OR external_id = $N)", identity.FoldKey(q.User))
	}
}

// statement reads the selected records in q's order.
func (c *conditions) statement(q audit.Query, limit int) (string, []any) {
	order := "seq"
	if q.Newest {
		order = "seq DESC"
	}
	args := append(c.args, limit)
	return fmt.Sprintf("SELECT seq, record FROM trail WHERE %s ORDER BY %s LIMIT $%d", strings.Join(c.all, " AND "), order, len(args)), args
}

// outcomeConditions are audit.OutcomeOf in SQL.
var outcomeConditions = map[string]string{
	audit.OutcomeSucceeded: "kind <> $N AND status > 0 AND status < 400",
	audit.OutcomeRefused:   "kind <> $N AND status >= 400 AND status < 500",
	audit.OutcomeFailed:    "kind <> $N AND status >= 500",
	audit.OutcomeUnknown:   "kind = $N",
}

// pageQuery writes the statement for the next records of a span.
func pageQuery(q audit.Query, in span, size int) (query string, args []any) {
	var c conditions
	c.where("seq >= $N", in.first)
	c.where("seq <= $N", in.last)
	c.columns(q)
	return c.statement(q, size)
}
