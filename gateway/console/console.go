// Package console is the web page of the admin listener: what the gateway is doing, the provisioning cycles that it
// recognises in its traffic, the history of one person, and the trail itself. It reads and never changes anything, beyond
// recording sign-ins and that sealed values were shown.
//
// Every page is written by the server and works without a script; the one script shows times in the reader's zone and
// adds what is new while a page is open (server-sent events). Nothing is loaded from elsewhere, and the
// Content-Security-Policy allows neither inline code nor inline styles. A page costs a bounded amount of work: what spans
// many records (plots, cycles, users by state) is kept in memory by one goroutine that follows the trail.
//
// Whatever came from outside is shown as text: html/template escapes markup, and characters that cannot be seen or that
// change the direction of text are written out.
//
// The package does not know how requests are carried (gateway), nor the SCIM protocol: it reads the language of the trail
// (gateway/audit).
package console

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// Base is the path below which every route of the console is.
const Base = "/console/"

// Trail is what the console reads records from. store.Reader and store.Store have it.
type Trail interface {
	// Search returns the records that q selects, and ends after an error.
	Search(ctx context.Context, q audit.Query) iter.Seq2[*audit.Record, error]
	// Follow returns the records that q selects after q.After, then waits for more until ctx ends.
	Follow(ctx context.Context, q audit.Query) iter.Seq2[*audit.Record, error]
	// Get returns the record at a place in the trail, or store.ErrNotFound.
	Get(ctx context.Context, seq int64) (*audit.Record, error)
	// Records calls each with at most limit records behind place after, as their bytes are stored.
	Records(ctx context.Context, after int64, limit int, each func(seq int64, record []byte) error) error
	// Stats counts what the trail holds.
	Stats(ctx context.Context) (store.Stats, error)
}

// Config says what a Console shows and whom it lets in.
type Config struct {
	// Trail is required.
	Trail Trail
	// Token gives the admin token, which people sign in with. It is asked anew for every page: when it changes,
	// everybody has to sign in again. Nil or an empty token: nobody can sign in, and the page says what to configure.
	Token func() (string, error)
	// Connections tells the state of the upstream of each connection. Nil: none is shown.
	Connections func() []Connection
	// Healthy tells why the trail cannot be written; nil when it can. Default: never asked.
	Healthy func() error
	// Signed tells why the trail is not signed; nil when it is. Default: never asked.
	Signed func() error
	// Sinks tells how far the trail's sinks are. Nil: there are none.
	Sinks func() []audit.SinkState
	// Hosts are names, without port, under which browsers reach the console, beside localhost and IP addresses. A
	// request for another name is refused: somebody else's name may lead here (DNS rebinding).
	Hosts []string
	// Event records sign-ins and refused ones; text has no personal value. Nil: they are not recorded.
	Event func(action, text string)
	// Checkpoint returns the newest signed checkpoint of the trail, the zero one as long as there is none. Nil: nobody
	// signs the trail.
	Checkpoint func(context.Context) (Checkpoint, error)
	// Proof returns the proof of the record at a place in the trail, as a file. Nil: none can be downloaded.
	Proof func(ctx context.Context, seq int64) ([]byte, error)
	// Unseal fills in the sealed values of a record, and returns without error only once it is durable that they are shown
	// to somebody. Nil: they cannot be shown.
	Unseal func(ctx context.Context, rec *audit.Record, by string) error
	// Version is shown at the foot of each page.
	Version string
	// Logger hears of pages that could not be made. Default: none.
	Logger *slog.Logger
	// Clock is the time. Default: time.Now.
	Clock func() time.Time
}

// Connection is the state of one connection and its upstream.
type Connection struct {
	Name, Profile     string
	Breaker           string        // closed, open or half-open
	Queued, InFlight  int           // requests that wait for admission; attempts under way
	Rate              float64       // requests per second that are permitted; 0: no pacing
	Taught            float64       // requests per second, as learned from the upstream's 429; 0: not at all
	HoldOff           time.Duration // until the end of the upstream's Retry-After; 0: none
	CredentialProblem string        // why the upstream cannot be logged in to; "" when nothing is known to be wrong
}

// Checkpoint is the newest signed statement about the trail.
type Checkpoint struct {
	Size int64 // records that it covers
	Time time.Time
}

//go:embed templates
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// Console is the page. It is an http.Handler for every path below Base.
type Console struct {
	cfg      Config
	door     http.Handler
	pages    map[string]*template.Template
	static   map[string]staticFile
	sessions *sessions
	attempts *attempts
	picture  *picture
	streams  chan struct{} // one place for each live stream

	tokenless, unsigned complaint
}

type staticFile struct {
	name, contentType, etag string
	body                    []byte
}

// mostStreams bounds the live streams: each looks into the trail four times a second.
const mostStreams = 24

// New makes a Console. Run has to be called beside it.
func New(cfg Config) (*Console, error) {
	if cfg.Trail == nil {
		return nil, errors.New("make the console: Trail is required")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Event == nil {
		cfg.Event = func(string, string) {}
	}
	if cfg.Connections == nil {
		cfg.Connections = func() []Connection { return nil }
	}
	for _, asked := range []*func() error{&cfg.Healthy, &cfg.Signed} {
		if *asked == nil {
			*asked = func() error { return nil }
		}
	}
	if cfg.Sinks == nil {
		cfg.Sinks = func() []audit.SinkState { return nil }
	}
	c := &Console{
		cfg: cfg, sessions: newSessions(cfg.Clock), attempts: newAttempts(cfg.Clock), picture: newPicture(),
		streams: make(chan struct{}, mostStreams),
	}
	if err := c.loadStatic(); err != nil {
		return nil, err
	}
	if err := c.loadPages(); err != nil {
		return nil, err
	}
	c.door = c.handler()
	return c, nil
}

// routes is every route by its pattern, without Base. Those of open need no sign-in.
func (c *Console) routes() (open, pages map[string]http.HandlerFunc) {
	open = map[string]http.HandlerFunc{"GET static/{name}": c.serveStatic, "GET sign-in": c.signInPage, "POST sign-in": c.signIn}
	pages = map[string]http.HandlerFunc{
		"POST sign-out": c.signOut, "GET {$}": c.overviewPage, "GET cycles": c.cyclesPage, "GET users": c.usersPage, "GET user": c.userPage,
		"GET trail": c.trailPage, "GET trail/{seq}": c.recordPage, "GET trail/{seq}/record.json": c.recordFile,
		"GET live/trail": c.liveTrail, "GET live/overview": c.liveOverview, "GET live/cycles": c.liveCycles,
		"GET ": func(w http.ResponseWriter, r *http.Request) {
			c.problem(w, r, http.StatusNotFound, "There is no such page", "The address may have been mistyped. Everything that there is can be reached from the line at the top.")
		},
	}
	if c.cfg.Proof != nil {
		pages["GET trail/{seq}/proof.json"] = c.proofFile
	}
	if c.cfg.Unseal != nil {
		pages["POST trail/{seq}/values"] = c.valuesPage
	}
	return open, pages
}

// handler is the way to the routes: what another site has made a browser ask for is refused first.
func (c *Console) handler() http.Handler {
	open, pages := c.routes()
	outer, inner := http.NewServeMux(), http.NewServeMux()
	for mux, routes := range map[*http.ServeMux]map[string]http.HandlerFunc{outer: open, inner: pages} {
		for pattern, handler := range routes {
			method, path, _ := strings.Cut(pattern, " ")
			mux.HandleFunc(method+" "+Base+path, handler)
		}
	}
	outer.Handle(Base, c.needsSession(inner))
	return c.headers(c.refuseForeign(outer))
}

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.door.ServeHTTP(w, r) }

// Run follows the trail until ctx ends: without it plots, cycles and users by state stay empty.
func (c *Console) Run(ctx context.Context) { c.picture.follow(ctx, c.cfg.Trail, c.cfg.Logger) }

func (c *Console) loadStatic() error {
	types := map[string]string{
		"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8", "mark.svg": "image/svg+xml",
	}
	c.static = map[string]staticFile{}
	for name, contentType := range types {
		body, err := fs.ReadFile(staticFiles, "static/"+name)
		if err != nil {
			return fmt.Errorf("make the console: %w", err)
		}
		sum := sha256.Sum256(body)
		c.static[name] = staticFile{name, contentType, `"` + hex.EncodeToString(sum[:8]) + `"`, body}
	}
	return nil
}

func (c *Console) loadPages() error {
	c.pages = map[string]*template.Template{}
	layout, err := template.New("layout.html").Funcs(c.functions()).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return fmt.Errorf("make the console: %w", err)
	}
	for _, name := range []string{"sign-in", "problem", "overview", "cycles", "users", "user", "trail", "record"} {
		page, err := layout.Clone()
		if err == nil {
			page, err = page.ParseFS(templateFiles, "templates/"+name+".html")
		}
		if err != nil {
			return fmt.Errorf("make the console: %w", err)
		}
		c.pages[name] = page
	}
	return nil
}

// serveStatic serves the style sheet, the script and the mark. A browser asks again each time whether they changed.
func (c *Console) serveStatic(w http.ResponseWriter, r *http.Request) {
	file, ok := c.static[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", file.contentType)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", file.etag)
	if r.Header.Get("If-None-Match") == file.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(file.body) // the client is gone when this fails
}
