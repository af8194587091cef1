package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// An export is the whole trail as JSON lines: the bytes of each record; after every TileWidth records, and after the last
// that is signed, a line with their stored hashes, which name the first wrong record; at the end the newest checkpoint.
//
//	{"pruned":{"first":1,"hashes":"base64"}}   for every 256 records that were pruned
//	{"v":1,"seq":1,...}
//	{"leaves":{"first":1,"hashes":"base64"}}
//	{"checkpoint":"scimgate.trail/...\n...\n"}
type exportLine struct {
	Pruned     *exportLeaves `json:"pruned,omitempty"`
	Leaves     *exportLeaves `json:"leaves,omitempty"`
	Checkpoint string        `json:"checkpoint,omitempty"`
}

type exportLeaves struct {
	First  int64  `json:"first"`  // place of the first of the records
	Hashes []byte `json:"hashes"` // one after the other
}

// members is the number of members that a line has: each has one.
func (l *exportLine) members() (n int) {
	for _, has := range [...]bool{l.Pruned != nil, l.Leaves != nil, l.Checkpoint != ""} {
		if has {
			n++
		}
	}
	return n
}

// longestLine is more than the longest record.
const longestLine = 4 << 20

// Export writes the records up to a place as an export, or up to the last that the newest checkpoint covers, where that is
// beyond, and returns how many there were. A trail that is not signed yet gets no checkpoint.
func Export(ctx context.Context, trail TrailReader, until int64, w io.Writer, progress func(seq int64)) (written int64, err error) {
	note, err := trail.NewestCheckpoint(ctx)
	if err != nil {
		return 0, err
	}
	signed := int64(0)
	if note != "" {
		c, err := ParseCheckpoint(note)
		if err != nil {
			return 0, fmt.Errorf("the newest checkpoint: %w", err)
		}
		signed = c.Size
		until = max(until, signed)
	}
	buffer := bufio.NewWriterSize(w, 256<<10)
	begins, last, gap := int64(0), int64(0), false
	line := func(seq int64, record []byte) error {
		if seq > until {
			return io.EOF
		}
		if last == 0 {
			begins = seq
			if err := exportPruned(ctx, trail, seq-1, buffer); err != nil {
				return err
			}
		}
		gap = gap || last > 0 && seq != last+1
		buffer.Write(record)
		if err := buffer.WriteByte('\n'); err != nil { // it tells of every failure before
			return fmt.Errorf("write the export: %w", err)
		}
		last = seq
		written++
		progress(seq)
		if seq%TileWidth != 0 && seq != signed || seq > signed {
			return nil
		}
		return exportHashes(ctx, trail, seq, buffer)
	}
	for more := true; more; {
		before := written
		err := trail.Records(ctx, last, portionSize, line)
		if err != nil && !errors.Is(err, io.EOF) {
			return written, errors.Join(err, buffer.Flush())
		}
		more = err == nil && written-before == portionSize
	}
	if gap { // which is what somebody has done to the trail, and for a verification to tell, unless they were pruned
		if first, err := firstRecord(ctx, trail); err != nil || first > begins {
			return written, errors.Join(err, errPruning, buffer.Flush())
		}
	}
	if note != "" {
		if err := writeLine(buffer, exportLine{Checkpoint: note}); err != nil {
			return written, err
		}
	}
	if err := buffer.Flush(); err != nil {
		return written, fmt.Errorf("write the export: %w", err)
	}
	return written, nil
}

// exportHashes writes the stored hashes of the tile whose last record so far is at place seq.
func exportHashes(ctx context.Context, trail TrailReader, seq int64, w io.Writer) error {
	n := (seq - 1) / TileWidth
	hashes, err := trail.Tile(ctx, 0, n)
	if err != nil {
		return err
	}
	first := n*TileWidth + 1
	width := int(seq-first+1) * tlog.HashSize
	return writeLine(w, exportLine{Leaves: &exportLeaves{first, hashes[:min(width, len(hashes))]}})
}

// exportPruned writes the stored hashes of the records up to a place, which are not there any more.
func exportPruned(ctx context.Context, trail TrailReader, last int64, w io.Writer) error {
	for first := int64(1); first <= last; first += TileWidth {
		hashes, err := trail.Tile(ctx, 0, first/TileWidth)
		if err == nil {
			err = writeLine(w, exportLine{Pruned: &exportLeaves{first, hashes}})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func writeLine(w io.Writer, line exportLine) error {
	text, err := json.Marshal(line)
	if err == nil {
		_, err = w.Write(append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	return nil
}

// Export verifies an export.
func (v *Verification) Export(ctx context.Context, r io.Reader) (*Summary, error) {
	if err := v.expect(nil); err != nil {
		return nil, err
	}
	summary, err := v.run(ctx, func(p *packer) error {
		e := &exportReader{packer: p, lines: bufio.NewReaderSize(r, longestLine)}
		return e.read()
	})
	if errors.Is(err, errUnsigned) {
		err = errors.New("the export does not end with a checkpoint: its end was cut off, or it is a selection, or the trail was not signed when it was made")
	}
	return summary, err
}

// exportReader packs the lines of an export.
type exportReader struct {
	*packer
	lines *bufio.Reader
	line  int64
}

func (e *exportReader) read() error {
	ended := false
	for {
		line, err := e.nextLine()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if ended {
			return fmt.Errorf("line %d: the export goes on behind its checkpoint (what a sink has written is verified with --sink)", e.line)
		}
		seq, isRecord := placeOf(line)
		switch {
		case isRecord && seq != e.next:
			return e.misplaced(seq)
		case isRecord:
			if e.cur != nil && len(e.cur.ends) == TileWidth {
				if err := e.flush(nil); err != nil {
					return err
				}
			}
			err = e.add(line)
		default:
			ended, err = e.special(line)
		}
		if err != nil {
			return err
		}
	}
}

// nextLine returns a line without its end.
func (e *exportReader) nextLine() ([]byte, error) {
	line, err := e.lines.ReadSlice('\n')
	e.line++
	switch {
	case errors.Is(err, io.EOF) && len(line) > 0: // the last line may lack its end
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, tampered(e.next, "line %d, behind record %d, is longer than any of an export", e.line, e.next-1)
	case errors.Is(err, io.EOF):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("read the export: %w", err)
	}
	return bytes.TrimSuffix(line, []byte("\n")), nil
}

// special reads a line that is not a record.
func (e *exportReader) special(line []byte) (checkpoint bool, err error) {
	var special exportLine
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&special); err != nil || special.members() != 1 {
		if e.cur != nil && len(e.cur.ends) > 0 && !json.Valid(e.cur.last()) {
			return false, tampered(e.next-1, "record %d was changed: its line %d breaks off", e.next-1, e.line-1)
		}
		return false, tampered(e.next, "line %d, behind record %d, is not a line of an export: record %d, or the line, was changed", e.line, e.next-1, e.next)
	}
	one, err := e.current()
	if err != nil {
		return false, err
	}
	if special.Pruned != nil {
		if special.Pruned.First != e.next || e.pruned != e.next-1 || len(one.ends) > 0 {
			return false, tampered(e.next, "line %d has the hashes of records from %d on that were pruned, and stands behind record %d", e.line, special.Pruned.First, e.next-1)
		}
		return false, e.prune(special.Pruned.Hashes)
	}
	if special.Checkpoint != "" {
		one.checkpoint = special.Checkpoint
		return true, e.flush(nil)
	}
	if first := e.next - int64(len(one.ends)); special.Leaves.First != first || len(one.ends) == 0 {
		return false, tampered(e.next, "line %d has the hashes of the records from %d on, and stands behind record %d", e.line, special.Leaves.First, e.next-1)
	}
	leaves := special.Leaves.Hashes
	if leaves == nil {
		leaves = []byte{}
	}
	return false, e.flush(leaves)
}

// misplaced is the error of a record that stands where another one should. Whether that is missing or elsewhere is known
// at the end only.
func (e *exportReader) misplaced(seq int64) error {
	want := e.next
	at := e.line
	for e.ctx.Err() == nil {
		line, err := e.nextLine()
		if err != nil {
			break
		}
		if later, ok := placeOf(line); ok && later == want {
			return tampered(want, "line %d is record %d, and record %d stands in line %d: the order was changed", at, seq, want, e.line)
		}
	}
	if want == 1 {
		return tampered(1, "record 1 is missing: the export is a selection, which cannot be verified, or its beginning was removed")
	}
	return missing(want, seq)
}
