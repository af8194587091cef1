package store

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"scimgate/gateway/audit"
)

// wordRecord is a record with words of all fields, i of many.
func wordRecord(i int) *audit.Record {
	rec := &audit.Record{Action: []string{audit.Created, audit.Updated, ""}[i%3], Connection: "entra", Answer: audit.Answer{Status: []int{200, 404, 503, 0}[i%4]}}
	if i%5 == 0 {
		rec.Kind, rec.Credential = audit.Event, "c"
	}
	for r := range i % 3 {
		rec.Findings = append(rec.Findings, audit.Finding{Rule: fmt.Sprint("rule ", (i+r)%4)})
	}
	return rec
}

// checkWords compares the complete blocks with the records.
func checkWords(t *testing.T, s *Store) {
	t.Helper()
	type place struct {
		word  string
		block int64
	}
	all := trail(t, &s.Reader)
	want, got := map[place]bitmap{}, map[place]bitmap{}
	for _, rec := range all[:len(all)/blockSize*blockSize] {
		n, at := (rec.Seq-1)/blockSize, (rec.Seq-1)%blockSize
		keys := []string{"k:" + rec.Kind, "a:" + rec.Action, "n:" + rec.Connection, "c:" + rec.Credential, "o:" + outcome(rec)}
		if rec.Answer.Status != 0 {
			keys = append(keys, fmt.Sprint("s:", rec.Answer.Status))
		}
		for _, f := range rec.Findings {
			keys = append(keys, "r:"+f.Rule)
		}
		for _, key := range keys {
			if !strings.HasSuffix(key, ":") {
				bits := want[place{key, n}]
				bits[at/8] |= 1 << (at % 8)
				want[place{key, n}] = bits
			}
		}
		want[place{"", n}] = bitmap{}
	}
	rows, err := s.scans.Query("SELECT word, block, bits FROM trail_words")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var p place
		var bits []byte
		if err := rows.Scan(&p.word, &p.block, &bits); err != nil {
			t.Fatal(err)
		}
		var m bitmap
		copy(m[:], bits)
		got[p] = m
	}
	if len(want) == 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("got %d words in blocks, want %d, each with the bits of its records", len(got), len(want))
	}
}

// The blocks are right across restarts, and are made for a database that has none.
func TestWords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	n := 0
	more := func(count int) {
		t.Helper()
		s, err := Open(t.Context(), Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		appendAll(t, s, count, func(i int) *audit.Record { return wordRecord(n + i) })
		n += count
		if n >= blockSize {
			checkWords(t, s)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, count := range []int{100, blockSize - 101, 1, 1, 0, blockSize + 1} {
		more(count)
	}
	for _, left := range []int{0, 1} { // as an earlier version left it, and one that was interrupted between two blocks
		c, err := dial(dsn(path, modeReadWrite))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.exec("DELETE FROM trail_words WHERE block >= $1", driver.Value(int64(left))), c.Close()); err != nil {
			t.Fatal(err)
		}
		more(0)
	}
	more(blockSize)
}

// What a transaction that failed had noted is forgotten.
func TestWordsAfterRollback(t *testing.T) {
	s := mustOpen(t, Config{})
	appendAll(t, s, blockSize-300, wordRecord)
	pages := must(s.writer.conn.get("PRAGMA page_count")).(int64)
	pragma(t, s, fmt.Sprintf("max_page_count = %d", pages+10))
	stored := 0
	for ; stored < 400; stored++ {
		if _, err := s.Append(t.Context(), wordRecord(stored)); err != nil {
			if !errors.Is(err, ErrNotDurable) {
				t.Fatal(err)
			}
			break
		}
	}
	if stored == 400 {
		t.Fatal("no transaction failed")
	}
	pragma(t, s, "max_page_count = 1000000")
	appendAll(t, s, blockSize, func(i int) *audit.Record { return wordRecord(i + 1) })
	checkWords(t, s)
}

// The pages of a search by words come out of the index, whatever the order of its words.
func TestWordSearchUsesIndex(t *testing.T) {
	s := mustOpen(t, Config{})
	for _, newest := range []bool{false, true} {
		query, args := blockQuery(audit.Query{Newest: newest}, wordsIn(audit.Query{Rule: "r", Kind: audit.Outcome, Status: 200}), span{5000, 90000})
		want := "SEARCH w0 USING PRIMARY KEY (word=? AND block>? AND block<?); SEARCH w1 USING PRIMARY KEY (word=? AND block=?); SEARCH w2 USING PRIMARY KEY (word=? AND block=?); "
		if plan := queryPlan(t, s, query, args); plan != want {
			t.Errorf("got the plan %q, want %q", plan, want)
		}
	}
}
