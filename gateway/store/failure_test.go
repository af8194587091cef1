package store

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

// hold takes SQLite's write lock from outside: commits wait for it until release, as they would for a hung disk, and
// fail when the writer's busy_timeout ends.
func hold(t *testing.T, s *Store) (release func()) {
	t.Helper()
	c, err := dial(dsn(s.path, modeReadWrite))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.exec(`BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	released := false
	release = func() {
		if released {
			return
		}
		released = true
		if err := errors.Join(c.exec(`ROLLBACK`), c.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(release)
	return release
}

// pragma sets up the writer's connection. The store must be idle.
func pragma(t *testing.T, s *Store, text string) {
	t.Helper()
	if err := s.writer.conn.exec(`PRAGMA ` + text); err != nil {
		t.Fatal(err)
	}
}

// An intent that the disk takes too late is refused in time, and closed by the store once it is durable after all. One
// that never reached the disk leaves nothing.
func TestIntentTooLate(t *testing.T) {
	s := mustOpen(t, Config{})
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	taken, gaveUp := &audit.Record{RequestID: "taken", Connection: "c"}, make(chan error, 1)
	s.commitTimeout = time.Minute // for this one: it must have reached the disk before its caller gives up
	go func() {
		_, err := s.Intend(ctx, taken, OpenIntent{RequestID: "taken"})
		gaveUp <- err
	}()
	for s.committing.Load() == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-gaveUp; !errors.Is(err, ErrNotDurable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want %v", err, ErrNotDurable)
	}
	s.commitTimeout = 20 * time.Millisecond
	if _, err := s.Intend(t.Context(), &audit.Record{RequestID: "waiting"}, OpenIntent{}); !errors.Is(err, ErrNotDurable) || !strings.Contains(err.Error(), "within 20ms") {
		t.Fatalf("got %v, want %v within 20 ms", err, ErrNotDurable)
	}
	*taken = audit.Record{} // the caller's memory is its own again
	release()
	mustAppend(t, s, &audit.Record{Kind: audit.Event})
	if got, want := story(t, &s.Reader), "intent outcome:abandoned(1) event"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	rec, err := s.Get(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if rec.RequestID != "taken" || rec.Connection != "c" {
		t.Errorf("the abandoned outcome is %+v, want the intent's request", rec)
	}
	wantStats(t, &s.Reader, Stats{Records: 3})
}

// A conclusion that could not be stored is stored as soon as writing works again, before later work and only once.
func TestConclusionIsOwed(t *testing.T) {
	log, lines := newLog()
	s := mustOpen(t, Config{Logger: log})
	first, second := mustIntend(t, s, OpenIntent{}), mustIntend(t, s, OpenIntent{})
	pragma(t, s, `busy_timeout = 1`)
	release := hold(t, s)

	entry := identity.Entry{Upstream: "u", ResourceType: "User", ID: "1", UserName: "old"}
	if _, err := s.Conclude(t.Context(), &audit.Record{Intent: first, Action: audit.Created}, identity.Change{Put: &entry}); !errors.Is(err, ErrNotDurable) {
		t.Fatalf("got %v, want %v", err, ErrNotDurable)
	}
	entry.UserName = "new" // later, and not what was concluded first
	if _, err := s.Conclude(t.Context(), &audit.Record{Intent: second, Action: audit.Renamed}, identity.Change{Put: &entry}); !errors.Is(err, ErrNotDurable) {
		t.Fatalf("got %v, want %v", err, ErrNotDurable)
	}
	if _, err := s.Append(t.Context(), &audit.Record{}); !errors.Is(err, ErrNotDurable) {
		t.Fatalf("got %v, want %v", err, ErrNotDurable)
	}
	if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), s.path) || !strings.Contains(err.Error(), "another program is writing") {
		t.Errorf("Healthy: got %v, want the file and what is wrong", err)
	}
	if got, want := <-lines, "the trail cannot be written: writes are refused until it can"; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
	release()
	if got, want := <-lines, "the trail can be written again"; got != want { // without anybody asking
		t.Errorf("logged %q, want %q", got, want)
	}
	mustAppend(t, s, &audit.Record{Kind: audit.Event})
	if err := s.Healthy(); err != nil {
		t.Errorf("Healthy: %v", err)
	}
	if got, want := story(t, &s.Reader), "intent intent outcome:created(1) outcome:renamed(2) event"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if e, _, _ := s.ByID(t.Context(), entry.Key()); e.UserName != "new" {
		t.Errorf("the map has %q, want the later change", e.UserName)
	}
	if _, err := s.Conclude(t.Context(), &audit.Record{Intent: first}); !errors.Is(err, ErrNotOpen) {
		t.Errorf("got %v, want %v", err, ErrNotOpen)
	}
}

// A caller that stops waiting for a conclusion does not take it back.
func TestConclusionOutlivesItsCaller(t *testing.T) {
	s := mustOpen(t, Config{})
	intent := mustIntend(t, s, OpenIntent{})
	release := hold(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.Conclude(ctx, &audit.Record{Intent: intent}); !errors.Is(err, ErrNotDurable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want %v", err, ErrNotDurable)
	}
	release()
	mustAppend(t, s, &audit.Record{Kind: audit.Event})
	if got, want := story(t, &s.Reader), "intent outcome(1) event"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What is owed when the store is closed is tried once more, and counted if that fails; the next start takes it over.
func TestCloseWithDebts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s, err := Open(t.Context(), Config{Path: path, Boot: "one"})
	if err != nil {
		t.Fatal(err)
	}
	const intents = batchSize + 44 // more than one batch
	inParallel(intents, func(int64) {
		if _, err := s.Intend(t.Context(), &audit.Record{}, OpenIntent{}); err != nil {
			t.Error(err)
		}
	})
	pragma(t, s, `busy_timeout = 1`)
	release := hold(t, s)
	inParallel(intents, func(i int64) {
		if _, err := s.Conclude(t.Context(), &audit.Record{Intent: i}); !errors.Is(err, ErrNotDurable) {
			t.Errorf("got %v, want %v", err, ErrNotDurable)
		}
	})
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "outcomes that could not be stored: 300") {
		t.Errorf("Close: got %v, want the number of outcomes that are lost", err)
	}
	release()
	next := mustOpen(t, Config{Path: path, Boot: "two"})
	taken, err := next.TakeOver(t.Context())
	if err != nil || len(taken) != intents {
		t.Errorf("took over %d, %v, want %d", len(taken), err, intents)
	}
	if got, want := len(trail(t, &next.Reader)), 2*intents; got != want {
		t.Errorf("got %d records, want %d", got, want)
	}
}

// inParallel calls call with 1 to n at once.
func inParallel(n int64, call func(i int64)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { call(i + 1) })
	}
	wg.Wait()
}

func TestHealthyNoticesAHungCommit(t *testing.T) {
	var now atomic.Int64
	now.Store(1_700_000_000)
	s := mustOpen(t, Config{Clock: func() time.Time { return time.Unix(now.Load(), 0) }})
	release := hold(t, s)
	done := make(chan error, 1)
	go func() {
		_, err := s.Append(context.Background(), &audit.Record{})
		done <- err
	}()
	for s.committing.Load() == 0 {
		runtime.Gosched()
	}
	if err := s.Healthy(); err != nil {
		t.Errorf("Healthy at once: %v", err)
	}
	now.Add(3)
	if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "waiting for the disk for 3s") {
		t.Errorf("Healthy after 3 s: got %v", err)
	}
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Healthy(); err != nil {
		t.Errorf("Healthy afterwards: %v", err)
	}
}

// PRAGMA max_page_count stands in for a full disk: SQLite reports both alike.
func TestFull(t *testing.T) {
	s := mustOpen(t, Config{})
	path := s.path
	mustAppend(t, s, &audit.Record{})
	pragma(t, s, `max_page_count = 60`)
	var err error
	stored := 1
	for ; stored < 1000; stored++ {
		if _, err = s.Append(t.Context(), benchRecord(int64(stored))); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrNotDurable) || !strings.Contains(err.Error(), "is full: free some space") || !strings.Contains(err.Error(), path) {
		t.Fatalf("after %d records: got %v, want the file, and that the disk is full", stored, err)
	}
	if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "is full") {
		t.Errorf("Healthy: got %v", err)
	}
	if _, err := s.Intend(t.Context(), &audit.Record{Error: strings.Repeat("x", 100_000)}, OpenIntent{}); !errors.Is(err, ErrNotDurable) {
		t.Errorf("Intend: got %v, want %v", err, ErrNotDurable)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, Config{Path: path})
	if got := len(trail(t, &again.Reader)); got != stored {
		t.Errorf("got %d records, %d were acknowledged", got, stored)
	}
	if seq := mustAppend(t, again, &audit.Record{}); seq != int64(stored)+1 {
		t.Errorf("the next record is %d, want %d: a failed commit burns no number", seq, stored+1)
	}
	wantStats(t, &again.Reader, Stats{Records: int64(stored) + 1})
}
