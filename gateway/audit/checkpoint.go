package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint says what the trail was at a time: so many records, and the root of the tree over them. Its Note is a
// signed note as C2SP tlog-checkpoint has it:
//
//	scimgate.trail/1a2b3c4d                       the trail's name
//	4711                                          records
//	8l2cH0oXr4mZ...=                              root, base64
//	time 2027-01-31T08:00:00.123456Z              when it was signed
//
//	— scimgate.trail/1a2b3c4d Gisq...=            signature
//
// Whoever keeps one elsewhere can tell later that the records before it were neither changed, removed, reordered nor cut.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   Hash
	Time   time.Time
	Note   string
}

// Sign makes the checkpoint of a tree.
func (s *Signer) Sign(size int64, root Hash, at time.Time) (*Checkpoint, error) {
	at = at.UTC().Truncate(time.Microsecond)
	text := fmt.Sprintf("%s\n%d\n%s\ntime %s\n", s.Name(), size, base64.StdEncoding.EncodeToString(root[:]), at.Format(time.RFC3339Nano))
	signed, err := note.Sign(&note.Note{Text: text}, s.signer)
	if err != nil {
		return nil, fmt.Errorf("sign a checkpoint: %w", err)
	}
	return &Checkpoint{Origin: s.Name(), Size: size, Root: root, Time: at, Note: string(signed)}, nil
}

// SignPruned signs which records are pruned, and of which trail. Nobody can take the text for a checkpoint's, whose second
// line is a number.
func (s *Signer) SignPruned(p *Pruned) error {
	signed, err := note.Sign(&note.Note{Text: p.text(s.Name())}, s.signer)
	if err != nil {
		return fmt.Errorf("sign what is pruned: %w", err)
	}
	fields := strings.Fields(string(signed))
	p.Signature = fields[len(fields)-1]
	return nil
}

// OpenPruned reports whether the trail's key has signed which records were pruned.
func (k *PublicKey) OpenPruned(p *Pruned) bool {
	name := k.verifier.Name()
	_, err := note.Open([]byte(p.text(name)+"\n— "+name+" "+p.Signature+"\n"), note.VerifierList(k.verifier))
	return err == nil
}

// text is what is signed.
func (p *Pruned) text(trail string) string {
	return fmt.Sprintf("%s\npruned %d to %d\nbefore %s\n", trail, p.First, p.Last, p.Before.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano))
}

// errNotCheckpoint says what a checkpoint is.
var errNotCheckpoint = errors.New("this is not a checkpoint as `scimgate audit checkpoint` prints it")

// wrongKey is the error of a checkpoint that somebody else has signed.
type wrongKey struct{ signer, key string }

func (w *wrongKey) Error() string {
	return fmt.Sprintf("signed by %s, not by the key given, %s", w.signer, w.key)
}

// Open reads a checkpoint and checks its signature.
func (k *PublicKey) Open(text string) (*Checkpoint, error) {
	text = strings.TrimSpace(text) + "\n"
	opened, err := note.Open([]byte(text), note.VerifierList(k.verifier))
	if unverified, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		signers := unverified.Note.UnverifiedSigs
		if len(signers) == 0 {
			return nil, errNotCheckpoint
		}
		return nil, &wrongKey{fmt.Sprintf("%s+%08x", signers[0].Name, signers[0].Hash), k.Name()}
	}
	if _, ok := errors.AsType[*note.InvalidSignatureError](err); ok {
		return nil, fmt.Errorf("the signature of %s is wrong: the checkpoint was changed", k.Name())
	}
	if err != nil {
		return nil, errNotCheckpoint
	}
	c, err := ParseCheckpoint(opened.Text)
	if err != nil {
		return nil, err
	}
	if c.Origin != k.verifier.Name() {
		return nil, fmt.Errorf("the checkpoint is of the trail %s, and the key is that of %s", c.Origin, k.verifier.Name())
	}
	c.Note = text
	return c, nil
}

// ParseCheckpoint reads the text of a checkpoint, and nothing of its signature. Lines that nobody knows are left to those
// who do.
func ParseCheckpoint(text string) (*Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[0] == "" {
		return nil, errNotCheckpoint
	}
	c := &Checkpoint{Origin: lines[0]}
	var err error
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 1 || strconv.FormatInt(c.Size, 10) != lines[1] {
		return nil, errNotCheckpoint
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return nil, errNotCheckpoint
	}
	c.Root = Hash(root)
	for _, line := range lines[3:] {
		if at, ok := strings.CutPrefix(line, "time "); ok {
			if c.Time, err = time.Parse(time.RFC3339Nano, at); err != nil {
				return nil, errNotCheckpoint
			}
		}
	}
	return c, nil
}

// String names a checkpoint in a sentence.
func (c *Checkpoint) String() string {
	return fmt.Sprintf("the checkpoint of %s", c.Time.Format(time.RFC3339))
}
