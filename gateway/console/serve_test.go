package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// gate is the program itself, as `scimgate serve` runs it without a configuration.
type gate struct {
	t                                            *testing.T
	program, dir                                 string
	tenant, secret, console, adminToken, keyText string
}

// newGate builds and starts the program. It is stopped, and has to end well, when the test ends.
func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{t: t, dir: t.TempDir()}
	g.program = filepath.Join(g.dir, "scimgate")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", g.program, "scimgate/cmd/scimgate").CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	serve := exec.CommandContext(context.Background(), g.program, "serve")
	serve.Dir = g.dir
	serve.Env = append(os.Environ(), "SCIMGATE_LISTEN=127.0.0.1:0", "SCIMGATE_ADMIN_LISTEN=127.0.0.1:0", "SCIMGATE_DATABASE="+filepath.Join(g.dir, "trail.db"), "NO_COLOR=1")
	said, err := os.Create(filepath.Join(g.dir, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	var log bytes.Buffer
	serve.Stdout, serve.Stderr = said, &log
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Signal(os.Interrupt)
		if err := serve.Wait(); err != nil {
			t.Errorf("serve ended: %v\n%s", err, log.Bytes())
		}
	})
	poll(t, "serve says where it is", func() bool {
		text, err := os.ReadFile(said.Name())
		return err == nil && g.greeted(string(text))
	})
	return g
}

// poll waits until something is so.
func poll(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !is(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// greeted reads what serve prints at its start, and reports whether it is all there.
func (g *gate) greeted(text string) bool {
	for name, to := range map[string]*string{
		"Tenant URL": &g.tenant, "Secret Token": &g.secret, "Console": &g.console, "Admin token": &g.adminToken, "Public key": &g.keyText,
	} {
		found := regexp.MustCompile(name + ` +(\S+)\n`).FindStringSubmatch(text)
		if found == nil {
			return false
		}
		*to = found[1]
	}
	return true
}

// scim sends a request as a provisioning client does.
func (g *gate) scim(method, path string, body any, want int) {
	g.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		g.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.tenant+path, bytes.NewReader(text))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.secret)
	req.Header.Set("Content-Type", "application/scim+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != want {
		g.t.Fatalf("%s %s: got %d %s %v, want %d", method, path, resp.StatusCode, answer, err, want)
	}
}

func (g *gate) create(userName, title string) {
	g.t.Helper()
	g.scim("POST", "/Users", map[string]any{
		"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:User"}, "userName": userName, "title": title, "active": true,
		"name": map[string]string{"givenName": "Ann", "familyName": "Lee"}, "emails": []map[string]string{{"type": "work", "value": fmt.Sprintf("%x@example.com", userName)}},
	}, http.StatusCreated)
}

// audit runs a command of the program and returns its exit code and what it printed.
func (g *gate) audit(args ...string) (code int, out string) {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), g.program, append([]string{"audit"}, args...)...)
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		g.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// The whole way with the program itself: a provisioning client creates users, somebody signs in, finds one, follows what
// happens, looks at a record and at its sealed values, and downloads a proof, which the command line verifies with the
// public key alone. Markup in userName and title stays text all the way.
func TestServeInABrowser(t *testing.T) {
	needBrowser(t)
	g := newGate(t)
	b := newBrowser(t, strings.TrimSuffix(g.console, Base), g.adminToken)
	var names []string
	for _, name := range corpus {
		if len(name) <= 30 && plain(name) == name { // as long as this upstream takes; the gateway refuses control characters
			g.create(name, `<img src=x onerror="alert(1)">`+name)
			names = append(names, name)
		}
	}
	if len(names) < 5 {
		t.Fatalf("got %d names to try, want more", len(names))
	}
	g.create("ann@example.com", "Engineer")
	b.appear(appearances[0])
	b.signInHere()
	b.do(chromedp.Click(chromedp.CSS(`nav a[href$="users"]`)), chromedp.WaitVisible(chromedp.ID("q")), chromedp.SendKeys(chromedp.ID("q"), "ann@example.com\r"),
		chromedp.WaitVisible(chromedp.CSS(".people th a")), chromedp.Click(chromedp.CSS(".people th a")), chromedp.WaitVisible(chromedp.CSS(".timeline")))
	if got := b.text(".timeline"); !strings.Contains(got, "Created") || !strings.Contains(got, "ann@example.com · stored as asked") {
		t.Errorf("the timeline: got %s", got)
	}
	b.open(Base + "trail?live=on&action=created&kind=outcome")
	run(b, chromedp.Poll[bool](`document.getElementById("live").textContent === "Live."`))
	g.create("live@example.com", "Doctor")
	b.do(chromedp.WaitVisible(chromedp.CSS("tr.new")), chromedp.Click(chromedp.CSS("tr.new td.what a")), chromedp.WaitVisible(chromedp.CSS("a[download]")))
	b.shootAs("serve-record")
	g.verifies(b)

	b.do(chromedp.Click(chromedp.CSS(`form[action$="values"] button`)), chromedp.WaitVisible(chromedp.CSS(".notice")))
	if got := b.text(".diff"); !strings.Contains(got, "Doctor") {
		t.Errorf("the unsealed values: got %s, want the title", got)
	}
	for _, name := range names {
		b.open(Base + "trail?" + url.Values{"user": {name}, "action": {"created"}, "kind": {"outcome"}}.Encode())
		b.do(chromedp.Click(chromedp.CSS("td.what a")), chromedp.WaitVisible(chromedp.CSS("a[download]")),
			chromedp.Click(chromedp.CSS(`form[action$="values"] button`)), chromedp.WaitVisible(chromedp.CSS(".notice")))
		for _, want := range []string{name, `<img src=x onerror="alert(1)">` + name} {
			if got := b.text(".diff"); !strings.Contains(got, strings.Join(strings.Fields(want), " ")) {
				t.Errorf("got %s, want %s in it as text", got, want)
			}
		}
	}
	b.shootAs("serve-unsealed")
	for _, path := range []string{"", "cycles", "users", "trail", "trail?action=unsealed"} {
		b.open(Base + path)
		b.fits()
	}
	if got := b.text("main"); !strings.Contains(got, "Sealed values shown") {
		t.Errorf("the trail lacks who saw sealed values: %s", got)
	}
	b.clean()
}

// verifies downloads the proof of the record that the browser shows, and verifies it with the command line; a proof with
// one changed byte does not hold.
func (g *gate) verifies(b *chromium) {
	g.t.Helper()
	folder := g.t.TempDir()
	call(b, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: folder})
	seq := regexp.MustCompile(`\d+$`).FindString(run(b, chromedp.Location()))
	file := filepath.Join(folder, "proof-"+seq+".json")
	pressed := time.Time{}
	poll(g.t, "the browser has downloaded "+file, func() bool {
		if time.Since(pressed) > 3*time.Second { // a record can be proven about a second after it was made
			pressed = time.Now()
			b.open(Base + "trail/" + seq)
			b.do(chromedp.Click(chromedp.CSS(`a[href$="proof.json"]`)))
		}
		_, err := os.Stat(file)
		return err == nil
	})
	code, out := g.audit("verify", "--key", g.keyText, "--proof", file)
	if code != 0 || !strings.Contains(out, "record "+seq) {
		g.t.Errorf("audit verify --proof: got exit code %d: %s", code, out)
	}
	g.t.Logf("audit verify --proof: %s", out)
	proof, err := os.ReadFile(file)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(proof, []byte("live@"), []byte("evil@"), 1), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if code, out := g.audit("verify", "--key", g.keyText, "--proof", file); code != 1 {
		g.t.Errorf("audit verify of a changed proof: got exit code %d: %s", code, out)
	}
}
