package scim

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The vectors are cases that nobody here wrote. They stand beside the repository, not in it, so that these tests are
// skipped where they are not there; the tables of the other tests stand without them.

// readVectors reads one of the files of test vectors that may stand beside the checkout.
func readVectors(t *testing.T, name string, to any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "vectors", name))
	if err != nil {
		t.Skipf("the test vectors are not beside this checkout: %v", err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// wrongVectors are the cases in which a vector is wrong, each with the reason, and those of them that were met.
type wrongVectors struct {
	reasons map[string]string
	met     map[string]bool
}

// expectWrong reads the cases that start with a prefix from the file of expected divergences. One of them that is no
// longer met fails the test: then the file says something that is not true.
func expectWrong(t *testing.T, prefix string) *wrongVectors {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "conformance", "expected", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	w := &wrongVectors{met: map[string]bool{}}
	if err := json.Unmarshal(data, &w.reasons); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(w.reasons, func(id, _ string) bool { return !strings.HasPrefix(id, prefix) })
	t.Cleanup(func() {
		for id, reason := range w.reasons {
			switch {
			case !w.met[id]:
				t.Errorf("%s stands in conformance/expected/vectors.json, but there is no difference", id)
			case !strings.Contains(reason, "RFC "):
				t.Errorf("%s: the reason names no RFC: %s", id, reason)
			}
		}
	})
	return w
}

// is reports whether a case that differs is one that may.
func (w *wrongVectors) is(id string) bool {
	w.met[id] = true
	return w.reasons[id] != ""
}

func TestParseFilterVectors(t *testing.T) {
	var file struct {
		Cases []struct{ ID, Filter, Verdict string }
	}
	readVectors(t, "filter-parse.json", &file)
	wrong := expectWrong(t, "filter-parse-")
	for _, c := range file.Cases {
		f, err := ParseFilter(c.Filter)
		if want := c.Verdict != "must-reject"; (err == nil) != want && !wrong.is(c.ID) {
			t.Errorf("%s: ParseFilter(%q): %v, want accepted %v", c.ID, c.Filter, err, want)
		}
		if err == nil {
			roundTrip(t, f)
		}
	}
}

func TestMatchVectors(t *testing.T) {
	var file struct {
		Resource json.RawMessage
		Cases    []struct {
			ID, Filter string
			Match      bool
		}
	}
	readVectors(t, "filter-eval.json", &file)
	wrong := expectWrong(t, "filter-eval-")
	r := decode(t, string(file.Resource))
	rt := schemaOf(r)
	for _, c := range file.Cases {
		f, err := ParseFilter(c.Filter)
		if err != nil {
			t.Errorf("%s: %v", c.ID, err)
			continue
		}
		if got, err := rt.Match(f, r); (got != c.Match || err != nil) && !wrong.is(c.ID) {
			t.Errorf("%s: Match(%q) = %v, %v, want %v", c.ID, c.Filter, got, err, c.Match)
		}
	}
}

func TestApplyPatchVectors(t *testing.T) {
	var file struct {
		Cases []struct {
			ID, ResourceType               string
			Resource, Operations, Expected json.RawMessage
		}
	}
	readVectors(t, "patch.json", &file)
	wrong := expectWrong(t, "patch-")
	for _, c := range file.Cases {
		rt := UserType()
		if c.ResourceType == "Group" {
			rt = GroupType()
		}
		in := decode(t, string(c.Resource))
		rt.Canonicalize(in)
		ops, err := readOps(rt, string(c.Operations))
		var got Resource
		if err == nil {
			got, _, err = rt.ApplyPatch(in, ops)
		}
		if c.Expected == nil {
			if e, ok := errors.AsType[*Error](err); (!ok || e.Status != 400) && !wrong.is(c.ID) {
				t.Errorf("%s: got %s, %v, want a 400", c.ID, jsonOf(got), err)
			}
			continue
		}
		want := decode(t, string(c.Expected))
		delete(want, "schemas") // the vectors' schemas are not true to the resource (RFC 7643, Section 3)
		delete(got, "schemas")
		if (err != nil || !same(map[string]any(got), map[string]any(want))) && !wrong.is(c.ID) {
			t.Errorf("%s: got  %s, %v\nwant %s", c.ID, jsonOf(got), err, jsonOf(want))
		}
	}
}

// Every example of RFC 7643 and RFC 7644 is read, and comes back.
func TestExamples(t *testing.T) {
	var file struct {
		Cases []struct {
			ID, Section string
			HTTP        []string
			JSON        json.RawMessage
			InvalidJSON string
		}
	}
	readVectors(t, "rfc-examples.json", &file)
	for _, c := range file.Cases {
		if c.JSON == nil {
			if _, err := DecodeObject([]byte(c.InvalidJSON)); err == nil {
				t.Errorf("%s: accepted %.60q", c.ID, c.InvalidJSON)
			}
			continue
		}
		r, err := DecodeObject(c.JSON)
		if err != nil {
			t.Errorf("%s: %v", c.ID, err)
			continue
		}
		checkRoundTrip(t, r)
		schemas, _ := r["schemas"].([]any)
		if len(schemas) == 0 {
			continue
		}
		rt := bothTypes[0]
		if strings.Contains(strings.Join(c.HTTP, " "), "/Groups/") || schemas[0] == SchemaGroup {
			rt = bothTypes[1]
		}
		switch schemas[0] {
		case SchemaUser, SchemaGroup:
			checkExample(t, c.ID, rt, r)
		case MessagePatchOp:
			ops, err := readPatch(r, rt)
			if err != nil {
				t.Errorf("%s: %v", c.ID, err)
			}
			for _, op := range ops {
				if op.Path != nil && op.Target.Attribute == nil {
					t.Errorf("%s: %s names nothing", c.ID, FormatPath(op.Path))
				}
			}
		case MessageListResponse:
			if _, err := ReadResponse(&Request{Op: OpQuery, Type: rt}, answer(200, string(c.JSON)), MaxBody); err != nil {
				if bad, ok := errors.AsType[*BadAnswer](err); !ok || bad.Reason != "a resource has no id" {
					t.Errorf("%s: %v", c.ID, err)
				}
			}
		case MessageError:
			_, err := ReadResponse(&Request{Op: OpGet, Type: rt, ID: "1"}, answer(400, string(c.JSON)), MaxBody)
			if f, ok := errors.AsType[*Failure](err); !ok || !f.SCIM || f.Message != r["detail"] {
				t.Errorf("%s: got %+v", c.ID, err)
			}
		}
	}
}

func checkExample(t *testing.T, id string, rt *ResourceType, r Resource) {
	t.Helper()
	before := r.Clone()
	rt.Canonicalize(r)
	if !reflect.DeepEqual(r, before) {
		t.Errorf("%s: canonical names changed to %v", id, r)
	}
	if r["userName"] == nil && r["displayName"] == nil {
		return // abridged
	}
	for _, v := range elements(r["x509Certificates"]) {
		m := v.(map[string]any)
		m["value"] = strings.ReplaceAll(m["value"].(string), " ", "") // folded to fit the page
	}
	if err := rt.Validate(r); err != nil {
		t.Errorf("%s: %v", id, err)
	}
}

// TestSchemasVectors compares the schemas of Section 8.7.1 with ours, and ours and the other documents of discovery
// with the schemas that Section 8.7.2 has for them.
func TestSchemasVectors(t *testing.T) {
	var file struct {
		Cases []struct {
			ID     string
			Schema map[string]any
		}
	}
	readVectors(t, "schemas-rfc7643.json", &file)
	wrong := expectWrong(t, "schema ")
	documents := discoveryDocuments()
	for _, c := range file.Cases {
		name := c.Schema["name"].(string)
		if ours := schemaOfURN(c.ID); ours != nil {
			for _, member := range []string{"id", "name", "description", "schemas"} {
				if !reflect.DeepEqual(ours[member], c.Schema[member]) {
					t.Errorf("%s.%s is %v, want %v", name, member, ours[member], c.Schema[member])
				}
			}
			compareAttributes(t, wrong, name, ours["attributes"], c.Schema["attributes"])
			continue
		}
		if len(documents[c.ID]) == 0 {
			t.Errorf("there is no document of %s", c.ID)
		}
		for _, d := range documents[c.ID] {
			d = maps.Clone(d)
			delete(d, "schemas")
			delete(d, "meta")
			checkMembers(t, wrong, name, c.Schema["attributes"], d)
		}
	}
}

// schemaOfURN is a schema document as a client reads it.
func schemaOfURN(urn string) map[string]any {
	for _, d := range discoveryDocuments()[schemaSchema] {
		if d["id"] == urn {
			return d
		}
	}
	return nil
}

// discoveryDocuments are all documents of discovery as a client reads them, by the URN of their schema.
func discoveryDocuments() map[string][]map[string]any {
	list := []Resource{ServiceProviderConfig(base, Abilities{Documentation: "https://docs", MaxResults: 200})}
	for _, rt := range bothTypes {
		list = append(list, rt.Document(base))
		for _, s := range append([]*Schema{rt.Core}, rt.Extensions...) {
			list = append(list, s.Document(base))
		}
	}
	documents := map[string][]map[string]any{}
	for _, r := range list {
		var d map[string]any
		if err := json.Unmarshal(AppendJSON(nil, r), &d); err != nil {
			panic(err)
		}
		urn := d["schemas"].([]any)[0].(string)
		documents[urn] = append(documents[urn], d)
	}
	return documents
}

func compareAttributes(t *testing.T, wrong *wrongVectors, path string, got, want any) {
	t.Helper()
	gotList, _ := got.([]any)
	wantList, _ := want.([]any)
	if len(gotList) != len(wantList) {
		t.Errorf("%s has %d attributes, want %d", path, len(gotList), len(wantList))
		return
	}
	for i := range wantList {
		ours, theirs := gotList[i].(map[string]any), wantList[i].(map[string]any)
		where := fmt.Sprintf("%s.%s", path, theirs["name"])
		members := maps.Clone(theirs)
		maps.Copy(members, ours)
		for member := range members {
			switch {
			case member == "description":
				if ours[member] == "" {
					t.Errorf("%s has no description", where)
				}
			case member == "subAttributes":
				compareAttributes(t, wrong, where, ours[member], theirs[member])
			case !reflect.DeepEqual(ours[member], theirs[member]) && !wrong.is("schema "+where+"."+member):
				t.Errorf("%s.%s is %v, want %v", where, member, ours[member], theirs[member])
			}
		}
	}
}

// checkMembers checks a document of discovery, or a complex value in it, against the attributes of its schema.
func checkMembers(t *testing.T, wrong *wrongVectors, path string, attributes any, d map[string]any) {
	t.Helper()
	known := map[string]bool{}
	list, _ := attributes.([]any)
	for _, a := range list {
		a := a.(map[string]any)
		name := a["name"].(string)
		known[name] = true
		where := path + "." + name
		v, ok := d[name]
		if !ok {
			if a["required"] == true && !wrong.is("schema "+where) {
				t.Errorf("%s is required and not there", where)
			}
			continue
		}
		values, isList := v.([]any)
		if isList != (a["multiValued"] == true) {
			t.Errorf("%s: an array %v, want %v", where, isList, a["multiValued"])
		}
		if !isList {
			values = []any{v}
		}
		for _, v := range values {
			checkMember(t, wrong, where, a, v)
		}
	}
	for name := range d {
		if !known[name] && !wrong.is("schema "+path+"."+name) {
			t.Errorf("%s has %s, which its schema does not know", path, name)
		}
	}
}

func checkMember(t *testing.T, wrong *wrongVectors, where string, a map[string]any, v any) {
	t.Helper()
	kinds := map[string]reflect.Kind{"boolean": reflect.Bool, "integer": reflect.Float64, "complex": reflect.Map}
	want, ok := kinds[a["type"].(string)]
	if !ok {
		want = reflect.String
	}
	if got := reflect.TypeOf(v).Kind(); got != want {
		t.Errorf("%s is a %v, want a %v", where, got, want)
		return
	}
	if canonical, _ := a["canonicalValues"].([]any); len(canonical) > 0 && !slices.Contains(canonical, v) {
		t.Errorf("%s is %v, want one of %v", where, v, canonical)
	}
	if m, ok := v.(map[string]any); ok {
		checkMembers(t, wrong, where, a["subAttributes"], m)
	}
}
