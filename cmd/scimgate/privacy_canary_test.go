package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/conformance/simulator"
)

// canaryForms are the forms in which a canary would be recognized: what all of them begin with, in any case, and its
// encodings. In base64 it looks otherwise at each of three places.
var canaryForms = func() []string {
	const word = "canary"
	forms := []string{word, hex.EncodeToString([]byte(word)), percent(word), escaped(word)}
	for _, before := range []string{"", "x", "xx"} {
		for _, w := range []string{word, strings.ToUpper(word)} {
			text := base64.RawStdEncoding.EncodeToString([]byte(before + w))
			forms = append(forms, text[(len(before)*4+2)/3:len(text)-1]) // without what its neighbours change
		}
	}
	return forms
}()

// percent and escaped are texts with every character escaped, as in a URL and in JSON.
func percent(text string) string {
	var out strings.Builder
	for _, b := range []byte(text) {
		fmt.Fprintf(&out, "%%%02x", b)
	}
	return out.String()
}

func escaped(text string) string {
	var out strings.Builder
	for _, r := range text {
		fmt.Fprintf(&out, `\u%04x`, r)
	}
	return out.String()
}

// canaryIn returns what stands around the first canaries in a text, "" when there is none.
func canaryIn(text string) string {
	var found []string
	folded := strings.ToLower(text) // as long as text, but for a few letters that are of no account here
	for _, form := range canaryForms {
		in := text
		if form == strings.ToLower(form) {
			in = folded
		}
		for at, from := 0, 0; at >= 0 && len(found) < 5; from += at + 400 {
			if from >= len(in) {
				break
			}
			if at = strings.Index(in[from:], form); at >= 0 {
				found = append(found, strings.ReplaceAll(in[max(0, from+at-200):min(len(in), from+at+100)], "\x00", ""))
			}
		}
	}
	return strings.Join(found, "\n...")
}

// heard is a place that is written to from anywhere.
type heard struct {
	mu   sync.Mutex
	text strings.Builder
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

// canaryWorld is a gateway with everything that it can tell anybody.
type canaryWorld struct {
	*privateWorld
	app      *app
	client   *http.Client
	secret   string // Secret Token
	admin    string
	given    int // canaries
	errors   int // error answers
	statuses map[int]int
	to       int    // the connection that requests go to
	at       string // the user there
	places   map[string]*heard
	upstream atomic.Pointer[string] // the upstream answers every write with this and quotes what it was sent; nil: as it should
	stopAll  []func()
}

// canary is a value that must not be found again, in one of the ways to spell it.
func (w *canaryWorld) canary() string {
	w.given++
	text := fmt.Sprintf("canary%04dx", w.given)
	switch w.given % 5 {
	case 1:
		return strings.ToUpper(text)
	case 2:
		return text + "&<b>/%é "
	case 3:
		return base64.StdEncoding.EncodeToString([]byte(text))
	}
	return text
}

// name is a canary that stands unchanged in URLs and headers.
func (w *canaryWorld) name() string {
	w.given++
	return fmt.Sprintf("canary%04dx", w.given)
}

// address is a canary that stands where a name should: what has the form of a name is shown to whoever made it up, and in
// the trail.
func (w *canaryWorld) address() string { return w.name() + "@x.example" }

// newCanaryWorld starts a gateway with all kinds of sinks in both formats, alerts, and listeners to all of them.
func newCanaryWorld(t *testing.T, privacy config.Privacy) *canaryWorld {
	t.Helper()
	dir := t.TempDir()
	w := &canaryWorld{
		privateWorld: &privateWorld{t: t, dir: dir, database: filepath.Join(dir, "trail.db")},
		secret:       "the-secret-token-of-the-client", admin: "the-admin-token-of-the-people", statuses: map[int]int{}, places: map[string]*heard{},
	}
	cfg := w.config(privacy)
	cfg.Admin.Token = secret.Literal(w.admin)
	narrow, err := profile.Load("bluejeans")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*profile.Profile{cfg.Simulate, narrow} {
		c := simulated(p, w.startUpstream(p)+simulator.DefaultBasePath, "the-upstream-token-of-ours", p.Name, w.secret)
		c.Path, c.Upstream.RequestsPerSecond = "/scim/"+p.Name, 500
		cfg.Connections = append(cfg.Connections, c)
	}
	for _, format := range []string{"native", "ocsf"} {
		cfg.Sinks = append(cfg.Sinks,
			config.Sink{Name: "file-" + format, Format: format, URL: "file://" + filepath.Join(dir, format+".jsonl")},
			config.Sink{Name: "stdout-" + format, Format: format, URL: "stdout:"},
			config.Sink{Name: "syslog-" + format, Format: format, URL: "syslog+tcp://" + w.listen("syslog "+format), Rewind: time.Second},
			config.Sink{Name: "hook-" + format, Format: format, URL: w.hook("webhook " + format), Secret: secret.Literal("0123456789abcdef")})
	}
	cfg.Alerts = []config.Alert{{Name: "chat", URL: w.hook("alerts"), Secret: secret.Literal("0123456789abcdef"), Window: time.Minute, Failures: 1}}
	stdout, err := os.Create(filepath.Join(dir, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	real := os.Stdout
	os.Stdout = stdout // of the sinks alone: nothing else prints while they are made
	w.app, err = open(t.Context(), cfg, slog.New(slog.NewJSONHandler(w.place("logs"), &slog.HandlerOptions{Level: slog.LevelDebug})))
	os.Stdout = real
	if err != nil {
		t.Fatal(err)
	}
	if err := w.app.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.stopAll = append(w.stopAll, func() { _ = stdout.Close() })
	w.signIn()
	return w
}

func (w *canaryWorld) place(name string) *heard {
	if w.places[name] == nil {
		w.places[name] = &heard{}
	}
	return w.places[name]
}

// startUpstream starts a simulator that can be made to answer writes with an error that quotes them.
func (w *canaryWorld) startUpstream(p *profile.Profile) string {
	sim, err := simulator.New(simulator.Config{Profile: p, Tokens: []string{"the-upstream-token-of-ours"}})
	if err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		answer := w.upstream.Load()
		if answer == nil || r.Method == http.MethodGet {
			sim.ServeHTTP(rw, r)
			return
		}
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		var status int
		var form string
		if _, err := fmt.Sscanf(*answer, "%d %s", &status, &form); err != nil {
			panic(err)
		}
		rw.Header().Set("X-Debug", url.QueryEscape(string(body)))
		rw.Header().Set("Retry-After", "canary")
		if form != "scim" {
			http.Error(rw, string(body), status)
			return
		}
		rw.Header().Set("Content-Type", "application/scim+json")
		rw.WriteHeader(status)
		_ = json.NewEncoder(rw).Encode(map[string]any{
			"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:Error"}, "status": fmt.Sprint(status), "detail": string(body), "scimType": "canary",
		})
	}))
	w.stopAll = append(w.stopAll, server.Close, sim.Close)
	return server.URL
}

// hook is a webhook that hears bodies and headers.
func (w *canaryWorld) hook(name string) string {
	place := w.place(name)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_ = r.Header.Write(place)
		_, _ = io.Copy(place, r.Body)
	}))
	w.stopAll = append(w.stopAll, server.Close)
	return server.URL
}

// listen is a collector of syslog.
func (w *canaryWorld) listen(name string) string {
	line, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	place := w.place(name)
	go func() {
		for {
			conn, err := line.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(place, conn); _ = conn.Close() }()
		}
	}()
	w.stopAll = append(w.stopAll, func() { _ = line.Close() })
	return line.Addr().String()
}

// request sends one and returns what was answered.
func (w *canaryWorld) request(client *http.Client, method, address, body string, header map[string]string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	var head strings.Builder
	_ = resp.Header.Write(&head)
	return resp.StatusCode, head.String() + string(text)
}

// signIn signs in to the console, and follows what it tells by itself.
func (w *canaryWorld) signIn() {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.client = &http.Client{Jar: jar}
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Origin": w.app.adminURL()}
	if status, text := w.request(w.client, "POST", w.app.adminURL()+"/console/sign-in", url.Values{"token": {w.name()}}.Encode(), form); status < 400 || canaryIn(text) != "" {
		w.t.Errorf("signing in with a wrong token: got %d %s", status, text)
	}
	if status, text := w.request(w.client, "POST", w.app.adminURL()+"/console/sign-in", url.Values{"token": {w.admin}}.Encode(), form); status != http.StatusOK {
		w.t.Fatalf("sign-in: got %d %s", status, text)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	var streams sync.WaitGroup
	for _, name := range []string{"trail", "overview", "cycles"} {
		req, err := http.NewRequestWithContext(ctx, "GET", w.app.adminURL()+"/console/live/"+name+"?after=0", nil)
		if err != nil {
			w.t.Fatal(err)
		}
		resp, err := w.client.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		place := w.place("console live " + name)
		streams.Go(func() { _, _ = io.Copy(place, bufio.NewReader(resp.Body)); _ = resp.Body.Close() })
	}
	w.stopAll = append([]func(){cancel, streams.Wait}, w.stopAll...)
}

// read collects what the admin listener shows of the trail, and what a wrong question to it is answered.
func (w *canaryWorld) read() {
	w.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for live, deadline := w.place("console live trail"), time.Now().Add(10*time.Second); !strings.Contains(live.String(), "user1"); <-ticker.C {
		if time.Now().After(deadline) {
			w.t.Fatal("the console's live trail does not show the users")
		}
	}
	bearer := map[string]string{"Authorization": "Bearer " + w.admin}
	get := func(place, address string) string {
		status, text := w.request(w.client, "GET", w.app.adminURL()+address, "", bearer)
		fmt.Fprintf(w.place(place), "%s: %d %s\n", address, status, text)
		return text
	}
	get("metrics", "/metrics")
	get("admin", "/readyz")
	get("admin", "/healthz")
	get("admin", "/audit/public-key")
	const api = "/api/v1/audit/records"
	next := regexp.MustCompile(`"next":"([^"]+)"`)
	for page, more := "", true; more; {
		found := next.FindStringSubmatch(get("admin API", api+"?limit=1000"+page))
		if more = found != nil; more {
			page = "&cursor=" + url.QueryEscape(found[1])
		}
	}
	// Whoever asks for a canary may be shown what he typed: the logs must not have it, nor the trail.
	for _, wrong := range []string{"?" + w.name() + "=1", "?since=" + w.name(), "?status=" + w.name(), "?cursor=" + w.name(), "/" + w.name(), "/" + w.name() + "/x", "?user=" + w.name()} {
		get("nowhere", api+wrong)
	}
	st, err := w.app.reader.Stats(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	pages := []string{"", "cycles", "users", "users?q=user0", "user?name=user0", "user?name=public-user1", "trail", "trail?action=refused", "trail?status=400", "trail?user=user0", "nothing"}
	for seq := int64(1); seq <= st.Records; seq++ {
		pages = append(pages, fmt.Sprintf("trail/%d", seq))
		if seq%10 == 0 {
			pages = append(pages, fmt.Sprintf("trail/%d/record.json", seq), fmt.Sprintf("trail/%d/proof.json", seq))
		}
	}
	for _, page := range pages {
		get("console", "/console/"+page)
	}
	get("nowhere", "/console/trail?user="+w.name())
}

// stop ends the gateway, so that everybody has everything, and collects what is left on the disk.
func (w *canaryWorld) stop() {
	w.t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} { // as it is while the gateway runs
		content, err := os.ReadFile(w.database + suffix)
		if err != nil {
			w.t.Fatal(err)
		}
		_, _ = w.place("database").Write(content)
	}
	if err := w.app.stop(); err != nil {
		w.t.Error(err)
	}
	for _, stop := range w.stopAll {
		stop()
	}
	err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(w.dir, path)
		_, _ = w.place("file " + name).Write(content)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, args := range []string{"tail -v -n 1000000", "export", "export --format ocsf", "export --format csv"} {
		_, _ = w.place("command line").Write([]byte(w.call("", strings.Fields(args)...)))
	}
}

// tells are the places that show records, which are to have the public values of the users.
var tells = []string{
	"file native.jsonl", "file ocsf.jsonl", "file stdout", "syslog native", "syslog ocsf", "webhook native", "webhook ocsf", "admin API", "console", "console live trail",
	"database", "file trail.db", "command line",
}

// 1,000 canaries in every attribute, header and token, through all of `serve`: none is found in logs, metrics, error bodies,
// what any sink of either format gets, alerts, the admin API, the console, the database's files, or what commands print.
// In the clear are userName, id, externalId, active, and what the configuration says, here: timezone.
func TestCanaries(t *testing.T) {
	for _, form := range append(canaryForms, "CANARY") { // what is planted is found
		if canaryIn("before "+form+" after") == "" {
			t.Errorf("%q would not be found", form)
		}
	}
	w := newCanaryWorld(t, config.Privacy{Seal: true, Secret: []string{"nickName"}})
	for w.to = range w.app.gateways {
		w.provision(fmt.Sprintf("user%d", w.to))
		w.quoted()
	}
	w.read()
	w.stop()
	delete(w.places, "nowhere")
	for name, place := range w.places {
		if found := canaryIn(place.String()); found != "" {
			t.Errorf("%s: %s", name, found)
		}
	}
	for _, name := range tells {
		if text := w.place(name).String(); !strings.Contains(text, "user1") {
			t.Errorf("%s has %d bytes and nothing of the users: the test shows little", name, len(text))
		}
	}
	for _, secret := range []string{w.secret, w.admin, "the-upstream-token-of-ours"} {
		for name, place := range w.places {
			if strings.Contains(place.String(), secret) {
				t.Errorf("%s has a token", name)
			}
		}
	}
	if w.place("alerts").String() == "" {
		t.Error("nobody was alerted: the test shows little")
	}
	for _, status := range []int{200, 201, 400, 401, 404, 405, 409, 412, 413, 415, 429, 502} {
		if w.statuses[status] == 0 {
			t.Errorf("no answer was %d: %v", status, w.statuses)
		}
	}
	sealed := strings.Count(w.place("file native.jsonl").String(), `"sealed":`)
	if w.given < 1000 || w.errors < 100 || sealed < 100 {
		t.Errorf("%d canaries, %d error answers, %d sealed records: the test shows little", w.given, w.errors, sealed)
	}
	t.Logf("%d canaries, %d error answers, %d sealed records, %d places, answers by status: %v", w.given, w.errors, sealed, len(w.places), w.statuses)
}

// A leak is found wherever records are shown: here an attribute is declared public, and its canaries are taken for leaks.
func TestCanariesThatLeak(t *testing.T) {
	w := newCanaryWorld(t, config.Privacy{Seal: true, Public: []string{"title"}})
	w.scim("POST", "/Users", userBody("user1", fmt.Sprintf(`,"title":%q`, w.name())))
	w.read()
	w.stop()
	for _, name := range tells {
		if name == "console live trail" { // its rows have no values
			continue
		}
		if canaryIn(w.place(name).String()) == "" {
			t.Errorf("%s: the leak is not found", name)
		}
	}
}
