package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

var pruneStart = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// signedUpTo lets the newest checkpoint be one over so many records.
func signedUpTo(t *testing.T, s *Store, size int64) {
	t.Helper()
	c, err := dial(dsn(s.path, modeReadWrite))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.exec(`CREATE TABLE IF NOT EXISTS checkpoints (size INTEGER PRIMARY KEY, time BIGINT NOT NULL, note TEXT NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	if err := c.exec(`INSERT INTO checkpoints (size, time, note) VALUES ($1, 0, '')`, size); err != nil {
		t.Fatal(err)
	}
}

// oldTrail has n records, one each minute, of ten users whose names change half way.
func oldTrail(t *testing.T, s *Store, n int) {
	t.Helper()
	appendAll(t, s, n, func(i int) *audit.Record {
		rec := wordRecord(i)
		rec.Time, rec.RequestID = pruneStart.Add(time.Duration(i)*time.Minute), fmt.Sprintf("request-%05d", i)
		rec.Subject = audit.Subject{ID: fmt.Sprintf("id-%d", i%10), UserName: fmt.Sprintf("%s-name-%d", map[bool]string{true: "early", false: "late"}[i < n/2], i%10)}
		return rec
	})
}

func minute(n int) time.Time { return pruneStart.Add(time.Duration(n) * time.Minute) }

func search(t *testing.T, r *Reader, q audit.Query) (seqs []int64) {
	t.Helper()
	for rec, err := range r.Search(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, rec.Seq)
	}
	return seqs
}

func TestPrune(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: path})
	const n = 2*blockSize + 1000
	oldTrail(t, s, n)
	entry := identity.Entry{Upstream: "u", ResourceType: "User", ID: "id-1", UserName: "early-name-1"}
	mustAppend(t, s, &audit.Record{Kind: audit.Event, Time: minute(n)}, identity.Change{Put: &entry})
	signedUpTo(t, s, n+1)
	const end = n / tileWidth * tileWidth
	all := trail(t, &s.Reader)

	const cut = blockSize + 768 // whole tiles
	p, err := s.Prunable(t.Context(), minute(cut+255), false)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, rec := range all[:cut] {
		size += int64(len(audit.Append(nil, rec)))
	}
	if want := (Prunable{First: 1, Last: cut, Oldest: minute(0), Newest: minute(cut - 1), Bytes: size, Before: minute(cut + 255)}); p != want {
		t.Fatalf("got %+v, want %+v", p, want)
	}
	steps := int64(0)
	signer, key := testSigner(t, s)
	what := Pruning{Before: minute(cut + 255), By: "somebody", Signer: signer}
	if err := s.Prune(t.Context(), what, func(last int64) { steps = last }); err != nil || steps != cut {
		t.Fatalf("got %v at record %d, want all of %d removed", err, steps, cut)
	}
	event, err := s.Get(t.Context(), n+2)
	if err != nil || event.Action != audit.Removed || event.Pruned.First != 1 || event.Pruned.Last != cut || !event.Pruned.Before.Equal(minute(cut+255)) || !key.OpenPruned(event.Pruned) {
		t.Errorf("got the event %+v, %v, want one that names the records", event, err)
	}
	left := append(all[cut:], event)
	for _, q := range []audit.Query{{}, {Newest: true, Limit: 300}, {User: "ID-3"}, {User: "early-name-3"}, {User: "late-name-3"}, {Action: audit.Created},
		{Rule: "rule 1", Newest: true}, {RequestID: "request-00005"}, {RequestID: fmt.Sprintf("request-%05d", cut+5)}, {Since: minute(5), Until: minute(cut + 100)},
		{Until: minute(cut)}, {Outcome: audit.OutcomeFailed, Until: minute(cut + 700)}} {
		if got, want := search(t, &s.Reader, q), answer(q, left); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v:\n got %v\nwant %v", q, got, want)
		}
	}
	if _, ok, err := s.ByID(t.Context(), entry.Key()); !ok || err != nil {
		t.Errorf("got %v, %v, want the identity map untouched", ok, err)
	}
	// A second time goes on behind the first.
	if p, err = s.Prunable(t.Context(), minute(n), false); err != nil || p.First != cut+1 || p.Last != end {
		t.Fatalf("got %+v, %v", p, err)
	}
	what.Before = minute(n)
	if err := s.Prune(t.Context(), what, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if st, err := s.Stats(t.Context()); err != nil || st.Newest != n+3 || st.Records != n+3-end {
		t.Errorf("got %+v, %v, want %d records up to %d", st, err, n+3-end, n+3)
	}
	for seq, want := range map[int64]string{5: fmt.Sprintf("record 5 was pruned, the first that is left is %d: no such record", end+1), n + 4: fmt.Sprintf("record %d: no such record", n+4), 0: "record 0: no such record"} {
		if _, err := s.Get(t.Context(), seq); !errors.Is(err, ErrNotFound) || err.Error() != want {
			t.Errorf("record %d: got %v, want %s", seq, err, want)
		}
	}
	if got := search(t, &s.Reader, audit.Query{Limit: 1}); !reflect.DeepEqual(got, []int64{end + 1}) {
		t.Errorf("got %v, want the record behind all that was removed", got)
	}
	for _, name := range []string{path, path + "-wal"} { // what was removed stands nowhere
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"request-00005", "request-05000", "early-name-3"} {
			if bytes.Contains(content, []byte(word)) {
				t.Errorf("%s still holds %s", name, word)
			}
		}
	}
	appendAll(t, s, blockSize, wordRecord)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Config{Path: path})
	if got := len(search(t, &s.Reader, audit.Query{Connection: "entra"})); got != blockSize+n-end {
		t.Errorf("after a restart: got %d records, want %d", got, blockSize+n-end)
	}
}

// What must not be removed holds the records behind it.
func TestPrunable(t *testing.T) {
	s := mustOpen(t, Config{})
	oldTrail(t, s, 1000)
	if p, err := s.Prunable(t.Context(), minute(600), false); err != nil || !p.Empty() || p.Held != "record 1 is not signed yet" {
		t.Errorf("got %+v, %v, want nothing of a trail that is not signed", p, err)
	}
	signedUpTo(t, s, 900)
	for _, tt := range []struct {
		name   string
		before time.Time
		ignore bool
		last   int64
		held   string
	}{
		{"nothing is so old", minute(0), false, 0, ""},
		{"less than a tile", minute(255), false, 0, ""},
		{"a tile", minute(256), false, 256, ""},
		{"between two", minute(512).Add(-time.Second), false, 512, ""},
		{"the last that are signed", minute(2000), false, 768, "record 769 is among the last that are signed"},
	} {
		p, err := s.Prunable(t.Context(), tt.before, tt.ignore)
		if err != nil || p.First != 1 || p.Last != tt.last || !strings.HasPrefix(p.Held, tt.held) || (tt.held == "") != (p.Held == "") {
			t.Errorf("%s: got %+v, %v, want records up to %d, and %q", tt.name, p, err, tt.last, tt.held)
		}
	}
	if err := s.PutCursor(t.Context(), "siem", audit.Cursor{Seq: 400}); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Prunable(t.Context(), minute(600), false); err != nil || p.Last != 256 || p.Held != `record 401 has not reached the sink "siem" yet: wait until it has, or remove the sink` {
		t.Errorf("got %+v, %v, want it to wait for the sink", p, err)
	}
	if p, err := s.Prunable(t.Context(), minute(600), true); err != nil || p.Last != 512 || p.Held != "" {
		t.Errorf("got %+v, %v, want the sink ignored", p, err)
	}
	intent := mustIntend(t, s, OpenIntent{})
	signedUpTo(t, s, intent+300)
	mustAppend(t, s, &audit.Record{Time: minute(1)}) // not in order: it is behind younger ones
	if p, err := s.Prunable(t.Context(), minute(600), true); err != nil || p.Last != 512 {
		t.Errorf("got %+v, %v, want records up to 512", p, err)
	}
	if p, err := s.Prunable(t.Context(), time.Now().Add(time.Hour), true); err != nil || p.Last != 768 || p.Held != fmt.Sprintf("record %d is an intent whose end is not known yet", intent) {
		t.Errorf("got %+v, %v, want the open intent to stay", p, err)
	}
	for before, last := range map[time.Time]int64{minute(200): 0, minute(600): 255} { // nothing is so old; less than a tile is wanted
		if err := s.Prune(t.Context(), Pruning{Before: before, Last: last, IgnoreSinks: true}, nil); err != nil {
			t.Errorf("nothing to prune: got %v", err)
		}
	}
}
