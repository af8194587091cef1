package main

import (
	"io"
	"slices"
	"testing"
)

// The demo's table is only worth something if each of its rows can fail.
func TestDemoAndItsExpectations(t *testing.T) {
	d := &demo{out: newScreen(io.Discard, func(string) string { return "" }), users: 40, told: map[string]bool{}, meter: newMeter(io.Discard, "requests")}
	table, err := d.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cmd := newDemo(func(string) string { return "" })
	if got := report(io.Discard, cmd, table.verdict(d.out)); got != exitOK {
		for _, x := range *table {
			if x.expected != x.found {
				t.Errorf("%s: found %s, expected %s", x.what, x.found, x.expected)
			}
		}
		t.Fatalf("got exit code %d, want %d", got, exitOK)
	}
	if len(*table) < 30 {
		t.Errorf("got %d rows, want at least 30", len(*table))
	}
	for i, row := range *table {
		flipped := slices.Clone(*table)
		flipped[i].expected = "anything but " + row.expected
		if got := report(io.Discard, cmd, flipped.verdict(d.out)); got != exitProblem {
			t.Errorf("with %q flipped the demo ends with exit code %d, want %d", row.what, got, exitProblem)
		}
	}
}
