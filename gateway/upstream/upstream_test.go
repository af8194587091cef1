package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/transform/scim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testToken = "token-of-the-gateway"

var userType = scim.UserType()

func generic(t testing.TB) *profile.Profile {
	t.Helper()
	p, err := profile.Load("generic")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// start makes a client that is closed with the test. change may be nil.
func start(t testing.TB, base string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{BaseURL: base, Profile: generic(t), Token: secret.Literal(testToken)}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// wireFake is an upstream in memory: answer gets the number of the call, from 1, and the request's body.
type wireFake struct {
	answer func(n int, r *http.Request, body string) (*http.Response, error)

	mu    sync.Mutex
	times []time.Time
	calls []string // "GET /Users/1"
}

func (w *wireFake) RoundTrip(r *http.Request) (*http.Response, error) {
	var body string
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(b)
	}
	w.mu.Lock()
	w.times = append(w.times, time.Now())
	w.calls = append(w.calls, r.Method+" "+r.URL.Path)
	n := len(w.calls)
	w.mu.Unlock()
	return w.answer(n, r, body)
}

func (w *wireFake) count(method string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.calls {
		if strings.HasPrefix(c, method) {
			n++
		}
	}
	return n
}

func (w *wireFake) all() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Time(nil), w.times...)
}

// answerOf makes an answer; headers are name, value, name, value.
func answerOf(status int, body string, headers ...string) *http.Response {
	res := &http.Response{
		StatusCode: status, Header: http.Header{}, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
	}
	for i := 0; i+1 < len(headers); i += 2 {
		res.Header.Set(headers[i], headers[i+1])
	}
	return res
}

func scimError(status, scimType, detail string) string {
	return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"` + status + `","scimType":"` + scimType +
		`","detail":"` + detail + `"}`
}

const (
	emptyList = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"totalResults":0,"Resources":[]}`
	oneUser   = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"id":"1","userName":"ann","title":"Dr"}`
)

func listOf(users ...string) string {
	return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"totalResults":` +
		string(rune('0'+len(users))) + `,"Resources":[` + strings.Join(users, ",") + `]}`
}

// errReset is a connection that broke after the request was sent.
var errReset = error(syscall.ECONNRESET)

// unsent is a connection that could not be made: net/http reports that it looked for one, and no more.
func unsent(r *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
		trace.GetConn("upstream:443")
	}
	return nil, syscall.ECONNREFUSED
}

// hang answers when the attempt is given up.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func get() *scim.Request { return &scim.Request{Op: scim.OpGet, Type: userType, ID: "1"} }

func remove() *scim.Request { return &scim.Request{Op: scim.OpDelete, Type: userType, ID: "1"} }

func object(t testing.TB, text string) scim.Resource {
	t.Helper()
	r, err := scim.DecodeObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	userType.Canonicalize(r)
	return r
}

func create(t testing.TB) *scim.Request {
	return &scim.Request{Op: scim.OpCreate, Type: userType, Resource: object(t,
		`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ann","title":"Dr",`+
			`"emails":[{"type":"work","value":"ann@example.com"}]}`)}
}

// patch makes a request of op, path, value triples.
func patch(t testing.TB, triples ...any) *scim.Request {
	t.Helper()
	req := &scim.Request{Op: scim.OpPatch, Type: userType, ID: "1"}
	for i := 0; i+2 < len(triples); i += 3 {
		op := scim.PatchOp{Op: triples[i].(string), Value: triples[i+2]}
		if s := triples[i+1].(string); s != "" {
			p, err := scim.ParsePath(s)
			if err != nil {
				t.Fatal(err)
			}
			op.Path = p
			op.Target, _ = userType.ResolvePath(p)
		}
		req.Operations = append(req.Operations, op)
	}
	return req
}

func isError(t *testing.T, err error, status int) *scim.Error {
	t.Helper()
	e, ok := errors.AsType[*scim.Error](err)
	if !ok {
		t.Fatalf("got error %v, want an *scim.Error with status %d", err, status)
	}
	if e.Status != status {
		t.Errorf("got %v, want status %d", e, status)
	}
	return e
}

func admit(t *testing.T, c *Client) *Permit {
	t.Helper()
	p, err := c.Admit(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p
}
