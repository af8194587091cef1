package audit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What is not a file of its own is not written to, and opening it does not block.
func TestFileRefusesOthers(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		make func(path string) error
		want string
	}{
		"folder":      {func(path string) error { return os.Mkdir(path, 0o700) }, "a folder"},
		"FIFO":        {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "a FIFO"},
		"link":        {func(path string) error { return os.Symlink(filepath.Join(dir, "elsewhere"), path) }, "a symbolic link"},
		"broken link": {func(path string) error { return os.Symlink("/nowhere/x", path) }, "a symbolic link"},
		"no folder":   {func(string) error { return nil }, "no such file"},
		"another's file": {func(path string) error {
			s, err := OpenSink(&SinkConfig{URL: "file://" + path})
			if err == nil {
				t.Cleanup(func() { s.Close() })
				err = s.Append(t.Context(), nil)
			}
			return err
		}, "another sink"},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := tc.make(path); err != nil {
			t.Fatal(err)
		}
		if name == "no folder" {
			path += "/t"
		}
		s, err := OpenSink(&SinkConfig{URL: "file://" + path})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), []Entry{{Text: []byte("{}")}}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if exists(filepath.Join(dir, "elsewhere")) {
		t.Error("something was written through a symbolic link")
	}
}

// Whoever copies the file and then cuts or deletes it has not copied what came in between: it comes again.
func TestFileCopiedAndCut(t *testing.T) {
	for name, away := range map[string]func(path string) error{
		"cut":     func(path string) error { return os.Truncate(path, 0) },
		"deleted": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "t.jsonl")
			trail, kept := newWorldTrail(), &receiver{}
			feeds, stop := run(t, trail, SinkConfig{Name: "file", URL: "file://" + path, Required: true})
			keep := func() {
				add := kept.begin()
				for _, line := range readLines(t, path) {
					add(line)
				}
			}
			add := func() {
				for range 20 {
					if err := feeds.Taken(t.Context(), trail.add(Record{})); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 3 {
				add()
				keep()
				add() // behind the copy's back
				if err := away(path); err != nil {
					t.Fatal(err)
				}
				add()
			}
			eventually(t, 10*time.Second, "all is written", func() bool {
				lines := trail.lines()
				text, err := os.ReadFile(path)
				return err == nil && strings.HasSuffix(string(text), lines[len(lines)-1]+"\n")
			})
			stop()
			keep()
			kept.check(t, trail.lines())
		})
	}
}

// A collector that reads nothing is told long before the kernel's buffers are full, and gets nothing twice when it goes on.
func TestSyslogStalled(t *testing.T) {
	trail := newWorldTrail()
	c := collect(t, "127.0.0.1:0", nil)
	feeds, stop := run(t, trail, SinkConfig{Name: "siem", URL: "syslog+tcp://" + c.address()})
	load(t, trail, 50, 300*time.Millisecond, nil)
	c.hang(true)
	big := strings.Repeat("x", 512<<10) // more than its machine takes, less than ours keeps
	for range 3 {
		trail.add(Record{Error: big})
	}
	eventually(t, 2*time.Second, "it is told", func() bool { return strings.Contains(feeds.States()[0].Problem, "reads nothing since") })
	trail.add(Record{})
	c.hang(false)
	want := trail.lines()
	eventually(t, 10*time.Second, "the collector has everything", c.has(len(want)))
	eventually(t, 10*time.Second, "it counts as well", func() bool { return feeds.States()[0].Problem == "" })
	stop()
	c.check(t, want)
	if got, again := c.once(); again != 0 || !slices.Equal(got, want) {
		t.Errorf("%d lines came again, want none", again)
	}
}
