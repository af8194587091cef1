package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/transform/scim"
)

func TestNewRefuses(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no URL":          func(c *Config) { c.BaseURL = "" },
		"relative URL":    func(c *Config) { c.BaseURL = "/scim" },
		"other scheme":    func(c *Config) { c.BaseURL = "ftp://x" },
		"user in the URL": func(c *Config) { c.BaseURL = "https://a:b@x" },
		"query":           func(c *Config) { c.BaseURL = "https://x?a=b" },
		"no profile":      func(c *Config) { c.Profile = nil },
		"no token":        func(c *Config) { c.Token = nil },
		"negative rate":   func(c *Config) { c.RequestsPerSecond = -1 },
		"no CA file":      func(c *Config) { c.CAFile = empty + "x" },
		"empty CA file":   func(c *Config) { c.CAFile = empty },
	} {
		cfg := Config{BaseURL: "https://x", Profile: generic(t), Token: secret.Literal(testToken)}
		change(&cfg)
		if c, err := New(cfg); err == nil {
			c.Close()
			t.Errorf("%s: New accepts it", name)
		}
	}
}

// rawServer reads requests as bytes. serve gets each one and answers on the connection; the connection is closed
// when serve returns false.
func rawServer(t *testing.T, serve func(n int, head, body string, conn net.Conn) bool) (base string, count func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int32
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for {
					head, body, err := rawRequest(r)
					if err != nil || !serve(int(n.Add(1)), head, body, conn) {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return "http://" + l.Addr().String() + "/scim", func() int { return int(n.Load()) }
}

func rawRequest(r *bufio.Reader) (head, body string, err error) {
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", "", err
		}
		if line == "\r\n" {
			break
		}
		head += line
		_, _ = fmt.Sscanf(strings.ToLower(line), "content-length: %d", &length)
	}
	b := make([]byte, length)
	_, err = io.ReadFull(r, b)
	return head, string(b), err
}

func reply(conn net.Conn, status, body string) {
	fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Type: application/scim+json\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

// Only what this list names goes upstream, whatever the client sent.
func TestHeadersOnTheWire(t *testing.T) {
	heads := make(chan string, 1)
	base, _ := rawServer(t, func(_ int, head, _ string, conn net.Conn) bool {
		heads <- head
		status, body := "200 OK", `{"id":"a b/ü","userName":"x"}`
		if strings.HasPrefix(head, "DELETE") {
			status, body = "204 No Content", ""
		}
		reply(conn, status, body)
		return true
	})
	c := start(t, base+"/", nil)
	defer c.own.CloseIdleConnections()
	get, del := get(), remove()
	get.ID, del.ID = "a b/ü", "a b/ü"
	put := &scim.Request{Op: scim.OpReplace, Type: userType, ID: "a b/ü", Resource: object(t, `{"userName":"x"}`)}
	pat := patch(t, "replace", "title", "x")
	pat.ID = "a b/ü"
	common := []string{"Accept", "Authorization", "Host", "User-Agent", "X-Request-Id"}
	for _, test := range []struct {
		req   *scim.Request
		line  string
		extra []string
	}{
		{get, "GET /scim/Users/a%20b%2F%C3%BC HTTP/1.1", []string{"If-None-Match"}},
		{del, "DELETE /scim/Users/a%20b%2F%C3%BC HTTP/1.1", []string{"If-Match"}},
		{put, "PUT /scim/Users/a%20b%2F%C3%BC HTTP/1.1", []string{"Content-Length", "Content-Type", "If-Match"}},
		{pat, "PATCH /scim/Users/a%20b%2F%C3%BC HTTP/1.1", []string{"Content-Length", "Content-Type", "If-Match"}},
	} {
		test.req.Origin = scim.Origin{Connection: "main", Credential: "entra", Source: "203.0.113.9", RequestID: "req-1"}
		if test.req.Op == scim.OpGet {
			test.req.Preconditions.IfNoneMatch = `W/"1"`
		} else {
			test.req.Preconditions.IfMatch = `W/"1"`
		}
		if _, err := c.Do(t.Context(), test.req); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(<-heads), "\r\n")
		if lines[0] != test.line {
			t.Errorf("got %q, want %q", lines[0], test.line)
		}
		var names []string
		for _, line := range lines[1:] {
			name, value, _ := strings.Cut(line, ": ")
			names = append(names, name)
			if name == "Authorization" && value != "Bearer "+testToken {
				t.Errorf("got Authorization %q", value)
			}
		}
		slices.Sort(names)
		want := slices.Sorted(slices.Values(append(test.extra, common...)))
		if !slices.Equal(names, want) {
			t.Errorf("%s: got headers %v, want %v", test.req.Op, names, want)
		}
	}
}

// net/http would send a request again by itself when a reused connection breaks.
func TestNothingIsSentAgainUnseen(t *testing.T) {
	for _, req := range []*scim.Request{get(), create(t), patch(t, "add", "emails", []any{map[string]any{"value": "x"}}), remove()} {
		t.Run(string(req.Op), func(t *testing.T) {
			var broken atomic.Bool
			base, count := rawServer(t, func(n int, head, _ string, conn net.Conn) bool {
				if n == 1 {
					reply(conn, "200 OK", oneUser)
					return true
				}
				if strings.HasPrefix(head, "GET") != (req.Op == scim.OpGet) {
					reply(conn, "404 Not Found", "")
					return true
				}
				broken.Store(true)
				return false // the connection closes on a request that was read in full
			})
			c := start(t, base, nil)
			if _, err := c.Do(t.Context(), get()); err != nil {
				t.Fatal(err)
			}
			c.budget.mu.Lock()
			c.budget.fifths = -1
			c.budget.mu.Unlock()
			resp, err := c.Do(t.Context(), req)
			if err == nil || !broken.Load() {
				t.Fatalf("got %+v, %v", resp, err)
			}
			if got := count() - 1; got != len(resp.Attempts) {
				t.Errorf("the upstream saw %d requests, %d attempts were told", got, len(resp.Attempts))
			}
			if !resp.Attempts[0].Sent {
				t.Error("a request that was read upstream counts as not sent")
			}
			c.own.CloseIdleConnections()
		})
	}
}

func TestRefusedConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	var seen []scim.Attempt
	c := start(t, "http://"+address, func(cfg *Config) {
		cfg.Observe = func(_ scim.Op, a scim.Attempt) { seen = append(seen, a) }
	})
	resp, err := c.Do(t.Context(), create(t))
	if e := isError(t, err, 503); e.RetryAfter <= 0 || !strings.Contains(e.Detail, "refused") {
		t.Errorf("got %v with Retry-After %v", e, e.RetryAfter)
	}
	if len(resp.Attempts) != 3 || len(seen) != 3 || resp.Attempts[0].Sent || resp.Attempts[0].Status != 0 {
		t.Errorf("got attempts %+v", resp.Attempts)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	c := start(t, server.URL, nil)
	_, err := c.Do(t.Context(), create(t))
	isError(t, err, 502)
	if got := elsewhere.Load(); got != 0 {
		t.Errorf("followed a redirect %d times", got)
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("got %s, want HTTP/1.1", r.Proto)
		}
		_, _ = io.WriteString(w, oneUser)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, server.URL, func(cfg *Config) { cfg.CAFile = file })
	if _, err := c.Do(t.Context(), get()); err != nil {
		t.Error(err)
	}
	if got := c.own.TLSClientConfig.MinVersion; got != tls.VersionTLS12 {
		t.Errorf("got smallest TLS version %x, want 1.2", got)
	}
	stranger := start(t, server.URL, nil)
	stranger.budget.fifths = -1
	resp, err := stranger.Do(t.Context(), get())
	if e := isError(t, err, 503); !strings.Contains(e.Detail, "TLS") {
		t.Errorf("got %v", e)
	}
	if resp.Attempts[0].Sent {
		t.Error("sent over a connection that is not trusted")
	}
}

func TestTokenIsReadAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var good atomic.Value
	good.Store("first")
	fake := &wireFake{answer: func(_ int, r *http.Request, _ string) (*http.Response, error) {
		if r.Header.Get("Authorization") != "Bearer "+good.Load().(string) {
			return answerOf(401, ""), nil
		}
		return answerOf(200, oneUser), nil
	}}
	c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport, cfg.Token = fake, secret.File(file) })

	_, err := c.Do(t.Context(), get())
	if e := isError(t, err, 502); !strings.Contains(e.Detail, file) {
		t.Errorf("got %v, want an error that names %s", e, file)
	}
	if len(fake.all()) != 0 || c.State().CredentialProblem == "" || c.State().InFlight != 0 {
		t.Errorf("without a token: %d calls, state %+v", len(fake.all()), c.State())
	}
	write("first")
	if _, err := c.Do(t.Context(), get()); err != nil || c.State().CredentialProblem != "" {
		t.Errorf("got %v, state %+v", err, c.State())
	}
	good.Store("the second")
	_, err = c.Do(t.Context(), get())
	isError(t, err, 502)
	if got := c.State().CredentialProblem; !strings.Contains(got, "401") || strings.Contains(got, "first") {
		t.Errorf("got credential problem %q", got)
	}
	write("the second")
	if _, err := c.Do(t.Context(), get()); err != nil || c.State().CredentialProblem != "" {
		t.Errorf("got %v, state %+v", err, c.State())
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), get()); err != nil || c.State().CredentialProblem == "" {
		t.Errorf("got %v, state %+v, want the earlier token to work and the problem to be told", err, c.State())
	}
}

func TestBodyIsBounded(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		chunk := make([]byte, 1<<16)
		for range 1000 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	c := start(t, server.URL, func(cfg *Config) { cfg.MaxBody = 1 << 20 })
	_, err := c.Do(t.Context(), get())
	if e := isError(t, err, 502); !strings.Contains(e.Detail, "larger than") {
		t.Errorf("got %v", e)
	}
	if got := calls.Load(); got != 1 {
		t.Errorf("asked %d times for what is too large, want once", got)
	}
}

func TestConnectionIsReused(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			w.WriteHeader(404)
			_, _ = io.WriteString(w, scimError("404", "", "x"))
			return
		}
		_, _ = io.WriteString(w, oneUser)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := start(t, server.URL, nil)
	for i := range 20 {
		req := get()
		if i%2 == 1 {
			req = remove()
		}
		_, _ = c.Do(t.Context(), req)
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("got %d connections, want 1", got)
	}
}

func TestCallerGivesUp(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is a closed connection noticed
		<-r.Context().Done()
	}))
	defer server.Close()
	c := start(t, server.URL, nil)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	resp, err := c.Do(ctx, create(t))
	if e := isError(t, err, 503); e == nil || len(resp.Attempts) != 1 || !resp.Attempts[0].Sent {
		t.Errorf("got %v, %+v", err, resp)
	}
	if got := c.State(); got.InFlight != 0 || got.Breaker != "closed" {
		t.Errorf("got state %+v", got)
	}
}

func TestProfileEndpoint(t *testing.T) {
	fake := okFake()
	c := start(t, "https://upstream.test/scim", func(cfg *Config) {
		p := *cfg.Profile
		p.Resources = []profile.Resource{{Name: "User", Endpoint: "/Accounts"}}
		cfg.Profile, cfg.Transport = &p, fake
	})
	resp, err := c.Do(t.Context(), get())
	if err != nil || fake.calls[0] != "GET /scim/Accounts/1" || resp.Attempts[0].Target != "GET /Accounts/{id}" {
		t.Errorf("got %v, calls %v, attempts %+v", err, fake.calls, resp.Attempts)
	}
	if userType.Endpoint != "/Users" {
		t.Error("the resource type was changed")
	}
}

func TestEmptyListIsPassedOn(t *testing.T) {
	fake := &wireFake{answer: func(int, *http.Request, string) (*http.Response, error) { return answerOf(200, emptyList), nil }}
	c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
	resp, err := c.Do(t.Context(), &scim.Request{Op: scim.OpQuery, Type: userType, Query: scim.Query{StartIndex: 1}})
	if err != nil || resp.List == nil || len(resp.List) != 0 || resp.TotalResults != 0 {
		t.Errorf("got %+v, %v, want an empty list", resp, err)
	}
}

func TestDiscoveryIsNotForwarded(t *testing.T) {
	fake := okFake()
	c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
	_, err := c.Do(t.Context(), &scim.Request{Op: scim.OpDiscover, ID: "Schemas"})
	isError(t, err, 501)
	if len(fake.all()) != 0 || c.State().InFlight != 0 {
		t.Errorf("%d calls, state %+v", len(fake.all()), c.State())
	}
}

func BenchmarkDo(b *testing.B) {
	fake := okFake()
	c := start(b, "https://upstream.test", func(cfg *Config) { cfg.Transport, cfg.InFlight = fake, 64 })
	req := get()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Do(context.Background(), req); err != nil {
			b.Fatal(err)
		}
	}
}
