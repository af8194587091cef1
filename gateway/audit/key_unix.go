//go:build unix

package audit

import (
	"io/fs"
	"syscall"
)

// Owner returns whose a file is; ok is false where files have no owner in numbers.
func Owner(info fs.FileInfo) (uid, gid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(stat.Uid), int(stat.Gid), true
}
