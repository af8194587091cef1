package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

const (
	// youngest is the age that records must have to be pruned without --force.
	youngest = 30 * 24 * time.Hour
	// pruneErrand is how many records a gateway removes for a command at a time: some seconds' work.
	pruneErrand = 1 << 14
)

// pruneFlags say what is to be removed.
type pruneFlags struct {
	trailFlags
	before                    string
	dryRun, force, leaveSinks bool
}

func newAuditPrune(env func(string) string) *cobra.Command {
	f := &pruneFlags{trailFlags: trailFlags{env: env}}
	cmd := &cobra.Command{
		Use:   "prune --before TIME",
		Short: "Remove old records",
		Long: "Remove the records at the beginning of the trail that are all older than a time, in whole stretches of 256. Their\n" +
			"hashes stay, so that the trail can still be verified, and a record is added that says which were removed, signed by the\n" +
			"trail's key: without it `scimgate audit verify` calls their absence by its name. The identity map is not touched.\n\n" +
			"The trail is verified before anything is removed. Records younger than 30 days stay unless --force is given; what a\n" +
			"sink has not got, what belongs to a write whose end is unknown, and the last records that are signed stay always,\n" +
			"and so does what follows them. `scimgate serve` may run meanwhile, and does it then. The database file keeps its\n" +
			"size and fills up again.",
		Example: "  scimgate audit prune --before 400d --dry-run\n  scimgate audit prune --before 2027-01-01T00:00:00Z",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd, time.Now()) },
	}
	f.addDatabase(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.before, "before", "", "remove what is older: RFC 3339, or a duration such as 400d (required)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be removed, and change nothing")
	flags.BoolVar(&f.force, "force", false, "also records younger than 30 days")
	flags.BoolVar(&f.leaveSinks, "leave-sinks-behind", false, "also what a sink has not got")
	return cmd
}

func (f *pruneFlags) run(cmd *cobra.Command, now time.Time) error {
	if f.before == "" {
		return usage(cmd, "--before is missing: a time, or an age such as 400d")
	}
	before, err := moment(f.before, now)
	if err != nil {
		return usage(cmd, "--before %w", err)
	}
	if now.Sub(before) < youngest && !f.force {
		return usage(cmd, "--before %s is less than 30 days ago: use --force if that is what you want", shown(f.before))
	}
	t, err := f.files(cmd)
	if err != nil {
		return err
	}
	var p store.Prunable
	if err := t.read(cmd.Context(), func(r *store.Reader) (err error) {
		if p, err = r.Prunable(cmd.Context(), before, f.leaveSinks); err != nil || p.Empty() || f.dryRun {
			return err
		}
		return t.holds(cmd.Context(), r)
	}); err != nil {
		return err
	}
	out := newScreen(cmd.OutOrStdout(), f.env)
	switch f.describe(out, &p); {
	case p.Empty():
		return nil
	case f.dryRun:
		out.printf("Nothing was changed.\n")
		return nil
	}
	progress := progress{screen: newScreen(cmd.ErrOrStderr(), f.env), total: p.Last}
	defer progress.end()
	if err := t.prune(cmd.Context(), p, f.leaveSinks, progress.at); err != nil {
		return err
	}
	progress.end()
	out.printf("They are removed.\n")
	return nil
}

// describe says what would be removed.
func (f *pruneFlags) describe(out *screen, p *store.Prunable) {
	if p.Empty() {
		why := "no 256 records at the beginning of the trail are from before " + p.Before.Format(time.RFC3339)
		if p.Held != "" {
			why = p.Held
		}
		out.printf("There is nothing to remove: %s.\n", shownText(why))
		return
	}
	out.printf("%s, %d to %d, of %s to %s: %d MB\n", plural(int(p.Last-p.First+1), "record"), p.First, p.Last,
		p.Oldest.Format(time.RFC3339), p.Newest.Format(time.RFC3339), p.Bytes/1_000_000)
	if p.Held != "" {
		out.printf("What follows stays: %s.\n", shownText(p.Held))
	}
}

// holds verifies the trail: what was changed must not be removed with the proof that it was.
func (t *trailFiles) holds(ctx context.Context, r *store.Reader) error {
	_, public, _ := signingFiles(t.keyFile)
	key, err := audit.LoadPublicKey(public)
	if err == nil {
		_, err = (&audit.Verification{Key: key}).Trail(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("nothing is removed, because the trail does not verify: %w", err)
	}
	return nil
}

// prune removes records: itself, or through the gateway that runs on the database.
func (t *trailFiles) prune(ctx context.Context, p store.Prunable, leaveSinks bool, progress func(last int64)) error {
	s, err := store.Open(ctx, store.Config{Path: t.database})
	if err == nil {
		private, _, _ := signingFiles(t.keyFile)
		signer, err := audit.SignerFor(ctx, s, private)
		if err == nil {
			err = s.Prune(ctx, store.Pruning{Before: p.Before, Last: p.Last, IgnoreSinks: leaveSinks, By: caller(), Signer: signer}, progress)
		}
		if err == nil {
			err = t.sign(ctx, s)
		}
		return errors.Join(err, s.Close())
	}
	if !errors.Is(err, store.ErrLocked) {
		return err
	}
	for first := p.First; first <= p.Last; first += pruneErrand {
		last := min(first+pruneErrand-1, p.Last)
		rec := &audit.Record{Kind: audit.Event, Action: audit.Removed, Source: caller(), Pruned: &audit.Pruned{First: first, Last: last, Before: p.Before}}
		if err := (&errand{Record: rec, LeaveSinks: leaveSinks}).send(ctx, t.database); err != nil {
			return err
		}
		progress(last)
	}
	return nil
}

// sign signs the end of the trail, where no gateway does.
func (t *trailFiles) sign(ctx context.Context, s *store.Store) error {
	private, _, kept := signingFiles(t.keyFile)
	signer, err := audit.SignerFor(ctx, s, private)
	if err != nil {
		return err
	}
	c, err := audit.NewCheckpointer(audit.CheckpointerConfig{Store: s, Signer: signer, Kept: kept})
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	c.Run(ended) // signs what is there, and ends
	return c.Healthy()
}

// prune does an errand that removes records: the store looks itself at what may be removed.
func (e *errand) prune(ctx context.Context, s *store.Store, signer *audit.Signer) error {
	what := e.Record.Pruned
	if what == nil || what.Last < 1 {
		return errors.New("the errand does not say what to prune")
	}
	return s.Prune(ctx, store.Pruning{Before: what.Before, Last: what.Last, IgnoreSinks: e.LeaveSinks, By: e.Record.Source, Signer: signer}, func(int64) {})
}
