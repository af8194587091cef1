// Package entra is a provisioning client that behaves like Microsoft Entra ID.
//
// It is a black box for any SCIM 2.0 service provider: it sends what Entra
// sends, byte for byte where that is known, reads the answers as strictly as
// Entra reads them, and reports what Entra's provisioning log would show and
// what would put the provisioning job in quarantine. It knows nothing of the
// gateway and imports nothing of it.
//
// A [Client] plays one provisioning job. It remembers the id which the service
// provider gave to each object and never asks for it again, as Entra does. A
// [Directory] plays the tenant: persons and groups, and what has changed since
// the client's watermark. A cycle is one call:
//
//	TestConnection  queries for users and groups that do not exist
//	Initial         every person: one match query, then POST or PATCH; then references
//	Incremental     changed persons: GET by id, then PATCH of the differences or DELETE
//	OnDemand        one person, always in the legacy dialect
//	Discover        pages through all users, as account discovery does
//
// Each returns a [Report]; its error is for the cycle that could not be run at
// all (the context ended, an object is not in the directory). Whatever the
// service provider does wrong is in the report.
//
// Two PATCH dialects are in use, and one tenant sends both: [Legacy] with
// Boolean values as strings and one operation per attribute, and [RFC], which
// the flag aadOptscim062020 on the Tenant URL asks for. Shapes that only some
// tenants send are switched on one by one with [Variants].
package entra

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// rfcFlag on the Tenant URL switches Entra to the RFC dialect.
const rfcFlag = "aadOptscim062020"

// Dialect is one of the two ways in which Entra writes PATCH.
type Dialect int

const (
	// Legacy is Entra's default: "Replace", Boolean values as the strings
	// "True" and "False", one operation per attribute.
	Legacy Dialect = iota
	// RFC is what the flag aadOptscim062020 asks for: "replace", JSON Boolean
	// values, one path-less operation whose keys are attribute paths.
	RFC
)

// ParseDialect reads "legacy" or "rfc".
func ParseDialect(s string) (Dialect, error) {
	switch strings.ToLower(s) {
	case "legacy":
		return Legacy, nil
	case "rfc", strings.ToLower(rfcFlag):
		return RFC, nil
	}
	return Legacy, fmt.Errorf("dialect %q is not known: use legacy or rfc", s)
}

// String returns "legacy" or "rfc".
func (d Dialect) String() string {
	if d == RFC {
		return "rfc"
	}
	return "legacy"
}

// MarshalText writes the dialect by its name.
func (d Dialect) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Config says which service provider to provision and how.
type Config struct {
	// URL is the Tenant URL, for example https://host/scim/v2. Flags in its
	// query ride on every request; the service provider ignores them. The
	// flag aadOptscim062020 selects the RFC dialect.
	URL string

	// Token is the Secret Token, sent as a bearer token. With an empty one no
	// Authorization header is sent.
	Token string

	// Dialect of PATCH. With RFC the flag aadOptscim062020 is added to the
	// Tenant URL when it is not there.
	Dialect Dialect

	// Match lists the matching attributes in the order in which they are
	// tried, one query each. Default: userName. Any mapped attribute serves;
	// tenants use userName, externalId and emails[type eq "work"].value.
	Match []string

	// Attributes lists the mapped attribute paths. Default:
	// [DefaultAttributes]. What is not mapped is never sent and never compared.
	Attributes []string

	// Variants switches on shapes that only some tenants send.
	Variants Variants

	// Workers is how many objects are in progress at a time. Default 8.
	Workers int

	// Rate paces the client, in requests per second over all workers; 0 means
	// unpaced, which is how Entra treats custom applications.
	Rate float64

	// HTTP is the client to use; its redirect policy is replaced, for Entra
	// does not follow a redirect with the Secret Token. Its transport should
	// have DisableCompression, or requests carry an Accept-Encoding header
	// which Entra's do not. Default: no proxy, no compression, TLS 1.2 and
	// above, 60 s for one exchange.
	HTTP *http.Client

	// Observe sees every exchange as it ends, one call at a time. The Secret
	// Token is in none of them.
	Observe func(Exchange)

	// Retries is how often a cycle tries again, at its end, the objects that
	// failed. Before each round it waits as long as the last Retry-After asks,
	// at most a minute. Default 0, as Entra: the next cycle.
	Retries int

	// DeletionThreshold is Entra's guard against accidental deletion: a cycle
	// that would disable or delete more users than this holds all of them back
	// and quarantines the job. 0 means off.
	DeletionThreshold int
}

// Variants are shapes which some tenants send and others do not.
type Variants struct {
	// NullAttributes sends mapped attributes that have no value as null in
	// the create.
	NullAttributes bool
	// FlatEnterprise puts the enterprise attributes beside the core ones in
	// the create, not under the extension's URN.
	FlatEnterprise bool
	// ExtensionUnlisted leaves the extension's URN out of "schemas" although
	// its attributes are there.
	ExtensionUnlisted bool
	// RolesPrimaryString sends one role whose "primary" is the string "True".
	RolesPrimaryString bool
	// ValuePathsAfterCreate leaves the multi-valued attributes out of the
	// create and adds them by PATCH: Add emails[type eq "work"].value on a
	// resource without such an element.
	ValuePathsAfterCreate bool
	// ManagerInCreate sends the manager in the create, as a bare string, when
	// the manager is already provisioned.
	ManagerInCreate bool
	// ManagerArray sends the manager as [{"$ref":"..","value":"271"}] instead
	// of "271".
	ManagerArray bool
	// ManagerShortPath sends PATCH with the path "manager" instead of the one
	// with the extension's URN.
	ManagerShortPath bool
	// ManagerUnset is what a cleared manager becomes.
	ManagerUnset ManagerUnset
	// ReferenceChecks asks with a query whether a reference is already there
	// (id eq ".." and manager eq "..", or members) before it is sent.
	ReferenceChecks bool
	// GroupADSCIM adds the Active Directory URN of 2006 to "schemas" when a
	// group is created.
	GroupADSCIM bool
	// DoubleSlash sends paths as a Tenant URL with a trailing slash gives
	// them: //Users.
	DoubleSlash bool
	// LowerCasePaths sends /users and /groups.
	LowerCasePaths bool
}

// ManagerUnset is what is sent when a person no longer has a manager.
type ManagerUnset int

const (
	// UnsetNever sends nothing: a cleared attribute is never sent.
	UnsetNever ManagerUnset = iota
	// UnsetString sends the value "".
	UnsetString
	// UnsetObject sends the value {"value":""}.
	UnsetObject
)

// Client is one provisioning job. It is safe for concurrent use; cycles of one
// client run one after the other.
type Client struct {
	cfg     Config
	base    string // scheme, host and path, without a slash at the end
	flags   string // the Tenant URL's query as it was written
	mapping []attribute
	manager bool // the manager is mapped
	match   []attribute
	http    *http.Client
	pacer   pacer

	observing sync.Mutex // serialises Config.Observe
	cycling   sync.Mutex // held during a cycle

	mu        sync.Mutex // guards what follows
	links     map[string]*link
	escrow    map[string]bool // objects to try again in the next cycle
	watermark uint64          // of the directory: changes up to it are done
	allowed   bool            // the next cycle may pass the deletion threshold
}

// link ties an object to the resource at the service provider. It is kept for
// ever, also while the user is disabled. Its maps belong to the worker that has
// the object in hand; id never changes.
type link struct {
	id       string
	sent     map[string]string // attribute path -> value which the service provider took
	members  map[string]string // groups: object id -> id of the member, as sent
	disabled bool              // active=false is what the service provider has
}

// New returns a client without links, which has provisioned nothing yet.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errors.New("tenant URL cannot be parsed: write it as https://host/scim/v2")
	}
	if (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return nil, fmt.Errorf("tenant URL %q needs a scheme and a host: write it as https://host/scim/v2", u.Redacted())
	}
	if u.User != nil || u.Fragment != "" {
		return nil, errors.New("tenant URL may carry neither credentials nor a fragment: give the secret token apart")
	}
	c := &Client{cfg: cfg, links: map[string]*link{}, escrow: map[string]bool{}}
	c.base = u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/")
	c.flags = u.RawQuery
	flagged := u.Query().Has(rfcFlag)
	switch {
	case flagged:
		c.cfg.Dialect = RFC
	case cfg.Dialect == RFC:
		c.flags = joinQuery(c.flags, rfcFlag)
	}
	if c.cfg.Workers <= 0 {
		c.cfg.Workers = 8
	}
	if cfg.Rate > 0 {
		c.pacer.interval = time.Duration(float64(time.Second) / cfg.Rate)
	}
	if err := c.setMapping(); err != nil {
		return nil, err
	}
	c.http = httpClient(cfg.HTTP, c.cfg.Workers)
	return c, nil
}

// setMapping compiles the attribute paths of the configuration.
func (c *Client) setMapping() error {
	paths := c.cfg.Attributes
	if paths == nil {
		paths = DefaultAttributes()
	}
	table := userAttributes()
	for _, a := range table {
		if slices.ContainsFunc(paths, func(p string) bool { return strings.EqualFold(p, a.path) }) {
			c.mapping = append(c.mapping, a)
		}
	}
	for _, p := range paths {
		if strings.EqualFold(p, managerPath) {
			c.manager = true
		} else if !slices.ContainsFunc(table, func(a attribute) bool { return strings.EqualFold(p, a.path) }) {
			return fmt.Errorf("attribute %q cannot be mapped: use the paths of DefaultAttributes", p)
		}
	}
	match := c.cfg.Match
	if len(match) == 0 {
		match = []string{"userName"}
	}
	for _, p := range match {
		i := slices.IndexFunc(table, func(a attribute) bool { return strings.EqualFold(p, a.path) })
		if i < 0 || table[i].boolean {
			return fmt.Errorf("attribute %q cannot be matched on: use userName, externalId or emails[type eq \"work\"].value", p)
		}
		c.match = append(c.match, table[i])
	}
	return nil
}

// httpClient makes the client follow no redirect: a service provider that
// moved would be handed the Secret Token by whoever redirects.
func httpClient(given *http.Client, workers int) *http.Client {
	hc := &http.Client{Timeout: 60 * time.Second}
	if given != nil {
		*hc = *given
	} else {
		hc.Transport = &http.Transport{
			Proxy:                 nil,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 60 * time.Second,
			IdleConnTimeout:       30 * time.Second,
			MaxIdleConnsPerHost:   workers,
			DisableCompression:    true,
			ForceAttemptHTTP2:     true,
		}
	}
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return hc
}

// Link returns the id at the service provider which the client has cached for
// an object.
func (c *Client) Link(objectID string) (id string, ok bool) {
	if l := c.linked(objectID); l != nil {
		return l.id, true
	}
	return "", false
}

// Escrowed returns the object ids which the next cycle will try again, sorted.
func (c *Client) Escrowed() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := make([]string, 0, len(c.escrow))
	for id := range c.escrow {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// AllowDeletions lets the next cycle send what Config.DeletionThreshold held
// back, as the administrator's button does.
func (c *Client) AllowDeletions() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allowed = true
}

func (c *Client) deletionsAllowed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	allowed := c.allowed
	c.allowed = false
	return allowed
}

// CloseIdleConnections closes the connections that no exchange uses.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

func (c *Client) linked(objectID string) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.links[objectID]
}

func (c *Client) setLink(objectID, id string) *link {
	l := &link{id: id, sent: map[string]string{}, members: map[string]string{}}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.links[objectID] = l
	return l
}

func (c *Client) dropLink(objectID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.links, objectID)
}

// pacer spaces requests evenly; it saves up no permits while nothing is sent.
type pacer struct {
	interval time.Duration
	mu       sync.Mutex
	next     time.Time
}

// wait returns when the caller may send, or when ctx ends.
func (p *pacer) wait(ctx context.Context) error {
	if p.interval <= 0 {
		return ctx.Err()
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	delay := p.next.Sub(now)
	p.next = p.next.Add(p.interval)
	p.mu.Unlock()
	return pause(ctx, delay)
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func joinQuery(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "&" + b
}
