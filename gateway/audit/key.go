package audit

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// KeySize is the length in bytes of a key.
const KeySize = 32

// mostKeys bounds a file of keys: a rotation a month for five years.
const mostKeys = 64

// Keys are the keys in one file, the newest last. What is written is written under the newest; the others are for what
// was written before a rotation. A file holds them one behind the other.
type Keys [][]byte

// LoadOrCreateKeys returns the keys in the file at path, and creates the file with a random key and mode 0600 when there
// is none. The file appears complete or not at all, and an existing one is not written to.
func LoadOrCreateKeys(path string) (Keys, error) {
	keys, err := LoadKeys(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	if err := createFile(path, newKey()); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create a key of the trail: %w; make the folder writable, or put a file of %d random bytes there", err, KeySize)
	}
	return LoadKeys(path) // also when another process was faster
}

// LoadKeys returns the keys in the file at path.
func LoadKeys(path string) (Keys, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read a key of the trail: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, mostKeys*KeySize+1))
	if err != nil {
		return nil, fmt.Errorf("read a key of the trail: %w", err)
	}
	if len(text) == 0 || len(text)%KeySize != 0 {
		size := fmt.Sprintf("%d bytes", len(text))
		if len(text) > mostKeys*KeySize {
			size = fmt.Sprintf("more than %d bytes", mostKeys*KeySize)
		}
		return nil, fmt.Errorf("the trail's key %s has %s, not %d for each key: restore it from a backup, or move it away to begin with a new key (what was written under the old one can then not be compared or read)", path, size, KeySize)
	}
	return slices.Collect(slices.Chunk(text, KeySize)), nil
}

// Rotated returns the keys with a new one behind them.
func (k Keys) Rotated() (Keys, error) {
	if len(k) == mostKeys {
		return nil, fmt.Errorf("there are %d keys already, which is all that a file holds", mostKeys)
	}
	return append(slices.Clone(k), newKey()), nil
}

// Save replaces the file at path, which has the new content after a crash or the old one. It keeps its mode and, where
// the caller may give files away, its owner; a symbolic link is followed. Copies that a crash left beside it go too: they
// may hold a key that is to be gone. One process at a time may call it.
func (k Keys) Save(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write a key of the trail: %w; make the folder of the key writable", err)
		}
	}()
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	dir, base := filepath.Dir(path), filepath.Base(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), base+unfinished) {
			if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	file, err := os.CreateTemp(dir, base+unfinished+"*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // fails when it has its place
	_, err = file.Write(slices.Concat(k...))
	if err = errors.Join(err, file.Sync(), file.Close(), keepOwner(file.Name(), info)); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// keepOwner gives a new file the mode and the owner of the one that it replaces.
func keepOwner(path string, old fs.FileInfo) error {
	if err := os.Chmod(path, old.Mode().Perm()); err != nil {
		return err
	}
	uid, gid, ok := Owner(old)
	if !ok {
		return nil
	}
	if err := os.Chown(path, uid, gid); err != nil && uid != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d and group %d, and the new file would not (%w): run this as that user", uid, gid, err)
	}
	return nil
}

// unfinished ends the names of files that have not got their place yet.
const unfinished = ".new-"

func newKey() []byte {
	key := make([]byte, KeySize)
	rand.Read(key) // never fails: the program ends when the system has no randomness
	return key
}

// createFile writes a key beside its place and links it there: link fails when the name is taken, and no reader can see
// half a key.
func createFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, filepath.Base(path)+unfinished+"*") // O_EXCL, 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
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
