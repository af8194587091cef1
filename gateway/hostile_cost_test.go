//go:build unix && !race

package gateway

import (
	"cmp"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

var hostileAll = flag.Bool("hostile", false, "measure what requests cost under every profile and at every size")

// What one request may cost the gateway at most, whatever a client with a valid token sends. What the upstream costs
// is not counted. A scan reads as much as the upstream has and is bounded on its own.
const (
	mostCPU   = 50 * time.Millisecond
	mostBytes = 16 << 20
)

// cost is what something took of the process: CPU time, garbage collection included, and bytes allocated.
type cost struct {
	cpu   time.Duration
	bytes uint64
}

func (c cost) minus(d cost) cost { return cost{c.cpu - d.cpu, c.bytes - d.bytes} }

// least is the smaller of two costs, each for itself: what other processes add is not the gateway's.
func (c cost) least(d cost) cost { return cost{min(c.cpu, d.cpu), min(c.bytes, d.bytes)} }

func (c cost) within() bool { return c.cpu <= mostCPU && c.bytes <= mostBytes }

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

// measureLeast is measure at its best: twice at least, then until it is good enough, at most 30 times. make makes the
// message anew, because the same one may find another state.
func (b *bare) measureLeast(make func() message, enough func(cost) bool) (c cost, status int) {
	b.tb.Helper()
	c, status = b.measure(make())
	for try := 1; try < 2 || try < 30 && !enough(c); try++ {
		next, again := b.measure(make())
		if again != status {
			return next, again
		}
		c = c.least(next)
	}
	return c, status
}

// grower is a request of which one thing grows.
type grower struct {
	name, method, target string           // {id} is a user's; in the body, NEW is a new name
	text                 func(int) string // of so many bytes: what grows, in the place that in says
	in                   string           // body, target, or the name of a header
}

func (g *grower) message(b *bare, id string, n int) message {
	m := message{method: g.method, target: strings.Replace(g.target, "{id}", id, 1)}
	switch text := g.text(n); g.in {
	case "":
		m.body = strings.Replace(text, "NEW", b.name(), 1)
	case "target":
		m.target += text
	default:
		m.header = []string{g.in, text}
	}
	return m
}

// list is before and after with as many elements between them as there is room for in n bytes.
func list(before, element, after string) func(int) string {
	return func(n int) string {
		var sb strings.Builder
		sb.WriteString(before)
		for i := 0; ; i++ {
			e := element
			if strings.Contains(e, "%") {
				e = fmt.Sprintf(e, i)
			}
			if sb.Len()+len(e)+len(after)+1 > n {
				break
			}
			if i > 0 {
				sb.WriteByte(',')
			}
			sb.WriteString(e)
		}
		sb.WriteString(after)
		return sb.String()
	}
}

// half is a list of n/2 bytes, and behind it another one.
func half(first, second func(int) string) func(int) string {
	return func(n int) string { return first(n/2) + second(n-n/2) }
}

// run is before and after with one text between them again and again.
func run(before, text, after string) func(int) string {
	return func(n int) string {
		return before + strings.Repeat(text, max(n-len(before)-len(after)-8, 0)/len(text)) + after
	}
}

const (
	userHead  = `{"schemas":["` + scim.SchemaUser + `"],"userName":"NEW",`
	groupHead = `{"schemas":["` + scim.SchemaGroup + `"],"displayName":"NEW",`
	patchHead = `{"schemas":["` + scim.MessagePatchOp + `"],"Operations":[`
)

// growers are what a client controls.
var growers = []grower{
	{"userName", "POST", "/Users", run(`{"schemas":["`+scim.SchemaUser+`"],"userName":"NEW`, "a", `"}`), ""},
	{"a text", "POST", "/Users", run(userHead+`"title":"`, "a", `"}`), ""},
	{"U+FFFD", "POST", "/Users", run(userHead+`"title":"`, "\uFFFD", `"}`), ""},
	{"escapes", "POST", "/Users", run(userHead+`"title":"`, `\u0001`, `"}`), ""},
	{"white space", "POST", "/Users", run(userHead[:len(userHead)-1], " ", `}`), ""},
	{"a long name", "POST", "/Users", run(userHead+`"`, "s", `":1}`), ""},
	{"a long dotted name", "POST", "/Users", run(userHead+`"`, "a.", `b":1}`), ""},
	{"unknown names", "POST", "/Users", list(userHead, `"a%d":1`, "}"), ""},
	{"names that fold", "POST", "/Users", list(userHead, "\"\u212A%d\":1", "}"), ""},
	{"names like userName", "POST", "/Users", list(userHead, `"userName%d":1`, "}"), ""},
	{"dotted names", "POST", "/Users", list(userHead, `"name.a%d":1`, "}"), ""},
	{"names with a URN", "POST", "/Users", list(userHead, `"`+scim.SchemaEnterpriseUser+`:a%d":1`, "}"), ""},
	{"names with a filter", "POST", "/Users", list(userHead, `"emails[type eq \"a%d\"].value":"x"`, "}"), ""},
	{"names of an extension", "POST", "/Users", list(userHead+`"`+scim.SchemaEnterpriseUser+`":{`, `"a%d":1`, "}}"), ""},
	{"schemas", "POST", "/Users", list(`{"userName":"NEW","schemas":["`+scim.SchemaUser+`",`, `"a%d"`, "]}"), ""},
	{"nesting", "POST", "/Users", run(userHead+`"x":`, "[", ""), ""},
	{"nested objects", "POST", "/Users", run(userHead+`"x":`, `{"x":`, ""), ""},
	{"empty objects", "POST", "/Users", list(userHead+`"x":[`, "{}", "]}"), ""},
	{"objects of one", "POST", "/Users", list(userHead+`"x":[`, `{"a":1}`, "]}"), ""},
	{"numbers", "POST", "/Users", list(userHead+`"x":[`, "1", "]}"), ""},
	{"huge exponents", "POST", "/Users", list(userHead+`"x":[`, "1e-99999999999", "]}"), ""},
	{"elements", "POST", "/Users", list(userHead+`"emails":[`, `{"value":"a%d"}`, "]}"), ""},
	{"empty elements", "POST", "/Users", list(userHead+`"emails":[`, `{}`, "]}"), ""},
	{"elements kept in part", "POST", "/Users", list(userHead+`"emails":[`, `{"type":"work","value":"A%d","display":"d"}`, "]}"), ""},
	{"elements of both kinds", "POST", "/Users", half(list(userHead+`"emails":[`, `{"type":"work","value":"A%d"}`, ","), list("", `{"type":"home","value":"h%d"}`, "]}")), ""},
	{"elements with unknown names", "POST", "/Users", list(userHead+`"emails":[`, `{"a%d":1}`, "]}"), ""},
	{"names in an element", "POST", "/Users", list(userHead+`"emails":[{"type":"work","value":"NEW",`, `"a%d":1`, "}]}"), ""},
	{"names in an element of long type", "POST", "/Users", half(run(userHead+`"emails":[{"type":"`, "t", `",`), list("", `"a%d":1`, "}]}")), ""},
	{"addresses", "POST", "/Users", list(userHead+`"addresses":[`, `{"locality":"a","country":"b","type":"c%d"}`, "]}"), ""},
	{"sub-attributes", "POST", "/Users", list(userHead+`"name":{`, `"a%d":1`, "}}"), ""},
	{"members", "POST", "/Groups", list(groupHead+`"members":[`, `{"value":"a%d"}`, "]}"), ""},
	{"replace with elements", "PUT", "/Users/{id}", list(userHead+`"emails":[`, `{"type":"work","value":"NEW-%d","display":"d"}`, "]}"), ""},
	{"replace with members of no type", "PUT", "/Users/{id}", list(userHead+`"emails":[`, `{"value":"A%d"}`, "]}"), ""},

	{"operations", "PATCH", "/Users/{id}", list(patchHead, `{"op":"replace","path":"title","value":"%d"}`, "]}"), ""},
	{"operations on what is kept", "PATCH", "/Users/{id}", list(patchHead, `{"op":"replace","path":"nickName","value":"%d"}`, "]}"), ""},
	{"operations on new elements", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"emails[type eq \"a%d\"].value","value":"x"}`, "]}"), ""},
	{"operations on one element", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"emails[type eq \"work\"].value","value":"x%d"}`, "]}"), ""},
	{"operations that each add one", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"emails","value":[{"type":"work","value":"x%d"}]}`, "]}"), ""},
	{"operations that each add a primary", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"roles","value":[{"primary":true,"value":"x%d"}]}`, "]}"), ""},
	{"value filters on a long list", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"emails","value":[`, `{"type":"work","value":"x%d"}`, "]},"),
		list("", `{"op":"add","path":"emails[value eq \"x%d\"].display","value":"x"}`, "]}")), ""},
	{"one operation on a long list", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"roles","value":[`, `{"value":"x%d"}`, "]},"),
		list(`{"op":"add","path":"roles[value sw \"x\"]","value":{`, `"a%d":1`, "}}]}")), ""},
	{"removed elements", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"emails","value":[`, `{"type":"work","value":"x%d"}`, `]},{"op":"remove","path":"emails","value":[`),
		list("", `{"value":"y%d"}`, "]}]}")), ""},
	{"a kept list and more of it", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"roles","value":[`, `{"value":"x%d"}`, "]},"),
		list("", `{"op":"add","path":"roles","value":[{"value":"y%d"}]}`, "]}")), ""},
	{"a kept list and others", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"roles","value":[`, `{"value":"x%d"}`, "]},"),
		list("", `{"op":"add","path":"nickName","value":"%d"}`, "]}")), ""},
	{"operations on kept elements", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"addresses[type eq \"a%d\"].locality","value":"x"}`, "]}"), ""},
	{"read-only values", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"manager","value":{"displayName":"x"}}`, "]}"), ""},
	{"renames", "PATCH", "/Users/{id}", list(patchHead, `{"op":"replace","path":"userName","value":"NEW-%d"}`, "]}"), ""},
	{"no path, unknown names", "PATCH", "/Users/{id}", list(patchHead+`{"op":"add","value":{`, `"a%d":1`, "}}]}"), ""},
	{"no path, an extension", "PATCH", "/Users/{id}", list(patchHead+`{"op":"add","value":{"`+scim.SchemaEnterpriseUser+`":{`, `"a%d":1`, "}}}]}"), ""},
	{"no path, value filters", "PATCH", "/Users/{id}", list(patchHead+`{"op":"add","value":{`, `"emails[type eq \"a%d\"].value":"x"`, "}}]}"), ""},
	{"value filters in bulk", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"emails[`+strings.Repeat("type pr and ", 160)+`type pr].value","value":"x"}`, "]}"), ""},
	{"names behind a long filter", "PATCH", "/Users/{id}", list(patchHead+`{"op":"add","path":"emails[type eq \"`+strings.Repeat("t", 1900)+`\"]","value":{`, `"a%d":1`, "}}]}"), ""},
	{"unknown members of an operation", "PATCH", "/Users/{id}", list(patchHead+`{"op":"add","path":"title","value":"x",`, `"a%d":1`, "}]}"), ""},
	{"a path of brackets", "PATCH", "/Users/{id}", run(patchHead+`{"op":"add","path":"`, "(", `","value":"x"}]}`), ""},
	{"a path of U+FFFD", "PATCH", "/Users/{id}", run(patchHead+`{"op":"add","path":"`, "\uFFFD", `","value":"x"}]}`), ""},
	{"a path of dots", "PATCH", "/Users/{id}", run(patchHead+`{"op":"add","path":"`, "a.", `b","value":"x"}]}`), ""},

	{"a filter of brackets", "GET", "/Users?filter=", run("", "(", ""), "target"},
	{"a filter of terms", "GET", "/Users?filter=", run("", "userName+pr+and+", "userName+pr"), "target"},
	{"a filter of U+FFFD", "GET", "/Users?filter=", run("", "%EF%BF%BD", ""), "target"},
	{"attributes", "GET", "/Users?attributes=", run("", "id,", ""), "target"},
	{"attributes of one", "GET", "/Users/{id}?attributes=", run("", "id,title,", ""), "target"},
	{"attributes by URN", "GET", "/Users?attributes=", run("", scim.SchemaEnterpriseUser+",", ""), "target"},
	{"unknown attributes", "GET", "/Users?attributes=", run("", "a,", ""), "target"},
	{"excludedAttributes", "GET", "/Users?excludedAttributes=", run("", "title,", ""), "target"},
	{"sortBy", "GET", "/Users?sortBy=", run("", "a.", ""), "target"},
	{"count", "GET", "/Users?count=", run("", "9", ""), "target"},
	{"parameters", "GET", "/Users?", run("", "a=b&", ""), "target"},
	{"ampersands", "GET", "/Users?", run("", "&", ""), "target"},
	{"percent escapes", "GET", "/Users?a=", run("", "%41", ""), "target"},
	{"slashes", "GET", "/Users", run("", "/", ""), "target"},
	{"segments", "GET", "/Users", run("", "/a", ""), "target"},
	{"an id", "GET", "/Users/", run("", "a", ""), "target"},
	{"an escaped id", "DELETE", "/Users/", run("", "%2f", ""), "target"},
	{"If-Match", "DELETE", "/Users/{id}", run("", `"a",`, `"b"`), "If-Match"},
	{"If-None-Match", "GET", "/Users/{id}", run("", `"a",`, `"b"`), "If-None-Match"},
	{"Content-Type", "POST", "/Users", run("application/json", `;a=b`, ""), "Content-Type"},
	{"Content-Type, continued", "POST", "/Users", func(n int) string { return "text/plain; " + strings.ReplaceAll(list("", "a*%d=b", "")(n), ",", ";") }, "Content-Type"},
	{"Authorization (CVE-2025-30204)", "GET", "/Users", run("Bearer ", ".", ""), "Authorization"},
	{"Accept", "GET", "/Users/{id}", run("", "a/b;q=0.1,", "*/*"), "Accept"},
}

// costWorlds are what requests are measured under.
var costWorlds = []struct {
	name    string
	always  bool
	profile func(*testing.T) *profile.Profile
}{
	{"bluejeans", false, func(t *testing.T) *profile.Profile { return builtin(t, "bluejeans") }},
	{"keep", true, func(t *testing.T) *profile.Profile { return tailored(t, "bluejeans", keepsAll, "") }},
	{"put", true, func(t *testing.T) *profile.Profile { return tailored(t, "generic", "", profile.UpdatePut) }},
	{"generic", false, func(t *testing.T) *profile.Profile { return builtin(t, "generic") }},
	{"alias, one by one", false, func(t *testing.T) *profile.Profile { return tailored(t, "bluejeans", aliased, profile.UpdateSingle) }},
	{"createOnly", false, func(t *testing.T) *profile.Profile {
		return tailored(t, "generic", "User: {attributes: [{path: emails, createOnly: true}]}", "")
	}},
}

// measured is one row of what is printed.
type measured struct {
	what   string
	size   int
	status int
	cost
}

// No request costs more than it may, and whatever a client makes twice as large costs about twice as much: between
// that and the fourfold of a quadratic, the test draws the line at three times.
func TestHostileCost(t *testing.T) {
	sizes := []int{32 << 10, 64 << 10, 128 << 10, 256 << 10}
	var rows []measured
	for _, world := range costWorlds {
		if !world.always && !*hostileAll {
			continue
		}
		t.Run(world.name, func(t *testing.T) {
			b := newBare(t, world.profile(t))
			for _, g := range growers {
				b.again(100)
				var last measured
				for _, n := range sizes {
					if g.in != "" && n > 32<<10 && !*hostileAll {
						break // the listener takes no more of a head
					}
					enough := func(c cost) bool { return c.within() && (last.size == 0 || proportional(last.cost, c)) }
					row := b.grow(t, &g, n, enough)
					if (g.in == "" || n <= 32<<10) && !row.within() {
						t.Errorf("%s of %d KiB: got %v, want %v at most", g.name, n>>10, row.cost, cost{mostCPU, mostBytes})
					}
					if last.size > 0 && last.status == row.status && !proportional(last.cost, row.cost) {
						t.Errorf("%s of %d KiB: got %v, of %d KiB %v: more than twice as much", g.name, n>>10, row.cost, last.size>>10, last.cost)
					}
					row.what = world.name + ": " + g.name
					last, rows = row, append(rows, row)
				}
			}
		})
	}
	report(t, rows)
}

// grow measures a request of n bytes. What changes a user is measured on a new one and again on what it left.
func (b *bare) grow(t *testing.T, g *grower, n int, enough func(cost) bool) measured {
	t.Helper()
	id := b.user()
	c, status := b.measureLeast(func() message {
		if g.method != "GET" {
			id = b.user()
		}
		return g.message(b, id, n)
	}, enough)
	if g.method != "PUT" && g.method != "PATCH" || status >= 400 {
		return measured{size: n, status: status, cost: c}
	}
	again, after := b.measureLeast(func() message { return g.message(b, id, n) }, enough)
	if after >= 500 {
		t.Errorf("%s of %d KiB: got %d the second time", g.name, n>>10, after)
	}
	return measured{size: n, status: status, cost: cost{max(c.cpu, again.cpu), max(c.bytes, again.bytes)}}
}

// proportional reports whether a request costs about twice as much as one of half the size. Little costs are not
// compared, and those of a garbage collection that falls into one of them are left to others.
func proportional(half, whole cost) bool {
	const cpu, bytes = 10 * time.Millisecond, 3 << 20
	return (whole.cpu < 3*cpu || whole.cpu <= 3*max(half.cpu, cpu)) && (whole.bytes < 3*bytes || whole.bytes <= 3*max(half.bytes, bytes))
}

// report prints the most expensive requests.
func report(t *testing.T, rows []measured) {
	t.Helper()
	if len(rows) == 0 {
		return
	}
	cpu := slices.MaxFunc(rows, func(a, b measured) int { return cmp.Compare(a.cpu, b.cpu) })
	bytes := slices.MaxFunc(rows, func(a, b measured) int { return cmp.Compare(a.bytes, b.bytes) })
	t.Logf("%d requests, bounds %v; most CPU %v (%s, %d KiB), most memory %v (%s, %d KiB)", len(rows), cost{mostCPU, mostBytes},
		cpu.cost, cpu.what, cpu.size>>10, bytes.cost, bytes.what, bytes.size>>10)
	slices.SortFunc(rows, func(a, b measured) int { return cmp.Compare(b.cpu, a.cpu) })
	for _, r := range rows[:min(len(rows), 12)] {
		t.Logf("%v  %d  %3d KiB  %s", r.cost, r.status, r.size>>10, r.what)
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
		c, status := b.measureLeast(func() message { return m }, cost.within)
		if status != http.StatusOK || !c.within() {
			t.Errorf("%s: got %d at %v, want 200 at %v at most", term, status, c, cost{mostCPU, mostBytes})
		}
		t.Logf("%v  %d bytes of %s", c, len(filter), term)
	}
}

// What is in the corpus costs no more than it may either.
func TestHostileCorpusCost(t *testing.T) {
	var rows []measured
	for _, world := range costWorlds {
		if !world.always && !*hostileAll {
			continue
		}
		b := newBare(t, world.profile(t))
		for _, e := range corpus(t) {
			b.again(20)
			c, status := b.measureLeast(func() message { return e.message(t, b.user()) }, cost.within)
			if !c.within() {
				t.Errorf("%s: %s: got %v, want %v at most", world.name, e.name, c, cost{mostCPU, mostBytes})
			}
			rows = append(rows, measured{what: world.name + ": " + e.name, status: status, cost: c})
		}
	}
	report(t, rows)
}
