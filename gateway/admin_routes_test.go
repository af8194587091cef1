package gateway

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// Every route of the admin listener but health refuses who comes without the token, under somebody else's name or from
// another site's page, whatever proxies claim; and the SCIM listener has none of them. The console has a sign-in of its own
// and a walk of its own routes; here it stands for a handler that lets everybody in.
func TestEveryAdminRouteIsGuarded(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	token := "admin-token"
	cfg := AdminConfig{
		Store: p.store, Trail: &p.store.Reader, Metrics: p.metrics, Gateways: []*Gateway{p.gateway}, Hosts: []string{"gate.example"}, PublicKey: "scimgate.trail/1+2+3",
		Token:   func() (string, error) { return token, nil },
		Console: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
	}
	admin := NewAdmin(cfg)
	good := map[string]string{"Host": "localhost:9090", "Authorization": "Bearer admin-token"}
	routes := cfg.routes()
	if len(routes) < 8 {
		t.Fatalf("got %d routes, want all", len(routes))
	}
	for pattern := range routes {
		method, path, found := strings.Cut(pattern, " ")
		if !found {
			method, path = http.MethodGet, pattern
		}
		path = strings.NewReplacer("{id}", "1", "{$}", "").Replace(path)
		if slices.Contains([]string{"/healthz", "/readyz", "/console/", "/"}, path) { // the last leads to the one before, and tells nothing
			continue
		}
		for _, c := range []struct {
			what, name, value string
			want              int
		}{
			{"nothing wrong", "", "", 0},
			{"a configured name", "Host", "Gate.example:9090", 0},
			{"no token", "Authorization", "", http.StatusUnauthorized},
			{"an empty token", "Authorization", "Bearer ", http.StatusUnauthorized},
			{"a wrong token", "Authorization", "Bearer admin-tokem", http.StatusUnauthorized},
			{"the Secret Token", "Authorization", "Bearer " + testToken, http.StatusUnauthorized},
			{"a foreign Host", "Host", "evil.example", http.StatusMisdirectedRequest},
			{"a rebound Host", "Host", "127.0.0.1.evil.example:9090", http.StatusMisdirectedRequest},
			{"a foreign Origin", "Origin", "https://evil.example", http.StatusForbidden},
			{"no Origin to speak of", "Origin", "null", http.StatusForbidden},
			{"another site", "Sec-Fetch-Site", "cross-site", http.StatusForbidden},
			{"a forwarded Host", "X-Forwarded-Host", "evil.example", 0},
		} {
			headers := map[string]string{}
			for name, value := range good {
				headers[name] = value
			}
			if c.name != "" {
				headers[c.name] = c.value
			}
			r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, nil)
			for name, value := range headers {
				r.Header.Set(name, value)
			}
			r.Host = headers["Host"]
			w := httptest.NewRecorder()
			admin.ServeHTTP(w, r)
			refused := w.Code == http.StatusUnauthorized || w.Code == http.StatusMisdirectedRequest || w.Code == http.StatusForbidden
			if c.want != 0 && w.Code != c.want || c.want == 0 && refused {
				t.Errorf("%s with %s: got %d %s, want %d", pattern, c.what, w.Code, w.Body, c.want)
			}
		}
		if got := p.do(method, path, "", "Authorization", "Bearer admin-token"); got.status != http.StatusNotFound && got.status != http.StatusUnauthorized {
			t.Errorf("%s on the SCIM listener: got %d, want 404 or 401", pattern, got.status)
		}
		token = "" // a token that became empty lets nobody in
		r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost"+path, nil)
		r.Header.Set("Authorization", "Bearer ")
		w := httptest.NewRecorder()
		if admin.ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
			t.Errorf("%s with an empty admin token: got %d, want 401", pattern, w.Code)
		}
		token = "admin-token"
	}
}
