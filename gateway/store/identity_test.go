package store

import (
	"reflect"
	"testing"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

func ids(entries []identity.Entry, err error) []string {
	if err != nil {
		return []string{err.Error()}
	}
	list := []string{}
	for _, e := range entries {
		list = append(list, e.ID)
	}
	return list
}

func TestIdentityRoundTrip(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	s := mustOpen(t, Config{Clock: func() time.Time { return at }})
	for _, e := range []identity.Entry{
		{Upstream: "u", ResourceType: "User", ID: "1", UserName: "Älice", Sent: "al~abc", ExternalID: "E1", HasExternalID: true, Kept: []byte(`{"title":"x"}`), Updated: at.Add(-time.Hour)},
		{Upstream: "u", ResourceType: "User", ID: "2", UserName: "bob", HasExternalID: true},
		{Upstream: "u", ResourceType: "Group", ID: "1"},
		{Upstream: "v", ResourceType: "User", ID: "1", UserName: "zero\x00inside", ExternalID: "lost"},
	} {
		kept := append([]byte(nil), e.Kept...)
		mustAppend(t, s, &audit.Record{}, identity.Change{Put: &e})
		clear(e.Kept) // the caller's memory is its own again
		e.Kept = kept
		if len(kept) == 0 {
			e.Kept = nil
		}
		if e.Updated.IsZero() {
			e.Updated = at
		}
		if !e.HasExternalID {
			e.ExternalID = ""
		}
		got, ok, err := s.ByID(t.Context(), e.Key())
		if err != nil || !ok || !reflect.DeepEqual(got, e) {
			t.Errorf("got %+v, %v, %v, want %+v", got, ok, err, e)
		}
	}
	if _, ok, err := s.ByID(t.Context(), identity.Key{Upstream: "v", ResourceType: "User", ID: "2"}); ok || err != nil {
		t.Errorf("an entry that was never put: got %v, %v", ok, err)
	}
}

// Deleting and creating again, and renaming behind the gateway's back, leave several entries with one name. None may
// jam, and the newest comes first.
func TestIdentityLookUps(t *testing.T) {
	s := mustOpen(t, Config{})
	put := func(id, userName, sent, externalID string) {
		mustAppend(t, s, &audit.Record{}, identity.Change{Put: &identity.Entry{Upstream: "u", ResourceType: "User", ID: id,
			UserName: userName, Sent: sent, ExternalID: externalID, HasExternalID: externalID != ""}})
	}
	put("1", "Alice@Contoso.com", "", "ext")
	put("2", "alice@contoso.com", "", "ext")
	put("3", "ALICE@contoso.com", "al~1", "EXT")
	put("4", "carol", "", "")
	put("1", "alice@CONTOSO.com", "", "ext") // written again: now the newest
	for _, tt := range []struct {
		name string
		got  []string
		want []string
	}{
		{"userName", ids(s.ByUserName(t.Context(), "u", "User", "aliCe@contoso.com")), []string{"1", "3", "2"}},
		{"userName of nobody", ids(s.ByUserName(t.Context(), "u", "User", "alice")), []string{}},
		{"userName of another type", ids(s.ByUserName(t.Context(), "u", "Group", "carol")), []string{}},
		{"userName of another upstream", ids(s.ByUserName(t.Context(), "v", "User", "carol")), []string{}},
		{"alias", ids(s.BySent(t.Context(), "u", "User", "AL~1")), []string{"3"}},
		{"sent as it was", ids(s.BySent(t.Context(), "u", "User", "alice@contoso.com")), []string{"1", "2"}},
		{"externalId", ids(s.ByExternalID(t.Context(), "u", "User", "ext")), []string{"1", "2"}},
		{"externalId in other case", ids(s.ByExternalID(t.Context(), "u", "User", "EXT")), []string{"3"}},
		{"no externalId", ids(s.ByExternalID(t.Context(), "u", "User", "")), []string{}},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, tt.got, tt.want)
		}
	}

	// Renamed and deleted in one record, with a put of the same key after its delete.
	key := identity.Key{Upstream: "u", ResourceType: "User", ID: "2"}
	mustAppend(t, s, &audit.Record{},
		identity.Change{Delete: &key},
		identity.Change{Delete: &identity.Key{Upstream: "u", ResourceType: "User", ID: "never there"}},
		identity.Change{Put: &identity.Entry{Upstream: "u", ResourceType: "User", ID: "1", UserName: "dave", ExternalID: "ext", HasExternalID: true}})
	if got, want := ids(s.ByUserName(t.Context(), "u", "User", "alice@contoso.com")), []string{"3"}; !reflect.DeepEqual(got, want) {
		t.Errorf("after the rename: got %v, want %v", got, want)
	}
	if got, want := ids(s.BySent(t.Context(), "u", "User", "Dave")), []string{"1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("after the rename: got %v, want %v", got, want)
	}
	if _, ok, _ := s.ByID(t.Context(), key); ok {
		t.Error("a deleted entry is still there")
	}
}
