package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// What a sink of the native format was given is the trail as JSON lines, with each checkpoint somewhere behind the last
// record that it covers:
//
//	{"v":1,"seq":1,...}
//	{"v":1,"seq":2,...}
//	{"checkpoint":"scimgate.trail/...\n1\n...\n"}
//
// Lines come again after an outage, from an earlier place on, and a line may break off where a process died: then it
// follows whole.

// SinkFile is a file of a sink, or one of those that it was rotated into.
type SinkFile struct {
	Name string // in errors
	io.Reader
}

// sinkWindow is how many records behind the newest are kept as hashes: lines that come again are compared with them.
const sinkWindow = 1 << 20

// Sink verifies what a sink was given: every line, from the first record of the trail on. The files are read one after the
// other.
func (v *Verification) Sink(ctx context.Context, files []SinkFile) (*Summary, error) {
	if err := v.expect(nil); err != nil {
		return nil, err
	}
	s := &sinkReader{Verification: v, next: 1, base: &Tree{}, tree: &Tree{}}
	for _, file := range files {
		s.file, s.line = file.Name, 0
		if err := s.read(ctx, bufio.NewReaderSize(file, longestLine)); err != nil {
			return nil, err
		}
	}
	return s.end()
}

// FirstRecord returns the place of the first record in a sink's file, 0 when there is none: files of a rotation are read in
// this order.
func FirstRecord(r io.Reader) (int64, error) {
	s := &sinkReader{}
	lines := bufio.NewReaderSize(r, longestLine)
	for {
		line, err := s.nextLine(lines)
		if errors.Is(err, io.EOF) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		if seq, ok := placeOf(line); ok {
			return seq, nil
		}
	}
}

// sinkReader goes over the lines of a sink.
type sinkReader struct {
	*Verification
	file string
	line int64

	next   int64  // place of the next record
	recent []Hash // of the records before it, those behind base
	base   *Tree
	tree   *Tree  // up to the checkpoint that was compared last
	broken []byte // the line of a record that broke off; it must follow whole
}

func (s *sinkReader) read(ctx context.Context, lines *bufio.Reader) error {
	var held []byte // a record, until the next line says whether it may have broken off
	var place, at int64
	settle := func(whole bool) error {
		if len(held) == 0 {
			return nil
		}
		now := s.line
		s.line = at
		defer func() { s.line, held = now, held[:0] }()
		if whole || json.Valid(held) {
			return s.record(place, held)
		}
		return s.breaksOff(held)
	}
	for {
		line, err := s.nextLine(lines)
		if errors.Is(err, io.EOF) {
			return settle(false)
		}
		if err != nil {
			return err
		}
		if s.line%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		seq, isRecord := placeOf(line)
		// What breaks off comes again: a record with one behind it is whole. To look at each would cost more than to verify it.
		if err := settle(isRecord && seq > place); err != nil {
			return err
		}
		if isRecord {
			held, place, at = append(held, line...), seq, s.line
		} else if err := s.special(line); err != nil {
			return err
		}
	}
}

// nextLine returns a line without its end, and without the zeros that a power failure leaves at the end of a file.
func (s *sinkReader) nextLine(lines *bufio.Reader) ([]byte, error) {
	line, err := lines.ReadSlice('\n')
	s.line++
	switch {
	case errors.Is(err, io.EOF) && len(line) > 0: // the last line may lack its end
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, s.tampered(s.next, "longer than any of a sink")
	case errors.Is(err, io.EOF):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", s.file, err)
	}
	return bytes.TrimRight(bytes.TrimSuffix(line, []byte("\n")), "\x00"), nil
}

func (s *sinkReader) tampered(record int64, format string, args ...any) error {
	return tampered(record, "%s, line %d: "+format, append([]any{s.file, s.line}, args...)...)
}

// record takes a record, for the first time or again.
func (s *sinkReader) record(seq int64, line []byte) error {
	if err := s.whole(seq, line); err != nil {
		return err
	}
	hash := LeafHash(line)
	switch {
	case seq > s.next && s.next == 1:
		return s.tampered(1, "the first is record %d: name the files with those before it too (a sink that began later, by start: now or after a pruning, cannot be verified alone)", seq)
	case seq > s.next:
		return s.tampered(s.next, "record %d is missing: record %d follows record %d", s.next, seq, s.next-1)
	case seq < 1:
		return s.tampered(s.next, "there is no record %d", seq)
	case seq == 1 && s.base.Size() > 0: // the sink began anew
		s.forget()
	case seq <= s.base.Size():
		return s.tampered(seq, "record %d comes again behind record %d, more than %d places later: verify these files apart", seq, s.next-1, sinkWindow)
	case seq < s.next:
		if s.recent[seq-s.base.Size()-1] != hash {
			return s.tampered(seq, "record %d comes again, and is not the same", seq)
		}
		s.summary.Repeated++
		return nil
	}
	s.recent = append(s.recent, hash)
	s.next++
	if len(s.recent) == 2*sinkWindow {
		extend(s.base, s.recent[:sinkWindow])
		s.recent = slices.Delete(s.recent, 0, sinkWindow)
	}
	if s.Progress != nil && seq%portionSize == 0 {
		s.Progress(seq)
	}
	for len(s.expected) > 0 && s.expected[0].Size == seq {
		if err := s.checkpoint(s.expected[0]); err != nil {
			return err
		}
		s.expected = s.expected[1:]
	}
	return nil
}

// forget begins with the trail anew. It must come as far as it did.
func (s *sinkReader) forget() {
	if s.passed != nil {
		s.expected = slices.Insert(s.expected, 0, s.passed)
	}
	s.summary.Repeated += s.next - 1
	s.next, s.recent, s.base, s.tree, s.passed = 1, nil, &Tree{}, &Tree{}, nil
}

// extend appends leaves to a tree of which no tiles are wanted.
func extend(t *Tree, leaves []Hash) {
	for i, h := range leaves {
		t.Append(h)
		if i%TileWidth == 0 {
			t.takeFull()
		}
	}
	t.takeFull()
}

// checkpoint compares the tree of a checkpoint's size. Behind an outage older ones may come that were not there before.
func (s *sinkReader) checkpoint(c *Checkpoint) error {
	switch {
	case c.Size >= s.next:
		return s.tampered(s.next, "%s covers %d records, and there are %d before it: its end was cut off", c, c.Size, s.next-1)
	case c.Size < s.base.Size():
		return s.tampered(c.Size, "%s comes more than %d records late: verify these files apart", c, sinkWindow)
	case c.Size < s.tree.Size() || s.tree.Size() < s.base.Size():
		s.tree = s.base.clone()
	}
	extend(s.tree, s.recent[s.tree.Size()-s.base.Size():c.Size-s.base.Size()])
	root, err := s.tree.Root()
	if err != nil {
		return err
	}
	again := s.passed != nil && c.Size <= s.passed.Size
	if err := s.judge(c, root == c.Root); err != nil {
		return fmt.Errorf("%s, up to line %d: %w", s.file, s.line, err)
	}
	if again {
		s.summary.Checkpoints--
	}
	return nil
}

// special takes a line that is not a record.
func (s *sinkReader) special(line []byte) error {
	if len(line) == 0 {
		return nil
	}
	var special exportLine
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&special); err == nil && special.Checkpoint != "" && special.members() == 1 {
		c, err := s.Key.Open(special.Checkpoint)
		if err != nil {
			return fmt.Errorf("%s, line %d: the checkpoint: %w", s.file, s.line, err)
		}
		return s.checkpoint(c)
	}
	var ocsf struct {
		Class *int `json:"class_uid"`
	}
	switch {
	case json.Unmarshal(line, &ocsf) == nil && ocsf.Class != nil:
		return fmt.Errorf("%s, line %d, is an event of OCSF: only the native format can be verified, because its lines are what was signed", s.file, s.line)
	case special.Leaves != nil || special.Pruned != nil:
		return fmt.Errorf("%s, line %d, is of an export: leave --sink out", s.file, s.line)
	case json.Valid(line):
		return s.tampered(s.next, "this is not a line of a sink: record %d, or the line, was changed", s.next)
	}
	return s.breaksOff(line)
}

// breaksOff takes the beginning of a line, which has to follow whole.
func (s *sinkReader) breaksOff(line []byte) error {
	for _, head := range []string{`{"v":`, `{"checkpoint":`} {
		if n := min(len(head), len(line)); string(line[:n]) != head[:n] || line[len(line)-1] == '}' {
			continue // or it has its end
		}
		if seq, ok := placeOf(line); ok && seq > s.next {
			return s.tampered(s.next, "record %d is missing: the beginning of record %d follows record %d", s.next, seq, s.next-1)
		} else if ok {
			s.broken = bytes.Clone(line)
		}
		return nil
	}
	return s.tampered(s.next, "this is not a line of a sink: record %d, or the line, was changed", s.next)
}

// whole compares a record with the line of it that broke off before.
func (s *sinkReader) whole(seq int64, line []byte) error {
	if s.broken == nil {
		return nil
	}
	switch torn, _ := placeOf(s.broken); {
	case torn > seq: // it follows later
	case torn == seq && !bytes.HasPrefix(line, s.broken):
		return s.tampered(seq, "record %d is not what a line that broke off before begins with", seq)
	case torn < seq && torn == s.next:
		return s.tampered(torn, "record %d breaks off, and does not follow", torn)
	default:
		s.broken = nil
	}
	return nil
}

func (s *sinkReader) end() (*Summary, error) {
	switch {
	case len(s.expected) > 0:
		c := s.expected[len(s.expected)-1]
		return nil, tampered(s.next, "the files end with record %d, and %s covers %d: their end was cut off", s.next-1, c, c.Size)
	case s.passed == nil:
		return nil, errors.New("there is no checkpoint in it, so nothing can be verified: the sink was not fed with any, or its end was cut off")
	}
	s.summary.Records, s.summary.Signed, s.summary.Newest = s.next-1, s.passed.Size, s.passed
	return &s.summary, nil
}

// clone is a copy that shares nothing with the tree and has no tiles to store.
func (t *Tree) clone() *Tree {
	c := &Tree{size: t.size, old: t.size, edge: slices.Clone(t.edge)}
	for i, edge := range c.edge {
		c.edge[i] = bytes.Clone(edge)
	}
	return c
}
