package store

import (
	"fmt"
	"slices"
	"testing"

	"scimgate/gateway/audit"
)

// What is kept of the newest records is what the trail says of them, and what is not kept is read from it.
func TestLeaves(t *testing.T) {
	s := mustOpen(t, Config{})
	var want []audit.Hash
	for i := range int64(20) {
		mustAppend(t, s, benchRecord(i))
	}
	if err := s.Records(t.Context(), 0, 100, func(_ int64, record []byte) error {
		want = append(want, audit.LeafHash(record))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	read := func(after int64, limit int) (got []audit.Hash) {
		t.Helper()
		if err := s.Leaves(t.Context(), after, limit, func(seq int64, leaf audit.Hash) error {
			if seq != after+int64(len(got))+1 {
				return fmt.Errorf("got record %d behind %d", seq, after)
			}
			got = append(got, leaf)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, tc := range []struct {
		name          string
		after         int64
		limit, stored int // how many of the answer are from memory
	}{
		{"all", 0, 100, 20}, {"some", 5, 3, 15}, {"the last", 19, 100, 1}, {"none", 20, 100, 0}, {"forgotten ones", 2, 100, 0},
	} {
		if got := len(s.leaves.take(tc.after, 100)); got != tc.stored {
			t.Errorf("%s: got %d from memory, want %d", tc.name, got, tc.stored)
		}
		got := read(tc.after, tc.limit)
		if end := min(int(tc.after)+tc.limit, len(want)); !slices.Equal(got, want[tc.after:end]) {
			t.Errorf("%s: got %d leaves that are not those of records %d to %d", tc.name, len(got), tc.after+1, end)
		}
	}
}

// Hashes that do not follow each other, or are too many, are not kept side by side.
func TestLeavesStayInOrder(t *testing.T) {
	one := make([]audit.Hash, 3)
	var l leaves
	l.add(0, one)
	l.add(7, one)
	if got := l.take(0, 10); got != nil {
		t.Errorf("got %d hashes from before a gap, want none", len(got))
	}
	if got := l.take(7, 2); len(got) != 2 {
		t.Errorf("got %d hashes behind 7, want 2", len(got))
	}
	for i := range int64(mostLeaves) {
		l.add(10+3*i, one)
	}
	if got := l.take(l.behind, 1<<20); len(got) == 0 || len(got) > mostLeaves {
		t.Errorf("got %d hashes, want at most %d", len(got), mostLeaves)
	}
}
