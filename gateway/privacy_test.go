package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/transform/scim"
)

// canaries hands out values that must not be found again.
type canaries struct{ given []string }

func (c *canaries) next() string {
	v := fmt.Sprintf("canary%04dx", len(c.given))
	c.given = append(c.given, v)
	return v
}

// user is a body with a canary for every value that is not public: in the template each * becomes one.
func (c *canaries) user(userName string) string {
	parts := strings.Split(`"displayName":"*","nickName":"*","title":"*","password":"*","timezone":"*","locale":"*","preferredLanguage":"*",
		"profileUrl":"*","userType":"*","custom":{"deep":["*"]},"x-custom":"*",
		"name":{"givenName":"*","familyName":"*","middleName":"*","formatted":"*","honorificPrefix":"*"},
		"emails":[{"type":"work","value":"*@x.example","display":"*"},{"value":"*@x.example"}],"phoneNumbers":[{"type":"work","value":"*"}],
		"addresses":[{"type":"home","streetAddress":"*","locality":"*","formatted":"*"}],"ims":[{"value":"*"}],"roles":[{"value":"*"}],
		"entitlements":[{"value":"*"}],"photos":[{"value":"https://*.example/p.jpg"}],
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"employeeNumber":"*","department":"*","manager":{"value":"*"}}`, "*")
	for i := range parts[1:] {
		parts[i+1] = c.next() + parts[i+1]
	}
	return user(userName, `"externalId":"public",`+strings.Join(parts, ""))
}

// found lists the canaries that occur in a text.
func (c *canaries) found(text string) []string {
	var out []string
	any := strings.Contains(text, "canary")
	for _, v := range c.given {
		if (any || !strings.HasPrefix(v, "canary")) && strings.Contains(text, v) {
			out = append(out, v)
		}
	}
	return out
}

// No personal value and no secret reaches logs, metrics, the trail or what is left of it in files.
func TestPrivacy(t *testing.T) {
	c := &canaries{}
	p := newHarness(t, builtin(t, "bluejeans"), quick)
	upstreamSays := ""
	q := p.through(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		if upstreamSays != "" && req.Method != "GET" {
			body, err := json.Marshal(map[string]any{"schemas": []string{scim.MessageError}, "status": "400", "scimType": "invalidValue", "detail": upstreamSays})
			return &http.Response{
				StatusCode: 400, Header: http.Header{"X-Debug": {upstreamSays}}, Body: io.NopCloser(bytes.NewReader(body)), Request: req,
			}, err
		}
		return next.RoundTrip(req)
	})

	a := p.do("POST", "/Users", c.user("ann"), "X-Personal", c.next(), "Cookie", "session="+c.next())
	if a.status != 201 {
		t.Fatalf("create: got %d %s", a.status, a.text)
	}
	id := a.get("id").(string)
	n := c.next
	p.do("PATCH", "/Users/"+id, patch(fmt.Sprintf(`{"op":"replace","path":"title","value":%q},{"op":"replace","path":"emails[value eq \"%s@x.example\"].type","value":"home"},
		{"op":"remove","path":"phoneNumbers[display eq %q]"},{"op":"add","path":"password","value":%q}`, n(), n(), n(), n())))
	p.do("PATCH", "/Users/"+id, patch(fmt.Sprintf(`{"op":"Remove","path":"emails","value":[{"value":"%s@x.example"}]},{"op":"replace","value":{"title":%q,"name.givenName":%q}}`, n(), n(), n())))
	p.do("PUT", "/Users/"+id, c.user("ann"))
	for _, filter := range []string{`title eq %q`, `emails[value eq %q]`, `userName eq "x" and name.familyName sw %q`, `title eq "%s`, `active eq %q`} {
		p.do("GET", "/Users?filter="+url.QueryEscape(fmt.Sprintf(filter, n())), "")
	}
	// Refused by the gateway, for what it says and what it is.
	for _, body := range []string{
		user(strings.Repeat("x", 31), fmt.Sprintf(`"title":%q`, n())), fmt.Sprintf(`{"title":%q`, n()), fmt.Sprintf(`{"title":%q}`, n()),
		user("y", fmt.Sprintf(`"active":%q`, n())), user("y", fmt.Sprintf(`"name":%q`, n())), user("y", fmt.Sprintf(`"emails":[%q]`, n())),
		user("y", fmt.Sprintf(`"title":{"a":%q}`, n())), user("y", fmt.Sprintf(`"title":"a","title":%q`, n())),
	} {
		if a := p.do("POST", "/Users", body); a.status != 400 {
			t.Errorf("got %d %s, want it refused", a.status, a.text)
		}
	}
	for _, ops := range []string{
		fmt.Sprintf(`{"op":"replace","path":"emails[value eq \"%s\"","value":"x"}`, n()), fmt.Sprintf(`{"op":"replace","path":"active","value":%q}`, n()),
		fmt.Sprintf(`{"op":%q,"path":"title","value":"x"}`, n()), fmt.Sprintf(`{"op":"replace","path":"groups","value":[{"value":%q}]}`, n()),
		fmt.Sprintf(`{"op":"replace","path":"emails[shoe eq %q].value","value":"x"}`, n()), fmt.Sprintf(`{"op":"replace","path":"emails[value eq %q].value","value":"x"}`, n()),
	} {
		if a := p.do("PATCH", "/Users/"+id, patch(ops)); a.status != 400 {
			t.Errorf("%s: got %d %s, want it refused", ops, a.status, a.text)
		}
	}
	p.do("GET", "/Users", "", "Authorization", "Bearer "+n())
	p.do("GET", "/Users?"+n()+"="+n(), "")
	// Refused by the upstream, which quotes it.
	upstreamSays = n()
	a = q.do("POST", "/Users", c.user("bob"))
	if a.status != 400 || !strings.Contains(a.detail(), upstreamSays) {
		t.Errorf("got %d %s, want the upstream's words for the client", a.status, a.text)
	}
	q.do("PATCH", "/Users/"+id, patch(fmt.Sprintf(`{"op":"replace","path":"title","value":%q}`, n())))
	// Left open, and then reconciled.
	stop := p.sim.Inject(simulator.Fault{Kind: simulator.Hang})
	p.do("PATCH", "/Users/"+id, patch(fmt.Sprintf(`{"op":"replace","path":"title","value":%q},{"op":"replace","path":"password","value":%q}`, n(), n())))
	if p.last().Kind != audit.Unknown {
		t.Fatalf("got %s, want unknown", p.last().Kind)
	}
	p.leaks(c, "with an open intent")
	stop()
	waitFor(t, "the breaker", func() bool { return p.do("GET", "/Users/"+id, "").status == 200 })
	p.reconcile()
	p.do("DELETE", "/Users/"+id, "")
	if len(c.given) < 100 {
		t.Errorf("got %d canaries, want at least 100", len(c.given))
	}
	p.leaks(c, "in the end")
	if err := p.store.Close(); err != nil {
		t.Fatal(err)
	}
	p.leaks(c, "after the store was closed")
}

// leaks looks for canaries and tokens wherever they must not be.
func (p *harness) leaks(c *canaries, when string) {
	p.t.Helper()
	secrets := canaries{given: append(slices.Clone(c.given), testToken, upstreamToken)}
	places := map[string]string{"the logs": p.logs.String()}
	w := httptest.NewRecorder()
	NewAdmin(AdminConfig{Store: p.store, Metrics: p.metrics, Gateways: []*Gateway{p.gateway}}).ServeHTTP(w, httptest.NewRequestWithContext(p.t.Context(), "GET", "http://localhost/metrics", nil))
	places["the metrics"] = w.Body.String()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		b, err := os.ReadFile(p.database + suffix)
		if err != nil && suffix == "" {
			p.t.Fatal(err)
		}
		places["the database's file "+suffix] = string(b)
	}
	for place, text := range places {
		if found := secrets.found(text); len(found) > 0 {
			at := strings.Index(text, found[0])
			p.t.Errorf("%s, %s: %d canaries, such as %q in %q", when, place, len(found), found, strings.Trim(text[max(0, at-300):min(len(text), at+100)], "\x00"))
		}
	}
}

// What the gateway keeps for the upstream is in its database, and goes with the resource.
func TestKeptValuesGo(t *testing.T) {
	c := &canaries{}
	p := newHarness(t, tailored(t, "bluejeans", keepsAll, ""))
	var ids []string
	for i := range 20 {
		a := p.do("POST", "/Users", c.user(fmt.Sprintf("user%d", i)))
		if a.status != 201 {
			t.Fatalf("got %d %s", a.status, a.text)
		}
		ids = append(ids, a.get("id").(string))
	}
	for _, id := range ids {
		p.do("DELETE", "/Users/"+id, "")
	}
	if err := p.store.Close(); err != nil {
		t.Fatal(err)
	}
	p.leaks(c, "after all users were deleted and the store was closed")
}
