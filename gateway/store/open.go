package store

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// wholeCheckLimit is the size in bytes up to which the whole file is checked at every start. Beyond it only the tables
// other than the trail are: the check reads every page, and a start must not take minutes. `scimgate audit export`
// reads all of the trail.
const wholeCheckLimit = 128 << 20

// resolve returns the absolute path of a database file, following symbolic links, so that one database has one lock.
// exists is false when there is nothing at path yet; anything but a file with content is refused.
func resolve(path string) (full string, exists bool, err error) {
	if path == "" {
		return "", false, errors.New("database: no path was given")
	}
	if full, err = filepath.Abs(path); err != nil {
		return "", false, explainFile(path, err)
	}
	info, err := os.Stat(full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if real, err := filepath.EvalSymlinks(filepath.Dir(full)); err == nil {
			full = filepath.Join(real, filepath.Base(full))
		}
		return full, false, nil
	case err != nil:
		return "", false, explainFile(path, err)
	case info.IsDir():
		return "", false, fmt.Errorf("database %s: this is a folder: name a file in it", path)
	case !info.Mode().IsRegular():
		return "", false, fmt.Errorf("database %s: this is not a regular file", path)
	case info.Size() == 0:
		return "", false, fmt.Errorf("database %s: the file is empty, which no scimgate database ever is: restore a backup, or remove the file to begin a new trail", path)
	}
	if full, err = filepath.EvalSymlinks(full); err != nil {
		return "", false, explainFile(path, err)
	}
	return full, true, nil
}

// create makes a new database under another name and renames it when it is complete, so that a file at path is always
// a whole database, whenever the process dies. The caller holds the lock.
func create(path string) error {
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Size() > 0 {
			return fmt.Errorf("database %s: the file is missing, but %s%s is there with records in it: put the file back, or move the other away to begin a new trail", path, path, suffix)
		}
	}
	fresh := path + ".new"
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(fresh + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explainFile(path, err)
		}
	}
	// The trail names people: its file, and so the -wal and -shm files, which take over its mode, are for the owner only.
	file, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return explainFile(path, err)
	}
	if err := file.Close(); err != nil {
		return explainFile(path, err)
	}
	c, err := dial(dsn(fresh, modeReadWrite))
	if err != nil {
		return explain(path, err)
	}
	err = prepare(c)
	if err == nil {
		err = migrate(c)
	}
	if err := errors.Join(err, c.Close()); err != nil { // the last close moves everything from the -wal into the file
		return errors.Join(explain(path, err), os.Remove(fresh))
	}
	if err := os.Rename(fresh, path); err != nil {
		return explainFile(path, err)
	}
	return syncDir(filepath.Dir(path))
}

// prepare sets up a writing connection: a write-ahead log that is synced at every commit, to the platter where the
// system distinguishes (macOS). The log grows to logPages before it is moved into the file: the commit that does so is
// slow, and this keeps it to far fewer than one in a hundred. What is deleted is overwritten with zeros:
// kept attributes are personal values, and must not outlive their resource in free pages of the file. What SQLite notes to
// undo half a statement, such as one that indexes a stretch, stays in memory.
func prepare(c *conn) error {
	mode, err := c.get(`PRAGMA journal_mode = WAL`)
	if err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("its file system does not support SQLite's write-ahead log (a network share?): use a local disk")
	}
	return c.exec(fmt.Sprintf(`PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA cache_size = -6144; PRAGMA secure_delete = ON;
		PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = %d; PRAGMA journal_size_limit = 134217728`, logPages))
}

// The write-ahead log's length in pages, from which it begins anew, and in bytes: each page has a header of 24.
const (
	logPages = 4096
	logBytes = 32 + logPages*(4096+24)
)

// extendLog gives the write-ahead log its full length: a sync of a file that grows costs the file system a commit of its
// own journal beside the data. Only the writer may do this, between transactions. SQLite reads the log to the first
// frame that is none, and zeros are none.
func extendLog(path string) error {
	f, err := os.OpenFile(path+"-wal", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, 256<<10)
	for at := info.Size(); at < logBytes; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), logBytes-at)], at); err != nil {
			return errors.Join(err, f.Truncate(info.Size())) // the last of the disk is for the trail
		}
	}
	return f.Sync()
}

// readVersion returns the schema version of the database; a database without one belongs to somebody else.
func readVersion(get func(query string, values ...driver.Value) (driver.Value, error)) (int, error) {
	value, err := get(sqlGetMeta, "schema")
	if err != nil {
		if strings.Contains(err.Error(), "no such table") {
			return 0, errors.New("this is not a scimgate database: name another file")
		}
		return 0, err
	}
	text, _ := value.(string)
	version, err := strconv.Atoi(text)
	if err != nil || version < 1 {
		return 0, fmt.Errorf("this is not a scimgate database, its schema version is %q: name another file", text)
	}
	return version, nil
}

// check reads the version of an existing database and looks for damage.
func check(c *conn, path string) error {
	version, err := readVersion(c.get)
	if err != nil {
		return err
	}
	if version > schemaVersion {
		return newer(version)
	}
	pragmas := []string{`PRAGMA quick_check(1)`}
	if info, err := os.Stat(path); err != nil || info.Size() > wholeCheckLimit {
		pragmas = []string{`PRAGMA quick_check(meta)`, `PRAGMA quick_check(open_intents)`, `PRAGMA quick_check(identity)`}
	}
	for _, pragma := range pragmas {
		answer, err := c.get(pragma)
		if err != nil {
			return err
		}
		if answer != "ok" {
			return fmt.Errorf("the file is damaged: move it and its -wal and -shm files to a safe place and restore a backup; it was not changed (%v)", answer)
		}
	}
	return nil
}

func newer(version int) error {
	return fmt.Errorf("it has schema version %d, written by a newer scimgate; this one knows version %d: run the newer program, or restore a backup from before the upgrade", version, schemaVersion)
}

// migrate brings the database to schemaVersion in one transaction.
func migrate(c *conn) (err error) {
	if err := c.exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.exec(`ROLLBACK`))
		}
	}()
	if err := c.exec(sqlCreateMeta); err != nil {
		return err
	}
	version := 0
	if value, err := c.get(sqlGetMeta, "schema"); err != nil {
		return err
	} else if value != nil {
		if version, err = readVersion(c.get); err != nil {
			return err
		}
	}
	for _, migration := range migrations[version:] {
		if err := c.exec(migration); err != nil {
			return fmt.Errorf("migrate from schema version %d: %w", version, err)
		}
		version++
	}
	if err := fillBlocks(c); err != nil {
		return fmt.Errorf("index the trail by words: %w", err)
	}
	// Written even when nothing changed: a database that cannot be written to is better noticed at the start.
	if err := c.exec(sqlPutMeta, "schema", strconv.Itoa(version)); err != nil {
		return err
	}
	return c.exec(`COMMIT`)
}

// syncDir makes a new name in a folder durable. Systems that cannot open or sync a folder order this themselves.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}
