package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template"

	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
	"scimgate/gateway/upstream"
	"scimgate/transform/scim"
)

// bare is a gateway without a network: the door's handler, the store, the upstream client, and a simulator that is
// called in place of a round trip. What the upstream costs can be told from what the gateway costs.
type bare struct {
	tb      testing.TB
	door    http.Handler
	gateway *Gateway
	store   *store.Store
	sim     *simulator.Simulator
	wire    *inProcess
	logs    *lockedBuffer
	names   int // given out
	before  int // writes that were sent before the last message
}

// inProcess is the way to an upstream in the same process. It counts what goes there.
type inProcess struct {
	upstream http.Handler
	around   func(func()) // measures what the upstream does; nil: nobody does

	mu     sync.Mutex
	writes int
}

func (u *inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		u.mu.Lock()
		u.writes++
		u.mu.Unlock()
	}
	w := httptest.NewRecorder()
	serve := func() { u.upstream.ServeHTTP(w, r) }
	if u.around != nil {
		u.around(serve)
	} else {
		serve()
	}
	res := w.Result()
	res.Request = r
	return res, nil
}

// sent is how many writes went upstream so far.
func (u *inProcess) sent() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.writes
}

func newBare(tb testing.TB, p *profile.Profile) *bare {
	tb.Helper()
	sim, err := simulator.New(simulator.Config{Profile: p, Tokens: []string{upstreamToken}, LedgerSize: 1})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(sim.Close)
	logs := &lockedBuffer{}
	logger := slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	st, err := store.Open(tb.Context(), store.Config{Path: filepath.Join(tb.TempDir(), "trail.db"), Logger: logger})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = st.Close() })
	wire := &inProcess{upstream: sim}
	up, err := upstream.New(upstream.Config{
		BaseURL: "http://upstream.example" + simulator.DefaultBasePath, Profile: p, Token: secret.Literal(upstreamToken), Transport: wire,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(up.Close)
	g, err := New(Config{
		Name: "test", Profile: p, Upstream: up, UpstreamName: "test", Store: st, Redactor: audit.NewRedactor(audit.RedactorConfig{Keys: audit.Keys{bytes.Repeat([]byte{7}, 32)}}),
		Metrics: NewMetrics(st), Logger: logger,
	})
	if err != nil {
		tb.Fatal(err)
	}
	g.refusals.perSecond = math.MaxInt // each is looked for in the trail
	door := NewDoor(DoorConfig{Logger: logger, Connections: []DoorConnection{
		{Path: "/scim/v2", Gateway: g, Tokens: []Token{{Name: "entra", SHA256: sha256.Sum256([]byte(testToken))}}},
	}})
	return &bare{tb: tb, door: door, gateway: g, store: st, sim: sim, wire: wire, logs: logs}
}

// message is a request as a table writes it down; header are name, value pairs.
type message struct {
	method, target, body string
	header               []string
}

// request makes the request of a message. ok is false when net/http would not let it in.
func (m message) request() (r *http.Request, ok bool) {
	r, err := http.NewRequestWithContext(context.Background(), m.method, "http://gateway.example/scim/v2"+m.target, io.NopCloser(strings.NewReader(m.body)))
	if err != nil {
		return nil, false
	}
	r.ContentLength = int64(len(m.body))
	r.RemoteAddr = "192.0.2.1:1234"
	r.Header.Set("Authorization", "Bearer "+testToken)
	for i := 0; i+1 < len(m.header); i += 2 {
		control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
		other := func(r rune) bool { return r != '-' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') }
		if m.header[i] == "" || strings.ContainsFunc(m.header[i], other) || strings.ContainsFunc(m.header[i+1], control) {
			return nil, false
		}
		r.Header.Set(m.header[i], m.header[i+1])
	}
	return r, true
}

// ask sends a message through the door.
func (b *bare) ask(m message) *httptest.ResponseRecorder {
	b.tb.Helper()
	r, ok := m.request()
	if !ok {
		b.tb.Fatalf("%.80q %.80q is no request", m.method, m.target)
	}
	w := httptest.NewRecorder()
	b.before = b.wire.sent()
	b.door.ServeHTTP(w, r)
	return w
}

// name is a userName that nobody has, 32 characters at most.
func (b *bare) name() string {
	b.names++
	return "n" + strconv.Itoa(b.names)
}

// user makes a user upstream and returns its id, which nobody ever had.
func (b *bare) user() string {
	b.tb.Helper()
	name := b.name()
	return b.put(name, "id-of-"+name)
}

func (b *bare) put(userName, id string) string {
	b.tb.Helper()
	r, err := b.sim.Put("User", scim.Resource{"schemas": []any{scim.SchemaUser}, "id": id, "userName": userName})
	if err != nil {
		b.tb.Fatal(err)
	}
	return r.ID()
}

// again leaves nothing upstream but n new users: other requests leave large resources behind.
func (b *bare) again(n int) {
	b.tb.Helper()
	b.sim.Reset()
	for range n {
		b.user()
	}
}

// check holds the answer to a message against what every answer must be: SCIM, never an internal error, and true to
// the trail.
func (b *bare) check(m message, w *httptest.ResponseRecorder) {
	b.tb.Helper()
	fail := func(format string, args ...any) {
		b.tb.Helper()
		b.tb.Errorf("%.20s %.200q %.200q %.200q: %s\n%d %.500s", m.method, m.target, m.body, strings.Join(m.header, " "), fmt.Sprintf(format, args...), w.Code, w.Body)
	}
	id := w.Header().Get("X-Request-Id")
	var body map[string]any
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || !strings.HasPrefix(w.Header().Get("Content-Type"), scim.MediaType) {
			fail("the answer is not SCIM: %v", err)
			return
		}
	}
	switch {
	case w.Code == http.StatusInternalServerError:
		fail("an internal error: %.2000s", b.logs)
	case w.Code >= 400:
		checkError(b.tb, w.Code, w.Body.Bytes(), id)
	case w.Code != http.StatusNoContent && w.Code != http.StatusNotModified && body == nil && m.method != http.MethodHead:
		fail("no body")
	}
	found := false
	for r, err := range b.store.Search(context.Background(), audit.Query{RequestID: id}) {
		if err != nil {
			b.tb.Fatal(err)
		}
		found = found || r.Answer.Status == w.Code && r.Kind != audit.Intent
		if r.Action == audit.Refused && b.wire.sent() != b.before {
			fail("refused, and a write was sent upstream")
		}
	}
	if !found && (w.Code != http.StatusUnauthorized) {
		fail("the trail does not have it")
	}
}

// entry is one file of the corpus: what it is for, the answer it must get, and the request, a text/template.
type entry struct {
	name string
	want []string // "400 invalidFilter", "200"
	text *template.Template
}

// corpus reads testdata/hostile. A file begins with comments and a line "want:"; behind an empty line follow the
// request line without the base path, headers, and behind another empty line the body. Templates know
// {{repeat n text}}, {{seq n format}} (separated by commas), {{esc text}} for a URL, and {{.}}, the id of a user.
func corpus(tb testing.TB) []entry {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "hostile", "*.http"))
	if err != nil || len(files) == 0 {
		tb.Fatal("there is no corpus", err)
	}
	functions := template.FuncMap{
		"repeat": func(n int, s string) string { return strings.Repeat(s, n) },
		"esc":    url.QueryEscape,
		"seq": func(n int, format string) string {
			parts := make([]string, n)
			for i := range parts {
				parts[i] = fmt.Sprintf(format, i)
			}
			return strings.Join(parts, ",")
		},
	}
	var out []entry
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		head, request, ok := strings.Cut(string(text), "\n\n")
		e := entry{name: strings.TrimSuffix(filepath.Base(file), ".http")}
		for line := range strings.Lines(head) {
			if want, ok := strings.CutPrefix(line, "want: "); ok {
				e.want = strings.Split(strings.TrimSpace(want), ", ")
			} else if !strings.HasPrefix(line, "# ") {
				tb.Fatalf("%s: %q is neither a comment nor what is wanted", file, line)
			}
		}
		if !ok || e.want == nil {
			tb.Fatalf("%s: it says not what is wanted of what", file)
		}
		if e.text, err = template.New(e.name).Funcs(functions).Parse(request); err != nil {
			tb.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// message is the request with the id of a user in it.
func (e entry) message(tb testing.TB, id string) message {
	tb.Helper()
	var sb strings.Builder
	if err := e.text.Execute(&sb, id); err != nil {
		tb.Fatal(err)
	}
	head, body, _ := strings.Cut(sb.String(), "\n\n")
	first, rest, _ := strings.Cut(head, "\n")
	m := message{body: strings.TrimSuffix(body, "\n")}
	m.method, m.target, _ = strings.Cut(strings.TrimSpace(first), " ")
	for line := range strings.Lines(rest) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			m.header = append(m.header, name, strings.TrimSpace(value))
		}
	}
	return m
}

// Everything that was thought of to bring the gateway down: it gets the answer that it deserves, and the next one is
// served as ever.
func TestHostileCorpus(t *testing.T) {
	b := newBare(t, builtin(t, "bluejeans"))
	known := b.user()
	for _, e := range corpus(t) {
		t.Run(e.name, func(t *testing.T) {
			b.tb = t
			m := e.message(t, b.user())
			w := b.ask(m)
			b.check(m, w)
			var body struct{ ScimType string }
			_ = json.Unmarshal(w.Body.Bytes(), &body) // check has looked at it
			if got := strings.TrimSpace(strconv.Itoa(w.Code) + " " + body.ScimType); !slices.Contains(e.want, got) {
				t.Errorf("got %s %.300s, want %s", got, w.Body, strings.Join(e.want, " or "))
			}
			if w := b.ask(message{method: "GET", target: "/Users/" + known}); w.Code != http.StatusOK {
				t.Errorf("afterwards: got %d %s, want 200", w.Code, w.Body)
			}
		})
	}
}
