// Package identity describes how one resource is known on both sides of the gateway: what the provisioning client sent
// (userName, externalId) beside what the upstream holds (id, and the userName that was really sent).
//
// The package holds the types and the one pure rule: how userNames are compared. It does not know
// where entries are stored (gateway/store), what an upstream can do (config/profile), nor when an alias is needed and how
// it is made (transform).
//
// An entry is found by its upstream, resource type and id. Nothing else about it is unique: a user that was deleted and
// created again behind the gateway's back, or renamed there, leaves two entries with one userName or one externalId for a
// while, and neither may stop the other from being written. Look-ups therefore return every candidate, newest first, and
// whoever asks confirms a candidate against the upstream.
package identity

import "time"

// Key names one resource of one upstream.
type Key struct {
	Upstream     string // the upstream's name; two connections to one upstream share its entries
	ResourceType string // "User" or "Group"
	ID           string // the id the upstream gave out, compared exactly (RFC 7643, Section 3.1)
}

// Entry is what the gateway remembers about one resource.
type Entry struct {
	Upstream     string
	ResourceType string
	ID           string

	UserName string // as the provisioning client knows it; "" for resources that have none
	Sent     string // the alias that was sent upstream instead of UserName; "" when UserName itself was sent

	ExternalID    string // as the client sent it, compared exactly (RFC 7643, Section 3.1)
	HasExternalID bool   // false when the client never set one; an empty externalId is not the same as none

	Kept []byte // JSON object of the attributes the gateway holds because the upstream lacks them; nil for none

	Updated time.Time // when the entry was last written, UTC, microseconds; the store sets it when zero
}

// Key returns the entry's key.
func (e *Entry) Key() Key {
	return Key{Upstream: e.Upstream, ResourceType: e.ResourceType, ID: e.ID}
}

// UpstreamName returns the userName as the upstream was told it.
func (e *Entry) UpstreamName() string {
	if e.Sent != "" {
		return e.Sent
	}
	return e.UserName
}

// Change is one write to the map. Exactly one of its members is set.
type Change struct {
	Put    *Entry // insert, or replace the entry of the same key as a whole
	Delete *Key   // forget the entry; an entry that is not there is no error
}
