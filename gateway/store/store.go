// Package store keeps the trail, the identity map and the wrapped keys of sealed values on disk, in one SQLite file.
//
// What it promises: when Append, Intend, Conclude or Reconciled return without error, the record, its place in the
// trail and the changes that came with it are durable together, through power failure. Records are numbered 1..n
// without gaps in the order in which they became durable, and their bytes are kept exactly. An intent has exactly one
// record that closes it. What returns an error may be durable all the same where the method's comment says so, and then
// the store itself brings the trail back into order.
//
// One goroutine writes. Callers hand their work over and wait; the writer takes everything that waits into one
// transaction and one sync of the write-ahead log, so that the cost of durability is shared. Readers have connections
// of their own, see everything that was acknowledged, and neither wait for the writer nor hold it up.
//
// The package does not know what a record means, when an intent is due or how one is reconciled (gateway), nor how
// values are redacted (gateway/audit): records arrive redacted. It is the only importer of modernc.org/sqlite.
package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"scimgate/gateway/audit"
)

// Config says how to open a Store.
type Config struct {
	// Path of the database file. Its folder must exist; the file is created when it does not. Beside it appear
	// PATH.lock, PATH-wal and PATH-shm. It must be on a local disk.
	Path string
	// Clock gives the time of records that have none, of leases and of identity entries. It is called from several
	// goroutines at once. Default time.Now.
	Clock func() time.Time
	// Boot is the id of this process, written into its intents. Default 16 random hex digits. It must differ from that
	// of every earlier process.
	Boot string
	// Lease is how long an intent stays its process's own. Default 30 s.
	Lease time.Duration
	// CommitTimeout bounds the wait for an intent to become durable, and how long a commit may take before Healthy
	// reports it. Default 2 s.
	CommitTimeout time.Duration
	// Logger hears of failing and recovering writes and of intents that were taken over. Default none.
	Logger *slog.Logger
}

// Store is an open database, for reading and writing. Its methods are safe for concurrent use.
type Store struct {
	Reader

	clock         func() time.Time
	boot          string
	lease         time.Duration
	commitTimeout time.Duration
	log           *slog.Logger

	lock    *fileLock
	queue   chan *item
	wake    chan struct{} // tells an idle writer that owed has grown
	closing chan struct{} // closed by Close: no new work
	stopped chan struct{} // closed by the writer when it has ended
	close   sync.Once
	ended   error // what Close returns

	mu   sync.Mutex
	owed []*work // what must still be stored although nobody waits for it, oldest first; guarded by mu

	failure    atomic.Pointer[error] // of the last commit; nil when it succeeded
	logHolds   atomic.Bool           // the write-ahead log may hold keys that were destroyed: see EmptyLog
	committing atomic.Int64          // when the running commit began, Unix microseconds; 0 when none runs

	leaves leaves // of the newest records
	owners owners // of the keys of persons
	writer writer // touched by the writer's goroutine only
}

// Open opens the database, creates it when there is none, and migrates it to this program's schema. It refuses a
// database that another Store or process holds (ErrLocked), that is damaged, that belongs to another program or to a
// newer version of this one; the error then says what to do, and no file was changed.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, exists, err := resolve(cfg.Path)
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(path + ".lock")
	if errors.Is(err, ErrLocked) {
		return nil, fmt.Errorf("database %s: %w", path, err)
	} else if err != nil {
		return nil, explainFile(path, err)
	}
	s := &Store{
		clock: cfg.Clock, boot: cfg.Boot, lease: cfg.Lease, commitTimeout: cfg.CommitTimeout, log: cfg.Logger,
		lock:  lock,
		queue: make(chan *item, queueSize), wake: make(chan struct{}, 1),
		closing: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.setDefaults()
	if err := s.open(ctx, path, exists); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	go s.run()
	return s, nil
}

func (s *Store) setDefaults() {
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.boot == "" {
		var random [8]byte
		rand.Read(random[:])
		s.boot = hex.EncodeToString(random[:])
	}
	if s.lease == 0 {
		s.lease = 30 * time.Second
	}
	if s.commitTimeout == 0 {
		s.commitTimeout = 2 * time.Second
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
}

// open does what needs the lock.
func (s *Store) open(ctx context.Context, path string, exists bool) error {
	if exists {
		// Looked at read-only first: closing a writing connection would move the -wal into a file that may be damaged.
		if err := inspect(path); err != nil {
			return explain(path, err)
		}
	} else if err := create(path); err != nil {
		return err
	}
	c, err := dial(dsn(path, modeReadWrite))
	if err != nil {
		return explain(path, err)
	}
	s.writer.conn = c
	err = prepare(c)
	if err == nil {
		err = migrate(c)
	}
	if err == nil {
		err = s.writer.init()
	}
	if err == nil {
		err = s.owners.load(c)
	}
	if err == nil && s.writer.truncateLog() != nil { // a process that was killed may have left there what it had destroyed
		s.logHolds.Store(true)
	}
	if err == nil {
		err = s.Reader.open(ctx, path, modeReadOnly)
	}
	if err != nil {
		return explain(path, errors.Join(err, s.writer.end()))
	}
	return nil
}

func inspect(path string) error {
	c, err := dial(dsn(path, modeReadOnly))
	if err != nil {
		return err
	}
	return errors.Join(check(c, path), c.Close())
}

// Boot returns the id of this process, as it stands in the records.
func (s *Store) Boot() string { return s.boot }

// Healthy returns nil while writes succeed. After a failed commit it returns its error until a later commit succeeds;
// the writer tries one every second by itself, because an instance that is taken out of service sees no others. It also
// reports a commit that has been waiting for the disk for longer than CommitTimeout.
func (s *Store) Healthy() error {
	select {
	case <-s.closing:
		return ErrClosed
	default:
	}
	if failure := s.failure.Load(); failure != nil {
		return *failure
	}
	if began := s.committing.Load(); began != 0 {
		if waited := s.clock().Sub(time.UnixMicro(began)); waited > s.commitTimeout {
			return fmt.Errorf("database %s: a commit has been waiting for the disk for %v: look into the system's log and at the disk's load", s.path, waited.Round(time.Millisecond))
		}
	}
	return nil
}

// Close stores what was handed over before, moves the write-ahead log into the database file and releases the lock.
// Work that arrives meanwhile gets ErrClosed. A hung disk hangs Close as well.
func (s *Store) Close() error {
	s.close.Do(func() {
		close(s.closing)
		<-s.stopped
		if n := len(s.owed); n > 0 { // the writer is gone: no need for mu
			s.ended = fmt.Errorf("database %s: outcomes that could not be stored: %d; the next start closes their intents as unknown", s.path, n)
		}
		s.ended = errors.Join(s.ended, s.Reader.Close())
		_, err := s.writer.conn.get(`PRAGMA wal_checkpoint(TRUNCATE)`) // also when a reader elsewhere keeps the log alive
		s.ended = errors.Join(s.ended, explain(s.path, err), explain(s.path, s.writer.end()), s.lock.Close())
	})
	return s.ended
}

// seal completes what the caller left to the store.
func (s *Store) seal(rec *audit.Record) {
	rec.V = audit.Version
	if rec.Time.IsZero() {
		rec.Time = s.clock()
	}
	rec.Time = rec.Time.UTC().Truncate(time.Microsecond)
	if rec.ID == "" {
		var random [8]byte
		rand.Read(random[:])
		rec.ID = audit.NewID(rec.Time, random)
	}
	if rec.Boot == "" {
		rec.Boot = s.boot
	}
}
