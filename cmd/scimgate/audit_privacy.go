package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"scimgate/config"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// trailFiles are where the trail and its keys are, and what stands in it.
type trailFiles struct {
	database, keyFile string
	privacy           config.Privacy
	notes             io.Writer // for people; nil: none
}

// files finds the trail that the flags name.
func (f *trailFlags) files(cmd *cobra.Command) (t trailFiles, err error) {
	t.notes = cmd.ErrOrStderr()
	if f.database != "" && f.config != "" {
		return t, usage(cmd, "--database and --config both name a database: leave one out")
	}
	if t.database = f.database; t.database == "" && f.config == "" {
		t.database = f.env("SCIMGATE_DATABASE")
	}
	if t.database == "" && (f.config != "" || f.env("SCIMGATE_CONFIG") != "") {
		cfg, err := config.Load(f.config, f.env)
		if err != nil {
			return t, err
		}
		t.database, t.keyFile, t.privacy = cfg.Database, cfg.KeyFile, cfg.Privacy
		return t, nil
	}
	if t.database == "" {
		t.database = config.DefaultDatabase
	}
	if strings.Contains(t.database, "://") { // it may hold a password: it is not shown
		return t, usage(cmd, "the database is a URL: this release knows SQLite files only, name one with --database")
	}
	t.keyFile = t.database + ".key"
	return t, nil
}

// read opens the trail for use, without a lock.
func (t *trailFiles) read(ctx context.Context, use func(*store.Reader) error) error {
	r, err := store.OpenReadOnly(ctx, t.database)
	if err != nil {
		return err
	}
	return errors.Join(use(r), r.Close())
}

// write stores an event, and destroys keys with it: itself, or through the gateway that runs on the database. It waits
// for another command to end.
func (t *trailFiles) write(ctx context.Context, e *errand) error {
	wait, cancel := context.WithTimeout(ctx, errandWait)
	defer cancel()
	for {
		s, err := store.Open(ctx, store.Config{Path: t.database})
		if err == nil {
			return errors.Join(e.run(ctx, s, nil), t.signEnd(ctx, s), s.Close())
		}
		if !errors.Is(err, store.ErrLocked) {
			return err
		}
		if unheeded := e.try(wait, t.database, errandTry); !errors.Is(unheeded, errUnheeded) {
			return unheeded
		} else if wait.Err() != nil {
			return fmt.Errorf("%w; %w", unheeded, err)
		}
	}
}

// signEnd signs what a command has recorded, where no gateway does: where the signing key is at hand.
func (t *trailFiles) signEnd(ctx context.Context, s *store.Store) error {
	private, _, _ := signingFiles(t.keyFile)
	if _, err := os.Stat(private); err != nil {
		if t.notes != nil {
			fmt.Fprintf(t.notes, "what was recorded is not signed yet, because the signing key is not at hand (%s): the gateway signs it when it starts\n", shownText(err.Error()))
		}
		return nil
	}
	if err := t.sign(ctx, s); err != nil {
		return fmt.Errorf("what was recorded is not signed: %w", err)
	}
	return nil
}

// caller says who runs the command, for the trail.
func caller() string {
	who, where := "somebody", "this machine"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		where = host
	}
	return fmt.Sprintf("%s on %s, by command line", who, where)
}

func newAuditHash(env func(string) string) *cobra.Command {
	f := &trailFlags{env: env}
	var typed bool
	cmd := &cobra.Command{
		Use:   "hash PATH VALUE",
		Short: "Print what a value stands as in the trail",
		Long: "Print the keyed hash that stands in the trail for a value of an attribute, so that it can be looked for in exports\n" +
			"and sinks (`scimgate audit search --value` does it in the database): one line for each key that was ever used, the\n" +
			"newest first. VALUE is text, or - to read it from stdin, where no shell keeps it; with --json it is JSON: true, 42,\n" +
			"{\"value\": \"9\"}. It is made with the key file alone: no database is needed.",
		Example: "  scimgate audit hash title Engineer\n" +
			"  scimgate audit hash 'emails[type eq \"work\"].value' ann@example.com\n" +
			"  scimgate audit search --value title=Engineer",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage(cmd, "takes two arguments, PATH and VALUE, got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			value, err := valueOf(cmd, args[1], typed)
			if err != nil {
				return err
			}
			t, err := f.files(cmd)
			if err != nil {
				return err
			}
			hashes, err := t.hashes(args[0], value)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(hashes, "\n"))
			return err
		},
	}
	f.addDatabase(cmd)
	cmd.Flags().BoolVar(&typed, "json", false, "VALUE is JSON")
	return cmd
}

// hashValue makes the value that the flags ask for one that can be searched for.
func (f *trailFlags) hashValue(cmd *cobra.Command) error {
	if f.value == "" {
		return nil
	}
	path, value, ok := strings.Cut(f.value, "=")
	if !ok || path == "" {
		return usage(cmd, "--value: want PATH=VALUE")
	}
	t, err := f.files(cmd)
	if err != nil {
		return err
	}
	hashes, err := t.hashes(path, value)
	f.query.Hashes = strings.Join(hashes, " ")
	return err
}

// hashes returns what a value stands as in the trail.
func (t *trailFiles) hashes(path string, value any) ([]string, error) {
	keys, err := audit.LoadKeys(t.keyFile)
	if err != nil {
		return nil, err
	}
	r := audit.NewRedactor(audit.RedactorConfig{Keys: keys, Public: t.privacy.Public, Secret: t.privacy.Secret})
	hashes := r.Hashes(path, value)
	if hashes == nil {
		return nil, fmt.Errorf("such a value has no hash: in the trail it stands as %s", appendShownJSON(nil, []byte(r.Value(path, value).String())))
	}
	return hashes, nil
}

// valueOf reads the VALUE of `audit hash`.
func valueOf(cmd *cobra.Command, text string, typed bool) (value any, err error) {
	if text == "-" {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 1<<20)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the value: %w", err)
		}
		text = strings.TrimRight(line, "\r\n")
	}
	if !typed {
		return text, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err = d.Decode(&value); err == nil && d.More() {
		err = errors.New("more than one value")
	}
	if err != nil {
		return nil, usage(cmd, "VALUE is not JSON: %w", err)
	}
	return value, nil
}

func newAuditShow(env func(string) string) *cobra.Command {
	f := &trailFlags{env: env, verbose: true}
	var unseal bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print one record, with its sealed values if you may read them",
		Long: "Print one record in full; gateway/audit/RECORD.md says what each member is. ID is its number or its id. With --unseal, values that are sealed stand there as they were:\n" +
			"this needs the file of the master key, and leaves a record that says who was shown what. Values whose key was\n" +
			"destroyed (`scimgate audit erase`) are gone.",
		Example: "  scimgate audit show 42\n  scimgate audit show 42 --unseal",
		Args:    oneArg("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.files(cmd)
			if err != nil {
				return err
			}
			return t.read(cmd.Context(), func(r *store.Reader) error {
				rec, err := find(cmd, r, args[0])
				if err == nil && unseal {
					err = t.unseal(cmd.Context(), r, rec)
				}
				if err != nil {
					return err
				}
				out := f.printer(cmd)
				if err := out.all([]*audit.Record{rec}); err != nil {
					return err
				}
				if !f.json && rec.Sealed != "" && !unseal {
					fmt.Fprintln(cmd.ErrOrStderr(), "the hashed values are sealed: --unseal shows them, with the master key")
				}
				return nil
			})
		},
	}
	f.addDatabase(cmd)
	cmd.Flags().BoolVar(&f.utc, "utc", false, "time in UTC instead of the local time zone")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the record as one line of JSON; unsealed values stand in value, beside hmac")
	cmd.Flags().BoolVar(&unseal, "unseal", false, "show the sealed values, and record that they were shown")
	return cmd
}

// find returns the record with a number or an id.
func find(cmd *cobra.Command, r *store.Reader, text string) (*audit.Record, error) {
	if seq, err := strconv.ParseInt(text, 10, 64); err == nil {
		return r.Get(cmd.Context(), seq)
	}
	if _, err := audit.TimeOfID(text); err != nil {
		return nil, usage(cmd, "ID %s: want the number of a record or its id: %w", shown(text), err)
	}
	for rec, err := range r.Search(cmd.Context(), audit.Query{ID: text, Limit: 1}) {
		return rec, err
	}
	return nil, fmt.Errorf("record %s: %w", shown(text), store.ErrNotFound)
}

// unseal fills in the sealed values of a record, and records that they were read.
func (t *trailFiles) unseal(ctx context.Context, r *store.Reader, rec *audit.Record) error {
	if rec.Sealed == "" {
		return fmt.Errorf("record %d: %w", rec.Seq, audit.ErrNotSealed) // whether there is a master key or not
	}
	masters, err := audit.LoadKeys(masterFile(t.keyFile))
	if err != nil {
		return fmt.Errorf("sealed values open with the master key alone: %w", err)
	}
	sealer, err := audit.NewSealer(masters, r)
	if err != nil {
		return err
	}
	err = sealer.Unseal(ctx, rec, caller(), func(ctx context.Context, event *audit.Record) error {
		return t.write(ctx, &errand{Record: event})
	})
	if err != nil {
		return err
	}
	for i := range rec.Attributes {
		a := &rec.Attributes[i]
		for _, v := range []*audit.Value{a.Asked, a.Sent, a.Confirmed} {
			if v != nil && v.Unsealed != nil {
				v.Clear = v.Unsealed // for --json
			}
		}
	}
	return nil
}

func newAuditErase(env func(string) string) *cobra.Command {
	f := &trailFlags{env: env}
	var ids []string
	var yes bool
	cmd := &cobra.Command{
		Use:   "erase USER",
		Short: "Destroy the keys of a person's sealed values",
		Long: "Destroy the keys under which values of a person are sealed: nobody can read these values again, in the database, in\n" +
			"exports and in sinks. USER is a userName, id or externalId; who had that name, also in the past, is listed, and\n" +
			"nothing is destroyed without --yes. Records stay as they are, byte by byte, so that the trail still verifies; one\n" +
			"is added that says what was destroyed.\n\n" +
			"What this does not take away: the keyed hashes; userName, id, externalId, active and whatever the configuration\n" +
			"declares public, which are in the clear; what records about others say of the person, such as a group's members;\n" +
			"what the upstream and the gateway's identity map hold; backups of the database, which hold the keys, though only\n" +
			"under the master key: `scimgate audit keys rotate master` makes these useless to whoever has not kept the old one.\n" +
			"Values that are written from now on get a new key.",
		Example: "  scimgate audit erase ann@example.com\n  scimgate audit erase ann@example.com --yes",
		Args:    oneArg("USER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.files(cmd)
			if err != nil {
				return err
			}
			var held []*store.Holding
			err = t.read(cmd.Context(), func(r *store.Reader) (err error) {
				held, err = r.Holdings(cmd.Context(), args[0])
				return err
			})
			if err != nil {
				return err
			}
			if len(ids) > 0 {
				held = slices.DeleteFunc(held, func(h *store.Holding) bool { return !slices.Contains(ids, h.Person.ID) })
			}
			return t.erase(cmd, args[0], held, yes)
		},
	}
	f.addDatabase(cmd)
	cmd.Flags().StringSliceVar(&ids, "id", nil, "of those who had that name, only the one with this id; may be given more than once")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func (t *trailFiles) erase(cmd *cobra.Command, name string, held []*store.Holding, yes bool) error {
	if len(held) == 0 {
		return fmt.Errorf("no key of %s is there: nothing is sealed about anybody of that name or id, or it was erased before", shown(name))
	}
	out := newScreen(cmd.OutOrStdout(), func(string) string { return "" })
	var keys []string
	var persons []string
	for _, h := range held {
		who := h.Person.ResourceType + " " + h.Person.ID
		if h.Person.ID == "" {
			who = h.Person.ResourceType + " that was not created, or whose id is not known"
		}
		out.printf("%s at %s, known as %s\n", shown(who), shown(h.Person.Upstream), shown(orDash(strings.Join(h.Names, ", "))))
		out.printf("    %s; %s with sealed values under that name, from %s to %s\n", plural(len(h.Keys), "key"),
			plural(h.Records, "record"), h.First.UTC().Format(timeForm), h.Last.UTC().Format(timeForm))
		keys = append(keys, h.Keys...)
		persons = append(persons, who)
	}
	if !yes {
		out.printf("Nothing was changed: with --yes these keys are destroyed, and the values are gone for ever.\n")
		return nil
	}
	rec := &audit.Record{Kind: audit.Event, Action: audit.Erased, Subject: audit.Subject{UserName: audit.Clip(name)},
		Findings: []audit.Finding{{Rule: "privacy", Verdict: audit.Remark,
			Reason: audit.Clip(fmt.Sprintf("%s destroyed for %s, by %s", plural(len(keys), "key"), strings.Join(persons, ", "), caller()))}}}
	if len(held) == 1 {
		rec.ResourceType, rec.Subject.ID = held[0].Person.ResourceType, held[0].Person.ID
	}
	if err := t.write(cmd.Context(), &errand{Record: rec, Erase: keys}); err != nil {
		return err
	}
	out.printf("%s destroyed: the values are gone for ever.\n", plural(len(keys), "key"))
	return nil
}

func newAuditKeys(env func(string) string) *cobra.Command {
	return group(&cobra.Command{
		Use:   "keys",
		Short: "Look after the keys of the trail",
		Long: "The trail has a key for its hashes (keyFile) and a master key under which the keys of sealed values are wrapped, in\n" +
			"the file beside it that ends in .master-key.",
		Example: "  scimgate audit keys rotate master",
	}, newAuditKeysRotate(env))
}

func newAuditKeysRotate(env func(string) string) *cobra.Command {
	f := &trailFlags{env: env}
	cmd := &cobra.Command{
		Use:   "rotate master|hash",
		Short: "Replace a key of the trail",
		Long: "Replace a key of the trail by a new random one, while no gateway runs on the database. A record says that it was done.\n\n" +
			"master  wraps the keys of all persons under the new key and removes the old one from its file: the old file, and\n" +
			"        backups of the database that were made before, can then be read only together.\n" +
			"hash    new values are hashed under the new key. The old ones stay in the file, because without them nobody could\n" +
			"        search for what was hashed before; equal values do not look equal across the change.",
		Example: "  scimgate audit keys rotate master --config scimgate.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] != "master" && args[0] != "hash" {
				return usage(cmd, "takes one argument, master or hash")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.files(cmd)
			if err != nil {
				return err
			}
			if _, err := os.Stat(t.database); err != nil {
				return fmt.Errorf("there is no database to rotate a key of: %w", err)
			}
			s, err := store.Open(cmd.Context(), store.Config{Path: t.database})
			if err != nil {
				return err
			}
			said := ""
			if args[0] == "master" {
				said, err = t.rotateMaster(cmd.Context(), s)
			} else {
				said, err = t.rotateHash(cmd.Context(), s)
			}
			if err = errors.Join(err, t.signEnd(cmd.Context(), s), s.Close()); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
			return err
		},
	}
	f.addDatabase(cmd)
	return cmd
}

// rotateMaster wraps all keys of persons anew. Until that is durable the file holds both keys, so that a crash at any
// time leaves one that fits.
func (t *trailFiles) rotateMaster(ctx context.Context, s *store.Store) (string, error) {
	file := masterFile(t.keyFile)
	old, err := audit.LoadKeys(file)
	if err != nil {
		return "", err
	}
	both, err := old.Rotated()
	if err != nil {
		return "", err
	}
	sealer, err := audit.NewSealer(both, s)
	if err != nil {
		return "", err
	}
	rows, err := s.PersonKeys(ctx)
	if err != nil {
		return "", err
	}
	for i := range rows { // before anything is changed
		if rows[i], err = sealer.Rewrap(rows[i]); err != nil {
			return "", err
		}
	}
	if err := both.Save(file); err != nil {
		return "", err
	}
	done := fmt.Sprintf("the master key was replaced, and %s wrapped under the new one", plural(len(rows), "key"))
	if err := s.Rewrap(ctx, rotated(done), rows); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %s", done, filepath.Base(file)), both[len(both)-1:].Save(file)
}

func (t *trailFiles) rotateHash(ctx context.Context, s *store.Store) (string, error) {
	keys, err := audit.LoadKeys(t.keyFile)
	if err == nil {
		keys, err = keys.Rotated()
	}
	if err == nil {
		err = keys.Save(t.keyFile)
	}
	if err != nil {
		return "", err
	}
	done := fmt.Sprintf("the key of the hashes was replaced; %s, the old ones for searching", plural(len(keys), "key"))
	if _, err := s.Append(ctx, rotated(done)); err != nil {
		return "", fmt.Errorf("the key of the hashes was replaced, but that is not recorded: %w", err)
	}
	return fmt.Sprintf("%s: %s", done, filepath.Base(t.keyFile)), nil
}

func rotated(reason string) *audit.Record {
	return &audit.Record{Kind: audit.Event, Action: audit.Rotated,
		Findings: []audit.Finding{{Rule: "privacy", Verdict: audit.Remark, Reason: reason + ", by " + caller()}}}
}
