package entra

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestJudge(t *testing.T) {
	tests := []struct {
		failed, done int
		rule         string
		outlook      bool
	}{
		{0, 100, "", false},
		{40, 100, "", false},
		{41, 100, "", true},
		{4_999, 5_000, "", true},
		{5_000, 5_000, "ratio", false},
		{5_000, 12_500, "", false},
		{5_001, 12_500, "ratio", false},
		{40_000, 1_000_000, "", false},
		{40_001, 1_000_000, "failures", false},
		{60_000, 1_000_000, "absolute", false},
	}
	for _, tt := range tests {
		r := Report{Totals: Totals{Objects: tt.done + 7, Failed: tt.failed, NotProcessed: 7}}
		r.judge()
		if q := r.Quarantine; q.Rule != tt.rule || q.Quarantined != (tt.rule != "") || (q.Outlook != "") != tt.outlook || q.Counted != tt.failed {
			t.Errorf("%d of %d: got %+v, want rule %q", tt.failed, tt.done, q, tt.rule)
		}
	}
}

func TestPercentile(t *testing.T) {
	var d []time.Duration
	if got := percentile(d, 50); got != 0 {
		t.Errorf("of nothing: got %d, want 0", got)
	}
	for i := 1; i <= 200; i++ {
		d = append(d, time.Duration(i))
	}
	for p, want := range map[int]time.Duration{50: 100, 99: 198, 100: 200} {
		if got := percentile(d, p); got != want {
			t.Errorf("p%d: got %d, want %d", p, got, want)
		}
	}
}

func TestWriteText(t *testing.T) {
	r := Report{
		Cycle: "incremental cycle", Requests: 4, RequestsPerSecond: 2, P50: 1200 * time.Microsecond, P99: 150 * time.Microsecond, Duration: 2 * time.Second,
		Totals: Totals{Objects: 2, Updated: 1, Failed: 1}, Statuses: map[int]int{200: 2, 409: 1, 0: 1}, RetryAfter: []string{"5"},
		Entries: []Entry{{Kind: "User", UserName: "ann\x1b", ID: "101", Action: Update, Status: Success, Requests: 2,
			Steps: []Step{{Action: Update, Status: Success, HTTP: 204, Attributes: []string{"title"}}}},
			{Kind: "User", UserName: "bob", Action: EntryLevelError, Status: Failure, Requests: 2,
				Steps: []Step{{Action: Create, Status: Failure, HTTP: 409, ErrorCode: "EntryConflict", ScimType: "uniqueness", Detail: "taken\nlevel=error", RetryAfter: "5"}}}},
		Unstable: []Unstable{{Attribute: "userName", How: "in another letter case", Count: 1, UserNames: []string{"ann"}}},
		Remarks:  []Remark{{"odd", 3}}, Escrowed: []string{"o2"},
	}
	r.judge()
	var b strings.Builder
	must(t, r.WriteText(&b))
	want := `Incremental cycle, legacy dialect: 2 objects in 2s
  created 0, updated 1, disabled 0, restored 0, deleted 0, skipped 0, failed 1 (50.0 %)
  4 requests, 2.0/s, p50 1.2ms, p99 150µs
  answers: none x 1 200 x 2 409 x 1; Retry-After: 5
Quarantine: no; 1 failure of this cycle would count
  but 50.0 % of the objects failed; a tenant with this share is quarantined once 5000 objects have failed
Provisioning log:
  User ann  (id 101): Update Success, 2 requests
    Update              Success 204 [title]
  User bob: EntryLevelError Failure, 2 requests
    Create              Failure 409 EntryConflict uniqueness taken level=error (Retry-After: 5)
Attributes that come back other than sent, so that Entra would send them in every cycle:
  userName comes back in another letter case: 1 user, for example ann
Remarks:
  odd (3 times)
Escrow: 1 object for the next cycle
`
	wantLines(t, strings.Split(b.String(), "\n"), strings.Split(want, "\n"))
}

func TestGenerate(t *testing.T) {
	a, b := Generate(2000, 7), Generate(2000, 7)
	if !reflect.DeepEqual(a, b) {
		t.Error("the same seed gives other persons")
	}
	if reflect.DeepEqual(a, Generate(2000, 8)) {
		t.Error("another seed gives the same persons")
	}
	users, objects, managers := map[string]bool{}, map[string]bool{}, 0
	for _, p := range a {
		if n := utf8.RuneCountInString(p.UserName); n > 30 || n == 0 {
			t.Errorf("userName %q has %d characters", p.UserName, n)
		}
		if p.ManagerObjectID != "" {
			managers++
			if !objects[p.ManagerObjectID] {
				t.Errorf("manager of %s does not come before", p.UserName)
			}
		}
		users[p.UserName], objects[p.ObjectID] = true, true
		if len(p.ObjectID) != 36 || p.ObjectID[14] != '4' || !strings.Contains("89ab", p.ObjectID[19:20]) {
			t.Errorf("object id %q is not a version 4 UUID", p.ObjectID)
		}
	}
	if len(users) != 2000 || len(objects) != 2000 || managers < 1000 {
		t.Errorf("got %d userNames, %d object ids, %d managers", len(users), len(objects), managers)
	}
	for _, p := range GenerateLong(100, 7) {
		if utf8.RuneCountInString(p.UserName) <= 30 {
			t.Errorf("userName %q is not long", p.UserName)
		}
	}
}

func TestDirectory(t *testing.T) {
	var d Directory
	must(t, d.Add(person("o1", "ann"), person("o2", "bob")))
	must(t, d.AddGroup(Group{ObjectID: "g1", DisplayName: "Staff"}))
	for what, err := range map[string]error{
		"taken id":            d.Add(person("o1", "eve")),
		"no userName":         d.Add(Person{ObjectID: "o3"}),
		"no object id":        d.Add(Person{UserName: "eve"}),
		"no displayName":      d.AddGroup(Group{ObjectID: "g2"}),
		"unknown person":      d.Disable("o9"),
		"a group":             d.Disable("g1"),
		"a person":            d.DeleteGroup("o1"),
		"not soft-deleted":    d.HardDelete("o1"),
		"id of another group": d.AddGroup(Group{ObjectID: "o1", DisplayName: "x"}),
	} {
		if err == nil {
			t.Errorf("%s: got no error", what)
		}
	}
	_, mark := d.changes(0, nil)
	must(t, d.Update("o1", func(p *Person) { p.ObjectID, p.Title = "other", "t" }))
	must(t, d.Unassign("o2"))
	must(t, d.Assign("o2"))
	list, _ := d.changes(mark, nil)
	if got := []string{list[0].objectID(), list[1].objectID()}; !slices.Equal(got, []string{"o1", "o2"}) || len(list) != 2 {
		t.Errorf("changes: got %v, want o1 and o2", got)
	}
	must(t, d.SoftDelete("o1"))
	must(t, d.HardDelete("o1"))
	if _, ok := d.Person("o1"); ok || len(d.Persons()) != 1 {
		t.Error("a hard-deleted person is still there")
	}
	if p, ok := d.Person("o2"); !ok || !p.wanted() {
		t.Errorf("o2: got %+v, want wanted", p)
	}
}

func TestReadManagerForms(t *testing.T) {
	for _, form := range []string{`"271"`, `{"value":"271"}`, `[{"Value":"271"}]`} {
		r, err := decodeObject([]byte(`{"` + strings.ToUpper(enterpriseURN) + `":{"manager":` + form + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := readManager(r); got != "271" {
			t.Errorf("%s: got %q, want 271", form, got)
		}
	}
}

func TestDeviation(t *testing.T) {
	for _, tt := range []struct {
		sent string
		got  reading
		want string
	}{
		{"a", reading{text: "a", present: true}, ""},
		{"+1 555", reading{text: "+1-555", present: true}, "reformatted"},
		{"abc", reading{text: "xyz", present: true}, "with another value"},
		{"abc", reading{present: true}, "with another value"},
	} {
		if got := deviation(tt.sent, tt.got); got != tt.want {
			t.Errorf("deviation(%q, %q): got %q, want %q", tt.sent, tt.got.text, got, tt.want)
		}
	}
}
