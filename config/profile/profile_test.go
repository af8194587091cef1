package profile

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// valid is the smallest profile; tests put their mistakes after it or in its place.
const valid = `name: p
resources:
  - name: User
    endpoint: /Users
    attributes:
      - path: userName
`

func TestBuiltin(t *testing.T) {
	for _, name := range []string{"bluejeans", "generic"} {
		if !slices.Contains(Names(), name) {
			t.Fatalf("got %v, want %s among them", Names(), name)
		}
	}
	for _, name := range Names() {
		p, err := Load(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.Name != name || p.File != name+".yaml" || p.Title == "" || p.Documentation == "" {
			t.Errorf("%s: got name %q, file %q, title %q, documentation %q", name, p.Name, p.File, p.Title, p.Documentation)
		}
		src, err := Source(name)
		if err != nil || !strings.Contains(string(src), "name: "+name+"\n") {
			t.Errorf("Source(%s): got %d bytes, %v", name, len(src), err)
		}
	}
}

func TestBlueJeans(t *testing.T) {
	p, err := Load("bluejeans")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Resources) != 1 || p.Resource("Group") != nil {
		t.Fatalf("got %d resources, want User only", len(p.Resources))
	}
	r := p.Resource("User")
	if r.Complete || r.Unlisted != HandlingDrop || r.Endpoint != "/Users" || len(r.Operations) != 6 || len(r.Extensions) != 1 {
		t.Errorf("got %+v", r)
	}
	const manager = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager"
	var paths []string
	for _, a := range r.Attributes {
		paths = append(paths, a.Path)
		if a.File != p.File || a.Line == 0 || a.Column != 9 {
			t.Errorf("%s: got position %s:%d:%d", a.Path, a.File, a.Line, a.Column)
		}
		want := Attribute{Path: a.Path, OnViolation: ViolationReject, File: a.File, Line: a.Line, Column: a.Column}
		switch a.Path {
		case "userName":
			want.Required, want.MaxLength, want.Filter = true, 30, []string{"eq"}
		case manager:
			want.Form = FormValue
		case "externalId":
			want.Handling = HandlingKeep
		}
		if !reflect.DeepEqual(a, want) {
			t.Errorf("%s: got %+v, want %+v", a.Path, a, want)
		}
	}
	want := []string{"userName", "active", "title", `emails[type eq "work"].value`, "name.givenName", "name.familyName",
		`phoneNumbers[type eq "work"].value`, manager, "password", "timezone", "externalId"}
	if !slices.Equal(paths, want) {
		t.Errorf("got %q, want %q", paths, want)
	}
	if p.URL != "https://api.bluejeans.com/v2/scim" || p.ContentType != "application/scim+json" || p.Paging.PageSize != 100 ||
		p.Rate != (Rate{10, 4}) || p.Update != (Update{Mode: UpdatePatch}) || p.Filter != (Filter{}) || p.ETag || p.Projection || p.Sort {
		t.Errorf("got %+v", p)
	}
	if len(p.Errors) != 1 || p.Errors[0].Contains != "Email address is already taken" ||
		p.Errors[0].As.Status != 409 || p.Errors[0].As.ScimType != "uniqueness" || p.Errors[0].Line == 0 {
		t.Errorf("errors: got %+v", p.Errors)
	}
}

// Every setting of the reference profile says whether it is documented, assumed or our choice.
func TestBlueJeansIsMarked(t *testing.T) {
	src, err := Source("bluejeans")
	if err != nil {
		t.Fatal(err)
	}
	// The profile's own words, and lines that the one above them marks.
	plain := []string{"name: bluejeans", "title: BlueJeans", "documentation: ", "- name: User", "- urn:", "status: 409", "scimType: uniqueness"}
	for i, line := range strings.Split(string(src), "\n") {
		setting, comment, _ := strings.Cut(line, "#")
		setting = strings.TrimSpace(setting)
		marked := strings.Contains(comment, "[documented]") || strings.Contains(comment, "[assumed]") || strings.Contains(comment, "[our choice]")
		isSetting := strings.Contains(setting, ": ") || strings.Contains(setting, "urn:")
		if isSetting && !marked && !slices.ContainsFunc(plain, func(p string) bool { return strings.HasPrefix(setting, p) }) {
			t.Errorf("line %d is not marked: %s", i+1, line)
		}
	}
}

func TestGeneric(t *testing.T) {
	p, err := Load("generic")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Resources) != 2 || !p.Resources[0].Complete || !p.Resources[1].Complete || !p.Filter.All || !p.ETag ||
		!p.Projection || !p.Sort || p.Rate != (Rate{0, 32}) || p.Paging.PageSize != 100 || p.URL != "" || len(p.Errors) != 0 {
		t.Errorf("got %+v", p)
	}
}

func TestDefaults(t *testing.T) {
	p, err := Parse("p.yaml", []byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	if p.Title != "p" || p.Paging.PageSize != 100 || p.Rate != (Rate{0, 8}) || p.ContentType != "application/scim+json" ||
		p.Update.Mode != UpdatePatch {
		t.Errorf("got %+v", p)
	}
	r := p.Resource("User")
	if r.Unlisted != HandlingRefuse || !slices.Equal(r.Operations, Operations()) || r.Line != 3 || r.Column != 5 {
		t.Errorf("got %+v", r)
	}
	if a := r.Attributes[0]; !reflect.DeepEqual(a, Attribute{Path: "userName", OnViolation: ViolationReject, File: "p.yaml", Line: 6, Column: 9}) {
		t.Errorf("got %+v", a)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if p, err := Load(write("mine.yaml", valid)); err != nil || p.Name != "p" {
		t.Errorf("got %v, %v, want the profile p", p, err)
	}
	if p, err := Load(write("mine", valid)); err != nil || p.Name != "p" {
		t.Errorf("a path without ending: got %v, %v, want the profile p", p, err)
	}
	bad := write("bad.yml", valid+"surprise: 1\n")
	problems, ok := errors.AsType[Problems](load(t, bad))
	if !ok || len(problems) != 1 || problems[0].File != bad || problems[0].Line != 7 {
		t.Errorf("got %v, want one problem in line 7 of %s", problems, bad)
	}
	for path, want := range map[string]string{
		"okta":                          "bluejeans, generic",
		filepath.Join(dir, "none.yaml"): "none.yaml",
		dir:                             "not a regular file",
		write("big.yaml", "# "+strings.Repeat("x", MaxFile)): "larger than 256 KiB",
	} {
		if err := load(t, path); !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, want it to say %q", path, err, want)
		}
	}
	if _, err := Source("okta"); err == nil {
		t.Error("Source(okta): got no error")
	}
	if _, err := Source("../profile"); err == nil {
		t.Error("Source(../profile): got no error")
	}
}

func load(t *testing.T, path string) error {
	t.Helper()
	p, err := Load(path)
	if err == nil || p != nil {
		t.Fatalf("%s: got %v, %v, want an error", path, p, err)
	}
	return err
}
