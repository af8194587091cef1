package conformance

import (
	"net/http"
	"strings"
	"testing"
)

const sample = `{"schemas":["urn:x"],"totalResults":2,"half":0.5,"userName":"Babs","active":true,"none":null,"empty":[],"text":"",
 "name":{"givenName":"Ada","familyName":"Byron"},
 "emails":[{"type":"work","value":"a@x.com","primary":true},{"type":"home","value":"b@x.com"}],
 "meta":{"created":"2020-01-01T00:00:00Z","lastModified":"2020-01-01T01:00:00.5+01:00","location":"https://x.com/Users/1"},
 "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"manager":{"value":"7"}},
 "Resources":[{"id":"1","n":1,"password":"p"},{"id":"2","n":2.0,"deep":{"password":"q"}},{"id":"10","n":10}],
 "names":["anna","Bert","carl"]}`

// TestAssertions makes each assertion about sample.
func TestAssertions(t *testing.T) {
	vars := variables{"name": "Ada", "number": parsed(t, "2"), "object": parsed(t, `{"type":"home"}`), "dot": "x.com", "quote": `"`}
	for _, test := range []struct {
		line string
		ok   bool
	}{
		{`json $.userName == "Babs"`, true},
		{`json $.username == "Babs"`, true}, // names in any case
		{`json $.userName == "babs"`, false},
		{`json $.userName ~ "bABS"`, true},
		{`json $.userName != "babs"`, true},
		{`json $.missing != "babs"`, false},
		{`json $.name.givenName == "{{name}}"`, true},
		{`json $.name == {"familyName":"Byron","givenName":"{{name}}"}`, true},
		{`json $.name == {"familyName":"Byron"}`, false},
		{`json $.name contains {"familyName":"Byron"}`, true},
		{`json $.totalResults == {{number}}`, true},
		{`json $.totalResults == 2.0`, true},
		{`json $.totalResults == "2"`, false},
		{`json $.totalResults > 1`, true},
		{`json $.totalResults <= 1`, false},
		{`json $.totalResults is integer`, true},
		{`json $.half is integer`, false},
		{`json $.half is number`, true},
		{`json $.active == true`, true},
		{`json $.active is boolean`, true},
		{`json $.none absent`, true},
		{`json $.none is null`, true},
		{`json $.empty absent`, true},
		{`json $.empty exists`, false},
		{`json $.text exists`, true},
		{`json $.missing absent`, true},
		{`json $.missing not exists`, true},
		{`json $.emails count == 2`, true},
		{`json $.emails[*] count == 2`, true},
		{`json $.emails[?type=="work"] count == 1`, true},
		{`json $.emails[?type!="work"].value == "b@x.com"`, true},
		{`json $.emails[?value=="a@{{dot}}"].type == "work"`, true},
		{`json $.missing count == 0`, true},
		{`json $.empty count == 0`, true},
		{`json $.none count == 0`, true},
		{`json $.name count == 1`, true},
		{`json $.emails count >= {{number}}`, true},
		{`json $.emails contains {"type":"work"}`, true},
		{`json $.emails contains {{object}}`, true},
		{`json $.emails contains {"type":"other"}`, false},
		{`json $.emails[-1].type == "home"`, true},
		{`json $.emails[2] absent`, true},
		{`json $.emails[-3] absent`, true},
		{`json $.schemas contains "urn:x"`, true},
		{`json $.schemas contains "urn"`, false},
		{`json $.userName contains "ab"`, true},
		{`json $.meta.created is datetime`, true},
		{`json $.userName is datetime`, false},
		{`json $.meta.created == "2020-01-01T01:00:00+01:00"`, false}, // the same time, written in another way
		{`json $.meta.created >= "2020-01-01T01:00:00+01:00"`, true},
		{`json $.meta.lastModified > "2020-01-01T00:00:00Z"`, true},
		{`json $.meta.location is uri`, true},
		{`json $.userName is uri`, false},
		{`json $.userName is reference`, true},
		{`json $.text is reference`, false},
		{`json $.userName is base64`, true},
		{`json $.meta.location is base64`, false},
		{`json $.meta.location matches /^https:\/\/x\.com/`, true},
		{`json $.meta.location matches /^https:..{{dot}}/`, true},
		{`json $["urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"].manager.value == "7"`, true},
		{`json $["URN:ietf:params:scim:schemas:extension:enterprise:2.0:user"].manager.value == "7"`, true},
		{`json $..password count == 2`, true},
		{`json $..password each matches /^[pq]$/`, true},
		{`json $.Resources[*].id each is string`, true},
		{`json $.Resources[*].id each == "1"`, false},
		{`json $.Resources[*].id any == "1"`, true},
		{`json $.Resources[*].id none == "3"`, true},
		{`json $.Resources[*].id none == "1"`, false},
		{`json $.missing[*] each exists`, false}, // of nothing, each is not enough
		{`json $.missing[*] none exists`, true},
		{`json $.Resources[*].id unique`, true},
		{`json $.Resources[?deep.password=="q"].id == "2"`, true},
		{`json $.Resources[?n==2].id == "2"`, true},
		{`json $.Resources[*].n ascending`, true},
		{`json $.Resources[*].n descending`, false},
		{`json $.Resources[*].id ascending`, false}, // texts, not numbers
		{`json $.names[*] ascending`, true},         // without regard to case
		{`json $.userName in ["Anna","Babs"]`, true},
		{`json $.userName not in ["Anna"]`, true},
		{`json $.userName == "{{quote}}"`, false},
		{`header Location == "/x"`, true},
		{`header location matches /x$/`, true},
		{`header ETag absent`, true},
		{`header Vary == "a, b"`, true},
		{`body contains "Byron"`, true},
		{`body not contains "byron"`, true},
		{`body empty`, false},
		{`status 200`, true},
		{`status 404 2xx`, true},
		{`status 4xx`, false},
	} {
		p := parser{c: &Case{steps: []*step{{assertions: []*assertion{{}}}}}, known: vars}
		if err := p.assertion(test.line); err != nil {
			t.Errorf("%s: %v", test.line, err)
			continue
		}
		r := &attempt{endpoint: &endpoint{}, variables: vars}
		err := r.assert(p.c.steps[0].assertions[1], &answer{
			status: 200, header: http.Header{"Location": {"/x"}, "Vary": {"a", "b"}}, body: []byte(sample),
		})
		if (err == nil) != test.ok {
			t.Errorf("%s: got %v, want %v", test.line, err, test.ok)
		}
		if err != nil && !strings.HasPrefix(err.Error(), test.line+": ") {
			t.Errorf("%s: the reason %q does not start with the line", test.line, err)
		}
	}
}

func parsed(t *testing.T, text string) any {
	t.Helper()
	v, err := parseJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWholeAnswers(t *testing.T) {
	const scim, list, message = `"schemas":["` + errorSchema + `"]`, `"schemas":["` + listSchema + `"]`, "application/scim+json"
	for _, test := range []struct {
		name, line string
		status     int
		kind, body string
		want       string // "": holds
	}{
		{"error", "error 404", 404, message, `{` + scim + `,"status":"404"}`, ""},
		{"error with scimType", "error 400,409 uniqueness", 409, message + ";charset=UTF-8", `{` + scim + `,"status":"409","scimType":"uniqueness"}`, ""},
		{"other status", "error 404", 400, message, `{` + scim + `,"status":"400"}`, "got status 400"},
		{"status as a number", "error 404", 404, message, `{` + scim + `,"status":404}`, `want "404"`},
		{"no scimType", "error 400 noTarget", 400, message, `{` + scim + `,"status":"400"}`, "got scimType none"},
		{"no scimType, which may be", "error 400 noTarget,none", 400, message, `{` + scim + `,"status":"400"}`, ""},
		{"another scimType than none", "error 400 noTarget,none", 400, message, `{` + scim + `,"status":"400","scimType":"mutability"}`, `got scimType "mutability"`},
		{"no schemas", "error 404", 404, message, `{"status":"404"}`, "got schemas none"},
		{"plain text", "error 404", 404, "text/plain", "not found", "got Content-Type"},
		{"not JSON", "error 404", 404, message, "not found", "not JSON"},
		{"no body", "error 404", 404, message, "", "no body"},
		{"list", "list", 200, message, `{` + list + `,"totalResults":3,"startIndex":1,"itemsPerPage":1,"Resources":[{}]}`, ""},
		{"empty list", "list", 200, message, `{` + list + `,"totalResults":0}`, ""},
		{"count 0", "list", 200, message, `{` + list + `,"totalResults":3,"itemsPerPage":0}`, ""},
		{"no resources", "list", 200, message, `{` + list + `,"totalResults":3}`, "got no Resources"},
		{"too many", "list", 200, message, `{` + list + `,"totalResults":0,"Resources":[{}]}`, "1 Resources, but"},
		{"the count as items per page", "list", 200, message, `{` + list + `,"totalResults":5,"itemsPerPage":20,"Resources":[{}]}`, ""},
		{"items per page", "list", 200, message, `{` + list + `,"totalResults":5,"itemsPerPage":1,"Resources":[{},{}]}`, "got itemsPerPage 1 with 2"},
		{"items per page as a text", "list", 200, message, `{` + list + `,"totalResults":5,"itemsPerPage":"1","Resources":[{}]}`, `got itemsPerPage "1" with 1`},
		{"total as text", "list", 200, message, `{` + list + `,"totalResults":"0"}`, "want an integer"},
		{"not a list", "list", 200, message, `{"totalResults":0}`, "got schemas none"},
		{"not an array", "list", 200, message, `{` + list + `,"totalResults":1,"Resources":{}}`, "not an array"},
	} {
		p := parser{c: &Case{steps: []*step{{assertions: []*assertion{{}}}}}, known: variables{}}
		if err := p.assertion(test.line); err != nil {
			t.Fatal(err)
		}
		r := &attempt{endpoint: &endpoint{}, variables: variables{}}
		err := r.assert(p.c.steps[0].assertions[1], &answer{status: test.status, header: http.Header{"Content-Type": {test.kind}}, body: []byte(test.body)})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestVariables(t *testing.T) {
	vars := variables{"name": `a "b"&/ü`, "id": "a/b", "location": "http://x/y?z=1", "max": parsed(t, "3"), "list": parsed(t, `["x"]`)}
	for _, test := range []struct{ text, want string }{
		{`/Users?filter=userName eq "{{name}}"&count=1`, "/Users?filter=userName%20eq%20%22a%20%22b%22%26%2F%C3%BC%22&count=1"},
		{"/Users/{{id}}", "/Users/a%2Fb"},
		{"{{location}}&a=b", "http://x/y?z=1&a=b"},
		{"/Users?filter=userName+eq+%22x%22", "/Users?filter=userName+eq+%22x%22"},
		{"//Users/?a[b]=ü", "//Users/?a%5Bb%5D=%C3%BC"},
		{"/{{repeat:3:ab}}", "/ababab"},
		{"/{{repeat:max-1:ab}}", "/abab"},
	} {
		got, err := vars.target(test.text)
		if err != nil || got != test.want {
			t.Errorf("%s: got %s, %v, want %s", test.text, got, err, test.want)
		}
	}
	if got, err := vars.expand(`{"a":"{{name}}","b":{{list}},"c":{{max}}}`, asJSON); err != nil || got != `{"a":"a \"b\"&/ü","b":["x"],"c":3}` {
		t.Errorf("got %s, %v", got, err)
	}
	for text, want := range map[string]string{
		"{{none}}": "is not set", "{{repeat:none:x}}": "is not set", "{{repeat:id:x}}": "not a number",
		"{{repeat:max-9:x}}": "out of bounds", "{{repeat:99999999:xx}}": "no more than",
	} {
		if _, err := vars.expand(text, asText); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
