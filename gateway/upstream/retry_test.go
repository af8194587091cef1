package upstream

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"

	"scimgate/transform/scim"
)

func TestRetries(t *testing.T) {
	fail := func(status int, headers ...string) func(*http.Request) (*http.Response, error) {
		return func(*http.Request) (*http.Response, error) { return answerOf(status, "", headers...), nil }
	}
	reset := func(*http.Request) (*http.Response, error) { return nil, errReset }
	html := func(*http.Request) (*http.Response, error) { return answerOf(200, "<html>hello</html>"), nil }
	broken := func(*http.Request) (*http.Response, error) {
		return answerOf(200, `{"schemas":[],"id":"1","userName":"a`), nil
	}
	for _, test := range []struct {
		name   string
		req    func(testing.TB) *scim.Request
		first  func(*http.Request) (*http.Response, error) // the first answer; then it works
		status int                                         // of the result, or of the error
		calls  int
	}{
		{"GET 500", reading, fail(500), 200, 2},
		{"GET 502", reading, fail(502), 200, 2},
		{"GET 503", reading, fail(503), 200, 2},
		{"GET 504", reading, fail(504), 200, 2},
		{"GET 429", reading, fail(429), 200, 2},
		{"GET 429 with Retry-After", reading, fail(429, "Retry-After", "3"), 200, 2},
		{"GET 501", reading, fail(501), 502, 1},
		{"GET 400", reading, fail(400), 400, 1},
		{"GET 302", reading, fail(302, "Location", "/elsewhere"), 502, 1},
		{"GET reset", reading, reset, 200, 2},
		{"GET no connection", reading, unsent, 200, 2},
		{"GET hang", reading, hang, 200, 2},
		{"GET HTML", reading, html, 200, 2},
		{"GET truncated", reading, broken, 200, 2},
		{"POST no connection", create, unsent, 201, 2},
		{"POST 429", create, fail(429), 201, 2},
		{"POST 503", create, fail(503), 201, 2},
		{"POST 400", create, fail(400), 400, 1},
		{"DELETE 502", removing, fail(502), 204, 2},
		{"DELETE reset", removing, reset, 204, 2},
		{"DELETE 429", removing, fail(429), 204, 2},
		{"DELETE no connection", removing, unsent, 204, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &wireFake{answer: func(n int, r *http.Request, _ string) (*http.Response, error) {
					switch {
					case n == 1:
						return test.first(r)
					case r.Method == http.MethodPost:
						return answerOf(201, oneUser), nil
					case r.Method == http.MethodDelete:
						return answerOf(204, ""), nil
					}
					return answerOf(200, oneUser), nil
				}}
				c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
				resp, err := c.Do(t.Context(), test.req(t))
				if err != nil {
					isError(t, err, test.status)
				} else if resp.Status != test.status {
					t.Errorf("got status %d, want %d", resp.Status, test.status)
				}
				if got := len(fake.all()); got != test.calls {
					t.Errorf("got %d calls, want %d", got, test.calls)
				}
				if got := len(resp.Attempts); got != test.calls {
					t.Errorf("got %d attempts told, want %d", got, test.calls)
				}
				if got := c.State().InFlight; got != 0 {
					t.Errorf("got %d in flight, want 0", got)
				}
			})
		})
	}
}

func reading(testing.TB) *scim.Request  { return get() }
func removing(testing.TB) *scim.Request { return remove() }

func TestAtMostThreeAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := (&status{code: 429}).fake()
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
		resp, err := c.Do(t.Context(), create(t))
		if e := isError(t, err, 429); e.RetryAfter != time.Second {
			t.Errorf("got Retry-After %v, want 1s", e.RetryAfter)
		}
		if got := len(fake.all()); got != 3 || len(resp.Attempts) != 3 {
			t.Errorf("got %d calls and %d attempts told, want 3", got, len(resp.Attempts))
		}
		for _, a := range resp.Attempts {
			if a.Status != 429 || !a.Sent || a.Method != "POST" || a.Target != "POST /Users" || a.Error == "" || a.Started.IsZero() {
				t.Errorf("got attempt %+v", a)
			}
		}
	})
}

// Whatever fails, and however: three attempts at most, each told.
func TestNeverMoreThanThreeAttempts(t *testing.T) {
	statusOf := func(code int) func(*http.Request) (*http.Response, error) {
		return func(*http.Request) (*http.Response, error) { return answerOf(code, ""), nil }
	}
	for _, test := range []struct {
		name   string
		req    func(testing.TB) *scim.Request
		answer func(*http.Request) (*http.Response, error)
		calls  int
	}{
		{"GET 500", reading, statusOf(500), 3},
		{"GET 503", reading, statusOf(503), 3},
		{"GET 429", reading, statusOf(429), 3},
		{"GET hang", reading, hang, 3},
		{"GET no connection", reading, unsent, 3},
		{"POST 503", create, statusOf(503), 3},
		{"POST no connection", create, unsent, 3},
		{"DELETE 502", removing, statusOf(502), 3},
		{"DELETE reset", removing, func(*http.Request) (*http.Response, error) { return nil, errReset }, 3},
		{"DELETE 404", removing, statusOf(404), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &wireFake{answer: func(_ int, r *http.Request, _ string) (*http.Response, error) { return test.answer(r) }}
				c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport, cfg.Deadline = fake, time.Hour })
				resp, err := c.Do(t.Context(), test.req(t))
				if got := len(fake.all()); err == nil || got != test.calls || len(resp.Attempts) != got {
					t.Errorf("got %v after %d calls, %d of them told, want an error after %d", err, got, len(resp.Attempts), test.calls)
				}
			})
		})
	}
}

func TestRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := (&status{code: 429}).fake() // fails everything and does not open the breaker
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
		const n = 1000
		for range n {
			if _, err := c.Do(t.Context(), create(t)); err == nil {
				t.Fatal("got no error")
			}
		}
		if got, most := len(fake.all()), n+n/5+budgetAtStart/retryCost; got > most || got < n+n/5 {
			t.Errorf("got %d calls for %d requests, want at most %d", got, n, most)
		}
	})
	var b budget
	for range 10000 {
		b.earn()
	}
	n := 0
	for b.spend() {
		n++
	}
	if n != 100 {
		t.Errorf("saved %d retries, want at most 100", n)
	}
}

// With everything failing for real the breaker does the rest.
func TestLoadWhenEverythingFails(t *testing.T) {
	for _, code := range []int{500, 0} {
		synctest.Test(t, func(t *testing.T) {
			fake := (&status{code: code}).fake()
			c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport, cfg.Timeout = fake, time.Second })
			first := 0
			for i := range 200 {
				req := get()
				if i%2 == 1 {
					req = create(t)
				}
				if p, err := c.Admit(t.Context()); err == nil {
					first++
					_, err = c.Send(t.Context(), p, req)
					if err == nil {
						t.Fatal("got no error")
					}
				}
				time.Sleep(time.Second)
			}
			if got, most := len(fake.all()), first+first/5+budgetAtStart/retryCost; got > most {
				t.Errorf("got %d calls for %d requests, want at most %d", got, first, most)
			}
		})
	}
}

func TestNeverPastTheDeadline(t *testing.T) {
	for _, test := range []struct {
		name string
		code int
	}{{"hang", 0}, {"502", 502}, {"429", 429}} {
		for _, deadline := range []time.Duration{50 * time.Millisecond, 2 * time.Second, 15 * time.Second, time.Hour} {
			t.Run(test.name+" "+deadline.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fake := (&status{code: test.code}).fake()
					c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
					ctx, cancel := context.WithTimeout(t.Context(), deadline)
					defer cancel()
					began := time.Now()
					_, err := c.Do(ctx, create(t))
					if err == nil {
						t.Fatal("got no error")
					}
					if got := time.Since(began); got > min(deadline, DefaultDeadline) {
						t.Errorf("took %v", got)
					}
					for _, at := range fake.all() {
						if at.Sub(began) >= deadline {
							t.Errorf("a call %v after the start", at.Sub(began))
						}
					}
				})
			})
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		name, header string
		wait         time.Duration // before the second call; 0: a back-off of at most 100 ms; -1: no second call
		passed       time.Duration // what the client is told then
	}{
		{"seconds", "2", 2 * time.Second, 0},
		{"date", "@3", 3 * time.Second, 0},
		{"zero", "0", 0, 0},
		{"past", "@-100", 0, 0},
		{"garbage", "soon", 0, 0},
		{"negative", "-5", 0, 0},
		{"fraction", "1.5", 0, 0},
		{"long", "60", -1, time.Minute},
		{"far date", "@60", -1, time.Minute},
		{"huge", "99999999999999999999999", -1, maxRetryAfter},
		{"capped", "86400", -1, maxRetryAfter},
	} {
		for _, code := range []int{429, 503} {
			t.Run(test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					began := time.Now()
					header := test.header
					if header[0] == '@' {
						d, err := time.ParseDuration(header[1:] + "s")
						if err != nil {
							t.Fatal(err)
						}
						header = began.Add(d).UTC().Format(http.TimeFormat)
					}
					fake := &wireFake{answer: func(n int, _ *http.Request, _ string) (*http.Response, error) {
						if n == 1 {
							return answerOf(code, "", "Retry-After", header), nil
						}
						return answerOf(201, oneUser), nil
					}}
					c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
					_, err := c.Do(t.Context(), create(t))
					times := fake.all()
					switch {
					case test.wait < 0:
						if e := isError(t, err, code); e.RetryAfter != test.passed {
							t.Errorf("got Retry-After %v, want %v", e.RetryAfter, test.passed)
						}
						if len(times) != 1 {
							t.Errorf("got %d calls, want 1", len(times))
						}
					case err != nil || len(times) != 2:
						t.Errorf("got %v after %d calls, want success after 2", err, len(times))
					case test.wait > 0 && times[1].Sub(began) != test.wait:
						t.Errorf("the second call came after %v, want %v", times[1].Sub(began), test.wait)
					case test.wait == 0 && times[1].Sub(began) > backoffBase:
						t.Errorf("the second call came after %v, want at most %v", times[1].Sub(began), backoffBase)
					}
				})
			})
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "1", "-1", "99999999999", "Wed, 21 Oct 2015 07:28:00 GMT", "x", " 7 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		out := outcome{err: &scim.Failure{Status: 429, RetryAfter: header}}
		out.after = scim.ParseRetryAfter(header, time.Unix(1e9, 0), maxRetryAfter)
		c := &Client{}
		e := c.translateFailure(get(), out.failure(), &out)
		if e.RetryAfter <= 0 || e.RetryAfter > maxRetryAfter {
			t.Errorf("%q: got Retry-After %v", header, e.RetryAfter)
		}
	})
}

func TestBackoffBounds(t *testing.T) {
	for n, most := range map[int]time.Duration{1: backoffBase, 2: 2 * backoffBase, 3: 4 * backoffBase, 9: backoffCap, 1000: backoffCap} {
		for range 100 {
			if d := backoff(n); d < 0 || d > most {
				t.Errorf("backoff(%d) = %v, want 0 to %v", n, d, most)
			}
		}
	}
}

// An idle connection that the upstream has closed is neither a failure of the upstream nor a call.
func TestStaleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &wireFake{answer: func(n int, r *http.Request, _ string) (*http.Response, error) {
			if n%2 == 1 {
				trace := httptrace.ContextClientTrace(r.Context())
				trace.GetConn("upstream:443")
				trace.GotConn(httptrace.GotConnInfo{Reused: true})
				return nil, io.EOF
			}
			return answerOf(201, oneUser), nil
		}}
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
		c.budget.fifths = -100
		for range 10 {
			resp, err := c.Do(t.Context(), create(t))
			if err != nil || resp.Status != 201 || len(resp.Attempts) != 2 || resp.Attempts[0].Sent {
				t.Fatalf("got %+v, %v, want success at the second attempt", resp, err)
			}
		}
	})
}
