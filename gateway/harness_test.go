package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
	"scimgate/gateway/upstream"
)

const (
	testToken     = "client-token-0123456789"
	upstreamToken = "upstream-token-0123456789"
)

// harness is a whole gateway over loopback: door, Gateway, store, upstream client, simulator.
type harness struct {
	t       *testing.T
	url     string
	sim     *simulator.Simulator
	store   *store.Store
	gateway *Gateway
	logs    *lockedBuffer
	client  *http.Client
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
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "trail.db"), Logger: logger})
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
		Name: "test", Profile: p, Upstream: up, UpstreamName: upConfig.BaseURL, Store: st,
		Redactor: audit.NewRedactor(bytes.Repeat([]byte{7}, 32)), Metrics: metrics, Logger: logger,
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
	return &harness{t: t, url: front.URL + "/scim/v2", sim: sim, store: st, gateway: g, logs: logs, client: front.Client()}
}

func builtin(t *testing.T, name string) *profile.Profile {
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
