package scim

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

var bothTypes = []*ResourceType{UserType(), GroupType()}

// readHTTP reads a request as it stands on the wire: the request line and headers, an empty line, the body. Where
// there is no Content-Length, the body is what follows.
func readHTTP(t testing.TB, text string) (*Request, error) {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(head, "\n", "\r\n") + "\r\nHost: gateway.example\r\n\r\n")))
	if err != nil {
		t.Fatalf("%.80q is no HTTP request: %v", text, err)
	}
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), "/scim/v2")
	if !ok {
		t.Fatalf("%.80q: want the path below /scim/v2", text)
	}
	return ReadRequest(r, path, bothTypes, MaxBody)
}

// line is a request without a body, from "METHOD path" below the base.
func line(methodAndPath string) string {
	method, path, _ := strings.Cut(methodAndPath, " ")
	return method + " /scim/v2" + path + " HTTP/1.1"
}

func TestReadRequestRoutes(t *testing.T) {
	const user, group, none = "User", "Group", ""
	tests := []struct {
		line string
		op   Op
		typ  string
		id   string
	}{
		{"GET /Users", OpQuery, user, ""},
		{"GET /Users/", OpQuery, user, ""},
		{"GET //Users", OpQuery, user, ""},
		{"GET ///Users//", OpQuery, user, ""},
		{"GET /users", OpQuery, user, ""},
		{"GET /%55sers", OpQuery, user, ""},
		{"HEAD /USERS", OpQuery, user, ""},
		{"GET /Groups", OpQuery, group, ""},
		{"HEAD /groups/", OpQuery, group, ""},
		{"GET /Users?aadOptscim062020", OpQuery, user, ""},
		{"GET /Users/?aadOptscim062020&x=%C3%A9&&=&x=y", OpQuery, user, ""},
		{"GET /Users/2819c223", OpGet, user, "2819c223"},
		{"GET /Users/2819c223/", OpGet, user, "2819c223"},
		{"GET //users//2819c223//", OpGet, user, "2819c223"},
		{"HEAD /Users/2819c223", OpGet, user, "2819c223"},
		{"DELETE /Users/2819c223?aadOptscim062020", OpDelete, user, "2819c223"},
		{"DELETE /Groups/x", OpDelete, group, "x"},
		// escapes: undone once
		{"GET /Users/a%2Fb", OpGet, user, "a/b"},
		{"GET /Users/a%252Fb", OpGet, user, "a%2Fb"},
		{"GET /Users/%25zz", OpGet, user, "%zz"},
		{"GET /Users/a+b", OpGet, user, "a+b"},
		{"GET /Users/a%20b", OpGet, user, "a b"},
		{"GET /Users/%C3%A9@x", OpGet, user, "é@x"},
		{"GET /Users/a%3Fb%23c", OpGet, user, "a?b#c"},
		{"GET /Users/...", OpGet, user, "..."},
		{"GET /Users/Me", OpGet, user, "Me"},
		{"GET /Users/%2E%2E%2FGroups", OpGet, user, "../Groups"},
		// the root
		{"GET /", OpQuery, none, ""},
		{"HEAD /?aadOptscim062020", OpQuery, none, ""},
		// discovery
		{"GET /ServiceProviderConfig", OpDiscover, none, "ServiceProviderConfig"},
		{"HEAD /serviceproviderconfig/", OpDiscover, none, "ServiceProviderConfig"},
		{"GET /ServiceConfiguration", OpDiscover, none, "ServiceProviderConfig"},
		{"GET /ResourceTypes", OpDiscover, none, "ResourceTypes"},
		{"GET /ResourceTypes/User?aadOptscim062020", OpDiscover, none, "ResourceTypes/User"},
		{"GET //Schemas/", OpDiscover, none, "Schemas"},
		{"GET /schemas/" + SchemaUser + "?attributes=name&startIndex=x", OpDiscover, none, "Schemas/" + SchemaUser},
		{"GET /Schemas/urn%3Aietf:x", OpDiscover, none, "Schemas/urn:ietf:x"},
	}
	for _, tt := range tests {
		req, err := readHTTP(t, line(tt.line))
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		typ := ""
		if req.Type != nil {
			typ = req.Type.Name
		}
		if req.Op != tt.op || typ != tt.typ || req.ID != tt.id || req.Query.StartIndex != 1 || req.Query.Filter != nil {
			t.Errorf("%s: got %s %s %q %+v, want %s %s %q", tt.line, req.Op, typ, req.ID, req.Query, tt.op, tt.typ, tt.id)
		}
	}
}

func TestReadRequestRefuses(t *testing.T) {
	const create = "POST /scim/v2/Users HTTP/1.1\n\n"
	const patch = "PATCH /scim/v2/Users/1 HTTP/1.1\n\n"
	op := func(s string) string {
		return patch + `{"schemas":["` + MessagePatchOp + `"],"Operations":[` + s + `]}`
	}
	big := strings.Repeat("x", MaxBody)
	tests := []struct {
		name, in string
		want     string // Error(): status, scimType, detail
		allow    string
	}{
		// routes
		{"unknown endpoint", line("GET /Devices"), "404: there is no such endpoint: use /Users, /Groups, /ServiceProviderConfig, /ResourceTypes or /Schemas", ""},
		{"below a resource", line("GET /Users/1/emails"), "404: there is no such endpoint", ""},
		{"escaped slash in the endpoint", line("GET /Users%2F1"), "404: there is no such endpoint", ""},
		{"NUL in an id", line("GET /Users/a%00b"), `404: User "a\x00b" does not exist`, ""},
		{"newline in an id", line("DELETE /Users/%0d%0aX"), `404: User "\r\nX" does not exist`, ""},
		{"parent directory", line("DELETE /Users/%2e%2e"), `404: User ".." does not exist`, ""},
		{"parent directory, plain", line("DELETE /Users/.."), `404: User ".." does not exist`, ""},
		{"this directory", line("PATCH /Groups/./"), `404: Group "." does not exist`, ""},
		{"not UTF-8", line("GET /Users/%ff"), "400 invalidSyntax: the path has an escape that cannot be decoded", ""},
		{"long id", line("DELETE /Users/%00" + strings.Repeat("x", 1000)), `404: User "\x00` + strings.Repeat("x", 79) + `..." does not exist`, ""},
		{"Me", line("GET /Me"), "501: /Me is not implemented", ""},
		{"Me, write", line("PATCH /me/"), "501: /me is not implemented", ""},
		{"Bulk", line("POST /Bulk"), "400 invalidSyntax: the body is empty", ""},
		{"below Bulk", line("POST /Bulk/1"), "404: there is no such endpoint", ""},
		{"search without body", line("POST /Users/.search"), "400 invalidSyntax: the body is empty", ""},
		{"search in odd case", line("POST /Groups/%2eSearch/"), "400 invalidSyntax: the body is empty", ""},
		{"delete search", line("DELETE /Users/.search"), "405: this method is not allowed here: use POST, OPTIONS", "POST OPTIONS"},
		{"read search", line("GET /.search"), "405: ", "POST OPTIONS"},
		{"search a resource", line("POST /Users/1/.search"), "404: there is no such endpoint", ""},
		{"search discovery", line("POST /Schemas/.search"), "404: there is no such endpoint", ""},
		{"search a search", line("POST /.search/.search"), "404: there is no such endpoint", ""},
		{"write the root", line("POST /"), "405: ", "GET HEAD OPTIONS"},
		{"PUT a collection", line("PUT /Users"), "405: this method is not allowed here: use GET, HEAD, POST, OPTIONS", "GET HEAD POST OPTIONS"},
		{"DELETE a collection", line("DELETE /Users/"), "405: ", "GET HEAD POST OPTIONS"},
		{"PATCH a collection", line("PATCH /Groups"), "405: ", "GET HEAD POST OPTIONS"},
		{"POST to a resource", line("POST /Users/1"), "405: this method is not allowed here: use GET, HEAD, PUT, PATCH, DELETE, OPTIONS", "GET HEAD PUT PATCH DELETE OPTIONS"},
		{"OPTIONS of nothing", line("OPTIONS /Devices"), "404: there is no such endpoint", ""},
		{"lower case method", line("get /Users"), "405: ", "GET HEAD POST OPTIONS"},
		{"invented method", line("PURGE /Users/1"), "405: ", "GET HEAD PUT PATCH DELETE OPTIONS"},
		{"write discovery", line("POST /Schemas"), "405: ", "GET HEAD OPTIONS"},
		{"delete discovery", line("DELETE /ResourceTypes/User"), "405: ", "GET HEAD OPTIONS"},
		// queries
		{"no filter", line("GET /Users?filter="), "400 invalidFilter: ", ""},
		{"filter without value", line("GET /Users?filter"), "400 invalidFilter: ", ""},
		{"unparsable filter", line("GET /Users?filter=userName+eq"), "400 invalidFilter: ", ""},
		{"unquoted value", line("GET /Users?filter=userName+eq+x"), "400 invalidFilter: ", ""},
		{"raw plus in a value", line("GET /Users?filter=userName+eq+%22a%22+b"), "400 invalidFilter: ", ""},
		{"long filter", line("GET /Users?filter=userName+eq+%22" + strings.Repeat("x", MaxFilter) + "%22"), "400 invalidFilter: ", ""},
		{"undecodable filter", line("GET /Users?filter=userName+eq+%22%zz%22"), "400 invalidFilter: the query parameter filter cannot be decoded", ""},
		{"filter is not UTF-8", line("GET /Users?filter=userName+eq+%22%ff%22"), "400 invalidFilter: the query parameter filter cannot be decoded", ""},
		{"doubled filter", line("GET /Users?filter=userName+eq+%22a%22&filter=userName+eq+%22a%22"), "400 invalidFilter: the query parameter filter occurs twice", ""},
		{"doubled filter in odd case", line("GET /Users?Filter=userName+eq+%22a%22&x=1&f%49lter=userName+pr"), "400 invalidFilter: the query parameter filter occurs twice", ""},
		{"undecodable name", line("GET /Users?f%lter=x"), "400 invalidValue: the query has a parameter name that cannot be decoded", ""},
		{"undecodable unknown parameter", line("GET /Users?x=%"), `400 invalidValue: the query parameter "x" cannot be decoded`, ""},
		{"doubled count", line("GET /Users?count=1&count=2"), "400 invalidValue: the query parameter count occurs twice", ""},
		{"count is no number", line("GET /Users?count=ten"), "400 invalidValue: count must be an integer", ""},
		{"count is empty", line("GET /Users?count="), "400 invalidValue: count must be an integer", ""},
		{"startIndex is a fraction", line("GET /Users?startIndex=1.5"), "400 invalidValue: startIndex must be an integer", ""},
		{"sortOrder", line("GET /Users?sortBy=userName&sortOrder=up"), "400 invalidValue: sortOrder must be ascending or descending", ""},
		{"sortBy unknown", line("GET /Users?sortBy=size"), "400 invalidPath: sortBy names no attribute of User", ""},
		{"sortBy malformed", line("GET /Users?sortBy=a%20b"), "400 invalidPath: ", ""},
		{"excluded by a filter", line("GET /Users?excludedAttributes=emails%5Btype+eq+%22work%22%5D"), "400 invalidPath: an attribute to be excluded cannot have a value filter", ""},
		{"attributes malformed", line("GET /Users?attributes=userName,na[me"), "400 invalidPath: ", ""},
		{"both projections", line("GET /Users/1?attributes=userName&excludedAttributes=name"), "400 invalidValue: attributes and excludedAttributes exclude each other", ""},
		{"cursor and startIndex", line("GET /Users?cursor&startIndex=1"), "400 invalidValue: startIndex and cursor exclude each other", ""},
		{"doubled cursor", line("GET /Users?cursor=&Cursor="), "400 invalidCursor: the query parameter cursor occurs twice", ""},
		{"undecodable cursor", line("GET /Users?cursor=%zz"), "400 invalidCursor: the query parameter cursor cannot be decoded", ""},
		{"count is no number, by cursor", line("GET /Users?count=ten&cursor="), "400 invalidCount: count must be an integer", ""},
		{"filter on a resource", line("GET /Users/1?filter=x"), "400 invalidFilter: ", ""},
		{"discovery with filter", line("GET /Schemas?filter=id+pr"), "403: a filter is not allowed here", ""},
		{"discovery of one with filter", line("GET /ResourceTypes/User?FILTER="), "403: a filter is not allowed here", ""},
		{"discovery, undecodable", line("GET /ServiceProviderConfig?filter=%zz"), "400 invalidFilter: ", ""},
		// bodies
		{"no body", line("POST /Users"), "400 invalidSyntax: the body is empty", ""},
		{"only spaces", create + "  ", "400 invalidSyntax: the body is empty", ""},
		{"malformed", create + `{"userName":}`, "400 invalidSyntax: the body is not acceptable JSON at byte 13: a value is expected", ""},
		{"truncated", create + `{"userName":"bj`, "400 invalidSyntax: the body ends in the middle, after byte 15: a string does not end", ""},
		{"doubled", create + `{"userName":"a"}{"userName":"a"}`, "400 invalidSyntax: the body is not acceptable JSON at byte 17: nothing may follow", ""},
		{"an array", create + `[{"userName":"a"}]`, "400 invalidSyntax: the body is not acceptable JSON at byte 1: a JSON object", ""},
		{"deep", create + strings.Repeat(`{"a":`, 33), "400 invalidSyntax: the body is not acceptable JSON at byte 161: more than 32 levels", ""},
		{"duplicate", create + `{"userName":"a","userName":"b"}`, `400 invalidSyntax: the body is not acceptable JSON at byte 17: the name "userName" occurs twice`, ""},
		{"duplicate in odd case", create + `{"userName":"a","username":"b"}`, `400 invalidSyntax: the body is not acceptable JSON at byte 17: the name "username" occurs twice`, ""},
		{"not UTF-8", create + "{\"userName\":\"\xff\"}", "400 invalidSyntax: the body is not acceptable JSON at byte 14: this is not valid UTF-8", ""},
		{"large", create + `{"x":"` + big + `"}`, "413: the body is larger than 262144 bytes", ""},
		{"PUT without body", line("PUT /Users/1"), "400 invalidSyntax: the body is empty", ""},
		// media types
		{"text", "POST /scim/v2/Users HTTP/1.1\nContent-Type: text/plain\n\n{}", "415: the Content-Type must be application/scim+json or application/json", ""},
		{"form", "PUT /scim/v2/Users/1 HTTP/1.1\nContent-Type: application/x-www-form-urlencoded\n\n{}", "415: ", ""},
		{"JSON patch", "PATCH /scim/v2/Users/1 HTTP/1.1\nContent-Type: application/json-patch+json\n\n{}", "415: ", ""},
		{"unreadable type", "POST /scim/v2/Users HTTP/1.1\nContent-Type: application/json; charset\n\n{}", "415: ", ""},
		{"charset", "POST /scim/v2/Users HTTP/1.1\nContent-Type: application/scim+json; charset=iso-8859-1\n\n{}", "415: the charset must be utf-8", ""},
		{"compressed", "POST /scim/v2/Users HTTP/1.1\nContent-Encoding: gzip\n\n{}", "415: the body must not be compressed", ""},
		// PATCH
		{"no schemas", patch + `{"Operations":[{"op":"remove","path":"title"}]}`, `400 invalidSyntax: schemas must contain "` + MessagePatchOp + `"`, ""},
		{"schemas of a user", patch + `{"schemas":["` + SchemaUser + `"],"Operations":[{"op":"remove","path":"title"}]}`, "400 invalidSyntax: schemas must contain", ""},
		{"schemas is a string", patch + `{"schemas":"` + MessagePatchOp + `","Operations":[{"op":"remove","path":"title"}]}`, "400 invalidSyntax: schemas must contain", ""},
		{"no Operations", patch + `{"schemas":["` + MessagePatchOp + `"]}`, "400 invalidSyntax: Operations is required", ""},
		{"empty Operations", op(""), "400 invalidSyntax: Operations is required: an array with at least one operation", ""},
		{"Operations is an object", patch + `{"schemas":["` + MessagePatchOp + `"],"Operations":{"op":"add"}}`, "400 invalidSyntax: Operations is required", ""},
		{"operation is a string", op(`"remove"`), "400 invalidSyntax: Operations[0]: an operation must be an object", ""},
		{"unknown op", op(`{"op":"add","path":"title","value":"x"},{"op":"move","path":"title"}`), "400 invalidSyntax: Operations[1]: op must be add, remove or replace", ""},
		{"no op", op(`{"path":"title","value":"x"}`), "400 invalidSyntax: Operations[0]: op must be", ""},
		{"op is a number", op(`{"op":1,"path":"title","value":"x"}`), "400 invalidSyntax: Operations[0]: op must be", ""},
		{"doubled op", op(`{"op":"add","OP":"remove","path":"title"}`), "400 invalidSyntax: the body is not acceptable JSON at byte 88", ""},
		{"remove without path", op(`{"op":"Remove"}`), "400 noTarget: Operations[0]: remove needs a path", ""},
		{"remove with null path", op(`{"op":"remove","path":null,"value":{"title":"x"}}`), "400 noTarget: Operations[0]: remove needs a path", ""},
		{"bad path", op(`{"op":"add","path":"emails[","value":"x"}`), "400 invalidPath: Operations[0]: ", ""},
		{"empty path", op(`{"op":"add","path":"","value":"x"}`), "400 invalidPath: Operations[0]: ", ""},
		{"path is an array", op(`{"op":"add","path":["title"],"value":"x"}`), "400 invalidPath: Operations[0]: path must be a string", ""},
		{"long path", op(`{"op":"add","path":"emails[type eq \"` + strings.Repeat("x", MaxFilter) + `\"]","value":"x"}`), "400 invalidPath: Operations[0]: ", ""},
		{"deep path", op(`{"op":"add","path":"emails[` + strings.Repeat("(", 5000) + `","value":"x"}`), "400 invalidPath: Operations[0]: ", ""},
		{"add without value", op(`{"op":"add","path":"title"}`), "400 invalidValue: Operations[0]: value is required for add at title", ""},
		{"replace without value", op(`{"op":"Replace","path":"name.givenName"}`), "400 invalidValue: Operations[0]: value is required for replace at name.givenName", ""},
		{"neither path nor value", op(`{"op":"replace"}`), "400 invalidSyntax: Operations[0]: value is required where there is no path", ""},
		{"a string without path", op(`{"op":"add","value":"x"}`), "400 invalidValue: Operations[0]: value must be an object where there is no path", ""},
	}
	for _, tt := range tests {
		req, err := readHTTP(t, tt.in)
		e, ok := errors.AsType[*Error](err)
		if !ok || !strings.HasPrefix(e.Error(), tt.want) || req != nil {
			t.Errorf("%s: got %v, %v, want %s", tt.name, req, err, tt.want)
			continue
		}
		if got := strings.Join(e.Allow, " "); got != tt.allow {
			t.Errorf("%s: Allow is %q, want %q", tt.name, got, tt.allow)
		}
		if len(e.Detail) > 500 {
			t.Errorf("%s: a detail of %d bytes", tt.name, len(e.Detail))
		}
	}
}

// A path that net/http would not have let through.
func TestReadRequestBadEscape(t *testing.T) {
	for _, path := range []string{"/Users/%zz", "/Users/%", "/%0/1"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		_, err := ReadRequest(r, path, bothTypes, MaxBody)
		checkDetail(t, path, err, InvalidSyntax, "the path has an escape that cannot be decoded")
	}
}

func TestReadRequestMedia(t *testing.T) {
	for _, header := range []string{
		"", "Content-Type: application/scim+json", "Content-Type: application/scim+json; charset=utf-8", "Content-Type: application/json",
		"Content-Type: Application/JSON;charset=\"UTF-8\"", "content-type: application/scim+json ; profile=x", "Content-Encoding: identity",
	} {
		text := "POST /scim/v2/Users HTTP/1.1\n" + header + "\n\n" + entraCreate
		if header == "" {
			text = "POST /scim/v2/Users HTTP/1.1\n\n" + entraCreate
		}
		if req, err := readHTTP(t, text); err != nil || req.Resource.UserName() == "" {
			t.Errorf("%q: %v", header, err)
		}
	}
	// Entra's GETs have no headers; others have odd ones.
	for _, header := range []string{"X: y", "Content-Type: text/html", "Accept: text/html", "Content-Encoding: br"} {
		if _, err := readHTTP(t, "GET /scim/v2/Users HTTP/1.1\n"+header); err != nil {
			t.Errorf("GET with %q: %v", header, err)
		}
		if _, err := readHTTP(t, "DELETE /scim/v2/Users/1 HTTP/1.1\n"+header+"\n\nnot read"); err != nil {
			t.Errorf("DELETE with %q: %v", header, err)
		}
	}
}

func TestReadRequestBody(t *testing.T) {
	const limit = 100
	exact := `{"userName":"` + strings.Repeat("x", limit-15) + `"}`
	broken := errors.New("connection reset")
	tests := []struct {
		name   string
		body   io.Reader
		length int64
		want   string
	}{
		{"announced", strings.NewReader(exact), limit, ""},
		{"chunked", strings.NewReader(exact), -1, ""},
		{"byte by byte", iotest.OneByteReader(strings.NewReader(exact)), -1, ""},
		{"end with data", iotest.DataErrReader(strings.NewReader(exact)), limit, ""},
		{"one more", strings.NewReader(exact + " "), limit + 1, "413: the body is larger than 100 bytes"},
		{"one more, chunked", strings.NewReader(exact + " "), -1, "413: the body is larger than 100 bytes"},
		{"one more than announced", strings.NewReader(exact + " "), 10, "413: the body is larger than 100 bytes"},
		{"without end", iotest.TimeoutReader(endless{}), -1, "413: the body is larger than 100 bytes"},
		{"announced without limit", endless{}, 1 << 62, "413: the body is larger than 100 bytes"},
		{"bounded elsewhere", iotest.ErrReader(&http.MaxBytesError{Limit: 7}), -1, "413: the body is larger than 100 bytes"},
		{"breaks off", io.MultiReader(strings.NewReader(exact[:20]), iotest.ErrReader(broken)), limit, "400 invalidSyntax: the body did not arrive in full (connection reset)"},
		{"breaks off at once", iotest.ErrReader(io.ErrUnexpectedEOF), -1, "400 invalidSyntax: the body did not arrive in full (unexpected EOF)"},
		{"ends early", strings.NewReader(exact[:20]), -1, "400 invalidSyntax: the body ends in the middle, after byte 20"},
		{"none", nil, 0, "400 invalidSyntax: the body is empty"},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(http.MethodPost, "/Users", nil)
		r.Body, r.ContentLength = nil, tt.length
		if tt.body != nil {
			r.Body = io.NopCloser(tt.body)
		}
		req, err := ReadRequest(r, "/Users", bothTypes, limit)
		switch {
		case tt.want == "" && (err != nil || len(req.Resource.UserName()) != limit-15):
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestReadRequestQuery(t *testing.T) {
	ten, zero, most, cursor := 10, 0, 1<<31-1, "a-b_c.d~"
	name := Ref{Name: "userName"}
	var enterprise []Ref
	for _, attribute := range []string{"employeeNumber", "costCenter", "organization", "division", "department", "manager"} {
		enterprise = append(enterprise, Ref{Schema: SchemaEnterpriseUser, Name: attribute})
	}
	tests := []struct {
		query  string
		filter string
		want   Query // without Filter
	}{
		{"", "", Query{StartIndex: 1}},
		{"filter=userName+eq+%22bjensen%40example.com%22", `userName eq "bjensen@example.com"`, Query{StartIndex: 1}},
		{"filter=userName%20eq%20%22a%2Bb%20%26%20c%3Dd%22", `userName eq "a+b & c=d"`, Query{StartIndex: 1}},
		{"filter=userName eq \"a;b=c\"", `userName eq "a;b=c"`, Query{StartIndex: 1}},
		{"FILTER=userName+Eq+%22%F0%9F%98%80%5C%22%22", `userName eq "😀\""`, Query{StartIndex: 1}},
		{"aadOptscim062020&filter=active+eq+true", `active eq true`, Query{StartIndex: 1}},
		{"startIndex=5&count=10", "", Query{StartIndex: 5, Count: &ten}},
		{"startindex=0&COUNT=-3", "", Query{StartIndex: 1, Count: &zero}},
		{"startIndex=-99999999999999999999&count=99999999999999999999", "", Query{StartIndex: 1, Count: &most}},
		{"count=%2010+", "", Query{StartIndex: 1, Count: &ten}},
		{"sortBy=USERNAME&sortOrder=Descending", "", Query{StartIndex: 1, SortBy: &name, Descending: true}},
		{"sortBy=urn:ietf:params:scim:schemas:core:2.0:User:userName&sortOrder=ascending", "", Query{StartIndex: 1, SortBy: &name}},
		{"attributes=username,+name.GivenName,,emails.value,manager,size,urn:x:y", "", Query{StartIndex: 1, Unknown: []string{"size", "urn:x:y"}, Attributes: []Ref{
			name, {Name: "name", Sub: "givenName"}, {Name: "emails", Sub: "value"}, {Schema: SchemaEnterpriseUser, Name: "manager"}}}},
		{"attributes=emails%5BTYPE+eq+%22work%22%5D,phoneNumbers[type eq \"work\"].Value", "", Query{StartIndex: 1, Attributes: []Ref{{Name: "emails"}, {Name: "phoneNumbers", Sub: "value"}}}},
		{"attributes=size[value eq \"secret\"]", "", Query{StartIndex: 1, Unknown: []string{"size"}, Attributes: []Ref{}}},
		{"attributes=size", "", Query{StartIndex: 1, Unknown: []string{"size"}, Attributes: []Ref{}}},
		{"attributes=", "", Query{StartIndex: 1}},
		{"attributes=,+", "", Query{StartIndex: 1}},
		{"excludedAttributes=emails&attributesX=1", "", Query{StartIndex: 1, ExcludedAttributes: []Ref{{Name: "emails"}}}},
		{"excludedattributes=" + strings.ToUpper(SchemaEnterpriseUser) + ",$ref", "", Query{StartIndex: 1, Unknown: []string{"$ref"}, ExcludedAttributes: enterprise}},
		{"filter%00=x", "", Query{StartIndex: 1}},
		{"cursor&count=10", "", Query{StartIndex: 1, Cursor: new(string), Count: &ten}},
		{"CURSOR=a-b_c.d~", "", Query{StartIndex: 1, Cursor: &cursor}},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = tt.query
		req, err := ReadRequest(r, "/Users", bothTypes, MaxBody)
		if err != nil {
			t.Errorf("%s: %v", tt.query, err)
			continue
		}
		got := req.Query
		got.Filter = nil
		if filter := FormatFilter(req.Query.Filter); filter != tt.filter || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %q, %+v, want %q, %+v", tt.query, filter, got, tt.filter, tt.want)
		}
	}
}

func TestReadRequestPreconditions(t *testing.T) {
	req, err := readHTTP(t, "GET /scim/v2/Users/1 HTTP/1.1\nIf-None-Match: W/\"a\"\nIf-None-Match: \"b\"\nIf-Match: *")
	if want := (Preconditions{IfMatch: "*", IfNoneMatch: `W/"a", "b"`}); err != nil || req.Preconditions != want {
		t.Errorf("got %+v, %v, want %+v", req, err, want)
	}
}

func TestReadRequestResource(t *testing.T) {
	req, err := readHTTP(t, "PUT /scim/v2/Users/1?attributes=userName HTTP/1.1\n\n"+`{"SCHEMAS":["x"],"USERNAME":"a","Name":{"GIVENNAME":"g","x":1},"EMAILS":[{"TYPE":"work"},null],"unknown":{"A":1},`+
		`"urn:ietf:params:scim:SCHEMAS:extension:enterprise:2.0:user":{"Manager":{"VALUE":"1","$REF":"r"},"x":1},"active":"False"}`)
	want := Resource{"schemas": []any{"x"}, "userName": "a", "name": map[string]any{"givenName": "g", "x": json.Number("1")}, "active": "False",
		"emails": []any{map[string]any{"type": "work"}, nil}, "unknown": map[string]any{"A": json.Number("1")},
		SchemaEnterpriseUser: map[string]any{"manager": map[string]any{"value": "1", "$ref": "r"}, "x": json.Number("1")}}
	if err != nil || !reflect.DeepEqual(req.Resource, want) || req.Op != OpReplace || len(req.Query.Attributes) != 1 {
		t.Errorf("got %+v, %v, want %v", req, err, want)
	}
}

func TestReadRequestPatch(t *testing.T) {
	text := func(s string) string {
		return "PATCH /scim/v2/Users/1 HTTP/1.1\nContent-Type: application/scim+json; charset=utf-8\n\n" + s
	}
	req, err := readHTTP(t, text(`{"SCHEMAS":["URN:ietf:params:scim:api:messages:2.0:patchop"],"operations":[`+
		`{"OP":"Replace","Path":"USERNAME","VALUE":"a"},{"op":"ADD","value":{"name.givenName":"x"}},{"op":"remove","path":"emails[TYPE eq \"work\"]","value":null},`+
		`{"op":"replace","path":"title","value":null},{"op":"add","path":"emails","value":[{"TYPE":"work"}]},{"op":"add","path":"x:y","value":1},`+
		`{"op":"replace","path":null,"value":{}},{"op":"replace","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User","value":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`replace USERNAME -> userName = "a"`, `add  -> = {"name.givenName":"x"}`, `remove emails[TYPE eq "work"] -> emails = null`, `replace title -> title = null`,
		`add emails -> emails = [{"type":"work"}]`, `add x:y -> = 1`, `replace  -> = {}`, `replace ` + SchemaEnterpriseUser + ` -> = {}`,
	}
	var got []string
	for _, op := range req.Operations {
		got = append(got, op.Op+" "+FormatPath(op.Path)+" -> "+strings.TrimLeft(op.Target.Ref.String()+" = ", " ")+string(AppendJSON(nil, op.Value)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if req, err = readHTTP(t, text(entraPatch)); err != nil || len(req.Operations) != 4 {
		t.Errorf("Entra's PATCH: got %+v, %v", req, err)
	}
}

func TestWriteResponse(t *testing.T) {
	user := UserType()
	one := Resource{"id": "a/b?c", "userName": "x"}
	tests := []struct {
		name    string
		req     Request
		resp    Response
		headers string // sorted
		body    string
	}{
		{"created", Request{Op: OpCreate, Type: user}, Response{Status: 201, Resource: one, Version: `W/"1"`},
			`201 Content-Length|Content-Type: application/scim+json; charset=utf-8|Etag: W/"1"|Location: ` + base + `/Users/a%2Fb%3Fc`, `{"id":"a/b?c","userName":"x"}`},
		{"created, located", Request{Op: OpCreate, Type: user}, Response{Status: 201, Resource: one, Location: "https://x/y"},
			`201 Content-Length|Content-Type: application/scim+json; charset=utf-8|Location: https://x/y`, `{"id":"a/b?c","userName":"x"}`},
		{"created, nothing shown", Request{Op: OpCreate, Type: user}, Response{Status: 201, Location: "https://x/y"}, `201 Location: https://x/y`, ``},
		{"read", Request{Op: OpGet, Type: user}, Response{Status: 200, Resource: one},
			`200 Content-Length|Content-Location: ` + base + `/Users/a%2Fb%3Fc|Content-Type: application/scim+json; charset=utf-8`, `{"id":"a/b?c","userName":"x"}`},
		{"patched", Request{Op: OpPatch, Type: user}, Response{Status: 204, Version: `"2"`}, `204 Etag: "2"`, ``},
		{"deleted", Request{Op: OpDelete, Type: user}, Response{Status: 204}, `204 `, ``},
		{"not modified", Request{Op: OpGet, Type: user}, Response{Status: 304, Version: `"2"`}, `304 Etag: "2"`, ``},
		{"list not modified", Request{Op: OpQuery, Type: user}, Response{Status: 304}, `304 `, ``},
		{"nothing found", Request{Op: OpQuery, Type: user}, Response{Status: 200},
			`200 Content-Length|Content-Type: application/scim+json; charset=utf-8`, `{"schemas":["` + MessageListResponse + `"],"Resources":[],"itemsPerPage":0,"startIndex":1,"totalResults":0}`},
		{"a page by cursor", Request{Op: OpQuery}, Response{Status: 200, List: []Resource{one}, TotalResults: 7, ByCursor: true, Next: "n", Previous: "p"},
			`200 Content-Length|Content-Type: application/scim+json; charset=utf-8`, `{"schemas":["` + MessageListResponse + `"],"Resources":[` +
				`{"id":"a/b?c","userName":"x"}],"itemsPerPage":1,"nextCursor":"n","previousCursor":"p","totalResults":7}`},
		{"methods", Request{Op: OpOptions, Allow: []string{"GET", "OPTIONS"}}, Response{Status: 204}, `204 Allow: GET, OPTIONS`, ``},
		{"a page", Request{Op: OpQuery, Type: user}, Response{Status: 200, List: []Resource{one}, TotalResults: 7, StartIndex: 3},
			`200 Content-Length|Content-Type: application/scim+json; charset=utf-8`,
			`{"schemas":["` + MessageListResponse + `"],"Resources":[{"id":"a/b?c","userName":"x"}],"itemsPerPage":1,"startIndex":3,"totalResults":7}`},
		{"discovered", Request{Op: OpDiscover}, Response{Status: 200, Resource: Resource{"id": "x"}}, `200 Content-Length|Content-Type: application/scim+json; charset=utf-8`, `{"id":"x"}`},
		{"discovered list", Request{Op: OpDiscover}, Response{Status: 200, List: []Resource{}},
			`200 Content-Length|Content-Type: application/scim+json; charset=utf-8`, `{"schemas":["` + MessageListResponse + `"],"Resources":[],"itemsPerPage":0,"startIndex":1,"totalResults":0}`},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		WriteResponse(w, &tt.req, &tt.resp, base)
		headers, body := recorded(t, w)
		if headers != tt.headers || body != tt.body {
			t.Errorf("%s: got %s %s, want %s %s", tt.name, headers, body, tt.headers, tt.body)
		}
	}
}

// recorded is an answer as status and sorted headers, and its body. Content-Length is checked, and stands without
// its value.
func recorded(t *testing.T, w *httptest.ResponseRecorder) (headers, body string) {
	t.Helper()
	var lines []string
	body = w.Body.String()
	for name, values := range w.Header() {
		if name != "Content-Length" {
			name += ": " + strings.Join(values, "; ")
		} else if got, want := values[0], strconv.Itoa(len(body)); got != want {
			t.Errorf("Content-Length is %s, want %s", got, want)
		}
		lines = append(lines, name)
	}
	slices.Sort(lines)
	return strconv.Itoa(w.Code) + " " + strings.Join(lines, "|"), body
}

func TestWriteError(t *testing.T) {
	tests := []struct {
		name, id string
		err      error
		headers  string
		want     map[string]any
	}{
		{"with scimType", "req-1", BadRequest(InvalidFilter, "no such attribute."), "400 Content-Length|Content-Type: application/scim+json; charset=utf-8",
			map[string]any{"status": "400", "scimType": "invalidFilter", "detail": "no such attribute. Request id: req-1"}},
		{"without request id", "", NotFound("User", "x\n"), "404 Content-Length|Content-Type: application/scim+json; charset=utf-8",
			map[string]any{"status": "404", "detail": `User "x\n" does not exist`}},
		{"method", "r", &Error{Status: 405, Detail: "no", Allow: []string{"GET", "HEAD"}}, "405 Allow: GET, HEAD|Content-Length|Content-Type: application/scim+json; charset=utf-8",
			map[string]any{"status": "405", "detail": "no. Request id: r"}},
		{"retry", "r", &Error{Status: 503, Detail: "wait", RetryAfter: 1500 * time.Millisecond, Err: errors.New("secret")}, "503 Content-Length|Content-Type: application/scim+json; charset=utf-8|Retry-After: 2",
			map[string]any{"status": "503", "detail": "wait. Request id: r"}},
		{"retry at once", "r", &Error{Status: 429, Detail: "wait", RetryAfter: 1}, "429 Content-Length|Content-Type: application/scim+json; charset=utf-8|Retry-After: 1",
			map[string]any{"status": "429", "detail": "wait. Request id: r"}},
		{"unauthorized", "r", Errorf(401, "", "no"), `401 Content-Length|Content-Type: application/scim+json; charset=utf-8|Www-Authenticate: Bearer realm="scim"`,
			map[string]any{"status": "401", "detail": "no. Request id: r"}},
		{"wrapped", "r", errors.Join(errors.New("secret"), Errorf(409, Uniqueness, "taken")), "409 Content-Length|Content-Type: application/scim+json; charset=utf-8",
			map[string]any{"status": "409", "scimType": "uniqueness", "detail": "taken. Request id: r"}},
		{"quoted", "r", &Error{Status: 400, Type: InvalidValue, Detail: "the upstream refused it", Quoted: "bad e-mail."}, "400 Content-Length|Content-Type: application/scim+json; charset=utf-8",
			map[string]any{"status": "400", "scimType": "invalidValue", "detail": "the upstream refused it; upstream: bad e-mail. Request id: r"}},
		{"of our own", "r", errors.New("secret"), "500 Content-Length|Content-Type: application/scim+json; charset=utf-8",
			map[string]any{"status": "500", "detail": "an internal error: the trail tells more. Request id: r"}},
		{"not UTF-8", "r", Errorf(400, "", "x\xff"), "400 Content-Length|Content-Type: application/scim+json; charset=utf-8",
			map[string]any{"status": "400", "detail": "x\ufffd. Request id: r"}},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		WriteError(w, tt.err, tt.id)
		headers, body := recorded(t, w)
		tt.want["schemas"] = []any{MessageError}
		got, err := DecodeObject([]byte(body))
		if err != nil || headers != tt.headers || !reflect.DeepEqual(map[string]any(got), tt.want) {
			t.Errorf("%s: got %s %s, want %s %v", tt.name, headers, body, tt.headers, tt.want)
		}
	}
}

func TestError(t *testing.T) {
	cause := errors.New("cause")
	e := &Error{Status: 502, Type: TooMany, Detail: "detail", Quoted: "personal", Err: cause}
	if got, want := e.Error(), "502 tooMany: detail (cause)"; got != want || !errors.Is(e, cause) {
		t.Errorf("got %s, want %s and its cause", got, want)
	}
	if got := Detail(errors.Join(e)); got != "detail" {
		t.Errorf("Detail = %q, want detail", got)
	}
	if got := Detail(cause); got != "cause" {
		t.Errorf("Detail = %q, want cause", got)
	}
	for in, want := range map[string]string{"": "", "short": "short", strings.Repeat("x", 80): strings.Repeat("x", 80),
		strings.Repeat("x", 81): strings.Repeat("x", 80) + "...", strings.Repeat("é", 100): strings.Repeat("é", 40) + "..."} {
		if got := clip(in); got != want {
			t.Errorf("clip(%q) = %q, want %q", in, got, want)
		}
	}
}
