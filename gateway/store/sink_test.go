package store

import (
	"errors"
	"maps"
	"path/filepath"
	"sync"
	"testing"

	"scimgate/gateway/audit"
)

// A cursor is durable when it was put, is no record, and does not disturb records that are stored meanwhile.
func TestCursors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: path})
	if all, err := s.Cursors(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("at first: got %v, %v", all, err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { mustAppend(t, s, &audit.Record{Kind: audit.Event, Action: "x"}) })
	}
	for i := range int64(50) {
		if err := s.PutCursor(t.Context(), "siem", audit.Cursor{Seq: i, Checkpoint: i / 2}); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	if err := s.PutCursor(t.Context(), "other", audit.Cursor{Seq: 7}); err != nil {
		t.Fatal(err)
	}
	if err := s.PutCursor(t.Context(), "gone", audit.Cursor{Seq: 8}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // also when there is none
		if err := s.DropCursor(t.Context(), "gone"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.PutCursor(t.Context(), "siem", audit.Cursor{Seq: 99}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v, want %v", err, ErrClosed)
	}
	r, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := map[string]audit.Cursor{"siem": {Seq: 49, Checkpoint: 24}, "other": {Seq: 7}}
	if got, err := r.Cursors(t.Context()); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if head, err := r.Head(t.Context()); err != nil || head != 50 {
		t.Errorf("got head %d, %v, want 50: a cursor is no record", head, err)
	}
}

func TestRecords(t *testing.T) {
	s := mustOpen(t, Config{})
	for range 10 {
		mustAppend(t, s, &audit.Record{Kind: audit.Event, Action: "x"})
	}
	stop := errors.New("enough")
	for _, tc := range []struct {
		after     int64
		limit, at int // each fails at the at-th; 0: never
		want      []int64
		err       error
	}{
		{0, 3, 0, []int64{1, 2, 3}, nil},
		{7, 100, 0, []int64{8, 9, 10}, nil},
		{10, 100, 0, nil, nil},
		{2, 5, 2, []int64{3, 4}, stop},
	} {
		var got []int64
		err := s.Records(t.Context(), tc.after, tc.limit, func(seq int64, line []byte) error {
			got = append(got, seq)
			if rec, err := audit.Parse(line); err != nil || rec.Seq != seq {
				t.Errorf("record %d: got %s, %v", seq, line, err)
			}
			if len(got) == tc.at {
				return stop
			}
			return nil
		})
		if !errors.Is(err, tc.err) || len(got) != len(tc.want) || len(got) > 0 && (got[0] != tc.want[0] || got[len(got)-1] != tc.want[len(tc.want)-1]) {
			t.Errorf("after %d: got %v, %v, want %v, %v", tc.after, got, err, tc.want, tc.err)
		}
	}
}
