// Package audit is the language of the trail: what one record says, how it is written as JSON, what of an attribute value
// may stand in it, and how it is signed, proven and verified.
//
// A write leaves two records: an intent, durable before anything is sent upstream, and one more that closes it: an
// outcome, or "unknown" when nobody can tell what the upstream did, followed by "reconciled" once it could be asked.
// A read, a refusal and a request without valid credentials leave one outcome. What concerns no request (start, stop,
// a breaker that opened) is an event. Records are numbered 1, 2, 3, ... without gaps, in the order in which they became
// durable.
//
// The JSON form is a contract, documented for its readers in RECORD.md: members are written in the order of the struct,
// empty ones are left out, and the bytes that Append writes are the bytes that are stored and hashed. Within version 1
// members are only ever added.
//
// Over these bytes stands a Merkle tree (RFC 6962, Section 2.1). A Checkpointer extends it behind the trail and signs its
// root; a Verification tells from the public key alone whether records were changed, removed, reordered or cut since; a
// Proof does so for one record, without the trail.
//
// The package does not know where records are stored (gateway/store), who reads them, nor what a request means.
package audit

import (
	"encoding/hex"
	"time"
)

// Version is the version of the JSON form that Append writes, and the only one that Parse reads.
const Version = 1

// Kinds of record.
const (
	Intent     = "intent"     // a write is about to be sent; closed by exactly one outcome or unknown
	Outcome    = "outcome"    // what was answered, and what the upstream confirmed
	Unknown    = "unknown"    // closes an intent whose effect upstream is not known
	Reconciled = "reconciled" // the upstream was asked what became of an intent that was closed as unknown
	Event      = "event"      // something that belongs to no request
)

// Actions: what was done, in words an administrator would use. The list is open: a reader must accept others.
const (
	Matched         = "matched"         // a query found the one user it asked for
	Queried         = "queried"         // a query or list was answered
	Read            = "read"            // one resource was read by its id
	Created         = "created"         // a resource was created upstream
	Adopted         = "adopted"         // the answer to a create was lost, and its user was found upstream
	Updated         = "updated"         // attributes changed
	Disabled        = "disabled"        // active became false
	Restored        = "restored"        // active became true again
	Renamed         = "renamed"         // userName changed
	Deleted         = "deleted"         // the resource was deleted upstream
	Refused         = "refused"         // refused by the gateway, nothing sent
	Unauthenticated = "unauthenticated" // no valid Secret Token, nothing sent
	Discovered      = "discovered"      // ServiceProviderConfig, ResourceTypes or Schemas were read
	Bulk            = "bulk"            // a bulk request was answered: its operations have records of their own
	Failed          = "failed"          // the upstream refused, or could not be reached
	Abandoned       = "abandoned"       // the intent was stored, or reached a required sink, too late: nothing was sent
	Interrupted     = "interrupted"     // the process ended between an intent and its outcome
	Unsealed        = "unsealed"        // somebody was shown the sealed values of a record
	Erased          = "erased"          // the keys of a person's sealed values were destroyed
	Rotated         = "rotated"         // a key of the trail was replaced
	Removed         = "pruned"          // records that are old enough were removed
)

// Verdicts of a finding.
const (
	Allow  = "allow"
	Remark = "remark"
	Drop   = "drop"
	Keep   = "keep"
	Refuse = "refuse"
)

// Record is one line of the trail. Strings that come from outside are stored as they are, escaped as JSON; whoever
// fills them bounds them with Clip. Attribute values stand only in Attributes, through a Redactor.
type Record struct {
	V    int       `json:"v"`    // always Version
	Seq  int64     `json:"seq"`  // place in the trail, 1..n; assigned by the store
	ID   string    `json:"id"`   // UUIDv7 text; the store makes one when it is empty
	Time time.Time `json:"time"` // when it happened, UTC, microseconds; the store's clock when zero
	Kind string    `json:"kind"`

	Intent     int64  `json:"intent,omitempty"`     // Seq of the intent that this record closes or reconciles; 0 for none
	RequestID  string `json:"requestId,omitempty"`  // the id in every error answer's detail
	Boot       string `json:"boot,omitempty"`       // the process that wrote the record
	Connection string `json:"connection,omitempty"` // the connection's name in the configuration
	Credential string `json:"credential,omitempty"` // the name of the Secret Token, never the token
	Source     string `json:"source,omitempty"`     // the client's address

	Action       string  `json:"action,omitempty"`
	Method       string  `json:"method,omitempty"` // HTTP method, of a request that was refused before it was read
	Op           string  `json:"op,omitempty"`     // SCIM operation: create, get, query, replace, patch, delete, ...
	ResourceType string  `json:"resourceType,omitempty"`
	Subject      Subject `json:"subject,omitzero"`

	Attributes []Attribute `json:"attributes,omitempty"`
	Sealed     string      `json:"sealed,omitempty"`    // the sensitive values of Attributes, see Key.Seal
	SealedKey  string      `json:"sealedKey,omitempty"` // the id of the key they are sealed under
	Findings   []Finding   `json:"findings,omitempty"`
	Plan       string      `json:"plan,omitempty"`      // one phrase: what was decided to be sent
	Admission  *Admission  `json:"admission,omitempty"` // where the way to the upstream held the request up
	Calls      []Call      `json:"calls,omitempty"`

	Answer   Answer  `json:"answer,omitzero"`
	Error    string  `json:"error,omitempty"`    // the whole error, of which the client saw Answer.Detail at most
	Duration float64 `json:"duration,omitempty"` // milliseconds from the request's first byte to this record; see Milliseconds

	Unrecorded int64   `json:"unrecorded,omitempty"` // of the event that says so: refusals of a second that have no records of their own
	Pruned     *Pruned `json:"pruned,omitempty"`     // of the event that says so: which records were removed

	Key *KeyChange `json:"-"` // what is stored about SealedKey in the record's transaction, if anything
}

// Pruned names records that were removed because they are old enough. Their hashes stay, and so the tree over the trail.
// It has a signature of its own, by the key that signs the trail: a gateway signs every record that it finds at the end
// of its database, also one that somebody has put there to explain what he removed.
type Pruned struct {
	First     int64     `json:"first"` // Seq of the first
	Last      int64     `json:"last"`
	Before    time.Time `json:"before"`    // all of them are older
	Signature string    `json:"signature"` // see Signer.SignPruned
}

// Admission is how the way to the upstream was when a request had to wait for it, was not let through, or went as the
// probe of a breaker that was not closed.
type Admission struct {
	Waited  float64 `json:"waited,omitempty"`  // milliseconds, before all calls together
	Queued  int     `json:"queued,omitempty"`  // requests that still waited when its wait ended
	Breaker string  `json:"breaker"`           // closed, open or half-open
	HoldOff float64 `json:"holdOff,omitempty"` // milliseconds that were left of the upstream's Retry-After
}

// Subject names the resource a record is about, as far as it is known.
type Subject struct {
	ID         string `json:"id,omitempty"`
	UserName   string `json:"userName,omitempty"` // as the provisioning client knows it
	ExternalID string `json:"externalId,omitempty"`
}

// Attribute follows one attribute through the gateway. A missing value means that this step did not concern it.
type Attribute struct {
	Path      string `json:"path"`
	Asked     *Value `json:"asked,omitempty"`     // what the client asked to be stored
	Sent      *Value `json:"sent,omitempty"`      // what went upstream
	Confirmed *Value `json:"confirmed,omitempty"` // what the upstream said it holds
	Note      string `json:"note,omitempty"`      // why these differ
}

// Finding is one decision of a policy rule or of the gateway itself, with its reason. Drift between what was sent and
// what the upstream shows is a finding as well.
type Finding struct {
	Rule    string `json:"rule"`
	Verdict string `json:"verdict"` // allow, remark, drop, keep or refuse
	Path    string `json:"path,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// Call is one attempt at a request to the upstream.
type Call struct {
	Method   string    `json:"method"`
	Target   string    `json:"target"` // a template without values: GET /Users?filter=userName eq
	Attempt  int       `json:"attempt,omitempty"`
	Status   int       `json:"status,omitempty"` // 0 when no answer arrived
	Started  time.Time `json:"started,omitzero"`
	Duration float64   `json:"duration,omitempty"` // milliseconds
	Error    string    `json:"error,omitempty"`
}

// Answer is what the client was told.
type Answer struct {
	Status   int    `json:"status,omitempty"`
	ScimType string `json:"scimType,omitempty"` // RFC 7644, Section 3.12
	Detail   string `json:"detail,omitempty"`
}

// Milliseconds gives d in the unit of Duration, to the microsecond.
func Milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

// NewID returns a record id: a UUIDv7 (RFC 9562, Section 5.7) of t and eight random bytes. The twelve bits after the
// milliseconds hold the rest of the time (Section 6.2, Method 3), so that ids sort by time to the microsecond, and
// eight random bits less two stand for the rest.
func NewID(t time.Time, random [8]byte) string {
	us := t.UnixMicro()
	ms, rest := us/1000, us%1000*4096/1000
	var b [16]byte
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	b[6], b[7] = 0x70|byte(rest>>8), byte(rest)
	copy(b[8:], random[:])
	b[8] = 0x80 | b[8]&0x3f

	var text [36]byte
	at := 0
	for i, group := range [...][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		if i > 0 {
			text[at] = '-'
			at++
		}
		at += hex.Encode(text[at:], b[group[0]:group[1]])
	}
	return string(text[:])
}
