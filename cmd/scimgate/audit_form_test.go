package main

import (
	"encoding/csv"
	"strings"
	"testing"

	"scimgate/gateway/audit"
)

func TestSafeCell(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"babs@example.com", "babs@example.com"},
		{"", ""},
		{"=1+1", "'=1+1"},
		{"+491", "'+491"},
		{"-1", "'-1"},
		{"@SUM(A1)", "'@SUM(A1)"},
		{"  =1", "  '=1"},
		{`"=1`, `"'=1`},
		{"'=1", "''=1"},
		{"\t=1", `\t=1`},
		{"\r\n=1", `\r\n=1`},
		{"a;=1", "a;'=1"},
		{"a; +1;-2", "a; '+1;'-2"},
		{"\uff1dHYPERLINK", "'\uff1dHYPERLINK"},
		{"a\x00\u202eb", `a\x00\u202eb`},
		{"a=1", "a=1"},
	} {
		if got := safeCell(tt.text); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

// Whatever stands in a record, its line is one line of as many cells as the head, and none of them begins a formula.
func FuzzCSVLine(f *testing.F) {
	f.Add("babs@example.com", "a\"b,c\n=d")
	f.Add("=cmd|' /C calc'!A0", ";@x")
	f.Fuzz(func(t *testing.T, userName, detail string) {
		rec := &audit.Record{Seq: 1, Kind: audit.Outcome, Subject: audit.Subject{UserName: userName}, Answer: audit.Answer{Status: 400, Detail: detail}}
		line := string(appendCSVLine(nil, rec))
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\r\n") {
			t.Errorf("got %q, want one line", line)
		}
		lines, err := csv.NewReader(strings.NewReader(string(exportForms["csv"].head) + line)).ReadAll()
		if err != nil || len(lines) != 2 || len(lines[0]) != len(csvColumns) {
			t.Fatalf("got %q and %v, want two lines of %d cells", lines, err, len(csvColumns))
		}
		for _, cell := range lines[1] {
			for part := range strings.SplitSeq(cell, ";") {
				if part = strings.TrimLeft(part, ` "`); part != "" && strings.ContainsRune("=+-@\t\r", rune(part[0])) {
					t.Errorf("the cell %q begins a formula", cell)
				}
			}
		}
	})
}
