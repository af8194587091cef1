// Package profile describes upstream service providers as data: what an upstream can do, and what it cannot.
//
// A profile is one YAML file. Its keys are the fields of Profile and of the types below, written in camelCase
// (PageSize is pageSize, URL is url, ETag is etag); the comments here are the format's documentation. Reading is strict: an
// unknown key, a value of the wrong type and a contradiction are Problems with line and column, and all of them
// are reported at once.
//
// The package is plain data. It does not know what attribute paths, filters or requests are: whoever uses a
// profile compiles its paths, and reports what does not compile at the positions the profile carries.
package profile

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Profile is what an upstream service provider can do.
type Profile struct {
	// File is where the profile was read from, for messages: a path, or the file name of a built-in profile.
	File string

	// Name identifies the profile: 1 to 32 of a-z, 0-9 and "-". Required.
	Name string
	// Title names the upstream for people. Default: Name.
	Title string
	// Documentation is the URL of the upstream's own documentation. Optional.
	Documentation string
	// URL is the upstream's base URL, https or on loopback. "" means that the configuration must give it.
	URL string
	// Resources are the resource types the upstream has. User is required.
	Resources []Resource
	// Filter is what the upstream can do with filters beyond single attributes. Default: nothing.
	Filter Filter
	// Update is how the upstream takes changes.
	Update Update
	// Paging is how the upstream pages lists.
	Paging Paging
	// Rate is how fast the upstream may be called.
	Rate Rate
	// ETag: the upstream has versions and honours If-Match. Default: false.
	ETag bool
	// Projection: the upstream honours attributes and excludedAttributes. Default: false.
	Projection bool
	// Sort: the upstream honours sortBy and sortOrder. Default: false.
	Sort bool
	// ContentType is the media type of the bodies the upstream is sent. Default: application/scim+json.
	ContentType string
	// Errors says what the upstream's error answers mean where they do not say it themselves. The first rule that
	// fits counts. Default: none; what the upstream says is taken as it stands.
	Errors []ErrorRule
}

// Resource is a resource type the upstream has.
type Resource struct {
	// Name is User or Group. Required.
	Name string
	// Endpoint is the path below the base URL, such as /Users. Required.
	Endpoint string
	// Extensions are the URNs of the schema extensions the upstream knows beside the core schema. Default: none.
	Extensions []string
	// Operations are the operations that may be asked for on this resource type. Default: all six.
	// query needs get; patch needs what Update.Mode works with.
	Operations []Operation
	// Complete: the upstream has every attribute of its schemas. Attributes then only adds limits. Default: false,
	// which means that the upstream has the attributes listed in Attributes, beside id, schemas and meta.
	Complete bool
	// Unlisted is what happens to a schema attribute that is not listed. Default: refuse. Not allowed with Complete.
	Unlisted Handling
	// Attributes are the attributes the upstream has, with their limits, and those it lacks and that are
	// handled otherwise than Unlisted says. Required unless Complete.
	Attributes []Attribute

	Line, Column int // position in Profile.File
}

// Operation is something that can be done with a resource type.
type Operation string

// The operations.
const (
	OpCreate  Operation = "create"  // POST
	OpGet     Operation = "get"     // GET of one
	OpQuery   Operation = "query"   // GET of many
	OpReplace Operation = "replace" // PUT
	OpPatch   Operation = "patch"   // PATCH, however Update.Mode carries it
	OpDelete  Operation = "delete"  // DELETE
)

// Operations returns every operation.
func Operations() []Operation {
	return []Operation{OpCreate, OpGet, OpQuery, OpReplace, OpPatch, OpDelete}
}

// Handling is what happens to an attribute that the upstream lacks.
type Handling string

// The handlings. In an Attribute, "" means that the upstream has it.
const (
	HandlingRefuse Handling = "refuse" // a request that sets it is refused
	HandlingDrop   Handling = "drop"   // it is left out, and the trail names it
	HandlingKeep   Handling = "keep"   // the gateway holds it and shows it; the upstream never sees it
)

// Attribute is an attribute the upstream has or, with Handling, lacks.
type Attribute struct {
	// Path is an attribute path as in a PATCH: userName, name.givenName, emails[type eq "work"].value,
	// urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager. Required.
	Path string
	// Handling is set for an attribute the upstream lacks. Default: "", the upstream has it.
	// No other key makes sense beside it, and it makes no sense in a Complete resource.
	Handling Handling
	// Required: it must be there and not empty on create, and may not be removed. Default: false.
	Required bool
	// MaxLength is the length of the longest value, in Unicode code points. Default: 0, no limit.
	MaxLength int
	// Forbidden are characters that may not occur in a value. Default: "".
	Forbidden string
	// OnViolation is what happens to a value beyond MaxLength or with Forbidden characters. Default: reject.
	OnViolation Violation
	// CreateOnly: it may not change after create. Default: false.
	CreateOnly bool
	// Form is how the value is written upstream. Default: as RFC 7643 has it.
	Form Form
	// Filter are the operators the upstream can evaluate on it: eq ne co sw ew gt ge lt le pr. Default: none.
	// Not allowed with Profile.Filter.All.
	Filter []string

	File         string // Profile.File, or the configuration file for an attribute it overrides
	Line, Column int    // position in File
}

// Violation is what happens to a value that the upstream would not take.
type Violation string

// The violations' treatments.
const (
	ViolationReject Violation = "reject" // the request is refused with invalidValue
	// ViolationAlias: the upstream holds a shorter, stable alias and clients see the value they sent. Only for the
	// userName of a User.
	ViolationAlias Violation = "alias"
)

// Form is how the upstream writes an attribute's value.
type Form string

// The forms.
const (
	FormRFC   Form = ""      // as RFC 7643 has it
	FormValue Form = "value" // a complex attribute as the plain string of its value sub-attribute
)

// Filter is what the upstream can evaluate in filters.
type Filter struct {
	// All: any filter of RFC 7644, Section 3.4.2.2. Default: false, which means the operators listed with each
	// attribute, joined as the other fields say. Not allowed together with them.
	All bool
	// And, Or, Not: the connectives the upstream knows. Default: false.
	And, Or, Not bool
	// ValuePath: emails[type eq "work" ...] with a filter in the brackets. Default: false. An attribute whose path
	// has a value filter can be compared by its operators without it.
	ValuePath bool
}

// Update is how the upstream takes changes.
type Update struct {
	// Mode is what a PATCH becomes. Default: patch.
	Mode UpdateMode
	// ReadBack: read the resource after an answer 204 to confirm what is stored. It costs one more call.
	// Default: false.
	ReadBack bool
}

// UpdateMode is what a PATCH becomes on its way to the upstream.
type UpdateMode string

// The update modes.
const (
	UpdatePatch  UpdateMode = "patch"  // one PATCH with all operations
	UpdateSingle UpdateMode = "single" // one PATCH for each operation: then a failure may leave some of them applied
	UpdatePut    UpdateMode = "put"    // GET, apply, PUT; needs the operations get and replace
)

// Paging is how the upstream pages lists.
type Paging struct {
	// PageSize is the largest count the upstream accepts, 1 to 1000. Default: 100.
	PageSize int
}

// Rate is how fast the upstream may be called.
type Rate struct {
	// RequestsPerSecond is the pace, up to 10000. Default: 0, no pacing.
	RequestsPerSecond float64
	// InFlight is the largest number of calls at a time, 1 to 1024. Default: 8.
	InFlight int
}

// ErrorRule gives an error answer of the upstream the meaning it has in SCIM.
type ErrorRule struct {
	// Status is the upstream's HTTP status, 400 to 599. Required.
	Status int
	// Contains is a part of the upstream's message (a SCIM error's detail, or message in other bodies); upper and
	// lower case do not matter. Default: "", any message.
	Contains string
	// As is the answer it becomes. Required.
	As struct {
		Status   int    // 400 to 599. Required.
		ScimType string // of RFC 7644, Table 9, such as uniqueness. Default: "", none.
	}

	Line, Column int // position in Profile.File
}

// Defaults of a profile.
const (
	DefaultPageSize    = 100
	DefaultInFlight    = 8
	DefaultContentType = "application/scim+json"
)

// MaxRequestsPerSecond and MaxInFlight bound a Rate.
const (
	MaxRequestsPerSecond = 10_000
	MaxInFlight          = 1024
)

//go:embed *.yaml
var builtin embed.FS

// Names returns the names of the built-in profiles in order.
func Names() []string {
	entries, err := builtin.ReadDir(".")
	if err != nil {
		panic(err) // the embedded folder is always there
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = strings.TrimSuffix(entry.Name(), ".yaml")
	}
	return names
}

// Source returns the YAML text of the built-in profile name.
func Source(name string) ([]byte, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("no profile %s is built in: take one of %s, or give the path of a file (with a slash, or ending in .yaml)",
			Quote(name), strings.Join(Names(), ", "))
	}
	return builtin.ReadFile(name + ".yaml")
}

// IsPath reports whether Load takes nameOrPath for a path: it has a slash or ends in .yaml or .yml.
func IsPath(nameOrPath string) bool {
	return strings.ContainsAny(nameOrPath, `/\`) || strings.HasSuffix(nameOrPath, ".yaml") || strings.HasSuffix(nameOrPath, ".yml")
}

// Load returns the built-in profile of that name, or reads the file when IsPath. Mistakes in the file are Problems.
func Load(nameOrPath string) (*Profile, error) {
	if !IsPath(nameOrPath) {
		src, err := Source(nameOrPath)
		if err != nil {
			return nil, err
		}
		return Parse(nameOrPath+".yaml", src)
	}
	src, err := readFile(nameOrPath)
	if err != nil {
		return nil, fmt.Errorf("reading the profile: %w", err)
	}
	return Parse(nameOrPath, src)
}

// readFile reads at most one byte more than MaxFile, which is enough to see that it is too much.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a FIFO would block
		return nil, &os.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxFile+1))
}

// Parse reads the profile in src. name is what messages call the file. The error is of type Problems.
func Parse(name string, src []byte) (*Profile, error) {
	var problems Problems
	p := &Profile{File: name}
	if v, ok := Read(name, src, &problems); ok {
		p.read(v)
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// Override returns p with the overrides of a configuration file, a mapping such as
//
//	User: {unlisted: keep, attributes: [{path: userName, onViolation: alias}]}
//
// An attribute that p lists keeps what the override does not mention; others are added. Unlisted and Attributes
// are all that can be overridden, and what results must be free of contradictions like a profile. Mistakes are
// added to v's Problems. p itself stays as it is.
func (p *Profile) Override(v Value) *Profile {
	changed := *p
	changed.Resources = slices.Clone(p.Resources)
	for i := range changed.Resources {
		changed.Resources[i].Attributes = slices.Clone(p.Resources[i].Attributes)
	}
	known := Fields{}
	for i := range changed.Resources {
		r := &changed.Resources[i]
		known[r.Name] = func(v Value) { r.override(v, changed.Filter) }
	}
	v.Fields(known)
	return &changed
}

// Resource returns the resource type of that name, nil when the upstream does not have it.
func (p *Profile) Resource(name string) *Resource {
	for i := range p.Resources {
		if p.Resources[i].Name == name {
			return &p.Resources[i]
		}
	}
	return nil
}
