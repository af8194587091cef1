package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// fileSink appends JSON lines to a file and syncs them. Only this sink may write to it; others may read it, move it away
// (a new one is made), delete it or cut it to nothing. Whoever copies a file before he deletes or cuts it (copytruncate of
// logrotate) has not copied what came in between: so what was taken lately comes again then.
type fileSink struct {
	path string
	file *os.File // nil: to be opened
	size int64    // of file, as this sink has left it
}

func openFile(_ *SinkConfig, u *url.URL) (Sink, error) {
	if u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/") || u.RawQuery != "" {
		return nil, errors.New("want file:///PATH with the whole path of a file, such as file:///var/log/scimgate/trail.jsonl")
	}
	return &fileSink{path: filepath.FromSlash(u.Path)}, nil
}

// fileTries bounds how often a batch is written again because the file was moved or deleted meanwhile.
const fileTries = 5

func (s *fileSink) Append(_ context.Context, entries []Entry) error {
	for range fileTries {
		if err := s.hold(); err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
		if err := s.write(entries); err != nil {
			return errors.Join(err, s.drop())
		}
		if s.isHeld() {
			return nil
		}
		// Moved or deleted while it was written to: in a deleted file the entries would be lost, in a moved one they are
		// there twice.
	}
	return fmt.Errorf("%s is moved or deleted faster than it can be written", s.path)
}

// hold makes sure that the open file is the one at the path, and as it was left.
func (s *fileSink) hold() error {
	if s.file == nil {
		return s.open()
	}
	open, err := s.file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("look at the file: %w", err), s.drop())
	}
	switch {
	case isDeleted(open):
		return errors.Join(&lost{fmt.Errorf("%s was deleted: a new file is made, and begins with what came lately", s.path)}, s.drop())
	case open.Size() < s.size:
		s.size = open.Size()
		return &lost{fmt.Errorf("%s was cut: what came lately is written again", s.path)}
	case s.isHeld():
		return nil
	}
	if err := s.drop(); err != nil {
		return err
	}
	return s.open()
}

// open opens the file at the path, or makes it.
func (s *fileSink) open() error {
	info, err := os.Lstat(s.path)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file but %s: name another, or move it away", s.path, kindOfFile(info.Mode()))
	}
	fresh := err != nil
	if s.file, err = os.OpenFile(s.path, os.O_RDWR|os.O_APPEND|os.O_CREATE|openCarefully, 0o600); err != nil { // the trail names people
		s.file = nil
		return fmt.Errorf("open the file: %w", err)
	}
	if info, err = s.file.Stat(); err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file but %s: name another, or move it away", s.path, kindOfFile(info.Mode()))
	}
	if err == nil {
		err = lockSink(s.file)
	}
	if err == nil {
		err = s.endLine()
	}
	if err == nil && fresh {
		if err = syncDir(filepath.Dir(s.path)); err != nil {
			err = fmt.Errorf("make the new file durable: %w", err)
		}
	}
	if err != nil {
		return errors.Join(err, s.drop())
	}
	return nil
}

func kindOfFile(mode os.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&os.ModeSymlink != 0:
		return "a symbolic link"
	case mode&os.ModeNamedPipe != 0:
		return "a FIFO"
	}
	return "a device or socket"
}

// isHeld reports whether the open file is still the one at the path.
func (s *fileSink) isHeld() bool {
	open, err := s.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(s.path)
	return err == nil && os.SameFile(open, there)
}

// endLine ends a line that a process which died left half written. Its entry follows whole. Nothing is cut off: somebody
// may be reading behind us.
func (s *fileSink) endLine() error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if s.size = info.Size(); s.size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := s.file.ReadAt(last[:], info.Size()-1); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the end of the file: %w", err)
	}
	if last[0] == '\n' {
		return nil
	}
	if _, err = s.file.Write([]byte{'\n'}); err == nil {
		s.size++
	}
	return err
}

// write appends the entries, whole or not at all as far as the file system lets it.
func (s *fileSink) write(entries []Entry) error {
	lines := appendLines(nil, entries)
	if _, err := s.file.Write(lines); err != nil {
		return errors.Join(fmt.Errorf("write to the file: %w", err), s.takeBack())
	}
	if err := s.file.Sync(); err != nil {
		// What was not synced may be gone from memory too: the next attempt writes it again.
		return errors.Join(fmt.Errorf("sync the file: %w", err), s.takeBack())
	}
	s.size += int64(len(lines))
	return nil
}

// takeBack cuts off what was written beyond the size. A file that somebody cut to less meanwhile stays so.
func (s *fileSink) takeBack() error {
	info, err := s.file.Stat()
	if err != nil || info.Size() <= s.size {
		return err
	}
	return s.file.Truncate(s.size)
}

func (s *fileSink) drop() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

func (s *fileSink) Close() error { return s.drop() }

// appendLines writes entries as JSON lines.
func appendLines(dst []byte, entries []Entry) []byte {
	b := bytes.NewBuffer(dst)
	for _, e := range entries {
		b.Write(e.Text)
		b.WriteByte('\n')
	}
	return b.Bytes()
}
