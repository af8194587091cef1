package conformance

import (
	_ "embed"
	"html/template"
	"io"
	"net/http"
	"strings"
	"time"
)

//go:embed report.html
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"shown":      shown,
	"readable":   readable,
	"joined":     joined,
	"statusText": http.StatusText,
	"ms":         func(d time.Duration) string { return d.Round(100 * time.Microsecond).String() },
	"brief":      (*Result).brief,
}).Parse(pageText))

// brief is what stands beside a case's name while its details are closed.
func (r *Result) brief() string {
	switch {
	case r.Unexpected():
		return r.Heading()
	case r.Expected != "":
		return strings.TrimPrefix(r.Expected, unsupportedPrefix)
	}
	return r.Reason
}

// group is a section of the page.
type group struct {
	Class, Title string
	Results      []*Result
}

// groups are the results, what is news first.
func (r *Report) groups() []*group {
	news, expected := &group{Class: "news", Title: "unexpected"}, &group{Class: "expected", Title: "failed as expected"}
	unsupported, passed := &group{Class: "unsupported", Title: "unsupported"}, &group{Class: "passed", Title: "passed"}
	for _, result := range r.Results {
		g := expected
		switch {
		case result.Unexpected():
			g = news
		case result.Verdict == Passed:
			g = passed
		case result.Verdict == Unsupported:
			g = unsupported
		}
		g.Results = append(g.Results, result)
	}
	return []*group{news, expected, unsupported, passed}
}

// HTML writes the report as one page that needs nothing else, neither script nor network.
func (r *Report) HTML(w io.Writer) error {
	return page.Execute(w, struct {
		*Report
		Summary string
		Groups  []*group
	}{r, r.summary(), r.groups()})
}
