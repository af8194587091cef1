package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// checkedWriter remembers that a write failed, so that a command whose result was lost on a full disk does not end
// in success. It is safe for concurrent use as far as w is.
type checkedWriter struct {
	w   io.Writer
	mu  sync.Mutex
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err == nil {
			c.err = err
		}
	}
	return n, err
}

func (c *checkedWriter) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// terminal returns the file descriptor behind a stream if it is a terminal's.
func terminal(stream any) (fd int, ok bool) {
	if c, wrapped := stream.(*checkedWriter); wrapped {
		stream = c.w
	}
	file, isFile := stream.(*os.File)
	if !isFile {
		return 0, false
	}
	fd = int(file.Fd())
	return fd, term.IsTerminal(fd)
}

// screen is where people read: a terminal, or something that is not one and then gets neither colours nor headings.
type screen struct {
	w        io.Writer
	terminal bool
	colours  bool // on a terminal, unless NO_COLOR is set (no-color.org)
	width    int  // columns, 40 to 100: longer lines of prose are hard to read
}

func newScreen(w io.Writer, env func(string) string) *screen {
	s := &screen{w: w, width: 80}
	fd, ok := terminal(w)
	if !ok {
		return s
	}
	s.terminal = true
	s.colours = env("NO_COLOR") == "" && env("TERM") != "dumb"
	if columns, _, err := term.GetSize(fd); err == nil {
		s.width = min(max(columns, 40), 100)
	}
	return s
}

// Styles of text, as parameters of the ANSI sequence.
const (
	plain  = ""
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (s *screen) paint(style, text string) string {
	if !s.colours || style == plain || text == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (s *screen) printf(format string, args ...any) { fmt.Fprintf(s.w, format, args...) }

// shown is a value from outside in a form that can neither disturb a terminal nor mislead its reader: as it is when
// all of its characters can be seen, else in quotes with escapes for control characters, ANSI sequences, marks that
// change the direction of text, and whatever else is invisible.
func shown(s string) string {
	if strings.HasPrefix(s, `"`) || !printable(s) {
		return strconv.Quote(s)
	}
	return s
}

// shownText is shown for a line of our own with values inside: without quotes around all of it.
func shownText(s string) string {
	if printable(s) {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

func printable(s string) bool {
	for i, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			return false
		}
	}
	return true
}

// orDash stands in for what is not there.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// appendShownJSON appends JSON text with every invisible character as an escape of JSON: the meaning stays the same.
func appendShownJSON(dst, text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r < 0x7f || strconv.IsPrint(r) && (r != utf8.RuneError || size > 1):
			dst = append(dst, text[:size]...)
		case r > 0xffff:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		text = text[size:]
	}
	return dst
}

// printJSON writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	_, err := w.Write(appendShownJSON(nil, []byte(text.String())))
	return err
}

// cell is one cell of a table.
type cell struct {
	text  string
	style string
	right bool // flush right
}

// widest is the largest width of a column: beyond it a cell is cut and ends in "…".
const widest = 44

// table lines up cells in columns. The columns only grow, so that the lines of a stream line up as far as can be
// known in time. The last column is neither padded nor cut.
type table struct {
	widths []int
}

// see makes room for a line.
func (t *table) see(line []cell) {
	for i, c := range line {
		if i == len(t.widths) {
			t.widths = append(t.widths, 0)
		}
		t.widths[i] = max(t.widths[i], min(width(c.text), widest))
	}
}

func (t *table) print(s *screen, line []cell) {
	t.see(line)
	var b strings.Builder
	for i, c := range line {
		if i == len(line)-1 {
			b.WriteString(s.paint(c.style, c.text))
			break
		}
		text := cut(c.text, widest)
		padding := strings.Repeat(" ", t.widths[i]-width(text))
		if c.right {
			b.WriteString(padding)
		}
		b.WriteString(s.paint(c.style, text))
		if !c.right {
			b.WriteString(padding)
		}
		b.WriteString("  ")
	}
	s.printf("%s\n", b.String())
}

// printAll prints lines that are all known.
func (t *table) printAll(s *screen, lines [][]cell) {
	for _, line := range lines {
		t.see(line)
	}
	for _, line := range lines {
		t.print(s, line)
	}
}

// width is the number of columns that a terminal takes for text.
func width(text string) int {
	n := 0
	for _, r := range text {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// wide are the characters that take two columns: East Asian wide and fullwidth ones, and emoji (Unicode Annex 11).
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, {Lo: 0x2e80, Hi: 0x303e, Stride: 1}, {Lo: 0x3041, Hi: 0xa4cf, Stride: 1},
		{Lo: 0xa960, Hi: 0xa97c, Stride: 1}, {Lo: 0xac00, Hi: 0xd7a3, Stride: 1}, {Lo: 0xf900, Hi: 0xfaff, Stride: 1},
		{Lo: 0xfe30, Hi: 0xfe6f, Stride: 1}, {Lo: 0xff01, Hi: 0xff60, Stride: 1}, {Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1f300, Hi: 0x1f64f, Stride: 1}, {Lo: 0x1f680, Hi: 0x1f6ff, Stride: 1}, {Lo: 0x1f900, Hi: 0x1f9ff, Stride: 1},
		{Lo: 0x20000, Hi: 0x3fffd, Stride: 1},
	},
}

// cut shortens text to most columns.
func cut(text string, most int) string {
	if width(text) <= most {
		return text
	}
	room := most - 1
	for i, r := range text {
		if room -= runeWidth(r); room < 0 {
			return text[:i] + "…"
		}
	}
	return text
}

// wrap breaks prose into lines of at most width columns, each after indent.
func wrap(text, indent string, columns int) string {
	var b strings.Builder
	used := 0
	for _, word := range strings.Fields(text) {
		if used > 0 && used+1+width(word) > columns-len(indent) {
			b.WriteByte('\n')
			used = 0
		}
		if used == 0 {
			b.WriteString(indent)
		} else {
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += width(word)
	}
	return b.String()
}

// plural counts things: 1 call, 2 calls.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
