package store

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrLocked: another process, or another Store of this one, has the database open.
	ErrLocked = errors.New("the database is in use")
	// ErrClosed: the Store was closed; nothing was stored.
	ErrClosed = errors.New("the store is closed")
	// ErrNotDurable: what was to be stored is not durable, as far as is known by now. See the method's comment for what
	// becomes of it.
	ErrNotDurable = errors.New("not durable in time")
	// ErrNotOpen: the intent that was to be closed or reconciled has no open row: it already has its one outcome, or
	// never was an intent. Nothing was stored.
	ErrNotOpen = errors.New("the intent is not open")
	// ErrNotFound: the trail has no record of that number.
	ErrNotFound = errors.New("no such record")
)

// explain adds to an error, above all one of SQLite, what it means for the database at path and what to do about it. Nothing in this
// package repairs or replaces a file, so the advice is always safe to follow later.
func explain(path string, err error) error {
	if err == nil {
		return nil
	}
	failed, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return fmt.Errorf("database %s: %w", path, err)
	}
	code := failed.Code() & 0xff
	if failed.Code() == sqlite3.SQLITE_IOERR_SHMSIZE { // the -shm file could not grow
		code = sqlite3.SQLITE_FULL
	}
	var advice string
	switch code {
	case sqlite3.SQLITE_FULL:
		advice = "the disk (or the file's size limit) is full: free some space, nothing else needs to be done"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		advice = "the file, its folder or its file system is read-only: make all three writable for the user who runs scimgate"
	case sqlite3.SQLITE_CANTOPEN:
		advice = "the file, or its -wal and -shm files beside it, cannot be opened or created: check the permissions of the file and its folder"
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		advice = "the file is damaged or not a database: move it and its -wal and -shm files to a safe place and restore a backup; it was not changed"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		advice = "another program is writing to it: find and stop it"
	case sqlite3.SQLITE_IOERR:
		advice = "the disk reported an error: look into the system's log, and check the disk before restarting"
	default:
		return fmt.Errorf("database %s: %w", path, err)
	}
	return fmt.Errorf("database %s: %s: %w", path, advice, err)
}

// explainFile does the same for an error of the file system.
func explainFile(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("database %s: make the file and its folder writable for the user who runs scimgate: %w", path, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("database %s: create its folder, or name another place: %w", path, err)
	}
	return fmt.Errorf("database %s: %w", path, err)
}
