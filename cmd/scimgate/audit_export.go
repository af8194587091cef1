package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

func newAuditExport(env func(string) string) *cobra.Command {
	f := &trailFlags{env: env}
	var output, format string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write records to a file",
		Long: "Write the records that the flags select, or all, in the order of the trail. --format jsonl, the default, is JSON\n" +
			"lines: the bytes of each record are those that are stored. ocsf are events of OCSF 1.8 as JSON lines: API Activity\n" +
			"(6003) for each request, and Account Change (3001) for each change of an account. csv is for spreadsheets: an\n" +
			"apostrophe stands before what they would take for a formula, and escapes for what is invisible. The export ends with the record that is the newest when it begins. A file is complete\n" +
			"or does not appear: it is written under another name and renamed, with mode 0600 because the trail names people.",
		Example: "  scimgate audit export -o trail.jsonl\n" +
			"  scimgate audit export --format csv --action refused -o refused.csv\n" +
			"  scimgate audit export --since 2027-01-01T00:00:00Z --until 2027-02-01T00:00:00Z | gzip > january.jsonl.gz",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			form, ok := exportForms[format]
			if !ok {
				return usage(cmd, "--format %s: want one of %s", shown(format), strings.Join(slices.Sorted(maps.Keys(exportForms)), ", "))
			}
			return f.read(cmd, func(r *store.Reader, q audit.Query) error {
				e := &exporter{reader: r, database: f.database, query: q, form: form, messages: newScreen(cmd.ErrOrStderr(), env)}
				if output == "" || output == "-" {
					_, e.safe = terminal(cmd.OutOrStdout())
					_, err := e.write(cmd.Context(), cmd.OutOrStdout())
					return err
				}
				n, err := e.writeFile(cmd.Context(), output)
				if err == nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "%s exported to %s\n", plural(int(n), "record"), shown(output))
				}
				return err
			})
		},
	}
	f.addDatabase(cmd)
	f.addSelection(cmd)
	f.addRange(cmd)
	cmd.Flags().StringVar(&format, "format", "jsonl", "form of the records: jsonl, ocsf or csv")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: stdout)")
	return cmd
}

// exporter writes records.
type exporter struct {
	reader   *store.Reader
	database string // its path
	query    audit.Query
	form     exportForm
	messages *screen
	safe     bool // for a terminal: invisible characters as escapes
}

// write writes the selected records and counts them.
func (e *exporter) write(ctx context.Context, w io.Writer) (written int64, err error) {
	head, err := e.reader.Stats(ctx)
	if err != nil {
		return 0, err
	}
	progress := progress{screen: e.messages, total: head.Newest}
	defer progress.end()
	if e.query == (audit.Query{}) && e.form.verifiable && !e.safe {
		return audit.Export(ctx, e.reader, head.Newest, w, progress.at)
	}
	buffer := bufio.NewWriterSize(w, 256<<10)
	buffer.Write(e.form.head) // an error stays with the buffer
	var line []byte
	for rec, err := range e.reader.Search(ctx, e.query) {
		if err != nil {
			return written, errors.Join(err, buffer.Flush())
		}
		if rec.Seq > head.Newest {
			break
		}
		if line = e.form.line(line[:0], rec); e.safe {
			line = appendShownJSON(nil, line)
		}
		if _, err := buffer.Write(line); err != nil {
			return written, fmt.Errorf("write the export: %w", err)
		}
		written++
		progress.at(rec.Seq)
	}
	if err := buffer.Flush(); err != nil {
		return written, fmt.Errorf("write the export: %w", err)
	}
	return written, nil
}

// writeFile writes the export to a file.
func (e *exporter) writeFile(ctx context.Context, path string) (written int64, err error) {
	err = writeWhole(path, e.database, "the export", func(w io.Writer) error {
		written, err = e.write(ctx, w)
		return err
	})
	return written, err
}

// writeWhole makes the file at path appear when it is complete and durable. what names it in errors.
func writeWhole(path, database, what string, write func(io.Writer) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file: name another, or leave -o out to write to stdout", path)
	}
	if isDatabase(path, database) {
		return fmt.Errorf("%s belongs to the database: name another file", path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", what, err)
	}
	defer func() {
		if err != nil {
			_ = file.Close() // it may be closed already, and nothing of it is kept
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if err = write(file); err != nil {
		return err
	}
	for _, step := range []func() error{file.Sync, file.Close, func() error { return os.Rename(file.Name(), path) }} {
		if err = step(); err != nil {
			return fmt.Errorf("write %s: %w", what, err)
		}
	}
	return nil
}

// isDatabase reports whether path is one of the files that a gateway needs.
func isDatabase(path, database string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	for _, suffix := range []string{"", "-wal", "-shm", ".lock", ".key", ".master-key", ".signing-key", ".public-key", ".checkpoint"} {
		if other, err := os.Stat(database + suffix); err == nil && os.SameFile(info, other) {
			return true
		}
	}
	return false
}
