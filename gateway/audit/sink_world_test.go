package audit

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// memoryTrail is a trail in memory: what Feeds need of a store.
type memoryTrail struct {
	mu      sync.Mutex
	records [][]byte
	cursors map[string]Cursor
	down    error // what PutCursor returns
}

func newWorldTrail() *memoryTrail { return &memoryTrail{cursors: map[string]Cursor{}} }

// add appends a record and returns its place.
func (m *memoryTrail) add(rec Record) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	rec.Seq = int64(len(m.records) + 1)
	if rec.ID == "" {
		rec.ID = fmt.Sprintf("id-%d", rec.Seq)
	}
	if rec.Kind == "" {
		rec.Kind = Outcome
	}
	rec.V = Version
	if rec.Time.IsZero() {
		rec.Time = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC).Add(time.Duration(rec.Seq) * time.Millisecond)
	}
	m.records = append(m.records, Append(nil, &rec))
	return rec.Seq
}

func (m *memoryTrail) Records(_ context.Context, after int64, limit int, each func(int64, []byte) error) error {
	m.mu.Lock()
	page := m.records[min(after, int64(len(m.records))):]
	page = slices.Clone(page[:min(limit, len(page))])
	m.mu.Unlock()
	for i, line := range page {
		if err := each(after+int64(i)+1, line); err != nil {
			return err
		}
	}
	return nil
}

func (m *memoryTrail) Head(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(len(m.records)), nil
}

func (m *memoryTrail) Cursors(context.Context) (map[string]Cursor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.cursors), nil
}

func (m *memoryTrail) PutCursor(_ context.Context, name string, c Cursor) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down == nil {
		m.cursors[name] = c
	}
	return m.down
}

// lines are all of them.
func (m *memoryTrail) lines() []string {
	var all []string
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		all = append(all, string(r))
	}
	return all
}

// run starts feeds and returns the function that stops them.
func run(t *testing.T, trail *memoryTrail, sinks ...SinkConfig) (*Feeds, func()) {
	t.Helper()
	feeds, err := NewFeeds(FeedsConfig{Store: trail, Sinks: sinks, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return feeds, start(t, feeds)
}

func start(t *testing.T, feeds *Feeds) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); feeds.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

// eventually waits until a condition holds, with a look every few milliseconds.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	limit := time.After(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("after %v: %s does not hold", within, what)
		}
	}
}

// receiver collects what a sink was given, by connection.
type receiver struct {
	mu    sync.Mutex
	parts [][]string
}

// begin begins another part, as a new connection does.
func (r *receiver) begin() (add func(line string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := len(r.parts)
	r.parts = append(r.parts, nil)
	return func(line string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.parts[at] = append(r.parts[at], line)
	}
}

// once is what was received, each line the first time; again counts the other times.
func (r *receiver) once() (lines []string, again int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]bool{}
	for _, part := range r.parts {
		for _, line := range part {
			if seen[line] {
				again++
			} else {
				seen[line] = true
				lines = append(lines, line)
			}
		}
	}
	return lines, again
}

// check fails unless everything was received, and in the order of the trail within each part.
func (r *receiver) check(t *testing.T, want []string) {
	t.Helper()
	got, again := r.once()
	if !slices.Equal(got, want) {
		t.Errorf("got %d different lines, want %d, in order; first difference at %d", len(got), len(want), firstDifference(got, want))
	}
	place := map[string]int{}
	for i, line := range want {
		place[line] = i
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, part := range r.parts {
		for i := 1; i < len(part); i++ {
			if place[part[i]] != place[part[i-1]]+1 {
				t.Errorf("part %d: line %d of the trail follows line %d", n, place[part[i]], place[part[i-1]])
			}
		}
	}
	t.Logf("%d lines in %d parts, %d of them again", len(got), len(r.parts), again)
}

func firstDifference(a, b []string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func split(text []byte) []string {
	return strings.Split(string(bytes.TrimSuffix(text, []byte("\n"))), "\n")
}

// load adds records at a rate, as requests of that many a second would, and says how many.
func load(t *testing.T, trail *memoryTrail, perSecond int, last time.Duration, each func(seq int64)) {
	t.Helper()
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for end := time.Now().Add(last); time.Now().Before(end); {
		<-tick.C
		if seq := trail.add(Record{RequestID: "r", Action: Updated, Answer: Answer{Status: 200}}); each != nil {
			each(seq)
		}
	}
}
