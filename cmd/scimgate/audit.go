package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"scimgate/config"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

func newAudit(env func(string) string) *cobra.Command {
	return group(&cobra.Command{
		Use:   "audit",
		Short: "Read the audit trail",
		Long: "Read the audit trail from the database of a gateway, also while `scimgate serve` runs on it. Reading it changes nothing.\n\n" +
			"A write leaves two records, its intent and its outcome; a read, a refusal and a request without valid credentials\n" +
			"leave one. Values of attributes stand in the trail as keyed hashes, except userName, id, externalId and active.\n\n" +
			"A running gateway signs the trail about once a second: `verify` tells whether it was changed since, `prove` shows a\n" +
			"single record to somebody without the database, and `checkpoint` prints what to keep elsewhere.",
		Example: "  scimgate audit tail --follow\n" +
			"  scimgate audit search --user babs@example.com --since 24h\n" +
			"  scimgate audit export -o trail.jsonl\n" +
			"  scimgate audit verify --key trail.public-key trail.jsonl",
	}, newAuditTail(env), newAuditSearch(env), newAuditExport(env), newAuditBench(env), newAuditPrune(env), newAuditVerify(env), newAuditProve(env),
		newAuditCheckpoint(env), newAuditPublicKey(env), newAuditShow(env), newAuditHash(env), newAuditErase(env), newAuditKeys(env))
}

// trailFlags say which database, which records of it, and how they are shown.
type trailFlags struct {
	env              func(string) string
	database, config string
	keyFile          string // of the trail's keys; known when the database is open

	query         audit.Query
	value         string // becomes query.Hashes, see hashValue
	since, until  string
	utc           bool
	verbose, json bool
}

func (f *trailFlags) addDatabase(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.database, "database", "", "database file (default: SCIMGATE_DATABASE, or the configuration's, or "+config.DefaultDatabase+")")
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file that names the database (default: SCIMGATE_CONFIG)")
}

func (f *trailFlags) addSelection(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.query.User, "user", "", "records about this id, userName or externalId, in any case")
	flags.StringVar(&f.query.Action, "action", "", "records of this action: created, updated, disabled, refused, failed, ...")
	flags.StringVar(&f.query.Kind, "kind", "", "records of this kind: "+strings.Join(audit.Kinds, ", "))
	flags.StringVar(&f.query.Outcome, "outcome", "", "records of requests that ended so: "+strings.Join(audit.Outcomes, ", "))
	flags.StringVar(&f.query.Rule, "rule", "", "records with a finding of this rule, see `scimgate rules`")
	flags.StringVar(&f.query.ID, "id", "", "the record with this id")
	flags.StringVar(&f.query.RequestID, "request", "", "records of this request id, as it ends every error's detail")
	flags.StringVar(&f.query.Connection, "connection", "", "records of this connection")
	flags.StringVar(&f.query.Credential, "credential", "", "records of this Secret Token, by its name")
	flags.IntVar(&f.query.Status, "status", 0, "records with this HTTP status as the answer")
}

func (f *trailFlags) addRange(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "", "records not older than this: RFC 3339, or a duration such as 2h or 7d")
	flags.StringVar(&f.until, "until", "", "records older than this: RFC 3339, or a duration such as 2h or 7d")
	flags.IntVar(&f.query.Limit, "limit", 0, "at most so many records, 0 for all")
}

func (f *trailFlags) addForm(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.utc, "utc", false, "times in UTC instead of the local time zone")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "attributes, findings and calls below each record")
	flags.BoolVar(&f.json, "json", false, "print each record as one line of JSON")
}

// selection checks the flags and returns the query.
func (f *trailFlags) selection(cmd *cobra.Command, now time.Time) (audit.Query, error) {
	q := f.query
	q.RequestID, q.User, q.ID = strings.TrimSpace(q.RequestID), strings.TrimSpace(q.User), strings.TrimSpace(q.ID)
	var err error
	switch {
	case q.Kind != "" && !slices.Contains(audit.Kinds, q.Kind):
		return q, usage(cmd, "--kind %s: want one of %s", shown(q.Kind), strings.Join(audit.Kinds, ", "))
	case q.Outcome != "" && !slices.Contains(audit.Outcomes, q.Outcome):
		return q, usage(cmd, "--outcome %s: want one of %s", shown(q.Outcome), strings.Join(audit.Outcomes, ", "))
	case q.Status != 0 && (q.Status < 100 || q.Status > 599):
		return q, usage(cmd, "--status %d: want an HTTP status from 100 to 599", q.Status)
	case q.Limit < 0:
		return q, usage(cmd, "--limit %d: want 0 for all, or more", q.Limit)
	}
	if q.ID != "" {
		if _, err := audit.TimeOfID(q.ID); err != nil {
			return q, usage(cmd, "--id %s: %w", shown(q.ID), err)
		}
	}
	if q.Since, err = moment(f.since, now); err != nil {
		return q, usage(cmd, "--since %w", err)
	}
	if q.Until, err = moment(f.until, now); err != nil {
		return q, usage(cmd, "--until %w", err)
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return q, usage(cmd, "--since is not before --until: no record lies between them")
	}
	return q, nil
}

// moment reads a time, or a duration before now; zero for "".
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := audit.Moment(text, now)
	if err != nil {
		err = fmt.Errorf("%s: %w", shown(text), err)
	}
	return t, err
}

// open opens the database that the flags name, and leaves its path in database and that of its keys in keyFile.
func (f *trailFlags) open(cmd *cobra.Command) (*store.Reader, error) {
	if f.database != "" && f.config != "" {
		return nil, usage(cmd, "--database and --config both name a database: leave one out")
	}
	path := f.database
	if path == "" && f.config == "" {
		path = f.env("SCIMGATE_DATABASE")
	}
	if path == "" && (f.config != "" || f.env("SCIMGATE_CONFIG") != "") {
		cfg, err := config.Load(f.config, f.env)
		if err != nil {
			return nil, err
		}
		path, f.keyFile = cfg.Database, cfg.KeyFile
	}
	if path == "" {
		path = config.DefaultDatabase
	}
	if f.keyFile == "" {
		f.keyFile = path + ".key"
	}
	if strings.Contains(path, "://") { // it may hold a password: it is not shown
		return nil, usage(cmd, "the database is a URL: this release reads SQLite files only, name one with --database")
	}
	f.database = path
	return store.OpenReadOnly(cmd.Context(), path)
}

// read opens the database for use, with the query that the flags make.
func (f *trailFlags) read(cmd *cobra.Command, use func(*store.Reader, audit.Query) error) error {
	q, err := f.selection(cmd, time.Now())
	if err != nil {
		return err
	}
	return f.use(cmd, func(r *store.Reader) error { return use(r, q) })
}

// use opens the database for use.
func (f *trailFlags) use(cmd *cobra.Command, use func(*store.Reader) error) (err error) {
	r, err := f.open(cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return use(r)
}

func newAuditTail(env func(string) string) *cobra.Command {
	f := &trailFlags{env: env}
	var lines int
	var follow bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the newest records, and follow new ones",
		Long: "Print the newest records of the trail, oldest first: one line with the time, kind, action, subject, status,\n" +
			"connection and credential, number of calls upstream, milliseconds and request id. With --follow, wait for more\n" +
			"until interrupted. The flags that select records are joined by \"and\".",
		Example: "  scimgate audit tail -n 50\n" +
			"  scimgate audit tail --follow --connection entra-bluejeans -v",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if lines < 0 {
				return usage(cmd, "-n %d: want 0 or more", lines)
			}
			err := f.read(cmd, func(r *store.Reader, q audit.Query) error { return f.tail(cmd, r, q, lines, follow) })
			if follow && errors.Is(err, context.Canceled) {
				err = nil // interrupting is how one stops to follow
			}
			return err
		},
	}
	f.addDatabase(cmd)
	f.addSelection(cmd)
	f.addForm(cmd)
	cmd.Flags().IntVarP(&lines, "lines", "n", 20, "number of records")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "wait for new records until interrupted")
	return cmd
}

func (f *trailFlags) tail(cmd *cobra.Command, r *store.Reader, q audit.Query, lines int, follow bool) error {
	ctx := cmd.Context()
	out := f.printer(cmd)
	// Records beyond this one that match are found by one of the two: those that come while the newest are looked
	// for are among them, and following begins behind the last that was found.
	head, err := r.Stats(ctx)
	if err != nil {
		return err
	}
	var newest []*audit.Record
	if lines > 0 {
		q.Newest, q.Limit = true, lines
		for rec, err := range r.Search(ctx, q) {
			if err != nil {
				return err
			}
			newest = append(newest, rec)
		}
		slices.Reverse(newest)
	}
	q.Newest, q.Limit, q.After = false, 0, head.Newest
	if n := len(newest); n > 0 {
		q.After = max(q.After, newest[n-1].Seq)
	}
	if err := out.all(newest); err != nil {
		return err
	}
	if !follow {
		f.nothing(cmd, len(newest))
		return nil
	}
	return out.each(r.Follow(ctx, q), true)
}

// nothing says why nothing was printed, to people only.
func (f *trailFlags) nothing(cmd *cobra.Command, printed int) {
	if printed == 0 && !f.json {
		fmt.Fprintln(cmd.ErrOrStderr(), "no record matches")
	}
}

func newAuditSearch(env func(string) string) *cobra.Command {
	f := &trailFlags{env: env}
	cmd := &cobra.Command{
		Use:   "search",
		Short: "Find records",
		Long: "Print the records that the flags select, joined by \"and\", in the order of the trail or newest first. A record is\n" +
			"one line as in `scimgate audit tail`; -v adds what was asked, sent and confirmed for each attribute, the findings\n" +
			"of the rules and every call to the upstream.",
		Example: "  scimgate audit search --user babs@example.com -v\n" +
			"  scimgate audit search --action refused --since 2h --newest --limit 10\n" +
			"  scimgate audit search --request 0192f0c1-7e70-7a3b-8a5e-0c5d7e1a2b3c --json",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.hashValue(cmd); err != nil {
				return err
			}
			return f.read(cmd, func(r *store.Reader, q audit.Query) error {
				out := f.printer(cmd)
				if err := out.each(r.Search(cmd.Context(), q), false); err != nil {
					return err
				}
				f.nothing(cmd, out.printed)
				return nil
			})
		},
	}
	f.addDatabase(cmd)
	f.addSelection(cmd)
	f.addRange(cmd)
	f.addForm(cmd)
	cmd.Flags().BoolVar(&f.query.Newest, "newest", false, "newest first")
	cmd.Flags().StringVar(&f.value, "value", "", "records with this value of an attribute, PATH=VALUE, under any key that hashes were ever made with")
	return cmd
}

// recordPrinter prints records, one line each.
type recordPrinter struct {
	*trailFlags
	screen  *screen
	table   table
	buffer  *bufio.Writer
	printed int
}

func (f *trailFlags) printer(cmd *cobra.Command) *recordPrinter {
	s := newScreen(cmd.OutOrStdout(), f.env)
	p := &recordPrinter{trailFlags: f, screen: s, buffer: bufio.NewWriterSize(s.w, 64<<10)}
	s.w = p.buffer
	return p
}

// lineUp is how many records are printed at a time, so that their lines line up.
const lineUp = 200

// each prints records as they come; live prints each at once.
func (p *recordPrinter) each(records iter.Seq2[*audit.Record, error], live bool) error {
	var batch []*audit.Record
	for rec, err := range records {
		if err != nil {
			return errors.Join(p.all(batch), err)
		}
		if batch = append(batch, rec); live || len(batch) == lineUp {
			if err := p.all(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return p.all(batch)
}

// all prints records that are all known.
func (p *recordPrinter) all(records []*audit.Record) error {
	if p.json {
		for _, rec := range records {
			p.buffer.Write(append(appendShownJSON(nil, audit.Append(nil, rec)), '\n'))
		}
		p.printed += len(records)
		return p.buffer.Flush()
	}
	if p.printed == 0 && len(records) > 0 && p.screen.terminal {
		p.table.see(heading)
	}
	for _, rec := range records {
		p.table.see(recordLine(rec, p.utc))
	}
	for _, rec := range records {
		if p.printed == 0 && p.screen.terminal {
			p.table.print(p.screen, heading)
		}
		p.table.print(p.screen, recordLine(rec, p.utc))
		if p.verbose {
			p.details(rec)
		}
		p.printed++
	}
	return p.buffer.Flush()
}
