package console

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

// personLink is the address of a person's timeline. Upstreams give ids of their own, so that two people on two connections
// may have the same one; connection is "" where it is not known.
func personLink(name, connection string) string {
	at := url.Values{"name": {name}}
	if connection != "" {
		at.Set("connection", connection)
	}
	return address("user", at)
}

// usersView is the page on which people are found.
type usersView struct {
	Asked   string
	TooLong bool
	Exact   *person // who is known by just this name; nil: nobody
	People  []person
	More    bool // than are listed
	States  states
	State   string // which of them are listed; "": all
	Choices []option
}

// mostPeople bounds a list of people.
const mostPeople = 50

func (c *Console) usersPage(w http.ResponseWriter, r *http.Request) {
	given := r.URL.Query()
	view := usersView{Asked: strings.TrimSpace(given.Get("q")), State: given.Get("state")}
	if len(view.Asked) > maxFilter {
		view.Asked, view.TooLong = "", true
	}
	view.States = c.picture.states()
	view.Choices = options(view.State, "any state", []string{stateActive, stateDisabled, stateDeleted, stateUnknown}, func(s string) string { return s })
	view.People, view.More = c.picture.people(view.Asked, view.State, mostPeople)
	if view.Asked != "" {
		// The trail knows those, too, whom nothing in memory tells of.
		list, _, err := c.search(r, audit.Query{User: view.Asked, Newest: true, Limit: 1})
		if err != nil {
			c.unreadable(w, r, err)
			return
		}
		if len(list) > 0 {
			found := personOf(list[0])
			if known, ok := c.picture.person(found.Connection, found.ID); ok {
				found = known
			}
			view.Exact = &found
			view.People = slices.DeleteFunc(view.People, func(p person) bool { return p.ID == found.ID && p.Connection == found.Connection })
		}
	}
	c.render(w, r, http.StatusOK, "users", "Users", "users", view)
}

// personOf is a person as one record tells of them.
func personOf(rec *audit.Record) person {
	p := person{ID: rec.Subject.ID, UserName: rec.Subject.UserName, ExternalID: rec.Subject.ExternalID, Connection: rec.Connection, State: stateUnknown}
	p.tell(rec)
	return p
}

// event is one entry of a person's timeline.
type event struct {
	*audit.Record
	Link        string
	Differences []difference
	Open        bool
}

// mostChanges bounds the attributes that an entry lists by itself; all of them are in its table.
const mostChanges = 8

// Changes are the attributes that an entry lists.
func (e event) Changes() []difference { return e.Differences[:min(len(e.Differences), mostChanges)] }

// More reports whether there are others.
func (e event) More() bool { return len(e.Differences) > mostChanges }

// userView is one person's timeline.
type userView struct {
	Name       string
	Connection string // "": any
	Person     person
	Others     []person // who have, or had, the same name
	Known      bool
	Events     []event
	Reads      bool // look-ups are listed as well
	Toggle     string
	Older      string
	Newest     string
	Trail      string
}

func (c *Console) userPage(w http.ResponseWriter, r *http.Request) {
	given := r.URL.Query()
	name := given.Get("name")
	if name == "" || len(name) > maxFilter {
		http.Redirect(w, r, Base+"users", http.StatusSeeOther)
		return
	}
	before, err := strconv.ParseInt(given.Get("before"), 10, 64)
	if err != nil || before < 0 {
		before = 0
	}
	view := userView{Name: name, Connection: given.Get("connection"), Reads: given.Get("reads") == "on"}
	named, _, err := c.search(r, audit.Query{User: name, Connection: view.Connection, Newest: true, Limit: pageRecords})
	if err != nil {
		c.unreadable(w, r, err)
		return
	}
	if len(named) == 0 {
		c.render(w, r, http.StatusNotFound, "user", "User", "users", view)
		return
	}
	c.identify(&view, named)
	list, next, err := c.history(r, &view, before)
	if err == nil {
		view.Events, err = c.timeline(r.Context(), list)
	}
	if err != nil {
		c.unreadable(w, r, err)
		return
	}
	view.state(list)
	search := url.Values{"user": {cmp.Or(view.Person.ID, name)}}
	at := url.Values{"name": {name}}
	if view.Connection != "" {
		at.Set("connection", view.Connection)
		search.Set("connection", view.Connection)
	}
	view.Trail = address("trail", search)
	if before > 0 {
		view.Newest = address("user", at)
	}
	toggled := maps.Clone(at)
	if view.Reads {
		at.Set("reads", "on")
	} else {
		toggled.Set("reads", "on")
	}
	view.Toggle = address("user", toggled)
	if next > 0 {
		at.Set("before", digits(next))
		view.Older = address("user", at)
	}
	c.render(w, r, http.StatusOK, "user", plain(view.Person.Name()), "users", view)
}

// identify finds out who is known by the view's name, from the newest records that have it. A person is who has an id on a
// connection: a userName passes from one to another when somebody is deleted and somebody else created.
func (c *Console) identify(view *userView, named []*audit.Record) {
	view.Known = true
	view.Person = personOf(named[0])
	for _, rec := range named {
		switch one := personOf(rec); {
		case one.ID == "" || one.is(view.Person) || slices.ContainsFunc(view.Others, one.is):
		case view.Person.ID == "" && one.Connection == view.Person.Connection:
			view.Person = one
		default:
			view.Others = append(view.Others, one)
		}
	}
	if known, ok := c.picture.person(view.Person.Connection, view.Person.ID); ok {
		view.Person = known
	}
}

// is reports whether two entries are of one person.
func (p person) is(other person) bool { return p.ID == other.ID && p.Connection == other.Connection }

// mostPassed bounds the look-ups that one page passes over: a provisioning client asks for everybody every 40 minutes.
const mostPassed = 1000

// history reads a page of what the trail has about a person, newest first; next is where the page before it begins, 0 when
// there is none. Records of what never came about (a refused create) and intents of a create have no id, so that the names
// are searched for, too, and what has another id is left out.
func (c *Console) history(r *http.Request, view *userView, before int64) (list []*audit.Record, next int64, err error) {
	p := view.Person
	ctx, cancel := context.WithTimeout(r.Context(), pageTime)
	defer cancel()
	done := map[string]bool{"": true}
	for _, name := range []string{p.ID, p.UserName, p.ExternalID, view.Name} {
		if done[identity.FoldKey(name)] {
			continue
		}
		done[identity.FoldKey(name)] = true
		kept, read := 0, 0
		for rec, err := range c.cfg.Trail.Search(ctx, audit.Query{User: name, Connection: p.Connection, Newest: true, After: before}) {
			if err != nil {
				return nil, 0, errors.Join(err, ctx.Err())
			}
			if kept == pageRecords || read == mostPassed {
				next = max(next, rec.Seq+1) // what is older of other names comes on the next page, too
				break
			}
			read++
			if (rec.Subject.ID == "" || p.ID == "" || rec.Subject.ID == p.ID) && (view.Reads || !looksOnly(rec)) {
				list = append(list, rec)
				kept++
			}
		}
	}
	slices.SortFunc(list, func(a, b *audit.Record) int { return cmp.Compare(b.Seq, a.Seq) })
	list = slices.CompactFunc(list, func(a, b *audit.Record) bool { return a.Seq == b.Seq })
	if len(list) > pageRecords {
		next = max(next, list[pageRecords-1].Seq)
	}
	list = slices.DeleteFunc(list, func(rec *audit.Record) bool { return rec.Seq < next })
	return list, next, nil
}

// state takes a person's state from the page of their history, where nothing in memory tells it.
func (view *userView) state(list []*audit.Record) {
	for _, rec := range list {
		if view.Person.State != stateUnknown {
			return
		}
		view.Person.State = stateAfter(rec, stateUnknown)
	}
}

// timeline makes the entries of a page of records, newest first. An intent has no entry beside the record that closes it.
func (c *Console) timeline(ctx context.Context, list []*audit.Record) ([]event, error) {
	closed := map[int64]bool{}
	for _, rec := range list {
		closed[rec.Intent] = true
	}
	var events []event
	for _, rec := range list {
		open := false
		switch {
		case rec.Kind == audit.Intent && closed[rec.Seq]:
			continue
		case rec.Kind == audit.Intent:
			ended, err := c.ended(ctx, rec)
			if err != nil {
				return nil, err
			}
			if ended {
				continue // on the page before
			}
			open = true
		}
		events = append(events, event{Record: rec, Link: link(rec.Seq), Differences: differences(rec), Open: open})
	}
	compare(events)
	return events, nil
}

func looksOnly(rec *audit.Record) bool {
	return rec.Op == "query" || rec.Op == "get" && rec.Answer.Status < 400
}

// ended reports whether an intent has the record that closes it, which stands soon behind it.
func (c *Console) ended(ctx context.Context, intent *audit.Record) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTime)
	defer cancel()
	for rec, err := range c.cfg.Trail.Search(ctx, audit.Query{RequestID: intent.RequestID, After: intent.Seq, Limit: 64}) {
		if err != nil {
			return false, err
		}
		if rec.Intent == intent.Seq {
			return true, nil
		}
	}
	return false, nil
}

// compare tells of each confirmed value what it was before, as far as older entries of the page tell.
func compare(events []event) {
	last := map[string]*audit.Value{}
	for _, e := range slices.Backward(events) {
		for i := range e.Differences {
			d := &e.Differences[i]
			now := d.Confirmed
			if now == nil || now.State == audit.StateNotReported || now.Secret {
				continue
			}
			path := strings.ToLower(d.Path)
			if before, ok := last[path]; ok {
				if d.Same = sameValue(before, now); !d.Same {
					d.Before = before
				}
			}
			last[path] = now
		}
	}
}
