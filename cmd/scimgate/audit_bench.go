package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// Bounds of the slowest hundredth of searches.
const (
	historyBound = 50 * time.Millisecond
	dayBound     = 200 * time.Millisecond
)

const (
	benchPage      = 100 // records on a page
	benchDays      = 30
	recordsPerUser = 100
	smallestTrail  = 10_000
	benchKnown     = 97                   // one record in so many is asked for
	benchNoise     = 2 * time.Millisecond // searches that are faster may take several times as long by chance
)

func newAuditBench(env func(string) string) *cobra.Command {
	b := &auditBench{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure searches in a made-up trail",
		Long: "Make two trails, one of a tenth of --records and one of all, and measure searches in each after a fresh open: a\n" +
			"page of one user's history, by userName, id or externalId; a page of one day's records by up to three of user, record\n" +
			"id, request id, kind, action, outcome, status, rule, credential and connection, of values that many, few or no records\n" +
			"have; and the same of any time. A page has " + strconv.Itoa(benchPage) + " records and is the newest, the oldest, or one that a cursor leads to.\n" +
			"The records are such as an ordinary cycle leaves, spread over " + strconv.Itoa(benchDays) + " days, " + strconv.Itoa(recordsPerUser) + " for each user.\n\n" +
			"It exits with 1 when the slowest hundredth of the searches in the larger trail takes longer than 50 ms for a history\n" +
			"or 200 ms for a day, or grows as the trail does. Two million records need 3 GB in the folder for temporary files, or in\n" +
			"--dir, and some minutes.",
		Example: "  scimgate audit bench\n  scimgate audit bench --records 200000 --dir /var/tmp --keep",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case b.records < smallestTrail:
				return usage(cmd, "--records %d: want %d or more", b.records, smallestTrail)
			case b.searches < 1:
				return usage(cmd, "--searches %d: want 1 or more", b.searches)
			}
			b.out, b.messages = newScreen(cmd.OutOrStdout(), env), newScreen(cmd.ErrOrStderr(), env)
			return b.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&b.records, "records", 2_000_000, "records in the larger trail")
	flags.IntVar(&b.searches, "searches", 1000, "searches of each sort")
	flags.Uint64Var(&b.seed, "seed", 1, "seed of the records and searches")
	flags.StringVar(&b.dir, "dir", "", "folder to make the trails in (default: the system's for temporary files)")
	flags.BoolVar(&b.keep, "keep", false, "keep the trails")
	return cmd
}

// auditBench measures searches.
type auditBench struct {
	records, searches int
	seed              uint64
	dir               string
	keep              bool

	out, messages *screen
	known         []*audit.Record // of the trail that is measured: some of its records
}

// benchResult is what was measured on one trail.
type benchResult struct {
	records      int
	made         time.Duration
	size         int64
	history, day timings
	any          timings // without a range of times
}

// timings are how long searches took, sorted.
type timings []time.Duration

func (t timings) percentile(p int) time.Duration { return t[(len(t)-1)*p/100] }

func (b *auditBench) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(b.dir, "scimgate-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the trails: %w", err)
	}
	if b.keep {
		b.out.printf("The trails stay in %s\n", shown(dir))
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	var results [2]benchResult
	for i, n := range [...]int{b.records / 10, b.records} {
		if results[i], err = b.measure(ctx, filepath.Join(dir, fmt.Sprintf("%d.db", n)), n); err != nil {
			return err
		}
	}
	return b.report(results[0], results[1])
}

// measure makes a trail and searches in it.
func (b *auditBench) measure(ctx context.Context, path string, n int) (res benchResult, err error) {
	began := time.Now()
	if err := b.make(ctx, path, n); err != nil {
		return res, err
	}
	res = benchResult{records: n, made: time.Since(began)}
	info, err := os.Stat(path)
	if err != nil {
		return res, err
	}
	res.size = info.Size()
	r, err := store.OpenReadOnly(ctx, path)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	rng := rand.New(rand.NewPCG(b.seed, 2))
	if res.history, err = b.time(ctx, r, func() audit.Query { return historyQuery(rng, b.one(rng)) }); err != nil {
		return res, err
	}
	if res.day, err = b.time(ctx, r, func() audit.Query { return b.dayQuery(rng) }); err != nil {
		return res, err
	}
	res.any, err = b.time(ctx, r, func() audit.Query {
		q := b.dayQuery(rng)
		q.Since, q.Until = time.Time{}, time.Time{}
		return q
	})
	return res, err
}

// make fills a new trail.
func (b *auditBench) make(ctx context.Context, path string, n int) (err error) {
	s, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	progress := progress{screen: b.messages, total: int64(n)}
	defer progress.end()
	rng := rand.New(rand.NewPCG(b.seed, 1))
	b.known = b.known[:0]
	return s.AppendAll(ctx, func(yield func(*audit.Record) bool) {
		for i := range n {
			progress.at(int64(i))
			rec := benchRecord(rng, i, n)
			if i%benchKnown == 0 {
				known := *rec
				known.Seq = int64(i + 1)
				b.known = append(b.known, &known)
			}
			if !yield(rec) {
				return
			}
		}
	})
}

// time measures searches, from the call to the last record of the page.
func (b *auditBench) time(ctx context.Context, r *store.Reader, query func() audit.Query) (timings, error) {
	took := make(timings, b.searches)
	for i := range took {
		q := query()
		began := time.Now()
		for _, err := range r.Search(ctx, q) {
			if err != nil {
				return nil, err
			}
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took, nil
}

func (b *auditBench) report(small, large benchResult) error {
	heads := []string{"records", "made/s", "MB"}
	for _, what := range []string{"history", "day", "any time"} {
		heads = append(heads, what+" p50", "p99", "max ms")
	}
	lines := [][]cell{nil}
	for _, head := range heads {
		lines[0] = append(lines[0], cell{text: head, style: dim, right: true})
	}
	for _, res := range []benchResult{small, large} {
		line := []cell{{text: strconv.Itoa(res.records), right: true}, {text: strconv.Itoa(int(float64(res.records) / res.made.Seconds())), right: true},
			{text: strconv.FormatInt(res.size/1_000_000, 10), right: true}}
		for _, t := range []timings{res.history, res.day, res.any} {
			for _, p := range []int{50, 99, 100} {
				line = append(line, cell{text: milliseconds(t.percentile(p)), right: true})
			}
		}
		lines = append(lines, line)
	}
	var t table
	t.printAll(b.out, lines)
	var failed error
	for _, one := range [...]struct {
		name         string
		small, large timings
		bound        time.Duration
	}{{"one user's history", small.history, large.history, historyBound}, {"a day's page", small.day, large.day, dayBound}} {
		p99, before := one.large.percentile(99), one.small.percentile(99)
		b.out.printf("%s: p99 %s ms of at most %s ms over %d searches; %.1f times as long for %.1f times the records\n", one.name, milliseconds(p99),
			milliseconds(one.bound), len(one.large), float64(p99)/float64(max(before, 1)), float64(large.records)/float64(small.records))
		switch {
		case p99 > one.bound:
			failed = errors.Join(failed, fmt.Errorf("%s takes longer than its bound", one.name))
		case p99*time.Duration(small.records) >= max(before, benchNoise)*time.Duration(large.records):
			failed = errors.Join(failed, fmt.Errorf("%s takes longer as the trail grows", one.name))
		}
	}
	return failed
}

func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(audit.Milliseconds(d), 'f', 1, 64)
}

var (
	benchEnd         = time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	benchConnections = []string{"entra-bluejeans", "entra-generic"}
	benchCredentials = []string{"entra-2027", "entra-2026"} // few have the second
	benchRules       = []string{"long-user-name", "upstream-lacks", "password-not-kept", "phone-number-form"}
)

func benchUser(n int) string { return fmt.Sprintf("user.%d@contoso.example", n) }

// benchRecord is record i of n: two thirds are queries that match a user or nobody, the others mostly updates; one in
// fifty is refused and one in two hundred fails.
func benchRecord(rng *rand.Rand, i, n int) *audit.Record {
	at := benchEnd.AddDate(0, 0, -benchDays).Add(time.Duration(float64(i) / float64(n) * benchDays * 24 * float64(time.Hour)))
	user := rng.IntN(max(n/recordsPerUser, 1))
	id := func() string {
		var random [8]byte
		binary.BigEndian.PutUint64(random[:], rng.Uint64())
		return audit.NewID(at, random)
	}
	rec := &audit.Record{
		ID: id(), Time: at, RequestID: id(), Connection: benchConnections[user%len(benchConnections)], Credential: benchCredentials[rng.IntN(50)/49],
		Source: "192.0.2.7:4711", Action: audit.Matched, Method: "GET", Op: "query", ResourceType: "User",
		Subject:  audit.Subject{ID: fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(user)*2654435761, user), UserName: benchUser(user), ExternalID: fmt.Sprintf("ext-%d", user)},
		Calls:    []audit.Call{{Method: "GET", Target: "GET /Users?filter=userName eq", Attempt: 1, Status: 200, Started: at, Duration: 12.345}},
		Answer:   audit.Answer{Status: 200},
		Duration: 13.579,
	}
	if rng.IntN(3) > 0 {
		return rec
	}
	rec.Action, rec.Method, rec.Op, rec.Plan = audit.Updated, "PATCH", "patch", "PATCH of 3 attributes"
	rec.Calls[0].Method, rec.Calls[0].Target = "PATCH", "PATCH /Users/{id}"
	value := &audit.Value{HMAC: fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64())}
	for _, path := range []string{"name.givenName", "name.familyName", "title"} {
		rec.Attributes = append(rec.Attributes, audit.Attribute{Path: path, Asked: value, Sent: value, Confirmed: value})
	}
	if rng.IntN(4) == 0 {
		rule := benchRules[min(rng.IntN(10), rng.IntN(len(benchRules)))]
		rec.Findings = []audit.Finding{{Rule: rule, Verdict: audit.Remark, Path: "title", Reason: "the upstream shows it in another form"}}
	}
	switch rare := rng.IntN(200); {
	case rare == 0:
		rec.Action, rec.Answer = audit.Failed, audit.Answer{Status: 502, Detail: "the upstream answered 500"}
	case rare < 5:
		rec.Action, rec.Answer = audit.Refused, audit.Answer{Status: 400, ScimType: "invalidValue", Detail: "userName is longer than the upstream takes"}
	case rare < 15:
		rec.Action, rec.Answer.Status = audit.Created, 201
	case rare < 20:
		rec.Action = audit.Disabled
	}
	return rec
}

// one is a record of the trail.
func (b *auditBench) one(rng *rand.Rand) *audit.Record { return b.known[rng.IntN(len(b.known))] }

// historyQuery selects a page of the records of a record's user.
func historyQuery(rng *rand.Rand, of *audit.Record) audit.Query {
	names := []string{of.Subject.UserName, of.Subject.ID, of.Subject.ExternalID}
	q := audit.Query{User: names[rng.IntN(len(names))], Limit: benchPage, Newest: rng.IntN(2) == 0}
	if rng.IntN(3) == 0 { // a page that a cursor leads to
		q.After = of.Seq
	}
	return q
}

// dayQuery selects a page of one day's records, by one to three of what searches go by. Some values are those of a record
// of that day, and some are of all frequencies, so that many records, few or none have them together.
func (b *auditBench) dayQuery(rng *rand.Rand) audit.Query {
	of := b.one(rng)
	q := historyQuery(rng, of)
	q.User, q.Since = "", of.Time.Add(-time.Duration(rng.IntN(24))*time.Hour)
	q.Until = q.Since.Add(24 * time.Hour)
	for range 1 + rng.IntN(3) {
		switch rng.IntN(10) {
		case 0:
			q.User = historyQuery(rng, []*audit.Record{of, b.one(rng)}[rng.IntN(2)]).User
		case 1:
			q.ID = of.ID
		case 2:
			q.RequestID = of.RequestID
		case 3:
			q.Kind = []string{audit.Outcome, audit.Event}[rng.IntN(2)]
		case 4:
			q.Action = []string{audit.Matched, audit.Updated, audit.Created, audit.Disabled, audit.Refused, audit.Failed, audit.Deleted}[rng.IntN(7)]
		case 5:
			q.Outcome = audit.Outcomes[rng.IntN(len(audit.Outcomes))]
		case 6:
			q.Status = []int{200, 201, 400, 502, 503}[rng.IntN(5)]
		case 7:
			q.Rule = benchRules[rng.IntN(len(benchRules))]
		case 8:
			q.Credential = benchCredentials[rng.IntN(len(benchCredentials))]
		case 9:
			q.Connection = benchConnections[rng.IntN(len(benchConnections))]
		}
	}
	return q
}
