package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// Verification checks a trail against the checkpoints that sign it: the hash of every record, the tree over them, and the
// root and the signature of each checkpoint. It needs the public key, and nothing of the process that wrote the trail. A
// Verification is used once.
type Verification struct {
	Key      *PublicKey      // Required
	Kept     []string        // checkpoints that were kept elsewhere: the trail must extend each
	Progress func(seq int64) // hears now and then which record has been reached; nil for nobody

	tree     Tree          // over the records so far
	expected []*Checkpoint // by size, the smallest first: what the tree must still come to
	passed   *Checkpoint   // the largest that held
	suspect  *Tampered     // the first record that differs from its stored hash; a checkpoint will tell which is wrong
	summary  Summary

	stored ReadTile // of a stored trail, its tiles; nil for an export
	signed int64    // of a stored trail, how many records have stored hashes
	mark   struct { // of an export, the last place with hashes
		size int64
		root Hash
	}
}

// Summary says what was verified.
type Summary struct {
	Records     int64       // read or pruned, all of them in their places
	Pruned      int64       // of these, removed as a signed record says: their hashes were read instead
	Signed      int64       // of these, covered by a checkpoint
	Checkpoints int         // with a good signature and the right root
	Newest      *Checkpoint // the one over most records
	Repeated    int64       // of a sink, records that came again, as they were
}

// Tampered is the error of a trail that is not what was signed.
type Tampered struct {
	Record int64 // the first record that is concerned
	Reason string
}

func (t *Tampered) Error() string { return t.Reason }

func tampered(record int64, format string, args ...any) *Tampered {
	return &Tampered{record, fmt.Sprintf(format, args...)}
}

// missing is the error of a record in whose place another one stands.
func missing(record, follows int64) *Tampered {
	if record == 1 {
		return tampered(1, "record 1 is missing: the first is record %d", follows)
	}
	return tampered(record, "record %d is missing: record %d follows record %d", record, follows, record-1)
}

// errUnsigned is the error of a trail that nothing can be said about.
var errUnsigned = errors.New("there is no checkpoint, so nothing of the trail can be verified: `scimgate serve` signs one within a second of a record")

// Trail verifies a stored trail as it is now. It can be read while records are added.
func (v *Verification) Trail(ctx context.Context, trail TrailReader) (*Summary, error) {
	notes, err := trail.Checkpoints(ctx)
	if err != nil {
		return nil, err
	}
	if len(notes) == 0 && len(v.Kept) == 0 {
		return nil, errUnsigned
	}
	if err := v.expect(notes); err != nil {
		return nil, err
	}
	v.stored = trail.Tile
	return v.run(ctx, func(p *packer) error { return readStored(trail, p) })
}

// readStored packs a stored trail, tile by tile.
func readStored(trail TrailReader, p *packer) error {
	flush := func() error {
		leaves, err := trail.Tile(p.ctx, 0, (p.next-2)/TileWidth)
		if err != nil {
			return err
		}
		return p.flush(leaves)
	}
	gap := false
	one := func(seq int64, record []byte) error {
		if p.next == 1 && seq > 1 {
			if err := pruneStored(trail, p, seq-1); err != nil {
				return err
			}
		}
		if gap = seq != p.next; gap {
			return missing(p.next, seq)
		}
		if said, ok := placeOf(record); !ok {
			return tampered(seq, "record %d was changed: it does not say which record it is", seq)
		} else if said != seq {
			return tampered(seq, "at the place of record %d stands record %d: the order was changed", seq, said)
		}
		if err := p.add(record); err != nil || seq%TileWidth != 0 {
			return err
		}
		return flush()
	}
	for {
		before := p.next
		err := trail.Records(p.ctx, before-1, portionSize, one)
		if gap {
			if first, failed := firstRecord(p.ctx, trail); failed != nil || first > p.next {
				return errors.Join(failed, errPruning)
			}
		}
		if p.cur != nil && (err != nil || p.next-before < portionSize) {
			if failed := flush(); err == nil { // what was read before an error still has to be compared
				err = failed
			}
		}
		if err != nil || p.next-before < portionSize {
			return err
		}
	}
}

// errPruning is the error of a reading that a pruning has overtaken.
var errPruning = errors.New("records were pruned while the trail was read: do it again")

// firstRecord is the place of the first record that was not pruned; 0 when there is none.
func firstRecord(ctx context.Context, trail TrailReader) (first int64, err error) {
	err = trail.Records(ctx, 0, 1, func(seq int64, _ []byte) error { first = seq; return nil })
	return first, err
}

// pruneStored takes the hashes of the records up to a place, which are not there any more, as they are stored.
func pruneStored(trail TrailReader, p *packer, last int64) error {
	if last%TileWidth != 0 { // only whole tiles are pruned
		return missing(1, last+1)
	}
	for p.next <= last {
		leaves, err := trail.Tile(p.ctx, 0, p.next/TileWidth)
		if err == nil {
			err = p.prune(leaves)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// expect checks the signatures of the checkpoints that were found and of those that were kept.
func (v *Verification) expect(found []string) error {
	notes := slices.Concat(found, v.Kept)
	opened := make([]*Checkpoint, len(notes))
	errs := make([]error, len(notes))
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(notes); i += workers {
				opened[i], errs[i] = v.Key.Open(notes[i])
			}
		})
	}
	wg.Wait()
	for i := len(notes) - 1; i >= 0; i-- { // the newest tells best who signs the trail
		switch {
		case errs[i] == nil:
		case i >= len(found):
			return fmt.Errorf("the checkpoint kept elsewhere: %w", errs[i])
		default:
			c, err := ParseCheckpoint(notes[i])
			if err != nil {
				return fmt.Errorf("a checkpoint of the trail was changed: %w", errs[i])
			}
			return fmt.Errorf("the trail's checkpoint over %d records: %w", c.Size, errs[i])
		}
	}
	for _, c := range opened[:len(found)] {
		v.signed = max(v.signed, c.Size)
	}
	v.expected = opened
	slices.SortStableFunc(v.expected, func(a, b *Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	return nil
}

// run reads and hashes in portions beside each other, and compares them in their order.
func (v *Verification) run(ctx context.Context, read func(*packer) error) (*Summary, error) {
	ctx, cancel := context.WithCancel(ctx)
	workers := max(1, runtime.GOMAXPROCS(0)-1)
	depth := 4 * workers
	p := &packer{ctx: ctx, key: v.Key, next: 1, free: make(chan *portion, depth), work: make(chan *portion, depth), order: make(chan *portion, depth)}
	for range depth {
		p.free <- &portion{done: make(chan struct{}, 1)}
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.end(read(p)) })
	for range workers {
		wg.Go(func() {
			for one := range p.work {
				one.hash()
			}
		})
	}
	err := v.compareAll(ctx, p)
	cancel() // a reader that still reads is not waited for at a full channel
	for range p.order {
	}
	wg.Wait()
	if err != nil {
		return nil, err
	}
	return &v.summary, nil
}

// compareAll takes the portions in their order.
func (v *Verification) compareAll(ctx context.Context, p *packer) error {
	for one := range p.order {
		<-one.done
		if err := v.compare(ctx, one); err != nil {
			return err
		}
		if v.Progress != nil {
			v.Progress(v.tree.Size())
		}
		one.reset()
		p.free <- one
	}
	if p.failed != nil { // written before order was closed
		if v.suspect != nil && !errors.Is(p.failed, context.Canceled) {
			return v.suspect
		}
		return p.failed
	}
	return v.finish(p)
}

// compare adds a portion to the tree, and compares it with its stored hashes and with the checkpoints within it.
func (v *Verification) compare(ctx context.Context, one *portion) error {
	for i, leaf := range one.hashes {
		at := i * tlog.HashSize
		seq := v.tree.Size() + 1
		switch {
		case v.suspect != nil:
		case len(one.leaves) >= at+tlog.HashSize && leaf != Hash(one.leaves[at:at+tlog.HashSize]):
			v.suspect = tampered(seq, "record %d was changed: its hash is not the one that was stored when it was signed", seq)
		case len(one.leaves) < at+tlog.HashSize && seq <= v.signed:
			v.suspect = tampered(seq, "the stored hash of record %d is missing", seq)
		}
		v.tree.Append(leaf)
		for len(v.expected) > 0 && v.expected[0].Size == seq {
			if err := v.compareRoot(v.expected[0]); err != nil {
				return err
			}
			v.expected = v.expected[1:]
		}
	}
	for _, t := range v.tree.takeFull() {
		if err := v.compareTile(ctx, t); err != nil {
			return err
		}
	}
	if v.stored == nil && one.leaves != nil {
		root, err := v.tree.Root()
		if err != nil {
			return err
		}
		v.mark.size, v.mark.root = v.tree.Size(), root
	}
	if one.checkpoint != "" {
		return v.compareMark(one.checkpoint)
	}
	return nil
}

// compareTile compares a full tile above the leaves with the stored one: proofs are made of these.
func (v *Verification) compareTile(ctx context.Context, t Tile) error {
	width := int64(1) << (tileHeight * (t.Level + 1))
	first, last := t.N*width+1, (t.N+1)*width
	if t.Level == 0 || last > v.signed || v.suspect != nil {
		return nil
	}
	stored, err := v.stored(ctx, t.Level, t.N)
	if err == nil && !bytes.Equal(stored, t.Hashes) {
		err = tampered(first, "the stored tree over the records %d to %d was changed", first, last)
	}
	return err
}

// compareRoot compares the tree with a checkpoint over as many records.
func (v *Verification) compareRoot(c *Checkpoint) error {
	root, err := v.tree.Root()
	if err != nil {
		return err
	}
	return v.judge(c, root == c.Root)
}

func (v *Verification) judge(c *Checkpoint, holds bool) error {
	first := int64(1)
	if v.passed != nil {
		first = min(v.passed.Size+1, c.Size)
	}
	switch {
	case holds && v.suspect != nil:
		return tampered(v.suspect.Record, "the hash that is stored for record %d was changed or removed; the record itself is the one that %s signed", v.suspect.Record, c)
	case holds:
		if v.passed == nil || v.passed.Size < c.Size {
			v.passed = c
		}
		v.summary.Checkpoints++
		return nil
	case v.suspect != nil:
		return v.suspect
	case first == c.Size:
		return tampered(first, "record %d is not the one that %s signed", first, c)
	}
	return tampered(first, "one of the records %d to %d is not the one that %s signed", first, c.Size, c)
}

// compareMark compares the checkpoint that ends an export with the tree at the last place with stored hashes.
func (v *Verification) compareMark(text string) error {
	c, err := v.Key.Open(text)
	switch {
	case err != nil:
		return fmt.Errorf("the export's checkpoint: %w", err)
	case c.Size > v.tree.Size():
		return v.cut(c)
	case c.Size != v.mark.size:
		return tampered(v.mark.size+1, "the export has no line of hashes that ends with record %d, the last that its checkpoint covers: it was changed", c.Size)
	}
	return v.judge(c, v.mark.root == c.Root)
}

// cut is the error of a trail that ends before a checkpoint's last record.
func (v *Verification) cut(c *Checkpoint) error {
	n := v.tree.Size()
	return tampered(n+1, "the trail ends at record %d, but %s covers %d: its end was cut off", n, c, c.Size)
}

// finish looks at what has not been settled when all records are read.
func (v *Verification) finish(p *packer) error {
	switch {
	case v.suspect != nil:
		return v.suspect
	case len(v.expected) > 0:
		return v.cut(v.expected[len(v.expected)-1])
	case v.passed == nil:
		return errUnsigned
	case p.pruned > 0 && p.told == 0 && p.forged > 0:
		return tampered(1, "the records 1 to %d are missing, and record %d, which says that they were pruned, has no signature of the trail's key", p.pruned, p.forged)
	case p.pruned > 0 && p.told == 0:
		return tampered(1, "the records 1 to %d are missing, and no record says that they were pruned", p.pruned)
	case p.told > v.passed.Size:
		return fmt.Errorf("the records 1 to %d are missing, and record %d, which says that they were pruned, is not signed yet: `scimgate serve` signs it within a second", p.pruned, p.told)
	}
	v.summary.Pruned = p.pruned
	v.summary.Records, v.summary.Signed, v.summary.Newest = v.tree.Size(), v.passed.Size, v.passed
	return nil
}

// portion is up to a tile's width of records on their way to be hashed.
type portion struct {
	data   []byte // for each record a zero byte, then the record: the text of its leaf (RFC 6962, Section 2.1)
	ends   []int
	hashes []Hash

	leaves     []byte // the stored hashes of the portion's records, as far as they are stored
	checkpoint string // of an export: the one that follows these records
	done       chan struct{}
}

func (p *portion) hash() {
	start := 0
	for _, end := range p.ends {
		p.hashes = append(p.hashes, sha256.Sum256(p.data[start:end]))
		start = end
	}
	p.done <- struct{}{}
}

// last is the last record.
func (p *portion) last() []byte {
	start := 0
	if n := len(p.ends); n > 1 {
		start = p.ends[n-2]
	}
	return p.data[start+1:]
}

func (p *portion) reset() {
	p.data, p.ends, p.hashes, p.leaves, p.checkpoint = p.data[:0], p.ends[:0], p.hashes[:0], nil, ""
}

// packer makes portions of records. It belongs to the reading goroutine until order is closed.
type packer struct {
	ctx               context.Context
	free, work, order chan *portion
	cur               *portion
	next              int64 // place of the next record
	pruned            int64 // how many records are not there any more: those up to this one
	told, forged      int64 // places of the records that say so, with the trail's signature and without it; 0 for none
	key               *PublicKey
	failed            error // what ended the reading
}

// current is the portion that is being filled.
func (p *packer) current() (*portion, error) {
	if p.cur == nil {
		select {
		case p.cur = <-p.free:
		case <-p.ctx.Done():
			return nil, context.Cause(p.ctx)
		}
	}
	return p.cur, nil
}

// prune takes the stored hashes of a tile whose records are not there any more.
func (p *packer) prune(leaves []byte) error {
	if len(leaves) != TileWidth*tlog.HashSize {
		return tampered(p.next+int64(len(leaves)/tlog.HashSize), "the hash that is stored for record %d is missing, and so is the record", p.next+int64(len(leaves)/tlog.HashSize))
	}
	one, err := p.current()
	if err != nil {
		return err
	}
	for leaf := range slices.Chunk(leaves, tlog.HashSize) {
		one.hashes = append(one.hashes, Hash(leaf))
	}
	p.next += TileWidth
	p.pruned = p.next - 1
	return p.flush(leaves)
}

// listen looks for the record that says which were pruned.
func (p *packer) listen(record []byte) {
	if p.pruned == 0 || !bytes.Contains(record, []byte(`"pruned":{`)) {
		return
	}
	rec, err := Parse(record)
	switch {
	case err != nil || rec.Kind != Event || rec.Action != Removed || rec.Pruned == nil || rec.Pruned.Last < p.pruned || p.told > 0:
	case p.key.OpenPruned(rec.Pruned):
		p.told = rec.Seq
	default:
		p.forged = rec.Seq
	}
}

// add takes a record, whose bytes are copied.
func (p *packer) add(record []byte) error {
	one, err := p.current()
	if err != nil {
		return err
	}
	p.listen(record)
	one.data = append(append(one.data, 0), record...)
	one.ends = append(one.ends, len(one.data))
	p.next++
	return nil
}

// flush sends the portion on. The channels have room for all portions there are.
func (p *packer) flush(leaves []byte) error {
	one, err := p.current()
	if err != nil {
		return err
	}
	one.leaves = leaves
	p.work <- one
	p.order <- one
	p.cur = nil
	return nil
}

// end sends what is left when the reading has ended, for whatever reason.
func (p *packer) end(err error) {
	if p.cur != nil { // also before an error: what was read still has to be compared
		if failed := p.flush(nil); err == nil {
			err = failed
		}
	}
	p.failed = err
	close(p.work)
	close(p.order)
}

// placeOf reads the place that a record says it has: it begins as AppendHead writes it.
func placeOf(record []byte) (int64, bool) {
	rest, ok := bytes.CutPrefix(record, []byte(`{"v":`))
	for ok && len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
		rest = rest[1:]
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"seq":`)); !ok {
		return 0, false
	}
	end := 0
	for end < len(rest) && end < 20 && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	if end == 0 || end == len(rest) || rest[end] != ',' && rest[end] != '}' {
		return 0, false
	}
	seq, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	return seq, err == nil
}
