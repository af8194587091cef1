package conformance

import (
	"embed"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed cases/*.txt
var files embed.FS

// Case is one requirement with the requests that show whether a service provider meets it.
type Case struct {
	ID          string   // the file's name without .txt
	Requirement string   // in our words
	Level       string   // MUST, SHOULD or MAY
	Covers      []string // ids of requirements of the RFCs
	Needs       []string // what must be announced for the case to apply
	Text        string   // the file

	lets  []*assertion // before the first request
	steps []*step
}

// Set is "rfc" or "entra".
func (c *Case) Set() string {
	if strings.HasPrefix(c.ID, "entra-") {
		return "entra"
	}
	return "rfc"
}

// step is a request and what is asserted of its answer.
type step struct {
	line        int
	note        string // the comment above
	times       int
	method      string
	target      string
	headers     [][2]string // an empty value takes a default header away
	body        string
	hasBody     bool
	unsupported []string // statuses that end the case as unsupported
	assertions  []*assertion
}

// assertion is one line under a request.
type assertion struct {
	line int
	text string
	kind string // status, error, list, header, body, json, capture, let

	statuses []string // status, error
	kinds    []string // error: the scimTypes
	name     string   // header; capture and let: the variable
	header   string   // capture: the header, or else the path
	path     jsonPath // json, capture
	test     *test    // header, body, json
	value    string   // let
}

// Cases returns the built-in cases in the order of their ids.
func Cases() ([]*Case, error) {
	entries, err := files.ReadDir("cases")
	if err != nil {
		return nil, err
	}
	var cases []*Case
	var problems []error
	for _, e := range entries {
		text, err := files.ReadFile(path.Join("cases", e.Name()))
		if err == nil {
			var c *Case
			c, err = Parse(strings.TrimSuffix(e.Name(), ".txt"), string(text))
			cases = append(cases, c)
		}
		problems = append(problems, err)
	}
	return cases, errors.Join(problems...)
}

// Select returns the cases of a set ("rfc", "entra" or "all") that match one of the patterns: ids, or globs as in
// path.Match. No pattern means all. A pattern that matches no case of any set is an error.
func Select(cases []*Case, set string, patterns []string) ([]*Case, error) {
	if !slices.Contains([]string{"rfc", "entra", "all"}, set) {
		return nil, fmt.Errorf("set %q is not known: use rfc, entra or all", set)
	}
	var selected []*Case
	used := make([]bool, len(patterns))
	for _, c := range cases {
		wanted := len(patterns) == 0
		for i, p := range patterns {
			ok, err := path.Match(strings.TrimSuffix(p, ".txt"), c.ID)
			if err != nil {
				return nil, fmt.Errorf("case %q: %w", p, err)
			}
			wanted, used[i] = wanted || ok, used[i] || ok
		}
		if wanted && (set == "all" || set == c.Set()) {
			selected = append(selected, c)
		}
	}
	if i := slices.Index(used, false); i >= 0 {
		return nil, fmt.Errorf("no case matches %q", patterns[i])
	}
	if len(selected) == 0 {
		return nil, fmt.Errorf("no selected case is in set %s", set)
	}
	return selected, nil
}

var (
	caseName    = regexp.MustCompile(`^(rfc[0-9]{4}(-[0-9]+(\.[0-9]+)*)?|entra)(-[a-z0-9.]+)+$`)
	needForm    = regexp.MustCompile(`^!?(patch|filter|sort|bulk|etag|changePassword|cursor|index|users|groups|enterprise|token|(User|Group|Enterprise)\.[A-Za-z0-9]+(\.[A-Za-z0-9$]+|\[[A-Za-z0-9]+\])?)$`)
	requestForm = regexp.MustCompile(`^(?:repeat ([0-9]+) )?([A-Z]+) (\S.*)$`)
	headerForm  = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*)$`)
	statusForm  = regexp.MustCompile(`^([1-5][0-9][0-9]|[1-5]xx)$`)
)

// maxTimes bounds a repeat.
const maxTimes = 1000

// Parse reads a case as FORMAT.md describes it. An error names the case and the line.
func Parse(id, text string) (*Case, error) {
	p := parser{
		c:     &Case{ID: id, Text: text},
		lines: strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n"),
		known: variables{},
	}
	for _, name := range builtin {
		p.known[name] = ""
	}
	if !caseName.MatchString(id) {
		return nil, fmt.Errorf("%s: a case is named rfc7644-SECTION-words or entra-words, in lower case", id)
	}
	if err := p.parse(); err != nil {
		return nil, fmt.Errorf("%s.txt:%d: %w", id, p.at, err)
	}
	return p.c, nil
}

type parser struct {
	c     *Case
	lines []string
	at    int // the number of the line that was read last
	known variables
}

// next returns the next line without blanks around it.
func (p *parser) next() (string, bool) {
	if p.at >= len(p.lines) {
		return "", false
	}
	p.at++
	return strings.TrimSpace(p.lines[p.at-1]), true
}

// peek returns the line that next would return.
func (p *parser) peek() (string, bool) {
	line, ok := p.next()
	if ok {
		p.at--
	}
	return line, ok
}

func (p *parser) parse() error {
	note := ""
	for {
		line, ok := p.next()
		if !ok {
			break
		}
		var err error
		switch {
		case line == "":
			note = ""
		case strings.HasPrefix(line, "#"):
			comment := strings.TrimSpace(strings.TrimPrefix(line, "#"))
			if len(p.c.steps) == 0 && p.c.Level == "" {
				p.c.Requirement = strings.TrimSpace(p.c.Requirement + " " + comment)
			} else {
				note = strings.TrimSpace(note + " " + comment)
			}
		case requestForm.MatchString(line):
			err = p.request(line, note)
			note = ""
		case len(p.c.steps) == 0 && headerForm.MatchString(line):
			err = p.head(line)
		default:
			err = p.assertion(line)
		}
		if err != nil {
			return err
		}
	}
	return p.complete()
}

// head reads a line such as `level: MUST`.
func (p *parser) head(line string) error {
	m := headerForm.FindStringSubmatch(line)
	fields := strings.Fields(m[2])
	switch m[1] {
	case "level":
		if !slices.Contains([]string{"MUST", "SHOULD", "MAY"}, m[2]) {
			return fmt.Errorf("level %q is not MUST, SHOULD or MAY", m[2])
		}
		p.c.Level = m[2]
	case "covers":
		p.c.Covers = append(p.c.Covers, fields...)
	case "needs":
		for _, n := range fields {
			if !needForm.MatchString(n) {
				return fmt.Errorf("there is no need %q", n)
			}
		}
		p.c.Needs = append(p.c.Needs, fields...)
	default:
		return fmt.Errorf("the head has level, covers and needs, not %q", m[1])
	}
	return nil
}

func (p *parser) request(line, note string) error {
	if err := p.closeStep(); err != nil {
		return err
	}
	m := requestForm.FindStringSubmatch(line)
	s := &step{line: p.at, note: note, times: 1, method: m[2], target: m[3]}
	if m[1] != "" {
		times, err := strconv.Atoi(m[1])
		if err != nil || times < 1 || times > maxTimes {
			return fmt.Errorf("repeat %s: want 1 to %d", m[1], maxTimes)
		}
		s.times = times
	}
	p.known["i"] = ""
	p.c.steps = append(p.c.steps, s)
	for {
		line, ok := p.peek()
		if !ok || !headerForm.MatchString(line) {
			break
		}
		m := headerForm.FindStringSubmatch(line)
		s.headers = append(s.headers, [2]string{m[1], m[2]})
		p.at++
		if err := p.known.known(m[2]); err != nil {
			return err
		}
	}
	if err := p.body(s); err != nil {
		return err
	}
	return p.known.known(s.target + s.body)
}

// body reads the request's body, if the next line that is not blank starts one.
func (p *parser) body(s *step) error {
	line, ok := p.peek()
	for blanks := p.at; ok && line == ""; line, ok = p.peek() {
		p.at++
		if after, _ := p.peek(); after != "" && !strings.HasPrefix(after, "{") && !strings.HasPrefix(after, "[") && after != "```" {
			p.at = blanks
			return nil
		}
	}
	switch {
	case line == "```":
		p.at++
		from := p.at
		for line, ok := p.next(); line != "```"; line, ok = p.next() {
			if !ok {
				return errors.New("the body's closing ``` is missing")
			}
		}
		s.body, s.hasBody = strings.Join(p.lines[from:p.at-1], "\n"), true
	case strings.HasPrefix(line, "{"), strings.HasPrefix(line, "["):
		from := p.at
		scan := nesting{}
		for p.at < len(p.lines) {
			p.at++
			if closed := scan.line(p.lines[p.at-1]); closed {
				s.body, s.hasBody = strings.Join(p.lines[from:p.at], "\n"), true
				return p.wellFormed(s.body)
			}
		}
		p.at = from + 1
		return errors.New("the body that starts here is not closed")
	}
	return nil
}

// wellFormed checks a body with 0 for every variable.
func (p *parser) wellFormed(body string) error {
	names, err := references(body)
	if err != nil {
		return err
	}
	placeholders := variables{}
	for _, name := range names {
		placeholders[name] = "0"
	}
	if strings.Contains(body, "{{repeat:") {
		return nil // what it repeats may hold more than a value
	}
	if _, err := placeholders.json(body); err != nil {
		return fmt.Errorf("the body is not well-formed JSON (put it between ``` lines if that is what is meant): %w", err)
	}
	return nil
}

// nesting finds the line that closes a JSON value.
type nesting struct {
	depth  int
	quoted bool
}

func (n *nesting) line(text string) (closed bool) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case n.quoted && c == '\\':
			i++
		case c == '"':
			n.quoted = !n.quoted
		case n.quoted:
		case c == '{' || c == '[':
			n.depth++
		case c == '}' || c == ']':
			n.depth--
		}
	}
	return n.depth <= 0
}

// assertion reads a line under a request.
func (p *parser) assertion(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	a := &assertion{line: p.at, text: line, kind: word}
	if len(p.c.steps) == 0 {
		if word != "let" {
			return fmt.Errorf("want a request, got %q", line)
		}
		p.c.lets = append(p.c.lets, a)
		return p.let(a, rest)
	}
	s := p.c.steps[len(p.c.steps)-1]
	if word == "unsupported" {
		s.unsupported = strings.Fields(rest)
		return statuses(s.unsupported)
	}
	if word != "status" && word != "error" && len(s.assertions) == 0 {
		return fmt.Errorf("the first assertion of a step is status or error, got %q", line)
	}
	s.assertions = append(s.assertions, a)
	switch word {
	case "status":
		a.statuses = strings.Fields(rest)
		return statuses(a.statuses)
	case "error":
		codes, kinds, _ := strings.Cut(rest, " ")
		a.statuses = strings.Split(codes, ",")
		if kinds != "" {
			a.kinds = strings.Split(strings.TrimSpace(kinds), ",")
		}
		return statuses(a.statuses)
	case "list":
		if rest != "" {
			return fmt.Errorf("nothing stands behind list, got %q", rest)
		}
		return nil
	case "let":
		return p.let(a, rest)
	case "capture":
		return p.capture(a, rest)
	}
	return p.tested(a, rest)
}

func statuses(list []string) error {
	for _, s := range list {
		if !statusForm.MatchString(s) {
			return fmt.Errorf("%q is not a status", s)
		}
	}
	if len(list) == 0 {
		return errors.New("want at least one status")
	}
	return nil
}

func (p *parser) let(a *assertion, rest string) error {
	name, value, _ := strings.Cut(rest, " ")
	a.name, a.value = name, strings.TrimSpace(value)
	if err := p.known.known(a.value); err != nil {
		return err
	}
	return p.set(name)
}

// set makes a variable known to the lines after.
func (p *parser) set(name string) error {
	if !nameForm.MatchString(name) || slices.Contains(builtin, name) || name == "i" {
		return fmt.Errorf("%q cannot be the name of a variable", name)
	}
	p.known[name] = ""
	return nil
}

func (p *parser) capture(a *assertion, rest string) error {
	name, from, _ := strings.Cut(rest, " ")
	a.name, from = name, strings.TrimSpace(from)
	if header, ok := strings.CutPrefix(from, "header "); ok {
		a.header = strings.TrimSpace(header)
		return p.set(name)
	}
	path, after, err := cutPath(from)
	if err == nil && after != "" {
		err = fmt.Errorf("after the path stands %q", after)
	}
	if err == nil {
		err = p.known.known(from)
	}
	if err != nil {
		return err
	}
	a.path = path
	return p.set(name)
}

// tested reads `header`, `body` and `json`.
func (p *parser) tested(a *assertion, rest string) (err error) {
	if err := p.known.known(rest); err != nil {
		return err
	}
	switch a.kind {
	case "header":
		a.name, rest, _ = strings.Cut(rest, " ")
	case "body":
		if rest == "empty" {
			return nil
		}
	case "json":
		if a.path, rest, err = cutPath(rest); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%q is neither a request (METHOD TARGET) nor an assertion", a.text)
	}
	a.test, err = parseTest(strings.TrimSpace(rest))
	return err
}

// closeStep checks the step before a new one.
func (p *parser) closeStep() error {
	if n := len(p.c.steps); n > 0 && len(p.c.steps[n-1].assertions) == 0 {
		return fmt.Errorf("the request of line %d has no assertion", p.c.steps[n-1].line)
	}
	return nil
}

// complete checks the whole case.
func (p *parser) complete() error {
	switch {
	case p.c.Requirement == "":
		return errors.New("the requirement is missing: start the file with `# text`")
	case p.c.Level == "":
		return errors.New("the head lacks `level: MUST`, SHOULD or MAY")
	case len(p.c.steps) == 0:
		return errors.New("there is no request")
	}
	return p.closeStep()
}
