package scim

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// told is a write as text: path, value, * where no schema has it, and the element it belongs to.
func told(w Write) string {
	s := w.Path + " " + string(AppendJSON(nil, w.Value))
	if !w.Known {
		s += " *"
	}
	if w.Element != nil {
		s += " " + string(AppendJSON(nil, w.Element))
	}
	return s
}

func TestValues(t *testing.T) {
	r := decode(t, `{"schemas":["x"],"id":"1","userName":"a","title":null,"x":{"y":1},"urn:x":{"z":1},"name":{"givenName":"g","q":1,"familyName":null},"emails":[{"type":"wo\"rk","value":"w"},{"value":"x"},"odd"],`+
		`"roles":[],"photos":"odd","`+SchemaEnterpriseUser+`":{"department":"d","manager":{"value":"7"},"q":[1]}}`)
	want := []string{
		`emails[type eq "wo\"rk"].type "wo\"rk" {"type":"wo\"rk","value":"w"}`, `emails[type eq "wo\"rk"].value "w" {"type":"wo\"rk","value":"w"}`, `emails[1].value "x" {"value":"x"}`,
		`id "1"`, `name.familyName null`, `name.givenName "g"`, `name.q 1 *`, `photos "odd"`, `title null`,
		SchemaEnterpriseUser + `:department "d"`, SchemaEnterpriseUser + `:manager.value "7"`, SchemaEnterpriseUser + `:q [1] *`, `urn:x {"z":1} *`, `userName "a"`, `x {"y":1} *`,
	}
	var got []string
	for w := range UserType().Values(r) {
		got = append(got, told(w))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for most := range len(want) { // whoever stops hears no more
		n := 0
		for range UserType().Values(r) {
			if n++; n > most {
				break
			}
		}
		if n != most+1 {
			t.Errorf("stopped after %d, got %d", most+1, n)
		}
	}
}

func TestWrites(t *testing.T) {
	user := UserType()
	manager := SchemaEnterpriseUser + ":manager"
	for _, tt := range []struct {
		op   PatchOp
		want []string
	}{
		{patchOf(t, user, "replace", "userName", "a"), []string{`userName "a"`}},
		{patchOf(t, user, "remove", "title", nil), []string{`title null`}},
		{patchOf(t, user, "replace", "x:y", "z"), []string{`x:y "z" *`}},
		{patchOf(t, user, "replace", "", map[string]any{"title": "x"}), nil},
		{patchOf(t, user, "add", "name", map[string]any{"givenName": "g", "x": json.Number("1")}), []string{`name.givenName "g"`, `name.x 1 *`}},
		{patchOf(t, user, "add", "name.givenName", "g"), []string{`name.givenName "g"`}},
		{patchOf(t, user, "replace", manager, map[string]any{"value": "7"}), []string{manager + `.value "7"`}},
		{patchOf(t, user, "replace", `emails[TYPE eq "work"].value`, "w"), []string{`emails[TYPE eq "work"].value "w" {"type":"work"}`}},
		{patchOf(t, user, "replace", `emails[type eq "work"]`, map[string]any{"value": "w"}), []string{`emails[type eq "work"].value "w" {"type":"work","value":"w"}`}},
		{patchOf(t, user, "replace", `emails[type eq "work"]`, map[string]any{"value": "w", "type": "home"}), []string{
			`emails[type eq "work"].type "home" {"type":"home","value":"w"}`, `emails[type eq "work"].value "w" {"type":"home","value":"w"}`}},
		{patchOf(t, user, "remove", `emails[type eq "work"]`, nil), []string{`emails[type eq "work"] null {"type":"work"}`}},
		{patchOf(t, user, "remove", `emails[type eq "work" or value eq "x"]`, nil), []string{`emails[type eq "work" or value eq ...] null {}`}},
		{patchOf(t, user, "add", "emails", []any{map[string]any{"type": "work", "value": "w"}, map[string]any{"value": "x"}}), []string{
			`emails[type eq "work"].type "work" {"type":"work","value":"w"}`, `emails[type eq "work"].value "w" {"type":"work","value":"w"}`, `emails[1].value "x" {"value":"x"}`}},
		{patchOf(t, user, "add", "emails", map[string]any{"value": "x"}), []string{`emails.value "x" {"value":"x"}`}},
		{patchOf(t, user, "replace", "emails.value", "x"), []string{`emails.value "x"`}},
	} {
		req := &Request{Op: OpPatch, Type: user, Operations: []PatchOp{tt.op, patchOf(t, user, "replace", "active", true)}}
		before := CloneValue(tt.op.Value)
		var got []string
		for w := range req.Writes() {
			got = append(got, told(w))
		}
		if want := append(slices.Clip(tt.want), `active true`); !slices.Equal(got, want) {
			t.Errorf("%s %s: got %q, want %q", tt.op.Op, FormatPath(tt.op.Path), got, want)
		}
		if !reflect.DeepEqual(tt.op.Value, before) {
			t.Errorf("%s %s: the value changed to %v", tt.op.Op, FormatPath(tt.op.Path), tt.op.Value)
		}
		for range req.Writes() {
			break
		}
	}
	create := &Request{Op: OpCreate, Type: user, Resource: Resource{"schemas": []any{SchemaUser}, "userName": "a", "title": "t"}}
	if got := slices.Collect(create.Writes()); len(got) != 2 || told(got[1]) != `userName "a"` {
		t.Errorf("create: got %v", got)
	}
	for _, op := range []Op{OpCreate, OpReplace, OpPatch, OpDelete} {
		if !op.Writes() {
			t.Errorf("%s writes", op)
		}
		for w := range (&Request{Op: op, Type: user}).Writes() {
			t.Errorf("%s of nothing writes %s", op, w.Path)
		}
	}
	for _, op := range []Op{OpGet, OpQuery, OpDiscover} {
		if op.Writes() {
			t.Errorf("%s does not write", op)
		}
	}
}

func TestEqualTerms(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`type eq "work"`, `{"type":"work"}`},
		{`type EQ "work" and primary eq true and value pr`, `{"primary":true,"type":"work"}`},
		{`(a eq 1 and (b eq 1.5 and c eq "x"))`, `{"a":1,"b":1.5,"c":"x"}`},
		{`type eq "work" or type eq "home"`, `{}`},
		{`type eq "work" and (a eq "x" or b eq "y")`, `{"type":"work"}`},
		{`not (type eq "work")`, `{}`},
		{`type ne "work" and value sw "x" and a eq null`, `{}`},
	} {
		if got := string(AppendJSON(nil, EqualTerms(filterOf(t, tt.in)))); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
	}
	if got := EqualTerms(nil); len(got) != 0 {
		t.Errorf("no filter: got %v", got)
	}
}
