package config

import (
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"scimgate/config/profile"
	"scimgate/config/secret"
)

func (r *reader) connections(c *Config, v profile.Value) {
	entries := v.List(1, 64)
	for _, entry := range entries {
		connection := r.connection(entry, len(entries) > 1)
		for _, other := range c.Connections {
			if connection.Name != "" && connection.Name == other.Name {
				entry.Problemf("the name %s is taken by the connection in line %d", other.Name, other.Line)
			}
			if overlap(connection.Path, other.Path) {
				entry.Problemf("the path %s overlaps %s of the connection in line %d", connection.Path, other.Path, other.Line)
			}
		}
		c.Connections = append(c.Connections, connection)
	}
}

// overlap reports whether one path is the other or lies below it. Case does not tell them apart, because clients and
// proxies are not of one mind about it.
func overlap(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	a, b = strings.ToLower(a)+"/", strings.ToLower(b)+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

func (r *reader) connection(v profile.Value, several bool) Connection {
	var c Connection
	c.Line, c.Column = v.Position()
	profileAt := v
	name := DefaultProfile
	var overrides, upstream *profile.Value
	required := []string{"name", "tokens", "upstream"}
	if several {
		required = append(required, "path")
	} else {
		c.Path = DefaultPath
	}
	v.Fields(profile.Fields{
		"name":      func(v profile.Value) { c.Name = v.Name() },
		"path":      func(v profile.Value) { c.Path = readPath(v) },
		"tokens":    func(v profile.Value) { c.Tokens = r.tokens(v) },
		"profile":   func(v profile.Value) { profileAt, name = v, r.profileName(v) },
		"overrides": func(v profile.Value) { overrides = &v },
		"upstream":  func(v profile.Value) { upstream = &v },
	}, required...)
	if name != "" {
		c.Profile = r.profile(name, profileAt.Problemf)
	}
	if c.Profile != nil && overrides != nil {
		c.Profile = c.Profile.Override(*overrides)
	}
	if upstream != nil {
		r.upstream(&c.Upstream, *upstream, c.Profile)
	}
	return c
}

// readPath reads a SCIM base path.
func readPath(v profile.Value) string {
	text := v.Text()
	if text != "" && (!pathForm.MatchString(text) || len(text) > 200) {
		v.Problemf("want a path such as /scim/v2, of letters, digits, -, ., _ and ~, without a slash at its end, got %s", profile.Quote(text))
		return ""
	}
	return text
}

// profileName reads the name of a built-in profile or the path of another.
func (r *reader) profileName(v profile.Value) string {
	name := v.Text()
	if profile.IsPath(name) {
		return r.resolve(name)
	}
	return name
}

// profile loads a built-in profile or a file's. It returns nil after a problem.
func (r *reader) profile(name string, problemf complain) *profile.Profile {
	p, err := profile.Load(name)
	if problems, ok := errors.AsType[profile.Problems](err); ok {
		r.problems = append(r.problems, problems...)
		return nil
	}
	if err != nil {
		problemf("%v", err)
		return nil
	}
	return p
}

func (r *reader) tokens(v profile.Value) []Token {
	var tokens []Token
	for _, entry := range v.List(1, 4) {
		t, ok := r.token(entry)
		for _, other := range tokens {
			if t.Name != "" && t.Name == other.Name {
				entry.Problemf("the name %s stands here twice", t.Name)
			}
			if ok && t.SHA256 == other.SHA256 {
				entry.Problemf("the same token as %s", other.Name)
			}
		}
		tokens = append(tokens, t)
	}
	return tokens
}

// token reads one Secret Token. ok is false when its hash is not known.
func (r *reader) token(v profile.Value) (t Token, ok bool) {
	if !v.IsMapping() {
		v.Problemf("a token does not stand in this file: give it a name and one of sha256, file and env")
		return t, false
	}
	var sources []*secret.Source
	hashes := 0
	fields := r.sourceFields(&sources)
	fields["name"] = func(v profile.Value) { t.Name = v.Name() }
	fields["sha256"] = func(v profile.Value) { hashes++; t.SHA256 = readHash(v) }
	fields["expires"] = func(v profile.Value) { t.Expires = readTime(v) }
	v.Fields(fields, "name")
	switch {
	case hashes+len(sources) != 1:
		v.Problemf("want one of sha256, file and env")
	case hashes == 1:
		ok = t.SHA256 != [32]byte{}
	case r.try(sources[0], v.Problemf):
		if s := r.ownToken(sources[0], v.Problemf); s != nil {
			t.SHA256, ok = hashOf(s), true
		}
	}
	return t, ok
}

// hashOf returns the hash of what s gives. s was tried: a Source that gave a value once always gives one.
func hashOf(s *secret.Source) [32]byte {
	value, _ := s.Get()
	return sha256.Sum256([]byte(value.Reveal()))
}

func readTime(v profile.Value) time.Time {
	text := v.Text()
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.IsZero() {
		v.Problemf("want a time such as 2027-01-31T00:00:00Z, got %s", profile.Quote(text))
	}
	return t
}

// upstream reads how the upstream is called. p is nil when the profile could not be read.
func (r *reader) upstream(u *Upstream, v profile.Value, p *profile.Profile) {
	*u = defaultUpstream(p)
	u.QueueWait, u.Timeout = 0, 0 // to see whether they are given: their defaults depend on Deadline
	var url, queueWait, timeout *profile.Value
	v.Fields(profile.Fields{
		"url":            func(v profile.Value) { url = &v },
		"allowPlainHTTP": func(v profile.Value) { u.AllowPlainHTTP = v.Bool() },
		"token":          func(v profile.Value) { u.Token = r.source(v) },
		"caFile":         func(v profile.Value) { u.CAFile = r.trusted(v) },
		"requestsPerSecond": func(v profile.Value) {
			if pace := v.Number(0, profile.MaxRequestsPerSecond); pace > 0 {
				u.RequestsPerSecond = pace
			}
		},
		"inFlight":  func(v profile.Value) { u.InFlight = v.Int(1, profile.MaxInFlight) },
		"queue":     func(v profile.Value) { u.Queue = v.Int(0, 100_000) },
		"queueWait": func(v profile.Value) { queueWait = &v },
		"timeout":   func(v profile.Value) { timeout = &v },
		"deadline":  func(v profile.Value) { u.Deadline = duration(v, minTimeout, maxDuration) },
		"maxBody":   func(v profile.Value) { u.MaxBody = size(v, 1<<10, 256<<20) },
	}, "token")
	u.QueueWait = within(u.Deadline, queueWait, 0, DefaultQueueWait)
	u.Timeout = within(u.Deadline, timeout, minTimeout, DefaultTimeout)
	switch {
	case url != nil:
		u.URL = url.URL(u.AllowPlainHTTP)
	case p != nil && p.URL == "":
		v.Problemf("url is missing: the profile %s has none", p.Name)
	}
}

const minTimeout = 10 * time.Millisecond

// within reads a duration that is a part of deadline. v is nil when it is not given.
func within(deadline time.Duration, v *profile.Value, low, otherwise time.Duration) time.Duration {
	if v == nil {
		return min(otherwise, deadline)
	}
	d := duration(*v, low, maxDuration)
	if d > deadline {
		v.Problemf("%v is longer than the deadline of the whole exchange, %v: it would never be reached", d, deadline)
	}
	return d
}

func defaultUpstream(p *profile.Profile) Upstream {
	u := Upstream{Queue: DefaultQueue, QueueWait: DefaultQueueWait, Timeout: DefaultTimeout, Deadline: DefaultDeadline, MaxBody: DefaultMaxBody}
	if p != nil {
		u.URL, u.RequestsPerSecond, u.InFlight = p.URL, p.Rate.RequestsPerSecond, p.Rate.InFlight
	}
	return u
}
