package gateway

// Filters of TestFiltersProperty as text, and at random. Like oracle_test.go, this knows nothing of transform.

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// speller writes filters. With rand it uses every freedom that the grammar leaves: case, spaces, brackets, escapes,
// URNs; without, the plainest form.
type speller struct {
	b      strings.Builder
	rand   *rand.Rand
	inside bool // the brackets of a value filter, where names have no URN
}

func spell(c condition, r *rand.Rand) string {
	s := speller{rand: r}
	s.spaces(0)
	s.filter(c, 0)
	s.spaces(0)
	return s.b.String()
}

// chance is true once in n; never without rand.
func (s *speller) chance(n int) bool { return s.rand != nil && s.rand.IntN(n) == 0 }

func (s *speller) spaces(least int) {
	for s.chance(5) {
		least++
	}
	s.b.WriteString(strings.Repeat(" ", least))
}

// word writes a name or an operator, once in a while in odd case.
func (s *speller) word(w string) {
	if !s.chance(4) {
		s.b.WriteString(w)
		return
	}
	for _, r := range w {
		if s.rand.IntN(2) == 0 {
			s.b.WriteString(strings.ToUpper(string(r)))
		} else {
			s.b.WriteString(strings.ToLower(string(r)))
		}
	}
}

// The strengths of binding: what binds less stands in brackets.
const (
	bindsOr = iota
	bindsAnd
	bindsNot
)

func (s *speller) filter(c condition, around int) {
	binds := bindsNot
	if j, ok := c.(*junction); ok && j.or {
		binds = bindsOr
	} else if ok {
		binds = bindsAnd
	}
	if binds < around || s.chance(12) {
		s.brackets('(', ')', func() { s.filter(c, bindsOr) })
		return
	}
	switch c := c.(type) {
	case *comparison:
		s.place(c.place)
		s.comparison(c)
	case *junction:
		word := "and"
		if c.or {
			word = "or"
		}
		s.filter(c.left, binds)
		s.spaces(1)
		s.word(word)
		s.spaces(1)
		s.filter(c.right, binds)
	case *negation:
		s.word("not")
		if !s.chance(3) {
			s.spaces(1)
		}
		s.brackets('(', ')', func() { s.filter(c.of, bindsOr) })
	case *valueFilter:
		s.place(c.place)
		s.valueFilter(c.filter)
	}
}

func (s *speller) brackets(open, closing byte, inner func()) {
	s.b.WriteByte(open)
	s.spaces(0)
	inner()
	s.spaces(0)
	s.b.WriteByte(closing)
}

// valueFilter writes [filter], or the extended form [filter].sub op value for an AND that ends in a comparison.
func (s *speller) valueFilter(f condition) {
	inner := func(f condition) {
		s.inside = true
		s.brackets('[', ']', func() { s.filter(f, bindsOr) })
		s.inside = false
	}
	if j, ok := f.(*junction); ok && !j.or && s.chance(2) {
		if c, ok := j.right.(*comparison); ok {
			inner(j.left)
			s.b.WriteByte('.')
			s.word(c.place.name)
			s.comparison(c)
			return
		}
	}
	inner(f)
}

func (s *speller) place(p place) {
	switch {
	case p.urn != "" && !s.chance(3): // an extension's attribute may stand alone where nothing else has its name
		s.word(p.urn)
		s.b.WriteByte(':')
	case p.urn == "" && !s.inside && s.chance(6):
		s.word(coreURN)
		s.b.WriteByte(':')
	}
	s.word(p.name)
	if p.sub != "" {
		s.b.WriteByte('.')
		s.word(p.sub)
	}
}

func (s *speller) comparison(c *comparison) {
	s.spaces(1)
	s.word(c.op)
	if c.op == "pr" {
		return
	}
	if _, isText := c.value.(string); !isText || !s.chance(10) {
		s.spaces(1)
	}
	switch v := c.value.(type) {
	case nil:
		s.b.WriteString("null")
	case string:
		s.text(v)
	default:
		fmt.Fprint(&s.b, v)
	}
}

// text writes a JSON string (RFC 8259, Section 7).
func (s *speller) text(v string) {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '/': `\/`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
	s.b.WriteByte('"')
	for _, r := range v {
		must := r == '"' || r == '\\' || r < ' '
		switch {
		case !must && !s.chance(15):
			s.b.WriteRune(r)
		case short[r] != "" && !s.chance(3):
			s.b.WriteString(short[r])
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&s.b, `\u%04x\u%04X`, high, low)
		default:
			fmt.Fprintf(&s.b, `\u%04x`, r)
		}
	}
	s.b.WriteByte('"')
}

// chooser draws filters that have something to do with resources: most compare what one of them has.
type chooser struct {
	*rand.Rand
	shown  []map[string]any
	former []string // userNames that somebody has or had, here or upstream
}

func (g *chooser) oneIn(n int) bool { return g.IntN(n) == 0 }

func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func (g *chooser) someone() map[string]any {
	if len(g.shown) == 0 {
		return nil
	}
	return oneOf(g.Rand, g.shown...)
}

// filter draws a filter about a resource, of at most so many levels.
func (g *chooser) filter(about map[string]any, levels int) condition {
	roll := g.IntN(100)
	switch {
	case levels == 0 || roll < 40:
		return g.comparison(about)
	case roll < 60:
		left := g.filter(about, levels-1)
		if g.oneIn(6) {
			return &junction{false, left, left} // the same thing twice
		}
		return &junction{false, left, g.filter(about, levels-1)}
	case roll < 75:
		return &junction{true, g.filter(g.someone(), levels-1), g.filter(about, levels-1)}
	case roll < 83:
		return &negation{g.filter(g.someone(), levels-1)}
	case roll < 88:
		return g.lacking(about)
	default:
		return g.valueFilter(about)
	}
}

// identities are the attributes that clients match by.
var identities = []place{{name: "userName"}, {name: "userName"}, {name: "externalId"}, {name: "id"}, {name: "emails", sub: "value"}}

func (g *chooser) comparison(about map[string]any) condition {
	if g.oneIn(3) {
		p := oneOf(g.Rand, identities...)
		c := &comparison{place: p, op: oneOf(g.Rand, "eq", "eq", "eq", "eq", "ne", "co", "sw", "pr", "gt")}
		g.value(c, about, nil)
		return c
	}
	var assigned []attribute
	for _, a := range userAttributes {
		if has(find(about, place{urn: a.urn, name: a.name})) {
			assigned = append(assigned, a)
		}
	}
	a := oneOf(g.Rand, userAttributes...)
	if len(assigned) > 0 && !g.oneIn(5) {
		a = oneOf(g.Rand, assigned...)
	}
	c := &comparison{place: place{urn: a.urn, name: a.name}}
	if a.kind == complexKind && !g.oneIn(4) || a.several && a.kind != complexKind && g.oneIn(4) {
		c.place.sub = g.sub(a, find(about, c.place))
	}
	g.operator(c, nil)
	g.value(c, about, nil)
	return c
}

// sub draws a sub-attribute, most likely one that the value has.
func (g *chooser) sub(a attribute, value any) string {
	if a.kind != complexKind {
		return "value"
	}
	var names, used []string
	for name := range a.subs {
		names = append(names, name)
		if slices.ContainsFunc(parts(value, name), has) {
			used = append(used, name)
		}
	}
	slices.Sort(names)
	slices.Sort(used)
	if len(used) > 0 && !g.oneIn(5) {
		return oneOf(g.Rand, used...)
	}
	return oneOf(g.Rand, names...)
}

// operator draws one that fits the type, but for a few.
func (g *chooser) operator(c *comparison, within *attribute) {
	for range 8 {
		c.op, c.value = oneOf(g.Rand, "eq", "eq", "eq", "ne", "co", "sw", "ew", "pr", "gt", "ge", "lt", "le"), "x"
		if c.valid(within) || g.oneIn(40) {
			return
		}
	}
	c.op = "pr"
}

func (g *chooser) valueFilter(about map[string]any) condition {
	var several []attribute
	for _, a := range userAttributes {
		if (a.several || a.kind == complexKind && g.oneIn(3)) && (has(find(about, place{name: a.name, urn: a.urn})) || g.oneIn(6)) {
			several = append(several, a)
		}
	}
	if len(several) == 0 {
		return g.comparison(about)
	}
	a := oneOf(g.Rand, several...)
	p := place{urn: a.urn, name: a.name}
	elements := parts(find(about, p), "")
	return &valueFilter{p, g.inner(&a, oneOf(g.Rand, elements...), 2)}
}

// lacking draws a value filter that is true of values without what is compared: an upstream that stores a part of an
// attribute may not have all of them.
func (g *chooser) lacking(about map[string]any) condition {
	p := place{name: "name", sub: oneOf(g.Rand, "givenName", "givenName", "familyName", "formatted")} // all of which may be missing
	if g.oneIn(4) {
		p = oneOf(g.Rand, place{name: "emails", sub: "value"}, place{name: "addresses", sub: "locality"}, place{name: "roles", sub: "value"})
	}
	c := &comparison{place: place{name: p.sub}, op: oneOf(g.Rand, "ne", "eq", "pr")}
	p.sub = ""
	a, _ := p.attribute()
	g.value(c, oneOf(g.Rand, parts(find(about, p), "")...), &a)
	if c.op == "ne" {
		return &valueFilter{p, c}
	}
	return &valueFilter{p, &negation{c}}
}

func (g *chooser) inner(a *attribute, element any, levels int) condition {
	roll := g.IntN(100)
	switch {
	case levels == 0 || roll < 40:
		c := &comparison{place: place{name: g.sub(*a, element)}}
		g.operator(c, a)
		if a.subs["type"] == plainText && g.oneIn(3) && a.name != "schemas" {
			c.place.name, c.op = "type", "eq"
		}
		g.value(c, element, a)
		return c
	case roll < 75:
		return &junction{false, g.inner(a, element, levels-1), g.inner(a, element, levels-1)}
	case roll < 90:
		return &junction{true, g.inner(a, element, levels-1), g.inner(a, element, levels-1)}
	default:
		return &negation{g.inner(a, element, levels-1)}
	}
}

// value draws what to compare with: mostly something that makes the comparison true of v, which is a resource or,
// with within, one value of that attribute.
func (g *chooser) value(c *comparison, v any, within *attribute) {
	c.value = nil
	if c.op == "pr" {
		return
	}
	switch g.IntN(60) {
	case 0:
		c.value = nil
		return
	case 1:
		c.value = oneOf(g.Rand, rawNumber("5"), rawNumber("0"), rawNumber("-1.5e3"), rawNumber("12345678901234567890"))
		return
	case 2:
		c.value = g.oneIn(2)
		return
	}
	c.value = "x" // so that the comparison is about a value
	k, sub, _ := c.leaf(within)
	if within == nil {
		if g.oneIn(6) {
			v = g.someone()
		}
		v = find(v, c.place)
	}
	values := parts(v, sub)
	if len(values) == 0 {
		values = []any{nil}
	}
	v = oneOf(g.Rand, values...)
	switch k {
	case boolean:
		truth, _ := v.(bool)
		if g.oneIn(3) {
			truth = !truth
		}
		if c.value = truth; g.oneIn(4) {
			c.value = oneOf(g.Rand, "True", "true", "FALSE", "False", "yes", "")
		}
	case dateTime:
		s, _ := v.(string)
		c.value = g.date(s)
	default:
		s, _ := v.(string)
		if c.place.name == "userName" && len(g.former) > 0 && g.oneIn(3) {
			s = oneOf(g.Rand, g.former...)
		}
		c.value = g.near(s, c.op, k)
	}
}

// near draws a text that an operator finds in s, or nearly so.
func (g *chooser) near(s, op string, k kind) string {
	if s == "" || g.oneIn(12) {
		s = oneOf(g.Rand, words...)
	}
	runes := []rune(s)
	from, to := g.IntN(len(runes)+1), g.IntN(len(runes)+1)
	switch from, to = min(from, to), max(from, to); op {
	case "co":
		s = string(runes[from:to])
	case "sw":
		s = string(runes[:to])
	case "ew":
		s = string(runes[from:])
	case "gt", "ge", "lt", "le":
		s = oneOf(g.Rand, s, s+"a", string(runes[:to]), oneOf(g.Rand, words...))
	}
	switch {
	case k == plainText && g.oneIn(3), g.oneIn(15):
		return oneOf(g.Rand, strings.ToUpper, strings.ToLower, swapCase)(s)
	case g.oneIn(25):
		return s + oneOf(g.Rand, " ", "*", "%", `"`, "x")
	default:
		return s
	}
}

// swapCase uses letters that are equal to others only when case is folded as Unicode has it.
func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case 'k', 'K':
			return '\u212a' // the Kelvin sign
		case 's', 'S':
			return '\u017f' // the long s
		default:
			return r
		}
	}, s)
}

// date draws an instant at or near another, in the forms of xsd:dateTime, or something that is no date.
func (g *chooser) date(s string) string {
	t, ok := instant(s)
	if !ok || g.oneIn(10) {
		return oneOf(g.Rand, "2026-01-01T00:00:00Z", "2011-05-13T04:42:34+14:00", "2026-13-45T00:00:00Z", "2026", "yesterday", "")
	}
	t = t.Add(oneOf[time.Duration](g.Rand, 0, 0, 0, 1000, -1000, 1e9, 3600e9, -3600e9))
	return oneOf(g.Rand,
		t.UTC().Format("2006-01-02T15:04:05.999999999Z"), t.UTC().Format("2006-01-02T15:04:05.999999999"),
		t.In(time.FixedZone("", 7200)).Format("2006-01-02T15:04:05.999999999Z07:00"), t.UTC().Format("2006-01-02T15:04:05Z"),
		t.In(time.FixedZone("", -12600)).Format("2006-01-02T15:04:05.000000000Z07:00"), s, s[:min(len(s), 10)])
}

// words are what attribute values are made of: quotes, escapes, more than one byte, more than one UTF-16 unit, and
// what means something elsewhere.
var words = []string{
	"a", "b", "Boss", "Sales", "sk", "Müller", "O'Malley", `say "hi"`, `back\slash`, "a/b", "x y", "work", "home", "tab\there",
	"日本", "😀!", "true", "null", "%41+&=#", "(a)", "[b]", "a eq b", "é", "line\nbreak", "zz",
}

func (g *chooser) word() string { return oneOf(g.Rand, words...) }

// broken makes a filter that cannot be read.
func (g *chooser) broken(text string) string {
	at := g.IntN(len(text) + 1)
	for !utf8.RuneStart((text + "x")[at]) {
		at--
	}
	return oneOf(g.Rand, text+")", "("+text, text+" and", text+" x", "not "+text+"]", text[:at]+"\x00"+text[at:], "title is "+text, "", " ")
}
