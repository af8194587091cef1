package store

import (
	"context"
	"sync"

	"scimgate/gateway/audit"
)

// leaves are the hashes of the newest durable records: who signs the trail need not read again what was just written.
// What is not there is read from the trail.
type leaves struct {
	mu     sync.Mutex
	behind int64 // seq of the record before the first
	hashes []audit.Hash
}

// mostLeaves bounds the hashes that are kept while nobody signs: half a MiB.
const mostLeaves = 1 << 14

// add takes the hashes of the records behind a place.
func (l *leaves) add(behind int64, hashes []audit.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.behind+int64(len(l.hashes)) != behind || len(l.hashes)+len(hashes) > mostLeaves {
		l.behind, l.hashes = behind, l.hashes[:0]
	}
	l.hashes = append(l.hashes, hashes...)
}

// take returns the hashes of the records behind a place, at most limit of them, and forgets those before. There are none
// when the first is not among those that are kept.
func (l *leaves) take(behind int64, limit int) []audit.Hash {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := behind - l.behind
	if from < 0 || from >= int64(len(l.hashes)) {
		return nil
	}
	l.behind, l.hashes = behind, l.hashes[from:]
	return append([]audit.Hash(nil), l.hashes[:min(limit, len(l.hashes))]...)
}

// Leaves calls each for the hashes of the durable records behind place after, in the order of their places, for at most
// limit of them. Its error ends that and is returned.
func (s *Store) Leaves(ctx context.Context, after int64, limit int, each func(seq int64, leaf audit.Hash) error) error {
	kept := s.leaves.take(after, limit)
	for i, leaf := range kept {
		if err := each(after+int64(i)+1, leaf); err != nil {
			return err
		}
	}
	if len(kept) > 0 {
		return nil
	}
	return s.Records(ctx, after, limit, func(seq int64, record []byte) error { return each(seq, audit.LeafHash(record)) })
}
