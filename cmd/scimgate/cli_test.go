package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"scimgate": main})
}

// TestScripts runs the command line as people do: one file in testdata for each command.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"trail": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(writeTrail(ts.MkAbs(args[0])))
			},
			// sign DATABASE signs its trail as a gateway does.
			"sign": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(signTrail(ts.MkAbs(args[0])))
			},
			// replace FILE OLD NEW changes the first OLD of a file, NEW being of the same length in a database.
			"replace": func(ts *testscript.TestScript, _ bool, args []string) {
				name := ts.MkAbs(args[0])
				content, err := os.ReadFile(name)
				ts.Check(err)
				if !bytes.Contains(content, []byte(args[1])) {
					ts.Fatalf("%s has no %q", name, args[1])
				}
				ts.Check(os.WriteFile(name, bytes.Replace(content, []byte(args[1]), []byte(args[2]), 1), 0o600))
			},
			// newer DATABASE lets a newer program have written it.
			"newer": func(ts *testscript.TestScript, _ bool, args []string) {
				name := ts.MkAbs(args[0])
				content, err := os.ReadFile(name)
				ts.Check(err)
				version := regexp.MustCompile(`schema[1-8]`)
				if !version.Match(content) {
					ts.Fatalf("%s has no schema version", name)
				}
				ts.Check(os.WriteFile(name, version.ReplaceAll(content, []byte("schema9")), 0o600))
			},
			// upstream NAME PROFILE sets the variable NAME to the base URL of a simulated upstream.
			"upstream": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], upstreamURL(ts, args[1]))
			},
			// readyz NAME STATUS BODY sets the variable NAME to the address of an admin listener that answers so.
			"readyz": func(ts *testscript.TestScript, _ bool, args []string) {
				status, err := strconv.Atoi(args[1])
				ts.Check(err)
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/readyz" || r.Header.Get("Authorization") != "" {
						status = http.StatusTeapot
					}
					w.WriteHeader(status)
					io.WriteString(w, args[2])
				}))
				ts.Defer(server.Close)
				ts.Setenv(args[0], server.Listener.Addr().String())
			},
		},
	})
}

// writeTrail makes a database with a few records, some of them hostile.
func writeTrail(path string) error {
	s, err := store.Open(context.Background(), store.Config{Path: path, Boot: "0123456789abcdef"})
	if err != nil {
		return err
	}
	ctx := context.Background()
	at := time.Date(2020, 11, 22, 8, 0, 0, 0, time.UTC)
	record := func(n int, r audit.Record) *audit.Record {
		r.Time = at.Add(time.Duration(n) * time.Minute)
		r.ID = fmt.Sprintf("0192f0c1-7e70-7a3b-8a5e-00000000000%d", n)
		if r.RequestID == "" {
			r.RequestID = fmt.Sprintf("request-%d", n)
		}
		r.Connection, r.Credential, r.Source = "entra-bluejeans", "entra-2026", "127.0.0.1"
		return &r
	}
	babs := audit.Subject{ID: "u1", UserName: "babs@example.com", ExternalID: "e-1"}
	create := audit.Record{
		Kind: audit.Intent, RequestID: "request-1", Action: audit.Created, Method: "POST", Op: "create", ResourceType: "User",
		Subject: audit.Subject{UserName: babs.UserName, ExternalID: babs.ExternalID},
	}
	intent, err := s.Intend(ctx, record(1, create), store.OpenIntent{
		Connection: "entra-bluejeans", Upstream: "https://upstream.example", Op: "create", ResourceType: "User", RequestID: "request-1",
	})
	if err == nil {
		create.Kind, create.Intent, create.Subject = audit.Outcome, intent, babs
		create.Plan, create.Duration = "forwarded, with attributes kept here", 41.25
		create.Attributes = []audit.Attribute{
			{Path: "userName", Asked: inClear(`"babs@example.com"`), Sent: inClear(`"babs@example.com"`), Confirmed: inClear(`"babs@example.com"`)},
			{Path: "title", Asked: &audit.Value{HMAC: "00112233445566778899aabbccddeeff"}, Sent: &audit.Value{HMAC: "00112233445566778899aabbccddeeff"}, Confirmed: audit.NotReported()},
			{Path: "password", Asked: &audit.Value{Secret: true}, Sent: &audit.Value{Secret: true}, Note: "never returned"},
		}
		create.Findings = []audit.Finding{{Rule: "upstream-lacks", Verdict: audit.Keep, Path: "externalId", Reason: "the upstream lacks it: held by the gateway"}}
		create.Calls = []audit.Call{{Method: "POST", Target: "POST /Users", Attempt: 1, Status: 201, Started: at, Duration: 38.5}}
		create.Answer = audit.Answer{Status: 201}
		_, err = s.Conclude(ctx, record(2, create))
	}
	for n, r := range []audit.Record{
		{Kind: audit.Outcome, Action: audit.Refused, Method: "POST", Op: "create", ResourceType: "User", Subject: audit.Subject{UserName: "someone.with.a.very.long.name@subsidiary.example.com"},
			Answer: audit.Answer{Status: 400, ScimType: "invalidValue", Detail: "userName has 52 characters; the upstream takes at most 30"}, Duration: 0.4},
		{Kind: audit.Outcome, Action: audit.Failed, Method: "PATCH", Op: "patch", ResourceType: "User", Subject: audit.Subject{UserName: "evil\x1b[2J\u202egpj.exe\r\n"},
			Attributes: []audit.Attribute{{Path: "userName", Asked: inClear("\"evil\u202e\u009b2J\"")}},
			Admission:  &audit.Admission{Waited: 12, Queued: 3, Breaker: "half-open", HoldOff: 500},
			Answer:     audit.Answer{Status: 502}, Error: "dial\u2066", Duration: 1234.5},
		{Kind: audit.Outcome, Action: audit.Matched, Method: "GET", Op: "query", ResourceType: "User", Subject: audit.Subject{ID: "u2", UserName: "田中@example.com"}, Answer: audit.Answer{Status: 200}, Duration: 12},
		{Kind: audit.Event, Action: "started", Unrecorded: 7},
	} {
		if err == nil {
			_, err = s.Append(ctx, record(3+n, r))
		}
	}
	return errors.Join(err, s.Close())
}

func inClear(text string) *audit.Value { return &audit.Value{Clear: []byte(text)} }

func noEnv(string) string { return "" }

// each calls yield for every command that people see.
func each(cmd *cobra.Command, yield func(*cobra.Command)) {
	yield(cmd)
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			each(sub, yield)
		}
	}
}

func TestEveryCommandIsDocumented(t *testing.T) {
	each(newRoot(noEnv), func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s: wants Short, Long and Example", cmd.CommandPath())
		}
		if strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: Short is no sentence: no full stop", cmd.CommandPath())
		}
	})
}

// The examples name commands and flags that exist, with values that can be read.
func TestExamplesParse(t *testing.T) {
	each(newRoot(noEnv), func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			_, call, ok := strings.Cut(strings.TrimSpace(line), "scimgate ")
			if !ok {
				continue
			}
			for _, end := range []string{" <", " >", " |", " #", " &", " \\"} {
				call, _, _ = strings.Cut(call, end)
			}
			found, rest, err := newRoot(noEnv).Find(words(call))
			if err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), call, err)
				continue
			}
			found.InitDefaultHelpFlag()
			found.InitDefaultVersionFlag()
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), call, err)
			} else if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), call, err)
			}
		}
	})
}

// words splits as a shell does, as far as the examples need it.
func words(line string) []string {
	var list []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			list = append(list, part)
			continue
		}
		list = append(list, strings.Fields(part)...)
	}
	return list
}

// lines hands over what is written line by line.
func lines(t *testing.T) (io.Writer, <-chan string) {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	out := make(chan string, 100)
	go func() {
		defer close(out)
		for s := bufio.NewScanner(r); s.Scan(); {
			out <- s.Text()
		}
	}()
	return w, out
}

func TestTailFollowsARunningGateway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.db")
	s, err := store.Open(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	put := func(action string) {
		t.Helper()
		if _, err := s.Append(t.Context(), &audit.Record{Kind: audit.Event, Action: action}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(out <-chan string, action string) {
		t.Helper()
		select {
		case line := <-out:
			if !strings.Contains(line, " "+action+" ") {
				t.Fatalf("got %q, want a record of %s", line, action)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("got nothing in 10 s, want a record of %s", action)
		}
	}
	put("first")
	put("second")
	for _, test := range []struct{ lines, sees string }{{"1", "second"}, {"0", ""}} {
		ctx, stop := context.WithCancel(t.Context())
		w, out := lines(t)
		code := make(chan int)
		var stderr bytes.Buffer
		go func() {
			code <- run(ctx, []string{"audit", "tail", "--follow", "-n", test.lines, "--database", path}, nil, w, &stderr, noEnv)
		}()
		if test.sees != "" {
			want(out, test.sees)
			put("third")
			want(out, "third")
		}
		stop()
		if got := <-code; got != exitOK || stderr.Len() > 0 {
			t.Errorf("-n %s: interrupted, got exit code %d and %q, want %d and nothing", test.lines, got, stderr.String(), exitOK)
		}
	}
}

// An export that does not come to its end leaves neither the file nor a part of it.
func TestExportIsWholeOrAbsent(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "trail.db")
	if err := writeTrail(path); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "out", "trail.jsonl")
	if err := os.Mkdir(filepath.Dir(target), 0o700); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	e := &exporter{reader: openReader(t, path), database: path, messages: newScreen(io.Discard, noEnv)}
	stop()
	if _, err := e.writeFile(ctx, target); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if left, err := os.ReadDir(filepath.Dir(target)); err != nil || len(left) > 0 {
		t.Errorf("got %v and %v, want an empty folder", left, err)
	}
	if code := run(t.Context(), []string{"audit", "export", "--database", path, "-o", target}, nil, io.Discard, &stderr, noEnv); code != exitOK {
		t.Errorf("got exit code %d, want %d: %s", code, exitOK, stderr.String())
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v and %v, want a file of mode 0600", info, err)
	}
}

func openReader(t *testing.T, path string) *store.Reader {
	t.Helper()
	r, err := store.OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// An interrupt ends the wait for a request that nobody types.
func TestExplainIsInterrupted(t *testing.T) {
	stdin, w := io.Pipe()
	defer w.Close()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var stderr bytes.Buffer
	got := run(ctx, []string{"explain", "--profile", "generic"}, stdin, io.Discard, &stderr, noEnv)
	if want := "scimgate explain: interrupted\n"; got != exitProblem || stderr.String() != want {
		t.Errorf("got exit code %d and %q, want %d and %q", got, stderr.String(), exitProblem, want)
	}
}

// full is a disk without space.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestLostOutputIsAFailure(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"rules"}, {"profiles", "show", "bluejeans"}, {"token", "new"}, {"check"}, {"--help"}} {
		var stderr bytes.Buffer
		if got := run(t.Context(), args, nil, full{}, &stderr, noEnv); got != exitProblem || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%v on a full disk: got exit code %d and %q, want %d and the reason", args, got, stderr.String(), exitProblem)
		}
		if n := strings.Count(stderr.String(), "\n"); n != 1 {
			t.Errorf("%v: got %d lines on stderr, want 1: %s", args, n, stderr.String())
		}
	}
}
