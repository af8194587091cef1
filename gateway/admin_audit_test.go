package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/store"
)

const testAdminToken = "an-admin-token-of-the-test"

// auditWorld is an admin listener over a trail of its own.
type auditWorld struct {
	t       *testing.T
	handler http.Handler
	records []*audit.Record
}

var trailStart = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

func newAuditWorld(t *testing.T, change func(*AdminConfig)) *auditWorld {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gate.db")
	s, err := store.Open(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	w := &auditWorld{t: t}
	for i := range 25 {
		rec := &audit.Record{
			Time: trailStart.Add(time.Duration(i) * time.Minute), RequestID: fmt.Sprintf("request-%d", i/2), Connection: "entra", Credential: "entra-2027",
			Action: []string{audit.Created, audit.Refused}[i%2], Subject: audit.Subject{ID: fmt.Sprint("u", i%5), UserName: fmt.Sprintf("user.%d@contoso.example", i%5)},
			Answer: audit.Answer{Status: []int{201, 400}[i%2]},
		}
		if i%10 == 3 {
			rec.Findings = []audit.Finding{{Rule: "long-user-name", Verdict: audit.Refuse, Reason: "too long: <b>\u2028"}}
		}
		if _, err := s.Append(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		w.records = append(w.records, rec)
	}
	r, err := store.OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := AdminConfig{Store: s, Metrics: NewMetrics(s), Trail: r, Hosts: []string{"gate.example"}, Token: func() (string, error) { return testAdminToken, nil }}
	if change != nil {
		change(&cfg)
	}
	w.handler = NewAdmin(cfg)
	return w
}

// get asks with the admin token; headers are pairs of name and value, and "" removes one.
func (w *auditWorld) get(target string, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	return w.do("GET", target, headers...)
}

func (w *auditWorld) do(method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(w.t.Context(), method, "http://127.0.0.1:9090"+target, nil)
	r.Header.Set("Authorization", "Bearer "+testAdminToken)
	for i := 0; i < len(headers); i += 2 {
		switch name, value := headers[i], headers[i+1]; {
		case name == "Host":
			r.Host = value
		case value == "":
			r.Header.Del(name)
		default:
			r.Header.Set(name, value)
		}
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	return answer
}

type auditList struct {
	Records []json.RawMessage
	Next    string
}

func (w *auditWorld) list(query string) (list auditList, seqs []int64) {
	w.t.Helper()
	answer := w.get(auditRecords + "?" + query)
	if answer.Code != 200 || json.Unmarshal(answer.Body.Bytes(), &list) != nil {
		w.t.Fatalf("%s: got %d %s", query, answer.Code, answer.Body)
	}
	for _, line := range list.Records {
		rec, err := audit.Parse(line)
		if err != nil {
			w.t.Fatal(err)
		}
		seqs = append(seqs, rec.Seq)
	}
	return list, seqs
}

func TestAuditRecords(t *testing.T) {
	w := newAuditWorld(t, nil)
	for _, tt := range []struct{ query, want string }{
		{"limit=3", "[25 24 23]"},
		{"order=oldest&limit=2", "[1 2]"},
		{"user=USER.1@contoso.example&order=oldest", "[2 7 12 17 22]"},
		{"user=u1&outcome=refused", "[22 12 2]"},
		{"id=" + w.records[6].ID, "[7]"},
		{"action=refused&limit=2", "[24 22]"},
		{"kind=event", "[]"},
		{"outcome=succeeded&limit=2", "[25 23]"},
		{"status=400&order=oldest&limit=2", "[2 4]"},
		{"rule=long-user-name", "[24 14 4]"},
		{"credential=entra-2027&limit=1", "[25]"},
		{"credential=entra-2026", "[]"},
		{"connection=entra&rule=long-user-name&limit=1", "[24]"},
		{"request=request-3", "[8 7]"},
		{"since=2026-11-22T08:05:00Z&until=2026-11-22T09%3A08%3A00%2B01%3A00", "[8 7 6]"},
		{"since=2026-11-22T08:22:00Z&&", "[25 24 23]"},
	} {
		if _, got := w.list(tt.query); fmt.Sprint(got) != tt.want {
			t.Errorf("%s: got %v, want %s", tt.query, got, tt.want)
		}
	}
	list, _ := w.list("rule=long-user-name&limit=1")
	if want := audit.Append(nil, w.records[23]); !bytes.Equal(list.Records[0], want) {
		t.Errorf("got the record %s, want its bytes as they are stored: %s", list.Records[0], want)
	}
}

// The pages of a search are all of its records, once each, while the trail grows.
func TestAuditPages(t *testing.T) {
	var s *store.Store
	w := newAuditWorld(t, func(cfg *AdminConfig) { s = cfg.Store })
	for _, tt := range []struct {
		query string
		want  int
	}{{"limit=4", 25}, {"limit=4&order=oldest", 25 + 7}, {"limit=5", 25 + 7}, {"status=400&limit=1", 12}} {
		seen, cursor := map[int64]bool{}, ""
		for page := 0; page == 0 || cursor != ""; page++ {
			query := tt.query
			if cursor != "" {
				query += "&cursor=" + cursor
			}
			list, seqs := w.list(query)
			for _, seq := range seqs {
				if seen[seq] {
					t.Errorf("%s: record %d is on two pages", tt.query, seq)
				}
				seen[seq] = true
			}
			if cursor = list.Next; tt.query == "limit=4" {
				if _, err := s.Append(t.Context(), &audit.Record{Answer: audit.Answer{Status: 200}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(seen) != tt.want {
			t.Errorf("%s: got %d records on all pages, want %d", tt.query, len(seen), tt.want)
		}
	}
	list, _ := w.list("limit=2&status=400")
	for _, query := range []string{"limit=2&status=201&cursor=" + list.Next, "cursor=" + list.Next, "order=oldest&status=400&cursor=" + list.Next, "status=400&cursor=x" + list.Next, "cursor=abc"} {
		if answer := w.get(auditRecords + "?" + query); answer.Code != 400 || !strings.Contains(answer.Body.String(), `"parameter":"cursor"`) {
			t.Errorf("%s: got %d %s, want the cursor refused", query, answer.Code, answer.Body)
		}
	}
	if _, got := w.list("limit=3&status=400&cursor=" + list.Next); len(got) != 3 {
		t.Errorf("got %v, want another size of page to be fine", got)
	}
}

// A name stands for itself, whatever it means elsewhere.
func TestAuditStrangeNames(t *testing.T) {
	names := []string{"100%", "a_b", "axb", "o'brien", `"quoted"`, `back\slash`, "'; DROP TABLE trail; --", "' OR 1=1 --", "*", "ÅNGSTRÖM", "田中", "nul\x00l", "$1", "a;b", "a&b=c", "\u202egpj", "a b", "a+b"}
	w := newAuditWorld(t, func(cfg *AdminConfig) {
		for _, name := range names {
			if _, err := cfg.Store.Append(t.Context(), &audit.Record{Action: name, Subject: audit.Subject{ID: "id of " + name, UserName: name}}); err != nil {
				t.Fatal(err)
			}
		}
	})
	for i, name := range names {
		want := fmt.Sprint([]int{26 + i})
		for _, query := range []string{"user=" + url.QueryEscape(name), "user=" + url.QueryEscape("ID OF "+name), "action=" + url.QueryEscape(name)} {
			if _, got := w.list(query); fmt.Sprint(got) != want {
				t.Errorf("%s: got %v, want %s", query, got, want)
			}
		}
	}
	if _, got := w.list("user=" + url.QueryEscape("ångström")); len(got) != 1 {
		t.Errorf("in another case: got %v, want one record", got)
	}
}

// A page ends early when its records are large.
func TestAuditLargePage(t *testing.T) {
	w := newAuditWorld(t, func(cfg *AdminConfig) {
		for range 12 {
			if _, err := cfg.Store.Append(t.Context(), &audit.Record{Action: "large", Error: strings.Repeat("x", 900_000)}); err != nil {
				t.Fatal(err)
			}
		}
	})
	cursor, n := "", 0
	for page := range 4 {
		list, seqs := w.list("action=large" + cursor)
		if n += len(seqs); len(seqs) > 5 || len(seqs) == 0 {
			t.Errorf("page %d: got %d records, want some and at most 5", page, len(seqs))
		}
		if list.Next == "" {
			break
		}
		cursor = "&cursor=" + list.Next
	}
	if n != 12 {
		t.Errorf("got %d records, want 12", n)
	}
}

// A search that takes too long says what to do.
func TestAuditDeadline(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), "GET", auditRecords, nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	answer := httptest.NewRecorder()
	new(AdminConfig).unreadable(ended, answer, r, ended.Err())
	if answer.Code != 503 || !strings.Contains(answer.Body.String(), "narrow it with since and until") {
		t.Errorf("got %d %s", answer.Code, answer.Body)
	}
}

func TestOneAuditRecord(t *testing.T) {
	w := newAuditWorld(t, nil)
	want := append(audit.Append(nil, w.records[3]), '\n')
	for _, id := range []string{"4", w.records[3].ID, strings.ToUpper(w.records[3].ID)} {
		if answer := w.get(auditRecords + "/" + id); answer.Code != 200 || !bytes.Equal(answer.Body.Bytes(), want) {
			t.Errorf("%s: got %d %s, want %s", id, answer.Code, answer.Body, want)
		}
	}
	for id, status := range map[string]int{"0": 404, "26": 404, "-1": 404, "0192f0c1-7e70-7a3b-8a5e-0c5d7e1a2b3c": 404, "x": 400, "1/2": 404, "": 404, "%3Cscript%3E": 400} {
		if answer := w.get(auditRecords + "/" + id); answer.Code != status || !json.Valid(answer.Body.Bytes()) || strings.Contains(answer.Body.String(), "<script>") {
			t.Errorf("%q: got %d %s, want %d", id, answer.Code, answer.Body, status)
		}
	}
}

func TestAuditBadQuery(t *testing.T) {
	w := newAuditWorld(t, nil)
	for _, tt := range []struct {
		query, parameter string
		position         int
		says             string
	}{
		{"action=created&since=yesterday", "since", 22, "want a time such as"},
		{"since=2026-11-22T08:00:00+01:00", "since", 7, "%2B"},
		{"status=4xx", "status", 8, "want a number from 100 to 599"},
		{"status=99", "status", 8, "from 100 to 599"},
		{"limit=0", "limit", 7, "from 1 to 1000"},
		{"limit=1001", "limit", 7, "from 1 to 1000"},
		{"kind=x", "kind", 6, "want one of intent, outcome"},
		{"outcome=bad", "outcome", 9, "want one of succeeded, refused"},
		{"order=up", "order", 7, "want one of newest, oldest"},
		{"id=7", "id", 4, "this is not a record id"},
		{"hash=0123", "hash", 6, "want 32 hexadecimal digits"},
		{"hash=" + strings.Repeat("A", 32), "hash", 6, "want 32 hexadecimal digits"},
		{"until=0001-01-01T00:00:00Z", "until", 7, "want a time such as"},
		{"user=", "user", 6, "leave it out"},
		{"user", "user", 5, "leave it out"},
		{"user=" + strings.Repeat("x", 2000), "user", 6, "longer than anything"},
		{"user=a&user=b", "user", 13, "given twice, at 6 and 13"},
		{"who=a", "who", 5, "there is no such parameter; want one of action, connection"},
		{"user=a%zz", "", 7, "character 7"},
		{"us%4er=a", "usNr", 8, "no such parameter"},
		{"u%er=a", "", 2, "character 2"},
		{"since=2026-11-22T09:00:00Z&until=2026-11-22T08:00:00Z", "since", 7, "no record lies between"},
	} {
		answer := w.get(auditRecords + "?" + tt.query)
		var problem apiProblem
		if err := json.Unmarshal(answer.Body.Bytes(), &problem); err != nil || answer.Code != 400 || problem.Parameter != tt.parameter || problem.Position != tt.position || !strings.Contains(problem.Error, tt.says) {
			t.Errorf("%.60s: got %d %+v, want parameter %q at %d and %q", tt.query, answer.Code, problem, tt.parameter, tt.position, tt.says)
		}
	}
}

func TestAuditDoor(t *testing.T) {
	w := newAuditWorld(t, nil)
	for _, tt := range []struct {
		name, method, target string
		headers              []string
		want                 int
	}{
		{"no token", "GET", "", []string{"Authorization", ""}, 401},
		{"another token", "GET", "", []string{"Authorization", "Bearer x"}, 401},
		{"no token, one record", "GET", "/1", []string{"Authorization", ""}, 401},
		{"no token, no such address", "GET", "/1/2", []string{"Authorization", ""}, 401},
		{"a token in the query", "GET", "?access_token=" + testAdminToken, []string{"Authorization", ""}, 401},
		{"a name of somebody else", "GET", "", []string{"Host", "evil.example:9090"}, 421},
		{"no name", "GET", "", []string{"Host", ""}, 421},
		{"localhost", "GET", "", []string{"Host", "LOCALHOST:9090"}, 200},
		{"IPv6", "GET", "", []string{"Host", "[::1]:9090"}, 200},
		{"a configured name", "GET", "", []string{"Host", "Gate.example"}, 200},
		{"a foreign origin", "GET", "", []string{"Origin", "https://evil.example"}, 403},
		{"origin null", "GET", "", []string{"Origin", "null"}, 403},
		{"another port's origin", "GET", "", []string{"Origin", "http://127.0.0.1:9091"}, 403},
		{"its own origin", "GET", "", []string{"Origin", "http://127.0.0.1:9090"}, 200},
		{"another site, by the browser's word", "GET", "", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"an address typed in", "GET", "", []string{"Sec-Fetch-Site", "none"}, 200},
		{"a preflight", "OPTIONS", "", []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "GET"}, 403},
		{"POST", "POST", "", nil, 405},
		{"DELETE", "DELETE", "/1", nil, 405},
		{"HEAD", "HEAD", "", nil, 200},
	} {
		answer := w.do(tt.method, auditRecords+tt.target, tt.headers...)
		if answer.Code != tt.want {
			t.Errorf("%s: got %d %s, want %d", tt.name, answer.Code, answer.Body, tt.want)
		}
		for name := range answer.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: got the header %s, want none of CORS", tt.name, name)
			}
		}
		if answer.Code != 200 && (!json.Valid(answer.Body.Bytes()) || strings.Contains(answer.Body.String(), testAdminToken)) {
			t.Errorf("%s: got %s, want an error as JSON, without the token", tt.name, answer.Body)
		}
	}
	open := newAuditWorld(t, func(cfg *AdminConfig) { cfg.Token = nil })
	if answer := open.get(auditRecords); answer.Code != 403 || !strings.Contains(answer.Body.String(), "SCIMGATE_ADMIN_TOKEN") {
		t.Errorf("without a configured token: got %d %s, want 403 and what to do", answer.Code, answer.Body)
	}
}

func FuzzAuditQuery(f *testing.F) {
	for _, seed := range []string{"", "user=a&limit=7&since=2h", "u%er=%zz&&;", "cursor=AAAA&order=oldest", "until=1d&id=0192f0c1-7e70-7a3b-8a5e-0c5d7e1a2b3c"} {
		f.Add(seed)
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, raw string) {
		q, _, problem := readAuditQuery(raw, now)
		if problem != nil {
			if problem.Error == "" || problem.Position < 0 || problem.Position > len(raw)+1 {
				t.Errorf("%q: got %+v, want a place in it", raw, problem)
			}
			return
		}
		if q.Limit < 1 || q.Limit > auditMostPage {
			t.Errorf("%q: got a limit of %d", raw, q.Limit)
		}
		if values, err := url.ParseQuery(raw); err == nil && values.Get("user") != q.User {
			t.Errorf("%q: got the user %q, want %q", raw, q.User, values.Get("user"))
		}
	})
}
