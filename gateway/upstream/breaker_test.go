package upstream

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// status answers with what the test wants at the moment.
type status struct {
	mu   sync.Mutex
	code int // 0: hang
}

func (s *status) set(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code = code
}

func (s *status) fake() *wireFake {
	return &wireFake{answer: func(_ int, r *http.Request, _ string) (*http.Response, error) {
		s.mu.Lock()
		code := s.code
		s.mu.Unlock()
		if code == 0 {
			return hang(r)
		}
		if code == 200 {
			return answerOf(200, oneUser), nil
		}
		return answerOf(code, ""), nil
	}}
}

// once sends one request with an empty retry budget, so that every call is one attempt.
func once(t *testing.T, c *Client) error {
	t.Helper()
	c.budget.mu.Lock()
	c.budget.fifths = -1
	c.budget.mu.Unlock()
	_, err := c.Do(context.Background(), get())
	return err
}

func TestBreakerOpensAfterConsecutiveFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &status{code: 502}
		fake := s.fake()
		var changes []string
		c := start(t, "https://upstream.test", func(cfg *Config) {
			cfg.Transport = fake
			cfg.OnBreaker = func(from, to string) { changes = append(changes, from+">"+to) }
		})
		for i := range 5 {
			if got := c.State().Breaker; got != "closed" {
				t.Fatalf("got %s after %d failures, want closed", got, i)
			}
			isError(t, once(t, c), 502)
			time.Sleep(7 * time.Second) // far apart: consecutive is consecutive
		}
		// 7 s of the 10 s are over
		if e := isError(t, once(t, c), 503); e.RetryAfter != 3*time.Second {
			t.Errorf("got Retry-After %v, want 3s", e.RetryAfter)
		}
		if got := len(fake.all()); got != 5 {
			t.Errorf("got %d calls, want 5: an open breaker sends nothing", got)
		}
		s.set(200)
		time.Sleep(3*time.Second + 1)
		if err := once(t, c); err != nil {
			t.Errorf("the probe failed: %v", err)
		}
		synctest.Wait()
		if got, want := c.State().Breaker, "closed"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if want := []string{"closed>open", "open>half-open", "half-open>closed"}; len(changes) != 3 ||
			changes[0] != want[0] || changes[1] != want[1] || changes[2] != want[2] {
			t.Errorf("got changes %v, want %v", changes, want)
		}
	})
}

func TestBreakerOpensAtHalfOfTwenty(t *testing.T) {
	for _, test := range []struct {
		name     string
		failures int // of every 20, never five in a row
		gap      time.Duration
		want     string
	}{
		{"half within the window", 10, 400 * time.Millisecond, "open"},
		{"less than half", 9, 400 * time.Millisecond, "closed"},
		{"half over a longer time", 10, time.Second, "closed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &status{}
				c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = s.fake() })
				for i := range 20 {
					if s.set(200); i%2 == 1 && i/2 < test.failures {
						s.set(500)
					}
					_ = once(t, c)
					time.Sleep(test.gap)
				}
				if got := c.State().Breaker; got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
			})
		})
	}
}

// The share counts from the twentieth attempt on, and over the last ten seconds: to the attempt.
func TestBreakerOpensAtTheTwentieth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &status{}
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = s.fake() })
		began := time.Now()
		for i := 1; i <= 20; i++ {
			if s.set(200); i%2 == 0 {
				s.set(502)
			}
			_ = once(t, c)
			want := "closed"
			if i == 20 {
				want = "open"
			}
			if got := c.State().Breaker; got != want {
				t.Fatalf("got %s after %d attempts, want %s", got, i, want)
			}
			time.Sleep(400 * time.Millisecond)
		}
		s.set(200)
		for _, step := range []struct {
			at   time.Duration // since the first attempt; the circuit opened at 7.6 s
			want string
		}{{17599 * time.Millisecond, "open"}, {17601 * time.Millisecond, "half-open"}} {
			time.Sleep(step.at - time.Since(began))
			if got := c.State().Breaker; got != step.want {
				t.Errorf("got %s after %v, want %s", got, step.at, step.want)
			}
		}
	})
}

// A hung upstream fails each attempt only after its time-out, which is as long as the breaker's window.
func TestBreakerSeesHungUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := (&status{}).fake()
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { _ = once(t, c) })
		}
		wg.Wait()
		if got := c.State().Breaker; got != "open" {
			t.Errorf("got %s after 5 time-outs, want open", got)
		}
	})
}

func TestOneProbeAndHungProbeIsCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &status{code: 503}
		fake := s.fake()
		c := start(t, "https://upstream.test", func(cfg *Config) {
			cfg.Transport, cfg.Timeout, cfg.Deadline = fake, time.Minute, time.Minute
		})
		for range 5 {
			_ = once(t, c)
		}
		time.Sleep(10*time.Second + 1)
		s.set(0)
		began := time.Now()
		probe := make(chan error, 1)
		go func() { probe <- once(t, c) }()
		synctest.Wait()
		if got := c.State().Breaker; got != "half-open" {
			t.Fatalf("got %s, want half-open", got)
		}
		for range 10 {
			if e := isError(t, once(t, c), 503); e.RetryAfter <= 0 {
				t.Error("no Retry-After beside the probe")
			}
		}
		isError(t, <-probe, 504)
		if got := time.Since(began); got != 10*time.Second {
			t.Errorf("the hung probe was cleared after %v, want 10s", got)
		}
		if got := len(fake.all()); got != 6 {
			t.Errorf("got %d calls, want 5 and one probe", got)
		}
		s.set(200)
		time.Sleep(10*time.Second + 1)
		p := admit(t, c)
		if _, err := c.Admit(t.Context()); err == nil {
			t.Error("two probes")
		}
		p.Release() // a probe that is not used is the next one's
		if err := once(t, c); err != nil {
			t.Error(err)
		}
		if got := c.State().Breaker; got != "closed" {
			t.Errorf("got %s, want closed", got)
		}
	})
}

// Whoever comes while the probe is under way waits for it: Entra does not try again for 40 minutes.
func TestRequestsWaitForTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &status{code: 503}
		fake := s.fake()
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
		for range 5 {
			_ = once(t, c)
		}
		time.Sleep(10*time.Second + 1)
		s.set(200)
		before := len(fake.all())
		probe := admit(t, c)
		var wg sync.WaitGroup
		var failed atomic.Int32
		for range 8 {
			wg.Go(func() {
				if once(t, c) != nil {
					failed.Add(1)
				}
			})
		}
		synctest.Wait()
		if got := len(fake.all()) - before; got != 0 {
			t.Errorf("got %d calls beside the probe, want 0", got)
		}
		if _, err := c.Send(t.Context(), probe, get()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if got := failed.Load(); got != 0 {
			t.Errorf("%d of 8 requests failed although the probe succeeded", got)
		}
	})
}

func TestWhatTheBreakerCounts(t *testing.T) {
	for _, test := range []struct {
		name string
		code int
		want string
	}{
		{"400", 400, "closed"}, {"401", 401, "closed"}, {"404", 404, "closed"}, {"409", 409, "closed"}, {"429", 429, "closed"},
		{"500", 500, "open"}, {"503", 503, "open"}, {"504", 504, "open"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = (&status{code: test.code}).fake() })
				for range 30 {
					_ = once(t, c)
				}
				if got := c.State().Breaker; got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
			})
		})
	}
	for _, test := range []struct {
		name   string
		answer func(int, *http.Request, string) (*http.Response, error)
		want   string
	}{
		{"no connection", func(_ int, r *http.Request, _ string) (*http.Response, error) { return unsent(r) }, "open"},
		{"reset", func(int, *http.Request, string) (*http.Response, error) { return nil, errReset }, "open"},
		{"HTML with 200", func(int, *http.Request, string) (*http.Response, error) { return answerOf(200, "<html>"), nil }, "open"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = &wireFake{answer: test.answer} })
				for range 6 {
					_ = once(t, c)
				}
				if got := c.State().Breaker; got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
			})
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = (&status{}).fake() })
			for range 10 {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				if _, err := c.Do(ctx, get()); err == nil {
					t.Error("got no error")
				}
			}
			if got := c.State().Breaker; got != "closed" {
				t.Errorf("got %s after cancellations, want closed", got)
			}
		})
	})
}

// Who waits for admission when the breaker opens is told so at once.
func TestOpenBreakerClearsTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &status{code: 500}
		c := start(t, "https://upstream.test", func(cfg *Config) {
			cfg.Transport, cfg.InFlight = s.fake(), 1
		})
		for range 4 {
			_ = once(t, c)
		}
		held := admit(t, c)
		waiting := make(chan error, 1)
		go func() {
			_, err := c.Admit(t.Context())
			waiting <- err
		}()
		synctest.Wait()
		began := time.Now()
		c.budget.fifths = -1
		_, err := c.Send(t.Context(), held, get())
		isError(t, err, 502)
		if e := isError(t, <-waiting, 503); e.RetryAfter != 10*time.Second {
			t.Errorf("got Retry-After %v, want 10s", e.RetryAfter)
		}
		if got := time.Since(began); got != 0 {
			t.Errorf("waited %v", got)
		}
	})
}
