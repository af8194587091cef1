package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/conformance/entra"
	"scimgate/conformance/simulator"
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
	if d.app, err = onLoopback(ctx, dir, conn); err != nil {
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

// onLoopback starts a gateway with one connection on free ports of loopback, its database in a folder.
func onLoopback(ctx context.Context, dir string, conn config.Connection) (*app, error) {
	a, err := open(ctx, &config.Config{
		Listen: "127.0.0.1:0", Admin: config.Admin{Listen: "127.0.0.1:0"},
		Database: filepath.Join(dir, "scimgate.db"), KeyFile: filepath.Join(dir, "scimgate.db.key"),
		Limits:      config.Limits{Body: config.DefaultBody, Concurrent: config.DefaultConcurrent, Wait: config.DefaultWait, DrainTimeout: config.DefaultDrainTimeout},
		Connections: []config.Connection{conn},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if err := a.start(ctx); err != nil {
		return nil, errors.Join(err, a.stop())
	}
	return a, nil
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

// both runs one cycle of each job; phase names it in the table.
func (d *demo) both(phase string, cycle func(i int) (*entra.Report, error)) ([2]*entra.Report, error) {
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
		d.expect("no quarantine, "+phase+", "+r.Dialect.String(), "fine", quarantine(r))
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
	_, err := d.both("connection test", func(i int) (*entra.Report, error) { return d.clients[i].TestConnection(ctx) })
	return err
}

func (d *demo) initial(ctx context.Context) error {
	d.title(fmt.Sprintf("Initial cycle: %d users, then their managers", d.users))
	cancel := d.sim.Inject(simulator.Fault{Kind: simulator.Lost, Op: scim.OpCreate, User: d.people[0][lostAnswer].UserName, Times: 1})
	defer cancel()
	d.meter.expect(d.users * 2)
	reports, err := d.both("initial cycle", func(i int) (*entra.Report, error) { return d.clients[i].Initial(ctx, d.directory[i]) })
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
	if _, err := d.both("incremental cycle", func(i int) (*entra.Report, error) { return d.clients[i].Incremental(ctx, d.directory[i]) }); err != nil {
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
	if _, err := d.both("restore", func(i int) (*entra.Report, error) { return d.clients[i].Incremental(ctx, d.directory[i]) }); err != nil {
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
	patients := d.people[0][duringFall:min(duringFall+20, len(d.people[0])-1)] // without the last, who may be one of the twins
	for i, p := range patients {
		if err := d.directory[0].Update(p.ObjectID, func(p *entra.Person) { p.Title = fmt.Sprintf("Patient %d", i) }); err != nil {
			return err
		}
	}
	sent := len(d.sim.Ledger())
	reports, err := d.both("outage", func(i int) (*entra.Report, error) { return d.clients[i].Incremental(ctx, d.directory[i]) })
	if err != nil {
		return err
	}
	d.expect("users that failed during the outage", len(patients)+len(d.stuck()), reports[0].Totals.Failed)
	d.expect("answers with 503 and Retry-After", "all", share(reports[0]))
	d.expect("circuit during the outage", "open", d.app.clients[0].State().Breaker)
	d.say("        the circuit is open: %d requests of the cycle cost the upstream %d calls", reports[0].Requests, len(d.sim.Ledger())-sent)
	end()
	d.title("The upstream recovers: the next cycle tries again what failed")
	if err := d.waitForProbe(ctx); err != nil {
		return err
	}
	if _, err = d.both("recovery", func(i int) (*entra.Report, error) { return d.clients[i].Incremental(ctx, d.directory[i]) }); err != nil {
		return err
	}
	d.expect("circuit after the recovery", "closed", d.app.clients[0].State().Breaker)
	d.expect("changes of the outage upstream", len(patients), d.count(func(r scim.Resource) bool { return strings.HasPrefix(text(r["title"]), "Patient ") }))
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

func (d *demo) stop() error {
	err := d.app.stop()
	d.sim.Close()
	d.upstream.Close()
	d.expect("the trail verified with its public key", "holds, signed to its end", d.verified())
	if d.keep == "" {
		return errors.Join(err, os.RemoveAll(filepath.Dir(d.app.cfg.Database)))
	}
	d.say("\n  The database stays in %s. Verify its trail, then change a byte of it and verify again:", d.app.cfg.Database)
	d.say("  %s audit verify --database %s --key %s", programName(), d.app.cfg.Database, d.app.signer.PublicKey())
	return err
}
