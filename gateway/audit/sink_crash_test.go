package audit

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lossy is a collector: what it was given is safe after a while, and what is not yet is lost with the connection.
type lossy struct {
	settles time.Duration // 0: when it was taken

	mu     sync.Mutex
	safe   []int64
	recent []lossyEntry
	broken bool
}

type lossyEntry struct {
	seq int64
	at  time.Time
}

func (l *lossy) Append(_ context.Context, entries []Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	if l.broken {
		l.broken, l.recent = false, nil
		return errors.New("reset")
	}
	for _, e := range entries {
		l.recent = append(l.recent, lossyEntry{e.Seq, time.Now()})
	}
	l.settle()
	return nil
}

func (l *lossy) settle() {
	for len(l.recent) > 0 && time.Since(l.recent[0].at) >= l.settles {
		l.safe = append(l.safe, l.recent[0].seq)
		l.recent = l.recent[1:]
	}
}

func (l *lossy) Close() error { return errors.New("nobody can tell") }

func (l *lossy) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	l.broken = true
}

// die is the end of the process at this moment: what was not safe is lost with its connection.
func (l *lossy) die() *lossy {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	return &lossy{settles: l.settles, safe: slices.Clone(l.safe)}
}

// The process is killed and connections break at any moment: every record is in the sink, and what is there for the first
// time stands in the order of the trail.
func TestNothingIsLostAtACrash(t *testing.T) {
	for _, tc := range []struct {
		name    string
		url     string
		settles time.Duration
	}{
		{"acknowledged", "file:///t", 0},
		{"unacknowledged", "syslog+tcp://h:1", 9 * time.Second}, // less than what comes again
	} {
		t.Run(tc.name, func(t *testing.T) {
			for seed := range uint64(20) {
				synctest.Test(t, func(t *testing.T) { crashes(t, seed, tc.url, tc.settles) })
			}
		})
	}
}

func crashes(t *testing.T, seed uint64, url string, settles time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 1))
	trail, sink := newWorldTrail(), &lossy{settles: settles}
	cfg := FeedsConfig{Store: trail, Sinks: []SinkConfig{{Name: "s", URL: url, Rewind: 10 * time.Second}}}
	for range 5 {
		stop := start(t, feedsOf(cfg, sink))
		for range 10 + rng.IntN(200) {
			for range rng.IntN(4) {
				trail.add(Record{})
			}
			if rng.IntN(50) == 0 {
				sink.reset()
			}
			time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		}
		trail.mu.Lock()
		durable := maps.Clone(trail.cursors)
		trail.mu.Unlock()
		next := sink.die()
		stop() // what it still does is not there after a crash
		trail.mu.Lock()
		trail.cursors = durable
		trail.mu.Unlock()
		sink = next
	}
	stop := start(t, feedsOf(cfg, sink))
	time.Sleep(time.Minute)
	stop()
	sink.mu.Lock()
	defer sink.mu.Unlock()
	sink.settle()
	want := int64(1)
	for _, seq := range sink.safe {
		if seq > want {
			t.Fatalf("seed %d: record %d follows %d: lost", seed, seq, want-1)
		}
		if seq == want {
			want++
		}
	}
	if head := int64(len(trail.records)); want != head+1 {
		t.Errorf("seed %d: got records up to %d, want %d", seed, want-1, head)
	}
}
