package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Long: "Print the version of this program: the module version it was built as, the commit and its time where the build\n" +
			"knows them, \"modified\" when files were changed after the commit, the Go release and the platform.",
		Example: "  scimgate version\n  scimgate --version",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version())
			return err
		},
	}
}

// version describes the build in one line.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	setting := map[string]string{}
	for _, s := range info.Settings {
		setting[s.Key] = s.Value
	}
	var source []string
	if commit := setting["vcs.revision"]; commit != "" {
		source = append(source, "commit "+commit[:min(12, len(commit))])
	}
	if at := setting["vcs.time"]; at != "" {
		source = append(source, at)
	}
	if setting["vcs.modified"] == "true" {
		source = append(source, "modified")
	}
	line := "scimgate " + cmp.Or(info.Main.Version, "(devel)")
	if len(source) > 0 {
		line += " (" + strings.Join(source, ", ") + ")"
	}
	return fmt.Sprintf("%s %s %s/%s", line, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
