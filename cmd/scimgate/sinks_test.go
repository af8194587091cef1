package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// Everything that `serve` records is in its sinks when it has stopped, in order, with the checkpoint over all of it at the
// end, and a second run goes on where the first one ended. Readiness and metrics name the sinks; what is in the file is
// verified with the public key alone.
func TestServeFeedsSinks(t *testing.T) {
	dir := t.TempDir()
	p, err := profile.Load("generic")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var posted []string
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		posted = append(posted, strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")...)
	}))
	defer hook.Close()
	path := filepath.Join(dir, "trail.jsonl")
	database := filepath.Join(dir, "scimgate.db")
	serveOnce := func(userName string, sinks ...config.Sink) {
		cfg := &config.Config{
			Listen: "127.0.0.1:0", Admin: config.Admin{Listen: "127.0.0.1:0"}, Simulate: p, Database: database, KeyFile: database + ".key",
			Limits: config.Limits{Body: config.DefaultBody, Concurrent: config.DefaultConcurrent, Wait: config.DefaultWait, DrainTimeout: config.DefaultDrainTimeout},
			Sinks: append([]config.Sink{
				{Name: "file", URL: "file://" + path, Required: true},
				{Name: "hook", URL: hook.URL, Format: "ocsf", Secret: secret.Literal("0123456789abcdef")},
			}, sinks...),
		}
		made, stop, err := embedSimulator(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		a, err := open(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		get := func(url, body, token string) (int, string) {
			t.Helper()
			method := "GET"
			if body != "" {
				method = "POST"
			}
			req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", "application/scim+json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, string(text)
		}
		status, text := get(a.tenantURL(0)+"/Users", fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":%q}`, userName), made.secret)
		if status != http.StatusCreated {
			t.Errorf("create: got %d %s", status, text)
		}
		if status, text := get(a.adminURL()+"/readyz", "", ""); status != http.StatusOK || !strings.Contains(text, `"hook"`) {
			t.Errorf("readyz: got %d %s", status, text)
		}
		if _, text := get(a.adminURL()+"/metrics", "", made.admin); !strings.Contains(text, `scimgate_sink_healthy{sink="file"} 1`) {
			t.Errorf("metrics lack the sink: %s", text)
		}
		if err := a.stop(); err != nil {
			t.Error(err)
		}
	}
	serveOnce("ann", config.Sink{Name: "gone", URL: "file://" + filepath.Join(dir, "gone.jsonl")})
	serveOnce("bob")

	r, err := store.OpenReadOnly(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if cursors, err := r.Cursors(t.Context()); err != nil || len(cursors) != 2 {
		t.Errorf("got cursors %v, %v, want those of the two sinks that are left", cursors, err)
	}
	var want []byte
	var accounts, all, records int
	if err := r.Records(t.Context(), 0, 1000, func(_ int64, line []byte) error {
		want = append(append(want, line...), '\n')
		rec, err := audit.Parse(line)
		if err == nil && rec.Kind == audit.Outcome && rec.Action == audit.Created {
			accounts++
		}
		all++
		return err
	}); err != nil {
		t.Fatal(err)
	}
	records = all
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	end := int64(0) // what the last line covers, when that is a checkpoint
	for line := range bytes.Lines(text) {
		if end = coveredBy(t, line); end == 0 {
			got = append(got, line...)
		}
	}
	if !bytes.Equal(got, want) || end != int64(records) {
		t.Errorf("got %d bytes of records in the file, and a last line that covers %d; want the %d of the trail, and all %d", len(got), end, len(want), records)
	}
	var stdout, stderr bytes.Buffer
	_, key, _ := signingFiles(database + ".key")
	if code := run(t.Context(), []string{"audit", "verify", "--key", key, "--sink", path}, nil, &stdout, &stderr, noEnv); code != exitOK || strings.Contains(stdout.String(), "not signed") {
		t.Errorf("verify: got exit code %d, %s%s", code, stdout.String(), stderr.String())
	}
	for _, line := range posted {
		var e struct {
			Class    int `json:"class_uid"`
			Unmapped struct{ Scimgate json.RawMessage }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		end = coveredBy(t, e.Unmapped.Scimgate)
		switch {
		case e.Class == 3001:
			accounts--
		case end == 0:
			all--
		}
	}
	if end != int64(records) {
		t.Errorf("the last line of the webhook covers %d records, want %d", end, records)
	}
	if accounts != 0 || all != 0 {
		t.Errorf("the webhook lacks %d account changes and %d other events, of %d posted", accounts, all, len(posted))
	}
}

// coveredBy is how many records a line covers that is a checkpoint, 0 of another one.
func coveredBy(t *testing.T, line []byte) int64 {
	t.Helper()
	var l struct{ Checkpoint string }
	if err := json.Unmarshal(line, &l); err != nil {
		t.Fatal(err)
	}
	if l.Checkpoint == "" {
		return 0
	}
	c, err := audit.ParseCheckpoint(l.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	return c.Size
}

// An upstream that refuses the gateway's credentials is told to who wants to hear it, once, and without a value.
func TestServeAlerts(t *testing.T) {
	dir := t.TempDir()
	p, err := profile.Load("generic")
	if err != nil {
		t.Fatal(err)
	}
	type message struct{ Cause, Connection, Text string }
	messages := make(chan message, 16)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || r.Header.Get(audit.SignatureHeader) == "" {
			t.Errorf("got %v, signature %q", err, r.Header.Get(audit.SignatureHeader))
		}
		messages <- m
	}))
	defer hook.Close()
	cfg := &config.Config{
		Listen: "127.0.0.1:0", Admin: config.Admin{Listen: "127.0.0.1:0"}, Simulate: p,
		Database: filepath.Join(dir, "scimgate.db"), KeyFile: filepath.Join(dir, "scimgate.db.key"),
		Limits: config.Limits{Body: config.DefaultBody, Concurrent: config.DefaultConcurrent, Wait: config.DefaultWait, DrainTimeout: config.DefaultDrainTimeout},
		Alerts: []config.Alert{{Name: "chat", URL: hook.URL, Secret: secret.Literal("0123456789abcdef")}},
	}
	made, stop, err := embedSimulator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	cfg.Connections[0].Upstream.Token = secret.Literal("a-token-nobody-knows")
	a, err := open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), "GET", a.tenantURL(0)+"/Users?filter=userName+eq+%22canary%22", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+made.secret)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != http.StatusBadGateway {
			t.Errorf("got %d, want 502", resp.StatusCode)
		}
	}
	got := <-messages
	if got.Cause != audit.CauseCredentials || got.Connection != "default" || strings.Contains(got.Text, "canary") || !strings.Contains(got.Text, "credentials") {
		t.Errorf("got %+v", got)
	}
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	if len(messages) != 0 {
		t.Errorf("got another message: %+v", <-messages)
	}
}
