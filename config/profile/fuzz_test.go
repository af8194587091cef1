package profile

import (
	"errors"
	"testing"
)

// Whatever it is handed, Parse returns a profile or Problems that stand inside the file.
func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		src, err := Source(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, src := range []string{"", valid, valid + "url: http://x\n", "a: &a [*a]", "? a\n: b", "- - - x", "{a: [b, {c: d}]}", "a: |\n  b\n", "\ufeffname: x", "---\n---\n"} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := Parse("f.yaml", src)
		if err == nil {
			if p.Resource("User") == nil || p.Name == "" {
				t.Errorf("got %+v without error", p)
			}
			return
		}
		problems, ok := errors.AsType[Problems](err)
		if p != nil || !ok {
			t.Fatalf("got %v, %T, want Problems and no profile", p, err)
		}
		lines := 1
		for _, b := range src {
			if b == '\n' || b == '\r' {
				lines++
			}
		}
		for _, problem := range problems {
			if problem.Message == "" || problem.Line > lines || problem.Line < 0 || (problem.Line == 0) != (problem.Column == 0) {
				t.Errorf("got %+v in a file of %d lines", problem, lines)
			}
		}
	})
}
