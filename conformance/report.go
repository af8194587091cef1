package conformance

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// TextOptions say how a report looks for people.
type TextOptions struct {
	Colours bool // ANSI sequences
	Verbose bool // a line for each case that is as expected, too
}

// Text writes the report for people: what is news in full, the rest in short.
func (r *Report) Text(w io.Writer, o TextOptions) error {
	p := &printer{w: w, colours: o.Colours}
	for _, result := range r.Results {
		if result.Unexpected() || o.Verbose {
			p.result(result)
		}
	}
	if !o.Verbose {
		p.list("expected to fail, and fails", r.Results, func(r *Result) string {
			if r.Unexpected() || r.Expected == "" || r.Verdict == Unsupported {
				return ""
			}
			return r.Expected
		})
		p.list("unsupported", r.Results, func(r *Result) string {
			switch {
			case r.Verdict != Unsupported || r.Unexpected():
				return ""
			case r.Expected != "":
				return strings.TrimPrefix(r.Expected, unsupportedPrefix) + " (" + r.Reason + ")"
			}
			return r.Reason
		})
	}
	p.notes("discovery could not be read in full; what it would say is taken as announced", r.Discovery)
	p.notes("could not be deleted", r.Left)
	p.printf("%s: %s in %v\n", shown(r.URL), r.summary(), r.Duration.Round(time.Millisecond))
	return p.err
}

// summary is the last line of a report.
func (r *Report) summary() string {
	cases := "cases"
	if len(r.Results) == 1 {
		cases = "case"
	}
	text := fmt.Sprintf("%d %s: %d passed, %d failed, %d unsupported, %d without an answer; %d unexpected",
		len(r.Results), cases, r.Count(Passed), r.Count(Failed), r.Count(Unsupported), r.Count(Errored), r.Unexpected())
	if r.NotRun > 0 {
		text += fmt.Sprintf("; %d not run", r.NotRun)
	}
	return text
}

// Heading is a result's verdict in the light of what was expected.
func (r *Result) Heading() string {
	switch {
	case r.Verdict == Passed && r.Expected != "":
		return "passed unexpectedly"
	case r.Verdict == Unsupported && r.Unexpected():
		return "unsupported unexpectedly"
	case r.Expected != "" && !r.Unexpected():
		return string(r.Verdict) + " as expected"
	}
	return string(r.Verdict)
}

// Expectation is what was expected of the case and why, or "".
func (r *Result) Expectation() string {
	if why, ok := strings.CutPrefix(r.Expected, unsupportedPrefix); ok {
		return "expected to be unsupported: " + why
	}
	if r.Expected != "" {
		return "expected to fail: " + r.Expected
	}
	return ""
}

type printer struct {
	w       io.Writer
	colours bool
	err     error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) paint(style, text string) string {
	if !p.colours {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (p *printer) result(r *Result) {
	style := map[Verdict]string{Passed: "32", Failed: "31", Unsupported: "2", Errored: "31"}[r.Verdict]
	if r.Expected != "" && r.Verdict != Unsupported {
		style = "33"
	}
	p.printf("%s %s\n", p.paint(style, r.Heading()), r.Case.ID)
	if r.Verdict == Passed && r.Expected == "" {
		return
	}
	p.printf("  %s: %s\n", r.Case.Level, r.Case.Requirement)
	if r.Expected != "" {
		p.printf("  %s\n", shown(r.Expectation()))
	}
	if r.Reason != "" {
		at := ""
		if r.Line > 0 {
			at = fmt.Sprintf("line %d: ", r.Line)
		}
		p.printf("  %s%s\n", at, shown(r.Reason))
	}
	if r.Unexpected() {
		for i := range r.Exchanges {
			p.exchange(&r.Exchanges[i])
		}
	}
	p.printf("\n")
}

func (p *printer) exchange(x *Exchange) {
	if x.Note != "" {
		p.printf("    %s\n", p.paint("2", "# "+x.Note))
	}
	p.printf("    %s\n", p.paint("1", shown(x.Method+" "+x.URL)))
	p.message("    > ", x.Header, x.Body)
	switch {
	case x.Status == 0:
		p.printf("    < %s\n", shown(x.Err))
	default:
		p.printf("    < %d %s, %v\n", x.Status, http.StatusText(x.Status), x.Duration.Round(100*time.Microsecond))
		p.message("    < ", x.AnswerHeader, x.AnswerBody)
	}
}

func (p *printer) message(indent string, header http.Header, body string) {
	for _, name := range sortedKeys(header) {
		p.printf("%s%s\n", p.paint("2", indent), shown(name+": "+joined(header[name])))
	}
	if body != "" {
		for line := range strings.SplitSeq(readable(body), "\n") {
			p.printf("%s%s\n", p.paint("2", indent), line)
		}
	}
}

// list prints the results that have a text, the same texts together.
func (p *printer) list(heading string, results []*Result, text func(*Result) string) {
	by := map[string][]string{}
	n := 0
	for _, r := range results {
		if t := text(r); t != "" {
			by[t] = append(by[t], r.Case.ID)
			n++
		}
	}
	if n == 0 {
		return
	}
	p.printf("%s\n", p.paint("1", fmt.Sprintf("%s: %d", heading, n)))
	for _, t := range sortedKeys(by) {
		p.printf("  %s\n", shown(t))
		for _, id := range by[t] {
			p.printf("    %s\n", id)
		}
	}
	p.printf("\n")
}

func (p *printer) notes(heading string, notes []string) {
	if len(notes) == 0 {
		return
	}
	p.printf("%s\n", p.paint("33", heading))
	for _, n := range notes {
		p.printf("  %s\n", shown(n))
	}
	p.printf("\n")
}

// shown is a text from outside without what could disturb a terminal or mislead its reader.
func shown(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\t' || strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// JSON writes the report for programs. A case that is not as it should be has its exchanges.
func (r *Report) JSON(w io.Writer) error {
	type entry struct {
		Case        string     `json:"case"`
		Set         string     `json:"set"`
		Level       string     `json:"level"`
		Requirement string     `json:"requirement"`
		Covers      []string   `json:"covers,omitempty"`
		Verdict     Verdict    `json:"verdict"`
		Unexpected  bool       `json:"unexpected"`
		Expected    string     `json:"expected,omitempty"`
		Reason      string     `json:"reason,omitempty"`
		Line        int        `json:"line,omitempty"`
		DurationMS  float64    `json:"duration_ms"`
		Exchanges   []Exchange `json:"exchanges,omitempty"`
	}
	report := struct {
		URL        string         `json:"url"`
		Started    time.Time      `json:"started"`
		DurationMS float64        `json:"duration_ms"`
		Cases      int            `json:"cases"`
		Verdicts   map[string]int `json:"verdicts"`
		Unexpected int            `json:"unexpected"`
		NotRun     int            `json:"not_run"`
		Left       []string       `json:"left,omitempty"`
		Discovery  []string       `json:"discovery,omitempty"`
		Results    []entry        `json:"results"`
	}{
		URL: r.URL, Started: r.Started.UTC(), DurationMS: milliseconds(r.Duration), Cases: len(r.Results), Verdicts: map[string]int{},
		Unexpected: r.Unexpected(), NotRun: r.NotRun, Left: r.Left, Discovery: r.Discovery, Results: []entry{},
	}
	for _, v := range []Verdict{Passed, Failed, Unsupported, Errored} {
		report.Verdicts[string(v)] = r.Count(v)
	}
	for _, result := range r.Results {
		e := entry{
			Case: result.Case.ID, Set: result.Case.Set(), Level: result.Case.Level, Requirement: result.Case.Requirement, Covers: result.Case.Covers,
			Verdict: result.Verdict, Unexpected: result.Unexpected(), Expected: result.Expected, Reason: result.Reason, Line: result.Line,
			DurationMS: milliseconds(result.Duration),
		}
		if result.Verdict == Failed || result.Verdict == Errored {
			e.Exchanges = result.Exchanges
		}
		report.Results = append(report.Results, e)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(report)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

type junitSuite struct {
	XMLName   xml.Name    `xml:"testsuite"`
	Name      string      `xml:"name,attr"`
	Tests     int         `xml:"tests,attr"`
	Failures  int         `xml:"failures,attr"`
	Errors    int         `xml:"errors,attr"`
	Skipped   int         `xml:"skipped,attr"`
	Time      string      `xml:"time,attr"`
	Timestamp string      `xml:"timestamp,attr"`
	Cases     []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitProblem `xml:"failure"`
	Error   *junitProblem `xml:"error"`
	Skipped *junitProblem `xml:"skipped"`
}

type junitProblem struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes the report as JUnit XML: what fails as expected, and what is unsupported, is skipped; what passes or is
// unsupported unexpectedly is a failure.
func (r *Report) JUnit(w io.Writer) error {
	suite := junitSuite{
		Name: "scimgate conformance", Tests: len(r.Results), Time: seconds(r.Duration), Timestamp: r.Started.UTC().Format("2006-01-02T15:04:05"),
	}
	for _, result := range r.Results {
		c := junitCase{Class: result.Case.Set(), Name: result.Case.ID, Time: seconds(result.Duration)}
		problem := &junitProblem{Message: shown(result.Reason), Text: result.account()}
		switch {
		case result.Verdict == Passed && result.Expected != "":
			c.Failure = &junitProblem{Message: "passes, although it is " + shown(result.Expectation())}
			suite.Failures++
		case result.Verdict == Unsupported && !result.Unexpected():
			c.Skipped = &junitProblem{Message: "unsupported: " + shown(result.Reason)}
			suite.Skipped++
		case result.Verdict != Passed && !result.Unexpected():
			c.Skipped = &junitProblem{Message: "fails as expected: " + shown(result.Expected)}
			suite.Skipped++
		case result.Verdict == Failed, result.Verdict == Unsupported:
			c.Failure = problem
			suite.Failures++
		case result.Verdict == Errored:
			c.Error = problem
			suite.Errors++
		}
		suite.Cases = append(suite.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// account is a result as the text report shows it.
func (r *Result) account() string {
	var b strings.Builder
	(&printer{w: &b}).result(r)
	return b.String()
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }
