package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A redirect takes a signed body nowhere, to whatever host and with whatever status.
func TestWebhookFollowsNoRedirect(t *testing.T) {
	var reached atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		h := newHook(t, func(_ int64, _ []string, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, elsewhere.URL+"/x", status)
			return true
		})
		s, err := OpenSink(&SinkConfig{URL: h.URL, Secret: hookKey})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), []Entry{{Text: []byte("{}")}}); err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) {
			t.Errorf("%d: got %v, want it named", status, err)
		}
		if calls := h.calls.Load(); calls != 1 || reached.Load() != 0 {
			t.Errorf("%d: got %d calls here and %d elsewhere, want one here", status, calls, reached.Load())
		}
	}
}

// An answer that is long, slow or does not end costs a second and little memory, and its status is what counts.
func TestWebhookEndlessAnswers(t *testing.T) {
	for name, write := range map[string]func(w http.ResponseWriter, r *http.Request){
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for block := make([]byte, 64<<10); r.Context().Err() == nil; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		},
		"never ending": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"shorter than it says": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "100") },
	} {
		h := newHook(t, func(_ int64, _ []string, w http.ResponseWriter, r *http.Request) bool { write(w, r); return true })
		s, err := OpenSink(&SinkConfig{URL: h.URL, Secret: hookKey})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := s.Append(t.Context(), []Entry{{Text: []byte("{}")}}); err != nil || time.Since(began) > hookAnswerTime+2*time.Second {
			t.Errorf("%s: got %v after %v, want it taken", name, err, time.Since(began))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	h := newHook(t, func(_ int64, _ []string, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("X-Long", strings.Repeat("x", 2*hookAnswer))
		return true
	})
	s, err := OpenSink(&SinkConfig{URL: h.URL, Secret: hookKey})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []Entry{{Text: []byte("{}")}}); err == nil {
		t.Error("an answer with an endless head was read")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0": 0, "-5": 0, "garbage": 0, "99999999999999999999999": time.Hour, "86400": time.Hour,
		"Sun, 22 Nov 2026 09:00:30 GMT": 30 * time.Second, "Sun, 22 Nov 2026 08:00:00 GMT": 0, "Sun, 22 Nov 2099 08:00:00 GMT": time.Hour,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// A record that alone is too large for the receiver is named: nothing behind it goes out until it is taken.
func TestWebhookTooLargeAlone(t *testing.T) {
	h := newHook(t, func(_ int64, lines []string, w http.ResponseWriter, _ *http.Request) bool {
		if len(lines) > 1 || strings.Contains(lines[0], "big") {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return true
		}
		return false
	})
	s, err := OpenSink(&SinkConfig{URL: h.URL, Secret: hookKey})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Append(t.Context(), []Entry{{Seq: 1, Text: []byte("{}")}, {Seq: 2, Text: []byte(`{"big":1}`)}, {Seq: 3, Text: []byte("{}")}})
	if err == nil || !strings.Contains(err.Error(), "record 2 alone, of 9 bytes") {
		t.Errorf("got %v, want record 2 named", err)
	}
}

// Header fields are bounded printable ASCII without spaces (RFC 5424, Section 6), whatever a record's kind is, and the
// length in front is that of the octets (RFC 6587, Section 3.4.1).
func TestSyslogMessages(t *testing.T) {
	s := &syslogSink{hostname: printable("host name\r\n<evil>\x1b[31m"+strings.Repeat("h", 300), 255)}
	at := time.Date(2026, 11, 22, 9, 0, 0, 123456789, time.FixedZone("east", 3600))
	got := string(s.messages([]Entry{
		{Kind: Outcome, Severity: 5, Time: at, Text: []byte(`{"userName":"Zoë"}`)},
		{Kind: "x y\n\x00é" + strings.Repeat("k", 40), Severity: 3, Time: at, Text: []byte("{}")},
	}))
	first, rest, ok := frame(got)
	second, rest, ok2 := frame(rest)
	if !ok || !ok2 || rest != "" {
		t.Fatalf("got %q, want two frames", got)
	}
	host := "hostname<evil>[31m" + strings.Repeat("h", 255-len("hostname<evil>[31m"))
	for i, want := range []string{
		`<109>1 2026-11-22T08:00:00.123456Z ` + host + ` scimgate PID outcome - {"userName":"Zoë"}`,
		`<107>1 2026-11-22T08:00:00.123456Z ` + host + ` scimgate PID xy` + strings.Repeat("k", 30) + ` - {}`,
	} {
		fields := strings.SplitN([]string{first, second}[i], " ", 7)
		fields[4] = "PID"
		if got := strings.Join(fields, " "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// frame cuts off the first message.
func frame(text string) (message, rest string, ok bool) {
	var n int
	digits, rest, ok := strings.Cut(text, " ")
	if _, err := fmt.Sscan(digits, &n); err != nil || n > len(rest) {
		return "", "", false
	}
	return rest[:n], rest[n:], ok
}

// A record never makes two lines of a sink, nor a line that passes for another record, whatever stands in the database.
func TestNoSecondLine(t *testing.T) {
	for _, stored := range []string{
		"{\"v\":1,\"seq\":1,\n\"id\":\"x\",\"kind\":\"outcome\"}", // JSON all the same
		"{\"v\":1,\"seq\":1}\n{\"v\":1,\"seq\":2,\"id\":\"forged\"}",
		"{\"v\":1,\"seq\":1}\r{\"v\":1}", "\x1b[2J", "",
	} {
		for format := range Formats {
			synctest.Test(t, func(t *testing.T) {
				trail, p := newWorldTrail(), &pipe{}
				trail.records = append(trail.records, []byte(stored))
				stop := start(t, feedsOf(FeedsConfig{Store: trail, Sinks: []SinkConfig{{Name: "s", Format: format}}}, p))
				synctest.Wait()
				stop()
				if len(p.entries) != 1 || bytes.ContainsAny(p.entries[0].Text, "\r\n\x1b") || !json.Valid(p.entries[0].Text) {
					t.Errorf("%q as %s: got %+v", stored, format, p.entries)
				}
			})
		}
	}
}

// slow takes entries after a while.
type slow struct {
	pipe
	takes time.Duration
}

func (s *slow) Append(ctx context.Context, entries []Entry) error {
	if len(entries) > 0 {
		timer := time.NewTimer(s.takes)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.pipe.Append(ctx, entries)
}

// lines is a log that counts.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}

// A sink that hangs is logged within a second, while it hangs; one that is always slow is not logged with each batch.
func TestHungIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trail, p, log := newWorldTrail(), &slow{takes: 5 * time.Second}, &lines{}
		feeds := feedsOf(FeedsConfig{Store: trail, Sinks: []SinkConfig{{Name: "s"}}}, p)
		feeds.feeds[0].log = slog.New(slog.NewTextHandler(log, nil))
		stop := start(t, feeds)
		synctest.Wait()
		trail.add(Record{})
		time.Sleep(time.Second) // of the bubble's clock
		synctest.Wait()
		if log.count("a sink does not take") != 1 || feeds.States()[0].Problem == "" {
			t.Errorf("after a second: got problem %q, log %s", feeds.States()[0].Problem, log.b.String())
		}
		for range 8 { // for half a minute
			trail.add(Record{})
			time.Sleep(4 * time.Second)
		}
		if log.count("a sink does not take") != 1 || log.count("takes the trail again") != 1 {
			t.Errorf("got log %s, want one line each", log.b.String())
		}
		stop()
	})
}

// A collector that takes a little on each new connection is not well by that; it is when it goes on taking.
func TestSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trail, p := newWorldTrail(), &pipe{}
		feeds := feedsOf(FeedsConfig{Store: trail, Sinks: []SinkConfig{{Name: "s", URL: "syslog+tcp://h:1"}}}, p)
		stop := start(t, feeds)
		p.set(errors.New("reset"))
		trail.add(Record{})
		time.Sleep(3 * time.Second) // of the bubble's clock
		p.set(nil)
		until := func(holds func() bool) time.Duration {
			began := time.Now()
			for !holds() && time.Since(began) < time.Minute {
				time.Sleep(10 * time.Millisecond)
			}
			return time.Since(began)
		}
		until(func() bool { return len(p.seqs()) > 0 })
		if took := until(func() bool { return feeds.States()[0].Problem == "" }); took < feedSettled-100*time.Millisecond || took > feedSettled+time.Second {
			t.Errorf("well %v after it took something, want %v", took, feedSettled)
		}
		stop()
	})
}

// A checkpoint that was just signed does not wait for the next look.
func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trail, p := newWorldTrail(), &pipe{}
		feeds := feedsOf(FeedsConfig{Store: trail, Sinks: []SinkConfig{{Name: "s"}}}, p)
		stop := start(t, feeds)
		synctest.Wait()
		began := time.Now()
		trail.add(Record{})
		feeds.Wake()
		synctest.Wait()
		if got := p.seqs(); len(got) != 1 || time.Since(began) != 0 {
			t.Errorf("got %v after %v, want the record at once", got, time.Since(began))
		}
		stop()
	})
}

// A mail server that goes on talking is left.
func TestMailServerTalks(t *testing.T) {
	text := &boundedConn{left: 100}
	client, server := netPipe(t)
	text.Conn = client
	go func() { _, _ = io.Copy(server, endless{}) }()
	if n, err := io.Copy(io.Discard, text); n != 100 || err == nil {
		t.Errorf("got %d bytes, %v, want 100 and an error", n, err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func netPipe(t *testing.T) (a, b net.Conn) {
	a, b = net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}
