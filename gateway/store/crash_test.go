package store

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

// The test binary is its own helper process: with childPath set it opens that database and writes until it is killed.
const (
	childPath = "SCIMGATE_TEST_STORE_PATH"
	childMode = "SCIMGATE_TEST_STORE_MODE" // "hold": only open it; "write": write from all sides
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		child(path, os.Getenv(childMode))
		return
	}
	os.Exit(m.Run())
}

// child prints one line for everything that was acknowledged, and ends with its standard input at the latest.
func child(path, mode string) {
	s, err := Open(context.Background(), Config{Path: path})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("open", s.Boot())
	if mode == "write" {
		for i := range 6 {
			go write(s, i)
		}
		go checkpoints(s)
	}
	io.Copy(io.Discard, os.Stdin)
}

// write appends, intends and concludes without end.
func write(s *Store, lane int) {
	ctx := context.Background()
	for i := 0; ; i++ {
		rec := benchRecord(int64(lane*1_000_000 + i))
		if lane%2 == 0 {
			if _, err := s.Append(ctx, rec); err != nil {
				fmt.Println("error", err)
				return
			}
			fmt.Println("stored", rec.Seq, rec.ID)
			continue
		}
		if _, err := s.Intend(ctx, rec, OpenIntent{RequestID: rec.RequestID, Payload: []byte("{}")}); err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("intended", rec.Seq, rec.ID)
		outcome := &audit.Record{Intent: rec.Seq}
		entry := &identity.Entry{Upstream: "u", ResourceType: "User", ID: fmt.Sprint(rec.Seq), UserName: "x"}
		if _, err := s.Conclude(ctx, outcome, identity.Change{Put: entry}); err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("concluded", outcome.Seq, outcome.ID, rec.Seq)
	}
}

// checkpoints signs the trail every few milliseconds and prints what it has signed.
func checkpoints(s *Store) {
	signer, err := audit.SignerFor(context.Background(), s, s.path+".signing-key")
	if err != nil {
		fmt.Println("error", err)
		return
	}
	c, err := audit.NewCheckpointer(audit.CheckpointerConfig{Store: s, Signer: signer, Every: 5 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Signed: func(c *audit.Checkpoint) { fmt.Println("signed", c.Size, strconv.Quote(c.Note)) }})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	c.Run(context.Background())
}

// start runs a child and waits until it has the database open.
func start(t *testing.T, path, mode string) (cmd *exec.Cmd, lines *bufio.Scanner, boot string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childPath+"="+path, childMode+"="+mode)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines = bufio.NewScanner(stdout)
	if !lines.Scan() {
		t.Fatal("the child said nothing")
	}
	boot, ok := strings.CutPrefix(lines.Text(), "open ")
	if !ok {
		t.Fatalf("the child said %q", lines.Text())
	}
	return cmd, lines, boot
}

func TestLockAcrossProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	cmd, _, _ := start(t, path, "hold")
	_, err := Open(t.Context(), Config{Path: path})
	if want := fmt.Sprintf("another scimgate (process %d) holds %s.lock", cmd.Process.Pid, path); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	r, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Errorf("a reader beside the other process: %v", err)
	} else if err := errors.Join(drain(r), r.Close()); err != nil {
		t.Error(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	mustOpen(t, Config{Path: path})
}

var crashes = flag.Int("crashes", 10, "how often TestCrash kills the process that writes")

// TestCrash kills a process in the middle of its writing, again and again on one database. Whatever was acknowledged must be
// there, the numbers dense, and each intent closed by exactly one record after the next start took over. The tree over the
// trail extends every checkpoint that was ever printed.
func TestCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	var printed []string // checkpoints
	acknowledged, boots := map[int64]string{}, map[string]bool{}
	for round := range *crashes {
		cmd, lines, boot := start(t, path, "write")
		boots[boot] = true
		for n := 0; lines.Scan(); n++ {
			if n == 40+17*(round%20) { // what is read later was printed before the kill all the same
				cmd.Process.Kill()
			}
			words := strings.Fields(lines.Text())
			if len(words) > 0 && words[0] == "error" {
				t.Fatal(lines.Text())
			}
			if len(words) < 3 || len(words[2]) < 36 && words[0] != "signed" {
				break // the line that was cut by the kill
			}
			if words[0] == "signed" {
				note, err := strconv.Unquote(strings.SplitN(lines.Text(), " ", 3)[2])
				if err != nil {
					break
				}
				printed = append(printed, note)
				continue
			}
			seq, err := strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			acknowledged[seq] = words[2]
		}
		cmd.Wait()
		if round%2 == 0 { // a look from aside before anybody has repaired anything
			r, err := OpenReadOnly(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			checkAcknowledged(t, trail(t, r), acknowledged)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := takeOverAll(t, path, boots); err != nil {
			t.Fatal(err)
		}
	}
	s := mustOpen(t, Config{Path: path})
	all := trail(t, &s.Reader)
	checkAcknowledged(t, all, acknowledged)
	checkIntents(t, s, all)
	key := sign(t, s)
	if got, err := verify(t, path, key, printed...); err != nil || got.Signed != int64(len(all)) || len(printed) < *crashes {
		t.Errorf("got %+v and %v with %d printed checkpoints, want all of %d records to hold against at least one of each process", got, err, len(printed), len(all))
	}
}

func checkAcknowledged(t *testing.T, all []*audit.Record, acknowledged map[int64]string) {
	t.Helper()
	for seq, id := range acknowledged {
		if seq > int64(len(all)) || all[seq-1].ID != id {
			t.Fatalf("record %d (%s) was acknowledged, and is not in the trail of %d", seq, id, len(all))
		}
	}
}

// takeOverAll opens the database as the next process would, and reconciles what is left.
func takeOverAll(t *testing.T, path string, boots map[string]bool) error {
	s, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		return err
	}
	taken, err := s.TakeOver(t.Context())
	if err != nil {
		return errors.Join(err, s.Close())
	}
	var wg sync.WaitGroup
	for _, open := range taken {
		if !boots[open.Boot] || string(open.Payload) != "{}" {
			t.Errorf("took over %+v, which no child left", open)
		}
		wg.Go(func() {
			if _, err := s.Reconciled(t.Context(), &audit.Record{Intent: open.Intent}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, err := s.Unreconciled(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("still unreconciled: %v, %v", left, err)
	}
	return s.Close()
}

// checkIntents: each intent has exactly one record that closes it, and the entry of each outcome is in the map.
func checkIntents(t *testing.T, s *Store, all []*audit.Record) {
	closed := map[int64]int{}
	for _, rec := range all {
		switch rec.Kind {
		case audit.Outcome, audit.Unknown:
			if rec.Intent != 0 {
				closed[rec.Intent]++
			}
			if rec.Kind == audit.Outcome && rec.Intent != 0 {
				key := identity.Key{Upstream: "u", ResourceType: "User", ID: fmt.Sprint(rec.Intent)}
				if _, ok, err := s.ByID(t.Context(), key); !ok || err != nil {
					t.Errorf("outcome %d is there without its entry: %v", rec.Seq, err)
				}
			}
		}
	}
	intents := 0
	for _, rec := range all {
		if rec.Kind == audit.Intent {
			intents++
			if closed[rec.Seq] != 1 {
				t.Errorf("intent %d was closed %d times, want once", rec.Seq, closed[rec.Seq])
			}
		}
	}
	if intents == 0 || len(closed) != intents {
		t.Errorf("%d intents and %d closed, want as many", intents, len(closed))
	}
	wantStats(t, &s.Reader, Stats{Records: int64(len(all))})
}
