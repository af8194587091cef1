package console

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"scimgate/gateway/audit"
)

const (
	backfill    = 100_000  // records that are read when the console starts: the newest
	mostKnown   = 50_000   // people kept in memory
	mostNames   = 16 << 20 // bytes of their names
	mostTrouble = 6        // records on the overview's list of trouble
)

// picture is what the console knows of many records without reading them anew: figures over time, cycles, people. One
// goroutine follows the trail and fills it.
type picture struct {
	mu sync.Mutex

	seen     int64 // seq of the newest record told of
	goal     int64 // seq of the newest when following began
	from     time.Time
	problem  error // why the trail cannot be followed now
	fine     *series
	coarse   *series
	sent     map[string]*series // attempts by connection, for a minute
	jobs     *jobs
	known    map[personKey]*person
	names    int  // bytes of their names
	omitted  bool // those who were quiet longest had to make room
	troubles []*audit.Record
}

func newPicture() *picture {
	return &picture{
		fine: newSeries(10*time.Second, 366), coarse: newSeries(time.Minute, 24*60+16), sent: map[string]*series{}, jobs: newJobs(),
		known: map[personKey]*person{},
	}
}

// follow reads the trail until ctx ends. When it cannot be read, the log says so once and it is tried again.
func (p *picture) follow(ctx context.Context, trail Trail, log *slog.Logger) {
	said := ""
	for ctx.Err() == nil {
		err := p.read(ctx, trail)
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		p.problem = err
		p.mu.Unlock()
		if err.Error() != said {
			said = err.Error()
			log.Warn("the console cannot follow the trail: its figures stand still", "error", err)
		}
		retry := time.NewTimer(2 * time.Second)
		select {
		case <-ctx.Done():
		case <-retry.C:
		}
		retry.Stop()
	}
}

func (p *picture) read(ctx context.Context, trail Trail) error {
	st, err := trail.Stats(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	after := p.seen
	if after == 0 {
		after = max(st.Newest-backfill, 0)
	}
	p.goal, p.problem = st.Newest, nil
	p.mu.Unlock()
	for rec, err := range trail.Follow(ctx, audit.Query{After: after}) {
		if err != nil {
			return err
		}
		p.tell(rec)
	}
	return errors.New("following ended")
}

// tell adds a record.
func (p *picture) tell(rec *audit.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = rec.Seq
	if p.from.IsZero() {
		p.from = rec.Time
	}
	if rec.Kind == audit.Intent || rec.Kind == audit.Event {
		p.countUnrecorded(rec)
		return
	}
	p.meet(rec)
	if rec.Kind == audit.Reconciled {
		return
	}
	for _, s := range []*series{p.fine, p.coarse} {
		count := s.at(rec.Time)
		if count == nil {
			continue
		}
		answered(count, rec)
		for _, call := range rec.Calls {
			count.Calls++
			count.latency.observe(call.Duration)
		}
	}
	p.countSent(rec)
	p.jobs.tell(rec)
	if tone := tone(rec); tone == bad || tone == warning {
		p.troubles = append(p.troubles, rec)
		p.troubles = p.troubles[max(len(p.troubles)-mostTrouble, 0):]
	}
}

// countUnrecorded counts the refusals that an event stands for.
func (p *picture) countUnrecorded(rec *audit.Record) {
	for _, s := range []*series{p.fine, p.coarse} {
		if count := s.at(rec.Time); count != nil && rec.Unrecorded > 0 {
			count.Refused += int(rec.Unrecorded)
			if rec.Action == audit.Unauthenticated {
				count.Unauthenticated += int(rec.Unrecorded)
			}
		}
	}
}

// answered counts a request by its answer. A bulk request is counted by its operations.
func answered(count *tally, rec *audit.Record) {
	status := rec.Answer.Status
	switch {
	case rec.Action == audit.Bulk:
	case rec.Kind == audit.Unknown || status >= 500:
		count.Failed++
	case rec.Action == audit.Unauthenticated:
		count.Unauthenticated++
		count.Refused++
	case status >= 400 && !missed(rec):
		count.Refused++
	default:
		count.Done++
	}
}

func (p *picture) countSent(rec *audit.Record) {
	if len(rec.Calls) == 0 {
		return
	}
	s := p.sent[rec.Connection]
	if s == nil {
		s = newSeries(time.Second, 66)
		p.sent[rec.Connection] = s
	}
	for _, call := range rec.Calls {
		if count := s.at(call.Started); count != nil {
			count.Calls++
		}
	}
}

// States of a person at the upstream, as the trail tells.
const (
	stateActive   = "active"
	stateDisabled = "disabled"
	stateDeleted  = "deleted"
	stateUnknown  = "not told" // seen, but no record said whether active
)

type personKey struct{ connection, id string }

// person is somebody of whom the trail told.
type person struct {
	ID, UserName, ExternalID, Connection string
	State                                string
	Last                                 string // what happened last, in words
	Tone                                 string
	Time                                 time.Time
	Seq                                  int64

	folded string // names in lower case, to find them by
}

// Name is the name that people know best.
func (p person) Name() string { return cmp.Or(p.UserName, p.ExternalID, p.ID) }

// Link is the address of the timeline.
func (p person) Link() string { return personLink(cmp.Or(p.ID, p.Name()), p.Connection) }

func (p *person) tell(rec *audit.Record) {
	p.Last, p.Tone, p.Time, p.Seq = headline(rec), tone(rec), rec.Time, rec.Seq
	p.State = stateAfter(rec, p.State)
}

// stateAfter is a person's state after a record.
func stateAfter(rec *audit.Record, before string) string {
	if rec.Answer.Status >= 300 && !(rec.Answer.Status == http.StatusNotFound && rec.Op == "delete") || rec.Kind == audit.Intent {
		return before
	}
	if rec.Op == "delete" {
		return stateDeleted
	}
	switch rec.Action {
	case audit.Disabled:
		return stateDisabled
	case audit.Restored:
		return stateActive
	}
	for i := range rec.Attributes {
		a := &rec.Attributes[i]
		if !strings.EqualFold(a.Path, "active") {
			continue
		}
		for _, v := range []*audit.Value{a.Confirmed, a.Sent} {
			if v == nil || len(v.Clear) == 0 {
				continue
			}
			if strings.EqualFold(clearText(v.Clear), "false") {
				return stateDisabled
			}
			return stateActive
		}
	}
	if rec.Action == audit.Created || rec.Action == audit.Adopted {
		return stateActive // RFC 7643, Section 4.1.1 leaves the default open; every upstream known here makes active users
	}
	return before
}

// meet notes the person that a record is about. Whoever has no id was never there.
func (p *picture) meet(rec *audit.Record) {
	if rec.Subject.ID == "" || rec.ResourceType != "" && rec.ResourceType != "User" || missed(rec) {
		return
	}
	key := personKey{rec.Connection, rec.Subject.ID}
	one := p.known[key]
	if one == nil {
		one = &person{ID: rec.Subject.ID, Connection: rec.Connection, State: stateUnknown}
		p.known[key] = one
	}
	one.tell(rec)
	userName, externalID := cmp.Or(rec.Subject.UserName, one.UserName), cmp.Or(rec.Subject.ExternalID, one.ExternalID)
	if userName != one.UserName || externalID != one.ExternalID || one.folded == "" {
		p.names -= one.size()
		one.UserName, one.ExternalID = userName, externalID
		one.folded = strings.ToLower(userName + "\n" + externalID + "\n" + one.ID)
		p.names += one.size()
	}
	if len(p.known) > mostKnown || p.names > mostNames {
		p.forget()
	}
}

// size is the bytes that a person's names take.
func (p *person) size() int {
	if p.folded == "" {
		return 0
	}
	return len(p.ID) + len(p.UserName) + len(p.ExternalID) + len(p.folded)
}

// forget makes room: of everybody, the eighth that has been quiet longest is no longer known.
func (p *picture) forget() {
	last := make([]int64, 0, len(p.known))
	for _, one := range p.known {
		last = append(last, one.Seq)
	}
	slices.Sort(last)
	border := last[len(last)/8]
	for key, one := range p.known {
		if one.Seq <= border && len(p.known) > 1 {
			p.names -= one.size()
			delete(p.known, key)
		}
	}
	p.omitted = true
}

// person returns who is known under an id.
func (p *picture) person(connection, id string) (person, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.known[personKey{connection, id}]; one != nil && id != "" {
		return *one, true
	}
	return person{}, false
}

// people returns those whose names contain a text and who are in a state, those that changed last first.
func (p *picture) people(text, state string, most int) (list []person, more bool) {
	text = strings.ToLower(text)
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []*person
	for _, one := range p.known {
		if (state == "" || one.State == state) && strings.Contains(one.folded, text) {
			found = append(found, one)
		}
	}
	slices.SortFunc(found, func(a, b *person) int { return cmp.Compare(b.Seq, a.Seq) })
	for _, one := range found[:min(len(found), most)] {
		list = append(list, *one)
	}
	return list, len(found) > most
}

// states counts people by state.
type states struct {
	Active, Disabled, Deleted, Unknown int
	Omitted                            bool      // others made room for them
	From                               time.Time // of the oldest record that was read
}

// Total is how many people are counted.
func (s states) Total() int { return s.Active + s.Disabled + s.Deleted + s.Unknown }

func (p *picture) states() states {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := states{Omitted: p.omitted, From: p.from}
	for _, one := range p.known {
		switch one.State {
		case stateActive:
			s.Active++
		case stateDisabled:
			s.Disabled++
		case stateDeleted:
			s.Deleted++
		default:
			s.Unknown++
		}
	}
	return s
}

// trouble returns the newest records of requests that went wrong, newest first.
func (p *picture) trouble() []*audit.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := slices.Clone(p.troubles)
	slices.Reverse(list)
	return list
}

// failure is why the trail cannot be followed; nil when it can.
func (p *picture) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}
