package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// dig returns the value at a dotted path.
func dig(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch m := v.(type) {
		case map[string]any:
			v = m[name]
		case []any:
			v = nil
			if len(m) > 0 && name == "0" {
				v = m[0]
			}
		default:
			return nil
		}
	}
	return v
}

func events(t *testing.T, rec *Record, line []byte) (list []map[string]any) {
	t.Helper()
	for _, e := range appendOCSF(nil, rec, line) {
		var event map[string]any
		if err := json.Unmarshal(e.Text, &event); err != nil {
			t.Fatalf("%s: %v", e.Text, err)
		}
		if strings.ContainsAny(string(e.Text), "\n\r") {
			t.Errorf("more than one line: %q", e.Text)
		}
		if e.ID != dig(event, "metadata.uid") || e.Seq != rec.Seq || float64(e.Seq) != dig(event, "metadata.sequence") {
			t.Errorf("entry %s of record %d holds %v, %v", e.ID, e.Seq, dig(event, "metadata.uid"), dig(event, "metadata.sequence"))
		}
		list = append(list, event)
	}
	return list
}

// What OCSF 1.8.0 requires of the classes that are written.
var ocsfRequired = map[float64][]string{
	0:    nil,
	3001: {"user"},
	6003: {"actor", "api", "api.operation", "src_endpoint"},
}

var ocsfAlways = []string{
	"activity_id", "category_uid", "class_uid", "type_uid", "time", "severity_id", "metadata.version", "metadata.product.name", "metadata.product.vendor_name",
}

func TestOCSFClasses(t *testing.T) {
	at := time.Date(2026, 11, 22, 9, 0, 0, 123456000, time.UTC)
	user := Subject{ID: "1", UserName: "ann@example.com", ExternalID: "e-1"}
	rec := func(kind, op, action string, status int) Record {
		return Record{
			V: 1, Seq: 7, ID: "id-7", Time: at, Kind: kind, RequestID: "r-1", Connection: "one", Credential: "entra", Source: "192.0.2.1",
			Op: op, Action: action, ResourceType: "User", Subject: user, Answer: Answer{Status: status}, Duration: 12.5,
		}
	}
	group := rec(Outcome, "create", Created, 201)
	group.ResourceType = "Group"
	bare := Record{V: 1, Seq: 1, ID: "id-1", Time: at, Kind: Outcome, Action: Unauthenticated, Answer: Answer{Status: 401}}
	for _, tc := range []struct {
		name string
		rec  Record
		want string // type_uid severity_id status, of each event
	}{
		{"create", rec(Outcome, "create", Created, 201), "600301 1 Success, 300101 1 Success"},
		{"its intent", rec(Intent, "create", Created, 0), "600301 1 Intended"},
		{"adopted", rec(Outcome, "create", Adopted, 201), "600301 1 Success, 300101 1 Success"},
		{"unknown", rec(Unknown, "create", Created, 504), "600301 3 Unknown"},
		{"reconciled as done", rec(Reconciled, "create", Created, 0), "600301 1 Success, 300101 1 Success"},
		{"reconciled as not done", rec(Reconciled, "create", Failed, 0), "600301 3 Failure"},
		{"match", rec(Outcome, "query", Matched, 200), "600302 1 Success"},
		{"not there", rec(Outcome, "get", Read, 404), "600302 1 Failure"},
		{"disable", rec(Outcome, "patch", Disabled, 200), "600303 1 Success, 300105 1 Success"},
		{"restore", rec(Outcome, "patch", Restored, 204), "600303 1 Success, 300102 1 Success"},
		{"update", rec(Outcome, "patch", Updated, 200), "600303 1 Success, 300199 1 Success"},
		{"rename", rec(Outcome, "replace", Renamed, 200), "600303 1 Success, 300199 1 Success"},
		{"delete", rec(Outcome, "delete", Deleted, 204), "600304 1 Success, 300106 1 Success"},
		{"refused", rec(Outcome, "create", Refused, 400), "600301 2 Failure"},
		{"failed", rec(Outcome, "create", Failed, 502), "600301 3 Failure"},
		{"a group is no account", group, "600301 1 Success"},
		{"bulk", rec(Outcome, "bulk", Bulk, 200), "600399 1 Success"},
		{"without a token", bare, "600300 2 Failure"},
		{"event", Record{V: 1, Seq: 2, ID: "id-2", Time: at, Kind: Event, Action: "started", Findings: []Finding{{Reason: "answers"}}}, "99 1 <nil>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			ids := map[any]bool{}
			for _, e := range events(t, &tc.rec, nil) {
				got = append(got, fmt.Sprintf("%v %v %v", e["type_uid"], e["severity_id"], e["status"]))
				ids[dig(e, "metadata.uid")] = true
				class := e["class_uid"].(float64)
				for _, path := range slices.Concat(ocsfAlways, ocsfRequired[class]) {
					if dig(e, path) == nil {
						t.Errorf("class %v has no %s", class, path)
					}
				}
				if e["type_uid"] != class*100+e["activity_id"].(float64) || e["category_uid"] != float64(int(class)/1000) || e["time"] != float64(at.UnixMilli()) {
					t.Errorf("got %v", e)
				}
				if e["activity_id"] == float64(99) && e["activity_name"] == "" {
					t.Error("an activity that is not mapped has no name")
				}
			}
			if s := strings.Join(got, ", "); s != tc.want {
				t.Errorf("got %s, want %s", s, tc.want)
			}
			if len(ids) != len(got) {
				t.Errorf("got ids %v of %d events, want one each", ids, len(got))
			}
		})
	}
}

func TestOCSFMembers(t *testing.T) {
	rec := full()
	rec.Kind, rec.Action, rec.Op, rec.ResourceType, rec.Answer.Status = Outcome, Created, "create", "User", 201
	list := events(t, rec, nil)
	if len(list) != 2 {
		t.Fatalf("got %d events, want 2", len(list))
	}
	api, account := list[0], list[1]
	for path, want := range map[string]any{
		"metadata.version": "1.8.0", "metadata.correlation_uid": rec.RequestID, "metadata.event_code": rec.Action,
		"actor.app_name": rec.Credential, "api.operation": "create User", "api.service.name": rec.Connection, "api.response.code": 201.0,
		"http_response.code": 201.0, "resources.0.name": rec.Subject.UserName, "resources.0.uid": rec.Subject.ID, "status_code": "201",
		"unmapped.scimgate.kind": Outcome, "unmapped.scimgate.plan": rec.Plan,
	} {
		if got := dig(api, path); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	for path, want := range map[string]any{
		"user.name": rec.Subject.UserName, "user.uid": rec.Subject.ID, "user.uid_alt": rec.Subject.ExternalID, "metadata.uid": rec.ID + ".3001", "metadata.original_event_uid": rec.ID,
	} {
		if got := dig(account, path); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	for _, name := range []string{"attributes", "findings", "calls"} {
		if list, _ := dig(api, "unmapped.scimgate."+name).([]any); len(list) == 0 {
			t.Errorf("unmapped has no %s", name)
		}
	}
}

// An account has a name or an id in any case: one of them is required.
func TestOCSFUserWithoutName(t *testing.T) {
	for _, tc := range []struct {
		subject Subject
		want    string
	}{{Subject{}, "unknown"}, {Subject{ExternalID: "e-1"}, "e-1"}, {Subject{ID: "1"}, "1"}} {
		rec := Record{V: 1, Seq: 1, ID: "id", Time: time.Now(), Kind: Reconciled, Action: Created, ResourceType: "User", Subject: tc.subject}
		list := events(t, &rec, nil)
		if len(list) != 2 || dig(list[1], "user.name") != tc.want || dig(list[1], "http_response") != nil {
			t.Errorf("%+v: got %v, want the name %s", tc.subject, list, tc.want)
		}
	}
}

// Of methods only those of the enumeration are named.
func TestOCSFMethods(t *testing.T) {
	for method, want := range map[string]any{"PATCH": "PATCH", "OTHER": nil, "": nil} {
		rec := Record{V: 1, Seq: 1, ID: "id", Time: time.Now(), Kind: Outcome, Action: Refused, Method: method}
		if got := dig(events(t, &rec, nil)[0], "http_request.http_method"); got != want {
			t.Errorf("%q: got %v, want %v", method, got, want)
		}
	}
}

func TestOCSFCheckpoint(t *testing.T) {
	note := "scimgate.trail/0a0b\n42\nroot=\n\n— scimgate.trail/0a0b sig\n"
	rec, line := checkpointRecord(42, note, time.Now())
	list := events(t, rec, line)
	if len(list) != 1 || dig(list[0], "unmapped.scimgate.checkpoint") != note || list[0]["class_uid"] != 0.0 {
		t.Errorf("got %v", list)
	}
}
