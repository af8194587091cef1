package store

import (
	"context"
	"fmt"
	"iter"
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

// Search returns the records that q selects. The trail may grow meanwhile; in the order of the trail, records that are
// stored during the search are found too. After an error the iteration ends.
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
		after, left := q.After, q.Limit
		for {
			size := pageSize
			if q.Limit > 0 {
				size = min(size, left)
			}
			page, err := r.page(ctx, q, after, until, size)
			if err != nil {
				yield(nil, fmt.Errorf("search the trail: %w", explain(r.path, err)))
				return
			}
			for _, line := range page {
				rec, err := audit.Parse(line)
				if !yield(rec, err) || err != nil {
					return
				}
				after = rec.Seq
			}
			left -= len(page)
			if len(page) < size || q.Limit > 0 && left == 0 {
				return
			}
		}
	}
}

// page reads the next records, as bytes.
func (r *Reader) page(ctx context.Context, q audit.Query, after, until int64, size int) ([][]byte, error) {
	query, args := pageQuery(q, after, until, size)
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

// pageQuery writes the statement for one page.
func pageQuery(q audit.Query, after, until int64, size int) (query string, args []any) {
	var conditions []string
	where := func(condition string, value any) {
		args = append(args, value)
		conditions = append(conditions, fmt.Sprintf("%s $%d", condition, len(args)))
	}
	order := "seq"
	if q.Newest {
		order = "seq DESC"
	}
	if after > 0 && q.Newest {
		where("seq <", after)
	} else if after > 0 {
		where("seq >", after)
	}
	if until > 0 {
		where("seq <=", until)
	}
	for _, equal := range []struct{ column, value string }{
		{"request_id", q.RequestID}, {"action", q.Action}, {"kind", q.Kind}, {"connection", q.Connection}, {"credential", q.Credential},
	} {
		if equal.value != "" {
			where(equal.column+" =", equal.value)
		}
	}
	if q.Status != 0 {
		where("status =", q.Status)
	}
	if !q.Since.IsZero() {
		where("time >=", q.Since.UnixMicro())
	}
	if !q.Until.IsZero() {
		where("time <", q.Until.UnixMicro())
	}
	if q.User != "" {
		args = append(args, identity.FoldKey(q.User))
		// The index finds all that the user's other names lead to; the columns keep what was recorded under this name.
		conditions = append(conditions, strings.ReplaceAll(`user_key IN (SELECT user_key FROM trail_names WHERE name = $N UNION ALL SELECT $N)
			AND (subject = $N OR user_name = $N OR external_id = $N)`, "$N", fmt.Sprintf("$%d", len(args))))
	}
	query = "SELECT record FROM trail"
	if len(conditions) > 0 {
		query += " WHERE " + strings.Join(conditions, " AND ")
	}
	args = append(args, size)
	return query + fmt.Sprintf(" ORDER BY %s LIMIT $%d", order, len(args)), args
}
