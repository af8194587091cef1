package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scimgate/config/profile"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// signTrail signs a database's trail, with key files beside it.
func signTrail(path string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		return err
	}
	private, public, _ := signingFiles(path + ".key")
	signer, err := audit.SignerFor(ctx, s, private)
	if err == nil {
		err = signer.WritePublicKey(public)
	}
	if err == nil {
		var c *audit.Checkpointer
		if c, err = audit.NewCheckpointer(audit.CheckpointerConfig{Store: s, Signer: signer}); err == nil {
			ended, stop := context.WithCancel(ctx)
			stop()
			c.Run(ended)
			err = c.Healthy()
		}
	}
	return errors.Join(err, s.Close())
}

// startLoopback runs a gateway on loopback, on a database named scimgate.db, whose upstream is never asked.
func startLoopback(t *testing.T, database string) (*app, error) {
	t.Helper()
	p, err := profile.Load("generic")
	if err != nil {
		t.Fatal(err)
	}
	return onLoopback(t.Context(), filepath.Dir(database), simulated(p, "http://127.0.0.1:9/scim", "upstream", "default", "token"))
}

func ask(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// A gateway signs its trail to the end, serves the key that verifies it, and goes on with it at the next start.
func TestServeSignsToTheEnd(t *testing.T) {
	database := filepath.Join(t.TempDir(), "scimgate.db")
	for start := range 2 {
		a, err := startLoopback(t, database)
		if err != nil {
			t.Fatal(err)
		}
		status, key := ask(t, a.adminURL()+"/audit/public-key")
		if status != http.StatusOK || key != a.signer.PublicKey()+"\n" {
			t.Errorf("got %d and %q, want the public key", status, key)
		}
		if status, body := ask(t, a.adminURL()+"/readyz"); status != http.StatusOK || !strings.Contains(body, `"checkpoints":"signed"`) {
			t.Errorf("got %d and %s, want it ready and signed", status, body)
		}
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"audit", "verify", "--database", database, "--key", key}, nil, &stdout, &stderr, noEnv); code != exitOK {
			t.Fatalf("start %d: got exit code %d and %s", start, code, stderr.String())
		}
		if out := stdout.String(); strings.Contains(out, "not signed") || !strings.Contains(out, "records      "+[]string{"2", "4"}[start]+",") {
			t.Errorf("start %d: got %s, want two more records, all signed", start, out)
		}
	}
}

// After somebody has changed the trail the gateway answers, but signs nothing and is not ready. Without its key it does
// not start at all: another one would begin another history.
func TestServeSignsNoChangedTrail(t *testing.T) {
	database := filepath.Join(t.TempDir(), "scimgate.db")
	if err := errors.Join(writeTrail(database), signTrail(database)); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(database, bytes.Replace(content, []byte(`"title"`), []byte(`"titel"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := startLoopback(t, database)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := ask(t, a.adminURL()+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "record 2 is not the one that the checkpoint of") {
		t.Errorf("got %d and %s, want it not ready and record 2 named", status, body)
	}
	if _, body := ask(t, a.adminURL()+"/metrics"); !strings.Contains(body, "scimgate_trail_signed 0") {
		t.Error("the metric does not say that the trail is not signed")
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	notes, err := openReader(t, database).Checkpoints(t.Context())
	if err != nil || len(notes) != 1 {
		t.Errorf("got %d checkpoints and %v, want the first alone", len(notes), err)
	}
	private, _, _ := signingFiles(database + ".key")
	if err := os.Remove(private); err != nil {
		t.Fatal(err)
	}
	if a, err := startLoopback(t, database); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("without its key: got %v", err)
		if err == nil {
			a.stop()
		}
	}
	if _, err := os.Stat(private); err == nil {
		t.Error("a new key was made for a trail that is signed")
	}
}
