package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"scimgate/gateway/audit"
)

// verifyFlags say what is verified and with what.
type verifyFlags struct {
	trailFlags
	key   string
	kept  []string
	proof string
	sink  bool
}

func newAuditVerify(env func(string) string) *cobra.Command {
	f := &verifyFlags{trailFlags: trailFlags{env: env}}
	cmd := &cobra.Command{
		Use:   "verify [EXPORT | --sink FILE...]",
		Short: "Prove that the trail was not changed",
		Long: "Verify the trail of a database, an export (a file as `scimgate audit export` writes it, or - for stdin), what a sink of\n" +
			"the native format was given (--sink, all files of a rotation), or a proof of one record, offline and with the public key alone. Every record is hashed again and compared with the tree that\n" +
			"the gateway has signed: a record that was changed, removed or moved is named, and so is an end that was cut off.\n" +
			"Exit code 0 only if everything holds. `scimgate serve` may run meanwhile; records behind the newest checkpoint, of\n" +
			"about a second, are counted as not signed.\n\n" +
			"What is stored proves nothing against somebody who replaces all of it by an older state, checkpoints too: keep a\n" +
			"checkpoint elsewhere from time to time (`scimgate audit checkpoint`), and name it with --checkpoint. Nor does a key\n" +
			"that lies beside the database: keep the one that `scimgate serve` prints at its start.",
		Example: "  scimgate audit verify --key trail.public-key\n" +
			"  scimgate audit verify --key trail.public-key --checkpoint january.checkpoint trail.jsonl\n" +
			"  scimgate audit verify --key trail.public-key --sink /var/log/scimgate/trail.jsonl*\n" +
			"  scimgate audit verify --key trail.public-key --proof record.proof",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.sink && len(args) == 0:
				return usage(cmd, "--sink wants the files that the sink has written")
			case len(args) > 1 && !f.sink:
				return usage(cmd, "takes one export at most, got %d; the files of a sink need --sink", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.proof != "" && (len(args) > 0 || f.database != "" || f.config != "" || len(f.kept) > 0):
				return usage(cmd, "--proof is verified with --key alone: leave the others out")
			case len(args) > 0 && (f.database != "" || f.config != ""):
				return usage(cmd, "an export is verified without a database: leave one of them out")
			case f.proof != "":
				return f.verifyProof(cmd)
			case f.sink:
				return f.verifySink(cmd, args)
			case len(args) > 0:
				return f.verifyExport(cmd, args[0])
			}
			return f.verifyDatabase(cmd)
		},
	}
	f.addDatabase(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "public key, as text or as a file with it (default: the file beside the database)")
	flags.StringArrayVar(&f.kept, "checkpoint", nil, "file with a checkpoint that was kept elsewhere; may be given more than once (default: the one beside the database, if it is there)")
	flags.BoolVar(&f.sink, "sink", false, "the files are what a sink of the native format was given, in any order")
	flags.StringVar(&f.proof, "proof", "", "file with the proof of one record")
	return cmd
}

// publicKey reads the key. Without --key it is the one at fallback, if that is not empty.
func (f *verifyFlags) publicKey(cmd *cobra.Command, fallback string) (*audit.PublicKey, error) {
	switch {
	case f.key == "" && fallback == "":
		return nil, usage(cmd, "--key is missing: the public key, as `scimgate serve` and `scimgate audit public-key` print it, or a file with it")
	case f.key == "":
		key, err := audit.LoadPublicKey(fallback)
		if err != nil {
			return nil, fmt.Errorf("%w; name the key with --key", err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "The key is %s: one from the same disk as the trail proves less than one kept elsewhere.\n", shown(fallback))
		return key, nil
	}
	if _, err := os.Stat(f.key); err != nil && strings.Contains(f.key, "+") {
		key, err := audit.ParsePublicKey(f.key)
		if err != nil {
			return nil, usage(cmd, "--key: %w", err)
		}
		return key, nil
	}
	return audit.LoadPublicKey(f.key)
}

// verification reads the checkpoints that were kept.
func (f *verifyFlags) verification(cmd *cobra.Command, key *audit.PublicKey) (*audit.Verification, error) {
	v := &audit.Verification{Key: key}
	for _, name := range f.kept {
		text, err := readBounded(name, 64<<10)
		if err != nil {
			return nil, fmt.Errorf("read the checkpoint: %w", err)
		}
		if _, err := key.Open(string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		v.Kept = append(v.Kept, string(text))
	}
	return v, nil
}

// readBounded reads a file that is not expected to be longer than most.
func readBounded(name string, most int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s has more than %d bytes: this is another kind of file", name, most)
	}
	return content, err
}

func (f *verifyFlags) verifyDatabase(cmd *cobra.Command) (err error) {
	r, err := f.open(cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	_, public, kept := signingFiles(f.keyFile)
	key, err := f.publicKey(cmd, public)
	if err != nil {
		return err
	}
	if _, err := os.Stat(kept); err == nil && len(f.kept) == 0 {
		f.kept = []string{kept}
	}
	head, err := r.Stats(cmd.Context())
	if err != nil {
		return err
	}
	return f.verify(cmd, key, head.Newest, func(ctx context.Context, v *audit.Verification) (*audit.Summary, error) { return v.Trail(ctx, r) })
}

func (f *verifyFlags) verifyExport(cmd *cobra.Command, name string) error {
	key, err := f.publicKey(cmd, "")
	if err != nil {
		return err
	}
	in := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("read the export: %w", err)
		}
		defer file.Close()
		in = file
	}
	return f.verify(cmd, key, 0, func(ctx context.Context, v *audit.Verification) (*audit.Summary, error) { return v.Export(ctx, in) })
}

// verifySink verifies the files of a sink, in the order of the records that they begin with.
func (f *verifyFlags) verifySink(cmd *cobra.Command, names []string) error {
	key, err := f.publicKey(cmd, "")
	if err != nil {
		return err
	}
	var files []audit.SinkFile
	first := map[string]int64{}
	for _, name := range names {
		if name == "-" && len(names) == 1 {
			files = append(files, audit.SinkFile{Name: "stdin", Reader: cmd.InOrStdin()})
			continue
		}
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("read the sink's file: %w", err)
		}
		defer file.Close()
		if len(names) > 1 {
			if first[name], err = audit.FirstRecord(file); err == nil {
				_, err = file.Seek(0, io.SeekStart)
			}
			if err != nil {
				return fmt.Errorf("read the sink's file %s: %w", name, err)
			}
		}
		files = append(files, audit.SinkFile{Name: name, Reader: file})
	}
	slices.SortStableFunc(files, func(a, b audit.SinkFile) int { return cmp.Compare(first[a.Name], first[b.Name]) })
	return f.verify(cmd, key, 0, func(ctx context.Context, v *audit.Verification) (*audit.Summary, error) { return v.Sink(ctx, files) })
}

// verify runs a verification and prints what it came to.
func (f *verifyFlags) verify(cmd *cobra.Command, key *audit.PublicKey, total int64, run func(context.Context, *audit.Verification) (*audit.Summary, error)) error {
	v, err := f.verification(cmd, key)
	if err != nil {
		return err
	}
	progress := progress{screen: newScreen(cmd.ErrOrStderr(), f.env), total: total}
	v.Progress = progress.at
	begun := time.Now()
	sum, err := run(cmd.Context(), v)
	took := time.Since(begun)
	progress.end()
	if err != nil {
		return err
	}
	out := newScreen(cmd.OutOrStdout(), f.env)
	out.printf("%s\n", out.paint(green, "The trail holds: nothing was changed, removed, reordered or cut."))
	out.printf("  key          %s\n", shown(key.Name()))
	out.printf("  records      %d, in %s: %.0f records/s\n", sum.Records, took.Round(time.Millisecond), float64(sum.Records)/took.Seconds())
	if sum.Repeated > 0 {
		out.printf("  again        %s that came more than once, each time the same\n", plural(int(sum.Repeated), "record"))
	}
	if sum.Pruned > 0 {
		out.printf("  pruned       the first %d of them, as a signed record says: their hashes hold\n", sum.Pruned)
	}
	out.printf("  checkpoints  %d, the newest of %s over %s\n", sum.Checkpoints, sum.Newest.Time.Format(time.RFC3339), plural(int(sum.Signed), "record"))
	if unsigned := sum.Records - sum.Signed; unsigned > 0 {
		out.printf("  not signed   %s behind it: %s\n", plural(int(unsigned), "record"), out.paint(yellow,
			"expected of a second's worth, from a running gateway or one that crashed"))
	}
	return nil
}

func (f *verifyFlags) verifyProof(cmd *cobra.Command) error {
	key, err := f.publicKey(cmd, "")
	if err != nil {
		return err
	}
	file, err := readBounded(f.proof, 8<<20)
	if err != nil {
		return fmt.Errorf("read the proof: %w", err)
	}
	p, c, err := audit.VerifyProof(file, key)
	if err != nil {
		return fmt.Errorf("%s: %w", f.proof, err)
	}
	out := newScreen(cmd.OutOrStdout(), f.env)
	out.printf("%s\n", out.paint(green, fmt.Sprintf("The proof holds: this is record %d of the trail.", p.Seq)))
	out.printf("  key          %s\n", shown(key.Name()))
	out.printf("  checkpoint   of %s over %s\n", c.Time.Format(time.RFC3339), plural(int(c.Size), "record"))
	out.printf("  record       %s\n", appendShownJSON(nil, []byte(p.Record)))
	return nil
}
