package main

import (
	"github.com/spf13/cobra"

	"scimgate/policy"
)

func newRules(env func(string) string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Print the policy rules and what they ask",
		Long: "Print every rule that a write has to satisfy before it is forwarded, in the order in which they are asked. The\n" +
			"first refusal ends the asking. The name of a rule stands in the trail beside each of its findings, and\n" +
			"`scimgate explain` shows what the rules say about one request.",
		Example: "  scimgate rules\n  scimgate rules --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				type rule struct {
					Name string `json:"name"`
					Doc  string `json:"doc"`
				}
				var list []rule
				for _, r := range policy.Suite {
					list = append(list, rule{r.Name, r.Doc})
				}
				return printJSON(cmd.OutOrStdout(), list)
			}
			s := newScreen(cmd.OutOrStdout(), env)
			for i, r := range policy.Suite {
				if i > 0 {
					s.printf("\n")
				}
				s.printf("%s\n%s\n", s.paint(bold, r.Name), wrap(r.Doc, "    ", s.width))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: a list of name and doc")
	return cmd
}
