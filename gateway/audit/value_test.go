package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

var testKey = []byte("0123456789abcdef0123456789abcdef")

// mark is what a sensitive value must look like, computed apart.
func mark(path, canonical string) string {
	h := hmac.New(sha256.New, testKey)
	fmt.Fprintf(h, "%s\x00%s", path, canonical)
	return "hmac:" + hex.EncodeToString(h.Sum(nil)[:16])
}

func TestValueClasses(t *testing.T) {
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}, Secret: []string{"urn:example:Vault:pin"}})
	for _, tt := range []struct {
		path string
		v    any
		want string
	}{
		{"userName", "alice@contoso.com", `"alice@contoso.com"`},
		{"USERNAME", "a\n\x1b[31m", `"a\n\u001b[31m"`},
		{"urn:ietf:params:scim:schemas:core:2.0:User:userName", "alice", `"alice"`},
		{"id", "42", `"42"`},
		{"externalId", "7c2e", `"7c2e"`},
		{"active", false, `false`},
		{"active", "False", `"False"`},
		{"schemas", []any{"urn:a", "urn:b"}, `["urn:a","urn:b"]`},
		{"schemas", "urn:a", `["urn:a"]`},
		{"meta.location", "https://u.example/Users/1", mark("meta.location", `"https://u.example/Users/1"`)}, // a client may say anything
		{"schemas", []any{"urn:a", "urn:ann@example.com"}, mark("schemas", `["urn:a","urn:ann@example.com"]`)},

		{"userName", map[string]any{"a": "hidden"}, mark("username", `{"a":"hidden"}`)},
		{"active", "not a boolean", mark("active", `"not a boolean"`)},
		{"schemas", []any{1.0}, mark("schemas", `[1]`)},
		{"meta", map[string]any{"location": "x"}, mark("meta", `{"location":"x"}`)},
		{"meta.secretNote", "x", mark("meta.secretnote", `"x"`)},
		{"emails.id", "x", mark("emails.id", `"x"`)},
		{"title", "Engineer", mark("title", `"Engineer"`)},
		{"Title", "Engineer", mark("title", `"Engineer"`)},
		{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager", map[string]any{"value": "9"},
			mark("urn:ietf:params:scim:schemas:extension:enterprise:2.0:user:manager", `{"value":"9"}`)},
		{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:id", "9",
			mark("urn:ietf:params:scim:schemas:extension:enterprise:2.0:user:id", `"9"`)},

		{"password", "t0p", "[secret]"},
		{"Password", []any{"t0p"}, "[secret]"},
		{"urn:ietf:params:scim:schemas:core:2.0:User:password", "t0p", "[secret]"},
		{"urn:example:Login:password", "t0p", "[secret]"},
		{"urn:example:vault:PIN", 1234.0, "[secret]"},
		{"urn:example:Vault:pin.value", "1234", "[secret]"},
		{"urn:example:Vault:pinned", "x", mark("urn:example:vault:pinned", `"x"`)},
		{"account", map[string]any{"a": []any{map[string]any{"passWord": "t0p"}}}, "[secret]"},

		{"title", nil, "absent"},
		{"password", nil, "absent"},
	} {
		if got := r.Value(tt.path, tt.v).String(); got != tt.want {
			t.Errorf("Value(%s, %v) = %s, want %s", tt.path, tt.v, got, tt.want)
		}
	}
}

// What is configured adds to the classes; what is secret stays so, also inside of something else.
func TestConfiguredClasses(t *testing.T) {
	const department = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}, Public: []string{"title", "emails.value", "Name", department, "urn:example:Open", "both"},
		Secret: []string{"nickName", "name.familyName", "addresses", "both"}})
	for _, tt := range []struct {
		path string
		v    any
		want string
	}{
		{"Title", "a\"b", `"a\"b"`},
		{"title", strings.Repeat("é", ClipLimit), `"` + Clip(strings.Repeat("é", ClipLimit)) + `"`},
		{"title", map[string]any{"passWord": "t0p"}, "[secret]"},
		{"title", []any{strings.Repeat("x", ClipLimit)}, mark("title", `["`+strings.Repeat("x", ClipLimit)+`"]`)},
		{"titles", "x", mark("titles", `"x"`)},
		{`emails[type eq "work"].value`, "x", `"x"`},
		{`emails[type eq "a]b"].value`, "x", `"x"`},
		{"emails.display", "x", mark("emails.display", `"x"`)},
		{"emails", []any{"x"}, mark("emails", `["x"]`)},
		{"name.givenName", "Ann", `"Ann"`},
		{"name.familyName", "Lee", "[secret]"},
		{"name", map[string]any{"familyName": "Lee"}, "[secret]"},
		{"urn:ietf:params:scim:schemas:core:2.0:User:nickName", "x", "[secret]"},
		{`addresses[type eq "work"].locality`, "x", "[secret]"},
		{department, "R and D", `"R and D"`},
		{"urn:example:open:Anything", json.Number("1.0"), `1.0`},
		{"both", "x", "[secret]"},
	} {
		if got := r.Value(tt.path, tt.v).String(); got != tt.want {
			t.Errorf("Value(%s, %.40v) = %s, want %s", tt.path, tt.v, got, tt.want)
		}
	}
}

func TestPathForm(t *testing.T) {
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}})
	for _, path := range []string{"title", `emails[type eq "work"].value`, `emails[type eq "Work"]`, "emails[2].value", "emails[primary eq true].display", "emails[value eq ...]", "urn:example:X:y.z", "x-custom_1", "manager.$ref"} {
		if got := r.Path(path); got != path {
			t.Errorf("got %s, want %s", got, path)
		}
	}
	const made = `emails[type eq "Ann's \"]own"].value`
	got := r.Path(made)
	if strings.Contains(got, "Ann") || strings.Contains(got, "own") || !strings.HasPrefix(got, `emails[type eq "hmac:`) || !strings.HasSuffix(got, `"].value`) {
		t.Errorf("got %s, want the type hashed", got)
	}
	if got != r.Path(made) || got == r.Path(`emails[type eq "Bob's"].value`) {
		t.Error("equal types do not look equal, or others do")
	}
	// What has not the form of a name may be a value.
	for _, path := range []string{"ann@example.com", "Ann Lee", "name.Ann Lee", `emails[value eq "ann@example.com"].type`, "Zo\u00eb", `emails[type eq "].value`, "[Ann]", "a]Ann["} {
		got := r.Path(path)
		if strings.Contains(strings.ToLower(got), "ann") || strings.Contains(got, "Zo") || !strings.Contains(got, "hmac:") || got != r.Path(path) {
			t.Errorf("got %s for %s, want a hash", got, path)
		}
	}
}

func TestHashesOfAllKeys(t *testing.T) {
	other := []byte("another key of thirty-two bytes!")
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey, other}})
	old := NewRedactor(RedactorConfig{Keys: Keys{testKey}}).Value("title", "x").HMAC
	now := NewRedactor(RedactorConfig{Keys: Keys{other}}).Value("title", "x").HMAC
	if got := r.Hashes("title", "x"); len(got) != 2 || got[0] != now || got[1] != old || r.Value("title", "x").HMAC != now {
		t.Errorf("got %q, want %q and %q", got, now, old)
	}
	for _, path := range []string{"userName", "password"} {
		if got := r.Hashes(path, "x"); got != nil {
			t.Errorf("%s: got %q, want no hash", path, got)
		}
	}
}

func TestValueForms(t *testing.T) {
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}})
	for _, tt := range []struct {
		v    *Value
		want string
	}{
		{r.Value("active", true), `{"value":true}`},
		{r.Value("password", "t0p"), `{"secret":true}`},
		{NotReported(), `{"state":"not reported"}`},
		{Absent(), `{"state":"absent"}`},
		{&Value{HMAC: "00"}, `{"hmac":"00"}`},
	} {
		got, err := json.Marshal(tt.v)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
	if got := (*Value)(nil).String(); got != "" {
		t.Errorf("String of nil = %q, want nothing", got)
	}
}

// However a value was decoded, equal values look equal, and others do not.
func TestCanonicalForm(t *testing.T) {
	type named map[string]any
	for _, tt := range []struct {
		v    any
		want string
	}{
		{map[string]any{"b": 1.0, "A": []any{nil, true}}, `{"a":[null,true],"b":1}`},
		{named{"b": json.Number("1.0"), "a": []any{nil, true}}, `{"a":[null,true],"b":1}`},
		{json.RawMessage(`{ "b" : 1e0, "a":[null,true]}`), `{"a":[null,true],"b":1}`},
		{map[string]any{"X": "1", "x": "2"}, `{"x":"1","x":"2"}`},
		{[]string{"<&>"}, `["<&>"]`},
		{7, "7"}, {int64(7), "7"}, {7.0, "7"}, {json.Number("7"), "7"}, {json.Number("7.00"), "7"}, {uint8(7), "7"},
		{0.1, "0.1"}, {json.Number("1e-1"), "0.1"},
		{json.Number("9007199254740993"), "9007199254740993"},
		{1e300, "1e+300"}, {json.Number("1e999"), `"1e999"`},
		{"7", `"7"`},
		{make(chan int), "chan int"},
	} {
		if got, _ := appendCanonical(nil, tt.v); string(got) != tt.want {
			t.Errorf("appendCanonical(%#v) = %s, want %s", tt.v, got, tt.want)
		}
	}
}

func TestKeysAndPathsSeparate(t *testing.T) {
	a, b := NewRedactor(RedactorConfig{Keys: Keys{testKey}}), NewRedactor(RedactorConfig{Keys: Keys{[]byte("another key of thirty-two bytes!")}})
	if a.Value("title", "x").HMAC == b.Value("title", "x").HMAC {
		t.Error("two keys give one mark")
	}
	if a.Value("title", "x").HMAC == a.Value("nickName", "x").HMAC {
		t.Error("two attributes give one mark: equal values could be traced across attributes")
	}
}

func TestRedactorIsConcurrent(t *testing.T) {
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				v := fmt.Sprint(i, j)
				if got, want := r.Value("title", v).String(), mark("title", `"`+v+`"`); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestClip(t *testing.T) {
	for _, in := range []string{"", "short", strings.Repeat("a", ClipLimit)} {
		if got := Clip(in); got != in {
			t.Errorf("Clip changed a string of %d bytes", len(in))
		}
	}
	for _, in := range []string{strings.Repeat("a", ClipLimit+1), strings.Repeat("é", ClipLimit), "x" + strings.Repeat("😀", ClipLimit), strings.Repeat("\x80", 5000)} {
		got := Clip(in)
		if len(got) > ClipLimit || !strings.HasSuffix(got, "…") {
			t.Errorf("Clip of %d bytes gives %d bytes ending in %q", len(in), len(got), got[max(0, len(got)-6):])
		}
		if utf8.ValidString(in) && !utf8.ValidString(got) {
			t.Errorf("Clip split a code point of %q", in[:8])
		}
	}
	long := NewRedactor(RedactorConfig{Keys: Keys{testKey}}).Value("userName", strings.Repeat("\x01", 1<<16))
	if got, limit := len(long.Clear), 6*ClipLimit+2; got > limit {
		t.Errorf("a userName of 64 KiB takes %d bytes of the trail, want at most %d", got, limit)
	}
}

// 1,000 values in all the places a client can put them: none may show.
func TestCanariesDoNotShow(t *testing.T) {
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}})
	paths := []string{"name.givenName", "emails", `emails[type eq "work"].value`, "password", "active", "meta.note", "unknown", "members", "x509Certificates"}
	rec := &Record{V: 1}
	for i := range 1000 {
		canary := fmt.Sprintf("canary-%04d", i)
		shapes := []any{canary, []any{canary}, map[string]any{"value": canary}, map[string]any{canary: true}, json.RawMessage(`"` + canary + `"`)}
		path := paths[i%len(paths)]
		rec.Attributes = append(rec.Attributes, Attribute{Path: path, Asked: r.Value(path, shapes[i%len(shapes)])})
	}
	if line := string(Append(nil, rec)); strings.Contains(line, "canary") {
		t.Errorf("a value shows: %s", line[strings.Index(line, "canary")-80:][:120])
	}
}

func BenchmarkValue(b *testing.B) {
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}})
	b.ReportAllocs()
	for b.Loop() {
		r.Value("name.givenName", "Bartholomew")
	}
}
