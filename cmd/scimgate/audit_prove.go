package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

func newAuditProve(env func(string) string) *cobra.Command {
	f := &trailFlags{env: env}
	var output string
	cmd := &cobra.Command{
		Use:   "prove RECORD",
		Short: "Write a proof of one record",
		Long: "Write a small file that proves to somebody without the database that a record stands in the trail as it is: the\n" +
			"record's exact bytes, its path in the tree and the newest checkpoint. RECORD is the record's id or its number in\n" +
			"the trail, both as `scimgate audit search -v` shows them. Whoever has the public key verifies it with\n" +
			"`scimgate audit verify --proof`. The file has mode 0600: it may name a person.",
		Example: "  scimgate audit prove 4711 -o record.proof\n" +
			"  scimgate audit prove 0192f0c1-7e70-7a3b-8a5e-0c5d7e1a2b3c -o record.proof",
		Args: oneArg("the record's id or number"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.use(cmd, func(r *store.Reader) error {
				seq, err := recordPlace(cmd.Context(), r, args[0])
				if err != nil {
					return err
				}
				p, err := audit.Prove(cmd.Context(), r, seq)
				if err != nil {
					return err
				}
				text, err := p.Encode()
				if err != nil {
					return fmt.Errorf("write the proof: %w", err)
				}
				text = appendShownJSON(nil, text) // the same for JSON, and harmless wherever it is shown
				if output == "" || output == "-" {
					_, err := cmd.OutOrStdout().Write(text)
					return err
				}
				return writeWhole(output, f.database, "the proof", func(w io.Writer) error { _, err := w.Write(text); return err })
			})
		},
	}
	f.addDatabase(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: stdout)")
	return cmd
}

// recordPlace reads the name of a record: its number in the trail, or its id.
func recordPlace(ctx context.Context, r *store.Reader, name string) (int64, error) {
	if seq, err := strconv.ParseInt(name, 10, 64); err == nil {
		return seq, nil
	}
	return r.Find(ctx, name)
}

func newAuditCheckpoint(env func(string) string) *cobra.Command {
	f := &trailFlags{env: env}
	return f.printing(&cobra.Command{
		Use:   "checkpoint",
		Short: "Print the newest checkpoint, to be kept elsewhere",
		Long: "Print the newest signed checkpoint of the trail: how many records there were, when, and the root of the tree over\n" +
			"them. Keep one where whoever can change the database cannot: in a ticket, a mail, another machine's log. Given to\n" +
			"`scimgate audit verify --checkpoint` later, it proves that nothing before it was changed, removed or cut since.",
		Example: "  scimgate audit checkpoint > 2027-01-31.checkpoint\n" +
			"  scimgate audit verify --key trail.public-key --checkpoint 2027-01-31.checkpoint",
	}, func(ctx context.Context, r *store.Reader) (string, error) {
		note, err := r.NewestCheckpoint(ctx)
		if err == nil && note == "" {
			err = errors.New("the trail has no checkpoint yet: `scimgate serve` signs one within a second of a record")
		}
		return note, err
	})
}

func newAuditPublicKey(env func(string) string) *cobra.Command {
	f := &trailFlags{env: env}
	return f.printing(&cobra.Command{
		Use:   "public-key",
		Short: "Print the public key that the trail is verified with",
		Long: "Print the public key of the trail, from the file beside the database. `scimgate serve` prints it at its start, and\n" +
			"its admin listener answers it at /audit/public-key. Keep it elsewhere: a key that lies beside the trail can be\n" +
			"replaced together with it.",
		Example: "  scimgate audit public-key > trail.public-key",
	}, func(_ context.Context, _ *store.Reader) (string, error) {
		_, public, _ := signingFiles(f.keyFile)
		text, err := readBounded(public, 4096)
		if err == nil {
			_, err = audit.ParsePublicKey(string(text))
		}
		if err != nil {
			return "", fmt.Errorf("read the public key: %w; `scimgate serve` writes it when it starts", err)
		}
		return string(text), nil
	})
}

// printing completes a command that prints a few lines about a trail.
func (f *trailFlags) printing(cmd *cobra.Command, text func(context.Context, *store.Reader) (string, error)) *cobra.Command {
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return f.use(cmd, func(r *store.Reader) error {
			lines, err := text(cmd.Context(), r)
			if err != nil {
				return err
			}
			for line := range strings.Lines(lines) {
				fmt.Fprintln(cmd.OutOrStdout(), shownText(strings.TrimSuffix(line, "\n")))
			}
			return nil
		})
	}
	f.addDatabase(cmd)
	return cmd
}
