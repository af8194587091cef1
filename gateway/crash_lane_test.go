package gateway

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// lane is one client: it takes users through their lives, one write after the other.
type lane struct {
	w    *crashWorld
	n    int
	made int
	id   string // of the user at hand
	name string
	age  int // writes of the user at hand

	method, target, body string // what is to be sent next, or was sent last
	lost                 bool   // without an answer
}

func (w *crashWorld) lanes(n int) []*lane {
	var out []*lane
	for i := range n {
		out = append(out, &lane{w: w, n: i})
	}
	return out
}

// all lets all lanes do something at the same time.
func all(lanes []*lane, do func(*lane)) {
	var running sync.WaitGroup
	for _, l := range lanes {
		running.Go(func() { do(l) })
	}
	running.Wait()
}

// mostSteps bounds the life of a gateway that is to be killed after 40 passes of 8 lanes.
const mostSteps = 400

// work goes on until the gateway dies.
func (l *lane) work(t *testing.T, g *gatewayProcess) {
	for range mostSteps {
		if l.step(t, g); l.lost {
			return
		}
	}
	t.Errorf("lane %d: the gateway did not die", l.n)
}

// step is the next request of a life: create, look, change, replace, disable, and for every other user, delete.
func (l *lane) step(t *testing.T, g *gatewayProcess) {
	value := fmt.Sprintf("v%d-%d-%d", l.n, l.made, l.age)
	switch l.age {
	case 0:
		l.create()
	case 1:
		ids, ok := l.w.matches(g, "userName", l.name)
		if ok && !slices.Equal(ids, []string{l.id}) {
			t.Errorf("%s: found %v, want %s", l.name, ids, l.id)
		}
		if l.method, l.lost = "GET", !ok; ok {
			l.age++
		}
		return
	case 2:
		l.method, l.target, l.body = "PATCH", "/Users/"+l.id, patch(`{"op":"Replace","path":"title","value":"`+value+`"}`)
	case 3:
		l.method, l.target, l.body = "PUT", "/Users/"+l.id, user(l.name, `"externalId":"e-`+l.name+`","name":{"familyName":"`+value+`"}`)
	case 4:
		l.method, l.target, l.body = "PATCH", "/Users/"+l.id, patch(`{"op":"Replace","path":"active","value":"False"},{"op":"Add","path":"title","value":"`+value+`"}`)
	case 5:
		l.method, l.target, l.body = "DELETE", "/Users/"+l.id, ""
	}
	l.attempt(t, g)
}

// create begins another user.
func (l *lane) create() {
	l.made++
	l.name, l.id, l.age = fmt.Sprintf("u%d-%d", l.n, l.made), "", 0
	l.method, l.target, l.body = "POST", "/Users", user(l.name, `"externalId":"e-`+l.name+`","active":true`)
}

// attempt sends what is at hand.
func (l *lane) attempt(t *testing.T, g *gatewayProcess) {
	a, ok := l.w.do(g, l.method, l.target, l.body)
	if l.lost = !ok; l.lost {
		return
	}
	want := map[string]int{"POST": 201, "PATCH": 200, "PUT": 200, "DELETE": 204}[l.method]
	if a.status != want && (l.method != "PATCH" || a.status != 204) { // all of it was done before the death
		t.Errorf("lane %d: %s: got %d %s, want %d", l.n, l.method, a.status, a.text, want)
	}
	if l.method == "POST" {
		l.id, _ = a.get("id").(string)
	}
	l.next()
}

// next is after an answer.
func (l *lane) next() {
	if l.age++; l.age > 5 || l.age == 5 && l.made%2 == 0 {
		l.age = 0
	}
}

// repeat does what a client does that got no answer: a create is looked for before it is sent again.
func (l *lane) repeat(t *testing.T, g *gatewayProcess) {
	if !l.lost {
		return
	}
	l.lost = false
	switch l.method {
	case "GET": // the next step asks again
		return
	case "POST":
		ids, ok := l.w.matches(g, "userName", l.name)
		switch {
		case !ok || len(ids) > 1:
			t.Errorf("%s: found %v", l.name, ids)
			return
		case len(ids) == 1:
			l.id = ids[0]
			l.next()
			return
		}
	case "DELETE":
		a, ok := l.w.do(g, l.method, l.target, l.body)
		if !ok || a.status != 204 && a.status != 404 {
			t.Errorf("%s: repeated delete: got %d %s", l.name, a.status, a.text)
		}
		l.next()
		return
	}
	if l.attempt(t, g); l.lost {
		t.Errorf("lane %d: %s: no answer to the repetition", l.n, l.method)
	}
}

// recover brings everything in order after a death.
func (w *crashWorld) recover(g *gatewayProcess, lanes []*lane) {
	w.t.Helper()
	all(lanes, func(l *lane) {
		if l.n%2 == 0 {
			l.repeat(w.t, g)
		}
	})
	w.settled()
	all(lanes, func(l *lane) { l.repeat(w.t, g) })
}
