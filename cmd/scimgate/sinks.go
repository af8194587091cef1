package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// sinkStore is the trail as sinks follow it: through connections of its own, so that a search through a long trail does
// not hold up a sink, nor a sink a search.
type sinkStore struct {
	*store.Reader
	writer *store.Store
}

func (s sinkStore) PutCursor(ctx context.Context, name string, c audit.Cursor) error {
	return s.writer.PutCursor(ctx, name, c)
}

// openSinks makes what carries the trail to its sinks.
func (a *app) openSinks(ctx context.Context) (err error) {
	if a.feedReader, err = store.OpenReadOnly(ctx, a.cfg.Database); err != nil {
		return fmt.Errorf("the sinks: %w", err)
	}
	var list []audit.SinkConfig
	for i := range a.cfg.Sinks {
		list = append(list, sinkConfig(&a.cfg.Sinks[i]))
	}
	if err := a.forgetSinks(ctx); err != nil {
		return err
	}
	a.feeds, err = audit.NewFeeds(audit.FeedsConfig{Store: sinkStore{a.feedReader, a.store}, Sinks: list, Checkpoint: a.feedReader.CheckpointWithin, Logger: a.log})
	if err != nil {
		return err
	}
	if toStdout(a.cfg) {
		signal.Ignore(syscall.SIGPIPE) // a reader that goes away must not take the gateway with it
	}
	a.metrics.WatchSinks(a.feeds)
	return nil
}

// forgetSinks drops the cursors of sinks that are no longer configured: what they have not got would never be pruned.
func (a *app) forgetSinks(ctx context.Context) error {
	cursors, err := a.feedReader.Cursors(ctx)
	if err != nil {
		return err
	}
	for name := range cursors {
		if slices.ContainsFunc(a.cfg.Sinks, func(s config.Sink) bool { return s.Name == name }) {
			continue
		}
		a.log.Warn("a sink is no longer configured: its place in the trail is forgotten", "sink", name)
		if err := a.store.DropCursor(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// openAlerts makes what tells people. The upstreams are asked when there are all.
func (a *app) openAlerts() (err error) {
	var list []audit.AlertConfig
	for i := range a.cfg.Alerts {
		list = append(list, alertConfig(&a.cfg.Alerts[i]))
	}
	a.alerts, err = audit.NewAlerts(audit.AlertsConfig{
		Trail: a.feedReader, Writable: a.store.Healthy, Sinks: a.feeds.States, Who: list, Logger: a.log,
		Upstreams: func() []audit.UpstreamState {
			states := make([]audit.UpstreamState, len(a.gateways))
			for i, g := range a.gateways {
				s := g.Upstream.State()
				states[i] = audit.UpstreamState{Connection: g.Name, Open: s.Breaker == "open", Credentials: s.CredentialProblem}
			}
			return states
		},
	})
	return err
}

// startFeeding feeds the sinks until stopFeeding is called, which hands over what is left.
func (a *app) startFeeding(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.feeds.Run(ctx)
	}()
	a.stopFeeding = func() { cancel(); <-ended }
}

func sinkConfig(s *config.Sink) audit.SinkConfig {
	return audit.SinkConfig{
		Name: s.Name, URL: s.URL, Format: s.Format, Required: s.Required, FromNow: s.FromNow, Secret: reveal(s.Secret), CAFile: s.CAFile,
		Rewind: s.Rewind, AllowPlainHTTP: s.AllowPlainHTTP, Stdout: os.Stdout,
	}
}

func alertConfig(c *config.Alert) audit.AlertConfig {
	return audit.AlertConfig{
		Name: c.Name, URL: c.URL, Causes: c.Causes, Window: c.Window, Failures: c.Failures, Secret: reveal(c.Secret), From: c.From, To: c.To,
		User: c.User, Password: reveal(c.Password), CAFile: c.CAFile, AllowPlainHTTP: c.AllowPlainHTTP,
	}
}

// reveal is a source of a secret as packages take it that know no secrets; nil for none.
func reveal(s *secret.Source) func() (string, error) {
	if s == nil {
		return nil
	}
	return func() (string, error) {
		value, err := s.Get()
		return value.Reveal(), err
	}
}

// toStdout reports whether the trail goes to standard output: then nothing else does.
func toStdout(cfg *config.Config) bool {
	for _, s := range cfg.Sinks {
		if strings.HasPrefix(s.URL, "stdout:") {
			return true
		}
	}
	return false
}

// sinkHelp lists the sinks there are.
func sinkHelp() string {
	text := "Sinks, beside the database:\n"
	for _, scheme := range slices.Sorted(maps.Keys(audit.Sinks)) {
		text += "  " + audit.Sinks[scheme].Doc + "\n"
	}
	return text + "in the format " + strings.Join(slices.Sorted(maps.Keys(audit.Formats)), " or ") + ". Alerts tell " + strings.Join(audit.Causes, ", ") + "."
}

// describeSinks prints where the trail goes and who is told. Of a URL only its beginning: a webhook's path may be a secret.
func describeSinks(s *screen, cfg *config.Config) {
	var lines [][]cell
	for _, sink := range cfg.Sinks {
		text := "sink " + beginning(sink.URL) + ", format " + sink.Format
		if sink.Required {
			text += ", required"
		}
		lines = append(lines, []cell{{text: sink.Name, style: bold}, {text: shown(text)}})
	}
	for _, a := range cfg.Alerts {
		text := "alert " + beginning(a.URL)
		if a.Causes != nil {
			text += ", of " + strings.Join(a.Causes, ", ")
		}
		lines = append(lines, []cell{{text: a.Name, style: bold}, {text: shown(text)}})
	}
	new(table).printAll(s, lines)
}

// beginning is a URL's scheme and host, or all of it where it names no host.
func beginning(text string) string {
	if u, err := url.Parse(text); err == nil && u.Host != "" {
		return u.Scheme + "://" + u.Host
	}
	return text
}

// unsendable adds to problems the sinks and alerts that cannot be made as they are configured.
func unsendable(problems profile.Problems, file string, cfg *config.Config) profile.Problems {
	for i := range cfg.Sinks {
		s := &cfg.Sinks[i]
		c := sinkConfig(s)
		if _, err := audit.OpenSink(&c); err != nil {
			problems = append(problems, profile.Problem{File: file, Line: s.Line, Column: s.Column, Message: "sink " + s.Name + ": " + err.Error()})
		}
	}
	for i := range cfg.Alerts {
		a := &cfg.Alerts[i]
		c := alertConfig(a)
		if _, err := audit.OpenAlert(&c); err != nil {
			problems = append(problems, profile.Problem{File: file, Line: a.Line, Column: a.Column, Message: "alert " + a.Name + ": " + err.Error()})
		}
	}
	return problems
}
