package audit

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A disk that is full, and then is not: nothing is lost, no line is torn, and it is told within a second.
func TestFileFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("scimgate-test", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("needs to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 200<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "t.jsonl")
	trail := newWorldTrail()
	other := filepath.Join(t.TempDir(), "other.jsonl")
	feeds, stop := run(t, trail, SinkConfig{Name: "full", URL: "file://" + path}, SinkConfig{Name: "other", URL: "file://" + other, Required: true})
	slowest := time.Duration(0)
	big := strings.Repeat("x", 900)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 100 {
		<-tick.C
		seq := trail.add(Record{Error: big})
		began := time.Now()
		if err := feeds.Taken(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	if problem := feeds.States()[0].Problem; !strings.Contains(problem, "no space left") {
		t.Errorf("on a full disk: got problem %q", problem)
	}
	if slowest > time.Second {
		t.Errorf("the other sink took %v for a record", slowest)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "all is taken when there is room", func() bool { return feeds.States()[0].Taken == 100 })
	stop()
	for _, name := range []string{path, other} {
		if got, want := strings.Join(readLines(t, name), "\n"), strings.Join(trail.lines(), "\n"); got != want {
			t.Errorf("%s: got %d bytes, want %d: all lines once", filepath.Base(name), len(got), len(want))
		}
	}
}
