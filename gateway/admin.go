package gateway

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// AdminConfig is the admin listener's handler.
type AdminConfig struct {
	Store   *store.Store // Required
	Metrics *Metrics     // Required
	// Trail is what the audit API reads, through connections of its own; nil: there is none.
	Trail    *store.Reader
	Gateways []*Gateway
	// Token gives the bearer token that everything but health and readiness asks for; nil asks for none, which is
	// for loopback only.
	Token func() (string, error)
	Feeds *audit.Feeds // the trail's sinks; nil: none
	// Hosts are names, without port, under which the audit API answers, beside localhost and IP addresses.
	Hosts []string
	// Draining reports that the process is about to stop.
	Draining func() bool
	// Signed says why the trail is not signed, nil while it is; nil for a trail that nobody signs.
	Signed func() error
	// PublicKey is the key that the trail is signed with, as text.
	PublicKey string
	// Console is the web page below /console/, with a sign-in of its own; nil for none.
	Console http.Handler
}

// NewAdmin makes the handler of the admin listener: /healthz and /readyz, open, /metrics, /audit/public-key, the audit API, and
// the console. None of its routes exists on the SCIM listener.
func NewAdmin(cfg AdminConfig) http.Handler {
	mux := http.NewServeMux()
	for pattern, handler := range cfg.routes() {
		mux.Handle(pattern, handler)
	}
	return mux
}

// routes is every route by its pattern. Health asks for nothing, and the console and the audit API look after themselves.
func (cfg *AdminConfig) routes() map[string]http.Handler {
	routes := map[string]http.Handler{
		"GET /healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, map[string]any{"status": "alive"})
		}),
		"GET /readyz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			status, body := cfg.readiness()
			writeJSON(w, status, body)
		}),
		"GET /metrics": cfg.own(cfg.guard(cfg.Metrics.handler())),
		"GET /audit/public-key": cfg.own(cfg.guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, cfg.PublicKey+"\n") // the client is gone when this fails
		}))),
	}
	if cfg.Trail != nil {
		cfg.auditAPI(routes)
	}
	if cfg.Console != nil {
		routes["/console/"] = cfg.Console
		routes["GET /{$}"] = http.RedirectHandler("/console/", http.StatusSeeOther) // also for who follows a link of another site
	}
	return routes
}

// readiness is red when a request could not be answered properly here: the trail cannot be written or contradicts its
// checkpoints, or the process is stopping. An upstream that is down does not make it red: the gateway is what has to answer then.
func (cfg *AdminConfig) readiness() (int, map[string]any) {
	status, word := http.StatusOK, "ready"
	body := map[string]any{"trail": "writable"}
	if err := cfg.Store.Healthy(); err != nil {
		status, word = http.StatusServiceUnavailable, "not ready"
		body["trail"] = err.Error()
	}
	if sinks, ready := cfg.sinks(); sinks != nil {
		body["sinks"] = sinks
		if !ready {
			status, word = http.StatusServiceUnavailable, "not ready"
		}
	}
	if cfg.Signed != nil {
		body["checkpoints"] = "signed"
		if err := cfg.Signed(); err != nil {
			status, word = http.StatusServiceUnavailable, "not ready"
			body["checkpoints"] = err.Error()
		}
	}
	if cfg.Draining != nil && cfg.Draining() {
		status, word = http.StatusServiceUnavailable, "stopping"
	}
	connections := map[string]any{}
	for _, g := range cfg.Gateways {
		s := g.Upstream.State()
		c := map[string]any{"breaker": s.Breaker, "queued": s.Queued, "inFlight": s.InFlight}
		if s.CredentialProblem != "" {
			c["credentials"] = s.CredentialProblem
		}
		connections[g.Name] = c
	}
	body["status"], body["connections"] = word, connections
	return status, body
}

// sinks tells how the trail's sinks are, nil when there are none. Only a required one that takes nothing makes the
// gateway unready.
func (cfg *AdminConfig) sinks() (states map[string]any, ready bool) {
	if cfg.Feeds == nil {
		return nil, true
	}
	for _, s := range cfg.Feeds.States() {
		if states == nil {
			states = map[string]any{}
		}
		state := map[string]any{"taken": s.Taken, "required": s.Required}
		if s.Problem != "" {
			state["problem"] = s.Problem
		}
		states[s.Name] = state
	}
	return states, cfg.Feeds.Ready() == nil
}

func (cfg *AdminConfig) guard(next http.Handler) http.Handler {
	if cfg.Token == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := cfg.Token()
		if err == nil {
			if _, ok := authenticate(r.Header, []Token{{Name: "admin", SHA256: sha256.Sum256([]byte(token))}}, time.Now()); ok {
				next.ServeHTTP(w, r)
				return
			}
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="admin"`)
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "the admin token is required: Authorization: Bearer TOKEN"})
	})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone when this fails
}
