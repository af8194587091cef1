package main

import (
	"bytes"
	"strings"
	"testing"

	"scimgate/config/profile"
	"scimgate/transform/scim"
)

func TestParseMessage(t *testing.T) {
	user := `{"schemas":["` + scim.SchemaUser + `"]}`
	group := `{"schemas":["` + scim.SchemaGroup + `"]}`
	patch := `{"schemas":["` + strings.ToUpper(scim.MessagePatchOp) + `"],"Operations":[]}`
	for _, test := range []struct {
		name, input, method, path string
		want                      string // method, path, query, body; "" for an error
	}{
		{"request line alone", "POST /Users", "", "", "POST /Users||"},
		{"version, headers, CRLF", "PATCH /Users/1 HTTP/1.1\r\nA: b\r\n\r\n{}\r\n", "", "", "PATCH /Users/1||{}"},
		{"blank line forgotten", "POST /Users\nA: b\n{}", "", "", "POST /Users||{}"},
		{"method in lower case", "get /Users", "", "", "GET /Users||"},
		{"query as people write it", `GET /Users?filter=userName eq "a b"&count=1 HTTP/2`, "", "", `GET /Users|filter=userName eq "a b"&count=1|`},
		{"whole URL", "GET https://h.example:8443/scim/v2/Users?count=1", "", "", "GET /scim/v2/Users|count=1|"},
		{"URL in the query", "GET /Users?filter=profileUrl eq \"https://x/y\"", "", "", `GET /Users|filter=profileUrl eq "https://x/y"|`},
		{"byte order mark", "\ufeff\n\nGET /Users", "", "", "GET /Users||"},
		{"user", user, "", "", "POST /Users||" + user},
		{"group", group, "", "", "POST /Groups||" + group},
		{"patch", patch, "", "", "PATCH /Users/{id}||" + patch},
		{"user with PUT", user, "put", "", "PUT /Users/{id}||" + user},
		{"patch of a group", patch, "", "/Groups/1", "PATCH /Groups/1||" + patch},
		{"unknown body with both flags", "{}", "POST", "/Users", "POST /Users||{}"},
		{"broken body with both flags", "{", "POST", "/Users", "POST /Users||{"},
		{"empty with both flags", "", "GET", "/Users", "GET /Users||"},
		{"flags before the text", "GET /Users", "DELETE", "/Users/1", "DELETE /Users/1||"},
		{"empty", "", "", "", ""},
		{"empty with one flag", "", "GET", "", ""},
		{"no request line", "hello", "", "", ""},
		{"no header", "GET /Users\nhello", "", "", ""},
		{"relative path", "GET Users", "", "", ""},
		{"broken body", "{", "", "", ""},
		{"unknown body", "{}", "", "", ""},
		{"array", "[]", "", "", ""},
	} {
		m, err := parseMessage([]byte(test.input), test.method, test.path)
		got := ""
		if err == nil {
			got = m.method + " " + m.path + "|" + m.query + "|" + string(m.body)
		}
		if got != test.want {
			t.Errorf("%s: got %q and %v, want %q", test.name, got, err, test.want)
		}
	}
}

// Whatever is asked, explain has an answer, never writes a password, and prints nothing that cannot be seen.
func FuzzExplain(f *testing.F) {
	f.Add("POST /Users\n\n" + `{"schemas":["` + scim.SchemaUser + `"],"userName":"a\u202eb","password":"hunter2hunter2","name":{"password":"hunter2hunter2"}}`)
	f.Add(`{"schemas":["` + scim.MessagePatchOp + `"],"Operations":[{"op":"Add","path":"Password","value":"hunter2hunter2"},{"op":"replace","value":{"password":"hunter2hunter2","active":"False"}}]}`)
	f.Add(`GET /Users?filter=emails[type eq "work" and value co "x"] or not (title pr)&sortBy=title&attributes=userName`)
	f.Add("PUT /Groups/1\nIf-Match: *\n\n{}")
	f.Add("GET /Schemas/x")
	f.Add(`GET /?filter=members pr or userName eq "x"&sortBy=userName&cursor`)
	f.Add("OPTIONS /Users")
	var doors []*door
	for _, name := range profile.Names() {
		p, err := profile.Load(name)
		if err != nil {
			f.Fatal(err)
		}
		doors = append(doors, bare(p))
	}
	f.Fuzz(func(t *testing.T, input string) {
		m, err := parseMessage([]byte(input), "", "")
		if err != nil {
			return
		}
		for _, d := range doors {
			e, err := d.explain(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			if (e.Refused == nil) == (e.Plan == nil) {
				t.Errorf("got refusal %v and plan %v, want one of them", e.Refused, e.Plan)
			}
			var out bytes.Buffer
			e.print(newScreen(&out, noEnv))
			if err := printJSON(&out, e); err != nil {
				t.Error(err)
			}
			if !printable(strings.ReplaceAll(out.String(), "\n", "")) {
				t.Errorf("got %q, which cannot be seen as it is", out.String())
			}
		}
	})
}

func TestPasswordsAreHidden(t *testing.T) {
	const password = "hunter2hunter2"
	for _, input := range []string{
		"POST /Users\n\n" + `{"schemas":["` + scim.SchemaUser + `"],"userName":"a","password":"` + password + `"}`,
		"POST /Users\n\n" + `{"schemas":["` + scim.SchemaUser + `"],"userName":"a","PassWord":"` + password + `"}`,
		`{"schemas":["` + scim.MessagePatchOp + `"],"Operations":[{"op":"Add","path":"password","value":"` + password + `"}]}`,
		`{"schemas":["` + scim.MessagePatchOp + `"],"Operations":[{"op":"Add","path":"` + scim.SchemaUser + `:password","value":"` + password + `"}]}`,
		`{"schemas":["` + scim.MessagePatchOp + `"],"Operations":[{"op":"Replace","value":{"password":"` + password + `","title":"x"}}]}`,
	} {
		m, err := parseMessage([]byte(input), "", "")
		if err != nil {
			t.Fatal(err)
		}
		p, err := profile.Load("bluejeans")
		if err != nil {
			t.Fatal(err)
		}
		e, err := bare(p).explain(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		e.print(newScreen(&out, noEnv))
		if err := printJSON(&out, e); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), password) || !strings.Contains(out.String(), hidden) {
			t.Errorf("%s\ngot\n%s\nwant %s in the place of the password", input, out.String(), hidden)
		}
	}
}
