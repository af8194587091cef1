package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/conformance/entra"
	"scimgate/conformance/simulator"
)

func newSimulate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Run one side alone: a simulated upstream, or an Entra-like client",
		Long:  "Run one side alone: a simulated upstream service provider, or a client that provisions as Entra does.",
		Example: `  scimgate simulate upstream --profile bluejeans --token upstream-token-1234
  scimgate simulate entra --url http://127.0.0.1:8080/scim/v2 --token "$TOKEN" --users 100`,
	}
	cmd.AddCommand(newSimulateUpstream(), newSimulateEntra())
	return cmd
}

func newSimulateUpstream() *cobra.Command {
	var (
		name, listen, token string
		rate                float64
		faults, assume      []string
		latency             time.Duration
		seed                uint64
	)
	var assumed strings.Builder
	for _, a := range simulator.Assumed {
		fmt.Fprintf(&assumed, "  %s\n", a)
	}
	cmd := &cobra.Command{
		Use:   "upstream",
		Short: "Run a simulated upstream with a profile's abilities and limits",
		Long: `Run a simulated SCIM service provider in memory, with a profile's abilities and limits. It is a simulation: nothing
of it was compared with a real service. What no source documents is assumed, and can be switched with --assume:

` + assumed.String(),
		Example: `  scimgate simulate upstream
  scimgate simulate upstream --profile generic --listen 127.0.0.1:8081 --token secret-for-upstream
  scimgate simulate upstream --rate 10 --fault status=503,op=create,times=3,retry-after=2 --fault lost,op=create,nth=17
  scimgate simulate upstream --assume patch-answers=204`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := profile.Load(name)
			if err != nil {
				return err
			}
			if token == "" {
				token = secretToken()
			}
			cfg := simulator.Config{Profile: p, Tokens: []string{token}, Rate: rate, Latency: latency, Seed: seed}
			for _, text := range assume {
				if err := cfg.Assume.Set(text); err != nil {
					return &usageError{err}
				}
			}
			sim, err := simulator.New(cfg)
			if err != nil {
				return err
			}
			defer sim.Close()
			for _, text := range faults {
				f, err := simulator.ParseFault(text)
				if err != nil {
					return &usageError{err}
				}
				sim.Inject(f)
			}
			return runUpstream(cmd.Context(), sim, listen, token, p, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "profile", config.DefaultProfile, "built-in profile, or the path of one")
	f.StringVar(&listen, "listen", "127.0.0.1:8081", "address to listen on")
	f.StringVar(&token, "token", "", "bearer token to accept (default: a new one, printed)")
	f.Float64Var(&rate, "rate", 0, "requests per second; beyond it the answer is 429 (0: no limit)")
	f.StringArrayVar(&faults, "fault", nil, "inject a fault; may be repeated")
	f.StringArrayVar(&assume, "assume", nil, "switch an assumed behaviour, NAME=VALUE; may be repeated")
	f.DurationVar(&latency, "latency", 0, "time that every request takes at least")
	f.Uint64Var(&seed, "seed", 0, "where faults by probability come from")
	return cmd
}

func runUpstream(ctx context.Context, sim *simulator.Simulator, listen, token string, p *profile.Profile, out io.Writer) error {
	line, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: sim, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(line) }()
	fmt.Fprintf(out, "The simulated upstream is ready.\n\n  Base URL  %s%s\n  Token     %s\n  Profile   %s (a simulation: nothing was compared with a real service)\n",
		listenerURL(line, false), simulator.DefaultBasePath, token, p.Name)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	_ = server.Close()
	<-failed
	fmt.Fprintln(out, "\nRequests received, by operation:")
	calls := sim.Calls()
	for _, op := range slices.Sorted(maps.Keys(calls)) {
		fmt.Fprintf(out, "  %-10s %d\n", op, calls[op])
	}
	limited := 0
	for _, e := range sim.Ledger() {
		if e.Limited {
			limited++
		}
	}
	fmt.Fprintf(out, "  %-10s %d\n", "answer 429", limited)
	return nil
}

func newSimulateEntra() *cobra.Command {
	var (
		url, token, dialect string
		users, workers      int
		rate                float64
		seed                uint64
		long, transcript    bool
		asJSON              bool
		attributes, match   []string
		measured            measured
	)
	cmd := &cobra.Command{
		Use:   "entra",
		Short: "Provision users into any SCIM endpoint as Entra does",
		Long: `Provision generated users into a SCIM endpoint in the way Microsoft Entra ID does: Test Connection, an initial cycle
with references, then an incremental cycle with updates, disables, restores, renames and deletes. It prints what
Entra's provisioning log would show and what would put the job in quarantine, and at the end what all cycles came to.

With --gateway-admin it also reads the metrics of a scimgate gateway, once a second, and says what the gateway needed:
upstream attempts, of all its connections, and the largest resident memory seen. With --permitted it says which share of
that rate was used: upstream attempts per second, counted from before the first request until after the last answer,
with all phases and the pauses between them.

The users stay at the endpoint: point it at a test system only. Exit code 1 when a user failed or the job would be
in quarantine.`,
		Example: `  scimgate simulate entra --url http://127.0.0.1:8080/scim/v2 --token "$TOKEN"
  scimgate simulate entra --url http://127.0.0.1:8080/scim/v2 --token "$TOKEN" --users 10000 --dialect rfc
  scimgate simulate entra --url http://127.0.0.1:8080/scim/v2 --token "$TOKEN" --users 1 --transcript
  scimgate simulate entra --url http://127.0.0.1:8080/scim/v2 --token "$TOKEN" --users 1000 \
    --gateway-admin http://127.0.0.1:9090 --permitted 200`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := entra.ParseDialect(dialect)
			if err != nil {
				return &usageError{err}
			}
			if token == "" {
				token = os.Getenv("SCIMGATE_TOKEN")
			}
			if err := measured.check(cmd); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			cfg := entra.Config{URL: url, Token: token, Dialect: d, Workers: workers, Rate: rate, Match: match, Attributes: attributes}
			meter := newMeter(cmd.ErrOrStderr(), "requests")
			cfg.Observe = func(x entra.Exchange) {
				meter.add(1)
				if transcript {
					printExchange(out, x)
				}
			}
			persons := entra.Generate(users, seed)
			if long {
				persons = entra.GenerateLong(users, seed)
			}
			ok, err := provision(cmd.Context(), cfg, persons, &measured, meter, out, asJSON)
			meter.stop()
			if err != nil {
				return err
			}
			if !ok {
				return errTold
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&url, "url", "", "Tenant URL of the SCIM endpoint (required)")
	f.StringVar(&token, "token", "", "Secret Token (default: SCIMGATE_TOKEN)")
	f.StringVar(&dialect, "dialect", "legacy", "PATCH dialect: legacy, or rfc as with aadOptscim062020")
	f.IntVar(&users, "users", 10, "how many users")
	f.IntVar(&workers, "workers", 32, "objects in progress at a time")
	f.Float64Var(&rate, "rate", 0, "requests per second (0: as fast as answers come)")
	f.Uint64Var(&seed, "seed", 1, "the same seed makes the same users")
	f.BoolVar(&long, "long", false, "give users names of more than 30 characters")
	f.BoolVar(&transcript, "transcript", false, "print every request and answer")
	f.BoolVar(&asJSON, "json", false, "print the reports as JSON, one a line, and what all came to last")
	f.StringVar(&measured.admin, "gateway-admin", "", "base URL of the gateway's admin listener, to say what it needed")
	f.StringVar(&measured.token, "gateway-token", "", "token of the admin listener (default: SCIMGATE_ADMIN_TOKEN)")
	f.Float64Var(&measured.permitted, "permitted", 0, "requests per second that the upstream permits, to say which share was used")
	f.StringArrayVar(&attributes, "attribute", nil, "mapped attribute path; may be repeated (default: Entra's usual mapping)")
	f.StringArrayVar(&match, "match", nil, "matching attribute; may be repeated, tried in order (default: userName)")
	_ = cmd.MarkFlagRequired("url")
	return cmd
}

// provision runs the cycles, prints their reports, and what all came to.
func provision(ctx context.Context, cfg entra.Config, persons []entra.Person, how *measured, m *meter, out io.Writer, asJSON bool) (ok bool, err error) {
	client, err := entra.New(cfg)
	if err != nil {
		return false, &usageError{err}
	}
	defer client.CloseIdleConnections()
	watch, err := watchGateway(ctx, how.admin, how.token)
	if err != nil {
		return false, err
	}
	defer watch.close()
	sum := newFigures(len(persons))
	if ok, err = cycles(ctx, client, persons, sum, m, out, asJSON); err != nil {
		return false, err
	}
	sum.stop()
	if sum.Gateway, err = watch.consumption(ctx, sum.Duration, how.permitted); err != nil {
		return false, err
	}
	return ok, sum.write(out, asJSON)
}

// cycles runs the cycles, prints their reports and adds them to sum.
func cycles(ctx context.Context, client *entra.Client, persons []entra.Person, sum *figures, m *meter, out io.Writer, asJSON bool) (ok bool, err error) {
	directory, err := entra.NewDirectory(persons...)
	if err != nil {
		return false, err
	}
	ok = true
	show := func(r *entra.Report, err error) error {
		if err != nil {
			return err
		}
		m.pause()
		ok = ok && r.OK()
		sum.add(r)
		if asJSON {
			return json.NewEncoder(out).Encode(r)
		}
		if err := r.WriteText(out); err != nil {
			return err
		}
		_, err = fmt.Fprintln(out)
		return err
	}
	if err := show(client.TestConnection(ctx)); err != nil {
		return false, err
	}
	m.expect(3 * len(persons))
	if err := show(client.Initial(ctx, directory)); err != nil {
		return false, err
	}
	if err := changeDirectory(directory, persons); err != nil {
		return false, err
	}
	if err := show(client.Incremental(ctx, directory)); err != nil {
		return false, err
	}
	for _, p := range persons {
		if q, known := directory.Person(p.ObjectID); known && !q.Enabled && !q.SoftDeleted {
			if err := directory.Restore(p.ObjectID); err != nil {
				return false, err
			}
		}
	}
	return ok, show(client.Incremental(ctx, directory))
}

// changeDirectory lets a tenth of the persons change: one in fifty each is updated, renamed, disabled, soft-deleted
// and deleted; at least one of each where there are five.
func changeDirectory(d *entra.Directory, persons []entra.Person) error {
	for i, p := range persons {
		if i%10 >= 5 && len(persons) >= 10 || i >= max(5, len(persons)/5) {
			continue
		}
		var err error
		switch i % 5 {
		case 0:
			err = d.Update(p.ObjectID, func(p *entra.Person) { p.Title = "Changed " + p.Title })
		case 1:
			err = d.Rename(p.ObjectID, renamed(p.UserName))
		case 2:
			err = d.Disable(p.ObjectID)
		case 3:
			err = d.SoftDelete(p.ObjectID)
		case 4:
			if err = d.SoftDelete(p.ObjectID); err == nil {
				err = d.HardDelete(p.ObjectID)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// renamed is another userName of the same length.
func renamed(userName string) string {
	if len(userName) < 2 || userName[0] == 'x' {
		return "y" + userName[min(1, len(userName)):]
	}
	return "x" + userName[1:]
}

// printExchange prints one call for a transcript.
func printExchange(out io.Writer, x entra.Exchange) {
	fmt.Fprintf(out, "%s %s\n", x.Method, shownText(x.Path))
	if len(x.RequestBody) > 0 {
		fmt.Fprintf(out, "  > %s\n", shownText(string(x.RequestBody)))
	}
	if x.Err != nil {
		fmt.Fprintf(out, "  ! %v\n", x.Err)
		return
	}
	fmt.Fprintf(out, "  < %d %s\n", x.Status, x.Duration.Round(10*time.Microsecond))
	if len(x.ResponseBody) > 0 {
		fmt.Fprintf(out, "    %s\n", shownText(string(x.ResponseBody)))
	}
}

// meter shows progress on a terminal, and nothing elsewhere.
type meter struct {
	out  io.Writer
	what string

	mu          sync.Mutex
	done, total int
	shown       time.Time
}

func newMeter(out io.Writer, what string) *meter {
	if _, ok := terminal(out); !ok {
		out = nil
	}
	return &meter{out: out, what: what}
}

func (m *meter) expect(total int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total, m.done = total, 0
}

func (m *meter) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	if m.out == nil || time.Since(m.shown) < 100*time.Millisecond {
		return
	}
	m.shown = time.Now()
	if m.total > 0 {
		fmt.Fprintf(m.out, "\r\033[K%d of about %d %s", m.done, m.total, m.what)
	} else {
		fmt.Fprintf(m.out, "\r\033[K%d %s", m.done, m.what)
	}
}

// pause clears the line, for other output.
func (m *meter) pause() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out != nil && !m.shown.IsZero() {
		fmt.Fprint(m.out, "\r\033[K")
	}
}

func (m *meter) stop() { m.pause() }
