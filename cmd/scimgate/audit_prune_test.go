package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"scimgate/config"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

// prunable makes a signed trail of old records, and leaves it open.
func prunable(t *testing.T, path string, n int) (*store.Store, trailFiles) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2020, 11, 22, 8, 0, 0, 0, time.UTC)
	err = s.AppendAll(t.Context(), func(yield func(*audit.Record) bool) {
		for i := range n {
			if !yield(&audit.Record{Time: at.Add(time.Duration(i) * time.Minute), Action: audit.Matched, Answer: audit.Answer{Status: 200}}) {
				return
			}
		}
	})
	files := trailFiles{database: path, keyFile: path + ".key"}
	if err == nil {
		err = files.sign(t.Context(), s)
	}
	if err != nil {
		t.Fatal(err)
	}
	private, public, _ := signingFiles(files.keyFile)
	signer, err := audit.LoadSigner(private)
	if err == nil {
		err = signer.WritePublicKey(public)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, files
}

// auditCommand runs `scimgate audit` on a database.
func auditCommand(t *testing.T, database, args string) (code int, out string) {
	t.Helper()
	var b strings.Builder
	code = run(t.Context(), append([]string{"audit"}, strings.Fields(args+" --database "+database)...), strings.NewReader(""), &b, &b, func(string) string { return "" })
	return code, b.String()
}

func TestAuditPrune(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s, _ := prunable(t, path, 1000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	command := func(args string) (int, string) { return auditCommand(t, path, args) }
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"prune", exitUsage, "--before is missing"},
		{"prune --before soon", exitUsage, "--before soon: want a time such as"},
		{"prune --before 29d", exitUsage, "--before 29d is less than 30 days ago: use --force"},
		{"prune --before 2020-11-22T08:00:00Z", exitOK, "There is nothing to remove"},
		{"prune --before 29d --force --dry-run", exitOK, "768 records, 1 to 768, of 2020-11-22T08:00:00Z to 2020-11-22T20:47:00Z: 0 MB\nWhat follows stays: record 769 is among the last that are signed.\nNothing was changed.\n"},
		{"export --limit 1", exitOK, `"seq":1,`},
		{"prune --before 2020-11-22T17:00:00Z", exitOK, "512 records, 1 to 512, of 2020-11-22T08:00:00Z to 2020-11-22T16:31:00Z: 0 MB\nThey are removed.\n"},
		{"verify", exitOK, "records      1001,"},
		{"verify", exitOK, "pruned       the first 512 of them, as a signed record says"},
		{"search --limit 1 --json", exitOK, `"seq":513,`},
		{"search --action pruned --json", exitOK, `"pruned":{"first":1,"last":512,"before":"2020-11-22T17:00:00Z","signature":"`},
		{"search --action pruned --json", exitOK, "by command line"},
		{"prune --before 40d", exitOK, "256 records, 513 to 768, of"},
		{"verify", exitOK, "pruned       the first 768 of them"},
	} {
		if code, out := command(tt.args); code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%s: got %d %q, want %d and %q", tt.args, code, out, tt.code, tt.want)
		}
	}
	file := filepath.Join(t.TempDir(), "trail.jsonl")
	if code, out := command("export -o " + file); code != exitOK {
		t.Fatal(out)
	}
	var out strings.Builder
	args := []string{"audit", "verify", "--key", path + ".public-key", file}
	if code := run(t.Context(), args, strings.NewReader(""), &out, &out, func(string) string { return "" }); code != exitOK || !strings.Contains(out.String(), "pruned       the first 768") {
		t.Errorf("the export: got %d %s", code, out.String())
	}
}

// What a gateway does for a command, portion by portion.
func TestPruneErrand(t *testing.T) {
	s, files := prunable(t, filepath.Join(t.TempDir(), "gate.db"), 2000)
	defer s.Close()
	private, _, _ := signingFiles(files.keyFile)
	signer, err := audit.LoadSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	for _, tt := range []struct{ asked, first int64 }{{512, 513}, {512, 513}, {100_000, 1793}} { // never more than may be removed
		e := &errand{Record: &audit.Record{Kind: audit.Event, Action: audit.Removed, Source: "ann", Pruned: &audit.Pruned{First: 1, Last: tt.asked, Before: before}}}
		if err := e.run(t.Context(), s, signer); err != nil {
			t.Fatal(err)
		}
		for rec, err := range s.Search(t.Context(), audit.Query{Limit: 1}) {
			if err != nil || rec.Seq != tt.first {
				t.Errorf("asked for %d: the first record is %d, %v, want %d", tt.asked, rec.Seq, err, tt.first)
			}
		}
	}
	if err := (&errand{Record: &audit.Record{Kind: audit.Event, Action: audit.Removed}}).run(t.Context(), s, signer); err == nil || fmt.Sprint(err) != "the errand does not say what to prune" {
		t.Errorf("got %v", err)
	}
}

// A gateway that runs removes the records itself, and goes on recording meanwhile; the trail holds then.
func TestAuditPruneWhileServing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s, files := prunable(t, path, 20_000)
	defer s.Close()
	private, _, kept := signingFiles(files.keyFile)
	signer, err := audit.LoadSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	signing, err := audit.NewCheckpointer(audit.CheckpointerConfig{Store: s, Signer: signer, Kept: kept, Every: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	a := &app{cfg: &config.Config{Database: path}, store: s, signer: signer, log: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(t.Context())
	var gateway sync.WaitGroup
	gateway.Go(func() { a.doErrands(ctx) })
	gateway.Go(func() { signing.Run(ctx) })
	recorded := int64(0)
	gateway.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.Append(context.WithoutCancel(ctx), &audit.Record{Action: audit.Read, Answer: audit.Answer{Status: 200}}); err != nil {
				t.Errorf("a request meanwhile: %v", err)
				return
			}
			recorded++
		}
	})
	code, out := auditCommand(t, path, "prune --before 40d")
	if first, err := s.Last(t.Context(), 1); code != exitOK || !strings.Contains(out, "19968 records, 1 to 19968, of") || err != nil || len(first) != 1 {
		t.Errorf("got %d %s, %v", code, out, err)
	}
	stop()
	gateway.Wait()
	if err := signing.Healthy(); err != nil {
		t.Error(err)
	}
	if code, out := auditCommand(t, path, "verify"); code != exitOK || !strings.Contains(out, "the first 19968 of them") {
		t.Errorf("got %d %s", code, out)
	}
	st, err := s.Stats(t.Context())
	if want := 20_000 + recorded + 2; err != nil || st.Newest != want || st.Records != want-19_968 { // two events: it is done in two portions
		t.Errorf("got %+v, %v, want %d records up to %d", st, err, want-19_968, want)
	}
	if code, out := auditCommand(t, path, "prove 7"); code != exitProblem || !strings.Contains(out, "record 7 is not there any more, the first that is left is 19969") {
		t.Errorf("the proof of a record that was pruned: got %d %s", code, out)
	}
}

// What a sink has not got stays, unless it is left behind.
func TestAuditPruneWaitsForSinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s, _ := prunable(t, path, 1000)
	if err := errors.Join(s.PutCursor(t.Context(), "siem", audit.Cursor{Seq: 300}), s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, want string }{
		{"prune --before 40d --dry-run", `256 records, 1 to 256, of`},
		{"prune --before 40d", `What follows stays: record 301 has not reached the sink "siem" yet: wait until it has, or remove the sink.`},
		{"prune --before 40d", `There is nothing to remove: record 301 has not reached the sink "siem" yet: wait until it has, or remove the sink.`},
		{"prune --before 40d --leave-sinks-behind", "512 records, 257 to 768, of"},
		{"verify", "the first 768 of them"},
	} {
		if code, out := auditCommand(t, path, tt.args); code != exitOK || !strings.Contains(out, tt.want) {
			t.Errorf("%s: got %d %q, want %q", tt.args, code, out, tt.want)
		}
	}
}

// What was changed is not removed together with the proof that it was.
func TestAuditPruneOfAChangedTrail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s, _ := prunable(t, path, 1000)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte(`"seq":77,`))
	if at < 0 {
		t.Fatal("record 77 is not in the file")
	}
	text[at+len(`"seq":77,"id":"`)] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := auditCommand(t, path, "prune --before 40d")
	if code != exitProblem || !strings.Contains(out, "nothing is removed, because the trail does not verify: record 77 was changed") {
		t.Errorf("got %d %s", code, out)
	}
	if code, out := auditCommand(t, path, "search --limit 1 --json"); code != exitOK || !strings.Contains(out, `"seq":1,`) {
		t.Errorf("got %d %s, want all there", code, out)
	}
}
