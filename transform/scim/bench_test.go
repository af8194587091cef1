package scim

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Entra's create request and the same PATCH in its default dialect.
const (
	entraCreate = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],` +
		`"externalId":"0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef","userName":"Test_User_ab6490ee-1e48-479e-a20b-2d77186b5dd1","active":true,` +
		`"emails":[{"primary":true,"type":"work","value":"Test_User_fd0ea19b-0777-472c-9f96-4f70d2226f2e@testuser.com"}],` +
		`"meta":{"resourceType":"User"},"name":{"formatted":"givenName familyName","familyName":"familyName","givenName":"givenName"},"roles":[]}`
	entraPatch = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` +
		`{"op":"Replace","path":"emails[type eq \"work\"].value","value":"updatedEmail@microsoft.com"},` +
		`{"op":"Replace","path":"name.familyName","value":"updatedFamilyName"},` +
		`{"op":"Add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber","value":"12"},` +
		`{"op":"Replace","path":"active","value":"False"}]}`
)

func BenchmarkDecodeObject(b *testing.B) {
	body := []byte(entraCreate)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := DecodeObject(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	r, err := DecodeObject([]byte(entraCreate))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendJSON(buf[:0], r)
	}
}

func BenchmarkReadRequest(b *testing.B) {
	for _, bench := range []struct{ name, method, target, body string }{
		{"create", http.MethodPost, "/Users", entraCreate},
		{"patch", http.MethodPatch, "/Users/2819c223-7f76-453a-919d-413861904646", entraPatch},
		{"filter", http.MethodGet, "/Users?filter=userName+eq+%22bjensen%40example.com%22", ""},
	} {
		b.Run(bench.name, func(b *testing.B) {
			types := []*ResourceType{UserType(), GroupType()}
			u, err := url.Parse("https://gateway.example/scim/v2" + bench.target)
			if err != nil {
				b.Fatal(err)
			}
			body := strings.NewReader(bench.body)
			r := &http.Request{Method: bench.method, URL: u, Header: http.Header{}, ContentLength: int64(len(bench.body))}
			r.Header.Set("Content-Type", "application/scim+json; charset=utf-8")
			path := strings.TrimPrefix(u.EscapedPath(), "/scim/v2")
			b.ReportAllocs()
			for b.Loop() {
				body.Reset(bench.body)
				r.Body = io.NopCloser(body)
				if _, err := ReadRequest(r, path, types, MaxBody); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkValidate(b *testing.B) {
	rt := UserType()
	r, err := DecodeObject([]byte(entraCreate))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := rt.Validate(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadResponse(b *testing.B) {
	req := &Request{Op: OpGet, Type: UserType(), ID: "1"}
	text := `{"id":"1",` + entraCreate[1:]
	body := strings.NewReader(text)
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: int64(len(text))}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(text)
		res.Body = io.NopCloser(body)
		if _, err := ReadResponse(req, res, MaxBody); err != nil {
			b.Fatal(err)
		}
	}
}
