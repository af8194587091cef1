package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/goleak"

	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
	"scimgate/gateway/store"
	"scimgate/gateway/upstream"
)

// childConfig is the variable with a helper process's settings.
const childConfig = "SCIMGATE_TEST_GATEWAY"

type childSettings struct {
	Database string
	Upstream string // base URL
	InFlight int
}

// The points of a write at which a gateway is killed, in their order.
const (
	intentCommitted  = "intent-committed"
	requestSent      = "request-sent"
	upstreamAnswered = "upstream-answered"
	outcomeCommitted = "outcome-committed"
	answerWritten    = "answer-written"
)

// crasher kills its own process at a point of the path.
type crasher struct {
	mu    sync.Mutex
	point string // "": never
	left  int    // times that the point is passed before

	trail sync.RWMutex // held for reading while an intent is opened or closed
	open  atomic.Int64 // intents, durably
}

func (c *crasher) arm(point string, passes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.point, c.left = point, passes
}

// at is called when a write is at a point. Except where the answer is written, the process dies only while an intent
// is open.
func (c *crasher) at(point string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if point != c.point {
		return
	}
	if c.left--; c.left > 0 {
		return
	}
	c.trail.Lock() // from here on no intent is opened or closed
	defer c.trail.Unlock()
	if point != answerWritten && c.open.Load() == 0 {
		return
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}

// watchedTrail tells the crasher of intents and outcomes.
type watchedTrail struct {
	recorder
	c *crasher
}

// Intend implements recorder.
func (w watchedTrail) Intend(ctx context.Context, rec *audit.Record, open store.OpenIntent) (int64, error) {
	w.c.trail.RLock()
	seq, err := w.recorder.Intend(ctx, rec, open)
	if err == nil {
		w.c.open.Add(1)
	}
	w.c.trail.RUnlock()
	if err == nil {
		w.c.at(intentCommitted)
	}
	return seq, err
}

// Conclude implements recorder.
func (w watchedTrail) Conclude(ctx context.Context, rec *audit.Record, changes ...identity.Change) (int64, error) {
	w.c.trail.RLock()
	seq, err := w.recorder.Conclude(ctx, rec, changes...)
	if err == nil {
		w.c.open.Add(-1)
	}
	w.c.trail.RUnlock()
	if err == nil {
		w.c.at(outcomeCommitted)
	}
	return seq, err
}

// watchedConn tells the crasher when a write was handed to the system.
type watchedConn struct {
	net.Conn
	c *crasher
}

// Write implements net.Conn. The client writes a small request in one piece.
func (w watchedConn) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if err == nil && !bytes.HasPrefix(b, []byte("GET ")) {
		w.c.at(requestSent)
	}
	return n, err
}

// upstreamTransport is the way to the upstream, with the points on it.
func (c *crasher) upstreamTransport() (transport http.RoundTripper, release func()) {
	inner := &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return watchedConn{conn, c}, err
		},
	}
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		res, err := inner.RoundTrip(r)
		if err == nil && r.Method != http.MethodGet {
			c.at(upstreamAnswered)
		}
		return res, err
	}), inner.CloseIdleConnections
}

// door tells the crasher when the answer to a write was handed to the system.
func (c *crasher) door(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if r.Method != http.MethodGet {
			_ = http.NewResponseController(w).Flush() // the client may be gone
			c.at(answerWritten)
		}
	})
}

// runChild is the helper process, wired as `scimgate serve` is. It prints one line, "listening ADDRESS" or "error TEXT",
// takes "POINT PASSES" from its standard input, and ends with SIGTERM or its standard input.
func runChild(config string) int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	var cfg childSettings
	err := json.Unmarshal([]byte(config), &cfg)
	if err == nil {
		err = serveChild(ctx, cfg)
	}
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	cancel()
	if err := goleak.Find(goleak.IgnoreAnyFunction("scimgate/gateway.listen")); err != nil {
		fmt.Println("error", err)
		return 1
	}
	return 0
}

func serveChild(ctx context.Context, cfg childSettings) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	st, err := store.Open(ctx, store.Config{Path: cfg.Database, Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	keys, err := audit.LoadOrCreateKeys(cfg.Database + ".key")
	if err != nil {
		return err
	}
	c := &crasher{}
	g, release, err := connectChild(cfg, st, audit.NewRedactor(audit.RedactorConfig{Keys: keys, Seal: true}), log, c)
	if err != nil {
		return err
	}
	defer release()
	door := NewDoor(DoorConfig{Logger: log, Connections: []DoorConnection{
		{Path: "/scim/v2", Gateway: g, Tokens: []Token{{Name: "entra", SHA256: sha256.Sum256([]byte(testToken))}}},
	}})
	line, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := st.TakeOver(ctx); err != nil {
		return errors.Join(err, line.Close())
	}
	reconcile, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { g.Reconcile(reconcile) })
	server := &http.Server{Handler: c.door(door), ReadHeaderTimeout: 10 * time.Second}
	running.Go(func() { _ = server.Serve(line) })
	go listen(c)
	fmt.Println("listening", line.Addr())

	<-ctx.Done()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	err = server.Shutdown(drain)
	stop()
	running.Wait()
	return err
}

// connectChild makes the helper's connection to the upstream, with the points on it.
func connectChild(cfg childSettings, st *store.Store, redactor *audit.Redactor, log *slog.Logger, c *crasher) (*Gateway, func(), error) {
	p, err := profile.Load("bluejeans")
	if err != nil {
		return nil, nil, err
	}
	p.Rate.RequestsPerSecond = 0
	transport, hangUp := c.upstreamTransport()
	metrics := NewMetrics(st)
	up, err := upstream.New(upstream.Config{
		BaseURL: cfg.Upstream, Profile: p, Token: secret.Literal(upstreamToken), InFlight: cfg.InFlight,
		Transport: transport, Observe: metrics.Attempt("test"),
	})
	if err != nil {
		return nil, nil, err
	}
	sealer, err := audit.NewSealer(audit.Keys{bytes.Repeat([]byte{8}, 32)}, st) // as newSealer does
	if err != nil {
		up.Close()
		return nil, nil, err
	}
	g, err := New(Config{
		Name: "test", Sealer: sealer, Profile: p, Upstream: up, UpstreamName: cfg.Upstream, Store: st, Redactor: redactor, Metrics: metrics, Logger: log,
	})
	if err != nil {
		up.Close()
		return nil, nil, err
	}
	g.trail = watchedTrail{g.trail, c}
	g.reconcileEvery, g.reconcileAfter = 20*time.Millisecond, 200*time.Millisecond
	return g, func() { up.Close(); hangUp() }, nil
}

// listen takes the parent's orders, and ends the process with the parent.
func listen(c *crasher) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var point string
		var passes int
		if _, err := fmt.Sscan(in.Text(), &point, &passes); err != nil {
			fmt.Fprintln(os.Stderr, "not understood:", in.Text())
			os.Exit(2)
		}
		c.arm(point, passes)
	}
	os.Exit(3)
}
