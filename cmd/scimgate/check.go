package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"scimgate/config"
	"scimgate/config/profile"
	"scimgate/policy"
	"scimgate/transform"
)

func newCheck(env func(string) string) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find every problem of a configuration, with line and column",
		Long: "Read the configuration as `scimgate serve` would, and print every problem at once, one a line, as\n" +
			"file:line:column: message, or with the name of the environment variable in the place of the file. Files of tokens\n" +
			"and certificates are read, and the attribute paths of profiles and overrides are compiled. Nothing is checked over\n" +
			"the network and nothing is written.\n\n" +
			"Without --config the file that SCIMGATE_CONFIG names is checked, or else the environment alone. The exit code is 1\n" +
			"if there is a problem. Without one, each connection, sink and alert is listed, then \"ok\".\n\n" + sinkHelp(),
		Example: "  scimgate check --config scimgate.yaml\n  SCIMGATE_CONFIG=scimgate.yaml scimgate check",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := newScreen(cmd.OutOrStdout(), env)
			cfg, err := loadConfig(file, env)
			if problems, ok := errors.AsType[profile.Problems](err); ok {
				for _, p := range problems {
					s.printf("%s\n", shownText(p.String()))
				}
				return errTold
			}
			if err != nil {
				return err
			}
			describeConfig(s, cfg, time.Now())
			s.printf("%s\n", s.paint(green, "ok"))
			return nil
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "configuration file (default: SCIMGATE_CONFIG, or else the environment alone)")
}

// loadConfig is config.Load, and compiles the profile of each connection too. The error is a profile.Problems.
func loadConfig(file string, env func(string) string) (*config.Config, error) {
	cfg, err := config.Load(file, env)
	problems, ok := errors.AsType[profile.Problems](err)
	if err != nil && !ok {
		return nil, err
	}
	var profiles []*profile.Profile
	if cfg != nil {
		profiles = append(profiles, cfg.Simulate)
		for _, c := range cfg.Connections {
			profiles = append(profiles, c.Profile)
		}
	} else {
		profiles = legible(cmp.Or(file, env("SCIMGATE_CONFIG")), env)
	}
	for _, p := range profiles {
		problems = uncompiled(problems, p)
	}
	if cfg != nil {
		problems = unsendable(problems, cmp.Or(file, env("SCIMGATE_CONFIG")), cfg)
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// legible are the profiles of a configuration that has problems, with their overrides, as far as they can be read: so
// that their attribute paths are checked in the same run. What cannot be read here has been told by config.Load.
func legible(file string, env func(string) string) []*profile.Profile {
	if file == "" {
		p, err := profile.Load(cmp.Or(env("SCIMGATE_PROFILE"), config.DefaultProfile))
		if err != nil {
			return nil
		}
		return []*profile.Profile{p}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, profile.MaxFile+1))
	if err != nil {
		return nil
	}
	var told profile.Problems
	var list []*profile.Profile
	top, ok := profile.Read(file, src, &told)
	if !ok {
		return nil
	}
	top.Fields(profile.Fields{"connections": func(v profile.Value) {
		for _, connection := range v.List(1, 64) {
			name := config.DefaultProfile
			var overrides *profile.Value
			connection.Fields(profile.Fields{
				"profile":   func(v profile.Value) { name = v.Text() },
				"overrides": func(v profile.Value) { overrides = &v },
			})
			if profile.IsPath(name) && !filepath.IsAbs(name) {
				name = filepath.Join(filepath.Dir(file), name)
			}
			p, err := profile.Load(name)
			if err != nil {
				continue
			}
			if overrides != nil {
				p = p.Override(*overrides)
			}
			list = append(list, p)
		}
	}})
	return list
}

// uncompiled adds to problems the attribute paths of a profile that do not compile. Transform and policy compile the
// same paths, connections may share a profile, and reading may have told a problem already: each place is told once.
func uncompiled(problems profile.Problems, p *profile.Profile) profile.Problems {
	if p == nil {
		return problems
	}
	_, shape := transform.New(p)
	_, rules := policy.New(p)
	for _, err := range []error{shape, rules} {
		found, _ := errors.AsType[profile.Problems](err)
		for _, problem := range found {
			told := func(other profile.Problem) bool {
				return other.File == problem.File && other.Line == problem.Line && other.Column == problem.Column
			}
			if !slices.ContainsFunc(problems, told) {
				problems = append(problems, problem)
			}
		}
	}
	return problems
}

// describeConfig prints what a configuration without problems is.
func describeConfig(s *screen, cfg *config.Config, now time.Time) {
	var lines [][]cell
	for _, c := range cfg.Connections {
		lines = append(lines, []cell{
			{text: c.Name, style: bold}, {text: c.Path}, {text: "profile " + shown(c.Profile.Name)},
			{text: "upstream " + shown(c.Upstream.URL)}, {text: "tokens " + tokens(c.Tokens, now)},
		})
	}
	new(table).printAll(s, lines)
	if len(cfg.Connections) == 0 {
		s.printf("no connection is configured: `scimgate serve` runs profile %s in front of its embedded simulator\n", shown(cfg.Simulate.Name))
	}
	describeSinks(s, cfg)
	warnings := append(cfg.Warnings, unknownPaths(cfg)...)
	for _, c := range cfg.Connections {
		if !slices.ContainsFunc(c.Tokens, func(t config.Token) bool { return !expired(t, now) }) {
			warnings = append(warnings, "connection "+c.Name+" has no token that is still valid: every request will be refused")
		}
	}
	for _, w := range warnings {
		s.printf("%s %s\n", s.paint(yellow, "warning:"), shownText(w))
	}
}

func expired(t config.Token, now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

func tokens(list []config.Token, now time.Time) string {
	var texts []string
	for _, t := range list {
		word := "expires"
		if expired(t, now) {
			word = "EXPIRED"
		}
		when := fmt.Sprintf("%s %s", word, t.Expires.Format(time.RFC3339))
		if t.Expires.IsZero() {
			when = "never expires"
		}
		texts = append(texts, t.Name+" ("+when+")")
	}
	return strings.Join(texts, ", ")
}
