package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Cursor is how far a sink has come.
type Cursor struct {
	Seq        int64 // place of the last record that is safe there
	Checkpoint int64 // records that the last checkpoint covers which is safe there
}

// SinkStore is the stored trail as sinks follow it, and where their cursors are kept.
type SinkStore interface {
	// Records calls each for the durable records behind place after, in the order of their places, for at most limit of
	// them. The bytes are valid until each returns; its error ends the reading and is returned.
	Records(ctx context.Context, after int64, limit int, each func(seq int64, record []byte) error) error
	// Head returns the place of the newest record, 0 when there is none.
	Head(ctx context.Context) (int64, error)
	// Cursors returns the cursors that are kept, by name.
	Cursors(ctx context.Context) (map[string]Cursor, error)
	// PutCursor keeps a cursor durably.
	PutCursor(ctx context.Context, name string, c Cursor) error
}

// FeedsConfig is what Feeds need.
type FeedsConfig struct {
	Store SinkStore // Required
	// Checkpoint returns the newest checkpoint over more than after and at most upTo records; covers is 0 when there is
	// none. nil: the trail is not signed.
	Checkpoint func(ctx context.Context, after, upTo int64) (covers int64, note string, at time.Time, err error)
	Sinks      []SinkConfig
	Logger     *slog.Logger // Required
}

const (
	feedBatch   = 256                    // most records at a time
	feedBytes   = 1 << 20                // and bytes of them, but for the last
	feedPoll    = 250 * time.Millisecond // between two looks for new records, and at the sink
	feedAttempt = 10 * time.Second       // for one batch
	feedLast    = 3 * time.Second        // for what is left, when Run is told to end
	feedGiveUp  = 6 * time.Second        // after which Run no longer waits for a sink that hangs
	feedHung    = 700 * time.Millisecond // after which a batch that is not taken is told: within a second of its first record
	hungEvery   = time.Minute            // and at most so often logged, of a sink that is always so slow
	feedBlocks  = 2 * time.Second        // and after which a required sink holds up what is new
	cursorEvery = time.Second            // at most so often a cursor is stored
	markEvery   = time.Second            // and what a sink took is marked, which is how exact its rewind is
	feedSettled = 2 * time.Second        // for which a sink without acknowledgement must take before it counts as well again
	lostRewind  = 10 * time.Second       // how much comes again when what a sink took is gone, where it acknowledges

	backoffFirst    = 250 * time.Millisecond
	backoffMost     = 30 * time.Second
	backoffRequired = 5 * time.Second // where the gateway waits for the sink
)

// Feeds carry the trail to its sinks, each on a goroutine of its own and at its own speed: a sink that hangs holds up
// neither the others nor the path of a request. Each gets every record, in order, at least once. What a sink did not
// take comes again after a pause that grows to 30 s; its cursor is kept in the store, so that it goes on where it was
// after a restart.
//
// A sink that is required is waited for by who calls Taken.
type Feeds struct{ feeds []*feed }

// SinkState is what is known of a sink.
type SinkState struct {
	Name     string
	Required bool
	Taken    int64  // place of the last record that it took
	Problem  string // why it takes nothing, "" when nothing is known to be wrong
}

// NewFeeds checks the sinks. Run starts them.
func NewFeeds(cfg FeedsConfig) (*Feeds, error) {
	f := &Feeds{}
	for i := range cfg.Sinks {
		sink, err := OpenSink(&cfg.Sinks[i])
		if err != nil {
			return nil, fmt.Errorf("sink %s: %w", cfg.Sinks[i].Name, err)
		}
		f.feeds = append(f.feeds, newFeed(&cfg, &cfg.Sinks[i], sink))
	}
	return f, nil
}

// Run feeds the sinks until ctx ends, then hands over what is left, for a few seconds at most.
func (f *Feeds) Run(ctx context.Context) {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var all sync.WaitGroup
	for _, one := range f.feeds {
		all.Go(func() { one.run(ctx, hard) })
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	<-ctx.Done()
	soft := time.AfterFunc(feedLast, cancel)
	defer soft.Stop()
	giveUp := time.NewTimer(feedGiveUp)
	defer giveUp.Stop()
	select {
	case <-ended:
	case <-giveUp.C: // a system call that does not return: the process ends with it
	}
}

// Wake has the sinks look for what is new at once: a checkpoint that was just signed.
func (f *Feeds) Wake() {
	for _, one := range f.feeds {
		one.wakeUp()
	}
}

// Ready returns nil unless a required sink takes nothing: then nothing should be begun that it would have to take.
func (f *Feeds) Ready() error {
	for _, one := range f.feeds {
		if one.cfg.Required {
			if problem := one.problem(feedBlocks); problem != "" {
				return fmt.Errorf("the required sink %s takes nothing: %s", one.cfg.Name, problem)
			}
		}
	}
	return nil
}

// Taken waits until every required sink took the record at a place in the trail, and returns an error when ctx ends
// before.
func (f *Feeds) Taken(ctx context.Context, seq int64) error {
	for _, one := range f.feeds {
		if !one.cfg.Required {
			continue
		}
		if err := one.wait(ctx, seq); err != nil {
			return fmt.Errorf("the required sink %s did not take record %d in time: %w", one.cfg.Name, seq, err)
		}
	}
	return nil
}

// States tells how the sinks are, in the order of the configuration.
func (f *Feeds) States() []SinkState {
	states := make([]SinkState, len(f.feeds))
	for i, one := range f.feeds {
		one.mu.Lock()
		taken := one.taken
		one.mu.Unlock()
		states[i] = SinkState{one.cfg.Name, one.cfg.Required, taken, one.problem(feedHung)}
	}
	return states
}

// feed carries the trail to one sink. What is not guarded belongs to its goroutine.
type feed struct {
	cfg        *SinkConfig
	sink       Sink
	format     Format
	rewind     time.Duration // 0: the sink acknowledges
	store      SinkStore
	checkpoint func(ctx context.Context, after, upTo int64) (int64, string, time.Time, error)
	log        *slog.Logger
	wake       chan struct{}

	read      Cursor // what the sink was given last and took
	old       Cursor // what it had taken rewind ago, or lostRewind where it acknowledges
	safe      Cursor // where to go on after an error
	stored    Cursor // safe, as the store has it
	storedAt  time.Time
	marks     []milestone // what was taken since old, oldest first
	failures  int         // in a row
	wellSince time.Time   // when it began to take after failures; zero: it has not, or there were none
	cursorErr bool        // the cursor could not be stored, and that was told

	mu      sync.Mutex
	taken   int64     // read.Seq for others
	began   time.Time // of the batch that is under way; zero: none
	failure error     // of the last batch
	hungAt  time.Time // when that was logged last
	hung    bool      // the batch that is under way is not taken, and that was told
	waiters map[chan struct{}]int64
}

type milestone struct {
	Cursor
	at time.Time
}

func newFeed(cfg *FeedsConfig, sink *SinkConfig, opened Sink) *feed {
	f := &feed{
		cfg: sink, sink: opened, format: Formats[cmp.Or(sink.Format, "native")], store: cfg.Store, checkpoint: cfg.Checkpoint,
		log: cfg.Logger.With("sink", sink.Name), wake: make(chan struct{}, 1), waiters: map[chan struct{}]int64{},
	}
	if scheme, _, _ := strings.Cut(sink.URL, ":"); Sinks[scheme].Unacknowledged {
		f.rewind = cmp.Or(sink.Rewind, DefaultRewind)
	}
	return f
}

// run feeds until ctx ends. hard ends a few seconds later and cancels what is under way.
func (f *feed) run(ctx, hard context.Context) {
	began := false
	for ctx.Err() == nil {
		var err error
		more := false
		if !began {
			err = f.begin(ctx)
			began = err == nil
		}
		if began {
			more, err = f.step(hard)
		}
		f.told(err)
		pause := time.Duration(0)
		switch {
		case err != nil:
			pause = f.backoff(err)
		case !more:
			pause = feedPoll
		}
		f.pause(ctx, pause, err == nil)
	}
	var err error
	for more := began; more && err == nil && hard.Err() == nil; {
		more, err = f.step(hard)
	}
	f.told(err)
	if closed := f.sink.Close(); closed == nil && err == nil {
		f.safe = f.read
	}
	f.storedAt = time.Time{}
	f.keep()
}

// begin learns where to go on. A new sink's cursor is kept at once: what a sink has not got yet is not pruned.
func (f *feed) begin(ctx context.Context) error {
	all, err := f.store.Cursors(ctx)
	c, ok := all[f.cfg.Name]
	if err == nil && !ok {
		if f.cfg.FromNow {
			c.Seq, err = f.store.Head(ctx)
			c.Checkpoint = c.Seq
		}
		if err == nil {
			err = f.store.PutCursor(ctx, f.cfg.Name, c)
		}
	}
	if err != nil {
		return fmt.Errorf("find the sink's place in the trail: %w", err)
	}
	f.read, f.old, f.safe, f.stored = c, c, c, c
	f.mu.Lock()
	f.taken = c.Seq
	f.mu.Unlock()
	return nil
}

// step gives the sink the next entries, or asks it how it is. more says that there may be more.
func (f *feed) step(ctx context.Context) (more bool, err error) {
	entries, next, more, err := f.next(ctx)
	if err != nil {
		return false, fmt.Errorf("read the trail: %w", err)
	}
	f.mu.Lock()
	f.began = time.Now()
	f.mu.Unlock()
	attempt, cancel := context.WithTimeout(ctx, feedAttempt)
	late := time.AfterFunc(feedHung, f.tellHung)
	err = f.sink.Append(attempt, entries)
	late.Stop()
	cancel()
	f.move(next, err)
	f.mu.Lock()
	f.began, f.taken = time.Time{}, f.read.Seq
	for w, seq := range f.waiters {
		if err == nil && seq <= f.taken {
			close(w)
			delete(f.waiters, w)
		}
	}
	f.mu.Unlock()
	if gone, ok := errors.AsType[*lost](err); ok {
		f.log.Warn("what a sink took lately is gone: it comes again", "error", gone)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	f.settle(time.Now())
	f.keep()
	return more, nil
}

// lost is the error of a sink that has found what it took lately to be gone.
type lost struct{ error }

// stalled is the error of a sink that was given nothing of a batch, because what it was given before has not arrived yet.
type stalled struct{ error }

// move goes on behind a batch that was taken, or back to where the next one begins.
func (f *feed) move(next Cursor, err error) {
	_, waits := errors.AsType[*stalled](err)
	_, gone := errors.AsType[*lost](err)
	switch {
	case err == nil:
		f.read = next
		return
	case waits:
		return
	case gone:
		f.safe, f.storedAt = f.old, time.Time{}
		f.keep() // it holds over a restart
	}
	f.read = f.safe
	if f.rewind > 0 || gone {
		f.marks = nil
	}
}

// next reads what comes after f.read. A checkpoint comes behind the last record that it covers.
func (f *feed) next(ctx context.Context) (entries []Entry, next Cursor, more bool, err error) {
	next = f.read
	size, n := 0, 0
	err = f.store.Records(ctx, f.read.Seq, feedBatch, func(seq int64, line []byte) error {
		if size >= feedBytes {
			return errFull
		}
		rec, err := Parse(line)
		if err != nil || bytes.ContainsAny(line, "\r\n") {
			f.log.Error("a record cannot be read: it goes out as it is stored", "record", seq, "error", err)
			entries = appendUnreadable(entries, seq, line)
		} else {
			entries = f.format(entries, rec, line)
		}
		next.Seq = seq
		n++
		size += len(line)
		return nil
	})
	full := errors.Is(err, errFull)
	if err != nil && !full {
		return nil, f.read, false, err
	}
	if f.checkpoint != nil {
		covers, note, at, err := f.checkpoint(ctx, next.Checkpoint, next.Seq)
		if err != nil {
			return nil, f.read, false, err
		}
		if covers > 0 {
			rec, line := checkpointRecord(covers, note, at)
			entries = f.format(entries, rec, line)
			next.Checkpoint = covers
		}
	}
	return entries, next, full || n == feedBatch, nil
}

// appendUnreadable writes a record that has no other form, and must not be missing: as it is stored, or as a text where
// that is more than one line or no JSON, which would pass for other records.
func appendUnreadable(dst []Entry, seq int64, line []byte) []Entry {
	if bytes.ContainsAny(line, "\r\n") || !json.Valid(line) {
		wrapped, err := json.Marshal(map[string]any{"seq": seq, "unreadable": string(line)})
		if err != nil {
			wrapped = []byte("{}") // cannot be: a text and a number have a JSON form
		}
		line = wrapped
	}
	return appendNative(dst, &Record{Seq: seq, ID: fmt.Sprintf("record-%d", seq), Time: time.Now(), Kind: Unknown}, line)
}

var errFull = errors.New("the batch is full")

// settle moves the places to go back to.
func (f *feed) settle(now time.Time) {
	last := milestone{Cursor: f.old}
	if n := len(f.marks); n > 0 {
		last = f.marks[n-1]
	}
	if f.read != last.Cursor && now.Sub(last.at) >= markEvery {
		f.marks = append(f.marks, milestone{f.read, now})
	}
	for len(f.marks) > 0 && now.Sub(f.marks[0].at) >= cmp.Or(f.rewind, lostRewind) {
		f.old = f.marks[0].Cursor
		f.marks = f.marks[1:]
	}
	f.safe = f.read
	if f.rewind > 0 {
		f.safe = f.old
	}
}

// keep stores the cursor, now and then. When that fails the sink goes on: more is sent again after a restart.
func (f *feed) keep() {
	now := time.Now()
	if f.safe == f.stored || now.Sub(f.storedAt) < cursorEvery {
		return
	}
	f.storedAt = now
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := f.store.PutCursor(ctx, f.cfg.Name, f.safe)
	if err == nil {
		f.stored = f.safe
	} else if !f.cursorErr {
		f.log.Warn("a sink's cursor cannot be stored: after a restart it gets again what it has", "error", err)
	}
	f.cursorErr = err != nil
}
