package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
)

// selects is the meaning of a query, written apart from the SQL.
func selects(q audit.Query, r *audit.Record) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	fold := func(got string) bool { return got != "" && strings.EqualFold(q.User, got) }
	return is(q.RequestID, r.RequestID) && is(q.Action, r.Action) && is(q.Kind, r.Kind) && is(q.Connection, r.Connection) && is(q.Credential, r.Credential) &&
		(q.Status == 0 || q.Status == r.Answer.Status) &&
		(q.Since.IsZero() || !r.Time.Before(q.Since)) && (q.Until.IsZero() || r.Time.Before(q.Until)) &&
		(q.User == "" || fold(r.Subject.ID) || fold(r.Subject.UserName) || fold(r.Subject.ExternalID)) &&
		(q.After == 0 || !q.Newest && r.Seq > q.After || q.Newest && r.Seq < q.After)
}

func answer(q audit.Query, all []*audit.Record) (seqs []int64) {
	for _, r := range all {
		if selects(q, r) {
			seqs = append(seqs, r.Seq)
		}
	}
	if q.Newest {
		slices.Reverse(seqs)
	}
	if q.Limit > 0 {
		seqs = seqs[:min(q.Limit, len(seqs))]
	}
	return seqs
}

func TestSearch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(words ...string) string { return words[rng.IntN(len(words))] }
	base := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	s := mustOpen(t, Config{})
	users := []string{"", "1", "2", "Alice", "ALICE", "bob", "ext-1", "élodie", "Élodie"}
	var batch []*item
	for i := range 700 {
		rec := &audit.Record{
			Kind: pick(audit.Outcome, audit.Event), Action: pick("", audit.Created, audit.Updated), RequestID: pick("", "r1", "r2"),
			Connection: pick("", "a", "b"), Credential: pick("", "k1", "k2"), Answer: audit.Answer{Status: []int{0, 200, 409}[rng.IntN(3)]},
			Subject: audit.Subject{ID: pick(users...), UserName: pick(users...), ExternalID: pick(users...)},
			Time:    base.Add(time.Duration(i+rng.IntN(100)-50) * time.Second), // not quite in order
		}
		w, err := s.newWork(rec, nil)
		if err != nil {
			t.Fatal(err)
		}
		it, err := s.submit(t.Context(), w, nil)
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, it)
	}
	for _, it := range batch {
		if err := s.wait(t.Context(), it, nil); err != nil {
			t.Fatal(err)
		}
	}
	all := trail(t, &s.Reader)
	var indexed int
	if err := s.scans.QueryRow(sqlIndexed).Scan(&indexed); err != nil || indexed == 0 || indexed == len(all) {
		t.Fatalf("got %d of %d records indexed, %v: want some and not all, so that both parts of a search are tried", indexed, len(all), err)
	}

	queries := []audit.Query{{}, {Newest: true}, {Limit: 1}, {Limit: pageSize}, {Limit: pageSize + 1}, {Newest: true, Limit: 300}, {After: 650}, {After: 1, Newest: true},
		{Since: base.Add(24 * time.Hour)}, {Until: base.Add(-time.Hour)}, {Since: base.Add(300 * time.Second), Newest: true}}
	for range 400 {
		var q audit.Query
		for range 1 + rng.IntN(3) {
			switch rng.IntN(10) {
			case 0:
				q.RequestID = pick("r1", "r2", "r3")
			case 1:
				q.User = pick("1", "2", "alice", "BOB", "EXT-1", "ÉLODIE", "nobody")
			case 2:
				q.Action = pick(audit.Created, audit.Deleted)
			case 3:
				q.Kind = pick(audit.Event, audit.Intent)
			case 4:
				q.Connection, q.Credential = pick("a", "b"), pick("", "k1")
			case 5:
				q.Status = 200
			case 6:
				q.Since = base.Add(time.Duration(rng.IntN(800)) * time.Second)
			case 7:
				q.Until = base.Add(time.Duration(rng.IntN(800)) * time.Second)
			case 8:
				q.After = rng.Int64N(720)
			case 9:
				q.Limit = 1 + rng.IntN(400)
			}
		}
		q.Newest = rng.IntN(2) == 0
		queries = append(queries, q)
	}
	for _, q := range queries {
		var got []int64
		for rec, err := range s.Search(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, rec.Seq)
		}
		if want := answer(q, all); !slices.Equal(got, want) {
			t.Errorf("%+v:\n got %v\nwant %v", q, got, want)
		}
	}
}

// What names few records must not read the whole trail.
func TestSearchUsesIndexes(t *testing.T) {
	s := mustOpen(t, Config{})
	for _, tt := range []struct {
		q    audit.Query
		want string
	}{
		{audit.Query{RequestID: "r"}, "SEARCH trail_requests USING PRIMARY KEY (request_id=?)"},
		{audit.Query{RequestID: "r", Newest: true, Since: time.Unix(1, 0), Status: 200}, "SEARCH trail_requests USING PRIMARY KEY (request_id=?)"},
		{audit.Query{User: "u"}, "SEARCH trail_users USING PRIMARY KEY (user_key=? AND seq>? AND seq<?)"},
		{audit.Query{User: "u", Kind: audit.Intent, After: 7}, "SEARCH trail_users USING PRIMARY KEY (user_key=? AND seq>? AND seq<?)"},
		{audit.Query{Since: time.Unix(1, 0)}, "USING INTEGER PRIMARY KEY"},
		{audit.Query{Newest: true, Status: 500}, "USING INTEGER PRIMARY KEY"},
	} {
		query, args := pageQuery(tt.q, span{1, 1 << 40}, pageSize)
		rows, err := s.scans.Query("EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		plan := ""
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan += detail + "; "
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(plan, tt.want) {
			t.Errorf("%+v: the plan is %q, want %q in it", tt.q, plan, tt.want)
		}
	}
}

func TestLast(t *testing.T) {
	s := mustOpen(t, Config{})
	for i := range 5 {
		mustAppend(t, s, &audit.Record{RequestID: fmt.Sprint(i)})
	}
	for _, tt := range []struct {
		n    int
		want []int64
	}{{0, nil}, {-1, nil}, {1, []int64{5}}, {3, []int64{3, 4, 5}}, {9, []int64{1, 2, 3, 4, 5}}} {
		last, err := s.Last(t.Context(), tt.n)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, rec := range last {
			got = append(got, rec.Seq)
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Last(%d): got %v, want %v", tt.n, got, tt.want)
		}
	}
}

func TestFollow(t *testing.T) {
	s := mustOpen(t, Config{})
	r, err := OpenReadOnly(t.Context(), s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 5 {
		mustAppend(t, s, &audit.Record{Connection: []string{"a", "b"}[i%2]})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []int64
	for rec, err := range r.Follow(ctx, audit.Query{Connection: "a", After: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rec.Seq)
		switch rec.Seq {
		case 5: // the last so far: the next are stored only now
			mustAppend(t, s, &audit.Record{Connection: "b"})
			mustAppend(t, s, &audit.Record{Connection: "a"})
		case 7:
			cancel()
		}
	}
	if want := []int64{3, 5, 7}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	n := 0
	for range s.Follow(t.Context(), audit.Query{Limit: 2}) {
		n++
	}
	if n != 2 {
		t.Errorf("got %d records, want the limit of 2", n)
	}
}

// A consumer that stops, or takes its time, holds nothing: the writer and other readers go on.
func TestSearchHoldsNothing(t *testing.T) {
	s := mustOpen(t, Config{})
	for range 2 * pageSize {
		if _, err := s.submit(t.Context(), must(s.newWork(&audit.Record{}, nil)), nil); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, s, &audit.Record{})
	depth := 0
	var nest func()
	nest = func() {
		for _, err := range s.Search(t.Context(), audit.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			if depth++; depth < 4*scanConns {
				nest()
			}
			mustAppend(t, s, &audit.Record{})
			return
		}
	}
	nest()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
