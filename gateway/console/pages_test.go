package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// words is a page's text: without tags, with single spaces.
func words(body string) string {
	body = regexp.MustCompile(`</?(?:bdi|strong|span|a|code|s)(?: [^>]*)?>`).ReplaceAllString(body, "")
	body = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " ")
	return strings.Join(strings.Fields(html.UnescapeString(body)), " ")
}

func (w *world) has(path string, want ...string) {
	w.t.Helper()
	status, body, _ := w.get(path)
	if status != http.StatusOK {
		w.t.Errorf("%s: got %d, want 200", path, status)
	}
	text := words(body)
	for _, one := range want {
		if !strings.Contains(text, one) {
			w.t.Errorf("%s lacks %q in: %s", path, one, text)
		}
	}
}

func (w *world) lacks(path string, unwanted ...string) {
	w.t.Helper()
	_, body, _ := w.get(path)
	text := words(body)
	for _, one := range unwanted {
		if strings.Contains(text, one) {
			w.t.Errorf("%s has %q in: %s", path, one, text)
		}
	}
}

func TestTrailSearch(t *testing.T) {
	w := newWorld(t, nil)
	w.history(60)
	w.signIn(adminToken)
	w.has(Base+"trail", "records", "Older")
	w.has(Base+"trail?user=babs%40example.com&action=created", "Created", "About to create")
	w.has(Base+"trail?status=409&kind=outcome", "409 uniqueness")
	w.lacks(Base+"trail?status=409", "200 ")
	w.has(Base+"trail?outcome=refused&rule=length", "Refused by the gateway")
	w.lacks(Base+"trail?outcome=failed", "409", "Read")
	some := ""
	for rec, err := range w.store.Search(t.Context(), audit.Query{After: 4, Limit: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		some = rec.ID
	}
	if _, body, _ := w.get(Base + "trail?id=" + some); strings.Count(body, "<tr class") != 1 || !strings.Contains(body, `href="/console/trail/5"`) {
		t.Errorf("record 5 by its id: got %s", words(body))
	}
	w.has(Base+"trail?user=nobody", "No record fits all of these filters.")
	w.has(Base+"trail?before=1", "There is nothing older.")
	for query, want := range map[string]string{
		"since=yesterday":                   "yesterday is not a time",
		"until=25:00":                       "25:00 is not a time",
		"status=abc":                        "abc is not an HTTP status",
		"outcome=odd":                       "odd is none: use succeeded, refused",
		"id=7":                              "7 is none: the id of a record looks like",
		"status=99":                         "99 is not an HTTP status",
		"since=1h&until=2h":                 "ends before the time begins",
		"user=a&user=b":                     "is given 2 times",
		"before=x":                          "x is not a place in the trail",
		"user=" + strings.Repeat("x", 2000): "is longer than any name",
	} {
		status, body, _ := w.get(Base + "trail?" + query)
		if status != http.StatusBadRequest || !strings.Contains(words(body), want) {
			t.Errorf("%.40s: got %d, want 400 with %q", query, status, want)
		}
	}
	for _, path := range []string{"trail/0", "trail/-1", "trail/x", "trail/999999", "trail/99999999999999999999"} {
		if status, _, _ := w.get(Base + path); status != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, status)
		}
	}
}

func TestReadTime(t *testing.T) {
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2h": "2026-03-31T10:00:00Z", "7d": "2026-03-24T12:00:00Z", "90m": "2026-03-31T10:30:00Z", "2026-01-31": "2026-01-31T00:00:00Z",
		"2026-01-31T15:04": "2026-01-31T15:04:00Z", "2026-01-31 15:04": "2026-01-31T15:04:00Z", "2026-01-31T15:04Z": "2026-01-31T15:04:00Z",
		"2026-01-31 15:04:05.250 UTC": "2026-01-31T15:04:05.25Z", "2026-01-31T15:04:05.5+02:00": "2026-01-31T13:04:05.5Z", "": "", "-2h": "", "1e9d": "", "2026-13-01": "",
	} {
		got, err := readTime(text, now)
		if err != nil && want != "" || err == nil && got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%q: got %s %v, want %s", text, got, err, want)
		}
	}
}

// A record's file has the bytes of the trail.
func TestRecord(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Proof = func(_ context.Context, seq int64) ([]byte, error) {
			if seq == 1 {
				return nil, fmt.Errorf("no checkpoint covers record %d", seq)
			}
			return fmt.Appendf(nil, `{"seq":%d}`, seq), nil
		}
	})
	done := w.change(w.now, audit.Updated, "patch", "7", "ann@example.com", 200, audit.Attribute{Path: "title", Asked: print(1), Sent: print(1)})
	w.told(done.Seq)
	w.signIn(adminToken)
	path := fmt.Sprintf("%strail/%d", Base, done.Seq)
	w.has(path, "Updated", "ann@example.com", "stored as asked", "Download proof", "closes record 1", "no rule stands against it", "PATCH /Users/{id}", "About to update", "20.190.151.7")
	_, body, header := w.get(path + "/record.json")
	if want := string(audit.Append(nil, done)) + "\n"; body != want {
		t.Errorf("the record's file: got %s, want %s", body, want)
	}
	if got := header.Get("Content-Disposition"); got != `attachment; filename="record-2.json"` {
		t.Errorf("got Content-Disposition %s", got)
	}
	if _, body, _ := w.get(path + "/proof.json"); body != `{"seq":2}` {
		t.Errorf("the proof's file: got %s", body)
	}
	if status, body, _ := w.get(Base + "trail/1/proof.json"); status != http.StatusServiceUnavailable || !strings.Contains(body, "no proof of this record yet") {
		t.Errorf("without a checkpoint: got %d", status)
	}
	without := newWorld(t, nil)
	without.append(look(w.now, "get", audit.Read, "7", "ann@example.com"))
	without.signIn(adminToken)
	without.lacks(Base+"trail/1", "Download proof")
	if status, _, _ := without.get(Base + "trail/1/proof.json"); status != http.StatusNotFound {
		t.Errorf("without proofs: got %d, want 404", status)
	}
}

// Sealed values are shown on request only, by a POST, and whoever asks is named to who records it.
func TestSealedValues(t *testing.T) {
	var shownTo []string
	w := newWorld(t, func(c *Config) {
		c.Unseal = func(_ context.Context, rec *audit.Record, by string) error {
			switch rec.Seq {
			case 1:
				return audit.ErrNotSealed
			case 3:
				return audit.ErrErased
			}
			shownTo = append(shownTo, by)
			rec.Attributes[0].Sent.Unsealed = json.RawMessage(`"<b>Lee</b>\u202e"`)
			return nil
		}
	})
	for range 2 {
		intent, done := write(w.now, audit.Updated, "patch", "7", "ann@example.com", 200, audit.Attribute{Path: "name.familyName", Sent: print(1)})
		if _, err := w.store.Intend(t.Context(), intent, openIntent(intent)); err != nil {
			t.Fatal(err)
		}
		done.Intent, done.Sealed = intent.Seq, "AAAA"
		if _, err := w.store.Conclude(t.Context(), done); err != nil {
			t.Fatal(err)
		}
	}
	w.signIn(adminToken)
	w.has(Base+"trail/2", "Show sealed values", "#")
	w.lacks(Base+"trail/1", "Show sealed values")
	if status, _, _ := w.get(Base + "trail/2/values"); status != http.StatusMethodNotAllowed && status != http.StatusNotFound {
		t.Errorf("by GET: got %d", status)
	}
	for path, want := range map[string]string{
		"trail/2/values": "&lt;b&gt;Lee&lt;/b&gt;", "trail/1/values": "no sealed values", "trail/3/values": "were erased", "trail/99/values": "no record 99",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL+Base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", w.server.URL)
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: got %s %v, want %s", path, words(string(body)), err, want)
		}
	}
	if want := []string{"the console, from 127.0.0.1"}; !slices.Equal(shownTo, want) {
		t.Errorf("shown to %q, want %q", shownTo, want)
	}
}

func TestEmpty(t *testing.T) {
	w := newWorld(t, nil)
	w.signIn(adminToken)
	w.has(Base, "Nothing happened in this time.", "All is well.", "No cycle has been seen yet", "No user has passed through yet.", "Nothing went wrong.")
	w.has(Base+"cycles", "No cycle has been seen yet.", "Start provisioning in Entra")
	w.has(Base+"users", "No user has passed through yet.")
	w.has(Base+"trail", "The trail is empty.", "Point a provisioning client at the gateway")
}

// Of a trail whose beginning was pruned every page says so where it matters.
func TestPrunedTrail(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 700 {
		w.appendOnly(look(w.now.Add(time.Duration(i-7000)*time.Hour), "get", audit.Read, "7", "ann@example.com"))
	}
	signer, err := audit.SignerFor(t.Context(), w.store, filepath.Join(t.TempDir(), "signing-key"))
	if err != nil {
		t.Fatal(err)
	}
	signing, err := audit.NewCheckpointer(audit.CheckpointerConfig{Store: w.store, Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if signing.Run(ended); signing.Healthy() != nil {
		t.Fatal(signing.Healthy())
	}
	if err := w.store.Prune(t.Context(), store.Pruning{Before: w.now.Add(-24 * time.Hour), By: "the test", Signer: signer}, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	st, err := w.store.Stats(t.Context())
	if err != nil || st.Newest != 701 || st.Records == st.Newest {
		t.Fatalf("got %+v %v, want some of 701 records pruned", st, err)
	}
	w.told(st.Newest)
	w.signIn(adminToken)
	first := st.Newest - st.Records + 1
	w.has(Base, count(st.Records))
	w.has(Base+"trail", count(st.Records)+" records", "the "+count(first-1)+" oldest were pruned")
	w.has(Base+"trail?action=pruned", "Old records pruned")
	w.has(Base+"trail/701", "records 1 to "+count(first-1)+", older than")
	w.has(fmt.Sprintf("%strail/%d", Base, first), "Later record")
	w.lacks(fmt.Sprintf("%strail/%d", Base, first), "Earlier record")
	w.has(Base+"user?name=7&reads=on", "ann@example.com")
	if status, body, _ := w.get(Base + "trail/1"); status != http.StatusNotFound || !strings.Contains(body, "old enough to be pruned") {
		t.Errorf("a pruned record: got %d %s", status, words(body))
	}
}

func TestNotices(t *testing.T) {
	state := Connection{Name: "bluejeans", Profile: "bluejeans", Breaker: "open", Rate: 25, HoldOff: 3 * time.Second, CredentialProblem: "the upstream answered 401"}
	w := newWorld(t, func(c *Config) {
		c.Connections = func() []Connection { return []Connection{state} }
		c.Healthy = func() error { return errors.New("the disk is full") }
		c.Signed = func() error { return errors.New("record 7 is not the one that was signed") }
		c.Sinks = func() []audit.SinkState {
			return []audit.SinkState{{Name: "siem", Required: true, Problem: "dial tcp: refused"}, {Name: "archive", Problem: "no space"}, {Name: "fine", Taken: 7}}
		}
	})
	w.history(30)
	w.signIn(adminToken)
	w.has(Base, "The trail cannot be written.", "The trail is not signed any more.", "The required sink siem takes no records.", "The sink archive takes no records.",
		"refuses the gateway's credentials.", "The circuit to the upstream of bluejeans is open.",
		"asked to wait. Nothing is sent for another 3 s", "1 request without a valid Secret Token in the last hour.")
	w.lacks(Base, "All is well", "the disk is full", "record 7", "dial tcp", "sink fine")
	if _, body, _ := w.get(Base); strings.Index(body, "notice tone-warn") < strings.LastIndex(body, "notice tone-bad") {
		t.Error("a warning stands before something worse")
	}
}

// The overview says how far the trail is signed, also before the first checkpoint and when nothing new has to be signed.
func TestCheckpointAge(t *testing.T) {
	var point Checkpoint
	var failure error
	w := newWorld(t, func(c *Config) { c.Checkpoint = func(context.Context) (Checkpoint, error) { return point, failure } })
	w.append(look(w.now, "get", audit.Read, "1", "ann@example.com"), look(w.now, "get", audit.Read, "1", "ann@example.com"))
	w.signIn(adminToken)
	for _, c := range []struct {
		size   int64
		age    time.Duration
		err    error
		words  string
		notice string
	}{
		{0, 0, nil, "not signed yet", ""},
		{2, 3 * time.Hour, nil, "all signed, last 3 h 0 min ago", ""},
		{1, time.Second, nil, "1 not signed yet, the others 1 s ago", ""},
		{1, 90 * time.Second, nil, "1 not signed yet, the others 1 min 30 s ago", "The newest checkpoint is 1 min 30 s old."},
		{0, 0, errors.New("malformed"), "the newest checkpoint cannot be read", "The newest checkpoint cannot be read."},
	} {
		point, failure = Checkpoint{Size: c.size, Time: w.now.Add(-c.age)}, c.err
		w.ahead.Store(-int64(time.Since(w.now))) // the console's clock stands at w.now, nearly
		if c.size == 0 {
			point = Checkpoint{}
		}
		w.has(Base, "Records in the trail 2 "+c.words+" Requests", cmp.Or(c.notice, "All is well."))
		w.lacks(Base, "malformed")
		if c.notice != "" {
			w.lacks(Base, "All is well.")
		}
	}
}

// brokenTrail cannot be read, and says why.
type brokenTrail struct{ err error }

func (b brokenTrail) Search(context.Context, audit.Query) iter.Seq2[*audit.Record, error] {
	return func(yield func(*audit.Record, error) bool) { yield(nil, b.err) }
}

func (b brokenTrail) Follow(ctx context.Context, q audit.Query) iter.Seq2[*audit.Record, error] {
	return b.Search(ctx, q)
}

func (b brokenTrail) Get(context.Context, int64) (*audit.Record, error) { return nil, b.err }

func (b brokenTrail) Records(context.Context, int64, int, func(int64, []byte) error) error {
	return b.err
}

func (b brokenTrail) Stats(context.Context) (store.Stats, error) { return store.Stats{}, b.err }

// slowTrail has records, but no search of it ends in time.
type slowTrail struct{ brokenTrail }

func (slowTrail) Stats(context.Context) (store.Stats, error) {
	return store.Stats{Records: 7, Newest: 7}, nil
}

// A trail that cannot be read: the pages say so and what to do, and not what the error was.
func TestBrokenTrail(t *testing.T) {
	var logs strings.Builder
	w := newWorld(t, func(c *Config) {
		c.Trail, c.Logger = brokenTrail{errors.New("database disk image is malformed")}, slog.New(slog.NewTextHandler(&logs, nil))
	})
	w.signIn(adminToken)
	for _, path := range []string{"trail", "trail/1", "trail/1/record.json", "users?q=ann", "user?name=ann"} {
		status, body, _ := w.get(Base + path)
		if text := words(body); status != http.StatusServiceUnavailable || !strings.Contains(text, "The trail cannot be read") || strings.Contains(text, "malformed") {
			t.Errorf("%s: got %d %s", path, status, text)
		}
	}
	w.has(Base, "The trail cannot be followed.")
	w.lacks(Base, "malformed", "All is well")
	w.has(Base+"cycles", "No cycle has been seen yet.")
	if !strings.Contains(logs.String(), "malformed") {
		t.Error("the log does not say why")
	}
	slow := newWorld(t, func(c *Config) { c.Trail = slowTrail{brokenTrail{context.DeadlineExceeded}} })
	slow.signIn(adminToken)
	status, body, _ := slow.get(Base + "trail?action=failed")
	if text := words(body); status != http.StatusServiceUnavailable || !strings.Contains(text, "The search took too long. It was ended after 5 s. Narrow it") {
		t.Errorf("a slow search: got %d %s", status, text)
	}
	if !strings.Contains(body, `<option value="failed" selected>`) {
		t.Error("the page of a slow search has lost its filters")
	}
}
