package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"scimgate/config/profile"
)

// wantProblems checks the lines of err against want, which has what each begins with, a "|" between them; a "*" in it
// stands for anything. dir is left out of the lines.
func wantProblems(t *testing.T, dir string, c *Config, err error, want string) {
	t.Helper()
	problems, ok := errors.AsType[profile.Problems](err)
	if c != nil || !ok {
		t.Fatalf("got %+v, %T %v, want Problems and no Config", c, err, err)
	}
	if strings.Contains(err.Error(), inbound) || strings.Contains(err.Error(), onward) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("shows a secret: %v", err)
	}
	got := strings.Split(strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""), "\n")
	wants := strings.Split(want, "|")
	if len(got) != len(wants) || len(got) != len(problems) {
		t.Fatalf("got %d problems in %d lines %q, want %q", len(problems), len(got), got, wants)
	}
	for i := range wants {
		begin, part, _ := strings.Cut(wants[i], "*")
		if !strings.HasPrefix(got[i], begin) || !strings.Contains(got[i], part) {
			t.Errorf("got %q, want %q", got[i], wants[i])
		}
	}
}

func TestProblems(t *testing.T) {
	dir := folder(t)
	// In a token and an upstream the mistake is in line 3 or 4 of the connection.
	token := func(keys string) string { return strings.Replace(connection, "{name: t, file: inbound}", keys, 1) }
	upstream := func(keys string) string { return strings.Replace(connection, "token: {file: onward}", keys, 1) }
	two := func(path1, path2 string) string {
		var b strings.Builder
		b.WriteString("connections:\n")
		for i, path := range []string{path1, path2} {
			b.WriteString("  - {name: c" + string(rune('0'+i)) + ", " + path + "tokens: [{name: t, file: inbound}], upstream: {token: {file: onward}}}\n")
		}
		return b.String()
	}
	const hash = "0d1ab56f2f1e2bd1d4ff0e9d5f7a3c18c0a7be3a8f9e4d5c6b7a8091a2b3c4d5"
	for _, test := range []struct{ name, src, want string }{
		{"empty", "", "c.yaml:1:1: connections is missing"},
		{"not a mapping", "[]\n", "c.yaml:1:1: want a mapping"},
		{"syntax", "listen: [\n", "c.yaml:1:9: not valid YAML"},
		{"unknown key", connection + "listne: x\n", `c.yaml:5:1: unknown key "listne"; known here: admin, alerts, allowPlainHTTP, connections,`},
		{"duplicate key", connection + "database: a\ndatabase: b\n", `c.yaml:6:1: the key "database" stands here twice`},
		{"privacy of a filter", connection + "privacy: {public: ['emails[type eq 1]']}\n", "c.yaml:5:20: public: want an attribute path such as title"},
		{"privacy of the subject", connection + "privacy: {secret: [userName]}\n", "c.yaml:5:20: secret: userName is always in the clear"},
		{"privacy of a core URN", connection + "privacy: {secret: ['urn:ietf:params:scim:schemas:core:2.0:User:ID']}\n", "c.yaml:5:20: secret: urn:ietf:params:scim:schemas:core:2.0:User:ID is always in the clear"},
		{"privacy of the password", connection + "privacy: {public: [Password]}\n", "c.yaml:5:20: public: password is always secret"},
		{"privacy twice", connection + "privacy: {public: [title], secret: [Title]}\n", "c.yaml:5:20: public: title is secret as well"},
		{"listen", connection + "listen: 8080\n", "c.yaml:5:9: listen: want text, got a number"},
		{"listen without port", connection + "listen: localhost\n", "c.yaml:5:9: listen: want host:port"},
		{"listen on a service name", connection + "listen: localhost:http\n", "c.yaml:5:9: listen: want host:port"},
		{"listen on a large port", connection + "listen: 127.0.0.1:65536\n", "c.yaml:5:9: listen: want host:port"},
		{"listen on no host", connection + "listen: 'a b:80'\n", "c.yaml:5:9: listen: want host:port"},
		{"public URL http", connection + "publicURL: http://scim.example\n", "c.yaml:5:12: publicURL: want https"},
		{"public URL with path", connection + "publicURL: https://scim.example/scim\n", "c.yaml:5:12: publicURL: want scheme://host[:port] without a path"},
		{"public URL with user", connection + "publicURL: https://u:hunter2@scim.example\n", "c.yaml:5:12: publicURL: no user"},

		{"key missing", connection + "tls: {cert: a.crt}\n", "c.yaml:5:6: tls: key is missing"},
		{"cert missing", connection + "tls: {key: a.key}\n", "c.yaml:5:6: tls: cert is missing"},
		{"cert of another key", connection + "tls: {cert: a.crt, key: b.key}\n", "c.yaml:5:6: tls: certificate a.crt and key b.key do not work together"},
		{"cert and key unreadable", connection + "tls: {cert: no.crt, key: no.key}\n", "c.yaml:5:6: tls: certificate no.crt cannot be read|c.yaml:5:6: tls: key no.key cannot be read"},
		{"cert not PEM", connection + "tls: {cert: inbound, key: a.key}\n", "c.yaml:5:6: tls: certificate inbound and key a.key do not work"},

		{"admin without token", connection + "admin: {listen: 0.0.0.0:9090}\n", "c.yaml:5:17: listen: the admin listener 0.0.0.0:9090 is not on loopback*give admin.token"},
		{"admin everywhere", connection + "admin: {listen: ':9090'}\n", "c.yaml:5:17: listen: the admin listener :9090 is not on loopback"},
		{"admin on IPv6", connection + "admin: {listen: '[::]:9090'}\n", "c.yaml:5:17: listen: the admin listener [::]:9090 is not on loopback"},
		{"admin on a name", connection + "admin: {listen: 'admin.example:9090'}\n", "c.yaml:5:17: listen: the admin listener admin.example:9090 is not on"},
		{"admin on the same address", connection + "admin: {listen: 127.0.0.1:8080}\n", "c.yaml:5:17: listen: the admin listener has the address of the SCIM listener"},
		{"admin with a bad token", connection + "admin: {listen: ':9090', token: {file: short}}\n", "c.yaml:5:33: token: the token has 5 characters, want 16 to 200"},
		{"console by a URL", connection + "admin: {hosts: ['https://console.example.com']}\n", "c.yaml:5:17: hosts: want a host name alone*"},
		{"admin token in the file", connection + "admin: {token: " + inbound + "}\n", "c.yaml:5:16: token: a secret does not stand in this file"},

		{"PostgreSQL", connection + "database: postgres://u:hunter2@db/scimgate\n", "c.yaml:5:11: database: PostgreSQL is not in this release"},
		{"database in memory", connection + "database: ':memory:'\n", "c.yaml:5:11: database: want the path of a file"},
		{"database URL", connection + "database: mysql://db\n", "c.yaml:5:11: database: want the path of a file"},
		{"key in the database", connection + "database: d\nkeyFile: ./d\n", "c.yaml:6:10: keyFile: the database is in this file"},
		{"log", connection + "log: {level: trace, format: xml}\n", `c.yaml:5:14: level: want one of debug, info, warn, error, got "trace"|c.yaml:5:29: format: want one of auto`},
		{"size", connection + "limits: {body: 256KB}\n", `c.yaml:5:16: body: want a size from 1KiB to 16MiB, got "256KB"`},
		{"size too large", connection + "limits: {body: 1GiB}\n", `c.yaml:5:16: body: want a size from 1KiB to 16MiB, got "1GiB"`},
		{"size as a number too small", connection + "limits: {body: 3}\n", "c.yaml:5:16: body: want a whole number from 1024"},
		{"concurrent", connection + "limits: {concurrent: 0}\n", "c.yaml:5:22: concurrent: want a whole number from 1 to 65536"},
		{"duration without unit", connection + "limits: {wait: 10}\n", "c.yaml:5:16: wait: want a duration with its unit"},
		{"duration wrong", connection + "limits: {wait: 10 seconds}\n", "c.yaml:5:16: wait: want a duration from 0s to 5m0s"},
		{"duration negative", connection + "limits: {drainTimeout: -1s}\n", "c.yaml:5:24: drainTimeout: want a duration from 0s"},
		{"duration too long", connection + "limits: {drainTimeout: 24h}\n", "c.yaml:5:24: drainTimeout: want a duration from 0s to 10m0s"},

		{"no connections", "connections: []\n", "c.yaml:1:14: connections: want 1 to 64 entries, got 0"},
		{"empty connection", "connections: [{}]\n", "c.yaml:1:15: connections: name is missing|c.yaml:1:15: connections: tokens is missing|c.yaml:1:15: connections: upstream is missing"},
		{"connection name", strings.Replace(connection, "one", "One", 1), "c.yaml:2:11: name: want 1 to 32"},
		{"connections of one name", strings.Replace(two("path: /a, ", "path: /b, "), "c1", "c0", 1), "c.yaml:3:5: connections: the name c0 is taken by the connection in line 2"},
		{"paths missing", two("", "path: /b, "), "c.yaml:2:5: connections: path is missing"},
		{"paths the same", two("path: /scim, ", "path: /SCIM, "), "c.yaml:3:5: connections: the path /SCIM overlaps /scim of the connection in line 2"},
		{"path below another", two("path: /scim/v2, ", "path: /scim, "), "c.yaml:3:5: connections: the path /scim overlaps"},
		{"path relative", two("path: a, ", "path: /b, "), "c.yaml:2:22: path: want a path such as /scim/v2"},
		{"path with slash", two("path: /a/, ", "path: /b, "), "c.yaml:2:22: path: want a path"},
		{"path of dots", two("path: /a/.., ", "path: /b, "), "c.yaml:2:22: path: want a path"},
		{"path root", two("path: /, ", "path: /b, "), "c.yaml:2:22: path: want a path"},

		{"token in the file", token(inbound), "c.yaml:3:14: tokens: a token does not stand in this file"},
		{"token without source", token("{name: t}"), "c.yaml:3:14: tokens: want one of sha256, file and env"},
		{"token with two sources", token("{name: t, file: inbound, sha256: " + hash + "}"), "c.yaml:3:14: tokens: want one of sha256, file and env"},
		{"token without name", token("{file: inbound}"), "c.yaml:3:14: tokens: name is missing"},
		{"token hash", token("{name: t, sha256: " + inbound + "}"), "c.yaml:3:32: sha256: want the 64 hexadecimal digits"},
		{"token hash of nothing", token("{name: t, sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}"), "c.yaml:3:32: sha256: this is the SHA-256 of an empty text"},
		{"token expires", token("{name: t, file: inbound, expires: tomorrow}"), "c.yaml:3:48: expires: want a time such as 2027-01-31T00:00:00Z"},
		{"token file missing", token("{name: t, file: none}"), "c.yaml:3:14: tokens: file none does not exist"},
		{"token file empty", token("{name: t, file: empty}"), "c.yaml:3:14: tokens: file empty is empty"},
		{"token short", token("{name: t, file: short}"), "c.yaml:3:14: tokens: the token has 5 characters"},
		{"token long", token("{name: t, env: LONG}"), "c.yaml:3:14: tokens: the token has 201 characters"},
		{"token characters", token("{name: t, env: SPACES}"), "c.yaml:3:14: tokens: the token has characters that cannot travel"},
		{"token variable unset", token("{name: t, env: UNSET}"), "c.yaml:3:14: tokens: environment UNSET is not set"},
		{"token variable's name", token("{name: t, env: " + inbound + "}"), "c.yaml:3:29: env: want the name of an environment variable"},
		{"tokens of one name", token("{name: t, file: inbound}, {name: t, file: onward}"), "c.yaml:3:40: tokens: the name t stands here twice"},
		{"the same token", token("{name: t, file: inbound}, {name: u, env: SAME}"), "c.yaml:3:40: tokens: the same token as t"},
		{"no token", token(""), "c.yaml:3:13: tokens: want 1 to 4 entries, got 0"},
		{"five tokens", token("a, b, c, d, e"), "c.yaml:3:13: tokens: want 1 to 4 entries, got 5"},

		{"profile unknown", connection + "    profile: okta\n", `c.yaml:5:14: profile: no profile "okta" is built in: take one of bluejeans, generic`},
		{"profile missing", connection + "    profile: ./okta.yaml\n", "c.yaml:5:14: profile: reading the profile: stat okta.yaml"},
		{"profile wrong", connection + "    profile: ./short\n", "short:1:1: want a mapping"},
		{"overrides", connection + "    overrides:\n      User:\n        attributes:\n          - path: title\n            maxLenght: 3\n", `c.yaml:9:13: attributes: unknown key "maxLenght"`},
		{"override contradiction", connection + "    overrides:\n      User:\n        attributes:\n          - path: userName\n            handling: drop\n", "c.yaml:8:13: userName: handling drop says"},

		{"upstream token missing", upstream("queue: 1"), "c.yaml:4:15: upstream: token is missing"},
		{"upstream token in the file", upstream("token: " + onward), "c.yaml:4:23: token: a secret does not stand in this file: write it into a file of its own"},
		{"upstream token is a number", upstream("token: 12345"), "c.yaml:4:23: token: a secret does not stand in this file"},
		{"upstream token by value", upstream("token: {value: " + onward + "}"), `c.yaml:4:23: token: want one of file: PATH and env: NAME|c.yaml:4:24: token: unknown key "value"; known here: env, file`},
		{"upstream token by both", upstream("token: {file: onward, env: SAME}"), "c.yaml:4:23: token: want one of file"},
		{"upstream token unreadable", upstream("token: {file: .}"), "c.yaml:4:23: token: file*is not a regular file"},
		{"upstream url", upstream("url: http://example.com, token: {file: onward}"), "c.yaml:4:21: url: want https"},
		{"upstream url missing", upstream("token: {file: onward}") + "    profile: generic\n", "c.yaml:4:15: upstream: url is missing: the profile generic has none"},
		{"upstream CA missing", upstream("caFile: none, token: {file: onward}"), "c.yaml:4:24: caFile: none cannot be read"},
		{"upstream CA not PEM", upstream("caFile: inbound, token: {file: onward}"), "c.yaml:4:24: caFile: inbound has no PEM certificate"},
		{"upstream rate", upstream("requestsPerSecond: -1, token: {file: onward}"), "c.yaml:4:35: requestsPerSecond: want a number from 0 to 10000"},
		{"upstream in flight", upstream("inFlight: 0, token: {file: onward}"), "c.yaml:4:26: inFlight: want a whole number from 1 to 1024"},
		{"upstream queue", upstream("queue: -1, token: {file: onward}"), "c.yaml:4:23: queue: want a whole number from 0"},
		{"upstream waits too long", upstream("queueWait: 26s, token: {file: onward}"), "c.yaml:4:27: queueWait: 26s is longer than the deadline of the whole exchange, 25s"},
		{"upstream attempt too long", upstream("timeout: 11s, deadline: 10s, token: {file: onward}"), "c.yaml:4:25: timeout: 11s is longer than the deadline of the whole exchange, 10s"},
		{"upstream deadline", upstream("deadline: 1ms, token: {file: onward}"), "c.yaml:4:26: deadline: want a duration from 10ms"},
		{"upstream body", upstream("maxBody: lots, token: {file: onward}"), "c.yaml:4:25: maxBody: want a size from 1KiB to 256MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Parse(filepath.Join(dir, "c.yaml"), []byte(test.src), environ("SAME", inbound, "LONG", strings.Repeat("x", 201), "SPACES", "correct horse battery staple"))
			wantProblems(t, dir, c, err, test.want)
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	dir := folder(t)
	c, err := Parse(filepath.Join(dir, "c.yaml"), []byte(`listen: here
databse: x
limits: {wait: soon}
connections:
  - name: one
    tokens: [{name: t, file: none}]
    profile: okta
    upstream:
      url: ftp://example.com
      token: `+onward+`
`), environ("SCIMGATE_ADMIN_LISTEN", "everywhere"))
	wantProblems(t, dir, c, err, "c.yaml:1:9: listen|c.yaml:2:1: unknown key|c.yaml:3:16: wait|"+
		"c.yaml:6:14: tokens|c.yaml:7:14: profile|c.yaml:9:12: url|c.yaml:10:14: token|SCIMGATE_ADMIN_LISTEN: want host:port")
}
