//go:build unix && !race

package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"scimgate/config/profile"
)

// FuzzDoor sends whatever can be a request through the door, store and simulator included. It holds for all of them
// that nothing panics, that the answer is SCIM and in the trail, that what is refused has sent no write upstream, that
// the cost stays within bounds, and that the next request is served.
func FuzzDoor(f *testing.F) {
	const largestSeed = 8 << 10
	for _, e := range corpus(f) {
		if m := e.message(f, "1000001"); len(m.target)+len(m.body) < largestSeed {
			f.Add(byte(0), m.method, m.target, m.body, strings.Join(m.header, "\n"))
		}
	}
	for i, m := range []message{
		{method: "GET", target: `/Users?filter=userName%20eq%20%22known%22%20and%20emails[type%20eq%20%22work%22]&sortBy=name.givenName&count=1`},
		{method: "GET", target: `/Users/1000001?attributes=userName,emails.value&excludedAttributes=`, header: []string{"If-None-Match", `W/"a", *`}},
		{method: "POST", target: "/Users", body: strings.Replace(userHead, "NEW", "ann", 1) + `"externalId":"e","active":"True","manager":"1","emails":[{"type":"work","value":"a@x.io","primary":true}]}`},
		{method: "PUT", target: "/Users/1000001", body: strings.Replace(userHead, "NEW", "known", 1) + `"name":{"givenName":"K"},"roles":[{"value":"r","display":"R"}],"x":[[{}]]}`},
		{method: "PATCH", target: "/Users/1000001", body: patchHead + `{"op":"Add","path":"emails[type eq \"work\"].value","value":"w"},{"op":"Replace","value":{"name.familyName":"F","nickName":null}},{"op":"Remove","path":"roles","value":[{"value":"r"}]}]}`},
		{method: "DELETE", target: "/Users/1000001", header: []string{"If-Match", `W/"a"`}},
		{method: "GET", target: "/Schemas"}, {method: "GET", target: "/Groups?filter=displayName%20eq%20%22g%22"},
	} {
		f.Add(byte(i), m.method, m.target, m.body, strings.Join(m.header, "\n"))
	}
	worlds := []*bare{
		newBare(f, tailored(f, "bluejeans", aliased, "")), newBare(f, tailored(f, "bluejeans", keepsAll, profile.UpdateSingle)),
		newBare(f, tailored(f, "generic", "", profile.UpdatePut)),
	}
	f.Fuzz(func(t *testing.T, world byte, method, target, body, header string) {
		b := worlds[int(world)%len(worlds)]
		b.tb = t
		b.again(1)
		known := b.put("known", "1000001")
		m := message{method: method, target: target, body: body, header: strings.Split(header, "\n")}
		if target != "" && target[0] != '/' && target[0] != '?' {
			t.Skip("not below the base path")
		}
		if _, ok := m.request(); !ok {
			t.Skip("no request")
		}
		(&probe{b: b, what: fmt.Sprintf("%s %.200q", method, target), make: func() message { return m }}).holds()
		if w := b.ask(message{method: "GET", target: "/Users/" + known}); w.Code != http.StatusOK && w.Code != http.StatusNotFound {
			t.Errorf("afterwards: got %d %s, want the user, or that somebody deleted it", w.Code, w.Body)
		}
	})
}
