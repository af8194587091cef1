package gateway

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"scimgate/transform/scim"
)

var kills = flag.Int("kills", 1, "how often TestKill kills the gateway at each point")

// Nothing is lost, whenever the process dies: 8 clients write while it is killed at a point of the path, again and
// again on one database. Half of the clients try again at once what they got no answer to, the others when the
// gateway has found out what became of it.
func TestKill(t *testing.T) {
	for _, point := range []string{intentCommitted, requestSent, upstreamAnswered, outcomeCommitted, answerWritten} {
		t.Run(point, func(t *testing.T) {
			w := newCrashWorld(t, 3*time.Millisecond)
			lanes := w.lanes(8)
			var sum crashTally
			open, fewest := 0, 1<<30
			for range *kills {
				g := w.start()
				w.recover(g, lanes)
				sum = w.check(g)
				g.arm(point, 1+rand.IntN(40))
				all(lanes, func(l *lane) { l.work(t, g) })
				g.died(t)
				w.silent()
				n := w.openIntents()
				open, fewest = open+n, min(fewest, n)
				if n == 0 && point != answerWritten {
					t.Error("no intent was open when the process died")
				}
			}
			g := w.start()
			w.recover(g, lanes)
			sum = w.check(g)
			g.terminate(t)
			t.Logf("%d kills, %d intents open then (at least %d each time); %d writes processed, %d answers received, %d reconciled, of which %d nobody can tell: all in the trail",
				*kills, open, fewest, sum.processed, sum.answers, sum.reconciled, sum.untold)
		})
	}
}

// The gateway is told to stop while 64 writes are under way: all are brought to an end and answered.
func TestTerminate(t *testing.T) {
	const clients = 64
	w := newCrashWorld(t, 700*time.Millisecond)
	g := w.start()
	lanes := w.lanes(clients)
	done := make(chan struct{})
	go func() {
		defer close(done)
		all(lanes, func(l *lane) {
			l.create()
			if l.attempt(t, g); l.lost {
				t.Errorf("lane %d got no answer", l.n)
			}
		})
	}()
	waitFor(t, "64 writes at the upstream", func() bool { return w.sim.Count(scim.OpCreate) == clients })
	began := time.Now()
	g.terminate(t)
	took := time.Since(began)
	<-done
	if took > 15*time.Second {
		t.Errorf("drained in %v, want 15 s at most", took)
	}
	sum := w.goesOn()
	if sum.processed != clients || sum.answers != clients || sum.reconciled != 0 {
		t.Errorf("got %d processed, %d answered, %d reconciled, want %d, %d, 0", sum.processed, sum.answers, sum.reconciled, clients, clients)
	}
	t.Logf("%d writes under way were answered and recorded; drained in %v", clients, took.Round(time.Millisecond))
}

// Two processes never share a database: the second says who has it, and the first goes on.
func TestTwoProcesses(t *testing.T) {
	w := newCrashWorld(t, 0)
	first := w.start()
	w.refuses(fmt.Sprintf("another scimgate (process %d)", first.cmd.Process.Pid))
	l := w.lanes(1)[0]
	for range 12 {
		l.step(t, first)
	}
	w.check(first)
	first.terminate(t)
	w.goesOn()
}

// A damaged database is left as it is, and nothing is begun in its place. With its content back, all is there.
func TestDamagedDatabase(t *testing.T) {
	w := newCrashWorld(t, 0)
	first := w.start()
	l := w.lanes(1)[0]
	for range 40 {
		l.step(t, first)
	}
	first.terminate(t)
	whole, err := os.ReadFile(w.settings.Database)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		want   string
	}{
		{"header", func(b []byte) []byte { copy(b, "garbage!"); return b }, "damaged or not a database: move it"},
		{"pages", func(b []byte) []byte { copy(b[8*4096:], bytes.Repeat([]byte("garbage!"), 1024)); return b }, "damaged"},
		{"cut off", func(b []byte) []byte { return b[:len(b)/2/4096*4096] }, "damaged"},
		{"empty", func([]byte) []byte { return nil }, "the file is empty, which no scimgate database ever is: restore a backup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(w.settings.Database, c.damage(bytes.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			w.refuses(c.want)
		})
	}
	if err := os.WriteFile(w.settings.Database, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	w.goesOn()
}
