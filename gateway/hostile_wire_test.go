package gateway

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"scimgate/transform/scim"
)

// converse sends bytes as they stand and returns every answer until the server ends the connection, its body read and
// checked. It does not end its own side: to net/http that is a client which has gone.
func (p *harness) converse(request string) []*http.Response {
	p.t.Helper()
	conn := p.send(request)
	defer conn.Close()
	var answers []*http.Response
	asked := &http.Request{Method: http.MethodGet}
	if strings.HasPrefix(request, "HEAD ") {
		asked.Method = http.MethodHead
	}
	for r := bufio.NewReader(conn); ; {
		res, err := http.ReadResponse(r, asked)
		if err != nil {
			return answers // the end, or a reset after the last one
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return answers
		}
		if asked.Method != http.MethodHead {
			checkRefusal(p.t, res, body)
		}
		answers = append(answers, res)
	}
}

// checkRefusal holds an answer, where it is a refusal, against what that must be: a SCIM error of the gateway's, or the few
// words with which net/http ends a connection on which it found no request. No handler sees those.
func checkRefusal(t *testing.T, res *http.Response, body []byte) {
	t.Helper()
	if id := res.Header.Get("X-Request-Id"); res.StatusCode >= 400 && id != "" {
		checkError(t, res.StatusCode, body, id)
	} else if noRequest := []int{400, 431, 501, 505}; res.StatusCode >= 400 && (!res.Close || !slices.Contains(noRequest, res.StatusCode) ||
		!strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain")) {
		t.Errorf("got %d %.200q, neither a SCIM error nor the end of the connection", res.StatusCode, body)
	}
}

// checkError holds an answer against RFC 7644, Section 3.12: the status, a scimType of Table 9 if any, and a detail that
// ends with the request id.
func checkError(t testing.TB, status int, body []byte, id string) {
	t.Helper()
	var e struct {
		Schemas                  []string
		Status, ScimType, Detail string
	}
	types := []string{
		"", scim.InvalidFilter, scim.TooMany, scim.Uniqueness, scim.Mutability, scim.InvalidSyntax, scim.InvalidPath, scim.NoTarget, scim.InvalidValue,
		scim.InvalidVers, scim.Sensitive, scim.InvalidCursor, scim.ExpiredCursor, scim.InvalidCount,
	}
	if err := json.Unmarshal(body, &e); err != nil || !slices.Equal(e.Schemas, []string{scim.MessageError}) || e.Status != strconv.Itoa(status) ||
		!slices.Contains(types, e.ScimType) || id == "" || !strings.HasSuffix(e.Detail, "Request id: "+id) || len(e.Detail) > 1000 {
		t.Errorf("got %d %.1000q, want a SCIM error of request %q", status, body, id)
	}
}

// upstreamAllows is what may travel upstream, and what it must be there; "" for whatever the gateway says.
var upstreamAllows = map[string]string{
	"Accept": scim.MediaType + ", application/json;q=0.9", "Authorization": "Bearer [redacted]", "User-Agent": "scimgate",
	"Content-Type": scim.MediaType, "Content-Length": "", "X-Request-Id": "", "If-Match": "", "If-None-Match": "",
}

// Only what is on the list travels upstream, whatever a client sends and however it spells it.
func TestOnlyListedHeadersTravel(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	id := p.create("ann", "")
	head := func(method, target string) string {
		return method + " /scim/v2" + target + " HTTP/1.1\r\nHost: gateway.example\r\n" + authorized + "If-Match: *\r\nConnection: close\r\n"
	}
	body := user("bob", "")
	chunked := fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-Trailer: 1\r\nX-Request-Id: trailing\r\n\r\n", len(body), body)
	for name, tricks := range map[string]string{
		"headers of proxies": "X-Evil: 1\r\nCookie: a=b\r\nX-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Host: evil.example\r\nForwarded: for=203.0.113.1\r\nX-Real-Ip: 203.0.113.1\r\nVia: 1.1 evil\r\n",
		"CVE-2024-45410 Connection strips headers of the gateway": "Connection: close, Authorization, X-Request-Id, Content-Type, Accept, If-Match, User-Agent\r\n",
		"CVE-2026-29054 Connection in another case":               "Connection: keep-alive\r\nConnection: authorization\r\nKeep-Alive: 1\r\nProxy-Connection: X-Request-Id\r\n",
		"CVE-2025-64484 underscores for hyphens":                  "X_Request_Id: evil\r\nContent_Type: text/html\r\nUser_Agent: evil\r\nIf_Match: evil\r\nX-Request_Id: evil\r\nAuthorization_: Bearer evil\r\n",
		"what the gateway sets itself":                            "X-Request-Id: evil\r\nx-request-id: evil\r\nX-REQUEST-ID: evil\r\nUser-Agent: evil\r\nAccept: text/html\r\nAccept-Encoding: gzip\r\n",
		"overrides":                                               "Proxy-Authorization: Bearer evil\r\nX-Http-Method-Override: DELETE\r\nX-Original-Url: /scim/v2/Users/1\r\nX-Rewrite-Url: /\r\nIdempotency-Key: 1\r\nExpect: 100-continue\r\n",
		"connection and range":                                    "TE: trailers\r\nTrailer: X-Trailer\r\nUpgrade: h2c\r\nHttp2-Settings: AAMAAABkAAQAAP__\r\nRange: bytes=0-1\r\nOrigin: https://evil.example\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, request := range []string{
				head("GET", "/Users/"+id) + tricks + "\r\n",
				head("GET", "/Users?filter=userName%20eq%20%22ann%22") + tricks + "\r\n",
				head("PATCH", "/Users/"+id) + tricks + "Content-Type: application/json; charset=utf-8\r\n" + sized(patch(`{"op":"replace","path":"title","value":"T"}`)),
				head("PUT", "/Users/"+id) + tricks + sized(user("ann", "")),
				head("POST", "/Users") + tricks + chunked,
			} {
				before := len(p.sim.Ledger())
				answers := p.converse(request)
				if len(answers) == 0 {
					t.Fatalf("%.40q: no answer", request)
				}
				final := answers[len(answers)-1]
				if final.StatusCode >= 400 && final.StatusCode != http.StatusConflict {
					t.Errorf("%.40q with %.40q: got %d, want it done", request, tricks, final.StatusCode)
				}
				ledger := p.sim.Ledger()[before:]
				if len(ledger) == 0 {
					t.Errorf("%.40q with %.40q: nothing reached the upstream", request, tricks)
				}
				for _, e := range ledger {
					if e.RequestID != final.Header.Get("X-Request-Id") {
						t.Errorf("%s with %.40q: got request id %q upstream, want that of the answer", e.Target, tricks, e.RequestID)
					}
					for name, values := range e.Header {
						want, allowed := upstreamAllows[name]
						if !allowed || len(values) != 1 || want != "" && values[0] != want {
							t.Errorf("%s with %.40q: %s: %q travelled upstream", e.Target, tricks, name, values)
						}
					}
					if strings.Contains(e.Target, "evil") {
						t.Errorf("%s reached the upstream", e.Target)
					}
				}
			}
		})
	}
}

// sized is the end of a request with a body.
func sized(body string) string {
	return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// Where a request ends is never in doubt: what a proxy in front might take for a body, or for a second request, is
// refused or needs a token of its own. CVE-2025-22871 is a bare line feed in a chunk's size.
func TestRequestSmuggling(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	id := p.create("ann", "")
	const post = "POST /scim/v2/Users HTTP/1.1\r\nHost: gateway.example\r\n" + authorized
	smuggled := "DELETE /scim/v2/Users/" + id + " HTTP/1.1\r\nHost: gateway.example\r\n\r\n"
	body := user("bob", "")
	chunk := func(end string) string { return fmt.Sprintf("%x%s%s\r\n0\r\n\r\n", len(body), end, body) }
	for _, c := range []struct {
		name, request string
		first         int
	}{
		{"CL.TE", post + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 400},
		{"TE.CL", post + fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled), 400},
		{"CVE-2025-22871, in the size", post + "Transfer-Encoding: chunked\r\n\r\n" + chunk("\n") + smuggled, 400},
		{"CVE-2025-22871, in an extension", post + "Transfer-Encoding: chunked\r\n\r\n" + chunk(";a\nb\r\n") + smuggled, 400},
		{"bare carriage return in the size", post + "Transfer-Encoding: chunked\r\n\r\n" + chunk("\r") + smuggled, 400},
		{"size with a sign", post + "Transfer-Encoding: chunked\r\n\r\n+" + chunk("\r\n") + smuggled, 400},
		{"size in underscores", post + "Transfer-Encoding: chunked\r\n\r\n0_" + chunk("\r\n") + smuggled, 400},
		{"size beyond 64 bits", post + "Transfer-Encoding: chunked\r\n\r\n1000000000000000f\r\n" + smuggled, 400},
		{"unknown coding", post + "Transfer-Encoding: xchunked\r\n\r\n" + chunk("\r\n") + smuggled, 501},
		{"two codings", post + "Transfer-Encoding: chunked, identity\r\n\r\n" + chunk("\r\n") + smuggled, 501},
		{"the coding twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunk("\r\n") + smuggled, 501},
		{"space before the colon", post + "Transfer-Encoding : chunked\r\n\r\n" + chunk("\r\n") + smuggled, 400},
		{"vertical tab", post + "Transfer-Encoding:\x0bchunked\r\n\r\n" + chunk("\r\n") + smuggled, 400},
		{"two lengths", post + fmt.Sprintf("Content-Length: %d\r\nContent-Length: %d\r\n\r\n%s", len(body), len(body)+1, body) + smuggled, 400},
		{"lengths in a list", post + "Content-Length: 2, 3\r\n\r\n{}" + smuggled, 400},
		{"length with a sign", post + "Content-Length: +2\r\n\r\n{}" + smuggled, 400},
		{"negative length", post + "Content-Length: -1\r\n\r\n{}" + smuggled, 400},
		{"folded header", post + "X-Fold: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}" + smuggled, 400},
		{"NUL in a header", post + "X-Nul: a\x00b\r\nContent-Length: 2\r\n\r\n{}" + smuggled, 400},
		{"length of a GET", "GET /scim/v2/Users/" + id + " HTTP/1.1\r\nHost: x\r\n" + authorized + sized(smuggled), 200},
		{"body behind a refusal", "POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + smuggled, 401},
		{"two requests", post + sized(user("eve", "")) + smuggled, 201},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + smuggled, 404},
		{"no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + smuggled, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			creates := p.sim.Count(scim.OpCreate)
			answers := p.converse(c.request + "GET /the-end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if len(answers) == 0 {
				t.Fatal("no answer")
			}
			if got := answers[0].StatusCode; got != c.first && (c.first != 400 || got != 505) {
				t.Errorf("got %d, want %d", got, c.first)
			}
			for i, a := range answers[1:] {
				if a.StatusCode < 400 {
					t.Errorf("answer %d: got %d, want nothing done", i+2, a.StatusCode)
				}
			}
			if c.first >= 400 && p.sim.Count(scim.OpCreate) != creates {
				t.Error("a create was sent upstream")
			}
			if n := p.sim.Count(scim.OpDelete); n != 0 {
				t.Errorf("%d deletes were sent upstream", n)
			}
		})
	}
	if a := p.do("GET", "/Users/"+id, ""); a.status != 200 {
		t.Errorf("afterwards: got %d, want the user", a.status)
	}
}

// The listener bounds the headers: a flood costs one connection, and what is within the bound is served.
func TestHeaderFlood(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	handler := NewDoor(DoorConfig{Logger: p.logger, Connections: []DoorConnection{{Path: "/scim/v2", Gateway: p.gateway, Tokens: []Token{{Name: "entra", SHA256: sha256.Sum256([]byte(testToken))}}}}})
	line, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(handler, p.logger)
	done := make(chan error, 1)
	go func() { done <- server.Serve(line) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	q := *p
	q.url = "http://" + line.Addr().String() + "/scim/v2"
	get := "GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + authorized
	for _, c := range []struct {
		name, request string
		want          int
	}{
		{"1,000 headers", get + strings.Repeat("X-A: 1\r\n", 1000) + "\r\n", 200},
		{"1,000 different headers", get + numbered("X-%d: 1\r\n", 1000) + "\r\n", 200},
		{"100,000 headers", get + numbered("X-%d: 1\r\n", 100_000) + "\r\n", 431},
		{"one long header", get + "X-A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", 431},
		{"one long name", get + strings.Repeat("a", 64<<10) + ": 1\r\n\r\n", 431},
		{"a long target", "GET /scim/v2/Users?" + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\nHost: x\r\n" + authorized + "\r\n", 431},
		{"a long method", strings.Repeat("A", 64<<10) + " / HTTP/1.1\r\nHost: x\r\n\r\n", 431},
		{"a long token", "GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + strings.Repeat(".", 30<<10) + "\r\n\r\n", 401},
		{"a flood of trailers", "POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + authorized + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + numbered("X-%d: 1\r\n", 100_000) + "\r\n", 400},
	} {
		answers := q.converse(c.request)
		switch {
		case len(answers) == 0 && c.want == 431: // the rest of the flood was cut off before the answer was read
		case len(answers) == 0:
			t.Errorf("%s: no answer, want %d", c.name, c.want)
		case answers[0].StatusCode != c.want:
			t.Errorf("%s: got %d, want %d", c.name, answers[0].StatusCode, c.want)
		}
	}
}

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// pipes is a listener without a network, so that time can be virtual.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipes) Close() error   { close(l.closed); return nil }
func (l *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// A client that sends or reads too slowly is not waited for: the listener ends it at the bounds of NewServer, an
// authenticated one whose body does not come is told so, and its place is free again.
func TestSlowClients(t *testing.T) {
	const post = "POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\n" + authorized + "Content-Length: 1000\r\n\r\n"
	for _, c := range []struct {
		name, sent, drip string
		after            time.Duration
		want             string
	}{
		{"no headers", "", "", 10 * time.Second, ""},
		{"slow headers", "GET /scim/v2/Users HTTP/1.1\r\n", "X-A: 1\r\n", 10 * time.Second, ""},
		{"no body", post, "", 30 * time.Second, "HTTP/1.1 400"},
		{"slow body", post, " ", 30 * time.Second, "HTTP/1.1 400"},
		{"slow chunks", strings.Replace(post, "Content-Length: 1000", "Transfer-Encoding: chunked", 1), "1\r\n \r\n", 30 * time.Second, "HTTP/1.1 400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBare(t, builtin(t, "bluejeans"))
				line := &pipes{make(chan net.Conn), make(chan struct{})}
				server := NewServer(b.door, b.gateway.Logger)
				done := make(chan error, 1)
				go func() { done <- server.Serve(line) }()
				here, there := net.Pipe()
				line.conns <- there
				began := time.Now()
				dripped := make(chan struct{})
				go func() {
					defer close(dripped)
					_, err := io.WriteString(here, c.sent)
					for err == nil && c.drip != "" {
						time.Sleep(time.Second)
						_, err = io.WriteString(here, c.drip)
					}
				}()
				answer, err := io.ReadAll(here)
				took := time.Since(began)
				if err != nil || took < c.after || took > c.after+2*time.Second || !strings.HasPrefix(string(answer), c.want) || c.want == "" && len(answer) > 0 {
					t.Errorf("got %.200q, %v after %v, want %q after %v", answer, err, took, c.want, c.after)
				}
				if c.want != "" {
					res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(res.Body)
					if err != nil {
						t.Error(err)
					}
					checkError(t, res.StatusCode, body, res.Header.Get("X-Request-Id"))
				}
				if n := b.wire.sent(); n != 0 {
					t.Errorf("%d writes were sent upstream", n)
				}
				_ = here.Close()
				_ = server.Close()
				<-done
				<-dripped
			})
		})
	}
}
