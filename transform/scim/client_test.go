package scim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"
)

const upstreamBase = "https://upstream.example/v2/scim"

func filterOf(t testing.TB, s string) Filter {
	t.Helper()
	f, err := ParseFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// patchOf makes an operation as it is once read.
func patchOf(t testing.TB, rt *ResourceType, op, path string, value any) PatchOp {
	t.Helper()
	if path == "" {
		return PatchOp{Op: op, Value: value}
	}
	p, err := ParsePath(path)
	if err != nil {
		t.Fatal(err)
	}
	target, _ := rt.ResolvePath(p)
	return PatchOp{Op: op, Path: p, Target: target, Value: value}
}

func TestNewHTTPRequest(t *testing.T) {
	user := UserType()
	ten := 10
	manager := Ref{Schema: SchemaEnterpriseUser, Name: "manager"}
	tests := []struct {
		name   string
		req    Request
		target string // method and URL below the base
		body   string
	}{
		{"get", Request{Op: OpGet, Type: user, ID: "2819c223"}, "GET /Users/2819c223", ""},
		{"get, escaped", Request{Op: OpGet, Type: user, ID: `a/b?c#d%2F e"é;=&+`}, "GET /Users/a%2Fb%3Fc%23d%252F%20e%22%C3%A9%3B=&+", ""},
		{"get, dots", Request{Op: OpGet, Type: user, ID: "..a"}, "GET /Users/..a", ""},
		{"get, up and away", Request{Op: OpGet, Type: user, ID: "../Groups"}, "GET /Users/..%2FGroups", ""},
		{"get, projected", Request{Op: OpGet, Type: user, ID: "1", Query: Query{Attributes: []Ref{{Name: "userName"}, manager, {Name: "name", Sub: "givenName"}}}},
			"GET /Users/1?attributes=userName%2C" + url.QueryEscape(SchemaEnterpriseUser) + "%3Amanager%2Cname.givenName", ""},
		{"get, nothing but what is always returned", Request{Op: OpGet, Type: user, ID: "1", Query: Query{Attributes: []Ref{}}}, "GET /Users/1", ""},
		{"delete", Request{Op: OpDelete, Type: GroupType(), ID: "1", Query: Query{ExcludedAttributes: []Ref{{Name: "members"}}}}, "DELETE /Groups/1?excludedAttributes=members", ""},
		{"query all", Request{Op: OpQuery, Type: user, Query: Query{StartIndex: 1}}, "GET /Users", ""},
		{"query, an id does not matter", Request{Op: OpQuery, Type: user, ID: "1", Query: Query{StartIndex: 1}}, "GET /Users", ""},
		{"query a page", Request{Op: OpQuery, Type: user, Query: Query{StartIndex: 1, Count: &ten}}, "GET /Users?startIndex=1&count=10", ""},
		{"query a later page", Request{Op: OpQuery, Type: user, Query: Query{StartIndex: 11, SortBy: &Ref{Name: "userName"}, Descending: true}}, "GET /Users?sortBy=userName&sortOrder=descending&startIndex=11", ""},
		{"query a filter", Request{Op: OpQuery, Type: user, Query: Query{StartIndex: 1, Count: &ten, Filter: filterOf(t, `userName eq "a+b & c=\"d\" #%/é"`)}},
			"GET /Users?filter=userName%20eq%20%22a%2Bb%20%26%20c%3D%5C%22d%5C%22%20%23%25%2F%C3%A9%22&count=10", ""},
		{"create", Request{Op: OpCreate, Type: user, Resource: Resource{"userName": "a", "name": map[string]any{"givenName": "\"<"}}}, "POST /Users", `{"userName":"a","name":{"givenName":"\"<"}}`},
		{"create nothing", Request{Op: OpCreate, Type: user}, "POST /Users", `{}`},
		{"replace", Request{Op: OpReplace, Type: user, ID: "1", Resource: Resource{"id": "1", "n": json.Number("1e2")}}, "PUT /Users/1", `{"id":"1","n":1e2}`},
		{"patch", Request{Op: OpPatch, Type: user, ID: "1", Operations: []PatchOp{
			patchOf(t, user, "add", `emails[type eq "work"].value`, "x"), patchOf(t, user, "remove", "title", nil), patchOf(t, user, "replace", "title", nil),
			patchOf(t, user, "replace", "", map[string]any{"active": false}), patchOf(t, user, "remove", "members", []any{map[string]any{"value": "1"}})}},
			"PATCH /Users/1", `{"schemas":["` + MessagePatchOp + `"],"Operations":[{"op":"add","path":"emails[type eq \"work\"].value","value":"x"},{"op":"remove","path":"title"},` +
				`{"op":"replace","path":"title","value":null},{"op":"replace","value":{"active":false}},{"op":"remove","path":"members","value":[{"value":"1"}]}]}`},
		// plain attributes
		{"create plain", Request{Op: OpCreate, Type: user, Plain: []Ref{manager, {Name: "name"}}, Resource: Resource{"name": "n", SchemaEnterpriseUser: map[string]any{"manager": map[string]any{"value": "7", "$ref": "r"}}}},
			"POST /Users", `{"name":"n","` + SchemaEnterpriseUser + `":{"manager":"7"}}`},
		{"create plain without value", Request{Op: OpCreate, Type: user, Plain: []Ref{manager}, Resource: Resource{"userName": "a", SchemaEnterpriseUser: map[string]any{"manager": map[string]any{"$ref": "r"}}}},
			"POST /Users", `{"userName":"a"}`},
		{"patch plain", Request{Op: OpPatch, Type: user, ID: "1", Plain: []Ref{manager}, Operations: []PatchOp{
			patchOf(t, user, "add", SchemaEnterpriseUser+":manager", map[string]any{"value": "7"}), patchOf(t, user, "replace", "manager.value", "8"),
			patchOf(t, user, "add", "manager", "9"), patchOf(t, user, "remove", "manager.value", nil), patchOf(t, user, "add", "title", map[string]any{"value": "x"})}},
			"PATCH /Users/1", `{"schemas":["` + MessagePatchOp + `"],"Operations":[{"op":"add","path":"` + SchemaEnterpriseUser + `:manager","value":"7"},{"op":"replace","path":"manager","value":"8"},` +
				`{"op":"add","path":"manager","value":"9"},{"op":"remove","path":"manager"},{"op":"add","path":"title","value":{"value":"x"}}]}`},
	}
	for _, tt := range tests {
		before := tt.req.Resource.Clone()
		hr, err := NewHTTPRequest(t.Context(), upstreamBase, MediaType, &tt.req)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var body []byte
		if hr.Body != nil {
			if body, err = io.ReadAll(hr.Body); err != nil {
				t.Fatal(err)
			}
		}
		if hr.ContentLength != int64(len(body)) {
			t.Errorf("%s: Content-Length %d, want %d", tt.name, hr.ContentLength, len(body))
		}
		target, ok := strings.CutPrefix(hr.URL.String(), upstreamBase)
		if got := hr.Method + " " + target; !ok || got != tt.target || string(body) != tt.body {
			t.Errorf("%s: got %s %s, want %s %s", tt.name, got, body, tt.target, tt.body)
		}
		if !reflect.DeepEqual(tt.req.Resource, before) {
			t.Errorf("%s: the resource changed to %v", tt.name, tt.req.Resource)
		}
	}
}

func TestNewHTTPRequestHeaders(t *testing.T) {
	const common = "Accept User-Agent"
	full := Request{Type: UserType(), ID: "1", Preconditions: Preconditions{IfMatch: `W/"1"`, IfNoneMatch: "*"}, Origin: Origin{
		RequestID: "r-1", Connection: "entra", Credential: "c", Source: "192.0.2.1", Base: "https://gateway.example"}}
	tests := []struct {
		op   Op
		req  Request
		want string
	}{
		{OpGet, Request{Type: UserType(), ID: "1"}, common},
		{OpCreate, Request{Type: UserType()}, common + " Content-Type"},
		{OpQuery, full, common + " X-Request-Id If-Match If-None-Match"},
		{OpDelete, full, common + " X-Request-Id If-Match If-None-Match"},
		{OpReplace, full, common + " X-Request-Id If-Match If-None-Match Content-Type"},
		{OpPatch, full, common + " X-Request-Id If-Match If-None-Match Content-Type"},
	}
	values := map[string]string{"Accept": "application/scim+json, application/json;q=0.9", "User-Agent": "scimgate",
		"Content-Type": "application/json", "X-Request-Id": "r-1", "If-Match": `W/"1"`, "If-None-Match": "*"}
	for _, tt := range tests {
		tt.req.Op = tt.op
		hr, err := NewHTTPRequest(t.Context(), upstreamBase, "application/json", &tt.req)
		if err != nil {
			t.Fatal(err)
		}
		want := http.Header{}
		for name := range strings.FieldsSeq(tt.want) {
			want.Set(name, values[name])
		}
		if !maps.EqualFunc(hr.Header, want, slices.Equal) {
			t.Errorf("%s: got %v, want %v", tt.op, hr.Header, want)
		}
	}
}

func TestNewHTTPRequestRefuses(t *testing.T) {
	secret := Query{Filter: filterOf(t, `userName eq "secret"`)}
	for _, tt := range []struct {
		base string
		req  Request
		want string
	}{
		{upstreamBase, Request{Op: OpDiscover, ID: "Schemas"}, "make an HTTP request for discover: not an operation on resources"},
		{upstreamBase, Request{Op: OpDiscover, Type: UserType()}, "make an HTTP request for discover: not an operation on resources"},
		{upstreamBase, Request{Op: OpGet, ID: "1"}, "make an HTTP request for get: not an operation on resources"},
		// The collection must not be taken for one of its resources.
		{upstreamBase, Request{Op: OpDelete, Type: UserType()}, `make an HTTP request for delete: "" is no id of a resource`},
		{upstreamBase, Request{Op: OpGet, Type: UserType()}, `make an HTTP request for get: "" is no id of a resource`},
		{upstreamBase, Request{Op: OpPatch, Type: UserType(), ID: ".."}, `make an HTTP request for patch: ".." is no id of a resource`},
		{upstreamBase, Request{Op: OpReplace, Type: UserType(), ID: "."}, `make an HTTP request for replace: "." is no id of a resource`},
		{upstreamBase, Request{Op: OpGet, Type: UserType(), ID: "a\x00"}, `make an HTTP request for get: "a\x00" is no id of a resource`},
		{"https://host:port", Request{Op: OpQuery, Type: UserType(), Query: secret}, `make an HTTP request: invalid port ":port" after host`},
	} {
		hr, err := NewHTTPRequest(t.Context(), tt.base, MediaType, &tt.req)
		if err == nil || err.Error() != tt.want || hr != nil {
			t.Errorf("%s %s: got %v, want %s", tt.req.Op, tt.req.ID, err, tt.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	user := UserType()
	for _, tt := range []struct {
		req  Request
		want string
	}{
		{Request{Op: OpCreate, Type: user}, "POST /Users"},
		{Request{Op: OpGet, Type: user, ID: "secret"}, "GET /Users/{id}"},
		{Request{Op: OpReplace, Type: user, ID: "secret"}, "PUT /Users/{id}"},
		{Request{Op: OpPatch, Type: user, ID: "secret"}, "PATCH /Users/{id}"},
		{Request{Op: OpDelete, Type: user, ID: "secret", Query: Query{Filter: filterOf(t, "title pr")}}, "DELETE /Users/{id}"},
		{Request{Op: OpQuery, Type: GroupType()}, "GET /Groups?startIndex&count"},
		{Request{Op: OpQuery, Type: user, Query: Query{Filter: filterOf(t, `userName EQ "secret" and not (title co "secret" or active pr) and emails[type eq "secret"]`)}},
			"GET /Users?filter=userName eq and not (title co or active pr) and emails[type eq]"},
		{Request{Op: OpDiscover, ID: "Schemas/secret"}, "GET /Schemas"},
		{Request{Op: OpDiscover, ID: "ServiceProviderConfig"}, "GET /ServiceProviderConfig"},
	} {
		if got := tt.req.Describe(); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

// answer is a response with a body.
func answer(status int, body string, headers ...string) *http.Response {
	res := &http.Response{StatusCode: status, Header: http.Header{}, ContentLength: -1, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(headers); i += 2 {
		res.Header.Set(headers[i], headers[i+1])
	}
	return res
}

func TestReadResponse(t *testing.T) {
	user := UserType()
	get, create := &Request{Op: OpGet, Type: user, ID: "1"}, &Request{Op: OpCreate, Type: user}
	patch, put, del := &Request{Op: OpPatch, Type: user, ID: "1"}, &Request{Op: OpReplace, Type: user, ID: "1"}, &Request{Op: OpDelete, Type: user, ID: "1"}
	conditional := &Request{Op: OpGet, Type: user, ID: "1", Preconditions: Preconditions{IfNoneMatch: `"a"`}}
	plain := &Request{Op: OpGet, Type: user, ID: "1", Plain: []Ref{{Schema: SchemaEnterpriseUser, Name: "manager"}}}
	enterprise := func(manager any) Resource {
		return Resource{"id": "1", SchemaEnterpriseUser: map[string]any{"department": "d", "manager": manager}}
	}
	tests := []struct {
		name string
		req  *Request
		res  *http.Response
		want Response
	}{
		{"read", get, answer(200, `{"ID":"1","username":"a"}`, "ETag", `W/"1"`, "Location", "l"), Response{Status: 200, Resource: Resource{"id": "1", "userName": "a"}, Version: `W/"1"`, Location: "l"}},
		{"version in the body", get, answer(200, `{"id":"1","meta":{"version":"W/\"2\""}}`), Response{Status: 200, Resource: Resource{"id": "1", "meta": map[string]any{"version": `W/"2"`}}, Version: `W/"2"`}},
		{"numeric id", get, answer(200, `{"id":1}`), Response{Status: 200, Resource: Resource{"id": "1"}}},
		{"created", create, answer(201, `{"id":12345678901234567890}`), Response{Status: 201, Resource: Resource{"id": "12345678901234567890"}}},
		{"created, 200", create, answer(200, `{"id":"x"}`), Response{Status: 200, Resource: Resource{"id": "x"}}},
		{"created, no body", create, answer(201, ``, "Location", "https://upstream.example/Users/9"), Response{Status: 201, Location: "https://upstream.example/Users/9"}},
		{"patched", patch, answer(204, ``, "ETag", `"3"`), Response{Status: 204, Version: `"3"`}},
		{"patched, 200 without body", patch, answer(200, ``), Response{Status: 200}},
		{"patched, 200", patch, answer(200, `{"id":"1"}`), Response{Status: 200, Resource: Resource{"id": "1"}}},
		{"replaced", put, answer(204, ``), Response{Status: 204}},
		{"deleted", del, answer(204, ``), Response{Status: 204}},
		{"deleted, with a page", del, answer(200, `<html>`), Response{Status: 200}},
		{"deleted, and the page broke off", del, &http.Response{StatusCode: 200, Body: io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))}, Response{Status: 200}},
		{"not modified", conditional, answer(304, ``, "ETag", `"a"`), Response{Status: 304, Version: `"a"`}},
		{"plain manager", plain, answer(200, `{"id":"1","`+SchemaEnterpriseUser+`":{"department":"d","MANAGER":"7"}}`), Response{Status: 200, Resource: enterprise(map[string]any{"value": "7"})}},
		{"plain manager, a number", plain, answer(200, `{"id":"1","`+SchemaEnterpriseUser+`":{"department":"d","manager":7}}`), Response{Status: 200, Resource: enterprise(map[string]any{"value": "7"})}},
		{"plain manager, an object", plain, answer(200, `{"id":"1","`+SchemaEnterpriseUser+`":{"department":"d","manager":{"VALUE":"7"}}}`), Response{Status: 200, Resource: enterprise(map[string]any{"value": "7"})}},
		{"plain manager, empty", plain, answer(200, `{"id":"1","`+SchemaEnterpriseUser+`":{"manager":""}}`), Response{Status: 200, Resource: Resource{"id": "1"}}},
		{"manager as text, not expected", get, answer(200, `{"id":"1","`+SchemaEnterpriseUser+`":{"department":"d","manager":"7"}}`), Response{Status: 200, Resource: enterprise("7")}},
	}
	for _, tt := range tests {
		got, err := ReadResponse(tt.req, tt.res, 1000)
		if err != nil || !reflect.DeepEqual(got, &tt.want) {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestReadResponseList(t *testing.T) {
	zero, ten := 0, 10
	one := []Resource{{"id": "1"}}
	tests := []struct {
		name, body string
		query      Query
		want       Response
	}{
		{"none", `{"schemas":["` + MessageListResponse + `"],"totalResults":0,"Resources":[],"startIndex":1,"itemsPerPage":20}`, Query{}, Response{}},
		{"none, without Resources", `{"totalResults":0}`, Query{}, Response{}},
		{"none, Resources null", `{"TotalResults":0,"resources":null}`, Query{}, Response{}},
		{"one", `{"totalresults":1,"RESOURCES":[{"ID":1}]}`, Query{}, Response{List: one, TotalResults: 1}},
		{"a page", `{"totalResults":100,"startIndex":11,"Resources":[{"id":"1"}]}`, Query{StartIndex: 11, Count: &ten}, Response{List: one, TotalResults: 100, StartIndex: 11}},
		{"startIndex 0", `{"totalResults":1,"startIndex":0,"Resources":[{"id":"1"}]}`, Query{}, Response{List: one, TotalResults: 1}},
		{"no total", `{"Resources":[{"id":"1"}]}`, Query{}, Response{List: one, TotalResults: 1}},
		{"total as text", `{"totalResults":"7","Resources":[{"id":"1"}]}`, Query{}, Response{List: one, TotalResults: 1}},
		{"total too small", `{"totalResults":0,"Resources":[{"id":"1"}]}`, Query{}, Response{List: one, TotalResults: 1}},
		{"counted only", `{"totalResults":7}`, Query{Count: &zero}, Response{TotalResults: 7}},
		{"behind the last page", `{"totalResults":7}`, Query{StartIndex: 8}, Response{TotalResults: 7}},
	}
	for _, tt := range tests {
		tt.want.Status, tt.want.StartIndex = 200, max(tt.want.StartIndex, 1)
		if tt.want.List == nil {
			tt.want.List = []Resource{}
		}
		got, err := ReadResponse(&Request{Op: OpQuery, Type: UserType(), Query: tt.query}, answer(200, tt.body), 1000)
		if err != nil || !reflect.DeepEqual(got, &tt.want) {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestReadResponseBad(t *testing.T) {
	user := UserType()
	get, create, query := &Request{Op: OpGet, Type: user, ID: "1"}, &Request{Op: OpCreate, Type: user}, &Request{Op: OpQuery, Type: user}
	patch := &Request{Op: OpPatch, Type: user, ID: "1"}
	broken := answer(201, "")
	broken.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"id":`), iotest.ErrReader(io.ErrUnexpectedEOF)))
	tests := []struct {
		name string
		req  *Request
		res  *http.Response
		want string
	}{
		{"nothing", get, answer(200, ``), "answered 200, but the body cannot be read: 400 invalidSyntax: the body is empty: a JSON object is expected"},
		{"nothing, 204", get, answer(204, ``), "answered 204, but the body cannot be read: "},
		{"nothing for a list", query, answer(200, ``), "answered 200, but the body cannot be read: "},
		{"a page", get, answer(200, `<!DOCTYPE html><html>`, "Content-Type", "text/html"), "answered 200, but the body cannot be read: "},
		{"a page for a create", create, answer(201, `<html>`), "answered 201, but the body cannot be read: "},
		{"a page for a list", query, answer(200, `<html>`), "answered 200, but the body cannot be read: "},
		{"truncated", create, answer(201, `{"id":"1"`), "answered 201, but the body cannot be read: "},
		{"broken off", create, broken, "answered 201, but the body broke off: unexpected EOF"},
		{"oversized", get, answer(200, `{"id":"`+strings.Repeat("x", 1000)+`"}`), "answered 200, but the body is larger than 1000 bytes"},
		{"switching", get, answer(101, `{"id":"1"}`), "answered 101, but that is no final answer"},
		{"no id", create, answer(201, `{"userName":"a"}`), "answered 201, but a resource has no id"},
		{"id null", create, answer(201, `{"id":null}`), "answered 201, but a resource has no id"},
		{"id true", create, answer(201, `{"id":true}`), "answered 201, but a resource has no id"},
		{"another id", get, answer(200, `{"id":"2"}`), "answered 200, but the resource has another id than the one asked for"},
		{"another numeric id", patch, answer(200, `{"id":1.0}`), "answered 200, but the resource has another id than the one asked for"},
		{"a list for a resource", get, answer(200, `{"totalResults":1,"Resources":[{"id":"1"}]}`), "answered 200, but a resource has no id"},
		{"a resource for a list", query, answer(200, `{"id":"1","userName":"a"}`), "answered 200, but it is not a ListResponse"},
		{"an error for a list", query, answer(200, `{"schemas":["`+MessageError+`"],"status":"500"}`), "answered 200, but it is not a ListResponse"},
		{"an array for a list", query, answer(200, `[{"id":"1"}]`), "answered 200, but the body cannot be read: "},
		{"Resources is an object", query, answer(200, `{"totalResults":1,"Resources":{"id":"1"}}`), "answered 200, but Resources is not an array"},
		{"Resources holds text", query, answer(200, `{"totalResults":1,"Resources":["1"]}`), "answered 200, but Resources holds something that is not an object"},
		{"Resources holds null", query, answer(200, `{"totalResults":1,"Resources":[null]}`), "answered 200, but Resources holds something that is not an object"},
		{"Resources holds no id", query, answer(200, `{"totalResults":1,"Resources":[{"userName":"secret"}]}`), "answered 200, but a resource has no id"},
		{"Resources missing", query, answer(200, `{"totalResults":1}`), "answered 200, but it counts resources and has none"},
		{"total negative", query, answer(200, `{"totalResults":-1,"Resources":[]}`), "answered 200, but totalResults is not a count"},
		{"total huge", query, answer(200, `{"totalResults":99999999999999999999,"Resources":[]}`), "answered 200, but totalResults is not a count"},
		{"total a fraction", query, answer(200, `{"totalResults":1.5,"Resources":[]}`), "answered 200, but totalResults is not a count"},
	}
	for _, tt := range tests {
		resp, err := ReadResponse(tt.req, tt.res, 1000)
		bad, ok := errors.AsType[*BadAnswer](err)
		if !ok || bad.Status != tt.res.StatusCode || !strings.HasPrefix(err.Error(), tt.want) || resp != nil {
			t.Errorf("%s: got %v, %v, want %s", tt.name, resp, err, tt.want)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v tells a value", tt.name, err)
		}
		if tt.name == "broken off" && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the cause is lost", tt.name)
		}
	}
}

func TestReadResponseFailure(t *testing.T) {
	scimError := func(members string) string { return `{"schemas":["` + MessageError + `"],` + members + `}` }
	tests := []struct {
		name string
		res  *http.Response
		want Failure
		text string
	}{
		{"SCIM error", answer(409, scimError(`"scimType":"uniqueness","detail":"taken","status":"409"`)), Failure{Status: 409, SCIM: true, Type: "uniqueness", Message: "taken"}, "answered 409 uniqueness"},
		{"SCIM error in odd case", answer(404, strings.ToUpper(scimError(`"detail":"gone"`))), Failure{Status: 404, SCIM: true, Message: "GONE"}, "answered 404"},
		{"other JSON", answer(400, `{"code":17,"message":"secret"}`), Failure{Status: 400, Message: "secret"}, "answered 400, not a SCIM error body"},
		{"both texts", answer(400, `{"message":"m","detail":"d"}`), Failure{Status: 400, Message: "d"}, "answered 400, not a SCIM error body"},
		{"texts of other types", answer(400, scimError(`"detail":{"x":1},"scimType":7`)), Failure{Status: 400, SCIM: true}, "answered 400"},
		{"scimType that is a sentence", answer(400, scimError(`"scimType":"secret of\nsomebody"`)), Failure{Status: 400, SCIM: true}, "answered 400"},
		{"scimType that is long", answer(400, scimError(`"scimType":"`+strings.Repeat("x", 33)+`"`)), Failure{Status: 400, SCIM: true}, "answered 400"},
		{"HTML", answer(404, `<html>not found`, "Content-Type", "text/html"), Failure{Status: 404}, "answered 404, not a SCIM error body"},
		{"nothing", answer(503, ``, "Retry-After", "120"), Failure{Status: 503, RetryAfter: "120"}, "answered 503, not a SCIM error body"},
		{"redirect", answer(302, `{}`, "Location", "https://elsewhere"), Failure{Status: 302}, "answered 302, not a SCIM error body"},
		{"not modified, unasked", answer(304, ``), Failure{Status: 304}, "answered 304, not a SCIM error body"},
		{"array", answer(500, `[]`), Failure{Status: 500}, "answered 500, not a SCIM error body"},
		{"oversized", answer(500, scimError(`"detail":"`+strings.Repeat("x", 1000)+`"`)), Failure{Status: 500}, "answered 500, not a SCIM error body"},
		{"long message", answer(500, scimError(`"detail":"`+strings.Repeat("x", 511)+`é"`)), Failure{Status: 500, SCIM: true, Message: strings.Repeat("x", 511)}, "answered 500"},
	}
	for _, tt := range tests {
		resp, err := ReadResponse(&Request{Op: OpGet, Type: UserType(), ID: "1"}, tt.res, 1000)
		f, ok := errors.AsType[*Failure](err)
		if !ok || *f != tt.want || f.Error() != tt.text || resp != nil {
			t.Errorf("%s: got %v, %+v, want %+v", tt.name, resp, err, tt.want)
		}
	}
}

func FuzzReadResponse(f *testing.F) {
	for _, s := range []string{entraCreate, `{"totalResults":1,"Resources":[{"id":1}]}`, `{"id":"1","manager":""}`, `{"schemas":["` + MessageError + `"],"scimType":"x"}`, `<html>`} {
		for _, op := range []byte{0, 1, 2, 3, 4, 5} {
			f.Add(op, 200+int(op)*50, []byte(s))
		}
	}
	ops := []Op{OpCreate, OpGet, OpQuery, OpReplace, OpPatch, OpDelete}
	f.Fuzz(func(t *testing.T, op byte, status int, body []byte) {
		req := &Request{Op: ops[int(op)%len(ops)], Type: UserType(), ID: "1", Plain: []Ref{{Name: "name"}, {Schema: SchemaEnterpriseUser, Name: "manager"}}}
		res := answer(status, "")
		res.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := ReadResponse(req, res, 10_000)
		if err == nil {
			for _, r := range append(resp.List, resp.Resource) {
				if r != nil && r.ID() == "" {
					t.Fatalf("accepted %v", r)
				}
			}
			return
		}
		failure, isFailure := errors.AsType[*Failure](err)
		_, isBad := errors.AsType[*BadAnswer](err)
		if resp != nil || isFailure == isBad || isFailure && !utf8.ValidString(failure.Message) {
			t.Fatalf("got %v, %v", resp, err)
		}
	})
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	const most = time.Hour
	for _, tt := range []struct {
		in   string
		want time.Duration
	}{
		{"", 0}, {"0", 0}, {"1", time.Second}, {" 120 ", 2 * time.Minute}, {"0005", 5 * time.Second}, {"3600", most}, {"3601", most},
		{"99999999999", most}, {"18446744073709551615", most}, {"99999999999999999999999999", most},
		{"-1", 0}, {"+5", 0}, {"1.5", 0}, {"1e3", 0}, {"0x10", 0}, {"5s", 0}, {"1, 2", 0}, {"soon", 0}, {"\x00", 0}, {"٣", 0},
		{"Sun, 22 Nov 2026 08:00:30 GMT", 30 * time.Second},
		{"Sunday, 22-Nov-26 08:00:30 GMT", 30 * time.Second},
		{"Sun Nov 22 08:00:30 2026", 30 * time.Second},
		{"Sun, 22 Nov 2026 08:00:00 GMT", 0},
		{"Sun, 22 Nov 2026 07:59:59 GMT", 0},
		{"Thu, 01 Jan 1970 00:00:00 GMT", 0},
		{"Fri, 31 Dec 9999 23:59:59 GMT", most},
		{"Sun, 32 Nov 2026 08:00:30 GMT", 0},
		{"2026-11-22T08:00:30Z", 0},
	} {
		if got := ParseRetryAfter(tt.in, now, most); got != tt.want {
			t.Errorf("ParseRetryAfter(%q) = %v, want %v", tt.in, got, tt.want)
		}
	}
	if got := ParseRetryAfter("2", now, 1500*time.Millisecond); got != 1500*time.Millisecond {
		t.Errorf("2 s of at most 1.5 s: %v", got)
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, s := range []string{"", "120", "-1", "Sun, 22 Nov 2026 08:00:30 GMT", "Sunday, 22-Nov-26 08:00:30 GMT", "Sun Nov 22 08:00:30 2026", "1e9", "99999999999999999999"} {
		f.Add(s, int64(1_800_000_000), int64(time.Hour))
	}
	f.Fuzz(func(t *testing.T, header string, now, most int64) {
		if most < 0 {
			return
		}
		got := ParseRetryAfter(header, time.Unix(now, 0), time.Duration(most))
		if got < 0 || got > time.Duration(most) {
			t.Fatalf("ParseRetryAfter(%q) = %v, want 0 to %v", header, got, time.Duration(most))
		}
	})
}
