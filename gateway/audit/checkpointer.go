package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// TrailReader is the stored trail, as those see it who sign, prove and verify it.
type TrailReader interface {
	// Records calls each for the durable records behind place after, in the order of their places, for at most limit of
	// them. The bytes are valid until each returns; its error ends the reading and is returned.
	Records(ctx context.Context, after int64, limit int, each func(seq int64, record []byte) error) error
	// Tile returns the stored hashes of a tile, none when there is no such tile.
	Tile(ctx context.Context, level int, n int64) ([]byte, error)
	// NewestCheckpoint returns the note of the stored checkpoint over most records, "" when there is none.
	NewestCheckpoint(ctx context.Context) (string, error)
	// Checkpoints returns the notes of all stored checkpoints.
	Checkpoints(ctx context.Context) ([]string, error)
}

// TrailStore is a TrailReader that takes checkpoints.
type TrailStore interface {
	TrailReader
	// Leaves calls each for the leaves of the durable records behind place after, as Records does for the records.
	Leaves(ctx context.Context, after int64, limit int, each func(seq int64, leaf Hash) error) error
	// PutCheckpoint stores a checkpoint and the tiles that changed since the one before. When it returns without error,
	// all of them are durable; else all or none.
	PutCheckpoint(ctx context.Context, c *Checkpoint, tiles []Tile) error
}

// CheckpointerConfig is what a Checkpointer needs.
type CheckpointerConfig struct {
	Store  TrailStore // Required
	Signer *Signer    // Required
	// Every is the pause between two looks for new records: how old the newest checkpoint may be. Default 1 s.
	Every time.Duration
	// Clock gives the time of checkpoints. Default time.Now.
	Clock func() time.Time
	// Logger hears when the trail can no longer be signed, and when it can again. Default none.
	Logger *slog.Logger
	// Kept is a file beside the key and outside the database that holds the newest checkpoint, so that an older state of
	// the database is noticed, were it a truly signed one, and a trail whose checkpoints were removed is not signed anew.
	// "" keeps none.
	Kept string
	// Signed is called with each checkpoint that has become durable, in order, from the Checkpointer's goroutine.
	Signed func(*Checkpoint)
}

const (
	checkpointLast = 10 * time.Second // for the final checkpoint, when Run is told to end
	portionSize    = 64 * TileWidth   // most records between two checkpoints: what a trail without any is taken up in
)

// Checkpointer extends the tree over the trail and signs it, once a second while there are new records. Nothing of it is
// on the path of a request: it reads what is durable already.
//
// It signs nothing that contradicts an earlier checkpoint. It goes on from the stored tree, not from the records that
// the tree was made of, and only when that tree has the root of the newest checkpoint, when that has its own signature,
// when the tree extends the checkpoint kept outside the database, and when the last records are still those of the tree.
// Otherwise somebody has changed the trail: the
// Checkpointer says so through Healthy, and stays so until its end.
type Checkpointer struct {
	CheckpointerConfig
	key *PublicKey

	tree    *Tree                 // nil: to be loaded
	failure atomic.Pointer[error] // of the last attempt
	broken  error                 // the trail contradicts its checkpoint; for good
	unkept  bool                  // the last checkpoint could not be kept outside the database
}

// NewCheckpointer returns a Checkpointer; Run starts it.
func NewCheckpointer(cfg CheckpointerConfig) (*Checkpointer, error) {
	key, err := ParsePublicKey(cfg.Signer.PublicKey())
	if err != nil {
		return nil, err
	}
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Signed == nil {
		cfg.Signed = func(*Checkpoint) {}
	}
	return &Checkpointer{CheckpointerConfig: cfg, key: key}, nil
}

// Run signs until ctx ends, and then once more, so that a trail that nobody writes to any more is signed to its end.
func (c *Checkpointer) Run(ctx context.Context) {
	ticker := time.NewTicker(c.Every)
	defer ticker.Stop()
	for {
		c.attempt(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkpointLast)
			defer cancel()
			c.attempt(last)
			return
		}
	}
}

// Healthy returns nil while the trail is signed. After a failure it returns its error until an attempt succeeds, and for
// good when the trail contradicts its checkpoint.
func (c *Checkpointer) Healthy() error {
	if failure := c.failure.Load(); failure != nil {
		return *failure
	}
	return nil
}

// Check looks whether the trail can be carried on, so that Healthy says so before Run has begun and anything is written.
// A process that ends in order leaves nothing unsigned: what there is beyond the newest checkpoint is told to the Logger,
// because somebody may have added it, which nothing else would show.
func (c *Checkpointer) Check(ctx context.Context) {
	tree, err := c.load(ctx)
	if err == nil && tree.Size() > 0 {
		unsigned := 0
		err = c.Store.Records(ctx, tree.Size(), portionSize, func(int64, []byte) error { unsigned++; return nil })
		if unsigned > 0 {
			c.Logger.Warn("the trail goes on behind its newest checkpoint: the process that wrote it did not end in order, or somebody has added records; they are signed now",
				"signed", tree.Size(), "unsigned", unsigned)
		}
	}
	c.settle(err)
}

// attempt signs all that is there.
func (c *Checkpointer) attempt(ctx context.Context) {
	err := c.broken
	for more := err == nil; more && err == nil; {
		more, err = c.portion(ctx)
	}
	if err == nil || ctx.Err() == nil || c.broken != nil {
		c.settle(err) // else it was told to end: the final attempt says what is wrong
	}
}

// settle remembers what an attempt came to.
func (c *Checkpointer) settle(err error) {
	before := c.failure.Load()
	switch {
	case err != nil:
		err = fmt.Errorf("the trail is not signed: %w", err)
		c.failure.Store(&err)
		if before == nil {
			c.Logger.Error("no checkpoint can be made", "error", err)
		}
	case before != nil:
		c.failure.Store(nil)
		c.Logger.Info("the trail is signed again")
	}
}

// contradiction is an error that no later attempt can heal.
func (c *Checkpointer) contradiction(format string, args ...any) error {
	c.broken = fmt.Errorf(format+": somebody has changed the database; keep a copy, run `scimgate audit verify` on it and compare with a checkpoint kept elsewhere", args...)
	return c.broken
}

// portion signs the next records, if there are any; more says that there may be more. After an error the tree is loaded
// anew: what was to be stored may be stored or not.
func (c *Checkpointer) portion(ctx context.Context) (more bool, err error) {
	defer func() {
		if err != nil {
			c.tree = nil
		}
	}()
	if c.tree == nil {
		if c.tree, err = c.load(ctx); err != nil {
			return false, err
		}
	}
	before := c.tree.Size()
	err = c.Store.Leaves(ctx, before, portionSize, func(seq int64, leaf Hash) error {
		if want := c.tree.Size() + 1; seq != want {
			return c.contradiction("record %d is missing: record %d follows", want, seq)
		}
		c.tree.Append(leaf)
		return nil
	})
	if err != nil || c.tree.Size() == before {
		return false, err
	}
	root, err := c.tree.Root()
	if err != nil {
		return false, err
	}
	checkpoint, err := c.Signer.Sign(c.tree.Size(), root, c.Clock())
	if err != nil {
		return false, err
	}
	if err := c.Store.PutCheckpoint(ctx, checkpoint, c.tree.Changed()); err != nil {
		return false, err
	}
	c.keep(checkpoint)
	c.Signed(checkpoint)
	return c.tree.Size()-before == portionSize, nil
}

// load returns the tree of the newest checkpoint, after it has looked whether that and the end of the trail agree.
func (c *Checkpointer) load(ctx context.Context) (*Tree, error) {
	text, err := c.Store.NewestCheckpoint(ctx)
	if err != nil {
		return nil, err
	}
	if text == "" {
		return &Tree{}, c.compareKept(ctx, 0)
	}
	newest, err := c.key.Open(text)
	if err != nil {
		return nil, c.contradiction("the newest checkpoint cannot be trusted: %w", err)
	}
	if err := c.compareKept(ctx, newest.Size); err != nil {
		return nil, err
	}
	tree, err := LoadTree(ctx, newest.Size, c.Store.Tile)
	if err != nil {
		return nil, err
	}
	if root, err := tree.Root(); err != nil {
		return nil, err
	} else if root != newest.Root {
		return nil, c.contradiction("the stored tree is not the one that %s signed", newest)
	}
	return tree, c.compareEnd(ctx, newest)
}

// keep writes a checkpoint outside the database. The file appears as a whole, but is not synced: an older one is as good
// after a crash.
func (c *Checkpointer) keep(checkpoint *Checkpoint) {
	if c.Kept == "" {
		return
	}
	err := os.WriteFile(c.Kept+".new", []byte(checkpoint.Note), 0o600)
	if old, missing := os.Stat(c.Kept); err == nil && missing == nil { // root may sign for the gateway's user, by a command
		err = keepOwner(c.Kept+".new", old)
	}
	if err == nil {
		err = os.Rename(c.Kept+".new", c.Kept)
	}
	if err != nil && !c.unkept {
		c.Logger.Error("the newest checkpoint cannot be kept outside the database: make the folder writable", "error", err)
	}
	c.unkept = err != nil
}

// compareKept compares the stored tree, of a size, with the checkpoint kept outside the database.
func (c *Checkpointer) compareKept(ctx context.Context, size int64) error {
	if c.Kept == "" {
		return nil
	}
	text, err := readKeyText(c.Kept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the checkpoint kept outside the database: %w", err)
	}
	kept, err := c.key.Open(text)
	if err != nil {
		c.Logger.Warn("the checkpoint kept outside the database is not used", "file", c.Kept, "error", err)
		return nil
	}
	if kept.Size > size {
		return c.contradiction("the database is signed up to record %d, and %s in %s covers %d (if you have restored a backup or begun a new trail, move that file away)", size, kept, c.Kept, kept.Size)
	}
	tree, err := LoadTree(ctx, kept.Size, c.Store.Tile)
	if err != nil {
		return err
	}
	if root, err := tree.Root(); err != nil {
		return err
	} else if root != kept.Root {
		return c.contradiction("the stored tree does not extend %s in %s", kept, c.Kept)
	}
	return nil
}

// compareEnd compares the last signed records with the tree: after an end was cut off, new records would otherwise be
// numbered as if they were the old ones.
func (c *Checkpointer) compareEnd(ctx context.Context, newest *Checkpoint) error {
	n := (newest.Size - 1) / TileWidth
	leaves, err := c.Store.Tile(ctx, 0, n)
	if err != nil {
		return err
	}
	first := n*TileWidth + 1
	next := first
	err = c.Store.Records(ctx, first-1, int(newest.Size-first+1), func(seq int64, record []byte) error {
		at := int(seq-first) * tlog.HashSize
		if seq != next || at+tlog.HashSize > len(leaves) || LeafHash(record) != Hash(leaves[at:at+tlog.HashSize]) {
			return c.contradiction("record %d is not the one that %s covers", next, newest)
		}
		next++
		return nil
	})
	if err == nil && next <= newest.Size {
		return c.contradiction("the trail ends at record %d, and %s covers %d", next-1, newest, newest.Size)
	}
	return err
}

// SignerFor returns the signer of a trail from the file at path. A trail without a checkpoint gets a new one when there
// is no file; one that has been signed is not carried on by another key.
func SignerFor(ctx context.Context, trail TrailReader, path string) (*Signer, error) {
	newest, err := trail.NewestCheckpoint(ctx)
	if err != nil {
		return nil, err
	}
	if newest == "" {
		return LoadOrCreateSigner(path)
	}
	s, err := LoadSigner(path)
	if err != nil {
		return nil, fmt.Errorf("%w; the trail has been signed with it, so no new one is made: restore it from a backup, or begin a new trail with a new database", err)
	}
	key, err := ParsePublicKey(s.PublicKey())
	if err != nil {
		return nil, err
	}
	_, err = key.Open(newest)
	if _, wrong := errors.AsType[*wrongKey](err); wrong {
		return nil, fmt.Errorf("the newest checkpoint of the trail: %w, %s: restore the right key, or begin a new trail with a new database", err, path)
	}
	return s, nil // a checkpoint that was changed is for the Checkpointer to tell
}
