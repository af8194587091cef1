package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
)

// testSigner makes the key of a trail and returns both halves.
func testSigner(t testing.TB, s *Store) (*audit.Signer, *audit.PublicKey) {
	t.Helper()
	signer, err := audit.SignerFor(t.Context(), s, s.path+".signing-key")
	if err != nil {
		t.Fatal(err)
	}
	key, err := audit.ParsePublicKey(signer.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return signer, key
}

// sign brings the tree up to the end of the trail.
func sign(t testing.TB, s *Store) *audit.PublicKey {
	t.Helper()
	signer, key := testSigner(t, s)
	c, err := audit.NewCheckpointer(audit.CheckpointerConfig{Store: s, Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	c.Run(ended) // signs what is there, and ends
	if err := c.Healthy(); err != nil {
		t.Fatal(err)
	}
	return key
}

// signed makes a closed database with checkpoints over the first 40 % and all of its records.
func signed(t *testing.T, records int) (path string, key *audit.PublicKey) {
	t.Helper()
	s := mustOpen(t, Config{Path: filepath.Join(t.TempDir(), "gate.db")})
	for i := range records {
		mustAppend(t, s, benchRecord(int64(i)))
		if i == records*2/5 {
			sign(t, s)
		}
	}
	key = sign(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.path, key
}

func verify(t testing.TB, path string, key *audit.PublicKey, kept ...string) (*audit.Summary, error) {
	t.Helper()
	r, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return (&audit.Verification{Key: key, Kept: kept}).Trail(t.Context(), r)
}

// What somebody does to the database with SQL is found, and the first wrong record is named: 200 random places each.
func TestVerifyFindsRandomEdits(t *testing.T) {
	const records = 600
	path, key := signed(t, records)
	if got, err := verify(t, path, key); err != nil || got.Records != records || got.Signed != records || got.Checkpoints != 2 {
		t.Fatalf("got %+v and %v, want all of %d verified", got, err, records)
	}
	c, err := dial(dsn(path, modeReadWrite))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := c.exec(`CREATE TEMP TABLE kept AS SELECT seq, record FROM trail; CREATE TEMP TABLE held AS SELECT * FROM trail`); err != nil {
		t.Fatal(err)
	}
	// try edits, verifies and puts everything back.
	try := func(what string, place int64, query string) {
		t.Helper()
		if err := c.exec(query); err != nil {
			t.Fatal(what, err)
		}
		_, err := (&audit.Verification{Key: key}).Trail(t.Context(), r)
		if found, ok := errors.AsType[*audit.Tampered](err); !ok || found.Record != place {
			t.Errorf("%s: got %v, want record %d named", what, err, place)
		}
		if err := c.exec(`DELETE FROM trail; INSERT INTO trail SELECT * FROM held`); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		i, j := 1+rand.Int64N(records), 1+rand.Int64N(records)
		for i == j {
			j = 1 + rand.Int64N(records)
		}
		record, err := c.get(sqlGetRecord, i)
		if err != nil {
			t.Fatal(err)
		}
		changed := bytes.Clone(record.([]byte))
		at := rand.IntN(len(changed))
		changed[at] ^= byte(1 + rand.IntN(255))
		try(fmt.Sprintf("byte %d of record %d", at, i), i, fmt.Sprintf(`UPDATE trail SET record = X'%x' WHERE seq = %d`, changed, i))
		try(fmt.Sprintf("record %d deleted", i), i, fmt.Sprintf(`DELETE FROM trail WHERE seq = %d`, i))
		try(fmt.Sprintf("records %d and %d swapped", i, j), min(i, j), fmt.Sprintf(`UPDATE trail SET seq = -1 WHERE seq = %[1]d;
			UPDATE trail SET seq = %[1]d WHERE seq = %[2]d; UPDATE trail SET seq = %[2]d WHERE seq = -1`, i, j))
		try(fmt.Sprintf("cut before record %d", i), i, fmt.Sprintf(`DELETE FROM trail WHERE seq >= %d`, i))
	}
	if _, err := verify(t, path, key); err != nil {
		t.Errorf("after all was put back: %v", err)
	}
}

// Truncation that takes its checkpoints and tiles along leaves a trail that holds, but for a checkpoint kept elsewhere.
func TestVerifyAgainstAKeptCheckpoint(t *testing.T) {
	path, key := signed(t, 600)
	r, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := r.NewestCheckpoint(t.Context())
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	edit(t, path, `DELETE FROM trail WHERE seq > 300; DELETE FROM checkpoints WHERE size > 300`)
	if got, err := verify(t, path, key); err != nil || got.Signed != 241 {
		t.Errorf("without the kept checkpoint: got %+v and %v, want 241 signed", got, err)
	}
	if _, err := verify(t, path, key, kept); err == nil || !strings.Contains(err.Error(), "the trail ends at record 300, but the checkpoint of ") {
		t.Errorf("got %v, want that the end was cut off", err)
	}
}

// A database of an older version has no checkpoints: the first start signs all of it, in portions.
func TestSignAnOlderDatabase(t *testing.T) {
	path := seeded(t, 700)
	edit(t, path, `DROP TABLE trail_tiles; DROP TABLE checkpoints; DROP TABLE sink_cursors; DROP TABLE trail_words;
		DROP TABLE person_keys; DROP TABLE person_key_owners; UPDATE meta SET value = '2' WHERE name = 'schema'`)
	if _, err := OpenReadOnly(t.Context(), path); err == nil || !strings.Contains(err.Error(), "start `scimgate serve` once to migrate it") {
		t.Errorf("got %v, want that it must be migrated", err)
	}
	s := mustOpen(t, Config{Path: path})
	key := sign(t, s)
	if got, err := verify(t, path, key); err != nil || got.Signed != 700 {
		t.Errorf("got %+v and %v, want 700 signed", got, err)
	}
}

// One checkpoint a minute over three days, and one a second in the last hour: old ones are thinned out, and what is left
// verifies.
func TestCheckpointsAreThinnedOut(t *testing.T) {
	s := mustOpen(t, Config{})
	mustAppend(t, s, benchRecord(1))
	signer, _ := testSigner(t, s)
	now := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	clock := now.Add(-72 * time.Hour)
	s.clock = func() time.Time { return clock }
	size := int64(0)
	put := func(step time.Duration, until time.Time) {
		for ; clock.Before(until); clock = clock.Add(step) {
			size++
			c, err := signer.Sign(size, audit.Hash{}, clock)
			if err == nil {
				err = s.PutCheckpoint(t.Context(), c, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	put(20*time.Minute, now.Add(-26*time.Hour))
	put(20*time.Second, now.Add(-24*time.Hour+5*time.Minute))
	put(2*time.Minute, now.Add(-time.Hour))
	put(10*time.Second, now.Add(time.Second))
	notes, err := s.Checkpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// 48 hours with one each; a day by minutes, of which every second has one, and 5 more; the last hour. The thinning
	// was at most an hour ago, and for that long all are kept.
	if got, most := len(notes), 48+23*30+15+2*361; got > most || got < most/2 {
		t.Errorf("got %d checkpoints of %d, want at most %d and not much less", got, size, most)
	}
	newest, err := s.NewestCheckpoint(t.Context())
	if last, err2 := audit.ParseCheckpoint(newest); err != nil || err2 != nil || last.Size != size {
		t.Errorf("the newest is %q and %v, want one over %d records", newest, err, size)
	}
}

// BenchmarkVerify is the price of reading, hashing and comparing a record, from a fresh open.
func BenchmarkVerify(b *testing.B) {
	const records = 100_000
	s := mustOpen(b, Config{Path: filepath.Join(b.TempDir(), "gate.db")})
	spread(b, 64, records, func(i int64) error {
		_, err := s.Append(b.Context(), benchRecord(i))
		return err
	})
	key := sign(b, s)
	for b.Loop() {
		if got, err := verify(b, s.path, key); err != nil || got.Signed != records {
			b.Fatal(got, err)
		}
	}
	b.ReportMetric(records/(b.Elapsed().Seconds()/float64(b.N)), "records/s")
}

// A page that cannot be read is named by the record before it, and nothing is said about the rest.
func TestVerifyADamagedFile(t *testing.T) {
	path, key := signed(t, 2000)
	c, err := dial(dsn(path, modeReadOnly))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := c.get(`PRAGMA page_count`)
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, pages.(int64)/2*4096, bytes.Repeat([]byte("garbage!"), 10*512))
	if _, err := verify(t, path, key); err == nil || !strings.Contains(err.Error(), "the trail cannot be read behind record ") || !strings.Contains(err.Error(), "the file is damaged") {
		t.Errorf("got %v, want the place and that the file is damaged", err)
	}
}

func TestFind(t *testing.T) {
	s := mustOpen(t, Config{})
	ids := map[int64]string{}
	for i := range 400 {
		rec := benchRecord(int64(i))
		ids[mustAppend(t, s, rec)] = rec.ID
	}
	for _, seq := range []int64{1, 200, 400} {
		if got, err := s.Find(t.Context(), strings.ToUpper(ids[seq])); err != nil || got != seq {
			t.Errorf("got %d and %v, want %d", got, err, seq)
		}
	}
	if _, err := s.Find(t.Context(), audit.NewID(time.Now(), [8]byte{1})); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want %v", err, ErrNotFound)
	}
}
