package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A webhook is called with POST. Its body is signed:
//
//	Scimgate-Signature: t=1790000000,v1=HEX
//
// t is the time in seconds since 1970, HEX the HMAC-SHA256 under the secret of t as it stands there, a dot and the body.
// Who checks it refuses a t that is minutes away from his own clock, so that nobody can send an old body again.
const SignatureHeader = "Scimgate-Signature"

// Sign is the value of SignatureHeader for a body.
func Sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(t))
	m.Write([]byte{'.'})
	m.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(m.Sum(nil))
}

const (
	hookAnswer     = 64 << 10        // bytes that are read of an answer's head, and of its body
	hookAnswerTime = 1 * time.Second // for the body, which says nothing
)

// webhook calls one URL.
type webhook struct {
	url    string
	secret func() (string, error)
	client *http.Client
}

// statusError is an answer that is no success.
type statusError struct{ status int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the receiver answered %d %s", e.status, http.StatusText(e.status))
}

// newWebhook checks the URL of a webhook.
func newWebhook(u *url.URL, secret func() (string, error), caFile string, plain bool) (*webhook, error) {
	switch {
	case u.Hostname() == "":
		return nil, fmt.Errorf("want %s://HOST/PATH", u.Scheme)
	case u.Scheme == "http" && !plain && !isLoopback(u.Hostname()):
		return nil, errors.New("http beyond loopback can be read on the way: use https, or say allowPlainHTTP: true")
	case secret == nil:
		return nil, errors.New("secret is missing: {file: PATH} or {env: NAME}; the receiver checks the signature with it")
	}
	c, err := clientTLS(caFile)
	if err != nil {
		return nil, err
	}
	return &webhook{url: u.String(), secret: secret, client: &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: c, TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: time.Minute,
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, MaxIdleConnsPerHost: 1, ForceAttemptHTTP2: true,
			MaxResponseHeaderBytes: hookAnswer,
		},
		// A redirect would take a signed body to somewhere that nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// post sends a body and returns nil when it was answered 2xx. The error does not have the URL, which may be a secret.
func (w *webhook) post(ctx context.Context, contentType string, body []byte, header map[string]string) error {
	secret, err := w.secret()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the webhook's URL cannot be called")
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "scimgate")
	r.Header.Set(SignatureHeader, Sign(secret, time.Now(), body))
	for name, value := range header {
		r.Header.Set(name, value)
	}
	resp, err := w.client.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return fmt.Errorf("call the webhook: %w", err)
	}
	defer resp.Body.Close()
	// What is read to its end can be called again on the same connection. The status is all that counts, so an answer
	// that is long or does not end is left.
	enough := time.AfterFunc(hookAnswerTime, cancel)
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, hookAnswer))
	enough.Stop()
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return nil
	}
	err = &statusError{resp.StatusCode}
	if after := retryAfter(resp.Header.Get("Retry-After"), time.Now()); after > 0 {
		err = &waitFor{err, after}
	}
	return err
}

// retryAfter reads the header (RFC 9110, Section 10.2.3): seconds or a date. 0 for what cannot be read or is past, an hour
// at most.
func retryAfter(text string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(text, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(s, 3600)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), time.Hour)
	}
	return 0
}

// webhookSink posts entries as JSON lines. Of a body that is too large for the receiver (413) half is sent, and so on.
type webhookSink struct {
	*webhook
	most int // entries in a body
}

func openWebhook(cfg *SinkConfig, u *url.URL) (Sink, error) {
	w, err := newWebhook(u, cfg.Secret, cfg.CAFile, cfg.AllowPlainHTTP)
	if err != nil {
		return nil, err
	}
	return &webhookSink{w, feedBatch}, nil
}

func (s *webhookSink) Append(ctx context.Context, entries []Entry) error {
	for len(entries) > 0 {
		n := min(len(entries), s.most)
		// The ids of the first and the last entry name the batch: a receiver may refuse what it has without reading it.
		err := s.post(ctx, "application/x-ndjson", appendLines(nil, entries[:n]), map[string]string{
			"Scimgate-First": entries[0].ID, "Scimgate-Last": entries[n-1].ID,
		})
		if e, ok := errors.AsType[*statusError](err); ok && e.status == http.StatusRequestEntityTooLarge {
			if n == 1 {
				return fmt.Errorf("record %d alone, of %d bytes, is too large for the receiver: have it take more: %w", entries[0].Seq, len(entries[0].Text), err)
			}
			s.most = n / 2
			continue
		}
		if err != nil {
			return err
		}
		entries = entries[n:]
	}
	s.most = min(cmp.Or(s.most*2, 1), feedBatch)
	return nil
}

func (s *webhookSink) Close() error {
	s.client.CloseIdleConnections()
	return nil
}
