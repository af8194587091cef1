package scim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of a JSON body. Whatever exceeds them is refused, never cut.
const (
	MaxBody       = 256 << 10 // bytes of a request body
	MaxValues     = 4 << 10   // values in a request body, those inside others included: each costs far more than its bytes
	maxJSONDepth  = 32        // nested arrays and objects
	maxJSONNumber = 64        // characters of a number
)

// DecodeObject reads one JSON object (RFC 8259) and nothing behind it. It is stricter than encoding/json where
// leniency would hide something: two names in one object that are equal when case is ignored are refused,
// because RFC 7643, Section 2.1 makes them the same attribute; so are invalid UTF-8 and lone surrogates, and
// more than 32 levels. Numbers are kept as json.Number, so that nothing is lost when they are written again.
// The error is an *Error, 400 invalidSyntax, that names the byte.
func DecodeObject(data []byte) (Resource, error) { return decodeObject(data, 0) }

// decodeRequest is DecodeObject for the body of a request, which has at most MaxValues values; more are a 413.
func decodeRequest(data []byte) (Resource, error) { return decodeObject(data, MaxValues) }

// decodeObject reads an object with at most so many values; 0 for any number.
func decodeObject(data []byte, most int) (Resource, error) {
	d := decoder{data: string(data), most: most}
	if d.pos = invalidUTF8(d.data); d.pos < len(data) {
		return nil, d.fail("this is not valid UTF-8")
	}
	d.pos = 0
	d.space()
	if d.pos == len(data) {
		return nil, BadRequest(InvalidSyntax, "the body is empty: a JSON object is expected")
	}
	if data[d.pos] != '{' {
		return nil, d.fail("a JSON object is expected")
	}
	v, err := d.object(1)
	if err != nil {
		return nil, err
	}
	if d.space(); d.pos != len(data) {
		return nil, d.fail("nothing may follow the JSON object")
	}
	return v, nil
}

// invalidUTF8 is the index of the first byte that belongs to no character, or len(data).
func invalidUTF8(data string) int {
	if utf8.ValidString(data) {
		return len(data)
	}
	n := 0
	for n < len(data) {
		r, size := utf8.DecodeRuneInString(data[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// decoder reads data, which DecodeObject found to be valid UTF-8. Texts share its memory: one copy for all of them.
type decoder struct {
	data   string
	pos    int
	values int // read or begun so far
	most   int // values that are allowed; 0: any number
}

func (d *decoder) fail(format string, args ...any) error {
	if d.pos >= len(d.data) {
		return BadRequest(InvalidSyntax, "the body ends in the middle, after byte %d: %s", len(d.data), fmt.Sprintf(format, args...))
	}
	return BadRequest(InvalidSyntax, "the body is not acceptable JSON at byte %d: %s", d.pos+1, fmt.Sprintf(format, args...))
}

func (d *decoder) space() {
	for d.pos < len(d.data) {
		switch d.data[d.pos] {
		case ' ', '\t', '\r', '\n':
			d.pos++
		default:
			return
		}
	}
}

// at reports whether the next byte is c.
func (d *decoder) at(c byte) bool { return d.pos < len(d.data) && d.data[d.pos] == c }

func (d *decoder) value(depth int) (any, error) {
	if d.pos >= len(d.data) {
		return nil, d.fail("a value is expected")
	}
	if d.values++; d.most > 0 && d.values > d.most {
		return nil, Errorf(http.StatusRequestEntityTooLarge, "", "the body holds more than %d values: send them in several requests", d.most)
	}
	switch c := d.data[d.pos]; c {
	case '{':
		return d.object(depth + 1)
	case '[':
		return d.array(depth + 1)
	case '"':
		return d.text()
	case 't':
		return true, d.literal("true")
	case 'f':
		return false, d.literal("false")
	case 'n':
		return nil, d.literal("null")
	default:
		if c == '-' || '0' <= c && c <= '9' {
			return d.number()
		}
		return nil, d.fail("a value is expected")
	}
}

func (d *decoder) literal(word string) error {
	if !strings.HasPrefix(d.data[d.pos:], word) {
		return d.fail("%s is expected", word)
	}
	d.pos += len(word)
	return nil
}

func (d *decoder) object(depth int) (map[string]any, error) {
	if depth > maxJSONDepth {
		return nil, d.fail("more than %d levels", maxJSONDepth)
	}
	d.pos++
	if d.space(); d.at('}') {
		d.pos++
		return map[string]any{}, nil
	}
	m := make(map[string]any, likelyMembers(depth))
	var names nameSet
	for {
		if d.space(); !d.at('"') {
			return nil, d.fail("a name in quotes is expected")
		}
		start := d.pos
		name, err := d.text()
		if err != nil {
			return nil, err
		}
		if !names.add(name) {
			d.pos = start
			return nil, d.fail("the name %s occurs twice in one object (upper and lower case are the same)", QuoteName(name))
		}
		if d.space(); !d.at(':') {
			return nil, d.fail("a colon is expected")
		}
		d.pos++
		d.space()
		if m[name], err = d.value(depth); err != nil {
			return nil, err
		}
		d.space()
		switch {
		case d.at(','):
			d.pos++
		case d.at('}'):
			d.pos++
			return m, nil
		default:
			return nil, d.fail("a comma or } is expected")
		}
	}
}

// likelyMembers is how many members an object has, mostly: a resource more than fit into the least map. It costs nothing
// to be wrong but what is saved by being right.
func likelyMembers(depth int) int {
	if depth == 1 {
		return 14
	}
	return 4
}

func (d *decoder) array(depth int) ([]any, error) {
	if depth > maxJSONDepth {
		return nil, d.fail("more than %d levels", maxJSONDepth)
	}
	d.pos++
	list := []any{}
	if d.space(); d.at(']') {
		d.pos++
		return list, nil
	}
	for {
		d.space()
		v, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		d.space()
		switch {
		case d.at(','):
			d.pos++
		case d.at(']'):
			d.pos++
			return list, nil
		default:
			return nil, d.fail("a comma or ] is expected")
		}
	}
}

func (d *decoder) number() (any, error) {
	start := d.pos
	digits := func() bool {
		from := d.pos
		for d.pos < len(d.data) && '0' <= d.data[d.pos] && d.data[d.pos] <= '9' {
			d.pos++
		}
		return d.pos > from
	}
	if d.at('-') {
		d.pos++
	}
	if d.at('0') {
		d.pos++
	} else if !digits() {
		return nil, d.fail("a digit is expected")
	}
	if d.at('.') {
		if d.pos++; !digits() {
			return nil, d.fail("a digit is expected")
		}
	}
	if d.at('e') || d.at('E') {
		if d.pos++; d.at('+') || d.at('-') {
			d.pos++
		}
		if !digits() {
			return nil, d.fail("a digit is expected")
		}
	}
	n := d.data[start:d.pos]
	if len(n) > maxJSONNumber {
		d.pos = start
		return nil, d.fail("a number of more than %d characters", maxJSONNumber)
	}
	if _, err := strconv.ParseFloat(n, 64); err != nil {
		d.pos = start
		return nil, d.fail("a number beyond the range of a double")
	}
	return json.Number(n), nil
}

// knownNames numbers the names that bodies mostly consist of; foldedNames has the same numbers by Fold. No two of them
// are equal when case is ignored, and there is a bit for each in a nameSet.
var knownNames, foldedNames = func() (map[string]int, map[string]int) {
	names, folded := map[string]int{}, map[string]int{}
	add := func(name string) {
		if _, ok := folded[Fold(name)]; !ok && len(names) < 128 {
			names[name] = len(names)
			folded[Fold(name)] = names[name]
		}
	}
	for _, name := range []string{
		"Operations", "op", "path", "value", "Resources", "totalResults", "startIndex", "itemsPerPage",
		"status", "scimType", "detail", SchemaEnterpriseUser,
	} {
		add(name)
	}
	for _, rt := range []*ResourceType{UserType(), GroupType()} {
		for _, a := range rt.All {
			add(a.Name)
			for _, sub := range a.Sub {
				add(sub.Name)
			}
		}
	}
	return names, folded
}()

// text reads a string. The common case, without escapes, is one copy.
func (d *decoder) text() (string, error) {
	d.pos++
	start := d.pos
	for d.pos < len(d.data) {
		switch c := d.data[d.pos]; {
		case c == '"':
			d.pos++
			return d.data[start : d.pos-1], nil
		case c == '\\':
			return d.escaped(start)
		case c < ' ':
			return "", d.fail("a control character stands unescaped in a string")
		default:
			d.pos++
		}
	}
	return "", d.fail("a string does not end")
}

func (d *decoder) escaped(start int) (string, error) {
	buf := append(make([]byte, 0, 64), d.data[start:d.pos]...)
	for d.pos < len(d.data) {
		switch c := d.data[d.pos]; {
		case c == '"':
			if !utf8.Valid(buf) { // filters come here, too
				d.pos = start
				return "", d.fail("a string is not valid UTF-8")
			}
			d.pos++
			return string(buf), nil
		case c < ' ':
			return "", d.fail("a control character stands unescaped in a string")
		case c != '\\':
			buf = append(buf, c)
			d.pos++
		default:
			r, err := d.escape()
			if err != nil {
				return "", err
			}
			buf = utf8.AppendRune(buf, r)
		}
	}
	return "", d.fail("a string does not end")
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads one escape sequence, a surrogate pair being one.
func (d *decoder) escape() (rune, error) {
	if d.pos+1 >= len(d.data) {
		d.pos = len(d.data)
		return 0, d.fail("a string does not end")
	}
	c := d.data[d.pos+1]
	if c != 'u' {
		if escapes[c] == 0 {
			return 0, d.fail("an unknown escape")
		}
		d.pos += 2
		return rune(escapes[c]), nil
	}
	r, ok := d.hex4(d.pos + 2)
	if !ok {
		return 0, d.fail("four hexadecimal digits are expected after \\u")
	}
	if !utf16.IsSurrogate(r) {
		d.pos += 6
		return r, nil
	}
	if d.pos+7 < len(d.data) && d.data[d.pos+6] == '\\' && d.data[d.pos+7] == 'u' {
		if low, ok := d.hex4(d.pos + 8); ok {
			if r = utf16.DecodeRune(r, low); r != unicode.ReplacementChar {
				d.pos += 12
				return r, nil
			}
		}
	}
	return 0, d.fail("half a surrogate pair")
}

func (d *decoder) hex4(at int) (rune, bool) {
	if at+4 > len(d.data) {
		return 0, false
	}
	n, err := strconv.ParseUint(d.data[at:at+4], 16, 16)
	return rune(n), err == nil
}

// nameSet finds names that are equal when case is ignored. Most are known, and have a bit each; of the others only a
// large object pays for a map.
type nameSet struct {
	known [2]uint64
	few   []string
	many  map[string]struct{}
}

// add reports whether the name is new. Names of different length can be equal, too: the long s is two bytes.
func (s *nameSet) add(name string) bool {
	const few = 16
	n, known := knownNames[name]
	if !known {
		folded := Fold(name)
		if n, known = foldedNames[folded]; !known {
			name = folded
		}
	}
	switch {
	case known:
		bit := uint64(1) << (n % 64)
		isNew := s.known[n/64]&bit == 0
		s.known[n/64] |= bit
		return isNew
	case s.many == nil && slices.Contains(s.few, name):
		return false
	case s.many == nil && len(s.few) < few:
		s.few = append(s.few, name)
		return true
	case s.many == nil:
		s.many = make(map[string]struct{}, 4*few)
		for _, f := range s.few {
			s.many[f] = struct{}{}
		}
	}
	_, seen := s.many[name]
	s.many[name] = struct{}{}
	return !seen
}

// Fold maps strings that strings.EqualFold holds equal to one string.
func Fold(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	return strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		case r < utf8.RuneSelf && r != 'k' && r != 's': // k and s have folds outside ASCII
			return r
		}
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		if 'A' <= least && least <= 'Z' {
			return least + 'a' - 'A'
		}
		return least
	}, s)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// AppendJSON appends the JSON of an attribute value. Names stand in a fixed order, so that equal values give
// equal bytes: schemas, id, externalId and userName first, meta last, all others by name.
func AppendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case string:
		return appendString(dst, v)
	case json.Number:
		return append(dst, v...)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case float64:
		b, err := json.Marshal(v)
		if err != nil {
			return append(dst, "null"...) // not a number: JSON has no word for it
		}
		return append(dst, b...)
	case Resource:
		return appendObject(dst, v)
	case map[string]any:
		return appendObject(dst, v)
	case []Resource:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendObject(dst, e)
		}
		return append(dst, ']')
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSON(dst, e)
		}
		return append(dst, ']')
	default:
		panic(fmt.Sprintf("scim: %T is not an attribute value", v))
	}
}

func appendObject(dst []byte, m map[string]any) []byte {
	var few [fewNames]string
	names := appendNames(few[:0], m)
	slices.SortFunc(names, func(a, b string) int {
		if ra, rb := nameRank(a), nameRank(b); ra != rb {
			return ra - rb
		}
		return strings.Compare(a, b)
	})
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, name)
		dst = append(dst, ':')
		dst = AppendJSON(dst, m[name])
	}
	return append(dst, '}')
}

// fewNames is how many names most objects have at most: so many are sorted on the stack.
const fewNames = 24

func appendNames(dst []string, m map[string]any) []string {
	for name := range m {
		dst = append(dst, name)
	}
	return dst
}

func nameRank(name string) int {
	switch name {
	case "schemas":
		return 0
	case "id":
		return 1
	case "externalId":
		return 2
	case "userName":
		return 3
	case "meta":
		return 5
	default:
		return 4
	}
}

const hexDigits = "0123456789abcdef"

// appendString writes U+FFFD for what is not UTF-8, because the whole text would be unreadable with it.
func appendString(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	if most := len(s) + len(`"",`); cap(dst)-len(dst) < most {
		dst = slices.Grow(dst, max(most, len(dst))) // append alone would copy what is long five times over
	}
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
			continue
		}
		dst = append(dst, s[from:i]...)
		switch from = i + 1; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}
