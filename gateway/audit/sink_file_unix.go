//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package audit

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// openCarefully are flags with which opening neither follows a symbolic link, which somebody may have put there, nor waits
// for the other end of a FIFO.
const openCarefully = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// lockSink keeps out another sink, of this process or another one. The kernel releases the lock however the process ends.
// A file system without locks is none the worse for it.
func lockSink(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("another sink or another scimgate writes to %s: give each a file of its own", file.Name())
	}
	return nil
}

// isDeleted reports whether an open file has no name any more.
func isDeleted(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}
