package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
	"scimgate/transform/scim"
)

// dead lets a write reach the upstream, or not, and ends before its outcome as a process does that is killed: the
// next process opens the database again and takes over.
func (p *harness) dead(reaches bool, write func(q *harness)) *harness {
	p.t.Helper()
	arrived, release := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(arrived) })
	q := p.through(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if req.Method == "GET" {
			return next.RoundTrip(req)
		}
		if reaches {
			if res, err := next.RoundTrip(req); err == nil {
				_ = res.Body.Close()
			}
		}
		once()
		select {
		case <-release:
		case <-req.Context().Done():
		}
		return nil, context.Canceled
	})
	var wg sync.WaitGroup
	wg.Go(func() { write(q) })
	<-arrived
	if err := p.store.Close(); err != nil { // nothing more of this process is stored
		p.t.Fatal(err)
	}
	close(release)
	wg.Wait()
	st, err := store.Open(p.t.Context(), store.Config{Path: p.database, Logger: p.logger})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = st.Close() })
	taken, err := st.TakeOver(p.t.Context())
	if err != nil || len(taken) != 1 {
		p.t.Fatalf("take over: got %d intents, %v, want 1", len(taken), err)
	}
	return p.another(func(cfg *Config) { cfg.Store = st })
}

// What a process that died left open is found out, and the identity map catches up.
func TestReconcileAfterDeath(t *testing.T) {
	type setUp = func(t *testing.T, p *harness) (id string)
	ann := func(_ *testing.T, p *harness) string { return p.create(longName, `"externalId":"e-1","title":"old"`) }
	nobody := func(*testing.T, *harness) string { return "" }
	older := func(t *testing.T, p *harness) string {
		if _, err := p.sim.Put("User", scim.Resource{"userName": p.create(longName, "")}); err != nil { // another one
			t.Fatal(err)
		}
		return ""
	}
	const change = `{"op":"replace","value":{"title":"new","userName":"` + longName2 + `","externalId":"e-2"}}`
	cases := []struct {
		name    string
		before  setUp
		method  string
		body    string
		reaches bool
		action  string
		reason  string
		story   map[string]string
		shows   map[string]any // of the user afterwards; nil: there is none
	}{
		{"created", nobody, "POST", user(longName, `"externalId":"e-1","title":"x","password":"Pass-1"`), true, audit.Created, "created",
			map[string]string{"title": "- h1 h1"}, map[string]any{"userName": longName, "externalId": "e-1"}},
		{"not created", nobody, "POST", user(longName, `"externalId":"e-1"`), false, audit.Failed, "not created, or gone since", map[string]string{"userName": ""}, nil},
		{"somebody else's", older, "POST", user(longName, `"externalId":"e-1"`), true, audit.Failed, "was there before", nil, map[string]any{"userName": longName, "externalId": nil}},
		{"patched", ann, "PATCH", patch(change), true, audit.Renamed, "applied", map[string]string{"title": "- h1 h1"},
			map[string]any{"userName": longName2, "externalId": "e-2", "title": "new"}},
		{"not patched", ann, "PATCH", patch(change), false, audit.Failed, "not applied", map[string]string{"title": "- h1 h2"},
			map[string]any{"userName": longName, "externalId": "e-1", "title": "old"}},
		{"replaced", ann, "PUT", user(longName2, `"externalId":"e-2","title":"new"`), true, audit.Updated, "applied", map[string]string{"title": "- h1 h1"},
			map[string]any{"userName": longName2, "externalId": "e-2", "title": "new"}},
		{"replaced by less", ann, "PUT", user(longName, ""), true, audit.Updated, "applied", nil, map[string]any{"userName": longName, "externalId": nil, "title": nil}},
		{"not replaced", ann, "PUT", user(longName, ""), false, audit.Failed, "not applied", nil, map[string]any{"userName": longName, "externalId": "e-1", "title": "old"}},
		{"deleted", ann, "DELETE", "", true, audit.Deleted, "deleted", nil, nil},
		{"not deleted", ann, "DELETE", "", false, audit.Failed, "still there", nil, map[string]any{"userName": longName, "externalId": "e-1"}},
		{"password only", ann, "PATCH", patch(`{"op":"replace","path":"password","value":"Pass-2"}`), true, audit.Failed, "nobody can tell", nil,
			map[string]any{"userName": longName}},
	}
	for _, c := range cases {
		for _, mode := range updateModes {
			switch {
			case mode != "patch" && c.method != "PATCH",
				mode == "put" && c.name == "password only", // nothing to see, nothing to send
				mode == "single" && c.name == "patched":    // only the first of several requests had left
				continue
			}
			t.Run(c.name+"/"+string(mode), func(t *testing.T) {
				p := newHarness(t, tailored(t, "bluejeans", aliased, mode), quick)
				id := c.before(t, p)
				target := "/Users"
				if id != "" {
					target += "/" + id
				}
				q := p.dead(c.reaches, func(q *harness) { q.do(c.method, target, c.body) })
				if rec := q.last(); rec.Kind != audit.Unknown || rec.Action != audit.Interrupted {
					t.Fatalf("got %s %s, want the intent closed as unknown", rec.Kind, rec.Action)
				}
				writes := p.writesSent()
				q.reconcile()
				if n := p.writesSent() - writes; n != 0 {
					t.Errorf("%d writes were sent again, want none", n)
				}
				rec := q.last()
				if rec.Kind != audit.Reconciled || rec.Action != c.action || rec.Intent == 0 || len(rec.Calls) != 1 {
					t.Errorf("got %s %s of intent %d with %d calls, want reconciled %s with 1", rec.Kind, rec.Action, rec.Intent, len(rec.Calls), c.action)
				}
				if reason := rec.Findings[len(rec.Findings)-1].Reason; !strings.Contains(reason, c.reason) {
					t.Errorf("got reason %q, want %q", reason, c.reason)
				}
				for path, want := range c.story {
					if got := story(rec)[path]; want != "" && got != want {
						t.Errorf("%s: got %q, want %q", path, got, want)
					}
				}
				q.shows(c.shows)
				if open, err := q.store.Unreconciled(t.Context()); err != nil || len(open) != 0 {
					t.Errorf("got %d intents still to be reconciled, %v, want none", len(open), err)
				}
				q.pairs()
			})
		}
	}
}

// shows checks the first user; nil means that there is none.
func (p *harness) shows(want map[string]any) {
	p.t.Helper()
	a := p.do("GET", "/Users", "")
	if want == nil {
		if a.get("totalResults") != 0.0 {
			p.t.Errorf("got %s, want nobody", a.text)
		}
		return
	}
	for path, w := range want {
		if got := a.get("Resources/0/" + path); got != w {
			p.t.Errorf("%s: got %v, want %v", path, got, w)
		}
	}
}

// What was changed after a write became unknown is not undone when it is reconciled.
func TestReconcileKeepsWhatIsNewer(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"), quick)
	p.sim.Inject(simulator.Fault{Kind: simulator.Hang, Op: scim.OpQuery, Times: 4}) // the look-ups
	p.sim.Inject(simulator.Fault{Kind: simulator.Lost, Op: scim.OpCreate, Times: 1})
	if a := p.do("POST", "/Users", user("ann", `"externalId":"e-1"`)); a.status < 500 || p.last().Kind != audit.Unknown {
		t.Fatalf("got %d as %s, want it unknown", a.status, p.last().Kind)
	}
	id := p.sim.Resources("User")[0].ID()
	if a := p.do("PATCH", "/Users/"+id, patch(`{"op":"add","path":"externalId","value":"e-2"}`)); a.status != 200 {
		t.Fatalf("got %d %s", a.status, a.text)
	}
	waitFor(t, "the end of the faults", func() bool { return p.do("GET", "/Users?filter=userName+eq+%22ann%22", "").status == 200 })
	p.reconcile()
	if rec := p.last(); rec.Kind != audit.Reconciled || rec.Action != audit.Created || !strings.Contains(rec.Findings[0].Reason, "changed since") {
		t.Errorf("got %s %s, %v, want it reconciled as created, with a remark", rec.Kind, rec.Action, rec.Findings)
	}
	p.finds(`externalId eq "e-2"`, 1, "ann")
	p.finds(`externalId eq "e-1"`, 0)
}

// One intent that cannot be reconciled does not keep the others waiting.
func TestReconcileGoesOn(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"), quick)
	one, two := p.create("ann", ""), p.create("bob", "")
	stop := p.sim.Inject(simulator.Fault{Kind: simulator.Hang})
	for _, id := range []string{one, two} {
		if p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"title","value":"x"}`)); p.last().Kind != audit.Unknown {
			t.Fatalf("got %s, want unknown", p.last().Kind)
		}
	}
	stop()
	p.sim.Inject(simulator.Fault{Kind: simulator.Status, Status: 400, User: "ann"})
	q := p.through(func(req *http.Request, next http.RoundTripper) (*http.Response, error) { return next.RoundTrip(req) })
	q.gateway.Name = p.gateway.Name
	open, err := p.store.Unreconciled(t.Context())
	if err != nil || len(open) != 2 {
		t.Fatalf("got %d, %v, want 2", len(open), err)
	}
	left, err := q.gateway.reconcileDue(t.Context(), map[int64]time.Time{open[0].Intent: {}, open[1].Intent: {}})
	if err == nil || len(left) != 1 || !left[open[0].Intent].After(time.Now()) {
		t.Errorf("got %v left and error %v, want the first one left for later", left, err)
	}
	if rec := q.last(); rec.Kind != audit.Reconciled || rec.Subject.ID != two {
		t.Errorf("got %s of %s, want the second one reconciled", rec.Kind, rec.Subject.ID)
	}
}

// An intent whose payload cannot be read, under another key, is told and put away.
func TestReconcileUnreadable(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	q := p.dead(true, func(q *harness) { q.do("POST", "/Users", user("ann", "")) })
	r := q.another(func(cfg *Config) {
		cfg.Redactor = audit.NewRedactor(audit.RedactorConfig{Keys: audit.Keys{[]byte("another key")}})
	})
	r.reconcile()
	if rec := r.last(); rec.Kind != audit.Reconciled || rec.Action != audit.Failed || !strings.Contains(rec.Error, "key file") {
		t.Errorf("got %s %s %q, want it told", rec.Kind, rec.Action, rec.Error)
	}
}

// The loop leaves an unknown write alone until it can no longer be on its way, and asks again after a failure.
func TestReconcileLoop(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"), quick)
	stop := p.sim.Inject(simulator.Fault{Kind: simulator.Hang, When: simulator.After})
	if p.do("POST", "/Users", user("ann", `"externalId":"e-1"`)); p.last().Kind != audit.Unknown {
		t.Fatalf("got %s, want unknown", p.last().Kind)
	}
	stop()
	if err := p.store.Close(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.Context(), store.Config{Path: p.database})
		if err != nil {
			t.Fatal(err)
		}
		down := true
		up := newUpstream(t, p.gateway.Profile, roundTripper(func(req *http.Request) (*http.Response, error) {
			if down {
				return nil, context.DeadlineExceeded
			}
			w := httptest.NewRecorder()
			p.sim.ServeHTTP(w, req)
			return w.Result(), nil
		}))
		cfg := p.gateway.Config
		cfg.Store, cfg.Upstream = st, up
		g, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { g.Reconcile(ctx); close(ended) }()
		pending := func() int {
			open, err := st.Unreconciled(ctx)
			if err != nil {
				t.Error(err)
			}
			return len(open)
		}
		time.Sleep(40 * time.Second)
		if pending() != 1 {
			t.Error("it was reconciled although the upstream does not answer")
		}
		down = false
		began := time.Now()
		for pending() > 0 && time.Since(began) < 5*time.Minute {
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("reconciled %v after the upstream answered again, want at most 30 s", took)
		}
		cancel()
		<-ended
		up.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
}
