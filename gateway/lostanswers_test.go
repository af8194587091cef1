package gateway

import (
	"cmp"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"scimgate/config/secret"
	"scimgate/gateway/audit"
	"scimgate/gateway/upstream"
	"scimgate/transform/scim"
)

var lostWrites = flag.Int("lost", 6, "how many creates, PATCHes and DELETEs TestLostAnswers sends through each kind of toxic")

// lossyTimeout is the time-out of an attempt in these tests.
const lossyTimeout = 150 * time.Millisecond

// toxicKinds are the ways in which a proxy between gateway and upstream loses answers, or requests.
var toxicKinds = []struct {
	name, toxic string
	empty       string // the toxic for answers without a body; "" for the same
	always      bool   // no answer gets through
}{
	{"time-out", `{"type": "timeout", "attributes": {"timeout": 0}}`, "", true},
	{"reset", `{"type": "reset_peer", "attributes": {"timeout": 0}}`, "", true},
	{"truncated", `{"type": "limit_data", "attributes": {"bytes": 350}}`, `{"type": "limit_data", "attributes": {"bytes": 40}}`, true},
	{"slow answer", `{"type": "latency", "attributes": {"latency": 150, "jitter": 100}}`, "", false},
	{"slow request", `{"type": "latency", "stream": "upstream", "attributes": {"latency": 200, "jitter": 100}}`, "", false},
}

// Answers get lost between upstream and gateway: every write of a client goes through the toxic, and one in eight of
// what the gateway then asks or repeats. Whatever the client is told is true, the trail agrees with the upstream, what
// is unknown is found out, and nobody exists twice.
func TestLostAnswers(t *testing.T) {
	for _, kind := range toxicKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			l := newLossy(t)
			users := make([]lossyUser, *lostWrites)
			for i := range users {
				users[i].name = fmt.Sprintf("user%d@example.com", i)
			}
			for _, phase := range lossyPhases {
				toxic := kind.toxic
				if phase.op == scim.OpDelete {
					toxic = cmp.Or(kind.empty, toxic)
				}
				l.install(toxic)
				l.lanes(users, func(u *lossyUser) { l.send(phase, u) })
				l.toxic.Store(false)
				l.settle()
				l.reconcile()
				sum := l.check(phase, users)
				l.lanes(users, func(u *lossyUser) { l.repair(phase, u) })
				twice := l.twice()
				t.Logf("%-12s  %d %s requests: %d upstream calls, %d answers lost; %d answered as done, %d of them in spite of a lost answer (%d adopted); "+
					"%d unknown, %d reconciled (%d as done); users twice: %d",
					kind.name, len(users), phase.op, sum.calls, sum.lost, sum.done, sum.saved, sum.adopted, sum.unknown, sum.reconciled, sum.reconciledDone, twice)
				if twice > 0 || kind.always && sum.lost < len(users) {
					t.Errorf("%s: %d users exist twice, %d answers were lost, want none and at least %d", phase.op, twice, sum.lost, len(users))
				}
				if got := len(l.sim.Resources("User")); got != phase.users*len(users) {
					t.Errorf("after %s: got %d users upstream, want %d", phase.op, got, phase.users*len(users))
				}
			}
			l.pairs()
		})
	}
}

// lossyPhase is one kind of write. Its body and its target are the user's.
type lossyPhase struct {
	op     scim.Op
	method string
	users  int // that are there afterwards, for each user
	body   func(u *lossyUser) string
}

const lossyTitle = "Title of %s"

var lossyPhases = []lossyPhase{
	{scim.OpCreate, "POST", 1, func(u *lossyUser) string { return user(u.name, `"externalId":"e-`+u.name+`","active":true`) }},
	{scim.OpPatch, "PATCH", 1, func(u *lossyUser) string {
		return patch(`{"op":"replace","path":"title","value":"` + fmt.Sprintf(lossyTitle, u.name) + `"}`)
	}},
	{scim.OpDelete, "DELETE", 0, func(*lossyUser) string { return "" }},
}

// lossyUser is one user of a client, and the answer to the write of the phase.
type lossyUser struct {
	name, id string
	status   int
	request  string // id of the request
}

// lossyTally is what a phase came to.
type lossyTally struct {
	calls, lost, done, saved, adopted, unknown, reconciled, reconciledDone int
}

// lossy is a gateway with a toxic proxy on its way to the upstream.
type lossy struct {
	*harness
	up    *upstream.Client
	toxic atomic.Bool  // the proxy is in the way
	proxy atomic.Value // its address, a string
	sent  atomic.Int64 // calls to the upstream

	mu     sync.Mutex
	struck map[string]bool // ids of requests that went through the proxy
	others int
}

func newLossy(t *testing.T) *lossy {
	t.Helper()
	p := newHarness(t, builtin(t, "generic"))
	l := &lossy{struck: map[string]bool{}}
	clean, through := &http.Transport{}, &http.Transport{MaxIdleConnsPerHost: -1} // a toxic strikes connections
	t.Cleanup(func() { clean.CloseIdleConnections(); through.CloseIdleConnections() })
	var err error
	l.up, err = upstream.New(upstream.Config{
		BaseURL: p.gateway.UpstreamName, Profile: p.gateway.Profile, Token: secret.Literal(upstreamToken),
		Timeout: lossyTimeout, Deadline: 10 * lossyTimeout, QueueWait: 10 * lossyTimeout, Observe: p.metrics.Attempt("another"),
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			l.sent.Add(1)
			if !l.strikes(r) {
				return clean.RoundTrip(r)
			}
			r = r.Clone(r.Context())
			r.URL.Host = l.proxy.Load().(string)
			return through.RoundTrip(r)
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.up.Close)
	l.harness = p.another(func(cfg *Config) { cfg.Upstream = l.up })
	return l
}

// install puts a proxy with a toxic in front of the upstream.
func (l *lossy) install(toxic string) {
	l.t.Helper()
	target, err := url.Parse(l.gateway.UpstreamName)
	if err != nil {
		l.t.Fatal(err)
	}
	server := &toxiproxy.ApiServer{Metrics: toxiproxy.NewMetricsContainer(nil)}
	zero(&server.Logger) // which says nothing
	proxy := toxiproxy.NewProxy(server, "upstream", "127.0.0.1:0", target.Host)
	if err := proxy.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(proxy.Stop)
	if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		l.t.Fatal(err)
	}
	l.proxy.Store(proxy.Listen)
	l.toxic.Store(true)
}

func zero[T any](v **T) { *v = new(T) }

// strikes reports whether a call goes through the proxy: the first of every write, and one in eight of what follows it.
func (l *lossy) strikes(r *http.Request) bool {
	id := r.Header.Get("X-Request-Id")
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.toxic.Load():
		return false
	case l.struck[id]:
		l.others++
		return l.others%8 == 0
	case r.Method == http.MethodGet:
		return false
	}
	l.struck[id] = true
	return true
}

// lanes runs a step for every user, three at a time: more would lose five answers in a row, and open the circuit.
func (l *lossy) lanes(users []lossyUser, step func(*lossyUser)) {
	var next atomic.Int64
	var running sync.WaitGroup
	for range 3 {
		running.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(users) {
					return
				}
				step(&users[i])
			}
		})
	}
	running.Wait()
}

// send makes the write of a phase, after the read that a provisioning client makes before it. Where nothing was sent
// because the circuit is open, it tries again when it is not.
func (l *lossy) send(phase lossyPhase, u *lossyUser) {
	for range 5 {
		if phase.op == scim.OpCreate {
			l.do("GET", "/Users?filter="+url.QueryEscape(`userName eq "`+u.name+`"`), "")
		} else {
			l.do("GET", "/Users/"+u.id, "")
		}
		a := l.do(phase.method, "/Users"+suffix(phase.op, u.id), phase.body(u))
		u.status, u.request = a.status, a.header.Get("X-Request-Id")
		l.mu.Lock()
		sent := l.struck[u.request]
		l.mu.Unlock()
		if sent {
			if id, ok := a.get("id").(string); ok && phase.op == scim.OpCreate {
				u.id = id
			}
			return
		}
		l.until(15*time.Second, func() bool { return l.up.State().Breaker != "open" })
	}
	l.t.Errorf("%s %s was never sent", phase.op, u.name)
}

// settle waits until all that the gateway sent has reached the upstream. What was given up before it was written
// never will.
func (l *lossy) settle() {
	l.until(time.Second, func() bool { return int64(len(l.sim.Ledger())) >= l.sent.Load() })
}

// until asks again until it is so, or until the time is over.
func (l *lossy) until(most time.Duration, is func() bool) {
	over := time.NewTimer(most)
	defer over.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-over.C:
			return
		}
	}
}

func suffix(op scim.Op, id string) string {
	if op == scim.OpCreate {
		return ""
	}
	return "/" + id
}

// isDone asks the upstream itself whether the write of a phase was done.
func (l *lossy) isDone(phase lossyPhase, u *lossyUser, users []scim.Resource) bool {
	i := slices.IndexFunc(users, func(r scim.Resource) bool { return r.UserName() == u.name })
	switch phase.op {
	case scim.OpDelete:
		return i < 0
	case scim.OpPatch:
		return i >= 0 && users[i]["title"] == fmt.Sprintf(lossyTitle, u.name)
	}
	return i >= 0
}

// check compares, for the write of every user, what the client was told, what the trail says and what is upstream.
func (l *lossy) check(phase lossyPhase, users []lossyUser) (sum lossyTally) {
	l.t.Helper()
	trail, upstream := map[string]*requestStory{}, l.sim.Resources("User")
	for _, r := range l.trail() {
		s := trail[r.RequestID]
		if s == nil {
			s = &requestStory{}
			trail[r.RequestID] = s
		}
		switch r.Kind {
		case audit.Intent:
			s.intent = r
		case audit.Reconciled:
			s.reconciled = r
		default:
			s.closed = r
		}
	}
	processed := map[string]int{}
	for _, e := range l.sim.Ledger() {
		if e.Method == phase.method && e.Processed {
			processed[e.RequestID]++
		}
	}
	for i := range users {
		u := &users[i]
		s := trail[u.request]
		if s == nil || s.intent == nil || s.closed == nil || s.closed.Answer.Status != u.status {
			l.t.Errorf("%s %s: a client was told %d, in the trail %+v", phase.op, u.request, u.status, s)
			continue
		}
		l.checkOne(phase, u, s, processed[u.request], l.isDone(phase, u, upstream), &sum)
	}
	return sum
}

func (l *lossy) checkOne(phase lossyPhase, u *lossyUser, s *requestStory, processed int, done bool, sum *lossyTally) {
	l.t.Helper()
	before := sum.lost
	for _, c := range s.closed.Calls {
		sum.calls++
		if c.Error != "" && (c.Status == 0 || c.Status < 400) {
			sum.lost++
		}
	}
	switch {
	case phase.op == scim.OpCreate && processed > 1:
		l.t.Errorf("%s: the upstream made %s %d times", u.request, u.name, processed)
	case u.status < 300:
		sum.done++
		if sum.lost > before {
			sum.saved++
		}
		if s.closed.Action == audit.Adopted {
			sum.adopted++
		}
		if !done || processed == 0 || s.closed.Kind != audit.Outcome || s.closed.Action == audit.Failed {
			l.t.Errorf("%s %s: a client was told %d, the trail has %s %s; done upstream: %v, processed %d times",
				phase.op, u.request, u.status, s.closed.Kind, s.closed.Action, done, processed)
		}
	case s.closed.Kind == audit.Unknown:
		sum.unknown++
		if u.status != 503 && u.status != 504 {
			l.t.Errorf("%s %s: a client was told %d of what nobody knows, want 503 or 504", phase.op, u.request, u.status)
		}
		if s.reconciled == nil {
			l.t.Errorf("%s %s: it was never found out what became of it", phase.op, u.request)
			return
		}
		sum.reconciled++
		told := s.reconciled.Action != audit.Failed
		if told {
			sum.reconciledDone++
		}
		if told != done || told != (processed > 0) {
			l.t.Errorf("%s %s: reconciled as %s (%v); done upstream: %v, processed %d times",
				phase.op, u.request, s.reconciled.Action, findings(s.reconciled), done, processed)
		}
	case processed > 0 || done:
		l.t.Errorf("%s %s: a client was told %d %q, which says that nothing was done; done upstream: %v, processed %d times",
			phase.op, u.request, u.status, s.closed.Answer.Detail, done, processed)
	}
}

// repair does as a provisioning client does in its next cycle with what it was told had failed: it looks first.
func (l *lossy) repair(phase lossyPhase, u *lossyUser) {
	if u.status < 300 {
		return
	}
	done := l.isDone(phase, u, l.sim.Resources("User"))
	if phase.op == scim.OpCreate {
		a := l.find(`userName eq "` + u.name + `"`)
		id, found := a.get("Resources/0/id").(string)
		if a.status != 200 || found != done {
			l.t.Errorf("%s: the match query was answered %d, found %v, upstream %v", u.name, a.status, found, done)
		}
		if u.id = id; !found {
			u.id = l.create(u.name, `"externalId":"e-`+u.name+`","active":true`)
		}
		return
	}
	a := l.do("GET", "/Users/"+u.id, "")
	shown := a.status == 404
	if phase.op == scim.OpPatch {
		shown = a.get("title") == fmt.Sprintf(lossyTitle, u.name)
	}
	if shown != done {
		l.t.Errorf("%s of %s: GET was answered %d %s, done upstream: %v", phase.op, u.name, a.status, a.text, done)
	}
	if !done {
		if a := l.do(phase.method, "/Users/"+u.id, phase.body(u)); a.status >= 300 {
			l.t.Errorf("%s of %s again: got %d %s", phase.op, u.name, a.status, a.text)
		}
	}
}

// twice counts the userNames that more than one user has, or had: creates that the upstream processed.
func (l *lossy) twice() int {
	made := map[string]int{}
	for _, e := range l.sim.Ledger() {
		if e.Method == http.MethodPost && e.Processed {
			r, err := scim.DecodeObject(e.Body)
			if err != nil {
				l.t.Error(err)
			}
			made[r.UserName()]++
		}
	}
	n := 0
	for _, times := range made {
		if times > 1 {
			n++
		}
	}
	return n
}
