package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/conformance/entra"
	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

func newDemo(env func(string) string) *cobra.Command {
	var (
		users int
		keep  string
		calls bool
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch Entra provision 200 users through the gateway, with things going wrong",
		Long: `Run the gateway in front of a simulated BlueJeans and let two Entra-like jobs, one in each PATCH dialect, provision
200 users through it: an initial cycle with managers, an incremental cycle with an update, a rename, disables and a
delete, a lost answer to a create, an outage of the upstream and the recovery from it. Everything runs in this process and on
loopback. It prints each phase, what the upstream was called for, the end of the trail, and a table of what was
expected and what was found. Exit code 0 only if every row of the table holds.`,
		Example: `  scimgate demo
  scimgate demo --calls | less
  scimgate demo --keep ./demo && scimgate audit search --database ./demo/scimgate.db --action refused`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &demo{out: newScreen(cmd.OutOrStdout(), env), users: users, told: map[string]bool{}, keep: keep, printCalls: calls, meter: newMeter(cmd.ErrOrStderr(), "requests")}
			table, err := d.run(cmd.Context())
			if err != nil {
				return err
			}
			return table.verdict(d.out)
		},
	}
	cmd.Flags().IntVar(&users, "users", 200, "how many users, at least 40")
	cmd.Flags().StringVar(&keep, "keep", "", "folder to leave the database in (default: none is left)")
	cmd.Flags().BoolVar(&calls, "calls", false, "print every call of the clients and the upstream's answer")
	return cmd
}

// demo is one run of the story.
type demo struct {
	out        *screen
	users      int
	keep       string
	printCalls bool
	meter      *meter

	app       *app
	sim       *simulator.Simulator
	upstream  *httptest.Server
	clients   [2]*entra.Client // legacy, RFC
	directory [2]*entra.Directory
	people    [2][]entra.Person
	told      map[string]bool // failures that were printed
	mu        sync.Mutex      // guards out while clients run
	table     expectations
}

// pace is how fast the demo may call the simulated upstream: faster than the profile's default, so that nobody has
// to wait for a minute, and still paced.
const pace = 400

// Who the story is about: places in the first job's list of people.
const (
	longName   = 0 // 31 characters
	lostAnswer = 1 // the answer to the create is lost
	twin       = 2 // has the work e-mail of someone else
	updated    = 3
	disabled   = 4
	restored   = 5
	renamedOne = 6
	deleted    = 7
	duringFall = 8 // changed during the outage
)

func (d *demo) run(ctx context.Context) (*expectations, error) {
	if d.users < 40 {
		return nil, &usageError{errors.New("--users must be at least 40")}
	}
	begun := time.Now()
	if err := d.start(ctx); err != nil {
		return nil, err
	}
	steps := []func(context.Context) error{d.connect, d.initial, d.incremental, d.restore, d.outage}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, d.stop())
		}
	}
	if err := d.judge(ctx); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	if err := d.stop(); err != nil {
		return nil, err
	}
	d.out.printf("\nThat took %s.\n", time.Since(begun).Round(100*time.Millisecond))
	return &d.table, nil
}

// start opens the simulated upstream, the gateway and the two jobs.
func (d *demo) start(ctx context.Context) error {
	dir := d.keep
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "scimgate-demo-"); err != nil {
			return err
		}
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	p, err := profile.Load("bluejeans")
	if err != nil {
		return err
	}
	upstreamToken := secretToken()
	if d.sim, err = simulator.New(simulator.Config{Profile: p, Tokens: []string{upstreamToken}, Rate: pace}); err != nil {
		return err
	}
	d.upstream = httptest.NewServer(d.sim)
	tokens := [2]string{secretToken(), secretToken()}
	conn := simulated(p, d.upstream.URL+simulator.DefaultBasePath, upstreamToken, "entra-legacy", tokens[0])
	second := simulated(p, conn.Upstream.URL, upstreamToken, "entra-rfc", tokens[1])
	conn.Name = "bluejeans"
	conn.Tokens = append(conn.Tokens, second.Tokens...)
	conn.Upstream.RequestsPerSecond, conn.Upstream.InFlight = pace, 8
	conn.Upstream.Timeout = 2 * time.Second
	cfg := &config.Config{
		Listen: "127.0.0.1:0", Admin: config.Admin{Listen: "127.0.0.1:0"},
		Database: filepath.Join(dir, "scimgate.db"), KeyFile: filepath.Join(dir, "scimgate.db.key"),
		Limits:      config.Limits{Body: config.DefaultBody, Concurrent: config.DefaultConcurrent, Wait: config.DefaultWait, DrainTimeout: config.DefaultDrainTimeout},
		Connections: []config.Connection{conn},
	}
	if d.app, err = open(ctx, cfg, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if err := d.app.start(ctx); err != nil {
		return err
	}
	url := d.app.tenantURL(0)
	d.title("The stage")
	d.say("gateway   %s, profile bluejeans, pace %d requests/s", url, pace)
	d.say("upstream  %s (a simulation: 30-character userNames, filter on userName only, no groups)", conn.Upstream.URL)
	d.cast()
	for i := range d.clients {
		dialect := []entra.Dialect{entra.Legacy, entra.RFC}[i]
		if d.clients[i], err = entra.New(entra.Config{
			URL: url, Token: tokens[i], Dialect: dialect, Workers: 8, Observe: d.observe, DeletionThreshold: d.users,
			Attributes: []string{"userName", "active", "externalId", "displayName", "title", `emails[type eq "work"].value`, "name.givenName",
				"name.familyName", `phoneNumbers[type eq "work"].value`, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager"},
		}); err != nil {
			return err
		}
		if d.directory[i], err = entra.NewDirectory(d.people[i]...); err != nil {
			return err
		}
		d.say("client    Entra-like job %d: %d users, dialect %s", i+1, len(d.people[i]), dialect)
	}
	return nil
}

// cast makes the people: half of them for each job.
func (d *demo) cast() {
	all := entra.Generate(d.users, 7)
	half := len(all) / 2
	d.people = [2][]entra.Person{all[:half], all[half:]}
	first := d.people[0]
	for i := range first {
		first[i].ManagerObjectID = ""
		if i > duringFall+1 {
			first[i].ManagerObjectID = first[duringFall+1].ObjectID
		}
	}
	for i := range d.people[1] { // managers stay within one job, as within one tenant
		d.people[1][i].ManagerObjectID = ""
		if i > 0 && i%2 == 0 {
			d.people[1][i].ManagerObjectID = d.people[1][0].ObjectID
		}
	}
	first[longName].UserName = "someone.with.31.chars@contoso.c"
	first[twin].Mail = first[len(first)-1].Mail
	first[lostAnswer].UserName = "lost.answer@contoso.com"
}

func (d *demo) observe(x entra.Exchange) {
	d.meter.add(1)
	if d.printCalls {
		d.mu.Lock()
		defer d.mu.Unlock()
		printExchange(d.out.w, x)
	}
}

func (d *demo) title(text string) { d.out.printf("\n%s\n", d.out.paint(bold, text)) }

func (d *demo) say(format string, args ...any) { d.out.printf("  "+format+"\n", args...) }

// both runs one cycle of each job.
func (d *demo) both(cycle func(i int) (*entra.Report, error)) ([2]*entra.Report, error) {
	var reports [2]*entra.Report
	for i := range d.clients {
		r, err := cycle(i)
		if err != nil {
			return reports, err
		}
		reports[i] = r
		d.meter.pause()
		t := r.Totals
		d.say("%-6s  %3d objects: %d created, %d updated, %d disabled, %d restored, %d deleted, %d failed; %d requests in %s",
			r.Dialect, t.Objects, t.Created, t.Updated, t.Disabled, t.Restored, t.Deleted, t.Failed, r.Requests, r.Duration.Round(10*time.Millisecond))
		for _, e := range r.Entries {
			for _, s := range e.Steps {
				if s.Status == entra.Failure && !d.told[e.ObjectID] && r.Totals.Failed <= 4 {
					d.told[e.ObjectID] = true
					d.say("        failed: %s %s: %d %s", s.Action, e.UserName, s.HTTP, s.Detail)
				}
			}
		}
		d.expect("no quarantine, "+r.Cycle+", "+r.Dialect.String(), "fine", quarantine(r))
	}
	return reports, nil
}

func quarantine(r *entra.Report) string {
	if r.Quarantine.Quarantined {
		return "quarantine: " + r.Quarantine.Reason
	}
	return "fine"
}

func (d *demo) connect(ctx context.Context) error {
	d.title("Test Connection: users and groups that do not exist")
	_, err := d.both(func(i int) (*entra.Report, error) { return d.clients[i].TestConnection(ctx) })
	return err
}

func (d *demo) initial(ctx context.Context) error {
	d.title(fmt.Sprintf("Initial cycle: %d users, then their managers", d.users))
	cancel := d.sim.Inject(simulator.Fault{Kind: simulator.Lost, Op: scim.OpCreate, User: d.people[0][lostAnswer].UserName, Times: 1})
	defer cancel()
	d.meter.expect(d.users * 2)
	reports, err := d.both(func(i int) (*entra.Report, error) { return d.clients[i].Initial(ctx, d.directory[i]) })
	if err != nil {
		return err
	}
	d.expect("users created", d.users-2, reports[0].Totals.Created+reports[1].Totals.Created)
	d.expect("users upstream", d.users-2, len(d.sim.Resources("User")))
	d.expect("31-character userName refused", "400 invalidValue, 0 upstream calls", d.refusal(ctx, d.people[0][longName].UserName))
	d.expect("duplicate work e-mail refused", "409 uniqueness", d.failure(reports[0], d.people[0][twin], d.people[0][len(d.people[0])-1]))
	managers := 0
	for _, people := range d.people {
		for _, p := range people {
			if p.ManagerObjectID != "" && d.id(p) != "" {
				managers++
			}
		}
	}
	d.expect("managers set upstream", managers, d.count(func(r scim.Resource) bool { return manager(r) != "" }))
	d.expect("lost create answer", "adopted, 1 user upstream", d.adopted(ctx))
	return nil
}

func (d *demo) incremental(ctx context.Context) error {
	d.title("Incremental cycle: update, disable, rename, delete")
	one, dir := d.people[0], d.directory[0]
	if err := errors.Join(
		dir.Update(one[updated].ObjectID, func(p *entra.Person) { p.Title = "Head of Demonstrations" }),
		dir.Disable(one[disabled].ObjectID), dir.Disable(one[restored].ObjectID),
		dir.Rename(one[renamedOne].ObjectID, "renamed@contoso.com"),
		dir.SoftDelete(one[deleted].ObjectID), dir.HardDelete(one[deleted].ObjectID),
	); err != nil {
		return err
	}
	for i, p := range d.people[1][1:9] {
		if err := d.directory[1].Update(p.ObjectID, func(p *entra.Person) { p.Title = fmt.Sprintf("Engineer %d", i) }); err != nil {
			return err
		}
	}
	ids := map[int]string{}
	for _, i := range []int{updated, disabled, restored, renamedOne, deleted} {
		ids[i] = d.id(one[i])
	}
	d.meter.expect(40)
	if _, err := d.both(func(i int) (*entra.Report, error) { return d.clients[i].Incremental(ctx, d.directory[i]) }); err != nil {
		return err
	}
	d.expect("updated title upstream", "Head of Demonstrations", d.holds(ids[updated], "title"))
	d.expect("disabled user upstream", "false", d.holds(ids[disabled], "active"))
	d.expect("renamed user upstream", "renamed@contoso.com", d.holds(ids[renamedOne], "userName"))
	d.expect("deleted user upstream", "gone", d.holds(ids[deleted], "userName"))
	d.expect("titles of the rfc job upstream", 8, d.count(func(r scim.Resource) bool { return strings.HasPrefix(text(r["title"]), "Engineer ") }))
	return nil
}

func (d *demo) restore(ctx context.Context) error {
	d.title("Incremental cycle: restore")
	p := d.people[0][restored]
	before := d.holds(d.id(p), "active")
	if err := d.directory[0].Restore(p.ObjectID); err != nil {
		return err
	}
	if _, err := d.both(func(i int) (*entra.Report, error) { return d.clients[i].Incremental(ctx, d.directory[i]) }); err != nil {
		return err
	}
	d.expect("restored user upstream", "false, then true", before+", then "+d.holds(d.id(p), "active"))
	return nil
}

// outage lets the upstream answer 503 until the circuit opens, changes users meanwhile, and lets it recover.
func (d *demo) outage(ctx context.Context) error {
	d.title("The upstream fails: every request is answered 503")
	end := d.sim.Inject(simulator.Fault{Kind: simulator.Status, Status: http.StatusServiceUnavailable})
	defer end()
	for i, p := range d.people[0][duringFall : duringFall+20] {
		if err := d.directory[0].Update(p.ObjectID, func(p *entra.Person) { p.Title = fmt.Sprintf("Patient %d", i) }); err != nil {
			return err
		}
	}
	sent := len(d.sim.Ledger())
	reports, err := d.both(func(i int) (*entra.Report, error) { return d.clients[i].Incremental(ctx, d.directory[i]) })
	if err != nil {
		return err
	}
	d.expect("users that failed during the outage", 20+len(d.stuck()), reports[0].Totals.Failed)
	d.expect("answers with 503 and Retry-After", "all", share(reports[0]))
	d.expect("circuit during the outage", "open", d.app.clients[0].State().Breaker)
	d.say("        the circuit is open: %d requests of the cycle cost the upstream %d calls", reports[0].Requests, len(d.sim.Ledger())-sent)
	end()
	d.title("The upstream recovers: the next cycle tries again what failed")
	if err := d.waitForProbe(ctx); err != nil {
		return err
	}
	if _, err = d.both(func(i int) (*entra.Report, error) { return d.clients[i].Incremental(ctx, d.directory[i]) }); err != nil {
		return err
	}
	d.expect("circuit after the recovery", "closed", d.app.clients[0].State().Breaker)
	d.expect("changes of the outage upstream", 20, d.count(func(r scim.Resource) bool { return strings.HasPrefix(text(r["title"]), "Patient ") }))
	return nil
}

// stuck are the users who fail in every cycle: the one whose name is too long and one of the twins.
func (d *demo) stuck() []entra.Person {
	var list []entra.Person
	for _, p := range d.people[0] {
		if q, ok := d.directory[0].Person(p.ObjectID); ok && d.id(q) == "" {
			list = append(list, q)
		}
	}
	return list
}

func share(r *entra.Report) string {
	failed, fit := 0, 0
	for _, e := range r.Entries {
		for _, s := range e.Steps {
			if s.Status == entra.Failure {
				failed++
				if s.HTTP == http.StatusServiceUnavailable && s.RetryAfter != "" {
					fit++
				}
			}
		}
	}
	if failed == fit && failed > 0 {
		return "all"
	}
	return fmt.Sprintf("%d of %d", fit, failed)
}

// waitForProbe waits until the open circuit lets a probe through.
func (d *demo) waitForProbe(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); d.app.clients[0].State().Breaker == "open"; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if time.Since(begun) > 20*time.Second {
				return errors.New("the circuit stayed open for 20 s")
			}
		}
	}
	return nil
}

// judge draws the balance over the whole story.
func (d *demo) judge(ctx context.Context) error {
	trail, err := d.trail(ctx)
	if err != nil {
		return err
	}
	d.title("What the upstream was called for, by operation of the clients, from the trail")
	type sum struct{ requests, calls, sent int }
	sums := map[string]*sum{}
	closings := map[int64]int{}
	credentials := map[string]bool{}
	var dropped, kept bool
	for _, r := range trail {
		switch r.Kind {
		case audit.Intent:
			closings[r.Seq] += 0
		case audit.Outcome, audit.Unknown:
			if r.Intent != 0 {
				closings[r.Intent]++
			}
		}
		for _, f := range r.Findings {
			dropped = dropped || f.Verdict == audit.Drop && f.Path == "displayName"
			kept = kept || f.Verdict == audit.Keep && f.Path == "externalId"
		}
		if r.Kind != audit.Outcome || r.Op == "" {
			continue
		}
		credentials[r.Credential] = true
		key := r.Op
		if sums[key] == nil {
			sums[key] = &sum{}
		}
		sums[key].requests++
		sums[key].calls += len(r.Calls)
		if len(r.Calls) == 1 && r.Answer.Status < 300 {
			sums[key].sent++
		}
	}
	w := tabwriter.NewWriter(d.out.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "  \toperation\trequests\tupstream calls\tanswered with exactly one\t\n")
	for _, op := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(w, "  \t%s\t%d\t%d\t%d\t\n", op, sums[op].requests, sums[op].calls, sums[op].sent)
	}
	_ = w.Flush()

	ratio, limited := d.oneCall(trail), 0
	for _, e := range d.sim.Ledger() {
		if e.Limited {
			limited++
		}
	}
	d.expect("successes that cost more than one upstream call", "1, the lost answer", ratio)
	d.expect("answers 429 from the upstream", 0, limited)
	unpaired := 0
	for _, n := range closings {
		if n != 1 {
			unpaired++
		}
	}
	d.expect("intents in the trail without exactly one closing record", 0, unpaired)
	d.expect("credentials named in the trail", "entra-legacy entra-rfc", strings.Join(slices.Sorted(maps.Keys(credentials)), " "))
	d.expect("dropped displayName and kept externalId in the trail", "true true", fmt.Sprint(dropped, kept))
	d.expect("user found by externalId, which the upstream lacks", "1 user, 1 upstream call", d.byExternalID())

	d.title("The end of the trail")
	var lines [][]cell
	for _, r := range trail[max(0, len(trail)-8):] {
		lines = append(lines, recordLine(r, false))
	}
	new(table).printAll(d.out, lines)
	return nil
}

// oneCall tells which successful answers cost more than one call.
func (d *demo) oneCall(trail []*audit.Record) string {
	more := 0
	recovered := 0
	for _, r := range trail {
		if r.Kind != audit.Outcome || r.Answer.Status >= 300 || len(r.Calls) <= 1 {
			continue
		}
		more++
		for _, f := range r.Findings {
			if f.Rule == "lost-answer" {
				recovered++
			}
		}
	}
	if more == 1 && recovered == 1 {
		return "1, the lost answer"
	}
	return fmt.Sprintf("%d, of these %d lost answers", more, recovered)
}

func (d *demo) trail(ctx context.Context) ([]*audit.Record, error) {
	var out []*audit.Record
	for r, err := range d.app.store.Search(ctx, audit.Query{}) {
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// refusal is how the trail tells of the refused create of a user.
func (d *demo) refusal(ctx context.Context, userName string) string {
	for r, err := range d.app.store.Search(ctx, audit.Query{User: userName, Action: audit.Refused}) {
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d %s, %d upstream calls", r.Answer.Status, r.Answer.ScimType, len(r.Calls))
	}
	return "not in the trail"
}

// failure is how a job's report tells of the first of some people who failed.
func (d *demo) failure(r *entra.Report, people ...entra.Person) string {
	for _, e := range r.Entries {
		for _, s := range e.Steps {
			if s.Status == entra.Failure && slices.ContainsFunc(people, func(p entra.Person) bool { return p.ObjectID == e.ObjectID }) {
				return fmt.Sprintf("%d %s", s.HTTP, s.ScimType)
			}
		}
	}
	return "nobody failed"
}

// adopted tells what became of the create whose answer was lost.
func (d *demo) adopted(ctx context.Context) string {
	name := d.people[0][lostAnswer].UserName
	how := "not adopted"
	for r, err := range d.app.store.Search(ctx, audit.Query{User: name, Kind: audit.Outcome}) {
		if err != nil {
			return err.Error()
		}
		if r.Action == audit.Adopted && r.Answer.Status == http.StatusCreated {
			how = "adopted"
		}
	}
	return fmt.Sprintf("%s, %d user upstream", how, d.count(func(r scim.Resource) bool { return r.UserName() == name }))
}

func (d *demo) byExternalID() string {
	before := len(d.sim.Ledger())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	person := d.people[1][3]
	g := d.app.gateways[0]
	filter := &scim.AttributeExpression{AttributePath: scim.AttributePath{AttributeName: "externalId"}, Operator: scim.Eq, CompareValue: person.ObjectID}
	resp, err := g.Do(ctx, &scim.Request{Op: scim.OpQuery, Type: g.Types()[0], Query: scim.Query{Filter: filter, StartIndex: 1},
		Origin: scim.Origin{Connection: g.Name, Credential: "entra-rfc", Source: "127.0.0.1", Base: d.app.tenantURL(0), RequestID: "demo"}})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d user, %d upstream call", resp.TotalResults, len(d.sim.Ledger())-before)
}

func (d *demo) id(p entra.Person) string {
	for _, c := range d.clients {
		if id, ok := c.Link(p.ObjectID); ok {
			return id
		}
	}
	return ""
}

// holds is what the upstream holds of a user.
func (d *demo) holds(id, attribute string) string {
	for _, r := range d.sim.Resources("User") {
		if r.ID() == id {
			return fmt.Sprint(r[attribute])
		}
	}
	return "gone"
}

func (d *demo) count(holds func(scim.Resource) bool) int {
	n := 0
	for _, r := range d.sim.Resources("User") {
		if holds(r) {
			n++
		}
	}
	return n
}

func manager(r scim.Resource) string {
	ref := scim.Ref{Schema: scim.SchemaEnterpriseUser, Name: "manager"}
	if s := text(r.Get(ref)); s != "" {
		return s
	}
	ref.Sub = "value"
	return text(r.Get(ref))
}

func text(v any) string { s, _ := v.(string); return s }

func (d *demo) stop() error {
	err := d.app.stop()
	d.sim.Close()
	d.upstream.Close()
	if d.keep == "" {
		return errors.Join(err, os.RemoveAll(filepath.Dir(d.app.cfg.Database)))
	}
	d.say("\n  The database stays in %s", d.app.cfg.Database)
	return err
}

// expectations is the table at the end.
type expectations []expectation

type expectation struct{ what, expected, found string }

func (d *demo) expect(what string, expected, found any) {
	d.table = append(d.table, expectation{what, fmt.Sprint(expected), fmt.Sprint(found)})
}

// verdict shows the table; it is errTold unless every row holds.
func (e *expectations) verdict(out *screen) error {
	out.printf("\n%s\n", out.paint(bold, "Expected and found"))
	var err error
	width := 0
	for _, x := range *e {
		width = max(width, len(x.what))
	}
	for _, x := range *e {
		mark := out.paint(green, "ok  ")
		if x.expected != x.found {
			mark, err = out.paint(red, "FAIL"), errTold
		}
		out.printf("  %s  %-*s  %s", mark, width, x.what, x.found)
		if x.expected != x.found {
			out.printf("   (expected: %s)", x.expected)
		}
		out.printf("\n")
	}
	return err
}
