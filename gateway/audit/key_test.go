package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

func TestLoadOrCreateKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.key")
	keys, err := LoadOrCreateKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 1 || len(keys[0]) != KeySize {
		t.Errorf("got %d keys, want one of %d bytes", len(keys), KeySize)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode().Perm(), os.FileMode(0o600); got != want {
		t.Errorf("mode is %v, want %v", got, want)
	}
	again, err := LoadOrCreateKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(keys, again) {
		t.Error("the second load gives another key")
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(names) != 1 {
		t.Errorf("files left behind: %q", names)
	}
}

func TestKeysRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.key")
	keys, err := LoadOrCreateKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	first := keys[0]
	for want := 2; want <= mostKeys; want++ {
		if keys, err = keys.Rotated(); err != nil {
			t.Fatal(err)
		}
		if err := keys.Save(path); err != nil {
			t.Fatal(err)
		}
		again, err := LoadKeys(path)
		if err != nil || !reflect.DeepEqual(again, keys) || len(again) != want || !bytes.Equal(again[0], first) {
			t.Fatalf("got %d keys and %v, want the %d that were saved", len(again), err, want)
		}
	}
	if _, err := keys.Rotated(); err == nil {
		t.Errorf("there is room for more than %d keys", mostKeys)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v and %v, want mode 0600", info.Mode(), err)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(names) != 1 {
		t.Errorf("files left behind: %q", names)
	}
}

func TestLoadOrCreateKeysRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.key")
	keys := make([]Keys, 16)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = LoadOrCreateKeys(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range keys {
		if !reflect.DeepEqual(keys[i], keys[0]) {
			t.Fatalf("start %d got another key than start 0", i)
		}
	}
}

func TestLoadOrCreateKeysRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, content, want string
	}{
		{"empty", "", "has 0 bytes, not 32"},
		{"short", "0123", "has 4 bytes, not 32"},
		{"long", strings.Repeat("x", 1<<20), "has more than 2048 bytes, not 32"},
	} {
		path := filepath.Join(dir, tt.name)
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadOrCreateKeys(path)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "restore it") {
			t.Errorf("%s: got %v, want an error with %q, the path and what to do", tt.name, err, tt.want)
		}
		if content, _ := os.ReadFile(path); string(content) != tt.content {
			t.Errorf("%s: the file was changed", tt.name)
		}
	}
	if _, err := LoadOrCreateKeys(dir); err == nil {
		t.Error("a folder was taken for a key")
	}
	if _, err := LoadOrCreateKeys(filepath.Join(dir, "missing", "key")); err == nil || !strings.Contains(err.Error(), "make the folder writable") {
		t.Errorf("missing folder: got %v, want an error that says what to do", err)
	}
}

// A rotation replaces the file that a link leads to, leaves nothing of what an interrupted one had written, and does not
// lock out whom the file belongs to.
func TestKeysSave(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real", "trail.key"), filepath.Join(dir, "trail.key")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	old, err := LoadOrCreateKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(path, 0o640), os.Symlink(path, link), os.WriteFile(path+".new-123", old[0], 0o600), os.WriteFile(path+".newer", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	keys := Keys{newKey()}
	if err := keys.Save(link); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadKeys(path); err != nil || !reflect.DeepEqual(got, keys) {
		t.Errorf("got %d keys and %v at the end of the link, want the new one", len(got), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became a file, %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("got mode %v and %v, want 0640 as before", info.Mode(), err)
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(names) != 2 {
		t.Errorf("got %q, want the key, and the file that is none of ours", names)
	}
	if err := keys.Save(filepath.Join(dir, "missing")); err == nil {
		t.Error("a file was replaced that is not there")
	}
}

// Root, on behalf of the gateway's user, does not make the file its own.
func TestKeysSaveKeepsTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away; CI runs as root")
	}
	path := filepath.Join(t.TempDir(), "trail.key")
	keys, err := LoadOrCreateKeys(path)
	if err == nil {
		err = os.Chown(path, 65532, 65533)
	}
	if err == nil {
		err = keys.Save(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if uid, gid, ok := Owner(info); uid != 65532 || gid != 65533 || !ok {
		t.Errorf("it belongs to %d, %d, %v", uid, gid, ok)
	}
}
