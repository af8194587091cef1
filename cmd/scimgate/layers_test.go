package main

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The plan of the house (gateway/DESIGN.md), as tests.

// floors are the packages of the house. A package imports only packages of lower floors.
var floors = map[string]int{
	"cmd/scimgate": 4,

	"gateway":         3,
	"gateway/console": 3,

	"transform":             2,
	"policy":                2,
	"config":                2,
	"conformance/simulator": 2,
	"conformance/entra":     2,
	"gateway/store":         2,

	"gateway/upstream": 1,

	"transform/scim":   0,
	"config/profile":   0,
	"config/secret":    0,
	"gateway/audit":    0,
	"gateway/identity": 0,
	"conformance":      0,
}

// folders are the top-level folders and those that packages below them may import: the arrows run one way.
var folders = map[string][]string{
	"cmd":         {"gateway", "transform", "policy", "config", "conformance"},
	"gateway":     {"gateway", "transform", "policy", "config"},
	"transform":   {"transform", "config"},
	"policy":      {"transform", "config"},
	"config":      {"config"},
	"conformance": {"transform", "config"}, // the simulator and the Entra-like client; conformance itself has floor 0
}

// owners are the packages that may import a foreign module, in their tests too.
var owners = map[string][]string{
	"github.com/elimity-com/scim":         {"transform/scim"},
	"github.com/scim2/filter-parser/v2":   {"transform/scim"},
	"github.com/gin-gonic/gin":            {"gateway"},
	"github.com/golang-jwt/jwt/v5":        {"gateway"},
	"github.com/prometheus/client_golang": {"gateway"},
	"github.com/sony/gobreaker/v2":        {"gateway/upstream"},
	"go.uber.org/ratelimit":               {"gateway/upstream"},
	"modernc.org/sqlite":                  {"gateway/store"},
	"golang.org/x/sys":                    {"gateway/store", "gateway/audit"},
	"golang.org/x/mod":                    {"gateway/audit"},
	"github.com/goccy/go-yaml":            {"config", "config/profile", "conformance"},
	"github.com/spf13/cobra":              {"cmd/scimgate"},
	"golang.org/x/term":                   {"cmd/scimgate"},
	"github.com/mattn/go-isatty":          {"cmd/scimgate"},
}

// testModules may be imported by every package's tests, and by nothing else.
var testModules = []string{"github.com/Shopify/toxiproxy/v2", "github.com/chromedp/cdproto", "github.com/chromedp/chromedp", "go.uber.org/goleak", "pgregory.net/rapid", "github.com/rogpeppe/go-internal"}

// pure packages do no I/O and know no clock and no randomness: that is what makes `scimgate explain` possible. Of
// transform/scim, the wire halves read and write bodies that others opened.
var pure = []string{"transform", "policy", "transform/scim"}

// impure are packages that a pure one does not import.
var impure = []string{
	"os", "os/exec", "os/signal", "os/user", "io/fs", "io/ioutil", "path/filepath", "net", "net/http/httptest", "net/http/httptrace",
	"net/rpc", "net/smtp", "crypto/rand", "math/rand", "math/rand/v2", "log", "log/slog", "syscall", "database/sql", "runtime/debug",
	"embed", "plugin",
}

// pureUses are what a pure package may use of packages that have both sides.
var pureUses = map[string]*regexp.Regexp{
	"time":     regexp.MustCompile(`^(Duration|Time|Parse|RFC3339|RFC3339Nano|Nanosecond|Microsecond|Millisecond|Second|Minute|Hour|UTC|ParseDuration|ParseError|Date|Month|Unix|UnixMilli|UnixMicro)$`),
	"net/http": regexp.MustCompile(`^(Status.*|Method.*|Header|Request|Response|ResponseWriter|NewRequestWithContext|NoBody|MaxBytesReader|MaxBytesError|ParseTime|TimeFormat)$`),
}

const module = "scimgate"

// file is one Go file of the repository.
type file struct {
	path string // from the root, with slashes
	pkg  string // the folder
	test bool
	ast  *ast.File
}

// source parses every Go file of the repository.
func source(t *testing.T) (*token.FileSet, []file) {
	t.Helper()
	root := filepath.Join("..", "..")
	set := token.NewFileSet()
	var files []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && (strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		rel = filepath.ToSlash(rel)
		files = append(files, file{rel, path.Dir(rel), strings.HasSuffix(rel, "_test.go"), parsed})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("got %d Go files, want the whole repository", len(files))
	}
	return set, files
}

// imports calls yield for each import of a file.
func (f *file) imports(yield func(path string)) {
	for _, spec := range f.ast.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			yield(p)
		}
	}
}

// ours returns the folder of an imported package of this repository.
func ours(imported string) (string, bool) {
	return strings.CutPrefix(imported, module+"/")
}

// foreign reports whether an import is neither ours nor the standard library's.
func foreign(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return strings.Contains(first, ".")
}

// owns returns the module of a table that an import belongs to.
func owns(modules []string, imported string) (string, bool) {
	for _, m := range modules {
		if imported == m || strings.HasPrefix(imported, m+"/") {
			return m, true
		}
	}
	return "", false
}

func TestFloors(t *testing.T) {
	_, files := source(t)
	for _, f := range files {
		floor, ok := floors[f.pkg]
		if !ok {
			t.Errorf("%s: package %s has no floor: give it one in floors and in gateway/DESIGN.md", f.path, f.pkg)
			continue
		}
		f.imports(func(imported string) {
			pkg, ok := ours(imported)
			if !ok {
				return
			}
			other, known := floors[pkg]
			switch {
			case !known:
				t.Errorf("%s imports %s, which has no floor", f.path, pkg)
			case f.test: // the simulator is everybody's double
			case other >= floor:
				t.Errorf("%s, floor %d, imports %s, floor %d: only lower floors may be imported", f.path, floor, pkg, other)
			}
		})
	}
}

func TestArrowsBetweenFoldersRunOneWay(t *testing.T) {
	_, files := source(t)
	for _, f := range files {
		top, _, _ := strings.Cut(f.pkg, "/")
		f.imports(func(imported string) {
			pkg, ok := ours(imported)
			if !ok || pkg == f.pkg {
				return
			}
			other, _, _ := strings.Cut(pkg, "/")
			if f.test && other == "conformance" {
				return
			}
			if !slices.Contains(folders[top], other) {
				t.Errorf("%s imports %s: an arrow from %s to %s runs the wrong way", f.path, pkg, top, other)
			}
		})
	}
}

func TestConformanceImportsNothingOfOurs(t *testing.T) {
	_, files := source(t)
	for _, f := range files {
		if f.pkg != "conformance" || f.test {
			continue
		}
		f.imports(func(imported string) {
			if pkg, ok := ours(imported); ok {
				t.Errorf("%s imports %s: the suite is black-box and must fit every service provider", f.path, pkg)
			}
		})
	}
}

func TestForeignModulesHaveOneOwner(t *testing.T) {
	_, files := source(t)
	modules := slices.Collect(maps.Keys(owners))
	for _, f := range files {
		f.imports(func(imported string) {
			if !foreign(imported) {
				return
			}
			if m, ok := owns(testModules, imported); ok {
				if !f.test {
					t.Errorf("%s imports %s: %s is for tests only", f.path, imported, m)
				}
				return
			}
			m, ok := owns(modules, imported)
			switch {
			case !ok:
				t.Errorf("%s imports %s: the module has no owner: give it one in owners and in gateway/DESIGN.md, or do without", f.path, imported)
			case !slices.Contains(owners[m], f.pkg):
				t.Errorf("%s imports %s: %s belongs to %s alone", f.path, imported, m, strings.Join(owners[m], ", "))
			}
		})
	}
}

// Every direct dependency in go.mod has an owner here.
func TestDependenciesAreOwned(t *testing.T) {
	mod, err := os.Open(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	defer mod.Close()
	requirement := regexp.MustCompile(`^(?:require )?\s*(\S+\.\S+/\S+) v\S+$`) // those that are indirect end in a comment
	found := 0
	for lines := bufio.NewScanner(mod); lines.Scan(); {
		m := requirement.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		found++
		if _, ok := owners[m[1]]; !ok && !slices.Contains(testModules, m[1]) {
			t.Errorf("go.mod requires %s, which has no owner", m[1])
		}
	}
	if found == 0 {
		t.Error("no direct requirement was found in go.mod")
	}
}

func TestPurePackages(t *testing.T) {
	set, files := source(t)
	for _, f := range files {
		if f.test || !slices.Contains(pure, f.pkg) {
			continue
		}
		names := map[string]string{} // local name -> import path, of packages with both sides
		f.imports(func(imported string) {
			if slices.Contains(impure, imported) {
				t.Errorf("%s imports %s: %s is pure", f.path, imported, f.pkg)
			}
		})
		for _, spec := range f.ast.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if pureUses[imported] == nil {
				continue
			}
			names[path.Base(imported)] = imported
			if spec.Name != nil {
				names[spec.Name.Name] = imported
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if id, ok := selector.X.(*ast.Ident); ok && names[id.Name] != "" && !pureUses[names[id.Name]].MatchString(selector.Sel.Name) {
				t.Errorf("%s uses %s.%s: %s is pure, and this is not known to be", set.Position(n.Pos()), id.Name, selector.Sel.Name, f.pkg)
			}
			return true
		})
	}
}

// Neither Normalize nor any rule may depend on time: in these two not even durations are needed.
func TestTransformAndPolicyKnowNoTime(t *testing.T) {
	_, files := source(t)
	for _, f := range files {
		if f.test || f.pkg != "transform" && f.pkg != "policy" {
			continue
		}
		f.imports(func(imported string) {
			if imported == "time" || imported == "io" {
				t.Errorf("%s imports %s", f.path, imported)
			}
		})
	}
}

func TestPackageComments(t *testing.T) {
	_, files := source(t)
	comments := map[string]string{}
	for _, f := range files {
		if f.test {
			continue
		}
		text := ""
		if f.ast.Doc != nil {
			text = f.ast.Doc.Text()
		}
		switch {
		case text == "":
			text = comments[f.pkg]
		case comments[f.pkg] != "":
			t.Errorf("%s: package %s has two comments", f.path, f.pkg)
		}
		comments[f.pkg] = text
	}
	for pkg, text := range comments {
		want := "Package " + path.Base(pkg) + " "
		if strings.HasPrefix(pkg, "cmd/") {
			want = "Command " + path.Base(pkg) + " "
		}
		if !strings.HasPrefix(text, want) {
			t.Errorf("package %s: got a comment that begins %.20q, want %q", pkg, text, want)
		}
	}
}

func TestTopLevelFolders(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if _, ok := folders[e.Name()]; !ok {
			t.Errorf("folder %s: the top level holds %s", e.Name(), fmt.Sprint(slices.Sorted(maps.Keys(folders))))
		}
	}
}
