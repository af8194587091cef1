package entra

import (
	"context"
	"net/http"
	"slices"
)

// groupItem is what a cycle does with one group, without its members. Groups
// are read without members, which may be many.
func (y *cycle) groupItem(ctx context.Context, it *item) {
	it.processed = true
	l := y.c.linked(it.objectID())
	switch {
	case it.deleted:
		y.deleteItem(ctx, it, l)
	case l == nil:
		y.matchGroup(ctx, it)
	default:
		y.knownGroup(ctx, it, l)
	}
}

func (y *cycle) matchGroup(ctx context.Context, it *item) {
	it.log.Requests++
	found, p := y.query(ctx, "/Groups", groupQuery(it.group.DisplayName))
	if p == nil {
		p = y.plausible(attribute{path: "displayName", at: locate("displayName")}, it.group.DisplayName, found)
	}
	if p != nil {
		it.fail(Match, []string{"displayName"}, p)
		return
	}
	it.step(Step{Action: Match, Status: Success, HTTP: http.StatusOK, Attributes: []string{"displayName"}})
	if len(found) == 1 {
		it.log.ID = found[0].id()
		y.c.setLink(it.objectID(), found[0].id())
		it.done(RedundantExport, Skipped)
		return
	}
	it.log.Requests++
	r, status, p := y.create(ctx, "/Groups", y.c.groupBody(it.group))
	if p != nil {
		it.fail(Create, nil, p)
		return
	}
	it.log.ID = r.id()
	y.c.setLink(it.objectID(), r.id())
	it.step(Step{Action: Create, Status: Success, HTTP: status})
	it.done(Create, Success)
}

func groupQuery(displayName string) string {
	return "excludedAttributes=members&" + filterQuery("displayName eq "+quote(displayName))
}

func (y *cycle) knownGroup(ctx context.Context, it *item, l *link) {
	r := y.readItem(ctx, it, l, "excludedAttributes=members")
	if r == nil {
		return
	}
	name := attribute{path: "displayName", at: locate("displayName")}
	got := name.read(r)
	if got.present && got.text == it.group.DisplayName {
		it.done(RedundantExport, Skipped)
		return
	}
	body := changesBody(y.dialect, []change{{attribute: name, text: it.group.DisplayName, add: !got.present}})
	if y.patchItem(ctx, it, l, Update, []string{"displayName"}, body) {
		it.done(Update, Success)
	}
}

// members sends the difference between the group's members and those which the
// service provider took before. A member who is not provisioned yet is looked
// at again in the next cycle.
func (y *cycle) members(ctx context.Context, it *item) {
	l := y.c.linked(it.objectID())
	if !it.processed || it.failed || it.deleted || l == nil {
		return
	}
	wanted := map[string]string{}
	var added, removed []string
	for _, objectID := range it.group.Members {
		id, ok := y.c.Link(objectID)
		if !ok {
			it.again = it.again || y.expected(objectID)
			continue
		}
		if wanted[objectID] == id {
			continue
		}
		wanted[objectID] = id
		if l.members[objectID] == id {
			continue
		}
		if y.c.cfg.Variants.ReferenceChecks {
			there, p := y.referred(ctx, it, "/Groups", l.id, "members", id)
			if p != nil {
				it.fail(Reference, []string{"members"}, p)
				return
			}
			if there {
				l.members[objectID] = id
				continue
			}
		}
		added = append(added, id)
	}
	for objectID, id := range l.members {
		if wanted[objectID] != id {
			removed = append(removed, id)
		}
	}
	slices.Sort(removed)
	if len(added)+len(removed) == 0 {
		return
	}
	if y.patchItem(ctx, it, l, Reference, []string{"members"}, membersBody(y.dialect, added, removed)) {
		l.members = wanted
		it.done(Update, Success)
	}
}
