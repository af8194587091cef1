package upstream

import "time"

// What an answer of 429 teaches.
const (
	taughtBackOff = 0.95             // of what the upstream was seen to take in a second
	taughtLeast   = 1.0              // requests per second; below it, Retry-After has to do
	taughtFor     = 5 * time.Minute  // without another 429: then the lesson is forgotten
	chance        = 10 * time.Second // within it, a second 429 to a configured pace is no chance any more
)

// taught is the pace that the upstream taught by answering 429. Retry-After alone does not stop the waste: after
// each hold-off everybody who waited would leave at once, to be refused at once. So the pace becomes what the
// upstream took in the second before, less a little, and at least half of what it was. From there it grows with the
// cube of the time, as TCP CUBIC's window does: it stays about a minute near what is known to work, and soon leaves
// behind what was learned from a moment with little to do. It adds to the configured pace and never replaces it; where
// there is one, a single 429 is taken for chance, as when others use up the same limit, and teaches nothing.
//
// It is guarded by the gate's mutex.
type taught struct {
	rate    float64   // requests per second, just after the last 429; 0: there was none
	since   time.Time // of that 429
	next    time.Time // no admission before
	took    tally
	lessons int       // so far, with those that were taken for chance
	paced   bool      // there is a configured pace
	last    time.Time // of all 429
}

// pace is the rate at a time, in requests per second; 0: none.
func (p *taught) pace(now time.Time) float64 {
	if p.rate == 0 {
		return 0
	}
	since := now.Sub(p.since)
	if since >= taughtFor {
		p.rate, p.next = 0, time.Time{}
		return 0
	}
	minutes := max(since.Minutes(), 0)
	return p.rate * (1 + minutes*minutes*minutes)
}

// refused learns from a 429 to an attempt that was admitted after so many lessons. Those that were admitted before
// the last one say the same thing again.
func (p *taught) refused(lesson int, now time.Time) {
	if lesson != p.lessons {
		return
	}
	p.lessons++
	byChance := p.paced && now.Sub(p.last) > chance
	p.last = now
	old, seen := p.pace(now), float64(p.took.sum(now))
	if byChance || old == 0 && seen == 0 { // or there is nothing to go by
		return
	}
	p.rate = max(taughtBackOff*seen, taughtLeast)
	if old > 0 {
		p.rate = max(min(p.rate, taughtBackOff*old), old/2, taughtLeast)
	}
	p.since = now
	p.next = now.Add(interval(p.rate))
}

// spend uses up one admission of the pace. A late one may be made up for, by one interval at most.
func (p *taught) spend() {
	if p.rate == 0 {
		return
	}
	now := time.Now()
	rate := p.pace(now)
	if rate == 0 {
		return
	}
	every := interval(rate)
	if p.next = p.next.Add(every); p.next.Before(now) {
		p.next = now.Add(every)
	}
}

// unspend gives back what was not used.
func (p *taught) unspend() {
	if p.rate != 0 {
		p.next = time.Time{}
	}
}

// tally counts what the upstream took in the last second, in tenths of it.
type tally struct {
	tenth  int64 // the latest, since 1970
	counts [10]int
}

func (t *tally) add(now time.Time) {
	t.move(now)
	t.counts[t.tenth%int64(len(t.counts))]++
}

// sum counts what came in the tenth of a second that is not over yet and the nine before.
func (t *tally) sum(now time.Time) int {
	t.move(now)
	n := 0
	for _, c := range t.counts {
		n += c
	}
	return n
}

// move empties the tenths that went by.
func (t *tally) move(now time.Time) {
	const tenths = int64(len(t.counts))
	tenth := now.UnixMilli() / 100
	if tenth-t.tenth >= tenths {
		t.counts = [tenths]int{}
		t.tenth = tenth
	}
	for t.tenth < tenth {
		t.tenth++
		t.counts[t.tenth%tenths] = 0
	}
}
