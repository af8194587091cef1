package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"scimgate/transform/scim"
)

// forgetful is a service provider on loopback that does what it is asked and then loses its answer to a create.
type forgetful struct {
	t    *testing.T
	lose func(w http.ResponseWriter, r *http.Request)

	mu    sync.Mutex
	users []scim.Resource
}

func (f *forgetful) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			f.t.Error(err)
		}
		u, err := scim.DecodeObject(body)
		if err != nil {
			f.t.Error(err)
		}
		f.mu.Lock()
		u["id"] = fmt.Sprint(len(f.users) + 1)
		u["meta"] = map[string]any{"created": time.Now().UTC().Format(time.RFC3339Nano)}
		f.users = append(f.users, u)
		f.mu.Unlock()
		f.lose(w, r)
		return
	}
	filter, err := scim.ParseFilter(r.URL.Query().Get("filter"))
	if err != nil {
		f.t.Error(err)
	}
	var found scim.Response
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range f.users {
		if ok, err := userType.Match(filter, u); err == nil && ok {
			found.List = append(found.List, u)
		}
	}
	found.TotalResults = len(found.List)
	w.Header().Set("Content-Type", scim.MediaType)
	_, _ = w.Write(scim.AppendListResponse(nil, &found))
}

func hijack(t *testing.T, w http.ResponseWriter) *net.TCPConn {
	t.Helper()
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// losses are the ways in which the answer to a request that was carried out gets lost.
func losses(t *testing.T) map[string]func(http.ResponseWriter, *http.Request) {
	return map[string]func(http.ResponseWriter, *http.Request){
		"closed": func(w http.ResponseWriter, _ *http.Request) { _ = hijack(t, w).Close() },
		"reset": func(w http.ResponseWriter, _ *http.Request) {
			c := hijack(t, w)
			_ = c.SetLinger(0)
			_ = c.Close()
		},
		"truncated": func(w http.ResponseWriter, _ *http.Request) {
			c := hijack(t, w)
			_, _ = io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{\"schemas\":[")
			_ = c.Close()
		},
		"half a status line": func(w http.ResponseWriter, _ *http.Request) {
			c := hijack(t, w)
			_, _ = io.WriteString(c, "HTTP/1.1 20")
			_ = c.Close()
		},
		"not HTTP": func(w http.ResponseWriter, _ *http.Request) {
			c := hijack(t, w)
			_, _ = io.WriteString(c, "SSH-2.0-secret@example.com\r\n\r\n")
			_ = c.Close()
		},
		"hang": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"hung body": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(201)
			_, _ = w.Write([]byte("{"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"HTML": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); _, _ = w.Write([]byte("<html>")) },
		"no id": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(201)
			_, _ = w.Write([]byte(`{"userName":"x"}`))
		},
		"500":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"502":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) },
		"504":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(504) },
		"too large": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); _, _ = w.Write(make([]byte, 10000)) },
	}
}

func TestOneUserPerCreate(t *testing.T) {
	for name, lose := range losses(t) {
		t.Run(name, func(t *testing.T) {
			f := &forgetful{t: t, lose: lose}
			server := httptest.NewServer(f)
			defer server.Close()
			c := start(t, server.URL+"/scim/", func(cfg *Config) {
				cfg.Timeout, cfg.MaxBody = 200*time.Millisecond, 5000
			})
			for i := range 4 {
				req := create(t)
				req.Resource["userName"] = fmt.Sprintf("user%d", i)
				resp, err := c.Do(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				if resp.Status != 201 || resp.Recovered != "adopted" || resp.Resource.ID() != fmt.Sprint(i+1) {
					t.Errorf("got %d %q id %s, want the user that was made", resp.Status, resp.Recovered, resp.Resource.ID())
				}
				if len(resp.Attempts) != 2 || !resp.Attempts[0].Sent || resp.Attempts[1].Target != "GET /Users?filter=userName eq" {
					t.Errorf("got attempts %+v", resp.Attempts)
				}
				if strings.Contains(resp.Attempts[0].Error, "example.com") {
					t.Errorf("an attempt quotes the upstream: %s", resp.Attempts[0].Error)
				}
			}
			if got := len(f.users); got != 4 {
				t.Errorf("got %d users upstream, want 4", got)
			}
			server.CloseClientConnections()
		})
	}
}

func TestAdoption(t *testing.T) {
	user := func(created, more string) string {
		meta := ""
		if created != "" {
			meta = `,"meta":{"created":"` + created + `"}`
		}
		return `{"id":"7","userName":"Ann"` + more + meta + `}`
	}
	const all = `,"title":"dr","emails":[{"type":"work","value":"ann@example.com","primary":true},{"value":"b"}],"active":true`
	at := func(d time.Duration, layout string) string {
		return time.Date(2000, 1, 1, 0, 0, 0, 500_400_000, time.UTC).Add(d).Format(layout) // 500.4 ms into a bubble's time
	}
	const fine, seconds = "2006-01-02T15:04:05.000000Z", "2006-01-02T15:04:05Z"
	for _, test := range []struct {
		name string
		list string
		date time.Duration // by how much the upstream's clock is ahead
		want bool
	}{
		{"created after our first byte", listOf(user(at(time.Millisecond, fine), "")), 0, true},
		{"created with milliseconds only", listOf(user(at(0, "2006-01-02T15:04:05.000Z"), "")), 0, true},
		{"created just before it", listOf(user(at(-2*time.Millisecond, fine), all)), 0, false},
		{"created a year before", listOf(user(at(-8760*time.Hour, fine), all)), 0, false},
		{"whole seconds, all there", listOf(user(at(0, seconds), all)), 0, true},
		{"whole seconds, something else there", listOf(user(at(0, seconds), "")), 0, false},
		{"whole seconds, the second before", listOf(user(at(-time.Second, seconds), all)), 0, false},
		{"no created, all there", listOf(user("", all)), 0, true},
		{"no created, another title", listOf(user("", strings.Replace(all, "dr", "Mr", 1))), 0, false},
		{"created is no date", listOf(user("yesterday", all)), 0, false},
		{"clock ahead, made before us", listOf(user(at(10*time.Second, fine), all)), 30 * time.Second, false},
		{"clock ahead, made by us", listOf(user(at(30*time.Second, fine), all)), 30 * time.Second, true},
		{"clock behind, made by us", listOf(user(at(-30*time.Second, fine), all)), -30 * time.Second, true},
		{"clock behind, something else there", listOf(user(at(-30*time.Second, fine), "")), -30 * time.Second, false},
		{"another externalId", listOf(user(at(time.Second, fine), `,"externalId":"theirs"`)), 0, false},
		{"two of the name", listOf(user(at(time.Second, fine), all), user(at(time.Second, fine), all)), 0, false},
		{"filter passed over", listOf(`{"id":"1","userName":"bob"}`, user(at(time.Second, fine), all), `{"id":"2","userName":"anne"}`), 0, true},
		{"filter passed over, ours is not there", listOf(`{"id":"1","userName":"bob","meta":{"created":"` + at(time.Second, fine) + `"}}`), 0, false},
		{"nobody", emptyList, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &wireFake{answer: func(_ int, r *http.Request, _ string) (*http.Response, error) {
					if r.Method == http.MethodPost {
						return nil, errReset
					}
					res := answerOf(200, test.list)
					if test.date != 0 {
						res.Header.Set("Date", time.Now().UTC().Add(test.date).Format(http.TimeFormat))
					}
					return res, nil
				}}
				c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
				time.Sleep(500_400 * time.Microsecond)
				req := create(t)
				req.Resource["externalId"] = "ours"
				if !strings.Contains(test.list, "theirs") {
					delete(req.Resource, "externalId")
				}
				resp, err := c.Do(t.Context(), req)
				if fake.count("POST") != 1 {
					t.Errorf("got %d POSTs, want 1", fake.count("POST"))
				}
				if test.want {
					if err != nil || resp.Status != 201 || resp.Resource.ID() != "7" || resp.Recovered != "adopted" {
						t.Errorf("got %+v, %v, want user 7 adopted", resp, err)
					}
					return
				}
				e := isError(t, err, 503)
				if !errors.Is(err, ErrUnknown) || e.RetryAfter <= 0 {
					t.Errorf("got %v with Retry-After %v, want ErrUnknown and a Retry-After", err, e.RetryAfter)
				}
				if resp == nil || resp.Resource != nil || len(resp.Attempts) == 0 {
					t.Errorf("got %+v, want attempts only", resp)
				}
			})
		})
	}
}

// A look-up goes on until the deadline when the upstream does not answer it, also while the breaker is open.
func TestLookUpGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &wireFake{answer: func(n int, r *http.Request, _ string) (*http.Response, error) {
			if n <= 6 {
				return nil, errReset
			}
			return answerOf(200, listOf(`{"id":"1","userName":"ann","meta":{"created":"2000-01-01T00:00:00.5Z"}}`)), nil
		}}
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
		resp, err := c.Do(t.Context(), create(t))
		if err != nil || resp.Recovered != "adopted" {
			t.Fatalf("got %+v, %v, want an adopted user", resp, err)
		}
		if got := fake.count("POST"); got != 1 {
			t.Errorf("got %d POSTs, want 1", got)
		}
	})
}

func TestLookUpEndsWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = (&status{}).fake() })
		began := time.Now()
		_, err := c.Do(t.Context(), create(t))
		if isError(t, err, 504); !errors.Is(err, ErrUnknown) {
			t.Errorf("got %v, want ErrUnknown", err)
		}
		if got := time.Since(began); got > DefaultDeadline {
			t.Errorf("took %v, want at most %v", got, DefaultDeadline)
		}
	})
}

// A create that is repeated after a 503 and then finds the name taken was done the first time, if it shows.
func TestConflictOnRepeatedCreate(t *testing.T) {
	for created, want := range map[string]int{"2000-01-01T00:00:00.5Z": 201, "1999-01-01T00:00:00.5Z": 409} {
		synctest.Test(t, func(t *testing.T) {
			fake := &wireFake{answer: func(n int, r *http.Request, _ string) (*http.Response, error) {
				switch n {
				case 1:
					return answerOf(503, ""), nil
				case 2:
					return answerOf(409, scimError("409", "uniqueness", "taken")), nil
				}
				return answerOf(200, listOf(`{"id":"1","userName":"ann","meta":{"created":"`+created+`"}}`)), nil
			}}
			c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
			resp, err := c.Do(t.Context(), create(t))
			if want == 201 && (err != nil || resp.Recovered != "adopted") {
				t.Errorf("got %+v, %v, want an adopted user", resp, err)
			} else if want == 409 {
				if e := isError(t, err, 409); e.Type != "uniqueness" {
					t.Errorf("got %v", e)
				}
			}
		})
	}
}

func TestLostUpdate(t *testing.T) {
	put := func(text string) func(*testing.T) *scim.Request {
		return func(t *testing.T) *scim.Request {
			return &scim.Request{Op: scim.OpReplace, Type: userType, ID: "1", Resource: object(t, text)}
		}
	}
	ops := func(triples ...any) func(*testing.T) *scim.Request {
		return func(t *testing.T) *scim.Request { return patch(t, triples...) }
	}
	guarded := func(version string, inner func(*testing.T) *scim.Request) func(*testing.T) *scim.Request {
		return func(t *testing.T) *scim.Request {
			req := inner(t)
			req.Preconditions.IfMatch = version
			return req
		}
	}
	const (
		before = `{"id":"1","userName":"ann","title":"Dr","emails":[{"type":"work","value":"a@b"}],"meta":{"version":"W/\"1\""}}`
		after  = `{"id":"1","userName":"ann","title":"Prof","emails":[{"type":"work","value":"a@b"}],"meta":{"version":"W/\"2\""}}`
	)
	const (
		done     = "done"     // read again, success
		repeated = "repeated" // sent twice, success
		open     = "open"     // unknown
		gone     = "gone"     // 404
	)
	for _, test := range []struct {
		name string
		req  func(*testing.T) *scim.Request
		read string // what is read back
		want string
	}{
		{"replace was done", ops("replace", "title", "Prof"), after, done},
		{"replace was not done", ops("replace", "title", "Prof"), before, repeated},
		{"remove was done", ops("remove", "title", nil), `{"id":"1","userName":"ann"}`, done},
		{"remove was not done", ops("remove", "title", nil), before, repeated},
		{"add of a single value was not done", ops("add", "title", "Prof"), before, repeated},
		{"add of an object of single values was not done", ops("add", "", map[string]any{"title": "Prof", "active": true}), before, repeated},
		{"add of a value was done", ops("add", "emails", []any{map[string]any{"type": "work", "value": "a@b"}}), before, done},
		{"add of a value was not done", ops("add", "emails", []any{map[string]any{"value": "c@d"}}), before, open},
		{"add of an object with values was not done", ops("add", "", map[string]any{"emails": []any{map[string]any{"value": "c@d"}}}), before, open},
		{"replace and add, not done", ops("replace", "title", "Prof", "add", "emails", []any{map[string]any{"value": "c@d"}}), before, open},
		{"version is the same", guarded(`W/"1"`, ops("replace", "title", "Prof")), before, repeated},
		{"version is another", guarded(`W/"0"`, ops("replace", "title", "Prof")), before, open},
		{"PUT was done", put(`{"userName":"ann","title":"Prof","emails":[{"type":"work","value":"a@b"}]}`), after, done},
		{"PUT was not done", put(`{"userName":"ann","title":"Prof","emails":[{"type":"work","value":"a@b"}]}`), before, repeated},
		{"PUT that removes was not done", put(`{"userName":"ann","emails":[{"type":"work","value":"a@b"}]}`), before, repeated},
		{"resource is gone", ops("replace", "title", "Prof"), "", gone},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				writes := 0
				fake := &wireFake{answer: func(_ int, r *http.Request, _ string) (*http.Response, error) {
					switch {
					case r.Method == http.MethodGet && test.read == "":
						return answerOf(404, scimError("404", "", "no such user")), nil
					case r.Method == http.MethodGet:
						return answerOf(200, test.read), nil
					}
					if writes++; writes == 1 {
						return nil, errReset
					}
					return answerOf(200, after), nil
				}}
				c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
				resp, err := c.Do(t.Context(), test.req(t))
				if n := fake.count("P"); (n == 2) != (test.want == repeated) {
					t.Errorf("sent %d times", n)
				}
				switch test.want {
				case done:
					if err != nil || resp.Status != 200 || resp.Recovered != "read again" || resp.Resource.ID() != "1" {
						t.Errorf("got %+v, %v, want success by reading again", resp, err)
					}
				case repeated:
					if err != nil || resp.Status != 200 || resp.Recovered != "" {
						t.Errorf("got %+v, %v, want success by sending again", resp, err)
					}
				case open:
					if isError(t, err, 503); !errors.Is(err, ErrUnknown) {
						t.Errorf("got %v, want ErrUnknown", err)
					}
				case gone:
					if isError(t, err, 404); errors.Is(err, ErrUnknown) {
						t.Errorf("got %v, want a plain 404", err)
					}
				}
			})
		})
	}
}

func TestLostDelete(t *testing.T) {
	for _, test := range []struct {
		name          string
		first, second int // status; 0: reset
		body          string
		want          int
		recovered     string
		unknown       bool
	}{
		{"done the first time", 0, 404, scimError("404", "", "gone"), 204, "read again", false},
		{"done the first time behind a 502", 502, 404, scimError("404", "", "gone"), 204, "read again", false},
		{"done the second time", 0, 204, "", 204, "", false},
		{"was never there", 404, 0, scimError("404", "", "gone"), 404, "", false},
		{"not there after a 429", 429, 404, scimError("404", "", "gone"), 404, "", false},
		{"a 404 page is not gone", 0, 404, "<html>", 502, "", true},
		{"refused the second time", 0, 403, "", 502, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &wireFake{answer: func(n int, _ *http.Request, _ string) (*http.Response, error) {
					code := test.first
					if n > 1 {
						code = test.second
					}
					if code == 0 {
						return nil, errReset
					}
					return answerOf(code, test.body), nil
				}}
				c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
				resp, err := c.Do(t.Context(), remove())
				if test.want == 204 {
					if err != nil || resp.Status != 204 || resp.Recovered != test.recovered {
						t.Errorf("got %+v, %v, want 204 %q", resp, err, test.recovered)
					}
					return
				}
				isError(t, err, test.want)
				if got := errors.Is(err, ErrUnknown); got != test.unknown {
					t.Errorf("got ErrUnknown %v, want %v", got, test.unknown)
				}
			})
		})
	}
}

func TestHolds(t *testing.T) {
	for _, test := range []struct {
		sent, got string
		want      bool
	}{
		{`{"title":"Dr"}`, `{"title":"dr"}`, true},
		{`{"title":"Dr"}`, `{}`, false},
		{`{"title":null,"name":{},"roles":[],"nickName":""}`, `{}`, true},
		{`{"externalId":"A"}`, `{"externalId":"a"}`, false},
		{`{"password":"x"}`, `{}`, true},
		{`{"name":{"givenName":"A"}}`, `{"name":{"givenName":"A","formatted":"A B"}}`, true},
		{`{"name":{"givenName":"A"}}`, `{"name":{"formatted":"A B"}}`, false},
		{`{"name":{"givenName":"A"}}`, `{"name":"A"}`, false},
		{`{"emails":[{"value":"a"},{"value":"b"}]}`, `{"emails":[{"value":"b"},{"value":"a"}]}`, true},
		{`{"emails":[{"value":"a"},{"value":"b"}]}`, `{"emails":[{"value":"b"}]}`, false},
		{`{"active":true}`, `{"active":false}`, false},
		{`{"x":1}`, `{"x":1}`, true},
		{`{"x":1}`, `{"x":{"y":1}}`, false},
		{`{"x":"a"}`, `{"x":"A"}`, false},
		{`{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"manager":"7","department":"d"}}`,
			`{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"manager":{"value":"7"},"department":"d"}}`, true},
		{`{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"d"}}`, `{}`, false},
	} {
		x := exchange{req: &scim.Request{Type: userType, Resource: object(t, test.sent)}}
		if got := x.holdsAll(object(t, test.got)); got != test.want {
			t.Errorf("sent %s, read %s: got %v, want %v", test.sent, test.got, got, test.want)
		}
	}
}
