package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"scimgate/gateway/audit"
)

// Of the checkpoints all are kept for an hour, the newest of each minute for a day, and the newest of each hour for good:
// some 9,000 a year. They are thinned out once an hour.
const (
	keepAll     = time.Hour
	keepMinutes = 24 * time.Hour
	thinEvery   = time.Hour
)

var (
	_ audit.TrailStore  = (*Store)(nil)
	_ audit.TrailReader = (*Reader)(nil)
)

// treeChange is a checkpoint with the tiles that go with it.
type treeChange struct {
	checkpoint *audit.Checkpoint
	tiles      []audit.Tile
	now        int64 // Unix microseconds
}

// PutCheckpoint stores a checkpoint and its tiles in one transaction, behind all work that was handed over before. It is
// durable when PutCheckpoint returns without error; else it may be durable all the same, as a whole.
func (s *Store) PutCheckpoint(ctx context.Context, c *audit.Checkpoint, tiles []audit.Tile) error {
	it, err := s.submit(ctx, &work{tree: &treeChange{c, tiles, s.clock().UnixMicro()}}, nil)
	if err == nil {
		err = s.wait(ctx, it, nil)
	}
	if err != nil {
		return fmt.Errorf("store a checkpoint: %w", err)
	}
	return nil
}

// putTree is PutCheckpoint on the writer's goroutine.
func (w *writer) putTree(t *treeChange) error {
	for _, tile := range t.tiles {
		if _, err := w.putTile.exec(bind(int64(tile.Level), tile.N, tile.Hashes)); err != nil {
			return err
		}
	}
	if _, err := w.putCheckpoint.exec(bind(t.checkpoint.Size, t.checkpoint.Time.UnixMicro(), t.checkpoint.Note)); err != nil {
		return err
	}
	if t.now-w.thinned < thinEvery.Microseconds() {
		return nil
	}
	w.thinned = t.now
	_, err := w.thinCheckpoints.exec(bind(t.now-keepAll.Microseconds(), t.now-keepMinutes.Microseconds()))
	return err
}

// Records calls each for the records behind place after, in the order of their places, for at most limit of them, with
// the stored bytes. It reads past database/sql, whose conversions would cost as much as the reading.
func (r *Reader) Records(ctx context.Context, after int64, limit int, each func(seq int64, record []byte) error) error {
	var stopped error // by each: not an error of the database
	last := after
	read := func(c *conn) error {
		rows, err := c.raw.QueryContext(context.Background(), sqlRecords, bind(after, int64(limit)))
		if err != nil {
			return err
		}
		return eachRow(rows, func(row []driver.Value) error {
			seq, _ := row[0].(int64)
			last = seq
			var record []byte
			switch stored := row[1].(type) {
			case []byte:
				record = stored
			case string: // somebody else's SQL has written it: its bytes are looked at all the same
				record = []byte(stored)
			}
			if stopped = ctx.Err(); stopped == nil {
				stopped = each(seq, record)
			}
			return stopped
		})
	}
	c, err := r.scans.Conn(ctx)
	if err != nil {
		return fmt.Errorf("read the trail: %w", explain(r.path, err))
	}
	err = c.Raw(func(raw any) error {
		direct, ok := raw.(rawConn)
		if !ok {
			return fmt.Errorf("the SQLite driver's connection %T lacks a method", raw)
		}
		return read(&conn{direct})
	})
	closed := c.Close()
	if stopped != nil {
		return stopped
	}
	if err = errors.Join(err, closed); err != nil {
		return fmt.Errorf("the trail cannot be read behind record %d: %w", last, explain(r.path, err))
	}
	return nil
}

// Tile returns the stored hashes of a tile of the tree, none when there is no such tile.
func (r *Reader) Tile(ctx context.Context, level int, n int64) ([]byte, error) {
	var hashes []byte
	err := r.lookups.QueryRowContext(ctx, sqlTile, level, n).Scan(&hashes)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read the tree: %w", explain(r.path, err))
	}
	return hashes, nil
}

// NewestCheckpoint returns the note of the checkpoint over most records, "" when there is none.
func (r *Reader) NewestCheckpoint(ctx context.Context) (string, error) {
	var note string
	err := r.lookups.QueryRowContext(ctx, sqlNewestNote).Scan(&note)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read the newest checkpoint: %w", explain(r.path, err))
	}
	return note, nil
}

// CheckpointWithin returns the newest checkpoint over more than after and at most upTo records; covers is 0 when there is
// none.
func (r *Reader) CheckpointWithin(ctx context.Context, after, upTo int64) (covers int64, note string, at time.Time, err error) {
	var micro int64
	err = r.lookups.QueryRowContext(ctx, sqlNoteWithin, after, upTo).Scan(&covers, &note, &micro)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, "", time.Time{}, nil
	case err != nil:
		return 0, "", time.Time{}, fmt.Errorf("read a checkpoint: %w", explain(r.path, err))
	}
	return covers, note, time.UnixMicro(micro).UTC(), nil
}

// Checkpoints returns the notes of all checkpoints, that over fewest records first.
func (r *Reader) Checkpoints(ctx context.Context) ([]string, error) {
	rows, err := r.lookups.QueryContext(ctx, sqlNotes)
	if err != nil {
		return nil, fmt.Errorf("read the checkpoints: %w", explain(r.path, err))
	}
	defer rows.Close()
	var notes []string
	for rows.Next() {
		var note string
		if err := rows.Scan(&note); err != nil {
			return nil, fmt.Errorf("read the checkpoints: %w", explain(r.path, err))
		}
		notes = append(notes, note)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the checkpoints: %w", explain(r.path, err))
	}
	return notes, nil
}

// Find returns the place of the record with an id, or ErrNotFound.
func (r *Reader) Find(ctx context.Context, id string) (int64, error) {
	if _, err := audit.TimeOfID(id); err != nil {
		return 0, err
	}
	for rec, err := range r.Search(ctx, audit.Query{ID: id, Limit: 1}) {
		if err != nil {
			return 0, err
		}
		return rec.Seq, nil
	}
	return 0, fmt.Errorf("record %s: %w", id, ErrNotFound)
}
