package config

import (
	"crypto/sha256"
	"path/filepath"
	"reflect"
	"testing"

	"scimgate/config/profile"
)

func TestEnvironmentAlone(t *testing.T) {
	dir := folder(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	hash := sha256.Sum256([]byte(inbound))

	t.Run("nothing", func(t *testing.T) {
		c, err := Load("", environ())
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Connections) != 0 || c.Simulate == nil || c.Simulate.Name != "bluejeans" || c.Listen != "127.0.0.1:8080" ||
			c.Admin.Listen != "127.0.0.1:9090" || c.Database != "scimgate.db" || c.KeyFile != "scimgate.db.key" || c.Admin.Token != nil {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("a profile to simulate", func(t *testing.T) {
		c, err := Load("", environ("SCIMGATE_PROFILE", "generic", "SCIMGATE_LISTEN", ":0"))
		if err != nil || len(c.Connections) != 0 || c.Simulate.Name != "generic" || c.Listen != ":0" {
			t.Errorf("got %+v, %v", c, err)
		}
	})
	t.Run("least", func(t *testing.T) {
		c, err := Load("", environ("SCIMGATE_TOKEN", inbound, "SCIMGATE_UPSTREAM_TOKEN", onward))
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Connections) != 1 || c.Simulate != nil {
			t.Fatalf("got %+v", c)
		}
		got := c.Connections[0]
		if value, err := got.Upstream.Token.Get(); err != nil || value.Reveal() != onward {
			t.Errorf("upstream token: got %q, %v", value.Reveal(), err)
		}
		if got.Name != "default" || got.Path != "/scim/v2" || got.Profile.Name != "bluejeans" || got.Line != 0 ||
			!reflect.DeepEqual(got.Tokens, []Token{{Name: "default", SHA256: hash}}) {
			t.Errorf("got %+v", got)
		}
		want := defaultUpstream(got.Profile)
		got.Upstream.Token = nil
		if got.Upstream != want || want.URL != "https://api.bluejeans.com/v2/scim" || want.RequestsPerSecond != 10 {
			t.Errorf("got %+v, want %+v", got.Upstream, want)
		}
	})
	t.Run("every variable", func(t *testing.T) {
		c, err := Load("", environ("SCIMGATE_LISTEN", "0.0.0.0:443", "SCIMGATE_ADMIN_LISTEN", "0.0.0.0:9090", "SCIMGATE_PROFILE", "generic",
			"SCIMGATE_TOKEN_FILE", in("inbound"), "SCIMGATE_UPSTREAM_URL", "https://u.example/scim/", "SCIMGATE_UPSTREAM_TOKEN_FILE", in("onward"),
			"SCIMGATE_UPSTREAM_RATE", "2.5", "SCIMGATE_DATABASE", "data/trail.db", "SCIMGATE_TLS_CERT", in("a.crt"), "SCIMGATE_TLS_KEY", in("a.key"),
			"SCIMGATE_ADMIN_TOKEN_FILE", in("inbound")))
		if err != nil {
			t.Fatal(err)
		}
		u := c.Connections[0].Upstream
		if c.Listen != "0.0.0.0:443" || c.Admin.Listen != "0.0.0.0:9090" || c.Database != "data/trail.db" || c.KeyFile != "data/trail.db.key" ||
			c.TLS != (TLS{in("a.crt"), in("a.key")}) || c.Admin.Token.String() != "file "+in("inbound") || u.URL != "https://u.example/scim" ||
			u.RequestsPerSecond != 2.5 || u.InFlight != 32 || u.Token.String() != "file "+in("onward") || c.Connections[0].Tokens[0].SHA256 != hash {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("rate 0 is the profile's", func(t *testing.T) {
		c, err := Load("", environ("SCIMGATE_TOKEN", inbound, "SCIMGATE_UPSTREAM_TOKEN", onward, "SCIMGATE_UPSTREAM_RATE", "0"))
		if err != nil || c.Connections[0].Upstream.RequestsPerSecond != 10 {
			t.Errorf("got %+v, %v, want 10", c, err)
		}
	})
}

func TestEnvironmentProblems(t *testing.T) {
	dir := folder(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	both := []string{"SCIMGATE_TOKEN", inbound, "SCIMGATE_UPSTREAM_TOKEN", onward}
	for _, test := range []struct {
		name string
		env  []string
		want string
	}{
		{"inbound token alone", []string{"SCIMGATE_TOKEN", inbound}, "SCIMGATE_UPSTREAM_TOKEN: is not set"},
		{"upstream token alone", []string{"SCIMGATE_UPSTREAM_TOKEN", onward}, "SCIMGATE_TOKEN: is not set"},
		{"rate alone", []string{"SCIMGATE_UPSTREAM_RATE", "1"}, "SCIMGATE_TOKEN: is not set|SCIMGATE_UPSTREAM_TOKEN: is not set"},
		{"short", []string{"SCIMGATE_TOKEN", "hunter2", "SCIMGATE_UPSTREAM_TOKEN", onward}, "SCIMGATE_TOKEN: the token has 7 characters, want 16 to 200"},
		{"characters", []string{"SCIMGATE_TOKEN", "hunter2 hunter2 hunter2", "SCIMGATE_UPSTREAM_TOKEN", onward}, "SCIMGATE_TOKEN: the token has characters"},
		{"short file", []string{"SCIMGATE_TOKEN_FILE", in("short"), "SCIMGATE_UPSTREAM_TOKEN", onward}, "SCIMGATE_TOKEN_FILE: the token has 5 characters"},
		{"file missing", []string{"SCIMGATE_TOKEN", inbound, "SCIMGATE_UPSTREAM_TOKEN_FILE", in("none")}, "SCIMGATE_UPSTREAM_TOKEN_FILE: file none does not exist"},
		{"token and file", append(both, "SCIMGATE_TOKEN_FILE", in("inbound")), "SCIMGATE_TOKEN: is set, and SCIMGATE_TOKEN_FILE too"},
		{"upstream token and file", append(both, "SCIMGATE_UPSTREAM_TOKEN_FILE", in("onward")), "SCIMGATE_UPSTREAM_TOKEN: is set, and SCIMGATE_UPSTREAM_TOKEN_FILE too"},
		{"url", append(both, "SCIMGATE_UPSTREAM_URL", "http://u:hunter2@example.com"), "SCIMGATE_UPSTREAM_URL: no user or password"},
		{"url http", append(both, "SCIMGATE_UPSTREAM_URL", "http://example.com"), "SCIMGATE_UPSTREAM_URL: want https"},
		{"url missing", append(both, "SCIMGATE_PROFILE", "generic"), "SCIMGATE_UPSTREAM_URL: is not set, and the profile generic has no URL"},
		{"rate", append(both, "SCIMGATE_UPSTREAM_RATE", "fast"), "SCIMGATE_UPSTREAM_RATE: want requests per second from 0 to 10000"},
		{"rate not a number", append(both, "SCIMGATE_UPSTREAM_RATE", "NaN"), "SCIMGATE_UPSTREAM_RATE: want requests per second"},
		{"profile", append(both, "SCIMGATE_PROFILE", "okta"), "SCIMGATE_PROFILE: no profile \"okta\" is built in"},
		{"profile to simulate", []string{"SCIMGATE_PROFILE", "okta"}, "SCIMGATE_PROFILE: no profile"},
		{"profile file", []string{"SCIMGATE_PROFILE", in("short")}, "short:1:1: want a mapping"},
		{"listen", []string{"SCIMGATE_LISTEN", "8080"}, "SCIMGATE_LISTEN: want host:port"},
		{"admin without token", []string{"SCIMGATE_ADMIN_LISTEN", ":9090"}, "SCIMGATE_ADMIN_LISTEN: the admin listener :9090 is not on loopback*set SCIMGATE_ADMIN_TOKEN"},
		{"admin with a short token", []string{"SCIMGATE_ADMIN_LISTEN", ":9090", "SCIMGATE_ADMIN_TOKEN", "hunter2"}, "SCIMGATE_ADMIN_TOKEN: the token has 7 characters"},
		{"one address", []string{"SCIMGATE_LISTEN", "127.0.0.1:9090"}, "SCIMGATE_ADMIN_LISTEN: the admin listener has the address of the SCIM listener"},
		{"database", []string{"SCIMGATE_DATABASE", "postgresql://u:hunter2@db/x"}, "SCIMGATE_DATABASE: PostgreSQL is not in this release"},
		{"certificate alone", []string{"SCIMGATE_TLS_CERT", in("a.crt")}, "SCIMGATE_TLS_CERT: set SCIMGATE_TLS_KEY too"},
		{"key alone", []string{"SCIMGATE_TLS_KEY", in("a.key")}, "SCIMGATE_TLS_KEY: set SCIMGATE_TLS_CERT too"},
		{"pair", []string{"SCIMGATE_TLS_CERT", in("a.crt"), "SCIMGATE_TLS_KEY", in("b.key")}, "SCIMGATE_TLS_CERT: certificate a.crt and key b.key do not work together"},
		{"several at once", []string{"SCIMGATE_LISTEN", "x", "SCIMGATE_TOKEN", "hunter2", "SCIMGATE_DATABASE", ":memory:"},
			"SCIMGATE_DATABASE: want|SCIMGATE_LISTEN: want|SCIMGATE_TOKEN: the token|SCIMGATE_UPSTREAM_TOKEN: is not set"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Load("", environ(test.env...))
			wantProblems(t, dir, c, err, test.want)
		})
	}
}

func TestFileAndEnvironment(t *testing.T) {
	dir := folder(t)
	in := func(name string) string { return filepath.Join(dir, name) }

	t.Run("overrides", func(t *testing.T) {
		c := parse(t, dir, connection+"listen: :1\nadmin: {listen: 127.0.0.1:2}\ndatabase: x.db\ntls: {cert: b.crt, key: b.key}\n",
			"SCIMGATE_LISTEN", ":3", "SCIMGATE_ADMIN_LISTEN", "localhost:4", "SCIMGATE_DATABASE", "y.db", "SCIMGATE_TLS_CERT", in("a.crt"), "SCIMGATE_TLS_KEY", in("a.key"))
		if c.Listen != ":3" || c.Admin.Listen != "localhost:4" || c.Database != "y.db" || c.KeyFile != "y.db.key" || c.TLS != (TLS{in("a.crt"), in("a.key")}) {
			t.Errorf("got %+v, want what the environment says", c)
		}
	})
	t.Run("the file refers to the variables", func(t *testing.T) {
		c := parse(t, dir, "admin: {token: {env: SCIMGATE_ADMIN_TOKEN}}\nconnections:\n  - name: one\n    tokens: [{name: t, env: SCIMGATE_TOKEN}]\n    upstream: {token: {env: SCIMGATE_UPSTREAM_TOKEN}}\n",
			"SCIMGATE_ADMIN_TOKEN", inbound, "SCIMGATE_TOKEN", inbound, "SCIMGATE_UPSTREAM_TOKEN", onward)
		if c.Connections[0].Upstream.Token.String() != "environment SCIMGATE_UPSTREAM_TOKEN" {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("a file without connections", func(t *testing.T) {
		c := parse(t, dir, "limits: {concurrent: 3}\n", "SCIMGATE_TOKEN", inbound, "SCIMGATE_UPSTREAM_TOKEN", onward, "SCIMGATE_PROFILE", "bluejeans")
		if len(c.Connections) != 1 || c.Connections[0].Name != "default" || c.Limits.Concurrent != 3 || c.Database != in("scimgate.db") {
			t.Errorf("got %+v, want the environment's connection", c)
		}
	})

	for _, test := range []struct {
		name, src string
		env       []string
		want      string
	}{
		{"every connection variable", connection, []string{"SCIMGATE_PROFILE", "generic", "SCIMGATE_TOKEN", inbound, "SCIMGATE_TOKEN_FILE", "x", "SCIMGATE_UPSTREAM_URL", "x",
			"SCIMGATE_UPSTREAM_TOKEN", onward, "SCIMGATE_UPSTREAM_TOKEN_FILE", "x", "SCIMGATE_UPSTREAM_RATE", "x"},
			"SCIMGATE_PROFILE: is set, but c.yaml has connections: unset it and say it there|SCIMGATE_TOKEN: is set, but c.yaml has connections: unset it, or refer to it there with env: SCIMGATE_TOKEN|" +
				"SCIMGATE_TOKEN_FILE: is set|SCIMGATE_UPSTREAM_RATE: is set|SCIMGATE_UPSTREAM_TOKEN: is set|SCIMGATE_UPSTREAM_TOKEN_FILE: is set|SCIMGATE_UPSTREAM_URL: is set"},
		{"admin token", connection, []string{"SCIMGATE_ADMIN_TOKEN", inbound}, "SCIMGATE_ADMIN_TOKEN: is set, but c.yaml does not refer to it"},
		{"admin token file", connection, []string{"SCIMGATE_ADMIN_TOKEN_FILE", in("inbound")}, "SCIMGATE_ADMIN_TOKEN_FILE: is set, but has no effect beside a file"},
		{"admin listener moved", connection, []string{"SCIMGATE_ADMIN_LISTEN", "0.0.0.0:9090"}, "SCIMGATE_ADMIN_LISTEN: the admin listener 0.0.0.0:9090 is not on loopback*give admin.token"},
		{"certificate alone", connection + "tls: {cert: a.crt, key: a.key}\n", []string{"SCIMGATE_TLS_CERT", in("a.crt")}, "SCIMGATE_TLS_CERT: set SCIMGATE_TLS_KEY too"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Parse(in("c.yaml"), []byte(test.src), environ(test.env...))
			wantProblems(t, dir, c, err, test.want)
		})
	}
}

// Whatever it is handed, Parse returns a configuration that fits its own documentation, or Problems.
func FuzzParse(f *testing.F) {
	for _, src := range []string{"", Example(), connection, connection + "tls: {cert: a, key: b}\n", "connections: [{name: a, overrides: {User: {attributes: [{path: userName}]}}}]"} {
		f.Add([]byte(src))
	}
	env := environ("SCIMGATE_UPSTREAM_TOKEN", onward, "A", inbound)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := Parse(filepath.Join(dir, "c.yaml"), src, env)
		if err != nil {
			if problems, ok := err.(profile.Problems); c != nil || !ok || len(problems) == 0 {
				t.Fatalf("got %+v, %T, want Problems and no Config", c, err)
			}
			return
		}
		if c.Listen == "" || c.Admin.Listen == "" || c.Database == "" || c.KeyFile == "" || len(c.Connections) == 0 {
			t.Fatalf("got %+v", c)
		}
		for _, connection := range c.Connections {
			u := connection.Upstream
			if connection.Name == "" || connection.Path == "" || len(connection.Tokens) == 0 || connection.Profile == nil ||
				u.URL == "" || u.Token == nil || u.InFlight < 1 || u.Timeout <= 0 || u.Timeout > u.Deadline || u.QueueWait > u.Deadline || u.MaxBody < 1 {
				t.Fatalf("got %+v", connection)
			}
		}
	})
}
