package gateway

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"scimgate/transform"
	"scimgate/transform/scim"
)

// cursor is a place between two resources of a query's matches, as a client carries it from page to page (RFC 9865). It
// is encrypted and authenticated under a key made of the trail's, together with the connection, the credential and
// all of the query but its projection: nobody else can use it, nobody can make one, and it gives nothing away.
type cursor struct {
	Snapshot string   `json:"s"`           // name of the snapshot that the page before was cut from
	Index    int      `json:"i"`           // place in it: how many resources stand before
	Behind   position `json:"p"`           // the last of these: the place, where there is no snapshot any more
	Back     bool     `json:"b,omitempty"` // the page that ends here, not the one that begins here
	Count    int      `json:"n"`           // count of the first page; -1: none was given
	Made     int64    `json:"t"`           // in milliseconds of Unix time
}

// longestName bounds what of a place a cursor carries, so that it fits a URL. Of resources that are the same so far, one
// may then be shown again when the snapshot is gone, and none is missed.
const longestName = 128

const cursorTime = transform.CursorTime * time.Second

// newSnapshotName names a snapshot so that no other has the name, in any process.
func newSnapshotName() string { return rand.Text()[:16] }

// openCursor takes a query's cursor apart; the zero cursor is the first page, and that of a query without cursors. key is
// what the pages of the query have in common.
func (g *Gateway) openCursor(q scim.Query, key string) (cursor, error) {
	var at cursor
	if q.Cursor == nil || *q.Cursor == "" {
		return at, nil
	}
	// RFC 9865, Section 5.2: the same words whatever is wrong with it.
	invalid := scim.BadRequest(scim.InvalidCursor, "the cursor is none of this query's: send what nextCursor or previousCursor said, "+
		"with the same parameters, or an empty cursor to begin again")
	sealed, err := base64.RawURLEncoding.DecodeString(*q.Cursor)
	if err != nil {
		return at, invalid
	}
	body, err := g.cursors.Open(nil, nil, sealed, g.cursorFor(key))
	if err != nil {
		return at, invalid
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber() // as scim has numbers
	if err := d.Decode(&at); err != nil {
		return at, fmt.Errorf("read a cursor of our own: %w", err)
	}
	switch {
	case time.Since(time.UnixMilli(at.Made)) > cursorTime:
		return at, scim.BadRequest(scim.ExpiredCursor, "the cursor has expired: the next page must be asked for within %s. "+
			"Send an empty cursor to begin again", cursorTime)
	case at.Count != countOf(q):
		return at, scim.BadRequest(scim.InvalidCount, "count must stay what it was on the first page")
	}
	return at, nil
}

// sealCursor makes what a client carries.
func (g *Gateway) sealCursor(at cursor, key string) (string, error) {
	at.Made = time.Now().UnixMilli()
	at.Behind.ID = short(at.Behind.ID)
	if s, ok := at.Behind.Value.(string); ok {
		at.Behind.Value = short(s)
	}
	body, err := json.Marshal(at)
	if err != nil {
		return "", fmt.Errorf("write a cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(g.cursors.Seal(nil, nil, body, g.cursorFor(key))), nil
}

// cursorFor is what a cursor is bound to.
func (g *Gateway) cursorFor(key string) []byte { return []byte(g.Name + "\x00" + key) }

func countOf(q scim.Query) int {
	if q.Count == nil {
		return -1
	}
	return *q.Count
}

func short(s string) string {
	if len(s) <= longestName {
		return s
	}
	n := longestName
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// cursorPage cuts the page at a cursor out of all matches.
func (g *Gateway) cursorPage(req *scim.Request, key string, list []scim.Resource, at cursor) (*scim.Response, error) {
	size := g.pageSize(req)
	from := min(at.Index, len(list))
	to := min(from+size, len(list))
	if at.Back && from > 0 {
		from, to = max(from-size, 0), from
	}
	out := listing(req, list, from, to)
	out.ByCursor = true
	if size == 0 {
		return out, nil // there are no pages, only a total
	}
	o := orderOf(req)
	next := cursor{Snapshot: at.Snapshot, Count: countOf(req.Query)}
	var err error
	if to < len(list) {
		next.Index, next.Behind = to, o.of(list[to-1])
		if out.Next, err = g.sealCursor(next, key); err != nil {
			return nil, err
		}
	}
	if from > 0 {
		next.Index, next.Behind, next.Back = from, o.of(list[from-1]), true
		if out.Previous, err = g.sealCursor(next, key); err != nil {
			return nil, err
		}
	}
	return out, nil
}
