package gateway

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// crashWorld is what survives a gateway: upstream, database, and what the clients were told.
type crashWorld struct {
	t        *testing.T
	sim      *simulator.Simulator
	settings childSettings

	mu      sync.Mutex
	conns   map[net.Conn]bool // to the upstream
	answers []received
}

// received is an answer that a client has read to its end.
type received struct {
	method, requestID string
	status            int
}

func newCrashWorld(t *testing.T, latency time.Duration) *crashWorld {
	t.Helper()
	sim, err := simulator.New(simulator.Config{Profile: builtin(t, "bluejeans"), Tokens: []string{upstreamToken}, Latency: latency})
	if err != nil {
		t.Fatal(err)
	}
	w := &crashWorld{t: t, sim: sim, conns: map[net.Conn]bool{}}
	behind := httptest.NewUnstartedServer(sim)
	tell := behind.Config.ConnState
	behind.Config.ConnState = func(c net.Conn, s http.ConnState) {
		w.mu.Lock()
		if w.conns[c] = true; s == http.StateClosed || s == http.StateHijacked {
			delete(w.conns, c)
		}
		w.mu.Unlock()
		if tell != nil {
			tell(c, s)
		}
	}
	behind.Start()
	t.Cleanup(behind.Close)
	t.Cleanup(sim.Close)
	w.settings = childSettings{
		Database: filepath.Join(t.TempDir(), "trail.db"), Upstream: behind.URL + simulator.DefaultBasePath, InFlight: 64,
	}
	return w
}

// silent waits until the upstream has read and carried out whatever a dead gateway sent.
func (w *crashWorld) silent() {
	w.t.Helper()
	waitFor(w.t, "the upstream's connections to end", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.conns) == 0
	})
}

// gatewayProcess is a gateway in a process of its own.
type gatewayProcess struct {
	cmd    *exec.Cmd
	orders io.WriteCloser
	logs   *lockedBuffer
	rest   chan string // what it printed after its first line
	url    string
	client *http.Client
}

// launch starts a gateway and returns what it printed first.
func (w *crashWorld) launch() (*gatewayProcess, string) {
	w.t.Helper()
	config, err := json.Marshal(w.settings)
	if err != nil {
		w.t.Fatal(err)
	}
	g := &gatewayProcess{
		cmd: exec.Command(os.Args[0]), logs: &lockedBuffer{}, rest: make(chan string, 1),
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	g.cmd.Env = append(os.Environ(), childConfig+"="+string(config))
	g.cmd.Stderr = g.logs
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if g.orders, err = g.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		g.client.CloseIdleConnections()
		_ = g.orders.Close() // ends it, if nothing else has
		_ = g.cmd.Wait()
	})
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil {
		w.t.Fatalf("the gateway said nothing: %v\n%s", err, g.logs)
	}
	go func() {
		rest, _ := io.ReadAll(lines)
		g.rest <- first + string(rest)
	}()
	return g, strings.TrimSpace(first)
}

// start starts a gateway that answers.
func (w *crashWorld) start() *gatewayProcess {
	w.t.Helper()
	g, said := w.launch()
	address, ok := strings.CutPrefix(said, "listening ")
	if !ok {
		w.t.Fatalf("the gateway said %q", said)
	}
	g.url = "http://" + address + "/scim/v2"
	return g
}

// refuses starts a gateway that must not answer, and not change the database either.
func (w *crashWorld) refuses(want string) {
	w.t.Helper()
	before := w.fingerprint()
	g, _ := w.launch()
	said := <-g.rest
	err := g.cmd.Wait()
	if err == nil || !strings.HasPrefix(said, "error ") || !strings.Contains(said, want) || !strings.Contains(said, w.settings.Database) {
		w.t.Errorf("got %q and %v, want that it refuses %s: %q", said, err, w.settings.Database, want)
	}
	if after := w.fingerprint(); after != before {
		w.t.Errorf("files before:\n%s\nand after:\n%s", before, after)
	}
}

// fingerprint sums up what holds the trail.
func (w *crashWorld) fingerprint() string {
	var sums strings.Builder
	for _, suffix := range []string{"", "-wal", "-journal"} {
		if content, err := os.ReadFile(w.settings.Database + suffix); err == nil && len(content) > 0 {
			fmt.Fprintf(&sums, "%q: %d bytes, %x\n", suffix, len(content), sha256.Sum256(content))
		}
	}
	return sums.String()
}

// goesOn starts a gateway that has everything which was there before.
func (w *crashWorld) goesOn() crashTally {
	w.t.Helper()
	g := w.start()
	sum := w.check(g)
	g.terminate(w.t)
	return sum
}

// arm makes the gateway die when it passes a point.
func (g *gatewayProcess) arm(point string, passes int) {
	fmt.Fprintln(g.orders, point, passes) // that it does not arrive shows in the gateway's staying alive
}

// died waits for the death that arm asked for.
func (g *gatewayProcess) died(t *testing.T) {
	t.Helper()
	<-g.rest
	err := g.cmd.Wait()
	e, ok := errors.AsType[*exec.ExitError](err)
	if !ok || e.Exited() {
		t.Fatalf("got %v, want it killed\n%s", err, g.logs)
	}
	g.client.CloseIdleConnections()
}

// terminate asks the gateway to stop, which it does with everything in order.
func (g *gatewayProcess) terminate(t *testing.T) {
	t.Helper()
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Skipf("a process cannot be asked to stop here: %v", err)
	}
	said := <-g.rest
	if err := g.cmd.Wait(); err != nil {
		t.Errorf("got %v, want a clean end\n%s%s", err, said, g.logs)
	}
	g.client.CloseIdleConnections()
}

// do sends a request. It is false when no whole answer came back.
func (w *crashWorld) do(g *gatewayProcess, method, target, body string) (a answer, ok bool) {
	req, err := http.NewRequestWithContext(w.t.Context(), method, g.url+target, bytes.NewReader([]byte(body)))
	if err != nil {
		w.t.Error(err)
		return a, false
	}
	req.GetBody = nil // net/http would repeat a request by itself
	req.Header.Set("Authorization", "Bearer "+testToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/scim+json")
	}
	res, err := g.client.Do(req)
	if err != nil {
		return a, false
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return a, false
	}
	a = answer{status: res.StatusCode, header: res.Header, text: string(raw)}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			w.t.Errorf("%s: not JSON: %s", method, raw)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = append(w.answers, received{method, a.header.Get("X-Request-Id"), a.status})
	return a, true
}

// matches asks for users by an attribute, and returns their ids.
func (w *crashWorld) matches(g *gatewayProcess, attribute, value string) (ids []string, ok bool) {
	a, ok := w.do(g, "GET", "/Users?filter="+url.QueryEscape(attribute+` eq "`+value+`"`), "")
	if !ok {
		return nil, false
	}
	if a.status != 200 {
		w.t.Errorf("look for %s %s: got %d %s", attribute, value, a.status, a.text)
	}
	list, _ := a.body["Resources"].([]any)
	for _, r := range list {
		m, _ := r.(map[string]any)
		id, _ := m["id"].(string)
		ids = append(ids, id)
	}
	return ids, true
}

// openIntents counts what a dead gateway left open.
func (w *crashWorld) openIntents() int {
	w.t.Helper()
	r, err := store.OpenReadOnly(w.t.Context(), w.settings.Database)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	stats, err := r.Stats(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return int(stats.Open)
}

// settled waits until no intent is open or waits to be reconciled, and returns the trail.
func (w *crashWorld) settled() []*audit.Record {
	w.t.Helper()
	r, err := store.OpenReadOnly(w.t.Context(), w.settings.Database)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	waitFor(w.t, "every write to be reconciled", func() bool {
		stats, err := r.Stats(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		return stats.Open == 0 && stats.Unreconciled == 0
	})
	var out []*audit.Record
	for rec, err := range r.Search(w.t.Context(), audit.Query{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if rec.Sealed != "" { // the key is as durable as the record
			if err := newSealer(w.t, r).Unseal(w.t.Context(), rec, "a test", unrecorded); err != nil {
				w.t.Errorf("record %d: %v", rec.Seq, err)
			}
		}
		out = append(out, rec)
	}
	return out
}
