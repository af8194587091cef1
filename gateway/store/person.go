package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"scimgate/gateway/audit"
)

var (
	_ audit.KeyStore = (*Store)(nil)
	_ audit.KeyStore = (*Reader)(nil)
)

// keyChange is what a transaction does with the keys of persons.
type keyChange struct {
	id         string
	put, owner []driver.NamedValue   // for sqlPutKey and sqlPutOwner, whose last is filled when the place is known; nil for neither
	erase      []string              // ids of keys
	rewrap     [][]driver.NamedValue // for sqlRewrapKey
	truncate   bool                  // the write-ahead log, after the transaction
}

// newKeyChange copies what a record brings about its person's key.
func newKeyChange(c *audit.KeyChange) *keyChange {
	if c == nil {
		return nil
	}
	k := &keyChange{id: c.ID}
	if p := c.Put; p != nil {
		k.put = bind(p.ID, p.Master, p.Wrapped, p.Made.UnixMicro())
	}
	if o := c.Owner; o.ID != "" {
		k.owner = bind(ownerHash(o), o.Upstream, o.ResourceType, o.ID, nil)
	}
	return k
}

// ownerHash is what a person's newest key is found by. It is part of the schema.
func ownerHash(p audit.Person) int64 {
	sum := sha256.Sum256([]byte(p.Upstream + "\x00" + p.ResourceType + "\x00" + p.ID))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// changeKeys is a keyChange on the writer's goroutine.
func (w *writer) changeKeys(k *keyChange) error {
	n, err := w.placeOf(k)
	if err != nil {
		return err
	}
	if k.owner != nil && n > 0 {
		k.owner[len(k.owner)-1].Value = n
		if _, err := w.putOwner.exec(k.owner); err != nil {
			return err
		}
		hash, _ := k.owner[0].Value.(int64)
		w.owned = append(w.owned, owned{hash, n})
	}
	for _, args := range k.rewrap {
		if _, err := w.rewrapKey.exec(args); err != nil {
			return err
		}
	}
	for _, id := range k.erase {
		delete(w.unowned, id)
		for _, query := range sqlEraseKey {
			if err := w.conn.exec(query, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeOf stores the key of a change if it is new, and returns its place in person_keys; 0 where it is not needed, or the
// key was destroyed meanwhile.
func (w *writer) placeOf(k *keyChange) (n int64, err error) {
	if k.put != nil {
		n, err = w.putKey.insert(k.put)
		if n > 0 && k.owner == nil { // of a create: its outcome says whose the key is
			if len(w.unowned) == mostUnowned {
				clear(w.unowned)
			}
			w.unowned[k.id] = n
		}
	}
	if err != nil || n > 0 || k.owner == nil {
		return n, err
	}
	if n = w.unowned[k.id]; n > 0 {
		delete(w.unowned, k.id)
		return n, nil
	}
	value, err := w.conn.get(sqlKeyPlace, k.id)
	n, _ = value.(int64)
	return n, err
}

// mostUnowned bounds the places that are remembered of keys that are nobody's yet.
const mostUnowned = 1024

const (
	truncateWait  = 100 * time.Millisecond // how long the writer waits for readers of the write-ahead log
	truncateTries = 50                     // pauses of truncateWait are between them
)

var errLogRead = errors.New("somebody reads the write-ahead log")

// truncateLog moves the write-ahead log into the file and empties it, or fails with errLogRead. It is called between
// transactions.
func (w *writer) truncateLog() error {
	if err := w.conn.exec(fmt.Sprintf(`PRAGMA busy_timeout = %d`, truncateWait.Milliseconds())); err != nil {
		return err
	}
	busy, err := w.conn.get(`PRAGMA wal_checkpoint(TRUNCATE)`)
	err = errors.Join(err, w.conn.exec(fmt.Sprintf(`PRAGMA busy_timeout = %d`, busyTimeout.Milliseconds())))
	if err == nil && busy != int64(0) {
		err = errLogRead
	}
	w.commits = 0 // the log grows anew
	return err
}

// Erase destroys keys of persons, and stores the event that says so in the same transaction. When it returns without
// error, the keys stand neither in the database file nor in its write-ahead log, and nothing that was under way with them
// brings them back. Keys that are not there are no error.
func (s *Store) Erase(ctx context.Context, rec *audit.Record, keys []string) error {
	rec.Kind, rec.Action = audit.Event, audit.Erased
	w, err := s.newWork(rec, nil)
	if err != nil {
		return fmt.Errorf("destroy keys: %w", err)
	}
	w.keys = &keyChange{erase: slices.Clone(keys)}
	if _, err := s.finishRecord(ctx, rec, w, nil, "destroy keys"); err != nil {
		return err
	}
	return s.truncate(ctx)
}

// truncate empties the write-ahead log, which still holds what was deleted. It tries until ctx ends, and truncateTries
// times at most; after an error, EmptyLog is left to do it.
func (s *Store) truncate(ctx context.Context) error {
	ticker := time.NewTicker(truncateWait)
	defer ticker.Stop()
	var err error
	for range truncateTries {
		if err = s.emptyLog(ctx); !errors.Is(err, errLogRead) {
			break
		}
		select {
		case <-ticker.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	if err != nil {
		s.logHolds.Store(true)
		return fmt.Errorf("it is deleted, but a copy is left in the write-ahead log: %w; end what reads the database, such as an export or a copy: a running gateway then empties the log within seconds, else the next command that writes does", err)
	}
	return nil
}

func (s *Store) emptyLog(ctx context.Context) error {
	it, err := s.submit(ctx, &work{keys: &keyChange{truncate: true}}, nil)
	if err != nil {
		return err
	}
	return s.wait(ctx, it, nil)
}

// EmptyLog empties the write-ahead log where Erase, Rewrap or Prune could not because somebody read it, and fails while
// somebody still does. It costs nothing when nothing is left to do.
func (s *Store) EmptyLog(ctx context.Context) error {
	if !s.logHolds.Swap(false) {
		return nil
	}
	err := s.emptyLog(ctx)
	if err != nil {
		s.logHolds.Store(true)
	}
	return err
}

// Rewrap stores keys of persons as they are under another master key, and the event that says so, in one transaction.
func (s *Store) Rewrap(ctx context.Context, rec *audit.Record, keys []audit.PersonKey) error {
	rec.Kind, rec.Action = audit.Event, audit.Rotated
	w, err := s.newWork(rec, nil)
	if err != nil {
		return fmt.Errorf("rotate a key: %w", err)
	}
	w.keys = &keyChange{}
	for _, k := range keys {
		w.keys.rewrap = append(w.keys.rewrap, bind(k.ID, k.Master, slices.Clone(k.Wrapped)))
	}
	if _, err := s.finishRecord(ctx, rec, w, nil, "rotate a key"); err != nil {
		return err
	}
	return s.truncate(ctx)
}

// owners are the newest keys of all persons, by ownerHash: their places in person_keys. An index in the database would
// cost each new person a page of its own in the write-ahead log, which is as much as its record; in memory it takes some
// 30 bytes a person. A person who is not there gets a new key, and so may one whose hash another has, too.
type owners struct {
	mu     sync.RWMutex
	newest map[int64]int64
}

// owned is a key whose owner was stored.
type owned struct{ hash, n int64 }

func (o *owners) add(list []owned) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range list {
		o.newest[k.hash] = k.n
	}
}

func (o *owners) find(p audit.Person) (n int64, ok bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	n, ok = o.newest[ownerHash(p)]
	return n, ok
}

// load reads what is in the database.
func (o *owners) load(c *conn) error {
	o.newest = map[int64]int64{}
	rows, err := c.raw.QueryContext(context.Background(), sqlOwners, nil)
	if err != nil {
		return err
	}
	return eachRow(rows, func(row []driver.Value) error {
		hash, _ := row[0].(int64)
		o.newest[hash], _ = row[1].(int64)
		return nil
	})
}

// NewestKey returns the newest key of a person; ok is false when there is none. It is for the path of a request: it asks
// the database only for persons who have a key.
func (s *Store) NewestKey(ctx context.Context, p audit.Person) (k audit.PersonKey, ok bool, err error) {
	n, ok := s.owners.find(p)
	if err := ctx.Err(); err != nil || !ok {
		return k, false, err
	}
	// Not interrupted, as in entries.
	return scanKey(s.keyAt.QueryRowContext(context.WithoutCancel(ctx), p.Upstream, p.ResourceType, p.ID, n), s.path)
}

// NewestKey returns the newest key of a person; ok is false when there is none. It looks through all.
func (r *Reader) NewestKey(ctx context.Context, p audit.Person) (k audit.PersonKey, ok bool, err error) {
	return scanKey(r.lookups.QueryRowContext(ctx, sqlNewestKey, p.Upstream, p.ResourceType, p.ID), r.path)
}

// PersonKey returns the key with an id; ok is false when there is none.
func (r *Reader) PersonKey(ctx context.Context, id string) (k audit.PersonKey, ok bool, err error) {
	return scanKey(r.lookups.QueryRowContext(ctx, sqlKey, id), r.path)
}

// NewestPersonKey returns the newest key of anybody; ok is false when there is none.
func (r *Reader) NewestPersonKey(ctx context.Context) (k audit.PersonKey, ok bool, err error) {
	return scanKey(r.lookups.QueryRowContext(ctx, sqlKeys+` DESC LIMIT 1`), r.path)
}

func scanKey(row interface{ Scan(...any) error }, path string) (k audit.PersonKey, ok bool, err error) {
	var made int64
	err = row.Scan(&k.ID, &k.Master, &k.Wrapped, &made)
	if errors.Is(err, sql.ErrNoRows) {
		return k, false, nil
	}
	k.Made = time.UnixMicro(made).UTC()
	return k, err == nil, explain(path, err)
}

// PersonKeys returns the keys of all persons, oldest first.
func (r *Reader) PersonKeys(ctx context.Context) (keys []audit.PersonKey, err error) {
	rows, err := r.scans.QueryContext(ctx, sqlKeys)
	if err != nil {
		return nil, fmt.Errorf("list the keys of persons: %w", explain(r.path, err))
	}
	defer rows.Close()
	for rows.Next() {
		k, _, err := scanKey(rows, r.path)
		if err != nil {
			return nil, fmt.Errorf("list the keys of persons: %w", err)
		}
		keys = append(keys, k)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list the keys of persons: %w", explain(r.path, err))
	}
	return keys, nil
}

// Holding is what is sealed about one person.
type Holding struct {
	Person  audit.Person // without an ID: of creates that failed, or whose answer told no id
	Keys    []string     // ids of all keys that are there
	Names   []string     // the userNames in the records, in the order of the trail
	Records int          // that are sealed under these keys, and about the user who was asked for
	First   time.Time    // of these records
	Last    time.Time
}

// Holdings returns what is sealed about a user: an id, userName or externalId, in any case. A name may have led to
// several persons over time.
func (r *Reader) Holdings(ctx context.Context, user string) ([]*Holding, error) {
	held := map[audit.Person]*Holding{}
	persons := map[string]audit.Person{} // by key
	for rec, err := range r.Search(ctx, audit.Query{User: user}) {
		if err != nil {
			return nil, err
		}
		if rec.SealedKey == "" {
			continue
		}
		p, ok := persons[rec.SealedKey]
		if !ok {
			if p, ok, err = r.owner(ctx, rec.SealedKey); err != nil {
				return nil, err
			} else if !ok {
				continue // destroyed already
			}
			persons[rec.SealedKey] = p
		}
		h := held[p]
		if h == nil {
			h = &Holding{Person: p, First: rec.Time}
			if held[p] = h; p.ID != "" {
				if h.Keys, err = r.keysOf(ctx, p); err != nil {
					return nil, err
				}
			}
		}
		if !slices.Contains(h.Keys, rec.SealedKey) {
			h.Keys = append(h.Keys, rec.SealedKey)
		}
		if n := rec.Subject.UserName; n != "" && !slices.Contains(h.Names, n) {
			h.Names = append(h.Names, n)
		}
		h.Records++
		h.Last = rec.Time
	}
	return slices.SortedFunc(maps.Values(held), func(a, b *Holding) int { return a.First.Compare(b.First) }), nil
}

// owner returns whose a key is, ok is false when the key is not there.
func (r *Reader) owner(ctx context.Context, key string) (p audit.Person, ok bool, err error) {
	if _, ok, err = r.PersonKey(ctx, key); err != nil || !ok {
		return p, false, err
	}
	err = r.lookups.QueryRowContext(ctx, sqlOwner, key).Scan(&p.Upstream, &p.ResourceType, &p.ID)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil // nobody's yet
	}
	return p, true, explain(r.path, err)
}

// keysOf returns the ids of all keys of a person.
func (r *Reader) keysOf(ctx context.Context, p audit.Person) ([]string, error) {
	var list sql.NullString
	if err := r.lookups.QueryRowContext(ctx, sqlKeysOf, p.Upstream, p.ResourceType, p.ID).Scan(&list); err != nil {
		return nil, fmt.Errorf("list the keys of a person: %w", explain(r.path, err))
	}
	return strings.Fields(list.String), nil
}
