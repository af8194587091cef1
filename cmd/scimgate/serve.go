package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/conformance/simulator"
	"scimgate/gateway/console"
)

func newServe(env func(string) string) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Long: `Run the gateway: the SCIM listener that Microsoft Entra ID is pointed at, and the admin listener with health,
readiness, metrics and the console, a web page over the trail.

The configuration is a file (--config or SCIMGATE_CONFIG) or, for a single connection, the environment alone:

  SCIMGATE_LISTEN            SCIM listener (127.0.0.1:8080)
  SCIMGATE_ADMIN_LISTEN      admin listener (127.0.0.1:9090)
  SCIMGATE_PROFILE           what the upstream can do (bluejeans); see scimgate profiles
  SCIMGATE_TOKEN[_FILE]      Secret Token that the provisioning client presents
  SCIMGATE_UPSTREAM_URL      base URL of the upstream (the profile's)
  SCIMGATE_UPSTREAM_TOKEN[_FILE]  bearer token for the upstream
  SCIMGATE_UPSTREAM_RATE     requests per second (0: the profile's)
  SCIMGATE_DATABASE          SQLite file with the trail and the identity map (scimgate.db)
  SCIMGATE_TLS_CERT, SCIMGATE_TLS_KEY     certificate and key, read again when they change
  SCIMGATE_ADMIN_TOKEN[_FILE]             asked for by the admin listener, and what people sign in to the console with

With neither, it runs in front of an embedded simulator of the upstream and prints everything needed to try it.
SIGTERM and Ctrl-C drain: requests under way are finished and recorded.`,
		Example: `  scimgate serve
  scimgate serve --config scimgate.yaml
  SCIMGATE_PROFILE=generic SCIMGATE_TOKEN_FILE=entra-token SCIMGATE_UPSTREAM_TOKEN_FILE=upstream-token \
    SCIMGATE_UPSTREAM_URL=https://scim.example.com/v2 scimgate serve`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file, env)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if toStdout(cfg) {
				out = cmd.ErrOrStderr()
			}
			return serve(cmd.Context(), cfg, newScreen(out, env), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (default: SCIMGATE_CONFIG, else the environment alone)")
	return cmd
}

func serve(ctx context.Context, cfg *config.Config, out *screen, errOut io.Writer) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25) // what is alive is small beside what a cycle leaves behind, and it waits for the upstream most of the time
	}
	log := newLogger(cfg.Log, errOut)
	var made madeTokens
	if len(cfg.Connections) == 0 {
		var stop func()
		var err error
		if made, stop, err = embedSimulator(cfg); err != nil {
			return err
		}
		defer stop()
	}
	a, err := open(ctx, cfg, log)
	if err != nil {
		return err
	}
	if err := a.start(ctx); err != nil {
		return errors.Join(err, a.stop())
	}
	greet(out, a, made)
	err = a.wait(ctx)
	if err == nil {
		out.printf("\nStopping: requests under way are finished and recorded.\n")
	}
	return errors.Join(err, a.stop())
}

// madeTokens are tokens that nobody configured, to be printed once; "" where one was.
type madeTokens struct{ secret, admin string }

// embedSimulator puts a simulator of the profile's upstream on a free loopback port, and one connection to it with
// new tokens into the configuration.
func embedSimulator(cfg *config.Config) (made madeTokens, stop func(), err error) {
	token, upstreamToken := secretToken(), secretToken()
	sim, err := simulator.New(simulator.Config{Profile: cfg.Simulate, Tokens: []string{upstreamToken}})
	if err != nil {
		return madeTokens{}, nil, err
	}
	made.secret = token
	if cfg.Admin.Token == nil {
		made.admin = secretToken()
		cfg.Admin.Token = secret.Literal(made.admin)
	}
	server := httptest.NewUnstartedServer(sim)
	server.Start()
	cfg.Connections = []config.Connection{simulated(cfg.Simulate, server.URL+simulator.DefaultBasePath, upstreamToken, "default", token)}
	return made, func() { sim.Close(); server.Close() }, nil
}

// simulated is a connection to a simulator.
func simulated(p *profile.Profile, url, upstreamToken, name, token string) config.Connection {
	return config.Connection{
		Name: name, Path: config.DefaultPath, Profile: p,
		Tokens: []config.Token{{Name: name, SHA256: sha256.Sum256([]byte(token))}},
		Upstream: config.Upstream{
			URL: url, Token: secret.Literal(upstreamToken), RequestsPerSecond: p.Rate.RequestsPerSecond, InFlight: p.Rate.InFlight,
			Queue: config.DefaultQueue, QueueWait: config.DefaultQueueWait, Timeout: config.DefaultTimeout,
			Deadline: config.DefaultDeadline, MaxBody: config.DefaultMaxBody,
		},
	}
}

// greet says where the gateway is and how to try it.
func greet(out *screen, a *app, made madeTokens) {
	token := made.secret
	out.printf("%s is ready.\n\n", out.paint(bold, version()))
	for i, c := range a.cfg.Connections {
		url := a.tenantURL(i)
		out.printf("  Tenant URL    %s\n", out.paint(bold, url))
		if token != "" {
			out.printf("  Secret Token  %s\n", out.paint(bold, token))
		} else {
			for _, t := range c.Tokens {
				out.printf("  Secret Token  the one configured as %q\n", t.Name)
			}
		}
		out.printf("  Upstream      %s, profile %s\n", c.Upstream.URL, c.Profile.Name)
	}
	out.printf("  Admin         %s/readyz, %s/metrics\n", a.adminURL(), a.adminURL())
	out.printf("  Console       %s\n", out.paint(bold, a.adminURL()+console.Base))
	switch {
	case made.admin != "":
		out.printf("  Admin token   %s\n", out.paint(bold, made.admin))
	case a.cfg.Admin.Token == nil:
		out.printf("  Admin token   none is configured: nobody can sign in to the console\n")
	}
	out.printf("  Trail         %s\n", a.cfg.Database)
	out.printf("  Public key    %s\n", a.signer.PublicKey())
	if a.cfg.TLS.Cert == "" {
		out.printf("\nPlain HTTP: Entra itself speaks only HTTPS. Put a proxy that ends TLS in front, or configure tls.\n")
	}
	if token == "" {
		return
	}
	url := a.tenantURL(0)
	out.printf(`
There is no configuration, so the upstream is an embedded simulator: nothing leaves this machine, and its users are
gone when it stops. Try it:

  TOKEN=%s
  curl -s -w '\n' -H "Authorization: Bearer $TOKEN" "%s/Users?filter=userName+eq+%%22ann%%40example.com%%22"
  curl -s -w '\n' -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/scim+json" %s/Users -d '{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ann@example.com","externalId":"e-1","active":true,"name":{"givenName":"Ann","familyName":"Lee"}}'
  curl -s -w '\n' -H "Authorization: Bearer $TOKEN" "%s/Users?filter=externalId+eq+%%22e-1%%22"
  %s audit tail

`, token, url, url, url, programName())
}

// programName is how the program was called, for lines that people copy.
func programName() string {
	if name := os.Args[0]; !strings.Contains(name, "go-build") {
		return name
	}
	return "go run ./cmd/scimgate" // its binary is gone when it ends
}

// newLogger logs as configured: text for people on a terminal, else JSON.
func newLogger(l config.Log, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.Level}
	if _, ok := terminal(w); l.Format == "text" || l.Format != "json" && ok {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
