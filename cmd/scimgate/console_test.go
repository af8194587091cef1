package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"scimgate/config"
	"scimgate/config/profile"
)

// What a provisioning client does is on the console's pages, for who signs in with the printed token, and the console
// is not on the SCIM listener.
func TestConsoleOfServe(t *testing.T) {
	dir := t.TempDir()
	p, err := profile.Load("bluejeans")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{
		Listen: "127.0.0.1:0", Admin: config.Admin{Listen: "127.0.0.1:0"}, Simulate: p, Privacy: config.Privacy{Seal: true},
		Database: filepath.Join(dir, "scimgate.db"), KeyFile: filepath.Join(dir, "scimgate.db.key"),
		Limits: config.Limits{Body: config.DefaultBody, Concurrent: config.DefaultConcurrent, Wait: config.DefaultWait, DrainTimeout: config.DefaultDrainTimeout},
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
	defer func() {
		if err := a.stop(); err != nil {
			t.Error(err)
		}
	}()
	var greeting bytes.Buffer
	greet(newScreen(&greeting, func(string) string { return "" }), a, made)
	for _, want := range []string{a.adminURL() + "/console/", made.admin} {
		if !strings.Contains(greeting.String(), want) {
			t.Errorf("the greeting lacks %s", want)
		}
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	do := func(method, address, body string, header map[string]string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range header {
			req.Header.Set(name, value)
		}
		resp, err := client.Do(req)
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
	bearer := map[string]string{"Authorization": "Bearer " + made.secret, "Content-Type": "application/scim+json"}
	if status, text := do("POST", a.tenantURL(0)+"/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ann@example.com","active":true,
		"name":{"givenName":"Ann","familyName":"Lee"},"emails":[{"type":"work","value":"ann@example.com"}]}`, bearer); status != http.StatusCreated {
		t.Fatalf("create: got %d %s", status, text)
	}
	if _, text := do("GET", a.adminURL()+"/", "", nil); !strings.Contains(text, "Admin token") {
		t.Errorf("without signing in: got %s, want the page for it", text)
	}
	if status, _ := do("GET", a.adminURL()+"/metrics", "", nil); status != http.StatusUnauthorized {
		t.Errorf("metrics without the token: got %d, want 401", status)
	}
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Origin": a.adminURL()}
	if status, _ := do("POST", a.adminURL()+"/console/sign-in", url.Values{"token": {made.admin}}.Encode(), form); status != http.StatusOK {
		t.Fatalf("sign-in: got %d, want 200", status)
	}
	for page, want := range map[string]string{
		"user?name=ann%40example.com": "Created", "trail?action=created": "ann@example.com", "trail?kind=event": "from 127.0.0.1", "": "bluejeans",
	} {
		if _, text := do("GET", a.adminURL()+"/console/"+page, "", nil); !strings.Contains(text, want) {
			t.Errorf("%s lacks %s: %s", page, want, text)
		}
	}
	_, text := do("GET", a.adminURL()+"/console/trail?action=created&kind=outcome", "", nil)
	record := regexp.MustCompile(`/console/trail/\d+`).FindString(text)
	if _, text := do("GET", a.adminURL()+record, "", nil); !strings.Contains(text, "Show sealed values") || strings.Contains(text, "Lee") {
		t.Errorf("a record: got %s, want its values sealed", text)
	}
	if _, text := do("POST", a.adminURL()+record+"/values", "", form); !strings.Contains(text, "<bdi dir=\"ltr\">Lee</bdi>") {
		t.Errorf("unsealed: got %s, want the familyName", text)
	}
	if _, text := do("GET", a.adminURL()+"/console/trail?action=unsealed", "", nil); !strings.Contains(text, "were shown to the console, from 127.0.0.1") {
		t.Errorf("the trail lacks who saw the values: %s", text)
	}
	endsWithServe(t, client, a.adminURL()+"/console/live/overview")
	proves(t, a, record, func(path string) (int, string) { return do("GET", a.adminURL()+path, "", nil) })
	deadline := time.Now().Add(10 * time.Second)
	for told := false; !told; { // the picture follows the trail four times a second
		_, text := do("GET", a.adminURL()+"/console/cycles", "", nil)
		if told = strings.Contains(text, "running"); !told && time.Now().After(deadline) {
			t.Fatalf("the cycle is not on its page: %s", text)
		}
	}
	scim := strings.TrimSuffix(a.tenantURL(0), cfg.Connections[0].Path)
	for _, path := range []string{"/console/", "/console/sign-in", "/console/static/console.js", "/metrics"} {
		if status, _ := do("GET", scim+path, "", bearer); status != http.StatusNotFound && status != http.StatusUnauthorized {
			t.Errorf("%s on the SCIM listener: got %d, want 404", path, status)
		}
	}
}

// proves downloads the proof of a record from the console once a checkpoint covers it, and verifies it on the command line
// with the public key alone; the overview then tells of that checkpoint. One with a changed record does not hold.
func proves(t *testing.T, a *app, record string, get func(path string) (int, string)) {
	t.Helper()
	status, proof := 0, ""
	for deadline := time.Now().Add(20 * time.Second); status != http.StatusOK; {
		if status, proof = get(record + "/proof.json"); status != http.StatusOK && time.Now().After(deadline) {
			t.Fatalf("the proof: got %d %s", status, proof)
		}
	}
	file := filepath.Join(t.TempDir(), "record.proof")
	for _, c := range []struct {
		proof string
		code  int
	}{{proof, exitOK}, {strings.Replace(proof, "ann@", "eve@", 1), exitProblem}} {
		if err := os.WriteFile(file, []byte(c.proof), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"audit", "verify", "--key", a.signer.PublicKey(), "--proof", file}, nil, &stdout, &stderr, noEnv); code != c.code {
			t.Errorf("audit verify --proof: got exit code %d and %s%s, want %d", code, stdout.String(), stderr.String(), c.code)
		}
	}
	point, err := a.newestCheckpoint(t.Context())
	if err != nil || point.Size == 0 || time.Since(point.Time) > time.Minute {
		t.Errorf("got the checkpoint %+v %v, want a fresh one", point, err)
	}
	if _, text := get("/console/"); !strings.Contains(text, "all signed, last") && !strings.Contains(text, "not signed yet, the others") {
		t.Errorf("the overview does not say how far the trail is signed: %s", text)
	}
}

// endsWithServe opens a live stream, which has to end with the gateway, well before its drain time-out.
func endsWithServe(t *testing.T, client *http.Client, address string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("got %s, want a stream", got)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, resp.Body) // it is cut off
		_ = resp.Body.Close()
	}()
	t.Cleanup(func() { // after the test has stopped the gateway
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Error("a live stream goes on after the gateway")
		}
	})
}
