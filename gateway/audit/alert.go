package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Causes of alerts.
const (
	CauseFailures    = "failures"    // requests of a connection fail above a rate
	CauseBreaker     = "breaker"     // the circuit to an upstream is open
	CauseCredentials = "credentials" // the upstream refuses the gateway's credentials
	CauseQuarantine  = "quarantine"  // the provisioning client may put its job in quarantine
	CauseTrail       = "trail"       // the trail cannot be written
	CauseSink        = "sink"        // a sink does not take the trail
)

// Causes are all of them.
var Causes = []string{CauseFailures, CauseBreaker, CauseCredentials, CauseQuarantine, CauseTrail, CauseSink}

// Alert is one message: what is wrong, in words and counts. It never holds an attribute value, a name of a person or a
// secret, because it goes to chat rooms and mailboxes.
type Alert struct {
	Time       time.Time `json:"time"`
	Cause      string    `json:"cause"`
	Connection string    `json:"connection,omitempty"` // or the sink, for that cause
	Text       string    `json:"text"`
	// Since is when it was found first, and without a pause of more than two minutes ever since.
	Since time.Time `json:"since"`

	rate float64 // of CauseFailures, in percent
}

// Line is the alert in one line.
func (a *Alert) Line() string {
	line := "scimgate: " + a.Cause
	if a.Connection != "" {
		line += " (" + a.Connection + ")"
	}
	return line + ": " + a.Text
}

// AlertConfig is somebody who is told, as he was configured.
type AlertConfig struct {
	Name string // in logs. Required, unique
	// URL is https://HOST/PATH or smtp://HOST[:PORT]. Required.
	URL string
	// Causes are what is told; nil: all.
	Causes []string
	// Window is the time in which one cause of one connection is told once. Default: 1 h.
	Window time.Duration
	// Failures is the percentage from which CauseFailures is told. Default: 20.
	Failures int
	// Secret gives the key of a webhook's signature: see SignatureHeader.
	Secret func() (string, error)
	// From and To are addresses of mail; User and Password log in to its server.
	From     string
	To       []string
	User     string
	Password func() (string, error)
	// CAFile is the path of PEM certificates to trust beside the system's.
	CAFile         string
	AllowPlainHTTP bool // or mail without STARTTLS
}

// Notifier takes a message to somebody. It returns when the message was taken.
type Notifier interface {
	Notify(ctx context.Context, a *Alert) error
}

// OpenAlert makes what takes messages as cfg describes. The error says what is wrong with the configuration.
func OpenAlert(cfg *AlertConfig) (Notifier, error) {
	for i, cause := range cfg.Causes {
		if !slices.Contains(Causes, cause) {
			return nil, fmt.Errorf("there is no cause %q: want some of %s", cause, strings.Join(Causes, ", "))
		}
		if slices.Contains(cfg.Causes[:i], cause) {
			return nil, fmt.Errorf("the cause %s stands there twice", cause)
		}
	}
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return nil, errors.New("the URL cannot be read: want https://HOST/PATH or smtp://HOST:PORT")
	case u.User != nil:
		return nil, errors.New("the URL holds a user or password: say user and password: {file: PATH}")
	case u.Fragment != "":
		return nil, errors.New("the URL has a fragment (#...): take it out")
	}
	switch u.Scheme {
	case "https", "http":
		if cfg.From != "" || len(cfg.To) > 0 || cfg.User != "" || cfg.Password != nil {
			return nil, errors.New("from, to, user and password are for mail (smtp://HOST): take them out")
		}
		w, err := newWebhook(u, cfg.Secret, cfg.CAFile, cfg.AllowPlainHTTP)
		if err != nil {
			return nil, err
		}
		return hookNotifier{w}, nil
	case "smtp":
		return openMail(cfg, u)
	}
	return nil, fmt.Errorf("nobody can be told by %q: want https://HOST/PATH or smtp://HOST:PORT", u.Scheme)
}

// hookNotifier posts a message as JSON, signed. The member text is one that chat systems show.
type hookNotifier struct{ *webhook }

func (h hookNotifier) Notify(ctx context.Context, a *Alert) error {
	var body bytes.Buffer
	shown := *a
	shown.Text = a.Line()
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(&shown); err != nil {
		return err
	}
	return h.post(ctx, "application/json", body.Bytes(), nil)
}

const (
	alertQueue   = 64               // messages that wait for one who is told
	alertFirst   = 2 * time.Second  // pause after the first attempt at a message; doubling
	alertMost    = time.Minute      // up to this
	alertAttempt = 20 * time.Second // for one attempt
	alertGap     = 2 * time.Minute  // for which something is not found that then is new

	defaultWindow   = time.Hour
	defaultFailures = 20
)

// told is somebody who is told, with what he was told last.
type told struct {
	cfg    AlertConfig
	notify Notifier
	queue  chan *Alert
	last   map[[2]string]*lastTold // by cause and connection; touched by Alerts' goroutine only
	log    *slog.Logger
}

type lastTold struct {
	at    time.Time // of the last message; zero: none
	since time.Time
	found time.Time // last
}

func newTold(cfg AlertConfig, n Notifier, log *slog.Logger) *told {
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	if cfg.Failures == 0 {
		cfg.Failures = defaultFailures
	}
	return &told{cfg: cfg, notify: n, queue: make(chan *Alert, alertQueue), last: map[[2]string]*lastTold{}, log: log.With("alert", cfg.Name)}
}

// raise queues a message unless the same was told within the window. It never waits.
func (t *told) raise(a *Alert) {
	if t.cfg.Causes != nil && !slices.Contains(t.cfg.Causes, a.Cause) || a.Cause == CauseFailures && a.rate < float64(t.cfg.Failures) {
		return
	}
	key := [2]string{a.Cause, a.Connection}
	last := t.last[key]
	if last == nil {
		last = &lastTold{}
		t.last[key] = last
	}
	if a.Time.Sub(last.found) > alertGap {
		last.since = a.Time
	}
	last.found = a.Time
	if a.Time.Sub(last.at) < t.cfg.Window {
		return
	}
	message := *a
	message.Since = last.since
	select {
	case t.queue <- &message:
		last.at = a.Time
	default:
		t.log.Warn("an alert waits: too many do", "cause", a.Cause, "connection", a.Connection)
	}
}

// run sends what is queued, until ctx ends.
func (t *told) run(ctx context.Context) {
	for {
		select {
		case a := <-t.queue:
			t.send(ctx, a)
		case <-ctx.Done():
			return
		}
	}
}

// send tries until the message is taken, or its window is over: then it is raised anew, if it is still true.
func (t *told) send(ctx context.Context, a *Alert) {
	for pause := alertFirst; ; pause = min(2*pause, alertMost) {
		attempt, cancel := context.WithTimeout(ctx, alertAttempt)
		err := t.notify.Notify(attempt, a)
		cancel()
		if err == nil {
			return
		}
		over := time.Since(a.Time) >= t.cfg.Window || ctx.Err() != nil
		if over || pause == alertFirst {
			t.log.Error("an alert could not be sent", "cause", a.Cause, "connection", a.Connection, "error", err, "givenUp", over)
		}
		if over {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}
