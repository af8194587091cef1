package transform

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"scimgate/transform/scim"
)

// entraRequests are requests as Entra sends them, from the golden files.
var entraRequests = []struct{ name, file string }{
	{"create", "entra-create"},
	{"patch", "entra-several"},              // its default dialect
	{"patch-pathless", "entra-several-rfc"}, // with aadOptscim062020
	{"filter", "entra-query-username"},
}

// entraRequest is one of them as it is read, and normalized.
func entraRequest(b *testing.B, file string) (raw, normalized *scim.Request) {
	b.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", file+".txtar"))
	if err != nil {
		b.Fatal(err)
	}
	if raw, err = readText(archive.Files[0].Data); err != nil {
		b.Fatal(err)
	}
	if normalized, _, err = Normalize(raw); err != nil {
		b.Fatal(err)
	}
	return raw, normalized
}

func BenchmarkNormalize(b *testing.B) {
	for _, r := range entraRequests {
		raw, _ := entraRequest(b, r.file)
		b.Run(r.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Normalize(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkValidate(b *testing.B) {
	for _, r := range entraRequests {
		_, req := entraRequest(b, r.file)
		b.Run(r.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Validate(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPlan plans under the reference profile, which drops a part of what Entra sends, and keeps externalId.
func BenchmarkPlan(b *testing.B) {
	tr := builtin(b, "bluejeans")
	for _, r := range entraRequests {
		_, req := entraRequest(b, r.file)
		var ruling Ruling
		for w := range req.Writes() { // what the upstream has is sent all the same
			if w.Ref == refExternalID {
				ruling.Keep = append(ruling.Keep, w.Ref)
			} else {
				ruling.Drop = append(ruling.Drop, w.Ref)
			}
		}
		b.Run(r.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tr.For(req, ruling, nil, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFinish makes what the client is shown out of a user that the upstream answered with.
func BenchmarkFinish(b *testing.B) {
	tr := builtin(b, "bluejeans")
	rt := scim.UserType()
	_, req := entraRequest(b, "entra-create")
	r := req.Resource.Clone()
	r["id"] = "2819c223"
	held := &Held{ID: "2819c223", UserName: r.UserName(), ExternalID: r.ExternalID()}
	b.ReportAllocs()
	for b.Loop() { // what was finished may be finished again
		finished, _ := tr.Finish(rt, r, held, "https://gateway.example.com/scim/v2")
		Project(rt, finished, scim.Query{})
	}
}
