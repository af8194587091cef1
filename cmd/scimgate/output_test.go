package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestShown(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"babs@example.com", "babs@example.com"},
		{`CORP\babs`, `CORP\babs`},
		{"田中 Ünal", "田中 Ünal"},
		{"a\x1b[31mb", `"a\x1b[31mb"`},
		{"a\u202eb", `"a\u202eb"`},
		{"a\u2066b\u200b", `"a\u2066b\u200b"`},
		{"a\u009b2J", `"a\u009b2J"`},
		{"a\nb", `"a\nb"`},
		{"a\xffb", `"a\xffb"`},
		{"a\ufffdb", "a\ufffdb"},
		{`"quoted"`, `"\"quoted\""`}, // or it could not be told from a text that was quoted here
		{"", ""},
	} {
		if got := shown(test.in); got != test.want {
			t.Errorf("%q: got %s, want %s", test.in, got, test.want)
		}
	}
	if got, want := shownText("file \"x\x1b\" is bad"), `file "x\x1b" is bad`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Whatever is shown can be printed, and escapes do not change what JSON means.
func FuzzShown(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[2J", "\u202e", "\U000e0041", "\xff", "\u2028", `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, got := range []string{shown(s), shownText(s)} {
			if !printable(got) {
				t.Errorf("%q: got %q, which is not printable", s, got)
			}
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		escaped := appendShownJSON(nil, text)
		if !printable(string(escaped)) {
			t.Errorf("%q: got %q, which is not printable", s, escaped)
		}
		var back string
		if err := json.Unmarshal(escaped, &back); err != nil || utf8.ValidString(s) && back != s {
			t.Errorf("%q: got %q back, %v", s, back, err)
		}
	})
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	s := &screen{w: &out}
	new(table).printAll(s, [][]cell{
		{{text: "田中"}, {text: "1", right: true}, {text: "x"}},
		{{text: "e\u0301a"}, {text: "100", right: true}, {text: strings.Repeat("last column ", 5)}},
		{{text: strings.Repeat("x", 60)}, {text: "2", right: true}, {text: "z"}},
	})
	want := "田中" + strings.Repeat(" ", 40) + "    1  x\n" +
		"e\u0301a" + strings.Repeat(" ", 42) + "  100  " + strings.Repeat("last column ", 5) + "\n" +
		strings.Repeat("x", 43) + "…    2  z\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := width(cut(strings.Repeat("田", 40), widest)); got > widest {
		t.Errorf("got %d columns, want at most %d", got, widest)
	}
}

func TestColoursOnlyOnATerminal(t *testing.T) {
	var out bytes.Buffer
	if s := newScreen(&out, noEnv); s.terminal || s.colours || s.paint(red, "x") != "x" {
		t.Error("got a terminal with colours, want neither: it is a buffer")
	}
	if got, want := (&screen{colours: true}).paint(red, "x"), "\x1b[31mx\x1b[0m"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWrap(t *testing.T) {
	got := wrap("one two  three\nfour averyveryverylongword", "  ", 11)
	if want := "  one two\n  three\n  four\n  averyveryverylongword"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		text string
		want time.Time
		ok   bool
	}{
		{"", time.Time{}, true},
		{"2h", now.Add(-2 * time.Hour), true},
		{"1h30m", now.Add(-90 * time.Minute), true},
		{"7d", now.AddDate(0, 0, -7), true},
		{"2026-03-01T00:00:00+01:00", time.Date(2026, 2, 28, 23, 0, 0, 0, time.UTC), true},
		{"-2h", time.Time{}, false},
		{"yesterday", time.Time{}, false},
		{"2026-03-01", time.Time{}, false},
		{"d", time.Time{}, false},
	} {
		got, err := moment(test.text, now)
		if !got.Equal(test.want) || (err == nil) != test.ok {
			t.Errorf("%q: got %v and %v, want %v", test.text, got, err, test.want)
		}
	}
}

func TestAdminURL(t *testing.T) {
	for listen, want := range map[string]string{
		"":               "http://127.0.0.1:9090",
		":9090":          "http://127.0.0.1:9090",
		"0.0.0.0:9090":   "http://127.0.0.1:9090",
		"[::]:9090":      "http://[::1]:9090",
		"10.0.0.1:9090":  "http://10.0.0.1:9090",
		"localhost:9090": "http://localhost:9090",
		"nonsense":       "http://nonsense",
	} {
		if got := adminURL(listen); got != want {
			t.Errorf("%q: got %s, want %s", listen, got, want)
		}
	}
}
