package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// MaxLength is the length of the longest secret a Source gives, in bytes.
const MaxLength = 4096

// Source is where a secret comes from. It is safe for concurrent use.
type Source struct {
	path   string              // a file, or
	name   string              // an environment variable, or
	lookup func(string) string // (which reads it)
	direct Secret              // the value itself

	mu    sync.Mutex
	value Secret      // last good value
	seen  os.FileInfo // the file as it was before it was last read; nil: read it
	err   error       // what was wrong with the last reading
}

// File returns the Source that reads path, and reads it again when the file changed. One newline at the end
// is not part of the secret.
func File(path string) *Source { return &Source{path: path} }

// Env returns the Source that reads the environment variable name.
func Env(name string) *Source { return Lookup(name, os.Getenv) }

// Lookup is Env with env in the place of os.Getenv.
func Lookup(name string, env func(string) string) *Source {
	return &Source{name: name, lookup: env}
}

// Literal returns the Source that always gives value.
func Literal(value string) *Source { return &Source{direct: New(value)} }

// String says where the secret comes from, such as "file /run/secrets/token" or "environment SCIMGATE_TOKEN".
// It never says the secret.
func (s *Source) String() string {
	switch {
	case s.path != "":
		return "file " + s.path
	case s.name != "":
		return "environment " + s.name
	}
	return "value given directly"
}

// Get returns the secret. For a file that costs one stat; the file is read again when its modification time,
// size or identity (inode) changed since.
//
// A secret that is empty, longer than MaxLength, not UTF-8 or that has control characters is an error, and so
// is a file that cannot be read. The error names the source and says what to do. When an earlier Get gave a
// value, that value is kept and returned instead of the error, so that a half-finished rotation does not stop
// the service; Err then tells what is wrong.
func (s *Source) Get() (Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refresh()
	if s.value.IsZero() {
		return Secret{}, s.err
	}
	return s.value, nil
}

// Err returns what was wrong with the source at the last Get, nil if nothing was. It may be set although Get
// returned a value: then that value is an earlier one.
func (s *Source) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Warning says in one sentence what deserves attention about the source although it works: a file that others
// than its owner may read. It is "" when there is nothing to say, and always on Windows, whose permissions
// are not in the mode bits.
func (s *Source) Warning() string {
	if s.path == "" || runtime.GOOS == "windows" {
		return ""
	}
	info, err := os.Stat(s.path)
	if err != nil || info.Mode().Perm()&0o044 == 0 {
		return ""
	}
	return fmt.Sprintf("%s holds a secret and may be read by others than its owner (mode %#o): chmod 600 it",
		s, info.Mode().Perm())
}

// refresh brings value and err up to date. The caller holds mu.
func (s *Source) refresh() {
	var text string
	switch {
	case s.path != "":
		// The stat comes before the reading: a change in between makes the next stat differ, so it is seen then.
		info, err := os.Stat(s.path)
		if err != nil {
			s.seen, s.err = nil, s.explain(err)
			return
		}
		if unchanged(s.seen, info) {
			return
		}
		s.seen = info
		text, err = read(s.path, info)
		if err != nil {
			s.seen, s.err = nil, s.explain(err)
			return
		}
	case s.name != "":
		text = s.lookup(s.name)
		if text == "" {
			s.err = fmt.Errorf("%s is not set: set it to the secret", s)
			return
		}
	default:
		text = s.direct.Reveal()
	}
	if s.err = s.check(text); s.err == nil {
		s.value = New(text)
	}
}

func unchanged(old, now os.FileInfo) bool {
	return old != nil && old.Size() == now.Size() && old.ModTime().Equal(now.ModTime()) && os.SameFile(old, now)
}

var errNotRegular = errors.New("not a regular file")

// read returns the file's text without one trailing newline, and at most a little more than MaxLength of it.
// Only regular files are opened: opening a FIFO would block.
func read(path string, info os.FileInfo) (string, error) {
	if !info.Mode().IsRegular() {
		return "", errNotRegular
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, MaxLength+3)) // the secret, a CR, a LF, and one byte to see more
	if err != nil {
		return "", err
	}
	text := string(src)
	if rest, ok := strings.CutSuffix(text, "\n"); ok {
		text = strings.TrimSuffix(rest, "\r")
	}
	return text, nil
}

func (s *Source) check(text string) error {
	switch {
	case text == "":
		return fmt.Errorf("%s is empty: write the secret there, on one line", s)
	case len(text) > MaxLength:
		return fmt.Errorf("%s has more than %d bytes, too many for a secret: is it the right one?", s, MaxLength)
	case !utf8.ValidString(text):
		return fmt.Errorf("%s is not UTF-8 text: write the secret there, on one line", s)
	case strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("%s has control characters or more than one line: write the secret there, on one line", s)
	}
	return nil
}

func (s *Source) explain(err error) error {
	switch {
	case errors.Is(err, errNotRegular):
		return fmt.Errorf("%s is %w: give the path of a file that holds the secret", s, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist: create it with the secret on one line", s)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be read: let the user that runs this program read it", s)
	}
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathError.Err // the path is in s already
	}
	return fmt.Errorf("%s cannot be read: %w", s, err)
}
