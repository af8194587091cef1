package config

import (
	"net/url"
	"path"
	"strings"
	"time"

	"scimgate/config/profile"
	"scimgate/config/secret"
)

// Sink is somewhere else than the database where the trail goes.
type Sink struct {
	// Name is what the sink's place in the trail is kept under: 1 to 32 of a-z, 0-9 and "-". Another name is another
	// sink, which begins anew; so does one that was taken out and put back. Required and unique.
	Name string
	// URL says what it is and where: file:///PATH.jsonl, stdout:, syslog+tcp://HOST:PORT, syslog+tls://HOST:PORT, or
	// https://HOST/PATH for a webhook (http on loopback). Required and unique.
	URL string
	// Format is native, the records as they are stored, or ocsf, events of OCSF 1.8. Default: native.
	Format string
	// Required refuses everything that would go upstream (503) while the sink takes nothing, and lets no write leave
	// before the sink has its intent. Default: false.
	Required bool
	// FromNow begins a new sink with the next record: in the file, start: now. Default: false, start: beginning.
	FromNow bool
	// Secret gives the key of a webhook's signature, 16 characters or more. Required for a webhook. In the file:
	// {file: PATH} or {env: NAME}.
	Secret *secret.Source
	// CAFile is the path of PEM certificates to trust beside the system's. Default: "", the system's only.
	CAFile string
	// Rewind is how much of what a syslog collector took last comes again on a new connection, 1s to 10m, because
	// syslog has no acknowledgement. Default: 30s.
	Rewind time.Duration
	// AllowPlainHTTP accepts a webhook with http on any host. Default: false.
	AllowPlainHTTP bool

	Line, Column int // position in the file
}

// Alert is somebody who is told when something is wrong. Alerts are no sinks: they say what, and nothing of the trail.
type Alert struct {
	// Name appears in logs: 1 to 32 of a-z, 0-9 and "-". Required and unique.
	Name string
	// URL is https://HOST/PATH for a webhook (http on loopback) or smtp://HOST[:PORT] for mail (port 587). Required.
	URL string
	// Causes are what to tell: failures, breaker, credentials, quarantine, trail, sink. Default: all.
	Causes []string
	// Window is the time in which one cause of one connection is told once, 1m to 24h. Default: 1h.
	Window time.Duration
	// Failures is the percentage of failed requests of a connection in five minutes, of at least 20, that is told, 1
	// to 100. Default: 20.
	Failures int
	// Secret gives the key of a webhook's signature, 16 characters or more. Required for a webhook.
	Secret *secret.Source
	// From and To are the addresses of mail, To 1 to 16 of them. Required for mail.
	From string
	To   []string
	// User and Password log in to the mail server, after STARTTLS. Default: none.
	User     string
	Password *secret.Source
	// CAFile is the path of PEM certificates to trust beside the system's. Default: "", the system's only.
	CAFile string
	// AllowPlainHTTP accepts a webhook with http, and mail without STARTTLS, on any host. Default: false.
	AllowPlainHTTP bool

	Line, Column int // position in the file
}

const (
	maxSinks      = 16
	minSecret     = 16 // characters of a key for signatures
	DefaultWindow = time.Hour
	// DefaultFailures is a percentage.
	DefaultFailures = 20
)

func (r *reader) sinks(v profile.Value) (list []Sink) {
	for _, entry := range v.List(0, maxSinks) {
		s := r.sink(entry)
		for _, other := range list {
			if s.Name != "" && s.Name == other.Name {
				entry.Problemf("the name %s is taken by the sink in line %d", other.Name, other.Line)
			}
			if s.URL != "" && place(s.URL) == place(other.URL) {
				entry.Problemf("the sink in line %d writes to the same place: name another, or leave one of them out", other.Line)
			}
		}
		list = append(list, s)
	}
	return list
}

// place is a URL in the one form of those that name the same file or host.
func place(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	if u.Scheme == "file" {
		return "file:" + path.Clean(u.Path)
	}
	u.Host = strings.ToLower(u.Host)
	return u.String()
}

func (r *reader) sink(v profile.Value) Sink {
	s := Sink{Format: "native"}
	s.Line, s.Column = v.Position()
	v.Fields(profile.Fields{
		"name":           func(v profile.Value) { s.Name = v.Name() },
		"url":            func(v profile.Value) { s.URL = v.Text() },
		"format":         func(v profile.Value) { s.Format = v.Text() },
		"required":       func(v profile.Value) { s.Required = v.Bool() },
		"start":          func(v profile.Value) { s.FromNow = v.OneOf("beginning", "now") == "now" },
		"secret":         func(v profile.Value) { s.Secret = r.signatureKey(v) },
		"caFile":         func(v profile.Value) { s.CAFile = r.trusted(v) },
		"rewind":         func(v profile.Value) { s.Rewind = duration(v, time.Second, maxDuration) },
		"allowPlainHTTP": func(v profile.Value) { s.AllowPlainHTTP = v.Bool() },
	}, "name", "url")
	return s
}

func (r *reader) alerts(v profile.Value) (list []Alert) {
	for _, entry := range v.List(0, maxSinks) {
		a := r.alert(entry)
		for _, other := range list {
			if a.Name != "" && a.Name == other.Name {
				entry.Problemf("the name %s is taken by the alert in line %d", other.Name, other.Line)
			}
		}
		list = append(list, a)
	}
	return list
}

func (r *reader) alert(v profile.Value) Alert {
	a := Alert{Window: DefaultWindow, Failures: DefaultFailures}
	a.Line, a.Column = v.Position()
	texts := func(list *[]string, low int) func(profile.Value) {
		return func(v profile.Value) {
			for _, entry := range v.List(low, 16) {
				*list = append(*list, entry.Text())
			}
		}
	}
	v.Fields(profile.Fields{
		"name":           func(v profile.Value) { a.Name = v.Name() },
		"url":            func(v profile.Value) { a.URL = v.Text() },
		"causes":         texts(&a.Causes, 1),
		"window":         func(v profile.Value) { a.Window = duration(v, time.Minute, 24*time.Hour) },
		"failures":       func(v profile.Value) { a.Failures = v.Int(1, 100) },
		"secret":         func(v profile.Value) { a.Secret = r.signatureKey(v) },
		"from":           func(v profile.Value) { a.From = v.Text() },
		"to":             texts(&a.To, 1),
		"user":           func(v profile.Value) { a.User = v.Text() },
		"password":       func(v profile.Value) { a.Password = r.source(v) },
		"caFile":         func(v profile.Value) { a.CAFile = r.trusted(v) },
		"allowPlainHTTP": func(v profile.Value) { a.AllowPlainHTTP = v.Bool() },
	}, "name", "url")
	return a
}

// signatureKey reads where the key of a signature comes from.
func (r *reader) signatureKey(v profile.Value) *secret.Source {
	s := r.source(v)
	if s == nil {
		return nil
	}
	if value, err := s.Get(); err == nil && len(value.Reveal()) < minSecret {
		v.Problemf("the secret has %d characters, want %d or more: `scimgate token new` makes one", len(value.Reveal()), minSecret)
		return nil
	}
	return s
}

// trusted reads the path of a file of certificates to trust.
func (r *reader) trusted(v profile.Value) string {
	path := r.path(v)
	if path != "" {
		certificates(path, v.Problemf)
	}
	return path
}
