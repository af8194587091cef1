package store

import (
	"context"
	"fmt"

	"scimgate/gateway/audit"
)

var _ audit.SinkStore = (*Store)(nil)

// cursorChange is a sink's cursor to be kept, or to be dropped.
type cursorChange struct {
	name   string
	cursor audit.Cursor
	drop   bool
	now    int64 // Unix microseconds
}

// PutCursor keeps a sink's cursor. It is durable when PutCursor returns without error; else it may be.
func (s *Store) PutCursor(ctx context.Context, name string, c audit.Cursor) error {
	return s.change(ctx, &cursorChange{name: name, cursor: c, now: s.clock().UnixMicro()})
}

// DropCursor forgets a sink: if it comes back, it begins anew.
func (s *Store) DropCursor(ctx context.Context, name string) error {
	return s.change(ctx, &cursorChange{name: name, drop: true})
}

func (s *Store) change(ctx context.Context, c *cursorChange) error {
	it, err := s.submit(ctx, &work{cursor: c}, nil)
	if err == nil {
		err = s.wait(ctx, it, nil)
	}
	if err != nil {
		return fmt.Errorf("store the cursor of sink %s: %w", c.name, err)
	}
	return nil
}

// changeCursor is PutCursor and DropCursor on the writer's goroutine.
func (w *writer) changeCursor(c *cursorChange) (err error) {
	if c.drop {
		_, err = w.dropCursor.exec(bind(c.name))
	} else {
		_, err = w.putCursor.exec(bind(c.name, c.cursor.Seq, c.cursor.Checkpoint, c.now))
	}
	return err
}

// Cursors returns the cursors of all sinks, by name.
func (r *Reader) Cursors(ctx context.Context) (map[string]audit.Cursor, error) {
	rows, err := r.lookups.QueryContext(ctx, sqlCursors)
	if err != nil {
		return nil, fmt.Errorf("read the cursors of the sinks: %w", explain(r.path, err))
	}
	defer rows.Close()
	all := map[string]audit.Cursor{}
	for rows.Next() {
		var name string
		var c audit.Cursor
		if err := rows.Scan(&name, &c.Seq, &c.Checkpoint); err != nil {
			return nil, fmt.Errorf("read the cursors of the sinks: %w", err)
		}
		all[name] = c
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the cursors of the sinks: %w", explain(r.path, err))
	}
	return all, nil
}

// Head returns the place of the newest record, 0 when there is none.
func (r *Reader) Head(ctx context.Context) (seq int64, err error) {
	if err = r.lookups.QueryRowContext(ctx, sqlHead).Scan(&seq); err != nil {
		return 0, fmt.Errorf("find the end of the trail: %w", explain(r.path, err))
	}
	return seq, nil
}
