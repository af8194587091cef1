package scim

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// serverReads reads, with the server's half, what the client's half wrote.
func serverReads(req *Request) (*Request, error) {
	hr, err := NewHTTPRequest(context.Background(), upstreamBase, MediaType, req)
	if err != nil {
		return nil, err
	}
	path := strings.TrimPrefix(hr.URL.EscapedPath(), "/v2/scim")
	return ReadRequest(hr, path, bothTypes, 10*MaxBody)
}

// What one half writes the other reads back equal.
func TestWireRoundTrip(t *testing.T) {
	id := rapid.OneOf(rapid.StringN(1, 20, -1), rapid.SampledFrom([]string{"%2F", "a/b", "..a", "?", "#", "%zz", "a b+c", "é"})).Filter(IsID)
	refs := rapid.SliceOfNDistinct(rapid.SampledFrom([]Ref{
		{Name: "userName"}, {Name: "name", Sub: "givenName"}, {Name: "emails"}, {Name: "emails", Sub: "value"}, {Name: "meta", Sub: "version"},
		{Schema: SchemaEnterpriseUser, Name: "manager"}, {Schema: SchemaEnterpriseUser, Name: "manager", Sub: "$ref"},
	}), 1, 4, rapid.ID)
	path := rapid.SampledFrom([]string{"title", "name.givenName", "emails", `emails[type eq "work"].value`, "x:y", `emails[value eq "a\"é\\" and primary eq true]`, SchemaEnterpriseUser + ":manager"})
	rapid.Check(t, func(t *rapid.T) {
		user := bothTypes[0]
		req := &Request{Op: rapid.SampledFrom([]Op{OpCreate, OpGet, OpQuery, OpReplace, OpPatch, OpDelete}).Draw(t, "op"), Type: user, Query: Query{StartIndex: 1}}
		if req.Op != OpCreate && req.Op != OpQuery {
			req.ID = id.Draw(t, "id")
		}
		switch rapid.IntRange(0, 2).Draw(t, "projection") {
		case 1:
			req.Query.Attributes = refs.Draw(t, "attributes")
		case 2:
			req.Query.ExcludedAttributes = refs.Draw(t, "excludedAttributes")
		}
		req.Preconditions.IfMatch = rapid.SampledFrom([]string{"", "*", `W/"1", "2"`}).Draw(t, "If-Match")
		switch req.Op {
		case OpCreate, OpReplace:
			req.Resource = genObject(2).Draw(t, "resource")
			user.Canonicalize(req.Resource)
		case OpQuery:
			drawQuery(t, &req.Query, refs)
		case OpPatch:
			for range rapid.IntRange(1, 3).Draw(t, "operations") {
				op := PatchOp{Op: rapid.SampledFrom([]string{"add", "remove", "replace"}).Draw(t, "op")}
				if op.Op == "remove" || rapid.Bool().Draw(t, "path?") {
					var err error
					if op.Path, err = ParsePath(path.Draw(t, "path")); err != nil {
						t.Fatal(err)
					}
					op.Target, _ = user.ResolvePath(op.Path)
					op.Value = rapid.SampledFrom([]any{nil, "x", true, []any{}, []any{map[string]any{"type": "work"}}}).Draw(t, "value")
				} else {
					op.Value = map[string]any(genObject(1).Draw(t, "value"))
				}
				req.Operations = append(req.Operations, op)
			}
		}
		got, err := serverReads(req)
		if err != nil || !reflect.DeepEqual(got, req) {
			t.Fatalf("got %+v, %v, want %+v", got, err, req)
		}
	})
}

func drawQuery(t *rapid.T, q *Query, refs *rapid.Generator[[]Ref]) {
	if rapid.Bool().Draw(t, "filter?") {
		q.Filter = genFilter(3, false).Draw(t, "filter")
		if again, err := ParseFilter(FormatFilter(q.Filter)); err != nil {
			q.Filter = nil // longer than a filter may be
		} else {
			q.Filter = again // strings that are not UTF-8 change once
		}
	}
	if rapid.Bool().Draw(t, "sortBy?") {
		q.SortBy = &refs.Draw(t, "sortBy")[0]
		q.Descending = rapid.Bool().Draw(t, "descending")
	}
	q.StartIndex = rapid.SampledFrom([]int{1, 2, 1 << 30}).Draw(t, "startIndex")
	if rapid.Bool().Draw(t, "count?") {
		n := rapid.SampledFrom([]int{0, 1, 1 << 30}).Draw(t, "count")
		q.Count = &n
	}
}

func FuzzReadRequest(f *testing.F) {
	for _, s := range []string{
		"GET /Users?filter=userName+eq+%22a%22&count=1", "GET //users/%2e%2e?aadOptscim062020", "POST /Users\n" + entraCreate, "PATCH /Users/1\n" + entraPatch,
		"PUT /Groups/a%2Fb?attributes=members.value,x\n{}", "GET /Schemas/urn:x", "DELETE /Users/%00", "GET /Users?sortBy=name.givenName&sortOrder=descending&startIndex=-1",
		"POST /Users/.search\n" + `{"schemas":["` + MessageSearchRequest + `"],"filter":"title pr","count":1,"cursor":""}`,
		"POST /.search\n" + `{"schemas":["` + MessageSearchRequest + `"],"filter":"not (members pr or title eq \"x\")","sortBy":"title"}`,
		"PATCH /Users/1\n" + `{"schemas":["` + MessagePatchOp + `"],"Operations":[{"op":"remove"},{"op":"add","path":"x:y[a eq 1].b","value":[]}]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, body, _ := strings.Cut(text, "\n")
		method, target, _ := strings.Cut(first, " ")
		path, query, _ := strings.Cut(target, "?")
		r := &http.Request{Method: method, URL: &url.URL{RawQuery: query}, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}
		req, err := ReadRequest(r, path, bothTypes, 10_000)
		if err != nil {
			e, ok := err.(*Error)
			if !ok || e.Status < 400 || e.Status > 599 || !utf8.ValidString(e.Detail) || len(e.Detail) > 1000 || req != nil {
				t.Fatalf("%q: got %v, %v", text, req, err)
			}
			return
		}
		if req.Type == nil { // which upstreams are never asked
			return
		}
		longest := len(FormatFilter(req.Query.Filter))
		for _, op := range req.Operations {
			longest = max(longest, len(FormatPath(op.Path)))
		}
		again, err := serverReads(req)
		if err != nil && longest > MaxFilter {
			return // with more escapes than it came with
		}
		if err != nil {
			t.Fatalf("%q: what was read cannot be sent: %v", text, err)
		}
		if again.Op != req.Op || again.ID != req.ID || len(again.Operations) != len(req.Operations) || !reflect.DeepEqual(again.Resource, req.Resource) {
			t.Fatalf("%q: got %+v, want %+v", text, again, req)
		}
		for range req.Writes() {
		}
	})
}
