package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// exported is a trail as a file.
func exported(t *testing.T, m *memory) []byte {
	t.Helper()
	var file bytes.Buffer
	n, err := Export(t.Context(), m, int64(len(m.records)), &file, func(int64) {})
	if err != nil || n != int64(len(m.records)) {
		t.Fatalf("exported %d records and %v, want %d", n, err, len(m.records))
	}
	return file.Bytes()
}

func verifyExport(t *testing.T, key *PublicKey, file []byte, kept ...string) (*Summary, error) {
	t.Helper()
	return (&Verification{Key: key, Kept: kept}).Export(t.Context(), bytes.NewReader(file))
}

// wantPlace checks that a verification failed and named a record.
func wantPlace(t *testing.T, what string, err error, place int) {
	t.Helper()
	found, ok := errors.AsType[*Tampered](err)
	if !ok || found.Record != int64(place) {
		t.Errorf("%s: got %v, want record %d named", what, err, place)
	}
}

func TestVerify(t *testing.T) {
	for _, size := range []int{1, 2, 255, 256, 257, 511, 512, 1000, TileWidth*TileWidth + 5} {
		m, c := newTrail(t, (size+1)/2, size)
		for _, more := range []int{0, 3} {
			m.grow(more)
			want := Summary{Records: int64(size + more), Signed: int64(size), Checkpoints: len(m.notes)}
			got, err := (&Verification{Key: c.key, Kept: m.notes[:1]}).Trail(t.Context(), m)
			if err != nil || got.Records != want.Records || got.Signed != want.Signed || got.Checkpoints != want.Checkpoints+1 {
				t.Errorf("trail of %d and %d: got %+v and %v, want %+v", size, more, got, err, want)
			}
			got, err = verifyExport(t, c.key, exported(t, m), m.notes[len(m.notes)-1], m.notes[0])
			if err != nil || got.Records != want.Records || got.Signed != want.Signed || got.Checkpoints != 3 {
				t.Errorf("export of %d and %d: got %+v and %v, want %+v", size, more, got, err, want)
			}
		}
	}
}

// Whatever is changed in the trail is found, and the first wrong record is named: 200 random places each.
func TestVerifyFindsRandomEdits(t *testing.T) {
	m, c := newTrail(t, 100, 101, 300, 700)
	file := exported(t, m)
	lines := bytes.SplitAfter(file, []byte("\n"))
	at := func(seq int) int {
		return slices.IndexFunc(lines, func(l []byte) bool { s, ok := placeOf(l); return ok && s == int64(seq) })
	}
	for range 200 {
		i, j := 1+rand.IntN(700), 1+rand.IntN(700)
		for i == j {
			j = 1 + rand.IntN(700)
		}
		first := min(i, j)

		changed := slices.Clone(lines)
		changed[at(i)] = bytes.Clone(lines[at(i)])
		where := rand.IntN(len(changed[at(i)]) - 1)
		changed[at(i)][where] ^= byte(1 + rand.IntN(255))
		_, err := verifyExport(t, c.key, bytes.Join(changed, nil))
		wantPlace(t, fmt.Sprintf("byte %d of record %d", where, i), err, i)

		changed = slices.Delete(slices.Clone(lines), at(i), at(i)+1)
		_, err = verifyExport(t, c.key, bytes.Join(changed, nil))
		wantPlace(t, fmt.Sprintf("without record %d", i), err, i)

		changed = slices.Clone(lines)
		changed[at(i)], changed[at(j)] = lines[at(j)], lines[at(i)]
		_, err = verifyExport(t, c.key, bytes.Join(changed, nil))
		wantPlace(t, fmt.Sprintf("records %d and %d swapped", i, j), err, first)

		_, err = verifyExport(t, c.key, bytes.Join(lines[:at(i)], nil), m.notes[3])
		wantPlace(t, fmt.Sprintf("cut before record %d", i), err, i)

		// In the database, with the sequence numbers that belong there.
		stored := *m
		stored.records = slices.Clone(m.records)
		stored.records[i-1] = bytes.Clone(m.records[i-1])
		stored.records[i-1][rand.IntN(len(m.records[i-1]))] ^= byte(1 + rand.IntN(255))
		_, err = (&Verification{Key: c.key}).Trail(t.Context(), &stored)
		wantPlace(t, fmt.Sprintf("stored record %d changed", i), err, i)
	}
}

// What a random edit does not reach: someone who knows how the trail is stored.
func TestVerifyFindsCunningEdits(t *testing.T) {
	forge := func(m *memory, seq int) { // changes a record and its stored hash
		m.records[seq-1] = bytes.Replace(m.records[seq-1], []byte("@example"), []byte("@exemple"), 1)
		leaf := LeafHash(m.records[seq-1])
		copy(m.tiles[[2]int64{0, int64(seq-1) / TileWidth}][(seq-1)%TileWidth*len(leaf):], leaf[:])
	}
	for name, tt := range map[string]struct {
		change func(m *memory)
		want   string
	}{
		"record and hash":            {func(m *memory) { forge(m, 250) }, "one of the records 102 to 300 is not the one that the checkpoint of"},
		"one record of a checkpoint": {func(m *memory) { forge(m, 101) }, "record 101 is not the one that the checkpoint of"},
		"only the hash":              {func(m *memory) { m.tiles[[2]int64{0, 1}][3*32] ^= 1 }, "the hash that is stored for record 260 was changed or removed; the record itself is the one"},
		"no hashes":                  {func(m *memory) { delete(m.tiles, [2]int64{0, 1}) }, "the hash that is stored for record 257 was changed or removed"},
		"tree above":                 {func(m *memory) { m.tiles[[2]int64{1, 0}][3] ^= 1 }, ""},
		"checkpoint of another size": {func(m *memory) { m.notes[1] = strings.Replace(m.notes[1], "\n101\n", "\n102\n", 1) }, "checkpoint over 102 records: the signature of"},
		"no checkpoint":              {func(m *memory) { m.notes = nil }, "there is no checkpoint"},
		"not a checkpoint":           {func(m *memory) { m.notes[1] = "hello" }, "a checkpoint of the trail was changed"},
		"renumbered":                 {func(m *memory) { m.records = slices.Delete(m.records, 9, 10) }, "at the place of record 10 stands record 11"},
		"copied":                     {func(m *memory) { m.records[9] = m.records[19] }, "at the place of record 10 stands record 20"},
		"no record":                  {func(m *memory) { m.records[9] = []byte("{}") }, "record 10 was changed: it does not say"},
		"cut":                        {func(m *memory) { m.records = m.records[:699] }, "the trail ends at record 699, but the checkpoint of "},
		"all gone":                   {func(m *memory) { m.records = nil }, "the trail ends at record 0, but the checkpoint of "},
	} {
		m, c := newTrail(t, 100, 101, 300, 700)
		tt.change(m)
		_, err := (&Verification{Key: c.key}).Trail(t.Context(), m)
		if got := fmt.Sprint(err); tt.want == "" && err != nil || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	m, c := newTrail(t, 100, 700, TileWidth*TileWidth+9)
	m.tiles[[2]int64{1, 0}][3] ^= 1
	if _, err := (&Verification{Key: c.key}).Trail(t.Context(), m); err == nil || !strings.Contains(err.Error(), "the stored tree over the records 1 to 65536 was changed") {
		t.Errorf("got %v, want that the stored tree was changed", err)
	}
}

// A trail that was rolled back to an older, truly signed state is found by a checkpoint that was kept elsewhere.
func TestVerifyAgainstAKeptCheckpoint(t *testing.T) {
	m, c := newTrail(t, 100, 300)
	older := &memory{records: m.records[:100], tiles: map[[2]int64][]byte{{0, 0}: m.tiles[[2]int64{0, 0}]}, notes: slices.Clone(m.notes[:1])}
	if _, err := (&Verification{Key: c.key}).Trail(t.Context(), older); err != nil {
		t.Errorf("without a kept checkpoint: %v", err)
	}
	_, err := (&Verification{Key: c.key, Kept: m.notes[1:]}).Trail(t.Context(), older)
	wantPlace(t, "rolled back", err, 101)
	_, err = verifyExport(t, c.key, exported(t, older), m.notes[1])
	wantPlace(t, "rolled back export", err, 101)

	older.records = slices.Clone(m.records[:100]) // and written on, by another process with the same key
	older.grow(250)
	older.records[200] = bytes.Replace(older.records[200], []byte("user"), []byte("anna"), 1)
	second := newCheckpointer(t, older, c.Signer)
	second.attempt(t.Context())
	_, err = (&Verification{Key: c.key, Kept: m.notes[1:]}).Trail(t.Context(), older)
	wantPlace(t, "another history", err, 101)
}

func TestVerifyWrongKey(t *testing.T) {
	m, c := newTrail(t, 100)
	other := publicKey(t, newTestSigner(t))
	want := "signed by " + c.key.Name() + ", not by the key given, " + other.Name()
	for name, err := range map[string]error{
		"trail":  second((&Verification{Key: other}).Trail(t.Context(), m)),
		"export": second(verifyExport(t, other, exported(t, m))),
		"kept":   second((&Verification{Key: other, Kept: m.notes}).Trail(t.Context(), &memory{records: m.records})),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestVerifyRefusesBadExports(t *testing.T) {
	m, c := newTrail(t, 300)
	m.grow(2)
	file := exported(t, m)
	whole := string(file)
	lines := strings.SplitAfter(whole, "\n")
	for name, tt := range map[string]struct{ file, want string }{
		"empty":                {"", "does not end with a checkpoint"},
		"cut in a line":        {whole[:len(whole)-1000], "was changed"},
		"without its end":      {strings.Join(lines[:304], ""), "does not end with a checkpoint"},
		"something else":       {"hello\n", "line 1, behind record 0, is not a line of an export"},
		"a line more":          {whole + lines[0], "the export goes on behind its checkpoint"},
		"an endless line":      {strings.Repeat("x", longestLine+1), "is longer than any of an export"},
		"hashes misplaced":     {strings.Replace(whole, `{"first":257`, `{"first":256`, 1), "has the hashes of the records from 256 on, and stands behind record 300"},
		"hashes gone":          {strings.Replace(whole, lines[301], "", 1), "no line of hashes that ends with record 300"},
		"hashes changed":       {changeHash(whole), "the hash that is stored for record 1 was changed or removed"},
		"members nobody knows": {strings.Replace(whole, `{"leaves"`, `{"x":1,"leaves"`, 1), "is not a line of an export"},
	} {
		if _, err := verifyExport(t, c.key, []byte(tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	var early bytes.Buffer // begun just before the newest checkpoint
	if n, err := Export(t.Context(), m, 299, &early, func(int64) {}); err != nil || n != 300 {
		t.Errorf("got %d records and %v, want the 300 that are signed", n, err)
	}
	if got, err := verifyExport(t, c.key, early.Bytes()); err != nil || got.Signed != 300 || got.Records != 300 {
		t.Errorf("got %+v and %v, want 300 signed", got, err)
	}
	unsigned := &memory{}
	unsigned.grow(3)
	if got := exported(t, unsigned); bytes.Count(got, []byte("\n")) != 3 {
		t.Errorf("an unsigned trail is exported as %s, want its 3 records", got)
	}
}

// changeHash flips a bit of the first stored hash of an export.
func changeHash(file string) string {
	const before = `"hashes":"`
	at := strings.Index(file, before) + len(before)
	return file[:at] + string("AB"[strings.IndexByte("BA", file[at])&1]) + file[at+1:]
}

func TestProof(t *testing.T) {
	m, c := newTrail(t, 100, 1000)
	m.grow(1)
	for _, seq := range []int64{1, 100, 256, 257, 1000} {
		p, err := Prove(t.Context(), m, seq)
		if err != nil {
			t.Fatal(err)
		}
		file, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, at, err := VerifyProof(file, c.key)
		if err != nil || got.Record != string(m.records[seq-1]) || at.Size != 1000 {
			t.Errorf("record %d: got %v, %v and %v", seq, got, at, err)
		}
		if size := len(file) - len(p.Record); size >= 2048 {
			t.Errorf("record %d: the proof has %d bytes beside the record, want less than 2048", seq, size)
		}
		if _, _, err := VerifyProof(file, publicKey(t, newTestSigner(t))); err == nil || !strings.Contains(err.Error(), "not by the key given") {
			t.Errorf("another key: got %v", err)
		}
		for range 200 { // no byte of it may be changed, but for white space and what JSON leaves out
			changed := bytes.Clone(file)
			i := rand.IntN(len(changed))
			changed[i] ^= byte(1 + rand.IntN(255))
			if again, _, err := VerifyProof(changed, c.key); err == nil && again.Record != p.Record {
				t.Errorf("record %d: with byte %d changed the proof holds for %s", seq, i, again.Record)
			}
		}
	}
	for seq, want := range map[int64]string{1001: "is not signed yet", 1002: "has no record 1002", 0: "has no record 0"} {
		if _, err := Prove(t.Context(), m, seq); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("record %d: got %v, want %q", seq, err, want)
		}
	}
	m.records[6][50] ^= 1
	if _, err := Prove(t.Context(), m, 7); err == nil || !strings.Contains(err.Error(), "is not what was signed") {
		t.Errorf("a changed record: got %v", err)
	}
	m.records[6] = nil
	if _, err := Prove(t.Context(), m, 7); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("a missing record: got %v", err)
	}
	for file, want := range map[string]string{"": "not a proof", "{}": "not a proof", `{"v":2}`: "version 2", `{"v":1,"checkpoint":"x"}`: "not a checkpoint"} {
		if _, _, err := VerifyProof([]byte(file), c.key); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", file, err, want)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	s := newTestSigner(t)
	key := publicKey(t, s)
	at := time.Date(2027, 1, 31, 8, 0, 0, 123456789, time.FixedZone("", 3600))
	made, err := s.Sign(4711, LeafHash([]byte("x")), at)
	if err != nil {
		t.Fatal(err)
	}
	root := LeafHash([]byte("x"))
	want := s.Name() + "\n4711\n" + base64.StdEncoding.EncodeToString(root[:]) + "\ntime 2027-01-31T07:00:00.123456Z\n\n— " + s.Name() + " "
	if !strings.HasPrefix(made.Note, want) || len(made.Note) > 300 {
		t.Errorf("got %q, want it to begin with %q", made.Note, want)
	}
	read, err := key.Open(" " + made.Note + "\n") // as people paste it
	if err != nil || *read != *made {
		t.Errorf("got %+v and %v, want %+v", read, err, made)
	}
	for i := range made.Note {
		changed := []byte(made.Note)
		changed[i] ^= 1
		c, err := key.Open(string(changed)) // base64 has bits that say nothing, and so has white space
		if err == nil && (c.Origin != made.Origin || c.Size != made.Size || c.Root != made.Root || !c.Time.Equal(made.Time)) {
			t.Errorf("with byte %d changed it is opened: %+v", i, c)
		}
	}
	for _, text := range []string{"", "\n", "x", strings.Repeat("\n", 100), s.Name() + "\n1\n"} {
		if _, err := key.Open(text); !errors.Is(err, errNotCheckpoint) {
			t.Errorf("%q: got %v, want %v", text, err, errNotCheckpoint)
		}
	}
}

// FuzzVerifyExport: whatever is read, it does not panic, and nothing but the export itself holds.
func FuzzVerifyExport(f *testing.F) {
	f.Add([]byte("{\"v\":1,\"seq\":1}\n{\"leaves\":{\"first\":1,\"hashes\":\"AAAA\"}}\n{\"checkpoint\":\"x\"}\n"))
	f.Add([]byte("{\"v\":1,\"seq\":2}\n{\"v\":1,\"seq\":1}\n"))
	key, err := ParsePublicKey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, err := (&Verification{Key: key}).Export(t.Context(), bytes.NewReader(file)); err == nil {
			t.Errorf("%q was verified", file)
		}
	})
}

func TestTimeOfID(t *testing.T) {
	at := time.Date(2027, 1, 31, 8, 0, 0, 123456000, time.UTC)
	if got, err := TimeOfID(NewID(at, [8]byte{255, 1})); err != nil || !got.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("got %v and %v, want %v", got, err, at.Truncate(time.Millisecond))
	}
	for _, id := range []string{"", "17", "0192f0c1-7e70-4a3b-8a5e-0c5d7e1a2b3c", "0192f0c1-7e70-7a3b-8a5e-0c5d7e1a2b3x"} {
		if got, err := TimeOfID(id); err == nil {
			t.Errorf("%q: got %v, want an error", id, got)
		}
	}
}
