package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// memory is a trail in memory.
type memory struct {
	records [][]byte
	tiles   map[[2]int64][]byte
	notes   []string
	fail    error // of PutCheckpoint
}

func (m *memory) Records(_ context.Context, after int64, limit int, each func(int64, []byte) error) error {
	for seq := after + 1; seq <= int64(len(m.records)) && seq <= after+int64(limit); seq++ {
		if m.records[seq-1] == nil { // deleted
			continue
		}
		if err := each(seq, m.records[seq-1]); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Leaves(ctx context.Context, after int64, limit int, each func(int64, Hash) error) error {
	return m.Records(ctx, after, limit, func(seq int64, record []byte) error { return each(seq, LeafHash(record)) })
}

func (m *memory) Tile(_ context.Context, level int, n int64) ([]byte, error) {
	return m.tiles[[2]int64{int64(level), n}], nil
}

func (m *memory) Checkpoints(context.Context) ([]string, error) { return m.notes, nil }

func (m *memory) NewestCheckpoint(context.Context) (string, error) {
	if len(m.notes) == 0 {
		return "", nil
	}
	return m.notes[len(m.notes)-1], nil
}

func (m *memory) PutCheckpoint(_ context.Context, c *Checkpoint, tiles []Tile) error {
	if m.fail != nil {
		return m.fail
	}
	for _, t := range tiles {
		m.tiles[[2]int64{int64(t.Level), t.N}] = t.Hashes
	}
	m.notes = append(m.notes, c.Note)
	return nil
}

// shared is a memory that grows while it is read.
type shared struct {
	memory
	mu sync.Mutex
}

func (s *shared) Leaves(ctx context.Context, after int64, limit int, each func(int64, Hash) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory.Leaves(ctx, after, limit, each)
}

func (s *shared) Records(ctx context.Context, after int64, limit int, each func(int64, []byte) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory.Records(ctx, after, limit, each)
}

func (s *shared) grow(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memory.grow(n)
}

// grow appends records as the store writes them.
func (m *memory) grow(n int) {
	for range n {
		seq := int64(len(m.records) + 1)
		m.records = append(m.records, Append(nil, &Record{Seq: seq, ID: NewID(time.UnixMicro(seq), [8]byte{}), Time: time.UnixMicro(seq), Kind: Outcome,
			Subject: Subject{UserName: fmt.Sprintf("user%d@example.com", seq)}}))
	}
}

// newTrail is a signed trail with a checkpoint at each of the sizes.
func newTrail(t *testing.T, sizes ...int) (*memory, *Checkpointer) {
	t.Helper()
	m := &memory{tiles: map[[2]int64][]byte{}}
	c := newCheckpointer(t, m, newTestSigner(t))
	for _, size := range sizes {
		m.grow(size - len(m.records))
		c.attempt(t.Context())
		if err := c.Healthy(); err != nil {
			t.Fatal(err)
		}
	}
	return m, c
}

func newCheckpointer(t *testing.T, m *memory, s *Signer) *Checkpointer {
	t.Helper()
	c, err := NewCheckpointer(CheckpointerConfig{Store: m, Signer: s})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newTestSigner(t *testing.T) *Signer {
	t.Helper()
	s, err := LoadOrCreateSigner(t.TempDir() + "/signing-key")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publicKey(t *testing.T, s *Signer) *PublicKey {
	t.Helper()
	k, err := ParsePublicKey(s.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The tree has the roots of the library's own, at every size and across the borders of tiles, also when it is loaded
// from tiles; and the tiles hand out the hashes that proofs need.
func TestTree(t *testing.T) {
	m := &memory{tiles: map[[2]int64][]byte{}}
	var stored []Hash // as tlog lays them out
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]Hash, error) {
		var found []Hash
		for _, i := range indexes {
			found = append(found, stored[i])
		}
		return found, nil
	})
	tree := &Tree{}
	const most = TileWidth*TileWidth + 3*TileWidth + 7
	for n := range int64(most) {
		data := fmt.Appendf(nil, "record %d", n)
		hashes, err := tlog.StoredHashes(n, data, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		tree.Append(LeafHash(data))
		size := n + 1
		if size > 600 && size%251 != 0 && size%TileWidth > 1 && size != most {
			continue
		}
		want, err := tlog.TreeHash(size, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tree.Root(); err != nil || got != want {
			t.Fatalf("root of %d: got %v and %v, want %v", size, got, err, want)
		}
		for _, tile := range tree.Changed() {
			m.tiles[[2]int64{int64(tile.Level), tile.N}] = tile.Hashes
		}
		if tree, err = LoadTree(t.Context(), size, m.Tile); err != nil {
			t.Fatal(err)
		}
		if got, err := tree.Root(); err != nil || got != want {
			t.Fatalf("root of %d, loaded: got %v and %v, want %v", size, got, err, want)
		}
	}
	for range 200 {
		size := 1 + rand.Int64N(most)
		n := rand.Int64N(size)
		want, err := tlog.ProveRecord(size, n, reader)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tlog.ProveRecord(size, n, storedHashes(t.Context(), m.Tile))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("path of %d in %d: got %v and %v, want %v", n, size, got, err, want)
		}
	}
	if _, err := LoadTree(t.Context(), most, (&memory{}).Tile); err == nil {
		t.Error("a tree without tiles was loaded")
	}
}

// The checkpointer goes on from what is stored, and signs nothing that contradicts it.
func TestCheckpointerSignsNoChangedTrail(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(m *memory)
		want   string
	}{
		"nothing":                    {func(*memory) {}, ""},
		"an old record":              {func(m *memory) { m.records[3][40] ^= 1 }, ""}, // found by verify: the tree holds its hash
		"a record of the last tile":  {func(m *memory) { m.records[598][40] ^= 1 }, "record 599 is not the one"},
		"the end":                    {func(m *memory) { m.records = m.records[:580] }, "the trail ends at record 580"},
		"the end, and new records":   {func(m *memory) { m.records = m.records[:580]; m.grow(30); m.records[590][60] ^= 1 }, "record 591 is not the one"},
		"a record that nobody signs": {func(m *memory) { m.grow(9); m.records[603] = nil }, "record 604 is missing"},
		"a tile of the edge":         {func(m *memory) { m.tiles[[2]int64{0, 2}][5] ^= 1 }, "the stored tree is not the one"},
		"a tile above":               {func(m *memory) { m.tiles[[2]int64{1, 0}][5] ^= 1 }, "the stored tree is not the one"},
		"a tile is gone":             {func(m *memory) { delete(m.tiles, [2]int64{1, 0}) }, "the tree is damaged: tile 0 of level 1 has 0 hashes"},
		"the checkpoint's size": {func(m *memory) {
			m.notes[1] = string(bytes.Replace([]byte(m.notes[1]), []byte("\n600\n"), []byte("\n500\n"), 1))
		}, "the checkpoint was changed"},
		"no checkpoint any more": {func(m *memory) { m.notes[1] = "x" }, "cannot be trusted"},
	} {
		m, first := newTrail(t, 300, 600)
		tt.change(m)
		before := len(m.notes)
		if tt.want == "" {
			m.grow(10)
		}
		c := newCheckpointer(t, m, first.Signer)
		c.attempt(t.Context())
		err := c.Healthy()
		if tt.want == "" && (err != nil || len(m.notes) != before+1) {
			t.Errorf("%s: got %v and %d checkpoints, want one more than %d", name, err, len(m.notes), before)
		}
		if tt.want != "" && (err == nil || !bytes.Contains([]byte(err.Error()), []byte(tt.want)) || len(m.notes) != before) {
			t.Errorf("%s: got %v and %d checkpoints, want %q and %d", name, err, len(m.notes), tt.want, before)
		}
		c.attempt(t.Context())
		if tt.want != "" && (c.Healthy() == nil || len(m.notes) != before) {
			t.Errorf("%s: signed at the second attempt", name)
		}
	}
}

// The checkpoint outside the database: an older state, a trail without its checkpoints and one with another history are
// not signed, however well they fit together.
func TestCheckpointerKeepsACheckpoint(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(m, older *memory)
		want   string
	}{
		"nothing":         {func(*memory, *memory) {}, ""},
		"rolled back":     {func(m, older *memory) { *m = *older }, "signed up to record 300, and the checkpoint of"},
		"all signed anew": {func(m, _ *memory) { m.notes, m.tiles, m.records[5][60] = nil, map[[2]int64][]byte{}, 'x' }, "signed up to record 0, and the checkpoint of"},
		"another history": {func(m, older *memory) { *m = *older; m.grow(299); m.records[400][60] = 'x'; m.grow(1) }, "does not extend the checkpoint of"},
	} {
		kept := filepath.Join(t.TempDir(), "checkpoint")
		m, first := newTrail(t, 300)
		older := &memory{records: slices.Clone(m.records), tiles: maps.Clone(m.tiles), notes: slices.Clone(m.notes)}
		start := func() *Checkpointer {
			c, err := NewCheckpointer(CheckpointerConfig{Store: m, Signer: first.Signer, Kept: kept})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c := start()
		m.grow(300)
		c.attempt(t.Context())
		tt.change(m, older)
		if name == "another history" { // signed with the true key, by a process that knew of no kept checkpoint
			newCheckpointer(t, m, first.Signer).attempt(t.Context())
		}
		before := len(m.notes)
		m.grow(1)
		c = start()
		c.Check(t.Context())
		c.attempt(t.Context())
		err := c.Healthy()
		if tt.want == "" && (err != nil || len(m.notes) != before+1) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || len(m.notes) != before) {
			t.Errorf("%s: got %v and %d more checkpoints, want %q", name, err, len(m.notes)-before, tt.want)
		}
	}
}

// A checkpoint that could not be stored is made anew, over all that has come meanwhile.
func TestCheckpointerGoesOnAfterAFailure(t *testing.T) {
	m, c := newTrail(t, 300)
	m.grow(400)
	m.fail = errors.New("the disk is full")
	c.attempt(t.Context())
	if err := c.Healthy(); !errors.Is(err, m.fail) {
		t.Errorf("got %v, want %v", err, m.fail)
	}
	m.fail = nil
	m.grow(5)
	c.attempt(t.Context())
	if err := c.Healthy(); err != nil || len(m.notes) != 2 {
		t.Fatalf("got %v and %d checkpoints, want 2", err, len(m.notes))
	}
	if got, err := (&Verification{Key: c.key}).Trail(t.Context(), m); err != nil || got.Signed != 705 {
		t.Errorf("got %+v and %v, want 705 signed", got, err)
	}
}

// Run looks once a second, takes up a trail that has no checkpoint in portions, and signs the end.
func TestCheckpointerRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &shared{memory: memory{tiles: map[[2]int64][]byte{}}}
		m.grow(portionSize + 10)
		var sizes []int64
		c, err := NewCheckpointer(CheckpointerConfig{Store: m, Signer: newTestSigner(t), Signed: func(c *Checkpoint) { sizes = append(sizes, c.Size) }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { c.Run(ctx); close(ended) }()
		time.Sleep(1500 * time.Millisecond) // in the bubble's time
		m.grow(1)
		time.Sleep(3 * time.Second)
		m.grow(1)
		stop()
		<-ended
		if got, want := fmt.Sprint(sizes), fmt.Sprint([]int{portionSize, portionSize + 10, portionSize + 11, portionSize + 12}); got != want {
			t.Errorf("signed %s, want %s", got, want)
		}
	})
}
