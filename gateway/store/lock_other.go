//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// fileLock is a file that exists while the database is open. Where the kernel has no flock, nobody removes it after a
// crash but the operator, who is told so.
type fileLock struct{ path string }

// lockFile returns an error that is ErrLocked when the file exists.
func lockFile(path string) (*fileLock, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		holder, _ := os.ReadFile(path)
		return nil, fmt.Errorf("%w: another scimgate (%s) holds %s; stop it, give this one a database of its own, or remove the file if that process no longer runs",
			ErrLocked, strings.TrimSpace(string(holder)), path)
	}
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(file, "process %d\n", os.Getpid())
	if err := file.Close(); err != nil {
		return nil, err
	}
	return &fileLock{path}, nil
}

func (l *fileLock) Close() error { return os.Remove(l.path) }
