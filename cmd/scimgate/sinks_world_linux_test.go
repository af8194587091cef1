package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/conformance/simulator"
	"scimgate/transform/scim"
)

// faultWorld is a whole gateway, as `serve` runs it, with sinks of every kind whose other ends can fail.
type faultWorld struct {
	t         *testing.T
	sim       *simulator.Simulator
	app       *app
	token     string
	database  string
	dir, tiny string // folders: of files that go; of one on a disk that gets full, "" without root
	log       lockedLog
	siem      *collector
	hook      *receiver
	client    *http.Client

	users   int
	created atomic.Int64 // answers 201
	kept    []string     // copies of the file sink's file
}

const faultToken = "fault-token-0123456789"

// lockedLog keeps a log.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// smallDisk mounts a file system of a size, "" where that is not allowed.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("scimgate-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Logf("without the cases of a full disk, which need root to mount a small one: %v", err)
		return ""
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves no room on a disk until the returned function is called.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	for size := 0; err == nil && size < 256<<20; size += len(block) {
		_, err = f.Write(block)
	}
	if closed := f.Close(); !errors.Is(err, syscall.ENOSPC) || closed != nil {
		t.Fatalf("got %v, %v, want a full disk", err, closed)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// newFaultWorld starts a gateway with its database in a folder. The sink with the name required is.
func newFaultWorld(t *testing.T, required, databaseIn string) *faultWorld {
	t.Helper()
	p, err := profile.Load("generic")
	if err != nil {
		t.Fatal(err)
	}
	w := &faultWorld{t: t, token: faultToken, dir: t.TempDir(), tiny: smallDisk(t, "24m"), hook: newReceiver(t), siem: newCollector(t)}
	if w.sim, err = simulator.New(simulator.Config{Profile: p, Tokens: []string{"upstream"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.sim.Close)
	behind := httptest.NewServer(w.sim)
	t.Cleanup(behind.Close)
	w.database = filepath.Join(databaseIn, "scimgate.db")
	w.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(w.client.CloseIdleConnections)
	sinks := []config.Sink{
		{Name: "file", URL: "file://" + w.file()},
		{Name: "siem", URL: "syslog+tcp://" + w.siem.line.Addr().String(), Rewind: 20 * time.Second},
		{Name: "hook", URL: w.hook.server.URL, Secret: secret.Literal("0123456789abcdef")},
	}
	if w.tiny != "" {
		sinks = append(sinks, config.Sink{Name: "full", URL: "file://" + filepath.Join(w.tiny, "trail.jsonl")})
	}
	for i := range sinks {
		sinks[i].Required = sinks[i].Name == required
	}
	w.app, err = open(t.Context(), &config.Config{
		Listen: "127.0.0.1:0", Admin: config.Admin{Listen: "127.0.0.1:0"}, Database: w.database,
		KeyFile: filepath.Join(t.TempDir(), "scimgate.db.key"), Sinks: sinks,
		Limits:      config.Limits{Body: config.DefaultBody, Concurrent: config.DefaultConcurrent, Wait: config.DefaultWait, DrainTimeout: config.DefaultDrainTimeout},
		Connections: []config.Connection{simulated(p, behind.URL+simulator.DefaultBasePath, "upstream", "default", faultToken)},
	}, slog.New(slog.NewJSONHandler(&w.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.app.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *faultWorld) file() string { return filepath.Join(w.dir, "trail.jsonl") }

// answer is what a client saw of a write.
type answer struct {
	status     int
	retryAfter string
	took       time.Duration
}

// create makes one more user.
func (w *faultWorld) create(n int) answer {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.app.tenantURL(0)+"/Users",
		strings.NewReader(fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"user%d","title":"%s"}`, n, strings.Repeat("t", 300))))
	if err != nil {
		return answer{}
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	req.Header.Set("Content-Type", "application/scim+json")
	began := time.Now()
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Errorf("write %d: %v", n, err)
		return answer{}
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		w.t.Errorf("write %d: %v", n, err)
	}
	if resp.StatusCode == http.StatusCreated {
		w.created.Add(1)
	}
	return answer{resp.StatusCode, resp.Header.Get("Retry-After"), time.Since(began)}
}

// load writes 25 times a second, whatever becomes of it, for a while, and returns the answers.
func (w *faultWorld) load(lasts time.Duration) []answer {
	w.t.Helper()
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	var wg sync.WaitGroup
	answers := make([]answer, int(lasts/(40*time.Millisecond)))
	for i := range answers {
		<-tick.C
		n := w.users
		w.users++
		wg.Go(func() { answers[i] = w.create(n) })
	}
	wg.Wait()
	return answers
}

// upstream is how many writes reached the upstream.
func (w *faultWorld) upstream() int64 { return int64(w.sim.Count(scim.OpCreate)) }

func (w *faultWorld) get(url, token string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// sinkState is what /readyz says of a sink.
type sinkState struct {
	Taken   int64
	Problem string
}

func (w *faultWorld) ready() (status int, sinks map[string]sinkState) {
	w.t.Helper()
	status, text := w.get(w.app.adminURL()+"/readyz", "")
	var body struct{ Sinks map[string]sinkState }
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		w.t.Fatal(err)
	}
	return status, body.Sinks
}

// toldOf reports whether everything that tells of a sink's trouble does: /readyz, the metric, and the log behind a place.
func (w *faultWorld) toldOf(name string, logged int) bool {
	w.t.Helper()
	_, sinks := w.ready()
	if sinks[name].Problem == "" {
		return false
	}
	_, metrics := w.get(w.app.adminURL()+"/metrics", "")
	if !strings.Contains(metrics, fmt.Sprintf("scimgate_sink_healthy{sink=%q} 0", name)) {
		return false
	}
	for line := range strings.SplitSeq(w.log.text()[logged:], "\n") {
		if strings.Contains(line, `"level":"ERROR"`) && strings.Contains(line, fmt.Sprintf(`"sink":%q`, name)) {
			return true
		}
	}
	return false
}

// caughtUp waits until every sink has everything and nothing is wrong.
func (w *faultWorld) caughtUp() {
	w.t.Helper()
	within(w.t, 60*time.Second, "every sink has everything", func() bool {
		head, err := w.app.feedReader.Head(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		_, sinks := w.ready()
		for _, s := range sinks {
			if s.Problem != "" || s.Taken < head {
				return false
			}
		}
		return true
	})
}

// within waits for a condition, and returns how long it took.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Since(began) > limit {
			t.Errorf("after %v: not true that %s", limit, what)
			return limit
		}
		<-tick.C
	}
	return time.Since(began)
}

// keep copies the file sink's file, as whoever deletes or cuts it does before.
func (w *faultWorld) keep() {
	w.t.Helper()
	text, err := os.ReadFile(w.file())
	if err != nil {
		w.t.Fatal(err)
	}
	w.kept = append(w.kept, w.write(fmt.Sprintf("kept-%d", len(w.kept)), text))
}

func (w *faultWorld) write(name string, text []byte) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// verify stops the gateway, and verifies what each sink was given with the public key alone: every record, in order, with
// a checkpoint over all of them at the end.
func (w *faultWorld) verify() {
	w.t.Helper()
	if err := w.app.stop(); err != nil {
		w.t.Error(err)
	}
	if got, want := w.upstream(), w.created.Load(); got != want {
		w.t.Errorf("%d writes reached the upstream, and %d were answered 201", got, want)
	}
	_, key, _ := signingFiles(w.app.cfg.KeyFile)
	var out, errOut bytes.Buffer
	if code := run(context.Background(), []string{"audit", "verify", "--database", w.database, "--key", key}, nil, &out, &errOut, noEnv); code != exitOK {
		w.t.Fatalf("the database: %s", errOut.String())
	}
	records := recordsOf(out.String())
	files := map[string][]string{
		"file": append(w.kept, w.file()), "siem": w.siem.files(w), "hook": {w.write("hook", w.hook.taken())},
	}
	if w.tiny != "" {
		files["full"] = []string{filepath.Join(w.tiny, "trail.jsonl")}
	}
	for name, list := range files {
		var out, errOut bytes.Buffer
		code := run(context.Background(), append([]string{"audit", "verify", "--key", key, "--sink"}, list...), nil, &out, &errOut, noEnv)
		if code != exitOK || recordsOf(out.String()) != records || strings.Contains(out.String(), "not signed") {
			w.t.Errorf("sink %s: got exit code %d, %s%s, want all %s records, all signed", name, code, out.String(), errOut.String(), records)
			continue
		}
		w.t.Logf("sink %-4s: %s", name, strings.Join(strings.Fields(out.String())[12:], " "))
	}
}

// recordsOf is the number of records that `audit verify` prints.
func recordsOf(out string) string {
	_, rest, _ := strings.Cut(out, "records ")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), ",")
	return number
}

// collector is a syslog server, with small buffers, that can stop to read.
type collector struct {
	line  net.Listener
	gate  sync.RWMutex // held for writing while it hangs
	mu    sync.Mutex
	parts []*bytes.Buffer // of each connection, the messages' texts
	conns []net.Conn
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if failed := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) }); failed != nil {
			return failed
		}
		return err
	}}
	line, err := small.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{line: line}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := line.Accept()
			if err != nil {
				return
			}
			part := &bytes.Buffer{}
			c.mu.Lock()
			c.parts, c.conns = append(c.parts, part), append(c.conns, conn)
			c.mu.Unlock()
			running.Go(func() { c.read(conn, part) })
		}
	})
	t.Cleanup(func() {
		line.Close()
		c.kill()
		running.Wait()
	})
	return c
}

// pass waits while the collector hangs.
func (c *collector) pass() {
	c.gate.RLock()
	defer c.gate.RUnlock()
}

func (c *collector) read(conn net.Conn, part *bytes.Buffer) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 1<<10)
	for {
		c.pass()
		digits, err := in.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSpace(digits))
		if err != nil {
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(in, message); err != nil {
			return
		}
		_, text, _ := bytes.Cut(message, []byte(" - {"))
		c.mu.Lock()
		part.WriteString("{" + string(text) + "\n")
		c.mu.Unlock()
	}
}

// kill ends every connection.
func (c *collector) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
}

// files are the connections' messages, in their order.
func (c *collector) files(w *faultWorld) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all bytes.Buffer
	for _, part := range c.parts {
		all.Write(part.Bytes())
	}
	return []string{w.write("siem", all.Bytes())}
}

// receiver is a webhook that can fail.
type receiver struct {
	server *httptest.Server
	fault  atomic.Pointer[http.HandlerFunc] // nil: it takes what comes
	mu     sync.Mutex
	lines  bytes.Buffer
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		if fault := r.fault.Load(); fault != nil {
			(*fault)(rw, req)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lines.Write(body)
	}))
	t.Cleanup(r.server.Close)
	return r
}

// failing lets it do something else until the returned function is called.
func (r *receiver) failing(h http.HandlerFunc) (mend func()) {
	r.fault.Store(&h)
	return func() { r.fault.Store(nil) }
}

func (r *receiver) taken() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines.Bytes())
}
