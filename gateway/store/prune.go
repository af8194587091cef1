package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"scimgate/gateway/audit"
)

// tileWidth is the number of records whose hashes stand together: whole tiles are removed, so that those who verify the
// trail take the hashes of a tile from its records or as they are stored, never from both.
const tileWidth = audit.TileWidth

// pruneChunk is the number of records that one transaction removes: requests that are recorded meanwhile wait for it.
const pruneChunk = 2 * tileWidth

// Prunable is the beginning of the trail, as far as it may be removed.
type Prunable struct {
	First, Last    int64 // the records; none when Last is before First
	Oldest, Newest time.Time
	Bytes          int64 // of the records alone
	Before         time.Time
	// Held says why it ends before a record that is old enough, too; "" when it does not.
	Held string
}

// Empty reports that there is nothing to remove.
func (p *Prunable) Empty() bool { return p.Last < p.First }

// Prunable finds the records that Prune may remove: the beginning of the trail in which all records are older than before.
// It ends before the last tile that is signed, with which the next start compares the trail; before the first intent that
// is open or unreconciled; and, unless sinks are ignored, before the first record that a sink has not got. It has whole
// tiles: up to 255 records that are old enough stay.
func (r *Reader) Prunable(ctx context.Context, before time.Time, ignoreSinks bool) (p Prunable, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("find what can be pruned: %w", explain(r.path, err))
		}
	}()
	p = Prunable{Before: before.UTC().Truncate(time.Microsecond)}
	if err := r.scans.QueryRowContext(ctx, sqlTail).Scan(&p.First); err != nil {
		return p, err
	}
	if p.Last, err = r.lastBefore(ctx, p.Before); err != nil {
		return p, err
	}
	for _, limit := range []struct {
		query, why string
		sinks      bool
	}{
		{sqlFirstKept, "record %d is %s", false},
		{sqlFirstOpen, "record %d is an intent whose end is not known yet%s", false},
		{sqlFirstUnsent, "record %d has not reached the sink %q yet: wait until it has, or remove the sink", true},
	} {
		var next sql.NullInt64
		var name string
		err := r.scans.QueryRowContext(ctx, limit.query).Scan(&next, &name)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return p, err
		}
		if err == nil && next.Valid && next.Int64 <= p.Last && !(limit.sinks && ignoreSinks) {
			p.Last, p.Held = next.Int64-1, fmt.Sprintf(limit.why, next.Int64, name)
		}
	}
	if p.Last -= p.Last % tileWidth; p.Empty() {
		return p, nil
	}
	var oldest, newest int64
	err = r.scans.QueryRowContext(ctx, sqlPruned, p.First, p.Last).Scan(&oldest, &newest, &p.Bytes)
	p.Oldest, p.Newest = time.UnixMicro(oldest).UTC(), time.UnixMicro(newest).UTC()
	return p, err
}

// lastBefore is the place before the first record that is not older than a time.
func (r *Reader) lastBefore(ctx context.Context, before time.Time) (last int64, err error) {
	in, err := r.spans(ctx, audit.Query{Since: before}, 0)
	if err != nil {
		return 0, err
	}
	var first int64
	err = r.scans.QueryRowContext(ctx, sqlFirstSince, in[0].first, before.UnixMicro()).Scan(&first)
	if errors.Is(err, sql.ErrNoRows) {
		return r.head(ctx)
	}
	return first - 1, err
}

// Pruning says what to remove.
type Pruning struct {
	Before      time.Time // only records that are older
	Last        int64     // none behind this place; 0 for no bound
	IgnoreSinks bool      // also what a sink has not got
	By          string    // who wants it, in words
	Signer      *audit.Signer
}

// Prune removes what Prunable finds, after it has stored the event that says which records, and by whom. Their hashes
// stay, so that the tree over the trail can be verified, and so does the identity map. It removes pruneChunk records at a
// time and calls progress with the last of them; whatever it is interrupted by, the next call goes on. When it returns
// without error, the records stand neither in the database file nor in its write-ahead log; the file keeps its size, and
// fills up again.
func (s *Store) Prune(ctx context.Context, what Pruning, progress func(last int64)) error {
	p, err := s.Prunable(ctx, what.Before, what.IgnoreSinks)
	if err != nil {
		return err
	}
	if what.Last > 0 && what.Last < p.Last {
		p.Last = what.Last - what.Last%tileWidth
	}
	if p.Empty() {
		return nil
	}
	pruned := &audit.Pruned{First: p.First, Last: p.Last, Before: p.Before}
	if err := what.Signer.SignPruned(pruned); err != nil {
		return err
	}
	rec := &audit.Record{Kind: audit.Event, Action: audit.Removed, Pruned: pruned,
		Findings: []audit.Finding{{Rule: "retention", Verdict: audit.Remark,
			Reason: audit.Clip(fmt.Sprintf("records %d to %d, all from before %s, were removed by %s", p.First, p.Last, p.Before.Format(time.RFC3339), what.By))}}}
	if _, err := s.Append(ctx, rec); err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	for first := p.First; first <= p.Last; first += pruneChunk {
		chunk := span{first, min(first+pruneChunk-1, p.Last)}
		it, err := s.submit(ctx, &work{prune: &chunk}, nil)
		if err == nil {
			err = s.wait(ctx, it, nil)
		}
		if err != nil {
			return fmt.Errorf("prune: %w", err)
		}
		progress(chunk.last)
	}
	return s.truncate(ctx)
}

// pruneRows removes a chunk of records, and whatever leads to them alone. The rows of trail_words go with the last chunk
// of their block; the empty words stay, because they say how far the blocks are written.
func (w *writer) pruneRows(chunk span) error {
	for _, query := range sqlPrune {
		if err := w.conn.exec(query, chunk.first, chunk.last); err != nil {
			return err
		}
	}
	if done := chunk.last / blockSize; (chunk.first-1)/blockSize < done {
		return w.conn.exec(sqlPruneWords, done)
	}
	return nil
}

const (
	sqlTail       = `SELECT COALESCE(MIN(seq), 1) FROM trail`
	sqlFirstSince = `SELECT seq FROM trail WHERE seq >= $1 AND time >= $2 ORDER BY seq LIMIT 1`
	sqlFirstKept  = `SELECT (COALESCE(MAX(size), 1) - 1) / 256 * 256 + 1,
		CASE WHEN MAX(size) IS NULL THEN 'not signed yet' ELSE 'among the last that are signed' END FROM checkpoints`
	sqlFirstOpen   = `SELECT MIN(intent), '' FROM open_intents`
	sqlFirstUnsent = `SELECT seq + 1, name FROM sink_cursors ORDER BY seq LIMIT 1`
	sqlPruned      = `SELECT MIN(time), MAX(time), SUM(LENGTH(record)) FROM trail WHERE seq >= $1 AND seq <= $2`
	sqlPruneWords  = `DELETE FROM trail_words WHERE block < $1 AND word <> ''`
)

// sqlPrune removes the records from $1 to $2. A name goes when no later record of the user has it.
var sqlPrune = []string{
	`DELETE FROM trail_names WHERE (name, user_key) IN (
			SELECT user_name, user_key FROM trail WHERE seq >= $1 AND seq <= $2
			UNION SELECT external_id, user_key FROM trail WHERE seq >= $1 AND seq <= $2)
		AND NOT EXISTS (SELECT 1 FROM trail_users u JOIN trail t ON t.seq = u.seq
			WHERE u.user_key = trail_names.user_key AND u.seq > $2 AND (t.user_name = trail_names.name OR t.external_id = trail_names.name))`,
	`DELETE FROM trail_requests WHERE (request_id, seq) IN (
		SELECT request_id, seq FROM trail WHERE seq >= $1 AND seq <= $2 AND request_id IS NOT NULL)`,
	`DELETE FROM trail_users WHERE (user_key, seq) IN (
		SELECT user_key, seq FROM trail WHERE seq >= $1 AND seq <= $2 AND user_key IS NOT NULL)`,
	`DELETE FROM trail_stretches WHERE last >= $1 AND last <= $2`,
	`DELETE FROM trail WHERE seq >= $1 AND seq <= $2`,
}
