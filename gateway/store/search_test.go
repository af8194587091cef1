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
		is(q.Outcome, outcome(r)) && (q.ID == "" || strings.EqualFold(q.ID, r.ID)) &&
		(q.Rule == "" || slices.ContainsFunc(r.Findings, func(f audit.Finding) bool { return f.Rule == q.Rule })) &&
		(q.User == "" || fold(r.Subject.ID) || fold(r.Subject.UserName) || fold(r.Subject.ExternalID)) &&
		(q.After == 0 || !q.Newest && r.Seq > q.After || q.Newest && r.Seq < q.After)
}

func outcome(r *audit.Record) string {
	switch {
	case r.Kind == audit.Unknown:
		return "unknown"
	case r.Answer.Status == 0:
		return ""
	}
	return map[int]string{1: "succeeded", 2: "succeeded", 3: "succeeded", 4: "refused", 5: "failed"}[r.Answer.Status/100]
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
	const size = 2*blockSize + 700
	appendAll(t, s, size, func(i int) *audit.Record {
		rec := &audit.Record{
			Kind: pick(audit.Outcome, audit.Event), Action: pick("", audit.Created, audit.Updated), RequestID: pick("", "r1", "r2"),
			Connection: pick("", "a", "b"), Credential: pick("", "k1", "k2"), Answer: audit.Answer{Status: []int{0, 200, 409, 502}[rng.IntN(4)]},
			Subject: audit.Subject{ID: pick(users...), UserName: pick(users...), ExternalID: pick(users...)},
			Time:    base.Add(time.Duration(i+rng.IntN(100)-50) * time.Second), // not quite in order
		}
		for range rng.IntN(3) {
			rec.Findings = append(rec.Findings, audit.Finding{Rule: pick("", "long-name", "Über \"<rule>\"", "rare"), Verdict: audit.Remark, Reason: "rare"})
		}
		if i%1500 == 7 {
			rec.Findings = append(rec.Findings, audit.Finding{Rule: "seldom"})
		}
		return rec
	})
	all := trail(t, &s.Reader)
	var indexed int
	if err := s.scans.QueryRow(sqlIndexed).Scan(&indexed); err != nil || indexed == 0 || indexed == len(all) {
		t.Fatalf("got %d of %d records indexed, %v: want some and not all, so that both parts of a search are tried", indexed, len(all), err)
	}

	queries := []audit.Query{{Rule: "seldom"}, {Rule: "seldom", Newest: true, Limit: 3}, {Rule: "seldom", User: "bob"}, {Outcome: "elsewhere"}, {Outcome: "unknown"},
		{Rule: "Über \"<rule>\"", Newest: true, After: blockSize + 1, Limit: 200}, {Action: audit.Created, After: blockSize, Limit: 1}, {Action: audit.Created, After: blockSize + 1, Limit: 1, Newest: true},
		{ID: all[5000].ID}, {ID: strings.ToUpper(all[size-1].ID)}, {ID: all[5000].ID, Action: "none"}, {ID: all[5000].ID, Until: all[5000].Time}, {ID: "5000"},
		{}, {Newest: true}, {Limit: 1}, {Limit: pageSize}, {Limit: pageSize + 1}, {Newest: true, Limit: 300}, {After: 650}, {After: 1, Newest: true},
		{Since: base.Add(24 * time.Hour)}, {Until: base.Add(-time.Hour)}, {Since: base.Add(300 * time.Second), Newest: true}}
	for range 150 {
		var q audit.Query
		for range 1 + rng.IntN(3) {
			switch rng.IntN(12) {
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
				q.Since = base.Add(time.Duration(rng.IntN(size+100)) * time.Second)
			case 7:
				q.Until = base.Add(time.Duration(rng.IntN(size+100)) * time.Second)
			case 8:
				q.After = rng.Int64N(size + 20)
			case 9:
				q.Limit = 1 + rng.IntN(400)
			case 10:
				q.Rule = pick("long-name", "seldom", "Über \"<rule>\"", "rare", "none")
			case 11:
				q.Outcome = pick(audit.Outcomes...)
			}
		}
		if q.Newest = rng.IntN(2) == 0; rng.IntN(5) > 0 {
			q.Limit = 1 + rng.IntN(150)
		}
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

// One record of another time, as a clock that is set back leaves it, does not make a search read all that lies between.
func TestSearchSpans(t *testing.T) {
	s := mustOpen(t, Config{})
	appendAll(t, s, 2000, func(i int) *audit.Record {
		if i == 1900 {
			i = 10
		}
		return &audit.Record{Time: minute(i)}
	})
	for _, newest := range []bool{false, true} {
		q := audit.Query{Since: minute(10), Until: minute(12), Newest: newest}
		spans, err := s.spans(t.Context(), q, 0)
		if err != nil || len(spans) < 2 {
			t.Errorf("got %v, %v, want two stretches and what is not indexed", spans, err)
		}
		for _, one := range spans {
			if one.first <= 1000 && one.last >= 1000 {
				t.Errorf("%v: record 1000 would be read", spans)
			}
		}
		want := []int64{11, 12, 1901}
		if newest {
			slices.Reverse(want)
		}
		if got := search(t, &s.Reader, q); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if spans, err := s.spans(t.Context(), audit.Query{After: 1, Newest: true}, 0); err != nil || len(spans) != 0 {
		t.Errorf("before the first record: got %v, %v", spans, err)
	}
}

// Large records are read a few at a time, and all of them are found.
func TestSearchOfLargeRecords(t *testing.T) {
	s := mustOpen(t, Config{})
	large := strings.Repeat("x", 900_000)
	appendAll(t, s, 30, func(int) *audit.Record { return &audit.Record{RequestID: "r", Error: large} })
	appendAll(t, s, 600, func(int) *audit.Record { return &audit.Record{} }) // so that they are indexed
	for _, q := range []audit.Query{{Kind: audit.Outcome, Limit: 30}, {RequestID: "r"}, {RequestID: "r", Newest: true}} {
		page, _, err := s.step(t.Context(), q, span{1, 30}, pageSize)
		if err != nil || len(page) != 5 {
			t.Errorf("%+v: got %d records at once and %v, want 5, which are more than %d bytes", q, len(page), err, pageBytes)
		}
		if got := search(t, &s.Reader, q); len(got) != 30 {
			t.Errorf("%+v: got %v, want all 30", q, got)
		}
	}
}

// What names few records must not read the whole trail.
func TestSearchUsesIndexes(t *testing.T) {
	s := mustOpen(t, Config{})
	in, key := span{1, 1 << 40}, "k"
	for _, newest := range []bool{false, true} {
		q := audit.Query{Newest: newest, Status: 200}
		rowQuery, rowArgs := pageQuery(q, in, pageSize)
		for _, tt := range []struct {
			query string
			args  []any
			want  string
		}{
			{ordered(sqlRequestPlaces, q), []any{key, in.first, in.last, 9}, "SEARCH trail_requests USING PRIMARY KEY (request_id=? AND seq>? AND seq<?); "},
			{ordered(sqlUserPlaces, q), []any{key, in.first, in.last, 9}, "SEARCH trail_users USING PRIMARY KEY (user_key=? AND seq>? AND seq<?); "},
			{sqlUserKeys, []any{key}, "SEARCH trail_names USING COVERING INDEX sqlite_autoindex_trail_names_1 (name=?); "},
			{rowQuery, rowArgs, "SEARCH trail USING INTEGER PRIMARY KEY (rowid>? AND rowid<?); "},
		} {
			if plan := queryPlan(t, s, tt.query, tt.args); plan != tt.want {
				t.Errorf("%s: the plan is %q, want %q", tt.query, plan, tt.want)
			}
		}
	}
}

// queryPlan is what SQLite says it does for a statement.
func queryPlan(t *testing.T, s *Store, query string, args []any) (plan string) {
	t.Helper()
	rows, err := s.scans.Query("EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan += detail + "; "
	}
	return plan
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

// appendAll stores n records.
func appendAll(t testing.TB, s *Store, n int, record func(i int) *audit.Record) {
	t.Helper()
	err := s.AppendAll(t.Context(), func(yield func(*audit.Record) bool) {
		for i := range n {
			if !yield(record(i)) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
