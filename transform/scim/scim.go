// Package scim is the SCIM 2.0 vocabulary that every other room of the gateway speaks: requests, responses,
// resources, attribute paths, filters, PATCH operations, schemas and errors, and both ends of their HTTP form.
//
// It knows RFC 7643 and RFC 7644 and nothing about any particular provisioning client, upstream service
// provider or gateway. Everything in it is pure except reading and writing the bodies of the wire halves
// (server.go, client.go). It is the only importer of github.com/elimity-com/scim (schema definitions, leaf
// validation) and github.com/scim2/filter-parser (the filter AST).
//
// A value of an attribute is one of nil, bool, string, json.Number, map[string]any and []any, as DecodeObject
// makes them. Names of attributes that a schema defines are in the schema's spelling once
// [ResourceType.Canonicalize] has seen a resource; names no schema knows stay as they came.
package scim

import (
	"context"
	"time"
)

// URNs of messages and schemas (RFC 7643, Section 10; RFC 7644, Section 10).
const (
	SchemaUser           = "urn:ietf:params:scim:schemas:core:2.0:User"
	SchemaGroup          = "urn:ietf:params:scim:schemas:core:2.0:Group"
	SchemaEnterpriseUser = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"

	MessageListResponse  = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	MessagePatchOp       = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
	MessageSearchRequest = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
	MessageBulkRequest   = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
	MessageBulkResponse  = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"
	MessageError         = "urn:ietf:params:scim:api:messages:2.0:Error"
)

// MediaType is the type of every SCIM body (RFC 7644, Section 8.1).
const MediaType = "application/scim+json"

// Op is what a request asks for. Its text stands in the trail and in metrics.
type Op string

// The operations of RFC 7644, Section 3.
const (
	OpCreate   Op = "create"   // POST   /Users
	OpGet      Op = "get"      // GET    /Users/{id}
	OpQuery    Op = "query"    // GET    /Users?filter=.. (Section 3.4.2)
	OpReplace  Op = "replace"  // PUT    /Users/{id}
	OpPatch    Op = "patch"    // PATCH  /Users/{id}
	OpDelete   Op = "delete"   // DELETE /Users/{id}
	OpDiscover Op = "discover" // GET    /ServiceProviderConfig, /ResourceTypes, /Schemas (Section 4)
	OpOptions  Op = "options"  // OPTIONS of any endpoint (RFC 9110, Section 9.3.7)
	OpBulk     Op = "bulk"     // POST   /Bulk (Section 3.7): what it changes, its operations change
)

// Writes reports whether the operation changes anything at the service provider.
func (o Op) Writes() bool {
	return o == OpCreate || o == OpReplace || o == OpPatch || o == OpDelete
}

// Request is one SCIM request, whoever sent it. A Request is not changed once it has been handed on: who needs
// another one makes a copy.
type Request struct {
	Op   Op
	Type *ResourceType // nil for OpDiscover, OpOptions, OpBulk and a query at the root
	ID   string        // of the resource, unescaped; for OpDiscover the path below the base ("Schemas/urn:...")

	Resource   Resource  // OpCreate, OpReplace
	Operations []PatchOp // OpPatch

	// Plain are complex attributes that the other side writes as the plain string of their `value`: they are
	// written so and read so on the wire, and stand as objects everywhere else.
	Plain []Ref

	Query  Query // OpQuery; OpGet and the writes use Attributes and ExcludedAttributes
	Search bool  // OpQuery: by POST to .search (Section 3.4.3)
	// Parts are a query at the root (Section 3.4.2.1), which has no Type: the same query at each resource type that may
	// have matches. Paging and the filter as it was sent stand in Query.
	Parts []*Request
	Allow []string // OpOptions: the endpoint's methods

	Bulk    *BulkRequest // OpBulk
	MaxBody int64        // OpDiscover: bytes of a body that are read at most, for what is announced

	Preconditions Preconditions
	Origin        Origin
}

// Query is the query part of a request (RFC 7644, Section 3.4.2).
type Query struct {
	Filter             Filter   // nil: all
	Attributes         []Ref    // return these and what is always returned; nil: the default set
	ExcludedAttributes []Ref    // return the default set without these
	SortBy             *Ref     // nil: the service provider's order
	Descending         bool     // sortOrder=descending
	StartIndex         int      // 1-based; at least 1
	Cursor             *string  // page that is asked for (RFC 9865), "" for the first; nil: pages by StartIndex
	Whole              bool     // every match is needed, whatever StartIndex and Count say: a part of a query at the root
	Count              *int     // nil: as many as the service provider likes; at least 0
	Unknown            []string // attribute names asked for that no schema has: ignored (Section 3.9); the first few
}

// Preconditions are the ETag headers (RFC 7644, Section 3.14), as sent.
type Preconditions struct {
	IfMatch     string
	IfNoneMatch string
}

// Origin tells where a request came from. It is for the trail, for logs and for locations, never for decisions
// about content.
type Origin struct {
	Connection string // configured name of the connection
	Credential string // name of the Secret Token, never the token
	Source     string // address of the client
	RequestID  string // ends every error detail; travels upstream as X-Request-Id
	Base       string // absolute URL of the service provider as the client reaches it, without a trailing slash
}

// Response is the answer to one Request. Errors are not responses: see [Error].
type Response struct {
	Status   int      // 200, 201, 204, 304
	Resource Resource // nil after 204, 304 and for lists
	Version  string   // ETag of Resource, quoted and weak or strong as on the wire; "" when there is none
	Location string   // absolute URL of the resource, where known

	List         []Resource // OpQuery: one page; nil otherwise
	TotalResults int        // OpQuery: matches of the whole query
	StartIndex   int        // OpQuery: index of List[0]
	ByCursor     bool       // OpQuery: paged by cursor, so that there is no StartIndex (RFC 9865)
	Next         string     // OpQuery: cursor of the next page; "" on the last
	Previous     string     // OpQuery: cursor of the page before; "" on the first

	Bulk []BulkResult // OpBulk: of the operations that were processed, in the order of the request; nil otherwise

	Attempts  []Attempt // what really went over the wire to answer, in order
	Recovered string    // how a lost answer was made good, for the trail: "adopted", "read again"; "" when it arrived
}

// Attempt is one exchange over the wire, told without any personal value.
type Attempt struct {
	Method   string        // GET, POST, ...
	Target   string        // path and parameter names below the base URL, values left out: "GET /Users?filter=userName eq"
	Started  time.Time     // when the first byte was about to be written
	Duration time.Duration // until the answer was read, or the attempt was given up
	Status   int           // 0: no answer
	Sent     bool          // at least one byte of the request may have reached the other side
	Error    string        // why there is no usable answer; "" when there is one
}

// Provider is a SCIM service provider: the upstream client, the simulator and the gateway itself.
//
// Do answers one request. The error is an *Error when the client may see it; every other error is a failure of
// the provider's own, to be answered as a bare 500 and told in full elsewhere. With an error the response is nil
// or carries nothing but Attempts. Do returns when ctx ends. Do may be called from many goroutines, and keeps
// neither the request nor what it points to.
type Provider interface {
	Do(ctx context.Context, req *Request) (*Response, error)
}
