package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
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
	strangers *sampler
}

// unauthenticatedPerSecond bounds the records of requests without a valid token.
const unauthenticatedPerSecond = 10

// NewDoor makes the handler of the SCIM listener. In this order: authentication, before anything of the body is
// read; admission; reading; Gateway.Do; the answer. Every answer is SCIM, also those of the router.
func NewDoor(cfg DoorConfig) http.Handler {
	if cfg.Body <= 0 {
		cfg.Body = scim.MaxBody
	}
	if cfg.Concurrent <= 0 {
		cfg.Concurrent = 256
	}
	if cfg.Wait <= 0 {
		cfg.Wait = 10 * time.Second
	}
	d := &door{cfg: cfg, admission: newAdmission(cfg.Concurrent, cfg.Wait), strangers: &sampler{perSecond: unauthenticatedPerSecond}}
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.RedirectTrailingSlash, r.RedirectFixedPath = false, false
	r.UseRawPath, r.UnescapePathValues = true, false
	r.ContextWithFallback = true
	if err := r.SetTrustedProxies(nil); err != nil {
		panic(err) // cannot be: nil is what the documentation asks for
	}
	r.Use(d.recover)
	r.NoRoute(func(c *gin.Context) {
		scim.WriteError(c.Writer, scim.Errorf(http.StatusNotFound, "", "there is nothing here: the SCIM base path is another"), requestID(c))
	})
	for _, conn := range cfg.Connections {
		handle := d.handler(conn)
		for _, method := range []string{
			http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
			http.MethodConnect, http.MethodTrace,
		} {
			r.Handle(method, conn.Path, handle)
			r.Handle(method, conn.Path+"/*rest", handle)
		}
	}
	return squeeze(r)
}

// squeeze takes double slashes out of the path before it is routed: Tenant URLs end in a slash now and then. A
// slash that is escaped inside a segment stays what it is.
func squeeze(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "//") {
			u := *r.URL
			u.Path = single(u.Path)
			u.RawPath = single(u.RawPath)
			r2 := *r
			r2.URL = &u
			r = &r2
		}
		next.ServeHTTP(w, r)
	})
}

func single(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
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
	g, r := conn.Gateway, c.Request
	credential, ok := authenticate(r.Header, conn.Tokens, time.Now())
	if !ok {
		return nil, nil, d.unauthenticated(c, g, origin)
	}
	origin.Credential = credential
	leave, err := d.admission.enter(r.Context())
	if err != nil {
		return nil, nil, g.Refuse(r.Context(), origin, r.Method, audit.Refused, err)
	}
	defer leave()
	path := strings.TrimPrefix(r.URL.EscapedPath(), conn.Path)
	req, err := scim.ReadRequest(r, path, g.Types(), d.cfg.Body)
	if err != nil {
		return nil, nil, g.Refuse(r.Context(), origin, methodLabel(r.Method), audit.Refused, err)
	}
	req.Origin = origin
	resp, err := g.Do(r.Context(), req)
	return resp, req, err
}

// unauthenticated refuses a request without a valid token. A flood of them is recorded in part, with a count.
func (d *door) unauthenticated(c *gin.Context, g *Gateway, origin scim.Origin) error {
	g.Metrics.refused.WithLabelValues(g.Name).Inc()
	c.Header("Connection", "close") // the body was not read
	refusal := scim.Errorf(http.StatusUnauthorized, "", "a valid Secret Token is required: Authorization: Bearer TOKEN")
	missed, ok := d.strangers.take(time.Now())
	if !ok {
		return refusal
	}
	if missed > 0 {
		refusal.Err = fmt.Errorf("%d requests without a valid token before this one were not recorded one by one", missed)
	}
	return g.Refuse(c.Request.Context(), origin, methodLabel(c.Request.Method), audit.Unauthenticated, refusal)
}

// methodLabel bounds what a client can write into the trail.
func methodLabel(method string) string {
	if len(method) > 16 {
		return "OTHER"
	}
	return method
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
