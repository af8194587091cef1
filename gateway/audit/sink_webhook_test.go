package audit

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const hookSecret = "canary-hook-4f1c9d"

func hookKey() (string, error) { return hookSecret, nil }

// hook is a webhook receiver. What it does with a body is up to fault, by the number of the call from 1: nil takes it.
type hook struct {
	receiver
	*httptest.Server
	calls atomic.Int64
}

func newHook(t *testing.T, fault func(call int64, lines []string, w http.ResponseWriter, r *http.Request) bool) *hook {
	t.Helper()
	h := &hook{}
	add := h.begin()
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := h.calls.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		checkSignature(t, r.Header.Get(SignatureHeader), body)
		lines := split(body)
		if fault != nil && fault(call, lines, w, r) {
			return
		}
		for _, line := range lines {
			add(line)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func checkSignature(t *testing.T, signature string, body []byte) {
	t.Helper()
	var at int64
	if _, err := fmt.Sscanf(signature, "t=%d,", &at); err != nil || Sign(hookSecret, time.Unix(at, 0), body) != signature || time.Since(time.Unix(at, 0)) > time.Minute {
		t.Errorf("got signature %q", signature)
	}
}

// Answers 500 and 429, a time-out and a receiver that takes at most ten lines, under 25 requests a second: everything
// arrives, in order, and once, because whoever did not answer did not take anything.
func TestWebhookFaults(t *testing.T) {
	trail := newWorldTrail()
	h := newHook(t, func(call int64, lines []string, w http.ResponseWriter, r *http.Request) bool {
		switch {
		case call == 2 || call == 3:
			w.WriteHeader(http.StatusInternalServerError)
		case call == 5:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case call == 7:
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case len(lines) > 10:
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		default:
			return false
		}
		return true
	})
	for range 200 {
		trail.add(Record{})
	}
	feeds, stop := run(t, trail, SinkConfig{Name: "hook", URL: h.URL + "/in", Secret: hookKey})
	load(t, trail, 50, 2*time.Second, nil)
	want := trail.lines()
	eventually(t, 20*time.Second, "all is taken", func() bool { return feeds.States()[0].Taken == int64(len(want)) })
	stop()
	h.check(t, want)
	if _, again := h.once(); again > 10*10 {
		t.Errorf("%d lines came again", again)
	}
}

// A receiver that does not answer: told within a second or so, cancelled at shutdown, and gone on with afterwards.
func TestWebhookHangs(t *testing.T) {
	trail := newWorldTrail()
	var hung atomic.Bool
	hung.Store(true)
	release := make(chan struct{})
	h := newHook(t, func(_ int64, _ []string, _ http.ResponseWriter, r *http.Request) bool {
		if hung.Load() {
			select {
			case <-r.Context().Done():
			case <-release:
			}
			return true
		}
		return false
	})
	defer close(release)
	trail.add(Record{})
	feeds, stop := run(t, trail, SinkConfig{Name: "hook", URL: h.URL, Secret: hookKey})
	eventually(t, 2*time.Second, "it is told", func() bool { return strings.Contains(feeds.States()[0].Problem, "does not take them") })
	began := time.Now()
	stop()
	if took := time.Since(began); took > feedGiveUp {
		t.Errorf("stopping took %v", took)
	}
	hung.Store(false)
	feeds, stop = run(t, trail, SinkConfig{Name: "hook", URL: h.URL, Secret: hookKey})
	eventually(t, 5*time.Second, "all is taken", func() bool { return feeds.States()[0].Taken == 1 })
	stop()
	h.check(t, trail.lines())
}

// An error names neither the URL, which may be a secret, nor the secret.
func TestWebhookErrorsShowNothing(t *testing.T) {
	h := newHook(t, nil)
	h.Close()
	s, err := OpenSink(&SinkConfig{URL: h.URL + "/canary-path?key=canary-query", Secret: hookKey})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Append(t.Context(), []Entry{{Text: []byte("{}")}})
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v, want an error without the URL", err)
	}
}

func TestOpenSinkRefuses(t *testing.T) {
	for _, tc := range []struct {
		cfg  SinkConfig
		want string // "" for none
	}{
		{SinkConfig{URL: "file:///var/log/t.jsonl"}, ""},
		{SinkConfig{URL: "file:relative.jsonl"}, "file:///PATH"},
		{SinkConfig{URL: "file://host/t.jsonl"}, "file:///PATH"},
		{SinkConfig{URL: "file:///var/log/"}, "file:///PATH"},
		{SinkConfig{URL: "stdout:"}, ""},
		{SinkConfig{URL: "stdout:x"}, "nothing behind it"},
		{SinkConfig{URL: "syslog+tcp://siem.example:601"}, ""},
		{SinkConfig{URL: "syslog+tcp://siem.example"}, "HOST:PORT"},
		{SinkConfig{URL: "syslog+tls://siem.example"}, ""},
		{SinkConfig{URL: "syslog+tls://siem.example/x"}, "HOST:PORT"},
		{SinkConfig{URL: "syslog://siem.example:514"}, "no sink of scheme"},
		{SinkConfig{URL: "https://hook.example/in", Secret: hookKey}, ""},
		{SinkConfig{URL: "https://hook.example/in"}, "secret is missing"},
		{SinkConfig{URL: "https://u:p@hook.example/in", Secret: hookKey}, "user or password"},
		{SinkConfig{URL: "https://hook.example/in#x", Secret: hookKey}, "fragment"},
		{SinkConfig{URL: "http://127.0.0.1:9/in", Secret: hookKey}, ""},
		{SinkConfig{URL: "http://hook.example/in", Secret: hookKey}, "use https"},
		{SinkConfig{URL: "http://hook.example/in", Secret: hookKey, AllowPlainHTTP: true}, ""},
		{SinkConfig{URL: "file:///t", Secret: hookKey}, "secret is for webhooks"},
		{SinkConfig{URL: "file:///t", Rewind: time.Second}, "rewind is for"},
		{SinkConfig{URL: "file:///t", Format: "cef"}, "no format"},
		{SinkConfig{URL: "syslog+tcp://h:1", CAFile: "ca.pem"}, "caFile is for"},
		{SinkConfig{URL: "syslog+tls://h:1", CAFile: "/nowhere/ca.pem"}, "caFile"},
		{SinkConfig{URL: "%"}, "cannot be read"},
	} {
		_, err := OpenSink(&tc.cfg)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.cfg.URL, err, tc.want)
		}
	}
	for scheme, row := range Sinks {
		if !strings.HasPrefix(row.Doc, scheme+":") || row.Open == nil {
			t.Errorf("%s: got Doc %q", scheme, row.Doc)
		}
	}
	if got := slices.Sorted(maps.Keys(Formats)); !slices.Equal(got, []string{"native", "ocsf"}) {
		t.Errorf("got formats %v", got)
	}
}
