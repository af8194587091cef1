package transform

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"scimgate/transform/scim"
)

// TestNormalizeKeepsTheMeaning goes over PATCH requests that several implementations agree about: normalized, they
// have the same effect.
func TestNormalizeKeepsTheMeaning(t *testing.T) {
	src, err := os.ReadFile(filepath.Join("..", "..", "shared", "vectors", "patch.json"))
	if err != nil {
		t.Skip("skipped: the shared vectors are not beside this checkout")
	}
	var file struct {
		Cases []struct {
			ID, ResourceType               string
			Resource, Operations, Expected json.RawMessage
		}
	}
	if err := json.Unmarshal(src, &file); err != nil {
		t.Fatal(err)
	}
	for _, c := range file.Cases {
		in := object(t, string(c.Resource))
		target := "/Users/7"
		if c.ResourceType == "Group" {
			target = "/Groups/7"
		}
		body := `{"schemas":["` + scim.MessagePatchOp + `"],"Operations":` + string(c.Operations) + `}`
		req, err := readText([]byte("PATCH " + target + "\n\n" + body))
		if err == nil {
			req, _, err = Normalize(req)
		}
		if err == nil {
			err = Validate(req)
		}
		var got scim.Resource
		if err == nil {
			req.Type.Canonicalize(in)
			got, _, err = req.Type.ApplyPatch(in, req.Operations)
		}
		if c.Expected == nil {
			if err == nil {
				t.Errorf("%s: got %s, want an error", c.ID, shown(got))
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: got error %v, want none", c.ID, err)
			continue
		}
		if got, want := shown(got), shown(object(t, string(c.Expected))); got != want {
			t.Errorf("%s: got\n%s, want\n%s\n%s", c.ID, got, want, c.Operations)
		}
	}
}
