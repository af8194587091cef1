package gateway

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
	"scimgate/gateway/upstream"
	"scimgate/transform/scim"
)

const (
	testToken     = "client-token-0123456789"
	upstreamToken = "upstream-token-0123456789"
)

// harness is a whole gateway over loopback: door, Gateway, store, upstream client, simulator.
type harness struct {
	t        *testing.T
	url      string
	sim      *simulator.Simulator
	store    *store.Store
	database string
	gateway  *Gateway
	metrics  *Metrics
	logs     *lockedBuffer
	logger   *slog.Logger
	client   *http.Client
}

// The test binary is its own helper process: with childConfig set it is a gateway, until it is killed.
func TestMain(m *testing.M) {
	if config := os.Getenv(childConfig); config != "" {
		os.Exit(runChild(config))
	}
	goleak.VerifyTestMain(m)
}

type option func(*simulator.Config, *upstream.Config, *DoorConfig)

func newHarness(t *testing.T, p *profile.Profile, options ...option) *harness {
	t.Helper()
	simConfig := simulator.Config{Profile: p, Tokens: []string{upstreamToken}}
	upConfig := upstream.Config{Profile: p, Token: secret.Literal(upstreamToken), Timeout: time.Second, Deadline: 3 * time.Second, QueueWait: 3 * time.Second}
	doorConfig := DoorConfig{}
	for _, o := range options {
		o(&simConfig, &upConfig, &doorConfig)
	}
	sim, err := simulator.New(simConfig)
	if err != nil {
		t.Fatal(err)
	}
	behind := httptest.NewServer(sim)
	t.Cleanup(behind.Close)
	t.Cleanup(sim.Close)
	logs := &lockedBuffer{}
	logger := slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	database := filepath.Join(t.TempDir(), "trail.db")
	st, err := store.Open(t.Context(), store.Config{Path: database, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	upConfig.BaseURL = behind.URL + simulator.DefaultBasePath
	metrics := NewMetrics(st)
	upConfig.Observe = metrics.Attempt("test")
	up, err := upstream.New(upConfig)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	g, err := New(Config{
		Name: "test", Profile: p, Upstream: up, UpstreamName: upConfig.BaseURL, Store: st, Sealer: newSealer(t, st),
		Redactor: audit.NewRedactor(audit.RedactorConfig{Keys: audit.Keys{bytes.Repeat([]byte{7}, 32)}, Seal: true}), Metrics: metrics, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	doorConfig.Logger = logger
	doorConfig.Connections = []DoorConnection{{
		Path: "/scim/v2", Gateway: g,
		Tokens: []Token{{Name: "old", SHA256: sha256.Sum256([]byte("another-token-0123456789"))}, {Name: "entra", SHA256: sha256.Sum256([]byte(testToken))}},
	}}
	front := httptest.NewServer(NewDoor(doorConfig))
	t.Cleanup(front.Close)
	return &harness{
		t: t, url: front.URL + "/scim/v2", sim: sim, store: st, database: database, gateway: g, metrics: metrics,
		logs: logs, logger: logger, client: front.Client(),
	}
}

// unrecorded takes the event that values were shown, and keeps nothing.
func unrecorded(context.Context, *audit.Record) error { return nil }

func newSealer(t testing.TB, keys audit.KeyStore) *audit.Sealer {
	t.Helper()
	s, err := audit.NewSealer(audit.Keys{bytes.Repeat([]byte{8}, 32)}, keys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// another is a second connection to the same upstream, over the same store, with a door of its own.
func (p *harness) another(change func(*Config)) *harness {
	p.t.Helper()
	cfg := p.gateway.Config
	cfg.Name = "another"
	if change != nil {
		change(&cfg)
	}
	if cfg.Store != p.gateway.Store {
		cfg.Sealer = newSealer(p.t, cfg.Store)
	}
	g, err := New(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	front := httptest.NewServer(NewDoor(DoorConfig{Logger: p.logger, Connections: []DoorConnection{
		{Path: "/scim/v2", Gateway: g, Tokens: []Token{{Name: "entra", SHA256: sha256.Sum256([]byte(testToken))}}},
	}}))
	p.t.Cleanup(front.Close)
	q := *p
	q.url, q.gateway, q.client, q.store = front.URL+"/scim/v2", g, front.Client(), cfg.Store
	return &q
}

// tailored is a built-in profile with the overrides of a configuration, and with another update mode if mode is
// not "".
func tailored(t testing.TB, name, overrides string, mode profile.UpdateMode) *profile.Profile {
	t.Helper()
	p := builtin(t, name)
	if overrides != "" {
		var problems profile.Problems
		v, _ := profile.Read("c.yaml", []byte(overrides), &problems)
		p = p.Override(v)
		if err := problems.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if mode != "" {
		p.Update.Mode = mode
	}
	return p
}

const (
	aliased  = "User: {attributes: [{path: userName, onViolation: alias}]}"
	keepsAll = "User: {unlisted: keep}"
)

func builtin(t testing.TB, name string) *profile.Profile {
	t.Helper()
	p, err := profile.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	p.Rate.RequestsPerSecond = 0
	return p
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

func (a answer) detail() string { s, _ := a.body["detail"].(string); return s }
func (a answer) get(path string) any {
	var v any = a.body
	for name := range strings.SplitSeq(path, "/") {
		switch m := v.(type) {
		case map[string]any:
			v = m[name]
		case []any:
			if name != "0" || len(m) == 0 {
				return nil
			}
			v = m[0]
		default:
			return nil
		}
	}
	return v
}

// do sends a request as it stands; header are name, value pairs.
func (p *harness) do(method, target, body string, header ...string) answer {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+target, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/scim+json; charset=utf-8")
	} else {
		req.Body = nil
		req.ContentLength = 0
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, text: string(raw)}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			p.t.Fatalf("%s %s: not JSON: %s", method, target, raw)
		}
	}
	return a
}

// create makes a user and returns its id.
func (p *harness) create(userName, more string) string {
	p.t.Helper()
	a := p.do("POST", "/Users", user(userName, more))
	if a.status != 201 {
		p.t.Fatalf("create %s: got %d %s", userName, a.status, a.text)
	}
	return a.get("id").(string)
}

func user(userName, more string) string {
	if more != "" {
		more = "," + more
	}
	return `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"` + userName + `"` + more + `}`
}

func patch(operations string) string {
	return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` + operations + `]}`
}

// trail is the whole trail.
func (p *harness) trail() []*audit.Record {
	p.t.Helper()
	var out []*audit.Record
	for r, err := range p.store.Search(context.Background(), audit.Query{}) {
		if err != nil {
			p.t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func (p *harness) last() *audit.Record {
	p.t.Helper()
	all := p.trail()
	if len(all) == 0 {
		p.t.Fatal("the trail is empty")
	}
	return all[len(all)-1]
}

// calls counts what reached the simulator since the last call.
func (p *harness) calls(f func()) int {
	before := len(p.sim.Ledger())
	f()
	return len(p.sim.Ledger()) - before
}

// upConfig is the upstream client's configuration.
type upConfig = upstream.Config

// waitFor asks again until it is so, for 10 s at most.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// request is a request of the gateway's own type, as the door would make it.
func (p *harness) request(op scim.Op, id, body string) *scim.Request {
	p.t.Helper()
	target := p.url + "/Users"
	if id != "" {
		target += "/" + id
	}
	method := map[scim.Op]string{scim.OpCreate: "POST", scim.OpReplace: "PUT", scim.OpPatch: "PATCH", scim.OpDelete: "DELETE"}[op]
	hr, err := http.NewRequestWithContext(p.t.Context(), cmp.Or(method, "GET"), target, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req, err := scim.ReadRequest(hr, strings.TrimPrefix(target, p.url), p.gateway.Types(), scim.MaxBody)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Origin = scim.Origin{Connection: "test", Credential: "entra", Source: "192.0.2.1", RequestID: "request-of-a-test", Base: p.url}
	return req
}

// roundTripper is a function between the upstream client and the upstream.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// through is another connection whose way to the upstream leads through f.
func (p *harness) through(f func(*http.Request, http.RoundTripper) (*http.Response, error)) *harness {
	p.t.Helper()
	transport := &http.Transport{}
	up, err := upstream.New(upstream.Config{
		BaseURL: p.gateway.UpstreamName, Profile: p.gateway.Profile, Token: secret.Literal(upstreamToken), Timeout: time.Second,
		Deadline: 3 * time.Second, QueueWait: 3 * time.Second, Observe: p.metrics.Attempt("another"),
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) { return f(r, transport) }),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { up.Close(); transport.CloseIdleConnections() })
	return p.another(func(cfg *Config) { cfg.Upstream = up })
}

// reconcile is one round of Reconcile in which everything is due.
func (p *harness) reconcile() {
	p.t.Helper()
	open, err := p.store.Unreconciled(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	due := map[int64]time.Time{}
	for _, o := range open {
		due[o.Intent] = time.Time{}
	}
	if _, err := p.gateway.reconcileDue(p.t.Context(), due); err != nil {
		p.t.Fatal(err)
	}
}

// newUpstream is an upstream client over a transport of a test.
func newUpstream(t *testing.T, p *profile.Profile, transport http.RoundTripper) *upstream.Client {
	t.Helper()
	up, err := upstream.New(upstream.Config{
		BaseURL: "http://127.0.0.1" + simulator.DefaultBasePath, Profile: p, Token: secret.Literal(upstreamToken), Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	return up
}
