package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"scimgate/gateway/audit"
)

// mountTmpfs gives the test a file system of its own, of so many KiB.
func mountTmpfs(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("scimgate-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("needs to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// readOnly makes a folder read-only until the returned function is called, for root by a read-only mount.
func readOnly(t *testing.T, dir string) (writable func()) {
	t.Helper()
	chmod := func(mode os.FileMode) {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() != 0 {
		chmod(0o500)
		t.Cleanup(func() { chmod(0o700) })
		return func() { chmod(0o700) }
	}
	remount := func(flags uintptr) error { return unix.Mount("", dir, "", unix.MS_REMOUNT|flags, "") }
	if err := remount(unix.MS_RDONLY); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := remount(0); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that is really full, and then is not.
func TestFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "2m")
	filler := filepath.Join(dir, "filler")
	overwrite(t, filler, 0, make([]byte, 1<<20))
	log, lines := newLog()
	s := mustOpen(t, Config{Path: filepath.Join(dir, "gate.db"), Logger: log})
	intent := mustIntend(t, s, OpenIntent{})
	stored, err := int64(1), error(nil)
	for ; stored < 10_000; stored++ {
		if _, err = s.Append(t.Context(), benchRecord(stored)); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrNotDurable) || !strings.Contains(err.Error(), "free some space") {
		t.Fatalf("after %d records: got %v, want that the disk is full", stored, err)
	}
	<-lines
	if _, err := s.Conclude(t.Context(), &audit.Record{Intent: intent, Action: audit.Created}); !errors.Is(err, ErrNotDurable) {
		t.Errorf("Conclude: got %v, want %v", err, ErrNotDurable)
	}
	if got := int64(len(trail(t, &s.Reader))); got != stored {
		t.Errorf("a full disk can be read: got %d records, want %d", got, stored)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if got, want := <-lines, "the trail can be written again"; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
	if err := s.Healthy(); err != nil {
		t.Errorf("Healthy: %v", err)
	}
	if seq := mustAppend(t, s, &audit.Record{}); seq != stored+2 {
		t.Errorf("got record %d, want %d", seq, stored+2)
	}
	wantStats(t, &s.Reader, Stats{Records: stored + 2})
	trail(t, &s.Reader)
}

// A full disk at the first start leaves nothing that the next start would stumble over.
func TestFullDiskAtCreate(t *testing.T) {
	dir := mountTmpfs(t, "512k")
	filler, path := filepath.Join(dir, "filler"), filepath.Join(dir, "gate.db")
	overwrite(t, filler, 0, make([]byte, 500<<10))
	if s, err := Open(t.Context(), Config{Path: path}); err == nil {
		s.Close()
		t.Fatal("opened a database on a full disk")
	} else if !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want the path in it", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("half a database is left behind")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, mustOpen(t, Config{Path: path}), &audit.Record{})
}

func TestReadOnlyFolder(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		dir = mountTmpfs(t, "8m")
	}
	path := filepath.Join(dir, "gate.db")
	open := func(path string) error {
		s, err := Open(t.Context(), Config{Path: path})
		if err == nil {
			mustAppend(t, s, &audit.Record{})
			err = s.Close()
		}
		return err
	}
	if err := open(path); err != nil {
		t.Fatal(err)
	}
	writable := readOnly(t, dir)
	before := fingerprint(t, path)
	for _, path := range []string{path, filepath.Join(dir, "new.db")} {
		if err := open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want an error with the path", err)
		}
	}
	r, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatalf("reading needs no permission to write: %v", err)
	}
	if got := len(trail(t, r)); got != 1 {
		t.Errorf("got %d records, want 1", got)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if after := fingerprint(t, path); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	writable()
	if err := open(path); err != nil {
		t.Errorf("once it is writable again: %v", err)
	}
}

// The file alone is read-only: for root, by a read-only mount of the file onto itself.
func TestReadOnlyFile(t *testing.T) {
	path := seeded(t, 3)
	if os.Geteuid() != 0 {
		if err := os.Chmod(path, 0o400); err != nil {
			t.Fatal(err)
		}
	} else {
		if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("needs a read-only mount: %v", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	}
	before := fingerprint(t, path)
	s, err := Open(t.Context(), Config{Path: path})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "is read-only: make all three writable") || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want the path, and that the file is read-only", err)
	}
	if after := fingerprint(t, path); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}
