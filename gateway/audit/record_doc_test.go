package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// RECORD.md is the contract of those who read records: its tables are the types, its lists the constants, and its examples
// are what Append writes.
func TestRecordDocument(t *testing.T) {
	file, err := os.ReadFile("RECORD.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for section := range strings.SplitSeq(string(file), "\n## ") {
		name, text, _ := strings.Cut(section, "\n")
		sections[name] = text
	}
	for _, one := range []any{Record{}, Subject{}, Attribute{}, Value{}, Finding{}, Admission{}, Call{}, Answer{}, Pruned{}} {
		typ := reflect.TypeOf(one)
		if got, want := documented(sections[typ.Name()]), members(typ); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", typ.Name(), got, want)
		}
	}
	constants := stringConstants(t, "record.go")
	for section, want := range map[string][]string{
		"Kinds": Kinds, "Outcomes": Outcomes, "Verdicts": {Allow, Remark, Drop, Keep, Refuse},
		"Actions": slices.DeleteFunc(constants, func(c string) bool {
			return slices.Contains(Kinds, c) || slices.Contains([]string{Allow, Remark, Drop, Keep, Refuse}, c)
		}),
	} {
		if len(want) == 0 {
			t.Errorf("%s: there is nothing to document", section)
		}
		for _, word := range want {
			if !strings.Contains(sections[section], "`"+word+"`") {
				t.Errorf("%s: %q is missing", section, word)
			}
		}
	}
	examples := regexp.MustCompile("(?s)```json\n(.*?)\n```").FindAllStringSubmatch(sections["Examples"], -1)
	if len(examples) != 2 {
		t.Errorf("got %d examples, want 2", len(examples))
	}
	for _, example := range examples {
		var line bytes.Buffer
		if err := json.Compact(&line, []byte(example[1])); err != nil {
			t.Fatal(err)
		}
		rec, err := Parse(line.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if got := Append(nil, rec); !bytes.Equal(got, line.Bytes()) {
			t.Errorf("an example is not as it would be written:\n got %s\nwant %s", line.Bytes(), got)
		}
	}
}

// documented are the members and types of the rows of a table.
func documented(section string) (rows []string) {
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| ([A-Za-z ]+) \\|").FindAllStringSubmatch(section, -1) {
		rows = append(rows, row[1]+" "+row[2])
	}
	return rows
}

// members are the members and types of a Go type's JSON form, as a table has them.
func members(typ reflect.Type) (rows []string) {
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			rows = append(rows, name+" "+jsonType(typ.Field(i).Type))
		}
	}
	return rows
}

func jsonType(typ reflect.Type) string {
	switch {
	case typ == reflect.TypeFor[time.Time]():
		return "time"
	case typ == reflect.TypeFor[json.RawMessage]():
		return "any"
	case typ.Kind() == reflect.Pointer:
		return jsonType(typ.Elem())
	case typ.Kind() == reflect.Slice:
		return "list of " + jsonType(typ.Elem())
	case typ.Kind() == reflect.Struct:
		return typ.Name()
	}
	return map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Int: "integer", reflect.Int64: "integer", reflect.Float64: "number"}[typ.Kind()]
}

// stringConstants are the values of a file's constants that are texts.
func stringConstants(t *testing.T, name string) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		decl, ok := n.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			return true
		}
		for _, spec := range decl.Specs {
			for _, v := range spec.(*ast.ValueSpec).Values {
				if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					var text string
					if _, err := fmt.Sscanf(lit.Value, "%q", &text); err != nil {
						t.Fatal(err)
					}
					values = append(values, text)
				}
			}
		}
		return true
	})
	return values
}
