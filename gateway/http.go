package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

// DoorConfig is the SCIM listener's handler.
type DoorConfig struct {
	Connections []DoorConnection // at least one
	PublicURL   string           // scheme and host of every location; "": the request's own
	Body        int64            // largest request body in bytes. Default: scim.MaxBody
	Concurrent  int              // requests worked on at a time. Default: 256
	Wait        time.Duration    // how long a request waits for its turn. Default: 10 s
	Logger      *slog.Logger     // Required
}

// DoorConnection is one connection at the door.
type DoorConnection struct {
	Path    string // SCIM base path, "/scim/v2"
	Tokens  []Token
	Gateway *Gateway
}

type door struct {
	cfg       DoorConfig
	admission *admission
}

// NewDoor makes the handler of the SCIM listener. In this order: authentication, before anything of the body is
// read; admission; reading; Gateway.Do; the answer. Every answer is SCIM, also those of the router.
func NewDoor(cfg DoorConfig) http.Handler { return squeeze(newRouter(cfg)) }

func newRouter(cfg DoorConfig) *gin.Engine {
	if cfg.Body <= 0 {
		cfg.Body = scim.MaxBody
	}
	if cfg.Concurrent <= 0 {
		cfg.Concurrent = 256
	}
	if cfg.Wait <= 0 {
		cfg.Wait = 10 * time.Second
	}
	d := &door{cfg: cfg, admission: newAdmission(cfg.Concurrent, cfg.Wait)}
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.RedirectTrailingSlash, r.RedirectFixedPath = false, false
	r.UseRawPath, r.UnescapePathValues = true, false
	r.HandleMethodNotAllowed = true
	if err := r.SetTrustedProxies(nil); err != nil {
		panic(err) // cannot be: nil is what the documentation asks for
	}
	r.Use(d.recover)
	r.NoRoute(func(c *gin.Context) {
		scim.WriteError(c.Writer, scim.Errorf(http.StatusNotFound, "", "there is nothing here: the SCIM base path is another"), requestID(c))
	})
	handlers := map[string]gin.HandlerFunc{}
	for _, conn := range cfg.Connections {
		handle := d.handler(conn)
		handlers[conn.Path] = handle
		for _, method := range []string{
			http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
			http.MethodConnect, http.MethodTrace,
		} {
			r.Handle(method, conn.Path, handle)
			r.Handle(method, conn.Path+"/*rest", handle)
		}
	}
	// A method that nobody has heard of meets the same door as all others.
	r.NoMethod(func(c *gin.Context) {
		c.Writer.Header().Del("Allow") // the router's list, which is not the endpoint's
		for path, handle := range handlers {
			if strings.HasPrefix(c.Request.URL.EscapedPath()+"/", path+"/") {
				handle(c)
				return
			}
		}
	})
	return r
}

// squeeze takes double slashes out of the path before it is routed: Tenant URLs end in a slash now and then. A
// slash that is escaped inside a segment stays what it is.
func squeeze(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := r.URL.EscapedPath(); strings.Contains(path, "//") {
			for strings.Contains(path, "//") {
				path = strings.ReplaceAll(path, "//", "/")
			}
			u := *r.URL
			u.RawPath = path
			u.Path, _ = url.PathUnescape(path) // it was made by escaping
			r2 := *r
			r2.URL = &u
			r = &r2
		}
		next.ServeHTTP(w, r)
	})
}

// writeTimeout is how long a request takes at most, from its headers to the end of its answer.
const writeTimeout = 2 * time.Minute

// NewServer makes the HTTP server of a listener. A client that sends its headers for longer than 10 s or a request
// for longer than 30 s is not waited for, and headers are at most 32 KiB (and the 4 KiB that net/http adds).
func NewServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: writeTimeout,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

const requestIDKey = "request id"

// requestID names the request. A client's own X-Request-Id is not taken: it would let clients write into the
// trail what others are found by.
func requestID(c *gin.Context) string {
	if id := c.GetString(requestIDKey); id != "" {
		return id
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	id := audit.NewID(time.Now(), random)
	c.Set(requestIDKey, id)
	c.Header("X-Request-Id", id)
	return id
}

func (d *door) recover(c *gin.Context) {
	defer func() {
		p := recover()
		switch {
		case p == nil:
		case p == http.ErrAbortHandler:
			panic(p)
		default:
			d.cfg.Logger.Error("panic at the door", "request", requestID(c), "stack", string(debug.Stack()))
			if !c.Writer.Written() {
				scim.WriteError(c.Writer, fmt.Errorf("panic: %T", p), requestID(c))
			}
		}
	}()
	c.Next()
}

func (d *door) handler(conn DoorConnection) gin.HandlerFunc {
	g := conn.Gateway
	return func(c *gin.Context) {
		origin := scim.Origin{Connection: g.Name, Source: c.RemoteIP(), RequestID: requestID(c), Base: d.base(c.Request, conn.Path)}
		resp, req, err := d.serve(c, conn, origin)
		if err != nil {
			if e, ok := errors.AsType[*scim.Error](err); ok && e.Status == http.StatusRequestEntityTooLarge {
				c.Header("Connection", "close")
			}
			scim.WriteError(c.Writer, err, origin.RequestID)
			return
		}
		scim.WriteResponse(c.Writer, req, resp, origin.Base)
	}
}

func (d *door) serve(c *gin.Context, conn DoorConnection, origin scim.Origin) (*scim.Response, *scim.Request, error) {
	g, r, arrived := conn.Gateway, c.Request, time.Now()
	credential, ok := authenticate(r.Header, conn.Tokens, time.Now())
	if !ok {
		return nil, nil, unauthenticated(c, g, origin)
	}
	origin.Credential = credential
	leave, err := d.admission.enter(r.Context())
	if err != nil {
		return nil, nil, g.Refuse(r.Context(), origin, r.Method, audit.Refused, err)
	}
	defer leave()
	req, err := d.read(r, conn)
	if err != nil {
		return nil, nil, g.Refuse(r.Context(), origin, r.Method, audit.Refused, err)
	}
	req.Origin = origin
	if req.Op == scim.OpBulk {
		resp, err := g.Bulk(r.Context(), req, arrived)
		return resp, req, err
	}
	resp, err := g.Do(r.Context(), req)
	return resp, req, err
}

// read reads a request. A panic in it is an error like others, so that the trail has it.
func (d *door) read(r *http.Request, conn DoorConnection) (req *scim.Request, err error) {
	defer func() {
		if p := recover(); p != nil {
			d.cfg.Logger.Error("panic while reading a request", "stack", string(debug.Stack()))
			req, err = nil, fmt.Errorf("panic: %T", p)
		}
	}()
	return scim.ReadRequest(r, strings.TrimPrefix(r.URL.EscapedPath(), conn.Path), conn.Gateway.Types(), d.cfg.Body)
}

// unauthenticated refuses a request without a valid token. A flood of them is recorded in part, with a count. The
// answer does not depend on the trail: without a token there is nothing else to say.
func unauthenticated(c *gin.Context, g *Gateway, origin scim.Origin) error {
	g.Metrics.refused.WithLabelValues(g.Name).Inc()
	c.Header("Connection", "close") // the body was not read
	refusal := scim.Errorf(http.StatusUnauthorized, "", "a valid Secret Token is required: Authorization: Bearer TOKEN")
	if g.strangers.take(time.Now()) {
		_ = g.Refuse(c.Request.Context(), origin, c.Request.Method, audit.Unauthenticated, refusal)
	}
	return refusal
}

// methodLabel is a method as the trail has it: what a client makes up may be anything.
func methodLabel(method string) string {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
		http.MethodConnect, http.MethodTrace:
		return method
	}
	return "OTHER"
}

// base is how the client reaches the connection.
func (d *door) base(r *http.Request, path string) string {
	if d.cfg.PublicURL != "" {
		return d.cfg.PublicURL + path
	}
	if r.TLS != nil {
		return "https://" + r.Host + path
	}
	return "http://" + r.Host + path
}
