package gateway

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// smallDisk gives the database a file system of its own, of so many bytes.
func (w *crashWorld) smallDisk(size string) (dir string) {
	w.t.Helper()
	if os.Geteuid() != 0 {
		w.t.Skip("needs root to mount a small file system")
	}
	dir = w.t.TempDir()
	if err := syscall.Mount("scimgate-test", dir, "tmpfs", 0, "size="+size); err != nil {
		w.t.Skipf("needs to mount a small file system: %v", err)
	}
	w.t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			w.t.Error(err)
		}
	})
	w.settings.Database = filepath.Join(dir, "trail.db")
	return dir
}

// fillDisk writes a file that leaves so many bytes of the disk free.
func fillDisk(t *testing.T, dir string, free int64) (name string) {
	t.Helper()
	name = filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	size, block := int64(0), make([]byte, 4096)
	for err == nil && size < 64<<20 {
		var n int
		n, err = f.Write(block)
		size += int64(n)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want a full disk", err)
	}
	if err := errors.Join(f.Truncate(max(0, size-free)), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// The disk fills up while the gateway serves: writes are refused and nothing is sent. With space again, it goes on by
// itself, and what was answered meanwhile is in the trail.
func TestFullDisk(t *testing.T) {
	w := newCrashWorld(t, 0)
	dir := w.smallDisk("4m")
	g := w.start()
	lanes := w.lanes(8)
	filler := fillDisk(t, dir, 1<<20)
	refused := make([]int, len(lanes)) // in a row
	all(lanes, func(l *lane) {
		for range 300 {
			l.create()
			switch a, ok := w.do(g, l.method, l.target, l.body); {
			case !ok || a.status != 201 && (a.status != 503 || a.header.Get("Retry-After") == ""):
				t.Errorf("got %d %s, want 201, or 503 with Retry-After", a.status, a.text)
				return
			case a.status == 201:
				refused[l.n] = 0
			default:
				if refused[l.n]++; refused[l.n] == 3 {
					return
				}
			}
		}
	})
	if slices.Max(refused) == 0 {
		t.Fatal("nothing was refused")
	}
	before := len(w.sim.Ledger())
	all(lanes, func(l *lane) {
		l.create()
		if a, _ := w.do(g, l.method, l.target, l.body); a.status != 503 {
			t.Errorf("on a full disk: got %d %s, want 503", a.status, a.text)
		}
	})
	if n := len(w.sim.Ledger()) - before; n != 0 {
		t.Errorf("%d requests reached the upstream without a durable intent", n)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the gateway to go on", func() bool {
		lanes[0].create()
		a, _ := w.do(g, lanes[0].method, lanes[0].target, lanes[0].body)
		return a.status == 201
	})
	// A refusal for want of a trail is the one answer that the trail cannot have.
	w.answers = slices.DeleteFunc(w.answers, func(a received) bool { return a.status == 503 })
	w.check(g)
	g.terminate(t)
	sum := w.goesOn()
	t.Logf("%d writes processed, %d answers in the trail", sum.processed, sum.answers)
}

// A database that cannot be written to is refused at the start, as is a disk without room for one.
func TestReadOnlyDatabase(t *testing.T) {
	w := newCrashWorld(t, 0)
	if os.Geteuid() != 0 {
		g := w.start()
		g.terminate(t)
		if err := os.Chmod(w.settings.Database, 0o400); err != nil {
			t.Fatal(err)
		}
		w.refuses("writable")
		return
	}
	dir := w.smallDisk("8m")
	filler := fillDisk(t, dir, 12<<10)
	w.refuses("free some space")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	g := w.start()
	l := w.lanes(1)[0]
	for range 12 {
		l.step(t, g)
	}
	g.terminate(t)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	w.refuses("writable")
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	w.goesOn()
}
