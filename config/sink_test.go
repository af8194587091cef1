package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"scimgate/config/profile"
)

func TestSinksAndAlerts(t *testing.T) {
	dir := folder(t)
	c := parse(t, dir, connection+`sinks:
  - {name: file, url: "file:///var/log/t.jsonl"}
  - {name: siem, url: "syslog+tls://siem.example:6514", format: ocsf, required: true, start: now, rewind: 2m, caFile: a.crt}
  - {name: hook, url: "http://10.1.2.3/x", secret: {file: onward}, allowPlainHTTP: true}
alerts:
  - {name: chat, url: "https://chat.example/x", secret: {env: CHAT}}
  - {name: mail, url: "smtp://mail.example", from: a@example.com, to: [b@example.com, c@example.com], user: u, password: {file: inbound},
     causes: [trail, breaker], window: 10m, failures: 50, caFile: b.crt, allowPlainHTTP: true}
`, "CHAT", onward)
	for i, want := range []Sink{
		{Name: "file", URL: "file:///var/log/t.jsonl", Format: "native", Line: 6, Column: 5},
		{Name: "siem", URL: "syslog+tls://siem.example:6514", Format: "ocsf", Required: true, FromNow: true, Rewind: 2 * time.Minute,
			CAFile: filepath.Join(dir, "a.crt"), Line: 7, Column: 5},
		{Name: "hook", URL: "http://10.1.2.3/x", Format: "native", AllowPlainHTTP: true, Secret: c.Sinks[2].Secret, Line: 8, Column: 5},
	} {
		if got := c.Sinks[i]; !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if s := c.Sinks[2].Secret; s == nil || s.String() != "file "+filepath.Join(dir, "onward") {
		t.Errorf("got secret from %v", s)
	}
	chat, mail := c.Alerts[0], c.Alerts[1]
	if chat.Secret == nil || chat.Window != time.Hour || chat.Failures != 20 || chat.Causes != nil {
		t.Errorf("got %+v, want the defaults", chat)
	}
	if mail.Password == nil {
		t.Error("the password is missing")
	}
	mail.Password = nil
	if want := (Alert{Name: "mail", URL: "smtp://mail.example", From: "a@example.com", To: []string{"b@example.com", "c@example.com"}, User: "u",
		Causes: []string{"trail", "breaker"}, Window: 10 * time.Minute, Failures: 50, CAFile: filepath.Join(dir, "b.crt"), AllowPlainHTTP: true,
		Line: 11, Column: 5}); !reflect.DeepEqual(mail, want) {
		t.Errorf("got %+v, want %+v", mail, want)
	}
}

func TestSinkProblems(t *testing.T) {
	dir := folder(t)
	for _, tc := range []struct{ src, want string }{
		{"sinks: [{url: \"stdout:\"}]", "name is missing"},
		{"sinks: [{name: one}]", "url is missing"},
		{"sinks: [{name: One, url: \"stdout:\"}]", "a-z"},
		{"sinks: [{name: one, url: \"stdout:\"}, {name: one, url: file:///t}]", "the name one is taken"},
		{"sinks: [{name: one, url: \"stdout:\"}, {name: two, url: \"stdout:\"}]", "the same place"},
		{"sinks: [{name: one, url: file:///var/log/t}, {name: two, url: file://localhost/var/./log//t}]", "the same place"},
		{"sinks: [{name: one, url: \"syslog+tls://siem:6514\"}, {name: two, url: \"syslog+tls://SIEM:6514\"}]", "the same place"},
		{"sinks: [{name: one, url: \"stdout:\", start: later}]", "beginning"},
		{"sinks: [{name: one, url: https://x.example, secret: {file: short}}]", "16 or more"},
		{"sinks: [{name: one, url: https://x.example, secret: plain-text-secret}]", "does not stand in this file"},
		{"sinks: [{name: one, url: \"stdout:\", rewind: 1h}]", "1s to 10m"},
		{"sinks: [{name: one, url: \"stdout:\", caFile: short}]", "no PEM certificate"},
		{"sinks: {name: one}", "a list"},
		{"alerts: [{name: a, url: x, window: 1s}]", "1m0s to 24h"},
		{"alerts: [{name: a, url: x, failures: 0}]", "1 to 100"},
		{"alerts: [{name: a, url: x, to: []}]", "1 to 16"},
		{"alerts: [{name: a, url: x}, {name: a, url: y}]", "the name a is taken"},
		{"alerts: [{name: a, url: x, password: hunter2}]", "does not stand in this file"},
	} {
		_, err := Parse(filepath.Join(dir, "c.yaml"), []byte(connection+tc.src+"\n"), environ())
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "plain-text") {
			t.Errorf("%s: got %v, want %q", tc.src, err, tc.want)
			continue
		}
		for _, p := range err.(profile.Problems) {
			if p.Line != 5 {
				t.Errorf("%s: got %v, want it in line 5", tc.src, p)
			}
		}
	}
}
