package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scimgate/config"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// An errand is an event of two kinds and nothing else: no record of a request can be made up this way.
func TestErrandsThatAreRefused(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "trail.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, tt := range []struct{ name, text string }{
		{"nothing", `{}`},
		{"an outcome", `{"record":{"kind":"outcome","action":"unsealed"}}`},
		{"a start", `{"record":{"kind":"event","action":"started"}}`},
		{"an erasure in disguise", `{"record":{"kind":"event","action":"unsealed"},"erase":["00"]}`},
	} {
		var e errand
		if err := json.Unmarshal([]byte(tt.text), &e); err != nil {
			t.Fatal(err)
		}
		if err := e.run(t.Context(), s, nil); err == nil {
			t.Errorf("%s: got no error", tt.name)
		}
	}
	if st, err := s.Stats(t.Context()); err != nil || st.Records != 0 {
		t.Errorf("got %d records and %v, want none", st.Records, err)
	}
}

// Of a record that comes as an errand, what only the store and requests may say does not count.
func TestErrandsForgeNothing(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "trail.db"), Boot: "here"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, action := range []string{audit.Unsealed, audit.Erased} {
		var e errand
		if err := json.Unmarshal([]byte(`{"record":{"v":7,"seq":9,"id":"forged","time":"2001-01-01T00:00:00Z","kind":"event","action":"`+action+`","boot":"forged",
			"intent":4,"requestId":"forged","credential":"forged","source":"forged","sealed":"AA==","sealedKey":"forged","pruned":{"first":1,"last":9},
			"subject":{"userName":"ann"},"answer":{"status":200},"findings":[{"rule":"privacy","verdict":"remark","reason":"by ann"}]}}`), &e); err != nil {
			t.Fatal(err)
		}
		if err := e.run(t.Context(), s, nil); err != nil {
			t.Fatal(err)
		}
	}
	for rec, err := range s.Search(t.Context(), audit.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		line := string(audit.Append(nil, rec))
		if strings.Contains(line, "forged") || rec.Pruned != nil || rec.Time.Year() < 2026 || rec.Intent != 0 || rec.Answer.Status != 0 {
			t.Errorf("got %s", line)
		}
		if rec.Subject.UserName != "ann" || rec.Findings[0].Reason != "by ann" {
			t.Errorf("got %s, want what the event is about", line)
		}
	}
}

// A folder that others can write to, or that is somebody else's, is none for errands.
func TestErrandFolderIsOurs(t *testing.T) {
	dir := t.TempDir()
	database := filepath.Join(dir, "trail.db")
	folder, err := openErrands(database)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := openErrands(database); err != nil || again != folder {
		t.Errorf("got %q and %v the second time", again, err)
	}
	planted := filepath.Join(folder, "planted"+asked)
	if err := errors.Join(os.WriteFile(planted, []byte(`{}`), 0o600), os.Chmod(folder, 0o770)); err != nil {
		t.Fatal(err)
	}
	e := &errand{Record: &audit.Record{Kind: audit.Event, Action: audit.Unsealed}}
	if _, err := e.put(database); err == nil || !strings.Contains(err.Error(), "its owner alone") {
		t.Errorf("put into a folder that others write to: got %v", err)
	}
	if _, err := openErrands(database); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got mode %v and %v, want 0700", info.Mode(), err)
	}
	if _, err := os.Stat(planted); err == nil {
		t.Error("what others have put there is still there")
	}
	name, err := e.put(database)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name + asked); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("an errand has mode %v, %v, want 0600", info.Mode(), err)
	}
	if os.Geteuid() == 0 { // only root can give it away
		if err := os.Chown(folder, 65532, 65532); err != nil {
			t.Fatal(err)
		}
		if _, err := openErrands(database); err == nil || !strings.Contains(err.Error(), "belongs to user 65532") {
			t.Errorf("somebody else's folder: got %v", err)
		}
		name, err := e.put(database) // root may leave an errand there, which its owner can read
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(name + asked); err != nil {
			t.Error(err)
		} else if uid, _, _ := audit.Owner(info); uid != 65532 {
			t.Errorf("root's errand belongs to user %d, want 65532", uid)
		}
	}
	if err := errors.Join(os.RemoveAll(folder), os.Mkdir(folder+"2", 0o700), os.Symlink(folder+"2", folder)); err != nil {
		t.Fatal(err)
	}
	if _, err := openErrands(database); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("a link: got %v", err)
	}
	// By whatever name the database is called, the folder is the same.
	if err := errors.Join(os.WriteFile(database, nil, 0o600), os.Symlink(database, filepath.Join(dir, "link.db"))); err != nil {
		t.Fatal(err)
	}
	if got, want := errandFolder(filepath.Join(dir, "link.db")), errandFolder(database); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A command waits for another one that holds the database and is no gateway, and then does itself what it has to do.
func TestErrandWaitsForTheLock(t *testing.T) {
	database := filepath.Join(t.TempDir(), "trail.db")
	s, err := store.Open(t.Context(), store.Config{Path: database})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(errandFolder(database), 0o700); err != nil { // of a gateway that ran before
		t.Fatal(err)
	}
	var notes bytes.Buffer
	files := trailFiles{database: database, keyFile: database + ".key", notes: &notes}
	done := make(chan error, 1)
	go func() {
		done <- files.write(t.Context(), &errand{Record: &audit.Record{Kind: audit.Event, Action: audit.Unsealed}})
	}()
	deadline := time.Now().Add(10 * time.Second)
	for waits := false; !waits && time.Now().Before(deadline); {
		entries, err := os.ReadDir(errandFolder(database))
		if err != nil {
			t.Fatal(err)
		}
		waits = len(entries) > 0
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r, err := store.OpenReadOnly(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if st, err := r.Stats(t.Context()); err != nil || st.Records != 1 {
		t.Errorf("got %d records and %v, want the one", st.Records, err)
	}
	if entries, err := os.ReadDir(errandFolder(database)); err != nil || len(entries) > 0 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
	if !strings.Contains(notes.String(), "the signing key is not at hand") {
		t.Errorf("got the note %q, want that nothing is signed", notes.String())
	}
}

// What is no errand is answered with an error, what nobody waits for is removed undone, and anything else is left alone.
func TestErrandFolder(t *testing.T) {
	database := filepath.Join(t.TempDir(), "trail.db")
	s, err := store.Open(t.Context(), store.Config{Path: database})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := &app{cfg: &config.Config{Database: database}, store: s, log: slog.New(slog.DiscardHandler)}
	folder := errandFolder(database)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	unsealed := `{"record":{"kind":"event","action":"unsealed"}}`
	put := func(name, text string, age time.Duration) {
		t.Helper()
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if at := time.Now().Add(-age); age > 0 {
			if err := os.Chtimes(file, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("good"+asked, unsealed, 0)
	put("bad"+asked, `{"record":`, 0)
	put("old"+asked, unsealed, 2*errandWait)
	put("lost"+answered, "", 2*errandWait)
	put("half"+asked+".new", `{`, 0)
	if err := os.Symlink(filepath.Join(folder, "half"+asked+".new"), filepath.Join(folder, "link"+asked)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		a.doErrand(t.Context(), filepath.Join(folder, entry.Name()), entry)
	}
	left := map[string]string{}
	err = fs.WalkDir(os.DirFS(folder), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(folder, path))
		left[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := left["good"+answered]; !ok || text != "" {
		t.Errorf("the good errand was answered %q, %v", text, ok)
	}
	if text := left["bad"+answered]; !strings.Contains(text, "JSON") {
		t.Errorf("the bad errand was answered %q", text)
	}
	if len(left) != 4 {
		t.Errorf("left: %q, want two answers, what is half written, and the link", left)
	}
	if st, err := s.Stats(t.Context()); err != nil || st.Records != 1 {
		t.Errorf("got %d records and %v, want that of the good errand", st.Records, err)
	}
}

// A command that is interrupted, or that no gateway answers, takes its errand back.
func TestErrandIsTakenBack(t *testing.T) {
	database := filepath.Join(t.TempDir(), "trail.db")
	e := &errand{Record: &audit.Record{Kind: audit.Event, Action: audit.Unsealed}}
	if err := e.try(t.Context(), database, time.Millisecond); !errors.Is(err, errUnheeded) || !strings.Contains(err.Error(), "takes no errands") {
		t.Errorf("got %v without a folder", err)
	}
	if err := os.Mkdir(errandFolder(database), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, err := range []error{e.send(ctx, database), e.try(t.Context(), database, time.Millisecond)} {
		if !errors.Is(err, errUnheeded) {
			t.Errorf("got %v although nobody took it", err)
		}
	}
	if entries, err := os.ReadDir(errandFolder(database)); err != nil || len(entries) > 0 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
}
