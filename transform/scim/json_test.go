package scim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestDecodeObject(t *testing.T) {
	tests := []struct {
		in   string
		want Resource
	}{
		{`{}`, Resource{}},
		{" \t\r\n{ \t\r\n} \t\r\n", Resource{}},
		{`{"a":null,"b":true,"c":false}`, Resource{"a": nil, "b": true, "c": false}},
		{`{ "a" : [ ] , "b" : { } }`, Resource{"a": []any{}, "b": map[string]any{}}},
		{`{"a":[1,"x",[null],{"b":{"c":2}}]}`, Resource{"a": []any{json.Number("1"), "x", []any{nil}, map[string]any{"b": map[string]any{"c": json.Number("2")}}}}},
		{`{"a":[0,-0,12,-1.50,1e3,1E+3,1e-3,98765432109876543210,1e-400]}`, Resource{"a": []any{json.Number("0"), json.Number("-0"),
			json.Number("12"), json.Number("-1.50"), json.Number("1e3"), json.Number("1E+3"), json.Number("1e-3"), json.Number("98765432109876543210"), json.Number("1e-400")}}},
		{`{"a":"\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC\u0000"}`, Resource{"a": "\"\\/\b\f\n\r\tAé€\x00"}},
		{`{"a":"x\ud83d\ude00y","b":"😀","c":"\ufffd\uFFFF"}`, Resource{"a": "x😀y", "b": "😀", "c": "\ufffd\uffff"}},
		{`{"":1,"\u0061":2,"a\"b":3,"userName\u0020":4}`, Resource{"": json.Number("1"), "a": json.Number("2"), `a"b`: json.Number("3"), "userName ": json.Number("4")}},
		{`{"a":"` + strings.Repeat("x", 100_000) + `"}`, Resource{"a": strings.Repeat("x", 100_000)}},
		{`{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":1,"urn:ietf:params:scim:schemas:extension:enterprise:2.0:Use":2}`,
			Resource{SchemaEnterpriseUser: json.Number("1"), SchemaEnterpriseUser[:len(SchemaEnterpriseUser)-1]: json.Number("2")}},
		{`{"a":{"value":1},"b":{"value":2},"VALUE":3}`, Resource{"a": map[string]any{"value": json.Number("1")}, "b": map[string]any{"value": json.Number("2")}, "VALUE": json.Number("3")}},
	}
	for _, tt := range tests {
		got, err := DecodeObject([]byte(tt.in))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("DecodeObject(%.80q) = %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestDecodeObjectRefuses(t *testing.T) {
	const bad, cut = "the body is not acceptable JSON at byte ", "the body ends in the middle, after byte "
	nested := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	tests := []struct{ in, want string }{
		{``, "the body is empty: a JSON object is expected"},
		{" \n", "the body is empty: a JSON object is expected"},
		{`[]`, bad + "1: a JSON object is expected"},
		{` "x"`, bad + "2: a JSON object is expected"},
		{`null`, bad + "1: a JSON object is expected"},
		{`<!DOCTYPE html>`, bad + "1: a JSON object is expected"},
		{"\ufeff{}", bad + "1: a JSON object is expected"},
		{`{}{}`, bad + "3: nothing may follow the JSON object"},
		{`{"a":1} x`, bad + "9: nothing may follow the JSON object"},
		{`{} // no`, bad + "4: nothing may follow the JSON object"},
		// truncated
		{`{`, cut + "1: a name in quotes is expected"},
		{`{"`, cut + "2: a string does not end"},
		{`{"a`, cut + "3: a string does not end"},
		{`{"userName`, cut + "10: a string does not end"},
		{`{"userName"`, cut + "11: a colon is expected"},
		{`{"a":`, cut + "5: a value is expected"},
		{`{"a":"\`, cut + "7: a string does not end"},
		{`{"a":"\u12"`, bad + "7: four hexadecimal digits are expected after \\u"},
		{`{"a":1`, cut + "6: a comma or } is expected"},
		{`{"a":1,`, cut + "7: a name in quotes is expected"},
		{`{"a":[`, cut + "6: a value is expected"},
		{`{"a":[1`, cut + "7: a comma or ] is expected"},
		{`{"a":-`, cut + "6: a digit is expected"},
		{`{"a":1.`, cut + "7: a digit is expected"},
		{`{"a":tru`, bad + "6: true is expected"},
		// malformed
		{`{a:1}`, bad + "2: a name in quotes is expected"},
		{`{'a':1}`, bad + "2: a name in quotes is expected"},
		{`{"a" 1}`, bad + "6: a colon is expected"},
		{`{"a":1,}`, bad + "8: a name in quotes is expected"},
		{`{,}`, bad + "2: a name in quotes is expected"},
		{`{"a":[1,]}`, bad + "9: a value is expected"},
		{`{"a":[1 2]}`, bad + "9: a comma or ] is expected"},
		{`{"a":1 "b":2}`, bad + "8: a comma or } is expected"},
		{`{"a":]}`, bad + "6: a value is expected"},
		{`{"a":True}`, bad + "6: a value is expected"},
		{`{"a":nul}`, bad + "6: null is expected"},
		{`{"a":falsE}`, bad + "6: false is expected"},
		{`{"a":NaN}`, bad + "6: a value is expected"},
		{`{"a":01}`, bad + "7: a comma or } is expected"},
		{`{"a":+1}`, bad + "6: a value is expected"},
		{`{"a":.5}`, bad + "6: a value is expected"},
		{`{"a":1.e5}`, bad + "8: a digit is expected"},
		{`{"a":1e}`, bad + "8: a digit is expected"},
		{`{"a":0x10}`, bad + "7: a comma or } is expected"},
		{`{"a":"\x41"}`, bad + "7: an unknown escape"},
		{`{"a":"\u+041"}`, bad + "7: four hexadecimal digits are expected after \\u"},
		{"{\"a\":\"x\ny\"}", bad + "8: a control character stands unescaped in a string"},
		{"{\"a\":\"\\n\x00\"}", bad + "9: a control character stands unescaped in a string"},
		{"{\"a\x1f\":1}", bad + "4: a control character stands unescaped in a string"},
		{"{\"userName\x1f\":1}", bad + "11: a control character stands unescaped in a string"},
		// what encoding/json lets pass
		{"{\"a\":\"\xff\"}", bad + "7: this is not valid UTF-8"},
		{"{\"a\":\"é\\n\xed\xa0\x80\"}", bad + "11: this is not valid UTF-8"},
		{"\xff\xfe{", bad + "1: this is not valid UTF-8"},
		{`{"a":"\ud83d"}`, bad + "7: half a surrogate pair"},
		{`{"a":"\ude00\ud83d"}`, bad + "7: half a surrogate pair"},
		{`{"a":"x\ud83dy"}`, bad + "8: half a surrogate pair"},
		{`{"a":"\ud83d\u0041"}`, bad + "7: half a surrogate pair"},
		{`{"a":1,"a":2}`, bad + `8: the name "a" occurs twice in one object (upper and lower case are the same)`},
		{`{"userName":1,"USERNAME":2}`, bad + `15: the name "USERNAME" occurs twice in one object (upper and lower case are the same)`},
		{`{"a":{"Type":1,"t\u0079pe":2}}`, bad + `16: the name "type" occurs twice in one object (upper and lower case are the same)`},
		{`{"schemas":1,"ſchemas":2}`, bad + `14: the name (which is not repeated here) occurs twice in one object (upper and lower case are the same)`},
		{`{"ſchemas":1,"schemas":2}`, bad + `15: the name "schemas" occurs twice in one object (upper and lower case are the same)`},
		{`{"Ab\u212a":1,"abk":2}`, bad + `15: the name "abk" occurs twice in one object (upper and lower case are the same)`},
		{`{"É":1,"é":2}`, bad + `9: the name (which is not repeated here) occurs twice in one object (upper and lower case are the same)`},
		{`{"a":1e400}`, bad + "6: a number beyond the range of a double"},
		{`{"a":-1e400`, bad + "6: a number beyond the range of a double"},
		{`{"a":` + strings.Repeat("1", 65) + `}`, bad + "6: a number of more than 64 characters"},
		{nested(32), bad + "37: more than 32 levels"},
		{strings.Repeat(`{"a":`, 33), bad + "161: more than 32 levels"},
		{nested(100_000), bad + "37: more than 32 levels"},
		{strings.Repeat(`{"a":`, 100_000), bad + "161: more than 32 levels"},
	}
	for _, tt := range tests {
		r, err := DecodeObject([]byte(tt.in))
		checkDetail(t, fmt.Sprintf("DecodeObject(%.80q)", tt.in), err, InvalidSyntax, tt.want)
		if r != nil {
			t.Errorf("DecodeObject(%.80q) = %v with an error", tt.in, r)
		}
	}
	if _, err := DecodeObject([]byte(nested(31))); err != nil {
		t.Errorf("32 levels: %v", err)
	}
}

// Names beyond the first few are compared in another way.
func TestDecodeObjectManyNames(t *testing.T) {
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, `"Name%d":%d,`, i, i)
	}
	members := b.String()
	r, err := DecodeObject([]byte(`{` + members + `"last":1}`))
	if err != nil || len(r) != 10_001 || r["Name9999"] != json.Number("9999") {
		t.Fatalf("10,001 members: got %d, %v", len(r), err)
	}
	for _, name := range []string{"name0", "NAME15", "nAME16", "name9999"} {
		if _, err := DecodeObject([]byte(`{` + members + `"` + name + `":1}`)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("a second %s: got %v, want an error that names it", name, err)
		}
	}
}

// A body within the limits costs at most 50 ms and 16 MiB; a shared machine gets some leave.
func TestDecodeObjectIsCheap(t *testing.T) {
	fill := func(unit string) string {
		return `{"a":[` + strings.Repeat(unit+",", (MaxBody-16)/(len(unit)+1)-1) + unit + `]}`
	}
	var names strings.Builder
	for i := range 20_000 {
		names.WriteString(`"x` + strconv.Itoa(i) + `":1,`)
	}
	for name, body := range map[string]string{
		"empty arrays": fill(`[]`), "empty objects": fill(`{}`), "small objects": fill(`{"":0}`), "digits": fill(`0`),
		"seventeen names": fill(`{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"k":0,"l":0,"m":0,"n":0,"o":0,"p":0,"q":0}`),
		"deep":            fill(strings.Repeat(`{"":`, 29) + `0` + strings.Repeat(`}`, 29)), "names": `{` + names.String() + `"a":1}`,
		"escapes": fill(`"\ud83d\ude00"`), "one string": `{"a":"` + strings.Repeat(`\n`, MaxBody/2-8) + `"}`, "numbers": fill(`1.7976931348623157e308`),
		"replacement characters": fill(`"` + strings.Repeat("\ufffd", 1000) + `"`),
	} {
		best, least := time.Hour, ^uint64(0)
		for range 5 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			if _, err := DecodeObject([]byte(body)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			best = min(best, time.Since(start))
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		if best > 250*time.Millisecond || least > 24<<20 {
			t.Errorf("%s: %d bytes took %v and %d KiB", name, len(body), best, least>>10)
		}
	}
}

// standard decodes as encoding/json does, and reports whether it accepts the text.
func standard(data []byte) (any, bool) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil || !json.Valid(data) {
		return nil, false
	}
	return v, true
}

// stricter tells why DecodeObject refuses a text that encoding/json accepts; "" when it should not.
func stricter(data []byte) string {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	type level struct {
		names []string // nil in arrays
		key   bool     // a name is next
	}
	var levels []level
	for {
		token, err := d.Token()
		if err != nil {
			break
		}
		if n := len(levels); n > 0 && levels[n-1].key {
			if name, ok := token.(string); ok {
				for _, other := range levels[n-1].names {
					if strings.EqualFold(other, name) {
						return "duplicate"
					}
				}
				levels[n-1].names, levels[n-1].key = append(levels[n-1].names, name), false
				continue
			}
		}
		switch token := token.(type) {
		case json.Delim:
			switch token {
			case '{':
				levels = append(levels, level{names: []string{}, key: true})
			case '[':
				levels = append(levels, level{})
			default:
				levels = levels[:len(levels)-1]
			}
			if len(levels) > maxJSONDepth {
				return "depth"
			}
			if token == '{' || token == '[' {
				continue
			}
		case json.Number:
			if _, err := token.Float64(); err != nil || len(token) > maxJSONNumber {
				return "number"
			}
		}
		if n := len(levels); n > 0 && levels[n-1].names != nil {
			levels[n-1].key = true
		}
	}
	switch lower := bytes.ToLower(data); {
	case !utf8.Valid(data):
		return "UTF-8"
	case bytes.Contains(lower, []byte(`\ud`)):
		return "perhaps a surrogate"
	default:
		return ""
	}
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		entraCreate, entraPatch, `{}`, `[]`, `{"a":[1,-0.5e+3,"\ud83d\ude00",null,true,false,{"A":{}}]}`, `{"a":1,"A":2}`, `{"ſ":1,"S":2}`,
		`{"a":"\ud800"}`, "{\"a\":\"\xff\"}", `{"a":1e999}`, strings.Repeat(`{"a":[`, 17), `{"a":01}`, `{"a":1}{}`, `{"\u0061":"\/"}`, "{\"\x7f\":1}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return // the oracle is quadratic
		}
		got, err := DecodeObject(data)
		want, valid := standard(data)
		object, isObject := want.(map[string]any)
		if err == nil {
			if !valid || !reflect.DeepEqual(map[string]any(got), object) {
				t.Fatalf("DecodeObject(%q) = %v, encoding/json says %v", data, got, want)
			}
			checkRoundTrip(t, got)
			return
		}
		if e, ok := err.(*Error); !ok || e.Status != 400 || e.Type != InvalidSyntax || !utf8.ValidString(e.Detail) {
			t.Fatalf("DecodeObject(%q): got %v, want 400 invalidSyntax", data, err)
		}
		if valid && isObject && stricter(data) == "" {
			t.Fatalf("DecodeObject(%q): %v, but encoding/json says %v", data, err, want)
		}
	})
}

// checkRoundTrip checks that a value comes back from its JSON, which encoding/json understands alike.
func checkRoundTrip(t rapid.TB, v map[string]any) {
	t.Helper()
	text := AppendJSON(nil, v)
	again, err := DecodeObject(text)
	if err != nil || !reflect.DeepEqual(map[string]any(again), v) {
		t.Fatalf("%q came back as %v, %v, want %v", text, again, err, v)
	}
	if third := AppendJSON(nil, again); !bytes.Equal(third, text) {
		t.Fatalf("equal values gave %q and %q", text, third)
	}
	if std, ok := standard(text); !ok || !reflect.DeepEqual(std, any(v)) {
		t.Fatalf("encoding/json reads %q as %v, want %v", text, std, v)
	}
}

func genValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kind := rapid.IntRange(0, 6).Draw(t, "kind")
		switch {
		case kind == 0 && depth > 0:
			return map[string]any(genObject(depth-1).Draw(t, "object"))
		case kind == 1 && depth > 0:
			return append([]any{}, rapid.SliceOfN(genValue(depth-1), 0, 4).Draw(t, "array")...)
		case kind == 2:
			return rapid.SampledFrom([]any{nil, true, false}).Draw(t, "literal")
		case kind == 3:
			return json.Number(rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "number"))
		default:
			return rapid.String().Draw(t, "string")
		}
	})
}

func genObject(depth int) *rapid.Generator[Resource] {
	return rapid.Custom(func(t *rapid.T) Resource {
		r := Resource{}
		seen := map[string]bool{}
		for range rapid.IntRange(0, 20).Draw(t, "members") {
			name := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"schemas", "id", "meta", "userName", "Emails", "value"})).Draw(t, "name")
			if key := Fold(name); !seen[key] {
				seen[key] = true
				r[name] = genValue(depth).Draw(t, "value")
			}
		}
		return r
	})
}

func TestJSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkRoundTrip(t, genObject(3).Draw(t, "object")) })
}

func TestAppendJSON(t *testing.T) {
	tests := []struct {
		in   any
		want string
	}{
		{nil, `null`}, {true, `true`}, {int(-1), `-1`}, {int64(1) << 62, `4611686018427387904`}, {1.5, `1.5`}, {1e21, `1e+21`}, {math.NaN(), `null`},
		{json.Number("1E5"), `1E5`}, {[]any(nil), `[]`}, {map[string]any(nil), `{}`}, {Resource(nil), `{}`},
		{[]Resource{{"a": 1}, {}}, `[{"a":1},{}]`}, {[]Resource(nil), `[]`},
		{"a\"b\\c/d\b\f\n\r\t\x00\x1f\x7f<>&é😀\u2028", `"a\"b\\c/d\u0008\u000c\n\r\t\u0000\u001f\u007f<>&é😀` + "\u2028" + `"`},
		{"x\xffy\xed\xa0\x80z", `"x` + "\ufffdy\ufffdz" + `"`},
		{Resource{"meta": 1, "zeta": 2, "Alpha": 3, "userName": 4, "externalId": 5, "id": 6, "schemas": 7, "active": 8},
			`{"schemas":7,"id":6,"externalId":5,"userName":4,"Alpha":3,"active":8,"zeta":2,"meta":1}`},
	}
	for _, tt := range tests {
		if got := string(AppendJSON([]byte("^"), tt.in)); got != "^"+tt.want {
			t.Errorf("AppendJSON(%#v) = %s, want ^%s", tt.in, got, tt.want)
		}
	}
}

func TestFold(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""}, {"AbC-09_", "abc-09_"}, {"Kelvin \u212a", "kelvin k"}, {"ſ", "s"}, {"ÉÈ", "ÉÈ"}, {"éè", "ÉÈ"}, {"ΣΣσς", "ΣΣΣΣ"}, {"ß", "ß"},
	} {
		if got := Fold(tt.in); got != tt.want {
			t.Errorf("Fold(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
	char := rapid.Custom(func(t *rapid.T) string {
		s := string(rapid.Rune().Draw(t, "rune"))
		return rapid.SampledFrom([]string{s, strings.ToUpper(s), strings.ToLower(s), strings.ToTitle(s)}).Draw(t, "case")
	})
	rapid.Check(t, func(t *rapid.T) {
		a := char.Draw(t, "a")
		b := rapid.OneOf(char, rapid.SampledFrom([]string{strings.ToUpper(a), strings.ToLower(a)})).Draw(t, "b")
		if got, want := Fold(a) == Fold(b), strings.EqualFold(a, b); got != want {
			t.Fatalf("Fold(%q) == Fold(%q): %v, EqualFold says %v", a, b, got, want)
		}
	})
}
