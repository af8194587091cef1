//go:build unix && !race

package gateway

import (
	"encoding/json"
	"fmt"
	"strings"

	"scimgate/transform/scim"
)

// size is how large a request is made: so many bytes at most, of which lists have so many values. The elements of a long
// list are made so long that they fill the bytes.
type size struct {
	values, bytes int
	long          bool
}

func (s size) String() string {
	if s.long {
		return fmt.Sprintf("%d long values, %d KiB", s.values, s.bytes>>10)
	}
	return fmt.Sprintf("%d short values, %d KiB", s.values, s.bytes>>10)
}

// sizes are those that a body is sent in, and headSizes what stands in the head, of which the listener takes 36 KiB. In
// each row of them everything grows from one to the next. Without -hostile there is one step alone, a longer one.
func sizes() [][]size {
	all := [][]size{
		{{250, 16 << 10, true}, {500, 32 << 10, true}, {1000, 64 << 10, true}, {2000, 128 << 10, true}, {4000, 256 << 10, true}},
		{{250, 256 << 10, false}, {500, 256 << 10, false}, {1000, 256 << 10, false}, {2000, 256 << 10, false}, {4000, 256 << 10, false}},
		{{256 << 10, 256 << 10, false}},
	}
	if !*hostileAll {
		return [][]size{{all[0][2], all[0][4]}}
	}
	return all
}

func headSizes() [][]size {
	var all []size
	for n := 16 << 10; n <= 256<<10; n *= 2 {
		all = append(all, size{n, n, false})
	}
	if !*hostileAll {
		all = all[:2]
	}
	return [][]size{all}
}

// grower is a request of which one thing grows.
type grower struct {
	name, method, target string            // {id} is a user's; in the body, NEW is a new name
	text                 func(size) string // what grows, in the place that in says
	in                   string            // body, target, or the name of a header
}

func (g *grower) message(b *bare, id string, s size) message {
	m := message{method: g.method, target: strings.Replace(g.target, "{id}", id, 1)}
	switch text := g.text(s); g.in {
	case "":
		m.body = strings.Replace(text, "NEW", b.name(), 1)
	case "target":
		m.target += text
	default:
		m.header = []string{g.in, text}
	}
	return m
}

// aside is what a request holds besides a list: values of its envelope, and bytes for the new name.
const aside = 20

// list is before and after with as many elements between them as there is room for. %d in an element is its number.
func list(before, element, after string) func(size) string {
	each := valuesOf(element)
	return func(s size) string {
		n := max((s.values-aside)/each, 1)
		room := s.bytes - len(before) - len(after) - aside
		width := 1
		if s.long {
			width = max(room/n-len(element)+len("%d")-1, 1)
		}
		element := strings.Replace(element, "%d", "%0*d", 1)
		var sb strings.Builder
		sb.WriteString(before)
		for i := range n {
			e := element
			if strings.Contains(e, "%") {
				e = fmt.Sprintf(e, width, i)
			}
			if sb.Len()+len(e)+1 > room+len(before) {
				break
			}
			if i > 0 {
				sb.WriteByte(',')
			}
			sb.WriteString(e)
		}
		sb.WriteString(after)
		return sb.String()
	}
}

// valuesOf is how many values an element of a list is, or a member of an object, those inside it included. What is not
// JSON is none: then bytes alone bound how many there are.
func valuesOf(element string) int {
	var count func(any) int
	count = func(v any) int {
		n := 1
		switch v := v.(type) {
		case map[string]any:
			for _, m := range v {
				n += count(m)
			}
		case []any:
			for _, m := range v {
				n += count(m)
			}
		}
		return n
	}
	var v any
	if json.Unmarshal([]byte(element), &v) == nil {
		return count(v)
	}
	if json.Unmarshal([]byte("{"+element+"}"), &v) == nil {
		return count(v) - 1
	}
	return 1
}

// half is a list of half the size, and behind it another one.
func half(first, second func(size) string) func(size) string {
	return func(s size) string {
		s.values, s.bytes = s.values/2, s.bytes/2
		return first(s) + second(s)
	}
}

// run is before and after with one text between them again and again.
func run(before, text, after string) func(size) string {
	return func(s size) string {
		return before + strings.Repeat(text, max(s.bytes-len(before)-len(after)-aside, 0)/len(text)) + after
	}
}

const (
	userHead   = `{"schemas":["` + scim.SchemaUser + `"],"userName":"NEW",`
	groupHead  = `{"schemas":["` + scim.SchemaGroup + `"],"displayName":"NEW",`
	patchHead  = `{"schemas":["` + scim.MessagePatchOp + `"],"Operations":[`
	searchHead = `{"schemas":["` + scim.MessageSearchRequest + `"],`
	bulkHead   = `{"schemas":["` + scim.MessageBulkRequest + `"],"failOnErrors":1,"Operations":[`
)

// products are the growers of which two things grow, and one goes over the other: operations on the elements of a list
// that they also make longer, or a text that goes into all of them. Twice as large they may cost four times as much. What
// bounds them is the work that the package scim allows one PATCH, and 100 operations where each is a request of its own.
var products = map[string]bool{
	"operations on new elements": true, "operations on kept elements": true, "operations that each add a primary": true,
	"operations that each add a primary without a value": true, "value filters on a long list": true, "value filters on a long text": true,
	"long value filters on a long list": true, "a long text in a long list": true, "removed elements of one value": true,
	"operations that each add one": true, "names with a filter": true, "no path, value filters": true,
}

// growers are what a client controls.
var growers = []grower{
	{"userName", "POST", "/Users", run(`{"schemas":["`+scim.SchemaUser+`"],"userName":"NEW`, "a", `"}`), ""},
	{"a text", "POST", "/Users", run(userHead+`"title":"`, "a", `"}`), ""},
	{"U+FFFD", "POST", "/Users", run(userHead+`"title":"`, "\uFFFD", `"}`), ""},
	{"escapes", "POST", "/Users", run(userHead+`"title":"`, `\u0001`, `"}`), ""},
	{"white space", "POST", "/Users", run(userHead[:len(userHead)-1], " ", `}`), ""},
	{"a long name", "POST", "/Users", run(userHead+`"`, "s", `":1}`), ""},
	{"a long dotted name", "POST", "/Users", run(userHead+`"`, "a.", `b":1}`), ""},
	{"unknown names", "POST", "/Users", list(userHead, `"a%d":1`, "}"), ""},
	{"names that fold", "POST", "/Users", list(userHead, "\"\u212A%d\":1", "}"), ""},
	{"names like userName", "POST", "/Users", list(userHead, `"userName%d":1`, "}"), ""},
	{"dotted names", "POST", "/Users", list(userHead, `"name.a%d":1`, "}"), ""},
	{"names with a URN", "POST", "/Users", list(userHead, `"`+scim.SchemaEnterpriseUser+`:a%d":1`, "}"), ""},
	{"names with a filter", "POST", "/Users", list(userHead, `"emails[type eq \"a%d\"].value":"x"`, "}"), ""},
	{"names of an extension", "POST", "/Users", list(userHead+`"`+scim.SchemaEnterpriseUser+`":{`, `"a%d":1`, "}}"), ""},
	{"schemas", "POST", "/Users", list(`{"userName":"NEW","schemas":["`+scim.SchemaUser+`",`, `"a%d"`, "]}"), ""},
	{"nesting", "POST", "/Users", run(userHead+`"x":`, "[", ""), ""},
	{"nested objects", "POST", "/Users", run(userHead+`"x":`, `{"x":`, ""), ""},
	{"empty objects", "POST", "/Users", list(userHead+`"x":[`, "{}", "]}"), ""},
	{"objects of one", "POST", "/Users", list(userHead+`"x":[`, `{"a":1}`, "]}"), ""},
	{"numbers", "POST", "/Users", list(userHead+`"x":[`, "1", "]}"), ""},
	{"huge exponents", "POST", "/Users", list(userHead+`"x":[`, "1e-99999999999", "]}"), ""},
	{"elements", "POST", "/Users", list(userHead+`"emails":[`, `{"value":"a%d"}`, "]}"), ""},
	{"empty elements", "POST", "/Users", list(userHead+`"emails":[`, `{}`, "]}"), ""},
	{"elements kept in part", "POST", "/Users", list(userHead+`"emails":[`, `{"type":"work","value":"A%d","display":"d"}`, "]}"), ""},
	{"elements of both kinds", "POST", "/Users", half(list(userHead+`"emails":[`, `{"type":"work","value":"A%d"}`, ","), list("", `{"type":"home","value":"h%d"}`, "]}")), ""},
	{"elements with unknown names", "POST", "/Users", list(userHead+`"emails":[`, `{"a%d":1}`, "]}"), ""},
	{"names in an element", "POST", "/Users", list(userHead+`"emails":[{"type":"work","value":"NEW",`, `"a%d":1`, "}]}"), ""},
	{"names in an element of long type", "POST", "/Users", half(run(userHead+`"emails":[{"type":"`, "t", `",`), list("", `"a%d":1`, "}]}")), ""},
	{"addresses", "POST", "/Users", list(userHead+`"addresses":[`, `{"locality":"a","country":"b","type":"c%d"}`, "]}"), ""},
	{"sub-attributes", "POST", "/Users", list(userHead+`"name":{`, `"a%d":1`, "}}"), ""},
	{"members", "POST", "/Groups", list(groupHead+`"members":[`, `{"value":"a%d"}`, "]}"), ""},
	{"replace with elements", "PUT", "/Users/{id}", list(userHead+`"emails":[`, `{"type":"work","value":"NEW-%d","display":"d"}`, "]}"), ""},
	{"replace with members of no type", "PUT", "/Users/{id}", list(userHead+`"emails":[`, `{"value":"A%d"}`, "]}"), ""},

	{"operations", "PATCH", "/Users/{id}", list(patchHead, `{"op":"replace","path":"title","value":"%d"}`, "]}"), ""},
	{"operations on what is kept", "PATCH", "/Users/{id}", list(patchHead, `{"op":"replace","path":"nickName","value":"%d"}`, "]}"), ""},
	{"operations on new elements", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"emails[type eq \"a%d\"].value","value":"x"}`, "]}"), ""},
	{"operations on one element", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"emails[type eq \"work\"].value","value":"x%d"}`, "]}"), ""},
	{"operations that each add one", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"emails","value":[{"type":"work","value":"x%d"}]}`, "]}"), ""},
	{"operations that each add a primary", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"roles","value":[{"primary":true,"value":"x%d"}]}`, "]}"), ""},
	{"value filters on a long list", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"emails","value":[`, `{"type":"work","value":"x%d"}`, "]},"),
		list("", `{"op":"add","path":"emails[value eq \"x%d\"].display","value":"x"}`, "]}")), ""},
	{"value filters on a long text", "PATCH", "/Users/{id}", half(run(patchHead+`{"op":"add","path":"emails","value":[{"type":"work","value":"`, "0", `"}]},`),
		list("", `{"op":"add","path":"emails[value co \"%d\"].display","value":"x"}`, "]}")), ""},
	{"long value filters on a long list", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"roles","value":[`, `{"value":"x%d"}`, "]},"),
		list("", `{"op":"add","path":"roles[`+strings.Repeat(`value co \"y\" or `, 90)+`value co \"z\"].display","value":"x"}`, "]}")), ""},
	{"one long value filter on a long list", "PATCH", "/Users/{id}", list(patchHead+`{"op":"add","path":"roles","value":[`, `{"value":"x%d"}`,
		`]},{"op":"remove","path":"roles[`+strings.Repeat(`value co \"y\" or `, 90)+`value co \"z\"]"}]}`), ""},
	{"a long text in a long list", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"roles","value":[`, `{"value":"x%d"}`, "]},"),
		run(`{"op":"add","path":"roles[value sw \"x\"].display","value":"`, "a", `"}]}`)), ""},
	{"one operation on a long list", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"roles","value":[`, `{"value":"x%d"}`, "]},"),
		list(`{"op":"add","path":"roles[value sw \"x\"]","value":{`, `"a%d":1`, "}}]}")), ""},
	{"removed elements", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"emails","value":[`, `{"type":"work","value":"x%d"}`, `]},{"op":"remove","path":"emails","value":[`),
		list("", `{"value":"y%d"}`, "]}]}")), ""},
	{"removed elements of one value", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"roles","value":[`, `{"type":"a%d","value":"x"}`, `]},{"op":"remove","path":"roles","value":[`),
		list("", `{"type":"b%d","value":"x"}`, "]}]}")), ""},
	{"operations that each add a primary without a value", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"roles","value":[{"primary":true,"display":"x%d"}]}`, "]}"), ""},
	{"a kept list and more of it", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"roles","value":[`, `{"value":"x%d"}`, "]},"),
		list("", `{"op":"add","path":"roles","value":[{"value":"y%d"}]}`, "]}")), ""},
	{"a kept list and others", "PATCH", "/Users/{id}", half(list(patchHead+`{"op":"add","path":"roles","value":[`, `{"value":"x%d"}`, "]},"),
		list("", `{"op":"add","path":"nickName","value":"%d"}`, "]}")), ""},
	{"operations on kept elements", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"addresses[type eq \"a%d\"].locality","value":"x"}`, "]}"), ""},
	{"read-only values", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"manager","value":{"displayName":"x"}}`, "]}"), ""},
	{"renames", "PATCH", "/Users/{id}", list(patchHead, `{"op":"replace","path":"userName","value":"NEW-%d"}`, "]}"), ""},
	{"no path, unknown names", "PATCH", "/Users/{id}", list(patchHead+`{"op":"add","value":{`, `"a%d":1`, "}}]}"), ""},
	{"no path, an extension", "PATCH", "/Users/{id}", list(patchHead+`{"op":"add","value":{"`+scim.SchemaEnterpriseUser+`":{`, `"a%d":1`, "}}}]}"), ""},
	{"no path, value filters", "PATCH", "/Users/{id}", list(patchHead+`{"op":"add","value":{`, `"emails[type eq \"a%d\"].value":"x"`, "}}]}"), ""},
	{"value filters in bulk", "PATCH", "/Users/{id}", list(patchHead, `{"op":"add","path":"emails[`+strings.Repeat("type pr and ", 160)+`type pr].value","value":"x"}`, "]}"), ""},
	{"names behind a long filter", "PATCH", "/Users/{id}", list(patchHead+`{"op":"add","path":"emails[type eq \"`+strings.Repeat("t", 1900)+`\"]","value":{`, `"a%d":1`, "}}]}"), ""},
	{"unknown members of an operation", "PATCH", "/Users/{id}", list(patchHead+`{"op":"add","path":"title","value":"x",`, `"a%d":1`, "}]}"), ""},
	{"a path of brackets", "PATCH", "/Users/{id}", run(patchHead+`{"op":"add","path":"`, "(", `","value":"x"}]}`), ""},
	{"a path of U+FFFD", "PATCH", "/Users/{id}", run(patchHead+`{"op":"add","path":"`, "\uFFFD", `","value":"x"}]}`), ""},
	{"a path of dots", "PATCH", "/Users/{id}", run(patchHead+`{"op":"add","path":"`, "a.", `b","value":"x"}]}`), ""},

	{"bulk operations", "POST", "/Bulk", list(bulkHead, `{"method":"DELETE","path":"/Users/bulkId:x%d","version":"x"}`, "]}"), ""},
	{"bulk operations on one resource", "POST", "/Bulk", list(bulkHead+`{"method":"DELETE","path":"/Users/none"},`, `{"method":"DELETE","path":"/Users/none","bulkId":"b%d"}`, "]}"), ""},
	{"bulk references", "POST", "/Bulk", list(bulkHead+`{"method":"PUT","path":"/Users/none","data":{"a":[`, `"bulkId:x%d"`, "]}}]}"), ""},
	{"bulk data of one operation", "POST", "/Bulk", list(bulkHead+`{"method":"POST","path":"/Users","bulkId":"a","data":{"userName":"NEW","emails":[`, `{"type":"work","value":"x%d"}`, "]}}]}"), ""},
	{"bulk circles", "POST", "/Bulk", list(bulkHead, `{"method":"POST","path":"/Groups","bulkId":"b%d","data":{"displayName":"bulkId:b0"}}`, "]}"), ""},

	{"search: attributes", "POST", "/Users/.search", list(searchHead+`"attributes":[`, `"a%d"`, "]}"), ""},
	{"search: names in one attribute", "POST", "/.search", run(searchHead+`"attributes":["`, "a,", `"]}`), ""},
	{"search: a filter of brackets", "POST", "/.search", run(searchHead+`"filter":"`, "(", `"}`), ""},
	{"search: a cursor", "POST", "/Users/.search", run(searchHead+`"cursor":"`, "A", `"}`), ""},
	{"search: unknown members", "POST", "/.search", list(searchHead+`"count":0,`, `"a%d":1`, "}"), ""},

	{"a filter of brackets", "GET", "/Users?filter=", run("", "(", ""), "target"},
	{"a cursor", "GET", "/Users?cursor=", run("", "A", ""), "target"},
	{"a filter of terms at the root", "GET", "/?filter=", run("", "userName+pr+and+", "members+pr"), "target"},
	{"a filter of terms", "GET", "/Users?filter=", run("", "userName+pr+and+", "userName+pr"), "target"},
	{"a filter of U+FFFD", "GET", "/Users?filter=", run("", "%EF%BF%BD", ""), "target"},
	{"attributes", "GET", "/Users?attributes=", run("", "id,", ""), "target"},
	{"attributes of one", "GET", "/Users/{id}?attributes=", run("", "id,title,", ""), "target"},
	{"attributes by URN", "GET", "/Users?attributes=", run("", scim.SchemaEnterpriseUser+",", ""), "target"},
	{"unknown attributes", "GET", "/Users?attributes=", run("", "a,", ""), "target"},
	{"excludedAttributes", "GET", "/Users?excludedAttributes=", run("", "title,", ""), "target"},
	{"sortBy", "GET", "/Users?sortBy=", run("", "a.", ""), "target"},
	{"count", "GET", "/Users?count=", run("", "9", ""), "target"},
	{"parameters", "GET", "/Users?", run("", "a=b&", ""), "target"},
	{"ampersands", "GET", "/Users?", run("", "&", ""), "target"},
	{"percent escapes", "GET", "/Users?a=", run("", "%41", ""), "target"},
	{"slashes", "GET", "/Users", run("", "/", ""), "target"},
	{"segments", "GET", "/Users", run("", "/a", ""), "target"},
	{"an id", "GET", "/Users/", run("", "a", ""), "target"},
	{"an escaped id", "DELETE", "/Users/", run("", "%2f", ""), "target"},
	{"If-Match", "DELETE", "/Users/{id}", run("", `"a",`, `"b"`), "If-Match"},
	{"If-None-Match", "GET", "/Users/{id}", run("", `"a",`, `"b"`), "If-None-Match"},
	{"Content-Type", "POST", "/Users", run("application/json", `;a=b`, ""), "Content-Type"},
	{"Content-Type, continued", "POST", "/Users", func(s size) string { return "text/plain; " + strings.ReplaceAll(list("", "a*%d=b", "")(s), ",", ";") }, "Content-Type"},
	{"Authorization (CVE-2025-30204)", "GET", "/Users", run("Bearer ", ".", ""), "Authorization"},
	{"Accept", "GET", "/Users/{id}", run("", "a/b;q=0.1,", "*/*"), "Accept"},
}
