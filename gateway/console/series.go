package console

import (
	"math"
	"time"
)

// tally counts what happened in one stretch of time.
type tally struct {
	Done, Refused, Failed int // requests, by how they were answered
	Unauthenticated       int // of Refused
	Calls                 int // attempts at the upstream
	latency               histogram
}

func (t *tally) requests() int { return t.Done + t.Refused + t.Failed }

func (t *tally) add(u *tally) {
	t.Done += u.Done
	t.Refused += u.Refused
	t.Failed += u.Failed
	t.Unauthenticated += u.Unauthenticated
	t.Calls += u.Calls
	for i, n := range u.latency {
		t.latency[i] += n
	}
}

// histogram counts durations in steps that grow by the root of two, from half a millisecond to more than half a minute.
type histogram [34]uint32

func (h *histogram) observe(ms float64) {
	i := 0
	if ms > 0.5 {
		i = min(int(math.Ceil(2*math.Log2(ms/0.5))), len(h)-1)
	}
	h[i]++
}

// quantile is a duration in milliseconds that a share q of those observed does not exceed, to a step; 0 for none.
func (h *histogram) quantile(q float64) float64 {
	total := uint32(0)
	for _, n := range h {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank, sum := uint32(math.Ceil(q*float64(total))), uint32(0)
	for i, n := range h {
		if sum += n; sum >= rank {
			return 0.5 * math.Pow(2, float64(i)/2)
		}
	}
	return 0
}

// series is a ring of tallies, one for each step of time; what is older than the ring is forgotten.
type series struct {
	step time.Duration
	ring []slot
}

type slot struct {
	place int64 // number of the step since 1970
	tally
}

func newSeries(step time.Duration, n int) *series { return &series{step: step, ring: make([]slot, n)} }

// at is the tally of a moment, nil where it is forgotten already.
func (s *series) at(t time.Time) *tally {
	place := t.UnixNano() / int64(s.step)
	if place <= 0 {
		return nil
	}
	one := &s.ring[place%int64(len(s.ring))]
	if one.place > place {
		return nil
	}
	if one.place < place {
		*one = slot{place: place}
	}
	return &one.tally
}

// sum adds up what happened from a moment on, before another.
func (s *series) sum(from, to time.Time) (t tally) {
	first, last := from.UnixNano()/int64(s.step), to.UnixNano()/int64(s.step)
	for i := range s.ring {
		if one := &s.ring[i]; one.place >= first && one.place < last {
			t.add(&one.tally)
		}
	}
	return t
}

// columns adds up n stretches of a length that is a multiple of the series' step; the last of them holds the moment to.
func (s *series) columns(to time.Time, length time.Duration, n int) (from time.Time, list []tally) {
	end := to.Truncate(length).Add(length)
	from = end.Add(-time.Duration(n) * length)
	list = make([]tally, n)
	first := from.UnixNano() / int64(s.step)
	per := int64(length / s.step)
	for i := range s.ring {
		one := &s.ring[i]
		if at := (one.place - first) / per; one.place >= first && at < int64(n) {
			list[at].add(&one.tally)
		}
	}
	return from, list
}
