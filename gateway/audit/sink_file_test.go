package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func readLines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) == 0 {
		return nil
	}
	return split(text)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A file is rotated, deleted, emptied and made a folder under 25 requests a second (two records each). All that was in a
// file when it went is in a file, and every loss of the file is noticed within a second.
func TestFileUnderLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "trail.jsonl")
	trail := newWorldTrail()
	feeds, stop := run(t, trail, SinkConfig{Name: "file", URL: "file://" + path})
	kept := &receiver{}
	keep := func(name string) {
		add := kept.begin()
		for _, line := range readLines(t, name) {
			add(line)
		}
	}
	noticed := func(what string) {
		t.Helper()
		eventually(t, time.Second, what+" is noticed: there is a new file", func() bool { return exists(path) })
	}
	eventually(t, time.Second, "the file is made before there is a record", func() bool { return exists(path) })

	load(t, trail, 50, 500*time.Millisecond, nil)
	moved := path + ".1"
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	load(t, trail, 50, 500*time.Millisecond, nil)
	noticed("the rotation")
	keep(moved)

	// Deleted between two records: what had been in it was taken and goes with it, so it is read first.
	eventually(t, 5*time.Second, "all is taken", func() bool { return feeds.States()[0].Taken == int64(len(trail.lines())) })
	keep(path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	noticed("the deletion, without any load")
	load(t, trail, 50, 300*time.Millisecond, nil)

	eventually(t, 5*time.Second, "all is taken", func() bool { return feeds.States()[0].Taken == int64(len(trail.lines())) })
	keep(path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	load(t, trail, 50, 1100*time.Millisecond, nil)
	if problem := feeds.States()[0].Problem; !strings.Contains(problem, "not a regular file") {
		t.Errorf("a second after the file became a folder: got problem %q", problem)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	load(t, trail, 50, 300*time.Millisecond, nil)
	eventually(t, 5*time.Second, "all is taken after the folder went", func() bool { return feeds.States()[0].Taken == int64(len(trail.lines())) })
	stop()
	keep(path)
	kept.check(t, trail.lines())
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600: the trail names people", info.Mode(), err)
	}
}

// A file that goes again and again while it is written to costs lines twice, and none.
func TestFileRotatedAtRandom(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "trail.jsonl")
	s, err := OpenSink(&SinkConfig{URL: "file://" + path})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	moved := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-done:
				moved <- n
				return
			default:
				if os.Rename(path, filepath.Join(dir, fmt.Sprintf("old-%d.jsonl", n))) == nil {
					n++
				}
			}
		}
	}()
	var want []string
	for i := range 200 {
		line := fmt.Sprintf(`{"n":%d}`, i)
		for err := errors.New("not yet"); err != nil; {
			if err = s.Append(t.Context(), []Entry{{Text: []byte(line)}}); err != nil && !strings.Contains(err.Error(), "faster than") {
				t.Fatal(err)
			}
		}
		want = append(want, line)
	}
	close(done)
	n := <-moved
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	there, lines := map[string]bool{}, 0
	for _, name := range files {
		for _, line := range readLines(t, name) {
			there[line] = true
			lines++
		}
	}
	for _, line := range want {
		if !there[line] {
			t.Errorf("%s is in no file", line)
		}
	}
	t.Logf("moved %d times: %d lines came again, of %d", n, lines-len(there), len(want))
}

func TestFileAfterACrash(t *testing.T) {
	for _, tc := range []struct{ name, before, want string }{
		{"a torn line", `{"a":1}` + "\n" + `{"b`, `{"a":1}` + "\n" + `{"b` + "\n{}\n"},
		{"a whole line", "{}\n", "{}\n{}\n"},
		{"nothing", "", "{}\n"},
	} {
		path := filepath.Join(t.TempDir(), "t.jsonl")
		if err := os.WriteFile(path, []byte(tc.before), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenSink(&SinkConfig{URL: "file://" + path})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), []Entry{{Text: []byte("{}")}}); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != tc.want {
			t.Errorf("%s: got %q, %v, want %q", tc.name, got, err, tc.want)
		}
	}
}

// A sink goes on where it was, also when its cursor could not be stored for a while: then it gets some twice.
func TestFileGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.jsonl")
	trail := newWorldTrail()
	for range 1000 {
		trail.add(Record{})
	}
	for range 3 {
		feeds, stop := run(t, trail, SinkConfig{Name: "file", URL: "file://" + path})
		eventually(t, 5*time.Second, "all is taken", func() bool { return feeds.States()[0].Taken == int64(len(trail.lines())) })
		stop()
		trail.add(Record{})
	}
	want := trail.lines()
	if got := readLines(t, path); !slices.Equal(got, want[:len(want)-1]) {
		t.Errorf("got %d lines, want %d, each once", len(got), len(want)-1)
	}
}
