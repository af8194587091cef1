package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// scan answers a page of a query from every resource that matches, sorted, as the client sees them. The pages of
// one query are cut from one snapshot: the first page makes it, the others use it while it is fresh, so that they
// are stable and the upstream is read once. A scan never ends early: what exceeds its bounds is refused with tooMany.
func (g *Gateway) scan(ctx context.Context, x *exchange, req *scim.Request, plan *transform.Plan) (*scim.Response, error) {
	key := snapshotKey(req)
	if req.Query.StartIndex > 1 {
		if list, ok := g.snapshots.get(key); ok {
			x.remark("snapshot", "cut from the snapshot that an earlier page made")
			return page(req, list), nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, scanTime)
	defer cancel()
	if !transform.Equalities(plan.Pushed) {
		select {
		case g.scans <- struct{}{}:
			defer func() { <-g.scans }()
		case <-ctx.Done():
			return nil, busy(ctx.Err())
		}
	}
	var list []scim.Resource
	var size int
	var err error
	for range scanRestarts {
		if list, size, err = g.readAll(ctx, x, req, plan); !errors.Is(err, errMoved) {
			break
		}
		x.remark("scan", "resources came or went while the pages were read: read again")
	}
	switch {
	case errors.Is(err, errMoved):
		e := scim.Errorf(http.StatusServiceUnavailable, "", "the upstream's resources change faster than they can be read: try again later")
		e.RetryAfter = 10 * time.Second
		return nil, e
	case err != nil:
		return nil, err
	}
	sortBy(req, list)
	out := page(req, list)
	if len(out.List) < len(list) {
		g.snapshots.put(key, list, size)
	} else {
		g.snapshots.forget(key) // an older one would contradict this answer
	}
	return out, nil
}

// errMoved says that the pages of a scan do not fit together.
var errMoved = errors.New("the list changed while it was read")

// readAll reads all pages and keeps what matches. Each page begins with the last resource of the one before: when
// that is another one, something before it went or came, and others would be passed over or read twice.
func (g *Gateway) readAll(ctx context.Context, x *exchange, req *scim.Request, plan *transform.Plan) ([]scim.Resource, int, error) {
	list := []scim.Resource{}
	seen := map[string]bool{}
	size, total, last := 0, 0, ""
	for start := 1; ; {
		up := *plan.Requests[0]
		up.Query.StartIndex = start
		resp, err := g.ask(ctx, x, &up)
		if err != nil {
			return nil, 0, err
		}
		if last == "" && start > 1 && resp.TotalResults != total {
			return nil, 0, errMoved
		}
		if total = resp.TotalResults; total > scanResources {
			return nil, 0, tooMany(fmt.Sprintf("%d resources", total))
		}
		if err := checkPushed(req.Type, plan.Pushed, resp.List); err != nil {
			return nil, 0, err
		}
		part := resp.List
		switch {
		case len(part) == 0 && (start > 1 || total > 0):
			return nil, 0, errMoved // fewer than were announced
		case last != "":
			if part[0].ID() != last {
				return nil, 0, errMoved
			}
			part = part[1:]
		}
		for _, r := range part {
			if seen[r.ID()] {
				return nil, 0, errMoved
			}
			seen[r.ID()] = true
			if r, err = g.finishListed(ctx, x, req, r); err != nil {
				return nil, 0, err
			}
			if plan.Residual != nil {
				if ok, err := req.Type.Match(plan.Residual, r); err != nil {
					return nil, 0, err
				} else if !ok {
					continue
				}
			}
			list = append(list, r)
			if size += weigh(r); size > scanBytes {
				return nil, 0, tooMany(fmt.Sprintf("%d bytes", size))
			}
		}
		if start += len(resp.List); start > total {
			return list, size, nil
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
		"the bound is %d resources and %d MiB. Ask for one user by userName or id", what, scanResources, scanBytes>>20)
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

// snapshotKey is what the pages of one query have in common.
func snapshotKey(req *scim.Request) string {
	q := req.Query
	key := req.Type.Name + "\x00" + req.Origin.Credential + "\x00" + req.Origin.Base + "\x00"
	if q.Filter != nil {
		key += scim.FormatFilter(q.Filter)
	}
	if q.SortBy != nil {
		key += "\x00" + q.SortBy.String() + fmt.Sprint(q.Descending)
	}
	return key
}

// snapshots keeps the matches of recent scans, 32 MiB at most and for 60 s. The zero snapshots is ready.
type snapshots struct {
	mu   sync.Mutex
	kept map[string]snapshot
	size int
}

type snapshot struct {
	list []scim.Resource
	size int
	made time.Time
}

func (s *snapshots) get(key string) ([]scim.Resource, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kept[key]
	if !ok || time.Since(k.made) > scanTime {
		return nil, false
	}
	return k.list, true
}

func (s *snapshots) put(key string, list []scim.Resource, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[string]snapshot{}
	}
	s.drop(key)
	for k, old := range s.kept {
		if time.Since(old.made) > scanTime || s.size+size > scanBytes {
			s.drop(k)
		}
	}
	s.kept[key] = snapshot{list: list, size: size, made: time.Now()}
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
