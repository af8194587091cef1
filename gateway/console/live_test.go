package console

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// sent is one event of a stream.
type sent struct{ id, name, data string }

// stream reads a stream until it ends.
func (w *world) stream(ctx context.Context, path, lastID string) <-chan sent {
	w.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("%s: got %d %s, want a stream", path, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	events := make(chan sent, 100)
	go func() {
		defer close(events)
		defer resp.Body.Close()
		one := sent{}
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				one.id = value
			case "event":
				one.name = value
			case "data":
				one.data += value
			case "":
				events <- one
				one = sent{}
			}
		}
	}()
	return events
}

// The live tail sends what is new, once, in order, and goes on where a reader left it.
func TestLiveTrail(t *testing.T) {
	w := newWorld(t, nil)
	w.append(look(w.now, "get", audit.Read, "1", "old@example.com"))
	w.signIn(adminToken)
	_, body, _ := w.get(Base + "trail?user=ann%40example.com&live=on")
	address := regexp.MustCompile(`data-live="([^"]+)"`).FindStringSubmatch(body)
	if address == nil {
		t.Fatal("the page has no stream")
	}
	stream := strings.ReplaceAll(address[1], "&amp;", "&")
	ctx, cancel := context.WithCancel(t.Context())
	events := w.stream(ctx, stream, "")
	if got := <-events; got.name != "open" {
		t.Errorf("got %s first, want open", got.name)
	}
	w.append(look(w.now, "get", audit.Read, "2", "else@example.com"), look(w.now, "get", audit.Read, "1", "ann@example.com"), look(w.now, "get", audit.Read, "1", "ann@example.com"))
	for _, want := range []string{"3", "4"} {
		got := <-events
		if got.name != "add" || got.id != want || !strings.Contains(got.data, "ann@example.com") || !strings.HasPrefix(got.data, "<tr") {
			t.Errorf("got %+v, want the row of record %s", got, want)
		}
	}
	cancel()
	for range events {
	}
	w.append(look(w.now, "get", audit.Read, "1", "ann@example.com"))
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	again := w.stream(ctx, stream, "4")
	<-again
	if got := <-again; got.id != "5" {
		t.Errorf("after 4: got %s, want 5", got.id)
	}
	cancel()
	for range again {
	}
	if status, _, _ := w.get(Base + "live/trail?after=x"); status != http.StatusBadRequest {
		t.Errorf("a wrong place: got %d, want 400", status)
	}
}

func TestLiveOverview(t *testing.T) {
	w := newWorld(t, nil)
	w.signIn(adminToken)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	events := w.stream(ctx, Base+"live/overview?range=15m", "")
	<-events
	w.history(30)
	found := false
	for got := range events {
		if found = strings.Contains(words(got.data), "bluejeans / entra-2027: No risk of quarantine."); found {
			break
		}
	}
	if !found {
		t.Error("the stream does not tell of the cycle")
	}
	cancel()
	for range events {
	}
}

// There are places for so many streams; who comes later is told, and a stream that could not begin gives its place back.
func TestStreamsAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	w.signIn(adminToken)
	id, _ := w.console.sessions.open(adminToken, adminToken)
	for range 2 * mostStreams {
		for _, path := range []string{"live/trail?after=0", "live/overview"} {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+Base+path, nil)
			req.AddCookie(&http.Cookie{Name: cookieName, Value: id})
			w.console.ServeHTTP(goneWriter{httptest.NewRecorder()}, req)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var open []<-chan sent
	for range mostStreams {
		events := w.stream(ctx, Base+"live/trail?after=0", "")
		<-events
		open = append(open, events)
	}
	if status, _, header := w.get(Base + "live/trail?after=0"); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("got %d, want 503 with Retry-After", status)
	}
	cancel()
	for _, events := range open {
		for range events {
		}
	}
}

// goneWriter answers somebody who is gone.
type goneWriter struct{ *httptest.ResponseRecorder }

func (goneWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// A stream ends when its reader has signed out, and shows nothing of what happens afterwards.
func TestStreamsEndWithTheSession(t *testing.T) {
	w := newWorld(t, nil)
	w.signIn(adminToken)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	streams := []<-chan sent{w.stream(ctx, Base+"live/trail?after=0", ""), w.stream(ctx, Base+"live/overview", ""), w.stream(ctx, Base+"live/cycles", "")}
	for _, events := range streams {
		if got := <-events; got.name != "open" {
			t.Errorf("got %s first, want open", got.name)
		}
	}
	w.mu.Lock()
	w.token = "another-token-0123456789"
	w.mu.Unlock()
	w.append(look(w.now, "get", audit.Read, "1", "ann@example.com"))
	for i, events := range streams {
		last := ""
		for got := range events {
			last = got.name
			if got.name == "add" {
				t.Error("a record is shown after the session")
			}
		}
		if last != "end" || ctx.Err() != nil {
			t.Errorf("stream %d: got %q last, want end", i, last)
		}
	}
}

// longTrail says that it has many records.
type longTrail struct{ brokenTrail }

func (longTrail) Stats(context.Context) (store.Stats, error) {
	return store.Stats{Records: 1_000_000, Newest: 1_000_000}, nil
}

// Who was away for so long that a live tail would carry most of a long trail is told to load the page again.
func TestLiveTailFarBehind(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Trail = longTrail{brokenTrail{errors.New("not to be read")}} })
	w.signIn(adminToken)
	for after, want := range map[int64]string{1_000_000 - liveBehind: "open", 1_000_000 - liveBehind - 1: "open behind"} {
		var got []string
		for event := range w.stream(t.Context(), Base+"live/trail?after="+digits(after), "") {
			got = append(got, event.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("after %d: got %q, want %s", after, got, want)
		}
	}
}
