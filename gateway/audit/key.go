package audit

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// KeySize is the length in bytes of the key under which sensitive values are hashed.
const KeySize = 32

// LoadOrCreateKey returns the key in the file at path, and creates the file with a random key and mode 0600 when there
// is none. The file appears complete or not at all, and an existing one is never written to: with another key, equal
// values would no longer look equal to those in older records.
func LoadOrCreateKey(path string) ([]byte, error) {
	key, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	var fresh [KeySize]byte
	rand.Read(fresh[:])
	if err := createFile(path, fresh[:]); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create the trail's key: %w; make the folder writable, or put a file of %d random bytes there", err, KeySize)
	}
	return loadKey(path) // also when another process was faster
}

func loadKey(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the trail's key: %w", err)
	}
	defer file.Close()
	key, err := io.ReadAll(io.LimitReader(file, KeySize+1))
	if err != nil {
		return nil, fmt.Errorf("read the trail's key: %w", err)
	}
	if len(key) != KeySize {
		size := fmt.Sprintf("%d bytes", len(key))
		if len(key) > KeySize {
			size = fmt.Sprintf("more than %d bytes", KeySize)
		}
		return nil, fmt.Errorf("the trail's key %s has %s, not %d: restore it from a backup, or move it away to begin with a new key (equal values will then not look equal across the change)", path, size, KeySize)
	}
	return key, nil
}

// createFile writes a key beside its place and links it there: link fails when the name is taken, and no reader can see
// half a key.
func createFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // O_EXCL, 0600
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
