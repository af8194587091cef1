package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"scimgate/config/secret"
	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/gateway/upstream"
	"scimgate/transform/scim"
)

// Mistakes of other programs, and that they are not ours. CVE-2025-22871 is in TestRequestSmuggling; CVE-2024-45410,
// CVE-2026-29054 and CVE-2025-64484 are in TestOnlyListedHeadersTravel. Those of JWT and of key sets have nothing to be
// tried on while tokens are compared by their hash alone: CVE-2024-51744, CVE-2026-55669, CVE-2025-22149.
func TestCVE(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"CVE-2025-41115 numeric externalId became an internal id": numericExternalID,
		"CVE-2022-1680 account adopted by e-mail":                 adoptionByEMail,
		"CVE-2025-4210 SCIM route without authorisation":          routeWithoutAuthorisation,
		"ToolJet-16217 unset secret and empty bearer":             emptyBearer,
		"CVE-2025-30204 a token of dots":                          dots,
		"CVE-2020-28483 X-Forwarded-For spoofing":                 forwardedFor,
		"CVE-2020-36567 log-line injection":                       logInjection,
		"CVE-2023-45142 unknown methods explode metric labels":    methodLabels,
		"CVE-2026-39825 query parameters hidden from the proxy":   hiddenParameters,
		"CVE-2025-4673 credentials forwarded on redirect":         redirects,
		"CVE-2025-54576 path confusion around open routes":        pathConfusion,
		"CVE-2026-50197 policy skipped for chunked bodies":        chunkedPolicy,
		"CVE-2022-23469 Authorization in debug logs":              tokensInLogs,
	} {
		t.Run(name, test)
	}
}

func numericExternalID(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	admin := p.create("admin", `"externalId":"e-admin"`)
	if a := p.do("POST", "/Users", user("mallory", `"externalId":`+admin)); a.status != 400 {
		t.Errorf("a number as externalId: got %d %s, want it refused", a.status, a.text)
	}
	mallory := p.create("mallory", fmt.Sprintf(`"externalId":%q`, admin))
	if mallory == admin {
		t.Fatal("the externalId became the id")
	}
	p.finds(fmt.Sprintf(`externalId eq %q`, admin), 1, "mallory")
	p.finds(fmt.Sprintf(`id eq %q`, admin), 1, "admin")
	if a := p.do("GET", "/Users/"+admin, ""); a.get("userName") != "admin" {
		t.Errorf("got %v, want admin", a.get("userName"))
	}
	p.do("PATCH", "/Users/"+mallory, patch(`{"op":"replace","path":"externalId","value":"`+admin+`"},{"op":"replace","path":"title","value":"T"}`))
	p.do("DELETE", "/Users/"+mallory, "")
	if a := p.do("GET", "/Users/"+admin, ""); a.status != 200 || a.get("title") != nil || a.get("externalId") != "e-admin" {
		t.Errorf("got %d %s, want admin as it was", a.status, a.text)
	}
}

func adoptionByEMail(t *testing.T) {
	const mail = `"emails":[{"type":"work","value":"admin@example.com"}],"name":{"givenName":"A"}`
	p := newHarness(t, builtin(t, "generic"))
	admin := p.create("admin", mail)
	for _, kind := range []simulator.Kind{simulator.Lost, simulator.Reset} {
		stop := p.sim.Inject(simulator.Fault{Kind: kind, Op: scim.OpCreate})
		a := p.do("POST", "/Users", user("mallory-"+string(kind), mail))
		stop()
		if a.status < 400 && a.get("id") == admin {
			t.Errorf("%s: the create was answered with the user who has that e-mail", kind)
		}
	}
	a := p.do("POST", "/Users", user("mallory", mail))
	if a.status != 201 || a.get("id") == admin {
		t.Errorf("got %d %v, want another user", a.status, a.get("id"))
	}
	if a := p.do("GET", "/Users/"+admin, ""); a.get("userName") != "admin" {
		t.Errorf("got %v, want admin as before", a.get("userName"))
	}
}

func routeWithoutAuthorisation(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	id := p.create("ann", "")
	before := len(p.sim.Ledger())
	for _, target := range []string{
		"/Users", "/Users/" + id, "/users", "/Users/", "//Users", "/./Users", "/%55sers", "/Users%2F" + id, "/Users;a=b", "/Users/" + id + "?access_token=" + testToken,
		"/Groups", "/Schemas", "/ResourceTypes", "/ServiceProviderConfig", "/Me", "/Bulk", "/.search", "/Users/.search", "/rest/scim2/Users", "", "/",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
			for _, header := range []string{"", "X-Forwarded-User: admin\r\n", "Authorization: Basic YWRtaW46\r\n", "Authorization: Bearer undefined\r\n", "Cookie: token=" + testToken + "\r\n"} {
				answers := p.converse(method + " /scim/v2" + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + "\r\n")
				if len(answers) != 1 || answers[0].StatusCode != 401 && answers[0].StatusCode != 404 {
					t.Fatalf("%s %s with %q: got %v, want 401", method, target, header, answers)
				}
				if answers[0].StatusCode == 404 && strings.HasPrefix(target, "/Users") {
					t.Errorf("%s %s: got 404 before a token was asked for", method, target)
				}
			}
		}
	}
	if n := len(p.sim.Ledger()) - before; n != 0 {
		t.Errorf("%d requests reached the upstream, want none", n)
	}
}

func emptyBearer(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	for name, tokens := range map[string][]Token{
		"no token": nil, "an empty one": {{Name: "empty", SHA256: sha256.Sum256(nil)}}, "one without a hash": {{Name: "zero"}},
	} {
		door := NewDoor(DoorConfig{Logger: p.logger, Connections: []DoorConnection{{Path: "/scim/v2", Gateway: p.gateway, Tokens: tokens}}})
		for _, value := range []string{"", "Bearer", "Bearer ", "Bearer  ", "bearer\t", "Bearer null", "Bearer undefined", "Bearer 0"} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/scim/v2/Users", nil)
			r.Header["Authorization"] = []string{value}
			w := httptest.NewRecorder()
			door.ServeHTTP(w, r)
			if w.Code != 401 {
				t.Errorf("%s, Authorization %q: got %d, want 401", name, value, w.Code)
			}
		}
	}
}

// A token of a megabyte of dots costs its hash: it is not taken apart.
func dots(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	door := NewDoor(DoorConfig{Logger: p.logger, Connections: []DoorConnection{{Path: "/scim/v2", Gateway: p.gateway, Tokens: []Token{{Name: "entra", SHA256: sha256.Sum256([]byte(testToken))}}}}})
	ask := func(n int) float64 {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/scim/v2/Users", nil)
		r.Header.Set("Authorization", "Bearer "+strings.Repeat(".", n))
		return testing.AllocsPerRun(3, func() {
			w := httptest.NewRecorder()
			door.ServeHTTP(w, r)
			if w.Code != 401 {
				t.Fatalf("%d dots: got %d, want 401", n, w.Code)
			}
			checkError(t, w.Code, w.Body.Bytes(), w.Header().Get("X-Request-Id"))
		})
	}
	if few, many := ask(1), ask(1<<20); many > few+100 {
		t.Errorf("a megabyte of dots costs %v allocations, one costs %v", many, few)
	}
}

func forwardedFor(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	for _, header := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Client-Ip", "X-Appengine-Remote-Addr", "Cf-Connecting-Ip", "True-Client-Ip", "Fly-Client-Ip"} {
		p.do("GET", "/Users", "", header, "203.0.113.7")
		if got := p.last().Source; got != "127.0.0.1" {
			t.Errorf("%s: got source %s, want 127.0.0.1", header, got)
		}
	}
}

// Whatever a client names things, a log has as many lines as there were events, and a record is one line of JSON.
func logInjection(t *testing.T) {
	const evil = "a\r\n{\"level\":\"ERROR\",\"msg\":\"forged\"}\ntime=2026-01-01 level=ERROR msg=forged\u2028forged\x1b[2J"
	for _, c := range []struct {
		format string
		logger func(*lockedBuffer) *slog.Logger
	}{
		{"json", func(l *lockedBuffer) *slog.Logger {
			return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}},
		{"text", func(l *lockedBuffer) *slog.Logger {
			return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}},
	} {
		p := newHarness(t, builtin(t, "bluejeans"))
		logs := &lockedBuffer{}
		q := p.another(func(cfg *Config) { cfg.Logger = c.logger(logs) })
		quoted, err := json.Marshal(evil)
		if err != nil {
			t.Fatal(err)
		}
		escaped := url.PathEscape(evil)
		q.do("GET", "/Users/"+escaped, "")
		q.do("DELETE", "/Users/"+escaped, "")
		q.do("GET", "/Users?filter="+url.QueryEscape(`userName eq `+string(quoted)), "")
		q.do("GET", "/Users?"+escaped+"="+escaped, "")
		q.do("POST", "/Users", `{"schemas":["`+scim.SchemaUser+`"],"userName":`+string(quoted)+`,"externalId":`+string(quoted)+`,`+string(quoted)+`:1}`)
		q.do("PATCH", "/Users/"+escaped, patch(`{"op":"add","path":`+string(quoted)+`,"value":1}`))
		for line := range strings.Lines(logs.String()) {
			ok := strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "time=2026-01-01 ")
			if c.format == "json" {
				ok = json.Valid([]byte(line))
			}
			if !ok || strings.Contains(line, "\x1b") {
				t.Errorf("%s: %q is no line of the gateway's own", c.format, line)
			}
		}
		for _, r := range q.trail() {
			if line := audit.Append(nil, r); bytes.ContainsAny(line, "\r\n\x1b\u2028") || !json.Valid(line) {
				t.Errorf("a record is not one line of JSON: %q", line)
			}
		}
	}
}

func methodLabels(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	admin := NewAdmin(AdminConfig{Store: p.store, Metrics: p.metrics, Gateways: []*Gateway{p.gateway}})
	series := func() int {
		w := httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost/metrics", nil))
		return strings.Count(w.Body.String(), "\nscimgate_")
	}
	ask := func(i int) {
		p.do(fmt.Sprintf("BREW%d", i), fmt.Sprintf("/Users/%d", i), "")
		p.do(fmt.Sprintf("BREW%d", i), fmt.Sprintf("/Nowhere%d", i), "", "Authorization", fmt.Sprintf("Bearer %d", i))
		p.do("GET", fmt.Sprintf("/Nowhere%d?a%d=b", i, i), "")
	}
	ask(0)
	before := series()
	for i := range 100 {
		ask(i + 1)
	}
	if got := series(); got != before {
		t.Errorf("got %d series after 300 requests, want the %d there were", got, before)
	}
	p.do(strings.Repeat("BREW", 1000), "/Users", "")
	if m := p.last().Method; len(m) > 16 {
		t.Errorf("the trail has a method of %d bytes", len(m))
	}
}

// What the gateway makes of a query is all that the upstream sees of it, and a query that cannot be read is not none.
func hiddenParameters(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.create("ann", "")
	p.create("bob", "")
	const filter = "filter=userName%20eq%20%22ann%22"
	for query, total := range map[string]any{
		filter: 1.0, filter + "&a=b&count=5": 1.0, "%66ilter=userName%20eq%20%22ann%22": 1.0, "a=b&" + strings.Repeat("x&", 20_000) + filter: 1.0,
		filter + ";count=0": nil, "a;" + filter: nil, "a=b;" + filter: nil, ";" + filter: nil, "a=%3B&" + filter: 1.0, filter + "&a=%zz": nil, filter + "&%zz=a": nil, filter + "&filter=": nil, filter + "&FILTER=userName%20pr": nil,
		filter + "%00": nil, filter + "&count=1&count=1": nil, filter + "#&count=1": 1.0,
	} {
		a := p.do("GET", "/Users?"+query, "")
		if total == nil && a.status != 400 {
			t.Errorf("%.80s: got %d %.300s, want an error", query, a.status, a.text)
		}
		if total != nil && a.get("totalResults") != total {
			t.Errorf("%.80s: got %d %.300s, want %v", query, a.status, a.text, total)
		}
	}
	for _, e := range p.sim.Ledger() {
		_, raw, _ := strings.Cut(e.Target, "?")
		values, err := url.ParseQuery(raw)
		if err != nil {
			t.Errorf("%s: %v", e.Target, err)
		}
		for name, v := range values {
			if name != "filter" && name != "startIndex" && name != "count" || len(v) != 1 {
				t.Errorf("%s reached the upstream", e.Target)
			}
		}
	}
}

func redirects(t *testing.T) {
	elsewhere := 0
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		elsewhere++
		_, _ = fmt.Fprint(w, `{"schemas":["`+scim.SchemaUser+`"],"id":"1","userName":"evil"}`)
	}))
	defer evil.Close()
	status := 0
	redirect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, evil.URL+r.URL.Path, status)
	}))
	defer redirect.Close()
	p := newHarness(t, builtin(t, "generic"))
	up, err := upstream.New(upstream.Config{BaseURL: redirect.URL, Profile: p.gateway.Profile, Token: secret.Literal(upstreamToken)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	q := p.another(func(cfg *Config) { cfg.Upstream = up })
	for _, status = range []int{301, 302, 303, 307, 308} {
		for _, m := range []message{{"GET", "/Users/1", "", nil}, {"POST", "/Users", user("ann", ""), nil}, {"PATCH", "/Users/1", patch(`{"op":"replace","path":"title","value":"T"}`), nil}, {"DELETE", "/Users/1", "", nil}} {
			if a := q.do(m.method, m.target, m.body); a.status < 500 || strings.Contains(a.text, "evil") {
				t.Errorf("%d, %s: got %d %s, want an error of the upstream", status, m.method, a.status, a.text)
			}
		}
	}
	if elsewhere != 0 {
		t.Errorf("%d requests followed a redirect", elsewhere)
	}
}

func pathConfusion(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	for _, target := range []string{
		"/scim/v2/../../healthz", "/scim/v2/%2e%2e/%2e%2e/metrics", "/healthz", "/readyz", "/metrics", "/metrics/", "//metrics", "/scim/v2/Users?/healthz", "/scim/v2/Users#/healthz",
		"/scim/v2/healthz/../Users", "/healthz/../scim/v2/Users", "/healthz/%2e%2e/scim/v2/Users", "/healthz;/scim/v2/Users", "/healthz%2f..%2fscim%2fv2%2fUsers", "/scim/v2/Users%00/healthz",
		`/scim/v2\..\..\healthz`, "/debug/pprof/", "/scim/v3/Users", "/scim", "*", "http://gateway.example/scim/v2/Users", "/SCIM/V2/Users",
	} {
		for _, token := range []string{"", authorized} {
			answers := p.converse("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + token + "\r\n")
			if len(answers) != 1 {
				t.Fatalf("%s: got %d answers", target, len(answers))
			}
			a := answers[0]
			if a.StatusCode < 400 && (token == "" || !strings.Contains(a.Header.Get("Content-Type"), "scim")) {
				t.Errorf("%s with token %v: got %d, want nothing to be open here", target, token != "", a.StatusCode)
			}
		}
	}
}

// What policy refuses, it refuses however the body comes.
func chunkedPolicy(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	body := user(strings.Repeat("x", 31), "")
	head := "POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + authorized
	half := len(body) / 2
	for _, request := range []string{
		head + sized(body),
		head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body),
		head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", half, body[:half], len(body)-half, body[half:]),
		head + "Expect: 100-continue\r\n" + sized(body),
		strings.Replace(head, "HTTP/1.1", "HTTP/1.0", 1) + sized(body),
	} {
		answers := p.converse(request)
		if a := answers[len(answers)-1]; a.StatusCode != 400 {
			t.Errorf("%.200q: got %d, want 400", request, a.StatusCode)
		}
	}
	if n := p.sim.Count(scim.OpCreate); n != 0 {
		t.Errorf("%d creates reached the upstream", n)
	}
}

func tokensInLogs(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	p.create("ann", "")
	p.do("GET", "/Users", "", "Authorization", "Bearer "+testToken+"-almost")
	p.do("GET", "/Users?access_token="+testToken, "", "X-Token", testToken)
	p.do("GET", "/Users/"+testToken[:8], "")
	stop := p.sim.Inject(simulator.Fault{Kind: simulator.Reset})
	p.do("GET", "/Users/1", "")
	stop()
	logs := p.logs.String()
	if logs == "" || strings.Contains(logs, testToken) || strings.Contains(logs, upstreamToken) {
		t.Errorf("the logs have a token, or nothing:\n%s", logs)
	}
}
