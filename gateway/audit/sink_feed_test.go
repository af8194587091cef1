package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

// pipe is a sink in memory whose failure a test can set.
type pipe struct {
	mu      sync.Mutex
	entries []Entry
	fail    error
	closed  error
}

func (p *pipe) Append(_ context.Context, entries []Entry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail == nil {
		p.entries = append(p.entries, entries...)
	}
	return p.fail
}

func (p *pipe) Close() error { return p.closed }

func (p *pipe) set(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
}

func (p *pipe) seqs() (seqs []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.entries {
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

// feedsOf are feeds over sinks that a test made.
func feedsOf(cfg FeedsConfig, sinks ...Sink) *Feeds {
	f := &Feeds{}
	cfg.Logger = quiet
	for i, s := range sinks {
		f.feeds = append(f.feeds, newFeed(&cfg, &cfg.Sinks[i], s))
	}
	return f
}

func TestRequired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trail, p := newWorldTrail(), &pipe{}
		feeds := feedsOf(FeedsConfig{Store: trail, Sinks: []SinkConfig{{Name: "must", Required: true}, {Name: "may"}}}, p, &pipe{fail: errors.New("down")})
		stop := start(t, feeds)
		synctest.Wait()
		began := time.Now()
		seq := trail.add(Record{})
		if err := feeds.Taken(t.Context(), seq); err != nil || time.Since(began) != 0 {
			t.Errorf("got %v after %v, want nil at once: who waits wakes the sink", err, time.Since(began))
		}
		if err := feeds.Ready(); err != nil {
			t.Errorf("Ready: got %v; the other sink is not required", err)
		}

		p.set(errors.New("no space"))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err := feeds.Taken(ctx, trail.add(Record{}))
		if err == nil || !strings.Contains(err.Error(), "sink must") || !strings.Contains(err.Error(), "no space") || time.Since(began) != 2*time.Second {
			t.Errorf("got %v after %v, want the sink's error after 2s", err, time.Since(began))
		}
		if err := feeds.Ready(); err == nil || !strings.Contains(err.Error(), "no space") {
			t.Errorf("Ready: got %v, want the sink's error", err)
		}
		p.set(nil)
		time.Sleep(backoffRequired) // of the bubble's clock
		synctest.Wait()
		if err := feeds.Ready(); err != nil {
			t.Errorf("Ready after %v: got %v, want nil", backoffRequired, err)
		}
		if got := p.seqs(); !slices.Equal(got, []int64{1, 2}) {
			t.Errorf("got %v, want 1 and 2", got)
		}
		stop()
	})
}

// What an unacknowledging sink took less than Rewind ago comes again after an error; what is older does not.
func TestRewind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trail, p := newWorldTrail(), &pipe{closed: errors.New("nobody can tell")}
		feeds := feedsOf(FeedsConfig{Store: trail, Sinks: []SinkConfig{{Name: "s", URL: "syslog+tcp://h:1", Rewind: 10 * time.Second}}}, p)
		stop := start(t, feeds)
		for range 30 { // one a second
			trail.add(Record{})
			time.Sleep(time.Second)
			synctest.Wait()
		}
		p.set(errors.New("reset"))
		time.Sleep(time.Second)
		p.set(nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		got := p.seqs()
		again := got[30:]
		if len(again) < 10 || len(again) > 13 || again[len(again)-1] != 30 || again[0] != 31-int64(len(again)) {
			t.Errorf("after the error came %v, want the last 10 to 13 records, up to 30", again)
		}
		stop()
		if c := trail.cursors["s"]; c.Seq > 30-9 {
			t.Errorf("got cursor %d, want it 10 s behind 30", c.Seq)
		}
		p.closed = nil // a collector that says that it has all of it
		feeds = feedsOf(FeedsConfig{Store: trail, Sinks: []SinkConfig{{Name: "s", URL: "syslog+tcp://h:1", Rewind: 10 * time.Second}}}, p)
		stop = start(t, feeds)
		time.Sleep(time.Second)
		stop()
		if c := trail.cursors["s"]; c.Seq != 30 {
			t.Errorf("got cursor %d, want 30", c.Seq)
		}
	})
}

func TestFromNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trail, now, whole := newWorldTrail(), &pipe{}, &pipe{}
		for range 3 {
			trail.add(Record{})
		}
		feeds := feedsOf(FeedsConfig{Store: trail, Sinks: []SinkConfig{{Name: "now", FromNow: true}, {Name: "whole"}}}, now, whole)
		stop := start(t, feeds)
		synctest.Wait()
		stop()
		trail.add(Record{}) // while nothing runs: a sink that has a cursor gets it
		stop = start(t, feedsOf(FeedsConfig{Store: trail, Sinks: []SinkConfig{{Name: "now", FromNow: true}, {Name: "whole"}}}, now, whole))
		synctest.Wait()
		stop()
		if got := now.seqs(); !slices.Equal(got, []int64{4}) {
			t.Errorf("from now: got %v, want 4", got)
		}
		if got := whole.seqs(); !slices.Equal(got, []int64{1, 2, 3, 4}) {
			t.Errorf("from the beginning: got %v, want 1 to 4", got)
		}
	})
}

// A checkpoint comes behind the records it covers, and each at most once.
func TestCheckpointsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trail, p := newWorldTrail(), &pipe{}
		var signed atomic.Int64
		cfg := FeedsConfig{
			Store: trail, Sinks: []SinkConfig{{Name: "s"}},
			Checkpoint: func(_ context.Context, after, upTo int64) (int64, string, time.Time, error) {
				if covers := signed.Load(); covers > after && covers <= upTo {
					return covers, fmt.Sprintf("origin\n%d\nroot\n", covers), time.Now(), nil
				}
				return 0, "", time.Time{}, nil
			},
		}
		stop := start(t, feedsOf(cfg, p))
		for i := range 6 {
			trail.add(Record{})
			if i%2 == 1 {
				signed.Store(int64(i)) // one behind
			}
			time.Sleep(time.Second)
		}
		stop()
		stop = start(t, feedsOf(cfg, p))
		time.Sleep(time.Second)
		stop()
		var got []string
		for _, e := range p.entries {
			got = append(got, e.ID)
		}
		want := []string{"id-1", "id-2", "checkpoint-1", "id-3", "id-4", "checkpoint-3", "id-5", "id-6", "checkpoint-5"}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		var line map[string]string
		if err := json.Unmarshal(p.entries[2].Text, &line); err != nil || line["checkpoint"] != "origin\n1\nroot\n" {
			t.Errorf("got %s, %v", p.entries[2].Text, err)
		}
	})
}

// The pause after failures doubles up to its bound, never exceeds it, and differs from process to process.
func TestBackoff(t *testing.T) {
	f := newFeed(&FeedsConfig{Logger: quiet}, &SinkConfig{}, &pipe{})
	for i, most := range []time.Duration{250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000} {
		f.failures = i + 1
		for range 50 {
			if got := f.backoff(io.EOF); got < most*time.Millisecond/2 || got > most*time.Millisecond {
				t.Errorf("failure %d: got %v, want %v to %v ms", i+1, got, most/2, most)
			}
		}
	}
	f.failures = 1
	if got := f.backoff(&waitFor{io.EOF, time.Hour}); got < backoffMost/2 || got > backoffMost {
		t.Errorf("asked to wait an hour: got %v, want at most %v", got, backoffMost)
	}
	f.failures = 1000
	if got := f.backoff(io.EOF); got > backoffMost {
		t.Errorf("got %v", got)
	}
}

// A record that this program cannot read goes out as it is stored: a sink has no holes.
func TestUnreadableRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trail, p := newWorldTrail(), &pipe{}
		trail.add(Record{})
		trail.records = append(trail.records, []byte(`{"v":9,"seq":2}`))
		trail.add(Record{})
		stop := start(t, feedsOf(FeedsConfig{Store: trail, Sinks: []SinkConfig{{Name: "s", Format: "ocsf"}}}, p))
		synctest.Wait()
		stop()
		if got := p.seqs(); !slices.Equal(got, []int64{1, 2, 3}) || string(p.entries[1].Text) != `{"v":9,"seq":2}` {
			t.Errorf("got %v, %s", got, p.entries[1].Text)
		}
	})
}

// While the store takes no cursor the sink goes on.
func TestCursorNotStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.jsonl")
	trail := newWorldTrail()
	trail.cursors["file"] = Cursor{}
	trail.down = errors.New("full")
	trail.add(Record{})
	feeds, stop := run(t, trail, SinkConfig{Name: "file", URL: "file://" + path})
	eventually(t, 5*time.Second, "it is taken", func() bool { return feeds.States()[0].Taken == 1 })
	stop()
	if got := readLines(t, path); len(got) != 1 {
		t.Errorf("got %d lines, want 1", len(got))
	}
}

// torn writes the first part of what it is given, once.
type torn struct {
	bytes.Buffer
	at int
}

func (w *torn) Write(p []byte) (int, error) {
	if w.at > 0 && w.at < len(p) {
		n, _ := w.Buffer.Write(p[:w.at])
		w.at = 0
		return n, io.ErrShortWrite
	}
	return w.Buffer.Write(p)
}

func TestStdout(t *testing.T) {
	w := &torn{at: 3}
	s, err := openStdout(&SinkConfig{Stdout: w}, &url.URL{Scheme: "stdout"})
	if err != nil {
		t.Fatal(err)
	}
	entries := []Entry{{Text: []byte(`{"a":1}`)}, {Text: []byte(`{"b":2}`)}}
	if err := s.Append(t.Context(), entries); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v, want %v", err, io.ErrShortWrite)
	}
	if err := s.Append(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := s.Append(t.Context(), entries); err != nil {
		t.Error(err)
	}
	if got, want := w.String(), "{\"a\n{\"a\":1}\n{\"b\":2}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
