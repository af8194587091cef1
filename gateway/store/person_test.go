package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"scimgate/gateway/audit"
)

// personKey makes a key as it would be stored.
func personKey(n int) *audit.PersonKey {
	k := &audit.PersonKey{ID: fmt.Sprintf("%028x", n), Master: "0011223344556677", Wrapped: make([]byte, 60), Made: time.Unix(int64(n), 0).UTC()}
	rand.Read(k.Wrapped)
	return k
}

func person(id string) audit.Person {
	return audit.Person{Upstream: "https://u.example", ResourceType: "User", ID: id}
}

// sealed stores a record with a key, as a create does: whose it is becomes known with a second record.
func sealed(t *testing.T, s *Store, k *audit.PersonKey, id, userName string) {
	t.Helper()
	for _, rec := range []*audit.Record{
		{Subject: audit.Subject{UserName: userName}, Sealed: "AA==", SealedKey: k.ID, Key: &audit.KeyChange{Put: k, ID: k.ID}},
		{Subject: audit.Subject{ID: id, UserName: userName}, Sealed: "AA==", SealedKey: k.ID, Key: &audit.KeyChange{ID: k.ID, Owner: person(id)}},
	} {
		if id == "" && rec.Key.Put == nil {
			continue
		}
		if _, err := s.Append(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
}

// Whose a key is, is known after a restart, also where that became known only then; a person whose hash another has, too,
// has no key.
func TestOwnersAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: path})
	one, two := personKey(1), personKey(2)
	sealed(t, s, one, "42", "ann")
	sealed(t, s, two, "", "bob")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Config{Path: path})
	late := &audit.Record{Subject: audit.Subject{ID: "43"}, Sealed: "AA==", SealedKey: two.ID, Key: &audit.KeyChange{ID: two.ID, Owner: person("43")}}
	if _, err := s.Append(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"42": one.ID, "43": two.ID, "44": ""} {
		if k, _, err := s.NewestKey(t.Context(), person(id)); err != nil || k.ID != want {
			t.Errorf("person %s: got key %q and %v, want %q", id, k.ID, err, want)
		}
	}
	s.owners.newest[ownerHash(person("44"))] = s.owners.newest[ownerHash(person("42"))]
	if k, ok, err := s.NewestKey(t.Context(), person("44")); ok || err != nil {
		t.Errorf("got key %q and %v, want no key of somebody else", k.ID, err)
	}
}

func TestPersonKeys(t *testing.T) {
	s := mustOpen(t, Config{Path: filepath.Join(t.TempDir(), "gate.db")})
	one, two, nobodys := personKey(1), personKey(2), personKey(3)
	sealed(t, s, one, "42", "ann")
	sealed(t, s, two, "42", "anna")
	sealed(t, s, nobodys, "", "ann")
	sealed(t, s, personKey(4), "43", "bob")

	if k, ok, err := s.NewestKey(t.Context(), person("42")); !ok || err != nil || k.ID != two.ID || !bytes.Equal(k.Wrapped, two.Wrapped) || !k.Made.Equal(two.Made) {
		t.Errorf("got %+v, %v, %v, want the newer key", k, ok, err)
	}
	if _, ok, err := s.NewestKey(t.Context(), person("44")); ok || err != nil {
		t.Errorf("got %v, %v, want no key", ok, err)
	}
	if k, ok, err := s.PersonKey(t.Context(), nobodys.ID); !ok || err != nil || !bytes.Equal(k.Wrapped, nobodys.Wrapped) {
		t.Errorf("got %+v, %v, %v, want the key that is nobody's yet", k, ok, err)
	}
	held, err := s.Holdings(t.Context(), "ANN")
	if err != nil || len(held) != 2 {
		t.Fatalf("got %d holdings and %v, want 2", len(held), err)
	}
	for i, want := range []Holding{
		{Person: person("42"), Keys: []string{one.ID, two.ID}, Names: []string{"ann"}, Records: 2},
		{Person: audit.Person{}, Keys: []string{nobodys.ID}, Names: []string{"ann"}, Records: 1},
	} {
		if got := held[i]; got.Person != want.Person || !slices.Equal(got.Keys, want.Keys) || !slices.Equal(got.Names, want.Names) || got.Records != want.Records {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}

	if err := s.Erase(t.Context(), &audit.Record{}, append(held[0].Keys, held[1].Keys...)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{one.ID, two.ID, nobodys.ID} {
		if _, ok, err := s.PersonKey(t.Context(), id); ok || err != nil {
			t.Errorf("key %s: got %v, %v, want it gone", id, ok, err)
		}
	}
	if _, ok, _ := s.NewestKey(t.Context(), person("43")); !ok {
		t.Error("somebody else's key is gone")
	}
	if held, err := s.Holdings(t.Context(), "ann"); len(held) != 0 || err != nil {
		t.Errorf("got %d holdings and %v, want none", len(held), err)
	}
	// What was under way when the key was destroyed does not bring it back.
	for _, change := range []*audit.KeyChange{{ID: one.ID, Owner: person("42")}, {Put: one, ID: one.ID, Owner: person("42")}, {Put: nobodys, ID: nobodys.ID}} {
		if _, err := s.Append(t.Context(), &audit.Record{SealedKey: change.ID, Subject: audit.Subject{UserName: "ann"}, Key: change}); err != nil {
			t.Fatal(err)
		}
		_, owned, _ := s.NewestKey(t.Context(), person("42"))
		if _, ok, err := s.PersonKey(t.Context(), change.ID); ok || owned || err != nil {
			t.Errorf("%+v brought a destroyed key back: %v", change, err)
		}
	}
	if err := s.Rewrap(t.Context(), &audit.Record{}, []audit.PersonKey{*one}); err != nil {
		t.Fatal(err)
	}
	if keys, err := s.PersonKeys(t.Context()); len(keys) != 1 || err != nil {
		t.Errorf("got %d keys and %v, want that of the other person", len(keys), err)
	}
	if bytes.Contains(contents(t, s.path), one.Wrapped) || bytes.Contains(contents(t, s.path), nobodys.Wrapped) {
		t.Error("a destroyed key is in the files again")
	}
}

// A destroyed key stands nowhere in the files, however many rows were written, bound and destroyed around it.
func TestEraseLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: path})
	var keys []*audit.PersonKey
	var records []*audit.Record
	for n := range 2000 {
		k := personKey(n)
		keys = append(keys, k)
		records = append(records, &audit.Record{SealedKey: k.ID, Key: &audit.KeyChange{Put: k, ID: k.ID}})
		if n >= 7 {
			k := keys[n-7]
			records = append(records, &audit.Record{SealedKey: k.ID, Key: &audit.KeyChange{ID: k.ID, Owner: person(fmt.Sprintf("%x", k.Wrapped[:8]))}})
		}
	}
	if err := s.AppendAll(t.Context(), slices.Values(records)); err != nil {
		t.Fatal(err)
	}
	gone := map[int]bool{}
	for round := range 20 {
		var ids []string
		for n := round; n < len(keys); n += 20 + round%3 {
			gone[n] = true
			ids = append(ids, keys[n].ID)
		}
		if err := s.Erase(t.Context(), &audit.Record{}, ids); err != nil {
			t.Fatal(err)
		}
		files := contents(t, path)
		for n := range gone {
			if n%20 != round && round < 19 { // all of them in the end
				continue
			}
			if bytes.Contains(files, keys[n].Wrapped) || bytes.Contains(files, keys[n].Wrapped[12:40]) {
				t.Fatalf("key %d of round %d is still in a file", n, round)
			}
		}
	}
	left := 0
	for n, k := range keys {
		_, ok, err := s.PersonKey(t.Context(), k.ID)
		if err != nil || ok == gone[n] {
			t.Fatalf("key %d: got %v and %v, want %v", n, ok, err, !gone[n])
		}
		if ok {
			left++
		}
	}
	if left < 100 || len(gone) < 500 {
		t.Errorf("%d keys are left and %d gone: the test shows little", left, len(gone))
	}
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	var all []byte
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// While somebody reads, copies of a deleted key are left in the log, and Erase says so instead of claiming success.
func TestEraseWhileSomebodyReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: path})
	k := personKey(1)
	sealed(t, s, k, "42", "ann")
	reader, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	rows, err := reader.scans.Query(sqlKeys)
	if err != nil || !rows.Next() {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Erase(ctx, &audit.Record{}, []string{k.ID}); err == nil {
		t.Error("got no error while a reader holds the log")
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(contents(t, path), k.Wrapped) {
		t.Error("the key is gone already: the test shows nothing")
	}
	for range 2 { // the second time there is nothing to do
		if err := s.EmptyLog(t.Context()); err != nil {
			t.Errorf("got %v when nobody reads", err)
		}
	}
	if bytes.Contains(contents(t, path), k.Wrapped) {
		t.Error("the key is still in a file")
	}
}

// Who is killed between the deletion and the emptying of the log leaves a copy there, until the next start.
func TestEraseAfterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: path})
	k := personKey(1)
	sealed(t, s, k, "42", "ann")
	w, err := s.newWork(&audit.Record{Kind: audit.Event, Action: audit.Erased}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.keys = &keyChange{erase: []string{k.ID}}
	it, err := s.submit(t.Context(), w, nil)
	if err == nil {
		err = s.wait(t.Context(), it, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	crashed := filepath.Join(t.TempDir(), "gate.db") // as the disk is now
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(path + suffix)
		if err == nil {
			err = os.WriteFile(crashed+suffix, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Contains(contents(t, crashed), k.Wrapped) {
		t.Fatal("the key is gone already: the test shows nothing")
	}
	again := mustOpen(t, Config{Path: crashed})
	if bytes.Contains(contents(t, crashed), k.Wrapped) {
		t.Error("the key is still in a file after a start")
	}
	if _, ok, err := again.PersonKey(t.Context(), k.ID); ok || err != nil {
		t.Errorf("got %v and %v, want the key gone", ok, err)
	}
}

func TestRewrap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: path})
	old := personKey(1)
	sealed(t, s, old, "42", "ann")
	keys, err := s.PersonKeys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatalf("got %d keys and %v, want 1", len(keys), err)
	}
	keys[0].Master, keys[0].Wrapped = "new", bytes.Repeat([]byte{9}, 60)
	if err := s.Rewrap(t.Context(), &audit.Record{}, keys); err != nil {
		t.Fatal(err)
	}
	if k, ok, err := s.NewestKey(t.Context(), person("42")); !ok || err != nil || k.Master != "new" || !bytes.Equal(k.Wrapped, keys[0].Wrapped) {
		t.Errorf("got %+v, %v, %v, want it wrapped anew", k, ok, err)
	}
	if bytes.Contains(contents(t, path), old.Wrapped) {
		t.Error("the key as it was wrapped before is still in a file")
	}
}
