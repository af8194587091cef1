package entra

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// TestConnection does what the button of that name does: it asks for a user
// and for a group with a random GUID and wants 200 with an empty ListResponse
// for both. A 404 for Groups fails the test and quarantines the job.
func (c *Client) TestConnection(ctx context.Context) (*Report, error) {
	c.cycling.Lock()
	defer c.cycling.Unlock()
	y := c.newCycle("test connection", c.cfg.Dialect)
	if host, ok := strings.CutPrefix(c.base, "http://"); ok && !loopback(host) {
		y.seen.remark("the Tenant URL is not HTTPS: Entra speaks nothing else")
	}
	guid := randomGUID()
	items := []*item{
		{log: Entry{Kind: "User", UserName: guid}},
		{log: Entry{Kind: "Group", UserName: guid}},
	}
	y.probe(ctx, items[0], "/Users", filterQuery(c.match[0].path+" eq "+quote(guid)))
	y.probe(ctx, items[1], "/Groups", groupQuery(guid))
	y.finish(items)
	return y.report, ctx.Err()
}

func (y *cycle) probe(ctx context.Context, it *item, path, query string) {
	it.processed = true
	it.log.Requests++
	_, total, p := y.list(ctx, path, query)
	if p == nil && total > 0 {
		p = y.incompatible(http.StatusOK, "a query of "+path+" for a random GUID found something: the filter was not applied")
	}
	if p != nil {
		it.fail(Probe, nil, p)
		return
	}
	it.step(Step{Action: Probe, Status: Success, HTTP: http.StatusOK})
	it.done(Probe, Success)
}

// maxDiscovered bounds account discovery, in users.
const maxDiscovered = 1_000_000

// Discover pages through all users, as account discovery does, and reports what
// is not stable: ids that come twice, users that are missing, a totalResults
// that moves. Nobody should change users meanwhile. pageSize 0 means 100.
func (c *Client) Discover(ctx context.Context, pageSize int) (*Report, error) {
	if pageSize <= 0 {
		pageSize = 100
	}
	c.cycling.Lock()
	defer c.cycling.Unlock()
	y := c.newCycle("account discovery", c.cfg.Dialect)
	it := &item{log: Entry{Kind: "User"}, processed: true}
	seen := map[string]bool{}
	first, total := -1, 0
	for start := 1; ctx.Err() == nil && (start == 1 || start <= total); {
		it.log.Requests++
		list, n, p := y.list(ctx, "/Users", fmt.Sprintf("startIndex=%d&count=%d", start, pageSize))
		if p == nil && len(list) == 0 && start <= n {
			p = &problem{code: "ImportFailed", status: http.StatusOK, detail: fmt.Sprintf("page at %d of %d is empty", start, n)}
		}
		if p == nil && first >= 0 && n != first {
			p = &problem{code: "ImportFailed", status: http.StatusOK, detail: fmt.Sprintf("totalResults moved from %d to %d", first, n)}
		}
		if p == nil && n > maxDiscovered {
			p = &problem{code: "ImportFailed", status: http.StatusOK, detail: fmt.Sprintf("totalResults is over %d", maxDiscovered)}
		}
		for _, r := range list {
			if seen[r.id()] && p == nil {
				p = &problem{code: "ImportFailed", status: http.StatusOK, detail: fmt.Sprintf("page at %d repeats an id of a page before", start)}
			}
			seen[r.id()] = true
		}
		if p != nil {
			it.fail(Import, nil, p)
			break
		}
		it.step(Step{Action: Import, Status: Success, HTTP: http.StatusOK, Detail: fmt.Sprintf("%d users from %d on", len(list), start)})
		first, total = n, n
		start += len(list)
		if len(list) == 0 {
			break
		}
	}
	if !it.failed {
		it.done(Import, Success)
	}
	y.finish([]*item{it})
	y.report.Totals.Discovered = len(seen)
	return y.report, ctx.Err()
}

func randomGUID() string {
	var b [16]byte
	rand.Read(b[:])
	return uuid(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]))
}

// loopback reports whether what follows the scheme in a URL is this machine.
func loopback(rest string) bool {
	host, _, _ := strings.Cut(rest, "/")
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
