package console

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
)

func TestSeries(t *testing.T) {
	s := newSeries(10*time.Second, 6)
	start := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	s.at(start).Done++
	s.at(start.Add(9*time.Second)).Done++
	s.at(start.Add(30*time.Second)).Failed++
	from, list := s.columns(start.Add(35*time.Second), 20*time.Second, 2)
	if !from.Equal(start) || list[0].Done != 2 || list[1].Failed != 1 {
		t.Errorf("got %v %+v", from, list)
	}
	s.at(start.Add(65*time.Second)).Refused++ // takes the place of the first
	if s.at(start) != nil {
		t.Error("what was forgotten has a tally")
	}
	if got := s.sum(start, start.Add(2*time.Minute)); got.Done != 0 || got.Failed != 1 || got.Refused != 1 {
		t.Errorf("got %+v", got)
	}
	if s.at(time.Time{}) != nil {
		t.Error("a moment before 1970 has a tally")
	}
}

// Quantiles are right to one step of the histogram.
func TestHistogram(t *testing.T) {
	var h histogram
	if got := h.quantile(.5); got != 0 {
		t.Errorf("nothing observed: got %v, want 0", got)
	}
	for i := range 1000 {
		h.observe(float64(i + 1))
	}
	for q, want := range map[float64]float64{.5: 500, .95: 950, 1: 1000} {
		if got := h.quantile(q); got < want || got > want*1.42 {
			t.Errorf("quantile %v: got %v, want %v to a step", q, got, want)
		}
	}
	h.observe(0)
	h.observe(1e12)
}

// outcomes makes n records of one action.
func outcomes(n int, at time.Time, every time.Duration, op, action string, status int) []*audit.Record {
	list := make([]*audit.Record, n)
	for i := range list {
		list[i] = &audit.Record{
			Kind: audit.Outcome, Time: at.Add(time.Duration(i) * every), Connection: "bluejeans", Credential: "entra", Op: op, Action: action, ResourceType: "User",
			Answer: audit.Answer{Status: status}, Subject: audit.Subject{ID: fmt.Sprint(i), UserName: fmt.Sprintf("u%d@example.com", i)},
		}
		if op == "query" {
			list[i].Subject = audit.Subject{}
		}
	}
	return list
}

func TestCycles(t *testing.T) {
	start := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	p := newPicture()
	tell := func(lists ...[]*audit.Record) {
		for _, list := range lists {
			for _, rec := range list {
				p.tell(rec)
			}
		}
	}
	tell(outcomes(2, start, time.Second, "query", audit.Queried, 200)) // Test Connection
	initial := start.Add(10 * time.Minute)
	tell(outcomes(100, initial, time.Second, "query", audit.Queried, 200))
	tell(outcomes(90, initial.Add(time.Minute), time.Second, "create", audit.Created, 201))
	incremental := start.Add(60 * time.Minute)
	tell(outcomes(12, incremental, time.Second, "get", audit.Read, 200))
	tell(outcomes(8, incremental, time.Second, "patch", audit.Updated, 200))
	tell(outcomes(4, incremental.Add(10*time.Second), time.Second, "patch", audit.Disabled, 200))
	tell(outcomes(3, incremental.Add(20*time.Second), time.Second, "patch", audit.Failed, 503))
	tell(outcomes(1, incremental.Add(30*time.Second), time.Second, "patch", audit.Updated, 200)) // the first of the failed, again
	tell(outcomes(1, start.Add(100*time.Minute), time.Second, "get", audit.Read, 404))           // looks at somebody who is gone
	tell(outcomes(1, start.Add(100*time.Minute).Add(time.Second), time.Second, "create", audit.Created, 201))
	tell([]*audit.Record{{Kind: audit.Outcome, Time: start.Add(101 * time.Minute), Connection: "bluejeans", Action: audit.Unauthenticated, Answer: audit.Answer{Status: 401}}})

	got := p.cycles(start.Add(100*time.Minute + 10*time.Second))
	want := []struct {
		kind, state                                                    string
		requests, objects, created, updated, disabled, failures, fails int
	}{
		{"On demand", "running", 2, 1, 1, 0, 0, 0, 0},
		{"Incremental", "ended", 28, 12, 0, 9, 4, 3, 2},
		{"Initial", "ended", 190, 90, 90, 0, 0, 0, 0},
		{"Connection test", "ended", 2, 0, 0, 0, 0, 0, 0},
	}
	if len(got) != len(want) {
		t.Fatalf("got %d cycles, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Kind != w.kind || g.State != w.state || g.Requests != w.requests || g.Objects != w.objects || g.Created != w.created || g.Updated != w.updated ||
			g.Disabled != w.disabled || g.Failures != w.failures || g.Failed != w.fails {
			t.Errorf("cycle %d: got %+v, want %+v", i, g, w)
		}
	}
}

// The forecast changes exactly at Entra's thresholds.
func TestForecast(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		requests, failures int
		want               string
	}{
		{100, 0, "No risk of quarantine"},
		{100, 19, "No risk of quarantine"},
		{40, 16, "No risk of quarantine"}, // 40 % is not more than 40 %
		{40, 20, "On the way to quarantine"},
		{10_000, 4_999, "On the way to quarantine"},
		{10_000, 5_000, "Entra quarantines this job"},
		{12_500, 5_000, "No risk of quarantine"},
		{100_000, 19_999, "No risk of quarantine"},
		{100_000, 20_000, "Many failures"},
		{100_001, 40_000, "Many failures"}, // not beyond
		{100_001, 40_001, "Entra quarantines this job"},
	} {
		f := predict(&cycle{Cycle: audit.Cycle{Requests: c.requests, Failures: c.failures}, first: now.Add(-time.Hour), last: now}, now)
		if f.Title != c.want {
			t.Errorf("%d of %d: got %s, want %s", c.failures, c.requests, f.Title, c.want)
		}
	}
	if f := predict(&cycle{Cycle: audit.Cycle{Requests: 100, Failures: 1, Denied: 1}}, now); f.Tone != bad || !strings.Contains(f.Why, "1 answer of 401 or 403") {
		t.Errorf("one 401: got %+v, want a quarantine", f)
	}
	if got, want := reached(&cycle{Cycle: audit.Cycle{Failures: 1000}, first: now.Add(-time.Hour), last: now}, now, 5000), " At this pace in 4 h 0 min."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStateAfter(t *testing.T) {
	active := func(v any) []audit.Attribute {
		return []audit.Attribute{{Path: "active", Sent: clearValue(v), Confirmed: clearValue(v)}}
	}
	for _, c := range []struct {
		name string
		rec  audit.Record
		want string
	}{
		{"created", audit.Record{Action: audit.Created, Op: "create", Answer: audit.Answer{Status: 201}}, stateActive},
		{"created disabled", audit.Record{Action: audit.Created, Op: "create", Answer: audit.Answer{Status: 201}, Attributes: active(false)}, stateDisabled},
		{"failed", audit.Record{Action: audit.Failed, Op: "patch", Answer: audit.Answer{Status: 503}, Attributes: active(false)}, "before"},
		{"disabled", audit.Record{Action: audit.Disabled, Op: "patch", Answer: audit.Answer{Status: 204}}, stateDisabled},
		{"restored", audit.Record{Action: audit.Restored, Op: "patch", Answer: audit.Answer{Status: 200}}, stateActive},
		{"deleted", audit.Record{Action: audit.Deleted, Op: "delete", Answer: audit.Answer{Status: 204}}, stateDeleted},
		{"deleted before", audit.Record{Action: audit.Failed, Op: "delete", Answer: audit.Answer{Status: 404}}, stateDeleted},
		{"updated", audit.Record{Action: audit.Updated, Op: "patch", Answer: audit.Answer{Status: 200}}, "before"},
		{"intent", audit.Record{Kind: audit.Intent, Action: audit.Disabled, Op: "patch"}, "before"},
	} {
		if got := stateAfter(&c.rec, "before"); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// What is kept in memory stays within its bounds.
func TestPictureIsBounded(t *testing.T) {
	p := newPicture()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range mostKnown + 100 {
		p.tell(&audit.Record{Seq: int64(i + 1), Kind: audit.Outcome, Time: at.Add(time.Duration(i) * 7 * time.Minute), Connection: "c", Credential: "t", Op: "patch", Action: audit.Failed,
			Subject: audit.Subject{ID: fmt.Sprint(i)}, Answer: audit.Answer{Status: 500}, Calls: []audit.Call{{Duration: rand.Float64() * 1e5, Started: at}}})
	}
	if got := p.states(); got.Total() > mostKnown || got.Total() < mostKnown/2 || !got.Omitted {
		t.Errorf("got %d people, omitted %v", got.Total(), got.Omitted)
	}
	if _, newest := p.person("c", fmt.Sprint(mostKnown+99)); !newest {
		t.Error("who came last is not known")
	}
	if _, oldest := p.person("c", "0"); oldest {
		t.Error("who was quiet longest is still known")
	}
	if got := len(p.cycles(at)); got > mostCycles+1 {
		t.Errorf("got %d cycles, want at most %d", got, mostCycles+1)
	}
	if got := len(p.trouble()); got != mostTrouble {
		t.Errorf("got %d records of trouble, want %d", got, mostTrouble)
	}
}

// Long names take the place of many short ones.
func TestNamesAreBounded(t *testing.T) {
	p := newPicture()
	for i := range 20_000 {
		p.tell(&audit.Record{Seq: int64(i + 1), Kind: audit.Outcome, Time: time.Unix(int64(i), 0), Connection: "c", Credential: "t", Op: "get", Action: audit.Read,
			Subject: audit.Subject{ID: fmt.Sprint(i), UserName: strings.Repeat("n", audit.ClipLimit), ExternalID: strings.Repeat("e", audit.ClipLimit)}, Answer: audit.Answer{Status: 200}})
	}
	sum := 0
	for _, one := range p.known {
		sum += one.size()
	}
	if sum != p.names || sum > mostNames || sum < mostNames/2 {
		t.Errorf("got names of %d bytes, counted %d, want at most %d", sum, p.names, mostNames)
	}
	if got := p.cycles(time.Unix(20_000, 0))[0].Objects; got != 20_000 {
		t.Errorf("got a cycle of %d objects, want 20000", got)
	}
}

func TestRoundUp(t *testing.T) {
	for in, want := range map[float64]float64{0: 2, 1: 2, 3: 4, 5: 6, 7: 8, 9: 10, 11: 20, 41: 60, 99: 100, 101: 200, 999: 1000} {
		if got := roundUp(in); got != want {
			t.Errorf("roundUp(%v): got %v, want %v", in, got, want)
		}
	}
}

func TestNumbersInWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{count(0), "0"}, {count(999), "999"}, {count(1000), "1\u202f000"}, {count(-1234567), "-1\u202f234\u202f567"},
		{milliseconds(0), "0 ms"}, {milliseconds(.4), "< 1 ms"}, {milliseconds(9.64), "9.6 ms"}, {milliseconds(41.3), "41 ms"}, {milliseconds(1500), "1.5 s"},
		{share(0, 0), "0 %"}, {share(1, 10000), "0.1 %"}, {share(1, 3), "33 %"}, {share(9, 200), "4.5 %"},
		{span(0), "less than 1 s"}, {span(61 * time.Second), "1 min 1 s"}, {span(25 * time.Hour), "25 h 0 min"}, {span(72 * time.Hour), "3 days"},
		{plural(1, "look-up"), "1 look-up"}, {plural(2, "look-up"), "2 look-ups"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// Refusals of which only their number is recorded count as those that have records.
func TestUnrecorded(t *testing.T) {
	p, now := newPicture(), time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	p.tell(&audit.Record{Kind: audit.Event, Time: now, Action: audit.Unauthenticated, Unrecorded: 40})
	p.tell(&audit.Record{Kind: audit.Event, Time: now, Action: audit.Refused, Unrecorded: 2})
	p.tell(&audit.Record{Kind: audit.Outcome, Time: now, Action: audit.Unauthenticated, Answer: audit.Answer{Status: 401}})
	if got := p.unauthenticated(now.Add(time.Second)); got != 41 {
		t.Errorf("got %d requests without a token, want 41", got)
	}
}
