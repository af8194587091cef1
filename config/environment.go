package config

import (
	"fmt"
	"slices"
	"strconv"

	"scimgate/config/profile"
	"scimgate/config/secret"
)

// The variables that configure a connection: without a file, or with one that has no connections.
var connectionVariables = []string{
	"SCIMGATE_TOKEN", "SCIMGATE_TOKEN_FILE", "SCIMGATE_UPSTREAM_URL", "SCIMGATE_UPSTREAM_TOKEN",
	"SCIMGATE_UPSTREAM_TOKEN_FILE", "SCIMGATE_UPSTREAM_RATE",
}

// fromEnvironment reads a configuration from the environment alone.
func fromEnvironment(env func(string) string) (*Config, error) {
	r := &reader{env: env}
	r.adminAt = r.variable("SCIMGATE_ADMIN_LISTEN")
	c := defaults()
	r.overrides(c)
	r.adminToken = !r.missing("SCIMGATE_ADMIN_TOKEN")
	c.Admin.Token = r.tokenVariable("SCIMGATE_ADMIN_TOKEN", r.ownToken)
	if r.configuresConnection() {
		r.connectionFromEnvironment(c)
	} else {
		c.Simulate = r.profileVariable()
	}
	r.finish(c)
	return r.result(c)
}

// variable returns the complaint about an environment variable.
func (r *reader) variable(name string) complain {
	return func(format string, args ...any) {
		r.problems = append(r.problems, profile.Problem{File: name, Message: fmt.Sprintf(format, args...)})
	}
}

// overrides takes the variables that count with and without a file.
func (r *reader) overrides(c *Config) {
	if text := r.env("SCIMGATE_LISTEN"); text != "" {
		c.Listen = address(text, r.variable("SCIMGATE_LISTEN"))
	}
	if text := r.env("SCIMGATE_ADMIN_LISTEN"); text != "" {
		r.adminAt = r.variable("SCIMGATE_ADMIN_LISTEN")
		c.Admin.Listen = address(text, r.adminAt)
	}
	if text := r.env("SCIMGATE_DATABASE"); text != "" {
		c.Database = database(text, r.variable("SCIMGATE_DATABASE"))
	}
	t := TLS{r.env("SCIMGATE_TLS_CERT"), r.env("SCIMGATE_TLS_KEY")}
	switch {
	case t == TLS{}:
	case t.Key == "":
		r.variable("SCIMGATE_TLS_CERT")("set SCIMGATE_TLS_KEY too: a certificate needs its key")
	case t.Cert == "":
		r.variable("SCIMGATE_TLS_KEY")("set SCIMGATE_TLS_CERT too: a key needs its certificate")
	default:
		c.TLS = t
		r.keyPair(t, r.variable("SCIMGATE_TLS_CERT"))
	}
}

// unusedVariables complains about variables that are set and that the file leaves without effect.
func (r *reader) unusedVariables(connections bool) {
	names := []string{"SCIMGATE_ADMIN_TOKEN", "SCIMGATE_ADMIN_TOKEN_FILE"}
	if connections {
		names = append(append(names, "SCIMGATE_PROFILE"), connectionVariables...)
	}
	for _, name := range names {
		if r.env(name) == "" || slices.Contains(r.referred, name) {
			continue
		}
		switch name {
		case "SCIMGATE_TOKEN", "SCIMGATE_UPSTREAM_TOKEN":
			r.variable(name)("is set, but %s has connections: unset it, or refer to it there with env: %s", r.file, name)
		case "SCIMGATE_ADMIN_TOKEN":
			r.variable(name)("is set, but %s does not refer to it: unset it, or say admin: {token: {env: %s}} there", r.file, name)
		case "SCIMGATE_ADMIN_TOKEN_FILE":
			r.variable(name)("is set, but has no effect beside a file: say admin: {token: {file: PATH}} in %s instead", r.file)
		default:
			r.variable(name)("is set, but %s has connections: unset it and say it there", r.file)
		}
	}
}

// configuresConnection reports whether a variable that configures a connection is set.
func (r *reader) configuresConnection() bool {
	return slices.ContainsFunc(connectionVariables, func(name string) bool { return r.env(name) != "" })
}

// connectionFromEnvironment makes the one connection the environment can configure.
func (r *reader) connectionFromEnvironment(c *Config) {
	connection := Connection{Name: "default", Path: DefaultPath, Profile: r.profileVariable()}
	u := defaultUpstream(connection.Profile)

	if r.missing("SCIMGATE_TOKEN") {
		r.variable("SCIMGATE_TOKEN")("is not set: set it, or SCIMGATE_TOKEN_FILE, to the token that clients present (`scimgate token new` makes one)")
	} else if s := r.tokenVariable("SCIMGATE_TOKEN", r.ownToken); s != nil {
		connection.Tokens = []Token{{Name: "default", SHA256: hashOf(s)}}
	}
	if r.missing("SCIMGATE_UPSTREAM_TOKEN") {
		r.variable("SCIMGATE_UPSTREAM_TOKEN")("is not set: set it, or SCIMGATE_UPSTREAM_TOKEN_FILE, to the upstream's bearer token")
	} else {
		u.Token = r.tokenVariable("SCIMGATE_UPSTREAM_TOKEN", nil)
	}
	if text := r.env("SCIMGATE_UPSTREAM_URL"); text != "" {
		base, err := profile.BaseURL(text, false)
		if err != nil {
			r.variable("SCIMGATE_UPSTREAM_URL")("%v", err)
		}
		u.URL = base
	} else if connection.Profile != nil && u.URL == "" {
		r.variable("SCIMGATE_UPSTREAM_URL")("is not set, and the profile %s has no URL of its own", connection.Profile.Name)
	}
	if text := r.env("SCIMGATE_UPSTREAM_RATE"); text != "" {
		pace, err := strconv.ParseFloat(text, 64)
		if err != nil || !(0 <= pace && pace <= profile.MaxRequestsPerSecond) {
			r.variable("SCIMGATE_UPSTREAM_RATE")("want requests per second from 0 to %d, got %s", profile.MaxRequestsPerSecond, profile.Quote(text))
		}
		if pace > 0 {
			u.RequestsPerSecond = pace
		}
	}
	connection.Upstream = u
	c.Connections = []Connection{connection}
}

// missing reports whether neither the variable name nor the one for its file is set.
func (r *reader) missing(name string) bool { return r.env(name) == "" && r.env(name+"_FILE") == "" }

// profileVariable loads the profile that SCIMGATE_PROFILE names. It returns nil after a problem.
func (r *reader) profileVariable() *profile.Profile {
	name := r.env("SCIMGATE_PROFILE")
	if name == "" {
		name = DefaultProfile
	}
	return r.profile(name, r.variable("SCIMGATE_PROFILE"))
}

// tokenVariable returns the secret in the variable name or in the file that name_FILE names, after check if there is
// one; nil when neither is set, and after a problem.
func (r *reader) tokenVariable(name string, check func(*secret.Source, complain) *secret.Source) *secret.Source {
	path := r.env(name + "_FILE")
	var s *secret.Source
	problemf := r.variable(name)
	switch {
	case path != "" && r.env(name) != "":
		problemf("is set, and %s_FILE too: set one of them", name)
		return nil
	case path != "":
		s, problemf = secret.File(path), r.variable(name+"_FILE")
	case r.env(name) != "":
		s = secret.Lookup(name, r.env)
	default:
		return nil
	}
	if !r.try(s, problemf) {
		return nil
	}
	if check != nil {
		return check(s, problemf)
	}
	return s
}
