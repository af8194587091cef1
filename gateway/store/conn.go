package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
)

// dsn is the driver's name for the database file at path, which must be absolute. mode is one of SQLite's URI modes;
// none of those used here creates a file.
func dsn(path, mode string) string {
	slashed := filepath.ToSlash(path)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed // C:/... on Windows
	}
	options := url.Values{"mode": {mode}, "_dqs": {"0"}, "_busy_timeout": {strconv.FormatInt(busyTimeout.Milliseconds(), 10)}}
	if mode != modeReadWrite {
		options.Set("_pragma", "cache_size(-256)") // of each connection; what is read often stays in the system's memory
	}
	if mode == modeImmutable {
		options.Set("mode", modeReadOnly)
		options.Set("immutable", "1")
	}
	return (&url.URL{Scheme: "file", Path: slashed, RawQuery: options.Encode()}).String()
}

// busyTimeout is how long a statement waits for a lock of SQLite's.
const busyTimeout = 5 * time.Second

const (
	modeReadWrite = "rw"
	modeReadOnly  = "ro"
	modeImmutable = "immutable" // read-only, without the -wal and -shm files
)

// conn is the writer's connection. It talks to the driver directly: database/sql would add its locking and conversions
// to every statement, and the writer is one goroutine with one connection anyway. Statements run to their end; a commit
// cannot be cancelled half way.
type conn struct{ raw rawConn }

type rawConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

func dial(name string) (*conn, error) {
	connector, err := sqlite.NewConnector(name)
	if err != nil {
		return nil, err
	}
	raw, err := connector.Connect(context.Background())
	if err != nil {
		return nil, err
	}
	c := &conn{}
	var ok bool
	if c.raw, ok = raw.(rawConn); !ok {
		return nil, errors.Join(fmt.Errorf("the SQLite driver's connection %T lacks a method", raw), raw.Close())
	}
	return c, nil
}

func (c *conn) Close() error { return c.raw.Close() }

// exec runs one statement or several that return no rows.
func (c *conn) exec(query string, values ...driver.Value) error {
	_, err := c.raw.ExecContext(context.Background(), query, bind(values...))
	return err
}

// get returns the first column of the first row, or nil when there is no row.
func (c *conn) get(query string, values ...driver.Value) (driver.Value, error) {
	rows, err := c.raw.QueryContext(context.Background(), query, bind(values...))
	if err != nil {
		return nil, err
	}
	var first driver.Value
	err = eachRow(rows, func(row []driver.Value) error {
		if first == nil {
			first = row[0]
		}
		return nil
	})
	return first, err
}

func (c *conn) prepare(query string) (*stmt, error) {
	raw, err := c.raw.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	both, ok := raw.(execQueryer)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the SQLite driver's statement %T lacks a method", raw), raw.Close())
	}
	return &stmt{both}, nil
}

type execQueryer interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// stmt is a prepared statement of the writer's connection.
type stmt struct{ raw execQueryer }

// exec returns the number of rows that were changed.
func (s *stmt) exec(args []driver.NamedValue) (int64, error) {
	result, err := s.raw.ExecContext(context.Background(), args)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// insert returns the rowid of a row that it has put in, 0 when it put in none.
func (s *stmt) insert(args []driver.NamedValue) (int64, error) {
	result, err := s.raw.ExecContext(context.Background(), args)
	if err != nil {
		return 0, err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return 0, err
	}
	return result.LastInsertId()
}

func (s *stmt) query(args []driver.NamedValue, each func(row []driver.Value) error) error {
	rows, err := s.raw.QueryContext(context.Background(), args)
	if err != nil {
		return err
	}
	return eachRow(rows, each)
}

// number is the one number that a query returns.
func (s *stmt) number() (n int64, err error) {
	err = s.query(nil, func(row []driver.Value) error { n, _ = row[0].(int64); return nil })
	return n, err
}

func eachRow(rows driver.Rows, each func(row []driver.Value) error) error {
	row := make([]driver.Value, len(rows.Columns()))
	for {
		err := rows.Next(row)
		if err == nil {
			err = each(row)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if closed := rows.Close(); err == nil { // it repeats the error of a row
				err = closed
			}
			return err
		}
	}
}

// bind numbers the values as the statement's $1, $2, ...
func bind(values ...driver.Value) []driver.NamedValue {
	args := make([]driver.NamedValue, len(values))
	for i, v := range values {
		args[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return args
}

// optional is s, or NULL for the empty string.
func optional(s string) driver.Value {
	if s == "" {
		return nil
	}
	return s
}
