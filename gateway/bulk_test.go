package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scimgate/config/profile"
	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
	"scimgate/transform/scim"
)

// bulkText is a bulk request of these operations; more are members of the message.
func bulkText(more string, operations ...string) string {
	return `{"schemas":["` + scim.MessageBulkRequest + `"],` + more + `"Operations":[` + strings.Join(operations, ",") + `]}`
}

func post(endpoint, bulkID, data string) string {
	return fmt.Sprintf(`{"method":"POST","path":"%s","bulkId":"%s","data":%s}`, endpoint, bulkID, data)
}

func group(displayName string, members ...string) string {
	for i, m := range members {
		members[i] = `{"value":"` + m + `"}`
	}
	return `{"schemas":["` + scim.SchemaGroup + `"],"displayName":"` + displayName + `","members":[` + strings.Join(members, ",") + `]}`
}

// bulkAnswer is a BulkResponse.
type bulkAnswer struct {
	id         string // of the request
	Schemas    []string
	Operations []bulkOutcome
}

type bulkOutcome struct {
	Method, BulkID, Location, Version, Status string
	Response                                  struct{ Status, ScimType, Detail string }
}

func (o bulkOutcome) resource() string { return o.Location[strings.LastIndex(o.Location, "/")+1:] }

// bulk sends a bulk request, checks what every answer must have, and compares the statuses.
func (p *harness) bulk(body string, statuses ...string) bulkAnswer {
	p.t.Helper()
	a := p.do("POST", "/Bulk", body)
	out := bulkAnswer{id: a.header.Get("X-Request-Id")}
	if err := json.Unmarshal([]byte(a.text), &out); err != nil || a.status != 200 || !slices.Equal(out.Schemas, []string{scim.MessageBulkResponse}) {
		p.t.Fatalf("got %d %s, want a BulkResponse", a.status, a.text)
	}
	var got []string
	for i, o := range out.Operations {
		got = append(got, o.Status)
		failed := o.Status >= "300"
		switch {
		case failed && (o.Response.Status != o.Status || !strings.Contains(o.Response.Detail, "Request id: "+out.id+".")):
			p.t.Errorf("Operations[%d]: got %+v, want an error body that names its own request id", i, o)
		case !failed && o.Response.Status != "":
			p.t.Errorf("Operations[%d]: got %+v, want no error body", i, o)
		case !strings.HasPrefix(o.Location, p.url+"/") && (o.Method != "POST" || !failed):
			p.t.Errorf("Operations[%d]: got location %q, want an absolute one", i, o.Location)
		}
	}
	if !slices.Equal(got, statuses) {
		p.t.Fatalf("got %v, want %v: %s", got, statuses, a.text)
	}
	return out
}

// told is what the trail has under an id.
func (p *harness) told(id string) []string {
	p.t.Helper()
	var out []string
	for r, err := range p.store.Search(context.Background(), audit.Query{RequestID: id}) {
		if err != nil {
			p.t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %s %d", r.Kind, r.Action, r.Answer.Status))
	}
	return out
}

// members are the values of a group's members, sorted.
func (p *harness) members(id string) []string {
	p.t.Helper()
	list, _ := p.do("GET", "/Groups/"+id, "").body["members"].([]any)
	var out []string
	for _, m := range list {
		out = append(out, m.(map[string]any)["value"].(string))
	}
	slices.Sort(out)
	return out
}

// All methods, references in values and in paths, in the order of the request; each operation with its own records.
func TestBulk(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	bob, eve := p.create("bob", ""), p.create("eve", "")
	version := p.do("GET", "/Users/"+bob, "").header.Get("ETag")
	put := func(version string) string {
		text, _ := json.Marshal(version)
		return `{"method":"PUT","path":"/Users/` + bob + `","version":` + string(text) + `,"data":` + user("bob", `"title":"Boss"`) + `}`
	}
	a := p.bulk(bulkText("",
		post("/Groups", "guides", group("Tour Guides", "bulkId:alice", bob)),
		post("/Users", "alice", user("alice", `"`+scim.SchemaEnterpriseUser+`":{"manager":{"value":"bulkId:carl"}}`)),
		put(`W/"another"`),
		put(version),
		`{"method":"PATCH","path":"/Users/bulkId:carl","data":`+patch(`{"op":"add","path":"title","value":"Chief"}`)+`}`,
		post("/Users", "carl", user("carl", "")),
		`{"method":"DELETE","path":"/Users/`+eve+`","bulkId":"eve"}`,
		`{"method":"DELETE","path":"/Users/`+eve+`"}`,
		post("/Users", "again", user("bob", "")),
	), "201", "201", "412", "200", "200", "201", "204", "404", "409")
	alice, carl := a.Operations[1].resource(), a.Operations[5].resource()
	want := []string{alice, bob}
	slices.Sort(want)
	if got := p.members(a.Operations[0].resource()); !slices.Equal(got, want) {
		t.Errorf("got members %v, want %v", got, want)
	}
	if got := p.do("GET", "/Users/"+alice, "").get(scim.SchemaEnterpriseUser + "/manager/value"); got != carl {
		t.Errorf("got manager %v, want %s", got, carl)
	}
	if got := p.do("GET", "/Users/"+carl, "").get("title"); got != "Chief" || a.Operations[4].Location != p.url+"/Users/"+carl {
		t.Errorf("got title %v at %s, want Chief", got, a.Operations[4].Location)
	}
	if got := p.do("GET", "/Users/"+bob, ""); got.get("title") != "Boss" || got.header.Get("ETag") != a.Operations[3].Version {
		t.Errorf("got %s, want a Boss of version %s", got.text, a.Operations[3].Version)
	}
	if o := a.Operations[8]; o.BulkID != "again" || o.Response.ScimType != "uniqueness" || o.Location != "" {
		t.Errorf("got %+v, want uniqueness, and no location", o)
	}
	for place, want := range map[string][]string{
		"": {"outcome bulk 200"}, ".1": {"intent created 0", "outcome created 201"}, ".3": {"intent updated 0", "outcome failed 412"}, ".7": {"intent deleted 0", "outcome deleted 204"},
	} {
		if got := p.told(a.id + place); !slices.Equal(got, want) {
			t.Errorf("the trail of ID%s: got %v, want %v", place, got, want)
		}
	}
}

// RFC 7644, Section 3.7.1: groups that are each other's members.
func TestBulkCircle(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	a := p.bulk(bulkText("", post("/Groups", "qwerty", group("Group A", "bulkId:ytrewq")), post("/Groups", "ytrewq", group("Group B", "bulkId:qwerty"))), "201", "201")
	one, other := a.Operations[0], a.Operations[1]
	if got := p.members(one.resource()); !slices.Equal(got, []string{other.resource()}) {
		t.Errorf("got members %v, want Group B", got)
	}
	if got := p.members(other.resource()); !slices.Equal(got, []string{one.resource()}) {
		t.Errorf("got members %v, want Group A", got)
	}
	if got := p.do("GET", "/Groups/"+one.resource(), "").header.Get("ETag"); one.Version != "" && one.Version != got {
		t.Errorf("got version %s, want %s, or none", one.Version, got)
	}
	if got := p.told(a.id + ".1.2"); len(got) != 2 || !strings.HasPrefix(got[1], "outcome updated 20") {
		t.Errorf("the trail of the second half: got %v, want an update", got)
	}

	p.sim.Inject(simulator.Fault{Kind: simulator.Status, Status: 400, Op: scim.OpPatch, Times: 1})
	a = p.bulk(bulkText("", post("/Groups", "c", group("Group C", "bulkId:d")), post("/Groups", "d", group("Group D", "bulkId:c"))), "400", "201")
	if o := a.Operations[0]; !strings.HasPrefix(o.Response.Detail, "created, but without") || o.resource() == "" || len(p.members(o.resource())) != 0 {
		t.Errorf("got %+v, want to be told of the group that is there", o)
	}
	p.sim.Inject(simulator.Fault{Kind: simulator.Status, Status: 400, Op: scim.OpCreate, Nth: 2})
	a = p.bulk(bulkText(`"failOnErrors":1,`, post("/Groups", "e", group("Group E", "bulkId:f")), post("/Groups", "f", group("Group F", "bulkId:e"))), "409", "400")
	if o := a.Operations[0]; !strings.Contains(o.Response.Detail, "failOnErrors was reached before") || o.resource() == "" {
		t.Errorf("got %+v, want to be told of the group that is there", o)
	}
}

// Policy, limits and what the gateway holds are those of single requests; what one operation may not do keeps none of the
// others.
func TestBulkOverANarrowUpstream(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	long := strings.Repeat("n", 60)
	a := p.bulk(bulkText("",
		post("/Users", "ann", user("ann", `"externalId":"e-1"`)),
		post("/Groups", "g", group("G", "bulkId:ann")),
		post("/Users", "long", user(long, "")),
		`{"method":"PATCH","path":"/Users/bulkId:long","data":`+patch(`{"op":"add","path":"title","value":"x"}`)+`}`,
		`{"method":"PATCH","path":"/Users/bulkId:ann","data":`+patch(`{"op":"Replace","path":"active","value":"False"}`)+`}`,
		post("/Bulk", "bulk", bulkText("", `{"method":"DELETE","path":"/Users/bulkId:ann"}`)),
		post("/Users", "bob", user("bob", "")),
	), "201", p.status("POST", "/Groups", group("G")), p.status("POST", "/Users", user(long, "")), "409", "200", "400", "201")
	p.finds(`externalId eq "e-1"`, 1, "ann")
	if got := p.do("GET", "/Users/"+a.Operations[0].resource(), "").get("active"); got != false {
		t.Errorf("got active %v, want false", got)
	}
	rec := p.record(a.id)
	if want := "7 of 7 operations were carried out, 4 of them failed: the records are those of " + a.id + ".1 to " + a.id + ".7"; rec.Plan != want || rec.Op != "bulk" {
		t.Errorf("got %s %q, want %q", rec.Op, rec.Plan, want)
	}
	for _, place := range []string{".2", ".3", ".4", ".6"} {
		if got := p.told(a.id + place); len(got) != 1 || !strings.HasPrefix(got[0], "outcome refused ") {
			t.Errorf("the trail of ID%s: got %v, want a refusal", place, got)
		}
	}
}

// status is that of the answer to a request.
func (p *harness) status(method, target, body string) string {
	p.t.Helper()
	return fmt.Sprint(p.do(method, target, body).status)
}

// record is the last record of a request.
func (p *harness) record(id string) *audit.Record {
	p.t.Helper()
	var last *audit.Record
	for r, err := range p.store.Search(context.Background(), audit.Query{RequestID: id}) {
		if err != nil {
			p.t.Fatal(err)
		}
		last = r
	}
	if last == nil {
		p.t.Fatalf("the trail has nothing of %s", id)
	}
	return last
}

func TestBulkFailOnErrors(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	gone := func(id string) string { return `{"method":"DELETE","path":"/Users/` + id + `"}` }
	a := p.bulk(bulkText(`"failOnErrors":2,`, gone("1"), post("/Users", "ann", user("ann", "")), gone("2"), post("/Users", "bob", user("bob", "")), gone("3")), "404", "201", "404")
	if got := findings(p.record(a.id)); len(got) != 1 || p.record(a.id).Findings[0].Reason != "2 operations were not begun, because failOnErrors was reached" {
		t.Errorf("got %v, want to be told what was not begun", p.record(a.id).Findings)
	}
	if n := len(p.sim.Resources("User")); n != 1 {
		t.Errorf("got %d users, want one", n)
	}
}

// A create whose answer is lost is found again, and what refers to it gets its id.
func TestBulkLostAnswer(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"), quick)
	p.sim.Inject(simulator.Fault{Kind: simulator.Lost, Op: scim.OpCreate, Times: 1, When: simulator.After})
	a := p.bulk(bulkText("", post("/Users", "ann", user("ann", "")), post("/Groups", "g", group("G", "bulkId:ann"))), "201", "201")
	if got := p.members(a.Operations[1].resource()); !slices.Equal(got, []string{a.Operations[0].resource()}) {
		t.Errorf("got members %v, want ann", got)
	}
	if got := p.told(a.id + ".1"); len(got) != 2 || got[1] != "outcome adopted 201" {
		t.Errorf("got %v, want an adoption", got)
	}
}

// When the client goes away, what was begun is brought to an end and recorded, and the rest is not begun.
func TestBulkClientGone(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	reached, gone := make(chan struct{}), make(chan struct{})
	creates := 0
	q := p.through(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == http.MethodPost {
			if creates++; creates == 2 {
				close(reached)
				<-gone
			}
		}
		return next.RoundTrip(r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	req := p.bulkRequest(bulkText("", post("/Users", "1", user("ann", "")), post("/Users", "2", user("bob", "")), post("/Users", "3", user("eve", ""))))
	go func() {
		<-reached
		cancel()
		close(gone)
	}()
	resp, err := q.gateway.Bulk(ctx, req, time.Now())
	if err != nil || len(resp.Bulk) != 2 || resp.Bulk[1].Status != 201 || len(p.sim.Resources("User")) != 2 {
		t.Fatalf("got %+v, %v, want two users", resp, err)
	}
	if got := p.told(req.Origin.RequestID + ".2"); !slices.Equal(got, []string{"intent created 0", "outcome created 201"}) {
		t.Errorf("the one that was begun: got %v, want it ended", got)
	}
	if got := p.told(req.Origin.RequestID + ".3"); got != nil {
		t.Errorf("the one that was not begun: got %v, want nothing", got)
	}
	if rec := p.record(req.Origin.RequestID); rec.Findings[0].Reason != "1 operations were not begun, because the client has gone" {
		t.Errorf("got %v, want to be told what was not begun", rec.Findings)
	}
}

// bulkRequest is a bulk request as the door would make it.
func (p *harness) bulkRequest(body string) *scim.Request {
	p.t.Helper()
	hr, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url+"/Bulk", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req, err := scim.ReadRequest(hr, "/Bulk", p.gateway.Types(), scim.MaxBody)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Origin = scim.Origin{Connection: "test", Credential: "entra", Source: "192.0.2.1", RequestID: "bulk-of-a-test", Base: p.url}
	return req
}

// A bulk request does not run for ever: what its time did not suffice for is answered, and not begun.
func TestBulkTime(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	g := p.gateway
	if most := g.bulkTime() + g.Deadline + 3*g.IntentWait; most >= writeTimeout || g.bulkTime() < leastBulkTime {
		t.Errorf("got %v, want the answer written within %v", most, writeTimeout)
	}
	req := p.bulkRequest(bulkText("", post("/Users", "1", user("ann", "")), `{"method":"DELETE","path":"/Users/7"}`))
	resp, err := g.Bulk(t.Context(), req, time.Now().Add(-g.bulkTime()))
	if err != nil || len(resp.Bulk) != 2 || p.sim.Count(scim.OpCreate) != 0 {
		t.Fatalf("got %+v, %v, want nothing begun", resp, err)
	}
	for _, r := range resp.Bulk {
		if e, ok := r.Err.(*scim.Error); !ok || e.Status != 503 || !strings.Contains(e.Detail, "not begun") || (r.Location == "") != (r.Method == "POST") {
			t.Errorf("got %+v, want 503", r)
		}
	}
	if rec := p.record("bulk-of-a-test"); rec.Findings[0].Reason != "2 operations were not begun, because the time for one request was used up" {
		t.Errorf("got %v, want to be told what was not begun", rec.Findings)
	}
}

// A few bulk requests are worked on at a time, so that they leave places for others.
func TestBulksAtOnce(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	for range bulksAtOnce {
		p.gateway.bulks <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.gateway.Bulk(ctx, p.bulkRequest(bulkText("", post("/Users", "1", user("ann", "")))), time.Now())
	if e, ok := err.(*scim.Error); !ok || e.Status != 503 || p.sim.Count(scim.OpCreate) != 0 {
		t.Errorf("got %v, want 503", err)
	}
	if got := p.told("bulk-of-a-test"); !slices.Equal(got, []string{"outcome failed 503"}) {
		t.Errorf("got %v, want it in the trail", got)
	}
	<-p.gateway.bulks
	p.bulk(bulkText("", post("/Users", "1", user("ann", ""))), "201")
}

// What is announced is what holds.
func TestBulkLimits(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"), func(_ *simulator.Config, _ *upConfig, d *DoorConfig) { d.Body = 100_000 })
	a := p.do("GET", "/ServiceProviderConfig", "")
	if a.get("bulk/supported") != true || a.get("bulk/maxOperations") != 1000.0 || a.get("bulk/maxPayloadSize") != 100_000.0 {
		t.Errorf("got %v, want bulk with its limits", a.get("bulk"))
	}
	one := `{"method":"DELETE","path":"/Users/7"}`
	if a = p.do("POST", "/Bulk", bulkText("", one+strings.Repeat(" ", 100_000))); a.status != 413 || !strings.Contains(a.detail(), "100000") {
		t.Errorf("got %d %s, want 413 that names the limit", a.status, a.text)
	}
	if a = p.do("POST", "/Bulk", bulkText("", one+strings.Repeat(","+one, 1000))); a.status != 413 || !strings.Contains(a.detail(), "1000") {
		t.Errorf("got %d %s, want 413 that names the limit", a.status, a.text)
	}
	if n := len(p.sim.Ledger()); n != 0 {
		t.Errorf("%d requests went upstream, want none", n)
	}
	if a := p.do("OPTIONS", "/Bulk", ""); a.header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("got Allow %q, want POST", a.header.Get("Allow"))
	}
}

// In a circle the second half is what any PATCH becomes, whatever the upstream takes.
func TestBulkCircleInAllModes(t *testing.T) {
	for _, mode := range []profile.UpdateMode{profile.UpdatePut, profile.UpdateSingle} {
		t.Run(string(mode), func(t *testing.T) {
			p := newHarness(t, tailored(t, "generic", "", mode))
			manager := func(id string) string {
				return `"` + scim.SchemaEnterpriseUser + `":{"department":"d","manager":{"value":"bulkId:` + id + `"}}`
			}
			a := p.bulk(bulkText("", post("/Users", "a", user("ann", manager("b"))), post("/Users", "b", user("bob", manager("c"))), post("/Users", "c", user("cat", manager("a")))), "201", "201", "201")
			for i, o := range a.Operations {
				got, want := p.do("GET", "/Users/"+o.resource(), ""), a.Operations[(i+1)%3].resource()
				if got.get(scim.SchemaEnterpriseUser+"/manager/value") != want || got.get(scim.SchemaEnterpriseUser+"/department") != "d" {
					t.Errorf("got %s, want manager %s", got.text, want)
				}
			}
		})
	}
}

// deadline is a context whose time is used up when expire says so.
type deadline struct {
	context.Context
	done chan struct{}

	mu    sync.Mutex
	after []func()
	err   error
}

func (d *deadline) Done() <-chan struct{} { return d.done }

func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// AfterFunc is what context looks for, to learn of the end without a goroutine.
func (d *deadline) AfterFunc(f func()) func() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.after = append(d.after, f)
	return func() bool { return true }
}

func (d *deadline) expire() {
	d.mu.Lock()
	d.err = context.DeadlineExceeded
	close(d.done)
	after := d.after
	d.mu.Unlock()
	for _, f := range after {
		f()
	}
}

// When the time is used up in the middle, what was begun ends, and the rest is answered.
func TestBulkTimeUsedUp(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	ctx := &deadline{Context: t.Context(), done: make(chan struct{})}
	q := p.through(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		if r.Method == http.MethodPost {
			ctx.expire()
		}
		return next.RoundTrip(r)
	})
	req := p.bulkRequest(bulkText("", post("/Groups", "a", group("A", "bulkId:b")), post("/Groups", "b", group("B", "bulkId:a")), `{"method":"DELETE","path":"/Groups/bulkId:b"}`))
	resp, err := q.gateway.Bulk(ctx, req, time.Now())
	if err != nil || len(resp.Bulk) != 3 {
		t.Fatalf("got %+v, %v, want three answers", resp, err)
	}
	for i, want := range []string{
		"409: created, but without what refers to operations that refer back to it: the time for one request was used up before",
		"503: not begun, because the time for one request was used up: send it again, with fewer operations",
		"503: not begun, because the time for one request was used up: send it again, with fewer operations",
	} {
		if got := fmt.Sprint(resp.Bulk[i].Err); got != want {
			t.Errorf("Operations[%d]: got %s, want %s", i, got, want)
		}
	}
	if got := p.told(req.Origin.RequestID + ".1"); !slices.Equal(got, []string{"intent created 0", "outcome created 201"}) || resp.Bulk[0].Location == "" {
		t.Errorf("got %v, want a group that was created", got)
	}
}

// bulkless is a trail that takes no record of a bulk request.
type bulkless struct{ recorder }

func (b bulkless) Append(ctx context.Context, rec *audit.Record, changes ...identity.Change) (int64, error) {
	if rec.Op == string(scim.OpBulk) {
		return 0, errors.New("the disk is full")
	}
	return b.recorder.Append(ctx, rec, changes...)
}

// Where the upstream has changed the truth is told, although the record of the whole cannot be stored.
func TestBulkWithoutItsRecord(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	p.gateway.trail = bulkless{p.gateway.trail}
	p.bulk(bulkText("", post("/Users", "1", user("ann", ""))), "201")
	if a := p.do("POST", "/Bulk", bulkText("", `{"method":"DELETE","path":"/Users/bulkId:x"}`)); a.status != 503 {
		t.Errorf("got %d %s, want 503: nothing was changed", a.status, a.text)
	}
}

// Nothing personal that stands in a bulk request reaches logs, metrics, the trail or what is left of it in files.
func TestBulkPrivacy(t *testing.T) {
	c := &canaries{}
	p := newHarness(t, builtin(t, "generic"))
	n := c.next
	p.bulk(bulkText("",
		post("/Users", "ann", c.user("ann")),
		`{"method":"PATCH","path":"/Users/bulkId:ann","data":`+patch(fmt.Sprintf(`{"op":"replace","path":"title","value":%q}`, n()))+`}`,
		`{"method":"PATCH","path":"/Users/bulkId:ann","data":`+patch(fmt.Sprintf(`{"op":"replace","path":"title","value":"bulkId:%s"}`, n()))+`}`,
		`{"method":"DELETE","path":"/Users/bulkId:`+n()+`"}`,
		`{"method":"DELETE","path":"/`+n()+`/1"}`,
		`{"method":"DELETE","path":"/Users/bulkId:ann","version":"\"`+n()+`\""}`,
		`{"method":"DELETE","path":"/Users/bulkId:ann","version":"`+n()+`\n"}`,
	), "201", "200", "409", "409", "404", "412", "400")
	for _, body := range []string{
		bulkText("", `{"method":"`+n()+`","path":"/Users/1"}`), bulkText(`"failOnErrors":"`+n()+`",`, `{"method":"DELETE","path":"/Users/1"}`),
		bulkText("", `{"method":"POST","path":"/Users","bulkId":"1","data":"`+n()+`"}`),
	} {
		if a := p.do("POST", "/Bulk", body); a.status != 400 {
			t.Errorf("got %d %s, want 400", a.status, a.text)
		}
	}
	p.leaks(c, "in the end")
}
