package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scimgate/gateway/audit"
)

var faultTime = flag.Duration("faults", 500*time.Millisecond, "how long each fault of a sink lasts under load")

// fault is something that happens to the other end of a sink.
type fault struct {
	name, sink string
	within     time.Duration // in which it is noticed
	healed     string        // what the log says when it heals by itself; "" where it does not, or nobody need know
	// begin makes it happen; mend ends it. nil mend: it heals by itself, with a new file.
	begin func(w *faultWorld) (mend func())
}

// A collector without a word to say is noticed when its machine takes no more, which is a moment after it began to hang.
const siemNotice = 1500 * time.Millisecond

var faults = []fault{
	{"deleted file", "file", time.Second, "was deleted", func(w *faultWorld) func() {
		w.keep()
		w.must(os.Remove(w.file()))
		return nil
	}},
	{"file copied and cut", "file", time.Second, "was cut", func(w *faultWorld) func() {
		w.keep()
		w.must(os.Truncate(w.file(), 0))
		return nil
	}},
	{"file moved away", "file", time.Second, "", func(w *faultWorld) func() {
		name := filepath.Join(w.dir, fmt.Sprintf("kept-%d", len(w.kept)))
		w.must(os.Rename(w.file(), name))
		w.kept = append(w.kept, name)
		return nil
	}},
	{"folder in its place", "file", time.Second, "", func(w *faultWorld) func() {
		name := filepath.Join(w.dir, fmt.Sprintf("kept-%d", len(w.kept)))
		w.must(os.Rename(w.file(), name))
		w.kept = append(w.kept, name)
		for err := os.Mkdir(w.file(), 0o700); err != nil; err = os.Mkdir(w.file(), 0o700) { // a new file may be there already
			w.kept = append(w.kept, w.file()+fmt.Sprint(len(w.kept)))
			w.must(os.Rename(w.file(), w.kept[len(w.kept)-1]))
		}
		return func() { w.must(os.Remove(w.file())) }
	}},
	{"full disk", "full", time.Second, "", func(w *faultWorld) func() { return fill(w.t, w.tiny) }},
	{"hung syslog collector", "siem", siemNotice, "", func(w *faultWorld) func() {
		w.siem.gate.Lock()
		return w.siem.gate.Unlock
	}},
	{"failing webhook", "hook", time.Second, "", func(w *faultWorld) func() {
		return w.hook.failing(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) })
	}},
	{"hung webhook", "hook", time.Second, "", func(w *faultWorld) func() {
		over := make(chan struct{})
		mend := w.hook.failing(func(rw http.ResponseWriter, r *http.Request) {
			select {
			case <-over:
				rw.WriteHeader(http.StatusServiceUnavailable)
			case <-r.Context().Done():
			}
		})
		return func() { mend(); close(over) }
	}},
}

func (w *faultWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Error(err)
	}
}

// cases are the faults that can be made to happen here.
func (w *faultWorld) cases() []fault {
	return slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return f.sink == "full" && w.tiny == "" })
}

// during writes 25 times a second while f runs and a little longer.
func (w *faultWorld) during(lasts time.Duration, f func()) (answers []answer) {
	var wg sync.WaitGroup
	wg.Go(func() { answers = w.load(lasts) })
	f()
	wg.Wait()
	return answers
}

// noticed waits until a fault is told of everywhere, or is healed by a new file.
func (w *faultWorld) noticed(f fault, healed bool, logged int) {
	w.t.Helper()
	took := within(w.t, f.within, f.name+" is noticed", func() bool {
		if healed {
			info, err := os.Lstat(w.file())
			return err == nil && info.Size() > 0 && strings.Contains(w.log.text()[logged:], f.healed)
		}
		return w.toldOf(f.sink, logged)
	})
	w.t.Logf("%-22s noticed after %v", f.name, took.Round(time.Millisecond))
}

// unharmed fails unless every write was answered 201, and soon.
func (w *faultWorld) unharmed(what string, answers []answer) {
	w.t.Helper()
	var took []time.Duration
	for _, a := range answers {
		if a.status != http.StatusCreated {
			w.t.Errorf("%s: got %d, want 201", what, a.status)
		}
		took = append(took, a.took)
	}
	slices.Sort(took)
	if slowest := took[len(took)-1]; slowest > time.Second {
		w.t.Errorf("%s: the slowest write took %v", what, slowest)
	}
	w.t.Logf("%-22s %d writes, p50 %v, slowest %v", what, len(took), took[len(took)/2].Round(100*time.Microsecond), took[len(took)-1].Round(100*time.Microsecond))
}

// Whatever happens to sinks that are not required, in turn and all at once, under 25 writes a second: no write fails or
// waits for it, it is noticed within a second, and afterwards each sink has every record, in order, signed to the end.
func TestSinkFaults(t *testing.T) {
	w := newFaultWorld(t, "", t.TempDir())
	w.unharmed("nothing", w.load(time.Second))
	for _, f := range w.cases() {
		w.unharmed(f.name, w.during(*faultTime+f.within, func() {
			logged := len(w.log.text())
			mend := f.begin(w)
			w.noticed(f, mend == nil, logged)
			if mend != nil {
				within(t, *faultTime, "time passes", func() bool { return true })
				mend()
			}
		}))
	}
	w.caughtUp()
	var mends []func()
	answers := w.during(*faultTime+siemNotice, func() {
		last := map[string]fault{} // one for each sink
		for _, f := range w.cases() {
			last[f.sink] = f
		}
		logged := len(w.log.text())
		for _, f := range last {
			if mend := f.begin(w); mend != nil {
				mends = append(mends, mend)
			}
		}
		for _, f := range last {
			f.within = siemNotice
			w.noticed(f, false, logged)
		}
	})
	w.unharmed("all at once", answers)
	for _, mend := range mends {
		mend()
	}
	w.caughtUp()
	w.verify()
}

// The same with a sink that is required: while it takes nothing, every write is answered 503 with Retry-After, and nothing
// reaches the upstream. Where it heals by itself no write is lost.
func TestRequiredSinkFaults(t *testing.T) {
	for _, name := range []string{"file", "full", "siem", "hook"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFaultWorld(t, name, t.TempDir())
			if name == "full" && w.tiny == "" {
				w.must(w.app.stop())
				t.Skip("needs root to mount a small file system")
			}
			for _, f := range w.cases() {
				if f.sink == name {
					w.closes(f)
				}
			}
			w.verify()
		})
	}
}

// closes makes a fault happen to a required sink.
func (w *faultWorld) closes(f fault) {
	w.unharmed("before "+f.name, w.load(400*time.Millisecond))
	logged := len(w.log.text())
	var mend func()
	answers := w.during(*faultTime+f.within, func() {
		if mend = f.begin(w); mend == nil {
			w.noticed(f, true, logged)
			return
		}
		w.noticed(f, false, logged)
	})
	if mend == nil {
		w.unharmed(f.name, answers)
		return
	}
	within(w.t, 3*time.Second, "readiness is red", func() bool { status, _ := w.ready(); return status == http.StatusServiceUnavailable })
	before := w.upstream()
	w.refused(f.name, w.load(*faultTime), before)
	mend()
	within(w.t, 30*time.Second, "readiness is green", func() bool { status, _ := w.ready(); return status == http.StatusOK })
	w.unharmed("after "+f.name, w.load(400*time.Millisecond))
	w.caughtUp()
}

// refused fails unless every write was answered 503 with Retry-After within the two seconds that an intent has, and none
// reached the upstream since.
func (w *faultWorld) refused(what string, answers []answer, before int64) {
	w.t.Helper()
	slowest := time.Duration(0)
	for _, a := range answers {
		if a.status != http.StatusServiceUnavailable || a.retryAfter == "" {
			w.t.Errorf("%s: got %d, Retry-After %q, want 503 with it", what, a.status, a.retryAfter)
		}
		slowest = max(slowest, a.took)
	}
	if slowest > 3*time.Second {
		w.t.Errorf("%s: the slowest refusal took %v", what, slowest)
	}
	if n := w.upstream() - before; n != 0 {
		w.t.Errorf("%s: %d writes reached the upstream", what, n)
	}
	w.t.Logf("%-22s %d writes refused, slowest after %v, 0 sent", what, len(answers), slowest.Round(time.Millisecond))
}

// The database's own disk is full: 503 with Retry-After, nothing is sent, and the sinks lose nothing of what was stored.
func TestSinksBesideAFullDatabase(t *testing.T) {
	disk := smallDisk(t, "8m")
	if disk == "" {
		t.Skip("needs root to mount a small file system")
	}
	w := newFaultWorld(t, "", disk)
	w.unharmed("nothing", w.load(400*time.Millisecond))
	free := fill(t, disk)
	var running sync.WaitGroup
	for lane := range 8 { // until the log beside the database has no room
		running.Go(func() {
			for n, refused := 0, 0; n < 3000 && refused < 3; n++ {
				switch a := w.create(1_000_000*(lane+1) + n); a.status {
				case http.StatusCreated:
					refused = 0
				case http.StatusServiceUnavailable:
					refused++
				default:
					t.Errorf("got %d, want 201 or 503", a.status)
				}
			}
		})
	}
	running.Wait()
	before := w.upstream()
	w.refused("full database", w.load(*faultTime), before)
	if status, _ := w.ready(); status != http.StatusServiceUnavailable {
		t.Errorf("readiness: got %d, want 503", status)
	}
	free()
	within(t, 10*time.Second, "readiness is green", func() bool { status, _ := w.ready(); return status == http.StatusOK })
	w.unharmed("with room again", w.load(400*time.Millisecond))
	w.caughtUp()
	w.verify()
}

// While records flow, and when they do not, the newest checkpoint in a sink is of at most a second ago, or covers all.
func TestCheckpointsInSinksAreFresh(t *testing.T) {
	w := newFaultWorld(t, "", t.TempDir())
	newest := func() (at time.Time, covers int64) {
		text, err := os.ReadFile(w.file())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		start := bytes.LastIndex(text, []byte(`{"checkpoint":`))
		if start < 0 {
			return time.Time{}, 0
		}
		line, _, whole := bytes.Cut(text[start:], []byte("\n"))
		var l struct{ Checkpoint string }
		if !whole {
			return time.Time{}, 0
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		c, err := audit.ParseCheckpoint(l.Checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		return c.Time, c.Size
	}
	within(t, 5*time.Second, "there is a checkpoint", func() bool { _, covers := newest(); return covers > 0 })
	w.load(time.Second) // from here on there are records all the time
	var ages []time.Duration
	w.during(3*time.Second, func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range 50 {
			<-tick.C
			at, _ := newest()
			ages = append(ages, time.Since(at))
		}
	})
	slices.Sort(ages)
	if late := len(ages) - slices.IndexFunc(append(ages, time.Hour), func(d time.Duration) bool { return d > time.Second }); late > len(ages)/20 {
		t.Errorf("the newest checkpoint was older than a second %d times of %d: %v", late, len(ages), ages)
	}
	head, err := w.app.feedReader.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	idle := within(t, 1500*time.Millisecond, "the last record is signed in the sink", func() bool { _, covers := newest(); return covers >= head })
	t.Logf("newest checkpoint in the file under 25 writes/s: age p50 %v, most %v; over the last record after %v",
		ages[len(ages)/2].Round(time.Millisecond), ages[len(ages)-1].Round(time.Millisecond), idle.Round(time.Millisecond))
	w.verify()
	if strings.Contains(w.log.text(), `"level":"ERROR"`) {
		t.Errorf("the log has errors: %s", w.log.text())
	}
}
