package transform

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scimgate/transform/scim"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestEntraShapes goes over every shape that Entra is known to send. A golden file is a txtar archive: what the
// shape is, `request` as it arrives, `normalized` as it would be sent to an upstream without limits or the error
// it is answered with, `notes`, and `invalid` where validation refuses what was normalized.
func TestEntraShapes(t *testing.T) {
	files, err := filepath.Glob("testdata/entra-*.txtar")
	if err != nil || len(files) < 60 {
		t.Fatalf("got %d golden files, error %v, want at least 60", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			a := txtar.Parse(src)
			if len(a.Files) == 0 || a.Files[0].Name != "request" {
				t.Fatal("the first file must be request")
			}
			got := &txtar.Archive{Comment: a.Comment, Files: []txtar.File{a.Files[0]}}
			got.Files = append(got.Files, normalized(t, a.Files[0].Data)...)
			if *update {
				if err := os.WriteFile(name, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if text := txtar.Format(got); !bytes.Equal(text, src) {
				t.Errorf("got\n%s\nwant\n%s", text, src)
			}
		})
	}
}

// normalized makes the files of the archive that are expected.
func normalized(t *testing.T, request []byte) []txtar.File {
	t.Helper()
	req, err := readText(request)
	var before string
	var notes []Note
	if err == nil {
		before = describe(t, req)
		original := req
		if req, notes, err = Normalize(req); describe(t, original) != before {
			t.Errorf("Normalize changed its argument: got %s, want %s", describe(t, original), before)
		}
	}
	if err != nil {
		return []txtar.File{{Name: "error", Data: []byte(err.Error() + "\n")}}
	}
	text := describe(t, req)
	again, more, err := Normalize(req)
	if err != nil {
		t.Fatalf("normalize again: %v", err)
	}
	if got := describe(t, again); got != text || len(more) > 0 {
		t.Errorf("normalized again: got %s with notes %v, want %s", got, more, text)
	}
	files := []txtar.File{{Name: "normalized", Data: []byte(text)}}
	if len(notes) > 0 {
		var b strings.Builder
		for _, n := range notes {
			fmt.Fprintf(&b, "%s: %s\n", n.Path, n.What)
		}
		files = append(files, txtar.File{Name: "notes", Data: []byte(strings.TrimPrefix(b.String(), ": "))})
	}
	if err := Validate(req); err != nil {
		files = append(files, txtar.File{Name: "invalid", Data: []byte(err.Error() + "\n")})
	}
	return files
}

// readText reads a request as text: method and URL, an empty line, the body.
func readText(text []byte) (*scim.Request, error) {
	head, body, _ := bytes.Cut(text, []byte("\n\n"))
	method, target, _ := strings.Cut(strings.TrimSpace(string(head)), " ")
	r := httptest.NewRequest(method, "http://gateway.example.com/"+strings.TrimPrefix(target, "/"), bytes.NewReader(body))
	return scim.ReadRequest(r, r.URL.EscapedPath(), []*scim.ResourceType{scim.UserType(), scim.GroupType()}, scim.MaxBody)
}

// describe is a request as it would be sent.
func describe(t testing.TB, req *scim.Request) string {
	t.Helper()
	r, err := scim.NewHTTPRequest(t.Context(), "", scim.MediaType, req)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.QueryUnescape(r.URL.String())
	if err != nil {
		t.Fatal(err)
	}
	if r.Body == nil || r.Body == http.NoBody {
		return r.Method + " " + target + "\n"
	}
	var body bytes.Buffer
	if _, err := bufio.NewReader(r.Body).WriteTo(&body); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, body.Bytes(), "", " "); err != nil {
		t.Fatal(err)
	}
	for i, op := range req.Operations {
		if op.Target.Attribute == nil && op.Path != nil {
			fmt.Fprintf(&text, "\nOperations[%d] has no target", i)
		}
	}
	return r.Method + " " + target + "\n\n" + text.String() + "\n"
}

func TestNotesAreSortedAndCarryNoValue(t *testing.T) {
	req, err := readText([]byte(`PATCH /Users/1

{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[
 {"op":"replace","path":"roles[value eq \"secret\"].primary","value":"True"},
 {"op":"remove","path":"emails","value":[{"value":"secret@example.com"},{"value":"secret@example.org"}]},
 {"op":"add","path":"emails[value eq \"secret@example.com\" and primary eq \"true\"]","value":[{"value":"secret"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	_, notes, err := Normalize(req)
	if err != nil {
		t.Fatal(err)
	}
	want := []Note{
		{"emails", "array in place of a single value"}, {"emails", "remove with a value"},
		{"emails.primary", "boolean as text"}, {"roles.primary", "boolean as text"},
	}
	if !slices.Equal(notes, want) {
		t.Errorf("got %v, want %v", notes, want)
	}
}
