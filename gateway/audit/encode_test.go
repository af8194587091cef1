package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// full has every member set, so that a member that is forgotten in Append is noticed.
func full() *Record {
	at := time.Date(2026, 3, 1, 12, 30, 15, 123456000, time.UTC)
	return &Record{
		V: 1, Seq: 42, ID: "0195513a-6a3b-7f9a-8000-0102030405ff", Time: at, Kind: Outcome, Intent: 41,
		RequestID: "req-1", Boot: "boot-1", Connection: "default", Credential: "entra-2026", Source: "192.0.2.7:4711",
		Action: Updated, Method: "PATCH", Op: "patch", ResourceType: "User",
		Subject: Subject{ID: "b1", UserName: "ålice <a&b>@contoso.com", ExternalID: "7c2e"},
		Attributes: []Attribute{
			{Path: "active", Asked: &Value{Clear: json.RawMessage(`"False"`)}, Sent: &Value{Clear: json.RawMessage("false")}, Confirmed: NotReported(), Note: "read as a boolean"},
			{Path: "title", Asked: &Value{HMAC: "00112233445566778899aabbccddeeff"}, Sent: Absent()},
			{Path: "password", Asked: &Value{Secret: true}},
			{Path: "nothing", Asked: &Value{}},
		},
		Sealed: "c2VhbGVk", SealedKey: "0195513a6a3b0102030405060708",
		Findings:  []Finding{{Rule: "unlisted", Verdict: Drop, Path: "title", Reason: "the upstream has no title"}, {Rule: "plain", Verdict: Allow}},
		Plan:      "PATCH of 1 attribute",
		Admission: &Admission{Waited: 1.5, Queued: 3, Breaker: "half-open", HoldOff: 20},
		Calls: []Call{
			{Method: "PATCH", Target: "/Users/{id}", Attempt: 1, Status: 204, Started: at, Duration: 12.345, Error: "none\x00\x1b[31m\u2028"},
			{Method: "GET", Target: "/Users/{id}"},
		},
		Answer: Answer{Status: 200, ScimType: "mutability", Detail: "said\n\"so\"\\"},
		Error:  "bell\a tab\t", Duration: 1e-7,
		Unrecorded: 7, Pruned: &Pruned{First: 1, Last: 40, Before: at, Signature: "c2ln"},
	}
}

// viaJSON is the form that Append promises to equal.
func viaJSON(t interface{ Fatal(...any) }, r *Record) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestAppendEqualsEncodingJSON(t *testing.T) {
	for name, r := range map[string]*Record{
		"empty": {V: 1},
		"full":  full(),
		"one member of a pair": {V: 1, Seq: 1, Subject: Subject{ExternalID: "e"}, Answer: Answer{Detail: "d"},
			Attributes: []Attribute{{Confirmed: Absent()}}, Calls: []Call{{Error: "e"}}, Findings: []Finding{{}}},
	} {
		if got, want := string(Append(nil, r)), viaJSON(t, r); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	for _, f := range []float64{0, 1, -1, 0.5, 12.345, 1e-6, 9.99e-7, 1e-9, 1.5e-10, 1e20, 1e21, 1.7e308, 5e-324} {
		r := &Record{V: 1, Duration: f}
		if got, want := string(Append(nil, r)), viaJSON(t, r); got != want {
			t.Errorf("duration %g:\n got %s\nwant %s", f, got, want)
		}
	}
}

// TestFullIsFull keeps full honest when members are added.
func TestFullIsFull(t *testing.T) {
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			field, name := v.Field(i), path+v.Type().Field(i).Name
			if v.Type().Field(i).Tag.Get("json") == "-" {
				continue
			}
			if field.IsZero() {
				t.Errorf("full() leaves %s empty", name)
			}
			switch {
			case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct:
				walk(field.Index(0), name+".")
			case field.Kind() == reflect.Struct && field.Type() != reflect.TypeFor[time.Time]():
				walk(field, name+".")
			case field.Kind() == reflect.Pointer && !field.IsNil() && field.Type() != reflect.TypeFor[*Value]():
				walk(field.Elem(), name+".")
			}
		}
	}
	walk(reflect.ValueOf(*full()), "")
}

func TestAppendParseRoundTrip(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~<>&"\\]{0,12}`), rapid.Just("\u2028\u2029\uFFFD\x7f"))
	rapid.Check(t, func(t *rapid.T) {
		r := &Record{V: 1, Seq: rapid.Int64Min(0).Draw(t, "seq"), ID: text.Draw(t, "id"), Kind: Event, Action: text.Draw(t, "action"),
			Time:     time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "time")).UTC(),
			Subject:  Subject{UserName: text.Draw(t, "userName")},
			Findings: []Finding{{Rule: text.Draw(t, "rule"), Reason: text.Draw(t, "reason")}},
			Duration: rapid.Float64().Draw(t, "duration")}
		line := Append(nil, r)
		if got, want := string(line), viaJSON(t, r); got != want {
			t.Fatalf("got %s\nwant %s", got, want)
		}
		back, err := Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, r) {
			t.Fatalf("got %+v, want %+v", back, r)
		}
	})
	back, err := Parse(Append(nil, full()))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, full()) {
		t.Errorf("got %+v, want %+v", back, full())
	}
}

func TestAppendNormalizes(t *testing.T) {
	zone := time.FixedZone("", 2*3600)
	r := &Record{V: 1, Time: time.Date(2026, 1, 1, 1, 0, 0, 999, zone), Error: "a\xffb", Duration: 0}
	line := Append(nil, r)
	if want := `"time":"2025-12-31T23:00:00Z"`; !strings.Contains(string(line), want) {
		t.Errorf("got %s, want %s in it", line, want)
	}
	back, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Append(nil, back), line; !bytes.Equal(got, want) {
		t.Errorf("written again: got %s, want %s", got, want)
	}
}

func TestHeadRoom(t *testing.T) {
	if got := len(AppendHead(nil, -1<<63)); got != HeadRoom {
		t.Errorf("longest head has %d bytes, HeadRoom is %d", got, HeadRoom)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{``, "unexpected end"},
		{`{"v":1,"seq":1} x`, "invalid character"},
		{`{"v":2,"seq":7}`, "record 7 of the trail has version 2"},
		{`{"seq":7}`, "version 0"},
		{`{"v":1,"seq":"7"}`, "seq"},
	} {
		_, err := Parse([]byte(tt.line))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Parse(%q): got %v, want an error with %q", tt.line, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Append(nil, full()))
	f.Add([]byte(`{"v":1,"seq":1,"attributes":[{"path":"a","asked":{"value": [1, {"b":null}]}}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := Parse(line)
		if err != nil {
			return
		}
		if y := r.Time.Year(); y < 0 || y > 9999 {
			return
		}
		once := Append(nil, r)
		if !json.Valid(once) {
			t.Fatalf("Append wrote invalid JSON: %s", once)
		}
		again, err := Parse(once)
		if err != nil {
			t.Fatalf("Parse of what Append wrote: %v\n%s", err, once)
		}
		if twice := Append(nil, again); !bytes.Equal(once, twice) {
			t.Fatalf("got %s\nwant %s", twice, once)
		}
	})
}

func TestNewID(t *testing.T) {
	at := time.UnixMicro(1_700_000_000_123_456)
	if got, want := NewID(at, [8]byte{0xff, 1, 2, 3, 4, 5, 6, 7}), "018bcfe5-687b-774b-bf01-020304050607"; got != want {
		t.Errorf("NewID = %s, want %s", got, want)
	}
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	var ids []string
	for i := range 5000 {
		id := NewID(at.Add(time.Duration(i)*time.Microsecond), [8]byte{byte(i * 7)})
		if !form.MatchString(id) {
			t.Fatalf("%s is not a UUIDv7", id)
		}
		ids = append(ids, id)
	}
	if !slices.IsSorted(ids) {
		t.Error("ids of rising times are not sorted")
	}
}

func BenchmarkAppend(b *testing.B) {
	r, dst := full(), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		dst = Append(dst[:0], r)
	}
	b.SetBytes(int64(len(dst)))
}

func BenchmarkParse(b *testing.B) {
	line := Append(nil, full())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}
