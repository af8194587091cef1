package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

func TestErrorTable(t *testing.T) {
	long := strings.Repeat("é", 300)
	for _, test := range []struct {
		name       string
		status     int
		body       string
		want       int
		scimType   string
		detail     string // a part of it
		retryAfter time.Duration
		credential bool
	}{
		{"401", 401, "", 502, "", "the gateway's credentials (401)", 0, true},
		{"401 as SCIM", 401, scimError("401", "", "who are you"), 502, "", "must check the token from", 0, true},
		{"403", 403, "", 502, "", "the gateway's credentials (403)", 0, true},
		{"404 as SCIM", 404, scimError("404", "", "User 1 not found"), 404, "", `User "1" does not exist`, 0, false},
		{"404 as HTML", 404, "<html>404</html>", 502, "", "nothing is known to be gone", 0, false},
		{"404 as other JSON", 404, `{"message":"no route"}`, 502, "", "check the upstream's base URL", 0, false},
		{"404 empty", 404, "", 502, "", "nothing is known to be gone", 0, false},
		{"407", 407, "", 502, "", "proxy", 0, false},
		{"409", 409, scimError("409", "uniqueness", "userName is taken"), 409, "uniqueness", "; upstream: userName is taken", 0, false},
		{"412", 412, scimError("412", "", "version"), 412, "", "upstream: version", 0, false},
		{"400", 400, scimError("400", "invalidValue", "title"), 400, "invalidValue", "upstream: title", 0, false},
		{"400 not SCIM", 400, "<html>", 400, "", "the upstream refused the request", 0, false},
		{"400 with a false scimType", 400, scimError("400", "not a <type>", "x"), 400, "", "refused", 0, false},
		{"400 with control characters", 400, scimError("400", "", `a\nb\u0007c\u202ed`), 400, "", "upstream: a b c d", 0, false},
		{"400 that is long", 400, scimError("400", "", long), 400, "", "upstream: " + strings.Repeat("é", 200) + "...", 0, false},
		{"413", 413, "", 413, "", "refused", 0, false},
		{"429", 429, "", 429, "", "limits its clients", time.Second, false},
		{"503", 503, "", 503, "", "unavailable", 5 * time.Second, false},
		{"500", 500, "secret", 502, "", "failed (500)", 0, false},
		{"502", 502, "", 502, "", "failed (502)", 0, false},
		{"504", 504, "", 504, "", "too long", 0, false},
		{"501", 501, "", 502, "", "failed (501)", 0, false},
		{"301", 301, "", 502, "", "redirect (301), which is not followed", 0, false},
		{"304 unasked", 304, "", 502, "", "304", 0, false},
		{"200 HTML", 200, "<html>secret</html>", 502, "", "of no use", 0, false},
		{"200 other id", 200, `{"id":"2","userName":"x"}`, 502, "", "another id", 0, false},
		{"rule", 500, `{"message":"EMAIL address is already taken"}`, 409, "uniqueness", "already taken", 0, false},
		{"rule without text", 418, "", 429, "", "limits", time.Second, false},
		{"rule for 401", 401, `{"message":"no permission to rename"}`, 400, "mutability", "refused", 0, false},
		{"rule for 404", 410, "", 404, "", `User "1" does not exist`, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &wireFake{answer: func(int, *http.Request, string) (*http.Response, error) {
					return answerOf(test.status, test.body), nil
				}}
				c := start(t, "https://upstream.test", func(cfg *Config) {
					cfg.Transport = fake
					p := *cfg.Profile
					p.Errors = append(p.Errors, rule(500, "Email address is already taken", 409, "uniqueness"), rule(418, "", 429, ""),
						rule(401, "no permission", 400, "mutability"), rule(410, "", 404, ""))
					cfg.Profile = &p
				})
				req := get()
				_, err := c.Do(t.Context(), req)
				e := isError(t, err, test.want)
				if e.Type != test.scimType || !strings.Contains(e.Detail+"; upstream: "+e.Quoted, test.detail) || e.RetryAfter != test.retryAfter {
					t.Errorf("got %q %q %v, want %q, ..%q.. and %v", e.Type, e.Detail, e.RetryAfter, test.scimType, test.detail, test.retryAfter)
				}
				if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), testToken) {
					t.Errorf("the error tells too much: %v", err)
				}
				if got := c.State().CredentialProblem != ""; got != test.credential {
					t.Errorf("got credential problem %q, want one: %v", c.State().CredentialProblem, test.credential)
				}
			})
		})
	}
}

func rule(status int, contains string, as int, scimType string) profile.ErrorRule {
	r := profile.ErrorRule{Status: status, Contains: contains}
	r.As.Status, r.As.ScimType = as, scimType
	return r
}

// What the upstream says about a person is for the client it concerns, and for nobody who reads attempts or causes.
func TestUpstreamTextStaysInTheDetail(t *testing.T) {
	const canary = "canary@example.com"
	for _, answer := range []*http.Response{
		answerOf(409, scimError("409", "uniqueness", canary)),
		answerOf(200, `{"`+canary+`":1,"`+canary+`":2}`),
		answerOf(200, canary),
		answerOf(500, canary),
	} {
		fake := &wireFake{answer: func(int, *http.Request, string) (*http.Response, error) { return answer, nil }}
		c := start(t, "https://upstream.test", func(cfg *Config) { cfg.Transport = fake })
		c.budget.fifths = -1
		resp, err := c.Do(t.Context(), get())
		if _, ok := errors.AsType[*scim.Error](err); !ok {
			t.Fatalf("got %v, want an *scim.Error", err)
		}
		if text := fmt.Sprintf("%+v %v", resp.Attempts, err); strings.Contains(text, canary) {
			t.Errorf("found a personal value in %s", text)
		}
	}
	broken := fmt.Errorf("net/http: malformed HTTP response %q", canary)
	if got := describe(broken); got != "the exchange broke off" {
		t.Errorf("got %q", got)
	}
}

func TestNoAnswer(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, test := range []struct {
		err        error
		want       int
		detail     string
		retryAfter bool
	}{
		{context.DeadlineExceeded, 504, "did not answer in time", false},
		{dial(&timeoutError{}), 504, "did not answer in time", false},
		{dial(errors.New("no route")), 503, "no connection", true},
		{dial(&net.DNSError{Err: "no such host", Name: "x"}), 503, "cannot be resolved", true},
		{errReset, 503, "was reset", true},
		{&tls.CertificateVerificationError{Err: errors.New("x")}, 503, "TLS", true},
		{context.Canceled, 503, "given up", false},
	} {
		c := start(t, "https://upstream.test", func(cfg *Config) {
			cfg.Transport = &wireFake{answer: func(int, *http.Request, string) (*http.Response, error) { return nil, test.err }}
		})
		c.budget.fifths = -1
		_, err := c.Do(t.Context(), get())
		e := isError(t, err, test.want)
		if !strings.Contains(e.Detail+"; upstream: "+e.Quoted, test.detail) || e.RetryAfter > 0 != test.retryAfter {
			t.Errorf("%v: got %q with Retry-After %v", test.err, e.Detail, e.RetryAfter)
		}
	}
}

type timeoutError struct{}

func (*timeoutError) Error() string   { return "i/o timeout" }
func (*timeoutError) Timeout() bool   { return true }
func (*timeoutError) Temporary() bool { return true }
