package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"scimgate/config/profile"
	"scimgate/conformance"
)

// conformanceFlags are what `scimgate conformance` is told.
type conformanceFlags struct {
	url, token, set, format, output, expect, ca string
	cases                                       []string
	timeout                                     time.Duration
	parallel                                    int
	verbose, list, strict                       bool
}

var conformanceFormats = []string{"text", "json", "junit", "html"}

func newConformance(env func(string) string) *cobra.Command {
	var o conformanceFlags
	cmd := &cobra.Command{
		Use:   "conformance",
		Short: "Try a SCIM service provider against the RFCs and against what Entra sends",
		Long: `Send the cases of the conformance suite to a SCIM service provider, this one's or any other's, and report which of them
it passes. A case is one requirement of RFC 7643, 7644 or 9865, or one shape that Microsoft Entra ID sends. What the
service provider does not announce in its discovery is unsupported, not failed.

The cases create, change and delete users and groups of their own, and delete what they made, also after Ctrl-C. They
need no empty store, but point them at a test system only.

--expect names a file of known divergences, ` + "`case: reason`" + ` lines in YAML or a JSON object. A reason that starts with
"unsupported: " allows the case to be unsupported, not to fail. With --strict, what is unsupported must be in it too.
Exit code 1 when a case fails (or with --strict is unsupported) that is not in it, or passes although it is.`,
		Example: `  scimgate conformance --url http://127.0.0.1:8080/scim/v2 --token "$TOKEN"
  scimgate conformance --url https://scim.example.com/scim/v2 --set entra --format html --output report.html
  scimgate conformance --url http://127.0.0.1:8080/scim/v2 --case 'rfc7644-3.5.2*' --verbose
  scimgate conformance --list --set rfc
  scimgate conformance proof`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.token == "" {
				o.token = env("SCIMGATE_TOKEN")
			}
			return o.run(cmd, env)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.url, "url", "", "SCIM base URL of the service provider (required, but for --list)")
	f.StringVar(&o.token, "token", "", "bearer token (default: SCIMGATE_TOKEN)")
	f.StringVar(&o.set, "set", "all", "cases to run: rfc, entra or all")
	f.StringArrayVar(&o.cases, "case", nil, "id or glob of the cases to run; may be repeated (default: all)")
	f.StringVar(&o.expect, "expect", "", "file of known divergences, case: reason")
	f.BoolVar(&o.strict, "strict", false, "a case that is unsupported is unexpected too, unless --expect names it")
	f.StringVar(&o.format, "format", "text", "report: text, json, junit or html")
	f.StringVar(&o.output, "output", "", "file for the report (default: standard output)")
	f.StringVar(&o.ca, "ca", "", "PEM file of the certificates to trust, instead of the system's")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long to wait for an answer")
	f.IntVar(&o.parallel, "parallel", 1, "cases at a time, 1 to 64")
	f.BoolVar(&o.verbose, "verbose", false, "text: a line for each case")
	f.BoolVar(&o.list, "list", false, "print the selected cases, and send nothing")
	cmd.AddCommand(newProof(env))
	return cmd
}

func (o *conformanceFlags) run(cmd *cobra.Command, env func(string) string) error {
	cases, err := conformance.Cases()
	if err != nil {
		return err
	}
	selected, err := conformance.Select(cases, o.set, o.cases)
	if err != nil {
		return usage(cmd, "%w", err)
	}
	if o.list {
		return listCases(newScreen(cmd.OutOrStdout(), env), selected)
	}
	cfg, err := o.config(cmd, cases)
	if err != nil {
		return err
	}
	progress := newMeter(cmd.ErrOrStderr(), "cases")
	progress.expect(len(selected))
	cfg.Progress = func(int, int, *conformance.Result) { progress.add(1) }
	found, err := conformance.Run(cmd.Context(), *cfg, selected)
	progress.stop()
	if found == nil {
		return err
	}
	if lost := o.write(found, cmd.OutOrStdout(), env); lost != nil {
		return lost
	}
	if err == nil && found.Unexpected() > 0 {
		err = errTold
	}
	return err
}

// config checks the flags.
func (o *conformanceFlags) config(cmd *cobra.Command, cases []*conformance.Case) (*conformance.Config, error) {
	if o.url == "" {
		return nil, usage(cmd, "--url is missing: the SCIM base URL of the service provider")
	}
	base, err := profile.BaseURL(o.url, true)
	if err != nil {
		return nil, usage(cmd, "--url %s: %w", shown(o.url), err)
	}
	switch {
	case !slices.Contains(conformanceFormats, o.format):
		return nil, usage(cmd, "--format %s: want text, json, junit or html", shown(o.format))
	case o.timeout <= 0:
		return nil, usage(cmd, "--timeout %v: want more than 0s", o.timeout)
	case o.parallel < 1 || o.parallel > 64:
		return nil, usage(cmd, "--parallel %d: want 1 to 64", o.parallel)
	}
	cfg := &conformance.Config{URL: base, Token: o.token, Timeout: o.timeout, Parallel: o.parallel, Strict: o.strict}
	if o.expect != "" {
		text, err := os.ReadFile(o.expect)
		if err == nil {
			cfg.Expected, err = conformance.ParseExpected(string(text))
		}
		if err == nil {
			err = conformance.CheckExpected(cfg.Expected, cases)
		}
		if err != nil {
			return nil, usage(cmd, "--expect %s: %w", shown(o.expect), err)
		}
	}
	if o.ca != "" {
		roots, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, usage(cmd, "--ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(roots) {
			return nil, usage(cmd, "--ca %s: there is no certificate in PEM form in it", shown(o.ca))
		}
		cfg.Client = &http.Client{Transport: &http.Transport{
			Proxy:           http.ProxyFromEnvironment,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
		}}
	}
	return cfg, nil
}

// write writes the report where it is wanted.
func (o *conformanceFlags) write(r *conformance.Report, stdout io.Writer, env func(string) string) (err error) {
	w := stdout
	if o.output != "" {
		file, err := os.Create(o.output)
		if err != nil {
			return fmt.Errorf("--output: %w", err)
		}
		defer func() {
			if closed := file.Close(); err == nil {
				err = closed
			}
		}()
		w = file
	}
	switch o.format {
	case "json":
		return r.JSON(w)
	case "junit":
		return r.JUnit(w)
	case "html":
		return r.HTML(w)
	}
	return r.Text(w, conformance.TextOptions{Colours: newScreen(w, env).colours, Verbose: o.verbose})
}

func listCases(s *screen, cases []*conformance.Case) error {
	for _, c := range cases {
		s.printf("%s\n", s.paint(bold, c.ID))
		s.printf("%s\n", wrap(c.Level+": "+c.Requirement, "  ", s.width))
	}
	return nil
}
