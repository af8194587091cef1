package config

import (
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"

	"scimgate/config/profile"
	"scimgate/config/secret"
)

// reader reads one configuration and collects what is wrong with it.
type reader struct {
	env      func(string) string
	file     string // "" for the environment alone
	dir      string // what relative paths are relative to
	problems profile.Problems
	warnings []string
	referred []string // the environment variables the file names

	adminAt    complain // where the admin listener's address comes from
	adminToken bool     // a token for it is given, be it good or not
	keyAt      complain // where the key file's path comes from; nil: it is the default
}

// complain adds a problem at a place in the file, or with the name of a variable.
type complain func(format string, args ...any)

func (r *reader) result(c *Config) (*Config, error) {
	if err := r.problems.Err(); err != nil {
		return nil, err
	}
	c.Warnings = r.warnings
	return c, nil
}

// config reads the whole file and what the environment may change of it.
func (r *reader) config(c *Config, v profile.Value) {
	var publicURL, connections *profile.Value
	r.adminAt = v.Problemf
	v.Fields(profile.Fields{
		"listen":         func(v profile.Value) { c.Listen = address(v.Text(), v.Problemf) },
		"publicURL":      func(v profile.Value) { publicURL = &v },
		"allowPlainHTTP": func(v profile.Value) { c.AllowPlainHTTP = v.Bool() },
		"tls":            func(v profile.Value) { c.TLS = r.tls(v) },
		"admin":          func(v profile.Value) { r.adminAt = v.Problemf; r.admin(&c.Admin, v) },
		"database":       func(v profile.Value) { c.Database = r.resolve(database(v.Text(), v.Problemf)) },
		"keyFile":        func(v profile.Value) { r.keyAt = v.Problemf; c.KeyFile = r.path(v) },
		"privacy":        func(v profile.Value) { c.Privacy.read(v) },
		"log":            func(v profile.Value) { c.Log.read(v) },
		"limits":         func(v profile.Value) { c.Limits.read(v) },
		"connections":    func(v profile.Value) { connections = &v },
		"sinks":          func(v profile.Value) { c.Sinks = r.sinks(v) },
		"alerts":         func(v profile.Value) { c.Alerts = r.alerts(v) },
	})
	if publicURL != nil {
		c.PublicURL = readPublicURL(*publicURL, c.AllowPlainHTTP)
	}
	if connections != nil {
		r.connections(c, *connections)
	}
	r.overrides(c)
	r.unusedVariables(connections != nil)
	switch {
	case connections != nil:
	case r.configuresConnection():
		r.connectionFromEnvironment(c)
	case v.IsMapping():
		v.Problemf("connections is missing: list at least one, with its tokens and upstream")
	}
	r.finish(c)
}

// finish makes the defaults and checks that need more than one part.
func (r *reader) finish(c *Config) {
	if c.Database == "" {
		c.Database = filepath.Join(r.dir, DefaultDatabase)
	}
	if c.KeyFile == "" {
		c.KeyFile = c.Database + ".key"
	}
	if r.keyAt != nil && c.KeyFile == c.Database {
		r.keyAt("the database is in this file: give the key one of its own")
	}
	if c.Admin.Listen != "" && !r.adminToken && !profile.IsLoopback(host(c.Admin.Listen)) {
		remedy := "give admin.token"
		if r.file == "" {
			remedy = "set SCIMGATE_ADMIN_TOKEN or SCIMGATE_ADMIN_TOKEN_FILE"
		}
		r.adminAt("the admin listener %s is not on loopback, so it needs a token: %s", c.Admin.Listen, remedy)
	}
	if c.Admin.Listen != "" && c.Admin.Listen == c.Listen && !strings.HasSuffix(c.Listen, ":0") {
		r.adminAt("the admin listener has the address of the SCIM listener, %s: give it another", c.Listen)
	}
}

func (r *reader) admin(a *Admin, v profile.Value) {
	v.Fields(profile.Fields{
		"listen": func(v profile.Value) { r.adminAt = v.Problemf; a.Listen = address(v.Text(), v.Problemf) },
		"token":  func(v profile.Value) { r.adminToken = true; a.Token = r.ownToken(r.source(v), v.Problemf) },
		"tls":    func(v profile.Value) { a.TLS = r.tls(v) },
		"hosts": func(v profile.Value) {
			for _, one := range v.List(1, 64) {
				a.Hosts = append(a.Hosts, hostName(one))
			}
		},
	})
}

// hostName reads a name as it stands in a browser's address, without scheme and port.
func hostName(v profile.Value) string {
	name := v.Text()
	if name != "" && strings.ContainsAny(name, ":/ *@") {
		v.Problemf("want a host name alone, such as console.example.com, not %q", name)
	}
	return name
}

func (l *Log) read(v profile.Value) {
	v.Fields(profile.Fields{
		"level": func(v profile.Value) {
			if word := v.OneOf("debug", "info", "warn", "error"); word != "" {
				l.Level = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}[word]
			}
		},
		"format": func(v profile.Value) { l.Format = v.OneOf("auto", "json", "text") },
	})
}

func (l *Limits) read(v profile.Value) {
	v.Fields(profile.Fields{
		"body":         func(v profile.Value) { l.Body = size(v, 1<<10, 16<<20) },
		"concurrent":   func(v profile.Value) { l.Concurrent = v.Int(1, 65536) },
		"wait":         func(v profile.Value) { l.Wait = duration(v, 0, maxWait) },
		"drainTimeout": func(v profile.Value) { l.DrainTimeout = duration(v, 0, maxDuration) },
	})
}

func readPublicURL(v profile.Value, plain bool) string {
	base := v.URL(plain)
	if _, rest, _ := strings.Cut(base, "://"); strings.Contains(rest, "/") {
		v.Problemf("want scheme://host[:port] without a path: each connection has its own")
	}
	return base
}

// path reads a file's path.
func (r *reader) path(v profile.Value) string { return r.resolve(v.Text()) }

func (r *reader) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(r.dir, path)
}

// database returns text if it is a path for the database, else "".
func database(text string, problemf complain) string {
	lower := strings.ToLower(text)
	switch {
	case strings.HasPrefix(lower, "postgres:") || strings.HasPrefix(lower, "postgresql:"):
		// The URL may hold a password: it is not shown.
		problemf("PostgreSQL is not in this release: give the path of a SQLite file")
	case strings.Contains(text, "://") || strings.HasPrefix(lower, "file:") || lower == ":memory:":
		problemf("want the path of a file: the trail must outlive the process")
	default:
		return text
	}
	return ""
}

func (r *reader) tls(v profile.Value) TLS {
	var t TLS
	v.Fields(profile.Fields{
		"cert": func(v profile.Value) { t.Cert = r.path(v) },
		"key":  func(v profile.Value) { t.Key = r.path(v) },
	}, "cert", "key")
	if t.Cert != "" && t.Key != "" {
		r.keyPair(t, v.Problemf)
	}
	return t
}

// source reads where a secret comes from and tries it. It returns nil after a problem.
func (r *reader) source(v profile.Value) *secret.Source {
	if !v.IsMapping() {
		v.Problemf("a secret does not stand in this file: write it into a file of its own and say {file: PATH}, or say {env: NAME} and set that variable")
		return nil
	}
	var sources []*secret.Source
	v.Fields(r.sourceFields(&sources))
	if len(sources) != 1 {
		v.Problemf("want one of file: PATH and env: NAME")
		return nil
	}
	if !r.try(sources[0], v.Problemf) {
		return nil
	}
	return sources[0]
}

// sourceFields reads the keys that say where a secret comes from, each into one entry of sources: nil after a problem.
func (r *reader) sourceFields(sources *[]*secret.Source) profile.Fields {
	return profile.Fields{
		"file": func(v profile.Value) {
			var s *secret.Source
			if path := r.path(v); path != "" {
				s = secret.File(path)
			}
			*sources = append(*sources, s)
		},
		"env": func(v profile.Value) {
			var s *secret.Source
			if name := v.Text(); variableForm.MatchString(name) {
				r.referred = append(r.referred, name)
				s = secret.Lookup(name, r.env)
			} else if name != "" {
				// Perhaps the secret itself was put here: it is not shown.
				v.Problemf("want the name of an environment variable, letters, digits and _")
			}
			*sources = append(*sources, s)
		},
	}
}

// try reports whether s gives a secret now.
func (r *reader) try(s *secret.Source, problemf complain) bool {
	if s == nil {
		return false
	}
	if _, err := s.Get(); err != nil {
		problemf("%v", err)
		return false
	}
	if warning := s.Warning(); warning != "" {
		r.warnings = append(r.warnings, warning)
	}
	return true
}

// ownToken returns s if what it gives is fit to be a token that others present to us, else nil.
func (r *reader) ownToken(s *secret.Source, problemf complain) *secret.Source {
	if s == nil {
		return nil
	}
	value, err := s.Get()
	if err == nil {
		err = checkToken(value)
	}
	if err != nil {
		problemf("%v", err)
		return nil
	}
	return s
}

// host returns the host of a checked address, without brackets and zone.
func host(address string) string {
	if a, err := netip.ParseAddrPort(address); err == nil {
		return a.Addr().WithZone("").String()
	}
	return address[:max(0, strings.LastIndexByte(address, ':'))]
}
