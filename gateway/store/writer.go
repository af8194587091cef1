package store

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

const (
	queueSize  = 1024            // work that may wait; more than the gateway admits at once
	batchSize  = 256             // most records in one transaction
	batchBytes = 8 << 20         // most bytes of records in one transaction, but for the last
	yields     = 16              // how often those who are about to hand work over are let before: see gather
	stretch    = 256             // records that are indexed together; a search reads fewer than a batch more without
	busyAfter  = 64              // commits after which the write-ahead log is worth its full length
	maxRecord  = 1 << 20         // largest record, in bytes of JSON
	retryEvery = 1 * time.Second // pause between attempts while commits fail
)

// work is what one transaction stores together: one record and what belongs to it. It holds no memory of the caller's,
// because it may outlive the caller's wait; once it was handed over, only the writer touches it.
type work struct {
	record  []byte              // audit.HeadRoom free bytes, then the record's body
	columns [13]driver.Value    // for sqlInsertRecord; the first and the last are filled when the place is known
	closes  int64               // the open intent that the record closes, and that must be open; 0 for none
	how     closing             // what becomes of its row
	opens   []driver.NamedValue // for sqlOpenIntent, for an intent; the first is filled when the place is known
	changes []change
	words   []word        // of the record
	keys    *keyChange    // of persons; without a record to truncate the write-ahead log
	prune   *span         // records to be removed; nothing else is set
	cursor  *cursorChange // of a sink, which is no record: nothing else is set
	tree    *treeChange   // of a checkpoint, which is no record: nothing else is set
}

// closing says what an open intent's row must be, and what becomes of it.
type closing int

const (
	withOutcome closing = iota // not yet closed: delete it
	asUnknown                  // not yet closed: mark it
	reconciled                 // marked: delete it
)

// change is one write to the identity map, as the arguments of its statement.
type change struct {
	put  bool
	args []driver.NamedValue // for sqlPutIdentity the last is the place of the record
}

// owedAnyway says that the work must be stored even when its caller was told of an error: it closes an intent, and
// nothing else would until the process ends.
func (w *work) owedAnyway() bool { return w.closes != 0 }

// item is work with somebody waiting for it. Its state settles the race between a caller that gives up and the writer:
// only the writer moves an item from waiting to taken, only the caller to left.
type item struct {
	*work
	state atomic.Int32
	done  chan struct{} // closed when seq and err are final
	seq   int64
	err   error
}

const (
	waiting  int32 = iota
	taken          // in a transaction that may or may not become durable
	finished       // seq and err are final
	left           // nobody waits any more
)

// writer is the state of the writer's goroutine.
type writer struct {
	conn    *conn
	head    int64 // seq of the last durable record; -1 when it, indexed and block must be read again
	indexed int64 // seq of the last record that searches find by index
	block   block // the words of the records behind the last complete block
	commits int   // since the write-ahead log was empty
	thinned int64 // when checkpoints were last thinned out, Unix microseconds

	args   [13]driver.NamedValue // for sqlInsertRecord, used anew by every record
	hashes []audit.Hash          // of the batch's records
	owned  []owned               // of the batch's keys

	unowned map[string]int64 // places of keys that were stored before it was known whose they are, by id

	begin, commit, rollback, readHead, readIndexed, insert, openIntent *stmt
	closeIntent, markUnknown, putIdentity, deleteIdentity, probe       *stmt
	putCursor, dropCursor, putWord, wordSource                         *stmt
	putTile, putCheckpoint, thinCheckpoints                            *stmt
	index                                                              []*stmt // sqlIndex
	putKey, putOwner, rewrapKey                                        *stmt
	stmts                                                              []*stmt // all of them
}

// init prepares the statements on the writer's connection.
func (w *writer) init() (err error) {
	w.index, w.unowned = make([]*stmt, len(sqlIndex)), map[string]int64{}
	for i := range w.args {
		w.args[i].Ordinal = i + 1
	}
	type prepared struct {
		stmt  **stmt
		query string
	}
	all := []prepared{
		{&w.begin, `BEGIN IMMEDIATE`}, {&w.commit, `COMMIT`}, {&w.rollback, `ROLLBACK`},
		{&w.readHead, sqlHead}, {&w.readIndexed, sqlIndexed}, {&w.insert, sqlInsertRecord},
		{&w.openIntent, sqlOpenIntent}, {&w.closeIntent, sqlCloseIntent}, {&w.markUnknown, sqlMarkUnknown},
		{&w.putIdentity, sqlPutIdentity}, {&w.deleteIdentity, sqlDeleteIdentity}, {&w.probe, sqlPutMeta},
		{&w.putCursor, sqlPutCursor}, {&w.dropCursor, sqlDropCursor}, {&w.putWord, sqlPutWord}, {&w.wordSource, sqlWordSource},
		{&w.putKey, sqlPutKey}, {&w.putOwner, sqlPutOwner}, {&w.rewrapKey, sqlRewrapKey},
		{&w.putTile, sqlPutTile}, {&w.putCheckpoint, sqlPutCheckpoint}, {&w.thinCheckpoints, sqlThinCheckpoints},
	}
	for i, query := range sqlIndex {
		all = append(all, prepared{&w.index[i], query})
	}
	for _, p := range all {
		if *p.stmt, err = w.conn.prepare(p.query); err != nil {
			return err
		}
		w.stmts = append(w.stmts, *p.stmt)
	}
	w.head, w.indexed, err = w.reload()
	return err
}

// reload reads what the writer knows of the trail.
func (w *writer) reload() (head, indexed int64, err error) {
	if head, err = w.readHead.number(); err == nil {
		indexed, err = w.readIndexed.number()
	}
	if err == nil {
		err = w.block.load(w.wordSource, head)
	}
	return head, indexed, err
}

// end closes the connection. If it is the last on the database, SQLite moves the write-ahead log into the file and
// removes the -wal and -shm files, but only when no statement is left.
func (w *writer) end() error {
	var err error
	for _, s := range w.stmts {
		err = errors.Join(err, s.raw.Close())
	}
	return errors.Join(err, w.conn.Close())
}

// drafts are buffers that records are written in before their length is known.
var drafts = sync.Pool{New: func() any { return new([]byte) }}

var headRoom [audit.HeadRoom]byte

// newWork encodes a record and its changes, on the caller's goroutine.
func (s *Store) newWork(rec *audit.Record, changes []identity.Change) (*work, error) {
	s.seal(rec)
	draft := drafts.Get().(*[]byte)
	*draft = audit.AppendBody(append((*draft)[:0], headRoom[:]...), rec)
	w := &work{record: bytes.Clone(*draft)}
	drafts.Put(draft)
	w.words, w.keys = wordsOf(rec), newKeyChange(rec.Key)
	if len(w.record) > maxRecord {
		return nil, fmt.Errorf("a record of %d bytes is larger than the trail takes (%d): clip what comes from outside", len(w.record), maxRecord)
	}
	w.columns = [13]driver.Value{
		1: rec.Time.UnixMicro(), 2: rec.Kind, 3: optional(rec.Action), 5: optional(rec.RequestID),
		6: optional(rec.Connection), 7: optional(rec.Credential),
	}
	for i, name := range [...]string{rec.Subject.ID, rec.Subject.UserName, rec.Subject.ExternalID} {
		if name = identity.FoldKey(name); name == "" {
			continue
		}
		w.columns[8+i] = name
		if w.columns[11] == nil {
			w.columns[11] = name
		}
	}
	if rec.Answer.Status != 0 {
		w.columns[4] = int64(rec.Answer.Status)
	}
	for _, c := range changes {
		one, err := s.newChange(c)
		if err != nil {
			return nil, err
		}
		w.changes = append(w.changes, one)
	}
	return w, nil
}

func (s *Store) newChange(c identity.Change) (change, error) {
	var key identity.Key
	switch {
	case (c.Put == nil) == (c.Delete == nil):
		return change{}, errors.New("a change of the identity map must either put or delete")
	case c.Put != nil:
		key = c.Put.Key()
	default:
		key = *c.Delete
	}
	if key.Upstream == "" || key.ResourceType == "" || key.ID == "" {
		return change{}, fmt.Errorf("a change of the identity map needs an upstream, a resource type and an id, not %q", key)
	}
	if c.Delete != nil {
		return change{args: bind(key.Upstream, key.ResourceType, key.ID)}, nil
	}
	e := c.Put
	updated := e.Updated
	if updated.IsZero() {
		updated = s.clock()
	}
	var externalID, kept driver.Value
	if e.HasExternalID {
		externalID = e.ExternalID
	}
	if len(e.Kept) > 0 {
		kept = append([]byte(nil), e.Kept...)
	}
	return change{put: true, args: bind(e.Upstream, e.ResourceType, e.ID, e.UserName, e.Sent, externalID, kept, updated.UnixMicro(),
		identity.FoldKey(e.UserName), identity.FoldKey(e.UpstreamName()), nil)}, nil
}

// submit hands work to the writer. An error means that the writer will not see it.
func (s *Store) submit(ctx context.Context, w *work, limit <-chan time.Time) (*item, error) {
	it := &item{work: w, done: make(chan struct{})}
	select {
	case <-s.closing:
		return nil, ErrClosed
	default:
	}
	select {
	case s.queue <- it:
		return it, nil
	case <-s.closing:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNotDurable, context.Cause(ctx))
	case <-limit:
		return nil, fmt.Errorf("%w: the queue of the database is full", ErrNotDurable)
	}
}

// wait returns when the item is final or the caller's patience ends. In the latter case the item is certainly not
// stored if the writer had not taken it; if it had, the writer sees that nobody waits any more.
func (s *Store) wait(ctx context.Context, it *item, limit <-chan time.Time) error {
	var reason error
	select {
	case <-it.done:
		return it.err
	case <-ctx.Done():
		reason = context.Cause(ctx)
	case <-limit:
		reason = fmt.Errorf("the disk did not take it within %v", s.commitTimeout)
	case <-s.stopped:
		reason = ErrClosed
	}
	if it.owedAnyway() {
		select {
		case <-s.stopped: // it may have come after the writer's last look into the queue
			if !it.state.CompareAndSwap(waiting, left) {
				<-it.done
				return it.err
			}
		default: // it stays in the queue
		}
		return fmt.Errorf("%w: %w", ErrNotDurable, reason)
	}
	if it.state.CompareAndSwap(waiting, left) || it.state.CompareAndSwap(taken, left) {
		return fmt.Errorf("%w: %w", ErrNotDurable, reason)
	}
	<-it.done
	return it.err
}

// run is the writer.
func (s *Store) run() {
	defer close(s.stopped)
	for {
		batch, more := s.gather()
		if len(batch) > 0 || s.failure.Load() != nil {
			s.store(batch)
		}
		if !more {
			return
		}
	}
}

// gather waits for work and returns all that is there, what is owed first: that is older. Who could hand work over now,
// had he a processor, is let before: where processors are busy that makes fewer and larger transactions, and where they
// are idle it costs nothing. After Close it returns what is left, and more is false when that was the last.
func (s *Store) gather() (batch []*item, more bool) {
	failing := s.failure.Load() != nil
	batch = s.takeOwed()
	var first *item
	if len(batch) == 0 || failing {
		var retry <-chan time.Time
		if failing {
			timer := time.NewTimer(retryEvery)
			defer timer.Stop()
			retry = timer.C
		}
		select {
		case first = <-s.queue:
		case <-s.wake:
			batch = append(batch, s.takeOwed()...)
		case <-retry:
		case <-s.closing:
		}
	}
	size, yielded := 0, 0
	for it := first; ; {
		if it != nil && it.state.CompareAndSwap(waiting, taken) {
			batch = append(batch, it)
			size += len(it.record)
		}
		full := len(batch) >= batchSize || size >= batchBytes
		if !full {
			select {
			case it = <-s.queue:
				continue
			default:
			}
			if len(batch) > 0 && yielded < yields {
				yielded++
				it = nil
				runtime.Gosched()
				continue
			}
		}
		select {
		case <-s.closing: // while commits fail, one more attempt is all that Close waits for
			return batch, len(batch) > 0 && !failing
		default:
			return batch, true
		}
	}
}

// owe hands over work that must be stored although its caller no longer waits.
func (s *Store) owe(w *work) {
	s.mu.Lock()
	s.owed = append(s.owed, w)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// takeOwed returns what is owed as items without a waiter.
func (s *Store) takeOwed() (batch []*item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.owed {
		batch = append(batch, &item{work: w, done: make(chan struct{})})
	}
	s.owed = nil
	return batch
}

// store commits a batch and tells everybody what became of it. If the transaction failed, all of it did.
func (s *Store) store(batch []*item) {
	s.committing.Store(s.clock().UnixMicro())
	err := s.writer.transact(batch, s.clock)
	s.committing.Store(0)
	if s.writer.commits++; s.writer.commits == busyAfter {
		_ = extendLog(s.path) // without it a commit is slower, and no worse
	}
	before := s.failure.Load()
	if err != nil {
		err = explain(s.path, err)
		s.failure.Store(&err)
		if before == nil {
			s.log.Error("the trail cannot be written: writes are refused until it can", "error", err)
		}
	} else {
		s.owners.add(s.writer.owned)
		s.leaves.add(s.writer.head-int64(len(s.writer.hashes)), s.writer.hashes)
		s.failure.Store(nil)
		if before != nil {
			s.log.Info("the trail can be written again")
		}
	}
	var owed []*work
	for _, it := range batch {
		if err == nil && it.keys != nil && it.keys.truncate {
			it.err = s.writer.truncateLog()
		}
		if w := s.finish(it, err); w != nil {
			owed = append(owed, w)
		}
	}
	s.mu.Lock()
	s.owed = append(owed, s.owed...) // before what callers handed over meanwhile: conclusions keep their order
	s.mu.Unlock()
}

// finish makes an item final and returns the work that it leaves behind, if any.
func (s *Store) finish(it *item, failed error) (owed *work) {
	if failed != nil {
		it.err = fmt.Errorf("%w: %w", ErrNotDurable, failed)
		if it.owedAnyway() {
			owed = it.work
		}
	}
	gone := it.state.Swap(finished) == left
	close(it.done)
	if gone && it.opens != nil && it.err == nil {
		// The caller was told that the intent is not durable and sent nothing, but it is durable. It is closed before the
		// writer takes anything else.
		abandoned, err := s.abandon(it)
		if err != nil {
			s.log.Error("an intent that nobody waits for cannot be closed", "intent", it.seq, "error", err)
		}
		return abandoned
	}
	return owed
}

// transact stores a batch in one transaction. An item whose own condition does not hold gets its own error and leaves
// the others alone. An empty batch writes a mark, to learn whether writing works.
func (w *writer) transact(batch []*item, clock func() time.Time) (err error) {
	w.hashes, w.owned = w.hashes[:0], w.owned[:0]
	if _, err := w.begin.exec(nil); err != nil {
		return err
	}
	head, indexed := w.head, w.indexed
	defer func() {
		if err != nil {
			w.head = -1
			clear(w.unowned)
			w.rollback.exec(nil) // fails when SQLite has rolled back by itself
			return
		}
		w.head, w.indexed = head, indexed
	}()
	if head < 0 {
		if head, indexed, err = w.reload(); err != nil {
			return err
		}
	}
	for _, it := range batch {
		if head, err = w.apply(it, head); err != nil {
			return err
		}
	}
	if len(batch) == 0 {
		if _, err := w.probe.exec(bind("probe", clock().UTC().Format(time.RFC3339Nano))); err != nil {
			return err
		}
	}
	if head-indexed >= stretch {
		for _, s := range w.index {
			if _, err = s.exec(bind(indexed+1, head)); err != nil {
				return err
			}
		}
		indexed = head
	}
	_, err = w.commit.exec(nil)
	return err
}

// apply stores one item and returns the new head. The item's condition comes first, so that there is nothing to undo
// when it does not hold.
func (w *writer) apply(it *item, head int64) (int64, error) {
	if it.cursor != nil {
		return head, w.changeCursor(it.cursor)
	}
	if it.prune != nil {
		return head, w.pruneRows(*it.prune)
	}
	if it.keys != nil && it.keys.truncate {
		return head, nil // when the transaction is over
	}
	if it.tree != nil {
		return head, w.putTree(it.tree)
	}
	if it.closes != 0 {
		closed, err := w.close(it.work)
		if err != nil {
			return head, err
		}
		if closed == 0 {
			it.err = fmt.Errorf("intent %d: %w", it.closes, ErrNotOpen)
			return head, nil
		}
	}
	seq := head + 1
	if err := w.insertRecord(it.work, seq); err != nil {
		return head, err
	}
	if it.keys != nil {
		if err := w.changeKeys(it.keys); err != nil {
			return head, err
		}
	}
	if err := w.block.add(seq, it.words, w.putWord); err != nil {
		return head, err
	}
	if it.opens != nil {
		it.opens[0].Value = seq
		if _, err := w.openIntent.exec(it.opens); err != nil {
			return head, err
		}
	}
	for _, c := range it.changes {
		stmt := w.deleteIdentity
		if c.put {
			stmt = w.putIdentity
			c.args[len(c.args)-1].Value = seq
		}
		if _, err := stmt.exec(c.args); err != nil {
			return head, err
		}
	}
	it.seq = seq
	return seq, nil
}

// bytes returns the record as it stands at a place in the trail: the head is written in front of the body.
func (w *work) bytes(seq int64) []byte {
	var room [audit.HeadRoom]byte
	head := audit.AppendHead(room[:0], seq)
	start := audit.HeadRoom - len(head)
	copy(w.record[start:], head)
	return w.record[start:]
}

func (w *writer) insertRecord(work *work, seq int64) error {
	for i, v := range work.columns {
		w.args[i].Value = v
	}
	record := work.bytes(seq)
	w.args[0].Value, w.args[len(w.args)-1].Value = seq, record
	w.hashes = append(w.hashes, audit.LeafHash(record))
	_, err := w.insert.exec(w.args[:])
	return err
}

// close changes the row of the intent that work closes, and returns 0 when the row is not as it must be.
func (w *writer) close(work *work) (int64, error) {
	switch work.how {
	case asUnknown:
		return w.markUnknown.exec(bind(work.closes))
	case reconciled:
		return w.closeIntent.exec(bind(work.closes, int64(1)))
	}
	return w.closeIntent.exec(bind(work.closes, int64(0)))
}
