package policy_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scimgate/policy"
	"scimgate/transform"
	"scimgate/transform/scim"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

// pure is the way of a request as far as nothing is sent.
type pure struct {
	name  string
	shape *transform.Transform
	rules *policy.Policy
}

func newPure(t testing.TB, text string) pure {
	t.Helper()
	shape, err := transform.New(parse(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return pure{text, shape, rules(t, text)}
}

// walk goes the way of a normalized and valid request as the gateway does.
func (p pure) walk(req *scim.Request) (policy.Decision, *transform.Plan, error) {
	d := p.rules.Check(req, nil)
	if refusal := d.Refusal(); refusal != nil {
		return d, nil, refusal
	}
	plan, err := p.shape.For(req, transform.Ruling{
		Drop: d.Attributes(policy.Drop), Keep: d.Attributes(policy.Keep), Alias: len(d.Attributes(policy.Alias)) > 0,
	}, nil, nil)
	return d, plan, err
}

var types = []*scim.ResourceType{scim.UserType(), scim.GroupType()}

func readHTTP(method, target, body string) (*scim.Request, error) {
	u, err := url.Parse("http://gateway.example.com/" + strings.TrimPrefix(target, "/"))
	if err != nil {
		return nil, scim.BadRequest(scim.InvalidSyntax, "no URL")
	}
	r := httptest.NewRequest(method, "http://gateway.example.com/", strings.NewReader(body))
	r.URL = u
	return scim.ReadRequest(r, u.EscapedPath(), types, scim.MaxBody)
}

// TestEntraShapesUnderBlueJeans shows what becomes of every shape of Entra on its way to the reference upstream, in
// one golden file: the findings of policy, then what would be sent and what the gateway would hold.
func TestEntraShapesUnderBlueJeans(t *testing.T) {
	files, err := filepath.Glob("../transform/testdata/entra-*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d golden files, error %v, want some", len(files), err)
	}
	bluejeans, generic := newPure(t, "bluejeans"), newPure(t, "generic")
	got := &txtar.Archive{}
	for _, name := range files {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		head, body, _ := strings.Cut(string(a.Files[0].Data), "\n\n")
		method, target, _ := strings.Cut(strings.TrimSpace(head), " ")
		req, err := readHTTP(method, target, body)
		if err == nil {
			req, _, err = transform.Normalize(req)
		}
		if err == nil {
			err = transform.Validate(req)
		}
		if err != nil {
			continue // what is refused by the schema is in the shape's own file
		}
		d, plan, err := bluejeans.walk(req)
		got.Files = append(got.Files, txtar.File{
			Name: strings.TrimSuffix(filepath.Base(name), ".txtar"), Data: []byte(told(t, d, plan, err)),
		})
		if _, _, err := generic.walk(req); err != nil {
			if _, ok := errors.AsType[*scim.Error](err); !ok {
				t.Errorf("%s under generic: %v", name, err)
			}
		}
	}
	const golden = "testdata/entra-bluejeans.txtar"
	text := txtar.Format(got)
	if *update {
		if err := os.WriteFile(golden, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

func told(t *testing.T, d policy.Decision, plan *transform.Plan, err error) string {
	t.Helper()
	var b strings.Builder
	if text := findings(d); text != "" {
		b.WriteString(text + "\n")
	}
	if err != nil {
		return b.String() + "error: " + err.Error() + "\n"
	}
	fmt.Fprintf(&b, "plan: %s: %s\n", plan.How, plan.Why)
	for _, r := range plan.Requests {
		hr, err := scim.NewHTTPRequest(t.Context(), "", scim.MediaType, r)
		if err != nil {
			t.Fatal(err)
		}
		target, _ := url.QueryUnescape(hr.URL.String())
		b.WriteString(hr.Method + " " + target)
		if hr.Body != nil {
			var body bytes.Buffer
			if _, err := body.ReadFrom(hr.Body); err != nil {
				t.Fatal(err)
			}
			b.WriteString(" " + body.String())
		}
		b.WriteByte('\n')
	}
	if plan.How == transform.Candidate {
		fmt.Fprintf(&b, "candidates: %q\n", plan.IDs)
	}
	if plan.Residual != nil {
		fmt.Fprintf(&b, "residual: %s\n", scim.FormatFilter(plan.Residual))
	}
	if h := plan.Held; h != nil {
		fmt.Fprintf(&b, "held: externalId %q, kept %s\n", h.ExternalID, scim.AppendJSON(nil, h.Kept))
	}
	for _, op := range plan.KeptOps {
		fmt.Fprintf(&b, "kept: %s %s %s\n", op.Op, scim.FormatPath(op.Path), scim.AppendJSON(nil, op.Value))
	}
	return b.String()
}

// FuzzNormalize sends anything at all the pure way, under profiles of all kinds. Nothing panics, every refusal is
// one that a client may see, and what policy has let pass has a plan: no attribute is left without a ruling.
func FuzzNormalize(f *testing.F) {
	files, err := filepath.Glob("../transform/testdata/entra-*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		head, body, _ := strings.Cut(string(a.Files[0].Data), "\n\n")
		method, target, _ := strings.Cut(strings.TrimSpace(head), " ")
		f.Add(method, target, body)
	}
	f.Add("PUT", "/Users/7", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ada"}`)
	f.Add("DELETE", "/Users/7", "")
	f.Add("GET", `/?filter=externalId+eq+"1"`, "")
	ways := []pure{newPure(f, "bluejeans"), newPure(f, "generic"), newPure(f, strict), newPure(f, keeping), newPure(f, fixed), newPure(f, keepAllRequired)}
	f.Fuzz(func(t *testing.T, method, target, body string) {
		if !slices.Contains([]string{"GET", "POST", "PUT", "PATCH", "DELETE"}, method) {
			return
		}
		req, err := readHTTP(method, target, body)
		switch {
		case err != nil:
			visible(t, "read", err)
		case req.Type != nil:
			goPureWay(t, req, ways)
		default: // discovery and bulk have no way of their own; a query at the root goes that of its parts
			for _, part := range req.Parts {
				goPureWay(t, part, ways)
			}
		}
	})
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// visible fails on an error that a client may not see.
func visible(t failer, step string, err error) {
	t.Helper()
	if _, ok := errors.AsType[*scim.Error](err); err != nil && !ok {
		t.Fatalf("%s: got %v, want no error or one for the client", step, err)
	}
}

func goPureWay(t failer, req *scim.Request, ways []pure) {
	t.Helper()
	req, _, err := transform.Normalize(req)
	if err != nil {
		visible(t, "normalize", err)
		return
	}
	again, notes, err := transform.Normalize(req)
	if got, want := asText(again), asText(req); err != nil || got != want || len(notes) > 0 {
		t.Fatalf("normalized again: got %s, notes %v, error %v, want %s", got, notes, err, want)
	}
	if err := transform.Validate(req); err != nil {
		visible(t, "validate", err)
		return
	}
	for _, p := range ways {
		p.rules.NeedsCurrent(req)
		p.rules.Check(req, scim.Resource{"userName": "ada", "emails": []any{map[string]any{"type": "work", "value": "w"}, "x"}})
		_, plan, err := p.walk(req)
		visible(t, p.name, err)
		if err != nil || !req.Op.Writes() {
			continue
		}
		if _, err := p.shape.Keep(req.Type, "7", plan.KeptOps, nil); len(plan.KeptOps) > 0 && err != nil {
			t.Fatalf("%s: what For has tried fails: %v", p.name, err)
		}
		if len(plan.Requests) > 0 && plan.Requests[0].Resource != nil {
			r := plan.Requests[0].Resource.Clone()
			r["id"] = "7"
			p.shape.Finish(req.Type, r, plan.Held, "")
		}
	}
}

func asText(req *scim.Request) string {
	text := string(scim.AppendJSON(nil, req.Resource)) + scim.FormatFilter(req.Query.Filter)
	for _, op := range req.Operations {
		text += fmt.Sprintf("\n%s %s %v %s", op.Op, scim.FormatPath(op.Path), op.Target.Ref, scim.AppendJSON(nil, op.Value))
	}
	return text
}

// TestRandomRequests does what FuzzNormalize does for requests that are not far from good ones.
func TestRandomRequests(t *testing.T) {
	ways := []pure{newPure(t, "bluejeans"), newPure(t, "generic"), newPure(t, strict), newPure(t, keeping), newPure(t, fixed), newPure(t, keepAllRequired)}
	names := []string{"userName", "displayName", "externalId", "active", "name", "name.givenName", "emails", `emails[type eq "work"]`, `emails[type eq "work"].value`,
		`emails[value eq "w"].display`, `emails[primary eq "True"].value`, "emails.primary", "addresses", `addresses[type eq "home"].formatted`, "manager", "department",
		enterprise, enterprise + ":manager.value", "roles", "password", "meta", "groups", "id", "schemas", "colour", "value", "type", "primary", "display", "givenName", "$ref"}
	name := rapid.SampledFrom(names)
	leaf := rapid.OneOf(rapid.SampledFrom([]any{nil, true, false, "", "True", "w", "work", "home", strings.Repeat("a", 40), "a@b"}), rapid.Just[any]([]any{}), rapid.Just[any](map[string]any{}))
	object := rapid.Map(rapid.MapOfN(name, leaf, 0, 4), func(m map[string]any) any { return m })
	list := rapid.Map(rapid.SliceOfN(rapid.OneOf(leaf, object), 0, 3), func(l []any) any { return l })
	value := rapid.OneOf(leaf, object, list)
	operation := rapid.Custom(func(t *rapid.T) any {
		op := map[string]any{"op": rapid.SampledFrom([]string{"add", "Replace", "remove"}).Draw(t, "op")}
		if rapid.IntRange(0, 3).Draw(t, "path") > 0 {
			op["path"] = name.Draw(t, "path")
		}
		op["value"] = value.Draw(t, "value")
		return op
	})
	rapid.Check(t, func(t *rapid.T) {
		method, target := "PATCH", "/Users/7"
		body := map[string]any{"schemas": []any{scim.MessagePatchOp}}
		if rapid.Bool().Draw(t, "whole") {
			method, target = rapid.SampledFrom([]string{"POST", "PUT"}).Draw(t, "method"), "/Users"
			if method == "PUT" {
				target = "/Users/7"
			}
			body = rapid.MapOfN(name, value, 0, 8).Draw(t, "resource")
			body["schemas"], body["userName"] = []any{scim.SchemaUser}, "ada"
		} else {
			body["Operations"] = rapid.SliceOfN(operation, 1, 3).Draw(t, "operations")
		}
		req, err := readHTTP(method, target, string(scim.AppendJSON(nil, body)))
		if err != nil {
			visible(t, "read", err)
			return
		}
		goPureWay(t, req, ways)
	})
}
