package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"scimgate/transform/scim"
)

func TestParseFault(t *testing.T) {
	for text, want := range map[string]Fault{
		"status=503,op=create,times=3,retry-after=2": {Kind: Status, Status: 503, When: Before, Op: scim.OpCreate, Times: 3, RetryAfter: 2 * time.Second},
		"lost,op=create,nth=17":                      {Kind: Lost, When: After, Op: scim.OpCreate, Nth: 17},
		"hang":                                       {Kind: Hang, When: Before},
		"reset,p=0.01":                               {Kind: Reset, When: Before, P: 0.01},
		"truncate":                                   {Kind: Truncate, When: After},
		"html":                                       {Kind: HTML, Status: 200, When: Before},
		"html,status=502,user=ann@x.io,when=after": {Kind: HTML, Status: 502, When: After, User: "ann@x.io"},
		"slow,method=GET,delay=150ms":              {Kind: Slow, When: Before, Method: "GET", Delay: 150 * time.Millisecond},
		"status=500,when=after":                    {Kind: Status, Status: 500, When: After},
	} {
		got, err := ParseFault(text)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
		if again, err := ParseFault(got.String()); err != nil || again != got {
			t.Errorf("%s: got %q back: %+v, %v", text, got.String(), again, err)
		}
	}
	if got, err := ParseFault(" Slow "); err == nil {
		t.Errorf("got %+v for a kind in capitals", got)
	}
	for text, want := range map[string]string{
		"": "kind is missing", "op=create": "kind is missing", "explode": `"explode" is nothing known`, "status": "positive number",
		"status=200": "300 to 599", "status=x": "positive number", "hang,status=503": "neither status", "hang,retry-after=1": "neither status",
		"slow": "needs a delay", "slow,delay=-1s": "seconds or a duration", "hang=1": "takes no value", "lost,when=before": "always after",
		"hang,op=steal": "no operation", "hang,method=BREW": "no method", "hang,p=0": "above 0", "hang,p=2": "above 0", "hang,p=NaN": "above 0",
		"hang,times=0": "positive", "hang,nth=-1": "positive", "hang,when=never": "before or after", "hang,lost": `"lost" is nothing known`,
		"hang,op=get,op=create": "op occurs twice", "html,status=100": "200 to 599", "hang,": `"" is nothing known`,
	} {
		_, err := ParseFault(text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "want KIND") {
			t.Errorf("%q: got %v, want an error with %q and the grammar", text, err, want)
		}
	}
}

func FuzzParseFault(f *testing.F) {
	for _, text := range []string{"status=503,op=create,times=3,retry-after=2", "lost,nth=17", "html,status=502,when=after", "slow,delay=1h", "reset,p=1e-3,user=a=b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseFault(text)
		if err != nil {
			return
		}
		got.RetryAfter = time.Duration(seconds(got.RetryAfter)) * time.Second
		if again, err := ParseFault(got.String()); err != nil || again != got {
			t.Errorf("%q: got %+v, %v, want %+v", got, again, err, got)
		}
	})
}

// TestUser strikes whatever names one user, and nothing else.
func TestUser(t *testing.T) {
	s := start(t, Config{Profile: load(t, "generic")})
	ann, bob := "/Users/"+s.create("ann", "").ID(), "/Users/"+s.create("bob", "").ID()
	s.sim.Inject(Fault{Status: 500, User: "Ann"})
	s.sim.Inject(Fault{Status: 501, User: "1000002"})
	for request, want := range map[[3]string]int{
		{"GET", ann, ""}: 500, {"PUT", ann, user("ann", "")}: 500, {"PATCH", ann, patch(setTitle)}: 500, {"POST", "/Users", user("ANN", "")}: 500,
		{"GET", query(`active eq true and userName eq "ann"`), ""}: 500, {"GET", query(`userName eq "cid"`), ""}: 200, {"GET", "/Users", ""}: 200,
		{"GET", bob, ""}: 501, {"GET", query(`id eq "1000002"`), ""}: 501, {"GET", "/Users/none", ""}: 404, {"GET", "/Schemas", ""}: 200, {"GET", "/Users?filter=x", ""}: 400,
	} {
		if a := s.do(request[0], request[1], request[2]); a.status != want {
			t.Errorf("%s %s: got %v, want %d", request[0], request[1], a, want)
		}
	}
}

func TestInjectPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("got no panic for a fault that is not valid")
		}
	}()
	newSimulator(t, Config{Profile: load(t, "generic")}).Inject(Fault{Kind: "explode"})
}

// TestFaults looks at every kind with a real client, and at what the store holds afterwards.
func TestFaults(t *testing.T) {
	broken := func(want error) func(answer, error) error {
		return func(_ answer, err error) error {
			if !errors.Is(err, want) {
				return fmt.Errorf("got %v, want %v", err, want)
			}
			return nil
		}
	}
	answered := func(status int, contentType, retryAfter string) func(answer, error) error {
		return func(a answer, err error) error {
			if err != nil || a.status != status || !strings.HasPrefix(a.header.Get("Content-Type"), contentType) || a.header.Get("Retry-After") != retryAfter {
				return fmt.Errorf("got %v %v, %v, want %d", a, a.header, err, status)
			}
			return nil
		}
	}
	for fault, c := range map[string]struct {
		check  func(answer, error) error
		users  int // in the store afterwards
		status int // in the ledger
	}{
		"status=503,retry-after=2":              {answered(503, scim.MediaType, "2"), 0, 503},
		"status=429,retry-after=1500ms":         {answered(429, scim.MediaType, "2"), 0, 429},
		"status=500,when=after":                 {answered(500, scim.MediaType, ""), 1, 500},
		"status=302":                            {answered(302, scim.MediaType, ""), 0, 302},
		"reset":                                 {broken(syscall.ECONNRESET), 0, 0},
		"reset,when=after":                      {broken(syscall.ECONNRESET), 1, 0},
		"lost":                                  {broken(io.EOF), 1, 0},
		"truncate":                              {broken(io.ErrUnexpectedEOF), 1, 201},
		"html":                                  {answered(200, "text/html", ""), 0, 200},
		"html,status=502,when=after":            {answered(502, "text/html", ""), 1, 502},
		"html,status=503,retry-after=7":         {answered(503, "text/html", "7"), 0, 503},
		"slow,delay=1ms":                        {answered(201, scim.MediaType, ""), 1, 201},
		"slow,delay=1ms,when=after":             {answered(201, scim.MediaType, ""), 1, 201},
		"reset,op=delete":                       {answered(201, scim.MediaType, ""), 1, 201},
		"reset,method=PUT":                      {answered(201, scim.MediaType, ""), 1, 201},
		"reset,user=bob":                        {answered(201, scim.MediaType, ""), 1, 201},
		"status=418,user=ANN,op=create,times=1": {answered(418, scim.MediaType, ""), 0, 418},
	} {
		t.Run(fault, func(t *testing.T) {
			s := start(t, Config{Profile: load(t, "generic")})
			f, err := ParseFault(fault)
			if err != nil {
				t.Fatal(err)
			}
			cancel := s.sim.Inject(f)
			if err := c.check(s.try("POST", "/Users", user("ann", ""))); err != nil {
				t.Error(err)
			}
			if got := len(s.sim.Resources("User")); got != c.users {
				t.Errorf("got %d users, want %d", got, c.users)
			}
			e := s.sim.Ledger()[0]
			struck := e.Fault == f.String()
			if e.Status != c.status || e.Processed != (c.users == 1) || !e.Done || struck == (c.status == 201 && f.Kind == Reset) {
				t.Errorf("got %+v", e)
			}
			cancel()
			s.want(200, s.do("GET", "/Users", ""))
		})
	}
}

func TestTruncateWithoutBody(t *testing.T) {
	s := start(t, Config{Profile: load(t, "generic")})
	id := s.create("ann", "").ID()
	s.sim.Inject(Fault{Kind: Truncate, Op: scim.OpDelete})
	if a, err := s.try("DELETE", "/Users/"+id, ""); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, %v, want no answer", a, err)
	}
	if got := len(s.sim.Resources("User")); got != 0 {
		t.Errorf("got %d users, want it deleted", got)
	}
}

// TestHang ends a hanging request by the client's patience, and by Close.
func TestHang(t *testing.T) {
	for name, end := range map[string]func(context.CancelFunc, *Simulator){
		"client": func(cancel context.CancelFunc, _ *Simulator) { cancel() },
		"close":  func(_ context.CancelFunc, sim *Simulator) { sim.Close() },
	} {
		sim := newSimulator(t, Config{Profile: load(t, "generic")})
		sim.Inject(Fault{Kind: Hang})
		arrived, ended := make(chan struct{}), make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			close(arrived)
			sim.ServeHTTP(w, r)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/v2/scim/Users", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		failed := make(chan error, 1)
		go func() {
			res, err := server.Client().Do(req)
			if err == nil {
				res.Body.Close()
			}
			failed <- err
		}()
		<-arrived
		end(cancel, sim)
		if err := <-failed; err == nil {
			t.Errorf("%s: got an answer, want none", name)
		}
		<-ended
		if e := sim.Ledger()[0]; e.Status != 0 || !e.Done || e.Processed {
			t.Errorf("%s: got %+v, want no answer", name, e)
		}
		cancel()
		server.Close()
	}
}

// TestMatching counts the strikes of faults in virtual time, without HTTP.
func TestMatching(t *testing.T) {
	rt := scim.UserType()
	ask := func(ctx context.Context, sim *Simulator, name string) error {
		_, err := sim.Do(ctx, &scim.Request{Op: scim.OpQuery, Type: rt, Query: scim.Query{Filter: filterOf(t, `userName eq "`+name+`"`)}})
		return err
	}
	strikes := func(seed uint64, faults ...string) string {
		sim := newSimulator(t, Config{Profile: load(t, "generic"), Seed: seed})
		for _, text := range faults {
			f, err := ParseFault(text)
			if err != nil {
				t.Fatal(err)
			}
			sim.Inject(f)
		}
		got := ""
		for i := range 12 {
			name := "ann"
			if i%2 == 1 {
				name = "bob"
			}
			switch err := ask(t.Context(), sim, name); {
			case err == nil:
				got += "."
			case errors.Is(err, ErrNoAnswer):
				got += "x"
			default:
				got += err.Error()[:1]
			}
		}
		return got
	}
	for text, want := range map[string]string{
		"reset":                "xxxxxxxxxxxx",
		"reset,times=2":        "xx..........",
		"reset,nth=3":          "..x.........",
		"reset,nth=3,times=2":  "..xx........",
		"reset,user=BOB":       ".x.x.x.x.x.x",
		"reset,user=bob,nth=2": "...x........",
		"status=503,times=1":   "5...........",
		"reset,op=create":      "............",
	} {
		if got := strikes(1, text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	if got, want := strikes(1, "status=400,nth=2", "reset,times=3"), "x4xx........"; got != want {
		t.Errorf("two faults: got %s, want %s", got, want)
	}
	once := strikes(7, "reset,p=0.5")
	if again := strikes(7, "reset,p=0.5"); again != once || !strings.Contains(once, "x") || !strings.Contains(once, ".") {
		t.Errorf("got %s and %s, want the same of both kinds", once, again)
	}

	synctest.Test(t, func(t *testing.T) {
		sim := newSimulator(t, Config{Profile: load(t, "generic"), Latency: time.Second})
		sim.Inject(Fault{Kind: Slow, Delay: 3 * time.Second, User: "slow"})
		sim.Inject(Fault{Kind: Hang, User: "hung"})
		for name, want := range map[string]time.Duration{"ann": time.Second, "slow": 4 * time.Second} {
			begin := time.Now()
			if err := ask(t.Context(), sim, name); err != nil || time.Since(begin) != want {
				t.Errorf("%s: got %v after %v, want %v", name, err, time.Since(begin), want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begin := time.Now()
		if err := ask(ctx, sim, "hung"); !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 10*time.Second {
			t.Errorf("got %v after %v, want the deadline", err, time.Since(begin))
		}
		go func() {
			time.Sleep(2 * time.Second) // virtual; past the latency
			if ledger := sim.Ledger(); ledger[len(ledger)-1].Fault != "hang,user=hung" || ledger[len(ledger)-1].Done {
				t.Errorf("got %+v, want the hanging request in the ledger", ledger[len(ledger)-1])
			}
			sim.Close()
		}()
		if err := ask(t.Context(), sim, "hung"); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("got %v after Close, want no answer", err)
		}
	})
}
