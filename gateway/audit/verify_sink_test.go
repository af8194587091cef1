package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// handed is what a sink of the native format was given of a trail that is signed at the sizes, each checkpoint a few
// records late, as it comes under load.
func handed(t *testing.T, sizes ...int) (lines []string, notes []string, key *PublicKey) {
	t.Helper()
	m, c := newTrail(t, sizes...)
	m.grow(3) // not signed yet
	next := 0
	for i, record := range m.records {
		lines = append(lines, string(record))
		for next < len(sizes) && i+1 >= sizes[next]+next%3 {
			lines = append(lines, checkpointLine(m.notes[next]))
			next++
		}
	}
	for ; next < len(sizes); next++ {
		lines = append(lines, checkpointLine(m.notes[next]))
	}
	return lines, m.notes, c.key
}

func checkpointLine(note string) string {
	_, line := checkpointRecord(1, note, noTime)
	return string(line)
}

var noTime = full().Time

func verifySink(t *testing.T, key *PublicKey, kept []string, files ...[]string) (*Summary, error) {
	t.Helper()
	var list []SinkFile
	for i, lines := range files {
		list = append(list, SinkFile{fmt.Sprintf("file%d", i), strings.NewReader(strings.Join(lines, "\n") + "\n")})
	}
	return (&Verification{Key: key, Kept: kept}).Sink(t.Context(), list)
}

// Whole, in several files, with lines that come again and lines that break off: what a sink was given holds.
func TestVerifySink(t *testing.T) {
	lines, notes, key := handed(t, 5, 40, 41, 300, 700)
	torn := func(line string, n int) string { return line[:min(n, len(line))] }
	for name, files := range map[string][][]string{
		"one file":                         {lines},
		"a rotation":                       {lines[:100], lines[100:400], lines[400:]},
		"an outage, again":                 {slices.Concat(lines[:350], lines[200:])},
		"outages over a rotation, again":   {slices.Concat(lines[:100], lines[3:120]), slices.Concat(lines[90:650], lines[300:])},
		"a line breaks off, again":         {slices.Concat(lines[:350], []string{torn(lines[350], 100)}, lines[300:])},
		"a checkpoint breaks off, again":   {slices.Concat(lines[:350], []string{torn(checkpointLine(notes[0]), 50)}, lines[340:])},
		"a line breaks off at once, again": {slices.Concat(lines[:350], []string{`{"v"`}, lines[340:])},
		"a power failure":                  {slices.Concat(lines[:350], []string{torn(lines[350], 60) + "\x00\x00\x00", "\x00"}, lines[350:])},
		"a copy while it is written":       {append(slices.Clone(lines), `{"v":1,"seq":704,"i`)},
	} {
		sum, err := verifySink(t, key, notes[:1], files...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if sum.Records != 703 || sum.Signed != 700 || sum.Checkpoints != 5 || (sum.Repeated > 0) != strings.Contains(name, "again") {
			t.Errorf("%s: got %+v, want 703 records, 700 signed, by 5 checkpoints", name, sum)
		}
	}
}

// Whatever is changed, left out or added is found.
func TestVerifySinkFinds(t *testing.T) {
	lines, notes, key := handed(t, 5, 40, 41, 300, 700)
	changed := func(i int, line string) []string {
		out := slices.Clone(lines)
		out[i] = line
		return out
	}
	another := strings.Replace(lines[50], `"id":"`, `"id":"x`, 1)
	_, _, stranger := handed(t, 1)
	isCheckpoint := func(line string) bool { return strings.HasPrefix(line, `{"checkpoint"`) }
	first, last := slices.IndexFunc(lines, isCheckpoint), len(lines)-1
	for !isCheckpoint(lines[last]) {
		last--
	}
	for _, tc := range []struct {
		name  string
		files []string
		kept  []string
		want  string
	}{
		{"changed", changed(50, another), nil, "is not the one that"},
		{"left out", slices.Delete(slices.Clone(lines), 50, 51), nil, "is missing"},
		{"the beginning left out", lines[1:], nil, "name the files with those before it"},
		{"swapped", func() []string { l := slices.Clone(lines); l[50], l[51] = l[51], l[50]; return l }(), nil, "is missing"},
		{"comes again as another", slices.Insert(slices.Clone(lines), 60, another), nil, "comes again, and is not the same"},
		{"cut, with a checkpoint kept", lines[:200], notes[4:], "cut off"},
		{"cut before a checkpoint in it", slices.Concat(lines[:200], lines[last:last+1]), nil, "cut off"},
		{"no checkpoint", lines[:4], nil, "no checkpoint"},
		{"a checkpoint changed", changed(last, strings.Replace(lines[last], `700`, `699`, 1)), nil, "the signature"},
		{"a checkpoint that is no JSON", changed(first, strings.Replace(lines[first], `time 2`, "time \x01", 1)), nil, "not a line of a sink"},
		{"a line of something else", slices.Insert(slices.Clone(lines), 60, "hello"), nil, "not a line of a sink"},
		{"a torn line that does not follow", slices.Concat(lines[:60], []string{another[:100]}, lines[50:]), nil, "begins with"},
		{"torn beyond the next", slices.Concat(lines[:60], []string{lines[70][:100]}, lines[60:]), nil, "is missing"},
		{"an export", []string{lines[0], `{"leaves":{"first":1,"hashes":"AA=="}}`}, nil, "leave --sink out"},
		{"an event of OCSF", []string{`{"class_uid":6003}`}, nil, "OCSF"},
	} {
		if _, err := verifySink(t, key, tc.kept, tc.files); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
	if _, err := verifySink(t, stranger, nil, lines); err == nil || !strings.Contains(err.Error(), "not by the key given") {
		t.Errorf("another key: got %v", err)
	}
	for range 200 { // before the last checkpoint
		i := rand.IntN(700)
		line := []byte(lines[i])
		line[rand.IntN(len(line)-1)] ^= byte(1 + rand.IntN(255)) // a checkpoint without its last byte may have broken off
		if sum, err := verifySink(t, key, nil, changed(i, string(line))); err == nil {
			t.Errorf("line %d as %s: got %+v, want it found", i+1, line, sum)
		}
	}
}

// A sink that began anew in the same file, further back than lines are kept, is verified from its beginning again.
func TestVerifySinkAnew(t *testing.T) {
	lines, _, key := handed(t, 5, 40)
	s := &sinkReader{Verification: &Verification{Key: key}, next: 1, base: &Tree{}, tree: &Tree{}, file: "file"}
	take := func(lines []string) error {
		for _, line := range lines {
			var err error
			if seq, ok := placeOf([]byte(line)); ok {
				err = s.record(seq, []byte(line))
			} else {
				err = s.special([]byte(line))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	fold := func() { // as it happens with more records than sinkWindow
		extend(s.base, s.recent[:20])
		s.recent = slices.Delete(s.recent, 0, 20)
	}
	if err := take(lines); err != nil {
		t.Fatal(err)
	}
	fold()
	if err := take(lines[30:]); err != nil {
		t.Errorf("what is kept comes again: %v", err)
	}
	if err := take(lines[9:10]); err == nil || !strings.Contains(err.Error(), "verify these files apart") {
		t.Errorf("what is not kept comes again: got %v", err)
	}
	if err := take(lines); err != nil {
		t.Errorf("anew: %v", err)
	}
	if sum, err := s.end(); err != nil || sum.Records != 43 || sum.Signed != 40 {
		t.Errorf("got %+v, %v, want 43 records, 40 signed", sum, err)
	}
	fold()
	if err := take(lines[:20]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.end(); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("anew, and not as far: got %v", err)
	}
}

func TestFirstRecord(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, "{}\n": 0, `{"v":1,"s` + "\n" + `{"v":1,"seq":7,"id":"x"}` + "\n": 7, `{"checkpoint":"x"}` + "\n" + `{"v":1,"seq":3}`: 3,
	} {
		if got, err := FirstRecord(strings.NewReader(text)); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
}

func FuzzVerifySink(f *testing.F) {
	f.Add([]byte(`{"v":1,"seq":1}` + "\n" + `{"checkpoint":"x"}`))
	f.Add([]byte("{\"v\":1,\"seq\":1,\n{\"v\":1,\"seq\":1,\"a\":2}\n\x00\n"))
	s, err := LoadOrCreateSigner(f.TempDir() + "/key")
	if err != nil {
		f.Fatal(err)
	}
	key, err := ParsePublicKey(s.PublicKey())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if sum, err := (&Verification{Key: key}).Sink(t.Context(), []SinkFile{{"f", bytes.NewReader(text)}}); err == nil {
			t.Errorf("got %+v, want an error: nobody has signed it", sum)
		}
	})
}

func BenchmarkVerifySink(b *testing.B) {
	s, err := LoadOrCreateSigner(b.TempDir() + "/key")
	if err != nil {
		b.Fatal(err)
	}
	key, err := ParsePublicKey(s.PublicKey())
	if err != nil {
		b.Fatal(err)
	}
	const records = 100_000
	var text bytes.Buffer
	tree := &Tree{}
	rec := full()
	for i := range int64(records) {
		rec.Seq = i + 1
		line := Append(nil, rec)
		text.Write(append(line, '\n'))
		tree.Append(LeafHash(line))
	}
	root, err := tree.Root()
	if err != nil {
		b.Fatal(err)
	}
	c, err := s.Sign(records, root, noTime)
	if err != nil {
		b.Fatal(err)
	}
	line, err := json.Marshal(exportLine{Checkpoint: c.Note})
	if err != nil {
		b.Fatal(err)
	}
	text.Write(line)
	for b.Loop() {
		if _, err := (&Verification{Key: key}).Sink(b.Context(), []SinkFile{{"f", bytes.NewReader(text.Bytes())}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(text.Len())/records, "bytes/record")
}
