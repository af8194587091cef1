package store

import (
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
			if st.Records > q.After {
				q.Limit = left
				for rec, err := range r.search(ctx, q, st.Records) {
					if ctx.Err() != nil || !yield(rec, err) || err != nil {
						return
					}
					if left--; left == 0 {
						return
					}
				}
				q.After = st.Records
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// search pages through the trail; until is the last seq to read, 0 for no bound.
func (r *Reader) search(ctx context.Context, q audit.Query, until int64) iter.Seq2[*audit.Record, error] {
	return func(yield func(*audit.Record, error) bool) {
		span, err := r.span(ctx, q, until)
		left := q.Limit
		for err == nil {
			size := pageSize
			if q.Limit > 0 {
				size = min(size, left)
			}
			var page [][]byte
			if page, err = r.page(ctx, q, span, size); err != nil {
				break
			}
			for _, line := range page {
				rec, err := audit.Parse(line)
				if !yield(rec, err) || err != nil {
					return
				}
				if q.Newest {
					span.last = rec.Seq - 1
				} else {
					span.first = rec.Seq + 1
				}
			}
			left -= len(page)
			if len(page) < size || q.Limit > 0 && left == 0 {
				return
			}
		}
		yield(nil, fmt.Errorf("search the trail: %w", explain(r.path, err)))
	}
}

// span is a stretch of the trail, both ends included.
type span struct{ first, last int64 }

// span returns the part of the trail in which everything that q selects must be. Records are nearly, but not exactly, in
// the order of their times (a clock is set back, a conclusion had to wait for the disk), so that a time names a place
// only through the index.
func (r *Reader) span(ctx context.Context, q audit.Query, until int64) (span, error) {
	whole := span{1, math.MaxInt64}
	if until > 0 {
		whole.last = until
	}
	if q.After > 0 && q.Newest {
		whole.last = min(whole.last, q.After-1)
	} else if q.After > 0 {
		whole.first = q.After + 1
	}
	if q.Since.IsZero() && q.Until.IsZero() || q.RequestID != "" || q.User != "" {
		return whole, nil
	}
	since, before := timeRange(q)
	var first, last sql.NullInt64
	if err := r.scans.QueryRowContext(ctx, sqlTimeBounds, since, before).Scan(&first, &last); err != nil {
		return span{}, err
	}
	if !first.Valid {
		return span{1, 0}, nil
	}
	whole.first = max(whole.first, first.Int64)
	if !q.Until.IsZero() {
		whole.last = min(whole.last, last.Int64)
	}
	return whole, nil
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

// page reads the next records, as bytes.
func (r *Reader) page(ctx context.Context, q audit.Query, in span, size int) ([][]byte, error) {
	query, args := pageQuery(q, in, size)
	rows, err := r.scans.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page [][]byte
	for rows.Next() {
		var line []byte
		if err := rows.Scan(&line); err != nil {
			return nil, err
		}
		page = append(page, line)
	}
	return page, rows.Err()
}

// behindStretches adds the records that no index has yet to a list of seqs.
const behindStretches = "UNION ALL SELECT seq FROM trail WHERE seq > (" + sqlIndexed + ")"

// pageQuery writes the statement for one page.
func pageQuery(q audit.Query, in span, size int) (query string, args []any) {
	var conditions []string
	where := func(condition string, value any) {
		args = append(args, value)
		conditions = append(conditions, strings.ReplaceAll(condition, "$N", fmt.Sprintf("$%d", len(args))))
	}
	where("seq >= $N", in.first)
	where("seq <= $N", in.last)
	if q.RequestID != "" {
		where("seq IN (SELECT seq FROM trail_requests WHERE request_id = $N "+behindStretches+") AND request_id = $N", q.RequestID)
	}
	for _, equal := range []struct{ condition, value string }{
		{"action = $N", q.Action}, {"kind = $N", q.Kind},
		{"connection = $N", q.Connection}, {"credential = $N", q.Credential},
	} {
		if equal.value != "" {
			where(equal.condition, equal.value)
		}
	}
	if q.Status != 0 {
		where("status = $N", q.Status)
	}
	since, before := timeRange(q)
	if !q.Since.IsZero() {
		where("time >= $N", since)
	}
	if !q.Until.IsZero() {
		where("time < $N", before)
	}
	if q.User != "" {
		// The index finds all that the user's other names lead to; the columns keep what was recorded under this name.
		where(`seq IN (SELECT seq FROM trail_users WHERE seq >= $1 AND seq <= $2
				AND user_key IN (SELECT user_key FROM trail_names WHERE name = $N UNION ALL SELECT $N) `+behindStretches+`)
			AND (subject = $N OR user_name = $N OR external_id = $N)`, identity.FoldKey(q.User))
	}
	order := "seq"
	if q.Newest {
		order = "seq DESC"
	}
	args = append(args, size)
	return fmt.Sprintf("SELECT record FROM trail WHERE %s ORDER BY %s LIMIT $%d", strings.Join(conditions, " AND "), order, len(args)), args
}
