// Command scimgate is a SCIM 2.0 gateway between a provisioning client such as Microsoft Entra ID and an upstream
// service provider whose SCIM is narrower.
//
// This package is wiring only, one file for each subcommand. What a subcommand finds goes to stdout; logs, progress
// and errors go to stderr, an error once and in one line that says what to do. Nothing from outside reaches a
// terminal raw: see shown.
//
// Exit codes: 0 is success, 1 says that what was looked at has a problem or that something failed, 2 that the command
// was not called in a way that can be answered.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"scimgate/config/profile"
)

func main() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv)) }

// Main is the whole program; it returns the exit code. The first SIGINT or SIGTERM asks the command to stop, the
// second one ends the process.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	return run(ctx, args, stdin, stdout, stderr, env)
}

// Exit codes.
const (
	exitOK      = 0
	exitProblem = 1
	exitUsage   = 2
)

// commands are the subcommands. env is os.Getenv.
func commands(env func(string) string) []*cobra.Command {
	return []*cobra.Command{
		newServe(env), newDemo(env), newSimulate(), newConformance(env),
		newCheck(env), newExplain(env), newAudit(env), newProfiles(env), newRules(env), newToken(), newHealth(env), newVersion(),
	}
}

// run is Main without signals: the end of ctx asks the command to stop.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string) int {
	out := &checkedWriter{w: stdout}
	root := newRoot(env)
	root.SetArgs(append([]string{}, args...)) // nil would mean os.Args
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if lost := out.failed(); err == nil && lost != nil {
		err = fmt.Errorf("write the output: %w", lost)
	}
	return report(stderr, cmd, err)
}

func newRoot(env func(string) string) *cobra.Command {
	root := group(&cobra.Command{
		Use:   "scimgate",
		Short: "A SCIM 2.0 gateway in front of a narrower service provider",
		Long: "scimgate is a SCIM 2.0 gateway. A provisioning client such as Microsoft Entra ID is pointed at it; it carries each\n" +
			"request to an upstream service provider whose SCIM is narrower, within that upstream's limits, and writes every\n" +
			"decision and every call to a durable audit trail.\n\n" +
			"Exit codes: 0 success; 1 what was looked at has a problem, or something failed; 2 wrong usage.",
		Example: "  scimgate check --config scimgate.yaml\n" +
			"  scimgate explain --config scimgate.yaml < request.txt\n" +
			"  scimgate audit tail --follow",
		Version: version(),
	}, commands(env)...)
	root.SilenceUsage, root.SilenceErrors = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%w", err) })
	root.SetHelpCommand(newHelp())
	return root
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Print the help of a command", Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usage(cmd, "there is no command %s", shown(strings.Join(args, " ")))
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
	}
}

// group makes a command that does nothing but hold others.
func group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(subcommands...)
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = cobra.ArbitraryArgs // RunE says what is wrong with them
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			cmd.SetOut(cmd.ErrOrStderr())
			return errors.Join(cmd.Help(), &usageError{errTold})
		}
		hint := ""
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = " (did you mean " + near[0] + "?)"
		}
		return usage(cmd, "there is no command %s%s", shown(args[0]), hint)
	}
	return cmd
}

// noArgs is cobra.NoArgs as a usageError.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, "takes no arguments, got %s", shown(args[0]))
	}
	return nil
}

// oneArg wants exactly one argument.
func oneArg(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage(cmd, "takes one argument, %s, got %d", name, len(args))
		}
		return nil
	}
}

// usageError makes the exit code exitUsage.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usage says what is wrong with how cmd was called.
func usage(cmd *cobra.Command, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
}

// errTold ends a command with exitProblem when its output has said why already.
var errTold = errors.New("told already")

// report prints the error that ended a command, if any, and returns the exit code.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitProblem
	if _, ok := errors.AsType[*usageError](err); ok {
		code = exitUsage
	}
	if errors.Is(err, errTold) {
		return code
	}
	if problems, ok := errors.AsType[profile.Problems](err); ok {
		for _, p := range problems {
			fmt.Fprintln(w, shownText(p.String()))
		}
		return code
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(w, "%s: %s\n", cmd.CommandPath(), shownText(strings.ReplaceAll(err.Error(), "\n", "; ")))
	return code
}
