package gateway

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"scimgate/config/profile"
	"scimgate/config/secret"
	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
	"scimgate/gateway/store"
	"scimgate/gateway/upstream"
	"scimgate/transform/scim"
)

// ways are the ways to store an attribute, each a list of paths.
var ways = map[string][][]string{
	"name":             {{"name"}, {"name.givenName"}, {"name.givenName", "name.familyName"}, {"name.formatted"}},
	"emails":           {{"emails"}, {"emails.value"}, {"emails.value", "emails.type"}, {work("emails", "value")}, {work("emails", "value"), home("emails", "value")}, {work("emails", "value"), work("emails", "primary")}},
	"phoneNumbers":     {{"phoneNumbers"}, {work("phoneNumbers", "value")}, {"phoneNumbers.value", "phoneNumbers.primary"}},
	"addresses":        {{"addresses"}, {work("addresses", "formatted")}, {work("addresses", "locality"), home("addresses", "locality")}},
	"ims":              {{"ims"}},
	"photos":           {{"photos"}, {"photos.value"}},
	"roles":            {{"roles"}, {"roles.value"}},
	"x509Certificates": {{"x509Certificates"}},
	"manager":          {{enterpriseURN + ":manager"}, {enterpriseURN + ":manager.value"}, {enterpriseURN + ":manager|form: value"}},
}

func work(attribute, sub string) string { return attribute + `[type eq "work"].` + sub }
func home(attribute, sub string) string { return attribute + `[type eq "home"].` + sub }

var filterOperators = []string{"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le", "pr"}

// someProfile draws an upstream: what it stores, what becomes of the rest, and which filters it can evaluate. The
// result is the text of a profile.
func someProfile(r *rand.Rand, mode profile.UpdateMode) string {
	var b strings.Builder
	yes := func(n int) bool { return r.IntN(n) == 0 }
	extended, complete, all := !yes(5), yes(4), yes(3)
	lack := oneOf(r, "keep", "keep", "drop", "drop", "drop", "refuse")
	fmt.Fprintf(&b, "name: random\nresources:\n- name: User\n  endpoint: /Users\n")
	if extended {
		fmt.Fprintf(&b, "  extensions: [%s]\n", enterpriseURN)
	}
	if complete {
		fmt.Fprintf(&b, "  complete: true\n")
	} else {
		fmt.Fprintf(&b, "  unlisted: %s\n", oneOf(r, "keep", "drop", lack))
	}
	b.WriteString("  attributes:\n")
	list := func(path, more string) {
		fmt.Fprintf(&b, "  - path: '%s'\n", path)
		if more != "" {
			fmt.Fprintf(&b, "    %s\n", more)
		}
	}
	stored := func(path, more string) {
		var ops []string
		if !all && !yes(4) {
			for _, op := range filterOperators {
				if op == "eq" && !yes(4) || yes(2) {
					ops = append(ops, op)
				}
			}
		}
		if ops != nil {
			path += "'\n    filter: [" + strings.Join(ops, ", ") + "] #'"
		}
		list(path, more)
	}
	naming := ""
	if yes(2) {
		naming = oneOf(r, "{maxLength: 20, onViolation: alias}", "{forbidden: '@', onViolation: alias}", "{maxLength: 17, forbidden: '@+', onViolation: alias}")
		naming = strings.ReplaceAll(strings.Trim(naming, "{}"), ", ", "\n    ")
	}
	stored("userName", naming)
	for _, a := range userAttributes {
		if slices.Contains([]string{"schemas", "id", "meta", "userName", "groups"}, a.name) || a.urn != "" && !extended && complete {
			continue
		}
		paths := []string{strings.TrimPrefix(a.urn+":"+a.name, ":")}
		switch roll := r.IntN(10); {
		case complete && roll < 6, a.urn != "" && !extended:
		case complete, roll < 6:
			if some := ways[a.name]; some != nil {
				paths = oneOf(r, some...)
			}
			for _, path := range paths {
				path, more, _ := strings.Cut(path, "|")
				stored(path, more)
			}
		case roll < 9:
			list(paths[0], "handling: "+oneOf(r, "keep", "drop", lack))
		}
	}
	if complete && yes(2) {
		b.WriteString("- {name: Group, endpoint: /Groups, complete: true}\n")
	}
	if all {
		b.WriteString("filter: {all: true}\n")
	} else {
		fmt.Fprintf(&b, "filter: {and: %v, or: %v, not: %v, valuePath: %v}\n", yes(2), yes(2), yes(2), yes(2))
	}
	fmt.Fprintf(&b, "update: {mode: %s, readBack: %v}\npaging: {pageSize: %d}\n", mode, yes(3), oneOf(r, 1, 7, 100))
	fmt.Fprintf(&b, "etag: %v\nprojection: %v\nsort: %v\n", yes(2), yes(2), yes(2))
	return b.String()
}

// world is one gateway over one upstream, both without a network. What happens in it follows from its seed.
type world struct {
	rand    *rand.Rand
	text    string // of the profile
	profile *profile.Profile
	sim     *simulator.Simulator
	gateway *Gateway
	door    http.Handler
	close   func()
	calls   atomic.Int64 // that reached the upstream
	asked   int          // of the gateway
	request string       // the last one's id
	behinds int          // changes behind its back
	changes int          // changes through it that were accepted
	former  []string     // userNames that somebody has or had, upstream or as the gateway shows them
	recent  []condition  // what was asked lately
	untidy  bool         // the upstream has values of other types than the schema says
	shown   []map[string]any
}

// RoundTrip is the way from the gateway to the upstream.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.calls.Add(1)
	answer := httptest.NewRecorder()
	w.sim.ServeHTTP(answer, r)
	return answer.Result(), nil
}

// ground is what worlds may share.
type ground struct {
	store   *store.Store
	metrics *Metrics
}

func newGround(t *testing.T) ground {
	t.Helper()
	percent := debug.SetGCPercent(400) // what worlds are made of does not last
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	st, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "trail.db"), CommitTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return ground{st, NewMetrics(st)}
}

// newWorld makes a world whose upstream has a profile. name tells worlds on one ground apart.
func newWorld(g ground, name, text string, r *rand.Rand, assume simulator.Assumptions) (*world, error) {
	p, err := profile.Parse("random.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	w := &world{rand: r, text: text, profile: p}
	clock := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w.sim, err = simulator.New(simulator.Config{
		Profile: p, Tokens: []string{upstreamToken}, URL: "http://upstream.example/v2/scim", Assume: assume, LedgerSize: 16, Seed: r.Uint64(),
		Clock: func() time.Time { clock = clock.Add(1234567 * time.Microsecond); return clock },
	})
	if err != nil {
		return nil, err
	}
	up, err := upstream.New(upstream.Config{
		BaseURL: "http://upstream.example/v2/scim", Profile: p, Token: secret.Literal(upstreamToken), Transport: w,
		Timeout: time.Minute, Deadline: time.Minute,
	})
	if err != nil {
		return nil, err
	}
	w.close = func() { up.Close(); w.sim.Close() }
	w.gateway, err = New(Config{
		Name: "test", Profile: p, Upstream: up, UpstreamName: name, Store: g.store,
		Redactor: audit.NewRedactor(audit.RedactorConfig{Keys: audit.Keys{bytes.Repeat([]byte{7}, 32)}}), Metrics: g.metrics, Logger: slog.New(slog.DiscardHandler),
		IntentWait: time.Minute, Deadline: time.Minute, // a busy machine is no reason to fail
	})
	if err != nil {
		w.close()
		return nil, err
	}
	w.door = NewDoor(DoorConfig{Logger: w.gateway.Logger, Connections: []DoorConnection{
		{Path: "/scim/v2", Gateway: w.gateway, Tokens: []Token{{Name: "entra", SHA256: sha256.Sum256([]byte(testToken))}}},
	}})
	return w, nil
}

// do sends a request through the door.
func (w *world) do(method, target string, body any) (int, map[string]any) {
	w.asked++
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			panic(err) // what tests make of maps, lists and texts can be written
		}
		content = bytes.NewReader(raw)
	}
	r := httptest.NewRequest(method, "http://gateway.example/scim/v2"+target, content)
	r.Header.Set("Authorization", "Bearer "+testToken)
	answer := httptest.NewRecorder()
	w.door.ServeHTTP(answer, r)
	w.request = answer.Header().Get("X-Request-Id")
	var object map[string]any
	if answer.Body.Len() > 0 {
		if err := json.Unmarshal(answer.Body.Bytes(), &object); err != nil {
			return answer.Code, map[string]any{"not JSON": answer.Body.String()}
		}
	}
	return answer.Code, object
}

// The names of users. Those that are long, or have a @ or a +, need an alias under some profiles.
var (
	plainNames = []string{"ann", "Bob", "cid", "dora", "Édith", "sk.miller", "o'malley", "zz top", "back\\slash", "\"q\"", "日本"}
	oddNames   = []string{
		"maximiliana.featherstonehaugh", "Bartholomew.Cholmondeley@contoso.example", "bartholomew.cholmondeley@contoso.test",
		"kim@contoso.example", "a+b", "sam@x", "jean-baptiste.grenouille.de.paris",
	}
)

// person draws a user, without what nobody but the service provider sets.
func (w *world) person(userName string) map[string]any {
	g := chooser{Rand: w.rand}
	user := map[string]any{"schemas": []any{coreURN}, "userName": userName}
	extension := map[string]any{}
	for _, a := range userAttributes {
		holder := user
		if a.urn != "" {
			holder = extension
		}
		switch {
		case slices.Contains([]string{"schemas", "id", "meta", "userName", "groups"}, a.name) || g.oneIn(2):
		case a.several:
			if list := g.elements(a); len(list) > 0 {
				holder[a.name] = list
			}
		case a.kind == complexKind:
			m := map[string]any{}
			for _, sub := range sortedKeys(a.subs) {
				if g.oneIn(2) && !(a.name == "manager" && sub == "displayName") {
					m[sub] = g.word()
				}
			}
			if a.name == "manager" {
				m["value"] = g.word()
			}
			if len(m) > 0 {
				holder[a.name] = m
			}
		case a.kind == boolean:
			holder[a.name] = g.oneIn(2)
		default:
			holder[a.name] = g.word()
		}
	}
	if len(extension) > 0 {
		user[enterpriseURN] = extension
		user["schemas"] = []any{coreURN, enterpriseURN}
	}
	return user
}

// elements draws values of a multi-valued attribute: of different types, one at most primary, no two alike.
func (g *chooser) elements(a attribute) []any {
	var list []any
	primary := g.IntN(5)
	for i, label := range []string{"work", "home", "Other"} {
		if !g.oneIn(2) {
			continue
		}
		e := map[string]any{}
		if !g.oneIn(6) {
			e["type"] = label
		}
		for _, sub := range sortedKeys(a.subs) {
			switch {
			case sub == "type":
			case sub == "primary":
				if i == primary {
					e[sub] = true
				} else if g.oneIn(5) {
					e[sub] = false
				}
			case a.subs[sub] == binaryText:
				e[sub] = []string{"", "AAAA", "BBBB"}[i] + g.certificate()
			case sub == "value":
				e[sub] = g.word() + []string{"", "1", "2"}[i]
			case g.oneIn(2):
				e[sub] = g.word()
			}
		}
		if len(e) > 0 {
			list = append(list, e)
		}
	}
	return list
}

func sortedKeys(m map[string]kind) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// mess gives a user values that no schema allows, in an untidy world.
func (w *world) mess(user map[string]any) map[string]any {
	odd := map[string][]any{
		"title": {json.Number("5"), json.Number("-1.5e3"), "", true}, "active": {"True", json.Number("1")}, "displayName": {[]any{"a", "b"}, map[string]any{"value": "a"}},
		"emails": {map[string]any{"value": "a", "type": "work"}, []any{"a", json.Number("5")}, "a", []any{map[string]any{"value": json.Number("5")}}},
		"name":   {"a", []any{map[string]any{"givenName": "a"}}}, "roles": {[]any{map[string]any{"value": []any{"a"}, "primary": "true"}}},
		enterpriseURN: {"a", map[string]any{"manager": []any{map[string]any{"value": "a"}}}, map[string]any{"manager": json.Number("5")}},
	}
	if strings.Contains(w.text, "form: value") { // the gateway reads a number there as text; how such an upstream compares it, nobody knows
		odd[enterpriseURN] = odd[enterpriseURN][:2]
	}
	for _, name := range slices.Sorted(maps.Keys(odd)) {
		if w.untidy && w.rand.IntN(4) == 0 {
			user[name] = oneOf(w.rand, odd[name]...)
		}
	}
	return user
}

// gather puts users into a group behind the gateway's back, where the upstream has groups.
func (w *world) gather(display string) error {
	members := []any{}
	for _, r := range w.sim.Resources("User") {
		if w.rand.IntN(2) == 0 {
			members = append(members, map[string]any{"value": r.ID(), "type": "User"})
		}
	}
	if w.profile.Resource("Group") == nil || len(members) == 0 {
		return nil
	}
	_, err := w.sim.Put("Group", scim.Resource{"displayName": display, "members": members})
	return err
}

// freeName draws a userName that the upstream would take and that nobody has there; "" when there is none. Names
// that somebody had before are among them, stand-ins too: a user may be made again by hand.
func (w *world) freeName() string {
	taken := map[string]bool{}
	for _, r := range w.sim.Resources("User") {
		taken[lower(r.UserName())] = true
	}
	pool := slices.Concat(plainNames, oddNames, w.former)
	for n := range len(taken) {
		pool = append(pool, fmt.Sprintf("user%d", n))
	}
	limit := w.profile.Resource("User").Attributes[0]
	for range 30 {
		name := oneOf(w.rand, pool...)
		if len(w.former) > 0 && w.rand.IntN(2) == 0 {
			name = oneOf(w.rand, w.former...)
		}
		long := limit.MaxLength > 0 && len([]rune(name)) > limit.MaxLength || strings.ContainsAny(name, limit.Forbidden)
		if !taken[lower(name)] && !long {
			return name
		}
	}
	return ""
}

// behind changes a user behind the gateway's back, or makes or removes one.
func (w *world) behind() error {
	w.behinds++
	users := w.sim.Resources("User")
	roll := w.rand.IntN(4)
	if len(users) == 0 {
		roll = 0
	}
	name := w.freeName()
	if name == "" {
		roll = 3
	}
	switch roll {
	case 0:
		if w.rand.IntN(8) == 0 {
			return w.gather(oneOf(w.rand, words...))
		}
		_, err := w.sim.Put("User", w.mess(w.person(name)))
		return err
	case 1:
		who := oneOf(w.rand, users...)
		for _, r := range users { // rather one whose name upstream is a stand-in
			if shown := w.user(r.ID()); shown != nil && shown["userName"] != r.UserName() && w.rand.IntN(2) == 0 {
				who = r
			}
		}
		w.sim.Rename(who.ID(), name)
	case 2:
		old := oneOf(w.rand, users...)
		again := w.person(cmp.Or(name, old.UserName()))
		if w.rand.IntN(2) == 0 {
			again["userName"] = old.UserName()
		}
		again["id"] = old.ID()
		_, err := w.sim.Put("User", w.mess(again))
		return err
	default:
		if len(users) > 0 {
			w.sim.Remove("User", oneOf(w.rand, users...).ID())
		}
	}
	return nil
}

// change lets the client change something. The gateway may refuse it, but has to know why.
func (w *world) change() error {
	name := oneOf(w.rand, oneOf(w.rand, plainNames, oddNames, oddNames)...)
	id := ""
	if len(w.shown) > 0 {
		id, _ = oneOf(w.rand, w.shown...)["id"].(string)
	}
	method, target, body := "POST", "/Users", any(w.person(name))
	if roll := w.rand.IntN(6); id != "" && roll > 1 {
		target += "/" + id
		switch roll {
		case 2:
			method = "PUT"
		case 3:
			method, body = "DELETE", nil
		default:
			method, body = "PATCH", map[string]any{
				"schemas": []any{scim.MessagePatchOp}, "Operations": []any{w.operation(name)},
			}
		}
	}
	status, answer := w.do(method, target, body)
	if status < 300 {
		w.changes++
	}
	if status >= 500 && status != http.StatusNotImplemented {
		sent, _ := json.Marshal(body)
		return fmt.Errorf("%s %s %s: got %d %v", method, target, sent, status, answer)
	}
	return nil
}

func (w *world) operation(name string) map[string]any {
	g := chooser{Rand: w.rand}
	return oneOf(w.rand,
		map[string]any{"op": "replace", "path": "userName", "value": name},
		map[string]any{"op": "Replace", "path": "title", "value": g.word()},
		map[string]any{"op": "add", "path": "externalId", "value": g.word()},
		map[string]any{"op": "Add", "path": `emails[type eq "work"].value`, "value": g.word()},
		map[string]any{"op": "add", "path": `emails[type eq "home"].display`, "value": g.word()},
		map[string]any{"op": "remove", "path": "name.givenName"},
		map[string]any{"op": "replace", "value": map[string]any{"active": "False", "name.formatted": g.word(), enterpriseURN + ":department": g.word()}},
		map[string]any{"op": "add", "path": "manager", "value": g.word()},
		map[string]any{"op": "remove", "path": `emails[type eq "home"]`},
	)
}

// look reads all users as the gateway shows them now, and checks that they are those that the upstream has.
func (w *world) look() error {
	w.shown = nil
	for start := 1; ; {
		status, answer := w.do("GET", fmt.Sprintf("/Users?startIndex=%d&count=100", start), nil)
		list, _ := answer["Resources"].([]any)
		total, _ := answer["totalResults"].(float64)
		if status != 200 {
			return fmt.Errorf("list: got %d %v", status, answer)
		}
		for _, r := range list {
			w.shown = append(w.shown, r.(map[string]any))
		}
		if start += len(list); start > int(total) || len(list) == 0 {
			break
		}
	}
	var got, want []string
	for _, r := range w.shown {
		id, _ := r["id"].(string)
		name, _ := r["userName"].(string)
		got, w.former = append(got, id), append(w.former, name)
	}
	for _, r := range w.sim.Resources("User") {
		want, w.former = append(want, r.ID()), append(w.former, r.UserName())
	}
	slices.Sort(w.former)
	w.former = slices.Compact(w.former)
	if !slices.Equal(got, want) {
		return fmt.Errorf("list: got %v, want what the upstream has, %v", got, want)
	}
	if len(w.shown) > 0 {
		r := oneOf(w.rand, w.shown...)
		if status, one := w.do("GET", "/Users/"+r["id"].(string), nil); status != 200 || asJSON(one) != asJSON(r) {
			return fmt.Errorf("GET: got %d %s, want as in the list %s", status, asJSON(one), asJSON(r))
		}
	}
	return nil
}

func asJSON(v any) string {
	raw, _ := json.Marshal(v)
	return string(raw)
}
