package console

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// window is a stretch of time that the overview can show.
type window struct {
	name, words string
	length      time.Duration // of one column
	columns     int
	fine        bool
}

var windows = []window{
	{"15m", "15 min", 10 * time.Second, 90, true},
	{"1h", "1 hour", time.Minute, 60, true},
	{"6h", "6 hours", 5 * time.Minute, 72, false},
	{"24h", "24 hours", 15 * time.Minute, 96, false},
}

// rangeLink is a choice of window.
type rangeLink struct {
	Text, Link string
	Current    bool
}

// notice is something that somebody should know now.
type notice struct{ Tone, What, Do, Link, LinkText string }

// connectionView is a connection with what it sent in the last minute.
type connectionView struct {
	Connection
	BreakerTone string
	Use         string // of the permitted rate
	UseShare    int    // percent
	Peak        int    // attempts in the busiest second of the last minute
}

// overviewView is the first page.
type overviewView struct {
	Notices     []notice
	Ranges      []rangeLink
	Words       string // the window
	Total       tally
	Requests    int
	Wrong       int // failed or refused
	P50, P95    float64
	Bars        plot
	Latency     plot
	Connections []connectionView
	Cycles      []cycleView // the newest of each job
	States      states
	StateBar    []segment
	Trouble     []row
	Records     int64
	Newest      int64  // seq of the newest record
	Signed      string // how far the trail is, in words; "" when nobody signs it
	Reading     string
	Stream      string
}

func (c *Console) overviewPage(w http.ResponseWriter, r *http.Request) {
	c.render(w, r, http.StatusOK, "overview", "Overview", "overview", c.overview(r.Context(), r.URL.Query().Get("range")))
}

func (c *Console) overview(ctx context.Context, asked string) overviewView {
	now := c.cfg.Clock()
	chosen := windows[1]
	for _, w := range windows {
		if w.name == asked {
			chosen = w
		}
	}
	v := overviewView{Words: chosen.words, Stream: address("live/overview", url.Values{"range": {chosen.name}})}
	for _, w := range windows {
		v.Ranges = append(v.Ranges, rangeLink{w.words, address("", url.Values{"range": {w.name}}), w.name == chosen.name})
	}
	from, columns := c.picture.columns(now, chosen)
	for i := range columns {
		v.Total.add(&columns[i])
	}
	v.Requests, v.Wrong = v.Total.requests(), v.Total.Failed+v.Total.Refused
	v.P50, v.P95 = v.Total.latency.quantile(.5), v.Total.latency.quantile(.95)
	v.Bars, v.Latency = requestPlot(from, chosen.length, columns), latencyPlot(from, chosen.length, columns)
	v.Connections = c.connections(now)
	v.Cycles = newestOfEach(c.picture.cycles(now))
	v.States, v.Reading = c.picture.states(), c.picture.reading()
	v.StateBar = bar([]segment{
		{Width: float64(v.States.Active), Class: "active"}, {Width: float64(v.States.Disabled), Class: "disabled"},
		{Width: float64(v.States.Deleted), Class: "deleted"}, {Width: float64(v.States.Unknown), Class: "unknown"},
	})
	v.Trouble = rows(c.picture.trouble())
	st, err := c.cfg.Trail.Stats(ctx)
	v.Records = st.Records
	v.Notices = c.notices(now, v, err)
	var late []notice
	v.Signed, late = c.signed(ctx, now, st.Newest)
	v.Notices = append(v.Notices, late...)
	slices.SortStableFunc(v.Notices, func(a, b notice) int { return cmp.Compare(worst[b.Tone], worst[a.Tone]) })
	return v
}

// worst orders notices.
var worst = map[string]int{warning: 1, bad: 2}

// lateCheckpoint is the age at which a checkpoint that does not cover the trail is worth a word: one is made every second.
const lateCheckpoint = 10 * time.Second

// signed says how far the trail is signed, and what is wrong with that.
func (c *Console) signed(ctx context.Context, now time.Time, newest int64) (words string, list []notice) {
	if err := c.cfg.Signed(); err != nil {
		list = append(list, notice{Tone: bad, What: "The trail is not signed any more",
			Do: "Either the newest checkpoint cannot be stored, or the trail contradicts an earlier one: then somebody has changed it, and `scimgate audit verify` names the first record. The gateway's log and /readyz say which."})
	}
	if c.cfg.Checkpoint == nil {
		return "", list
	}
	point, err := c.cfg.Checkpoint(ctx)
	if err != nil {
		c.unsigned.say(c.cfg.Clock(), func() { c.cfg.Logger.Warn("the console cannot read the newest checkpoint", "error", err) })
		return "the newest checkpoint cannot be read", append(list, notice{Tone: warning, What: "The newest checkpoint cannot be read", Do: "The gateway's log says why."})
	}
	if point.Size == 0 {
		return "not signed yet", list
	}
	age := max(now.Sub(point.Time), 0)
	left := newest - point.Size
	if left <= 0 {
		return "all signed, last " + span(age) + " ago", list
	}
	if age > lateCheckpoint && len(list) == 0 {
		list = append(list, notice{Tone: warning, What: "The newest checkpoint is " + span(age) + " old", Do: plural(int(left), "record") + " behind it cannot be proven yet. One is made every second: the gateway's log says why none is."})
	}
	return count(left) + " not signed yet, the others " + span(age) + " ago", list
}

func newestOfEach(all []cycleView) []cycleView {
	seen := map[job]bool{}
	return slices.DeleteFunc(all, func(one cycleView) bool {
		key := job{one.Connection, one.Credential}
		again := seen[key]
		seen[key] = true
		return again
	})
}

// notices are what is wrong.
func (c *Console) notices(now time.Time, v overviewView, statsErr error) []notice {
	var list []notice
	if err := c.cfg.Healthy(); err != nil {
		list = append(list, notice{Tone: bad, What: "The trail cannot be written", Do: "No change is sent upstream until it can. The gateway's log and /readyz say why: look at the disk first."})
	}
	if c.picture.failure() != nil || statsErr != nil {
		list = append(list, notice{Tone: warning, What: "The trail cannot be followed", Do: "The figures below stand still until it can; it is tried again every two seconds. The gateway's log says why, and `scimgate audit verify` whether it is damaged."})
	}
	for _, sink := range c.cfg.Sinks() {
		switch {
		case sink.Problem == "":
		case sink.Required:
			list = append(list, notice{Tone: bad, What: "The required sink " + plain(sink.Name) + " takes no records", Do: "No change is sent upstream until it does. It is tried again by itself; /readyz says what is wrong with it."})
		default:
			list = append(list, notice{Tone: warning, What: "The sink " + plain(sink.Name) + " takes no records", Do: "It gets them all, in order, once it does; requests do not wait for it. /readyz says what is wrong with it."})
		}
	}
	for _, conn := range v.Connections {
		if conn.CredentialProblem != "" {
			list = append(list, notice{Tone: bad, What: "The upstream of " + plain(conn.Name) + " refuses the gateway's credentials", Do: "Give it a new token in the gateway's configuration; the file or variable is read again by itself. " + plain(conn.CredentialProblem)})
		}
		switch conn.Breaker {
		case "open":
			list = append(list, notice{Tone: bad, What: "The circuit to the upstream of " + plain(conn.Name) + " is open", Do: "It failed repeatedly. Requests are answered 503 with Retry-After at once, and it is tried again every few seconds."})
		case "half-open":
			list = append(list, notice{Tone: warning, What: "The upstream of " + plain(conn.Name) + " is being tried again", Do: "One request is sent as a probe; when it succeeds the circuit closes."})
		}
		if conn.HoldOff > 0 {
			list = append(list, notice{Tone: warning, What: "The upstream of " + plain(conn.Name) + " asked to wait", Do: "Nothing is sent for another " + span(conn.HoldOff) + "; requests queue meanwhile."})
		}
	}
	for _, one := range v.Cycles {
		if one.Running && one.Forecast.Tone != good {
			list = append(list, notice{Tone: one.Forecast.Tone, What: one.Forecast.Title + ": " + plain(one.Connection) + ", " + plain(one.Credential), Do: one.Forecast.Why + " " + one.Forecast.Do, Link: one.Errors(), LinkText: "See what fails"})
		}
	}
	if n := c.picture.unauthenticated(now); n > 0 {
		list = append(list, notice{Tone: warning, What: plural(n, "request") + " without a valid Secret Token in the last hour", Do: "If they are Entra's, it quarantines the job at once: compare the Secret Token in Entra with the configured ones, and when they expire.", Link: address("trail", url.Values{"action": {"unauthenticated"}}), LinkText: "See who asked"})
	}
	return list
}

// connections are the states of the upstreams, with the share of the permitted rate that the last ten seconds took.
func (c *Console) connections(now time.Time) []connectionView {
	const stretch = 10
	var list []connectionView
	for _, conn := range c.cfg.Connections() {
		v := connectionView{Connection: conn, BreakerTone: map[string]string{"closed": good, "half-open": warning}[conn.Breaker]}
		v.BreakerTone = cmp.Or(v.BreakerTone, bad)
		recent, peak := c.picture.sentBy(conn.Name, now, stretch)
		v.Peak = peak
		used := float64(recent) / stretch
		rate := conn.Rate
		if conn.Taught > 0 && (rate == 0 || conn.Taught < rate) {
			rate = conn.Taught
		}
		v.Use = strconv.FormatFloat(used, 'f', 1, 64) + " a second, no limit"
		if rate > 0 {
			v.UseShare = min(int(math.Round(used*100/rate)), 100)
			v.Use = fmt.Sprintf("%.1f of %s a second (%d %%)", used, strconv.FormatFloat(rate, 'f', -1, 64), v.UseShare)
		}
		list = append(list, v)
	}
	return list
}

func (p *picture) columns(now time.Time, w window) (time.Time, []tally) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.coarse
	if w.fine {
		s = p.fine
	}
	return s.columns(now, w.length, w.columns)
}

func (p *picture) sentBy(connection string, now time.Time, seconds int) (recent, peak int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sent[connection]
	if s == nil {
		return 0, 0
	}
	_, list := s.columns(now, time.Second, 60)
	for i, t := range list {
		peak = max(peak, t.Calls)
		if i >= len(list)-seconds {
			recent += t.Calls
		}
	}
	return recent, peak
}

func (p *picture) unauthenticated(now time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.coarse.sum(now.Add(-time.Hour), now.Add(time.Minute))
	return t.Unauthenticated
}

// reading says how far the trail was read when the console started, "" when it was.
func (p *picture) reading() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.goal > 0 && p.seen >= p.goal || p.problem != nil {
		return ""
	}
	if p.goal == 0 {
		return ""
	}
	start := max(p.goal-backfill, 0)
	return share(int(max(p.seen-start, 0)), int(p.goal-start))
}
