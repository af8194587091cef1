package scim

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// bulkBody is a bulk request of these operations.
func bulkBody(operations ...string) string {
	return `{"schemas":["` + MessageBulkRequest + `"],"Operations":[` + strings.Join(operations, ",") + `]}`
}

func readBulkText(t interface{ Fatal(...any) }, body string) *BulkRequest {
	req, err := ReadRequest(httptest.NewRequest("POST", "/Bulk", strings.NewReader(body)), "/Bulk", bothTypes, MaxBody)
	if err != nil {
		t.Fatal(err)
	}
	return req.Bulk
}

func TestReadBulk(t *testing.T) {
	const post = "POST /scim/v2/Bulk HTTP/1.1\n\n"
	req, err := readHTTP(t, "POST /scim/v2/bulk/?aadOptscim062020&filter=x HTTP/1.1\n\n"+`{"schemas":["`+strings.ToUpper(MessageBulkRequest)+`"],"FailOnErrors":3,"operations":[`+
		`{"Method":"post","PATH":"users","bulkId":"a","data":{"userName":"ann"}},`+
		`{"method":"DELETE","path":"/Users/1","version":"W/\"x\"","data":null}]}`)
	if err != nil {
		t.Fatal(err)
	}
	b := req.Bulk
	if req.Op != OpBulk || req.Type != nil || b.FailOnErrors != 3 || len(b.Operations) != 2 {
		t.Fatalf("got %s %v %+v, want two operations and at most three errors", req.Op, req.Type, b)
	}
	if op := b.Operations[0]; op.Method != "POST" || op.BulkID != "a" || op.Data.UserName() != "ann" || op.err != nil {
		t.Errorf("got %+v, want a POST of ann", op)
	}
	if op := b.Operations[1]; op.Method != "DELETE" || op.Version != `W/"x"` || op.req.Preconditions.IfMatch != `W/"x"` || op.Data != nil {
		t.Errorf("got %+v, want a DELETE of one version", op)
	}

	const ann = `{"method":"POST","path":"/Users","bulkId":"a","data":{"userName":"ann"}}`
	for _, c := range []struct{ name, body, want string }{
		{"empty", "", "400 invalidSyntax: the body is empty"},
		{"another message", `{"schemas":["` + MessagePatchOp + `"],"Operations":[` + ann + `]}`, "400 invalidSyntax: schemas must contain"},
		{"no operations", bulkBody(), "400 invalidSyntax: Operations is required"},
		{"operations as object", `{"schemas":["` + MessageBulkRequest + `"],"Operations":{}}`, "400 invalidSyntax: Operations is required"},
		{"no object", bulkBody("1"), "400 invalidSyntax: Operations[0]: an operation must be an object"},
		{"no method", bulkBody(ann, `{"path":"/Users/1"}`), "400 invalidSyntax: Operations[1]: method must be"},
		{"method GET", bulkBody(`{"method":"GET","path":"/Users/1"}`), "400 invalidSyntax: Operations[0]: method must be"},
		{"method of another type", bulkBody(`{"method":1,"path":"/Users/1"}`), "400 invalidSyntax: Operations[0]: method must be a string"},
		{"no path", bulkBody(`{"method":"DELETE"}`), "400 invalidSyntax: Operations[0]: path is required"},
		{"no bulkId", bulkBody(`{"method":"POST","path":"/Users","data":{}}`), "400 invalidSyntax: Operations[0]: bulkId is required"},
		{"empty bulkId", bulkBody(`{"method":"POST","path":"/Users","bulkId":"","data":{}}`), "400 invalidSyntax: Operations[0]: bulkId is required"},
		{"a number for bulkId", bulkBody(`{"method":"POST","path":"/Users","bulkId":1,"data":{}}`), "400 invalidSyntax: Operations[0]: bulkId must be a string"},
		{"long bulkId", bulkBody(`{"method":"POST","path":"/Users","bulkId":"` + strings.Repeat("x", maxBulkID+1) + `","data":{}}`), "400 invalidValue: Operations[0]: a bulkId of more than"},
		{"doubled bulkId", bulkBody(ann, `{"method":"DELETE","path":"/Users/1","bulkId":"a"}`), `400 invalidValue: Operations[1]: the bulkId "a" occurs twice`},
		{"no data", bulkBody(`{"method":"PUT","path":"/Users/1"}`), "400 invalidSyntax: Operations[0]: data is required for PUT"},
		{"a list for data", bulkBody(`{"method":"PATCH","path":"/Users/1","data":[]}`), "400 invalidSyntax: Operations[0]: data is required for PATCH"},
		{"failOnErrors 0", `{"schemas":["` + MessageBulkRequest + `"],"failOnErrors":0,"Operations":[` + ann + `]}`, "400 invalidValue: failOnErrors must be a positive integer"},
		{"failOnErrors as text", `{"schemas":["` + MessageBulkRequest + `"],"failOnErrors":"1","Operations":[` + ann + `]}`, "400 invalidValue: failOnErrors must be"},
		{"failOnErrors 1.5", `{"schemas":["` + MessageBulkRequest + `"],"failOnErrors":1.5,"Operations":[` + ann + `]}`, "400 invalidValue: failOnErrors must be"},
		{"too many operations", bulkBody(repeated(`{"method":"DELETE","path":"/Users/1"}`, MaxBulkOperations+1)), "413: the bulk request has 1001 operations, more than maxOperations (1000)"},
		{"too many values", bulkBody(`{"method":"PUT","path":"/Users/1","data":{"a":[` + repeated("1", maxBulkValues) + `]}}`), "413: the body holds more than 32768 values"},
		{"too large", bulkBody(`{"method":"PUT","path":"/Users/1","data":{"a":"` + strings.Repeat("x", MaxBody) + `"}}`), "413: the body is larger than 262144 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readHTTP(t, post+c.body)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		if _, err := readHTTP(t, line(method+" /Bulk")); err == nil || !strings.HasPrefix(err.Error(), "405: ") {
			t.Errorf("%s /Bulk: got %v, want 405", method, err)
		}
	}
}

// What is wrong with one operation is told when its turn comes; the others are done.
func TestBulkOperationErrors(t *testing.T) {
	for _, c := range []struct{ name, operation, want string }{
		{"nested", `{"method":"POST","path":"/Bulk","bulkId":"x","data":` + bulkBody(`{"method":"DELETE","path":"/Users/1"}`) + `}`, "400 invalidValue: path must be that of a resource"},
		{"search", `{"method":"POST","path":"/Users/.search","bulkId":"x","data":{}}`, "400 invalidValue: path must be"},
		{"discovery", `{"method":"DELETE","path":"/Schemas"}`, "405: "},
		{"Me", `{"method":"DELETE","path":"/Me"}`, "501: "},
		{"nothing there", `{"method":"DELETE","path":"/Devices/1"}`, "404: there is no such endpoint"},
		{"another server", `{"method":"DELETE","path":"https://h/Users/1"}`, "404: there is no such endpoint"},
		{"POST to a resource", `{"method":"POST","path":"/Users/1","bulkId":"x","data":{}}`, "405: "},
		{"PUT to a collection", `{"method":"PUT","path":"/Users","data":{}}`, "405: "},
		{"a parent directory", `{"method":"DELETE","path":"/Users/%2e%2e"}`, `404: User ".." does not exist`},
		{"a parameter twice", `{"method":"DELETE","path":"/Users/1?attributes=id&attributes=id"}`, "400 invalidValue: the query parameter attributes occurs twice"},
		{"a version of two lines", `{"method":"DELETE","path":"/Users/1","version":"a\r\nX-Y: z"}`, "400 invalidVers: "},
		{"a long version", `{"method":"DELETE","path":"/Users/1","version":"` + strings.Repeat("a", maxVersion+1) + `"}`, "400 invalidVers: "},
		{"too many values", `{"method":"PUT","path":"/Users/1","data":{"a":[` + repeated("1", MaxValues) + `]}}`, "413: data holds more than"},
		{"no PATCH", `{"method":"PATCH","path":"/Users/1","data":{"title":"x"}}`, "400 invalidSyntax: schemas must contain"},
		{"an unknown reference", `{"method":"PUT","path":"/Users/1","data":{"manager":{"value":"bulkId:y"}}}`, "409: data refers to a bulkId that no POST of this request has"},
		{"an unknown reference in the path", `{"method":"DELETE","path":"/Users/bulkId:y"}`, "409: path refers to a bulkId that no POST"},
		{"a reference to no POST", `{"method":"DELETE","bulkId":"x","path":"/Users/bulkId:x"}`, "409: path refers to a bulkId that no POST"},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := readBulkText(t, bulkBody(c.operation, `{"method":"DELETE","path":"/Users/7"}`)).Begin()
			step, _ := run.Next()
			if step.Err == nil || !strings.HasPrefix(step.Err.Error(), c.want) {
				t.Errorf("got %v, want %s", step.Err, c.want)
			}
			run.Done(step, "")
			step, ok := run.Next()
			if !ok || step.Err != nil || step.Request.Op != OpDelete || step.Request.ID != "7" {
				t.Errorf("the next one: got %+v, want it as ever", step)
			}
		})
	}
}

// written is a step as text: its place, what is asked for, and what is written.
func written(step BulkStep) string {
	if step.Err != nil {
		return fmt.Sprintf("%d %v", step.Index, step.Err)
	}
	req := step.Request
	s := fmt.Sprintf("%d %s %s %s ", step.Index, req.Op, req.Type.Name, req.ID)
	if req.Op == OpPatch {
		return s + string(appendPatch(nil, req))
	}
	return s + string(AppendJSON(nil, req.Resource))
}

// runBulk carries a bulk request out: POSTs create r0, r1, ... by their places, except those in failing.
func runBulk(t interface{ Fatal(...any) }, b *BulkRequest, failing ...int) (steps []string) {
	run := b.Begin()
	for {
		step, ok := run.Next()
		if !ok {
			return steps
		}
		if len(steps) > 2*len(b.Operations) {
			t.Fatal("it does not end", steps)
		}
		steps = append(steps, written(step))
		id := ""
		if step.Err == nil && step.Request.Op == OpCreate && !slices.Contains(failing, step.Index) {
			id = "r" + strconv.Itoa(step.Index)
		}
		run.Done(step, id)
		if step.Again && run.Owing(step.Index) {
			t.Fatal("what was put off is done, and still owed")
		}
	}
}

func TestBulkOrder(t *testing.T) {
	const patchHead, enterprise = `{"schemas":["` + MessagePatchOp + `"],"Operations":[`, `"` + SchemaEnterpriseUser + `"`
	user := func(id, more string) string {
		return `{"method":"POST","path":"/Users","bulkId":"` + id + `","data":{"userName":"` + id + `"` + more + `}}`
	}
	group := func(id, members string) string {
		return `{"method":"POST","path":"/Groups","bulkId":"` + id + `","data":{"displayName":"` + id + `","members":[` + members + `]}}`
	}
	member := func(id string) string { return `{"value":"bulkId:` + id + `"}` }
	for _, c := range []struct {
		name       string
		operations []string
		failing    []int
		want       []string
	}{
		{"in their order", []string{user("a", ""), `{"method":"DELETE","path":"/Users/1"}`, user("b", "")}, nil,
			[]string{`0 create User  {"userName":"a"}`, `1 delete User 1 {}`, `2 create User  {"userName":"b"}`}},
		{"RFC 7644, 3.7.2: a group and its member", []string{user("qwerty", ""), group("ytrewq", `{"type":"User","value":"bulkId:qwerty"}`)}, nil,
			[]string{`0 create User  {"userName":"qwerty"}`, `1 create Group  {"displayName":"ytrewq","members":[{"type":"User","value":"r0"}]}`}},
		{"RFC 7644, 3.7.2: a manager", []string{user("a", ""), user("b", `,`+enterprise+`:{"employeeNumber":"1","manager":{"value":"bulkId:a"}}`)}, nil,
			[]string{`0 create User  {"userName":"a"}`, `1 create User  {"userName":"b",` + enterprise + `:{"employeeNumber":"1","manager":{"value":"r0"}}}`}},
		{"forward", []string{group("g", member("a")), user("b", ""), user("a", "")}, nil,
			[]string{`1 create User  {"userName":"b"}`, `2 create User  {"userName":"a"}`, `0 create Group  {"displayName":"g","members":[{"value":"r2"}]}`}},
		{"in paths", []string{`{"method":"DELETE","path":"/Users/bulkId:a"}`,
			`{"method":"PATCH","path":"/Groups/bulkId:g","data":` + patchHead + `{"op":"remove","path":"members[value eq \"bulkId:a\" or value eq \"bulkId:none\"]"},` +
				`{"op":"add","path":"members","value":[{"$ref":"https://h/Users/bulkId:a","value":"bulkId:a"}]}]}}`, user("a", ""), group("g", "")}, nil,
			[]string{`2 create User  {"userName":"a"}`, `0 delete User r2 {}`, `3 create Group  {"displayName":"g","members":[]}`,
				"1 409: data refers to a bulkId that no POST of this request has"}},
		{"in the path of a PATCH operation", []string{user("a", ""), `{"method":"PATCH","path":"/Groups/7","data":` + patchHead + `{"op":"remove","path":"members[value eq \"bulkId:a\"]"},` +
			`{"op":"add","path":"members","value":[{"$ref":"https://h/Users/bulkId:a","value":"bulkId:a"}]}]}}`}, nil,
			[]string{`0 create User  {"userName":"a"}`, `1 patch Group 7 ` + patchHead + `{"op":"remove","path":"members[value eq \"r0\"]"},` +
				`{"op":"add","path":"members","value":[{"$ref":"https://h/Users/r0","value":"r0"}]}]}`}},
		{"what is no reference", []string{user("a", `,"title":"see bulkId:b","profileUrl":"https://h/bulkId:b"`)}, nil,
			[]string{`0 create User  {"userName":"a","profileUrl":"https://h/bulkId:b","title":"see bulkId:b"}`}},
		{"an id is no bulkId", []string{`{"method":"DELETE","path":"/Users/a"}`, user("a", "")}, nil,
			[]string{`0 delete User a {}`, `1 create User  {"userName":"a"}`}},
		{"a reference without a name", []string{`{"method":"DELETE","path":"/Users/bulkId:"}`, user("a", `,"title":"bulkId:"`)}, nil,
			[]string{"0 409: path refers to a bulkId that no POST of this request has", "1 409: data refers to a bulkId that no POST of this request has"}},
		{"one resource keeps its order", []string{`{"method":"PUT","path":"/Users/5","data":{"userName":"x","manager":{"value":"bulkId:a"}}}`, `{"method":"DELETE","path":"/users/5"}`, user("a", "")}, nil,
			[]string{`2 create User  {"userName":"a"}`, `0 replace User 5 {"userName":"x","manager":{"value":"r2"}}`, `1 delete User 5 {}`}},
		{"RFC 7644, 3.7.1: a circle", []string{group("qwerty", `{"type":"Group","value":"bulkId:ytrewq"},{"value":"7"}`), group("ytrewq", `{"type":"Group","value":"bulkId:qwerty"}`)}, nil,
			[]string{`0 create Group  {"displayName":"qwerty","members":[{"value":"7"}]}`, `1 create Group  {"displayName":"ytrewq","members":[{"type":"Group","value":"r0"}]}`,
				`0 patch Group r0 ` + patchHead + `{"op":"add","path":"members","value":[{"type":"Group","value":"r1"}]}]}`}},
		{"a circle of one", []string{user("a", `,`+enterprise+`:{"manager":{"value":"bulkId:a"}}`)}, nil,
			[]string{`0 create User  {"userName":"a"}`,
				`0 patch User r0 ` + patchHead + `{"op":"add","path":"` + SchemaEnterpriseUser + `:manager","value":{"value":"r0"}}]}`}},
		{"behind a circle", []string{`{"method":"DELETE","path":"/Groups/bulkId:a"}`, group("x", member("b")), group("a", member("b")), group("b", member("a"))}, nil,
			[]string{`2 create Group  {"displayName":"a"}`, `3 create Group  {"displayName":"b","members":[{"value":"r2"}]}`,
				`1 create Group  {"displayName":"x","members":[{"value":"r3"}]}`,
				`2 patch Group r2 ` + patchHead + `{"op":"add","path":"members","value":[{"value":"r3"}]}]}`, `0 delete Group r2 {}`}},
		{"a circle that fails at its end", []string{group("a", member("b")), group("b", member("a")), `{"method":"DELETE","path":"/Groups/bulkId:a"}`}, []int{1},
			[]string{`0 create Group  {"displayName":"a"}`, `1 create Group  {"displayName":"b","members":[{"value":"r0"}]}`,
				`0 409: data refers to the bulkId "b", but Operations[1] did not create it`, `2 delete Group r0 {}`}},
		{"a circle that fails at its beginning", []string{group("a", member("b")), group("b", member("a"))}, []int{0},
			[]string{`0 create Group  {"displayName":"a"}`, `1 409: data refers to the bulkId "a", but Operations[0] did not create it`}},
		{"a circle that cannot be broken", []string{user("a", `,"nothing":"bulkId:b"`), user("b", `,"manager":{"value":"bulkId:a"}`)}, nil,
			[]string{"0 409: operations refer to each other in a circle that cannot be broken here: an attribute that has to be there from the beginning is in it",
				`1 409: data refers to the bulkId "a", but Operations[0] did not create it`}},
		{"behind what fails", []string{user("a", ""), group("g", member("a")), `{"method":"DELETE","path":"/Groups/bulkId:g"}`, user("b", "")}, []int{0},
			[]string{`0 create User  {"userName":"a"}`, `1 409: data refers to the bulkId "a", but Operations[0] did not create it`,
				`2 409: path refers to the bulkId "g", but Operations[1] did not create it`, `3 create User  {"userName":"b"}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := runBulk(t, readBulkText(t, bulkBody(c.operations...)), c.failing...)
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// Whatever refers to whatever: every operation is done once, what it refers to is there before it, and in the end each
// group has the members that it was to have.
func TestBulkRunProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "operations")
		refs := make([][]int, n)
		operations := make([]string, n)
		for i := range operations {
			refs[i] = rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 0, 3, rapid.ID[int]).Draw(t, "refs")
			slices.Sort(refs[i])
			var members []string
			for _, r := range refs[i] {
				members = append(members, fmt.Sprintf(`{"value":"bulkId:%d"}`, r))
			}
			operations[i] = fmt.Sprintf(`{"method":"POST","path":"/Groups","bulkId":"%d","data":{"displayName":"%d","members":[%s]}}`, i, i, strings.Join(members, ","))
		}
		has := make([]map[string]bool, n)
		run := readBulkText(t, bulkBody(operations...)).Begin()
		for steps := 0; ; steps++ {
			step, ok := run.Next()
			if !ok {
				break
			}
			if step.Err != nil || steps > 2*n {
				t.Fatal(step.Err, steps)
			}
			list, _ := step.Request.Resource["members"].([]any)
			if step.Again {
				list = step.Request.Operations[0].Value.([]any)
			} else if has[step.Index] != nil {
				t.Fatalf("%d is created twice", step.Index)
			} else {
				has[step.Index] = map[string]bool{}
			}
			for _, e := range list {
				id := e.(map[string]any)["value"].(string)
				if place, err := strconv.Atoi(strings.TrimPrefix(id, "r")); err != nil || has[place] == nil {
					t.Fatalf("%d refers to %q, which is not there", step.Index, id)
				}
				has[step.Index][id] = true
			}
			run.Done(step, "r"+strconv.Itoa(step.Index))
		}
		for i := range refs {
			if run.Owing(i) || len(has[i]) != len(refs[i]) {
				t.Fatalf("%d has %v, want %v", i, has[i], refs[i])
			}
			for _, r := range refs[i] {
				if !has[i]["r"+strconv.Itoa(r)] {
					t.Fatalf("%d has %v, want %v", i, has[i], refs[i])
				}
			}
		}
	})
}

// However operations refer to each other, reading them and bringing them in order costs little.
func TestBulkCost(t *testing.T) {
	group := func(i int, members string) string {
		return fmt.Sprintf(`{"method":"POST","path":"/Groups","bulkId":"%d","data":{"displayName":"x","members":[%s]}}`, i, members)
	}
	for _, c := range []struct {
		name string
		op   func(i int) string
	}{
		{"a chain backwards", func(i int) string { return group(i, fmt.Sprintf(`{"value":"bulkId:%d"}`, i+1)) }},
		{"one circle", func(i int) string { return group(i, fmt.Sprintf(`{"value":"bulkId:%d"}`, (i+1)%MaxBulkOperations)) }},
		{"a circle each", func(i int) string { return group(i, fmt.Sprintf(`{"value":"bulkId:%d"}`, i)) }},
		{"circles of two", func(i int) string { return group(i, fmt.Sprintf(`{"value":"bulkId:%d"}`, i^1)) }},
		{"all to their neighbours", func(i int) string {
			var m []string
			for k := range 7 {
				m = append(m, fmt.Sprintf(`"bulkId:%d"`, (i+k)%MaxBulkOperations))
			}
			return group(i, strings.Join(m, ","))
		}},
		{"one resource", func(int) string { return `{"method":"DELETE","path":"/Users/1"}` }},
	} {
		var operations []string
		for i := range MaxBulkOperations {
			operations = append(operations, c.op(i))
		}
		body := bulkBody(operations...)
		if len(body) > MaxBody {
			t.Fatalf("%s: %d bytes, want %d at most", c.name, len(body), MaxBody)
		}
		best := time.Hour
		for range 5 {
			started := time.Now()
			runBulk(t, readBulkText(t, body))
			best = min(best, time.Since(started))
		}
		t.Logf("%s: %v", c.name, best)
		if best > time.Second { // quadratic cost would be far beyond
			t.Errorf("%s: got %v at best, want far less than a second", c.name, best)
		}
	}
}

func TestAppendBulkResponse(t *testing.T) {
	got := string(AppendBulkResponse(nil, []BulkResult{
		{Method: "POST", BulkID: "q", Location: "https://h/Users/1", Version: `W/"v"`, Status: 201},
		{Method: "DELETE", Location: "https://h/Users/2", Status: 204},
		{Method: "POST", BulkID: "r", Err: BadRequest(InvalidSyntax, "bad."), RequestID: "id.3"},
		{Method: "PUT", Location: "https://h/Users/4", Err: fmt.Errorf("secret")},
	}))
	const want = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:BulkResponse"],"Operations":[` +
		`{"bulkId":"q","location":"https://h/Users/1","method":"POST","status":"201","version":"W/\"v\""},` +
		`{"location":"https://h/Users/2","method":"DELETE","status":"204"},` +
		`{"bulkId":"r","method":"POST","response":{"schemas":["` + MessageError + `"],"detail":"bad. Request id: id.3","scimType":"invalidSyntax","status":"400"},"status":"400"},` +
		`{"location":"https://h/Users/4","method":"PUT","response":{"schemas":["` + MessageError + `"],"detail":"an internal error: the trail tells more","status":"500"},"status":"500"}]}`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What is announced is what ReadRequest reads.
func TestBulkAnnounced(t *testing.T) {
	req, err := ReadRequest(httptest.NewRequest("GET", "/ServiceProviderConfig", nil), "/ServiceProviderConfig", bothTypes, 4711)
	if err != nil {
		t.Fatal(err)
	}
	for supported, want := range map[bool]string{
		true: `{"maxOperations":1000,"maxPayloadSize":4711,"supported":true}`, false: `{"maxOperations":0,"maxPayloadSize":0,"supported":false}`,
	} {
		resp, err := Discover(req, "https://h", bothTypes, Abilities{Bulk: supported})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(AppendJSON(nil, resp.Resource["bulk"])); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// Whatever a bulk request holds, it comes to an end, every operation once, and no request is left with the id that a
// reference in its path stands for.
func FuzzBulk(f *testing.F) {
	f.Add(bulkBody(`{"method":"POST","path":"/Groups","bulkId":"a","data":{"members":[{"value":"bulkId:b"}]}}`, `{"method":"POST","path":"/Groups","bulkId":"b","data":{"members":[{"value":"bulkId:a"}]}}`), uint8(0))
	f.Add(bulkBody(`{"method":"PATCH","path":"/Users/bulkId:a","data":{"schemas":["`+MessagePatchOp+`"],"Operations":[{"op":"remove","path":"emails[value eq \"bulkId:a\"]"}]}}`,
		`{"method":"POST","path":"/Users","bulkId":"a","data":{"`+SchemaEnterpriseUser+`":{"manager":{"$ref":"../bulkId:a"}}}}`, `{"method":"DELETE","path":"/Users/1"}`), uint8(1))
	f.Fuzz(func(t *testing.T, body string, failing uint8) {
		b, err := readBulk([]byte(body), bothTypes)
		if err != nil {
			if _, ok := err.(*Error); !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			return
		}
		run, seen := b.Begin(), map[int]bool{}
		for {
			step, ok := run.Next()
			if !ok {
				break
			}
			if seen[step.Index] != step.Again {
				t.Fatalf("operation %d: its second half comes first, or it comes twice", step.Index)
			}
			seen[step.Index] = true
			id := ""
			if step.Err == nil {
				if strings.HasPrefix(step.Request.ID, bulkReference) {
					t.Fatalf("got id %q", step.Request.ID)
				}
				if step.Request.Op == OpCreate && step.Index != int(failing) {
					id = "r"
				}
			}
			run.Done(step, id)
		}
		if len(seen) != len(b.Operations) {
			t.Fatalf("got %d operations done, want %d", len(seen), len(b.Operations))
		}
	})
}
