package gateway

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

// send sends bytes as they stand, on a connection of their own, which is given 10 s.
func (p *harness) send(request string) net.Conn {
	p.t.Helper()
	u, err := url.Parse(p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(p.t.Context(), "tcp", u.Host)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		p.t.Fatal(err)
	}
	return conn
}

// raw sends bytes as they stand and returns the answer's status line, headers and body.
func (p *harness) raw(request string) string {
	p.t.Helper()
	conn := p.send(request)
	defer conn.Close()
	var b strings.Builder
	res, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &b)), nil)
	if err != nil {
		p.t.Fatalf("no answer to %.100q: %v", request, err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		p.t.Fatal(err)
	}
	return b.String()
}

const authorized = "Authorization: Bearer " + testToken + "\r\n"

// Authentication comes before everything else: a body that never comes is not waited for.
func TestAuthenticationBeforeTheBody(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	const head = "POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\nContent-Type: application/scim+json\r\n"
	for _, c := range []struct{ name, request, status string }{
		{"wrong token", head + "Authorization: Bearer nope\r\nContent-Length: 100000\r\n\r\n{", "401"},
		{"no token, chunked", head + "Transfer-Encoding: chunked\r\n\r\n", "401"},
		{"no token, expects", head + "Expect: 100-continue\r\nContent-Length: 100000\r\n\r\n", "401"},
		{"announced too large", head + authorized + "Content-Length: 300000\r\n\r\n{", "413"},
		{"too large in chunks", head + authorized + "Transfer-Encoding: chunked\r\n\r\n41000\r\n" + strings.Repeat(" ", 0x41000), "413"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := p.raw(c.request)
			if !strings.HasPrefix(got, "HTTP/1.1 "+c.status) || !strings.Contains(got, "Connection: close") || !strings.Contains(got, "application/scim+json") {
				t.Errorf("got %.300s, want %s that ends the connection", got, c.status)
			}
		})
	}
	if n := p.writesSent(); n != 0 {
		t.Errorf("%d writes went upstream, want 0", n)
	}
}

// Who may come in, and as whom the trail names them.
func TestAuthorization(t *testing.T) {
	now := time.Now()
	token := func(name, text string, expires time.Time) Token {
		return Token{Name: name, SHA256: sha256.Sum256([]byte(text)), Expires: expires}
	}
	tokens := []Token{
		token("old", "aaaa", now.Add(time.Hour)), token("new", "bbbb", time.Time{}), token("expired", "cccc", now), token("empty", "", time.Time{}),
	}
	cases := []struct {
		headers []string
		name    string
	}{
		{[]string{"Bearer aaaa"}, "old"},
		{[]string{"bearer bbbb"}, "new"},
		{[]string{"BEARER   bbbb  "}, "new"},
		{[]string{"Bearer cccc"}, ""},
		{[]string{"Bearer dddd"}, ""},
		{[]string{"Bearer AAAA"}, ""},
		{[]string{"Bearer aaaa bbbb"}, ""},
		{[]string{"Bearer"}, ""},
		{[]string{"Bearer "}, ""},
		{[]string{"Basic YWFhYTo="}, ""},
		{[]string{"aaaa"}, ""},
		{[]string{""}, ""},
		{[]string{"Bearer aaaa", "Bearer bbbb"}, ""},
		{[]string{"Bearer aaaa", ""}, ""},
		{nil, ""},
	}
	for _, c := range cases {
		h := http.Header{"Authorization": c.headers}
		if name, ok := authenticate(h, tokens, now); name != c.name || ok != (c.name != "") {
			t.Errorf("%q: got %q, %v, want %q", c.headers, name, ok, c.name)
		}
	}
	if _, ok := authenticate(http.Header{"Authorization": {"Bearer aaaa"}}, nil, now); ok {
		t.Error("without any token somebody came in")
	}

	p := newHarness(t, builtin(t, "bluejeans"))
	a := p.do("GET", "/Users", "", "Authorization", "Bearer another-token-0123456789")
	if rec := p.last(); a.status != 200 || rec.Credential != "old" || rec.Source != "127.0.0.1" {
		t.Errorf("got %d by %s from %s, want 200 by old from 127.0.0.1", a.status, rec.Credential, rec.Source)
	}
	a = p.do("GET", "/Users", "", "Authorization", "Bearer nope", "X-Forwarded-For", "203.0.113.7", "X-Real-Ip", "203.0.113.7")
	if a.header.Get("WWW-Authenticate") == "" || p.last().Source != "127.0.0.1" {
		t.Errorf("got %v from %s, want WWW-Authenticate, and no address that the client made up", a.header, p.last().Source)
	}
}

// Every route refuses without a token, also under a method that nobody has heard of.
func TestEveryRouteIsGuarded(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	router := newRouter(DoorConfig{Logger: p.logger, Connections: []DoorConnection{
		{Path: "/scim/v2", Gateway: p.gateway}, {Path: "/b/scim", Gateway: p.gateway, Tokens: []Token{{Name: "b", SHA256: sha256.Sum256([]byte("b"))}}},
	}})
	seen := 0
	try := func(method, path, status string) {
		t.Helper()
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
		r.Header.Set("Authorization", "Bearer a")
		router.ServeHTTP(w, r)
		if got := fmt.Sprint(w.Code); got != status {
			t.Errorf("%s %s: got %s, want %s", method, path, got, status)
		}
		if method != http.MethodHead && !strings.HasPrefix(w.Header().Get("Content-Type"), "application/scim+json") {
			t.Errorf("%s %s: got Content-Type %q", method, path, w.Header().Get("Content-Type"))
		}
	}
	for _, route := range router.Routes() {
		for _, rest := range []string{"/Users", "/Users/1", "/Groups", "/Schemas", "/ServiceProviderConfig", "/nothing", "/metrics", "/healthz"} {
			try(route.Method, strings.Replace(route.Path, "/*rest", rest, 1), "401")
			seen++
		}
	}
	if seen < 100 {
		t.Errorf("got %d routes, want all of them walked", seen)
	}
	try("BREW", "/scim/v2/Users", "401")
	try("BREW", "/b/scim", "401")
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics", "/audit/public-key", "/scim", "/scim/v2x/Users", "/scim/v1/Users", "/debug/pprof/", "/SCIM/v2/Users"} {
		try("GET", path, "404")
	}
}

// How requests may be written.
func TestPaths(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	id := p.create("ann", "")
	cases := []struct {
		method, target string
		status         int
	}{
		{"GET", "/Users", 200},
		{"GET", "/Users/", 200},
		{"GET", "//Users//", 200},
		{"GET", "/users", 200},
		{"GET", "/USERS/" + id, 200},
		{"GET", "/Users/" + id + "/", 200},
		{"GET", "/Users?aadOptscim062020", 200},
		{"GET", "/?aadOptscim062020", 200},
		{"GET", "", 200},
		{"HEAD", "/Users/" + id, 200},
		{"HEAD", "/Users", 200},
		{"HEAD", "/Users/0", 404},
		{"OPTIONS", "/Users", 204},
		{"OPTIONS", "/Users/" + id, 204},
		{"OPTIONS", "", 204},
		{"OPTIONS", "/Nobody", 404},
		{"TRACE", "/Users", 405},
		{"BREW", "/Users", 405},
		{"DELETE", "/Users", 405},
		{"POST", "/Users/" + id, 405},
		{"POST", "/Users/.search", 400},
		{"POST", "/Bulk", 400},
		{"GET", "/Bulk", 405},
		{"GET", "/Me", 501},
		{"GET", "/Users/%2e%2e", 404},
		{"GET", "/Users/%2E%2E%2FGroups", 404},
		{"GET", "/Users/a%2Fb", 404},
		{"GET", "/Users/a%2F%2Fb", 404},
		{"GET", "/Users/%00", 404},
		{"GET", "/Users/" + id + "/name", 404},
		{"GET", "/metrics", 404},
		{"GET", "/healthz", 404},
	}
	for _, c := range cases {
		var body string
		if c.method == "POST" {
			body = user("x", "")
		}
		a := p.do(c.method, c.target, body)
		if a.status != c.status {
			t.Errorf("%s %s: got %d %s, want %d", c.method, c.target, a.status, a.text, c.status)
		}
		if c.status == 405 && a.header.Get("Allow") == "" {
			t.Errorf("%s %s: Allow is missing", c.method, c.target)
		}
		if c.method == "HEAD" && (a.text != "" || a.header.Get("Content-Length") == "0") {
			t.Errorf("HEAD %s: got %q, length %s, want the headers of GET alone", c.target, a.text, a.header.Get("Content-Length"))
		}
		if rec := p.last(); rec.RequestID != a.header.Get("X-Request-Id") {
			t.Errorf("%s %s: the trail does not have it", c.method, c.target)
		}
	}
	// A slash that is escaped is a part of the id.
	p.do("GET", "//Users/a%2F%2Fb", "")
	if got := p.last().Subject.ID; got != "a//b" {
		t.Errorf("got id %q, want a//b", got)
	}
	if calls := p.sim.Ledger(); !strings.HasSuffix(calls[len(calls)-1].Target, "/Users/a%2F%2Fb") {
		t.Errorf("got %s upstream, want the slashes escaped", calls[len(calls)-1].Target)
	}
}

// A client's own request id is not taken over, neither into the answer nor the trail nor upstream.
func TestRequestIDs(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	seen := map[string]bool{}
	for range 3 {
		a := p.do("GET", "/Users", "", "X-Request-Id", "mine", "Connection", "X-Request-Id", "X_Request_Id", "mine")
		id := a.header.Get("X-Request-Id")
		if id == "" || id == "mine" || seen[id] || p.last().RequestID != id {
			t.Errorf("got request id %q, in the trail %q, want a new one", id, p.last().RequestID)
		}
		seen[id] = true
		ledger := p.sim.Ledger()
		if got := ledger[len(ledger)-1].RequestID; got != id {
			t.Errorf("upstream: got request id %q, want %q", got, id)
		}
	}
}

// Only what the gateway itself sets travels upstream.
func TestHeadersDoNotTravel(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.do("GET", "/Users", "", "Cookie", "a=b", "X-Evil", "1", "X-Forwarded-Host", "evil.example", "Idempotency-Key", "1", "Connection", "Authorization")
	p.do("POST", "/Users", user("ann", ""), "X-Http-Method-Override", "DELETE")
	allowed := map[string]bool{"Accept": true, "Authorization": true, "Content-Length": true, "Content-Type": true, "User-Agent": true, "X-Request-Id": true}
	for _, e := range p.sim.Ledger() {
		if e.Header.Get("Authorization") == "" || e.Status >= 400 {
			t.Errorf("%s: got %d, want the gateway's own credentials", e.Target, e.Status)
		}
		for name := range e.Header {
			if !allowed[name] {
				t.Errorf("%s: %s travelled upstream", e.Target, name)
			}
		}
	}
}

// Headers beyond the listener's bound are its business: nothing of them is recorded.
func TestOversizeHeaders(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	got := p.raw("GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\n" + authorized + "X-Large: " + strings.Repeat("x", 2<<20) + "\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 431") || len(p.trail()) != 0 {
		t.Errorf("got %.100s and %d records, want 431 and none", got, len(p.trail()))
	}
}

// Beyond the requests that may be worked on, one waits a while and is then told to come back.
func TestAdmission(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"), func(_ *simulator.Config, _ *upConfig, d *DoorConfig) {
		d.Concurrent, d.Wait = 1, 50*time.Millisecond
	})
	id := p.create("ann", "")
	release := make(chan struct{})
	stop := p.sim.Inject(simulator.Fault{Kind: simulator.Slow, Delay: 700 * time.Millisecond, Op: scim.OpGet})
	go func() {
		defer close(release)
		p.do("GET", "/Users/"+id, "")
	}()
	waitFor(t, "the first request", func() bool { return p.sim.Count(scim.OpGet) > 0 })
	a := p.do("GET", "/Users/"+id, "")
	if a.status != 429 || a.header.Get("Retry-After") != "2" || p.last().Action != audit.Refused {
		t.Errorf("got %d %s, Retry-After %s, want 429", a.status, a.text, a.header.Get("Retry-After"))
	}
	if a := p.do("GET", "/Users", "", "Authorization", "Bearer nope"); a.status != 401 {
		t.Errorf("without a token: got %d, want 401, which needs no place", a.status)
	}
	<-release
	stop()
	if a := p.do("GET", "/Users/"+id, ""); a.status != 200 {
		t.Errorf("afterwards: got %d, want 200", a.status)
	}
}

func TestAdmissionWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, time.Minute)
		leave, err := a.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() { time.Sleep(30 * time.Second); leave() }()
		began := time.Now()
		leave, err = a.enter(t.Context())
		if err != nil || time.Since(began) != 30*time.Second {
			t.Errorf("got %v after %v, want a place after 30 s", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.enter(ctx); err == nil {
			t.Error("got a place for a client that is gone")
		}
		leave()
	})
}

func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts, told := make(chan int64, 2), []int64(nil)
		s := sampler{perSecond: 2, tell: func(missed int64) { counts <- missed }}
		for i, want := range []struct {
			after time.Duration
			ok    bool
			told  []int64
		}{
			{0, true, nil}, {0, true, nil}, {0, false, nil}, {900 * time.Millisecond, false, nil}, {200 * time.Millisecond, true, []int64{2}},
			{0, true, []int64{2}}, {0, false, []int64{2}}, {time.Minute, true, []int64{2, 1}}, // also when nobody comes after
		} {
			time.Sleep(want.after)
			synctest.Wait()
			for len(counts) > 0 {
				told = append(told, <-counts)
			}
			if ok := s.take(time.Now()); ok != want.ok || !slices.Equal(told, want.told) {
				t.Errorf("%d: got %v and told %v, want %v and %v", i, ok, told, want.ok, want.told)
			}
		}
	})
}

// A client that goes away once the intent is durable does not stop the write, nor its outcome.
func TestClientGoesAway(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	ctx, cancel := context.WithCancel(t.Context())
	q := p.through(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		cancel()
		return next.RoundTrip(req)
	})
	_, err := q.gateway.Do(ctx, q.request(scim.OpCreate, "", user("ann", `"externalId":"e-1"`)))
	if err != nil {
		t.Errorf("got %v, want it done", err)
	}
	if rec := q.last(); rec.Kind != audit.Outcome || rec.Action != audit.Created || rec.Answer.Status != 201 {
		t.Errorf("got %s %s %d, want the outcome of a create", rec.Kind, rec.Action, rec.Answer.Status)
	}
	p.finds(`externalId eq "e-1"`, 1, "ann")
	p.pairs()
}

// A panic at the door is a bare 500 in SCIM's form, and the next request is answered.
func TestPanicAtTheDoor(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	broken := p.another(func(cfg *Config) { cfg.Metrics = nil }).gateway
	router := newRouter(DoorConfig{Logger: p.logger, Concurrent: 1, Connections: []DoorConnection{
		{Path: "/scim/v2", Gateway: broken, Tokens: []Token{{Name: "entra", SHA256: sha256.Sum256([]byte(testToken))}}},
	}})
	for range 3 {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/scim/v2/Users", nil)
		r.Header.Set("Authorization", "Bearer "+testToken)
		router.ServeHTTP(w, r)
		var body map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 500 || body["status"] != "500" {
			t.Errorf("got %d %s, want a SCIM error", w.Code, w.Body)
		}
	}

	// While a request is read, the trail has it.
	router = newRouter(DoorConfig{Logger: p.logger, Concurrent: 1, Connections: []DoorConnection{
		{Path: "/scim/v2", Gateway: p.gateway, Tokens: []Token{{Name: "entra", SHA256: sha256.Sum256([]byte(testToken))}}},
	}})
	for range 2 {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/scim/v2/Users", panicking{})
		r.Header.Set("Authorization", "Bearer "+testToken)
		router.ServeHTTP(w, r)
		if rec := p.last(); w.Code != 500 || rec.RequestID != w.Header().Get("X-Request-Id") || rec.Action != audit.Failed {
			t.Errorf("got %d, in the trail %+v, want a 500 that is recorded", w.Code, rec)
		}
	}
}

// panicking is a body that panics.
type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("while reading") }

// Where clients find resources.
func TestPublicURL(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"), func(_ *simulator.Config, _ *upConfig, d *DoorConfig) { d.PublicURL = "https://scim.example.com" })
	a := p.do("POST", "/Users", user("ann", ""))
	want := "https://scim.example.com/scim/v2/Users/" + a.get("id").(string)
	if a.header.Get("Location") != want || a.get("meta/location") != want {
		t.Errorf("got %s and %v, want %s", a.header.Get("Location"), a.get("meta/location"), want)
	}
}

// The admin listener: health and readiness are open, the rest asks for its token.
func TestAdmin(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.metrics.Watch("test", p.gateway.Upstream)
	draining, failing := false, false
	var unsigned error
	open := NewAdmin(AdminConfig{Store: p.store, Metrics: p.metrics, Gateways: []*Gateway{p.gateway}})
	guarded := NewAdmin(AdminConfig{
		Store: p.store, Metrics: p.metrics, Gateways: []*Gateway{p.gateway}, Draining: func() bool { return draining },
		Signed: func() error { return unsigned }, PublicKey: "scimgate.trail/1+2+3",
		Token: func() (string, error) {
			if failing {
				return "", errors.New("the file is gone")
			}
			return "admin-token", nil
		},
	})
	ask := func(h http.Handler, method, path, token string) (int, string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	p.create("ann", "")
	for _, c := range []struct {
		name, method, path, token string
		handler                   http.Handler
		status                    int
		text                      string
	}{
		{"health", "GET", "/healthz", "", guarded, 200, "alive"},
		{"ready", "GET", "/readyz", "", guarded, 200, `"breaker":"closed"`},
		{"metrics without a token", "GET", "/metrics", "", guarded, 401, "admin token"},
		{"metrics with a wrong one", "GET", "/metrics", testToken, guarded, 401, "admin token"},
		{"metrics", "GET", "/metrics", "admin-token", guarded, 200, `scimgate_requests_total{action="created",connection="test",op="create",status="201"} 1`},
		{"public key without a token", "GET", "/audit/public-key", "", guarded, 401, "admin token"},
		{"public key", "GET", "/audit/public-key", "admin-token", guarded, 200, "scimgate.trail/1+2+3\n"},
		{"metrics on loopback", "GET", "/metrics", "", open, 200, `scimgate_upstream_attempts_total{connection="test",op="create",status="201"} 1`},
		{"no SCIM here", "GET", "/scim/v2/Users", "admin-token", guarded, 404, ""},
		{"no writes", "POST", "/healthz", "", guarded, 405, ""},
	} {
		if status, text := ask(c.handler, c.method, c.path, c.token); status != c.status || !strings.Contains(text, c.text) {
			t.Errorf("%s: got %d %.200s, want %d with %s", c.name, status, text, c.status, c.text)
		}
	}
	failing = true
	if status, _ := ask(guarded, "GET", "/metrics", ""); status != 401 {
		t.Errorf("a token that cannot be read: got %d, want 401", status)
	}
	draining = true
	if status, text := ask(guarded, "GET", "/readyz", ""); status != 503 || !strings.Contains(text, "stopping") {
		t.Errorf("draining: got %d %s, want 503", status, text)
	}
	draining, unsigned = false, errors.New("record 7 was changed")
	if status, text := ask(guarded, "GET", "/readyz", ""); status != 503 || !strings.Contains(text, `"checkpoints":"record 7 was changed"`) {
		t.Errorf("a trail that is not signed: got %d %s, want 503", status, text)
	}
	unsigned = nil
	if err := p.store.Close(); err != nil {
		t.Fatal(err)
	}
	if status, text := ask(guarded, "GET", "/readyz", ""); status != 503 || !strings.Contains(text, "not ready") {
		t.Errorf("without a trail: got %d %s, want 503", status, text)
	}
	if status, _ := ask(guarded, "GET", "/healthz", ""); status != 200 {
		t.Errorf("without a trail: got health %d, want 200", status)
	}
	if _, text := ask(open, "GET", "/metrics", ""); !strings.Contains(text, "scimgate_trail_healthy 0") {
		t.Error("without a trail: the metric does not say so")
	}
}
