package console

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"scimgate/gateway/audit"
)

var (
	withBrowser = flag.Bool("browser", false, "look at the console in Chromium, which must be installed")
	screens     = flag.String("screens", "", "folder to write screenshots of every page to")
	axeFile     = flag.String("axe", "", "axe-core's axe.min.js: every page is examined with it")
)

// chromium is a browser on a console. It notes what goes wrong in it.
type chromium struct {
	t           *testing.T
	base, token string // where the console is, and what to sign in with
	ctx         context.Context

	mu    sync.Mutex // guards noted
	noted []string   // errors on the script's console, and requests to other hosts
}

// needBrowser skips a test without the flag -browser: a browser takes its time, and may not be there.
func needBrowser(t *testing.T) {
	t.Helper()
	if !*withBrowser {
		t.Skip("this needs Chromium (Debian: apt install chromium): go test ./gateway/console -browser")
	}
}

// newBrowser starts Chromium.
func newBrowser(t *testing.T, base, token string) *chromium {
	t.Helper()
	needBrowser(t)
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		t.Fatal("no Chromium was found, and -browser asks for it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.WindowSize(1280, 900),
		chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(60*time.Second))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium has none for root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	b := &chromium{t: t, base: base, token: token, ctx: ctx}
	b.do() // starts the browser; a limit of time here would end all of it
	b.ctx, cancel = context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancel)
	own, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			b.note("the script wrote to its console: %s", e.Type)
		case *runtime.EventExceptionThrown:
			b.note("exception: %s", e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			b.note("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		case *network.EventRequestWillBeSent:
			if to, err := url.Parse(e.Request.URL); err != nil || to.Host != own.Host && to.Scheme != "data" {
				b.note("a request left for %s", e.Request.URL)
			}
		case *page.EventJavascriptDialogOpening:
			b.note("a dialog opened: %s", e.Message)
		}
	}); err != nil {
		t.Fatal(err)
	}
	call(b, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Europe/Berlin"})
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	return b
}

// call sends a command of the browser's protocol.
func call[P, R any](b *chromium, command cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

// run runs one action and returns its result.
func run[T any](b *chromium, action chromedp.Action[T]) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

func (b *chromium) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noted = append(b.noted, fmt.Sprintf(format, args...))
}

// clean fails the test with whatever was noted.
func (b *chromium) clean() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.noted {
		b.t.Errorf("in the browser: %s", text)
	}
	b.noted = nil
}

func (b *chromium) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *chromium) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base+path), chromedp.WaitReady(chromedp.CSS("main")))
}

// text is what can be read in an element, with single spaces.
func (b *chromium) text(selector string) string {
	b.t.Helper()
	return strings.Join(strings.Fields(run(b, chromedp.Text(chromedp.CSS(selector)))), " ")
}

// look is a size of window and a colour scheme.
type appearance struct {
	name          string
	width, height int64
	scheme        string
}

var appearances = []appearance{
	{"light-1280", 1280, 900, "light"}, {"dark-1280", 1280, 900, "dark"}, {"light-400", 400, 800, "light"}, {"dark-400", 400, 800, "dark"},
}

func (b *chromium) appear(a appearance) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: a.width, Height: a.height, DeviceScaleFactor: 1})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: a.scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// Every page, in light and dark, wide and narrow: nothing wider than the window, no error, no finding of axe-core that
// is serious, and a screenshot where a folder is given.
func TestPagesInABrowser(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Proof = func(context.Context, int64) ([]byte, error) { return []byte("{}\n"), nil }
	})
	b := newBrowser(t, w.server.URL, adminToken)
	w.history(120)
	refused := int64(0)
	for rec, err := range w.store.Search(t.Context(), audit.Query{Action: audit.Created, Kind: audit.Outcome, User: "babs@example.com"}) {
		if err != nil {
			t.Fatal(err)
		}
		refused = rec.Seq
	}
	axe := ""
	if *axeFile != "" {
		text, err := os.ReadFile(*axeFile)
		if err != nil {
			t.Fatal(err)
		}
		axe = string(text)
	}
	shown := appearances
	if *screens == "" && axe == "" {
		shown = []appearance{appearances[0], appearances[3]}
	}
	visit := func(name, path string) {
		for _, a := range shown {
			t.Run(name+"/"+a.name, func(t *testing.T) {
				b.t = t
				b.appear(a)
				b.open(path)
				b.fits()
				b.shootAs(name + "-" + a.name)
				if axe != "" {
					b.examine(axe)
				}
			})
		}
	}
	visit("sign-in", Base)
	b.t = t
	b.signInHere()
	visit("overview", Base+"?range=6h")
	visit("cycles", Base+"cycles")
	visit("users", Base+"users")
	visit("users-found", Base+"users?q=jensen")
	visit("users-none", Base+"users?q=nobody%40nowhere")
	visit("user", Base+"user?name=babs%40example.com")
	visit("trail", Base+"trail")
	visit("trail-live", Base+"trail?live=on")
	visit("trail-filtered", Base+"trail?action=failed&status=409&since=6h")
	visit("trail-none", Base+"trail?user=nobody")
	visit("record", fmt.Sprintf("%strail/%d", Base, refused))
	b.t = t
	b.clean()
	visit("trail-problem", Base+"trail?since=yesterday&status=abc")
	visit("not-found", Base+"nowhere")
}

func (b *chromium) signInHere() {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base+Base), chromedp.WaitVisible(chromedp.ID("token")), chromedp.SendKeys(chromedp.ID("token"), b.token+"\r"),
		chromedp.WaitVisible(chromedp.CSS("nav[aria-label=Pages]")))
}

// fits checks that nothing makes the page wider than its window.
func (b *chromium) fits() {
	b.t.Helper()
	wide := run(b, chromedp.Evaluate[[]string](`document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")]
		.filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + "." + e.className).slice(0, 5)`))
	for _, element := range wide {
		b.t.Errorf("%s is wider than the window", element)
	}
}

// shootAs takes a screenshot, where a folder is given.
func (b *chromium) shootAs(name string) {
	b.t.Helper()
	if *screens == "" {
		return
	}
	file := filepath.Join(*screens, name+".png")
	picture := run(b, chromedp.FullScreenshot(100))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// examine runs axe-core, which the protocol puts into the page: its Content-Security-Policy lets nothing else in.
func (b *chromium) examine(axe string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](axe + "\n;0"))
	raw := run(b, chromedp.Evaluate[string](`axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations
		.map(v => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map(n => n.target.join(" ") + ": " + n.failureSummary).slice(0, 3)}))))`,
		chromedp.EvalAwaitPromise))
	var found []struct {
		ID, Impact, Help string
		Nodes            []string
	}
	if err := json.Unmarshal([]byte(raw), &found); err != nil {
		b.t.Fatal(err)
	}
	for _, v := range found {
		text := fmt.Sprintf("axe-core: %s (%s): %s\n%s", v.ID, v.Impact, v.Help, strings.Join(v.Nodes, "\n"))
		if v.Impact == "serious" || v.Impact == "critical" {
			b.t.Error(text)
		} else {
			b.t.Log(text)
		}
	}
}

// The story of somebody who carries the pager: sign in, find a user, read the timeline, follow a live event, look at a
// record and download its proof, with hostile names all around, and no request that leaves the host.
func TestStoryInABrowser(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Proof = func(_ context.Context, seq int64) ([]byte, error) { return fmt.Appendf(nil, `{"seq":%d}`, seq), nil }
	})
	b := newBrowser(t, w.server.URL, adminToken)
	w.history(30)
	for i, name := range corpus {
		w.change(w.now.Add(time.Duration(i)*time.Second-time.Minute), audit.Renamed, "patch", "id"+name, name, 200, audit.Attribute{Path: "title " + name, Asked: clearValue(name), Sent: clearValue(name), Note: name})
	}
	b.appear(appearances[0])
	b.signInHere()
	b.do(chromedp.Click(chromedp.CSS(`nav a[href$="users"]`)), chromedp.WaitVisible(chromedp.ID("q")), chromedp.SendKeys(chromedp.ID("q"), "babs@example.com\r"),
		chromedp.WaitVisible(chromedp.CSS(".people th a")), chromedp.Click(chromedp.CSS(".people th a")), chromedp.WaitVisible(chromedp.CSS(".timeline")))
	if got := b.text(".timeline"); !strings.Contains(got, "became babs.jensen@example.com") {
		t.Errorf("the timeline lacks the old and the new userName: %s", got)
	}
	if got := run(b, chromedp.Evaluate[string](`document.querySelector(".timeline time").title`)); !strings.HasSuffix(got, "UTC") {
		t.Errorf("the title of a time: got %s, want UTC", got)
	}
	local := b.text(".timeline time")
	b.do(chromedp.Click(chromedp.CSS("#zone button")))
	if got := b.text(".timeline time"); got == local || !strings.HasSuffix(got, "UTC") {
		t.Errorf("after the switch to UTC: got %s, was %s", got, local)
	}
	b.do(chromedp.Click(chromedp.CSS("#zone button")))

	b.do(chromedp.Click(chromedp.CSS(`nav a[href$="trail"]`)), chromedp.WaitVisible(chromedp.ID("user")), chromedp.SendKeys(chromedp.ID("user"), "live@example.com\r"),
		chromedp.WaitVisible(chromedp.CSS(".empty")), chromedp.Click(chromedp.CSS(`a[href*="live=on"]`)), chromedp.WaitVisible(chromedp.ID("live")))
	run(b, chromedp.Poll[bool](`document.getElementById("live").textContent === "Live."`))
	w.append(look(time.Now(), "get", audit.Read, "77", "live@example.com"), look(time.Now(), "get", audit.Read, "78", "other@example.com"))
	b.do(chromedp.WaitVisible(chromedp.CSS("tr.new")))
	if got := b.text("table.records tbody"); !strings.Contains(got, "live@example.com") || strings.Contains(got, "other@example.com") {
		t.Errorf("the live tail has %s", got)
	}
	b.do(chromedp.Click(chromedp.CSS("tr.new td.what a")), chromedp.WaitVisible(chromedp.CSS("a[download]")))
	if got := b.text("h1"); got != "Read" {
		t.Errorf("the record's title: got %s, want Read", got)
	}
	if got := run(b, chromedp.Evaluate[string](`fetch(document.querySelector('a[href$="proof.json"]').href).then(r => r.text())`, chromedp.EvalAwaitPromise)); !strings.HasPrefix(got, `{"seq":`) {
		t.Errorf("the proof: got %s", got)
	}
	for _, path := range []string{"", "cycles", "users", "trail", "trail?live=on"} {
		b.open(Base + path)
	}
	for _, name := range corpus {
		b.open(Base + "user?" + url.Values{"name": {"id" + name}}.Encode())
		if got := run(b, chromedp.Title()); got == "owned" {
			t.Errorf("%q was carried out", name)
		}
	}
	b.do(chromedp.Click(chromedp.CSS(".out button")), chromedp.WaitVisible(chromedp.ID("token")))
	b.clean()
}

// Names as long as the trail takes them make no page wider than its window.
func TestLongNamesInABrowser(t *testing.T) {
	w := newWorld(t, nil)
	b := newBrowser(t, w.server.URL, adminToken)
	name := strings.Repeat("long", 200) + "@example.com"
	done := w.change(w.now, audit.Renamed, "patch", strings.Repeat("7", 200), name, 200, audit.Attribute{Path: "urn:" + name, Asked: clearValue(name), Sent: clearValue(name), Note: name})
	failed := w.change(w.now, audit.Created, "create", "", name, 409, born(name, 1)...)
	w.told(failed.Seq)
	b.signInHere()
	for _, a := range appearances {
		b.appear(a)
		for _, path := range []string{"", "cycles", "users", "trail", "trail?user=" + name, "user?name=" + name, fmt.Sprint("trail/", done.Seq), fmt.Sprint("trail/", failed.Seq)} {
			b.open(Base + path)
			b.fits()
		}
	}
}

// Whoever has a keyboard only reaches everything in order, and sees where they are.
func TestKeyboardInABrowser(t *testing.T) {
	w := newWorld(t, nil)
	b := newBrowser(t, w.server.URL, adminToken)
	w.history(30)
	b.signInHere()
	b.open(Base + "trail")
	var stops []string
	for range 13 {
		b.do(chromedp.KeyEvent("\t"))
		stops = append(stops, run(b, chromedp.Evaluate[string](`(e => {
			const box = e.getBoundingClientRect(), style = getComputedStyle(e);
			const seen = box.width > 0 && box.top >= 0 && box.bottom <= innerHeight && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
			return (e.textContent.trim() && e.tagName !== "SELECT" ? e.textContent.trim() : e.name) + (seen ? "" : ": not to be seen");
		})(document.activeElement)`)))
	}
	want := []string{"Skip to the page", "scimgate", "Overview", "Cycles", "Users", "Trail", "Sign out", "user", "action", "outcome", "since", "until", "More filters"}
	if !slices.Equal(stops, want) {
		t.Errorf("got %q, want %q", stops, want)
	}
	b.open(Base + "trail")
	b.do(chromedp.KeyEvent("\t"), chromedp.KeyEvent("\r"), chromedp.KeyEvent("\t"))
	if got := run(b, chromedp.Evaluate[string](`document.activeElement.name`)); got != "user" {
		t.Errorf("after skipping: the focus is on %q, want user", got)
	}
}

// Everything but live updates and local times works with scripts off; a live page asks again by itself.
func TestWithoutScriptsInABrowser(t *testing.T) {
	w := newWorld(t, nil)
	b := newBrowser(t, w.server.URL, adminToken)
	w.history(30)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.signInHere()
	for _, c := range []struct{ path, want string }{
		{"", "Requests"}, {"cycles", "Incremental"}, {"users?q=babs", "babs.jensen@example.com"}, {"user?name=babs%40example.com", "Renamed"},
		{"trail?action=failed", "Could not change"}, {"trail/5", "Request"}, {"trail?live=on", "Live: asked again every 5 seconds."},
	} {
		b.open(Base + c.path)
		if got := b.text("main"); !strings.Contains(got, c.want) {
			t.Errorf("%s without scripts lacks %q: %s", c.path, c.want, got)
		}
	}
	w.append(look(time.Now(), "get", audit.Read, "77", "later@example.com"))
	b.do(chromedp.WaitVisible(chromedp.CSS(`a[href*="later"]`)))
	b.clean()
}
