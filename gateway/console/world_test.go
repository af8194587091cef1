package console

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

const adminToken = "admin-token-0123456789"

// world is a console over a store, as a browser without a script sees it.
type world struct {
	t       *testing.T
	store   *store.Store
	console *Console
	server  *httptest.Server
	client  *http.Client
	token   string
	events  []string
	mu      sync.Mutex // guards token and events
	now     time.Time
	ahead   atomic.Int64 // nanoseconds by which the console's clock is ahead
}

// newWorld opens a console over an empty trail. change may alter its configuration.
func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "trail.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	w := &world{t: t, store: st, token: adminToken, now: time.Now().UTC()}
	cfg := Config{
		Trail: st, Version: "scimgate test", Hosts: []string{"console.example.com"},
		Token: func() (string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.token, nil
		},
		Clock: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) },
		Event: func(action, text string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, action+": "+text)
		},
		Connections: func() []Connection {
			return []Connection{{Name: "bluejeans", Profile: "bluejeans", Breaker: "closed", InFlight: 1, Rate: 25}}
		},
	}
	if change != nil {
		change(&cfg)
	}
	if w.console, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.console.Run(ctx) })
	w.server = httptest.NewServer(w.console)
	t.Cleanup(func() {
		cancel()
		running.Wait()
		w.server.CloseClientConnections()
		w.server.Close()
	})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.client = &http.Client{Jar: jar}
	return w
}

// append stores records and waits until the picture has them.
func (w *world) append(records ...*audit.Record) {
	w.t.Helper()
	seq := int64(0)
	for _, rec := range records {
		var err error
		if seq, err = w.store.Append(w.t.Context(), rec); err != nil {
			w.t.Fatal(err)
		}
	}
	w.told(seq)
}

// told waits until the picture knows of a record.
func (w *world) told(seq int64) {
	w.t.Helper()
	deadline, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		w.console.picture.mu.Lock()
		seen := w.console.picture.seen
		w.console.picture.mu.Unlock()
		if seen >= seq {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			w.t.Fatalf("the picture knows of record %d, want %d", seen, seq)
		}
	}
}

// signIn signs in with a token, and returns the status of the answer to the form.
func (w *world) signIn(token string) *http.Response {
	w.t.Helper()
	form := url.Values{"token": {token}, "next": {Base}}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.server.URL+Base+"sign-in", strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", w.server.URL)
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp
}

// get reads a page.
func (w *world) get(path string) (status int, body string, header http.Header) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.server.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// Records as the gateway leaves them.

func clearValue(v any) *audit.Value {
	text, _ := json.Marshal(v)
	return &audit.Value{Clear: text}
}

func print(n int) *audit.Value {
	return &audit.Value{HMAC: fmt.Sprintf("%016x0000000000000000", uint64(n+1)*0x9e3779b97f4a7c15)}
}

// write makes the intent and the outcome of a request that changes somebody.
func write(at time.Time, action, op, id, userName string, status int, attributes ...audit.Attribute) (intent, outcome *audit.Record) {
	request := audit.NewID(at, [8]byte{byte(at.UnixMicro()), byte(at.UnixMicro() >> 8), byte(at.UnixMicro() >> 16), 4, 5, 6, 7, 8})
	intent = &audit.Record{
		Kind: audit.Intent, Time: at, RequestID: request, Connection: "bluejeans", Credential: "entra-2027", Source: "20.190.151.7",
		Action: action, Method: http.MethodPatch, Op: op, ResourceType: "User", Subject: audit.Subject{ID: id, UserName: userName, ExternalID: externalID(id, userName)},
		Attributes: attributes, Plan: "forwarded",
		Findings: []audit.Finding{{Rule: "suite", Verdict: audit.Allow, Reason: "no rule stands against it"}},
	}
	if op == "create" {
		intent.Findings = append([]audit.Finding{
			{Rule: "upstream-lacks", Verdict: audit.Drop, Path: "displayName", Reason: "the upstream lacks it"},
			{Rule: "upstream-lacks", Verdict: audit.Keep, Path: "externalId", Reason: "the upstream lacks it: held by the gateway"},
		}, intent.Findings...)
	}
	done := *intent
	done.Kind, done.Time, done.Duration = audit.Outcome, at.Add(40*time.Millisecond), 41.3
	done.Answer.Status = status
	if op == "create" {
		intent.Subject.ID = ""
	}
	call := audit.Call{Method: intent.Method, Target: "PATCH /Users/{id}", Attempt: 1, Status: status, Started: at.Add(2 * time.Millisecond), Duration: 12 + float64(at.UnixMilli()%97)}
	if op == "create" {
		call.Method, call.Target = "POST", "POST /Users"
	}
	done.Calls = []audit.Call{call}
	if status >= 400 {
		done.Action, done.Answer.ScimType, done.Answer.Detail, done.Error = audit.Failed, "uniqueness", "the upstream refused the request", "answered 409 uniqueness"
		if status >= 500 {
			done.Answer.ScimType, done.Answer.Detail, done.Error = "", "the upstream does not answer", "answered 503"
		}
	} else {
		done.Attributes = nil
		for _, a := range attributes {
			if a.Sent != nil {
				a.Confirmed = a.Sent
			}
			done.Attributes = append(done.Attributes, a)
		}
	}
	return intent, &done
}

// look makes the record of a query or a read.
func look(at time.Time, op, action, id, userName string) *audit.Record {
	return &audit.Record{
		Kind: audit.Outcome, Time: at, RequestID: audit.NewID(at, [8]byte{1, byte(at.UnixMicro()), 3, 4, 5, 6, 7, 9}), Connection: "bluejeans", Credential: "entra-2027",
		Source: "20.190.151.7", Action: action, Method: http.MethodGet, Op: op, ResourceType: "User", Subject: audit.Subject{ID: id, UserName: userName},
		Plan: "the filter is evaluated by the upstream", Answer: audit.Answer{Status: http.StatusOK}, Duration: 9.6,
		Calls: []audit.Call{{Method: "GET", Target: "GET /Users?filter=userName eq", Attempt: 1, Status: 200, Started: at, Duration: 8 + float64(at.UnixMilli()%31)}},
	}
}

// externalID is the id of a person at the provisioning client.
func externalID(id, userName string) string {
	if id == "" {
		id = userName
	}
	sum := sha256.Sum256([]byte(id))
	return fmt.Sprintf("%x-%x-4de3-9c1f-%x", sum[:4], sum[4:6], sum[6:12])
}

func born(userName string, n int) []audit.Attribute {
	return []audit.Attribute{
		{Path: "active", Asked: clearValue(true), Sent: clearValue(true)},
		{Path: "displayName", Asked: print(n)},
		{Path: `emails[type eq "work"].value`, Asked: print(n + 1), Sent: print(n + 1)},
		{Path: "externalId", Asked: clearValue("e-" + userName)},
		{Path: "name.familyName", Asked: print(n + 2), Sent: print(n + 2)},
		{Path: "name.givenName", Asked: print(n + 3), Sent: print(n + 3)},
		{Path: "userName", Asked: clearValue(userName), Sent: clearValue(userName)},
	}
}

// change stores a request that changes somebody.
func (w *world) change(at time.Time, action, op, id, userName string, status int, attributes ...audit.Attribute) *audit.Record {
	w.t.Helper()
	intent, outcome := write(at, action, op, id, userName, status, attributes...)
	seq, err := w.store.Intend(w.t.Context(), intent, openIntent(intent))
	if err != nil {
		w.t.Fatal(err)
	}
	outcome.Intent = seq
	if _, err := w.store.Conclude(w.t.Context(), outcome); err != nil {
		w.t.Fatal(err)
	}
	return outcome
}

func openIntent(intent *audit.Record) store.OpenIntent {
	return store.OpenIntent{Connection: intent.Connection, Upstream: "u", Op: intent.Op, ResourceType: "User", ID: intent.Subject.ID, RequestID: intent.RequestID}
}

// history is a day of provisioning: an initial cycle in the morning, incremental ones after it, one that runs now.
func (w *world) history(people int) {
	w.t.Helper()
	start := w.now.Add(-7 * time.Hour)
	id := func(i int) string { return fmt.Sprint(1000000 + i) }
	name := func(i int) string {
		given := []string{"ann", "babs", "chidi", "dana", "emre", "fatima", "greta", "hugo"}
		family := []string{"lee", "jensen", "okafor", "smith", "yilmaz", "khan", "weber", "garcia", "tanaka"}
		return fmt.Sprintf("%s.%s%d@example.com", given[i%len(given)], family[i%len(family)], i)
	}
	for i := range people {
		at := start.Add(time.Duration(i) * 400 * time.Millisecond)
		w.appendOnly(look(at, "query", audit.Queried, "", ""))
		status := http.StatusCreated
		if i%29 == 28 {
			status = http.StatusConflict
		}
		one := id(i)
		if status != http.StatusCreated {
			one = ""
		}
		w.change(at.Add(60*time.Millisecond), audit.Created, "create", one, name(i), status, born(name(i), i*10)...)
	}
	for cycle := range 9 {
		begin := start.Add(time.Duration(cycle+1) * 43 * time.Minute)
		if !begin.Before(w.now.Add(-10 * time.Minute)) {
			break
		}
		for i := range 6 + cycle*3%7 {
			n := (cycle*11 + i*3) % people
			at := begin.Add(time.Duration(i) * 1700 * time.Millisecond)
			w.appendOnly(look(at, "get", audit.Read, id(n), name(n)))
			at = at.Add(80 * time.Millisecond)
			switch {
			case cycle == 4 && i > 2:
				w.change(at, audit.Updated, "patch", id(n), name(n), http.StatusServiceUnavailable, audit.Attribute{Path: "title", Asked: print(n + cycle), Sent: print(n + cycle)})
			case i == 1:
				w.change(at, audit.Disabled, "patch", id(n), name(n), 200, audit.Attribute{Path: "active", Asked: clearValue(false), Sent: clearValue(false)})
			default:
				w.change(at, audit.Updated, "patch", id(n), name(n), 200, audit.Attribute{Path: "title", Asked: print(n + cycle), Sent: print(n + cycle)})
			}
		}
	}
	w.appendOnly(&audit.Record{Kind: audit.Outcome, Time: w.now.Add(-20 * time.Minute), Action: audit.Unauthenticated, Method: "GET", Source: "203.0.113.9", Connection: "bluejeans",
		RequestID: audit.NewID(w.now.Add(-20*time.Minute), [8]byte{9}), Answer: audit.Answer{Status: 401, Detail: "a valid bearer token is required"}})
	// One person with a life.
	const babs, was = "2819c223-7f76-453a-919d-413861904646", "babs@example.com"
	at := w.now.Add(-6 * time.Hour)
	w.change(at, audit.Created, "create", babs, was, 201, born(was, 7)...)
	w.change(at.Add(time.Hour), audit.Updated, "patch", babs, was, 200,
		audit.Attribute{Path: "title", Asked: print(4), Sent: print(4)}, audit.Attribute{Path: "name.familyName", Asked: print(99), Sent: print(99)})
	w.change(at.Add(2*time.Hour), audit.Renamed, "patch", babs, "babs.jensen@example.com", 200,
		audit.Attribute{Path: "userName", Asked: clearValue("babs.jensen@example.com"), Sent: clearValue("babs.jensen@example.com")})
	w.change(at.Add(3*time.Hour), audit.Updated, "patch", babs, "babs.jensen@example.com", 503, audit.Attribute{Path: "title", Asked: print(5), Sent: print(5)})
	w.change(at.Add(3*time.Hour+40*time.Minute), audit.Disabled, "patch", babs, "babs.jensen@example.com", 200,
		audit.Attribute{Path: "active", Asked: clearValue(false), Sent: clearValue(false)})
	w.change(at.Add(4*time.Hour), audit.Restored, "patch", babs, "babs.jensen@example.com", 200,
		audit.Attribute{Path: "active", Asked: clearValue(true), Sent: clearValue(true)})
	refused := &audit.Record{Kind: audit.Outcome, Time: at.Add(5 * time.Hour), Action: audit.Refused, Op: "patch", Method: "PATCH", ResourceType: "User", Connection: "bluejeans",
		Credential: "entra-2027", RequestID: audit.NewID(at.Add(5*time.Hour), [8]byte{7}), Subject: audit.Subject{ID: babs, UserName: "babs.jensen@example.com", ExternalID: externalID(babs, was)},
		Attributes: []audit.Attribute{{Path: "userName", Asked: clearValue("barbara.jane.jensen.of.accounts@example.com")}},
		Findings:   []audit.Finding{{Rule: "length", Verdict: audit.Refuse, Path: "userName", Reason: "userName has 43 characters; the upstream takes at most 30"}},
		Answer:     audit.Answer{Status: 400, ScimType: "invalidValue", Detail: "userName has 43 characters; the upstream takes at most 30"}, Duration: 0.2}
	w.appendOnly(refused)
	// The cycle that runs now.
	for i := range 24 {
		n := i * 5 % people
		at := w.now.Add(time.Duration(i-24) * 2300 * time.Millisecond)
		w.appendOnly(look(at, "get", audit.Read, id(n), name(n)))
		w.change(at.Add(50*time.Millisecond), audit.Updated, "patch", id(n), name(n), map[bool]int{true: 409, false: 200}[i%8 == 7],
			audit.Attribute{Path: "title", Asked: print(n), Sent: print(n)}, audit.Attribute{Path: `phoneNumbers[type eq "work"].value`, Asked: print(n + 3), Sent: print(n + 3)})
	}
	st, err := w.store.Stats(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.told(st.Newest)
}

func (w *world) appendOnly(rec *audit.Record) {
	w.t.Helper()
	if _, err := w.store.Append(w.t.Context(), rec); err != nil {
		w.t.Fatal(err)
	}
}
