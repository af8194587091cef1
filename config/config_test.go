package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"scimgate/config/profile"
)

const (
	inbound = "canary-inbound-5d2c8e1f" // secrets that may appear nowhere
	onward  = "canary-onward-77aa01bc"
)

// environ returns the environment of a test: exactly the given name, value pairs.
func environ(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

// folder is a folder with the files that tests refer to, and relative names for them.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("inbound", inbound+"\n")
	put("onward", onward+"\n")
	put("short", "short\n")
	put("empty", "")
	for _, name := range []string{"a", "b"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		put(name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
		put(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	}
	return dir
}

const connection = `connections:
  - name: one
    tokens: [{name: t, file: inbound}]
    upstream: {token: {file: onward}}
`

func parse(t *testing.T, dir, src string, env ...string) *Config {
	t.Helper()
	c, err := Parse(filepath.Join(dir, "c.yaml"), []byte(src), environ(env...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	dir := folder(t)
	c := parse(t, dir, connection)
	db := filepath.Join(dir, "scimgate.db")
	want := &Config{
		Listen: "127.0.0.1:8080", Admin: Admin{Listen: "127.0.0.1:9090"}, Database: db, KeyFile: db + ".key", Privacy: Privacy{Seal: true},
		Log:    Log{Level: slog.LevelInfo, Format: "auto"},
		Limits: Limits{Body: 256 << 10, Concurrent: 256, Wait: 10 * time.Second, DrainTimeout: 15 * time.Second},
	}
	connections := c.Connections
	c.Connections = nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
	bluejeans, err := profile.Load("bluejeans")
	if err != nil || len(connections) != 1 {
		t.Fatalf("got %d connections, %v, want 1", len(connections), err)
	}
	got := connections[0]
	if value, err := got.Upstream.Token.Get(); err != nil || value.Reveal() != onward {
		t.Errorf("upstream token: got %q, %v", value.Reveal(), err)
	}
	got.Upstream.Token = nil
	wantConnection := Connection{
		Name: "one", Path: "/scim/v2", Profile: bluejeans, Line: 2, Column: 5,
		Tokens: []Token{{Name: "t", SHA256: sha256.Sum256([]byte(inbound))}},
		Upstream: Upstream{URL: "https://api.bluejeans.com/v2/scim", RequestsPerSecond: 10, InFlight: 4, Queue: 256,
			QueueWait: 20 * time.Second, Timeout: 10 * time.Second, Deadline: 25 * time.Second, MaxBody: 8 << 20},
	}
	if !reflect.DeepEqual(got, wantConnection) {
		t.Errorf("got %+v, want %+v", got, wantConnection)
	}
}

func TestEverySetting(t *testing.T) {
	dir := folder(t)
	hash := fmt.Sprintf("%X", sha256.Sum256([]byte("another")))
	if err := os.WriteFile(filepath.Join(dir, "mine.yaml"), []byte("name: mine\nurl: https://u.example/scim\nresources:\n  - {name: User, endpoint: /Users, complete: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := parse(t, dir, `listen: "[::1]:0"
publicURL: http://scim.internal:8080/
allowPlainHTTP: true
tls: {cert: a.crt, key: a.key}
admin:
  listen: :9090
  token: {env: ADMIN}
  tls: {cert: b.crt, key: b.key}
  hosts: [console.example.com, admin]
database: data/trail.db
keyFile: /keys/k
log: {level: debug, format: json}
limits: {body: 1MiB, concurrent: 10, wait: 0s, drainTimeout: 1m}
connections:
  - name: one
    path: /scim/one
    tokens:
      - {name: by-hash, sha256: `+hash+`, expires: 2027-01-31T12:00:00+02:00}
      - {name: by-env, env: TOKEN}
    overrides: {User: {unlisted: keep}}
    upstream:
      url: http://10.1.2.3/scim/
      allowPlainHTTP: true
      token: {env: ONWARD}
      caFile: a.crt
      requestsPerSecond: 2.5
      inFlight: 2
      queue: 0
      deadline: 5s
      timeout: 500ms
      maxBody: 4096
  - name: two
    path: /scim/two
    profile: mine.yaml
    tokens: [{name: t, file: inbound}]
    upstream: {requestsPerSecond: 0, deadline: 8s, token: {file: onward}}
`, "ADMIN", inbound, "TOKEN", inbound, "ONWARD", onward)
	in := func(name string) string { return filepath.Join(dir, name) }
	if c.Listen != "[::1]:0" || c.PublicURL != "http://scim.internal:8080" || !c.AllowPlainHTTP || c.Database != in("data/trail.db") || c.KeyFile != "/keys/k" ||
		c.TLS != (TLS{in("a.crt"), in("a.key")}) || c.Admin.Listen != ":9090" || c.Admin.TLS != (TLS{in("b.crt"), in("b.key")}) ||
		!slices.Equal(c.Admin.Hosts, []string{"console.example.com", "admin"}) ||
		c.Admin.Token.String() != "environment ADMIN" || c.Log != (Log{slog.LevelDebug, "json"}) ||
		c.Limits != (Limits{1 << 20, 10, 0, time.Minute}) {
		t.Errorf("got %+v", c)
	}
	one, two := c.Connections[0], c.Connections[1]
	if one.Path != "/scim/one" || two.Path != "/scim/two" || two.Profile.Name != "mine" || two.Profile.File != in("mine.yaml") ||
		one.Profile.Resource("User").Unlisted != profile.HandlingKeep || one.Line != 15 || two.Line != 32 {
		t.Errorf("got %+v and %+v", one, two)
	}
	if len(one.Tokens) != 2 || one.Tokens[0].SHA256 != sha256.Sum256([]byte("another")) || one.Tokens[1].SHA256 != sha256.Sum256([]byte(inbound)) ||
		!one.Tokens[0].Expires.Equal(time.Date(2027, 1, 31, 10, 0, 0, 0, time.UTC)) || !one.Tokens[1].Expires.IsZero() {
		t.Errorf("tokens: got %+v", one.Tokens)
	}
	one.Upstream.Token, two.Upstream.Token = nil, nil
	if want := (Upstream{URL: "http://10.1.2.3/scim", AllowPlainHTTP: true, CAFile: in("a.crt"), RequestsPerSecond: 2.5, InFlight: 2,
		QueueWait: 5 * time.Second, Timeout: 500 * time.Millisecond, Deadline: 5 * time.Second, MaxBody: 4096}); one.Upstream != want {
		t.Errorf("got %+v, want %+v", one.Upstream, want)
	}
	if want := (Upstream{URL: "https://u.example/scim", InFlight: 8, Queue: 256, QueueWait: 8 * time.Second, Timeout: 8 * time.Second,
		Deadline: 8 * time.Second, MaxBody: 8 << 20}); two.Upstream != want {
		t.Errorf("got %+v, want %+v", two.Upstream, want)
	}
}

func TestExample(t *testing.T) {
	c := parse(t, t.TempDir(), Example(), "SCIMGATE_UPSTREAM_TOKEN", onward)
	if len(c.Connections) != 1 || c.Connections[0].Profile.Name != "bluejeans" || len(c.Warnings) != 0 {
		t.Fatalf("got %+v", c)
	}
	for _, a := range c.Connections[0].Profile.Resource("User").Attributes {
		if a.Path == "userName" && (a.OnViolation != profile.ViolationAlias || a.MaxLength != 30) {
			t.Errorf("userName: got %+v, want the override", a)
		}
	}
}

// What the example shows as a default or a value in use is what the defaults are.
func TestExampleShowsDefaults(t *testing.T) {
	dir := folder(t)
	want := parse(t, dir, connection)
	got := parse(t, dir, Example(), "SCIMGATE_UPSTREAM_TOKEN", onward)
	if got.Limits != want.Limits || got.Log != want.Log || got.Listen != want.Listen || !reflect.DeepEqual(got.Admin, want.Admin) ||
		got.Database != want.Database || got.KeyFile != want.KeyFile || got.Connections[0].Path != want.Connections[0].Path {
		t.Errorf("got %+v, want %+v", got, want)
	}
	a, b := got.Connections[0].Upstream, want.Connections[0].Upstream
	a.Token, b.Token = nil, nil
	if a != b {
		t.Errorf("got %+v, want %+v", a, b)
	}
}

// Every commented-out setting of the example is one that exists.
func TestExampleComments(t *testing.T) {
	dir := folder(t)
	if err := os.Mkdir(filepath.Join(dir, "tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"a.crt": "tls/fullchain.pem", "a.key": "tls/privkey.pem", "b.crt": "tls/admin.pem", "b.key": "tls/admin-key.pem",
		"inbound": "admin-token", "onward": "entra-token"} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	src, err := os.ReadFile(filepath.Join(dir, "tls/fullchain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "corporate-ca.pem"), src, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hook-secret", "chat-secret", "mail-password"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("a-secret-of-22-letters\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(Example(), "\n")
	for i, line := range lines {
		if indent, setting, ok := strings.Cut(line, "# "); ok && i > 2 && strings.TrimSpace(indent) == "" {
			lines[i] = indent + strings.TrimPrefix(setting, "  ")
			if strings.HasPrefix(setting, "  ") {
				lines[i] = indent + setting
			}
		}
	}
	c := parse(t, dir, strings.Join(lines, "\n"), "SCIMGATE_UPSTREAM_TOKEN", onward)
	if c.PublicURL == "" || c.TLS == (TLS{}) || c.Admin.TLS == (TLS{}) || c.Admin.Token == nil || len(c.Connections[0].Tokens) != 2 || c.Connections[0].Upstream.CAFile == "" ||
		len(c.Sinks) != 3 || !c.Sinks[1].Required || !c.Sinks[1].FromNow || len(c.Alerts) != 2 || c.Alerts[1].Password == nil {
		t.Errorf("got %+v, want every setting", c)
	}
}

func TestLoad(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "scimgate.yaml")
	if err := os.WriteFile(path, []byte(connection), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, load := range map[string]func() (*Config, error){
		"path":            func() (*Config, error) { return Load(path, environ()) },
		"SCIMGATE_CONFIG": func() (*Config, error) { return Load("", environ("SCIMGATE_CONFIG", path)) },
	} {
		if c, err := load(); err != nil || len(c.Connections) != 1 || c.Connections[0].Name != "one" {
			t.Errorf("%s: got %+v, %v, want the file's connection", name, c, err)
		}
	}
	for _, bad := range []string{path + ".none", dir} {
		_, err := Load(bad, environ())
		problems, ok := errors.AsType[profile.Problems](err)
		if !ok || len(problems) != 1 || problems[0].File != bad || !strings.Contains(problems[0].Message, "cannot be read") || strings.Count(err.Error(), bad) != 1 {
			t.Errorf("got %v, want one problem with %s", err, bad)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("#", profile.MaxFile+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, environ()); err == nil || !strings.Contains(err.Error(), "larger than 256 KiB") {
		t.Errorf("got %v, want a refusal of the size", err)
	}
}

func TestWarnings(t *testing.T) {
	dir := folder(t)
	for _, name := range []string{"inbound", "onward", "a.key"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := parse(t, dir, connection+"tls: {cert: a.crt, key: a.key}\n")
	if len(c.Warnings) != 3 {
		t.Errorf("got %q, want one for each of three files", c.Warnings)
	}
	slices.Sort(c.Warnings)
	for i, name := range []string{"a.key", "inbound", "onward"} {
		if i < len(c.Warnings) && !strings.Contains(c.Warnings[i], filepath.Join(dir, name)) {
			t.Errorf("got %q, want it to name %s", c.Warnings[i], name)
		}
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	dir := folder(t)
	fromFile := parse(t, dir, connection+"admin: {token: {env: ADMIN}}\n", "ADMIN", inbound)
	fromEnvironment, err := Load("", environ("SCIMGATE_TOKEN", inbound, "SCIMGATE_UPSTREAM_TOKEN", onward, "SCIMGATE_ADMIN_TOKEN", inbound))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Config{fromFile, fromEnvironment} {
		var b strings.Builder
		for _, v := range []any{c, *c, c.Admin, c.Connections, c.Connections[0].Upstream, c.Connections[0].Upstream.Token, c.Connections[0].Tokens} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
				fmt.Fprintf(&b, verb+"\n", v)
			}
			j, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(j)
			slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "v", v)
			slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", v)
		}
		for _, s := range []string{inbound, onward} {
			if text := b.String(); strings.Contains(text, s) || strings.Contains(text, fmt.Sprintf("%x", s)) {
				t.Errorf("%s is shown", s)
			}
		}
	}
}
