package audit

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Proof shows that one record stands in a trail, to whoever has the trail's public key and nothing else of it. As a file
// it is one JSON object.
type Proof struct {
	V          int      `json:"v"`          // proofVersion
	Seq        int64    `json:"seq"`        // the record's place in the trail
	Record     string   `json:"record"`     // its exact bytes
	Path       [][]byte `json:"path"`       // the audit path of RFC 6962, Section 2.1.1, from the leaf up
	Checkpoint string   `json:"checkpoint"` // the note of a checkpoint that covers it
}

const (
	proofVersion = 1
	proofSize    = 8 << 20 // more than the proof of the largest record
)

// errNoRecord ends a reading that has found no record.
var errNoRecord = errors.New("no such record")

// Prove makes the proof of the record at place seq, under the newest checkpoint. A record that is not the one that was
// signed has none.
func Prove(ctx context.Context, trail TrailReader, seq int64) (*Proof, error) {
	text, err := trail.NewestCheckpoint(ctx)
	if err != nil {
		return nil, err
	}
	if seq < 1 {
		return nil, fmt.Errorf("the trail has no record %d: the first is 1", seq)
	}
	if text == "" {
		return nil, errors.New("the trail has no checkpoint yet: `scimgate serve` signs one within a second of a record")
	}
	newest, err := ParseCheckpoint(text)
	if err != nil {
		return nil, err
	}
	p := &Proof{V: proofVersion, Seq: seq, Checkpoint: text}
	found := errNoRecord
	err = trail.Records(ctx, seq-1, 1, func(at int64, record []byte) error {
		if at == seq {
			p.Record, found = string(record), nil
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case found != nil && seq > newest.Size:
		return nil, fmt.Errorf("the trail has no record %d", seq)
	case found != nil:
		if first, err := firstRecord(ctx, trail); err != nil {
			return nil, err
		} else if seq < first {
			return nil, fmt.Errorf("record %d is not there any more, the first that is left is %d: a proof made before still holds, and `scimgate audit verify` tells whether it was pruned by rights", seq, first)
		}
		return nil, fmt.Errorf("record %d is missing from the trail: run `scimgate audit verify`", seq)
	case seq > newest.Size:
		return nil, fmt.Errorf("record %d is not signed yet, the newest checkpoint covers %d: `scimgate serve` signs within a second of a record", seq, newest.Size)
	}
	path, err := tlog.ProveRecord(newest.Size, seq-1, storedHashes(ctx, trail.Tile))
	if err != nil {
		return nil, fmt.Errorf("prove record %d: %w", seq, err)
	}
	for _, h := range path {
		p.Path = append(p.Path, h[:])
	}
	if err := p.check(newest); err != nil {
		return nil, fmt.Errorf("there is no proof of record %d: it, or the stored tree, is not what was signed; run `scimgate audit verify`", seq)
	}
	return p, nil
}

// check compares the record with the root of a checkpoint.
func (p *Proof) check(c *Checkpoint) error {
	var path tlog.RecordProof
	for _, h := range p.Path {
		if len(h) != tlog.HashSize {
			return fmt.Errorf("the audit path has a hash of %d bytes, not %d", len(h), tlog.HashSize)
		}
		path = append(path, Hash(h))
	}
	if p.Seq < 1 || p.Seq > c.Size {
		return fmt.Errorf("the proof is of record %d, and its checkpoint covers 1 to %d", p.Seq, c.Size)
	}
	if tlog.CheckRecord(path, c.Size, c.Root, p.Seq-1, LeafHash([]byte(p.Record))) != nil {
		return fmt.Errorf("record %d is not the one that %s signed", p.Seq, c)
	}
	return nil
}

// Encode writes the proof as the file it is kept in.
func (p *Proof) Encode() ([]byte, error) {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err := enc.Encode(p)
	return []byte(text.String()), err
}

// VerifyProof reads a proof and checks it against the public key. It returns the checkpoint and the proof, whose record
// is then the one that stood, and stands, at its place in the trail.
func VerifyProof(file []byte, key *PublicKey) (*Proof, *Checkpoint, error) {
	p := new(Proof)
	if len(file) > proofSize {
		return nil, nil, errors.New("the file is too large to be a proof")
	}
	if err := json.Unmarshal(file, p); err != nil || p.V == 0 {
		return nil, nil, errors.New("this is not a proof as `scimgate audit prove` writes it")
	}
	if p.V != proofVersion {
		return nil, nil, fmt.Errorf("the proof has version %d, this program reads version %d: use the program that wrote it or a newer one", p.V, proofVersion)
	}
	c, err := key.Open(p.Checkpoint)
	if err != nil {
		return nil, nil, fmt.Errorf("the proof's checkpoint: %w", err)
	}
	if err := p.check(c); err != nil {
		return nil, nil, err
	}
	if said, ok := placeOf([]byte(p.Record)); !ok || said != p.Seq {
		return nil, nil, fmt.Errorf("the record does not say that it is record %d", p.Seq)
	}
	return p, c, nil
}

// errNotID says what a record id is.
var errNotID = errors.New("this is not a record id, which looks like 0192f0c1-7e70-7a3b-8a5e-0c5d7e1a2b3c")

// TimeOfID returns the millisecond in which a record was made, from its id; see NewID.
func TimeOfID(id string) (time.Time, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(id) != 36 || len(b) != 16 || b[6]>>4 != 7 {
		return time.Time{}, errNotID
	}
	ms := int64(0)
	for _, one := range b[:6] {
		ms = ms<<8 | int64(one)
	}
	return time.UnixMilli(ms).UTC(), nil
}
