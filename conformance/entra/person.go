package entra

import (
	"context"
	"net/http"
	"strings"
)

// user is what a cycle does with one person, without references.
func (y *cycle) user(ctx context.Context, it *item) {
	l := y.c.linked(it.objectID())
	switch {
	case it.deleted:
		y.deleteUser(ctx, it, l)
	case l == nil:
		y.match(ctx, it)
	default:
		y.known(ctx, it, l)
	}
	it.processed = true
}

// known reads a person by the cached id and exports the differences.
func (y *cycle) known(ctx context.Context, it *item, l *link) {
	if r := y.readItem(ctx, it, l, ""); r != nil {
		y.compareSent(it, l, r)
		y.export(ctx, it, l, r)
	}
}

// compareSent finds attributes that come back other than they were sent.
func (y *cycle) compareSent(it *item, l *link, r resource) {
	for _, a := range y.c.mapping {
		if sent, ok := l.sent[a.path]; ok {
			if how := deviation(sent, a.read(r)); how != "" {
				y.seen.deviates(a.path, how, it.log.UserName)
			}
		}
	}
	if sent := l.sent[managerPath]; sent != "" {
		got := readManager(r)
		if how := deviation(sent, reading{text: got, present: got != ""}); how != "" {
			y.seen.deviates(managerPath, how, it.log.UserName)
		}
	}
}

// match looks for a person with the matching attributes, one query each, and
// creates whoever is not there.
func (y *cycle) match(ctx context.Context, it *item) {
	it.processed = true
	for _, a := range y.c.match {
		value := a.value(&it.person)
		if value == "" {
			continue
		}
		it.log.Requests++
		found, p := y.query(ctx, "/Users", filterQuery(a.path+" eq "+quote(value)))
		if p == nil {
			p = y.plausible(a, value, found)
		}
		if p != nil {
			it.fail(Match, []string{a.path}, p)
			return
		}
		it.step(Step{Action: Match, Status: Success, HTTP: http.StatusOK, Attributes: []string{a.path}})
		if len(found) == 1 {
			y.adopt(ctx, it, found[0])
			return
		}
	}
	y.createUser(ctx, it)
}

// plausible refuses an answer that would tie the person to somebody else.
func (y *cycle) plausible(a attribute, value string, found []resource) *problem {
	if len(found) > 1 {
		return &problem{code: "SystemForCrossDomainIdentityManagementMultipleEntriesInResponse", status: http.StatusOK,
			detail: "the matching query was answered with more than one resource"}
	}
	if len(found) == 0 {
		return nil
	}
	switch got := a.read(found[0]); {
	case !got.present:
		y.seen.remark("a matching query was answered with a resource that does not show " + a.path)
	case !strings.EqualFold(got.text, value):
		return &problem{code: "SystemForCrossDomainIdentityManagementServiceIncompatible", status: http.StatusOK,
			detail: "the matching query was answered with a resource whose " + a.path + " is another one: the filter was not applied"}
	}
	return nil
}

// adopt links a person to the resource that matched.
func (y *cycle) adopt(ctx context.Context, it *item, r resource) {
	it.log.ID = r.id()
	l := y.c.linked(it.objectID())
	if l == nil || l.id != r.id() {
		l = y.c.setLink(it.objectID(), r.id())
	}
	y.export(ctx, it, l, r)
}

func (y *cycle) createUser(ctx context.Context, it *item) {
	if it.person.gone() {
		it.step(Step{Action: Scoping, Status: Skipped, ErrorCode: "NotEffectivelyEntitled"})
		it.done(Scoping, Skipped)
		return
	}
	v := y.c.cfg.Variants
	managerID := ""
	if v.ManagerInCreate && y.c.manager {
		managerID, _ = y.c.Link(it.person.ManagerObjectID)
	}
	it.log.Requests++
	r, status, p := y.create(ctx, "/Users", y.c.userBody(&it.person, managerID))
	if p != nil {
		it.fail(Create, nil, p)
		return
	}
	l := y.c.setLink(it.objectID(), r.id())
	it.log.ID = l.id
	l.disabled = !it.person.wanted()
	it.manager = managerID
	it.step(Step{Action: Create, Status: Success, HTTP: status})
	it.done(Create, Success)
	var later []change
	for _, a := range y.c.mapping {
		text := a.value(&it.person)
		switch {
		case text == "":
		case a.at.typ != "" && v.ValuePathsAfterCreate:
			later = append(later, change{attribute: a, text: text, add: true})
		default:
			l.sent[a.path] = text
		}
	}
	if len(later) > 0 {
		y.sendChanges(ctx, it, l, Update, later)
	}
}

// export sends what differs between the mapping and the resource.
func (y *cycle) export(ctx context.Context, it *item, l *link, r resource) {
	it.manager = readManager(r)
	changes := y.c.differences(&it.person, r)
	if len(changes) == 0 {
		l.disabled = !it.person.wanted()
		it.step(Step{Action: RedundantExport, Status: Skipped})
		it.done(RedundantExport, Skipped)
		return
	}
	action := Update
	for _, ch := range changes {
		switch {
		case !ch.boolean:
		case ch.text == "False":
			action = Disable
		case !ch.add:
			action = Restore
		}
	}
	y.sendChanges(ctx, it, l, action, changes)
}

// sendChanges is one PATCH of a user.
func (y *cycle) sendChanges(ctx context.Context, it *item, l *link, action Action, changes []change) {
	if !y.patchItem(ctx, it, l, action, changedNames(changes), changesBody(y.dialect, changes)) {
		return
	}
	for _, ch := range changes {
		l.sent[ch.path] = ch.text
	}
	l.disabled = !it.person.wanted()
	it.done(action, Success)
}

// deleteUser is the end of the 30 days in the recycle bin. Entra sends no
// DELETE for a person who was unassigned before.
func (y *cycle) deleteUser(ctx context.Context, it *item, l *link) {
	if it.person.Unassigned {
		it.step(Step{Action: Scoping, Status: Skipped, ErrorCode: "NotEffectivelyEntitled"})
		it.done(Scoping, Skipped)
		return
	}
	y.deleteItem(ctx, it, l)
}

// reference sends the manager, by the id the manager has at the service
// provider. A manager who is in the directory and not provisioned yet is looked
// at again in the next cycle.
func (y *cycle) reference(ctx context.Context, it *item) {
	l := y.c.linked(it.objectID())
	if !y.c.manager || !it.processed || it.failed || l == nil || it.deleted || it.person.gone() {
		return
	}
	if it.person.ManagerObjectID == "" {
		if y.c.cfg.Variants.ManagerUnset != UnsetNever && it.manager != "" {
			y.sendManager(ctx, it, l, "")
		}
		return
	}
	manager := y.c.linked(it.person.ManagerObjectID)
	if manager == nil {
		it.again = y.expected(it.person.ManagerObjectID)
		it.step(Step{Action: Reference, Status: Skipped, Attributes: []string{"manager"}, ErrorCode: "ReferenceNotResolved",
			Detail: "the manager is not provisioned"})
		return
	}
	there := it.manager == manager.id
	if y.c.cfg.Variants.ReferenceChecks {
		var p *problem
		if there, p = y.referred(ctx, it, "/Users", l.id, "manager", manager.id); p != nil {
			it.fail(Reference, []string{"manager"}, p)
			return
		}
	}
	if !there {
		y.sendManager(ctx, it, l, manager.id)
	}
}

// referred asks whether a reference is there already.
func (y *cycle) referred(ctx context.Context, it *item, path, id, attribute, value string) (bool, *problem) {
	it.log.Requests++
	filter := "id eq " + quote(id) + " and " + attribute + " eq " + quote(value)
	found, p := y.query(ctx, path, filterQuery(filter)+"&attributes=id")
	if p != nil || len(found) == 0 {
		return false, p
	}
	if len(found) > 1 || found[0].id() != id {
		return false, &problem{code: "SystemForCrossDomainIdentityManagementServiceIncompatible", status: http.StatusOK,
			detail: "the reference check was answered with another resource: the filter was not applied"}
	}
	return true, nil
}

func (y *cycle) sendManager(ctx context.Context, it *item, l *link, managerID string) {
	ref := ""
	if managerID != "" {
		ref = y.c.base + userPath(managerID)
	}
	body := y.c.managerBody(y.dialect, managerID, ref, it.manager == "")
	if y.patchItem(ctx, it, l, Reference, []string{"manager"}, body) {
		l.sent[managerPath] = managerID
		it.done(Update, Success)
	}
}
