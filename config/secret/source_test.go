package secret

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFileContents(t *testing.T) {
	for _, test := range []struct{ name, text, want, wantErr string }{
		{"plain", canary, canary, ""},
		{"one newline", canary + "\n", canary, ""},
		{"CR LF", canary + "\r\n", canary, ""},
		{"only one newline is trimmed", canary + "\n\n", "", "more than one line"},
		{"two lines", "a\nb\n", "", "more than one line"},
		{"empty", "", "", "is empty"},
		{"only a newline", "\n", "", "is empty"},
		{"control character", canary + "\x00", "", "control characters"},
		{"C1 control character", canary + "\u0085", "", "control characters"},
		{"not UTF-8", canary + "\xff", "", "not UTF-8"},
		{"longest", strings.Repeat("x", MaxLength) + "\r\n", strings.Repeat("x", MaxLength), ""},
		{"too long", strings.Repeat("x", MaxLength+1), "", "more than 4096 bytes"},
		{"much too long", strings.Repeat("x", 10*MaxLength), "", "more than 4096 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			write(t, path, test.text)
			s := File(path)
			got, err := s.Get()
			if got.Reveal() != test.want {
				t.Errorf("got %q, want %q", got.Reveal(), test.want)
			}
			wantError(t, err, test.wantErr, path)
			wantError(t, s.Err(), test.wantErr, path)
		})
	}
}

// wantError checks that err says want and the source, and never the secret.
func wantError(t *testing.T, err error, want, source string) {
	t.Helper()
	switch {
	case want == "" && err == nil:
	case want == "":
		t.Errorf("got error %v, want none", err)
	case err == nil:
		t.Errorf("got no error, want %q", want)
	case !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), source):
		t.Errorf("got error %q, want it to say %q and %q", err, want, source)
	case strings.Contains(err.Error(), canary):
		t.Errorf("error shows the secret: %v", err)
	}
}

func TestOtherSources(t *testing.T) {
	t.Setenv("SCIMGATE_TEST_SECRET", canary)
	t.Setenv("SCIMGATE_TEST_EMPTY", "")
	t.Setenv("SCIMGATE_TEST_LINES", canary+"\n")
	dir := t.TempDir()
	for _, test := range []struct {
		source                 *Source
		wantText, want, wantEr string
	}{
		{Env("SCIMGATE_TEST_SECRET"), "environment SCIMGATE_TEST_SECRET", canary, ""},
		{Env("SCIMGATE_TEST_EMPTY"), "environment SCIMGATE_TEST_EMPTY", "", "is not set"},
		{Env("SCIMGATE_TEST_LINES"), "environment SCIMGATE_TEST_LINES", "", "more than one line"},
		{Literal(canary), "value given directly", canary, ""},
		{Literal(""), "value given directly", "", "is empty"},
		{File(filepath.Join(dir, "none")), "file " + filepath.Join(dir, "none"), "", "does not exist"},
		{File(dir), "file " + dir, "", "not a regular file"},
	} {
		if got := test.source.String(); got != test.wantText {
			t.Errorf("String: got %q, want %q", got, test.wantText)
		}
		got, err := test.source.Get()
		if got.Reveal() != test.want {
			t.Errorf("%s: got %q, want %q", test.source, got.Reveal(), test.want)
		}
		wantError(t, err, test.wantEr, test.wantText)
		if got := test.source.Warning(); test.source.path == "" && got != "" {
			t.Errorf("%s: got warning %q, want none", test.source, got)
		}
	}
}

func TestReread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	// Times are set by hand: two writes may share one tick of the file system's clock.
	tick := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	put := func(text string) {
		t.Helper()
		write(t, path, text)
		tick = tick.Add(time.Second)
		if err := os.Chtimes(path, tick, tick); err != nil {
			t.Fatal(err)
		}
	}
	s := File(path)
	check := func(step, want, wantErr string) {
		t.Helper()
		got, err := s.Get()
		if got.Reveal() != want {
			t.Errorf("%s: got %q, want %q", step, got.Reveal(), want)
		}
		if want != "" && err != nil {
			t.Errorf("%s: got error %v although there is a value", step, err)
		}
		wantError(t, s.Err(), wantErr, path)
	}
	check("before the file exists", "", "does not exist")
	put("first\n")
	check("created", "first", "")
	put("other\n")
	check("same size, later time", "other", "")
	put("")
	check("emptied: the earlier value stays", "other", "is empty")
	check("still empty: the problem stays", "other", "is empty")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("removed", "other", "does not exist")
	put("third")
	check("repaired", "third", "")

	// A replacement by rename with the same size and time is a different file.
	next := path + ".next"
	write(t, next, "fourt")
	if err := os.Chtimes(next, tick, tick); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	check("renamed over, same size and time", "fourt", "")

	// Not read when nothing changed: the same size, time and inode show the held value.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("XXXXX"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, tick, tick); err != nil {
		t.Fatal(err)
	}
	check("nothing to see in the stat", "fourt", "")
}

func TestWarning(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permissions are not in the mode bits here")
	}
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, canary)
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o644: true, 0o620: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		got := File(path).Warning()
		if (got != "") != want || want && !strings.Contains(got, path) {
			t.Errorf("mode %o: got %q, want a warning: %v", mode, got, want)
		}
	}
	if got := File(path + ".none").Warning(); got != "" {
		t.Errorf("no file: got %q, want none", got)
	}
}

func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, "value-0")
	s := File(path)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				got, err := s.Get()
				if err != nil || !strings.HasPrefix(got.Reveal(), "value-") {
					t.Errorf("got %q, %v, want a value", got.Reveal(), err)
				}
				_ = s.Err()
			}
		})
	}
	for i := range 50 {
		next := path + ".next"
		write(t, next, "value-"+strings.Repeat("x", i))
		if err := os.Rename(next, path); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}
