package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"scimgate/config/profile"
	"scimgate/conformance/entra"
)

// measured says what of a gateway is measured while a simulated client runs.
type measured struct {
	admin, token string
	permitted    float64 // requests per second of the upstream; 0: not known
}

// check reports what does not go together, and takes the token from the environment where there is none.
func (m *measured) check(cmd *cobra.Command) error {
	switch {
	case m.permitted < 0:
		return usage(cmd, "--permitted %v: want requests per second", m.permitted)
	case m.permitted > 0 && m.admin == "":
		return usage(cmd, "--permitted needs --gateway-admin: the upstream attempts are in the gateway's metrics")
	}
	m.token = cmp.Or(m.token, os.Getenv("SCIMGATE_ADMIN_TOKEN"))
	return nil
}

// figures are what all cycles of a simulated client came to.
type figures struct {
	Cycle             string        `json:"cycle"` // "all cycles", beside the reports of each
	Users             int           `json:"users"`
	FailedUsers       int           `json:"failedUsers"`
	Requests          int           `json:"requests"`
	RequestsPerSecond float64       `json:"requestsPerSecond"`
	Throttled         int           `json:"throttled"` // answers with 429
	Duration          time.Duration `json:"durationNanoseconds"`
	Gateway           *consumption  `json:"gateway,omitempty"`

	began  time.Time
	failed map[string]bool // object ids
}

// consumption is what the gateway needed meanwhile, by its own metrics, over all of its connections.
type consumption struct {
	Attempts          int     `json:"upstreamAttempts"`
	AttemptsPerSecond float64 `json:"upstreamAttemptsPerSecond"`
	Throttled         int     `json:"upstreamThrottled"` // attempts that the upstream answered with 429
	Permitted         float64 `json:"permittedPerSecond,omitempty"`
	PeakResident      float64 `json:"peakResidentBytes"` // 0: its system does not tell
}

func newFigures(users int) *figures {
	return &figures{Cycle: "all cycles", Users: users, began: time.Now(), failed: map[string]bool{}}
}

// add counts one cycle.
func (f *figures) add(r *entra.Report) {
	f.Requests += r.Requests
	f.Throttled += r.Throttled
	for _, e := range r.Entries {
		if e.Status == entra.Failure {
			f.failed[e.ObjectID] = true
		}
	}
}

// stop ends the time.
func (f *figures) stop() {
	f.Duration, f.FailedUsers = time.Since(f.began), len(f.failed)
	f.RequestsPerSecond = float64(f.Requests) / f.Duration.Seconds()
}

func (f *figures) write(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(f)
	}
	b := bufio.NewWriter(w)
	line := func(name, format string, v any) { fmt.Fprintf(b, "  %-30s "+format+"\n", name, v) }
	fmt.Fprintln(b, "All cycles together")
	line("users", "%d", f.Users)
	line("failed users", "%d", f.FailedUsers)
	line("requests", "%d", f.Requests)
	line("requests per second", "%.1f", f.RequestsPerSecond)
	line("answers 429", "%d", f.Throttled)
	line("duration", "%v", f.Duration.Round(time.Millisecond))
	if g := f.Gateway; g != nil {
		line("upstream attempts", "%d", g.Attempts)
		line("upstream attempts per second", "%.1f", g.AttemptsPerSecond)
		line("upstream attempts answered 429", "%d", g.Throttled)
		if g.Permitted > 0 {
			line("share of the permitted rate", "%.1f %%", 100*g.AttemptsPerSecond/g.Permitted)
		}
		if g.PeakResident > 0 {
			line("gateway's peak resident memory", "%.1f MiB", g.PeakResident/(1<<20))
		}
	}
	return b.Flush()
}

// sample is what a gateway's metrics say at one time.
type sample struct{ attempts, limited, resident float64 }

// watcher reads the metrics of a gateway's admin listener, once a second.
type watcher struct {
	url, token string
	client     http.Client

	running sync.WaitGroup
	stop    context.CancelFunc
	first   *sample
	peak    float64 // of the samples so far; the goroutine's until it has ended
}

// watchGateway takes the first sample, and others until close is called. Without an address it does nothing.
func watchGateway(ctx context.Context, base, token string) (*watcher, error) {
	if base == "" {
		return &watcher{}, nil
	}
	base, err := profile.BaseURL(base, token == "")
	if err != nil {
		return nil, &usageError{fmt.Errorf("--gateway-admin: %w", err)}
	}
	w := &watcher{url: base + "/metrics", token: token}
	target, err := url.Parse(w.url)
	if err != nil {
		return nil, &usageError{fmt.Errorf("--gateway-admin: %w", err)}
	}
	w.client = http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{ // of a listener on loopback the certificate is made out to another name
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: profile.IsLoopback(target.Hostname())},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if w.first, err = w.sample(ctx); err != nil {
		w.client.CloseIdleConnections()
		return nil, err
	}
	w.peak = w.first.resident
	ctx, w.stop = context.WithCancel(ctx)
	w.running.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if s, err := w.sample(ctx); err == nil { // the last one must not fail
					w.peak = max(w.peak, s.resident)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return w, nil
}

// consumption takes the last sample and says what the gateway needed since the first, in so much time. It may be
// called once, and is nil without an address.
func (w *watcher) consumption(ctx context.Context, took time.Duration, permitted float64) (*consumption, error) {
	if w.first == nil {
		return nil, nil
	}
	w.close()
	last, err := w.sample(ctx)
	w.client.CloseIdleConnections()
	if err != nil {
		return nil, err
	}
	attempts := last.attempts - w.first.attempts
	return &consumption{
		Attempts: int(attempts), AttemptsPerSecond: attempts / took.Seconds(), Throttled: int(last.limited - w.first.limited),
		Permitted: permitted, PeakResident: max(w.peak, last.resident),
	}, nil
}

// close ends the goroutine.
func (w *watcher) close() {
	if w.first != nil {
		w.stop()
		w.running.Wait()
		w.client.CloseIdleConnections()
	}
}

// maxMetrics bounds the body of an answer, in bytes.
const maxMetrics = 4 << 20

func (w *watcher) sample(ctx context.Context) (*sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url, nil)
	if err != nil {
		return nil, err
	}
	if w.token != "" {
		req.Header.Set("Authorization", "Bearer "+w.token)
	}
	res, err := w.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, fmt.Errorf("%s does not answer: %w: is it the admin listener of the gateway?", w.url, err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusUnauthorized:
		return nil, fmt.Errorf("%s wants the admin token: give it with --gateway-token or SCIMGATE_ADMIN_TOKEN", w.url)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answered %d: is it the admin listener of the gateway?", w.url, res.StatusCode)
	}
	return readSample(io.LimitReader(res.Body, maxMetrics))
}

// readSample reads the Prometheus text format as far as it is needed: NAME{LABELS} VALUE, one a line.
func readSample(r io.Reader) (*sample, error) {
	var s sample
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		resident := name == "process_resident_memory_bytes"
		labels, attempts := strings.CutPrefix(name, "scimgate_upstream_attempts_total{")
		if !resident && !attempts {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("read the gateway's metrics: %s has the value %q", name, text)
		}
		switch {
		case resident:
			s.resident = value
		case strings.Contains(labels, `status="429"`):
			s.limited += value
			fallthrough
		default:
			s.attempts += value
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the gateway's metrics: %w", err)
	}
	return &s, nil
}
