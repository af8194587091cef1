package simulator

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"scimgate/transform/scim"
)

func TestLedger(t *testing.T) {
	s := start(t, Config{Profile: load(t, "generic")})
	defer s.sim.Inject(Fault{Status: 503, Method: "DELETE"})()
	body := user("ann", "")
	s.do("POST", "/Users?access_token=hush&x=1", body, "X-Request-Id", "r-1", "X-Other", "o")
	s.do("GET", query(`userName eq "ann"`), "")
	s.do("GET", "/Users?filter=bad", "")
	s.do("DELETE", "/Users/1000001", "")
	s.do("GET", "/Users", "", "Authorization", "Bearer wrong-secret")

	var got []string
	for _, e := range s.sim.Ledger() {
		got = append(got, fmt.Sprint(e.Method, " ", e.Target, " ", e.Op, " ", e.ID, " ", e.Status, " ", e.Processed, " ", e.Fault, " ", e.Done))
		if text := fmt.Sprint(e); strings.Contains(text, token) || strings.Contains(text, "hush") || strings.Contains(text, "wrong-secret") {
			t.Errorf("got a credential in %s", text)
		}
	}
	want := []string{
		"POST /v2/scim/Users?access_token=[redacted]&x=1 create  201 true  true",
		"GET /v2/scim" + query(`userName eq "ann"`) + " query  200 true  true",
		"GET /v2/scim/Users?filter=bad   400 false  true",
		"DELETE /v2/scim/Users/1000001 delete 1000001 503 false status=503,method=DELETE true",
		"GET /v2/scim/Users   401 false  true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	e := s.sim.Ledger()[0]
	if e.RequestID != "r-1" || e.Header.Get("X-Other") != "o" || string(e.Body) != body || e.Header.Get("Authorization") != "Bearer [redacted]" {
		t.Errorf("got %+v, want the request as it came", e)
	}
	if calls := s.sim.Calls(); !maps.Equal(calls, map[string]int{"create": 1, "query": 1, "delete": 1, other: 2}) || s.sim.Count(scim.OpCreate) != 1 {
		t.Errorf("got %v", calls)
	}
}

func TestLedgerIsBounded(t *testing.T) {
	l := newLedger(5)
	for i := range 23 {
		l.append(&Entry{ID: fmt.Sprint(i)})
		if l.count() > 5 || len(l.ring) > 12 {
			t.Fatalf("got %d entries in a ring of %d", l.count(), len(l.ring))
		}
	}
	var got []string
	for _, e := range l.ring[l.first:] {
		got = append(got, e.ID)
	}
	if want := []string{"18", "19", "20", "21", "22"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	l = newLedger(1 << 20)
	body := bytes.Repeat([]byte("x"), MaxEntryBody)
	for range 2000 {
		l.append(newEntry(time.Time{}, "POST", &url.URL{Path: "/"}, http.Header{}, body))
	}
	if l.bytes > maxLedgerBytes || l.count() < 900 {
		t.Errorf("got %d entries of %d bytes", l.count(), l.bytes)
	}
	if l.calls[other] != 2000 {
		t.Errorf("got %d calls, want 2000", l.calls[other])
	}
}

// TestRate checks the sliding window with exact times.
func TestRate(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		rate float64
		at   []time.Duration
		want string // a letter for each: . admitted, x refused
	}{
		"a burst":                  {3, []time.Duration{0, 0, 0, 0, 0, 999 * ms, time.Second, time.Second + 1, time.Second + 1}, "....xxx.."},
		"refused ones are free":    {1, []time.Duration{0, 0, 500 * ms, 900 * ms, 1001 * ms, 1001 * ms, 1001 * ms}, "..xx..x"},
		"paced at the rate":        {4, []time.Duration{0, 250 * ms, 500 * ms, 750 * ms, 1000 * ms, 1250 * ms, 1500 * ms, 1750 * ms, 2000 * ms}, "........."},
		"paced a little above":     {4, []time.Duration{0, 200 * ms, 400 * ms, 600 * ms, 800 * ms, 1000 * ms, 1200 * ms}, ".....x."},
		"less than one per second": {0.5, []time.Duration{0, 1, time.Second, time.Second + 1}, ".xx."},
		"no limit":                 {0, []time.Duration{0, 0, 0, 0, 0}, "....."},
	} {
		synctest.Test(t, func(t *testing.T) {
			sim := newSimulator(t, Config{Profile: load(t, "generic"), Rate: c.rate})
			begin := time.Now()
			got := ""
			for _, at := range c.at {
				time.Sleep(time.Until(begin.Add(at)))
				_, err := sim.Do(t.Context(), &scim.Request{Op: scim.OpQuery, Type: scim.UserType()})
				if err == nil {
					got += "."
				} else if strings.HasPrefix(err.Error(), "429") {
					got += "x"
				} else {
					t.Fatal(err)
				}
			}
			if got != c.want {
				t.Errorf("%s: got %s, want %s", name, got, c.want)
			}
		})
	}
}

func TestRateOverHTTP(t *testing.T) {
	s := start(t, Config{Profile: load(t, "generic"), Rate: 1, Clock: func() time.Time { return time.Unix(1, 0) }})
	for range 2 {
		s.want(200, s.do("GET", "/Users", ""))
	}
	a := s.want(429, s.do("GET", "/Users", ""))
	if got := a.header.Get("Retry-After"); got != "1" {
		t.Errorf("got Retry-After %q, want 1", got)
	}
	s.want(401, s.do("GET", "/Users", "", "Authorization", "Bearer no"))
	var limited []bool
	for _, e := range s.sim.Ledger() {
		limited = append(limited, e.Limited)
	}
	if want := []bool{false, false, true, false}; !slices.Equal(limited, want) {
		t.Errorf("got %v, want %v", limited, want)
	}
}

// TestConcurrency lets many clients fight over few userNames: each exists once in the end.
func TestConcurrency(t *testing.T) {
	sim := newSimulator(t, Config{Profile: load(t, "generic"), LedgerSize: 100})
	rt := scim.UserType()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				r := scim.Resource{"schemas": []any{scim.SchemaUser}, "userName": fmt.Sprint("user", n), "active": true}
				resp, err := sim.Do(context.Background(), &scim.Request{Op: scim.OpCreate, Type: rt, Resource: r})
				if err == nil && i%2 == 0 {
					_, _ = sim.Do(context.Background(), &scim.Request{Op: scim.OpReplace, Type: rt, ID: resp.Resource.ID(), Resource: r})
				}
				_, _ = sim.Do(context.Background(), &scim.Request{Op: scim.OpQuery, Type: rt})
				sim.Ledger()
			}
		})
	}
	wg.Wait()
	if got := len(sim.Resources("User")); got != 50 {
		t.Errorf("got %d users, want 50", got)
	}
	if got := sim.Count(scim.OpCreate); got != 400 {
		t.Errorf("got %d creates, want 400", got)
	}
}

func BenchmarkSimulator(b *testing.B) {
	sim := newSimulator(b, Config{Profile: load(b, "bluejeans")})
	for i := range 10_000 {
		if _, err := sim.Put("User", scim.Resource{"userName": fmt.Sprint("user", i), "active": true, "title": "T"}); err != nil {
			b.Fatal(err)
		}
	}
	rt := scim.UserType()
	path, err := scim.ParsePath("title")
	if err != nil {
		b.Fatal(err)
	}
	for name, req := range map[string]*scim.Request{
		"match": {Op: scim.OpQuery, Type: rt, Query: scim.Query{Filter: filterOf(b, `userName eq "user5000"`)}},
		"page":  {Op: scim.OpQuery, Type: rt, Query: scim.Query{StartIndex: 5000}},
		"patch": {Op: scim.OpPatch, Type: rt, ID: "1005000", Operations: []scim.PatchOp{{Op: "replace", Path: path, Value: "U"}}},
		"get":   {Op: scim.OpGet, Type: rt, ID: "1005000"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := sim.Do(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
