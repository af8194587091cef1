package gateway

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"scimgate/gateway/store"
)

// AdminConfig is the admin listener's handler.
type AdminConfig struct {
	Store    *store.Store // Required
	Metrics  *Metrics     // Required
	Gateways []*Gateway
	// Token gives the bearer token that everything but health and readiness asks for; nil asks for none, which is
	// for loopback only.
	Token func() (string, error)
	// Draining reports that the process is about to stop.
	Draining func() bool
	// Signed says why the trail is not signed, nil while it is; nil for a trail that nobody signs.
	Signed func() error
	// PublicKey is the key that the trail is signed with, as text.
	PublicKey string
}

// NewAdmin makes the handler of the admin listener: /healthz and /readyz, open, /metrics and /audit/public-key. None of
// its routes exists on the SCIM listener.
func NewAdmin(cfg AdminConfig) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		status, body := cfg.readiness()
		writeJSON(w, status, body)
	})
	mux.Handle("GET /metrics", cfg.guard(cfg.Metrics.handler()))
	mux.Handle("GET /audit/public-key", cfg.guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, cfg.PublicKey+"\n") // the client is gone when this fails
	})))
	return mux
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
