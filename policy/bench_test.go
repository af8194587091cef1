package policy_test

import (
	"strings"
	"testing"

	"scimgate/policy"
	"scimgate/transform"
	"scimgate/transform/scim"
)

const benchCreate = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","` + enterprise + `"],
 "externalId":"0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef","userName":"Test_User_ab6490ee","active":true,
 "emails":[{"primary":true,"type":"work","value":"Test_User_fd0ea19b-0777-472c-9f96-4f70d2226f2e@testuser.com"}],
 "meta":{"resourceType":"User"},"name":{"formatted":"givenName familyName","familyName":"familyName","givenName":"givenName"},"roles":[]}`

const benchPatch = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[
 {"op":"Replace","path":"displayName","value":"x"},{"op":"Replace","path":"emails[type eq \"work\"].value","value":"ada@example.com"},
 {"op":"Replace","path":"name.familyName","value":"Lovelace"},{"op":"Replace","path":"active","value":"False"}]}`

// BenchmarkPure measures the steps between reading a request and sending it, under the reference profile.
func BenchmarkPure(b *testing.B) {
	p := newPure(b, "bluejeans")
	for _, bench := range []struct{ name, method, target, body string }{
		{"create", "POST", "/Users", benchCreate},
		{"patch", "PATCH", "/Users/7", benchPatch},
		{"filter", "GET", "/Users?filter=userName+eq+%22ada%22", ""},
		{"members", "PATCH", "/Groups/7", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[{"op":"Remove","path":"members","value":[` +
			strings.TrimSuffix(strings.Repeat(`{"value":"u"},`, 1000), ",") + `]}]}`},
	} {
		way := p
		if bench.name == "members" {
			way = newPure(b, "generic")
		}
		raw, err := readHTTP(bench.method, bench.target, bench.body)
		if err != nil {
			b.Fatal(err)
		}
		req, _, err := transform.Normalize(raw)
		if err != nil {
			b.Fatal(err)
		}
		d := way.rules.Check(req, nil)
		ruling := transform.Ruling{Drop: d.Attributes(policy.Drop), Keep: d.Attributes(policy.Keep)}
		steps := []struct {
			name string
			do   func()
		}{
			{"Normalize", func() { _, _, _ = transform.Normalize(raw) }},
			{"Validate", func() { _ = transform.Validate(req) }},
			{"Check", func() { way.rules.Check(req, nil) }},
			{"For", func() { _, _ = way.shape.For(req, ruling, nil, nil) }},
		}
		for _, step := range steps {
			b.Run(bench.name+"/"+step.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					step.do()
				}
			})
		}
	}
	b.Run("read/Finish+Project", func(b *testing.B) {
		b.ReportAllocs()
		rt := scim.UserType()
		r, err := scim.DecodeObject([]byte(benchCreate))
		if err != nil {
			b.Fatal(err)
		}
		r["id"] = "7"
		for b.Loop() {
			finished, _ := p.shape.Finish(rt, r, &transform.Held{ExternalID: "e"}, "https://gateway.example.com/scim/v2")
			transform.Project(rt, finished, scim.Query{})
		}
	})
}
