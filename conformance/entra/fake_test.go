package entra

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const testToken = "tok-1"

// call is one request as the fake saw it.
type call struct {
	method, uri, body string
	header            http.Header
}

func (c call) String() string { return strings.TrimSpace(c.method + " " + c.uri + " " + c.body) }

// fake is a small SCIM service provider: users and groups in memory, eq
// filters, both PATCH dialects, and answers that a test puts in its way.
type fake struct {
	mu        sync.Mutex
	resources map[string][]map[string]any // "Users", "Groups", in order of creation
	next      int
	calls     []call

	// answer, when it returns a status, replaces the fake's own answer.
	answer func(c call) (status int, header http.Header, body string)
	// shows changes a resource on its way out.
	shows func(r map[string]any)
	// noBody makes PATCH answer 204.
	noBody bool
}

func startFake(t *testing.T) (*fake, string) {
	t.Helper()
	f := &fake{resources: map[string][]map[string]any{}, next: 100}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return f, s.URL + "/scim/v2"
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	c := call{r.Method, r.RequestURI, string(body), r.Header.Clone()}
	f.calls = append(f.calls, c)
	if f.answer != nil {
		if status, header, text := f.answer(c); status != 0 {
			w.Header().Set("Content-Type", "application/scim+json")
			for k, v := range header {
				w.Header()[k] = v
			}
			w.WriteHeader(status)
			io.WriteString(w, text)
			return
		}
	}
	if r.Header.Get("Authorization") != "Bearer "+testToken {
		f.fail(w, 401, "", "the token is not known")
		return
	}
	parts := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, "/scim/v2"), "/"), "/")
	kind := strings.ToUpper(parts[0][:1]) + parts[0][1:]
	if len(parts) == 1 {
		f.collection(w, r, kind, body)
	} else {
		f.single(w, r, kind, parts[1], body)
	}
}

func (f *fake) collection(w http.ResponseWriter, r *http.Request, kind string, body []byte) {
	if r.Method == http.MethodPost {
		var res map[string]any
		if err := json.Unmarshal(body, &res); err != nil {
			f.fail(w, 400, "invalidSyntax", "not JSON")
			return
		}
		for _, other := range f.resources[kind] {
			if res["userName"] != nil && strings.EqualFold(fmt.Sprint(other["userName"]), fmt.Sprint(res["userName"])) {
				f.fail(w, 409, "uniqueness", "userName is taken, request r-7")
				return
			}
		}
		f.next++
		res["id"] = strconv.Itoa(f.next)
		f.resources[kind] = append(f.resources[kind], res)
		f.write(w, 201, res)
		return
	}
	found := []any{}
	for _, res := range f.resources[kind] {
		if matches(res, r.URL.Query().Get("filter")) {
			found = append(found, res)
		}
	}
	total := len(found)
	if start, err := strconv.Atoi(r.URL.Query().Get("startIndex")); err == nil {
		count, _ := strconv.Atoi(r.URL.Query().Get("count"))
		found = found[min(start-1, total):min(start-1+count, total)]
	}
	f.write(w, 200, map[string]any{"schemas": []string{listURN}, "totalResults": total, "startIndex": 1, "itemsPerPage": len(found), "Resources": found})
}

var comparison = regexp.MustCompile(`(\S+(?:\[type eq "work"\]\.value)?) eq ("(?:[^"\\]|\\.)*")(?: and |$)`)

// matches evaluates comparisons with eq that are joined by and.
func matches(res map[string]any, filter string) bool {
	for _, m := range comparison.FindAllStringSubmatch(filter, -1) {
		want, _ := strconv.Unquote(m[2])
		switch m[1] {
		case "members":
			if !slices.ContainsFunc(list(res["members"]), func(e any) bool { return e.(map[string]any)["value"] == want }) {
				return false
			}
		case "manager":
			if readManager(res) != want {
				return false
			}
		default:
			if got := (attribute{at: locate(m[1])}).read(res); !got.present || !strings.EqualFold(got.text, want) {
				return false
			}
		}
	}
	return true
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func (f *fake) single(w http.ResponseWriter, r *http.Request, kind, id string, body []byte) {
	i := slices.IndexFunc(f.resources[kind], func(res map[string]any) bool { return res["id"] == id })
	if i < 0 {
		f.fail(w, 404, "", "no resource "+id)
		return
	}
	res := f.resources[kind][i]
	switch r.Method {
	case http.MethodGet:
		f.write(w, 200, res)
	case http.MethodDelete:
		f.resources[kind] = slices.Delete(f.resources[kind], i, i+1)
		w.WriteHeader(204)
	case http.MethodPatch:
		var patch struct {
			Operations []struct {
				Op, Path string
				Value    any
			}
		}
		if err := json.Unmarshal(body, &patch); err != nil {
			f.fail(w, 400, "invalidSyntax", "not JSON")
			return
		}
		for _, op := range patch.Operations {
			apply(res, strings.ToLower(op.Op), op.Path, op.Value)
		}
		if f.noBody {
			w.WriteHeader(204)
			return
		}
		f.write(w, 200, res)
	}
}

// apply does one operation of either dialect.
func apply(res map[string]any, op, path string, value any) {
	switch {
	case path == "":
		for k, v := range value.(map[string]any) {
			apply(res, op, k, v)
		}
	case op == "remove":
		gone := map[any]bool{}
		for _, m := range list(value) {
			gone[m.(map[string]any)["value"]] = true
		}
		if _, id, ok := strings.Cut(path, `members[value eq "`); ok {
			gone[strings.TrimSuffix(id, `"]`)] = true
		}
		res["members"] = slices.DeleteFunc(list(res["members"]), func(m any) bool { return gone[m.(map[string]any)["value"]] })
	case path == "members":
		res["members"] = append(list(res["members"]), list(value)...)
	default:
		if s, ok := value.(string); ok && path == "active" {
			value = s == "True"
		}
		set(res, locate(path), value)
	}
}

func set(res map[string]any, at location, value any) {
	if at.name == "manager" {
		at.urn = enterpriseURN
	}
	if at.urn != "" {
		ext, _ := res[at.urn].(map[string]any)
		if ext == nil {
			ext = map[string]any{}
			res[at.urn] = ext
		}
		res = ext
	}
	switch {
	case at.typ != "":
		if m, ok := element(res[at.name], at.typ).(map[string]any); ok {
			m[at.sub] = value
		} else {
			res[at.name] = append(list(res[at.name]), map[string]any{"type": at.typ, at.sub: value})
		}
	case at.sub != "":
		m, _ := res[at.name].(map[string]any)
		if m == nil {
			m = map[string]any{}
			res[at.name] = m
		}
		m[at.sub] = value
	default:
		res[at.name] = value
	}
}

func (f *fake) write(w http.ResponseWriter, status int, v map[string]any) {
	if f.shows != nil && v["id"] != nil {
		v = clone(v)
		f.shows(v)
	}
	w.Header().Set("Content-Type", "application/scim+json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func clone(v map[string]any) map[string]any {
	b, _ := json.Marshal(v)
	var c map[string]any
	json.Unmarshal(b, &c)
	return c
}

func (f *fake) fail(w http.ResponseWriter, status int, scimType, detail string) {
	f.write(w, status, map[string]any{"schemas": []string{errorURN}, "status": strconv.Itoa(status), "scimType": scimType, "detail": detail})
}

// take returns the calls since the last take, decoded for reading.
func (f *fake) take() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// lines are the calls without the base path, as one line each.
func lines(calls []call) []string {
	var out []string
	for _, c := range calls {
		c.uri = strings.TrimPrefix(c.uri, "/scim/v2")
		out = append(out, c.String())
	}
	return out
}

// newClient returns a client with one worker, so that calls come in order.
func newClient(t *testing.T, tenantURL string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{URL: tenantURL, Token: testToken, Workers: 1}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func newDirectory(t *testing.T, persons ...Person) *Directory {
	t.Helper()
	d, err := NewDirectory(persons...)
	if err != nil {
		t.Fatalf("NewDirectory: %v", err)
	}
	return d
}

// cycleRun runs one cycle and wants no error of it.
func cycleRun(t *testing.T, run func() (*Report, error)) *Report {
	t.Helper()
	r, err := run()
	if err != nil {
		t.Fatalf("cycle: %v", err)
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantLines(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("line %d:\n got %s\nwant %s", i+1, g, w)
		}
	}
}
