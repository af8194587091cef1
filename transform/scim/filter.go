package scim

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	filter "github.com/scim2/filter-parser/v2"
)

// The filter AST (RFC 7644, Section 3.4.2.2). A CompareValue is nil (for null, and with [Pr]), bool, string with
// its escapes undone, int, float64 (written with a fraction or an exponent) or json.Number (an integer beyond
// int64).
type (
	// Filter is one of *AttributeExpression, *LogicalExpression, *NotExpression and *ValuePath; nil is no filter.
	Filter              = filter.Expression
	AttributeExpression = filter.AttributeExpression
	LogicalExpression   = filter.LogicalExpression
	NotExpression       = filter.NotExpression
	ValuePath           = filter.ValuePath
	AttributePath       = filter.AttributePath
	CompareOperator     = filter.CompareOperator
	LogicalOperator     = filter.LogicalOperator
)

// The operators (RFC 7644, Tables 3 and 4).
const (
	Pr = filter.PR
	Eq = filter.EQ
	Ne = filter.NE
	Co = filter.CO
	Sw = filter.SW
	Ew = filter.EW
	Gt = filter.GT
	Lt = filter.LT
	Ge = filter.GE
	Le = filter.LE

	And = filter.AND
	Or  = filter.OR
)

// Limits of a filter and of a PATCH path.
const (
	MaxFilter = 2 << 10 // bytes
	MaxDepth  = 16      // brackets of all kinds inside one another
)

// ParseFilter reads a filter (RFC 7644, Section 3.4.2.2). It goes over the text once and its depth is bounded.
//
// Beyond Figure 1 it takes more than one space where one belongs, spaces around the whole and inside brackets,
// no space between an operator and a quoted string (as the RFC's own example in Section 3.5.2.2 has it), and
// `emails[type eq "work"].value eq "x"`, which it reads as `emails[type eq "work" and value eq "x"]`.
// The error is an *Error, 400 invalidFilter, that names the character and quotes nothing.
func ParseFilter(s string) (Filter, error) {
	p := parser{s: s, what: "filter", scimType: InvalidFilter}
	if err := p.begin(); err != nil {
		return nil, err
	}
	f, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.skip(); p.pos < len(s) {
		return nil, p.fail("expected and, or, or the end")
	}
	return f, nil
}

// parser holds a text and how far it was read. Every method leaves pos behind what it read, or at what is wrong.
type parser struct {
	s        string
	pos      int
	depth    int
	inside   bool   // within a value filter
	what     string // is being read: for errors
	scimType string
}

func (p *parser) fail(text string) error {
	return BadRequest(p.scimType, "%s: at character %d: %s", p.what, utf8.RuneCountInString(p.s[:p.pos])+1, text)
}

func (p *parser) begin() error {
	if len(p.s) > MaxFilter {
		return BadRequest(p.scimType, "%s: longer than %d bytes", p.what, MaxFilter)
	}
	p.skip()
	return nil
}

// skip passes over spaces and returns how many there were.
func (p *parser) skip() int {
	start := p.pos
	for p.at(' ') {
		p.pos++
	}
	return p.pos - start
}

// at reports whether the next byte is c.
func (p *parser) at(c byte) bool { return p.pos < len(p.s) && p.s[p.pos] == c }

// ended reports whether an expression may end here.
func (p *parser) ended() bool {
	return p.pos == len(p.s) || p.at(' ') || p.at(')') || p.at(']')
}

func (p *parser) or() (Filter, error) {
	left, err := p.and()
	for err == nil && p.keyword("or") {
		var right Filter
		right, err = p.and()
		left = &LogicalExpression{Left: left, Right: right, Operator: Or}
	}
	return left, err
}

func (p *parser) and() (Filter, error) {
	left, err := p.term()
	for err == nil && p.keyword("and") {
		var right Filter
		right, err = p.term()
		left = &LogicalExpression{Left: left, Right: right, Operator: And}
	}
	return left, err
}

// keyword passes over a logical operator with the spaces around it.
func (p *parser) keyword(word string) bool {
	start := p.pos
	if p.skip() > 0 && len(p.s)-p.pos >= len(word) && strings.EqualFold(p.s[p.pos:p.pos+len(word)], word) {
		p.pos += len(word)
		if p.skip() > 0 || p.pos == len(p.s) {
			return true
		}
	}
	p.pos = start
	return false
}

func (p *parser) term() (Filter, error) {
	if p.at('(') {
		return p.group('(', ')')
	}
	if p.not() {
		f, err := p.group('(', ')')
		return &NotExpression{Expression: f}, err
	}
	path, err := p.attributePath()
	if err != nil {
		return nil, err
	}
	spaces := p.skip()
	if p.at('[') {
		return p.valuePath(path)
	}
	return p.comparison(path, spaces)
}

// not passes over "not" when a bracket follows. Otherwise it is the name of an attribute.
func (p *parser) not() bool {
	start := p.pos
	if len(p.s)-p.pos > 3 && strings.EqualFold(p.s[p.pos:p.pos+3], "not") {
		p.pos += 3
		if p.skip(); p.at('(') {
			return true
		}
	}
	p.pos = start
	return false
}

// group reads a filter in brackets. The opening one is the next byte.
func (p *parser) group(opening, closing byte) (Filter, error) {
	if p.depth == MaxDepth {
		return nil, p.fail("more than " + strconv.Itoa(MaxDepth) + " brackets inside one another")
	}
	p.depth++
	p.pos++
	p.skip()
	f, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.skip(); !p.at(closing) {
		return nil, p.fail("expected and, or, or the " + string(rune(closing)) + " that closes a " + string(rune(opening)))
	}
	p.pos++
	p.depth--
	return f, nil
}

func (p *parser) valuePath(path AttributePath) (Filter, error) {
	f, err := p.valueFilter()
	if err != nil {
		return nil, err
	}
	if !p.at('.') {
		if !p.ended() {
			return nil, p.fail("expected and, or, or the end")
		}
		return &ValuePath{AttributePath: path, ValueFilter: f}, nil
	}
	p.pos++
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	spaces := p.skip()
	if p.at('[') {
		return nil, p.fail("a value filter cannot stand behind another")
	}
	right, err := p.comparison(AttributePath{AttributeName: name}, spaces)
	if err != nil {
		return nil, err
	}
	both := &LogicalExpression{Left: f, Right: right, Operator: And}
	return &ValuePath{AttributePath: path, ValueFilter: both}, nil
}

// valueFilter reads "[" valFilter "]". Figure 1 would allow a value filter inside another; no schema can, because
// a sub-attribute is never complex (RFC 7643, Section 2.3.8).
func (p *parser) valueFilter() (Filter, error) {
	if p.inside {
		return nil, p.fail("a value filter cannot stand in another")
	}
	p.inside = true
	f, err := p.group('[', ']')
	p.inside = false
	return f, err
}

const expectedOperator = "expected an operator: pr, eq, ne, co, sw, ew, gt, ge, lt or le"

func (p *parser) comparison(path AttributePath, spaces int) (Filter, error) {
	if spaces == 0 && p.pos < len(p.s) {
		return nil, p.fail("expected a space and an operator behind the attribute name")
	}
	op := p.operator()
	if op == "" {
		return nil, p.fail(expectedOperator)
	}
	e := &AttributeExpression{AttributePath: path, Operator: op}
	p.pos += len(op)
	switch {
	case op == Pr && p.ended():
		return e, nil
	case op != Pr && (p.ended() || p.at('"')):
		p.skip()
		var err error
		if e.CompareValue, err = p.value(); err != nil {
			return nil, err
		}
		if !p.ended() {
			return nil, p.fail("expected a space behind the value")
		}
		return e, nil
	default:
		p.pos -= len(op)
		return nil, p.fail(expectedOperator)
	}
}

// operator looks at the next two bytes and stays where it is.
func (p *parser) operator() CompareOperator {
	if len(p.s)-p.pos < 2 {
		return ""
	}
	const lower = 0x20 // maps A-Z to a-z, and nothing else into a-z
	switch uint16(p.s[p.pos]|lower)<<8 | uint16(p.s[p.pos+1]|lower) {
	case 'p'<<8 | 'r':
		return Pr
	case 'e'<<8 | 'q':
		return Eq
	case 'n'<<8 | 'e':
		return Ne
	case 'c'<<8 | 'o':
		return Co
	case 's'<<8 | 'w':
		return Sw
	case 'e'<<8 | 'w':
		return Ew
	case 'g'<<8 | 't':
		return Gt
	case 'l'<<8 | 't':
		return Lt
	case 'g'<<8 | 'e':
		return Ge
	case 'l'<<8 | 'e':
		return Le
	default:
		return ""
	}
}

// value reads a compValue: what JSON has for it (RFC 8259), so true, false and null in lower case only.
func (p *parser) value() (any, error) {
	rest := p.s[p.pos:]
	switch {
	case rest == "":
	case rest[0] == '"':
		return p.text()
	case rest[0] == '-' || '0' <= rest[0] && rest[0] <= '9':
		return p.number()
	case strings.HasPrefix(rest, "true"):
		p.pos += 4
		return true, nil
	case strings.HasPrefix(rest, "false"):
		p.pos += 5
		return false, nil
	case strings.HasPrefix(rest, "null"):
		p.pos += 4
		return nil, nil
	}
	return nil, p.fail("expected a value: a string in double quotes, a number, true, false or null")
}

// text reads a JSON string. Without escapes it is a part of the filter's own text.
func (p *parser) text() (string, error) {
	start := p.pos + 1
	for i := start; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '"':
			s := p.s[start:i]
			if !utf8.ValidString(s) {
				return "", p.fail("a string is not valid UTF-8")
			}
			p.pos = i + 1
			return s, nil
		case c == '\\':
			d := decoder{data: p.s, pos: p.pos}
			s, err := d.text()
			if p.pos = d.pos; err != nil {
				return "", p.fail("a string is not valid JSON")
			}
			return s, nil
		case c < ' ':
			p.pos = i
			return "", p.fail("a control character in a string")
		}
	}
	p.pos = len(p.s)
	return "", p.fail(`expected the " that ends a string`)
}

// number reads a JSON number. Integers stay exact whatever their size.
func (p *parser) number() (any, error) {
	start := p.pos
	if p.at('-') {
		p.pos++
	}
	if p.at('0') {
		p.pos++
	} else if !p.digits() {
		return nil, p.fail("expected a digit")
	}
	integer := true
	if p.at('.') {
		integer = false
		if p.pos++; !p.digits() {
			return nil, p.fail("expected a digit")
		}
	}
	if p.at('e') || p.at('E') {
		integer = false
		if p.pos++; p.at('+') || p.at('-') {
			p.pos++
		}
		if !p.digits() {
			return nil, p.fail("expected a digit")
		}
	}
	text := p.s[start:p.pos]
	if integer {
		if n, err := strconv.Atoi(text); err == nil {
			return n, nil
		}
		return json.Number(text), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		p.pos = start
		return nil, p.fail("a number beyond the range of a double")
	}
	return f, nil
}

func (p *parser) digits() bool {
	start := p.pos
	for p.pos < len(p.s) && '0' <= p.s[p.pos] && p.s[p.pos] <= '9' {
		p.pos++
	}
	return p.pos > start
}
