package scim

import (
	"net/http"
	"slices"
)

// BulkRun is the order in which the operations of a bulk request are carried out. It is theirs, except that an operation
// waits for the resources that it refers to, and behind it those on the same resource, so that the result is what the
// client means (RFC 7644, Section 3.7). Where POSTs wait for each other in a circle (Section 3.7.1), the first of them
// goes without the references, and gets them by a PATCH once they are there. It belongs to one goroutine.
type BulkRun struct {
	runs  []bulkRun      // by the operations' places
	posts map[string]int // places of the POSTs by bulkId
}

// bulkRun is how far one operation is.
type bulkRun struct {
	op       *BulkOperation
	later    *BulkOperation // what of a POST was put off, to break a circle
	state    bulkState
	id       string // of the resource that a POST created
	waits    int    // how many of what it waits for is still to come
	needs    []int  // POSTs that the data refers to, in order; those that are settled are taken off at the front
	created  []int  // wait until the resource is there, or known not to come
	complete []int  // wait until nothing of it is put off any more
}

type bulkState int

const (
	bulkWaiting bulkState = iota // not done yet
	bulkOwing                    // created, and what was put off is to follow
	bulkDone
)

// BulkStep is what is to be done next.
type BulkStep struct {
	Index   int      // of the operation in the request
	Again   bool     // it is the PATCH that adds what was put off
	Request *Request // nil when there is an error
	Err     error    // why the operation cannot be carried out: an *Error
}

// Begin finds out what waits for what. The operations' data is used up by what follows.
func (b *BulkRequest) Begin() *BulkRun {
	r := &BulkRun{runs: make([]bulkRun, len(b.Operations)), posts: map[string]int{}}
	for i, op := range b.Operations {
		r.runs[i].op = op
		if op.Method == http.MethodPost {
			r.posts[op.BulkID] = i
		}
	}
	last := map[string]int{} // operation by resource
	for i, op := range b.Operations {
		if op.err != nil {
			continue // it is refused when its turn comes
		}
		run := &r.runs[i]
		for _, name := range op.names {
			if post, ok := r.posts[name]; ok {
				run.needs = append(run.needs, post)
				run.waits++
				r.runs[post].created = append(r.runs[post].created, i)
			}
		}
		slices.Sort(run.needs)
		if op.Method == http.MethodPost {
			continue
		}
		if name, refers := op.target(); refers {
			if post, ok := r.posts[name]; ok {
				run.waits++
				r.runs[post].complete = append(r.runs[post].complete, i)
			}
		}
		resource := op.req.Type.Name + "/" + op.req.ID
		if before, ok := last[resource]; ok {
			run.waits++
			r.runs[before].complete = append(r.runs[before].complete, i)
		}
		last[resource] = i
	}
	return r
}

// Next is the step to do now; Done must follow it. ok is false when there is none left.
func (r *BulkRun) Next() (step BulkStep, ok bool) {
	stuck := false
	for i := range r.runs {
		switch run := &r.runs[i]; {
		case run.state == bulkDone:
		case run.waits == 0:
			return r.step(i), true
		default:
			stuck = true
		}
	}
	if !stuck {
		return BulkStep{}, false
	}
	i := r.circle()
	run := &r.runs[i]
	pending := func(name string) bool {
		post, ok := r.posts[name]
		return ok && r.runs[post].state == bulkWaiting
	}
	if run.later, ok = run.op.split(pending); !ok {
		return BulkStep{Index: i, Err: Errorf(http.StatusConflict, "",
			"operations refer to each other in a circle that cannot be broken here: an attribute that has to be there from the beginning is in it")}, true
	}
	for _, name := range run.op.names {
		if pending(name) {
			run.later.names = append(run.later.names, name)
		}
	}
	run.op.names = slices.DeleteFunc(run.op.names, pending)
	return r.step(i), true
}

// circle is the first operation of a circle. There is one where nothing can go on: whatever else waits, waits in the
// end for a POST, and a POST for nothing but POSTs.
func (r *BulkRun) circle() int {
	waiting := func(i int) bool { return r.runs[i].state == bulkWaiting && r.runs[i].waits > 0 }
	next := func(i int) int {
		run := &r.runs[i]
		for r.runs[run.needs[0]].state != bulkWaiting {
			run.needs = run.needs[1:]
		}
		return run.needs[0]
	}
	at := 0
	for !waiting(at) || r.runs[at].op.Method != http.MethodPost {
		at++
	}
	for range r.runs { // long enough to be in the circle whatever the way to it
		at = next(at)
	}
	first := at
	for i := next(at); i != at; i = next(i) {
		first = min(first, i)
	}
	return first
}

// step makes the request of an operation whose turn has come.
func (r *BulkRun) step(i int) BulkStep {
	run := &r.runs[i]
	step := BulkStep{Index: i, Again: run.state == bulkOwing}
	op := run.op
	if step.Again {
		op = run.later
		op.req.ID = run.id
	}
	if step.Err = r.unresolved(op); step.Err == nil {
		step.Request, step.Err = op.request(r.id)
	}
	return step
}

// id is the id of the resource that a POST created.
func (r *BulkRun) id(name string) (string, bool) {
	post, ok := r.posts[name]
	return r.runs[post].id, ok && r.runs[post].id != ""
}

// unresolved says why the references of an operation cannot be resolved; nil when they can.
func (r *BulkRun) unresolved(op *BulkOperation) error {
	check := func(where, name string) error {
		if _, ok := r.id(name); ok {
			return nil
		}
		if post, ok := r.posts[name]; ok {
			return Errorf(http.StatusConflict, "", "%s refers to the bulkId %q, but Operations[%d] did not create it", where, clip(name), post)
		}
		return Errorf(http.StatusConflict, "", "%s refers to a bulkId that no POST of this request has", where)
	}
	if op.req == nil {
		return nil // it cannot be read, which is said first
	}
	if name, ok := op.target(); ok {
		if err := check("path", name); err != nil {
			return err
		}
	}
	for _, name := range op.names {
		if err := check("data", name); err != nil {
			return err
		}
	}
	return nil
}

// Done says how a step ended: id is that of the resource that a POST created, "" when it created none.
func (r *BulkRun) Done(step BulkStep, id string) {
	run := &r.runs[step.Index]
	if !step.Again {
		run.id = id
		if run.state = bulkOwing; id == "" || run.later == nil {
			run.state = bulkDone
		}
		r.settle(run.created)
	} else {
		run.state = bulkDone
	}
	if run.state == bulkDone {
		r.settle(run.complete)
	}
}

func (r *BulkRun) settle(waiting []int) {
	for _, i := range waiting {
		r.runs[i].waits--
	}
}

// Owing reports whether an operation created its resource, and something of it is still to be added.
func (r *BulkRun) Owing(i int) bool { return r.runs[i].state == bulkOwing }
