package console

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"scimgate/gateway/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every route but the sign-in and the static files refuses who has not signed in, whatever the method; and with a session
// those that change something refuse what does not come from the console, and nothing else changes anything.
func TestEveryRouteIsGuarded(t *testing.T) {
	changed := 0
	w := newWorld(t, func(c *Config) {
		c.Proof = func(context.Context, int64) ([]byte, error) { return []byte("{}"), nil }
		c.Unseal = func(context.Context, *audit.Record, string) error { changed++; return nil }
	})
	w.append(look(w.now, "get", audit.Read, "1", "ann@example.com"))
	id, _ := w.console.sessions.open(adminToken, adminToken)
	ask := func(method, path, session string, header ...string) *httptest.ResponseRecorder {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if strings.HasPrefix(path, "live/") {
			cancel() // nobody waits for a stream
		}
		req := httptest.NewRequestWithContext(ctx, method, "http://localhost"+Base+path, nil)
		if session != "" {
			req.AddCookie(&http.Cookie{Name: cookieName, Value: session})
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		got := httptest.NewRecorder()
		w.console.ServeHTTP(got, req)
		return got
	}
	open, pages := w.console.routes()
	if len(open) != 3 || len(pages) < 14 {
		t.Fatalf("got %d and %d routes, want all", len(open), len(pages))
	}
	paths := []string{"static/../trail", "nowhere"}
	for pattern := range pages {
		_, path, _ := strings.Cut(pattern, " ")
		paths = append(paths, strings.NewReplacer("{seq}", "1", "{$}", "").Replace(path))
	}
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			for _, session := range []string{"", "0123", strings.ToUpper(id)} {
				got := ask(method, path, session, "Origin", "http://localhost")
				location := got.Header().Get("Location")
				switch {
				case got.Code == http.StatusUnauthorized || got.Code == http.StatusMethodNotAllowed:
				case got.Code == http.StatusSeeOther && strings.HasPrefix(location, Base+"sign-in"):
				case got.Code >= 300 && got.Code < 400 && location == Base+"trail": // a path cleaned by net/http
				default:
					t.Errorf("%s %s without a session: got %d %s", method, path, got.Code, location)
				}
				if strings.Contains(got.Body.String(), "ann@example.com") {
					t.Errorf("%s %s without a session shows a record", method, path)
				}
			}
			for _, foreign := range [][]string{{"Origin", "http://evil.example"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"}, {"X-Forwarded-Host", "localhost"}} {
				if got := ask(method, path, id, foreign...); got.Code != http.StatusForbidden && method != "GET" && method != "HEAD" {
					t.Errorf("%s %s with %v: got %d, want 403", method, path, foreign, got.Code)
				}
			}
			if changed > 0 {
				t.Errorf("%s %s from elsewhere shows sealed values", method, path)
			}
			if path != "trail/1/values" && path != "sign-out" || method != "POST" {
				ask(method, path, id, "Origin", "http://localhost", "Sec-Fetch-Site", "same-origin")
			}
		}
	}
	if _, goesOn := w.console.sessions.byID[sha256.Sum256([]byte(id))]; !goesOn || changed > 0 {
		t.Errorf("a route that should only read has ended the session, or shown sealed values %d times", changed)
	}
	if ask("POST", "trail/1/values", id, "Origin", "http://localhost"); changed != 1 {
		t.Errorf("sealed values are shown %d times to who is signed in, want once", changed)
	}
}

func TestSignIn(t *testing.T) {
	w := newWorld(t, nil)
	if got := w.signIn("wrong"); got.StatusCode != http.StatusForbidden {
		t.Errorf("a wrong token: got %d, want 403", got.StatusCode)
	}
	if got := w.signIn(""); got.StatusCode != http.StatusForbidden {
		t.Errorf("no token: got %d, want 403", got.StatusCode)
	}
	if got := w.signIn(adminToken); got.StatusCode != http.StatusOK || got.Request.URL.Path != Base {
		t.Fatalf("the admin token: got %d at %s, want the overview", got.StatusCode, got.Request.URL.Path)
	}
	own, err := url.Parse(w.server.URL + Base)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(w.client.Jar.Cookies(own)); got != 1 {
		t.Fatalf("got %d cookies, want 1", got)
	}
	w.mu.Lock()
	if want := []string{"sign-in-refused: console, from 127.0.0.1", "sign-in-refused: console, from 127.0.0.1", "signed-in: console, from 127.0.0.1"}; !slices.Equal(w.events, want) {
		t.Errorf("events: got %q, want %q", w.events, want)
	}
	w.token = "another-token-0123456789"
	w.mu.Unlock()
	if _, body, _ := w.get(Base); !strings.Contains(body, "Admin token") {
		t.Error("the session goes on with a new admin token")
	}
}

func TestCookie(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		to, origin string // how the request reaches the console, and how the browser does
		secure     bool
	}{{"http", "http", false}, {"https", "https", true}, {"http", "https", true}} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.to+"://localhost"+Base+"sign-in", strings.NewReader("token="+adminToken))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", c.origin+"://localhost")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		got := httptest.NewRecorder()
		w.console.ServeHTTP(got, req)
		text := got.Header().Get("Set-Cookie")
		for _, want := range []string{"HttpOnly", "SameSite=Strict", "Path=" + Base} {
			if !strings.Contains(text, want) {
				t.Errorf("cookie: got %s, want %s", text, want)
			}
		}
		if strings.Contains(text, "Secure") != c.secure {
			t.Errorf("cookie over %s for %s: got %s", c.to, c.origin, text)
		}
	}
}

func TestSessionsEnd(t *testing.T) {
	for name, steps := range map[string][]time.Duration{"idle": {sessionIdle}, "age": slices.Repeat([]time.Duration{sessionIdle - time.Minute}, 13)} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.signIn(adminToken)
			ended := false
			for _, step := range steps {
				w.ahead.Add(int64(step))
				_, body, _ := w.get(Base)
				ended = strings.Contains(body, "Admin token")
			}
			if !ended {
				t.Error("the session goes on")
			}
		})
	}
	t.Run("signed out", func(t *testing.T) {
		w := newWorld(t, nil)
		w.signIn(adminToken)
		own, _ := url.Parse(w.server.URL + Base)
		cookie := w.client.Jar.Cookies(own)[0]
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL+Base+"sign-out", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", w.server.URL)
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		w.client.Jar.SetCookies(own, []*http.Cookie{cookie}) // somebody kept it
		if _, body, _ := w.get(Base); !strings.Contains(body, "Admin token") {
			t.Error("the session goes on after signing out")
		}
	})
}

func TestSignInsAreLimited(t *testing.T) {
	w := newWorld(t, nil)
	for range attemptsEach {
		if got := w.signIn("wrong"); got.StatusCode != http.StatusForbidden {
			t.Fatalf("got %d, want 403", got.StatusCode)
		}
	}
	got := w.signIn(adminToken)
	if got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" {
		t.Errorf("after %d wrong ones: got %d, want 429 with Retry-After", attemptsEach, got.StatusCode)
	}
	w.ahead.Add(int64(time.Minute))
	if got := w.signIn(adminToken); got.StatusCode != http.StatusOK {
		t.Errorf("a minute later: got %d, want 200", got.StatusCode)
	}
}

func TestNoAdminToken(t *testing.T) {
	for name, token := range map[string]func() (string, error){
		"none": nil, "empty": func() (string, error) { return "", nil }, "unreadable": func() (string, error) { return "", errors.New("no such file") },
	} {
		t.Run(name, func(t *testing.T) {
			var logs strings.Builder
			w := newWorld(t, func(c *Config) { c.Token, c.Logger = token, slog.New(slog.NewTextHandler(&logs, nil)) })
			for _, presented := range []string{"", adminToken} {
				if got := w.signIn(presented); got.StatusCode != http.StatusForbidden {
					t.Errorf("got %d, want 403", got.StatusCode)
				}
			}
			if _, body, _ := w.get(Base); !strings.Contains(body, "no admin token") {
				t.Error("the page does not say what to configure")
			}
			if got, want := strings.Count(logs.String(), "cannot be read"), map[bool]int{true: 1}[name == "unreadable"]; got != want {
				t.Errorf("the log says it %d times, want %d", got, want)
			}
		})
	}
}

// What another site makes a browser ask for is refused, also with a valid session.
func TestForeignRequests(t *testing.T) {
	w := newWorld(t, nil)
	id, ok := w.console.sessions.open(adminToken, adminToken)
	if !ok {
		t.Fatal("no session")
	}
	cases := []struct {
		name, method, host string
		header             map[string]string
		want               int
	}{
		{"own", "GET", "127.0.0.1:9090", nil, 200},
		{"localhost", "GET", "localhost:9090", nil, 200},
		{"IPv6", "GET", "[::1]:9090", nil, 200},
		{"configured name", "GET", "Console.example.com", nil, 200},
		{"foreign name", "GET", "evil.example.com", nil, 421},
		{"rebound name", "GET", "127.0.0.1.evil.example.com:9090", nil, 421},
		{"no name", "GET", "", nil, 421},
		{"own origin", "GET", "localhost:9090", map[string]string{"Origin": "http://localhost:9090"}, 200},
		{"foreign origin", "GET", "localhost:9090", map[string]string{"Origin": "http://evil.example.com"}, 403},
		{"another port", "GET", "localhost:9090", map[string]string{"Origin": "http://localhost:9091"}, 403},
		{"no origin to speak of", "GET", "localhost:9090", map[string]string{"Origin": "null"}, 403},
		{"post of our own", "POST", "localhost:9090", map[string]string{"Origin": "http://localhost:9090", "Sec-Fetch-Site": "same-origin"}, 303},
		{"post of another site", "POST", "localhost:9090", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"post of a sister site", "POST", "localhost:9090", map[string]string{"Origin": "http://localhost:9090", "Sec-Fetch-Site": "same-site"}, 403},
		{"post of nobody", "POST", "localhost:9090", nil, 403},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := Base
			if c.method == "POST" {
				path += "sign-out"
				defer func() { id, _ = w.console.sessions.open(adminToken, adminToken) }()
			}
			req := httptest.NewRequestWithContext(t.Context(), c.method, path, nil)
			req.Host = c.host
			for name, value := range c.header {
				req.Header.Set(name, value)
			}
			req.AddCookie(&http.Cookie{Name: cookieName, Value: id})
			got := httptest.NewRecorder()
			w.console.ServeHTTP(got, req)
			if got.Code != c.want {
				t.Errorf("got %d, want %d", got.Code, c.want)
			}
		})
	}
}

func TestNextStaysInTheConsole(t *testing.T) {
	for next, want := range map[string]string{
		"": Base, "/console/trail?user=a%40b": "/console/trail?user=a%40b", "https://evil.example.com/console/": Base, "//evil.example.com/console/": Base,
		"/metrics": Base, `/console/\evil`: Base, "/console/live/trail?after=0": Base, "/console/sign-out": Base, "javascript:alert(1)": Base, "/console/\r\nX: y": Base,
		"/console/../metrics": Base, "/console/%2e%2e/metrics": Base,
	} {
		if got := local(next); got != want {
			t.Errorf("local(%q): got %q, want %q", next, got, want)
		}
	}
}

// Pages have nothing inline and nothing from elsewhere.
func TestPagesAreStrict(t *testing.T) {
	w := newWorld(t, nil)
	w.history(40)
	w.signIn(adminToken)
	inline := regexp.MustCompile(`(?i)\sstyle\s*=|\son[a-z]+\s*=|<style|javascript:|<script(?: [^>]*)?>[^<]|(?:src|href|action)="(?:https?:)?//`)
	for _, path := range []string{"", "?range=15m", "?range=24h", "cycles", "users", "users?q=ann", "user?name=babs@example.com&reads=on", "trail", "trail?live=on", "trail/5", "nowhere"} {
		_, body, header := w.get(Base + path)
		if got := inline.FindString(body); got != "" {
			t.Errorf("%s has %q", path, got)
		}
		if got := header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none';") || strings.Contains(got, "unsafe") {
			t.Errorf("%s: got policy %q", path, got)
		}
		if got := header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: got Cache-Control %q, want no-store", path, got)
		}
	}
}

// corpus is what an attacker may put into a userName.
var corpus = []string{
	`<script>document.title="owned"</script>`, `"><img src=x onerror=alert(1)>`, `'-alert(1)-'`, `javascript:alert(1)`, `</title><script>alert(1)</script>`,
	`<svg/onload=alert(1)>`, `{{.Config}}`, `<!--`, `&lt;b&gt;`, "a\x1b[31mred\x1b[0m", "evil\u202egnp.exe", "null\x00byte", "tab\tnewline\n", "\u2066iso\u2069", "\ufeffbom\u200bzwsp",
	`</textarea><a href="javascript:alert(1)">x</a>`, "\xff\xfe",
}

// Whatever stands in a name is text on every page.
func TestHostileNames(t *testing.T) {
	w := newWorld(t, nil)
	for i, name := range corpus {
		w.change(w.now.Add(time.Duration(i)*time.Second-time.Minute), audit.Renamed, "patch", "id"+name, name, 200, audit.Attribute{Path: name, Asked: clearValue(name), Sent: clearValue(name), Note: name})
	}
	st, err := w.store.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.told(st.Newest)
	w.signIn(adminToken)
	raw := regexp.MustCompile("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200b\ufeff]")
	quoted, address := regexp.MustCompile(`="[^"]*"`), regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)
	active := regexp.MustCompile(`(?i)<[^>]*(alert|owned)|<textarea|<!--`)
	paths := []string{"", "cycles", "users", "users?q=e", "trail"}
	for i, name := range corpus {
		paths = append(paths, "user?"+url.Values{"name": {name}}.Encode(), "trail?"+url.Values{"user": {name}, "credential": {name}, "request": {name}}.Encode(), "trail/"+digits(int64(2*i+2)),
			"users?"+url.Values{"q": {name}, "state": {name}}.Encode(), "trail?"+url.Values{"action": {name}, "connection": {name}, "since": {name}}.Encode())
	}
	for _, path := range paths {
		_, body, _ := w.get(Base + path)
		for _, m := range address.FindAllStringSubmatch(body, -1) {
			if !strings.HasPrefix(m[1], Base) && !strings.HasPrefix(m[1], "#") {
				t.Errorf("%s leads to %s", path, m[1])
			}
		}
		if got := strings.Count(body, "<script"); got != 1 {
			t.Errorf("%s has %d scripts, want 1", path, got)
		}
		body = quoted.ReplaceAllString(body, "") // fields hold what was typed, in quotes and escaped
		if got := raw.FindString(body); got != "" {
			t.Errorf("%s has the character %q", path, got)
		}
		if got := active.FindString(body); got != "" {
			t.Errorf("%s has %q", path, got)
		}
	}
}

func TestShown(t *testing.T) {
	w := newWorld(t, nil)
	cases := []struct{ in, want string }{
		{"ann@example.com", "<bdi dir=\"ltr\">ann@example.com</bdi>"},
		{"<b>&", "<bdi dir=\"ltr\">&lt;b&gt;&amp;</bdi>"},
		{"a\u202eb", `<bdi dir="ltr">a<bdi dir="ltr" class="escape">\u202e</bdi>b</bdi>`},
		{"\x1b[31m", `<bdi dir="ltr"><bdi dir="ltr" class="escape">\x1b</bdi>[31m</bdi>`},
		{"a\xffb", `<bdi dir="ltr">a<bdi dir="ltr" class="escape">\xff</bdi>b</bdi>`},
		{"\U000e0041", `<bdi dir="ltr"><bdi dir="ltr" class="escape">\U000e0041</bdi></bdi>`},
		{"José שלום", "<bdi dir=\"ltr\">José שלום</bdi>"},
		{"", "<bdi dir=\"ltr\"></bdi>"},
	}
	for _, c := range cases {
		got, err := w.console.fragment("trail", "text", shown(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("shown(%q): got %s, want %s", c.in, got, c.want)
		}
	}
	if got, want := plain("a\u202e\xff\n"), `a\u202e\xff\n`; got != want {
		t.Errorf("plain: got %s, want %s", got, want)
	}
}

// What stands for a value, and that long ones are cut between two characters without being lost.
func TestValue(t *testing.T) {
	long := strings.Repeat("é", longValue)
	for _, c := range []struct {
		in   *audit.Value
		want valueView
	}{
		{nil, valueView{}},
		{clearValue("ann"), valueView{Clear: "ann"}},
		{clearValue(""), valueView{Words: "an empty text"}},
		{clearValue(false), valueView{Clear: "false"}},
		{clearValue(long), valueView{Clear: long[:longValue/2] + "…", Whole: long}},
		{clearValue("a" + long), valueView{Clear: "a" + long[:longValue/2] + "…", Whole: "a" + long}},
		{&audit.Value{Clear: []byte(strings.Repeat("\x80", 2*longValue))}, valueView{Clear: strings.Repeat("\x80", 2*longValue) + "…", Whole: strings.Repeat("\x80", 2*longValue)}},
		{&audit.Value{HMAC: "0123456789abcdef"}, valueView{Print: "#01234567"}},
		{&audit.Value{HMAC: "0123456789abcdef", Unsealed: []byte(`"Lee"`)}, valueView{Clear: "Lee"}},
		{&audit.Value{Secret: true}, valueView{Words: "secret, never recorded"}},
		{audit.Absent(), valueView{Words: "no value"}},
	} {
		if got := value(c.in); got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}
