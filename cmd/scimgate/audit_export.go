package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

func newAuditExport(env func(string) string) *cobra.Command {
	f := &trailFlags{env: env}
	var output string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write records as JSON lines",
		Long: "Write the records that the flags select, or all, as JSON lines in the order of the trail: the bytes of each record\n" +
			"are those that are stored. The export ends with the record that is the newest when it begins. A file is complete\n" +
			"or does not appear: it is written under another name and renamed, with mode 0600 because the trail names people.\n\n" +
			"An export of the whole trail can be verified with `scimgate audit verify`: it has further lines, with \"leaves\" for\n" +
			"every 256 records and at the end with \"checkpoint\". They are left out of a selection, which nothing can be proven\n" +
			"of as a whole (`scimgate audit prove` proves single records), and on a terminal.",
		Example: "  scimgate audit export -o trail.jsonl\n" +
			"  scimgate audit export --since 2027-01-01T00:00:00Z --until 2027-02-01T00:00:00Z | gzip > january.jsonl.gz",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.read(cmd, func(r *store.Reader, q audit.Query) error {
				e := &exporter{reader: r, database: f.database, query: q, messages: newScreen(cmd.ErrOrStderr(), env)}
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
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: stdout)")
	return cmd
}

// exporter writes records as JSON lines.
type exporter struct {
	reader   *store.Reader
	database string // its path
	query    audit.Query
	messages *screen
	safe     bool // for a terminal: invisible characters as escapes
}

// write writes the selected records and counts them.
func (e *exporter) write(ctx context.Context, w io.Writer) (written int64, err error) {
	head, err := e.reader.Stats(ctx)
	if err != nil {
		return 0, err
	}
	progress := progress{screen: e.messages, total: head.Records}
	defer progress.end()
	if e.query == (audit.Query{}) && !e.safe {
		return audit.Export(ctx, e.reader, head.Records, w, progress.at)
	}
	buffer := bufio.NewWriterSize(w, 256<<10)
	var line []byte
	for rec, err := range e.reader.Search(ctx, e.query) {
		if err != nil {
			return written, errors.Join(err, buffer.Flush())
		}
		if rec.Seq > head.Records {
			break
		}
		if line = audit.Append(line[:0], rec); e.safe {
			line = appendShownJSON(nil, line)
		}
		if _, err := buffer.Write(append(line, '\n')); err != nil {
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
	for _, suffix := range []string{"", "-wal", "-shm", ".lock", ".key", ".signing-key", ".public-key", ".checkpoint"} {
		if other, err := os.Stat(database + suffix); err == nil && os.SameFile(info, other) {
			return true
		}
	}
	return false
}
