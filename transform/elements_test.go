package transform

import (
	"testing"

	"scimgate/transform/scim"
)

func TestAddElements(t *testing.T) {
	rt := scim.UserType()
	current, err := scim.DecodeObject([]byte(`{"id":"1","userName":"ann","emails":[{"type":"work","value":"a@b.c"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	op := func(verb, path string, value any) scim.PatchOp {
		p, target, err := rt.CompilePath(path)
		if err != nil {
			t.Fatal(err)
		}
		return scim.PatchOp{Op: verb, Path: p, Target: target, Value: value}
	}
	for _, tt := range []struct {
		name    string
		ops     []scim.PatchOp
		changed bool
		want    string // path and value of each operation
	}{
		{"an element that is there", []scim.PatchOp{op("add", `emails[type eq "work"].value`, "x")}, false, `add emails[type eq "work"].value "x";`},
		{"a missing element", []scim.PatchOp{op("add", `phoneNumbers[type eq "work"].value`, "1")}, true, `add phoneNumbers [{"type":"work","value":"1"}];`},
		{"beside one that is there", []scim.PatchOp{op("add", `emails[type eq "work"].value`, "x"), op("add", `emails[type eq "home"].value`, "y")}, true,
			`add emails[type eq "work"].value "x";add emails [{"type":"home","value":"y"}];`},
		{"two operations, one element", []scim.PatchOp{op("add", `phoneNumbers[type eq "work"].value`, "1"), op("add", `phoneNumbers[type eq "work"].display`, "one")}, true,
			`add phoneNumbers [{"display":"one","type":"work","value":"1"}];`},
		{"one element, its type spelled twice", []scim.PatchOp{op("add", `ims[type eq "A"].value`, "1"), op("add", `ims[type eq "a"].display`, "x")}, true,
			`add ims [{"display":"x","type":"A","value":"1"}];`},
		{"an element that goes before", []scim.PatchOp{op("remove", `emails`, nil), op("add", `emails[type eq "work"].value`, "x")}, true,
			`remove emails null;add emails [{"type":"work","value":"x"}];`},
		{"an element that goes in between", []scim.PatchOp{op("add", `ims[type eq "a"].value`, "1"), op("remove", `ims`, nil), op("add", `ims[type eq "a"].value`, "2")}, true,
			`add ims [{"type":"a","value":"1"}];remove ims null;add ims [{"type":"a","value":"2"}];`},
		{"an element that comes before", []scim.PatchOp{op("add", `ims`, []any{map[string]any{"type": "a", "value": "1"}}), op("add", `ims[type eq "a"].display`, "x")}, false,
			`add ims [{"type":"a","value":"1"}];add ims[type eq "a"].display "x";`},
		{"beside a replace that has no target", []scim.PatchOp{op("add", `ims[type eq "a"].value`, "1"), op("replace", `ims[type eq "b"].value`, "2")}, false,
			`add ims[type eq "a"].value "1";replace ims[type eq "b"].value "2";`},
		{"the element as a whole", []scim.PatchOp{op("add", `phoneNumbers[type eq "work"]`, map[string]any{"value": "1"})}, true, `add phoneNumbers [{"type":"work","value":"1"}];`},
		{"a replace means what it says", []scim.PatchOp{op("replace", `phoneNumbers[type eq "work"].value`, "1")}, false, `replace phoneNumbers[type eq "work"].value "1";`},
		{"a filter that does not say what to make", []scim.PatchOp{op("add", `phoneNumbers[type ne "work"].value`, "1")}, false, `add phoneNumbers[type ne "work"].value "1";`},
		{"no filter", []scim.PatchOp{op("add", `title`, "x")}, false, `add title "x";`},
	} {
		out, changed := AddElements(rt, current, tt.ops)
		got := ""
		for _, o := range out {
			got += o.Op + " " + scim.FormatPath(o.Path) + " " + string(scim.AppendJSON(nil, o.Value)) + ";"
		}
		if got != tt.want || changed != tt.changed {
			t.Errorf("%s: got %s changed %v, want %s changed %v", tt.name, got, changed, tt.want, tt.changed)
		}
	}
}
