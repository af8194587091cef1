// Package conformance is a black-box suite for SCIM 2.0 service providers (RFC 7643, RFC 7644, RFC 9865).
//
// A [Case] is a requirement in words, the requests that try it, and what their answers must look like; each is one
// text file in cases, in the format that FORMAT.md describes. [Run] sends the cases to any service provider over HTTP,
// deletes what they created, and returns a [Report], which can be written as text, JSON, JUnit XML and HTML.
//
// The suite knows a service provider by its URL, a bearer token and what its discovery announces. It imports nothing
// of ours and needs no empty store, but it does create, change and delete users and groups of its own: the service
// provider under test should not be one whose users matter.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Config says where the service provider is and how to go about it.
type Config struct {
	URL      string        // SCIM base URL, such as https://scim.example.com/scim/v2
	Token    string        // bearer token; none if empty. It appears in no report
	Client   *http.Client  // nil: TLS 1.2 or higher and the environment's proxy. Redirects are never followed
	Timeout  time.Duration // of one request; 0 means 30 s
	Parallel int           // cases at a time; 0 means 1

	// Expected says, by case id, why a case is known to fail or to be unsupported, as ParseExpected reads it.
	Expected map[string]string
	// Strict makes an unsupported case news too, unless Expected names it: for those who know what is unsupported.
	Strict bool

	// Progress is called after each case, one call at a time, with how many are done. It may be nil.
	Progress func(done, of int, r *Result)
}

// Verdict is what came out of a case.
type Verdict string

const (
	Passed      Verdict = "passed"
	Failed      Verdict = "failed"      // an assertion did not hold
	Unsupported Verdict = "unsupported" // the service provider says that it does not have this
	Errored     Verdict = "error"       // there was no answer, or the case could not be carried out
)

// Result is one case's verdict, with what led to it.
type Result struct {
	Case      *Case
	Verdict   Verdict
	Reason    string // why it is not passed
	Line      int    // of the case's file: the assertion or request at which it ended
	Expected  string // why it is known to fail or to be unsupported, or ""
	Strict    bool   // unsupported is news unless it is expected
	Exchanges []Exchange
	Duration  time.Duration
}

// Unexpected reports whether the result is news: a failure that nobody expected, or one that was expected and is gone.
// An expected case that is unsupported is never news; one that is expected to be unsupported and fails is.
func (r *Result) Unexpected() bool {
	switch r.Verdict {
	case Failed, Errored:
		return r.Expected == "" || expectsUnsupported(r.Expected)
	case Passed:
		return r.Expected != ""
	}
	return r.Strict && r.Expected == ""
}

// Report is what a run has found.
type Report struct {
	URL       string
	Started   time.Time
	Duration  time.Duration
	Results   []*Result // in the order of the cases
	NotRun    int       // cases that an interruption, or the silence of the service provider, left out
	Left      []string  // resources that could not be deleted, with the reason
	Discovery []string  // what could not be read of discovery, with the reason
}

// Count returns how many results have a verdict.
func (r *Report) Count(v Verdict) int {
	n := 0
	for _, result := range r.Results {
		if result.Verdict == v {
			n++
		}
	}
	return n
}

// Unexpected returns how many results are news.
func (r *Report) Unexpected() int {
	n := 0
	for _, result := range r.Results {
		if result.Unexpected() {
			n++
		}
	}
	return n
}

const (
	maxCleanup = 2 * time.Minute // for deleting what one case created
	maxSilent  = 10              // cases in a row without an answer, before the rest is not run
)

var errSilent = fmt.Errorf("%d cases in a row had no answer: the rest was not run", maxSilent)

// Run sends the cases to a service provider, and after each one deletes what it created. When ctx ends, the requests
// under way are waited for, no case is begun any more, what was created is deleted, and the report of what was done
// until then is returned with ctx's error; so it is when the service provider falls silent. Without one that answers at
// first, or with a token that it refuses, there is only an error.
func Run(ctx context.Context, cfg Config, cases []*Case) (*Report, error) {
	e, err := newEndpoint(&cfg)
	if err != nil {
		return nil, err
	}
	report := &Report{URL: e.base.String(), Started: time.Now()}
	announced, err := discover(ctx, e)
	if err != nil {
		return nil, err
	}
	report.Discovery = announced.problems
	var left sync.Mutex
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	results := runAll(running, stop, &cfg, cases, func(c *Case) *Result {
		if missing := announced.missing(c); missing != "" {
			return &Result{Case: c, Verdict: Unsupported, Reason: missing}
		}
		a := &attempt{endpoint: e, made: created{endpoint: e}, result: &Result{Case: c}, variables: newVariables(e.base.String())}
		a.do(running)
		// Also when ctx has ended, and whatever came of the case.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxCleanup)
		defer cancel()
		behind := a.made.remove(cleanup)
		left.Lock()
		defer left.Unlock()
		report.Left = append(report.Left, behind...)
		return a.result
	})
	for _, r := range results {
		if r == nil {
			report.NotRun++
			continue
		}
		report.Results = append(report.Results, r)
	}
	report.Duration = time.Since(report.Started)
	return report, context.Cause(running)
}

// runAll runs the cases, cfg.Parallel at a time. Those not begun when ctx ends have no result; stop ends it.
func runAll(ctx context.Context, stop func(error), cfg *Config, cases []*Case, run func(*Case) *Result) []*Result {
	results := make([]*Result, len(cases))
	todo := make(chan int)
	var workers sync.WaitGroup
	var progress sync.Mutex
	done, silent := 0, 0
	for range max(cfg.Parallel, 1) {
		workers.Go(func() {
			for i := range todo {
				started := time.Now()
				r := run(cases[i])
				r.Expected, r.Strict, r.Duration = cfg.Expected[cases[i].ID], cfg.Strict, time.Since(started)
				results[i] = r
				progress.Lock()
				done++
				if silent++; r.Verdict != Errored {
					silent = 0
				}
				if silent == maxSilent {
					stop(errSilent)
				}
				if cfg.Progress != nil {
					cfg.Progress(done, len(cases), r)
				}
				progress.Unlock()
			}
		})
	}
	for i := range cases {
		if ctx.Err() != nil {
			break
		}
		select {
		case todo <- i:
		case <-ctx.Done():
		}
	}
	close(todo)
	workers.Wait()
	return results
}

// attempt is one case under way.
type attempt struct {
	endpoint  *endpoint
	made      created
	variables variables
	result    *Result
}

var errInterrupted = errors.New("interrupted")

func (r *attempt) do(ctx context.Context) {
	for _, a := range r.result.Case.lets {
		if err := r.let(a); err != nil {
			r.end(Errored, a.line, err)
			return
		}
	}
	for _, s := range r.result.Case.steps {
		for i := range s.times {
			r.variables["i"] = fmt.Sprint(i + 1)
			if err := ctx.Err(); err != nil {
				r.end(Errored, s.line, errInterrupted)
				return
			}
			if r.step(ctx, s); r.result.Verdict != "" {
				return
			}
		}
	}
	r.result.Verdict = Passed
}

func (r *attempt) end(v Verdict, line int, err error) {
	r.result.Verdict, r.result.Line, r.result.Reason = v, line, r.endpoint.redact(err.Error())
}

// step sends a request and judges its answer; it leaves a verdict only if the case ends here.
func (r *attempt) step(ctx context.Context, s *step) {
	req, err := r.request(s)
	if errors.Is(err, errTooLong) {
		r.end(Unsupported, s.line, err)
		return
	}
	if err != nil {
		r.end(Errored, s.line, err)
		return
	}
	if _, err := r.endpoint.locate(req.target); err != nil {
		r.end(Failed, s.line, err)
		return
	}
	a, x, err := r.endpoint.do(ctx, req)
	r.result.Exchanges = append(r.result.Exchanges, x)
	r.made.note(req, a)
	if err != nil {
		r.end(Errored, s.line, err)
		return
	}
	for _, pattern := range s.unsupported {
		if matchesStatus(pattern, a.status) {
			r.end(Unsupported, s.line, fmt.Errorf("%s %s is answered %d", s.method, s.target, a.status))
			return
		}
	}
	for _, assertion := range s.assertions {
		if err := r.assert(assertion, a); err != nil {
			r.end(Failed, assertion.line, err)
			return
		}
	}
}

// request fills in what a step sends.
func (r *attempt) request(s *step) (*request, error) {
	target, err := r.variables.target(s.target)
	if err != nil {
		return nil, err
	}
	req := &request{note: s.note, line: s.line, method: s.method, target: target, hasBody: s.hasBody}
	for _, h := range s.headers {
		value, err := r.variables.expand(h[1], asText)
		if err != nil {
			return nil, err
		}
		req.headers = append(req.headers, [2]string{h[0], value})
	}
	req.body, err = r.variables.expand(s.body, asJSON)
	return req, err
}

func (r *attempt) let(a *assertion) error {
	value, err := r.variables.expand(a.value, asText)
	r.variables[a.name] = value
	return err
}

// assert returns why an assertion does not hold of an answer.
func (r *attempt) assert(a *assertion, got *answer) error {
	switch a.kind {
	case "status":
		for _, pattern := range a.statuses {
			if matchesStatus(pattern, got.status) {
				return nil
			}
		}
		return fmt.Errorf("%s: got status %d%s", a.text, got.status, detail(got))
	case "error":
		return wrap(a, scimError(got, a.statuses, a.kinds))
	case "list":
		return wrap(a, listResponse(got))
	case "let":
		return r.let(a)
	case "capture":
		return wrap(a, r.capture(a, got))
	}
	return wrap(a, r.tested(a, got))
}

func wrap(a *assertion, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", a.text, err)
}

func (r *attempt) capture(a *assertion, got *answer) error {
	if a.header != "" {
		values := got.header.Values(a.header)
		if len(values) != 1 {
			return fmt.Errorf("the answer has %d headers %s, want one", len(values), a.header)
		}
		r.variables[a.name] = values[0]
		return nil
	}
	values, err := r.selected(a.path, got)
	if err != nil {
		return err
	}
	if len(values) != 1 || values[0] == nil {
		return fmt.Errorf("got %s, want one value", shownValues(values))
	}
	r.variables[a.name] = values[0]
	return nil
}

func (r *attempt) selected(p jsonPath, got *answer) ([]any, error) {
	body, err := got.json()
	if err != nil {
		return nil, err
	}
	p, err = p.with(r.variables)
	if err != nil {
		return nil, err
	}
	return p.of(body), nil
}

// tested makes the tests of header, body and json.
func (r *attempt) tested(a *assertion, got *answer) error {
	var values []any
	definite := true
	switch a.kind {
	case "header":
		if h := got.header.Values(a.name); len(h) > 0 {
			values = []any{joined(h)}
		}
	case "body":
		if a.test == nil {
			if len(got.body) > 0 {
				return fmt.Errorf("got %d bytes", len(got.body))
			}
			return nil
		}
		values = []any{string(got.body)}
	case "json":
		var err error
		if values, err = r.selected(a.path, got); err != nil {
			return err
		}
		definite = a.path.definite()
	}
	ok, err := a.test.holds(values, definite, r.variables)
	if ok || err != nil {
		return err
	}
	return fmt.Errorf("got %s%s", shownValues(values), r.wanted(a.test))
}

// wanted is what the variables of a test stand for, since the line itself does not show it.
func (r *attempt) wanted(t *test) string {
	for t.sub != nil {
		t = t.sub
	}
	_, text, err := t.want(r.variables)
	if err != nil || text == t.operand {
		return ""
	}
	return ", want " + cut(text)
}
