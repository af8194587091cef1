package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"modernc.org/sqlite"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

// Reader reads a database, also while another process writes to it. Every call sees all that was acknowledged before it
// began. Its methods are safe for concurrent use.
type Reader struct {
	path string
	// Look-ups by key have connections of their own, so that they never wait behind a search through a long trail.
	lookups, scans *sql.DB

	byID, byUserName, bySent, byExternalID, getRecord, keyAt *sql.Stmt
}

const (
	lookupConns = 4
	scanConns   = 2
)

// Stats counts what a database holds.
type Stats struct {
	Records      int64 // in the trail, without those that were pruned
	Newest       int64 // seq of the newest record; 0 when there is none
	Open         int64 // intents without the record that closes them
	Unreconciled int64 // intents closed as unknown that wait for Reconciled
}

// OpenReadOnly opens a database for reading while `scimgate serve` may run on it. It takes no lock and changes nothing.
// A database that was last written by a process that crashed is read as that process left it.
func OpenReadOnly(ctx context.Context, path string) (*Reader, error) {
	full, exists, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if !exists {
		return nil, fmt.Errorf("database %s: there is no such file: name the database of a running or former `scimgate serve`", path)
	}
	r := &Reader{}
	err = r.open(ctx, full, modeReadOnly)
	if err == nil {
		return r, nil
	}
	// Where SQLite may not create its -shm file (a read-only volume, a backup of somebody else's) a database can be read
	// all the same as long as it has no -wal: then nobody is writing, and the file is complete.
	if _, none := os.Stat(full + "-wal"); errors.Is(none, fs.ErrNotExist) {
		if r.open(ctx, full, modeImmutable) == nil {
			return r, nil
		}
	}
	return nil, explain(full, err)
}

// open connects and prepares the look-ups. On an error nothing stays open.
func (r *Reader) open(ctx context.Context, path, mode string) (err error) {
	connector, err := sqlite.NewConnector(dsn(path, mode))
	if err != nil {
		return err
	}
	r.path = path
	r.lookups, r.scans = sql.OpenDB(connector), sql.OpenDB(connector)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for db, n := range map[*sql.DB]int{r.lookups: lookupConns, r.scans: scanConns} {
		db.SetMaxOpenConns(n)
		db.SetMaxIdleConns(n)
	}
	version, err := readVersion(func(query string, values ...driver.Value) (driver.Value, error) {
		var text string
		err := r.lookups.QueryRowContext(ctx, query, values[0]).Scan(&text)
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		return text, err
	})
	switch {
	case err != nil:
		return err
	case version > schemaVersion:
		return newer(version)
	case version < schemaVersion:
		return fmt.Errorf("it has schema version %d and this program reads version %d: start `scimgate serve` once to migrate it", version, schemaVersion)
	}
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{{&r.byID, sqlByID}, {&r.byUserName, sqlByUserName}, {&r.bySent, sqlBySent}, {&r.byExternalID, sqlByExternalID}, {&r.getRecord, sqlGetRecord},
		{&r.keyAt, sqlKeyAt}} {
		if *p.stmt, err = r.lookups.PrepareContext(ctx, p.query); err != nil {
			return err
		}
	}
	return nil
}

// Close releases the reader's connections.
func (r *Reader) Close() error {
	return errors.Join(r.lookups.Close(), r.scans.Close())
}

// ByID returns the entry of one resource; ok is false when there is none.
func (r *Reader) ByID(ctx context.Context, key identity.Key) (e identity.Entry, ok bool, err error) {
	found, err := r.entries(ctx, r.byID, key.Upstream, key.ResourceType, key.ID)
	if err != nil || len(found) == 0 {
		return identity.Entry{}, false, err
	}
	return found[0], true, nil
}

// ByUserName returns the entries that the client knows under a userName, without regard to case, newest first.
func (r *Reader) ByUserName(ctx context.Context, upstream, resourceType, userName string) ([]identity.Entry, error) {
	return r.entries(ctx, r.byUserName, upstream, resourceType, identity.FoldKey(userName))
}

// BySent returns the entries whose userName was told the upstream as sent, whether that is an alias or the client's own
// userName, without regard to case, newest first.
func (r *Reader) BySent(ctx context.Context, upstream, resourceType, sent string) ([]identity.Entry, error) {
	return r.entries(ctx, r.bySent, upstream, resourceType, identity.FoldKey(sent))
}

// ByExternalID returns the entries with an externalId, compared exactly, newest first.
func (r *Reader) ByExternalID(ctx context.Context, upstream, resourceType, externalID string) ([]identity.Entry, error) {
	return r.entries(ctx, r.byExternalID, upstream, resourceType, externalID)
}

// entries runs one of the look-ups. It takes microseconds, so it is not interrupted: watching ctx would cost more.
func (r *Reader) entries(ctx context.Context, stmt *sql.Stmt, upstream, resourceType, key string) ([]identity.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rows, err := stmt.QueryContext(context.WithoutCancel(ctx), upstream, resourceType, key)
	if err != nil {
		return nil, fmt.Errorf("look up an identity: %w", explain(r.path, err))
	}
	defer rows.Close()
	var found []identity.Entry
	for rows.Next() {
		var e identity.Entry
		var externalID sql.NullString
		var updated int64
		if err := rows.Scan(&e.Upstream, &e.ResourceType, &e.ID, &e.UserName, &e.Sent, &externalID, &e.Kept, &updated); err != nil {
			return nil, fmt.Errorf("look up an identity: %w", err)
		}
		e.ExternalID, e.HasExternalID = externalID.String, externalID.Valid
		e.Updated = time.UnixMicro(updated).UTC()
		found = append(found, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look up an identity: %w", explain(r.path, err))
	}
	return found, nil
}

// Unreconciled returns the intents that were closed as unknown and wait for Reconciled, oldest first.
func (r *Reader) Unreconciled(ctx context.Context) ([]OpenIntent, error) {
	found, err := r.intents(ctx, sqlUnreconciled)
	if err != nil {
		return nil, fmt.Errorf("list unreconciled intents: %w", err)
	}
	return found, nil
}

func (r *Reader) intents(ctx context.Context, query string, args ...any) ([]OpenIntent, error) {
	rows, err := r.lookups.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, explain(r.path, err)
	}
	defer rows.Close()
	var found []OpenIntent
	for rows.Next() {
		var o OpenIntent
		var lease, at int64
		if err := rows.Scan(&o.Intent, &o.Boot, &lease, &o.Connection, &o.Upstream, &o.Op, &o.ResourceType, &o.ID, &o.RequestID, &o.Payload, &at, &o.Unknown); err != nil {
			return nil, err
		}
		o.LeaseUntil, o.Time = time.UnixMicro(lease).UTC(), time.UnixMicro(at).UTC()
		found = append(found, o)
	}
	return found, explain(r.path, rows.Err())
}

// Stats counts records and intents.
func (r *Reader) Stats(ctx context.Context) (Stats, error) {
	var st Stats
	err := r.lookups.QueryRowContext(ctx, sqlExtent).Scan(&st.Records, &st.Newest)
	if err == nil {
		err = r.lookups.QueryRowContext(ctx, sqlCountIntents).Scan(&st.Open, &st.Unreconciled)
	}
	if err != nil {
		return Stats{}, fmt.Errorf("count records: %w", explain(r.path, err))
	}
	st.Open -= st.Unreconciled
	return st, nil
}

// Get returns the record at a place in the trail, or ErrNotFound.
func (r *Reader) Get(ctx context.Context, seq int64) (*audit.Record, error) {
	var line []byte
	err := r.getRecord.QueryRowContext(ctx, seq).Scan(&line)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, r.notFound(ctx, seq)
	}
	if err != nil {
		return nil, fmt.Errorf("read record %d: %w", seq, explain(r.path, err))
	}
	return audit.Parse(line)
}

// notFound is ErrNotFound for a place in the trail, and says when it is before the first record that is left.
func (r *Reader) notFound(ctx context.Context, seq int64) error {
	var first int64
	if err := r.lookups.QueryRowContext(ctx, sqlTail).Scan(&first); err != nil {
		return fmt.Errorf("read record %d: %w", seq, explain(r.path, err))
	}
	if seq > 0 && seq < first {
		return fmt.Errorf("record %d was pruned, the first that is left is %d: %w", seq, first, ErrNotFound)
	}
	return fmt.Errorf("record %d: %w", seq, ErrNotFound)
}
