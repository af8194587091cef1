package entra

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// cycle is one run over a list of objects.
type cycle struct {
	c       *Client
	dir     *Directory // nil where nothing is provisioned
	dialect Dialect
	seen    *collector
	report  *Report
}

func (c *Client) newCycle(name string, d Dialect) *cycle {
	return &cycle{
		c: c, dialect: d, seen: newCollector(),
		report: &Report{Cycle: name, Dialect: d, Started: time.Now(), Entries: []Entry{}, Escrowed: []string{}},
	}
}

// Initial provisions every object of the directory: users, then their
// managers, then groups and their members. The watermark moves when the cycle
// ends without quarantine.
func (c *Client) Initial(ctx context.Context, d *Directory) (*Report, error) {
	return c.provision(ctx, d, "initial cycle", true)
}

// Incremental provisions what changed since the watermark and what the cycle
// before left in escrow.
func (c *Client) Incremental(ctx context.Context, d *Directory) (*Report, error) {
	return c.provision(ctx, d, "incremental cycle", false)
}

func (c *Client) provision(ctx context.Context, d *Directory, name string, all bool) (*Report, error) {
	c.cycling.Lock()
	defer c.cycling.Unlock()
	y := c.newCycle(name, c.cfg.Dialect)
	y.dir = d
	watermark, escrow := c.due(all)
	changes, next := d.changes(watermark, escrow)
	changes = slices.DeleteFunc(changes, func(e entry) bool { return e.deleted && c.linked(e.objectID()) == nil })
	items := newItems(changes)
	y.holdDeletions(items)

	y.process(ctx, items)
	for range c.cfg.Retries {
		failed := slices.DeleteFunc(slices.Clone(items), func(it *item) bool { return !it.failed })
		if len(failed) == 0 || y.seen.condemned() || pause(ctx, retryDelay(y.seen.takeRetry())) != nil {
			break
		}
		y.process(ctx, failed)
	}
	y.finish(items)
	c.settle(ctx, y, items, next)
	return y.report, ctx.Err()
}

// due returns where the cycle starts.
func (c *Client) due(all bool) (watermark uint64, escrow map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if all {
		return 0, nil
	}
	return c.watermark, c.escrow
}

// settle moves the watermark and fills the escrow. A cycle that was ended early
// leaves both as they are, so that the next one starts where this one started;
// what is held back because of the deletion threshold waits in escrow.
func (c *Client) settle(ctx context.Context, y *cycle, items []*item, watermark uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	whole := ctx.Err() == nil
	escrow := map[string]bool{}
	for _, it := range items {
		whole = whole && it.processed
		if it.failed || it.held || it.again {
			escrow[it.objectID()] = true
		}
	}
	if !whole {
		for id := range escrow {
			c.escrow[id] = true
		}
	} else if q := y.report.Quarantine; !q.Quarantined || !endsCycle(q.Rule) {
		c.watermark, c.escrow = watermark, escrow
	}
	for _, it := range items {
		if escrow[it.objectID()] {
			y.report.Escrowed = append(y.report.Escrowed, it.objectID())
		}
	}
}

// endsCycle reports whether the rule stops the job in the middle of a cycle.
func endsCycle(rule string) bool { return rule == "credentials" || rule == "protocol" }

// OnDemand provisions one person now. It matches anew whatever is cached, and
// its dialect is the legacy one whatever the Tenant URL says.
func (c *Client) OnDemand(ctx context.Context, d *Directory, objectID string) (*Report, error) {
	e, ok := d.find(objectID)
	if !ok || e.group != nil {
		return nil, fmt.Errorf("person %q is not in the directory: add it before it is provisioned on demand", objectID)
	}
	c.cycling.Lock()
	defer c.cycling.Unlock()
	y := c.newCycle("on demand", Legacy)
	y.dir = d
	items := newItems([]entry{e})
	y.each(ctx, items, func(ctx context.Context, it *item) { y.match(ctx, it) })
	y.each(ctx, items, y.reference)
	y.finish(items)
	return y.report, ctx.Err()
}

// process is the order of a cycle: references need the ids of what they refer
// to, so they come after every creation.
func (y *cycle) process(ctx context.Context, items []*item) {
	var users, groups []*item
	for _, it := range items {
		it.failed, it.again = false, false
		switch {
		case it.held:
		case it.group != nil:
			groups = append(groups, it)
		default:
			users = append(users, it)
		}
	}
	y.each(ctx, users, y.user)
	y.each(ctx, users, y.reference)
	y.each(ctx, groups, y.groupItem)
	y.each(ctx, groups, y.members)
}

// each runs the step for every item, on the configured number of workers. Once
// the job is quarantined no further item is begun.
func (y *cycle) each(ctx context.Context, items []*item, step func(context.Context, *item)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(y.c.cfg.Workers, len(items)) {
		wg.Go(func() {
			for ctx.Err() == nil && !y.seen.condemned() {
				i := int(next.Add(1)) - 1
				if i >= len(items) {
					return
				}
				step(ctx, items[i])
			}
		})
	}
	wg.Wait()
}

// holdDeletions is the guard against accidental deletion, which counts
// disables and deletes before any is sent.
func (y *cycle) holdDeletions(items []*item) {
	limit := y.c.cfg.DeletionThreshold
	if limit <= 0 || y.c.deletionsAllowed() {
		return
	}
	var doomed []*item
	for _, it := range items {
		if it.group != nil || (!it.deleted && it.person.wanted()) || (it.deleted && it.person.Unassigned) {
			continue
		}
		if l := y.c.linked(it.objectID()); l != nil && (it.deleted || !l.disabled) {
			doomed = append(doomed, it)
		}
	}
	if len(doomed) <= limit {
		return
	}
	for _, it := range doomed {
		it.held, it.processed = true, true
		it.step(Step{Action: Scoping, Status: Skipped, ErrorCode: "AccidentalDeletionPrevention",
			Detail: "held back by the threshold for accidental deletions"})
		it.done(Scoping, Skipped)
	}
	y.report.Quarantine.set("deletions", fmt.Sprintf("%d users would be disabled or deleted, more than the threshold of %d: all are held back", len(doomed), limit))
}

// retryDelay reads a Retry-After, in seconds or as a date, up to a minute.
func retryDelay(header string) time.Duration {
	if n, err := strconv.Atoi(header); err == nil {
		return time.Duration(min(max(n, 0), 60)) * time.Second
	}
	if t, err := http.ParseTime(header); err == nil {
		return min(max(time.Until(t), 0), time.Minute)
	}
	return 0
}

// finish counts the items and writes the report.
func (y *cycle) finish(items []*item) {
	r, t := y.report, &y.report.Totals
	deletions := r.Quarantine
	t.Objects = len(items)
	for _, it := range items {
		if !it.processed {
			t.NotProcessed++
			continue
		}
		if it.failed {
			it.log.Status = Failure
			t.Failed++
		}
		switch it.log.Action {
		case Create:
			t.Created++
		case Update:
			t.Updated++
		case Disable:
			t.Disabled++
		case Restore:
			t.Restored++
		case Delete:
			t.Deleted++
		case RedundantExport, Scoping:
			t.Skipped++
		}
		r.Entries = append(r.Entries, it.log)
	}
	y.seen.fill(r)
	if deletions.Quarantined && !r.Quarantine.Quarantined {
		r.Quarantine = deletions
	}
	r.judge()
}

// expected reports whether an object that has no link yet may get one in a later
// cycle. Entra leaves references to objects out of scope alone.
func (y *cycle) expected(objectID string) bool {
	e, ok := y.dir.find(objectID)
	return ok && e.group == nil && !e.person.gone()
}

// changedNames lists the attribute paths of changes.
func changedNames(changes []change) []string {
	names := make([]string, 0, len(changes))
	for _, ch := range changes {
		names = append(names, strings.TrimPrefix(ch.path, enterpriseURN+":"))
	}
	return names
}
