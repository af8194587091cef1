package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"scimgate/transform"
	"scimgate/transform/scim"
)

// Bounds of a scan, the reading of all resources of an upstream for a query that it cannot answer itself.
const (
	scanResources = 10_000
	scanBytes     = 32 << 20
	scanTime      = 60 * time.Second
	scanRestarts  = 3 // when resources come or go while the pages are read
	scansAtOnce   = 4 // of one connection, for their memory; look-ups of one resource are not counted
)

// part is a query at one resource type and its plan: one of a query at the root, or all of any other.
type part struct {
	req  *scim.Request
	plan *transform.Plan
}

// pages answers a page of a query from every resource that matches, sorted, as the client sees them. The pages of
// one query are cut from one snapshot: the first page makes it, the others use it while it is fresh, so that they
// are stable and the upstream is read once. A scan never ends early: what exceeds its bounds is refused with tooMany.
//
// A snapshot for pages by index is found by the query, and a newer first page replaces it. One for pages by cursor is
// found by the cursor alone. When it is gone before the cursor is, everything is read again, and the cursor finds its
// place in what came of it: who was there all the time is in one page, and in one only.
func (g *Gateway) pages(ctx context.Context, x *exchange, req *scim.Request, parts []part) (*scim.Response, error) {
	key := snapshotKey(req, parts)
	at, err := g.openCursor(req.Query, key)
	if err != nil {
		return nil, err
	}
	if req.Query.StartIndex > 1 || at.Snapshot != "" {
		if list, ok := g.snapshots.get(key + at.Snapshot); ok {
			x.remark("snapshot", "cut from the snapshot that an earlier page made")
			return g.cut(req, key, list, at)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, scanTime)
	defer cancel()
	leave, err := g.enterScan(ctx, parts)
	if err != nil {
		return nil, err
	}
	defer leave()
	list, size, err := g.collect(ctx, x, parts)
	if err != nil {
		return nil, err
	}
	sortBy(req, list)
	life := scanTime
	if req.Query.Cursor != nil {
		if at.Snapshot != "" {
			at.Index = orderOf(req).behind(list, at.Behind)
		}
		at.Snapshot, life = newSnapshotName(), cursorTime
	}
	out, err := g.cut(req, key, list, at)
	if err != nil {
		return nil, err
	}
	more := len(out.List) < len(list)
	if out.ByCursor {
		more = out.Next != "" || out.Previous != ""
	}
	if more {
		g.snapshots.put(key+at.Snapshot, list, size, life)
	} else {
		g.snapshots.forget(key + at.Snapshot) // an older one would contradict this answer
	}
	return out, nil
}

// cut cuts the page that is asked for out of all matches.
func (g *Gateway) cut(req *scim.Request, key string, list []scim.Resource, at cursor) (*scim.Response, error) {
	if req.Query.Cursor == nil {
		return g.page(req, list), nil
	}
	return g.cursorPage(req, key, list, at)
}

// enterScan takes a place for a query that may read everything; leave gives it back.
func (g *Gateway) enterScan(ctx context.Context, parts []part) (leave func(), err error) {
	if !slices.ContainsFunc(parts, func(p part) bool { return p.plan.How == transform.Scan && !transform.Equalities(p.plan.Pushed) }) {
		return func() {}, nil
	}
	select {
	case g.scans <- struct{}{}:
		return func() { <-g.scans }, nil
	case <-ctx.Done():
		return nil, busy(ctx.Err())
	}
}

// collect reads all matches of all parts, one part after the other. The bounds are those of all together.
func (g *Gateway) collect(ctx context.Context, x *exchange, parts []part) (list []scim.Resource, size int, err error) {
	list = []scim.Resource{}
	read := 0
	for _, p := range parts {
		var found []scim.Resource
		switch p.plan.How {
		case transform.Local:
		case transform.Candidate:
			found, err = g.candidates(ctx, x, p)
		default:
			found, read, size, err = g.readSteady(ctx, x, p, read, size)
		}
		if err != nil {
			return nil, 0, err
		}
		list = append(list, found...)
	}
	return list, size, nil
}

// readSteady is readAll, again when the pages do not fit together.
func (g *Gateway) readSteady(ctx context.Context, x *exchange, p part, read, size int) ([]scim.Resource, int, int, error) {
	for range scanRestarts {
		list, total, sum, err := g.readAll(ctx, x, p, read, size)
		if !errors.Is(err, errMoved) {
			return list, total, sum, err
		}
		x.remark("scan", "resources came or went while the pages were read: read again")
	}
	e := scim.Errorf(http.StatusServiceUnavailable, "", "the upstream's resources change faster than they can be read: try again later")
	e.RetryAfter = 10 * time.Second
	return nil, 0, 0, e
}

// errMoved says that the pages of a scan do not fit together.
var errMoved = errors.New("the list changed while it was read")

// readAll reads all pages and keeps what matches. Each page begins with the last resource of the one before: when
// that is another one, something before it went or came, and others would be passed over or read twice. read and size
// are how many resources were read before, and how many bytes of them are kept; what it returns counts on from there.
func (g *Gateway) readAll(ctx context.Context, x *exchange, p part, read, size int) (list []scim.Resource, sum, bytes int, err error) {
	req, plan := p.req, p.plan
	seen := map[string]bool{}
	total, last := 0, ""
	for start := 1; ; {
		up := *plan.Requests[0]
		up.Query.StartIndex = start
		resp, err := g.ask(ctx, x, &up)
		if err != nil {
			return nil, 0, 0, err
		}
		if last == "" && start > 1 && resp.TotalResults != total {
			return nil, 0, 0, errMoved
		}
		if total = resp.TotalResults; read+total > scanResources {
			return nil, 0, 0, tooMany(fmt.Sprintf("%d resources", read+total))
		}
		if err := checkPushed(req.Type, plan.Pushed, resp.List); err != nil {
			return nil, 0, 0, err
		}
		rest := resp.List
		switch {
		case len(rest) == 0 && (start > 1 || total > 0):
			return nil, 0, 0, errMoved // fewer than were announced
		case last != "":
			if rest[0].ID() != last {
				return nil, 0, 0, errMoved
			}
			rest = rest[1:]
		}
		for _, r := range rest {
			if seen[r.ID()] {
				return nil, 0, 0, errMoved
			}
			seen[r.ID()] = true
			if r, err = g.finishListed(ctx, x, req, r); err != nil {
				return nil, 0, 0, err
			}
			if plan.Residual != nil {
				if ok, err := req.Type.Match(plan.Residual, r); err != nil {
					return nil, 0, 0, err
				} else if !ok {
					continue
				}
			}
			list = append(list, r)
			if size += weigh(r); size > scanBytes {
				return nil, 0, 0, tooMany(fmt.Sprintf("%d bytes", size))
			}
		}
		if start += len(resp.List); start > total {
			return list, read + total, size, nil
		}
		if last = ""; len(resp.List) > 1 {
			last = resp.List[len(resp.List)-1].ID()
			start--
		}
	}
}

// tooMany is the answer to a query that would cost more than the bounds of a scan.
func tooMany(what string) error {
	return scim.BadRequest(scim.TooMany, "the upstream cannot evaluate this query, and reading everything would mean %s; "+
		"the bound is %d resources and %d MiB. Ask for one user by userName or id, or list by startIndex without filter and sortBy", what, scanResources, scanBytes>>20)
}

// weigh estimates the bytes of a resource in memory.
func weigh(v any) int {
	const overhead = 48
	switch v := v.(type) {
	case string:
		return overhead + len(v)
	case scim.Resource:
		return weigh(map[string]any(v))
	case map[string]any:
		n := 4 * overhead
		for k, e := range v {
			n += overhead + len(k) + weigh(e)
		}
		return n
	case []any:
		n := overhead
		for _, e := range v {
			n += weigh(e)
		}
		return n
	default:
		return overhead
	}
}

// snapshotKey is what the pages of one query have in common: all but its projection.
func snapshotKey(req *scim.Request, parts []part) string {
	key := req.Origin.Credential + "\x00" + req.Origin.Base
	if req.Type == nil {
		key += "\x00root"
	}
	for _, p := range parts {
		key += "\x00" + p.req.Type.Name + "\x00" + scim.FormatFilter(p.req.Query.Filter)
		if by := p.req.Query.SortBy; by != nil {
			key += "\x00" + by.String()
		}
	}
	if req.Query.Descending {
		key += "\x00descending"
	}
	return key + "\x00"
}

// snapshots keeps the matches of recent scans for a time, 32 MiB at most. The zero snapshots is ready.
type snapshots struct {
	mu   sync.Mutex
	kept map[string]snapshot
	size int
}

type snapshot struct {
	list []scim.Resource
	size int
	ends time.Time
}

func (s *snapshots) get(key string) ([]scim.Resource, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kept[key]
	if !ok || time.Now().After(k.ends) {
		return nil, false
	}
	return k.list, true
}

// put keeps a list for a time, or until others need the room: those go first that would end first.
func (s *snapshots) put(key string, list []scim.Resource, size int, life time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[string]snapshot{}
	}
	s.drop(key)
	now := time.Now()
	for k, old := range s.kept {
		if now.After(old.ends) {
			s.drop(k)
		}
	}
	for s.size+size > scanBytes && len(s.kept) > 0 {
		first := ""
		for k, old := range s.kept {
			if first == "" || old.ends.Before(s.kept[first].ends) {
				first = k
			}
		}
		s.drop(first)
	}
	s.kept[key] = snapshot{list: list, size: size, ends: now.Add(life)}
	s.size += size
}

func (s *snapshots) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(key)
}

// drop expects the lock.
func (s *snapshots) drop(key string) {
	s.size -= s.kept[key].size
	delete(s.kept, key)
}
