package gateway

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
)

// fed is another connection whose trail goes to sinks.
func (p *harness) fed(sinks ...audit.SinkConfig) (*harness, *audit.Feeds) {
	p.t.Helper()
	feeds, err := audit.NewFeeds(audit.FeedsConfig{Store: p.store, Sinks: sinks, Logger: p.logger})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); feeds.Run(ctx) }()
	p.t.Cleanup(func() { cancel(); <-ended })
	return p.another(func(c *Config) { c.Feeds = feeds }), feeds
}

func sinkLines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// A required sink that takes nothing: 503 with Retry-After, and nothing goes upstream, reads neither. When it takes again,
// everything goes on, and it gets what it missed.
func TestRequiredSinkFailsClosed(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	p, feeds := p.fed(audit.SinkConfig{Name: "must", URL: "file://" + path, Required: true})
	id := p.create("ann", "")
	if lines := sinkLines(t, path); !strings.Contains(lines[0], `"kind":"intent"`) {
		t.Errorf("got first line %s, want the intent", lines[0])
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	calls := p.calls(func() {
		for i, a := range []answer{
			p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"active","value":false}`)),
			p.do("POST", "/Users", user("bob", "")),
		} {
			if a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.detail(), "Request id: ") {
				t.Errorf("write %d: got %d %s, want 503 with Retry-After", i, a.status, a.text)
			}
		}
		waitFor(t, "the sink to be known as failing", func() bool { return feeds.Ready() != nil })
		if a := p.do("GET", "/Users/"+id, ""); a.status != 503 {
			t.Errorf("read: got %d, want 503", a.status)
		}
		if a := p.do("GET", "/ServiceProviderConfig", ""); a.status != 200 {
			t.Errorf("discovery: got %d, want 200", a.status)
		}
	})
	if calls != 0 {
		t.Errorf("%d requests went upstream, want none", calls)
	}
	admin := AdminConfig{Store: p.store, Metrics: p.metrics, Feeds: feeds}
	if status, body := admin.readiness(); status != 503 || body["status"] != "not ready" || strings.Contains(body["sinks"].(map[string]any)["must"].(map[string]any)["problem"].(string), "ann") {
		t.Errorf("readiness: got %d %v", status, body)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the sink to take again", func() bool { return feeds.Ready() == nil })
	p.create("cora", "")
	if status, _ := admin.readiness(); status != 200 {
		t.Errorf("readiness: got %d, want 200", status)
	}
	open, abandoned := map[int64]bool{}, 0
	for _, r := range p.trail() {
		switch {
		case r.Kind == audit.Intent:
			open[r.Seq] = true
		case r.Intent != 0:
			delete(open, r.Intent)
			if r.Action == audit.Abandoned {
				abandoned++
			}
		}
	}
	if len(open) != 0 {
		t.Errorf("%d intents have no outcome", len(open))
	}
	t.Logf("%d intents were abandoned", abandoned)
	waitFor(t, "the sink to have the end of the trail", func() bool {
		return strings.Contains(sinkLines(t, path)[len(sinkLines(t, path))-1], `"seq":`+strconv.FormatInt(p.last().Seq, 10)+`,`)
	})
	first, last := sinkLines(t, path)[0], p.trail()
	if !strings.Contains(first, `"requestId"`) || len(sinkLines(t, path)) < 4 || len(last) < 8 {
		t.Errorf("got %d lines of %d records", len(sinkLines(t, path)), len(last))
	}
}

// A sink that hangs and is not required is not noticed by clients, and nothing of it is in the way of another that is
// required.
func TestHungSinkHoldsUpNobody(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	line, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close() // it never accepts: what is sent fills the buffers of the kernel
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	p, feeds := p.fed(
		audit.SinkConfig{Name: "hung", URL: "https://" + line.Addr().String(), Secret: func() (string, error) { return "0123456789abcdef", nil }},
		audit.SinkConfig{Name: "must", URL: "file://" + path, Required: true},
	)
	var took []time.Duration
	tick := time.NewTicker(40 * time.Millisecond) // 25 a second
	defer tick.Stop()
	for i := range 50 {
		<-tick.C
		began := time.Now()
		p.create("user"+strconv.Itoa(i), "")
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	if slowest := took[len(took)-1]; slowest > time.Second {
		t.Errorf("the slowest request took %v", slowest)
	}
	t.Logf("25 requests a second beside a sink that hangs: p50 %v, slowest %v", took[25].Round(time.Microsecond), took[49].Round(time.Microsecond))
	if s := feeds.States()[0]; s.Problem == "" || s.Taken != 0 {
		t.Errorf("got %+v, want a problem", s)
	}
	waitFor(t, "the required sink to have everything", func() bool { return int64(len(sinkLines(t, path))) == p.last().Seq })
}

// What the trail does not hold in the clear is in no sink, and not in what is told of a sink.
func TestSinksHoldNoValues(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	dir := t.TempDir()
	native, ocsf := filepath.Join(dir, "native.jsonl"), filepath.Join(dir, "ocsf.jsonl")
	p, feeds := p.fed(
		audit.SinkConfig{Name: "native", URL: "file://" + native},
		audit.SinkConfig{Name: "ocsf", URL: "file://" + ocsf, Format: "ocsf"},
	)
	const canaries = `"title":"canary-a","nickName":"canary-b","password":"canary-c","name":{"givenName":"canary-d","familyName":"canary-e"},
		"emails":[{"type":"work","value":"canary-f@example.com"}],"phoneNumbers":[{"type":"work","value":"canary-g"}]`
	id := p.create("ann", canaries)
	p.do("PATCH", "/Users/"+id, patch(`{"op":"replace","path":"displayName","value":"canary-h"}`))
	p.do("GET", "/Users?filter=title+eq+%22canary-i%22", "")
	p.do("POST", "/Users", user("ann", canaries))
	waitFor(t, "both sinks to have all", func() bool {
		return !slices.ContainsFunc(feeds.States(), func(s audit.SinkState) bool { return s.Taken < p.last().Seq })
	})
	for _, path := range []string{native, ocsf} {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "ann") {
			t.Errorf("%s: got %d bytes, %v", filepath.Base(path), len(text), err)
		}
		if at := strings.Index(string(text), "canary"); at >= 0 {
			t.Errorf("%s holds %s", filepath.Base(path), text[at:min(at+12, len(text))])
		}
	}
	if strings.Contains(p.logs.String(), "canary") {
		t.Error("the log holds a value")
	}
}
