package simulator

import (
	"fmt"
	"slices"
	"strings"
)

// Choice is one way to behave out of several. "" is always the default.
type Choice string

// The choices. Which of them an assumption takes stands in [Assumed].
const (
	Refuse    Choice = "refuse"
	Ignore    Choice = "ignore"
	CutOff    Choice = "truncate"
	Accept    Choice = "accept"
	Empty     Choice = "empty"
	Removes   Choice = "removes"
	Disables  Choice = "disables"
	Keeps     Choice = "keeps"
	Hides     Choice = "hides"
	Unique    Choice = "unique"
	Shared    Choice = "shared"
	ByProfile Choice = "profile"
	On        Choice = "on"
	Off       Choice = "off"
	Decimal   Choice = "decimal"
	UUID      Choice = "uuid"
	Text      Choice = "text"
	Object    Choice = "object"
)

// Assumptions are the ways in which the simulated service provider behaves that no published source settles.
// The zero value is what follows RFC 7644 most closely; [Assumed] explains each and gives it a name for the
// command line.
type Assumptions struct {
	PatchNoContent        bool   // PATCH answers 204 without a body; else only one that changes nothing does
	NoPatch               bool   // PATCH is not implemented (501)
	NoPut                 bool   // PUT is not implemented (501)
	Delete                Choice // Removes (default), or Disables: DELETE sets active to false and keeps the record
	Disable               Choice // Keeps (default), Hides: an inactive user is not found by queries, Removes: it is gone
	DuplicateREST         bool   // a duplicate is 400 with the REST API's message; else 409 uniqueness
	Email                 Choice // ByProfile (default: unique unless the profile is complete), Unique, Shared
	CaseSensitiveUserName bool   // userName tells upper from lower case
	LowerCaseUserName     bool   // userName is stored in lower case
	ActiveOnCreate        bool   // a user is created active, whatever was sent
	ManagerForm           Choice // Text (default: the plain string) or Object ({"value": ..}): how attributes of form `value` are answered
	NoMeta                bool   // resources have no meta
	WholeSeconds          bool   // meta.created and meta.lastModified have no fraction of a second
	TooLong               Choice // Refuse (default: 400 invalidValue), CutOff, Accept: values beyond the profile's maxLength
	MissingElement        Choice // Accept (default: `add` at a value filter makes the element) or Refuse (400 noTarget)
	FilterUnsupported     Choice // Refuse (default: 400 invalidFilter), Ignore: everybody is listed, Empty: nobody is
	UnknownAttributes     Choice // Ignore (default) or Refuse (400 invalidValue): attributes the service provider lacks
	ETag                  Choice // ByProfile (default: as the profile says), On, Off
	IDs                   Choice // Decimal (default) or UUID
	RESTErrors            bool   // error bodies are {"code", "message"}; else SCIM errors
	PlainJSON             bool   // bodies are application/json; else application/scim+json
	NoDiscovery           bool   // the discovery endpoints are not there (404)
	BadTokenForbidden     bool   // a bad token is 403; else 401
}

// Source says where a behaviour is known from.
type Source string

// The sources.
const (
	Documented   Source = "documented" // read in a published source
	Undocumented Source = "assumed"    // found nowhere
)

// Assumption is one behaviour of the simulator that is worth knowing.
type Assumption struct {
	Name   string   // on the command line: --assume NAME=VALUE
	Values []string // the first is the default; none: not to be switched, the profile decides
	Source Source   // for the BlueJeans profile
	Doc    string   // one sentence, or two

	flag   func(*Assumptions) *bool   // Values[1] switches it on
	choice func(*Assumptions) *Choice // Values are Choices
}

// String is a line for --help: "patch-answers=200|204  (assumed) ...".
func (a Assumption) String() string {
	name := a.Name
	if len(a.Values) > 0 {
		name += "=" + strings.Join(a.Values, "|")
	}
	return fmt.Sprintf("%s  (%s) %s", name, a.Source, a.Doc)
}

func choices(list ...Choice) []string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = string(c)
	}
	return out
}

// Assumed tells every behaviour of the simulated service provider apart as documented or assumed, and how the
// assumed ones are switched. What is documented comes from the profile and cannot be switched.
var Assumed = []Assumption{
	{Name: "resources", Source: Documented, Doc: "Users only; there are no groups (404)."},
	{Name: "attributes", Source: Documented, Doc: "The attributes of the profile exist, and no others."},
	{Name: "filters", Source: Documented, Doc: "Only userName can be filtered on; that eq is the operator is assumed."},
	{Name: "user-name-length", Source: Documented, Doc: "A userName of 30 characters is taken, one of 31 is not; that characters are Unicode code points is assumed."},
	{Name: "recordings", Source: Documented, Doc: "De-provisioning a user with more than 250 recordings fails. Recordings are not simulated: inject a fault such as status=400,op=delete,user=NAME, whose status is assumed."},
	{
		Name: "too-long", Values: choices(Refuse, CutOff, Accept), Source: Undocumented,
		Doc:    "A value that is too long is refused with 400 invalidValue, cut off, or stored all the same.",
		choice: func(a *Assumptions) *Choice { return &a.TooLong },
	},
	{
		Name: "missing-element", Values: choices(Accept, Refuse), Source: Undocumented,
		Doc:    "A PATCH that adds to an element which is not there, such as emails[type eq \"work\"].value, makes the element, or is refused with 400 noTarget.",
		choice: func(a *Assumptions) *Choice { return &a.MissingElement },
	},
	{
		Name: "filter-unsupported", Values: choices(Refuse, Ignore, Empty), Source: Undocumented,
		Doc:    "A filter that is not supported is refused with 400 invalidFilter, ignored so that everybody is listed, or matches nobody.",
		choice: func(a *Assumptions) *Choice { return &a.FilterUnsupported },
	},
	{
		Name: "unknown-attributes", Values: choices(Ignore, Refuse), Source: Undocumented,
		Doc:    "Attributes that the service provider lacks are ignored, or refused with 400 invalidValue.",
		choice: func(a *Assumptions) *Choice { return &a.UnknownAttributes },
	},
	{
		Name: "duplicate", Values: []string{"409", "400"}, Source: Undocumented,
		Doc:  `A duplicate is 409 uniqueness, or 400 with the message "Email address is already taken", which is documented for the REST API.`,
		flag: func(a *Assumptions) *bool { return &a.DuplicateREST },
	},
	{
		Name: "email", Values: choices(ByProfile, Unique, Shared), Source: Undocumented,
		Doc:    "An e-mail address belongs to one user, or may be shared; by default it is unique unless the profile is complete.",
		choice: func(a *Assumptions) *Choice { return &a.Email },
	},
	{
		Name: "user-name-case", Values: []string{"insensitive", "sensitive"}, Source: Undocumented,
		Doc:  "Upper and lower case are the same in a userName (RFC 7643, Section 4.1.1), or not.",
		flag: func(a *Assumptions) *bool { return &a.CaseSensitiveUserName },
	},
	{
		Name: "user-name-stored", Values: []string{"as-sent", "lower-case"}, Source: Undocumented,
		Doc:  "A userName is stored as it was sent, or in lower case.",
		flag: func(a *Assumptions) *bool { return &a.LowerCaseUserName },
	},
	{
		Name: "active-on-create", Values: []string{"as-sent", "always"}, Source: Undocumented,
		Doc:  "A user can be created inactive, or is always created active.",
		flag: func(a *Assumptions) *bool { return &a.ActiveOnCreate },
	},
	{
		Name: "manager", Values: choices(Text, Object), Source: Undocumented,
		Doc:    `The manager is answered as a plain string, or as {"value": ..}; both are taken. That it is a string is documented.`,
		choice: func(a *Assumptions) *Choice { return &a.ManagerForm },
	},
	{
		Name: "patch", Values: []string{"yes", "no"}, Source: Undocumented,
		Doc: "PATCH is implemented, or 501.", flag: func(a *Assumptions) *bool { return &a.NoPatch },
	},
	{
		Name: "put", Values: []string{"yes", "no"}, Source: Undocumented,
		Doc: "PUT is implemented, or 501.", flag: func(a *Assumptions) *bool { return &a.NoPut },
	},
	{
		Name: "patch-answers", Values: []string{"200", "204"}, Source: Undocumented,
		Doc:  "PATCH answers 200 with the resource and, when it changed nothing, 204 without a body; or always 204.",
		flag: func(a *Assumptions) *bool { return &a.PatchNoContent },
	},
	{
		Name: "delete", Values: choices(Removes, Disables), Source: Undocumented,
		Doc:    "DELETE removes the user, or sets active to false and keeps the record; both answer 204.",
		choice: func(a *Assumptions) *Choice { return &a.Delete },
	},
	{
		Name: "disable", Values: choices(Keeps, Hides, Removes), Source: Undocumented,
		Doc:    "active=false keeps the record and it stays queryable, or it is no longer found by queries, or the user is removed.",
		choice: func(a *Assumptions) *Choice { return &a.Disable },
	},
	{
		Name: "ids", Values: choices(Decimal, UUID), Source: Undocumented,
		Doc:    "Ids are decimal strings, or UUIDs.",
		choice: func(a *Assumptions) *Choice { return &a.IDs },
	},
	{
		Name: "meta", Values: []string{"yes", "no"}, Source: Undocumented,
		Doc: "Resources have meta, or not.", flag: func(a *Assumptions) *bool { return &a.NoMeta },
	},
	{
		Name: "times", Values: []string{"fractions", "whole-seconds"}, Source: Undocumented,
		Doc:  "meta.created and meta.lastModified have a fraction of a second, or not.",
		flag: func(a *Assumptions) *bool { return &a.WholeSeconds },
	},
	{
		Name: "etag", Values: choices(ByProfile, On, Off), Source: Undocumented,
		Doc:    "Versions and If-Match are supported; by default as the profile says.",
		choice: func(a *Assumptions) *Choice { return &a.ETag },
	},
	{
		Name: "errors", Values: []string{"scim", "rest"}, Source: Undocumented,
		Doc:  `Error bodies are those of RFC 7644, or {"code", "message"} as documented for the REST API.`,
		flag: func(a *Assumptions) *bool { return &a.RESTErrors },
	},
	{
		Name: "media-type", Values: []string{"scim", "json"}, Source: Undocumented,
		Doc:  "Bodies are application/scim+json, or application/json.",
		flag: func(a *Assumptions) *bool { return &a.PlainJSON },
	},
	{
		Name: "discovery", Values: []string{"yes", "no"}, Source: Undocumented,
		Doc:  "The discovery endpoints are there, or 404.",
		flag: func(a *Assumptions) *bool { return &a.NoDiscovery },
	},
	{
		Name: "bad-token", Values: []string{"401", "403"}, Source: Undocumented,
		Doc:  "A bad token is 401, or 403.",
		flag: func(a *Assumptions) *bool { return &a.BadTokenForbidden },
	},
	{Name: "rate", Source: Undocumented, Doc: "There is no rate limit unless one is switched on; then 429 with Retry-After."},
	{Name: "unknown-id", Source: Undocumented, Doc: "An unknown id is 404, also to a second DELETE."},
	{Name: "paging", Source: Undocumented, Doc: "Lists are paged by startIndex and count, in the order of creation, at most a page of the profile at a time."},
}

// Set switches one assumption, as the command line has it: "patch-answers=204".
func (a *Assumptions) Set(text string) error {
	name, value, _ := strings.Cut(text, "=")
	at := slices.IndexFunc(Assumed, func(as Assumption) bool { return as.Name == name })
	if at < 0 || len(Assumed[at].Values) == 0 {
		var names []string
		for _, as := range Assumed {
			if len(as.Values) > 0 {
				names = append(names, as.Name)
			}
		}
		return fmt.Errorf("assume %q: want NAME=VALUE, where NAME is one of %s", text, strings.Join(names, ", "))
	}
	as := Assumed[at]
	which := slices.Index(as.Values, value)
	if which < 0 {
		return fmt.Errorf("assume %q: the value of %s must be one of %s", text, name, strings.Join(as.Values, ", "))
	}
	if as.flag != nil {
		*as.flag(a) = which == 1
		return nil
	}
	*as.choice(a) = Choice(value)
	if which == 0 {
		*as.choice(a) = ""
	}
	return nil
}

// check refuses choices that an assumption does not have, and makes the default "".
func (a *Assumptions) check() error {
	for _, as := range Assumed {
		if as.choice == nil {
			continue
		}
		c := as.choice(a)
		if *c == "" {
			continue
		}
		if err := a.Set(as.Name + "=" + string(*c)); err != nil {
			return err
		}
	}
	return nil
}
