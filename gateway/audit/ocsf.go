package audit

import (
	"cmp"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// The format ocsf writes events of the Open Cybersecurity Schema Framework, version 1.8.0:
//
//   - API Activity (6003) for every record of a request: intents, outcomes, and what closes or reconciles a write whose
//     end was unknown. One request to write has two of them, with one correlation_uid, the request id.
//   - Account Change (3001) beside it for every record that says that an account was created, enabled, disabled, deleted
//     or otherwise changed. There is no activity for an update in this version: it is 99, with its name.
//   - Base Event (0) for what belongs to no request, and for checkpoints.
//
// metadata.uid is the record's id, with ".3001" behind it for an Account Change; metadata.sequence is its place in the
// trail. What OCSF has no attribute for stands in unmapped.scimgate under the names of the native format.
const ocsfVersion = "1.8.0"

// Classes and their categories.
const (
	ocsfBase          = 0
	ocsfAccountChange = 3001
	ocsfAPI           = 6003
)

const ocsfOther = 99 // of every enumeration: not mapped, see the text beside it

// accountActivity is the activity_id of Account Change for what was done to an account.
var accountActivity = map[string]int{
	Created: 1, Adopted: 1, Restored: 2, Disabled: 5, Deleted: 6, Updated: ocsfOther, Renamed: ocsfOther,
}

var accountNames = map[int]string{1: "Create", 2: "Enable", 5: "Disable", 6: "Delete"}

// apiActivity is the activity_id of API Activity for a SCIM operation.
var apiActivity = map[string]int{
	"create": 1, "get": 2, "query": 2, "discover": 2, "options": 2, "replace": 3, "patch": 3, "delete": 4,
}

// ocsfMethods are the values of http_method.
var ocsfMethods = []string{"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}

var apiNames = map[int]string{0: "Unknown", 1: "Create", 2: "Read", 3: "Update", 4: "Delete", ocsfOther: "Other"}

type ocsfEvent struct {
	ActivityID   int    `json:"activity_id"`
	ActivityName string `json:"activity_name"`
	CategoryUID  int    `json:"category_uid"`
	ClassUID     int    `json:"class_uid"`
	TypeUID      int    `json:"type_uid"`
	Time         int64  `json:"time"` // milliseconds since 1970
	SeverityID   int    `json:"severity_id"`
	StatusID     int    `json:"status_id,omitempty"`
	Status       string `json:"status,omitempty"`
	StatusCode   string `json:"status_code,omitempty"`
	StatusDetail string `json:"status_detail,omitempty"`
	Message      string `json:"message,omitempty"`
	Duration     int64  `json:"duration,omitempty"` // milliseconds

	Metadata    ocsfMetadata   `json:"metadata"`
	Actor       *ocsfActor     `json:"actor,omitempty"`
	API         *ocsfCall      `json:"api,omitempty"`
	SrcEndpoint *ocsfEndpoint  `json:"src_endpoint,omitempty"`
	HTTPRequest *ocsfHTTP      `json:"http_request,omitempty"`
	HTTPAnswer  *ocsfStatus    `json:"http_response,omitempty"`
	User        *ocsfUser      `json:"user,omitempty"`
	Resources   []ocsfResource `json:"resources,omitempty"`
	Unmapped    ocsfUnmapped   `json:"unmapped"`
}

type ocsfMetadata struct {
	Version        string      `json:"version"`
	Product        ocsfProduct `json:"product"`
	UID            string      `json:"uid"`
	OriginalUID    string      `json:"original_event_uid"` // the record's id
	Sequence       int64       `json:"sequence"`
	CorrelationUID string      `json:"correlation_uid,omitempty"`
	EventCode      string      `json:"event_code,omitempty"`
	LogName        string      `json:"log_name"`
	OriginalTime   string      `json:"original_time"`
}

type ocsfProduct struct {
	Name       string `json:"name"`
	VendorName string `json:"vendor_name"`
}

type ocsfActor struct {
	AppName string `json:"app_name"`
}

type ocsfCall struct {
	Operation string       `json:"operation"`
	Service   *ocsfNamed   `json:"service,omitempty"`
	Request   *ocsfRequest `json:"request,omitempty"`
	Response  *ocsfAnswer  `json:"response,omitempty"`
}

type ocsfNamed struct {
	Name string `json:"name"`
}

type ocsfRequest struct {
	UID string `json:"uid"`
}

type ocsfAnswer struct {
	Code         int    `json:"code"`
	Error        string `json:"error,omitempty"`
	ErrorMessage string `json:"error_message,omitempty"`
}

type ocsfEndpoint struct {
	IP   string `json:"ip,omitempty"`
	Name string `json:"name,omitempty"`
}

type ocsfHTTP struct {
	Method string `json:"http_method"`
	UID    string `json:"uid,omitempty"`
}

type ocsfStatus struct {
	Code int `json:"code"`
}

type ocsfUser struct {
	Name   string `json:"name,omitempty"`
	UID    string `json:"uid,omitempty"`
	UIDAlt string `json:"uid_alt,omitempty"`
	TypeID int    `json:"type_id"`
}

type ocsfResource struct {
	Type string `json:"type,omitempty"`
	UID  string `json:"uid,omitempty"`
	Name string `json:"name,omitempty"`
}

// ocsfUnmapped is what a record says and OCSF has no attribute for.
type ocsfUnmapped struct {
	Scimgate any `json:"scimgate"`
}

// rest is the part of a record that stands in ocsfUnmapped.
type rest struct {
	Kind       string      `json:"kind"`
	Intent     int64       `json:"intent,omitempty"`
	Boot       string      `json:"boot,omitempty"`
	Attributes []Attribute `json:"attributes,omitempty"`
	Findings   []Finding   `json:"findings,omitempty"`
	Plan       string      `json:"plan,omitempty"`
	Calls      []Call      `json:"calls,omitempty"`
	Error      string      `json:"error,omitempty"`
}

func appendOCSF(dst []Entry, rec *Record, line []byte) []Entry {
	switch {
	case rec.Kind == CheckpointKind:
		e := newOCSF(rec, ocsfBase, ocsfOther, "Checkpoint")
		e.Message, e.Unmapped = "signed checkpoint of the trail", ocsfUnmapped{json.RawMessage(line)}
		return appendEvent(dst, rec, e)
	case rec.Kind == Event:
		e := newOCSF(rec, ocsfBase, ocsfOther, cmp.Or(rec.Action, "Event"))
		for _, f := range rec.Findings {
			e.Message = f.Reason
		}
		return appendEvent(dst, rec, e)
	}
	dst = appendEvent(dst, rec, apiEvent(rec))
	if changedAccount(rec) {
		dst = appendEvent(dst, rec, accountEvent(rec))
	}
	return dst
}

// changedAccount reports whether a record says that an account is another now. An intent does not: nothing was sent yet.
func changedAccount(rec *Record) bool {
	done := rec.Kind == Outcome && rec.Answer.Status < http.StatusBadRequest || rec.Kind == Reconciled
	return done && rec.ResourceType == "User" && accountActivity[rec.Action] != 0
}

// newOCSF makes what every event has.
func newOCSF(rec *Record, class, activity int, name string) *ocsfEvent {
	e := &ocsfEvent{
		ActivityID: activity, ActivityName: name, CategoryUID: class / 1000, ClassUID: class, TypeUID: class*100 + activity,
		Time: rec.Time.UnixMilli(), SeverityID: map[int]int{3: 3, 4: 2}[severity(rec)],
		Metadata: ocsfMetadata{
			Version: ocsfVersion, Product: ocsfProduct{"scimgate", "scimgate"}, UID: rec.ID, OriginalUID: rec.ID, Sequence: rec.Seq,
			CorrelationUID: rec.RequestID, EventCode: rec.Action, LogName: "trail", OriginalTime: rec.Time.UTC().Format("2006-01-02T15:04:05.999999Z07:00"),
		},
		Unmapped: ocsfUnmapped{rest{rec.Kind, rec.Intent, rec.Boot, rec.Attributes, rec.Findings, rec.Plan, rec.Calls, rec.Error}},
	}
	e.SeverityID = max(e.SeverityID, 1) // informational
	return e
}

// request adds what belongs to a request to an event.
func (e *ocsfEvent) request(rec *Record) {
	e.Duration = int64(rec.Duration)
	e.Actor = &ocsfActor{AppName: cmp.Or(rec.Credential, "unknown")}
	e.SrcEndpoint = &ocsfEndpoint{Name: cmp.Or(rec.Source, "unknown")}
	if ip := net.ParseIP(rec.Source); ip != nil {
		e.SrcEndpoint = &ocsfEndpoint{IP: rec.Source}
	}
	if slices.Contains(ocsfMethods, rec.Method) {
		e.HTTPRequest = &ocsfHTTP{rec.Method, rec.RequestID}
	}
	e.StatusDetail = rec.Answer.Detail
	if rec.Answer.Status != 0 {
		e.StatusCode = strconv.Itoa(rec.Answer.Status)
	}
	if rec.Answer.Status != 0 && e.ClassUID == ocsfAPI { // Account Change has no such attribute
		e.HTTPAnswer = &ocsfStatus{rec.Answer.Status}
	}
	switch status := rec.Answer.Status; {
	case rec.Kind == Intent:
		e.StatusID, e.Status = ocsfOther, "Intended"
	case rec.Kind == Unknown:
		e.StatusID, e.Status = ocsfOther, "Unknown"
	case rec.Action == Failed, status >= http.StatusBadRequest:
		e.StatusID, e.Status = 2, "Failure"
	default:
		e.StatusID, e.Status = 1, "Success"
	}
}

func apiEvent(rec *Record) *ocsfEvent {
	activity := apiActivity[rec.Op]
	if rec.Op != "" && activity == 0 {
		activity = ocsfOther
	}
	name := apiNames[activity]
	if activity == ocsfOther {
		name = rec.Op
	}
	e := newOCSF(rec, ocsfAPI, activity, name)
	e.request(rec)
	e.Message = strings.Join(slices.DeleteFunc([]string{rec.Action, rec.ResourceType, rec.Kind}, func(s string) bool { return s == "" }), " ")
	e.API = &ocsfCall{Operation: strings.TrimSpace(cmp.Or(rec.Op, rec.Method, "unknown") + " " + rec.ResourceType)}
	if rec.Connection != "" {
		e.API.Service = &ocsfNamed{rec.Connection}
	}
	if rec.RequestID != "" {
		e.API.Request = &ocsfRequest{rec.RequestID}
	}
	if rec.Answer.Status != 0 {
		e.API.Response = &ocsfAnswer{rec.Answer.Status, rec.Answer.ScimType, rec.Answer.Detail}
	}
	if rec.Subject != (Subject{}) {
		e.Resources = []ocsfResource{{rec.ResourceType, rec.Subject.ID, rec.Subject.UserName}}
	}
	return e
}

func accountEvent(rec *Record) *ocsfEvent {
	activity := accountActivity[rec.Action]
	e := newOCSF(rec, ocsfAccountChange, activity, cmp.Or(accountNames[activity], strings.ToUpper(rec.Action[:1])+rec.Action[1:]))
	e.request(rec)
	e.Metadata.UID += ".3001"
	e.Message = "account " + rec.Action
	e.User = &ocsfUser{Name: cmp.Or(rec.Subject.UserName, rec.Subject.ID, rec.Subject.ExternalID, "unknown"), UID: rec.Subject.ID, UIDAlt: rec.Subject.ExternalID, TypeID: 1}
	e.Unmapped = ocsfUnmapped{rest{Kind: rec.Kind, Intent: rec.Intent, Attributes: rec.Attributes}}
	return e
}

func appendEvent(dst []Entry, rec *Record, e *ocsfEvent) []Entry {
	text, err := json.Marshal(e)
	if err != nil {
		// It has texts and numbers only; what cannot be is still told rather than left out.
		return appendNative(dst, rec, []byte(`{"error":"this record has no OCSF form"}`))
	}
	return append(dst, Entry{Seq: rec.Seq, ID: e.Metadata.UID, Time: rec.Time, Kind: rec.Kind, Severity: severity(rec), Text: text})
}
