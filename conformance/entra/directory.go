package entra

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Person is one user of the tenant.
type Person struct {
	ObjectID        string // sent as externalId
	UserName        string
	GivenName       string
	FamilyName      string
	DisplayName     string
	Title           string
	Mail            string // emails[type eq "work"].value
	Phone           string // phoneNumbers[type eq "work"].value
	Department      string
	EmployeeNumber  string
	ManagerObjectID string // of another person, or ""

	Enabled     bool // accountEnabled; false becomes active=false
	SoftDeleted bool // in the tenant's recycle bin, becomes active=false
	Unassigned  bool // no longer assigned to the application, becomes active=false
}

// wanted reports whether the person should be active at the service provider.
func (p *Person) wanted() bool { return p.Enabled && !p.gone() }

// gone reports whether the person left the scope of provisioning. Then nothing
// but active=false is sent, and nobody is created.
func (p *Person) gone() bool { return p.SoftDeleted || p.Unassigned }

func (p *Person) formattedName() string {
	return strings.TrimSpace(p.GivenName + " " + p.FamilyName)
}

// Group is one group of the tenant. Its members are persons of the directory.
type Group struct {
	ObjectID    string // sent as externalId
	DisplayName string
	Members     []string // object ids
}

// Directory is the tenant: persons, groups, and the order of their changes.
// The zero value is an empty directory. It is safe for concurrent use, and
// several clients may provision from it, each with its own watermark.
type Directory struct {
	mu      sync.Mutex
	entries map[string]*entry
	order   []*entry
	clock   uint64 // counts changes; a client's watermark is a reading of it
}

// entry is a person or a group, kept as a tombstone once deleted.
type entry struct {
	person  Person
	group   *Group // nil for a person
	deleted bool
	changed uint64
}

func (e *entry) objectID() string {
	if e.group != nil {
		return e.group.ObjectID
	}
	return e.person.ObjectID
}

// NewDirectory returns a directory of the persons. It refuses what Add refuses.
func NewDirectory(persons ...Person) (*Directory, error) {
	d := &Directory{}
	return d, d.Add(persons...)
}

// Add adds persons. Each needs an object id of its own and a userName.
func (d *Directory) Add(persons ...Person) error {
	for _, p := range persons {
		if p.UserName == "" {
			return fmt.Errorf("person %q has no userName: give every person one", p.ObjectID)
		}
		if err := d.insert(&entry{person: p}); err != nil {
			return err
		}
	}
	return nil
}

// AddGroup adds a group. It needs an object id of its own and a displayName.
func (d *Directory) AddGroup(g Group) error {
	if g.DisplayName == "" {
		return fmt.Errorf("group %q has no displayName: give every group one", g.ObjectID)
	}
	g.Members = slices.Clone(g.Members)
	return d.insert(&entry{group: &g})
}

func (d *Directory) insert(e *entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := e.objectID()
	if id == "" || d.entries[id] != nil {
		return fmt.Errorf("object id %q is empty or taken: give every object one of its own", id)
	}
	if d.entries == nil {
		d.entries = map[string]*entry{}
	}
	d.entries[id] = e
	d.order = append(d.order, e)
	d.touch(e)
	return nil
}

// touch marks a change. The lock is held.
func (d *Directory) touch(e *entry) {
	d.clock++
	e.changed = d.clock
}

// Update changes a person's attributes; the object id stays as it is.
func (d *Directory) Update(objectID string, change func(*Person)) error {
	return d.edit(objectID, false, func(e *entry) error {
		change(&e.person)
		e.person.ObjectID = objectID
		return nil
	})
}

// Rename changes a person's userName.
func (d *Directory) Rename(objectID, userName string) error {
	return d.Update(objectID, func(p *Person) { p.UserName = userName })
}

// Disable blocks a person's sign-in.
func (d *Directory) Disable(objectID string) error {
	return d.Update(objectID, func(p *Person) { p.Enabled = false })
}

// SoftDelete moves a person to the recycle bin, where Entra keeps it 30 days.
func (d *Directory) SoftDelete(objectID string) error {
	return d.Update(objectID, func(p *Person) { p.SoftDeleted = true })
}

// Restore takes a person out of the recycle bin and enables it.
func (d *Directory) Restore(objectID string) error {
	return d.Update(objectID, func(p *Person) { p.SoftDeleted, p.Enabled = false, true })
}

// Unassign takes a person out of the scope of provisioning. Entra sends no
// DELETE after that, not even when the person is deleted.
func (d *Directory) Unassign(objectID string) error {
	return d.Update(objectID, func(p *Person) { p.Unassigned = true })
}

// Assign brings a person back into the scope of provisioning.
func (d *Directory) Assign(objectID string) error {
	return d.Update(objectID, func(p *Person) { p.Unassigned = false })
}

// HardDelete is the end of the 30 days in the recycle bin. It refuses a person
// who was not soft-deleted before.
func (d *Directory) HardDelete(objectID string) error {
	return d.edit(objectID, false, func(e *entry) error {
		if !e.person.SoftDeleted {
			return fmt.Errorf("person %q is not in the recycle bin: call SoftDelete first, as Entra does 30 days before", objectID)
		}
		e.deleted = true
		return nil
	})
}

// UpdateGroup changes a group; the object id stays as it is.
func (d *Directory) UpdateGroup(objectID string, change func(*Group)) error {
	return d.edit(objectID, true, func(e *entry) error {
		g := *e.group
		g.Members = slices.Clone(g.Members)
		change(&g)
		g.ObjectID = objectID
		e.group = &g
		return nil
	})
}

// DeleteGroup deletes a group; groups have no recycle bin here.
func (d *Directory) DeleteGroup(objectID string) error {
	return d.edit(objectID, true, func(e *entry) error {
		e.deleted = true
		return nil
	})
}

func (d *Directory) edit(objectID string, group bool, change func(*entry) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[objectID]
	if e == nil || e.deleted || (e.group != nil) != group {
		return fmt.Errorf("object %q is not in the directory: add it first", objectID)
	}
	if err := change(e); err != nil {
		return err
	}
	d.touch(e)
	return nil
}

// Person returns a person who is not hard-deleted.
func (d *Directory) Person(objectID string) (Person, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[objectID]
	if e == nil || e.deleted || e.group != nil {
		return Person{}, false
	}
	return e.person, true
}

// Persons returns all persons who are not hard-deleted, in the order in which
// they were added.
func (d *Directory) Persons() []Person {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []Person
	for _, e := range d.order {
		if e.group == nil && !e.deleted {
			list = append(list, e.person)
		}
	}
	return list
}

// changes returns what changed after the watermark, what is wanted besides, and
// the new watermark.
func (d *Directory) changes(watermark uint64, also map[string]bool) ([]entry, uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []entry
	for _, e := range d.order {
		if e.changed > watermark || also[e.objectID()] {
			list = append(list, *e)
		}
	}
	return list, d.clock
}

// find returns a snapshot of one object that is not deleted.
func (d *Directory) find(objectID string) (entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[objectID]
	if e == nil || e.deleted {
		return entry{}, false
	}
	return *e, true
}
