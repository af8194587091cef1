package upstream

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// strict is an upstream that takes limit requests in any one second, and answers 429 beyond, after a while.
type strict struct {
	limit int
	takes time.Duration

	mu     sync.Mutex
	taken  []time.Time
	wasted int
}

func (s *strict) fake() *wireFake {
	return &wireFake{answer: func(int, *http.Request, string) (*http.Response, error) {
		ok := s.admit(time.Now())
		time.Sleep(s.takes)
		if !ok {
			return answerOf(429, "", "Retry-After", "1"), nil
		}
		return answerOf(200, oneUser), nil
	}}
}

func (s *strict) admit(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.taken); n >= s.limit && now.Sub(s.taken[n-s.limit]) <= time.Second {
		s.wasted++
		return false
	}
	s.taken = append(s.taken, now)
	return true
}

// Without a configured pace, an upstream that answers 429 teaches one: everybody arrives, and few calls are wasted.
func TestTaughtByRefusals(t *testing.T) {
	for _, test := range []struct {
		name     string
		limit    int
		takes    time.Duration
		workers  int
		requests int
		longest  time.Duration
	}{
		{"200/s", 200, 5 * time.Millisecond, 32, 8000, 50 * time.Second},
		{"200/s, slow to answer", 200, 100 * time.Millisecond, 32, 8000, 52 * time.Second},
		{"20/s", 20, 20 * time.Millisecond, 8, 1200, 75 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &strict{limit: test.limit, takes: test.takes}
				c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport, cfg.InFlight = s.fake(), test.workers })
				began := time.Now()
				var wg sync.WaitGroup
				for range test.workers {
					wg.Go(func() {
						for range test.requests / test.workers {
							if _, err := c.Do(t.Context(), create(t)); err != nil {
								t.Error(err)
							}
						}
					})
				}
				wg.Wait()
				took := time.Since(began)
				if len(s.taken) != test.requests || 20*s.wasted >= test.requests || took > test.longest {
					t.Errorf("%d of %d requests arrived in %v, want all in %v; %d calls were wasted, want less than 5 %%",
						len(s.taken), test.requests, took, test.longest, s.wasted)
				}
				t.Logf("%d requests in %v, %d calls wasted", test.requests, took, s.wasted)
			})
		})
	}
}

func TestTaughtPaceGrowsAndIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &status{code: 200}
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = s.fake() })
		for range 100 {
			if err := once(t, c); err != nil {
				t.Fatal(err)
			}
		}
		if got := c.State().Taught; got != 0 {
			t.Errorf("got %v before any 429, want 0", got)
		}
		p, q := admit(t, c), admit(t, c)
		s.set(429)
		for _, permit := range []*Permit{p, q} { // both were under way: one lesson
			c.budget.fifths = -1
			_, err := c.Send(t.Context(), permit, get())
			isError(t, err, 429)
		}
		s.set(200)
		for _, step := range []struct {
			after time.Duration
			want  float64
		}{
			{0, 95}, {30 * time.Second, 95 * 1.125}, {30 * time.Second, 190}, {time.Minute, 95 * 9}, {179 * time.Second, 11851.6},
		} {
			time.Sleep(step.after)
			if got := c.State().Taught; got < step.want-1 || got > step.want+1 {
				t.Errorf("got %v, want %v", got, step.want)
			}
		}
		time.Sleep(time.Second)
		if got := c.State().Taught; got != 0 {
			t.Errorf("got %v after 5 minutes, want 0", got)
		}
	})
}

// The taught pace is even, with exact times, and nobody who gives up uses it up.
func TestTaughtPaceIsEven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &status{code: 200}
		fake := s.fake()
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
		for range 10 {
			_ = once(t, c)
		}
		s.set(429)
		_ = once(t, c)
		s.set(200)
		began, before := time.Now(), len(fake.all())
		admit(t, c).Release()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { _ = once(t, c) })
		}
		wg.Wait()
		every := float64(time.Second) / 9.5
		for i, at := range fake.all()[before:] {
			want := time.Duration(every * float64(i+1))
			if got := at.Sub(began); got < want-time.Millisecond || got > want+time.Millisecond {
				t.Errorf("request %d was sent after %v, want %v", i, got, want)
			}
		}
	})
}

func TestTaughtBounds(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, test := range []struct {
		name string
		old  float64 // the pace before
		took int     // in the last second
		want float64
	}{
		{"nothing to go by", 0, 0, 0},
		{"what was taken", 0, 200, 190},
		{"at least one a second", 0, 1, 1},
		{"less than before", 100, 200, 95},
		{"not less than half", 100, 3, 50},
		{"what was taken, below the pace", 100, 80, 76},
		{"at the bottom", 1, 0, 1},
	} {
		p := taught{rate: test.old, since: now}
		for range test.took {
			p.took.add(now)
		}
		p.refused(0, now)
		if p.rate != test.want {
			t.Errorf("%s: got %v, want %v", test.name, p.rate, test.want)
		}
		p.refused(0, now)
		if test.want > 0 && p.rate != test.want {
			t.Errorf("%s: the same lesson changed the pace to %v", test.name, p.rate)
		}
	}
}

// To a configured pace one 429 may be chance; a second one within 10 s is not.
func TestTaughtWhenPaced(t *testing.T) {
	for _, test := range []struct {
		name  string
		apart time.Duration
		want  float64
	}{
		{"apart", 10*time.Second + 1, 0},
		{"together", 10 * time.Second, 57}, // of the 60 that were taken in the last second
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &status{code: 429}
			c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport, cfg.RequestsPerSecond = s.fake(), 100 })
			_ = once(t, c)
			s.set(200)
			time.Sleep(test.apart - 550*time.Millisecond)
			for range 60 { // 6 at once, which makes up for idle time, then one in 10 ms; and the one after them
				_ = once(t, c)
			}
			s.set(429)
			_ = once(t, c)
			if got := c.State().Taught; got != test.want {
				t.Errorf("%s: got %v, want %v", test.name, got, test.want)
			}
		})
	}
}

func TestTally(t *testing.T) {
	var tally tally
	at := time.UnixMilli(1e12)
	for i, test := range []struct {
		after time.Duration
		add   int
		want  int
	}{
		{0, 3, 3}, {100 * time.Millisecond, 2, 5}, {800 * time.Millisecond, 1, 6}, {100 * time.Millisecond, 0, 3},
		{100 * time.Millisecond, 4, 5}, {time.Hour, 0, 0}, {time.Second, 7, 7}, {999 * time.Millisecond, 0, 7},
		{time.Millisecond, 0, 0},
	} {
		at = at.Add(test.after)
		for range test.add {
			tally.add(at)
		}
		if got := tally.sum(at); got != test.want {
			t.Errorf("step %d: got %d, want %d", i, got, test.want)
		}
	}
}
