package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"scimgate/config/profile"
	"scimgate/conformance"
	"scimgate/conformance/simulator"
)

func newProof(env func(string) string) *cobra.Command {
	return &cobra.Command{
		Use:   "proof",
		Short: "Run the suite against this gateway, and against the narrow upstream alone",
		Long: `Run the conformance suite against the simulated upstream of profile bluejeans alone, against the gateway in front of
it, and against the gateway with profile generic, all in this process and on loopback. It prints one table of what
passed, failed and was unsupported, then what each gateway announces, and every result that is not one of the known
divergences, which are built in (conformance/DIVERGENCES.md has them with their reasons). It is the strict comparison:
what is unsupported must be known too. Exit code 1 when anything is unexpected.

The gateway calls the simulator without the pace of the profile bluejeans, 10 requests per second, so that nobody has
to wait for a minute and a half; nothing else differs from ` + "`serve`" + `.`,
		Example: `  scimgate conformance proof`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cases, err := conformance.Cases()
			if err != nil {
				return err
			}
			p := &proof{out: newScreen(cmd.OutOrStdout(), env), meter: newMeter(cmd.ErrOrStderr(), "cases"), cases: cases}
			return p.run(cmd.Context())
		},
	}
}

// proof runs the suite against service providers of our own.
type proof struct {
	out   *screen
	meter *meter
	cases []*conformance.Case
}

// proved is one service provider of the proof, and what was found there.
type proved struct {
	title       string
	profile     string
	gateway     bool   // in front of the simulator, or the simulator alone
	divergences string // what conformance.Divergences has of it
	announced   string
	report      *conformance.Report
}

func (p *proof) run(ctx context.Context) error {
	all := []*proved{
		{title: "simulator, profile bluejeans", profile: "bluejeans", divergences: "simulator-bluejeans"},
		{title: "gateway, profile bluejeans", profile: "bluejeans", gateway: true, divergences: "gateway-bluejeans"},
		{title: "gateway, profile generic", profile: "generic", gateway: true, divergences: "gateway-generic"},
	}
	p.meter.expect(len(all) * len(p.cases))
	defer p.meter.stop()
	for _, one := range all {
		if err := p.prove(ctx, one); err != nil {
			return fmt.Errorf("%s: %w", one.title, err)
		}
	}
	p.meter.stop()
	p.table(all)
	return p.verdict(all)
}

// prove starts a service provider, runs the suite against it and stops it.
func (p *proof) prove(ctx context.Context, one *proved) (err error) {
	prof, err := profile.Load(one.profile)
	if err != nil {
		return err
	}
	token := secretToken()
	sim, err := simulator.New(simulator.Config{Profile: prof, Tokens: []string{token}})
	if err != nil {
		return err
	}
	upstream := httptest.NewServer(sim)
	defer func() {
		sim.Close()
		upstream.Close()
	}()
	url := upstream.URL + simulator.DefaultBasePath
	if one.gateway {
		conn := simulated(prof, url, token, one.profile, token)
		conn.Upstream.RequestsPerSecond = 0
		var dir string
		if dir, err = os.MkdirTemp("", "scimgate-proof-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		var a *app
		if a, err = onLoopback(ctx, dir, conn); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.stop()) }()
		url = a.tenantURL(0)
	}
	return p.suite(ctx, one, url, token)
}

// suite runs the cases, with what is known of the service provider.
func (p *proof) suite(ctx context.Context, one *proved, url, token string) error {
	expected, err := conformance.Divergences(one.divergences)
	if err != nil {
		return err
	}
	if err := conformance.CheckExpected(expected, p.cases); err != nil {
		return err
	}
	if one.announced, err = announced(ctx, url, token); err != nil {
		return err
	}
	one.report, err = conformance.Run(ctx, conformance.Config{
		URL: url, Token: token, Expected: expected, Strict: true,
		Progress: func(int, int, *conformance.Result) { p.meter.add(1) },
	}, p.cases)
	return err
}

// announced says what /ServiceProviderConfig promises.
func announced(ctx context.Context, url, token string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/ServiceProviderConfig", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	type ability struct{ Supported bool }
	var config struct {
		Patch, Bulk, Filter, Sort, ETag ability
		Pagination                      struct{ Index, Cursor bool }
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&config); err != nil {
		return "", fmt.Errorf("read /ServiceProviderConfig: %w", err)
	}
	var has []string
	for _, a := range []struct {
		name string
		has  bool
	}{
		{"patch", config.Patch.Supported}, {"bulk", config.Bulk.Supported}, {"filter", config.Filter.Supported},
		{"sort", config.Sort.Supported}, {"etag", config.ETag.Supported},
		{"paging by index", config.Pagination.Index}, {"paging by cursor", config.Pagination.Cursor},
	} {
		if a.has {
			has = append(has, a.name)
		}
	}
	return strings.Join(has, ", "), nil
}

// table prints the counts, without times, so that it is the same each time.
func (p *proof) table(all []*proved) {
	p.out.printf("| service provider | set | cases | passed | failed | unsupported | unexpected |\n|---|---|---|---|---|---|---|\n")
	for _, one := range all {
		for _, set := range []string{"rfc", "entra", "all"} {
			of := conformance.Report{Results: slices.DeleteFunc(slices.Clone(one.report.Results), func(r *conformance.Result) bool {
				return set != "all" && r.Case.Set() != set
			})}
			p.out.printf("| %s | %s | %d | %d | %d | %d | %d |\n", one.title, set, len(of.Results), of.Count(conformance.Passed),
				of.Count(conformance.Failed)+of.Count(conformance.Errored), of.Count(conformance.Unsupported), of.Unexpected())
		}
	}
	p.out.printf("\n")
	for _, one := range all {
		if one.gateway {
			p.out.printf("- The %s announces: %s\n", one.title, shownText(one.announced))
		}
	}
}

// verdict prints what is news.
func (p *proof) verdict(all []*proved) error {
	news := false
	for _, one := range all {
		for _, r := range one.report.Results {
			if r.Unexpected() {
				news = true
				p.out.printf("- Unexpected at the %s: %s %s\n", one.title, p.out.paint(red, r.Heading()+" "+r.Case.ID), shownText(because(r)))
			}
		}
		for _, left := range one.report.Left {
			news = true
			p.out.printf("- Left behind at the %s: %s\n", one.title, shownText(left))
		}
	}
	if news {
		return errTold
	}
	p.out.printf("- Unexpected: nothing\n")
	return nil
}

// because is why a result is news.
func because(r *conformance.Result) string {
	if r.Verdict == conformance.Passed {
		return "(" + r.Expectation() + ")"
	}
	return "(" + r.Reason + ")"
}
