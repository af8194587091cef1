package transform

import (
	"errors"
	"strings"
	"testing"

	"scimgate/transform/scim"
)

func TestValidate(t *testing.T) {
	const patch = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`
	tests := []struct{ request, want string }{
		{"GET /Users/7", ""},
		{"GET /Users/%2E%2E", `404: User ".." does not exist`},
		{"DELETE /Users/%2e", `404: User "." does not exist`},
		{"PUT /Users/%2e\n\n{}", `404: User "." does not exist`},
		{"PATCH /Users/..\n\n" + patch + `{"op":"remove","path":"title"}]}`, `404: User ".." does not exist`},
		{"POST /Users\n\n" + `{"schemas":"urn:ietf:params:scim:schemas:core:2.0:User","userName":"ada"}`, "400 invalidValue: schemas "},
		{"POST /Users\n\n" + `{"userName":"ada"}`, "400 invalidValue: schemas "},
		{"POST /Users\n\n" + `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"]}`, "400 invalidValue: userName "},
		{"POST /Users\n\n" + `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ada","name":"Ada","name.givenName":"Ada"}`, "400 invalidValue: name "},
		{"POST /Users\n\n" + `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ada","emails":{"value":"w"}}`, "400 invalidValue: emails "},
		{"POST /Users\n\n" + `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":[["ada"]]}`, "400 invalidValue: userName "},
		{"PATCH /Users/7\n\n" + patch + `{"op":"replace","path":"active","value":1}]}`, "400 invalidValue: Operations[0]: active "},
		{"PATCH /Users/7\n\n" + patch + `{"op":"remove","path":"title"},{"op":"add","path":"emails[type eq \"work\"]","value":[{"value":"a"},{"value":"b"}]}]}`, "400 invalidValue: Operations[1]: emails"},
		{"PATCH /Users/7\n\n" + patch + `{"op":"add","path":"emails[type eq \"work\"]","value":"a"}]}`, "400 invalidValue: Operations[0]: emails "},
		{"PATCH /Users/7\n\n" + patch + `{"op":"add","path":"emails[type eq \"work\"].value","value":["a","b"]}]}`, "400 invalidValue: Operations[0]: emails.value "},
		{"PATCH /Users/7\n\n" + patch + `{"op":"replace","path":"meta.created","value":"x"}]}`, ""}, // mutability is for policy to refuse
		{"PATCH /Users/7\n\n" + patch + `{"op":"add","value":{"colour":{"any":"thing"}}}]}`, ""},
		{"GET /Users?filter=active+gt+true", "400 invalidFilter: "},
		{"GET /Users?filter=name+eq+%22x%22", "400 invalidFilter: "},
		{"GET /Users?filter=name+pr", ""},
		{"GET /Users", ""},
	}
	for _, test := range tests {
		req, err := readText([]byte(test.request))
		if err == nil {
			req, _, err = Normalize(req)
		}
		if err == nil {
			err = Validate(req)
		}
		if e, ok := errors.AsType[*scim.Error](err); err != nil && !ok {
			t.Errorf("%s: got %v, want an error for the client", test.request, e)
		}
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: got %v, want no error", test.request, err)
		case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %s...", test.request, err, test.want)
		}
	}
}
