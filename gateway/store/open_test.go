package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
)

// seeded makes a closed database with some records and returns its path.
func seeded(t *testing.T, records int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gate.db")
	s, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		mustAppend(t, s, benchRecord(int64(i)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// edit runs SQL on a database behind the store's back.
func edit(t *testing.T, path, query string) {
	t.Helper()
	c, err := dial(dsn(path, modeReadWrite))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.exec(query), c.Close()); err != nil {
		t.Fatal(err)
	}
}

// overwrite puts bytes into a file, from offset on.
func overwrite(t *testing.T, path string, offset int64, with []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt(with, offset)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestOpenRefuses: what cannot be opened is left exactly as it was, and the error names it and says what to do.
func TestOpenRefuses(t *testing.T) {
	garbage := bytes.Repeat([]byte("garbage!"), 512)
	for _, tt := range []struct {
		name string
		path func(t *testing.T) string
		want string
	}{
		{"no path", func(t *testing.T) string { return "" }, "no path was given"},
		{"folder", func(t *testing.T) string { return t.TempDir() }, "this is a folder: name a file in it"},
		{"missing folder", func(t *testing.T) string { return filepath.Join(t.TempDir(), "no", "gate.db") }, "create its folder"},
		{"empty file", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "gate.db")
			overwrite(t, path, 0, nil)
			return path
		}, "the file is empty, which no scimgate database ever is: restore a backup"},
		{"another file", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "gate.db")
			overwrite(t, path, 0, []byte(strings.Repeat("listen: 127.0.0.1:8080\n", 100)))
			return path
		}, "damaged or not a database: move it"},
		{"damaged header", func(t *testing.T) string {
			path := seeded(t, 200)
			overwrite(t, path, 0, garbage[:64])
			return path
		}, "damaged or not a database: move it"},
		{"damaged page", func(t *testing.T) string {
			path := seeded(t, 200)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, path, info.Size()/2/4096*4096, garbage) // of the trail, which is most of it
			return path
		}, "the file is damaged: move it"},
		{"cut off", func(t *testing.T) string {
			path := seeded(t, 200)
			if err := os.Truncate(path, 10*4096); err != nil {
				t.Fatal(err)
			}
			return path
		}, "damaged"},
		{"somebody else's database", func(t *testing.T) string {
			path := seeded(t, 1)
			edit(t, path, `DROP TABLE meta`)
			return path
		}, "this is not a scimgate database: name another file"},
		{"no version", func(t *testing.T) string {
			path := seeded(t, 1)
			edit(t, path, `UPDATE meta SET value = 'x'`)
			return path
		}, `its schema version is "x"`},
		{"newer", func(t *testing.T) string {
			path := seeded(t, 1)
			edit(t, path, fmt.Sprintf(`UPDATE meta SET value = '%d' WHERE name = 'schema'`, schemaVersion+1))
			return path
		}, "written by a newer scimgate"},
		{"log without its file", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "gate.db")
			overwrite(t, path+"-wal", 0, garbage)
			return path
		}, "-wal is there with records in it: put the file back"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := tt.path(t)
			before := fingerprint(t, path)
			s, err := Open(t.Context(), Config{Path: path})
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error with %q and the path", err, tt.want)
			}
			if after := fingerprint(t, path); after != before {
				t.Errorf("files before:\n%s\nand after:\n%s", before, after)
			}
			if tt.name == "log without its file" {
				return
			}
			r, err := OpenReadOnly(t.Context(), path)
			if err == nil {
				err = errors.Join(drain(r), r.Close())
			}
			if err == nil {
				t.Error("OpenReadOnly read it without an error")
			}
			if after := fingerprint(t, path); after != before {
				t.Errorf("OpenReadOnly: files before:\n%s\nand after:\n%s", before, after)
			}
		})
	}
}

func drain(r *Reader) error {
	for _, err := range r.Search(context.Background(), audit.Query{}) {
		if err != nil {
			return err
		}
	}
	return nil
}

// fingerprint sums up the files of a database, but for the lock and the shared memory, which hold no data.
func fingerprint(t *testing.T, path string) string {
	t.Helper()
	var sums strings.Builder
	for _, suffix := range []string{"", "-wal", "-journal", ".new"} {
		content, err := os.ReadFile(path + suffix)
		if err != nil || len(content) == 0 && suffix != "" {
			continue
		}
		fmt.Fprintf(&sums, "%s: %d bytes, %x\n", suffix, len(content), sha256.Sum256(content))
	}
	return sums.String()
}

func TestOpenLocks(t *testing.T) {
	s := mustOpen(t, Config{})
	path := s.path
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link, filepath.Dir(path) + "/./gate.db"} {
		_, err := Open(t.Context(), Config{Path: name})
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), fmt.Sprintf("another scimgate (process %d)", os.Getpid())) {
			t.Errorf("Open(%s): got %v, want that another scimgate holds it", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, Config{Path: link})
	if again.path != path {
		t.Errorf("opened %s through the link, want %s", again.path, path)
	}
}

// A start that died while it made a new database leaves no database, and the next start begins again.
func TestOpenAfterADeathInCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	for _, suffix := range []string{".new", ".new-wal", ".new-shm", ".new-journal"} {
		overwrite(t, path+suffix, 0, []byte("half a database"))
	}
	s := mustOpen(t, Config{Path: path})
	mustAppend(t, s, &audit.Record{})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode().Perm(), os.FileMode(0o600); got != want {
		t.Errorf("the database's mode is %v, want %v: it names people", got, want)
	}
	if left, _ := filepath.Glob(path + ".new*"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestOpenHasRoomForStrangePaths(t *testing.T) {
	for _, name := range []string{"a b?c#d%20e&mode=ro.db", "ä:ö.db", "file:x.db"} {
		path := filepath.Join(t.TempDir(), name)
		s := mustOpen(t, Config{Path: path})
		mustAppend(t, s, &audit.Record{})
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := len(trail(t, &s.Reader)); got != 1 {
			t.Errorf("%s: got %d records, want 1", name, got)
		}
	}
}

func TestOpenReadOnly(t *testing.T) {
	s := mustOpen(t, Config{})
	mustAppend(t, s, benchRecord(1))
	r, err := OpenReadOnly(t.Context(), s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := len(trail(t, r)); got != 1 {
		t.Errorf("got %d records, want 1", got)
	}
	mustAppend(t, s, benchRecord(2)) // while the reader is open
	if got := len(trail(t, r)); got != 2 {
		t.Errorf("got %d records, want 2", got)
	}
	if _, err := r.lookups.Exec(`DELETE FROM trail`); err == nil {
		t.Error("a reader could delete the trail")
	}
	missing := filepath.Join(t.TempDir(), "none.db")
	if _, err := OpenReadOnly(t.Context(), missing); err == nil || !strings.Contains(err.Error(), "there is no such file") {
		t.Errorf("got %v, want that there is no such file", err)
	}
	if left, _ := filepath.Glob(missing + "*"); len(left) != 0 {
		t.Errorf("OpenReadOnly made %q", left)
	}
}

// A copy of the files as a crash, or a backup of a running database, leaves them: everything may still be in the -wal,
// whether that grows or was given its full length.
func TestReadNeverCheckpointed(t *testing.T) {
	for records, full := range map[int]bool{busyAfter / 2: false, 3 * busyAfter: true} {
		s := mustOpen(t, Config{})
		for i := range records {
			mustAppend(t, s, benchRecord(int64(i)))
		}
		copied := filepath.Join(t.TempDir(), "copy.db")
		for _, suffix := range []string{"", "-wal"} {
			content, err := os.ReadFile(s.path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if suffix != "" && (len(content) == logBytes) != full {
				t.Errorf("%d records: the log has %d bytes, its full length is %d", records, len(content), logBytes)
			}
			overwrite(t, copied+suffix, 0, content)
		}
		r, err := OpenReadOnly(t.Context(), copied)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(trail(t, r)); got != records {
			t.Errorf("read-only: got %d records, want %d", got, records)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		again := mustOpen(t, Config{Path: copied})
		if got := len(trail(t, &again.Reader)); got != records {
			t.Errorf("opened: got %d records, want %d", got, records)
		}
	}
}

// Every migration so far, from a database of each earlier version.
func TestMigrate(t *testing.T) {
	for version := range migrations {
		path := filepath.Join(t.TempDir(), "gate.db")
		overwrite(t, path, 0, nil)
		query := sqlCreateMeta + `;`
		for i, migration := range migrations[:version] {
			query += migration + fmt.Sprintf(`;INSERT OR REPLACE INTO meta (name, value) VALUES ('schema', '%d');`, i+1)
		}
		records := 0
		if version > 0 {
			for records = range 300 {
				query += fmt.Sprintf(`INSERT INTO trail (seq, time, kind, request_id, user_name, user_key, record) VALUES (%d, %d, 'event', 'r%d', 'ann', 'ann', '{"v":1,"seq":%[1]d}');`,
					records+1, 1e6*records, records)
			}
			records++
		}
		edit(t, path, query)
		c, err := dial(dsn(path, modeReadWrite))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(migrate(c), c.Close()); err != nil {
			t.Fatalf("from version %d: %v", version, err)
		}
		s := mustOpen(t, Config{Path: path})
		mustAppend(t, s, benchRecord(1))
		for q, want := range map[audit.Query]int{{User: "ann"}: records, {RequestID: "r7"}: records / 300, {Since: time.Unix(100, 0), Until: time.Unix(200, 0)}: records / 3} {
			got := 0
			for _, err := range s.Search(t.Context(), q) {
				if got++; err != nil {
					t.Fatal(err)
				}
			}
			if got != want {
				t.Errorf("from version %d: %+v: got %d records, want %d", version, q, got, want)
			}
		}
	}
}
