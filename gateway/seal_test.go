package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scimgate/conformance/simulator"
	"scimgate/gateway/audit"
)

// shown is how the values of a record stand there, asked, sent and confirmed, for who has the master key.
func (p *harness) shown(rec *audit.Record) string {
	p.t.Helper()
	if err := newSealer(p.t, p.store).Unseal(p.t.Context(), rec, "a test", unrecorded); err != nil {
		p.t.Fatalf("record %d, %s %s: %v", rec.Seq, rec.Kind, rec.Action, err)
	}
	var all []string
	for _, a := range rec.Attributes {
		all = append(all, fmt.Sprintf("%s %s/%s/%s", a.Path, a.Asked, a.Sent, a.Confirmed))
	}
	return strings.Join(all, ", ")
}

// keyOf is the newest key of a user.
func (p *harness) keyOf(id string) string {
	p.t.Helper()
	k, ok, err := p.store.NewestKey(p.t.Context(), audit.Person{Upstream: p.gateway.UpstreamName, ResourceType: "User", ID: id})
	if err != nil || !ok {
		p.t.Fatalf("the key of user %s: %v, %v", id, ok, err)
	}
	return k.ID
}

func TestSealedValues(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	ann := p.create("ann", `"title":"Engineer","password":"t0p-secret"`)
	p.do("PATCH", "/Users/"+ann, patch(`{"op":"replace","path":"title","value":"Doctor"}`))
	p.do("PATCH", "/Users/"+ann, patch(`{"op":"replace","path":"active","value":false}`))
	bob := p.create("bob", `"title":"Nurse"`)
	all := p.trail()
	for i, want := range []string{
		`password [secret]/`, `password [secret]/[secret]/not reported, title "Engineer"/"Engineer"/"Engineer"`,
		`title "Doctor"//`, `title "Doctor"/"Doctor"/"Doctor"`, "", "", `title "Nurse"//`, `title "Nurse"/"Nurse"/"Nurse"`,
	} {
		switch rec := all[i]; {
		case want == "" && (rec.Sealed != "" || rec.SealedKey != ""):
			t.Errorf("record %d: something is sealed although nothing is sensitive", rec.Seq)
		case want != "":
			if got := p.shown(rec); !strings.Contains(got, strings.TrimSuffix(want, "/")) {
				t.Errorf("record %d: got %s, want %s in it", rec.Seq, got, want)
			}
			owner := ann
			if i > 5 {
				owner = bob
			}
			if got, want := rec.SealedKey, p.keyOf(owner); got != want {
				t.Errorf("record %d: sealed under %s, want %s", rec.Seq, got, want)
			}
		}
	}
	// Another connection to the same upstream, with nothing in memory, uses the same key.
	q := p.another(func(cfg *Config) { cfg.Sealer = newSealer(t, cfg.Store) })
	q.do("PATCH", "/Users/"+ann, patch(`{"op":"replace","path":"title","value":"Chief"}`))
	if got, want := p.last().SealedKey, p.keyOf(ann); got != want || got != all[0].SealedKey {
		t.Errorf("sealed under %s, want %s", got, want)
	}
	// What the gateway refuses is sealed as well; nobody owns the key.
	if a := p.do("POST", "/Users", user("ann", `"title":"Again"`)); a.status != 409 {
		t.Fatalf("got %d %s", a.status, a.text)
	}
	if got := p.shown(p.last()); !strings.Contains(got, `title "Again"/`) {
		t.Errorf("got %s", got)
	}
	held, err := p.store.Holdings(t.Context(), "ann")
	if err != nil || len(held) != 2 || held[0].Person.ID != ann || held[0].Records != 4 || held[1].Person.ID != "" || held[1].Records != 2 {
		t.Errorf("got %+v and %+v, %v, want those of the user and of the failed create", held[0], held[len(held)-1], err)
	}
}

// After an erasure the values are gone, the records are what they were, and what is written later has a new key.
func TestErasedValues(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	ann := p.create("ann", `"title":"Engineer"`)
	bob := p.create("bob", `"title":"Nurse"`)
	before := p.trail()
	held, err := p.store.Holdings(t.Context(), ann)
	if err != nil || len(held) != 1 {
		t.Fatalf("got %d holdings and %v, want 1", len(held), err)
	}
	if err := p.store.Erase(t.Context(), &audit.Record{}, held[0].Keys); err != nil {
		t.Fatal(err)
	}
	p.gateway.Sealer.Forget()
	after := p.trail()
	for i, rec := range before {
		if !bytes.Equal(audit.Append(nil, rec), audit.Append(nil, after[i])) {
			t.Errorf("record %d was changed", rec.Seq)
		}
	}
	if err := newSealer(t, p.store).Unseal(t.Context(), after[1], "a test", unrecorded); err == nil {
		t.Error("a value can still be read")
	}
	p.shown(after[3])
	p.keyOf(bob)
	p.do("PATCH", "/Users/"+ann, patch(`{"op":"replace","path":"title","value":"Doctor"}`))
	if got := p.shown(p.last()); !strings.Contains(got, `title "Doctor"/"Doctor"/"Doctor"`) || p.last().SealedKey == held[0].Keys[0] {
		t.Errorf("got %s under %s, want it under a new key", got, p.last().SealedKey)
	}
}

// A create whose answer was lost has its key before its id; the two are brought together when the upstream was asked.
func TestSealedAcrossReconciliation(t *testing.T) {
	for _, rotated := range []bool{false, true} {
		p := newHarness(t, builtin(t, "generic"))
		q := p.dead(true, func(q *harness) { q.do("POST", "/Users", user("ann", `"title":"Engineer"`)) })
		if rotated { // meanwhile the key of the hashes, under which the intent was written, was replaced
			q = q.another(func(cfg *Config) {
				cfg.Redactor = audit.NewRedactor(audit.RedactorConfig{Seal: true, Keys: audit.Keys{bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{9}, 32)}})
			})
		}
		q.reconcile()
		rec := q.last()
		if rec.Kind != audit.Reconciled || rec.Action != audit.Created {
			t.Fatalf("rotated %v: got %s %s %q", rotated, rec.Kind, rec.Action, rec.Error)
		}
		if got := q.shown(rec); !strings.Contains(got, `title /"Engineer"/"Engineer"`) {
			t.Errorf("got %s", got)
		}
		if intent := q.trail()[0]; rec.SealedKey != intent.SealedKey || q.keyOf(rec.Subject.ID) != rec.SealedKey {
			t.Errorf("the intent is sealed under %s, its end under %s", intent.SealedKey, rec.SealedKey)
		}
	}
}

// A person who is written to at every moment of an erasure gets a new key, and no destroyed one comes back.
func TestEraseWhileWrittenTo(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	ann := p.create("ann", `"title":"Engineer"`)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if a := p.do("PATCH", "/Users/"+ann, patch(fmt.Sprintf(`{"op":"replace","path":"title","value":"%d of %d"}`, n, i))); a.status != 200 {
					t.Errorf("got %d %s", a.status, a.text)
				}
			}
		})
	}
	var erased []string
	const want = 4
	for deadline := time.Now().Add(time.Minute); len(erased) < want && time.Now().Before(deadline); {
		held, err := p.store.Holdings(t.Context(), ann)
		if err != nil {
			t.Error(err)
			break
		}
		for _, h := range held {
			erased = append(erased, h.Keys...)
			if err := p.store.Erase(t.Context(), &audit.Record{}, h.Keys); err != nil {
				t.Error(err)
			}
		}
		p.gateway.Sealer.Forget()
	}
	close(stop)
	writers.Wait()
	for _, key := range erased {
		if _, ok, err := p.store.PersonKey(t.Context(), key); ok || err != nil {
			t.Errorf("key %s: got %v, %v, want it gone", key, ok, err)
		}
	}
	p.do("PATCH", "/Users/"+ann, patch(`{"op":"replace","path":"title","value":"Last"}`))
	if got := p.shown(p.last()); !strings.Contains(got, `title "Last"`) || slices.Contains(erased, p.last().SealedKey) {
		t.Errorf("got %s under %s, want it under a new key", got, p.last().SealedKey)
	}
	if len(erased) < want {
		t.Errorf("%d keys were destroyed: the writers do not get new ones", len(erased))
	}
}

// When the key of a lost create was destroyed before the upstream could be asked, what is found then is under a new key, and
// that is the person's.
func TestErasedBeforeReconciliation(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	q := p.dead(true, func(q *harness) { q.do("POST", "/Users", user("ann", `"title":"Engineer"`)) })
	intent := q.trail()[0]
	if err := q.store.Erase(t.Context(), &audit.Record{}, []string{intent.SealedKey}); err != nil {
		t.Fatal(err)
	}
	q.gateway.Sealer.Forget()
	q.reconcile()
	rec := q.last()
	if got := q.shown(rec); !strings.Contains(got, `title /"Engineer"/"Engineer"`) || rec.SealedKey == intent.SealedKey || q.keyOf(rec.Subject.ID) != rec.SealedKey {
		t.Errorf("got %s under %s, want it under the new key of user %s", got, rec.SealedKey, rec.Subject.ID)
	}
	if err := newSealer(t, q.store).Unseal(t.Context(), intent, "a test", unrecorded); !errors.Is(err, audit.ErrErased) {
		t.Errorf("the intent: got %v, want %v", err, audit.ErrErased)
	}
}

// What names nobody could never be erased, and so is not sealed.
func TestNobodysValuesAreNotSealed(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	if a := p.do("POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"Nurses"}`); a.status != 501 {
		t.Fatalf("got %d %s", a.status, a.text)
	}
	rec := p.last()
	if len(rec.Attributes) == 0 || rec.Sealed != "" || rec.SealedKey != "" {
		t.Errorf("got %+v sealed %q", rec.Attributes, rec.Sealed)
	}
	if keys, err := p.store.PersonKeys(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("got %d keys and %v, want none", len(keys), err)
	}
}

// A value that is not sealed leaves no key behind either.
func TestSealingSwitchedOff(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"))
	q := p.another(func(cfg *Config) {
		cfg.Sealer, cfg.Redactor = nil, audit.NewRedactor(audit.RedactorConfig{Keys: audit.Keys{bytes.Repeat([]byte{7}, 32)}, Public: []string{"title"}, Secret: []string{"nickName"}})
	})
	q.create("ann", `"title":"Engineer","nickName":"Annie","displayName":"Ann"`)
	rec := q.last()
	if rec.Sealed != "" || rec.SealedKey != "" {
		t.Error("something is sealed")
	}
	for _, a := range rec.Attributes {
		if want, ok := map[string]string{"title": `"Engineer"`, "nickName": "[secret]"}[a.Path]; ok && a.Asked.String() != want {
			t.Errorf("%s: got %s, want %s", a.Path, a.Asked, want)
		}
	}
	if keys, err := q.store.PersonKeys(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("got %d keys and %v, want none", len(keys), err)
	}
}

// While the disk takes nothing, a key that was made is not taken for one that is kept.
func TestSealedAfterAnUnknownOutcome(t *testing.T) {
	p := newHarness(t, builtin(t, "generic"), quick)
	ann := p.create("ann", "")
	stop := p.sim.Inject(simulator.Fault{Kind: simulator.Hang})
	p.do("PATCH", "/Users/"+ann, patch(`{"op":"replace","path":"title","value":"Doctor"}`))
	stop()
	if rec := p.last(); rec.Kind != audit.Unknown || !strings.Contains(p.shown(rec), `title "Doctor"/"Doctor"`) {
		t.Errorf("got %s %s", rec.Kind, p.shown(rec))
	}
	waitFor(t, "the breaker", func() bool { return p.do("GET", "/Users/"+ann, "").status == 200 })
	p.reconcile()
	if got, want := p.last().SealedKey, p.keyOf(ann); got != want {
		t.Errorf("sealed under %s, want %s", got, want)
	}
}

// noKeys is a store of keys that fails.
type noKeys struct{}

func (noKeys) NewestKey(context.Context, audit.Person) (audit.PersonKey, bool, error) {
	return audit.PersonKey{}, false, errors.New("the disk is gone")
}

func (noKeys) PersonKey(context.Context, string) (audit.PersonKey, bool, error) {
	return audit.PersonKey{}, false, errors.New("the disk is gone")
}

// Without a person's key nothing is sent, and what was refused anyway is recorded with hashes alone.
func TestKeysThatCannotBeRead(t *testing.T) {
	p := newHarness(t, builtin(t, "bluejeans"))
	ann := p.create("ann", "")
	q := p.another(func(cfg *Config) { cfg.Sealer = newSealer(t, noKeys{}) })
	sent := p.calls(func() {
		a := q.do("PATCH", "/Users/"+ann, patch(`{"op":"replace","path":"name.givenName","value":"Ann"}`))
		if a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("got %d %s, want 503", a.status, a.text)
		}
	})
	if rec := q.last(); sent != 0 || rec.Kind != audit.Outcome || rec.Sealed != "" || !strings.Contains(rec.Error, "the disk is gone") {
		t.Errorf("%d requests were sent, and the record is %s %q %q", sent, rec.Kind, rec.Error, rec.Sealed)
	}
	if a := q.do("POST", "/Users", user(strings.Repeat("x", 31), `"name":{"givenName":"Ann"}`)); a.status != 400 {
		t.Errorf("got %d %s, want it refused, under a key of its own", a.status, a.text)
	}
	if rec := q.last(); rec.Sealed == "" {
		t.Error("a create needs no key from the store")
	}
}
