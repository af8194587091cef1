package audit

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// listener keeps messages.
type listener struct {
	mu   sync.Mutex
	got  []Alert
	fail int // so many attempts first
}

func (l *listener) Notify(_ context.Context, a *Alert) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail > 0 {
		l.fail--
		return errors.New("busy")
	}
	l.got = append(l.got, *a)
	return nil
}

func (l *listener) causes() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.got {
		out = append(out, strings.TrimSpace(a.Cause+" "+a.Connection))
	}
	return out
}

// stage is a world that alerts look at.
type stage struct {
	mu        sync.Mutex
	trail     *memoryTrail
	down      error
	upstreams []UpstreamState
	sinks     []SinkState
}

func (w *stage) set(change func(*stage)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *stage) alerts(who ...*told) *Alerts {
	locked := func(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }
	a, err := NewAlerts(AlertsConfig{
		Trail: w.trail, Logger: quiet,
		Writable:  func() (err error) { locked(func() { err = w.down }); return err },
		Upstreams: func() (u []UpstreamState) { locked(func() { u = slices.Clone(w.upstreams) }); return u },
		Sinks:     func() (s []SinkState) { locked(func() { s = slices.Clone(w.sinks) }); return s },
	})
	if err != nil {
		panic(err)
	}
	a.who = who
	return a
}

// run looks while f runs.
func (w *stage) run(t *testing.T, who []*told, f func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	a := w.alerts(who...)
	go func() { defer close(ended); a.Run(ctx) }()
	time.Sleep(1500 * time.Millisecond) // of the bubble's clock
	f()
	time.Sleep(2 * time.Second)
	cancel()
	<-ended
}

// One message per cause and window, however long it lasts and however often it flaps.
func TestAlertOncePerWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := &stage{trail: newWorldTrail()}, &listener{}
		began := time.Now()
		w.run(t, []*told{newTold(AlertConfig{Window: 10 * time.Minute}, l, quiet)}, func() {
			for i := range 3 {
				w.set(func(w *stage) {
					w.upstreams = []UpstreamState{{Connection: "one", Open: true, Credentials: "401"}, {Connection: "two", Open: true}}
				})
				time.Sleep(time.Minute)
				w.set(func(w *stage) { w.upstreams = nil })
				if i < 2 {
					time.Sleep(30 * time.Second)
				}
			}
		})
		want := []string{"breaker one", "credentials one", "breaker two"}
		if got := l.causes(); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if at := l.got[0].Time.Sub(began); at > 3*time.Second {
			t.Errorf("told after %v", at)
		}
		w.set(func(w *stage) { w.down = errors.New("full") })
		l2 := &listener{}
		w.run(t, []*told{newTold(AlertConfig{Window: 10 * time.Minute}, l2, quiet)}, func() { time.Sleep(25 * time.Minute) })
		if got := l2.causes(); !slices.Equal(got, []string{"trail", "trail", "trail"}) {
			t.Fatalf("got %v, want the trail three times in 25 minutes", got)
		}
		if a := l2.got[2]; a.Since != l2.got[0].Time || a.Time.Sub(a.Since) < 20*time.Minute {
			t.Errorf("got %+v, want it since the first message", a)
		}
	})
}

func TestAlertOfFailures(t *testing.T) {
	request := func(status int, action string) Record {
		return Record{Connection: "one", Op: "get", Action: action, Answer: Answer{Status: status}}
	}
	for _, tc := range []struct {
		name         string
		good, failed int
		status       int
		action       string
		percent      int
		want         []string
	}{
		{"below the rate", 90, 10, 500, Failed, 20, nil},
		{"above it", 70, 30, 409, Failed, 20, []string{"failures one"}},
		{"above another's", 70, 30, 500, Failed, 50, nil},
		{"too few to say", 0, 19, 500, Failed, 20, nil},
		{"nobody there is an answer", 0, 100, 404, Read, 20, nil},
		{"strangers", 0, 100, 401, Unauthenticated, 20, nil},
		{"half of quarantine", 2000, 2500, 500, Failed, 100, []string{"quarantine one"}},
		{"not the share", 20000, 2500, 500, Failed, 100, nil},
		{"anyway", 100000, 20000, 500, Failed, 100, []string{"quarantine one"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, l := &stage{trail: newWorldTrail()}, &listener{}
				for range 1000 {
					w.trail.add(request(500, Failed)) // before the start: not counted
				}
				w.run(t, []*told{newTold(AlertConfig{Failures: tc.percent}, l, quiet)}, func() {
					for range tc.good {
						w.trail.add(request(200, Updated))
					}
					for range tc.failed {
						w.trail.add(request(tc.status, tc.action))
					}
				})
				if got := l.causes(); !slices.Equal(got, tc.want) {
					t.Errorf("got %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// A pause ends a cycle: what failed in the last one does not count in the next.
func TestCycleEnds(t *testing.T) {
	c, at := &counts{}, time.Now()
	for range 100 {
		c.add(at, &Record{Kind: Unknown})
	}
	c.add(at.Add(CyclePause+time.Second), &Record{})
	if c.cycle != (Cycle{Requests: 1}) {
		t.Errorf("got %+v, want one request, and no failure", c.cycle)
	}
	c.forget(at.Add(2*CyclePause + 2*time.Second))
	if all, _ := c.sum(); all != 0 || c.cycle != (Cycle{}) {
		t.Errorf("got %d requests, %+v in the cycle, want none", all, c.cycle)
	}
}

// Refused tokens are told when nobody comes with a valid one for a minute: then the provisioning client is locked out. A
// stranger who tries beside it is not told.
func TestAlertOfRefusedTokens(t *testing.T) {
	refused, good := Record{Connection: "one", Action: Unauthenticated, Answer: Answer{Status: 401}}, Record{Connection: "one", Action: Updated, Answer: Answer{Status: 200}}
	for name, tc := range map[string]struct {
		between bool // valid requests come meanwhile
		want    []string
	}{"locked out": {false, []string{"quarantine one"}}, "a stranger": {true, nil}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, l := &stage{trail: newWorldTrail()}, &listener{}
				w.run(t, []*told{newTold(AlertConfig{Window: 24 * time.Hour}, l, quiet)}, func() {
					for range 6 {
						w.trail.add(refused)
						time.Sleep(20 * time.Second)
						if tc.between {
							w.trail.add(good)
						}
						time.Sleep(2 * time.Second)
					}
				})
				if got := l.causes(); !slices.Equal(got, tc.want) {
					t.Errorf("got %v, want %v", got, tc.want)
				}
			})
		})
	}
}

func TestAlertOfSinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := &stage{trail: newWorldTrail()}, &listener{}
		w.run(t, []*told{newTold(AlertConfig{Causes: []string{CauseSink}}, l, quiet)}, func() {
			w.set(func(w *stage) {
				w.sinks, w.down = []SinkState{{Name: "may", Problem: "down"}, {Name: "well"}, {Name: "must", Problem: "down", Required: true}}, errors.New("full")
			})
			time.Sleep(3 * time.Second)
			if got := l.causes(); !slices.Equal(got, []string{"sink must"}) {
				t.Errorf("after 3 s: got %v, want the required one, and no cause that was not asked for", got)
			}
			time.Sleep(sinkPatience)
		})
		if got := l.causes(); !slices.Equal(got, []string{"sink must", "sink may"}) {
			t.Errorf("got %v", got)
		}
	})
}

// A receiver that is down for longer is told when it is back, once, and not for ever: then the cause is raised anew.
func TestAlertOutlastsAReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := &stage{trail: newWorldTrail(), down: errors.New("full")}, &listener{fail: 15}
		w.run(t, []*told{newTold(AlertConfig{Window: 30 * time.Minute}, l, quiet)}, func() {
			time.Sleep(20 * time.Minute)
			if got := l.causes(); !slices.Equal(got, []string{"trail"}) {
				t.Errorf("got %v, want one message", got)
			}
			l.mu.Lock()
			l.fail, l.got = 1_000, nil
			l.mu.Unlock()
			time.Sleep(3 * time.Hour)
			l.mu.Lock()
			left := l.fail
			l.fail = 0
			l.mu.Unlock()
			if tries := 1_000 - left; tries < 100 || tries > 250 {
				t.Errorf("got %d attempts in three hours, want one a minute", tries)
			}
			time.Sleep(31 * time.Minute)
			if n := len(l.causes()); n < 1 || n > 3 {
				t.Errorf("got %d messages when it is back, want one, and that of the next window", n)
			}
		})
	})
}

// A receiver that fails for a while is tried again; one that hangs holds up nobody else.
func TestAlertTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := &stage{trail: newWorldTrail(), down: errors.New("full")}, &listener{fail: 4}
		other := &listener{}
		w.run(t, []*told{newTold(AlertConfig{}, l, quiet), newTold(AlertConfig{}, other, quiet)}, func() {
			if len(other.causes()) != 1 {
				t.Errorf("the other was told %v, want one message at once", other.causes())
			}
			time.Sleep(time.Minute)
		})
		if got := l.causes(); !slices.Equal(got, []string{"trail"}) {
			t.Errorf("got %v, want one message", got)
		}
	})
}

func TestAlertWebhook(t *testing.T) {
	var got map[string]any
	h := newHook(t, func(_ int64, lines []string, _ http.ResponseWriter, r *http.Request) bool {
		if err := json.Unmarshal([]byte(lines[0]), &got); err != nil || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %q, %v", lines, err)
		}
		return false
	})
	n, err := OpenAlert(&AlertConfig{URL: h.URL, Secret: hookKey})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Notify(t.Context(), &Alert{Cause: CauseBreaker, Connection: "one", Text: "it is <open>"}); err != nil {
		t.Fatal(err)
	}
	if got["text"] != "scimgate: breaker (one): it is <open>" || got["cause"] != "breaker" || got["connection"] != "one" {
		t.Errorf("got %v", got)
	}
}

// mailServer speaks as much of SMTP as a client that submits one message.
type mailServer struct {
	line     net.Listener
	config   *tls.Config // nil: no STARTTLS
	mu       sync.Mutex
	messages []string
	said     []string
}

func newMailServer(t *testing.T, config *tls.Config) *mailServer {
	t.Helper()
	line, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{line: line, config: config}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := line.Accept()
			if err != nil {
				return
			}
			s.serve(conn)
		}
	}()
	t.Cleanup(func() { line.Close(); <-ended })
	return s
}

func (s *mailServer) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	secure := false
	say := func(lines ...string) { io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n") }
	say("220 mail.example ESMTP")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.said = append(s.said, fmt.Sprintf("%v %s", secure, line))
		s.mu.Unlock()
		switch word, _, _ := strings.Cut(strings.ToUpper(line), " "); word {
		case "EHLO":
			switch {
			case secure:
				say("250-mail.example", "250 AUTH PLAIN")
			case s.config != nil:
				say("250-mail.example", "250 STARTTLS")
			default:
				say("250 mail.example")
			}
		case "STARTTLS":
			say("220 go")
			conn = tls.Server(conn, s.config)
			in, secure = bufio.NewReader(conn), true
		case "DATA":
			say("354 go")
			var message strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				message.WriteString(strings.TrimPrefix(line, "."))
			}
			s.mu.Lock()
			s.messages = append(s.messages, message.String())
			s.mu.Unlock()
			say("250 taken")
		case "AUTH":
			say("235 welcome")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 fine")
		}
	}
}

func TestAlertMail(t *testing.T) {
	cert, ca := selfSigned(t)
	s := newMailServer(t, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	cfg := AlertConfig{
		URL: "smtp://" + s.line.Addr().String(), From: "Gateway <gate@example.com>", To: []string{"ops@example.com", "Ärzte <oncall@example.com>"},
		User: "gate", Password: func() (string, error) { return "mail-password", nil }, CAFile: ca,
	}
	n, err := OpenAlert(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	hostile := "30 of 100 failed.\r\nBcc: x@evil.example\r\n.\r\nMAIL FROM:<x>\r\n"
	if err := n.Notify(t.Context(), &Alert{Time: at, Since: at, Cause: CauseFailures, Connection: "one", Text: hostile}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.messages) != 1 {
		t.Fatalf("got %d messages, want 1; said: %q", len(s.messages), s.said)
	}
	m, err := mail.ReadMessage(strings.NewReader(s.messages[0]))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Header.Get("Subject"); got != "scimgate: failures (one)" {
		t.Errorf("got subject %q", got)
	}
	to, err := m.Header.AddressList("To")
	if err != nil || len(to) != 2 || to[1].Name != "Ärzte" || m.Header.Get("Bcc") != "" {
		t.Errorf("got %v, %v, header %v", to, err, m.Header)
	}
	if date, err := m.Header.Date(); err != nil || !date.Equal(at) {
		t.Errorf("got date %v, %v", date, err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil || !strings.Contains(string(body), "30 of 100 failed.") || !strings.Contains(string(body), "since 2026-11-22T09:00:00Z") {
		t.Errorf("got body %q, %v", body, err)
	}
	login := base64.StdEncoding.EncodeToString([]byte("\x00gate\x00mail-password"))
	if !slices.Contains(s.said, "true AUTH PLAIN "+login) {
		t.Errorf("said %q, want the login after STARTTLS", s.said)
	}
	for _, line := range s.said {
		if !strings.HasPrefix(line, "true") && strings.Contains(line, login) {
			t.Error("the password was said in the clear")
		}
	}
}

func TestAlertMailRefuses(t *testing.T) {
	s := newMailServer(t, nil)
	cfg := AlertConfig{URL: "smtp://" + s.line.Addr().String(), From: "gate@example.com", To: []string{"ops@example.com"}}
	notify := func() error {
		n, err := OpenAlert(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		return n.Notify(t.Context(), &Alert{Cause: CauseTrail, Text: "x"})
	}
	if err := notify(); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("without STARTTLS: got %v", err)
	}
	cfg.AllowPlainHTTP = true
	if err := notify(); err != nil {
		t.Errorf("allowed: got %v", err)
	}
	cert, _ := selfSigned(t)
	s = newMailServer(t, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	cfg.URL, cfg.AllowPlainHTTP = "smtp://"+s.line.Addr().String(), false
	if err := notify(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a strange certificate: got %v", err)
	}
}

func TestOpenAlertRefuses(t *testing.T) {
	to := []string{"ops@example.com"}
	for _, tc := range []struct {
		cfg  AlertConfig
		want string
	}{
		{AlertConfig{URL: "https://hook.example/x", Secret: hookKey, Causes: Causes}, ""},
		{AlertConfig{URL: "https://hook.example/x"}, "secret is missing"},
		{AlertConfig{URL: "https://hook.example/x", Secret: hookKey, To: to}, "for mail"},
		{AlertConfig{URL: "http://hook.example/x", Secret: hookKey}, "use https"},
		{AlertConfig{URL: "https://hook.example/x", Secret: hookKey, Causes: []string{"weather"}}, "no cause"},
		{AlertConfig{URL: "https://hook.example/x", Secret: hookKey, Causes: []string{"trail", "trail"}}, "twice"},
		{AlertConfig{URL: "smtp://mail.example", From: "a@example.com", To: to}, ""},
		{AlertConfig{URL: "smtp://mail.example:25/x", From: "a@example.com", To: to}, "smtp://HOST"},
		{AlertConfig{URL: "smtp://u:p@mail.example", From: "a@example.com", To: to}, "user or password"},
		{AlertConfig{URL: "smtp://mail.example", From: "a@example.com"}, "from and to"},
		{AlertConfig{URL: "smtp://mail.example", From: "nobody", To: to}, "from is no mail address"},
		{AlertConfig{URL: "smtp://mail.example", From: "a@example.com", To: []string{"a@example.com\r\nBcc: b@example.com"}}, "to has what is no"},
		{AlertConfig{URL: "smtp://mail.example", From: "a@example.com", To: to, User: "u"}, "go together"},
		{AlertConfig{URL: "smtp://mail.example", From: "a@example.com", To: to, Secret: hookKey}, "for webhooks"},
		{AlertConfig{URL: "mailto:a@example.com"}, "nobody can be told"},
	} {
		_, err := OpenAlert(&tc.cfg)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.cfg.URL, err, tc.want)
		}
	}
}
