package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"scimgate/config/profile"
)

func newProfiles(env func(string) string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profiles",
		Short: "List the built-in profiles of upstream service providers",
		Long: "List the built-in profiles with their limits in short. A profile describes what an upstream service provider can\n" +
			"do: its resource types, attributes, filters and limits. `scimgate profiles show NAME` prints one as YAML; save it\n" +
			"under another name, change it, and give its path in the configuration.",
		Example: "  scimgate profiles\n  scimgate profiles show bluejeans",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := newScreen(cmd.OutOrStdout(), env)
			var lines [][]cell
			for _, name := range profile.Names() {
				p, err := profile.Load(name)
				if err != nil {
					return err
				}
				lines = append(lines, []cell{{text: p.Name, style: bold}, {text: p.Title}, {text: resourceNames(p)}, {text: limits(p)}})
			}
			new(table).printAll(s, lines)
			return nil
		},
	}
	cmd.AddCommand(newProfilesShow())
	return cmd
}

func newProfilesShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Print a built-in profile as YAML",
		Long: "Print a built-in profile as YAML, with its comments. Every line of the bluejeans profile says whether it is\n" +
			"documented, assumed or our choice.",
		Example: "  scimgate profiles show bluejeans\n  scimgate profiles show generic > my-upstream.yaml",
		Args:    oneArg("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(profile.Names(), args[0]) {
				return usage(cmd, "no profile %s is built in: there is %s", shown(args[0]), strings.Join(profile.Names(), ", "))
			}
			src, err := profile.Source(args[0])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(src)
			return err
		},
	}
}

func resourceNames(p *profile.Profile) string {
	var names []string
	for _, r := range p.Resources {
		names = append(names, r.Name)
	}
	return strings.Join(names, ", ")
}

// limits tells in short what a profile's upstream cannot do.
func limits(p *profile.Profile) string {
	var list []string
	for _, r := range p.Resources {
		if !r.Complete {
			list = append(list, plural(stored(&r), "attribute")+", others: "+string(r.Unlisted))
		}
		for _, a := range r.Attributes {
			if a.MaxLength > 0 {
				list = append(list, fmt.Sprintf("%s at most %d characters (%s)", a.Path, a.MaxLength, a.OnViolation))
			}
		}
	}
	list = append(list, filters(p))
	switch p.Update.Mode {
	case profile.UpdateSingle:
		list = append(list, "one operation per PATCH")
	case profile.UpdatePut:
		list = append(list, "PUT only")
	}
	if p.Rate.RequestsPerSecond > 0 {
		list = append(list, fmt.Sprintf("%g requests/s", p.Rate.RequestsPerSecond))
	}
	return strings.Join(list, "; ")
}

// stored counts the attributes that the upstream has.
func stored(r *profile.Resource) int {
	n := 0
	for _, a := range r.Attributes {
		if a.Handling == "" {
			n++
		}
	}
	return n
}

func filters(p *profile.Profile) string {
	if p.Filter.All {
		return "any filter"
	}
	var list []string
	for _, r := range p.Resources {
		for _, a := range r.Attributes {
			if len(a.Filter) > 0 {
				list = append(list, a.Path+" "+strings.Join(a.Filter, "/"))
			}
		}
	}
	if len(list) == 0 {
		return "no filters"
	}
	return "filters: " + strings.Join(list, ", ")
}
