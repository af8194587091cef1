//go:build unix && !race

package gateway

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

var hostileAll = flag.Bool("hostile", false, "measure what requests cost under every profile and at every size, and print each row")

// What one request may cost the gateway at most, whatever a client with a valid token sends. What the upstream costs
// is not counted. A scan reads as much as the upstream has and is bounded on its own.
const (
	mostCPU   = 50 * time.Millisecond
	mostBytes = 16 << 20
)

// idleWork is what knownWork costs at its best on the machine the bounds were set on, two CPUs of an AMD EPYC 7003 at
// 2.45 GHz. CPU time is not the same at all times: neighbours take cache, memory bandwidth and, below a virtual machine,
// the CPU itself, and the same work was seen to cost twice as much. Where the plain bound does not hold, the same share
// more is allowed that known work costs more at that moment; never less than the plain bound.
const idleWork = 30 * time.Millisecond

// knownWork is what a known piece of work costs now. It is like a request: it allocates, fills maps and looks names up.
func knownWork(tb testing.TB) time.Duration {
	tb.Helper()
	before := spent(tb)
	for range 20 {
		var v any
		if err := json.Unmarshal(knownDocument(), &v); err != nil {
			tb.Fatal(err)
		}
		if _, err := json.Marshal(v); err != nil {
			tb.Fatal(err)
		}
	}
	return spent(tb).minus(before).cpu
}

var knownDocument = sync.OnceValue(func() []byte {
	return []byte(list(`{"a":[`, `{"type":"work","value":"a value of some length %d"}`, `]}`)(size{3000, 256 << 10, false}))
})

// cost is what something took of the process: CPU time, garbage collection included, and bytes allocated.
type cost struct {
	cpu   time.Duration
	bytes uint64
}

func (c cost) minus(d cost) cost { return cost{c.cpu - d.cpu, c.bytes - d.bytes} }

// least is the smaller of two costs, each for itself: what other processes add is not the gateway's.
func (c cost) least(d cost) cost { return cost{min(c.cpu, d.cpu), min(c.bytes, d.bytes)} }

// within reports whether the bounds hold, the one of CPU time on a machine that is so many times as slow as when idle.
func (c cost) within(slow float64) bool {
	return c.cpu <= time.Duration(float64(mostCPU)*max(slow, 1)) && c.bytes <= mostBytes
}

// proportional reports whether a cost is at most so many times another one. Little costs, on a machine that is so many times
// as slow as when idle, are not compared: a garbage collection that falls into one of them is as large.
func (c cost) proportional(half cost, most, slow float64) bool {
	const bytes = 2 << 20
	cpu := time.Duration(float64(5*time.Millisecond) * max(slow, 1))
	return float64(c.cpu) <= most*float64(max(half.cpu, cpu)) && float64(c.bytes) <= most*float64(max(half.bytes, bytes))
}

func (c cost) String() string {
	return fmt.Sprintf("%5.1f ms %5.1f MiB", float64(c.cpu.Microseconds())/1000, float64(c.bytes)/(1<<20))
}

// spent is what the process has cost so far.
func spent(tb testing.TB) cost {
	tb.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		tb.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return cost{time.Duration(r.Utime.Nano() + r.Stime.Nano()), m.TotalAlloc}
}

// measure is what a message costs the gateway: the process without the upstream in it.
func (b *bare) measure(m message) (c cost, status int) {
	b.tb.Helper()
	var theirs cost
	b.wire.around = func(serve func()) {
		before := spent(b.tb)
		serve()
		c := spent(b.tb).minus(before)
		theirs.cpu += c.cpu
		theirs.bytes += c.bytes
	}
	defer func() { b.wire.around = nil }()
	before := spent(b.tb)
	w := b.ask(m)
	c = spent(b.tb).minus(before).minus(theirs)
	b.check(m, w)
	return c, w.Code
}

// probe is a request that is measured again and again.
type probe struct {
	b      *bare
	what   string
	size   size
	grows  *grower        // nil: nothing grows
	make   func() message // anew each time: the same one may find another state
	cost                  // at best
	status int            // 0: it was not measured yet
	slow   float64        // how many times as slow as when idle the machine was, where that had to be found out; else 0
}

// mostTries is how often a probe is repeated before what it costs is believed, leastTries how often at least.
const mostTries = 20

func leastTries() int {
	if *hostileAll {
		return 3
	}
	return 1
}

func (p *probe) try() {
	p.b.tb.Helper()
	c, status := p.b.measure(p.make())
	if p.status == status {
		c = c.least(p.cost)
	}
	p.cost, p.status = c, status
}

// holds measures until the bounds hold, and reports whether they do. The plain ones come first; from the fifth try on
// those of the machine as it is now, which is found out between the tries.
func (p *probe) holds() bool {
	p.b.tb.Helper()
	for range leastTries() {
		p.try()
	}
	known := time.Duration(1<<63 - 1)
	for try := 1; !p.within(1); try++ {
		known = min(known, knownWork(p.b.tb))
		if p.slow = float64(known) / float64(idleWork); try >= 5 && p.within(p.slow) {
			p.b.tb.Logf("%s: %v, more than %v: known work costs %v at best now, %v where the bounds were set", p.what, p.cost, cost{mostCPU, mostBytes}, known, idleWork)
			return true
		}
		if try > mostTries {
			p.b.tb.Errorf("%s: got %d at %v, want %v at most, %.2f times that CPU while known work costs %v and not %v", p.what, p.status, p.cost, cost{mostCPU, mostBytes}, max(p.slow, 1), known, idleWork)
			return false
		}
		p.try()
	}
	return true
}

// follows holds what a probe costs against a smaller one: half as much again as it is larger, for between the double and
// the fourfold of a quadratic the line is drawn at three times. Until it is in proportion both are measured again, in turn,
// so that whatever slows the machine down slows both.
func (p *probe) follows(half *probe) {
	p.b.tb.Helper()
	times := max(float64(p.size.values)/float64(half.size.values), float64(p.size.bytes)/float64(half.size.bytes))
	most := 1.5 * times
	if products[p.grows.name] {
		most *= times
	}
	slow := 1.0
	for try := 0; half.status == p.status && !p.proportional(half.cost, most, slow); try++ {
		if try == mostTries {
			p.b.tb.Errorf("%s: got %v, and %v at %v: want at most %.1f times as much", p.what, p.cost, half.cost, half.size, most)
			return
		}
		slow = float64(knownWork(p.b.tb)) / float64(idleWork)
		half.try()
		p.try()
	}
}

// costWorlds are what requests are measured under.
var costWorlds = []struct {
	name    string
	always  bool
	profile func(*testing.T) *profile.Profile
}{
	{"bluejeans", false, func(t *testing.T) *profile.Profile { return builtin(t, "bluejeans") }},
	{"keep", true, func(t *testing.T) *profile.Profile { return tailored(t, "bluejeans", keepsAll, "") }},
	{"put", false, func(t *testing.T) *profile.Profile { return tailored(t, "generic", "", profile.UpdatePut) }},
	{"generic", false, func(t *testing.T) *profile.Profile { return builtin(t, "generic") }},
	{"alias, one by one", false, func(t *testing.T) *profile.Profile { return tailored(t, "bluejeans", aliased, profile.UpdateSingle) }},
	{"createOnly", false, func(t *testing.T) *profile.Profile {
		return tailored(t, "generic", "User: {attributes: [{path: emails, createOnly: true}]}", "")
	}},
}

// No request costs more than it may, and whatever a client makes twice as large costs about twice as much.
func TestHostileCost(t *testing.T) {
	var rows []*probe
	for _, world := range costWorlds {
		if !world.always && !*hostileAll {
			continue
		}
		t.Run(world.name, func(t *testing.T) {
			b := newBare(t, world.profile(t))
			for _, g := range growers {
				t.Run(g.name, func(t *testing.T) {
					b.tb = t
					b.again(100)
					rows = append(rows, g.grow(b, world.name)...)
				})
			}
		})
	}
	report(t, rows)
}

// grow measures a request at all sizes.
func (g *grower) grow(b *bare, world string) (rows []*probe) {
	ways := sizes()
	if g.in != "" {
		ways = headSizes()
	}
	seen := map[string]bool{} // what is no list is the same for many sizes
	for _, way := range ways {
		var first, second *probe
		for _, s := range way {
			text := g.text(s)
			if seen[text] {
				continue
			}
			seen[text] = true
			next, again := g.probes(b, world, s)
			rows = append(rows, next)
			if next.holds() && first != nil {
				next.follows(first)
			}
			if again != nil {
				rows = append(rows, again)
				if again.holds() && second != nil {
					again.follows(second)
				}
			}
			first, second = next, again
		}
	}
	return rows
}

// probes are a request of a size: once on a user that was made for it, and, where it changes the user, once more on what
// it left; nil where it changes none.
func (g *grower) probes(b *bare, world string, s size) (first, again *probe) {
	id := b.user()
	first = &probe{b: b, size: s, grows: g, what: fmt.Sprintf("%s: %s, %v", world, g.name, s), make: func() message {
		if g.method != http.MethodGet {
			id = b.user()
		}
		return g.message(b, id, s)
	}}
	if g.method != http.MethodPut && g.method != http.MethodPatch {
		return first, nil
	}
	changed := b.user()
	if w := b.ask(g.message(b, changed, s)); w.Code >= 400 {
		return first, nil
	}
	return first, &probe{b: b, size: s, grows: g, what: first.what + ", again", make: func() message { return g.message(b, changed, s) }}
}

// report prints the most expensive requests, and all with -hostile.
func report(t *testing.T, rows []*probe) {
	t.Helper()
	if len(rows) == 0 {
		return
	}
	known := knownWork(t)
	for range 4 {
		known = min(known, knownWork(t))
	}
	cpu := slices.MaxFunc(rows, func(a, b *probe) int { return cmp.Compare(a.cpu, b.cpu) })
	bytes := slices.MaxFunc(rows, func(a, b *probe) int { return cmp.Compare(a.bytes, b.bytes) })
	t.Logf("%d requests, bounds %v; most CPU %v (%s), most memory %v (%s); known work costs %v now, %v where the bounds were set", len(rows),
		cost{mostCPU, mostBytes}, cpu.cost, cpu.what, bytes.cost, bytes.what, known.Round(time.Millisecond/10), idleWork)
	slices.SortFunc(rows, func(a, b *probe) int { return cmp.Compare(b.cpu, a.cpu) })
	if !*hostileAll {
		rows = rows[:min(len(rows), 10)]
	}
	for _, r := range rows {
		t.Logf("%v  %d  %s", r.cost, r.status, r.what)
	}
}

// A filter at its limit, over a directory with a long value in it. It is evaluated here, term by term.
func TestHostileFilterCost(t *testing.T) {
	b := newBare(t, builtin(t, "bluejeans"))
	b.again(50)
	title := strings.Repeat("Abc", 30<<10)
	if w := b.ask(message{method: "POST", target: "/Users", body: strings.Replace(userHead, "NEW", b.name(), 1) + `"title":"` + title + `"}`}); w.Code != 201 {
		t.Fatalf("create: got %d %s", w.Code, w.Body)
	}
	for _, term := range []string{`title co "x"`, `title eq "Abcabc"`, `title gt "zz"`, `name.givenName sw "a"`, `emails[type eq "work"]`, `not (title pr)`, `id ew "x"`} {
		filter := term + strings.Repeat(" or "+term, (scim.MaxFilter-len(term))/(len(term)+4))
		m := message{method: "GET", target: "/Users?filter=" + url.QueryEscape(filter)}
		p := &probe{b: b, what: fmt.Sprintf("%d bytes of %s", len(filter), term), make: func() message { return m }}
		if p.holds(); p.status != http.StatusOK {
			t.Errorf("%s: got %d, want 200", p.what, p.status)
		}
		t.Logf("%v  %s", p.cost, p.what)
	}
}

// What is in the corpus costs no more than it may either.
func TestHostileCorpusCost(t *testing.T) {
	var rows []*probe
	for _, world := range costWorlds {
		if !world.always && !*hostileAll {
			continue
		}
		b := newBare(t, world.profile(t))
		for _, e := range corpus(t) {
			b.again(20)
			p := &probe{b: b, what: world.name + ": " + e.name, make: func() message { return e.message(t, b.user()) }}
			p.holds()
			rows = append(rows, p)
		}
	}
	report(t, rows)
}
