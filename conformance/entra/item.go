package entra

import (
	"context"
	"net/http"
	"net/url"
)

// item is one object on its way through the cycle. It belongs to one worker at
// a time.
type item struct {
	entry
	log       Entry
	processed bool
	failed    bool
	held      bool   // held back by the accidental-deletion threshold
	again     bool   // the next cycle is to look at it although it did not fail
	manager   string // id of the manager, as the resource showed it
}

func newItems(entries []entry) []*item {
	items := make([]*item, 0, len(entries))
	for _, e := range entries {
		it := &item{entry: e}
		it.log = Entry{Kind: "User", ObjectID: e.objectID(), UserName: e.person.UserName}
		if e.group != nil {
			it.log.Kind, it.log.UserName = "Group", e.group.DisplayName
		}
		items = append(items, it)
	}
	return items
}

// path is where the object's resource is, or will be, at the service provider.
func (it *item) path(id string) string {
	if it.group != nil {
		return "/Groups/" + url.PathEscape(id)
	}
	return userPath(id)
}

func userPath(id string) string { return "/Users/" + url.PathEscape(id) }

// step writes a line into the item's log.
func (it *item) step(s Step) { it.log.Steps = append(it.log.Steps, s) }

// done says what was done to the object. Work that was done stays on record
// when a later step finds nothing to do.
func (it *item) done(a Action, s Status) {
	if it.log.Action == "" || it.log.Action == EntryLevelError || it.log.Action == RedundantExport {
		it.log.Action = a
	} else if s == Skipped {
		s = Success
	}
	it.log.Status = s
}

// fail writes the step that failed.
func (it *item) fail(a Action, attributes []string, p *problem) {
	it.failed = true
	it.step(Step{Action: a, Status: Failure, HTTP: p.status, Attributes: attributes, ErrorCode: p.code, Detail: p.detail,
		ScimType: p.scimType, RetryAfter: p.retryAfter})
	it.done(EntryLevelError, Failure)
}

// readItem reads a linked object by its cached id. It returns nil after a
// failure, which it has logged.
func (y *cycle) readItem(ctx context.Context, it *item, l *link, query string) resource {
	it.log.ID = l.id
	it.log.Requests++
	r, gone, p := y.read(ctx, it.path(l.id), query, l.id)
	if p != nil {
		it.fail(Import, nil, p)
		y.lostIf(gone, it)
		return nil
	}
	it.step(Step{Action: Import, Status: Success, HTTP: http.StatusOK})
	return r
}

// patchItem is one PATCH of a linked object. It reports whether it was taken.
func (y *cycle) patchItem(ctx context.Context, it *item, l *link, action Action, attributes []string, body []byte) bool {
	it.log.Requests++
	status, gone, p := y.patch(ctx, it.path(l.id), l.id, body)
	if p != nil {
		it.fail(action, attributes, p)
		y.lostIf(gone, it)
		return false
	}
	it.step(Step{Action: action, Status: Success, HTTP: status, Attributes: attributes})
	return true
}

// deleteItem deletes a linked object's resource and forgets the link.
func (y *cycle) deleteItem(ctx context.Context, it *item, l *link) {
	it.log.ID = l.id
	it.log.Requests++
	status, p := y.remove(ctx, it.path(l.id))
	if p != nil {
		it.fail(Delete, nil, p)
		return
	}
	y.c.dropLink(it.objectID())
	it.step(Step{Action: Delete, Status: Success, HTTP: status})
	it.done(Delete, Success)
}

// lostIf drops the link of an object whose resource is gone: after a 404 on a
// cached id the next cycle matches anew.
func (y *cycle) lostIf(gone bool, it *item) {
	if !gone {
		return
	}
	y.c.dropLink(it.objectID())
	it.step(Step{Action: EntryLevelError, Status: Failure, HTTP: http.StatusNotFound, ErrorCode: "InvalidAnchor",
		Detail: "the service provider does not know the cached id: the link is dropped and the next cycle matches anew"})
}
