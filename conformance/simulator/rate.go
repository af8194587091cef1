package simulator

import "time"

// window refuses what exceeds its rate in any closed second: at most floor(rate)+1 requests, however they are
// spread. The one more is what a client paced at exactly the rate sends in a second counted with both its ends.
// Refused requests do not count.
type window struct {
	taken []time.Time // ring of the last admitted requests; nil: no limit
	next  int         // where the oldest stands once the ring is full
}

func newWindow(rate float64) window {
	if rate <= 0 {
		return window{}
	}
	return window{taken: make([]time.Time, 0, int(rate)+1)}
}

func (w *window) admit(now time.Time) bool {
	switch {
	case cap(w.taken) == 0:
		return true
	case len(w.taken) < cap(w.taken):
		w.taken = append(w.taken, now)
		return true
	case now.Sub(w.taken[w.next]) <= time.Second:
		return false
	}
	w.taken[w.next] = now
	w.next = (w.next + 1) % len(w.taken)
	return true
}
