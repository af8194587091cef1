package upstream

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func okFake() *wireFake {
	return &wireFake{answer: func(int, *http.Request, string) (*http.Response, error) {
		return answerOf(200, oneUser), nil
	}}
}

// worstSecond is the largest number of times in any one second.
func worstSecond(times []time.Time) int {
	worst := 0
	for i := range times {
		n := 0
		for _, u := range times[i:] {
			if u.Sub(times[i]) < time.Second {
				n++
			}
		}
		worst = max(worst, n)
	}
	return worst
}

func TestPace(t *testing.T) {
	for _, rate := range []float64{0.5, 1, 2.5, 10, 200} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := okFake()
				c := start(t, "https://upstream.test", func(cfg *Config) {
					cfg.Transport, cfg.RequestsPerSecond, cfg.QueueWait, cfg.InFlight = fake, rate, time.Minute, 64
				})
				const n = 20
				for round := range 2 { // the second after an idle time, which must not be saved up
					if round > 0 {
						time.Sleep(10 * time.Second)
					}
					var wg sync.WaitGroup
					for range n {
						wg.Go(func() {
							if _, err := c.Do(t.Context(), get()); err != nil {
								t.Error(err)
							}
						})
					}
					wg.Wait()
				}
				times := fake.all()
				if got := worstSecond(times); float64(got) > rate+1 {
					t.Errorf("got %d requests in one second, want at most %v", got, rate+1)
				}
				took := times[n-1].Sub(times[0])
				if want := (n - 1) * interval(rate); took != want {
					t.Errorf("%d requests took %v, want %v", n, took, want)
				}
			})
		})
	}
}

// A permit that was handed out is not the moment of sending: the intent must be durable first.
func TestPaceOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := okFake()
		c := start(t, "https://upstream.test", func(cfg *Config) {
			cfg.Transport, cfg.RequestsPerSecond, cfg.InFlight = fake, 10, 64
		})
		const n = 30
		permits := make([]*Permit, n)
		for i := range permits {
			permits[i] = admit(t, c)
		}
		var wg sync.WaitGroup
		for _, p := range permits { // the disk is back: all at once
			wg.Go(func() {
				if _, err := c.Send(t.Context(), p, get()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := worstSecond(fake.all()); got > 11 {
			t.Errorf("got %d requests in one second, want at most 11", got)
		}
	})
}

func TestCancelledCallerBurnsNoPermit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := okFake()
		c := start(t, "https://upstream.test", func(cfg *Config) {
			cfg.Transport, cfg.RequestsPerSecond, cfg.QueueWait = fake, 1, time.Minute
		})
		began := time.Now()
		if _, err := c.Do(t.Context(), get()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				_, err := c.Admit(ctx)
				isError(t, err, 503)
			})
		}
		time.Sleep(500 * time.Millisecond)
		cancel()
		wg.Wait()
		if got := c.State(); got.Queued != 0 || got.InFlight != 0 {
			t.Errorf("got state %+v, want nothing queued or in flight", got)
		}
		if _, err := c.Do(t.Context(), get()); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(began); got != time.Second {
			t.Errorf("the next request was sent after %v, want 1s", got)
		}
	})
}

func TestUnusedPermitIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, "https://upstream.test", func(cfg *Config) {
			cfg.Transport, cfg.RequestsPerSecond = okFake(), 1
		})
		began := time.Now()
		p := admit(t, c)
		p.Release()
		p.Release()
		if got := c.State().InFlight; got != 0 {
			t.Fatalf("got %d in flight after Release, want 0", got)
		}
		admit(t, c).Release()
		if got := time.Since(began); got != 0 {
			t.Errorf("a released permit was not handed on: waited %v", got)
		}
		p = admit(t, c)
		if _, err := c.Send(t.Context(), p, get()); err != nil {
			t.Fatal(err)
		}
		p.Release()
		if _, err := c.Send(t.Context(), p, get()); err == nil {
			t.Error("a permit was used twice")
		}
		if got := c.State().InFlight; got != 0 {
			t.Errorf("got %d in flight, want 0", got)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, "https://upstream.test", func(cfg *Config) {
			cfg.Transport, cfg.InFlight, cfg.Queue, cfg.QueueWait = okFake(), 1, 2, 3*time.Second
		})
		held := admit(t, c)
		order := make(chan int, 2)
		for i := range 2 {
			go func() {
				p := admit(t, c)
				order <- i
				p.Release()
			}()
			synctest.Wait()
		}
		_, err := c.Admit(t.Context())
		if e := isError(t, err, 429); e.RetryAfter <= 0 {
			t.Error("a full queue gave no Retry-After")
		}
		if got := c.State(); got.Queued != 2 || got.InFlight != 1 {
			t.Errorf("got state %+v, want 2 queued and 1 in flight", got)
		}
		held.Release()
		if a, b := <-order, <-order; a != 0 || b != 1 {
			t.Errorf("admitted %d before %d, want first come, first served", a, b)
		}
	})
}

func TestQueueWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, "https://upstream.test", func(cfg *Config) {
			cfg.Transport, cfg.InFlight, cfg.QueueWait = okFake(), 1, 3*time.Second
		})
		held := admit(t, c)
		defer held.Release()
		began := time.Now()
		_, err := c.Admit(t.Context())
		if e := isError(t, err, 429); e.RetryAfter <= 0 {
			t.Error("no Retry-After")
		}
		if got := time.Since(began); got != 3*time.Second {
			t.Errorf("waited %v, want 3s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		_, err = c.Admit(ctx)
		isError(t, err, 429)
		if got := time.Since(began); got != time.Second {
			t.Errorf("waited %v, want until the caller's deadline", got)
		}
	})
}

func TestInFlightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, most := 0, 0
		var mu sync.Mutex
		step := func(d int) {
			mu.Lock()
			defer mu.Unlock()
			now += d
			most = max(most, now)
		}
		fake := &wireFake{answer: func(int, *http.Request, string) (*http.Response, error) {
			step(1)
			time.Sleep(100 * time.Millisecond)
			step(-1)
			return answerOf(200, oneUser), nil
		}}
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport, cfg.InFlight = fake, 3 })
		began := time.Now()
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				if _, err := c.Do(t.Context(), get()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most != 3 {
			t.Errorf("got %d in flight at most, want 3", most)
		}
		if got := time.Since(began); got != time.Second {
			t.Errorf("30 requests of 100 ms took %v, want 1s", got)
		}
	})
}

func TestHoldOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &wireFake{answer: func(n int, _ *http.Request, _ string) (*http.Response, error) {
			if n == 1 {
				return answerOf(429, "", "Retry-After", "7"), nil
			}
			return answerOf(200, oneUser), nil
		}}
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
		began := time.Now()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := c.Do(t.Context(), get()); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		if got := c.State().HoldOff; got != 7*time.Second {
			t.Errorf("got hold-off %v, want 7s", got)
		}
		wg.Wait()
		times := fake.all()
		if len(times) != 6 {
			t.Fatalf("got %d calls, want 6", len(times))
		}
		for _, at := range times[1:] {
			if got := at.Sub(began); got != 7*time.Second {
				t.Errorf("a call after %v, want 7s", got)
			}
		}
	})
}

// Who was admitted before the hold-off, and has not been sent yet, is held back as well; at the pace.
func TestHoldOffAfterAdmission(t *testing.T) {
	for _, rate := range []float64{0, 10} {
		synctest.Test(t, func(t *testing.T) {
			fake := &wireFake{answer: func(n int, _ *http.Request, _ string) (*http.Response, error) {
				if n == 1 {
					return answerOf(429, "", "Retry-After", "7"), nil
				}
				return answerOf(200, oneUser), nil
			}}
			c := start(t, "https://upstream.test", func(cfg *Config) {
				cfg.Transport, cfg.RequestsPerSecond, cfg.InFlight = fake, rate, 32
			})
			permits := make([]*Permit, 20)
			for i := range permits {
				permits[i] = admit(t, c)
			}
			began := time.Now()
			var wg sync.WaitGroup
			for _, p := range permits {
				wg.Go(func() {
					if _, err := c.Send(t.Context(), p, get()); err != nil {
						t.Error(err)
					}
				})
				synctest.Wait()
			}
			wg.Wait()
			times := fake.all()
			if len(times) != 21 || times[0] != began || times[1].Sub(began) != 7*time.Second {
				t.Errorf("rate %v: got %d calls, the second %v after the first, want 21 and 7s", rate, len(times), times[1].Sub(times[0]))
			}
			if got := worstSecond(times); rate > 0 && float64(got) > rate+1 {
				t.Errorf("got %d requests in one second, want at most %v", got, rate+1)
			}
		})
	}
}

// Nobody waits for what cannot come in time, and nobody burns a call to hear 429 again.
func TestLongHoldOffIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &wireFake{answer: func(int, *http.Request, string) (*http.Response, error) {
			return answerOf(429, "", "Retry-After", "120"), nil
		}}
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport, cfg.InFlight = fake, 1 })
		held := admit(t, c)
		waiting := make(chan error, 1)
		go func() {
			_, err := c.Admit(t.Context())
			waiting <- err
		}()
		synctest.Wait()
		_, err := c.Send(t.Context(), held, create(t))
		if e := isError(t, err, 429); e.RetryAfter != 2*time.Minute {
			t.Errorf("got Retry-After %v, want 2m", e.RetryAfter)
		}
		if e := isError(t, <-waiting, 429); e.RetryAfter != 2*time.Minute {
			t.Errorf("who waited got Retry-After %v, want 2m", e.RetryAfter)
		}
		time.Sleep(30 * time.Second)
		began := time.Now()
		_, err = c.Do(t.Context(), get())
		if e := isError(t, err, 429); e.RetryAfter != 90*time.Second {
			t.Errorf("got Retry-After %v, want what is left of it, 1m30s", e.RetryAfter)
		}
		if got := time.Since(began); got != 0 || len(fake.all()) != 1 {
			t.Errorf("waited %v and made %d calls, want an answer at once and 1 call", got, len(fake.all()))
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, "https://upstream.test", func(cfg *Config) {
			cfg.Transport, cfg.RequestsPerSecond = okFake(), 0.01
			cfg.OnBreaker = func(string, string) {}
		})
		admit(t, c).Release()
		if _, err := c.Do(t.Context(), get()); err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error, 1)
		go func() {
			_, err := c.Admit(t.Context())
			waiting <- err
		}()
		synctest.Wait()
		began := time.Now()
		c.Close()
		c.Close()
		isError(t, <-waiting, 503)
		if got := time.Since(began); got != 0 {
			t.Errorf("Close took %v in the middle of the pace", got)
		}
		_, err := c.Admit(t.Context())
		isError(t, err, 503)
	})
}

func TestWireReserve(t *testing.T) {
	w := newWire(2)
	now := time.Unix(1000, 0)
	const second = time.Second + arrival
	for i, want := range []time.Duration{0, 0, 0, second, second, second, 2 * second} {
		if got := w.reserve(now).at.Sub(now); got != want {
			t.Errorf("reservation %d: got +%v, want +%v", i, got, want)
		}
	}
	if newWire(0) != nil {
		t.Error("there is a bound without a rate")
	}
}

// The second of a place begins when its request arrived, as far as the answer tells.
func TestWireArrived(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name  string
		usual time.Duration
		took  time.Duration
		want  time.Duration // until the place is free
	}{
		{"the first answer", 0, 30 * ms, time.Second + travel},
		{"as usual", 30 * ms, 30 * ms, time.Second + travel},
		{"sooner", 30 * ms, 10 * ms, time.Second + travel},
		{"held up", 30 * ms, 62 * ms, time.Second + travel + 32*ms - 125*time.Microsecond}, // usual has become a little longer
		{"near by", ms, ms, time.Second + ms},
		{"held up for long", 30 * ms, time.Minute, time.Second + arrival},
	} {
		w := newWire(0.5) // one place
		w.usual = test.usual
		now := time.Unix(1000, 0)
		w.arrived(w.reserve(now), now.Add(test.took))
		if got := w.reserve(now).at.Sub(now); got != test.want {
			t.Errorf("%s: got +%v, want +%v", test.name, got, test.want)
		}
	}
	w := newWire(0.5)
	now := time.Unix(1000, 0)
	first, second := w.reserve(now), w.reserve(now)
	w.arrived(first, now.Add(ms)) // its place is the second's by now
	if got, want := w.reserve(now).at, second.at.Add(arrival+time.Second); !got.Equal(want) {
		t.Errorf("got +%v, want +%v", got.Sub(now), want.Sub(now))
	}
}

// Some requests are held up on their way: the upstream never sees more in a second than it allows, plus one.
func TestPaceOnArrival(t *testing.T) {
	for _, rate := range []float64{1, 10, 100, 200} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var arrivals []time.Time
				fake := &wireFake{answer: func(n int, _ *http.Request, _ string) (*http.Response, error) {
					if n%20 == 0 {
						time.Sleep(250 * time.Millisecond)
					}
					mu.Lock()
					arrivals = append(arrivals, time.Now())
					mu.Unlock()
					time.Sleep(time.Millisecond)
					return answerOf(200, oneUser), nil
				}}
				c := start(t, "https://upstream.test", func(cfg *Config) {
					cfg.Transport, cfg.RequestsPerSecond, cfg.InFlight, cfg.QueueWait = fake, rate, 32, time.Hour
				})
				var wg sync.WaitGroup
				for range 32 {
					wg.Go(func() {
						for range max(1, int(rate)/4) {
							if _, err := c.Do(t.Context(), get()); err != nil {
								t.Error(err)
							}
						}
					})
				}
				wg.Wait()
				if got := worstSecond(arrivals); float64(got) > rate+1 {
					t.Errorf("%d requests arrived in one second, want at most %v", got, rate+1)
				}
				most := len(arrivals) * 9 / 10 // the last ones may be held up
				if got := float64(most) / arrivals[most].Sub(arrivals[0]).Seconds(); got < 0.95*rate {
					t.Errorf("got %.1f requests per second, want at least 95 %% of %v", got, rate)
				}
			})
		})
	}
}
