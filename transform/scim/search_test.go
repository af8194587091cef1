package scim

import (
	"reflect"
	"strings"
	"testing"
)

// postSearch is a query by POST whose SearchRequest has these members.
func postSearch(path, members string) string {
	if members != "" {
		members = "," + members
	}
	return "POST /scim/v2" + path + "/.search HTTP/1.1\n\n" + `{"schemas":["` + MessageSearchRequest + `"]` + members + `}`
}

// A query by POST is the query that the same parameters make in a URL.
func TestReadSearch(t *testing.T) {
	tests := []struct{ query, members string }{
		{"", ""},
		{"", `"filter":null,"count":null,"attributes":[],"nobody":"knows it"`},
		{"filter=userName+eq+%22a%26b%22", `"filter":"userName eq \"a&b\""`},
		{"filter=title+pr&count=10&startIndex=3", `"FILTER":"title pr","Count":10,"startindex":3`},
		{"count=-5&startIndex=0", `"count":-5,"startIndex":0`},
		{"count=99999999999999999999", `"count":99999999999999999999`},
		{"sortBy=name.familyName&sortOrder=descending", `"sortBy":"NAME.familyname","sortOrder":"Descending"`},
		{"attributes=userName,name.givenName,size", `"attributes":["userName","name.givenName","size"]`},
		{"excludedAttributes=emails", `"excludedAttributes":["emails"],"attributes":[]`},
		{"cursor&count=2", `"cursor":"","count":2`},
		{"cursor=abc", `"cursor":"abc"`},
	}
	for _, path := range []string{"/Users", ""} {
		for _, tt := range tests {
			want, err := readHTTP(t, line("GET "+path+"/?"+tt.query))
			if err != nil {
				t.Fatalf("%s: %v", tt.query, err)
			}
			got, err := readHTTP(t, postSearch(path, tt.members))
			if err != nil {
				t.Errorf("%s: %v", tt.members, err)
				continue
			}
			if got.Op != OpQuery || !got.Search || got.Type != want.Type || !reflect.DeepEqual(got.Query, want.Query) || !reflect.DeepEqual(got.Parts, want.Parts) {
				t.Errorf("%s: got %+v, want %+v", tt.members, got.Query, want.Query)
			}
		}
	}
}

func TestReadSearchRefuses(t *testing.T) {
	tests := []struct{ in, want string }{
		{"POST /scim/v2/Users/.search HTTP/1.1\n\n{}", `400 invalidSyntax: schemas must contain "` + MessageSearchRequest + `"`},
		{"POST /scim/v2/.search HTTP/1.1\n\n" + `{"schemas":["` + MessageListResponse + `"]}`, "400 invalidSyntax: schemas must contain"},
		{"POST /scim/v2/.search HTTP/1.1\n\n[]", "400 invalidSyntax: "},
		{postSearch("/Users", `"filter":"userName eq"`), "400 invalidFilter: "},
		{postSearch("/Users", `"filter":""`), "400 invalidFilter: "},
		{postSearch("/Users", `"filter":"userName eq \"`+strings.Repeat("x", MaxFilter)+`\""`), "400 invalidFilter: "},
		{postSearch("/Users", `"filter":{}`), "400 invalidValue: filter must be a string"},
		{postSearch("/Users", `"filter":["title pr"]`), "400 invalidValue: filter must be a string"},
		{postSearch("/Users", `"attributes":"userName"`), "400 invalidValue: attributes must be an array of strings"},
		{postSearch("/Users", `"attributes":["userName",1]`), "400 invalidValue: attributes must be an array of strings"},
		{postSearch("/Users", `"attributes":["na[me"]`), "400 invalidPath: "},
		{postSearch("/Users", `"attributes":["title"],"excludedAttributes":["name"]`), "400 invalidValue: attributes and excludedAttributes exclude each other"},
		{postSearch("/Users", `"count":"10"`), "400 invalidValue: count must be an integer"},
		{postSearch("/Users", `"count":1.5`), "400 invalidValue: count must be an integer"},
		{postSearch("/Users", `"count":1.5,"cursor":""`), "400 invalidCount: count must be an integer"},
		{postSearch("/Users", `"startIndex":true`), "400 invalidValue: startIndex must be an integer"},
		{postSearch("/Users", `"startIndex":1,"cursor":""`), "400 invalidValue: startIndex and cursor exclude each other"},
		{postSearch("/Users", `"attributes":["`+strings.Repeat("a,", maxText)+`"]`), "400 invalidValue: attributes is longer than 32768 bytes"},
		{postSearch("/Users", `"cursor":"`+strings.Repeat("a", maxText+1)+`"`), "400 invalidCursor: cursor is longer than 32768 bytes"},
		{postSearch("/Users", `"cursor":1`), "400 invalidValue: cursor must be a string"},
		{postSearch("/Users", `"sortBy":"size"`), "400 invalidPath: sortBy names no attribute of User"},
		{postSearch("/Users", `"sortOrder":"up"`), "400 invalidValue: sortOrder must be"},
		{postSearch("", `"sortBy":"size"`), "400 invalidPath: sortBy names no attribute of any resource type"},
		{postSearch("/Users", `"count":1,"COUNT":2`), "400 invalidSyntax: "},
		{"POST /scim/v2/Users/.search?filter=title+pr HTTP/1.1\n\n{}", "400 invalidFilter: filter belongs into the body"},
		{"POST /scim/v2/Users/.search?count=1 HTTP/1.1\n\n{}", "400 invalidValue: count belongs into the body"},
		{"POST /scim/v2/Users/.search HTTP/1.1\nContent-Type: text/plain\n\n{}", "415: "},
		{"POST /scim/v2/Users/.search HTTP/1.1\n\n" + `{"x":"` + strings.Repeat("x", MaxBody) + `"}`, "413: "},
	}
	for _, tt := range tests {
		req, err := readHTTP(t, tt.in)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%.200s: got %+v, %v, want %s", tt.in, req, err, tt.want)
		}
	}
	if req, err := readHTTP(t, "POST /scim/v2/Users/.search?aadOptscim062020 HTTP/1.1\n\n"+`{"schemas":["`+MessageSearchRequest+`"]}`); err != nil || req.Type.Name != "User" {
		t.Errorf("a flag in the URL: got %+v, %v, want it ignored", req, err)
	}
}

func TestReadOptions(t *testing.T) {
	for target, want := range map[string]string{
		"/Users": "GET HEAD POST OPTIONS", "/Users/1?filter=x": "GET HEAD PUT PATCH DELETE OPTIONS", "/": "GET HEAD OPTIONS",
		"/Schemas": "GET HEAD OPTIONS", "/Groups/.search": "POST OPTIONS", "/.search": "POST OPTIONS",
	} {
		req, err := readHTTP(t, line("OPTIONS "+target))
		if err != nil || req.Op != OpOptions || strings.Join(req.Allow, " ") != want {
			t.Errorf("%s: got %+v, %v, want %s", target, req, err, want)
		}
	}
}
