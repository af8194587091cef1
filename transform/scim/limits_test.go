package scim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What a request may hold at most. Beyond it the answer is 413, never a part of the request.
func TestRequestLimits(t *testing.T) {
	patchOf := func(n int) string {
		return `{"schemas":["` + MessagePatchOp + `"],"Operations":[` + repeated(`{"op":"remove","path":"title"}`, n) + `]}`
	}
	for _, c := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"as many values as may be", "POST", "/Users", `{"a":[` + repeated("1", MaxValues-1) + `]}`, 0},
		{"one more", "POST", "/Users", `{"a":[` + repeated("1", MaxValues) + `]}`, 413},
		{"empty objects", "POST", "/Users", `{"a":[` + repeated("{}", MaxValues) + `]}`, 413},
		{"names", "POST", "/Users", `{` + numbered(`"a%d":1`, MaxValues+1) + `}`, 413},
		{"as many operations as may be", "PATCH", "/Users/1", patchOf(MaxOperations), 0},
		{"one operation more", "PATCH", "/Users/1", patchOf(MaxOperations + 1), 413},
	} {
		_, err := ReadRequest(httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)), c.path, bothTypes, MaxBody)
		e, _ := err.(*Error)
		if (err == nil) != (c.status == 0) || e != nil && e.Status != c.status {
			t.Errorf("%s: got %v, want %d", c.name, err, c.status)
		}
	}
	if _, err := DecodeObject([]byte(`{"a":[` + repeated("1", 2*MaxValues) + `]}`)); err != nil {
		t.Errorf("what comes from the upstream: got %v, want it read", err)
	}
}

func repeated(s string, n int) string {
	return strings.TrimSuffix(strings.Repeat(s+",", n), ",")
}

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(format, "%d", strconv.Itoa(i)) + ",")
	}
	return strings.TrimSuffix(b.String(), ",")
}

// A list of attributes names each once, however often a client does: every resource of the answer is held against it.
func TestAttributesAreListedOnce(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.URL.RawQuery = "attributes=" + strings.Repeat("id,USERNAME,"+SchemaEnterpriseUser+",", 50) + numbered("x%d", 100)
	req, err := ReadRequest(r, "/Users", bothTypes, MaxBody)
	if err != nil {
		t.Fatal(err)
	}
	want := []Ref{{Name: "id"}, {Name: "userName"}}
	for _, a := range UserType().Extensions[0].Attributes {
		want = append(want, Ref{Schema: SchemaEnterpriseUser, Name: a.Name})
	}
	if got := req.Query.Attributes; !slices.Equal(got, want) || len(req.Query.Unknown) != maxUnknown {
		t.Errorf("got %v and %d unknown names, want %v and %d", got, len(req.Query.Unknown), want, maxUnknown)
	}
}

// The path of a value stays short: an element may have a long type, and thousands of sub-attributes.
func TestPathsAreShort(t *testing.T) {
	long := strings.Repeat("t", 2000)
	create := &Request{Op: OpCreate, Type: UserType(), Resource: Resource{"emails": []any{map[string]any{"type": long, "value": "a"}}}}
	p, err := ParsePath(`emails[type eq "` + long[:1900] + `"].value`)
	if err != nil {
		t.Fatal(err)
	}
	target, _ := UserType().ResolvePath(p)
	patch := &Request{Op: OpPatch, Type: UserType(), Operations: []PatchOp{{Op: "add", Path: p, Target: target, Value: "a"}}}
	for _, req := range []*Request{create, patch} {
		for w := range req.Writes() {
			if len(w.Path) > 2*maxPath {
				t.Errorf("%s: got a path of %d bytes", req.Op, len(w.Path))
			}
		}
	}
}

// All operations of a PATCH together look at a bounded number of elements.
func TestPatchWork(t *testing.T) {
	rt := UserType()
	r := Resource{"roles": []any{}}
	for i := range 20_000 {
		r["roles"] = append(r["roles"].([]any), map[string]any{"value": fmt.Sprint(i)})
	}
	for _, c := range []struct {
		name, operation string
		fits            int // how many of them fit
	}{
		{"a value filter", `{"op":"replace","path":"roles[value eq \"%d\"].display","value":"x"}`, maxWork / 20_000},
		{"a filter that removes", `{"op":"remove","path":"roles[value eq \"no %d\"]"}`, maxWork / 20_000},
		{"an added element, by the index of the first", `{"op":"add","path":"roles","value":[{"value":"new %d"}]}`, MaxOperations},
		{"an added primary element", `{"op":"add","path":"roles","value":[{"value":"new %d","primary":true}]}`, 1},
	} {
		ops := mustReadOps(t, rt, `[`+numbered(c.operation, c.fits)+`]`)
		if _, _, err := rt.ApplyPatch(r, ops); err != nil {
			t.Errorf("%d times %s: got %v, want it applied", c.fits, c.name, err)
		}
		if c.fits == MaxOperations {
			continue
		}
		ops = mustReadOps(t, rt, `[`+numbered(c.operation, 2*c.fits+8)+`]`)
		_, _, err := rt.ApplyPatch(r, ops)
		if e, ok := err.(*Error); !ok || e.Status != 413 {
			t.Errorf("%d times %s: got %v, want 413", 2*c.fits+8, c.name, err)
		}
	}
}

// What long texts and long filters cost is counted with the elements.
func TestPatchWorkOfText(t *testing.T) {
	rt := UserType()
	terms := strings.Repeat(`value co \"y\" or `, 89) + `value co \"z\"`
	for _, c := range []struct {
		name, member   string // the sub-attribute that the elements have
		elements, text int    // how many there are, and bytes of text in each
		operation      string
		fits           int // how many of them fit
	}{
		{"one term", "value", 1000, 8, `{"op":"replace","path":"roles[value ew \"7\"].display","value":"x"}`, 87},
		{"90 terms", "value", 1000, 8, `{"op":"replace","path":"roles[` + terms + ` or value ew \"7\"].display","value":"x"}`, 1},
		{"90 terms for a few elements", "value", 7, 8, `{"op":"add","path":"roles[` + terms + ` or value ew \"6\"].display","value":"x"}`, 60},
		{"long texts that are equal but for their end", "value", 1000, 640, `{"op":"add","path":"roles[value eq \"` + strings.Repeat("0", 640) + `\"].display","value":"x"}`, 15},
		{"a long text that is searched", "value", 1, 200 << 10, `{"op":"add","path":"roles[value co \"0x\" or value pr].display","value":"x"}`, 1},
		{"a long text for many elements", "value", 1000, 8, `{"op":"replace","path":"roles.display","value":"` + strings.Repeat("x", 600) + `"}`, 1},
		{"a list without values, indexed again and again", "display", 1000, 400, `{"op":"add","path":"roles","value":{"primary":true,"type":"new %d"}}`, 2},
	} {
		var list []any
		for i := range c.elements {
			list = append(list, map[string]any{c.member: fmt.Sprintf("%0*d", c.text, i)})
		}
		r := Resource{"roles": list}
		for n, want := range map[int]int{c.fits: 0, 3*c.fits + 3: http.StatusRequestEntityTooLarge} {
			_, _, err := rt.ApplyPatch(r, mustReadOps(t, rt, `[`+numbered(c.operation, n)+`]`))
			e, _ := err.(*Error)
			if (err == nil) != (want == 0) || e != nil && e.Status != want {
				t.Errorf("%s, %d times: got %v, want %d", c.name, n, err, want)
			}
		}
	}
}

func mustReadOps(t rapid.TB, rt *ResourceType, operations string) []PatchOp {
	t.Helper()
	ops, err := readOps(rt, operations)
	if err != nil {
		t.Fatal(err)
	}
	return ops
}

// What a Patch remembers between operations shows in nothing: one for all of them does what one for each does.
func TestPatchRemembersNothingWrong(t *testing.T) {
	rt := UserType()
	types := []string{"work", "home", ""}
	element := func(t *rapid.T) string {
		m := map[string]any{}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"value", "type", "display", "primary"}), 1, 4, rapid.ID).Draw(t, "members") {
			switch name {
			case "primary":
				m[name] = rapid.Bool().Draw(t, "primary")
			case "type":
				m[name] = rapid.SampledFrom(types).Draw(t, "type")
			default:
				m[name] = rapid.SampledFrom([]any{"a", "A", "b", "", nil}).Draw(t, name)
			}
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	operation := func(t *rapid.T) string {
		attribute := rapid.SampledFrom([]string{"emails", "roles"}).Draw(t, "attribute")
		filter := rapid.SampledFrom([]string{`type eq \"work\"`, `value eq \"a\"`, `type eq \"home\" and value eq \"b\"`, `not (value pr)`, `primary eq true`, `display pr or value sw \"A\"`}).Draw(t, "filter")
		switch rapid.IntRange(0, 7).Draw(t, "kind") {
		case 0, 1:
			return `{"op":"add","path":"` + attribute + `","value":[` + element(t) + `,` + element(t) + `]}`
		case 2:
			return `{"op":"replace","path":"` + attribute + `","value":[` + element(t) + `,` + element(t) + `]}`
		case 3:
			return `{"op":"add","path":"` + attribute + `[` + filter + `]","value":` + element(t) + `}`
		case 4:
			return `{"op":"replace","path":"` + attribute + `[` + filter + `].display","value":"d"}`
		case 5:
			return `{"op":"remove","path":"` + attribute + `[` + filter + `]"}`
		case 6:
			return `{"op":"remove","path":"` + attribute + `.` + rapid.SampledFrom([]string{"type", "display", "primary"}).Draw(t, "sub") + `"}`
		default:
			return `{"op":"remove","path":"` + attribute + `","value":[` + element(t) + `]}`
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		start := Resource{"schemas": []any{SchemaUser}, "userName": "u"}
		var texts []string
		for range rapid.IntRange(1, 12).Draw(t, "operations") {
			texts = append(texts, operation(t))
		}
		ops := mustReadOps(t, rt, `[`+strings.Join(texts, ",")+`]`)
		want := start
		var applied []PatchOp
		for _, op := range ops { // those that fail alone are left out: after an error a Patch is of no use
			next, _, err := rt.ApplyPatch(want, []PatchOp{op})
			if err != nil {
				continue
			}
			want, applied = next, append(applied, op)
		}
		got, _, err := rt.ApplyPatch(start, applied)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v:\n got %s, %v\nwant %s", texts, AppendJSON(nil, got), err, AppendJSON(nil, want))
		}
	})
}
