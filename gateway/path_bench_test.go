package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
	"scimgate/gateway/store"
	"scimgate/gateway/upstream"
)

var pathTime = flag.Duration("path.time", 6*time.Second, "how long BenchmarkPath loads each cell of its table, in turns of a second or less")

// BenchmarkPath carries the requests of a provisioning cycle over loopback through four systems in one run, in turns,
// and prints a table of them beside each other:
//
//	proxy          a bare httputil.ReverseProxy
//	proxy+fsync    the same, with a line of 1 KiB durable (group commit) after each read, and before and after each write
//	no trail       the gateway with a trail that keeps nothing
//	gateway        the gateway as it is, signing its trail
//
// Clients, systems and the upstream, a stub that answers at once, share the process and its processors, so that CPU
// and allocations are those of all of them. Run it alone: go test -run '^$' -bench '^BenchmarkPath$' -benchtime 1x ./gateway
func BenchmarkPath(b *testing.B) {
	table := newPathTable(b)
	for b.Loop() {
		table.fill()
	}
	table.print(os.Stdout)
	worst := 0.0
	for i, c := range table.cells {
		if ratio := c[systemGateway].perSecond() / c[systemFsync].perSecond(); i == 0 || ratio < worst {
			worst = ratio
		}
	}
	b.ReportMetric(worst, "worst-ratio-to-fsync")
}

// BenchmarkPathOf loads one cell of the table at 32 clients, for a profile of it alone:
// go test -run '^$' -bench '^BenchmarkPathOf$/^gateway$/^POST$' -cpuprofile cpu.out ./gateway
func BenchmarkPathOf(b *testing.B) {
	for s, system := range systemNames {
		b.Run(system, func(b *testing.B) {
			t := newPathTable(b)
			for _, op := range t.ops {
				b.Run(op, func(b *testing.B) {
					client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32, DisableCompression: true}}
					defer client.CloseIdleConnections()
					b.ReportAllocs()
					b.SetParallelism(max(1, 32/runtime.GOMAXPROCS(0)))
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							if !t.once(client, t.urls[s], op) {
								b.Error("a request failed")
								return
							}
						}
					})
				})
			}
		})
	}
}

const (
	systemProxy = iota
	systemFsync
	systemBare
	systemGateway
	systems
)

var systemNames = [systems]string{"proxy", "proxy+fsync", "no trail", "gateway"}

type pathTable struct {
	b       *testing.B
	urls    [systems]string
	ops     []string
	clients []int
	cells   [][systems]*cellSum
}

// cellSum is what one cell of the table collected over its turns.
type cellSum struct {
	requests, failed int
	took             time.Duration
	latencies        []time.Duration
	cpu              time.Duration
	mallocs          uint64
}

func (c *cellSum) perSecond() float64 { return float64(c.requests) / c.took.Seconds() }

func (c *cellSum) quantile(q float64) time.Duration {
	slices.Sort(c.latencies)
	return c.latencies[int(q*float64(len(c.latencies)-1))]
}

func newPathTable(b *testing.B) *pathTable {
	behind := httptest.NewServer(http.HandlerFunc(stub))
	b.Cleanup(behind.Close)
	t := &pathTable{b: b, ops: []string{"GET filter", "PATCH", "POST"}, clients: []int{1, 8, 32}}
	target, err := url.Parse(behind.URL)
	if err != nil {
		b.Fatal(err)
	}
	t.urls[systemProxy] = t.serve(proxyTo(target))
	t.urls[systemFsync] = t.serve(fsyncing(b, proxyTo(target)))
	t.urls[systemBare] = t.serve(pathDoor(b, behind.URL, true))
	t.urls[systemGateway] = t.serve(pathDoor(b, behind.URL, false))
	return t
}

func (t *pathTable) serve(h http.Handler) string {
	s := httptest.NewServer(h)
	t.b.Cleanup(s.Close)
	return s.URL + "/scim/v2"
}

func proxyTo(target *url.URL) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
}

// fsyncing is the least that a gateway with a durable trail must pay.
func fsyncing(b *testing.B, next http.Handler) http.Handler {
	f, err := os.Create(filepath.Join(b.TempDir(), "trail"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	queue := make(chan chan error, 1024)
	done := make(chan struct{})
	b.Cleanup(func() { close(queue); <-done })
	line := append(bytes.Repeat([]byte{'x'}, 1023), '\n')
	go func() {
		defer close(done)
		for first := range queue {
			waiting := []chan error{first}
			for more := true; more; {
				select {
				case w, ok := <-queue:
					if more = ok; ok {
						waiting = append(waiting, w)
					}
				default:
					more = false
				}
			}
			_, err := f.Write(bytes.Repeat(line, len(waiting)))
			if err == nil {
				err = syscall.Fdatasync(int(f.Fd()))
			}
			for _, w := range waiting {
				w <- err
			}
		}
	}()
	durable := func() {
		w := make(chan error, 1)
		queue <- w
		if err := <-w; err != nil {
			panic(err)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			durable()
		}
		next.ServeHTTP(&afterwards{ResponseWriter: w, durable: durable}, r)
	})
}

// afterwards makes a line durable before the first byte of an answer leaves.
type afterwards struct {
	http.ResponseWriter
	durable func()
	done    bool
}

func (a *afterwards) WriteHeader(status int) {
	if !a.done {
		a.done = true
		a.durable()
	}
	a.ResponseWriter.WriteHeader(status)
}

// pathDoor is the gateway in front of the stub.
func pathDoor(b *testing.B, behind string, bare bool) http.Handler {
	p, err := profile.Load("generic")
	if err != nil {
		b.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	st, err := store.Open(context.Background(), store.Config{Path: filepath.Join(b.TempDir(), "trail.db"), Logger: logger})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close() })
	metrics := NewMetrics(st)
	up, err := upstream.New(upstream.Config{
		BaseURL: behind + "/scim/v2", Profile: p, Token: secret.Literal(upstreamToken), InFlight: 64, Observe: metrics.Attempt("bench"),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(up.Close)
	cfg := Config{
		Sealer: newSealer(b, st), Name: "bench", Profile: p, Upstream: up, UpstreamName: behind, Store: st,
		Redactor: audit.NewRedactor(audit.RedactorConfig{Keys: audit.Keys{bytes.Repeat([]byte{7}, 32)}, Seal: true}), Metrics: metrics, Logger: logger,
	}
	g, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	if bare {
		g.trail = noTrail{}
	} else {
		signTrail(b, st)
	}
	return NewDoor(DoorConfig{Logger: logger, Connections: []DoorConnection{{
		Path: "/scim/v2", Gateway: g, Tokens: []Token{{Name: "bench", SHA256: sha256.Sum256([]byte(testToken))}},
	}}})
}

// signTrail signs the trail behind the requests, ten times as often as `serve` does: so it falls into the gateway's own
// turns, and not into those of the proxies.
func signTrail(b *testing.B, st *store.Store) {
	signer, err := audit.LoadOrCreateSigner(filepath.Join(b.TempDir(), "signing-key"))
	if err != nil {
		b.Fatal(err)
	}
	signing, err := audit.NewCheckpointer(audit.CheckpointerConfig{Store: st, Signer: signer, Every: 100 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		signing.Run(ctx)
	}()
	b.Cleanup(func() {
		cancel()
		<-ended
		if err := signing.Healthy(); err != nil {
			b.Error(err)
		}
	})
}

// noTrail keeps nothing.
type noTrail struct{}

func (noTrail) Append(context.Context, *audit.Record, ...identity.Change) (int64, error) {
	return 1, nil
}
func (noTrail) Intend(context.Context, *audit.Record, store.OpenIntent) (int64, error) { return 1, nil }
func (noTrail) Conclude(context.Context, *audit.Record, ...identity.Change) (int64, error) {
	return 1, nil
}

// stub is an upstream that answers at once with what was asked for.
func stub(w http.ResponseWriter, r *http.Request) {
	const user = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],` +
		`"id":"%s","externalId":"0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef","userName":"%s","active":true,"displayName":"Ann Lee","title":"Engineer",` +
		`"name":{"givenName":"Ann","familyName":"Lee","formatted":"Ann Lee"},"emails":[{"type":"work","value":"ann@example.com","primary":true}],` +
		`"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"R and D","employeeNumber":"701984"},` +
		`"meta":{"resourceType":"User","created":"2026-01-01T00:00:00.123Z","lastModified":"2026-01-01T00:00:00.123Z","location":"http://stub/Users/%s","version":"W/\"1\""}}`
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/scim+json")
	between := func(s, from, to string) string {
		_, s, _ = strings.Cut(s, from)
		s, _, _ = strings.Cut(s, to)
		return s
	}
	switch r.Method {
	case http.MethodGet:
		name := between(r.URL.Query().Get("filter"), `"`, `"`)
		fmt.Fprintf(w, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"totalResults":1,"startIndex":1,"itemsPerPage":1,"Resources":[`+user+`]}`, "1", name, "1")
	case http.MethodPost:
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, user, "2", between(string(body), `"userName":"`, `"`), "2")
	default:
		id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		fmt.Fprintf(w, user, id, "ann@example.com", id)
	}
}

func (t *pathTable) fill() {
	for _, op := range t.ops {
		for _, clients := range t.clients {
			var row [systems]*cellSum
			for i := range row {
				row[i] = &cellSum{}
				t.load(&cellSum{}, t.urls[i], op, clients, 200*time.Millisecond) // warm
			}
			const turns = 8
			for turn := range turns {
				for i := range row {
					s := (i + turn) % systems
					t.load(row[s], t.urls[s], op, clients, *pathTime/turns)
				}
			}
			t.cells = append(t.cells, row)
		}
	}
}

var pathSerial atomic.Int64

// load sends one kind of request from a number of clients for a while.
func (t *pathTable) load(sum *cellSum, base, op string, clients int, d time.Duration) {
	transport := &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cpu := cpuTime()
	began := time.Now()
	var wg sync.WaitGroup
	all := make([][]time.Duration, clients)
	failed := make([]int, clients)
	for i := range clients {
		wg.Go(func() {
			for time.Since(began) < d {
				at := time.Now()
				if !t.once(client, base, op) {
					failed[i]++
				}
				all[i] = append(all[i], time.Since(at))
			}
		})
	}
	wg.Wait()
	sum.took += time.Since(began)
	sum.cpu += cpuTime() - cpu
	runtime.ReadMemStats(&after)
	sum.mallocs += after.Mallocs - before.Mallocs
	for i := range clients {
		sum.latencies = append(sum.latencies, all[i]...)
		sum.requests += len(all[i])
		sum.failed += failed[i]
	}
	if sum.failed > 0 {
		t.b.Fatalf("%s at %d clients: %d requests failed", op, clients, sum.failed)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (t *pathTable) once(client *http.Client, base, op string) bool {
	n := strconv.FormatInt(pathSerial.Add(1), 10)
	var method, target, body string
	want := http.StatusOK
	switch op {
	case "GET filter":
		method, target = http.MethodGet, base+"/Users?filter=userName+eq+%22user"+n+"%40example.com%22"
	case "PATCH":
		method, target = http.MethodPatch, base+"/Users/"+n
		body = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"Replace","path":"displayName","value":"Ann Lee"},` +
			`{"op":"Replace","path":"emails[type eq \"work\"].value","value":"ann@example.com"},{"op":"Replace","path":"active","value":"True"}]}`
	default:
		method, target, want = http.MethodPost, base+"/Users", http.StatusCreated
		body = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],` +
			`"externalId":"0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef","userName":"user` + n + `@example.com","active":true,"displayName":"Ann Lee","title":"Engineer",` +
			`"emails":[{"primary":true,"type":"work","value":"ann@example.com"}],"meta":{"resourceType":"User"},` +
			`"name":{"formatted":"Ann Lee","familyName":"Lee","givenName":"Ann"},"roles":[],` +
			`"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"R and D","employeeNumber":"701984"}}`
	}
	req, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/scim+json")
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode == want
}

func (t *pathTable) print(w io.Writer) {
	fmt.Fprintf(w, "\n%-11s %7s  %-12s %9s %8s %8s %8s %9s   %s\n", "request", "clients", "system", "per s", "p50 ms", "p99 ms", "CPU us", "allocs", "ratio to proxy, proxy+fsync, no trail")
	for i, row := range t.cells {
		for s, c := range row {
			n := float64(c.requests)
			fmt.Fprintf(w, "%-11s %7d  %-12s %9.0f %8.2f %8.2f %8.0f %9.0f   ", t.ops[i/len(t.clients)%len(t.ops)], t.clients[i%len(t.clients)], systemNames[s],
				c.perSecond(), c.quantile(.5).Seconds()*1e3, c.quantile(.99).Seconds()*1e3, c.cpu.Seconds()*1e6/n, float64(c.mallocs)/n)
			for _, other := range []int{systemProxy, systemFsync, systemBare} {
				fmt.Fprintf(w, "%5.2f ", c.perSecond()/row[other].perSecond())
			}
			fmt.Fprintln(w)
		}
	}
}
