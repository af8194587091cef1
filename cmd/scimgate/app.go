package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"scimgate/config"
	"scimgate/gateway"
	"scimgate/gateway/audit"
	"scimgate/gateway/console"
	"scimgate/gateway/store"
	"scimgate/gateway/upstream"
)

// app is a running gateway: the rooms of one configuration, wired.
type app struct {
	cfg      *config.Config
	log      *slog.Logger
	store    *store.Store
	signer   *audit.Signer
	signing  *audit.Checkpointer
	metrics  *gateway.Metrics
	gateways []*gateway.Gateway
	clients  []*upstream.Client
	sealer   *audit.Sealer // nil: values are not sealed
	reader   *store.Reader // the console's
	console  *console.Console
	draining atomic.Bool

	scim, admin         *http.Server
	scimLine, adminLine net.Listener
	running             sync.WaitGroup
	failed              chan error // a listener that gave up
	stopReconcile       context.CancelFunc

	feeds       *audit.Feeds  // to the trail's sinks
	feedReader  *store.Reader // theirs, and the alerts'
	alerts      *audit.Alerts
	stopFeeding func() // returns when the sinks have what is left
	stopSigning func() // returns when the end of the trail is signed
}

// open makes everything that the configuration asks for and listens, without answering yet. What was opened before
// an error is closed again.
func open(ctx context.Context, cfg *config.Config, log *slog.Logger) (_ *app, err error) {
	a := &app{cfg: cfg, log: log, failed: make(chan error, 2), stopReconcile: func() {}, stopFeeding: func() {}, stopSigning: func() {}}
	defer func() {
		if err != nil {
			_ = a.release()
		}
	}()
	for _, w := range append(cfg.Warnings, unknownPaths(cfg)...) {
		log.Warn(w)
	}
	if a.store, err = store.Open(ctx, store.Config{Path: cfg.Database, Logger: log}); err != nil {
		return nil, err
	}
	keys, err := audit.LoadOrCreateKeys(cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	if err := a.openSigner(ctx); err != nil {
		return nil, err
	}
	a.metrics = gateway.NewMetrics(a.store)
	if err := a.openSinks(ctx); err != nil {
		return nil, err
	}
	if err := a.openAlerts(); err != nil {
		return nil, err
	}
	redactor := audit.NewRedactor(audit.RedactorConfig{Keys: keys, Public: cfg.Privacy.Public, Secret: cfg.Privacy.Secret, Seal: cfg.Privacy.Seal})
	if err := a.openSealer(ctx); err != nil {
		return nil, err
	}
	private, _, _ := signingFiles(cfg.KeyFile)
	a.warnReadable(cfg.KeyFile, masterFile(cfg.KeyFile), private)
	a.metrics.WatchSigning(a.signing.Healthy)
	door := gateway.DoorConfig{
		PublicURL: cfg.PublicURL, Body: cfg.Limits.Body, Concurrent: cfg.Limits.Concurrent, Wait: cfg.Limits.Wait, Logger: log,
	}
	for i := range cfg.Connections {
		g, err := a.connect(&cfg.Connections[i], redactor)
		if err != nil {
			return nil, err
		}
		conn := gateway.DoorConnection{Path: cfg.Connections[i].Path, Gateway: g}
		for _, t := range cfg.Connections[i].Tokens {
			conn.Tokens = append(conn.Tokens, gateway.Token{Name: t.Name, SHA256: t.SHA256, Expires: t.Expires})
		}
		door.Connections = append(door.Connections, conn)
	}
	admin := gateway.AdminConfig{Store: a.store, Metrics: a.metrics, Gateways: a.gateways, Feeds: a.feeds, Draining: a.draining.Load,
		Signed: a.signing.Healthy, PublicKey: a.signer.PublicKey()}
	if cfg.Admin.Token != nil {
		admin.Token = func() (string, error) {
			s, err := cfg.Admin.Token.Get()
			return s.Reveal(), err
		}
	}
	if err := a.openConsole(ctx, admin.Token); err != nil {
		return nil, err
	}
	admin.Console, admin.Trail, admin.Hosts = a.console, a.reader, cfg.Admin.Hosts
	if a.scim, a.scimLine, err = a.listen(ctx, cfg.Listen, cfg.TLS, gateway.NewDoor(door)); err != nil {
		return nil, fmt.Errorf("the SCIM listener: %w", err)
	}
	if a.admin, a.adminLine, err = a.listen(ctx, cfg.Admin.Listen, cfg.Admin.TLS, gateway.NewAdmin(admin)); err != nil {
		return nil, fmt.Errorf("the admin listener: %w", err)
	}
	return a, nil
}

// signEvery leaves time to sign and to hand over: a checkpoint in a sink is at most a second old.
const signEvery = 750 * time.Millisecond

// openSigner makes what signs the trail. The private key stays outside the database, so that whoever can change that
// cannot sign; the public key stands beside it for those who verify.
func (a *app) openSigner(ctx context.Context) (err error) {
	private, public, kept := signingFiles(a.cfg.KeyFile)
	if a.signer, err = audit.SignerFor(ctx, a.store, private); err != nil {
		return err
	}
	if err := a.signer.WritePublicKey(public); err != nil {
		return err
	}
	a.signing, err = audit.NewCheckpointer(audit.CheckpointerConfig{
		Store: a.store, Signer: a.signer, Kept: kept, Logger: a.log,
		Every:  signEvery,
		Signed: func(*audit.Checkpoint) { a.feeds.Wake() }, // it signs when there are feeds
	})
	return err
}

// signingFiles are the files of the key pair that signs the trail, and of the newest checkpoint, beside the trail's other
// key.
func signingFiles(keyFile string) (private, public, kept string) {
	base := strings.TrimSuffix(keyFile, ".key")
	return base + ".signing-key", base + ".public-key", base + ".checkpoint"
}

// startSigning signs until stopSigning is called.
func (a *app) startSigning(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	a.signing.Check(ctx)
	go func() {
		defer close(ended)
		a.signing.Run(ctx)
	}()
	a.stopSigning = func() { cancel(); <-ended }
}

// connect makes the path of one connection.
func (a *app) connect(c *config.Connection, redactor *audit.Redactor) (*gateway.Gateway, error) {
	up, err := upstream.New(upstream.Config{
		BaseURL: c.Upstream.URL, Profile: c.Profile, Token: c.Upstream.Token, CAFile: c.Upstream.CAFile,
		RequestsPerSecond: c.Upstream.RequestsPerSecond, InFlight: c.Upstream.InFlight, Queue: c.Upstream.Queue,
		QueueWait: c.Upstream.QueueWait, Timeout: c.Upstream.Timeout, Deadline: c.Upstream.Deadline, MaxBody: c.Upstream.MaxBody,
		Observe:   a.metrics.Attempt(c.Name),
		OnBreaker: func(from, to string) { a.event("breaker", fmt.Sprintf("circuit %s, was %s", to, from), c.Name) },
	})
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", c.Name, err)
	}
	a.clients = append(a.clients, up)
	a.metrics.Watch(c.Name, up)
	g, err := gateway.New(gateway.Config{
		Name: c.Name, Profile: c.Profile, Upstream: up, UpstreamName: strings.TrimRight(c.Upstream.URL, "/"), Store: a.store,
		Redactor: redactor, Sealer: a.sealer, Feeds: a.feeds, Metrics: a.metrics, Logger: a.log, Deadline: c.Upstream.Deadline + c.Upstream.QueueWait,
	})
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", c.Name, err)
	}
	a.gateways = append(a.gateways, g)
	return g, nil
}

func (a *app) listen(ctx context.Context, address string, files config.TLS, handler http.Handler) (*http.Server, net.Listener, error) {
	line, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	if files.Cert != "" {
		c := &certificate{files: files, log: a.log}
		if _, err := c.get(nil); err != nil {
			_ = line.Close()
			return nil, nil, err
		}
		line = tls.NewListener(line, &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: []string{"http/1.1"},
		})
	}
	return gateway.NewServer(handler, a.log), line, nil
}

// start answers requests and takes over what a process that died left open.
func (a *app) start(ctx context.Context) error {
	a.startSigning(ctx)
	taken, err := a.store.TakeOver(ctx)
	if err != nil {
		return err
	}
	if len(taken) > 0 {
		a.log.Warn("writes of a process that died are unknown: the upstream is asked", "count", len(taken))
	}
	a.startFeeding(ctx)
	reconcile, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.stopReconcile = cancel
	for _, g := range a.gateways {
		a.running.Go(func() { g.Reconcile(reconcile) })
	}
	a.running.Go(func() { a.console.Run(reconcile) })
	a.running.Go(func() { a.doErrands(reconcile) })
	a.running.Go(func() { a.alerts.Run(reconcile) })
	for server, line := range map[*http.Server]net.Listener{a.scim: a.scimLine, a.admin: a.adminLine} {
		a.running.Go(func() {
			if err := server.Serve(line); !errors.Is(err, http.ErrServerClosed) {
				a.failed <- fmt.Errorf("a listener gave up: %w", err)
			}
		})
	}
	a.event("started", version()+" answers", "")
	return nil
}

// event records what belongs to no request.
func (a *app) event(action, text, connection string) {
	a.log.Info(text, "event", action, "connection", connection)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	rec := &audit.Record{Kind: audit.Event, Action: action, Connection: connection,
		Findings: []audit.Finding{{Rule: "process", Verdict: audit.Remark, Reason: text}}}
	if _, err := a.store.Append(ctx, rec); err != nil && !errors.Is(err, store.ErrClosed) {
		a.log.Error("an event cannot be recorded", "event", action, "error", err)
	}
}

// wait blocks until ctx ends or a listener gives up.
func (a *app) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-a.failed:
		return err
	}
}

// stop drains: readiness turns red, admitted requests finish within the drain time-out, everything is stored.
func (a *app) stop() error {
	a.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Limits.DrainTimeout)
	defer cancel()
	err := a.scim.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("requests were still under way after %s: %w", a.cfg.Limits.DrainTimeout, err)
		_ = a.scim.Close()
	}
	a.stopReconcile()
	a.event("stopped", "scimgate stops", "")
	_ = a.admin.Close()
	return errors.Join(err, a.release())
}

func (a *app) release() error {
	a.stopReconcile()
	for _, line := range []net.Listener{a.scimLine, a.adminLine} {
		if line != nil {
			_ = line.Close() // closed already where its server was
		}
	}
	a.running.Wait()
	for _, c := range a.clients {
		c.Close()
	}
	a.stopSigning() // after all that may still be recorded
	a.stopFeeding() // after all that may still be recorded
	var err error
	for _, r := range []*store.Reader{a.reader, a.feedReader} {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
	}
	if a.store == nil {
		return err
	}
	return errors.Join(err, a.store.Close())
}

// listenerURL is the address of a listener for people: a wildcard becomes loopback.
func listenerURL(line net.Listener, secure bool) string {
	host, port, _ := net.SplitHostPort(line.Addr().String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, port)
}

func (a *app) tenantURL(i int) string {
	base := a.cfg.PublicURL
	if base == "" {
		base = listenerURL(a.scimLine, a.cfg.TLS.Cert != "")
	}
	return base + a.cfg.Connections[i].Path
}

func (a *app) adminURL() string { return listenerURL(a.adminLine, a.cfg.Admin.TLS.Cert != "") }

// certificate is a key pair that is read again when its files change. One that cannot be read leaves the old one
// in place.
type certificate struct {
	files config.TLS
	log   *slog.Logger

	mu      sync.Mutex
	changed [2]time.Time
	pair    *tls.Certificate
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var changed [2]time.Time
	for i, name := range []string{c.files.Cert, c.files.Key} {
		if info, err := os.Stat(name); err == nil {
			changed[i] = info.ModTime()
		}
	}
	if c.pair != nil && changed == c.changed {
		return c.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	switch {
	case err == nil:
		c.pair, c.changed = &pair, changed
	case c.pair == nil:
		return nil, fmt.Errorf("read the certificate: %w", err)
	default:
		c.log.Error("the new certificate cannot be read: the old one stays", "error", err)
		c.changed = changed
	}
	return c.pair, nil
}
