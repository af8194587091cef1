package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"scimgate/config/profile"
	"scimgate/conformance/entra"
	"scimgate/conformance/simulator"
)

const metricsText = `# HELP process_resident_memory_bytes Resident memory size in bytes.
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes %d
process_resident_memory_bytes_of_another 7
scimgate_upstream_attempts_total{connection="a",op="create",status="201"} %d
scimgate_upstream_attempts_total{connection="b",op="query",status="429"} 3
scimgate_requests_total{connection="a",op="create",action="created",status="429"} 99
`

func TestReadSample(t *testing.T) {
	s, err := readSample(strings.NewReader(fmt.Sprintf(metricsText, 5<<20, 10)))
	if err != nil || *s != (sample{attempts: 13, limited: 3, resident: 5 << 20}) {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := readSample(strings.NewReader("process_resident_memory_bytes x")); err == nil {
		t.Error("a value that is no number was read")
	}
}

// admin answers as a gateway's admin listener does: with each sample, 100 attempts more.
func admin(t *testing.T, token string) string {
	t.Helper()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/metrics":
			w.WriteHeader(http.StatusNotFound)
		case token != "" && r.Header.Get("Authorization") != "Bearer "+token:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			n := asked.Add(1)
			fmt.Fprintf(w, metricsText, (60-n)<<20, 100*n)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestProvisionFigures(t *testing.T) {
	p, err := profile.Load("generic")
	if err != nil {
		t.Fatal(err)
	}
	sim, err := simulator.New(simulator.Config{Profile: p, Tokens: []string{"upstream-token-1234"}})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	server := httptest.NewServer(sim)
	defer server.Close()
	for _, test := range []struct {
		name   string
		fault  string
		ok     bool
		failed int
	}{{"all arrive", "", true, 0}, {"one does not", "status=429,op=create,times=1", false, 1}} {
		sim.Reset()
		if test.fault != "" {
			f, err := simulator.ParseFault(test.fault)
			if err != nil {
				t.Fatal(err)
			}
			sim.Inject(f)
		}
		before := len(sim.Ledger())
		cfg := entra.Config{URL: server.URL + simulator.DefaultBasePath, Token: "upstream-token-1234", Dialect: entra.RFC, Attributes: []string{"userName", "active", "title"}}
		how := measured{admin: admin(t, "admin-token-1234"), token: "admin-token-1234", permitted: 1000}
		var out bytes.Buffer
		ok, err := provision(t.Context(), cfg, entra.Generate(10, 1), &how, newMeter(io.Discard, ""), &out, true)
		if err != nil || ok != test.ok {
			t.Errorf("%s: got %v, %v, want %v", test.name, ok, err, test.ok)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		var f figures
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &f); err != nil {
			t.Fatal(err)
		}
		if f.Cycle != "all cycles" || f.Users != 10 || f.FailedUsers != test.failed || f.Throttled != test.failed ||
			f.Requests != len(sim.Ledger())-before || f.Duration <= 0 {
			t.Errorf("%s: got %+v with %d requests at the endpoint", test.name, f, len(sim.Ledger())-before)
		}
		if g := f.Gateway; g == nil || g.Attempts < 100 || g.Throttled != 0 || g.Permitted != 1000 || g.PeakResident != 59<<20 {
			t.Errorf("%s: got %+v of the gateway", test.name, g)
		}
	}
}

func TestFiguresInWords(t *testing.T) {
	f := figures{
		Users: 10, FailedUsers: 1, Requests: 40, RequestsPerSecond: 20, Throttled: 2, Duration: 2 * time.Second,
		Gateway: &consumption{Attempts: 30, AttemptsPerSecond: 15, Throttled: 3, Permitted: 20, PeakResident: 48 << 20},
	}
	var out bytes.Buffer
	if err := f.write(&out, false); err != nil {
		t.Fatal(err)
	}
	want := `All cycles together
  users                          10
  failed users                   1
  requests                       40
  requests per second            20.0
  answers 429                    2
  duration                       2s
  upstream attempts              30
  upstream attempts per second   15.0
  upstream attempts answered 429 3
  share of the permitted rate    75.0 %
  gateway's peak resident memory 48.0 MiB
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestWatchGatewayRefuses(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, test := range []struct{ name, base, token, want string }{
		{"not a URL", "127.0.0.1:9090", "", "want"},
		{"in the clear", "http://gateway.example.com:9090", "admin-token-1234", "want https"},
		{"nobody there", closed.URL, "", "does not answer"},
		{"no token", admin(t, "admin-token-1234"), "", "--gateway-token"},
		{"somebody else", admin(t, "") + "/x", "", "answered 404"},
	} {
		if _, err := watchGateway(t.Context(), test.base, test.token); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}
