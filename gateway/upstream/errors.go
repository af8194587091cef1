package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"scimgate/transform/scim"
)

// ErrUnknown is in the chain of the error for a write that may have been done or not, and that may still be done.
var ErrUnknown = errors.New("what the upstream did is not known")

// Retry-After of answers for which the upstream gave none.
const (
	limitedAfter     = time.Second     // 429
	unavailableAfter = 5 * time.Second // 503
)

// giveUp makes the client's error from the last outcome; admission, when not nil, is why there was no other
// attempt.
func (x *exchange) giveUp(out *outcome, admission error) error {
	e := x.c.translate(x.req, out)
	if a, ok := errors.AsType[*scim.Error](admission); ok && e.RetryAfter > 0 {
		e.RetryAfter = max(e.RetryAfter, a.RetryAfter)
	}
	switch {
	case !x.doubt:
		return e
	case out.verdict() == refused: // the last attempt was not done, but an earlier one may have been
		e.Err = fmt.Errorf("%w: %w", ErrUnknown, e.Err)
		return e
	default:
		return unknown(e)
	}
}

// unknown says that a write may have been done, with what is known about why.
func unknown(e *scim.Error) *scim.Error {
	u := scim.Errorf(http.StatusServiceUnavailable, "",
		"the upstream's answer was lost: whether the change was made is not known, ask again")
	if e.Status == http.StatusGatewayTimeout {
		u.Status = http.StatusGatewayTimeout
	}
	if u.Status == http.StatusServiceUnavailable {
		u.RetryAfter = max(e.RetryAfter, unavailableAfter)
	}
	u.Err = fmt.Errorf("%w: %w", ErrUnknown, e.Err)
	return u
}

// translate says what an outcome other than success means to a provisioning client.
func (c *Client) translate(req *scim.Request, out *outcome) *scim.Error {
	var e *scim.Error
	if f := out.failure(); f != nil {
		e = c.translateFailure(req, f, out)
	} else if _, ok := errors.AsType[*credentialError](out.err); ok {
		e = scim.Errorf(http.StatusBadGateway, "",
			"the gateway has no credentials for the upstream: its administrator must provide %s", c.cfg.Token)
	} else {
		e = translateSilence(out)
	}
	e.Err = &cause{err: out.err}
	return e
}

func (c *Client) translateFailure(req *scim.Request, f *scim.Failure, out *outcome) *scim.Error {
	refused := func(status int) *scim.Error {
		e := scim.Errorf(status, scim.Keyword(f.Type), "the upstream refused the request")
		e.Quoted = quote(f.Message)
		return e
	}
	switch s := f.Status; {
	case s == http.StatusTooManyRequests:
		e := scim.Errorf(s, "", "the upstream limits its clients: nothing was done, try again later")
		e.RetryAfter = cmp.Or(out.after, limitedAfter)
		return e
	case s == http.StatusServiceUnavailable:
		e := scim.Errorf(s, "", "the upstream is unavailable: nothing was done, try again later")
		e.RetryAfter = cmp.Or(out.after, unavailableAfter)
		return e
	case out.ruled && s != http.StatusNotFound:
		return refused(s)
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		return scim.Errorf(http.StatusBadGateway, "", "the upstream refused the gateway's credentials (%d): "+
			"its administrator must check the token from %s and what it permits", s, c.cfg.Token)
	case s == http.StatusProxyAuthRequired:
		return scim.Errorf(http.StatusBadGateway, "", "the proxy on the way to the upstream wants credentials (407)")
	case s == http.StatusNotFound && (f.SCIM || out.ruled) && req.ID != "":
		return scim.NotFound(req.Type.Name, req.ID)
	case s == http.StatusNotFound:
		return scim.Errorf(http.StatusBadGateway, "", "the upstream answered 404, and not as SCIM does for a resource that "+
			"does not exist: nothing is known to be gone; check the upstream's base URL")
	case s < 400:
		return scim.Errorf(http.StatusBadGateway, "",
			"the upstream answered with a redirect (%d), which is not followed: check its base URL", s)
	case s == http.StatusRequestTimeout || s == http.StatusGatewayTimeout:
		return scim.Errorf(http.StatusGatewayTimeout, "", "the upstream took too long (%d)", s)
	case s < 500:
		return refused(s)
	default:
		return scim.Errorf(http.StatusBadGateway, "", "the upstream failed (%d)", s)
	}
}

// translateSilence is translate for an outcome without an answer, or with one that is of no use.
func translateSilence(out *outcome) *scim.Error {
	switch bad, ok := errors.AsType[*scim.BadAnswer](out.err); {
	case isTimeout(out.err):
		return scim.Errorf(http.StatusGatewayTimeout, "", "the upstream did not answer in time")
	case ok:
		return scim.Errorf(http.StatusBadGateway, "", "the upstream's answer is of no use: %s", bad.Reason)
	case errors.Is(out.err, context.Canceled):
		return scim.Errorf(http.StatusServiceUnavailable, "", "the request was given up")
	default:
		e := scim.Errorf(http.StatusServiceUnavailable, "", "the upstream cannot be reached: %s", describe(out.err))
		e.RetryAfter = unavailableAfter
		return e
	}
}

// applyRules gives an answer the meaning that the profile's error table has for it.
func (c *Client) applyRules(f *scim.Failure) bool {
	message := scim.Fold(f.Message)
	for _, r := range c.cfg.Profile.Errors {
		if r.Status == f.Status && strings.Contains(message, scim.Fold(r.Contains)) {
			f.Status, f.Type = r.As.Status, r.As.ScimType
			return true
		}
	}
	return false
}

// quote is the upstream's own message for the client whose request it is about. It may hold personal values, so
// it goes into the detail and nowhere else.
func quote(message string) string {
	const most = 200
	var b strings.Builder
	n := 0
	for _, r := range strings.TrimSpace(message) {
		if n++; n > most {
			b.WriteString("...")
			break
		}
		if !unicode.IsPrint(r) {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}

// cause keeps an outcome's error in the chain without its text, which may quote the upstream's answer.
type cause struct{ err error }

func (c *cause) Error() string { return describe(c.err) }
func (c *cause) Unwrap() error { return c.err }

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || ok && n.Timeout()
}

// describe says why there is no usable answer, in words that hold nothing of what was sent or received.
func describe(err error) string {
	if f, ok := errors.AsType[*scim.Failure](err); ok {
		return f.Error()
	}
	if bad, ok := errors.AsType[*scim.BadAnswer](err); ok {
		s := fmt.Sprintf("answered %d, but %s", bad.Status, bad.Reason)
		if _, isJSON := errors.AsType[*scim.Error](bad.Err); bad.Err != nil && !isJSON {
			s += ": " + describe(bad.Err)
		}
		return s
	}
	if c, ok := errors.AsType[*credentialError](err); ok {
		return c.Error()
	}
	if tlsFailed(err) {
		return "the TLS handshake failed"
	}
	_, dns := errors.AsType[*net.DNSError](err)
	switch {
	case isTimeout(err):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "given up by the caller"
	case dns:
		return "its name cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused"
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return "the connection was reset"
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return "no connection"
	}
	return "the exchange broke off"
}

func tlsFailed(err error) bool {
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, header := errors.AsType[tls.RecordHeaderError](err)
	return verify || authority || host || alert || header
}
