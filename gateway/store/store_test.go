package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

// mustOpen opens a store that is closed when the test ends.
func mustOpen(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "gate.db")
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// mustAppend stores one record.
func mustAppend(t testing.TB, s *Store, rec *audit.Record, changes ...identity.Change) int64 {
	t.Helper()
	seq, err := s.Append(t.Context(), rec, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// mustIntend stores one intent.
func mustIntend(t testing.TB, s *Store, open OpenIntent) int64 {
	t.Helper()
	seq, err := s.Intend(t.Context(), &audit.Record{RequestID: open.RequestID}, open)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// trail reads all records and checks that they are numbered 1..n and are the exact bytes that audit.Append writes.
func trail(t testing.TB, r *Reader) []*audit.Record {
	t.Helper()
	var all []*audit.Record
	for rec, err := range r.Search(context.Background(), audit.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
		if got, want := rec.Seq, int64(len(all)); got != want {
			t.Fatalf("the trail has record %d at place %d", got, want)
		}
		var line []byte
		if err := r.getRecord.QueryRow(rec.Seq).Scan(&line); err != nil {
			t.Fatal(err)
		}
		if want := audit.Append(nil, rec); !bytes.Equal(line, want) {
			t.Fatalf("stored bytes:\n got %s\nwant %s", line, want)
		}
	}
	return all
}

// story is the trail in short: kind:action(intent) of each record.
func story(t testing.TB, r *Reader) string {
	t.Helper()
	var words []string
	for _, rec := range trail(t, r) {
		word := rec.Kind
		if rec.Action != "" {
			word += ":" + rec.Action
		}
		if rec.Intent != 0 {
			word += fmt.Sprintf("(%d)", rec.Intent)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func wantStats(t testing.TB, r *Reader, want Stats) {
	t.Helper()
	got, err := r.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if want.Newest = want.Records; got != want { // nothing was pruned
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func percentile(d []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[(len(sorted)-1)*p/100]
}

func TestAppend(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	s := mustOpen(t, Config{Clock: func() time.Time { return at }, Boot: "boot-1"})
	rec := benchRecord(1)
	if got := mustAppend(t, s, rec); got != 1 || rec.Seq != 1 {
		t.Errorf("first record: got %d and Seq %d, want 1", got, rec.Seq)
	}
	if rec.V != 1 || rec.Kind != audit.Outcome || rec.Boot != "boot-1" || len(rec.ID) != 36 || !rec.Time.Equal(at.Truncate(time.Microsecond)) || rec.Time.Location() != time.UTC {
		t.Errorf("the store did not complete the record: %+v", rec)
	}
	mustAppend(t, s, &audit.Record{Kind: audit.Event, ID: "mine", Time: at.Add(time.Hour), Boot: "other"})
	got, err := s.Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, rec) {
		t.Errorf("got %+v, want %+v", got, rec)
	}
	if got, err := s.Get(t.Context(), 2); err != nil || got.ID != "mine" || got.Boot != "other" {
		t.Errorf("got %+v, %v; what the caller set must stay", got, err)
	}
	if _, err := s.Get(t.Context(), 3); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want %v", err, ErrNotFound)
	}
	wantStats(t, &s.Reader, Stats{Records: 2})
}

func TestAppendRefuses(t *testing.T) {
	s := mustOpen(t, Config{})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	entry := identity.Entry{Upstream: "u", ResourceType: "User", ID: "1"}
	for _, tt := range []struct {
		name    string
		ctx     context.Context
		rec     audit.Record
		changes []identity.Change
		want    string
	}{
		{"intent", t.Context(), audit.Record{Kind: audit.Intent}, nil, "needs Intend"},
		{"closing", t.Context(), audit.Record{Kind: audit.Outcome, Intent: 1}, nil, "needs Intend"},
		{"huge", t.Context(), audit.Record{Error: strings.Repeat("x", maxRecord)}, nil, "larger than the trail takes"},
		{"empty change", t.Context(), audit.Record{}, []identity.Change{{}}, "either put or delete"},
		{"double change", t.Context(), audit.Record{}, []identity.Change{{Put: &entry, Delete: &identity.Key{}}}, "either put or delete"},
		{"no id", t.Context(), audit.Record{}, []identity.Change{{Put: &identity.Entry{Upstream: "u", ResourceType: "User"}}}, "needs an upstream, a resource type and an id"},
	} {
		_, err := s.Append(tt.ctx, &tt.rec, tt.changes...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.want)
		}
	}
	if seq, err := s.Append(cancelled, &audit.Record{}); err != nil && (!errors.Is(err, ErrNotDurable) || !errors.Is(err, context.Canceled)) {
		t.Errorf("cancelled: got %d, %v", seq, err)
	}
	mustAppend(t, s, &audit.Record{})
	trail(t, &s.Reader) // whatever happened, the numbers are dense
}

func TestIntentAndOutcome(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := mustOpen(t, Config{Clock: func() time.Time { return at }, Boot: "b", Lease: time.Minute})
	seq := mustIntend(t, s, OpenIntent{RequestID: "r", Connection: "c", Upstream: "u", Op: "create", ResourceType: "User", Payload: []byte(`{"a":1}`)})
	wantStats(t, &s.Reader, Stats{Records: 1, Open: 1})

	entry := identity.Entry{Upstream: "u", ResourceType: "User", ID: "42", UserName: "alice"}
	done, err := s.Conclude(t.Context(), &audit.Record{Intent: seq, Action: audit.Created}, identity.Change{Put: &entry})
	if err != nil || done != 2 {
		t.Fatalf("got %d, %v", done, err)
	}
	if _, ok, err := s.ByID(t.Context(), entry.Key()); !ok || err != nil {
		t.Errorf("the entry that came with the outcome is not there: %v, %v", ok, err)
	}
	wantStats(t, &s.Reader, Stats{Records: 2})

	// One outcome for each intent, whatever is tried.
	for name, try := range map[string]func() (int64, error){
		"again":      func() (int64, error) { return s.Conclude(t.Context(), &audit.Record{Intent: seq}) },
		"as unknown": func() (int64, error) { return s.Conclude(t.Context(), &audit.Record{Kind: audit.Unknown, Intent: seq}) },
		"no intent":  func() (int64, error) { return s.Conclude(t.Context(), &audit.Record{Intent: 2}) },
		"in future":  func() (int64, error) { return s.Conclude(t.Context(), &audit.Record{Intent: 99}) },
		"reconciled": func() (int64, error) { return s.Reconciled(t.Context(), &audit.Record{Intent: seq}) },
		"with change": func() (int64, error) {
			return s.Conclude(t.Context(), &audit.Record{Intent: seq}, identity.Change{Delete: new(entry.Key())})
		},
	} {
		if _, err := try(); !errors.Is(err, ErrNotOpen) {
			t.Errorf("%s: got %v, want %v", name, err, ErrNotOpen)
		}
	}
	for _, rec := range []audit.Record{{}, {Kind: audit.Event, Intent: 1}, {Intent: -1}} {
		if _, err := s.Conclude(t.Context(), &rec); err == nil || errors.Is(err, ErrNotOpen) {
			t.Errorf("Conclude(%+v): got %v, want a refusal", rec, err)
		}
	}
	if _, ok, _ := s.ByID(t.Context(), entry.Key()); !ok {
		t.Error("a refused conclusion changed the identity map")
	}
	if got, want := story(t, &s.Reader), "intent outcome:created(1)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// An intent whose answer was lost while its process lives is closed as unknown and waits for reconciliation.
func TestUnknown(t *testing.T) {
	s := mustOpen(t, Config{})
	seq := mustIntend(t, s, OpenIntent{RequestID: "r", Payload: []byte("{}")})
	if _, err := s.Reconciled(t.Context(), &audit.Record{Intent: seq}); !errors.Is(err, ErrNotOpen) {
		t.Errorf("reconciled while open: got %v, want %v", err, ErrNotOpen)
	}
	if _, err := s.Conclude(t.Context(), &audit.Record{Kind: audit.Unknown, Intent: seq}); err != nil {
		t.Fatal(err)
	}
	wantStats(t, &s.Reader, Stats{Records: 2, Unreconciled: 1})
	waiting, err := s.Unreconciled(t.Context())
	if err != nil || len(waiting) != 1 || waiting[0].Intent != seq || string(waiting[0].Payload) != "{}" {
		t.Errorf("got %+v, %v, want intent %d with its payload", waiting, err, seq)
	}
	for _, kind := range []string{audit.Outcome, audit.Unknown} {
		if _, err := s.Conclude(t.Context(), &audit.Record{Kind: kind, Intent: seq}); !errors.Is(err, ErrNotOpen) {
			t.Errorf("%s after unknown: got %v, want %v", kind, err, ErrNotOpen)
		}
	}
	if _, err := s.Reconciled(t.Context(), &audit.Record{Intent: seq}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reconciled(t.Context(), &audit.Record{Intent: seq}); !errors.Is(err, ErrNotOpen) {
		t.Errorf("reconciled twice: got %v, want %v", err, ErrNotOpen)
	}
	wantStats(t, &s.Reader, Stats{Records: 3})
	if got, want := story(t, &s.Reader), "intent unknown(1) reconciled(1)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// An item whose own condition does not hold must not cost its neighbours anything.
func TestRefusalLeavesNeighboursAlone(t *testing.T) {
	s := mustOpen(t, Config{})
	intent := mustIntend(t, s, OpenIntent{})
	var wg sync.WaitGroup
	var won, lost, stored atomic.Int64
	for i := range 64 {
		wg.Go(func() {
			if i%2 == 0 {
				_, err := s.Conclude(t.Context(), &audit.Record{Intent: intent})
				switch {
				case err == nil:
					won.Add(1)
				case errors.Is(err, ErrNotOpen):
					lost.Add(1)
				default:
					t.Error(err)
				}
				return
			}
			if _, err := s.Append(t.Context(), &audit.Record{}); err != nil {
				t.Error(err)
			}
			stored.Add(1)
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 31 || stored.Load() != 32 {
		t.Errorf("got %d conclusions, %d refused and %d others, want 1, 31 and 32", won.Load(), lost.Load(), stored.Load())
	}
	if got := len(trail(t, &s.Reader)); got != 34 {
		t.Errorf("got %d records, want 34", got)
	}
}

func TestParallelAppendsAreDense(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := map[int64]string{}
	for i := range 32 {
		wg.Go(func() {
			for j := range 20 {
				rec := benchRecord(int64(i*100 + j))
				if _, err := s.Append(t.Context(), rec); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ids[rec.Seq] = rec.ID
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(path + suffix); err == nil {
			t.Errorf("Close left %s behind", suffix)
		}
	}
	again := mustOpen(t, Config{Path: path})
	all := trail(t, &again.Reader)
	if len(all) != 640 {
		t.Errorf("got %d records, want 640", len(all))
	}
	for _, rec := range all {
		if ids[rec.Seq] != rec.ID {
			t.Fatalf("record %d has id %s, its writer was told it is %s", rec.Seq, rec.ID, ids[rec.Seq])
		}
	}
	if seq := mustAppend(t, again, &audit.Record{}); seq != 641 {
		t.Errorf("the first record after opening again is %d, want 641", seq)
	}
}

func TestTakeOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	old, err := Open(t.Context(), Config{Path: path, Boot: "old"})
	if err != nil {
		t.Fatal(err)
	}
	rec := &audit.Record{RequestID: "r1", Connection: "c", Credential: "k", Op: "create", ResourceType: "User", Subject: audit.Subject{UserName: "alice"}}
	open := OpenIntent{RequestID: "r1", Connection: "c", Upstream: "u", Op: "create", ResourceType: "User", ID: "", Payload: []byte(`{"x":1}`)}
	if _, err := old.Intend(t.Context(), rec, open); err != nil {
		t.Fatal(err)
	}
	closed := mustIntend(t, old, OpenIntent{RequestID: "r2"})
	if _, err := old.Conclude(t.Context(), &audit.Record{Intent: closed}); err != nil {
		t.Fatal(err)
	}
	mustIntend(t, old, OpenIntent{RequestID: "r3"})
	if taken, err := old.TakeOver(t.Context()); err != nil || len(taken) != 0 {
		t.Errorf("a process took over its own intents: %v, %v", taken, err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}

	s := mustOpen(t, Config{Path: path, Boot: "new"})
	mine := mustIntend(t, s, OpenIntent{RequestID: "r4"})
	var mu sync.Mutex
	var taken []OpenIntent
	var wg sync.WaitGroup
	for range 4 { // at once: each intent is taken over once
		wg.Go(func() {
			some, err := s.TakeOver(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			taken = append(taken, some...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(taken) != 2 || !taken[0].Unknown || !taken[1].Unknown {
		t.Fatalf("took over %+v, want intents 1 and 4 marked unknown", taken)
	}
	waiting, err := s.Unreconciled(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := open
	want.Intent, want.Boot, want.Unknown, want.Time, want.LeaseUntil = 1, "old", true, rec.Time, waiting[0].LeaseUntil
	if len(waiting) != 2 || !reflect.DeepEqual(waiting[0], want) || waiting[1].Intent != 4 {
		t.Errorf("got %+v, want %+v and intent 4", waiting, want)
	}
	if got := waiting[0].LeaseUntil.Sub(waiting[0].Time); got < 30*time.Second || got > 31*time.Second {
		t.Errorf("the lease was %v, want 30 s", got)
	}
	unknown, err := s.Last(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	first := unknown[slices.IndexFunc(unknown, func(r *audit.Record) bool { return r.Intent == 1 })]
	if first.Kind != audit.Unknown || first.Action != audit.Interrupted || first.RequestID != "r1" || first.Subject.UserName != "alice" || first.Boot != "new" || !strings.Contains(first.Error, "process old") {
		t.Errorf("intent 1 was closed by %+v", first)
	}
	if _, err := s.Conclude(t.Context(), &audit.Record{Intent: 1}); !errors.Is(err, ErrNotOpen) {
		t.Errorf("an outcome after unknown: got %v, want %v", err, ErrNotOpen)
	}
	if _, err := s.Reconciled(t.Context(), &audit.Record{Intent: mine}); !errors.Is(err, ErrNotOpen) {
		t.Errorf("reconciled before unknown: got %v, want %v", err, ErrNotOpen)
	}
	entry := identity.Entry{Upstream: "u", ResourceType: "User", ID: "9", UserName: "alice"}
	if _, err := s.Reconciled(t.Context(), &audit.Record{Intent: 1, Action: audit.Created}, identity.Change{Put: &entry}); err != nil {
		t.Fatal(err)
	}
	wantStats(t, &s.Reader, Stats{Records: 8, Open: 1, Unreconciled: 1})
	if got := story(t, &s.Reader); !strings.HasPrefix(got, "intent intent outcome(2) intent intent unknown:interrupted") || !strings.HasSuffix(got, "reconciled:created(1)") {
		t.Errorf("got %s", got)
	}
}

func TestClose(t *testing.T) {
	s := mustOpen(t, Config{})
	path := s.path
	var stored atomic.Int64
	var wg sync.WaitGroup
	started := make(chan struct{}, 16)
	for range 16 {
		wg.Go(func() {
			for {
				_, err := s.Append(context.Background(), &audit.Record{})
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				stored.Add(1)
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 16 {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := s.Healthy(); !errors.Is(err, ErrClosed) {
		t.Errorf("Healthy: got %v, want %v", err, ErrClosed)
	}
	if _, err := s.Intend(t.Context(), &audit.Record{}, OpenIntent{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Intend: got %v, want %v", err, ErrClosed)
	}
	if _, err := s.Conclude(t.Context(), &audit.Record{Intent: 1}); !errors.Is(err, ErrClosed) {
		t.Errorf("Conclude: got %v, want %v", err, ErrClosed)
	}
	again := mustOpen(t, Config{Path: path})
	if got := int64(len(trail(t, &again.Reader))); got != stored.Load() {
		t.Errorf("got %d records, %d were acknowledged", got, stored.Load())
	}
}

// logLines is a log handler that hands on the messages.
type logLines struct {
	slog.Handler
	lines chan string
}

func newLog() (*slog.Logger, chan string) {
	lines := make(chan string, 64)
	return slog.New(logLines{slog.DiscardHandler, lines}), lines
}

func (l logLines) Enabled(context.Context, slog.Level) bool { return true }

func (l logLines) Handle(_ context.Context, r slog.Record) error {
	l.lines <- r.Message
	return nil
}
