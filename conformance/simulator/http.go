package simulator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"scimgate/transform/scim"
)

// ServeHTTP answers a request over HTTP. Every exchange is in the ledger before its answer leaves.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := s.receive(r)
	out := s.exchange(r.Context(), c)
	a := s.compose(c, out)
	if out.broken == Truncate && len(a.body) < 2 {
		out.broken = Lost
	}
	switch out.broken {
	case Hang, Reset, Lost:
		s.finish(c, 0)
		if out.broken == Reset {
			reset(w)
		}
		// net/http takes this for the end of the exchange and closes the connection.
		panic(http.ErrAbortHandler)
	}
	s.finish(c, a.status)
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	if out.broken == Truncate {
		_, _ = w.Write(a.body[:len(a.body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(a.body) // the client is gone when this fails
}

// receive reads a request as far as its token allows.
func (s *Simulator) receive(r *http.Request) *call {
	c := &call{base: s.cfg.URL}
	if c.base == "" {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		c.base = scheme + "://" + r.Host + s.root()
	}
	if !s.authorized(r.Header.Get("Authorization")) {
		c.denied, c.err = true, scim.Errorf(http.StatusUnauthorized, "", "the token is not valid")
		if s.cfg.Assume.BadTokenForbidden {
			c.err = scim.Errorf(http.StatusForbidden, "", "the token is not valid")
		}
		c.entry = newEntry(s.cfg.Clock(), r.Method, r.URL, r.Header, nil)
		return c
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, s.cfg.MaxBody+1))
	c.entry = newEntry(s.cfg.Clock(), r.Method, r.URL, r.Header, body)
	rest := io.Reader(bytes.NewReader(body))
	if err != nil {
		rest = io.MultiReader(rest, failed{err})
	}
	r.Body = io.NopCloser(rest)
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), s.root())
	if !ok || path != "" && path[0] != '/' {
		c.err = scim.Errorf(http.StatusNotFound, "", "there is nothing here: the base path is %s", s.cfg.BasePath)
		return c
	}
	if c.req, c.err = scim.ReadRequest(r, path, s.types, s.cfg.MaxBody); c.err != nil {
		c.req = nil
	}
	return c
}

// failed is a body that breaks off.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

func (s *Simulator) authorized(header string) bool {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	found := 0
	for i := range s.tokens {
		found |= subtle.ConstantTimeCompare(sum[:], s.tokens[i][:])
	}
	return found == 1
}

// answerBuffer holds an answer until it is known how much of it will be sent.
type answerBuffer struct {
	header http.Header
	status int
	body   []byte
}

// Header implements http.ResponseWriter.
func (a *answerBuffer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answerBuffer) WriteHeader(status int) { a.status = status }

// Write implements http.ResponseWriter.
func (a *answerBuffer) Write(p []byte) (int, error) {
	a.body = append(a.body, p...)
	return len(p), nil
}

const page = "<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body><h1>Please wait</h1></body></html>\n"

// compose writes the answer that is, or would have been, sent.
func (s *Simulator) compose(c *call, out outcome) *answerBuffer {
	a := &answerBuffer{header: http.Header{}}
	e, isError := errors.AsType[*scim.Error](out.err)
	switch {
	case out.broken == HTML:
		a.header.Set("Content-Type", "text/html; charset=utf-8")
		a.header.Set("Content-Length", strconv.Itoa(len(page)))
		if out.fault.RetryAfter > 0 {
			a.header.Set("Retry-After", strconv.Itoa(seconds(out.fault.RetryAfter)))
		}
		a.status, a.body = out.fault.Status, []byte(page)
		return a
	case out.err == nil && out.resp == nil: // broken before there was anything to answer
		return a
	case out.err == nil:
		scim.WriteResponse(a, c.req, out.resp, c.base)
	default:
		scim.WriteError(a, out.err, "")
		if isError && (s.cfg.Assume.RESTErrors || errors.Is(e, errREST)) {
			a.body = scim.AppendJSON(nil, map[string]any{"code": e.Status, "message": e.Detail})
			a.header.Set("Content-Length", strconv.Itoa(len(a.body)))
			a.header.Set("Content-Type", "application/json")
		}
	}
	if s.cfg.Assume.PlainJSON && len(a.body) > 0 {
		a.header.Set("Content-Type", "application/json")
	}
	return a
}

// reset closes the connection so that the client sees a reset rather than an end.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // HTTP/2: the caller's panic resets the stream
	}
	var inner net.Conn = conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		inner = t.NetConn()
	}
	if tcp, ok := inner.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = inner.Close()
}

// wireForm is what a request would be over HTTP, for the ledger.
func wireForm(ctx context.Context, req *scim.Request, root string) (method string, target *url.URL, header http.Header, body []byte, err error) {
	if req.Type == nil {
		return http.MethodGet, &url.URL{Path: root + "/" + req.ID}, http.Header{}, nil, nil
	}
	hr, err := scim.NewHTTPRequest(ctx, root, scim.MediaType, req)
	if err != nil {
		return "", nil, nil, nil, err
	}
	if hr.Body != nil {
		if body, err = io.ReadAll(hr.Body); err != nil {
			return "", nil, nil, nil, fmt.Errorf("read the request's body: %w", err)
		}
	}
	return hr.Method, hr.URL, hr.Header, body, nil
}
