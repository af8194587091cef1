package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// keyShelf is a KeyStore in memory, filled from what records bring.
type keyShelf struct {
	mu      sync.Mutex
	keys    map[string]PersonKey
	owners  map[Person]string // the newest
	lookups int
}

func newKeyShelf() *keyShelf {
	return &keyShelf{keys: map[string]PersonKey{}, owners: map[Person]string{}}
}

func (s *keyShelf) take(c *KeyChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == nil {
		return
	}
	if c.Put != nil {
		s.keys[c.ID] = *c.Put
	}
	if c.Owner.ID != "" {
		s.owners[c.Owner] = max(s.owners[c.Owner], c.ID)
	}
}

func (s *keyShelf) NewestKey(_ context.Context, p Person) (PersonKey, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookups++
	k, ok := s.keys[s.owners[p]]
	return k, ok, nil
}

func (s *keyShelf) PersonKey(_ context.Context, id string) (PersonKey, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys[id]
	return k, ok, nil
}

func mustSealer(t testing.TB, masters Keys, shelf *keyShelf) *Sealer {
	t.Helper()
	s, err := NewSealer(masters, shelf)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// unrecorded takes the event that values were shown, and keeps nothing.
func unrecorded(context.Context, *Record) error { return nil }

// sealable is a record with every kind of value, each where asked, sent and confirmed agree or differ.
func sealable(r *Redactor) *Record {
	return &Record{V: 1, Kind: Outcome, RequestID: "r-1", Attributes: []Attribute{
		{Path: "userName", Asked: r.Value("userName", "ann")},
		{Path: "title", Asked: r.Value("title", "Engineer <&> \"x\""), Sent: r.Value("title", "Engineer <&> \"x\""), Confirmed: r.Value("title", "Doctor")},
		{Path: "name.givenName", Asked: r.Value("name.givenName", "Ann"), Confirmed: NotReported()},
		{Path: "nickName", Asked: r.Value("nickName", "Ann"), Sent: Absent()},
		{Path: "password", Asked: r.Value("password", "t0p")},
		{Path: "x", Asked: r.Value("x", map[string]any{"Deep": []any{json.Number("1.50"), true, nil}}), Sent: r.Value("x", 7.0), Confirmed: r.Value("x", false)},
	}}
}

func TestSealAndUnseal(t *testing.T) {
	shelf := newKeyShelf()
	s := mustSealer(t, Keys{testKey}, shelf)
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}, Seal: true})
	k, err := s.New()
	if err != nil {
		t.Fatal(err)
	}
	rec := sealable(r)
	k.Seal(rec)
	if rec.Key == nil || rec.Key.Put == nil || rec.Key.ID != rec.SealedKey || rec.Key.Owner.ID != "" || len(rec.SealedKey) != 28 {
		t.Fatalf("got %+v, want the key beside the record", rec.Key)
	}
	shelf.take(rec.Key)
	line := Append(nil, rec)
	for _, plain := range []string{"Engineer", "Ann", "Deep", "t0p", "Doctor"} {
		if bytes.Contains(bytes.Replace(line, []byte(rec.Sealed), nil, 1), []byte(plain)) { // three letters may stand in the box by chance
			t.Errorf("%q shows in %s", plain, line)
		}
	}

	if box, err := base64.StdEncoding.DecodeString(rec.Sealed); err != nil || bytes.Contains(box, []byte("Engineer")) {
		t.Errorf("the box holds %q, %v", box, err)
	}

	back, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unseal(t.Context(), back, "ann", unrecorded); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range back.Attributes {
		got = append(got, fmt.Sprintf("%s|%s|%s", a.Asked, a.Sent, a.Confirmed))
	}
	want := []string{`"ann"||`, `"Engineer <&> \"x\""|"Engineer <&> \"x\""|"Doctor"`, `"Ann"||not reported`, `"Ann"|absent|`, `[secret]||`, `{"Deep":[1.50,true,null]}|7|false`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if again := Append(nil, back); !bytes.Equal(again, line) {
		t.Errorf("unsealing changed the record: %s", again)
	}
	delete(shelf.keys, rec.SealedKey)
	if err := s.Unseal(t.Context(), back, "ann", unrecorded); !errors.Is(err, ErrErased) {
		t.Errorf("got %v without the key, want %v", err, ErrErased)
	}
}

func TestUnsealRefuses(t *testing.T) {
	shelf := newKeyShelf()
	s := mustSealer(t, Keys{testKey}, shelf)
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}, Seal: true})
	k, err := s.New()
	if err != nil {
		t.Fatal(err)
	}
	rec, other := sealable(r), sealable(r)
	k.Seal(rec)
	other.RequestID = "r-3"
	k.Seal(other)
	shelf.take(rec.Key)
	for _, tt := range []struct {
		name   string
		sealer *Sealer
		change func(*Record)
		want   string
	}{
		{"nothing sealed", s, func(r *Record) { r.Sealed = "" }, "no sealed values"},
		{"of another request", s, func(r *Record) { r.RequestID = "r-2" }, "not as it was written"},
		{"about another person", s, func(r *Record) { r.Subject.ID = "2" }, "not as it was written"},
		{"under another name", s, func(r *Record) { r.Subject.UserName = "bob" }, "not as it was written"},
		{"at another attribute", s, func(r *Record) {
			r.Attributes[2].Path, r.Attributes[3].Path = r.Attributes[3].Path, r.Attributes[2].Path
		}, "not as it was written"},
		{"at another step", s, func(r *Record) {
			r.Attributes[1].Sent, r.Attributes[1].Confirmed = r.Attributes[1].Confirmed, r.Attributes[1].Sent
		}, "not as it was written"},
		{"another value", s, func(r *Record) { r.Attributes[2].Asked = r.Attributes[3].Asked }, "not as it was written"},
		{"one attribute less", s, func(r *Record) { r.Attributes = r.Attributes[:4] }, "not as it was written"},
		{"of another record of the person", s, func(r *Record) { r.Sealed = other.Sealed }, "not as it was written"},
		{"of another kind", s, func(r *Record) { r.Kind = Intent }, "not as it was written"},
		{"no base64", s, func(r *Record) { r.Sealed = "%" }, "not as it was written"},
		{"cut", s, func(r *Record) { r.Sealed = r.Sealed[:8] }, "not as it was written"},
		{"under no key", s, func(r *Record) { r.SealedKey = "00" }, "gone for ever"},
		{"without the master key", mustSealer(t, Keys{bytes.Repeat([]byte{1}, 32)}, shelf), func(*Record) {}, "another master key"},
	} {
		changed := *rec
		changed.Attributes = slices.Clone(rec.Attributes)
		tt.change(&changed)
		if err := tt.sealer.Unseal(t.Context(), &changed, "ann", unrecorded); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

// Nothing is shown before it is recorded who sees it, and nothing is recorded where there is nothing to show.
func TestUnsealIsRecorded(t *testing.T) {
	shelf := newKeyShelf()
	s := mustSealer(t, Keys{testKey}, shelf)
	k, err := s.New()
	if err != nil {
		t.Fatal(err)
	}
	rec := sealable(NewRedactor(RedactorConfig{Keys: Keys{testKey}, Seal: true}))
	rec.Seq, rec.Subject = 7, Subject{ID: "1", UserName: "ann"}
	k.Seal(rec)
	var events []*Record
	take := func(_ context.Context, event *Record) error {
		if rec.Attributes[1].Asked.Unsealed != nil {
			t.Error("the value is there before the event")
		}
		events = append(events, event)
		return nil
	}
	if err := s.Unseal(t.Context(), rec, "ann", take); !errors.Is(err, ErrErased) || len(events) > 0 {
		t.Errorf("got %v and %d events without the key, want %v and none", err, len(events), ErrErased)
	}
	shelf.take(rec.Key)
	full := errors.New("the disk is full")
	if err := s.Unseal(t.Context(), rec, "ann", func(context.Context, *Record) error { return full }); !errors.Is(err, full) || rec.Attributes[1].Asked.Unsealed != nil {
		t.Errorf("got %v and the value %s, want an error and none", err, rec.Attributes[1].Asked.Unsealed)
	}
	if err := s.Unseal(t.Context(), rec, "ann on desk", take); err != nil || string(rec.Attributes[2].Asked.Unsealed) != `"Ann"` {
		t.Errorf("got %v and %s", err, rec.Attributes[2].Asked.Unsealed)
	}
	if len(events) != 1 || events[0].Kind != Event || events[0].Action != Unsealed || events[0].Subject != rec.Subject ||
		!strings.Contains(events[0].Findings[0].Reason, "record 7 were shown to ann on desk") {
		t.Errorf("got %+v, want one event that says who saw what", events)
	}
}

// What is longer than a record may be is left out, and nothing else with it.
func TestSealIsBounded(t *testing.T) {
	shelf := newKeyShelf()
	s := mustSealer(t, Keys{testKey}, shelf)
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}, Seal: true})
	k, err := s.New()
	if err != nil {
		t.Fatal(err)
	}
	rec := &Record{V: 1, Kind: Outcome, Attributes: []Attribute{
		{Path: "a", Asked: r.Value("a", strings.Repeat("x", 1<<20))}, {Path: "b", Asked: r.Value("b", "short")},
	}}
	for i := range 64 {
		rec.Attributes = append(rec.Attributes, Attribute{Path: "c", Asked: r.Value("c", strings.Repeat("\x01", 1000)+fmt.Sprint(i))})
	}
	rec.Attributes = append(rec.Attributes, Attribute{Path: "d", Asked: r.Value("d", "last")})
	k.Seal(rec)
	shelf.take(rec.Key)
	if n := len(rec.Sealed); n > 100<<10 {
		t.Errorf("got %d bytes", n)
	}
	if err := s.Unseal(t.Context(), rec, "ann", unrecorded); err != nil {
		t.Fatal(err)
	}
	if a, b := rec.Attributes[0].Asked, rec.Attributes[1].Asked; a.Unsealed != nil || string(b.Unsealed) != `"short"` {
		t.Errorf("got %.20s and %s", a.Unsealed, b.Unsealed)
	}
	if last := rec.Attributes[len(rec.Attributes)-1].Asked; last.Unsealed != nil && string(last.Unsealed) != `"last"` {
		t.Errorf("got %s, want the value or nothing", last.Unsealed)
	}
}

func TestKeysOfPersons(t *testing.T) {
	shelf := newKeyShelf()
	s := mustSealer(t, Keys{testKey}, shelf)
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}, Seal: true})
	store := func(k *Key) *Record {
		rec := sealable(r)
		k.Seal(rec)
		shelf.take(rec.Key)
		s.Stored(k)
		return rec
	}
	ann := Person{"u", "User", "1"}

	// A create: the key is made before the id is known, and found by it afterwards.
	k, err := s.New()
	if err != nil {
		t.Fatal(err)
	}
	store(k)
	k.Belongs(ann)
	if rec := store(k); rec.Key == nil || rec.Key.Put != nil || rec.Key.Owner != ann {
		t.Errorf("got %+v, want whose the key is", rec.Key)
	}
	if rec := store(k); rec.Key != nil {
		t.Errorf("got %+v, want nothing to be stored again", rec.Key)
	}
	if again, err := s.For(t.Context(), ann); again != k || err != nil || shelf.lookups != 0 {
		t.Errorf("got %p and %v with %d look-ups, want the same key from memory", again, err, shelf.lookups)
	}
	// Another process.
	if again, err := mustSealer(t, Keys{testKey}, shelf).For(t.Context(), ann); err != nil || store(again).SealedKey != k.row.ID {
		t.Errorf("got %v, want the same key from the store", err)
	}
	// A failed transaction: what was not stored is brought again by whoever uses the key.
	bob := Person{"u", "User", "2"}
	lost, err := s.For(t.Context(), bob)
	if err != nil {
		t.Fatal(err)
	}
	lost.Seal(sealable(r))
	if next, err := s.For(t.Context(), bob); err != nil || next != lost || store(next).Key.Put == nil {
		t.Errorf("got %v, want the key with the next record", err)
	}
	// After an erasure nothing of it is used, not even by who had it before.
	clear(shelf.keys)
	s.Forget()
	k.owner = Person{}
	k.named.Store(false)
	k.Belongs(ann)
	s.Stored(k)
	if fresh, err := s.For(t.Context(), ann); err != nil || fresh == k || fresh.row.ID == k.row.ID {
		t.Errorf("got the key that was destroyed, and %v", err)
	}
}

func TestSealerForgetsWhatIsOld(t *testing.T) {
	s := mustSealer(t, Keys{testKey}, newKeyShelf())
	for i := range 5 * cacheSize {
		if _, err := s.For(t.Context(), Person{"u", "User", fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.young) + len(s.old); n > 2*cacheSize {
		t.Errorf("%d keys are kept, want at most %d", n, 2*cacheSize)
	}
}

func TestRewrapKeepsValues(t *testing.T) {
	shelf := newKeyShelf()
	old := Keys{testKey}
	k, err := mustSealer(t, old, shelf).New()
	if err != nil {
		t.Fatal(err)
	}
	rec := sealable(NewRedactor(RedactorConfig{Keys: old, Seal: true}))
	k.Seal(rec)
	both, err := old.Rotated()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := mustSealer(t, both, shelf).Rewrap(*rec.Key.Put)
	if err != nil {
		t.Fatal(err)
	}
	shelf.keys[wrapped.ID] = wrapped
	if err := mustSealer(t, old, shelf).Unseal(t.Context(), rec, "ann", unrecorded); err == nil {
		t.Error("the old master key still opens it")
	}
	if err := mustSealer(t, both[1:], shelf).Unseal(t.Context(), rec, "ann", unrecorded); err != nil {
		t.Errorf("the new master key does not open it: %v", err)
	}
}

func TestSealerIsConcurrent(t *testing.T) {
	shelf := newKeyShelf()
	s := mustSealer(t, Keys{testKey}, shelf)
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}, Seal: true})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 100 {
				k, err := s.For(t.Context(), Person{"u", "User", fmt.Sprint(j % 10)})
				if err != nil {
					t.Error(err)
					return
				}
				rec := sealable(r)
				k.Seal(rec)
				shelf.take(rec.Key)
				s.Stored(k)
				if i == 0 && j%40 == 39 {
					s.Forget()
				}
				if err := s.Unseal(t.Context(), rec, "ann", unrecorded); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// What sealing adds to a record: under a key that was used before, as of a person's second request, and under a new one, as
// of a create.
func BenchmarkSeal(b *testing.B) {
	s := mustSealer(b, Keys{testKey}, newKeyShelf())
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}, Seal: true})
	rec := sealable(r)
	b.Run("known", func(b *testing.B) {
		ann := Person{"u", "User", "1"}
		k, err := s.For(b.Context(), ann)
		if err != nil {
			b.Fatal(err)
		}
		s.Stored(k)
		b.ReportAllocs()
		for b.Loop() {
			if k, err = s.For(b.Context(), ann); err != nil {
				b.Fatal(err)
			}
			k.Seal(rec)
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			k, err := s.New()
			if err != nil {
				b.Fatal(err)
			}
			k.Seal(rec)
		}
	})
}

// Whatever is sealed is what is unsealed, each value in its place.
func TestSealRoundTrip(t *testing.T) {
	shelf := newKeyShelf()
	s := mustSealer(t, Keys{testKey}, shelf)
	r := NewRedactor(RedactorConfig{Keys: Keys{testKey}, Seal: true})
	value := rapid.OneOf(rapid.Map(rapid.SampledFrom([]string{"a", "b", ""}), func(s string) any { return s }), rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }), rapid.Map(rapid.Int64(), func(n int64) any { return json.Number(fmt.Sprint(n)) }),
		rapid.Map(rapid.SliceOfN(rapid.String(), 0, 3), func(list []string) any { return map[string]any{"x": list} }), rapid.Just[any](nil))
	rapid.Check(t, func(t *rapid.T) {
		rec := &Record{V: 1, Kind: Outcome, RequestID: rapid.String().Draw(t, "request")}
		var want []any
		for range rapid.IntRange(1, 70).Draw(t, "attributes") {
			path := rapid.SampledFrom([]string{"title", "nickName", "name"}).Draw(t, "path")
			values := [3]any{value.Draw(t, "asked"), value.Draw(t, "sent"), value.Draw(t, "confirmed")}
			rec.Attributes = append(rec.Attributes, Attribute{Path: path, Asked: r.Value(path, values[0]), Sent: r.Value(path, values[1]), Confirmed: r.Value(path, values[2])})
			want = append(want, values[:]...)
		}
		k, err := s.New()
		if err != nil {
			t.Fatal(err)
		}
		k.Seal(rec)
		if rec.Sealed == "" { // all are absent
			return
		}
		shelf.take(rec.Key)
		back, err := Parse(Append(nil, rec))
		if err != nil {
			t.Fatal(err)
		}
		back.RequestID = rec.RequestID // what is no UTF-8 is written otherwise
		if err := s.Unseal(context.Background(), back, "ann", unrecorded); err != nil {
			t.Fatal(err)
		}
		for i, a := range back.Attributes {
			for j, v := range [...]*Value{a.Asked, a.Sent, a.Confirmed} {
				plain := want[3*i+j]
				if plain == nil {
					continue
				}
				if got, want := v.String(), string(appendPlain(nil, plain)); got != want {
					t.Fatalf("got %s, want %s", got, want)
				}
			}
		}
	})
}
