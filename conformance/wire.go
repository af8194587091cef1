package conformance

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	defaultTimeout = 30 * time.Second
	maxBody        = 16 << 20 // of an answer
	maxKept        = 16 << 10 // of a body, in a report

	// A service provider that paces its clients is not at fault: 429 is waited for, in bounds.
	maxPaced      = 5
	maxRetryAfter = 30 * time.Second
)

// Exchange is one request and its answer as a report shows them: without the token, and without the rest of long bodies.
type Exchange struct {
	Note         string        `json:"note,omitempty"` // the case's comment above the request
	Line         int           `json:"line,omitempty"` // of the case's file
	Method       string        `json:"method"`
	URL          string        `json:"url"`
	Header       http.Header   `json:"header"`
	Body         string        `json:"body,omitempty"`
	Status       int           `json:"status,omitempty"` // 0: no answer
	AnswerHeader http.Header   `json:"answer_header,omitempty"`
	AnswerBody   string        `json:"answer_body,omitempty"`
	Err          string        `json:"error,omitempty"` // why there is no answer
	Duration     time.Duration `json:"-"`
}

// request is what a step sends.
type request struct {
	note    string
	line    int
	method  string
	target  string // below the endpoint's URL, or a URL
	headers [][2]string
	body    string
	hasBody bool
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte

	decoded bool
	value   any
	err     error
}

// json returns the body's value.
func (a *answer) json() (any, error) {
	if !a.decoded {
		a.decoded = true
		if a.value, a.err = parseJSON(string(a.body)); a.err != nil {
			a.err = fmt.Errorf("the body is not JSON: %w", a.err)
			if len(a.body) == 0 {
				a.err = errors.New("there is no body")
			}
		}
	}
	return a.value, a.err
}

// isSCIM checks the content type (RFC 7644, Sections 3.1 and 8.1).
func (a *answer) isSCIM() error {
	got := a.header.Get("Content-Type")
	kind, parameters, err := mime.ParseMediaType(got)
	charset := parameters["charset"]
	if err != nil || kind != "application/scim+json" && kind != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return fmt.Errorf("got Content-Type %q, want application/scim+json", got)
	}
	return nil
}

// endpoint is the service provider under test. It is safe for concurrent use.
type endpoint struct {
	base    *url.URL // without a slash at the end
	token   string
	client  *http.Client
	timeout time.Duration
}

func newEndpoint(cfg *Config) (*endpoint, error) {
	base, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
	if err != nil {
		return nil, fmt.Errorf("URL %q: %w", cfg.URL, err)
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("URL %q: want the SCIM base URL, such as https://scim.example.com/scim/v2, without query or credentials", base.Redacted())
	}
	e := &endpoint{base: base, token: cfg.Token, client: cfg.Client, timeout: cfg.Timeout}
	if e.timeout <= 0 {
		e.timeout = defaultTimeout
	}
	if e.client == nil {
		e.client = &http.Client{Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
			MaxIdleConnsPerHost: max(cfg.Parallel, 2),
			IdleConnTimeout:     30 * time.Second,
			DisableCompression:  true,
		}}
	}
	client := *e.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	e.client = &client
	return e, nil
}

// locate returns the whole URL of a target. One that leads elsewhere is refused: it must not get the token.
func (e *endpoint) locate(target string) (string, error) {
	if strings.HasPrefix(target, "/") || target == "" {
		return e.base.String() + target, nil
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return "", fmt.Errorf("%q is neither a path nor a URL", target)
	}
	if !strings.EqualFold(u.Scheme, e.base.Scheme) || !strings.EqualFold(u.Host, e.base.Host) {
		return "", fmt.Errorf("%q is not at %s://%s", target, e.base.Scheme, e.base.Host)
	}
	return target, nil
}

// path is a URL or path of a resource below the endpoint's URL, or "" if it is elsewhere.
func (e *endpoint) path(location string) string {
	if u, err := url.Parse(location); err == nil && u.IsAbs() {
		if !strings.EqualFold(u.Host, e.base.Host) {
			return ""
		}
		location = u.EscapedPath()
		rest, ok := strings.CutPrefix(location, e.base.EscapedPath())
		if !ok || !strings.HasPrefix(rest, "/") {
			return ""
		}
		return rest
	}
	if rest, ok := strings.CutPrefix(location, e.base.EscapedPath()); ok && strings.HasPrefix(rest, "/") {
		return rest
	}
	if strings.HasPrefix(location, "/") {
		return location
	}
	return ""
}

// do sends a request and waits where the service provider asks for it. The exchange is complete also when there is
// no answer. A request that was begun is waited for even when ctx ends, so that nothing it creates is left behind unseen.
func (e *endpoint) do(ctx context.Context, r *request) (*answer, Exchange, error) {
	for round := 1; ; round++ {
		a, x, err := e.send(context.WithoutCancel(ctx), r)
		if err != nil || a.status != http.StatusTooManyRequests || round == maxPaced {
			return a, x, err
		}
		seconds, convErr := strconv.Atoi(a.header.Get("Retry-After"))
		pause := time.Duration(seconds) * time.Second
		if convErr != nil || pause < 0 || pause > maxRetryAfter {
			return a, x, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return a, x, nil
		case <-timer.C:
		}
	}
}

func (e *endpoint) send(ctx context.Context, r *request) (*answer, Exchange, error) {
	x := Exchange{Note: r.note, Line: r.line, Method: r.method, URL: e.redact(r.target), Body: e.kept([]byte(r.body))}
	fail := func(err error) (*answer, Exchange, error) {
		x.Err = e.redact(err.Error())
		return nil, x, errors.New(x.Err)
	}
	target, err := e.locate(r.target)
	if err != nil {
		return fail(err)
	}
	x.URL = e.redact(target)
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	var body io.Reader
	if r.hasBody {
		body = strings.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return fail(err)
	}
	e.setHeaders(req, r)
	x.Header = e.clean(req.Header)
	started := time.Now()
	res, err := e.client.Do(req)
	x.Duration = time.Since(started)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v", e.timeout)
		}
		return fail(err)
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header}
	a.body, err = io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	x.Duration = time.Since(started)
	x.Status, x.AnswerHeader, x.AnswerBody = a.status, e.clean(a.header), e.kept(a.body)
	switch {
	case err != nil:
		return fail(fmt.Errorf("the answer broke off: %w", err))
	case len(a.body) > maxBody:
		return fail(fmt.Errorf("the answer has more than %d bytes", maxBody))
	}
	return a, x, nil
}

func (e *endpoint) setHeaders(req *http.Request, r *request) {
	req.Header.Set("User-Agent", "scimgate-conformance")
	req.Header.Set("Accept", "application/scim+json")
	if r.hasBody {
		req.Header.Set("Content-Type", "application/scim+json")
	}
	if e.token != "" {
		req.Header.Set("Authorization", "Bearer "+e.token)
	}
	for _, h := range r.headers {
		switch {
		case h[1] != "":
			req.Header.Set(h[0], h[1])
		case strings.EqualFold(h[0], "User-Agent"):
			req.Header.Set(h[0], "") // else the library sets its own
		default:
			req.Header.Del(h[0])
		}
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
}

const redacted = "[redacted]"

// redact takes the token out of a text.
func (e *endpoint) redact(s string) string {
	if e.token == "" {
		return s
	}
	return strings.ReplaceAll(s, e.token, redacted)
}

// clean is a copy of headers for a report.
func (e *endpoint) clean(h http.Header) http.Header {
	shown := http.Header{}
	for name, values := range h {
		for _, v := range values {
			if name == "Authorization" || name == "Set-Cookie" {
				scheme, _, _ := strings.Cut(v, " ")
				if name == "Set-Cookie" || scheme == v {
					scheme = ""
				}
				v = strings.TrimSpace(scheme + " " + redacted)
			}
			shown.Add(name, e.redact(v))
		}
	}
	return shown
}

// kept is a body for a report.
func (e *endpoint) kept(body []byte) string {
	text := e.redact(string(body))
	if len(text) <= maxKept {
		return text
	}
	return strings.ToValidUTF8(text[:maxKept], "") + fmt.Sprintf("\n… (%d bytes in all)", len(body))
}
