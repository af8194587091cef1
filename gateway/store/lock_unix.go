//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package store

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// fileLock is held on a file beside the database, not on the database itself: SQLite's own exclusive mode would keep
// out the readers of `scimgate audit`. flock belongs to the open file, so that a second Store in the same process is
// kept out too, and the kernel releases it however the process ends. The file stays: removing it would let two
// processes lock two files of one name.
type fileLock struct{ file *os.File }

// lockFile returns an error that is ErrLocked when somebody else holds the lock.
func lockFile(path string) (*fileLock, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w (the file system must support locks: use a local disk)", path, err)
		}
		holder := make([]byte, 64)
		n, _ := file.Read(holder)
		return nil, fmt.Errorf("%w: another scimgate (%s) holds %s; stop it, or give this one a database of its own",
			ErrLocked, strings.TrimSpace(string(holder[:n])), path)
	}
	// The holder's process id is for people; the lock does not depend on it.
	if err := file.Truncate(0); err == nil {
		fmt.Fprintf(file, "process %d\n", os.Getpid())
	}
	return &fileLock{file}, nil
}

func (l *fileLock) Close() error { return l.file.Close() }
