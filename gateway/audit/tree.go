package audit

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a node of the trail's Merkle tree: SHA-256 as RFC 6962, Section 2.1, builds it. Leaf n is the hash of the
// stored bytes of record n+1.
type Hash = tlog.Hash

// LeafHash is the leaf of a record, from its stored bytes.
func LeafHash(record []byte) Hash { return tlog.RecordHash(record) }

// The tree is stored in tiles: those of level L hold the hashes that stand tileHeight*L above the leaves. The
// right-most tile of each level is partial, and grows.
const (
	tileHeight = 8
	TileWidth  = 1 << tileHeight // hashes in a full tile
)

// Tile is a stretch of the tree.
type Tile struct {
	Level  int
	N      int64  // its place within the level: it begins with the level's hash N*TileWidth
	Hashes []byte // up to TileWidth hashes of tlog.HashSize bytes
}

// ReadTile gives the hashes of a stored tile, as many as are stored; none when there is no such tile.
type ReadTile func(ctx context.Context, level int, n int64) ([]byte, error)

// Tree is the right edge of the tree: all that is needed to extend it and to know its root. The zero Tree is empty.
type Tree struct {
	size int64
	edge [][]byte // of each level, the hashes of its partial tile: fewer than TileWidth
	full []Tile   // completed since Changed was called
	old  int64    // the size then
}

// LoadTree returns the tree of a size from its stored tiles. It may be narrower than what is stored.
func LoadTree(ctx context.Context, size int64, read ReadTile) (*Tree, error) {
	t := &Tree{size: size, old: size}
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		hashes := size >> (tileHeight * level)
		width, n := int(hashes%TileWidth)*tlog.HashSize, hashes/TileWidth
		edge := make([]byte, width, TileWidth*tlog.HashSize)
		if width > 0 {
			tile, err := read(ctx, level, n)
			if err != nil {
				return nil, err
			}
			if copy(edge, tile) < width {
				return nil, fmt.Errorf("the tree is damaged: tile %d of level %d has %d hashes, and a tree of %d records needs %d", n, level, len(tile)/tlog.HashSize, size, width/tlog.HashSize)
			}
		}
		t.edge = append(t.edge, edge)
	}
	return t, nil
}

// Size is the number of leaves.
func (t *Tree) Size() int64 { return t.size }

// Append adds the next leaf.
func (t *Tree) Append(h Hash) {
	t.size++
	for level := 0; ; level++ {
		if level == len(t.edge) {
			t.edge = append(t.edge, make([]byte, 0, TileWidth*tlog.HashSize))
		}
		t.edge[level] = append(t.edge[level], h[:]...)
		if len(t.edge[level]) < TileWidth*tlog.HashSize {
			return
		}
		t.full = append(t.full, Tile{Level: level, N: t.size>>(tileHeight*(level+1)) - 1, Hashes: bytes.Clone(t.edge[level])})
		h = top(t.edge[level])
		t.edge[level] = t.edge[level][:0]
	}
}

// top is the root of a full subtree over hashes, a power of two of them.
func top(hashes []byte) Hash {
	if len(hashes) == tlog.HashSize {
		return Hash(hashes)
	}
	half := len(hashes) / 2
	return tlog.NodeHash(top(hashes[:half]), top(hashes[half:]))
}

// Root is the hash of the whole tree.
func (t *Tree) Root() (Hash, error) {
	return tlog.TreeHash(t.size, tlog.HashReaderFunc(func(indexes []int64) ([]Hash, error) {
		return readHashes(indexes, func(level int, n int64) ([]byte, error) {
			if level >= len(t.edge) || n != t.size>>(tileHeight*(level+1)) {
				return nil, nil
			}
			return t.edge[level], nil
		})
	}))
}

// Changed returns the tiles that differ from those at the last call, or from those that the tree was loaded from.
func (t *Tree) Changed() []Tile {
	changed := t.full
	for level, edge := range t.edge {
		if len(edge) > 0 && t.old>>(tileHeight*level) != t.size>>(tileHeight*level) {
			changed = append(changed, Tile{Level: level, N: t.size >> (tileHeight * (level + 1)), Hashes: bytes.Clone(edge)})
		}
	}
	t.full, t.old = nil, t.size
	return changed
}

// takeFull returns the tiles that were completed since the last call.
func (t *Tree) takeFull() []Tile {
	full := t.full
	t.full = nil
	return full
}

// storedHashes reads nodes of the tree from stored tiles.
func storedHashes(ctx context.Context, read ReadTile) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]Hash, error) {
		return readHashes(indexes, func(level int, n int64) ([]byte, error) { return read(ctx, level, n) })
	})
}

// readHashes takes nodes, by their indexes as tlog counts them, out of tiles.
func readHashes(indexes []int64, read func(level int, n int64) ([]byte, error)) ([]Hash, error) {
	hashes := make([]Hash, len(indexes))
	for i, index := range indexes {
		tile := tlog.TileForIndex(tileHeight, index)
		stored, err := read(tile.L, tile.N)
		if err != nil {
			return nil, err
		}
		if tile.W = len(stored) / tlog.HashSize; tile.W == 0 {
			return nil, fmt.Errorf("the tree is damaged: tile %d of level %d is missing", tile.N, tile.L)
		}
		if hashes[i], err = tlog.HashFromTile(tile, stored, index); err != nil {
			return nil, fmt.Errorf("the tree is damaged: %w", err)
		}
	}
	return hashes, nil
}
