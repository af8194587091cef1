package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// clientHeaders are what clients and proxies send, and what they should not.
var clientHeaders = []string{
	"Accept-Language", "Cookie", "Forwarded", "From", "If-Unmodified-Since", "Idempotency-Key", "Origin", "Proxy-Authorization", "Referer", "Traceparent",
	"Tracestate", "User-Agent", "Via", "X-Api-Key", "X-Forwarded-For", "X-Forwarded-Host", "X-Ms-Client-Request-Id", "X-Personal", "X-Real-Ip", "X-Request-Id",
}

// scim sends a request to the gateway with a canary in every header, and looks at the answer if it is an error. Alternately
// named and valued headers are header, which come last.
func (w *canaryWorld) scim(method, target, body string, header ...string) (int, string) {
	w.t.Helper()
	all := map[string]string{"Authorization": "Bearer " + w.secret, "Content-Type": "application/scim+json", "X-" + w.name(): w.name()}
	for _, name := range clientHeaders {
		all[name] = strings.ReplaceAll(w.canary(), "é", "e")
	}
	for pair := range slices.Chunk(header, 2) {
		all[pair[0]] = pair[1]
	}
	status, text := w.request(http.DefaultClient, method, w.app.tenantURL(w.to)+target, body, all)
	if w.statuses[status]++; status >= 400 && w.upstream.Load() == nil { // the upstream's own words are for the client
		w.errors++
		if found := canaryIn(text); found != "" {
			w.t.Errorf("%s %.60s: the error has a canary: %s", method, target, found)
		}
	}
	return status, text
}

// attributes makes a value with canaries for every attribute that a schema shows, but for the public ones. paths gets the
// path of each string in it.
func (w *canaryWorld) attributes(list []any, prefix string, paths *[]string) map[string]any {
	out := map[string]any{}
	for _, one := range list {
		a, _ := one.(map[string]any)
		name, _ := a["name"].(string)
		if prefix == "" && slices.Contains([]string{"userName", "id", "externalId", "active", "schemas", "meta"}, name) {
			continue
		}
		var v any
		switch a["type"] {
		case "complex":
			subs, _ := a["subAttributes"].([]any)
			v = w.attributes(subs, prefix+name+".", paths)
		case "boolean":
			v = true
		case "binary":
			v = base64.StdEncoding.EncodeToString([]byte(w.name()))
		case "reference":
			v = "https://" + w.name() + ".example/"
		default:
			v = w.canary()
			*paths = append(*paths, prefix+name)
		}
		if a["multiValued"] == true {
			v = []any{v}
		}
		out[name] = v
	}
	return out
}

// userBody is the body of a user, beside whose userName are these members.
func userBody(userName string, members string) string {
	return fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":%q,"externalId":%q%s}`, userName, "public-"+userName, members)
}

// everyUser is a user with a canary in every attribute of every schema.
func (w *canaryWorld) everyUser(userName string) (body string, paths []string) {
	w.t.Helper()
	_, text := w.request(http.DefaultClient, "GET", w.app.tenantURL(w.to)+"/Schemas", "", map[string]string{"Authorization": "Bearer " + w.secret})
	var schemas struct {
		Resources []struct {
			ID         string
			Attributes []any
		}
	}
	if err := json.Unmarshal([]byte(text[strings.Index(text, "{"):]), &schemas); err != nil {
		w.t.Fatal(err)
	}
	all := map[string]any{"userName": userName, "externalId": "public-" + userName}
	var urns []string
	for _, s := range schemas.Resources {
		switch {
		case strings.HasSuffix(s.ID, "core:2.0:User"):
			maps.Copy(all, w.attributes(s.Attributes, "", &paths))
		case strings.Contains(s.ID, ":extension:") && strings.HasSuffix(s.ID, ":User"):
			var own []string
			all[s.ID] = w.attributes(s.Attributes, "", &own)
			for _, path := range own {
				paths = append(paths, s.ID+":"+path)
			}
		default:
			continue
		}
		urns = append(urns, s.ID)
	}
	all["schemas"] = urns
	out, err := json.Marshal(all)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(out), paths
}

func patch(operations string) string {
	return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` + operations + `]}`
}

// provision is what a client does to one user, well and badly.
func (w *canaryWorld) provision(userName string) {
	body, paths := w.everyUser(userName)
	status, text := w.scim("POST", "/Users", body)
	id := regexp.MustCompile(`"id":"([^"]+)"`).FindStringSubmatch(text)
	if status != http.StatusCreated || id == nil {
		w.t.Fatalf("create: got %d %s", status, text)
	}
	at := "/Users/" + id[1]
	w.at = at
	body, _ = w.everyUser(userName)
	w.scim("PUT", at, body)
	w.scim("POST", "/Users", body) // 409
	for i, path := range paths {
		w.scim("PATCH", at, patch(fmt.Sprintf(`{"op":"replace","path":%q,"value":%q}`, path, w.canary())))
		switch i % 4 {
		case 0:
			w.scim("PATCH", at, patch(fmt.Sprintf(`{"op":"replace","value":{%q:{"a":%q}}}`, path, w.canary())))
		case 1:
			w.scim("GET", "/Users?filter="+url.QueryEscape(fmt.Sprintf("%s eq %q", path, w.canary())), "")
		case 2:
			w.scim("POST", "/Users", userBody("x", fmt.Sprintf(`,%q:[{"value":{"a":%q}}]`, path, w.canary())))
		}
	}
	w.badly(at, userName)
	// Escaped throughout, as no program of good will does it.
	w.scim("PATCH", at, patch(fmt.Sprintf(`{"op":"replace","path":"title","value":"%s"}`, escaped(w.name()))))
	w.scim("GET", "/Users?filter="+percent(`title eq "`+w.name()+`"`), "")
}

// quoted sends requests that the upstream refuses, which quotes them in its answers, until the circuit opens.
func (w *canaryWorld) quoted() {
	for _, answer := range []string{"400 scim", "404 text", "409 scim", "413 text", "500 scim", "401 scim", "429 scim", "500 text", "503 text"} {
		w.upstream.Store(&answer)
		w.scim("PATCH", w.at, patch(fmt.Sprintf(`{"op":"replace","path":"title","value":%q}`, w.canary())))
		w.scim("POST", "/Users", userBody("bob", fmt.Sprintf(`,"title":%q`, w.canary())))
	}
	w.upstream.Store(nil)
}

// badly sends requests of all kinds that are refused, with canaries in whatever may be quoted.
func (w *canaryWorld) badly(at, userName string) {
	title := func() string { return fmt.Sprintf(`,"title":%q`, w.canary()) }
	for _, r := range [][]string{ // method, target, body, headers
		{"GET", "/Users", "", "Authorization", "Bearer " + w.canary()}, {"GET", "/Users", "", "Authorization", "Basic " + w.canary()},
		{"GET", "/Users", "", "Authorization", w.name()}, {"GET", "/" + w.name(), ""}, {"GET", at + "/" + w.name(), ""}, {w.name(), "/Users", ""},
		{"GET", "/Users?" + w.name() + "=" + w.name(), ""}, {"GET", "/Users?filter=" + w.name(), ""}, {"GET", "/Users?filter=" + url.QueryEscape(w.address()+` eq "x"`), ""},
		{"GET", "/Users?filter=" + url.QueryEscape(`title eq "`+w.name()), ""}, {"GET", "/Users?filter=" + url.QueryEscape(`title `+w.name()+` "x"`), ""},
		{"GET", "/Users?filter=" + url.QueryEscape(`emails[`+w.address()+` eq "x"]`), ""}, {"GET", "/Users?sortBy=" + w.name(), ""},
		{"GET", "/Users?attributes=" + w.name() + "," + w.name(), ""}, {"GET", "/Users?excludedAttributes=" + w.name(), ""}, {"GET", "/Users?startIndex=" + w.name(), ""},
		{"GET", "/Users?count=" + w.name(), ""}, {"GET", "/Users?cursor=" + w.name(), ""}, {"GET", "/Users?sortBy=title&sortOrder=" + w.name(), ""},
		{"POST", "/Users", `{"title":"` + w.name()}, {"POST", "/Users", w.name()}, {"POST", "/Users", `{"userName":{"a":"` + w.name() + `"}}`},
		{"POST", "/Users", userBody("y", fmt.Sprintf(`,"active":%q`, w.canary()))}, {"POST", "/Users", userBody("y", fmt.Sprintf(`,"title":"a","title":%q`, w.canary()))},
		{"POST", "/Users", userBody("y", fmt.Sprintf(`,%q:"x",%[1]q:"y"`, w.address()))}, {"POST", "/Users", userBody("y", fmt.Sprintf(`,"urn:%s:User":{%q:"x"}`, w.address(), w.address()))},
		{"POST", "/Users", userBody("y", fmt.Sprintf(`,"emails":[{"type":%q,"value":%q,%q:"x"}]`, w.canary(), w.canary(), w.address()))},
		{"POST", "/Users", userBody("y", fmt.Sprintf(`,"meta":{"resourceType":%q,"location":%q,"version":%q}`, w.canary(), w.canary(), w.canary()))},
		{"POST", "/Users", fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:%s"],"userName":"z","title":"x"}`, w.address())},
		{"POST", "/Users", `{"schemas":["urn:` + w.name() + `:User"],"userName":"z","title":"x"}`}, {"POST", "/Users", userBody("y", title()), "Content-Type", "text/" + w.name()},
		{"POST", "/Users", userBody("y", title()), "Content-Type", "application/json; charset=" + w.name()}, {"GET", "/Users", "", "Accept", "text/" + w.name()},
		{"POST", "/Users", userBody("y", `,"title":"`+strings.Repeat(w.name(), 30_000)+`"`)}, // 413
		{"POST", "/Users", userBody("y", `,"roles":[`+strings.TrimSuffix(strings.Repeat(`{"value":"`+w.name()+`"},`, 5_000), ",")+`]`)},
		{"POST", "/Users", userBody("y", `,"title":`+strings.Repeat("[", 40)+`"`+w.name()+`"`+strings.Repeat("]", 40))},
		{"PUT", at, userBody(userName, title()), "If-Match", w.canary()}, {"PUT", at, userBody(userName, title()), "If-Match", `W/"` + w.name() + `"`},
		{"PATCH", at, patch(fmt.Sprintf(`{"op":%q,"path":"title","value":"x"}`, w.name()))}, {"PATCH", at, patch(fmt.Sprintf(`{"op":"replace","path":%q,"value":"x"}`, w.address()))},
		{"PATCH", at, patch(fmt.Sprintf(`{"op":"add","path":"emails[type eq %q].value","value":%q}`, w.name(), w.canary()))},
		{"PATCH", at, patch(fmt.Sprintf(`{"op":"replace","path":"emails[value eq %q].type","value":"home"}`, w.name()))},
		{"PATCH", at, patch(fmt.Sprintf(`{"op":"replace","path":"emails[type eq \"%s\"","value":"x"}`, w.name()))}, {"PATCH", at, patch(fmt.Sprintf(`{"op":"remove","path":"emails[%s eq true]"}`, w.address()))},
		{"PATCH", at, patch(fmt.Sprintf(`{"op":"replace","value":{%q:"x","name.%s":"x"}}`, w.address(), w.address()))}, {"PATCH", at, fmt.Sprintf(`{"Operations":%q}`, w.canary())},
		{"PATCH", at, patch(fmt.Sprintf(`{"op":"add","path":"password","value":%q}`, w.canary()))},
		{"POST", "/Users/.search", fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],"filter":"nickName eq \"%s\"",%q:1}`, w.name(), w.name())},
		{"POST", "/Bulk", fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],"Operations":[{"method":"POST","path":"/Users","bulkId":%q,"data":%s},
			{"method":"PATCH","path":"/Users/bulkId:%s","data":%s},{"method":%q,"path":"/%s","bulkId":%q}]}`, w.name(), userBody("bulk-"+userName, title()), w.name(), patch(""), w.name(), w.name(), w.name())},
		{"POST", "/Groups", fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":%q,"members":[{"value":%q,"display":%q}]}`, w.canary(), w.canary(), w.canary())},
	} {
		w.scim(r[0], r[1], r[2], r[3:]...)
	}
}
